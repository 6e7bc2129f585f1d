//! The whole tree as the sandbox will see it, looked at from outside: what is written over the image. No link is followed on the host.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use super::{Layering, WritableError, WritableRoot};

/// Links followed on one way, as many as the kernel follows.
const MOST_LINKS: usize = 40;

/// What lies at a path.
#[derive(Debug)]
pub(super) struct Found {
    /// Where it is on the host.
    pub(super) on_host: PathBuf,
    pub(super) metadata: Metadata,
    /// Whether it was written, or is the image's own.
    pub(super) written: bool,
    /// The folder of the image that shows through.
    pub(super) below: Option<PathBuf>,
}

impl WritableRoot {
    /// Where the file or folder is on the host that a path inside leads to; nothing if there is none.
    pub fn find(&self, path: &Path) -> Result<Option<PathBuf>, WritableError> {
        let found = self.resolve(path).and_then(|path| self.at(&path)).map_err(self.failed("look at", path))?;
        Ok(found.map(|found| found.on_host))
    }

    /// The same, without following a link that the path itself is.
    pub fn look(&self, path: &Path) -> Result<Option<PathBuf>, WritableError> {
        let resolved = if path.file_name().is_some() { self.resolve_parent(path) } else { self.resolve(path) };
        let found = resolved.and_then(|path| self.at(&path)).map_err(self.failed("look at", path))?;
        Ok(found.map(|found| found.on_host))
    }

    /// The names in a folder inside, sorted.
    pub fn list(&self, folder: &Path) -> Result<Vec<OsString>, WritableError> {
        let list = || {
            let path = self.resolve(folder)?;
            let found = self.at(&path)?.ok_or(io::ErrorKind::NotFound)?;
            let mut names: BTreeSet<_> = names(&found.on_host)?.into_iter().collect();
            if let Some(below) = found.below.as_ref().filter(|_| found.written) {
                names.extend(self::names(below)?);
            }
            let mut there = Vec::new();
            for name in names {
                if self.at(&path.join(&name))?.is_some() {
                    there.push(name);
                }
            }
            Ok(there)
        };
        list().map_err(self.failed("list", folder))
    }

    /// What is at a path without links.
    pub(super) fn at(&self, path: &Path) -> io::Result<Option<Found>> {
        let below = (self.layering == Layering::Overlay).then(|| self.rootfs.path().to_owned());
        let on_host = self.upper();
        let metadata = on_host.symlink_metadata()?;
        let mut found = Found { on_host, metadata, written: true, below };
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            if !found.metadata.is_dir() {
                return Ok(None);
            }
            let over = if found.written { existing(found.on_host.join(name))? } else { None };
            let under = match &found.below {
                Some(below) => existing(below.join(name))?,
                None => None,
            };
            found = match (over, under) {
                (Some((_, metadata)), _) if is_whiteout(&metadata) => return Ok(None),
                (Some((on_host, metadata)), under) => {
                    let merged = metadata.is_dir() && !is_opaque(&on_host);
                    let below = under.filter(|(_, under)| merged && under.is_dir()).map(|(path, _)| path);
                    Found { on_host, metadata, written: true, below }
                }
                (None, Some((on_host, metadata))) => {
                    let below = metadata.is_dir().then(|| on_host.clone());
                    Found { on_host, metadata, written: false, below }
                }
                (None, None) => return Ok(None),
            };
        }
        Ok(Some(found))
    }

    /// Where a path leads, links resolved as inside. What is missing is taken as it is written.
    pub(super) fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let mut there = PathBuf::from("/");
        let mut left: Vec<OsString> = parts(path);
        let mut links = 0;
        while let Some(name) = left.pop() {
            if name == ".." {
                there.pop();
                continue;
            }
            let place = there.join(&name);
            match self.at(&place)? {
                Some(found) if found.metadata.is_symlink() => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(io::Error::from_raw_os_error(libc::ELOOP));
                    }
                    let to = fs::read_link(&found.on_host)?;
                    if to.is_absolute() {
                        there = PathBuf::from("/");
                    }
                    left.extend(parts(&to));
                }
                Some(found) if !found.metadata.is_dir() && !left.is_empty() => {
                    return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
                }
                _ => there = place,
            }
        }
        Ok(there)
    }
}

/// The names on a path, the first one last.
fn parts(path: &Path) -> Vec<OsString> {
    let name = |part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().rev().filter_map(name).collect()
}

fn existing(path: PathBuf) -> io::Result<Option<(PathBuf, Metadata)>> {
    match path.symlink_metadata() {
        Ok(metadata) => Ok(Some((path, metadata))),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The names in a folder.
pub(super) fn names(folder: &Path) -> io::Result<Vec<OsString>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
}

/// What stands for something that was removed (overlayfs.rst).
pub(super) fn is_whiteout(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

/// The attribute of a folder that hides what lies below it.
pub(super) const OPAQUE: &str = "user.overlay.opaque";

/// Whether a folder hides what lies below it.
pub(super) fn is_opaque(folder: &Path) -> bool {
    let mut value = [0; 4];
    rustix::fs::lgetxattr(folder, OPAQUE, &mut value).is_ok_and(|length| value.get(..length) == Some(b"y"))
}
