//! What becomes of a `connect`, `bind` or `listen` inside.
//!
//! The rule that all else hangs on: whether a call may be made is decided on our own copies of the socket and of the address, and then the call is made by us on
//! these copies. What the sandbox does to its descriptors and its memory in the meantime changes nothing. The kernel carries out only calls on unix
//! and netlink sockets, whose addresses mean something to the caller alone; should such a call find a TCP socket put in the other's place, Landlock refuses it, and
//! the socket's own locked filter, where we may attach one, lets nobody answer.

use std::collections::VecDeque;
use std::ffi::c_int;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};

use super::caller::{self, Caller, read_address};
use super::destination::{self, Destination};
use super::supervise::Shared;
use super::{Connection, Protocol, Verdict, peer};
use crate::sandbox::sys::{self as kernel, Notification};

/// What a call gets.
#[derive(Debug)]
pub(super) enum Outcome {
    /// This errno, or 0.
    Result(c_int),
    /// What the kernel makes of it.
    CarryOut,
    /// Nothing: the caller is gone.
    Gone,
    /// An answer later.
    Waits(Waiting),
}

/// A connection that is being made.
#[derive(Debug)]
pub(super) enum Waiting {
    /// A new one, to be put in place of the caller's socket of this cookie.
    Outside { fresh: OwnedFd, address: Vec<u8>, cookie: u64 },
    /// On the caller's own socket.
    Own { copy: OwnedFd, address: Vec<u8> },
}

/// What a call is about: our copy of its socket.
struct Socket {
    caller: Rc<Caller>,
    copy: OwnedFd,
    family: c_int,
    kind: c_int,
    protocol: c_int,
    /// Whether it is of the sandbox's namespace. Those that are not are connections that we have put there.
    own: bool,
}

impl Socket {
    fn is_tcp(&self) -> bool {
        self.kind == libc::SOCK_STREAM && matches!(self.protocol, libc::IPPROTO_TCP | libc::IPPROTO_MPTCP)
    }

    fn is_inet(&self) -> bool {
        matches!(self.family, libc::AF_INET | libc::AF_INET6)
    }

    /// The kernel's state of a TCP socket (`TCP_INFO`), whose numbers are those of `linux/tcp_states.h`.
    fn state(&self) -> c_int {
        state(self.copy.as_fd())
    }
}

const CLOSED: c_int = 7;

/// The state of a TCP socket; closed if it cannot be told.
fn state(socket: BorrowedFd<'_>) -> c_int {
    let mut state = [0; 1];
    match kernel::option(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut state) {
        Ok(1) => state[0].into(),
        _ => CLOSED,
    }
}

/// Whether a TCP socket is neither connected nor given up.
pub(super) fn is_connecting(socket: BorrowedFd<'_>) -> bool {
    const SYN_SENT: c_int = 2;
    const SYN_RECEIVED: c_int = 3;
    matches!(state(socket), SYN_SENT | SYN_RECEIVED)
}

fn number_option(socket: BorrowedFd<'_>, name: c_int) -> io::Result<c_int> {
    let mut value = [0; 4];
    kernel::option(socket, libc::SOL_SOCKET, name, &mut value)?;
    Ok(c_int::from_ne_bytes(value))
}

/// The network namespace that a socket belongs to, as `SO_NETNS_COOKIE` (Linux 5.14) tells it.
pub(super) fn namespace(socket: BorrowedFd<'_>) -> io::Result<u64> {
    const SO_NETNS_COOKIE: c_int = 71;
    let mut value = [0; 8];
    kernel::option(socket, libc::SOL_SOCKET, SO_NETNS_COOKIE, &mut value)?;
    Ok(u64::from_ne_bytes(value))
}

fn errno(number: c_int) -> io::Error {
    io::Error::from_raw_os_error(number)
}

/// A system call's errno.
pub(super) fn number(error: &io::Error) -> c_int {
    error.raw_os_error().unwrap_or(libc::EIO)
}

impl Shared {
    /// Answers a call at once, unless it has to wait; and tells of a connection, if it is one.
    pub(super) fn handle(&self, call: &Notification) -> (Outcome, Option<Connection>) {
        let mut log = None;
        let outcome = self.decide(call, &mut log).unwrap_or_else(|error| match number(&error) {
            libc::ESRCH => Outcome::Gone,
            number => Outcome::Result(number),
        });
        (outcome, log)
    }

    fn decide(&self, call: &Notification, log: &mut Option<Connection>) -> io::Result<Outcome> {
        let [number, address, length, ..] = call.arguments;
        let socket = self.socket(call.thread, number as RawFd)?;
        let call_number = libc::c_long::from(call.call);
        if call_number == libc::SYS_listen {
            return listen(&socket, address as c_int);
        }
        match socket.family {
            libc::AF_UNIX | libc::AF_NETLINK => return Ok(Outcome::CarryOut),
            libc::AF_INET | libc::AF_INET6 => {}
            // Such as AF_SMC, which a TCP socket can be turned into (`TCP_ULP`).
            _ => return Err(errno(libc::EAFNOSUPPORT)),
        }
        let address = read_address(call.thread, address, length)?;
        // All that has been read was the caller's only if it still waits: its number may have been given to another thread since.
        if !self.still_waits(call) {
            return Ok(Outcome::Gone);
        }
        match call_number {
            libc::SYS_bind if socket.own => kernel::bind(socket.copy.as_fd(), &address).map(|()| Outcome::Result(0)),
            libc::SYS_bind => Err(errno(libc::EINVAL)),
            libc::SYS_connect if socket.own => self.connect_own(call, socket, address, log),
            libc::SYS_connect => self.connect_again(call, socket, &address, log),
            _ => Err(errno(libc::ENOSYS)),
        }
    }

    fn socket(&self, thread: libc::pid_t, descriptor: RawFd) -> io::Result<Socket> {
        let (caller, copy) = self.callers.copy(thread, descriptor)?;
        let option = |name| number_option(copy.as_fd(), name);
        let (family, kind, protocol) = (option(libc::SO_DOMAIN)?, option(libc::SO_TYPE)?, option(libc::SO_PROTOCOL)?);
        let own = namespace(copy.as_fd())? == self.namespace;
        Ok(Socket { caller, copy, family, kind, protocol, own })
    }

    /// On a socket of the sandbox's own. Whatever address it is given, by itself it reaches nothing but the sandbox.
    fn connect_own(&self, call: &Notification, socket: Socket, address: Vec<u8>, log: &mut Option<Connection>) -> io::Result<Outcome> {
        // An address that is none of its family's, or one to take an association back, is for the kernel to judge.
        let named = destination::parse(&address).filter(|_| destination::family(&address) == Some(socket.family));
        let Some(named) = named.filter(|_| socket.is_tcp()) else {
            return drive(socket, address);
        };
        match Destination::of(named, &self.servers) {
            Destination::Inside => drive(socket, address),
            // Connected, connecting or listening: an error, which the kernel knows.
            _ if socket.state() != CLOSED => drive(socket, address),
            Destination::Nowhere => Err(errno(libc::ENETUNREACH)),
            Destination::Outside(target) => self.connect_outside(call, socket, (named, target), log),
        }
    }

    /// On a connection of ours: it is asked about again, or another one takes its place.
    fn connect_again(&self, call: &Notification, socket: Socket, address: &[u8], log: &mut Option<Connection>) -> io::Result<Outcome> {
        let family = destination::family(address);
        if !socket.is_tcp() || family == Some(libc::AF_UNSPEC) {
            // To undo a connection would leave a socket of the host's namespace that is free to be used otherwise.
            return Err(errno(libc::EINVAL));
        }
        let named = destination::parse(address).filter(|_| family == Some(socket.family)).ok_or_else(|| errno(libc::EINVAL))?;
        let current = self.peers.borrow().of(caller::cookie(&socket.copy)?);
        match Destination::of(named, &self.servers) {
            Destination::Outside(target) if current == Some(target) && self.verdict(named) == Verdict::Allowed => {
                let address = destination::bytes_for(target, socket.family).ok_or_else(|| errno(libc::EINVAL))?;
                drive(socket, address)
            }
            _ if is_connecting(socket.copy.as_fd()) => Err(errno(libc::EALREADY)),
            _ if socket.state() != CLOSED => Err(errno(libc::EISCONN)),
            Destination::Outside(target) => self.connect_outside(call, socket, (named, target), log),
            Destination::Inside | Destination::Nowhere => Err(errno(libc::ENETUNREACH)),
        }
    }

    /// Makes a connection in our own namespace, and puts it in place of the caller's socket: at once if the caller does not wait, else once it stands.
    fn connect_outside(
        &self,
        call: &Notification,
        socket: Socket,
        (named, target): (SocketAddr, SocketAddr),
        log: &mut Option<Connection>,
    ) -> io::Result<Outcome> {
        let verdict = self.verdict(named);
        *log = Some(Connection { protocol: Protocol::Tcp, destination: named, verdict });
        if verdict == Verdict::Denied {
            return Err(errno(libc::EACCES));
        }
        let nonblocking = caller::is_nonblocking(socket.copy.as_fd())?;
        let fresh = self.open_outside(&socket, target)?;
        let address = destination::bytes_for(target, socket.family).ok_or_else(|| errno(libc::ENETUNREACH))?;
        self.peers.borrow_mut().remember(caller::cookie(&fresh)?, target);
        let result = match kernel::connect(fresh.as_fd(), &address) {
            Ok(()) => 0,
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => libc::EINPROGRESS,
            Err(error) => return Err(error),
        };
        if !nonblocking && is_connecting(fresh.as_fd()) {
            return Ok(Outcome::Waits(Waiting::Outside { cookie: caller::cookie(&socket.copy)?, fresh, address }));
        }
        if nonblocking {
            self.put_in_place(call, &socket.caller, (&socket.copy, fresh.as_fd()))?;
        } else {
            finish(fresh.as_fd(), &address)?;
            self.put_in_place(call, &socket.caller, (&socket.copy, fresh.as_fd()))?;
        }
        // To close them takes as long as all of the above calls on them, and nobody waits for that.
        self.close_later.borrow_mut().extend([fresh, socket.copy]);
        self.wanted_again.set(Some((socket.family, target)));
        Ok(Outcome::Result(if nonblocking { result } else { 0 }))
    }

    fn open_outside(&self, socket: &Socket, target: SocketAddr) -> io::Result<OwnedFd> {
        let fresh = match self.spare.take() {
            Some((wanted, spare)) if wanted == (socket.family, target) => spare,
            other => {
                self.close_later.borrow_mut().extend(other.map(|(_, spare)| spare));
                self.make_outside(socket.family, target)?
            }
        };
        let make = || self.factory.borrow_mut().socket(socket.family, libc::SOCK_STREAM, libc::IPPROTO_TCP);
        self.options.carry(socket.copy.as_fd(), fresh.as_fd(), socket.family, make)?;
        Ok(fresh)
    }

    /// A function that connects with a peer does so again, mostly. To make its socket ready takes a third of the time that a connection takes, for its
    /// filter is compiled; so the next one is made when nobody waits.
    pub(super) fn make_spare(&self) {
        if let (Some((family, target)), Filters::Attached) = (self.wanted_again.take(), self.filters)
            && let Ok(spare) = self.make_outside(family, target)
        {
            self.spare.set(Some(((family, target), spare)));
        }
    }

    /// A socket in our own namespace that speaks with one peer alone.
    fn make_outside(&self, family: c_int, target: SocketAddr) -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fresh = socket_with(AddressFamily::from_raw(family as u16), SocketType::STREAM, flags, Some(ipproto::TCP))?;
        if self.filters == Filters::Attached {
            kernel::attach_filter(fresh.as_fd(), &peer::program(target))?;
            kernel::set_option(fresh.as_fd(), libc::SOL_SOCKET, libc::SO_LOCK_FILTER, &1_i32.to_ne_bytes())?;
        }
        Ok(fresh)
    }
}

/// For a caller that waited: what came of the connection. Asked once more, the kernel says so, and takes note that it has: the next one to ask is told that
/// it is connected. Only one that stands takes the place of the caller's socket, which can else be tried again.
pub(super) fn finish(fresh: BorrowedFd<'_>, address: &[u8]) -> io::Result<()> {
    match kernel::connect(fresh, address) {
        Err(error) if error.raw_os_error() != Some(libc::EISCONN) => Err(error),
        _ => caller::set_nonblocking(fresh, false),
    }
}

/// On our copy in any case: a listener must never be one of the host's namespace, and to let the kernel go on with what the number means by then would be
/// to take the caller's word. The peers of a unix listener see us as its owner (unix(7): `SO_PEERCRED`).
fn listen(socket: &Socket, backlog: c_int) -> io::Result<Outcome> {
    if !socket.own {
        return Err(errno(libc::EINVAL));
    }
    if !socket.is_inet() && socket.family != libc::AF_UNIX {
        return Err(errno(libc::EOPNOTSUPP));
    }
    rustix::net::listen(&socket.copy, backlog)?;
    Ok(Outcome::Result(0))
}

/// Connects the caller's own socket, as the kernel would.
fn drive(socket: Socket, address: Vec<u8>) -> io::Result<Outcome> {
    if !matches!(socket.kind, libc::SOCK_STREAM | libc::SOCK_SEQPACKET) || caller::is_nonblocking(socket.copy.as_fd())? {
        return kernel::connect(socket.copy.as_fd(), &address).map(|()| Outcome::Result(0));
    }
    match connect_without_waiting(socket.copy.as_fd(), &address) {
        Ok(()) => Ok(Outcome::Result(0)),
        Err(error) if matches!(number(&error), libc::EINPROGRESS | libc::EALREADY) => {
            Ok(Outcome::Waits(Waiting::Own { copy: socket.copy, address }))
        }
        Err(error) => Err(error),
    }
}

/// Connects a socket that waits, without waiting. It belongs to whoever shares it, who sees it not wait for a moment; since it is not connected yet, there is
/// nothing to wait for on it. A caller that sets it back in that moment makes us wait, and with us its own sandbox alone.
pub(super) fn connect_without_waiting(socket: BorrowedFd<'_>, address: &[u8]) -> io::Result<()> {
    caller::set_nonblocking(socket, true)?;
    let result = match kernel::connect(socket, address) {
        // A connection inside mostly stands as soon as the call is over.
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) && !is_connecting(socket) => kernel::connect(socket, address),
        result => result,
    };
    caller::set_nonblocking(socket, false)?;
    result
}

/// Whether connections carry filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filters {
    /// They do.
    Attached,
    /// The kernel lets only root attach one to a TCP socket (6.18 does not let others). Landlock stands alone then.
    Refused,
}

impl Filters {
    /// What this kernel lets us do. An error if the sandbox could then connect a socket of the host's by itself, having put it in another's place.
    pub(super) fn find_out() -> io::Result<Self> {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::TCP))?;
        match kernel::attach_filter(socket.as_fd(), &peer::program(SocketAddr::from(([127, 0, 0, 1], 1)))) {
            Ok(()) => Ok(Self::Attached),
            Err(_) if landlock_knows_tcp() => Ok(Self::Refused),
            Err(error) => Err(error),
        }
    }
}

/// Whether the sandbox's own TCP can be kept in by Landlock.
pub(super) fn landlock_knows_tcp() -> bool {
    kernel::landlock_abi().is_some_and(|abi| abi >= 4)
}

/// What the latest connections were made with, by the cookies of their sockets, which no two sockets ever share (socket(7): `SO_COOKIE`): a socket in the
/// middle of connecting does not tell. One that is forgotten cannot be asked about again, and can be connected anew.
#[derive(Debug, Default)]
pub(super) struct Peers(VecDeque<(u64, SocketAddr)>);

impl Peers {
    const MOST: usize = 1024;

    fn remember(&mut self, cookie: u64, peer: SocketAddr) {
        if self.0.len() == Self::MOST {
            self.0.pop_front();
        }
        self.0.push_back((cookie, peer));
    }

    fn of(&self, cookie: u64) -> Option<SocketAddr> {
        self.0.iter().rev().find(|(known, _)| *known == cookie).map(|(_, peer)| *peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_peers_are_remembered() {
        let mut peers = Peers::default();
        let peer = |port| SocketAddr::from(([10, 0, 0, 1], port));
        for port in 0..1500_u16 {
            peers.remember(port.into(), peer(port));
        }
        assert_eq!((peers.of(0), peers.of(1499), peers.of(2000)), (None, Some(peer(1499)), None));
        assert_eq!(peers.0.len(), Peers::MOST);
    }

    #[test]
    fn a_sockets_namespace_and_state_are_told() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(namespace(listener.as_fd()).unwrap(), namespace(other.as_fd()).unwrap());
        let fresh = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK, Some(ipproto::TCP)).unwrap();
        assert_eq!(state(fresh.as_fd()), CLOSED);
        assert_ne!(state(listener.as_fd()), CLOSED);
    }
}
