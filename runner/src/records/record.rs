//! One run's folder.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{Record, RecordsError};

/// Where a run is between its making and its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It was never started.
    #[default]
    Created,
    /// It runs.
    Running,
    /// Its processes are stopped.
    Paused,
    /// It ended, and is about to be started again.
    Restarting,
    /// It ended.
    Exited,
}

impl Phase {
    /// Docker's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
        }
    }
}

/// What has become of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Where it is.
    pub phase: Phase,
    /// The process that supervises it.
    pub pid: u32,
    /// When it was started last, in RFC 3339; empty if never.
    pub started: String,
    /// When it ended last; empty if never.
    pub finished: String,
    /// How it ended last.
    pub exit_code: u8,
    /// Why it could not be started.
    pub error: String,
    /// Whether it was killed for its memory.
    pub out_of_memory: bool,
    /// How often it was started again.
    pub restarts: u32,
    /// Its published ports, as they are while it runs.
    pub ports: Vec<Published>,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Published {
    /// The port inside.
    pub inside: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The address outside.
    pub ip: String,
    /// The port outside.
    pub outside: u16,
}

/// One run.
#[derive(Debug, Clone)]
pub struct Run {
    /// What it was asked to be.
    pub record: Record,
    folder: PathBuf,
}

/// As long as this lives, the run is alive, and nobody else's.
#[derive(Debug)]
pub struct Held {
    _lock: File,
}

impl Run {
    pub(super) fn create(folder: PathBuf, record: Record) -> Result<(Self, Held), RecordsError> {
        DirBuilder::new().mode(0o700).create(&folder).map_err(RecordsError::io(&folder))?;
        let run = Self { record, folder };
        let made = File::create_new(run.lock_file()).map_err(RecordsError::io(&run.folder)).and_then(|_| run.hold()).and_then(|held| {
            run.write_record()?;
            held.ok_or_else(|| RecordsError::NotRunning { id: run.record.id.clone() })
        });
        if made.is_err() {
            let _ = fs::remove_dir_all(&run.folder);
        }
        Ok((run, made?))
    }

    pub(super) fn open(folder: PathBuf) -> Result<Self, RecordsError> {
        let record = read(&folder.join("record.json"))?;
        Ok(Self { record, folder })
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn lock_file(&self) -> PathBuf {
        self.folder.join("lock")
    }

    fn open_lock(&self) -> Result<File, RecordsError> {
        let path = self.lock_file();
        File::options().write(true).open(&path).map_err(RecordsError::io(&path))
    }

    /// Takes the run, unless somebody has it.
    pub fn hold(&self) -> Result<Option<Held>, RecordsError> {
        let lock = self.open_lock()?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Held { _lock: lock })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(RecordsError::io(&self.lock_file())(error.into())),
        }
    }

    /// Whether somebody supervises it now. A run that was removed is not supervised.
    pub fn is_held(&self) -> Result<bool, RecordsError> {
        let lock = match self.open_lock() {
            Err(RecordsError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened?,
        };
        match flock(&lock, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(RecordsError::io(&self.lock_file())(error.into())),
        }
    }

    /// Waits until nobody supervises it. A run that was removed is not supervised.
    pub fn wait(&self) -> Result<(), RecordsError> {
        let Ok(lock) = self.open_lock() else { return Ok(()) };
        loop {
            match flock(&lock, FlockOperation::LockShared) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(RecordsError::io(&self.lock_file())(error.into())),
            }
        }
    }

    /// What has become of it. Who was alive and is not supervised any more has ended without a word.
    pub fn state(&self) -> Result<State, RecordsError> {
        let is_held = self.is_held()?;
        // In this order: who ends writes first and lets go then.
        let state = self.noted();
        let was_alive = matches!(state.phase, Phase::Running | Phase::Paused | Phase::Restarting);
        if was_alive && !is_held && !self.is_held()? {
            let state = self.noted();
            if matches!(state.phase, Phase::Running | Phase::Paused | Phase::Restarting) {
                return Ok(State { phase: Phase::Exited, exit_code: 255, ports: Vec::new(), ..state });
            }
            return Ok(state);
        }
        Ok(state)
    }

    fn noted(&self) -> State {
        read(&self.folder.join("state.json")).unwrap_or_default()
    }

    /// Notes what has become of it.
    pub fn note(&self, _held: &Held, state: &State) -> Result<(), RecordsError> {
        self.write("state.json", &serde_json::to_vec(state).map_err(|source| self.form("state.json", source))?)
    }

    /// Notes where it is now, and leaves the rest as it was.
    pub fn note_phase(&self, held: &Held, phase: Phase) -> Result<(), RecordsError> {
        self.note(held, &State { phase, ..self.noted() })
    }

    pub(super) fn renamed(&self, name: String) -> Result<(), RecordsError> {
        let record = Record { name, ..self.record.clone() };
        Self { record, folder: self.folder.clone() }.write_record()
    }

    fn write_record(&self) -> Result<(), RecordsError> {
        self.write("record.json", &serde_json::to_vec(&self.record).map_err(|source| self.form("record.json", source))?)
    }

    fn form(&self, name: &str, source: serde_json::Error) -> RecordsError {
        RecordsError::Form { path: self.folder.join(name), source }
    }

    /// By renaming: who reads finds the old one or the new one.
    fn write(&self, name: &str, contents: &[u8]) -> Result<(), RecordsError> {
        let (new, path) = (self.folder.join(format!(".{name}.{}", std::process::id())), self.folder.join(name));
        let written = File::create(&new).and_then(|mut file| file.write_all(contents)).and_then(|()| fs::rename(&new, &path));
        written.map_err(RecordsError::io(&path))
    }

    /// Removes it, with its log. Its name is free from then on.
    pub fn remove(&self) -> Result<(), RecordsError> {
        // Without it the run is not listed any more, whatever else cannot be removed at once.
        let record = self.folder.join("record.json");
        match fs::remove_file(&record) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(RecordsError::Unknown { name: self.record.id.clone() }),
            removed => removed.map_err(RecordsError::io(&record))?,
        }
        fs::remove_dir_all(&self.folder).map_err(RecordsError::io(&self.folder))
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, RecordsError> {
    let bytes = fs::read(path).map_err(RecordsError::io(path))?;
    serde_json::from_slice(&bytes).map_err(|source| RecordsError::Form { path: path.to_owned(), source })
}
