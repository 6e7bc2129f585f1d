//! Files of `memfd_create` that somebody inside has open, found by a walk over all descriptors that goes on from look to look.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, readlinkat, statat};

use super::usage::{numbers, or_nothing};

/// Where the kernel says that a descriptor or a mapping is of `memfd_create`.
pub(super) const MEMORY_FILE: &str = "/memfd:";

/// The files, with the bytes in them, by inode.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// All that the last whole walk found, and what has been found since.
    files: HashMap<u64, u64>,
    /// What this walk has found so far.
    found: HashMap<u64, u64>,
    /// Processes that this walk has not come to yet.
    processes: Vec<String>,
    /// Descriptors, as paths, of the process that it is at.
    descriptors: Vec<String>,
    /// How many descriptors it has seen.
    walked: usize,
}

impl Walk {
    /// How long one look may walk.
    const SLICE: Duration = Duration::from_millis(5);
    /// At least so many in one look, however busy the machine is.
    const LEAST: usize = 256;
    /// Sixty-four times what one process can have; they take about 100 ms of a processor. With more of them, what is in them would be seen too late.
    const MOST: usize = 64 << 10;

    /// Goes on for a while. `processes` are asked for when a walk begins.
    pub(super) fn go_on(&mut self, proc: &OwnedFd, processes: impl FnOnce() -> Vec<String>) -> io::Result<()> {
        if self.processes.is_empty() && self.descriptors.is_empty() {
            (self.processes, self.walked) = (processes(), 0);
        }
        let began = Instant::now();
        let enough = self.walked + Self::LEAST;
        loop {
            while let Some(descriptor) = self.descriptors.pop() {
                self.walked += 1;
                self.add(proc, &descriptor)?;
                let late = self.walked > enough && self.walked.is_multiple_of(32) && began.elapsed() > Self::SLICE;
                if late || self.is_endless() {
                    return Ok(());
                }
            }
            let Some(process) = self.processes.pop() else { break };
            let folder = format!("{process}/fd");
            self.descriptors = numbers(proc, &folder)?.into_iter().map(|number| format!("{folder}/{number}")).collect();
        }
        self.files = std::mem::take(&mut self.found);
        Ok(())
    }

    /// The link is read first: looking at a file of a network could take forever.
    fn add(&mut self, proc: &OwnedFd, descriptor: &str) -> io::Result<()> {
        let target = or_nothing(readlinkat(proc, descriptor, Vec::new()).map(Some))?;
        if target.is_some_and(|target| target.as_bytes().starts_with(MEMORY_FILE.as_bytes()))
            && let Some(found) = or_nothing(statat(proc, descriptor, AtFlags::empty()).map(Some))?
        {
            let bytes = found.st_blocks.unsigned_abs() * 512;
            self.files.insert(found.st_ino, bytes);
            self.found.insert(found.st_ino, bytes);
        }
        Ok(())
    }

    /// Whether there are more descriptors than can be looked at.
    pub(super) fn is_endless(&self) -> bool {
        self.walked > Self::MOST
    }

    /// All bytes in these files.
    pub(super) fn total(&self) -> u64 {
        self.files.values().sum()
    }

    /// Whether somebody has the file with this inode open.
    pub(super) fn has(&self, inode: u64) -> bool {
        self.files.contains_key(&inode)
    }
}

#[cfg(test)]
#[path = "descriptors_tests.rs"]
mod tests;
