//! What else of this machine a sandbox depends on: system calls, limits on namespaces, the file system of the cache, cgroups.

use std::fs;
use std::path::Path;

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::AccessFlags;

use super::{Finding, Verdict, words};
use crate::sandbox::subids::COUNT;
use crate::sandbox::{limits, subids, sys};

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

/// Looks at limits, cgroups and the folder of the cache.
pub fn rest(cache: Option<&Path>) -> Vec<Finding> {
    let mut found: Vec<Finding> = ["user", "mnt", "pid", "ipc", "uts", "net"].into_iter().filter_map(limit).collect();
    found.extend(limits());
    found.push(range());
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

/// What would hold the limits of a run. Memory is always held; processor time by cgroups alone.
fn limits() -> [Finding; 2] {
    let [memory, cpu] = limits::means();
    let memory = memory.map_or_else(|why| format!("by a thread of undocked's that watches ({why})"), |means| format!("by {means}"));
    let cpu = cpu.map_or_else(Verdict::Refused, |means| Verdict::Granted(Some(format!("by {means}"))));
    [
        Finding::new("limit memory (`-m`)", Verdict::Granted(Some(memory)), true),
        Finding::new("limit the CPU share (`--cpu lambda`)", cpu, true),
    ]
}

/// Maps a range of ids, as `--userns subid` does.
fn range() -> Finding {
    let verdict = match subids::try_out() {
        Ok(ids) => {
            let (uid, gid) = ids.first();
            let by = ids.mapped_by().map_or_else(|| "undocked itself".to_owned(), |program| format!("`{}`", program.display()));
            Verdict::Granted(Some(format!("{COUNT} user ids from {uid}, group ids from {gid}, by {by}")))
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
            Verdict::Refused(format!("{error}{cause}"))
        }
    };
    Finding::new("map a range of subordinate ids (`--userns subid`)", verdict, true)
}

/// The nearest folder that exists decides.
fn executable(cache: &Path) -> Verdict {
    let Some(folder) = cache.ancestors().find(|folder| folder.is_dir()) else { return Verdict::NotTried };
    match statvfs(folder) {
        Ok(found) if found.flags().contains(FsFlags::ST_NOEXEC) => Verdict::Refused("its file system is mounted `noexec`".into()),
        Ok(_) if nix::unistd::access(folder, AccessFlags::W_OK | AccessFlags::X_OK).is_err() => {
            Verdict::Refused("it cannot be written to; `UNDOCKED_CACHE` names another place".into())
        }
        Ok(_) => Verdict::Granted(None),
        Err(errno) => Verdict::Refused(errno.desc().into()),
    }
}
