//! `undocked batch`: many events, each with an environment of its own or one after another, told in order.

use std::fs::{self, File};
use std::io::Write;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use serde_json::{Value, json};
use tests::leftovers::{eventually, processes_named};
use tests::{Fixture, Ran, Run, place};

/// Answers an event with itself, unless there was another event before.
const FRESH: &str = "next\nread before /tmp/before\nwrite made /tmp/before yes\nnote-event\nrespond-notes\nnext";

/// `undocked batch` of the fixture's image; `rest` comes after the handler.
fn batch(fixture: &Fixture, options: &[&str], rest: &[&str]) -> Run {
    let volume = format!("{}:/var/task:ro", fixture.task().display());
    let run = fixture.undocked(&["batch", "-v", &volume]).args(options);
    let run = run.args(place::isolation().iter().flat_map(|isolation| ["--isolation", isolation.as_str()]));
    run.arg(fixture.image("provided")).arg("app.handler").args(rest)
}

fn events(fixture: &Fixture, text: &str) -> String {
    let path = fixture.path().join("events.jsonl");
    fs::write(&path, text).expect("events can be written");
    path.display().to_string()
}

fn lines(ran: &Ran) -> Vec<Value> {
    ran.out().lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn each_event_has_a_fresh_environment_and_results_are_in_order() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script(&fixture.marked(FRESH));
    let path = events(&fixture, &(1..=20).map(|number| format!("{{\"n\": {number}}}\n")).collect::<String>());
    let ran = batch(&fixture, &[], &["-j", "4", &path]).finish().expect_code(0);
    let lines = lines(&ran);
    assert_eq!(lines.len(), 20, "{}", ran.err());
    for (index, line) in lines.iter().enumerate() {
        let number = index + 1;
        assert_eq!((&line["version"], &line["index"]), (&json!(1), &json!(index)));
        assert_eq!(line["id"], format!("events.jsonl:{number}"));
        assert_eq!(line["payload"]["event-text"], format!("{{\"n\": {number}}}"));
        assert_eq!(line["payload"]["before"], "ENOENT");
        assert_eq!((&line["functionError"], &line["error"]), (&Value::Null, &Value::Null));
        let id = line["requestId"].as_str().expect("an id");
        let log = line["logTail"].as_str().expect("a log");
        assert!(log.starts_with(&format!("START RequestId: {id} ")) && log.contains("\nREPORT "), "{log}");
        assert!(line["report"]["durationMs"].is_f64() && line["report"]["initMs"].is_f64(), "{line}");
    }
    assert!(ran.err().contains("undocked: 20 events in ") && ran.err().contains(": 20 answered, 0 failed\n"), "{}", ran.err());
    assert!(ran.err().contains("undocked: duration p50 "), "{}", ran.err());
    assert!(!ran.err().contains("START"), "{}", ran.err());
    fixture.expect_nothing_left();
}

#[test]
fn warm_environments_go_on_with_the_next_event() {
    let Some(fixture) = Fixture::new() else { return };
    let once = FRESH.trim_end_matches("\nnext");
    fixture.script(&fixture.marked(&format!("{}\nnext", [once; 12].join("\n"))));
    let ran = batch(&fixture, &["--warm", "-j", "1"], &["-q", "-"]).stdin("1\n2\n3\n".repeat(3)).finish().expect_code(0);
    let before: Vec<Value> = lines(&ran).iter().map(|line| line["payload"]["before"].clone()).collect();
    let mut expected = vec![json!("yes"); 9];
    expected[0] = json!("ENOENT");
    assert_eq!(before, expected);
    assert_eq!(ran.err(), "");
    fixture.expect_nothing_left();
}

#[test]
fn failures_are_told_and_end_with_1() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script(&fixture.marked("next\nerror {\"errorMessage\":\"a < b\",\"errorType\":\"Bad.Thing\"}\nnext"));
    let (path, junit) = (events(&fixture, "1\nnot json\n\n3"), fixture.path().join("junit.xml"));
    let ran = batch(&fixture, &["--junit", junit.to_str().expect("UTF-8")], &[&path]).finish().expect_code(1);
    let lines = lines(&ran);
    let ids: Vec<&Value> = lines.iter().map(|line| &line["id"]).collect();
    assert_eq!(ids, ["events.jsonl:1", "events.jsonl:2", "events.jsonl:4"]);
    assert_eq!((&lines[0]["functionError"], &lines[0]["payload"]["errorMessage"]), (&json!("Unhandled"), &json!("a < b")));
    assert!(lines[1]["error"].as_str().is_some_and(|error| error.starts_with("not JSON: ")), "{}", lines[1]);
    assert_eq!((&lines[1]["report"], &lines[1]["requestId"]), (&Value::Null, &Value::Null));
    let ran = ran.expect_err("undocked: events.jsonl:1: Bad.Thing: a < b\n").expect_err("undocked: events.jsonl:2: not JSON: ");
    ran.expect_err(": 0 answered, 3 failed\n");
    let report = fs::read_to_string(junit).expect("a report");
    assert!(report.contains(r#"<testsuite name="app.handler" tests="3" failures="2" errors="1" time=""#), "{report}");
    assert!(report.contains(r#"<failure message="Bad.Thing: a &lt; b">"#) && report.contains("START RequestId"), "{report}");
    fixture.expect_nothing_left();
}

#[test]
fn a_folder_is_shared_out_among_shards() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nrespond-event\nnext");
    let folder = fixture.path().join("events");
    fs::create_dir(&folder).expect("a folder can be made");
    for number in 0..12 {
        fs::write(folder.join(format!("{number:02}.json")), format!("{{\"n\":\n{number}}}\n")).expect("an event can be written");
    }
    fs::write(folder.join("README"), "no event").expect("a file can be written");
    let run = |shard: &str| lines(&batch(&fixture, &["--shard", shard], &[folder.to_str().expect("UTF-8")]).finish().expect_code(0));
    let mut all: Vec<Value> = [run("1/2"), run("2/2")].concat();
    all.sort_by_key(|line| line["index"].as_u64());
    let found: Vec<_> = all.iter().map(|line| (line["id"].clone(), line["payload"]["n"].clone())).collect();
    let expected: Vec<_> = (0..12).map(|number| (json!(format!("{number:02}.json")), json!(number))).collect();
    assert_eq!(found, expected);
    assert_eq!(run("1/1").len(), 12);
}

#[test]
fn events_are_run_as_they_come() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nrespond-event\nnext");
    let pipe = fixture.path().join("events");
    nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).expect("a pipe can be made");
    let running = batch(&fixture, &[], &[pipe.to_str().expect("UTF-8")]).start();
    let mut events = File::options().write(true).open(&pipe).expect("it is read");
    events.write_all(b"1\nnot json\n").expect("it takes events");
    running.wait_for_stderr("events:2: not JSON");
    events.write_all(b"3\n").expect("it takes more");
    drop(events);
    let ran = running.finish().expect_code(1);
    let payloads: Vec<Value> = lines(&ran).iter().map(|line| line["payload"].clone()).collect();
    assert_eq!(payloads, [json!(1), Value::Null, json!(3)]);
}

#[test]
fn an_interrupt_ends_what_runs_and_tells_what_is_done() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script(&fixture.marked("next\nhang"));
    let path = events(&fixture, "not json\n2\n3\nnot json\n5\n6\n7\n8\n");
    let running = batch(&fixture, &["-j", "2"], &[&path]).start();
    eventually(Duration::from_secs(60), "two functions run", || processes_named(fixture.marker()).len() >= 2);
    running.wait_for_stderr("events.jsonl:1: not JSON");
    running.signal(Signal::SIGINT);
    let ran = running.finish().expect_code(130);
    let indexes: Vec<Value> = lines(&ran).iter().map(|line| line["index"].clone()).collect();
    assert_eq!(indexes, [0], "{}", ran.err());
    fixture.expect_nothing_left();
}

#[test]
fn a_function_that_dies_or_takes_too_long_fails_its_own_event_alone() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script(&fixture.marked("next\nhang"));
    let ran = batch(&fixture, &["--timeout", "0.2"], &["-"]).stdin("1\n2\n").finish().expect_code(1);
    for line in lines(&ran) {
        let message = line["payload"]["errorMessage"].as_str().unwrap_or_default();
        assert!(message.ends_with("Task timed out after 0.20 seconds"), "{line}");
    }
    fixture.script(&fixture.marked("exit 3"));
    let ran = batch(&fixture, &[], &["-"]).stdin("1\n2\n3\n").finish().expect_code(1);
    assert_eq!(lines(&ran).iter().filter(|line| line["payload"]["errorType"] == "Runtime.ExitError").count(), 3, "{}", ran.out());
    fixture.expect_nothing_left();
}

#[test]
fn a_terminal_gets_a_bar_and_stdout_only_results() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nrespond-event\nnext");
    let ran = batch(&fixture, &[], &["-"]).stdin("1\n2\n").stderr_on_terminal().finish().expect_code(0);
    assert_eq!(lines(&ran).len(), 2);
    assert!(ran.err().contains('\x1b') && ran.err().contains("2 events in "), "{:?}", ran.err());
}

#[test]
fn what_makes_no_sense_is_refused() {
    let Some(fixture) = Fixture::new() else { return };
    for (options, rest, code, text) in [
        (&["--shard", "0/2"][..], &["-"][..], 2, "`0/2` is no shard"),
        (&["-j", "0"], &["-"], 2, "`--jobs`"),
        (&[], &["none.jsonl"], 125, "cannot read events from `none.jsonl`"),
        (&["--junit", "/none/x.xml"], &["-"], 125, "cannot write `/none/x.xml`"),
        (&["--entrypoint", "/bin/sh"], &["-"], 2, "a plain command is no function"),
    ] {
        let ran = batch(&fixture, options, rest).finish().expect_code(code).expect_err(text);
        assert_eq!(ran.out(), "");
    }
    let ran = batch(&fixture, &[], &["-"]).stdin("").finish().expect_code(0);
    assert_eq!(ran.out(), "");
}
