//! One attempt at running an event.

use bytes::Bytes;

use super::course::{Course, Tried};
use super::ledger::{Ledger, Reason};
use super::store::Stored;
use super::{EventId, Recipient};
use crate::environment::Broken;
use crate::fleet::answer::{Whole, discard, whole};
use crate::fleet::attempt::{after, ended_unanswered, hand_over};
use crate::fleet::pool::Warm;
use crate::lambda::{Invocation, RequestId};

/// What became of an event that was given to an environment.
#[derive(Debug)]
pub(in crate::fleet) enum EventEnd {
    /// It ran, or could not.
    Tried { course: Box<Course>, tried: Tried, response: Option<Bytes>, broken: Option<Broken> },
    /// It could not be read.
    Lost { reason: Reason },
}

/// Reads an event and runs it. The environment comes back if it can take another invocation.
pub(in crate::fleet) async fn attempt(warm: Warm, id: EventId, ledger: Ledger, recipient: Recipient) -> (Option<Warm>, EventEnd) {
    let Stored { course, payload, .. } = match ledger.load(id.key).await {
        Ok(stored) => stored,
        Err(reason) => return (Some(warm), EventEnd::Lost { reason }),
    };
    let Some(request_id) = RequestId::parse(&course.request_id) else {
        return (Some(warm), EventEnd::Lost { reason: format!("`{}` is no request id", course.request_id) });
    };
    let invocation = invocation(&recipient, &course, request_id.clone(), payload);
    match hand_over(&warm, invocation).await {
        Err(_) => (None, fault(course, ended_unanswered())),
        Ok((Err(broken), _)) => (None, fault(course, broken)),
        Ok((Ok(answer), finished)) => {
            let (Whole { payload, failed }, rest) = whole(answer, &request_id).await;
            discard(rest).await;
            let warm = finished.await.ok().map(|finished| after(warm, &finished));
            let tried = if failed { Tried::Failed { message: message(&payload) } } else { Tried::Succeeded };
            (warm, EventEnd::Tried { course: Box::new(course), tried, response: Some(payload), broken: None })
        }
    }
}

fn fault(course: Course, broken: Broken) -> EventEnd {
    EventEnd::Tried {
        course: Box::new(course),
        tried: Tried::Fault { message: broken.reason.clone() },
        response: None,
        broken: Some(broken),
    }
}

/// Lambda gives queued events no client context.
fn invocation(recipient: &Recipient, course: &Course, request_id: RequestId, event: Bytes) -> Invocation {
    Invocation {
        request_id,
        event,
        content_type: course.content_type.clone(),
        invoked_function_arn: course.invoked_function_arn.clone(),
        trace_id: course.trace_id.clone(),
        client_context: None,
        cognito_identity: recipient.function.cognito_identity.clone(),
        tenant_id: course.tenant_id.clone(),
    }
}

/// The message of a function's error; the error itself, if it has none.
fn message(error: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Error {
        error_message: String,
    }
    serde_json::from_slice(error).map_or_else(|_| String::from_utf8_lossy(error).into_owned(), |error: Error| error.error_message)
}
