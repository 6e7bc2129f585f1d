//! Bytes on a connection to the Invoke API, and to a function's URL: they are answered as HTTP or the connection is closed; what reaches a function is what
//! the service model allows; and whatever a function answers, its URL answers.

use std::future::pending;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use runner::api::invoke::{self, Answered, AnsweredBody, InvokeCall, InvokeReply, ServeOptions, StreamPart};
use runner::lambda::{AnswerForm, InvocationKind, InvokeRequest, InvokeTarget};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "invoke_api",
    run,
    seeds,
    words: &[
        "GET ",
        "POST ",
        "OPTIONS ",
        "HEAD ",
        " HTTP/1.1\r\n",
        "\r\n\r\n",
        "/2015-03-31/functions/",
        "/invocations",
        "/2021-11-15/functions/",
        "/response-streaming-invocations",
        "/2014-11-13/functions/",
        "/invoke-async/",
        "/2018-06-01/ping",
        "arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3A",
        "%24LATEST",
        "%2f",
        "%00",
        "%ff",
        "?Qualifier=",
        "X-Amz-Invocation-Type: Event\r\n",
        "X-Amz-Log-Type: Tail\r\n",
        "X-Amz-Client-Context: e30=\r\n",
        "X-Amz-Tenant-Id: a\r\n",
        "X-Amzn-Trace-Id: Root=1-5e1b4151-5ac6c58d239d3a4f8d0f8f0f;Parent=53995c3f42cd8ad8\r\n",
        "Origin: x\r\n",
        "Cookie: a=1; b=2\r\n",
        "Content-Type: text/plain\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Expect: 100-continue\r\n",
        "0\r\n",
        "5\r\nhello\r\n",
        "{\"statusCode\":200,\"headers\":{\"a\":\"b\"},\"cookies\":[\"c=d\"],\"body\":\"x\"}",
        "\"isBase64Encoded\":true",
        "\\u0000",
        "\0\0\0\0\0\0\0\0",
        "\u{7f}",
    ],
    short_run: 1_500,
};

fn seeds() -> Vec<Vec<u8>> {
    let request = |line: &str, headers: &str, body: &str| {
        format!("{line} HTTP/1.1\r\nHost: localhost:9001\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len()).into_bytes()
    };
    vec![
        request("POST /2015-03-31/functions/fn/invocations", "X-Amz-Log-Type: Tail\r\n", "{\"a\":[1,2.5e3,\"\\u00e9\"]}"),
        request("POST /2015-03-31/functions/fn%3Alive/invocations?Qualifier=live", "X-Amz-Client-Context: e30=\r\n", ""),
        request("POST /2015-03-31/functions/fn/invocations", "X-Amz-Invocation-Type: DryRun\r\nX-Amz-Tenant-Id: t\r\n", "{}"),
        request("POST /2021-11-15/functions/fn/response-streaming-invocations", "", "[1]"),
        request("POST /2014-11-13/functions/fn/invoke-async/", "", "{}"),
        request("OPTIONS /x", "Origin: http://page\r\nAccess-Control-Request-Method: POST\r\n", ""),
        request("GET /2018-06-01/ping", "", ""),
        b"POST /2015-03-31/functions/fn/invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n".to_vec(),
        request(
            "PUT /a/b?c=d&c=e",
            "Cookie: a=1; b=2\r\nContent-Type: text/plain\r\n",
            "{\"statusCode\":201,\"headers\":{\"x-a\":\"b\",\"n\":1},\"cookies\":[\"c=d\"],\"body\":\"aGk=\",\"isBase64Encoded\":true}",
        ),
        request(
            "GET /",
            "Content-Type: text/plain\r\n",
            "{\"statusCode\":200,\"headers\":{\"content-type\":\"text/html\"}}\0\0\0\0\0\0\0\0body",
        ),
    ]
}

/// Whether something in the server panicked: its tasks' panics end nobody else.
static BROKEN: AtomicBool = AtomicBool::new(false);

fn run(data: &[u8]) {
    for address in servers() {
        let mut connection = TcpStream::connect(address).expect("the server listens");
        connection.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        // The server may close at the first bad byte, with more on its way.
        let _ = connection.write_all(data);
        let _ = connection.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        match connection.read_to_end(&mut answer) {
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                panic!("the server hangs")
            }
            _ => {}
        }
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{}", answer.escape_ascii());
        assert!(!BROKEN.load(Ordering::Relaxed), "the server panicked");
    }
}

/// Two servers for all inputs: the API, and a URL.
fn servers() -> [SocketAddr; 2] {
    static ADDRESSES: OnceLock<[SocketAddr; 2]> = OnceLock::new();
    *ADDRESSES.get_or_init(|| {
        let (sender, addresses) = std::sync::mpsc::channel();
        std::thread::Builder::new().name("invoke-api".into()).spawn(move || serve(&sender)).expect("it starts");
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().name() == Some("invoke-api") {
                BROKEN.store(true, Ordering::Relaxed);
            }
            hook(panic);
        }));
        addresses.recv().expect("they listen")
    })
}

fn serve(addresses: &std::sync::mpsc::Sender<[SocketAddr; 2]>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it starts");
    runtime.block_on(async {
        let listen = || async { TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port") };
        let (api, url) = (listen().await, listen().await);
        addresses.send([&api, &url].map(|listener| listener.local_addr().expect("it is bound"))).expect("they are waited for");
        let (calls, received) = mpsc::channel(8);
        let (url_calls, url_received) = mpsc::channel(8);
        let target = InvokeTarget { name: "url".to_owned(), qualifier: None, region: None, account_id: None };
        let options = ServeOptions::default();
        tokio::join!(
            invoke::serve(vec![api], calls, options, pending()),
            invoke::serve_url(vec![url], url_calls, target, options, pending()),
            answer_all(received),
            answer_all(url_received),
        );
    });
}

async fn answer_all(mut calls: mpsc::Receiver<InvokeCall>) {
    while let Some(InvokeCall { request, reply }) = calls.recv().await {
        check(&request);
        // The caller may be gone.
        let _ = reply.send(answer(request));
    }
}

/// What a fleet may rely on.
fn check(request: &InvokeRequest) {
    let name = &request.target.name;
    assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "{name:?}");
    let qualifier = request.target.qualifier.as_deref().unwrap_or("x");
    assert!(
        !qualifier.is_empty() && qualifier.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_$.".contains(&byte)),
        "{qualifier:?}"
    );
    let is_json = |bytes: &[u8]| serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok();
    assert!(is_json(&request.payload), "{}", request.payload.escape_ascii());
    assert!(request.client_context.as_deref().is_none_or(|context| is_json(context.as_bytes())));
    assert!(request.form == AnswerForm::Buffered || request.kind != InvocationKind::Event);
}

/// Answers with the payload; for a URL with the request's body, whole or, where that was asked for, in parts, by its length.
fn answer(request: InvokeRequest) -> InvokeReply {
    match request.kind {
        InvocationKind::Event => return InvokeReply::Accepted { trace_id: request.trace_id.unwrap_or_default() },
        InvocationKind::DryRun => return InvokeReply::Verified,
        InvocationKind::RequestResponse => {}
    }
    let payload = match serde_json::from_slice::<Value>(&request.payload) {
        Ok(event) if request.target.name == "url" => Bytes::from(event["body"].as_str().unwrap_or_default().to_owned()),
        _ => request.payload,
    };
    let (version, trace_id) = ("$LATEST".to_owned(), request.trace_id.unwrap_or_default());
    if request.form == AnswerForm::Buffered || payload.len() % 3 == 0 {
        let log_tail = request.log_tail.then(|| b"log".to_vec());
        let body = AnsweredBody::Whole { failed: payload.len() % 2 == 1, payload, log_tail };
        return InvokeReply::Answered(Answered { version, trace_id, body });
    }
    let content_type = (payload.len() % 3 == 1).then(|| "application/vnd.awslambda.http-integration-response".to_owned());
    let (parts, received) = mpsc::channel(2);
    tokio::spawn(async move {
        let half = payload.len() / 2;
        for part in [payload.slice(..half), payload.slice(half..)] {
            // The caller may be gone.
            let _ = parts.send(StreamPart::Data(part)).await;
        }
        let _ = parts.send(StreamPart::End { error: None, log_tail: None }).await;
    });
    InvokeReply::Answered(Answered { version, trace_id, body: AnsweredBody::Stream { content_type, parts: received } })
}
