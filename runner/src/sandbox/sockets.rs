//! Whose socket a connection on the host's loopback is.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::{Sandbox, memory};

/// The processes of one sandbox, as far as their sockets are concerned.
#[derive(Debug, Clone, Copy)]
pub struct SocketHolder {
    first_process: u32,
    /// The user of the machine whose processes they are, where nobody else's are: then we may not be allowed to look into them.
    user: Option<u32>,
}

impl SocketHolder {
    /// Those of a sandbox.
    pub fn of(sandbox: &Sandbox) -> Self {
        Self { first_process: sandbox.host_pid(), user: sandbox.user() }
    }

    /// Whether one of them holds the socket at `local` that is connected with `remote`. Some microseconds for each socket that they hold.
    pub fn holds(self, local: SocketAddr, remote: SocketAddr) -> bool {
        if let Some(user) = self.user {
            return table_entry(local, remote).is_some_and(|entry| entry.user == user);
        }
        memory::family(self.first_process.cast_signed()).into_iter().any(|pid| process_holds(pid, local, remote))
    }
}

/// What the kernel's table of sockets says of one.
struct TableEntry {
    user: u32,
    inode: u64,
}

/// The socket at `local` that is connected with `remote` (proc_net(5)).
fn table_entry(local: SocketAddr, remote: SocketAddr) -> Option<TableEntry> {
    ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().find_map(|table| {
        let table = std::fs::read_to_string(table).ok()?;
        table.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let connects = table_address(fields.get(1)?)? == local && table_address(fields.get(2)?)? == remote;
            connects.then_some(TableEntry { user: fields.get(7)?.parse().ok()?, inode: fields.get(9)?.parse().ok()? })
        })
    })
}

/// An address as those tables have it: words of 32 bits in this machine's order, in hexadecimal digits.
fn table_address(text: &str) -> Option<SocketAddr> {
    let (words, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(words.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = if words.len() == 8 {
        IpAddr::from(word(0)?)
    } else {
        let bytes = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
        IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical()
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

fn process_holds(pid: libc::pid_t, local: SocketAddr, remote: SocketAddr) -> bool {
    let folder = format!("/proc/{pid}/fd");
    let (Ok(entries), Some(Ok(process))) = (std::fs::read_dir(&folder), Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty())))
    else {
        return false;
    };
    // In any order: what is gone meanwhile is no longer held.
    entries.flatten().any(|entry| {
        is_socket(&entry.path())
            && entry.file_name().to_str().and_then(|number| number.parse().ok()).is_some_and(|number| {
                match pidfd_getfd(process.as_fd(), number, PidfdGetfdFlags::empty()) {
                    Ok(socket) => connects(&socket, local, remote),
                    // Outer containers refuse the call itself, the ptrace right for it or not.
                    Err(Errno::PERM | Errno::NOSYS) => {
                        table_entry(local, remote).is_some_and(|socket| is_inode(&entry.path(), socket.inode))
                    }
                    Err(_) => false,
                }
            })
    })
}

fn is_inode(descriptor: &Path, inode: u64) -> bool {
    descriptor.read_link().is_ok_and(|link| link.as_os_str().as_encoded_bytes() == format!("socket:[{inode}]").as_bytes())
}

fn is_socket(descriptor: &Path) -> bool {
    descriptor.read_link().is_ok_and(|link| link.as_os_str().as_encoded_bytes().starts_with(b"socket:["))
}

fn connects(socket: &OwnedFd, local: SocketAddr, remote: SocketAddr) -> bool {
    let same = |address: Option<SocketAddr>, wanted: SocketAddr| {
        // A socket of IPv6 says an address of IPv4 in IPv6's form.
        address.is_some_and(|address| (address.ip().to_canonical(), address.port()) == (wanted.ip(), wanted.port()))
    };
    let own = rustix::net::getsockname(socket).ok().and_then(|address| address.try_into().ok());
    let other = rustix::net::getpeername(socket).ok().flatten().and_then(|address| address.try_into().ok());
    same(own, local) && same(other, remote)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn finds_a_socket_among_a_process_and_its_children() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let remote = listener.local_addr().unwrap();
        let stream = TcpStream::connect(remote).unwrap();
        let local = stream.local_addr().unwrap();
        let own = SocketHolder { first_process: std::process::id(), user: None };
        assert!(own.holds(local, remote));
        let of = |user| SocketHolder { first_process: 0, user: Some(user) };
        let uid = nix::unistd::geteuid().as_raw();
        assert!(of(uid).holds(local, remote) && !of(uid + 1).holds(local, remote) && !of(uid).holds(local, "127.0.0.1:1".parse().unwrap()));
        assert!(!own.holds(local, "127.0.0.1:1".parse().unwrap()));
        let mut other = std::process::Command::new("sleep").arg("5").spawn().unwrap();
        assert!(!SocketHolder { first_process: other.id(), user: None }.holds(local, remote));
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
