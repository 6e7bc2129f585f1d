//! An OCI layout directory: `index.json` and `blobs/sha256/`.
//!
//! Reads are local and short, so they block: nothing here waits for anybody.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::stream;

use super::{Blob, SourceError, check_manifest, check_size};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Document, Index, IndexEntry, MANIFEST_MAX_BYTES, ManifestError};
use crate::reference::{LayoutReference, Platform};

/// The annotation that names an image within a layout.
const NAME: &str = "org.opencontainers.image.ref.name";
/// How much of a blob is read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// A name in an OCI layout.
pub(crate) struct LayoutSource {
    directory: PathBuf,
    name: Option<String>,
}

impl LayoutSource {
    pub(super) fn new(reference: &LayoutReference) -> Self {
        Self { directory: reference.directory().to_owned(), name: reference.name().map(str::to_owned) }
    }

    /// What the name means: the digest of a manifest or of an index.
    pub(super) fn current(&self, platform: &Platform) -> Result<Digest, SourceError> {
        let path = self.directory.join("index.json");
        let bytes = read_capped(&path)?;
        let of_index = |source| SourceError::Manifest { digest: Digest::of(&bytes), source };
        let Index { manifests } = Index::from_json(&bytes).map_err(of_index)?;
        let names: BTreeSet<&str> = manifests.iter().filter_map(name_of).collect();
        let candidates: Vec<IndexEntry> = match self.name.as_deref() {
            Some(name) => manifests.iter().filter(|entry| name_of(entry) == Some(name)).cloned().collect(),
            None if names.len() > 1 => Vec::new(),
            None => manifests.clone(),
        };
        match &candidates[..] {
            [] => {
                let wanted = self.name.as_ref().map_or("single image".to_owned(), |name| format!("image `{name}`"));
                let names: Vec<&str> = names.into_iter().collect();
                Err(SourceError::NotFound { place: self.place(), wanted: format!("{wanted} (its names are `{}`)", names.join("`, `")) })
            }
            [only] => Ok(only.descriptor.digest),
            _ => Ok(Index { manifests: candidates }.choose(platform).map_err(of_index)?.descriptor.digest),
        }
    }

    /// The platform manifest that the name means, through indexes.
    pub(crate) fn platform_manifest(&self, platform: &Platform) -> Result<Digest, SourceError> {
        let mut digest = self.current(platform)?;
        for _ in 0..=super::DEPTH_MAX {
            let of_manifest = |source| SourceError::Manifest { digest, source };
            match Document::from_json(&self.manifest(&digest)?).map_err(of_manifest)? {
                Document::Manifest(_) => return Ok(digest),
                Document::Index(index) => digest = index.choose(platform).map_err(of_manifest)?.descriptor.digest,
            }
        }
        Err(SourceError::Manifest { digest, source: ManifestError::Nested })
    }

    pub(super) fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, SourceError> {
        let bytes = read_capped(&self.blob_path(digest))?;
        check_manifest(&self.place(), digest, &bytes)?;
        Ok(bytes)
    }

    pub(super) fn blob(&self, blob: &Descriptor) -> Result<Blob<'_>, SourceError> {
        let path = self.blob_path(&blob.digest);
        let file = File::open(&path).map_err(|source| SourceError::Layout { path, source })?;
        let chunks = stream::iter(std::iter::from_fn(move || read_chunk(&file).transpose()));
        Ok(Blob::new(self.place(), blob, chunks))
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.directory.join("blobs/sha256").join(digest.hex())
    }

    fn place(&self) -> String {
        format!("OCI layout `{}`", self.directory.display())
    }
}

fn name_of(entry: &IndexEntry) -> Option<&str> {
    entry.annotations.get(NAME).map(String::as_str)
}

fn read_chunk(mut file: &File) -> io::Result<Option<Bytes>> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let length = file.read(&mut buffer)?;
    buffer.truncate(length);
    Ok(if length == 0 { None } else { Some(buffer.into()) })
}

fn read_capped(path: &Path) -> Result<Vec<u8>, SourceError> {
    let failed = |source| SourceError::Layout { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MANIFEST_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    check_size("manifest", bytes.len() as u64, MANIFEST_MAX_BYTES)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
