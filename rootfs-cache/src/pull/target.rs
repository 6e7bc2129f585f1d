//! Which image a reference means once the lock files are heard, and what it must contain.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, absolute};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::task::spawn_blocking;

use super::layers::finished;
use super::{KeepBlobs, PullError, PullOptions, PullPolicy};
use crate::digest::Digest;
use crate::lock::{LockName, Locked, PinTrust};
use crate::reference::{ImageReference, LayoutForm, LayoutReference, Platform, RegistryReference, RuntimeId};
use crate::rootfs::Rootfs;
use crate::source::{LayoutSource, Notes, RemoteImage, Source, SourceError};
use crate::store::{Cache, CacheError};

/// Where the image is, and what binds us.
pub(super) struct Target<'a> {
    /// The name under which the cache remembers it, in full.
    pub(super) name: String,
    platform: &'a Platform,
    place: Place,
    /// Of what the digest names.
    signed_size: Option<u64>,
}

enum Place {
    Layout(LayoutReference),
    /// A digest was written: that is all there is to say.
    Digest(RegistryReference, Digest),
    /// A tag, and what the lock files say of it.
    Tag(RegistryReference, Option<Box<Locked>>),
}

impl<'a> Target<'a> {
    pub(super) fn of(reference: &ImageReference, options: &'a PullOptions) -> Result<Self, PullError> {
        let place = match reference {
            ImageReference::Host => return Err(PullError::Host),
            ImageReference::Layout(layout) => {
                options.locks.check_chosen().map_err(PullError::Lock)?;
                Place::Layout(layout.clone())
            }
            ImageReference::Runtime(runtime) => {
                locked_runtime(runtime, options)?.ok_or_else(|| PullError::UnknownRuntime(runtime.to_string()))?
            }
            ImageReference::Registry(reference) => match reference.digest() {
                Some(digest) => Place::Digest(reference.clone(), *digest),
                None => tagged(reference, options)?,
            },
        };
        let name = match &place {
            // The cache is shared by all working directories.
            Place::Layout(layout) => absolute_layout(layout),
            Place::Digest(reference, _) | Place::Tag(reference, _) => reference.to_string(),
        };
        let target = Self { name, platform: &options.platform, place, signed_size: options.signed_size };
        let is_pinned = matches!(target.place, Place::Digest(..)) || target.locked_digest().is_some();
        if options.frozen && !is_pinned {
            return Err(PullError::Frozen { reference: target.name, platform: options.platform.clone() });
        }
        Ok(target)
    }

    /// What the lock files say.
    pub(super) fn locked(&self) -> Option<&Locked> {
        match &self.place {
            Place::Tag(_, locked) => locked.as_deref(),
            _ => None,
        }
    }

    fn locked_digest(&self) -> Option<Digest> {
        Some(self.locked()?.verified.as_ref()?.manifest)
    }

    /// The image, if the cache's answer does.
    pub(super) fn found(&self, cache: &Cache, options: &PullOptions) -> Result<Option<Rootfs>, PullError> {
        if self.must_be_asked_for(options.policy) {
            return Ok(None);
        }
        let in_cache = |source| PullError::Cache { reference: self.name.clone(), source };
        match self.cached(cache)? {
            Some(rootfs) if !self.is_signed_size(cache, &rootfs).map_err(in_cache)? => Ok(None),
            Some(rootfs) if options.policy == PullPolicy::Never || is_complete(cache, &rootfs, options).map_err(in_cache)? => {
                Ok(Some(rootfs))
            }
            _ => Ok(None),
        }
    }

    /// Whether a cached manifest has the size that is signed. That of an index is not kept, and was compared when it was read.
    fn is_signed_size(&self, cache: &Cache, rootfs: &Rootfs) -> Result<bool, CacheError> {
        let (Some(size), Place::Digest(_, digest)) = (self.signed_size, &self.place) else { return Ok(true) };
        if rootfs.manifest_digest() != digest {
            return Ok(true);
        }
        Ok(cache.documents(digest)?.is_some_and(|documents| documents.manifest.len() as u64 == size))
    }

    /// Whether the cache's answer does not do. A digest never means anything else, and a layout is read in any case.
    fn must_be_asked_for(&self, policy: PullPolicy) -> bool {
        policy == PullPolicy::Always && matches!(self.place, Place::Tag(..))
    }

    /// The image, if the cache holds it. Asks no registry.
    fn cached(&self, cache: &Cache) -> Result<Option<Rootfs>, PullError> {
        let in_cache = |source| PullError::Cache { reference: self.name.clone(), source };
        let known = match &self.place {
            Place::Layout(layout) if layout.form() == LayoutForm::Folder => {
                Some(LayoutSource::folder(layout).platform_manifest(self.platform).map_err(|source| self.failed(source))?)
            }
            Place::Layout(archive) => return self.read_before(archive, cache),
            Place::Digest(_, digest) => Some(*digest),
            Place::Tag(..) => self.locked_digest(),
        };
        if let Some(digest) = known {
            // A digest may lead to an image of another platform than the one wanted, which the source then says.
            let image =
                cache.image(&digest).map_err(in_cache)?.filter(|image| image.config().architecture == self.platform.architecture.as_str());
            // A digest that the user wrote may be an index's: then the name leads to the image.
            if image.is_some() || !matches!(self.place, Place::Digest(..)) {
                return Ok(image);
            }
        }
        match cache.named(&self.name, &self.platform.to_string()).map_err(in_cache)? {
            Some(named) => cache.image(&named.manifest).map_err(in_cache),
            None => Ok(None),
        }
    }

    /// What an archive held when it was last read, if nobody has touched it since: one that is compressed would have to be inflated anew for every run.
    fn read_before(&self, archive: &LayoutReference, cache: &Cache) -> Result<Option<Rootfs>, PullError> {
        let in_cache = |source| PullError::Cache { reference: self.name.clone(), source };
        let Some(named) = cache.named(&self.name, &self.platform.to_string()).map_err(in_cache)? else {
            return Ok(None);
        };
        if is_older(archive.path(), named.pulled) { cache.image(&named.manifest).map_err(in_cache) } else { Ok(None) }
    }

    /// Opens where the image is, which may block.
    pub(super) async fn source<'n>(&self, cache: &Arc<Cache>, options: &PullOptions, notes: Notes<'n>) -> Result<Source<'n>, PullError> {
        match &self.place {
            Place::Layout(layout) => {
                let (layout, cache) = (layout.clone(), Arc::clone(cache));
                let open = move || Source::local(&layout, &|| cache.nameless_file());
                finished(spawn_blocking(open)).await.map_err(|source| self.failed(source))
            }
            Place::Digest(reference, _) | Place::Tag(reference, _) => {
                Source::registry(reference, &options.access, notes).map_err(|source| self.failed(source))
            }
        }
    }

    /// The image that the source has for the name; refused where a verified pin says otherwise.
    pub(super) async fn resolve(&self, source: &Source<'_>) -> Result<RemoteImage, PullError> {
        let failed = |error| self.failed(error);
        let digest = match (&self.place, self.locked_digest()) {
            (Place::Digest(_, digest), _) => {
                return source.image_of_size(*digest, self.signed_size, self.platform).await.map_err(failed);
            }
            (_, Some(locked)) => return self.resolve_locked(source, locked).await,
            _ => source.current(self.platform).await.map_err(failed)?,
        };
        source.image(digest, self.platform).await.map_err(failed)
    }

    /// A tag that means something else than the pin is refused, though the pinned manifest may still be there: whoever moved it may have had a reason that
    /// the user should hear of. Where the tag is gone altogether, the pin is enough.
    async fn resolve_locked(&self, source: &Source<'_>, locked: Digest) -> Result<RemoteImage, PullError> {
        let found = match source.current(self.platform).await {
            Err(SourceError::NotFound { .. }) => locked,
            found => found.map_err(|source| self.failed(source))?,
        };
        let found = source.image(found, self.platform).await.map_err(|source| self.failed(source))?;
        if found.digest == locked {
            return Ok(found);
        }
        let trust = self.locked().and_then(|locked| locked.verified.as_ref()?.trust.clone());
        let first_seen = match trust {
            Some(PinTrust::FirstUse { digest, time }) if digest == locked => Some(time),
            _ => None,
        };
        Err(PullError::Pinned { reference: self.name.clone(), first_seen, locked, found: found.digest })
    }

    fn failed(&self, source: SourceError) -> PullError {
        PullError::Source { reference: self.name.clone(), source }
    }
}

/// Whether the cache holds what is to be kept beside the image.
pub(super) fn is_complete(cache: &Cache, rootfs: &Rootfs, options: &PullOptions) -> Result<bool, CacheError> {
    match options.blobs {
        KeepBlobs::Yes => cache.has_blobs_of(rootfs.manifest_digest()),
        KeepBlobs::No => Ok(true),
    }
}

fn locked_runtime(runtime: &RuntimeId, options: &PullOptions) -> Result<Option<Place>, PullError> {
    let locked = options.locks.find(&LockName::Runtime(runtime), &options.platform).map_err(PullError::Lock)?;
    Ok(locked.map(|locked| Place::Tag(locked.image.reference.clone(), Some(Box::new(locked)))))
}

/// A bare name without the shape of a runtime is one all the same where a lock file says so.
fn tagged(reference: &RegistryReference, options: &PullOptions) -> Result<Place, PullError> {
    let bare: Option<RuntimeId> = reference.bare_name().and_then(|name| name.parse().ok());
    if let Some(place) = bare.map(|name| locked_runtime(&name, options)).transpose()?.flatten() {
        return Ok(place);
    }
    let locked = options.locks.find(&LockName::Reference(reference), &options.platform).map_err(PullError::Lock)?;
    Ok(Place::Tag(reference.clone(), locked.map(Box::new)))
}

/// Whether the file is the same as it was then, by the time that no program can set. One that was changed within the same seconds counts as changed.
fn is_older(path: &Path, then: SystemTime) -> bool {
    let then = then.duration_since(UNIX_EPOCH).map_or(0, |then| then.as_secs());
    std::fs::metadata(path).is_ok_and(|file| file.is_file() && u64::try_from(file.ctime()).is_ok_and(|changed| changed + 1 < then))
}

fn absolute_layout(layout: &LayoutReference) -> String {
    let path = absolute(layout.path()).unwrap_or_else(|_| layout.path().to_owned());
    layout.at(path).to_string()
}
