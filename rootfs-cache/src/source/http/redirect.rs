//! Which hosts a registry may lead us to. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use reqwest::Url;

use super::address;

/// Why a host is not spoken to though a registry leads there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedTarget {
    /// Neither `https` nor `http`.
    Scheme,
    /// Plain HTTP, and nobody declared the host insecure.
    PlainHttp,
    /// Loopback or a link-local address, from a registry that is not there itself: what listens there trusts this machine.
    Local,
    /// There were too many redirects before.
    TooMany,
}

impl fmt::Display for RefusedTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "it is neither `https` nor `http`",
            Self::PlainHttp => "it is plain HTTP",
            Self::Local => "only a registry on this machine may lead to addresses of this machine",
            Self::TooMany => "there were too many redirects before",
        })
    }
}

/// What one registry may lead to.
pub(super) struct Rules {
    is_local: bool,
    /// The registry's own host, if it is spoken to by plain HTTP: any port of it may be.
    plain_host: Option<String>,
    insecure: Vec<String>,
}

impl Rules {
    pub(super) fn new(registry: &str, insecure: &[String]) -> Self {
        let host = without_port(registry);
        let is_plain = insecure.iter().any(|declared| declared == registry || declared == host);
        Self { is_local: is_local(host), plain_host: is_plain.then(|| host.to_owned()), insecure: insecure.to_vec() }
    }

    pub(super) fn check(&self, to: &Url) -> Result<(), RefusedTarget> {
        let host = to.host_str().unwrap_or_default();
        let target_is_local = is_local(host);
        match to.scheme() {
            _ if target_is_local && !self.is_local => Err(RefusedTarget::Local),
            "https" => Ok(()),
            "http" if is_loopback(host) || self.is_insecure(to, host) => Ok(()),
            "http" => Err(RefusedTarget::PlainHttp),
            _ => Err(RefusedTarget::Scheme),
        }
    }

    fn is_insecure(&self, to: &Url, host: &str) -> bool {
        let port = to.port_or_known_default().unwrap_or_default();
        self.plain_host.as_deref() == Some(host)
            || self.insecure.iter().any(|declared| declared == host || *declared == format!("{host}:{port}"))
    }
}

/// Whether a host, without a port, is this machine.
pub(in crate::source) fn is_loopback(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || address(host).is_some_and(|address| plain(address).is_loopback())
}

/// Whether a host, without a port, is this machine or so near that nobody routes to it, as the metadata services of clouds are.
fn is_local(host: &str) -> bool {
    is_loopback(host) || address(host).is_some_and(is_near)
}

/// Whether an address is this machine's own, or link-local.
pub(super) fn is_near(address: IpAddr) -> bool {
    match plain(address) {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local() || address.is_unspecified() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local() || address.is_unspecified(),
    }
}

/// The IPv4 address within an IPv6 one, if that is what it is.
fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4),
        v4 => v4,
    }
}

pub(super) fn without_port(registry: &str) -> &str {
    match registry.rsplit_once(':') {
        // A bare IPv6 address has brackets where a port stands behind it.
        Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) && host.parse::<Ipv6Addr>().is_err() => host,
        _ => registry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_registries_may_lead() {
        let insecure = ["plain.example".to_owned(), "10.0.0.1:5000".to_owned()];
        for (registry, to, wanted) in [
            ("registry-1.docker.io", "https://cdn.example/x", Ok(())),
            ("registry-1.docker.io", "http://cdn.example/x", Err(RefusedTarget::PlainHttp)),
            ("registry-1.docker.io", "http://plain.example/x", Ok(())),
            ("registry-1.docker.io", "http://plain.example:8080/x", Ok(())),
            ("registry-1.docker.io", "http://10.0.0.1:5000/x", Ok(())),
            ("registry-1.docker.io", "http://10.0.0.1:5001/x", Err(RefusedTarget::PlainHttp)),
            ("registry-1.docker.io", "https://localhost/x", Err(RefusedTarget::Local)),
            ("registry-1.docker.io", "https://a.localhost./x", Err(RefusedTarget::Local)),
            ("registry-1.docker.io", "http://127.0.0.1:5000/x", Err(RefusedTarget::Local)),
            ("registry-1.docker.io", "https://127.1/x", Err(RefusedTarget::Local)),
            ("registry-1.docker.io", "https://2130706433/x", Err(RefusedTarget::Local)),
            ("registry-1.docker.io", "https://[::1]:5000/x", Err(RefusedTarget::Local)),
            ("registry-1.docker.io", "https://[::ffff:127.0.0.1]/x", Err(RefusedTarget::Local)),
            ("registry-1.docker.io", "https://[fe80::1]/x", Err(RefusedTarget::Local)),
            ("registry-1.docker.io", "https://0.0.0.0/x", Err(RefusedTarget::Local)),
            ("registry-1.docker.io", "http://169.254.169.254/latest/meta-data", Err(RefusedTarget::Local)),
            ("10.0.0.1:5000", "http://127.0.0.1/x", Err(RefusedTarget::Local)),
            ("10.0.0.1:5000", "http://10.0.0.1:5001/token", Ok(())),
            ("10.0.0.1:5000", "http://10.0.0.2:5001/token", Err(RefusedTarget::PlainHttp)),
            ("localhost:5000", "http://127.0.0.1:9000/x", Ok(())),
            ("[::1]:5000", "http://[::1]:9000/x", Ok(())),
            ("127.0.0.1:5000", "https://cdn.example/x", Ok(())),
            ("127.0.0.1:5000", "http://cdn.example/x", Err(RefusedTarget::PlainHttp)),
            ("127.0.0.1:5000", "http://169.254.169.254/x", Err(RefusedTarget::PlainHttp)),
            ("127.0.0.1:5000", "file:///etc/passwd", Err(RefusedTarget::Scheme)),
            ("127.0.0.1:5000", "ftp://127.0.0.1/x", Err(RefusedTarget::Scheme)),
        ] {
            let found = Rules::new(registry, &insecure).check(&to.parse().unwrap());
            assert_eq!(found, wanted, "{registry} to {to}");
        }
    }
}
