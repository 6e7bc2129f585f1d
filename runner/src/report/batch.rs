//! What a batch says: one object for each event, version 1 of `docs/formats/batch-result.md`, and a summary of them all.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::run_result::{ReportV1, embedded};
use crate::lambda::ReportFigures;

/// What became of one event of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRecord {
    /// Its number among all, from 0 on.
    pub index: u64,
    /// Where it comes from.
    pub id: String,
    /// The id of its invocation, if there was one.
    pub request_id: Option<String>,
    /// How it ended.
    pub end: BatchEnd,
    /// Its figures, if there was an invocation.
    pub figures: Option<ReportFigures>,
    /// The last bytes of its log.
    pub log_tail: Vec<u8>,
}

/// How an event of a batch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchEnd {
    /// The function answered.
    Success {
        /// The answer.
        payload: Bytes,
    },
    /// The function failed.
    Failed {
        /// The error.
        payload: Bytes,
    },
    /// The event did not get as far as the function.
    NotRun {
        /// Why.
        error: String,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BatchRecordV1<'a> {
    version: u32,
    index: u64,
    id: &'a str,
    request_id: Option<&'a str>,
    payload: Option<Box<RawValue>>,
    function_error: Option<&'static str>,
    error: Option<&'a str>,
    log_tail: Cow<'a, str>,
    report: Option<ReportV1>,
}

impl BatchRecord {
    /// The object on one line, with a line feed.
    pub fn to_json_line(&self) -> Vec<u8> {
        let (payload, function_error, error) = match &self.end {
            BatchEnd::Success { payload } => (embedded(payload), None, None),
            BatchEnd::Failed { payload } => (embedded(payload), Some("Unhandled"), None),
            BatchEnd::NotRun { error } => (None, None, Some(error.as_str())),
        };
        let object = BatchRecordV1 {
            version: 1,
            index: self.index,
            id: &self.id,
            request_id: self.request_id.as_deref(),
            payload,
            function_error,
            error,
            log_tail: String::from_utf8_lossy(&self.log_tail),
            report: self.figures.as_ref().map(ReportV1::from),
        };
        let mut line = serde_json::to_vec(&object).expect("strings, numbers and checked JSON are always JSON");
        line.push(b'\n');
        line
    }

    /// Why it failed, on one line; nothing if it did not.
    pub fn complaint(&self) -> Option<String> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct FunctionError {
            error_type: Option<String>,
            error_message: Option<String>,
        }
        let text = match &self.end {
            BatchEnd::Success { .. } => return None,
            BatchEnd::NotRun { error } => error.clone(),
            BatchEnd::Failed { payload } => match serde_json::from_slice(payload) {
                Ok(FunctionError { error_type: Some(kind), error_message: Some(message) }) => format!("{kind}: {message}"),
                Ok(FunctionError { error_type, error_message }) => {
                    error_message.or(error_type).unwrap_or_else(|| String::from_utf8_lossy(payload).into_owned())
                }
                Err(_) => String::from_utf8_lossy(payload).into_owned(),
            },
        };
        Some(text.lines().next().unwrap_or_default().to_owned())
    }
}

/// The whole of a batch, as far as it has come.
#[derive(Debug, Default)]
pub struct BatchSummary {
    answered: u64,
    /// The function failed.
    of_function: u64,
    not_run: u64,
    durations: Quantiles,
    inits: Quantiles,
    memory: Quantiles,
}

impl BatchSummary {
    /// Counts what became of an event.
    pub fn count(&mut self, record: &BatchRecord) {
        match record.end {
            BatchEnd::Success { .. } => self.answered += 1,
            BatchEnd::Failed { .. } => self.of_function += 1,
            BatchEnd::NotRun { .. } => self.not_run += 1,
        }
        if let Some(figures) = &record.figures {
            self.durations.add(hundredths(figures.duration));
            self.memory.add(figures.max_memory_used_mb);
            if let Some(init) = figures.init {
                self.inits.add(hundredths(init));
            }
        }
    }

    /// How many events have come to an end.
    pub fn ended(&self) -> u64 {
        self.answered + self.failed()
    }

    /// How many of them failed.
    pub fn failed(&self) -> u64 {
        self.of_function + self.not_run
    }

    /// How many of them the function failed at.
    pub(super) fn of_function(&self) -> u64 {
        self.of_function
    }

    /// How many of them did not get as far as the function.
    pub(super) fn not_run(&self) -> u64 {
        self.not_run
    }

    /// Some lines about all of them, which took so long together.
    pub fn text(&self, took: Duration) -> String {
        let events = match self.ended() {
            1 => "1 event".to_owned(),
            count => format!("{count} events"),
        };
        let mut text = format!("undocked: {events} in {:.2} s: {} answered, {} failed\n", took.as_secs_f64(), self.answered, self.failed());
        let figures: Vec<String> = [
            self.durations.text("duration", |value| format!("{:.2} ms", value as f64 / 100.0)),
            self.inits.text("init", |value| format!("{:.2} ms", value as f64 / 100.0)),
            self.memory.text("memory", |value| format!("{value} MB")),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !figures.is_empty() {
            text.push_str(&format!("undocked: {}\n", figures.join("; ")));
        }
        text
    }
}

fn hundredths(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros() / 10).unwrap_or(u64::MAX)
}

/// Quantiles of any number of values in little room: exact up to 4095, above that within a four-thousandth part.
#[derive(Default)]
struct Quantiles {
    /// How many values are in which bucket.
    buckets: Vec<u64>,
    count: u64,
}

impl Quantiles {
    /// Values of one power of two fall into so many buckets.
    const PARTS: u64 = 4096;

    fn add(&mut self, value: u64) {
        let bucket = Self::bucket(value);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
    }

    fn bucket(value: u64) -> usize {
        let shift = value.checked_ilog2().map_or(0, |bits| u64::from(bits).saturating_sub(Self::PARTS.ilog2().into()));
        (shift * Self::PARTS + (value >> shift)) as usize
    }

    /// The least value of a bucket.
    fn least(bucket: usize) -> u64 {
        let bucket = bucket as u64;
        let shift = (bucket / Self::PARTS).saturating_sub(1);
        (bucket - shift * Self::PARTS) << shift
    }

    /// The least value that so many of a hundred do not exceed.
    fn percentile(&self, percent: u64) -> Option<u64> {
        let wanted = (self.count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        bucket.filter(|_| self.count > 0).map(Self::least)
    }

    fn text(&self, name: &str, shown: impl Fn(u64) -> String) -> Option<String> {
        Some(format!("{name} p50 {}, p99 {}", shown(self.percentile(50)?), shown(self.percentile(99)?)))
    }
}

impl fmt::Debug for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quantiles").field("count", &self.count).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::function::MemorySize;

    pub(in crate::report) fn record(end: BatchEnd) -> BatchRecord {
        let memory = MemorySize::from_mb(128).unwrap();
        let figures = ReportFigures::new(Some(Duration::from_millis(80)), Duration::from_micros(3456), memory, 30 << 20);
        BatchRecord {
            index: 4,
            id: "a.jsonl:5".to_owned(),
            request_id: Some("r".to_owned()),
            end,
            figures: Some(figures),
            log_tail: b"START\n".to_vec(),
        }
    }

    fn line(record: &BatchRecord) -> String {
        String::from_utf8(record.to_json_line()).unwrap()
    }

    #[test]
    fn lines() {
        let report =
            r#""logTail":"START\n","report":{"initMs":80.0,"durationMs":3.46,"billedMs":84,"memorySizeMb":128,"maxMemoryUsedMb":30}}"#;
        let front = r#"{"version":1,"index":4,"id":"a.jsonl:5","requestId":"r","payload":"#;
        let success = record(BatchEnd::Success { payload: r#"{ "a": 1.0 }"#.into() });
        assert_eq!(line(&success), format!("{front}{{\"a\":1.0}},\"functionError\":null,\"error\":null,{report}\n"));
        let failed = record(BatchEnd::Failed { payload: r#"{"errorMessage":"boom","errorType":"E"}"#.into() });
        assert!(line(&failed).contains(r#""errorType":"E"},"functionError":"Unhandled","error":null"#), "{}", line(&failed));
        assert_eq!(failed.complaint().unwrap(), "E: boom");
        let not_run = BatchRecord {
            request_id: None,
            figures: None,
            log_tail: Vec::new(),
            ..record(BatchEnd::NotRun { error: "not JSON".to_owned() })
        };
        assert!(line(&not_run).ends_with(
            r#""payload":null,"functionError":null,"error":"not JSON","logTail":"","report":null}
"#
        ));
        assert_eq!((success.complaint(), not_run.complaint().as_deref()), (None, Some("not JSON")));
        for (payload, complaint) in
            [(r#"{"errorMessage":"one\ntwo"}"#, "one"), ("[1]", "[1]"), ("plain", "plain"), (r#"{"x":1}"#, r#"{"x":1}"#)]
        {
            assert_eq!(record(BatchEnd::Failed { payload: payload.into() }).complaint().unwrap(), complaint);
        }
    }

    #[test]
    fn summaries() {
        let mut summary = BatchSummary::default();
        assert_eq!(summary.text(Duration::ZERO), "undocked: 0 events in 0.00 s: 0 answered, 0 failed\n");
        summary.count(&record(BatchEnd::Success { payload: Bytes::new() }));
        assert_eq!(
            summary.text(Duration::from_millis(1500)),
            "undocked: 1 event in 1.50 s: 1 answered, 0 failed\nundocked: duration p50 3.46 ms, p99 3.46 ms; init p50 80.00 ms, p99 80.00 ms; memory p50 30 MB, p99 30 MB\n"
        );
        summary.count(&record(BatchEnd::NotRun { error: String::new() }));
        assert_eq!((summary.ended(), summary.failed()), (2, 1));
    }

    #[test]
    fn quantiles_are_close() {
        for value in (0..20_000).chain([1 << 20, (1 << 40) + 12345, u64::MAX]) {
            let least = Quantiles::least(Quantiles::bucket(value));
            assert!(least <= value && value - least <= value / Quantiles::PARTS, "{value}: {least}");
        }
        let mut quantiles = Quantiles::default();
        assert_eq!(quantiles.percentile(50), None);
        (1..=200).for_each(|value| quantiles.add(value));
        assert_eq!([1, 50, 99, 100].map(|percent| quantiles.percentile(percent).unwrap()), [2, 100, 198, 200]);
    }
}
