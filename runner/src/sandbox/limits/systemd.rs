//! A scope of our own from systemd: a cgroup that is ours to hand on (<https://systemd.io/CGROUP_DELEGATION/>).
//!
//! One method call over D-Bus, so the little of the protocol that it takes stands here: strings, the values of five properties, one answer
//! (<https://dbus.freedesktop.org/doc/dbus-specification.html>). Only the order of bytes of the machine is spoken, which is little-endian.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long systemd may take for anything.
const LIMIT: Duration = Duration::from_secs(2);

/// Why there is no scope.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScopeError {
    /// Nobody listens there, or what was said was not understood.
    #[error("cannot speak with systemd on `{}`", bus.display())]
    Bus {
        /// The bus's socket.
        bus: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It said no.
    #[error("systemd refused: {0}")]
    Refused(String),
    /// It said yes, and nothing happened.
    #[error("systemd did not move us")]
    NotMoved,
}

/// Has systemd move us into a scope: the user's own systemd, or the machine's when we are root.
pub(super) fn enter_scope_of_our_own(name: &str) -> Result<(), ScopeError> {
    let uid = nix::unistd::geteuid();
    let bus = if uid.is_root() { "/run/dbus/system_bus_socket".into() } else { PathBuf::from(format!("/run/user/{uid}/bus")) };
    enter_scope(&bus, name)?;
    // The answer says that it will be done. The kernel says that it is.
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        if own.lines().any(|line| line.starts_with("0::") && line.ends_with(&format!("/{name}"))) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Err(ScopeError::NotMoved)
}

/// Asks for it.
fn enter_scope(bus: &Path, name: &str) -> Result<(), ScopeError> {
    let failed = |source| ScopeError::Bus { bus: bus.to_owned(), source };
    let connect = || -> io::Result<BufReader<UnixStream>> {
        let stream = UnixStream::connect(bus)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let mut stream = BufReader::new(stream);
        authenticate(&mut stream)?;
        Ok(stream)
    };
    let mut stream = connect().map_err(failed)?;
    let hello = Call {
        serial: 1,
        service: "org.freedesktop.DBus",
        object: "/org/freedesktop/DBus",
        interface: "org.freedesktop.DBus",
        method: "Hello",
    };
    let start = Call {
        serial: 2,
        service: "org.freedesktop.systemd1",
        object: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.systemd1.Manager",
        method: "StartTransientUnit",
    };
    let mut messages = hello.message("", &Body::default());
    messages.extend(start.message("ssa(sv)a(sa(sv))", &scope(name, std::process::id())));
    stream.get_mut().write_all(&messages).map_err(failed)?;
    loop {
        match Answer::read(&mut stream).map_err(failed)? {
            Answer::Error { to: 1 | 2, text } => return Err(ScopeError::Refused(text)),
            Answer::Return { to: 2 } => return Ok(()),
            _ => {}
        }
    }
}

/// By our user id, which the kernel vouches for.
fn authenticate(stream: &mut BufReader<UnixStream>) -> io::Result<()> {
    let uid: String = nix::unistd::geteuid().to_string().bytes().map(|byte| format!("{byte:02x}")).collect();
    stream.get_mut().write_all(format!("\0AUTH EXTERNAL {uid}\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.by_ref().take(1024).read_line(&mut answer)?;
    if !answer.starts_with("OK ") {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, answer.trim().to_owned()));
    }
    stream.get_mut().write_all(b"BEGIN\r\n")
}

/// The arguments of `StartTransientUnit`: name, mode, properties, and no further units. Systemd removes the scope when it is empty, whatever became of
/// its processes.
fn scope(name: &str, pid: u32) -> Body {
    let mut body = Body::default();
    body.string(name);
    body.string("fail");
    body.array(8, |body| {
        body.property("Description", "s", |body| body.string("sandboxes of undocked"));
        body.property("CollectMode", "s", |body| body.string("inactive-or-failed"));
        body.property("Delegate", "b", |body| body.word(1));
        body.property("PIDs", "au", |body| body.array(4, |body| body.word(pid)));
    });
    body.array(8, |_| {});
    body
}

/// A value as it is sent: everything aligned to its own size, counted from the start.
#[derive(Default)]
struct Body(Vec<u8>);

impl Body {
    fn align(&mut self, size: usize) {
        self.0.resize(self.0.len().next_multiple_of(size), 0);
    }

    fn word(&mut self, word: u32) {
        self.align(4);
        self.0.extend(word.to_le_bytes());
    }

    fn string(&mut self, text: &str) {
        self.word(text.len() as u32);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.0.push(text.len() as u8);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// Its length in bytes stands first, without what aligns its first element.
    fn array(&mut self, alignment: usize, fill: impl FnOnce(&mut Self)) {
        self.word(0);
        let length_at = self.0.len() - 4;
        self.align(alignment);
        let begin = self.0.len();
        fill(self);
        let length = (self.0.len() - begin) as u32;
        self.0[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// A structure of a name and a value that says of what type it is.
    fn property(&mut self, name: &str, signature: &str, value: impl FnOnce(&mut Self)) {
        self.align(8);
        self.string(name);
        self.signature(signature);
        value(self);
    }

    fn header_field(&mut self, code: u8, signature: &str, value: impl FnOnce(&mut Self)) {
        self.align(8);
        self.0.push(code);
        self.signature(signature);
        value(self);
    }
}

/// Whose method is called.
struct Call {
    serial: u32,
    service: &'static str,
    object: &'static str,
    interface: &'static str,
    method: &'static str,
}

impl Call {
    fn message(&self, signature: &str, body: &Body) -> Vec<u8> {
        // Little-endian, a method call, no flags, version 1 of the protocol.
        let mut message = Body(vec![b'l', 1, 0, 1]);
        message.word(body.0.len() as u32);
        message.word(self.serial);
        message.array(8, |fields| {
            fields.header_field(1, "o", |field| field.string(self.object));
            fields.header_field(2, "s", |field| field.string(self.interface));
            fields.header_field(3, "s", |field| field.string(self.method));
            fields.header_field(6, "s", |field| field.string(self.service));
            if !signature.is_empty() {
                fields.header_field(8, "g", |field| field.signature(signature));
            }
        });
        message.align(8);
        message.0.extend(&body.0);
        message.0
    }
}

/// A message from the bus, as far as it matters.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Return { to: u32 },
    Error { to: u32, text: String },
    Other,
}

impl Answer {
    /// No message that we wait for is longer; the protocol allows 128 MiB.
    const LONGEST: usize = 1 << 20;

    fn read(stream: &mut impl Read) -> io::Result<Self> {
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "no D-Bus message of this machine's byte order");
        let mut head = [0; 16];
        stream.read_exact(&mut head)?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        let (body, fields) = (word(4), word(12));
        if head[0] != b'l' || body.max(fields) > Self::LONGEST {
            return Err(malformed());
        }
        let mut rest = vec![0; fields.next_multiple_of(8) + body];
        stream.read_exact(&mut rest)?;
        let (fields, body) = (rest.get(..fields).ok_or_else(malformed)?, rest.get(fields.next_multiple_of(8)..).unwrap_or_default());
        let to = reply_serial(fields).unwrap_or(0);
        Ok(match head[1] {
            2 => Self::Return { to },
            3 => Self::Error { to, text: first_string(body).unwrap_or_default() },
            _ => Self::Other,
        })
    }
}

/// Which call is answered: field 5 of the header, of type `u`. The others are strings, paths and signatures.
fn reply_serial(fields: &[u8]) -> Option<u32> {
    let word = |at: usize| Some(u32::from_le_bytes(fields.get(at..at + 4)?.try_into().ok()?));
    let mut at = 0;
    while at < fields.len() {
        let (code, kind) = (*fields.get(at)?, *fields.get(at + 2)?);
        // One byte each of code, signature length, signature and its end.
        let value = at + 4;
        at = match kind {
            b'u' if code == 5 => return word(value),
            b'u' => value + 4,
            b's' | b'o' => value + 4 + word(value)? as usize + 1,
            b'g' => value + 1 + usize::from(*fields.get(value)?) + 1,
            _ => return None,
        };
        at = at.next_multiple_of(8);
    }
    None
}

fn first_string(body: &[u8]) -> Option<String> {
    let length = u32::from_le_bytes(body.get(..4)?.try_into().ok()?) as usize;
    Some(String::from_utf8_lossy(body.get(4..4 + length)?).into_owned())
}

#[cfg(test)]
#[path = "systemd_tests.rs"]
mod tests;
