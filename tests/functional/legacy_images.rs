//! Docker-lambda's images of the oldest runtimes, whose own program runs and finds the Runtime API where it expects it: the language runtimes of
//! `tests/images`, and one of the probe's that says what it finds.

use std::net::TcpListener;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::image::{Image, Packing};
use tests::real::{RealFunction, function, is_built};
use tests::run::Run;
use tests::serving::Serving;
use tests::tar::Tar;
use tests::{Fixture, place};

/// An image's own server, which must not be run.
const SERVER: &str = "this is not what answers\n";

/// Where there are no networks of their own, all have one port, and one has it at a time.
fn the_port() -> Option<MutexGuard<'static, ()>> {
    static PORT: Mutex<()> = Mutex::new(());
    place::isolation().is_some_and(|isolation| isolation == "chroot").then(|| PORT.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A fixture with an image whose entrypoint is the probe, in place of a language's program.
fn fixture() -> Option<Fixture> {
    let fixture = Fixture::new()?;
    let server = Tar::new().program("var/runtime/mockserver", SERVER);
    let image = Image::provided().layer(server, Packing::Gzip).with("Entrypoint", json!(["/var/task/bootstrap"]));
    fixture.layout().add("legacy", &image);
    Some(fixture)
}

fn run(fixture: &Fixture, options: &[&str], rest: &[&str]) -> Run {
    fixture.run_image(&fixture.image("legacy"), options, rest)
}

#[test]
fn the_program_finds_helper_api_handler_and_event() {
    let Some(fixture) = fixture() else { return };
    let _port = the_port();
    fixture.script(&fixture.marked(
        "note-args args\nfeed helper /var/runtime/mockserver 1000000\nhttp ping GET /2018-06-01/ping\nhttp other GET /2018-06-01/runtime/ping\n\
         note-env env\nheader Docker-Lambda-Init-End no-number\nnext\nnote-event\nrespond-notes\nnext",
    ));
    let ran = run(&fixture, &[], &["app.handler", "{\"n\": 1}"]).finish().expect_code(0);
    let notes = ran.json();
    assert_eq!(notes["args"], json!(["/var/task/bootstrap", "app.handler", "{\"n\": 1}"]));
    assert_eq!(notes["helper"], "ok exit status: 0");
    assert_eq!((&notes["ping"]["status"], &notes["ping"]["body"]), (&json!(200), &json!("pong")));
    // Any status will do: the oldest of them asks here.
    assert_eq!(notes["other"]["status"], 404);
    assert_eq!(notes["env"]["AWS_LAMBDA_RUNTIME_API"], "127.0.0.1:9001");
    assert_eq!(notes["env"]["_HANDLER"], "app.handler");
    assert_eq!(notes["event-text"], "{\"n\": 1}");
    fixture.expect_nothing_left();
}

#[test]
fn answers_are_accepted_with_202_whatever_they_bring_along() {
    let Some(fixture) = fixture() else { return };
    let _port = the_port();
    fixture.script(
        "next\nheader Docker-Lambda-Log-Result !\nheader Docker-Lambda-Invoke-Wait x\n\
         http answer POST /2018-06-01/runtime/invocation/{id}/error not json\nprint-notes\nnext",
    );
    let ran = run(&fixture, &[], &["h"]).finish().expect_code(1);
    assert!(ran.err().contains("\"status\":202"), "{}", ran.err());
}

#[test]
fn the_variable_is_stronger_than_the_argument() {
    let Some(fixture) = fixture() else { return };
    let _port = the_port();
    fixture.script("next\nrespond-event\nnext");
    let answer = |options: &[&str], rest: &[&str]| run(&fixture, options, rest).stdin("[3]").finish().expect_code(0).result();
    assert_eq!(answer(&["-e", "AWS_LAMBDA_EVENT_BODY=[1]"], &["h", "[2]"]), "[1]");
    assert_eq!(answer(&[], &["h", "[2]"]), "[2]");
    assert_eq!(answer(&["-e", "DOCKER_LAMBDA_USE_STDIN=1"], &["h"]), "[3]");
    assert_eq!(answer(&[], &["h", "-"]), "[3]");
    assert_eq!(answer(&[], &["h"]), "{}");
}

#[test]
fn ends_are_those_of_any_function() {
    let Some(fixture) = fixture() else { return };
    let _port = the_port();
    fixture.script("next\nexit 3");
    let ran = run(&fixture, &[], &["h"]).finish().expect_code(1);
    assert_eq!(ran.json()["errorType"], "Runtime.ExitError");
    fixture.script(&fixture.marked("next\nhang"));
    let ran = run(&fixture, &["--timeout", "1"], &["h"]).finish().expect_code(1);
    assert!(ran.json()["errorMessage"].as_str().is_some_and(|text| text.ends_with("Task timed out after 1.00 seconds")), "{}", ran.out());
    fixture.expect_nothing_left();
    fixture.script(&fixture.marked("next\nerr ready\\n\nhang"));
    let running = run(&fixture, &[], &["h"]).start();
    running.wait_for_stderr("ready");
    running.signal(Signal::SIGTERM);
    running.finish().expect_code(143);
    fixture.expect_nothing_left();
}

#[test]
fn a_plain_command_sees_the_images_own_server() {
    let Some(fixture) = fixture() else { return };
    fixture.script("read server /var/runtime/mockserver\nprint-notes");
    let ran = run(&fixture, &["--entrypoint", "/var/task/bootstrap"], &[]).finish().expect_code(0);
    let notes: Value = serde_json::from_str(&ran.out()).expect("notes are JSON");
    assert_eq!(notes["server"], SERVER);
}

#[test]
fn eight_at_once_have_a_port_each() {
    tests::skip_in_isolation!(["chroot"], "no network of its own");
    let Some(fixture) = fixture() else { return };
    fixture.script("next\nsleep 300\nrespond-event\nnext");
    // The image is unpacked once.
    run(&fixture, &[], &["h", "0"]).finish().expect_code(0);
    let events: Vec<String> = (1..=8).map(|number: u32| number.to_string()).collect();
    let running: Vec<_> = events.iter().map(|event| run(&fixture, &[], &["h", event]).start()).collect();
    for (running, event) in running.into_iter().zip(&events) {
        assert_eq!(running.finish().expect_code(0).result(), *event);
    }
    fixture.expect_nothing_left();
}

#[test]
fn on_the_machines_network_the_one_port_must_be_free() {
    let Some(fixture) = fixture() else { return };
    let _port = the_port();
    fixture.script("next\nrespond-event\nnext");
    let taken = TcpListener::bind(("127.0.0.1", 9001));
    let ran = run(&fixture, &["--network", "host"], &["h"]).finish().expect_code(125);
    let ran = ran.expect_err("127.0.0.1:9001").expect_err("hint: ");
    assert!(ran.took < Duration::from_secs(60));
    let Ok(taken) = taken else { return };
    drop(taken);
    assert_eq!(run(&fixture, &["--network", "host"], &["h", "[1]"]).finish().expect_code(0).result(), "[1]");
}

/// Runs the echo function that comes with the images, and checks what any of them must do.
fn echo(image: &str, folder: &str, handler: &str) -> Option<Value> {
    echo_of(&function(image)?, &place::functions().join(folder), handler)
}

fn echo_of(found: &RealFunction, functions: &Path, handler: &str) -> Option<Value> {
    let _port = the_port();
    let call = |options: &[&str], event: &str| found.run_folder(functions, options, &[handler, event]);
    let ran = call(&[], "{\"n\":1,\"é\":\"日本\"}").finish().expect_code(0);
    let answer = ran.json();
    assert_eq!(answer["event"], json!({"n": 1, "é": "日本"}));
    assert!(ran.err().contains(&format!("START RequestId: {}", answer["id"].as_str().expect("text"))), "{}", ran.err());
    assert!(ran.err().contains("hello from "), "{}", ran.err());
    let failed = call(&[], "{\"fail\":1}").finish().expect_code(1);
    assert_eq!(failed.json()["errorMessage"], "failed as asked");
    let large = format!("{{\"text\":\"{}\"}}", "x".repeat(1_000_000));
    let ran = call(&[], "-").stdin(large.clone()).finish().expect_code(0);
    assert_eq!(ran.json()["event"]["text"].as_str().map(str::len), Some(1_000_000));
    let late = call(&["--timeout", "1"], "{\"sleep\":60000}").finish().expect_code(1);
    assert!(late.out().contains("Task timed out after 1.00 seconds"), "{}", late.out());
    found.fixture.expect_nothing_left();
    Some(answer)
}

#[test]
fn nodejs8_10_answers() {
    let Some(answer) = echo("lambci/lambda:nodejs8.10", "nodejs", "index.handler") else { return };
    assert_eq!((&answer["runtime"], &answer["cwd"]), (&json!("node v8.10.0"), &json!("/var/task")));
}

#[test]
fn python3_6_answers() {
    let Some(answer) = echo("lambci/lambda:python3.6", "python", "app.handler") else { return };
    assert_eq!((&answer["exe"], &answer["cwd"]), (&json!("/var/lang/bin/python3.6"), &json!("/var/task")));
}

#[test]
fn python2_7_answers() {
    let Some(answer) = echo("lambci/lambda:python2.7", "python", "app.handler") else { return };
    assert_eq!((&answer["exe"], &answer["cwd"]), (&json!("/var/lang/bin/python2.7"), &json!("/var/task")));
}

/// Has a function answer twice that stays, and fail in between.
fn stays_open(found: &RealFunction, functions: &Path, handler: &str) {
    let _port = the_port();
    let serving =
        Serving::start_published(found.run_folder(functions, &["-e", "DOCKER_LAMBDA_STAY_OPEN=1", "-p", "127.0.0.1:0:9001"], &[handler]));
    for number in 1..=2 {
        let answer = serving.invoke(&[], format!("{{\"n\":{number}}}").as_bytes());
        assert_eq!((answer.status, &answer.json()["event"]), (200, &json!({"n": number})), "{}", answer.text());
        let failed = serving.invoke(&[], b"{\"fail\":1}");
        assert_eq!((failed.header("x-amz-function-error").is_some(), &failed.json()["errorMessage"]), (true, &json!("failed as asked")));
    }
    serving.end(Signal::SIGTERM).expect_code(0);
    found.fixture.expect_nothing_left();
}

#[test]
fn dotnetcore2_1_answers_once_and_stays() {
    tests::skip_in_isolation!(["proc-bind", "no-pivot", "root-without-userns", "chroot"], "the other languages show the same, faster");
    const HANDLER: &str = "Echo::Example.Echo::Handler";
    let Some(found) = function("lambci/lambda:dotnetcore2.1") else { return };
    let functions = place::compiled_functions().join("dotnet2.1");
    let Some(answer) = echo_of(&found, &functions, HANDLER) else { return };
    assert_eq!(answer["cwd"], "/var/task");
    stays_open(&found, &functions, HANDLER);
}

#[test]
fn java8_answers_once_and_stays() {
    tests::skip_in_isolation!(["proc-bind", "no-pivot", "root-without-userns", "chroot"], "the other languages show the same, faster");
    const HANDLER: &str = "example.Echo::handleRequest";
    // It takes a Java compiler, and Debian's unstable suite, to build it.
    if !is_built("lambci/lambda:java8") {
        tests::skip::skip(tests::skip::Lack::Large, "the image of java8 is not built (tests/images/mkimages.py build lambci-java8)");
        return;
    }
    let Some(found) = function("lambci/lambda:java8") else { return };
    let functions = place::compiled_functions().join("java");
    let Some(answer) = echo_of(&found, &functions, HANDLER) else { return };
    assert!(answer["runtime"].as_str().is_some_and(|text| text.starts_with("java 1.8.")), "{answer}");
    stays_open(&found, &functions, HANDLER);
}

#[test]
fn handlers_have_the_names_of_their_family() {
    let (Some(node), Some(python)) = (function("lambci/lambda:nodejs8.10"), function("lambci/lambda:python3.6")) else { return };
    let _port = the_port();
    node.file("index.js", "exports.handler = (event, context, done) => done(null, process.env._HANDLER)");
    assert_eq!(node.run(&[], &[]).finish().expect_code(0).result(), "\"index.handler\"");
    python.file("lambda_function.py", "import os\ndef lambda_handler(event, context):\n    return os.environ['_HANDLER']\n");
    assert_eq!(python.run(&[], &[]).finish().expect_code(0).result(), "\"lambda_function.lambda_handler\"");
}
