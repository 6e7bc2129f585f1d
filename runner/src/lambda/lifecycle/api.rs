//! The runtime's calls: what each may do in which state, and what it is answered.

use bytes::Bytes;

use super::{Answer, Call, Current, Effect, ErrorPost, LAST_WORDS, Lifecycle, Now, Post, Posted, Refusal, Runtime, Stage};
use crate::lambda::{ErrorKind, FunctionError, PlatformError, ReportStatus};

impl Post {
    /// AWS's name of the state a runtime is in while it posts.
    pub(super) fn state(self) -> &'static str {
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
            Self::Absent | Self::Dying { .. } => "Exited",
            Self::Started => "Started",
            Self::InitError { .. } => "InitError",
            Self::Ready { .. } => "Ready",
            Self::Running => "Running",
            Self::Streaming { .. } => Post::Response.state(),
            Self::Aborted { post, .. } => post.state(),
            Self::ResponseSent => "RuntimeResponseSentState",
        }
    }
}

impl<T> Lifecycle<T> {
    pub(super) fn next(&mut self, ticket: T, now: Now, effects: &mut Vec<Effect<T>>) {
        match &mut self.runtime {
            // The caller is a leftover of a runtime that was killed; its connection is as dead.
            Runtime::Absent => {}
            Runtime::Started => self.runtime_initialised(ticket, now, effects),
            Runtime::Ready { waiting } | Runtime::Dying { waiting } => waiting.push(ticket),
            Runtime::Running => {
                if let Some(delivery) = self.current.as_ref().and_then(Current::delivery) {
                    effects.push(Effect::Answer(ticket, Answer::Event(delivery)));
                }
            }
            Runtime::ResponseSent => {
                self.runtime = Runtime::Ready { waiting: vec![ticket] };
                self.tell_runtime_done(now, effects);
                self.end_phase_if_due(now, effects);
            }
            Runtime::InitError { .. } | Runtime::Streaming { .. } => self.refuse(ticket, "Ready", effects),
            Runtime::Aborted { until, .. } => {
                until.get_or_insert(now.instant + LAST_WORDS);
                self.mark_over(now);
                self.refuse(ticket, "Ready", effects);
            }
        }
    }

    pub(super) fn response(&mut self, call: Call<'_, T>, body: Posted<Result<Bytes, ErrorPost>>, now: Now, effects: &mut Vec<Effect<T>>) {
        let Some(ticket) = self.admit(call, Post::Response, effects) else {
            return;
        };
        match body {
            Posted::Whole(result) => self.accept(ticket, result, now, effects),
            unusable => self.reject(ticket, Post::Response, unusable.fault(), effects),
        }
    }

    pub(super) fn error(&mut self, call: Call<'_, T>, body: Posted<ErrorPost>, now: Now, effects: &mut Vec<Effect<T>>) {
        let Some(ticket) = self.admit(call, Post::Error, effects) else {
            return;
        };
        match body {
            Posted::Whole(post) => self.accept(ticket, Err(post), now, effects),
            unusable => self.reject(ticket, Post::Error, unusable.fault(), effects),
        }
    }

    pub(super) fn init_error(&mut self, ticket: T, body: Posted<ErrorPost>, now: Now, effects: &mut Vec<Effect<T>>) {
        let (Runtime::Started, Stage::Initialising(_)) = (&self.runtime, &self.stage) else {
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
        self.init_failed(error_type.clone(), now, effects);
        self.runtime = Runtime::InitError { until: now.instant + LAST_WORDS };
        if self.current.as_ref().is_none_or(|current| current.begun.is_none()) {
            return;
        }
        match error {
            Err(error) => self.decide(Err(error), ReportStatus::Error(error_type), effects),
            Ok(error) => self.decide_platform(error, effects),
        }
    }

    /// Lets a post through that names the invocation in hand while the runtime has it.
    pub(super) fn admit(&mut self, call: Call<'_, T>, post: Post, effects: &mut Vec<Effect<T>>) -> Option<T> {
        let (ticket, request_id) = call;
        match self.runtime {
            _ if !self.is_in_hand(request_id) => effects.push(Effect::Answer(ticket, Answer::Refused(Refusal::InvalidRequestId))),
            Runtime::Running => return Some(ticket),
            _ => self.refuse(ticket, post.state(), effects),
        }
        None
    }

    pub(super) fn is_in_hand(&self, request_id: &str) -> bool {
        self.current.as_ref().is_some_and(|current| current.begun.is_some() && current.invocation.request_id.as_str() == request_id)
    }

    pub(super) fn accept(&mut self, ticket: T, result: Result<Bytes, ErrorPost>, now: Now, effects: &mut Vec<Effect<T>>) {
        let bytes = result.as_ref().map_or_else(|post| post.body.len(), Bytes::len);
        if let Some(current) = &mut self.current {
            current.note_response(u64::try_from(bytes).unwrap_or(u64::MAX), now);
        }
        effects.push(Effect::Answer(ticket, Answer::Accepted));
        self.runtime = Runtime::ResponseSent;
        let result = result.map_err(|post| FunctionError { payload: post.body, kind: ErrorKind::Handler(post.error_type) });
        let status = ReportStatus::of_answer(&result);
        self.decide(result, status, effects);
    }

    /// A post that cannot be used fails the invocation. Only after one that was too large may the runtime go on.
    pub(super) fn reject(&mut self, ticket: T, post: Post, fault: (Refusal, PlatformError), effects: &mut Vec<Effect<T>>) {
        let (refusal, error) = fault;
        self.runtime = match refusal {
            Refusal::TooLarge => Runtime::ResponseSent,
            _ => Runtime::Aborted { post, until: None },
        };
        effects.push(Effect::Answer(ticket, Answer::Refused(refusal)));
        self.decide_platform(error, effects);
    }

    pub(super) fn refuse(&self, ticket: T, to: &'static str, effects: &mut Vec<Effect<T>>) {
        if !matches!(self.runtime, Runtime::Absent | Runtime::Dying { .. }) {
            let from = self.runtime.name();
            effects.push(Effect::Answer(ticket, Answer::Refused(Refusal::InvalidTransition { from, to })));
        }
    }
}

impl<B> Posted<B> {
    /// What the runtime and what the invoker are told of a body that cannot be used.
    fn fault(&self) -> (Refusal, PlatformError) {
        match self {
            Self::TooLarge => (Refusal::TooLarge, PlatformError::ResponseTooLarge),
            Self::InvalidMode => (Refusal::InvalidMode, PlatformError::InvalidResponseMode),
            Self::Whole(_) | Self::Truncated => (Refusal::Truncated, PlatformError::TruncatedResponse),
        }
    }
}
