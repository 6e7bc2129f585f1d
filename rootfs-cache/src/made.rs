//! Images that were made here, by a build: their layers' blobs and their config become an image of the cache like any other.
//!
//! Knows nothing of how layers are made, nor of registries.

use std::fs::File;

use crate::digest::Digest;
use crate::manifest::{Descriptor, Manifest, ManifestError, OCI_CONFIG, new_manifest};
use crate::reference::{Platform, RegistryReference};
use crate::rootfs::{ImageConfig, Rootfs};
use crate::store::{Cache, CacheError, LayerClaim, NewImage, StoredLayer};
use crate::unpack::{Limits, UnpackError, unpack_layer};

/// An image made here, to be published.
#[derive(Debug, Clone, Copy)]
pub struct MadeImage<'a> {
    /// The image's config, byte for byte: its digest is docker's image ID.
    pub config: &'a [u8],
    /// The layers' compressed blobs, bottom first. One that is not unpacked yet must be among the kept blobs.
    pub layers: &'a [Descriptor],
    /// What it is called from now on.
    pub names: &'a [RegistryReference],
}

/// Why it is no image.
#[derive(Debug, thiserror::Error)]
pub enum AddImageError {
    /// Its config and layers do not fit.
    #[error("the image that was made is none")]
    Manifest(#[source] ManifestError),
    /// It is for a platform that nothing runs on here.
    #[error("the image's config is for `{0}`, which is no platform of Lambda's")]
    Platform(String),
    /// A layer is neither unpacked nor kept.
    #[error("layer {0} is not in the cache")]
    Missing(Digest),
    /// A layer cannot be unpacked.
    #[error("cannot unpack a layer that was made")]
    Unpack(#[source] UnpackError),
    /// A layer's tar is not what the config says.
    #[error("layer {layer} unpacks to {found}, but the image config says {wanted}")]
    DiffId {
        /// The layer's blob digest.
        layer: Digest,
        /// The diff ID in the config.
        wanted: Digest,
        /// The diff ID of what is there.
        found: Digest,
    },
    /// The cache failed.
    #[error("cannot put the image into the cache")]
    Cache(#[source] CacheError),
}

impl AddImageError {
    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unpack(source) => source.hint(),
            Self::Cache(source) => source.hint(),
            _ => None,
        }
    }
}

/// The manifest that an image of this config and these layers gets here.
pub fn manifest(config: &[u8], layers: &[Descriptor]) -> Vec<u8> {
    let config = Descriptor { media_type: OCI_CONFIG.to_owned(), digest: Digest::of(config), size: config.len() as u64 };
    new_manifest(&config, layers)
}

impl Cache {
    /// Publishes an image made here, and names it. Blocks while layers are unpacked. The same config and layers are always the same image.
    pub fn add_image(&self, image: &MadeImage<'_>, limits: &Limits) -> Result<Rootfs, AddImageError> {
        let manifest = manifest(image.config, image.layers);
        let platform = platform_of(image.config)?;
        let config = Manifest::from_json(&manifest).and_then(|manifest| manifest.read_config(image.config, &platform));
        let config = config.map_err(AddImageError::Manifest)?;
        let mut layers = Vec::new();
        for (blob, diff_id) in image.layers.iter().zip(&config.diff_ids) {
            let layer = self.made_layer(blob, limits)?;
            if layer.diff_id() != diff_id {
                return Err(AddImageError::DiffId { layer: blob.digest, wanted: *diff_id, found: *layer.diff_id() });
            }
            layers.push(layer);
        }
        let rootfs = self.publish_image(NewImage { manifest, config: image.config.to_vec(), layers }).map_err(AddImageError::Cache)?;
        for name in image.names {
            let named = self.set_name(&name.to_string(), &platform.to_string(), rootfs.manifest_digest());
            named.map_err(AddImageError::Cache)?;
        }
        Ok(rootfs)
    }

    fn made_layer(&self, blob: &Descriptor, limits: &Limits) -> Result<StoredLayer, AddImageError> {
        let staging = match self.claim_layer(&blob.digest, &mut || ()).map_err(AddImageError::Cache)? {
            LayerClaim::Present(layer) => return Ok(layer),
            LayerClaim::Mine(staging) => staging,
        };
        let file: File = self.blob(&blob.digest).map_err(AddImageError::Cache)?.ok_or(AddImageError::Missing(blob.digest))?;
        let unpacked = unpack_layer(file, &staging, limits).map_err(AddImageError::Unpack)?;
        staging.publish(unpacked).map_err(AddImageError::Cache)
    }
}

fn platform_of(config: &[u8]) -> Result<Platform, AddImageError> {
    let malformed = |source| AddImageError::Manifest(ManifestError::Malformed { document: "image config", source });
    let config = ImageConfig::from_json(config).map_err(malformed)?;
    let platform = Platform::from_parts(&config.os, &config.architecture, None);
    platform.ok_or_else(|| AddImageError::Platform(format!("{}/{}", config.os, config.architecture)))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::manifest::OCI_LAYER_GZIP;
    use crate::store::fixtures::{Bench, Tar, gzip};

    fn config(diff_ids: &[Digest]) -> Vec<u8> {
        serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}).to_string().into()
    }

    #[test]
    fn an_image_of_blobs_and_a_config() {
        let bench = Bench::new();
        let tar = Tar::default().file("etc/made", "here").end();
        let blob = gzip(&tar);
        let layer = Descriptor { media_type: OCI_LAYER_GZIP.to_owned(), digest: Digest::of(&blob), size: blob.len() as u64 };
        let good = config(&[Digest::of(&tar)]);
        let name: RegistryReference = "made".parse().unwrap();
        let made = MadeImage { config: &good, layers: std::slice::from_ref(&layer), names: std::slice::from_ref(&name) };
        let add = |made: &MadeImage<'_>| bench.cache.add_image(made, &Limits::default());
        assert!(matches!(add(&made), Err(AddImageError::Missing(digest)) if digest == layer.digest));
        let mut staging = bench.cache.stage_blob().unwrap();
        staging.write_all(&blob).unwrap();
        let _kept = staging.publish(&layer.digest).unwrap();
        let rootfs = add(&made).unwrap();
        assert_eq!(std::fs::read(rootfs.path().join("etc/made")).unwrap(), b"here");
        let found = bench.cache.named("docker.io/library/made:latest", "linux/amd64").unwrap().unwrap();
        assert_eq!(found.manifest, *rootfs.manifest_digest());
        assert_eq!(add(&made).unwrap().manifest_digest(), rootfs.manifest_digest(), "the same again");
        let wrong = config(&[Digest::of(b"other")]);
        assert!(matches!(add(&MadeImage { config: &wrong, ..made }), Err(AddImageError::DiffId { .. })));
        let few = config(&[]);
        assert!(matches!(add(&MadeImage { config: &few, ..made }), Err(AddImageError::Manifest(ManifestError::DiffIds { .. }))));
    }
}
