//! Run records: what each run under the face of docker was asked to be, whether it is alive, what it wrote, and the way to it while it runs.
//!
//! A run has a folder of its own. The process that supervises it holds a file lock there as long as it lives; nothing else tells that a run is alive, so that
//! a crash or a new boot of the machine cannot be mistaken for it. See `docs/formats/run-record.md`. Knows nothing of sandboxes.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat, Utc};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::config::docker::RunSpec;

pub mod control;
pub mod log;
mod names;
mod record;

pub use record::{Held, Phase, Published, Run, State};

/// The version of what lies in the folder.
const FORMAT: u32 = 1;

/// Why a record cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// There is nothing by that name.
    #[error("No such container: {name}")]
    Unknown {
        /// As given.
        name: String,
    },
    /// The first digits of several ids.
    #[error("multiple IDs found with provided prefix: {name}")]
    Ambiguous {
        /// As given.
        name: String,
    },
    /// Two runs cannot have one name.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
    )]
    Taken {
        /// The name.
        name: String,
        /// Who has it.
        id: String,
    },
    /// Not a name.
    #[error("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    Name {
        /// As given.
        name: String,
    },
    /// The folder of records is somebody else's, or open to others.
    #[error("the folder `{}` is not this user's alone", path.display())]
    NotOurs {
        /// The folder.
        path: PathBuf,
    },
    /// It does not run.
    #[error("container {id} is not running")]
    NotRunning {
        /// Its id.
        id: String,
    },
    /// What a file holds.
    #[error("`{}` cannot be read", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The disk.
    #[error("cannot use `{}`", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl RecordsError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

/// What a run was asked to be: never changed, but for its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The version of this form.
    pub format: u32,
    /// 64 hex digits.
    pub id: String,
    /// Its name, without a slash.
    pub name: String,
    /// When it was made, in RFC 3339.
    pub created: String,
    /// The digest of the image's platform manifest, once it was found.
    pub image_digest: String,
    /// The digest of the image's config: docker's image id.
    pub image_id: String,
    /// The command line as it is shown: entrypoint and arguments.
    pub command: Vec<String>,
    /// What was asked for.
    pub spec: RunSpec,
}

/// What a new record holds beside what is made for it.
#[derive(Debug)]
pub struct NewRun {
    /// `--name`; one is made up when not given.
    pub name: Option<String>,
    /// See [`Record::image_digest`].
    pub image_digest: String,
    /// See [`Record::image_id`].
    pub image_id: String,
    /// See [`Record::command`].
    pub command: Vec<String>,
    /// What was asked for.
    pub spec: RunSpec,
}

/// All records of this user.
#[derive(Debug, Clone)]
pub struct Records {
    folder: PathBuf,
}

impl Records {
    /// Opens the folder, which is made if it lacks. It must be this user's and closed to others: who writes there decides what runs.
    pub fn open(folder: &Path) -> Result<Self, RecordsError> {
        let runs = folder.join("runs");
        for path in [folder, &runs] {
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(RecordsError::io(path))?;
            let found = path.symlink_metadata().map_err(RecordsError::io(path))?;
            let is_ours = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0;
            if !is_ours {
                return Err(RecordsError::NotOurs { path: path.to_owned() });
            }
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// One at a time gives names or takes them.
    fn alone(&self) -> Result<File, RecordsError> {
        let path = self.folder.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(RecordsError::io(&path))?;
        flock(&file, FlockOperation::LockExclusive).map_err(|error| RecordsError::io(&path)(error.into()))?;
        Ok(file)
    }

    /// A new record, held by us. Its name is nobody else's.
    pub fn create(&self, new: NewRun) -> Result<(Run, Held), RecordsError> {
        let _alone = self.alone()?;
        let runs = self.list()?;
        let is_taken = |name: &str| runs.iter().find(|run| run.record.name == name);
        let name = match new.name {
            Some(name) => names::checked(&name)?,
            None => names::made_up(|name| is_taken(name).is_some()),
        };
        if let Some(holder) = is_taken(&name) {
            return Err(RecordsError::Taken { name, id: holder.record.id.clone() });
        }
        let id = names::id().map_err(|error| RecordsError::io(&self.folder)(io::Error::other(error)))?;
        let folder = self.folder.join("runs").join(&id);
        let record = Record {
            format: FORMAT,
            id,
            name,
            created: now(),
            image_digest: new.image_digest,
            image_id: new.image_id,
            command: new.command,
            spec: new.spec,
        };
        Run::create(folder, record)
    }

    /// Every run, newest first.
    pub fn list(&self) -> Result<Vec<Run>, RecordsError> {
        let folder = self.folder.join("runs");
        let entries = fs::read_dir(&folder).map_err(RecordsError::io(&folder))?;
        // One that is being made or removed is not there.
        let mut runs: Vec<Run> = entries.flatten().filter_map(|entry| Run::open(entry.path()).ok()).collect();
        runs.sort_by(|a, b| b.record.created.cmp(&a.record.created).then_with(|| a.record.id.cmp(&b.record.id)));
        Ok(runs)
    }

    /// The run by its id, its name, or the first digits of its id.
    pub fn find(&self, text: &str) -> Result<Run, RecordsError> {
        let name = text.strip_prefix('/').unwrap_or(text);
        let unknown = || RecordsError::Unknown { name: text.to_owned() };
        if name.is_empty() {
            return Err(unknown());
        }
        let mut runs = self.list()?;
        if let Some(at) = runs.iter().position(|run| run.record.id == name).or_else(|| runs.iter().position(|run| run.record.name == name))
        {
            return Ok(runs.swap_remove(at));
        }
        runs.retain(|run| run.record.id.starts_with(name));
        match runs.len() {
            0 => Err(unknown()),
            1 => Ok(runs.swap_remove(0)),
            _ => Err(RecordsError::Ambiguous { name: text.to_owned() }),
        }
    }

    /// Gives a run another name.
    pub fn rename(&self, run: &Run, name: &str) -> Result<(), RecordsError> {
        let _alone = self.alone()?;
        let name = names::checked(name)?;
        if let Some(holder) = self.list()?.into_iter().find(|other| other.record.name == name) {
            return Err(RecordsError::Taken { name, id: holder.record.id });
        }
        run.renamed(name)
    }
}

/// The time, as it is written down.
pub fn now() -> String {
    DateTime::<Utc>::from(std::time::SystemTime::now()).to_rfc3339_opts(SecondsFormat::Nanos, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(name: Option<&str>) -> NewRun {
        NewRun {
            name: name.map(str::to_owned),
            image_digest: String::new(),
            image_id: String::new(),
            command: Vec::new(),
            spec: RunSpec::default(),
        }
    }

    #[test]
    fn names_and_ids_find_runs() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(&folder.path().join("undocked")).unwrap();
        let (one, held) = records.create(new(Some("one"))).unwrap();
        let (two, _) = records.create(new(None)).unwrap();
        assert!(two.record.name.contains('_'));
        let id = one.record.id.clone();
        for text in ["one", "/one", &id, &id[..12]] {
            assert_eq!(records.find(text).unwrap().record.id, id, "{text}");
        }
        assert_eq!(records.find("none").unwrap_err().to_string(), "No such container: none");
        assert!(matches!(records.create(new(Some("one"))), Err(RecordsError::Taken { id: holder, .. }) if holder == id));
        assert!(matches!(records.create(new(Some("a b"))), Err(RecordsError::Name { .. })));
        records.rename(&one, "uno").unwrap();
        assert!(matches!(records.find("one"), Err(RecordsError::Unknown { .. })));
        let one = records.find("uno").unwrap();
        assert!(one.is_held().unwrap());
        drop(held);
        assert!(!one.is_held().unwrap());
        one.remove().unwrap();
        assert_eq!(records.list().unwrap().len(), 1);
    }

    #[test]
    fn who_ended_without_a_word_is_dead() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(&folder.path().join("undocked")).unwrap();
        let (run, held) = records.create(new(Some("one"))).unwrap();
        assert_eq!(run.state().unwrap().phase, Phase::Created);
        run.note(&held, &State { phase: Phase::Running, ..State::default() }).unwrap();
        assert_eq!(run.state().unwrap().phase, Phase::Running);
        drop(held);
        let state = run.state().unwrap();
        assert_eq!((state.phase, state.exit_code), (Phase::Exited, 255));
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(Records::open(folder.path()), Err(RecordsError::NotOurs { .. })));
    }
}
