//! Docker Content Trust: what is signed in a repository, and by whom.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use chrono::{DateTime, Utc};

use super::chain::{Chain, ChainError, Checked};
use super::evidence::{Evidence, RootTrust};
use super::keys::KeyId;
use super::metadata::RELEASES;
use super::place::Place;
use super::remembered::{Remembered, RememberedError};
use crate::digest::Digest;
use crate::reference::RegistryReference;
use crate::source::notary::NotaryServer;
use crate::source::{Notes, RegistryAccess};

/// Repositories whose root key is known, with that key. lambci's is in the README of docker-lambda.
const BUILT_IN: [(&str, &str); 1] = [("docker.io/lambci/lambda", "031d78bcdca4171be103da6ffb55e8ddfa9bd113e0ec481ade78d897d9e65c0e")];
/// The repository key that belongs to the root above.
const BUILT_IN_REPOSITORY_KEY: &str = "e966126aacd4be5fb92e0160212dd007fc16a9b4366ef86d28fc7eb49f4d0809";
/// Docker Hub's server.
const DOCKER_HUB_SERVER: &str = "notary.docker.io";

/// How what is signed is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustMode {
    /// All four documents, none of them expired.
    Strict,
    /// The root pinned, and what it says of the tags, whenever that was. Freshness is waived, and that is said.
    Historical,
}

/// Why a text is no mode.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no trust mode: `strict`, `historical` or `off` is wanted")]
pub struct ParseTrustModeError(pub String);

impl FromStr for TrustMode {
    type Err = ParseTrustModeError;

    fn from_str(text: &str) -> Result<Self, ParseTrustModeError> {
        match text {
            "strict" => Ok(Self::Strict),
            "historical" => Ok(Self::Historical),
            other => Err(ParseTrustModeError(other.to_owned())),
        }
    }
}

impl fmt::Display for TrustMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strict => "strict",
            Self::Historical => "historical",
        })
    }
}

/// A trust server: a host with an optional port, spoken to by TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustServer(String);

/// Why a text names no trust server.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no trust server: `https://HOST[:PORT]` is wanted")]
pub struct ParseTrustServerError(String);

impl FromStr for TrustServer {
    type Err = ParseTrustServerError;

    fn from_str(text: &str) -> Result<Self, ParseTrustServerError> {
        let host = text.strip_prefix("https://").unwrap_or_default().trim_end_matches('/');
        let parsed: Option<RegistryReference> = format!("{host}/x/x").parse().ok();
        match parsed.filter(|parsed| parsed.registry() == host) {
            Some(_) => Ok(Self(host.to_owned())),
            None => Err(ParseTrustServerError(text.to_owned())),
        }
    }
}

/// Where the documents are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TrustPlace {
    /// At the server of the image's registry: Docker Hub's own, else the registry's host.
    #[default]
    Usual,
    /// At this server.
    Server(TrustServer),
    /// In this folder: `root.json` and the others, or `REPOSITORY/` with them, or docker's `REPOSITORY/metadata/`.
    Folder(PathBuf),
}

/// How what is signed is found and looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DctOptions {
    /// How it is looked at; where none is given, strictly at servers, and historically in folders and where nobody signs any more.
    pub mode: Option<TrustMode>,
    /// Where it is.
    pub place: TrustPlace,
    /// Root keys of which one must have signed; without any, those built in or seen before.
    pub roots: Vec<KeyId>,
    /// The folder where it is remembered what was seen.
    pub memory: Option<PathBuf>,
    /// The folder that holds a folder of certificates for a server, named after it.
    pub certificates: Option<PathBuf>,
}

/// Why nothing is known to be signed.
#[derive(Debug, thiserror::Error)]
pub enum DctError {
    /// The documents do not prove it.
    #[error("signatures of Docker Content Trust do not hold")]
    Chain(#[source] ChainError),
    /// What was seen before is not known.
    #[error("cannot tell what was seen before of what is signed")]
    Remembered(#[source] RememberedError),
    /// The tag has no signature.
    #[error("`{repository}` has no signed tag `{tag}`")]
    TagNotSigned {
        /// The repository.
        repository: String,
        /// The tag.
        tag: String,
    },
    /// The digest is no tag's.
    #[error("`{repository}` has no signed tag with {digest}")]
    DigestNotSigned {
        /// The repository.
        repository: String,
        /// The digest.
        digest: Digest,
    },
    /// The tag is signed for something else.
    #[error("`{repository}`: tag `{tag}` is signed as {signed}, and {wanted} is asked for")]
    OtherDigest {
        /// The repository.
        repository: String,
        /// The tag.
        tag: String,
        /// What is signed.
        signed: Digest,
        /// What was asked for.
        wanted: Digest,
    },
}

impl DctError {
    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Chain(source) => source.hint(),
            Self::Remembered(RememberedError::Damaged { path, .. }) => {
                Some(format!("if you know why: remove `{}`; an old state can then be shown as new once", path.display()))
            }
            Self::Remembered(_) => None,
            Self::TagNotSigned { repository, .. } | Self::DigestNotSigned { repository, .. } | Self::OtherDigest { repository, .. } => {
                Some(format!("`undocked trust inspect --pretty {repository}` lists what is signed"))
            }
        }
    }
}

/// A tag that is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedTag {
    /// The tag.
    pub tag: String,
    /// The manifest or index that it means.
    pub digest: Digest,
    /// The size of that.
    pub size: u64,
    /// The role that says so: `targets`, `targets/releases`, `targets/alice`.
    pub role: String,
}

/// Who may sign beside the repository's own key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The role, such as `targets/alice`.
    pub role: String,
    /// The ids of the bare keys.
    pub keys: Vec<KeyId>,
}

/// What is signed in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRepository {
    /// The repository with its registry, which Notary calls GUN.
    pub repository: String,
    /// The keys of the root.
    pub root_keys: Vec<KeyId>,
    /// The keys that sign the tags.
    pub repository_keys: Vec<KeyId>,
    /// The digest of `targets.json`.
    pub targets_digest: Digest,
    /// Its version.
    pub targets_version: u64,
    /// When it expires.
    pub targets_expire: DateTime<Utc>,
    /// What the repository's key and the role `targets/releases` have signed.
    pub tags: Vec<SignedTag>,
    /// What others have signed; it counts for nobody who pulls.
    pub others: Vec<SignedTag>,
    /// Who may sign beside the repository's key.
    pub signers: Vec<Signer>,
    /// What was proved, and what was not.
    pub evidence: Evidence,
}

impl SignedRepository {
    /// What a tag is signed as: `targets/releases` wins over `targets`.
    pub fn tag(&self, tag: &str) -> Option<&SignedTag> {
        let mut all = self.tags.iter().filter(|signed| signed.tag == tag);
        all.clone().find(|signed| signed.role == RELEASES).or_else(|| all.next())
    }

    /// What a reference is signed as.
    pub fn resolve(&self, reference: &RegistryReference) -> Result<&SignedTag, DctError> {
        let repository = self.repository.clone();
        match (reference.tag(), reference.digest()) {
            (Some(tag), wanted) => {
                let signed = self.tag(tag).ok_or_else(|| DctError::TagNotSigned { repository, tag: tag.to_owned() })?;
                match wanted.filter(|wanted| **wanted != signed.digest) {
                    Some(wanted) => Err(DctError::OtherDigest {
                        repository: self.repository.clone(),
                        tag: tag.to_owned(),
                        signed: signed.digest,
                        wanted: *wanted,
                    }),
                    None => Ok(signed),
                }
            }
            (None, Some(digest)) => {
                // Only what a tag means now: a tag that `targets/releases` has moved is signed no longer as what `targets` says.
                let found = self.tags.iter().find(|signed| signed.digest == *digest && self.tag(&signed.tag) == Some(*signed));
                found.ok_or(DctError::DigestNotSigned { repository, digest: *digest })
            }
            (None, None) => Err(DctError::TagNotSigned { repository, tag: String::new() }),
        }
    }
}

/// The repository as Notary names it.
pub fn repository_of(reference: &RegistryReference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
}

/// Finds out what is signed in the repository of `reference`, and remembers it.
pub async fn signed_in(
    reference: &RegistryReference,
    options: &DctOptions,
    access: &RegistryAccess,
    notes: Notes<'_>,
) -> Result<SignedRepository, DctError> {
    let repository = repository_of(reference);
    let mut access = access.clone();
    access.certificates.extend(options.certificates.clone());
    let access = &access;
    let place = match &options.place {
        TrustPlace::Folder(folder) => Place::Folder(folder_of(folder, &repository)),
        TrustPlace::Server(TrustServer(server)) => Place::Server(Box::new(NotaryServer::open(server, reference, access, notes).await)),
        TrustPlace::Usual => {
            let server = if reference.registry() == "docker.io" { DOCKER_HUB_SERVER } else { reference.registry() };
            Place::Server(Box::new(NotaryServer::open(server, reference, access, notes).await))
        }
    };
    check(&repository, place, options, Utc::now()).await
}

/// The same with documents that are at hand, by their names (`root`, `targets/releases`), and at another time.
pub async fn signed_by(
    repository: &str,
    documents: &BTreeMap<String, Vec<u8>>,
    options: &DctOptions,
    now: DateTime<Utc>,
) -> Result<SignedRepository, DctError> {
    check(repository, Place::Held(documents), options, now).await
}

async fn check(repository: &str, place: Place<'_>, options: &DctOptions, now: DateTime<Utc>) -> Result<SignedRepository, DctError> {
    let memory = options.memory.as_deref();
    let remembered = memory.map(|folder| Remembered::read(folder, repository)).transpose().map_err(DctError::Remembered)?.flatten();
    let built_in = built_in(repository);
    let by_default = match (&place, &built_in) {
        (Place::Server(_), None) => TrustMode::Strict,
        _ => TrustMode::Historical,
    };
    let pinned = match (options.roots.as_slice(), &built_in) {
        ([], None) => None,
        ([], Some(key)) => Some((std::slice::from_ref(key), RootTrust::BuiltIn)),
        (given, _) => Some((given, RootTrust::Pinned)),
    };
    let by_built_in = matches!(pinned, Some((_, RootTrust::BuiltIn)));
    let repository_keys = if by_built_in { vec![known(BUILT_IN_REPOSITORY_KEY)] } else { Vec::new() };
    let mode = options.mode.unwrap_or(by_default);
    let chain = Chain { repository, place, mode, pinned, repository_keys: &repository_keys, remembered: remembered.as_ref(), now };
    let Checked { signed, to_remember } = chain.check().await.map_err(DctError::Chain)?;
    if let Some(folder) = memory {
        to_remember.keep(folder).map_err(DctError::Remembered)?;
    }
    Ok(signed)
}

fn built_in(repository: &str) -> Option<KeyId> {
    let (_, key) = BUILT_IN.into_iter().find(|(known, _)| *known == repository)?;
    Some(known(key))
}

fn known(key: &str) -> KeyId {
    key.parse().expect("a test reads it")
}

/// Where the documents of a repository are below a folder.
fn folder_of(folder: &Path, repository: &str) -> PathBuf {
    let own = folder.join(repository);
    let candidates = [folder.to_owned(), own.join("metadata"), own.clone()];
    candidates.into_iter().find(|candidate| candidate.join("root.json").is_file()).unwrap_or_else(|| folder.to_owned())
}

#[cfg(test)]
mod tests;
