//! Function URLs, by plain HTTP.

use serde_json::{Value, json};

use super::fleet::Server;
use super::http::Client;

#[test]
fn requests_become_events() {
    let server = Server::url_of("echo");
    let mut client = Client::to(server.address);
    let headers = "X-Forwarded-For: 6.6.6.6\r\nX-Amzn-Trace-Id: x\r\nCookie: a=1; b=2\r\nUser-Agent: test\r\nContent-Type: text/plain\r\n";
    let answer = client.call("PUT /some/path?a=1&a=2", headers, "hi");
    assert_eq!((answer.status, answer.headers["content-type"].as_str()), (200, "application/json"));
    let event: Value = serde_json::from_str(&answer.body).expect("the echo of an event");
    let found =
        json!([event["version"], event["rawPath"], event["rawQueryString"], event["body"], event["isBase64Encoded"], event["cookies"]]);
    assert_eq!(found, json!(["2.0", "/some/path", "a=1&a=2", "hi", false, ["a=1", "b=2"]]));
    assert_eq!(event["headers"]["x-forwarded-for"], "127.0.0.1");
    assert_eq!(event["headers"]["x-forwarded-port"], server.address.port().to_string());
    assert_eq!(event["headers"].get("x-amzn-trace-id"), None);
    assert_eq!(event["requestContext"]["http"]["method"], "PUT");
    assert_eq!(event["requestContext"]["requestId"], answer.headers["x-amzn-requestid"]);
    assert_eq!(answer.headers["x-amzn-requestid"], server.calls.lock().expect("no holder panics")[0].request_id.as_str());
}

#[test]
fn every_method_is_the_functions() {
    let server = Server::url_of("echo");
    let mut client = Client::to(server.address);
    for method in ["GET", "POST", "DELETE", "PATCH", "OPTIONS", "PROPFIND"] {
        let answer = client.call(&format!("{method} /2018-06-01/ping"), "Origin: http://page\r\n", "");
        assert!(answer.body.contains(&format!(r#""method":"{method}""#)), "{answer:?}");
        assert_eq!(answer.headers.get("access-control-allow-origin"), None);
    }
}

#[test]
fn events_have_limits() {
    let server = Server::url_of("echo");
    let mut client = Client::to(server.address);
    let answer = client.call("POST /", "Content-Type: text/plain\r\n", &"x".repeat(6 * 1024 * 1024));
    assert_eq!((answer.status, answer.headers["x-amzn-errortype"].as_str()), (413, "RequestTooLargeException"));
    assert_eq!(client.call("POST /", "", &"x".repeat(6 * 1024 * 1024 + 1)).status, 413);
    assert_eq!(client.call("POST /", "", &"x".repeat(5 * 1024 * 1024)).status, 200);
}

#[test]
fn answers_are_mapped() {
    let server = Server::url_of("says-0");
    let mut client = Client::to(server.address);
    let answer = client.call("GET /", "", "");
    assert_eq!((answer.status, answer.body.as_str()), (418, "tea"));
    assert_eq!((answer.headers["content-type"].as_str(), answer.headers["x-mine"].as_str()), ("text/x", "1"));
    for line in ["Set-Cookie: a=1", "Set-Cookie: b=2"] {
        assert!(answer.lines.iter().any(|found| found == line), "{answer:?}");
    }
    client.request("HEAD /", "", "");
    assert_eq!(client.head().status, 418);
    assert_eq!(client.call("GET /", "", "").body, "tea");

    let server = Server::url_of("says-1");
    let answer = Client::to(server.address).call("GET /", "", "");
    assert_eq!((answer.status, answer.body.as_str(), answer.headers["content-length"].as_str()), (200, "hello", "5"));
    let server = Server::url_of("empty");
    let answer = Client::to(server.address).call("GET /", "", "");
    assert_eq!((answer.status, answer.body.as_str(), answer.headers["content-type"].as_str()), (200, "", "application/json"));
}

#[test]
fn a_tunnel_is_no_event() {
    let server = Server::url_of("echo");
    assert_eq!(Client::to(server.address).call("CONNECT example.com:443", "", "").status, 405);
    assert!(server.called().is_empty());
}

#[test]
fn failures_are_502() {
    for function in ["fail", "says-2", "early-failure"] {
        let server = Server::url_of(function);
        let answer = Client::to(server.address).call("GET /", "", "");
        assert_eq!((answer.status, answer.body.as_str()), (502, "Internal Server Error"), "{function}");
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.headers["x-amzn-requestid"].len(), 36);
    }
    let server = Server::url_of("busy");
    assert_eq!(Client::to(server.address).call("GET /", "", "").status, 429);
}

#[test]
fn streams_arrive_part_by_part() {
    let cases = [("page", 201, "text/html"), ("headless", 200, "application/octet-stream"), ("stream", 200, "text/plain")];
    for (function, status, content_type) in cases {
        let server = Server::url_of(function);
        let mut client = Client::to(server.address);
        client.request("GET /", "", "");
        let head = client.head();
        assert_eq!((head.status, head.headers["content-type"].as_str()), (status, content_type), "{function}");
        assert_eq!(head.headers.get("set-cookie").map(String::as_str), (function == "page").then_some("a=1"));
        // The second part is made only after this one has been seen.
        assert_eq!(client.chunk().as_deref(), Some(&b"one,"[..]));
        server.open();
        assert_eq!(client.chunk().as_deref(), Some(&b"two"[..]));
        assert_eq!(client.chunk(), None);
    }
}

#[test]
fn a_failure_on_the_way_cuts_the_connection() {
    for function in ["late-failure", "cut"] {
        let server = Server::url_of(function);
        let mut client = Client::to(server.address);
        client.request("GET /", "", "");
        assert_eq!(client.head().status, 200);
        server.open();
        assert!(client.chunk().is_some() && client.chunk().is_some());
        assert!(client.try_chunk().is_err(), "{function}");
    }
}
