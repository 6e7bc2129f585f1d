//! External and internal extensions as they live beside a function: registration, events, failures, the shutdown with its times.
//!
//! The extension is the probe with a script of its own; what it notes goes to the log.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::Fixture;
use tests::leftovers::eventually;
use tests::serving::Serving;

const LIMIT: Duration = Duration::from_secs(30);
const REGISTER: &str =
    "header Lambda-Extension-Name ext\nhttp register POST /2020-01-01/extension/register {\"events\":[\"INVOKE\",\"SHUTDOWN\"]}\n";

/// The extension asks for its next event, and notes it under this name.
fn event(name: &str) -> String {
    format!("header Lambda-Extension-Identifier {{extension}}\nhttp {name} GET /2020-01-01/extension/event/next\n")
}

/// A function that obeys its events, and a layer with an extension called `ext` that has this script.
fn fixture(script: &str) -> Option<(Fixture, String)> {
    let fixture = Fixture::new()?;
    fixture.script("obey");
    let layer = layer(&fixture);
    fs::write(layer.join("scripts/ext"), fixture.marked(script)).expect("written");
    fixture.install_probe(&layer.join("extensions/ext"));
    Some((fixture, layer.display().to_string()))
}

fn layer(fixture: &Fixture) -> PathBuf {
    let layer = fixture.path().join("layer");
    for folder in ["extensions", "scripts"] {
        fs::create_dir_all(layer.join(folder)).expect("made");
    }
    layer
}

/// The last notes in a log that have something of this name.
fn noted(log: &str, name: &str) -> Option<Value> {
    let notes = log.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    notes.map(|notes| notes[name].clone()).find(|note| !note.is_null())
}

/// All that the server and what runs in it wrote until now.
fn said(serving: &Serving) -> String {
    serving.running().stdout_so_far() + &serving.running().stderr_so_far()
}

fn noted_event(serving: &Serving, name: &str) -> Value {
    eventually(LIMIT, "the extension has its event", || noted(&said(serving), name).is_some());
    let answer = noted(&said(serving), name).expect("it is there");
    assert_eq!(answer["status"], 200, "{answer}");
    assert_eq!(answer["headers"]["lambda-extension-event-identifier"].as_str().map(str::len), Some(36), "{answer}");
    serde_json::from_str(answer["body"].as_str().expect("a text")).expect("JSON")
}

#[test]
fn a20_an_extension_hears_of_every_invocation_and_of_the_end() {
    let script =
        format!("{REGISTER}print-notes\n{}print-notes\n{}print-notes\n{}note-event\nprint-notes", event("one"), event("two"), event("end"));
    let Some((fixture, layer)) = fixture(&script) else { return };
    let serving = fixture.serve(&["--layer", &layer]);
    for name in ["one", "two"] {
        let got = serving.tell("note-event ; respond-notes");
        let heard = noted_event(&serving, name);
        let given = &got.json()["event-headers"];
        let expected = json!({
            "eventType": "INVOKE",
            "deadlineMs": given["lambda-runtime-deadline-ms"].as_str().and_then(|text| text.parse::<u64>().ok()),
            "requestId": got.header("x-amzn-requestid"),
            "invokedFunctionArn": given["lambda-runtime-invoked-function-arn"],
            "tracing": {"type": "X-Amzn-Trace-Id", "value": given["lambda-runtime-trace-id"]},
        });
        assert_eq!(heard, expected);
    }
    let log = said(&serving);
    assert!(log.contains("EXTENSION\tName: ext\tState: Ready\tEvents: [INVOKE, SHUTDOWN]\n"), "{log}");
    let registered = noted(&log, "register").expect("noted");
    let told: Value = serde_json::from_str(registered["body"].as_str().expect("a text")).expect("JSON");
    assert_eq!((&told["functionName"], &told["functionVersion"]), (&json!("test"), &json!("$LATEST")), "{told}");
    let ran = serving.end(Signal::SIGTERM).expect_code(0);
    let log = ran.out() + &ran.err();
    let end = noted(&log, "end").expect("it was told of the end");
    let heard: Value = serde_json::from_str(end["body"].as_str().expect("a text")).expect("JSON");
    assert_eq!((&heard["eventType"], &heard["shutdownReason"]), (&json!("SHUTDOWN"), &json!("spindown")), "{heard}");
    let now = noted(&log, "now-ms").and_then(|now| now.as_u64()).expect("a time");
    let ahead = heard["deadlineMs"].as_u64().expect("a time").saturating_sub(now);
    // The runtime's end comes before the event, and takes its time on a busy machine.
    assert!((1000..=2000).contains(&ahead), "{ahead}");
    fixture.expect_nothing_left();
}

#[test]
fn the_answer_does_not_wait_for_the_extension_and_the_next_event_does() {
    let script = format!("{REGISTER}{}sleep 3000\n{}print-notes\n{}", event("one"), event("two"), event("end"));
    let Some((fixture, layer)) = fixture(&script) else { return };
    let serving = fixture.serve(&["--layer", &layer, "--concurrency", "1", "-e", "AWS_LAMBDA_FUNCTION_TIMEOUT=20"]);
    assert_eq!(serving.tell("respond 0").text(), "0");
    let start = Instant::now();
    // Told to wait, and not refused, where one environment is all there may be.
    assert!(noted(&said(&serving), "two").is_none(), "the answer came before the extension was done");
    eventually(LIMIT, "the environment is free again", || serving.tell("respond 1").status == 200);
    assert!(start.elapsed() > Duration::from_secs(1), "{:?}", start.elapsed());
    serving.end(Signal::SIGTERM).expect_code(0);
    fixture.expect_nothing_left();
}

#[test]
fn an_extension_that_hangs_is_killed_after_two_seconds() {
    let script = format!("{REGISTER}{}{}ignore 15\nhang", event("one"), event("end"));
    let Some((fixture, layer)) = fixture(&script) else { return };
    let serving = fixture.serve(&["--layer", &layer]);
    assert_eq!(serving.tell("respond 1").text(), "1");
    let start = Instant::now();
    serving.end(Signal::SIGTERM).expect_code(0);
    assert!((Duration::from_millis(1900)..Duration::from_secs(10)).contains(&start.elapsed()), "{:?}", start.elapsed());
    fixture.expect_nothing_left();
}

#[test]
fn an_extension_that_ends_fails_the_invocation_and_the_next_one_starts_anew() {
    for (status, message) in [(0, "exit code 0"), (3, "exit status 3")] {
        let script = format!("{REGISTER}{}exit {status}", event("one"));
        let Some((fixture, layer)) = fixture(&script) else { return };
        let serving = fixture.serve(&["--layer", &layer]);
        for _ in 0..2 {
            let got = serving.tell("hang");
            let id = got.header("x-amzn-requestid").expect("an id");
            let body = format!(r#"{{"errorType":"Extension.Crash","errorMessage":"RequestId: {id} Error: {message}"}}"#);
            assert_eq!((got.text(), got.header("x-amz-function-error")), (body, Some("Unhandled")));
        }
        serving.end(Signal::SIGTERM).expect_code(0);
        fixture.expect_nothing_left();
    }
}

#[test]
fn an_extension_that_does_not_get_far_fails_the_init_phase() {
    let reports = format!(
        "{REGISTER}header Lambda-Extension-Identifier {{extension}}\nheader Lambda-Extension-Function-Error-Type Extension.Boom\n\
         http report POST /2020-01-01/extension/init/error {{}}\nexit 1"
    );
    for (script, error_type, message) in
        [("exit 1", "Extension.Crash", "exit status 1"), (&*reports, "Extension.InitError", "Extension.Boom")]
    {
        let Some((fixture, layer)) = fixture(script) else { return };
        let ran = fixture.run(&["--layer", &layer], &[]).finish().expect_code(1);
        let error = ran.json();
        assert_eq!(error["errorType"], error_type, "{error}");
        assert!(error["errorMessage"].as_str().is_some_and(|text| text.ends_with(&format!(" Error: {message}"))), "{error}");
        assert!(ran.err().contains("EXTENSION\tName: ext\tState: "), "{}", ran.err());
        fixture.expect_nothing_left();
    }
}

#[test]
fn a_file_that_cannot_be_executed_is_a_launch_error() {
    let Some((fixture, layer)) = fixture("") else { return };
    let file = PathBuf::from(&layer).join("extensions/ext");
    fs::write(&file, "no program").expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("set");
    let error = fixture.run(&["--layer", &layer], &[]).finish().expect_code(1).json();
    assert_eq!(error["errorType"], "Extension.LaunchError", "{error}");
    let message = error["errorMessage"].as_str().expect("a text");
    assert!(message.ends_with("Error: fork/exec /opt/extensions/ext: permission denied"), "{error}");
    fixture.expect_nothing_left();
}

#[test]
fn a_timeout_tells_the_extension_and_starts_both_anew() {
    let script = format!("{REGISTER}{}{}print-notes", event("one"), event("end"));
    let Some((fixture, layer)) = fixture(&script) else { return };
    let serving = fixture.serve(&["--layer", &layer, "-e", "AWS_LAMBDA_FUNCTION_TIMEOUT=1"]);
    let got = serving.tell("hang");
    assert_eq!(got.json()["errorType"], "Sandbox.Timedout");
    assert_eq!(noted_event(&serving, "end")["shutdownReason"], "timeout");
    assert_eq!(serving.tell("respond 1").text(), "1");
    let log = serving.end(Signal::SIGTERM).expect_code(0).err();
    assert_eq!(log.matches("EXTENSION\tName: ext\tState: Ready").count(), 2, "{log}");
    fixture.expect_nothing_left();
}

#[test]
fn a_single_execution_has_extensions_and_their_shutdown() {
    let script = format!("{REGISTER}{}{}print-notes", event("one"), event("end"));
    let Some((fixture, layer)) = fixture(&script) else { return };
    fixture.script("next\nrespond 1\nnext");
    let ran = fixture.run(&["--layer", &layer], &[]).finish().expect_code(0);
    assert_eq!(ran.out(), "\n1\n");
    let end = noted(&ran.err(), "end").expect("it was told of the end");
    assert!(end["body"].as_str().is_some_and(|body| body.contains("\"shutdownReason\":\"spindown\"")), "{end}");
    fixture.expect_nothing_left();
}

#[test]
fn a_function_registers_an_extension_of_its_own() {
    let Some(fixture) = Fixture::new() else { return };
    let register = "/2020-01-01/extension/register";
    let script = format!(
        "header Lambda-Extension-Name in\nhttp shutdown POST {register} {{\"events\":[\"SHUTDOWN\"]}}\n\
         http nameless POST {register} {{\"events\":[]}}\n\
         http stranger GET /2020-01-01/extension/event/next\n\
         next\nheader Lambda-Extension-Name in\nhttp late POST {register} {{\"events\":[]}}"
    );
    fixture.script(&format!("{script}\nrespond-notes\nnext"));
    let notes = fixture.run(&[], &[]).finish().expect_code(0).json();
    for (name, error_type) in [
        ("shutdown", "Extension.InvalidEventType"),
        ("nameless", "Extension.InvalidExtensionName"),
        ("stranger", "Extension.MissingExtensionIdentifier"),
        ("late", "Extension.RegistrationClosed"),
    ] {
        assert_eq!(notes[name]["status"], 403, "{name}: {notes}");
        assert!(notes[name]["body"].as_str().is_some_and(|body| body.contains(&format!("\"errorType\":\"{error_type}\""))), "{notes}");
    }
    fixture.expect_nothing_left();
}
