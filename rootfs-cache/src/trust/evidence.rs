//! What was proved and what was not, in plain words.

use chrono::{DateTime, SecondsFormat, Utc};

use super::TrustMode;

/// Why the root of a repository is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootTrust {
    /// The user named its key.
    Pinned,
    /// Its key comes with the program.
    BuiltIn,
    /// It leads back to the one seen before.
    Remembered(DateTime<Utc>),
    /// It is seen for the first time, and nothing else speaks for it.
    FirstUse,
}

/// Whether what is signed is known to be of today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// The timestamp has not expired.
    Proved,
    /// It was, once.
    Over,
    /// There is no timestamp, or no snapshot.
    Unknown,
}

impl Freshness {
    pub(super) fn of(is_complete: bool, expired: &[(String, DateTime<Utc>)]) -> Self {
        match (is_complete, expired.is_empty()) {
            (true, true) => Self::Proved,
            (true, false) => Self::Over,
            (false, _) => Self::Unknown,
        }
    }
}

/// What was proved, and what was not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// How it was looked at.
    pub mode: TrustMode,
    /// Why the root is trusted.
    pub root: RootTrust,
    /// Whether it is of today.
    pub freshness: Freshness,
    /// The documents whose time is over, and since when.
    pub expired: Vec<(String, DateTime<Utc>)>,
    /// Whether the documents are known to belong together.
    pub has_snapshot: bool,
    /// Since when the repository is known here: what is older than what was seen since is refused.
    pub compared: Option<DateTime<Utc>>,
    /// Signers that were left out, and why.
    pub left_out: Vec<String>,
}

impl Evidence {
    /// What was proved, a sentence each.
    pub fn proved(&self) -> Vec<String> {
        let mut lines = vec!["the tags are signed by the keys of this repository".to_owned()];
        lines.push(match &self.root {
            RootTrust::Pinned => "the root key is the one given with `--trust-root`".to_owned(),
            RootTrust::BuiltIn => "the root key is the one that comes with undocked".to_owned(),
            RootTrust::Remembered(since) => format!("the root leads back to the one first seen here at {}", shown(since)),
            RootTrust::FirstUse => "the root key is for this repository by its own word".to_owned(),
        });
        if self.has_snapshot {
            lines.push("the documents belong together".to_owned());
        }
        if self.freshness == Freshness::Proved {
            lines.push("the documents are of today".to_owned());
        }
        if let Some(since) = &self.compared {
            lines.push(format!("no document is older than what was seen since {}", shown(since)));
        }
        lines
    }

    /// What was not proved, a sentence each.
    pub fn not_proved(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.root == RootTrust::FirstUse {
            lines.push("that the root key is the publisher's: it is trusted since it is seen for the first time".to_owned());
        }
        if !self.has_snapshot {
            lines.push("that the documents belong together: there is no snapshot".to_owned());
        }
        match self.freshness {
            Freshness::Proved => {}
            Freshness::Over => lines.push("that the tags still mean this: the signatures were good once".to_owned()),
            Freshness::Unknown => lines.push("that the tags still mean this: there is no timestamp".to_owned()),
        }
        lines.extend(self.expired.iter().map(|(document, when)| format!("that {document} still holds: it has expired at {}", shown(when))));
        if self.compared.is_none() {
            lines.push("that nothing newer was ever shown: the repository is seen here for the first time".to_owned());
        }
        lines.extend(self.left_out.iter().map(|why| format!("what a signer says who was left out: {why}")));
        lines
    }
}

pub(super) fn shown(time: &DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
