//! Whether `undocked run` stays open: docker-lambda's switch, or a published port of AWS's emulator; and where the Invoke API listens then.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::work::{ImageKind, Purpose, Work};
use crate::config::RunConfig;
use crate::environment::variables::Sources;
use crate::exit_code::Failure;
use crate::function::INNER_API_PORT;
use crate::sandbox::Network;
use crate::sandbox::network::{Networking, Protocol, PublishedPort};

/// Where AWS's emulator listens in its images.
pub(super) const EMULATOR_PORT: u16 = 8080;

/// How a run stays open.
#[derive(Debug, Clone)]
pub(super) struct Listen {
    /// The port that clients believe to ask, which the banner names.
    pub(super) port: u16,
    /// Where it listens.
    pub(super) addresses: Vec<SocketAddr>,
    /// How the sandbox is connected, without the ports that lead to the API.
    pub(super) networking: Networking,
    /// Whether changes of the function's files matter (`DOCKER_LAMBDA_WATCH`).
    pub(super) watch: bool,
}

/// Whether this run stays open.
pub(super) fn asked_for(config: &RunConfig, work: &Work) -> Result<Option<Listen>, Failure> {
    let Purpose::Function { image, .. } = &work.purpose else { return Ok(None) };
    let sources = Sources { given: &config.variables, own_settings: &config.own_settings, image: &work.image_variables };
    let port =
        match sources.setting("DOCKER_LAMBDA_API_PORT") {
            None => INNER_API_PORT,
            Some(value) => value.to_str().and_then(|text| text.parse().ok()).filter(|port| *port != 0).ok_or_else(|| {
                Failure::usage(format!("`DOCKER_LAMBDA_API_PORT` is `{}`: it must be a port, as in `9001`", value.display()))
            })?,
        };
    if sources.setting("DOCKER_LAMBDA_STAY_OPEN").is_some() {
        let watch = sources.setting("DOCKER_LAMBDA_WATCH").is_some();
        return Ok(Some(Listen { watch, ..listen(&config.networking, port) }));
    }
    // An event says that one execution is wanted; behind an emulator that was asked for stands its command.
    let has_event = config.entrypoint.is_none() && config.arguments.len() > 1;
    let serves_there = |port: &PublishedPort| port.inside == EMULATOR_PORT && port.protocol == Protocol::Tcp;
    if *image == ImageKind::Client && !has_event && config.networking.published.iter().any(serves_there) {
        return Ok(Some(listen(&config.networking, EMULATOR_PORT)));
    }
    Ok(None)
}

/// The published ports that lead to the API become its own; without any it is on this machine's loopback.
fn listen(networking: &Networking, port: u16) -> Listen {
    let (api, published): (Vec<_>, Vec<_>) =
        networking.published.iter().copied().partition(|published| published.inside == port && published.protocol == Protocol::Tcp);
    let mut addresses: Vec<SocketAddr> = api.iter().map(|published| for_this_machine(published.outside)).collect();
    if addresses.is_empty() {
        addresses.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
    }
    let mut networking = Networking { published, ..networking.clone() };
    if let Network::Private { needs_way_out, .. } = &mut networking.network {
        *needs_way_out = !networking.rules.are_empty() || !networking.published.is_empty();
    }
    Listen { port, addresses, networking, watch: false }
}

/// A port without an address is for this machine alone: whoever reaches the Invoke API runs code.
fn for_this_machine(outside: SocketAddr) -> SocketAddr {
    match outside.ip() {
        IpAddr::V6(address) if address.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), outside.port()),
        _ => outside,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_lead_to_the_api_are_its_own() {
        let port = |outside: &str, inside| PublishedPort { outside: outside.parse().unwrap(), inside, protocol: Protocol::Tcp };
        let mut networking = Networking::plain(Network::Private { ipv6: false, needs_way_out: true });
        networking.published = vec![port("[::]:3000", 9001), port("0.0.0.0:3001", 9001), port("[::]:80", 80)];
        let found = listen(&networking, 9001);
        assert_eq!(found.addresses, ["127.0.0.1:3000".parse().unwrap(), "0.0.0.0:3001".parse().unwrap()]);
        assert_eq!(found.networking.published, [port("[::]:80", 80)]);
        networking.published.clear();
        let found = listen(&networking, 3000);
        assert_eq!(found.addresses, ["127.0.0.1:3000".parse().unwrap()]);
        assert_eq!(found.networking.network, Network::Private { ipv6: false, needs_way_out: false });
    }
}
