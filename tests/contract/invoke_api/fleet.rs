//! The Invoke API with functions behind it that are no more than their answers.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;
use runner::api::invoke::{self, Answered, AnsweredBody, InvokeCall, InvokeReply, ServeOptions, StreamPart};
use runner::lambda::{InvocationKind, InvokeRefusal, InvokeRequest, InvokeTarget, ThrottleReason};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};

pub const TRACE: &str = "Root=1-5e1b4151-5ac6c58d239d3a4f8d0f8f0f;Parent=53995c3f42cd8ad8;Sampled=0;Lineage=1:a87bd80c:0";
pub const LOG: &str = "START RequestId: x Version: $LATEST\nhi\nEND RequestId: x\n";
pub const ERROR: &str = r#"{"errorMessage":"boom","errorType":"ValueError"}"#;

/// What the functions `says-0` and so on answer.
const SAYINGS: [&str; 3] = [
    r#"{"statusCode":418,"headers":{"Content-Type":"text/x","x-mine":"1"},"cookies":["a=1","b=2"],"body":"tea"}"#,
    r#""hello""#,
    r#"{"statusCode":20}"#,
];

type Serving = Pin<Box<dyn Future<Output = ()>>>;

/// A server on loopback, gone with this value.
pub struct Server {
    pub address: SocketAddr,
    /// Every call that came so far.
    pub calls: Arc<Mutex<Vec<InvokeRequest>>>,
    /// What `wait` and the streams wait for.
    gate: Arc<Semaphore>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// The Invoke API.
    pub fn start() -> Self {
        Self::with(ServeOptions::default())
    }

    pub fn with(options: ServeOptions) -> Self {
        Self::serve(move |listener, calls, stopped| {
            Box::pin(invoke::serve(vec![listener], calls, options, async {
                let _ = stopped.await;
            }))
        })
    }

    /// The URL of one of the functions.
    pub fn url_of(function: &str) -> Self {
        let target = InvokeTarget { name: function.to_owned(), qualifier: None, region: None, account_id: None };
        Self::serve(move |listener, calls, stopped| {
            Box::pin(invoke::serve_url(vec![listener], calls, target, ServeOptions::default(), async {
                let _ = stopped.await;
            }))
        })
    }

    fn serve(serve: impl FnOnce(TcpListener, mpsc::Sender<InvokeCall>, oneshot::Receiver<()>) -> Serving + Send + 'static) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (told, address) = std::sync::mpsc::channel();
        let (calls, gate) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Semaphore::new(0)));
        let (seen, passed) = (Arc::clone(&calls), Arc::clone(&gate));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
                told.send(listener.local_addr().expect("it is bound")).expect("it is waited for");
                let (sender, received) = mpsc::channel(8);
                tokio::spawn(answer_all(received, seen, passed));
                serve(listener, sender, stopped).await;
            });
        });
        Self { address: address.recv().expect("it listens"), calls, gate, stop: Some(stop), thread: Some(thread) }
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The names of the functions that were called.
    pub fn called(&self) -> Vec<String> {
        self.calls.lock().expect("no holder panics").iter().map(|request| request.target.name.clone()).collect()
    }

    /// Lets one go on that waits.
    pub fn open(&self) {
        self.gate.add_permits(1);
    }

    /// Tells it to end.
    pub fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until it has.
    pub fn wait(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it does not panic");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        if !std::thread::panicking() {
            self.wait();
        }
    }
}

async fn answer_all(mut calls: mpsc::Receiver<InvokeCall>, seen: Arc<Mutex<Vec<InvokeRequest>>>, gate: Arc<Semaphore>) {
    while let Some(InvokeCall { request, reply }) = calls.recv().await {
        seen.lock().expect("no holder panics").push(request.clone());
        let gate = Arc::clone(&gate);
        tokio::spawn(async move {
            if request.target.name != "drop" {
                // A client may be gone.
                let _ = reply.send(answer(request, gate).await);
            }
        });
    }
}

/// The functions there are, by their names.
async fn answer(request: InvokeRequest, gate: Arc<Semaphore>) -> InvokeReply {
    let name = request.target.name.as_str();
    if let Some(refusal) = refusal(name) {
        return InvokeReply::Refused(refusal);
    }
    match request.kind {
        InvocationKind::Event => return InvokeReply::Accepted { trace_id: request.trace_id.unwrap_or_else(|| TRACE.to_owned()) },
        InvocationKind::DryRun => return InvokeReply::Verified,
        InvocationKind::RequestResponse => {}
    }
    let log_tail = request.log_tail.then(|| LOG.as_bytes().to_vec());
    let body = match name {
        // Answers once `open` was called.
        "wait" => {
            gate.acquire().await.expect("nobody closes it").forget();
            whole("\"waited\"", log_tail)
        }
        "open" => {
            gate.add_permits(1);
            whole("null", log_tail)
        }
        "fail" => AnsweredBody::Whole { payload: Bytes::from_static(ERROR.as_bytes()), failed: true, log_tail },
        "empty" => whole("", log_tail),
        "spaced" => whole("{ \"a\" : [ 1 ] }", log_tail),
        "large" => whole(&format!("\"{}\"", "x".repeat(6 * 1024 * 1024)), log_tail),
        "describe" => whole(&describe(&request), log_tail),
        "stream" | "late-failure" | "early-failure" | "cut" | "page" | "headless" => stream(name, gate, log_tail),
        "says-0" => whole(SAYINGS[0], log_tail),
        "says-1" => whole(SAYINGS[1], log_tail),
        "says-2" => whole(SAYINGS[2], log_tail),
        _ => AnsweredBody::Whole { payload: request.payload, failed: false, log_tail },
    };
    InvokeReply::Answered(Answered { version: "$LATEST".to_owned(), trace_id: TRACE.to_owned(), body })
}

fn refusal(name: &str) -> Option<InvokeRefusal> {
    match name {
        "missing" => Some(InvokeRefusal::NotFound { arn: "arn:aws:lambda:us-east-1:123456789012:function:missing:$LATEST".to_owned() }),
        "elsewhere" => Some(InvokeRefusal::OtherRegion { asked: "us-west-1".to_owned(), here: "us-east-1".to_owned() }),
        "busy" => Some(InvokeRefusal::Throttled(ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded)),
        "broken" => Some(InvokeRefusal::Service { message: "no sandbox".to_owned() }),
        _ => None,
    }
}

fn whole(text: &str, log_tail: Option<Vec<u8>>) -> AnsweredBody {
    AnsweredBody::Whole { payload: Bytes::copy_from_slice(text.as_bytes()), failed: false, log_tail }
}

fn describe(request: &InvokeRequest) -> String {
    json!({
        "name": request.target.name,
        "qualifier": request.target.qualifier,
        "region": request.target.region,
        "account": request.target.account_id,
        "log_tail": request.log_tail,
        "payload": String::from_utf8_lossy(&request.payload),
        "content_type": request.content_type,
        "client_context": request.client_context,
        "tenant_id": request.tenant_id,
        "trace_id": request.trace_id,
    })
    .to_string()
}

/// Streams whose second part does not come before somebody opened.
fn stream(name: &str, gate: Arc<Semaphore>, log_tail: Option<Vec<u8>>) -> AnsweredBody {
    let (parts, received) = mpsc::channel(1);
    let name = name.to_owned();
    let content_type = match name.as_str() {
        "page" => Some("application/vnd.awslambda.http-integration-response".to_owned()),
        "headless" => None,
        _ => Some("text/plain".to_owned()),
    };
    tokio::spawn(async move {
        // That the client is gone is seen at the end.
        let _ = give_parts(&name, parts, &gate, log_tail).await;
    });
    AnsweredBody::Stream { content_type, parts: received }
}

async fn give_parts(
    name: &str,
    parts: mpsc::Sender<StreamPart>,
    gate: &Semaphore,
    log_tail: Option<Vec<u8>>,
) -> Result<(), mpsc::error::SendError<StreamPart>> {
    let data = |text: &'static str| StreamPart::Data(Bytes::from_static(text.as_bytes()));
    let failed = || Some(("Function.Error".to_owned(), Bytes::from_static(ERROR.as_bytes())));
    let end = |error| StreamPart::End { error, log_tail };
    match name {
        "early-failure" => return parts.send(end(failed())).await,
        "page" => {
            // Cut in unlucky places.
            parts.send(data("{\"statusCode\":201,\"headers\":{\"content-type\":\"text/html\"},\"cookies\":[\"a=1\"]}\0\0\0")).await?;
            parts.send(data("\0\0\0\0\0one,")).await?;
        }
        _ => parts.send(data("one,")).await?,
    }
    gate.acquire().await.expect("nobody closes it").forget();
    parts.send(data("two")).await?;
    match name {
        "cut" => Ok(()),
        "late-failure" => parts.send(end(failed())).await,
        _ => parts.send(end(None)).await,
    }
}
