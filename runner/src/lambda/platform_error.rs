//! Failures that Lambda itself reports, with its exact words.
//!
//! The words are Go's, since AWS's supervisor is written in it: `exit status 7`, `signal: killed`, `permission denied`.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;

use super::{MAX_PAYLOAD_BYTES, MAX_STREAM_BYTES, RequestId};
use crate::function::Timeout;

/// A failure the platform found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlatformError {
    /// No answer before the deadline.
    TimedOut(Timeout),
    /// The runtime ended without an answer.
    Exited(RuntimeEnd),
    /// None of the places where a bootstrap may lie had one.
    NoBootstrap {
        /// The paths that were tried, in order.
        tried: Vec<String>,
    },
    /// The kernel would not execute the bootstrap or its interpreter.
    NotExecuted {
        /// The path that was executed.
        path: String,
        /// The kernel's reason in Go's words, such as `permission denied`.
        reason: String,
    },
    /// The working directory could not be entered.
    NoWorkingDir {
        /// Its path inside.
        path: String,
        /// Why, as Go says it.
        reason: String,
    },
    /// The answer was larger than [`MAX_PAYLOAD_BYTES`].
    ResponseTooLarge,
    /// The answer came in parts and was larger than [`MAX_STREAM_BYTES`].
    StreamTooLarge,
    /// The answer's `Lambda-Runtime-Function-Response-Mode` is unknown.
    InvalidResponseMode,
    /// The connection ended in the middle of the answer.
    TruncatedResponse,
    /// The kernel would not execute an external extension.
    ExtensionLaunchError {
        /// The path that was executed.
        path: String,
        /// The kernel's reason in Go's words.
        reason: String,
    },
    /// There are more external extensions than there may be.
    TooManyExtensions,
    /// An external extension ended.
    ExtensionCrash(RuntimeEnd),
    /// An extension reported that it could not initialise.
    ExtensionInitError {
        /// What it named.
        error_type: String,
    },
    /// An extension reported that it has to end.
    ExtensionExitError {
        /// What it named.
        error_type: String,
    },
}

/// How a program ended: the runtime, or an external extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeEnd {
    /// By itself, with this exit status.
    Exited(i32),
    /// By a signal.
    Signaled {
        /// The signal's number.
        signal: i32,
        /// Whether the kernel wrote a core file.
        core_dumped: bool,
    },
    /// By a signal, since it used more memory than it may.
    OutOfMemory,
}

impl PlatformError {
    /// The `errorType` of the body and of the log.
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::TimedOut(_) => "Sandbox.Timedout",
            Self::Exited(_) => "Runtime.ExitError",
            Self::NoBootstrap { .. } | Self::NotExecuted { .. } => "Runtime.InvalidEntrypoint",
            Self::NoWorkingDir { .. } => "Runtime.InvalidWorkingDir",
            Self::ResponseTooLarge | Self::StreamTooLarge => "Function.ResponseSizeTooLarge",
            Self::InvalidResponseMode => "Runtime.InvalidResponseModeHeader",
            Self::TruncatedResponse => "Runtime.TruncatedResponse",
            Self::ExtensionLaunchError { .. } => "Extension.LaunchError",
            Self::TooManyExtensions => "Extension.TooManyExtensions",
            Self::ExtensionCrash(_) => "Extension.Crash",
            Self::ExtensionInitError { .. } => "Extension.InitError",
            Self::ExtensionExitError { .. } => "Extension.ExitError",
        }
    }

    /// The `Error Type` of the REPORT line. For memory that ran out it is another than in the body and in the log.
    pub fn report_type(&self) -> &'static str {
        match self {
            Self::Exited(RuntimeEnd::OutOfMemory) => "Runtime.OutOfMemory",
            other => other.error_type(),
        }
    }

    /// Whether the handler answered, with something that cannot be used.
    pub(super) fn is_of_response(&self) -> bool {
        matches!(self, Self::ResponseTooLarge | Self::StreamTooLarge | Self::InvalidResponseMode | Self::TruncatedResponse)
    }

    /// What follows `RequestId: <id> Error: `, in bodies and in the log.
    pub fn message(&self) -> Cow<'static, str> {
        match self {
            Self::TimedOut(timeout) => format!("Task timed out after {timeout} seconds").into(),
            Self::Exited(RuntimeEnd::Exited(0)) => "Runtime exited without providing a reason".into(),
            Self::Exited(end) => format!("Runtime exited with error: {end}").into(),
            Self::NoBootstrap { tried } => format!("Couldn't find valid bootstrap(s): [{}]", tried.join(" ")).into(),
            Self::NotExecuted { path, reason } | Self::ExtensionLaunchError { path, reason } => {
                format!("fork/exec {path}: {reason}").into()
            }
            Self::NoWorkingDir { path, reason } => format!("chdir {path}: {reason}").into(),
            Self::ResponseTooLarge => too_large(MAX_PAYLOAD_BYTES),
            Self::StreamTooLarge => too_large(MAX_STREAM_BYTES),
            Self::InvalidResponseMode => "Invalid function response mode".into(),
            Self::TruncatedResponse => "HTTP request detected as truncated".into(),
            Self::TooManyExtensions => "Extension limit (10) reached".into(),
            Self::ExtensionCrash(RuntimeEnd::Exited(0)) => "exit code 0".into(),
            Self::ExtensionCrash(end) => end.to_string().into(),
            Self::ExtensionInitError { error_type } | Self::ExtensionExitError { error_type } => error_type.clone().into(),
        }
    }

    /// The body the invoker gets. AWS puts `errorType` first here, but for a response that is too large.
    pub fn body(&self, request_id: &RequestId) -> Bytes {
        let error_type = self.error_type();
        let body = match self {
            Self::ResponseTooLarge | Self::StreamTooLarge => {
                serde_json::to_vec(&MessageFirst { error_message: &self.message(), error_type })
            }
            _ => {
                serde_json::to_vec(&TypeFirst { error_type, error_message: &format!("RequestId: {request_id} Error: {}", self.message()) })
            }
        };
        body.expect("two strings are always JSON").into()
    }
}

fn too_large(limit: impl std::fmt::Display) -> Cow<'static, str> {
    format!("Response payload size exceeded maximum allowed payload size ({limit} bytes).").into()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TypeFirst<'a> {
    error_type: &'a str,
    error_message: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageFirst<'a> {
    error_message: &'a str,
    error_type: &'a str,
}

/// Go's `exec.ExitError`: `exit status 7`, `signal: killed`, `signal: aborted (core dumped)`.
impl std::fmt::Display for RuntimeEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Exited(status) => write!(f, "exit status {status}"),
            Self::OutOfMemory => f.write_str("signal: killed"),
            Self::Signaled { signal, core_dumped } => {
                let dumped = if core_dumped { " (core dumped)" } else { "" };
                match signal_name(signal) {
                    Some(name) => write!(f, "signal: {name}{dumped}"),
                    None => write!(f, "signal: signal {signal}{dumped}"),
                }
            }
        }
    }
}

/// Go's names of Linux's signals (`syscall/zerrors_linux_amd64.go`, the same on arm64).
fn signal_name(signal: i32) -> Option<&'static str> {
    const NAMES: [&str; 31] = [
        "hangup",
        "interrupt",
        "quit",
        "illegal instruction",
        "trace/breakpoint trap",
        "aborted",
        "bus error",
        "floating point exception",
        "killed",
        "user defined signal 1",
        "segmentation fault",
        "user defined signal 2",
        "broken pipe",
        "alarm clock",
        "terminated",
        "stack fault",
        "child exited",
        "continued",
        "stopped (signal)",
        "stopped",
        "stopped (tty input)",
        "stopped (tty output)",
        "urgent I/O condition",
        "CPU time limit exceeded",
        "file size limit exceeded",
        "virtual timer expired",
        "profiling timer expired",
        "window changed",
        "I/O possible",
        "power failure",
        "bad system call",
    ];
    usize::try_from(signal).ok().and_then(|number| NAMES.get(number.checked_sub(1)?)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_awss() {
        let id = RequestId::from_random([0; 16]);
        let killed = |signal, core_dumped| PlatformError::Exited(RuntimeEnd::Signaled { signal, core_dumped });
        let with_id = |error_type: &str, message: &str| {
            format!(r#"{{"errorType":"{error_type}","errorMessage":"RequestId: 00000000-0000-4000-8000-000000000000 Error: {message}"}}"#)
        };
        let tried = vec!["/var/task/bootstrap".to_owned(), "/opt/bootstrap".to_owned()];
        let not_executed = PlatformError::NotExecuted { path: "/var/task/bootstrap".to_owned(), reason: "permission denied".to_owned() };
        for (error, body) in [
            (PlatformError::TimedOut("1".parse().unwrap()), with_id("Sandbox.Timedout", "Task timed out after 1.00 seconds")),
            (PlatformError::Exited(RuntimeEnd::Exited(0)), with_id("Runtime.ExitError", "Runtime exited without providing a reason")),
            (PlatformError::Exited(RuntimeEnd::Exited(7)), with_id("Runtime.ExitError", "Runtime exited with error: exit status 7")),
            (killed(9, false), with_id("Runtime.ExitError", "Runtime exited with error: signal: killed")),
            (PlatformError::Exited(RuntimeEnd::OutOfMemory), with_id("Runtime.ExitError", "Runtime exited with error: signal: killed")),
            (killed(6, true), with_id("Runtime.ExitError", "Runtime exited with error: signal: aborted (core dumped)")),
            (killed(34, false), with_id("Runtime.ExitError", "Runtime exited with error: signal: signal 34")),
            (PlatformError::NoBootstrap { tried }, with_id("Runtime.InvalidEntrypoint", "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]")),
            (not_executed, with_id("Runtime.InvalidEntrypoint", "fork/exec /var/task/bootstrap: permission denied")),
            (
                PlatformError::ResponseTooLarge,
                r#"{"errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes).","errorType":"Function.ResponseSizeTooLarge"}"#.to_owned(),
            ),
            (PlatformError::InvalidResponseMode, with_id("Runtime.InvalidResponseModeHeader", "Invalid function response mode")),
            (
                PlatformError::StreamTooLarge,
                r#"{"errorMessage":"Response payload size exceeded maximum allowed payload size (209715200 bytes).","errorType":"Function.ResponseSizeTooLarge"}"#.to_owned(),
            ),
            (PlatformError::ExtensionCrash(RuntimeEnd::Exited(0)), with_id("Extension.Crash", "exit code 0")),
            (PlatformError::ExtensionCrash(RuntimeEnd::Exited(1)), with_id("Extension.Crash", "exit status 1")),
            (PlatformError::ExtensionCrash(RuntimeEnd::OutOfMemory), with_id("Extension.Crash", "signal: killed")),
            (
                PlatformError::ExtensionLaunchError { path: "/opt/extensions/x".to_owned(), reason: "permission denied".to_owned() },
                with_id("Extension.LaunchError", "fork/exec /opt/extensions/x: permission denied"),
            ),
            (PlatformError::TooManyExtensions, with_id("Extension.TooManyExtensions", "Extension limit (10) reached")),
            (PlatformError::ExtensionInitError { error_type: "Extension.Boom".to_owned() }, with_id("Extension.InitError", "Extension.Boom")),
            (PlatformError::ExtensionExitError { error_type: "Extension.Boom".to_owned() }, with_id("Extension.ExitError", "Extension.Boom")),
            (PlatformError::TruncatedResponse, with_id("Runtime.TruncatedResponse", "HTTP request detected as truncated")),
        ] {
            assert_eq!(error.body(&id), body);
        }
    }

    #[test]
    fn memory_that_ran_out_has_its_own_type_in_the_report_alone() {
        let error = PlatformError::Exited(RuntimeEnd::OutOfMemory);
        assert_eq!((error.error_type(), error.report_type()), ("Runtime.ExitError", "Runtime.OutOfMemory"));
        let killed = PlatformError::Exited(RuntimeEnd::Signaled { signal: 9, core_dumped: false });
        assert_eq!(killed.report_type(), "Runtime.ExitError");
    }

    #[test]
    fn signals_have_gos_names() {
        for (signal, name) in [
            (1, "hangup"),
            (2, "interrupt"),
            (4, "illegal instruction"),
            (5, "trace/breakpoint trap"),
            (7, "bus error"),
            (8, "floating point exception"),
            (9, "killed"),
            (10, "user defined signal 1"),
            (11, "segmentation fault"),
            (13, "broken pipe"),
            (14, "alarm clock"),
            (15, "terminated"),
            (31, "bad system call"),
        ] {
            assert_eq!(signal_name(signal), Some(name), "{signal}");
        }
        for signal in [0, -1, 32, i32::MAX, i32::MIN] {
            assert_eq!(signal_name(signal), None, "{signal}");
        }
    }
}
