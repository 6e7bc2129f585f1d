//! One HTTP request to a registry, followed through redirects: which hosts may be spoken to and how, whom they are trusted by, and where a password or token
//! may go. Knows neither registries' paths nor tokens.

use std::error::Error as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Body, Client, ClientBuilder, Method, NoProxy, Proxy, Response, StatusCode, Url};
use tokio::sync::OnceCell;

use super::access::RegistryAccess;

mod certificates;
mod names;
mod redirect;

use names::{LedTo, LookUp};
pub(super) use redirect::is_loopback;
use redirect::{RefusedTarget, Rules};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Redirects followed for one request.
const REDIRECTS_MAX: usize = 5;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection, or it broke.
    #[error("request to `{url}` failed")]
    Request {
        /// Where to, without its query.
        url: String,
        /// The proxy that it went through, if that is known.
        proxy: Option<String>,
        /// Why.
        source: reqwest::Error,
    },
    /// Connections cannot be made at all.
    #[error("cannot set up connections")]
    SetUp {
        /// Why.
        source: reqwest::Error,
    },
    /// A proxy's URL is malformed. It is not shown, for it may hold a password.
    #[error("the proxy for `{scheme}://` is no URL of an HTTP proxy")]
    Proxy {
        /// `http` or `https`.
        scheme: &'static str,
    },
    /// A file with certificates or a key is unusable.
    #[error("cannot use the certificates in `{}`: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An answer leads where nobody should be led.
    #[error("`{from}` leads to `{to}`, which is refused: {reason}")]
    Refused {
        /// Who answered.
        from: String,
        /// Where it leads to, without its query.
        to: String,
        /// Why not.
        reason: RefusedTarget,
    },
    /// The host of a registry is none.
    #[error("`{url}` is no URL")]
    Url {
        /// What is none.
        url: String,
    },
    /// It took too long as a whole.
    #[error("`{url}` took longer than {} s", after.as_secs())]
    Late {
        /// What was asked for.
        url: String,
        /// How long was waited.
        after: Duration,
    },
    /// `registries.conf` says so.
    #[error("`{}` blocks it", path.display())]
    Blocked {
        /// The file.
        path: PathBuf,
    },
    /// A file in the form of `registries.conf` is unusable.
    #[error("cannot use `{}`: {reason}", path.display())]
    Registries {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What is sent cannot be read.
    #[error("cannot read what is to be sent")]
    Body {
        /// Why.
        source: std::io::Error,
    },
}

impl HttpError {
    /// Whether another try may go better. What never had a connection may be a mistyped name.
    pub(super) fn is_passing(&self, answered_before: bool) -> bool {
        match self {
            Self::Request { source, .. } => answered_before || !source.is_connect(),
            Self::Late { .. } => true,
            _ => false,
        }
    }

    /// What may help.
    pub(super) fn hint(&self, registry: &str) -> Option<String> {
        match self {
            Self::Request { source, proxy, .. } => connection_hint(registry, proxy.as_deref(), source),
            Self::SetUp { .. } => Some("install the package `ca-certificates`, or name a file with `--ca`".to_owned()),
            Self::Proxy { .. } => Some("`HTTP_PROXY` and `HTTPS_PROXY` are wanted as `http://HOST:PORT`".to_owned()),
            Self::Refused { to, reason: RefusedTarget::PlainHttp, .. } => {
                let host = to.split_once("://").map_or(to.as_str(), |(_, rest)| rest.split('/').next().unwrap_or(rest));
                Some(format!("if that host may be spoken to by plain HTTP: `--insecure-registry {host}`"))
            }
            Self::Blocked { .. } => Some("take `blocked = true` out of that file if the registry may be used".to_owned()),
            _ => None,
        }
    }
}

/// What may help when no connection comes about.
fn connection_hint(registry: &str, proxy: Option<&str>, error: &reqwest::Error) -> Option<String> {
    let mut causes = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(format!("{error} {error:?}"));
        cause = error.source();
    }
    let causes = causes.join("\n");
    let clock = || format!("this machine's clock says {}: is that right?", Utc::now().format("%Y-%m-%d %H:%M UTC"));
    let table: [(&str, &dyn Fn() -> String); 8] = [
        ("Connection refused", &|| match proxy {
            Some(proxy) => format!(
                "nothing listens there; connections go through the proxy `{proxy}`: check `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`"
            ),
            None => format!("nothing listens there: is the registry running, and is the port in `{registry}` right?"),
        }),
        ("InvalidContentType", &|| format!("it does not speak TLS; to allow plain HTTP: `--insecure-registry {registry}`")),
        ("NotValidYet", &clock),
        ("Expired", &clock),
        ("UnknownIssuer", &|| {
            format!(
                "its certificate is signed by nobody whom this machine trusts: name its authority with `--ca FILE`, or put it into `/etc/docker/certs.d/{registry}/ca.crt`"
            )
        }),
        ("No CA certificates", &|| "this machine has no CA certificates: install the package `ca-certificates`".to_owned()),
        ("failed to lookup address", &|| "the host name does not resolve: check it, and the network".to_owned()),
        ("tunnel", &|| "a proxy stands between: check `HTTPS_PROXY` and `NO_PROXY`".to_owned()),
    ];
    table.into_iter().find(|(mark, _)| causes.contains(mark)).map(|(_, hint)| hint())
}

/// What makes the body of a request, as often as it is sent.
pub(super) type MakeBody<'q> = &'q (dyn Fn() -> Result<Body, std::io::Error> + Sync);

/// A request.
pub(super) struct Outgoing<'q> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) authorization: Option<HeaderValue>,
    pub(super) body: Option<MakeBody<'q>>,
}

/// Connections for one registry and the hosts that it leads to.
pub(super) struct Http {
    access: Arc<RegistryAccess>,
    /// The registry, with its port: its own certificates count for it alone.
    host: String,
    rules: Rules,
    look_up: LookUp,
    plain: OnceCell<Client>,
    home: OnceCell<Client>,
    elsewhere: OnceCell<Client>,
}

impl Http {
    pub(super) fn new(access: &Arc<RegistryAccess>, host: &str) -> Self {
        let rules = Rules::new(host, &access.insecure);
        let (plain, home, elsewhere) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Self { access: Arc::clone(access), host: host.to_owned(), rules, look_up: names::by_system, plain, home, elsewhere }
    }

    /// Whether there are certificates for this registry: then it speaks TLS, wherever it is.
    pub(super) fn has_certificates(&self) -> bool {
        !certificates::folders(&self.access.certificates, &self.host).is_empty()
    }

    /// Checks that a registry may lead there: to a token, an upload, another host.
    pub(super) fn check(&self, from: &Url, to: &Url) -> Result<(), HttpError> {
        // Where the registry itself is, is the user's choice.
        if from.origin() == to.origin() {
            return Ok(());
        }
        self.rules.check(to).map_err(|reason| HttpError::Refused { from: shown(from), to: shown(to), reason })
    }

    /// Sends a request. The answer may have any status but a redirect's that can be followed.
    pub(super) async fn send(&self, request: &Outgoing<'_>) -> Result<Response, HttpError> {
        let mut url = request.url.clone();
        let mut authorization = request.authorization.as_ref();
        for _ in 0..=REDIRECTS_MAX {
            let response = self.send_once(request, &url, authorization).await?;
            let Some(target) = target(request, &response) else {
                return Ok(response);
            };
            self.check(&url, &target)?;
            if target.origin() != url.origin() {
                // For good: a third host that leads back could choose what is asked for with it.
                authorization = None;
            }
            url = target;
        }
        Err(HttpError::Refused { from: shown(&request.url), to: shown(&url), reason: RefusedTarget::TooMany })
    }

    async fn send_once(&self, request: &Outgoing<'_>, url: &Url, authorization: Option<&HeaderValue>) -> Result<Response, HttpError> {
        let client = self.client(url).await?;
        let mut builder = client.request(request.method.clone(), url.clone()).headers(request.headers.clone());
        if let Some(authorization) = authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        if let Some(make) = request.body {
            builder = builder.body(make().map_err(|source| HttpError::Body { source })?);
        }
        builder.send().await.map_err(|error| {
            if names::is_refused(&error) {
                return HttpError::Refused { from: self.host.clone(), to: shown(url), reason: RefusedTarget::Local };
            }
            HttpError::Request { url: shown(url), proxy: self.proxy_of(url), source: error.without_url() }
        })
    }

    async fn client(&self, url: &Url) -> Result<&Client, HttpError> {
        if url.scheme() == "http" {
            // To read all the certificates of this machine takes longer than a pull from a registry on it.
            return self.plain.get_or_try_init(async || build(self.builder()?.tls_certs_only([]))).await;
        }
        let is_home = url.host_str().is_some_and(|host| match url.port() {
            Some(port) => self.host == format!("{host}:{port}"),
            None => self.host == host || self.host == format!("{host}:443"),
        });
        if !is_home {
            let client = async || {
                let names = LedTo::new(&self.host, self.proxy_hosts(), self.look_up);
                build(self.with_authorities(self.builder()?.dns_resolver(Arc::new(names)))?)
            };
            return self.elsewhere.get_or_try_init(client).await;
        }
        let client = async || {
            let builder = self.with_authorities(self.builder()?)?;
            build(certificates::add(builder, &certificates::folders(&self.access.certificates, &self.host))?)
        };
        self.home.get_or_try_init(client).await
    }

    fn builder(&self) -> Result<ClientBuilder, HttpError> {
        // rustls leaves the choice of a crypto provider to the program: ring, since its build needs the least C and neither cmake nor a generator, as aws-lc
        // does. reqwest wants one even for plain HTTP. An error only says that one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .redirect(Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(self.access.patience.silence)
            .user_agent(concat!("undocked/", env!("CARGO_PKG_VERSION")))
            // Variables are read elsewhere, and what they say comes here.
            .no_proxy();
        let proxies = &self.access.proxies;
        let direct = format!("localhost,127.0.0.0/8,::1,{}", proxies.direct.as_deref().unwrap_or_default());
        for (scheme, proxy) in [("http", &proxies.http), ("https", &proxies.https)] {
            if let Some(proxy) = proxy {
                let proxy = proxy_for(scheme, proxy).ok_or(HttpError::Proxy { scheme })?;
                builder = builder.proxy(proxy.no_proxy(NoProxy::from_string(&direct)));
            }
        }
        Ok(builder)
    }

    /// The proxy for a URL, without what may be secret in it, where one was named and nothing was to be reached directly.
    fn proxy_of(&self, url: &Url) -> Option<String> {
        let proxies = &self.access.proxies;
        let proxy = if url.scheme() == "http" { &proxies.http } else { &proxies.https };
        let goes_by_it = proxies.direct.as_deref().unwrap_or_default().is_empty() && !url.host_str().is_some_and(is_loopback);
        proxy.as_deref().filter(|_| goes_by_it).and_then(proxy_url).map(|proxy| url_host(&proxy))
    }

    /// The names under which proxies are looked up.
    fn proxy_hosts(&self) -> Vec<String> {
        let proxies = [&self.access.proxies.http, &self.access.proxies.https].into_iter().flatten();
        proxies.filter_map(|proxy| Some(proxy_url(proxy)?.host_str()?.to_owned())).collect()
    }

    fn with_authorities(&self, builder: ClientBuilder) -> Result<ClientBuilder, HttpError> {
        self.access.authorities.iter().try_fold(builder, |builder, file| certificates::add_authorities(builder, file))
    }
}

/// A proxy of a kind that is not known would be left out in silence, and the connection made directly.
fn proxy_for(scheme: &str, proxy: &str) -> Option<Proxy> {
    let url = proxy_url(proxy)?;
    if scheme == "http" { Proxy::http(url) } else { Proxy::https(url) }.ok()
}

fn proxy_url(proxy: &str) -> Option<Url> {
    let text = if proxy.contains("://") { proxy.to_owned() } else { format!("http://{proxy}") };
    let url: Url = text.parse().ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

fn build(builder: ClientBuilder) -> Result<Client, HttpError> {
    builder.build().map_err(|source| HttpError::SetUp { source })
}

/// Where an answer leads to, if it is one that is followed. What sends a body is not led about: it cannot know who reads it.
fn target(request: &Outgoing<'_>, response: &Response) -> Option<Url> {
    let follows = matches!(request.method, Method::GET | Method::HEAD) && request.body.is_none();
    let redirects = [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::SEE_OTHER,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ];
    if !follows || !redirects.contains(&response.status()) {
        return None;
    }
    response.url().join(response.headers().get(LOCATION)?.to_str().ok()?).ok()
}

/// An error of a request, with what was asked for but without its query, which may hold a signature or a token.
pub(super) fn failed(url: &Url, error: reqwest::Error) -> HttpError {
    HttpError::Request { url: shown(url), proxy: None, source: error.without_url() }
}

/// A URL without what may be secret in it.
pub(super) fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), url_host(url), url.path())
}

/// A URL's host, with its port where that is not the usual one.
pub(super) fn url_host(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}", url.host_str().unwrap_or_default())
}

/// The address that a host is, if it is one and no name.
fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}
