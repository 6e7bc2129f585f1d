//! What connects a sandbox with the world: the Runtime API, and on a private network the way out and published ports.
//!
//! On the host's network the Runtime API is on the host's loopback, where everybody could ask it: each connection is looked up among the sandbox's own
//! sockets before it is answered. On a network of its own it is on the sandbox's loopback, which nobody else has.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::rc::Rc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::EnvironmentError;
use crate::api::{self, Api};
use crate::function::INNER_API_PORT;
use crate::sandbox::network::{Networking, Protocol, Published, PublishedPort, Supervision, Supervisor, Told};
use crate::sandbox::{Network, NetworkDescriptors, Outbound, Sandbox, SocketFactory, SocketHolder};

/// What waits to be said, of connections mostly. Bounded: a sandbox that is ahead of its log waits.
const LOG_AHEAD: usize = 64;

/// A port that cannot be published.
#[derive(Debug, thiserror::Error)]
#[error("cannot publish {outside}")]
pub struct PublishError {
    /// Where the host should have listened.
    pub outside: SocketAddr,
    /// What the kernel said.
    pub source: io::Error,
}

impl PublishError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self.source.kind() {
            io::ErrorKind::PermissionDenied => "ordinary users have ports from 1024 on".to_owned(),
            io::ErrorKind::AddrInUse => "another program has that port; `-p INSIDE` alone takes any that is free".to_owned(),
            _ => "give an address of this machine, or none".to_owned(),
        }
    }
}

/// Where the Runtime API may be on the host's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiPort {
    /// Anywhere: the program is told.
    Any,
    /// Where it is on a private network: the program looks nowhere else.
    BuiltIn,
}

/// What listens on the host already; sandboxes are connected with it as they come.
#[derive(Debug)]
pub struct Connections {
    networking: Rc<Networking>,
    published: Rc<[Published]>,
    api_port: ApiPort,
    told: mpsc::Sender<Told>,
    /// What supervisors tell.
    logged: mpsc::Receiver<Told>,
}

/// What serves one sandbox. Dropping it ends that.
#[derive(Debug, Default)]
pub struct Serving {
    _api: JoinSet<()>,
    supervisor: Option<Supervisor>,
    /// On a network of its own.
    sockets: Option<SocketFactory>,
}

impl Serving {
    /// Tells the supervisor that its end is near, so that nobody has to wait for it then.
    pub(super) fn end(&mut self) {
        if let Some(supervisor) = &mut self.supervisor {
            supervisor.stop();
        }
    }

    /// What makes sockets of the sandbox's own network, if it has one.
    pub(super) fn sockets(&self) -> Option<&SocketFactory> {
        self.sockets.as_ref()
    }
}

impl Connections {
    /// Binds the published ports.
    pub fn open(networking: Rc<Networking>) -> Result<Self, PublishError> {
        let (told, logged) = mpsc::channel(LOG_AHEAD);
        let published = match networking.network {
            Network::Host => Rc::default(),
            Network::None | Network::Private { .. } => networking.published.iter().map(publish).collect::<Result<_, _>>()?,
        };
        Ok(Self { networking, published, api_port: ApiPort::Any, told, logged })
    }

    /// The same for a program that looks for the Runtime API there.
    pub fn with_api_port(self, api_port: ApiPort) -> Self {
        Self { api_port, ..self }
    }

    /// The same for one more environment, on the same published ports.
    pub fn again(&self) -> Self {
        let (told, logged) = mpsc::channel(LOG_AHEAD);
        Self { networking: Rc::clone(&self.networking), published: Rc::clone(&self.published), api_port: self.api_port, told, logged }
    }

    /// The published ports as they are: what the host listens on, and the port inside.
    pub fn published(&self) -> impl Iterator<Item = (SocketAddr, u16)> {
        self.published.iter().filter_map(|published| match published {
            Published::Tcp { listener, inside } => Some((listener.local_addr().ok()?, *inside)),
            Published::Udp { socket, inside } => Some((socket.local_addr().ok()?, *inside)),
        })
    }

    /// What is next to be said to the user; never answers if nothing is.
    pub async fn logged(&mut self) -> Told {
        match self.logged.recv().await {
            Some(told) => told,
            None => std::future::pending().await,
        }
    }

    /// Connects a sandbox that runs no function.
    pub fn serve_plain(&self, sandbox: &mut Sandbox) -> io::Result<Serving> {
        let Some(network) = sandbox.network.take() else { return Ok(Serving::default()) };
        let (outbound, factory) = (network.outbound, network.factory);
        Ok(Serving { supervisor: self.supervisor(outbound, factory)?, ..Serving::default() })
    }

    /// Connects a sandbox whose runtime asks the Runtime API. `outside` is the API's listener on the host's loopback.
    pub(super) fn serve(&self, sandbox: &mut Sandbox, outside: Option<&TcpListener>, api: Api) -> io::Result<Serving> {
        let mut tasks = JoinSet::new();
        let (mut supervisor, mut sockets) = (None, None);
        match (sandbox.network.take(), outside) {
            (Some(NetworkDescriptors { listener: Some(listener), outbound, factory }), _) => {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                tasks.spawn(api::serve(listener, api, |_| true, std::future::pending()));
                sockets = Some(factory.clone());
                supervisor = self.supervisor(outbound, factory)?;
            }
            (None, Some(outside)) => {
                let listener = tokio::net::TcpListener::from_std(outside.try_clone()?)?;
                let (holder, local) = (SocketHolder::of(sandbox), listener.local_addr()?);
                tasks.spawn(api::serve(listener, api, move |peer| holder.holds(peer, local), std::future::pending()));
            }
            _ => return Err(io::Error::other("the sandbox has no network to serve the Runtime API on")),
        }
        Ok(Serving { _api: tasks, supervisor, sockets })
    }

    /// The Runtime API's listener on the host's loopback, for sandboxes on the host's network; and its address inside.
    pub(super) fn outside(&self) -> Result<(Option<TcpListener>, SocketAddr), EnvironmentError> {
        if self.networking.network != Network::Host {
            return Ok((None, SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), INNER_API_PORT)));
        }
        let port = match self.api_port {
            ApiPort::Any => 0,
            ApiPort::BuiltIn => INNER_API_PORT,
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|source| match self.api_port {
            ApiPort::Any => EnvironmentError::Listen { source },
            ApiPort::BuiltIn => EnvironmentError::PortTaken { source },
        })?;
        let listen = |source| EnvironmentError::Listen { source };
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok((Some(listener), address))
    }

    /// A sandbox without a way out or in needs nobody.
    fn supervisor(&self, outbound: Option<Outbound>, factory: SocketFactory) -> io::Result<Option<Supervisor>> {
        if outbound.is_none() && self.published.is_empty() {
            return Ok(None);
        }
        Supervisor::start(self.supervision(outbound, factory)?).map(Some)
    }

    fn supervision(&self, outbound: Option<Outbound>, factory: SocketFactory) -> io::Result<Supervision> {
        let Networking { rules, name_servers, hosts, log, .. } = &*self.networking;
        let published = self.published.iter().map(again).collect::<io::Result<_>>()?;
        Ok(Supervision {
            outbound,
            factory,
            rules: rules.clone(),
            name_servers: name_servers.clone(),
            hosts: hosts.clone(),
            published,
            log: *log,
            told: self.told.clone(),
        })
    }
}

fn publish(port: &PublishedPort) -> Result<Published, PublishError> {
    let PublishedPort { outside, inside, protocol } = *port;
    let bind = |outside: SocketAddr| match protocol {
        Protocol::Tcp => TcpListener::bind(outside).map(|listener| Published::Tcp { listener, inside }),
        Protocol::Udp => UdpSocket::bind(outside).map(|socket| Published::Udp { socket, inside }),
    };
    let bound = bind(outside).or_else(|error| match error.raw_os_error() {
        // All addresses of a machine without IPv6.
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL) if outside.ip().is_unspecified() => {
            bind((Ipv4Addr::UNSPECIFIED, outside.port()).into())
        }
        _ => Err(error),
    });
    bound.map_err(|source| PublishError { outside, source })
}

/// A runtime may be started more than once.
fn again(published: &Published) -> io::Result<Published> {
    Ok(match published {
        Published::Tcp { listener, inside } => Published::Tcp { listener: listener.try_clone()?, inside: *inside },
        Published::Udp { socket, inside } => Published::Udp { socket: socket.try_clone()?, inside: *inside },
    })
}
