//! Bytes on a connection to the Runtime API and its kin: they are answered as HTTP or the connection is closed, and what reaches the lifecycle is what a path
//! can say.

use std::future::pending;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use runner::api::{Api, Call, Metadata};
use runner::lambda::{Answer, Input, Posted, Refusal};
use tokio::sync::mpsc;

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "runtime_api",
    run,
    seeds,
    words: &[
        "GET ",
        "POST ",
        "HEAD ",
        " HTTP/1.1\r\n",
        " HTTP/1.0\r\n",
        "\r\n\r\n",
        "PUT ",
        "/2018-06-01/",
        "/2020-01-01/extension/",
        "register",
        "event/next",
        "exit/error",
        "/2022-07-01/telemetry",
        "/2020-08-15/logs",
        "/2026-01-15/metadata/execution-environment",
        "Lambda-Extension-Name: x\r\n",
        "Lambda-Extension-Identifier: 8476a536-e9f4-11e8-9739-2dfe598c3fcd\r\n",
        "Lambda-Extension-Function-Error-Type: X\r\n",
        "Lambda-Extension-Accept-Feature: accountId\r\n",
        "{\"events\":[\"INVOKE\",\"SHUTDOWN\"]}",
        "Authorization: Bearer x\r\n",
        "runtime/",
        "invocation/",
        "next",
        "/response",
        "/error",
        "init/error",
        "ping",
        "%2f",
        "%00",
        "?",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "0\r\n",
        "5\r\nhello\r\n",
        "Lambda-Runtime-Function-Error-Type: X\r\n",
        "Lambda-Runtime-Function-Response-Mode: streaming\r\n",
        "Trailer: x\r\n",
        "Expect: 100-continue\r\n",
        "Content-Type: application/vnd.aws.lambda.error.cause+json\r\n",
        "{\"errorMessage\":\"x\"}",
        "\u{7f}",
    ],
    short_run: 1_500,
};

const IDENTIFIER: &str = "Lambda-Extension-Identifier: 8476a536-e9f4-11e8-9739-2dfe598c3fcd\r\n";

fn seeds() -> Vec<Vec<u8>> {
    let request =
        |line: &str, headers: &str, body: &str| format!("{line} HTTP/1.1\r\nHost: 127.0.0.1:9001\r\n{headers}\r\n{body}").into_bytes();
    vec![
        request("GET /2018-06-01/runtime/invocation/next", "", ""),
        request("GET /2018-06-01/ping", "", ""),
        request(
            "POST /2018-06-01/runtime/invocation/8476a536-e9f4-11e8-9739-2dfe598c3fcd/response",
            "Content-Length: 11\r\n",
            "{\"a\":\"b c\"}",
        ),
        request("POST /2018-06-01/runtime/init/error", "Content-Length: 2\r\nLambda-Runtime-Function-Error-Type: Runtime.X\r\n", "{}"),
        request(
            "POST /2018-06-01/runtime/invocation/id/response",
            "Transfer-Encoding: chunked\r\nLambda-Runtime-Function-Response-Mode: streaming\r\nTrailer: Lambda-Runtime-Function-Error-Type\r\n",
            "5\r\nhello\r\n0\r\nLambda-Runtime-Function-Error-Type: X\r\nLambda-Runtime-Function-Error-Body: e30=\r\n\r\n",
        ),
        request(
            "POST /2020-01-01/extension/register",
            "Lambda-Extension-Name: x\r\nLambda-Extension-Accept-Feature: accountId\r\nContent-Length: 32\r\n",
            "{\"events\":[\"INVOKE\",\"SHUTDOWN\"]}",
        ),
        request("GET /2020-01-01/extension/event/next", IDENTIFIER, ""),
        request(
            "POST /2020-01-01/extension/exit/error",
            &format!("{IDENTIFIER}Lambda-Extension-Function-Error-Type: X\r\nContent-Length: 2\r\n"),
            "{}",
        ),
        request(
            "PUT /2022-07-01/telemetry",
            &format!("{IDENTIFIER}Content-Length: 123\r\n"),
            "{\"schemaVersion\":\"2022-07-01\",\"types\":[\"platform\"],\"destination\":{\"protocol\":\"HTTP\",\"URI\":\"http://sandbox.localdomain:8080\"}}",
        ),
        request("GET /2026-01-15/metadata/execution-environment", "Authorization: Bearer x\r\n", ""),
        request(
            "POST /2018-06-01/runtime/invocation/id/error",
            "Content-Type: application/vnd.aws.lambda.error.cause+json\r\nContent-Length: 33\r\n",
            "{\"errorMessage\":\"x\",\"cause\":null}",
        ),
    ]
}

/// Whether something in the server panicked: its tasks' panics end nobody else.
static BROKEN: AtomicBool = AtomicBool::new(false);

fn run(data: &[u8]) {
    let address = server();
    let mut connection = TcpStream::connect(address).expect("the server listens");
    connection.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    // The server may close at the first bad byte, with more on its way.
    let _ = connection.write_all(data);
    let _ = connection.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    match connection.read_to_end(&mut answer) {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => panic!("the server hangs"),
        _ => {}
    }
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{}", answer.escape_ascii());
    assert!(!BROKEN.load(Ordering::Relaxed), "the server panicked");
}

/// One server for all inputs, as one serves all of a runtime's connections.
fn server() -> SocketAddr {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    *ADDRESS.get_or_init(|| {
        let (sender, address) = std::sync::mpsc::channel();
        std::thread::Builder::new().name("runtime-api".into()).spawn(move || serve(&sender)).expect("it starts");
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().name() == Some("runtime-api") {
                BROKEN.store(true, Ordering::Relaxed);
            }
            hook(panic);
        }));
        address.recv().expect("it listens")
    })
}

fn serve(address: &std::sync::mpsc::Sender<SocketAddr>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it starts");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        address.send(listener.local_addr().expect("it is bound")).expect("it is waited for");
        let (calls, mut received) = mpsc::channel(8);
        let metadata = Metadata { token: "x".to_owned(), availability_zone_id: "use1-az1".to_owned() };
        let api = Api { calls, metadata: Some(Arc::new(metadata)) };
        tokio::join!(runner::api::serve(listener, api, |_| true, pending()), async {
            while let Some(Call { input, parts }) = received.recv().await {
                if let Some(mut parts) = parts {
                    // As many as one input may hold.
                    tokio::spawn(async move { while parts.recv().await.is_some() {} });
                }
                answer(input);
            }
        });
    });
}

fn check_path_part(request_id: &str) {
    assert!(!request_id.is_empty() && !request_id.contains(['/', ' ', '\n']), "{request_id:?}");
}

fn answer(input: Input<runner::api::Ticket>) {
    let refuse = |refusal| Answer::Refused(refusal);
    let (ticket, answer) = match input {
        Input::Next(ticket) => (ticket, refuse(Refusal::InvalidTransition { from: "a", to: "b" })),
        Input::ResponseBegins { ticket, request_id, .. } => {
            check_path_part(&request_id);
            (ticket, Answer::GoOn)
        }
        Input::ResponseEnds { ticket, .. } => (ticket, Answer::Accepted),
        Input::Register { ticket, registration } => {
            assert!(!registration.name.is_empty());
            (ticket, Answer::Accepted)
        }
        Input::ExtensionNext { ticket, identifier }
        | Input::ExtensionInitError { ticket, identifier, .. }
        | Input::ExtensionExitError { ticket, identifier, .. } => {
            assert_eq!(identifier.len(), 36, "{identifier:?}");
            (ticket, Answer::Accepted)
        }
        Input::Subscribe { ticket, identifier, .. } => {
            assert_eq!(identifier.len(), 36, "{identifier:?}");
            (ticket, Answer::Subscribed)
        }
        Input::Response { ticket, request_id, body } => {
            check_path_part(&request_id);
            (ticket, if matches!(body, Posted::InvalidMode) { refuse(Refusal::InvalidRequestId) } else { Answer::Accepted })
        }
        Input::Error { ticket, request_id, .. } => {
            check_path_part(&request_id);
            (ticket, Answer::Accepted)
        }
        Input::InitError { ticket, .. } => (ticket, Answer::Accepted),
        other => panic!("no call of a runtime: {other:?}"),
    };
    // The caller may be gone.
    let _ = ticket.send(answer);
}
