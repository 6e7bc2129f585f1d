//! Roots that may be written to: a folder of its own over one unpacked image, which stays as it is.
//!
//! What is written lies over the image where the kernel and the file system grant an overlay, else in a copy of the tree. It outlives the sandboxes that run in
//! it; the host looks into it, writes to it and reads out what has changed while none runs. Knows nothing of runs and commands. What the folder
//! holds is in `docs/formats/writable-root.md`.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rootfs_cache::rootfs::Rootfs;
use rustix::fs::{Timespec, Timestamps};

use crate::sandbox::run_folder::{self, RunFolder, RunFolderError};
use crate::sandbox::{RootSource, WritableSource};

mod changes;
mod copy;
mod view;
mod write;

pub use changes::{Change, ChangeKind};

/// A root that may be written to, and the image that it is made of, which is held in use.
#[derive(Debug)]
pub struct WritableRoot {
    rootfs: Rootfs,
    folder: Folder,
    layering: Layering,
}

/// Where what is written lies.
#[derive(Debug)]
enum Folder {
    /// Gone with this value.
    Temporary(RunFolder),
    /// Somebody else's to remove.
    Kept(PathBuf),
}

/// How what is written and the image come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layering {
    Overlay,
    Copy,
}

/// Why a root cannot be had, written to or read.
#[derive(Debug, thiserror::Error)]
pub enum WritableError {
    /// There is no place for it.
    #[error("there is no place for a root that may be written to")]
    Place(#[source] RunFolderError),
    /// A file operation failed.
    #[error("cannot {action} `{}` in a root that may be written to", path.display())]
    Io {
        /// What was tried: a verb.
        action: &'static str,
        /// The path: inside, or of the folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Nothing was made there.
    #[error("`{}` holds no root that may be written to", folder.display())]
    NotOne {
        /// The folder.
        folder: PathBuf,
    },
    /// It was made over something else.
    #[error("the root in `{}` was made of the image {found}, not of {wanted}", folder.display())]
    OtherImage {
        /// The folder.
        folder: PathBuf,
        /// What it says.
        found: String,
        /// What was asked for.
        wanted: String,
    },
}

impl WritableError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Place(error) => error.hint(),
            Self::Io { source, .. } if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                Some("make room (`undocked prune` removes unused images), or name a larger place with `UNDOCKED_CACHE`".to_owned())
            }
            _ => None,
        }
    }
}

/// The file that says which image it is; the digest of its manifest.
const IMAGE: &str = "image";
/// The folders of an overlay, the first a mount point.
const OVERLAY: [&str; 3] = ["lower", UPPER, WORK];
/// What is written over an image.
const UPPER: &str = "upper";
/// The kernel's own.
const WORK: &str = "work";
/// The copy of an image.
const TREE: &str = "tree";
/// Made when the copy was whole: what has not changed since is older.
const COPIED: &str = "copied";

impl WritableRoot {
    /// A root that is gone when dropped, in the cache; what a killed process leaves is removed by the next one.
    pub fn temporary(rootfs: Rootfs, cache: &Path) -> Result<Self, WritableError> {
        let folder = RunFolder::create(&run_folder::parent(cache)).map_err(WritableError::Place)?;
        let root = Self { rootfs, folder: Folder::Temporary(folder), layering: Layering::Overlay };
        root.lay_out()?;
        Ok(root)
    }

    /// A root in an empty folder of the caller's, which is to be closed to others. It stays until it is removed.
    pub fn create(rootfs: Rootfs, folder: &Path) -> Result<Self, WritableError> {
        let root = Self { rootfs, folder: Folder::Kept(folder.to_owned()), layering: Layering::Overlay };
        root.lay_out()?;
        Ok(root)
    }

    /// The root that was made there of this image.
    pub fn open(rootfs: Rootfs, folder: &Path) -> Result<Self, WritableError> {
        let found = fs::read_to_string(folder.join(IMAGE)).map_err(|_| WritableError::NotOne { folder: folder.to_owned() })?;
        let wanted = rootfs.manifest_digest().to_string();
        if found.trim_end() != wanted {
            return Err(WritableError::OtherImage { folder: folder.to_owned(), found: found.trim_end().to_owned(), wanted });
        }
        let layering = if folder.join(COPIED).exists() { Layering::Copy } else { Layering::Overlay };
        Ok(Self { rootfs, folder: Folder::Kept(folder.to_owned()), layering })
    }

    /// The image.
    pub fn rootfs(&self) -> &Rootfs {
        &self.rootfs
    }

    /// What a sandbox is given as its root. One sandbox at a time.
    ///
    /// The kernel's own folder is made anew: an overlay that need not survive a crash leaves it closed to the next (overlayfs.rst, volatile mount).
    pub fn source(&self) -> RootSource {
        if self.layering == Layering::Overlay {
            let work = self.folder().join(WORK);
            run_folder::remove_tree(&work);
            // If this fails the overlay is refused.
            let _ = DirBuilder::new().mode(0o700).create(&work);
        }
        RootSource::Writable(match self.layering {
            Layering::Overlay => WritableSource::Overlay { lower: self.rootfs.path().to_owned(), folder: self.folder().to_owned() },
            Layering::Copy => WritableSource::Tree { path: self.upper() },
        })
    }

    /// Takes a copy of the image in place of an overlay, with what was written so far.
    pub fn become_copy(&mut self) -> Result<(), WritableError> {
        if self.layering == Layering::Copy {
            return Ok(());
        }
        let tree = self.folder().join(TREE);
        // Of an attempt that was broken off.
        run_folder::remove_tree(&tree);
        let changes = self.changes()?;
        copy::tree(self.rootfs.path(), &tree).map_err(self.failed("copy", "/"))?;
        copy::apply(&changes, &tree).map_err(self.failed("copy", "/"))?;
        fs::write(self.folder().join(COPIED), "").map_err(self.failed("make", COPIED))?;
        self.layering = Layering::Copy;
        OVERLAY.iter().for_each(|name| run_folder::remove_tree(&self.folder().join(name)));
        Ok(())
    }

    /// Removes all of it.
    pub fn remove(self) -> Result<(), WritableError> {
        if let Folder::Kept(folder) = &self.folder {
            run_folder::remove_tree(folder);
            if folder.exists() {
                let source = io::Error::from_raw_os_error(libc::ENOTEMPTY);
                return Err(WritableError::Io { action: "remove", path: folder.clone(), source });
            }
        }
        Ok(())
    }

    fn folder(&self) -> &Path {
        match &self.folder {
            Folder::Temporary(folder) => folder.path(),
            Folder::Kept(folder) => folder,
        }
    }

    /// What is written to.
    fn upper(&self) -> PathBuf {
        self.folder().join(if self.layering == Layering::Overlay { UPPER } else { TREE })
    }

    fn lay_out(&self) -> Result<(), WritableError> {
        for name in OVERLAY {
            let path = self.folder().join(name);
            DirBuilder::new().mode(0o700).create(&path).map_err(self.failed("make", name))?;
        }
        // The root's own rights are those of the upper folder.
        let like = fs::metadata(self.rootfs.path()).map_err(self.failed("look at", "/"))?;
        take_after(&self.upper(), &like).map_err(self.failed("make", UPPER))?;
        let digest = self.rootfs.manifest_digest().to_string();
        fs::write(self.folder().join(IMAGE), digest + "\n").map_err(self.failed("make", IMAGE))
    }

    fn failed(&self, action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> WritableError {
        let path = path.as_ref().to_owned();
        move |source| WritableError::Io { action, path, source }
    }
}

/// Gives a folder or a file the mode and the times of another.
fn take_after(path: &Path, like: &fs::Metadata) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(like.mode() & 0o7777))?;
    set_time(path, like)
}

fn set_time(path: &Path, like: &fs::Metadata) -> io::Result<()> {
    let time = Timespec { tv_sec: like.mtime(), tv_nsec: like.mtime_nsec() };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Does something in the folder above, which root inside may write to whatever its mode says: so may we, who own it.
fn open_above<T>(place: &Path, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    const WRITABLE: u32 = 0o300;
    let above = place.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mode = above.metadata()?.permissions().mode();
    if mode & WRITABLE == WRITABLE {
        return act();
    }
    fs::set_permissions(above, Permissions::from_mode(mode | WRITABLE))?;
    let done = act();
    fs::set_permissions(above, Permissions::from_mode(mode))?;
    done
}
