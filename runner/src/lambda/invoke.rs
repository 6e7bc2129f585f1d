//! What a client of the Invoke API wants, and why it may not have it.

use bytes::Bytes;

use super::RequestId;

/// A request for a function, all of it that can be checked without knowing the function already checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvokeRequest {
    /// The id that is answered, logged, and given to the runtime.
    pub request_id: RequestId,
    /// Which function.
    pub target: InvokeTarget,
    /// How it is invoked.
    pub kind: InvocationKind,
    /// In which form the answer is wanted.
    pub form: AnswerForm,
    /// Whether the end of the log is wanted with the answer (`X-Amz-Log-Type: Tail`).
    pub log_tail: bool,
    /// The event. An empty body has become `{}`.
    pub payload: Bytes,
    /// The client's content type, if it gave one that says something.
    pub content_type: Option<String>,
    /// Client context: the JSON text, decoded.
    pub client_context: Option<String>,
    /// The tenant (`X-Amz-Tenant-Id`).
    pub tenant_id: Option<String>,
    /// The trace it belongs to (`X-Amzn-Trace-Id`), as it came.
    pub trace_id: Option<String>,
}

/// Which function is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvokeTarget {
    /// The function's name.
    pub name: String,
    /// The version or alias, from the name or the query.
    pub qualifier: Option<String>,
    /// The region, when an ARN named it.
    pub region: Option<String>,
    /// The account, when an ARN named it.
    pub account_id: Option<String>,
}

/// `X-Amz-Invocation-Type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvocationKind {
    /// The caller waits for the answer.
    RequestResponse,
    /// The event is queued.
    Event,
    /// Nothing is run.
    DryRun,
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerForm {
    /// All at once; at most six megabytes.
    Buffered,
    /// As it comes.
    Streamed,
}

/// Why a call was refused by whoever knows the functions; what can be seen without that, the Invoke API refuses itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvokeRefusal {
    /// There is no such function (404).
    NotFound {
        /// Its ARN with the qualifier.
        arn: String,
    },
    /// The ARN is of another region (404).
    OtherRegion {
        /// The ARN's.
        asked: String,
        /// Ours.
        here: String,
    },
    /// As many environments as allowed are busy (429).
    Throttled(ThrottleReason),
    /// We could not run it (500).
    Service {
        /// What went wrong, for people.
        message: String,
    },
}

/// AWS's `Reason` of a 429.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThrottleReason {
    /// The function's own limit.
    ReservedFunctionConcurrentInvocationLimitExceeded,
    /// The limit of all together.
    ConcurrentInvocationLimitExceeded,
}
