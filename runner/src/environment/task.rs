//! The one task that owns an environment's state: it waits, asks the lifecycle, and does what that says.

use std::collections::VecDeque;
use std::future::pending;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval_at, sleep_until};

use super::EnvironmentError;
use super::blueprint::Blueprint;
use super::connections::Connections;
use super::handle::{Answer, Broken, Finished, Order, Work};
use super::runtime::{RuntimeProcess, function_fault};
use super::stream::{Stream, Taken};
use crate::api::{Call, Ticket};
use crate::function::Function;
use crate::lambda::{
    Effect, FunctionError, Identifiers, Input, Invocation, Lifecycle, LogEvent, Now, Program, ReportFigures, ReportStatus,
};
use crate::report::{OutputStream, Report};
use crate::sandbox::Launcher;
use crate::sandbox::network::Told;

/// How often memory is looked at, beside the runtime's calls.
const MEMORY_TICK: Duration = Duration::from_millis(100);
/// Calls of the runtime come in quick succession: no two looks at its memory are closer.
const MEMORY_PAUSE: Duration = Duration::from_millis(20);

/// All that a start of the runtime needs.
pub(super) struct Start {
    pub(super) launcher: Launcher,
    pub(super) blueprint: Blueprint,
    pub(super) runtime_api: SocketAddr,
    pub(super) connections: Connections,
    /// The Runtime API's listener on the host's loopback, if it is there.
    pub(super) outside: Option<TcpListener>,
    /// Where its calls go.
    pub(super) calls: mpsc::Sender<Call>,
    /// What its identifiers begin with.
    pub(super) seed: [u8; 16],
}

/// An execution environment.
pub(super) struct Environment<'a> {
    start: Start,
    lifecycle: Lifecycle<Ticket>,
    runtime: Option<RuntimeProcess>,
    report: &'a mut Report,
    hand: Option<InHand>,
    /// Set by the last REPORT, for the end of its phase.
    reported: Option<(ReportFigures, ReportStatus)>,
    memory_seen: Option<Instant>,
    /// Whether it was said what the sandbox lacks.
    warned: bool,
    /// Whether everything in the sandbox was killed.
    killed: bool,
    /// The answer that comes in parts.
    stream: Stream,
    ending: Ending,
}

/// Whether the environment goes on.
#[derive(Debug, Default)]
struct Ending {
    shut_down: Option<oneshot::Sender<()>>,
    /// All is done.
    over: bool,
}

/// Who waits for the invocation in hand.
struct InHand {
    answer: Option<oneshot::Sender<Result<Answer, Broken>>>,
    finished: oneshot::Sender<Finished>,
}

/// What woke the task.
enum Wake {
    Stop(i32),
    Alarm,
    MemoryTick,
    Call(Call),
    Part(Option<Bytes>),
    Ended,
    Output(OutputStream),
    Room,
    Told(Told),
    Order(Order),
    Abandoned,
}

impl<'a> Environment<'a> {
    pub(super) fn new(start: Start, function: Arc<Function>, report: &'a mut Report) -> Self {
        Self {
            lifecycle: Lifecycle::new(function, Identifiers::from_seed(start.seed)),
            start,
            runtime: None,
            report,
            hand: None,
            reported: None,
            memory_seen: None,
            warned: false,
            killed: false,
            stream: Stream::default(),
            ending: Ending::default(),
        }
    }

    /// Begins the Init phase, for an invocation that is there already if there is one.
    pub(super) fn begin(&mut self, first: Option<Box<Work>>) -> Result<(), EnvironmentError> {
        match first.map(|work| self.take_in_hand(*work)) {
            Some(invocation) => self.apply([Input::Begin { extensions: Vec::new() }, Input::Invoke(invocation)]),
            None => self.apply([Input::Begin { extensions: Vec::new() }]),
        }
    }

    fn take_in_hand(&mut self, work: Work) -> Invocation {
        let Work { invocation, answer, finished } = work;
        self.hand = Some(InHand { answer: Some(answer), finished });
        invocation
    }

    /// Works on orders until there are no more of them and all is done, or `stop` ends it before: then the answer is its signal.
    pub(super) async fn serve(
        &mut self,
        mut calls: mpsc::Receiver<Call>,
        orders: &mut mpsc::Receiver<Order>,
        stop: impl Future<Output = i32>,
    ) -> Result<Option<i32>, EnvironmentError> {
        let mut stop = pin!(stop);
        let mut memory_tick = interval_at(tokio::time::Instant::now() + MEMORY_TICK, MEMORY_TICK);
        memory_tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.ending.over {
            let (has_room, is_busy) = (self.report.has_room(), self.hand.is_some());
            // In order of importance: neither a flood of output nor one of calls may hide the deadline.
            let wake = tokio::select! {
                biased;
                signal = &mut stop => Wake::Stop(signal),
                () = reached(self.lifecycle.alarm()) => Wake::Alarm,
                _ = memory_tick.tick(), if is_busy => Wake::MemoryTick,
                // Before the call that tells their end.
                part = self.stream.part() => Wake::Part(part),
                Some(call) = calls.recv() => Wake::Call(call),
                () = has_ended(&self.runtime) => Wake::Ended,
                stream = has_output(&self.runtime), if has_room => Wake::Output(stream),
                () = self.report.room(), if !has_room => Wake::Room,
                told = self.start.connections.logged(), if has_room => Wake::Told(told),
                order = orders.recv(), if !is_busy => order.map_or(Wake::Abandoned, Wake::Order),
            };
            match wake {
                Wake::Stop(signal) => return Ok(Some(signal)),
                Wake::Abandoned => return Ok(None),
                Wake::Order(order) => self.take(order)?,
                Wake::Alarm => self.apply([Input::Alarm])?,
                Wake::MemoryTick => self.sample_memory()?,
                Wake::Call(call) => {
                    if self.memory_seen.is_none_or(|seen| seen.elapsed() > MEMORY_PAUSE) {
                        self.sample_memory()?;
                    }
                    self.stream.offer(call.parts);
                    self.apply([call.input])?;
                }
                Wake::Part(part) => {
                    if self.stream.take(part) == Taken::TooLarge {
                        self.apply([Input::StreamTooLarge])?;
                    }
                }
                Wake::Ended => self.reap().await?,
                Wake::Output(stream) => self.take_output(stream),
                Wake::Room => {}
                Wake::Told(told) => self.report.note(&format!("undocked: {told}")),
            }
        }
        Ok(None)
    }

    /// Takes an order while no invocation is in hand.
    fn take(&mut self, order: Order) -> Result<(), EnvironmentError> {
        match order {
            Order::Invoke(work) => {
                let invocation = self.take_in_hand(*work);
                self.apply([Input::Invoke(invocation)])
            }
            Order::Restart => self.apply([Input::Restart]),
            Order::ShutDown { done } => {
                self.ending.shut_down = Some(done);
                self.apply([Input::ShutDown])
            }
        }
    }

    /// Tells the lifecycle what happened and does what it says, until nothing more follows from it.
    fn apply<const N: usize>(&mut self, inputs: [Input<Ticket>; N]) -> Result<(), EnvironmentError> {
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
            if self.hand.is_some() {
                runtime.logs.drain(|stream, bytes| self.report.output(stream, bytes));
            }
        }
        Ok(())
    }

    /// Tells whoever waits that it is over: for an invocation in hand, since `error` came in between.
    pub(super) fn close(self, error: Option<&Broken>) {
        if let (Some(InHand { answer: Some(answer), .. }), Some(error)) = (self.hand, error) {
            // Nobody may be waiting any more.
            let _ = answer.send(Err(error.clone()));
        }
        if let Some(done) = self.ending.shut_down {
            let _ = done.send(());
        }
    }

    fn perform(&mut self, effect: Effect<Ticket>) -> Result<Option<Input<Ticket>>, EnvironmentError> {
        match effect {
            Effect::Start(_) => return self.launch(),
            Effect::Terminate(_) | Effect::Kill(_) => self.runtime.iter_mut().for_each(RuntimeProcess::kill),
            Effect::KillAll => match &mut self.runtime {
                None => return Ok(Some(Input::Cleared)),
                Some(runtime) => {
                    self.killed = true;
                    runtime.kill();
                }
            },
            // The caller may be gone; that is its own affair.
            Effect::Answer(ticket, answer) => drop(ticket.send(answer)),
            Effect::Log(event) => self.log(&event),
            Effect::Decide(result) => self.answer(result),
            Effect::StreamBegins { .. } => self.stream.begin(),
            Effect::StreamEnds(result) => {
                let payload = self.stream.end();
                self.answer(result.map(|()| payload));
            }
            Effect::Subscribe { .. } => {}
            Effect::Finish => self.finish(),
            Effect::Gone => self.ending.over = true,
        }
        Ok(None)
    }

    fn answer(&mut self, result: Result<Bytes, FunctionError>) {
        let answer = result.map_or_else(Answer::Failed, |payload| Answer::Success { payload });
        if let Some(sender) = self.hand.as_mut().and_then(|hand| hand.answer.take()) {
            // The client may be gone.
            let _ = sender.send(Ok(answer));
        }
    }

    fn finish(&mut self) {
        if let (Some(InHand { finished, .. }), Some((figures, status))) = (self.hand.take(), self.reported.take()) {
            let _ = finished.send(Finished { figures, status, log_tail: self.report.log_tail() });
        }
    }

    fn launch(&mut self) -> Result<Option<Input<Ticket>>, EnvironmentError> {
        let plan = self.start.blueprint.alone(self.start.runtime_api).map_err(|source| EnvironmentError::Plan { source })?;
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
                return Ok(Some(Input::NotStarted(Program::Runtime, fault)));
            }
        }
        Ok(None)
    }

    /// Logs after everything that the function wrote until now.
    fn log(&mut self, event: &LogEvent) {
        if let Some(runtime) = &mut self.runtime {
            runtime.logs.drain(|stream, bytes| self.report.output(stream, bytes));
        }
        if let LogEvent::Report { figures, status, .. } = event {
            self.reported = Some((*figures, status.clone()));
        }
        self.report.log(event);
    }

    fn sample_memory(&mut self) -> Result<(), EnvironmentError> {
        match &mut self.runtime {
            Some(runtime) => {
                let bytes = runtime.peak_memory_bytes();
                self.memory_seen = Some(Instant::now());
                self.apply([Input::PeakMemory { bytes }])
            }
            None => Ok(()),
        }
    }

    async fn reap(&mut self) -> Result<(), EnvironmentError> {
        let Some(mut runtime) = self.runtime.take() else { return Ok(()) };
        let end = runtime.reap().await.map_err(watch)?;
        runtime.logs.drain(|stream, bytes| self.report.output(stream, bytes));
        let bytes = runtime.peak_memory_bytes();
        let ended = if std::mem::take(&mut self.killed) { Input::Cleared } else { Input::Ended(Program::Runtime, end) };
        self.apply([Input::PeakMemory { bytes }, ended])
    }

    fn take_output(&mut self, stream: OutputStream) {
        if let Some(bytes) = self.runtime.as_mut().and_then(|runtime| runtime.logs.take(stream)) {
            self.report.output(stream, bytes);
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

async fn has_output(runtime: &Option<RuntimeProcess>) -> OutputStream {
    match runtime {
        Some(runtime) => runtime.logs.readable().await,
        None => pending().await,
    }
}
