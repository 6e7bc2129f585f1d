//! Datagrams as they lie on the wire, headers and all (RFC 768, 791, 792, 4443, 8200): pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const UDP: u8 = libc::IPPROTO_UDP as u8;
const ICMP: u8 = libc::IPPROTO_ICMP as u8;
const ICMP_V6: u8 = libc::IPPROTO_ICMPV6 as u8;
const UDP_HEADER: usize = 8;

/// A datagram that was sent inside.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Datagram<'a> {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) payload: &'a [u8],
}

/// Reads an IPv4 packet that holds a whole datagram. Checksums are not looked at: the kernel leaves them to the device, and there is none.
pub(super) fn parse_v4(packet: &[u8]) -> Option<Datagram<'_>> {
    let first = *packet.first()?;
    let header = usize::from(first & 0x0f) * 4;
    let fragment = u16::from_be_bytes(*packet.get(6..)?.first_chunk()?) & 0x3fff;
    if first >> 4 != 4 || header < 20 || *packet.get(9)? != UDP || fragment != 0 {
        return None;
    }
    let address = |at: usize| Some(IpAddr::from(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?)));
    parse_udp(packet.get(header..)?, address(12)?, address(16)?)
}

/// Reads a datagram behind its header of IP, which said where from and where to.
pub(super) fn parse_udp(datagram: &[u8], source: IpAddr, destination: IpAddr) -> Option<Datagram<'_>> {
    let word = |at: usize| Some(u16::from_be_bytes(*datagram.get(at..)?.first_chunk()?));
    let payload = datagram.get(UDP_HEADER..usize::from(word(4)?))?;
    Some(Datagram { source: SocketAddr::new(source, word(0)?), destination: SocketAddr::new(destination, word(2)?), payload })
}

/// A datagram as a packet. `None`: it is too long, or of two families.
pub(super) fn datagram(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(payload.len() + UDP_HEADER).ok()?;
    let mut udp = udp_header(source, destination, length);
    udp.extend(payload);
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            // No checksum is a valid one here.
            packet_v4(source, destination, UDP, &udp)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let sum = match checksum_v6(source, destination, UDP, &udp) {
                // RFC 768: zero would say that there is none.
                0 => 0xffff,
                sum => sum,
            };
            udp[6..8].copy_from_slice(&sum.to_be_bytes());
            Some(packet_v6(source, destination, UDP, &udp))
        }
        _ => None,
    }
}

/// Why a datagram does not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreachable {
    /// Nobody listens there: `ECONNREFUSED` for who sent it.
    Port,
    /// The rules forbid it: `EHOSTUNREACH`, or `EACCES`.
    Forbidden,
}

/// The message that says that a datagram from `source` does not arrive at `destination`.
pub(super) fn unreachable(source: SocketAddr, destination: SocketAddr, why: Unreachable) -> Option<Vec<u8>> {
    // A header is all that the kernel wants to see of what it is about.
    let header = udp_header(source, destination, UDP_HEADER as u16);
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let code = if why == Unreachable::Port { 3 } else { 13 };
            let mut message = vec![3, code, 0, 0, 0, 0, 0, 0];
            message.extend(packet_v4(from, to, UDP, &header)?);
            let sum = checksum(&message, 0);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            packet_v4(to, from, ICMP, &message)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let code = if why == Unreachable::Port { 4 } else { 1 };
            let mut message = vec![1, code, 0, 0, 0, 0, 0, 0];
            message.extend(packet_v6(from, to, UDP, &header));
            let sum = checksum_v6(to, from, ICMP_V6, &message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            Some(packet_v6(to, from, ICMP_V6, &message))
        }
        _ => None,
    }
}

fn udp_header(source: SocketAddr, destination: SocketAddr, length: u16) -> Vec<u8> {
    [source.port(), destination.port(), length, 0].into_iter().flat_map(u16::to_be_bytes).collect()
}

fn packet_v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, contents: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(contents.len() + 20).ok()?;
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let sum = checksum(&packet, 0);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(contents);
    Some(packet)
}

/// Of contents that are no longer than 65535 bytes.
fn packet_v6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, contents: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((contents.len() as u16).to_be_bytes());
    packet.extend([protocol, 64]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(contents);
    packet
}

/// With the header that RFC 8200, 8.1 makes up.
fn checksum_v6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, contents: &[u8]) -> u16 {
    let addresses = source.segments().into_iter().chain(destination.segments()).map(u32::from).sum::<u32>();
    checksum(contents, addresses + contents.len() as u32 + u32::from(protocol))
}

/// RFC 1071. A packet is too short for the sum to overflow.
fn checksum(bytes: &[u8], start: u32) -> u16 {
    let (words, rest) = bytes.as_chunks::<2>();
    let mut sum = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum::<u32>() + start;
    sum += rest.first().map_or(0, |last| u32::from(*last) << 8);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_built_is_read() {
        let (source, destination) = ("8.8.8.8:53".parse().unwrap(), "198.18.111.2:4000".parse().unwrap());
        let packet = datagram(source, destination, b"reply").unwrap();
        assert_eq!(parse_v4(&packet), Some(Datagram { source, destination, payload: b"reply" }));
        assert_eq!(checksum(&packet[..20], 0), 0);
        assert_eq!(datagram(source, "[::1]:1".parse().unwrap(), b""), None);
        assert_eq!(datagram(source, destination, &[0; 65508]), None);
        assert!(datagram(source, destination, &[0; 65507]).is_some());
    }

    #[test]
    fn checksums_of_the_sixth_version_hold() {
        let (source, destination) = ("[2001:db8::1]:53".parse().unwrap(), "[fd00::2]:4000".parse().unwrap());
        let packet = datagram(source, destination, b"odd").unwrap();
        let parsed = parse_udp(&packet[40..], source.ip(), destination.ip());
        assert_eq!(parsed, Some(Datagram { source, destination, payload: b"odd" }));
        let (IpAddr::V6(from), IpAddr::V6(to)) = (source.ip(), destination.ip()) else { panic!() };
        assert_eq!(checksum_v6(from, to, UDP, &packet[40..]), 0);
        let message = unreachable(source, destination, Unreachable::Port).unwrap();
        assert_eq!(checksum_v6(to, from, ICMP_V6, &message[40..]), 0);
    }

    #[test]
    fn fragments_and_others_are_no_datagrams() {
        let packet = datagram("8.8.8.8:53".parse().unwrap(), "1.1.1.1:1".parse().unwrap(), b"reply").unwrap();
        for (at, byte) in [(0, 0x65), (0, 0x44), (6, 0x20), (7, 1), (9, 6), (24, 1), (25, 7)] {
            let mut damaged = packet.clone();
            damaged[at] = byte;
            assert_eq!(parse_v4(&damaged), None, "{at}");
        }
        assert_eq!(parse_v4(&packet[..27]), None);
    }

    proptest! {
        #[test]
        fn no_packet_is_too_strange(packet in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse_v4(&packet);
        }
    }
}
