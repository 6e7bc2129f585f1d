//! Posted bodies: taken up to the largest payload, with their trailers, and told apart from those that cannot be used.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::lambda::{ErrorPost, ErrorType, MAX_PAYLOAD_BYTES, MAX_STREAM_BYTES, Posted, StreamEnd};

const RESPONSE_MODE: &str = "lambda-runtime-function-response-mode";
const ERROR_TYPE: &str = "lambda-runtime-function-error-type";
const ERROR_BODY: &str = "lambda-runtime-function-error-body";
const ERROR_CAUSE_JSON: &str = "application/vnd.aws.lambda.error.cause+json";

/// So much more of a body that is too large is read and thrown away, since a client that still writes would see a reset instead of our answer.
const DISCARD_BYTES: usize = 64 * 1024 * 1024;

/// How a response is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Buffered,
    Streaming,
    Unknown,
}

impl Mode {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        match headers.get(RESPONSE_MODE).map(|mode| mode.as_bytes()) {
            None | Some(b"") => Self::Buffered,
            Some(b"streaming") => Self::Streaming,
            Some(_) => Self::Unknown,
        }
    }
}

/// A body that arrived whole.
struct Received {
    bytes: Bytes,
    trailers: HeaderMap,
}

/// The body of a `response` call that is taken whole. Trailers at its end turn it into an error.
pub(super) async fn response(request: Request<Incoming>) -> Posted<Result<Bytes, ErrorPost>> {
    let (head, body) = request.into_parts();
    if Mode::of(&head.headers) == Mode::Unknown {
        discard(body).await;
        return Posted::InvalidMode;
    }
    receive(body, MAX_PAYLOAD_BYTES).await.map(|received| match received.trailers.get(ERROR_TYPE) {
        Some(_) => Err(trailing_error(&received.trailers)),
        None => Ok(received.bytes),
    })
}

/// The body of an `error` call. The cause sent for X-Ray, in a header or beside the error, goes no further.
pub(super) async fn error(request: Request<Incoming>) -> Posted<ErrorPost> {
    let (head, body) = request.into_parts();
    let error_type = ErrorType::from_header(text(&head.headers, ERROR_TYPE));
    let media_type = text(&head.headers, CONTENT_TYPE.as_str()).and_then(|value| value.split(';').next()).unwrap_or_default();
    let has_cause = media_type.trim().eq_ignore_ascii_case(ERROR_CAUSE_JSON);
    receive(body, MAX_PAYLOAD_BYTES)
        .await
        .map(|received| ErrorPost { error_type, body: if has_cause { without_cause(&received.bytes) } else { received.bytes } })
}

/// A body of at most so many bytes, whatever it is.
pub(super) async fn whole(body: Incoming, limit: usize) -> Posted<Bytes> {
    receive(body, limit).await.map(|received| received.bytes)
}

/// Gives on the parts of a `response` call that is streamed, and says how many bytes they had and how they ended.
pub(super) async fn forward(mut body: Incoming, parts: mpsc::Sender<Bytes>) -> (u64, StreamEnd) {
    let (mut bytes, mut trailers) = (0, HeaderMap::new());
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return (bytes, StreamEnd::Truncated) };
        match frame.into_data() {
            Ok(data) => {
                bytes += data.len() as u64;
                if bytes > MAX_STREAM_BYTES {
                    drop(parts);
                    discard(body).await;
                    return (bytes, StreamEnd::TooLarge);
                }
                // Nobody may want them any more; the runtime goes on all the same.
                let _ = parts.send(data).await;
            }
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    match trailers.get(ERROR_TYPE) {
        Some(_) => (bytes, StreamEnd::Failed(trailing_error(&trailers))),
        None => (bytes, StreamEnd::Whole),
    }
}

/// The content type of a request, if it gave one.
pub(super) fn content_type(headers: &HeaderMap) -> Option<String> {
    text(headers, CONTENT_TYPE.as_str()).filter(|value| !value.is_empty()).map(str::to_owned)
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The error told by the trailers of a streamed response: its type as text, its JSON in base64.
fn trailing_error(trailers: &HeaderMap) -> ErrorPost {
    let encoded = trailers.get(ERROR_BODY).map(|value| value.as_bytes()).unwrap_or_default();
    let body = BASE64.decode(encoded).map_or_else(|_| Bytes::copy_from_slice(encoded), Bytes::from);
    ErrorPost { error_type: ErrorType::from_header(text(trailers, ERROR_TYPE)), body }
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorFields<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    error_message: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    error_type: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    stack_trace: Option<&'a RawValue>,
}

/// The three fields that are the invoker's.
fn without_cause(body: &[u8]) -> Bytes {
    let fields = serde_json::from_slice::<ErrorFields<'_>>(body).and_then(|fields| serde_json::to_vec(&fields));
    fields.map_or(Bytes::from_static(b"\"Invalid error body\""), Bytes::from)
}

/// Takes a body, holding no more than `limit`.
async fn receive(mut body: Incoming, limit: usize) -> Posted<Received> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        discard(body).await;
        return Posted::TooLarge;
    }
    let mut received = Received { bytes: Bytes::new(), trailers: HeaderMap::new() };
    let mut bytes = BytesMut::with_capacity(announced);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Posted::Truncated };
        match frame.into_data() {
            Ok(data) if bytes.len() + data.len() > limit => {
                drop(bytes);
                discard(body).await;
                return Posted::TooLarge;
            }
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => received.trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    received.bytes = bytes.freeze();
    Posted::Whole(received)
}

/// Reads the rest of a body that nobody wants, within reason.
pub(super) async fn discard(mut body: Incoming) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await
        && read < DISCARD_BYTES
    {
        read += frame.data_ref().map_or(0, Bytes::len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_taken_off() {
        for (body, kept) in [
            (
                r#"{"errorMessage":"m","errorType":"t","stackTrace":["a", "b"],"errorCause":{"x":1}}"#,
                r#"{"errorMessage":"m","errorType":"t","stackTrace":["a", "b"]}"#,
            ),
            (r#"{"errorCause":{}, "errorType": "t"}"#, r#"{"errorType":"t"}"#),
            ("not json", r#""Invalid error body""#),
            ("[]", r#""Invalid error body""#),
            ("", r#""Invalid error body""#),
        ] {
            assert_eq!(without_cause(body.as_bytes()), kept, "{body}");
        }
    }
}
