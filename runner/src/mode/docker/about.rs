//! `version`, `info`, and lists of volumes and networks.

use serde_json::{Value, json};

use super::{networks, of_daemon, records, template, volumes};
use crate::config::docker::{Filters, Place, Show};
use crate::exit_code::{ExitCode, Failure};
use crate::mode::print;
use crate::records::Phase;

/// The version of docker's API that tools compare with.
const API: &str = "1.50";

fn engine() -> Value {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    json!({
        "Platform": { "Name": "undocked" },
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": API,
        "MinAPIVersion": "1.24",
        "Os": "linux",
        "Arch": architecture(),
        "KernelVersion": kernel,
        "BuildTime": "",
        "GitCommit": "",
        "GoVersion": "",
        "Experimental": false,
    })
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `docker version`.
pub(super) fn version(format: Option<&str>) -> Result<ExitCode, Failure> {
    let engine = engine();
    let mut client = engine.clone();
    client["Context"] = "default".into();
    let both = json!({ "Client": client, "Server": engine });
    let text = match format {
        // The field's name; in JSON it is another.
        Some(format) => rendered(&format.replace(".APIVersion", ".ApiVersion"), &both)?,
        None => {
            let part = |name: &str| {
                format!(
                    "{name}: undocked\n Version:           {}\n API version:       {API}\n OS/Arch:           linux/{}\n",
                    env!("CARGO_PKG_VERSION"),
                    architecture()
                )
            };
            format!("{}\n{}", part("Client"), part("Server"))
        }
    };
    print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn rendered(format: &str, value: &Value) -> Result<String, Failure> {
    let format = if format == "json" { "{{json .}}" } else { format };
    let text = template::render(format, value).map_err(|error| Failure::could_not_run(error).with_code(ExitCode::FUNCTION_FAILED))?;
    Ok(text + "\n")
}

/// `docker info`.
pub(super) fn info(format: Option<&str>, place: &Place) -> Result<ExitCode, Failure> {
    let runs = records(place)?.list().map_err(of_daemon)?;
    let count = |wanted: Phase| runs.iter().filter(|run| run.state().is_ok_and(|state| state.phase == wanted)).count();
    let (running, paused) = (count(Phase::Running), count(Phase::Paused));
    let images = crate::mode::open_cache(&place.images)?.images().map_or(0, |images| images.len());
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory =
        memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) * 1024;
    let value = json!({
        "ID": networks::id(&name),
        "Containers": runs.len(),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": runs.len() - running - paused,
        "Images": images,
        "Driver": "undocked",
        "LoggingDriver": "json-file",
        "CgroupDriver": "none",
        "CgroupVersion": "2",
        "Debug": false,
        "ExperimentalBuild": false,
        "LiveRestoreEnabled": false,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Labels": [],
        "SystemTime": crate::records::now(),
        "KernelVersion": rustix::system::uname().release().to_string_lossy(),
        "OperatingSystem": "undocked",
        "OSType": "linux",
        "Architecture": std::env::consts::ARCH,
        "NCPU": processors,
        "MemTotal": memory,
        "DockerRootDir": place.images.cache,
        "Name": name,
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"],
        "Runtimes": { "undocked": { "path": "undocked" } },
        "DefaultRuntime": "undocked",
        "Swarm": { "LocalNodeState": "inactive" },
        "Warnings": Value::Null,
        "ClientInfo": { "Context": "default", "Plugins": [] },
    });
    let text = match format {
        Some(format) => rendered(format, &value)?,
        None => format!(
            "Client: undocked\n Version:    {0}\n\nServer:\n Containers: {1}\n  Running: {running}\n  Paused: {paused}\n  Stopped: {2}\n Images: {images}\n Server Version: {0}\n OSType: linux\n Architecture: {3}\n CPUs: {processors}\n Name: {name}\n",
            env!("CARGO_PKG_VERSION"),
            runs.len(),
            runs.len() - running - paused,
            std::env::consts::ARCH,
        ),
    };
    print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// `docker volume ls`.
pub(super) fn list_volumes(show: &Show, filters: &Filters, place: &Place) -> Result<ExitCode, Failure> {
    let wanted = |name: &String| filters.iter().all(|(key, value)| key != "name" || name.contains(value.as_str()));
    let names: Vec<String> = volumes::names(place)?.into_iter().filter(wanted).collect();
    let rows = names.iter().map(|name| json!({ "Driver": "local", "Name": name, "Scope": "local", "Labels": "", "Mountpoint": "" }));
    let headings = [("Driver", "DRIVER"), ("Name", "VOLUME NAME"), ("Scope", "SCOPE"), ("Labels", "LABELS"), ("Mountpoint", "MOUNTPOINT")];
    listed(show, "table {{.Driver}}\t{{.Name}}", "{{.Name}}", &headings, rows)
}

/// A list as `show` asks for it.
pub(super) fn listed(
    show: &Show,
    table: &str,
    quiet: &str,
    headings: &[(&str, &str)],
    rows: impl Iterator<Item = impl Into<template::Row>>,
) -> Result<ExitCode, Failure> {
    let format = match show {
        Show::Table => table,
        Show::Quiet => quiet,
        Show::Format(format) => format,
    };
    print(template::table(format, headings, rows)?.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
