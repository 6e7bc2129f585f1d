//! Images of the cache as docker's users name them: by any spelling of a reference, by ID, by digest, or by the first digits of these.
//!
//! Asks the cache alone. What is pulled by such a name is another module's business.

use crate::digest::Digest;
use crate::reference::{ImageReference, Platform, RegistryReference};
use crate::rootfs::ImageConfig;
use crate::store::{Cache, CacheError, ImageSummary};

/// Fewer digits than that are a name.
const DIGITS_MIN: usize = 6;

/// An image that was found, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundImage {
    /// The image.
    pub image: ImageSummary,
    /// The reference it was found by, in full; `None` where it was a digest or an ID.
    pub name: Option<String>,
}

impl FoundImage {
    /// The platforms for which the name means this image; of an image found by its ID those of its names.
    pub fn platforms(&self) -> Vec<&str> {
        let is_ours = |name: &String| self.name.as_ref().is_none_or(|own| own == name);
        let mut platforms: Vec<&str> =
            self.image.names.iter().filter(|(name, _)| is_ours(name)).map(|(_, platform)| platform.as_str()).collect();
        platforms.sort_unstable();
        platforms.dedup();
        platforms
    }
}

impl Cache {
    /// The images that `text` means: several where a name has several platforms, or where digits fit several.
    pub fn find(&self, text: &str) -> Result<Vec<FoundImage>, CacheError> {
        Ok(find(&self.images()?, text))
    }
}

impl Cache {
    /// Gives what was found another name, for the platforms for which it was found; what the name meant before it means no more. Of several images for one
    /// platform the first has it.
    pub fn tag(&self, found: &[FoundImage], name: &RegistryReference) -> Result<(), CacheError> {
        let mut done = Vec::new();
        for found in found {
            let mut platforms: Vec<String> = found.platforms().into_iter().map(str::to_owned).collect();
            if platforms.is_empty() {
                platforms.extend(self.platform_of(&found.image.manifest)?.map(|platform| platform.to_string()));
            }
            platforms.retain(|platform| !done.contains(platform));
            for platform in platforms {
                self.set_name(&name.to_string(), &platform, &found.image.manifest)?;
                done.push(platform);
            }
        }
        Ok(())
    }

    /// The platform that an image's config is for.
    fn platform_of(&self, manifest: &Digest) -> Result<Option<Platform>, CacheError> {
        let documents = self.documents(manifest)?;
        let config = documents.and_then(|documents| ImageConfig::from_json(&documents.config).ok());
        Ok(config.and_then(|config| Platform::from_parts(&config.os, &config.architecture, None)))
    }
}

/// The images of a list that `text` means.
pub fn find(images: &[ImageSummary], text: &str) -> Vec<FoundImage> {
    let full = in_full(text);
    let has_name = |image: &&ImageSummary| image.names.iter().any(|(name, _)| *name == full || name == text);
    let name_in = |image: &ImageSummary| image.names.iter().map(|(name, _)| name).find(|name| **name == full || *name == text).cloned();
    let by_name: Vec<FoundImage> =
        images.iter().filter(has_name).map(|image| FoundImage { image: image.clone(), name: name_in(image) }).collect();
    if !by_name.is_empty() {
        return by_name;
    }
    let by_digest =
        |image: &&ImageSummary| digits(text).is_some_and(|hex| image.id.hex().starts_with(hex) || image.manifest.hex().starts_with(hex));
    let pinned = |image: &&ImageSummary| repository_at(text).is_some_and(|(repository, digest)| is_of(image, &repository, &digest));
    let found = |image: &ImageSummary| FoundImage { image: image.clone(), name: None };
    images.iter().filter(|image| by_digest(image) || pinned(image)).map(found).collect()
}

/// A reference with nothing left out; any other text as it is.
pub fn in_full(text: &str) -> String {
    text.parse::<ImageReference>().map_or_else(|_| text.to_owned(), |reference| reference.to_string())
}

fn digits(text: &str) -> Option<&str> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let is_hex = hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    (is_hex && (DIGITS_MIN..=64).contains(&hex.len())).then_some(hex)
}

/// `NAME@DIGEST`, whose tag does not matter.
fn repository_at(text: &str) -> Option<(String, Digest)> {
    let reference: RegistryReference = text.parse().ok()?;
    let digest = *reference.digest()?;
    Some((format!("{}/{}", reference.registry(), reference.repository()), digest))
}

fn is_of(image: &ImageSummary, repository: &str, digest: &Digest) -> bool {
    let of_repository = |(name, _): &(String, String)| {
        name.parse::<RegistryReference>().is_ok_and(|name| format!("{}/{}", name.registry(), name.repository()) == repository)
    };
    image.manifest == *digest && image.names.iter().any(of_repository)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn image(seed: &str, names: &[(&str, &str)]) -> ImageSummary {
        ImageSummary {
            manifest: Digest::of(seed.as_bytes()),
            id: Digest::of(format!("id of {seed}").as_bytes()),
            created: None,
            names: names.iter().map(|(name, platform)| ((*name).to_owned(), (*platform).to_owned())).collect(),
            layers: 1,
            bytes: 1,
            last_used: SystemTime::UNIX_EPOCH,
            in_use: false,
        }
    }

    #[test]
    fn names_ids_and_digests() {
        let images = [
            image("a", &[("docker.io/library/a:latest", "linux/amd64"), ("host:5000/a/b:c", "linux/amd64")]),
            image("b", &[("oci:/x:b", "linux/amd64")]),
            image("c", &[("docker.io/library/a:latest", "linux/arm64")]),
        ];
        let id = |n: usize| images[n].id.hex();
        let manifest = images[0].manifest;
        let table: [(&str, &[usize]); 13] = [
            ("a", &[0, 2]),
            ("a:latest", &[0, 2]),
            ("docker.io/library/a", &[0, 2]),
            ("host:5000/a/b:c", &[0]),
            ("oci:/x:b", &[1]),
            (&id(1)[..12], &[1]),
            (&id(1)[..5], &[]),
            (&format!("sha256:{}", id(2)), &[2]),
            (&manifest.to_string(), &[0]),
            (&format!("host:5000/a/b@{manifest}"), &[0]),
            (&format!("host:5000/a/b:c@{manifest}"), &[0]),
            (&format!("host:5000/a/x@{manifest}"), &[]),
            ("b", &[]),
        ];
        for (text, wanted) in table {
            let found: Vec<Digest> = find(&images, text).into_iter().map(|found| found.image.manifest).collect();
            assert_eq!(found, wanted.iter().map(|n| images[*n].manifest).collect::<Vec<_>>(), "{text}");
        }
    }
}
