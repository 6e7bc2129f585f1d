//! From an image reference to a root file system: what the cache and the lock files say, and, where that is not enough, a pull.
//!
//! [`lookup`] asks the cache alone and is what a run of a cached image costs. [`obtain`] pulls. Knows nothing of Lambda.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::digest::Digest;
use crate::lock::{LockError, LockFiles, Locked, LockedImage, edit};
use crate::reference::{ImageReference, Platform};
use crate::rootfs::Rootfs;
use crate::source::{Notes, RegistryAccess, RemoteImage, Source, SourceError};
use crate::store::{Cache, CacheError, NewImage};
use crate::unpack::{Limits, UnpackError};

mod layers;
mod load;
mod target;
pub mod trusted;

use layers::LayerPull;
pub use load::{ArchiveInput, LoadedImage, load};
use target::Target;

/// When to ask where the image comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// When the cache does not hold the image.
    #[default]
    Missing,
    /// When the cache does not hold it, or it is a tag: what that means now is wanted.
    Always,
    /// Never.
    Never,
}

/// Whether the compressed blobs of layers stay in the cache beside what was unpacked from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeepBlobs {
    /// Every layer's blob, so that the image can be saved and pushed without its registry. Those that are missing are fetched.
    Yes,
    /// They go as they come.
    #[default]
    No,
}

/// How to find an image, beside its reference.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// When to ask where the image comes from.
    pub policy: PullPolicy,
    /// The platform wanted.
    pub platform: Platform,
    /// How registries are reached.
    pub access: RegistryAccess,
    /// The lock files that name runtimes and pin references.
    pub locks: LockFiles,
    /// Refuse whatever has no verified pin and no digest of its own.
    pub frozen: bool,
    /// What a layer may cost.
    pub limits: Limits,
    /// Whether blobs are kept.
    pub blobs: KeepBlobs,
    /// How many bytes the manifest or index has, where the image is named by its digest and its publisher has signed the size, too.
    pub signed_size: Option<u64>,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self {
            policy: PullPolicy::default(),
            platform: Platform::of_host(),
            access: RegistryAccess::default(),
            locks: LockFiles::default(),
            frozen: false,
            limits: Limits::default(),
            blobs: KeepBlobs::default(),
            signed_size: None,
        }
    }
}

/// Who is told how a pull goes. Called from the task that runs [`obtain`].
pub type PullObserver<'a> = dyn Fn(PullEvent<'_>) + Send + Sync + 'a;

/// How a pull goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullEvent<'a> {
    /// The manifest is being asked for.
    Resolving {
        /// The image, in full.
        reference: &'a str,
    },
    /// The manifest and config are there.
    Resolved {
        /// The platform manifest.
        manifest: Digest,
        /// Layers of the image.
        layers: usize,
    },
    /// A layer was in the cache.
    LayerPresent {
        /// Its blob digest.
        digest: Digest,
    },
    /// Another process is making the layer.
    LayerWaiting {
        /// Its blob digest.
        digest: Digest,
    },
    /// A layer is being fetched and unpacked.
    LayerStarted {
        /// Its blob digest.
        digest: Digest,
        /// Compressed size.
        size: u64,
    },
    /// More of a layer has come.
    LayerProgress {
        /// Its blob digest.
        digest: Digest,
        /// Compressed bytes so far.
        bytes: u64,
    },
    /// A layer is in the cache now.
    LayerDone {
        /// Its blob digest.
        digest: Digest,
    },
    /// Something the user should read: a warning, or what was pinned.
    Note(&'a str),
    /// The image is in the cache.
    Done {
        /// The platform manifest.
        manifest: Digest,
    },
}

/// Why there is no root file system.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// `host` was asked for, which is no image.
    #[error("`host` is the machine's own userland and not an image")]
    Host,
    /// A runtime name that no lock file knows.
    #[error("no lock file names the runtime `{0}` for this platform")]
    UnknownRuntime(String),
    /// A lock file is unreadable.
    #[error("cannot use the lock files")]
    Lock(#[source] LockError),
    /// `--frozen` and no verified pin.
    #[error("`{reference}` has no verified pin for {platform}, and `--frozen` allows nothing else")]
    Frozen {
        /// The image.
        reference: String,
        /// The platform.
        platform: Platform,
    },
    /// The registry holds something else than the lock file.
    #[error("`{reference}` is pinned to {locked}{}, but the registry has {found}", since(first_seen.as_deref()))]
    Pinned {
        /// The image.
        reference: String,
        /// When it was first used, if nothing else speaks for the pin.
        first_seen: Option<String>,
        /// What the lock file says.
        locked: Digest,
        /// What the registry says.
        found: Digest,
    },
    /// Not in the cache, and `--pull never`.
    #[error("`{0}` is not in the cache, and `--pull never` forbids to fetch it")]
    NotCached(String),
    /// The registry or layout did not give it.
    #[error("cannot pull `{reference}`")]
    Source {
        /// The image.
        reference: String,
        /// Why.
        source: SourceError,
    },
    /// A layer could not be unpacked.
    #[error("cannot unpack `{reference}`")]
    Unpack {
        /// The image.
        reference: String,
        /// Why.
        source: UnpackError,
    },
    /// A layer's tar is not what the image's config says.
    #[error("layer {layer} of `{reference}` unpacks to {found}, but the image config says {wanted}")]
    DiffId {
        /// The image.
        reference: String,
        /// The layer's blob digest.
        layer: Digest,
        /// The diff ID in the config.
        wanted: Digest,
        /// The diff ID of what came.
        found: Digest,
    },
    /// The cache failed.
    #[error("cannot use the cache for `{reference}`")]
    Cache {
        /// The image.
        reference: String,
        /// Why.
        source: CacheError,
    },
}

impl PullError {
    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownRuntime(_) => Some("write the image in full, or name it in a lock file with `undocked lock add`".to_owned()),
            Self::Frozen { reference, .. } if reference.starts_with("oci:") => {
                Some("a lock file pins images of registries; a layout folder is what is in it".to_owned())
            }
            Self::Frozen { reference, .. } => Some(format!("`undocked lock add {reference}`, or write the reference with `@sha256:...`")),
            Self::Pinned { reference, locked, .. } => {
                let name = reference.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(reference.as_str(), |(name, _)| name);
                Some(format!("`{name}@{locked}` is what was pinned; if the change is wanted: `undocked lock update {reference}`"))
            }
            Self::NotCached(reference) => Some(format!("`undocked pull {reference}`")),
            Self::Source { source, .. } => source.hint(),
            Self::Unpack { source, .. } => source.hint(),
            Self::Cache { source, .. } => source.hint(),
            Self::DiffId { .. } => Some("the image was built or pushed wrongly".to_owned()),
            Self::Host | Self::Lock(_) => None,
        }
    }
}

fn since(first_seen: Option<&str>) -> String {
    first_seen.map(|time| format!(" since its first use at {time}")).unwrap_or_default()
}

/// The image, if the cache holds it and the lock files agree. Asks no registry: with [`PullPolicy::Always`] a tag gives nothing, nor does an image without
/// the blobs that are to be kept, unless nobody may be asked.
pub fn lookup(cache: &Cache, reference: &ImageReference, options: &PullOptions) -> Result<Option<Rootfs>, PullError> {
    Target::of(reference, options)?.found(cache, options)
}

/// The image: from the cache where the policy allows, else pulled.
///
/// Dropping the future gives the pull up: nothing half-made is left. Needs a Tokio runtime with time and I/O.
pub async fn obtain(
    cache: &Arc<Cache>,
    reference: &ImageReference,
    options: &PullOptions,
    observer: &PullObserver<'_>,
) -> Result<Rootfs, PullError> {
    let target = Target::of(reference, options)?;
    let in_cache = |source| PullError::Cache { reference: target.name.clone(), source };
    if let Some(rootfs) = target.found(cache, options)? {
        return Ok(rootfs);
    }
    if options.policy == PullPolicy::Never {
        return Err(PullError::NotCached(target.name));
    }
    observer(PullEvent::Resolving { reference: &target.name });
    let note = |text: &str| observer(PullEvent::Note(text));
    let source = target.source(cache, options, &note).await?;
    let image = target.resolve(&source).await?;
    let arrival = Arrival { cache, name: &target.name, source: &source, options, observer };
    let rootfs = arrival.bring(&image).await?;
    cache.set_name(&target.name, &options.platform.to_string(), &image.digest).map_err(in_cache)?;
    if let Some(locked) = target.locked() {
        pin_first_use(locked, &image, options, &note);
    }
    observer(PullEvent::Done { manifest: image.digest });
    Ok(rootfs)
}

/// An image on its way from where it is into the cache.
struct Arrival<'a> {
    cache: &'a Arc<Cache>,
    name: &'a str,
    source: &'a Source<'a>,
    options: &'a PullOptions,
    observer: &'a PullObserver<'a>,
}

impl Arrival<'_> {
    async fn bring(&self, image: &RemoteImage) -> Result<Rootfs, PullError> {
        let in_cache = |source| PullError::Cache { reference: self.name.to_owned(), source };
        (self.observer)(PullEvent::Resolved { manifest: image.digest, layers: image.manifest.layers.len() });
        if let Some(rootfs) = self.cache.image(&image.digest).map_err(in_cache)?
            && target::is_complete(self.cache, &rootfs, self.options).map_err(in_cache)?
        {
            return Ok(rootfs);
        }
        let pull = LayerPull {
            reference: self.name,
            cache: self.cache,
            source: self.source,
            limits: &self.options.limits,
            blobs: self.options.blobs,
            observer: self.observer,
            stop: watch::Sender::new(false),
            received: watch::Sender::new(0),
        };
        let layers = pull.all(image).await?;
        let new = NewImage { manifest: image.manifest_bytes.clone(), config: image.config_bytes.clone(), layers };
        let cache = Arc::clone(self.cache);
        layers::finished(spawn_blocking(move || cache.publish_image(new))).await.map_err(in_cache)
    }
}

/// An image that a lock file names without a verified pin is pinned now, in the user's own lock file, and that is said.
fn pin_first_use(locked: &Locked, image: &RemoteImage, options: &PullOptions, note: Notes<'_>) {
    let reference = &locked.image.reference;
    if locked.verified.is_some() {
        return;
    }
    if let Some(unverified) = locked.unverified.as_ref().filter(|unverified| unverified.manifest != image.digest) {
        note(&format!(
            "`{reference}`: the registry has {}, while the lock file's unverified digest is {} ({})",
            image.digest, unverified.manifest, unverified.source
        ));
    }
    let pinned = LockedImage { pin: Some(edit::pin_of_first_use(image)), notes: Vec::new(), ..locked.image.clone() };
    match options.locks.pin_first_use(pinned) {
        Ok(None) => {}
        Ok(Some(path)) => {
            note(&format!("`{reference}` is pinned to {} from now on, in `{}` (trust on first use)", image.digest, path.display()))
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            note(&format!("`{reference}` could not be pinned: {error}{cause}"));
        }
    }
}

#[cfg(test)]
mod tests;
