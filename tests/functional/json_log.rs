//! `AWS_LAMBDA_LOG_FORMAT=JSON`: what the platform logs is JSON, what the function logs stays as it is.

use serde_json::Value;
use tests::Fixture;

/// Without what is said of the image.
const JSON: [&str; 3] = ["--quiet", "-e", "AWS_LAMBDA_LOG_FORMAT=JSON"];

/// Every line of the log: a record, or what the function wrote as a string.
fn lines(log: &str) -> Vec<Value> {
    log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| Value::from(line))).collect()
}

fn kinds(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["type"].as_str().or(line.as_str()).unwrap_or("another object")).collect()
}

#[test]
fn an_invocation_is_start_output_and_report() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nout plain\\n\nout {\"level\":\"INFO\"}\\n\nout unended\nrespond-notes\nnext");
    let ran = fixture.run(&JSON, &[]).finish().expect_code(0);
    let lines = lines(&ran.err());
    assert_eq!(kinds(&lines), ["platform.start", "plain", "another object", "unended", "platform.report"], "{}", ran.err());
    let (start, report) = (&lines[0]["record"], &lines[4]["record"]);
    assert_eq!((&start["version"], &start["requestId"]), (&Value::from("$LATEST"), &report["requestId"]));
    assert_eq!(report["status"], "success");
    for metric in ["durationMs", "billedDurationMs", "memorySizeMB", "maxMemoryUsedMB", "initDurationMs"] {
        assert!(report["metrics"][metric].is_number(), "{metric}: {report}");
    }
    let time = lines[0]["time"].as_str().expect("a time");
    assert!(time.len() == "2006-01-02T15:04:05.000Z".len() && time.ends_with('Z'), "{time}");
}

#[test]
fn the_log_tail_is_of_the_same_form() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("out before\\n\nnext\nout plain\\n\nrespond {}\nnext");
    let ran = fixture.run(&[&JSON[..], &["--json"]].concat(), &[]).finish().expect_code(0);
    let result: Value = serde_json::from_slice(&ran.stdout).expect("an object");
    let lines = lines(result["logTail"].as_str().expect("text"));
    assert_eq!(kinds(&lines), ["platform.start", "plain", "platform.report"]);
}

#[test]
fn failures_say_what_they_are() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nexit 7");
    let ran = fixture.run(&JSON, &[]).finish().expect_code(1);
    let lines = lines(&ran.err());
    let report = lines.last().expect("a report");
    assert_eq!((&report["record"]["status"], &report["record"]["errorType"]), (&Value::from("error"), &Value::from("Runtime.ExitError")));
    let fault = lines.iter().find(|line| line["type"] == "platform.fault").expect("a fault");
    assert!(fault["record"].as_str().expect("text").ends_with("exit status 7\nRuntime.ExitError"), "{fault}");
}

#[test]
fn the_level_says_what_is_left_out() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nout plain\\n\nrespond {}\nnext");
    let log = |level: &str| {
        let level = format!("AWS_LAMBDA_SYSTEM_LOG_LEVEL={level}");
        fixture.run(&[&JSON[..], &["-e", &level]].concat(), &[]).finish().expect_code(0).err()
    };
    assert_eq!(kinds(&lines(&log("WARN"))), ["plain"]);
    assert_eq!(kinds(&lines(&log("INFO"))), ["platform.start", "plain", "platform.report"]);
    let debug = log("DEBUG");
    let debug = lines(&debug);
    assert!(kinds(&debug).ends_with(&["platform.report"]) && kinds(&debug).contains(&"platform.start"), "{debug:?}");
}

#[test]
fn every_other_value_is_text() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nrespond {}\nnext");
    for format in ["Text", "", "yaml"] {
        let format = format!("AWS_LAMBDA_LOG_FORMAT={format}");
        let ran = fixture.run(&["--quiet", "-e", &format], &[]).finish().expect_code(0);
        assert!(ran.err().starts_with("START RequestId: "), "{}", ran.err());
    }
}
