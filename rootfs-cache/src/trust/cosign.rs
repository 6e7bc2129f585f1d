//! Images that their users have signed with cosign, or anything else that signs as it does: a signature lies in the registry beside the image, under a tag made
//! of its digest, or as a bundle that refers to it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::keys::{KeyError, PublicKey};
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::source::SourceError;
use crate::source::repository::{ManifestName, Repository};

/// What is signed, one layer a signature.
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// What the payload says that it is.
const PAYLOAD_TYPE: &str = "cosign container image signature";
/// How bundles of sigstore are named, whatever their version.
pub(super) const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// The statement that a bundle makes when an image is signed, and nothing else is said of it.
const SIGN_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";
const PAYLOAD_MAX_BYTES: u64 = 1 << 20;
/// Signatures that are looked at.
const SIGNATURES_MAX: usize = 100;

/// The key of whoever signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerKey {
    key: PublicKey,
    fingerprint: Digest,
}

impl SignerKey {
    /// Reads a PEM file with a public key.
    pub fn from_pem(bytes: &[u8]) -> Result<Self, KeyError> {
        PublicKey::from_pem(bytes).map(|(key, fingerprint)| Self { key, fingerprint })
    }

    /// The digest of the key in DER form.
    pub fn fingerprint(&self) -> &Digest {
        &self.fingerprint
    }
}

/// Why an image is not known to be signed.
#[derive(Debug, thiserror::Error)]
pub enum CosignError {
    /// The registry gave something else than an answer.
    #[error("cannot look for signatures of {image}")]
    Source {
        /// The image.
        image: Digest,
        /// Why.
        source: SourceError,
    },
    /// There is no signature at all.
    #[error("{image} has no signature in `{repository}`")]
    None {
        /// The image.
        image: Digest,
        /// The repository.
        repository: String,
    },
    /// There are signatures, and none of them does.
    #[error("{image} has {found} signatures in `{repository}`, but none that holds: {reason}")]
    Wrong {
        /// The image.
        image: Digest,
        /// The repository.
        repository: String,
        /// How many were looked at.
        found: usize,
        /// What is wrong with the last one.
        reason: String,
    },
}

impl CosignError {
    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Source { source, .. } => source.hint(),
            Self::None { repository, .. } => {
                Some(format!("`undocked trust probe {repository}` lists what there is; to sign it: `cosign sign --key`"))
            }
            Self::Wrong { .. } => Some("is it the right key?".to_owned()),
        }
    }
}

#[derive(Deserialize)]
struct SignatureManifest {
    #[serde(default)]
    layers: Vec<SignatureLayer>,
}

#[derive(Deserialize)]
struct SignatureLayer {
    #[serde(rename = "mediaType")]
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: PayloadImage,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct PayloadImage {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: Option<Envelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    subject: Vec<Subject>,
    predicate_type: String,
}

#[derive(Deserialize)]
struct Subject {
    digest: std::collections::BTreeMap<String, String>,
}

/// The tag under which signatures of an image lie.
pub(super) fn tag_of(image: &Digest, suffix: &str) -> String {
    format!("sha256-{}{suffix}", image.hex())
}

/// Checks that the holder of a key has signed an image. `Ok` is a proof; where there are several signatures, one is enough.
pub async fn verify(repository: &Repository<'_>, name: &str, image: &Digest, key: &SignerKey) -> Result<(), CosignError> {
    let failed = |source| CosignError::Source { image: *image, source };
    let mut looked = Looked { found: 0, reason: String::new() };
    if let Some(manifest) = repository.manifest(ManifestName::Tag(&tag_of(image, ".sig"))).await.map_err(failed)? {
        let layers = match serde_json::from_slice(&manifest.bytes) {
            Ok(SignatureManifest { layers }) => layers,
            Err(error) => {
                looked.wrong(format!("the signatures' manifest is malformed: {error}"));
                Vec::new()
            }
        };
        for layer in layers.iter().filter(|layer| layer.media_type == SIMPLE_SIGNING).take(SIGNATURES_MAX) {
            let payload = repository.small_blob(&descriptor(layer), PAYLOAD_MAX_BYTES).await.map_err(failed)?;
            match simple_signing(layer.annotations.get(SIGNATURE), &payload, image, key) {
                Ok(()) => return Ok(()),
                Err(reason) => looked.wrong(reason),
            }
        }
    }
    for bundle in bundles(repository, image).await.map_err(failed)? {
        match bundled(&bundle, image, key) {
            Ok(()) => return Ok(()),
            Err(reason) => looked.wrong(reason),
        }
    }
    let (image, repository) = (*image, name.to_owned());
    Err(match looked {
        Looked { found: 0, .. } => CosignError::None { image, repository },
        Looked { found, reason } => CosignError::Wrong { image, repository, found, reason },
    })
}

struct Looked {
    found: usize,
    reason: String,
}

impl Looked {
    fn wrong(&mut self, reason: String) {
        self.found += 1;
        self.reason = reason;
    }
}

fn descriptor(layer: &SignatureLayer) -> Descriptor {
    Descriptor { media_type: layer.media_type.clone(), digest: layer.digest, size: layer.size }
}

/// Whether a signature of cosign's first form holds: the payload is what is signed, and names the image.
fn simple_signing(signature: Option<&String>, payload: &[u8], image: &Digest, key: &SignerKey) -> Result<(), String> {
    let signature = signature.and_then(|signature| STANDARD.decode(signature).ok()).ok_or("it has no signature in base64")?;
    if !key.key.has_signed_as_sigstore(payload, &signature) {
        return Err("it is by another key".to_owned());
    }
    let Payload { critical: Critical { image: PayloadImage { digest }, kind } } =
        serde_json::from_slice(payload).map_err(|error| format!("its payload is malformed: {error}"))?;
    if kind != PAYLOAD_TYPE {
        return Err(format!("it is a `{kind}`"));
    }
    if digest != image.to_string() {
        return Err(format!("it is for {digest}"));
    }
    Ok(())
}

/// The bundles that refer to an image, by the registry's list or by the tag that stands for one.
async fn bundles(repository: &Repository<'_>, image: &Digest) -> Result<Vec<Vec<u8>>, SourceError> {
    let mut bundles = Vec::new();
    for referrer in super::probe::referrers(repository, image).await?.0 {
        if !referrer.artifact_type.starts_with(BUNDLE) || bundles.len() >= SIGNATURES_MAX {
            continue;
        }
        let Some(manifest) = repository.manifest(ManifestName::Digest(&referrer.digest)).await? else { continue };
        let Ok(SignatureManifest { layers }) = serde_json::from_slice(&manifest.bytes) else { continue };
        for layer in layers.iter().filter(|layer| layer.media_type.starts_with(BUNDLE)) {
            bundles.push(repository.small_blob(&descriptor(layer), PAYLOAD_MAX_BYTES).await?);
        }
    }
    Ok(bundles)
}

/// Whether a signature of the newer form holds: a statement about the image, in an envelope whose type is signed with it.
fn bundled(bundle: &[u8], image: &Digest, key: &SignerKey) -> Result<(), String> {
    let malformed = |error: serde_json::Error| format!("a bundle is malformed: {error}");
    let Bundle { dsse_envelope } = serde_json::from_slice(bundle).map_err(malformed)?;
    let Envelope { payload, payload_type, signatures } = dsse_envelope.ok_or("a bundle has no envelope")?;
    let payload = STANDARD.decode(payload).map_err(|_| "a bundle's payload is no base64")?;
    let mut message = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    message.extend_from_slice(&payload);
    let is_signed = |signature: &EnvelopeSignature| {
        STANDARD.decode(&signature.sig).is_ok_and(|signature| key.key.has_signed_as_sigstore(&message, &signature))
    };
    if !signatures.iter().take(SIGNATURES_MAX).any(is_signed) {
        return Err("a bundle is by another key".to_owned());
    }
    if payload_type != IN_TOTO {
        return Err(format!("a bundle has a `{payload_type}` in it"));
    }
    let Statement { subject, predicate_type } = serde_json::from_slice(&payload).map_err(malformed)?;
    if predicate_type != SIGN_PREDICATE {
        return Err(format!("a bundle states `{predicate_type}`, which is no signature of the image"));
    }
    if !subject.iter().any(|subject| subject.digest.get("sha256") == Some(&image.hex())) {
        return Err("a bundle is about something else".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
