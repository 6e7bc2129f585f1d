//! `exec` and `top`: another command in a run's sandbox. Its streams are handed to the supervisor; nothing is copied but what comes from or goes to a terminal.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

use super::terminal::{self, Raw};
use super::{ends, find, of_daemon};
use crate::config::docker::{ExecAsked, Place};
use crate::exit_code::{ExitCode, Failure};
use crate::mode::async_runtime;
use crate::records::Phase;
use crate::records::control::{Answer, ExecOrder, Order};

/// `docker exec`.
pub(super) fn run(asked: &ExecAsked, place: &Place) -> Result<ExitCode, Failure> {
    let run = find(&asked.run, place)?;
    match run.state().map_err(of_daemon)?.phase {
        Phase::Running => {}
        Phase::Paused => {
            let error = format!("Container {} is paused, unpause the container before exec", run.record.id);
            return Err(Failure::could_not_run(error).in_front("Error response from daemon").with_code(ExitCode::FUNCTION_FAILED));
        }
        _ => {
            let error = format!("container {} is not running", run.record.id);
            return Err(Failure::could_not_run(error).in_front("Error response from daemon").with_code(ExitCode::FUNCTION_FAILED));
        }
    }
    if asked.interactive && asked.tty && !asked.detach {
        terminal::expect()?;
    }
    let streams = Streams::open(asked).map_err(Failure::could_not_run)?;
    let mut connection = ends::reach(&run)?;
    let order = Order::Exec(ExecOrder {
        command: asked.command.clone(),
        variables: variables(asked),
        working_dir: asked.working_dir.clone(),
        user: asked.user.clone(),
    });
    let given = [streams.given[0].as_fd(), streams.given[1].as_fd(), streams.given[2].as_fd()];
    connection.order(&order, &given).map_err(Failure::could_not_run)?;
    match connection.answer().map_err(Failure::could_not_run)? {
        Answer::Refused(why, code) => {
            return Err(Failure::could_not_run(format!("OCI runtime exec failed: exec failed: {why}"))
                .with_code(ExitCode::from_status(code.into())));
        }
        _ if asked.detach => return Ok(ExitCode::SUCCESS),
        _ => {}
    }
    let ended = streams.copy(|| connection.answer()).map_err(Failure::could_not_run)?;
    match ended {
        Answer::Ended(code) => Ok(ExitCode::from_status(code.into())),
        _ => Ok(ExitCode::from_signal(libc::SIGKILL)),
    }
}

/// What was given; and of a terminal docker says that it is one of xterm's kind.
fn variables(asked: &ExecAsked) -> Vec<(String, String)> {
    let terminal = ("TERM".to_owned(), "xterm".to_owned());
    asked.tty.then_some(terminal).into_iter().chain(asked.variables.iter().cloned()).collect()
}

/// The command's standard streams, and our ends of them.
struct Streams {
    given: [OwnedFd; 3],
    /// What is read for us, and where it goes.
    outputs: Vec<(OwnedFd, File)>,
    /// Where our input goes.
    input: Option<OwnedFd>,
    /// Our end of its terminal.
    master: Option<OwnedFd>,
}

impl Streams {
    fn open(asked: &ExecAsked) -> io::Result<Self> {
        let null = || Ok::<OwnedFd, io::Error>(File::options().read(true).write(true).open("/dev/null")?.into());
        if asked.detach {
            return Ok(Self { given: [null()?, null()?, null()?], outputs: Vec::new(), input: None, master: None });
        }
        let own = |stream: &dyn std::os::fd::AsFd| Ok::<File, io::Error>(File::from(stream.as_fd().try_clone_to_owned()?));
        if asked.tty {
            let (master, slave) = terminal::open(Some(io::stdout().as_fd()))?;
            let input = if asked.interactive { Some(master.try_clone()?) } else { None };
            return Ok(Self {
                given: [slave.try_clone()?, slave.try_clone()?, slave],
                outputs: vec![(master.try_clone()?, own(&io::stdout())?)],
                input,
                master: Some(master),
            });
        }
        let (out, write_out) = io::pipe()?;
        let (error, write_error) = io::pipe()?;
        let (stdin, input) = if asked.interactive {
            let (read, write) = io::pipe()?;
            (read.into(), Some(write.into()))
        } else {
            (null()?, None)
        };
        let outputs = vec![(out.into(), own(&io::stdout())?), (error.into(), own(&io::stderr())?)];
        Ok(Self { given: [stdin, write_out.into(), write_error.into()], outputs, input, master: None })
    }

    /// Copies until it has ended and all that it wrote is there.
    fn copy(self, ended: impl FnOnce() -> io::Result<Answer>) -> io::Result<Answer> {
        let Self { given, outputs, input, master } = self;
        drop(given);
        let raw = match &master {
            Some(_) if input.is_some() && terminal::is_one(io::stdin()) => Some(Raw::of(io::stdin())?),
            _ => None,
        };
        if let Some(input) = input {
            thread::spawn(move || copy(io::stdin().as_fd().try_clone_to_owned().map(File::from), input.into()));
        }
        if let Some(master) = master {
            thread::spawn(move || follow_size(&master));
        }
        let copying: Vec<_> = outputs.into_iter().map(|(from, to)| thread::spawn(move || copy(Ok(from.into()), to))).collect();
        // With the run everything in it ends.
        let answer =
            ended().or_else(|error| if error.kind() == io::ErrorKind::UnexpectedEof { Ok(Answer::Ended(137)) } else { Err(error) });
        for copying in copying {
            let _ = copying.join();
        }
        drop(raw);
        answer
    }
}

fn copy(from: io::Result<File>, mut to: File) {
    let Ok(mut from) = from else { return };
    let mut bytes = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..length]).is_err() {
            return;
        }
    }
}

/// The command's terminal is as large as ours.
fn follow_size(master: &OwnedFd) {
    let Ok(runtime) = async_runtime() else { return };
    runtime.block_on(async {
        let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
        while changes.recv().await.is_some() {
            terminal::resize(io::stdout().as_fd(), master.as_fd());
        }
    });
}
