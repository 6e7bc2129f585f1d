//! Bodies of the Telemetry API and the Logs API: parsed, checked, and told all that is wrong with them at once.

use std::time::Duration;

use hyper::Uri;
use serde_json::{Map, Value};

use crate::lambda::{
    TelemetryApi, TelemetryBuffering, TelemetryDestination, TelemetryMethod, TelemetrySchema, TelemetryStream, TelemetrySubscription,
};

/// Names of the sandbox's own loopback, the only place where records go.
const HOSTS: [&str; 2] = ["sandbox.localdomain", "sandbox"];

const MAX_ITEMS: Range = Range { name: "maxItems", min: 1_000, max: 10_000 };
const MAX_BYTES: Range = Range { name: "maxBytes", min: 262_144, max: 1_048_576 };
const TIMEOUT_MS: Range = Range { name: "timeoutMs", min: 25, max: 30_000 };

/// A number of the buffering configuration.
struct Range {
    name: &'static str,
    min: u32,
    max: u32,
}

/// The subscription that a body asks for, or what is wrong with it, for people.
pub(super) fn parse(api: TelemetryApi, body: &[u8]) -> Result<TelemetrySubscription, String> {
    let fields: Map<String, Value> = match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) => return Err("request body must be a JSON object".to_owned()),
        Err(error) => return Err(format!("failed to parse JSON: {error}")),
    };
    let mut problems = Vec::new();
    let mut checked = |problem: String| problems.push(problem);
    let schema = schema(api, &fields).map_err(&mut checked).ok();
    let destination = destination(api, &fields).map_err(&mut checked).ok();
    let streams = streams(&fields).map_err(&mut checked).ok();
    let buffering = buffering(&fields, &mut checked);
    match (schema, streams, destination, buffering) {
        (Some(schema), Some(streams), Some(destination), Some(buffering)) => {
            Ok(TelemetrySubscription { schema, streams, destination, buffering })
        }
        _ => Err(problems.join("; ")),
    }
}

/// A field that is there: `null` says as little as nothing.
fn given<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| !value.is_null())
}

fn schema(api: TelemetryApi, fields: &Map<String, Value>) -> Result<TelemetrySchema, String> {
    let known: &[(&str, TelemetrySchema)] = match api {
        TelemetryApi::Telemetry => &[
            ("2022-07-01", TelemetrySchema::Telemetry20220701),
            ("2022-12-13", TelemetrySchema::Telemetry20221213),
            ("2025-01-29", TelemetrySchema::Telemetry20250129),
        ],
        TelemetryApi::Logs => &[("2020-08-15", TelemetrySchema::Logs20200815), ("2021-03-18", TelemetrySchema::Logs20210318)],
    };
    let Some(version) = given(fields, "schemaVersion") else {
        return match api {
            TelemetryApi::Logs => Ok(TelemetrySchema::Logs20200815),
            TelemetryApi::Telemetry => Err("schemaVersion is required".to_owned()),
        };
    };
    let schema = known.iter().find(|(name, _)| version == name).map(|(_, schema)| *schema);
    schema.ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        format!("schemaVersion must be one of {}", names.join(", "))
    })
}

fn streams(fields: &Map<String, Value>) -> Result<Vec<TelemetryStream>, String> {
    let names = match given(fields, "types") {
        Some(Value::Array(names)) => names,
        Some(_) => return Err("types must be an array".to_owned()),
        None => return Err("types is required".to_owned()),
    };
    let mut streams = Vec::new();
    for name in names {
        let known = [TelemetryStream::Platform, TelemetryStream::Function, TelemetryStream::Extension];
        match known.into_iter().find(|stream| name == stream.name()) {
            Some(stream) if streams.contains(&stream) => {}
            Some(stream) => streams.push(stream),
            None => return Err("types may hold platform, function and extension only".to_owned()),
        }
    }
    if streams.is_empty() { Err("types should not be empty".to_owned()) } else { Ok(streams) }
}

fn destination(api: TelemetryApi, fields: &Map<String, Value>) -> Result<TelemetryDestination, String> {
    let destination = match given(fields, "destination") {
        Some(Value::Object(destination)) => destination,
        Some(_) => return Err("destination must be an object".to_owned()),
        None => return Err("destination is required".to_owned()),
    };
    match given(destination, "protocol").and_then(Value::as_str) {
        Some("HTTP") => http(api, destination),
        Some("TCP") => {
            let port = given(destination, "port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
            let port = port.filter(|port| *port > 0).ok_or("destination.port must be between 1 and 65535")?;
            Ok(TelemetryDestination::Tcp { port })
        }
        Some(_) => Err("destination.protocol must be HTTP or TCP".to_owned()),
        None => Err("destination.protocol is required".to_owned()),
    }
}

fn http(api: TelemetryApi, destination: &Map<String, Value>) -> Result<TelemetryDestination, String> {
    let uri = given(destination, "URI").and_then(Value::as_str).ok_or("destination.URI is required")?;
    let uri: Uri = uri.parse().map_err(|error| format!("destination.URI is not valid: {error}"))?;
    if uri.scheme_str() != Some("http") {
        return Err("destination.URI must start with http://".to_owned());
    }
    let host = uri.host().unwrap_or_default();
    if !HOSTS.iter().any(|known| host.eq_ignore_ascii_case(known)) {
        return Err(format!("destination.URI host must be {}", HOSTS[0]));
    }
    let port = uri.port_u16().filter(|port| *port > 0).ok_or("URI port is not provided")?;
    let method = match (api, given(destination, "method")) {
        (TelemetryApi::Telemetry, _) | (TelemetryApi::Logs, None) => TelemetryMethod::Post,
        (TelemetryApi::Logs, Some(method)) if method == "POST" => TelemetryMethod::Post,
        (TelemetryApi::Logs, Some(method)) if method == "PUT" => TelemetryMethod::Put,
        (TelemetryApi::Logs, Some(_)) => return Err("destination.method must be POST or PUT".to_owned()),
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok(TelemetryDestination::Http { port, authority: format!("{host}:{port}"), path: path.to_owned(), method })
}

fn buffering(fields: &Map<String, Value>, problem: &mut impl FnMut(String)) -> Option<TelemetryBuffering> {
    let buffering = match given(fields, "buffering") {
        Some(Value::Object(buffering)) => buffering,
        Some(_) => {
            problem("buffering must be an object".to_owned());
            return None;
        }
        None => return Some(TelemetryBuffering::default()),
    };
    let mut number = |range: Range, default: u32| {
        let Some(value) = given(buffering, range.name) else { return Some(default) };
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| (range.min..=range.max).contains(number));
        if number.is_none() {
            problem(format!("buffering.{} must be a number between {} and {}", range.name, range.min, range.max));
        }
        number
    };
    let default = TelemetryBuffering::default();
    let default_ms = u32::try_from(default.timeout.as_millis()).unwrap_or(TIMEOUT_MS.max);
    let (max_items, max_bytes) = (number(MAX_ITEMS, default.max_items), number(MAX_BYTES, default.max_bytes));
    let timeout = number(TIMEOUT_MS, default_ms).map(|ms| Duration::from_millis(ms.into()));
    Some(TelemetryBuffering { max_items: max_items?, max_bytes: max_bytes?, timeout: timeout? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = r#""types":["platform"],"destination":{"protocol":"TCP","port":4243}"#;

    fn telemetry(rest: &str) -> Result<TelemetrySubscription, String> {
        parse(TelemetryApi::Telemetry, format!(r#"{{"schemaVersion":"2022-12-13",{rest}}}"#).as_bytes())
    }

    fn http(uri: &str) -> Result<TelemetryDestination, String> {
        let body = format!(r#""types":["function"],"destination":{{"protocol":"HTTP","URI":"{uri}","method":"PUT"}}"#);
        telemetry(&body).map(|subscription| subscription.destination)
    }

    #[test]
    fn subscriptions_as_documented() {
        let body = r#"{"schemaVersion":"2022-12-13","types":["platform","function","extension","function"],
            "buffering":{"maxItems":1000,"maxBytes":262144,"timeoutMs":100},
            "destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:8080/a?b=c"}}"#;
        let subscription = parse(TelemetryApi::Telemetry, body.as_bytes()).unwrap();
        let expected = TelemetrySubscription {
            schema: TelemetrySchema::Telemetry20221213,
            streams: vec![TelemetryStream::Platform, TelemetryStream::Function, TelemetryStream::Extension],
            destination: TelemetryDestination::Http {
                port: 8080,
                authority: "sandbox.localdomain:8080".to_owned(),
                path: "/a?b=c".to_owned(),
                method: TelemetryMethod::Post,
            },
            buffering: TelemetryBuffering { max_items: 1000, max_bytes: 262_144, timeout: Duration::from_millis(100) },
        };
        assert_eq!(subscription, expected);
        let tcp = telemetry(&format!(r#"{TCP},"buffering":{{"timeoutMs":30000}}"#)).unwrap();
        assert_eq!(tcp.destination, TelemetryDestination::Tcp { port: 4243 });
        assert_eq!(tcp.buffering, TelemetryBuffering { timeout: Duration::from_secs(30), ..TelemetryBuffering::default() });
    }

    #[test]
    fn versions_belong_to_their_api() {
        let parse = |api, version: &str| parse(api, format!("{{{version}{TCP}}}").as_bytes()).map(|subscription| subscription.schema);
        for (api, version, schema) in [
            (TelemetryApi::Telemetry, r#""schemaVersion":"2022-07-01","#, Some(TelemetrySchema::Telemetry20220701)),
            (TelemetryApi::Telemetry, r#""schemaVersion":"2025-01-29","#, Some(TelemetrySchema::Telemetry20250129)),
            (TelemetryApi::Telemetry, r#""schemaVersion":"2021-03-18","#, None),
            (TelemetryApi::Telemetry, r#""schemaVersion":20221213,"#, None),
            (TelemetryApi::Telemetry, "", None),
            (TelemetryApi::Logs, "", Some(TelemetrySchema::Logs20200815)),
            (TelemetryApi::Logs, r#""schemaVersion":null,"#, Some(TelemetrySchema::Logs20200815)),
            (TelemetryApi::Logs, r#""schemaVersion":"2020-08-15","#, Some(TelemetrySchema::Logs20200815)),
            (TelemetryApi::Logs, r#""schemaVersion":"2021-03-18","#, Some(TelemetrySchema::Logs20210318)),
            (TelemetryApi::Logs, r#""schemaVersion":"2022-07-01","#, None),
        ] {
            let parsed = parse(api, version);
            assert_eq!(parsed.clone().ok(), schema, "{version}: {parsed:?}");
            assert!(schema.is_none_or(|schema| schema.api() == api), "{version}");
        }
    }

    #[test]
    fn destinations_are_inside() {
        for (uri, known) in [
            ("http://sandbox:1/", Ok(("/", TelemetryMethod::Post))),
            ("http://SANDBOX.localdomain:65535", Ok(("/", TelemetryMethod::Post))),
            ("http://sandbox.localdomain", Err("URI port is not provided")),
            ("http://sandbox.localdomain:0/", Err("URI port is not provided")),
            ("http://127.0.0.1:8080/", Err("destination.URI host must be sandbox.localdomain")),
            ("http://sandbox.localdomain.example.com:80/", Err("destination.URI host must be sandbox.localdomain")),
            ("http://sandbox@example.com:80/", Err("destination.URI host must be sandbox.localdomain")),
            ("https://sandbox.localdomain:8080/", Err("destination.URI must start with http://")),
            ("/path", Err("destination.URI must start with http://")),
            ("http://sandbox:99999/", Err("URI port is not provided")),
            ("http://sandbox:1 /", Err("destination.URI is not valid: invalid uri character")),
        ] {
            match (http(uri), known) {
                (Ok(TelemetryDestination::Http { path, method, .. }), Ok(expected)) => {
                    assert_eq!((path.as_str(), method), expected, "{uri}")
                }
                (Err(message), Err(expected)) => assert!(message.starts_with(expected), "{uri}: {message}"),
                (parsed, _) => panic!("{uri}: {parsed:?}"),
            }
        }
    }

    #[test]
    fn logs_may_be_put() {
        let method = |method: &str| {
            let destination = format!(r#"{{"protocol":"HTTP","URI":"http://sandbox:8080/logs"{method}}}"#);
            let body = format!(r#"{{"types":["function"],"destination":{destination}}}"#);
            match parse(TelemetryApi::Logs, body.as_bytes())?.destination {
                TelemetryDestination::Http { method, .. } => Ok(method),
                TelemetryDestination::Tcp { .. } => Err("tcp".to_owned()),
            }
        };
        assert_eq!(method(""), Ok(TelemetryMethod::Post));
        assert_eq!(method(r#","method":"POST""#), Ok(TelemetryMethod::Post));
        assert_eq!(method(r#","method":"PUT""#), Ok(TelemetryMethod::Put));
        assert_eq!(method(r#","method":"GET""#), Err("destination.method must be POST or PUT".to_owned()));
    }

    #[test]
    fn all_that_is_wrong_is_told() {
        for (body, message) in [
            ("", "failed to parse JSON: EOF while parsing a value at line 1 column 0"),
            ("[]", "request body must be a JSON object"),
            ("{}", "schemaVersion is required; destination is required; types is required"),
            (
                r#"{"schemaVersion":"x","types":[],"destination":{"protocol":"UDP"},"buffering":1}"#,
                "schemaVersion must be one of 2022-07-01, 2022-12-13, 2025-01-29; destination.protocol must be HTTP or TCP; \
                 types should not be empty; buffering must be an object",
            ),
            (
                r#"{"schemaVersion":"2022-07-01","types":["platform","x"],"destination":{"protocol":"TCP","port":0},
                   "buffering":{"maxItems":999,"maxBytes":1048577,"timeoutMs":"25"}}"#,
                "destination.port must be between 1 and 65535; types may hold platform, function and extension only; \
                 buffering.maxItems must be a number between 1000 and 10000; buffering.maxBytes must be a number between 262144 and 1048576; \
                 buffering.timeoutMs must be a number between 25 and 30000",
            ),
            (r#"{"schemaVersion":"2022-07-01","types":1,"destination":[]}"#, "destination must be an object; types must be an array"),
            (r#"{"schemaVersion":"2022-07-01","types":["platform"],"destination":{"protocol":"HTTP"}}"#, "destination.URI is required"),
            (r#"{"schemaVersion":"2022-07-01","types":["platform"],"destination":{}}"#, "destination.protocol is required"),
        ] {
            assert_eq!(parse(TelemetryApi::Telemetry, body.as_bytes()).unwrap_err(), message, "{body}");
        }
    }
}
