//! The options of `docker run` and `docker create`, and what becomes of each.

use super::flags::Takes::{Nothing, Value};
use super::flags::{Flag, Means, Takes, flag};

const fn without_effect(long: &'static str, takes: Takes) -> Flag {
    Flag { long, short: None, takes, means: Means::Nothing }
}

const fn refused(long: &'static str, takes: Takes, reason: &'static str) -> Flag {
    Flag { long, short: None, takes, means: Means::Refused(reason) }
}

const NO_PRIVILEGES: &str = "nothing in a sandbox has a capability of the machine's, on Lambda as here";
const NO_DEVICES: &str = "a sandbox has no devices of the machine's";
const NO_CGROUP_OF_ITS_OWN: &str = "memory and processor time are limited by `--memory` and `--cpus`, and nothing else is";
const NO_BRIDGE: &str = "each run has a network of its own, without addresses that others could reach; `--publish` opens ports";
const NAMESPACES: &str = "the sandbox's namespaces are its own";
const NO_HEALTH: &str = "nothing asks a run for its health; `docker exec` runs a command in it";

/// What `run` has and `create` has not.
pub(super) const RUN_ALONE: &[&str] = &["detach", "detach-keys", "sig-proxy"];

/// Those of both verbs.
pub(super) const RUN: &[Flag] = &[
    flag("add-host", None, Value),
    without_effect("annotation", Value),
    flag("attach", Some('a'), Value),
    refused("blkio-weight", Value, NO_CGROUP_OF_ITS_OWN),
    refused("blkio-weight-device", Value, NO_CGROUP_OF_ITS_OWN),
    refused("cap-add", Value, NO_PRIVILEGES),
    without_effect("cap-drop", Value),
    refused("cgroup-parent", Value, NO_CGROUP_OF_ITS_OWN),
    without_effect("cgroupns", Value),
    flag("cidfile", None, Value),
    refused("cpu-period", Value, "`--cpus` limits processor time"),
    refused("cpu-quota", Value, "`--cpus` limits processor time"),
    refused("cpu-rt-period", Value, NO_CGROUP_OF_ITS_OWN),
    refused("cpu-rt-runtime", Value, NO_CGROUP_OF_ITS_OWN),
    Flag { long: "cpu-shares", short: Some('c'), takes: Value, means: Means::Nothing },
    flag("cpus", None, Value),
    refused("cpuset-cpus", Value, NO_CGROUP_OF_ITS_OWN),
    refused("cpuset-mems", Value, NO_CGROUP_OF_ITS_OWN),
    flag("detach", Some('d'), Nothing),
    refused("detach-keys", Value, "what runs in the foreground is a process of this terminal's; `-d` starts it apart from it"),
    refused("device", Value, NO_DEVICES),
    refused("device-cgroup-rule", Value, NO_DEVICES),
    refused("device-read-bps", Value, NO_DEVICES),
    refused("device-read-iops", Value, NO_DEVICES),
    refused("device-write-bps", Value, NO_DEVICES),
    refused("device-write-iops", Value, NO_DEVICES),
    without_effect("disable-content-trust", Nothing),
    flag("dns", None, Value),
    flag("dns-option", None, Value),
    flag("dns-search", None, Value),
    refused("domainname", Value, NAMESPACES),
    flag("entrypoint", None, Value),
    flag("env", Some('e'), Value),
    flag("env-file", None, Value),
    flag("expose", None, Value),
    refused("gpus", Value, NO_DEVICES),
    refused("group-add", Value, "there is one user and one group inside"),
    refused("health-cmd", Value, NO_HEALTH),
    refused("health-interval", Value, NO_HEALTH),
    refused("health-retries", Value, NO_HEALTH),
    refused("health-start-interval", Value, NO_HEALTH),
    refused("health-start-period", Value, NO_HEALTH),
    refused("health-timeout", Value, NO_HEALTH),
    Flag { long: "hostname", short: Some('h'), takes: Value, means: Means::Nothing },
    without_effect("init", Nothing),
    flag("interactive", Some('i'), Nothing),
    refused("ip", Value, NO_BRIDGE),
    refused("ip6", Value, NO_BRIDGE),
    refused("ipc", Value, NAMESPACES),
    refused("isolation", Value, "that is for other systems"),
    refused("kernel-memory", Value, "kernels limit it together with the rest, by `--memory`"),
    flag("label", Some('l'), Value),
    flag("label-file", None, Value),
    refused("link", Value, NO_BRIDGE),
    refused("link-local-ip", Value, NO_BRIDGE),
    flag("log-driver", None, Value),
    without_effect("log-opt", Value),
    refused("mac-address", Value, NO_BRIDGE),
    flag("memory", Some('m'), Value),
    without_effect("memory-reservation", Value),
    without_effect("memory-swap", Value),
    without_effect("memory-swappiness", Value),
    flag("mount", None, Value),
    flag("name", None, Value),
    flag("network", None, Value),
    flag("net", None, Value),
    without_effect("network-alias", Value),
    without_effect("no-healthcheck", Nothing),
    refused("oom-kill-disable", Nothing, "what uses more memory than it may is ended"),
    without_effect("oom-score-adj", Value),
    refused("pid", Value, NAMESPACES),
    without_effect("pids-limit", Value),
    flag("platform", None, Value),
    refused("privileged", Nothing, NO_PRIVILEGES),
    flag("publish", Some('p'), Value),
    flag("publish-all", Some('P'), Nothing),
    flag("pull", None, Value),
    flag("quiet", Some('q'), Nothing),
    flag("read-only", None, Nothing),
    flag("restart", None, Value),
    flag("rm", None, Nothing),
    flag("runtime", None, Value),
    flag("security-opt", None, Value),
    without_effect("shm-size", Value),
    flag("sig-proxy", None, Nothing),
    flag("stop-signal", None, Value),
    flag("stop-timeout", None, Value),
    refused("storage-opt", Value, "there is no storage driver"),
    refused("sysctl", Value, "settings of the kernel are the machine's"),
    flag("tmpfs", None, Value),
    flag("tty", Some('t'), Nothing),
    flag("ulimit", None, Value),
    flag("user", Some('u'), Value),
    refused("userns", Value, NAMESPACES),
    refused("uts", Value, NAMESPACES),
    flag("volume", Some('v'), Value),
    refused("volume-driver", Value, "volumes are folders of the cache's"),
    flag("volumes-from", None, Value),
    flag("workdir", Some('w'), Value),
];
