//! How registries are reached, as the user wants it. Plain values: nothing here is read or sent.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::reference::{ParseReferenceError, RegistryReference};

/// How registries are reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RegistryAccess {
    /// Hosts, with or without a port, that are spoken to by plain HTTP though they are not loopback.
    pub insecure: Vec<String>,
    /// Mirrors that are asked before the registry, and before those of `registries`.
    pub mirrors: Vec<Mirror>,
    /// Files in the form of `registries.conf`; later ones win. They need not exist.
    pub registries: Vec<PathBuf>,
    /// Files with stored logins, in the order in which they are asked. They need not exist.
    pub logins: Vec<PathBuf>,
    /// Files with certificate authorities that are trusted beside the machine's own.
    pub authorities: Vec<PathBuf>,
    /// Folders that hold a folder with certificates for a registry, named after it.
    pub certificates: Vec<PathBuf>,
    /// Proxies that connections go through.
    pub proxies: Proxies,
    /// Where credential helpers are looked for.
    pub search_path: OsString,
    /// How long what fails is tried again.
    pub patience: Patience,
}

/// Proxies that connections go through. Loopback is always reached directly.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Proxies {
    /// For `http://`.
    pub http: Option<String>,
    /// For `https://`.
    pub https: Option<String>,
    /// Hosts that are reached directly, as `NO_PROXY` lists them.
    pub direct: Option<String>,
}

impl fmt::Debug for Proxies {
    /// A proxy's URL may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |proxy: &Option<String>| proxy.as_ref().map(|_| "(set)");
        f.debug_struct("Proxies")
            .field("http", &shown(&self.http))
            .field("https", &shown(&self.https))
            .field("direct", &self.direct)
            .finish()
    }
}

/// How long what fails is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patience {
    /// About how long is waited after the first failure, and twice that after each further one.
    pub base: Duration,
    /// The longest wait, also where a registry asks for a longer one: then it is given up at once.
    pub longest: Duration,
    /// How often a request is sent before it is given up.
    pub tries: u32,
    /// The longest silence in the middle of an answer.
    pub silence: Duration,
    /// How long a credential helper may take.
    pub helper: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            base: if cfg!(test) { Duration::ZERO } else { Duration::from_millis(300) },
            longest: Duration::from_secs(60),
            tries: 5,
            silence: Duration::from_secs(60),
            helper: Duration::from_secs(30),
        }
    }
}

/// How a host is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Plain HTTP for loopback and for hosts that were declared insecure, else TLS.
    Usual,
    /// Plain HTTP, too.
    Insecure,
    /// TLS, whatever the host.
    Tls,
}

/// A place that has copies of a registry's images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The registry, or the part of it, whose images are there.
    pub of: String,
    /// Where they are: a host with an optional port and an optional path.
    pub location: String,
    /// How it is spoken to.
    pub transport: Transport,
}

/// Why a text names no mirror.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseMirrorError {
    /// A part of it is no registry.
    #[error("mirror `{text}`: `{part}` is no registry with an optional path")]
    Place {
        /// The whole text.
        text: String,
        /// The part that is wrong.
        part: String,
        /// What is wrong with it.
        source: ParseReferenceError,
    },
}

impl FromStr for Mirror {
    type Err = ParseMirrorError;

    /// `[REGISTRY=][http://|https://]HOST[:PORT][/PATH]`; without REGISTRY it is a mirror of Docker Hub, as with dockerd.
    fn from_str(text: &str) -> Result<Self, ParseMirrorError> {
        let (of, location) = text.split_once('=').unwrap_or(("docker.io", text));
        let (transport, location) = match (location.strip_prefix("http://"), location.strip_prefix("https://")) {
            (Some(location), _) => (Transport::Insecure, location),
            (_, Some(location)) => (Transport::Usual, location),
            _ => (Transport::Usual, location),
        };
        let place = |part: &str| {
            let part = part.trim_end_matches('/');
            // A bare word would be taken for a repository of Docker Hub's.
            let named = if part.contains('/') { format!("{part}/x") } else { format!("{part}/x/x") };
            let parsed: Result<RegistryReference, _> = named.parse();
            match parsed {
                Ok(parsed) if part == "docker.io" || parsed.registry() == part.split('/').next().unwrap_or(part) => Ok(part.to_owned()),
                Ok(_) => Err(ParseReferenceError::Registry { text: text.to_owned(), registry: part.to_owned() }),
                Err(source) => Err(source),
            }
            .map_err(|source| ParseMirrorError::Place { text: text.to_owned(), part: part.to_owned(), source })
        };
        Ok(Self { of: place(of)?, location: place(location)?, transport })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors() {
        for (text, wanted) in [
            ("mirror.local:5000", Some(("docker.io", "mirror.local:5000", Transport::Usual))),
            ("http://mirror.local/hub/", Some(("docker.io", "mirror.local/hub", Transport::Insecure))),
            ("public.ecr.aws=https://mirror.local/ecr", Some(("public.ecr.aws", "mirror.local/ecr", Transport::Usual))),
            ("public.ecr.aws/lambda=localhost:5000", Some(("public.ecr.aws/lambda", "localhost:5000", Transport::Usual))),
            ("docker.io=[::1]:5000", Some(("docker.io", "[::1]:5000", Transport::Usual))),
            ("", None),
            ("mirror", None),
            ("=mirror.local", None),
            ("hub=mirror.local", None),
            ("mirror.local:port", None),
            ("mirror.local/Upper", None),
            ("ftp://mirror.local", None),
        ] {
            let parsed: Result<Mirror, _> = text.parse();
            let found = parsed.as_ref().ok().map(|mirror| (mirror.of.as_str(), mirror.location.as_str(), mirror.transport));
            assert_eq!(found, wanted, "{text}: {parsed:?}");
        }
    }

    #[test]
    fn a_proxys_password_is_not_shown() {
        let proxies = Proxies { https: Some("http://u:secret@p:3128".to_owned()), ..Proxies::default() };
        assert!(!format!("{proxies:?}").contains("secret"));
    }
}
