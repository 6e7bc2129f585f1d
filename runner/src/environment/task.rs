//! The one task that owns an environment's state: it waits, asks the lifecycle, and does what that says.

mod visits;

use std::collections::VecDeque;
use std::future::pending;
use std::net::{SocketAddr, TcpListener};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval_at, sleep_until};

use super::EnvironmentError;
use super::blueprint::Blueprint;
use super::connections::Connections;
use super::hand::{Hand, Parts};
use super::handle::{Broken, Finished, Order, Work};
use super::house::{House, Stir};
use super::running::Happened;
use super::stream::Taken;
use super::visit::{Stay, Visit, Visits};
use crate::api::{Call, Metadata, Ticket};
use crate::function::Function;
use crate::lambda::{
    Answer, Effect, FailedInit, Identifiers, Input, Lifecycle, LogEvent, Now, ReportFigures, ReportStatus, RuntimeVersion,
};
use crate::report::Report;
use crate::sandbox::Launcher;

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
    /// What the metadata endpoint tells.
    pub(super) metadata: Option<Arc<Metadata>>,
    /// What its identifiers begin with.
    pub(super) seed: [u8; 16],
    /// How it is kept.
    pub(super) keeping: Keeping,
    /// Where visits come.
    pub(super) visits: Visits,
}

/// How an environment is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeping {
    /// For one invocation.
    Once,
    /// For many of them.
    Staying {
        /// What its processes do between events.
        between: BetweenEvents,
    },
}

/// What an environment's processes do between events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BetweenEvents {
    /// They go on.
    GoOn,
    /// They are stopped, as on Lambda.
    Freeze,
}

/// An execution environment.
pub(super) struct Environment<'a> {
    lifecycle: Lifecycle<Ticket>,
    house: House<'a>,
    hand: Hand,
    keeping: Keeping,
    visits: Visits,
    /// Whether its first Init phase has begun.
    begun: bool,
    /// Whether all stands still.
    paused: bool,
    /// Set by the last REPORT, for the end of its phase.
    reported: Option<(ReportFigures, ReportStatus)>,
    memory_seen: Option<Instant>,
    shut_down: Option<oneshot::Sender<()>>,
    /// Answers to the runtime that can wait.
    late: Vec<(Ticket, Answer)>,
    /// Whether the shutdown phase after the only invocation has begun.
    farewell: bool,
    /// What an extension inside the runtime is told after the only invocation.
    telling: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// Nothing is left, and nothing will follow.
    over: bool,
}

/// What woke the task.
enum Wake {
    Stop(i32),
    Alarm,
    MemoryTick,
    Call(Call),
    Part(Option<bytes::Bytes>),
    Stir(Stir),
    Order(Order),
    Visit(Visit, Stay),
    Abandoned,
    /// Whoever was to be told of the end was.
    Told,
}

impl<'a> Environment<'a> {
    pub(super) fn new(mut start: Start, function: Arc<Function>, report: &'a mut Report) -> Self {
        let (keeping, seed) = (start.keeping, start.seed);
        let visits = std::mem::take(&mut start.visits);
        let parts = if keeping == Keeping::Once { Parts::Collected } else { Parts::HandedOver };
        Self {
            lifecycle: Lifecycle::new(function, Identifiers::from_seed(seed)),
            house: House::new(start, visits.expected(), report),
            visits,
            begun: false,
            paused: false,
            hand: Hand::new(parts),
            keeping,
            reported: None,
            memory_seen: None,
            shut_down: None,
            late: Vec::new(),
            farewell: false,
            telling: None,
            over: false,
        }
    }

    /// The same with the version of its runtime, which the log tells then.
    pub(super) fn with_runtime_version(self, version: Option<RuntimeVersion>) -> Self {
        match version {
            Some(version) => Self { lifecycle: self.lifecycle.with_runtime_version(version), ..self },
            None => self,
        }
    }

    /// The same where that becomes of an invocation after a failed Init phase.
    pub(super) fn with_failed_init(self, failed_init: FailedInit) -> Self {
        Self { lifecycle: self.lifecycle.with_failed_init(failed_init), ..self }
    }

    /// Begins the Init phase, for an invocation that is there already if there is one.
    pub(super) fn begin(&mut self, first: Option<Box<Work>>) -> Result<(), EnvironmentError> {
        self.begun = true;
        let begin = Input::Begin { extensions: self.house.extensions().to_vec() };
        match first.map(|work| self.hand.take(*work)) {
            Some(invocation) => self.apply([begin, Input::Invoke(invocation)]),
            None => self.apply([begin]),
        }
    }

    /// Works on orders until there are no more of them, or `stop` ends it before: then the answer is its signal. Without orders there is one invocation,
    /// the one it was begun with.
    pub(super) async fn serve(
        &mut self,
        mut calls: mpsc::Receiver<Call>,
        mut orders: Option<&mut mpsc::Receiver<Order>>,
        stop: impl Future<Output = i32>,
    ) -> Result<Option<i32>, EnvironmentError> {
        let mut stop = pin!(stop);
        let mut memory_tick = interval_at(tokio::time::Instant::now() + MEMORY_TICK, MEMORY_TICK);
        memory_tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.over {
            if self.paused {
                match self.stand_still(&mut stop).await? {
                    Some(signal) => return Ok(Some(signal)),
                    None => continue,
                }
            }
            if orders.is_none() && self.hand.is_empty() && !self.say_farewell().await? {
                break;
            }
            let (alarm, is_busy) = (self.lifecycle.alarm(), !self.hand.is_empty());
            // In order of importance: neither a flood of output nor one of calls may hide the deadline.
            let wake = tokio::select! {
                biased;
                signal = &mut stop => Wake::Stop(signal),
                () = reached(alarm) => Wake::Alarm,
                _ = memory_tick.tick(), if is_busy => Wake::MemoryTick,
                // Before the call that tells their end.
                part = self.hand.part() => Wake::Part(part),
                Some(call) = calls.recv() => Wake::Call(call),
                Some((visit, stay)) = self.visits.next() => Wake::Visit(visit, stay),
                order = next(&mut orders) => order.map_or(Wake::Abandoned, Wake::Order),
                stir = self.house.stirs() => Wake::Stir(stir),
                () = told(&mut self.telling) => Wake::Told,
            };
            match wake {
                Wake::Stop(signal) => return Ok(Some(signal)),
                Wake::Abandoned => return Ok(None),
                other => self.wake(other).await?,
            }
            self.answer_late().await?;
            self.freeze_if_idle().await;
        }
        Ok(None)
    }

    async fn wake(&mut self, wake: Wake) -> Result<(), EnvironmentError> {
        match wake {
            Wake::Told => {
                self.telling = None;
                Ok(())
            }
            Wake::Stop(_) | Wake::Abandoned | Wake::Stir(Stir::Room) => Ok(()),
            Wake::Order(order) => self.take(order).await,
            Wake::Visit(visit, stay) => self.visit(visit, stay),
            Wake::Alarm => self.apply([Input::Alarm]),
            Wake::MemoryTick => self.sample_memory(),
            Wake::Call(call) => {
                // A single execution may use its memory and be over in no time.
                if self.keeping == Keeping::Once || self.memory_seen.is_none() {
                    self.sample_memory()?;
                }
                self.hand.offer(call.parts);
                self.apply([call.input])
            }
            Wake::Part(part) => match self.hand.add(part) {
                Taken::TooLarge => self.apply([Input::StreamTooLarge]),
                Taken::Added => Ok(()),
            },
            Wake::Stir(Stir::Launched(launched)) => {
                let inputs = self.house.launched(*launched)?;
                self.apply_all(inputs)
            }
            Wake::Stir(Stir::Happened(happened)) => self.happened(happened).await,
            Wake::Stir(Stir::Told(told)) => {
                self.house.report.note(&format!("undocked: {told}"));
                Ok(())
            }
            Wake::Stir(Stir::Socket) => {
                self.house.give_socket();
                Ok(())
            }
        }
    }

    async fn happened(&mut self, happened: Happened) -> Result<(), EnvironmentError> {
        match happened {
            Happened::Output(member, stream) => {
                self.house.take_output(member, stream, now().since_epoch);
                Ok(())
            }
            Happened::Ended(end) => {
                let inputs = self.house.left(end, now().since_epoch);
                self.apply_all(inputs)
            }
            Happened::Over => {
                let inputs = self.house.is_over(now().since_epoch).await?;
                self.apply_all(inputs)
            }
        }
    }

    async fn take(&mut self, order: Order) -> Result<(), EnvironmentError> {
        self.house.thaw();
        match order {
            Order::Invoke(work) if !self.begun => self.begin(Some(work)),
            Order::Invoke(work) => {
                let invocation = self.hand.take(*work);
                self.apply([Input::Invoke(invocation)])
            }
            Order::Restart => {
                if !self.begun {
                    self.begin(None)?;
                }
                self.house.renew();
                self.apply([Input::Restart])
            }
            Order::ShutDown { done } => {
                self.shut_down = Some(done);
                self.house.flush_telemetry(now().since_epoch).await;
                self.apply([Input::ShutDown])
            }
        }
    }

    /// Tells the lifecycle what happened and does what it says, until nothing more follows from it.
    fn apply<const N: usize>(&mut self, inputs: [Input<Ticket>; N]) -> Result<(), EnvironmentError> {
        self.apply_all(VecDeque::from(inputs))
    }

    fn apply_all(&mut self, inputs: impl Into<VecDeque<Input<Ticket>>>) -> Result<(), EnvironmentError> {
        let mut inputs = inputs.into();
        while let Some(input) = inputs.pop_front() {
            for effect in self.lifecycle.apply(input, now()) {
                inputs.extend(self.perform(effect)?);
            }
        }
        Ok(())
    }

    fn perform(&mut self, effect: Effect<Ticket>) -> Result<Option<Input<Ticket>>, EnvironmentError> {
        match effect {
            Effect::Start(program) => return self.house.start(program),
            Effect::Terminate(program) => return Ok(self.house.signal(program, libc::SIGTERM)),
            Effect::Kill(program) => return Ok(self.house.signal(program, libc::SIGKILL)),
            Effect::KillAll => return Ok(self.house.kill_all(now().since_epoch)),
            // The runtime has nothing to do before its next call: the client comes first.
            Effect::Answer(ticket, answer @ Answer::Accepted) => self.late.push((ticket, answer)),
            // The caller may be gone; that is its own affair.
            Effect::Answer(ticket, answer) => drop(ticket.send(answer)),
            Effect::Log(event) => self.log(&event),
            Effect::Decide(result) => self.hand.decide(result),
            Effect::StreamBegins { content_type } => self.hand.stream_begins(content_type),
            Effect::StreamEnds(result) => self.hand.stream_ends(result),
            Effect::Subscribe { extension, subscription } => self.house.telemetry.subscribe(&extension, subscription),
            Effect::Finish => {
                if let Some((figures, status)) = self.reported.take() {
                    self.hand.finish(Finished { figures, status, log_tail: self.house.report.log_tail() });
                }
            }
            Effect::Gone => self.over = true,
        }
        Ok(None)
    }

    /// Logs after everything that was written until now.
    fn log(&mut self, event: &LogEvent) {
        if let LogEvent::Report { figures, status, .. } = event {
            self.reported = Some((*figures, status.clone()));
        }
        self.house.log(event, now().since_epoch);
    }

    fn sample_memory(&mut self) -> Result<(), EnvironmentError> {
        match self.house.peak_memory_bytes() {
            Some(bytes) => {
                self.memory_seen = Some(Instant::now());
                self.apply([Input::PeakMemory { bytes }])
            }
            None => Ok(()),
        }
    }

    /// Tells the runtime that its answer was taken, after those who pass it on had their turn. Until then it is there, with its memory.
    async fn answer_late(&mut self) -> Result<(), EnvironmentError> {
        if self.late.is_empty() {
            return Ok(());
        }
        if self.keeping != Keeping::Once {
            // The fleet, and the connection of its client.
            tokio::task::yield_now().await;
            if self.memory_seen.is_none_or(|seen| seen.elapsed() > MEMORY_PAUSE) {
                self.sample_memory()?;
            }
        }
        for (ticket, answer) in self.late.drain(..) {
            let _ = ticket.send(answer);
        }
        Ok(())
    }

    /// After the only invocation: extensions have their shutdown phase. Whether there is one.
    async fn say_farewell(&mut self) -> Result<bool, EnvironmentError> {
        if self.house.extensions().is_empty() {
            return Ok(self.still_tells());
        }
        if !std::mem::replace(&mut self.farewell, true) {
            self.house.flush_telemetry(now().since_epoch).await;
            self.apply([Input::ShutDown])?;
        }
        Ok(!self.over)
    }

    /// After the only invocation: what an extension inside the runtime is still to be told. Whether that goes on.
    fn still_tells(&mut self) -> bool {
        /// As long as such extensions have at the end of an environment.
        const LIMIT: Duration = Duration::from_millis(500);
        if !std::mem::replace(&mut self.farewell, true) && self.house.has_audience() {
            let deadline = tokio::time::Instant::now() + LIMIT;
            self.telling = Some(Box::pin(self.house.telemetry.sent(deadline, now().since_epoch)));
        }
        self.telling.is_some()
    }

    async fn freeze_if_idle(&mut self) {
        if self.keeping == (Keeping::Staying { between: BetweenEvents::Freeze }) && self.lifecycle.is_idle() {
            self.house.freeze(now().since_epoch).await;
        }
    }

    /// Kills and reaps what runs, if anything does. What it wrote is logged only if the log is not yet complete.
    pub(super) async fn clear_away(&mut self) -> Result<(), EnvironmentError> {
        let is_complete = self.hand.is_empty();
        self.house.clear_away(is_complete, now().since_epoch).await
    }

    /// Tells whoever waits that it is over: for an invocation in hand, since `error` came in between.
    pub(super) fn close(self, error: Option<&Broken>) {
        if let Some(error) = error {
            self.hand.give_up(error);
        }
        if let Some(done) = self.shut_down {
            // Nobody may be waiting any more.
            let _ = done.send(());
        }
    }
}

fn now() -> Now {
    Now { instant: tokio::time::Instant::now().into_std(), since_epoch: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() }
}

async fn told(telling: &mut Option<Pin<Box<dyn Future<Output = ()>>>>) {
    match telling {
        Some(telling) => telling.await,
        None => pending().await,
    }
}

async fn reached(alarm: Option<Instant>) {
    match alarm {
        Some(alarm) => sleep_until(alarm.into()).await,
        None => pending().await,
    }
}

async fn next(orders: &mut Option<&mut mpsc::Receiver<Order>>) -> Option<Order> {
    match orders {
        Some(orders) => orders.recv().await,
        None => pending().await,
    }
}
