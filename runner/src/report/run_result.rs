//! The object that `--json` prints: version 1 of `docs/formats/run-result.md`.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::payload::compact_json;
use crate::lambda::{Outcome, ReportFigures};

/// A single execution, told to programs.
#[derive(Debug, Clone, Copy)]
pub struct RunResult<'a> {
    /// How it ended.
    pub outcome: &'a Outcome,
    /// Its figures, if there was an invocation that came to its end.
    pub figures: Option<&'a ReportFigures>,
    /// The last bytes of its log.
    pub log_tail: &'a [u8],
    /// The exit code of this process.
    pub exit_code: u8,
}

impl RunResult<'_> {
    /// The object on one line, with a line feed.
    pub fn to_json_line(&self) -> Vec<u8> {
        let (payload, function_error) = match self.outcome {
            Outcome::Success { payload } => (embedded(payload), None),
            Outcome::FunctionError(error) => (embedded(&error.payload), Some("Unhandled")),
            Outcome::Interrupted { .. } => (None, None),
        };
        let object = RunResultV1 {
            version: 1,
            payload: payload.as_deref(),
            function_error,
            log_tail: String::from_utf8_lossy(self.log_tail),
            report: self.figures.map(ReportV1::from),
            exit_code: self.exit_code,
        };
        let mut line = serde_json::to_vec(&object).expect("strings, numbers and checked JSON are always JSON");
        line.push(b'\n');
        line
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RunResultV1<'a> {
    version: u32,
    payload: Option<&'a RawValue>,
    function_error: Option<&'static str>,
    log_tail: Cow<'a, str>,
    report: Option<ReportV1>,
    exit_code: u8,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReportV1 {
    #[serde(serialize_with = "optional_millis")]
    init_ms: Option<Duration>,
    #[serde(serialize_with = "millis")]
    duration_ms: Duration,
    billed_ms: u64,
    memory_size_mb: u32,
    max_memory_used_mb: u64,
}

impl From<&ReportFigures> for ReportV1 {
    fn from(figures: &ReportFigures) -> Self {
        Self {
            init_ms: figures.init,
            duration_ms: figures.duration,
            billed_ms: figures.billed_ms,
            memory_size_mb: figures.memory_size.mb(),
            max_memory_used_mb: figures.max_memory_used_mb,
        }
    }
}

fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    // The figures are rounded to hundredths, so this division gives two decimals at most.
    serializer.serialize_f64((duration.as_micros() / 10) as f64 / 100.0)
}

fn optional_millis<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => millis(duration, serializer),
        None => serializer.serialize_none(),
    }
}

/// The payload as JSON: itself if it is JSON, else as a string; nothing for no bytes.
pub(super) fn embedded(payload: &[u8]) -> Option<Box<RawValue>> {
    if payload.is_empty() {
        return None;
    }
    let json = compact_json(payload).or_else(|| serde_json::to_string(&String::from_utf8_lossy(payload)).ok())?;
    RawValue::from_string(json).ok()
}
