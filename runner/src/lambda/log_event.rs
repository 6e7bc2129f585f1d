//! What an execution environment says about itself in a function's log, as values. The writers are in `report`.

use std::time::Duration;

use super::{ErrorType, PlatformError, RequestId};
use crate::function::{MemorySize, Timeout};

/// One entry of the platform in a function's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEvent {
    /// The Init phase went wrong, or its repetition inside an invocation.
    InitReport {
        /// How long it took until then.
        duration: Duration,
        /// Which of the two it was.
        phase: InitPhase,
        /// What went wrong.
        status: InitStatus,
    },
    /// An invocation begins.
    Start {
        /// Its id.
        request_id: RequestId,
        /// The function's version.
        version: String,
    },
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
    },
}

/// Where a runtime was initialised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitPhase {
    /// Before the invocation, with a limit of its own.
    Init,
    /// Inside the invocation, on the function's time.
    Invoke,
}

/// How an Init phase failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InitStatus {
    /// It took too long.
    Timeout,
    /// The runtime reported this, or ended.
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

/// Whether an invocation's phase went as it should. An error the handler raised is no failure of the phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportStatus {
    /// It did.
    Success,
    /// It passed its deadline.
    Timeout,
    /// The runtime failed.
    Error(ErrorType),
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
