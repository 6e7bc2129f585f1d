//! Descriptors that the child makes inside and hands out: sockets of the sandbox's network namespace, the notification descriptor, folders to watch.
//!
//! They come in one message over a pair of sockets, just before the child executes its program.

use std::fs::File;
use std::io::{self, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, bind, listen, recvmsg};

use super::limits::Inside;
use super::sys;

/// What is handed out; the number is what the message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Handed {
    /// The seccomp notification descriptor.
    Notify,
    /// A TCP socket for the host to listen on.
    Listener,
    /// Raw sockets that see every datagram sent inside.
    RawV4,
    RawV6,
    /// Raw sockets whose packets have their own headers.
    InjectV4,
    InjectV6,
    /// The sandbox's `/proc` and `/tmp`, and the list of its System V segments: for the memory watcher.
    Proc,
    Tmp,
    Segments,
    /// Its `/dev/shm`, likewise.
    SharedMemory,
}

impl Handed {
    /// How many there are.
    pub(super) const COUNT: usize = 10;
}

/// What came out of the sandbox.
#[derive(Debug, Default)]
pub(super) struct HandedOut([Option<OwnedFd>; Handed::COUNT]);

impl HandedOut {
    /// Receives what the child sent; it must have been sent.
    pub(super) fn receive(socket: &UnixStream) -> io::Result<Self> {
        let mut kinds = [0_u8; Handed::COUNT];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(Handed::COUNT))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = recvmsg(socket.as_fd(), &mut [IoSliceMut::new(&mut kinds)], &mut ancillary, flags)?;
        let mut out = Self::default();
        let descriptors = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        for (kind, descriptor) in kinds.iter().take(received.bytes).zip(descriptors.flatten()) {
            // Above the standard streams: ours may be closed.
            let descriptor = sys::above_standard(descriptor)?;
            if let Some(place) = out.0.get_mut(usize::from(*kind)) {
                *place = Some(descriptor);
            }
        }
        Ok(out)
    }

    /// What the memory watcher needs; `None` if it was not handed out.
    pub(super) fn inside(&mut self) -> Option<Inside> {
        let (proc, segments) = (self.take(Handed::Proc)?, self.take(Handed::Segments));
        let in_memory = [Handed::Tmp, Handed::SharedMemory].into_iter().filter_map(|what| self.take(what)).collect();
        Some(Inside { proc, first: None, in_memory, segments: segments.map(File::from) })
    }

    pub(super) fn take(&mut self, what: Handed) -> Option<OwnedFd> {
        self.0.get_mut(what as usize).and_then(Option::take)
    }

    /// Listens, from outside, on a port of the sandbox's 127.0.0.1.
    pub(super) fn listen(&mut self, port: u16) -> io::Result<Option<TcpListener>> {
        let Some(socket) = self.take(Handed::Listener) else { return Ok(None) };
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
        // As many in waiting as the standard library's listeners.
        listen(&socket, 128)?;
        let listener = TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        Ok(Some(listener))
    }

    /// What the way out is made of, if all of it is there.
    pub(super) fn outbound(&mut self) -> Option<Outbound> {
        let notify = self.take(Handed::Notify);
        let (Some(raw_v4), Some(inject_v4)) = (self.take(Handed::RawV4), self.take(Handed::InjectV4)) else { return None };
        let (raw_v6, inject_v6) = (self.take(Handed::RawV6), self.take(Handed::InjectV6));
        Some(Outbound { notify, raw_v4, raw_v6, inject_v4, inject_v6 })
    }
}

/// What the host holds of a network namespace of the sandbox's own.
#[derive(Debug)]
pub struct NetworkDescriptors {
    /// What listens on the port inside that was asked for.
    pub listener: Option<TcpListener>,
    /// What the way out is made of, where there is one.
    pub outbound: Option<Outbound>,
    /// Makes more sockets inside.
    pub factory: SocketFactory,
}

/// What the way out of a private network is made of. All are of the sandbox's namespace; see `docs/decisions/private-network.md`.
#[derive(Debug)]
pub struct Outbound {
    /// Tells of every `connect`, `bind` and `listen` (seccomp_unotify(2)); none where the network cannot be supervised, and then nothing leads out.
    pub notify: Option<OwnedFd>,
    /// Receives a copy of every IPv4 datagram that is sent inside, with its header.
    pub raw_v4: OwnedFd,
    /// The same for IPv6, without header; none where the host has no IPv6.
    pub raw_v6: Option<OwnedFd>,
    /// Sends IPv4 packets with headers of our own.
    pub inject_v4: OwnedFd,
    /// The same for IPv6.
    pub inject_v6: Option<OwnedFd>,
}

/// Makes sockets in the sandbox's network namespace; the sandbox's PID 1 does it. Clones share the one way to it.
#[derive(Debug, Clone)]
pub struct SocketFactory {
    requests: Arc<Mutex<UnixStream>>,
}

impl SocketFactory {
    pub(super) fn new(requests: UnixStream) -> Self {
        Self { requests: Arc::new(Mutex::new(requests)) }
    }

    /// A new socket inside, close-on-exec, of a domain, type and protocol as `socket(2)` has them. Blocks until PID 1 has answered, some 30 us.
    pub fn socket(&self, domain: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
        let words = [domain, kind, protocol].map(i32::to_ne_bytes);
        // From a request to its answer it is one caller's. One that panicked in between left nothing of use to anybody, and all get errors.
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.write_all(words.as_flattened())?;
        let mut errno = [0_u8; 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(requests.as_fd(), &mut [IoSliceMut::new(&mut errno)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        let made = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        match (received.bytes, i32::from_ne_bytes(errno), made) {
            (4, 0, Some(socket)) => sys::above_standard(socket),
            (4, errno, None) if errno > 0 => Err(io::Error::from_raw_os_error(errno)),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}
