//! Changes to lock files, and what registries say of them: `undocked lock add|update|verify|diff`.
//!
//! A file is replaced whole, under a file lock on its directory, so that two writers lose nothing and a reader sees one state or the other.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat};

use super::{
    LockError, LockFile, LockFiles, LockName, Locked, LockedImage, LockedLayer, Note, NoteKind, Pin, PinStatus, PinTrust, read_text,
};
use crate::digest::Digest;
use crate::reference::{ImageReference, Platform, RegistryReference};
use crate::source::{Notes, RegistryAccess, RemoteImage, Source, SourceError};

/// Why a lock file was not edited.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The lock file itself.
    #[error("cannot edit the lock file")]
    Lock(#[source] LockError),
    /// The registry gave no answer that can be locked.
    #[error("cannot lock `{reference}`")]
    Source {
        /// The image.
        reference: String,
        /// Why.
        source: SourceError,
    },
    /// Only tags in registries have entries.
    #[error("`{0}` cannot be locked: a runtime name or a registry reference with a tag and without a digest is wanted")]
    NotLockable(String),
    /// No lock file has the name.
    #[error("no entry for `{0}`")]
    NoEntry(String),
}

impl EditError {
    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Source { source, .. } => source.hint(),
            Self::NoEntry(_) => Some("give the reference in full to `undocked lock add`".to_owned()),
            Self::Lock(LockError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Some("`undocked lock add NAME` begins one; `--lock FILE` names another".to_owned())
            }
            Self::NotLockable(_) | Self::Lock(_) => None,
        }
    }
}

/// A lock file, and how its registries are reached.
#[derive(Clone, Copy)]
pub struct LockEditor<'a> {
    /// The file to read and to change.
    pub file: &'a Path,
    /// Where runtime names are looked up when entries are added.
    pub locks: &'a LockFiles,
    /// How registries are reached.
    pub access: &'a RegistryAccess,
    /// Who hears what the user should read.
    pub notes: &'a (dyn Fn(&str) + Send + Sync),
}

/// What is signed of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedPin {
    /// By whom.
    pub trust: PinTrust,
    /// The manifest or index.
    pub digest: Digest,
    /// Its size, where that is signed, too.
    pub size: Option<u64>,
}

/// Whether the registry is asked for what is pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registry {
    /// It must have it, and says what is in it.
    Asked,
    /// What is signed is enough.
    NotAsked,
}

/// What became of one entry, or what is to be said of it.
#[derive(Debug)]
pub struct Checked {
    /// The image.
    pub reference: RegistryReference,
    /// Its platform.
    pub platform: Platform,
    /// The platform manifest that the lock file had before.
    pub locked: Option<Digest>,
    /// What was found.
    pub verdict: Verdict,
}

/// What a registry says of an entry.
#[derive(Debug)]
pub enum Verdict {
    /// There was no pin, and `found` is what there is. `add` and `update` have pinned it.
    New {
        /// The platform manifest.
        found: Digest,
    },
    /// The pin is what the tag means now.
    Same,
    /// The tag means something else now. `update` and `add` have pinned it.
    Moved {
        /// The platform manifest.
        found: Digest,
    },
    /// The registry has the pinned manifest: `verify` has marked it so.
    Verified,
    /// The registry does not have the pinned manifest, or it is no image for the platform. `verify` has turned an unverified pin into a note.
    Rejected(SourceError),
    /// There is no pin to verify.
    Unpinned,
    /// The registry gave no answer.
    Failed(SourceError),
}

impl LockEditor<'_> {
    /// Pins what an image's tag means now, making the entry if there is none.
    pub async fn add(&self, image: &ImageReference, platform: &Platform) -> Result<Checked, EditError> {
        let entry = self.entry_to_add(image, platform)?;
        let remote = self.current(&entry).await.map_err(|source| EditError::Source { reference: entry.reference.to_string(), source })?;
        let checked = checked(&entry, compare(&entry, remote.digest));
        self.store(vec![LockedImage { pin: Some(anew(&entry, &remote)), ..entry }])?;
        Ok(checked)
    }

    /// Pins what is signed of an image. With [`Registry::NotAsked`] the digest is taken for a platform manifest's.
    pub async fn add_signed(
        &self,
        image: &ImageReference,
        platform: &Platform,
        signed: SignedPin,
        registry: Registry,
    ) -> Result<Checked, EditError> {
        let entry = self.entry_to_add(image, platform)?;
        let of_source = |source| EditError::Source { reference: entry.reference.to_string(), source };
        let SignedPin { trust, digest, size } = signed;
        let source = match trust {
            PinTrust::Cosign { .. } => "cosign".to_owned(),
            _ => "dct".to_owned(),
        };
        let pin = match registry {
            Registry::Asked => {
                let source = self.source(&entry, self.notes).map_err(of_source)?;
                pin_of(&source.image_of_size(digest, size, platform).await.map_err(of_source)?)
            }
            Registry::NotAsked => Pin {
                manifest: digest,
                status: PinStatus::Verified,
                source: String::new(),
                trust: None,
                resolved_at: now(),
                manifest_size: size,
                index: None,
                config: None,
                layers: Vec::new(),
            },
        };
        let checked = checked(&entry, compare(&entry, pin.manifest));
        self.store(vec![LockedImage { pin: Some(Pin { source, trust: Some(trust), ..pin }), ..entry }])?;
        Ok(checked)
    }

    /// Pins what the tags of some entries mean now, or of all.
    pub async fn update(&self, only: &[ImageReference]) -> Result<Vec<Checked>, EditError> {
        let (mut all, mut changed) = (Vec::new(), Vec::new());
        for entry in self.entries(only)? {
            match self.current(&entry).await {
                Ok(remote) => {
                    all.push(checked(&entry, compare(&entry, remote.digest)));
                    changed.push(LockedImage { pin: Some(anew(&entry, &remote)), ..entry });
                }
                Err(source) => all.push(checked(&entry, Verdict::Failed(source))),
            }
        }
        self.store(changed)?;
        Ok(all)
    }

    /// Asks the registry for the pinned manifests of some entries, or of all: those it has become verified, unverified ones that it has not become notes.
    pub async fn verify(&self, only: &[ImageReference]) -> Result<Vec<Checked>, EditError> {
        let (mut all, mut changed) = (Vec::new(), Vec::new());
        for entry in self.entries(only)? {
            let Some(pin) = entry.pin.clone() else {
                all.push(checked(&entry, Verdict::Unpinned));
                continue;
            };
            let verdict = match self.pinned(&entry, pin.manifest).await {
                Ok(remote) => {
                    let source = if pin.status == PinStatus::Verified { pin.source } else { format!("registry, after {}", pin.source) };
                    let index = pin.index;
                    changed.push(LockedImage { pin: Some(Pin { index, source, trust: pin.trust, ..pin_of(&remote) }), ..entry.clone() });
                    Verdict::Verified
                }
                Err(source) if is_verdict(&source) => {
                    if pin.status == PinStatus::Unverified {
                        changed.push(rejected(&entry, pin));
                    }
                    Verdict::Rejected(source)
                }
                Err(source) => Verdict::Failed(source),
            };
            all.push(checked(&entry, verdict));
        }
        self.store(changed)?;
        Ok(all)
    }

    /// Compares some entries, or all, with what their tags mean now. Changes nothing.
    pub async fn diff(&self, only: &[ImageReference]) -> Result<Vec<Checked>, EditError> {
        let mut all = Vec::new();
        for entry in self.entries(only)? {
            let verdict = self.current(&entry).await.map_or_else(Verdict::Failed, |remote| compare(&entry, remote.digest));
            all.push(checked(&entry, verdict));
        }
        Ok(all)
    }

    fn source<'n>(&self, entry: &LockedImage, notes: Notes<'n>) -> Result<Source<'n>, SourceError> {
        Source::registry(&entry.reference, self.access, notes)
    }

    async fn current(&self, entry: &LockedImage) -> Result<RemoteImage, SourceError> {
        let source = self.source(entry, self.notes)?;
        source.image(source.current(&entry.platform).await?, &entry.platform).await
    }

    /// The manifest that an entry pins. An index in its place is not what was pinned.
    async fn pinned(&self, entry: &LockedImage, manifest: Digest) -> Result<RemoteImage, SourceError> {
        let source = self.source(entry, self.notes)?;
        let remote = source.image(manifest, &entry.platform).await?;
        if remote.digest == manifest {
            return Ok(remote);
        }
        let place = format!("registry `{}`", entry.reference.registry());
        Err(SourceError::NotFound { place, wanted: format!("platform manifest {manifest}: that is an index") })
    }

    /// The entry of the file, else what the other lock files say of the name, else a new one.
    fn entry_to_add(&self, image: &ImageReference, platform: &Platform) -> Result<LockedImage, EditError> {
        let name = lock_name(image)?;
        let own = LockFile::read(self.file).map_err(EditError::Lock)?;
        if let Some(own) = own.as_ref().and_then(|own| own.find(&name, platform)) {
            return Ok(own.clone());
        }
        // A file to be made need not be there to be read.
        let chosen = self.locks.chosen.clone().filter(|chosen| chosen != self.file);
        let others = LockFiles { chosen, ..self.locks.clone() };
        let (reference, runtime, dated_tag) = match (others.find(&name, platform).map_err(EditError::Lock)?, name) {
            (Some(Locked { image, .. }), _) => (image.reference, image.runtime, image.dated_tag),
            (None, LockName::Reference(reference)) => (reference.clone(), None, None),
            (None, LockName::Runtime(runtime)) => return Err(EditError::NoEntry(runtime.to_string())),
        };
        Ok(LockedImage { reference, platform: platform.clone(), runtime, dated_tag, pin: None, notes: Vec::new() })
    }

    /// The file's entries for the names given, or all.
    fn entries(&self, only: &[ImageReference]) -> Result<Vec<LockedImage>, EditError> {
        let missing = || LockError::Read { path: self.file.to_owned(), source: rustix::io::Errno::NOENT.into() };
        let file = LockFile::read(self.file).and_then(|file| file.ok_or_else(missing)).map_err(EditError::Lock)?;
        if only.is_empty() {
            return Ok(file.images().to_vec());
        }
        let mut entries = Vec::new();
        for image in only {
            let name = lock_name(image)?;
            let before = entries.len();
            entries.extend(file.images().iter().filter(|entry| entry.has_name(&name)).cloned());
            if entries.len() == before {
                return Err(EditError::NoEntry(image.to_string()));
            }
        }
        Ok(entries)
    }

    fn store(&self, changed: Vec<LockedImage>) -> Result<(), EditError> {
        if changed.is_empty() {
            return Ok(());
        }
        change(self.file, |file| changed.into_iter().for_each(|image| file.put(image))).map_err(EditError::Lock)
    }
}

fn lock_name(image: &ImageReference) -> Result<LockName<'_>, EditError> {
    match image {
        ImageReference::Runtime(runtime) => Ok(LockName::Runtime(runtime)),
        ImageReference::Registry(reference) if reference.digest().is_none() => Ok(LockName::Reference(reference)),
        other => Err(EditError::NotLockable(other.to_string())),
    }
}

fn checked(entry: &LockedImage, verdict: Verdict) -> Checked {
    let locked = entry.pin.as_ref().map(|pin| pin.manifest);
    Checked { reference: entry.reference.clone(), platform: entry.platform.clone(), locked, verdict }
}

fn compare(entry: &LockedImage, found: Digest) -> Verdict {
    match &entry.pin {
        None => Verdict::New { found },
        Some(pin) if pin.manifest == found => Verdict::Same,
        Some(_) => Verdict::Moved { found },
    }
}

/// Whether the registry has spoken, rather than failed to.
fn is_verdict(error: &SourceError) -> bool {
    matches!(error, SourceError::NotFound { .. } | SourceError::Manifest { .. } | SourceError::Digest { .. } | SourceError::TooLarge { .. })
}

fn rejected(entry: &LockedImage, pin: Pin) -> LockedImage {
    let note = Note {
        digest: pin.manifest,
        kind: NoteKind::Unknown,
        when: None,
        tag: None,
        source: format!("{}; the registry does not have it", pin.source),
    };
    let mut notes = entry.notes.clone();
    notes.push(note);
    LockedImage { pin: None, notes, ..entry.clone() }
}

/// A verified pin for what a registry gave just now.
pub(crate) fn pin_of(image: &RemoteImage) -> Pin {
    let layers = image.manifest.layers.iter().zip(&image.config.diff_ids);
    Pin {
        manifest: image.digest,
        status: PinStatus::Verified,
        source: "registry".to_owned(),
        trust: None,
        resolved_at: now(),
        manifest_size: Some(image.manifest_bytes.len() as u64),
        index: image.index,
        config: Some(image.manifest.config.digest),
        layers: layers
            .map(|(blob, diff_id)| LockedLayer {
                digest: blob.digest,
                size: blob.size,
                diff_id: *diff_id,
                media_type: blob.media_type.clone(),
            })
            .collect(),
    }
}

/// The same in the place of an older pin: when the reference was first seen, and as what, stays known.
fn anew(entry: &LockedImage, image: &RemoteImage) -> Pin {
    let first_use = entry.pin.as_ref().and_then(|pin| pin.trust.clone()).filter(|trust| matches!(trust, PinTrust::FirstUse { .. }));
    Pin { trust: first_use, ..pin_of(image) }
}

/// The same for an image that nothing but its being there speaks for.
pub(crate) fn pin_of_first_use(image: &RemoteImage) -> Pin {
    let pin = pin_of(image);
    let trust = pin.resolved_at.clone().map(|time| PinTrust::FirstUse { digest: image.digest, time });
    Pin { trust, ..pin }
}

fn now() -> Option<String> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    Some(DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0)?.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// Changes a lock file, making it and its directory where there is none. Text that stays the same is not written.
pub(crate) fn change(path: &Path, change: impl FnOnce(&mut LockFile)) -> Result<(), LockError> {
    let failed = |source| LockError::Write { path: path.to_owned(), source };
    // A symlink stays, and the file it leads to is replaced.
    let real = fs::canonicalize(path).or_else(|_| std::path::absolute(path)).map_err(failed)?;
    let directory = real.parent().map(PathBuf::from).unwrap_or_default();
    fs::create_dir_all(&directory).map_err(failed)?;
    let lock = File::open(&directory).map_err(failed)?;
    lock.lock().map_err(failed)?;
    let before = read_text(&real)?;
    let mut file = before.as_deref().map(|text| LockFile::from_text(path, text)).transpose()?.unwrap_or_default();
    change(&mut file);
    let after = file.to_text();
    if before.as_deref() == Some(after.as_str()) {
        return Ok(());
    }
    let mut name = std::ffi::OsString::from(".");
    name.push(real.file_name().unwrap_or_default());
    name.push(".new");
    let staged = directory.join(name);
    // One that is there was left by a writer killed under this lock, or is a trap.
    let _ = fs::remove_file(&staged);
    let mut new = File::create_new(&staged).map_err(failed)?;
    let written = new.write_all(after.as_bytes()).and_then(|()| new.sync_all()).and_then(|()| fs::rename(&staged, &real));
    written.map_err(|source| {
        let _ = fs::remove_file(&staged);
        failed(source)
    })
}

#[cfg(test)]
mod tests;
