//! A function's answer as the answer of its URL. Pure.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Headers that are the connection's, and not the function's to set.
const HOP_BY_HOP: [&str; 7] = ["connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

/// So many zero bytes stand between a prelude and the body.
const DELIMITER: [u8; 8] = [0; 8];

/// What stands above an answer's body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
}

/// An answer that says how it is meant.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields<'a> {
    status_code: Option<Value>,
    headers: Option<BTreeMap<String, Value>>,
    cookies: Option<Vec<String>>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    is_base64_encoded: Option<bool>,
}

/// Maps a buffered answer. `None` if it says something that cannot be.
pub(super) fn map(payload: &Bytes) -> Option<(Head, Bytes)> {
    let Ok(json) = serde_json::from_slice::<&RawValue>(payload) else {
        return Some(plain(payload.clone()));
    };
    match json.get().as_bytes().first() {
        Some(b'{') => {
            let fields: Fields<'_> = serde_json::from_str(json.get()).ok()?;
            if fields.status_code.as_ref().is_some_and(|code| !code.is_null()) { structured(&fields) } else { Some(plain(value(json)?)) }
        }
        _ => Some(plain(value(json)?)),
    }
}

/// Reads a prelude: status, headers and cookies of an answer whose body follows.
pub(super) fn prelude(json: &[u8]) -> Option<Head> {
    let fields: Fields<'_> = serde_json::from_slice(json).ok()?;
    let status = fields.status_code.as_ref().map_or(Some(StatusCode::OK), status)?;
    Some(Head { status, headers: headers(&fields)? })
}

/// Where the zero bytes begin, in bytes of which those before `searched` are known to hold none.
pub(super) fn delimiter(bytes: &[u8], searched: usize) -> Option<usize> {
    let from = searched.saturating_sub(DELIMITER.len() - 1);
    bytes[from..].windows(DELIMITER.len()).position(|window| window == DELIMITER).map(|at| from + at)
}

/// Where the body begins that follows a delimiter.
pub(super) fn after(delimiter: usize) -> usize {
    delimiter + DELIMITER.len()
}

fn plain(body: Bytes) -> (Head, Bytes) {
    (Head { status: StatusCode::OK, headers: HeaderMap::new() }, body)
}

fn structured(fields: &Fields<'_>) -> Option<(Head, Bytes)> {
    let body = match fields.body {
        None => Bytes::new(),
        Some(json) => value(json)?,
    };
    let body = if fields.is_base64_encoded == Some(true) { BASE64.decode(&body).ok()?.into() } else { body };
    Some((Head { status: status(fields.status_code.as_ref()?)?, headers: headers(fields)? }, body))
}

/// What a JSON value is as a body: a text without its quotes, `null` as nothing, all else as JSON without white space.
fn value(json: &RawValue) -> Option<Bytes> {
    match json.get().as_bytes() {
        b"null" => Some(Bytes::new()),
        [b'"', ..] => serde_json::from_str::<String>(json.get()).ok().map(Bytes::from),
        bytes => Some(compact(bytes)),
    }
}

/// JSON without the white space between its tokens.
fn compact(json: &[u8]) -> Bytes {
    let mut kept = Vec::with_capacity(json.len());
    let (mut in_text, mut escaped) = (false, false);
    for &byte in json {
        if in_text || !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            kept.push(byte);
        }
        in_text ^= byte == b'"' && !escaped;
        escaped = in_text && byte == b'\\' && !escaped;
    }
    kept.into()
}

/// A number, or a text that is one. One that would announce another answer is none.
fn status(code: &Value) -> Option<StatusCode> {
    let code = match code {
        Value::Number(number) => number.as_u64().or_else(|| number.as_f64().filter(|code| code.fract() == 0.0).map(|code| code as u64))?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    StatusCode::from_u16(u16::try_from(code).ok()?).ok().filter(|status| !status.is_informational())
}

fn headers(fields: &Fields<'_>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields.headers.iter().flatten() {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        if HOP_BY_HOP.contains(&name.as_str()) {
            continue;
        }
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            Value::Array(values) => {
                values.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect::<Vec<_>>().join(",")
            }
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Object(_) => return None,
        };
        headers.append(name, HeaderValue::from_str(&text).or_else(|_| HeaderValue::from_bytes(text.as_bytes())).ok()?);
    }
    for cookie in fields.cookies.iter().flatten() {
        headers.append(SET_COOKIE, HeaderValue::from_bytes(cookie.as_bytes()).ok()?);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = (u16, Vec<(String, String)>, String);

    fn of(payload: &str) -> Option<Found> {
        let (head, body) = map(&Bytes::copy_from_slice(payload.as_bytes()))?;
        let headers = head.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        Some((head.status.as_u16(), headers.collect(), String::from_utf8(body.to_vec()).unwrap()))
    }

    #[test]
    fn what_is_no_answer_is_a_body() {
        for (payload, body) in [
            (r#""hello""#, "hello"),
            (r#""a\"\u00e9\n""#, "a\"é\n"),
            ("42", "42"),
            ("1.50", "1.50"),
            ("true", "true"),
            ("[1, 2, \"a b\"]", "[1,2,\"a b\"]"),
            ("null", ""),
            ("", ""),
            ("{\"a\": \"x \\\" y\", \"b\": [ ]}", "{\"a\":\"x \\\" y\",\"b\":[]}"),
            ("{\"body\": \"x\"}", "{\"body\":\"x\"}"),
            ("{\"statusCode\": null}", "{\"statusCode\":null}"),
            (r#"{"a\\": "b \\" }"#, r#"{"a\\":"b \\"}"#),
            ("no json ", "no json "),
        ] {
            assert_eq!(of(payload), Some((200, Vec::new(), body.to_owned())), "{payload}");
        }
    }

    #[test]
    fn answers() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for (payload, status, headers, body) in [
            (r#"{"statusCode":200}"#, 200, vec![], ""),
            (r#"{"statusCode":404,"body":"gone"}"#, 404, vec![], "gone"),
            (r#"{"statusCode":"201","body":null}"#, 201, vec![], ""),
            (r#"{"statusCode":200.0,"body":"aGk=","isBase64Encoded":true}"#, 200, vec![], "hi"),
            (r#"{"statusCode":200,"body":{"a": 1}}"#, 200, vec![], r#"{"a":1}"#),
            (
                r#"{"statusCode":200,"headers":{"X-A":"b","n":1,"t":true,"l":["x","y"],"z":null,"Content-Length":"9","Connection":"close"},"cookies":["a=1","b=2"]}"#,
                200,
                vec![
                    pair("l", "x,y"),
                    pair("n", "1"),
                    pair("x-a", "b"),
                    pair("t", "true"),
                    pair("set-cookie", "a=1"),
                    pair("set-cookie", "b=2"),
                ],
                "",
            ),
        ] {
            let mut found = of(payload).unwrap();
            let mut headers = headers;
            found.1.sort();
            headers.sort();
            assert_eq!(found, (status, headers, body.to_owned()), "{payload}");
        }
    }

    #[test]
    fn no_answers() {
        for payload in [
            r#"{"statusCode":99}"#,
            r#"{"statusCode":100}"#,
            r#"{"statusCode":1000}"#,
            r#"{"statusCode":-1}"#,
            r#"{"statusCode":200.5}"#,
            r#"{"statusCode":"x"}"#,
            r#"{"statusCode":[]}"#,
            r#"{"statusCode":200,"headers":{"a b":"c"}}"#,
            r#"{"statusCode":200,"headers":{"a":"b\r\nc: d"}}"#,
            r#"{"statusCode":200,"headers":{"a":{}}}"#,
            r#"{"statusCode":200,"headers":"x"}"#,
            r#"{"statusCode":200,"cookies":["\n"]}"#,
            r#"{"statusCode":200,"body":"?","isBase64Encoded":true}"#,
        ] {
            assert_eq!(of(payload), None, "{payload}");
        }
    }

    #[test]
    fn preludes() {
        let found = prelude(br#"{"statusCode":201,"headers":{"content-type":"text/html"},"cookies":["a=1"]}"#).unwrap();
        assert_eq!((found.status.as_u16(), found.headers.len()), (201, 2));
        assert_eq!(prelude(b"{}").unwrap().status, StatusCode::OK);
        for json in [&b""[..], b"[]", b"{\"statusCode\":7}"] {
            assert_eq!(prelude(json), None);
        }
    }

    #[test]
    fn delimiters() {
        for (bytes, searched, at) in [
            (&b""[..], 0, None),
            (b"{}\0\0\0\0\0\0\0", 0, None),
            (b"{}\0\0\0\0\0\0\0\0x", 0, Some(2)),
            (b"{}\0\0\0\0\0\0\0\0", 9, Some(2)),
            (b"\0\0\0\0\0\0\0\0", 0, Some(0)),
        ] {
            assert_eq!(delimiter(bytes, searched), at);
        }
        assert_eq!(after(2), 10);
    }
}
