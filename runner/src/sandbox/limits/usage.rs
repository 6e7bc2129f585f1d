//! How much memory a sandbox uses, seen from outside through its own `/proc`, where no cgroup counts.
//!
//! Three kinds of memory are added up. What processes have mapped: by `statm`, which counts a page once for each process that has it, and so never too
//! little. The pages of memory file systems, which belong to nobody once they are written: `/tmp`, files of `memfd_create`, System V segments. And shared
//! mappings whose pages no process has any more, by what the machine's shared memory has grown. Before anyone is killed the sum is taken again with
//! shared pages counted once (PSS), which takes a thousand times longer.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{Dir, Mode, OFlags, fstat, fstatfs, openat};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::descriptors::Walk;
use super::shared::{self, Growth};
use super::watch::{Gauge, Look, Verdict};

/// What the host holds of a running sandbox in order to look at its memory.
#[derive(Debug)]
pub(in crate::sandbox) struct Inside {
    /// The sandbox's own `/proc`, as a folder.
    pub(in crate::sandbox) proc: OwnedFd,
    /// Its first process, where that `/proc` is not its own: then its descendants alone are looked at.
    pub(in crate::sandbox) first: Option<libc::pid_t>,
    /// Its `/tmp` and `/dev/shm`, each if it is a memory file system of its own.
    pub(in crate::sandbox) in_memory: Vec<OwnedFd>,
    /// `/proc/sysvipc/shm`, opened inside: it shows the segments of whoever opened it.
    pub(in crate::sandbox) segments: Option<File>,
}

impl Inside {
    /// From our own `/proc`, for a sandbox that has none of its own.
    pub(in crate::sandbox) fn from_outside(first: libc::pid_t) -> Option<Self> {
        Some(Self { proc: File::open("/proc").ok()?.into(), first: Some(first), in_memory: Vec::new(), segments: None })
    }

    /// Where `/proc` inside is the one outside, everybody would be seen.
    pub(super) fn narrowed(mut self, first: libc::pid_t) -> Option<Self> {
        let outside = Self::from_outside(first)?;
        if fstat(&self.proc).ok()?.st_dev == fstat(&outside.proc).ok()?.st_dev {
            (self.proc, self.first) = (outside.proc, outside.first);
        }
        Some(self)
    }

    fn processes(&self) -> io::Result<Vec<String>> {
        let Some(first) = self.first else { return numbers(&self.proc, ".") };
        let mut found = vec![first.to_string()];
        let mut next = 0;
        while let Some(process) = found.get(next).cloned() {
            for thread in numbers(&self.proc, &format!("{process}/task"))? {
                let children = read(&self.proc, &format!("{process}/task/{thread}/children"))?;
                found.extend(children.split_whitespace().map(str::to_owned));
            }
            next += 1;
        }
        Ok(found)
    }

    /// Something that says when more than so much is in use.
    pub(super) fn gauge(self, limit_bytes: u64) -> Usage {
        let reserve = reserve(&self.proc);
        Usage {
            inside: self,
            limit_bytes,
            growth: Growth::from_now(),
            files: Walk::default(),
            reserve,
            blind: 0,
            confirm_after: Instant::now(),
            confirmed: Sums::default(),
        }
    }
}

/// Descriptors that a look can use when there are no others: what runs inside can make us run out of them.
fn reserve(proc: &OwnedFd) -> Vec<OwnedFd> {
    (0..Usage::RESERVE).filter_map(|_| proc.try_clone().ok()).collect()
}

/// Looks at one sandbox's memory.
pub(super) struct Usage {
    inside: Inside,
    limit_bytes: u64,
    growth: Growth,
    files: Walk,
    reserve: Vec<OwnedFd>,
    /// How many looks in a row have failed.
    blind: u32,
    /// Shared pages are not told apart again before this, unless much has come since: it holds up the processes that are looked at.
    confirm_after: Instant,
    /// What they were when they were told apart last.
    confirmed: Sums,
}

#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    used: u64,
    most: u64,
}

impl Usage {
    /// The longest time between two looks.
    const LONGEST: Duration = Duration::from_millis(25);
    const SHORTEST: Duration = Duration::from_millis(5);
    /// Faster than memory can be filled by one processor.
    const BYTES_PER_MS: u64 = 4 << 20;
    /// A folder and its list are open at once, never more.
    const RESERVE: usize = 2;
    /// So many looks in a row that fail are a sandbox that nobody watches.
    const BLIND: u32 = 4;

    /// The closer to the limit, the sooner again.
    fn within(&self, used_bytes: u64) -> Look {
        let left = self.limit_bytes.saturating_sub(used_bytes);
        let pause = Duration::from_millis(left / Self::BYTES_PER_MS).clamp(Self::SHORTEST, Self::LONGEST);
        Look { used_bytes, verdict: Verdict::Within(pause) }
    }

    fn see(&mut self) -> io::Result<Look> {
        let seen = Quick::of(&mut self.inside, &mut self.growth)?;
        let look = self.judge(&seen)?;
        if look.verdict == Verdict::Over {
            return Ok(look);
        }
        self.files.go_on(&self.inside.proc, || seen.processes.iter().map(|process| process.id.clone()).collect())?;
        if self.files.is_endless() {
            return Ok(Look { verdict: Verdict::Over, ..look });
        }
        self.judge(&seen)
    }

    fn judge(&mut self, seen: &Quick) -> io::Result<Look> {
        let objects = seen.systems + self.files.total();
        // No less than what is in use: what is shared counts several times, and what is mapped from a memory file system twice.
        let most = seen.resident + objects.max(seen.growth);
        // As if all that is mapped from files were the memory file systems'.
        let least = seen.resident + objects.saturating_sub(seen.from_files);
        if most <= self.limit_bytes {
            return Ok(self.within(least));
        }
        let began = Instant::now();
        let room = self.limit_bytes.saturating_sub(self.confirmed.used);
        if began < self.confirm_after && most.saturating_sub(self.confirmed.most) <= room {
            return Ok(Look { used_bytes: least.min(self.limit_bytes), verdict: Verdict::Within(Self::SHORTEST) });
        }
        let used = Exact::of(&self.inside, seen, &self.files)?.used();
        self.confirm_after = Instant::now() + self.confirm_pause(began.elapsed());
        self.confirmed = Sums { used, most };
        if used > self.limit_bytes {
            return Ok(Look { used_bytes: used, verdict: Verdict::Over });
        }
        Ok(self.within(used))
    }

    /// A tenth of the time, or a large sandbox would be slowed down by being looked at; but not so long that a small one outgrows its limit meanwhile.
    fn confirm_pause(&self, took: Duration) -> Duration {
        let longest = Self::LONGEST + Duration::from_millis(self.limit_bytes / (64 << 20));
        (took * 10).min(longest).max(took)
    }
}

impl Gauge for Usage {
    fn look(&mut self) -> Look {
        let began = Instant::now();
        self.reserve.clear();
        let seen = self.see();
        self.reserve = reserve(&self.inside.proc);
        self.blind = if seen.is_ok() { 0 } else { self.blind + 1 };
        match seen {
            // No processor is kept busy by looking.
            Ok(Look { used_bytes, verdict: Verdict::Within(pause) }) => {
                Look { used_bytes, verdict: Verdict::Within(pause.max(began.elapsed())) }
            }
            Ok(over) => over,
            Err(_) if self.blind < Self::BLIND => Look { used_bytes: 0, verdict: Verdict::Within(Self::SHORTEST) },
            Err(_) => Look { used_bytes: 0, verdict: Verdict::Over },
        }
    }
}

/// The quick sum.
#[derive(Debug, Default)]
struct Quick {
    processes: Vec<Process>,
    /// Mapped and present, once for each process, in bytes.
    resident: u64,
    /// The part of it that comes from files, those of memory file systems included.
    from_files: u64,
    /// The pages of all of `/tmp`, and of all segments, mapped or not.
    systems: u64,
    /// By how much the machine's shared memory has grown.
    growth: u64,
}

#[derive(Debug)]
struct Process {
    id: String,
    resident: u64,
}

impl Quick {
    fn of(inside: &mut Inside, growth: &mut Growth) -> io::Result<Self> {
        let systems = inside.in_memory.iter().map(used_of_file_system).sum::<u64>() + inside.segments.as_mut().map_or(0, segments);
        let mut seen = Self { systems, growth: growth.bytes(), ..Self::default() };
        let page = rustix::param::page_size() as u64;
        for id in inside.processes()? {
            let statm = read(&inside.proc, &format!("{id}/statm"))?;
            let mut pages = statm.split(' ').skip(1).map(|pages| pages.parse::<u64>().unwrap_or(0) * page);
            let resident = pages.next().unwrap_or(0);
            seen.resident += resident;
            seen.from_files += pages.next().unwrap_or(0);
            seen.processes.push(Process { id, resident });
        }
        Ok(seen)
    }
}

/// The sum with every page counted once. The pages of ordinary files do not count: the kernel drops those when it wants to.
#[derive(Debug, Default)]
struct Exact {
    /// Memory of nobody but processes.
    anonymous: u64,
    /// Shared memory without a name, and memory files that nobody has open any more: the pages that processes have.
    nameless: u64,
    /// The same mappings by their inodes, with the most that they can hold.
    sizes: HashMap<u64, u64>,
    /// What of the machine's new shared memory is in no object.
    unseen: u64,
    objects: u64,
}

impl Exact {
    fn of(inside: &Inside, seen: &Quick, files: &Walk) -> io::Result<Self> {
        let objects = seen.systems + files.total();
        let mut exact = Self { objects, unseen: seen.growth.saturating_sub(objects), ..Self::default() };
        let began = own_time();
        for process in &seen.processes {
            if own_time().saturating_sub(began) > Self::budget(seen.resident) {
                // What is shared counts once for each of these.
                exact.anonymous += process.resident;
            } else {
                exact.add(inside, &process.id, files)?;
            }
        }
        Ok(exact)
    }

    /// Many times what it takes where mappings are of a common size.
    fn budget(resident: u64) -> Duration {
        Duration::from_millis(100 + resident / (5 << 20))
    }

    fn add(&mut self, inside: &Inside, process: &str, files: &Walk) -> io::Result<()> {
        let rollup = read(&inside.proc, &format!("{process}/smaps_rollup"))?;
        let Some(anonymous) = field(&rollup, "Pss_Anon:") else {
            // Not shown to us, or an older kernel: then what is shared counts once for each.
            let status = read(&inside.proc, &format!("{process}/status"))?;
            self.anonymous += field(&status, "RssAnon:").unwrap_or(0);
            return Ok(());
        };
        self.anonymous += anonymous;
        if field(&rollup, "Pss_Shmem:").unwrap_or(0) > 0 {
            self.nameless += shared::nameless(&read(&inside.proc, &format!("{process}/smaps"))?, files);
        }
        if self.unseen > 0 {
            for (inode, size) in shared::sizes(&read(&inside.proc, &format!("{process}/maps"))?, files) {
                let most = self.sizes.entry(inode).or_default();
                *most = size.max(*most);
            }
        }
        Ok(())
    }

    fn used(&self) -> u64 {
        let hidden = self.sizes.values().sum::<u64>().min(self.unseen);
        self.anonymous + self.nameless.max(hidden) + self.objects
    }
}

/// The processor time of this thread: waiting for a processor is no fault of what is looked at.
fn own_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// What a process that has ended, or will not show itself, has: nothing. Any other failure is one to look.
pub(super) fn or_nothing<T: Default>(found: Result<T, Errno>) -> io::Result<T> {
    match found {
        Err(Errno::NOENT | Errno::SRCH | Errno::ACCESS | Errno::PERM) => Ok(T::default()),
        found => found.map_err(io::Error::from),
    }
}

/// The names in a folder of `/proc` that are numbers.
pub(super) fn numbers(proc: &OwnedFd, folder: &str) -> io::Result<Vec<String>> {
    or_nothing((|| {
        let folder = openat(proc, folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let mut found = Vec::new();
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_str().unwrap_or_default();
            if name.bytes().all(|byte| byte.is_ascii_digit()) {
                found.push(name.to_owned());
            }
        }
        Ok(found)
    })())
}

/// A file of `/proc`. Names in it may be anything but text.
pub(super) fn read(proc: &OwnedFd, path: &str) -> io::Result<String> {
    or_nothing((|| {
        let mut file = File::from(openat(proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    })())
}

/// A line `Name:  123 kB`, in bytes.
pub(super) fn field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn used_of_file_system(folder: &OwnedFd) -> u64 {
    fstatfs(folder).map_or(0, |found| found.f_blocks.saturating_sub(found.f_bfree) * found.f_bsize.unsigned_abs())
}

/// The pages of all System V segments (`/proc/sysvipc/shm`: `rss` and `swap` are the last two columns, in bytes).
fn segments(file: &mut File) -> u64 {
    let mut text = String::new();
    if file.rewind().and_then(|()| file.read_to_string(&mut text)).is_err() {
        return 0;
    }
    let bytes = |line: &str| line.split_whitespace().rev().take(2).filter_map(|bytes| bytes.parse::<u64>().ok()).sum::<u64>();
    text.lines().skip(1).map(bytes).sum()
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
