//! `undocked images`, `rm` and `prune`: what is in the cache, and what need not be.

use std::io::Write as _;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use indicatif::{HumanBytes, HumanDuration};
use rootfs_cache::digest::Digest;
use rootfs_cache::reference::ImageReference;
use rootfs_cache::store::{Cache, CacheError, ImageSummary, PruneScope, Pruned};
use serde::Serialize;

use super::{open_cache, print};
use crate::config::{ImageSource, Listing};
use crate::exit_code::{ExitCode, Failure};
use crate::sandbox::run_folder;

/// One image with one of its names.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    reference: Option<String>,
    digest: String,
    platform: Option<String>,
    size_bytes: u64,
    last_used: String,
    in_use: bool,
}

/// Lists the images of the cache.
pub fn list(source: &ImageSource, listing: Listing) -> Result<ExitCode, Failure> {
    let images = open_cache(source)?.images().map_err(failed)?;
    let text = match listing {
        Listing::Table => table(&images, SystemTime::now()),
        Listing::Digests => images.iter().map(|image| format!("{}\n", image.manifest)).collect(),
        Listing::Json => {
            let rows: Vec<Row> = images.iter().flat_map(rows).collect();
            serde_json::to_string(&rows).map_err(Failure::could_not_run)? + "\n"
        }
    };
    print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn rows(image: &ImageSummary) -> Vec<Row> {
    let last_used = DateTime::<Utc>::from(image.last_used).to_rfc3339_opts(SecondsFormat::Secs, true);
    let row = |reference: Option<String>, platform: Option<String>| Row {
        reference,
        digest: image.manifest.to_string(),
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
        for row in rows(image) {
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

/// Removes images by reference or digest (the first digits of it are enough). A reference that is not an image's only one is taken from it, and the image
/// stays.
pub fn remove(wanted: &[String], source: &ImageSource) -> Result<ExitCode, Failure> {
    let cache = open_cache(source)?;
    let mut code = ExitCode::SUCCESS;
    for text in wanted {
        let images = cache.images().map_err(failed)?;
        if let Some(name) = one_of_several(&images, text) {
            cache.forget_name(&name).map_err(failed)?;
            print(format!("Removed reference {name}\n").as_bytes())?;
            continue;
        }
        let matching = matching(&images, text);
        if matching.is_empty() {
            return Err(Failure::could_not_run(format!("`{text}` is not in the cache"))
                .with_hint(Some("`undocked images` lists what is".to_owned())));
        }
        for digest in matching {
            if !tell(&cache.remove(&digest).map_err(failed)?)? {
                code = ExitCode::FUNCTION_FAILED;
            }
        }
    }
    Ok(code)
}

fn in_full(text: &str) -> String {
    text.parse::<ImageReference>().map_or_else(|_| text.to_owned(), |reference| reference.to_string())
}

/// The reference that `text` names, where its image has others.
fn one_of_several(images: &[ImageSummary], text: &str) -> Option<String> {
    let full = in_full(text);
    let image = images.iter().find(|image| image.names.iter().any(|(name, _)| *name == full))?;
    image.names.iter().any(|(name, _)| *name != full).then_some(full)
}

fn matching(images: &[ImageSummary], text: &str) -> Vec<Digest> {
    let full = in_full(text);
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let is_hex = hex.len() >= 6 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    let named = |image: &&ImageSummary| image.names.iter().any(|(name, _)| *name == full || name == text);
    let by_name: Vec<Digest> = images.iter().filter(named).map(|image| image.manifest).collect();
    if !by_name.is_empty() || !is_hex {
        return by_name;
    }
    images.iter().filter(|image| image.manifest.hex().starts_with(hex)).map(|image| image.manifest).collect()
}

/// Removes what no image needs, or every image, too.
pub fn prune(source: &ImageSource, scope: PruneScope) -> Result<ExitCode, Failure> {
    let cache: Cache = open_cache(source)?;
    run_folder::sweep(&run_folder::parent(cache.root()));
    tell(&cache.prune(scope).map_err(failed)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Says what was removed; whether that is all.
fn tell(pruned: &Pruned) -> Result<bool, Failure> {
    let mut text = Vec::new();
    for image in &pruned.images {
        let _ = writeln!(text, "Removed image {image}");
    }
    let plural = if pruned.layers.len() == 1 { "" } else { "s" };
    let _ = writeln!(text, "Removed {} layer{plural}, {}", pruned.layers.len(), HumanBytes(pruned.bytes));
    if !pruned.blobs.is_empty() {
        let plural = if pruned.blobs.len() == 1 { "" } else { "s" };
        let _ = writeln!(text, "Removed {} kept blob{plural}, {}", pruned.blobs.len(), HumanBytes(pruned.blob_bytes));
    }
    print(&text)?;
    let mut stderr = std::io::stderr();
    for image in &pruned.in_use {
        let _ = writeln!(stderr, "undocked: {image} is in use and stays");
    }
    if pruned.pull_running {
        let _ = writeln!(stderr, "undocked: a pull is running, so all layers stay");
    }
    Ok(pruned.in_use.is_empty())
}

fn failed(error: CacheError) -> Failure {
    let hint = error.hint();
    Failure::could_not_run(error).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn image(seed: &[u8], names: &[&str]) -> ImageSummary {
        ImageSummary {
            manifest: Digest::of(seed),
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

    #[test]
    fn one_reference_of_several_is_not_the_image() {
        let images = [image(b"a", &["docker.io/library/a:latest", "oci:/x:a"]), image(b"b", &["oci:/x:b"])];
        assert_eq!(one_of_several(&images, "a").as_deref(), Some("docker.io/library/a:latest"));
        assert_eq!(one_of_several(&images, "oci:/x:b"), None);
        assert_eq!(one_of_several(&images, "ca978112ca1b"), None);
    }

    #[test]
    fn images_are_found_by_any_name() {
        let images = [image(b"a", &["docker.io/library/a:latest"]), image(b"b", &["oci:/x:b"])];
        for (text, found) in [
            ("a", &images[..1]),
            ("docker.io/library/a:latest", &images[..1]),
            ("oci:/x:b", &images[1..]),
            ("3e23e8160039", &images[1..]),
            ("3e2", &[]),
            ("c", &[]),
        ] {
            assert_eq!(matching(&images, text), found.iter().map(|image| image.manifest).collect::<Vec<_>>(), "{text}");
        }
        assert_eq!(matching(&images, &images[0].manifest.to_string()), [images[0].manifest]);
    }
}
