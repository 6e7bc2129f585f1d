//! Why a call was refused, with AWS's status, name and body. How `message` is spelt differs from one to the next, as it does there.

use hyper::StatusCode;
use serde::Serialize;

use crate::lambda::{InvocationKind, InvokeRefusal, ThrottleReason};

/// A refusal as it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// The exception's name, for `x-amzn-ErrorType`.
    pub(super) error_type: &'static str,
    body: Body,
}

/// The fields of all bodies, in AWS's order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Body {
    #[serde(rename = "Reason", skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(rename = "Type", skip_serializing_if = "Option::is_none")]
    fault: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(rename = "Message", skip_serializing_if = "Option::is_none")]
    capital_message: Option<String>,
}

impl Refusal {
    /// The JSON that is answered.
    pub(super) fn body(&self) -> String {
        serde_json::to_string(&self.body).expect("texts are always JSON")
    }

    /// A body, client context or the like that cannot be understood.
    pub(super) fn invalid_content(message: String) -> Self {
        Self::of_user(StatusCode::BAD_REQUEST, "InvalidRequestContentException", message)
    }

    /// Values that contradict each other or this service.
    pub(super) fn invalid_parameter(message: String) -> Self {
        Self::of_user(StatusCode::BAD_REQUEST, "InvalidParameterValueException", message)
    }

    /// A content type other than JSON, where that is demanded.
    pub(super) fn unsupported_media_type(content_type: &str) -> Self {
        let message = format!("Unsupported content type: {content_type}");
        Self::of_user(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaTypeException", message)
    }

    fn of_user(status: StatusCode, error_type: &'static str, message: String) -> Self {
        Self { status, error_type, body: Body { fault: Some("User"), message: Some(message), ..Body::default() } }
    }

    /// A payload over the limit of its kind of invocation.
    pub(super) fn too_large(bytes: u64, kind: InvocationKind, limit: usize) -> Self {
        let kind = if kind == InvocationKind::Event { "Event" } else { "RequestResponse" };
        let message = format!("{bytes} byte payload is too large for the {kind} invocation type (limit {limit} bytes)");
        let body = Body { capital_message: Some(message), ..Body::default() };
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, error_type: "RequestTooLargeException", body }
    }

    /// A value that is not of the service model.
    pub(super) fn validation(message: String) -> Self {
        let body = Body { message: Some(message), ..Body::default() };
        Self { status: StatusCode::BAD_REQUEST, error_type: "ValidationException", body }
    }

    /// A value that does not match its pattern.
    pub(super) fn pattern(member: &str, value: &str, pattern: &str) -> Self {
        Self::constraint(member, value, &format!("Member must satisfy regular expression pattern: {pattern}"))
    }

    /// A value that is none of those there are.
    pub(super) fn not_one_of(member: &str, value: &str, values: &[&str]) -> Self {
        Self::constraint(member, value, &format!("Member must satisfy enum value set: [{}]", values.join(", ")))
    }

    /// A value that is too long.
    pub(super) fn too_long(member: &str, value: &str, most: usize) -> Self {
        Self::constraint(member, value, &format!("Member must have length less than or equal to {most}"))
    }

    /// An empty value.
    pub(super) fn too_short(member: &str, value: &str) -> Self {
        Self::constraint(member, value, "Member must have length greater than or equal to 1")
    }

    fn constraint(member: &str, value: &str, constraint: &str) -> Self {
        Self::validation(format!("1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: {constraint}"))
    }

    /// A fault of ours.
    pub(super) fn service(message: String) -> Self {
        let body = Body { fault: Some("Service"), capital_message: Some(message), ..Body::default() };
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, error_type: "ServiceException", body }
    }

    /// We ended before there was an answer.
    pub(super) fn ended() -> Self {
        Self::service("the service ended before the function answered".to_owned())
    }

    fn not_found(message: String) -> Self {
        let body = Body { fault: Some("User"), capital_message: Some(message), ..Body::default() };
        Self { status: StatusCode::NOT_FOUND, error_type: "ResourceNotFoundException", body }
    }

    fn throttled(reason: ThrottleReason) -> Self {
        let reason = match reason {
            ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded => "ReservedFunctionConcurrentInvocationLimitExceeded",
            ThrottleReason::ConcurrentInvocationLimitExceeded => "ConcurrentInvocationLimitExceeded",
        };
        let body = Body { reason: Some(reason), fault: Some("User"), message: Some("Rate Exceeded.".to_owned()), ..Body::default() };
        Self { status: StatusCode::TOO_MANY_REQUESTS, error_type: "TooManyRequestsException", body }
    }
}

impl From<InvokeRefusal> for Refusal {
    fn from(refusal: InvokeRefusal) -> Self {
        match refusal {
            InvokeRefusal::NotFound { arn } => Self::not_found(format!("Function not found: {arn}")),
            InvokeRefusal::OtherRegion { asked, here } => {
                Self::not_found(format!("Functions from '{asked}' are not reachable in this region ('{here}')"))
            }
            InvokeRefusal::Throttled(reason) => Self::throttled(reason),
            InvokeRefusal::Service { message } => Self::service(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_as_from_aws() {
        let throttled = InvokeRefusal::Throttled(ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded);
        let not_found = InvokeRefusal::NotFound { arn: "arn:aws:lambda:us-east-1:123456789012:function:x:$LATEST".to_owned() };
        let elsewhere = InvokeRefusal::OtherRegion { asked: "us-west-1".to_owned(), here: "us-east-1".to_owned() };
        for (refusal, status, name, body) in [
            (Refusal::invalid_content("m".into()), 400, "InvalidRequestContentException", r#"{"Type":"User","message":"m"}"#),
            (Refusal::invalid_parameter("m".into()), 400, "InvalidParameterValueException", r#"{"Type":"User","message":"m"}"#),
            (Refusal::validation("m".into()), 400, "ValidationException", r#"{"message":"m"}"#),
            (
                Refusal::too_large(6_291_457, InvocationKind::RequestResponse, 6_291_456),
                413,
                "RequestTooLargeException",
                r#"{"Message":"6291457 byte payload is too large for the RequestResponse invocation type (limit 6291456 bytes)"}"#,
            ),
            (
                Refusal::too_large(1_048_577, InvocationKind::Event, 1_048_576),
                413,
                "RequestTooLargeException",
                r#"{"Message":"1048577 byte payload is too large for the Event invocation type (limit 1048576 bytes)"}"#,
            ),
            (
                Refusal::unsupported_media_type("text/x"),
                415,
                "UnsupportedMediaTypeException",
                r#"{"Type":"User","message":"Unsupported content type: text/x"}"#,
            ),
            (
                throttled.into(),
                429,
                "TooManyRequestsException",
                r#"{"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}"#,
            ),
            (
                not_found.into(),
                404,
                "ResourceNotFoundException",
                r#"{"Type":"User","Message":"Function not found: arn:aws:lambda:us-east-1:123456789012:function:x:$LATEST"}"#,
            ),
            (
                elsewhere.into(),
                404,
                "ResourceNotFoundException",
                r#"{"Type":"User","Message":"Functions from 'us-west-1' are not reachable in this region ('us-east-1')"}"#,
            ),
            (Refusal::service("m".into()), 500, "ServiceException", r#"{"Type":"Service","Message":"m"}"#),
        ] {
            assert_eq!((refusal.status.as_u16(), refusal.error_type, refusal.body().as_str()), (status, name, body));
        }
    }
}
