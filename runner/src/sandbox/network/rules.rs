//! Which destinations the sandbox may reach: pure.

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::names::HOST_NAME;
use super::{HostAddress, HostEntry, NameServers, Verdict, destination};
use crate::sandbox::addresses::HOST_GATEWAY;

/// Addresses at which clouds hand out their machines' credentials: denied unless allowed by address.
const METADATA: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254))];

/// One destination of `--allow-net` or `--deny-net`: `HOST[:PORT]`, where HOST is an address, a network such as `10.0.0.0/8`, a name, or
/// `*.example.com`. An IPv6 address before a port stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    host: Host,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Network {
        address: IpAddr,
        prefix: u8,
    },
    Name(String),
    /// What ends in this, which begins with a dot.
    Suffix(String),
}

/// Why a rule cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseRuleError {
    /// There is no host.
    #[error("`{0}` names no host")]
    NoHost(String),
    /// What follows the colon is no port.
    #[error("`{0}` is no port: expected 1 to 65535")]
    Port(String),
    /// What follows the slash is no length of a prefix.
    #[error("`{0}` is no length of a network prefix")]
    Prefix(String),
    /// The host is neither an address nor a name.
    #[error("`{0}` is neither an address nor a name")]
    Host(String),
}

impl FromStr for Rule {
    type Err = ParseRuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = split_port(text)?;
        if host.is_empty() {
            return Err(ParseRuleError::NoHost(text.to_owned()));
        }
        let port = port.map(parse_port).transpose()?;
        Ok(Self { host: parse_host(host)?, port })
    }
}

fn split_port(text: &str) -> Result<(&str, Option<&str>), ParseRuleError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(|| ParseRuleError::Host(text.to_owned()))?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(ParseRuleError::Host(text.to_owned())),
        };
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => Ok((host, Some(port))),
        _ => Ok((text, None)),
    }
}

fn parse_port(text: &str) -> Result<u16, ParseRuleError> {
    match text.parse() {
        Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => Err(ParseRuleError::Port(text.to_owned())),
    }
}

fn parse_host(text: &str) -> Result<Host, ParseRuleError> {
    if let Some((address, length)) = text.split_once('/') {
        let address: IpAddr = address.parse().map_err(|_| ParseRuleError::Host(text.to_owned()))?;
        let prefix = length.parse().ok().filter(|prefix| *prefix <= bits(address));
        return Ok(Host::Network { address, prefix: prefix.ok_or_else(|| ParseRuleError::Prefix(length.to_owned()))? });
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        let address = address.to_canonical();
        return Ok(Host::Network { address, prefix: bits(address) });
    }
    let (name, suffix) = text.strip_prefix('*').map_or((text, false), |rest| (rest.strip_prefix('.').unwrap_or(""), true));
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let label = |label: &str| {
        !label.is_empty() && label.len() < 64 && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    // A name of digits alone is a mistyped address.
    if !name.split('.').all(label) || name.len() > 253 || name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(ParseRuleError::Host(text.to_owned()));
    }
    Ok(if suffix { Host::Suffix(format!(".{name}")) } else { Host::Name(name) })
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Network { address, prefix } if *prefix < bits(*address) => write!(out, "{address}/{prefix}")?,
            Host::Network { address: IpAddr::V6(address), .. } if self.port.is_some() => write!(out, "[{address}]")?,
            Host::Network { address, .. } => write!(out, "{address}")?,
            Host::Name(name) => write!(out, "{name}")?,
            Host::Suffix(suffix) => write!(out, "*{suffix}")?,
        }
        self.port.map_or(Ok(()), |port| write!(out, ":{port}"))
    }
}

impl Rule {
    /// Whether it is about this destination, which has `names`.
    fn covers(&self, address: IpAddr, port: u16, names: &Names) -> bool {
        if self.port.is_some_and(|wanted| wanted != port) {
            return false;
        }
        match &self.host {
            Host::Network { address: network, prefix } => same_network(*network, address, *prefix),
            Host::Name(_) | Host::Suffix(_) => names.of(address).any(|name| self.is_about(name)),
        }
    }

    fn is_about(&self, name: &str) -> bool {
        match &self.host {
            Host::Network { .. } => false,
            Host::Name(own) => own == name,
            Host::Suffix(suffix) => name.ends_with(suffix.as_str()),
        }
    }

    fn name(&self) -> Option<&str> {
        match &self.host {
            Host::Name(name) => Some(name),
            Host::Network { .. } | Host::Suffix(_) => None,
        }
    }

    /// Whether it is about one address by number.
    fn is_exactly(&self, address: IpAddr) -> bool {
        matches!(&self.host, Host::Network { address: own, prefix } if *own == address && *prefix == bits(address))
    }
}

fn same_network(network: IpAddr, address: IpAddr, prefix: u8) -> bool {
    // A shift by the whole width is none.
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            (network.to_bits() ^ address.to_bits()).checked_shr(32 - u32::from(prefix)).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            (network.to_bits() ^ address.to_bits()).checked_shr(128 - u32::from(prefix)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// What may be reached. Without an allowing rule: everything but the instance metadata. With one: what a rule allows, and the name servers. A denying
/// rule wins over all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkRules {
    allow: Vec<Rule>,
    deny: Vec<Rule>,
}

impl NetworkRules {
    /// Whether nothing was asked for: what is denied by itself is denied all the same.
    pub fn are_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// Of the rules of `--allow-net` and `--deny-net`.
    pub fn new(allow: Vec<Rule>, deny: Vec<Rule>) -> Self {
        Self { allow, deny }
    }

    /// Whether the sandbox may reach an address, which it names as it sees it. A rule allows the address as it is given, and denies it if it covers
    /// anything that the address may lead to.
    pub(super) fn verdict(&self, destination: SocketAddr, names: &Names, servers: &NameServers) -> Verdict {
        let (address, port) = (destination.ip().to_canonical(), destination.port());
        let covers = |rules: &[Rule], address| rules.iter().any(|rule| rule.covers(address, port, names));
        let leads_to = destination::leads_to(address);
        let metadata = leads_to.iter().any(|address| METADATA.contains(address))
            && !self.allow.iter().any(|rule| rule.is_exactly(address) && rule.covers(address, port, names));
        let allowed = self.allow.is_empty() || servers.answer_at(destination) || covers(&self.allow, address);
        let denied = leads_to.iter().any(|address| covers(&self.deny, *address));
        if allowed && !metadata && !denied { Verdict::Allowed } else { Verdict::Denied }
    }

    /// The names that rules are about, for us to look up.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.allow.iter().chain(&self.deny).filter_map(Rule::name)
    }

    /// The names that denying rules are about.
    pub(super) fn denied_names(&self) -> impl Iterator<Item = &str> {
        self.deny.iter().filter_map(Rule::name)
    }

    /// Whether any rule is about a name.
    pub(super) fn are_about(&self, name: &str) -> bool {
        self.allow.iter().chain(&self.deny).any(|rule| rule.is_about(name))
    }
}

/// The addresses that name servers gave for names, as far as rules are about these.
#[derive(Debug)]
pub(super) struct Names {
    known: VecDeque<(IpAddr, String)>,
    /// Whose addresses make room for nobody else's.
    named: Vec<String>,
    /// Which have addresses from us.
    given: Vec<String>,
}

impl Names {
    /// How many addresses are remembered of each name that a rule names, and of all others together; the oldest goes first.
    const MOST: usize = 1024;

    /// Those that need no name server: fixed ones, and those that `hosts` gives.
    pub(super) fn new<'a>(named: impl Iterator<Item = &'a str>, hosts: &[HostEntry]) -> Self {
        let known = [
            (IpAddr::V4(HOST_GATEWAY), HOST_NAME),
            (IpAddr::V4(Ipv4Addr::LOCALHOST), "localhost"),
            (IpAddr::V6(Ipv6Addr::LOCALHOST), "localhost"),
        ];
        let named = named.chain([HOST_NAME, "localhost"]).map(str::to_owned).collect();
        let given = hosts.iter().map(|HostEntry { name, address }| match address {
            HostAddress::Gateway => (IpAddr::V4(HOST_GATEWAY), name.to_ascii_lowercase()),
            HostAddress::Ip(address) => (address.to_canonical(), name.to_ascii_lowercase()),
        });
        let known: VecDeque<_> = known.map(|(address, name)| (address, name.to_owned())).into_iter().chain(given).collect();
        let given = known.iter().map(|(_, name)| name.clone()).collect();
        Self { known, named, given }
    }

    /// Remembers that `name`, in small letters, has an address.
    pub(super) fn learn(&mut self, name: &str, address: IpAddr) {
        let address = address.to_canonical();
        // Whoever answers for a name that is allowed must not open the way to the host's loopback with it.
        if address == HOST_GATEWAY || self.of(address).any(|known| known == name) {
            return;
        }
        let is_named = |name: &str| self.named.iter().any(|named| named == name);
        let shares = |known: &str| if is_named(name) { known == name } else { !is_named(known) };
        let mut sharing = self.known.iter().enumerate().filter(|(_, (_, known))| shares(known)).map(|(index, _)| index);
        if let (Some(oldest), Some(_)) = (sharing.next(), sharing.nth(Self::MOST - 2)) {
            self.known.remove(oldest);
        }
        self.known.push_back((address, name.to_owned()));
    }

    /// Whether a name has an address that no name server gave.
    pub(super) fn is_given(&self, name: &str) -> bool {
        self.given.iter().any(|given| given == name)
    }

    fn of(&self, address: IpAddr) -> impl Iterator<Item = &str> {
        self.known.iter().filter(move |(known, _)| *known == address).map(|(_, name)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(texts: &[&str]) -> Vec<Rule> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn allowed(allow: &[&str], deny: &[&str], destination: &str) -> bool {
        let mut names = Names::new(["x.example"].into_iter(), &[]);
        names.learn("a.example.com", [10, 0, 0, 1].into());
        names.learn("a.example.com", HOST_GATEWAY.into());
        names.learn("other.example", [10, 0, 0, 1].into());
        let servers = NameServers::parse("nameserver 127.0.0.53\nnameserver 9.9.9.9");
        let rules = NetworkRules::new(rules(allow), rules(deny));
        rules.verdict(destination.parse().unwrap(), &names, &servers) == Verdict::Allowed
    }

    #[test]
    fn rules_are_read_in_all_their_forms_and_written_back() {
        for text in
            ["1.2.3.4", "1.2.3.4:80", "10.0.0.0/8", "10.0.0.0/8:53", "::1", "[::1]:80", "example.com", "example.com:443", "*.example.com:1"]
        {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
        for (text, same) in [("Example.COM.", "example.com"), ("[2001:db8::/32]:5", "2001:db8::/32:5"), ("::ffff:1.2.3.4", "1.2.3.4")] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), same);
        }
        for bad in [
            "",
            ":80",
            "a:0",
            "a:65536",
            "a:+1",
            "a:b",
            "1.2.3",
            "1.2.3.4/33",
            "1.2.3.4/x",
            "[::1",
            "[::1]x",
            "*",
            "*example.com",
            "a b",
            "a..b",
        ] {
            assert!(bad.parse::<Rule>().is_err(), "{bad}");
        }
    }

    #[test]
    fn without_rules_everything_but_the_metadata() {
        assert!(allowed(&[], &[], "1.2.3.4:80") && allowed(&[], &[], "[2001:db8::1]:80"));
        for metadata in ["169.254.169.254:80", "[::ffff:169.254.169.254]:80", "[fd00:ec2::254]:80"] {
            assert!(!allowed(&[], &[], metadata), "{metadata}");
        }
        assert!(allowed(&["169.254.169.254:80"], &[], "169.254.169.254:80"));
        assert!(!allowed(&["169.254.169.254:80"], &[], "169.254.169.254:81"));
        assert!(!allowed(&["0.0.0.0/0"], &[], "169.254.169.254:80"));
        assert!(!allowed(&["169.254.169.254"], &["169.254.0.0/16"], "169.254.169.254:80"));
    }

    #[test]
    fn with_an_allowing_rule_only_what_it_covers_and_the_name_servers() {
        assert!(allowed(&["10.0.0.0/8:80"], &[], "10.9.9.9:80"));
        assert!(!allowed(&["10.0.0.0/8:80"], &[], "10.9.9.9:81") && !allowed(&["10.0.0.0/8:80"], &[], "11.9.9.9:80"));
        assert!(allowed(&["10.0.0.0/8"], &[], "198.18.111.53:53") && allowed(&["10.0.0.0/8"], &[], "9.9.9.9:53"));
        assert!(!allowed(&["10.0.0.0/8"], &[], "9.9.9.9:54") && !allowed(&["10.0.0.0/8"], &["9.9.9.9"], "9.9.9.9:53"));
        assert!(allowed(&["::/0"], &[], "[2001:db8::1]:1") && !allowed(&["::/0"], &[], "1.2.3.4:1"));
    }

    #[test]
    fn names_cover_the_addresses_that_were_given_for_them() {
        assert!(allowed(&["a.example.com"], &[], "10.0.0.1:1") && !allowed(&["a.example.com"], &[], "10.0.0.2:1"));
        assert!(allowed(&["*.example.com"], &[], "10.0.0.1:1") && !allowed(&["*.a.example.com"], &[], "10.0.0.1:1"));
        assert!(!allowed(&[], &["other.example"], "10.0.0.1:1"));
        assert!(allowed(&["host.docker.internal:80"], &[], "198.18.111.1:80"));
        assert!(!allowed(&["host.docker.internal:80"], &[], "198.18.111.1:81"));
    }

    #[test]
    fn whatever_leads_to_a_denied_address_is_denied() {
        for form in ["1.2.3.4:80", "[::ffff:1.2.3.4]:80", "[64:ff9b::1.2.3.4]:80", "[2002:102:304::9]:80", "[64:ff9b:1::1.2.3.4]:80"] {
            assert!(!allowed(&[], &["1.2.3.0/24"], form) && !allowed(&["::/0", "0.0.0.0/0"], &["1.2.3.4:80"], form), "{form}");
            assert!(allowed(&[], &["1.2.4.0/24"], form) && allowed(&[], &["1.2.3.4:81"], form), "{form}");
        }
        // RFC 6052, 2.2: by the length of the prefix.
        for form in ["[64:ff9b:1:102:3:400::]:80", "[64:ff9b:1:01:02:0304::]:80", "[64:ff9b:1:0:1:203:400::]:80"] {
            assert!(!allowed(&[], &["1.2.3.4"], form), "{form}");
        }
        assert!(!allowed(&["1.2.3.4"], &[], "[64:ff9b::1.2.3.4]:80") && allowed(&["64:ff9b::/96"], &[], "[64:ff9b::1.2.3.4]:80"));
        for metadata in ["[64:ff9b::169.254.169.254]:80", "[2002:a9fe:a9fe::]:80"] {
            assert!(!allowed(&[], &[], metadata) && !allowed(&["169.254.169.254"], &[], metadata), "{metadata}");
        }
        assert!(!allowed(&[], &["a.example.com"], "[64:ff9b::10.0.0.1]:80"));
    }

    #[test]
    fn rules_about_the_hosts_loopback_are_about_the_way_there() {
        for rule in ["127.0.0.1", "127.0.0.0/8", "::1", "localhost", "localhost:80", "198.18.111.1", "host.docker.internal"] {
            assert!(!allowed(&[], &[rule], "198.18.111.1:80") && !allowed(&[], &[rule], "[::ffff:198.18.111.1]:80"), "{rule}");
            assert!(!allowed(&["198.18.111.1"], &[rule], "198.18.111.1:80"), "{rule}");
        }
        assert!(allowed(&[], &["127.0.0.1:81"], "198.18.111.1:80") && allowed(&[], &["127.0.0.2"], "198.18.111.1:80"));
        // The host's resolver is no other service of its.
        assert!(allowed(&[], &["127.0.0.0/8"], "198.18.111.53:53") && !allowed(&[], &["198.18.111.53"], "198.18.111.53:53"));
    }

    #[test]
    fn only_so_many_names_are_remembered() {
        let mut names = Names::new(["x.example"].into_iter(), &[]);
        for number in 0..5000_u32 {
            names.learn("x.example", IpAddr::V4(Ipv4Addr::from_bits(number)));
        }
        let known = |names: &Names, number| names.of(Ipv4Addr::from_bits(number).into()).next().is_some();
        assert_eq!(names.known.len(), Names::MOST + 3);
        assert!(known(&names, 4999) && known(&names, 5000 - 1024) && !known(&names, 4999 - 1024));
        // Whatever else is learned.
        for number in 5000..10_000_u32 {
            names.learn(&format!("{number}.other.example"), IpAddr::V4(Ipv4Addr::from_bits(number)));
        }
        assert_eq!(names.known.len(), 2 * Names::MOST + 3);
        assert!(known(&names, 4999) && known(&names, 5000 - 1024) && known(&names, 9999) && !known(&names, 5000));
        assert!(names.of(HOST_GATEWAY.into()).next().is_some());
    }
}
