//! `/etc/hosts` and `/etc/resolv.conf` of a sandbox, where the host's own will not do.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use crate::config::RunConfig;
use crate::sandbox::HostRoot;
use crate::sandbox::network::{HostAddress, HostEntry, hosts, resolv_conf};

use super::HOSTNAME;

/// What Lambda calls the loopback inside, where extensions listen for telemetry.
const LOOPBACK_NAMES: [&str; 2] = ["sandbox.localdomain", "sandbox"];

/// The files that differ from the host's own, as (path, text).
pub(super) fn files(config: &RunConfig) -> Vec<(&'static str, String)> {
    let of_host = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let networking = &config.networking;
    // After the user's own, which a resolver finds first.
    let loopback = HostAddress::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let names = LOOPBACK_NAMES.iter().map(|&name| HostEntry { name: name.to_owned(), address: loopback });
    let added: Vec<HostEntry> = networking.hosts.iter().cloned().chain(names).collect();
    let hosts = hosts(networking.network, &added, HOSTNAME, &of_host("/etc/hosts"));
    let resolver = networking.resolver.clone().unwrap_or_else(|| of_host("/etc/resolv.conf"));
    let resolv_conf = resolv_conf(networking.network, &networking.name_servers, &resolver).or_else(|| networking.resolver.clone());
    let files = [("/etc/hosts", hosts), ("/etc/resolv.conf", resolv_conf)];
    files.into_iter().filter_map(|(path, text)| Some((path, text?))).collect()
}

/// Puts them in place of a root's own.
pub(super) fn show_on_host(root: &mut HostRoot, files: Vec<(&'static str, String)>) {
    for (path, text) in files {
        root.files.retain(|(own, _, _)| own.as_os_str() != path);
        root.files.push((path.into(), text.into_bytes(), 0o644));
    }
}
