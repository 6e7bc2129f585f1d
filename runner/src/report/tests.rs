//! The log byte by byte, in both colours, and the `--json` object.

use std::io;
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::function::MemorySize;
use crate::lambda::{
    ErrorKind, ErrorType, ExtensionEvent, ExtensionState, FunctionError, InitPhase, InitStart, InitStatus, Outcome, PlatformError,
    ReportFigures, ReportStatus, RequestId, RuntimeEnd, RuntimeVersion, TelemetryApi, TelemetryStream,
};

/// Hands every write to the test.
struct Tap(mpsc::Sender<Vec<u8>>);

impl Write for Tap {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn tapped(color: Color, carriage_returns: CarriageReturns) -> (Report, mpsc::Receiver<Vec<u8>>) {
    let (written, tap) = mpsc::channel();
    (Report::to_writer(Tap(written), color, carriage_returns), tap)
}

fn id() -> RequestId {
    RequestId::from_random([0; 16])
}

const ID: &str = "00000000-0000-4000-8000-000000000000";

fn figures(init_us: Option<u64>) -> ReportFigures {
    let memory = MemorySize::from_mb(128).unwrap();
    ReportFigures::new(init_us.map(Duration::from_micros), Duration::from_micros(3_010), memory, 36 << 20)
}

fn report(init_us: Option<u64>, status: ReportStatus) -> LogEvent {
    LogEvent::Report { request_id: id(), figures: figures(init_us), status, trace_id: String::new() }
}

fn start() -> LogEvent {
    LogEvent::Start { request_id: id(), version: "$LATEST".to_owned(), trace_id: String::new(), tenant_id: None }
}

#[test]
fn lines() {
    let common = format!("REPORT RequestId: {ID}\tDuration: 3.01 ms\tBilled Duration:");
    let failed = |error| LogEvent::Failed { request_id: id(), error };
    let init_report = |us, phase, status| LogEvent::InitReport { duration: Duration::from_micros(us), phase, status };
    let at = Duration::from_millis(1_712_593_016_123);
    for (event, line) in [
        (start(), format!("START RequestId: {ID} Version: $LATEST")),
        (LogEvent::End { request_id: id() }, format!("END RequestId: {ID}")),
        (report(None, ReportStatus::Success), format!("{common} 4 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t")),
        (
            report(None, ReportStatus::Reported(ErrorType::from("ValueError"))),
            format!("{common} 4 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t"),
        ),
        (
            report(Some(110_100), ReportStatus::Success),
            format!("{common} 114 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\tInit Duration: 110.10 ms\t"),
        ),
        (
            report(Some(110_100), ReportStatus::Timeout),
            format!("{common} 114 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\tInit Duration: 110.10 ms\tStatus: timeout"),
        ),
        (
            report(None, ReportStatus::Error(ErrorType::from("Runtime.ExitError"))),
            format!("{common} 4 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\tStatus: error\tError Type: Runtime.ExitError"),
        ),
        (
            LogEvent::TimedOut { request_id: id(), timeout: "1".parse().unwrap(), at },
            format!("2024-04-08T16:16:56.123Z {ID} Task timed out after 1.00 seconds"),
        ),
        (
            failed(PlatformError::Exited(RuntimeEnd::Exited(7))),
            format!("RequestId: {ID} Error: Runtime exited with error: exit status 7\nRuntime.ExitError"),
        ),
        (
            init_report(10_000_090, InitPhase::Init, InitStatus::Timeout),
            "INIT_REPORT Init Duration: 10000.09 ms\tPhase: init\tStatus: timeout".to_owned(),
        ),
        (
            init_report(229_040, InitPhase::Invoke, InitStatus::Error(ErrorType::from("Runtime.ImportModuleError"))),
            "INIT_REPORT Init Duration: 229.04 ms\tPhase: invoke\tStatus: error\tError Type: Runtime.ImportModuleError".to_owned(),
        ),
    ] {
        assert_eq!(text::line(&event).unwrap(), line);
    }
}

/// All that is written by the end of the report, as text.
fn written(tap: &mpsc::Receiver<Vec<u8>>) -> String {
    String::from_utf8(tap.iter().flatten().collect()).unwrap()
}

/// A log in JSON of one whole invocation, and its tail.
fn json_log(level: SystemLogLevel) -> (String, String) {
    let (log, tap) = tapped(Color::Green, CarriageReturns::ToLineFeeds);
    let mut log = log.with_format(LogFormat::Json { level });
    log.log(&LogEvent::InitRuntimeDone { phase: InitPhase::Init, status: InitStatus::Success });
    log.output(OutputStream::Stdout, b"initialised".to_vec());
    log.log(&start());
    log.output(OutputStream::Stdout, b"{\"level\":\"INFO\"}".to_vec());
    log.log(&LogEvent::End { request_id: id() });
    log.log(&report(None, ReportStatus::Timeout));
    let tail = String::from_utf8(log.log_tail()).unwrap();
    drop(log);
    (written(&tap), tail)
}

#[test]
fn a_log_in_json() {
    let kinds = |log: &str| -> Vec<String> {
        let kind = |line: &str| match serde_json::from_str::<serde_json::Value>(line) {
            Ok(record) if record["type"].is_string() => record["type"].as_str().unwrap().to_owned(),
            _ => line.to_owned(),
        };
        log.lines().map(kind).collect()
    };
    let output = r#"{"level":"INFO"}"#;
    let (log, tail) = json_log(SystemLogLevel::Debug);
    assert_eq!(kinds(&log), ["platform.initRuntimeDone", "initialised", "platform.start", output, "platform.report"]);
    assert_eq!(kinds(&tail), ["platform.start", output, "platform.report"]);
    let (log, tail) = json_log(SystemLogLevel::Info);
    assert_eq!(kinds(&log), ["initialised", "platform.start", output, "platform.report"]);
    assert_eq!(kinds(&tail), ["platform.start", output, "platform.report"]);
    let (log, tail) = json_log(SystemLogLevel::Warn);
    assert_eq!(kinds(&log), ["initialised{\"level\":\"INFO\"}", "platform.report"]);
    assert_eq!(kinds(&tail), [output, "platform.report"]);
    assert!(log.ends_with("}\n") && !log.contains('\x1b'), "{log}");
}

#[test]
fn records_of_the_function_stand_on_lines_of_their_own() {
    let (mut log, tap) = tapped(Color::Plain, CarriageReturns::ToLineFeeds);
    log.output(OutputStream::Stdout, b"open".to_vec());
    log.record(OutputStream::Stdout, b"a\rb\n".to_vec());
    log.record(OutputStream::Stdout, b"long ".to_vec());
    log.more_of_record(OutputStream::Stdout, b"record\n".to_vec());
    drop(log);
    assert_eq!(written(&tap), "open\na\rb\nlong record\n");
}

#[test]
fn lines_of_the_init_phase() {
    let version = RuntimeVersion { name: "python:3.13.v37".to_owned(), arn: "arn:aws:lambda:us-east-1::runtime:0".to_owned() };
    let init_start = |runtime_version| {
        LogEvent::InitStart(InitStart {
            phase: InitPhase::Init,
            runtime_version,
            function_name: "fn".to_owned(),
            function_version: "$LATEST".to_owned(),
            instance_id: "i".to_owned(),
            memory_size: MemorySize::from_mb(128).unwrap(),
        })
    };
    let extension = |state, events, error_type: Option<&'static str>| LogEvent::Extension {
        name: "my-ext".to_owned(),
        state,
        events,
        error_type: error_type.map(ErrorType::from),
    };
    let subscribed = |api| LogEvent::Subscribed {
        api,
        name: "x".to_owned(),
        streams: vec![TelemetryStream::Platform, TelemetryStream::Function, TelemetryStream::Extension],
    };
    for (event, line) in [
        (init_start(None), None),
        (
            init_start(Some(version)),
            Some("INIT_START Runtime Version: python:3.13.v37\tRuntime Version ARN: arn:aws:lambda:us-east-1::runtime:0"),
        ),
        (LogEvent::InitRuntimeDone { phase: InitPhase::Init, status: InitStatus::Timeout }, None),
        (LogEvent::InitReport { duration: Duration::ZERO, phase: InitPhase::Init, status: InitStatus::Success }, None),
        (extension(ExtensionState::Ready, vec![], None), Some("EXTENSION\tName: my-ext\tState: Ready\tEvents: []")),
        (
            extension(ExtensionState::Ready, vec![ExtensionEvent::Invoke, ExtensionEvent::Shutdown], None),
            Some("EXTENSION\tName: my-ext\tState: Ready\tEvents: [INVOKE, SHUTDOWN]"),
        ),
        (
            extension(ExtensionState::LaunchError, vec![], Some("Extension.LaunchError")),
            Some("EXTENSION\tName: my-ext\tState: LaunchError\tEvents: []\tError Type: Extension.LaunchError"),
        ),
        (subscribed(TelemetryApi::Telemetry), Some("TELEMETRY\tName: x\tState: Subscribed\tTypes: [Platform, Function, Extension]")),
        (subscribed(TelemetryApi::Logs), Some("LOGS\tName: x\tState: Subscribed\tTypes: [Platform, Function, Extension]")),
    ] {
        assert_eq!(text::line(&event).as_deref(), line);
    }
}

#[tokio::test]
async fn a_log_in_green_and_plain() {
    let green = |line: &str| format!("\x1b[32m{line}\x1b[0m\n");
    let plain = |line: &str| format!("{line}\n");
    for (color, wrapped) in [(Color::Green, &green as &dyn Fn(&str) -> String), (Color::Plain, &plain)] {
        let (mut log, tap) = tapped(color, CarriageReturns::ToLineFeeds);
        log.note("before");
        log.output(OutputStream::Stdout, b"init\r\n".to_vec());
        log.log(&start());
        log.output(OutputStream::Stdout, b"a\rb\r\nc\n".to_vec());
        log.log(&LogEvent::Failed { request_id: id(), error: PlatformError::Exited(RuntimeEnd::Exited(7)) });
        log.log(&LogEvent::End { request_id: id() });
        log.log(&report(None, ReportStatus::Success));
        log.flush().await;
        let written: Vec<u8> = tap.try_iter().flatten().collect();
        let start = format!("START RequestId: {ID} Version: $LATEST");
        let failed = format!("RequestId: {ID} Error: Runtime exited with error: exit status 7\nRuntime.ExitError\n");
        let end = format!("END RequestId: {ID}");
        let figures =
            format!("REPORT RequestId: {ID}\tDuration: 3.01 ms\tBilled Duration: 4 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t");
        let expected = ["before\ninit\n\n", &wrapped(&start), "a\nb\n\nc\n", &failed, &wrapped(&end), &wrapped(&figures)].concat();
        assert_eq!(String::from_utf8(written).unwrap(), expected);
        let tail = format!("{start}\na\nb\n\nc\n{failed}{end}\n{figures}\n");
        assert_eq!(String::from_utf8(log.log_tail()).unwrap(), tail);
    }
}

#[tokio::test]
async fn output_may_stay_as_it_is() {
    let (mut log, tap) = tapped(Color::Plain, CarriageReturns::Keep);
    log.output(OutputStream::Stdout, b"a\r\0\xff\r\n".to_vec());
    log.flush().await;
    assert_eq!(tap.try_iter().flatten().collect::<Vec<u8>>(), b"a\r\0\xff\r\n");
}

/// Blocks in its first write until the test lets go.
struct Stuck(mpsc::Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_is_given_up() {
    let (release, stuck) = mpsc::channel();
    let mut log = Report::to_writer(Stuck(stuck), Color::Plain, CarriageReturns::Keep);
    let mut pushed = 0;
    while log.has_room() {
        log.output(OutputStream::Stdout, vec![b'x'; 10_000]);
        pushed += 10_000;
    }
    assert_eq!(pushed, 270_000);
    // The platform's lines are taken all the same.
    log.log(&start());
    // With the clock paused, this takes no time.
    log.flush().await;
    drop(release);
    log.room().await;
    assert!(log.has_room());
}

/// A reader that is gone.
struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_reader_that_is_gone_holds_up_nothing() {
    let mut log = Report::to_writer(Gone, Color::Plain, CarriageReturns::Keep);
    for _ in 0..100 {
        log.room().await;
        log.output(OutputStream::Stdout, vec![b'x'; 10_000]);
    }
    log.flush().await;
    assert!(log.has_room());
}

#[tokio::test]
async fn nothing_to_write_nothing_to_wait_for() {
    let mut log = Report::to_stderr(Color::Plain, CarriageReturns::Keep);
    log.room().await;
    log.flush().await;
    assert_eq!(log.log_tail(), b"");
}

#[test]
fn run_results() {
    let success = |payload: &'static [u8]| Outcome::Success { payload: Bytes::from_static(payload) };
    let failure =
        FunctionError { payload: Bytes::from_static(b"{\"errorType\":\"E\"}"), kind: ErrorKind::Handler(ErrorType::from_header(None)) };
    let with_init = figures(Some(110_100));
    let without_init = figures(None);
    for (outcome, figures, log_tail, exit_code, json) in [
        (
            success(b"{ \"a\": 1.0 }"),
            Some(&with_init),
            &b"START\n\xff\n"[..],
            0,
            r#"{"version":1,"payload":{"a":1.0},"functionError":null,"logTail":"START\n�\n","report":{"initMs":110.1,"durationMs":3.01,"billedMs":114,"memorySizeMb":128,"maxMemoryUsedMb":36},"exitCode":0}"#,
        ),
        (
            Outcome::FunctionError(failure),
            Some(&without_init),
            b"",
            1,
            r#"{"version":1,"payload":{"errorType":"E"},"functionError":"Unhandled","logTail":"","report":{"initMs":null,"durationMs":3.01,"billedMs":4,"memorySizeMb":128,"maxMemoryUsedMb":36},"exitCode":1}"#,
        ),
        (
            success(b"Hello \"you\"\n"),
            None,
            b"",
            0,
            r#"{"version":1,"payload":"Hello \"you\"\n","functionError":null,"logTail":"","report":null,"exitCode":0}"#,
        ),
        (success(b""), None, b"", 0, r#"{"version":1,"payload":null,"functionError":null,"logTail":"","report":null,"exitCode":0}"#),
        (
            Outcome::Interrupted { signal: 15 },
            None,
            b"",
            143,
            r#"{"version":1,"payload":null,"functionError":null,"logTail":"","report":null,"exitCode":143}"#,
        ),
    ] {
        let line = RunResult { outcome: &outcome, figures, log_tail, exit_code }.to_json_line();
        assert_eq!(String::from_utf8(line).unwrap(), format!("{json}\n"));
    }
}
