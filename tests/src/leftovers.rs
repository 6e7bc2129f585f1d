//! What must not exist once a run has ended: processes, mounts, temporary files.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Processes that call themselves `name`: probes set their own, and threads and children inherit it until they exec.
pub fn processes_named(name: &str) -> Vec<i32> {
    process_ids().filter(|id| fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|comm| comm.trim_end() == name)).collect()
}

/// All descendants of a process that the kernel shows, itself left out.
pub fn descendants(of: i32) -> Vec<i32> {
    let parents: Vec<(i32, i32)> = process_ids().filter_map(|id| Some((id, parent_of(id)?))).collect();
    let mut found = vec![of];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, its)| *its == parent).map(|(id, _)| *id));
        next += 1;
    }
    found.split_off(1)
}

fn process_ids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent_of(id: i32) -> Option<i32> {
    status_field(id, "PPid:")?.parse().ok()
}

/// One field of `/proc/ID/status`, as text.
pub fn status_field(id: i32, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(field)).map(|value| value.trim().to_owned())
}

/// Mounts in our namespace that lie below `folder` or come from it.
pub fn mounts_below(folder: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let text = folder.display().to_string();
    table.lines().filter(|line| line.contains(&text)).map(str::to_owned).collect()
}

/// Everything below a folder, the folder itself left out; what cannot be read counts as seen.
pub fn everything_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found
}

/// Waits until `condition` holds; for what the kernel does a moment after a process is gone. Not a way to order events of a test.
///
/// # Panics
/// When it does not hold within `limit`.
pub fn eventually(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < end, "not so within {limit:?}: {what}");
        thread::yield_now();
    }
}
