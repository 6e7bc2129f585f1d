//! A temporary folder of one run, gone when the run is.
//!
//! A lock on the folder says that its run lives. What a killed run left behind is removed by the next one that needs such a folder.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A folder of this run, for its owner's eyes only.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Holds the lock.
    _lock: File,
}

/// Why there is no such folder.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a temporary folder in `{}`", parent.display())]
pub struct RunFolderError {
    /// Where.
    parent: PathBuf,
    /// Why.
    source: io::Error,
}

/// Folders are named by so many hex digits.
const NAME_LENGTH: usize = 16;

impl RunFolder {
    /// Makes a folder below `parent`, which is made, too, if need be.
    pub fn create(parent: &Path) -> Result<Self, RunFolderError> {
        let failed = |source| RunFolderError { parent: parent.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
        // Whoever owns the parent could put other things in place of ours.
        if parent.metadata().map_err(failed)?.uid() != nix::unistd::geteuid().as_raw() {
            return Err(failed(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user")));
        }
        sweep(parent);
        loop {
            let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
            let path = parent.join(format!("{random:0NAME_LENGTH$x}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made.map_err(failed)?,
            }
            // Another run's sweep may come between making and locking: then this folder is gone, and the next name is tried.
            match File::open(&path).and_then(|folder| folder.lock().map(|()| folder)) {
                Ok(lock) if path.exists() => return Ok(Self { path, _lock: lock }),
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets everybody see what is in it.
    pub(super) fn open_to_all(&self) -> Result<(), RunFolderError> {
        let open = |path: &Path, mode| std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode));
        let parent = self.path.parent().map_or(Ok(()), |parent| open(parent, 0o711));
        parent.and_then(|()| open(&self.path, 0o755)).map_err(|source| RunFolderError { parent: self.path.clone(), source })
    }

    /// Writes a file into it that everybody inside may read.
    pub fn write(&self, name: &str, contents: &[u8]) -> Result<PathBuf, RunFolderError> {
        let path = self.path.join(name);
        std::fs::write(&path, contents).map_err(|source| RunFolderError { parent: self.path.clone(), source })?;
        Ok(path)
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Where the folders of runs are, in a cache.
pub fn parent(cache: &Path) -> PathBuf {
    cache.join("runs")
}

/// Removes what has no living owner. Best effort: the next run tries again.
pub fn sweep(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_ours = name.len() == NAME_LENGTH && name.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit);
        if is_ours
            && let Ok(folder) = File::open(entry.path())
            && !matches!(folder.try_lock(), Err(TryLockError::WouldBlock))
        {
            remove(&entry.path());
        }
    }
}

fn remove(path: &Path) {
    if std::fs::remove_dir_all(path).is_err() {
        // Layers may hold folders that their owner cannot write to.
        make_writable(path);
        let _ = std::fs::remove_dir_all(path);
    }
}

fn make_writable(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let _ = std::fs::set_permissions(folder, PermissionsExt::from_mode(0o700));
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_writable(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn is_gone_with_its_owner() {
        let parent = tempfile::tempdir().unwrap();
        let parent = parent.path().join("made");
        let folder = RunFolder::create(&parent).unwrap();
        let inner = folder.path().join("sealed/inner");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("file"), "").unwrap();
        std::fs::set_permissions(inner.parent().unwrap(), PermissionsExt::from_mode(0o555)).unwrap();
        let path = folder.path().to_owned();
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_run_left_is_swept() {
        let parent = tempfile::tempdir().unwrap();
        let living = RunFolder::create(parent.path()).unwrap();
        let left = parent.path().join("0123456789abcdef");
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join("file"), "").unwrap();
        let not_ours = parent.path().join("0123456789abcdeg");
        std::fs::create_dir(&not_ours).unwrap();
        let second = RunFolder::create(parent.path()).unwrap();
        assert!(!left.exists() && not_ours.exists() && living.path().exists() && second.path().exists());
    }
}
