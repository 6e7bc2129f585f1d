//! What the lifecycle is told, and what it says is to be done.

use bytes::Bytes;

use super::Answer;
use crate::lambda::{ErrorType, FunctionError, Invocation, LogEvent, PlatformError, RuntimeEnd, TelemetryApi, TelemetrySubscription};

/// A program that runs in the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Program {
    /// The runtime.
    Runtime,
    /// The external extension of this name.
    Extension(String),
}

/// Something that happened. `T` is whatever the answer to a call is sent by.
#[derive(Debug)]
pub enum Input<T> {
    /// The environment is there: begin the Init phase.
    Begin {
        /// The names of its external extensions, in the order in which they are started.
        extensions: Vec<String>,
    },
    /// An event arrived. Only one at a time, see [`Lifecycle::is_busy`](super::Lifecycle::is_busy).
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
    /// The runtime begins to answer an event in parts.
    ResponseBegins {
        /// Where the answer to that goes.
        ticket: T,
        /// The id it named.
        request_id: String,
        /// The content type it gave.
        content_type: Option<String>,
    },
    /// An answer in parts that was told to [go on](Answer::GoOn) is over. The parts themselves go another way.
    ResponseEnds {
        /// Where the answer to the whole call goes.
        ticket: T,
        /// The id it named.
        request_id: String,
        /// How many bytes came.
        bytes: u64,
        /// How it ended.
        end: StreamEnd,
    },
    /// An answer in parts has become more than its invoker may get.
    StreamTooLarge,
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
    /// An extension registers.
    Register {
        /// Where the answer to it goes.
        ticket: T,
        /// What it said.
        registration: Registration,
    },
    /// An extension asked for the next event.
    ExtensionNext {
        /// Where the answer to it goes.
        ticket: T,
        /// The identifier it gave.
        identifier: String,
    },
    /// An extension reported that it could not initialise.
    ExtensionInitError {
        /// Where the answer to it goes.
        ticket: T,
        /// The identifier it gave.
        identifier: String,
        /// What went wrong.
        error_type: String,
    },
    /// An extension reported that it has to end.
    ExtensionExitError {
        /// Where the answer to it goes.
        ticket: T,
        /// The identifier it gave.
        identifier: String,
        /// What went wrong.
        error_type: String,
    },
    /// An extension wants records.
    Subscribe {
        /// Where the answer to it goes.
        ticket: T,
        /// The identifier it gave.
        identifier: String,
        /// The API it asked.
        api: TelemetryApi,
        /// What it wants, or what is wrong with that.
        subscription: Result<TelemetrySubscription, String>,
    },
    /// The [alarm](super::Lifecycle::alarm) may have gone off; too early does no harm.
    Alarm,
    /// A program could not be started.
    NotStarted(Program, PlatformError),
    /// A program has ended by itself, by [`Effect::Terminate`] or [`Effect::Kill`], and all of its output was logged. Where the runtime is the only
    /// program, everything it started has ended, too.
    Ended(Program, RuntimeEnd),
    /// After [`Effect::KillAll`]: nothing is left in the sandbox, and all output was logged.
    Cleared,
    /// Start everything anew once the invocation in hand is over.
    Restart,
    /// End everything once the invocation in hand is over. [`Effect::Gone`] follows.
    ShutDown,
    /// The most memory the sandbox was seen to use.
    PeakMemory {
        /// In bytes.
        bytes: u64,
    },
}

/// What an extension says when it registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Its name, not empty.
    pub name: String,
    /// The events it wants, unchecked.
    pub events: Vec<String>,
    /// Whether it wants to know the account.
    pub wants_account_id: bool,
}

/// What became of a posted body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Posted<B> {
    /// It arrived whole.
    Whole(B),
    /// It was larger than [`MAX_PAYLOAD_BYTES`](crate::lambda::MAX_PAYLOAD_BYTES).
    TooLarge,
    /// The connection ended before it did.
    Truncated,
    /// The response mode is unknown; the body was not looked at.
    InvalidMode,
}

/// How an answer in parts ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEnd {
    /// As it should.
    Whole,
    /// The handler failed on the way.
    Failed(ErrorPost),
    /// It was larger than [`MAX_STREAM_BYTES`](crate::lambda::MAX_STREAM_BYTES).
    TooLarge,
    /// The connection ended before it did.
    Truncated,
}

/// An error as a runtime posts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorPost {
    /// The type named in its header or trailer.
    pub error_type: ErrorType,
    /// The error's JSON, for the invoker.
    pub body: Bytes,
}

/// Something to do.
#[derive(Debug, PartialEq)]
pub enum Effect<T> {
    /// Start a program, in a fresh sandbox if there is none. [`Input::NotStarted`] may follow.
    Start(Program),
    /// Ask a program to end (SIGTERM).
    Terminate(Program),
    /// Kill a program with its process group. What else is in the sandbox goes on.
    Kill(Program),
    /// Kill everything in the sandbox. [`Input::Cleared`] follows in any case, also if nothing ran; [`Input::Ended`] need not.
    KillAll,
    /// Answer a call.
    Answer(T, Answer),
    /// Log this, after everything the function wrote until now.
    Log(LogEvent),
    /// The invocation's result is known; its phase goes on. Once per invocation, but for those whose answer comes in parts.
    Decide(Result<Bytes, FunctionError>),
    /// The answer comes in parts, beside the lifecycle.
    StreamBegins {
        /// The content type the runtime gave.
        content_type: Option<String>,
    },
    /// No part follows those that have been sent by now.
    StreamEnds(Result<(), FunctionError>),
    /// The invocation's phase is over, all of it is logged. The next may be given.
    Finish,
    /// Send records to an extension from now on, in place of an earlier subscription of the same one. It ends with [`Effect::KillAll`].
    Subscribe {
        /// Its name.
        extension: String,
        /// What it wants.
        subscription: TelemetrySubscription,
    },
    /// Nothing is left, and nothing will follow.
    Gone,
}

impl<B> Posted<B> {
    /// The same with what arrived turned into something else.
    pub fn map<C>(self, with: impl FnOnce(B) -> C) -> Posted<C> {
        match self {
            Self::Whole(body) => Posted::Whole(with(body)),
            Self::TooLarge => Posted::TooLarge,
            Self::Truncated => Posted::Truncated,
            Self::InvalidMode => Posted::InvalidMode,
        }
    }
}
