//! Answers as HTTP: statuses, headers and bodies as AWS's APIs have them.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::Metadata;
use crate::lambda::{Answer, Delivery, ExtensionDelivery, ExtensionRefusal, Refusal, Registered};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

pub(super) fn answer(answer: Answer) -> Response<Full<Bytes>> {
    match answer {
        Answer::Event(delivery) => event(&delivery),
        Answer::Accepted => response(StatusCode::ACCEPTED, JSON, Bytes::from_static(b"{\"status\":\"OK\"}\n")),
        Answer::Registered(registered) => self::registered(&registered),
        Answer::ExtensionEvent { identifier, event } => extension_event(&identifier, &event),
        Answer::Subscribed => response(StatusCode::OK, JSON, Bytes::from_static(b"\"OK\"")),
        Answer::Refused(refusal) => refused(&refusal),
        // Nobody who gets this far has asked whether to go on.
        Answer::GoOn => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, Bytes::new()),
    }
}

pub(super) fn metadata(metadata: Option<&Metadata>, headers: &HeaderMap) -> Response<Full<Bytes>> {
    let Some(metadata) = metadata else { return not_found() };
    if !metadata.admits(headers) {
        return response(StatusCode::UNAUTHORIZED, TEXT, Bytes::from_static(b"Unauthorized"));
    }
    let body = MetadataBody { availability_zone_id: &metadata.availability_zone_id };
    let mut response = response(StatusCode::OK, JSON, json(&body));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=43200, immutable"));
    response
}

#[derive(Serialize)]
struct MetadataBody<'a> {
    #[serde(rename = "AvailabilityZoneID")]
    availability_zone_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RegisteredBody<'a> {
    function_name: &'a str,
    function_version: &'a str,
    handler: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<&'a str>,
}

fn registered(registered: &Registered) -> Response<Full<Bytes>> {
    let body = RegisteredBody {
        function_name: &registered.function_name,
        function_version: &registered.function_version,
        handler: &registered.handler,
        account_id: registered.account_id.as_deref(),
    };
    let mut response = response(StatusCode::OK, JSON, json(&body));
    response.headers_mut().insert(HeaderName::from_static("lambda-extension-identifier"), header_value(&registered.identifier));
    response
}

#[derive(Serialize)]
#[serde(tag = "eventType")]
enum ExtensionEventBody<'a> {
    #[serde(rename = "INVOKE", rename_all = "camelCase")]
    Invoke {
        deadline_ms: u64,
        request_id: &'a str,
        invoked_function_arn: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        tracing: Option<Tracing<'a>>,
    },
    #[serde(rename = "SHUTDOWN", rename_all = "camelCase")]
    Shutdown { deadline_ms: u64, shutdown_reason: String },
}

#[derive(Serialize)]
struct Tracing<'a> {
    r#type: &'static str,
    value: &'a str,
}

fn extension_event(identifier: &str, event: &ExtensionDelivery) -> Response<Full<Bytes>> {
    let body = match event {
        ExtensionDelivery::Invoke(Delivery { invocation, deadline_ms }) => ExtensionEventBody::Invoke {
            deadline_ms: *deadline_ms,
            request_id: invocation.request_id.as_str(),
            invoked_function_arn: &invocation.invoked_function_arn,
            tracing: Some(invocation.trace_id.as_str())
                .filter(|id| !id.is_empty())
                .map(|value| Tracing { r#type: "X-Amzn-Trace-Id", value }),
        },
        ExtensionDelivery::Shutdown { deadline_ms, reason } => {
            ExtensionEventBody::Shutdown { deadline_ms: *deadline_ms, shutdown_reason: reason.to_string() }
        }
    };
    let mut response = response(StatusCode::OK, JSON, json(&body));
    response.headers_mut().insert(HeaderName::from_static("lambda-extension-event-identifier"), header_value(identifier));
    response
}

/// JSON with the line feed that AWS puts after it.
fn json(body: &impl Serialize) -> Bytes {
    let mut json = serde_json::to_vec(body).expect("texts and numbers are always JSON");
    json.push(b'\n');
    json.into()
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

fn refused(refusal: &Refusal) -> Response<Full<Bytes>> {
    let status = match refusal {
        Refusal::InvalidRequestId | Refusal::Truncated | Refusal::InvalidMode => StatusCode::BAD_REQUEST,
        Refusal::Extension(ExtensionRefusal::InvalidSubscription { .. }) => StatusCode::BAD_REQUEST,
        Refusal::InvalidTransition { .. } | Refusal::Extension(_) => StatusCode::FORBIDDEN,
        Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
    };
    let body = ErrorBody { error_message: refusal.to_string(), error_type: refusal.error_type() };
    response(status, JSON, json(&body))
}

fn response(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
