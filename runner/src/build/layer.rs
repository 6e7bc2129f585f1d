//! Layers made here: entries to a tar, compressed, hashed, kept and unpacked. The same entries are always the same bytes.
//!
//! Sorted by path, no names of owners, one time for everything; gzip without a name and a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use rootfs_cache::digest::Digest;
use rootfs_cache::manifest::{Descriptor, OCI_LAYER_GZIP};
use rootfs_cache::store::{BuiltLayer, Cache, CacheError, LayerClaim, StoredBlob, StoredLayer};
use rootfs_cache::unpack::{Limits, UnpackError, unpack_layer};
use sha2::{Digest as _, Sha256};

/// What is written at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub content: Content,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
}

/// What an entry of a layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A folder.
    Directory,
    /// A file of this machine.
    File(PathBuf),
    /// These bytes.
    Bytes(Vec<u8>),
    /// A symlink.
    Symlink(PathBuf),
    /// A hard link to another entry of the layer.
    Link(PathBuf),
    /// A named pipe.
    Fifo,
    /// Gone: what lower layers have there.
    Removed,
}

/// The entries of a layer by their paths, which are relative to the root.
pub type Entries = BTreeMap<PathBuf, Entry>;

/// Why a layer could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file on this machine.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write a layer")]
    Write(#[source] io::Error),
    /// It cannot be unpacked.
    #[error("cannot unpack a layer that was made")]
    Unpack(#[source] UnpackError),
    /// The cache failed.
    #[error("cannot keep a layer")]
    Cache(#[source] CacheError),
    /// A signal ended it.
    #[error("interrupted")]
    Interrupted,
}

impl LayerError {
    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Write(source) if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                Some("make room (`undocked prune` removes unused images), or name a larger place with UNDOCKED_CACHE".to_owned())
            }
            Self::Unpack(source) => source.hint(),
            Self::Cache(source) => source.hint(),
            _ => None,
        }
    }
}

/// A layer that is in the cache, and held there.
#[derive(Debug)]
pub struct MadeLayer {
    /// What it is called by.
    pub built: BuiltLayer,
    /// The unpacked layer.
    pub stored: StoredLayer,
    /// Its blob, where it was made just now.
    _blob: Option<StoredBlob>,
}

impl MadeLayer {
    /// One that is there.
    pub fn of(built: BuiltLayer, stored: StoredLayer) -> Self {
        Self { built, stored, _blob: None }
    }

    /// As a manifest names it.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor { media_type: OCI_LAYER_GZIP.to_owned(), digest: self.built.digest, size: self.built.size }
    }
}

/// What layers are made with.
#[derive(Clone, Copy)]
pub struct Maker<'a> {
    /// Where they go.
    pub cache: &'a Cache,
    /// The time of everything in them, in seconds since 1970.
    pub epoch: u64,
    /// What one may cost.
    pub limits: &'a Limits,
    /// Whether a signal came.
    pub interrupted: &'a dyn Fn() -> bool,
}

impl Maker<'_> {
    /// Makes a layer of entries.
    pub fn make(&self, entries: &Entries) -> Result<MadeLayer, LayerError> {
        let mut blob = HashWriter::new(self.cache.stage_blob().map_err(LayerError::Cache)?);
        let diff_id = {
            // Fast: what is made here is mostly run here; a registry's space is not worth a build's time.
            let gzip = GzBuilder::new().write(&mut blob, Compression::fast());
            let mut tar = tar::Builder::new(HashWriter::new(gzip));
            self.write(entries, &mut tar)?;
            let (gzip, diff_id) = tar.into_inner().map_err(LayerError::Write)?.finish();
            gzip.finish().map_err(LayerError::Write)?;
            diff_id
        };
        let (staging, digest) = blob.finish();
        let kept = staging.publish(&digest).map_err(LayerError::Cache)?;
        let built = BuiltLayer { digest, size: kept.bytes(), diff_id };
        let stored = self.unpacked(&digest)?;
        Ok(MadeLayer { built, stored, _blob: Some(kept) })
    }

    fn unpacked(&self, digest: &Digest) -> Result<StoredLayer, LayerError> {
        let staging = match self.cache.claim_layer(digest, &mut || ()).map_err(LayerError::Cache)? {
            LayerClaim::Present(layer) => return Ok(layer),
            LayerClaim::Mine(staging) => staging,
        };
        let blob = self.cache.blob(digest).map_err(LayerError::Cache)?;
        let blob = blob.ok_or_else(|| LayerError::Write(io::ErrorKind::NotFound.into()))?;
        let unpacked = unpack_layer(blob, &staging, self.limits).map_err(LayerError::Unpack)?;
        staging.publish(unpacked).map_err(LayerError::Cache)
    }

    fn write<W: Write>(&self, entries: &Entries, tar: &mut tar::Builder<W>) -> Result<(), LayerError> {
        for (path, entry) in entries {
            if (self.interrupted)() {
                return Err(LayerError::Interrupted);
            }
            let mut header = tar::Header::new_gnu();
            header.set_mode(entry.mode & 0o7777);
            header.set_uid(entry.owner.0.into());
            header.set_gid(entry.owner.1.into());
            header.set_mtime(self.epoch);
            header.set_size(0);
            header.set_entry_type(tar::EntryType::Regular);
            write_entry(tar, header, path, &entry.content)?;
        }
        tar.finish().map_err(LayerError::Write)
    }
}

fn write_entry<W: Write>(tar: &mut tar::Builder<W>, mut header: tar::Header, path: &Path, content: &Content) -> Result<(), LayerError> {
    let written = match content {
        Content::Directory => {
            header.set_entry_type(tar::EntryType::Directory);
            // With a slash, as all tools write it.
            let mut path = path.as_os_str().as_bytes().to_vec();
            path.push(b'/');
            tar.append_data(&mut header, std::ffi::OsStr::from_bytes(&path), io::empty())
        }
        Content::File(source) => return append_file(tar, header, path, source),
        Content::Bytes(bytes) => {
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, path, &bytes[..])
        }
        Content::Symlink(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            tar.append_link(&mut header, path, target)
        }
        Content::Link(target) => {
            header.set_entry_type(tar::EntryType::Link);
            tar.append_link(&mut header, path, target)
        }
        Content::Fifo => {
            header.set_entry_type(tar::EntryType::Fifo);
            tar.append_data(&mut header, path, io::empty())
        }
        Content::Removed => {
            header.set_mode(0);
            let mut name = std::ffi::OsString::from(".wh.");
            name.push(path.file_name().unwrap_or_default());
            tar.append_data(&mut header, path.with_file_name(name), io::empty())
        }
    };
    written.map_err(LayerError::Write)
}

fn append_file<W: Write>(tar: &mut tar::Builder<W>, mut header: tar::Header, path: &Path, source: &Path) -> Result<(), LayerError> {
    let cannot_read = |error| LayerError::Read { path: source.to_owned(), source: error };
    let file = File::open(source).map_err(cannot_read)?;
    let size = file.metadata().map_err(cannot_read)?.len();
    header.set_size(size);
    // A file that grows meanwhile is cut; one that shrinks is an error.
    let mut rest = file.take(size);
    tar.append_data(&mut header, path, &mut rest).map_err(LayerError::Write)?;
    if rest.limit() == 0 { Ok(()) } else { Err(cannot_read(io::ErrorKind::UnexpectedEof.into())) }
}

/// Hashes what goes through.
struct HashWriter<W> {
    inner: W,
    hash: Sha256,
}

impl<W> HashWriter<W> {
    fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    fn finish(self) -> (W, Digest) {
        (self.inner, Digest::from_bytes(self.hash.finalize().into()))
    }
}

impl<W: Write> Write for HashWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(bytes)?;
        self.hash.update(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
