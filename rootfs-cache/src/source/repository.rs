//! One repository of a registry, for what is more than a pull of an image: pushes, tags, signatures. Retries, tokens, redirects and limits are those of pulls.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Body, Method, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use super::endpoint::Purpose;
use super::endpoint::{Ask, Capped, Endpoint, Got, Target};
use super::registry::{self, MANIFEST};
use super::{Blob, Notes, RegistryAccess, SourceError, check_digest, check_size, registries};
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::reference::RegistryReference;

/// How much is read of what is uploaded at once.
const CHUNK_BYTES: usize = 256 << 10;
/// How often an upload is begun. What may pass within one request is tried again by itself.
const UPLOADS_MAX: usize = 3;
const REFERRERS: Capped = Capped { name: "list of referrers", max: 4 << 20 };
const TAGS: Capped = Capped { name: "list of tags", max: 4 << 20 };
/// Pages of a list that are read.
const PAGES_MAX: usize = 100;
/// What is said of a page for people where a list was asked for.
const HTML: &str = "a page of HTML";

/// A repository of a registry.
pub struct Repository<'a> {
    endpoint: Endpoint<'a>,
}

/// What names a manifest within a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManifestName<'n> {
    /// A tag.
    Tag(&'n str),
    /// Its digest.
    Digest(&'n Digest),
}

/// A manifest, or an index, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedManifest {
    /// The digest of its bytes.
    pub digest: Digest,
    /// What the registry says it is.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Something that a registry says refers to a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Referrer {
    /// The digest of its manifest.
    pub digest: Digest,
    /// What its manifest is.
    pub media_type: String,
    /// What it is.
    #[serde(default)]
    pub artifact_type: String,
    /// The size of its manifest.
    pub size: u64,
    /// Remarks.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// How a blob came to be in the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uploaded {
    /// It was sent.
    Now,
    /// It was there.
    Present,
}

#[derive(Deserialize)]
struct Referrers {
    manifests: Vec<Referrer>,
}

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

impl<'n> From<&'n Digest> for ManifestName<'n> {
    fn from(digest: &'n Digest) -> Self {
        Self::Digest(digest)
    }
}

impl<'n> From<&'n str> for ManifestName<'n> {
    fn from(tag: &'n str) -> Self {
        Self::Tag(tag)
    }
}

impl ManifestName<'_> {
    fn path(&self) -> String {
        match self {
            Self::Tag(tag) => format!("manifests/{tag}"),
            Self::Digest(digest) => format!("manifests/{digest}"),
        }
    }

    fn wanted(&self, repository: &str) -> String {
        match self {
            Self::Tag(tag) => format!("tag `{tag}` of `{repository}`"),
            Self::Digest(digest) => format!("manifest {digest} of `{repository}`"),
        }
    }
}

impl<'a> Repository<'a> {
    /// Opens a repository at its registry itself, not at a mirror. Nothing is sent yet.
    pub fn open(reference: &RegistryReference, access: &RegistryAccess, purpose: Purpose, notes: Notes<'a>) -> Result<Self, SourceError> {
        let unreachable = |source| SourceError::Unreachable { registry: reference.registry().to_owned(), source };
        let places = registries::places(reference, access, notes).map_err(unreachable)?;
        Ok(Self { endpoint: Endpoint::new(places.registry, &Arc::new(access.clone()), purpose, notes) })
    }

    /// The digest that a tag names now.
    pub async fn resolve(&self, tag: &str) -> Result<Digest, SourceError> {
        registry::resolve(&self.endpoint, tag).await
    }

    /// A manifest of any kind, if there is one of that name.
    pub async fn manifest(&self, name: ManifestName<'_>) -> Result<Option<FetchedManifest>, SourceError> {
        let endpoint = &self.endpoint;
        let wanted = name.wanted(endpoint.repository());
        let headers = registry::accept_manifests(Some("*/*;q=0.5"));
        let ask = Ask { headers, document: Some(MANIFEST), ..Ask::get(endpoint.path(&name.path()), &wanted) };
        let got = match endpoint.send(&ask).await {
            Err(SourceError::NotFound { .. }) => return Ok(None),
            got => got?,
        };
        if let ManifestName::Digest(digest) = name {
            check_digest(&endpoint.name(), "manifest", digest, &got.document)?;
        }
        let media_type = got.header("content-type").unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or(media_type).trim().to_owned();
        Ok(Some(FetchedManifest { digest: Digest::of(&got.document), media_type, bytes: got.document }))
    }

    /// Whether the repository has a blob.
    pub async fn has_blob(&self, blob: &Digest) -> Result<bool, SourceError> {
        let wanted = self.blob_wanted(blob);
        let ask = Ask { method: Method::HEAD, ..Ask::get(self.endpoint.path(&format!("blobs/{blob}")), &wanted) };
        match self.endpoint.send(&ask).await {
            Ok(_) => Ok(true),
            Err(SourceError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Opens a blob, whose digest is for the reader to check.
    pub(crate) async fn blob(&self, blob: &Descriptor) -> Result<Blob<'_>, SourceError> {
        registry::blob_of(&self.endpoint, blob).await
    }

    /// A blob of limited size, checked.
    pub async fn small_blob(&self, blob: &Descriptor, max_bytes: u64) -> Result<Vec<u8>, SourceError> {
        check_size("blob", blob.size, max_bytes)?;
        let mut chunks = self.blob(blob).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.next().await? {
            bytes.extend_from_slice(&chunk);
        }
        check_digest(&self.endpoint.name(), "blob", &blob.digest, &bytes)?;
        Ok(bytes)
    }

    /// What refers to a manifest; `None` where the registry does not keep such lists.
    pub async fn referrers(&self, subject: &Digest) -> Result<Option<Vec<Referrer>>, SourceError> {
        let wanted = format!("referrers of {subject} of `{}`", self.endpoint.repository());
        let first = self.endpoint.path(&format!("referrers/{subject}"));
        let pages: Vec<Referrers> = match self.pages(first, &wanted, REFERRERS).await {
            Err(SourceError::NotFound { .. }) => return Ok(None),
            // Registries that do not know the path answer all sorts of things; that of a login is told.
            Err(SourceError::Answer { answer, .. }) if ["405", "406", "501", HTML].iter().any(|start| answer.starts_with(start)) => {
                return Ok(None);
            }
            Err(SourceError::Refused { answer, .. }) if answer.starts_with("400") => return Ok(None),
            pages => pages?,
        };
        Ok(Some(pages.into_iter().flat_map(|page| page.manifests).collect()))
    }

    /// All tags.
    pub async fn tags(&self) -> Result<Vec<String>, SourceError> {
        let wanted = format!("tags of `{}`", self.endpoint.repository());
        let pages: Vec<Tags> = self.pages(self.endpoint.path("tags/list"), &wanted, TAGS).await?;
        Ok(pages.into_iter().flat_map(|page| page.tags.unwrap_or_default()).collect())
    }

    /// A list, page by page.
    async fn pages<T: DeserializeOwned>(&self, first: Target, wanted: &str, page: Capped) -> Result<Vec<T>, SourceError> {
        let (mut target, mut pages) = (first, Vec::new());
        for _ in 0..PAGES_MAX {
            let got = self.endpoint.send(&Ask { document: Some(page), ..Ask::get(target, wanted) }).await?;
            pages.push(self.parse(&got, wanted)?);
            match got.header("link").and_then(next_page).and_then(|link| got.url.join(link).ok()) {
                Some(next) => target = Target::Url(next),
                None => break,
            }
        }
        Ok(pages)
    }

    /// Takes a blob over from another repository of the registry. `false` if it must be uploaded.
    pub async fn mount(&self, blob: &Digest, from_repository: &str) -> Result<bool, SourceError> {
        let path = self.endpoint.path(&format!("blobs/uploads/?mount={blob}&from={from_repository}"));
        let wanted = self.blob_wanted(blob);
        let accepts = [StatusCode::CREATED, StatusCode::ACCEPTED];
        let ask = Ask { method: Method::POST, headers: empty_body(), accepts: &accepts, ..Ask::get(path, &wanted) };
        match self.endpoint.send(&ask).await {
            Ok(got) if got.status == StatusCode::CREATED => Ok(true),
            // An upload was begun instead, and times out there.
            Ok(_) | Err(SourceError::NotFound { .. } | SourceError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sends a blob, if it is not there. `open` gives its bytes from the start; it is called again where an upload must begin anew.
    pub async fn upload<R: Read + Send + 'static>(
        &self,
        blob: &Descriptor,
        open: impl Fn() -> io::Result<R> + Sync,
    ) -> Result<Uploaded, SourceError> {
        if self.has_blob(&blob.digest).await? {
            return Ok(Uploaded::Present);
        }
        let body = || Ok(body_of(open()?));
        let mut begun = 0;
        loop {
            begun += 1;
            match self.upload_once(blob, &body).await {
                // The place of an upload is forgotten by a registry that was started anew, and what came of a cut one is unknown.
                Err(SourceError::NotFound { .. } | SourceError::Unreachable { .. } | SourceError::Answer { .. }) if begun < UPLOADS_MAX => {
                }
                Err(error) => return Err(error),
                Ok(()) => return Ok(Uploaded::Now),
            }
        }
    }

    async fn upload_once(&self, blob: &Descriptor, body: &(dyn Fn() -> io::Result<Body> + Sync)) -> Result<(), SourceError> {
        let wanted = format!("an upload of blob {} to `{}`", blob.digest, self.endpoint.repository());
        let (endpoint, accepted, created) = (&self.endpoint, [StatusCode::ACCEPTED], [StatusCode::CREATED]);
        let begin =
            Ask { method: Method::POST, headers: empty_body(), accepts: &accepted, ..Ask::get(endpoint.path("blobs/uploads/"), &wanted) };
        let mut place = self.location(&endpoint.send(&begin).await?, &wanted)?;
        if blob.size > 0 {
            let headers = HeaderMap::from_iter([
                (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
                (CONTENT_LENGTH, HeaderValue::from(blob.size)),
            ]);
            let send =
                Ask { method: Method::PATCH, headers, body: Some(body), accepts: &accepted, ..Ask::get(Target::Url(place), &wanted) };
            place = self.location(&endpoint.send_once_only(&send).await?, &wanted)?;
        }
        place.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
        let end = Ask { method: Method::PUT, headers: empty_body(), accepts: &created, ..Ask::get(Target::Url(place), &wanted) };
        endpoint.send_once_only(&end).await.map(drop)
    }

    /// Stores a manifest.
    pub async fn put_manifest(&self, name: ManifestName<'_>, media_type: &str, bytes: &[u8]) -> Result<Digest, SourceError> {
        let (endpoint, digest) = (&self.endpoint, Digest::of(bytes));
        check_size("manifest", bytes.len() as u64, MANIFEST.max)?;
        let wanted = format!("storage of {}", name.wanted(endpoint.repository()));
        let bad_type = |_| SourceError::Answer {
            registry: endpoint.registry.clone(),
            wanted: wanted.clone(),
            answer: format!("nothing: `{media_type}` is no media type"),
        };
        let content_type = HeaderValue::from_str(media_type).map_err(bad_type)?;
        let content = Bytes::copy_from_slice(bytes);
        let body = || Ok(Body::from(content.clone()));
        let put = Ask {
            method: Method::PUT,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, content_type)]),
            body: Some(&body),
            accepts: &[StatusCode::CREATED, StatusCode::OK, StatusCode::ACCEPTED],
            ..Ask::get(endpoint.path(&name.path()), &wanted)
        };
        let got = endpoint.send(&put).await?;
        match got.header("docker-content-digest").filter(|found| *found != digest.to_string()) {
            Some(found) => {
                Err(SourceError::Digest { place: endpoint.name(), wanted: format!("manifest {digest}"), found: found.to_owned() })
            }
            None => Ok(digest),
        }
    }

    fn blob_wanted(&self, blob: &Digest) -> String {
        format!("blob {blob} of `{}`", self.endpoint.repository())
    }

    /// Where an upload goes on.
    fn location(&self, got: &Got, wanted: &str) -> Result<Url, SourceError> {
        let location = got.header(LOCATION.as_str()).and_then(|location| got.url.join(location).ok());
        location.ok_or_else(|| self.unusable(wanted, "an upload without `Location`"))
    }

    fn parse<T: DeserializeOwned>(&self, got: &Got, wanted: &str) -> Result<T, SourceError> {
        serde_json::from_slice(&got.document).map_err(|error| match got.header("content-type") {
            Some(media_type) if media_type.starts_with("text/html") => self.unusable(wanted, HTML),
            _ => self.unusable(wanted, &format!("something unreadable ({error})")),
        })
    }

    fn unusable(&self, wanted: &str, answer: &str) -> SourceError {
        SourceError::Answer { registry: self.endpoint.registry.clone(), wanted: wanted.to_owned(), answer: answer.to_owned() }
    }
}

/// Of a `Link` header with `rel="next"`.
fn next_page(link: &str) -> Option<&str> {
    let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    rest.contains("next").then_some(target)
}

/// Some registries want to be told that nothing comes.
fn empty_body() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from_static("0"))])
}

/// Reads are local and short, so they block.
fn body_of(mut content: impl Read + Send + 'static) -> Body {
    let chunks = std::iter::from_fn(move || {
        let mut chunk = vec![0; CHUNK_BYTES];
        match content.read(&mut chunk) {
            Ok(0) => None,
            Ok(length) => {
                chunk.truncate(length);
                Some(Ok(Bytes::from(chunk)))
            }
            Err(error) => Some(Err(error)),
        }
    });
    Body::wrap_stream(stream::iter(chunks))
}

#[cfg(test)]
mod tests;
