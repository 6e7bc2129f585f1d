//! Images out of the cache: into archives that docker, podman and skopeo read, and to registries.
//!
//! What an image is made of but its layers' blobs is in the cache always. Those that were not kept are fetched again from where the image came from.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek as _, Write};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest, ManifestError};
use crate::reference::{ImageReference, RegistryReference};
use crate::source::{Blob, Notes, RegistryAccess, Source, SourceError};
use crate::store::{Cache, CacheError, ImageDocuments};

mod archive;
mod push;

pub use archive::{ArchiveFormat, NewArchive};
pub use push::{PushEvent, PushedImage, PushedManifest, push};

/// An image of the cache that is to leave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedImage {
    /// Digest of the platform manifest.
    pub manifest: Digest,
    /// The names that go with it.
    pub names: Vec<RegistryReference>,
    /// All names that the cache has for it: where its blobs may be fetched from.
    pub origins: Vec<String>,
}

/// Why an image did not leave the cache.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It was removed meanwhile.
    #[error("image {0} is not in the cache any more")]
    Gone(Digest),
    /// The cache failed.
    #[error("cannot read image {image} from the cache")]
    Cache {
        /// The platform manifest.
        image: Digest,
        /// Why.
        source: CacheError,
    },
    /// Its manifest is unusable.
    #[error("cannot use manifest {image}")]
    Manifest {
        /// Its digest.
        image: Digest,
        /// Why.
        source: ManifestError,
    },
    /// A blob was not kept, and no name says where it is.
    #[error("the blob of layer {layer} was not kept, and no name of its image says where it can be fetched")]
    NotKept {
        /// The blob.
        layer: Digest,
    },
    /// A blob was not kept, and it cannot be had.
    #[error("the blob of layer {layer} is not in the cache, and cannot be fetched from `{origin}`")]
    Fetch {
        /// The blob.
        layer: Digest,
        /// The image's name that led there.
        origin: String,
        /// Why.
        source: Box<SourceError>,
    },
    /// A blob is not what it was.
    #[error("the kept blob of layer {layer} is damaged: it has digest {found}")]
    Damaged {
        /// The blob.
        layer: Digest,
        /// What it has.
        found: Digest,
    },
    /// A blob cannot be read or kept for the moment.
    #[error("cannot read the blob of layer {layer}")]
    Read {
        /// The blob.
        layer: Digest,
        /// What the kernel said.
        source: io::Error,
    },
    /// A layout or an archive gives no image.
    #[error("cannot read `{origin}`")]
    Source {
        /// The layout or archive.
        origin: String,
        /// Why.
        source: Box<SourceError>,
    },
    /// The registry does not take it.
    #[error("cannot push to `{destination}`")]
    Push {
        /// Where it was to go.
        destination: String,
        /// Why.
        source: Box<SourceError>,
    },
    /// The archive cannot be written.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
}

impl ExportError {
    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotKept { .. } => Some("pull the image with `--keep-blobs`, or load it from an archive".to_owned()),
            Self::Fetch { source, .. } => {
                source.hint().or_else(|| Some("an image that was pulled with `--keep-blobs` needs no registry for this".to_owned()))
            }
            Self::Push { destination, source } => push_hint(destination, source),
            Self::Source { source, .. } => source.hint(),
            Self::Cache { source, .. } => source.hint(),
            Self::Damaged { .. } => Some("remove the image with `undocked rm` and pull it again".to_owned()),
            Self::Read { source, .. } | Self::Write(source) => crate::store::space_hint(source),
            Self::Gone(_) | Self::Manifest { .. } => None,
        }
    }
}

/// Who may pull need not be allowed to push.
fn push_hint(destination: &str, error: &SourceError) -> Option<String> {
    match error {
        SourceError::Refused { registry, .. } => {
            Some(format!("`undocked login {registry}` as a user who may push there; `{destination}` may also have to be made first"))
        }
        other => other.hint(),
    }
}

/// An image's documents, read.
pub(crate) struct Exported<'a> {
    pub(crate) image: &'a ExportedImage,
    pub(crate) documents: ImageDocuments,
    pub(crate) manifest: Manifest,
}

impl<'a> Exported<'a> {
    pub(crate) fn read(cache: &Cache, image: &'a ExportedImage) -> Result<Self, ExportError> {
        let digest = image.manifest;
        let documents = cache.documents(&digest).map_err(|source| ExportError::Cache { image: digest, source })?;
        let documents = documents.ok_or(ExportError::Gone(digest))?;
        let manifest = Manifest::from_json(&documents.manifest).map_err(|source| ExportError::Manifest { image: digest, source })?;
        Ok(Self { image, documents, manifest })
    }
}

/// Where blobs come from that are to leave.
pub(crate) struct Blobs<'a> {
    pub(crate) cache: &'a Arc<Cache>,
    pub(crate) access: &'a RegistryAccess,
    pub(crate) notes: Notes<'a>,
    /// From where which image was said to be fetched: once is enough.
    told: BTreeSet<(Digest, String)>,
}

impl<'a> Blobs<'a> {
    pub(crate) fn new(cache: &'a Arc<Cache>, access: &'a RegistryAccess, notes: Notes<'a>) -> Self {
        Self { cache, access, notes, told: BTreeSet::new() }
    }

    /// A layer's blob, from its first byte: the kept one, or a copy for the moment. The kept one's digest is for the reader to check.
    pub(crate) async fn open(&mut self, image: &ExportedImage, layer: &Descriptor) -> Result<File, ExportError> {
        let in_cache = |source| ExportError::Cache { image: image.manifest, source };
        if let Some(kept) = self.cache.blob(&layer.digest).map_err(in_cache)? {
            return Ok(kept);
        }
        let mut failure = ExportError::NotKept { layer: layer.digest };
        for origin in self.origins(image, layer).map_err(in_cache)? {
            if self.told.insert((image.manifest, origin.clone())) {
                (self.notes)(&format!("the blobs of image {} were not kept: fetching them from `{origin}`", image.manifest));
            }
            match self.fetch(&origin, layer).await {
                Ok(copy) => return Ok(copy),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Where a layer may be had, in the order of asking: from the places of the image's own names, those on this machine first, then from those of other images
    /// that have the layer. An image that was built here is nowhere else, but what it was built upon may be.
    fn origins(&self, image: &ExportedImage, layer: &Descriptor) -> Result<Vec<String>, CacheError> {
        let mut own = image.origins.clone();
        own.sort_by_key(|name| !matches!(name.parse(), Ok(ImageReference::Layout(_))));
        let mut others = self.cache.names_with_layer(&layer.digest)?;
        others.retain(|name| !own.contains(name));
        let (first, last) = if self.cache.was_built_here(&image.manifest)? { (others, own) } else { (own, others) };
        Ok([first, last].concat())
    }

    async fn fetch(&self, origin: &str, layer: &Descriptor) -> Result<File, ExportError> {
        let failed = |source| ExportError::Fetch { layer: layer.digest, origin: origin.to_owned(), source: Box::new(source) };
        let spool = || self.cache.nameless_file();
        let source = match origin.parse() {
            Ok(ImageReference::Registry(reference)) => Source::registry(&reference, self.access, self.notes).map_err(failed)?,
            Ok(ImageReference::Layout(reference)) => Source::local(&reference, &spool).map_err(failed)?,
            _ => return Err(ExportError::NotKept { layer: layer.digest }),
        };
        self.copy_of(&source, origin, layer).await
    }

    /// A copy of a blob for the moment, whose digest was checked.
    pub(crate) async fn copy_of(&self, source: &Source<'_>, origin: &str, layer: &Descriptor) -> Result<File, ExportError> {
        let failed = |source| ExportError::Fetch { layer: layer.digest, origin: origin.to_owned(), source: Box::new(source) };
        let unwritten = |source| ExportError::Read { layer: layer.digest, source };
        let mut blob = source.blob(layer).await.map_err(failed)?;
        let mut copy = self.cache.nameless_file().map_err(unwritten)?;
        let found = self.copy(&mut blob, &mut copy).await.map_err(|error| match error {
            CopyError::Source(source) => failed(source),
            CopyError::Write(source) => unwritten(source),
        })?;
        if found != layer.digest {
            let (place, wanted) = (format!("`{origin}`"), format!("blob {}", layer.digest));
            return Err(failed(SourceError::Digest { place, wanted, found: found.to_string() }));
        }
        copy.rewind().map_err(unwritten)?;
        Ok(copy)
    }

    async fn copy(&self, blob: &mut Blob<'_>, copy: &mut File) -> Result<Digest, CopyError> {
        let mut hash = Sha256::new();
        while let Some(chunk) = blob.next().await.map_err(CopyError::Source)? {
            hash.update(&chunk);
            copy.write_all(&chunk).map_err(CopyError::Write)?;
        }
        Ok(Digest::from_bytes(hash.finalize().into()))
    }
}

enum CopyError {
    Source(SourceError),
    Write(io::Error),
}

/// Hashes what is read through it.
pub(crate) struct Hashed<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Hashed<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    pub(crate) fn digest(self) -> Digest {
        Digest::from_bytes(self.hash.finalize().into())
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hash.update(&buffer[..length]);
        Ok(length)
    }
}
