//! What an execution environment says about itself in a function's log, as values. The writers are in `report`.

use std::time::Duration;

use bytes::Bytes;

use super::{ErrorKind, ErrorType, ExtensionEvent, ExtensionState, FunctionError, PlatformError, RequestId, TelemetryApi, TelemetryStream};
use crate::function::{MemorySize, Timeout};

/// One entry of the platform in a function's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEvent {
    /// An Init phase begins, or its repetition inside an invocation.
    InitStart(InitStart),
    /// The runtime's part of it is over: it asked for its first event, or will not.
    InitRuntimeDone {
        /// Which of the two it was.
        phase: InitPhase,
        /// How it went.
        status: InitStatus,
    },
    /// All of it is over.
    InitReport {
        /// How long it took until then.
        duration: Duration,
        /// Which of the two it was.
        phase: InitPhase,
        /// How it went.
        status: InitStatus,
    },
    /// What an extension had come to when the Init phase was over.
    Extension {
        /// Its name.
        name: String,
        /// Its state.
        state: ExtensionState,
        /// What it wants to be told of.
        events: Vec<ExtensionEvent>,
        /// Why it failed, if it did.
        error_type: Option<ErrorType>,
    },
    /// An extension has subscribed to records.
    Subscribed {
        /// The API by which it did.
        api: TelemetryApi,
        /// Its name.
        name: String,
        /// What it wants.
        streams: Vec<TelemetryStream>,
    },
    /// Records did not reach a subscriber.
    LogsDropped {
        /// Their bytes.
        bytes: u64,
        /// Their number.
        records: u64,
        /// Why, in a sentence.
        reason: String,
    },
    /// An invocation begins.
    Start {
        /// Its id.
        request_id: RequestId,
        /// The function's version.
        version: String,
        /// The trace it belongs to; empty if there is none.
        trace_id: String,
        /// The tenant it is for.
        tenant_id: Option<String>,
    },
    /// The runtime's part of an invocation is over.
    RuntimeDone(RuntimeDone),
    /// The invocation's phase passed its deadline.
    TimedOut {
        /// Its id.
        request_id: RequestId,
        /// The function's timeout.
        timeout: Timeout,
        /// The time of day, since the Unix epoch.
        at: Duration,
    },
    /// The platform found a failure.
    Failed {
        /// The invocation that suffered it.
        request_id: RequestId,
        /// The failure.
        error: PlatformError,
    },
    /// An invocation is over.
    End {
        /// Its id.
        request_id: RequestId,
    },
    /// The figures of an invocation that is over.
    Report {
        /// Its id.
        request_id: RequestId,
        /// Times and memory.
        figures: ReportFigures,
        /// Whether its phase went as it should.
        status: ReportStatus,
        /// The trace it belongs to; empty if there is none.
        trace_id: String,
    },
}

/// The beginning of an Init phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitStart {
    /// Whether it is the first one or its repetition inside an invocation.
    pub phase: InitPhase,
    /// The managed runtime, where there is one to name.
    pub runtime_version: Option<RuntimeVersion>,
    /// The function's name.
    pub function_name: String,
    /// The function's version.
    pub function_version: String,
    /// An id of the execution environment.
    pub instance_id: String,
    /// The memory the function is given.
    pub memory_size: MemorySize,
}

/// A version of a managed runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeVersion {
    /// Such as `python:3.13.v37`.
    pub name: String,
    /// Its ARN.
    pub arn: String,
}

/// The end of the runtime's part of an invocation; extensions may go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeDone {
    /// The invocation's id.
    pub request_id: RequestId,
    /// How it went.
    pub status: RuntimeDoneStatus,
    /// From the event's hand-over to the end of the runtime's part, at most the timeout.
    pub duration: Duration,
    /// The answer, if there was one.
    pub response: Option<ResponseFigures>,
    /// The trace it belongs to; empty if there is none.
    pub trace_id: String,
}

/// How the runtime's part of an invocation went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeDoneStatus {
    /// The handler answered.
    Success,
    /// The handler failed, or its answer could not be used.
    Error(ErrorType),
    /// The runtime ended, or an extension did.
    Failure(ErrorType),
    /// It passed its deadline.
    Timeout,
}

/// When an answer came, and how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseFigures {
    /// Its size.
    pub bytes: u64,
    /// From the event's hand-over to the answer's beginning.
    pub latency: Span,
    /// From the answer's beginning to its end.
    pub duration: Span,
}

/// A piece of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its beginning, since the Unix epoch.
    pub start: Duration,
    /// How long it was.
    pub duration: Duration,
}

/// Where a runtime was initialised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitPhase {
    /// Before the invocation, with a limit of its own.
    Init,
    /// Inside the invocation, on the function's time.
    Invoke,
}

/// How an Init phase went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InitStatus {
    /// As it should.
    Success,
    /// It took too long.
    Timeout,
    /// The runtime or an extension reported this, or ended.
    Error(ErrorType),
}

/// Times and memory of one invocation, as the REPORT line shows them. Durations are rounded to hundredths of a millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportFigures {
    /// How long the Init phase took, if this is the first invocation after one.
    pub init: Option<Duration>,
    /// From the event's hand-over to the end of the invocation, at most the timeout.
    pub duration: Duration,
    /// Both together in started milliseconds, as AWS bills since August 2025.
    pub billed_ms: u64,
    /// The memory the function is given.
    pub memory_size: MemorySize,
    /// The most memory it was seen to use, in started megabytes.
    pub max_memory_used_mb: u64,
}

impl ReportFigures {
    /// The figures of an invocation, from what was measured.
    pub fn new(init: Option<Duration>, duration: Duration, memory_size: MemorySize, peak_memory_bytes: u64) -> Self {
        let (init, duration) = (init.map(to_hundredths), to_hundredths(duration));
        let billed_ms = (init.unwrap_or_default() + duration).as_nanos().div_ceil(1_000_000);
        Self {
            init,
            duration,
            billed_ms: u64::try_from(billed_ms).unwrap_or(u64::MAX),
            memory_size,
            max_memory_used_mb: peak_memory_bytes.div_ceil(1 << 20),
        }
    }
}

/// To hundredths of a millisecond, so that the figures shown add up.
fn to_hundredths(duration: Duration) -> Duration {
    let hundredths = (duration.as_nanos() + 5_000) / 10_000;
    Duration::from_micros(u64::try_from(hundredths * 10).unwrap_or(u64::MAX))
}

/// Whether an invocation's phase went as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportStatus {
    /// It did.
    Success,
    /// It did, and the answer is an error that the function reported: the runtime lives on, and the log's line says nothing of it.
    Reported(ErrorType),
    /// It passed its deadline.
    Timeout,
    /// The runtime failed.
    Error(ErrorType),
}

impl ReportStatus {
    /// That of an invocation whose runtime gave the answer itself.
    pub(super) fn of_answer(result: &Result<Bytes, FunctionError>) -> Self {
        match result.as_ref().map_err(|error| &error.kind) {
            Err(ErrorKind::Handler(error_type)) => Self::Reported(error_type.clone()),
            _ => Self::Success,
        }
    }

    /// Whether the runtime is as it was, ready for more.
    pub fn keeps_the_runtime(&self) -> bool {
        matches!(self, Self::Success | Self::Reported(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_add_up() {
        let memory = MemorySize::from_mb(128).unwrap();
        for (init_us, duration_us, shown_init_us, shown_us, billed) in [
            (Some(110_104), 3_006, Some(110_100), 3_010, 114),
            (Some(476_750), 600_000_000, Some(476_750), 600_000_000, 600_477),
            (None, 3_004, None, 3_000, 3),
            (None, 3_005, None, 3_010, 4),
            (None, 0, None, 0, 0),
            (None, 1, None, 0, 0),
            (None, 10, None, 10, 1),
        ] {
            let figures = ReportFigures::new(init_us.map(Duration::from_micros), Duration::from_micros(duration_us), memory, 0);
            assert_eq!(figures.init, shown_init_us.map(Duration::from_micros));
            assert_eq!((figures.duration, figures.billed_ms), (Duration::from_micros(shown_us), billed));
        }
    }

    #[test]
    fn memory_is_in_started_megabytes() {
        for (bytes, mb) in [(0, 0), (1, 1), (1 << 20, 1), ((1 << 20) + 1, 2), (u64::MAX, 1 << 44)] {
            assert_eq!(ReportFigures::new(None, Duration::ZERO, MemorySize::from_mb(128).unwrap(), bytes).max_memory_used_mb, mb);
        }
    }
}
