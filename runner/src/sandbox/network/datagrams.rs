//! Datagrams that leave the sandbox, and answers to them.
//!
//! Its sockets never leave its namespace, so that no datagram of its own can reach the host. Raw sockets there see all that are sent, and
//! a socket of ours for each flow sends them on, connected so that only the one who was asked can answer. Answers are put into the sandbox's namespace as packets
//! from the address that was asked.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, setsockopt, sockopt};
use rustix::net::{RecvFlags, SendFlags, recv, send, sendto};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::destination::Destination;
use super::packet::{self, Datagram, Unreachable};
use super::supervise::Shared;
use super::{Connection, NameServers, Protocol, Verdict, answers, peer};
use crate::sandbox::Outbound;
use crate::sandbox::sys as kernel;

/// How many flows there are at a time; the one that has been quiet longest goes first.
const MOST_FLOWS: usize = 256;
/// How many datagrams wait for names to be looked up.
const MOST_HELD: usize = 64;
/// How long a flow may be quiet.
const QUIET: Duration = Duration::from_secs(60);
/// How long a question to a name server waits for its answer.
const QUIET_NAMES: Duration = Duration::from_secs(10);
/// How many datagrams are taken in a row before others have their turn.
const IN_A_ROW: usize = 64;
/// More than the largest packet.
const BUFFER: usize = 1 << 16;

/// From whom to whom, as the sandbox sees them.
type Key = (SocketAddr, SocketAddr);

/// The raw sockets inside.
#[derive(Debug)]
pub(super) struct RawSockets {
    v4: AsyncFd<OwnedFd>,
    v6: Option<AsyncFd<OwnedFd>>,
    inject_v4: OwnedFd,
    inject_v6: Option<OwnedFd>,
}

impl RawSockets {
    /// Takes them from what the sandbox handed out; its notification descriptor comes back. Must run within a tokio runtime.
    pub(super) fn new(outbound: Outbound) -> io::Result<(Self, Option<OwnedFd>)> {
        let Outbound { notify, raw_v4, raw_v6, inject_v4, inject_v6 } = outbound;
        kernel::attach_filter(raw_v4.as_fd(), &peer::datagrams_v4())?;
        let v6 = raw_v6.map(|raw| {
            kernel::attach_filter(raw.as_fd(), &peer::datagrams_v6())?;
            setsockopt(&raw, sockopt::Ipv6RecvPacketInfo, &true)?;
            kernel::watch(raw, Interest::READABLE)
        });
        Ok((Self { v4: kernel::watch(raw_v4, Interest::READABLE)?, v6: v6.transpose()?, inject_v4, inject_v6 }, notify))
    }

    /// Says of all datagrams for elsewhere that nobody is there, until the sockets fail: nobody else would, and who waits for an answer would wait in vain.
    pub(super) async fn refuse(self, servers: &NameServers) -> io::Result<()> {
        let refuse = async |datagram: Datagram<'_>| {
            if !matches!(Destination::of(datagram.destination, servers), Destination::Inside) {
                self.inject(datagram.source, packet::unreachable(datagram.source, datagram.destination, Unreachable::Port));
            }
        };
        self.take(&refuse).await
    }

    /// Takes datagrams until the sockets fail.
    async fn take(&self, with: &impl AsyncFn(Datagram<'_>)) -> io::Result<()> {
        let v6 = async {
            match &self.v6 {
                Some(raw) => take(raw, receive_v6, with).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = take(&self.v4, receive_v4, with) => ended,
            ended = v6 => ended,
        }
    }

    /// Puts a packet into the sandbox's namespace. One that finds no room is lost, as they may be.
    fn inject(&self, destination: SocketAddr, packet: Option<Vec<u8>>) {
        let Some(packet) = packet else { return };
        let _ = match (destination.ip(), &self.inject_v6) {
            (IpAddr::V4(ip), _) => sendto(&self.inject_v4, &packet, SendFlags::DONTWAIT, &SocketAddr::from((ip, 0))),
            (IpAddr::V6(ip), Some(inject)) => sendto(inject, &packet, SendFlags::DONTWAIT, &SocketAddr::V6(SocketAddrV6::new(ip, 0, 0, 0))),
            (IpAddr::V6(_), None) => return,
        };
    }
}

async fn take(raw: &AsyncFd<OwnedFd>, receive: Receive, with: &impl AsyncFn(Datagram<'_>)) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let mut guard = raw.readable().await?;
        for _ in 0..IN_A_ROW {
            match receive(raw.get_ref(), &mut buffer) {
                Ok(Some(datagram)) => with(datagram).await,
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    guard.clear_ready();
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        tokio::task::yield_now().await;
    }
}

/// One flow.
#[derive(Debug)]
struct Flow {
    /// None if it is forbidden.
    socket: Option<UdpSocket>,
    used: Cell<Instant>,
}

/// The relay.
pub(super) struct Datagrams {
    shared: Rc<Shared>,
    raw: RawSockets,
    flows: RefCell<HashMap<Key, (Rc<Flow>, AbortHandle)>>,
    /// Places for datagrams that wait.
    held: Arc<Semaphore>,
}

impl Datagrams {
    pub(super) fn new(shared: Rc<Shared>, raw: RawSockets) -> Rc<Self> {
        Rc::new(Self { shared, raw, flows: RefCell::default(), held: Arc::new(Semaphore::new(MOST_HELD)) })
    }

    /// Relays until the sockets fail.
    pub(super) async fn serve(self: Rc<Self>) -> io::Result<()> {
        self.raw.take(&async |datagram: Datagram<'_>| self.send_on(&datagram).await).await
    }

    async fn send_on(self: &Rc<Self>, datagram: &Datagram<'_>) {
        let key = (datagram.source, datagram.destination);
        let known = self.flows.borrow().get(&key).map(|(flow, _)| Rc::clone(flow));
        let flow = match known {
            Some(flow) => flow,
            None => match Destination::of(datagram.destination, &self.shared.servers) {
                Destination::Outside(target) if !self.shared.names_are_known() => return self.hold(datagram, target),
                Destination::Outside(target) => self.open(key, target).await,
                // The raw sockets see what the sandbox sends to itself before they have their filters.
                Destination::Inside | Destination::Nowhere => return,
            },
        };
        self.send_along(&flow, key, datagram.payload);
    }

    fn send_along(&self, flow: &Flow, key: Key, payload: &[u8]) {
        flow.used.set(Instant::now());
        match &flow.socket {
            // A datagram that cannot be sent is lost, as they may be. Not through tokio, which does not know yet that a fresh socket is writable.
            Some(socket) => drop(send(socket, payload, SendFlags::DONTWAIT)),
            None => self.raw.inject(key.0, packet::unreachable(key.0, key.1, Unreachable::Forbidden)),
        }
    }

    /// Sends a datagram on once the names that rules are about are known. One too many is lost, as they may be.
    fn hold(self: &Rc<Self>, datagram: &Datagram<'_>, target: SocketAddr) {
        let Ok(place) = Arc::clone(&self.held).try_acquire_owned() else { return };
        let (this, payload) = (Rc::clone(self), datagram.payload.to_vec());
        let key = (datagram.source, datagram.destination);
        tokio::task::spawn_local(async move {
            this.shared.until_names_are_known().await;
            drop(place);
            let known = this.flows.borrow().get(&key).map(|(flow, _)| Rc::clone(flow));
            let flow = match known {
                Some(flow) => flow,
                None => this.open(key, target).await,
            };
            this.send_along(&flow, key, &payload);
        });
    }

    /// Begins a flow. One that is forbidden, or that this machine has no way for, is remembered so that it is told of once.
    async fn open(self: &Rc<Self>, key: Key, target: SocketAddr) -> Rc<Flow> {
        let verdict = self.shared.verdict(key.1);
        self.shared.tell(Some(Connection { protocol: Protocol::Udp, destination: key.1, verdict })).await;
        let socket = if verdict == Verdict::Allowed { connected(target).ok() } else { None };
        let flow = Rc::new(Flow { socket, used: Cell::new(Instant::now()) });
        let answers = tokio::task::spawn_local(Rc::clone(self).answer(key, Rc::clone(&flow)));
        let mut flows = self.flows.borrow_mut();
        if flows.len() >= MOST_FLOWS
            && let Some(quietest) = flows.iter().min_by_key(|(_, (flow, _))| flow.used.get()).map(|(key, _)| *key)
            && let Some((_, task)) = flows.remove(&quietest)
        {
            task.abort();
        }
        flows.insert(key, (Rc::clone(&flow), answers.abort_handle()));
        flow
    }

    /// Takes the answers of a flow until it has been quiet for long.
    async fn answer(self: Rc<Self>, key: Key, flow: Rc<Flow>) {
        let quiet = if key.1.port() == 53 { QUIET_NAMES } else { QUIET };
        let mut buffer = vec![0; if flow.socket.is_some() { BUFFER } else { 0 }];
        loop {
            let received = tokio::select! {
                received = receive(flow.socket.as_ref(), &mut buffer) => received,
                () = sleep_until(flow.used.get() + quiet) => {
                    if flow.used.get().elapsed() >= quiet {
                        break;
                    }
                    continue;
                }
            };
            flow.used.set(Instant::now());
            match received {
                Ok(length) => {
                    let payload = buffer.get(..length).unwrap_or_default();
                    self.learn(key.1, payload);
                    self.raw.inject(key.0, packet::datagram(key.1, key.0, payload));
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    self.raw.inject(key.0, packet::unreachable(key.0, key.1, Unreachable::Port));
                }
                // Some other message of the network's, about a datagram that is lost.
                Err(_) => {}
            }
        }
        self.flows.borrow_mut().remove(&key);
    }

    /// Names that rules are about, from answers of the host's own name servers: another could say anything.
    fn learn(&self, server: SocketAddr, message: &[u8]) {
        if !self.shared.servers.answer_at(server) {
            return;
        }
        if let Some((name, addresses)) = answers::addresses(message).filter(|(name, _)| self.shared.rules.are_about(name)) {
            addresses.into_iter().for_each(|address| self.shared.names.borrow_mut().learn(&name, address));
        }
    }
}

/// Waits for a datagram; for ever without a socket.
async fn receive(socket: Option<&UdpSocket>, buffer: &mut [u8]) -> io::Result<usize> {
    match socket {
        Some(socket) => socket.recv(buffer).await,
        None => std::future::pending().await,
    }
}

/// A socket in our own namespace that speaks with one peer. It never broadcasts: that takes an option (socket(7): `SO_BROADCAST`).
fn connected(target: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// Receives without waiting; `None`: something else than a datagram.
type Receive = for<'a> fn(&OwnedFd, &'a mut [u8]) -> io::Result<Option<Datagram<'a>>>;

fn receive_v4<'a>(raw: &OwnedFd, buffer: &'a mut [u8]) -> io::Result<Option<Datagram<'a>>> {
    let (length, _) = recv(raw, &mut *buffer, RecvFlags::DONTWAIT)?;
    Ok(buffer.get(..length).and_then(packet::parse_v4))
}

/// A raw socket of IPv6 has no header before the datagram; it tells where from as anyone's address and where to by `IPV6_PKTINFO` (ipv6(7)).
fn receive_v6<'a>(raw: &OwnedFd, buffer: &'a mut [u8]) -> io::Result<Option<Datagram<'a>>> {
    let mut control = nix::cmsg_space!(libc::in6_pktinfo);
    let (length, source, destination) = {
        let mut vector = [IoSliceMut::new(&mut *buffer)];
        let message = recvmsg::<SockaddrIn6>(raw.as_raw_fd(), &mut vector, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
        let destination = message.cmsgs()?.find_map(|part| match part {
            ControlMessageOwned::Ipv6PacketInfo(info) => Some(Ipv6Addr::from(info.ipi6_addr.s6_addr)),
            _ => None,
        });
        (message.bytes, message.address.map(|address| address.ip()), destination)
    };
    let (Some(source), Some(destination)) = (source, destination) else { return Ok(None) };
    Ok(buffer.get(..length).and_then(|datagram| packet::parse_udp(datagram, source.into(), destination.into())))
}
