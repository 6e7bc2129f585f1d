//! The addresses of a private network, and the netlink messages that make them: pure.
//!
//! Every address is local to the sandbox's loopback device, so whatever is sent to whichever address stays inside, where raw sockets of ours see it
//! (`ip-route(8)`: type local). No packet ever leaves that namespace; what goes out is sent by the supervisor from the host's.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The sandbox's own address beside 127.0.0.1: one that is not a loopback address, since resolvers look for such (getaddrinfo(3): `AI_ADDRCONFIG`).
/// 198.18.0.0/15 is set aside for tests of network devices (RFC 2544), so that no server has it.
pub const SANDBOX_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 111, 2);
/// The same for IPv6: a unique local address (RFC 4193).
pub const SANDBOX_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x6c61, 0x6d62, 0, 0, 0, 0, 2);
/// The host's loopback as the sandbox sees it: `host.docker.internal`, and what `--add-host NAME:host-gateway` gives.
pub const HOST_GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 18, 111, 1);
/// The first of the addresses that lead to name servers on the host's loopback; the second is the next one, and so on.
pub const FIRST_NAME_SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 111, 53);
/// How many name servers a resolver uses at most (resolv.conf(5): `MAXNS`).
pub const MAX_NAME_SERVERS: u8 = 3;

/// The address that leads to the `index`th name server on the host's loopback.
pub fn name_server(index: u8) -> Ipv4Addr {
    let [a, b, c, d] = FIRST_NAME_SERVER.octets();
    Ipv4Addr::new(a, b, c, d + index)
}

// `linux/netlink.h`, `linux/rtnetlink.h`, `linux/fib_rules.h`, `linux/if_addr.h`; the libc crate has only some of them.
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const CREATE: u16 = NLM_F_EXCL | NLM_F_CREATE;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 2;
const RTA_OIF: u16 = 4;
const RTA_PREFSRC: u16 = 7;
const FRA_SRC: u16 = 2;
const FRA_PRIORITY: u16 = 6;
const FRA_IP_PROTO: u16 = 22;
const FR_ACT_TO_TBL: u8 = 1;
const FR_ACT_BLACKHOLE: u8 = 6;
const RT_TABLE_LOCAL: u8 = 255;
const RTPROT_BOOT: u8 = 3;
const RT_SCOPE_HOST: u8 = 254;
const RTN_LOCAL: u8 = 2;
/// The loopback device is the first of its namespace.
const LOOPBACK: u32 = 1;

const V4: Family =
    Family { number: libc::AF_INET as u8, own: &SANDBOX_V4.octets(), loopback: (&[127, 0, 0, 0], 8), icmp: libc::IPPROTO_ICMP as u8 };
const V6: Family = Family {
    number: libc::AF_INET6 as u8,
    own: &SANDBOX_V6.octets(),
    loopback: (&Ipv6Addr::LOCALHOST.octets(), 128),
    icmp: libc::IPPROTO_ICMPV6 as u8,
};

/// What differs between IPv4 and IPv6.
struct Family {
    number: u8,
    own: &'static [u8],
    /// The loopback network and the length of its prefix.
    loopback: (&'static [u8], u8),
    icmp: u8,
}

/// The messages that make a private network of an empty one, in one buffer for one `send`, and how many there are.
pub(super) fn messages(ipv6: bool) -> (Vec<u8>, u32) {
    let mut messages = Messages::default();
    for family in [V4, V6].iter().take(if ipv6 { 2 } else { 1 }) {
        messages.address(family);
        messages.everything_is_local(family);
        messages.no_errors_from_afar(family);
    }
    (messages.bytes, messages.count)
}

#[derive(Default)]
struct Messages {
    bytes: Vec<u8>,
    count: u32,
}

impl Messages {
    fn address(&mut self, family: &Family) {
        let prefix = family.own.len() as u8 * 8;
        let body = [&[family.number, prefix, IFA_F_NODAD, 0], LOOPBACK.to_ne_bytes().as_slice()].concat();
        self.push(RTM_NEWADDR, CREATE, &body, &[(IFA_LOCAL, family.own), (IFA_ADDRESS, family.own)]);
    }

    fn everything_is_local(&mut self, family: &Family) {
        let body = [family.number, 0, 0, 0, RT_TABLE_LOCAL, RTPROT_BOOT, RT_SCOPE_HOST, RTN_LOCAL, 0, 0, 0, 0];
        self.push(RTM_NEWROUTE, CREATE, &body, &[(RTA_OIF, &LOOPBACK.to_ne_bytes()), (RTA_PREFSRC, family.own)]);
    }

    /// Nobody listens inside on a far address's port, and the kernel would say so to whoever sent there. The rule that drops those messages must
    /// come before the lookup of local addresses, which is therefore moved down.
    fn no_errors_from_afar(&mut self, family: &Family) {
        let rule = |action: u8, table: u8, source_length: u8| [family.number, 0, source_length, 0, table, 0, 0, action, 0, 0, 0, 0];
        let local = rule(FR_ACT_TO_TBL, RT_TABLE_LOCAL, 0);
        let priority = |priority: u32| priority.to_ne_bytes();
        self.push(RTM_NEWRULE, CREATE, &local, &[(FRA_PRIORITY, &priority(100))]);
        self.push(RTM_DELRULE, 0, &local, &[(FRA_PRIORITY, &priority(0))]);
        // Those of the loopback addresses are the truth.
        let (network, length) = family.loopback;
        let icmp: (u16, &[u8]) = (FRA_IP_PROTO, &[family.icmp]);
        let own = rule(FR_ACT_TO_TBL, RT_TABLE_LOCAL, length);
        self.push(RTM_NEWRULE, CREATE, &own, &[(FRA_PRIORITY, &priority(1)), (FRA_SRC, network), icmp]);
        self.push(RTM_NEWRULE, CREATE, &rule(FR_ACT_BLACKHOLE, 0, 0), &[(FRA_PRIORITY, &priority(2)), icmp]);
    }

    /// A header, the body and attributes, each padded to 4 bytes (netlink(7)).
    fn push(&mut self, kind: u16, flags: u16, body: &[u8], attributes: &[(u16, &[u8])]) {
        let start = self.bytes.len();
        self.count += 1;
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        self.bytes.extend(self.count.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend(body);
        for (number, value) in attributes {
            self.bytes.extend((value.len() as u16 + 4).to_ne_bytes());
            self.bytes.extend(number.to_ne_bytes());
            self.bytes.extend(*value);
            self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        }
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_follow_one_another_by_their_lengths() {
        for (ipv6, expected) in [(false, 6), (true, 12)] {
            let (bytes, count) = messages(ipv6);
            let (mut at, mut seen) = (0, 0);
            while at < bytes.len() {
                let length = u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
                assert!(length >= 28 && length.is_multiple_of(4), "{length}");
                seen += 1;
                assert_eq!(u32::from_ne_bytes(bytes[at + 8..at + 12].try_into().unwrap()), seen);
                at += length;
            }
            assert_eq!((at, seen, count), (bytes.len(), expected, expected));
        }
    }

    #[test]
    fn name_servers_have_neighbouring_addresses() {
        assert_eq!([0, 2].map(name_server), [FIRST_NAME_SERVER, Ipv4Addr::new(198, 18, 111, 55)]);
    }
}
