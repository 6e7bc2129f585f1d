//! The cache on disk: layers, images, names, and the locks that let several processes share them. Its format is in `docs/formats/cache.md`.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::digest::Digest;

mod blobs;
mod builds;
mod contents;
mod images;
mod layers;
mod locks;
mod names;
mod prune;
mod staging;
mod verify;

pub use blobs::{BlobStaging, StoredBlob};
pub use builds::{BuildResult, BuiltLayer};
pub use contents::{LayerEntry, LayerEntryKind, LayerNames};
pub use images::{ImageDocuments, ImageSummary, NewImage};
pub use layers::{LayerClaim, LayerStaging, StoredLayer};
pub use names::NamedImage;
pub use prune::{CacheLimits, PruneScope, Pruned};
pub use staging::unfinished;
pub use verify::{Damage, Flaw, Verified};

/// The format of everything below it; another format gets another directory.
const STORE: &str = "v1";
/// Content of the file `format`, which is written last when a cache is made.
const FORMAT: &[u8] = b"undocked cache 1\n";
const DIRECTORIES: [&str; 5] = ["locks", "layers", "images", "names", "tmp"];

/// One cache root, checked and opened. Cheap to open, and to share between threads by reference.
#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
    store: OwnedFd,
}

/// Why the cache cannot do it.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A file operation failed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried: a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The cache belongs to another user.
    #[error("the cache directory `{}` belongs to uid {owner}, and this is uid {user}", path.display())]
    Owner {
        /// The cache root.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// Another version's format, or none.
    #[error("the cache `{}` has the format `{found}`, which this version does not know", path.display())]
    Format {
        /// The store's directory.
        path: PathBuf,
        /// What its format file says.
        found: String,
    },
    /// The file system cannot hold a cache.
    #[error("the file system of `{}` {lacks}", path.display())]
    Unsuitable {
        /// The cache root.
        path: PathBuf,
        /// What is wrong with it.
        lacks: &'static str,
    },
    /// What was stored cannot be read back.
    #[error("`{}` in the cache is damaged", path.display())]
    Damaged {
        /// The damaged file.
        path: PathBuf,
    },
    /// An image's config is not what it must be.
    #[error("image {image}: the config cannot be read")]
    Config {
        /// Digest of the platform manifest.
        image: Digest,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A hard link leads to a file that no layer below has.
    #[error("layer {layer}: hard link `{}` leads to `{}`, which is no file in this image", path.display(), target.display())]
    Link {
        /// The layer with the link.
        layer: Digest,
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// The image's tree could not be built.
    #[error("image {image}: cannot make `{}`", path.display())]
    Build {
        /// Digest of the platform manifest.
        image: Digest,
        /// Path inside the image.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A layer, or a blob to be kept, was to be published with another one's content.
    #[error("layer {layer}: what came has the digest {found}")]
    Digest {
        /// What it was to be published under.
        layer: Digest,
        /// What it is.
        found: Digest,
    },
}

impl CacheError {
    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        const ELSEWHERE: &str = "name another directory with UNDOCKED_CACHE";
        match self {
            Self::Io { source, .. } | Self::Build { source, .. } => space_hint(source).or_else(|| {
                let may_not = [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::NotADirectory];
                may_not.contains(&source.kind()).then(|| ELSEWHERE.to_owned())
            }),
            Self::Owner { owner, .. } => Some(format!("run as uid {owner}, or {ELSEWHERE}")),
            Self::Format { .. } | Self::Unsuitable { .. } => Some(ELSEWHERE.to_owned()),
            Self::Damaged { .. } => Some("remove the image with `undocked rm` and pull it again".to_owned()),
            Self::Config { .. } | Self::Link { .. } | Self::Digest { .. } => None,
        }
    }
}

/// What to do about a full disk; nothing to say about other errors.
pub(crate) fn space_hint(error: &io::Error) -> Option<String> {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        .then(|| "make room (`undocked prune` removes unused images), or name a larger place with UNDOCKED_CACHE".to_owned())
}

impl Cache {
    /// Opens the cache in `root`, and makes it if nothing is there. Refuses a directory of another user and a format it does not know.
    pub fn open(root: &Path) -> Result<Self, CacheError> {
        let io = |action| move |source| CacheError::Io { action, path: root.to_owned(), source };
        let directory = open_root(root).map_err(io("open"))?;
        let owner = rustix::fs::fstat(&directory).map_err(|error| io("open")(error.into()))?.st_uid;
        let user = rustix::process::geteuid().as_raw();
        if owner != user {
            return Err(CacheError::Owner { path: root.to_owned(), owner, user });
        }
        if let Some(store) = open_store(&directory).map_err(io("open"))? {
            match read_file(store.as_fd(), "format") {
                Ok(found) if found == FORMAT => {
                    return Ok(Self { root: root.to_owned(), store });
                }
                Ok(found) => {
                    let found = String::from_utf8_lossy(&found[..found.len().min(80)]).trim_end().to_owned();
                    return Err(CacheError::Format { path: root.join(STORE), found });
                }
                // Made half by a process that was killed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io("open")(error)),
            }
        }
        let store = make_store(&directory).map_err(io("make"))?;
        if let Some(lacks) = probe(&store).map_err(io("write to"))? {
            return Err(CacheError::Unsuitable { path: root.to_owned(), lacks });
        }
        write_whole(&store, "format", FORMAT).map_err(io("make"))?;
        Ok(Self { root: root.to_owned(), store })
    }

    /// The directory it was opened in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Has the disk write what was stored so far: no promise, but less to wait for at the end.
    pub(crate) fn write_back(&self) {
        let _ = rustix::fs::syncfs(&self.store);
    }

    /// A file of no name for what is read once and not kept.
    pub(crate) fn nameless_file(&self) -> io::Result<std::fs::File> {
        staging::nameless_file(staging::open_directory(self.store.as_fd(), "tmp")?.as_fd())
    }

    /// A directory of the store.
    fn directory(&self, name: &str) -> Result<OwnedFd, CacheError> {
        staging::open_directory(self.store.as_fd(), name).map_err(self.io("open", name))
    }

    /// Where `name` of the store is.
    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(STORE).join(name)
    }

    /// Tells a file operation's error with the path in the store.
    fn io(&self, action: &'static str, name: impl AsRef<Path>) -> impl FnOnce(io::Error) -> CacheError {
        let path = self.path(name);
        move |source| CacheError::Io { action, path, source }
    }
}

/// The root, made with mode 0700 if it is missing. A handle that needs no permission, so that another's directory can be told from a broken one.
fn open_root(root: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(root, flags, Mode::empty()) {
        Err(Errno::NOENT) => {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root)?;
            Ok(rustix::fs::open(root, flags, Mode::empty())?)
        }
        opened => Ok(opened?),
    }
}

fn open_store(root: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    match staging::open_directory(root.as_fd(), STORE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// Several processes may do this at once.
fn make_store(root: &OwnedFd) -> io::Result<OwnedFd> {
    let make = |parent: BorrowedFd<'_>, name: &str| match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Err(Errno::EXIST) => Ok(()),
        made => made,
    };
    make(root.as_fd(), STORE)?;
    let store = staging::open_directory(root.as_fd(), STORE)?;
    for name in DIRECTORIES {
        make(store.as_fd(), name)?;
    }
    Ok(store)
}

/// What the file system lacks that a cache needs, found by trying.
fn probe(store: &OwnedFd) -> io::Result<Option<&'static str>> {
    let tmp = staging::TempDir::new(staging::open_directory(store.as_fd(), "tmp")?)?;
    let directory = tmp.directory();
    write_file(directory, "case", b"")?;
    if rustix::fs::statat(directory, "CASE", AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Ok(Some("does not tell upper from lower case"));
    }
    if rustix::fs::linkat(directory, "case", directory, "link", AtFlags::empty()).is_err() {
        return Ok(Some("has no hard links"));
    }
    let symlink = rustix::fs::symlinkat("case", directory, "symlink");
    Ok(symlink.is_err().then_some("has no symlinks"))
}

/// Writes a new file.
fn write_file(directory: BorrowedFd<'_>, name: &str, content: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?;
    io::Write::write_all(&mut std::fs::File::from(file), content)
}

/// Writes or replaces a file of the store so that others see all of it or nothing.
fn write_whole(store: &OwnedFd, name: &str, content: &[u8]) -> io::Result<()> {
    let tmp = staging::TempDir::new(staging::open_directory(store.as_fd(), "tmp")?)?;
    write_file(tmp.directory(), "file", content)?;
    Ok(rustix::fs::renameat(tmp.directory(), "file", store, name)?)
}

fn read_file(directory: BorrowedFd<'_>, name: &str) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut content = Vec::new();
    std::fs::File::from(rustix::fs::openat(directory, name, flags, Mode::empty())?).read_to_end(&mut content)?;
    Ok(content)
}

/// The digests that name the entries of `layers` or `images`.
fn stored_digests(directory: BorrowedFd<'_>) -> io::Result<Vec<Digest>> {
    let mut digests = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        digests.extend(entry?.file_name().to_str().ok().and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok()));
    }
    digests.sort_unstable();
    Ok(digests)
}

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
