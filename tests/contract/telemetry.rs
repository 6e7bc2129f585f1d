//! Telemetry as an extension gets it: subscriptions, refusals, records by HTTP and TCP, and framed log records.
//!
//! The extension is the probe, which writes what it is sent to standard error, and so into the log.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::Fixture;
use tests::leftovers::eventually;
use tests::serving::Serving;

const LIMIT: Duration = Duration::from_secs(30);
const REGISTER: &str =
    "header Lambda-Extension-Name ext\nhttp register POST /2020-01-01/extension/register {\"events\":[\"INVOKE\",\"SHUTDOWN\"]}\n";
const EVENT: &str = "header Lambda-Extension-Identifier {extension}\nhttp event GET /2020-01-01/extension/event/next\n";

/// A function that obeys its events, and an extension called `ext` with this script, in a layer.
fn fixture(script: &str) -> Option<(Fixture, String)> {
    let fixture = Fixture::new()?;
    fixture.script("obey");
    let layer = fixture.path().join("layer");
    for folder in ["extensions", "scripts"] {
        fs::create_dir_all(layer.join(folder)).expect("made");
    }
    fixture.install_probe(&layer.join("extensions/ext"));
    fs::write(layer.join("scripts/ext"), script).expect("written");
    let layer = layer.display().to_string();
    Some((fixture, layer))
}

fn subscribe(name: &str, path: &str, body: &Value) -> String {
    format!("header Lambda-Extension-Identifier {{extension}}\nhttp {name} PUT {path} {body}\n")
}

/// By HTTP or TCP to this port, with the shortest wait.
fn subscription(version: &str, types: &[&str], protocol: &str, port: u16) -> Value {
    let destination = match protocol {
        "http" => json!({"protocol": "HTTP", "URI": format!("http://sandbox.localdomain:{port}/take?it")}),
        _ => json!({"protocol": "TCP", "port": port}),
    };
    json!({"schemaVersion": version, "types": types, "buffering": {"timeoutMs": 25}, "destination": destination})
}

/// The records that the extension was sent until now.
fn records(serving: &Serving) -> Vec<Value> {
    posted(&serving.running().stderr_so_far())
}

/// The records in a log.
fn posted(log: &str) -> Vec<Value> {
    let sent = log.lines().filter_map(|line| line.strip_prefix("POSTED POST /take?it HTTP/1.1 ").or(line.strip_prefix("RECORD ")));
    sent.flat_map(|text| match serde_json::from_str(text).expect("JSON") {
        Value::Array(records) => records,
        record => vec![record],
    })
    .collect()
}

fn kinds(records: &[Value]) -> Vec<String> {
    let kind = |record: &Value| match &record["record"] {
        Value::String(text) => format!("{} {text}", record["type"].as_str().expect("a type")),
        _ => record["type"].as_str().expect("a type").to_owned(),
    };
    records.iter().map(kind).collect()
}

/// A port that is free on this machine: on the host's network the extension listens here.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

fn a_whole_story(protocol: &str, network: &[&str]) {
    let port = free_port();
    let body = subscription("2022-12-13", &["platform", "function"], protocol, port);
    let listen = format!("relay {protocol} sandbox.localdomain:{port}\n");
    let subscribe = subscribe("subscribed", "/2022-07-01/telemetry", &body);
    let Some((fixture, layer)) = fixture(&format!("{REGISTER}{listen}{subscribe}print-notes\n{EVENT}{EVENT}{EVENT}")) else { return };
    let serving = fixture.serve(&[&["--layer", &layer], network].concat());
    for invocation in 1..=2 {
        let got = serving.tell("out hi\\n ; respond 1");
        assert_eq!((got.status, got.text()), (200, "1".to_owned()));
        eventually(LIMIT, "the report has come", || {
            kinds(&records(&serving)).iter().filter(|kind| *kind == "platform.report").count() == invocation
        });
    }
    let records = records(&serving);
    let once = ["platform.start", "function hi", "platform.runtimeDone", "platform.report"];
    let kinds = kinds(&records);
    let story: Vec<&str> = kinds.iter().map(String::as_str).filter(|kind| once.contains(kind)).collect();
    assert_eq!(story, [once, once].concat(), "{kinds:?}");
    let before: Vec<&str> = kinds.iter().map(String::as_str).take_while(|kind| *kind != "platform.start").collect();
    for kind in
        ["platform.initStart", "platform.telemetrySubscription", "platform.initRuntimeDone", "platform.extension", "platform.initReport"]
    {
        assert!(before.contains(&kind), "{kind}: {before:?}");
    }
    assert_eq!(before.first(), Some(&"platform.initStart"));
    let ids: Vec<&Value> = records.iter().map(|record| &record["record"]["requestId"]).filter(|id| id.is_string()).collect();
    assert!(ids.len() == 6 && ids[..3].iter().all(|id| *id == ids[0]) && ids[3..].iter().all(|id| *id == ids[3]), "{ids:?}");
    let of = |kind: &str| records.iter().find(|record| record["type"] == kind).map(|record| &record["record"]).expect("there");
    assert_eq!(of("platform.runtimeDone")["status"], "success");
    assert!(of("platform.report")["metrics"]["durationMs"].is_number());
    assert_eq!(of("platform.telemetrySubscription"), &json!({"name": "ext", "state": "Subscribed", "types": ["platform", "function"]}));
    let ran = serving.end(Signal::SIGTERM).expect_code(0);
    let log = ran.out() + &ran.err();
    assert!(log.contains("TELEMETRY\tName: ext\tState: Subscribed\tTypes: [Platform, Function]"), "{log}");
    let notes: Value =
        log.lines().find(|line| line.contains("\"subscribed\"")).and_then(|line| serde_json::from_str(line).ok()).expect("notes");
    assert_eq!((&notes["subscribed"]["status"], &notes["subscribed"]["body"]), (&json!(200), &json!("\"OK\"")), "{notes}");
    fixture.expect_nothing_left();
}

#[test]
fn a21_records_come_by_http_in_order() {
    a_whole_story("http", &[]);
}

#[test]
fn records_come_by_tcp_as_lines() {
    a_whole_story("tcp", &[]);
}

#[test]
fn records_come_on_the_hosts_network_too() {
    a_whole_story("http", &["--network", "host"]);
}

/// Its batch would be full only after half a minute: what there is comes with the end. Of a sandbox that holds the runtime alone, too.
#[test]
fn an_extension_inside_the_runtime_is_told_before_a_single_execution_ends() {
    for network in [&[][..], &["--network", "none"], &["--network", "host"]] {
        let Some(fixture) = Fixture::new() else { return };
        let port = free_port();
        let mut body = subscription("2022-12-13", &["platform", "function"], "http", port);
        body["buffering"]["timeoutMs"] = json!(30_000);
        let register = "header Lambda-Extension-Name in\nhttp register POST /2020-01-01/extension/register {\"events\":[]}\n";
        let listen = format!("relay http sandbox.localdomain:{port}\n");
        let subscribe = subscribe("subscribed", "/2022-07-01/telemetry", &body);
        let wait = "spawn header Lambda-Extension-Identifier {extension} ; http event GET /2020-01-01/extension/event/next\n";
        fixture.script(&format!("{register}{listen}{subscribe}{wait}next\nout hi\\n\nrespond 1\nnext"));
        let ran = fixture.run(network, &[]).finish().expect_code(0);
        assert_eq!(ran.out(), "\n1\n");
        let kinds = kinds(&posted(&ran.err()));
        let story = ["platform.start", "function hi", "platform.runtimeDone", "platform.report"];
        assert!(kinds.ends_with(&story.map(str::to_owned)), "{network:?}: {kinds:?}\n{}", ran.err());
        fixture.expect_nothing_left();
    }
}

#[test]
fn the_logs_api_sends_its_own_kinds() {
    let port = free_port();
    let body = subscription("2020-08-15", &["platform"], "tcp", port);
    let listen = format!("relay tcp sandbox:{port}\n");
    let subscribe = subscribe("subscribed", "/2020-08-15/logs", &body);
    // It is told to shut down when the runtime is gone, and takes its last records before it does.
    let Some((fixture, layer)) = fixture(&format!("{REGISTER}{listen}{subscribe}{EVENT}{EVENT}hang")) else { return };
    let serving = fixture.serve(&["--layer", &layer]);
    assert_eq!(serving.tell("exit 7").status, 200);
    eventually(LIMIT, "the report has come", || kinds(&records(&serving)).contains(&"platform.report".to_owned()));
    let kinds = kinds(&records(&serving));
    assert!(kinds.contains(&"platform.logsSubscription".to_owned()), "{kinds:?}");
    let rest: Vec<&str> = kinds.iter().map(String::as_str).skip_while(|kind| *kind != "platform.start").collect();
    assert!(rest[1].starts_with("platform.fault RequestId: ") && rest[1].ends_with("exit status 7\nRuntime.ExitError"), "{rest:?}");
    assert_eq!([rest[0], rest[2], rest[3]], ["platform.start", "platform.end", "platform.report"]);
    drop(serving.end(Signal::SIGTERM));
}

#[test]
fn refusals() {
    let good = subscription("2022-12-13", &["platform"], "tcp", 9);
    let calls = [
        subscribe("bad", "/2022-07-01/telemetry", &json!({"types": []})),
        subscribe("logs", "/2020-08-15/logs", &json!({})),
        "header Lambda-Extension-Identifier 11111111-1111-4111-8111-111111111111\n".to_owned()
            + &format!("http stranger PUT /2022-07-01/telemetry {good}\n"),
        format!("http nameless PUT /2022-07-01/telemetry {good}\n"),
        "http method POST /2022-07-01/telemetry {}\n".to_owned(),
        subscribe("good", "/2022-07-01/telemetry", &good),
        subscribe("again", "/2022-07-01/telemetry", &good),
        subscribe("other", "/2020-08-15/logs", &subscription("2021-03-18", &["platform"], "tcp", 9)),
    ]
    .concat();
    let late = subscribe("late", "/2022-07-01/telemetry", &good);
    let Some((fixture, layer)) = fixture(&format!("{REGISTER}{calls}{EVENT}{late}print-notes\n{EVENT}")) else { return };
    let serving = fixture.serve(&["--layer", &layer]);
    // Nobody listens where the records go, and nobody waits for that.
    assert_eq!(serving.tell("respond 1").text(), "1");
    let ran = serving.end(Signal::SIGTERM).expect_code(0);
    let log = ran.out() + &ran.err();
    let notes: Value = log.lines().find(|line| line.contains("\"late\"")).and_then(|line| serde_json::from_str(line).ok()).expect("notes");
    let body = |name: &str| -> Value { serde_json::from_str(notes[name]["body"].as_str().expect("text")).unwrap_or_default() };
    for (name, status, kind) in [
        ("bad", 400, "ValidationError"),
        ("logs", 400, "Logs.ValidationError"),
        ("stranger", 403, "Extension.UnknownExtensionIdentifier"),
        ("nameless", 403, "Extension.MissingExtensionIdentifier"),
        ("other", 400, "Logs.ValidationError"),
        ("late", 403, "Telemetry.SubscriptionClosed"),
    ] {
        assert_eq!((&notes[name]["status"], &body(name)["errorType"]), (&json!(status), &json!(kind)), "{name}: {}", notes[name]);
    }
    assert_eq!(body("late")["errorMessage"], "Telemetry API subscription is closed");
    assert_eq!(notes["method"]["status"], 405);
    for name in ["good", "again"] {
        assert_eq!(notes[name]["status"], 200, "{name}");
    }
}

#[test]
fn framed_records_are_one_entry_each() {
    let port = free_port();
    let body = subscription("2022-12-13", &["platform", "function"], "tcp", port);
    let listen = format!("relay tcp sandbox.localdomain:{port}\n");
    let subscribe = subscribe("subscribed", "/2022-07-01/telemetry", &body);
    let Some((fixture, layer)) = fixture(&format!("{REGISTER}{listen}{subscribe}{EVENT}{EVENT}")) else { return };
    let serving = fixture.serve(&["--layer", &layer]);
    let got =
        serving.invoke(&[("X-Amz-Log-Type", "Tail")], Value::from("frame two\\nlines ; out after\\n ; respond 1").to_string().as_bytes());
    assert_eq!(got.text(), "1");
    eventually(LIMIT, "the report has come", || kinds(&records(&serving)).contains(&"platform.report".to_owned()));
    let kinds = kinds(&records(&serving));
    assert!(kinds.contains(&"function two\nlines".to_owned()), "{kinds:?}");
    let ran = serving.end(Signal::SIGTERM).expect_code(0);
    let log = ran.out() + &ran.err();
    assert!(log.contains("two\nlines\n"), "{log}");
}
