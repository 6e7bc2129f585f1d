//! The documents of Notary v1: the envelope with its signatures, and what each kind holds. Pure: bytes in, values out.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::canonical;
use super::keys::{KeyError, KeyId, PublicKey, RawKey};
use crate::digest::Digest;

/// The role that docker looks at before all others.
pub(super) const RELEASES: &str = "targets/releases";
/// The role of the repository key.
pub(super) const TARGETS: &str = "targets";

/// Why a document proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// It is not what Notary writes.
    #[error("{document} is malformed: {reason}")]
    Malformed {
        /// The document.
        document: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A key in it does not have the id under which it stands there.
    #[error("{document} calls a key {claimed}, but that key's id is {found}")]
    KeyId {
        /// The document.
        document: String,
        /// The name in the document.
        claimed: String,
        /// The key's id.
        found: KeyId,
    },
    /// A key in it cannot be used.
    #[error("{document} has an unusable key {key}")]
    Key {
        /// The document.
        document: String,
        /// Its id.
        key: KeyId,
        /// What is wrong with it.
        source: KeyError,
    },
    /// Too few of the keys that count have signed it.
    #[error("{document} has {valid} of {threshold} valid signatures by the keys of {role}")]
    Signatures {
        /// The document.
        document: String,
        /// Whose keys count.
        role: String,
        /// Keys that have signed it.
        valid: usize,
        /// Keys that have to.
        threshold: u32,
    },
    /// It is another version than the one that a signed document names.
    #[error("{document} is not the one that {by} names: {wanted} is wanted, and this is {found}")]
    Hash {
        /// The document.
        document: String,
        /// The document that says what it must be.
        by: String,
        /// The digest wanted, or the length.
        wanted: String,
        /// That of what came.
        found: String,
    },
    /// A signed document must name it, and does not.
    #[error("{by} does not name {document}")]
    Unnamed {
        /// The document.
        document: String,
        /// The document that should name it.
        by: String,
    },
    /// Its time is over.
    #[error("{document} has expired at {when}")]
    Expired {
        /// The document.
        document: String,
        /// When.
        when: DateTime<Utc>,
    },
}

/// Who signs what: keys, and how many of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Role {
    pub(super) name: String,
    pub(super) keys: BTreeMap<KeyId, PublicKey>,
    /// In the order in which they stand there.
    pub(super) order: Vec<KeyId>,
    pub(super) threshold: u32,
    /// What the names of targets must begin with; for delegations.
    pub(super) paths: Vec<String>,
}

/// A document, its signatures not looked at yet.
#[derive(Debug, Clone)]
pub(super) struct Signed {
    /// What it is called in messages: `root.json`.
    pub(super) document: String,
    message: Vec<u8>,
    content: Value,
    signatures: Vec<RawSignature>,
    pub(super) version: u64,
    pub(super) expires: DateTime<Utc>,
}

/// The content of `root.json`.
#[derive(Debug, Clone)]
pub(super) struct Root {
    pub(super) root: Role,
    pub(super) targets: Role,
    pub(super) snapshot: Role,
    pub(super) timestamp: Role,
}

/// What a document must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) sha256: Digest,
    pub(super) length: u64,
}

/// The content of `timestamp.json` and of `snapshot.json`: what other documents must be, by their names.
#[derive(Debug, Clone)]
pub(super) struct Names {
    document: String,
    pub(super) documents: BTreeMap<String, Named>,
}

/// The content of `targets.json` or of a delegation.
#[derive(Debug, Clone)]
pub(super) struct Targets {
    pub(super) targets: BTreeMap<String, Named>,
    pub(super) delegations: Vec<Role>,
}

#[derive(Deserialize)]
struct RawSigned {
    signed: Value,
    signatures: Vec<RawSignature>,
}

#[derive(Debug, Clone, Deserialize)]
struct RawSignature {
    keyid: String,
    method: String,
    sig: String,
}

#[derive(Deserialize)]
struct Common {
    #[serde(rename = "_type")]
    kind: String,
    version: u64,
    expires: DateTime<Utc>,
}

#[derive(Deserialize)]
struct RawRoot {
    keys: BTreeMap<String, RawKey>,
    roles: BTreeMap<String, RawRole>,
}

#[derive(Deserialize)]
struct RawRole {
    keyids: Vec<String>,
    threshold: u32,
}

#[derive(Deserialize)]
struct RawNames {
    meta: BTreeMap<String, RawNamed>,
}

#[derive(Deserialize)]
struct RawNamed {
    hashes: BTreeMap<String, String>,
    length: u64,
}

#[derive(Deserialize)]
struct RawTargets {
    #[serde(default)]
    targets: Option<BTreeMap<String, RawNamed>>,
    #[serde(default)]
    delegations: Option<RawDelegations>,
}

#[derive(Deserialize)]
struct RawDelegations {
    #[serde(default)]
    keys: Option<BTreeMap<String, RawKey>>,
    #[serde(default)]
    roles: Option<Vec<RawDelegation>>,
}

#[derive(Deserialize)]
struct RawDelegation {
    name: String,
    #[serde(flatten)]
    role: RawRole,
    #[serde(default)]
    paths: Option<Vec<String>>,
}

impl Signed {
    /// Reads the envelope of the document for `role`, which must be of that kind.
    pub(super) fn read(role: &str, bytes: &[u8]) -> Result<Self, MetadataError> {
        let document = format!("{role}.json");
        let malformed = |reason: String| MetadataError::Malformed { document: document.clone(), reason };
        let RawSigned { signed: content, signatures } = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        let message = canonical::of(&content).ok_or_else(|| malformed("a number in it is no integer".to_owned()))?;
        let Common { kind, version, expires } = Common::deserialize(&content).map_err(|error| malformed(error.to_string()))?;
        let wanted = match role {
            "root" => "Root",
            "timestamp" => "Timestamp",
            "snapshot" => "Snapshot",
            _ => "Targets",
        };
        if kind != wanted {
            return Err(malformed(format!("`{kind}` stands there as its kind, and `{wanted}` is wanted")));
        }
        if version == 0 {
            return Err(malformed("its version is 0".to_owned()));
        }
        Ok(Self { document, message, content, signatures, version, expires })
    }

    /// Checks that as many keys of a role have signed it as must. A key that stands there twice counts once.
    pub(super) fn check_signatures(&self, role: &Role) -> Result<(), MetadataError> {
        let mut signers: Vec<&PublicKey> = Vec::new();
        for RawSignature { keyid, method, sig } in &self.signatures {
            let Some(key) = keyid.parse().ok().and_then(|id: KeyId| role.keys.get(&id)) else { continue };
            let Ok(signature) = STANDARD.decode(sig) else { continue };
            if !signers.iter().any(|signer| signer.is_same_key(key)) && key.has_signed(&self.message, method, &signature) {
                signers.push(key);
            }
        }
        if signers.len() >= role.threshold as usize {
            return Ok(());
        }
        let (document, role_name) = (self.document.clone(), role.name.clone());
        Err(MetadataError::Signatures { document, role: role_name, valid: signers.len(), threshold: role.threshold })
    }

    pub(super) fn check_not_expired(&self, now: DateTime<Utc>) -> Result<(), MetadataError> {
        if now < self.expires { Ok(()) } else { Err(MetadataError::Expired { document: self.document.clone(), when: self.expires }) }
    }

    pub(super) fn root(&self) -> Result<Root, MetadataError> {
        let raw: RawRoot = self.content()?;
        let keys = self.keys(raw.keys)?;
        let role = |name: &str| {
            let role = raw.roles.get(name).ok_or_else(|| self.malformed(format!("it has no role `{name}`")))?;
            self.role(name, role, &keys, Vec::new())
        };
        Ok(Root { root: role("root")?, targets: role(TARGETS)?, snapshot: role("snapshot")?, timestamp: role("timestamp")? })
    }

    pub(super) fn names(&self) -> Result<Names, MetadataError> {
        let raw: RawNames = self.content()?;
        Ok(Names { document: self.document.clone(), documents: self.named(raw.meta)? })
    }

    pub(super) fn targets(&self) -> Result<Targets, MetadataError> {
        let raw: RawTargets = self.content()?;
        let mut delegations = Vec::new();
        if let Some(RawDelegations { keys, roles }) = raw.delegations {
            let keys = self.keys(keys.unwrap_or_default())?;
            for RawDelegation { name, role, paths } in roles.unwrap_or_default() {
                if !is_delegation(&name) {
                    return Err(self.malformed(format!("`{name}` is no name of a delegation")));
                }
                delegations.push(self.role(&name, &role, &keys, paths.unwrap_or_default())?);
            }
        }
        Ok(Targets { targets: self.named(raw.targets.unwrap_or_default())?, delegations })
    }

    fn content<'c, T: Deserialize<'c>>(&'c self) -> Result<T, MetadataError> {
        T::deserialize(&self.content).map_err(|error| self.malformed(error.to_string()))
    }

    fn malformed(&self, reason: String) -> MetadataError {
        MetadataError::Malformed { document: self.document.clone(), reason }
    }

    /// Every key must have the id that it stands under, whether it is used or not.
    fn keys(&self, raw: BTreeMap<String, RawKey>) -> Result<BTreeMap<KeyId, RawKey>, MetadataError> {
        let mut keys = BTreeMap::new();
        for (claimed, key) in raw {
            let found = key.id().map_err(|error| self.malformed(format!("key {claimed}: {error}")))?;
            if found.to_string() != claimed {
                return Err(MetadataError::KeyId { document: self.document.clone(), claimed, found });
            }
            keys.insert(found, key);
        }
        Ok(keys)
    }

    fn role(&self, name: &str, role: &RawRole, known: &BTreeMap<KeyId, RawKey>, paths: Vec<String>) -> Result<Role, MetadataError> {
        let (mut keys, mut order) = (BTreeMap::new(), Vec::new());
        for id in &role.keyids {
            let parsed: KeyId = id.parse().map_err(|error| self.malformed(format!("role `{name}`: {error}")))?;
            let key = known.get(&parsed).ok_or_else(|| self.malformed(format!("role `{name}` has a key {id} that is not there")))?;
            match key.read() {
                Ok(key) => {
                    if keys.insert(parsed, key).is_none() {
                        order.push(parsed);
                    }
                }
                // One of the four roles is nothing without it; a signer whom we cannot read signs nothing.
                Err(_) if is_delegation(name) => {}
                Err(source) => return Err(MetadataError::Key { document: self.document.clone(), key: parsed, source }),
            }
        }
        let too_few = keys.len() < role.threshold as usize && !is_delegation(name);
        if role.threshold == 0 || too_few {
            return Err(self.malformed(format!("role `{name}` has {} keys and the threshold {}", keys.len(), role.threshold)));
        }
        Ok(Role { name: name.to_owned(), keys, order, threshold: role.threshold, paths })
    }

    fn named(&self, raw: BTreeMap<String, RawNamed>) -> Result<BTreeMap<String, Named>, MetadataError> {
        let one = |(name, RawNamed { hashes, length }): (String, RawNamed)| {
            let sha256 = hashes.get("sha256").and_then(|hash| STANDARD.decode(hash).ok()).and_then(|hash| hash.try_into().ok());
            let sha256 = sha256.ok_or_else(|| self.malformed(format!("`{name}` has no SHA-256 there")))?;
            Ok((name, Named { sha256: Digest::from_bytes(sha256), length }))
        };
        raw.into_iter().map(one).collect()
    }
}

impl Names {
    /// What a document must be.
    pub(super) fn named(&self, role: &str) -> Result<&Named, MetadataError> {
        let unnamed = || MetadataError::Unnamed { document: format!("{role}.json"), by: self.document.clone() };
        self.documents.get(role).ok_or_else(unnamed)
    }

    /// Checks that a document is the one that is named here.
    pub(super) fn check(&self, role: &str, bytes: &[u8]) -> Result<(), MetadataError> {
        let named = self.named(role)?;
        let differ = |wanted: String, found: String| MetadataError::Hash {
            document: format!("{role}.json"),
            by: self.document.clone(),
            wanted,
            found,
        };
        if bytes.len() as u64 != named.length {
            return Err(differ(format!("{} bytes", named.length), format!("{} bytes", bytes.len())));
        }
        let found = Digest::of(bytes);
        if found == named.sha256 { Ok(()) } else { Err(differ(named.sha256.to_string(), found.to_string())) }
    }
}

impl Role {
    /// Whether it may say what a name means.
    pub(super) fn may_name(&self, target: &str) -> bool {
        self.paths.iter().any(|path| target.starts_with(path.as_str()))
    }
}

/// Its name becomes a part of a path and of a URL: parts as Notary has them, below `targets`.
fn is_delegation(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'))
            && !part.starts_with('.')
    };
    name.len() <= 255 && name.strip_prefix("targets/").is_some_and(|rest| rest.split('/').all(is_part))
}

#[cfg(test)]
mod tests;
