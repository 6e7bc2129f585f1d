//! Options that the sandbox set on a socket before it connected, carried over to the one that takes its place.

use std::cell::OnceCell;
use std::ffi::c_int;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::sandbox::sys as kernel;

/// Those that are carried over. None takes a privilege: as root we would have it where the sandbox has not (socket(7): `SO_MARK`, `SO_BINDTODEVICE`), and none
/// routes (ip(7): `IP_OPTIONS`).
const CARRIED: [(c_int, c_int); 30] = [
    (libc::SOL_SOCKET, libc::SO_REUSEADDR),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::SOL_SOCKET, libc::SO_OOBINLINE),
    (libc::SOL_SOCKET, libc::SO_LINGER),
    (libc::SOL_SOCKET, libc::SO_SNDBUF),
    (libc::SOL_SOCKET, libc::SO_RCVBUF),
    (libc::SOL_SOCKET, libc::SO_RCVLOWAT),
    (libc::SOL_SOCKET, libc::SO_RCVTIMEO),
    (libc::SOL_SOCKET, libc::SO_SNDTIMEO),
    (libc::SOL_SOCKET, libc::SO_PRIORITY),
    (libc::SOL_SOCKET, libc::SO_ZEROCOPY),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_TCP, libc::TCP_MAXSEG),
    (libc::IPPROTO_TCP, libc::TCP_CORK),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    (libc::IPPROTO_TCP, libc::TCP_SYNCNT),
    (libc::IPPROTO_TCP, libc::TCP_LINGER2),
    (libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    (libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT),
    (libc::IPPROTO_IP, libc::IP_TOS),
    (libc::IPPROTO_IP, libc::IP_TTL),
    (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
    (libc::IPPROTO_IP, libc::IP_RECVERR),
    (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
    (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
];

/// The value of an option; none if the socket does not have it.
type Value = Option<([u8; 16], usize)>;

/// The options of sockets as they are made inside, by family, as far as they have been asked for.
#[derive(Debug, Default)]
pub(super) struct Options {
    v4: OnceCell<Vec<Value>>,
    v6: OnceCell<Vec<Value>>,
}

impl Options {
    /// Sets on `to` what was set on `from`. `make` makes a socket inside for comparison.
    pub(super) fn carry(
        &self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        family: c_int,
        make: impl FnOnce() -> io::Result<OwnedFd>,
    ) -> io::Result<()> {
        let cell = if family == libc::AF_INET { &self.v4 } else { &self.v6 };
        let pristine = match cell.get() {
            Some(pristine) => pristine,
            None => {
                use std::os::fd::AsFd as _;
                let fresh = make()?;
                cell.get_or_init(|| CARRIED.iter().map(|(level, name)| value(fresh.as_fd(), *level, *name)).collect())
            }
        };
        for ((level, name), pristine) in CARRIED.iter().zip(pristine) {
            // Of options that a family does not have nothing is asked again.
            if let (Some(set), Some(_)) = (value_unless(pristine.is_none(), from, (*level, *name)), pristine)
                && Some(set) != *pristine
            {
                set_value(to, (*level, *name), set);
            }
        }
        Ok(())
    }
}

fn value_unless(absent: bool, socket: BorrowedFd<'_>, (level, name): (c_int, c_int)) -> Value {
    if absent { None } else { value(socket, level, name) }
}

fn value(socket: BorrowedFd<'_>, level: c_int, name: c_int) -> Value {
    let mut value = [0; 16];
    let length = kernel::option(socket, level, name, &mut value).ok()?;
    Some((value, length))
}

fn set_value(socket: BorrowedFd<'_>, (level, name): (c_int, c_int), (mut value, length): ([u8; 16], usize)) {
    // The kernel doubles what is asked for, and tells the double (socket(7)).
    if let (libc::SOL_SOCKET, libc::SO_SNDBUF | libc::SO_RCVBUF, Some(word)) = (level, name, value.first_chunk_mut::<4>()) {
        *word = (i32::from_ne_bytes(*word) / 2).to_ne_bytes();
    }
    // What cannot be carried over makes a connection slower or less lasting, and is no reason to have none.
    let _ = kernel::set_option(socket, level, name, &value[..length.min(16)]);
}
