//! The lifecycle of one execution environment: its extensions and its runtime, its Init phase, the invocation in hand, its shutdown.
//!
//! A state machine without side effects: every input gives the effects to perform, in order. States and refusals are those of AWS's Runtime API and
//! Extensions API.

mod answer;
mod api;
mod extensions;
mod identifiers;
mod init;
mod input;
mod invocation;
mod shutdown;
mod streaming;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{InitPhase, Invocation, ReportStatus, ResponseFigures, RuntimeDoneStatus, RuntimeVersion};
use crate::function::Function;

pub use answer::{Answer, Delivery, ExtensionDelivery, ExtensionRefusal, Refusal, Registered, ShutdownReason};
pub use identifiers::Identifiers;
pub use input::{Effect, ErrorPost, Input, Posted, Program, Registration, StreamEnd};

use extensions::Extension;
use shutdown::Ending;

/// How long the Init phase may take, apart from the function's timeout.
const INIT_LIMIT: Duration = Duration::from_secs(10);
/// How long a runtime that has nothing left to do may take to end by itself, so that it can read its last answer and finish its log.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What becomes of an invocation whose environment fails to initialise in the phase before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FailedInit {
    /// It fails with it, as with docker-lambda and AWS's emulator: a single execution does nothing twice.
    #[default]
    IsTheResult,
    /// The phase is repeated inside the invocation, on the function's time, as on Lambda ("suppressed init").
    IsRepeated,
}

/// One reading of both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// The steady clock: durations and deadlines.
    pub instant: Instant,
    /// The time of day, since the Unix epoch: what is shown to others.
    pub since_epoch: Duration,
}

/// The state of one execution environment.
#[derive(Debug)]
pub struct Lifecycle<T> {
    function: Arc<Function>,
    identifiers: Identifiers,
    instance_id: String,
    runtime_version: Option<RuntimeVersion>,
    failed_init: FailedInit,
    /// The names of the external extensions, in the order in which they are started.
    externals: Vec<String>,
    /// The extensions that have been started or have registered since the last start.
    extensions: Vec<Extension<T>>,
    stage: Stage,
    runtime: Runtime<T>,
    current: Option<Current>,
    /// What is to be done when the invocation in hand is over.
    next: Option<Ordered>,
    /// How long the Init phase took, until a REPORT has told it.
    init: Option<Duration>,
    peak_memory_bytes: u64,
}

/// Where the answer to a call goes, and the id it gave.
type Call<'a, T> = (T, &'a str);

/// Where the environment stands.
#[derive(Debug)]
enum Stage {
    /// Nothing runs.
    Absent,
    /// Extensions and runtime initialise.
    Initialising(Initialising),
    /// They have, or could not and have a moment left.
    Up,
    /// They are being ended.
    Ending(Ending),
    /// Nothing will ever run again.
    Gone,
}

#[derive(Debug, Clone, Copy)]
struct Initialising {
    since: Instant,
    phase: InitPhase,
}

/// What was ordered for the time after the invocation in hand. The later one of two is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ordered {
    Restart,
    ShutDown,
}

/// Where the runtime stands, with AWS's names for these states.
#[derive(Debug)]
enum Runtime<T> {
    /// There is none.
    Absent,
    /// `Started`: it initialises.
    Started,
    /// `InitError`: it reported that it could not.
    InitError { until: Instant },
    /// `Ready`: it waits for an event.
    Ready { waiting: Vec<T> },
    /// `Running`: it has one.
    Running,
    /// `InvocationResponse`: its answer is on its way.
    Streaming {
        /// Whether that has become more than its invoker may get.
        too_large: bool,
    },
    /// `InvocationResponse`, `InvocationErrorResponse`: it posted something that cannot be used, and may post or ask no more.
    Aborted { post: Post, until: Option<Instant> },
    /// `RuntimeResponseSentState`: it answered.
    ResponseSent,
    /// It is being ended. Whoever waited keeps waiting: a connection that breaks would make the runtime complain in the log.
    Dying { waiting: Vec<T> },
}

/// Which of the two posts an invocation can get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Post {
    Response,
    Error,
}

/// The invocation in hand.
#[derive(Debug)]
struct Current {
    invocation: Arc<Invocation>,
    /// Set with the START line.
    begun: Option<Begun>,
    /// Whether the runtime was given it.
    handed_over: bool,
    /// Whether its result is decided.
    decided: bool,
    /// Whether its answer began to come in parts.
    streamed: bool,
    /// When its answer began to come.
    answered: Option<Now>,
    /// The answer's figures.
    response: Option<ResponseFigures>,
    /// How the runtime's part went, and whether that was told.
    runtime_done: (RuntimeDoneStatus, bool),
    /// What REPORT will say.
    status: ReportStatus,
}

#[derive(Debug, Clone, Copy)]
struct Begun {
    at: Now,
    deadline: Instant,
    deadline_ms: u64,
    /// Set when the phase is over before the runtime is.
    over: Option<Instant>,
}

impl<T> Lifecycle<T> {
    /// The lifecycle of an environment for this function.
    pub fn new(function: Arc<Function>, mut identifiers: Identifiers) -> Self {
        let instance_id = identifiers.next();
        Self {
            function,
            identifiers,
            instance_id,
            runtime_version: None,
            failed_init: FailedInit::default(),
            externals: Vec::new(),
            extensions: Vec::new(),
            stage: Stage::Absent,
            runtime: Runtime::Absent,
            current: None,
            next: None,
            init: None,
            peak_memory_bytes: 0,
        }
    }

    /// The same with the version of its managed runtime, which the log tells then.
    pub fn with_runtime_version(self, version: RuntimeVersion) -> Self {
        Self { runtime_version: Some(version), ..self }
    }

    /// The same where that becomes of an invocation after a failed Init phase.
    pub fn with_failed_init(self, failed_init: FailedInit) -> Self {
        Self { failed_init, ..self }
    }

    /// Takes what happened, says what to do.
    pub fn apply(&mut self, input: Input<T>, now: Now) -> Vec<Effect<T>> {
        let mut effects = Vec::new();
        if let Stage::Gone = self.stage {
            return effects;
        }
        match input {
            Input::Begin { extensions } => self.begin(extensions, now, &mut effects),
            Input::Invoke(invocation) => self.invoke(invocation, now, &mut effects),
            Input::Next(ticket) => self.next(ticket, now, &mut effects),
            Input::Response { ticket, request_id, body } => self.response((ticket, &request_id), body, now, &mut effects),
            Input::Error { ticket, request_id, body } => self.error((ticket, &request_id), body, now, &mut effects),
            Input::InitError { ticket, body } => self.init_error(ticket, body, now, &mut effects),
            Input::ResponseBegins { ticket, request_id, content_type } => {
                self.response_begins((ticket, &request_id), content_type, now, &mut effects);
            }
            Input::ResponseEnds { ticket, request_id, bytes, end } => {
                self.response_ends((ticket, &request_id), (bytes, end), now, &mut effects);
            }
            Input::StreamTooLarge => self.stream_too_large(&mut effects),
            Input::Register { ticket, registration } => self.register(ticket, &registration, &mut effects),
            Input::ExtensionNext { ticket, identifier } => self.extension_next(ticket, &identifier, now, &mut effects),
            Input::ExtensionInitError { ticket, identifier, error_type } => {
                self.extension_error((ticket, &identifier), (extensions::Fault::Init, error_type), now, &mut effects);
            }
            Input::ExtensionExitError { ticket, identifier, error_type } => {
                self.extension_error((ticket, &identifier), (extensions::Fault::Exit, error_type), now, &mut effects);
            }
            Input::Subscribe { ticket, identifier, api, subscription } => {
                self.subscribe(ticket, &identifier, (api, subscription), &mut effects);
            }
            Input::Alarm => self.on_alarm(now, &mut effects),
            Input::NotStarted(program, error) => self.not_started(&program, error, now, &mut effects),
            Input::Ended(program, end) => self.ended(&program, end, now, &mut effects),
            Input::Cleared => self.cleared(now, &mut effects),
            Input::Restart => self.order(Ordered::Restart, now, &mut effects),
            Input::ShutDown => self.order(Ordered::ShutDown, now, &mut effects),
            Input::PeakMemory { bytes } => self.peak_memory_bytes = self.peak_memory_bytes.max(bytes),
        }
        effects
    }

    /// Whether there is an invocation in hand, so that no other may be given.
    pub fn is_busy(&self) -> bool {
        self.current.is_some()
    }

    /// Whether nothing in the environment has anything to do, so that it may be frozen.
    pub fn is_idle(&self) -> bool {
        let waits = match self.stage {
            Stage::Absent | Stage::Gone => true,
            Stage::Up => matches!(self.runtime, Runtime::Ready { .. }),
            Stage::Initialising(_) | Stage::Ending(_) => false,
        };
        waits && self.current.is_none()
    }

    /// When [`Input::Alarm`] is wanted, if nothing happens before.
    pub fn alarm(&self) -> Option<Instant> {
        let deadline = self.current.as_ref().and_then(|current| current.begun).map(|begun| begun.deadline);
        match (&self.stage, &self.runtime) {
            (Stage::Absent | Stage::Gone, _) => None,
            (Stage::Ending(ending), _) => ending.alarm(),
            (Stage::Initialising(Initialising { since, phase: InitPhase::Init }), _) => Some(*since + INIT_LIMIT),
            (_, Runtime::InitError { until }) => Some(*until),
            (_, Runtime::Aborted { until: Some(until), .. }) => Some(deadline.map_or(*until, |deadline| deadline.min(*until))),
            _ => deadline,
        }
    }
}
