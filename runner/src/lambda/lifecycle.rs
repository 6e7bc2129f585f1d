//! The lifecycle of one execution environment: its runtime, its Init phase, the invocation in hand.
//!
//! A state machine without side effects: every input gives the effects to perform, in order. States and refusals are those of AWS's Runtime API.

mod api;
mod phases;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{FunctionError, InitPhase, Invocation, LogEvent, PlatformError, ReportStatus, RuntimeEnd};
use crate::function::Function;

pub use api::{Answer, Delivery, ErrorPost, Posted, Refusal};

/// How long the Init phase may take, apart from the function's timeout.
const INIT_LIMIT: Duration = Duration::from_secs(10);
/// How long a runtime that has nothing left to do may take to end by itself, so that it can read its last answer and finish its log.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// One reading of both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// The steady clock: durations and deadlines.
    pub instant: Instant,
    /// The time of day, since the Unix epoch: what is shown to others.
    pub since_epoch: Duration,
}

/// Something that happened. `T` is whatever the Runtime API's answer is sent by.
#[derive(Debug)]
pub enum Input<T> {
    /// The environment is there: begin the Init phase.
    Begin,
    /// An event arrived. Only one at a time, see [`Lifecycle::is_busy`].
    Invoke(Invocation),
    /// The runtime asked for the next event.
    Next(T),
    /// The runtime answered an event.
    Response {
        /// Where the answer to it goes.
        ticket: T,
        /// The id it named.
        request_id: String,
        /// The handler's answer.
        body: Posted<Result<Bytes, ErrorPost>>,
    },
    /// The runtime reported that the handler failed.
    Error {
        /// Where the answer to it goes.
        ticket: T,
        /// The id it named.
        request_id: String,
        /// The failure.
        body: Posted<ErrorPost>,
    },
    /// The runtime reported that it could not initialise.
    InitError {
        /// Where the answer to it goes.
        ticket: T,
        /// The failure.
        body: Posted<ErrorPost>,
    },
    /// The [alarm](Lifecycle::alarm) may have gone off; too early does no harm.
    Alarm,
    /// The runtime could not be started.
    NotStarted(PlatformError),
    /// The runtime and all it started have ended, and all of its output was logged.
    Ended(RuntimeEnd),
    /// The most memory the sandbox was seen to use.
    PeakMemory {
        /// In bytes.
        bytes: u64,
    },
}

/// Something to do.
#[derive(Debug, PartialEq)]
pub enum Effect<T> {
    /// Start a runtime in a fresh sandbox. [`Input::NotStarted`] or, in the end, [`Input::Ended`] follows.
    StartRuntime,
    /// Kill the runtime with all it started. [`Input::Ended`] follows.
    KillRuntime,
    /// Answer a call of the runtime.
    Answer(T, Answer),
    /// Log this, after everything the function wrote until now.
    Log(LogEvent),
    /// The invocation's result is known; its phase goes on.
    Decide(Result<Bytes, FunctionError>),
    /// The invocation's phase is over, all of it is logged.
    Finish,
}

/// The state of one execution environment.
#[derive(Debug)]
pub struct Lifecycle<T> {
    function: Arc<Function>,
    runtime: Runtime<T>,
    current: Option<Current>,
    /// How long the Init phase took, until a REPORT has told it.
    init: Option<Duration>,
    peak_memory_bytes: u64,
}

/// Where the runtime stands, with AWS's names for these states.
#[derive(Debug)]
enum Runtime<T> {
    /// There is none.
    Absent,
    /// `Started`: it initialises.
    Started { since: Instant, phase: InitPhase },
    /// `InitError`: it reported that it could not.
    InitError { until: Instant },
    /// `Ready`: it waits for an event.
    Ready { waiting: Vec<T> },
    /// `Running`: it has one.
    Running,
    /// `InvocationResponse`, `InvocationErrorResponse`: it posted something that cannot be used, and may post or ask no more.
    Aborted { post: Post, until: Option<Instant> },
    /// `RuntimeResponseSentState`: it answered.
    ResponseSent,
    /// It is being killed, for this reason.
    Dying(Killed),
}

/// Which of the two posts an invocation can get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Post {
    Response,
    Error,
}

/// Why a runtime was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Killed {
    /// Its Init phase took too long: it gets another try inside the invocation.
    InitTimeout,
    /// The invocation passed its deadline.
    Deadline,
    /// Nothing is left to do for it.
    Done,
}

/// The invocation in hand.
#[derive(Debug)]
struct Current {
    invocation: Arc<Invocation>,
    /// Set with the START line.
    begun: Option<Begun>,
    /// Whether its result is decided.
    decided: bool,
    /// What REPORT will say.
    status: ReportStatus,
}

#[derive(Debug, Clone, Copy)]
struct Begun {
    at: Instant,
    deadline: Instant,
    deadline_ms: u64,
    /// Set when the phase is over before the runtime is.
    over: Option<Instant>,
}

impl<T> Lifecycle<T> {
    /// The lifecycle of an environment for this function.
    pub fn new(function: Arc<Function>) -> Self {
        Self { function, runtime: Runtime::Absent, current: None, init: None, peak_memory_bytes: 0 }
    }

    /// Takes what happened, says what to do.
    pub fn apply(&mut self, input: Input<T>, now: Now) -> Vec<Effect<T>> {
        let mut effects = Vec::new();
        match input {
            Input::Begin => self.begin(now, &mut effects),
            Input::Invoke(invocation) => self.invoke(invocation, now, &mut effects),
            Input::Next(ticket) => self.next(ticket, now, &mut effects),
            Input::Response { ticket, request_id, body } => self.response(ticket, &request_id, body, &mut effects),
            Input::Error { ticket, request_id, body } => self.error(ticket, &request_id, body, &mut effects),
            Input::InitError { ticket, body } => self.init_error(ticket, body, now, &mut effects),
            Input::Alarm => self.on_alarm(now, &mut effects),
            Input::NotStarted(error) => self.not_started(error, now, &mut effects),
            Input::Ended(end) => self.ended(end, now, &mut effects),
            Input::PeakMemory { bytes } => self.peak_memory_bytes = self.peak_memory_bytes.max(bytes),
        }
        effects
    }

    /// Whether there is an invocation in hand, so that no other may be given.
    pub fn is_busy(&self) -> bool {
        self.current.is_some()
    }

    /// When [`Input::Alarm`] is wanted, if nothing happens before.
    pub fn alarm(&self) -> Option<Instant> {
        let deadline = self.current.as_ref().and_then(|current| current.begun).map(|begun| begun.deadline);
        match self.runtime {
            Runtime::Absent | Runtime::Ready { .. } | Runtime::Dying(_) => None,
            Runtime::Started { since, phase: InitPhase::Init } => Some(since + INIT_LIMIT),
            Runtime::InitError { until } => Some(until),
            Runtime::Aborted { until: Some(until), .. } => Some(deadline.map_or(until, |deadline| deadline.min(until))),
            Runtime::Started { phase: InitPhase::Invoke, .. }
            | Runtime::Running
            | Runtime::Aborted { until: None, .. }
            | Runtime::ResponseSent => deadline,
        }
    }
}
