//! Running the binary under test and looking at all of what it did.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::Pid;
use serde_json::Value;

/// Longer than any honest run in these tests, on a busy machine too.
const LIMIT: Duration = Duration::from_secs(90);

/// What one of the two output streams is connected to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Pipe,
    Terminal,
}

/// A command to be run.
pub struct Run {
    command: Command,
    stdin: Option<Vec<u8>>,
    stdout: Stream,
    stderr: Stream,
    limit: Duration,
}

impl Run {
    /// `program` with a clean environment: `PATH` alone.
    pub fn new(program: impl AsRef<OsStr>) -> Run {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        Run { command, stdin: None, stdout: Stream::Pipe, stderr: Stream::Pipe, limit: LIMIT }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Run {
        self.command.arg(argument);
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Run {
        self.command.args(arguments);
        self
    }

    /// A variable of its own environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Run {
        self.command.env(name, value);
        self
    }

    /// Another working directory.
    #[must_use]
    pub fn current_dir(mut self, folder: impl AsRef<std::path::Path>) -> Run {
        self.command.current_dir(folder);
        self
    }

    /// Bytes on standard input, then its end; without this it is `/dev/null`.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Run {
        self.stdin = Some(bytes.into());
        self
    }

    /// Standard error is a terminal, of a kind that moves its cursor.
    #[must_use]
    pub fn stderr_on_terminal(mut self) -> Run {
        self.stderr = Stream::Terminal;
        self.command.env("TERM", "xterm");
        self
    }

    /// Standard output is a terminal.
    #[must_use]
    pub fn stdout_on_terminal(mut self) -> Run {
        self.stdout = Stream::Terminal;
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(mut self) -> Running {
        let stdout = connect(self.stdout);
        let stderr = connect(self.stderr);
        self.command.stdout(stdout.writer).stderr(stderr.writer);
        self.command.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        let program = self.command.get_program().to_owned();
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        // Its copies of the writing ends must not outlive this: a reader waits for the last one.
        drop(self.command);
        if let (Some(bytes), Some(mut pipe)) = (self.stdin, child.stdin.take()) {
            // A program may end without reading it all.
            thread::spawn(move || pipe.write_all(&bytes).is_ok());
        }
        let started = Instant::now();
        Running {
            stdout: Reader::of(stdout.reader),
            stderr: Reader::of(stderr.reader),
            id: child.id().cast_signed(),
            child: Some(child),
            started,
            limit: self.limit,
        }
    }

    /// Runs it to its end.
    pub fn finish(self) -> Ran {
        self.start().finish()
    }
}

struct Connection {
    reader: OwnedFd,
    writer: OwnedFd,
}

fn connect(stream: Stream) -> Connection {
    match stream {
        Stream::Pipe => {
            let (reader, writer) = std::io::pipe().expect("a pipe can be made");
            Connection { reader: reader.into(), writer: writer.into() }
        }
        Stream::Terminal => {
            let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
            let pair = openpty(&size, None).expect("a pseudo terminal can be made");
            let mut settings = tcgetattr(&pair.slave).expect("a terminal has settings");
            // No translation of line ends: the test wants the bytes.
            cfmakeraw(&mut settings);
            tcsetattr(&pair.slave, SetArg::TCSANOW, &settings).expect("they can be set");
            Connection { reader: pair.master, writer: pair.slave }
        }
    }
}

/// Bytes that a thread reads to the end, to be looked at meanwhile.
struct Reader {
    shared: Arc<(Mutex<Read_>, Condvar)>,
}

#[derive(Default)]
struct Read_ {
    bytes: Vec<u8>,
    ended: bool,
}

impl Reader {
    fn of(descriptor: OwnedFd) -> Reader {
        let shared: Arc<(Mutex<Read_>, Condvar)> = Arc::default();
        let writer = Arc::clone(&shared);
        thread::spawn(move || {
            let mut file = File::from(descriptor);
            let mut buffer = [0; 65536];
            loop {
                // A terminal's end is an error, EIO.
                let count = file.read(&mut buffer).unwrap_or(0);
                let (state, changed) = &*writer;
                let mut state = state.lock().expect("no reader panics");
                state.bytes.extend_from_slice(&buffer[..count]);
                state.ended = count == 0;
                changed.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        Reader { shared }
    }

    /// Waits until `enough` or the end; gives what there is, and whether it was enough.
    fn wait(&self, limit: Duration, enough: impl Fn(&Read_) -> bool) -> (Vec<u8>, bool) {
        let (state, changed) = &*self.shared;
        let state = state.lock().expect("no reader panics");
        let (state, timing) = changed.wait_timeout_while(state, limit, |state| !enough(state) && !state.ended).expect("no reader panics");
        (state.bytes.clone(), !timing.timed_out() && enough(&state))
    }
}

/// A command that runs.
pub struct Running {
    /// Until it is waited for.
    child: Option<Child>,
    id: i32,
    stdout: Reader,
    stderr: Reader,
    started: Instant,
    limit: Duration,
}

impl Running {
    /// Its process id.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// Waits until standard error holds a text.
    ///
    /// # Panics
    /// When it ends without, or takes too long.
    pub fn wait_for_stderr(&self, text: &str) {
        let (bytes, found) = self.stderr.wait(self.limit, |state| contains(&state.bytes, text.as_bytes()));
        assert!(found, "never said {text:?}: {}", String::from_utf8_lossy(&bytes));
    }

    /// Standard error as far as it has come.
    pub fn stderr_so_far(&self) -> String {
        String::from_utf8_lossy(&self.stderr.wait(Duration::ZERO, |_| true).0).into_owned()
    }

    /// Standard output as far as it has come.
    pub fn stdout_so_far(&self) -> String {
        String::from_utf8_lossy(&self.stdout.wait(Duration::ZERO, |_| true).0).into_owned()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When it is gone.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id()), signal).expect("a running process takes a signal");
    }

    /// Waits for its end and that of its output.
    ///
    /// # Panics
    /// When it takes too long, or when its output stays open after it has ended: then something it started still runs.
    pub fn finish(mut self) -> Ran {
        let mut child = self.child.take().expect("only this takes it");
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || sender.send(child.wait()).is_ok());
        let Ok(status) = receiver.recv_timeout(self.limit) else {
            let (stderr, _) = self.stderr.wait(Duration::ZERO, |_| true);
            kill(Pid::from_raw(self.id), Signal::SIGKILL).expect("a process that runs can be killed");
            panic!("still running after {:?}; standard error: {}", self.limit, String::from_utf8_lossy(&stderr));
        };
        let took = self.started.elapsed();
        let rest = Duration::from_secs(5);
        let (stdout, stdout_ended) = self.stdout.wait(rest, |state| state.ended);
        let (stderr, stderr_ended) = self.stderr.wait(rest, |state| state.ended);
        assert!(stdout_ended && stderr_ended, "ended, but something still holds its output: {}", String::from_utf8_lossy(&stderr));
        Ran { status: status.expect("a child can be waited for"), stdout, stderr, took }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed meanwhile: nothing of it may go on.
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len().max(1)).any(|window| window == part)
}

/// What a command did.
pub struct Ran {
    /// How it ended.
    pub status: ExitStatus,
    /// All of standard output.
    pub stdout: Vec<u8>,
    /// All of standard error.
    pub stderr: Vec<u8>,
    /// From start to end.
    pub took: Duration,
}

impl Ran {
    /// The exit code; 128 + n for a signal, as a shell says it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Standard output as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Asserts the exit code.
    ///
    /// # Panics
    /// When it is another; says all it wrote.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Ran {
        assert_eq!(self.code(), code, "\n--- stdout\n{}\n--- stderr\n{}", self.out(), self.err());
        self
    }

    /// The result line: standard output less its frame.
    ///
    /// # Panics
    /// When standard output is not framed as `\n<result>\n`.
    #[track_caller]
    pub fn result(&self) -> String {
        let out = self.out();
        let inner = out.strip_prefix('\n').and_then(|rest| rest.strip_suffix('\n'));
        inner.unwrap_or_else(|| panic!("standard output has no frame: {out:?}\n--- stderr\n{}", self.err())).to_owned()
    }

    /// The result as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        let text = self.result();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("not JSON ({error}): {text}\n--- stderr\n{}", self.err()))
    }

    /// Asserts that standard error holds a text.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn expect_err(self, text: &str) -> Ran {
        assert!(self.err().contains(text), "standard error lacks {text:?}:\n{}", self.err());
        self
    }
}
