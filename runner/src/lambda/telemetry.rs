//! What an extension asks of the Telemetry API or the Logs API, checked.

use std::fmt;
use std::time::Duration;

/// A subscription: which records an extension wants, where, and how many at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetrySubscription {
    /// The form of the records, which also says by which of the two APIs it was made.
    pub schema: TelemetrySchema,
    /// The streams it wants, each once, in the order it named them. Never empty.
    pub streams: Vec<TelemetryStream>,
    /// Where they go.
    pub destination: TelemetryDestination,
    /// How many at a time.
    pub buffering: TelemetryBuffering,
}

/// Which of the two APIs. An extension may use one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TelemetryApi {
    /// `PUT /2022-07-01/telemetry`.
    Telemetry,
    /// `PUT /2020-08-15/logs`, the older one.
    Logs,
}

/// A version of the records' form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TelemetrySchema {
    /// `2020-08-15` of the Logs API.
    Logs20200815,
    /// `2021-03-18` of the Logs API, which knows the end of the runtime's part.
    Logs20210318,
    /// `2022-07-01` of the Telemetry API.
    Telemetry20220701,
    /// `2022-12-13` of the Telemetry API.
    Telemetry20221213,
    /// `2025-01-29` of the Telemetry API.
    Telemetry20250129,
}

impl TelemetrySchema {
    /// The API it belongs to.
    pub fn api(self) -> TelemetryApi {
        match self {
            Self::Logs20200815 | Self::Logs20210318 => TelemetryApi::Logs,
            Self::Telemetry20220701 | Self::Telemetry20221213 | Self::Telemetry20250129 => TelemetryApi::Telemetry,
        }
    }
}

/// A kind of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TelemetryStream {
    /// What the platform says of itself.
    Platform,
    /// What the function writes, and the internal extensions.
    Function,
    /// What external extensions write.
    Extension,
}

impl TelemetryStream {
    /// Its name in subscriptions and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Function => "function",
            Self::Extension => "extension",
        }
    }
}

/// The name as the log has it, with a capital.
impl fmt::Display for TelemetryStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Platform => "Platform",
            Self::Function => "Function",
            Self::Extension => "Extension",
        })
    }
}

/// Where records go: to a port on the sandbox's own loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TelemetryDestination {
    /// As requests.
    Http {
        /// Who listens.
        port: u16,
        /// `sandbox.localdomain:8080`, for the request's `Host`.
        authority: String,
        /// The path with its query, `/` at least.
        path: String,
        /// The method.
        method: TelemetryMethod,
    },
    /// As lines on one connection.
    Tcp {
        /// Who listens.
        port: u16,
    },
}

/// How records are requested to be taken. The Logs API lets its users choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TelemetryMethod {
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
}

/// When a batch is sent: whatever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TelemetryBuffering {
    /// With so many records.
    pub max_items: u32,
    /// With so many bytes.
    pub max_bytes: u32,
    /// So long after its first record.
    pub timeout: Duration,
}

impl Default for TelemetryBuffering {
    fn default() -> Self {
        Self { max_items: 10_000, max_bytes: 262_144, timeout: Duration::from_millis(1000) }
    }
}
