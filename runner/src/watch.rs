//! Tells that files have changed below some folders, such as the code of functions while they run: once for all that changes in quick succession.
//!
//! By inotify(7), which reports neither reads nor what happens on the other side of a network file system. Knows nothing of functions.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

/// So long nothing may change before a change is told: editors and compilers write in many steps.
const QUIET: Duration = Duration::from_millis(20);
/// So long a change is kept back at most.
const LONGEST: Duration = Duration::from_millis(200);
/// Reads of events before others have their turn.
const READS_AT_ONCE: usize = 64;
/// The kernel's clock for files lags behind by a tick at most.
const CLOCK_LAG: Duration = Duration::from_millis(10);

const CHANGES: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// What stops a watch, or a part of it.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// No watcher can be made.
    #[error("cannot watch files")]
    Start {
        /// What the kernel said.
        source: io::Error,
    },
    /// This user has as many watches as it may have.
    #[error("cannot watch `{}` and what comes after it: too many folders are watched", folder.display())]
    TooMany {
        /// The first folder that is not watched.
        folder: PathBuf,
    },
}

impl WatchError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Start { .. } => "`sysctl fs.inotify.max_user_instances` says how many watchers a user may have",
            Self::TooMany { .. } => "raise it by `sysctl fs.inotify.max_user_watches=524288`",
        }
        .to_owned()
    }
}

/// Watches folders, and files, with all that is below them.
#[derive(Debug)]
pub struct Watcher {
    inotify: AsyncFd<OwnedFd>,
    roots: Vec<PathBuf>,
    /// What is watched, by the kernel's number of it.
    places: HashMap<i32, Place>,
    pending: Option<Pending>,
    /// When a change was told, or watching began.
    told_at: SystemTime,
    /// To be said.
    trouble: Option<WatchError>,
    is_full: bool,
}

/// A folder that is watched.
#[derive(Debug)]
enum Place {
    /// A root, or below one.
    Inside(PathBuf),
    /// Above a root that is no folder, or not there.
    Above(PathBuf),
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Self::Inside(path) | Self::Above(path) => path,
        }
    }
}

/// A change that is not yet told.
#[derive(Debug)]
struct Pending {
    path: PathBuf,
    first: Instant,
    last: Instant,
}

/// An event of the kernel's.
struct Event {
    place: i32,
    what: ReadFlags,
    name: Option<OsString>,
}

impl Watcher {
    /// Starts watching. A root that is not there is waited for. Must be called within a tokio runtime.
    pub fn new(roots: &[PathBuf]) -> Result<Self, WatchError> {
        let start = |source| WatchError::Start { source };
        let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(|error| start(error.into()))?;
        #[expect(deprecated, reason = "what replaces it is unsafe, and an owned descriptor stays the same")]
        let inotify = AsyncFd::new(inotify).map_err(start)?;
        let mut watcher = Self {
            inotify,
            roots: roots.to_vec(),
            places: HashMap::new(),
            pending: None,
            told_at: SystemTime::now(),
            trouble: None,
            is_full: false,
        };
        roots.iter().for_each(|root| watcher.watch_root(root));
        Ok(watcher)
    }

    /// What has come in the way of watching everything, once.
    pub fn trouble(&mut self) -> Option<WatchError> {
        self.trouble.take()
    }

    /// Waits for a change, and for a little quiet after it; gives the path of the first one. May be dropped and called anew at any time.
    pub async fn changed(&mut self) -> PathBuf {
        loop {
            let due = self.pending.as_ref().map(|pending| (pending.last + QUIET).min(pending.first + LONGEST));
            match due {
                None => self.take_events().await,
                Some(due) => tokio::select! {
                    biased;
                    () = sleep_until(due) => {
                        if let Some(pending) = self.pending.take() {
                            self.told_at = SystemTime::now();
                            return pending.path;
                        }
                    }
                    () = self.take_events() => {}
                },
            }
        }
    }

    async fn take_events(&mut self) {
        let mut events = Vec::new();
        let Ok(mut ready) = self.inotify.readable().await else { return std::future::pending().await };
        let mut room = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(ready.get_inner(), &mut room);
        let mut reads = 0;
        while reads < READS_AT_ONCE {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsString::from_vec(name.to_bytes().to_vec()));
                    events.push(Event { place: event.wd(), what: event.events(), name });
                }
                Err(Errno::INTR) => {}
                Err(_) => {
                    ready.clear_ready();
                    break;
                }
            }
            reads += usize::from(reader.is_buffer_empty());
        }
        for event in events {
            self.take(&event);
        }
    }

    fn take(&mut self, event: &Event) {
        let Event { place, what, name } = event;
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            // Some events are lost: everything may have changed.
            let first = self.roots.first().cloned().unwrap_or_default();
            self.note(first);
            self.roots.clone().iter().for_each(|root| self.watch_root(root));
            return;
        }
        if what.contains(ReadFlags::IGNORED) {
            self.places.remove(place);
            return;
        }
        match (self.places.get(place), name) {
            (None, _) => {}
            (Some(Place::Inside(folder)), Some(name)) => {
                let path = folder.join(name);
                self.take_inside(path, *what);
            }
            (Some(Place::Above(folder)), Some(name)) => {
                let path = folder.join(name);
                self.take_above(&path, *what);
            }
            (Some(place), None) if what.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT) => {
                let path = place.path().to_owned();
                self.lose(&path);
            }
            (Some(_), None) => {}
        }
    }

    /// Something in a folder that is a root, or below one.
    fn take_inside(&mut self, path: PathBuf, what: ReadFlags) {
        if path.file_name().is_some_and(is_scratch) {
            return;
        }
        if what.contains(ReadFlags::ISDIR) {
            if what.contains(ReadFlags::ATTRIB) {
                return;
            }
            if what.contains(ReadFlags::MOVED_FROM) {
                self.forget(&path);
            }
            if what.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
                self.watch_tree(&path);
            }
        } else if what.contains(ReadFlags::ATTRIB) && !self.is_newer(&path) {
            return;
        }
        self.note(path);
    }

    /// Something beside the way to a root, or on it.
    fn take_above(&mut self, path: &Path, what: ReadFlags) {
        let roots: Vec<_> = self.roots.iter().filter(|root| root.starts_with(path)).cloned().collect();
        if roots.is_empty() || what.contains(ReadFlags::ATTRIB) && (what.contains(ReadFlags::ISDIR) || !self.is_newer(path)) {
            return;
        }
        roots.iter().for_each(|root| self.watch_root(root));
        self.note(path.to_owned());
    }

    /// A watched folder is gone, or elsewhere.
    fn lose(&mut self, path: &Path) {
        let roots: Vec<_> = self.roots.iter().filter(|root| root.starts_with(path)).cloned().collect();
        self.forget(path);
        for root in roots {
            self.watch_root(&root);
            self.note(root);
        }
    }

    /// A link to a file that is made, or its rights, change attributes, too; only a new time of modification counts (`touch`).
    fn is_newer(&self, path: &Path) -> bool {
        let modified = fs::symlink_metadata(path).and_then(|found| found.modified());
        modified.is_ok_and(|modified| modified + CLOCK_LAG >= self.told_at)
    }

    fn note(&mut self, path: PathBuf) {
        let now = Instant::now();
        match &mut self.pending {
            Some(pending) => pending.last = now,
            None => self.pending = Some(Pending { path, first: now, last: now }),
        }
    }

    fn watch_root(&mut self, root: &Path) {
        // Again, since it may come or go meanwhile.
        for _ in 0..4 {
            self.watch_tree(root);
            if self.places.values().any(|place| matches!(place, Place::Inside(path) if path == root)) {
                return;
            }
            let Some(above) = root.ancestors().skip(1).find(|above| self.watch(above, || Place::Above(above.to_path_buf()))) else {
                return;
            };
            let on_the_way = root.strip_prefix(above).ok().and_then(|rest| rest.iter().next()).map(|name| above.join(name));
            if !on_the_way.is_some_and(|path| path.is_dir()) {
                return;
            }
        }
    }

    /// Watches a folder with all below it. What cannot be looked into is left out.
    fn watch_tree(&mut self, top: &Path) {
        let mut left = vec![top.to_owned()];
        while let Some(folder) = left.pop() {
            if self.is_full || !self.watch(&folder, || Place::Inside(folder.clone())) {
                continue;
            }
            // Read after the watch began: what comes meanwhile is seen by one or the other.
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !is_scratch(&entry.file_name()) {
                    left.push(entry.path());
                }
            }
        }
    }

    fn watch(&mut self, folder: &Path, place: impl FnOnce() -> Place) -> bool {
        match add_watch(self.inotify.get_ref(), folder, CHANGES) {
            Ok(number) => {
                let place = place();
                // One above a root may be below another one.
                if matches!(place, Place::Inside(_)) || !matches!(self.places.get(&number), Some(Place::Inside(_))) {
                    self.places.insert(number, place);
                }
                true
            }
            Err(Errno::NOSPC) => {
                if !self.is_full {
                    self.trouble = Some(WatchError::TooMany { folder: folder.to_owned() });
                }
                self.is_full = true;
                false
            }
            Err(_) => false,
        }
    }

    fn forget(&mut self, top: &Path) {
        let inotify = self.inotify.get_ref();
        self.places.retain(|&number, place| {
            let stays = !place.path().starts_with(top);
            if !stays {
                // It may have ended by itself.
                let _ = remove_watch(inotify, number);
            }
            stays
        });
        self.is_full = false;
    }
}

/// What tools write beside the code: caches, what editors keep for themselves, and the history of versions.
fn is_scratch(name: &OsStr) -> bool {
    let name = name.as_bytes();
    matches!(name, b"__pycache__" | b".git" | b"4913")
        || name.starts_with(b".#")
        || [&b"~"[..], b".swp", b".swx"].iter().any(|ending| name.ends_with(ending))
}

#[cfg(test)]
mod tests;
