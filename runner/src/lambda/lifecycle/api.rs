//! The runtime's calls: what each may do in which state, and what it is answered.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::{Current, Effect, LAST_WORDS, Lifecycle, Now, Post, Runtime};
use crate::lambda::{ErrorKind, ErrorType, FunctionError, InitPhase, Invocation, PlatformError, ReportStatus};

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

/// An error as a runtime posts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorPost {
    /// The type named in its header or trailer.
    pub error_type: ErrorType,
    /// The error's JSON, for the invoker.
    pub body: Bytes,
}

/// The answer to a call of the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 200, an event.
    Event(Delivery),
    /// 202.
    Accepted,
    /// 4xx.
    Refused(Refusal),
}

/// An event on its way to the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The invocation.
    pub invocation: Arc<Invocation>,
    /// When it times out, in milliseconds since the Unix epoch.
    pub deadline_ms: u64,
}

/// Why a call of the runtime was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The id is not that of the invocation in hand.
    InvalidRequestId,
    /// The call is not allowed in the runtime's state.
    InvalidTransition {
        /// The state it is in.
        from: &'static str,
        /// The state it would go into.
        to: &'static str,
    },
    /// The body is larger than the largest payload.
    TooLarge,
    /// The body ended too early.
    Truncated,
    /// The response mode is unknown.
    InvalidMode,
}

impl Post {
    /// AWS's name of the state a runtime is in while it posts.
    fn state(self) -> &'static str {
        match self {
            Self::Response => "InvocationResponse",
            Self::Error => "InvocationErrorResponse",
        }
    }
}

impl<T> Runtime<T> {
    /// AWS's name of the state.
    fn name(&self) -> &'static str {
        match self {
            Self::Absent | Self::Dying(_) => "Exited",
            Self::Started { .. } => "Started",
            Self::InitError { .. } => "InitError",
            Self::Ready { .. } => "Ready",
            Self::Running => "Running",
            Self::Aborted { post, .. } => post.state(),
            Self::ResponseSent => "RuntimeResponseSentState",
        }
    }
}

impl<T> Lifecycle<T> {
    pub(super) fn next(&mut self, ticket: T, now: Now, effects: &mut Vec<Effect<T>>) {
        match &mut self.runtime {
            // The caller is a leftover of a runtime that was killed; its connection is as dead.
            Runtime::Absent | Runtime::Dying(_) => {}
            Runtime::Started { since, phase } => {
                if *phase == InitPhase::Init {
                    self.init = Some(now.instant - *since);
                }
                self.runtime = Runtime::Ready { waiting: vec![ticket] };
                self.hand_over(now, effects);
            }
            Runtime::Ready { waiting } => waiting.push(ticket),
            Runtime::Running => {
                if let Some(delivery) = self.current.as_ref().and_then(Current::delivery) {
                    effects.push(Effect::Answer(ticket, Answer::Event(delivery)));
                }
            }
            Runtime::ResponseSent => {
                self.end_phase(now, effects);
                self.runtime = Runtime::Ready { waiting: vec![ticket] };
            }
            Runtime::InitError { .. } => self.refuse(ticket, "Ready", effects),
            Runtime::Aborted { until, .. } => {
                until.get_or_insert(now.instant + LAST_WORDS);
                self.mark_over(now);
                self.refuse(ticket, "Ready", effects);
            }
        }
    }

    pub(super) fn response(&mut self, ticket: T, request_id: &str, body: Posted<Result<Bytes, ErrorPost>>, effects: &mut Vec<Effect<T>>) {
        let Some(ticket) = self.admit(ticket, request_id, Post::Response, effects) else {
            return;
        };
        match body {
            Posted::Whole(Ok(payload)) => self.accept(ticket, Ok(payload), effects),
            Posted::Whole(Err(post)) => self.accept(ticket, Err(post), effects),
            unusable => self.reject(ticket, Post::Response, &unusable, effects),
        }
    }

    pub(super) fn error(&mut self, ticket: T, request_id: &str, body: Posted<ErrorPost>, effects: &mut Vec<Effect<T>>) {
        let Some(ticket) = self.admit(ticket, request_id, Post::Error, effects) else {
            return;
        };
        match body {
            Posted::Whole(post) => self.accept(ticket, Err(post), effects),
            unusable => self.reject(ticket, Post::Error, &unusable, effects),
        }
    }

    pub(super) fn init_error(&mut self, ticket: T, body: Posted<ErrorPost>, now: Now, effects: &mut Vec<Effect<T>>) {
        let Runtime::Started { since, phase } = self.runtime else {
            return self.refuse(ticket, "InitError", effects);
        };
        let (answer, error_type, error) = match body {
            Posted::Whole(post) => {
                let error = FunctionError { payload: post.body, kind: ErrorKind::Init(post.error_type.clone()) };
                (Answer::Accepted, post.error_type, Err(error))
            }
            unusable => {
                let (refusal, error) = unusable.fault();
                (Answer::Refused(refusal), error.error_type().into(), Ok(error))
            }
        };
        effects.push(Effect::Answer(ticket, answer));
        self.runtime = Runtime::InitError { until: now.instant + LAST_WORDS };
        self.init_failed((since, phase), error_type.clone(), now, effects);
        match error {
            Err(error) => self.decide(Err(error), ReportStatus::Error(error_type), effects),
            Ok(error) => self.decide_platform(error, effects),
        }
    }

    /// Lets a post through that names the invocation in hand while the runtime has it.
    fn admit(&mut self, ticket: T, request_id: &str, post: Post, effects: &mut Vec<Effect<T>>) -> Option<T> {
        let is_current =
            self.current.as_ref().is_some_and(|current| current.begun.is_some() && current.invocation.request_id.as_str() == request_id);
        match self.runtime {
            _ if !is_current => effects.push(Effect::Answer(ticket, Answer::Refused(Refusal::InvalidRequestId))),
            Runtime::Running => return Some(ticket),
            _ => self.refuse(ticket, post.state(), effects),
        }
        None
    }

    fn accept(&mut self, ticket: T, result: Result<Bytes, ErrorPost>, effects: &mut Vec<Effect<T>>) {
        effects.push(Effect::Answer(ticket, Answer::Accepted));
        self.runtime = Runtime::ResponseSent;
        let result = result.map_err(|post| FunctionError { payload: post.body, kind: ErrorKind::Handler(post.error_type) });
        self.decide(result, ReportStatus::Success, effects);
    }

    /// A post that cannot be used fails the invocation. Only after one that was too large may the runtime go on.
    fn reject<B>(&mut self, ticket: T, post: Post, unusable: &Posted<B>, effects: &mut Vec<Effect<T>>) {
        let (refusal, error) = unusable.fault();
        effects.push(Effect::Answer(ticket, Answer::Refused(refusal)));
        self.runtime = match refusal {
            Refusal::TooLarge => Runtime::ResponseSent,
            _ => Runtime::Aborted { post, until: None },
        };
        self.decide_platform(error, effects);
    }

    fn refuse(&self, ticket: T, to: &'static str, effects: &mut Vec<Effect<T>>) {
        if !matches!(self.runtime, Runtime::Absent | Runtime::Dying(_)) {
            let from = self.runtime.name();
            effects.push(Effect::Answer(ticket, Answer::Refused(Refusal::InvalidTransition { from, to })));
        }
    }
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

    /// What the runtime and what the invoker are told of a body that cannot be used.
    fn fault(&self) -> (Refusal, PlatformError) {
        match self {
            Self::TooLarge => (Refusal::TooLarge, PlatformError::ResponseTooLarge),
            Self::InvalidMode => (Refusal::InvalidMode, PlatformError::InvalidResponseMode),
            Self::Whole(_) | Self::Truncated => (Refusal::Truncated, PlatformError::TruncatedResponse),
        }
    }
}

/// The `errorType` in the answer's body.
impl Refusal {
    /// AWS's name for it.
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::InvalidRequestId => "InvalidRequestID",
            Self::InvalidTransition { .. } => "InvalidStateTransition",
            Self::TooLarge => "RequestEntityTooLarge",
            Self::Truncated => "TruncatedHTTPRequest",
            Self::InvalidMode => "InvalidFunctionResponseMode",
        }
    }
}

/// The `errorMessage` in the answer's body.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidRequestId => f.write_str("Invalid request ID"),
            Self::InvalidTransition { from, to } => {
                write!(f, "State transition from {from} to {to} failed for runtime. Error: State transition is not allowed")
            }
            Self::TooLarge => write!(f, "Exceeded maximum allowed payload size ({} bytes).", crate::lambda::MAX_PAYLOAD_BYTES),
            Self::Truncated => f.write_str("HTTP request detected as truncated"),
            Self::InvalidMode => f.write_str("Invalid function response mode"),
        }
    }
}
