//! What Lambda serves inside a sandbox over HTTP: the Runtime API (version 2018-06-01), the Extensions API (2020-01-01) and their kin. One request becomes
//! one [`Input`] with a ticket, the answer to the ticket is rendered; an answer in parts becomes two, and a channel for the parts.
//!
//! Decides nothing: states and refusals are the lifecycle's. Knows no process and no sandbox.

mod body;
mod extension;
mod metadata;
mod render;
mod route;
mod telemetry;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::lambda::{Answer, Input, Refusal};
use body::Mode;
use route::{Endpoint, Route};

pub use metadata::Metadata;

/// Where the answer to a call goes. Dropping it closes the caller's connection without an answer.
pub type Ticket = oneshot::Sender<Answer>;

/// A call of a program inside.
#[derive(Debug)]
pub struct Call {
    /// What it says.
    pub input: Input<Ticket>,
    /// The parts of the answer that it [begins](Input::ResponseBegins). Dropping this throws away what else comes; the end is told all the same.
    pub parts: Option<mpsc::Receiver<Bytes>>,
}

/// Who answers.
#[derive(Debug, Clone)]
pub struct Api {
    /// Where calls go; their owner answers them.
    pub calls: mpsc::Sender<Call>,
    /// What the metadata endpoint tells, if there is one.
    pub metadata: Option<Arc<Metadata>>,
}

/// A runtime has one connection or two, each of ten extensions as many. More than this, and new ones wait.
const MAX_CONNECTIONS: usize = 64;
/// Parts of an answer on their way. Bounded: the runtime waits for whoever takes them.
const PARTS_AHEAD: usize = 4;
/// How long to wait when the system has no connection to give, as with too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Serves the APIs until `shutdown`, then closes all connections. A peer that `admits` does not know is not listened to.
pub async fn serve(listener: TcpListener, api: Api, admits: impl Fn(SocketAddr) -> bool, shutdown: impl Future<Output = ()>) {
    let mut connections = JoinSet::new();
    let accepting = async {
        loop {
            while connections.try_join_next().is_some() {}
            if connections.len() >= MAX_CONNECTIONS {
                connections.join_next().await;
            }
            match listener.accept().await {
                Ok((stream, peer)) if admits(peer) => drop(connections.spawn(serve_connection(stream, api.clone()))),
                Ok(_) => {}
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    };
    tokio::select! {
        () = shutdown => {}
        () = accepting => {}
    }
}

/// Serves one connection until either side closes it.
async fn serve_connection(stream: TcpStream, api: Api) {
    // An answer in two segments must not wait for the runtime's acknowledgement. Without it calls are slower, no more.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| respond(request, &api));
    // Shell bootstraps look for the names as AWS documents them, in capitals. Node and Python do not mind.
    let connection = http1::Builder::new()
        .title_case_headers(true)
        .auto_date_header(false)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    // Whatever is wrong with a connection is its peer's affair; a call it made has been told to the lifecycle.
    let _ = connection.await;
}

/// The caller gets no answer: the environment has let go of it.
#[derive(Debug, thiserror::Error)]
#[error("the call was dropped")]
struct Dropped;

async fn respond(request: Request<Incoming>, api: &Api) -> Result<Response<Full<Bytes>>, Dropped> {
    let endpoint = match route::of(request.method(), request.uri().path()) {
        Route::Endpoint(endpoint) => endpoint,
        Route::Ping => return Ok(render::pong()),
        Route::Metadata => return Ok(render::metadata(api.metadata.as_deref(), request.headers())),
        Route::MethodNotAllowed { allow } => return Ok(render::method_not_allowed(allow)),
        Route::NotFound => return Ok(render::not_found()),
    };
    let request_id = match endpoint {
        Endpoint::Response { request_id } if Mode::of(request.headers()) == Mode::Streaming => request_id,
        endpoint => return answered(input(endpoint, request).await, api).await,
    };
    stream(request, request_id, api).await
}

/// A call without its ticket, or a refusal that needs no state.
type Unsent = Result<Box<dyn FnOnce(Ticket) -> Input<Ticket> + Send>, Refusal>;

/// Reads the whole request into the one input it stands for.
async fn input(endpoint: Endpoint, request: Request<Incoming>) -> Unsent {
    Ok(match endpoint {
        Endpoint::Next => Box::new(Input::Next),
        Endpoint::Response { request_id } => {
            let body = body::response(request).await;
            Box::new(|ticket| Input::Response { ticket, request_id, body })
        }
        Endpoint::Error { request_id } => {
            let body = body::error(request).await;
            Box::new(|ticket| Input::Error { ticket, request_id, body })
        }
        Endpoint::InitError => {
            let body = body::error(request).await;
            Box::new(|ticket| Input::InitError { ticket, body })
        }
        Endpoint::Extension(call) => return extension::input(call, request).await.map_err(Refusal::Extension),
    })
}

/// Sends a call and renders the answer to it.
async fn answered(unsent: Unsent, api: &Api) -> Result<Response<Full<Bytes>>, Dropped> {
    Ok(render::answer(match unsent {
        Ok(with_ticket) => ask(with_ticket, None, api).await?,
        Err(refusal) => Answer::Refused(refusal),
    }))
}

async fn ask(
    with_ticket: impl FnOnce(Ticket) -> Input<Ticket>,
    parts: Option<mpsc::Receiver<Bytes>>,
    api: &Api,
) -> Result<Answer, Dropped> {
    let (ticket, answer) = oneshot::channel();
    api.calls.send(Call { input: with_ticket(ticket), parts }).await.map_err(|_| Dropped)?;
    answer.await.map_err(|_| Dropped)
}

/// An answer in parts: its beginning is a call, then its parts go past whoever answers, then its end is a call.
async fn stream(request: Request<Incoming>, request_id: String, api: &Api) -> Result<Response<Full<Bytes>>, Dropped> {
    let (head, body) = request.into_parts();
    let (sender, parts) = mpsc::channel(PARTS_AHEAD);
    let (id, content_type) = (request_id.clone(), body::content_type(&head.headers));
    let begun = ask(|ticket| Input::ResponseBegins { ticket, request_id: id, content_type }, Some(parts), api).await?;
    if begun != Answer::GoOn {
        body::discard(body).await;
        return Ok(render::answer(begun));
    }
    let (bytes, end) = body::forward(body, sender).await;
    let ended = ask(|ticket| Input::ResponseEnds { ticket, request_id, bytes, end }, None, api).await?;
    Ok(render::answer(ended))
}
