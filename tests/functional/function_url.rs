//! `undocked serve --url`: a function's URL, with a real function behind it. What is mapped how is the contract's affair (`contract/invoke_api/url.rs`).

use nix::sys::signal::Signal;
use tests::serving::Serving;
use tests::{Fixture, wire};

/// The probe served with a URL, and where that is.
fn serve(fixture: &Fixture, script: &str) -> (Serving, String) {
    fixture.script(script);
    let serving = fixture.serve(&["--url", "127.0.0.1:0"]);
    let said = serving.running().stderr_so_far();
    let url = said.split_once("the function's URL is http://").and_then(|(_, rest)| rest.split_once("/\n"));
    let address = url.unwrap_or_else(|| panic!("no URL: {said}")).0.to_owned();
    (serving, address)
}

#[test]
fn a_request_is_an_event_and_the_answer_is_the_functions() {
    let Some(fixture) = Fixture::new() else { return };
    let answer = r#"{"statusCode": 418, "headers": {"x-mine": "1"}, "cookies": ["a=b"], "body": "tea"}"#;
    let (serving, address) = serve(&fixture, &format!("next\nrespond-event\nnext\nrespond {answer}\nnext"));
    let (status, headers, body) = wire::request(&address, "PUT", "/a/b?c=d", &[("X-Mine", "2")], b"hi").expect("it answers");
    let event: serde_json::Value = serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{error}: {}", body.escape_ascii()));
    assert_eq!((status, headers["content-type"].as_str()), (200, "application/json"));
    assert_eq!((&event["rawPath"], &event["body"], &event["headers"]["x-mine"]), (&"/a/b".into(), &"hi".into(), &"2".into()));
    assert_eq!(event["requestContext"]["requestId"], headers["x-amzn-requestid"]);
    let (status, headers, body) = wire::request(&address, "GET", "/", &[], b"").expect("it answers");
    assert_eq!((status, headers["x-mine"].as_str(), headers["set-cookie"].as_str(), &body[..]), (418, "1", "a=b", &b"tea"[..]));
    serving.end(Signal::SIGTERM).expect_code(0);
    fixture.expect_nothing_left();
}

#[test]
fn a_function_that_fails_is_a_bad_gateway_and_is_served_again() {
    let Some(fixture) = Fixture::new() else { return };
    let (serving, address) = serve(&fixture, "next\nexit 7");
    for _ in 0..2 {
        let (status, headers, body) = wire::request(&address, "GET", "/", &[], b"").expect("it answers");
        assert_eq!((status, headers["content-type"].as_str(), &body[..]), (502, "application/json", &b"Internal Server Error"[..]));
    }
    // The API is there, too.
    assert_eq!(serving.invoke(&[], b"{}").header("x-amz-function-error"), Some("Unhandled"));
    serving.end(Signal::SIGINT).expect_code(0);
}

#[test]
fn a_url_that_cannot_listen_is_told() {
    let Some(fixture) = Fixture::new() else { return };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let err = fixture.serve_command(&["--url", &address]).finish().expect_code(125).err();
    assert!(err.contains(&format!("cannot listen on {address}")) && err.contains("hint: another program has that port"), "{err}");
}
