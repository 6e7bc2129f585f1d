//! Fields that docker shows of everything, with what they hold where nothing was asked for: tools ask for any of them, and a template for one that is not there is an error.

use serde_json::{Value, json};

/// `fields`, and of `others` those that are not among them.
pub(super) fn with(mut fields: Value, others: Value) -> Value {
    if let (Some(fields), Value::Object(others)) = (fields.as_object_mut(), others) {
        for (name, value) in others {
            fields.entry(name).or_insert(value);
        }
    }
    fields
}

/// Of a run.
pub(super) fn of_run() -> Value {
    json!({
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "GraphDriver": graph_driver(),
    })
}

/// Of a `Config`, an image's or a run's.
pub(super) fn of_config() -> Value {
    json!({
        "Hostname": "",
        "Domainname": "",
        "User": "",
        "AttachStdin": false,
        "AttachStdout": false,
        "AttachStderr": false,
        "Tty": false,
        "OpenStdin": false,
        "StdinOnce": false,
        "Env": null,
        "Cmd": null,
        "Image": "",
        "Volumes": null,
        "WorkingDir": "",
        "Entrypoint": null,
        "OnBuild": null,
        "Labels": null,
    })
}

/// Of a run's `HostConfig`.
pub(super) fn of_host_config() -> Value {
    json!({
        "ContainerIDFile": "",
        "LogConfig": { "Type": "json-file", "Config": {} },
        "VolumeDriver": "",
        "VolumesFrom": null,
        "ConsoleSize": [0, 0],
        "CapAdd": null,
        "CapDrop": null,
        "CgroupnsMode": "private",
        "Dns": [],
        "DnsOptions": [],
        "DnsSearch": [],
        "GroupAdd": null,
        "IpcMode": "private",
        "Cgroup": "",
        "Links": null,
        "OomScoreAdj": 0,
        "PidMode": "",
        "UTSMode": "",
        "UsernsMode": "",
        "ShmSize": 64 << 20,
        "Runtime": "undocked",
        "Isolation": "",
        "CpuShares": 0,
        "CgroupParent": "",
        "BlkioWeight": 0,
        "CpuPeriod": 0,
        "CpuQuota": 0,
        "CpusetCpus": "",
        "CpusetMems": "",
        "Devices": [],
        "DeviceRequests": null,
        "MemoryReservation": 0,
        "MemorySwap": 0,
        "MemorySwappiness": null,
        "OomKillDisable": null,
        "PidsLimit": null,
        "MaskedPaths": null,
        "ReadonlyPaths": null,
    })
}

/// Of a run's `NetworkSettings`.
pub(super) fn of_network_settings() -> Value {
    with(
        json!({
            "Bridge": "",
            "SandboxID": "",
            "SandboxKey": "",
            "HairpinMode": false,
            "LinkLocalIPv6Address": "",
            "LinkLocalIPv6PrefixLen": 0,
            "SecondaryIPAddresses": null,
            "SecondaryIPv6Addresses": null,
        }),
        of_endpoint(),
    )
}

/// Of one of its networks.
pub(super) fn of_endpoint() -> Value {
    json!({
        "EndpointID": "",
        "Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "MacAddress": "",
    })
}

/// Of an image.
pub(super) fn of_image() -> Value {
    json!({ "Parent": "", "Comment": "", "Author": "", "DockerVersion": "", "GraphDriver": graph_driver(), "Metadata": { "LastTagTime": "0001-01-01T00:00:00Z" } })
}

fn graph_driver() -> Value {
    json!({ "Name": "undocked", "Data": null })
}
