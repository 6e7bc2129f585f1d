//! Which destinations the sandbox may reach: pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

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

/// What may be reached. Without an allowing rule: everything but the instance metadata. With one: what a rule allows. A denying rule wins over both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkRules {
    allow: Vec<Rule>,
    deny: Vec<Rule>,
}

impl NetworkRules {
    /// Of the rules of `--allow-net` and `--deny-net`.
    pub fn new(allow: Vec<Rule>, deny: Vec<Rule>) -> Self {
        Self { allow, deny }
    }
}
