//! The network options of `undocked run`: `--network`, `-p` and `--add-host` as docker reads them, and rules for what may be reached.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::sandbox::Network;
use crate::sandbox::network::{
    HostAddress, HostEntry, LogConnections, NameServers, NetworkChoice, NetworkRules, Networking, ParseRuleError, Protocol, PublishedPort,
    Rule,
};

/// The network options as given.
#[derive(Debug, Default)]
pub struct NetworkOptions<'a> {
    /// `--network`.
    pub network: Option<&'a str>,
    /// `-p`.
    pub publish: &'a [String],
    /// `--allow-net`.
    pub allow: &'a [String],
    /// `--deny-net`.
    pub deny: &'a [String],
    /// `--add-host`.
    pub add_host: &'a [String],
    /// `--log-net`.
    pub log: bool,
}

/// Why a network option makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A network that docker would have made.
    #[error("there is no network `{network}`")]
    Network {
        /// As given.
        network: String,
    },
    /// A rule.
    #[error("the rule `{rule}`")]
    Rule {
        /// As given.
        rule: String,
        /// What is wrong with it.
        source: ParseRuleError,
    },
    /// A published port.
    #[error("the published port `{port}` is not of the form [[IP:]OUTSIDE:]INSIDE[/tcp|/udp]")]
    Port {
        /// As given.
        port: String,
    },
    /// Ranges of published ports that do not belong together.
    #[error("`{port}` has {outside} ports outside for {inside} inside")]
    Ranges {
        /// As given.
        port: String,
        /// How many of this machine's.
        outside: usize,
        /// How many of the sandbox's.
        inside: usize,
    },
    /// Each port is a socket.
    #[error("{count} ports are published; at most {MOST_PUBLISHED} can be")]
    TooManyPorts {
        /// How many.
        count: usize,
    },
    /// A name for `/etc/hosts`.
    #[error("`--add-host {entry}` is not of the form NAME:IP or NAME:host-gateway")]
    Host {
        /// As given.
        entry: String,
    },
    /// Rules that nothing would hold.
    #[error("rules for connections need a private network, not `{network}`")]
    RulesWithout {
        /// The network.
        network: String,
    },
}

impl NetworkError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Network { .. } => "`--network private` (the default), `none` or `host`".to_owned(),
            Self::Rule { .. } => {
                "HOST or HOST:PORT, where HOST is a name, `*.example.com`, an address or a network like 10.0.0.0/8".to_owned()
            }
            Self::Port { .. } => {
                "ports or ranges of them, such as `-p 8080:8080`, `-p 127.0.0.1:5300:53/udp` or `-p 3000-3002:8000-8002`".to_owned()
            }
            Self::Ranges { .. } => "as many on each side, such as `-p 3000-3002:8000-8002`; or leave the ones outside out".to_owned(),
            Self::TooManyPorts { .. } | Self::Host { .. } => return None,
            Self::RulesWithout { .. } => "leave `--network` out".to_owned(),
        })
    }
}

/// How the sandbox is connected.
pub fn networking(options: &NetworkOptions<'_>) -> Result<Networking, NetworkError> {
    let mut network = match options.network {
        // What docker's default network is to a container.
        None | Some("private" | "bridge" | "default") => Network::private(),
        Some("none") => Network::None,
        Some("host") => Network::Host,
        Some(other) => return Err(NetworkError::Network { network: other.to_owned() }),
    };
    let has_rules = !options.allow.is_empty() || !options.deny.is_empty();
    if has_rules && !matches!(network, Network::Private { .. }) {
        return Err(NetworkError::RulesWithout { network: options.network.unwrap_or_default().to_owned() });
    }
    let rules = |given: &[String]| given.iter().map(|rule| self::rule(rule)).collect::<Result<Vec<_>, _>>();
    let rules = NetworkRules::new(rules(options.allow)?, rules(options.deny)?);
    let published = options.publish.iter().map(|ports| published(ports)).collect::<Result<Vec<_>, _>>()?.concat();
    if published.len() > MOST_PUBLISHED {
        return Err(NetworkError::TooManyPorts { count: published.len() });
    }
    // Rules and ports say that the network matters.
    if let Network::Private { needs_way_out, .. } = &mut network {
        *needs_way_out = ![options.allow, options.deny, options.publish].iter().all(|given| given.is_empty());
    }
    let log = if options.log { LogConnections::Yes } else { LogConnections::No };
    let hosts = options.add_host.iter().map(|entry| host_entry(entry)).collect::<Result<_, _>>()?;
    // Without the file a resolver asks this host (resolv.conf(5)).
    let name_servers = NameServers::parse(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    let choice = if options.network.is_some() { NetworkChoice::Named } else { NetworkChoice::Default };
    Ok(Networking { network, choice, rules, name_servers, resolver: None, hosts, published, log })
}

fn rule(text: &str) -> Result<Rule, NetworkError> {
    text.parse().map_err(|source| NetworkError::Rule { rule: text.to_owned(), source })
}

/// Published ports as they were asked for. Those that are none have been refused before.
pub fn published_ports(asked: &[String]) -> Vec<PublishedPort> {
    asked.iter().filter_map(|ports| published(ports).ok()).flatten().collect()
}

/// `[[IP:]OUTSIDE:]INSIDE[/PROTOCOL]`, each side a port or a range `FIRST-LAST`; an address of IPv6 is in brackets.
fn published(text: &str) -> Result<Vec<PublishedPort>, NetworkError> {
    let wrong = || NetworkError::Port { port: text.to_owned() };
    let (ports, protocol) = match text.split_once('/') {
        None => (text, Protocol::Tcp),
        Some((ports, "tcp")) => (ports, Protocol::Tcp),
        Some((ports, "udp")) => (ports, Protocol::Udp),
        Some(_) => return Err(wrong()),
    };
    let (outside, inside) = ports.rsplit_once(':').map_or((None, ports), |(outside, inside)| (Some(outside), inside));
    let inside = range(inside).filter(|ports| *ports.start() != 0).ok_or_else(wrong)?;
    let (address, outside) = match outside {
        None => (Ipv6Addr::UNSPECIFIED.into(), None),
        Some(outside) => self::outside(outside).ok_or_else(wrong)?,
    };
    // Any free port for each.
    let Some(outside) = outside.filter(|ports| *ports != (0..=0)) else {
        return Ok(inside.map(|inside| PublishedPort { outside: SocketAddr::new(address, 0), inside, protocol }).collect());
    };
    if outside.len() != inside.len() {
        return Err(NetworkError::Ranges { port: text.to_owned(), outside: outside.len(), inside: inside.len() });
    }
    let pairs = outside.zip(inside);
    Ok(pairs.map(|(outside, inside)| PublishedPort { outside: SocketAddr::new(address, outside), inside, protocol }).collect())
}

/// Far more than anybody needs, and fewer than the descriptors that we may open.
const MOST_PUBLISHED: usize = 512;

/// `[IP:]PORTS`, or `IP:` for any free ones.
fn outside(text: &str) -> Option<(IpAddr, Option<RangeInclusive<u16>>)> {
    let Some((address, numbers)) = text.rsplit_once(':') else {
        // All addresses, of IPv4 too.
        return Some((Ipv6Addr::UNSPECIFIED.into(), Some(range(text)?)));
    };
    let bracketed = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address: IpAddr = match bracketed {
        Some(address) => IpAddr::V6(address.parse().ok()?),
        None => IpAddr::V4(address.parse().ok()?),
    };
    Some((address, if numbers.is_empty() { None } else { Some(range(numbers)?) }))
}

/// `PORT` or `FIRST-LAST`.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    match text.split_once('-') {
        None => port(text).map(|only| only..=only),
        Some((first, last)) => Some(port(first)?..=port(last)?).filter(|ports| !ports.is_empty() && *ports.start() != 0),
    }
}

fn port(text: &str) -> Option<u16> {
    // `parse` would take a sign.
    if text.bytes().all(|byte| byte.is_ascii_digit()) { u16::from_str(text).ok() } else { None }
}

/// `NAME:IP` or `NAME=IP`; an address of IPv6 may be in brackets.
fn host_entry(text: &str) -> Result<HostEntry, NetworkError> {
    let wrong = || NetworkError::Host { entry: text.to_owned() };
    let (name, address) = text.split_once(['=', ':']).ok_or_else(wrong)?;
    // It becomes a line of a file.
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    let address = match address {
        "host-gateway" => HostAddress::Gateway,
        address => {
            let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
            HostAddress::Ip(bare.parse().map_err(|_| wrong())?)
        }
    };
    if is_name { Ok(HostEntry { name: name.to_owned(), address }) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_ports_as_docker_has_them() {
        for (text, outside, inside, protocol) in [
            ("80", "[::]:0", 80, Protocol::Tcp),
            ("8080:80", "[::]:8080", 80, Protocol::Tcp),
            ("127.0.0.1:5300:53/udp", "127.0.0.1:5300", 53, Protocol::Udp),
            ("127.0.0.1::80", "127.0.0.1:0", 80, Protocol::Tcp),
            ("[::1]:8080:80/tcp", "[::1]:8080", 80, Protocol::Tcp),
            ("9001:9001/udp", "[::]:9001", 9001, Protocol::Udp),
        ] {
            let port = PublishedPort { outside: outside.parse().unwrap(), inside, protocol };
            assert_eq!(published(text).unwrap(), [port], "{text}");
        }
        for (text, pairs) in [
            ("3000-3002:8000-8002", &[("[::]:3000", 8000), ("[::]:3001", 8001), ("[::]:3002", 8002)][..]),
            ("127.0.0.1:7-8:7-8/udp", &[("127.0.0.1:7", 7), ("127.0.0.1:8", 8)]),
            ("8000-8001", &[("[::]:0", 8000), ("[::]:0", 8001)]),
            ("[::1]::65534-65535", &[("[::1]:0", 65534), ("[::1]:0", 65535)]),
            ("80-80:81-81", &[("[::]:80", 81)]),
        ] {
            let ports = published(text).unwrap();
            let found: Vec<_> = ports.iter().map(|port| (port.outside.to_string(), port.inside)).collect();
            assert_eq!(found, pairs.iter().map(|(outside, inside)| ((*outside).to_owned(), *inside)).collect::<Vec<_>>(), "{text}");
        }
        for text in ["80-82:80-81", "80-82:80", "80:80-82"] {
            assert!(matches!(published(text), Err(NetworkError::Ranges { .. })), "{text}");
        }
        let many = ["1000-2000:1000-2000".to_owned()];
        let error = networking(&NetworkOptions { publish: &many, ..NetworkOptions::default() }).unwrap_err().to_string();
        assert_eq!(error, "1001 ports are published; at most 512 can be");
        for text in [
            "",
            "0",
            ":80",
            "80:",
            "x:80",
            "80/sctp",
            "1.2.3:80:80",
            "80:80:80:80",
            "+80",
            "70000",
            "8001-8000",
            "80-",
            "-80",
            "0-1",
            "1-2-3",
        ] {
            assert!(matches!(published(text), Err(NetworkError::Port { .. })), "{text}");
        }
    }

    #[test]
    fn hosts_as_docker_has_them() {
        let ip = |text: &str| HostAddress::Ip(text.parse().unwrap());
        for (text, name, address) in [
            ("db:10.0.0.1", "db", ip("10.0.0.1")),
            ("me:host-gateway", "me", HostAddress::Gateway),
            ("six:fd00::1", "six", ip("fd00::1")),
            ("six=[fd00::1]", "six", ip("fd00::1")),
        ] {
            assert_eq!(host_entry(text).unwrap(), HostEntry { name: name.into(), address });
        }
        for text in ["", "db", "db:", "db:x", ":1.2.3.4", "a b:1.2.3.4", "a\nb:1.2.3.4"] {
            assert!(host_entry(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn networks_and_what_goes_with_them() {
        let with = |network| networking(&NetworkOptions { network, ..NetworkOptions::default() }).map(|networking| networking.network);
        assert!(matches!(with(None), Ok(Network::Private { .. })) && matches!(with(Some("bridge")), Ok(Network::Private { .. })));
        assert!(matches!(with(Some("host")), Ok(Network::Host)) && matches!(with(Some("none")), Ok(Network::None)));
        for bad in ["mine", "container:x", ""] {
            assert!(matches!(with(Some(bad)), Err(NetworkError::Network { .. })), "{bad}");
        }
        let rules = ["1.2.3.4".to_owned()];
        let options = NetworkOptions { network: Some("host"), deny: &rules, ..NetworkOptions::default() };
        assert!(matches!(networking(&options), Err(NetworkError::RulesWithout { .. })));
    }
}
