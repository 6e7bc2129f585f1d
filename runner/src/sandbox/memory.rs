//! How much memory a sandbox uses, read from the host's `/proc`.

use std::fs;

/// Of more processes than this, the others' shares are taken to be like those of these.
const MOST_LOOKED_AT: usize = 64;

/// The most memory that a process and its descendants are known to have used, in bytes: the largest resident set of one of them, or what all that live
/// have now, where a page that several share counts once (`Pss`, proc_pid_smaps(5)).
pub(super) fn peak_resident_bytes(pid: libc::pid_t) -> u64 {
    let family = family(pid);
    let largest = family.iter().map(|pid| peak_resident_bytes_of(*pid)).max().unwrap_or(0);
    // One program, and an init perhaps.
    if family.len() <= 2 {
        return largest;
    }
    let looked_at = family.len().min(MOST_LOOKED_AT) as u64;
    let together: u64 = family.iter().take(MOST_LOOKED_AT).map(|pid| proportional_bytes_of(*pid)).sum();
    largest.max(together * family.len() as u64 / looked_at)
}

/// What one process has of memory, shared pages by its share; 0 when it is gone.
fn proportional_bytes_of(pid: libc::pid_t) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    field(&rollup, "Pss:").map_or(0, |kib| kib * 1024)
}

/// A process and all its descendants that live.
pub(super) fn family(pid: libc::pid_t) -> Vec<libc::pid_t> {
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(pid) = found.get(at) {
        let born = children(*pid);
        found.extend(born);
        at += 1;
    }
    found
}

/// The largest resident set of one process, in bytes; 0 when it is gone.
pub(super) fn peak_resident_bytes_of(pid: libc::pid_t) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    field(&status, "VmHWM:").map_or(0, |kib| kib * 1024)
}

fn field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// The children of all threads (`/proc/PID/task/TID/children`, proc(5)).
pub(super) fn children(pid: libc::pid_t) -> Vec<libc::pid_t> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let lists = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_status_file() {
        let status = "Name:\tnode\nVmPeak:\t  9999 kB\nVmHWM:\t   4242 kB\n";
        assert_eq!(field(status, "VmHWM:"), Some(4242));
        assert_eq!(field("Name:\tkthread\n", "VmHWM:"), None);
    }

    #[test]
    fn counts_this_process() {
        let own = peak_resident_bytes(std::process::id() as libc::pid_t);
        assert!(own > 100 * 1024, "{own}");
        assert!(proportional_bytes_of(std::process::id() as libc::pid_t) > 100 * 1024);
    }
}
