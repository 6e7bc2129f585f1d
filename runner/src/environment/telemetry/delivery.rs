//! Batches on their way to an extension: as requests of HTTP, or as lines on one connection.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep;

use super::Connect;
use crate::lambda::{TelemetryDestination, TelemetryMethod};

/// How often a batch is tried before it is given up.
const ATTEMPTS: u32 = 10;
/// How long to wait before the second attempt; twice as long before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest wait between attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long an attempt may take.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(5);
/// So much of an answer is read, so that its sender is not disturbed.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Why an attempt failed. Nobody is told: that would be a line of log for each line of log.
#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error("cannot connect or write")]
    Io(#[from] io::Error),
    #[error("the request was not answered")]
    Http(#[from] hyper::Error),
    #[error("the request cannot be made")]
    Request(#[from] hyper::http::Error),
    #[error("the answer is {0}")]
    Status(u16),
    #[error("it took too long")]
    TimedOut,
}

/// Carries batches to one destination.
pub(super) struct Courier {
    connect: Connect,
    destination: TelemetryDestination,
    frozen: watch::Receiver<bool>,
    /// The connection that takes lines.
    lines: Option<TcpStream>,
}

impl Courier {
    pub(super) fn new(connect: Connect, destination: TelemetryDestination, frozen: watch::Receiver<bool>) -> Self {
        Self { connect, destination, frozen, lines: None }
    }

    /// Carries a batch there, trying again as long as it makes sense. Whether it arrived.
    pub(super) async fn deliver(&mut self, batch: &[String]) -> bool {
        let body = match self.destination {
            TelemetryDestination::Http { .. } => Bytes::from(format!("[{}]", batch.join(","))),
            TelemetryDestination::Tcp { .. } => Bytes::from(batch.iter().flat_map(|record| [record.as_str(), "\n"]).collect::<String>()),
        };
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=ATTEMPTS {
            thawed(&mut self.frozen).await;
            let frozen = self.frozen.clone();
            let result = tokio::select! {
                result = self.attempt(body.clone()) => result,
                () = over(ATTEMPT_LIMIT, frozen) => Err(AttemptError::TimedOut),
            };
            if result.is_ok() {
                return true;
            }
            self.lines = None;
            if attempt < ATTEMPTS {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        false
    }

    async fn attempt(&mut self, body: Bytes) -> Result<(), AttemptError> {
        match &self.destination {
            TelemetryDestination::Http { port, authority, path, method } => {
                let method = match method {
                    TelemetryMethod::Post => Method::POST,
                    TelemetryMethod::Put => Method::PUT,
                };
                // A connection of its own for each batch: a server inside may well serve one at a time, and end it when it likes.
                let request = Request::builder()
                    .method(method)
                    .uri(path)
                    .header(HOST, authority)
                    .header(CONTENT_TYPE, "application/json")
                    .header(CONNECTION, "close")
                    .body(Full::new(body))?;
                request_on((self.connect)(*port).await?, request).await
            }
            TelemetryDestination::Tcp { port } => {
                let mut stream = match self.lines.take().filter(is_open) {
                    Some(stream) => stream,
                    None => (self.connect)(*port).await?,
                };
                stream.write_all(&body).await?;
                self.lines = Some(stream);
                Ok(())
            }
        }
    }
}

async fn request_on(stream: TcpStream, request: Request<Full<Bytes>>) -> Result<(), AttemptError> {
    // Without it the request takes longer, no more.
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) = http1::Builder::new().title_case_headers(true).handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let mut answer = sender.send_request(request).await?;
        let mut read = 0;
        while read < MAX_ANSWER_BYTES
            && let Some(Ok(frame)) = answer.body_mut().frame().await
        {
            read += frame.data_ref().map_or(0, Bytes::len);
        }
        let status = answer.status();
        if status.is_success() { Ok(()) } else { Err(AttemptError::Status(status.as_u16())) }
    };
    let (mut exchange, mut connection) = (pin!(exchange), pin!(connection));
    tokio::select! {
        biased;
        done = &mut exchange => done,
        // What became of the request is known by now.
        _ = &mut connection => exchange.await,
    }
}

/// Whether the other side has not closed it. What it may send means nothing.
fn is_open(stream: &TcpStream) -> bool {
    let mut buffer = [0; 1024];
    loop {
        match stream.try_read(&mut buffer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

/// Waits until the sandbox is not frozen.
async fn thawed(frozen: &mut watch::Receiver<bool>) {
    // Whoever could freeze it is gone if this fails.
    let _ = frozen.wait_for(|frozen| !frozen).await;
}

/// Waits until so much time has passed in which the sandbox could do something.
async fn over(limit: Duration, mut frozen: watch::Receiver<bool>) {
    loop {
        sleep(limit).await;
        if !*frozen.borrow() {
            return;
        }
        thawed(&mut frozen).await;
    }
}
