//! Manifests and indexes, Docker's and OCI's, as strict small structs; and the choice of a platform within an index.
//!
//! Pure: bytes in, values out. What we do not read (`urls` of foreign layers above all, CVE-2020-15157) has no field here and so cannot be followed.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::digest::Digest;
use crate::reference::Platform;
use crate::rootfs::ImageConfig;
use crate::unpack::Compression;

/// Largest manifest or index read: the OCI distribution specification lets registries refuse more.
pub const MANIFEST_MAX_BYTES: u64 = 4 << 20;
/// Largest image config read.
pub const CONFIG_MAX_BYTES: u64 = 8 << 20;
/// Most image layers: overlayfs takes 500, docker builds 127.
const LAYERS_MAX: usize = 500;
/// Most entries of one index.
const ENTRIES_MAX: usize = 10_000;

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// The media type of OCI's manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of OCI's index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The media type of OCI's image config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The media type of a plain layer of OCI's.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// The media type of a layer of OCI's compressed with gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// The media type of a layer of OCI's compressed with zstd.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Every media type of manifest we read, as sent in `Accept`.
pub(crate) const ACCEPTED: [&str; 4] = [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST];
const CONFIGS: [&str; 2] = ["application/vnd.docker.container.image.v1+json", OCI_CONFIG];
/// A layer is one of these with nothing, `.gzip`, `+gzip`, `.zstd` or `+zstd` behind. Which of them is sniffed from its first bytes while it is unpacked.
const LAYERS: [&str; 4] = [
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
];

/// Why bytes are no manifest we can run, or hold none for the platform.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// No JSON, or not of the form wanted; a bad digest or size in it is found here too.
    #[error("the {document} is malformed")]
    Malformed {
        /// `manifest`, `index` or `image config`.
        document: &'static str,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// Docker's first format, of before 2016.
    #[error("the manifest has Docker's schema 1, which is not supported: such images must be pushed again with a newer docker")]
    Schema1,
    /// JSON that is neither, or that says one thing in its media type and another in its fields.
    #[error("the document is neither an image manifest nor an index (media type `{media_type}`)")]
    Unknown {
        /// Its own `mediaType`, or nothing.
        media_type: String,
    },
    /// A manifest of something else than an image, such as a Helm chart or a signature.
    #[error("the manifest is not an image's: its {part} has media type `{media_type}`")]
    NotAnImage {
        /// `config` or `layer`.
        part: &'static str,
        /// The media type found.
        media_type: String,
    },
    /// Too many or no layers or entries.
    #[error("the {document} lists {count} {things}, between 1 and {max} are allowed")]
    Count {
        /// `manifest` or `index`.
        document: &'static str,
        /// What it lists.
        things: &'static str,
        /// How many.
        count: usize,
        /// The most allowed.
        max: usize,
    },
    /// The manifest and the config do not belong together.
    #[error("the manifest lists {layers} layers, but the image config has {diff_ids} diff IDs")]
    DiffIds {
        /// Layers in the manifest.
        layers: usize,
        /// Diff IDs in the config.
        diff_ids: usize,
    },
    /// The index holds no image for the platform, or the one image is for another.
    #[error("there is no image for `{wanted}`, only for {found}")]
    Platform {
        /// The platform asked for.
        wanted: Platform,
        /// What there is.
        found: String,
    },
    /// An index of nothing but what belongs to images, such as attestations.
    #[error("the index lists no image for any platform")]
    NoImage,
    /// An index within an index within an index.
    #[error("the index is nested too deep")]
    Nested,
}

impl ManifestError {
    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Platform { .. } => Some("choose another with `--platform`".to_owned()),
            Self::Nested => Some("name the inner index, or the image, by its own tag or digest".to_owned()),
            _ => None,
        }
    }
}

/// Names a blob or a manifest: its digest, its size, and what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// The digest of its bytes.
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
}

/// What a registry gives for a tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One platform's image.
    Manifest(Manifest),
    /// A choice of platforms.
    Index(Index),
}

/// The manifest of one platform's image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Manifest {
    /// The image's config.
    pub config: Descriptor,
    /// Its layers, bottom first.
    pub layers: Vec<Descriptor>,
}

/// An OCI index or a Docker manifest list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Index {
    /// Its entries, in their order.
    pub manifests: Vec<IndexEntry>,
}

/// One entry of an index.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct IndexEntry {
    /// The manifest or inner index.
    #[serde(flatten)]
    pub descriptor: Descriptor,
    /// The platform as it is written there.
    pub platform: Option<EntryPlatform>,
    /// Remarks, such as the name an image has in an OCI layout.
    #[serde(default)]
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// A platform as an index writes it: any text may stand here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct EntryPlatform {
    /// `linux`, `windows`; `unknown` for buildx's attestations.
    pub os: String,
    /// `amd64`, `arm64` and others.
    pub architecture: String,
    /// `v8` and others.
    pub variant: Option<String>,
}

/// The fields by which kinds of documents are told apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline<'a> {
    schema_version: u64,
    #[serde(default)]
    media_type: String,
    #[serde(borrow)]
    manifests: Option<&'a RawValue>,
    #[serde(borrow)]
    layers: Option<&'a RawValue>,
}

impl Document {
    /// Reads what a registry or a layout gave. The bytes' digest has been checked by the caller.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ManifestError> {
        let outline: Outline<'_> = parse("manifest", bytes)?;
        if outline.schema_version == 1 {
            return Err(ManifestError::Schema1);
        }
        let media_type = outline.media_type.as_str();
        // Fields and media type must agree, or two readers of one digest could see two images (CVE-2021-41190).
        match (outline.layers, outline.manifests) {
            (Some(_), None) if matches!(media_type, "" | OCI_MANIFEST | DOCKER_MANIFEST) => Manifest::from_json(bytes).map(Self::Manifest),
            (None, Some(_)) if matches!(media_type, "" | OCI_INDEX | DOCKER_LIST) => Index::from_json(bytes).map(Self::Index),
            _ => Err(ManifestError::Unknown { media_type: media_type.to_owned() }),
        }
    }
}

impl Manifest {
    /// Reads one platform's manifest.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = parse("manifest", bytes)?;
        check_count("manifest", "layers", manifest.layers.len(), LAYERS_MAX)?;
        let not_an_image = |part, found: &Descriptor| Err(ManifestError::NotAnImage { part, media_type: found.media_type.clone() });
        if !CONFIGS.contains(&manifest.config.media_type.as_str()) {
            return not_an_image("config", &manifest.config);
        }
        match manifest.layers.iter().find(|layer| !is_layer(&layer.media_type)) {
            Some(layer) => not_an_image("layer", layer),
            None => Ok(manifest),
        }
    }

    /// Reads the config that belongs to this manifest, and checks that it does and that it is for the platform wanted.
    pub fn read_config(&self, bytes: &[u8], wanted: &Platform) -> Result<ImageConfig, ManifestError> {
        let config = ImageConfig::from_json(bytes).map_err(|source| ManifestError::Malformed { document: "image config", source })?;
        if config.diff_ids.len() != self.layers.len() {
            return Err(ManifestError::DiffIds { layers: self.layers.len(), diff_ids: config.diff_ids.len() });
        }
        let is_wanted =
            Platform::from_parts(&config.os, &config.architecture, None).is_some_and(|found| found.architecture == wanted.architecture);
        if is_wanted {
            Ok(config)
        } else {
            Err(ManifestError::Platform { wanted: wanted.clone(), found: format!("`{}/{}`", config.os, config.architecture) })
        }
    }
}

impl Index {
    pub(crate) fn from_json(bytes: &[u8]) -> Result<Self, ManifestError> {
        let index: Self = parse("index", bytes)?;
        check_count("index", "entries", index.manifests.len(), ENTRIES_MAX)?;
        Ok(index)
    }

    /// The entry for a platform: with the same variant, else with the baseline; else an inner index; else the only image, where none names its platform.
    pub fn choose(&self, wanted: &Platform) -> Result<&IndexEntry, ManifestError> {
        let baseline = Platform { architecture: wanted.architecture, variant: None };
        let images: Vec<&IndexEntry> = self.manifests.iter().filter(|entry| !entry.is_index() && !entry.is_attestation()).collect();
        let of = |platform: &Platform| images.iter().copied().find(|entry| entry.platform().as_ref() == Some(platform));
        let inner = || {
            let fits = |entry: &&IndexEntry| entry.platform.is_none() || entry.platform().is_some_and(|of| of == *wanted || of == baseline);
            self.manifests.iter().filter(|entry| entry.is_index()).find(fits)
        };
        let only = || images.first().copied().filter(|only| images.len() == 1 && only.platform.is_none());
        of(wanted).or_else(|| of(&baseline)).or_else(inner).or_else(only).ok_or_else(|| {
            let others = self.manifests.iter().filter(|entry| !entry.is_attestation());
            let found: Vec<String> = others.map(|entry| format!("`{}`", entry.platform_text())).collect();
            if found.is_empty() {
                ManifestError::NoImage
            } else {
                ManifestError::Platform { wanted: wanted.clone(), found: found.join(", ") }
            }
        })
    }
}

impl IndexEntry {
    /// Whether this is an inner index.
    pub fn is_index(&self) -> bool {
        matches!(self.descriptor.media_type.as_str(), OCI_INDEX | DOCKER_LIST)
    }

    /// Buildx lists what it attests about an image as entries of platform `unknown/unknown`.
    fn is_attestation(&self) -> bool {
        self.platform.as_ref().is_some_and(|platform| platform.os == "unknown" || platform.architecture == "unknown")
    }

    fn platform(&self) -> Option<Platform> {
        let platform = self.platform.as_ref()?;
        Platform::from_parts(&platform.os, &platform.architecture, platform.variant.as_deref())
    }

    fn platform_text(&self) -> String {
        let Some(platform) = &self.platform else {
            return "an unnamed platform".to_owned();
        };
        let variant = platform.variant.as_ref().filter(|variant| !variant.is_empty()).map(|variant| format!("/{variant}"));
        format!("{}/{}{}", platform.os, platform.architecture, variant.unwrap_or_default())
    }
}

/// A manifest of OCI's for what is ours, always the same for the same.
pub fn new_manifest(config: &Descriptor, layers: &[Descriptor]) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct NewManifest<'a> {
        schema_version: u64,
        media_type: &'static str,
        config: &'a Descriptor,
        layers: &'a [Descriptor],
    }
    let manifest = NewManifest { schema_version: 2, media_type: OCI_MANIFEST, config, layers };
    serde_json::to_vec(&manifest).expect("texts and numbers are always JSON")
}

/// The media type of a manifest: the one that it says, or the one that fits its config.
pub fn media_type_of(bytes: &[u8], manifest: &Manifest) -> &'static str {
    let said = serde_json::from_slice::<Outline<'_>>(bytes).map(|outline| outline.media_type).unwrap_or_default();
    let is_docker = said == DOCKER_MANIFEST || (said.is_empty() && manifest.config.media_type != OCI_CONFIG);
    if is_docker { DOCKER_MANIFEST } else { OCI_MANIFEST }
}

/// The same content by OCI's media type.
pub fn to_oci(descriptor: &Descriptor) -> Descriptor {
    let of = &descriptor.media_type;
    let media_type = match of.as_str() {
        config if CONFIGS.contains(&config) => OCI_CONFIG,
        oci if oci.starts_with("application/vnd.oci.") => oci,
        gzip if gzip.ends_with("gzip") => OCI_LAYER_GZIP,
        zstd if zstd.ends_with("zstd") => OCI_LAYER_ZSTD,
        _ => OCI_LAYER,
    };
    Descriptor { media_type: media_type.to_owned(), ..descriptor.clone() }
}

/// OCI's media type of a layer.
pub fn layer_media_type(compression: Compression) -> &'static str {
    match compression {
        Compression::None => OCI_LAYER,
        Compression::Gzip => OCI_LAYER_GZIP,
        Compression::Zstd => OCI_LAYER_ZSTD,
    }
}

/// How a layer of this media type is compressed.
pub(crate) fn compression_of(media_type: &str) -> Compression {
    match media_type {
        gzip if gzip.ends_with("gzip") => Compression::Gzip,
        zstd if zstd.ends_with("zstd") => Compression::Zstd,
        _ => Compression::None,
    }
}

fn parse<'a, T: Deserialize<'a>>(document: &'static str, bytes: &'a [u8]) -> Result<T, ManifestError> {
    serde_json::from_slice(bytes).map_err(|source| ManifestError::Malformed { document, source })
}

fn check_count(document: &'static str, things: &'static str, count: usize, max: usize) -> Result<(), ManifestError> {
    if (1..=max).contains(&count) { Ok(()) } else { Err(ManifestError::Count { document, things, count, max }) }
}

fn is_layer(media_type: &str) -> bool {
    let kinds = ["", ".gzip", "+gzip", ".zstd", "+zstd"];
    LAYERS.iter().filter_map(|base| media_type.strip_prefix(base)).any(|rest| kinds.contains(&rest))
}

#[cfg(test)]
mod tests;
