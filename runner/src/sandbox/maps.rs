//! Id maps that the child may not write itself, under real root and of ranges: a thread of ours has them written, since the one that launches is suspended
//! until the child executes its program.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::subids::SubordinateIds;
use super::{InnerIdentity, idmap, sys};

/// What is mapped.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mapping {
    /// One id, to this id of the host.
    One(InnerIdentity, u32),
    /// A range.
    Range(SubordinateIds),
}

impl Mapping {
    fn write(self, pid: libc::pid_t) -> io::Result<()> {
        match self {
            Self::One(identity, host_id) => idmap::write_maps(pid, identity, host_id),
            Self::Range(ids) => ids.map(pid).map_err(io::Error::other),
        }
    }
}

/// What the launching thread keeps of a request for id maps.
pub(super) struct Maps {
    pub(super) wanted: File,
    pub(super) written: File,
    pub(super) pid: Arc<AtomicI32>,
    /// Why they were not written, sent before the child is told.
    pub(super) refused: Receiver<io::Error>,
}

/// What the mapping thread gets.
pub(super) struct MapJob {
    wanted: File,
    written: File,
    pid: Arc<AtomicI32>,
    refused: Sender<io::Error>,
    mapping: Mapping,
}

impl MapJob {
    pub(super) fn new(mapping: Mapping) -> io::Result<(Self, Maps)> {
        let (wanted_read, wanted_write) = sys::pipe()?;
        let (written_read, written_write) = sys::pipe()?;
        let pid = Arc::new(AtomicI32::new(0));
        // Unbounded: it holds one error at most.
        let (refused, why) = channel();
        let job = Self { wanted: wanted_read, written: written_write, pid: Arc::clone(&pid), refused, mapping };
        Ok((job, Maps { wanted: wanted_write, written: written_read, pid, refused: why }))
    }

    /// Waits for the child's word, writes its maps, and lets it go on. If the clone failed there is no word, only the end of the pipe.
    fn serve(mut self) {
        let mut word = [0];
        if self.wanted.read(&mut word).unwrap_or(0) == 0 {
            return;
        }
        let answer = match self.mapping.write(self.pid.load(Ordering::Acquire)) {
            Ok(()) => b'g',
            Err(error) => {
                // Fails only when nobody waits for it any more.
                let _ = self.refused.send(error);
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
