//! What docker's verbs do: runs with records of their own, whoever started them.

mod about;
mod capture;
mod copy;
mod daemon;
mod desk;
mod detach_keys;
mod ends;
mod exec;
mod functions;
mod images;
mod list;
mod logs;
mod networks;
mod objects;
mod plain;
mod roots;
mod start;
mod supervise;
pub(in crate::mode) mod template;
pub mod terminal;
mod unset;
mod volumes;

pub use daemon::as_docker_tells;

use std::io::Write as _;

use crate::config::docker::{DockerCommand, Place, RunSpec, SpecError};
use crate::config::{NetworkError, RunConfig, Talk};
use crate::exit_code::{ExitCode, Failure};
use crate::records::{Records, RecordsError, Run};

/// Does what a verb says.
pub fn run(command: &DockerCommand, place: &Place) -> Result<ExitCode, Failure> {
    match command {
        DockerCommand::Run { spec, name, id_file, attached, quiet, volumes_from } => {
            if spec.tty && spec.interactive && attached.is_some() {
                terminal::expect()?;
            }
            let new = start::New { spec, name: name.as_deref(), id_file: id_file.as_deref(), quiet: *quiet, volumes_from };
            start::run(&new, attached.as_ref(), place).map_err(|failure| failure.in_front("docker"))
        }
        DockerCommand::Create { spec, name, id_file, quiet, volumes_from } => {
            let new = start::New { spec, name: name.as_deref(), id_file: id_file.as_deref(), quiet: *quiet, volumes_from };
            start::create(&new, place)
        }
        DockerCommand::Start { runs, attached } => start::start(runs, attached.as_ref(), place),
        DockerCommand::Supervise { id } => start::supervise(id, place),
        DockerCommand::Ps(asked) => list::run(asked, place),
        DockerCommand::Logs(asked) => logs::run(asked, place),
        DockerCommand::Attach { run, pass_signals, input } => logs::attach(run, *pass_signals, *input, place),
        DockerCommand::Stop(asked) => ends::stop(asked, place),
        DockerCommand::Restart(asked) => ends::restart(asked, place),
        DockerCommand::Kill(asked) => ends::kill(asked, place),
        DockerCommand::Pause { runs, resume } => ends::pause(runs, *resume, place),
        DockerCommand::Remove { runs, force, volumes } => ends::remove(runs, (*force, *volumes), place),
        DockerCommand::Wait { runs } => ends::wait(runs, place),
        DockerCommand::Rename { run, name } => ends::rename(run, name, place),
        DockerCommand::Port { run, port } => list::port(run, port.as_deref(), place),
        DockerCommand::Copy { from, to, follow } => copy::run((from, to), *follow, place),
        DockerCommand::Top { run } => list::top(run, place),
        DockerCommand::Exec(asked) => exec::run(asked, place),
        DockerCommand::Inspect { names, kind, format } => objects::inspect(names, *kind, format.as_deref(), place),
        DockerCommand::Version { format } => about::version(format.as_deref()),
        DockerCommand::Info { format } => about::info(format.as_deref(), place),
        DockerCommand::Pull { images, platform, quiet } => images::pull_images(images, (platform.as_deref(), *quiet), place),
        DockerCommand::VolumeCreate { name } => volumes::create(name.as_deref(), place),
        DockerCommand::VolumeList { show, filters } => about::list_volumes(show, filters, place),
        DockerCommand::VolumeRemove { names, force } => volumes::remove(names, *force, place),
        DockerCommand::NetworkCreate { name, labels } => networks::create(name, labels, place),
        DockerCommand::NetworkRemove { names, force } => networks::remove(names, *force, place),
        DockerCommand::NetworkPrune => networks::prune(place),
        DockerCommand::NetworkList { show, filters, whole } => networks::list(show, filters, *whole, place),
        DockerCommand::Prune => ends::prune(place).and_then(|()| reclaimed(0)),
        DockerCommand::PruneImages { all } => images::prune(*all, place).and_then(reclaimed),
        DockerCommand::PruneSystem { all } => prune(*all, place),
        DockerCommand::Images(config) => super::images::list(config).map_err(images::of_docker),
        DockerCommand::RemoveImages(config) => images::remove(config),
        DockerCommand::Tag(config) => images::tag(config),
        DockerCommand::Save(config) => images::save(config),
        DockerCommand::Load(config) => images::load(config),
    }
}

/// `docker system prune`: runs that have ended, networks that none asks for, images.
fn prune(all: bool, place: &Place) -> Result<ExitCode, Failure> {
    ends::prune(place)?;
    networks::prune(place)?;
    reclaimed(images::prune(all, place)?)
}

/// The last line of what prunes.
fn reclaimed(bytes: u64) -> Result<ExitCode, Failure> {
    super::print(format!("Total reclaimed space: {}\n", super::images::human_size(bytes)).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The records of this user.
fn records(place: &Place) -> Result<Records, Failure> {
    let folder = place.records.as_deref().ok_or_else(|| {
        let hint = "set `XDG_RUNTIME_DIR` to a folder of your own";
        Failure::could_not_run("there is no place for records of runs").with_hint(Some(hint.to_owned()))
    })?;
    Records::open(folder).map_err(of_daemon)
}

/// What docker's daemon would have said, in its words: scripts look for them.
fn of_daemon(error: RecordsError) -> Failure {
    let is_its = !matches!(error, RecordsError::NotOurs { .. } | RecordsError::Form { .. } | RecordsError::Io { .. });
    let failure = Failure::could_not_run(error);
    let failure = if is_its { failure.in_front("Error response from daemon") } else { failure };
    failure.with_code(ExitCode::FUNCTION_FAILED)
}

fn find(name: &str, place: &Place) -> Result<Run, Failure> {
    records(place)?.find(name).map_err(of_daemon)
}

/// The run that a spec asks for.
fn config_of(spec: &RunSpec, place: &Place, talk: Talk) -> Result<RunConfig, Failure> {
    spec.config(place, talk).map_err(|error| match error {
        SpecError::Network(NetworkError::Network { network }) if network.starts_with("container:") => {
            Failure::could_not_run(format!("`--network {network}` is not supported: each run has a network of its own"))
        }
        SpecError::Network(NetworkError::Network { network }) => {
            let hint = format!("`docker network create {network}` makes it");
            Failure::could_not_run(format!("Error response from daemon: network {network} not found.")).with_hint(Some(hint))
        }
        error => {
            let hint = error.hint();
            Failure::could_not_run(error).with_hint(hint)
        }
    })
}

/// Does something to each of several runs, prints what came of it, and says what failed. As docker does, it goes on after a failure.
fn each(names: &[String], mut act: impl FnMut(&str) -> Result<Option<String>, Failure>) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    for name in names {
        match act(name) {
            Ok(Some(line)) => super::print(format!("{line}\n").as_bytes())?,
            Ok(None) => {}
            Err(failure) => {
                say(&failure);
                code = ExitCode::FUNCTION_FAILED;
            }
        }
    }
    Ok(code)
}

/// A failure that is not the last word.
fn say(failure: &Failure) {
    let hint = failure.hint().map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
    // Nobody may be reading.
    let _ = std::io::stderr().write_all(format!("{failure}\n{hint}").as_bytes());
}
