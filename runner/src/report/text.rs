//! The platform's lines in their text form, one function per event kind, in CloudWatch's present wording and order.

use std::fmt::Display;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::function::Timeout;
use crate::lambda::{
    ErrorType, ExtensionEvent, ExtensionState, InitPhase, InitStart, InitStatus, LogEvent, PlatformError, ReportFigures, ReportStatus,
    RequestId, RuntimeVersion, TelemetryApi, TelemetryStream,
};

/// The event's line or lines, without the last line feed. Some are for telemetry alone.
pub(super) fn line(event: &LogEvent) -> Option<String> {
    Some(match event {
        LogEvent::InitStart(InitStart { runtime_version: Some(version), .. }) => init_start(version),
        // CloudWatch has INIT_REPORT of initialisations that went wrong.
        LogEvent::InitStart(_)
        | LogEvent::InitRuntimeDone { .. }
        | LogEvent::InitReport { status: InitStatus::Success, .. }
        | LogEvent::RuntimeDone(_)
        | LogEvent::LogsDropped { .. } => return None,
        LogEvent::InitReport { duration, phase, status } => init_report(*duration, *phase, status),
        LogEvent::Extension { name, state, events, error_type } => extension(name, *state, events, error_type.as_ref()),
        LogEvent::Subscribed { api, name, streams } => subscribed(*api, name, streams),
        LogEvent::Start { request_id, version, .. } => format!("START RequestId: {request_id} Version: {version}"),
        LogEvent::TimedOut { request_id, timeout, at } => timed_out(request_id, *timeout, *at),
        LogEvent::Failed { request_id, error } => failed(request_id, error),
        LogEvent::End { request_id } => format!("END RequestId: {request_id}"),
        LogEvent::Report { request_id, figures, status, .. } => report(request_id, figures, status),
    })
}

/// Whether docker-lambda writes this line in green.
pub(super) fn is_colored(event: &LogEvent) -> bool {
    matches!(event, LogEvent::Start { .. } | LogEvent::End { .. } | LogEvent::Report { .. })
}

fn init_start(version: &RuntimeVersion) -> String {
    format!("INIT_START Runtime Version: {}\tRuntime Version ARN: {}", version.name, version.arn)
}

fn extension(name: &str, state: ExtensionState, events: &[ExtensionEvent], error_type: Option<&ErrorType>) -> String {
    let error = error_type.map(|error_type| format!("\tError Type: {error_type}")).unwrap_or_default();
    format!("EXTENSION\tName: {name}\tState: {state}\tEvents: [{}]{error}", listed(events))
}

fn subscribed(api: TelemetryApi, name: &str, streams: &[TelemetryStream]) -> String {
    let api = match api {
        TelemetryApi::Telemetry => "TELEMETRY",
        TelemetryApi::Logs => "LOGS",
    };
    format!("{api}\tName: {name}\tState: Subscribed\tTypes: [{}]", listed(streams))
}

fn listed<T: Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

fn init_report(duration: Duration, phase: InitPhase, status: &InitStatus) -> String {
    let phase = match phase {
        InitPhase::Init => "init",
        InitPhase::Invoke => "invoke",
    };
    let status = match status {
        InitStatus::Success => "success".to_owned(),
        InitStatus::Timeout => "timeout".to_owned(),
        InitStatus::Error(error_type) => format!("error\tError Type: {error_type}"),
    };
    format!("INIT_REPORT Init Duration: {} ms\tPhase: {phase}\tStatus: {status}", millis(duration))
}

fn timed_out(request_id: &RequestId, timeout: Timeout, at: Duration) -> String {
    let since_epoch = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    let time: DateTime<Utc> = DateTime::from_timestamp_millis(since_epoch).unwrap_or_default();
    format!("{} {request_id} Task timed out after {timeout} seconds", time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

fn failed(request_id: &RequestId, error: &PlatformError) -> String {
    format!("RequestId: {request_id} Error: {}\n{}", error.message(), error.error_type())
}

/// Every field ends in a tab but a status, which is appended after those.
fn report(request_id: &RequestId, figures: &ReportFigures, status: &ReportStatus) -> String {
    let mut line = format!(
        "REPORT RequestId: {request_id}\tDuration: {} ms\tBilled Duration: {} ms\tMemory Size: {}\tMax Memory Used: {} MB\t",
        millis(figures.duration),
        figures.billed_ms,
        figures.memory_size,
        figures.max_memory_used_mb,
    );
    if let Some(init) = figures.init {
        line += &format!("Init Duration: {} ms\t", millis(init));
    }
    match status {
        ReportStatus::Success | ReportStatus::Reported(_) => {}
        ReportStatus::Timeout => line += "Status: timeout",
        ReportStatus::Error(error_type) => line += &format!("Status: error\tError Type: {error_type}"),
    }
    line
}

/// Milliseconds with two decimals.
fn millis(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64() * 1000.0)
}
