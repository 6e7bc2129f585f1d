//! How a sandbox is to be connected, as it was asked for.

use std::net::SocketAddr;

use super::{HostEntry, NameServers, NetworkRules, Protocol};
use crate::sandbox::Network;

/// How a sandbox is connected.
#[derive(Debug, Clone)]
pub struct Networking {
    /// The network inside.
    pub network: Network,
    /// Who chose it.
    pub choice: NetworkChoice,
    /// What a private network may reach.
    pub rules: NetworkRules,
    /// The host's name servers.
    pub name_servers: NameServers,
    /// What stands in place of the host's resolv.conf(5), if anything does; the name servers are its.
    pub resolver: Option<String>,
    /// Names that are given addresses; they win over name servers.
    pub hosts: Vec<HostEntry>,
    /// Ports that lead inside.
    pub published: Vec<PublishedPort>,
    /// Whether each connection that is wanted is told of.
    pub log: LogConnections,
}

impl Networking {
    /// A network with nothing special about it.
    pub fn plain(network: Network) -> Self {
        let (rules, name_servers) = (NetworkRules::default(), NameServers::default());
        Self {
            network,
            choice: NetworkChoice::Named,
            rules,
            name_servers,
            resolver: None,
            hosts: Vec::new(),
            published: Vec::new(),
            log: LogConnections::No,
        }
    }
}

/// Who chose a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkChoice {
    /// Nobody: another may do where it cannot be had.
    Default,
    /// It was asked for by name.
    Named,
}

/// Whether each connection that is wanted is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogConnections {
    /// One line each (`--log-net`).
    Yes,
    /// No.
    No,
}

/// A port of the host's that leads to one inside (`-p`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedPort {
    /// Where the host listens; port 0 is any that is free.
    pub outside: SocketAddr,
    /// The port inside.
    pub inside: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}
