//! Bodies of requests: taken up to a limit, into one buffer.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use serde_json::value::RawValue;

use crate::lambda::InvocationKind;

use super::refusal::Refusal;

/// The largest payload of an invocation whose caller waits.
pub(super) const MAX_SYNC_BYTES: usize = 6 * 1024 * 1024;
/// The largest payload of one that is queued (262 144 until 2025).
const MAX_EVENT_BYTES: usize = 1024 * 1024;
/// So much of a body that nobody wants is read and thrown away, since a client that still writes would see a reset instead of our answer.
const MAX_DISCARDED_BYTES: u64 = 64 * 1024 * 1024;
/// How long a client may be silent within a body.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// What came of a body.
#[derive(Debug)]
pub(super) enum Taken {
    /// All of it.
    Whole(Bytes),
    /// It has so many bytes, or at least so many have come.
    TooLarge { bytes: u64 },
    /// It ended before its end.
    Cut,
}

/// The most bytes that a payload may have.
pub(super) fn limit(kind: InvocationKind) -> usize {
    match kind {
        InvocationKind::Event => MAX_EVENT_BYTES,
        InvocationKind::RequestResponse | InvocationKind::DryRun => MAX_SYNC_BYTES,
    }
}

/// The event of an invocation of this kind: JSON, or nothing, which stands for `{}`.
pub(super) async fn event(body: Incoming, kind: InvocationKind) -> Result<Bytes, Refusal> {
    match take(body, limit(kind)).await {
        Taken::Whole(bytes) if bytes.is_empty() => Ok(Bytes::from_static(b"{}")),
        Taken::Whole(bytes) => check(&bytes).map(|()| bytes),
        Taken::TooLarge { bytes } => Err(Refusal::too_large(bytes, kind, limit(kind))),
        Taken::Cut => Err(cut()),
    }
}

/// A body that did not come whole; hardly anybody is left to be told.
pub(super) fn cut() -> Refusal {
    Refusal::invalid_content("Could not read request body: it ended before its end".to_owned())
}

/// Whether it is JSON in UTF-8. Nothing is made of it, and no depth of it matters: what is skipped is counted, not stacked.
fn check(bytes: &[u8]) -> Result<(), Refusal> {
    match serde_json::from_slice::<&RawValue>(bytes) {
        Ok(_) => Ok(()),
        Err(error) => {
            let message = format!("Could not parse request body into json: Could not parse payload into json: {error}");
            Err(Refusal::invalid_content(message))
        }
    }
}

/// Takes a body of at most `limit` bytes. Of a larger one nothing is kept.
pub(super) async fn take(mut body: Incoming, limit: usize) -> Taken {
    let announced = body.size_hint().lower();
    if announced > limit as u64 {
        discard(body).await;
        return Taken::TooLarge { bytes: announced };
    }
    let mut bytes = BytesMut::new();
    while let Some(frame) = next(&mut body).await {
        let Some(data) = frame else { return Taken::Cut };
        if bytes.len() + data.len() > limit {
            let seen = (bytes.len() + data.len()) as u64;
            drop(bytes);
            return Taken::TooLarge { bytes: seen + discard(body).await };
        }
        if bytes.is_empty() {
            if data.len() as u64 == announced {
                return Taken::Whole(data);
            }
            bytes.reserve(usize::try_from(announced).unwrap_or(limit).max(data.len()));
        }
        bytes.extend_from_slice(&data);
    }
    Taken::Whole(bytes.freeze())
}

/// Reads a body that nobody wants, within reason, and counts it.
pub(super) async fn discard(mut body: Incoming) -> u64 {
    let mut read = 0;
    while read < MAX_DISCARDED_BYTES
        && let Some(Some(data)) = next(&mut body).await
    {
        read += data.len() as u64;
    }
    read
}

/// The next bytes; `Some(None)` if they do not come. Trailers are not for us.
async fn next(body: &mut Incoming) -> Option<Option<Bytes>> {
    match tokio::time::timeout(STALL_TIMEOUT, body.frame()).await {
        Ok(None) => None,
        Ok(Some(Ok(frame))) => Some(Some(frame.into_data().unwrap_or_default())),
        Ok(Some(Err(_))) | Err(_) => Some(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_nothing_else() {
        let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        for json in ["{}", "null", " [1, 2.5e3, \"\\u00e9é\"]\n", "\"text\"", "0", &deep] {
            assert_eq!(check(json.as_bytes()), Ok(()), "{}", &json[..json.len().min(40)]);
        }
        for (bytes, part) in [
            (&b"notjson"[..], "expected ident"),
            (b"{", "EOF"),
            (b"{} {}", "trailing"),
            (b"\"\xff\"", "invalid unicode"),
            (b"NaN", "expected value"),
            (b"[[[[", "EOF"),
        ] {
            let refusal = check(bytes).unwrap_err();
            assert_eq!(refusal.error_type, "InvalidRequestContentException");
            let start = r#"{"Type":"User","message":"Could not parse request body into json: Could not parse payload into json: "#;
            assert!(refusal.body().starts_with(start) && refusal.body().contains(part), "{}", refusal.body());
        }
    }
}
