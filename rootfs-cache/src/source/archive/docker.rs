//! What `docker save` writes: `manifest.json` with the images' configs, names and layers.
//!
//! Before Docker 25 there are no manifests in it, and layers are `ID/layer.tar`, of which some may be links to others. Since then it is an OCI layout, too: then
//! that one's manifest is taken, so that an image has the digest that it has elsewhere. Where there is none, one is made of what is there, always the same.

use std::collections::BTreeMap;
use std::io::{self, Read};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{Section, TarFile};
use crate::digest::Digest;
use crate::manifest::{
    CONFIG_MAX_BYTES, Descriptor, Document, Index, MANIFEST_MAX_BYTES, Manifest, ManifestError, OCI_CONFIG, layer_media_type, new_manifest,
};
use crate::reference::{LayoutReference, Platform, RegistryReference};
use crate::rootfs::ImageConfig;
use crate::source::files::LocalError;
use crate::source::{ArchivedImage, Blob, CHUNK_BYTES, SourceError, check_manifest, chunks_of};
use crate::unpack::sniff;

/// The file that lists the images.
pub(crate) const LIST: &str = "manifest.json";
/// Largest list read.
const LIST_MAX_BYTES: u64 = MANIFEST_MAX_BYTES;

/// The images of an archive, or the one that is wanted.
pub(crate) struct DockerArchive {
    tar: TarFile,
    images: Vec<ArchivedImage>,
    manifests: BTreeMap<Digest, Vec<u8>>,
    /// Which file of the archive a config or layer is.
    blobs: BTreeMap<Digest, String>,
}

/// One image in `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl DockerArchive {
    /// The image that a reference means, or all where there is none. Blocks: layers that came compressed are hashed.
    pub(crate) fn new(tar: TarFile, wanted: Option<&LayoutReference>) -> Result<Self, SourceError> {
        let mut archive = Self { tar, images: Vec::new(), manifests: BTreeMap::new(), blobs: BTreeMap::new() };
        let mut listed: Vec<Listed> = archive.json(LIST, LIST_MAX_BYTES).map_err(|error| archive.failed(error))?;
        if let Some(wanted) = wanted {
            listed = archive.choose(listed, wanted.name())?;
        }
        let ready = archive.ready_manifests();
        for image in listed {
            archive.add(image, &ready)?;
        }
        Ok(archive)
    }

    /// The images, in the archive's order.
    pub(crate) fn images(&self) -> &[ArchivedImage] {
        &self.images
    }

    /// The one that was wanted.
    pub(in crate::source) fn current(&self) -> Result<Digest, SourceError> {
        let only = self.images.first();
        only.map(|image| image.manifest).ok_or_else(|| self.failed(LocalError::Missing("image in manifest.json".to_owned())))
    }

    pub(in crate::source) fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, SourceError> {
        match self.manifests.get(digest) {
            Some(bytes) => Ok(bytes.clone()),
            None => Err(SourceError::NotFound { place: self.place(), wanted: format!("manifest {digest}") }),
        }
    }

    pub(in crate::source) fn blob(&self, blob: &Descriptor) -> Result<Blob<'_>, SourceError> {
        let by_digest = blob_name(&blob.digest);
        let name = self.blobs.get(&blob.digest).unwrap_or(&by_digest);
        let section = self.tar.section(name).map_err(|error| self.failed(error))?;
        Ok(Blob::new(self.place(), blob, chunks_of(section)))
    }

    fn choose(&self, listed: Vec<Listed>, name: Option<&str>) -> Result<Vec<Listed>, SourceError> {
        let names: Vec<String> = listed.iter().flat_map(|image| image.repo_tags.iter().flatten().cloned()).collect();
        let count = listed.len();
        let full = |name: &str| name.parse::<RegistryReference>().map_or_else(|_| name.to_owned(), |reference| reference.to_string());
        let chosen = listed.into_iter().find(|image| match name {
            Some(name) => image.repo_tags.iter().flatten().any(|tag| full(tag) == full(name)),
            None => count == 1,
        });
        let wanted = name.map_or("single image".to_owned(), |name| format!("image `{name}`"));
        let wanted = format!("{wanted} (its names are `{}`)", names.join("`, `"));
        chosen.map(|chosen| vec![chosen]).ok_or_else(|| SourceError::NotFound { place: self.place(), wanted })
    }

    /// The manifests of the OCI layout in the archive, by the digest of their config. What is wrong with it does not matter: it is only the better half.
    fn ready_manifests(&self) -> BTreeMap<Digest, Vec<u8>> {
        let mut ready = BTreeMap::new();
        let mut waiting: Vec<(Digest, usize)> = Vec::new();
        let index = self.read("index.json", MANIFEST_MAX_BYTES).ok().and_then(|bytes| Index::from_json(&bytes).ok());
        waiting.extend(index.iter().flat_map(|index| &index.manifests).map(|entry| (entry.descriptor.digest, 0)));
        while let Some((digest, depth)) = waiting.pop() {
            let Ok(bytes) = self.read(&blob_name(&digest), MANIFEST_MAX_BYTES) else { continue };
            if check_manifest(&self.place(), &digest, &bytes).is_err() || depth > super::super::DEPTH_MAX {
                continue;
            }
            match Document::from_json(&bytes) {
                Ok(Document::Manifest(manifest)) if self.is_whole(&manifest) => {
                    ready.insert(manifest.config.digest, bytes);
                }
                Ok(Document::Index(index)) => waiting.extend(index.manifests.iter().map(|entry| (entry.descriptor.digest, depth + 1))),
                _ => {}
            }
        }
        ready
    }

    fn is_whole(&self, manifest: &Manifest) -> bool {
        manifest.layers.iter().all(|layer| self.tar.section(&blob_name(&layer.digest)).is_ok_and(|found| found.length() == layer.size))
    }

    fn add(&mut self, image: Listed, ready: &BTreeMap<Digest, Vec<u8>>) -> Result<(), SourceError> {
        let config_bytes = self.read(&image.config, CONFIG_MAX_BYTES).map_err(|error| self.failed(error))?;
        let malformed = |source| LocalError::Malformed { name: image.config.clone(), source };
        let config = ImageConfig::from_json(&config_bytes).map_err(|error| self.failed(malformed(error)))?;
        let config_digest = Digest::of(&config_bytes);
        let manifest = match ready.get(&config_digest) {
            Some(manifest) => manifest.clone(),
            None => {
                let layers = self.layers(&image, &config, config_digest)?;
                let config = Descriptor { media_type: OCI_CONFIG.to_owned(), digest: config_digest, size: config_bytes.len() as u64 };
                new_manifest(&config, &layers)
            }
        };
        self.blobs.insert(config_digest, image.config);
        let digest = Digest::of(&manifest);
        self.manifests.insert(digest, manifest);
        let platform = Platform::from_parts(&config.os, &config.architecture, None);
        self.images.push(ArchivedImage { names: image.repo_tags.unwrap_or_default(), manifest: digest, platform });
        Ok(())
    }

    fn layers(&mut self, image: &Listed, config: &ImageConfig, of: Digest) -> Result<Vec<Descriptor>, SourceError> {
        let (layers, diff_ids) = (image.layers.len(), config.diff_ids.len());
        if layers != diff_ids {
            return Err(SourceError::Manifest { digest: of, source: ManifestError::DiffIds { layers, diff_ids } });
        }
        let mut found = Vec::new();
        for (name, diff_id) in image.layers.iter().zip(&config.diff_ids) {
            let layer = self.layer(name, diff_id).map_err(|error| self.failed(error))?;
            self.blobs.insert(layer.digest, name.clone());
            found.push(layer);
        }
        Ok(found)
    }

    /// An uncompressed layer has the digest that its config says: whoever unpacks it will see whether that is so.
    fn layer(&self, name: &str, diff_id: &Digest) -> Result<Descriptor, LocalError> {
        let mut start = [0; 4];
        let section = self.tar.section(name)?;
        let size = section.length();
        let length = section.take(4).read(&mut start)?;
        let media_type = layer_media_type(sniff(&start[..length]));
        let digest = if media_type.ends_with("tar") { *diff_id } else { hash(self.tar.section(name)?)? };
        Ok(Descriptor { media_type: media_type.to_owned(), digest, size })
    }

    fn json<T: serde::de::DeserializeOwned>(&self, name: &str, max: u64) -> Result<T, LocalError> {
        let bytes = self.read(name, max)?;
        serde_json::from_slice(&bytes).map_err(|source| LocalError::Malformed { name: name.to_owned(), source })
    }

    fn read(&self, name: &str, max: u64) -> Result<Vec<u8>, LocalError> {
        let section = self.tar.section(name)?;
        if section.length() > max {
            return Err(LocalError::Name { name: name.to_owned(), fault: "is larger than such a document may be" });
        }
        let mut bytes = Vec::new();
        section.take(max).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn failed(&self, error: LocalError) -> SourceError {
        error.at(self.tar.path())
    }

    pub(in crate::source) fn place(&self) -> String {
        format!("archive `{}`", self.tar.path().display())
    }
}

fn hash(mut section: Section) -> io::Result<Digest> {
    let (mut hash, mut chunk) = (Sha256::new(), vec![0; CHUNK_BYTES]);
    loop {
        match section.read(&mut chunk)? {
            0 => return Ok(Digest::from_bytes(hash.finalize().into())),
            length => hash.update(&chunk[..length]),
        }
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
