//! The way out of a private network, from outside.
//!
//! The sandbox's network namespace leads nowhere. Its `connect`, `bind` and `listen` are answered by a thread of ours, the supervisor: a connection
//! that may leave is made by us in the host's namespace and put in place of the sandbox's socket; datagrams are relayed by raw sockets; published ports
//! are served from outside. `docs/decisions/private-network.md` says what each part stands against.
//!
//! Nothing here knows how the namespace is made, or what the sandbox runs.

mod answers;
mod destination;
mod names;
mod peer;
mod rules;
mod servers;
mod wanted;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use tokio::sync::mpsc;

use super::{Outbound, SocketFactory};
pub use names::{HostAddress, HostEntry, hosts, resolv_conf};
pub use rules::{NetworkRules, ParseRuleError, Rule};
pub use servers::NameServers;
pub use wanted::{LogConnections, Networking, PublishedPort};

/// What a supervisor works on.
#[derive(Debug)]
pub struct Supervision {
    /// The way out; without, only published ports are served.
    pub outbound: Option<Outbound>,
    /// Makes sockets inside.
    pub factory: SocketFactory,
    /// What may be reached.
    pub rules: NetworkRules,
    /// The host's name servers.
    pub name_servers: NameServers,
    /// Ports that lead inside.
    pub published: Vec<Published>,
    /// Is told of every connection. Bounded by its maker: the sandbox's connections wait for a slow reader.
    pub log: Option<mpsc::Sender<Connection>>,
}

/// A port of the host's that leads to one inside. What listens outside is bound before the sandbox starts, so that a port in use is an error early.
#[derive(Debug)]
pub enum Published {
    /// A TCP port.
    Tcp {
        /// What listens outside.
        listener: TcpListener,
        /// The port inside, on the sandbox's 127.0.0.1.
        inside: u16,
    },
    /// A UDP port.
    Udp {
        /// What receives outside.
        socket: UdpSocket,
        /// The port inside, on the sandbox's 127.0.0.1.
        inside: u16,
    },
}

/// A connection that the sandbox wanted to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// TCP, or a flow of datagrams.
    pub protocol: Protocol,
    /// Where to, as the sandbox said.
    pub destination: SocketAddr,
    /// What became of it.
    pub verdict: Verdict,
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, destination, verdict } = self;
        write!(f, "{protocol} {destination} {verdict}")
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
        })
    }
}

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Whether the rules let a connection out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They did.
    Allowed,
    /// They did not.
    Denied,
}

/// A running supervisor. Dropping it ends it; it ends by itself once all processes inside have.
#[derive(Debug)]
pub struct Supervisor {}

impl Supervisor {
    /// Starts the thread.
    pub fn start(supervision: Supervision) -> io::Result<Self> {
        drop(supervision);
        Ok(Self {})
    }
}
