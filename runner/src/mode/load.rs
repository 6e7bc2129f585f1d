//! `undocked load`: the images of an archive into the cache.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::sync::Arc;

use rootfs_cache::pull::{ArchiveInput, LoadedImage, PullEvent, load};

use super::images::make_room;
use super::progress::Progress;
use super::pull::{failed, until_signal};
use super::{open_cache, print};
use crate::config::{LoadConfig, LoadInput};
use crate::exit_code::{ExitCode, Failure};

/// Loads them; prints each one's names, as docker does.
pub fn run(config: &LoadConfig) -> Result<ExitCode, Failure> {
    let input = match &config.input {
        LoadInput::File(path) => ArchiveInput::File(path.clone()),
        LoadInput::Stdin if std::io::stdin().is_terminal() => {
            let hint = "name a file with `-i`, or give the archive on stdin".to_owned();
            return Err(Failure::could_not_run("no archive is given, and stdin is a terminal").with_hint(Some(hint)));
        }
        LoadInput::Stdin => ArchiveInput::Stream(Box::new(std::io::stdin()), "stdin"),
    };
    let (cache, progress) = (Arc::new(open_cache(&config.source)?), Progress::new(config.talk));
    let tell = |event: PullEvent<'_>| progress.tell(event);
    let mut printed = Ok(());
    let mut came = BTreeSet::new();
    let mut loaded = |image: &LoadedImage| {
        came.insert(image.manifest);
        if printed.is_ok() {
            printed = print(lines(image).as_bytes());
        }
    };
    until_signal(async { load(&cache, input, &config.source.options, &tell, &mut loaded).await.map_err(failed) })?;
    printed?;
    if came.is_empty() {
        return Err(Failure::could_not_run("there is no image in the archive"));
    }
    make_room(&cache, &config.source, came, &|note| tell(PullEvent::Note(note)));
    Ok(ExitCode::SUCCESS)
}

fn lines(image: &LoadedImage) -> String {
    let taken = |(name, id): &(_, _)| taken(name, id);
    let mut text: String = image.taken.iter().map(taken).collect();
    if image.names.is_empty() {
        text += &format!("Loaded image ID: {}\n", image.id);
    }
    text + &image.names.iter().map(|name| format!("Loaded image: {}\n", name.familiar())).collect::<String>()
}

fn taken(name: &rootfs_cache::reference::RegistryReference, id: &rootfs_cache::digest::Digest) -> String {
    format!("The image {} already exists, renaming the old one with ID {id} to empty string\n", name.familiar())
}
