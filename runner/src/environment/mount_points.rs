//! Places for volumes where an image has none.
//!
//! An unpacked image is shared and never written to. So its root is taken apart: what lies beside the way to the new place is shown as before, entry by
//! entry, and the folders of the way are made anew. No link of the image is followed on the host.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::sandbox::links::{self, Place, on_host};
use crate::sandbox::{Access, HostRoot, RootSource, Volume};

/// Each part is a mount: more of them cost more than they are worth.
const MOST_PARTS: usize = 256;

/// What the sandbox makes of any assembled root by itself, so that the image's own is not shown there.
const OWN: [&str; 3] = ["/proc", "/tmp", "/dev"];

/// Why there is no place.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// A folder on the way holds too much.
    #[error("no volume can be shown below `{}`: it holds more than {MOST_PARTS} entries", folder.display())]
    TooMany {
        /// The folder inside.
        folder: PathBuf,
    },
    /// The image cannot be looked into.
    #[error("cannot find a place for a volume at `{}`", path.display())]
    Read {
        /// The path inside.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl PlaceError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::TooMany { .. } => Some("new folders directly below `/` always work".to_owned()),
            Self::Read { .. } => None,
        }
    }
}

/// The root of an image with a place for every volume, and the volumes that make it complete. A place in another volume is that volume's matter.
pub fn root(rootfs: &Path, volumes: &[Volume]) -> Result<(RootSource, Vec<Volume>), PlaceError> {
    let mut missing = Vec::new();
    for volume in volumes {
        let in_another = volumes.iter().any(|other| other.target != volume.target && volume.target.starts_with(&other.target));
        let failed = |source| PlaceError::Read { path: volume.target.clone(), source };
        if in_another || volume.target.starts_with("/tmp") && volume.target != Path::new("/tmp") {
            // The sandbox makes it in a `/tmp` of its own.
            continue;
        }
        let Place { there: folder, missing: rest } = links::resolve(rootfs, &volume.target).map_err(failed)?;
        missing.extend(rest.map(|rest| (Missing { folder, rest }, volume.source.is_dir())));
    }
    if missing.is_empty() {
        return Ok((RootSource::Image { path: rootfs.to_owned() }, Vec::new()));
    }
    let (root, parts) = assemble(rootfs, &missing)?;
    Ok((RootSource::Host(root), parts))
}

/// A place that an image does not have.
struct Missing {
    /// The folder that is there, as a path inside without links.
    folder: PathBuf,
    /// What is missing below it.
    rest: PathBuf,
}

/// What is made anew, and the parts of the image shown in it.
fn assemble(rootfs: &Path, missing: &[(Missing, bool)]) -> Result<(HostRoot, Vec<Volume>), PlaceError> {
    let (mut root, mut parts) = (HostRoot::default(), Vec::new());
    let way: BTreeSet<&Path> = missing.iter().flat_map(|(missing, _)| missing.folder.ancestors()).collect();
    for folder in &way {
        let failed = |source| PlaceError::Read { path: (*folder).to_owned(), source };
        for entry in fs::read_dir(on_host(rootfs, folder)).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let (inside, kind) = (folder.join(entry.file_name()), entry.file_type().map_err(failed)?);
            if way.contains(inside.as_path()) || OWN.iter().any(|own| inside == Path::new(own)) {
                continue;
            }
            if kind.is_symlink() {
                root.symlinks.push((inside, fs::read_link(entry.path()).map_err(failed)?));
            } else if kind.is_dir() || kind.is_file() {
                make(&mut root, &inside, kind.is_dir());
                parts.push(Volume { source: entry.path(), target: inside, access: Access::ReadOnly });
            }
        }
        if parts.len() > MOST_PARTS {
            return Err(PlaceError::TooMany { folder: (*folder).to_owned() });
        }
        root.places.push((*folder).to_owned());
    }
    for (missing, is_folder) in missing {
        make(&mut root, &missing.folder.join(&missing.rest), *is_folder);
    }
    Ok((root, parts))
}

fn make(root: &mut HostRoot, path: &Path, is_folder: bool) {
    if is_folder {
        root.places.push(path.to_owned());
    } else {
        root.files.push((path.to_owned(), Vec::new(), 0o444));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        for folder in ["usr/bin", "usr/lib", "var/task", "opt", "proc", "dev", "tmp"] {
            fs::create_dir_all(tree.path().join(folder)).unwrap();
        }
        fs::write(tree.path().join("usr/bin/sh"), "").unwrap();
        symlink("usr/bin", tree.path().join("bin")).unwrap();
        symlink("/../../var", tree.path().join("up")).unwrap();
        symlink("loop", tree.path().join("loop")).unwrap();
        tree
    }

    fn volumes(targets: &[&str]) -> Vec<Volume> {
        targets.iter().map(|target| Volume { source: "/".into(), target: target.into(), access: Access::ReadOnly }).collect()
    }

    fn sorted(paths: impl IntoIterator<Item = PathBuf>) -> Vec<String> {
        let mut paths: Vec<_> = paths.into_iter().map(|path| path.display().to_string()).collect();
        paths.sort();
        paths
    }

    #[test]
    fn an_image_with_all_places_stays_whole() {
        let tree = tree();
        for targets in [&["/var/task", "/opt"][..], &["/bin"], &["/up/task"], &["/var/task", "/var/task/node_modules"], &[]] {
            let (root, parts) = root(tree.path(), &volumes(targets)).unwrap();
            assert!(matches!(root, RootSource::Image { .. }) && parts.is_empty(), "{targets:?}");
        }
    }

    #[test]
    fn only_the_way_is_taken_apart() {
        let tree = tree();
        let file = Volume { source: tree.path().join("usr/bin/sh"), target: "/up/file".into(), access: Access::ReadOnly };
        let all = [volumes(&["/app/src", "/bin/tools", "/var/task"]), vec![file]].concat();
        let (RootSource::Host(root), parts) = root(tree.path(), &all).unwrap() else { panic!("not assembled") };
        assert_eq!(sorted(root.places), ["/", "/app/src", "/opt", "/usr", "/usr/bin", "/usr/bin/tools", "/usr/lib", "/var", "/var/task"]);
        assert_eq!(sorted(root.files.into_iter().map(|(path, _, _)| path)), ["/usr/bin/sh", "/var/file"]);
        assert!(root.symlinks.contains(&("/bin".into(), "usr/bin".into())));
        assert_eq!(sorted(parts.iter().map(|part| part.target.clone())), ["/opt", "/usr/bin/sh", "/usr/lib", "/var/task"]);
        assert!(parts.iter().all(|part| part.source == on_host(tree.path(), &part.target) && part.access == Access::ReadOnly));
    }

    #[test]
    fn no_place() {
        let tree = tree();
        let errno = |target| match root(tree.path(), &volumes(&[target])) {
            Err(PlaceError::Read { source, .. }) => source.raw_os_error(),
            other => panic!("{other:?}"),
        };
        assert_eq!(errno("/loop/x"), Some(libc::ELOOP));
        assert_eq!(errno("/usr/bin/sh/x"), Some(libc::ENOTDIR));
        for index in 0..=MOST_PARTS {
            fs::write(tree.path().join(format!("usr/bin/{index}")), "").unwrap();
        }
        assert!(matches!(root(tree.path(), &volumes(&["/usr/bin/x/y"])), Err(PlaceError::TooMany { .. })));
    }
}
