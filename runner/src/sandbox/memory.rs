//! How much memory a sandbox uses, read from the host's `/proc`.

use std::fs;

/// The sum of the largest resident sets (`VmHWM`) of a process and all its descendants that live, in bytes. Pages shared by several count once for each.
pub(super) fn peak_resident_bytes(pid: libc::pid_t) -> u64 {
    family(pid).into_iter().map(peak_resident_bytes_of).sum()
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
    }
}
