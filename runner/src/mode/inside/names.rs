//! `/etc/hosts` and `/etc/resolv.conf` of a sandbox, where the host's own will not do.

use std::fs;

use crate::config::RunConfig;
use crate::sandbox::HostRoot;
use crate::sandbox::network::{hosts, resolv_conf};

use super::HOSTNAME;

/// The files that differ from the host's own, as (path, text).
pub(super) fn files(config: &RunConfig) -> Vec<(&'static str, String)> {
    let of_host = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let networking = &config.networking;
    let hosts = hosts(networking.network, &networking.hosts, HOSTNAME, &of_host("/etc/hosts"));
    let resolv_conf = resolv_conf(networking.network, &networking.name_servers, &of_host("/etc/resolv.conf"));
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
