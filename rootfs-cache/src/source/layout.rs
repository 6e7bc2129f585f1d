//! An OCI layout: `index.json` and `blobs/sha256/`, in a folder or in an archive.
//!
//! Reads are local and short, so they block: nothing here waits for anybody.

use std::collections::BTreeSet;
use std::io::Read;

use super::files::Files;
use super::{ArchivedImage, Blob, SourceError, check_manifest, chunks_of};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Document, Index, IndexEntry, MANIFEST_MAX_BYTES, ManifestError};
use crate::reference::{LayoutReference, Platform, RegistryReference};

/// The annotation that names an image within a layout.
pub(crate) const NAME: &str = "org.opencontainers.image.ref.name";
/// The one in which Docker and containerd write the whole name.
pub(crate) const FULL_NAME: &str = "io.containerd.image.name";

/// A name in an OCI layout.
pub(crate) struct LayoutSource {
    files: Files,
    name: Option<String>,
}

impl LayoutSource {
    pub(super) fn new(files: Files, reference: &LayoutReference) -> Self {
        Self { files, name: reference.name().map(str::to_owned) }
    }

    /// All that is in an archive.
    pub(super) fn all(files: Files) -> Self {
        Self { files, name: None }
    }

    /// A layout in a folder.
    pub(crate) fn folder(reference: &LayoutReference) -> Self {
        Self::new(Files::Folder(reference.path().to_owned()), reference)
    }

    /// The images, in the index's order, by their names. Of those with several platforms the one is meant that is wanted.
    pub(super) fn images(&self, platform: &Platform) -> Result<Vec<ArchivedImage>, SourceError> {
        let Index { manifests } = self.index()?.1;
        let mut images: Vec<ArchivedImage> = Vec::new();
        for entry in manifests {
            let manifest = self.through(entry.descriptor.digest, platform)?;
            let names = whole_name(&entry).into_iter().collect();
            let known = images.iter_mut().find(|image| image.manifest == manifest);
            match known {
                Some(image) => image.names.extend::<Vec<String>>(names),
                None => images.push(ArchivedImage { names, manifest, platform: self.platform_of(&manifest)? }),
            }
        }
        Ok(images)
    }

    /// What the name means: the digest of a manifest or of an index.
    pub(super) fn current(&self, platform: &Platform) -> Result<Digest, SourceError> {
        let (digest, Index { manifests }) = self.index()?;
        let names: BTreeSet<&str> = manifests.iter().filter_map(name_of).collect();
        let candidates: Vec<IndexEntry> = match self.name.as_deref() {
            Some(name) => manifests.iter().filter(|entry| is_named(entry, name)).cloned().collect(),
            None if names.len() > 1 => Vec::new(),
            None => manifests.clone(),
        };
        match &candidates[..] {
            [] => {
                let wanted = self.name.as_ref().map_or("single image".to_owned(), |name| format!("image `{name}`"));
                let names: Vec<&str> = names.into_iter().collect();
                Err(SourceError::NotFound {
                    place: self.files.place(),
                    wanted: format!("{wanted} (its names are `{}`)", names.join("`, `")),
                })
            }
            [only] => Ok(only.descriptor.digest),
            _ => {
                let chosen = Index { manifests: candidates };
                Ok(chosen.choose(platform).map_err(|source| SourceError::Manifest { digest, source })?.descriptor.digest)
            }
        }
    }

    pub(super) fn place(&self) -> String {
        self.files.place()
    }

    /// The platform manifest that the name means, through indexes.
    pub(crate) fn platform_manifest(&self, platform: &Platform) -> Result<Digest, SourceError> {
        self.through(self.current(platform)?, platform)
    }

    fn through(&self, mut digest: Digest, platform: &Platform) -> Result<Digest, SourceError> {
        for _ in 0..=super::DEPTH_MAX {
            let of_manifest = |source| SourceError::Manifest { digest, source };
            match Document::from_json(&self.manifest(&digest)?).map_err(of_manifest)? {
                Document::Manifest(_) => return Ok(digest),
                Document::Index(index) => digest = index.choose(platform).map_err(of_manifest)?.descriptor.digest,
            }
        }
        Err(SourceError::Manifest { digest, source: ManifestError::Nested })
    }

    fn index(&self) -> Result<(Digest, Index), SourceError> {
        let bytes = self.files.read("index.json", MANIFEST_MAX_BYTES)?;
        let digest = Digest::of(&bytes);
        Ok((digest, Index::from_json(&bytes).map_err(|source| SourceError::Manifest { digest, source })?))
    }

    /// What an image's config says it is for.
    fn platform_of(&self, manifest: &Digest) -> Result<Option<Platform>, SourceError> {
        let of_manifest = |source| SourceError::Manifest { digest: *manifest, source };
        let Document::Manifest(read) = Document::from_json(&self.manifest(manifest)?).map_err(of_manifest)? else { return Ok(None) };
        let config = self.files.read(&blob_name(&read.config.digest), super::CONFIG_MAX_BYTES)?;
        let config = crate::rootfs::ImageConfig::from_json(&config);
        Ok(config.ok().and_then(|config| Platform::from_parts(&config.os, &config.architecture, None)))
    }

    pub(super) fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, SourceError> {
        let bytes = self.files.read(&blob_name(digest), MANIFEST_MAX_BYTES)?;
        check_manifest(&self.files.place(), digest, &bytes)?;
        Ok(bytes)
    }

    pub(super) fn blob(&self, blob: &Descriptor) -> Result<Blob<'_>, SourceError> {
        let file: Box<dyn Read + Send> = self.files.open(&blob_name(&blob.digest))?;
        Ok(Blob::new(self.files.place(), blob, chunks_of(file)))
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn name_of(entry: &IndexEntry) -> Option<&str> {
    // Docker writes the tag alone as the name, by which several images may be called.
    entry.annotations.get(FULL_NAME).or_else(|| entry.annotations.get(NAME)).map(String::as_str)
}

/// By either annotation; one that holds a whole reference in any of its spellings.
fn is_named(entry: &IndexEntry, name: &str) -> bool {
    let full = |name: &str| name.parse::<RegistryReference>().ok().map(|reference| reference.to_string());
    let names = [NAME, FULL_NAME].map(|key| entry.annotations.get(key));
    names[0].is_some_and(|found| found == name)
        || names.into_iter().flatten().any(|found| found.contains('/') && full(found).is_some_and(|found| Some(found) == full(name)))
}

/// A name that says more than a tag.
fn whole_name(entry: &IndexEntry) -> Option<String> {
    name_of(entry).filter(|name| name.contains(['/', ':'])).map(str::to_owned)
}

#[cfg(test)]
mod tests;
