//! A runtime that answers every event with itself, on one connection, and does nothing else: what a call of it costs is the call.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

fn main() -> io::Result<()> {
    let address = env::var("AWS_LAMBDA_RUNTIME_API").map_err(io::Error::other)?;
    let stream = TcpStream::connect(&address)?;
    stream.set_nodelay(true)?;
    let mut api = BufReader::with_capacity(64 * 1024, stream);
    let mut event = Vec::new();
    loop {
        write!(api.get_mut(), "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
        let id = receive(&mut api, &mut event)?;
        let head = format!(
            "POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            event.len()
        );
        if event.len() < 8192 {
            api.get_mut().write_all(&[head.as_bytes(), &event].concat())?;
        } else {
            api.get_mut().write_all(head.as_bytes())?;
            api.get_mut().write_all(&event)?;
        }
        receive(&mut api, &mut Vec::new())?;
    }
}

/// Reads an answer; gives the request id it names.
fn receive(api: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> io::Result<String> {
    let (mut id, mut length, mut chunked) = (String::new(), 0, false);
    loop {
        let mut line = String::new();
        if api.read_line(&mut line)? == 0 {
            std::process::exit(0);
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        match name.to_ascii_lowercase().as_str() {
            "lambda-runtime-aws-request-id" => id = value.trim().to_owned(),
            "content-length" => length = value.trim().parse().map_err(io::Error::other)?,
            "transfer-encoding" => chunked = true,
            _ => {}
        }
    }
    body.clear();
    if !chunked {
        body.resize(length, 0);
        api.read_exact(body)?;
        return Ok(id);
    }
    loop {
        let mut line = String::new();
        api.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        let start = body.len();
        body.resize(start + size, 0);
        api.read_exact(&mut body[start..])?;
        api.read_line(&mut line)?;
        if size == 0 {
            return Ok(id);
        }
    }
}
