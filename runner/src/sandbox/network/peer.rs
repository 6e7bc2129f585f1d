//! Filters on sockets (socket(7): `SO_ATTACH_FILTER`): pure.
//!
//! The one that a connection of the host's carries into the sandbox lets in segments of one peer alone, and nothing that opens a connection. Once locked
//! (`SO_LOCK_FILTER`) nobody can take it off. So a socket of the host's namespace cannot come to speak with anybody else, whatever the sandbox brings about
//! on it, and cannot serve as a listener.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use libc::sock_filter;

use crate::sandbox::addresses::{SANDBOX_V4, SANDBOX_V6};

// `linux/bpf_common.h`, `linux/filter.h`.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const AND: u16 = 0x54;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// Offsets from here on count from the network header; others from the TCP header, for a TCP socket.
const NETWORK_HEADER: u32 = -0x10_0000_i32 as u32;
const PROTOCOL: u32 = -0x1000_i32 as u32;
const SOURCE_V4: u32 = NETWORK_HEADER + 12;
const SOURCE_V6: u32 = NETWORK_HEADER + 8;
const SOURCE_PORT: u32 = 0;
const TCP_FLAGS: u32 = 13;
const SYN: u32 = 0x02;
const SYN_OR_ACK: u32 = 0x12;
const PASS: u32 = u32::MAX;

/// The filter for a peer.
pub(super) fn program(peer: SocketAddr) -> Vec<sock_filter> {
    let (protocol, source) = match peer.ip() {
        IpAddr::V4(ip) => (libc::ETH_P_IP, vec![(SOURCE_V4, ip.to_bits())]),
        IpAddr::V6(ip) => {
            let words = (0..4).map(|index| (SOURCE_V6 + 4 * index, (ip.to_bits() >> (96 - 32 * index)) as u32));
            (libc::ETH_P_IPV6, words.collect())
        }
    };
    let mut checks = vec![(LOAD_WORD, PROTOCOL, protocol as u32)];
    checks.extend(source.into_iter().map(|(offset, word)| (LOAD_WORD, offset, word)));
    checks.push((LOAD_HALF, SOURCE_PORT, peer.port().into()));
    let instruction = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let mut program = Vec::with_capacity(17);
    // Behind the checks: flags, mask, comparison, and the two ends.
    let mut left = checks.len() as u8 * 2 + 5;
    for (load, offset, expected) in checks {
        left -= 2;
        program.extend([instruction(load, 0, 0, offset), instruction(JUMP_IF_EQUAL, 0, left - 1, expected)]);
    }
    program.extend([
        instruction(LOAD_BYTE, 0, 0, TCP_FLAGS),
        instruction(AND, 0, 0, SYN_OR_ACK),
        instruction(JUMP_IF_EQUAL, 1, 0, SYN),
        instruction(RETURN, 0, 0, PASS),
        instruction(RETURN, 0, 0, 0),
    ]);
    program
}

/// For a raw socket of IPv4, which shows a packet from its header on: what is not sent to the sandbox itself.
pub(super) fn datagrams_v4() -> Vec<sock_filter> {
    const DESTINATION: u32 = 16;
    const FIRST_BYTE: u32 = 0xff00_0000;
    let instruction = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        instruction(LOAD_WORD, 0, 0, DESTINATION),
        instruction(JUMP_IF_EQUAL, 3, 0, SANDBOX_V4.to_bits()),
        instruction(AND, 0, 0, FIRST_BYTE),
        instruction(JUMP_IF_EQUAL, 1, 0, Ipv4Addr::LOCALHOST.to_bits() & FIRST_BYTE),
        instruction(RETURN, 0, 0, PASS),
        instruction(RETURN, 0, 0, 0),
    ]
}

/// The same for IPv6, whose raw sockets show a packet from behind its header on.
pub(super) fn datagrams_v6() -> Vec<sock_filter> {
    const DESTINATION: u32 = NETWORK_HEADER + 24;
    let instruction = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let mut program = Vec::new();
    for address in [Ipv6Addr::LOCALHOST, SANDBOX_V6] {
        for (index, left) in (0..4).zip([7, 5, 3, 1]) {
            let word = (address.to_bits() >> (96 - 32 * index)) as u32;
            program.extend([instruction(LOAD_WORD, 0, 0, DESTINATION + 4 * index), instruction(JUMP_IF_EQUAL, 0, left, word)]);
        }
        program.push(instruction(RETURN, 0, 0, 0));
    }
    program.push(instruction(RETURN, 0, 0, PASS));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter makes of a segment: as the kernel runs it, for the instructions that there are.
    fn passes(filter: &[sock_filter], from: SocketAddr, flags: u32) -> bool {
        let source = match from.ip() {
            IpAddr::V4(ip) => vec![ip.to_bits()],
            IpAddr::V6(ip) => (0..4).map(|index| (ip.to_bits() >> (96 - 32 * index)) as u32).collect(),
        };
        let load = |offset: u32| match offset {
            PROTOCOL if from.is_ipv4() => libc::ETH_P_IP as u32,
            PROTOCOL => libc::ETH_P_IPV6 as u32,
            SOURCE_PORT => from.port().into(),
            TCP_FLAGS => flags,
            offset if from.is_ipv4() && offset == SOURCE_V4 => source[0],
            offset => source.get((offset.wrapping_sub(SOURCE_V6) / 4) as usize).copied().unwrap_or(0),
        };
        let (mut at, mut value) = (0, 0);
        loop {
            let instruction = &filter[at];
            at += 1;
            match instruction.code {
                LOAD_BYTE | LOAD_HALF | LOAD_WORD => value = load(instruction.k),
                AND => value &= instruction.k,
                JUMP_IF_EQUAL => at += usize::from(if value == instruction.k { instruction.jt } else { instruction.jf }),
                RETURN => return instruction.k == PASS,
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn only_the_peer_passes_and_no_opening_segment() {
        for (peer, others) in [
            ("10.1.2.3:443", ["10.1.2.4:443", "10.1.2.3:444", "[::ffff:10.1.2.3]:443"]),
            ("[2001:db8::1:2]:443", ["[2001:db8::1:3]:443", "[2001:db8::1:2]:80", "1.2.3.4:443"]),
        ] {
            let peer = peer.parse().unwrap();
            let filter = program(peer);
            for (flags, expected) in [(0x12, true), (0x10, true), (0x04, true), (0x11, true), (0x02, false), (0xc2, false)] {
                assert_eq!(passes(&filter, peer, flags), expected, "{flags:x}");
            }
            for other in others {
                assert!(!passes(&filter, other.parse().unwrap(), 0x12), "{other}");
            }
        }
    }
}
