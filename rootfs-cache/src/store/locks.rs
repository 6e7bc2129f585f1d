//! File locks (flock): they vanish with the process that holds them, so a killed one leaves nothing to clean up.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    Shared,
    Exclusive,
}

/// A held lock on a file of the `locks` directory, until dropped.
#[derive(Debug)]
pub(super) struct FileLock {
    _file: OwnedFd,
}

impl FileLock {
    /// Takes the lock, having called `waiting` once if another holds it.
    pub(super) fn wait(locks: BorrowedFd<'_>, name: &str, hold: Hold, waiting: &mut dyn FnMut()) -> io::Result<Self> {
        let mut told = false;
        loop {
            let file = open(locks, name)?;
            if !try_flock(&file, hold)? {
                if !told {
                    waiting();
                    told = true;
                }
                flock(&file, hold)?;
            }
            // `prune` removes lock files that nobody holds: a lock on a removed one is none.
            if is_at(&file, locks, name)? {
                return Ok(Self { _file: file });
            }
        }
    }

    /// Takes the lock if it is free.
    pub(super) fn take(locks: BorrowedFd<'_>, name: &str, hold: Hold) -> io::Result<Option<Self>> {
        loop {
            let file = open(locks, name)?;
            if !try_flock(&file, hold)? {
                return Ok(None);
            }
            if is_at(&file, locks, name)? {
                return Ok(Some(Self { _file: file }));
            }
        }
    }
}

fn open(locks: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(locks, name, flags, Mode::RUSR | Mode::WUSR)?)
}

/// Whether `name` still leads to this very file.
pub(super) fn is_at(file: impl AsFd, directory: BorrowedFd<'_>, name: &str) -> io::Result<bool> {
    let held = rustix::fs::fstat(file)?;
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) => Ok((there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Waits for the lock.
pub(super) fn flock(file: impl AsFd, hold: Hold) -> io::Result<()> {
    let operation = match hold {
        Hold::Shared => FlockOperation::LockShared,
        Hold::Exclusive => FlockOperation::LockExclusive,
    };
    Ok(rustix::io::retry_on_intr(|| rustix::fs::flock(&file, operation))?)
}

/// Takes the lock if it is free, and says whether it was.
pub(super) fn try_flock(file: impl AsFd, hold: Hold) -> io::Result<bool> {
    let operation = match hold {
        Hold::Shared => FlockOperation::NonBlockingLockShared,
        Hold::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    match rustix::fs::flock(file, operation) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
