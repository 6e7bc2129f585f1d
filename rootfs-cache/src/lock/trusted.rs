//! Why a pin is believed: the details that a lock file keeps of it.

use std::fmt::Write as _;

use serde::Deserialize;

use super::quoted;
use crate::digest::Digest;

/// Why a pin is believed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PinTrust {
    /// It was there when the reference was first used.
    FirstUse {
        /// The platform manifest that was there then; a later pin of the same reference keeps it.
        digest: Digest,
        /// When that was, in UTC.
        time: String,
    },
    /// Docker Content Trust.
    Dct {
        /// The id of the root's key; of several, that of the first.
        root_key: String,
        /// The id of the key that signs tags.
        repository_key: String,
        /// What the tag is signed as: the platform manifest, or the index in which it was found.
        signed: Digest,
        /// The digest of `targets.json`.
        targets: Digest,
        /// Its version.
        targets_version: u64,
        /// When it expires, in UTC. The format keeps no time of signing.
        expires: String,
        /// How it was looked at: `strict` or `historical`.
        mode: String,
    },
    /// A signature in the registry by a key of the user's.
    Cosign {
        /// The digest of the public key in DER form.
        key: Digest,
        /// What is signed: the platform manifest, or the index in which it was found.
        signed: Digest,
    },
}

impl PinTrust {
    pub(super) fn write(&self, text: &mut String) {
        let _ = match self {
            Self::FirstUse { digest, time } => {
                writeln!(text, "trust = {{ kind = \"first-use\", digest = \"{digest}\", time = {} }}", quoted(time))
            }
            Self::Dct { root_key, repository_key, signed, targets, targets_version, expires, mode } => {
                let [root_key, repository_key, expires, mode] = [root_key, repository_key, expires, mode].map(|value| quoted(value));
                writeln!(
                    text,
                    "trust = {{ kind = \"dct\", root_key = {root_key}, repository_key = {repository_key}, signed = \"{signed}\", targets = \"{targets}\", targets_version = {targets_version}, expires = {expires}, mode = {mode} }}"
                )
            }
            Self::Cosign { key, signed } => {
                writeln!(text, "trust = {{ kind = \"cosign\", key = \"{key}\", signed = \"{signed}\" }}")
            }
        };
    }
}
