//! Writes an archive: an OCI layout, and docker's list of images beside it, as Docker has it since version 25. The same images give the same bytes.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

use serde::Serialize;

use super::{Blobs, ExportError, Exported, ExportedImage, Hashed};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, media_type_of, new_manifest, to_oci};
use crate::reference::RegistryReference;
use crate::rootfs::ImageConfig;
use crate::source::{FULL_NAME, NAME, Notes, RegistryAccess};
use crate::store::Cache;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// Docker's list and an OCI layout in one; manifests stay as they are, and with them the images' digests.
    Docker,
    /// An OCI layout alone. Docker's manifests become OCI's, by which an image's digest changes and its ID does not.
    Oci,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewIndex {
    schema_version: u64,
    media_type: &'static str,
    manifests: Vec<NewEntry>,
}

#[derive(Clone, Serialize)]
struct NewEntry {
    #[serde(flatten)]
    descriptor: Descriptor,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<NewPlatform>,
}

#[derive(Clone, Serialize)]
struct NewPlatform {
    architecture: String,
    os: String,
}

/// What lies below `blobs/sha256`.
enum Content {
    Bytes(Vec<u8>),
    Layer { size: u64, file: File },
}

/// An archive, ready to be written: all of it is there to be read.
pub struct NewArchive {
    /// The documents at its root, in their order.
    documents: Vec<(&'static str, Vec<u8>)>,
    contents: BTreeMap<Digest, Content>,
}

impl NewArchive {
    /// Collects what an archive of these images holds, and fetches what is missing.
    pub async fn collect(
        cache: &Arc<Cache>,
        images: &[ExportedImage],
        format: ArchiveFormat,
        access: &RegistryAccess,
        notes: Notes<'_>,
    ) -> Result<Self, ExportError> {
        let mut blobs = Blobs::new(cache, access, notes);
        let mut contents = BTreeMap::new();
        let (mut listed, mut entries) = (Vec::new(), Vec::new());
        for image in images {
            let exported = Exported::read(cache, image)?;
            for layer in &exported.manifest.layers {
                if let Slot::Vacant(slot) = contents.entry(layer.digest) {
                    slot.insert(Content::Layer { size: layer.size, file: blobs.open(image, layer).await? });
                }
            }
            let manifest = manifest_for(&exported, format);
            entries.extend(entries_of(&exported, &manifest));
            listed.push(listed_of(&exported));
            contents.insert(Digest::of(&manifest), Content::Bytes(manifest));
            contents.insert(exported.manifest.config.digest, Content::Bytes(exported.documents.config));
        }
        let index = NewIndex { schema_version: 2, media_type: OCI_INDEX, manifests: entries };
        let mut documents = vec![("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()), ("index.json", json(&index))];
        if format == ArchiveFormat::Docker {
            documents.push(("manifest.json", json(&listed)));
        }
        Ok(Self { documents, contents })
    }

    /// Writes it. Blocks.
    pub fn write(self, out: &mut dyn Write) -> Result<(), ExportError> {
        let mut archive = ArchiveWriter { builder: tar::Builder::new(out) };
        for (name, bytes) in &self.documents {
            archive.bytes(name, bytes)?;
        }
        archive.blobs(self.contents)
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts, numbers and lists are always JSON")
}

fn manifest_for(exported: &Exported<'_>, format: ArchiveFormat) -> Vec<u8> {
    let Manifest { config, layers } = &exported.manifest;
    let is_oci = media_type_of(&exported.documents.manifest, &exported.manifest) == OCI_MANIFEST && config.media_type == OCI_CONFIG;
    if format == ArchiveFormat::Docker || is_oci {
        return exported.documents.manifest.clone();
    }
    new_manifest(&to_oci(config), &layers.iter().map(to_oci).collect::<Vec<_>>())
}

/// An entry for each name; one without a name where there is none.
fn entries_of(exported: &Exported<'_>, manifest: &[u8]) -> Vec<NewEntry> {
    let media_type = Manifest::from_json(manifest).map_or(OCI_MANIFEST, |read| media_type_of(manifest, &read)).to_owned();
    let descriptor = Descriptor { media_type, digest: Digest::of(manifest), size: manifest.len() as u64 };
    let platform = ImageConfig::from_json(&exported.documents.config).ok();
    let platform = platform.map(|config| NewPlatform { architecture: config.architecture, os: config.os });
    let entry = NewEntry { descriptor, annotations: BTreeMap::new(), platform };
    let named = |name: &RegistryReference| {
        let annotations = [NAME, FULL_NAME].map(|key| (key, name.to_string()));
        NewEntry { annotations: annotations.into(), ..entry.clone() }
    };
    if exported.image.names.is_empty() { vec![entry] } else { exported.image.names.iter().map(named).collect() }
}

fn listed_of(exported: &Exported<'_>) -> Listed {
    let tags: BTreeSet<String> = exported.image.names.iter().map(RegistryReference::familiar).collect();
    let tags: Vec<String> = tags.into_iter().collect();
    Listed {
        config: blob_name(&exported.manifest.config.digest),
        repo_tags: (!tags.is_empty()).then_some(tags),
        layers: exported.manifest.layers.iter().map(|layer| blob_name(&layer.digest)).collect(),
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

struct ArchiveWriter<'a> {
    builder: tar::Builder<&'a mut dyn Write>,
}

impl ArchiveWriter<'_> {
    fn blobs(mut self, contents: BTreeMap<Digest, Content>) -> Result<(), ExportError> {
        for folder in ["blobs/", "blobs/sha256/"] {
            self.entry(folder, tar::EntryType::Directory, 0, io::empty()).map_err(ExportError::Write)?;
        }
        for (digest, content) in contents {
            match content {
                Content::Bytes(bytes) => self.bytes(&blob_name(&digest), &bytes)?,
                Content::Layer { size, file } => self.layer(digest, size, file)?,
            }
        }
        self.builder.finish().map_err(ExportError::Write)?;
        self.builder.get_mut().flush().map_err(ExportError::Write)
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), ExportError> {
        self.entry(name, tar::EntryType::Regular, bytes.len() as u64, bytes).map_err(ExportError::Write)
    }

    /// What was kept may have been damaged since.
    fn layer(&mut self, layer: Digest, size: u64, file: File) -> Result<(), ExportError> {
        let length = file.metadata().map_err(|source| ExportError::Read { layer, source })?.len();
        if length != size {
            return Err(ExportError::Read { layer, source: io::ErrorKind::UnexpectedEof.into() });
        }
        let mut hashed = Hashed::new(io::BufReader::with_capacity(1 << 20, file));
        self.entry(&blob_name(&layer), tar::EntryType::Regular, size, &mut hashed).map_err(ExportError::Write)?;
        let found = hashed.digest();
        if found == layer { Ok(()) } else { Err(ExportError::Damaged { layer, found }) }
    }

    /// No owner and no time, by which one archive would differ from the next.
    fn entry(&mut self, name: &str, kind: tar::EntryType, size: u64, content: impl Read) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(if kind.is_dir() { 0o755 } else { 0o444 });
        header.set_size(size);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        self.builder.append_data(&mut header, name, content)
    }
}
