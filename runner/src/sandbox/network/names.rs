//! `/etc/hosts` and `/etc/resolv.conf` of a sandbox: pure, from the host's own and what was asked for.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

use super::NameServers;
use crate::sandbox::{HOST_GATEWAY, Network, SANDBOX_V4};

/// The name that containers call their host by.
pub const HOST_NAME: &str = "host.docker.internal";

/// A name for `/etc/hosts` (`--add-host`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEntry {
    /// The name.
    pub name: String,
    /// Its address.
    pub address: HostAddress,
}

/// The address of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostAddress {
    /// The host itself, however the network inside reaches it (`host-gateway`).
    Gateway,
    /// This one.
    Ip(IpAddr),
}

/// The sandbox's `/etc/hosts`, or `None` where the host's own will do.
pub fn hosts(network: Network, added: &[HostEntry], own_name: &str, of_host: &str) -> Option<String> {
    let gateway = match network {
        Network::Host if added.is_empty() => return None,
        Network::Host | Network::None => Ipv4Addr::LOCALHOST,
        Network::Private { .. } => HOST_GATEWAY,
    };
    let mut text = match network {
        Network::Host => of_host.to_owned(),
        Network::None | Network::Private { .. } => "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned(),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for HostEntry { name, address } in added {
        let address = match address {
            HostAddress::Gateway => gateway.into(),
            HostAddress::Ip(address) => *address,
        };
        let _ = writeln!(text, "{address}\t{name}");
    }
    if let Network::Private { .. } = network {
        // After what was asked for, which a resolver finds first.
        let _ = writeln!(text, "{HOST_GATEWAY}\t{HOST_NAME}\n{SANDBOX_V4}\t{own_name}");
    }
    Some(text)
}

/// The sandbox's `/etc/resolv.conf`, or `None` where the host's own will do: name servers on the host's loopback have other addresses inside.
pub fn resolv_conf(network: Network, servers: &NameServers, of_host: &str) -> Option<String> {
    let Network::Private { .. } = network else { return None };
    let is_server = |line: &&str| line.split_whitespace().next() == Some("nameserver");
    let named: Vec<String> = servers.inside().map(|server| format!("nameserver {server}")).collect();
    let of_host_named: Vec<&str> = of_host.lines().filter(is_server).map(str::trim).collect();
    if named == of_host_named {
        return None;
    }
    let rest = of_host.lines().filter(|line| !is_server(line)).map(str::to_owned);
    Some(rest.chain(named).map(|line| line + "\n").collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIVATE: Network = Network::Private { ipv6: false, needs_way_out: false };

    #[test]
    fn hosts_of_each_network() {
        let entry = |name: &str, address| HostEntry { name: name.into(), address };
        let added = [entry("db", HostAddress::Ip("10.0.0.9".parse().unwrap())), entry("me", HostAddress::Gateway)];
        assert_eq!(hosts(Network::Host, &[], "lambda", "x"), None);
        assert_eq!(hosts(Network::Host, &added, "lambda", "1.1.1.1 x").unwrap(), "1.1.1.1 x\n10.0.0.9\tdb\n127.0.0.1\tme\n");
        let private = hosts(PRIVATE, &added, "lambda", "1.1.1.1 x").unwrap();
        assert!(
            private.ends_with("10.0.0.9\tdb\n198.18.111.1\tme\n198.18.111.1\thost.docker.internal\n198.18.111.2\tlambda\n"),
            "{private}"
        );
        assert!(!hosts(Network::None, &[], "lambda", "").unwrap().contains("host.docker"));
    }

    #[test]
    fn only_name_servers_of_the_loopback_are_renamed() {
        let of_host = "search a.b\nnameserver 1.1.1.1\noptions edns0\n";
        assert_eq!(resolv_conf(PRIVATE, &NameServers::parse(of_host), of_host), None);
        let stub = "# stub\nnameserver 127.0.0.53\noptions edns0\n";
        let servers = NameServers::parse(stub);
        assert_eq!(resolv_conf(PRIVATE, &servers, stub).unwrap(), "# stub\noptions edns0\nnameserver 198.18.111.53\n");
        assert_eq!(resolv_conf(Network::Host, &servers, stub), None);
        assert_eq!(resolv_conf(PRIVATE, &NameServers::parse(""), "").unwrap(), "nameserver 198.18.111.53\n");
    }
}
