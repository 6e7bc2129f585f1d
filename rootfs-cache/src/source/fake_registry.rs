//! A registry for tests, in this process and on loopback: it serves what it is given, notes what it is asked, and misbehaves where a test says so.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, RANGE, TRANSFER_ENCODING};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::digest::Digest;

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) range: Option<String>,
    /// How many with this method and path came before.
    pub(crate) before: usize,
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Break off after so many bytes of the body, though more are announced.
    pub(crate) cut: Option<usize>,
    /// Keep silent for ever there, instead of closing the connection.
    pub(crate) stalls: bool,
}

impl Answer {
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.into(), cut: None, stalls: false }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::ok("") }
    }

    /// An error as the distribution specification wants it.
    pub(crate) fn error(status: u16, code: &str) -> Self {
        Self { status, ..Self::ok(json!({"errors": [{"code": code, "message": "as the test wants"}]}).to_string()) }
    }

    pub(crate) fn with(mut self, header: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((header, value.into()));
        self
    }
}

type Frames = stream::BoxStream<'static, io::Result<Frame<Bytes>>>;

/// What a test changes: an answer in the place of the usual one.
type Instead = dyn Fn(&Asked, &FakeRegistry) -> Option<Answer> + Send + Sync;

/// Shared between the server's tasks and the test.
#[derive(Clone)]
pub(crate) struct FakeRegistry(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    content: Mutex<HashMap<String, Vec<u8>>>,
    asked: Mutex<Vec<Asked>>,
    /// What came with requests that have a body, by their paths.
    bodies: Mutex<Vec<(String, String)>>,
    instead: Box<Instead>,
}

impl FakeRegistry {
    /// Starts one. The server ends with the test's runtime.
    pub(crate) async fn start(instead: impl Fn(&Asked, &Self) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (content, asked, bodies) = (Mutex::default(), Mutex::default(), Mutex::default());
        let registry = Self(Arc::new(Inner { address, content, asked, bodies, instead: Box::new(instead) }));
        let server = registry.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let server = server.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let server = server.clone();
                    async move {
                        let answer = server.answer(&request);
                        let path = request.uri().to_string();
                        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                        if !body.is_empty() {
                            server.0.bodies.lock().unwrap().push((path, String::from_utf8_lossy(&body).into_owned()));
                        }
                        Ok::<_, Infallible>(answer)
                    }
                });
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), service));
            }
        });
        registry
    }

    /// One that does as it should.
    pub(crate) async fn honest() -> Self {
        Self::start(|_, _| None).await
    }

    pub(crate) fn host(&self) -> String {
        self.0.address.to_string()
    }

    /// Requests with this text in their path.
    pub(crate) fn asked(&self, part: &str) -> Vec<Asked> {
        self.0.asked.lock().unwrap().iter().filter(|asked| asked.path.contains(part)).cloned().collect()
    }

    /// What came with requests with this text in their path.
    pub(crate) fn bodies(&self, part: &str) -> Vec<String> {
        self.0.bodies.lock().unwrap().iter().filter(|(path, _)| path.contains(part)).map(|(_, body)| body.clone()).collect()
    }

    /// Stores a blob of repository `a/b`.
    pub(crate) fn put_blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.0.content.lock().unwrap().insert(format!("/v2/a/b/blobs/{digest}"), bytes.to_vec());
        digest
    }

    /// Stores a manifest or an index of repository `a/b`, by its digest and perhaps a tag.
    pub(crate) fn put_manifest(&self, manifest: &Value, tag: Option<&str>) -> Digest {
        let bytes = manifest.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        let mut content = self.0.content.lock().unwrap();
        for name in [Some(digest.to_string().as_str()), tag].into_iter().flatten() {
            content.insert(format!("/v2/a/b/manifests/{name}"), bytes.clone());
        }
        digest
    }

    /// The usual answer for a path.
    pub(crate) fn usual(&self, path: &str) -> Answer {
        match self.0.content.lock().unwrap().get(path) {
            Some(body) => Answer::ok(body.clone()).with("docker-content-digest", Digest::of(body).to_string()),
            None if path == "/v2/" => Answer::status(200),
            None => Answer::error(404, if path.contains("/blobs/") { "BLOB_UNKNOWN" } else { "MANIFEST_UNKNOWN" }),
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<StreamBody<Frames>> {
        let method = request.method().to_string();
        let path = request.uri().to_string();
        let authorization = request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
        let range = request.headers().get(RANGE).map(|value| value.to_str().unwrap().to_owned());
        let asked = {
            let mut log = self.0.asked.lock().unwrap();
            let before = log.iter().filter(|other| other.path == path && other.method == method).count();
            log.push(Asked { method: method.clone(), path: path.clone(), authorization, range, before });
            log.last().unwrap().clone()
        };
        let answer = (self.0.instead)(&asked, self).unwrap_or_else(|| self.usual(&path));
        let mut response = Response::builder().status(answer.status);
        for (name, value) in answer.headers {
            response = response.header(name, value);
        }
        let is_chunked = response.headers_ref().is_some_and(|headers| headers.contains_key(TRANSFER_ENCODING));
        if !is_chunked {
            response = response.header(CONTENT_LENGTH, answer.body.len());
        }
        let end = answer.cut.unwrap_or(answer.body.len());
        let sent: Vec<_> = if method == "HEAD" { Vec::new() } else { vec![Ok(Frame::data(answer.body[..end].to_vec().into()))] };
        let stalls = answer.stalls;
        let cut = stream::iter(answer.cut).then(move |_| async move {
            // Hyper sends what it has when nothing more is ready.
            tokio::task::yield_now().await;
            if stalls {
                std::future::pending::<()>().await;
            }
            Err(io::Error::other("cut off, as the test wants"))
        });
        response.body(StreamBody::new(stream::iter(sent).chain(cut).boxed())).unwrap()
    }
}
