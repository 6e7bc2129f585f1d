//! `undocked push`: an image of the cache, of a layout or of an archive to a registry.

use std::sync::Arc;

use rootfs_cache::digest::Digest;
use rootfs_cache::export::{ExportError, PushEvent, PushedImage, push};
use rootfs_cache::pull::PullEvent;
use rootfs_cache::reference::{ImageReference, RegistryReference};
use rootfs_cache::store::Cache;

use super::progress::Progress;
use super::pull::until_signal;
use super::save::chosen;
use super::{open_cache, print};
use crate::config::{Loudness, PushConfig};
use crate::exit_code::{ExitCode, Failure};

/// Pushes it; prints what becomes of each layer and the manifest's digest, as docker does. A quiet push prints the reference alone.
pub fn run(config: &PushConfig) -> Result<ExitCode, Failure> {
    let is_quiet = config.talk.loudness == Loudness::Quiet;
    let destination = pushed(config, &|text| if is_quiet { Ok(()) } else { print(text.as_bytes()) })?;
    if is_quiet {
        print(format!("{destination}\n").as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Pushes it and gives where to; how that goes is said line by line.
pub(super) fn pushed(config: &PushConfig, say: &(dyn Fn(String) -> Result<(), Failure> + Sync)) -> Result<RegistryReference, Failure> {
    let given: Option<RegistryReference> = config.destination.as_ref().map(|name| name.parse()).transpose().map_err(Failure::usage)?;
    let (cache, progress) = (Arc::new(open_cache(&config.source)?), Progress::new(config.talk));
    let (image, destination) = subject(&cache, config, given)?;
    if destination.digest().is_some() {
        return Err(Failure::usage(format!("`{destination}` names a digest: an image is pushed by a tag")));
    }
    say(format!("The push refers to repository [{}/{}]\n", destination.registry(), destination.repository()))?;
    let note = |text: &str| progress.tell(PullEvent::Note(text));
    let observer = |event: PushEvent| {
        // Whoever closed stdout hears of that at the end.
        let _ = say(line(event));
    };
    let access = (&config.source.options.access, &note as _);
    let pushed = until_signal(async { push(&cache, &image, &destination, access, &observer).await.map_err(failed) })?;
    let tag = destination.tag().unwrap_or_default();
    say(format!("{tag}: digest: {} size: {}\n", pushed.digest, pushed.size))?;
    Ok(destination)
}

/// What is pushed, and where to: by default where its name says.
fn subject(cache: &Cache, config: &PushConfig, given: Option<RegistryReference>) -> Result<(PushedImage, RegistryReference), Failure> {
    let nowhere = || {
        let failure = Failure::usage(format!("`{}` does not say which registry it is for", config.image));
        failure.with_hint(Some(format!("`undocked push {} REGISTRY/NAME:TAG`", config.image)))
    };
    if let Ok(ImageReference::Layout(layout)) = config.image.parse() {
        let in_cache = !cache.find(&config.image).map_err(super::in_cache)?.is_empty();
        if !in_cache || layout.path().exists() {
            return Ok((PushedImage::Local(layout, config.source.options.platform.clone()), given.ok_or_else(nowhere)?));
        }
    }
    let image = chosen(cache, &config.image, &config.source)?;
    let destination = given.or_else(|| image.names.first().cloned()).ok_or_else(nowhere)?;
    Ok((PushedImage::Cached(image), destination))
}

fn line(event: PushEvent) -> String {
    let short = |digest: Digest| digest.hex()[..12].to_owned();
    match event {
        PushEvent::Pushed(layer) => format!("{}: Pushed\n", short(layer)),
        PushEvent::Present(layer) => format!("{}: Layer already exists\n", short(layer)),
        PushEvent::Mounted(layer) => format!("{}: Mounted\n", short(layer)),
    }
}

fn failed(error: ExportError) -> Failure {
    let hint = error.hint();
    Failure::could_not_run(error).with_hint(hint)
}
