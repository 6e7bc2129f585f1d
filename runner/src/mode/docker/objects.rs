//! What `inspect` shows: runs, images, volumes and networks in docker's shape.

use std::net::Ipv6Addr;

use nix::sys::signal::Signal;
use rootfs_cache::digest::Digest;
use serde_json::{Map, Value, json};

use super::copy::normal;
use super::{find, networks, template, unset, volumes};
use crate::config::docker::{ObjectKind, Place, Restart, RunSpec, VolumeSource};
use crate::config::{ImageSource, published_ports};
use crate::exit_code::{ExitCode, Failure};
use crate::mode::{open_cache, print};
use crate::records::{Phase, Published, Run, State, log};
use crate::sandbox::HOST_GATEWAY;

/// How a mount is called in lists.
pub(super) fn mount_name(source: &VolumeSource) -> String {
    match source {
        VolumeSource::Bind(path) => normal(path).display().to_string(),
        VolumeSource::Named(name) | VolumeSource::Anonymous(name) => name.clone(),
    }
}

/// The bytes of an image's config.
pub(super) fn image_config_bytes(source: &ImageSource, manifest: &Digest) -> Option<Vec<u8>> {
    Some(open_cache(source).ok()?.documents(manifest).ok()??.config)
}

/// An image's config; nothing where it cannot be read.
pub(super) fn image_config(source: &ImageSource, manifest: &Digest) -> Value {
    image_config_bytes(source, manifest).and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// `docker inspect`: as docker does, what is found is shown although something else is not.
pub(super) fn inspect(names: &[String], kind: Option<ObjectKind>, format: Option<&str>, place: &Place) -> Result<ExitCode, Failure> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in names {
        match object(name, kind, place)? {
            Some(object) => found.push(object),
            None => missing.push(name),
        }
    }
    let text = match format {
        None => serde_json::to_string_pretty(&found).map(|text| text.replace("\n  ", "\n    ") + "\n").map_err(Failure::could_not_run)?,
        Some(format) => {
            let format = if format == "json" { "{{json .}}" } else { format };
            if asks_for_health(format) {
                found.iter_mut().filter_map(|object| object.get_mut("State")?.as_object_mut()).for_each(|state| {
                    state.insert("Health".to_owned(), Value::Null);
                });
            }
            let rendered = found.iter().map(|object| template::render(format, object).map(|line| line + "\n"));
            rendered.collect::<Result<String, _>>().map_err(not_rendered)?
        }
    };
    print(text.as_bytes())?;
    let Some(name) = missing.first() else { return Ok(ExitCode::SUCCESS) };
    let error = match kind {
        None => format!("Error: No such object: {name}"),
        Some(ObjectKind::Container) => format!("Error response from daemon: No such container: {name}"),
        Some(ObjectKind::Image) => format!("Error response from daemon: No such image: {name}"),
        Some(ObjectKind::Volume) => format!("Error response from daemon: get {name}: no such volume"),
        Some(ObjectKind::Network) => format!("Error response from daemon: network {name} not found"),
    };
    Err(Failure::could_not_run(error).with_code(ExitCode::FUNCTION_FAILED))
}

/// One that is no template ends with docker's own code.
fn not_rendered(error: template::TemplateError) -> Failure {
    let is_none = matches!(error, template::TemplateError::Form { .. } | template::TemplateError::Function { .. });
    Failure::could_not_run(error).with_code(if is_none { ExitCode::NO_TEMPLATE } else { ExitCode::FUNCTION_FAILED })
}

/// Whether a template asks whether there is health at all, which docker does not show where no check of it was asked for: it is nothing then, and no error.
fn asks_for_health(format: &str) -> bool {
    format.split(".State.Health").skip(1).any(|rest| !rest.starts_with('.'))
}

fn object(name: &str, kind: Option<ObjectKind>, place: &Place) -> Result<Option<Value>, Failure> {
    let is = |wanted| kind.is_none_or(|kind| kind == wanted);
    if is(ObjectKind::Container)
        && let Ok(run) = find(name, place)
        && let Ok(state) = run.state()
    {
        return Ok(Some(of_run(&run, &state, place)));
    }
    if is(ObjectKind::Image)
        && let Some(image) = super::images::object(name, place)?
    {
        return Ok(Some(image));
    }
    if is(ObjectKind::Volume) && volumes::names(place)?.iter().any(|own| own == name) {
        return Ok(Some(of_volume(name, place)));
    }
    Ok(if is(ObjectKind::Network) { networks::object(name, place) } else { None })
}

/// A run as docker shows a container.
fn of_run(run: &Run, state: &State, place: &Place) -> Value {
    let record = &run.record;
    let spec = &record.spec;
    let (path, arguments) = record.command.split_first().map_or(("", &[][..]), |(path, arguments)| (path.as_str(), arguments));
    let ports = ports(&state.ports);
    let network = spec.network.as_deref().unwrap_or("bridge");
    let is_alive = matches!(state.phase, Phase::Running | Phase::Paused);
    let shown = json!({
        "Id": record.id,
        "Created": record.created,
        "Path": path,
        "Args": arguments,
        "State": {
            "Status": state.phase.word(),
            "Running": is_alive,
            "Paused": state.phase == Phase::Paused,
            "Restarting": state.phase == Phase::Restarting,
            "OOMKilled": state.out_of_memory,
            "Dead": false,
            "Pid": state.pid,
            "ExitCode": state.exit_code,
            "Error": state.error,
            "StartedAt": or_never(&state.started),
            "FinishedAt": or_never(&state.finished),
        },
        "Image": record.image_id,
        "LogPath": log::path(run.folder()),
        "Name": format!("/{}", record.name),
        "RestartCount": state.restarts,
        "Driver": "undocked",
        "Platform": "linux",
        "Mounts": mounts(run, place),
        "Config": config(run, place),
        "HostConfig": host_config(run, network),
        "NetworkSettings": unset::with(
            json!({
                "Ports": ports,
                "Gateway": HOST_GATEWAY.to_string(),
                "Networks": {
                    network: unset::with(json!({ "Gateway": HOST_GATEWAY.to_string(), "Aliases": Value::Null }), unset::of_endpoint()),
                },
            }),
            unset::of_network_settings(),
        ),
    });
    unset::with(shown, unset::of_run())
}

fn or_never(time: &str) -> &str {
    if time.is_empty() { "0001-01-01T00:00:00Z" } else { time }
}

fn config(run: &Run, place: &Place) -> Value {
    let spec = &run.record.spec;
    let image = run.record.image_digest.parse().map(|digest| image_config(&place.images, &digest)).unwrap_or_default();
    let image = &image["config"];
    let given: Vec<String> = spec.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let is_given = |pair: &&Value| {
        let name = pair.as_str().and_then(|pair| pair.split('=').next()).unwrap_or_default();
        spec.variables.iter().any(|(own, _)| own == name)
    };
    let of_image =
        image["Env"].as_array().into_iter().flatten().filter(|pair| !is_given(pair)).filter_map(Value::as_str).map(str::to_owned);
    let variables: Vec<String> = given.iter().cloned().chain(of_image).collect();
    let mut labels: Map<String, Value> = image["Labels"].as_object().cloned().unwrap_or_default();
    labels.extend(spec.labels.iter().map(|(key, value)| (key.clone(), value.as_str().into())));
    let command = if spec.arguments.is_empty() && spec.entrypoint.is_none() { image["Cmd"].clone() } else { json!(spec.arguments) };
    let entrypoint = match &spec.entrypoint {
        Some(program) if program.is_empty() => Value::Null,
        Some(program) => json!([program]),
        None => image["Entrypoint"].clone(),
    };
    let mut shown = json!({
        "Hostname": spec.hostname.clone().unwrap_or_else(|| run.record.id[..12].to_owned()),
        "User": spec.user.clone().unwrap_or_default(),
        "Tty": spec.tty,
        "OpenStdin": spec.interactive,
        "Env": variables,
        "Cmd": command,
        "Image": spec.image,
        "WorkingDir": spec.working_dir.clone().map_or_else(|| image["WorkingDir"].clone(), Value::from),
        "Entrypoint": entrypoint,
        "Labels": labels,
        "ExposedPorts": exposed(spec, &image["ExposedPorts"]),
        "Volumes": image["Volumes"],
    });
    // As docker: what was not asked for is not shown.
    let signal = spec.stop_signal.and_then(|number| Signal::try_from(number).ok()).map(Signal::as_str);
    if let Some(signal) = signal.or(image["StopSignal"].as_str()) {
        shown["StopSignal"] = signal.into();
    }
    if let Some(seconds) = spec.stop_timeout {
        shown["StopTimeout"] = seconds.into();
    }
    unset::with(shown, unset::of_config())
}

fn host_config(run: &Run, network: &str) -> Value {
    let spec = &run.record.spec;
    let binds: Vec<String> = spec
        .mounts
        .iter()
        .map(|mount| format!("{}:{}:{}", mount_name(&mount.source), mount.target, if mount.read_only { "ro" } else { "rw" }))
        .collect();
    let restart = match spec.restart.when {
        Restart::No => "no",
        Restart::OnFailure => "on-failure",
        Restart::Always => "always",
        Restart::UnlessStopped => "unless-stopped",
    };
    let memory = spec.memory.as_deref().and_then(|text| text.parse::<crate::config::MemorySize>().ok()).map_or(0, |memory| memory.bytes());
    let ulimits: Vec<Value> =
        spec.ulimits.iter().map(|limit| json!({ "Name": limit.name, "Hard": limit.hard, "Soft": limit.soft })).collect();
    let resolver = |word: &str| -> Vec<&str> {
        let lines = spec.resolver.iter().filter_map(|line| line.strip_prefix(word));
        lines.flat_map(str::split_whitespace).collect()
    };
    let shown = json!({
        "Binds": binds,
        "NetworkMode": network,
        "PortBindings": bindings(spec),
        "RestartPolicy": { "Name": restart, "MaximumRetryCount": spec.restart.most },
        "AutoRemove": spec.remove,
        "ExtraHosts": spec.add_host,
        "Memory": memory,
        "NanoCpus": spec.cpu_micros.map_or(0, |micros| micros * 10_000),
        "Ulimits": ulimits,
        "Privileged": false,
        "ReadonlyRootfs": spec.read_only,
        "SecurityOpt": spec.security,
        "Init": spec.init,
        "PublishAllPorts": spec.publish_all,
        "Dns": resolver("nameserver"),
        "DnsSearch": resolver("search"),
        "DnsOptions": resolver("options"),
    });
    unset::with(shown, unset::of_host_config())
}

fn mounts(run: &Run, place: &Place) -> Vec<Value> {
    let shown = |mount: &crate::config::docker::MountSpec| {
        let (kind, source) = match &mount.source {
            VolumeSource::Bind(path) => ("bind", normal(path)),
            VolumeSource::Named(name) | VolumeSource::Anonymous(name) => {
                ("volume", place.volumes.clone().unwrap_or_default().join(name).join("_data"))
            }
        };
        let name = if kind == "volume" { mount_name(&mount.source) } else { String::new() };
        let mode = if mount.read_only { "ro" } else { "" };
        json!({ "Type": kind, "Name": name, "Source": source, "Destination": normal(mount.target.as_ref()), "Mode": mode, "RW": !mount.read_only, "Propagation": "rprivate" })
    };
    run.record.spec.mounts.iter().map(shown).collect()
}

/// As docker: a list for each port inside.
fn ports(ports: &[Published]) -> Value {
    let mut shown = Map::new();
    for port in ports {
        let list = shown.entry(format!("{}/{}", port.inside, port.protocol)).or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            list.push(json!({ "HostIp": port.ip, "HostPort": port.outside.to_string() }));
        }
    }
    shown.into()
}

/// Published ports as they were asked for: no address stands for all, and no port outside for any.
fn bindings(spec: &RunSpec) -> Value {
    let mut shown = Map::new();
    for port in published_ports(&spec.publish) {
        let list = shown.entry(format!("{}/{}", port.inside, port.protocol)).or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            let (ip, outside) = (port.outside.ip(), port.outside.port());
            let ip = if ip == Ipv6Addr::UNSPECIFIED { String::new() } else { ip.to_string() };
            let outside = if outside == 0 { String::new() } else { outside.to_string() };
            list.push(json!({ "HostIp": ip, "HostPort": outside }));
        }
    }
    shown.into()
}

/// The image's ports, those of `--expose` and those that are published.
fn exposed(spec: &RunSpec, of_image: &Value) -> Value {
    let mut shown: Map<String, Value> = of_image.as_object().cloned().unwrap_or_default();
    let named = spec.expose.iter().map(|port| if port.contains('/') { port.clone() } else { format!("{port}/tcp") });
    let published = published_ports(&spec.publish).into_iter().map(|port| format!("{}/{}", port.inside, port.protocol));
    shown.extend(named.chain(published).map(|port| (port, json!({}))));
    if shown.is_empty() { Value::Null } else { shown.into() }
}

fn of_volume(name: &str, place: &Place) -> Value {
    let folder = place.volumes.clone().unwrap_or_default().join(name).join("_data");
    let made = std::fs::metadata(&folder).and_then(|found| found.modified()).ok();
    let made = made.map(|time| chrono::DateTime::<chrono::Utc>::from(time).to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
    json!({ "CreatedAt": made, "Driver": "local", "Labels": Value::Null, "Mountpoint": folder, "Name": name, "Options": Value::Null, "Scope": "local" })
}
