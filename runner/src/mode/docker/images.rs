//! Images, in docker's words: what other commands of ours do, and what `inspect` shows.

use std::collections::BTreeSet;

use rootfs_cache::digest::Digest;
use rootfs_cache::local::FoundImage;
use rootfs_cache::pull::{PullError, PullPolicy};
use rootfs_cache::reference::{ImageReference, RegistryReference};
use rootfs_cache::store::PruneScope;
use serde_json::{Value, json};

use super::{say, unset};
use crate::config::docker::Place;
use crate::config::{
    Force, ImageSource, LoadConfig, LoadInput, LockedImages, Loudness, PruneConfig, RemoveConfig, SaveConfig, TagConfig, Talk,
};
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

/// There is no such image, in the daemon's words.
fn no_such_image(name: &str) -> Failure {
    Failure::could_not_run(format!("No such image: {name}")).in_front("Error response from daemon").with_code(ExitCode::FUNCTION_FAILED)
}

/// A name with the tag that it stands for, as the daemon repeats it. IDs are no names to it.
fn tagged(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") }
}

fn is_there(name: &str, source: &ImageSource) -> Result<bool, Failure> {
    let found = open_cache(source)?.find(name).map_err(Failure::could_not_run)?;
    Ok(!found.is_empty())
}

/// `docker rmi`: one after the other; one that is not there is said, and with `--force` is no failure.
pub(super) fn remove(config: &RemoveConfig) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    for name in &config.images {
        if !is_there(name, &config.source)? {
            say(&no_such_image(&tagged(name)));
            if config.force == Force::No {
                code = ExitCode::FUNCTION_FAILED;
            }
            continue;
        }
        let one = RemoveConfig { images: vec![name.clone()], ..config.clone() };
        match crate::mode::images::remove(&one) {
            Ok(ExitCode::SUCCESS) => {}
            Ok(_) => code = ExitCode::FUNCTION_FAILED,
            Err(failure) => {
                say(&failure);
                code = ExitCode::FUNCTION_FAILED;
            }
        }
    }
    Ok(code)
}

/// `docker tag`.
pub(super) fn tag(config: &TagConfig) -> Result<ExitCode, Failure> {
    if !is_there(&config.image, &config.source)? {
        return Err(no_such_image(&tagged(&config.image)));
    }
    crate::mode::tag::run(config).map_err(of_docker)
}

/// `docker save`: nothing is written where one is not there.
pub(super) fn save(config: &SaveConfig) -> Result<ExitCode, Failure> {
    for name in &config.images {
        if !is_there(name, &config.source)? {
            return Err(no_such_image(name));
        }
    }
    crate::mode::save::run(config).map_err(of_docker)
}

/// `docker load`. What is no archive is told as the daemon tells it.
pub(super) fn load(config: &LoadConfig) -> Result<ExitCode, Failure> {
    if let LoadInput::File(path) = &config.input
        && let Err(error) = std::fs::File::open(path)
    {
        let why = crate::exit_code::chain(&error).to_lowercase();
        return Err(of_docker(Failure::could_not_run(format!("open {}: {why}", path.display()))));
    }
    crate::mode::load::run(config).map_err(|failure| match failure.cause::<PullError>() {
        // Its name is what was given, or no more than `stdin`.
        Some(error) => {
            let why = std::error::Error::source(error).map_or_else(|| failure.to_string(), crate::exit_code::chain);
            of_docker(Failure::could_not_run(format!("Error processing tar file: {why}")))
        }
        None => of_docker(failure),
    })
}

/// `docker image prune`: prints what goes; gives the bytes that it took.
pub(super) fn prune(all: bool, place: &Place) -> Result<u64, Failure> {
    let scope = if all { PruneScope::Everything } else { PruneScope::Unreferenced };
    let config = PruneConfig { scope, locked: LockedImages::AsOthers, source: place.images.clone() };
    let pruned = crate::mode::images::pruned(&config)?;
    if !pruned.images.is_empty() {
        let lines: String = pruned.images.iter().map(|image| format!("deleted: {image}\n")).collect();
        print(format!("Deleted Images:\n{lines}\n").as_bytes())?;
    }
    Ok(pruned.bytes + pruned.blob_bytes)
}

/// A repository as docker shows it: without `docker.io/` and `library/`.
fn familiar(name: &RegistryReference) -> String {
    match name.registry() {
        "docker.io" => name.repository().strip_prefix("library/").unwrap_or(name.repository()).to_owned(),
        registry => format!("{registry}/{}", name.repository()),
    }
}

/// An image of the cache in docker's shape, by any of its names or the first digits of its id.
pub(super) fn object(name: &str, place: &Place) -> Result<Option<Value>, Failure> {
    let cache = open_cache(&place.images)?;
    let Some(FoundImage { image, .. }) = cache.find(name).map_err(Failure::could_not_run)?.into_iter().next() else { return Ok(None) };
    let Some(documents) = cache.documents(&image.manifest).map_err(Failure::could_not_run)? else { return Ok(None) };
    let config: Value = serde_json::from_slice(&documents.config).unwrap_or_default();
    let names: Vec<RegistryReference> = image.names.iter().filter_map(|(name, _)| name.parse().ok()).collect();
    let digests: BTreeSet<String> = names.iter().map(|name| format!("{}@{}", familiar(name), image.manifest)).collect();
    let shown = json!({
        "Id": Digest::of(&documents.config).to_string(),
        "RepoTags": names.iter().map(RegistryReference::familiar).collect::<Vec<_>>(),
        "RepoDigests": digests,
        "Created": config["created"],
        "Author": config["author"].as_str().unwrap_or_default(),
        "Config": unset::with(if config["config"].is_object() { config["config"].clone() } else { json!({}) }, unset::of_config()),
        "Architecture": config["architecture"],
        "Os": config["os"],
        "Size": image.bytes,
        "VirtualSize": image.bytes,
        "RootFS": { "Type": "layers", "Layers": config["rootfs"]["diff_ids"] },
    });
    Ok(Some(unset::with(shown, unset::of_image())))
}
