//! The platform's lines in their text form, one function per event kind, in CloudWatch's present wording and order.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::function::Timeout;
use crate::lambda::{InitPhase, InitStatus, LogEvent, PlatformError, ReportFigures, ReportStatus, RequestId};

/// The event's line or lines, without the last line feed.
pub(super) fn line(event: &LogEvent) -> String {
    match event {
        LogEvent::InitReport { duration, phase, status } => init_report(*duration, *phase, status),
        LogEvent::Start { request_id, version } => format!("START RequestId: {request_id} Version: {version}"),
        LogEvent::TimedOut { request_id, timeout, at } => timed_out(request_id, *timeout, *at),
        LogEvent::Failed { request_id, error } => failed(request_id, error),
        LogEvent::End { request_id } => format!("END RequestId: {request_id}"),
        LogEvent::Report { request_id, figures, status } => report(request_id, figures, status),
    }
}

/// Whether docker-lambda writes this line in green.
pub(super) fn is_colored(event: &LogEvent) -> bool {
    matches!(event, LogEvent::Start { .. } | LogEvent::End { .. } | LogEvent::Report { .. })
}

fn init_report(duration: Duration, phase: InitPhase, status: &InitStatus) -> String {
    let phase = match phase {
        InitPhase::Init => "init",
        InitPhase::Invoke => "invoke",
    };
    let status = match status {
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
        ReportStatus::Success => {}
        ReportStatus::Timeout => line += "Status: timeout",
        ReportStatus::Error(error_type) => line += &format!("Status: error\tError Type: {error_type}"),
    }
    line
}

/// Milliseconds with two decimals.
fn millis(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64() * 1000.0)
}
