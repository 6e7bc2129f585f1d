//! Images, in docker's words: what other commands of ours do, and what `inspect` shows.

use rootfs_cache::digest::Digest;
use rootfs_cache::local::FoundImage;
use rootfs_cache::pull::PullPolicy;
use rootfs_cache::reference::{ImageReference, RegistryReference};
use rootfs_cache::store::PruneScope;
use serde_json::{Value, json};

use crate::config::docker::Place;
use crate::config::{LockedImages, Loudness, PruneConfig, Talk};
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
        let reference: ImageReference =
            image.parse().map_err(|_| Failure::could_not_run("invalid reference format").with_code(ExitCode::FUNCTION_FAILED))?;
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

/// Docker's exit code for whatever fails there.
pub(super) fn of_docker(failure: Failure) -> Failure {
    failure.with_code(ExitCode::FUNCTION_FAILED)
}

/// `docker image prune`.
pub(super) fn prune(all: bool, place: &Place) -> Result<ExitCode, Failure> {
    let scope = if all { PruneScope::Everything } else { PruneScope::Unreferenced };
    crate::mode::images::prune(&PruneConfig { scope, locked: LockedImages::AsOthers, source: place.images.clone() })
}

/// An image of the cache in docker's shape, by any of its names or the first digits of its id.
pub(super) fn object(name: &str, place: &Place) -> Result<Option<Value>, Failure> {
    let cache = open_cache(&place.images)?;
    let Some(FoundImage { image, .. }) = cache.find(name).map_err(Failure::could_not_run)?.into_iter().next() else { return Ok(None) };
    let Some(documents) = cache.documents(&image.manifest).map_err(Failure::could_not_run)? else { return Ok(None) };
    let config: Value = serde_json::from_slice(&documents.config).unwrap_or_default();
    let names: Vec<RegistryReference> = image.names.iter().filter_map(|(name, _)| name.parse().ok()).collect();
    let digests: Vec<String> = names.iter().map(|name| format!("{}/{}@{}", name.registry(), name.repository(), image.manifest)).collect();
    Ok(Some(json!({
        "Id": Digest::of(&documents.config).to_string(),
        "RepoTags": names.iter().map(RegistryReference::familiar).collect::<Vec<_>>(),
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
