//! Where an address of the sandbox's leads: pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::NameServers;
use crate::sandbox::addresses::{FIRST_NAME_SERVER, HOST_GATEWAY, MAX_NAME_SERVERS, SANDBOX_V4, SANDBOX_V6};

/// Where an address leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Destination {
    /// To the sandbox itself.
    Inside,
    /// Out, to this address in the host's namespace. It is never of the host's loopback but for the sandbox's names of it.
    Outside(SocketAddr),
    /// Nowhere.
    Nowhere,
}

impl Destination {
    /// Of an address as the sandbox names it. What means this machine to the kernel is the sandbox: the unspecified addresses too, in all forms.
    pub(super) fn of(address: SocketAddr, servers: &NameServers) -> Self {
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => Self::of_v4(ip, address.port(), servers),
            IpAddr::V6(ip) => Self::of_v6(ip, address.port()),
        }
    }

    fn of_v4(ip: Ipv4Addr, port: u16, servers: &NameServers) -> Self {
        let (own_network, last) = own_network(ip);
        if ip.is_loopback() || ip.is_unspecified() || ip == SANDBOX_V4 {
            Self::Inside
        } else if ip == HOST_GATEWAY {
            Self::Outside(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        } else if own_network {
            let index = last.checked_sub(FIRST_NAME_SERVER.octets()[3]).filter(|index| *index < MAX_NAME_SERVERS && port == 53);
            index.and_then(|index| servers.on_loopback(index)).map_or(Self::Nowhere, Self::Outside)
        } else if ip.is_multicast() || ip.is_broadcast() || ip.octets()[0] == 0 {
            Self::Nowhere
        } else {
            Self::Outside(SocketAddr::from((ip, port)))
        }
    }

    fn of_v6(ip: Ipv6Addr, port: u16) -> Self {
        let own_network = ip.segments()[..3] == SANDBOX_V6.segments()[..3];
        let disguised = embedded(ip).first().copied();
        if ip.is_loopback() || ip.is_unspecified() || ip == SANDBOX_V6 {
            Self::Inside
        } else if own_network
            || ip.is_multicast()
            || ip.is_unicast_link_local()
            || disguised.is_some_and(|embedded| !is_global_unicast(embedded))
        {
            Self::Nowhere
        } else {
            Self::Outside(SocketAddr::from((ip, port)))
        }
    }
}

/// All that an address of the sandbox's may stand for: itself, what is written in it, and what the host's name leads to.
pub(super) fn leads_to(address: IpAddr) -> Vec<IpAddr> {
    let mut all = vec![address];
    match address {
        IpAddr::V4(HOST_GATEWAY) => all.extend([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]),
        IpAddr::V4(_) => {}
        IpAddr::V6(ip) => all.extend(embedded(ip).into_iter().map(IpAddr::V4)),
    }
    all
}

/// Ways to write an IPv4 address that the kernel, or a device of the host's, might take for that one: compatible (RFC 4291, 2.5.5.1), 6to4 (RFC 3056), and
/// translated (RFC 6052, 2.2; RFC 8215). How long the prefix of the last is nobody tells; mostly
/// it leaves the last four bytes, which come first here.
fn embedded(ip: Ipv6Addr) -> Vec<Ipv4Addr> {
    let bytes = ip.octets();
    let of = |places: [usize; 4]| Ipv4Addr::from(places.map(|place| bytes.get(place).copied().unwrap_or_default()));
    let last = of([12, 13, 14, 15]);
    match ip.segments() {
        [0x2002, ..] => vec![of([2, 3, 4, 5])],
        [0x64, 0xff9b, 1, ..] => vec![last, of([6, 7, 9, 10]), of([7, 9, 10, 11]), of([9, 10, 11, 12])],
        [0x64, 0xff9b, ..] | [0, 0, 0, 0, 0, 0, ..] => vec![last],
        _ => Vec::new(),
    }
}

/// Whether an address is of the network that the sandbox's own addresses are in; and its last byte.
fn own_network(ip: Ipv4Addr) -> (bool, u8) {
    let ([a, b, c, last], [x, y, z, _]) = (ip.octets(), SANDBOX_V4.octets());
    ((a, b, c) == (x, y, z), last)
}

/// Whether an IPv4 address that is written as an IPv6 one is some other machine's.
fn is_global_unicast(ip: Ipv4Addr) -> bool {
    !(ip.is_loopback() || ip.is_multicast() || ip.is_broadcast() || ip.is_link_local() || ip.octets()[0] == 0)
}

/// Reads `struct sockaddr_in` or `sockaddr_in6`. `None`: it is neither, or too short for what it says.
pub(super) fn parse(bytes: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = bytes.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    match i32::from(u16::from_ne_bytes(*family)) {
        // The kernel wants the padding too (ip(7)).
        libc::AF_INET if bytes.len() >= size_of::<libc::sockaddr_in>() => {
            Some(SocketAddr::from((Ipv4Addr::from(*rest.first_chunk::<4>()?), port)))
        }
        libc::AF_INET6 => {
            let (_flow, rest) = rest.split_first_chunk::<4>()?;
            Some(SocketAddr::from((Ipv6Addr::from(*rest.first_chunk::<16>()?), port)))
        }
        _ => None,
    }
}

/// The family that the bytes of an address say they are of.
pub(super) fn family(bytes: &[u8]) -> Option<i32> {
    Some(i32::from(u16::from_ne_bytes(*bytes.first_chunk()?)))
}

/// An address as the kernel takes it for a socket of a family: an IPv4 one for an IPv6 socket is mapped. `None` for an IPv6 one and an IPv4 socket.
pub(super) fn bytes_for(address: SocketAddr, family: i32) -> Option<Vec<u8>> {
    let mut bytes = (family as u16).to_ne_bytes().to_vec();
    bytes.extend(address.port().to_be_bytes());
    match (family, address) {
        (libc::AF_INET, SocketAddr::V4(address)) => {
            bytes.extend(address.ip().octets());
            bytes.extend([0; 8]);
        }
        (libc::AF_INET6, _) => {
            let (ip, flow, scope) = match address {
                SocketAddr::V4(address) => (address.ip().to_ipv6_mapped(), 0, 0),
                SocketAddr::V6(address) => (*address.ip(), SocketAddrV6::flowinfo(&address), address.scope_id()),
            };
            bytes.extend(flow.to_be_bytes());
            bytes.extend(ip.octets());
            bytes.extend(scope.to_ne_bytes());
        }
        _ => return None,
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> Destination {
        Destination::of(address.parse().unwrap(), &NameServers::parse("nameserver 127.0.0.53\nnameserver 1.1.1.1"))
    }

    #[test]
    fn every_name_of_this_machine_is_the_sandbox() {
        for address in [
            "127.0.0.1:1",
            "127.255.0.9:1",
            "0.0.0.0:1",
            "[::]:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
            "[::ffff:0.0.0.0]:1",
            "198.18.111.2:1",
        ] {
            assert_eq!(of(address), Destination::Inside, "{address}");
        }
        for address in ["[::ffff:198.18.111.2]:1", "[fd00:6c61:6d62::2]:1"] {
            assert_eq!(of(address), Destination::Inside, "{address}");
        }
    }

    #[test]
    fn the_hosts_loopback_has_its_own_names_and_no_others() {
        let host = |text: &str| Destination::Outside(text.parse().unwrap());
        assert_eq!(of("198.18.111.1:80"), host("127.0.0.1:80"));
        assert_eq!(of("[::ffff:198.18.111.1]:80"), host("127.0.0.1:80"));
        assert_eq!(of("198.18.111.53:53"), host("127.0.0.53:53"));
        for nowhere in
            ["198.18.111.53:54", "198.18.111.54:53", "198.18.111.52:53", "198.18.111.3:1", "[fd00:6c61:6d62::1]:1", "[::127.0.0.1]:1"]
        {
            assert_eq!(of(nowhere), Destination::Nowhere, "{nowhere}");
        }
        for nowhere in ["[2002:7f00:1::]:1", "[64:ff9b::127.0.0.1]:1", "[64:ff9b:1::7f00:1]:1", "[64:ff9b::169.254.169.254]:1", "[::2]:1"] {
            assert_eq!(of(nowhere), Destination::Nowhere, "{nowhere}");
        }
    }

    #[test]
    fn others_are_outside_unless_they_are_many_or_on_the_link() {
        for address in ["1.2.3.4:5", "10.0.0.1:5", "[2001:db8::1]:5", "[fd00::1]:5", "[64:ff9b::1.2.3.4]:5", "169.254.169.254:80"] {
            assert_eq!(of(address), Destination::Outside(address.parse().unwrap()), "{address}");
        }
        assert_eq!(of("[::ffff:1.2.3.4]:5"), Destination::Outside("1.2.3.4:5".parse().unwrap()));
        for address in ["224.0.0.1:5", "255.255.255.255:5", "0.1.2.3:5", "[ff02::1]:5", "[fe80::1]:5"] {
            assert_eq!(of(address), Destination::Nowhere, "{address}");
        }
    }

    #[test]
    fn addresses_go_to_bytes_and_back() {
        for (text, family) in [("1.2.3.4:5", libc::AF_INET), ("[2001:db8::1]:65535", libc::AF_INET6)] {
            let address = text.parse().unwrap();
            let bytes = bytes_for(address, family).unwrap();
            assert_eq!(parse(&bytes), Some(address));
            assert_eq!(parse(&bytes[..15]), None);
        }
        let mapped = bytes_for("1.2.3.4:5".parse().unwrap(), libc::AF_INET6).unwrap();
        assert_eq!(parse(&mapped), Some("[::ffff:1.2.3.4]:5".parse().unwrap()));
        assert_eq!(bytes_for("[::1]:5".parse().unwrap(), libc::AF_INET), None);
        assert_eq!((parse(&[]), parse(&[0, 0, 1, 2]), family(&[1])), (None, None, None));
    }
}
