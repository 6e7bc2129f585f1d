//! What a sandbox may use of memory and CPU, and who sees to it: a cgroup where one can be made, else a watcher of ours.
//!
//! A cgroup is made only when a limit asks for it; a sandbox without limits has none and pays for none. See `docs/decisions/memory-limit.md`.

mod cgroup;
mod descriptors;
mod hierarchy;
mod janitor;
mod shared;
mod systemd;
mod usage;
mod watch;

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};

use cgroup::{Cgroup, Site};
use hierarchy::Controller;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
pub(super) use usage::Inside;
use watch::{KernelKills, Watch};

use super::process::Reach;
use super::{Degradation, Enforcement, Protection};

/// What a sandbox may use at the most. Nothing given: as much as the host lets it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory of all processes together, pages of memory file systems included. Less than [`Limits::LEAST_MEMORY`] counts as that.
    pub memory_bytes: Option<u64>,
    /// Processor time.
    pub cpu: Option<CpuShare>,
}

impl Limits {
    /// Docker's least: with less a program cannot even be started.
    pub const LEAST_MEMORY: u64 = 6 << 20;
    /// Processes and threads together, as on Lambda.
    pub(super) const PROCESSES: u64 = 1024;

    pub(super) fn memory(&self) -> Option<u64> {
        self.memory_bytes.map(|bytes| bytes.max(Self::LEAST_MEMORY))
    }

    /// The backstop behind the watcher, for each process alone (`RLIMIT_DATA`): it counts what is reserved, too, of which Java wants more than half a
    /// gigabyte whatever it uses, and threads 8 MB each. So it is far above the limit, and stops only what no watcher could keep up with.
    pub(super) fn backstop(memory_bytes: u64) -> u64 {
        memory_bytes.saturating_mul(16).saturating_add(1 << 30)
    }
}

/// A share of processor time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuShare {
    /// Microseconds of processor time in 100 ms, on all processors together; 100 000 is one whole processor.
    pub micros_per_100_ms: u64,
}

/// Makes cgroups for the sandboxes of this process.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    /// Where they are made, or why none can be; looked for when first needed.
    site: Option<Result<Site, String>>,
}

impl Limiter {
    /// A cgroup for one sandbox, if its limits ask for one and there can be one. What only a cgroup can limit, and none does, is a degradation.
    pub(super) fn cgroup(&mut self, limits: &Limits, degradations: &mut Vec<Degradation>) -> Option<Cgroup> {
        let wanted: Vec<_> =
            [limits.memory_bytes.map(|_| Controller::Memory), limits.cpu.map(|_| Controller::Cpu)].into_iter().flatten().collect();
        if wanted.is_empty() {
            return None;
        }
        let made = match self.site.get_or_insert_with(Site::find) {
            Ok(site) => site.make(&wanted).map_err(|error| error.to_string()),
            Err(why) => Err(why.clone()),
        };
        let (cgroup, why) = match made {
            Ok(cgroup) => (cgroup, "no cgroup with this controller can be made here".to_owned()),
            Err(why) => (None, why),
        };
        let limited = limits.cpu.map(|share| match &cgroup {
            Some(cgroup) if cgroup.holds(Controller::Cpu) => cgroup.limit_cpu(share).map_err(|error| error.to_string()),
            _ => Err(why),
        });
        if let Some(Err(why)) = limited {
            degradations.push(Degradation { what: "limit the CPU share".into(), why });
        }
        if let Some(cgroup) = &cgroup {
            // Behind RLIMIT_NPROC, which refuses at less cost: a fork bomb is mostly refusals.
            let _ = cgroup.limit_processes(Limits::PROCESSES + 64);
        }
        cgroup
    }
}

/// What would hold limits of memory and of the CPU share in a run of this process, found by making cgroups; an error is why there is none.
pub(super) fn means() -> [Result<&'static str, String>; 2] {
    let mut site = Site::find();
    [Controller::Memory, Controller::Cpu].map(|controller| {
        let site = site.as_mut().map_err(|why| why.clone())?;
        let made = site.make(&[controller]).map_err(|error| error.to_string())?;
        let means = site.means(controller).filter(|_| made.is_some());
        means.ok_or_else(|| "no cgroup with this controller can be made here".to_owned())
    })
}

/// The limits of one running sandbox. Dropped, it leaves nothing.
#[derive(Debug, Default)]
pub(super) struct Guard {
    cgroup: Option<Cgroup>,
    watch: Option<Watch>,
    peak_bytes: u64,
    /// The limit that is held.
    limit_bytes: Option<u64>,
    killed: bool,
}

impl Guard {
    /// Puts the memory limit into force, now that nothing of the sandbox shares our memory any more: the kernel kills everyone who shares the memory of
    /// its victim.
    pub(super) fn begin(
        limits: &Limits,
        cgroup: Option<Cgroup>,
        inside: Option<Inside>,
        process: (&(libc::pid_t, OwnedFd), Reach),
        enforcement: &mut Enforcement,
    ) -> Self {
        let mut guard = Self { cgroup, ..Self::default() };
        let held = limits.memory().map(|bytes| guard.hold_memory(bytes, inside, process));
        if let Some(Ok(())) = held {
            guard.limit_bytes = limits.memory();
        }
        if let Some(Err(why)) = held {
            enforcement.degradations.push(Degradation { what: "limit memory".into(), why });
        }
        enforcement.protections.extend(guard.protection());
        guard
    }

    fn hold_memory(
        &mut self,
        bytes: u64,
        inside: Option<Inside>,
        (process, reach): (&(libc::pid_t, OwnedFd), Reach),
    ) -> Result<(), String> {
        let failed = |error: std::io::Error| error.to_string();
        let (first, pidfd) = (process.0, process.1.try_clone().map_err(failed)?);
        let kill = move || reach.kill_all(first, pidfd.as_fd());
        self.watch = match (&self.cgroup, inside) {
            (Some(cgroup), _) if cgroup.holds(Controller::Memory) => {
                cgroup.limit_memory(bytes).map_err(failed)?;
                // Version 1 kills one process only, and may choose another than the one that matters.
                let kills = cgroup.counts_single_kills().map(KernelKills::new);
                kills.map(|kills| Watch::start(kills, kill)).transpose().map_err(failed)?
            }
            (_, inside) => {
                let seen = inside.and_then(|inside| inside.narrowed(first)).or_else(|| Inside::from_outside(first));
                let seen = seen.ok_or("neither a cgroup can be made nor /proc be watched")?;
                Some(Watch::start(seen.gauge(bytes), kill).map_err(failed)?)
            }
        };
        Ok(())
    }

    /// What holds the memory limit, if there is one.
    fn protection(&self) -> Option<Protection> {
        match (&self.cgroup, &self.watch) {
            (Some(cgroup), _) if cgroup.holds(Controller::Memory) => Some(Protection::MemoryCgroup),
            (_, Some(_)) => Some(Protection::MemoryWatcher),
            _ => None,
        }
    }

    /// The limit, if it is held.
    pub(super) fn limit_bytes(&self) -> Option<u64> {
        self.limit_bytes
    }

    /// The most memory that a cgroup has counted so far, or that the watcher killed for; nothing otherwise.
    pub(super) fn peak_bytes(&mut self) -> Option<u64> {
        let counted = self.cgroup.as_ref().and_then(Cgroup::peak_bytes);
        let counted = counted.or_else(|| self.watch.as_ref().and_then(Watch::passed_bytes));
        self.peak_bytes = self.peak_bytes.max(counted.unwrap_or(0));
        (self.peak_bytes > 0).then_some(self.peak_bytes)
    }

    /// Whether the sandbox was killed since it used too much memory. Known for good once it has been settled.
    pub(super) fn killed_for_memory(&self) -> bool {
        self.killed
    }

    /// Whether somebody inside was killed for memory while the sandbox has not been seen to end: it is about to.
    pub(super) fn is_killing(&self) -> bool {
        let by_kernel = self.cgroup.as_ref().is_some_and(|cgroup| cgroup.kills() > 0);
        by_kernel || self.watch.as_ref().is_some_and(Watch::has_killed)
    }

    /// Reads the last figures of a sandbox that has ended, and removes its cgroup.
    pub(super) fn settle(&mut self) {
        self.peak_bytes();
        let by_kernel = self.cgroup.take().is_some_and(|cgroup| cgroup.kills() > 0);
        let by_us = self.watch.take().is_some_and(Watch::stop);
        self.killed |= by_kernel || by_us;
    }
}

/// As many descriptors for ourselves as this machine lets us have: what runs inside can make us need them, and a watcher that has none sees nothing. What
/// runs inside has Lambda's limit.
pub(super) fn raise_own_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // What cannot be raised stays.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}

/// The descriptors that a child joins its cgroups by.
pub(super) fn joins(cgroup: Option<&Cgroup>) -> Vec<RawFd> {
    cgroup.into_iter().flat_map(|cgroup| cgroup.joins().iter().map(OwnedFd::as_raw_fd)).collect()
}

/// Whether a cgroup holds the memory of what joins it.
pub(super) fn holds_memory(cgroup: Option<&Cgroup>) -> bool {
    cgroup.is_some_and(|cgroup| cgroup.holds(Controller::Memory))
}
