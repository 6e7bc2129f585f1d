//! `undocked images --verify`: whether what is in the cache is still what was put there.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;

use indicatif::HumanBytes;
use rootfs_cache::digest::Digest;
use rootfs_cache::local::find;
use rootfs_cache::store::{Cache, ImageSummary, Verified};

use super::{failed, open_cache, print, shown};
use crate::config::VerifyConfig;
use crate::exit_code::{ExitCode, Failure};

/// Verifies images and tells each one's state as soon as it is known. The exit code is 1 if one is damaged.
pub fn run(config: &VerifyConfig) -> Result<ExitCode, Failure> {
    let cache = open_cache(&config.source)?;
    let images = chosen(&cache, &config.images)?;
    let (mut printed, mut damaged) = (Ok(()), BTreeSet::new());
    let mut each = |verified: Verified| {
        if !verified.damages.is_empty() {
            damaged.insert(verified.manifest);
            damaged.extend(cache.images_with(&verified.damaged_layers).unwrap_or_default());
        }
        if printed.is_ok() {
            let summary = images.iter().find(|image| image.manifest == verified.manifest);
            printed = print(report(&verified, summary).as_bytes());
        }
    };
    cache.verify(&images.iter().map(|image| image.manifest).collect::<Vec<_>>(), &mut each).map_err(failed)?;
    printed?;
    if damaged.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let all: Vec<String> = damaged.iter().map(Digest::to_string).collect();
    // Damage of a layer goes only with all images that have it.
    let _ = writeln!(std::io::stderr(), "hint: `undocked rm -f {}`, and pull again what is needed", all.join(" "));
    Ok(ExitCode::FUNCTION_FAILED)
}

/// The images that are named; all when none is.
fn chosen(cache: &Cache, texts: &[String]) -> Result<Vec<ImageSummary>, Failure> {
    let images = cache.images().map_err(failed)?;
    if texts.is_empty() {
        return Ok(images);
    }
    let mut chosen: Vec<ImageSummary> = Vec::new();
    for text in texts {
        let found = find(&images, text);
        if found.is_empty() {
            return Err(Failure::could_not_run(format!("`{text}` is not in the cache"))
                .with_hint(Some("`undocked images` lists what is".to_owned())));
        }
        let new: Vec<_> = found.into_iter().map(|found| found.image).filter(|image| !chosen.contains(image)).collect();
        chosen.extend(new);
    }
    Ok(chosen)
}

/// A line for the image, and one for everything that is to be said of it.
fn report(verified: &Verified, summary: Option<&ImageSummary>) -> String {
    let name = summary.and_then(|image| image.names.first()).map(|(name, _)| format!(" {}", shown(name))).unwrap_or_default();
    let bytes = summary.map_or(0, |image| image.bytes);
    let state = if verified.damages.is_empty() { "ok" } else { "damaged" };
    let mut text = format!("{}{name}: {state}, {}\n", verified.manifest, HumanBytes(bytes));
    for damage in &verified.damages {
        let _ = writeln!(text, "  {} {}", damage.path.display().to_string().escape_debug(), damage.flaw);
    }
    for layer in &verified.unverifiable {
        let _ = writeln!(text, "  layer {layer} was stored without checksums: what is in its files cannot be verified");
    }
    text
}

#[cfg(test)]
mod tests {
    use rootfs_cache::store::{Damage, Flaw};

    use super::*;

    #[test]
    fn reports() {
        let mut verified =
            Verified { manifest: Digest::of(b"a"), damages: Vec::new(), damaged_layers: Vec::new(), unverifiable: vec![Digest::of(b"l")] };
        let text = report(&verified, None);
        assert!(text.starts_with(&format!("{}: ok, 0 B\n  layer sha256:", Digest::of(b"a"))), "{text}");
        verified.damages.push(Damage { path: "images/x/rootfs/a\nb".into(), flaw: Flaw::Mode { found: 0o4777, wanted: 0o644 } });
        let text = report(&verified, None);
        assert!(text.contains(": damaged, ") && text.contains("\n  images/x/rootfs/a\\nb has the mode 4777 in place of 644\n"), "{text}");
    }
}
