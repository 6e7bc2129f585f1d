//! Private directories under `tmp`: whatever is made is made there and renamed into place when it is whole; whatever is removed is renamed there first.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::locks::{Hold, is_at, try_flock};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How many of [`TempDir`] this process has.
static BEGUN: AtomicUsize = AtomicUsize::new(0);

/// How many things this process has begun to make in caches that are neither finished nor removed: threads remove them soon after a pull was dropped.
pub fn unfinished() -> usize {
    BEGUN.load(Ordering::Acquire)
}

/// A directory in `tmp` that is ours: locked while we live, removed when dropped. What a killed process leaves is unlocked, and swept by another.
#[derive(Debug)]
pub(super) struct TempDir {
    tmp: OwnedFd,
    name: String,
    directory: OwnedFd,
    published: bool,
}

impl TempDir {
    pub(super) fn new(tmp: OwnedFd) -> io::Result<Self> {
        loop {
            let name = unused_name();
            match rustix::fs::mkdirat(&tmp, &name, Mode::RWXU) {
                Err(Errno::EXIST) => continue,
                made => made?,
            }
            // A sweep may come between the two steps; then there is another name.
            let directory = match open_directory(tmp.as_fd(), &name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            if try_flock(&directory, Hold::Exclusive)? && is_at(&directory, tmp.as_fd(), &name)? {
                BEGUN.fetch_add(1, Ordering::AcqRel);
                return Ok(Self { tmp, name, directory, published: false });
            }
        }
    }

    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Renames it to `name` in `parent`. Fails if something is there.
    pub(super) fn publish(mut self, parent: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
        rustix::fs::renameat(&self.tmp, &self.name, parent, name)?;
        self.published = true;
        self.directory.try_clone()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if !self.published {
            // What stays is swept later.
            let _ = remove_tree(self.tmp.as_fd(), &self.name);
        }
        BEGUN.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Takes `name` out of `parent` by renaming it into `tmp`, and says under which name it can be removed there.
pub(super) fn move_to_trash(parent: BorrowedFd<'_>, name: &str, tmp: BorrowedFd<'_>) -> io::Result<String> {
    let trash = unused_name();
    rustix::fs::renameat(parent, name, tmp, &trash)?;
    Ok(trash)
}

/// Removes what killed processes left.
pub(super) fn sweep(tmp: BorrowedFd<'_>) -> io::Result<()> {
    for entry in Dir::read_from(tmp)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if name == "." || name == ".." {
            continue;
        }
        // Somebody else may sweep the same.
        let Ok(directory) = open_directory(tmp, name) else { continue };
        if try_flock(&directory, Hold::Exclusive)? {
            remove_tree(tmp, name)?;
        }
    }
    Ok(())
}

/// Removes a directory with all in it, also where its modes forbid that. The tree is our own and its parents are ours alone, so nobody races us.
pub(super) fn remove_tree(parent: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let name = std::ffi::CString::new(name)?;
    ignore_missing(remove_directory(parent, &name))
}

fn remove_directory(parent: BorrowedFd<'_>, name: &std::ffi::CStr) -> io::Result<()> {
    let opened = match rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?
        }
        opened => opened?,
    };
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&opened)?.st_mode);
    if !mode.contains(Mode::RWXU) {
        rustix::fs::fchmod(&opened, Mode::RWXU)?;
    }
    let mut entries = Dir::new(opened)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        if matches!(entry.file_name().to_bytes(), b"." | b"..") {
            continue;
        }
        let here = entries.fd()?;
        let removed = if entry.file_type() == FileType::Directory {
            remove_directory(here, entry.file_name())
        } else {
            match rustix::fs::unlinkat(here, entry.file_name(), AtFlags::empty()) {
                // Some file systems do not say what an entry is.
                Err(Errno::ISDIR) => remove_directory(here, entry.file_name()),
                removed => removed.map_err(io::Error::from),
            }
        };
        ignore_missing(removed)?;
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Opens a directory of the store to read it, to lock it or to work in it.
pub(super) fn open_directory(parent: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?)
}

/// A file that has no name and is gone with its last descriptor.
pub(super) fn nameless_file(tmp: BorrowedFd<'_>) -> io::Result<File> {
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::openat(tmp, c".", OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC, mode) {
        Ok(file) => return Ok(file.into()),
        // Network file systems know no such files.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {}
        Err(error) => return Err(error.into()),
    }
    let name = unused_name();
    let file = rustix::fs::openat(tmp, &name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC, mode)?;
    rustix::fs::unlinkat(tmp, &name, AtFlags::empty())?;
    Ok(file.into())
}

fn unused_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // Process ids repeat (in another pid namespace, after a restart); the time does not.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_nanos());
    format!("{}-{now:x}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
