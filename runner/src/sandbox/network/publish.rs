//! Ports of the host's that lead to ports inside.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::net::{SendFlags, send};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::Published;
use crate::sandbox::SocketFactory;
use crate::sandbox::sys as kernel;

/// How many connections lead in at a time, for each port; others wait to be accepted.
const MOST_CONNECTIONS: usize = 256;
/// How many peers of a UDP port are known at a time.
const MOST_PEERS: usize = 256;
/// How long a peer may be quiet.
const QUIET: Duration = Duration::from_secs(60);
/// How long to leave a listener alone that has just failed, for want of descriptors mostly.
const BREATH: Duration = Duration::from_millis(100);

/// Makes sockets inside.
pub(super) type Factory = Rc<RefCell<SocketFactory>>;

/// Serves a port until it is dropped.
pub(super) async fn serve(published: Published, factory: Factory) -> io::Result<()> {
    match published {
        Published::Tcp { listener, inside } => {
            listener.set_nonblocking(true)?;
            serve_tcp(TcpListener::from_std(listener)?, inside, factory).await
        }
        Published::Udp { socket, inside } => {
            socket.set_nonblocking(true)?;
            serve_udp(Rc::new(UdpSocket::from_std(socket)?), inside, factory).await
        }
    }
}

async fn serve_tcp(listener: TcpListener, inside: u16, factory: Factory) -> io::Result<()> {
    let places = Rc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let place = Rc::clone(&places);
        let Ok(accepted) = listener.accept().await else {
            sleep(BREATH).await;
            continue;
        };
        let factory = Rc::clone(&factory);
        tokio::task::spawn_local(async move {
            let Ok(_place) = place.acquire().await else { return };
            // Nobody listens inside, or one side went away: the other sees its connection closed.
            let _ = lead_in(accepted.0, inside, &factory).await;
        });
    }
}

async fn lead_in(mut outer: TcpStream, inside: u16, factory: &Factory) -> io::Result<()> {
    let socket = std::net::TcpStream::from(connect(inside, libc::SOCK_STREAM, factory)?);
    let mut inner = TcpStream::from_std(socket)?;
    // Writable once it stands, or with an error.
    inner.writable().await?;
    if let Some(error) = inner.take_error()? {
        return Err(error);
    }
    copy_bidirectional(&mut outer, &mut inner).await?;
    Ok(())
}

/// A socket inside that is connecting to a port of the sandbox's 127.0.0.1.
fn connect(inside: u16, kind: i32, factory: &Factory) -> io::Result<OwnedFd> {
    let socket = factory.borrow_mut().socket(libc::AF_INET, kind | libc::SOCK_NONBLOCK, 0)?;
    let address = super::destination::bytes_for(SocketAddr::from((Ipv4Addr::LOCALHOST, inside)), libc::AF_INET).unwrap_or_default();
    match kernel::connect(socket.as_fd(), &address) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// Each peer outside has a socket of its own inside, by whose address the sandbox tells them apart.
async fn serve_udp(outer: Rc<UdpSocket>, inside: u16, factory: Factory) -> io::Result<()> {
    let mut peers: HashMap<SocketAddr, (Rc<UdpSocket>, AbortHandle)> = HashMap::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        // An error is about some datagram that did not arrive.
        let Ok((length, peer)) = outer.recv_from(&mut buffer).await else { continue };
        if peers.get(&peer).is_none_or(|(_, task)| task.is_finished()) {
            peers.retain(|_, (_, task)| !task.is_finished());
            if peers.len() >= MOST_PEERS {
                continue;
            }
            let Ok(inner) = connect(inside, libc::SOCK_DGRAM, &factory).map(std::net::UdpSocket::from).and_then(UdpSocket::from_std) else {
                continue;
            };
            let inner = Rc::new(inner);
            let task = tokio::task::spawn_local(lead_out(Rc::clone(&inner), Rc::clone(&outer), peer));
            peers.insert(peer, (inner, task.abort_handle()));
        }
        if let (Some((inner, _)), Some(payload)) = (peers.get(&peer), buffer.get(..length)) {
            // A datagram that cannot be sent is lost, as they may be.
            let _ = send(inner, payload, SendFlags::DONTWAIT);
        }
    }
}

async fn lead_out(inner: Rc<UdpSocket>, outer: Rc<UdpSocket>, peer: SocketAddr) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(received) = timeout(QUIET, inner.recv(&mut buffer)).await {
        if let Some(payload) = received.ok().and_then(|length| buffer.get(..length)) {
            let _ = outer.send_to(payload, peer).await;
        }
    }
}
