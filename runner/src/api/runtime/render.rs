//! Answers as HTTP: statuses, headers and bodies as AWS's Runtime API has them.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::lambda::{Answer, Delivery, Refusal};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

pub(super) fn answer(answer: Answer) -> Response<Full<Bytes>> {
    match answer {
        Answer::Event(delivery) => event(&delivery),
        Answer::Accepted => response(StatusCode::ACCEPTED, JSON, Bytes::from_static(b"{\"status\":\"OK\"}\n")),
        Answer::Refused(refusal) => refused(refusal),
    }
}

pub(super) fn pong() -> Response<Full<Bytes>> {
    response(StatusCode::OK, TEXT, Bytes::from_static(b"pong"))
}

pub(super) fn not_found() -> Response<Full<Bytes>> {
    response(StatusCode::NOT_FOUND, TEXT, Bytes::from_static(b"404 page not found\n"))
}

pub(super) fn method_not_allowed(allow: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

/// The event with its headers, of which only those are sent that say something.
fn event(delivery: &Delivery) -> Response<Full<Bytes>> {
    let invocation = &delivery.invocation;
    let content_type = invocation.content_type.as_deref().map_or(JSON, header_value);
    let mut response = response(StatusCode::OK, content_type, invocation.event.clone());
    let deadline_ms = delivery.deadline_ms.to_string();
    for (name, value) in [
        ("lambda-runtime-aws-request-id", Some(invocation.request_id.as_str())),
        ("lambda-runtime-deadline-ms", Some(deadline_ms.as_str())),
        ("lambda-runtime-invoked-function-arn", Some(invocation.invoked_function_arn.as_str())),
        ("lambda-runtime-trace-id", Some(invocation.trace_id.as_str())),
        ("lambda-runtime-client-context", invocation.client_context.as_deref()),
        ("lambda-runtime-cognito-identity", invocation.cognito_identity.as_deref()),
        ("lambda-runtime-aws-tenant-id", invocation.tenant_id.as_deref()),
    ] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            response.headers_mut().insert(HeaderName::from_static(name), header_value(value));
        }
    }
    response
}

/// The text as a header's value. Line breaks and their like, which JSON may hold between its tokens, become spaces.
fn header_value(text: &str) -> HeaderValue {
    let bytes: Vec<u8> = text.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }).collect();
    HeaderValue::from_maybe_shared(Bytes::from(bytes)).expect("without control characters every byte is allowed")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorBody {
    error_message: String,
    error_type: &'static str,
}

fn refused(refusal: Refusal) -> Response<Full<Bytes>> {
    let status = match refusal {
        Refusal::InvalidRequestId | Refusal::Truncated | Refusal::InvalidMode => StatusCode::BAD_REQUEST,
        Refusal::InvalidTransition { .. } => StatusCode::FORBIDDEN,
        Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
    };
    let body = ErrorBody { error_message: refusal.to_string(), error_type: refusal.error_type() };
    let mut json = serde_json::to_vec(&body).expect("two strings are always JSON");
    json.push(b'\n');
    response(status, JSON, json.into())
}

fn response(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
