//! Where images come from: a registry, an OCI layout folder, or an archive. All give a digest for a name, and checked bytes for a digest.
//!
//! Knows nothing of the cache, of lock files or of unpacking.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};

use crate::digest::Digest;
use crate::manifest::{CONFIG_MAX_BYTES, Descriptor, Document, MANIFEST_MAX_BYTES, Manifest, ManifestError};
use crate::reference::{LayoutForm, LayoutReference, Platform, RegistryReference};
use crate::rootfs::ImageConfig;

mod access;
mod answer;
mod archive;
mod challenge;
mod credentials;
pub mod download;
mod endpoint;
#[cfg(test)]
pub(crate) mod fake_registry;
mod files;
mod http;
mod layout;
pub mod login;
pub(crate) mod notary;
mod patience;
mod registries;
mod registry;
pub mod repository;

pub use access::{Mirror, ParseMirrorError, Patience, Proxies, RegistryAccess, Transport};
pub(crate) use answer::printable;
use archive::{DockerArchive, TarFile};
pub(crate) use archive::{Section, Spool};
use files::Files;
pub use files::LocalError;
pub use http::HttpError;
pub(crate) use layout::{FULL_NAME, LayoutSource, NAME};
use registry::RegistrySource;

/// How much of a local blob is read at once.
const CHUNK_BYTES: usize = 256 << 10;
/// An index may hold an index, and that one images.
const DEPTH_MAX: usize = 2;

/// Who hears what the user should read.
pub type Notes<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// Why a source gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No connection, or it broke before an answer came.
    #[error("cannot reach registry `{registry}`")]
    Unreachable {
        /// The registry.
        registry: String,
        /// Why.
        source: HttpError,
    },
    /// It is not there.
    #[error("{place} has no {wanted}")]
    NotFound {
        /// The registry or layout.
        place: String,
        /// The tag, manifest, blob or name.
        wanted: String,
    },
    /// The registry wants a login, or another one.
    #[error("registry `{registry}` refuses access to {wanted} ({answer})")]
    Refused {
        /// The registry.
        registry: String,
        /// What was asked for.
        wanted: String,
        /// Its status or error code.
        answer: String,
    },
    /// Any other answer but the one wanted.
    #[error("registry `{registry}` answered {answer} when asked for {wanted}")]
    Answer {
        /// The registry.
        registry: String,
        /// What was asked for.
        wanted: String,
        /// Its status or error code, with its message.
        answer: String,
    },
    /// The bytes are not those that the digest names.
    #[error("{place} has other content for {wanted}: it has digest {found}")]
    Digest {
        /// The registry or layout.
        place: String,
        /// What was asked for, with its digest.
        wanted: String,
        /// The digest of what came.
        found: String,
    },
    /// Fewer or more bytes than the manifest or the signature says.
    #[error("{place} gave {received} bytes of blob {blob}, but {said_by} says {expected}")]
    Size {
        /// The registry or layout.
        place: String,
        /// The blob.
        blob: Digest,
        /// Bytes that came.
        received: u64,
        /// Bytes it should have.
        expected: u64,
        /// What says so.
        said_by: SizeSaidBy,
    },
    /// More than is read of such a document.
    #[error("the {document} has {size} bytes or more, which is over the {max} bytes allowed")]
    TooLarge {
        /// `manifest` or `image config`.
        document: &'static str,
        /// Its size, or as much of it as came.
        size: u64,
        /// The most that is read.
        max: u64,
    },
    /// The manifest is unusable.
    #[error("cannot use manifest {digest}")]
    Manifest {
        /// Its digest.
        digest: Digest,
        /// Why.
        source: ManifestError,
    },
    /// The connection broke after a part of a blob had come.
    #[error("{place} broke off blob {blob} after {received} bytes")]
    Broken {
        /// The registry or layout.
        place: String,
        /// The blob.
        blob: Digest,
        /// Bytes that came before.
        received: u64,
        /// What the connection said.
        source: io::Error,
    },
    /// A file of a layout, or an archive, cannot be read.
    #[error("cannot read `{}`", path.display())]
    Local {
        /// The file.
        path: PathBuf,
        /// Why.
        source: LocalError,
    },
}

/// What says how many bytes a blob has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeSaidBy {
    /// The image's manifest.
    Manifest,
    /// Who signed it.
    Signature,
}

impl std::fmt::Display for SizeSaidBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Manifest => "its manifest",
            Self::Signature => "its signature",
        })
    }
}

impl SourceError {
    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { registry, source } => source.hint(registry),
            Self::NotFound { place, wanted } if place.starts_with("registry") && wanted.starts_with("blob") => {
                Some("the registry lacks a part of the image: it has to be pushed again".to_owned())
            }
            Self::NotFound { place, .. } if place.starts_with("registry") => Some("check the name and the tag".to_owned()),
            Self::Refused { registry, .. } => {
                Some(format!("the repository may not exist, or needs `undocked login {registry}`; a stored login may also have expired"))
            }
            Self::Answer { answer, registry, .. } if answer.starts_with("429") => Some(format!(
                "the registry limits how much may be pulled: wait, log in for a higher limit (`undocked login {registry}`), or name a mirror (`--mirror {registry}=HOST`)"
            )),
            Self::Size { said_by: SizeSaidBy::Signature, .. } => {
                Some("the digest is the one that is signed, and the size is not: its publisher has to sign it again".to_owned())
            }
            Self::Digest { .. } | Self::Size { .. } => Some("the copy there is damaged, or something in between changes it".to_owned()),
            Self::Local { source, .. } => source.hint(),
            Self::Broken { .. } => Some("try again; image layers that came whole are kept".to_owned()),
            Self::Manifest { source, .. } => source.hint(),
            _ => None,
        }
    }
}

/// An image of an archive.
#[derive(Debug, Clone)]
pub(crate) struct ArchivedImage {
    /// As they are written there.
    pub(crate) names: Vec<String>,
    /// Its platform's manifest.
    pub(crate) manifest: Digest,
    /// What its config says it is for; `None` for what is not run here.
    pub(crate) platform: Option<Platform>,
}

/// One repository of a registry, one layout, or one archive.
pub(crate) enum Source<'a> {
    /// A repository of a registry.
    Registry(Box<RegistrySource<'a>>),
    /// A name in an OCI layout.
    Layout(LayoutSource),
    /// An archive of docker's.
    Docker(Box<DockerArchive>),
}

/// The manifest and config of one platform's image, checked.
pub(crate) struct RemoteImage {
    pub(crate) digest: Digest,
    pub(crate) manifest: Manifest,
    pub(crate) manifest_bytes: Vec<u8>,
    pub(crate) config: ImageConfig,
    pub(crate) config_bytes: Vec<u8>,
    /// The index that it was chosen from.
    pub(crate) index: Option<Digest>,
}

impl<'a> Source<'a> {
    /// Opens a repository. Nothing is sent yet.
    pub(crate) fn registry(reference: &RegistryReference, access: &RegistryAccess, notes: Notes<'a>) -> Result<Self, SourceError> {
        RegistrySource::new(reference, access, notes).map(|source| Self::Registry(Box::new(source)))
    }

    /// Opens a layout or an archive. Of a folder nothing is read yet; of an archive what it lists, which blocks.
    pub(crate) fn local(reference: &LayoutReference, spool: Spool<'_>) -> Result<Self, SourceError> {
        let path = reference.path();
        let open = || TarFile::open(path, spool).map_err(|error| error.at(path));
        Ok(match reference.form() {
            LayoutForm::Folder => Self::Layout(LayoutSource::folder(reference)),
            LayoutForm::OciArchive => Self::Layout(LayoutSource::new(Files::Archive(open()?), reference)),
            LayoutForm::DockerArchive => Self::Docker(Box::new(DockerArchive::new(open()?, Some(reference))?)),
        })
    }

    /// Opens an archive of either kind, whose images are all wanted. Blocks. `path` is what it is called in messages.
    pub(crate) fn archive(path: &Path, stream: Option<&mut dyn Read>, spool: Spool<'_>) -> Result<Self, SourceError> {
        let tar = match stream {
            None => TarFile::open(path, spool),
            Some(stream) => TarFile::from_stream(path, stream, spool),
        };
        let tar = tar.map_err(|error| error.at(path))?;
        if tar.has(archive::LIST) {
            return Ok(Self::Docker(Box::new(DockerArchive::new(tar, None)?)));
        }
        if !tar.has("index.json") {
            return Err(LocalError::NoImage.at(path));
        }
        Ok(Self::Layout(LayoutSource::all(Files::Archive(tar))))
    }

    /// All images of an archive.
    pub(crate) fn images(&self, platform: &Platform) -> Result<Vec<ArchivedImage>, SourceError> {
        match self {
            Self::Registry(_) => Ok(Vec::new()),
            Self::Layout(source) => source.images(platform),
            Self::Docker(source) => Ok(source.images().to_vec()),
        }
    }

    /// What the name means now: the digest of a manifest or of an index.
    pub(crate) async fn current(&self, platform: &Platform) -> Result<Digest, SourceError> {
        match self {
            Self::Registry(source) => source.current().await,
            Self::Layout(source) => source.current(platform),
            Self::Docker(source) => source.current(),
        }
    }

    /// The image for a platform that a digest names, through indexes where it names one.
    pub(crate) async fn image(&self, digest: Digest, platform: &Platform) -> Result<RemoteImage, SourceError> {
        self.image_of_size(digest, None, platform).await
    }

    /// As [`Self::image`], where the size of what the digest names is signed, too.
    pub(crate) async fn image_of_size(
        &self,
        digest: Digest,
        signed_size: Option<u64>,
        platform: &Platform,
    ) -> Result<RemoteImage, SourceError> {
        let mut index = None;
        let mut digest = digest;
        let mut signed_size = signed_size;
        for _ in 0..=DEPTH_MAX {
            let of_manifest = |source| SourceError::Manifest { digest, source };
            let manifest_bytes = self.manifest(&digest).await?;
            let received = manifest_bytes.len() as u64;
            // It is the size of what is signed, and not of what an index leads to.
            if let Some(expected) = signed_size.take().filter(|expected| *expected != received) {
                return Err(SourceError::Size { place: self.place(), blob: digest, received, expected, said_by: SizeSaidBy::Signature });
            }
            match Document::from_json(&manifest_bytes).map_err(of_manifest)? {
                Document::Index(found) => {
                    index = index.or(Some(digest));
                    digest = found.choose(platform).map_err(of_manifest)?.descriptor.digest;
                }
                Document::Manifest(manifest) => {
                    let config_bytes = self.config(&manifest.config).await?;
                    let config = manifest.read_config(&config_bytes, platform).map_err(of_manifest)?;
                    return Ok(RemoteImage { digest, manifest, manifest_bytes, config, config_bytes, index });
                }
            }
        }
        Err(SourceError::Manifest { digest, source: ManifestError::Nested })
    }

    fn place(&self) -> String {
        match self {
            Self::Registry(source) => source.place(),
            Self::Layout(source) => source.place(),
            Self::Docker(source) => source.place(),
        }
    }

    pub(crate) async fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, SourceError> {
        match self {
            Self::Registry(source) => source.manifest(digest).await,
            Self::Layout(source) => source.manifest(digest),
            Self::Docker(source) => source.manifest(digest),
        }
    }

    pub(crate) async fn config(&self, config: &Descriptor) -> Result<Vec<u8>, SourceError> {
        check_size("image config", config.size, CONFIG_MAX_BYTES)?;
        let mut blob = self.blob(config).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = blob.next().await? {
            bytes.extend_from_slice(&chunk);
        }
        check_digest(&blob.place, "image config", &config.digest, &bytes)?;
        Ok(bytes)
    }

    /// Opens a blob. Its size is checked while it is read, its digest is for the reader to check.
    pub(crate) async fn blob(&self, blob: &Descriptor) -> Result<Blob<'_>, SourceError> {
        match self {
            Self::Registry(source) => source.blob(blob).await,
            Self::Layout(source) => source.blob(blob),
            Self::Docker(source) => source.blob(blob),
        }
    }
}

/// A blob being read.
pub(crate) struct Blob<'s> {
    place: String,
    descriptor: Descriptor,
    received: u64,
    chunks: Pin<Box<dyn Stream<Item = Result<Bytes, BlobFault>> + Send + 's>>,
}

/// Why no more of a blob comes.
pub(crate) enum BlobFault {
    /// The connection, or the file.
    Connection(io::Error),
    /// What the source said when it was asked for the rest.
    Source(SourceError),
}

impl<'s> Blob<'s> {
    /// One whose connection breaks once.
    fn new(place: String, descriptor: &Descriptor, chunks: impl Stream<Item = Result<Bytes, io::Error>> + Send + 's) -> Self {
        Self::resumable(place, descriptor, chunks.map(|chunk| chunk.map_err(BlobFault::Connection)))
    }

    /// One that has tried to go on by itself before it fails.
    fn resumable(place: String, descriptor: &Descriptor, chunks: impl Stream<Item = Result<Bytes, BlobFault>> + Send + 's) -> Self {
        Self { place, descriptor: descriptor.clone(), received: 0, chunks: Box::pin(chunks) }
    }

    /// The next bytes, or `None` once all of them came.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        let chunk = match self.chunks.next().await.transpose() {
            Ok(chunk) => chunk,
            Err(fault) => return Err(self.broken(fault)),
        };
        self.received += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        let expected = self.descriptor.size;
        if self.received > expected || (chunk.is_none() && self.received < expected) {
            return Err(self.wrong_size());
        }
        Ok(chunk)
    }

    /// Bytes that came so far.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    fn wrong_size(&self) -> SourceError {
        let Self { place, descriptor, received, .. } = self;
        SourceError::Size {
            place: place.clone(),
            blob: descriptor.digest,
            received: *received,
            expected: descriptor.size,
            said_by: SizeSaidBy::Manifest,
        }
    }

    fn broken(&self, fault: BlobFault) -> SourceError {
        match fault {
            BlobFault::Connection(source) => {
                SourceError::Broken { place: self.place.clone(), blob: self.descriptor.digest, received: self.received, source }
            }
            BlobFault::Source(error) => error,
        }
    }
}

/// A local file's chunks. It is read where it is asked for, which blocks shortly.
fn chunks_of(mut file: impl Read + Send + 'static) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let mut next = move || {
        let mut buffer = vec![0; CHUNK_BYTES];
        let length = file.read(&mut buffer)?;
        buffer.truncate(length);
        Ok((length > 0).then(|| Bytes::from(buffer)))
    };
    stream::iter(std::iter::from_fn(move || next().transpose()))
}

fn check_size(document: &'static str, size: u64, max: u64) -> Result<(), SourceError> {
    if size > max { Err(SourceError::TooLarge { document, size, max }) } else { Ok(()) }
}

fn check_manifest(place: &str, digest: &Digest, bytes: &[u8]) -> Result<(), SourceError> {
    check_size("manifest", bytes.len() as u64, MANIFEST_MAX_BYTES)?;
    check_digest(place, "manifest", digest, bytes)
}

fn check_digest(place: &str, document: &str, wanted: &Digest, bytes: &[u8]) -> Result<(), SourceError> {
    let found = Digest::of(bytes);
    if found == *wanted {
        return Ok(());
    }
    Err(SourceError::Digest { place: place.to_owned(), wanted: format!("{document} {wanted}"), found: found.to_string() })
}
