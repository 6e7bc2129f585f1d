//! AWS's own runtime clients that have to be compiled: the crates `lambda_runtime` and `lambda-extension` (`tests/clients/rust`), and
//! `aws-lambda-ric` with its native part (in the image of `tests/images`).
//!
//! A streaming function makes its second part only once a file is there, which the test makes when it has the first: that part cannot have waited
//! for the handler's end.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use tests::leftovers::eventually;
use tests::real::{RealFunction, function};
use tests::serving::{Client, Serving};
use tests::{Fixture, place, skip};

const LIMIT: Duration = Duration::from_secs(30);

fn program(name: &str) -> Option<PathBuf> {
    let found = place::rust_client(name);
    if found.is_none() {
        skip::skip(skip::Lack::Providable, "AWS's crates are not built (tests/clients/install.sh)");
    }
    found
}

/// A function of AWS's crate in an image that holds nothing else.
fn crate_function() -> Option<Fixture> {
    let built = program("function")?;
    let fixture = Fixture::new()?;
    fs::remove_file(fixture.task().join("bootstrap")).expect("the probe was there");
    fs::copy(built, fixture.task().join("bootstrap")).expect("copied");
    Some(fixture)
}

/// A function for AWS's client for Node.
fn node_function(code: &str) -> Option<RealFunction> {
    let found = function("lambda/nodejs:20")?;
    found.file("app.js", code);
    Some(found)
}

const NODE_STREAM: &str = r#"
const { existsSync } = require('fs');
const opened = async () => { while (!existsSync('/var/task/go')) await new Promise((done) => setTimeout(done, 5)); };
exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  if (event.rawPath) stream = awslambda.HttpResponseStream.from(stream, { statusCode: 201, headers: { 'x-mine': '1' }, cookies: ['a=1'] });
  stream.write('one,');
  await opened();
  if (event.fail) throw new RangeError(event.fail);
  stream.write('two');
  stream.end();
});
exports.plain = async (event, context) => { if (event.fail) throw new RangeError(event.fail); return { event, id: context.awsRequestId }; };
"#;

/// Streams once, opening the gate when the first part is there; the rest of what came, as text.
fn streamed(serving: &Serving, gate: &std::path::Path, payload: &str) -> String {
    let mut client = Client::connect(serving.address());
    assert_eq!(client.stream("fn", payload.as_bytes()), 200);
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let mut first = text(&client.part().expect("a part"));
    // The crate has its prelude before it.
    while !first.contains("one,") {
        first += &text(&client.part().expect("a part"));
    }
    assert!(first.contains("PayloadChunk") && !first.contains("two"), "{first}");
    fs::write(gate, "").expect("written");
    let rest: Vec<u8> = std::iter::from_fn(|| client.part()).flatten().collect();
    fs::remove_file(gate).expect("it is there");
    text(&rest)
}

#[test]
fn lambda_runtime_answers_and_fails() {
    let Some(fixture) = crate_function() else { return };
    let ran = fixture.run(&[], &["echo", "{\"n\":1}"]).finish().expect_code(0);
    let answer = ran.json();
    assert_eq!(answer["event"], json!({"n": 1}));
    assert!(ran.err().contains(&format!("START RequestId: {}", answer["id"].as_str().expect("text"))), "{}", ran.err());
    assert!(ran.err().contains("hello from rust"), "{}", ran.err());
    let failed = fixture.run(&[], &["echo", "{\"fail\":\"boom\"}"]).finish().expect_code(1).json();
    assert_eq!(failed["errorMessage"], "boom");
    fixture.expect_nothing_left();
}

#[test]
fn lambda_runtime_streams_before_its_handler_ends() {
    let Some(fixture) = crate_function() else { return };
    let serving = Serving::start(fixture.serve_command(&[]).arg("stream"));
    let rest = streamed(&serving, &fixture.task().join("go"), "{}");
    assert!(rest.contains("two") && rest.contains("InvokeComplete"), "{rest}");
    // A client that does not stream gets the whole.
    fs::write(fixture.task().join("go"), "").expect("written");
    let whole = serving.invoke(&[], b"{}");
    assert!(whole.status == 200 && whole.text().ends_with("one,two"), "{}", whole.text());
    serving.end(Signal::SIGTERM).expect_code(0);
    fixture.expect_nothing_left();
}

#[test]
fn lambda_extension_has_events_and_the_functions_lines() {
    let Some(built) = program("extension") else { return };
    let Some(fixture) = crate_function() else { return };
    let layer = fixture.path().join("layer");
    fs::create_dir_all(layer.join("extensions")).expect("made");
    fs::copy(built, layer.join("extensions/watcher")).expect("copied");
    let serving = Serving::start(fixture.serve_command(&["--layer", &layer.display().to_string()]).arg("echo"));
    let answer = serving.invoke(&[], b"{\"n\":1}").json();
    let invoke = format!("extension: invoke {}", answer["id"].as_str().expect("text"));
    let said = |text: &str| (serving.running().stdout_so_far() + &serving.running().stderr_so_far()).contains(text);
    eventually(LIMIT, "it is told of the call", || said(&invoke));
    eventually(LIMIT, "it has the function's line", || said("extension: line hello from rust"));
    let ran = serving.end(Signal::SIGTERM).expect_code(0);
    assert!((ran.out() + &ran.err()).contains("extension: shutdown spindown"), "{}", ran.err());
    fixture.expect_nothing_left();
}

#[test]
fn aws_lambda_ric_answers_and_fails() {
    let Some(found) = node_function(NODE_STREAM) else { return };
    let answer = found.run(&[], &["app.plain", "{\"é\":\"日本\"}"]).finish().expect_code(0).json();
    assert_eq!(answer["event"], json!({"é": "日本"}));
    let failed = found.run(&[], &["app.plain", "{\"fail\":\"<boom>\"}"]).finish().expect_code(1).json();
    assert_eq!((&failed["errorType"], &failed["errorMessage"]), (&json!("RangeError"), &json!("<boom>")));
    found.fixture.expect_nothing_left();
}

#[test]
fn aws_lambda_ric_streams_before_its_handler_ends() {
    let Some(found) = node_function(NODE_STREAM) else { return };
    let serving = Serving::start(found.serve(&["--url", "127.0.0.1:0"], "app.handler"));
    let gate = found.fixture.task().join("go");
    let rest = streamed(&serving, &gate, "{}");
    assert!(rest.contains("two") && rest.contains("InvokeComplete") && !rest.contains("ErrorCode"), "{rest}");
    let failed = streamed(&serving, &gate, "{\"fail\":\"late\"}");
    assert!(failed.contains("InvokeComplete") && failed.contains("ErrorCode") && failed.contains("RangeError"), "{failed}");
    fs::write(&gate, "").expect("written");
    assert_eq!(serving.invoke(&[], b"{}").text(), "one,two");
    let said = serving.running().stderr_so_far();
    let (_, url) = said.split_once("the function's URL is http://").expect("a URL");
    let address = url.split('/').next().expect("an address");
    let (status, headers, body) = tests::wire::request(address, "GET", "/", &[], b"").expect("it answers");
    assert_eq!((status, headers["x-mine"].as_str(), headers["set-cookie"].as_str(), &body[..]), (201, "1", "a=1", &b"one,two"[..]));
    serving.end(Signal::SIGTERM).expect_code(0);
    found.fixture.expect_nothing_left();
}
