//! From the root of trust to the signed tags: each document is checked by what the one before it says. Reads documents and the clock's value; decides.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::evidence::{Evidence, Freshness, RootTrust};
use super::keys::{KeyId, PublicKey};
use super::metadata::{MetadataError, Named, Names, RELEASES, Role, Root, Signed, TARGETS, Targets};
use super::place::{Place, PlaceError};
use super::remembered::Remembered;
use super::{SignedRepository, SignedTag, Signer, TrustMode};
use crate::digest::Digest;

/// Roots that are fetched to get from one that is trusted to the newest.
const ROOTS_MAX: u64 = 100;
/// Delegations that are read.
const DELEGATIONS_MAX: usize = 200;
const TIMESTAMP: &str = "timestamp";
const SNAPSHOT: &str = "snapshot";
const ROOT: &str = "root";

/// Why nothing is proved.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// A document is bad.
    #[error("`{repository}`: what is signed cannot be trusted")]
    Document {
        /// The repository.
        repository: String,
        /// What is wrong.
        source: MetadataError,
    },
    /// A document cannot be had.
    #[error("`{repository}`: what is signed cannot be read")]
    Place {
        /// The repository.
        repository: String,
        /// Why.
        source: Box<PlaceError>,
    },
    /// There is nothing about the repository.
    #[error("`{repository}`: there is no {document}")]
    Missing {
        /// The repository.
        repository: String,
        /// The document.
        document: String,
    },
    /// Its root, or its repository key, is another one than the one wanted.
    #[error("`{repository}`: it has the key {found}, but is signed by none of the keys wanted: {wanted}")]
    NotPinned {
        /// The repository.
        repository: String,
        /// The keys wanted.
        wanted: String,
        /// The keys it has.
        found: String,
    },
    /// Nobody has said which root is meant, and the documents themselves may be of any age.
    #[error("`{repository}`: nothing says that its root key {found} is the right one")]
    Unpinned {
        /// The repository.
        repository: String,
        /// The keys of the root.
        found: String,
    },
    /// The keys of the root have changed without the word of those before.
    #[error("`{repository}`: version {to} of its root is not signed by the keys of version {from}")]
    Rotation {
        /// The repository.
        repository: String,
        /// The version trusted.
        from: u64,
        /// The version found.
        to: u64,
    },
    /// The certificate of the root is for another repository.
    #[error("`{repository}`: its root key is for `{found}`")]
    OtherRepository {
        /// The repository.
        repository: String,
        /// What the certificate names.
        found: String,
    },
    /// Older than what was seen before.
    #[error("`{repository}`: {document} has version {found}, and version {known} was seen before")]
    Rollback {
        /// The repository.
        repository: String,
        /// The document.
        document: String,
        /// The version seen before.
        known: u64,
        /// The version found.
        found: u64,
    },
}

impl ChainError {
    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Document { source: MetadataError::Expired { .. }, .. } => {
                Some("if nobody signs it anew: `--trust-mode historical` waives freshness, with a root pinned by `--trust-root`".to_owned())
            }
            Self::Document { source: MetadataError::Hash { .. }, .. } => {
                Some("the documents are of different times: get them all anew".to_owned())
            }
            Self::Place { source, .. } => source.hint(),
            Self::Missing { .. } => Some(
                "nothing is signed there, or it lies elsewhere (`--trust-server`, `--trust-dir`); an image runs without `--require-trust`, too"
                    .to_owned(),
            ),
            Self::Unpinned { found, .. } => Some(format!("if you know that key from elsewhere: `--trust-root {found}`")),
            Self::Rotation { .. } | Self::NotPinned { .. } => {
                Some("ask its publisher; a root that is right can be named with `--trust-root KEYID`".to_owned())
            }
            Self::Rollback { .. } => Some("somebody may be showing you an old state; try again later, or from another network".to_owned()),
            Self::OtherRepository { .. } | Self::Document { .. } => None,
        }
    }
}

/// What documents are checked by.
pub(super) struct Chain<'a> {
    pub(super) repository: &'a str,
    pub(super) place: Place<'a>,
    pub(super) mode: TrustMode,
    /// Keys of which one must have signed the root, and who says so.
    pub(super) pinned: Option<(&'a [KeyId], RootTrust)>,
    /// Keys of which one must sign the tags; without any, those that the root names.
    pub(super) repository_keys: &'a [KeyId],
    pub(super) remembered: Option<&'a Remembered>,
    pub(super) now: DateTime<Utc>,
}

/// What came of it.
pub(super) struct Checked {
    pub(super) signed: SignedRepository,
    pub(super) to_remember: Remembered,
}

/// What was seen in one go.
#[derive(Default)]
struct Seen {
    versions: BTreeMap<String, u64>,
    expired: Vec<(String, DateTime<Utc>)>,
}

impl Chain<'_> {
    /// Reads and checks everything.
    pub(super) async fn check(&self) -> Result<Checked, ChainError> {
        let mut seen = Seen::default();
        let root_bytes = self.wanted(ROOT, None).await?;
        let signed_root = self.of(Signed::read(ROOT, &root_bytes))?;
        let root = self.of(signed_root.root())?;
        self.of(signed_root.check_signatures(&root.root))?;
        self.check_name(&root.root)?;
        let root_trust = self.trust_root(&signed_root, &root).await?;
        self.take(ROOT, &signed_root, &mut seen)?;
        let targets_role = self.repository_role(root.targets.clone())?;
        let timestamp = self.names(TIMESTAMP, &root.timestamp, None, &mut seen).await?;
        let snapshot = self.names(SNAPSHOT, &root.snapshot, timestamp.as_ref(), &mut seen).await?;
        if let Some(snapshot) = &snapshot {
            self.of(snapshot.check(ROOT, &root_bytes))?;
        }
        let targets_bytes = self.wanted(TARGETS, digest(snapshot.as_ref(), TARGETS)).await?;
        if let Some(snapshot) = &snapshot {
            self.of(snapshot.check(TARGETS, &targets_bytes))?;
        }
        let signed_targets = self.of(Signed::read(TARGETS, &targets_bytes))?;
        self.of(signed_targets.check_signatures(&targets_role))?;
        self.take(TARGETS, &signed_targets, &mut seen)?;
        let targets = self.of(signed_targets.targets())?;
        let mut tree = Tree { released: Vec::new(), others: Vec::new(), signers: Vec::new(), left_out: Vec::new(), seen: 0 };
        tree.add(TARGETS, &targets.targets, |_| true);
        self.delegations(&targets, snapshot.as_ref(), &mut seen, &mut tree).await?;
        let evidence = Evidence {
            mode: self.mode,
            root: root_trust,
            freshness: Freshness::of(timestamp.is_some() && snapshot.is_some(), &seen.expired),
            expired: seen.expired,
            has_snapshot: snapshot.is_some(),
            compared: self.remembered.map(|remembered| remembered.first_seen),
            left_out: tree.left_out,
        };
        let text = String::from_utf8_lossy(&root_bytes).into_owned();
        Ok(Checked {
            to_remember: Remembered::new(self.repository, seen.versions, text, self.now),
            signed: SignedRepository {
                repository: self.repository.to_owned(),
                root_keys: root.root.order,
                repository_keys: root.targets.order,
                targets_digest: Digest::of(&targets_bytes),
                targets_version: signed_targets.version,
                targets_expire: signed_targets.expires,
                tags: tree.released,
                others: tree.others,
                signers: tree.signers,
                evidence,
            },
        })
    }

    /// The role that signs the tags, with those keys alone that may.
    fn repository_role(&self, mut role: Role) -> Result<Role, ChainError> {
        if self.repository_keys.is_empty() {
            return Ok(role);
        }
        let found = listed(role.keys.keys());
        role.keys.retain(|id, _| self.repository_keys.contains(id));
        if role.keys.is_empty() {
            return Err(ChainError::NotPinned {
                repository: self.repository.to_owned(),
                wanted: listed(self.repository_keys.iter()),
                found,
            });
        }
        Ok(role)
    }

    /// Why the root is trusted.
    async fn trust_root(&self, signed: &Signed, root: &Root) -> Result<RootTrust, ChainError> {
        if let Some((pinned, trust)) = &self.pinned {
            return self.trust_pinned(pinned, signed, root).await.map(|()| trust.clone());
        }
        let Some(remembered) = self.remembered else {
            // Only a server that proves to be of today may be believed at first sight.
            if self.mode == TrustMode::Historical {
                return Err(ChainError::Unpinned { repository: self.repository.to_owned(), found: listed(root.root.keys.keys()) });
            }
            return Ok(RootTrust::FirstUse);
        };
        let before_signed = self.of(Signed::read(ROOT, remembered.root.as_bytes()))?;
        let before = self.of(before_signed.root())?;
        let trusted = (before_signed.version, before.root);
        self.follow(trusted, signed).await?;
        Ok(RootTrust::Remembered(remembered.first_seen))
    }

    /// A pinned key has signed this root, or an earlier one from which others lead here.
    async fn trust_pinned(&self, pinned: &[KeyId], signed: &Signed, root: &Root) -> Result<(), ChainError> {
        if self.is_by(pinned, signed, root) {
            return Ok(());
        }
        for version in 1..signed.version.min(ROOTS_MAX) {
            let Some((earlier, earlier_root)) = self.earlier_root(version).await? else { continue };
            if self.is_by(pinned, &earlier, &earlier_root) {
                return self.follow((earlier.version, earlier_root.root), signed).await;
            }
        }
        let wanted = listed(pinned.iter());
        Err(ChainError::NotPinned { repository: self.repository.to_owned(), wanted, found: listed(root.root.keys.keys()) })
    }

    fn is_by(&self, pinned: &[KeyId], signed: &Signed, root: &Root) -> bool {
        let keys: BTreeMap<KeyId, PublicKey> =
            root.root.keys.iter().filter(|(id, _)| pinned.contains(id)).map(|(id, key)| (*id, key.clone())).collect();
        !keys.is_empty() && signed.check_signatures(&Role { keys, threshold: 1, ..root.root.clone() }).is_ok()
    }

    /// From a trusted root to this one: directly, or by those between, each signed by the keys of the one before it.
    async fn follow(&self, trusted: (u64, Role), signed: &Signed) -> Result<(), ChainError> {
        let (mut version, mut role) = trusted;
        if signed.version < version {
            return Err(self.rollback(ROOT, version, signed.version));
        }
        while signed.check_signatures(&role).is_err() {
            let failed = ChainError::Rotation { repository: self.repository.to_owned(), from: version, to: signed.version };
            if version + 1 >= signed.version || signed.version - version > ROOTS_MAX {
                return Err(failed);
            }
            let Some((next, next_root)) = self.earlier_root(version + 1).await? else { return Err(failed) };
            if next.version != version + 1 || next.check_signatures(&role).is_err() {
                return Err(failed);
            }
            (version, role) = (next.version, next_root.root);
        }
        Ok(())
    }

    /// An older root, signed by its own keys.
    async fn earlier_root(&self, version: u64) -> Result<Option<(Signed, Root)>, ChainError> {
        let Some(bytes) = self.document(&format!("{version}.{ROOT}"), None).await? else { return Ok(None) };
        let signed = self.of(Signed::read(ROOT, &bytes))?;
        let root = self.of(signed.root())?;
        self.of(signed.check_signatures(&root.root))?;
        Ok(Some((signed, root)))
    }

    /// A root's certificate names the repository; Notary lets it end with `*`. A key alone is bound to no repository, but by a pin.
    fn check_name(&self, root: &Role) -> Result<(), ChainError> {
        for key in root.keys.values() {
            let other = |found: &str| ChainError::OtherRepository { repository: self.repository.to_owned(), found: found.to_owned() };
            match &key.certified {
                Some(certified) => {
                    let name = certified.common_name.as_str();
                    let fits = name == self.repository || name.strip_suffix('*').is_some_and(|start| self.repository.starts_with(start));
                    if !fits {
                        return Err(other(name));
                    }
                    let is_now = certified.not_before <= self.now && self.now < certified.not_after;
                    if self.mode == TrustMode::Strict && !is_now {
                        let document = "the certificate of its root".to_owned();
                        return self.of(Err(MetadataError::Expired { document, when: certified.not_after }));
                    }
                }
                None if self.pinned.is_some() => {}
                None => return Err(other("any repository")),
            }
        }
        Ok(())
    }

    /// `timestamp.json` or `snapshot.json`, which may be missing from a saved copy.
    async fn names(&self, name: &str, role: &Role, by: Option<&Names>, seen: &mut Seen) -> Result<Option<Names>, ChainError> {
        let bytes = match self.mode {
            TrustMode::Strict => self.wanted(name, digest(by, name)).await?,
            TrustMode::Historical => match self.document(name, digest(by, name)).await? {
                Some(bytes) => bytes,
                None => return Ok(None),
            },
        };
        if let Some(by) = by {
            self.of(by.check(name, &bytes))?;
        }
        let signed = self.of(Signed::read(name, &bytes))?;
        self.of(signed.check_signatures(role))?;
        self.take(name, &signed, seen)?;
        self.of(signed.names()).map(Some)
    }

    /// Signers beside the repository's own key, each within what it may name.
    async fn delegations(&self, targets: &Targets, snapshot: Option<&Names>, seen: &mut Seen, tree: &mut Tree) -> Result<(), ChainError> {
        let mut waiting: Vec<Role> = targets.delegations.iter().rev().cloned().collect();
        while let Some(role) = waiting.pop() {
            tree.seen += 1;
            if tree.seen > DELEGATIONS_MAX {
                tree.left_out.push(format!("more than {DELEGATIONS_MAX} signers"));
                return Ok(());
            }
            tree.signers.push(Signer { role: role.name.clone(), keys: role.order.iter().map(|id| role.keys[id].bare_id).collect() });
            // A signer that has signed nothing has no document.
            let is_named = snapshot.is_none_or(|snapshot| snapshot.documents.contains_key(&role.name));
            let bytes = if is_named { self.document(&role.name, digest(snapshot, &role.name)).await? } else { None };
            let bytes = match (bytes, snapshot.filter(|_| is_named)) {
                (Some(bytes), _) => bytes,
                (None, Some(_)) => return Err(self.missing(&role.name)),
                (None, None) => continue,
            };
            if let Some(snapshot) = snapshot {
                self.of(snapshot.check(&role.name, &bytes))?;
            }
            let signed = self.of(Signed::read(&role.name, &bytes))?;
            // As with docker, a signer's trouble is not the repository's.
            if let Err(error) = signed.check_signatures(&role).and_then(|()| match self.mode {
                TrustMode::Strict => signed.check_not_expired(self.now),
                TrustMode::Historical => Ok(()),
            }) {
                tree.left_out.push(error.to_string());
                continue;
            }
            self.take(&role.name, &signed, seen)?;
            let own = self.of(signed.targets())?;
            tree.add(&role.name, &own.targets, |name| role.may_name(name));
            let below = format!("{}/", role.name);
            waiting.extend(own.delegations.into_iter().rev().filter(|child| child.name.starts_with(&below)));
        }
        Ok(())
    }

    /// Notes a document's version and its end, and refuses one that is too old.
    fn take(&self, role: &str, signed: &Signed, seen: &mut Seen) -> Result<(), ChainError> {
        if let Some(known) = self.remembered.and_then(|remembered| remembered.versions.get(role)).filter(|known| **known > signed.version) {
            return Err(self.rollback(role, *known, signed.version));
        }
        seen.versions.insert(role.to_owned(), signed.version);
        match (signed.check_not_expired(self.now), self.mode) {
            (Err(error), TrustMode::Strict) => self.of(Err(error)),
            (Err(_), TrustMode::Historical) => {
                seen.expired.push((signed.document.clone(), signed.expires));
                Ok(())
            }
            (Ok(()), _) => Ok(()),
        }
    }

    fn rollback(&self, role: &str, known: u64, found: u64) -> ChainError {
        ChainError::Rollback { repository: self.repository.to_owned(), document: format!("{role}.json"), known, found }
    }

    fn missing(&self, name: &str) -> ChainError {
        ChainError::Missing { repository: self.repository.to_owned(), document: format!("{name}.json") }
    }

    async fn wanted(&self, name: &str, digest: Option<&Digest>) -> Result<Vec<u8>, ChainError> {
        self.document(name, digest).await?.ok_or_else(|| self.missing(name))
    }

    async fn document(&self, name: &str, digest: Option<&Digest>) -> Result<Option<Vec<u8>>, ChainError> {
        let failed = |source| ChainError::Place { repository: self.repository.to_owned(), source: Box::new(source) };
        self.place.document(name, digest).await.map_err(failed)
    }

    fn of<T>(&self, result: Result<T, MetadataError>) -> Result<T, ChainError> {
        result.map_err(|source| ChainError::Document { repository: self.repository.to_owned(), source })
    }
}

/// What all documents with targets say together.
struct Tree {
    released: Vec<SignedTag>,
    others: Vec<SignedTag>,
    signers: Vec<Signer>,
    left_out: Vec<String>,
    seen: usize,
}

impl Tree {
    fn add(&mut self, role: &str, targets: &BTreeMap<String, Named>, may_name: impl Fn(&str) -> bool) {
        for (tag, named) in targets.iter().filter(|(tag, _)| may_name(tag)) {
            let signed = SignedTag { tag: tag.clone(), digest: named.sha256, size: named.length, role: role.to_owned() };
            if role == TARGETS || role == RELEASES {
                self.released.push(signed);
            } else {
                self.others.push(signed);
            }
        }
    }
}

fn digest<'n>(names: Option<&'n Names>, name: &str) -> Option<&'n Digest> {
    names.and_then(|names| names.documents.get(name)).map(|named| &named.sha256)
}

fn listed<'k>(keys: impl Iterator<Item = &'k KeyId>) -> String {
    keys.map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
