//! Several lock files in their order: `--lock FILE`, the user's own, the project's, the one built in.

use std::io;
use std::path::{Path, PathBuf};

use super::{LockError, LockFile, LockedImage, Pin, PinStatus, edit, read_text};
use crate::reference::{Platform, RegistryReference, RuntimeId};

/// Where lock files may be. The one built in is always the last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LockFiles {
    /// The one given with `--lock`, which must exist.
    pub chosen: Option<PathBuf>,
    /// The user's own. What is pinned at its first use is written here, and nowhere without it.
    pub user: Option<PathBuf>,
    /// The project's, `./vendor-images.lock`.
    pub project: Option<PathBuf>,
}

/// A name that lock files are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockName<'a> {
    /// A bare runtime name.
    Runtime(&'a RuntimeId),
    /// A repository and tag.
    Reference(&'a RegistryReference),
}

/// What the lock files say of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    /// The first entry found: it says which reference is meant.
    pub image: LockedImage,
    /// The first verified pin for that reference.
    pub verified: Option<Pin>,
    /// The first unverified pin for that reference, where no verified one was found.
    pub unverified: Option<Pin>,
}

impl LockFiles {
    /// Reads the file given with `--lock`, for images that no lock file can name: it must be there and be one all the same.
    pub fn check_chosen(&self) -> Result<(), LockError> {
        let Some(path) = &self.chosen else { return Ok(()) };
        let text = read_text(path)?.ok_or_else(|| missing(path))?;
        LockFile::from_text(path, &text).map(drop)
    }

    /// What the lock files say of a name for a platform, or `None` where none has it.
    pub fn find(&self, name: &LockName<'_>, platform: &Platform) -> Result<Option<Locked>, LockError> {
        let mut search = Search { name, platform, found: None };
        for (path, required) in [(&self.chosen, true), (&self.user, false), (&self.project, false)] {
            let Some(path) = path else { continue };
            let Some(text) = read_text(path)? else {
                if required {
                    return Err(missing(path));
                }
                continue;
            };
            // Whole, even where the name is not in its text: a damaged file must not pass for one without pins.
            if search.look(&LockFile::from_text(path, &text)?) {
                return Ok(search.found);
            }
        }
        search.look(&LockFile::built_in_with(search.needle()));
        Ok(search.found)
    }

    /// All images that these files name; what is built in is not among them. A file that is not there names none, unless it was chosen.
    pub fn images(&self) -> Result<Vec<LockedImage>, LockError> {
        self.check_chosen()?;
        let mut images = Vec::new();
        for path in [&self.chosen, &self.user, &self.project].into_iter().flatten() {
            images.extend(LockFile::read(path)?.iter().flat_map(LockFile::images).cloned());
        }
        Ok(images)
    }

    /// Writes an image's pin into the user's own file, and says which file that is.
    pub fn pin_first_use(&self, image: LockedImage) -> Result<Option<&Path>, LockError> {
        let Some(user) = self.user.as_deref() else { return Ok(None) };
        edit::change(user, |file| file.put(image))?;
        Ok(Some(user))
    }
}

fn missing(path: &Path) -> LockError {
    LockError::Read { path: path.to_owned(), source: io::Error::from_raw_os_error(rustix::io::Errno::NOENT.raw_os_error()) }
}

struct Search<'a> {
    name: &'a LockName<'a>,
    platform: &'a Platform,
    found: Option<Locked>,
}

impl Search<'_> {
    /// A part of the name that every entry for it has in its text.
    fn needle(&self) -> &str {
        match (&self.found, self.name) {
            (Some(found), _) => needle(&found.image.reference),
            (None, LockName::Runtime(runtime)) => runtime.as_str(),
            (None, LockName::Reference(reference)) => needle(reference),
        }
    }

    /// Takes over what one file says. True once nothing more is to be learned.
    fn look(&mut self, file: &LockFile) -> bool {
        let entry = match &self.found {
            Some(found) => file.find(&LockName::Reference(&found.image.reference), self.platform),
            None => file.find(self.name, self.platform),
        };
        let Some(image) = entry else { return false };
        let found = self.found.get_or_insert_with(|| Locked { image: image.clone(), verified: None, unverified: None });
        match &image.pin {
            Some(pin) if pin.status == PinStatus::Verified => found.verified = Some(pin.clone()),
            Some(pin) if found.unverified.is_none() => found.unverified = Some(pin.clone()),
            _ => {}
        }
        found.verified.is_some()
    }
}

/// A part of a reference that every way of writing it has: its tag, or the last part of its repository where the tag may be left out.
fn needle(reference: &RegistryReference) -> &str {
    let last = reference.repository().rsplit('/').next().unwrap_or_default();
    reference.tag().filter(|tag| *tag != "latest").unwrap_or(last)
}
