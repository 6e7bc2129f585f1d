//! Connections of clients: accepted up to a number, kept alive, ended in order. Knows nothing of what is asked on them.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::body::Body;
use super::in_flight::InFlight;

/// How long a request's head may take, which includes the time that a connection is kept without one. Longer than SDKs keep theirs.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);
/// How long an answer may wait for its client to read on: as long as the longest invocation.
const READ_ON_MS: u32 = 900_000;
/// How long to wait when the system has no connection to give, as with too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// How much is served, and how it ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// More connections than these wait.
    pub(super) connections: usize,
    /// How long calls in flight have once the end has come.
    pub(super) grace: Duration,
}

/// Both ends of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) client: SocketAddr,
    pub(super) here: SocketAddr,
}

/// Answers requests by `answer` until `shutdown`; then takes no new connection, and returns when all requests in flight are answered or the grace is over.
pub(super) async fn serve<A, F>(listeners: Vec<TcpListener>, answer: A, limits: Limits, shutdown: impl Future<Output = ()>)
where
    A: Fn(Request<Incoming>, Ends) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let (end, ended) = watch::channel(());
    let room = Arc::new(Semaphore::new(limits.connections.max(1)));
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(accept(listener, answer.clone(), Arc::clone(&room), ended.clone()));
    }
    shutdown.await;
    drop(end);
    // What is left after that ends with the set.
    let _ = tokio::time::timeout(limits.grace, async { while accepting.join_next().await.is_some() {} }).await;
}

async fn accept<A, F>(listener: TcpListener, answer: A, room: Arc<Semaphore>, mut ended: watch::Receiver<()>)
where
    A: Fn(Request<Incoming>, Ends) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let place = Arc::clone(&room).acquire_owned().await.expect("nobody closes it");
            (place, listener.accept().await)
        };
        tokio::select! {
            _ = ended.changed() => break,
            (place, accepted) = next => match accepted {
                Ok((stream, client)) => drop(connections.spawn(connection(stream, client, answer.clone(), (ended.clone(), place)))),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection until either side closes it, or `ended`.
async fn connection<A, F>(
    stream: TcpStream,
    client: SocketAddr,
    answer: A,
    (mut ended, _place): (watch::Receiver<()>, OwnedSemaphorePermit),
) where
    A: Fn(Request<Incoming>, Ends) -> F,
    F: Future<Output = Response<Body>>,
{
    let Ok(here) = stream.local_addr() else { return };
    // An answer in two segments must not wait for the client's acknowledgement. Without it calls are slower, no more.
    let _ = stream.set_nodelay(true);
    // Without it a client that never reads keeps its connection, no more.
    let _ = sockopt::set_tcp_user_timeout(&stream, READ_ON_MS);
    let ends = Ends { client, here };
    let in_flight = InFlight::default();
    let begun = in_flight.clone();
    let service = service_fn(move |request| {
        let (call, answered) = (begun.call(), answer(request, ends));
        async { Ok::<_, Infallible>(answered.await.map(|body| call.with(body))) }
    });
    // Names in capitals as docker-lambda writes them. A client that has said all it wants may close its half, and still gets the answer.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .title_case_headers(true)
        .half_close(true)
        .serve_connection(in_flight.watch(TokioIo::new(stream)), service);
    let mut connection = pin!(connection);
    // Whatever is wrong with a connection is its client's affair.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = ended.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    // It would wait for the rest of a request that has begun to come.
    poll_fn(|context| match connection.as_mut().poll(context) {
        Poll::Pending if !in_flight.is_nothing() => Poll::Pending,
        _ => Poll::Ready(()),
    })
    .await;
}
