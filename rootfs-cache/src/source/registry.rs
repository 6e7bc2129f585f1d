//! A repository of a registry, through `oci-client`: what that crate lacks is here (new tokens, a try without login, retries, errors that say what to do).
//!
//! Two things it cannot do yet: a manifest is read whole before its size can be looked at (a deadline bounds that), and redirects follow reqwest's own rule
//! (at most ten; the `Authorization` header stays behind at a change of host, port or scheme).

use std::error::Error as _;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::TryStreamExt;
use oci_client::client::{BlobResponse, ClientConfig, ClientProtocol};
use oci_client::errors::{DigestError, OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use tokio::sync::Mutex;

use super::credentials::{self, Credentials};
use super::{Blob, Notes, RegistryAccess, SourceError, check_manifest};
use crate::digest::Digest;
use crate::manifest::{ACCEPTED, Descriptor};
use crate::reference::RegistryReference;

/// Waits before the second and third try of a request that got no answer or a 5xx.
const RETRY_AFTER: [Duration; 2] = if cfg!(test) { [Duration::ZERO; 2] } else { [Duration::from_millis(200), Duration::from_millis(800)] };
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest silence in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest that a manifest of at most 4 MiB may take.
const MANIFEST_DEADLINE: Duration = Duration::from_secs(120);
/// How long a token without an expiry of its own is used. A registry that thinks otherwise refuses it, and a new one is fetched.
const TOKEN_SECONDS: usize = 300;

/// A repository, and how we are logged in there.
pub(crate) struct RegistrySource<'a> {
    client: Client,
    reference: RegistryReference,
    notes: Notes<'a>,
    login: Mutex<Login>,
}

struct Login {
    credentials: Option<Credentials>,
    /// `None` until the first request, and after a refusal.
    token: Option<Token>,
    /// Tokens fetched so far.
    serial: u32,
}

/// What the registry gave when it was first spoken to. The token itself is kept by the client.
#[derive(Clone, Copy)]
struct Token {
    serial: u32,
    /// Made with the stored login.
    is_stored: bool,
    /// Not so for a registry that is open to all: there a refusal has another reason.
    is_wanted: bool,
}

/// What to do about a failed request.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// No answer, or a fault of the server's own: may go better in a moment.
    Passing,
    /// Perhaps the token: 401; 400 for an expired one at `public.ecr.aws`; 403 there for a stale login.
    Refused,
    /// Not there.
    NotFound,
    /// Anything else.
    Final,
}

impl<'a> RegistrySource<'a> {
    pub(super) fn new(reference: &RegistryReference, access: &RegistryAccess, notes: Notes<'a>) -> Result<Self, SourceError> {
        let stored = access.docker_config.as_deref().map(|config| (config, credentials::stored(config, reference)));
        let credentials = match stored {
            None => None,
            Some((_, Ok(stored))) => stored,
            Some((config, Err(error))) => {
                notes(&format!("docker's `{}` {error}: pulling without login", config.display()));
                None
            }
        };
        let unreachable = |source| SourceError::Unreachable { registry: reference.registry().to_owned(), source };
        let client = new_client(is_plain_http(reference, &access.insecure)).map_err(unreachable)?;
        let login = Mutex::new(Login { credentials, token: None, serial: 0 });
        Ok(Self { client, reference: reference.clone(), notes, login })
    }

    /// The digest that the tag names now. HEAD, which Docker Hub does not count.
    pub(super) async fn current(&self) -> Result<Digest, SourceError> {
        let tag = self.reference.tag().unwrap_or("latest");
        let wanted = format!("tag `{tag}` of `{}`", self.reference.repository());
        let name = self.by_tag(tag);
        let head = || self.client.fetch_manifest_digest(&name, &RegistryAuth::Anonymous);
        let found = self.request(&wanted, head).await?;
        let digest = found.parse();
        digest.map_err(|_| SourceError::Answer { registry: self.registry(), wanted, answer: format!("with digest `{found}`") })
    }

    pub(super) async fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, SourceError> {
        let wanted = format!("manifest {digest} of `{}`", self.reference.repository());
        let name = self.by_digest(digest);
        let get = || async {
            let answer = self.client.pull_manifest_raw(&name, &RegistryAuth::Anonymous, &ACCEPTED);
            let late = |_| OciDistributionError::IoError(io::ErrorKind::TimedOut.into());
            tokio::time::timeout(MANIFEST_DEADLINE, answer).await.map_err(late)?
        };
        let (bytes, _) = self.request(&wanted, get).await?;
        check_manifest(&self.place(), digest, &bytes)?;
        Ok(bytes.into())
    }

    pub(super) async fn blob(&self, blob: &Descriptor) -> Result<Blob, SourceError> {
        let wanted = format!("blob {} of `{}`", blob.digest, self.reference.repository());
        let (name, digest) = (self.by_digest(&blob.digest), blob.digest.to_string());
        let get = || async {
            // Asked for as a range, the crate leaves the digest to us: whoever reads a blob hashes it anyway. An empty blob has no range.
            if blob.size == 0 {
                return self.client.pull_blob_stream(&name, digest.as_str()).await;
            }
            match self.client.pull_blob_stream_partial(&name, digest.as_str(), 0, None).await? {
                BlobResponse::Full(stream) | BlobResponse::Partial(stream) => Ok(stream),
            }
        };
        let answer = self.request(&wanted, get).await?;
        match answer.content_length.filter(|length| *length != blob.size) {
            Some(received) => Err(SourceError::Size { place: self.place(), blob: blob.digest, received, expected: blob.size }),
            None => Ok(Blob::new(self.place(), blob, answer.stream.into_stream())),
        }
    }

    fn by_tag(&self, tag: &str) -> Reference {
        Reference::with_tag(self.reference.api_host().to_owned(), self.reference.repository().to_owned(), tag.to_owned())
    }

    fn by_digest(&self, digest: &Digest) -> Reference {
        Reference::with_digest(self.reference.api_host().to_owned(), self.reference.repository().to_owned(), digest.to_string())
    }

    fn registry(&self) -> String {
        self.reference.registry().to_owned()
    }

    fn place(&self) -> String {
        format!("registry `{}`", self.reference.registry())
    }

    /// Sends a request until it is answered: again where there was no answer, with a new token where the old one was refused, and at last without login.
    async fn request<T, A>(&self, wanted: &str, send: impl Fn() -> A) -> Result<T, SourceError>
    where
        A: Future<Output = Result<T, OciDistributionError>>,
    {
        let mut waits = RETRY_AFTER.iter();
        let mut renewed = false;
        loop {
            let (error, used) = match self.log_in().await {
                Err(error) => (error, None),
                Ok(used) => match send().await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => (error, Some(used)),
                },
            };
            let again = match (Failure::of(&error), used) {
                (Failure::Passing, _) => match waits.next() {
                    Some(wait) => {
                        tokio::time::sleep(*wait).await;
                        true
                    }
                    None => false,
                },
                (Failure::Refused, Some(used)) => self.give_up_token(used, &mut renewed).await,
                _ => false,
            };
            if !again {
                return Err(self.explain(wanted, error));
            }
        }
    }

    /// Gets a token where none is held: with the stored login, and if that is refused without.
    async fn log_in(&self) -> Result<Token, OciDistributionError> {
        let mut login = self.login.lock().await;
        let name = self.by_tag("latest");
        // The crate keeps the first login it hears of for ever and uses it whenever a token runs out. It hears of none but this one, so that ours can change.
        self.client.store_auth_if_needed(name.resolve_registry(), &RegistryAuth::Anonymous).await;
        loop {
            if let Some(token) = login.token {
                return Ok(token);
            }
            let is_stored = login.credentials.is_some();
            let credentials = match &login.credentials {
                Some(Credentials { user, password }) => RegistryAuth::Basic(user.clone(), password.clone()),
                None => RegistryAuth::Anonymous,
            };
            match self.client.auth(&name, &credentials, RegistryOperation::Pull).await {
                Ok(bearer) => {
                    login.serial += 1;
                    login.token = Some(Token { serial: login.serial, is_stored, is_wanted: bearer.is_some() || is_stored });
                }
                Err(error) if is_stored && Failure::of(&error) == Failure::Refused => self.give_up_login(&mut login),
                Err(error) => return Err(error),
            }
        }
    }

    /// After a refusal: whether another try has a chance. The first is made with a new token, the second without the stored login. Other requests may have
    /// come to the same end meanwhile: then their new token is used.
    async fn give_up_token(&self, used: Token, renewed: &mut bool) -> bool {
        let mut login = self.login.lock().await;
        let is_first = !std::mem::replace(renewed, true);
        let again = used.is_wanted && (is_first || used.is_stored);
        if again && !is_first {
            self.give_up_login(&mut login);
        }
        if again && login.token.is_some_and(|token| token.serial == used.serial) {
            login.token = None;
        }
        again
    }

    fn give_up_login(&self, login: &mut Login) {
        if login.credentials.take().is_some() {
            (self.notes)(&format!("registry `{}` refuses the stored login: trying without it", self.reference.registry()));
        }
    }

    fn explain(&self, wanted: &str, error: OciDistributionError) -> SourceError {
        let (registry, wanted) = (self.registry(), wanted.to_owned());
        match (Failure::of(&error), &error) {
            (_, OciDistributionError::DigestError(DigestError::VerificationError { actual, .. })) => {
                SourceError::Digest { place: self.place(), wanted, found: actual.clone() }
            }
            (Failure::NotFound, _) => SourceError::NotFound { place: self.place(), wanted },
            (_, OciDistributionError::RequestError(_) | OciDistributionError::IoError(_)) => {
                SourceError::Unreachable { registry, source: error }
            }
            (Failure::Refused, _) => SourceError::Refused { registry, wanted, answer: answer_of(&error) },
            _ => SourceError::Answer { registry, wanted, answer: answer_of(&error) },
        }
    }
}

impl Failure {
    fn of(error: &OciDistributionError) -> Self {
        match error {
            OciDistributionError::RequestError(error) if error.is_connect() || error.is_builder() || error.is_redirect() => Self::Final,
            OciDistributionError::RequestError(_) => Self::Passing,
            OciDistributionError::ServerError { code: 500.., .. } => Self::Passing,
            OciDistributionError::ServerError { code: 404, .. } => Self::NotFound,
            OciDistributionError::ServerError { code: 400 | 401 | 403, .. } => Self::Refused,
            OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => Self::Refused,
            // The crate keeps the registry's error code and forgets the status it came with.
            OciDistributionError::RegistryError { envelope, .. } => match envelope.errors.first().map(|error| &error.code) {
                Some(OciErrorCode::ManifestUnknown | OciErrorCode::NameUnknown | OciErrorCode::BlobUnknown) => Self::NotFound,
                Some(OciErrorCode::Toomanyrequests) => Self::Final,
                Some(OciErrorCode::Other(code)) if code == "NOT_FOUND" => Self::NotFound,
                _ => Self::Refused,
            },
            _ => Self::Final,
        }
    }
}

/// The status or error code of an answer, and the registry's own words.
fn answer_of(error: &OciDistributionError) -> String {
    let (code, message) = match error {
        OciDistributionError::UnauthorizedError { .. } => ("401 Unauthorized".to_owned(), String::new()),
        OciDistributionError::AuthenticationFailure(message) => ("no token".to_owned(), message.clone()),
        OciDistributionError::ServerError { code, message, .. } => (code.to_string(), message.clone()),
        OciDistributionError::RegistryError { envelope, .. } => match envelope.errors.first() {
            Some(error) if error.code == OciErrorCode::Toomanyrequests => ("429 TOOMANYREQUESTS".to_owned(), error.message.clone()),
            Some(error) => (serde_json::to_string(&error.code).unwrap_or_default().replace('"', ""), error.message.clone()),
            None => ("an empty list of errors".to_owned(), String::new()),
        },
        other => (other.to_string(), String::new()),
    };
    let message: String = message.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    if message.is_empty() { code } else { format!("{code}: {message}") }
}

/// The digest found, where a stream ended with the complaint that it is not the one wanted.
pub(super) fn wrong_digest(error: &io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref() {
        Some(DigestError::VerificationError { actual, .. }) => Some(actual.clone()),
        _ => None,
    }
}

/// What may help when no connection comes about.
pub(super) fn connection_hint(registry: &str, error: &OciDistributionError) -> Option<String> {
    let mut causes = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(format!("{error} {error:?}"));
        cause = error.source();
    }
    let causes = causes.join("\n");
    let table = [
        ("Connection refused", format!("nothing listens there: is the registry running, and is the port in `{registry}` right?")),
        ("InvalidContentType", format!("it does not speak TLS; to allow plain HTTP: `--insecure-registry {registry}`")),
        ("UnknownIssuer", "its certificate is signed by nobody whom this machine trusts".to_owned()),
        ("No CA certificates", "this machine has no CA certificates: install the package `ca-certificates`".to_owned()),
        ("failed to lookup address", "the host name does not resolve: check it, and the network".to_owned()),
    ];
    table.into_iter().find(|(mark, _)| causes.contains(mark)).map(|(_, hint)| hint)
}

/// Plain HTTP is for loopback, and for hosts the user declared insecure.
fn is_plain_http(reference: &RegistryReference, insecure: &[String]) -> bool {
    let host = reference.host();
    let is_loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    is_loopback || insecure.iter().any(|declared| declared == reference.registry() || declared == host)
}

fn new_client(plain_http: bool) -> Result<Client, OciDistributionError> {
    // rustls leaves the choice of a crypto provider to the program: ring, since its build needs the least C and neither cmake nor a generator, as aws-lc does.
    // reqwest wants one even for plain HTTP. An error only says that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = ClientConfig {
        protocol: if plain_http { ClientProtocol::Http } else { ClientProtocol::Https },
        // Indexes are ours to read.
        platform_resolver: None,
        default_token_expiration_secs: TOKEN_SECONDS,
        connect_timeout: Some(CONNECT_TIMEOUT),
        read_timeout: Some(READ_TIMEOUT),
        user_agent: concat!("undocked/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    // Not `Client::new`, which takes a default configuration where this one is bad.
    Client::try_from(config)
}

#[cfg(test)]
mod tests;
