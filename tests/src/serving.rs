//! `undocked` as a server: started on a port of its own, asked over HTTP, ended by a signal.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::Fixture;
use crate::run::{Ran, Run, Running};
use crate::wire;

/// A server that runs.
pub struct Serving {
    running: Running,
    address: String,
}

/// What a client got.
#[derive(Debug)]
pub struct Got {
    /// The HTTP status.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: wire::Headers,
    /// The body.
    pub body: Vec<u8>,
}

impl Got {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

impl Serving {
    /// Starts a command that serves, and waits until it says where.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start(run: Run) -> Serving {
        const BANNER: &str = "Lambda API listening on port ";
        let running = run.start();
        running.wait_for_stderr("listening on port ");
        let said = running.stderr_so_far();
        let port = said.split_once(BANNER).and_then(|(_, rest)| rest.split_once("...")).map(|(port, _)| port.to_owned());
        let port = port.unwrap_or_else(|| panic!("no banner: {said}"));
        Serving { running, address: format!("127.0.0.1:{port}") }
    }

    /// The same of a command that publishes its port at an address of its own, which it says, too.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start_published(run: Run) -> Serving {
        let running = run.start();
        running.wait_for_stderr("listening on port ");
        let said = running.stderr_so_far();
        let address = said.split_once("http://").and_then(|(_, rest)| rest.split_once('\n'));
        let address = address.unwrap_or_else(|| panic!("no address: {said}")).0.to_owned();
        Serving { running, address }
    }

    /// One that runs and is known to listen there.
    #[must_use]
    pub fn running_at(running: Running, address: String) -> Serving {
        Serving { running, address }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The process.
    #[must_use]
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// One request.
    ///
    /// # Panics
    /// When there is no answer.
    #[must_use]
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Got {
        let (status, headers, body) = wire::request(&self.address, method, path, headers, body).expect("it answers");
        Got { status, headers, body }
    }

    /// Invokes the function called `fn`.
    #[must_use]
    pub fn invoke(&self, headers: &[(&str, &str)], payload: &[u8]) -> Got {
        self.request("POST", "/2015-03-31/functions/fn/invocations", headers, payload)
    }

    /// Has the probe, whose script is `obey`, do these commands.
    #[must_use]
    pub fn tell(&self, commands: &str) -> Got {
        self.invoke(&[], Value::from(commands).to_string().as_bytes())
    }

    /// Ends it with a signal and waits for that.
    #[must_use]
    pub fn end(self, signal: Signal) -> Ran {
        self.running.signal(signal);
        self.running.finish()
    }
}

impl Fixture {
    /// `undocked serve` of the probe on any free port.
    #[must_use]
    pub fn serve(&self, options: &[&str]) -> Serving {
        Serving::start(self.serve_command(options))
    }

    /// The command for it.
    #[must_use]
    pub fn serve_command(&self, options: &[&str]) -> Run {
        let run = self.undocked(&["serve", "--listen", "127.0.0.1:0"]);
        run.args(options).arg("-v").arg(format!("{}:/var/task:ro", self.task().display())).arg(self.image("provided"))
    }
}

/// A client that keeps one connection.
pub struct Client {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Client {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens.
    #[must_use]
    pub fn connect(address: &str) -> Client {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("not zero");
        Client { stream: BufReader::with_capacity(64 * 1024, stream), host: address.to_owned() }
    }

    /// Invokes a function; gives the status and the body.
    ///
    /// # Panics
    /// When the answer is not what an HTTP server would send.
    pub fn invoke(&mut self, function: &str, payload: &[u8]) -> (u16, Vec<u8>) {
        let mut request = format!(
            "POST /2015-03-31/functions/{function}/invocations HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
            self.host,
            payload.len()
        )
        .into_bytes();
        request.extend_from_slice(payload);
        self.stream.get_mut().write_all(&request).expect("it takes the request");
        let (status, headers) = wire::read_head(&mut self.stream).expect("an answer");
        let length: usize = headers.get("content-length").and_then(|length| length.parse().ok()).expect("a length");
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("a whole answer");
        (status, body)
    }

    /// Invokes a function and reads the head of what it streams; gives the status.
    ///
    /// # Panics
    /// When the answer is not what an HTTP server would send, or no stream.
    pub fn stream(&mut self, function: &str, payload: &[u8]) -> u16 {
        let request = format!(
            "POST /2021-11-15/functions/{function}/response-streaming-invocations HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
            self.host,
            payload.len()
        );
        self.stream.get_mut().write_all(&[request.as_bytes(), payload].concat()).expect("it takes the request");
        let (status, headers) = wire::read_head(&mut self.stream).expect("an answer");
        assert_eq!(headers.get("transfer-encoding").map(String::as_str), Some("chunked"), "{headers:?}");
        status
    }

    /// The next part of a stream, as it came; `None` at its end.
    ///
    /// # Panics
    /// When it is cut.
    pub fn part(&mut self) -> Option<Vec<u8>> {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a part's length");
        let length = usize::from_str_radix(line.trim_end(), 16).expect("a length");
        let mut part = vec![0; length + 2];
        self.stream.read_exact(&mut part).expect("a whole part");
        part.truncate(length);
        (length > 0).then_some(part)
    }
}
