//! The two forms of the platform's part of a log, and how much of it is wanted.

use crate::lambda::{ExtensionState, InitStatus, LogEvent, ReportStatus, RuntimeDoneStatus};

/// How the platform writes into the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// As lines for people: `START RequestId: ...`.
    #[default]
    Text,
    /// As JSON records, one on a line.
    Json {
        /// What is less than this is left out.
        level: SystemLogLevel,
    },
}

impl LogFormat {
    /// What Lambda takes the variables `AWS_LAMBDA_LOG_FORMAT` and `AWS_LAMBDA_SYSTEM_LOG_LEVEL` for. As for the runtimes, what is not `JSON` is text,
    /// and an unknown level is the default.
    pub fn from_settings(format: Option<&str>, level: Option<&str>) -> Self {
        if !format.is_some_and(|format| format.eq_ignore_ascii_case("json")) {
            return Self::Text;
        }
        let level = match level.map(str::to_ascii_uppercase).as_deref() {
            Some("DEBUG") => SystemLogLevel::Debug,
            Some("WARN") => SystemLogLevel::Warn,
            _ => SystemLogLevel::Info,
        };
        Self::Json { level }
    }
}

/// How much the platform's records matter, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum SystemLogLevel {
    /// All of them.
    Debug,
    /// Beginnings and reports.
    #[default]
    Info,
    /// What went wrong.
    Warn,
}

impl SystemLogLevel {
    /// The level that AWS gives an event in a log of JSON records.
    pub(super) fn of(event: &LogEvent) -> Self {
        let unless = |is_well: bool, level: Self| if is_well { level } else { Self::Warn };
        match event {
            LogEvent::InitStart(start) if start.runtime_version.is_some() => Self::Info,
            LogEvent::InitStart(_) => Self::Debug,
            LogEvent::InitRuntimeDone { status, .. } | LogEvent::InitReport { status, .. } => {
                unless(*status == InitStatus::Success, Self::Debug)
            }
            LogEvent::Extension { state, .. } => {
                use ExtensionState::{ExitError, Exited, InitError, LaunchError};
                unless(!matches!(state, InitError | ExitError | Exited | LaunchError), Self::Info)
            }
            LogEvent::Subscribed { .. } | LogEvent::Start { .. } | LogEvent::End { .. } => Self::Info,
            LogEvent::RuntimeDone(done) => unless(done.status == RuntimeDoneStatus::Success, Self::Debug),
            LogEvent::Report { status, .. } => unless(*status == ReportStatus::Success, Self::Info),
            LogEvent::LogsDropped { .. } | LogEvent::TimedOut { .. } | LogEvent::Failed { .. } => Self::Warn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_of_settings() {
        let json = |level| LogFormat::Json { level };
        for (format, level, expected) in [
            (None, None, LogFormat::Text),
            (Some("Text"), Some("DEBUG"), LogFormat::Text),
            (Some("xml"), None, LogFormat::Text),
            (Some("JSON"), None, json(SystemLogLevel::Info)),
            (Some("json"), Some("debug"), json(SystemLogLevel::Debug)),
            (Some("JSON"), Some("WARN"), json(SystemLogLevel::Warn)),
            (Some("JSON"), Some("ERROR"), json(SystemLogLevel::Info)),
        ] {
            assert_eq!(LogFormat::from_settings(format, level), expected, "{format:?} {level:?}");
        }
    }
}
