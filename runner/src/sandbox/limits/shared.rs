//! Shared memory that has neither a name nor an open descriptor: anonymous shared mappings, and mapped memory files that nobody has open any more.
//!
//! Its pages stay when a process drops them from its tables, and then no file of `/proc` that an ordinary user may read counts them: neither a process's
//! nor any object's. Two figures bound them together: how much such mappings can hold, and by how much all shared memory of this machine has grown.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Seek as _};

use super::descriptors::{MEMORY_FILE, Walk};
use super::usage::field;

/// By how much all shared memory of this machine has grown.
#[derive(Debug)]
pub(super) struct Growth {
    /// `/proc/meminfo`, if it can be read.
    file: Option<File>,
    /// The least that it has been: what others give back must not hide what comes here.
    least: u64,
}

impl Growth {
    /// From now on.
    pub(super) fn from_now() -> Self {
        let mut growth = Self { file: File::open("/proc/meminfo").ok(), least: u64::MAX };
        growth.bytes();
        growth
    }

    /// In bytes.
    pub(super) fn bytes(&mut self) -> u64 {
        let mut text = String::new();
        let read = self.file.as_mut().and_then(|file| file.rewind().and_then(|()| file.read_to_string(&mut text)).ok());
        let Some(now) = read.and_then(|_| field(&text, "Shmem:")) else { return 0 };
        self.least = self.least.min(now);
        now - self.least
    }
}

/// A process's part of the pages, by PSS, from its `smaps`.
pub(super) fn nameless(smaps: &str, open: &Walk) -> u64 {
    let mut counts = false;
    let mut total = 0;
    for line in smaps.lines() {
        if line.starts_with("Pss:") {
            total += if counts { field(line, "Pss:").unwrap_or(0) } else { 0 };
        } else if line.starts_with(|first: char| first.is_ascii_digit() || ('a'..='f').contains(&first)) {
            counts = mapping(line, open).is_some();
        }
    }
    total
}

/// How much a process's mappings can hold, by inode, from its `maps`.
pub(super) fn sizes(maps: &str, open: &Walk) -> HashMap<u64, u64> {
    let mut found = HashMap::new();
    for (inode, size) in maps.lines().filter_map(|line| mapping(line, open)) {
        *found.entry(inode).or_default() += size;
    }
    found
}

/// Inode and size of a mapping of that kind (proc_pid_maps(5): range, rights, offset, device, inode, path).
fn mapping(line: &str, open: &Walk) -> Option<(u64, u64)> {
    let mut parts = line.split_ascii_whitespace();
    let (start, end) = parts.next()?.split_once('-')?;
    let is_shared = parts.next()?.ends_with('s');
    let inode = parts.nth(2)?.parse().ok()?;
    let path = parts.next()?;
    // A private mapping of /dev/zero is memory of its process alone.
    let counts = path == "/dev/zero" && is_shared || path.starts_with(MEMORY_FILE) && !open.has(inode);
    let address = |text| u64::from_str_radix(text, 16).ok();
    counts.then_some((inode, address(end)?.saturating_sub(address(start)?)))
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
