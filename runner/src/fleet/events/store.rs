//! Events on disk: one file a server, which no two servers hold at once ([format](../../../../docs/formats/event-store.md)).
//!
//! Blocks: to be used where that does not matter.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::course::Course;

/// The format's version.
const VERSION: u64 = 1;
/// Memory for pages of the file. Queued events are seldom looked at.
const CACHE_BYTES: usize = 2 << 20;
/// So many servers of the same kind can queue events at once.
const SLOTS: u32 = 64;

const ABOUT: TableDefinition<&str, u64> = TableDefinition::new("about");
const COURSES: TableDefinition<u64, &[u8]> = TableDefinition::new("courses");
const PAYLOADS: TableDefinition<u64, &[u8]> = TableDefinition::new("payloads");
const RESPONSES: TableDefinition<u64, &[u8]> = TableDefinition::new("responses");

/// Where a server's events are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPlace {
    /// The folder of all servers.
    pub folder: PathBuf,
    /// What the server is known by, so that it finds its queue again: a name that can be a file's.
    pub server: String,
}

/// Why there is no queue.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("cannot make the folder `{}`", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("cannot open `{}`", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot lock `{}`", path.display())]
    Lock { path: PathBuf, source: Errno },
    #[error("{SLOTS} servers hold queues like `{}` already", path.display())]
    AllHeld { path: PathBuf },
    #[error("cannot read or write `{}`", path.display())]
    Disk { path: PathBuf, source: io::Error },
    #[error("`{}` is no queue of events, or damaged", path.display())]
    Database { path: PathBuf, source: Box<redb::Error> },
    #[error("`{}` was written by another version of undocked (format {found}, not {VERSION})", path.display())]
    Version { path: PathBuf, found: u64 },
    #[error("`{}` holds an event that cannot be read", path.display())]
    Course { path: PathBuf, source: serde_json::Error },
}

impl StoreError {
    /// What the system refused, as on a full disk, is no damage.
    fn of_database(path: PathBuf, source: redb::Error) -> Self {
        match source {
            redb::Error::Io(source) if source.raw_os_error().is_some() => Self::Disk { path, source },
            source => Self::Database { path, source: Box::new(source) },
        }
    }
}

/// A change of what is stored.
#[derive(Debug)]
pub(in crate::fleet) enum Change {
    /// A new event, or one from another store.
    Put { key: u64, course: Box<Course>, payload: Bytes, response: Option<Bytes> },
    /// An event is somewhere else on its course; the function's last response, if it is new.
    Update { key: u64, course: Box<Course>, response: Option<Bytes> },
    /// An event is over.
    Remove { key: u64 },
}

/// A queue on disk, held by us.
#[derive(Debug)]
pub(super) struct Store {
    database: Database,
    path: PathBuf,
}

/// Everything of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::fleet) struct Stored {
    pub(super) course: Course,
    pub(super) payload: Bytes,
    /// What the function answered last.
    pub(super) response: Option<Bytes>,
}

impl Store {
    /// Holds the first file of this server's that nobody else does. With `make`, there is one afterwards, else only if one was left.
    pub(super) fn claim(place: &EventPlace, make: bool) -> Result<Option<Self>, StoreError> {
        for slot in 1..=SLOTS {
            let path = slot_path(place, slot);
            if let Some(file) = hold(&path, make)? {
                return Self::open(file, path).map(Some);
            }
        }
        if make { Err(StoreError::AllHeld { path: place.first() }) } else { Ok(None) }
    }

    /// Holds the other files of this server's that somebody left: a server that ran beside another one, and has ended.
    pub(super) fn claim_left(place: &EventPlace) -> Vec<Result<Self, StoreError>> {
        let held = (1..=SLOTS).filter_map(|slot| {
            let path = slot_path(place, slot);
            hold(&path, false).transpose().map(|file| Self::open(file?, path))
        });
        held.collect()
    }

    fn open(file: File, path: PathBuf) -> Result<Self, StoreError> {
        let cut = is_cut(&file);
        let open = || -> Result<(Database, u64), redb::Error> {
            if cut.map_err(redb::Error::Io)? {
                return Err(redb::Error::Corrupted("the file was cut".to_owned()));
            }
            let database = Database::builder().set_cache_size(CACHE_BYTES).create_file(file)?;
            let begin = database.begin_write()?;
            let version = {
                let mut about = begin.open_table(ABOUT)?;
                let found = about.get("version")?.map(|version| version.value());
                if found.is_none() {
                    about.insert("version", VERSION)?;
                }
                found.unwrap_or(VERSION)
            };
            if version == VERSION {
                begin.open_table(COURSES)?;
                begin.open_table(PAYLOADS)?;
                begin.open_table(RESPONSES)?;
            }
            begin.commit()?;
            Ok((database, version))
        };
        match open() {
            Ok((database, VERSION)) => Ok(Self { database, path }),
            Ok((_, found)) => Err(StoreError::Version { path, found }),
            Err(source) => Err(StoreError::of_database(path, source)),
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, source: impl Into<redb::Error>) -> StoreError {
        StoreError::of_database(self.path.clone(), source.into())
    }

    fn unreadable(&self, source: serde_json::Error) -> StoreError {
        StoreError::Course { path: self.path.clone(), source }
    }

    /// All events with their keys, without payloads.
    pub(super) fn courses(&self) -> Result<Vec<(u64, Course)>, StoreError> {
        let read = || -> Result<Vec<(u64, Vec<u8>)>, redb::Error> {
            let table = self.database.begin_read()?.open_table(COURSES)?;
            let entries = table.iter()?.map(|entry| entry.map(|(key, course)| (key.value(), course.value().to_vec())));
            Ok(entries.collect::<Result<_, _>>()?)
        };
        let entries = read().map_err(|source| self.failed(source))?;
        let parse = |(key, json): (u64, Vec<u8>)| Ok((key, serde_json::from_slice(&json).map_err(|source| self.unreadable(source))?));
        entries.into_iter().map(parse).collect()
    }

    /// One event.
    pub(super) fn load(&self, key: u64) -> Result<Option<Stored>, StoreError> {
        type Parts = (Vec<u8>, Option<Bytes>, Option<Bytes>);
        let read = || -> Result<Option<Parts>, redb::Error> {
            let read = self.database.begin_read()?;
            let bytes = |definition| -> Result<Option<Bytes>, redb::Error> {
                Ok(read.open_table(definition)?.get(key)?.map(|value| Bytes::copy_from_slice(value.value())))
            };
            let course = read.open_table(COURSES)?.get(key)?.map(|value| value.value().to_vec());
            Ok(match course {
                Some(course) => Some((course, bytes(PAYLOADS)?, bytes(RESPONSES)?)),
                None => None,
            })
        };
        let Some((course, payload, response)) = read().map_err(|source| self.failed(source))? else { return Ok(None) };
        let course = serde_json::from_slice(&course).map_err(|source| self.unreadable(source))?;
        Ok(Some(Stored { course, payload: payload.unwrap_or_default(), response }))
    }

    /// Makes all the changes or none; when this returns, they are on the disk.
    pub(super) fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        let write = || -> Result<(), redb::Error> {
            let write = self.database.begin_write()?;
            {
                let (mut courses, mut payloads) = (write.open_table(COURSES)?, write.open_table(PAYLOADS)?);
                let mut responses = write.open_table(RESPONSES)?;
                for change in changes {
                    if let Change::Put { key, payload, .. } = change {
                        payloads.insert(key, &payload[..])?;
                    }
                    match change {
                        Change::Put { key, course, response, .. } | Change::Update { key, course, response } => {
                            courses.insert(key, &to_json(course)[..])?;
                            if let Some(response) = response {
                                responses.insert(key, &response[..])?;
                            }
                        }
                        Change::Remove { key } => {
                            courses.remove(key)?;
                            payloads.remove(key)?;
                            responses.remove(key)?;
                        }
                    }
                }
            }
            write.commit()?;
            Ok(())
        };
        write().map_err(|source| self.failed(source))
    }

    /// Lets go of it, and leaves no file behind if there is nothing in it.
    pub(super) fn close(self) -> Result<(), StoreError> {
        let is_empty = self.courses()?.is_empty();
        // Before the lock is released: whoever holds the file next must see that it is gone.
        if is_empty {
            let _ = fs::remove_file(&self.path);
        }
        Ok(())
    }
}

fn to_json(course: &Course) -> Vec<u8> {
    serde_json::to_vec(course).expect("texts and numbers are always JSON")
}

impl EventPlace {
    /// The file of a server that is the only one of its kind.
    pub(super) fn first(&self) -> PathBuf {
        slot_path(self, 1)
    }
}

/// `<server>.redb` for the first, `<server>.2.redb` and on for those beside it.
fn slot_path(place: &EventPlace, slot: u32) -> PathBuf {
    let name = if slot == 1 { format!("{}.redb", place.server) } else { format!("{}.{slot}.redb", place.server) };
    place.folder.join(name)
}

/// Opens the file with its lock. `None`: another one holds it, or there is none and none is to be made.
fn hold(path: &Path, make: bool) -> Result<Option<File>, StoreError> {
    if make && let Some(folder) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|source| StoreError::Folder { path: folder.to_owned(), source })?;
    }
    let open_error = |source| StoreError::Open { path: path.to_owned(), source };
    loop {
        let file = match OpenOptions::new().read(true).write(true).create(make).truncate(false).mode(0o600).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !make => return Ok(None),
            Err(source) => return Err(open_error(source)),
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(source) => return Err(StoreError::Lock { path: path.to_owned(), source }),
        }
        // Somebody may have removed it between the two.
        let (held, there) = (file.metadata().map_err(open_error)?, fs::metadata(path));
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino())) {
            if make && let Some(folder) = path.parent() {
                // The name of a new file must be on the disk, too.
                File::open(folder).and_then(|folder| folder.sync_all()).map_err(open_error)?;
            }
            return Ok(Some(file));
        }
    }
}

/// Whether a file is shorter than its own head says, which redb takes for a mistake of ours. The head has, from byte 12 on, five numbers of 4 bytes: the size
/// of a page; in pages, the head and the data of a region; how many regions are full; and the data of the one that is not (redb's `docs/design.md`).
fn is_cut(file: &File) -> io::Result<bool> {
    let mut head = [0_u8; 32];
    let length = file.metadata()?.len();
    if file.read_at(&mut head, 0)? < head.len() || !head.starts_with(b"redb") {
        // It says what it is by itself.
        return Ok(false);
    }
    let number = |at: usize| u64::from(u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
    let [page, region_head, region_data, full, rest] = [12, 16, 20, 24, 28].map(number);
    let last = if rest == 0 { 0 } else { region_head + rest };
    let pages = full.saturating_mul(region_head + region_data).saturating_add(1 + last);
    Ok(length < page.saturating_mul(pages))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::course::tests::course;
    use super::*;

    fn place(folder: &Path) -> EventPlace {
        EventPlace { folder: folder.join("events"), server: "s".to_owned() }
    }

    fn put(key: u64, payload: &'static str) -> Change {
        Change::Put { key, course: Box::new(course()), payload: payload.into(), response: None }
    }

    #[test]
    fn what_was_committed_is_there_after_an_end_without_goodbye() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Store::claim(&place(folder.path()), false).unwrap().is_none());
        let store = Store::claim(&place(folder.path()), true).unwrap().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(store.path()), mode(&folder.path().join("events"))), (0o600, 0o700));
        store.commit(&[put(1, "one"), put(2, "two")]).unwrap();
        let later = Course { attempts: 1, ..course() };
        store
            .commit(&[Change::Update { key: 2, course: Box::new(later.clone()), response: Some("no".into()) }, Change::Remove { key: 1 }])
            .unwrap();
        drop(store);
        let store = Store::claim(&place(folder.path()), false).unwrap().unwrap();
        assert_eq!(store.courses().unwrap(), [(2, later.clone())]);
        assert_eq!(store.load(1).unwrap(), None);
        assert_eq!(store.load(2).unwrap(), Some(Stored { course: later, payload: "two".into(), response: Some("no".into()) }));
        store.commit(&[Change::Remove { key: 2 }]).unwrap();
        store.close().unwrap();
        assert_eq!(fs::read_dir(folder.path().join("events")).unwrap().count(), 0);
    }

    #[test]
    fn two_servers_at_once_have_a_file_each_and_what_one_left_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path());
        let one = Store::claim(&place, true).unwrap().unwrap();
        let two = Store::claim(&place, true).unwrap().unwrap();
        assert_ne!(one.path(), two.path());
        assert!(Store::claim_left(&place).is_empty());
        two.commit(&[put(7, "left")]).unwrap();
        drop(two);
        let left: Vec<Store> = Store::claim_left(&place).into_iter().map(Result::unwrap).collect();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].load(7).unwrap().unwrap().payload, "left");
    }

    #[test]
    fn what_is_no_store_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let place = EventPlace { folder: folder.path().to_owned(), server: "s".to_owned() };
        fs::write(folder.path().join("s.redb"), "some text that is no database at all").unwrap();
        let error = Store::claim(&place, true).unwrap_err();
        assert!(error.to_string().ends_with("is no queue of events, or damaged"), "{error}");
        assert_eq!(fs::read(folder.path().join("s.redb")).unwrap().len(), 36);
    }

    #[test]
    fn a_store_that_was_cut_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let place = EventPlace { folder: folder.path().to_owned(), server: "s".to_owned() };
        drop(Store::claim(&place, true).unwrap().unwrap());
        let path = folder.path().join("s.redb");
        let whole = fs::metadata(&path).unwrap().len();
        assert!(!is_cut(&File::open(&path).unwrap()).unwrap());
        for part in 1..9 {
            OpenOptions::new().write(true).open(&path).unwrap().set_len(whole * part / 9).unwrap();
            let error = Store::claim(&place, true).unwrap_err();
            assert!(error.to_string().ends_with("is no queue of events, or damaged"), "{error}");
            OpenOptions::new().write(true).open(&path).unwrap().set_len(whole).unwrap();
        }
    }

    #[test]
    fn another_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let place = EventPlace { folder: folder.path().to_owned(), server: "s".to_owned() };
        let database = Database::create(folder.path().join("s.redb")).unwrap();
        let write = database.begin_write().unwrap();
        write.open_table(ABOUT).unwrap().insert("version", 2).unwrap();
        write.commit().unwrap();
        drop(database);
        let error = Store::claim(&place, true).unwrap_err();
        assert!(matches!(error, StoreError::Version { found: 2, .. }), "{error:?}");
    }
}
