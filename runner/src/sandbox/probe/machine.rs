//! What else of this machine a sandbox depends on: system calls, limits on namespaces, the file system of the cache, control groups.

use std::fs;
use std::path::Path;

use nix::sys::statvfs::{FsFlags, statvfs};

use super::{Finding, Verdict, words};
use crate::sandbox::sys;

/// Calls that are answered, if only with a complaint about nonsense, where they exist. `ENOSYS` says that they do not, and for those that take no right
/// `EPERM` says that an outer filter refuses them.
const CALLS: [(&str, libc::c_long, bool, bool); 8] = [
    ("openat2", libc::SYS_openat2, true, false),
    ("open_tree", libc::SYS_open_tree, false, false),
    ("move_mount", libc::SYS_move_mount, false, false),
    ("mount_setattr", libc::SYS_mount_setattr, false, false),
    ("pidfd_open", libc::SYS_pidfd_open, true, false),
    ("pidfd_getfd", libc::SYS_pidfd_getfd, true, true),
    ("close_range", libc::SYS_close_range, true, true),
    ("landlock_create_ruleset", libc::SYS_landlock_create_ruleset, true, true),
];

/// Tries system calls that younger kernels have and outer containers may refuse.
pub fn calls() -> Vec<Finding> {
    let finding = |(name, number, takes_no_right, optional): (&str, libc::c_long, bool, bool)| {
        let error = sys::answer_to_nonsense(number);
        let refusals: &[i32] = if takes_no_right { &[libc::ENOSYS, libc::EPERM] } else { &[libc::ENOSYS] };
        let is_refused = error.raw_os_error().is_some_and(|errno| refusals.contains(&errno));
        let verdict = if is_refused { Verdict::Refused(words(&error)) } else { Verdict::Granted(None) };
        Finding::new(format!("call {name}"), verdict, optional)
    };
    CALLS.into_iter().map(finding).collect()
}

/// Looks at limits, control groups and the folder of the cache.
pub fn rest(cache: Option<&Path>) -> Vec<Finding> {
    let mut found: Vec<Finding> = ["user", "mnt", "pid", "ipc", "uts", "net"].into_iter().filter_map(limit).collect();
    found.push(Finding::new("limit memory by a control group", control_group(), true));
    if let Some(cache) = cache {
        found.push(Finding::new(format!("execute programs in {}", cache.display()), executable(cache), false));
    }
    found
}

fn limit(kind: &str) -> Option<Finding> {
    let text = fs::read_to_string(format!("/proc/sys/user/max_{kind}_namespaces")).ok()?;
    let verdict = match text.trim() {
        "0" => Verdict::Refused("the limit is 0".into()),
        limit => Verdict::Granted(Some(format!("up to {limit}"))),
    };
    Some(Finding::new(format!("have {kind} namespaces"), verdict, true))
}

/// Whether the group that we are in, of version 2 or of version 1's memory controller, may have groups of our own below it.
fn control_group() -> Verdict {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let folders = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let mount = match controllers {
            "" if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() => "/sys/fs/cgroup",
            "" => "/sys/fs/cgroup/unified",
            "memory" => "/sys/fs/cgroup/memory",
            _ => return None,
        };
        Some(Path::new(mount).join(path.trim_start_matches('/')))
    });
    let is_writable = |folder: &Path| nix::unistd::access(folder, nix::unistd::AccessFlags::W_OK).is_ok();
    match folders.filter(|folder| folder.is_dir()).find(|folder| is_writable(folder)) {
        Some(folder) => Verdict::Granted(Some(folder.display().to_string())),
        None => Verdict::Refused("none is ours".into()),
    }
}

/// The nearest folder that exists decides.
fn executable(cache: &Path) -> Verdict {
    let Some(folder) = cache.ancestors().find(|folder| folder.is_dir()) else { return Verdict::NotTried };
    match statvfs(folder) {
        Ok(found) if found.flags().contains(FsFlags::ST_NOEXEC) => Verdict::Refused("its file system is mounted `noexec`".into()),
        Ok(_) => Verdict::Granted(None),
        Err(errno) => Verdict::Refused(errno.desc().into()),
    }
}
