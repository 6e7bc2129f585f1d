//! How much memory a sandbox uses, seen from outside through its own `/proc`, where no cgroup counts.
//!
//! Three kinds of memory are added up. What processes have mapped: by `statm`, which counts a page once for each process that has it, and so never too
//! little. The pages of memory file systems, which belong to nobody once they are written: `/tmp`, files of `memfd_create`, System V segments. Before
//! anyone is killed the sum is taken again with shared pages counted once (PSS), which takes a thousand times longer.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, fstat, fstatfs, openat, readlinkat, statat};

use super::watch::{Gauge, Look, Verdict};

/// What the host holds of a running sandbox in order to look at its memory.
#[derive(Debug)]
pub(in crate::sandbox) struct Inside {
    /// The sandbox's own `/proc`, as a folder.
    pub(in crate::sandbox) proc: OwnedFd,
    /// Its first process, where that `/proc` is not its own: then its descendants alone are looked at.
    pub(in crate::sandbox) first: Option<libc::pid_t>,
    /// Its `/tmp`, if that is a memory file system of its own.
    pub(in crate::sandbox) tmp: Option<OwnedFd>,
    /// `/proc/sysvipc/shm`, opened inside: it shows the segments of whoever opened it.
    pub(in crate::sandbox) segments: Option<File>,
}

impl Inside {
    /// From our own `/proc`, for a sandbox that has none of its own.
    pub(in crate::sandbox) fn from_outside(first: libc::pid_t) -> Option<Self> {
        Some(Self { proc: File::open("/proc").ok()?.into(), first: Some(first), tmp: None, segments: None })
    }

    /// Where `/proc` inside is the one outside, everybody would be seen.
    pub(super) fn narrowed(mut self, first: libc::pid_t) -> Option<Self> {
        let outside = Self::from_outside(first)?;
        if fstat(&self.proc).ok()?.st_dev == fstat(&outside.proc).ok()?.st_dev {
            (self.proc, self.first) = (outside.proc, outside.first);
        }
        Some(self)
    }

    fn processes(&self) -> Vec<String> {
        let Some(first) = self.first else { return numbers(&self.proc, ".") };
        let mut found = vec![first.to_string()];
        let mut next = 0;
        while let Some(process) = found.get(next).cloned() {
            let threads = numbers(&self.proc, &format!("{process}/task"));
            let children = threads.iter().filter_map(|thread| read(&self.proc, &format!("{process}/task/{thread}/children")).ok());
            let children: Vec<String> = children.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect();
            found.extend(children);
            next += 1;
        }
        found
    }

    /// Something that says when more than so much is in use.
    pub(super) fn gauge(self, limit_bytes: u64) -> Usage {
        Usage { inside: self, limit_bytes, confirm_after: Instant::now() }
    }
}

/// Looks at one sandbox's memory.
pub(super) struct Usage {
    inside: Inside,
    limit_bytes: u64,
    /// Shared pages are not told apart again before this: it holds up the processes that are looked at.
    confirm_after: Instant,
}

impl Usage {
    /// The longest time between two looks.
    const LONGEST: Duration = Duration::from_millis(25);
    const SHORTEST: Duration = Duration::from_millis(5);
    /// Faster than memory can be filled by one processor.
    const BYTES_PER_MS: u64 = 4 << 20;

    /// The closer to the limit, the sooner again.
    fn within(&self, used_bytes: u64) -> Look {
        let left = self.limit_bytes.saturating_sub(used_bytes);
        let pause = Duration::from_millis(left / Self::BYTES_PER_MS).clamp(Self::SHORTEST, Self::LONGEST);
        Look { used_bytes, verdict: Verdict::Within(pause) }
    }
}

impl Gauge for Usage {
    fn look(&mut self) -> Look {
        let seen = Quick::of(&mut self.inside);
        if seen.most() <= self.limit_bytes {
            return self.within(seen.least());
        }
        let began = Instant::now();
        if began < self.confirm_after {
            return Look { used_bytes: seen.least().min(self.limit_bytes), verdict: Verdict::Within(Self::SHORTEST) };
        }
        let used = Exact::of(&self.inside, &seen).used();
        // A tenth of the time at the most, or a large sandbox would be slowed down by being looked at.
        self.confirm_after = Instant::now() + began.elapsed() * 10;
        if used > self.limit_bytes {
            return Look { used_bytes: used, verdict: Verdict::Over };
        }
        self.within(used)
    }
}

/// The quick sum.
#[derive(Debug, Default)]
struct Quick {
    processes: Vec<String>,
    /// Mapped and present, once for each process, in bytes.
    resident: u64,
    /// The part of it that comes from files, those of memory file systems included.
    from_files: u64,
    objects: Objects,
}

/// Pages of memory file systems, in bytes, mapped or not.
#[derive(Debug, Default)]
struct Objects {
    /// All of `/tmp`, and all segments.
    systems: u64,
    /// Files of `memfd_create` that are open, by inode.
    files: HashMap<u64, u64>,
}

impl Objects {
    fn total(&self) -> u64 {
        self.systems + self.files.values().sum::<u64>()
    }
}

impl Quick {
    fn of(inside: &mut Inside) -> Self {
        let mut seen = Self { processes: inside.processes(), ..Self::default() };
        seen.objects.systems = inside.tmp.as_ref().map_or(0, used_of_file_system) + inside.segments.as_mut().map_or(0, segments);
        let page = rustix::param::page_size() as u64;
        for process in &seen.processes {
            let statm = read(&inside.proc, &format!("{process}/statm")).unwrap_or_default();
            let mut pages = statm.split(' ').skip(1).map(|pages| pages.parse::<u64>().unwrap_or(0) * page);
            seen.resident += pages.next().unwrap_or(0);
            seen.from_files += pages.next().unwrap_or(0);
            open_memory_files(&inside.proc, process, &mut seen.objects.files);
        }
        seen
    }

    /// No less than what is in use: what is shared counts several times, and what is mapped from a memory file system twice.
    fn most(&self) -> u64 {
        self.resident + self.objects.total()
    }

    /// As if all that is mapped from files were the memory file systems'.
    fn least(&self) -> u64 {
        self.resident + self.objects.total().saturating_sub(self.from_files)
    }
}

/// The sum with every page counted once. The pages of ordinary files do not count: the kernel drops those when it wants to.
#[derive(Debug, Default)]
struct Exact {
    /// Memory of nobody but processes.
    anonymous: u64,
    /// Shared memory without a name, and memory files that nobody has open any more.
    nameless: u64,
    objects: u64,
}

impl Exact {
    fn of(inside: &Inside, seen: &Quick) -> Self {
        let mut exact = Self { objects: seen.objects.total(), ..Self::default() };
        for process in &seen.processes {
            let rollup = read(&inside.proc, &format!("{process}/smaps_rollup")).unwrap_or_default();
            match (field(&rollup, "Pss_Anon:"), field(&rollup, "Pss_Shmem:")) {
                (Some(anonymous), shared) => {
                    exact.anonymous += anonymous;
                    if shared.unwrap_or(0) > 0 {
                        exact.nameless += nameless(&inside.proc, process, &seen.objects.files);
                    }
                }
                // Not shown to us, or an older kernel: then what is shared counts once for each.
                (None, _) => {
                    let status = read(&inside.proc, &format!("{process}/status")).unwrap_or_default();
                    exact.anonymous += field(&status, "RssAnon:").unwrap_or(0);
                }
            }
        }
        exact
    }

    fn used(&self) -> u64 {
        self.anonymous + self.nameless + self.objects
    }
}

/// The names in a folder of `/proc` that are numbers.
fn numbers(proc: &OwnedFd, folder: &str) -> Vec<String> {
    let Ok(folder) = openat(proc, folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) else {
        return Vec::new();
    };
    let entries = Dir::read_from(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
    names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).collect()
}

/// A file of `/proc`; nothing when its process is gone.
fn read(proc: &OwnedFd, path: &str) -> io::Result<String> {
    let mut text = String::new();
    File::from(openat(proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?).read_to_string(&mut text)?;
    Ok(text)
}

/// A line `Name:  123 kB`, in bytes.
fn field(text: &str, name: &str) -> Option<u64> {
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

/// Where the kernel says that a descriptor or a mapping is of `memfd_create`.
const MEMORY_FILE: &str = "/memfd:";

/// Adds the files of `memfd_create` that a process has open. The link is read first: looking at a file of a network could take forever.
fn open_memory_files(proc: &OwnedFd, process: &str, files: &mut HashMap<u64, u64>) {
    let folder = format!("{process}/fd");
    for descriptor in numbers(proc, &folder) {
        let path = format!("{folder}/{descriptor}");
        let is_one = readlinkat(proc, &path, Vec::new()).is_ok_and(|target| target.as_bytes().starts_with(MEMORY_FILE.as_bytes()));
        if is_one && let Ok(found) = statat(proc, &path, AtFlags::empty()) {
            files.insert(found.st_ino, found.st_blocks.unsigned_abs() * 512);
        }
    }
}

/// A process's part of mapped shared memory that no file system counts: without a name, or of memory files not open any more.
fn nameless(proc: &OwnedFd, process: &str, open: &HashMap<u64, u64>) -> u64 {
    let maps = read(proc, &format!("{process}/smaps")).unwrap_or_default();
    let mut counts = false;
    let mut total = 0;
    for line in maps.lines() {
        if let Some(value) = line.strip_prefix("Pss:") {
            total += if counts { field(&format!("Pss:{value}"), "Pss:").unwrap_or(0) } else { 0 };
        } else if line.starts_with(|first: char| first.is_ascii_digit() || ('a'..='f').contains(&first)) {
            counts = counts_alone(line, open);
        }
    }
    total
}

/// Whether a mapping's own pages are to be counted (proc_pid_maps(5): range, rights, offset, device, inode, path).
fn counts_alone(mapping: &str, open: &HashMap<u64, u64>) -> bool {
    let mut parts = mapping.split_ascii_whitespace().skip(4);
    let (Some(inode), Some(path)) = (parts.next().and_then(|inode| inode.parse::<u64>().ok()), parts.next()) else {
        return false;
    };
    path == "/dev/zero" || path.starts_with(MEMORY_FILE) && !open.contains_key(&inode)
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
