//! Networks that were made: names in the cache. Each run that asks for one has a private network of its own, as with docker's bridge; runs do not reach each other.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};

use rootfs_cache::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::about::listed;
use super::template::Row;
use super::{each, of_daemon, records};
use crate::config::docker::{Filters, Place, Show};
use crate::exit_code::{ExitCode, Failure};
use crate::mode::print;
use crate::records::{Phase, now};
use crate::sandbox::HOST_GATEWAY;

/// The networks that are always there, as (name, driver).
const BUILT_IN: [(&str, &str); 3] = [("bridge", "bridge"), ("host", "host"), ("none", "null")];
/// What a network that nobody made was made at.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// What is known of a network that was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Made {
    created: String,
    labels: BTreeMap<String, String>,
}

/// One network.
struct Network {
    name: String,
    driver: &'static str,
    /// Nothing for those that are always there.
    made: Option<Made>,
}

impl Network {
    fn is(&self, name: &str) -> bool {
        self.name == name || (name.len() >= 6 && id(&self.name).starts_with(name))
    }
}

/// An id of the right form, which is always the same.
pub(super) fn id(name: &str) -> String {
    Digest::of(format!("undocked network {name}").as_bytes()).hex().to_string()
}

fn all(place: &Place) -> Vec<Network> {
    let built_in = BUILT_IN.iter().map(|(name, driver)| Network { name: (*name).to_owned(), driver, made: None });
    let entries = place.networks().and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let one = |entry: fs::DirEntry| {
        let made = fs::read(entry.path()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())?;
        Some(Network { name: entry.file_name().into_string().ok()?, driver: "bridge", made: Some(made) })
    };
    let mut networks: Vec<Network> = built_in.chain(entries.filter_map(one)).collect();
    networks.sort_by(|one, other| one.name.cmp(&other.name));
    networks
}

/// `docker network create`.
pub(super) fn create(name: &str, labels: &BTreeMap<String, String>, place: &Place) -> Result<ExitCode, Failure> {
    let taken = || refused(format!("network with name {name} already exists"));
    if all(place).iter().any(|network| network.name == name) {
        return Err(taken());
    }
    let folder = place.networks().ok_or_else(|| Failure::could_not_run("there is no place for networks"))?;
    let path = place.network(name).ok_or_else(|| refused(format!("invalid network name \"{name}\"")))?;
    let made = serde_json::to_vec(&Made { created: now(), labels: labels.clone() }).map_err(Failure::could_not_run)?;
    let written = fs::create_dir_all(folder).and_then(|()| File::create_new(&path)).and_then(|mut file| file.write_all(&made));
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => taken(),
        _ => Failure::could_not_run(format!("cannot write `{}`: {error}", path.display())),
    })?;
    print(format!("{}\n", id(name)).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// `docker network rm`: of those that were made, and that no run that lives asked for.
pub(super) fn remove(names: &[String], force: bool, place: &Place) -> Result<ExitCode, Failure> {
    each(names, |name| {
        let networks = all(place);
        let Some(network) = networks.iter().find(|network| network.is(name)) else {
            // Docker's `--force` takes what is not there for removed.
            return if force { Ok(None) } else { Err(refused(format!("network {name} not found"))) };
        };
        if network.made.is_none() {
            return Err(refused(format!("{} is a pre-defined network and cannot be removed", network.name)));
        }
        if let Some(run) = users(&network.name, place)?.first() {
            let id = id(&network.name);
            return Err(refused(format!("error while removing network: network {name} id {id} has active endpoints (name:\"{run}\")")));
        }
        take_away(&network.name, place)?;
        Ok(Some(name.to_owned()))
    })
}

/// `docker network prune`.
pub(super) fn prune(place: &Place) -> Result<ExitCode, Failure> {
    let mut gone = String::new();
    for network in all(place).iter().filter(|network| network.made.is_some()) {
        if users(&network.name, place)?.is_empty() {
            take_away(&network.name, place)?;
            gone += &format!("{}\n", network.name);
        }
    }
    if !gone.is_empty() {
        print(format!("Deleted Networks:\n{gone}\n").as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn take_away(name: &str, place: &Place) -> Result<(), Failure> {
    let Some(path) = place.network(name) else { return Ok(()) };
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Failure::could_not_run(format!("cannot remove `{}`: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

/// The names of runs that live and asked for this network.
fn users(name: &str, place: &Place) -> Result<Vec<String>, Failure> {
    let runs = records(place)?.list().map_err(of_daemon)?;
    let lives = |phase| matches!(phase, Phase::Running | Phase::Paused | Phase::Restarting);
    let uses =
        |run: &&crate::records::Run| run.record.spec.network.as_deref() == Some(name) && run.state().is_ok_and(|state| lives(state.phase));
    Ok(runs.iter().filter(uses).map(|run| run.record.name.clone()).collect())
}

fn refused(what: String) -> Failure {
    Failure::could_not_run(what).in_front("Error response from daemon").with_code(ExitCode::FUNCTION_FAILED)
}

/// `docker network ls`.
pub(super) fn list(show: &Show, filters: &Filters, whole: bool, place: &Place) -> Result<ExitCode, Failure> {
    let labels = |network: &Network| network.made.as_ref().map(|made| made.labels.clone()).unwrap_or_default();
    let wanted = |network: &Network| {
        filters.iter().all(|(key, value)| match key.as_str() {
            "name" => network.name.contains(value.as_str()),
            "id" => id(&network.name).starts_with(value.as_str()),
            "driver" => network.driver == value,
            "label" => match value.split_once('=') {
                Some((key, value)) => labels(network).get(key).is_some_and(|own| own == value),
                None => labels(network).contains_key(value),
            },
            "type" => value == if network.made.is_some() { "custom" } else { "builtin" },
            _ => true,
        })
    };
    let row = |network: Network| {
        let id = id(&network.name);
        let id = if whole { id.as_str() } else { &id[..12] };
        let labels = labels(&network);
        let shown: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let fields = json!({ "ID": id, "Name": network.name, "Driver": network.driver, "Scope": "local", "Labels": shown.join(",") });
        Row { fields, labels }
    };
    let headings = [("ID", "NETWORK ID"), ("Name", "NAME"), ("Driver", "DRIVER"), ("Scope", "SCOPE"), ("Labels", "LABELS")];
    let rows = all(place).into_iter().filter(wanted).map(row);
    listed(show, "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}", "{{.ID}}", &headings, rows)
}

/// A network in docker's shape. The gateway is the address by which this machine is reached from inside.
pub(super) fn object(name: &str, place: &Place) -> Option<Value> {
    let network = all(place).into_iter().find(|network| network.is(name))?;
    let pools = if network.driver == "bridge" {
        json!([{ "Subnet": format!("{HOST_GATEWAY}/24"), "Gateway": HOST_GATEWAY.to_string() }])
    } else {
        json!([])
    };
    let made = network.made.unwrap_or_else(|| Made { created: NEVER.to_owned(), labels: BTreeMap::new() });
    Some(json!({
        "Name": network.name,
        "Id": id(&network.name),
        "Created": made.created,
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv6": false,
        "IPAM": { "Driver": "default", "Options": Value::Null, "Config": pools },
        "Internal": false,
        "Attachable": false,
        "Ingress": false,
        "Containers": {},
        "Options": {},
        "Labels": made.labels,
    }))
}
