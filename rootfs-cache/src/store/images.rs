//! Images of the store: looking them up, publishing and listing them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Timespec, Timestamps, UTIME_NOW};
use serde::{Deserialize, Serialize};

use super::layers::StoredLayer;
use super::locks::{Hold, flock, is_at, try_flock};
use super::staging::{self, TempDir};
use super::{Cache, CacheError, read_file, stored_digests, write_file};
use crate::digest::Digest;
use crate::rootfs::{self, ImageConfig, Rootfs};

/// How stale `last_used` may be: writing it at every run would cost more than it tells.
const LAST_USED_STEP: Duration = Duration::from_secs(3600);

/// Layers of so many bytes are worth a thread that has them written while the tree is built.
const WRITE_BACK_BYTES: u64 = 64 << 20;

/// An image to be published. Its digest is that of the manifest's bytes.
#[derive(Debug)]
pub struct NewImage {
    /// The platform manifest, byte for byte.
    pub manifest: Vec<u8>,
    /// The image's config, byte for byte.
    pub config: Vec<u8>,
    /// Its layers, bottom first. One layer may stand there twice.
    pub layers: Vec<StoredLayer>,
}

/// One line of `undocked images`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSummary {
    /// Digest of the platform manifest.
    pub manifest: Digest,
    /// Digest of the config: docker's image ID.
    pub id: Digest,
    /// When its config says it was made, as written there.
    pub created: Option<String>,
    /// References (with their platforms) that meant it when they were last pulled, sorted.
    pub names: Vec<(String, String)>,
    /// Number of layers.
    pub layers: usize,
    /// Inflated bytes of all its layers, shared ones included.
    pub bytes: u64,
    /// When a run last used it, to the hour.
    pub last_used: SystemTime,
    /// Whether a run holds it now.
    pub in_use: bool,
}

/// What an image was published with, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageDocuments {
    /// The platform manifest.
    pub manifest: Vec<u8>,
    /// The image's config: its digest is docker's image ID.
    pub config: Vec<u8>,
}

/// One line of `layers.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    pub(super) digest: Digest,
    pub(super) diff_id: Digest,
    pub(super) bytes: u64,
}

/// The one field of a config that only a list of images shows.
#[derive(Deserialize)]
struct Created {
    created: Option<String>,
}

impl Cache {
    /// A published image, marked as in use until the answer is dropped. Under a millisecond.
    pub fn image(&self, manifest: &Digest) -> Result<Option<Rootfs>, CacheError> {
        let name = image_name(manifest);
        let Some(directory) = self.hold_image(&name).map_err(self.io("open", &name))? else {
            return Ok(None);
        };
        let config = read_file(directory.as_fd(), "config.json").map_err(|_| CacheError::Damaged { path: self.path(&name) })?;
        let config = ImageConfig::from_json(&config).map_err(|_| CacheError::Damaged { path: self.path(&name).join("config.json") })?;
        touch_last_used(directory.as_fd());
        Ok(Some(Rootfs::new(self.path(&name).join("rootfs"), *manifest, config, directory)))
    }

    /// Builds the image's tree from its layers and makes it visible, whole and safe on disk. If another process was first, its tree is taken.
    pub fn publish_image(&self, image: NewImage) -> Result<Rootfs, CacheError> {
        let manifest = Digest::of(&image.manifest);
        if let Some(rootfs) = self.image(&manifest)? {
            return Ok(rootfs);
        }
        let config = ImageConfig::from_json(&image.config).map_err(|source| CacheError::Config { image: manifest, source })?;
        let tmp = TempDir::new(self.directory("tmp")?).map_err(self.io("write to", "tmp"))?;
        // The files of large layers are written to disk while the tree is made.
        thread::scope(|scope| {
            if image.layers.iter().map(StoredLayer::bytes).sum::<u64>() >= WRITE_BACK_BYTES {
                let _ = thread::Builder::new().spawn_scoped(scope, || self.write_back());
            }
            rootfs::build(&manifest, &config, &image.layers, tmp.directory())
        })?;
        let records: Vec<LayerRecord> = image
            .layers
            .iter()
            .map(|layer| LayerRecord { digest: *layer.digest(), diff_id: *layer.diff_id(), bytes: layer.bytes() })
            .collect();
        let images = self.directory("images")?;
        let publish = || {
            write_file(tmp.directory(), "manifest.json", &image.manifest)?;
            write_file(tmp.directory(), "config.json", &image.config)?;
            write_file(tmp.directory(), "layers.json", &serde_json::to_vec(&records)?)?;
            write_file(tmp.directory(), "last_used", b"")?;
            // Once for the tree and all its layers, before any of them is relied on after a crash of the machine.
            rustix::fs::syncfs(tmp.directory())?;
            image.layers.iter().try_for_each(StoredLayer::mark_durable)?;
            tmp.publish(images.as_fd(), &manifest.hex())
        };
        match publish() {
            Ok(directory) => {
                let name = image_name(&manifest);
                // From being made to being in use.
                flock(&directory, Hold::Shared).map_err(self.io("lock", &name))?;
                Ok(Rootfs::new(self.path(&name).join("rootfs"), manifest, config, directory))
            }
            Err(source) if matches!(source.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty) => {
                self.image(&manifest)?.ok_or_else(|| self.io("publish", image_name(&manifest))(source))
            }
            Err(source) => Err(self.io("publish", image_name(&manifest))(source)),
        }
    }

    /// All images, most recently used first.
    pub fn images(&self) -> Result<Vec<ImageSummary>, CacheError> {
        let names = self.names()?;
        let directory = self.directory("images")?;
        let mut images = Vec::new();
        for manifest in stored_digests(directory.as_fd()).map_err(self.io("read", "images"))? {
            let (Some(layers), Some(documents)) = (self.layers_of(&manifest)?, self.documents(&manifest)?) else { continue };
            images.push(ImageSummary {
                manifest,
                id: Digest::of(&documents.config),
                created: serde_json::from_slice::<Created>(&documents.config).ok().and_then(|config| config.created),
                names: names
                    .iter()
                    .filter(|(_, name)| name.manifest == manifest)
                    .map(|(_, name)| (name.reference.clone(), name.platform.clone()))
                    .collect(),
                layers: layers.len(),
                bytes: layers.iter().map(|layer| layer.bytes).sum(),
                last_used: last_used(directory.as_fd(), &manifest),
                in_use: self.is_in_use(&manifest).map_err(self.io("lock", image_name(&manifest)))?,
            });
        }
        images.sort_by_key(|image| std::cmp::Reverse(image.last_used));
        Ok(images)
    }

    /// The manifest and config of an image; `None` if it is not, or no longer, there.
    pub fn documents(&self, manifest: &Digest) -> Result<Option<ImageDocuments>, CacheError> {
        let read = |file: &str| {
            let name = format!("{}/{file}", image_name(manifest));
            match read_file(self.store.as_fd(), &name) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(self.io("read", name)(error)),
            }
        };
        Ok(read("manifest.json")?.zip(read("config.json")?).map(|(manifest, config)| ImageDocuments { manifest, config }))
    }

    /// Docker's ID of an image: the digest of its config.
    pub fn image_id(&self, manifest: &Digest) -> Result<Option<Digest>, CacheError> {
        Ok(self.documents(manifest)?.map(|documents| Digest::of(&documents.config)))
    }

    /// Names of all images that have a layer, those with the fewest layers first.
    pub(crate) fn names_with_layer(&self, layer: &Digest) -> Result<Vec<String>, CacheError> {
        let mut found = Vec::new();
        for (_, name) in self.names()? {
            let layers = self.layers_of(&name.manifest)?.unwrap_or_default();
            if layers.iter().any(|known| known.digest == *layer) {
                found.push((layers.len(), name.reference));
            }
        }
        found.sort();
        Ok(found.into_iter().map(|(_, name)| name).collect())
    }

    /// Whether an image seems to have been made by a build here: its last layer's blob is kept, or another image with a name has the very same layers.
    pub(crate) fn was_built_here(&self, manifest: &Digest) -> Result<bool, CacheError> {
        let Some(layers) = self.layers_of(manifest)? else { return Ok(false) };
        if let Some(last) = layers.last()
            && self.blob(&last.digest)?.is_some()
        {
            return Ok(true);
        }
        let digests = |layers: &[LayerRecord]| layers.iter().map(|layer| layer.digest).collect::<Vec<_>>();
        for (_, name) in self.names()?.into_iter().filter(|(_, name)| name.manifest != *manifest) {
            if self.layers_of(&name.manifest)?.is_some_and(|own| digests(&own) == digests(&layers)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The layers of an image; `None` if it is not, or no longer, there.
    pub(super) fn layers_of(&self, manifest: &Digest) -> Result<Option<Vec<LayerRecord>>, CacheError> {
        let name = format!("{}/layers.json", image_name(manifest));
        match read_file(self.store.as_fd(), &name) {
            Ok(json) => serde_json::from_slice(&json).map(Some).map_err(|_| CacheError::Damaged { path: self.path(name) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.io("read", name)(error)),
        }
    }

    fn is_in_use(&self, manifest: &Digest) -> io::Result<bool> {
        match staging::open_directory(self.store.as_fd(), &image_name(manifest)) {
            Ok(directory) => Ok(!try_flock(&directory, Hold::Exclusive)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The image's directory with a shared lock on it. Who removes an image locks it exclusively, and renames it before letting go.
    pub(super) fn hold_image(&self, name: &str) -> io::Result<Option<OwnedFd>> {
        loop {
            let directory = match staging::open_directory(self.store.as_fd(), name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => opened?,
            };
            flock(&directory, Hold::Shared)?;
            if is_at(&directory, self.store.as_fd(), name)? {
                return Ok(Some(directory));
            }
        }
    }
}

/// When the image was last used; 1970 if nobody knows.
pub(super) fn last_used(images: BorrowedFd<'_>, manifest: &Digest) -> SystemTime {
    let name: PathBuf = [manifest.hex().as_str(), "last_used"].iter().collect();
    rustix::fs::statat(images, name, AtFlags::SYMLINK_NOFOLLOW).map_or(UNIX_EPOCH, |stat| modified(&stat))
}

/// Best effort: a cache that cannot be written to can still be run from.
fn touch_last_used(directory: BorrowedFd<'_>) {
    let fresh = rustix::fs::statat(directory, "last_used", AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| modified(&stat).elapsed().is_ok_and(|age| age < LAST_USED_STEP));
    if !fresh {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        let _ = rustix::fs::utimensat(directory, "last_used", &times, AtFlags::SYMLINK_NOFOLLOW);
    }
}

fn modified(stat: &rustix::fs::Stat) -> SystemTime {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    UNIX_EPOCH + Duration::from_secs(seconds)
}

pub(super) fn image_name(manifest: &Digest) -> String {
    format!("images/{}", manifest.hex())
}
