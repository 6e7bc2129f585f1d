//! The calls of the Extensions API: their headers and bodies as values, and the refusals that need no state.

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use serde_json::{Map, Value};

use super::Ticket;
use super::body::{self, text};
use super::route::ExtensionCall;
use crate::lambda::{ExtensionRefusal, Input, Posted, Registration};

const NAME: &str = "lambda-extension-name";
const IDENTIFIER: &str = "lambda-extension-identifier";
const ERROR_TYPE: &str = "lambda-extension-function-error-type";
const FEATURES: &str = "lambda-extension-accept-feature";

/// What extensions post is a line or two; an error report is not looked at. A mebibyte is far above both.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// A call without its ticket.
type Unsent = Box<dyn FnOnce(Ticket) -> Input<Ticket> + Send>;

/// Reads the whole request, in the order in which AWS looks at it.
pub(super) async fn input(call: ExtensionCall, request: Request<Incoming>) -> Result<Unsent, ExtensionRefusal> {
    let (head, body) = request.into_parts();
    // Read in any case: a client that still writes would see a reset instead of our answer.
    let body = body::whole(body, MAX_BODY_BYTES).await;
    Ok(match call {
        ExtensionCall::Register => {
            let registration = registration(&head.headers, body)?;
            Box::new(|ticket| Input::Register { ticket, registration })
        }
        ExtensionCall::Next => {
            let identifier = identifier(&head.headers)?;
            Box::new(|ticket| Input::ExtensionNext { ticket, identifier })
        }
        ExtensionCall::InitError => {
            let (identifier, error_type) = (identifier(&head.headers)?, error_type(&head.headers)?);
            Box::new(|ticket| Input::ExtensionInitError { ticket, identifier, error_type })
        }
        ExtensionCall::ExitError => {
            let (identifier, error_type) = (identifier(&head.headers)?, error_type(&head.headers)?);
            Box::new(|ticket| Input::ExtensionExitError { ticket, identifier, error_type })
        }
        ExtensionCall::Subscribe(api) => {
            let identifier = identifier(&head.headers)?;
            let subscription = match body {
                Posted::Whole(body) => super::telemetry::parse(api, &body),
                _ => Err("the request is too large or incomplete".to_owned()),
            };
            Box::new(move |ticket| Input::Subscribe { ticket, identifier, api, subscription })
        }
    })
}

fn registration(headers: &HeaderMap, body: Posted<bytes::Bytes>) -> Result<Registration, ExtensionRefusal> {
    let name = text(headers, NAME).filter(|name| !name.is_empty()).ok_or(ExtensionRefusal::EmptyName)?;
    let format = |message: String| ExtensionRefusal::InvalidFormat { message };
    let Posted::Whole(body) = body else { return Err(format("the request is too large or incomplete".to_owned())) };
    let mut fields: Map<String, Value> = serde_json::from_slice(&body).map_err(|error| format(error.to_string()))?;
    let mut texts = |name| texts(&mut fields, name).map_err(|error| format(error.to_string()));
    let (events, configuration_keys) = (texts("events")?, texts("configurationKeys")?);
    if !configuration_keys.is_empty() {
        return Err(format("configurationKeys are deprecated; use environment variables instead".to_owned()));
    }
    let wants_account_id = text(headers, FEATURES).is_some_and(|features| features.split(',').any(|feature| feature.trim() == "accountId"));
    Ok(Registration { name: name.to_owned(), events, wants_account_id })
}

/// A list of texts. `null` says as little as nothing.
fn texts(fields: &mut Map<String, Value>, name: &str) -> serde_json::Result<Vec<String>> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(value) => serde_json::from_value(value),
    }
}

fn identifier(headers: &HeaderMap) -> Result<String, ExtensionRefusal> {
    let identifier = headers.get(IDENTIFIER).map(|value| value.as_bytes()).unwrap_or_default();
    match std::str::from_utf8(identifier) {
        Ok("") => Err(ExtensionRefusal::MissingIdentifier),
        Ok(text) if is_uuid(text) => Ok(text.to_ascii_lowercase()),
        _ => Err(ExtensionRefusal::InvalidIdentifier),
    }
}

fn error_type(headers: &HeaderMap) -> Result<String, ExtensionRefusal> {
    text(headers, ERROR_TYPE).filter(|text| !text.is_empty()).map(str::to_owned).ok_or(ExtensionRefusal::MissingErrorType)
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_uuids() {
        for (text, is) in [
            ("12345678-1234-4234-8234-123456789abc", true),
            ("12345678-1234-4234-8234-123456789ABC", true),
            ("12345678-1234-4234-8234-123456789ab", false),
            ("12345678-1234-4234-8234-123456789abg", false),
            ("123456781234-4234-8234-123456789abc-", false),
            ("x", false),
        ] {
            assert_eq!(is_uuid(text), is, "{text}");
        }
    }
}
