//! A client that sees every byte of an answer, and the moment it comes.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// A connection.
pub struct Client(BufReader<TcpStream>);

/// An answer whose body may still be on its way.
#[derive(Debug)]
pub struct Head {
    pub status: u16,
    /// As they came: names as they were written.
    pub lines: Vec<String>,
    /// By lower-case name; the last one of each.
    pub headers: BTreeMap<String, String>,
}

/// An answer that is whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub lines: Vec<String>,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Client {
    pub fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
        Self(BufReader::new(stream))
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).expect("it is read");
    }

    pub fn request(&mut self, line: &str, headers: &str, body: &str) {
        self.send(format!("{line} HTTP/1.1\r\nHost: localhost:3001\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()));
    }

    /// One call and its answer.
    pub fn call(&mut self, line: &str, headers: &str, body: &str) -> Answer {
        self.request(line, headers, body);
        self.answer()
    }

    /// Invokes a function.
    pub fn invoke(&mut self, function: &str, headers: &str, body: &str) -> Answer {
        self.call(&format!("POST /2015-03-31/functions/{function}/invocations"), headers, body)
    }

    pub fn head(&mut self) -> Head {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("an answer comes");
            assert!(line.ends_with("\r\n"), "{line:?} after {lines:?}");
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let first = lines.remove(0);
        let status = first.split(' ').nth(1).expect("a status line").parse().expect("a number");
        let pairs = lines.iter().map(|line| line.split_once(": ").expect("a header"));
        let headers = pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        Head { status, lines, headers }
    }

    pub fn answer(&mut self) -> Answer {
        let Head { status, lines, headers } = self.head();
        let body = if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            std::iter::from_fn(|| self.chunk()).flatten().collect()
        } else {
            let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().expect("a number"))];
            self.0.read_exact(&mut body).expect("as long as promised");
            body
        };
        Answer { status, lines, headers, body: String::from_utf8_lossy(&body).into_owned() }
    }

    /// The next chunk of a body; `None` at its end.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        self.try_chunk().expect("the body goes on")
    }

    /// The same; an error if the connection has ended.
    pub fn try_chunk(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let mut chunk = vec![0; usize::from_str_radix(line.trim_end(), 16).expect("a length")];
        self.0.read_exact(&mut chunk)?;
        self.0.read_exact(&mut [0; 2])?;
        Ok(Some(chunk).filter(|chunk| !chunk.is_empty()))
    }

    /// Waits for the other side to close.
    pub fn is_closed(&mut self) -> bool {
        match self.0.read(&mut [0]) {
            Ok(bytes) => bytes == 0,
            Err(error) => !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
        }
    }

    pub fn close_half(&mut self) {
        self.0.get_ref().shutdown(Shutdown::Write).expect("it is open");
    }
}
