//! `undocked images`, `rm` and `prune`: what is in the cache, and what need not be.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use indicatif::{HumanBytes, HumanDuration};
use rootfs_cache::digest::Digest;
use rootfs_cache::local::{FoundImage, find};
use rootfs_cache::reference::RegistryReference;
use rootfs_cache::store::{Cache, CacheError, CacheLimits, ImageSummary, PruneScope, Pruned};
use serde::Serialize;

use super::{open_cache, print};
use crate::config::{DockerListing, Force, ImageSource, ImagesConfig, Length, Listing, LockedImages, PruneConfig, RemoveConfig};
use crate::exit_code::{ExitCode, Failure};
use crate::sandbox::run_folder;

mod docker;
mod glob;
pub mod verify;

pub use docker::ImageRow;
use docker::Named;
pub(super) use docker::{human_duration, human_size};

/// One image with one of its names.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    reference: Option<String>,
    digest: String,
    id: String,
    platform: Option<String>,
    size_bytes: u64,
    last_used: String,
    in_use: bool,
}

/// Lists the images of the cache.
pub fn list(config: &ImagesConfig) -> Result<ExitCode, Failure> {
    if let Listing::Docker(listing) = &config.listing {
        let text = docker::text(&docker_rows(config, listing)?, listing);
        print(text.map_err(|fault| Failure::usage(format!("cannot use the format: {fault}")))?.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let filter = Filter::new(config)?;
    let mut images = open_cache(&config.source)?.images().map_err(failed)?;
    images.retain_mut(|image| filter.reduce(image));
    let text = match &config.listing {
        Listing::Digests => images.iter().map(|image| format!("{}\n", image.manifest)).collect(),
        Listing::Json => {
            let rows: Vec<Row> = images.iter().flat_map(rows_of).collect();
            serde_json::to_string(&rows).map_err(Failure::could_not_run)? + "\n"
        }
        Listing::Table | Listing::Docker(_) => table(&images, SystemTime::now()),
    };
    print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The images as docker lists them, newest first.
pub fn rows(config: &ImagesConfig) -> Result<Vec<ImageRow>, Failure> {
    match &config.listing {
        Listing::Docker(listing) => docker_rows(config, listing),
        _ => rows_in(config, Length::Truncated),
    }
}

fn docker_rows(config: &ImagesConfig, listing: &DockerListing) -> Result<Vec<ImageRow>, Failure> {
    rows_in(config, listing.length)
}

fn rows_in(config: &ImagesConfig, length: Length) -> Result<Vec<ImageRow>, Failure> {
    let filter = Filter::new(config)?;
    let images = open_cache(&config.source)?.images().map_err(failed)?;
    Ok(docker::rows(&images, &|named| filter.keeps(named), length, SystemTime::now().into()))
}

/// Which images are listed.
struct Filter {
    /// One of them must fit; all do where there is none.
    references: Vec<String>,
    dangling: Option<bool>,
}

impl Filter {
    fn new(config: &ImagesConfig) -> Result<Self, Failure> {
        let mut filter = Self { references: config.repository.iter().cloned().collect(), dangling: None };
        for text in &config.filters {
            match text.split_once('=') {
                Some(("reference", pattern)) => filter.references.push(pattern.to_owned()),
                Some(("dangling", "true" | "1")) => filter.dangling = Some(true),
                Some(("dangling", "false" | "0")) => filter.dangling = Some(false),
                _ => {
                    let hint = "`reference=PATTERN` and `dangling=true` are what there is".to_owned();
                    return Err(Failure::usage(format!("`{text}` is no filter for images")).with_hint(Some(hint)));
                }
            }
        }
        Ok(filter)
    }

    fn keeps(&self, named: &Named) -> bool {
        let fits = self.references.is_empty() || self.references.iter().any(|pattern| named.matches(pattern));
        fits && self.dangling.is_none_or(|dangling| dangling == named.is_dangling())
    }

    /// Takes the names away that do not fit; whether anything is left.
    fn reduce(&self, image: &mut ImageSummary) -> bool {
        if image.names.is_empty() {
            return self.keeps(&Named::nameless());
        }
        image.names.retain(|(name, _)| self.keeps(&Named::of(name)));
        !image.names.is_empty()
    }
}

fn rows_of(image: &ImageSummary) -> Vec<Row> {
    let last_used = DateTime::<Utc>::from(image.last_used).to_rfc3339_opts(SecondsFormat::Secs, true);
    let row = |reference: Option<String>, platform: Option<String>| Row {
        reference,
        digest: image.manifest.to_string(),
        id: image.id.to_string(),
        platform,
        size_bytes: image.bytes,
        last_used: last_used.clone(),
        in_use: image.in_use,
    };
    if image.names.is_empty() {
        return vec![row(None, None)];
    }
    image.names.iter().map(|(reference, platform)| row(Some(reference.clone()), Some(platform.clone()))).collect()
}

/// Columns as docker has them, wide enough for what they hold.
fn table(images: &[ImageSummary], now: SystemTime) -> String {
    let mut lines = vec![["REFERENCE", "DIGEST", "PLATFORM", "SIZE", "LAST USED"].map(str::to_owned)];
    for image in images {
        let age = now.duration_since(image.last_used).unwrap_or_default();
        let used = if image.in_use { "in use".to_owned() } else { format!("{} ago", HumanDuration(age)) };
        for row in rows_of(image) {
            let or_none = |text: Option<String>| text.unwrap_or_else(|| "<none>".to_owned());
            lines.push([
                or_none(row.reference),
                image.manifest.hex()[..12].to_owned(),
                or_none(row.platform),
                HumanBytes(image.bytes).to_string(),
                used.clone(),
            ]);
        }
    }
    let widths = [0, 1, 2, 3].map(|column| lines.iter().map(|line: &[String; 5]| line[column].chars().count()).max().unwrap_or(0));
    let padded = |line: &[String; 5]| {
        let columns: String = line.iter().zip(widths).map(|(text, width)| format!("{text:width$}   ")).collect();
        format!("{columns}{}\n", line[4])
    };
    lines.iter().map(padded).collect()
}

/// Removes images by reference, ID or digest (the first digits of it are enough). A reference that is not an image's only one is taken from it, and the image
/// stays.
pub fn remove(config: &RemoveConfig) -> Result<ExitCode, Failure> {
    let cache = open_cache(&config.source)?;
    let mut code = ExitCode::SUCCESS;
    for text in &config.images {
        let found = find(&cache.images().map_err(failed)?, text);
        if found.is_empty() {
            return Err(Failure::could_not_run(format!("`{text}` is not in the cache"))
                .with_hint(Some("`undocked images` lists what is".to_owned())));
        }
        for found in &found {
            if !remove_one(&cache, found, (text, config.force))? {
                code = ExitCode::FUNCTION_FAILED;
            }
        }
    }
    Ok(code)
}

/// Whether it is done: what is in use stays.
fn remove_one(cache: &Cache, found: &FoundImage, (text, force): (&str, Force)) -> Result<bool, Failure> {
    let image = &found.image;
    let mut names: Vec<&String> = image.names.iter().map(|(name, _)| name).collect();
    names.dedup();
    match &found.name {
        Some(own) if names.iter().any(|name| *name != own) => {
            cache.forget_name(own).map_err(failed)?;
            print(format!("Untagged: {}\n", shown(own)).as_bytes())?;
            return Ok(true);
        }
        None if names.len() > 1 && force == Force::No => {
            let names: Vec<String> = names.into_iter().map(|name| format!("`{}`", shown(name))).collect();
            let failure = Failure::could_not_run(format!("`{text}` is the image of several references: {}", names.join(", ")));
            return Err(failure.with_hint(Some("name the one to be removed, or remove all with `--force`".to_owned())));
        }
        _ => {}
    }
    let pruned = cache.remove(&image.manifest).map_err(failed)?;
    let mut text: String = names.iter().map(|name| format!("Untagged: {}\n", shown(name))).collect();
    text += &format!("Deleted: {}\n", image.id);
    if pruned.in_use.is_empty() {
        print(text.as_bytes())?;
    }
    Ok(tell_what_stays(&pruned))
}

/// As docker shows names.
fn shown(name: &str) -> String {
    name.parse::<RegistryReference>().map_or_else(|_| name.to_owned(), |name| name.familiar())
}

/// Removes what no image needs, and images as far as that is asked for.
pub fn prune(config: &PruneConfig) -> Result<ExitCode, Failure> {
    tell(&pruned(config)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The same, for others to tell; what stays is said.
pub(super) fn pruned(config: &PruneConfig) -> Result<Pruned, Failure> {
    let cache: Cache = open_cache(&config.source)?;
    run_folder::sweep(&run_folder::parent(cache.root()));
    let mut scope = config.scope.clone();
    if config.locked == LockedImages::Keep {
        let keep = locked_images(&cache, &config.source)?;
        scope = match scope {
            PruneScope::Unreferenced => PruneScope::Unreferenced,
            PruneScope::Beyond(limits) => PruneScope::Beyond(CacheLimits { keep, ..limits }),
            PruneScope::Everything => PruneScope::Beyond(CacheLimits { unused_for: Some(Duration::ZERO), keep, ..CacheLimits::default() }),
        };
    }
    let pruned = cache.prune(scope).map_err(failed)?;
    tell_what_stays(&pruned);
    Ok(pruned)
}

/// The images of the cache that lock files name or pin.
fn locked_images(cache: &Cache, source: &ImageSource) -> Result<BTreeSet<Digest>, Failure> {
    let locked = source.options.locks.images().map_err(|error| {
        let hint = "without `--keep-locked` lock files do not matter".to_owned();
        Failure::could_not_run(error).with_hint(Some(hint))
    })?;
    let pinned: BTreeSet<Digest> = locked.iter().filter_map(|image| Some(image.pin.as_ref()?.manifest)).collect();
    let named: BTreeSet<_> = locked.iter().map(|image| (image.reference.to_string(), image.platform.to_string())).collect();
    let mut images = cache.images().map_err(failed)?;
    images.retain(|image| pinned.contains(&image.manifest) || image.names.iter().any(|name| named.contains(name)));
    Ok(images.into_iter().map(|image| image.manifest).collect())
}

/// Makes room where a limit is set and images have come, by those that were not used for longest. What is held or to be kept stays. What could not be done is
/// said, and does no harm to what the images are for.
pub(super) fn make_room(cache: &Cache, source: &ImageSource, keep: BTreeSet<Digest>, tell: &dyn Fn(&str)) {
    let Some(most) = source.cache_max else { return };
    let limits = CacheLimits { bytes: Some(most), keep, ..CacheLimits::default() };
    match cache.prune(PruneScope::Beyond(limits)) {
        Ok(pruned) => {
            for image in &pruned.images {
                tell(&format!("{image} was removed from the cache, which may take {}", HumanBytes(most)));
            }
        }
        Err(error) => tell(&format!("no room could be made in the cache: {}", failed(error))),
    }
}

/// Says what was removed.
fn tell(pruned: &Pruned) -> Result<(), Failure> {
    let mut text = Vec::new();
    for image in &pruned.images {
        let _ = writeln!(text, "Removed image {image}");
    }
    let plural = if pruned.layers.len() == 1 { "" } else { "s" };
    let _ = writeln!(text, "Removed {} layer{plural}, {}", pruned.layers.len(), HumanBytes(pruned.bytes));
    print(&text)
}

/// Says what was not removed; whether that is nothing.
fn tell_what_stays(pruned: &Pruned) -> bool {
    let mut stderr = std::io::stderr();
    for image in &pruned.in_use {
        let _ = writeln!(stderr, "undocked: {image} is in use and stays");
    }
    if pruned.pull_running {
        let _ = writeln!(stderr, "undocked: a pull is running, so all layers stay");
    }
    pruned.in_use.is_empty()
}

fn failed(error: CacheError) -> Failure {
    let hint = error.hint();
    Failure::could_not_run(error).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(seed: &[u8], names: &[&str]) -> ImageSummary {
        ImageSummary {
            manifest: Digest::of(seed),
            id: Digest::of(b"id"),
            created: None,
            names: names.iter().map(|&name| (name.to_owned(), "linux/amd64".to_owned())).collect(),
            layers: 2,
            bytes: 5 << 20,
            last_used: SystemTime::UNIX_EPOCH,
            in_use: false,
        }
    }

    #[test]
    fn tables() {
        let images = [image(b"a", &["docker.io/lambci/lambda:nodejs12.x"]), image(b"b", &[])];
        let text = table(&images, SystemTime::UNIX_EPOCH + Duration::from_secs(7200));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "REFERENCE                            DIGEST         PLATFORM      SIZE       LAST USED");
        assert_eq!(lines[1], "docker.io/lambci/lambda:nodejs12.x   ca978112ca1b   linux/amd64   5.00 MiB   2 hours ago");
        assert_eq!(lines[2], "<none>                               3e23e8160039   <none>        5.00 MiB   2 hours ago");
    }
}
