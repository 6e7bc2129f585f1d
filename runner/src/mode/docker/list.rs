//! `ps` and `port`: what runs, and where.

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use serde_json::json;

use super::template::{self, Row};
use super::{ends, find, of_daemon, records};
use crate::config::docker::{Place, PsAsked, Show, VolumeSource};
use crate::exit_code::{ExitCode, Failure};
use crate::mode::images::human_duration;
use crate::mode::print;
use crate::records::control::{Answer, Order};
use crate::records::{Phase, Published, Run, State};

/// So much of a command is shown.
const COMMAND: usize = 20;

/// `docker ps`.
pub(super) fn run(asked: &PsAsked, place: &Place) -> Result<ExitCode, Failure> {
    asked.filters.iter().try_for_each(|(key, value)| known_filter(key, value))?;
    ends::sweep(place)?;
    let mut runs = Vec::new();
    for run in records(place)?.list().map_err(of_daemon)? {
        // One that goes meanwhile is not there.
        if let Ok(state) = run.state() {
            runs.push((run, state));
        }
    }
    among(&mut runs, &asked.filters, place)?;
    let asks_status = asked.filters.iter().any(|(key, _)| key == "status" || key == "exited");
    let all = asked.all || asked.last.is_some() || asks_status;
    runs.retain(|(_, state)| all || matches!(state.phase, Phase::Running | Phase::Paused | Phase::Restarting));
    let mut kept = Vec::new();
    for (run, state) in runs {
        if matches(&run, &state, &asked.filters) {
            kept.push((run, state));
        }
    }
    kept.truncate(asked.last.unwrap_or(usize::MAX));
    let rows = kept.iter().map(|(run, state)| row(run, state, asked.whole));
    let text = match &asked.show {
        Show::Quiet => kept.iter().map(|(run, _)| format!("{}\n", id(run, asked.whole))).collect(),
        Show::Table => template::table(
            "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
            &HEADINGS,
            rows,
        )?,
        Show::Format(format) => template::table(format, &HEADINGS, rows)?,
    };
    print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Keeps those made before or after the ones that `before` and `since` name; the newest stands first.
fn among(runs: &mut Vec<(Run, State)>, filters: &[(String, String)], place: &Place) -> Result<(), Failure> {
    for (key, value) in filters {
        let (before, since) = (key == "before", key == "since");
        if before || since {
            let named = find(value, place)?;
            let at = runs.iter().position(|(run, _)| run.record.id == named.record.id).unwrap_or(runs.len());
            if before { drop(runs.drain(..(at + 1).min(runs.len()))) } else { runs.truncate(at) }
        }
    }
    Ok(())
}

const HEADINGS: [(&str, &str); 12] = [
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("RunningFor", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Status", "STATUS"),
    ("State", "STATE"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("Networks", "NETWORKS"),
];

fn id(run: &Run, whole: bool) -> &str {
    if whole { &run.record.id } else { &run.record.id[..12] }
}

fn row(run: &Run, state: &State, whole: bool) -> Row {
    let record = &run.record;
    let command = record.command.join(" ");
    let command =
        if whole || command.chars().count() <= COMMAND { command } else { command.chars().take(COMMAND - 1).chain(['…']).collect() };
    let ago = format!("{} ago", ago(&record.created));
    let labels: Vec<String> = record.spec.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mounts: Vec<String> = record.spec.mounts.iter().map(|mount| super::objects::mount_name(&mount.source)).collect();
    let volumes = record.spec.mounts.iter().filter(|mount| !matches!(mount.source, VolumeSource::Bind(_))).count();
    let fields = json!({
        "ID": id(run, whole),
        "Image": record.spec.image,
        "Command": format!("\"{command}\""),
        "RunningFor": ago,
        "CreatedAt": created_at(&record.created),
        "Status": status(state),
        "State": state.phase.word(),
        "Ports": ports(&state.ports),
        "Names": record.name,
        "Labels": labels.join(","),
        "Mounts": mounts.join(","),
        "Networks": record.spec.network.as_deref().unwrap_or("bridge"),
        "LocalVolumes": volumes.to_string(),
        "Size": "0B",
    });
    Row { fields, labels: record.spec.labels.clone() }
}

fn created_at(text: &str) -> String {
    DateTime::parse_from_rfc3339(text).map(|time| time.to_utc().format("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()).unwrap_or_default()
}

fn ago(text: &str) -> String {
    let since = DateTime::parse_from_rfc3339(text).map_or(SystemTime::now(), |time| time.with_timezone(&Utc).into());
    human_duration(SystemTime::now().duration_since(since).unwrap_or_default())
}

fn status(state: &State) -> String {
    match state.phase {
        Phase::Created => "Created".to_owned(),
        Phase::Running => format!("Up {}", ago(&state.started)),
        Phase::Paused => format!("Up {} (Paused)", ago(&state.started)),
        Phase::Restarting => format!("Restarting ({}) {} ago", state.exit_code, ago(&state.finished)),
        Phase::Exited if state.finished.is_empty() => format!("Exited ({}) {} ago", state.exit_code, ago(&state.started)),
        Phase::Exited => format!("Exited ({}) {} ago", state.exit_code, ago(&state.finished)),
    }
}

fn ports(ports: &[Published]) -> String {
    let one = |port: &Published| format!("{}:{}->{}/{}", bracketed(&port.ip), port.outside, port.inside, port.protocol);
    ports.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn bracketed(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() }
}

/// Conditions with one key are alternatives, labels excepted; those with different keys must all hold.
fn matches(run: &Run, state: &State, filters: &[(String, String)]) -> bool {
    let (record, mut keys) = (&run.record, Vec::<&str>::new());
    for (key, _) in filters {
        if !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    for key in keys {
        let mut values = filters.iter().filter(|(own, _)| own == key).map(|(_, value)| value.as_str());
        let holds = match key {
            // Done already, where the others are known that they are compared with.
            "before" | "since" => true,
            "label" => values.all(|wanted| match wanted.split_once('=') {
                Some((name, value)) => record.spec.labels.get(name).is_some_and(|own| own == value),
                None => record.spec.labels.contains_key(wanted),
            }),
            "name" => values.any(|wanted| is_named(&record.name, wanted)),
            "id" => values.any(|wanted| record.id.starts_with(wanted)),
            "status" => values.any(|wanted| wanted == state.phase.word()),
            "exited" => values.any(|wanted| state.phase == Phase::Exited && wanted == state.exit_code.to_string()),
            "ancestor" => values.any(|wanted| is_of(run, wanted)),
            "network" => values.any(|wanted| record.spec.network.as_deref().unwrap_or("bridge") == wanted),
            "volume" => values.any(|wanted| {
                record.spec.mounts.iter().any(|mount| mount.target == wanted || super::objects::mount_name(&mount.source) == wanted)
            }),
            "publish" | "expose" => values.any(|wanted| {
                let port = wanted.split('/').next().unwrap_or_default();
                state.ports.iter().any(|own| own.outside.to_string() == port || own.inside.to_string() == port)
            }),
            // No check of health is ever made, and no run is a task of swarm's.
            "health" => values.any(|wanted| wanted == "none"),
            "is-task" => values.any(|wanted| matches!(wanted, "false" | "0")),
            // None that is known.
            _ => false,
        };
        if !holds {
            return false;
        }
    }
    true
}

/// Whether a name has this in it, or begins (`^`) or ends (`$`) with it; a `/` may stand before it.
fn is_named(name: &str, wanted: &str) -> bool {
    let (begins, wanted) = wanted.strip_prefix('^').map_or((false, wanted), |rest| (true, rest));
    let (begins, wanted) = wanted.strip_prefix('/').map_or((begins, wanted), |rest| (true, rest));
    match (begins, wanted.strip_suffix('$')) {
        (true, Some(wanted)) => name == wanted,
        (true, None) => name.starts_with(wanted),
        (false, Some(wanted)) => name.ends_with(wanted),
        (false, None) => name.contains(wanted),
    }
}

/// What runs can be chosen by.
fn known_filter(key: &str, value: &str) -> Result<(), Failure> {
    const STATES: [&str; 7] = ["created", "restarting", "running", "removing", "paused", "exited", "dead"];
    let wrong = match key {
        "label" | "name" | "id" | "ancestor" | "network" | "volume" | "publish" | "expose" => return Ok(()),
        "before" | "since" => return Ok(()),
        "health" if ["starting", "healthy", "unhealthy", "none"].contains(&value) => return Ok(()),
        "is-task" if ["true", "false", "1", "0"].contains(&value) => return Ok(()),
        "status" if STATES.contains(&value) => return Ok(()),
        "exited" if value.parse::<i64>().is_ok() => return Ok(()),
        "status" | "exited" | "health" | "is-task" => format!("invalid filter '{key}={value}'"),
        _ => format!("invalid filter '{key}'"),
    };
    Err(Failure::could_not_run(wrong).in_front("Error response from daemon").with_code(ExitCode::FUNCTION_FAILED))
}

fn is_of(run: &Run, image: &str) -> bool {
    let full = |text: &str| text.parse::<rootfs_cache::reference::ImageReference>().map(|reference| reference.to_string());
    let same = matches!((full(&run.record.spec.image), full(image)), (Ok(own), Ok(wanted)) if own == wanted);
    let digest = |own: &str| own.trim_start_matches("sha256:").starts_with(image.trim_start_matches("sha256:"));
    same || (image.len() >= 6 && digest(&run.record.image_id))
}

/// `docker port`.
pub(super) fn port(name: &str, wanted: Option<&str>, place: &Place) -> Result<ExitCode, Failure> {
    let run = find(name, place)?;
    let state = run.state().map_err(of_daemon)?;
    let address = |port: &Published| format!("{}:{}", bracketed(&port.ip), port.outside);
    let Some(wanted) = wanted else {
        let lines = state.ports.iter().map(|port| format!("{}/{} -> {}\n", port.inside, port.protocol, address(port)));
        print(lines.collect::<String>().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    };
    let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let found = state.ports.iter().filter(|port| port.inside.to_string() == number && port.protocol == protocol);
    let lines: String = found.map(|port| format!("{}\n", address(port))).collect();
    if lines.is_empty() {
        let error = format!("Error: No public port '{number}/{protocol}' published for {name}");
        return Err(Failure::could_not_run(error).with_code(ExitCode::FUNCTION_FAILED));
    }
    print(lines.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// `docker top`: the processes inside, as this machine sees them.
pub(super) fn top(name: &str, place: &Place) -> Result<ExitCode, Failure> {
    let run = find(name, place)?;
    let Answer::Processes(first) = ends::order(&run, &Order::Processes)? else { return Ok(ExitCode::SUCCESS) };
    let mut rows = vec!["UID\tPID\tPPID\tCMD".to_owned()];
    let (mut left, mut seen) = (first, Vec::new());
    while let Some(pid) = left.pop() {
        if seen.contains(&pid) {
            continue;
        }
        seen.push(pid);
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let status = read("status");
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_whitespace().next().unwrap_or_default().to_owned()
        };
        let words = read("cmdline").replace('\0', " ");
        // The first process is ours.
        if seen.len() > 1 {
            rows.push(format!("{}\t{pid}\t{}\t{}", value("Uid:"), value("PPid:"), words.trim_end()));
        }
        left.extend(read(&format!("task/{pid}/children")).split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    print(template::aligned(&rows).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
