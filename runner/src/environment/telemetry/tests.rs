//! Delivery end to end: extensions in this process, by HTTP and by TCP.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::function::MemorySize;
use crate::lambda::{
    InitPhase, ReportFigures, ReportStatus, RequestId, TelemetryApi, TelemetryBuffering, TelemetryDestination, TelemetryMethod,
    TelemetrySchema,
};
use crate::report::SystemLogLevel;

const AT: Duration = Duration::from_millis(1_660_000_000_123);

/// Telemetry whose sandbox's loopback is ours.
fn telemetry() -> Telemetry {
    Telemetry::new(Arc::new(|port| Box::pin(TcpStream::connect(("127.0.0.1", port)))), LogFormat::Text)
}

/// Telemetry whose sandbox nobody can be reached in, and how often that was tried.
fn unreachable() -> (Telemetry, Arc<AtomicUsize>) {
    let tried = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tried);
    let connect: Connect = Arc::new(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(Err(io::ErrorKind::ConnectionRefused.into())))
    });
    (Telemetry::new(connect, LogFormat::Text), tried)
}

fn subscription(schema: TelemetrySchema, destination: TelemetryDestination) -> TelemetrySubscription {
    TelemetrySubscription {
        schema,
        streams: vec![TelemetryStream::Platform, TelemetryStream::Function, TelemetryStream::Extension],
        destination,
        buffering: TelemetryBuffering { timeout: Duration::from_millis(25), ..TelemetryBuffering::default() },
    }
}

fn by_tcp(port: u16) -> TelemetrySubscription {
    subscription(TelemetrySchema::Telemetry20221213, TelemetryDestination::Tcp { port })
}

fn by_http(schema: TelemetrySchema, port: u16) -> TelemetrySubscription {
    let authority = format!("sandbox.localdomain:{port}");
    subscription(schema, TelemetryDestination::Http { port, authority, path: "/take?all".to_owned(), method: TelemetryMethod::Post })
}

/// An extension that takes requests. It answers each with the next of its statuses, then with 200, once it is `let_on`.
struct Extension {
    port: u16,
    requests: mpsc::UnboundedReceiver<(String, Value)>,
    let_on: mpsc::UnboundedSender<()>,
    _task: tokio::task::JoinSet<()>,
}

impl Extension {
    async fn listen(statuses: &'static [u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (taken, requests) = mpsc::unbounded_channel();
        let (let_on, mut go) = mpsc::unbounded_channel();
        let mut task = tokio::task::JoinSet::new();
        task.spawn(async move {
            let mut statuses = statuses.iter();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = BufReader::new(stream);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    stream.read_line(&mut head).await.unwrap();
                }
                let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap().parse().unwrap();
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await.unwrap();
                let _ = taken.send((head, serde_json::from_slice(&body).unwrap()));
                if go.recv().await.is_none() {
                    std::future::pending::<()>().await;
                }
                let status = statuses.next().unwrap_or(&200);
                stream.write_all(format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nOK").as_bytes()).await.unwrap();
            }
        });
        Self { port, requests, let_on, _task: task }
    }

    /// The next request, which is answered.
    async fn request(&mut self) -> (String, Vec<Value>) {
        let (head, body) = self.requests.recv().await.unwrap();
        self.let_on.send(()).unwrap();
        let Value::Array(records) = body else { panic!("{body}") };
        (head, records)
    }

    /// Records until one is of this kind, in order.
    async fn records_until(&mut self, kind: &str) -> Vec<Value> {
        let mut all = Vec::new();
        while all.last().is_none_or(|last: &Value| last["type"] != kind) {
            all.extend(self.request().await.1);
        }
        all
    }
}

fn kinds(records: &[Value]) -> Vec<String> {
    let kind = |record: &Value| match &record["record"] {
        Value::String(text) => format!("{} {text}", record["type"].as_str().unwrap()),
        _ => record["type"].as_str().unwrap().to_owned(),
    };
    records.iter().map(kind).collect()
}

fn id() -> RequestId {
    RequestId::from_random([0xab; 16])
}

fn init_done(status: InitStatus) -> LogEvent {
    LogEvent::InitReport { duration: Duration::from_millis(5), phase: InitPhase::Init, status }
}

fn subscribed(api: TelemetryApi) -> LogEvent {
    LogEvent::Subscribed { api, name: "e".to_owned(), streams: vec![TelemetryStream::Platform] }
}

/// One invocation that prints a line.
fn invoke(telemetry: &mut Telemetry) {
    let start = LogEvent::Start { request_id: id(), version: "$LATEST".to_owned(), trace_id: String::new(), tenant_id: None };
    telemetry.event(&start, AT);
    telemetry.output(&Source::Function, b"hi\n", AT);
    telemetry.event(&LogEvent::End { request_id: id() }, AT);
    let figures = ReportFigures::new(None, Duration::from_millis(3), MemorySize::from_mb(128).unwrap(), 1 << 20);
    telemetry.event(&LogEvent::Report { request_id: id(), figures, status: ReportStatus::Success, trace_id: String::new() }, AT);
}

#[tokio::test]
async fn records_are_posted_in_order_and_those_from_before_come_first() {
    let mut extension = Extension::listen(&[]).await;
    let mut telemetry = telemetry();
    telemetry.output(&Source::Function, b"before\nunended", AT);
    telemetry.event(&LogEvent::InitRuntimeDone { phase: InitPhase::Init, status: InitStatus::Success }, AT);
    telemetry.output(&Source::Extension { name: "e".to_owned() }, b"mine\n", AT);
    telemetry.subscribe("e", by_http(TelemetrySchema::Telemetry20221213, extension.port));
    telemetry.event(&subscribed(TelemetryApi::Telemetry), AT);
    let (head, mut records) = extension.request().await;
    assert_eq!(records[0], serde_json::json!({"time": "2022-08-08T23:06:40.123Z", "type": "function", "record": "before"}));
    let port = extension.port;
    for line in ["POST /take?all HTTP/1.1\r\n", &format!("Host: sandbox.localdomain:{port}\r\n"), "Content-Type: application/json\r\n"] {
        assert!(head.contains(line), "{head}");
    }
    telemetry.event(&init_done(InitStatus::Success), AT);
    invoke(&mut telemetry);
    records.extend(extension.records_until("platform.report").await);
    let expected = [
        "function before",
        "function unended",
        "platform.initRuntimeDone",
        "extension mine",
        "platform.telemetrySubscription",
        "platform.initReport",
        "platform.start",
        "function hi",
        "platform.report",
    ];
    assert_eq!(kinds(&records), expected);
}

#[tokio::test]
async fn the_logs_api_has_its_own_kinds() {
    let mut extension = Extension::listen(&[]).await;
    let mut telemetry = telemetry();
    telemetry.subscribe("e", by_http(TelemetrySchema::Logs20200815, extension.port));
    telemetry.event(&subscribed(TelemetryApi::Logs), AT);
    telemetry.event(&init_done(InitStatus::Success), AT);
    invoke(&mut telemetry);
    let records = extension.records_until("platform.report").await;
    assert_eq!(kinds(&records), ["platform.logsSubscription", "platform.start", "function hi", "platform.end", "platform.report"]);
}

#[tokio::test]
async fn a_batch_that_was_refused_comes_again() {
    let mut extension = Extension::listen(&[500, 404]).await;
    let mut telemetry = telemetry();
    telemetry.subscribe("e", by_http(TelemetrySchema::Telemetry20250129, extension.port));
    telemetry.output(&Source::Function, b"one\n", AT);
    let first = extension.request().await.1;
    telemetry.output(&Source::Function, b"two\n", AT);
    assert_eq!(extension.request().await.1, first);
    assert_eq!(extension.request().await.1, first);
    assert_eq!(kinds(&extension.request().await.1), ["function two"]);
}

#[tokio::test]
async fn lines_on_one_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut telemetry = telemetry();
    telemetry.subscribe("e", by_tcp(listener.local_addr().unwrap().port()));
    telemetry.output(&Source::Function, b"one\ntwo\n", AT);
    let accept = async || BufReader::new(listener.accept().await.unwrap().0).lines();
    let line = |text: &str| format!(r#"{{"time":"2022-08-08T23:06:40.123Z","type":"function","record":"{text}"}}"#);
    let mut lines = accept().await;
    assert_eq!(lines.next_line().await.unwrap().unwrap(), line("one"));
    assert_eq!(lines.next_line().await.unwrap().unwrap(), line("two"));
    telemetry.output(&Source::Function, b"three\n", AT);
    assert_eq!(lines.next_line().await.unwrap().unwrap(), line("three"));
    // Closed, it is opened again, and nothing is lost.
    drop(lines);
    telemetry.output(&Source::Function, b"four\n", AT);
    let mut lines = accept().await;
    assert_eq!(lines.next_line().await.unwrap().unwrap(), line("four"));
}

#[tokio::test]
async fn who_is_slow_loses_records_and_is_told_how_many() {
    const LINES: usize = 4000;
    let mut extension = Extension::listen(&[]).await;
    let mut telemetry = telemetry();
    telemetry.subscribe("e", by_http(TelemetrySchema::Telemetry20221213, extension.port));
    let line = [vec![b'x'; 1000], b"\n".to_vec()].concat();
    for _ in 0..LINES {
        telemetry.output(&Source::Function, &line, AT);
    }
    // It has not been let on yet, and nobody waited for it.
    let (mut arrived, mut dropped) = (0, 0);
    while arrived + dropped < LINES {
        for record in extension.request().await.1 {
            match record["record"]["droppedRecords"].as_u64() {
                Some(records) => dropped += records as usize,
                None => arrived += 1,
            }
        }
    }
    assert_eq!(arrived + dropped, LINES);
    assert!((900..LINES - 1000).contains(&arrived), "about a megabyte may wait, not {arrived} kilobytes");
}

#[tokio::test]
async fn flushing_waits_for_answers_but_not_for_ever() {
    let mut extension = Extension::listen(&[]).await;
    let mut telemetry = telemetry();
    let mut slow = by_http(TelemetrySchema::Telemetry20221213, extension.port);
    slow.buffering.timeout = Duration::from_secs(30);
    telemetry.subscribe("e", slow);
    telemetry.output(&Source::Function, b"last words", AT);
    // Nobody lets the extension on: the deadline ends it.
    telemetry.flush(Instant::now() + Duration::from_millis(50), AT).await;
    assert_eq!(kinds(&extension.request().await.1), ["function last words"]);
    telemetry.output(&Source::Function, b"more\n", AT);
    extension.let_on.send(()).unwrap();
    telemetry.flush(Instant::now() + Duration::from_secs(60), AT).await;
    assert_eq!(kinds(&extension.request().await.1), ["function more"]);
    // Nothing is left, nothing is waited for.
    telemetry.flush(Instant::now() + Duration::from_secs(3600), AT).await;
}

#[tokio::test]
async fn a_failure_is_told_at_once() {
    let mut extension = Extension::listen(&[]).await;
    let mut telemetry = telemetry();
    let mut slow = by_http(TelemetrySchema::Telemetry20221213, extension.port);
    // Longer than a test may take.
    slow.buffering.timeout = Duration::from_secs(24 * 3600);
    telemetry.subscribe("e", slow);
    telemetry.output(&Source::Function, b"last words", AT);
    let figures = ReportFigures::new(None, Duration::from_millis(3), MemorySize::from_mb(128).unwrap(), 1 << 20);
    let status = ReportStatus::Error("Runtime.ExitError".into());
    telemetry.event(&LogEvent::Report { request_id: id(), figures, status, trace_id: String::new() }, AT);
    assert_eq!(kinds(&extension.request().await.1), ["function last words", "platform.report"]);
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_reached_is_tried_and_given_up() {
    let (mut telemetry, tried) = unreachable();
    telemetry.subscribe("e", by_tcp(1));
    telemetry.output(&Source::Function, b"one\n", AT);
    let begun = Instant::now();
    telemetry.flush(begun + Duration::from_secs(3600), AT).await;
    assert_eq!(tried.load(Ordering::Relaxed), 10);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn while_frozen_nothing_is_tried() {
    let (mut telemetry, tried) = unreachable();
    telemetry.subscribe("e", by_tcp(1));
    telemetry.set_frozen(true);
    telemetry.output(&Source::Function, b"one\n", AT);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(tried.load(Ordering::Relaxed), 0);
    telemetry.set_frozen(false);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(tried.load(Ordering::Relaxed), 10);
}

#[tokio::test]
async fn subscriptions_are_made_once_and_end_with_the_sandbox() {
    let mut extension = Extension::listen(&[]).await;
    let mut telemetry = telemetry();
    telemetry.output(&Source::Function, b"past\n", AT);
    let platform = || by_http(TelemetrySchema::Telemetry20221213, extension.port);
    let (first, again, third) = (platform(), platform(), platform());
    telemetry.subscribe("e", first);
    telemetry.subscribe("e", again);
    telemetry.flush(Instant::now(), AT).await;
    assert_eq!(kinds(&extension.request().await.1), ["function past"]);
    telemetry.end();
    telemetry.output(&Source::Function, b"anew\n", AT);
    telemetry.event(&init_done(InitStatus::Timeout), AT);
    telemetry.subscribe("e", third);
    assert_eq!(kinds(&extension.records_until("platform.initReport").await), ["function anew", "platform.initReport"]);
    // Then nothing is remembered.
    telemetry.event(&init_done(InitStatus::Success), AT);
    assert!(telemetry.past.is_none());
}

#[tokio::test]
async fn nothing_is_kept_where_nobody_listens() {
    let mut telemetry = telemetry();
    telemetry.event(&init_done(InitStatus::Success), AT);
    telemetry.output(&Source::Function, b"unended", AT);
    invoke(&mut telemetry);
    assert_eq!(telemetry.lines.end(), []);
    assert!(!telemetry.has_listeners());
}

#[tokio::test]
async fn much_of_the_past_is_forgotten() {
    let mut extension = Extension::listen(&[]).await;
    let mut telemetry = telemetry();
    for _ in 0..40 {
        telemetry.output(&Source::Function, &[vec![b'x'; 100_000], b"\n".to_vec()].concat(), AT);
    }
    telemetry.event(&init_done(InitStatus::Success), AT);
    let mut many = by_http(TelemetrySchema::Telemetry20221213, extension.port);
    many.buffering.max_bytes = 1_048_576;
    // As if it had been made a moment earlier.
    telemetry.past = Some(Past::default());
    for _ in 0..40 {
        telemetry.output(&Source::Function, &[vec![b'x'; 100_000], b"\n".to_vec()].concat(), AT);
    }
    telemetry.subscribe("e", many);
    telemetry.event(&init_done(InitStatus::Success), AT);
    let records = extension.records_until("platform.initReport").await;
    assert_eq!(records[0]["type"], "platform.logsDropped");
    assert_eq!(records[0]["record"]["droppedRecords"].as_u64().unwrap() as usize + records.len() - 2, 40);
}

#[tokio::test]
async fn records_of_a_function_that_logs_in_json() {
    let mut extension = Extension::listen(&[]).await;
    let format = LogFormat::Json { level: SystemLogLevel::Info };
    let mut telemetry = Telemetry::new(Arc::new(|port| Box::pin(TcpStream::connect(("127.0.0.1", port)))), format);
    telemetry.subscribe("e", by_http(TelemetrySchema::Telemetry20221213, extension.port));
    telemetry.output(&Source::Function, b"plain", AT);
    let at = Some(Duration::from_millis(1_660_000_001_000));
    for (message, begins, ends) in [
        (&b"{\"level\":\"INFO\",\n\"message\":\"x\"}\n"[..], true, true),
        (b"two\nlines", true, true),
        (b"half", true, false),
        (b" whole\n", false, true),
    ] {
        telemetry.record(&LogRecord { message: message.to_vec(), at, begins, ends }, AT);
    }
    telemetry.event(&init_done(InitStatus::Success), AT);
    let records = extension.records_until("platform.initReport").await;
    let seen: Vec<_> = records.iter().map(|record| (&record["record"], record["time"].as_str().unwrap())).collect();
    assert_eq!(seen[0], (&Value::from("plain"), "2022-08-08T23:06:40.123Z"));
    assert_eq!(seen[1], (&serde_json::json!({"level": "INFO", "message": "x"}), "2022-08-08T23:06:41.000Z"));
    assert_eq!(seen[2].0, "two\nlines");
    assert_eq!((seen[3].0, seen[4].0), (&Value::from("half"), &Value::from(" whole")));
}
