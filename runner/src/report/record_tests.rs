//! Every kind of event in every form.

use super::*;
use crate::function::MemorySize;
use crate::lambda::{PlatformError, RequestId, RuntimeEnd, RuntimeVersion};

const LATEST: RecordForm = RecordForm::Subscriber(TelemetrySchema::Telemetry20221213);
const LOGS: RecordForm = RecordForm::Subscriber(TelemetrySchema::Logs20210318);
const OLDEST: RecordForm = RecordForm::Subscriber(TelemetrySchema::Logs20200815);

const ID: &str = "abababab-abab-4bab-abab-abababababab";
const AT: Duration = Duration::from_millis(1_660_000_000_123);

fn id() -> RequestId {
    RequestId::from_random([0xab; 16])
}

fn ms(millis: f64) -> Duration {
    Duration::from_micros((millis * 1000.0) as u64)
}

/// The record in each form that knows the kind.
fn forms(event: &LogEvent) -> Vec<(&'static str, String)> {
    let forms = [("telemetry", LATEST), ("logs", LOGS), ("oldest", OLDEST), ("log", RecordForm::Log)];
    forms.into_iter().filter_map(|(name, form)| Some((name, platform_record(event, AT, form)?))).collect()
}

fn check(event: &LogEvent, known: &[&str], kind: &str, record: &str) {
    let forms = forms(event);
    assert_eq!(forms.iter().map(|(name, _)| *name).collect::<Vec<_>>(), known, "{event:?}");
    for (name, json) in forms {
        let expected = format!(r#"{{"time":"2022-08-08T23:06:40.123Z","type":"{kind}","record":{record}}}"#);
        assert_eq!(json, expected, "{name}");
    }
}

const ALL: &[&str] = &["telemetry", "logs", "oldest", "log"];
const NOT_OLDEST: &[&str] = &["telemetry", "logs", "log"];

#[test]
fn init_phases() {
    let mut start = InitStart {
        phase: InitPhase::Init,
        runtime_version: None,
        function_name: "fn".to_owned(),
        function_version: "$LATEST".to_owned(),
        instance_id: "i-1".to_owned(),
        memory_size: MemorySize::from_mb(128).unwrap(),
    };
    let rest = r#""functionName":"fn","functionVersion":"$LATEST","instanceId":"i-1","instanceMaxMemory":134217728}"#;
    let record = format!(r#"{{"initializationType":"on-demand","phase":"init",{rest}"#);
    check(&LogEvent::InitStart(start.clone()), &["telemetry", "log"], "platform.initStart", &record);
    start.runtime_version = Some(RuntimeVersion { name: "python:3.13.v37".to_owned(), arn: "arn:x".to_owned() });
    start.phase = InitPhase::Invoke;
    let version = r#""runtimeVersion":"python:3.13.v37","runtimeVersionArn":"arn:x""#;
    let record = format!(r#"{{"initializationType":"on-demand","phase":"invoke",{version},{rest}"#);
    check(&LogEvent::InitStart(start), &["telemetry", "log"], "platform.initStart", &record);

    for (status, fields) in [
        (InitStatus::Success, r#""status":"success""#),
        (InitStatus::Timeout, r#""status":"timeout""#),
        (InitStatus::Error("Runtime.ExitError".into()), r#""status":"error","errorType":"Runtime.ExitError""#),
    ] {
        let begin = format!(r#"{{"initializationType":"on-demand","phase":"init",{fields}"#);
        let done = LogEvent::InitRuntimeDone { phase: InitPhase::Init, status: status.clone() };
        check(&done, &["telemetry", "log"], "platform.initRuntimeDone", &format!("{begin}}}"));
        let report = LogEvent::InitReport { duration: ms(125.334), phase: InitPhase::Init, status };
        check(&report, &["telemetry", "log"], "platform.initReport", &format!(r#"{begin},"metrics":{{"durationMs":125.334}}}}"#));
    }
}

#[test]
fn invocations() {
    let start = |trace_id: &str, tenant_id: Option<&str>| LogEvent::Start {
        request_id: id(),
        version: "$LATEST".to_owned(),
        trace_id: trace_id.to_owned(),
        tenant_id: tenant_id.map(str::to_owned),
    };
    let tracing = r#""tracing":{"type":"X-Amzn-Trace-Id","value":"Root=1-2-3"}"#;
    check(&start("", None), ALL, "platform.start", &format!(r#"{{"requestId":"{ID}","version":"$LATEST"}}"#));
    let record = format!(r#"{{"requestId":"{ID}","version":"$LATEST",{tracing},"tenantId":"t"}}"#);
    check(&start("Root=1-2-3", Some("t")), ALL, "platform.start", &record);
    check(&LogEvent::End { request_id: id() }, &["logs", "oldest"], "platform.end", &format!(r#"{{"requestId":"{ID}"}}"#));

    let span = |duration| Span { start: AT, duration };
    for (status, response, fields, spans) in [
        (
            RuntimeDoneStatus::Success,
            Some(ResponseFigures { bytes: 53, latency: span(ms(3.5)), duration: span(ms(0.075)) }),
            r#""status":"success","metrics":{"durationMs":4.25,"producedBytes":53},"spans":[{"name":"responseLatency","start":"2022-08-08T23:06:40.123Z","durationMs":3.5},{"name":"responseDuration","start":"2022-08-08T23:06:40.123Z","durationMs":0.075}]"#,
            "",
        ),
        (RuntimeDoneStatus::Timeout, None, r#""status":"timeout","metrics":{"durationMs":4.25}"#, ""),
        (
            RuntimeDoneStatus::Failure("Runtime.ExitError".into()),
            None,
            r#""status":"failure","metrics":{"durationMs":4.25}"#,
            r#","errorType":"Runtime.ExitError""#,
        ),
        (
            RuntimeDoneStatus::Error("Function.Unknown".into()),
            None,
            r#""status":"error","metrics":{"durationMs":4.25}"#,
            r#","errorType":"Function.Unknown""#,
        ),
    ] {
        let done = RuntimeDone { request_id: id(), status, duration: ms(4.25), response, trace_id: "Root=1-2-3".to_owned() };
        let record = format!(r#"{{"requestId":"{ID}",{fields},{tracing}{spans}}}"#);
        check(&LogEvent::RuntimeDone(done), NOT_OLDEST, "platform.runtimeDone", &record);
    }
}

#[test]
fn reports() {
    let memory = MemorySize::from_mb(128).unwrap();
    for (init, status, metrics, fields) in [
        (Some(ms(110.1)), ReportStatus::Success, r#","initDurationMs":110.1"#, r#""status":"success""#),
        (None, ReportStatus::Timeout, "", r#""status":"timeout""#),
        (None, ReportStatus::Error("Runtime.OutOfMemory".into()), "", r#""status":"error""#),
        (None, ReportStatus::Reported("Runtime.OutOfMemory".into()), "", r#""status":"error""#),
    ] {
        let figures = ReportFigures::new(init, ms(3.01), memory, 36 << 20);
        let billed = figures.billed_ms;
        let error =
            if matches!(status, ReportStatus::Error(_) | ReportStatus::Reported(_)) { r#","errorType":"Runtime.OutOfMemory""# } else { "" };
        let event = LogEvent::Report { request_id: id(), figures, status, trace_id: String::new() };
        let metrics =
            format!(r#""metrics":{{"durationMs":3.01,"billedDurationMs":{billed},"memorySizeMB":128,"maxMemoryUsedMB":36{metrics}}}"#);
        check(&event, ALL, "platform.report", &format!(r#"{{"requestId":"{ID}",{fields},{metrics}{error}}}"#));
    }
}

#[test]
fn faults_are_text() {
    let faults = &["logs", "oldest", "log"];
    let failed = LogEvent::Failed { request_id: id(), error: PlatformError::Exited(RuntimeEnd::Exited(7)) };
    let record = format!(r#""RequestId: {ID} Error: Runtime exited with error: exit status 7\nRuntime.ExitError""#);
    check(&failed, faults, "platform.fault", &record);
    let timed_out = LogEvent::TimedOut { request_id: id(), timeout: "3".parse().unwrap(), at: AT };
    check(&timed_out, faults, "platform.fault", &format!(r#""2022-08-08T23:06:40.123Z {ID} Task timed out after 3.00 seconds""#));
}

#[test]
fn extensions_and_subscriptions() {
    let name = || "ext".to_owned();
    let event = |state, error_type| LogEvent::Extension {
        name: name(),
        state,
        events: vec![ExtensionEvent::Invoke, ExtensionEvent::Shutdown],
        error_type,
    };
    let record = r#"{"name":"ext","state":"Ready","events":["INVOKE","SHUTDOWN"]}"#;
    check(&event(ExtensionState::Ready, None), ALL, "platform.extension", record);
    let record = r#"{"name":"ext","state":"Exited","events":["INVOKE","SHUTDOWN"],"errorType":"Extension.Crash"}"#;
    check(&event(ExtensionState::Exited, Some("Extension.Crash".into())), ALL, "platform.extension", record);
    let streams = vec![TelemetryStream::Platform, TelemetryStream::Function];
    for (api, kind) in [(TelemetryApi::Telemetry, "platform.telemetrySubscription"), (TelemetryApi::Logs, "platform.logsSubscription")] {
        let event = LogEvent::Subscribed { api, name: name(), streams: streams.clone() };
        check(&event, ALL, kind, r#"{"name":"ext","state":"Subscribed","types":["platform","function"]}"#);
    }
    let dropped = LogEvent::LogsDropped { bytes: 12_345, records: 123, reason: "slow".to_owned() };
    check(&dropped, ALL, "platform.logsDropped", r#"{"droppedBytes":12345,"droppedRecords":123,"reason":"slow"}"#);
}

#[test]
fn output_is_text_or_an_object() {
    let record = |text: &[u8], embed| {
        let json = output_record(TelemetryStream::Function, text, AT, embed);
        let record = json.strip_prefix(r#"{"time":"2022-08-08T23:06:40.123Z","type":"function","record":"#).unwrap();
        assert!(!json.contains(['\n', '\r']), "{json}");
        record.strip_suffix('}').unwrap().to_owned()
    };
    for (text, as_text, embedded) in [
        (&b"hi"[..], r#""hi""#, r#""hi""#),
        (b"", r#""""#, r#""""#),
        (b"two\nlines\t\"x\"", r#""two\nlines\t\"x\"""#, r#""two\nlines\t\"x\"""#),
        (b"\xff\x00", r#""\ufffd\u0000""#, r#""\ufffd\u0000""#),
        (br#"{"a":1, "a":2.50}"#, r#""{\"a\":1, \"a\":2.50}""#, r#"{"a":1, "a":2.50}"#),
        (b" {\"a\":\n\"\\n\"}\r", r#"" {\"a\":\n\"\\n\"}\r""#, r#"{"a": "\n"}"#),
        (b"[1]", r#""[1]""#, r#""[1]""#),
        (b"{no json}", r#""{no json}""#, r#""{no json}""#),
        (b"{} x", r#""{} x""#, r#""{} x""#),
    ] {
        assert_eq!(record(text, Embed::Nothing).replace('\u{fffd}', "\\ufffd"), as_text);
        assert_eq!(record(text, Embed::Objects).replace('\u{fffd}', "\\ufffd"), embedded);
    }
    assert!(output_record(TelemetryStream::Extension, b"x", Duration::MAX, Embed::Nothing).contains(r#""type":"extension""#));
}
