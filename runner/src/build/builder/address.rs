//! `ADD` of an address: <https://docs.docker.com/reference/dockerfile/#adding-files-from-a-url>

use std::os::fd::AsRawFd as _;

use rootfs_cache::digest::Digest;
use rootfs_cache::source::download::Address;

use super::{Builder, Fetched, StepError};
use crate::build::copy::Taken;
use crate::build::dockerfile::Wrong;
use crate::build::layer::{Content, Entry};

/// What a source of `ADD` is by its first letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A path of the context.
    Path,
    /// A file elsewhere.
    Address(Address),
    /// A repository of Git's.
    Repository,
}

/// As docker tells them apart.
pub(super) fn kind(source: &str) -> Result<Kind, Wrong> {
    if ["git@", "git://", "ssh://"].iter().any(|start| source.starts_with(start)) {
        return Ok(Kind::Repository);
    }
    if !source.starts_with("http://") && !source.starts_with("https://") {
        return Ok(Kind::Path);
    }
    let path = source.split(['#', '?']).next().unwrap_or(source);
    if path.ends_with(".git") {
        return Ok(Kind::Repository);
    }
    source.parse().map(Kind::Address).map_err(|error: rootfs_cache::source::download::ParseAddressError| Wrong::new(error.to_string()))
}

/// `--checksum`, of the one address that it is for: `count` are all sources, here-documents among them.
pub(super) fn checksum(text: &str, count: usize, sources: &[String]) -> Result<Digest, Wrong> {
    let hint = "`ADD --checksum=sha256:DIGEST ADDRESS TARGET`";
    match sources {
        [source] if count == 1 && matches!(kind(source)?, Kind::Address(_)) => {}
        [_] if count == 1 => return Err(Wrong::hint("`ADD --checksum` is for addresses of HTTP and HTTPS alone", hint)),
        _ => return Err(Wrong::hint("`ADD --checksum` is for one source alone", hint)),
    }
    text.parse().map_err(|_| Wrong::hint(format!("`--checksum={text}` is not supported"), hint))
}

/// The name of the file that an address gives; a target without a `/` at its end gives it one.
pub(super) fn name(source: &str, address: &Address, target: &str) -> Result<String, Wrong> {
    match address.file_name() {
        Some(name) => Ok(name),
        None if target.ends_with('/') => {
            Err(Wrong::hint(format!("`ADD {source}`: the address names no file"), "give its name at the end of the target"))
        }
        None => Ok("__unnamed__".to_owned()),
    }
}

impl Builder<'_> {
    /// Downloads; only root may read what came, as with docker.
    pub(super) fn downloaded(
        &self,
        address: &Address,
        name: String,
        wanted: Option<&Digest>,
        held: &mut Vec<Fetched>,
    ) -> Result<Taken, StepError> {
        (self.hands.say)(&format!(" ---> Downloading {address}"));
        let fetched = (self.hands.fetch)(address).map_err(StepError::Failed)?;
        if let Some(wanted) = wanted.filter(|wanted| **wanted != fetched.digest) {
            return Err(Wrong::new(format!("`{address}` has the digest {}, and {wanted} is wanted", fetched.digest)).into());
        }
        let path = format!("/proc/self/fd/{}", fetched.file.as_raw_fd()).into();
        held.push(fetched);
        Ok(Taken::File(name.into(), Entry { content: Content::File(path), mode: 0o600, owner: (0, 0) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_sources() {
        let is_address = |source: &str| matches!(kind(source), Ok(Kind::Address(_)));
        for source in ["https://example.com/a.tar.gz", "http://localhost:1/x?ref=y.git", "https://example.com"] {
            assert!(is_address(source), "{source}");
        }
        for source in [
            "git@github.com:a/b.git",
            "git://x/y",
            "ssh://x/y",
            "https://github.com/a/b.git",
            "https://x/b.git#main",
            "http://x/b.git?ref=1",
        ] {
            assert_eq!(kind(source), Ok(Kind::Repository), "{source}");
        }
        for source in ["a", "https:/a", "httpsfile", "./https://x", "ftp://x/y"] {
            assert_eq!(kind(source), Ok(Kind::Path), "{source}");
        }
        assert!(kind("https://").is_err());
    }

    #[test]
    fn a_checksum_is_for_one_address() {
        let digest = Digest::of(b"x").to_string();
        let of = |count, source: &str| checksum(&digest, count, &[source.to_owned()]).map_err(|wrong| wrong.what);
        assert_eq!(of(1, "https://example.com/x"), Ok(Digest::of(b"x")));
        // A here-document beside it.
        assert_eq!(of(2, "https://example.com/x"), Err("`ADD --checksum` is for one source alone".to_owned()));
        assert!(of(1, "x").is_err() && of(1, "https://example.com/x.git").is_err());
        assert!(checksum("md5:1", 1, &["https://example.com/x".to_owned()]).is_err());
    }
}
