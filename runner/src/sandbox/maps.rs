//! Id maps under real root: a thread of ours writes them, since the one that launches is suspended until the child executes its program.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use super::{InnerIdentity, idmap, sys};

/// What the launching thread keeps of a request for id maps.
pub(super) struct Maps {
    pub(super) wanted: File,
    pub(super) written: File,
    pub(super) pid: Arc<AtomicI32>,
    pub(super) errno: Arc<AtomicI32>,
}

/// What the mapping thread gets.
pub(super) struct MapJob {
    wanted: File,
    written: File,
    pid: Arc<AtomicI32>,
    errno: Arc<AtomicI32>,
    identity: InnerIdentity,
    host_id: u32,
}

impl MapJob {
    pub(super) fn new(identity: InnerIdentity, host_id: u32) -> io::Result<(Self, Maps)> {
        let (wanted_read, wanted_write) = sys::pipe()?;
        let (written_read, written_write) = sys::pipe()?;
        let (pid, errno) = (Arc::new(AtomicI32::new(0)), Arc::new(AtomicI32::new(0)));
        let job = Self { wanted: wanted_read, written: written_write, pid: Arc::clone(&pid), errno: Arc::clone(&errno), identity, host_id };
        Ok((job, Maps { wanted: wanted_write, written: written_read, pid, errno }))
    }

    /// Waits for the child's word, writes its maps, and lets it go on. If the clone failed there is no word, only the end of the pipe.
    fn serve(mut self) {
        let mut word = [0];
        if self.wanted.read(&mut word).unwrap_or(0) == 0 {
            return;
        }
        let answer = match idmap::write_maps(self.pid.load(Ordering::Acquire), self.identity, self.host_id) {
            Ok(()) => b'g',
            Err(error) => {
                self.errno.store(error.raw_os_error().unwrap_or(libc::EIO), Ordering::Release);
                b'x'
            }
        };
        // Fails only when the child has been killed meanwhile.
        let _ = self.written.write_all(&[answer]);
    }
}

/// Starts the mapping thread.
pub(super) fn start_mapper() -> io::Result<Sender<MapJob>> {
    // Unbounded: launches are made one at a time, so it holds one job.
    let (jobs, received) = channel::<MapJob>();
    thread::Builder::new().name("id-mapper".into()).spawn(move || {
        sys::block_all_signals();
        received.into_iter().for_each(MapJob::serve);
    })?;
    Ok(jobs)
}
