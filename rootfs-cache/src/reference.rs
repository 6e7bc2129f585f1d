//! What a user writes to name an image, and the platform it is wanted for.
//!
//! Pure text: knows neither registries nor lock files, and touches no file. A reference in hand has been checked for form, so that its parts may become
//! parts of a URL or of a path.

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, ParseDigestError};

mod layout;
mod platform;

pub use layout::{LayoutForm, LayoutReference};
pub use platform::{Architecture, Platform};

/// Longest repository name with its registry, as docker has it.
const NAME_MAX: usize = 255;
/// Longest tag, by the OCI distribution specification.
const TAG_MAX: usize = 128;
/// Longest text taken for a reference at all: a path of `PATH_MAX` and an annotation beside it.
const TEXT_MAX: usize = 8192;
/// What docker means when no registry is written.
const DOCKER_HUB: &str = "docker.io";
/// Names of Lambda's language families, the longer before those they begin with.
const FAMILIES: [&str; 8] = ["nodejs", "python", "ruby", "java", "go", "dotnetcore", "dotnet", "provided"];

/// An image as the user names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ImageReference {
    /// A bare runtime name such as `nodejs12.x`: a lock file says which image that is.
    Runtime(RuntimeId),
    /// An image in a registry.
    Registry(RegistryReference),
    /// An image in files of this machine: `oci:DIR[:REF]`, `oci-archive:FILE[:REF]`, `docker-archive:FILE[:REF]`.
    Layout(LayoutReference),
    /// The machine's own userland, `host`.
    Host,
}

/// Why a text names no image.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseReferenceError {
    /// There is no text.
    #[error("the image reference is empty")]
    Empty,
    /// The text, or the name within it, is longer than any registry takes.
    #[error("the {part} of the image reference has {length} characters, at most {max} are allowed")]
    TooLong {
        /// Which part.
        part: &'static str,
        /// Its length.
        length: usize,
        /// The longest allowed.
        max: usize,
    },
    /// What stands before the first slash is no host.
    #[error("image reference `{text}`: `{registry}` is not a registry: a host name or address with an optional port is wanted")]
    Registry {
        /// The whole reference.
        text: String,
        /// The part that is wrong.
        registry: String,
    },
    /// A part of the repository's name is wrong.
    #[error(
        "image reference `{text}`: `{component}` is not a part of a repository name: lower-case letters and digits, joined by `.`, `_`, `__` or `-`, are wanted"
    )]
    Component {
        /// The whole reference.
        text: String,
        /// The part that is wrong.
        component: String,
    },
    /// The tag is wrong.
    #[error(
        "image reference `{text}`: `{tag}` is not a tag: at most 128 letters, digits, `_`, `.` and `-`, not starting with `.` or `-`, are wanted"
    )]
    Tag {
        /// The whole reference.
        text: String,
        /// The part that is wrong.
        tag: String,
    },
    /// What follows the `@` is no digest.
    #[error("image reference `{text}`: what follows `@` is not a digest")]
    Digest {
        /// The whole reference.
        text: String,
        /// What is wrong with it.
        source: ParseDigestError,
    },
    /// An OCI layout or an archive without its path, or a colon with nothing behind it.
    #[error("image reference `{text}`: `{form}` is wanted, but {missing} is missing")]
    Layout {
        /// The whole reference.
        text: String,
        /// How it is written.
        form: &'static str,
        /// The part that is missing.
        missing: &'static str,
    },
    /// A runtime name with characters no runtime has.
    #[error("`{0}` is not a runtime name: lower-case letters, digits, `.`, `_` and `-` are wanted")]
    Runtime(String),
    /// Not a platform we know.
    #[error("`{0}` is not a platform: `linux/amd64` or `linux/arm64` is wanted")]
    Platform(String),
}

impl FromStr for ImageReference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, ParseReferenceError> {
        if text.is_empty() {
            return Err(ParseReferenceError::Empty);
        }
        check_length("text", text, TEXT_MAX)?;
        if text == "host" {
            return Ok(Self::Host);
        }
        if let Some(layout) = LayoutReference::parse(text) {
            return layout.map(Self::Layout);
        }
        if has_runtime_shape(text) {
            return text.parse().map(Self::Runtime);
        }
        text.parse().map(Self::Registry)
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(runtime) => runtime.fmt(f),
            Self::Registry(reference) => reference.fmt(f),
            Self::Layout(reference) => reference.fmt(f),
            Self::Host => f.write_str("host"),
        }
    }
}

/// The name of a runtime, as in `nodejs12.x` or `provided.al2023`: one path component.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuntimeId(String);

impl RuntimeId {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RuntimeId {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, ParseReferenceError> {
        check_length("runtime name", text, TAG_MAX)?;
        if is_component(text) { Ok(Self(text.to_owned())) } else { Err(ParseReferenceError::Runtime(text.to_owned())) }
    }
}

impl fmt::Display for RuntimeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a bare name looks like a Lambda runtime: a family and a version. No image of Docker Hub's library is named so.
fn has_runtime_shape(text: &str) -> bool {
    FAMILIES.iter().filter_map(|family| text.strip_prefix(family).map(|version| (*family, version))).any(|(family, version)| {
        let start = if family == "provided" {
            version.is_empty() || version.starts_with(".al")
        } else {
            version.starts_with(|c: char| c.is_ascii_digit())
        };
        start && version.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.')
    })
}

/// An image in a registry. Shown in full: `docker.io/lambci/lambda:nodejs12.x`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegistryReference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl RegistryReference {
    /// The registry as it is named, host and optional port: `docker.io`, `127.0.0.1:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The host and port that answer for the registry. Docker Hub is named by one host and served by another.
    pub fn api_host(&self) -> &str {
        if self.registry == DOCKER_HUB { "registry-1.docker.io" } else { &self.registry }
    }

    /// The host alone, without port and without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        host_of(&self.registry)
    }

    /// The repository: `lambci/lambda`, `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `latest` was filled in where neither tag nor digest was written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of a manifest or of an index, where one was written.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What a trust server keeps about a repository is found by its whole name.
    pub(crate) fn at_trust_server(server: &str, repository: &str) -> Self {
        Self { registry: server.to_owned(), repository: repository.to_owned(), tag: None, digest: None }
    }

    /// The same repository, and in it what a digest names.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// The same repository and tag without a digest, or none where there is no tag.
    pub fn without_digest(&self) -> Option<Self> {
        self.tag.as_ref().map(|_| Self { digest: None, ..self.clone() })
    }

    /// As docker shows it: without `docker.io/` and `library/`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let short = full.strip_prefix("docker.io/").unwrap_or(&full);
        short.strip_prefix("library/").filter(|_| self.registry == DOCKER_HUB).unwrap_or(short).to_owned()
    }

    /// The bare name this is docker's long form of: `docker.io/library/NAME:latest` is what `NAME` means.
    pub fn bare_name(&self) -> Option<&str> {
        let plain = self.registry == DOCKER_HUB && self.tag() == Some("latest") && self.digest.is_none();
        self.repository.strip_prefix("library/").filter(|_| plain)
    }
}

impl FromStr for RegistryReference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, ParseReferenceError> {
        let (named, digest) = match text.split_once('@') {
            None => (text, None),
            Some((named, digest)) => {
                let digest = digest.parse().map_err(|source| ParseReferenceError::Digest { text: text.to_owned(), source })?;
                (named, Some(digest))
            }
        };
        // A colon before the last slash belongs to the registry's port.
        let path_start = named.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match named[path_start..].split_once(':') {
            None => (named, None),
            Some((last, tag)) => (&named[..path_start + last.len()], Some(tag)),
        };
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ParseReferenceError::Tag { text: text.to_owned(), tag: tag.to_owned() });
        }
        let (registry, repository) = split_name(text, name)?;
        check_length("name", &format!("{registry}/{repository}"), NAME_MAX)?;
        let tag = tag.or(if digest.is_none() { Some("latest") } else { None }).map(str::to_owned);
        Ok(Self { registry, repository, tag, digest })
    }
}

impl fmt::Display for RegistryReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Registry and repository of a name, by docker's rule: what stands before the first slash is a registry if it could not be a repository's part or is `localhost`.
fn split_name(text: &str, name: &str) -> Result<(String, String), ParseReferenceError> {
    let is_registry = |part: &str| part.contains(['.', ':', '[']) || part == "localhost" || part.chars().any(|c| c.is_ascii_uppercase());
    let (registry, path) = match name.split_once('/') {
        Some((first, rest)) if is_registry(first) => (first, rest),
        _ => (DOCKER_HUB, name),
    };
    if !is_host_and_port(registry) {
        return Err(ParseReferenceError::Registry { text: text.to_owned(), registry: registry.to_owned() });
    }
    if let Some(component) = path.split('/').find(|component| !is_component(component)) {
        return Err(ParseReferenceError::Component { text: text.to_owned(), component: component.to_owned() });
    }
    let registry = if registry == "index.docker.io" { DOCKER_HUB } else { registry };
    let library = if registry == DOCKER_HUB && !path.contains('/') { "library/" } else { "" };
    Ok((registry.to_owned(), format!("{library}{path}")))
}

/// `[a-z0-9]+` joined by one `.`, one or two `_`, or any number of `-`.
fn is_component(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators = text.split(is_word).filter(|between| !between.is_empty());
    text.starts_with(is_word)
        && text.ends_with(is_word)
        && separators.into_iter().all(|separator| matches!(separator, "." | "_" | "__") || separator.chars().all(|c| c == '-'))
}

fn is_tag(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= TAG_MAX && text.starts_with(is_word) && text.chars().all(|c| is_word(c) || c == '.' || c == '-')
}

fn is_host_and_port(text: &str) -> bool {
    let host = host_of(text);
    let is_label = |label: &str| {
        !label.starts_with('-')
            && !label.ends_with('-')
            && !label.is_empty()
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let (is_host, port) = match text.strip_prefix('[') {
        Some(rest) => (host.parse::<std::net::Ipv6Addr>().is_ok(), rest.split_once(']').map_or("]", |(_, port)| port)),
        None => (host.split('.').all(is_label), &text[host.len()..]),
    };
    is_host
        && (port.is_empty()
            || port.strip_prefix(':').is_some_and(|digits| {
                digits.starts_with(|c: char| c.is_ascii_digit()) && digits.parse::<u16>().is_ok_and(|port| port != 0)
            }))
}

fn host_of(registry: &str) -> &str {
    match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => registry.split(':').next().unwrap_or(registry),
    }
}

fn check_length(part: &'static str, text: &str, max: usize) -> Result<(), ParseReferenceError> {
    if text.len() > max { Err(ParseReferenceError::TooLong { part, length: text.len(), max }) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
