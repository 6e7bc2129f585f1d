//! Answers as HTTP: statuses, headers and bodies as Lambda's Invoke API has them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use crate::lambda::{AnswerForm, RequestId, trace};

use super::body::{Body, Frames};
use super::event_stream::Completion;
use super::refusal::Refusal;
use super::route::Action;
use super::{Answered, AnsweredBody, fresh_id};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("application/vnd.amazon.eventstream");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const UNHANDLED: HeaderValue = HeaderValue::from_static("Unhandled");

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const REMAPPED_LENGTH: HeaderName = HeaderName::from_static("x-amzn-remapped-content-length");
const REMAPPED_TYPE: HeaderName = HeaderName::from_static("x-amzn-remapped-content-type");
const EXECUTED_VERSION: HeaderName = HeaderName::from_static("x-amz-executed-version");
const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");
const LOG_RESULT: HeaderName = HeaderName::from_static("x-amz-log-result");

pub(super) fn pong() -> Response<Body> {
    response(StatusCode::OK, Some(TEXT), Bytes::from_static(b"pong"))
}

pub(super) fn not_found() -> Response<Body> {
    response(StatusCode::NOT_FOUND, Some(TEXT), Bytes::from_static(b"404 page not found\n"))
}

pub(super) fn method_not_allowed(allow: Option<&'static str>) -> Response<Body> {
    let mut response = response(StatusCode::METHOD_NOT_ALLOWED, None, Bytes::new());
    if let Some(allow) = allow {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    }
    response
}

/// The same with an id of its own; without one if there is no randomness.
pub(super) fn with_fresh_id(mut response: Response<Body>) -> Response<Body> {
    if let Ok(id) = fresh_id() {
        response.headers_mut().insert(REQUEST_ID, header_value(id.as_str()));
    }
    response
}

pub(super) fn refused(refusal: &Refusal, request_id: Option<&RequestId>) -> Response<Body> {
    let mut response = response(refusal.status, Some(JSON), refusal.body().into());
    let headers = response.headers_mut();
    headers.insert(ERROR_TYPE, HeaderValue::from_static(refusal.error_type));
    if let Some(id) = request_id {
        headers.insert(REQUEST_ID, header_value(id.as_str()));
    }
    response
}

/// An event that is queued. InvokeAsync has a body that says what the status says.
pub(super) fn accepted(action: Action, trace_id: &str, request_id: &RequestId) -> Response<Body> {
    let mut response = match action {
        Action::Invoke(_) => response(StatusCode::ACCEPTED, None, Bytes::new()),
        Action::Async => response(StatusCode::ACCEPTED, Some(JSON), Bytes::from_static(b"{\"Status\":202}")),
    };
    identify(&mut response, trace_id, request_id);
    response
}

/// A dry run that found nothing wrong.
pub(super) fn verified(request_id: &RequestId) -> Response<Body> {
    let mut response = response(StatusCode::NO_CONTENT, None, Bytes::new());
    identify(&mut response, "", request_id);
    response
}

/// A function's answer in the form that was asked for.
pub(super) fn answered(answered: Answered, form: AnswerForm, request_id: &RequestId) -> Response<Body> {
    let Answered { version, trace_id, body } = answered;
    let mut response = match form {
        AnswerForm::Streamed => streamed(body),
        AnswerForm::Buffered => match body {
            AnsweredBody::Whole { payload, failed, log_tail } => whole(payload, failed, log_tail),
            // Nobody should have begun one.
            AnsweredBody::Stream { .. } => {
                let refusal = Refusal::service("the function's answer came in parts, which nobody asked for".to_owned());
                return refused(&refusal, Some(request_id));
            }
        },
    };
    identify(&mut response, &trace_id, request_id);
    response.headers_mut().insert(EXECUTED_VERSION, header_value(&version));
    response
}

fn whole(payload: Bytes, failed: bool, log_tail: Option<Vec<u8>>) -> Response<Body> {
    // Clients parse what they get. docker-lambda, too, has JSON in place of nothing.
    let payload = if payload.is_empty() { Bytes::from_static(b"null") } else { payload };
    let mut response = response(StatusCode::OK, Some(JSON), payload);
    if failed {
        response.headers_mut().insert(FUNCTION_ERROR, UNHANDLED);
    }
    if let Some(tail) = log_tail {
        response.headers_mut().insert(LOG_RESULT, header_value(&BASE64.encode(tail)));
    }
    response
}

/// An answer as an event stream. Its status was decided before the function began, so even an error of the function's is 200.
fn streamed(body: AnsweredBody) -> Response<Body> {
    let (frames, content_type) = match body {
        AnsweredBody::Whole { payload, failed: true, log_tail } => {
            (Frames::of_whole(Bytes::new(), Completion { error: Some(payload), log_tail }), JSON)
        }
        AnsweredBody::Whole { payload, failed: false, log_tail } => (Frames::of_whole(payload, Completion { error: None, log_tail }), JSON),
        AnsweredBody::Stream { content_type, parts } => (Frames::of_parts(parts), content_type.as_deref().map_or(OCTETS, header_value)),
    };
    let mut response = Response::new(Body::Frames(frames));
    response.headers_mut().insert(CONTENT_TYPE, EVENT_STREAM);
    response.headers_mut().insert(REMAPPED_TYPE, content_type);
    response
}

/// What all answers bear that are no refusals.
fn identify(response: &mut Response<Body>, trace_id: &str, request_id: &RequestId) {
    response.headers_mut().insert(REMAPPED_LENGTH, HeaderValue::from_static("0"));
    identify_url(response, trace_id, request_id);
}

/// What the answers of a function's URL bear.
pub(super) fn identify_url(response: &mut Response<Body>, trace_id: &str, request_id: &RequestId) {
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, header_value(request_id.as_str()));
    if !trace_id.is_empty() {
        headers.insert(TRACE_ID, header_value(&trace::answered(trace_id)));
    }
}

/// The text as a header's value. What no header may hold becomes a space.
pub(super) fn header_value(text: &str) -> HeaderValue {
    let bytes: Vec<u8> = text.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }).collect();
    HeaderValue::from_maybe_shared(Bytes::from(bytes)).expect("without control characters every byte is allowed")
}

pub(super) fn response(status: StatusCode, content_type: Option<HeaderValue>, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::Whole(body));
    *response.status_mut() = status;
    if let Some(content_type) = content_type {
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    response
}
