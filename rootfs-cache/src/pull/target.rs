//! Which image a reference means once the lock files are heard, and what it must contain.

use std::path::absolute;

use super::{KeepBlobs, PullError, PullOptions, PullPolicy};
use crate::digest::Digest;
use crate::lock::{LockName, Locked, PinTrust};
use crate::reference::{ImageReference, LayoutReference, Platform, RegistryReference, RuntimeId};
use crate::rootfs::Rootfs;
use crate::source::{Notes, RemoteImage, Source, SourceError};
use crate::store::Cache;

/// Where the image is, and what binds us.
pub(super) struct Target<'a> {
    /// The name under which the cache remembers it, in full.
    pub(super) name: String,
    platform: &'a Platform,
    place: Place,
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
        let target = Self { name, platform: &options.platform, place };
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
        match self.cached(cache)? {
            Some(rootfs) if options.policy == PullPolicy::Never || self.is_complete(cache, &rootfs, options)? => Ok(Some(rootfs)),
            _ => Ok(None),
        }
    }

    /// Whether the cache holds what is to be kept beside the image.
    pub(super) fn is_complete(&self, cache: &Cache, rootfs: &Rootfs, options: &PullOptions) -> Result<bool, PullError> {
        let in_cache = |source| PullError::Cache { reference: self.name.clone(), source };
        match options.blobs {
            KeepBlobs::Yes => cache.has_blobs_of(rootfs.manifest_digest()).map_err(in_cache),
            KeepBlobs::No => Ok(true),
        }
    }

    /// Whether the cache's answer does not do. A digest never means anything else, and a layout is read in any case.
    fn must_be_asked_for(&self, policy: PullPolicy) -> bool {
        policy == PullPolicy::Always && matches!(self.place, Place::Tag(..))
    }

    /// The image, if the cache holds it. Asks no registry.
    fn cached(&self, cache: &Cache) -> Result<Option<Rootfs>, PullError> {
        let in_cache = |source| PullError::Cache { reference: self.name.clone(), source };
        let known = match &self.place {
            Place::Layout(layout) => {
                let Source::Layout(layout) = Source::layout(layout) else {
                    return Ok(None);
                };
                Some(layout.platform_manifest(self.platform).map_err(|source| self.failed(source))?)
            }
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

    pub(super) fn source<'n>(&self, options: &PullOptions, notes: Notes<'n>) -> Result<Source<'n>, PullError> {
        match &self.place {
            Place::Layout(layout) => Ok(Source::layout(layout)),
            Place::Digest(reference, _) | Place::Tag(reference, _) => {
                Source::registry(reference, &options.access, notes).map_err(|source| self.failed(source))
            }
        }
    }

    /// The image that the source has for the name; refused where a verified pin says otherwise.
    pub(super) async fn resolve(&self, source: &Source<'_>) -> Result<RemoteImage, PullError> {
        let failed = |error| self.failed(error);
        let digest = match (&self.place, self.locked_digest()) {
            (Place::Digest(_, digest), _) => *digest,
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

fn absolute_layout(layout: &LayoutReference) -> String {
    let directory = absolute(layout.directory()).unwrap_or_else(|_| layout.directory().to_owned());
    let name = layout.name().map(|name| format!(":{name}")).unwrap_or_default();
    format!("oci:{}{name}", directory.display())
}
