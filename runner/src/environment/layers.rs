//! Several layer folders made into one for `/opt`, as Lambda does: in order, a later one's file in place of an earlier one's.
//!
//! Files are copied with `copy_file_range`, which shares their blocks where the file system can. The target is a folder nobody else can reach.

use std::fs::{File, FileTimes, Metadata};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

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
        copy_folder(layer, target, stop)?;
    }
    Ok(())
}

fn copy_folder(from: &Path, to: &Path, stop: &AtomicBool) -> Result<(), MergeError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| MergeError::Copy { path, source }
    };
    for entry in std::fs::read_dir(from).map_err(at(from))? {
        if stop.load(Ordering::Relaxed) {
            return Err(MergeError::Interrupted);
        }
        let entry = entry.map_err(at(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let metadata = entry.metadata().map_err(at(&source))?;
        if metadata.is_dir() {
            make_folder(&target).map_err(at(&source))?;
            copy_folder(&source, &target, stop)?;
            // Last: a folder may be closed to writing.
            std::fs::set_permissions(&target, metadata.permissions()).map_err(at(&source))?;
        } else {
            clear(&target).and_then(|()| copy_file(&source, &target, &metadata)).map_err(at(&source))?;
        }
    }
    Ok(())
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
fn copy_file(source: &Path, target: &Path, metadata: &Metadata) -> io::Result<()> {
    if metadata.is_symlink() {
        return std::os::unix::fs::symlink(std::fs::read_link(source)?, target);
    }
    if !metadata.is_file() {
        return Ok(());
    }
    std::fs::copy(source, target)?;
    // Times can be set on any file that is ours, however it was opened.
    File::open(target)?.set_times(FileTimes::new().set_modified(metadata.modified()?))
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
