//! The standard streams of a run that is supervised: what it writes goes to its log, and on to our own streams where they are attached.
//!
//! Our own descriptors 0, 1 and 2 are exchanged for pipes, or for a terminal of the run's own, as long as it runs: whatever is started, and whatever we say
//! ourselves, writes there.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::terminal::{self, Raw};
use crate::config::docker::{Attached, Stream};
use crate::records::log::LogWriter;
use crate::sandbox::give_terminal;

/// So much is read at once.
const PIECE: usize = 64 << 10;

/// What the run's streams are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Whether it has a terminal of its own.
    pub(super) tty: bool,
    /// Whether it reads our input.
    pub(super) interactive: bool,
}

/// The exchange. It is undone by [`Capture::end`], or when dropped.
#[derive(Debug)]
pub(super) struct Capture {
    /// Our own streams.
    own: Option<[OwnedFd; 3]>,
    pumps: Vec<JoinHandle<()>>,
    /// Our end of the run's terminal.
    master: Option<Arc<OwnedFd>>,
    /// The end of the pipe that is the run's standard input while nobody writes to it.
    input: Option<OwnedFd>,
    raw: Option<Raw>,
    /// Whether the run reads its terminal.
    reads: bool,
}

/// Whether the run learns of the end of what is handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AtEnd {
    Told,
    /// Others may attach.
    Untold,
}

impl Capture {
    /// Exchanges the streams; `attached` are those of ours that go on being used.
    pub(super) fn start(wanted: Wanted, attached: &Attached, log: &LogWriter) -> io::Result<Self> {
        let own = [dup(io::stdin())?, dup(io::stdout())?, dup(io::stderr())?];
        let mut capture = Self { own: None, pumps: Vec::new(), master: None, input: None, raw: None, reads: wanted.interactive };
        let begun = if wanted.tty { capture.terminal(wanted, attached, log, &own) } else { capture.pipes(wanted, attached, log, &own) };
        capture.own = Some(own);
        begun.map(|()| capture)
    }

    fn pipes(&mut self, wanted: Wanted, attached: &Attached, log: &LogWriter, own: &[OwnedFd; 3]) -> io::Result<()> {
        let [stdin, stdout, stderr] = own;
        let out = if attached.has(Stream::Stdout) { Some(stdout.try_clone()?) } else { None };
        let error = if attached.has(Stream::Stderr) { Some(stderr.try_clone()?) } else { None };
        for (name, own) in [("stdout", out), ("stderr", error)] {
            let (read, write) = io::pipe()?;
            let log = log.clone();
            self.pumps.push(thread::spawn(move || pump(OwnedFd::from(read).into(), name, own.map(File::from), &log)));
            match name {
                "stdout" => rustix::stdio::dup2_stdout(&write)?,
                _ => rustix::stdio::dup2_stderr(&write)?,
            }
        }
        match (wanted.interactive, attached.has(Stream::Stdin)) {
            // A terminal of ours is not handed on: it could be typed into.
            (true, true) if !terminal::is_one(stdin) => Ok(()),
            (true, true) => {
                let (read, write) = io::pipe()?;
                feed(stdin.try_clone()?, OwnedFd::from(write), AtEnd::Told);
                Ok(rustix::stdio::dup2_stdin(&read)?)
            }
            (true, false) => {
                let (read, write) = io::pipe()?;
                self.input = Some(write.into());
                Ok(rustix::stdio::dup2_stdin(&read)?)
            }
            (false, _) => Ok(rustix::stdio::dup2_stdin(&File::open("/dev/null")?)?),
        }
    }

    fn terminal(&mut self, wanted: Wanted, attached: &Attached, log: &LogWriter, own: &[OwnedFd; 3]) -> io::Result<()> {
        let [stdin, stdout, _] = own;
        let (master, slave) = terminal::open(Some(stdout.as_fd()))?;
        give_terminal(&slave)?;
        let master = Arc::new(master);
        let out = if attached.has(Stream::Stdout) { Some(File::from(stdout.try_clone()?)) } else { None };
        let (read, log) = (File::from(master.try_clone()?), log.clone());
        self.pumps.push(thread::spawn(move || pump(read, "stdout", out, &log)));
        if wanted.interactive && attached.has(Stream::Stdin) {
            if terminal::is_one(stdin) {
                self.raw = Some(Raw::of(stdin)?);
            }
            feed(stdin.try_clone()?, master.try_clone()?, AtEnd::Told);
        }
        self.master = Some(master);
        rustix::stdio::dup2_stdin(&slave)?;
        rustix::stdio::dup2_stdout(&slave)?;
        Ok(rustix::stdio::dup2_stderr(&slave)?)
    }

    /// Hands on what somebody who has attached types, if the run reads anything.
    pub(super) fn type_from(&self, from: OwnedFd) -> io::Result<()> {
        let to = self.input.as_ref().or(self.master.as_deref().filter(|_| self.reads));
        if let Some(to) = to {
            feed(from, to.try_clone()?, AtEnd::Untold);
        }
        Ok(())
    }

    /// Nobody inside reads the run's terminal: what is typed stays with ours, where keys end us as without one. It is shown there, and only there.
    pub(super) fn nobody_reads(&self) -> io::Result<()> {
        let Some(master) = &self.master else { return Ok(()) };
        terminal::restore();
        terminal::show_nothing_typed(master.as_fd())
    }

    /// Makes the run's terminal as large as ours.
    pub(super) fn resized(&self) {
        if let (Some(master), Some([_, stdout, _])) = (&self.master, &self.own) {
            terminal::resize(stdout.as_fd(), master.as_fd());
        }
    }

    /// Our end of the run's terminal, if it has one.
    pub(super) fn master(&self) -> Option<Arc<OwnedFd>> {
        self.master.clone()
    }

    /// Our own streams are ours again, once all that the run wrote has been handed on.
    pub(super) fn end(mut self) {
        self.put_back();
        for pump in self.pumps.drain(..) {
            let _ = pump.join();
        }
        self.raw = None;
    }

    fn put_back(&mut self) {
        let _ = io::stdout().flush();
        if let Some([stdin, stdout, stderr]) = self.own.take() {
            let _ = rustix::stdio::dup2_stdin(&stdin);
            let _ = rustix::stdio::dup2_stdout(&stdout);
            let _ = rustix::stdio::dup2_stderr(&stderr);
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.put_back();
    }
}

fn dup(stream: impl AsFd) -> io::Result<OwnedFd> {
    // Not below the standard streams, whatever was closed when we were started.
    Ok(rustix::io::fcntl_dupfd_cloexec(stream, 3)?)
}

/// Hands on what is written until nobody can write any more. Where our own stream has no reader left, the run's has none either.
fn pump(mut from: File, name: &str, mut own: Option<File>, log: &LogWriter) {
    let mut bytes = vec![0; PIECE];
    loop {
        match from.read(&mut bytes) {
            // A terminal's other end is closed.
            Ok(0) | Err(_) => return,
            Ok(length) => {
                let piece = &bytes[..length];
                if let Some(own) = &mut own
                    && own.write_all(piece).is_err()
                {
                    return;
                }
                log.add(name, piece);
            }
        }
    }
}

/// Hands our input on as long as there is some. Nobody waits for it: it ends with this process.
fn feed(from: OwnedFd, to: OwnedFd, at_end: AtEnd) {
    thread::spawn(move || {
        let (mut from, mut to) = (File::from(from), File::from(to));
        let is_terminal = terminal::is_one(&to);
        let mut bytes = vec![0; PIECE];
        loop {
            match from.read(&mut bytes) {
                Ok(0) | Err(_) => break,
                Ok(length) => {
                    if to.write_all(&bytes[..length]).is_err() {
                        return;
                    }
                }
            }
        }
        if is_terminal && at_end == AtEnd::Told {
            // End of input, as one types it.
            let _ = to.write_all(&[4]);
        }
    });
}
