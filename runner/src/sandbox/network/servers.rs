//! The host's name servers, and how the sandbox reaches them: pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::sandbox::addresses::{MAX_NAME_SERVERS, name_server};

/// The name servers of a resolv.conf(5). One on the host's loopback is reached through an address of the sandbox's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameServers(Vec<IpAddr>);

impl NameServers {
    /// Reads the text of a `resolv.conf`. Without a `nameserver` line it means 127.0.0.1.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix("nameserver"));
        // A scope (`fe80::1%eth0`) names a device, which the sandbox does not have.
        let address = |rest: &str| rest.starts_with([' ', '\t']).then(|| rest.split_whitespace().next()?.parse().ok()).flatten();
        let mut servers: Vec<IpAddr> = lines.filter_map(address).take(usize::from(MAX_NAME_SERVERS)).collect();
        if servers.is_empty() {
            servers.push(Ipv4Addr::LOCALHOST.into());
        }
        Self(servers)
    }

    /// Their addresses as the sandbox's own `resolv.conf` should name them, in order.
    pub fn inside(&self) -> impl Iterator<Item = IpAddr> {
        let mut loopback = 0..MAX_NAME_SERVERS;
        self.0.iter().map(move |server| {
            let mut stand_in = || loopback.next().map_or(*server, |index| name_server(index).into());
            if on_loopback(*server) { stand_in() } else { *server }
        })
    }

    /// Whether this is where one of them answers, as the sandbox names it.
    pub(super) fn answer_at(&self, address: SocketAddr) -> bool {
        address.port() == 53 && self.inside().any(|server| server == address.ip().to_canonical())
    }

    /// Where the name server `index` on the host's loopback really is.
    pub(super) fn on_loopback(&self, index: u8) -> Option<SocketAddr> {
        let server = self.0.iter().filter(|server| on_loopback(**server)).nth(usize::from(index))?;
        // resolv.conf(5): 0.0.0.0 and :: are the host itself.
        let server = match server {
            IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            server if server.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
            server => *server,
        };
        Some(SocketAddr::new(server, 53))
    }
}

fn on_loopback(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_servers_get_addresses_of_their_own() {
        let servers =
            NameServers::parse("# x\nnameserver 127.0.0.53\n nameserver\t1.1.1.1 \nnameserver ::1\nnameserver 9.9.9.9\noptions edns0\n");
        assert_eq!(servers.inside().map(|address| address.to_string()).collect::<Vec<_>>(), ["198.18.111.53", "1.1.1.1", "198.18.111.54"]);
        assert_eq!(servers.on_loopback(0), Some("127.0.0.53:53".parse().unwrap()));
        assert_eq!(servers.on_loopback(1), Some("[::1]:53".parse().unwrap()));
        assert_eq!(servers.on_loopback(2), None);
    }

    #[test]
    fn no_server_means_this_host() {
        for text in ["", "nameservers 1.2.3.4", "nameserver fe80::1%eth0", "search example.com"] {
            assert_eq!(NameServers::parse(text).on_loopback(0), Some("127.0.0.1:53".parse().unwrap()), "{text}");
        }
        assert_eq!(NameServers::parse("nameserver 0.0.0.0").on_loopback(0), Some("127.0.0.1:53".parse().unwrap()));
    }
}
