//! Checks what is stored against the digests and checksums that were known when it was written. Changes nothing that stays changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use sha2::{Digest as _, Sha256};

use super::blobs::blob_name;
use super::images::{LayerRecord, image_name};
use super::layers::{StoredLayer, layer_name};
use super::locks::{FileLock, Hold};
use super::{Cache, CacheError, read_file, staging};
use crate::digest::Digest;
use crate::manifest::Manifest;
use crate::rootfs::{self, ImageConfig};
use crate::unpack::checks::{Check, Checks};
use crate::unpack::index::{Attributes, Kind, LayerIndex};

/// One at a time: where a mode forbids to read, it is changed for a moment.
const VERIFYING: &str = "verifying";
/// As for stored files: no setuid, no setgid.
const MODE_KEPT: u32 = 0o1777;
const READ_BYTES: usize = 256 << 10;
/// Times that every file system can hold.
const EXACT_TIMES: std::ops::Range<i64> = 0..1 << 31;

/// Something in the cache that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Where, below the cache's `v1`.
    pub path: PathBuf,
    /// What is wrong there.
    pub flaw: Flaw,
}

/// What is wrong with something in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// It is not there.
    Missing,
    /// It is there, and should not be.
    Unexpected,
    /// A file where there should be a directory, and the like.
    Kind,
    /// Other bytes than were written.
    Content,
    /// Another mode.
    Mode {
        /// The mode that it has.
        found: u32,
        /// The mode that it should have.
        wanted: u32,
    },
    /// Another modification time.
    Time,
    /// A symlink that leads elsewhere.
    Target,
    /// A file of the tree that is no link to the layer's.
    NotTheLayers,
    /// It cannot be read.
    Unreadable(io::ErrorKind),
}

impl Display for Flaw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(formatter, "is missing"),
            Self::Unexpected => write!(formatter, "should not be there"),
            Self::Kind => write!(formatter, "is of another kind"),
            Self::Content => write!(formatter, "has other content"),
            Self::Mode { found, wanted } => write!(formatter, "has the mode {found:o} in place of {wanted:o}"),
            Self::Time => write!(formatter, "has another modification time"),
            Self::Target => write!(formatter, "leads elsewhere"),
            Self::NotTheLayers => write!(formatter, "is not the layer's file"),
            Self::Unreadable(kind) => write!(formatter, "cannot be read: {kind}"),
        }
    }
}

/// What was found out about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Digest of the platform manifest.
    pub manifest: Digest,
    /// All that is wrong with it. Damage of a layer is told with every image that has the layer.
    pub damages: Vec<Damage>,
    /// Layers with damage: all images that have one of them are damaged.
    pub damaged_layers: Vec<Digest>,
    /// Layers of a version that kept no checksums: what is in their files cannot be verified.
    pub unverifiable: Vec<Digest>,
}

/// What was found out about a layer.
struct LayerReport {
    damages: Vec<Damage>,
    /// The layer, if its index can be relied on.
    layer: Option<StoredLayer>,
    has_checks: bool,
}

impl Cache {
    /// Reads all of these images and tells what was found of each. One that is not, or no longer, there is left out. Waits while another process verifies.
    pub fn verify(&self, images: &[Digest], each: &mut dyn FnMut(Verified)) -> Result<(), CacheError> {
        let locks = self.directory("locks")?;
        let _alone = FileLock::wait(locks.as_fd(), VERIFYING, Hold::Exclusive, &mut || ()).map_err(self.io("lock", "locks"))?;
        let mut layers = BTreeMap::new();
        for image in images {
            let name = image_name(image);
            let Some(directory) = self.hold_image(&name).map_err(self.io("open", &name))? else { continue };
            each(self.verify_image(image, &directory, &mut layers));
        }
        Ok(())
    }

    /// All images that have one of these layers.
    pub fn images_with(&self, layers: &[Digest]) -> Result<Vec<Digest>, CacheError> {
        let mut images = super::stored_digests(self.directory("images")?.as_fd()).map_err(self.io("read", "images"))?;
        images.retain(|image| {
            let own = self.layers_of(image).ok().flatten().unwrap_or_default();
            own.iter().any(|layer| layers.contains(&layer.digest))
        });
        Ok(images)
    }

    fn verify_image(&self, image: &Digest, directory: &OwnedFd, known: &mut BTreeMap<Digest, LayerReport>) -> Verified {
        let mut verified = Verified { manifest: *image, damages: Vec::new(), damaged_layers: Vec::new(), unverifiable: Vec::new() };
        let place = PathBuf::from(image_name(image));
        let mut found = |name: &str, flaw| verified.damages.push(Damage { path: place.join(name), flaw });
        let records = match self.layers_of(image) {
            Ok(Some(records)) => records,
            Ok(None) => {
                found("layers.json", Flaw::Missing);
                return verified;
            }
            Err(_) => {
                found("layers.json", Flaw::Content);
                return verified;
            }
        };
        let config = documents(image, directory, &records, &mut found);
        let mut layers = Vec::new();
        for digest in records.iter().map(|record| record.digest) {
            let is_new = !records[..layers.len().min(records.len())].iter().any(|earlier| earlier.digest == digest);
            let report = known.entry(digest).or_insert_with(|| self.verify_layer(&digest));
            layers.push(report.layer.clone());
            if !is_new {
                continue;
            }
            if !report.damages.is_empty() {
                verified.damages.extend(report.damages.iter().cloned());
                verified.damaged_layers.push(digest);
            }
            if !report.has_checks && report.layer.is_some() {
                verified.unverifiable.push(digest);
            }
        }
        if let (Some(config), Some(layers)) = (config, layers.into_iter().collect::<Option<Vec<_>>>()) {
            verified.damages.extend(tree(&config, &layers, directory, &place.join("rootfs")));
        }
        verified
    }

    fn verify_layer(&self, digest: &Digest) -> LayerReport {
        let place = PathBuf::from(layer_name(digest));
        let mut report = LayerReport { damages: Vec::new(), layer: None, has_checks: false };
        match self.layer(digest) {
            Ok(Some(layer)) => {
                report.layer = layer_contents(&layer, &place, &mut report).then_some(layer);
            }
            Ok(None) => {
                let (path, flaw) = match self.path(&place).exists() {
                    true => (place.join("meta.json"), Flaw::Content),
                    false => (place, Flaw::Missing),
                };
                report.damages.push(Damage { path, flaw });
            }
            Err(error) => {
                let kind = if let CacheError::Io { source, .. } = &error { source.kind() } else { io::ErrorKind::Other };
                report.damages.push(Damage { path: place, flaw: Flaw::Unreadable(kind) });
            }
        }
        self.verify_blob(digest, &mut report.damages);
        report
    }

    fn verify_blob(&self, digest: &Digest, damages: &mut Vec<Damage>) {
        let read = || {
            let Some(mut blob) = self.blob(digest).map_err(|_| io::ErrorKind::Other)? else { return Ok(None) };
            let mut hash = Sha256::new();
            read_through(&mut blob, |bytes| hash.update(bytes)).map_err(|error| error.kind())?;
            Ok(Some(Digest::from_bytes(hash.finalize().into())))
        };
        let flaw = match read() {
            Ok(found) if found.is_none_or(|found| found == *digest) => return,
            Ok(_) => Flaw::Content,
            Err(kind) => Flaw::Unreadable(kind),
        };
        damages.push(Damage { path: blob_name(digest).into(), flaw });
    }
}

/// Checks the manifest, what it says of the config and the layers, and what the config says of the layers. The config, if it is right.
fn documents(image: &Digest, directory: &OwnedFd, records: &[LayerRecord], found: &mut dyn FnMut(&str, Flaw)) -> Option<ImageConfig> {
    let mut read = |name: &str| match read_file(directory.as_fd(), name) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            found(name, flaw_of(&error));
            None
        }
    };
    let (manifest, config) = (read("manifest.json"), read("config.json"));
    let manifest = manifest?;
    let Some(manifest) = (Digest::of(&manifest) == *image).then(|| serde_json::from_slice::<Manifest>(&manifest).ok()).flatten() else {
        found("manifest.json", Flaw::Content);
        return None;
    };
    if !manifest.layers.iter().map(|layer| &layer.digest).eq(records.iter().map(|record| &record.digest)) {
        found("layers.json", Flaw::Content);
        return None;
    }
    let config = config?;
    if Digest::of(&config) != manifest.config.digest {
        found("config.json", Flaw::Content);
        return None;
    }
    let config = ImageConfig::from_json(&config).ok()?;
    if !config.diff_ids.iter().eq(records.iter().map(|record| &record.diff_id)) {
        found("layers.json", Flaw::Content);
    }
    Some(config)
}

fn tree(config: &ImageConfig, layers: &[StoredLayer], image: &OwnedFd, place: &Path) -> Vec<Damage> {
    let compared = staging::open_directory(image.as_fd(), "rootfs")
        .map_err(|error| flaw_of(&error))
        .and_then(|root| rootfs::compare(config, layers, root).map_err(|_| Flaw::Content));
    match compared {
        Ok(damages) => damages.into_iter().map(|damage| Damage { path: place.join(damage.path), ..damage }).collect(),
        Err(flaw) => vec![Damage { path: place.to_owned(), flaw }],
    }
}

/// Checks a layer's index and files; whether the index can be relied on.
fn layer_contents(layer: &StoredLayer, place: &Path, report: &mut LayerReport) -> bool {
    let mut found = |name: &str, flaw| report.damages.push(Damage { path: place.join(name), flaw });
    let checks = layer.checks().unwrap_or_else(|error| {
        found("checks", flaw_of(&error));
        None
    });
    report.has_checks = checks.is_some();
    let index = match layer.index_bytes() {
        Ok(bytes) => {
            let mut check = Check::default();
            check.update(&bytes);
            let is_right = checks.as_ref().is_none_or(|checks| checks.index == check);
            is_right.then(|| LayerIndex::read(&bytes)).flatten().ok_or(Flaw::Content)
        }
        Err(error) => Err(flaw_of(&error)),
    };
    let (index, files) = match (index, layer.files()) {
        (Ok(index), Ok(files)) => (index, files),
        (index, files) => {
            let _ = index.map_err(|flaw| found("index", flaw));
            let _ = files.map_err(|error| found("files", flaw_of(&error)));
            return false;
        }
    };
    let expected: BTreeMap<u64, Attributes> = index
        .nodes
        .values()
        .filter_map(|node| if let Kind::File(number) = node.kind { Some((number, node.attributes)) } else { None })
        .collect();
    for (number, attributes) in &expected {
        for flaw in file_flaws(files.as_fd(), *number, attributes, checks.as_ref()) {
            found(&format!("files/{number}"), flaw);
        }
    }
    match unexpected(&files, &expected.keys().map(u64::to_string).collect()) {
        Ok(names) => names.iter().for_each(|name| found(&format!("files/{name}"), Flaw::Unexpected)),
        Err(error) => found("files", flaw_of(&error)),
    }
    true
}

fn unexpected(files: &OwnedFd, expected: &BTreeSet<String>) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(files)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." && !expected.contains(&name) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn file_flaws(files: BorrowedFd<'_>, number: u64, attributes: &Attributes, checks: Option<&Checks>) -> Vec<Flaw> {
    let name = number.to_string();
    let stat = match rustix::fs::statat(files, &name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => stat,
        Ok(_) => return vec![Flaw::Kind],
        Err(error) => return vec![flaw_of(&error.into())],
    };
    let mut flaws = Vec::new();
    let (found, wanted) = (stat.st_mode & 0o7777, attributes.mode & MODE_KEPT);
    if found != wanted {
        flaws.push(Flaw::Mode { found, wanted });
    }
    if EXACT_TIMES.contains(&attributes.mtime.seconds) && stat.st_mtime != attributes.mtime.seconds {
        flaws.push(Flaw::Time);
    }
    let Some(checks) = checks else { return flaws };
    let wanted = checks.file(number);
    if wanted.map(|check| check.bytes) != u64::try_from(stat.st_size).ok() {
        flaws.push(Flaw::Content);
        return flaws;
    }
    match content_of(files, &name, &stat) {
        Ok(check) if Some(check) == wanted => {}
        Ok(_) => flaws.push(Flaw::Content),
        Err(error) => flaws.push(flaw_of(&error)),
    }
    flaws
}

fn content_of(files: BorrowedFd<'_>, name: &str, stat: &Stat) -> io::Result<Check> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(files, name, flags, Mode::empty());
    let opened = match open() {
        // Images have files that nobody may read, such as `/etc/shadow`.
        Err(rustix::io::Errno::ACCESS) => {
            let mode = Mode::from_raw_mode(stat.st_mode);
            rustix::fs::chmodat(files, name, mode | Mode::RUSR, AtFlags::empty())?;
            let opened = open();
            rustix::fs::chmodat(files, name, mode, AtFlags::empty())?;
            opened?
        }
        opened => opened?,
    };
    let mut check = Check::default();
    read_through(&mut File::from(opened), |bytes| check.update(bytes))?;
    Ok(check)
}

fn read_through(file: &mut File, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => take(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn flaw_of(error: &io::Error) -> Flaw {
    match error.kind() {
        io::ErrorKind::NotFound => Flaw::Missing,
        io::ErrorKind::InvalidData => Flaw::Content,
        kind => Flaw::Unreadable(kind),
    }
}

#[cfg(test)]
mod tests;
