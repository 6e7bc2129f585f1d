//! Where an environment lives: its sandbox with the programs in it, what connects that with the world, and where what is written goes.
//!
//! Does what the lifecycle says, knows nothing of why.

mod log;
mod visits;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::EnvironmentError;
use super::blueprint::{Blueprint, path_of};
use super::connections::Connections;
use super::logs::Stream;
use super::running::{Happened, Running, Wanted};
use super::runtime::function_fault;
use super::task::{Keeping, Start};
use super::telemetry::Telemetry;
use super::variables;
use super::visit::{Expected, Waiting};
use super::wires::Wires;
use crate::api::{Api, Call, Metadata, Ticket};
use crate::lambda::{Input, LogEvent, PlatformError, Program, RuntimeEnd};
use crate::report::Report;
use crate::sandbox::network::Told;
use crate::sandbox::{LaunchError, Launcher, Launching, ProgramEnd, Sandbox, Volume};
use log::Log;

/// How the programs of an environment live together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Living {
    /// The runtime is the sandbox's only program: the fastest start.
    Alone,
    /// Programs come and go, the sandbox stays.
    Together,
}

/// Whether there are framed logs: a single execution has its output in one stream, as with docker-lambda.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frames {
    Yes,
    No,
}

/// What the task is woken by.
#[derive(Debug)]
pub(super) enum Stir {
    /// Something happened in the sandbox.
    Happened(Happened),
    /// The sandbox that was being started runs, or does not.
    Launched(Box<Result<Sandbox, LaunchError>>),
    /// There is room for output again.
    Room,
    /// Something is to be said.
    Told(Told),
    /// A socket inside is wanted.
    Socket,
}

/// A sandbox that is being started.
#[derive(Debug)]
struct Coming {
    sandbox: Launching,
    /// What is to be started in it.
    programs: Vec<Program>,
    /// Visitors that wait for it.
    visitors: Vec<Waiting>,
}

/// The sandbox of an environment, when there is one, and all around it.
pub(super) struct House<'a> {
    launcher: Launcher,
    blueprint: Blueprint,
    runtime_api: SocketAddr,
    connections: Connections,
    outside: Option<TcpListener>,
    calls: mpsc::Sender<Call>,
    metadata: Option<Arc<Metadata>>,
    living: Living,
    /// Whether the runtime is given a pipe for framed logs.
    frames: Frames,
    running: Option<Running>,
    /// The sandbox to come, where programs come one by one: whatever else runs on our thread goes on meanwhile.
    coming: Option<Coming>,
    pub(super) report: &'a mut Report,
    pub(super) telemetry: Telemetry,
    wires: Wires,
    /// Whether everything is being killed.
    clearing: bool,
    /// Whether the next start is to find a fresh sandbox: what is shown inside may have been replaced outside.
    renew: bool,
    /// What the sandbox shows, each as the file system knows it.
    shown: Vec<Option<(u64, u64)>>,
    frozen: bool,
    /// Whether what was written was taken since the task last waited.
    drained: bool,
    /// Whether it was said what the sandbox lacks.
    warned: bool,
}

impl<'a> House<'a> {
    pub(super) fn new(start: Start, visitors: Expected, report: &'a mut Report) -> Self {
        let Start { launcher, blueprint, runtime_api, connections, outside, calls, metadata, keeping, .. } = start;
        let frames = if keeping == Keeping::Once && blueprint.extensions.is_empty() { Frames::No } else { Frames::Yes };
        let living = if frames == Frames::No && visitors == Expected::No { Living::Alone } else { Living::Together };
        let wires = Wires::default();
        let telemetry = Telemetry::new(wires.connect(blueprint.request.network), variables::log_format(&blueprint.variables));
        Self {
            launcher,
            blueprint,
            runtime_api,
            connections,
            outside,
            calls,
            metadata,
            living,
            frames,
            running: None,
            coming: None,
            report,
            telemetry,
            wires,
            clearing: false,
            renew: false,
            shown: Vec::new(),
            frozen: false,
            drained: false,
            warned: false,
        }
    }

    /// Whether a program inside waits for telemetry.
    pub(super) fn has_audience(&self) -> bool {
        self.running.is_some() && self.telemetry.has_subscribers()
    }

    /// The names of the external extensions.
    pub(super) fn extensions(&self) -> &[String] {
        &self.blueprint.extensions
    }

    /// Waits until something happens in or around the sandbox. May be dropped and called anew at any time.
    pub(super) async fn stirs(&mut self) -> Stir {
        self.drained = false;
        let Self { running, coming, report, connections, wires, .. } = self;
        let has_room = report.has_room();
        let wanted = if has_room { Wanted::Yes } else { Wanted::No };
        let happens = async {
            match running {
                Some(running) => running.happens(wanted).await,
                None => std::future::pending().await,
            }
        };
        let launches = async {
            match coming {
                Some(coming) => coming.sandbox.launched().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            happened = happens => Stir::Happened(happened),
            launched = launches => Stir::Launched(Box::new(launched)),
            () = report.room(), if !has_room => Stir::Room,
            told = connections.logged(), if has_room => Stir::Told(told),
            () = wires.wanted() => Stir::Socket,
        }
    }

    /// Starts a program, in a fresh sandbox if there is none. What follows from it, if anything does.
    pub(super) fn start(&mut self, program: Program) -> Result<Option<Input<Ticket>>, EnvironmentError> {
        if let Some(coming) = &mut self.coming {
            coming.programs.push(program);
            return Ok(None);
        }
        let started = match (&self.running, self.living) {
            (Some(_), Living::Together) => self.join(&program)?,
            (Some(_), Living::Alone) => Ok(()),
            (None, Living::Alone) => self.launch_alone()?,
            (None, Living::Together) => match self.begin_launch()? {
                Ok(sandbox) => {
                    self.coming = Some(Coming { sandbox, programs: vec![program], visitors: Vec::new() });
                    return Ok(None);
                }
                Err(error) => Err(error),
            },
        };
        started.err().map(|error| not_started(program, error)).transpose()
    }

    /// Moves into the sandbox that was being started, with the programs that wait for it. What follows from it.
    pub(super) fn launched(&mut self, launched: Result<Sandbox, LaunchError>) -> Result<Vec<Input<Ticket>>, EnvironmentError> {
        let (programs, visitors) = self.coming.take().map(|coming| (coming.programs, coming.visitors)).unwrap_or_default();
        let mut programs = programs.into_iter();
        let mut inputs = Vec::new();
        match launched {
            Ok(sandbox) => self.move_in(sandbox)?,
            // Whoever comes next may try again.
            Err(error) => match programs.next() {
                Some(program) => inputs.push(not_started(program, error)?),
                None => {
                    visits::turn_away(visitors, error);
                    return Ok(inputs);
                }
            },
        }
        for program in programs {
            inputs.extend(self.start(program)?);
        }
        for visitor in visitors {
            self.enter(visitor)?;
        }
        Ok(inputs)
    }

    /// Starts a program in the sandbox that runs.
    fn join(&mut self, program: &Program) -> Result<Result<(), LaunchError>, EnvironmentError> {
        let Some(running) = &mut self.running else { return Ok(Ok(())) };
        let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|error| watch(error.into()));
        let (program_of_sandbox, frames) = match program {
            Program::Runtime if self.frames == Frames::No => (self.blueprint.runtime(self.runtime_api, None), None),
            Program::Runtime => {
                let (read, write) = pipe()?;
                nix::fcntl::fcntl(&read, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))
                    .map_err(|error| watch(error.into()))?;
                (self.blueprint.runtime(self.runtime_api, Some(write)), Some(read))
            }
            Program::Extension(name) => (self.blueprint.extension(name, self.runtime_api), None),
        };
        let started = match running.programs() {
            Some(programs) => programs.start(&program_of_sandbox),
            None => return Err(watch(io::Error::other("the sandbox takes no programs"))),
        };
        match started {
            Ok(started) => running.joined(program.clone(), started, frames).map(Ok).map_err(watch),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Starts the sandbox with the runtime in it, the fastest way.
    fn launch_alone(&mut self) -> Result<Result<(), LaunchError>, EnvironmentError> {
        self.shown = identities(&self.blueprint);
        let plan = self.blueprint.alone(self.runtime_api).map_err(|source| EnvironmentError::Plan { source })?;
        match self.launcher.launch(plan) {
            Ok(sandbox) => self.move_in(sandbox).map(Ok),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Has a sandbox started in which programs will be.
    fn begin_launch(&mut self) -> Result<Result<Launching, LaunchError>, EnvironmentError> {
        self.shown = identities(&self.blueprint);
        let plan = self.blueprint.several().map_err(|source| EnvironmentError::Plan { source })?;
        Ok(self.launcher.launch_aside(plan))
    }

    fn move_in(&mut self, mut sandbox: Sandbox) -> Result<(), EnvironmentError> {
        let api = Api { calls: self.calls.clone(), metadata: self.metadata.clone() };
        let serving = self.connections.serve(&mut sandbox, self.outside.as_ref(), api);
        let serving = serving.map_err(|source| EnvironmentError::Connect { source })?;
        let running = match self.living {
            Living::Alone => Running::alone(sandbox, serving),
            Living::Together => Running::several(sandbox, serving),
        };
        let running = self.running.insert(running.map_err(watch)?);
        if let Some(warning) = running.enforcement().warning().filter(|_| !self.warned) {
            self.report.note(&format!("undocked: {warning}"));
            self.warned = true;
        }
        Ok(())
    }

    /// Sends a signal to a program. What it did not reach has ended; what follows if it has not begun.
    pub(super) fn signal(&mut self, program: Program, signal: i32) -> Option<Input<Ticket>> {
        if let Some(coming) = &mut self.coming {
            coming.programs.retain(|other| *other != program);
            return Some(Input::Ended(program, RuntimeEnd::Signaled { signal, core_dumped: false }));
        }
        if let Some(running) = &mut self.running {
            let _ = running.signal(&program, signal);
        }
        None
    }

    /// Has the next start find what is there now: a fresh sandbox, if a folder or file that is shown inside was replaced by another.
    pub(super) fn renew(&mut self) {
        self.renew = self.running.is_some() && self.shown != identities(&self.blueprint);
    }

    /// Kills everything; says at once that all is clear if nothing ran.
    pub(super) fn kill_all(&mut self, now: Duration) -> Option<Input<Ticket>> {
        self.thaw();
        self.clearing = true;
        // What is being started is killed as soon as it is there.
        self.coming = None;
        if let Some(running) = &mut self.running {
            if std::mem::take(&mut self.renew) {
                running.kill();
                return None;
            }
            // Programs may have left others behind.
            running.kill_all();
            if !running.is_empty() {
                return None;
            }
        }
        Some(self.is_clear(now))
    }

    fn is_clear(&mut self, now: Duration) -> Input<Ticket> {
        self.clearing = false;
        self.drain(now);
        self.telemetry.end();
        Input::Cleared
    }

    /// A program ended: what the lifecycle is to know.
    pub(super) fn left(&mut self, end: ProgramEnd, now: Duration) -> Vec<Input<Ticket>> {
        let Self { running, report, telemetry, .. } = self;
        let Some(running) = running else { return Vec::new() };
        if running.guest_left(end) {
            return Vec::new();
        }
        let mut log = Log { report, telemetry, now };
        let Some(program) = running.left(end.id, |program, piece| log.take(program, piece)) else { return Vec::new() };
        let (ended, bytes) = (running.end_of(end.ended), running.peak_memory_bytes());
        let mut inputs = vec![Input::PeakMemory { bytes }];
        let mut others = Vec::new();
        if ended == RuntimeEnd::OutOfMemory {
            // What fills the memory may lie in `/tmp`: the next start finds a fresh sandbox. Dropping this one kills it.
            others = running.all_left(|program, piece| log.take(program, piece));
            self.running = None;
        } else if running.is_empty() && !self.clearing {
            // The runtime may have left others behind, which end with it as on Lambda.
            running.kill_all();
        }
        match (self.clearing, self.running.as_ref().is_none_or(Running::is_empty)) {
            (true, true) => inputs.push(self.is_clear(now)),
            (true, false) => {}
            (false, _) => {
                inputs.push(Input::Ended(program, ended));
                let killed = RuntimeEnd::Signaled { signal: libc::SIGKILL, core_dumped: false };
                inputs.extend(others.into_iter().map(|program| Input::Ended(program, killed)));
            }
        }
        inputs
    }

    /// The sandbox is over: what the lifecycle is to know.
    pub(super) async fn is_over(&mut self, now: Duration) -> Result<Vec<Input<Ticket>>, EnvironmentError> {
        let Some(mut running) = self.running.take() else { return Ok(Vec::new()) };
        let end = running.reap().await.map_err(watch)?;
        let mut log = Log { report: self.report, telemetry: &mut self.telemetry, now };
        let programs = running.all_left(|program, piece| log.take(program, piece));
        let mut inputs = vec![Input::PeakMemory { bytes: running.peak_memory_bytes() }];
        // With several, the first process is ours: that it is gone means that everything was killed.
        let end = match (self.living, end) {
            (Living::Together, RuntimeEnd::OutOfMemory) | (Living::Alone, _) => end,
            (Living::Together, _) => RuntimeEnd::Signaled { signal: libc::SIGKILL, core_dumped: false },
        };
        self.frozen = false;
        if self.clearing {
            inputs.push(self.is_clear(now));
        } else {
            inputs.extend(programs.into_iter().map(|program| Input::Ended(program, end)));
        }
        Ok(inputs)
    }

    /// Kills and reaps the sandbox, if there is one.
    pub(super) async fn clear_away(&mut self, is_complete: bool, now: Duration) -> Result<(), EnvironmentError> {
        if let Some(mut coming) = self.coming.take()
            && let Ok(mut sandbox) = coming.sandbox.launched().await
        {
            sandbox.kill();
            sandbox.ended().await.map_err(watch)?;
        }
        if let Some(mut running) = self.running.take() {
            running.kill();
            running.reap().await.map_err(watch)?;
            if !is_complete {
                let mut log = Log { report: self.report, telemetry: &mut self.telemetry, now };
                running.all_left(|program, piece| log.take(program, piece));
            }
        }
        Ok(())
    }

    /// The most memory seen in use until now, if there is a sandbox.
    pub(super) fn peak_memory_bytes(&mut self) -> Option<u64> {
        self.running.as_mut().map(Running::peak_memory_bytes)
    }

    /// Logs an event after everything that was written until now.
    pub(super) fn log(&mut self, event: &LogEvent, now: Duration) {
        // Once for all that follows from one thing.
        if !std::mem::replace(&mut self.drained, true) {
            self.drain(now);
        }
        self.telemetry.event(event, now);
        self.report.log(event);
    }

    fn drain(&mut self, now: Duration) {
        let mut log = Log { report: self.report, telemetry: &mut self.telemetry, now };
        if let Some(running) = &mut self.running {
            running.drain(|program, piece| log.take(program, piece));
        }
    }

    /// Logs what a member wrote.
    pub(super) fn take_output(&mut self, member: usize, stream: Stream, now: Duration) {
        let mut log = Log { report: self.report, telemetry: &mut self.telemetry, now };
        if let Some(running) = &mut self.running {
            running.take(member, stream, |program, piece| log.take(program, piece));
        }
    }

    /// Gives a telemetry subscriber the socket that it waits for.
    pub(super) fn give_socket(&mut self) {
        self.wires.give(self.running.as_mut());
    }

    /// Stops all programs, unless they are, or a visitor's command is among them.
    pub(super) async fn freeze(&mut self, now: Duration) {
        if self.frozen || self.running.as_ref().is_some_and(Running::has_guests) {
            return;
        }
        self.flush_telemetry(now).await;
        if let Some(programs) = self.running.as_mut().and_then(Running::programs) {
            // If it cannot be they go on, which the function cannot tell.
            self.frozen = programs.stop_all().is_ok();
            self.telemetry.set_frozen(self.frozen);
        }
    }

    /// Lets all programs go on, if they are stopped.
    pub(super) fn thaw(&mut self) {
        if !std::mem::take(&mut self.frozen) {
            return;
        }
        self.telemetry.set_frozen(false);
        if let Some(programs) = self.running.as_mut().and_then(Running::programs) {
            let _ = programs.continue_all();
        }
    }

    /// Has what subscribers have not been sent yet sent now, without waiting for it.
    pub(super) async fn flush_telemetry(&mut self, now: Duration) {
        self.telemetry.flush(tokio::time::Instant::now(), now).await;
    }
}

/// What follows from an error that is the function's own.
fn not_started(program: Program, error: LaunchError) -> Result<Input<Ticket>, EnvironmentError> {
    let fault = match (function_fault(error).map_err(|source| EnvironmentError::Launch { source })?, path_of(&program)) {
        (PlatformError::NotExecuted { reason, .. }, Some(path)) => PlatformError::ExtensionLaunchError { path, reason },
        (PlatformError::NoBootstrap { .. }, Some(path)) => {
            PlatformError::ExtensionLaunchError { path, reason: "no such file or directory".to_owned() }
        }
        (fault, _) => fault,
    };
    Ok(Input::NotStarted(program, fault))
}

/// The device and number of everything that is shown inside.
fn identities(blueprint: &Blueprint) -> Vec<Option<(u64, u64)>> {
    let identity = |volume: &Volume| std::fs::metadata(&volume.source).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    blueprint.request.volumes.iter().map(identity).collect()
}

fn watch(source: io::Error) -> EnvironmentError {
    EnvironmentError::Watch { source }
}
