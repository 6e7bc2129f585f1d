//! A running sandbox, seen from outside.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::limits::Guard;
use super::run_folder::RunFolder;
use super::{Degradation, Enforcement, LaunchError, NetworkDescriptors, Programs, memory, stragglers, sys};

/// A running sandbox. Dropping it kills and reaps all that runs inside.
#[derive(Debug)]
pub struct Sandbox {
    /// The read end of standard output, when it was asked for as a pipe.
    pub stdout: Option<OwnedFd>,
    /// The read end of standard error, likewise.
    pub stderr: Option<OwnedFd>,
    /// What the host holds of its network namespace, when it has its own.
    pub network: Option<NetworkDescriptors>,
    /// Starts and ends its programs, when it holds several: [`super::FirstProcess::Several`].
    pub programs: Option<Programs>,
    pid: libc::pid_t,
    pidfd: OwnedFd,
    /// Where an init writes the program's wait status.
    status: Option<File>,
    ended: Option<Ended>,
    peak_memory_bytes: u64,
    /// The largest resident set of the programs that have ended, where there are several.
    largest: Option<Arc<AtomicU64>>,
    guard: Guard,
    enforcement: Enforcement,
    reach: Reach,
    user: Option<u32>,
    /// The root, where it was copied. Removed after the last process has ended.
    _folder: Option<RunFolder>,
}

/// Whether the process of a pidfd ends within a time.
pub(super) fn ends_within(pidfd: BorrowedFd<'_>, time: Duration) -> bool {
    let milliseconds = u16::try_from(time.as_millis()).unwrap_or(u16::MAX);
    poll(&mut [PollFd::new(pidfd, PollFlags::POLLIN)], milliseconds).is_ok_and(|ready| ready > 0)
}

/// How the program ended; with it everything in the sandbox did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this status.
    Exited(i32),
    /// A signal killed it.
    Signaled {
        /// The signal's number.
        signal: i32,
        /// Whether the kernel wrote a core file.
        core_dumped: bool,
    },
}

/// How the processes of a sandbox are told from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// They are those of a pid namespace, which end with its first one.
    PidNamespace,
    /// They are all of this user of the machine.
    User(u32),
    /// They are the first one and its descendants, whose orphans it gets.
    Descendants {
        /// Whether Landlock lets their signals reach nobody else.
        signals_are_scoped: bool,
    },
}

/// How long a first process has for reaping.
const PATIENCE: Duration = Duration::from_millis(1500);

impl Reach {
    /// Kills everything inside; `first` is the first process. Fails if that has ended.
    pub(super) fn kill_all(self, first: libc::pid_t, pidfd: BorrowedFd<'_>) -> io::Result<()> {
        if self != Self::PidNamespace {
            self.kill_others(first);
            // With its last child, or where it holds several programs by this signal, the first process reaps all and ends. Killed before, it would leave ended processes to process 1, who need not care.
            sys::pidfd_kill(pidfd, libc::SIGCONT)?;
            if ends_within(pidfd, PATIENCE) {
                return Ok(());
            }
            // It finds its own without the descriptors that we may lack, and ends with them.
            sys::pidfd_kill(pidfd, libc::SIGPWR)?;
            if ends_within(pidfd, PATIENCE) {
                return Ok(());
            }
        }
        sys::pidfd_kill(pidfd, libc::SIGKILL)
    }

    /// Without a pid namespace: all but the first process, which gets the orphans until then.
    fn kill_others(self, first: libc::pid_t) {
        match self {
            Self::PidNamespace => {}
            Self::User(uid) => {
                stragglers::kill(|| stragglers::of_user(uid, first));
                stragglers::remove_objects(uid);
            }
            Self::Descendants { .. } => stragglers::kill(|| stragglers::descendants(first)),
        }
    }

    /// Whether they can only be told by who started whom.
    pub(super) fn is_by_descent(self) -> bool {
        self == Self::Descendants { signals_are_scoped: false }
    }

    /// The init's word for it.
    pub(super) fn letter(self) -> Option<u8> {
        match self {
            Self::PidNamespace => None,
            Self::User(_) | Self::Descendants { signals_are_scoped: true } => Some(b'u'),
            Self::Descendants { signals_are_scoped: false } => Some(b't'),
        }
    }
}

impl Ended {
    pub(super) fn of(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Signaled { signal: libc::WTERMSIG(status), core_dumped: libc::WCOREDUMP(status) }
        } else {
            Self::Exited(libc::WEXITSTATUS(status))
        }
    }
}

impl Sandbox {
    pub(super) fn new(
        (pid, pidfd): (libc::pid_t, OwnedFd),
        (stdout, stderr): (Option<OwnedFd>, Option<OwnedFd>),
        (status, programs): (Option<File>, Option<Programs>),
        network: Option<NetworkDescriptors>,
        (guard, enforcement): (Guard, Enforcement),
    ) -> Self {
        Self {
            stdout,
            stderr,
            network,
            largest: programs.as_ref().map(Programs::largest),
            programs,
            pid,
            pidfd,
            status,
            ended: None,
            peak_memory_bytes: 0,
            guard,
            enforcement,
            reach: Reach::PidNamespace,
            user: None,
            _folder: None,
        }
    }

    /// The same sandbox where no pid namespace holds it together.
    pub(super) fn held_by(mut self, reach: Reach, user: Option<u32>, folder: Option<RunFolder>) -> Self {
        self.reach = reach;
        self.user = user;
        self._folder = folder;
        self
    }

    /// The same sandbox, with the reason why it stands no higher.
    pub(super) fn because(mut self, refused: &LaunchError) -> Self {
        let degradation = match refused {
            LaunchError::Step { step, source } => Degradation::new(step.clone(), source),
            LaunchError::Prepare { step, source } => Degradation::new(*step, source),
            LaunchError::Source { path, source } => Degradation::new(format!("mount {}", path.display()), source),
            other => Degradation { what: other.to_string(), why: "it cannot be isolated so".to_owned() },
        };
        self.enforcement.degradations.insert(0, degradation);
        self
    }

    /// Something to wait on: readable once PID 1 has ended. Must run within a tokio runtime.
    pub fn watch_end(&self) -> io::Result<AsyncFd<OwnedFd>> {
        sys::watch(self.pidfd.try_clone()?, Interest::READABLE)
    }

    /// The id of PID 1 on the host. It stays ours until the sandbox is dropped or [`Sandbox::ended`] has answered.
    pub fn host_pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// The user of the machine whose processes are the sandbox's and no others, if there is one.
    pub(super) fn user(&self) -> Option<u32> {
        self.user
    }

    /// What stands around it.
    pub fn enforcement(&self) -> &Enforcement {
        &self.enforcement
    }

    /// Kills PID 1, and with it, by the kernel's rule for pid namespaces, every process inside. Await [`Sandbox::ended`] afterwards.
    pub fn kill(&self) {
        if self.ended.is_none() {
            // Fails only when it has ended already.
            let _ = self.reach.kill_all(self.pid, self.pidfd.as_fd());
        }
    }

    /// Sends a signal to the program; of several, [`Programs`] sends it. One that is PID 1 itself gets only those that it has a handler for (pid_namespaces(7)), and `SIGKILL`.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        if self.ended.is_some() { Ok(()) } else { sys::pidfd_kill(self.pidfd.as_fd(), signal) }
    }

    /// Waits until PID 1 has ended and all processes inside with it, and reaps it. Answers the same from then on. Must run within a tokio runtime.
    pub async fn ended(&mut self) -> io::Result<Ended> {
        loop {
            if let Some(ended) = self.try_ended()? {
                return Ok(ended);
            }
            let _ready = self.watch_end()?.readable().await?;
        }
    }

    /// Like [`Sandbox::ended`] for callers without a runtime.
    pub fn wait(&mut self) -> io::Result<Ended> {
        self.reap(true)?.ok_or_else(|| io::Error::other("the sandbox's first process vanished"))
    }

    fn try_ended(&mut self) -> io::Result<Option<Ended>> {
        self.reap(false)
    }

    fn reap(&mut self, block: bool) -> io::Result<Option<Ended>> {
        if self.ended.is_none() {
            self.ended = sys::wait_for(self.pid, block)?.map(|status| Ended::of(self.program_status().unwrap_or(status)));
            if self.ended.is_some() && matches!(self.reach, Reach::User(_)) {
                // The first process could be killed by the others.
                self.reach.kill_others(self.pid);
            }
            if self.ended.is_some() {
                self.guard.settle();
            }
        }
        Ok(self.ended)
    }

    /// What the init said of the program before it ended itself; nothing when it was killed. Does not block: with the init its end of the pipe is gone.
    fn program_status(&mut self) -> Option<i32> {
        let mut end = [0; 16];
        self.status.as_mut()?.read_exact(&mut end).ok()?;
        let (status, largest_kib) = end.split_at(8);
        let word = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
        self.count_largest(word(largest_kib) * 1024);
        Some(word(status) as i32)
    }

    /// A program that came and went between two samples. The kernel counts our own memory to it, in which it began: no more than that tells nothing.
    fn count_largest(&mut self, bytes: u64) {
        if bytes > memory::peak_resident_bytes_of(std::process::id() as libc::pid_t) {
            self.peak_memory_bytes = self.peak_memory_bytes.max(bytes);
        }
    }

    /// Whether everything inside was killed since it used more memory than it may. Known once it has ended.
    ///
    /// Where there are several programs also before: the kernel may have killed one, of whose end one hears first, and the rest, PID 1 included, follows
    /// within some 20 ms. So nothing can be started in such a sandbox any more.
    pub fn killed_for_memory(&self) -> bool {
        match self.ended {
            Some(Ended::Signaled { signal: libc::SIGKILL, .. }) => self.guard.killed_for_memory(),
            Some(_) => self.largest.is_some() && self.guard.killed_for_memory(),
            None => self.largest.is_some() && self.guard.is_killing(),
        }
    }

    /// The most memory seen in use so far, in bytes; takes a sample now. A cgroup counts what the sandbox caused, but not pages of files that were in
    /// memory before. Never more than the limit that is held: what passed it was killed.
    pub fn peak_memory_bytes(&mut self) -> u64 {
        if self.ended.is_none() {
            self.peak_memory_bytes = self.peak_memory_bytes.max(memory::peak_resident_bytes(self.pid));
        }
        let largest = self.largest.as_ref().map_or(0, |largest| largest.load(Ordering::Relaxed));
        let seen = self.peak_memory_bytes.max(largest).max(self.guard.peak_bytes().unwrap_or(0));
        seen.min(self.guard.limit_bytes().unwrap_or(u64::MAX))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.kill();
        // Nobody is left to tell; a failure means that it was reaped before.
        let _ = self.reap(true);
    }
}
