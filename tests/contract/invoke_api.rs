//! The Invoke API as clients see it: status, headers and bodies of answers and refusals, streams, URLs; by plain HTTP and by real clients.

#[path = "invoke_api/clients.rs"]
mod clients;
#[path = "invoke_api/fleet.rs"]
mod fleet;
#[path = "invoke_api/http.rs"]
mod http;
#[path = "invoke_api/url.rs"]
mod url;

use std::time::Duration;

use fleet::Server;
use http::{Answer, Client};
use runner::api::invoke::{ContentTypes, ServeOptions};
use serde_json::{Value, json};

const STREAM: &str = "response-streaming-invocations";

fn json_of(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("no JSON: {answer:?}"))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Waits until so many calls have come.
fn until_called(server: &Server, calls: usize) {
    while server.called().len() < calls {
        std::thread::yield_now();
    }
}

#[track_caller]
fn expect_refusal(answer: &Answer, status: u16, name: &str, body: &str) {
    assert_eq!((answer.status, answer.body.as_str()), (status, body), "{answer:?}");
    assert_eq!(answer.headers["x-amzn-errortype"], name);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["x-amzn-requestid"].len(), 36);
}

#[test]
fn a_successful_answer_has_the_headers_of_docker_lambda_and_of_aws() {
    let server = Server::start();
    let answer = Client::to(server.address).invoke("spaced", "", "{}");
    assert_eq!((answer.status, answer.body.as_str()), (200, "{ \"a\" : [ 1 ] }"));
    let id = server.calls.lock().expect("no holder panics")[0].request_id.clone();
    for line in [
        "Content-Type: application/json",
        "X-Amz-Executed-Version: $LATEST",
        "X-Amzn-Remapped-Content-Length: 0",
        "X-Amzn-Trace-Id: root=1-5e1b4151-5ac6c58d239d3a4f8d0f8f0f;sampled=0;lineage=1:a87bd80c:0",
        "Content-Length: 15",
        &format!("X-Amzn-Requestid: {id}"),
    ] {
        assert!(answer.lines.iter().any(|found| found == line), "{line}: {answer:?}");
    }
    for absent in ["x-amz-function-error", "x-amz-log-result", "access-control-allow-origin", "transfer-encoding"] {
        assert_eq!(answer.headers.get(absent), None);
    }
}

#[test]
fn the_whole_request_reaches_the_function() {
    let server = Server::start();
    let headers = "X-Amz-Log-Type: Tail\r\nX-Amz-Client-Context: eyJjdXN0b20iOnsiYSI6MX19\r\nX-Amz-Tenant-Id: blue\r\n\
                   X-Amzn-Trace-Id: Root=1-2-3\r\nContent-Type: text/plain\r\n";
    let name = "arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Adescribe";
    let answer = Client::to(server.address).call(&format!("POST /2015-03-31/functions/{name}/invocations?Qualifier=live"), headers, "[1]");
    let expected = json!({
        "name": "describe", "qualifier": "live", "region": "us-east-1", "account": "123456789012", "log_tail": true, "payload": "[1]",
        "content_type": null, "client_context": "{\"custom\":{\"a\":1}}", "tenant_id": "blue", "trace_id": "Root=1-2-3",
    });
    assert_eq!(json_of(&answer), expected);
}

#[test]
fn names_qualifiers_and_empty_bodies() {
    let server = Server::start();
    let mut client = Client::to(server.address);
    for (path, qualifier) in [
        ("describe/invocations", json!(null)),
        ("describe:1/invocations", json!("1")),
        ("function:describe:%24LATEST/invocations?Qualifier=$LATEST", json!("$LATEST")),
        ("123456789012:function:describe/invocations?x=y", json!(null)),
    ] {
        let answer = client.call(&format!("POST /2015-03-31/functions/{path}"), "Content-Type: application/x-www-form-urlencoded\r\n", "");
        let found = json_of(&answer);
        assert_eq!((&found["name"], &found["qualifier"]), (&json!("describe"), &qualifier), "{path}");
        assert_eq!((&found["payload"], &found["content_type"]), (&json!("{}"), &json!(null)), "{path}");
    }
}

#[test]
fn function_errors_are_200_and_unhandled() {
    let server = Server::start();
    let answer = Client::to(server.address).invoke("fail", "X-Amz-Log-Type: Tail\r\n", "{}");
    assert_eq!((answer.status, answer.body.as_str()), (200, fleet::ERROR));
    assert_eq!(answer.headers["x-amz-function-error"], "Unhandled");
    assert_eq!(answer.headers["x-amz-executed-version"], "$LATEST");
    let tail = "U1RBUlQgUmVxdWVzdElkOiB4IFZlcnNpb246ICRMQVRFU1QKaGkKRU5EIFJlcXVlc3RJZDogeAo=";
    assert_eq!(answer.headers["x-amz-log-result"], tail);
}

#[test]
fn an_empty_answer_is_null() {
    let server = Server::start();
    let answer = Client::to(server.address).invoke("empty", "", "{}");
    assert_eq!((answer.status, answer.body.as_str()), (200, "null"));
}

#[test]
fn events_and_dry_runs() {
    let server = Server::start();
    let mut client = Client::to(server.address);
    let event = client.invoke("echo", "X-Amz-Invocation-Type: Event\r\n", "{}");
    assert_eq!((event.status, event.body.as_str()), (202, ""));
    let dry = client.invoke("echo", "X-Amz-Invocation-Type: DryRun\r\n", "{}");
    assert_eq!((dry.status, dry.body.as_str()), (204, ""));
    for answer in [&event, &dry] {
        assert_eq!(answer.headers.get("x-amz-executed-version"), None);
        assert_eq!(answer.headers["x-amzn-remapped-content-length"], "0");
        assert_eq!(answer.headers["x-amzn-requestid"].len(), 36);
    }
    let traced = client.invoke("echo", "X-Amz-Invocation-Type: Event\r\nX-Amzn-Trace-Id: Root=1-2-3;Sampled=1\r\n", "{}");
    assert_eq!(traced.headers["x-amzn-trace-id"], "root=1-2-3;sampled=1");
    assert!(event.headers["x-amzn-trace-id"].starts_with("root=1-"), "{:?}", event.headers);
    for path in ["/2014-11-13/functions/echo/invoke-async/", "/2014-11-13/functions/echo/invoke-async"] {
        let old = client.call(&format!("POST {path}"), "", "{\"a\":1}");
        assert_eq!((old.status, old.body.as_str()), (202, "{\"Status\":202}"));
    }
    let missing = client.invoke("missing", "X-Amz-Invocation-Type: DryRun\r\n", "{}");
    assert_eq!(missing.status, 404);
}

#[test]
fn refusals_of_the_service() {
    let server = Server::start();
    let mut client = Client::to(server.address);
    let not_found = r#"{"Type":"User","Message":"Function not found: arn:aws:lambda:us-east-1:123456789012:function:missing:$LATEST"}"#;
    expect_refusal(&client.invoke("missing", "", "{}"), 404, "ResourceNotFoundException", not_found);
    let elsewhere = r#"{"Type":"User","Message":"Functions from 'us-west-1' are not reachable in this region ('us-east-1')"}"#;
    expect_refusal(&client.invoke("elsewhere", "", "{}"), 404, "ResourceNotFoundException", elsewhere);
    let busy = r#"{"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}"#;
    expect_refusal(&client.invoke("busy", "", "{}"), 429, "TooManyRequestsException", busy);
    let broken = r#"{"Type":"Service","Message":"no sandbox"}"#;
    expect_refusal(&client.invoke("broken", "", "{}"), 500, "ServiceException", broken);
    let ended = r#"{"Type":"Service","Message":"the service ended before the function answered"}"#;
    expect_refusal(&client.invoke("drop", "", "{}"), 500, "ServiceException", ended);
}

#[test]
fn refusals_of_requests() {
    let server = Server::start();
    let mut client = Client::to(server.address);
    let long_context = format!("X-Amz-Client-Context: {}\r\n", "A".repeat(3584));
    for (function, headers, body, name, part) in [
        ("echo", "", "notjson", "InvalidRequestContentException", r#"{"Type":"User","message":"Could not parse request body into json: "#),
        ("e%20o", "", "{}", "ValidationException", r#"{"message":"1 validation error detected: Value 'e o' at 'functionName' failed"#),
        ("echo", "X-Amz-Invocation-Type: x\r\n", "{}", "ValidationException", "at 'invocationType' failed to satisfy constraint"),
        ("echo", "X-Amz-Log-Type: x\r\n", "{}", "ValidationException", "at 'logType' failed to satisfy constraint"),
        ("echo", "X-Amz-Client-Context: ?\r\n", "{}", "InvalidRequestContentException", "Client context must be a valid Base64-encoded"),
        ("echo", &long_context, "{}", "InvalidParameterValueException", r#"{"Type":"User","message":"#),
        ("echo", "X-Amz-Tenant-Id: a,b\r\n", "{}", "ValidationException", "at 'tenantId'"),
    ] {
        let answer = client.invoke(function, headers, body);
        assert_eq!((answer.status, answer.headers["x-amzn-errortype"].as_str()), (400, name), "{answer:?}");
        assert!(answer.body.contains(part), "{part}: {answer:?}");
    }
    let answer = client.call("POST /2015-03-31/functions/echo:1/invocations?Qualifier=2", "", "{}");
    let body = r#"{"Type":"User","message":"The derived qualifier from the function name does not match the specified qualifier."}"#;
    expect_refusal(&answer, 400, "InvalidParameterValueException", body);
    let answer = client.call(&format!("POST /2021-11-15/functions/echo/{STREAM}"), "X-Amz-Invocation-Type: Event\r\n", "{}");
    assert!(answer.body.contains("enum value set: [RequestResponse, DryRun]"), "{answer:?}");
    assert_eq!(server.called(), [""; 0]);
}

#[test]
fn payloads_have_limits() {
    let server = Server::start();
    let mut client = Client::to(server.address);
    let json = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let whole = client.invoke("echo", "", &json(6_291_456));
    assert_eq!((whole.status, whole.body.len()), (200, 6_291_456));
    let body = r#"{"Message":"6291457 byte payload is too large for the RequestResponse invocation type (limit 6291456 bytes)"}"#;
    expect_refusal(&client.invoke("echo", "", &json(6_291_457)), 413, "RequestTooLargeException", body);
    let event = "X-Amz-Invocation-Type: Event\r\n";
    assert_eq!(client.invoke("echo", event, &json(1_048_576)).status, 202);
    let body = r#"{"Message":"1048577 byte payload is too large for the Event invocation type (limit 1048576 bytes)"}"#;
    expect_refusal(&client.invoke("echo", event, &json(1_048_577)), 413, "RequestTooLargeException", body);
    assert_eq!(server.called().len(), 2);
    let large = client.invoke("large", "", "{}");
    assert_eq!(large.body.len(), 6 * 1024 * 1024 + 2);
}

#[test]
fn payloads_of_unknown_length_have_limits_too() {
    let server = Server::start();
    let mut client = Client::to(server.address);
    let head = "POST /2015-03-31/functions/echo/invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(head);
    for _ in 0..7 {
        client.send(format!("100000\r\n{}\r\n", "x".repeat(1 << 20)));
    }
    client.send("0\r\n\r\n");
    let body = r#"{"Message":"7340032 byte payload is too large for the RequestResponse invocation type (limit 6291456 bytes)"}"#;
    expect_refusal(&client.answer(), 413, "RequestTooLargeException", body);
    client.send(format!("{head}3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n"));
    assert_eq!(client.answer().body, "[1,2]");
}

#[test]
fn content_types_are_looked_at_only_when_asked() {
    let json_only = Server::with(ServeOptions { content_types: ContentTypes::JsonOnly, ..ServeOptions::default() });
    let mut client = Client::to(json_only.address);
    let refused = client.invoke("echo", "Content-Type: text/plain\r\n", "{}");
    expect_refusal(&refused, 415, "UnsupportedMediaTypeException", r#"{"Type":"User","message":"Unsupported content type: text/plain"}"#);
    for header in ["", "Content-Type: application/json; charset=utf-8\r\n"] {
        assert_eq!(client.invoke("echo", header, "{}").status, 200);
    }
    let any = Server::start();
    assert_eq!(Client::to(any.address).invoke("echo", "Content-Type: text/plain\r\n", "{}").status, 200);
}

#[test]
fn other_paths_and_methods() {
    let server = Server::start();
    let mut client = Client::to(server.address);
    let ping = client.call("GET /2018-06-01/ping", "", "");
    assert_eq!((ping.status, ping.body.as_str()), (200, "pong"));
    let not_found = client.call("GET /2018-06-01/x", "", "");
    assert_eq!((not_found.status, not_found.body.as_str()), (404, "404 page not found\n"));
    for (line, allow) in [
        ("GET /2015-03-31/functions/echo/invocations", Some("POST")),
        ("POST /2018-06-01/ping", Some("GET")),
        ("POST /2015-03-31/functions/echo/invocations/", None),
        ("POST /x", None),
        ("GET /", None),
    ] {
        let answer = client.call(line, "", "");
        assert_eq!((answer.status, answer.body.as_str(), answer.headers.get("allow").map(String::as_str)), (405, "", allow), "{line}");
    }
    assert_eq!(server.called(), [""; 0]);
}

#[test]
fn browsers_may_ask() {
    let server = Server::start();
    let mut client = Client::to(server.address);
    let anonymous = client.call("OPTIONS /2015-03-31/functions/echo/invocations", "", "");
    assert_eq!((anonymous.status, anonymous.body.as_str()), (403, ""));
    let asked = "Origin: http://page\r\nAccess-Control-Request-Headers: x-amz-log-type\r\nAccess-Control-Request-Method: POST\r\n";
    let granted = client.call("OPTIONS /anything", asked, "");
    assert_eq!((granted.status, granted.body.as_str()), (200, ""));
    assert_eq!(granted.headers["access-control-max-age"], "172800");
    assert_eq!(granted.headers["access-control-allow-headers"], "x-amz-log-type");
    assert_eq!(granted.headers["access-control-allow-methods"], "POST");
    assert_eq!(granted.headers["x-amzn-requestid"].len(), 36);
    let called = client.invoke("echo", "Origin: http://page\r\n", "{}");
    let refused = client.invoke("busy", "Origin: http://page\r\n", "{}");
    for answer in [&granted, &called, &refused] {
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
        let exposed = "x-amzn-RequestId,x-amzn-ErrorType,x-amzn-ErrorMessage,Date,x-amz-log-result,x-amz-function-error";
        assert_eq!(answer.headers["access-control-expose-headers"], exposed);
    }
}

#[test]
fn a_client_that_goes_leaves_its_call_running() {
    let server = Server::start();
    let mut client = Client::to(server.address);
    client.request("POST /2015-03-31/functions/wait/invocations", "", "{}");
    until_called(&server, 1);
    drop(client);
    let mut other = Client::to(server.address);
    other.request("POST /2015-03-31/functions/wait/invocations", "", "{}");
    until_called(&server, 2);
    // The first to go on is the one that nobody waits for.
    server.open();
    server.open();
    assert_eq!(other.answer().body, "\"waited\"");
}

#[test]
fn a_client_may_close_its_half() {
    let server = Server::start();
    let mut client = Client::to(server.address);
    client.request("POST /2015-03-31/functions/wait/invocations", "", "{}");
    client.close_half();
    server.open();
    assert_eq!(client.answer().body, "\"waited\"");
}

#[test]
fn at_the_end_calls_in_flight_are_answered_and_idle_connections_closed() {
    let mut server = Server::start();
    let (mut idle, mut kept) = (Client::to(server.address), Client::to(server.address));
    let (mut busy, mut slow) = (Client::to(server.address), Client::to(server.address));
    assert_eq!(kept.invoke("echo", "", "{}").status, 200);
    slow.send("POST /2015-03-31/functions/open/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    // Its head has been read.
    assert_eq!(slow.head().status, 100);
    busy.request("POST /2015-03-31/functions/wait/invocations", "", "{}");
    until_called(&server, 2);
    // The beginning of a head, on a fresh connection and after a call; the server has read it when it answers who came later.
    let (mut half, mut half_of_next) = (Client::to(server.address), Client::to(server.address));
    assert_eq!(half_of_next.invoke("echo", "", "{}").status, 200);
    for client in [&mut half, &mut half_of_next] {
        client.send("POST /2015-03-31/functions/echo/invocations HTTP/1.1\r\nHost: ");
    }
    assert_eq!(kept.invoke("echo", "", "{}").status, 200);
    server.stop();
    assert!(kept.is_closed() && idle.is_closed());
    assert!(half.is_closed() && half_of_next.is_closed(), "no call is in flight there");
    slow.send("{}");
    assert_eq!(slow.answer().status, 200);
    assert_eq!(busy.answer().body, "\"waited\"");
    assert!(busy.is_closed());
    server.wait();
}

#[test]
fn the_end_does_not_wait_longer_than_its_grace() {
    let mut server = Server::with(ServeOptions { grace: Duration::from_millis(50), ..ServeOptions::default() });
    let mut client = Client::to(server.address);
    client.request("POST /2015-03-31/functions/wait/invocations", "", "{}");
    until_called(&server, 1);
    server.stop();
    server.wait();
    assert!(client.is_closed());
}

#[test]
fn connections_beyond_the_most_wait_for_room() {
    let server = Server::with(ServeOptions { max_connections: 1, ..ServeOptions::default() });
    let mut first = Client::to(server.address);
    assert_eq!(first.invoke("echo", "", "1").status, 200);
    let mut second = Client::to(server.address);
    second.request("POST /2015-03-31/functions/echo/invocations", "", "2");
    assert_eq!(first.invoke("echo", "", "3").body, "3");
    assert_eq!(server.called().len(), 2);
    drop(first);
    assert_eq!(second.answer().body, "2");
}

#[test]
fn streams_arrive_part_by_part() {
    let server = Server::start();
    let mut client = Client::to(server.address);
    client.request(&format!("POST /2021-11-15/functions/stream/{STREAM}"), "X-Amz-Log-Type: Tail\r\n", "{}");
    let head = client.head();
    assert_eq!(head.status, 200);
    for (name, value) in [
        ("content-type", "application/vnd.amazon.eventstream"),
        ("x-amz-executed-version", "$LATEST"),
        ("x-amzn-remapped-content-type", "text/plain"),
        ("transfer-encoding", "chunked"),
    ] {
        assert_eq!(head.headers[name], value);
    }
    // The second part is made only after this one has been seen.
    let first = client.chunk().expect("a part");
    assert!(contains(&first, b"PayloadChunk") && contains(&first, b"one,"), "{}", first.escape_ascii());
    server.open();
    let second = client.chunk().expect("a part");
    assert!(contains(&second, b"PayloadChunk") && contains(&second, b"two"), "{}", second.escape_ascii());
    let last = client.chunk().expect("the end");
    assert!(contains(&last, b"InvokeComplete") && contains(&last, b"{\"LogResult\":\"U1RBUlQ"), "{}", last.escape_ascii());
    assert_eq!(client.chunk(), None);
    assert_eq!(client.invoke("echo", "", "1").body, "1");
}

#[test]
fn a_stream_that_is_cut_cuts_the_connection() {
    let server = Server::start();
    let mut client = Client::to(server.address);
    client.request(&format!("POST /2021-11-15/functions/cut/{STREAM}"), "", "{}");
    client.head();
    server.open();
    assert!(client.chunk().is_some() && client.chunk().is_some());
    assert!(client.try_chunk().is_err());
}

#[test]
fn large_answers_through_the_stream_come_in_chunks() {
    let server = Server::start();
    let mut client = Client::to(server.address);
    client.request(&format!("POST /2021-11-15/functions/large/{STREAM}"), "", "{}");
    assert_eq!(client.head().headers["x-amzn-remapped-content-type"], "application/json");
    let chunks: Vec<Vec<u8>> = std::iter::from_fn(|| client.chunk()).collect();
    let largest = chunks.iter().map(Vec::len).max();
    assert!(chunks.len() > 20 && largest < Some(300_000), "{} chunks of at most {largest:?}", chunks.len());
}
