//! A function's URL: any request is an event of payload format 2.0, and the answer says what the request is answered.

mod event;
mod mapping;

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::lambda::{AnswerForm, InvocationKind, InvokeRequest, InvokeTarget, RequestId};

use super::answer::{self, header_value};
use super::body::{Body, Raw};
use super::payload::{self, MAX_SYNC_BYTES, Taken};
use super::refusal::Refusal;
use super::server::{self, Ends};
use super::{AnsweredBody, InvokeCall, InvokeReply, ServeOptions, StreamPart, call, fresh_id};
use event::Around;
use mapping::Head;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// The content type of an answer that begins with a prelude.
const WITH_PRELUDE: &str = "application/vnd.awslambda.http-integration-response";
/// The most that a prelude may be: more than any server takes as a response's head.
const MAX_PRELUDE_BYTES: usize = 1024 * 1024;

/// Serves the URL of one function until `shutdown`, as [`serve`](super::serve) does its API.
pub async fn serve_url(
    listeners: Vec<TcpListener>,
    calls: mpsc::Sender<InvokeCall>,
    target: InvokeTarget,
    options: ServeOptions,
    shutdown: impl Future<Output = ()>,
) {
    let limits = server::Limits { connections: options.max_connections, grace: options.grace };
    let answer = move |request, ends| respond(request, ends, calls.clone(), target.clone());
    server::serve(listeners, answer, limits, shutdown).await;
}

async fn respond(request: Request<Incoming>, ends: Ends, calls: mpsc::Sender<InvokeCall>, target: InvokeTarget) -> Response<Body> {
    // A tunnel is no event: what would follow the answer is not HTTP.
    if request.method() == Method::CONNECT {
        return answer::with_fresh_id(answer::method_not_allowed(None));
    }
    let request_id = match fresh_id() {
        Ok(id) => id,
        Err(refusal) => return answer::refused(&refusal, None),
    };
    let request = match invocation(request, ends, target, request_id.clone()).await {
        Ok(request) => request,
        Err(refusal) => return answer::refused(&refusal, Some(&request_id)),
    };
    let answered = match call(request, &calls).await {
        Ok(InvokeReply::Answered(answered)) => answered,
        Ok(InvokeReply::Refused(refusal)) => return answer::refused(&refusal.into(), Some(&request_id)),
        Ok(InvokeReply::Accepted { .. } | InvokeReply::Verified) => return answer::refused(&Refusal::ended(), Some(&request_id)),
        Err(refusal) => return answer::refused(&refusal, Some(&request_id)),
    };
    let mut response = match answered.body {
        AnsweredBody::Whole { failed: true, .. } => None,
        AnsweredBody::Whole { payload, failed: false, .. } => {
            mapping::map(&payload).map(|(head, body)| assemble(head, &JSON, Body::Whole(body)))
        }
        AnsweredBody::Stream { content_type, parts } => streamed(content_type.as_deref(), parts).await,
    }
    .unwrap_or_else(failed);
    answer::identify_url(&mut response, &answered.trace_id, &request_id);
    response
}

/// The invocation that a request stands for.
async fn invocation(request: Request<Incoming>, ends: Ends, target: InvokeTarget, request_id: RequestId) -> Result<InvokeRequest, Refusal> {
    let too_large = |bytes| Refusal::too_large(bytes, InvocationKind::RequestResponse, MAX_SYNC_BYTES);
    let (head, body) = request.into_parts();
    let body = match payload::take(body, MAX_SYNC_BYTES).await {
        Taken::Whole(body) => body,
        Taken::TooLarge { bytes } => return Err(too_large(bytes)),
        Taken::Cut => return Err(payload::cut()),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let payload = event::event(&head, Around { body: &body, ends, request_id: &request_id, now });
    if payload.len() > MAX_SYNC_BYTES {
        return Err(too_large(payload.len() as u64));
    }
    Ok(InvokeRequest {
        request_id,
        target,
        kind: InvocationKind::RequestResponse,
        form: AnswerForm::Streamed,
        log_tail: false,
        payload,
        content_type: None,
        client_context: None,
        tenant_id: None,
        trace_id: None,
    })
}

/// All that a client learns of a function's failure.
fn failed() -> Response<Body> {
    answer::response(StatusCode::BAD_GATEWAY, Some(JSON), Bytes::from_static(b"Internal Server Error"))
}

fn assemble(head: Head, default_type: &HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response.headers_mut().entry(CONTENT_TYPE).or_insert_with(|| default_type.clone());
    response
}

/// An answer that comes in parts. Its head waits for the first of them, or for the prelude. `None` if the function failed before.
async fn streamed(content_type: Option<&str>, mut parts: mpsc::Receiver<StreamPart>) -> Option<Response<Body>> {
    if content_type.is_some_and(|content_type| content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(WITH_PRELUDE))
    {
        return with_prelude(parts).await;
    }
    let first = loop {
        match parts.recv().await? {
            StreamPart::Data(data) if data.is_empty() => {}
            first => break first,
        }
    };
    let (held, ended) = match first {
        StreamPart::Data(data) => (data, false),
        StreamPart::End { error: None, .. } => (Bytes::new(), true),
        StreamPart::End { error: Some(_), .. } => return None,
    };
    let head = Head { status: StatusCode::OK, headers: HeaderMap::new() };
    let content_type = content_type.map_or(OCTETS, header_value);
    Some(assemble(head, &content_type, Body::Raw(Raw::new(held, parts, ended))))
}

async fn with_prelude(mut parts: mpsc::Receiver<StreamPart>) -> Option<Response<Body>> {
    let mut bytes = BytesMut::new();
    let at = loop {
        let StreamPart::Data(data) = parts.recv().await? else { return None };
        let searched = bytes.len();
        bytes.extend_from_slice(&data);
        if let Some(at) = mapping::delimiter(&bytes, searched) {
            break at;
        }
        if bytes.len() > MAX_PRELUDE_BYTES {
            return None;
        }
    };
    let head = mapping::prelude(&bytes[..at])?;
    let held = bytes.freeze().slice(mapping::after(at)..);
    Some(assemble(head, &OCTETS, Body::Raw(Raw::new(held, parts, false))))
}
