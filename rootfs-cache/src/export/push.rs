//! Sends an image to a registry: of the cache, or right out of an OCI layout or an archive. What the registry has already is not sent, nor looked for here.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;

use super::{Blobs, ExportError, Exported, ExportedImage};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Document, Index, Manifest, OCI_INDEX, media_type_of};
use crate::reference::{ImageReference, LayoutReference, Platform, RegistryReference};
use crate::source::repository::{ManifestName, Purpose, Repository, Uploaded};
use crate::source::{Notes, RegistryAccess, Section, Source, SourceError};
use crate::store::Cache;

/// Indexes in indexes.
const DEPTH_MAX: usize = 2;

/// What is pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushedImage {
    /// An image of the cache.
    Cached(ExportedImage),
    /// What a name of a layout or an archive means: an image, or an index with all its images. The platform chooses where the name has several entries.
    Local(LayoutReference, Platform),
}

/// How a push goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushEvent {
    /// A layer is there now.
    Pushed(Digest),
    /// A layer was there already.
    Present(Digest),
    /// The registry took a layer over from another of its repositories.
    Mounted(Digest),
}

/// What the registry has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushedManifest {
    /// Digest of the manifest or index.
    pub digest: Digest,
    /// Its length.
    pub size: u64,
}

/// A push under way.
struct Push<'a> {
    blobs: Blobs<'a>,
    to: Repository<'a>,
    destination: &'a RegistryReference,
    observer: &'a (dyn Fn(PushEvent) + Send + Sync),
    done: BTreeSet<Digest>,
}

/// Pushes an image under the name and tag of `destination`.
pub async fn push(
    cache: &Arc<Cache>,
    image: &PushedImage,
    destination: &RegistryReference,
    (access, notes): (&RegistryAccess, Notes<'_>),
    observer: &(dyn Fn(PushEvent) + Send + Sync),
) -> Result<PushedManifest, ExportError> {
    let opened = Repository::open(destination, access, Purpose::Push, notes);
    let to = opened.map_err(|source| ExportError::Push { destination: destination.to_string(), source: Box::new(source) })?;
    let mut push = Push { blobs: Blobs::new(cache, access, notes), to, destination, observer, done: BTreeSet::new() };
    match image {
        PushedImage::Cached(image) => push.cached(cache, image).await,
        PushedImage::Local(reference, platform) => push.local(cache, reference, platform).await,
    }
}

impl Push<'_> {
    async fn cached(&mut self, cache: &Cache, image: &ExportedImage) -> Result<PushedManifest, ExportError> {
        let exported = Exported::read(cache, image)?;
        let neighbours = self.neighbours(image);
        for layer in &exported.manifest.layers {
            if !self.done.insert(layer.digest) || self.is_there(layer, &neighbours).await? {
                continue;
            }
            let file = self.blobs.open(image, layer).await?;
            self.upload(layer, file).await?;
        }
        self.documents(&exported.manifest, &exported.documents.config).await?;
        let bytes = &exported.documents.manifest;
        self.named(media_type_of(bytes, &exported.manifest), bytes).await
    }

    async fn local(&mut self, cache: &Cache, reference: &LayoutReference, platform: &Platform) -> Result<PushedManifest, ExportError> {
        let origin = reference.to_string();
        let unread = |source| ExportError::Source { origin: origin.clone(), source: Box::new(source) };
        let source = Source::local(reference, &|| cache.nameless_file()).map_err(unread)?;
        let digest = source.current(platform).await.map_err(unread)?;
        let bytes = source.manifest(&digest).await.map_err(unread)?;
        let media_type = match Document::from_json(&bytes) {
            Ok(Document::Manifest(manifest)) => {
                self.local_image(&source, &origin, &manifest).await?;
                media_type_of(&bytes, &manifest)
            }
            Ok(Document::Index(index)) => {
                self.local_index(&source, &origin, &index).await?;
                OCI_INDEX
            }
            Err(source) => return Err(unread(SourceError::Manifest { digest, source })),
        };
        self.named(media_type, &bytes).await
    }

    /// An index's images, innermost first: a registry takes no index whose images it lacks.
    async fn local_index(&mut self, source: &Source<'_>, origin: &str, index: &Index) -> Result<(), ExportError> {
        let unread = |source| ExportError::Source { origin: origin.to_owned(), source: Box::new(source) };
        let mut waiting: Vec<(Digest, usize)> = index.manifests.iter().map(|entry| (entry.descriptor.digest, 1)).collect();
        let mut indexes = Vec::new();
        while let Some((digest, depth)) = waiting.pop() {
            let bytes = source.manifest(&digest).await.map_err(unread)?;
            match Document::from_json(&bytes) {
                Ok(Document::Manifest(manifest)) => {
                    self.local_image(source, origin, &manifest).await?;
                    self.put(ManifestName::Digest(&digest), media_type_of(&bytes, &manifest), &bytes).await?;
                }
                Ok(Document::Index(inner)) if depth < DEPTH_MAX => {
                    waiting.extend(inner.manifests.iter().map(|entry| (entry.descriptor.digest, depth + 1)));
                    indexes.push((digest, bytes));
                }
                Ok(Document::Index(_)) => {
                    return Err(unread(SourceError::Manifest { digest, source: crate::manifest::ManifestError::Nested }));
                }
                Err(source) => return Err(unread(SourceError::Manifest { digest, source })),
            }
        }
        for (digest, bytes) in &indexes {
            self.put(ManifestName::Digest(digest), OCI_INDEX, bytes).await?;
        }
        Ok(())
    }

    async fn local_image(&mut self, source: &Source<'_>, origin: &str, manifest: &Manifest) -> Result<(), ExportError> {
        for layer in &manifest.layers {
            if self.done.insert(layer.digest) && !self.is_there(layer, &[]).await? {
                let file = self.blobs.copy_of(source, origin, layer).await?;
                self.upload(layer, file).await?;
            }
        }
        let config = source.config(&manifest.config).await;
        let config = config.map_err(|source| ExportError::Source { origin: origin.to_owned(), source: Box::new(source) })?;
        self.documents(manifest, &config).await
    }

    /// Other repositories of the same registry that have the image.
    fn neighbours(&self, image: &ExportedImage) -> Vec<String> {
        let names = image.origins.iter().filter_map(|name| match name.parse() {
            Ok(ImageReference::Registry(name)) => Some(name),
            _ => None,
        });
        let is_neighbour =
            |name: &RegistryReference| name.registry() == self.destination.registry() && name.repository() != self.destination.repository();
        let repositories: BTreeSet<String> = names.filter(is_neighbour).map(|name| name.repository().to_owned()).collect();
        repositories.into_iter().collect()
    }

    async fn is_there(&self, layer: &Descriptor, neighbours: &[String]) -> Result<bool, ExportError> {
        if self.to.has_blob(&layer.digest).await.map_err(|source| self.failed(source))? {
            (self.observer)(PushEvent::Present(layer.digest));
            return Ok(true);
        }
        for neighbour in neighbours {
            if self.to.mount(&layer.digest, neighbour).await.map_err(|source| self.failed(source))? {
                (self.observer)(PushEvent::Mounted(layer.digest));
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The registry checks the digest of what comes.
    async fn upload(&self, layer: &Descriptor, file: File) -> Result<(), ExportError> {
        let file = Arc::new(file);
        let open = || Ok(Section::new(Arc::clone(&file), layer.size));
        let event = match self.to.upload(layer, open).await.map_err(|source| self.failed(source))? {
            Uploaded::Now => PushEvent::Pushed(layer.digest),
            Uploaded::Present => PushEvent::Present(layer.digest),
        };
        (self.observer)(event);
        Ok(())
    }

    async fn documents(&self, manifest: &Manifest, config: &[u8]) -> Result<(), ExportError> {
        let config = config.to_vec();
        let sent = self.to.upload(&manifest.config, || Ok(std::io::Cursor::new(config.clone()))).await;
        sent.map(drop).map_err(|source| self.failed(source))
    }

    /// Last of all, by its tag.
    async fn named(&self, media_type: &str, bytes: &[u8]) -> Result<PushedManifest, ExportError> {
        let digest = self.put(ManifestName::Tag(self.destination.tag().unwrap_or("latest")), media_type, bytes).await?;
        Ok(PushedManifest { digest, size: bytes.len() as u64 })
    }

    async fn put(&self, name: ManifestName<'_>, media_type: &str, bytes: &[u8]) -> Result<Digest, ExportError> {
        self.to.put_manifest(name, media_type, bytes).await.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: SourceError) -> ExportError {
        ExportError::Push { destination: self.destination.to_string(), source: Box::new(source) }
    }
}
