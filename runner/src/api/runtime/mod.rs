//! Lambda's Runtime API (version 2018-06-01) over HTTP: one request becomes one [`Input`] with a ticket, the answer to the ticket is rendered.
//!
//! Decides nothing: states and refusals are the lifecycle's. Knows no process and no sandbox.

mod body;
mod render;
mod route;
#[cfg_attr(not(test), expect(dead_code, reason = "its route comes with the calls of extensions"))]
mod telemetry;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
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

use crate::lambda::{Answer, Input};
use route::{Call, Route};

/// Where the answer to a call goes. Dropping it closes the caller's connection without an answer.
pub type Ticket = oneshot::Sender<Answer>;

/// A runtime has one connection or two. More than this, and new ones wait.
const MAX_CONNECTIONS: usize = 64;
/// How long to wait when the system has no connection to give, as with too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Serves the Runtime API until `shutdown`, then closes all connections. Calls go to `calls`, whose owner answers them. A peer that `admits` does not
/// know is not listened to.
pub async fn serve(
    listener: TcpListener,
    calls: mpsc::Sender<Input<Ticket>>,
    admits: impl Fn(SocketAddr) -> bool,
    shutdown: impl Future<Output = ()>,
) {
    let mut connections = JoinSet::new();
    let accepting = async {
        loop {
            while connections.try_join_next().is_some() {}
            if connections.len() >= MAX_CONNECTIONS {
                connections.join_next().await;
            }
            match listener.accept().await {
                Ok((stream, peer)) if admits(peer) => drop(connections.spawn(serve_connection(stream, calls.clone()))),
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
async fn serve_connection(stream: TcpStream, calls: mpsc::Sender<Input<Ticket>>) {
    // An answer in two segments must not wait for the runtime's acknowledgement. Without it calls are slower, no more.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| respond(request, calls.clone()));
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

async fn respond(request: Request<Incoming>, calls: mpsc::Sender<Input<Ticket>>) -> Result<Response<Full<Bytes>>, Dropped> {
    let call = match route::of(request.method(), request.uri().path()) {
        Route::Call(call) => call,
        Route::Ping => return Ok(render::pong()),
        Route::MethodNotAllowed { allow } => return Ok(render::method_not_allowed(allow)),
        Route::NotFound => return Ok(render::not_found()),
    };
    let (ticket, answer) = oneshot::channel();
    calls.send(input(call, request, ticket).await).await.map_err(|_| Dropped)?;
    answer.await.map(render::answer).map_err(|_| Dropped)
}

/// Reads the whole request into the one input it stands for.
async fn input(call: Call, request: Request<Incoming>, ticket: Ticket) -> Input<Ticket> {
    match call {
        Call::Next => Input::Next(ticket),
        Call::Response { request_id } => Input::Response { ticket, request_id, body: body::response(request).await },
        Call::Error { request_id } => Input::Error { ticket, request_id, body: body::error(request).await },
        Call::InitError => Input::InitError { ticket, body: body::error(request).await },
    }
}
