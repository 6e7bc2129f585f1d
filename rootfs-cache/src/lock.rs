//! `vendor-images.lock`: which image each runtime means, and which content it must have. The format is in `docs/formats/vendor-images-lock.md`.
//!
//! Here is the file itself, read strictly and written so that the same content always gives the same bytes. [`LockFiles`] orders several of them, [`edit`]
//! changes them. A run never writes to a project's file.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::digest::Digest;
use crate::reference::{Platform, RegistryReference, RuntimeId};

pub mod edit;
mod files;
mod trusted;

pub use files::{LockFiles, LockName, Locked};
pub use trusted::PinTrust;

/// The one version of the format.
const VERSION: u32 = 1;
/// The lock file that comes with the program.
const BUILT_IN: &str = include_str!("../../vendor-images.lock");
const HEAD: &str =
    "# Which image each Lambda runtime means, and which content it must have. The format is in docs/formats/vendor-images-lock.md.
# Written by `undocked lock`, sorted by reference and platform; comments other than these are not kept.
";

/// Why a lock file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The file could not be read.
    #[error("cannot read lock file `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file could not be written.
    #[error("cannot write lock file `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// No TOML, or a field is missing, unknown, or of the wrong kind.
    #[error("lock file `{}` is malformed", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: toml::de::Error,
    },
    /// Written by a newer program.
    #[error("lock file `{}` has version {found}, this program knows version {VERSION}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// An entry contradicts itself or another one.
    #[error("lock file `{}`, entry `{entry}`: {fault}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The entry's reference.
        entry: String,
        /// What is wrong with it.
        fault: String,
    },
}

/// A lock file in memory: its entries, sorted by reference and platform.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LockFile {
    images: Vec<LockedImage>,
}

/// One entry: an image for a platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedImage {
    /// Repository and tag.
    pub reference: RegistryReference,
    /// The platform.
    pub platform: Platform,
    /// The bare name that means this image. No other entry for the platform has it.
    pub runtime: Option<RuntimeId>,
    /// A tag that the publisher does not move, for the same content.
    pub dated_tag: Option<String>,
    /// What the image must contain, or is said to.
    pub pin: Option<Pin>,
    /// Other digests seen for the reference. They are for people, and never block.
    pub notes: Vec<Note>,
}

/// The content of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Digest of the platform manifest.
    pub manifest: Digest,
    /// Whether a registry has confirmed it.
    pub status: PinStatus,
    /// Where the digest comes from: `registry`, `dct`, `cosign`, or `public text: ...`.
    pub source: String,
    /// Why it is believed, where there is more to say than the source.
    pub trust: Option<PinTrust>,
    /// When a registry last said so, in UTC.
    pub resolved_at: Option<String>,
    /// Size of the platform manifest.
    pub manifest_size: Option<u64>,
    /// Digest of the index the manifest was found in.
    pub index: Option<Digest>,
    /// Digest of the image's config.
    pub config: Option<Digest>,
    /// The layers, bottom first.
    pub layers: Vec<LockedLayer>,
}

/// Whether a pin holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PinStatus {
    /// Taken from somewhere; a different content is worth a warning.
    Unverified,
    /// Given by the registry itself; a different content is refused.
    Verified,
}

/// One layer of a pinned image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedLayer {
    /// Digest of the compressed blob.
    pub digest: Digest,
    /// Its size.
    pub size: u64,
    /// Digest of the tar within.
    pub diff_id: Digest,
    /// Media type of the blob.
    pub media_type: String,
}

/// A digest seen somewhere for the entry's reference.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// The digest.
    pub digest: Digest,
    /// What it is the digest of.
    pub kind: NoteKind,
    /// When it was seen, as exactly as is known.
    pub when: Option<String>,
    /// The tag it was seen under, where that is another than the entry's.
    pub tag: Option<String>,
    /// Where it was seen.
    pub source: String,
}

/// What a noted digest is the digest of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoteKind {
    /// A platform manifest.
    Manifest,
    /// An index of several platforms.
    Index,
    /// One of the two; the source does not say.
    Unknown,
}

/// For a file of another version, whose fields we do not know.
#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    version: u32,
    #[serde(default)]
    image: Vec<RawImage>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawImage {
    reference: String,
    platform: String,
    runtime: Option<String>,
    dated_tag: Option<String>,
    status: Option<PinStatus>,
    manifest_digest: Option<Digest>,
    manifest_size: Option<u64>,
    config_digest: Option<Digest>,
    index_digest: Option<Digest>,
    resolved_at: Option<String>,
    source: Option<String>,
    trust: Option<PinTrust>,
    #[serde(default)]
    layers: Vec<LockedLayer>,
    #[serde(default)]
    note: Vec<Note>,
}

impl LockFile {
    /// The lock file that comes with the program.
    pub fn built_in() -> Self {
        Self::of_built_in(BUILT_IN)
    }

    /// The built-in entries that hold this text. Parsing all of them would take most of what a run of a cached image may take here.
    fn built_in_with(needle: &str) -> Self {
        const ENTRY: &str = "\n[[image]]\n";
        let (head, entries) = BUILT_IN.split_once(ENTRY).unwrap_or((BUILT_IN, ""));
        let entries = entries.split(ENTRY).filter(|entry| entry.contains(needle));
        Self::of_built_in(&entries.fold(head.to_owned(), |text, entry| text + ENTRY + entry))
    }

    fn of_built_in(text: &str) -> Self {
        Self::from_text(Path::new("built in"), text).expect("a unit test reads the built-in lock file")
    }

    /// Reads a file, or gives `None` where there is none.
    pub fn read(path: &Path) -> Result<Option<Self>, LockError> {
        read_text(path)?.map(|text| Self::from_text(path, &text)).transpose()
    }

    /// Reads a lock file's text; `path` is for messages.
    pub fn from_text(path: &Path, text: &str) -> Result<Self, LockError> {
        let raw = match toml::from_str(text) {
            Ok(RawFile { version: VERSION, image }) => image,
            Ok(RawFile { version: found, .. }) => {
                return Err(LockError::Version { path: path.to_owned(), found });
            }
            Err(source) => match toml::from_str(text) {
                Ok(VersionOnly { version: found }) if found != VERSION => {
                    return Err(LockError::Version { path: path.to_owned(), found });
                }
                _ => {
                    return Err(LockError::Malformed { path: path.to_owned(), source });
                }
            },
        };
        let mut file = Self::default();
        let (mut references, mut runtimes) = (HashSet::new(), HashSet::new());
        for raw in raw {
            let entry = raw.reference.clone();
            let fault = |fault| LockError::Entry { path: path.to_owned(), entry: entry.clone(), fault };
            let image = raw.check().map_err(fault)?;
            if !references.insert((image.reference.clone(), image.platform.clone())) {
                return Err(fault(format!("stands there twice for {}", image.platform)));
            }
            if let Some(runtime) = image.runtime.clone().filter(|runtime| !runtimes.insert((runtime.clone(), image.platform.clone()))) {
                return Err(fault(format!("another entry for {} has runtime `{runtime}` too", image.platform)));
            }
            file.images.push(image);
        }
        file.sort();
        Ok(file)
    }

    /// The entries.
    pub fn images(&self) -> &[LockedImage] {
        &self.images
    }

    /// The entry for a name and platform.
    pub fn find(&self, name: &LockName<'_>, platform: &Platform) -> Option<&LockedImage> {
        self.images.iter().find(|image| image.has_name(name) && image.platform == *platform)
    }

    /// Puts an entry in the place of the one for the same reference and platform, and takes the runtime name from any other.
    pub fn put(&mut self, image: LockedImage) {
        self.images.retain(|other| other.reference != image.reference || other.platform != image.platform);
        for other in &mut self.images {
            if other.platform == image.platform && other.runtime == image.runtime {
                other.runtime = None;
            }
        }
        self.images.push(image);
        self.sort();
    }

    fn sort(&mut self) {
        self.images.sort_by(|a, b| (&a.reference, &a.platform).cmp(&(&b.reference, &b.platform)));
    }

    /// The file's text: the same entries always give the same bytes.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEAD}version = {VERSION}\n");
        for image in &self.images {
            image.write(&mut text);
        }
        text
    }
}

impl RawImage {
    fn check(self) -> Result<LockedImage, String> {
        let reference: RegistryReference = self.reference.parse().map_err(|fault| format!("{fault}"))?;
        if reference.digest().is_some() {
            return Err("the reference must have a tag, and its digest belongs into `manifest_digest`".to_owned());
        }
        let platform = self.platform.parse().map_err(|fault| format!("{fault}"))?;
        let runtime = self.runtime.map(|runtime| runtime.parse()).transpose().map_err(|fault| format!("{fault}"))?;
        let pin = match (self.manifest_digest, self.status, self.source) {
            (Some(manifest), Some(status), Some(source)) => Some(Pin {
                manifest,
                status,
                source,
                trust: self.trust,
                resolved_at: self.resolved_at,
                manifest_size: self.manifest_size,
                index: self.index_digest,
                config: self.config_digest,
                layers: self.layers,
            }),
            (None, None, None)
                if self.index_digest.is_none() && self.config_digest.is_none() && self.layers.is_empty() && self.trust.is_none() =>
            {
                None
            }
            _ => {
                return Err(
                    "`manifest_digest`, `status` and `source` must stand there together, and the other digests only beside them".to_owned()
                );
            }
        };
        Ok(LockedImage { reference, platform, runtime, dated_tag: self.dated_tag, pin, notes: self.note })
    }
}

impl LockedImage {
    /// Whether a name means this image, on its platform.
    pub fn has_name(&self, name: &LockName<'_>) -> bool {
        match name {
            LockName::Runtime(runtime) => self.runtime.as_ref() == Some(*runtime),
            LockName::Reference(reference) => self.reference == **reference,
        }
    }

    fn write(&self, text: &mut String) {
        text.push_str("\n[[image]]\n");
        put(text, "reference", &self.reference.to_string());
        put(text, "platform", &self.platform.to_string());
        put_some(text, "runtime", self.runtime.as_ref().map(RuntimeId::as_str));
        put_some(text, "dated_tag", self.dated_tag.as_deref());
        if let Some(pin) = &self.pin {
            pin.write(text);
        }
        for note in &self.notes {
            note.write(text);
        }
    }
}

impl Pin {
    fn write(&self, text: &mut String) {
        let status = match self.status {
            PinStatus::Unverified => "unverified",
            PinStatus::Verified => "verified",
        };
        put(text, "status", status);
        put(text, "manifest_digest", &self.manifest.to_string());
        if let Some(size) = self.manifest_size {
            let _ = writeln!(text, "manifest_size = {size}");
        }
        put_some(text, "config_digest", self.config.map(|digest| digest.to_string()).as_deref());
        put_some(text, "index_digest", self.index.map(|digest| digest.to_string()).as_deref());
        put_some(text, "resolved_at", self.resolved_at.as_deref());
        put(text, "source", &self.source);
        if let Some(trust) = &self.trust {
            trust.write(text);
        }
        if !self.layers.is_empty() {
            text.push_str("layers = [\n");
            for LockedLayer { digest, size, diff_id, media_type } in &self.layers {
                let media_type = quoted(media_type);
                let _ = writeln!(text, "  {{ digest = \"{digest}\", size = {size}, diff_id = \"{diff_id}\", media_type = {media_type} }},");
            }
            text.push_str("]\n");
        }
    }
}

impl Note {
    fn write(&self, text: &mut String) {
        let kind = match self.kind {
            NoteKind::Manifest => "manifest",
            NoteKind::Index => "index",
            NoteKind::Unknown => "unknown",
        };
        text.push_str("\n[[image.note]]\n");
        put(text, "digest", &self.digest.to_string());
        put(text, "kind", kind);
        put_some(text, "when", self.when.as_deref());
        put_some(text, "tag", self.tag.as_deref());
        put(text, "source", &self.source);
    }
}

fn put(text: &mut String, key: &str, value: &str) {
    let _ = writeln!(text, "{key} = {}", quoted(value));
}

fn put_some(text: &mut String, key: &str, value: Option<&str>) {
    if let Some(value) = value {
        put(text, key, value);
    }
}

/// A TOML basic string. Control characters become `\u` escapes, so that one value stays on one line.
fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text + "\""
}

fn read_text(path: &Path) -> Result<Option<String>, LockError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(LockError::Read { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests;
