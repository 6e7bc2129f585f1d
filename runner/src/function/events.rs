//! What becomes of a function's `Event` invocations: how often and how long they are tried, and who is told.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A function's settings for events, as Lambda's `EventInvokeConfig` and `DeadLetterConfig` have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRules {
    /// How often a failed event is tried again (`MaximumRetryAttempts`).
    pub max_retries: u32,
    /// How old an event may be when it is begun (`MaximumEventAgeInSeconds`).
    pub max_age: Duration,
    /// Who is told of success.
    pub on_success: Option<Destination>,
    /// Who is told of events that were given up.
    pub on_failure: Option<Destination>,
    /// Who gets events that were given up, as they came.
    pub dead_letter: Option<Destination>,
}

/// Lambda's own: two more attempts, within six hours.
impl Default for EventRules {
    fn default() -> Self {
        Self { max_retries: 2, max_age: Duration::from_secs(6 * 3600), on_success: None, on_failure: None, dead_letter: None }
    }
}

impl EventRules {
    /// Whether anybody gets events that were given up.
    pub fn tells_of_failure(&self) -> bool {
        self.on_failure.is_some() || self.dead_letter.is_some()
    }
}

/// Where records of events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A folder, one file a record.
    Folder(PathBuf),
    /// An HTTP endpoint.
    Http(String),
    /// A queue that speaks SQS's JSON protocol, by its queue URL.
    Sqs(String),
}

/// Why a text is no destination.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseDestinationError {
    /// Nothing.
    #[error("a destination is a folder, a URL, or `sqs:` with a queue's URL")]
    Empty,
    /// Not a URL with `http` or `https` and a host.
    #[error("`{0}` is not the URL of a queue, as in `sqs:http://localhost:9324/000000000000/name`")]
    Queue(String),
    /// Not a URL with a host that can be told.
    #[error("`{0}` is not the URL of an HTTP endpoint")]
    Url(String),
}

/// `http://…` and `https://…` are endpoints, `sqs:` and a queue URL a queue, anything else a folder; `file:` before one says so.
impl FromStr for Destination {
    type Err = ParseDestinationError;

    fn from_str(text: &str) -> Result<Self, ParseDestinationError> {
        if let Some(url) = text.strip_prefix("sqs:") {
            return if is_url(url) { Ok(Self::Sqs(url.to_owned())) } else { Err(ParseDestinationError::Queue(url.to_owned())) };
        }
        if text.starts_with("http:") || text.starts_with("https:") {
            return if is_url(text) { Ok(Self::Http(text.to_owned())) } else { Err(ParseDestinationError::Url(text.to_owned())) };
        }
        if text.split_once("://").is_some_and(|(scheme, _)| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
            return Err(ParseDestinationError::Url(text.to_owned()));
        }
        match text.strip_prefix("file:").unwrap_or(text) {
            "" => Err(ParseDestinationError::Empty),
            folder => Ok(Self::Folder(PathBuf::from(folder))),
        }
    }
}

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let is_closed = host.contains('[') == host.contains(']');
        !host.is_empty() && !host.starts_with(':') && is_closed && !rest.contains(char::is_whitespace)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations() {
        for (text, destination) in [
            ("failed", Destination::Folder("failed".into())),
            ("/var/failed", Destination::Folder("/var/failed".into())),
            ("file:sqs:x", Destination::Folder("sqs:x".into())),
            ("http://localhost:8080/x?y=z", Destination::Http("http://localhost:8080/x?y=z".to_owned())),
            ("https://example.com", Destination::Http("https://example.com".to_owned())),
            ("sqs:http://localhost:9324/0/q", Destination::Sqs("http://localhost:9324/0/q".to_owned())),
        ] {
            assert_eq!(text.parse(), Ok(destination), "{text}");
        }
    }

    #[test]
    fn no_destinations() {
        for (text, error) in [
            ("", ParseDestinationError::Empty),
            ("file:", ParseDestinationError::Empty),
            ("http:", ParseDestinationError::Url("http:".to_owned())),
            ("http:///x", ParseDestinationError::Url("http:///x".to_owned())),
            ("https://a b", ParseDestinationError::Url("https://a b".to_owned())),
            ("sqs:queue", ParseDestinationError::Queue("queue".to_owned())),
            ("sqs:", ParseDestinationError::Queue(String::new())),
            ("ftp://x", ParseDestinationError::Url("ftp://x".to_owned())),
            ("http://[::", ParseDestinationError::Url("http://[::".to_owned())),
        ] {
            assert_eq!(text.parse::<Destination>(), Err(error), "{text}");
        }
    }
}
