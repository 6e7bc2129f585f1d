//! Verbs about images: docker's spelling of what our own commands do.

use super::flags::{Given, Verb};
use crate::config::docker::{DockerCommand, Place};
use crate::config::{
    ArchiveFormat, Digests, DockerListing, DockerShow, Force, ImageSource, ImagesConfig, Length, Listing, LoadConfig, LoadInput, Loudness,
    RemoveConfig, SaveConfig, SaveOutput, TagConfig, Talk,
};

pub(super) fn command(verb: &Verb, given: &Given, place: &Place) -> DockerCommand {
    let source = source(given, place);
    let talk = Talk { loudness: if given.is_on("quiet") { Loudness::Quiet } else { place.talk.loudness }, ..place.talk };
    let first = || given.words.first().cloned();
    match verb.name {
        "rmi" => {
            let force = if given.is_on("force") { Force::Yes } else { Force::No };
            DockerCommand::RemoveImages(RemoveConfig { images: given.words.clone(), force, source })
        }
        "tag" => DockerCommand::Tag(TagConfig {
            image: first().unwrap_or_default(),
            name: given.words.last().cloned().unwrap_or_default(),
            source,
        }),
        "save" => {
            let output = given.last("output").map_or(SaveOutput::Stdout, |path| SaveOutput::File(path.into()));
            DockerCommand::Save(SaveConfig { images: given.words.clone(), output, format: ArchiveFormat::Docker, source, talk })
        }
        "load" => {
            let input = given.last("input").map_or(LoadInput::Stdin, |path| LoadInput::File(path.into()));
            DockerCommand::Load(LoadConfig { input, source, talk })
        }
        _ => DockerCommand::Images(ImagesConfig {
            source,
            listing: Listing::Docker(listing(given)),
            filters: given.texts("filter"),
            repository: first(),
        }),
    }
}

/// A platform that cannot be read is told of where images are looked for.
fn source(given: &Given, place: &Place) -> ImageSource {
    let mut source = place.images.clone();
    if let Some(platform) = given.last("platform").and_then(|text| text.parse().ok()) {
        source.options.platform = platform;
    }
    source
}

fn listing(given: &Given) -> DockerListing {
    let show = match given.last("format") {
        Some("table") | None if given.is_on("quiet") => DockerShow::Ids,
        Some("table") | None => DockerShow::Table,
        Some(format) => DockerShow::Format(format.to_owned()),
    };
    DockerListing {
        show,
        digests: if given.is_on("digests") { Digests::Show } else { Digests::Hide },
        length: if given.is_on("no-trunc") { Length::Full } else { Length::Truncated },
    }
}
