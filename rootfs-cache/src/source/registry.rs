//! A repository of a registry and of its mirrors: what a tag means, manifests, and blobs that go on where they broke off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};

use super::endpoint::{Ask, Capped, Endpoint, Got, Purpose};
use super::registries;
use super::{Blob, Notes, RegistryAccess, SizeSaidBy, SourceError, check_manifest};
use crate::digest::Digest;
use crate::manifest::{ACCEPTED, Descriptor, MANIFEST_MAX_BYTES};
use crate::reference::RegistryReference;

mod resume;

use resume::Resumed;

pub(super) const MANIFEST: Capped = Capped { name: "manifest", max: MANIFEST_MAX_BYTES };

/// A repository of a registry, and its copies.
pub(crate) struct RegistrySource<'a> {
    reference: RegistryReference,
    /// The registry itself comes last.
    endpoints: Vec<Candidate<'a>>,
}

/// One of the places where the repository is.
struct Candidate<'a> {
    endpoint: Endpoint<'a>,
    /// A mirror that failed is not asked again.
    has_failed: AtomicBool,
}

impl<'a> RegistrySource<'a> {
    pub(super) fn new(reference: &RegistryReference, access: &RegistryAccess, notes: Notes<'a>) -> Result<Self, SourceError> {
        let unreachable = |source| SourceError::Unreachable { registry: reference.registry().to_owned(), source };
        let places = registries::places(reference, access, notes).map_err(unreachable)?;
        let access = Arc::new(access.clone());
        let candidate =
            |place| Candidate { endpoint: Endpoint::new(place, &access, Purpose::Pull, notes), has_failed: AtomicBool::new(false) };
        let endpoints = places.mirrors.into_iter().chain([places.registry]).map(candidate).collect();
        Ok(Self { reference: reference.clone(), endpoints })
    }

    pub(super) fn place(&self) -> String {
        format!("registry `{}`", self.reference.registry())
    }

    /// The digest that the tag names now.
    pub(super) async fn current(&self) -> Result<Digest, SourceError> {
        let tag = self.reference.tag().unwrap_or("latest");
        self.first(Endpoint::is_asked_for_tags, |endpoint| Box::pin(resolve(endpoint, tag))).await
    }

    pub(super) async fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, SourceError> {
        self.first(Endpoint::is_asked_for_digests, |endpoint| Box::pin(manifest(endpoint, digest))).await
    }

    /// Opens a blob.
    pub(super) async fn blob(&self, blob: &Descriptor) -> Result<Blob<'_>, SourceError> {
        let mut last = None;
        for (at, candidate) in self.endpoints.iter().enumerate().filter(|(_, candidate)| candidate.is_asked(Endpoint::is_asked_for_digests))
        {
            match open_blob(&candidate.endpoint, &self.endpoints[at + 1..], blob).await {
                Ok(blob) => return Ok(blob),
                Err(error) => last = Some(self.failed(candidate, error)),
            }
        }
        Err(last.unwrap_or_else(|| self.nowhere()))
    }

    /// Asks the mirrors in their order, and then the registry.
    async fn first<'s, T>(
        &'s self,
        is_asked: fn(&Endpoint<'a>) -> bool,
        ask: impl Fn(&'s Endpoint<'a>) -> BoxFuture<'s, Result<T, SourceError>>,
    ) -> Result<T, SourceError> {
        let mut last = None;
        for candidate in self.endpoints.iter().filter(|candidate| candidate.is_asked(is_asked)) {
            match ask(&candidate.endpoint).await {
                Ok(got) => return Ok(got),
                Err(error) => last = Some(self.failed(candidate, error)),
            }
        }
        Err(last.unwrap_or_else(|| self.nowhere()))
    }

    /// Tells of a mirror's failure. The registry's own is the one that counts.
    fn failed(&self, candidate: &Candidate<'_>, error: SourceError) -> SourceError {
        if self.endpoints.last().is_some_and(|registry| !std::ptr::eq(registry, candidate)) {
            candidate.failed(&error);
        }
        error
    }

    /// The registry itself is always asked.
    fn nowhere(&self) -> SourceError {
        SourceError::NotFound { place: self.place(), wanted: format!("place for `{}`", self.reference.repository()) }
    }
}

impl<'a> Candidate<'a> {
    fn is_asked(&self, is_asked: fn(&Endpoint<'a>) -> bool) -> bool {
        is_asked(&self.endpoint) && !self.has_failed.load(Ordering::Relaxed)
    }

    fn failed(&self, error: &SourceError) {
        // What it does not have it does not have; it may have the rest.
        if !matches!(error, SourceError::NotFound { .. }) {
            self.has_failed.store(true, Ordering::Relaxed);
        }
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        (self.endpoint.notes)(&format!("mirror `{}`: {error}{cause}: asking elsewhere", self.endpoint.registry));
    }
}

/// The digest that a tag names. HEAD, which Docker Hub does not count; where that tells no digest, the manifest itself is fetched and hashed.
pub(super) async fn resolve(endpoint: &Endpoint<'_>, tag: &str) -> Result<Digest, SourceError> {
    let wanted = format!("tag `{tag}` of `{}`", endpoint.repository());
    let path = endpoint.path(&format!("manifests/{tag}"));
    let accepts = [StatusCode::OK, StatusCode::METHOD_NOT_ALLOWED];
    let head = Ask { method: Method::HEAD, headers: accept_manifests(None), accepts: &accepts, ..Ask::get(path.clone(), &wanted) };
    let got = endpoint.send(&head).await?;
    match got.header("docker-content-digest") {
        Some(found) if got.status == StatusCode::OK => found.parse().map_err(|_| SourceError::Answer {
            registry: endpoint.registry.clone(),
            wanted,
            answer: format!("with digest `{}`", found.chars().take(100).collect::<String>()),
        }),
        _ => {
            let get = Ask { headers: accept_manifests(None), document: Some(MANIFEST), ..Ask::get(path, &wanted) };
            Ok(Digest::of(&endpoint.send(&get).await?.document))
        }
    }
}

async fn manifest(endpoint: &Endpoint<'_>, digest: &Digest) -> Result<Vec<u8>, SourceError> {
    let wanted = format!("manifest {digest} of `{}`", endpoint.repository());
    let path = endpoint.path(&format!("manifests/{digest}"));
    let got = endpoint.send(&Ask { headers: accept_manifests(None), document: Some(MANIFEST), ..Ask::get(path, &wanted) }).await?;
    check_manifest(&endpoint.name(), digest, &got.document)?;
    Ok(got.document)
}

/// Opens a blob at one place, whose digest is for the reader to check.
pub(super) async fn blob_of<'s>(endpoint: &'s Endpoint<'_>, blob: &Descriptor) -> Result<Blob<'s>, SourceError> {
    open_blob(endpoint, &[], blob).await
}

/// Opens a blob; where that place fails for good, it goes on at the others.
async fn open_blob<'s, 'a>(endpoint: &'s Endpoint<'a>, others: &'s [Candidate<'a>], blob: &Descriptor) -> Result<Blob<'s>, SourceError> {
    let wanted = format!("blob {} of `{}`", blob.digest, endpoint.repository());
    let got: Got = endpoint.send(&Ask::get(blob_path(endpoint, blob), &wanted)).await?;
    if let Some(received) = got.content_length.filter(|length| *length != blob.size) {
        let said_by = SizeSaidBy::Manifest;
        return Err(SourceError::Size { place: endpoint.name(), blob: blob.digest, received, expected: blob.size, said_by });
    }
    Ok(Blob::resumable(endpoint.name(), blob, Resumed::new(endpoint, others, blob, got.body).into_stream()))
}

fn blob_path(endpoint: &Endpoint<'_>, blob: &Descriptor) -> super::endpoint::Target {
    endpoint.path(&format!("blobs/{}", blob.digest))
}

/// Manifests of any kind, and what is `also` taken. In one line: there are proxies that pass on no more than one of a name.
pub(super) fn accept_manifests(also: Option<&str>) -> HeaderMap {
    let kinds: Vec<&str> = ACCEPTED.into_iter().chain(also).collect();
    // Media types are ASCII.
    HeaderValue::from_str(&kinds.join(", ")).into_iter().map(|value| (ACCEPT, value)).collect()
}

#[cfg(test)]
mod tests;
