//! A name server of a test's own, on an address of the loopback that is nobody else's. Only root may listen on port 53.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::OnceLock;
use std::thread;

/// What all names but `open.example` mean: an address that nobody has.
pub const NOBODY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// Answers until the test's process ends: `open.example` is this machine.
pub struct NameServer {
    address: Ipv4Addr,
    /// What `open.example` means: an address of this machine's that is not its loopback.
    pub own: Ipv4Addr,
}

impl NameServer {
    /// The process's one. `None` where the machine has no address but those of its loopback.
    ///
    /// # Panics
    /// When it may not listen.
    pub fn start() -> Option<&'static NameServer> {
        static RUNNING: OnceLock<Option<NameServer>> = OnceLock::new();
        let start = || {
            let own = own_address()?;
            let [_, _, high, low] = std::process::id().to_be_bytes();
            let address = Ipv4Addr::new(127, 53, high, low);
            let socket = UdpSocket::bind((address, 53)).expect("root may listen there");
            thread::spawn(move || answer_names(&socket, own));
            Some(NameServer { address, own })
        };
        RUNNING.get_or_init(start).as_ref()
    }

    /// A script for [`crate::Fixture::run_by_shell`] under which this is the machine's name server. A file for it is made in a folder.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn shell(&self, folder: &Path) -> String {
        let file = folder.join("resolv.conf");
        fs::write(&file, format!("nameserver {}\n", self.address)).expect("written");
        format!(r#"exec unshare --mount sh -c 'mount --bind {} /etc/resolv.conf && exec "$0" "$@"' "$0" "$@""#, file.display())
    }
}

/// Nothing is sent.
fn own_address() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(own) if !own.is_loopback() => Some(own),
        _ => None,
    }
}

/// Answers what is asked (RFC 1035).
fn answer_names(socket: &UdpSocket, own: Ipv4Addr) {
    let mut bytes = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut bytes) {
        // What is no question of one name is nobody's that we wait for.
        let Some(question) = bytes.get(12..length) else { continue };
        let Some(name) = question.iter().position(|byte| *byte == 0) else { continue };
        let Some(question) = question.get(..name + 5) else { continue };
        // Questions of type A; there are no addresses of IPv6.
        let is_a = question[name + 1..name + 3] == [0, 1];
        let address = if question.starts_with(b"\x04open") { own } else { NOBODY };
        let answer = [&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4][..], &address.octets()].concat();
        let head = [&bytes[..2], &[0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]].concat();
        let message = [&head[..], question, if is_a { &answer[..] } else { &[] }].concat();
        let _ = socket.send_to(&message, from);
    }
}
