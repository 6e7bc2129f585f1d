//! The store as the fleet's tasks use it: changes that come together are written together, and nobody's thread is blocked.

use std::collections::HashSet;
use std::error::Error;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking, spawn_local};

use super::course::Course;
use super::store::{Change, EventPlace, Store, StoreError, Stored};

/// Changes that wait for the disk. Whoever has more to write waits.
const CHANGES_AHEAD: usize = 64;

/// What could not be done, for people.
pub(in crate::fleet) type Reason = String;

struct Request {
    change: Change,
    done: oneshot::Sender<Result<(), Reason>>,
}

/// A store that is open.
#[derive(Debug, Clone)]
pub(in crate::fleet) struct Ledger {
    store: Arc<Store>,
    requests: mpsc::Sender<Request>,
    next_key: Arc<AtomicU64>,
    writer: Rc<JoinHandle<()>>,
}

/// What was found.
#[derive(Debug)]
pub(in crate::fleet) struct Opened {
    pub(in crate::fleet) ledger: Ledger,
    pub(in crate::fleet) courses: Vec<(u64, Course)>,
    /// What could not be taken over, for people.
    pub(in crate::fleet) complaints: Vec<Reason>,
}

impl Ledger {
    /// Opens the server's store and takes over what others like it left. Without `make` there may be none.
    pub(in crate::fleet) async fn open(place: EventPlace, make: bool) -> Result<Option<Opened>, Reason> {
        let opened = spawn_blocking(move || open(&place, make)).await.map_err(|error| error.to_string())?;
        let Some((store, courses, complaints)) = opened.map_err(|error| in_a_line(&error))? else { return Ok(None) };
        let next_key = courses.iter().map(|(key, _)| key + 1).max().unwrap_or(1);
        let (requests, received) = mpsc::channel(CHANGES_AHEAD);
        let store = Arc::new(store);
        let writer = Rc::new(spawn_local(write_all(store.clone(), received)));
        let ledger = Self { store, requests, next_key: Arc::new(AtomicU64::new(next_key)), writer };
        Ok(Some(Opened { ledger, courses, complaints }))
    }

    /// Stores a new event. When this returns its key, it is on the disk.
    pub(in crate::fleet) async fn put(&self, course: Course, payload: Bytes) -> Result<u64, Reason> {
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        self.change(Change::Put { key, course: Box::new(course), payload, response: None }).await?;
        Ok(key)
    }

    /// Makes a change, and waits until it is on the disk.
    pub(in crate::fleet) async fn change(&self, change: Change) -> Result<(), Reason> {
        let (done, told) = oneshot::channel();
        let gone = || "the writer of events has ended".to_owned();
        self.requests.send(Request { change, done }).await.map_err(|_| gone())?;
        told.await.map_err(|_| gone())?
    }

    /// One event, which must be there.
    pub(in crate::fleet) async fn load(&self, key: u64) -> Result<Stored, Reason> {
        let store = self.store.clone();
        let loaded = spawn_blocking(move || store.load(key)).await.map_err(|error| error.to_string())?;
        loaded.map_err(|error| in_a_line(&error))?.ok_or_else(|| "it is not there any more".to_owned())
    }

    /// Lets go of the store after all that was to be written. Others that hold this ledger keep it.
    pub(in crate::fleet) async fn close(self) {
        let Self { store, requests, writer, .. } = self;
        drop(requests);
        if let Ok(writer) = Rc::try_unwrap(writer) {
            // It ends with its last sender.
            let _ = writer.await;
        }
        if let Ok(store) = Arc::try_unwrap(store) {
            // Nothing is lost if this fails: it only tidies up.
            let _ = spawn_blocking(move || store.close()).await;
        }
    }
}

async fn write_all(store: Arc<Store>, mut requests: mpsc::Receiver<Request>) {
    let mut batch = Vec::with_capacity(CHANGES_AHEAD);
    while requests.recv_many(&mut batch, CHANGES_AHEAD).await > 0 {
        let (changes, waiting): (Vec<_>, Vec<_>) = batch.drain(..).map(|request| (request.change, request.done)).unzip();
        let writer = store.clone();
        let written = spawn_blocking(move || writer.commit(&changes).map_err(|error| in_a_line(&error))).await;
        let written = written.unwrap_or_else(|error| Err(error.to_string()));
        for done in waiting {
            // Whoever has gone need not know.
            let _ = done.send(written.clone());
        }
    }
}

type Found = (Store, Vec<(u64, Course)>, Vec<Reason>);

fn open(place: &EventPlace, make: bool) -> Result<Option<Found>, StoreError> {
    let Some(store) = Store::claim(place, make)? else { return Ok(None) };
    let mut complaints = Vec::new();
    if store.path() != place.first() {
        let (first, ours) = (place.first(), store.path());
        complaints.push(format!("another server like this one holds `{}`: events are queued in `{}`", first.display(), ours.display()));
    }
    for left in Store::claim_left(place) {
        if let Err(error) = left.and_then(|left| take_over(&store, left)) {
            complaints.push(in_a_line(&error));
        }
    }
    let courses = store.courses()?;
    Ok(Some((store, courses, complaints)))
}

/// Moves all events from one store to another. Killed in between, some are in both: the next time they are recognised by their ids.
fn take_over(store: &Store, left: Store) -> Result<(), StoreError> {
    let ours = store.courses()?;
    let known: HashSet<&str> = ours.iter().map(|(_, course)| course.request_id.as_str()).collect();
    let mut next_key = ours.iter().map(|(key, _)| key + 1).max().unwrap_or(1);
    for (key, course) in left.courses()? {
        if !known.contains(course.request_id.as_str())
            && let Some(Stored { course, payload, response }) = left.load(key)?
        {
            store.commit(&[Change::Put { key: next_key, course: Box::new(course), payload, response }])?;
            next_key += 1;
        }
        left.commit(&[Change::Remove { key }])?;
    }
    left.close()
}

/// An error with its causes.
pub(in crate::fleet) fn in_a_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::super::course::tests::course;
    use super::*;

    #[tokio::test]
    async fn what_another_server_left_is_taken_over_once() {
        LocalSet::new()
            .run_until(async {
                let folder = tempfile::tempdir().unwrap();
                let place = EventPlace { folder: folder.path().to_owned(), server: "s".to_owned() };
                assert!(Ledger::open(place.clone(), false).await.unwrap().is_none());
                let one = Ledger::open(place.clone(), true).await.unwrap().unwrap().ledger;
                let two = Ledger::open(place.clone(), true).await.unwrap().unwrap().ledger;
                let named = |id: &str| Course { request_id: id.to_owned(), ..course() };
                one.put(named("a"), "in one".into()).await.unwrap();
                for id in ["a", "b"] {
                    two.put(named(id), "in two".into()).await.unwrap();
                }
                one.close().await;
                two.close().await;
                let Opened { ledger, courses, complaints } = Ledger::open(place, false).await.unwrap().unwrap();
                let ids: Vec<(u64, &str)> = courses.iter().map(|(key, course)| (*key, course.request_id.as_str())).collect();
                assert_eq!((ids, complaints), (vec![(1, "a"), (2, "b")], Vec::new()));
                assert_eq!(ledger.load(2).await.unwrap().payload, "in two");
                assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
                for key in [1, 2] {
                    ledger.change(Change::Remove { key }).await.unwrap();
                }
                ledger.close().await;
                assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
            })
            .await;
    }
}
