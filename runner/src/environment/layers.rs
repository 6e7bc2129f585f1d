//! Several layer folders made into one for `/opt`, as Lambda does: in order, a later one's file in place of an earlier one's.
//!
//! Files are copied with `copy_file_range`, which shares their blocks where the file system can. The target is a folder nobody else can reach; a layer may
//! be changed by others while it is copied, so that it is walked through folder handles and no link of it is ever followed.

use std::ffi::{CStr, OsStr};
use std::fs::{File, FileTimes, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, readlinkat, statat};

/// Why layers could not be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// A file operation failed.
    #[error("cannot merge `{}` into /opt", path.display())]
    Copy {
        /// What was to be copied.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A layer lies so that a file would be copied into itself for ever.
    #[error("the layer `{}` holds the folder it is merged into", path.display())]
    Loop {
        /// The layer.
        path: PathBuf,
    },
    /// The run was ended before all was copied.
    #[error("merging the layers was interrupted")]
    Interrupted,
}

/// Copies `layers` in their order into the empty folder `target`; stops soon after `stop` is set.
pub fn merge(layers: &[PathBuf], target: &Path, stop: &AtomicBool) -> Result<(), MergeError> {
    for layer in layers {
        if target.starts_with(layer) {
            return Err(MergeError::Loop { path: layer.clone() });
        }
        let folder = File::open(layer).map_err(|source| MergeError::Copy { path: layer.clone(), source })?;
        copy_folder((folder.as_fd(), layer), target, stop)?;
    }
    Ok(())
}

/// Copies what is in a folder; its path is for messages alone.
fn copy_folder((folder, path): (BorrowedFd<'_>, &Path), to: &Path, stop: &AtomicBool) -> Result<(), MergeError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| MergeError::Copy { path, source }
    };
    for entry in Dir::read_from(folder).map_err(|error| at(path)(error.into()))? {
        if stop.load(Ordering::Relaxed) {
            return Err(MergeError::Interrupted);
        }
        let entry = entry.map_err(|error| at(path)(error.into()))?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let (source, target) = (path.join(OsStr::from_bytes(name.to_bytes())), to.join(OsStr::from_bytes(name.to_bytes())));
        match kind(folder, name).map_err(at(&source))? {
            FileType::Directory => {
                let inner = open(folder, name, OFlags::DIRECTORY).map_err(at(&source))?;
                make_folder(&target).map_err(at(&source))?;
                copy_folder((inner.as_fd(), &source), &target, stop)?;
                // Last: a folder may be closed to writing.
                let permissions = inner.metadata().map_err(at(&source))?.permissions();
                std::fs::set_permissions(&target, permissions).map_err(at(&source))?;
            }
            kind => clear(&target).and_then(|()| copy_entry(folder, name, kind, &target)).map_err(at(&source))?,
        }
    }
    Ok(())
}

fn kind(folder: BorrowedFd<'_>, name: &CStr) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode))
}

/// Opens what was there a moment ago; a link in its place is an error, and a pipe does not hold us up.
fn open(folder: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(openat(folder, name, flags, Mode::empty())?.into())
}

/// An earlier layer's folder is gone into, anything else of it gives way.
fn make_folder(target: &Path) -> io::Result<()> {
    match target.symlink_metadata() {
        Ok(there) if there.is_dir() => return std::fs::set_permissions(target, PermissionsExt::from_mode(0o700)),
        Ok(_) => std::fs::remove_file(target)?,
        Err(_) => {}
    }
    std::fs::create_dir(target)
}

fn clear(target: &Path) -> io::Result<()> {
    match target.symlink_metadata() {
        Ok(there) if there.is_dir() => std::fs::remove_dir_all(target),
        Ok(_) => std::fs::remove_file(target),
        Err(_) => Ok(()),
    }
}

/// Sockets, pipes and devices are no content of a layer. Times are kept: Python looks at them to know whether its compiled files are good.
fn copy_entry(folder: BorrowedFd<'_>, name: &CStr, kind: FileType, target: &Path) -> io::Result<()> {
    if kind == FileType::Symlink {
        let link = readlinkat(folder, name, Vec::new())?;
        return std::os::unix::fs::symlink(OsStr::from_bytes(link.to_bytes()), target);
    }
    if kind != FileType::RegularFile {
        return Ok(());
    }
    let mut source = open(folder, name, OFlags::empty())?;
    let metadata = source.metadata()?;
    if !metadata.is_file() {
        return Ok(());
    }
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
    io::copy(&mut source, &mut copy)?;
    copy.set_permissions(metadata.permissions())?;
    copy.set_times(FileTimes::new().set_modified(metadata.modified()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::{Duration, SystemTime};

    use super::*;

    fn layer(entries: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, contents) in entries {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match contents.strip_prefix("-> ") {
                Some(target) => symlink(target, path).unwrap(),
                None => std::fs::write(path, contents).unwrap(),
            }
        }
        folder
    }

    fn merged(layers: &[&tempfile::TempDir]) -> tempfile::TempDir {
        let target = tempfile::tempdir().unwrap();
        let layers: Vec<_> = layers.iter().map(|layer| layer.path().to_owned()).collect();
        merge(&layers, target.path(), &AtomicBool::new(false)).unwrap();
        target
    }

    #[test]
    fn later_layers_win() {
        let first = layer(&[
            ("a", "1"),
            ("both", "1"),
            ("dir/x", "1"),
            ("was-dir/x", "1"),
            ("was-file", "1"),
            ("link", "-> /etc"),
            ("kept", "-> a"),
        ]);
        let second = layer(&[("both", "2"), ("dir/y", "2"), ("was-dir", "2"), ("was-file/x", "2"), ("link/passwd", "2")]);
        let opt = merged(&[&first, &second]);
        for (path, contents) in [
            ("a", "1"),
            ("both", "2"),
            ("dir/x", "1"),
            ("dir/y", "2"),
            ("was-dir", "2"),
            ("was-file/x", "2"),
            ("link/passwd", "2"),
            ("kept", "1"),
        ] {
            assert_eq!(std::fs::read_to_string(opt.path().join(path)).unwrap(), contents, "{path}");
        }
        assert!(opt.path().join("kept").is_symlink() && !opt.path().join("link").is_symlink());
    }

    #[test]
    fn modes_and_times_are_kept() {
        let first = layer(&[("dir/run", "#!"), ("dir/old", "")]);
        let second = layer(&[("dir/more", "")]);
        let run = first.path().join("dir/run");
        std::fs::set_permissions(&run, PermissionsExt::from_mode(0o555)).unwrap();
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        File::options().read(true).open(&run).unwrap().set_times(FileTimes::new().set_modified(then)).unwrap();
        std::fs::set_permissions(first.path().join("dir"), PermissionsExt::from_mode(0o555)).unwrap();
        let opt = merged(&[&first, &second]);
        let metadata = opt.path().join("dir/run").metadata().unwrap();
        assert_eq!((metadata.permissions().mode() & 0o777, metadata.modified().unwrap()), (0o555, then));
        assert!(opt.path().join("dir/more").exists());
        std::fs::set_permissions(first.path().join("dir"), PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// A writer beside us swaps a file for a link while we copy: never does the link's target come along.
    #[test]
    fn a_swapped_link_is_not_followed() {
        let folder = layer(&[("file", "own"), ("dir/file", "own")]);
        let secret = layer(&[("secret", "secret")]);
        symlink(secret.path().join("secret"), folder.path().join("link")).unwrap();
        symlink(secret.path(), folder.path().join("way")).unwrap();
        let handle = File::open(folder.path()).unwrap();
        // As if it had been a file, and a folder, when it was looked at.
        let refused = copy_entry(handle.as_fd(), c"link", FileType::RegularFile, &folder.path().join("copy")).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ELOOP));
        assert_eq!(open(handle.as_fd(), c"way", OFlags::DIRECTORY).unwrap_err().raw_os_error(), Some(libc::ENOTDIR));
        // As if the folder above had been swapped: its handle leads to what it was.
        let inner = open(handle.as_fd(), c"dir", OFlags::DIRECTORY).unwrap();
        std::fs::rename(folder.path().join("dir"), folder.path().join("gone")).unwrap();
        symlink(secret.path(), folder.path().join("dir")).unwrap();
        let target = tempfile::tempdir().unwrap();
        copy_folder((inner.as_fd(), Path::new("dir")), target.path(), &AtomicBool::new(false)).unwrap();
        assert_eq!(std::fs::read_dir(target.path()).unwrap().count(), 1);
    }

    #[test]
    fn stops_and_loops() {
        let first = layer(&[("a", "1")]);
        let target = tempfile::tempdir().unwrap();
        let layers = [first.path().to_owned()];
        assert!(matches!(merge(&layers, target.path(), &AtomicBool::new(true)), Err(MergeError::Interrupted)));
        let inside = first.path().join("inside");
        assert!(matches!(merge(&layers, &inside, &AtomicBool::new(false)), Err(MergeError::Loop { .. })));
    }
}
