//! Compressed layer blobs, byte for byte as the registry has them: kept where somebody asked for it, so that an image can be saved or pushed again.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::locks::FileLock;
use super::staging::{self, TempDir};
use super::{Cache, CacheError, stored_digests};
use crate::digest::Digest;

/// Made when the first blob is kept: older versions know nothing of it, and leave it alone.
pub(super) const BLOBS: &str = "blobs";
/// What a blob is called while it is being made.
const STAGED: &str = "blob";

/// A blob being made, to be written from its first byte to its last. Dropping it removes what was written.
#[derive(Debug)]
pub struct BlobStaging {
    file: File,
    hash: Sha256,
    bytes: u64,
    tmp: TempDir,
    blobs: std::os::fd::OwnedFd,
    path: PathBuf,
    in_use: FileLock,
}

/// A kept blob that was published just now. While this value lives, `prune` does not remove it though no image may name it yet.
#[derive(Debug)]
#[must_use = "prune may remove the blob once this is dropped, unless an image names it"]
pub struct StoredBlob {
    digest: Digest,
    bytes: u64,
    _in_use: FileLock,
}

impl Write for BlobStaging {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.file.write(bytes)?;
        self.hash.update(&bytes[..length]);
        self.bytes += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl BlobStaging {
    /// Makes the blob visible, whole and on disk. Refused where the bytes written are not those that the digest names.
    pub fn publish(self, wanted: &Digest) -> Result<StoredBlob, CacheError> {
        let digest = Digest::from_bytes(self.hash.finalize().into());
        if digest != *wanted {
            return Err(CacheError::Digest { layer: *wanted, found: digest });
        }
        // No image vouches for it, and nobody hashes it before it is used: it has to be whole after a power cut, or not there.
        let publish = || {
            self.file.sync_all()?;
            rustix::fs::renameat(self.tmp.directory(), STAGED, &self.blobs, digest.hex()).map_err(io::Error::from)
        };
        publish().map_err(|source| CacheError::Io { action: "publish", path: self.path.join(digest.hex()), source })?;
        Ok(StoredBlob { digest, bytes: self.bytes, _in_use: self.in_use })
    }

    /// Tells the error of a write with the place where it happened.
    pub(crate) fn cannot_write(&self, source: io::Error) -> CacheError {
        CacheError::Io { action: "write to", path: self.path.clone(), source }
    }
}

impl StoredBlob {
    /// Its digest, under which it is stored.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Cache {
    /// A kept blob, open for reading, or `None` if it was not kept. Once open it can be read to its end, whatever others remove.
    pub fn blob(&self, blob: &Digest) -> Result<Option<File>, CacheError> {
        let name = blob_name(blob);
        match rustix::fs::openat(&self.store, &name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => Ok(Some(file.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.io("open", name)(error.into())),
        }
    }

    /// Begins a blob to be kept. Two may make the same one: whoever is last replaces it by its like.
    pub fn stage_blob(&self) -> Result<BlobStaging, CacheError> {
        let in_use = self.use_layers()?;
        let stage = || {
            match rustix::fs::mkdirat(&self.store, BLOBS, Mode::RWXU) {
                Err(Errno::EXIST) => {}
                made => made?,
            }
            let tmp = TempDir::new(staging::open_directory(self.store.as_fd(), "tmp")?)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(tmp.directory(), STAGED, flags, Mode::RUSR | Mode::WUSR)?;
            Ok((tmp, file, staging::open_directory(self.store.as_fd(), BLOBS)?))
        };
        let (tmp, file, blobs) = stage().map_err(self.io("write to", "tmp"))?;
        Ok(BlobStaging { file: file.into(), hash: Sha256::new(), bytes: 0, tmp, blobs, path: self.path(BLOBS), in_use })
    }

    /// Whether the blobs of all layers of an image are kept; `false`, too, where the image is not there.
    pub fn has_blobs_of(&self, manifest: &Digest) -> Result<bool, CacheError> {
        let Some(layers) = self.layers_of(manifest)? else { return Ok(false) };
        let kept = self.kept_blobs()?;
        Ok(layers.iter().all(|layer| kept.binary_search(&layer.digest).is_ok()))
    }

    /// All blobs that are kept, sorted.
    pub(super) fn kept_blobs(&self) -> Result<Vec<Digest>, CacheError> {
        match staging::open_directory(self.store.as_fd(), BLOBS).and_then(|blobs| stored_digests(blobs.as_fd())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            kept => kept.map_err(self.io("read", BLOBS)),
        }
    }
}

pub(super) fn blob_name(blob: &Digest) -> String {
    format!("{BLOBS}/{}", blob.hex())
}
