//! Connections to what listens inside the sandbox, on its own loopback: who wants one asks the environment's task, which alone can have a socket made there.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};

use super::running::Running;
use super::telemetry::Connect;
use crate::sandbox::Network;

/// Who waits for a socket. Bounded: there are at most ten extensions, and each connects one connection at a time.
const WAITING: usize = 16;

type Wish = oneshot::Sender<io::Result<OwnedFd>>;

/// The wishes for sockets of the sandbox's network.
#[derive(Debug)]
pub(super) struct Wires {
    wish: mpsc::Sender<Wish>,
    wishes: mpsc::Receiver<Wish>,
    /// The one that comes next.
    next: Option<Wish>,
}

impl Default for Wires {
    fn default() -> Self {
        let (wish, wishes) = mpsc::channel(WAITING);
        Self { wish, wishes, next: None }
    }
}

impl Wires {
    /// How to connect to a port inside: on the host's network that is this machine's loopback.
    pub(super) fn connect(&self, network: Network) -> Connect {
        if network == Network::Host {
            return Arc::new(|port| Box::pin(TcpStream::connect((Ipv4Addr::LOCALHOST, port))));
        }
        let wish = self.wish.clone();
        Arc::new(move |port| Box::pin(connect(wish.clone(), port)))
    }

    /// Waits until somebody wants a socket. May be dropped and called anew at any time.
    pub(super) async fn wanted(&mut self) {
        if self.next.is_none() {
            // A sender is held here: it never ends.
            self.next = self.wishes.recv().await;
        }
    }

    /// Gives whoever comes next a socket made inside.
    pub(super) fn give(&mut self, running: Option<&mut Running>) {
        let Some(wish) = self.next.take() else { return };
        let made = running.map_or(Err(io::ErrorKind::NotConnected.into()), Running::socket);
        // Who does not wait any more does without.
        let _ = wish.send(made);
    }
}

async fn connect(wish: mpsc::Sender<Wish>, port: u16) -> io::Result<TcpStream> {
    let (give, given) = oneshot::channel();
    let gone = || io::Error::from(io::ErrorKind::NotConnected);
    wish.send(give).await.map_err(|_| gone())?;
    let socket = given.await.map_err(|_| gone())??;
    let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(socket));
    socket.connect(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)).await
}
