//! Images, in docker's words: what other commands of ours do, and what `inspect` shows.

use rootfs_cache::digest::Digest;
use rootfs_cache::pull::PullPolicy;
use rootfs_cache::reference::ImageReference;
use serde_json::{Value, json};

use super::objects;
use crate::config::docker::Place;
use crate::config::{Loudness, Talk};
use crate::exit_code::{ExitCode, Failure};
use crate::mode::{open_cache, print, pull};

/// `docker pull`.
pub(super) fn pull_images(images: &[String], (platform, quiet): (Option<&str>, bool), place: &Place) -> Result<ExitCode, Failure> {
    let mut source = place.images.clone();
    source.options.policy = PullPolicy::Always;
    if let Some(platform) = platform {
        source.options.platform = platform.parse().map_err(Failure::could_not_run)?;
    }
    let talk = Talk { loudness: if quiet { Loudness::Quiet } else { place.talk.loudness }, ..place.talk };
    for image in images {
        let reference: ImageReference = image.parse().map_err(|_| {
            Failure::could_not_run("invalid reference format").with_code(ExitCode::FUNCTION_FAILED)
        })?;
        let rootfs = pull::find(&reference, &source, talk).map_err(|failure| failure.with_code(ExitCode::FUNCTION_FAILED))?;
        let text = if quiet {
            format!("{reference}\n")
        } else {
            format!("Digest: {}\nStatus: Image is up to date for {image}\n{reference}\n", rootfs.manifest_digest())
        };
        print(text.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// An image of the cache in docker's shape, by any of its names or the first digits of its id.
pub(super) fn object(name: &str, place: &Place) -> Result<Option<Value>, Failure> {
    let images = open_cache(&place.images)?.images().map_err(Failure::could_not_run)?;
    let full = name.parse::<ImageReference>().map(|reference| reference.to_string()).unwrap_or_default();
    let hex = name.strip_prefix("sha256:").unwrap_or(name);
    let is_hex = hex.len() >= 6 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    let by_name = images.iter().find(|image| image.names.iter().any(|(own, _)| *own == full));
    let id = |manifest: &Digest| objects::image_config_bytes(&place.images, manifest).map(|bytes| Digest::of(&bytes));
    let by_digits = || {
        images.iter().find(|image| {
            image.manifest.hex().starts_with(hex) || id(&image.manifest).is_some_and(|id| id.hex().starts_with(hex))
        })
    };
    let Some(image) = by_name.or_else(|| if is_hex { by_digits() } else { None }) else { return Ok(None) };
    let config = objects::image_config(&place.images, &image.manifest);
    let names: Vec<&str> = image.names.iter().map(|(name, _)| name.as_str()).collect();
    let without_tag = |name: &&str| {
        let slash = name.rfind('/').unwrap_or(0);
        name[slash..].find(':').map_or((*name).to_owned(), |at| name[..slash + at].to_owned())
    };
    let digests: Vec<String> = names.iter().map(|name| format!("{}@{}", without_tag(name), image.manifest)).collect();
    let familiar = |name: &&str| name.strip_prefix("docker.io/library/").or_else(|| name.strip_prefix("docker.io/")).unwrap_or(name).to_owned();
    Ok(Some(json!({
        "Id": id(&image.manifest).unwrap_or(image.manifest).to_string(),
        "RepoTags": names.iter().map(familiar).collect::<Vec<_>>(),
        "RepoDigests": digests,
        "Parent": "",
        "Comment": "",
        "Created": config["created"],
        "Author": "",
        "Config": config["config"],
        "Architecture": config["architecture"],
        "Os": config["os"],
        "Size": image.bytes,
        "RootFS": { "Type": "layers", "Layers": config["rootfs"]["diff_ids"] },
    })))
}
