//! One sandbox's cgroup: made, filled in, read, removed. One folder in each hierarchy that has a controller for it.
//!
//! A lock on each folder says that its undocked lives: what one that was killed left, and its janitor could not remove, the next one does.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::CpuShare;
use super::hierarchy::{self, Controller, Parent, Version};
use super::janitor::Janitor;
use crate::sandbox::sys;

/// The period of CPU quotas, in microseconds: the kernel's own default.
const PERIOD_MICROS: u64 = 100_000;
/// The kernel's least quota, in microseconds.
const LEAST_QUOTA_MICROS: u64 = 1000;

/// What the names of our cgroups begin with; 16 hex digits of this process and a number follow.
const NAME: &str = "undocked-";

/// Where this process makes cgroups.
#[derive(Debug)]
pub(super) struct Site {
    parents: Vec<Parent>,
    /// What the names of this process's cgroups begin with.
    prefix: String,
    made: u64,
    /// Removes what is there when we end without doing so.
    _janitor: Janitor,
    /// Says that the cgroup we went into ourselves has an owner.
    _own_locks: Vec<File>,
}

impl Site {
    /// Looks for it. An error is why there is none.
    pub(super) fn find() -> Result<Self, String> {
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
        let prefix = format!("{NAME}{random:016x}-");
        let parents = hierarchy::parents(&prefix).map_err(|error| error.to_string())?;
        if parents.is_empty() {
            return Err("there is no cgroup here that we may make others in".into());
        }
        let own_leaves = parents.iter().filter(|parent| parent.own_leaf);
        let own_locks = own_leaves.filter_map(|parent| locked(&parent.folder.join(format!("{prefix}self")))).collect();
        let janitor = Janitor::start(&prefix, &parents).map_err(|error| format!("cannot start the janitor of cgroups: {error}"))?;
        for parent in &parents {
            sweep(&parent.folder);
        }
        Ok(Self { parents, prefix, made: 0, _janitor: janitor, _own_locks: own_locks })
    }

    /// What those made here limit a thing by; nothing if they cannot.
    pub(super) fn means(&self, controller: Controller) -> Option<&'static str> {
        let parent = self.parents.iter().find(|parent| parent.controllers.contains(&controller))?;
        let scope = hierarchy::scope(&self.prefix);
        Some(match parent.version {
            Version::One => "a cgroup of version 1",
            Version::Two if parent.folder.file_name().is_some_and(|name| *name == *scope) => "a cgroup in a scope of systemd's",
            Version::Two => "a cgroup of version 2",
        })
    }

    /// A cgroup that limits what is wanted, and processes, as far as there are controllers; none if there is none of those wanted.
    pub(super) fn make(&mut self, wanted: &[Controller]) -> io::Result<Option<Cgroup>> {
        let useful = |parent: &Parent| parent.controllers.iter().any(|one| wanted.contains(one));
        if !self.parents.iter().any(useful) {
            return Ok(None);
        }
        self.made += 1;
        let mut cgroup = Cgroup { folders: Vec::new(), joins: Vec::new() };
        for parent in &self.parents {
            if !useful(parent) && !parent.controllers.contains(&Controller::Pids) {
                continue;
            }
            let path = parent.folder.join(format!("{}{}", self.prefix, self.made));
            let lock = create(&path)?;
            // In the list first, so that it is removed whatever follows.
            let folder = Folder { path, version: parent.version, controllers: parent.controllers.clone(), _lock: lock };
            cgroup.folders.push(folder);
            let procs = cgroup.folders.last().map(|folder| folder.path.join("cgroup.procs")).unwrap_or_default();
            cgroup.joins.push(sys::above_standard(File::options().write(true).open(procs)?.into())?);
        }
        Ok(Some(cgroup))
    }
}

/// Makes and locks a folder. Another's sweep may come between the two: then it is made again.
fn create(path: &Path) -> io::Result<File> {
    for _ in 0..16 {
        fs::create_dir(path)?;
        if let Some(lock) = locked(path) {
            return Ok(lock);
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

fn locked(path: &Path) -> Option<File> {
    let folder = File::open(path).ok()?;
    folder.lock().ok()?;
    path.exists().then_some(folder)
}

/// Removes what has no living owner. Best effort: one that still has processes stays.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let ours = name.to_str().and_then(|name| name.strip_prefix(NAME)).and_then(|rest| rest.split_once('-'));
        if ours.is_some_and(|(token, _)| token.len() == 16 && token.bytes().all(|byte| byte.is_ascii_hexdigit()))
            && let Ok(folder) = File::open(entry.path())
            && !matches!(folder.try_lock(), Err(TryLockError::WouldBlock))
        {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// One sandbox's cgroup. Dropped, it is removed: its processes must have ended.
#[derive(Debug)]
pub(in crate::sandbox) struct Cgroup {
    folders: Vec<Folder>,
    joins: Vec<OwnedFd>,
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    version: Version,
    controllers: Vec<Controller>,
    _lock: File,
}

impl Cgroup {
    /// Whoever writes `0` to each of these is in it, and all its later children are.
    pub(super) fn joins(&self) -> &[OwnedFd] {
        &self.joins
    }

    pub(super) fn holds(&self, controller: Controller) -> bool {
        self.folder(controller).is_some()
    }

    fn folder(&self, controller: Controller) -> Option<&Folder> {
        self.folders.iter().find(|folder| folder.controllers.contains(&controller))
    }

    pub(super) fn limit_processes(&self, count: u64) -> io::Result<()> {
        self.folder(Controller::Pids).map_or(Ok(()), |folder| folder.write("pids.max", count))
    }

    pub(super) fn limit_cpu(&self, share: CpuShare) -> io::Result<()> {
        let Some(folder) = self.folder(Controller::Cpu) else { return Ok(()) };
        let quota = share.micros_per_100_ms.max(LEAST_QUOTA_MICROS);
        match folder.version {
            Version::One => {
                folder.write("cpu.cfs_period_us", PERIOD_MICROS)?;
                folder.write("cpu.cfs_quota_us", quota)
            }
            Version::Two => folder.write("cpu.max", format!("{quota} {PERIOD_MICROS}")),
        }
    }

    /// What does not fit is killed, not swapped out.
    pub(super) fn limit_memory(&self, bytes: u64) -> io::Result<()> {
        let Some(folder) = self.folder(Controller::Memory) else { return Ok(()) };
        match folder.version {
            Version::One => {
                folder.write("memory.limit_in_bytes", bytes)?;
                // Both are missing where the kernel does not account for swap.
                let _ = folder.write("memory.memsw.limit_in_bytes", bytes);
            }
            Version::Two => {
                let _ = folder.write("memory.swap.max", 0);
                folder.write("memory.oom.group", 1)?;
                folder.write("memory.max", bytes)?;
            }
        }
        Ok(())
    }

    /// The most memory that was in use.
    pub(super) fn peak_bytes(&self) -> Option<u64> {
        let folder = self.folder(Controller::Memory)?;
        let files = match folder.version {
            Version::One => ["memory.max_usage_in_bytes", "memory.usage_in_bytes"],
            // The first is there from Linux 5.19 on.
            Version::Two => ["memory.peak", "memory.current"],
        };
        files.iter().find_map(|file| fs::read_to_string(folder.path.join(file)).ok()?.trim().parse().ok())
    }

    /// How many processes the kernel killed here since memory ran out.
    pub(super) fn kills(&self) -> u64 {
        self.folder(Controller::Memory).and_then(|folder| kills(&folder.kills_file())).unwrap_or(0)
    }

    /// The file to look into for kills of single processes; none where the kernel kills all at once.
    pub(super) fn counts_single_kills(&self) -> Option<PathBuf> {
        self.folder(Controller::Memory).filter(|folder| folder.version == Version::One).map(Folder::kills_file)
    }
}

/// The count of kills in a file of the kernel's.
pub(super) fn kills(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

impl Folder {
    fn write(&self, file: &str, value: impl ToString) -> io::Result<()> {
        fs::write(self.path.join(file), value.to_string())
    }

    fn kills_file(&self) -> PathBuf {
        self.path.join(if self.version == Version::One { "memory.oom_control" } else { "memory.events" })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for folder in &self.folders {
            // The kernel lets go of the dead a moment after they have been waited for.
            for _ in 0..100 {
                match fs::remove_dir(&folder.path) {
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => thread::sleep(Duration::from_micros(200)),
                    // What stays, the janitor removes.
                    _ => break,
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "cgroup_tests.rs"]
mod tests;
