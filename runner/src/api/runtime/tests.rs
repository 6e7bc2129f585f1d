//! The Runtime API over a loopback socket, byte by byte, with a real lifecycle behind it.

mod extensions;

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::function::Function;
use crate::lambda::{Effect, FunctionError, Identifiers, Invocation, Lifecycle, MAX_PAYLOAD_BYTES, Now, RequestId};

const ID: &str = "abababab-abab-4bab-abab-abababababab";
const OK: &str = "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"status\":\"OK\"}\n";

fn invocation() -> Invocation {
    Invocation {
        request_id: RequestId::from_random([0xab; 16]),
        event: Bytes::from_static(b"{\"a\":1}"),
        content_type: None,
        invoked_function_arn: "arn:aws:lambda:us-east-1:123456789012:function:fn".to_owned(),
        trace_id: "Root=1-00000000-0".to_owned(),
        client_context: None,
        cognito_identity: None,
        tenant_id: None,
    }
}

/// A server whose environment only answers, and tells the results it decided on.
struct Served {
    address: SocketAddr,
    decided: mpsc::UnboundedReceiver<Result<Bytes, FunctionError>>,
    calls: mpsc::Sender<Call>,
    busy: tokio::sync::watch::Receiver<bool>,
    _tasks: JoinSet<()>,
}

impl Served {
    async fn with(invocation: Invocation) -> Self {
        Self::with_extensions(invocation, Vec::new()).await
    }

    async fn with_extensions(invocation: Invocation, extensions: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (calls, mut received) = mpsc::channel(1);
        let (results, decided) = mpsc::unbounded_channel();
        let (is_busy, busy) = tokio::sync::watch::channel(true);
        let mut tasks = JoinSet::new();
        let metadata = Metadata { token: "secret".to_owned(), availability_zone_id: "use1-az1".to_owned() };
        tasks.spawn(serve(listener, Api { calls: calls.clone(), metadata: Some(Arc::new(metadata)) }, |_| true, std::future::pending()));
        tasks.spawn(async move {
            let now = || Now { instant: Instant::now(), since_epoch: SystemTime::now().duration_since(UNIX_EPOCH).unwrap() };
            let mut lifecycle = Lifecycle::new(Arc::new(Function::sample("3")), Identifiers::from_seed([0; 16]));
            lifecycle.apply(Input::Begin { extensions }, now());
            lifecycle.apply(Input::Invoke(invocation), now());
            let mut parts = None;
            while let Some(call) = received.recv().await {
                parts = call.parts.or(parts);
                for effect in lifecycle.apply(call.input, now()) {
                    match effect {
                        Effect::Answer(ticket, answer) => drop(ticket.send(answer)),
                        Effect::Decide(result) => results.send(result).unwrap(),
                        Effect::StreamEnds(result) => {
                            let collected = std::iter::from_fn(|| parts.as_mut().and_then(|parts| parts.try_recv().ok()));
                            let collected: Vec<u8> = collected.flatten().collect();
                            results.send(result.map(|()| Bytes::from(collected))).unwrap();
                        }
                        _ => {}
                    }
                }
                is_busy.send_replace(lifecycle.is_busy());
            }
        });
        Self { address, decided, calls, busy, _tasks: tasks }
    }

    async fn new() -> Self {
        Self::with(invocation()).await
    }

    /// Tells the lifecycle what no call says.
    async fn tell(&self, input: Input<Ticket>) {
        self.calls.send(Call { input, parts: None }).await.unwrap();
    }

    /// Waits until the invocation is over.
    async fn finished(&self) {
        self.busy.clone().wait_for(|busy| !busy).await.unwrap();
    }

    async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// A connection whose runtime has the event.
    async fn running(&self) -> Client {
        let mut client = self.connect().await;
        client.call("GET", "runtime/invocation/next", "", "").await;
        client
    }

    async fn result(&mut self) -> Result<Bytes, FunctionError> {
        self.decided.recv().await.unwrap()
    }
}

struct Client(TcpStream);

impl Client {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// One answer, which must have a length.
    async fn answer(&mut self) -> String {
        let mut bytes = Vec::new();
        let head = loop {
            bytes.push(self.0.read_u8().await.unwrap());
            if bytes.ends_with(b"\r\n\r\n") {
                break String::from_utf8(bytes.clone()).unwrap();
            }
        };
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        head + std::str::from_utf8(&body).unwrap()
    }

    async fn call(&mut self, method: &str, path: &str, headers: &str, body: &str) -> String {
        self.request(method, &format!("/2018-06-01/{path}"), headers, body).await
    }

    async fn request(&mut self, method: &str, path: &str, headers: &str, body: &str) -> String {
        self.send(format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())).await;
        self.answer().await
    }

    async fn respond(&mut self, headers: &str, body: &str) -> String {
        self.call("POST", &format!("runtime/invocation/{ID}/response"), headers, body).await
    }

    async fn fail(&mut self, headers: &str, body: &str) -> String {
        self.call("POST", &format!("runtime/invocation/{ID}/error"), headers, body).await
    }
}

fn json(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}\n", body.len() + 1)
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap()
}

#[tokio::test]
async fn a_whole_invocation_on_one_connection() {
    let mut served = Served::new().await;
    let mut client = served.connect().await;
    let event = client.call("GET", "runtime/invocation/next", "", "").await;
    let deadline: u128 = event.split("Lambda-Runtime-Deadline-Ms: ").nth(1).unwrap().split('\r').next().unwrap().parse().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    assert!((now + 2_000..=now + 3_000).contains(&deadline), "{deadline} at {now}");
    let expected = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: {ID}\r\nLambda-Runtime-Deadline-Ms: {deadline}\r\n\
         Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:123456789012:function:fn\r\nLambda-Runtime-Trace-Id: Root=1-00000000-0\r\n\
         Content-Length: 7\r\n\r\n{{\"a\":1}}"
    );
    assert_eq!(event, expected);
    assert_eq!(client.respond("", "[1]").await, OK);
    assert_eq!(served.result().await.unwrap(), "[1]");
}

#[tokio::test]
async fn next_waits_and_answers_the_same_event_again() {
    let served = Served::new().await;
    let mut client = served.running().await;
    let again = client.call("GET", "runtime/invocation/next", "", "").await;
    assert!(again.contains(ID), "{again}");
    // A second connection, as a runtime that polls from another thread has.
    let other = served.connect().await.call("GET", "runtime/invocation/next", "", "").await;
    assert_eq!(other, again);
}

#[tokio::test]
async fn headers_say_what_the_invocation_has() {
    let mut invocation = invocation();
    invocation.content_type = Some("text/csv".to_owned());
    invocation.trace_id = String::new();
    invocation.client_context = Some("{\n \"custom\": \"é\"}".to_owned());
    invocation.cognito_identity = Some("{\"cognitoIdentityId\":\"i\"}".to_owned());
    invocation.tenant_id = Some("blue".to_owned());
    let served = Served::with(invocation).await;
    let event = served.connect().await.call("GET", "runtime/invocation/next", "", "").await;
    for line in [
        "Content-Type: text/csv\r\n",
        "Lambda-Runtime-Client-Context: {  \"custom\": \"é\"}\r\n",
        "Lambda-Runtime-Cognito-Identity: {\"cognitoIdentityId\":\"i\"}\r\n",
        "Lambda-Runtime-Aws-Tenant-Id: blue\r\n",
    ] {
        assert!(event.contains(line), "{event}");
    }
    assert!(!event.contains("Trace-Id"), "{event}");
}

#[tokio::test]
async fn paths_outside_the_lifecycle() {
    let served = Served::new().await;
    let mut client = served.connect().await;
    let text = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    assert_eq!(client.call("GET", "ping", "", "").await, text("200 OK", "pong"));
    assert_eq!(client.call("GET", "runtime/restore/next", "", "").await, text("404 Not Found", "404 page not found\n"));
    assert_eq!(
        client.call("POST", "runtime/invocation/next", "", "x").await,
        "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\nContent-Length: 0\r\n\r\n"
    );
    assert_eq!(
        client.call("GET", "runtime/init/error", "", "").await,
        "HTTP/1.1 405 Method Not Allowed\r\nAllow: POST\r\nContent-Length: 0\r\n\r\n"
    );
}

#[tokio::test]
async fn wrong_id_then_the_right_one_then_twice() {
    let mut served = Served::new().await;
    let mut client = served.running().await;
    let wrong = client.call("POST", "runtime/invocation/nope/response", "", "1").await;
    assert_eq!(wrong, json("400 Bad Request", r#"{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}"#));
    assert_eq!(client.respond("", "1").await, OK);
    for (answer, to) in [(client.respond("", "2").await, "InvocationResponse"), (client.fail("", "2").await, "InvocationErrorResponse")] {
        let message =
            format!("State transition from RuntimeResponseSentState to {to} failed for runtime. Error: State transition is not allowed");
        assert_eq!(answer, json("403 Forbidden", &format!(r#"{{"errorMessage":"{message}","errorType":"InvalidStateTransition"}}"#)));
    }
    assert_eq!(served.result().await.unwrap(), "1");
}

#[tokio::test]
async fn errors_go_through_byte_for_byte() {
    for (headers, posted, payload) in [
        ("", "not json", "not json"),
        (
            "Content-Type: application/vnd.aws.lambda.error+json\r\n",
            "{ \"errorMessage\" : \"<b>\",\"trace\":[] }",
            "{ \"errorMessage\" : \"<b>\",\"trace\":[] }",
        ),
        (
            "Content-Type: application/vnd.aws.lambda.error.cause+json; charset=utf-8\r\n",
            r#"{"errorMessage":"m","errorType":"t","stackTrace":[],"errorCause":{}}"#,
            r#"{"errorMessage":"m","errorType":"t","stackTrace":[]}"#,
        ),
        ("content-type: application/vnd.aws.lambda.error.cause+json\r\n", "not json", "\"Invalid error body\""),
        ("Lambda-Runtime-Function-XRay-Error-Cause: {\"secret\":1}\r\nLambda-Runtime-Function-Error-Type: Any.Thing\r\n", "{}", "{}"),
    ] {
        let mut served = Served::new().await;
        assert_eq!(served.running().await.fail(headers, posted).await, OK);
        assert_eq!(served.result().await.unwrap_err().payload, payload);
    }
}

#[tokio::test]
async fn init_error_before_next_only() {
    let mut served = Served::new().await;
    let mut client = served.connect().await;
    assert_eq!(client.call("POST", "runtime/init/error", "Lambda-Runtime-Function-Error-Type: Runtime.Boom\r\n", "{}").await, OK);
    let error = served.result().await.unwrap_err();
    assert_eq!(error.kind, crate::lambda::ErrorKind::Init(crate::lambda::ErrorType::from_header(Some("Runtime.Boom"))));
    let served = Served::new().await;
    let refused = served.running().await.call("POST", "runtime/init/error", "", "{}").await;
    assert!(refused.contains("from Running to InitError failed"), "{refused}");
}

#[tokio::test]
async fn chunked_bodies() {
    let mut served = Served::new().await;
    let mut client = served.running().await;
    client.send(format!("POST /2018-06-01/runtime/invocation/{ID}/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")).await;
    client.send("3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n").await;
    assert_eq!(client.answer().await, OK);
    assert_eq!(served.result().await.unwrap(), "[1,2]");
}

#[tokio::test]
async fn the_largest_answer_and_one_byte_more() {
    let largest = "x".repeat(MAX_PAYLOAD_BYTES);
    let mut served = Served::new().await;
    assert_eq!(served.running().await.respond("", &largest).await, OK);
    assert_eq!(served.result().await.unwrap().len(), MAX_PAYLOAD_BYTES);

    let too_large = largest + "x";
    let refusal = json(
        "413 Payload Too Large",
        r#"{"errorMessage":"Exceeded maximum allowed payload size (6291556 bytes).","errorType":"RequestEntityTooLarge"}"#,
    );
    let mut served = Served::new().await;
    let mut client = served.running().await;
    assert_eq!(client.respond("", &too_large).await, refusal);
    // The connection goes on.
    assert_eq!(status(&client.respond("", "1").await), "403");
    let error = served.result().await.unwrap_err();
    assert!(String::from_utf8_lossy(&error.payload).contains("Function.ResponseSizeTooLarge"));

    let served = Served::new().await;
    let mut client = served.running().await;
    client.send(format!("POST /2018-06-01/runtime/invocation/{ID}/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")).await;
    client.send(format!("{:x}\r\n{too_large}\r\n0\r\n\r\n", too_large.len())).await;
    assert_eq!(client.answer().await, refusal);
}

#[tokio::test]
async fn response_modes() {
    for (mode, taken) in [("streaming", true), ("", true), ("buffered", false), ("STREAMING", false)] {
        let mut served = Served::new().await;
        let mut client = served.running().await;
        let answer = client.respond(&format!("Lambda-Runtime-Function-Response-Mode: {mode}\r\n"), "1").await;
        if taken {
            assert_eq!(answer, OK, "{mode}");
            continue;
        }
        let refusal = r#"{"errorMessage":"Invalid function response mode","errorType":"InvalidFunctionResponseMode"}"#;
        assert_eq!(answer, json("400 Bad Request", refusal), "{mode}");
        let next = client.call("GET", "runtime/invocation/next", "", "").await;
        assert!(next.starts_with("HTTP/1.1 403") && next.contains("from InvocationResponse to Ready failed"), "{next}");
        assert!(String::from_utf8_lossy(&served.result().await.unwrap_err().payload).contains("Runtime.InvalidResponseModeHeader"));
    }
}

#[tokio::test]
async fn trailers_turn_a_stream_into_an_error() {
    for (trailers, payload) in [
        (
            "Lambda-Runtime-Function-Error-Type: Function.Boom\r\nLambda-Runtime-Function-Error-Body: eyJlcnJvclR5cGUiOiJ4In0=\r\n",
            Err("{\"errorType\":\"x\"}"),
        ),
        ("Lambda-Runtime-Function-Error-Type: Function.Boom\r\n", Err("")),
        ("X-Other: 1\r\n", Ok("part")),
    ] {
        let mut served = Served::new().await;
        let mut client = served.running().await;
        client
            .send(format!(
                "POST /2018-06-01/runtime/invocation/{ID}/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n\
                 Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n4\r\npart\r\n0\r\n{trailers}\r\n"
            ))
            .await;
        assert_eq!(client.answer().await, OK);
        let result = served.result().await.map_err(|error| error.payload);
        assert_eq!(result, payload.map(Bytes::from).map_err(Bytes::from));
    }
}

#[tokio::test]
async fn cut_off_bodies() {
    for request in [
        "Content-Length: 10\r\n\r\n12345",
        "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\n123",
    ] {
        for end in ["half", "whole"] {
            let mut served = Served::new().await;
            let mut client = served.running().await;
            client.send(format!("POST /2018-06-01/runtime/invocation/{ID}/response HTTP/1.1\r\n{request}")).await;
            if end == "half" {
                client.0.shutdown().await.unwrap();
                let refusal = r#"{"errorMessage":"HTTP request detected as truncated","errorType":"TruncatedHTTPRequest"}"#;
                let answer = client.answer().await;
                assert!(answer.starts_with("HTTP/1.1 400") && answer.ends_with(&format!("{refusal}\n")), "{answer}");
            } else {
                drop(client);
            }
            let error = served.result().await.unwrap_err();
            assert!(String::from_utf8_lossy(&error.payload).contains("Runtime.TruncatedResponse"), "{request}");
            let next = served.connect().await.call("GET", "runtime/invocation/next", "", "").await;
            assert_eq!(status(&next), "403");
        }
    }
}

#[tokio::test]
async fn rubbish_closes_its_connection_only() {
    let served = Served::new().await;
    for rubbish in ["\0\0\0\0\r\n\r\n", "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut client = served.connect().await;
        client.send(rubbish).await;
        let mut answer = Vec::new();
        // A reset is as good as an end.
        let _ = client.0.read_to_end(&mut answer).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
    }
    assert_eq!(status(&served.connect().await.call("GET", "ping", "", "").await), "200");
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue() {
    let mut served = Served::new().await;
    let mut client = served.running().await;
    client
        .send(format!("POST /2018-06-01/runtime/invocation/{ID}/response HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"))
        .await;
    let mut go_on = [0; 25];
    client.0.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send("1").await;
    assert_eq!(client.answer().await, OK);
    assert_eq!(served.result().await.unwrap(), "1");
}

#[tokio::test]
async fn shutdown_closes_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (calls, mut received) = mpsc::channel(1);
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, Api { calls, metadata: None }, |_| true, async { drop(stopped.await) }));
    let mut client = Client(TcpStream::connect(address).await.unwrap());
    client.send("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n").await;
    let _waiting = received.recv().await.unwrap();
    stop.send(()).unwrap();
    server.await.unwrap();
    assert_eq!(client.0.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_dropped_ticket_closes_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (calls, mut received) = mpsc::channel(1);
    tokio::spawn(serve(listener, Api { calls, metadata: None }, |_| true, std::future::pending()));
    let mut client = Client(TcpStream::connect(address).await.unwrap());
    client.send("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n").await;
    drop(received.recv().await.unwrap());
    assert_eq!(client.0.read(&mut [0; 1]).await.unwrap(), 0);
}
