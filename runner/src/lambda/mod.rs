//! The Lambda contract as values: invocations, their ends, and the lifecycle of one execution environment.
//!
//! Pure: knows no socket, process, task or clock. The environment feeds [`Lifecycle`] and performs what it answers.

mod error_type;
mod extension;
mod invocation;
mod invoke;
mod lifecycle;
mod log_event;
mod platform_error;
mod telemetry;
pub mod trace;

pub use error_type::ErrorType;
pub use extension::{ExtensionEvent, ExtensionState};
pub use invocation::{ErrorKind, FunctionError, Invocation, Outcome, RequestId};
pub use invoke::{AnswerForm, InvocationKind, InvokeRefusal, InvokeRequest, InvokeTarget, ThrottleReason};
pub use lifecycle::{
    Answer, Delivery, Effect, ErrorPost, ExtensionDelivery, ExtensionRefusal, FailedInit, Identifiers, Input, Lifecycle, Now, Posted,
    Program, Refusal, Registered, Registration, ShutdownReason, StreamEnd,
};
pub use log_event::{
    InitPhase, InitStart, InitStatus, LogEvent, ReportFigures, ReportStatus, ResponseFigures, RuntimeDone, RuntimeDoneStatus,
    RuntimeVersion, Span,
};
pub use platform_error::{PlatformError, RuntimeEnd};
pub use telemetry::{
    TelemetryApi, TelemetryBuffering, TelemetryDestination, TelemetryMethod, TelemetrySchema, TelemetryStream, TelemetrySubscription,
};

/// The largest payload the Runtime API takes or gives: 6 MiB and 100 bytes, inclusive (measured on AWS's emulator).
pub const MAX_PAYLOAD_BYTES: usize = 6 * 1024 * 1024 + 100;

/// The largest answer that may come in parts: 200 MB, since mid-2025.
pub const MAX_STREAM_BYTES: u64 = 200 * 1024 * 1024;
