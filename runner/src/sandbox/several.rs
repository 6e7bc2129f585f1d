//! Programs that are started and ended one by one while the sandbox, with its mounts, `/tmp` and network, lives on.
//!
//! PID 1 starts them at our orders, so they have all that it has: namespaces, limits, filter, no rights. See `docs/decisions/pid-1.md`.

use std::collections::HashSet;
use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::num::NonZeroU32;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with};

use super::outcome::prepare;
use super::process::Reach;
use super::program::{Candidate, candidates};
use super::streams::{self, Streams, refuse_folder};
use super::{Command, Ended, InnerIdentity, LaunchError, Stdio, bare, plan, stragglers, sys};
use control::{Control, Order, PATIENCE, PLACES, await_input};
use strings::Strings;

pub(super) mod control;
mod strings;

/// A program for a sandbox that runs.
#[derive(Debug)]
pub struct Program {
    /// What is executed.
    pub command: Command,
    /// The whole environment, each string `NAME=value`.
    pub environment: Vec<CString>,
    /// The working directory inside.
    pub working_dir: PathBuf,
    /// Standard input, output and error.
    pub stdio: Stdio,
    /// What else it has open, by the number it has it under: up to 255, and 13 at the most; 0 to 2 in place of what the streams say. No folders, which would
    /// be a way past all walls.
    pub descriptors: Vec<(RawFd, OwnedFd)>,
}

/// Which program of a sandbox; no two have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProgramId(u64);

impl fmt::Display for ProgramId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a program is to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Member,
    Guest,
}

/// A program that runs.
#[derive(Debug)]
pub struct Started {
    /// What it is called.
    pub id: ProgramId,
    /// The read end of its standard output, when it was asked for as a pipe.
    pub stdout: Option<OwnedFd>,
    /// The read end of its standard error, likewise.
    pub stderr: Option<OwnedFd>,
}

/// A program's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProgramEnd {
    /// Which one it was.
    pub id: ProgramId,
    /// How it ended.
    pub ended: Ended,
    /// The largest resident set that it, or a child that it waited for, had.
    pub max_rss_bytes: u64,
}

/// Starts and ends the programs of one sandbox, at most 64 at a time. Dropped, it ends the sandbox.
///
/// All but [`Programs::ended`] block until PID 1 has answered, some 30 us; a start takes a fraction of a millisecond. If it does not answer in half a minute, which takes a broken machine or, where
/// there is no pid namespace, a hostile program, that is an error, everything inside is ended, and so are all later calls.
#[derive(Debug)]
pub struct Programs {
    control: Control,
    running: HashSet<u64>,
    last: u64,
    place: Place,
    /// The largest resident set of all that have ended; the sandbox counts it, too.
    largest: Arc<AtomicU64>,
}

/// What of its sandbox a program's start depends on.
#[derive(Debug)]
pub(super) struct Place {
    /// The host's ids of those inside, where they are others than ours.
    pub(super) owner: Option<InnerIdentity>,
    /// Where what would lie at places inside is in truth, if it is not there.
    pub(super) translation: Option<bare::Translation>,
    pub(super) has_network: bool,
    pub(super) reach: Reach,
    pub(super) first: libc::pid_t,
}

impl Programs {
    pub(super) fn new(control: OwnedFd, place: Place) -> Self {
        Self { control: Control::new(control), running: HashSet::new(), last: 0, place, largest: Arc::default() }
    }

    /// Where the largest resident set is noted, in bytes.
    pub(super) fn largest(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.largest)
    }

    /// Starts a program, in a session of its own. Returns once it has been executed, or could not be.
    pub fn start(&mut self, program: &Program) -> Result<Started, LaunchError> {
        self.start_as(program, Standing::Member)
    }

    /// The same of one that [`Programs::kill_others`] spares.
    pub fn start_guest(&mut self, program: &Program) -> Result<Started, LaunchError> {
        self.start_as(program, Standing::Guest)
    }

    fn start_as(&mut self, program: &Program, standing: Standing) -> Result<Started, LaunchError> {
        let Program { command, environment, working_dir, .. } = program;
        let (command, environment, working_dir) = match &self.place.translation {
            Some(translation) => translation.of(command, environment, working_dir),
            None => (command.clone(), environment.clone(), working_dir.clone()),
        };
        let (candidates, search) = candidates(&command, &environment).map_err(LaunchError::Program)?;
        let folder = plan::text(working_dir.as_os_str().as_encoded_bytes()).map_err(LaunchError::Program)?;
        for (number, descriptor) in &program.descriptors {
            refuse_folder(&format!("/dev/fd/{number}"), descriptor.as_fd())?;
            if (0..3).contains(number) {
                streams::give(descriptor, self.place.owner);
            }
        }
        let streams = Streams::open(program.stdio, self.place.owner)?;
        let strings =
            Strings::of((&candidates, search), &environment, &folder).map_err(prepare("put the program's strings into memory"))?;
        let (report, reported) = sys::pipe().map_err(prepare("make pipes"))?;
        let (places, given): (Vec<_>, Vec<_>) =
            places(&streams, program).map_err(prepare("give the program its descriptors"))?.into_iter().unzip();
        let descriptors: Vec<_> = [strings.file.as_fd(), reported.as_fd()].into_iter().chain(given).collect();
        let Strings { length, candidates: count, environment, goes_on, .. } = strings;
        let guest = standing == Standing::Guest;
        let order = Order::Start { length, candidates: count, environment, goes_on, guest };
        self.last += 1;
        let id = self.last;
        self.control.order(order, id, &places, &descriptors).map_err(prepare("start a process in the sandbox"))?;
        drop(reported);
        self.await_exec(report, id, (&candidates, working_dir))?;
        self.running.insert(id);
        let (stdout, stderr) = streams.pipes();
        Ok(Started { id: ProgramId(id), stdout, stderr })
    }

    /// The new process's own word: nothing if it has become the program.
    fn await_exec(&mut self, mut report: File, id: u64, (candidates, folder): (&[Candidate], PathBuf)) -> Result<(), LaunchError> {
        if let Err(error) = await_input(report.as_fd(), Instant::now() + PATIENCE) {
            // It may have gone meanwhile.
            let _ = self.control.order(Order::Signal(libc::SIGKILL), id, &[], &[]);
            return Err(prepare("execute the program in time")(error));
        }
        let mut words = [0; 8];
        if report.read_exact(&mut words).is_err() {
            return Ok(());
        }
        let [a, b, c, d, e, f, g, h] = words;
        let (at, source) = (i32::from_ne_bytes([a, b, c, d]), io::Error::from_raw_os_error(i32::from_ne_bytes([e, f, g, h])));
        let path = |candidate: &Candidate| candidate.path.to_string_lossy().into_owned();
        Err(match at {
            -2 => LaunchError::WorkingDir { path: folder, source },
            ..0 => prepare("prepare a process in the sandbox")(source),
            at => match candidates.get(at as usize) {
                Some(candidate) => LaunchError::Exec { path: path(candidate), source },
                None => LaunchError::NoCandidate { tried: candidates.iter().map(path).collect() },
            },
        })
    }

    /// Sends a signal to a program's process group, which is the program and what it has not put into others. One that has ended gets none.
    pub fn signal(&mut self, id: ProgramId, signal: i32) -> io::Result<()> {
        match self.control.order(Order::Signal(signal), id.0, &[], &[]) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            sent => sent.map(drop),
        }
    }

    /// Kills a program's process group. Its end is told as any other.
    pub fn kill(&mut self, id: ProgramId) -> io::Result<()> {
        self.signal(id, libc::SIGKILL)
    }

    /// Kills everything inside but PID 1, and waits until it is gone, with its memory, its ports and its locks. The ends are told as any other.
    pub fn kill_all(&mut self) -> io::Result<()> {
        self.control.order(Order::KillAll, 0, &[], &[]).map(drop)
    }

    /// The same but for guests and what they have started; what a guest has left behind is killed, too. Where there is no list of PID 1's children (no `/proc`, or a
    /// kernel without it in there), or there are descendants of the 16th degree, guests are not spared.
    pub fn kill_others(&mut self) -> io::Result<()> {
        self.control.order(Order::KillOthers, 0, &[], &[]).map(drop)
    }

    /// Stops everything inside but PID 1. A program sees nothing of it but the clock; who waits for a child, or is a debugger, may be told.
    pub fn stop_all(&mut self) -> io::Result<()> {
        self.signal_all(libc::SIGSTOP)
    }

    /// Lets everything inside go on.
    pub fn continue_all(&mut self) -> io::Result<()> {
        self.signal_all(libc::SIGCONT)
    }

    fn signal_all(&mut self, signal: i32) -> io::Result<()> {
        if self.place.reach.is_by_descent() {
            stragglers::signal(|| stragglers::descendants(self.place.first), signal);
            return Ok(());
        }
        match self.control.order(Order::SignalAll(signal), 0, &[], &[]) {
            // Nobody is there.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            sent => sent.map(drop),
        }
    }

    /// A new socket of the sandbox's network, close-on-exec, of a domain, type and protocol as `socket(2)` has them.
    pub fn socket(&mut self, domain: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
        if !self.place.has_network {
            let flags = SocketFlags::CLOEXEC;
            let (domain, kind) = (AddressFamily::from_raw(domain as u16), SocketType::from_raw(kind.cast_unsigned()));
            return Ok(socket_with(domain, kind, flags, NonZeroU32::new(protocol.cast_unsigned()).map(Protocol::from_raw))?);
        }
        self.control.order(Order::Socket { domain, kind, protocol }, 0, &[], &[])?.ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    /// The next program's end; each is told once, in the order of ends. Nothing is lost if the future is dropped, or if others are started meanwhile. An
    /// error is the end of the sandbox. Must run within a tokio runtime, always the same.
    pub async fn ended(&mut self) -> io::Result<ProgramEnd> {
        loop {
            let end = self.control.end().await?;
            self.largest.fetch_max(end.largest_kib * 1024, Ordering::Relaxed);
            // One that could not be executed was told of already.
            if self.running.remove(&end.id) {
                return Ok(ProgramEnd { id: ProgramId(end.id), ended: Ended::of(end.status), max_rss_bytes: end.largest_kib * 1024 });
            }
        }
    }
}

/// What the program has open, by number.
fn places<'a>(streams: &'a Streams, program: &'a Program) -> io::Result<Vec<(RawFd, BorrowedFd<'a>)>> {
    let mut places = streams.places();
    places.retain(|(number, _)| program.descriptors.iter().all(|(given, _)| given != number));
    places.extend(program.descriptors.iter().map(|(number, descriptor)| (*number, descriptor.as_fd())));
    let mut numbers: Vec<_> = places.iter().map(|(number, _)| *number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let sound = program.descriptors.iter().all(|(number, _)| (0..256).contains(number));
    if !sound || numbers.len() != places.len() || places.len() > PLACES {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(places)
}

#[cfg(test)]
#[path = "several_tests.rs"]
mod tests;
