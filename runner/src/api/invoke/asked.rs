//! What a request's path, query and headers ask for, by the rules of Lambda's service model.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use serde::de::IgnoredAny;

use crate::lambda::{AnswerForm, InvocationKind, InvokeRequest, InvokeTarget, RequestId};

use super::ContentTypes;
use super::refusal::Refusal;
use super::route::Action;
use super::target::target;

const INVOCATION_TYPE: &str = "x-amz-invocation-type";
const LOG_TYPE: &str = "x-amz-log-type";
const CLIENT_CONTEXT: &str = "x-amz-client-context";
const TENANT_ID: &str = "x-amz-tenant-id";
const TRACE_ID: &str = "x-amzn-trace-id";

/// The most that a client context may be, in base64.
const MAX_CLIENT_CONTEXT_BYTES: usize = 3583;
/// Far more than a trace's fields can be together.
const MAX_TRACE_BYTES: usize = 512;
const MAX_TENANT_ID_BYTES: usize = 256;
const TENANT_ID_PATTERN: &str = r"[a-zA-Z0-9\._:\/=+\-@ ]+";

/// A call without its payload.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) target: InvokeTarget,
    pub(super) kind: InvocationKind,
    pub(super) form: AnswerForm,
    pub(super) log_tail: bool,
    pub(super) client_context: Option<String>,
    pub(super) tenant_id: Option<String>,
    pub(super) trace_id: Option<String>,
}

impl Asked {
    /// The call with its payload.
    pub(super) fn with(self, request_id: RequestId, payload: Bytes) -> InvokeRequest {
        let Self { target, kind, form, log_tail, client_context, tenant_id, trace_id } = self;
        InvokeRequest { request_id, target, kind, form, log_tail, payload, content_type: None, client_context, tenant_id, trace_id }
    }
}

/// Reads what is asked for.
pub(super) fn asked(
    name: &str,
    action: Action,
    query: Option<&str>,
    headers: &HeaderMap,
    content_types: ContentTypes,
) -> Result<Asked, Refusal> {
    let (form, kind, qualifier) = match action {
        Action::Invoke(form) => (form, invocation_kind(form, text(headers, INVOCATION_TYPE)?)?, qualifier(query)),
        Action::Async => (AnswerForm::Buffered, InvocationKind::Event, None),
    };
    let log_tail = match text(headers, LOG_TYPE)? {
        None | Some("None") => false,
        Some("Tail") => kind == InvocationKind::RequestResponse,
        Some(other) => return Err(Refusal::not_one_of("logType", other, &["None", "Tail"])),
    };
    // A client context that a queued event is sent with is looked at, and goes no further.
    let client_context = client_context(text(headers, CLIENT_CONTEXT)?)?.filter(|_| kind == InvocationKind::RequestResponse);
    check_content_type(headers, content_types)?;
    Ok(Asked {
        target: target(name, qualifier.as_deref())?,
        kind,
        form,
        log_tail,
        client_context,
        tenant_id: tenant_id(text(headers, TENANT_ID)?)?,
        // Not in the service model: one that cannot be read, or is no trace by its size, is none.
        trace_id: text(headers, TRACE_ID).unwrap_or_default().filter(|trace| trace.len() <= MAX_TRACE_BYTES).map(str::to_owned),
    })
}

/// A header's text. An empty one is as good as none.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().map_err(|_| Refusal::validation(format!("1 validation error detected: header '{name}' is no ASCII text")))?;
    Ok(Some(text.trim()).filter(|text| !text.is_empty()))
}

fn invocation_kind(form: AnswerForm, asked: Option<&str>) -> Result<InvocationKind, Refusal> {
    match (asked, form) {
        (None | Some("RequestResponse"), _) => Ok(InvocationKind::RequestResponse),
        (Some("DryRun"), _) => Ok(InvocationKind::DryRun),
        (Some("Event"), AnswerForm::Buffered) => Ok(InvocationKind::Event),
        (Some(other), AnswerForm::Buffered) => Err(Refusal::not_one_of("invocationType", other, &["Event", "RequestResponse", "DryRun"])),
        (Some(other), AnswerForm::Streamed) => Err(Refusal::not_one_of("invocationType", other, &["RequestResponse", "DryRun"])),
    }
}

fn qualifier(query: Option<&str>) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.find(|(name, _)| name == "Qualifier").map(|(_, value)| value.into_owned())
}

/// Base64 of a JSON object.
fn client_context(encoded: Option<&str>) -> Result<Option<String>, Refusal> {
    let Some(encoded) = encoded else { return Ok(None) };
    if encoded.len() > MAX_CLIENT_CONTEXT_BYTES {
        let message =
            format!("Client context must be at most {MAX_CLIENT_CONTEXT_BYTES} bytes when base64-encoded: it is {} bytes.", encoded.len());
        return Err(Refusal::invalid_parameter(message));
    }
    let decoded = BASE64.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let object = decoded.filter(|json| json.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(json).is_ok());
    object.map(Some).ok_or_else(|| Refusal::invalid_content("Client context must be a valid Base64-encoded JSON object.".to_owned()))
}

fn tenant_id(tenant: Option<&str>) -> Result<Option<String>, Refusal> {
    let Some(tenant) = tenant else { return Ok(None) };
    if tenant.len() > MAX_TENANT_ID_BYTES {
        return Err(Refusal::too_long("tenantId", tenant, MAX_TENANT_ID_BYTES));
    }
    if !tenant.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:/=+-@ ".contains(&byte)) {
        return Err(Refusal::pattern("tenantId", tenant, TENANT_ID_PATTERN));
    }
    Ok(Some(tenant.to_owned()))
}

/// Whether the client's content type is taken. It goes no further: the event is JSON, whatever it is called (SDKs say `application/octet-stream`, curl a
/// form), and Python's runtime client hands events of another type to the handler as bytes.
fn check_content_type(headers: &HeaderMap, accepted: ContentTypes) -> Result<(), Refusal> {
    let Some(text) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty()) else {
        return Ok(());
    };
    let media_type = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if accepted == ContentTypes::JsonOnly && !matches!(media_type.as_str(), "application/json" | "application/octet-stream") {
        return Err(Refusal::unsupported_media_type(text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    const BUFFERED: Action = Action::Invoke(AnswerForm::Buffered);
    const STREAMED: Action = Action::Invoke(AnswerForm::Streamed);

    fn of(action: Action, query: Option<&str>, headers: &[(&'static str, &str)]) -> Result<Asked, String> {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect();
        asked("fn", action, query, &headers, ContentTypes::Any).map_err(|refusal| format!("{} {}", refusal.error_type, refusal.body()))
    }

    #[test]
    fn kinds_and_forms() {
        use InvocationKind::{DryRun, Event, RequestResponse};
        for (action, asked, kind) in [
            (BUFFERED, "", Some(RequestResponse)),
            (BUFFERED, "RequestResponse", Some(RequestResponse)),
            (BUFFERED, "Event", Some(Event)),
            (BUFFERED, "DryRun", Some(DryRun)),
            (BUFFERED, "dryrun", None),
            (STREAMED, "RequestResponse", Some(RequestResponse)),
            (STREAMED, "DryRun", Some(DryRun)),
            (STREAMED, "Event", None),
            (Action::Async, "DryRun", Some(Event)),
        ] {
            let found = of(action, None, &[(INVOCATION_TYPE, asked)]);
            assert_eq!(found.as_ref().ok().map(|asked| asked.kind), kind, "{asked}: {found:?}");
        }
        let refusal = of(BUFFERED, None, &[(INVOCATION_TYPE, "x")]).unwrap_err();
        assert!(
            refusal.contains("ValidationException") && refusal.contains("enum value set: [Event, RequestResponse, DryRun]"),
            "{refusal}"
        );
    }

    #[test]
    fn everything_else() {
        let context = BASE64.encode(r#"{"custom":{"a":1}}"#);
        let all = [
            (LOG_TYPE, "Tail"),
            (CLIENT_CONTEXT, context.as_str()),
            (TENANT_ID, "blue/1"),
            (TRACE_ID, "Root=1-2-3"),
            ("content-type", "text/plain"),
        ];
        let found = of(BUFFERED, Some("x=1&Qualifier=%24LATEST"), &all).unwrap();
        assert!(found.log_tail);
        assert_eq!(found.target.qualifier.as_deref(), Some("$LATEST"));
        assert_eq!(found.client_context.as_deref(), Some(r#"{"custom":{"a":1}}"#));
        assert_eq!((found.tenant_id.as_deref(), found.trace_id.as_deref()), (Some("blue/1"), Some("Root=1-2-3")));
        let queued = of(BUFFERED, None, &[all[0], all[1], (INVOCATION_TYPE, "Event")]).unwrap();
        assert_eq!((queued.log_tail, queued.client_context), (false, None));
    }

    #[test]
    fn refusals() {
        let array = BASE64.encode("[]");
        let long = BASE64.encode(format!(r#"{{"a":"{}"}}"#, "x".repeat(2700)));
        for (header, value, parts) in [
            (LOG_TYPE, "tail", ["ValidationException", "Value 'tail' at 'logType'"]),
            (CLIENT_CONTEXT, "e30", ["InvalidRequestContentException", "Client context must be a valid Base64-encoded JSON object."]),
            (CLIENT_CONTEXT, &array, ["InvalidRequestContentException", "Base64-encoded"]),
            (CLIENT_CONTEXT, &long, ["InvalidParameterValueException", "3583"]),
            (TENANT_ID, "a,b", ["ValidationException", "at 'tenantId'"]),
            (TENANT_ID, &"x".repeat(257), ["ValidationException", "less than or equal to 256"]),
        ] {
            let refusal = of(BUFFERED, None, &[(header, value)]).unwrap_err();
            assert!(parts.iter().all(|part| refusal.contains(part)), "{header}: {refusal}");
        }
        let headers: HeaderMap = [(CONTENT_TYPE, HeaderValue::from_static("text/plain"))].into_iter().collect();
        let refusal = asked("fn", BUFFERED, None, &headers, ContentTypes::JsonOnly).unwrap_err();
        assert_eq!(refusal.body(), r#"{"Type":"User","message":"Unsupported content type: text/plain"}"#);
    }
}
