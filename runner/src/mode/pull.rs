//! `undocked pull`, and how a run finds its image.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rootfs_cache::pull::{PullError, PullEvent, lookup, obtain};
use rootfs_cache::reference::ImageReference;
use rootfs_cache::rootfs::Rootfs;
use rootfs_cache::store::unfinished;

use super::progress::Progress;
use super::signals::Signals;
use super::{async_runtime, images, open_cache, print, trust};
use crate::config::{ImageSource, Talk};
use crate::exit_code::{ExitCode, Failure};

/// The image, signed where it must be.
pub(super) fn find(image: &ImageReference, source: &ImageSource, talk: Talk) -> Result<Rootfs, Failure> {
    match &source.required {
        Some(required) => trust::find(image, source, required, talk),
        None => find_any(image, source, talk),
    }
}

/// The image, from the cache if it may come from there. Nothing of a pull is set up before it is known that one is needed.
pub(super) fn find_any(image: &ImageReference, source: &ImageSource, talk: Talk) -> Result<Rootfs, Failure> {
    let cache = open_cache(source)?;
    if let Some(rootfs) = lookup(&cache, image, &source.options).map_err(failed)? {
        return Ok(rootfs);
    }
    let (cache, progress) = (Arc::new(cache), Progress::new(talk));
    let tell = |event: PullEvent<'_>| progress.tell(event);
    let rootfs = until_signal(async { obtain(&cache, image, &source.options, &tell).await.map_err(failed) })?;
    images::make_room(&cache, source, BTreeSet::new(), &|note| tell(PullEvent::Note(note)));
    Ok(rootfs)
}

/// Waits for something unless a signal comes, by which it is dropped: that removes what it had begun.
pub(super) fn until_signal<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = async_runtime()?;
    let done = runtime.block_on(async {
        let mut signals = Signals::listen().map_err(Failure::could_not_run)?;
        tokio::select! {
            done = work => done,
            signal = signals.next() => Err(Failure::interrupted(signal)),
        }
    });
    // A thread that waits for another process's layer must not hold us up, but what was begun is removed even where a disk is slow.
    let begun = Instant::now();
    runtime.shutdown_timeout(LAST_WORDS);
    while done.is_err() && unfinished() > 0 && begun.elapsed() < REMOVAL {
        thread::sleep(Duration::from_millis(10));
    }
    done
}

/// How long threads may take to end.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long what a pull had begun may take to be removed. The next pull removes what is left.
const REMOVAL: Duration = Duration::from_secs(10);

/// Pulls images; prints the digest of each.
pub fn run(images: &[String], source: &ImageSource, talk: Talk) -> Result<ExitCode, Failure> {
    let images: Vec<ImageReference> = images.iter().map(|image| image.parse()).collect::<Result<_, _>>().map_err(Failure::usage)?;
    for image in &images {
        let rootfs = find(image, source, talk)?;
        print(format!("{}\n", rootfs.manifest_digest()).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn failed(error: PullError) -> Failure {
    let hint = error.hint();
    Failure::could_not_run(error).with_hint(hint)
}
