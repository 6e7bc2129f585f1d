//! The Extensions API, subscriptions and the metadata endpoint over a loopback socket.

use super::*;
use crate::lambda::{Program, RuntimeEnd, StreamEnd};

const REGISTER: &str = "/2020-01-01/extension/register";
const NEXT: &str = "/2020-01-01/extension/event/next";
const INIT_ERROR: &str = "/2020-01-01/extension/init/error";
const EXIT_ERROR: &str = "/2020-01-01/extension/exit/error";
const TELEMETRY: &str = "/2022-07-01/telemetry";
const LOGS: &str = "/2020-08-15/logs";
const METADATA: &str = "/2026-01-15/metadata/execution-environment";
const SUBSCRIPTION: &str = r#"{"schemaVersion":"2022-07-01","types":["platform"],"destination":{"protocol":"TCP","port":1}}"#;

async fn with_extension() -> Served {
    Served::with_extensions(invocation(), vec!["ext".to_owned()]).await
}

fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_else(|| panic!("{name} in {answer}"))
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

/// Registers an extension and gives the header that names it.
async fn register(client: &mut Client, name: &str, events: &str) -> String {
    let registered = client.request("POST", REGISTER, &format!("Lambda-Extension-Name: {name}\r\n"), events).await;
    assert_eq!(status(&registered), "200", "{registered}");
    format!("Lambda-Extension-Identifier: {}\r\n", header(&registered, "Lambda-Extension-Identifier"))
}

#[tokio::test]
async fn a_life_of_an_extension() {
    let served = with_extension().await;
    let mut extension = served.connect().await;
    let events = r#"{"events":["INVOKE","SHUTDOWN"]}"#;
    let headers = "Lambda-Extension-Name: ext\r\nLambda-Extension-Accept-Feature: other, accountId\r\n";
    let registered = extension.request("POST", REGISTER, headers, events).await;
    let function = Function::sample("3");
    let expected = format!(
        "{{\"functionName\":\"fn\",\"functionVersion\":\"$LATEST\",\"handler\":\"app.handler\",\"accountId\":\"{}\"}}\n",
        function.account_id
    );
    assert_eq!((status(&registered), header(&registered, "Content-Type"), body(&registered)), ("200", "application/json", &*expected));
    let identifier = header(&registered, "Lambda-Extension-Identifier").to_owned();
    // The runtime, meanwhile.
    let mut runtime = served.connect().await;
    runtime.send("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n").await;
    let named = format!("Lambda-Extension-Identifier: {}\r\n", identifier.to_uppercase());
    let invoked = extension.request("GET", NEXT, &named, "").await;
    assert_eq!(status(&invoked), "200");
    assert_eq!(header(&invoked, "Lambda-Extension-Event-Identifier").len(), 36);
    let deadline_ms = header(&runtime.answer().await, "Lambda-Runtime-Deadline-Ms").to_owned();
    let expected = format!(
        "{{\"eventType\":\"INVOKE\",\"deadlineMs\":{deadline_ms},\"requestId\":\"{ID}\",\
         \"invokedFunctionArn\":\"arn:aws:lambda:us-east-1:123456789012:function:fn\",\
         \"tracing\":{{\"type\":\"X-Amzn-Trace-Id\",\"value\":\"Root=1-00000000-0\"}}}}\n"
    );
    assert_eq!(body(&invoked), expected);
    // Both are done, the environment ends.
    assert_eq!(runtime.respond("", "1").await, OK);
    runtime.send("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n").await;
    extension.send(format!("GET {NEXT} HTTP/1.1\r\n{named}\r\n")).await;
    served.finished().await;
    served.tell(Input::ShutDown).await;
    served.tell(Input::Ended(Program::Runtime, RuntimeEnd::Exited(0))).await;
    let shutdown = extension.answer().await;
    let told = body(&shutdown);
    assert!(told.starts_with("{\"eventType\":\"SHUTDOWN\",\"deadlineMs\":"), "{told}");
    assert!(told.ends_with(",\"shutdownReason\":\"spindown\"}\n"), "{told}");
}

#[tokio::test]
async fn without_a_trace_there_is_no_tracing() {
    let mut invocation = invocation();
    invocation.trace_id = String::new();
    let served = Served::with_extensions(invocation, vec!["ext".to_owned()]).await;
    let mut extension = served.connect().await;
    let named = register(&mut extension, "ext", r#"{"events":["INVOKE"]}"#).await;
    let mut runtime = served.connect().await;
    runtime.send("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n").await;
    let invoked = extension.request("GET", NEXT, &named, "").await;
    assert!(body(&invoked).ends_with("function:fn\"}\n"), "{invoked}");
}

#[tokio::test]
async fn refusals() {
    let served = with_extension().await;
    let mut client = served.connect().await;
    let named = register(&mut client, "ext", "{}").await;
    let unknown = "Lambda-Extension-Identifier: 12345678-1234-4234-8234-123456789abc\r\n";
    let (invalid, other) = ("Lambda-Extension-Identifier: x\r\n", "Lambda-Extension-Name: other\r\n");
    let missing = r#"{"errorMessage":"Missing Lambda-Extension-Identifier header","errorType":"Extension.MissingExtensionIdentifier"}"#;
    for (method, path, headers, posted, expected) in [
        ("POST", REGISTER, "", "{}", r#"{"errorMessage":"Empty extension name","errorType":"Extension.InvalidExtensionName"}"#),
        (
            "POST",
            REGISTER,
            "Lambda-Extension-Name: \r\n",
            "",
            r#"{"errorMessage":"Empty extension name","errorType":"Extension.InvalidExtensionName"}"#,
        ),
        (
            "POST",
            REGISTER,
            other,
            r#"{"events":["SHUTDOWN"]}"#,
            r#"{"errorMessage":"SHUTDOWN: ShutdownEventNotSupportedForInternalExtension","errorType":"Extension.InvalidEventType"}"#,
        ),
        (
            "POST",
            REGISTER,
            other,
            r#"{"events":[],"configurationKeys":["x"]}"#,
            r#"{"errorMessage":"configurationKeys are deprecated; use environment variables instead","errorType":"InvalidRequestFormat"}"#,
        ),
        ("GET", NEXT, "", "", missing),
        ("POST", EXIT_ERROR, "", "", missing),
        ("PUT", TELEMETRY, "", SUBSCRIPTION, missing),
        (
            "GET",
            NEXT,
            invalid,
            "",
            r#"{"errorMessage":"Invalid Lambda-Extension-Identifier","errorType":"Extension.InvalidExtensionIdentifier"}"#,
        ),
        (
            "GET",
            NEXT,
            unknown,
            "",
            r#"{"errorMessage":"Unknown extension 12345678-1234-4234-8234-123456789abc","errorType":"Extension.UnknownExtensionIdentifier"}"#,
        ),
        (
            "POST",
            INIT_ERROR,
            &named,
            "{}",
            r#"{"errorMessage":"Lambda-Extension-Function-Error-Type not found","errorType":"Extension.MissingHeader"}"#,
        ),
    ] {
        let refused = client.request(method, path, headers, posted).await;
        assert_eq!(refused, json("403 Forbidden", expected), "{method} {path} {headers}");
    }
    for posted in ["", "x", "[]", r#"{"events":"INVOKE"}"#, &" ".repeat(2 << 20)] {
        let refused = client.request("POST", REGISTER, other, posted).await;
        assert!(status(&refused) == "403" && refused.contains("\"errorType\":\"InvalidRequestFormat\""), "{refused}");
    }
    for (path, allow) in [(REGISTER, "POST"), (NEXT, "GET"), (INIT_ERROR, "POST"), (EXIT_ERROR, "POST"), (TELEMETRY, "PUT"), (LOGS, "PUT")]
    {
        let refused = client.request("DELETE", path, "", "").await;
        assert_eq!((status(&refused), header(&refused, "Allow")), ("405", allow), "{path}");
    }
}

#[tokio::test]
async fn errors_of_extensions_are_accepted() {
    for path in [INIT_ERROR, EXIT_ERROR] {
        let mut served = with_extension().await;
        let mut client = served.connect().await;
        let named = register(&mut client, "ext", "{}").await;
        let headers = format!("{named}Lambda-Extension-Function-Error-Type: Extension.Boom\r\n");
        assert_eq!(client.request("POST", path, &headers, "{\"errorMessage\":\"x\"}").await, OK);
        let error = served.result().await.unwrap_err();
        let expected = if path == INIT_ERROR { "Extension.InitError" } else { "Extension.ExitError" };
        assert!(String::from_utf8_lossy(&error.payload).contains(expected), "{error:?}");
    }
}

#[tokio::test]
async fn subscriptions() {
    let served = with_extension().await;
    let mut client = served.connect().await;
    let named = register(&mut client, "ext", "{}").await;
    let taken = client.request("PUT", TELEMETRY, &named, SUBSCRIPTION).await;
    assert_eq!((status(&taken), body(&taken)), ("200", "\"OK\""));
    let invalid = client.request("PUT", TELEMETRY, &named, "{}").await;
    assert!(status(&invalid) == "400" && invalid.contains("\"errorType\":\"ValidationError\""), "{invalid}");
    let mut runtime = served.connect().await;
    runtime.send("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n").await;
    client.send(format!("GET {NEXT} HTTP/1.1\r\n{named}\r\n")).await;
    runtime.answer().await;
    let late = served.connect().await.request("PUT", TELEMETRY, &named, SUBSCRIPTION).await;
    let expected = r#"{"errorMessage":"Telemetry API subscription is closed","errorType":"Telemetry.SubscriptionClosed"}"#;
    assert_eq!(late, json("403 Forbidden", expected));
}

#[tokio::test]
async fn metadata_for_those_with_the_token() {
    let served = Served::new().await;
    let mut client = served.connect().await;
    let told = client.request("GET", METADATA, "Authorization: Bearer secret\r\n", "").await;
    assert_eq!(
        told,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: private, max-age=43200, immutable\r\nContent-Length: 34\r\n\r\n\
         {\"AvailabilityZoneID\":\"use1-az1\"}\n"
    );
    for headers in ["", "Authorization: Bearer other\r\n", "Authorization: secret\r\n"] {
        let refused = client.request("GET", METADATA, headers, "").await;
        assert_eq!((status(&refused), body(&refused)), ("401", "Unauthorized"), "{headers}");
    }
}

/// A server whose calls the test answers itself.
async fn bare() -> (Client, mpsc::Receiver<Call>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (calls, received) = mpsc::channel(1);
    tokio::spawn(serve(listener, Api { calls, metadata: None }, |_| true, std::future::pending()));
    (Client(TcpStream::connect(address).await.unwrap()), received)
}

/// A call that begins an answer in parts and is let in.
async fn streaming() -> (Client, mpsc::Receiver<Call>, mpsc::Receiver<Bytes>) {
    let (mut client, mut calls) = bare().await;
    client
        .send(format!(
            "POST /2018-06-01/runtime/invocation/{ID}/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Type: text/html\r\n\
             Lambda-Runtime-Function-Response-Mode: streaming\r\n\r\n"
        ))
        .await;
    let call = calls.recv().await.unwrap();
    let Input::ResponseBegins { ticket, request_id, content_type } = call.input else { panic!("{:?}", call.input) };
    assert_eq!((request_id.as_str(), content_type.as_deref()), (ID, Some("text/html")));
    ticket.send(Answer::GoOn).unwrap();
    (client, calls, call.parts.unwrap())
}

async fn end(calls: &mut mpsc::Receiver<Call>) -> (u64, StreamEnd) {
    let Input::ResponseEnds { ticket, request_id, bytes, end } = calls.recv().await.unwrap().input else { panic!() };
    assert_eq!(request_id, ID);
    ticket.send(Answer::Accepted).unwrap();
    (bytes, end)
}

#[tokio::test]
async fn parts_arrive_before_the_end() {
    let (mut client, mut calls, mut parts) = streaming().await;
    for part in ["first", "second"] {
        client.send(format!("{:x}\r\n{part}\r\n", part.len())).await;
        assert_eq!(parts.recv().await.unwrap(), part);
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(end(&mut calls).await, (11, StreamEnd::Whole));
    assert_eq!(parts.recv().await, None);
    assert_eq!(client.answer().await, OK);
}

#[tokio::test]
async fn parts_that_nobody_wants_are_thrown_away() {
    let (mut client, mut calls, parts) = streaming().await;
    drop(parts);
    for _ in 0..100 {
        client.send(format!("400\r\n{}\r\n", "x".repeat(1024))).await;
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(end(&mut calls).await, (102_400, StreamEnd::Whole));
    assert_eq!(client.answer().await, OK);
}

#[tokio::test]
async fn parts_wait_for_whoever_takes_them() {
    let (mut client, mut calls, mut parts) = streaming().await;
    let writer = tokio::spawn(async move {
        for _ in 0..1024 {
            client.send(format!("4000\r\n{}\r\n", "x".repeat(0x4000))).await;
        }
        client.send("0\r\n\r\n").await;
        client.answer().await
    });
    let mut taken = 0;
    while let Some(part) = parts.recv().await {
        taken += part.len();
    }
    assert_eq!(taken, 16 << 20);
    assert_eq!(end(&mut calls).await, (16 << 20, StreamEnd::Whole));
    assert_eq!(writer.await.unwrap(), OK);
}

#[tokio::test]
async fn a_connection_that_breaks_cuts_the_answer() {
    for sent in ["", "5\r\n123", "5\r\n12345\r\n"] {
        let (mut client, mut calls, mut parts) = streaming().await;
        client.send(sent).await;
        drop(client);
        while parts.recv().await.is_some() {}
        let Input::ResponseEnds { end, .. } = calls.recv().await.unwrap().input else { panic!() };
        assert_eq!(end, StreamEnd::Truncated, "{sent:?}");
    }
}

#[tokio::test]
async fn an_answer_in_parts_that_is_not_let_in() {
    let (mut client, mut calls) = bare().await;
    client
        .send(format!(
            "POST /2018-06-01/runtime/invocation/{ID}/response HTTP/1.1\r\nContent-Length: 4\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n\r\n"
        ))
        .await;
    let Input::ResponseBegins { ticket, .. } = calls.recv().await.unwrap().input else { panic!() };
    ticket.send(Answer::Refused(Refusal::InvalidRequestId)).unwrap();
    client.send("body").await;
    assert_eq!(status(&client.answer().await), "400");
    // The connection goes on.
    assert_eq!(status(&client.call("GET", "ping", "", "").await), "200");
    assert_eq!(status(&client.request("GET", METADATA, "Authorization: Bearer secret\r\n", "").await), "404");
}
