//! A repository at one host: requests are sent with what proves who we are, again where that may help, and their failures are explained.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, Response, StatusCode, Url};
use tokio::sync::Mutex;
use tokio::time::sleep;

use super::access::RegistryAccess;
use super::answer::{Answer, Meaning};
use super::http::{self, Http, HttpError, MakeBody, Outgoing, is_loopback};
use super::patience::Failures;
use super::registries::{AskedFor, Place};
use super::{Notes, SourceError};

mod tokens;

use tokens::{Login, Pass, Refusals};

/// Longest that a document of a few MiB may take.
const DOCUMENT_DEADLINE: Duration = Duration::from_secs(120);
/// A wait of this length is told.
const LONG_WAIT: Duration = Duration::from_secs(2);

/// What is done with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Reading.
    Pull,
    /// Reading and writing.
    Push,
    /// To see whether a login is good.
    LogIn,
}

/// A repository at one host.
pub(super) struct Endpoint<'a> {
    /// The registry, as it is told.
    pub(super) registry: String,
    pub(super) place: Place,
    pub(super) access: Arc<RegistryAccess>,
    pub(super) purpose: Purpose,
    pub(super) notes: Notes<'a>,
    http: Http,
    login: Mutex<Login>,
    uses_tls: AtomicBool,
    /// Whether there has ever been an answer: before, a failure may be a mistyped name.
    has_answered: AtomicBool,
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// Below `/v2/` of the registry.
    Api(String),
    /// Where the registry itself led us.
    Url(Url),
}

/// What is asked.
pub(super) struct Ask<'q> {
    pub(super) method: Method,
    pub(super) target: Target,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<MakeBody<'q>>,
    /// What it is about, for errors.
    pub(super) wanted: &'q str,
    /// The answers that are good.
    pub(super) accepts: &'q [StatusCode],
    /// A document that is read whole.
    pub(super) document: Option<Capped>,
}

/// A document of limited size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capped {
    pub(super) name: &'static str,
    pub(super) max: u64,
}

/// A good answer.
pub(super) struct Got {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) url: Url,
    pub(super) content_length: Option<u64>,
    /// The document, if one was wanted.
    pub(super) document: Vec<u8>,
    /// The body, if no document was.
    pub(super) body: Option<Response>,
}

/// Why there is no good answer.
#[derive(Debug)]
pub(super) enum Fault {
    Http(HttpError),
    Answer(Answer),
    /// In place of a token.
    Token(Answer),
    TooLarge(Capped, u64),
}

/// What to do about a fault.
enum Next {
    Wait(Duration),
    End,
}

impl<'q> Ask<'q> {
    /// A GET with the one good answer.
    pub(super) fn get(target: Target, wanted: &'q str) -> Self {
        Self { method: Method::GET, target, headers: HeaderMap::new(), body: None, wanted, accepts: &[StatusCode::OK], document: None }
    }
}

impl Got {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl<'a> Endpoint<'a> {
    pub(super) fn new(place: Place, access: &Arc<RegistryAccess>, purpose: Purpose, notes: Notes<'a>) -> Self {
        let http = Http::new(access, place.reference.api_host());
        let uses_tls = AtomicBool::new(!place.is_plain(&access.insecure) || http.has_certificates());
        let registry = place.reference.registry().to_owned();
        let (login, has_answered) = (Mutex::default(), AtomicBool::new(false));
        Self { registry, place, access: Arc::clone(access), purpose, notes, http, login, uses_tls, has_answered }
    }

    /// `registry NAME`, for errors.
    pub(super) fn name(&self) -> String {
        format!("registry `{}`", self.registry)
    }

    pub(super) fn repository(&self) -> &str {
        self.place.reference.repository()
    }

    pub(super) fn is_asked_for_tags(&self) -> bool {
        self.place.asked_for != AskedFor::DigestOnly
    }

    pub(super) fn is_asked_for_digests(&self) -> bool {
        self.place.asked_for != AskedFor::TagOnly
    }

    /// A path of this repository.
    pub(super) fn path(&self, rest: &str) -> Target {
        Target::Api(format!("{}/{rest}", self.repository()))
    }

    /// Sends a request until it is answered: again where there was no answer, with a new token where the old one was refused, and at last without login.
    pub(super) async fn send(&self, ask: &Ask<'_>) -> Result<Got, SourceError> {
        let mut failures = Failures::none(&self.access.patience);
        let mut refusals = Refusals::default();
        loop {
            let (used, fault) = match self.pass().await {
                Err(fault) => (None, fault),
                Ok(pass) => match self.attempt(ask, pass.as_ref()).await {
                    Ok(got) => return Ok(got),
                    Err(fault) => (Some(pass), fault),
                },
            };
            let again = match (&fault, used) {
                (Fault::Answer(answer), Some(used)) if answer.meaning() == Meaning::Refused => {
                    self.after_refusal(used.as_ref(), answer, &mut refusals).await
                }
                _ => false,
            };
            if again {
                continue;
            }
            match self.next(&fault, &mut failures) {
                Next::Wait(wait) => sleep(wait).await,
                Next::End => return Err(self.explain(ask.wanted, fault)),
            }
        }
    }

    /// Sends what cannot simply be sent again, such as a part of an upload: only a refused token is renewed.
    pub(super) async fn send_once_only(&self, ask: &Ask<'_>) -> Result<Got, SourceError> {
        let mut refusals = Refusals::default();
        loop {
            let pass = self.pass().await.map_err(|fault| self.explain(ask.wanted, fault))?;
            let fault = match self.attempt(ask, pass.as_ref()).await {
                Ok(got) => return Ok(got),
                Err(fault) => fault,
            };
            let again = match &fault {
                Fault::Answer(answer) if answer.meaning() == Meaning::Refused => {
                    self.after_refusal(pass.as_ref(), answer, &mut refusals).await
                }
                _ => false,
            };
            if !again {
                return Err(self.explain(ask.wanted, fault));
            }
        }
    }

    fn next(&self, fault: &Fault, failures: &mut Failures<'_>) -> Next {
        let (passes, asked_for) = match fault {
            Fault::Http(error) => (error.is_passing(self.has_answered.load(Ordering::Relaxed)), None),
            Fault::Answer(answer) | Fault::Token(answer) => (answer.meaning() == Meaning::Passing, answer.retry_after),
            Fault::TooLarge(..) => (false, None),
        };
        let Some(wait) = passes.then(|| failures.add(asked_for)).flatten() else {
            return Next::End;
        };
        if wait >= LONG_WAIT {
            (self.notes)(&format!("{} is busy: waiting {:.0} s", self.name(), wait.as_secs_f64().ceil()));
        }
        Next::Wait(wait)
    }

    async fn attempt(&self, ask: &Ask<'_>, pass: Option<&Pass>) -> Result<Got, Fault> {
        let read = async {
            let response = self.send_once(ask, pass).await?;
            if !ask.accepts.contains(&response.status()) {
                return Err(Fault::Answer(Answer::read(response).await));
            }
            let (status, headers, url) = (response.status(), response.headers().clone(), response.url().clone());
            let content_length = response.content_length();
            let (document, body) = match ask.document {
                Some(capped) => (read_capped(response, capped).await?, None),
                None => (Vec::new(), Some(response)),
            };
            Ok(Got { status, headers, url, content_length, document, body })
        };
        if ask.document.is_none() {
            return read.await;
        }
        let late = |_| Fault::Http(HttpError::Late { url: ask.wanted.to_owned(), after: DOCUMENT_DEADLINE });
        tokio::time::timeout(DOCUMENT_DEADLINE, read).await.map_err(late)?
    }

    /// Sends it as it is. A registry on loopback may speak TLS, too, which is seen by its answer.
    async fn send_once(&self, ask: &Ask<'_>, pass: Option<&Pass>) -> Result<Response, Fault> {
        let response = self.send_as(ask, pass).await?;
        let may_be_tls = response.status() == StatusCode::BAD_REQUEST && response.url().scheme() == "http";
        if !may_be_tls || !is_loopback(self.place.reference.host()) {
            return Ok(response);
        }
        let answer = Answer::read(response).await;
        // An answer to HEAD has no words.
        let wants_tls = match ask.method {
            Method::HEAD => Answer::read(self.send_as(&Ask::get(Target::Api(String::new()), ask.wanted), None).await?).await.wants_tls(),
            _ => answer.wants_tls(),
        };
        if !wants_tls {
            return Err(Fault::Answer(answer));
        }
        self.uses_tls.store(true, Ordering::Relaxed);
        self.send_as(ask, pass).await
    }

    async fn send_as(&self, ask: &Ask<'_>, pass: Option<&Pass>) -> Result<Response, Fault> {
        let base = self.url("").map_err(Fault::Http)?;
        let url = match &ask.target {
            Target::Api(path) => self.url(path).map_err(Fault::Http)?,
            Target::Url(url) => url.clone(),
        };
        self.http.check(&base, &url).map_err(Fault::Http)?;
        let authorization = pass.filter(|_| url.origin() == base.origin()).map(|pass| pass.header.clone());
        let outgoing = Outgoing { method: ask.method.clone(), url, headers: ask.headers.clone(), authorization, body: ask.body };
        let response = self.http.send(&outgoing).await.map_err(Fault::Http)?;
        self.has_answered.store(true, Ordering::Relaxed);
        Ok(response)
    }

    /// A URL of the registry's API.
    fn url(&self, path: &str) -> Result<Url, HttpError> {
        let scheme = if self.uses_tls.load(Ordering::Relaxed) { "https" } else { "http" };
        let text = format!("{scheme}://{}/v2/{path}", self.place.reference.api_host());
        // Registries and repositories have been checked for form: what remains is a host that looks like a number and is none.
        text.parse().map_err(|_| HttpError::Url { url: text })
    }

    fn explain(&self, wanted: &str, fault: Fault) -> SourceError {
        let (registry, wanted) = (self.registry.clone(), wanted.to_owned());
        match fault {
            Fault::Http(source) => SourceError::Unreachable { registry, source },
            Fault::TooLarge(Capped { name, max }, size) => SourceError::TooLarge { document: name, size, max },
            Fault::Answer(answer) => match answer.meaning() {
                Meaning::NotFound => SourceError::NotFound { place: self.name(), wanted },
                Meaning::Refused => SourceError::Refused { registry, wanted, answer: answer.said() },
                _ => SourceError::Answer { registry, wanted, answer: answer.said() },
            },
            Fault::Token(answer) => match answer.meaning() {
                Meaning::Refused => SourceError::Refused { registry, wanted, answer: answer.said() },
                _ => SourceError::Answer { registry, wanted: format!("a token for {wanted}"), answer: answer.said() },
            },
        }
    }
}

/// Reads a document, and no more of it than is allowed.
async fn read_capped(mut response: Response, capped: Capped) -> Result<Vec<u8>, Fault> {
    let url = response.url().clone();
    if let Some(announced) = response.content_length().filter(|length| *length > capped.max) {
        return Err(Fault::TooLarge(capped, announced));
    }
    let mut document = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Fault::Http(http::failed(&url, error)))? {
        document.extend_from_slice(&chunk);
        if document.len() as u64 > capped.max {
            return Err(Fault::TooLarge(capped, document.len() as u64));
        }
    }
    Ok(document)
}
