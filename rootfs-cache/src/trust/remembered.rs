//! What was seen of a repository before: the versions of its documents, so that nobody shows us older ones, and its root, which the next one must be signed
//! by. A file a repository; the format is in `docs/formats/trust-state.md`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The one version of the format.
const VERSION: u32 = 1;

/// What was seen of a repository before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Remembered {
    version: u32,
    repository: String,
    pub(super) first_seen: DateTime<Utc>,
    last_seen: DateTime<Utc>,
    /// The highest version seen of each document, by its role.
    pub(super) versions: BTreeMap<String, u64>,
    /// The newest `root.json`.
    pub(super) root: String,
}

/// Why what was seen before is not known.
#[derive(Debug, thiserror::Error)]
pub enum RememberedError {
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file is not what we write.
    #[error("`{}` is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Remembered {
    pub(super) fn new(repository: &str, versions: BTreeMap<String, u64>, root: String, now: DateTime<Utc>) -> Self {
        Self { version: VERSION, repository: repository.to_owned(), first_seen: now, last_seen: now, versions, root }
    }

    /// What was seen of a repository, or `None` the first time.
    pub(super) fn read(folder: &Path, repository: &str) -> Result<Option<Self>, RememberedError> {
        let path = file(folder, repository);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(RememberedError::Read { path, source }),
        };
        let damaged = |reason: String| RememberedError::Damaged { path: path.clone(), reason };
        let read: Self = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        if read.version != VERSION {
            return Err(damaged(format!("it has version {}, and this program knows version {VERSION}", read.version)));
        }
        if read.repository != repository {
            return Err(damaged(format!("it is about `{}`", read.repository)));
        }
        Ok(Some(read))
    }

    /// Keeps this beside what another process may have seen meanwhile: of each document the higher version.
    pub(super) fn keep(mut self, folder: &Path) -> Result<(), RememberedError> {
        let path = file(folder, &self.repository);
        let failed = |source| RememberedError::Write { path: path.clone(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        let lock = File::open(folder).map_err(failed)?;
        lock.lock().map_err(failed)?;
        if let Some(before) = Self::read(folder, &self.repository)? {
            if before.versions.get("root") > self.versions.get("root") {
                self.root = before.root;
            }
            for (role, version) in before.versions {
                let known = self.versions.entry(role).or_insert(version);
                *known = version.max(*known);
            }
            self.first_seen = before.first_seen;
        }
        let staged = folder.join(".new");
        // One that is there was left by a writer killed under this lock, or is a trap.
        let _ = fs::remove_file(&staged);
        let text = serde_json::to_vec(&self).map_err(|error| failed(error.into()))?;
        let mut new = File::create_new(&staged).map_err(failed)?;
        let written = new.write_all(&text).and_then(|()| new.sync_all()).and_then(|()| fs::rename(&staged, &path));
        written.map_err(|source| {
            let _ = fs::remove_file(&staged);
            failed(source)
        })
    }
}

/// A repository's name holds no `+`.
fn file(folder: &Path, repository: &str) -> PathBuf {
    folder.join(format!("{}.json", repository.replace('/', "+")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(versions: &[(&str, u64)], root: &str, second: i64) -> Remembered {
        let versions = versions.iter().map(|(role, version)| ((*role).to_owned(), *version)).collect();
        Remembered::new("docker.io/a/b", versions, root.to_owned(), DateTime::from_timestamp(second, 0).unwrap())
    }

    #[test]
    fn the_highest_of_each_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let folder = &folder.path().join("trust");
        assert_eq!(Remembered::read(folder, "docker.io/a/b").unwrap(), None);
        seen(&[("root", 2), ("targets", 5)], "two", 10).keep(folder).unwrap();
        seen(&[("root", 1), ("targets", 6), ("targets/releases", 1)], "one", 20).keep(folder).unwrap();
        let read = Remembered::read(folder, "docker.io/a/b").unwrap().unwrap();
        let wanted = seen(&[("root", 2), ("targets", 6), ("targets/releases", 1)], "two", 10);
        assert_eq!((&read.versions, &read.root, read.first_seen), (&wanted.versions, &wanted.root, wanted.first_seen));
        assert_eq!(read.last_seen.timestamp(), 20);
        seen(&[("root", 3)], "three", 30).keep(folder).unwrap();
        assert_eq!(Remembered::read(folder, "docker.io/a/b").unwrap().unwrap().root, "three");
        assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
    }

    #[test]
    fn what_is_damaged_is_said_and_not_taken_for_a_first_time() {
        let folder = tempfile::tempdir().unwrap();
        seen(&[], "", 0).keep(folder.path()).unwrap();
        let path = folder.path().join("docker.io+a+b.json");
        let good = fs::read_to_string(&path).unwrap();
        for bad in [
            String::new(),
            good[..good.len() - 1].to_owned(),
            good.replace("\"version\":1", "\"version\":2"),
            good.replace("a/b", "a/c"),
            good.replace("\"root\"", "\"roof\""),
        ] {
            fs::write(&path, &bad).unwrap();
            assert!(matches!(Remembered::read(folder.path(), "docker.io/a/b"), Err(RememberedError::Damaged { .. })), "{bad}");
        }
    }
}
