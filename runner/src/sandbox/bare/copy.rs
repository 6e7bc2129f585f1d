//! A private copy of a root: files are hard links where that is safe, else copies, whose blocks are shared where the file system can.
//!
//! Who runs in it is nobody's user and group, so that the rights of others are the function's. A file that others may write to, or that others may not
//! read though its owner may, is copied and given the rights that the function needs. Links of the image are never followed on the host.

use std::fs::{self, File, FileTimes, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::BareError;
use crate::sandbox::links;
use crate::sandbox::plan::{DEVICE_LINKS, DEVICES};
use crate::sandbox::{Degradation, MadeFile, RootSource, Volume, WritableSource};

/// What is made anew in every root, so that nothing of the image's own is copied there.
const OWN: [&str; 3] = ["proc", "tmp", "dev"];

/// Makes the root in a folder that does not exist yet. Answers what it lacks.
pub(super) fn root(source: &RootSource, volumes: &[Volume], files: &[MadeFile], root: &Path) -> Result<Vec<Degradation>, BareError> {
    match source {
        RootSource::Image { path } | RootSource::Writable(WritableSource::Tree { path } | WritableSource::Overlay { lower: path, .. }) => {
            tree(path, root, &OWN).map_err(at("/"))?;
        }
        RootSource::Host(host) => {
            fs::create_dir(root).map_err(at("/"))?;
            for place in &host.places {
                fs::create_dir_all(links::on_host(root, place)).map_err(at(place))?;
            }
            for (path, contents, mode) in &host.files {
                write(&links::on_host(root, path), contents, *mode).map_err(at(path))?;
            }
            for (path, target) in &host.symlinks {
                symlink(target, links::on_host(root, path)).map_err(at(path))?;
            }
        }
    }
    set_mode(root, 0o755).map_err(at("/"))?;
    for (name, mode) in [("proc", 0o555), ("tmp", 0o1777), ("dev", 0o755)] {
        fs::create_dir_all(root.join(name)).and_then(|()| set_mode(&root.join(name), mode)).map_err(at(name))?;
    }
    let mut sorted: Vec<_> = volumes.iter().collect();
    sorted.sort_by_key(|volume| volume.target.components().count());
    for volume in sorted {
        show(root, volume).map_err(at(&volume.target))?;
    }
    for MadeFile { path, contents, mode } in files {
        let place = place(root, path).map_err(at(path))?;
        // What is there may be the image's own, by a hard link.
        let _ = fs::remove_file(&place);
        write(&place, contents, *mode).map_err(at(path))?;
    }
    for (name, target) in DEVICE_LINKS {
        symlink(target, root.join("dev").join(name)).map_err(at(name))?;
    }
    Ok(devices(&root.join("dev")))
}

fn at<P: AsRef<Path>>(path: P) -> impl FnOnce(io::Error) -> BareError {
    let path = path.as_ref().to_owned();
    move |source| BareError::Copy { path, source }
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, PermissionsExt::from_mode(mode))
}

fn write(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::write(path, contents)?;
    set_mode(path, mode)
}

/// A volume in its place, in place of what the image has there.
fn show(root: &Path, volume: &Volume) -> io::Result<()> {
    let place = place(root, &volume.target)?;
    let metadata = fs::metadata(&volume.source)?;
    match place.symlink_metadata() {
        Ok(there) if there.is_dir() && metadata.is_dir() => fs::remove_dir_all(&place)?,
        Ok(there) if !there.is_dir() && !metadata.is_dir() => fs::remove_file(&place)?,
        Ok(_) => return Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
        Err(_) => place.parent().map_or(Ok(()), fs::create_dir_all)?,
    }
    if metadata.is_dir() { tree(&volume.source, &place, &[]) } else { file(&volume.source, &place, &metadata) }
}

/// Where a path inside leads, links resolved as inside.
fn place(root: &Path, target: &Path) -> io::Result<PathBuf> {
    Ok(links::on_host(root, &links::resolve(root, target)?.path()))
}

/// Copies a folder to a path where nothing is, but for some names in it.
fn tree(from: &Path, to: &Path, without: &[&str]) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if without.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let metadata = entry.metadata()?;
        if metadata.is_dir() { tree(&source, &target, &[])? } else { file(&source, &target, &metadata)? }
    }
    set_mode(to, for_others(fs::metadata(from)?.mode()))
}

/// The rights of the owner, but for writing, as everybody's.
fn for_others(mode: u32) -> u32 {
    let owner = mode >> 6 & 0o5;
    mode & 0o700 | owner << 3 | owner
}

/// Sockets, pipes and devices have no place in a root. Times are kept: Python looks at them to know whether its compiled files are good.
fn file(from: &Path, to: &Path, metadata: &Metadata) -> io::Result<()> {
    if metadata.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    if !metadata.is_file() {
        return Ok(());
    }
    let mode = metadata.mode();
    let is_safe = mode & 0o2 == 0 && mode & for_others(mode) & 0o5 == for_others(mode) & 0o5;
    // Another file system, or one file with too many links.
    if is_safe && fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to)?;
    File::open(to)?.set_times(FileTimes::new().set_modified(metadata.modified()?))?;
    set_mode(to, for_others(mode))
}

/// Makes the devices. A container may forbid it, or the file system may let none work.
fn devices(folder: &Path) -> Vec<Degradation> {
    const NUMBERS: [(u64, u64); 6] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0)];
    let make = |name: &str, (major, minor)| {
        let path = folder.join(name);
        mknod(&path, SFlag::S_IFCHR, Mode::empty(), makedev(major, minor))?;
        set_mode(&path, 0o666)?;
        // A terminal of its own is what no session here has.
        if name == "tty" { Ok(()) } else { File::open(&path).map(drop) }
    };
    let made = DEVICES.iter().zip(NUMBERS).filter_map(|(name, numbers)| {
        let error: io::Error = make(name, numbers).err()?;
        Some(Degradation::new(format!("make /dev/{name}"), &error))
    });
    made.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::{Access, HostRoot};

    #[test]
    fn rights_of_others_are_the_owners_without_writing() {
        for (mode, expected) in [(0o644, 0o644), (0o600, 0o644), (0o700, 0o755), (0o777, 0o755), (0o4755, 0o755), (0o444, 0o444)] {
            assert_eq!(for_others(mode), expected, "{mode:o}");
        }
    }

    #[test]
    fn files_are_shared_only_where_that_is_safe() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        fs::create_dir_all(image.join("tmp/old")).unwrap();
        fs::create_dir_all(image.join("var/task/old")).unwrap();
        fs::create_dir_all(folder.path().join("task")).unwrap();
        for (name, mode) in [("shared", 0o644), ("open", 0o666), ("closed", 0o600), ("program", 0o755)] {
            write(&image.join(name), b"x", mode).unwrap();
        }
        write(&folder.path().join("task/index.js"), b"y", 0o640).unwrap();
        symlink("/etc/passwd", image.join("link")).unwrap();
        let volume = Volume { source: folder.path().join("task"), target: "/var/task".into(), access: Access::ReadOnly };
        let made = folder.path().join("root");
        root(&RootSource::Image { path: image.clone() }, &[volume], &[], &made).unwrap();
        let inode = |path: PathBuf| fs::symlink_metadata(path).unwrap().ino();
        let is_shared = |name: &str| inode(image.join(name)) == inode(made.join(name));
        assert_eq!(["shared", "open", "closed", "program"].map(is_shared), [true, false, false, true]);
        let mode = |name: &str| fs::metadata(made.join(name)).unwrap().mode() & 0o7777;
        assert_eq!((mode("open"), mode("closed"), mode("tmp"), mode("var/task/index.js")), (0o644, 0o644, 0o1777, 0o644));
        assert!(!made.join("tmp/old").exists() && !made.join("var/task/old").exists());
        assert_eq!(fs::read_link(made.join("link")).unwrap(), Path::new("/etc/passwd"));
    }

    #[test]
    fn an_image_taken_apart_is_put_together() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("usr/bin")).unwrap();
        let host = HostRoot {
            places: vec!["/".into(), "/app/src".into(), "/usr".into()],
            symlinks: vec![("/bin".into(), "usr/bin".into())],
            files: vec![("/etc/x".into(), b"x".to_vec(), 0o444)],
            ..HostRoot::default()
        };
        let part = Volume { source: folder.path().join("usr"), target: "/usr".into(), access: Access::ReadOnly };
        let made = folder.path().join("root");
        root(&RootSource::Host(host), &[part], &[], &made).unwrap();
        assert!(made.join("bin").is_dir() && made.join("app/src").is_dir() && made.join("etc/x").is_file());
    }
}
