//! Answers that come in parts. The parts themselves go past the lifecycle, which knows their beginning and their end.

use bytes::Bytes;

use super::{Answer, Call, Effect, Lifecycle, Now, Post, Refusal, Runtime, StreamEnd};
use crate::lambda::{ErrorKind, FunctionError, PlatformError, ReportStatus};

impl<T> Lifecycle<T> {
    pub(super) fn response_begins(&mut self, call: Call<'_, T>, content_type: Option<String>, now: Now, effects: &mut Vec<Effect<T>>) {
        let Some(ticket) = self.admit(call, Post::Response, effects) else {
            return;
        };
        self.runtime = Runtime::Streaming { too_large: false };
        if let Some(current) = &mut self.current {
            (current.streamed, current.answered) = (true, Some(now));
        }
        effects.push(Effect::StreamBegins { content_type });
        effects.push(Effect::Answer(ticket, Answer::GoOn));
    }

    pub(super) fn response_ends(&mut self, call: Call<'_, T>, ended: (u64, StreamEnd), now: Now, effects: &mut Vec<Effect<T>>) {
        let ((ticket, request_id), (bytes, end)) = (call, ended);
        let Runtime::Streaming { too_large } = self.runtime else {
            return self.refuse(ticket, Post::Response.state(), effects);
        };
        if !self.is_in_hand(request_id) {
            return effects.push(Effect::Answer(ticket, Answer::Refused(Refusal::InvalidRequestId)));
        }
        if let Some(current) = &mut self.current {
            current.note_response(bytes, now);
        }
        match end {
            StreamEnd::Truncated => {
                self.reject(ticket, Post::Response, (Refusal::Truncated, PlatformError::TruncatedResponse), effects);
            }
            StreamEnd::TooLarge => self.reject(ticket, Post::Response, (Refusal::TooLarge, PlatformError::StreamTooLarge), effects),
            _ if too_large => self.reject(ticket, Post::Response, (Refusal::TooLarge, PlatformError::ResponseTooLarge), effects),
            StreamEnd::Whole => self.stream_ended(ticket, Ok(Bytes::new()), effects),
            StreamEnd::Failed(post) => {
                let error = FunctionError { payload: post.body, kind: ErrorKind::Handler(post.error_type) };
                self.stream_ended(ticket, Err(error), effects);
            }
        }
    }

    fn stream_ended(&mut self, ticket: T, result: Result<Bytes, FunctionError>, effects: &mut Vec<Effect<T>>) {
        self.runtime = Runtime::ResponseSent;
        effects.push(Effect::Answer(ticket, Answer::Accepted));
        let status = ReportStatus::of_answer(&result);
        self.decide(result, status, effects);
    }

    pub(super) fn stream_too_large(&mut self, effects: &mut Vec<Effect<T>>) {
        if let Runtime::Streaming { too_large } = &mut self.runtime {
            *too_large = true;
            self.decide_platform(PlatformError::ResponseTooLarge, effects);
        }
    }
}
