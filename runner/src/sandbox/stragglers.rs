//! Finding and killing a sandbox's processes where no pid namespace ends them all at once.

use std::collections::HashSet;
use std::fs;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::Duration;

use super::{memory, sys};

/// How often it is looked for processes that have come meanwhile or are slow to end, with a pause between.
const ROUNDS: usize = 500;
const PAUSE: Duration = Duration::from_millis(2);

/// Kills all that `list` finds, until it finds none. What we may not kill, or what the kernel does not end in time, is left.
pub(super) fn kill(list: impl Fn() -> Vec<libc::pid_t>) {
    for _ in 0..ROUNDS {
        let found = list();
        if found.is_empty() {
            return;
        }
        let opened: Vec<_> = found.iter().filter_map(|pid| Some((*pid, sys::pidfd_open(*pid).ok()?))).collect();
        // Only what is on the list still, with its descriptor open, is what was found, and no later process of that number.
        let again = list();
        let same = opened.iter().filter(|(pid, _)| again.contains(pid));
        let killed: Vec<_> = same.map(|(_, descriptor)| sys::pidfd_kill(descriptor.as_fd(), libc::SIGKILL)).collect();
        let is_refused = |killed: &std::io::Result<()>| killed.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EPERM));
        if !killed.is_empty() && killed.iter().all(is_refused) {
            return;
        }
        thread::sleep(PAUSE);
    }
}

/// Sends a signal to all that `list` finds, until it finds nobody new.
pub(super) fn signal(list: impl Fn() -> Vec<libc::pid_t>, signal: libc::c_int) {
    let mut signaled = HashSet::new();
    for _ in 0..ROUNDS {
        let new: Vec<_> = list().into_iter().filter(|pid| signaled.insert(*pid)).collect();
        if new.is_empty() {
            return;
        }
        let opened: Vec<_> = new.iter().filter_map(|pid| Some((*pid, sys::pidfd_open(*pid).ok()?))).collect();
        // As above.
        let again = list();
        for (_, descriptor) in opened.iter().filter(|(pid, _)| again.contains(pid)) {
            // It may have ended.
            let _ = sys::pidfd_kill(descriptor.as_fd(), signal);
        }
    }
}

/// The living processes of a user of the machine but for one.
pub(super) fn of_user(uid: u32, without: libc::pid_t) -> Vec<libc::pid_t> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != without && is_of(*pid, uid)).collect()
}

fn is_of(pid: libc::pid_t, uid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_start);
    let is_user = field("Uid:").and_then(|ids| ids.split_whitespace().next()).is_some_and(|id| id.parse() == Ok(uid));
    is_user && !field("State:").is_some_and(|state| state.starts_with(['Z', 'X']))
}

/// Removes what a user of the machine has left of shared memory and of messages (sysvipc(7)); it would be there for good, unlimited. Sets of semaphores
/// hold next to nothing.
pub(super) fn remove_objects(uid: u32) {
    for (table, control) in [("shm", libc::SYS_shmctl), ("msg", libc::SYS_msgctl)] {
        let text = fs::read_to_string(format!("/proc/sysvipc/{table}")).unwrap_or_default();
        for id in objects_of(&text, uid) {
            // One that is gone already needs nothing.
            let _ = sys::remove_object(control, id);
        }
    }
}

/// The second column is the id, the eighth the owner; the first line names them.
fn objects_of(table: &str, uid: u32) -> Vec<i32> {
    let of_line = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        (columns.get(7)?.parse() == Ok(uid)).then(|| columns.get(1)?.parse().ok())?
    };
    table.lines().skip(1).filter_map(of_line).collect()
}

/// The living descendants of a process.
pub(super) fn descendants(pid: libc::pid_t) -> Vec<libc::pid_t> {
    let mut found: Vec<libc::pid_t> = Vec::new();
    let mut left = vec![pid];
    while let Some(parent) = left.pop() {
        for child in memory::children(parent) {
            if !found.contains(&child) {
                found.push(child);
                left.push(child);
            }
        }
    }
    found.retain(|pid| !is_ended(*pid));
    found
}

fn is_ended(pid: libc::pid_t) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before the state may hold anything but ends with the last parenthesis.
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn objects_are_told_by_their_owner() {
        let table = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime\n\
                     0          5   600               1048576    20    20      0  1883  1883  1883  1883 1\n\
                     0          6   600               1048576    20    20      0     0     0     0     0 1\n\
                     7         70   600               1048576    20    20      0  1883  1883  1883  1883 1\n";
        assert_eq!(objects_of(table, 1883), [5, 70]);
        assert_eq!(objects_of("", 1883), [0; 0]);
    }

    #[test]
    fn descendants_are_found_and_killed() {
        let mut shell = Command::new("sh").args(["-c", "sleep 600 & sleep 600"]).spawn().unwrap();
        let pid = shell.id() as libc::pid_t;
        while descendants(pid).len() < 2 {
            thread::yield_now();
        }
        kill(|| descendants(pid));
        assert!(!shell.wait().unwrap().success());
    }
}
