//! An image that must be signed: what the signatures say is wanted by its digest, before anything is looked up or pulled.

use chrono::SecondsFormat;

use super::{PullOptions, PullPolicy};
use crate::digest::Digest;
use crate::lock::{LockError, LockName, Locked, PinTrust};
use crate::reference::{ImageReference, RegistryReference};
use crate::source::repository::{Purpose, Repository};
use crate::source::{Notes, SourceError};
use crate::trust::cosign::{self, CosignError, SignerKey};
use crate::trust::dct::{self, DctError, DctOptions, SignedRepository};
use crate::trust::{KeyId, TrustMode, probe};

/// Who must have signed an image.
#[derive(Debug, Clone)]
pub enum Required {
    /// The publisher, by Docker Content Trust.
    Dct(DctOptions),
    /// The holder of a key, with a signature in the registry.
    Cosign(SignerKey),
}

/// Why an image is not known to be signed.
#[derive(Debug, thiserror::Error)]
pub enum RequireError {
    /// No image of a registry.
    #[error("`{0}` is no image of a registry, and only those are signed")]
    NotOfRegistry(String),
    /// A runtime name that no lock file knows.
    #[error("no lock file names the runtime `{0}` for this platform")]
    UnknownRuntime(String),
    /// A lock file is unreadable.
    #[error("cannot use the lock files")]
    Lock(#[source] LockError),
    /// Docker Content Trust does not prove it.
    #[error("`{reference}` is not known to be signed")]
    Dct {
        /// The image.
        reference: String,
        /// Why not.
        source: Box<DctError>,
    },
    /// No signature by that key.
    #[error("`{reference}` is not known to be signed by that key")]
    Cosign {
        /// The image.
        reference: String,
        /// Why not.
        source: Box<CosignError>,
    },
    /// The registry does not say what the tag means.
    #[error("cannot tell what `{reference}` is")]
    Source {
        /// The image.
        reference: String,
        /// Why.
        source: Box<SourceError>,
    },
    /// What is signed is something else than what a lock file pins.
    #[error("`{reference}` is pinned to {locked}, but signed is {signed}")]
    Pinned {
        /// The image.
        reference: String,
        /// What the lock file says.
        locked: Digest,
        /// The platform manifest that the signature leads to.
        signed: Digest,
    },
}

impl RequireError {
    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotOfRegistry(_) => Some("leave `--require-trust` out".to_owned()),
            Self::UnknownRuntime(_) => Some("write the image in full, or name it in a lock file with `undocked lock add`".to_owned()),
            Self::Dct { source, .. } => source.hint(),
            Self::Cosign { source, .. } => source.hint(),
            Self::Source { source, .. } => source.hint(),
            Self::Pinned { reference, .. } => Some(format!("if the change is wanted: `undocked trust lock {reference}`")),
            Self::Lock(_) => None,
        }
    }
}

/// An image with what is signed of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusted {
    /// The image by the digest that is signed.
    pub reference: RegistryReference,
    /// The size of what that digest names, where it is signed, too.
    pub size: Option<u64>,
    /// Why it is believed.
    pub trust: PinTrust,
    /// The name, without a digest of its own, by which lock files know it.
    pub name: String,
    /// The verified pin of the lock files, which the image must not contradict.
    pub locked: Option<Digest>,
}

impl Trusted {
    /// Whether the platform manifest that the signature leads to is the one that is locked.
    pub fn check(&self, manifest: &Digest) -> Result<(), RequireError> {
        match self.locked.filter(|locked| locked != manifest) {
            Some(locked) => Err(RequireError::Pinned { reference: self.name.clone(), locked, signed: *manifest }),
            None => Ok(()),
        }
    }
}

/// What is signed of an image. A verified pin that was made from the same kind of signature is enough, unless the policy is to ask anew: then nobody is asked.
pub async fn trusted(
    image: &ImageReference,
    required: &Required,
    options: &PullOptions,
    notes: Notes<'_>,
) -> Result<Trusted, RequireError> {
    let (reference, locked) = named(image, options)?;
    let pin = locked.and_then(|locked| locked.verified);
    let name = reference.without_digest().unwrap_or_else(|| reference.clone()).to_string();
    if let Some(pin) = &pin
        && reference.digest().is_none()
        && options.policy != PullPolicy::Always
        && let Some(trust) = pin.trust.as_ref().filter(|trust| does(trust, required))
    {
        let reference = reference.with_digest(pin.manifest);
        return Ok(Trusted { reference, size: None, trust: trust.clone(), name, locked: Some(pin.manifest) });
    }
    let shown = reference.to_string();
    let (digest, size, trust) = match required {
        Required::Dct(dct) => {
            let failed = |source| RequireError::Dct { reference: shown.clone(), source: Box::new(source) };
            let signed = dct::signed_in(&reference, dct, &options.access, notes).await.map_err(failed)?;
            let tag = signed.resolve(&reference).map_err(failed)?;
            notes(&proved(&shown, &tag.digest, &signed));
            (tag.digest, Some(tag.size), dct_trust(&signed, tag.digest))
        }
        Required::Cosign(key) => {
            let signed = signed_by_key(&reference, key, options, notes).await?;
            notes(&format!("`{shown}` is signed as {signed} by the key {}", key.fingerprint()));
            (signed, None, PinTrust::Cosign { key: *key.fingerprint(), signed })
        }
    };
    let locked = pin.filter(|_| reference.digest().is_none()).map(|pin| pin.manifest);
    Ok(Trusted { reference: reference.with_digest(digest), size, trust, name, locked })
}

/// The reference that is meant, and what the lock files say of it.
fn named(image: &ImageReference, options: &PullOptions) -> Result<(RegistryReference, Option<Locked>), RequireError> {
    let find = |name: &LockName<'_>| options.locks.find(name, &options.platform).map_err(RequireError::Lock);
    match image {
        ImageReference::Runtime(runtime) => {
            let locked = find(&LockName::Runtime(runtime))?.ok_or_else(|| RequireError::UnknownRuntime(runtime.to_string()))?;
            Ok((locked.image.reference.clone(), Some(locked)))
        }
        ImageReference::Registry(reference) if reference.digest().is_some() => Ok((reference.clone(), None)),
        ImageReference::Registry(reference) => {
            // As without a signature: a bare name is a runtime where a lock file says so.
            let runtime = reference.bare_name().and_then(|name| name.parse().ok());
            if let Some(locked) = runtime.as_ref().map(|runtime| find(&LockName::Runtime(runtime))).transpose()?.flatten() {
                return Ok((locked.image.reference.clone(), Some(locked)));
            }
            Ok((reference.clone(), find(&LockName::Reference(reference))?))
        }
        other => Err(RequireError::NotOfRegistry(other.to_string())),
    }
}

/// Whether a pin was made from the kind of signature that is wanted.
fn does(trust: &PinTrust, required: &Required) -> bool {
    match (trust, required) {
        (PinTrust::Dct { root_key, mode, .. }, Required::Dct(DctOptions { mode: wanted, roots, .. })) => {
            let is_root = roots.is_empty() || root_key.parse().is_ok_and(|root: KeyId| roots.contains(&root));
            is_root && (*wanted != Some(TrustMode::Strict) || mode == "strict")
        }
        (PinTrust::Cosign { key, .. }, Required::Cosign(wanted)) => key == wanted.fingerprint(),
        _ => false,
    }
}

/// The details of a pin that is made from what is signed.
pub fn dct_trust(signed: &SignedRepository, digest: Digest) -> PinTrust {
    let first = |keys: &[KeyId]| keys.first().map(ToString::to_string).unwrap_or_default();
    PinTrust::Dct {
        root_key: first(&signed.root_keys),
        repository_key: first(&signed.repository_keys),
        signed: digest,
        targets: signed.targets_digest,
        targets_version: signed.targets_version,
        expires: signed.targets_expire.to_rfc3339_opts(SecondsFormat::Secs, true),
        mode: signed.evidence.mode.to_string(),
    }
}

/// What was proved and what was not, on one line.
fn proved(reference: &str, digest: &Digest, signed: &SignedRepository) -> String {
    let not_proved = signed.evidence.not_proved();
    let not_proved = if not_proved.is_empty() { String::new() } else { format!(". Not proved: {}", not_proved.join("; ")) };
    format!("`{reference}` is signed as {digest}. Proved: {}{not_proved}", signed.evidence.proved().join("; "))
}

/// The digest under which the image is signed: the one that its name means, as cosign has it, else that of the platform's manifest in an index.
async fn signed_by_key(
    reference: &RegistryReference,
    key: &SignerKey,
    options: &PullOptions,
    notes: Notes<'_>,
) -> Result<Digest, RequireError> {
    let shown = || reference.to_string();
    let of_source = |source| RequireError::Source { reference: shown(), source: Box::new(source) };
    let repository = Repository::open(reference, &options.access, Purpose::Pull, notes).map_err(of_source)?;
    let name = dct::repository_of(reference);
    let digest = match reference.digest() {
        Some(digest) => *digest,
        None => repository.resolve(reference.tag().unwrap_or("latest")).await.map_err(of_source)?,
    };
    let failed = match cosign::verify(&repository, &name, &digest, key).await {
        Ok(()) => return Ok(digest),
        Err(error @ CosignError::Source { .. }) => return Err(RequireError::Cosign { reference: shown(), source: Box::new(error) }),
        Err(error) => RequireError::Cosign { reference: shown(), source: Box::new(error) },
    };
    let Some(digest) = probe::manifest_of(&repository, &digest, &options.platform).await.map_err(of_source)? else { return Err(failed) };
    match cosign::verify(&repository, &name, &digest, key).await {
        Ok(()) => Ok(digest),
        Err(_) => Err(failed),
    }
}
