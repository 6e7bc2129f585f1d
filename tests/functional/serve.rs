//! `undocked serve` and runs that stay open, as their users start, ask and end them.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use nix::sys::signal::Signal;
use serde_json::json;
use tests::Fixture;
use tests::image::Image;
use tests::leftovers::{eventually, processes_named};
use tests::real;
use tests::serving::{Client, Got, Serving};

fn fixture() -> Option<Fixture> {
    let fixture = Fixture::new()?;
    fixture.script("obey");
    Some(fixture)
}

/// docker-lambda's way: the probe, one invocation at a time, on a port of its own.
fn stay_open(fixture: &Fixture, options: &[&str]) -> Serving {
    let mut all = vec!["-e", "DOCKER_LAMBDA_STAY_OPEN=1", "-p", "127.0.0.1:0:9001"];
    all.extend(options);
    Serving::start_published(fixture.run(&all, &["handler"]))
}

/// The runtime's process id in its sandbox, which stays: the next one has another.
fn runtime(serving: &Serving) -> u64 {
    let notes = serving.tell("note-pid pid ; respond-notes").json();
    notes["pid"].as_u64().unwrap_or_else(|| panic!("{notes}"))
}

fn tail(got: &Got) -> String {
    let encoded = got.header("x-amz-log-result").expect("a tail");
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(encoded).expect("base64")).expect("text")
}

#[test]
fn an_echo_answers_by_any_name() {
    let Some(fixture) = fixture() else { return };
    let serving = fixture.serve(&[]);
    for name in ["fn", "other", "arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Ax", "x:alias"] {
        let got = serving.request("POST", &format!("/2015-03-31/functions/{name}/invocations"), &[], b"\"respond {\\\"a\\\":1}\"");
        assert_eq!((got.status, got.text()), (200, "{\"a\":1}".to_owned()), "{name}");
        assert_eq!(got.header("x-amz-executed-version"), Some("$LATEST"));
        assert_eq!(got.header("x-amz-function-error"), None);
        assert_eq!(got.header("x-amzn-requestid").map(str::len), Some(36));
    }
    serving.end(Signal::SIGTERM).expect_code(0);
    fixture.expect_nothing_left();
}

#[test]
fn the_same_environment_serves_one_event_after_another() {
    let Some(fixture) = fixture() else { return };
    let serving = fixture.serve(&[]);
    // What the first event noted is there with the second.
    assert_eq!(runtime(&serving), runtime(&serving));
    serving.end(Signal::SIGINT).expect_code(0);
    fixture.expect_nothing_left();
}

#[test]
fn tails_have_start_to_report() {
    let Some(fixture) = fixture() else { return };
    let serving = fixture.serve(&["-e", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=128"]);
    let headers = [("X-Amz-Log-Type", "Tail")];
    let got = serving.invoke(&headers, b"\"out hi\\\\n ; respond 1\"");
    let id = got.header("x-amzn-requestid").expect("an id").to_owned();
    let log = tail(&got);
    let expected = format!("START RequestId: {id} Version: $LATEST\nhi\nEND RequestId: {id}\nREPORT RequestId: {id}\tDuration: ");
    assert!(log.starts_with(&expected), "{log}");
    assert!(
        log.contains("\tMemory Size: 128 MB\tMax Memory Used: ") && log.contains("\tInit Duration: ") && log.ends_with("\t\n"),
        "{log}"
    );
    let again = tail(&serving.invoke(&headers, b"\"respond 1\""));
    assert!(!again.contains("Init Duration"), "{again}");
    serving.end(Signal::SIGTERM).expect_code(0);
}

#[test]
fn failures_are_the_functions_and_the_next_call_works() {
    let Some(fixture) = fixture() else { return };
    let serving = fixture.serve(&["--timeout", "1"]);
    let failed = |commands: &str| {
        let got = serving.tell(commands);
        assert_eq!((got.status, got.header("x-amz-function-error")), (200, Some("Unhandled")), "{commands}: {got:?}");
        let id = got.header("x-amzn-requestid").expect("an id");
        got.text().replace(id, "<id>")
    };
    for (commands, body) in [
        (r#"error {"errorMessage":"boom","errorType":"E"}"#, r#"{"errorMessage":"boom","errorType":"E"}"#),
        ("exit 7", r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: <id> Error: Runtime exited with error: exit status 7"}"#),
        (
            "kill-self 9",
            r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: <id> Error: Runtime exited with error: signal: killed"}"#,
        ),
        ("hang", r#"{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: <id> Error: Task timed out after 1.00 seconds"}"#),
    ] {
        assert_eq!(failed(commands), body);
        assert_eq!(serving.tell("respond 1").text(), "1", "after {commands}");
    }
    serving.end(Signal::SIGTERM).expect_code(0);
    fixture.expect_nothing_left();
}

#[test]
fn two_at_once_have_an_environment_each() {
    let Some(fixture) = fixture() else { return };
    let serving = fixture.serve(&[]);
    let pids: Vec<_> = thread::scope(|scope| {
        let calls: Vec<_> = (0..2).map(|_| scope.spawn(|| serving.tell("sleep 500 ; read p /proc/self/stat ; respond-notes"))).collect();
        calls.into_iter().map(|call| call.join().expect("no panic").json()["p"].clone()).collect()
    });
    assert_ne!(pids[0], pids[1]);
    serving.end(Signal::SIGTERM).expect_code(0);
    fixture.expect_nothing_left();
}

#[test]
fn more_than_may_run_are_refused_as_on_aws() {
    let Some(fixture) = fixture() else { return };
    let serving = fixture.serve(&["--concurrency", "1"]);
    thread::scope(|scope| {
        let busy = scope.spawn(|| serving.tell("err busy\\n ; sleep 1500 ; respond 1"));
        serving.running().wait_for_stderr("busy\n");
        let refused = serving.tell("respond 1");
        assert_eq!((refused.status, refused.header("x-amzn-errortype")), (429, Some("TooManyRequestsException")));
        assert_eq!(
            refused.json(),
            json!({"Reason": "ReservedFunctionConcurrentInvocationLimitExceeded", "Type": "User", "message": "Rate Exceeded."})
        );
        assert_eq!(busy.join().expect("no panic").text(), "1");
    });
    serving.end(Signal::SIGTERM).expect_code(0);
}

#[test]
fn a19_a_function_that_takes_too_much_memory_is_killed_and_the_next_call_works() {
    let Some(fixture) = fixture() else { return };
    let serving = fixture.serve(&["-m", "128m"]);
    for _ in 0..2 {
        let got = serving.tell("touch-memory 300 ; respond 1");
        assert_eq!((got.status, got.header("x-amz-function-error")), (200, Some("Unhandled")), "{got:?}");
        let message = got.json()["errorMessage"].as_str().expect("a text").to_owned();
        assert!(message.ends_with(" Error: Runtime exited with error: signal: killed"), "{message}");
        assert_eq!(serving.tell("respond 1").text(), "1");
    }
    serving.end(Signal::SIGTERM).expect_code(0).expect_err("Error Type: Runtime.OutOfMemory");
    fixture.expect_nothing_left();
}

#[test]
fn a_run_that_stays_open_has_its_calls_wait() {
    let Some(fixture) = fixture() else { return };
    let serving = stay_open(&fixture, &[]);
    let begun = Instant::now();
    thread::scope(|scope| {
        let calls: Vec<_> = (0..2).map(|_| scope.spawn(|| serving.tell("sleep 1000 ; respond 1"))).collect();
        calls.into_iter().for_each(|call| assert_eq!(call.join().expect("no panic").text(), "1"));
    });
    assert!(begun.elapsed() >= Duration::from_secs(2), "they overlapped: {:?}", begun.elapsed());
    serving.end(Signal::SIGTERM).expect_code(0);
    fixture.expect_nothing_left();
}

#[test]
fn staying_open_is_docker_lambdas() {
    let Some(fixture) = fixture() else { return };
    let serving = stay_open(&fixture, &["--color", "always"]);
    assert!(serving.running().stderr_so_far().contains("\x1b[32mLambda API listening on port 9001...\x1b[0m\n"));
    let ping = serving.request("GET", "/2018-06-01/ping", &[], b"");
    assert_eq!((ping.status, ping.text()), (200, "pong".to_owned()));
    let dry = serving.invoke(&[("X-Amz-Invocation-Type", "DryRun")], b"{}");
    assert_eq!((dry.status, dry.body.len()), (204, 0));
    assert!(processes_named(fixture.marker()).is_empty(), "a dry run starts nothing");
    // Output stays where the function wrote it.
    let got = serving.tell(r#"out o\n ; err e\n ; respond { "a" : 1 }"#);
    assert_eq!(got.text(), "{ \"a\" : 1 }");
    assert_eq!(got.header("x-amzn-remapped-content-length"), Some("0"));
    let first = runtime(&serving);
    serving.running().signal(Signal::SIGHUP);
    serving.running().wait_for_stderr("\x1b[32mSIGHUP received, restarting bootstrap...\x1b[0m\n");
    eventually(Duration::from_secs(20), "a new runtime answers", || runtime(&serving) != first);
    let ran = serving.end(Signal::SIGINT).expect_code(0);
    assert_eq!(ran.out(), "o\n");
    assert!(ran.err().contains("e\n"), "{}", ran.err());
    fixture.expect_nothing_left();
}

#[test]
fn the_api_port_is_where_the_variable_says() {
    let Some(fixture) = fixture() else { return };
    let port = TcpListener::bind("127.0.0.1:0").expect("loopback").local_addr().expect("bound").port();
    let setting = format!("DOCKER_LAMBDA_API_PORT={port}");
    let run = fixture.run(&["-e", "DOCKER_LAMBDA_STAY_OPEN=1", "-e", &setting], &["handler"]);
    let serving = Serving::start(run);
    assert_eq!(serving.address(), format!("127.0.0.1:{port}"));
    assert_eq!(serving.tell("respond 1").text(), "1");
    // The port is taken, and that is said.
    let taken = fixture.run(&["-e", "DOCKER_LAMBDA_STAY_OPEN=1", "-e", &setting], &["handler"]).finish().expect_code(125);
    assert!(taken.err().contains(&format!("cannot listen on 127.0.0.1:{port}")) && taken.err().contains("hint: "), "{}", taken.err());
    serving.end(Signal::SIGTERM).expect_code(0);
}

#[test]
fn functions_of_a_file_have_their_own_names() {
    let Some(fixture) = fixture() else { return };
    let image = fixture.image("provided");
    let file = fixture.path().join("undocked.toml");
    let text = format!(
        "[functions.one]\nimage = \"{image}\"\nhandler = \"first\"\ncode = \"task\"\nenv = {{ WHO = 1 }}\nmemory = 256\n\
         [functions.two]\nimage = \"{image}\"\nhandler = \"second\"\ncode = \"task\"\nenv = {{ WHO = \"2\" }}\n"
    );
    std::fs::write(&file, text).expect("written");
    let serving = Serving::start(fixture.undocked(&["serve", "--listen", "127.0.0.1:0", "--config", &file.display().to_string()]));
    let ask =
        |name: &str| serving.request("POST", &format!("/2015-03-31/functions/{name}/invocations"), &[], b"\"note-env e ; respond-notes\"");
    let one = ask("one").json();
    assert_eq!((one["e"]["WHO"].as_str(), one["e"]["_HANDLER"].as_str()), (Some("1"), Some("first")));
    assert_eq!(
        (one["e"]["AWS_LAMBDA_FUNCTION_NAME"].as_str(), one["e"]["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"].as_str()),
        (Some("one"), Some("256"))
    );
    let two = ask("two").json();
    assert_eq!((two["e"]["WHO"].as_str(), two["e"]["_HANDLER"].as_str()), (Some("2"), Some("second")));
    let none = ask("three");
    assert_eq!((none.status, none.header("x-amzn-errortype")), (404, Some("ResourceNotFoundException")));
    serving.end(Signal::SIGTERM).expect_code(0);
    fixture.expect_nothing_left();
}

#[test]
fn a_file_of_functions_in_a_folder_below_has_paths_of_its_own() {
    let Some(fixture) = fixture() else { return };
    std::fs::create_dir(fixture.path().join("below")).expect("made");
    let text = "[functions.one]\nimage = \"oci:../layout:provided\"\ncode = \"../task\"\n";
    std::fs::write(fixture.path().join("below/undocked.toml"), text).expect("written");
    let serve = fixture.undocked(&["serve", "--listen", "127.0.0.1:0", "--config", "below/undocked.toml"]);
    let serving = Serving::start(serve.current_dir(fixture.path()));
    let got = serving.request("POST", "/2015-03-31/functions/one/invocations", &[], b"\"respond 1\"");
    assert_eq!((got.status, got.text().as_str()), (200, "1"));
    serving.end(Signal::SIGTERM).expect_code(0);
    fixture.expect_nothing_left();
}

#[test]
fn many_calls_leave_nothing_behind() {
    let Some(fixture) = fixture() else { return };
    let serving = fixture.serve(&[]);
    let mut client = Client::connect(serving.address());
    let mut calls = |count: usize| (0..count).for_each(|_| assert_eq!(client.invoke("fn", b"\"respond 1\"").0, 200));
    let open = || std::fs::read_dir(format!("/proc/{}/fd", serving.running().id())).expect("it runs").count();
    let memory = || {
        tests::leftovers::status_field(serving.running().id(), "VmRSS:")
            .expect("it runs")
            .trim_end_matches(" kB")
            .parse::<i64>()
            .expect("a number")
    };
    calls(300);
    let (before, resident) = (open(), memory());
    calls(3000);
    // A look at memory may have something open for a moment; what leaks stays open.
    let settled = (0..200).any(|_| {
        open() <= before + 2 || {
            calls(1);
            false
        }
    });
    assert!(settled, "{} descriptors, {before} before", open());
    assert!(memory() - resident < 5000, "{} kB more", memory() - resident);
    serving.end(Signal::SIGTERM).expect_code(0);
}

#[test]
fn a_changed_file_has_the_code_start_anew() {
    let Some(fixture) = fixture() else { return };
    let watched = [fixture.serve(&["--watch"]), stay_open(&fixture, &["-e", "DOCKER_LAMBDA_WATCH=1"])];
    let first: Vec<u64> = watched.iter().map(runtime).collect();
    // A file in a folder that was not there before, too.
    std::fs::create_dir(fixture.task().join("new")).expect("a folder can be made");
    std::fs::write(fixture.task().join("new/file"), "changed").expect("a file can be written");
    for (serving, first) in watched.into_iter().zip(first) {
        serving.running().wait_for_stderr("Handler/layer file changed, restarting bootstrap...");
        eventually(Duration::from_secs(20), "a new runtime answers", || runtime(&serving) != first);
        serving.end(Signal::SIGTERM).expect_code(0);
    }
    fixture.expect_nothing_left();
}

#[test]
fn an_image_with_a_client_as_its_entrypoint_serves_on_its_published_port_8080() {
    let Some(fixture) = fixture() else { return };
    let image = Image::provided().with("Entrypoint", json!(["/var/task/bootstrap"]));
    fixture.layout().add("client", &image);
    let image = fixture.image("client");
    let run = fixture.run_image(&image, &["-p", "127.0.0.1:0:8080"], &["handler"]).start();
    run.wait_for_stderr("listening on port 8080");
    let said = run.stderr_so_far();
    let address = said.split_once("http://").and_then(|(_, rest)| rest.split_once('\n')).expect("the address is told").0.to_owned();
    let serving = Serving::running_at(run, address);
    assert_eq!(serving.request("POST", "/2015-03-31/functions/function/invocations", &[], b"\"respond 1\"").text(), "1");
    serving.end(Signal::SIGTERM).expect_code(0);
    // With an event it is one execution.
    let once = fixture.run_image(&image, &["-p", "127.0.0.1:0:8080"], &["handler", "\"respond 2\""]).finish().expect_code(0);
    assert_eq!(once.result(), "2");
    fixture.expect_nothing_left();
}

#[test]
fn a_run_in_the_background_goes_on_until_it_is_ended() {
    let Some(fixture) = fixture() else { return };
    let ran = fixture.run(&["-d", "-e", "DOCKER_LAMBDA_STAY_OPEN=1", "-p", "127.0.0.1:0:9001"], &["handler"]).finish().expect_code(0);
    let id = ran.out();
    assert!(id.len() == 65 && id.trim_end().bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    let said = ran.err();
    let between = |text: &str, before: &str, after: &str| -> String {
        text.split_once(before).and_then(|(_, rest)| rest.split_once(after)).unwrap_or_else(|| panic!("{text}")).0.to_owned()
    };
    let process: i32 = between(&said, "process ", " ").parse().expect("a process");
    let log = std::fs::read_to_string(between(&said, "logs to ", "\n")).expect("a log");
    let address = between(&log, "http://", "\n");
    let (status, _, body) =
        tests::wire::request(&address, "POST", "/2015-03-31/functions/fn/invocations", &[], b"\"respond 1\"").expect("it answers");
    assert_eq!((status, body.as_slice()), (200, b"1".as_slice()));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), Signal::SIGTERM).expect("it runs");
    eventually(Duration::from_secs(20), "it has ended", || std::net::TcpStream::connect(&address).is_err());
    fixture.expect_nothing_left();
    // What cannot start is told at once.
    let failed = fixture.run_image("oci:/nonexistent:x", &["-d", "-e", "DOCKER_LAMBDA_STAY_OPEN=1"], &[]).finish().expect_code(125);
    assert!(failed.err().contains("hint: ") || failed.err().contains("cannot"), "{}", failed.err());
}

#[test]
fn a_call_in_flight_is_answered_when_the_server_ends() {
    let Some(fixture) = fixture() else { return };
    let serving = fixture.serve(&[]);
    thread::scope(|scope| {
        let short = scope.spawn(|| serving.tell("err begun\\n ; sleep 300 ; respond 1"));
        let long = scope.spawn(|| serving.tell("err too\\n ; hang"));
        serving.running().wait_for_stderr("begun\n");
        serving.running().wait_for_stderr("too\n");
        serving.running().signal(Signal::SIGTERM);
        assert_eq!(short.join().expect("no panic").text(), "1");
        let long = long.join().expect("no panic");
        assert_eq!((long.status, long.header("x-amzn-errortype")), (500, Some("ServiceException")), "{long:?}");
    });
    serving.end(Signal::SIGTERM).expect_code(0);
    fixture.expect_nothing_left();
}

#[test]
fn whatever_clients_call_an_event_the_runtime_is_told_that_it_is_json() {
    let Some(fixture) = fixture() else { return };
    let serving = fixture.serve(&[]);
    for given in ["application/octet-stream", "application/x-www-form-urlencoded", "application/json; charset=utf-8", "text/plain"] {
        let got = serving.invoke(&[("Content-Type", given)], b"\"note-event ; respond-notes\"").json();
        assert_eq!(got["event-headers"]["content-type"], "application/json", "{given}: {got}");
    }
    serving.end(Signal::SIGTERM).expect_code(0);
}

/// A python function with AWS's own runtime client, as row A1 to A5 and A11 of the contract have it.
#[test]
fn an_init_phase_that_fails_is_repeated_inside_the_first_invocation() {
    const CODE: &str = r#"
import os
if not os.path.exists("/tmp/tried"):
    open("/tmp/tried", "w").close()
    os._exit(3)

def handler(event, context):
    return event
"#;
    let Some(python) = real::function("lambda/python:3.11") else { return };
    python.file("app.py", CODE);
    let tail_of = |serving: &Serving| serving.invoke(&[("X-Amz-Log-Type", "Tail")], b"{}");
    let serving = Serving::start(python.serve(&[], "app.handler"));
    let got = tail_of(&serving);
    assert_eq!((got.header("x-amz-function-error"), got.text().as_str()), (None, "{}"));
    assert!(!tail(&got).contains("Init Duration"), "{}", tail(&got));
    let log = serving.end(Signal::SIGTERM).expect_code(0).err();
    let (report, _) = log.split_once("START RequestId").expect("it began");
    assert!(report.contains("ms\tPhase: init\tStatus: error\tError Type: Runtime.ExitError\n"), "{log}");
    // What fails again is the result, and told twice.
    let missing = Serving::start(python.serve(&[], "nomod.h"));
    assert!(tail(&tail_of(&missing)).contains("ms\tPhase: invoke\tStatus: error\tError Type: Runtime.ImportModuleError\n"));
    let log = missing.end(Signal::SIGTERM).expect_code(0).err();
    assert!(log.contains("ms\tPhase: init\tStatus: error\tError Type: Runtime.ImportModuleError\n"), "{log}");
}

#[test]
fn pythons_own_client_stays_warm_fails_and_starts_anew() {
    const CODE: &str = r#"
import os
calls = 0

def handler(event, context):
    global calls
    calls += 1
    print("hi")
    if event.get("raise"):
        raise ValueError("boom")
    if event.get("exit"):
        os._exit(7)
    return {"calls": calls, "id": context.aws_request_id, "event": event}
"#;
    let Some(python) = real::function("lambda/python:3.11") else { return };
    python.file("app.py", CODE);
    let serving = Serving::start(python.serve(&["-m", "128m"], "app.handler"));
    for calls in 1..=3 {
        let got = serving.invoke(&[("X-Amz-Log-Type", "Tail")], b"{\"a\":1}");
        let id = got.header("x-amzn-requestid").expect("an id").to_owned();
        assert_eq!(got.json(), json!({"calls": calls, "id": id, "event": {"a": 1}}));
        assert!(tail(&got).starts_with(&format!("START RequestId: {id} Version: $LATEST\nhi\nEND RequestId: {id}\n")), "{}", tail(&got));
    }
    let raised = serving.invoke(&[], b"{\"raise\":1}");
    assert_eq!((raised.status, raised.header("x-amz-function-error")), (200, Some("Unhandled")));
    assert_eq!((&raised.json()["errorMessage"], &raised.json()["errorType"]), (&json!("boom"), &json!("ValueError")));
    assert_eq!(serving.invoke(&[], b"{}").json()["calls"], 5);
    let left = serving.invoke(&[], b"{\"exit\":1}");
    let id = left.header("x-amzn-requestid").expect("an id").to_owned();
    let exit =
        format!(r#"{{"errorType":"Runtime.ExitError","errorMessage":"RequestId: {id} Error: Runtime exited with error: exit status 7"}}"#);
    assert_eq!(left.text(), exit);
    assert_eq!(serving.invoke(&[], b"{}").json()["calls"], 1);
    let missing = Serving::start(python.serve(&[], "nomod.h"));
    let error = json!({"errorMessage": "Unable to import module 'nomod': No module named 'nomod'", "errorType": "Runtime.ImportModuleError", "requestId": "", "stackTrace": []});
    assert_eq!(missing.invoke(&[], b"{}").json(), error);
    missing.end(Signal::SIGTERM).expect_code(0);
    serving.end(Signal::SIGTERM).expect_code(0);
}
