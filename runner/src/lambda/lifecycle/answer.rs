//! The answers to calls, and the refusals with AWS's words.

use std::fmt;
use std::sync::Arc;

use crate::lambda::{ExtensionState, Invocation, MAX_PAYLOAD_BYTES, TelemetryApi};

/// The answer to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 200, an event for the runtime.
    Event(Delivery),
    /// 202.
    Accepted,
    /// None yet: go on with the parts, then tell the end.
    GoOn,
    /// 200, an extension is registered.
    Registered(Registered),
    /// 200, an event for an extension.
    ExtensionEvent {
        /// An id of the event's own.
        identifier: String,
        /// The event.
        event: ExtensionDelivery,
    },
    /// 200, a subscription is taken.
    Subscribed,
    /// 4xx.
    Refused(Refusal),
}

/// An event on its way to the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The invocation.
    pub invocation: Arc<Invocation>,
    /// When it times out, in milliseconds since the Unix epoch.
    pub deadline_ms: u64,
}

/// What an extension is told when it has registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// By what it is known from now on.
    pub identifier: String,
    /// The function's name.
    pub function_name: String,
    /// The function's version.
    pub function_version: String,
    /// The function's handler.
    pub handler: String,
    /// The account, if it asked.
    pub account_id: Option<String>,
}

/// An event on its way to an extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExtensionDelivery {
    /// The runtime has an invocation.
    Invoke(Delivery),
    /// The environment ends.
    Shutdown {
        /// When what is left is killed, in milliseconds since the Unix epoch.
        deadline_ms: u64,
        /// Why.
        reason: ShutdownReason,
    },
}

/// Why an environment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownReason {
    /// It is no longer wanted.
    Spindown,
    /// Something took too long.
    Timeout,
    /// A program failed.
    Failure,
}

/// The word in the event.
impl fmt::Display for ShutdownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spindown => "spindown",
            Self::Timeout => "timeout",
            Self::Failure => "failure",
        })
    }
}

/// Why a call was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The id is not that of the invocation in hand.
    InvalidRequestId,
    /// The call is not allowed in the runtime's state.
    InvalidTransition {
        /// The state it is in.
        from: &'static str,
        /// The state it would go into.
        to: &'static str,
    },
    /// The body is larger than the largest payload.
    TooLarge,
    /// The body ended too early.
    Truncated,
    /// The response mode is unknown.
    InvalidMode,
    /// A call of an extension.
    Extension(ExtensionRefusal),
}

/// Why a call of an extension was refused. The first five can be seen without knowing any state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExtensionRefusal {
    /// It gave no name.
    EmptyName,
    /// Its body cannot be read.
    InvalidFormat {
        /// What is wrong with it.
        message: String,
    },
    /// It gave no identifier.
    MissingIdentifier,
    /// Its identifier has not the form of one.
    InvalidIdentifier,
    /// It gave no error type.
    MissingErrorType,
    /// Nobody has this identifier.
    UnknownIdentifier {
        /// The identifier.
        identifier: String,
    },
    /// It wants an event that it cannot get.
    InvalidEvent {
        /// The event.
        event: String,
        /// Whether the event exists, for others.
        exists: bool,
    },
    /// The runtime has asked for its first event.
    RegistrationClosed,
    /// There are as many extensions as there may be.
    TooMany,
    /// Another one has this name.
    NameTaken,
    /// The call is not allowed in the extension's state.
    InvalidTransition {
        /// The state it is in.
        from: ExtensionState,
        /// The state it would go into.
        to: ExtensionState,
        /// Its name while it registers, then its identifier.
        extension: String,
    },
    /// Its subscription cannot be had.
    InvalidSubscription {
        /// The API it asked.
        api: TelemetryApi,
        /// Why not.
        message: String,
    },
    /// Subscriptions are taken in the Init phase only.
    SubscriptionClosed {
        /// The API it asked.
        api: TelemetryApi,
    },
}

/// How many extensions there may be, of both kinds together.
pub(super) const MAX_EXTENSIONS: usize = 10;

impl Refusal {
    /// The `errorType` in the answer's body: AWS's name for it.
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::InvalidRequestId => "InvalidRequestID",
            Self::InvalidTransition { .. } => "InvalidStateTransition",
            Self::TooLarge => "RequestEntityTooLarge",
            Self::Truncated => "TruncatedHTTPRequest",
            Self::InvalidMode => "InvalidFunctionResponseMode",
            Self::Extension(refusal) => refusal.error_type(),
        }
    }
}

/// The `errorMessage` in the answer's body.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidRequestId => f.write_str("Invalid request ID"),
            Self::InvalidTransition { from, to } => {
                write!(f, "State transition from {from} to {to} failed for runtime. Error: State transition is not allowed")
            }
            Self::TooLarge => write!(f, "Exceeded maximum allowed payload size ({MAX_PAYLOAD_BYTES} bytes)."),
            Self::Truncated => f.write_str("HTTP request detected as truncated"),
            Self::InvalidMode => f.write_str("Invalid function response mode"),
            Self::Extension(refusal) => refusal.fmt(f),
        }
    }
}

impl ExtensionRefusal {
    /// The `errorType` in the answer's body: AWS's name for it.
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::EmptyName => "Extension.InvalidExtensionName",
            Self::InvalidFormat { .. } => "InvalidRequestFormat",
            Self::MissingIdentifier => "Extension.MissingExtensionIdentifier",
            Self::InvalidIdentifier => "Extension.InvalidExtensionIdentifier",
            Self::MissingErrorType => "Extension.MissingHeader",
            Self::UnknownIdentifier { .. } => "Extension.UnknownExtensionIdentifier",
            Self::InvalidEvent { .. } => "Extension.InvalidEventType",
            Self::RegistrationClosed => "Extension.RegistrationClosed",
            Self::TooMany => "Extension.TooManyExtensions",
            Self::NameTaken | Self::InvalidTransition { .. } => "Extension.InvalidExtensionState",
            Self::InvalidSubscription { api: TelemetryApi::Telemetry, .. } => "ValidationError",
            Self::InvalidSubscription { api: TelemetryApi::Logs, .. } => "Logs.ValidationError",
            Self::SubscriptionClosed { api: TelemetryApi::Telemetry } => "Telemetry.SubscriptionClosed",
            Self::SubscriptionClosed { api: TelemetryApi::Logs } => "Logs.SubscriptionClosed",
        }
    }
}

/// The `errorMessage` in the answer's body.
impl fmt::Display for ExtensionRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyName => f.write_str("Empty extension name"),
            Self::InvalidFormat { message } | Self::InvalidSubscription { message, .. } => f.write_str(message),
            Self::MissingIdentifier => f.write_str("Missing Lambda-Extension-Identifier header"),
            Self::InvalidIdentifier => f.write_str("Invalid Lambda-Extension-Identifier"),
            Self::MissingErrorType => f.write_str("Lambda-Extension-Function-Error-Type not found"),
            Self::UnknownIdentifier { identifier } => write!(f, "Unknown extension {identifier}"),
            Self::InvalidEvent { event, exists: true } => write!(f, "{event}: ShutdownEventNotSupportedForInternalExtension"),
            Self::InvalidEvent { event, exists: false } => write!(f, "{event}: ErrorInvalidEventType"),
            Self::RegistrationClosed => f.write_str("Extension registration closed already"),
            Self::TooMany => write!(f, "Extension limit ({MAX_EXTENSIONS}) reached"),
            Self::NameTaken => f.write_str("Extension with this name already registered"),
            Self::InvalidTransition { from, to, extension } => {
                write!(f, "State transition from {from} to {to} failed for extension {extension}. Error: State transition is not allowed")
            }
            Self::SubscriptionClosed { api: TelemetryApi::Telemetry } => f.write_str("Telemetry API subscription is closed"),
            Self::SubscriptionClosed { api: TelemetryApi::Logs } => f.write_str("Logs API subscription is closed already"),
        }
    }
}
