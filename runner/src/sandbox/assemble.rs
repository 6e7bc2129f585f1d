//! A root for volumes whose place the image does not have.
//!
//! The tree of an image is shared and never written to, so a missing mount point cannot be made in it. Instead the folders on the way to it become folders of
//! a tmpfs, and what lies beside the way is shown in them, entry by entry. This looks into the tree without following a link of it: every component is
//! looked at by itself, and links are resolved here, inside.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::{RootSource, Volume};

/// Links followed on one way, as many as the kernel follows.
const MOST_LINKS: usize = 40;

/// A root put together in a tmpfs. All paths but sources are inside.
#[derive(Debug, Clone, Default)]
pub struct Assembly {
    /// Folders to make; those above them are made as well.
    pub(super) folders: Vec<PathBuf>,
    /// Symbolic links, as (path, target).
    pub(super) links: Vec<(PathBuf, PathBuf)>,
    /// Files with their contents and mode bits.
    pub(super) files: Vec<(PathBuf, Vec<u8>, u32)>,
    /// What of the host is shown read-only, as (source, path): the path is among the folders or files.
    pub(super) binds: Vec<(PathBuf, PathBuf)>,
    /// Whether these belong to the function. The machine's own files do not: what only root may read stays so.
    pub(super) is_its_own: bool,
}

/// The root of an image: as it is when it has a place for every volume, else assembled.
pub fn image_root(rootfs: &Path, volumes: &[Volume]) -> io::Result<RootSource> {
    let mut missing = Vec::new();
    for volume in volumes {
        let beneath_another = volumes.iter().any(|other| other.target != volume.target && volume.target.starts_with(&other.target));
        if beneath_another {
            // Its place is the other volume's matter.
            continue;
        }
        if let Some(place) = missing_place(rootfs, &volume.target)? {
            missing.push((place, volume.source.is_dir()));
        }
    }
    if missing.is_empty() {
        return Ok(RootSource::Image { path: rootfs.to_owned() });
    }
    Ok(RootSource::Assembled(assemble(rootfs, &missing)?))
}

/// A place that a tree does not have.
struct Missing {
    /// The folder that is there, as a path inside without links.
    folder: PathBuf,
    /// What is missing below it.
    rest: PathBuf,
}

/// Walks to `target`, links resolved inside. `None`: it is there.
fn missing_place(rootfs: &Path, target: &Path) -> io::Result<Option<Missing>> {
    let mut folder = PathBuf::from("/");
    let mut left: Vec<OsString> = names(target);
    let mut links = 0;
    while let Some(name) = left.pop() {
        if name == ".." {
            folder.pop();
            continue;
        }
        let place = folder.join(&name);
        match fs::symlink_metadata(on_host(rootfs, &place)) {
            Ok(found) if found.is_symlink() => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(io::Error::from_raw_os_error(libc::ELOOP));
                }
                let to = fs::read_link(on_host(rootfs, &place))?;
                if to.is_absolute() {
                    folder = PathBuf::from("/");
                }
                left.extend(names(&to));
            }
            Ok(_) => folder = place,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let rest = left.iter().rev().filter(|part| *part != "..").fold(PathBuf::from(&name), |rest, part| rest.join(part));
                return Ok(Some(Missing { folder, rest }));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The names on a path, the first one last.
fn names(path: &Path) -> Vec<OsString> {
    let name = |part| match part {
        Component::Normal(name) => Some(OsStr::to_owned(name)),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(name).collect()
}

fn on_host(rootfs: &Path, inside: &Path) -> PathBuf {
    rootfs.join(inside.strip_prefix("/").unwrap_or(inside))
}

fn assemble(rootfs: &Path, missing: &[(Missing, bool)]) -> io::Result<Assembly> {
    let mut assembly = Assembly { is_its_own: true, ..Assembly::default() };
    let open: BTreeSet<PathBuf> = missing.iter().flat_map(|(missing, _)| missing.folder.ancestors().map(Path::to_owned)).collect();
    for folder in &open {
        for entry in fs::read_dir(on_host(rootfs, folder))? {
            let entry = entry?;
            let inside = folder.join(entry.file_name());
            let kind = entry.file_type()?;
            if open.contains(&inside) {
                continue;
            }
            if kind.is_symlink() {
                assembly.links.push((inside, fs::read_link(entry.path())?));
                continue;
            }
            if kind.is_dir() {
                assembly.folders.push(inside.clone());
            } else {
                assembly.files.push((inside.clone(), Vec::new(), 0o444));
            }
            assembly.binds.push((entry.path(), inside));
        }
        assembly.folders.push(folder.clone());
    }
    for (missing, is_folder) in missing {
        let place = missing.folder.join(&missing.rest);
        if *is_folder {
            assembly.folders.push(place);
        } else {
            assembly.files.push((place, Vec::new(), 0o444));
        }
    }
    Ok(assembly)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::sandbox::Access;

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        for folder in ["usr/bin", "var/task", "opt"] {
            fs::create_dir_all(tree.path().join(folder)).unwrap();
        }
        fs::write(tree.path().join("usr/bin/sh"), "").unwrap();
        symlink("usr/bin", tree.path().join("bin")).unwrap();
        symlink("/../../var", tree.path().join("up")).unwrap();
        symlink("loop", tree.path().join("loop")).unwrap();
        tree
    }

    fn root(targets: &[&str]) -> io::Result<RootSource> {
        let tree = tree();
        let volume = |target: &&str| Volume { source: "/".into(), target: target.into(), access: Access::ReadOnly };
        image_root(tree.path(), &targets.iter().map(volume).collect::<Vec<_>>())
    }

    #[test]
    fn a_tree_with_all_places_stays_whole() {
        for targets in [&["/var/task", "/opt"][..], &["/bin"], &["/up/task"], &["/var/task", "/var/task/node_modules"], &[]] {
            assert!(matches!(root(targets).unwrap(), RootSource::Image { .. }), "{targets:?}");
        }
    }

    #[test]
    fn missing_places_are_made_beside_what_is_there() {
        let RootSource::Assembled(assembly) = root(&["/app/src", "/bin/tools", "/var/task"]).unwrap() else { panic!("not assembled") };
        for made in ["/", "/usr", "/usr/bin", "/app/src", "/usr/bin/tools", "/var", "/opt"] {
            assert!(assembly.folders.contains(&made.into()), "{made}: {:?}", assembly.folders);
        }
        let mut shown: Vec<_> = assembly.binds.iter().map(|(_, path)| path.to_str().unwrap()).collect();
        shown.sort_unstable();
        assert_eq!(shown, ["/opt", "/usr/bin/sh", "/var"]);
        assert!(assembly.links.contains(&("/bin".into(), "usr/bin".into())));
    }

    #[test]
    fn a_loop_of_links_is_an_error() {
        assert_eq!(root(&["/loop/x"]).unwrap_err().raw_os_error(), Some(libc::ELOOP));
    }
}
