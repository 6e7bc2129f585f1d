//! One invocation: what goes in, and how it may end.

use std::fmt;

use bytes::Bytes;

use super::{ErrorType, PlatformError};

/// The id of one invocation: a UUID version 4, as in START lines, headers and error messages.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(String);

impl RequestId {
    /// The id made of these random bytes; version and variant bits are set here.
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex = |range: std::ops::Range<usize>| bytes[range].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Self([hex(0..4), hex(4..6), hex(6..8), hex(8..10), hex(10..16)].join("-"))
    }

    /// The id that was written so, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        let of_form = text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            });
        of_form.then(|| Self(text.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One event on its way to the runtime, with all that is sent beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Its id.
    pub request_id: RequestId,
    /// The event's bytes, never looked at.
    pub event: Bytes,
    /// The invoker's content type; `application/json` if it gave none.
    pub content_type: Option<String>,
    /// The ARN it was invoked by, with the qualifier if one was used.
    pub invoked_function_arn: String,
    /// The trace it belongs to.
    pub trace_id: String,
    /// Client context: the JSON text itself.
    pub client_context: Option<String>,
    /// Cognito identity: the JSON text itself.
    pub cognito_identity: Option<String>,
    /// The tenant it is for.
    pub tenant_id: Option<String>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The handler answered.
    Success {
        /// The answer's bytes as the runtime posted them.
        payload: Bytes,
    },
    /// The function failed.
    FunctionError(FunctionError),
    /// We were told to stop before there was an answer; nothing of the run is left.
    Interrupted {
        /// The number of the signal.
        signal: i32,
    },
}

/// A failed invocation, as the invoker sees it. A value, not an `Error`: the run itself went well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionError {
    /// The error's JSON: the runtime's own bytes, or the platform's body.
    pub payload: Bytes,
    /// Who reported it.
    pub kind: ErrorKind,
}

/// Who reported a function's failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorKind {
    /// The runtime, for the handler.
    Handler(ErrorType),
    /// The runtime, for its own initialisation.
    Init(ErrorType),
    /// The platform: the runtime did not, or could not.
    Platform(PlatformError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_uuids_of_version_4() {
        for (byte, text) in [(0x00, "00000000-0000-4000-8000-000000000000"), (0xff, "ffffffff-ffff-4fff-bfff-ffffffffffff")] {
            assert_eq!(RequestId::from_random([byte; 16]).as_str(), text);
        }
    }
}
