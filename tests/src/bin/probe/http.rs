//! The smallest HTTP/1.1 client that keeps one connection open, as runtime clients do.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use crate::notes::{json_map, json_text};

/// One answer; header names in lower case.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn to_json(&self) -> String {
        let headers = json_map(&self.headers.iter().cloned().collect());
        format!(r#"{{"status":{},"headers":{headers},"body":{}}}"#, self.status, json_text(&self.body))
    }
}

pub struct Client {
    address: String,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    pub fn new(address: String) -> Client {
        Client { address, connection: None }
    }

    pub fn request(&mut self, method: &str, path: &str, headers: &[(String, String)], body: &[u8]) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(open) => open,
            None => {
                let stream = TcpStream::connect(&self.address)?;
                stream.set_nodelay(true)?;
                BufReader::new(stream)
            }
        };
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n", self.address, body.len());
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        let mut message = head.into_bytes();
        message.extend_from_slice(body);
        // A server that refuses a body may answer and close before it has taken all of it.
        let written = connection.get_mut().write_all(&message);
        let (answer, keep) = read_answer(&mut connection).map_err(|error| written.err().unwrap_or(error))?;
        if keep {
            self.connection = Some(connection);
        }
        Ok(answer)
    }
}

fn read_answer(connection: &mut BufReader<TcpStream>) -> io::Result<(Answer, bool)> {
    let status = line(connection)?.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    let mut headers = Vec::new();
    loop {
        let text = line(connection)?;
        match text.split_once(':') {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    let mut answer = Answer { status, headers, body: Vec::new() };
    let keep = !answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    if answer.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        loop {
            let size = usize::from_str_radix(line(connection)?.trim(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
            let start = answer.body.len();
            answer.body.resize(start + size, 0);
            connection.read_exact(&mut answer.body[start..])?;
            line(connection)?;
            if size == 0 {
                break;
            }
        }
    } else {
        let size = answer.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        answer.body.resize(size, 0);
        connection.read_exact(&mut answer.body)?;
    }
    Ok((answer, keep))
}

fn line(connection: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut text = String::new();
    if connection.read_line(&mut text)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
