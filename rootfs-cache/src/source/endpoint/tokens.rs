//! What proves who we are: tokens that a registry's realm gives for a stored login or for none, and passwords where a registry wants those. When it is refused,
//! a new one is tried, and at last none.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Body, Method, StatusCode, Url};
use serde::Deserialize;

use super::{Ask, Capped, Endpoint, Fault, Meaning, Outgoing, Purpose, Target, read_capped};
use crate::source::answer::Answer;
use crate::source::challenge::Challenge;
use crate::source::credentials::{Credentials, Logins};
use crate::source::http::{self, HttpError};

const TOKEN_ANSWER: Capped = Capped { name: "answer of the token server", max: 1 << 20 };
/// How long a token is good that does not say it, and the least that one is used: the token specification's.
const USUAL_SECONDS: u64 = 60;
/// By this name we ask for tokens.
const CLIENT: &str = "undocked";

/// What is known about logging in.
#[derive(Default)]
pub(super) struct Login {
    credentials: Stored,
    challenge: Option<Challenge>,
    has_been_asked: bool,
    pass: Option<Pass>,
    /// Passes made so far.
    serial: u32,
}

/// The stored login.
#[derive(Default)]
enum Stored {
    #[default]
    Unread,
    Found(Credentials),
    /// There is none, or it was refused.
    None,
}

/// What is sent with a request.
#[derive(Clone)]
pub(super) struct Pass {
    serial: u32,
    pub(super) header: HeaderValue,
    /// Made with the stored login.
    is_stored: bool,
    /// By our own monotonic clock: the times of day here and there may differ.
    until: Option<Instant>,
}

/// The refusals of one request so far.
#[derive(Default)]
pub(super) struct Refusals {
    was_challenged: bool,
    was_renewed: bool,
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    /// Seconds: a number, though some servers write it as a text.
    expires_in: Option<serde_json::Value>,
}

impl Login {
    fn found(&self) -> Option<&Credentials> {
        match &self.credentials {
            Stored::Found(credentials) => Some(credentials),
            Stored::Unread | Stored::None => None,
        }
    }

    fn keep(&mut self, header: HeaderValue, until: Option<Instant>) -> Pass {
        self.serial += 1;
        let pass = Pass { serial: self.serial, header, is_stored: self.found().is_some(), until };
        self.pass = Some(pass.clone());
        pass
    }
}

impl Endpoint<'_> {
    /// Uses a login in the place of a stored one.
    pub(in crate::source) async fn use_login(&self, user: &str, password: &str) {
        let credentials = Credentials::Password { user: user.to_owned(), password: password.to_owned() };
        self.login.lock().await.credentials = Stored::Found(credentials);
    }

    /// What to send with a request: nothing before the registry has asked for it.
    pub(super) async fn pass(&self) -> Result<Option<Pass>, Fault> {
        // Whoever comes meanwhile waits, and gets the same token.
        let mut login = self.login.lock().await;
        if matches!(login.credentials, Stored::Unread) {
            login.credentials = self.stored().await;
        }
        loop {
            let now = Instant::now();
            if let Some(pass) = login.pass.as_ref().filter(|pass| pass.until.is_none_or(|until| now < until)) {
                return Ok(Some(pass.clone()));
            }
            if login.challenge.is_none() && login.found().is_some() && !login.has_been_asked {
                // Some registries hide what is private instead of asking who we are.
                login.challenge = self.ask_for_challenge().await?;
                login.has_been_asked = true;
            }
            match (login.challenge.clone(), login.found().cloned()) {
                (None, _) | (Some(Challenge::Basic), None | Some(Credentials::IdentityToken(_))) => return Ok(None),
                (Some(Challenge::Basic), Some(Credentials::Password { user, password })) => {
                    return Ok(Some(login.keep(basic(&user, &password), None)));
                }
                (Some(Challenge::Bearer { realm, service }), credentials) => {
                    match self.fetch_token(&realm, service.as_deref(), credentials.as_ref()).await {
                        Ok((header, lasts)) => return Ok(Some(login.keep(header, Some(now + lasts)))),
                        Err(Fault::Token(answer)) if answer.meaning() == Meaning::Refused && self.give_up_login(&mut login) => {}
                        Err(fault) => return Err(fault),
                    }
                }
            }
        }
    }

    async fn stored(&self) -> Stored {
        let access = &self.access;
        let logins = Logins { files: &access.logins, search_path: &access.search_path, helper_limit: access.patience.helper };
        match logins.find(&self.place.reference, &self.notes).await {
            Some(found) => Stored::Found(found),
            None => Stored::None,
        }
    }

    async fn ask_for_challenge(&self) -> Result<Option<Challenge>, Fault> {
        let ask = Ask::get(Target::Api(String::new()), "its API");
        let response = self.send_once(&ask, None).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(None);
        }
        Ok(Answer::read(response).await.challenge)
    }

    /// After a refusal: whether another try has a chance. The first is made with a new token, the second without the stored login. Other requests may have
    /// come to the same end meanwhile: then their new token is used.
    pub(super) async fn after_refusal(&self, used: Option<&Pass>, answer: &Answer, refusals: &mut Refusals) -> bool {
        let mut login = self.login.lock().await;
        if answer.challenge.is_some() {
            login.challenge.clone_from(&answer.challenge);
        }
        let Some(used) = used else {
            return answer.challenge.is_some() && !std::mem::replace(&mut refusals.was_challenged, true);
        };
        let is_first = !std::mem::replace(&mut refusals.was_renewed, true);
        let has_other = login.pass.as_ref().is_some_and(|pass| pass.serial != used.serial);
        let again = is_first || (used.is_stored && (has_other || self.give_up_login(&mut login)));
        if again && !has_other {
            login.pass = None;
        }
        again
    }

    /// Whether there was a login to give up, and a chance without. Nobody may write anonymously.
    fn give_up_login(&self, login: &mut Login) -> bool {
        if self.purpose != Purpose::Pull || login.found().is_none() {
            return false;
        }
        login.credentials = Stored::None;
        login.pass = None;
        (self.notes)(&format!("{} refuses the stored login: trying without it", self.name()));
        true
    }

    /// A new token, and how long it is good.
    async fn fetch_token(
        &self,
        realm: &str,
        service: Option<&str>,
        credentials: Option<&Credentials>,
    ) -> Result<(HeaderValue, Duration), Fault> {
        let base = self.url("").map_err(Fault::Http)?;
        let realm: Url = realm.parse().map_err(|_| Fault::Http(HttpError::Url { url: realm.chars().take(200).collect() }))?;
        self.http.check(&base, &realm).map_err(Fault::Http)?;
        let response = match credentials {
            Some(Credentials::IdentityToken(token)) => self.exchange(realm, service, token).await?,
            _ => {
                let authorization = credentials.map(|credentials| match credentials {
                    Credentials::Password { user, password } => basic(user, password),
                    Credentials::IdentityToken(_) => HeaderValue::from_static(""),
                });
                self.ask_realm(realm, service, authorization).await?
            }
        };
        let url = response.url().clone();
        if response.status() != StatusCode::OK {
            return Err(Fault::Token(Answer::read(response).await));
        }
        let status = response.status();
        let body = read_capped(response, TOKEN_ANSWER).await?;
        let unusable =
            || Fault::Token(Answer::new(status, &HeaderMap::new(), format!("no token in the answer of {}", http::shown(&url)).as_bytes()));
        let token: Token = serde_json::from_slice(&body).map_err(|_| unusable())?;
        let text = if token.token.is_empty() { &token.access_token } else { &token.token };
        let mut header = HeaderValue::from_str(&format!("Bearer {text}")).ok().filter(|_| !text.is_empty()).ok_or_else(unusable)?;
        header.set_sensitive(true);
        Ok((header, lasts(token.expires_in.as_ref())))
    }

    async fn ask_realm(
        &self,
        mut realm: Url,
        service: Option<&str>,
        authorization: Option<HeaderValue>,
    ) -> Result<reqwest::Response, Fault> {
        {
            let mut query = realm.query_pairs_mut();
            for (name, value) in [("service", service), ("scope", self.scope().as_deref())] {
                if let Some(value) = value {
                    query.append_pair(name, value);
                }
            }
            query.append_pair("client_id", CLIENT);
        }
        let outgoing = Outgoing { method: Method::GET, url: realm, headers: HeaderMap::new(), authorization, body: None };
        self.http.send(&outgoing).await.map_err(Fault::Http)
    }

    /// An identity token is exchanged as OAuth has it.
    async fn exchange(&self, realm: Url, service: Option<&str>, identity: &str) -> Result<reqwest::Response, Fault> {
        let mut form = Url::parse("http://form/").map_err(|_| Fault::Http(HttpError::Url { url: String::new() }))?;
        form.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", service.unwrap_or_default())
            .append_pair("scope", self.scope().as_deref().unwrap_or_default())
            .append_pair("client_id", CLIENT)
            .append_pair("refresh_token", identity);
        let form = form.query().unwrap_or_default().to_owned();
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))]);
        let body = || Ok(Body::from(form.clone()));
        let outgoing = Outgoing { method: Method::POST, url: realm, headers, authorization: None, body: Some(&body) };
        self.http.send(&outgoing).await.map_err(Fault::Http)
    }

    /// What a token is wanted for; a login alone needs nothing.
    fn scope(&self) -> Option<String> {
        match self.purpose {
            Purpose::Pull => Some(format!("repository:{}:pull", self.repository())),
            Purpose::Push => Some(format!("repository:{}:pull,push", self.repository())),
            Purpose::LogIn => None,
        }
    }
}

/// How long a token is used: not to its very end, since a request takes time.
fn lasts(expires_in: Option<&serde_json::Value>) -> Duration {
    let said = expires_in.and_then(|said| said.as_f64().or_else(|| said.as_str()?.parse().ok()));
    let seconds = said.filter(|seconds| seconds.is_finite()).map_or(USUAL_SECONDS, |seconds| seconds as u64);
    Duration::from_secs(seconds.clamp(USUAL_SECONDS, 86_400) * 9 / 10)
}

fn basic(user: &str, password: &str) -> HeaderValue {
    let text = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let mut header = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""));
    header.set_sensitive(true);
    header
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn how_long_tokens_last() {
        assert_eq!(lasts(None), Duration::from_secs(54));
        for (expires_in, wanted) in [
            (json!(0), 54),
            (json!(-5), 54),
            (json!(300), 270),
            (json!(300.5), 270),
            (json!("300"), 270),
            (json!("inf"), 54),
            (json!("soon"), 54),
            (json!(null), 54),
            (json!([300]), 54),
            (json!(1e30), 77_760),
        ] {
            assert_eq!(lasts(Some(&expires_in)), Duration::from_secs(wanted), "{expires_in}");
        }
    }
}
