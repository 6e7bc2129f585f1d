//! Lambda's Invoke API over HTTP: one request becomes one [`InvokeCall`], and the reply to it is rendered.
//!
//! Refuses what can be seen to be wrong without knowing the functions; all else is decided by whoever takes the calls.

mod answer;
mod asked;
mod body;
mod cors;
mod event_stream;
mod in_flight;
mod payload;
mod refusal;
mod route;
mod server;
mod target;
mod url;

use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::lambda::{InvokeRefusal, InvokeRequest, RequestId};
use body::Body;
use refusal::Refusal;
use route::{Action, Route};
pub use url::serve_url;

/// A request for a function, and where the reply goes. Dropping `reply` is answered as a fault of the service.
#[derive(Debug)]
pub struct InvokeCall {
    /// What is wanted.
    pub request: InvokeRequest,
    /// Where the reply goes. That its receiver is gone means that the caller is.
    pub reply: oneshot::Sender<InvokeReply>,
}

/// What became of a call.
#[derive(Debug)]
pub enum InvokeReply {
    /// The function answered, or failed.
    Answered(Answered),
    /// An event was taken and will be delivered (202).
    Accepted {
        /// The trace it belongs to, as the runtime will get it.
        trace_id: String,
    },
    /// A dry run found nothing wrong (204).
    Verified,
    /// It was refused.
    Refused(InvokeRefusal),
}

/// A function's answer.
#[derive(Debug)]
pub struct Answered {
    /// The version that ran, such as `$LATEST`.
    pub version: String,
    /// The trace it belongs to, as the runtime got it.
    pub trace_id: String,
    /// The answer itself.
    pub body: AnsweredBody,
}

/// The two forms of an answer.
#[derive(Debug)]
pub enum AnsweredBody {
    /// All of it.
    Whole {
        /// The runtime's bytes, or the error's JSON.
        payload: Bytes,
        /// Whether the function failed.
        failed: bool,
        /// The last bytes of the invocation's log, START to REPORT, if they were asked for.
        log_tail: Option<Vec<u8>>,
    },
    /// Parts of it as the runtime posts them. Only for callers that asked for a stream.
    Stream {
        /// The content type that the function gave it.
        content_type: Option<String>,
        /// The parts; a channel that ends without [`StreamPart::End`] was cut.
        parts: mpsc::Receiver<StreamPart>,
    },
}

/// A part of a streamed answer.
#[derive(Debug)]
pub enum StreamPart {
    /// Bytes.
    Data(Bytes),
    /// The end.
    End {
        /// The error's type and JSON, if the function failed on the way.
        error: Option<(String, Bytes)>,
        /// The last bytes of the invocation's log, if they were asked for.
        log_tail: Option<Vec<u8>>,
    },
}

/// How the Invoke API is served.
#[derive(Debug, Clone, Copy)]
pub struct ServeOptions {
    /// More connections than these wait until one is closed.
    pub max_connections: usize,
    /// How long calls in flight have to be answered once the end has come.
    pub grace: Duration,
    /// Which content types a client may give its event.
    pub content_types: ContentTypes,
}

/// What is taken as an event's content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentTypes {
    /// Anything: curl gives its own, boto3 none.
    Any,
    /// JSON, bytes or none, else 415 as in Lambda's documentation.
    JsonOnly,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self { max_connections: 512, grace: Duration::from_secs(10), content_types: ContentTypes::Any }
    }
}

/// Serves the Invoke API until `shutdown`. Calls go to `calls`, whose owner answers them. Then no new connection is taken, calls in flight get their
/// answers within the grace, and it returns.
pub async fn serve(
    listeners: Vec<TcpListener>,
    calls: mpsc::Sender<InvokeCall>,
    options: ServeOptions,
    shutdown: impl Future<Output = ()>,
) {
    let limits = server::Limits { connections: options.max_connections, grace: options.grace };
    let answer = move |request, _| respond(request, calls.clone(), options.content_types);
    server::serve(listeners, answer, limits, shutdown).await;
}

async fn respond(request: Request<Incoming>, calls: mpsc::Sender<InvokeCall>, content_types: ContentTypes) -> Response<Body> {
    let is_from_page = cors::is_from_page(request.headers());
    let (head, body) = request.into_parts();
    let mut response = match route::of(&head.method, head.uri.path()) {
        Route::Invoke { name, action } => {
            let asked = asked::asked(&name, action, head.uri.query(), &head.headers, content_types);
            invoke(asked, action, body, &calls).await
        }
        route => {
            payload::discard(body).await;
            match route {
                Route::Preflight => answer::with_fresh_id(cors::preflight(&head.headers)),
                Route::Ping => answer::pong(),
                Route::MethodNotAllowed { allow } => answer::method_not_allowed(Some(allow)),
                Route::NotFound => answer::not_found(),
                Route::Unknown | Route::Invoke { .. } => answer::method_not_allowed(None),
            }
        }
    };
    if is_from_page {
        cors::expose(response.headers_mut());
    }
    response
}

/// Has a function invoked.
async fn invoke(asked: Result<asked::Asked, Refusal>, action: Action, body: Incoming, calls: &mpsc::Sender<InvokeCall>) -> Response<Body> {
    let request_id = match fresh_id() {
        Ok(id) => id,
        Err(refusal) => return answer::refused(&refusal, None),
    };
    let asked = match asked {
        Ok(asked) => asked,
        Err(refusal) => {
            payload::discard(body).await;
            return answer::refused(&refusal, Some(&request_id));
        }
    };
    let form = asked.form;
    let request = match payload::event(body, asked.kind).await {
        Ok(payload) => asked.with(request_id.clone(), payload),
        Err(refusal) => return answer::refused(&refusal, Some(&request_id)),
    };
    match call(request, calls).await {
        Ok(InvokeReply::Answered(answered)) => answer::answered(answered, form, &request_id),
        Ok(InvokeReply::Accepted { trace_id }) => answer::accepted(action, &trace_id, &request_id),
        Ok(InvokeReply::Verified) => answer::verified(&request_id),
        Ok(InvokeReply::Refused(refusal)) => answer::refused(&refusal.into(), Some(&request_id)),
        Err(refusal) => answer::refused(&refusal, Some(&request_id)),
    }
}

/// Hands a request over and waits for the reply, as long as that takes: whoever has it sees to its deadline.
async fn call(request: InvokeRequest, calls: &mpsc::Sender<InvokeCall>) -> Result<InvokeReply, Refusal> {
    let (reply, replied) = oneshot::channel();
    calls.send(InvokeCall { request, reply }).await.map_err(|_| Refusal::ended())?;
    replied.await.map_err(|_| Refusal::ended())
}

fn fresh_id() -> Result<RequestId, Refusal> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Refusal::service(format!("the system has no randomness: {error}")))?;
    Ok(RequestId::from_random(bytes))
}
