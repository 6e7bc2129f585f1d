//! What destinations are sent: Lambda's record of an event, and dead letters.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::value::RawValue;

use super::course::{Condition, Course, Last, Purpose};
use super::store::Stored;

/// Something for a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Letter {
    /// What it is called among others of its kind: no other event's letter has the name.
    pub(super) name: String,
    /// The document, JSON.
    pub(super) document: String,
    /// The same for a queue.
    pub(super) message: Message,
}

/// What a queue is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) body: String,
    /// Name, type and value.
    pub(super) attributes: Vec<(&'static str, &'static str, String)>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    version: &'static str,
    timestamp: String,
    request_context: RequestContext<'a>,
    request_payload: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_context: Option<ResponseContext<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_payload: Option<Box<RawValue>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    request_id: &'a str,
    function_arn: String,
    condition: Condition,
    approximate_invoke_count: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseContext<'a> {
    status_code: u16,
    executed_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_error: Option<&'static str>,
}

#[derive(Serialize)]
struct DeadLetter<'a> {
    #[serde(rename = "RequestID")]
    request_id: &'a str,
    #[serde(rename = "ErrorCode")]
    error_code: u16,
    #[serde(rename = "ErrorMessage")]
    error_message: &'a str,
    event: Box<RawValue>,
}

/// What is sent for this purpose.
pub(super) fn letter(purpose: Purpose, stored: &Stored, condition: Condition, ended_ms: u64, version: &str) -> Letter {
    let course = &stored.course;
    let name = |kind: &str| format!("{}-{}.{kind}.json", timestamp(ended_ms).replace(':', "-"), course.request_id);
    match purpose {
        Purpose::OnSuccess | Purpose::OnFailure => {
            let document = record(stored, condition, ended_ms, version);
            let kind = if purpose == Purpose::OnSuccess { "success" } else { "failure" };
            Letter { name: name(kind), message: Message { body: document.clone(), attributes: Vec::new() }, document }
        }
        Purpose::DeadLetter => {
            let (error_code, error_message) = why(course, condition);
            let letter = DeadLetter { request_id: &course.request_id, error_code, error_message, event: json(&stored.payload) };
            let mut attributes = vec![("RequestID", "String", course.request_id.clone()), ("ErrorCode", "Number", error_code.to_string())];
            // A queue takes no empty attribute.
            if !error_message.is_empty() {
                attributes.push(("ErrorMessage", "String", error_message.to_owned()));
            }
            let body = String::from_utf8_lossy(&stored.payload).into_owned();
            Letter { name: name("dead-letter"), document: to_json(&letter), message: Message { body, attributes } }
        }
    }
}

fn record(stored: &Stored, condition: Condition, ended_ms: u64, version: &str) -> String {
    let course = &stored.course;
    let answered = course.last.as_ref().filter(|_| course.attempts > 0);
    let response_context = answered.map(|last| ResponseContext {
        status_code: last.status,
        executed_version: version,
        function_error: last.failed.then_some("Unhandled"),
    });
    let record = Record {
        version: "1.0",
        timestamp: timestamp(ended_ms),
        request_context: RequestContext {
            request_id: &course.request_id,
            function_arn: qualified(&course.invoked_function_arn),
            condition,
            approximate_invoke_count: course.attempts,
        },
        request_payload: json(&stored.payload),
        response_payload: response_context.as_ref().map(|_| json(stored.response.as_deref().unwrap_or_default())),
        response_context,
    };
    to_json(&record)
}

/// Lambda's record names a version always.
fn qualified(arn: &str) -> String {
    if arn.split(':').count() > 7 { arn.to_owned() } else { format!("{arn}:$LATEST") }
}

fn why(course: &Course, condition: Condition) -> (u16, &str) {
    match (&course.last, condition) {
        (Some(Last { status, message, .. }), _) => (*status, message),
        (None, Condition::ZeroReservedConcurrency) => (429, "The function's concurrency is zero."),
        (None, _) => (429, "The event was too old before the function had room for it."),
    }
}

fn timestamp(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(DateTime::<Utc>::from_timestamp_millis).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The bytes as JSON as they are, nothing as `null`, and what is no JSON as a string.
fn json(bytes: &[u8]) -> Box<RawValue> {
    let text = String::from_utf8_lossy(bytes);
    if text.trim().is_empty() {
        return RawValue::NULL.to_owned();
    }
    serde_json::from_str(&text).or_else(|_| serde_json::value::to_raw_value(&text)).expect("a text is always JSON as a string")
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts, numbers and raw JSON are always JSON")
}

#[cfg(test)]
mod tests {
    use super::super::course::Last;
    use super::super::course::tests::course;
    use super::*;

    fn stored(attempts: u32, last: Option<Last>, response: Option<&'static str>) -> Stored {
        let arn = "arn:aws:lambda:us-east-1:123456789012:function:fn".to_owned();
        let course = Course { attempts, last, invoked_function_arn: arn, ..course() };
        Stored { course, payload: "{\"a\": 1.0}".into(), response: response.map(Into::into) }
    }

    const ID: &str = "00000000-0000-4000-8000-000000000000";
    const ENDED_MS: u64 = 1_573_755_365_568;

    #[test]
    fn records_are_lambdas() {
        let failed = Last { status: 200, failed: true, message: "boom".to_owned() };
        let succeeded = Last { status: 200, failed: false, message: String::new() };
        let fault = Last { status: 500, failed: false, message: "no room".to_owned() };
        let begin = r#"{"version":"1.0","timestamp":"2019-11-14T18:16:05.568Z","requestContext":{"requestId":"00000000-0000-4000-8000-000000000000","functionArn":"arn:aws:lambda:us-east-1:123456789012:function:fn:$LATEST","condition":"#;
        for (stored, purpose, condition, rest) in [
            (
                stored(3, Some(failed), Some("{\"errorMessage\":\"boom\"}")),
                Purpose::OnFailure,
                Condition::RetriesExhausted,
                r#""RetriesExhausted","approximateInvokeCount":3},"requestPayload":{"a": 1.0},"responseContext":{"statusCode":200,"executedVersion":"$LATEST","functionError":"Unhandled"},"responsePayload":{"errorMessage":"boom"}}"#,
            ),
            (
                stored(1, Some(succeeded.clone()), Some("not json")),
                Purpose::OnSuccess,
                Condition::Success,
                r#""Success","approximateInvokeCount":1},"requestPayload":{"a": 1.0},"responseContext":{"statusCode":200,"executedVersion":"$LATEST"},"responsePayload":"not json"}"#,
            ),
            (
                stored(1, Some(succeeded), Some("")),
                Purpose::OnSuccess,
                Condition::Success,
                r#""Success","approximateInvokeCount":1},"requestPayload":{"a": 1.0},"responseContext":{"statusCode":200,"executedVersion":"$LATEST"},"responsePayload":null}"#,
            ),
            (
                stored(0, Some(fault), None),
                Purpose::OnFailure,
                Condition::EventAgeExceeded,
                r#""EventAgeExceeded","approximateInvokeCount":0},"requestPayload":{"a": 1.0}}"#,
            ),
        ] {
            let letter = letter(purpose, &stored, condition, ENDED_MS, "$LATEST");
            assert_eq!(letter.document, format!("{begin}{rest}"));
            assert_eq!(letter.message, Message { body: letter.document, attributes: Vec::new() });
        }
    }

    #[test]
    fn dead_letters_are_the_event_with_the_error_beside_it() {
        let failed = Last { status: 200, failed: true, message: "boom".to_owned() };
        let sent = letter(Purpose::DeadLetter, &stored(3, Some(failed), None), Condition::RetriesExhausted, ENDED_MS, "$LATEST");
        assert_eq!(sent.name, format!("2019-11-14T18-16-05.568Z-{ID}.dead-letter.json"));
        assert_eq!(sent.document, format!(r#"{{"RequestID":"{ID}","ErrorCode":200,"ErrorMessage":"boom","event":{{"a": 1.0}}}}"#));
        let attributes = vec![
            ("RequestID", "String", ID.to_owned()),
            ("ErrorCode", "Number", "200".to_owned()),
            ("ErrorMessage", "String", "boom".to_owned()),
        ];
        assert_eq!(sent.message, Message { body: "{\"a\": 1.0}".to_owned(), attributes });
        let old = letter(Purpose::DeadLetter, &stored(0, None, None), Condition::EventAgeExceeded, ENDED_MS, "$LATEST");
        assert!(old.document.contains("\"ErrorCode\":429"), "{}", old.document);
    }
}
