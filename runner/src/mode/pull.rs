//! `undocked pull`, and how a run finds its image.

use std::sync::Arc;

use rootfs_cache::pull::{PullError, lookup, obtain};
use rootfs_cache::reference::ImageReference;
use rootfs_cache::rootfs::Rootfs;

use super::progress::Progress;
use super::{async_runtime, open_cache, print};
use crate::config::{ImageSource, Talk};
use crate::exit_code::{ExitCode, Failure};

/// The image, from the cache if it may come from there. Nothing of a pull is set up before it is known that one is needed.
pub(super) fn find(image: &ImageReference, source: &ImageSource, talk: Talk) -> Result<Rootfs, Failure> {
    let cache = open_cache(source)?;
    if let Some(rootfs) = lookup(&cache, image, &source.options).map_err(failed)? {
        return Ok(rootfs);
    }
    let (cache, progress) = (Arc::new(cache), Progress::new(talk));
    async_runtime()?.block_on(obtain(&cache, image, &source.options, &|event| progress.tell(event))).map_err(failed)
}

/// Pulls images; prints the digest of each.
pub fn run(images: &[String], source: &ImageSource, talk: Talk) -> Result<ExitCode, Failure> {
    let images: Vec<ImageReference> = images.iter().map(|image| image.parse()).collect::<Result<_, _>>().map_err(Failure::usage)?;
    for image in &images {
        let rootfs = find(image, source, talk)?;
        print(format!("{}\n", rootfs.manifest_digest()).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn failed(error: PullError) -> Failure {
    let hint = error.hint();
    Failure::could_not_run(error).with_hint(hint)
}
