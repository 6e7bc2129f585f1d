//! The one task that owns an environment's state: it waits, asks the lifecycle, and does what that says.

use std::collections::VecDeque;
use std::future::pending;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval_at, sleep_until};

use super::EnvironmentError;
use super::connections::Connections;
use super::logs::Stream;
use super::runtime::{RuntimeProcess, function_fault};
use crate::api::Ticket;
use crate::function::Function;
use crate::lambda::{Effect, FunctionError, Input, Lifecycle, LogEvent, Now, ReportFigures};
use crate::report::Report;
use crate::sandbox::network::Told;
use crate::sandbox::{Launcher, PlanError, SandboxPlan};

/// How often memory is looked at, beside the runtime's calls.
const MEMORY_TICK: Duration = Duration::from_millis(100);

/// All that a start of the runtime needs.
pub(super) struct Start<'a, P> {
    pub(super) launcher: &'a Launcher,
    pub(super) make_plan: P,
    pub(super) runtime_api: SocketAddr,
    pub(super) connections: Connections<'a>,
    /// The Runtime API's listener on the host's loopback, if it is there.
    pub(super) outside: Option<TcpListener>,
    /// Where its calls go.
    pub(super) calls: mpsc::Sender<Input<Ticket>>,
}

/// An execution environment.
pub(super) struct Environment<'a, P> {
    start: Start<'a, P>,
    lifecycle: Lifecycle<Ticket>,
    runtime: Option<RuntimeProcess>,
    report: &'a mut Report,
    decided: Option<Result<Bytes, FunctionError>>,
    figures: Option<ReportFigures>,
    finished: bool,
    /// Whether it was said what the sandbox lacks.
    warned: bool,
}

/// What woke the task.
enum Wake {
    Stop(i32),
    Alarm,
    MemoryTick,
    Call(Input<Ticket>),
    Ended,
    Output(Stream),
    Room,
    Told(Told),
}

impl<'a, P: FnMut(SocketAddr) -> Result<SandboxPlan, PlanError>> Environment<'a, P> {
    pub(super) fn new(start: Start<'a, P>, function: Arc<Function>, report: &'a mut Report) -> Self {
        Self {
            start,
            lifecycle: Lifecycle::new(function),
            runtime: None,
            report,
            decided: None,
            figures: None,
            finished: false,
            warned: false,
        }
    }

    /// Works until the invocation's phase is over, or `stop` ends it before: then the answer is its signal.
    pub(super) async fn serve(
        &mut self,
        mut calls: mpsc::Receiver<Input<Ticket>>,
        stop: impl Future<Output = i32>,
    ) -> Result<Option<i32>, EnvironmentError> {
        let mut stop = pin!(stop);
        let mut memory_tick = interval_at(tokio::time::Instant::now() + MEMORY_TICK, MEMORY_TICK);
        memory_tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.finished {
            let has_room = self.report.has_room();
            // In order of importance: neither a flood of output nor one of calls may hide the deadline.
            let wake = tokio::select! {
                biased;
                signal = &mut stop => Wake::Stop(signal),
                () = reached(self.lifecycle.alarm()) => Wake::Alarm,
                _ = memory_tick.tick() => Wake::MemoryTick,
                Some(call) = calls.recv() => Wake::Call(call),
                () = has_ended(&self.runtime) => Wake::Ended,
                stream = has_output(&self.runtime), if has_room => Wake::Output(stream),
                () = self.report.room(), if !has_room => Wake::Room,
                told = self.start.connections.logged(), if has_room => Wake::Told(told),
            };
            match wake {
                Wake::Stop(signal) => return Ok(Some(signal)),
                Wake::Alarm => self.apply([Input::Alarm])?,
                Wake::MemoryTick => self.sample_memory()?,
                Wake::Call(call) => {
                    self.sample_memory()?;
                    self.apply([call])?;
                }
                Wake::Ended => self.reap().await?,
                Wake::Output(stream) => self.take_output(stream),
                Wake::Room => {}
                Wake::Told(told) => self.report.note(&format!("undocked: {told}")),
            }
        }
        Ok(None)
    }

    /// Tells the lifecycle what happened and does what it says, until nothing more follows from it.
    pub(super) fn apply<const N: usize>(&mut self, inputs: [Input<Ticket>; N]) -> Result<(), EnvironmentError> {
        let mut inputs = VecDeque::from(inputs);
        while let Some(input) = inputs.pop_front() {
            for effect in self.lifecycle.apply(input, now()) {
                inputs.extend(self.perform(effect)?);
            }
        }
        Ok(())
    }

    /// Kills and reaps the runtime, if there is one. What it wrote is logged only if the log is not yet complete.
    pub(super) async fn clear_away(&mut self) -> Result<(), EnvironmentError> {
        if let Some(mut runtime) = self.runtime.take() {
            runtime.kill();
            runtime.reap().await.map_err(watch)?;
            if !self.finished {
                runtime.logs.drain(|bytes| self.report.output(bytes));
            }
        }
        Ok(())
    }

    /// The invocation's result and its figures.
    pub(super) fn into_result(self) -> (Option<Result<Bytes, FunctionError>>, Option<ReportFigures>) {
        (self.decided, self.figures)
    }

    fn perform(&mut self, effect: Effect<Ticket>) -> Result<Option<Input<Ticket>>, EnvironmentError> {
        match effect {
            Effect::StartRuntime => return self.launch(),
            Effect::KillRuntime => self.runtime.iter_mut().for_each(RuntimeProcess::kill),
            // The caller may be gone; that is its own affair.
            Effect::Answer(ticket, answer) => drop(ticket.send(answer)),
            Effect::Log(event) => self.log(&event),
            Effect::Decide(result) => self.decided = Some(result),
            Effect::Finish => self.finished = true,
        }
        Ok(None)
    }

    fn launch(&mut self) -> Result<Option<Input<Ticket>>, EnvironmentError> {
        let plan = (self.start.make_plan)(self.start.runtime_api).map_err(|source| EnvironmentError::Plan { source })?;
        match self.start.launcher.launch(plan) {
            Ok(mut sandbox) => {
                let serving = self.start.connections.serve(&mut sandbox, self.start.outside.as_ref(), self.start.calls.clone());
                let serving = serving.map_err(|source| EnvironmentError::Connect { source })?;
                if let Some(warning) = sandbox.enforcement().warning().filter(|_| !self.warned) {
                    self.report.note(&format!("undocked: {warning}"));
                    self.warned = true;
                }
                self.runtime = Some(RuntimeProcess::new(sandbox, serving).map_err(watch)?);
            }
            Err(error) => {
                let fault = function_fault(error).map_err(|source| EnvironmentError::Launch { source })?;
                return Ok(Some(Input::NotStarted(fault)));
            }
        }
        Ok(None)
    }

    /// Logs after everything that the function wrote until now.
    fn log(&mut self, event: &LogEvent) {
        if let Some(runtime) = &mut self.runtime {
            runtime.logs.drain(|bytes| self.report.output(bytes));
        }
        if let LogEvent::Report { figures, .. } = event {
            self.figures = Some(*figures);
        }
        self.report.log(event);
    }

    fn sample_memory(&mut self) -> Result<(), EnvironmentError> {
        match &mut self.runtime {
            Some(runtime) => {
                let bytes = runtime.peak_memory_bytes();
                self.apply([Input::PeakMemory { bytes }])
            }
            None => Ok(()),
        }
    }

    async fn reap(&mut self) -> Result<(), EnvironmentError> {
        let Some(mut runtime) = self.runtime.take() else { return Ok(()) };
        let end = runtime.reap().await.map_err(watch)?;
        runtime.logs.drain(|bytes| self.report.output(bytes));
        let bytes = runtime.peak_memory_bytes();
        self.apply([Input::PeakMemory { bytes }, Input::Ended(end)])
    }

    fn take_output(&mut self, stream: Stream) {
        if let Some(bytes) = self.runtime.as_mut().and_then(|runtime| runtime.logs.take(stream)) {
            self.report.output(bytes);
        }
    }
}

fn watch(source: std::io::Error) -> EnvironmentError {
    EnvironmentError::Watch { source }
}

fn now() -> Now {
    Now { instant: tokio::time::Instant::now().into_std(), since_epoch: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() }
}

async fn reached(alarm: Option<Instant>) {
    match alarm {
        Some(alarm) => sleep_until(alarm.into()).await,
        None => pending().await,
    }
}

async fn has_ended(runtime: &Option<RuntimeProcess>) {
    match runtime {
        Some(runtime) => runtime.has_ended().await,
        None => pending().await,
    }
}

async fn has_output(runtime: &Option<RuntimeProcess>) -> Stream {
    match runtime {
        Some(runtime) => runtime.logs.readable().await,
        None => pending().await,
    }
}
