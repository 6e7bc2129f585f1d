//! Lambda's Invoke API over HTTP: one request becomes one [`InvokeCall`], and the reply to it is rendered.

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::lambda::{InvokeRefusal, InvokeRequest};

/// A request for a function, and where the reply goes. Dropping `reply` is answered as a fault of the service.
#[derive(Debug)]
pub struct InvokeCall {
    /// What is wanted.
    pub request: InvokeRequest,
    /// Where the reply goes. That its receiver is gone means that the caller is.
    pub reply: oneshot::Sender<InvokeReply>,
}

/// What became of a call.
#[derive(Debug)]
pub enum InvokeReply {
    /// The function answered, or failed.
    Answered(Answered),
    /// An event was taken and will be delivered (202).
    Accepted,
    /// A dry run found nothing wrong (204).
    Verified,
    /// It was refused.
    Refused(InvokeRefusal),
}

/// A function's answer.
#[derive(Debug)]
pub struct Answered {
    /// The version that ran, such as `$LATEST`.
    pub version: String,
    /// The trace it belongs to, as the runtime got it.
    pub trace_id: String,
    /// The answer itself.
    pub body: AnsweredBody,
}

/// The two forms of an answer.
#[derive(Debug)]
pub enum AnsweredBody {
    /// All of it.
    Whole {
        /// The runtime's bytes, or the error's JSON.
        payload: Bytes,
        /// Whether the function failed.
        failed: bool,
        /// The last bytes of the invocation's log, START to REPORT, if they were asked for.
        log_tail: Option<Vec<u8>>,
    },
    /// Parts of it as the runtime posts them. Only for callers that asked for a stream.
    Stream {
        /// The content type that the function gave it.
        content_type: Option<String>,
        /// The parts; a channel that ends without [`StreamPart::End`] was cut.
        parts: mpsc::Receiver<StreamPart>,
    },
}

/// A part of a streamed answer.
#[derive(Debug)]
pub enum StreamPart {
    /// Bytes.
    Data(Bytes),
    /// The end.
    End {
        /// The error's type and JSON, if the function failed on the way.
        error: Option<(String, Bytes)>,
        /// The last bytes of the invocation's log, if they were asked for.
        log_tail: Option<Vec<u8>>,
    },
}
