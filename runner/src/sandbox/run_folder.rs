//! A temporary folder of one run, gone when the run is.
//!
//! A lock on the folder says that its run lives. What a killed run left behind is removed by the next one that needs such a folder.
//!
//! Its parent may lie where everybody may make things. So it is opened once, without following a link, must be ours alone, and from then on all is done from
//! that descriptor; nor is a link followed when trees are removed, which a sandbox wrote to.

use std::fs::{DirBuilder, File, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, fchmod, fstat, mkdirat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use super::subids;

/// A folder of this run, for its owner's eyes only.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    name: String,
    parent: OwnedFd,
    /// Holds the lock.
    folder: File,
}

/// Why there is no such folder.
#[derive(Debug, thiserror::Error)]
pub enum RunFolderError {
    /// The kernel refused.
    #[error("cannot make a temporary folder in `{}`", parent.display())]
    Refused {
        /// Where.
        parent: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else could put other things in place of ours.
    #[error("cannot make a temporary folder in `{}`: it is not a folder that belongs to this user alone", parent.display())]
    NotOurs {
        /// Where.
        parent: PathBuf,
    },
}

impl RunFolderError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { source, .. } => {
                let may_not = [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem];
                may_not.contains(&source.kind()).then(|| "name another folder with `UNDOCKED_CACHE`".to_owned())
            }
            Self::NotOurs { parent } => Some(format!("see who made `{}`, and remove it", parent.display())),
        }
    }
}

/// Folders are named by so many hex digits.
const NAME_LENGTH: usize = 16;

/// How deep trees are walked into at most: each level takes descriptors. What lies deeper is moved up.
const DEEPEST: usize = 64;

impl RunFolder {
    /// Makes a folder below `parent`, which is made, too, if need be.
    pub fn create(parent: &Path) -> Result<Self, RunFolderError> {
        let failed = |source: io::Error| RunFolderError::Refused { parent: parent.to_owned(), source };
        let above = open_parent(parent)?;
        sweep_below(above.as_fd());
        loop {
            let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
            let name = format!("{random:0NAME_LENGTH$x}");
            match mkdirat(&above, &name, Mode::RWXU) {
                Err(Errno::EXIST) => continue,
                made => made.map_err(|error| failed(error.into()))?,
            }
            // Another run's sweep may come between making and locking: then this folder is gone, and the next name is tried.
            let folder = match openat(&above, &name, FOLDER, Mode::empty()) {
                Err(Errno::NOENT) => continue,
                opened => File::from(opened.map_err(|error| failed(error.into()))?),
            };
            folder.lock().map_err(failed)?;
            if statat(&above, &name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
                return Ok(Self { path: parent.join(&name), name, parent: above, folder });
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets everybody see what is in it.
    pub(super) fn open_to_all(&self) -> Result<(), RunFolderError> {
        let opened = fchmod(&self.parent, Mode::from_raw_mode(0o711)).and_then(|()| fchmod(&self.folder, Mode::from_raw_mode(0o755)));
        opened.map_err(|error| self.failed(error.into()))
    }

    /// Writes a file into it that everybody inside may read.
    pub fn write(&self, name: &str, contents: &[u8]) -> Result<PathBuf, RunFolderError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.folder, name, flags, Mode::from_raw_mode(0o666)).map_err(|error| self.failed(error.into()))?;
        File::from(file).write_all(contents).map_err(|error| self.failed(error))?;
        Ok(self.path.join(name))
    }

    fn failed(&self, source: io::Error) -> RunFolderError {
        RunFolderError::Refused { parent: self.path.clone(), source }
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        remove(self.parent.as_fd(), &self.name);
    }
}

/// Where the folders of runs are, in a cache.
pub fn parent(cache: &Path) -> PathBuf {
    cache.join("runs")
}

/// Removes what has no living owner. Best effort: the next run tries again.
pub fn sweep(parent: &Path) {
    if let Ok(parent) = open_ours(parent) {
        sweep_below(parent.as_fd());
    }
}

/// Removes a file, or a folder with all that is in it, as far as it can be. The folder that it lies in is ours alone.
pub fn remove_tree(path: &Path) {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
    let Ok(parent) = openat(CWD, parent, FOLDER, Mode::empty()) else { return };
    if unlinkat(&parent, name, AtFlags::empty()).is_err() {
        remove(parent.as_fd(), name);
    }
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Makes the parent of folders, and opens it.
fn open_parent(parent: &Path) -> Result<OwnedFd, RunFolderError> {
    let failed = |source| RunFolderError::Refused { parent: parent.to_owned(), source };
    match open_ours(parent) {
        Err(RunFolderError::Refused { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    if let Some(above) = parent.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(above).map_err(failed)?;
    }
    match DirBuilder::new().mode(0o700).create(parent) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    open_ours(parent)
}

/// Opens a folder that nobody else owns or may write to.
fn open_ours(folder: &Path) -> Result<OwnedFd, RunFolderError> {
    let refused = |error: Errno| match error {
        // A link, or something else than a folder.
        Errno::LOOP | Errno::NOTDIR => RunFolderError::NotOurs { parent: folder.to_owned() },
        error => RunFolderError::Refused { parent: folder.to_owned(), source: error.into() },
    };
    let opened = openat(CWD, folder, FOLDER, Mode::empty()).map_err(refused)?;
    let found = fstat(&opened).map_err(refused)?;
    if found.st_uid != nix::unistd::geteuid().as_raw() || found.st_mode & 0o022 != 0 {
        return Err(RunFolderError::NotOurs { parent: folder.to_owned() });
    }
    Ok(opened)
}

fn sweep_below(parent: BorrowedFd<'_>) {
    for entry in Dir::read_from(parent).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().to_str() else { continue };
        let is_ours = name.len() == NAME_LENGTH && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_ours
            && let Ok(folder) = openat(parent, name, FOLDER, Mode::empty()).map(File::from)
            && !matches!(folder.try_lock(), Err(TryLockError::WouldBlock))
        {
            remove(parent, name);
        }
    }
}

/// Removes a folder with all that is in it, as far as it can be.
///
/// What a sandbox with a range of ids wrote belongs to these, and so do folders that only they may remove things from: root inside may, in a user namespace
/// of its own with the same map.
fn remove(parent: BorrowedFd<'_>, name: impl rustix::path::Arg + Copy) {
    remove_own(parent, name);
    if statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
        && let Ok(name) = name.as_str()
    {
        // Best effort, as all of it: without a range there was nothing of the kind.
        let _ = subids::remove(parent, name);
    }
}

/// The same as who we are now.
pub(super) fn remove_own(parent: BorrowedFd<'_>, name: impl rustix::path::Arg + Copy) {
    if let Ok(top) = open_to_remove(parent, name) {
        // As long as something came up.
        while empty(top.as_fd(), top.as_fd(), 0) > 0 {}
        let _ = unlinkat(parent, name, AtFlags::REMOVEDIR);
    }
}

/// Removes what is in a folder; answers how many folders were too deep and have been moved to the top.
fn empty(folder: BorrowedFd<'_>, top: BorrowedFd<'_>, depth: usize) -> usize {
    let mut moved = 0;
    for entry in Dir::read_from(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") || unlinkat(folder, name, AtFlags::empty()).is_ok() {
            continue;
        }
        if depth == DEEPEST {
            let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
            moved += usize::from(renameat(folder, name, top, format!("deep-{random:x}")).is_ok());
        } else if let Ok(inner) = open_to_remove(folder, name) {
            moved += empty(inner.as_fd(), top, depth + 1);
            let _ = unlinkat(folder, name, AtFlags::REMOVEDIR);
        }
    }
    moved
}

/// Opens a folder whose contents are to go: layers may hold some that their owner can neither read nor write to.
fn open_to_remove(parent: BorrowedFd<'_>, name: impl rustix::path::Arg + Copy) -> rustix::io::Result<OwnedFd> {
    let folder = match openat(parent, name, FOLDER, Mode::empty()) {
        Err(Errno::ACCESS) => {
            let place = openat(parent, name, FOLDER | OFlags::PATH, Mode::empty())?;
            let _ = std::fs::set_permissions(format!("/proc/self/fd/{}", place.as_raw_fd()), Permissions::from_mode(0o700));
            openat(parent, name, FOLDER, Mode::empty())?
        }
        opened => opened?,
    };
    let _ = fchmod(&folder, Mode::RWXU);
    Ok(folder)
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn links_and_folders_of_others_are_no_parents() {
        let place = tempfile::tempdir().unwrap();
        let victim = place.path().join("victim");
        std::fs::create_dir_all(victim.join("0123456789abcdef/kept")).unwrap();
        std::fs::set_permissions(&victim, PermissionsExt::from_mode(0o700)).unwrap();
        let parent = place.path().join("runs");
        std::os::unix::fs::symlink(&victim, &parent).unwrap();
        let error = RunFolder::create(&parent).unwrap_err();
        assert!(matches!(error, RunFolderError::NotOurs { .. }) && error.hint().is_some(), "{error}");
        sweep(&parent);
        std::fs::remove_file(&parent).unwrap();
        std::fs::write(&parent, "").unwrap();
        assert!(matches!(RunFolder::create(&parent), Err(RunFolderError::NotOurs { .. })));
        std::fs::set_permissions(&victim, PermissionsExt::from_mode(0o770)).unwrap();
        assert!(matches!(RunFolder::create(&victim), Err(RunFolderError::NotOurs { .. })));
        assert_eq!(victim.metadata().unwrap().permissions().mode() & 0o777, 0o770);
        if nix::unistd::geteuid().is_root() {
            std::fs::set_permissions(&victim, PermissionsExt::from_mode(0o700)).unwrap();
            std::os::unix::fs::chown(&victim, Some(12345), None).unwrap();
            assert!(matches!(RunFolder::create(&victim), Err(RunFolderError::NotOurs { .. })));
        }
        assert!(victim.join("0123456789abcdef/kept").exists());
    }

    #[test]
    fn links_in_a_tree_are_removed_and_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let victim = place.path().join("victim");
        std::fs::create_dir(&victim).unwrap();
        std::fs::write(victim.join("kept"), "").unwrap();
        std::fs::set_permissions(&victim, PermissionsExt::from_mode(0o755)).unwrap();
        let folder = RunFolder::create(&place.path().join("runs")).unwrap();
        for link in [folder.path().join("link"), folder.path().join("inner/link")] {
            std::fs::create_dir_all(link.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(&victim, link).unwrap();
        }
        // What would be left of a sweep, too.
        let left = place.path().join("runs/0123456789abcdef");
        std::os::unix::fs::symlink(&victim, &left).unwrap();
        let second = RunFolder::create(&place.path().join("runs")).unwrap();
        let path = folder.path().to_owned();
        drop((folder, second));
        assert!(!path.exists() && left.is_symlink() && victim.join("kept").exists());
        assert_eq!(victim.metadata().unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn trees_may_be_deep_and_closed() {
        let place = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(place.path()).unwrap();
        let deep = (0..400).fold(folder.path().to_owned(), |path, _| path.join("d"));
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("file"), "").unwrap();
        std::fs::create_dir_all(folder.path().join("closed/inner")).unwrap();
        std::fs::set_permissions(folder.path().join("closed"), PermissionsExt::from_mode(0o000)).unwrap();
        let path = folder.path().to_owned();
        drop(folder);
        assert!(!path.exists());
    }
}
