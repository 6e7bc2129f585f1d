//! Layers of the store: looking them up, claiming and publishing them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::Mode;
use serde::{Deserialize, Serialize};

use super::locks::{FileLock, Hold};
use super::staging::{self, TempDir};
use super::{Cache, CacheError, read_file, write_file};
use crate::digest::Digest;
use crate::unpack::UnpackedLayer;
use crate::unpack::checks::Checks;
use crate::unpack::index::LayerIndex;

/// Shared by all who use layers that no image holds yet, so that none is removed under their hands.
pub(super) const LAYERS_IN_USE: &str = "layers-in-use";

/// A published layer. While this value or a clone of it lives, `prune` removes no layers.
#[derive(Debug, Clone)]
pub struct StoredLayer(Arc<OpenLayer>);

#[derive(Debug)]
struct OpenLayer {
    directory: OwnedFd,
    meta: LayerMeta,
    _in_use: FileLock,
}

/// What `meta.json` says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LayerMeta {
    digest: Digest,
    diff_id: Digest,
    compressed_bytes: u64,
    pub(super) bytes: u64,
    entries: u64,
    /// Id of the boot that wrote it: until the file `durable` is there, only this boot's page cache vouches for the content.
    boot: Option<String>,
    /// Who wrote it.
    tool: String,
}

/// What [`Cache::claim_layer`] gave.
#[derive(Debug)]
pub enum LayerClaim {
    /// The layer is there already.
    Present(StoredLayer),
    /// The caller is the one who makes it.
    Mine(LayerStaging),
}

/// A layer being made: a private directory, and the lock that keeps others from making the same one. Dropping it removes what was written.
#[derive(Debug)]
pub struct LayerStaging {
    digest: Digest,
    // Dropped in this order: what was written goes before the lock does.
    tmp: TempDir,
    files: OwnedFd,
    layers: OwnedFd,
    path: PathBuf,
    _claim: FileLock,
    in_use: FileLock,
}

impl StoredLayer {
    /// Digest of the compressed blob, under which the layer is stored.
    pub fn digest(&self) -> &Digest {
        &self.0.meta.digest
    }

    /// Digest of the inflated tar.
    pub fn diff_id(&self) -> &Digest {
        &self.0.meta.diff_id
    }

    /// Length of the compressed blob.
    pub fn compressed_bytes(&self) -> u64 {
        self.0.meta.compressed_bytes
    }

    /// Length of the inflated tar.
    pub fn bytes(&self) -> u64 {
        self.0.meta.bytes
    }

    /// The numbered files.
    pub(crate) fn files(&self) -> io::Result<OwnedFd> {
        staging::open_directory(self.0.directory.as_fd(), "files")
    }

    /// The index; `None` if it is damaged.
    pub(crate) fn index(&self) -> io::Result<Option<LayerIndex>> {
        read_file(self.0.directory.as_fd(), "index").map(|bytes| LayerIndex::read(&bytes))
    }

    /// What its files and its index held when they were written: `Ok(None)` for a layer of a version that kept no checks, `InvalidData` for damaged ones.
    pub(super) fn checks(&self) -> io::Result<Option<Checks>> {
        match read_file(self.0.directory.as_fd(), "checks") {
            Ok(text) => Checks::read(&text).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The index, byte for byte.
    pub(super) fn index_bytes(&self) -> io::Result<Vec<u8>> {
        read_file(self.0.directory.as_fd(), "index")
    }

    /// Says that the layer is safe on disk, after a sync.
    pub(super) fn mark_durable(&self) -> io::Result<()> {
        match write_file(self.0.directory.as_fd(), "durable", b"") {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            marked => marked,
        }
    }
}

impl LayerStaging {
    /// Digest of the compressed blob that the layer was claimed under.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Where `index` goes.
    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.tmp.directory()
    }

    /// Where the numbered files go.
    pub(crate) fn files(&self) -> BorrowedFd<'_> {
        self.files.as_fd()
    }

    /// Makes the unpacked layer visible, whole, to every process. It need not be on disk yet: that is seen to once, when an image is published.
    pub fn publish(self, unpacked: UnpackedLayer) -> Result<StoredLayer, CacheError> {
        if unpacked.blob_digest != self.digest {
            return Err(CacheError::Digest { layer: self.digest, found: unpacked.blob_digest });
        }
        let meta = LayerMeta {
            digest: self.digest,
            diff_id: unpacked.diff_id,
            compressed_bytes: unpacked.compressed_bytes,
            bytes: unpacked.bytes,
            entries: unpacked.entries,
            boot: boot_id(),
            tool: concat!("undocked ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let publish = || {
            let json = serde_json::to_vec(&meta)?;
            write_file(self.tmp.directory(), "meta.json", &json)?;
            if meta.boot.is_none() {
                rustix::fs::syncfs(self.tmp.directory())?;
                write_file(self.tmp.directory(), "durable", b"")?;
            }
            self.tmp.publish(self.layers.as_fd(), &self.digest.hex())
        };
        let directory = publish().map_err(|source| CacheError::Io { action: "publish", path: self.path, source })?;
        Ok(StoredLayer(Arc::new(OpenLayer { directory, meta, _in_use: self.in_use })))
    }
}

impl Cache {
    /// A published layer.
    pub fn layer(&self, layer: &Digest) -> Result<Option<StoredLayer>, CacheError> {
        self.open_layer(layer, self.use_layers()?).map_err(self.io("open", layer_name(layer))).map(Result::ok)
    }

    /// The layer if it is there, else the right and duty to make it. Blocks while another process or thread makes it, having called `waiting` once.
    ///
    /// Whoever holds a claim must not wait for a second one (two pulls could wait for each other): one task per layer, and a digest that an image lists twice
    /// is claimed once.
    pub fn claim_layer(&self, layer: &Digest, waiting: &mut dyn FnMut()) -> Result<LayerClaim, CacheError> {
        let open = |in_use| self.open_layer(layer, in_use).map_err(self.io("open", layer_name(layer)));
        let in_use = match open(self.use_layers()?)? {
            Ok(layer) => return Ok(LayerClaim::Present(layer)),
            Err(in_use) => in_use,
        };
        let locks = self.directory("locks")?;
        let claim = FileLock::wait(locks.as_fd(), &layer.hex(), Hold::Exclusive, waiting).map_err(self.io("lock", layer_name(layer)))?;
        let in_use = match open(in_use)? {
            Ok(layer) => return Ok(LayerClaim::Present(layer)),
            Err(in_use) => in_use,
        };
        let (layers, tmp) = (self.directory("layers")?, self.directory("tmp")?);
        let stage = || {
            staging::sweep(tmp.as_fd())?;
            // What is there was lost in a crash of the machine, or somebody meddled with it.
            match staging::move_to_trash(layers.as_fd(), &layer.hex(), tmp.as_fd()) {
                Ok(trash) => staging::remove_tree(tmp.as_fd(), &trash)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            let tmp = TempDir::new(tmp.try_clone()?)?;
            rustix::fs::mkdirat(tmp.directory(), "files", Mode::RWXU)?;
            let files = staging::open_directory(tmp.directory(), "files")?;
            Ok((tmp, files))
        };
        let (tmp, files) = stage().map_err(self.io("write to", "tmp"))?;
        let path = self.path(layer_name(layer));
        Ok(LayerClaim::Mine(LayerStaging { digest: *layer, tmp, files, layers, path, _claim: claim, in_use }))
    }

    pub(super) fn use_layers(&self) -> Result<FileLock, CacheError> {
        let locks = self.directory("locks")?;
        FileLock::wait(locks.as_fd(), LAYERS_IN_USE, Hold::Shared, &mut || ()).map_err(self.io("lock", "locks"))
    }

    /// The layer, or the lock back if there is none that can be relied on.
    fn open_layer(&self, layer: &Digest, in_use: FileLock) -> io::Result<Result<StoredLayer, FileLock>> {
        let directory = match staging::open_directory(self.store.as_fd(), &layer_name(layer)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Err(in_use)),
            opened => opened?,
        };
        match read_meta(directory.as_fd())? {
            Some(meta) if meta.digest == *layer => Ok(Ok(StoredLayer(Arc::new(OpenLayer { directory, meta, _in_use: in_use })))),
            _ => Ok(Err(in_use)),
        }
    }
}

/// What is known about a layer; `None` if it cannot be relied on.
pub(super) fn read_meta(directory: BorrowedFd<'_>) -> io::Result<Option<LayerMeta>> {
    let json = match read_file(directory, "meta.json") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let meta = serde_json::from_slice::<LayerMeta>(&json).ok();
    let durable = || rustix::fs::statat(directory, "durable", rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok();
    Ok(meta.filter(|meta| durable() || (meta.boot.is_some() && meta.boot == boot_id())))
}

pub(super) fn layer_name(layer: &Digest) -> String {
    format!("layers/{}", layer.hex())
}

/// The kernel's id of this boot, if it gives one.
fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim_end().to_owned())
}
