//! Which signatures and other remarks a registry has beside an image: by the list of what refers to it, and by the tags that are made of its digest. Nothing is
//! verified.

use serde::Deserialize;

use super::cosign::{BUNDLE, tag_of};
use crate::digest::Digest;
use crate::manifest::Document;
use crate::reference::Platform;
use crate::source::SourceError;
use crate::source::repository::{ManifestName, Referrer, Repository};

/// The tags that cosign makes of a digest.
const TAGS: [(&str, &str); 3] = [(".sig", "cosign signature"), (".att", "cosign attestation"), (".sbom", "list of contents (cosign)")];

/// Whether a registry lists what refers to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReferrersApi {
    /// It does.
    Kept,
    /// It does not, but the tag that stands for such a list is there.
    ByTag,
    /// Neither.
    None,
}

/// Something that lies beside an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// What it is.
    pub kind: String,
    /// Its digest.
    pub digest: Digest,
    /// The tag under which it was found; none for what the registry lists.
    pub tag: Option<String>,
}

/// What was found beside an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// The image: a manifest or an index.
    pub image: Digest,
    /// How the registry lists what refers to it.
    pub api: ReferrersApi,
    /// All that was found.
    pub remarks: Vec<Remark>,
}

#[derive(Deserialize)]
struct ReferrersIndex {
    #[serde(default)]
    manifests: Vec<Referrer>,
}

/// Asks for everything that a registry may have beside an image.
pub async fn probe(repository: &Repository<'_>, image: &Digest) -> Result<Probed, SourceError> {
    let (referrers, api) = referrers(repository, image).await?;
    let mut remarks: Vec<Remark> = referrers
        .into_iter()
        .map(|referrer| Remark { kind: kind_of(&referrer.artifact_type), digest: referrer.digest, tag: None })
        .collect();
    for (suffix, kind) in TAGS {
        let tag = tag_of(image, suffix);
        if let Some(manifest) = repository.manifest(ManifestName::Tag(&tag)).await? {
            remarks.push(Remark { kind: kind.to_owned(), digest: manifest.digest, tag: Some(tag) });
        }
    }
    Ok(Probed { image: *image, api, remarks })
}

/// What refers to an image: as the registry lists it, else as the tag does that clients write where registries keep no lists.
pub(super) async fn referrers(repository: &Repository<'_>, image: &Digest) -> Result<(Vec<Referrer>, ReferrersApi), SourceError> {
    if let Some(listed) = repository.referrers(image).await? {
        return Ok((listed, ReferrersApi::Kept));
    }
    let Some(manifest) = repository.manifest(ManifestName::Tag(&tag_of(image, ""))).await? else {
        return Ok((Vec::new(), ReferrersApi::None));
    };
    let listed: ReferrersIndex = serde_json::from_slice(&manifest.bytes).unwrap_or(ReferrersIndex { manifests: Vec::new() });
    Ok((listed.manifests, ReferrersApi::ByTag))
}

/// The platform's manifest in an index; nothing where the digest is not an index's or the index has none.
pub async fn manifest_of(repository: &Repository<'_>, index: &Digest, platform: &Platform) -> Result<Option<Digest>, SourceError> {
    let Some(manifest) = repository.manifest(ManifestName::Digest(index)).await? else { return Ok(None) };
    match Document::from_json(&manifest.bytes) {
        Ok(Document::Index(index)) => Ok(index.choose(platform).ok().map(|entry| entry.descriptor.digest)),
        _ => Ok(None),
    }
}

/// The registry's own word is a stranger's, and goes to a terminal.
fn kind_of(artifact_type: &str) -> String {
    let known = match artifact_type {
        "application/vnd.cncf.notary.signature" => "Notation signature",
        "application/vnd.dev.cosign.artifact.sig.v1+json" => "cosign signature",
        "application/vnd.dev.cosign.artifact.att.v1+json" => "cosign attestation",
        "application/spdx+json" | "application/vnd.cyclonedx+json" => "list of contents",
        "application/vnd.in-toto+json" => "in-toto statement",
        "" => "of no type",
        bundle if bundle.starts_with(BUNDLE) => "sigstore bundle",
        other => return crate::source::printable(other),
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_cannot_forge_a_line() {
        assert_eq!(kind_of("application/x\x1b[31m\n    no signature"), "application/x [31m     no signature");
        assert_eq!(kind_of("application/spdx+json"), "list of contents");
    }
}
