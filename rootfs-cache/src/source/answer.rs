//! An answer that is not the one wanted: what it means, what to do about it, and how it is told.

use std::time::Duration;

use chrono::Utc;
use reqwest::header::{HeaderMap, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode};
use serde::Deserialize;

use super::challenge::{self, Challenge};
use super::patience::retry_after;

/// As much of an error's body as is read.
const BODY_MAX: usize = 64 << 10;
/// As much of a registry's own words as is shown.
const WORDS_MAX: usize = 300;

/// What an answer means for the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A fault of the server's own, or too many requests: may go better in a moment.
    Passing,
    /// Perhaps the token: 401; 400 for an expired one at `public.ecr.aws`; 403 there for a stale login.
    Refused,
    /// Not there.
    NotFound,
    /// Anything else.
    Final,
}

/// An answer that is not the one wanted.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) challenge: Option<Challenge>,
    /// How long the registry wants us to wait.
    pub(super) retry_after: Option<Duration>,
    limit: RateLimit,
    code: String,
    words: String,
}

/// What Docker Hub's headers say about its limit.
#[derive(Debug, Default, PartialEq, Eq)]
struct RateLimit {
    limit: Option<String>,
    remaining: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Answer {
    /// Reads what the answer says, as far as it comes.
    pub(super) async fn read(mut response: Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while body.len() < BODY_MAX
            && let Ok(Some(chunk)) = response.chunk().await
        {
            body.extend_from_slice(&chunk);
        }
        body.truncate(BODY_MAX);
        Self::new(status, &headers, &body)
    }

    pub(super) fn new(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let challenge = challenge::choose(headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()));
        let date = text("date");
        let retry_after = text(RETRY_AFTER.as_str()).and_then(|header| retry_after(&header, date.as_deref(), Utc::now()));
        let limit =
            RateLimit { limit: text("ratelimit-limit"), remaining: text("ratelimit-remaining"), source: text("docker-ratelimit-source") };
        let said: Result<Errors, _> = serde_json::from_slice(body);
        let (code, words) = match said.ok().and_then(|said| said.errors.into_iter().next()) {
            Some(ErrorEntry { code, message }) => (printable(&code), printable(&message)),
            // A page of HTML says nothing to a terminal.
            None if body.trim_ascii_start().starts_with(b"<") => Default::default(),
            None => (String::new(), printable(&String::from_utf8_lossy(body))),
        };
        Self { status, challenge, retry_after, limit, code, words }
    }

    pub(super) fn meaning(&self) -> Meaning {
        match self.status.as_u16() {
            // The pulls of this address are used up for hours: to ask again would not help, unless we are told when.
            429 if self.retry_after.is_none() && self.limit.is_used_up() => Meaning::Final,
            408 | 425 | 429 => Meaning::Passing,
            501 | 505 => Meaning::Final,
            500.. => Meaning::Passing,
            404 => Meaning::NotFound,
            400 | 401 | 403 => Meaning::Refused,
            _ => Meaning::Final,
        }
    }

    /// Whether a server of TLS says that it was spoken to by plain HTTP.
    pub(super) fn wants_tls(&self) -> bool {
        self.status == StatusCode::BAD_REQUEST && self.words.to_ascii_uppercase().contains("HTTPS")
    }

    /// Its status, its error code and its own words; for a limit, what is known about it.
    pub(super) fn said(&self) -> String {
        let mut said = self.status.as_u16().to_string();
        match (&*self.code, self.status.canonical_reason()) {
            ("", Some(reason)) => said += &format!(" {reason}"),
            ("", None) => {}
            (code, _) => said += &format!(" {code}"),
        }
        if !self.words.is_empty() {
            said += &format!(": {}", self.words);
        }
        let mut facts = self.limit.facts();
        if let Some(after) = self.retry_after.filter(|after| !after.is_zero()) {
            facts.push(format!("to be asked again in {} s", after.as_secs()));
        }
        if facts.is_empty() { said } else { format!("{said} ({})", facts.join(", ")) }
    }
}

impl RateLimit {
    fn is_used_up(&self) -> bool {
        self.remaining.as_deref().and_then(first_number) == Some(0)
    }

    fn facts(&self) -> Vec<String> {
        let limit = self.limit.as_deref().map(|limit| match window(limit) {
            Some(window) => format!("limit {} in {window}", printable(limit.split(';').next().unwrap_or(limit))),
            None => format!("limit {}", printable(limit)),
        });
        let remaining = self.remaining.as_deref().and_then(first_number).map(|remaining| format!("{remaining} left"));
        let source = self.source.as_deref().map(|source| format!("counted for {}", printable(source)));
        [limit, remaining, source].into_iter().flatten().collect()
    }
}

fn first_number(text: &str) -> Option<u64> {
    text.split(';').next()?.trim().parse().ok()
}

/// `100;w=21600` is 100 in six hours.
fn window(limit: &str) -> Option<String> {
    let seconds: u64 = limit.split(';').find_map(|part| part.trim().strip_prefix("w="))?.parse().ok()?;
    Some(if seconds >= 3600 && seconds.is_multiple_of(3600) { format!("{} h", seconds / 3600) } else { format!("{seconds} s") })
}

/// A stranger's words for a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        Answer::new(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes())
    }

    #[test]
    fn meanings() {
        let used_up = ("ratelimit-remaining", "0;w=21600");
        for (status, headers, wanted) in [
            (500, &[][..], Meaning::Passing),
            (503, &[], Meaning::Passing),
            (501, &[], Meaning::Final),
            (408, &[], Meaning::Passing),
            (425, &[], Meaning::Passing),
            (429, &[], Meaning::Passing),
            (429, &[used_up], Meaning::Final),
            (429, &[used_up, ("retry-after", "5")], Meaning::Passing),
            (404, &[], Meaning::NotFound),
            (400, &[], Meaning::Refused),
            (401, &[], Meaning::Refused),
            (403, &[], Meaning::Refused),
            (405, &[], Meaning::Final),
            (302, &[], Meaning::Final),
        ] {
            assert_eq!(answer(status, headers, "").meaning(), wanted, "{status} {headers:?}");
        }
    }

    #[test]
    fn words() {
        let limits = [("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "0;w=21600"), ("docker-ratelimit-source", "192.0.2.7")];
        for (status, headers, body, wanted) in [
            (503, &[][..], "", "503 Service Unavailable"),
            (403, &[], r#"{"errors":[{"code":"DENIED","message":"no\u001b[31m"}]}"#, "403 DENIED: no [31m"),
            (502, &[], "<html><body>Bad Gateway</body></html>", "502 Bad Gateway"),
            (
                400,
                &[],
                "Client sent an HTTP request to an HTTPS server.\n",
                "400 Bad Request: Client sent an HTTP request to an HTTPS server.",
            ),
            (429, &[("retry-after", "60")], "HAP429", "429 Too Many Requests: HAP429 (to be asked again in 60 s)"),
            (
                429,
                &limits,
                r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#,
                "429 TOOMANYREQUESTS: slow down (limit 100 in 6 h, 0 left, counted for 192.0.2.7)",
            ),
        ] {
            assert_eq!(answer(status, headers, body).said(), wanted);
        }
        assert!(answer(400, &[], "Client sent an HTTP request to an HTTPS server.\n").wants_tls());
    }
}
