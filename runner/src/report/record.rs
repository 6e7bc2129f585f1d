//! The platform's events as JSON records, one function per event kind: for logs in JSON and for subscribers of the Telemetry and the Logs API.
//! The format is in `docs/formats/telemetry.md`.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::value::RawValue;

use super::text;
use crate::lambda::{
    ErrorType, ExtensionEvent, ExtensionState, InitPhase, InitStart, InitStatus, LogEvent, ReportFigures, ReportStatus, ResponseFigures,
    RuntimeDone, RuntimeDoneStatus, Span, TelemetryApi, TelemetrySchema, TelemetryStream,
};

/// We never freeze a snapshot nor provision in advance.
const INITIALIZATION_TYPE: &str = "on-demand";

/// Whom a record is for; the kinds and fields differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordForm {
    /// A log in JSON.
    Log,
    /// A subscriber, of either API.
    Subscriber(TelemetrySchema),
}

impl RecordForm {
    fn knows(self, event: &LogEvent) -> bool {
        let (is_old, is_oldest, is_log) = match self {
            Self::Log => (false, false, true),
            Self::Subscriber(schema) => (schema.api() == TelemetryApi::Logs, schema == TelemetrySchema::Logs20200815, false),
        };
        match event {
            LogEvent::InitStart(_) | LogEvent::InitRuntimeDone { .. } | LogEvent::InitReport { .. } => !is_old,
            LogEvent::RuntimeDone(_) => !is_oldest,
            LogEvent::End { .. } => is_old,
            LogEvent::TimedOut { .. } | LogEvent::Failed { .. } => is_old || is_log,
            LogEvent::Extension { .. }
            | LogEvent::Subscribed { .. }
            | LogEvent::LogsDropped { .. }
            | LogEvent::Start { .. }
            | LogEvent::Report { .. } => true,
        }
    }
}

/// An event as its record, on one line without a line feed; nothing where the form does not know this kind.
pub fn platform_record(event: &LogEvent, at: Duration, form: RecordForm) -> Option<String> {
    form.knows(event).then(|| match event {
        LogEvent::InitStart(start) => envelope(at, "platform.initStart", &init_start(start)),
        LogEvent::InitRuntimeDone { phase, status } => envelope(at, "platform.initRuntimeDone", &init_done(*phase, status, None)),
        LogEvent::InitReport { duration, phase, status } => {
            envelope(at, "platform.initReport", &init_done(*phase, status, Some(*duration)))
        }
        LogEvent::Extension { name, state, events, error_type } => {
            envelope(at, "platform.extension", &extension(name, *state, events, error_type.as_ref()))
        }
        LogEvent::Subscribed { api, name, streams } => envelope(at, subscription_kind(*api), &subscribed(name, streams)),
        LogEvent::LogsDropped { bytes, records, reason } => {
            envelope(at, "platform.logsDropped", &LogsDropped { dropped_bytes: *bytes, dropped_records: *records, reason })
        }
        LogEvent::Start { request_id, version, trace_id, tenant_id } => {
            let tenant_id = tenant_id.as_deref();
            envelope(at, "platform.start", &Start { request_id: request_id.as_str(), version, tracing: tracing(trace_id), tenant_id })
        }
        LogEvent::RuntimeDone(done) => envelope(at, "platform.runtimeDone", &runtime_done(done)),
        LogEvent::TimedOut { .. } | LogEvent::Failed { .. } => envelope(at, "platform.fault", &text::line(event).unwrap_or_default()),
        LogEvent::End { request_id } => envelope(at, "platform.end", &End { request_id: request_id.as_str() }),
        LogEvent::Report { request_id, figures, status, trace_id } => {
            envelope(at, "platform.report", &report(request_id.as_str(), figures, status, trace_id))
        }
    })
}

/// Something that was written by a function or an extension, as its record. What says to be JSON is embedded if it is an object.
pub fn output_record(stream: TelemetryStream, text: &[u8], at: Duration, embed: Embed) -> String {
    let text = String::from_utf8_lossy(text);
    let object =
        (embed == Embed::Objects && text.trim_start().starts_with('{')).then(|| serde_json::from_str::<&RawValue>(&text).ok()).flatten();
    match object {
        // Between tokens they are white space, and nowhere else in JSON; a record is one line.
        Some(object) if object.get().contains(['\n', '\r']) => {
            let line = RawValue::from_string(object.get().replace(['\n', '\r'], " "));
            line.map_or_else(|_| envelope(at, stream.name(), &text), |line| envelope(at, stream.name(), &line))
        }
        Some(object) => envelope(at, stream.name(), object),
        None => envelope(at, stream.name(), &text),
    }
}

/// What becomes of output that is JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Embed {
    /// It stays text.
    Nothing,
    /// Objects are embedded, since the function logs in JSON.
    Objects,
}

#[derive(Serialize)]
struct Envelope<'a, T: ?Sized> {
    time: &'a str,
    r#type: &'a str,
    record: &'a T,
}

fn envelope<T: Serialize + ?Sized>(at: Duration, kind: &str, record: &T) -> String {
    let time = time(at);
    serde_json::to_string(&Envelope { time: &time, r#type: kind, record }).expect("strings, numbers and checked JSON are always JSON")
}

fn time(since_epoch: Duration) -> String {
    let millis = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
    let time: DateTime<Utc> = DateTime::from_timestamp_millis(millis).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Milliseconds with three decimals at most.
fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InitStartRecord<'a> {
    initialization_type: &'static str,
    phase: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime_version_arn: Option<&'a str>,
    function_name: &'a str,
    function_version: &'a str,
    instance_id: &'a str,
    instance_max_memory: u64,
}

fn init_start(start: &InitStart) -> InitStartRecord<'_> {
    let version = start.runtime_version.as_ref();
    InitStartRecord {
        initialization_type: INITIALIZATION_TYPE,
        phase: phase(start.phase),
        runtime_version: version.map(|version| version.name.as_str()),
        runtime_version_arn: version.map(|version| version.arn.as_str()),
        function_name: &start.function_name,
        function_version: &start.function_version,
        instance_id: &start.instance_id,
        instance_max_memory: start.memory_size.bytes(),
    }
}

fn phase(phase: InitPhase) -> &'static str {
    match phase {
        InitPhase::Init => "init",
        InitPhase::Invoke => "invoke",
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InitDone {
    initialization_type: &'static str,
    phase: &'static str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<DurationMetrics>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DurationMetrics {
    duration_ms: f64,
}

fn init_done(of: InitPhase, status: &InitStatus, duration: Option<Duration>) -> InitDone {
    let (status, error_type) = match status {
        InitStatus::Success => ("success", None),
        InitStatus::Timeout => ("timeout", None),
        InitStatus::Error(error_type) => ("error", Some(error_type.to_string())),
    };
    let metrics = duration.map(|duration| DurationMetrics { duration_ms: millis(duration) });
    InitDone { initialization_type: INITIALIZATION_TYPE, phase: phase(of), status, error_type, metrics }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Extension<'a> {
    name: &'a str,
    state: &'static str,
    events: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_type: Option<String>,
}

fn extension<'a>(name: &'a str, state: ExtensionState, events: &[ExtensionEvent], error_type: Option<&ErrorType>) -> Extension<'a> {
    let events = events.iter().map(ToString::to_string).collect();
    Extension { name, state: state.name(), events, error_type: error_type.map(ToString::to_string) }
}

#[derive(Serialize)]
struct Subscribed<'a> {
    name: &'a str,
    state: &'static str,
    types: Vec<&'static str>,
}

fn subscribed<'a>(name: &'a str, streams: &[TelemetryStream]) -> Subscribed<'a> {
    Subscribed { name, state: "Subscribed", types: streams.iter().map(|stream| stream.name()).collect() }
}

fn subscription_kind(api: TelemetryApi) -> &'static str {
    match api {
        TelemetryApi::Telemetry => "platform.telemetrySubscription",
        TelemetryApi::Logs => "platform.logsSubscription",
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LogsDropped<'a> {
    dropped_bytes: u64,
    dropped_records: u64,
    reason: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Start<'a> {
    request_id: &'a str,
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracing: Option<Tracing<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Tracing<'a> {
    r#type: &'static str,
    value: &'a str,
}

fn tracing(trace_id: &str) -> Option<Tracing<'_>> {
    (!trace_id.is_empty()).then_some(Tracing { r#type: "X-Amzn-Trace-Id", value: trace_id })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct End<'a> {
    request_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeDoneRecord<'a> {
    request_id: &'a str,
    status: &'static str,
    metrics: RuntimeDoneMetrics,
    #[serde(skip_serializing_if = "Option::is_none")]
    spans: Option<[SpanRecord; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracing: Option<Tracing<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_type: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeDoneMetrics {
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    produced_bytes: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpanRecord {
    name: &'static str,
    start: String,
    duration_ms: f64,
}

fn runtime_done(done: &RuntimeDone) -> RuntimeDoneRecord<'_> {
    let (status, error_type) = match &done.status {
        RuntimeDoneStatus::Success => ("success", None),
        RuntimeDoneStatus::Error(error_type) => ("error", Some(error_type)),
        RuntimeDoneStatus::Failure(error_type) => ("failure", Some(error_type)),
        RuntimeDoneStatus::Timeout => ("timeout", None),
    };
    let span = |name, span: Span| SpanRecord { name, start: time(span.start), duration_ms: millis(span.duration) };
    let spans = |response: ResponseFigures| [span("responseLatency", response.latency), span("responseDuration", response.duration)];
    RuntimeDoneRecord {
        request_id: done.request_id.as_str(),
        status,
        metrics: RuntimeDoneMetrics { duration_ms: millis(done.duration), produced_bytes: done.response.map(|response| response.bytes) },
        spans: done.response.map(spans),
        tracing: tracing(&done.trace_id),
        error_type: error_type.map(ToString::to_string),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReportRecord<'a> {
    request_id: &'a str,
    status: &'static str,
    metrics: ReportMetrics,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracing: Option<Tracing<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_type: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReportMetrics {
    duration_ms: f64,
    billed_duration_ms: u64,
    #[serde(rename = "memorySizeMB")]
    memory_size_mb: u32,
    #[serde(rename = "maxMemoryUsedMB")]
    max_memory_used_mb: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    init_duration_ms: Option<f64>,
}

fn report<'a>(request_id: &'a str, figures: &ReportFigures, status: &ReportStatus, trace_id: &'a str) -> ReportRecord<'a> {
    let (status, error_type) = match status {
        ReportStatus::Success => ("success", None),
        ReportStatus::Timeout => ("timeout", None),
        ReportStatus::Reported(error_type) | ReportStatus::Error(error_type) => ("error", Some(error_type.to_string())),
    };
    let metrics = ReportMetrics {
        duration_ms: millis(figures.duration),
        billed_duration_ms: figures.billed_ms,
        memory_size_mb: figures.memory_size.mb(),
        max_memory_used_mb: figures.max_memory_used_mb,
        init_duration_ms: figures.init.map(millis),
    };
    ReportRecord { request_id, status, metrics, tracing: tracing(trace_id), error_type }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
