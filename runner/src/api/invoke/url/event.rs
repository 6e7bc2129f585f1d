//! A request to a function URL as the function's event: payload format 2.0. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use chrono::DateTime;
use hyper::header::{CONTENT_TYPE, COOKIE, HOST, HeaderMap, USER_AGENT};
use hyper::http::request::Parts;
use serde::Serialize;

use crate::lambda::RequestId;

use super::super::server::Ends;

/// A request's headers that are its connection's and not the function's.
const HOP_BY_HOP: [&str; 8] = ["connection", "expect", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

/// What of a request is not in its head.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) body: &'a [u8],
    pub(super) ends: Ends,
    pub(super) request_id: &'a RequestId,
    /// When it came, since the epoch.
    pub(super) now: Duration,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    version: &'static str,
    route_key: &'static str,
    raw_path: &'a str,
    raw_query_string: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<String>,
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    query_string_parameters: Option<BTreeMap<String, String>>,
    request_context: RequestContext<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    is_base64_encoded: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    account_id: &'static str,
    api_id: &'a str,
    domain_name: &'a str,
    domain_prefix: &'a str,
    http: Http<'a>,
    request_id: &'a str,
    route_key: &'static str,
    stage: &'static str,
    time: String,
    time_epoch: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Http<'a> {
    method: &'a str,
    path: &'a str,
    protocol: &'static str,
    source_ip: String,
    user_agent: String,
}

/// The event's JSON.
pub(super) fn event(head: &Parts, around: Around<'_>) -> Bytes {
    let path = if head.uri.path().is_empty() { "/" } else { head.uri.path() };
    let query = head.uri.query().unwrap_or_default();
    let host = text(&head.headers, HOST.as_str());
    let domain_name = without_port(&host);
    let domain_prefix = if is_name(domain_name) { domain_name.split('.').next().unwrap_or_default() } else { "localhost" };
    let (body, is_base64_encoded) = body(&head.headers, around.body);
    let event = Event {
        version: "2.0",
        route_key: "$default",
        raw_path: path,
        raw_query_string: query,
        cookies: cookies(&head.headers),
        headers: headers(&head.headers, around.ends),
        query_string_parameters: query_parameters(query),
        request_context: RequestContext {
            // As without authorization.
            account_id: "anonymous",
            api_id: domain_prefix,
            domain_name,
            domain_prefix,
            http: Http {
                method: head.method.as_str(),
                path,
                protocol: "HTTP/1.1",
                source_ip: around.ends.client.ip().to_canonical().to_string(),
                user_agent: text(&head.headers, USER_AGENT.as_str()),
            },
            request_id: around.request_id.as_str(),
            route_key: "$default",
            stage: "$default",
            time: time(around.now),
            time_epoch: u64::try_from(around.now.as_millis()).unwrap_or(u64::MAX),
        },
        body,
        is_base64_encoded,
    };
    serde_json::to_vec(&event).expect("texts and numbers are always JSON").into()
}

/// All values of a header as one.
fn text(headers: &HeaderMap, name: &str) -> String {
    let values: Vec<_> = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    values.join(",")
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// Whether it has letters, as no IPv4 address has, and no colon, as any IPv6 address has.
fn is_name(domain: &str) -> bool {
    !domain.contains(':') && domain.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// What the function gets: lower-case names, repeated ones joined; less what only AWS may set, which is set here.
fn headers(headers: &HeaderMap, ends: Ends) -> BTreeMap<String, String> {
    let is_ours = |name: &str| name.starts_with("x-amzn-") || name.starts_with("x-forwarded-");
    let names = headers.keys().map(|name| name.as_str());
    let kept = names.filter(|name| !is_ours(name) && !HOP_BY_HOP.contains(name) && *name != COOKIE.as_str());
    let mut kept: BTreeMap<String, String> = kept.map(|name| (name.to_owned(), text(headers, name))).collect();
    kept.insert("x-forwarded-for".to_owned(), ends.client.ip().to_canonical().to_string());
    kept.insert("x-forwarded-port".to_owned(), ends.here.port().to_string());
    kept.insert("x-forwarded-proto".to_owned(), "http".to_owned());
    kept
}

fn cookies(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(COOKIE).iter().map(|line| String::from_utf8_lossy(line.as_bytes()));
    lines
        .flat_map(|line| line.split(';').map(|cookie| cookie.trim().to_owned()).collect::<Vec<_>>())
        .filter(|cookie| !cookie.is_empty())
        .collect()
}

fn query_parameters(query: &str) -> Option<BTreeMap<String, String>> {
    let mut parameters = BTreeMap::<String, String>::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        parameters
            .entry(name.into_owned())
            .and_modify(|values| {
                values.push(',');
                values.push_str(&value);
            })
            .or_insert_with(|| value.clone().into_owned());
    }
    (!parameters.is_empty()).then_some(parameters)
}

/// The body as text if it is said to be some, else in base64.
fn body(headers: &HeaderMap, bytes: &[u8]) -> (Option<String>, bool) {
    if bytes.is_empty() {
        return (None, false);
    }
    match std::str::from_utf8(bytes) {
        Ok(plain) if is_text(&text(headers, CONTENT_TYPE.as_str())) => (Some(plain.to_owned()), false),
        _ => (Some(BASE64.encode(bytes)), true),
    }
}

/// Forms are none to AWS.
fn is_text(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let (kind, subtype) = media_type.split_once('/').unwrap_or((&media_type, ""));
    match kind {
        "" | "text" => true,
        "application" => {
            matches!(subtype, "json" | "javascript" | "xml" | "graphql") || subtype.ends_with("+json") || subtype.ends_with("+xml")
        }
        _ => false,
    }
}

/// As in a web server's log.
fn time(since_epoch: Duration) -> String {
    let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or_default();
    DateTime::from_timestamp(seconds, 0).unwrap_or_default().format("%d/%b/%Y:%H:%M:%S +0000").to_string()
}

#[cfg(test)]
mod tests {
    use hyper::Request;
    use serde_json::{Value, json};

    use super::*;

    fn of(request: hyper::http::request::Builder, body: &[u8]) -> Value {
        let head = request.body(()).unwrap().into_parts().0;
        let ends = Ends { client: "[::ffff:10.1.2.3]:55555".parse().unwrap(), here: "127.0.0.1:3001".parse().unwrap() };
        let request_id = RequestId::from_random([0xab; 16]);
        let around = Around { body, ends, request_id: &request_id, now: Duration::from_millis(1_583_348_638_390) };
        serde_json::from_slice(&event(&head, around)).unwrap()
    }

    #[test]
    fn a_whole_event() {
        let request = Request::post("/my/path%20x?a=1&b=2&a=3&c=%C3%A9")
            .header("Host", "abc.lambda-url.us-east-1.on.aws:3001")
            .header("User-Agent", "agent")
            .header("X-Many", "1")
            .header("X-Many", "2")
            .header("Cookie", "a=1; b=2")
            .header("Cookie", "c=3")
            .header("X-Amzn-Trace-Id", "Root=mine")
            .header("X-Forwarded-For", "6.6.6.6")
            .header("X-Forwarded-Host", "evil")
            .header("Connection", "close")
            .header("Content-Type", "application/json");
        let expected = json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": "/my/path%20x",
            "rawQueryString": "a=1&b=2&a=3&c=%C3%A9",
            "cookies": ["a=1", "b=2", "c=3"],
            "headers": {
                "host": "abc.lambda-url.us-east-1.on.aws:3001",
                "user-agent": "agent",
                "x-many": "1,2",
                "content-type": "application/json",
                "x-forwarded-for": "10.1.2.3",
                "x-forwarded-port": "3001",
                "x-forwarded-proto": "http",
            },
            "queryStringParameters": {"a": "1,3", "b": "2", "c": "é"},
            "requestContext": {
                "accountId": "anonymous",
                "apiId": "abc",
                "domainName": "abc.lambda-url.us-east-1.on.aws",
                "domainPrefix": "abc",
                "http": {"method": "POST", "path": "/my/path%20x", "protocol": "HTTP/1.1", "sourceIp": "10.1.2.3", "userAgent": "agent"},
                "requestId": "abababab-abab-4bab-abab-abababababab",
                "routeKey": "$default",
                "stage": "$default",
                "time": "04/Mar/2020:19:03:58 +0000",
                "timeEpoch": 1_583_348_638_390_u64,
            },
            "body": "{\"a\":1}",
            "isBase64Encoded": false,
        });
        assert_eq!(of(request, b"{\"a\":1}"), expected);
    }

    #[test]
    fn what_is_not_there_is_left_out() {
        let event = of(Request::get("/").header("host", "127.0.0.1:3001"), b"");
        for name in ["cookies", "queryStringParameters", "body"] {
            assert_eq!(event.get(name), None, "{name}");
        }
        assert_eq!(event["rawQueryString"], "");
        assert_eq!(event["requestContext"]["domainName"], "127.0.0.1");
        assert_eq!(event["requestContext"]["domainPrefix"], "localhost");
    }

    #[test]
    fn bodies() {
        for (content_type, bytes, body, is_base64_encoded) in [
            ("text/plain; charset=utf-8", &b"hi"[..], "hi", false),
            ("application/json", b"{}", "{}", false),
            ("application/problem+json", b"{}", "{}", false),
            ("", b"hi", "hi", false),
            ("", b"\xff", "/w==", true),
            ("text/plain", b"\xff", "/w==", true),
            ("application/octet-stream", b"hi", "aGk=", true),
            ("multipart/form-data; boundary=x", b"hi", "aGk=", true),
            ("application/x-www-form-urlencoded", b"a=1", "YT0x", true),
            ("image/png", b"hi", "aGk=", true),
        ] {
            let event = of(Request::post("/").header("content-type", content_type), bytes);
            assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!(body), &json!(is_base64_encoded)), "{content_type}");
        }
    }
}
