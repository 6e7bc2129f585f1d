//! HTTP/1.1 for tests: one request at a time as a client, and a server that can also answer wrongly.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Headers by lower-case name.
pub type Headers = BTreeMap<String, String>;

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET` and so on.
    pub method: String,
    /// With the query.
    pub path: String,
    /// By lower-case name.
    pub headers: Headers,
    /// Its body.
    pub body: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Headers besides the length.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
    /// Close after so many bytes of the body, though the length promised all.
    pub cut_after: Option<usize>,
    /// How the body is sent.
    pub sending: Sending,
}

/// How a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// At once, behind its length.
    Whole,
    /// So many bytes at a time, each on its way before the next.
    Pieces(usize),
    /// Without a length: it ends with the connection.
    Unannounced,
}

impl Reply {
    /// A status and a body. With the status 0 the connection is closed instead.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply { status, headers: Vec::new(), body: body.into(), cut_after: None, sending: Sending::Whole }
    }

    /// Sent in another way.
    #[must_use]
    pub fn sent(mut self, sending: Sending) -> Reply {
        self.sending = sending;
        self
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Reply {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Cut after so many bytes.
    #[must_use]
    pub fn cut_after(mut self, bytes: usize) -> Reply {
        self.cut_after = Some(bytes);
        self
    }
}

/// Sends one request on a connection of its own.
///
/// # Errors
/// When the connection fails or the answer is no HTTP.
pub fn request(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<(u16, Headers, Vec<u8>)> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    (&stream).write_all(head.as_bytes())?;
    (&stream).write_all(body)?;
    let mut reader = BufReader::new(stream);
    let (status, headers) = read_head(&mut reader)?;
    let mut answer = Vec::new();
    if method != "HEAD" {
        match headers.get("content-length").and_then(|length| length.parse().ok()) {
            Some(length) => reader.take(length).read_to_end(&mut answer)?,
            None if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") => read_chunks(&mut reader, &mut answer)?,
            None => reader.read_to_end(&mut answer)?,
        };
    }
    Ok((status, headers, answer))
}

fn read_chunks(reader: &mut impl BufRead, answer: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        let length = u64::from_str_radix(&read_line(reader)?, 16).map_err(io::Error::other)?;
        reader.by_ref().take(length).read_to_end(answer)?;
        read_line(reader)?;
        if length == 0 {
            return Ok(answer.len());
        }
    }
}

/// Reads the head of an answer.
///
/// # Errors
/// When the connection fails or the answer is no HTTP.
pub fn read_head(reader: &mut impl BufRead) -> io::Result<(u16, Headers)> {
    let status = read_line(reader)?.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok((status, read_headers(reader)?))
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

fn read_headers(reader: &mut impl BufRead) -> io::Result<Headers> {
    let mut headers = Headers::new();
    loop {
        let line = read_line(reader)?;
        match line.split_once(':') {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.trim().to_owned()),
            None => return Ok(headers),
        };
    }
}

/// A server on loopback, gone with this value.
pub struct Server {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
}

impl Server {
    /// Serves every connection on a thread of its own.
    ///
    /// # Panics
    /// When loopback has no free port.
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let stopped = Arc::new(AtomicBool::new(false));
        let (seen, answer) = (Arc::clone(&stopped), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if seen.load(Ordering::SeqCst) {
                    return;
                }
                let answer = Arc::clone(&answer);
                thread::spawn(move || {
                    // A client may close whenever it likes.
                    let _ = serve_connection(stream, &*answer);
                });
            }
        });
        Server { address, stopped }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // The accepting thread looks only when somebody comes.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve_connection(stream: TcpStream, answer: &dyn Fn(&Request) -> Reply) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let line = read_line(&mut reader)?;
        let mut words = line.split(' ').map(str::to_owned);
        let (method, path) = words.next().zip(words.next()).ok_or(io::ErrorKind::InvalidData)?;
        let headers = read_headers(&mut reader)?;
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            read_chunks(&mut reader, &mut body)?;
        }
        let request = Request { method, path, headers, body };
        let reply = answer(&request);
        if reply.status == 0 {
            return stream.shutdown(Shutdown::Both);
        }
        let mut head = format!("HTTP/1.1 {} X\r\n", reply.status);
        if reply.sending != Sending::Unannounced {
            head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
        }
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        (&stream).write_all(head.as_bytes())?;
        if request.method == "HEAD" {
            continue;
        }
        let sent = reply.cut_after.unwrap_or(reply.body.len()).min(reply.body.len());
        let piece = if let Sending::Pieces(piece) = reply.sending { piece } else { sent.max(1) };
        for piece in reply.body[..sent].chunks(piece) {
            (&stream).write_all(piece)?;
            thread::yield_now();
        }
        if sent < reply.body.len() || reply.sending == Sending::Unannounced {
            return stream.shutdown(Shutdown::Both);
        }
    }
}

/// Passes connections on to another address until so many bytes have come back from there; then it cuts them all and takes no more.
pub struct CuttingProxy {
    address: SocketAddr,
}

impl CuttingProxy {
    /// Starts one in front of `target`.
    ///
    /// # Panics
    /// When loopback has no free port.
    pub fn start(target: &str, allowance: usize) -> CuttingProxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let target = target.to_owned();
        let left = Arc::new(std::sync::Mutex::new(allowance));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if *left.lock().expect("no holder panics") == 0 {
                    return;
                }
                let Ok(server) = TcpStream::connect(&target) else { return };
                let left = Arc::clone(&left);
                let (Ok(mut from_client), Ok(mut to_server)) = (client.try_clone(), server.try_clone()) else {
                    return;
                };
                thread::spawn(move || io::copy(&mut from_client, &mut to_server).is_ok());
                thread::spawn(move || pass_on(&server, &client, &left));
            }
        });
        CuttingProxy { address }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

fn pass_on(mut server: &TcpStream, mut client: &TcpStream, left: &std::sync::Mutex<usize>) {
    let mut buffer = [0; 16384];
    loop {
        let count = server.read(&mut buffer).unwrap_or(0);
        let mut allowance = left.lock().expect("no holder panics");
        let passed = count.min(*allowance);
        *allowance -= passed;
        let open = count > 0 && client.write_all(&buffer[..passed]).is_ok() && *allowance > 0;
        drop(allowance);
        if !open {
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
            return;
        }
    }
}
