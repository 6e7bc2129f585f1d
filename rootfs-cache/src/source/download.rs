//! A file from an address, as `ADD` of a Dockerfile wants one: over connections like those to registries, with their proxies, certificates, patience and rules of
//! where an answer may lead. Nothing proves who we are.

use std::fmt;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::str::FromStr;
use std::sync::Arc;

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode, Url};
use sha2::{Digest as _, Sha256};
use tokio::time::sleep;

use super::RegistryAccess;
use super::answer::{Answer, Meaning};
use super::http::{Http, HttpError, Outgoing, failed, shown, url_host};
use super::patience::Failures;
use crate::digest::Digest;

/// An address of HTTP or HTTPS. Shown without what may be secret in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(Url);

/// Why a text is no such address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no address of HTTP or HTTPS")]
pub struct ParseAddressError(String);

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// No connection, or it broke.
    #[error("cannot download `{address}`")]
    Unreachable {
        /// From where.
        address: Address,
        /// Why.
        source: HttpError,
    },
    /// Any other answer than the file.
    #[error("cannot download `{address}`: the server answered {answer}")]
    Answer {
        /// From where.
        address: Address,
        /// Its status, with its own words.
        answer: String,
    },
    /// It is larger than allowed.
    #[error("`{address}` has more than the {max} bytes allowed")]
    TooLarge {
        /// From where.
        address: Address,
        /// The most that is taken.
        max: u64,
    },
    /// It cannot be kept.
    #[error("cannot keep what `{address}` gives")]
    Write {
        /// From where.
        address: Address,
        /// What the kernel said.
        source: io::Error,
    },
}

impl DownloadError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { address, source } => source.hint(&url_host(&address.0)),
            Self::Write { source, .. } => crate::store::space_hint(source),
            _ => None,
        }
    }
}

impl Address {
    /// The last part of its path, which is a file's name: none where there is none that could be one.
    pub fn file_name(&self) -> Option<String> {
        let path = percent_encoding::percent_decode_str(self.0.path()).decode_utf8().ok()?;
        let name = path.trim_end_matches('/').rsplit('/').next()?;
        (!matches!(name, "" | "." | "..") && !name.contains('\0')).then(|| name.to_owned())
    }
}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url: Option<Url> = text.parse().ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        url.map(Self).ok_or_else(|| ParseAddressError(text.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.0))
    }
}

/// Writes the file into an empty one, from its beginning, and gives the digest of what it holds. At most `max` bytes are taken.
pub async fn download(address: &Address, access: &RegistryAccess, max: u64, file: &mut File) -> Result<Digest, DownloadError> {
    let http = Http::new(&Arc::new(access.clone()), &url_host(&address.0));
    let mut failures = Failures::none(&access.patience);
    let mut has_answered = false;
    loop {
        let (passes, asked_for, error) = match attempt(&http, address, max, file).await {
            Ok(digest) => return Ok(digest),
            Err(Fault::Http(source)) => {
                (source.is_passing(has_answered), None, DownloadError::Unreachable { address: address.clone(), source })
            }
            Err(Fault::Answer(answer)) => {
                has_answered = true;
                let (passes, asked_for) = (answer.meaning() == Meaning::Passing, answer.retry_after);
                (passes, asked_for, DownloadError::Answer { address: address.clone(), answer: answer.said() })
            }
            Err(Fault::Final(error)) => return Err(error),
        };
        match passes.then(|| failures.add(asked_for)).flatten() {
            Some(wait) => sleep(wait).await,
            None => return Err(error),
        }
    }
}

/// Why one try gave no file.
enum Fault {
    Http(HttpError),
    Answer(Answer),
    Final(DownloadError),
}

async fn attempt(http: &Http, address: &Address, max: u64, file: &mut File) -> Result<Digest, Fault> {
    let cannot_write = |source| Fault::Final(DownloadError::Write { address: address.clone(), source });
    file.set_len(0).and_then(|()| file.rewind()).map_err(cannot_write)?;
    let asked = Outgoing { method: Method::GET, url: address.0.clone(), headers: HeaderMap::new(), authorization: None, body: None };
    let mut response = http.send(&asked).await.map_err(Fault::Http)?;
    if response.status() != StatusCode::OK {
        return Err(Fault::Answer(Answer::read(response).await));
    }
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    while let Some(chunk) = response.chunk().await.map_err(|error| Fault::Http(failed(&address.0, error)))? {
        bytes += chunk.len() as u64;
        if bytes > max {
            return Err(Fault::Final(DownloadError::TooLarge { address: address.clone(), max }));
        }
        hash.update(&chunk);
        file.write_all(&chunk).map_err(cannot_write)?;
    }
    Ok(Digest::from_bytes(hash.finalize().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_the_names_of_their_files() {
        for (text, shown, name) in [
            ("https://example.com/a/b.tar.gz?token=secret#x", "https://example.com/a/b.tar.gz", Some("b.tar.gz")),
            ("HTTP://u:secret@example.com:8080/a%20b/", "http://example.com:8080/a%20b/", Some("a b")),
            ("https://example.com/a%2Fb", "https://example.com/a%2Fb", Some("b")),
            ("https://example.com/a%2F..", "https://example.com/a%2F..", None),
            ("https://example.com/a%00", "https://example.com/a%00", None),
            ("https://example.com/%ff", "https://example.com/%ff", None),
            ("https://example.com", "https://example.com/", None),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.to_string().as_str(), address.file_name().as_deref()), (shown, name), "{text}");
        }
        for text in ["", "a", "/a", "https://", "ftp://example.com/a", "file:///etc/passwd"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
