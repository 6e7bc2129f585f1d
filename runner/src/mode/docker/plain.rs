//! A plain command whose sandbox can be asked for more: further commands in it, signals, a pause.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;

use rustix::process::{Pid, prlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;

use super::capture::Capture;
use super::daemon::exec_refused;
use super::desk::Asked;
use super::terminal;
use crate::config::docker::Ulimit;
use crate::environment::connections::Connections;
use crate::environment::variables::EnvVars;
use crate::exit_code::{ExitCode, Failure};
use crate::mode::once::NotRun;
use crate::mode::shell::{not_launched, not_planned, say};
use crate::mode::signals::Signals;
use crate::mode::underway::Underway;
use crate::records::Phase;
use crate::records::control::{Answer, ExecOrder, Order};
use crate::sandbox::network::Networking;
use crate::sandbox::{
    Command, Ended, FirstProcess, Input, LaunchError, Launcher, Output, Program, ProgramEnd, ProgramId, Programs, SandboxRequest, Stdio,
    plan,
};

/// After so many signals that end others, it is killed: as docker's client gives up then.
const PATIENCE_IN_SIGNALS: u32 = 3;
/// What a program that is given descriptors of its own has beside them.
const NOTHING: Stdio = Stdio { input: Input::Null, output: Output::Pipe, error: Output::Pipe };

/// A command and where it runs.
pub(super) struct Plain {
    pub(super) request: SandboxRequest,
    pub(super) variables: EnvVars,
    pub(super) networking: Rc<Networking>,
    /// What is done with signals that we get.
    pub(super) pass_signals: bool,
}

/// How it ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlainEnd {
    pub(super) code: ExitCode,
    pub(super) out_of_memory: bool,
}

/// Who is asked while it runs.
pub(super) struct Asking<'a> {
    pub(super) orders: &'a mut UnboundedReceiver<Asked>,
    pub(super) signals: &'a mut Signals,
    pub(super) capture: Option<&'a Capture>,
    pub(super) underway: &'a Underway,
    pub(super) ulimits: &'a [Ulimit],
    /// Is told when it is paused and when it goes on.
    pub(super) note: &'a dyn Fn(Phase),
}

impl Plain {
    /// Runs it to its end.
    pub(super) async fn run(self, launcher: &Launcher, asking: &mut Asking<'_>) -> Result<PlainEnd, NotRun> {
        let Self { request, variables, networking, pass_signals } = self;
        let mut connections = Connections::open(networking).map_err(|error| {
            let hint = error.hint();
            Failure::could_not_run(error).with_hint(Some(hint))
        })?;
        let (command, working_dir) = (request.command.clone(), request.working_dir.clone());
        let planned = plan(SandboxRequest { first_process: FirstProcess::Several, ..request }).map_err(not_planned)?;
        let mut sandbox = launcher.launch(planned).map_err(not_launched)?;
        if let Some(warning) = sandbox.enforcement().warning() {
            say(&warning);
        }
        let _serving = connections.serve_plain(&mut sandbox).map_err(Failure::could_not_run)?;
        limit(sandbox.host_pid(), asking.ulimits)?;
        let programs = sandbox.programs.take().ok_or_else(|| Failure::could_not_run("the sandbox holds no programs"))?;
        let stdio = Stdio { input: Input::Inherit, output: Output::Inherit, error: Output::Inherit };
        let environment = variables.to_c_strings();
        let main = Program { command, environment, working_dir, stdio, descriptors: Vec::new() };
        let mut inside = Running { programs, others: BTreeMap::new(), variables, main: None, first: sandbox.host_pid() };
        let started = inside.programs.start(&main).map_err(not_launched)?;
        inside.main = Some((started.id, main));
        asking.underway.tell(connections.published());
        let ended = inside.until_the_end(asking, pass_signals, &mut connections).await?;
        let out_of_memory = sandbox.killed_for_memory();
        if out_of_memory {
            say("the command was killed: it used more memory than `--memory` allows");
        }
        Ok(PlainEnd { code: code(ended), out_of_memory })
    }
}

/// The programs of a sandbox while the first of them runs.
struct Running {
    programs: Programs,
    /// Further ones, and who waits for them.
    others: BTreeMap<ProgramId, Asked>,
    variables: EnvVars,
    main: Option<(ProgramId, Program)>,
    /// The first process, as this machine sees it.
    first: u32,
}

impl Running {
    async fn until_the_end(
        &mut self,
        asking: &mut Asking<'_>,
        pass_signals: bool,
        connections: &mut Connections,
    ) -> Result<Ended, Failure> {
        let Asking { orders, signals, capture, note, .. } = asking;
        let (capture, note) = (*capture, *note);
        let mut size = signal(SignalKind::window_change()).map_err(Failure::could_not_run)?;
        let mut endings = 0;
        loop {
            tokio::select! {
                end = self.programs.ended() => {
                    let end = match end {
                        // All of it was killed at once: for its memory, or from outside.
                        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                            return Ok(Ended::Signaled { signal: libc::SIGKILL, core_dumped: false });
                        }
                        end => end.map_err(Failure::could_not_run)?,
                    };
                    if self.is_main(end.id) {
                        return Ok(end.ended);
                    }
                    self.told(end);
                }
                Some(asked) = orders.recv() => self.obey(asked, capture, note),
                signal = signals.next() => {
                    endings += 1;
                    let signal = if pass_signals && endings < PATIENCE_IN_SIGNALS { signal } else { libc::SIGKILL };
                    self.signal(signal).map_err(Failure::could_not_run)?;
                }
                () = resized(&mut size) => {
                    if let Some(capture) = capture {
                        capture.resized();
                    }
                }
                told = connections.logged() => say(&told.to_string()),
            }
        }
    }

    fn is_main(&self, id: ProgramId) -> bool {
        self.main.as_ref().is_some_and(|(main, _)| *main == id)
    }

    fn signal(&mut self, signal: i32) -> std::io::Result<()> {
        match &self.main {
            Some((main, _)) => self.programs.signal(*main, signal),
            None => Ok(()),
        }
    }

    fn told(&mut self, end: ProgramEnd) {
        if let Some(asked) = self.others.remove(&end.id) {
            asked.answer(&Answer::Ended(code(end.ended).number()));
        }
    }

    fn obey(&mut self, mut asked: Asked, capture: Option<&Capture>, note: &dyn Fn(Phase)) {
        let done = match &asked.order {
            Order::Signal(signal) | Order::End(signal) => self.signal(*signal),
            Order::Pause => self.programs.stop_all().inspect(|()| note(Phase::Paused)),
            Order::Resume => self.programs.continue_all().inspect(|()| note(Phase::Running)),
            Order::Resize(rows, columns) => {
                if let Some(master) = capture.and_then(Capture::master) {
                    terminal::set_size(master.as_fd(), *rows, *columns);
                }
                Ok(())
            }
            Order::Input => match (capture, asked.descriptors.pop()) {
                (Some(capture), Some(from)) => capture.type_from(from),
                _ => Ok(()),
            },
            Order::Exec(wanted) => {
                let (wanted, descriptors) = (wanted.clone(), std::mem::take(&mut asked.descriptors));
                return self.exec(asked, &wanted, descriptors);
            }
            Order::Processes | Order::Root => return asked.answer(&Answer::Processes(vec![self.first])),
            Order::StayEnded => Ok(()),
        };
        match done {
            Ok(()) => asked.answer(&Answer::Done),
            Err(error) => asked.refuse(error.to_string()),
        }
    }

    fn exec(&mut self, asked: Asked, wanted: &ExecOrder, descriptors: Vec<OwnedFd>) {
        let mut variables = self.variables.clone();
        for (name, value) in &wanted.variables {
            variables.set(name, value);
        }
        let own = self.main.as_ref().map(|(_, main)| main.working_dir.clone()).unwrap_or_default();
        let program = Program {
            command: Command::Line(wanted.command.clone()),
            environment: variables.to_c_strings(),
            working_dir: wanted.working_dir.as_ref().map_or(own, Into::into),
            stdio: NOTHING,
            descriptors: (0..).zip(descriptors).collect(),
        };
        match self.programs.start(&program) {
            Ok(started) => {
                asked.answer(&Answer::Done);
                self.others.insert(started.id, asked);
            }
            Err(error) => {
                let code = refusal(&error).number();
                asked.answer(&Answer::Refused(exec_refused(error, &wanted.command), code));
            }
        }
    }
}

/// `--ulimit`: what the first process has, all programs have that it starts.
fn limit(first: u32, ulimits: &[Ulimit]) -> Result<(), Failure> {
    let first = i32::try_from(first).ok().and_then(Pid::from_raw);
    for ulimit in ulimits {
        let Some((resource, limit)) = ulimit.limit() else { continue };
        prlimit(first, resource, limit).map_err(|error| {
            let Ulimit { name, soft, hard } = ulimit;
            let hint = "limits of ordinary users' sandboxes can be lowered alone: 1024 processes, 1024 descriptors, no core dumps";
            let error = format!("cannot set `--ulimit {name}={soft}:{hard}`: {}", std::io::Error::from(error));
            Failure::could_not_run(error).with_hint(Some(hint.to_owned()))
        })?;
    }
    Ok(())
}

/// Docker's exit codes for a command that is not there, or is no program.
pub(super) fn refusal(error: &LaunchError) -> ExitCode {
    match error {
        LaunchError::Exec { source, .. } if source.raw_os_error() == Some(libc::ENOENT) => ExitCode::NOT_FOUND,
        LaunchError::NoCandidate { .. } => ExitCode::NOT_FOUND,
        _ => ExitCode::NOT_EXECUTABLE,
    }
}

/// The exit code of a command that has ended.
pub(super) fn code(ended: Ended) -> ExitCode {
    match ended {
        Ended::Exited(status) => ExitCode::from_status(status),
        Ended::Signaled { signal, .. } => ExitCode::from_signal(signal),
    }
}

async fn resized(size: &mut Signal) {
    if size.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}
