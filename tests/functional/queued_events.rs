//! `Event` invocations: accepted, run, tried again, told of, and there after a kill.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::Fixture;
use tests::leftovers::eventually;
use tests::serving::Serving;
use tests::wire::{Reply, Request, Server};

const SOON: Duration = Duration::from_secs(30);

fn fixture() -> Option<Fixture> {
    let fixture = Fixture::new()?;
    fixture.script("obey");
    Some(fixture)
}

/// Has an event queued; its request id.
fn queue(serving: &Serving, commands: &str) -> String {
    let got = serving.invoke(&[("X-Amz-Invocation-Type", "Event")], Value::from(commands).to_string().as_bytes());
    assert_eq!((got.status, got.text().as_str(), got.header("x-amz-executed-version")), (202, "", None), "{got:?}");
    got.header("x-amzn-requestid").expect("an id").to_owned()
}

fn folder(fixture: &Fixture, name: &str) -> PathBuf {
    fixture.path().join("told").join(name)
}

/// The options for destinations in folders.
fn destinations(fixture: &Fixture) -> Vec<String> {
    let names = [("--on-success", "success"), ("--on-failure", "failure"), ("--dead-letter", "dead")];
    names.into_iter().flat_map(|(option, name)| [option.to_owned(), folder(fixture, name).display().to_string()]).collect()
}

fn serve(fixture: &Fixture, options: &[&str]) -> Serving {
    let destinations = destinations(fixture);
    let all: Vec<&str> = destinations.iter().map(String::as_str).chain(options.iter().copied()).collect();
    fixture.serve(&all)
}

/// What a destination was told, as soon as there are so many.
fn told(fixture: &Fixture, name: &str, count: usize) -> Vec<Value> {
    let read = || -> Vec<Value> {
        let Ok(entries) = fs::read_dir(folder(fixture, name)) else { return Vec::new() };
        let paths = entries.map(|entry| entry.expect("a folder that stays").path());
        let whole = paths.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        whole.map(|path| serde_json::from_slice(&fs::read(path).expect("a file that stays")).expect("JSON")).collect()
    };
    eventually(SOON, &format!("{count} in {name}"), || read().len() >= count);
    read()
}

fn queues(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
fn an_event_is_taken_at_once_and_run_afterwards() {
    let Some(fixture) = fixture() else { return };
    let serving = serve(&fixture, &[]);
    let id = queue(&serving, "sleep 300 ; respond {\"done\":1}");
    assert_eq!(queues(&fixture.path().join("home/.local/state/undocked/events")), 1);
    let records = told(&fixture, "success", 1);
    assert_eq!(records[0]["requestContext"]["requestId"], id.as_str());
    assert_eq!(records[0]["requestContext"]["condition"], "Success");
    assert_eq!(records[0]["responsePayload"]["done"], 1);
    let ran = serving.end(Signal::SIGTERM).expect_code(0);
    assert!(ran.err().contains(&format!("START RequestId: {id} ")), "{}", ran.err());
    fixture.expect_nothing_left();
}

#[test]
fn what_was_taken_is_delivered_after_a_kill() {
    let Some(fixture) = fixture() else { return };
    let state = fixture.path().join("state").display().to_string();
    let killed = serve(&fixture, &["--events", &state, "--concurrency", "1"]);
    let ids = [queue(&killed, "sleep 60000 ; respond 1"), queue(&killed, "respond 2")];
    let _ = killed.end(Signal::SIGKILL);
    assert_eq!(queues(Path::new(&state)), 1);
    // The timeout ends the first attempt at the one that sleeps.
    let serving = serve(&fixture, &["--events", &state, "--concurrency", "1", "--timeout", "1", "--retries", "0"]);
    assert_eq!(told(&fixture, "failure", 1)[0]["requestContext"]["requestId"], ids[0].as_str());
    assert_eq!(told(&fixture, "success", 1)[0]["requestContext"]["requestId"], ids[1].as_str());
    serving.end(Signal::SIGTERM).expect_code(0);
    fixture.expect_nothing_left();
}

#[test]
fn a_failing_event_is_tried_three_times_under_one_id() {
    let Some(fixture) = fixture() else { return };
    let serving = serve(&fixture, &["--retry-delay", "0.1"]);
    let id = queue(&serving, r#"error {"errorMessage":"boom","errorType":"E"}"#);
    let failure = told(&fixture, "failure", 1).remove(0);
    assert_eq!(failure["requestContext"]["condition"], "RetriesExhausted");
    assert_eq!(failure["requestContext"]["approximateInvokeCount"], 3);
    assert_eq!(failure["responseContext"]["functionError"], "Unhandled");
    assert_eq!(failure["responsePayload"]["errorMessage"], "boom");
    let dead = told(&fixture, "dead", 1).remove(0);
    assert_eq!((&dead["RequestID"], &dead["ErrorMessage"]), (&Value::from(id.as_str()), &Value::from("boom")));
    let ran = serving.end(Signal::SIGTERM).expect_code(0);
    assert_eq!(ran.err().matches(&format!("START RequestId: {id} ")).count(), 3, "{}", ran.err());
    fixture.expect_nothing_left();
}

#[test]
fn two_servers_at_once_keep_their_events_apart() {
    let Some(fixture) = fixture() else { return };
    let (one, two) = (serve(&fixture, &[]), serve(&fixture, &[]));
    let ids: Vec<String> = (0..6).map(|number| queue(if number % 2 == 0 { &one } else { &two }, "respond 1")).collect();
    let records = told(&fixture, "success", 6);
    for id in &ids {
        assert_eq!(records.iter().filter(|record| record["requestContext"]["requestId"] == id.as_str()).count(), 1, "{id}");
    }
    one.end(Signal::SIGTERM).expect_code(0);
    two.end(Signal::SIGTERM).expect_code(0).expect_err("another server like this one holds `");
    fixture.expect_nothing_left();
}

/// A server that takes what it is sent, after it refused the first request.
fn taker() -> (Server, mpsc::Receiver<Request>) {
    let (sender, received) = mpsc::channel();
    let refused = AtomicBool::new(false);
    let server = Server::start(move |request| {
        if !refused.swap(true, Ordering::SeqCst) {
            return Reply::new(503, "");
        }
        sender.send(request.clone()).expect("the test waits");
        Reply::new(200, "{}")
    });
    (server, received)
}

#[test]
fn endpoints_and_queues_are_told_until_they_take_it() {
    let Some(fixture) = fixture() else { return };
    let [(endpoint, hooked), (queue_at, sent)] = [(); 2].map(|()| taker());
    let queue_url = format!("http://{}/000000000000/dead", queue_at.address());
    let hook = format!("http://{}/hook?key=secret", endpoint.address());
    let serving = fixture.serve(&["--on-success", &hook, "--dead-letter", &format!("sqs:{queue_url}"), "--retries", "0"]);
    let good = queue(&serving, "respond 1");
    let bad = queue(&serving, r#"error {"errorMessage":"boom","errorType":"E"}"#);
    let [hooked, sent] = [hooked, sent].map(|received| received.recv_timeout(SOON).expect("a request"));
    let [record, message]: [Value; 2] = [&hooked, &sent].map(|request| serde_json::from_slice(&request.body).expect("JSON"));
    assert_eq!((hooked.path.as_str(), &record["requestContext"]["requestId"]), ("/hook?key=secret", &Value::from(good)));
    assert_eq!((sent.path.as_str(), sent.headers["x-amz-target"].as_str()), ("/", "AmazonSQS.SendMessage"));
    assert_eq!(message["QueueUrl"], queue_url.as_str());
    assert_eq!(message["MessageAttributes"]["RequestID"]["StringValue"], bad.as_str());
    assert_eq!(message["MessageAttributes"]["ErrorMessage"]["StringValue"], "boom");
    let said = serving.end(Signal::SIGTERM).expect_code(0).err();
    assert!(said.contains("/hook` answered 503; it is tried again until it works") && !said.contains("secret"), "{said}");
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let Some(fixture) = fixture() else { return };
    for (options, error) in [
        (["--retries", "3"], "`--retries 3` is more than Lambda's 2"),
        (["--on-failure", "sqs:queue"], "`--on-failure`: `queue` is not the URL of a queue"),
        (["--dead-letter", "http:///x"], "`--dead-letter`: `http:///x` is not the URL of an HTTP endpoint"),
        (["--max-event-age", "1e9"], "`--max-event-age 1000000000` is no time in seconds"),
    ] {
        fixture.serve_command(&options).finish().expect_code(2).expect_err(error);
    }
}
