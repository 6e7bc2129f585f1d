//! Telemetry from both ends: listens for it, as extensions do, and writes what comes to standard error; frames log records, as runtimes do.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, thread};

use crate::system;

/// Takes records from now on: each line by TCP becomes `RECORD <line>`, each request by HTTP `POSTED <first line> <body>`.
pub fn listen(protocol: &str, address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    let take = if protocol == "http" { take_request } else { take_lines };
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // What came until then was written.
            let _ = take(stream);
        }
    });
    Ok(())
}

fn take_lines(stream: TcpStream) -> io::Result<()> {
    for line in BufReader::new(stream).lines() {
        say(&format!("RECORD {}", line?))?;
    }
    Ok(())
}

fn take_request(stream: TcpStream) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    stream.read_line(&mut first)?;
    loop {
        let mut header = String::new();
        stream.read_line(&mut header)?;
        match header.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.trim().parse().unwrap_or(0),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    say(&format!("POSTED {} {}", first.trim_end(), String::from_utf8_lossy(&body)))?;
    stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
}

/// One line by one write, so that lines of others do not come in between.
fn say(line: &str) -> io::Result<()> {
    io::stderr().write_all(format!("{line}\n").as_bytes())
}

/// Writes a framed record to the descriptor that is there for it.
pub fn frame(message: &[u8]) -> io::Result<()> {
    let named = env::var("_LAMBDA_TELEMETRY_LOG_FD").map_err(|_| io::ErrorKind::NotFound)?;
    let descriptor = named.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
    let length = u32::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let frame = [&0xa55a_0003_u32.to_be_bytes()[..], &length.to_be_bytes(), &micros.to_be_bytes(), message].concat();
    system::write_to(descriptor, &frame)
}
