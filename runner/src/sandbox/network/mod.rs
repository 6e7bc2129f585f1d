//! The way out of a private network, from outside.
//!
//! The sandbox's network namespace leads nowhere. Its `connect`, `bind` and `listen` are answered by a thread of ours, the supervisor: a connection
//! that may leave is made by us in the host's namespace and put in place of the sandbox's socket; datagrams are relayed by raw sockets; published ports
//! are served from outside. `docs/decisions/private-network.md` says what each part stands against.
//!
//! Nothing here knows how the namespace is made, or what the sandbox runs.

mod answers;
mod caller;
mod calls;
mod datagrams;
mod destination;
mod names;
mod options;
mod packet;
mod peer;
mod places;
mod publish;
mod rules;
mod servers;
mod supervise;
mod wanted;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

use super::{Outbound, SocketFactory, sys};
use calls::Filters;
use datagrams::{Datagrams, RawSockets};
pub use names::{HOST_NAME, HostAddress, HostEntry, hosts, resolv_conf};
pub use rules::{NetworkRules, ParseRuleError, Rule};
pub use servers::NameServers;
use supervise::Shared;
pub use wanted::{LogConnections, NetworkChoice, Networking, PublishedPort};

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
    /// Names that are given addresses.
    pub hosts: Vec<HostEntry>,
    /// Ports that lead inside.
    pub published: Vec<Published>,
    /// Whether every connection is told of.
    pub log: LogConnections,
    /// Who is told. Bounded by its maker: the sandbox's connections wait for a slow reader.
    pub told: mpsc::Sender<Told>,
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

/// What a supervisor tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// A connection.
    Connection(Connection),
    /// A name that a denying rule is about could not be looked up, so that nothing is denied by it yet.
    NotLookedUp {
        /// The name.
        name: String,
    },
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(connection) => connection.fmt(f),
            Self::NotLookedUp { name } => {
                write!(
                    f,
                    "`{name}` cannot be looked up: `--deny-net {name}` denies nothing until it can\nhint: deny its addresses by number"
                )
            }
        }
    }
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
pub struct Supervisor {
    /// Dropped to say that it should end.
    stop: Option<oneshot::Sender<()>>,
    /// Says that it has.
    ended: Receiver<()>,
}

/// Whether this kernel lets us supervise a network. `ENOPROTOOPT`: it does not tell which namespace a socket is of (before Linux 5.14). `EPERM`: it has no
/// Landlock that knows TCP, and lets us attach no filters instead.
pub fn granted() -> io::Result<()> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    calls::namespace(socket.as_fd())?;
    if calls::landlock_knows_tcp() { Ok(()) } else { Filters::find_out().map(drop) }
}

impl Supervisor {
    /// How long its end is waited for. Only a sandbox that meant to holds it up longer, and then its thread ends later.
    const LONGEST_END: Duration = Duration::from_secs(1);

    /// Starts the thread. Errors are those of [`granted`].
    pub fn start(supervision: Supervision) -> io::Result<Self> {
        let kernel = |outbound: &Outbound| Ok::<_, io::Error>((calls::namespace(outbound.raw_v4.as_fd())?, Filters::find_out()?));
        let supervised = supervision.outbound.as_ref().filter(|outbound| outbound.notify.is_some());
        let kernel = supervised.map(kernel).transpose()?;
        let (stop, stopped) = oneshot::channel();
        // One word.
        let (end, ended) = sync_channel(1);
        thread::Builder::new().name("network".into()).spawn(move || {
            sys::block_all_signals();
            run(supervision, kernel, stopped);
            // Nobody may be waiting.
            let _ = end.try_send(());
        })?;
        Ok(Self { stop: Some(stop), ended })
    }

    /// Tells it to end, and does not wait.
    pub fn stop(&mut self) {
        drop(self.stop.take());
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop();
        let _ = self.ended.recv_timeout(Self::LONGEST_END);
    }
}

/// What the thread does.
fn run(supervision: Supervision, kernel: Option<(u64, Filters)>, stopped: oneshot::Receiver<()>) {
    // Without a runtime nothing is served: the sandbox's calls fail, as it has no way out.
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let Supervision { outbound, factory, rules, name_servers, hosts, published, log, told } = supervision;
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, async {
        let factory = Rc::new(RefCell::new(factory));
        for port in published {
            tokio::task::spawn_local(publish::serve(port, Rc::clone(&factory)));
        }
        let served = async {
            let Some(outbound) = outbound else { return std::future::pending().await };
            let (raw, notify) = RawSockets::new(outbound)?;
            let (Some(notify), Some((namespace, filters))) = (notify, kernel) else { return raw.refuse(&name_servers).await };
            let shared = Rc::new(Shared::new((notify, namespace, filters), (rules, name_servers, &hosts), factory, (log, told)));
            tokio::task::spawn_local(supervise::look_up_names(Rc::clone(&shared)));
            tokio::task::spawn_local(Datagrams::new(Rc::clone(&shared), raw).serve());
            supervise::serve(shared).await
        };
        tokio::select! {
            _ = served => {}
            _ = stopped => {}
        }
    });
    drop(tasks);
    // A name that is being looked up is not waited for.
    runtime.shutdown_background();
}
