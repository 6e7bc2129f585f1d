//! An HTTP proxy in front of a registry that does to requests and answers what a test wants. It also takes whole URLs, as a proxy for plain HTTP is asked for
//! them, whatever host they name.

use std::sync::{Arc, Mutex};

use crate::wire::{self, Reply, Request, Server};

/// Headers that are passed on; the rest belongs to one connection.
const PASSED_ON: [&str; 8] =
    ["authorization", "accept", "range", "content-type", "content-range", "docker-content-digest", "www-authenticate", "location"];

/// What becomes of a request.
pub enum Then {
    /// It goes on as it is, and so does its answer.
    PassOn,
    /// It goes on, and the answer is changed.
    Change(Box<dyn FnOnce(Reply) -> Reply>),
    /// It goes on without a header.
    Without(&'static str),
    /// It is answered here.
    Answer(Reply),
    /// The connection ends without an answer.
    Close,
}

impl Then {
    /// It goes on, and the answer is changed.
    pub fn change(change: impl FnOnce(Reply) -> Reply + 'static) -> Then {
        Then::Change(Box::new(change))
    }
}

/// The proxy; it ends with this value.
pub struct FaultyProxy {
    server: Server,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl FaultyProxy {
    /// Starts one in front of `target`. `decide` is asked with each request and with how many of the same method and path came before.
    ///
    /// # Panics
    /// When loopback has no free port.
    pub fn start(target: &str, decide: impl Fn(&Request, usize) -> Then + Send + Sync + 'static) -> FaultyProxy {
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (record, target) = (Arc::clone(&seen), target.to_owned());
        let server = Server::start(move |request| {
            let before = {
                let mut seen = record.lock().expect("no holder panics");
                let before = seen.iter().filter(|other| other.path == request.path && other.method == request.method).count();
                seen.push(request.clone());
                before
            };
            match decide(request, before) {
                Then::PassOn => pass_on(&target, request),
                Then::Change(change) => change(pass_on(&target, request)),
                Then::Without(header) => {
                    let mut request = request.clone();
                    request.headers.remove(header);
                    pass_on(&target, &request)
                }
                Then::Answer(reply) => reply,
                Then::Close => Reply::new(0, ""),
            }
        });
        FaultyProxy { server, seen }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.server.address()
    }

    /// All requests so far.
    ///
    /// # Panics
    /// When a serving thread has.
    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().expect("no holder panics").clone()
    }

    /// `METHOD PATH` of the requests with this text in their paths.
    pub fn asked(&self, part: &str) -> Vec<String> {
        let requests = self.requests().into_iter().filter(|request| request.path.contains(part));
        requests.map(|request| format!("{} {}", request.method, request.path)).collect()
    }
}

fn pass_on(target: &str, request: &Request) -> Reply {
    let path = request.path.as_str();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest.find('/').map_or("/", |slash| &rest[slash..]));
    let headers: Vec<(&str, &str)> = PASSED_ON.iter().filter_map(|name| Some((*name, request.headers.get(*name)?.as_str()))).collect();
    match wire::request(target, &request.method, path, &headers, &request.body) {
        Ok((status, headers, body)) => {
            let reply = Reply::new(status, body);
            let known = headers.into_iter().filter(|(name, _)| PASSED_ON.contains(&name.as_str()));
            // Uploads go on here, too.
            let front = request.headers.get("host").map_or(target, String::as_str);
            let headers = known.map(|(name, value)| if name == "location" { (name, value.replace(target, front)) } else { (name, value) });
            Reply { headers: headers.collect(), ..reply }
        }
        Err(_) => Reply::new(502, ""),
    }
}
