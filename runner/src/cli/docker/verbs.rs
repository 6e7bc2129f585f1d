//! From a verb's words to what is done.

use std::time::Duration;

use super::flags::{Given, Verb};
use super::{images, number, run, signals};
use crate::cli::env::OwnEnvironment;
use crate::cli::usage::Ended;
use crate::cli::variables;
use crate::config::docker::{
    Attached, Copied, DockerCommand, ExecAsked, Filters, Lines, LogsAsked, ObjectKind, Place, PsAsked, Show, Signalled, Stopped, Stream,
};
use crate::exit_code::{ExitCode, Failure};

pub(super) fn command(verb: &Verb, given: &Given, own: &OwnEnvironment, place: &Place) -> Result<DockerCommand, Ended> {
    let words = || given.words.clone();
    let first = || given.words.first().cloned().unwrap_or_default();
    Ok(match verb.name {
        "run" => run::run(verb, given, own)?,
        "create" => run::create(verb, given, own)?,
        "start" => start(given),
        "ps" => ps(verb, given)?,
        "logs" => logs(verb, given)?,
        "attach" => {
            let pass_signals = given.last("sig-proxy").is_none_or(|value| value == "true");
            DockerCommand::Attach { run: first(), pass_signals, input: !given.is_on("no-stdin") }
        }
        "stop" => DockerCommand::Stop(stopped(verb, given)?),
        "restart" => DockerCommand::Restart(stopped(verb, given)?),
        "kill" => {
            let signal = given.last("signal").map_or(Ok(9), signals::number)?;
            DockerCommand::Kill(Signalled { runs: words(), signal })
        }
        "pause" | "unpause" => DockerCommand::Pause { runs: words(), resume: verb.name == "unpause" },
        "rm" => DockerCommand::Remove { runs: words(), force: given.is_on("force"), volumes: given.is_on("volumes") },
        "wait" => DockerCommand::Wait { runs: words() },
        "rename" => DockerCommand::Rename { run: first(), name: given.words.last().cloned().unwrap_or_default() },
        "port" => DockerCommand::Port { run: first(), port: given.words.get(1).cloned() },
        "top" => DockerCommand::Top { run: first() },
        "exec" => exec(given, own)?,
        "cp" => copy(given)?,
        "inspect" => DockerCommand::Inspect { names: words(), kind: kind(given)?, format: given.text("format") },
        "container inspect" => inspect(given, ObjectKind::Container),
        "image inspect" => inspect(given, ObjectKind::Image),
        "volume inspect" => inspect(given, ObjectKind::Volume),
        "network inspect" => inspect(given, ObjectKind::Network),
        "version" => DockerCommand::Version { format: given.text("format") },
        "pull" => DockerCommand::Pull { images: words(), platform: given.text("platform"), quiet: given.is_on("quiet") },
        "container prune" => DockerCommand::Prune,
        "volume create" => volume_create(given)?,
        "volume ls" => DockerCommand::VolumeList { show: show(given), filters: filters(given)? },
        "volume rm" => DockerCommand::VolumeRemove { names: words(), force: given.is_on("force") },
        "network create" => network_create(given)?,
        "network rm" => DockerCommand::NetworkRemove { names: words(), force: given.is_on("force") },
        "network prune" => DockerCommand::NetworkPrune,
        "network ls" => DockerCommand::NetworkList { show: show(given), filters: filters(given)?, whole: given.is_on("no-trunc") },
        "image prune" => DockerCommand::PruneImages { all: given.is_on("all") },
        "system prune" => DockerCommand::PruneSystem { all: given.is_on("all") },
        "images" | "rmi" | "tag" | "save" | "load" => images::command(verb, given, place),
        _ => DockerCommand::Info { format: given.text("format") },
    })
}

fn inspect(given: &Given, kind: ObjectKind) -> DockerCommand {
    DockerCommand::Inspect { names: given.words.clone(), kind: Some(kind), format: given.text("format") }
}

fn start(given: &Given) -> DockerCommand {
    let (attach, interactive) = (given.is_on("attach"), given.is_on("interactive"));
    let mut streams = Vec::new();
    if attach {
        streams.extend([Stream::Stdout, Stream::Stderr]);
    }
    if interactive {
        streams.extend([Stream::Stdin, Stream::Stdout, Stream::Stderr]);
    }
    let attached = (attach || interactive).then_some(Attached { streams, pass_signals: true });
    DockerCommand::Start { runs: given.words.clone(), attached }
}

fn show(given: &Given) -> Show {
    match given.last("format") {
        Some("table") | None if given.is_on("quiet") => Show::Quiet,
        Some("table") | None => Show::Table,
        Some(format) => Show::Format(format.to_owned()),
    }
}

/// `--filter KEY=VALUE`.
fn filters(given: &Given) -> Result<Filters, Failure> {
    let one = |text: &str| match text.split_once('=') {
        Some((key, value)) => Ok((key.to_ascii_lowercase(), value.to_owned())),
        None => {
            let error =
                format!("invalid argument {text:?} for \"-f, --filter\" flag: invalid filter '{text}': must be in KEY=VALUE format");
            Err(Failure::could_not_run(error))
        }
    };
    given.all("filter").map(one).collect()
}

fn ps(verb: &Verb, given: &Given) -> Result<DockerCommand, Ended> {
    let last = match (given.last("last"), given.is_on("latest")) {
        (_, true) => Some(1),
        // Docker's default is -1, for all.
        (Some(text), false) => usize::try_from(number::<i64>(verb, "last", text)?).ok().filter(|last| *last > 0),
        (None, false) => None,
    };
    Ok(DockerCommand::Ps(PsAsked {
        all: given.is_on("all"),
        last,
        show: show(given),
        whole: given.is_on("no-trunc"),
        filters: filters(given)?,
    }))
}

fn logs(verb: &Verb, given: &Given) -> Result<DockerCommand, Ended> {
    let tail = match given.last("tail") {
        None | Some("all") => None,
        // A negative number is all of them.
        Some(text) => usize::try_from(number::<i64>(verb, "tail", text)?).ok(),
    };
    Ok(DockerCommand::Logs(LogsAsked {
        run: given.words.first().cloned().unwrap_or_default(),
        follow: given.is_on("follow"),
        lines: Lines { tail, since: given.text("since"), until: given.text("until") },
        timestamps: given.is_on("timestamps"),
    }))
}

fn stopped(verb: &Verb, given: &Given) -> Result<Stopped, Ended> {
    let seconds = given.last("timeout").or_else(|| given.last("time"));
    let patience = match seconds {
        None => None,
        Some(text) => Some(u64::try_from(number::<i64>(verb, "timeout", text)?).ok().map(Duration::from_secs)),
    };
    let signal = given.last("signal").map(signals::number).transpose()?;
    Ok(Stopped { runs: given.words.clone(), signal, patience })
}

fn exec(given: &Given, own: &OwnEnvironment) -> Result<DockerCommand, Ended> {
    let Some((run, command)) = given.words.split_first() else { return Err(Failure::usage("CONTAINER is missing").into()) };
    let flags: Vec<_> = given.all("env").map(Into::into).collect();
    let files: Vec<_> = given.all("env-file").map(Into::into).collect();
    let variables = variables::given(&flags, &files, own).map_err(Failure::could_not_run)?;
    let variables = variables.into_iter().map(|(name, value)| (name, value.to_string_lossy().into_owned())).collect();
    if let Some(user) = given.last("user") {
        let error = format!("`docker exec --user {user}` is not supported: there is one user inside");
        if !matches!(user, "root" | "0" | "0:0" | "root:root") {
            return Err(Failure::could_not_run(error).into());
        }
    }
    Ok(DockerCommand::Exec(ExecAsked {
        run: run.clone(),
        command: command.to_vec(),
        variables,
        working_dir: given.text("workdir"),
        user: given.text("user"),
        detach: given.is_on("detach"),
        interactive: given.is_on("interactive"),
        tty: given.is_on("tty"),
    }))
}

/// `RUN:PATH`, `-`, or a path here: what begins with a dot or a slash is one, whatever follows.
fn copied(text: &str) -> Copied {
    if text == "-" {
        return Copied::Stream;
    }
    match text.split_once(':') {
        Some((run, path)) if !run.is_empty() && !text.starts_with(['/', '.']) => {
            Copied::Inside { run: run.to_owned(), path: path.to_owned() }
        }
        _ => Copied::Host(text.into()),
    }
}

fn copy(given: &Given) -> Result<DockerCommand, Ended> {
    let [from, to] = given.words.as_slice() else { return Err(Failure::usage("two paths are wanted").into()) };
    let (from, to) = (copied(from), copied(to));
    let failed = |text: &str| Err(Failure::could_not_run(text).with_code(ExitCode::FUNCTION_FAILED).into());
    match (&from, &to) {
        (Copied::Inside { .. }, Copied::Inside { .. }) => failed("copying between containers is not supported"),
        (Copied::Inside { .. }, _) | (_, Copied::Inside { .. }) => Ok(DockerCommand::Copy { from, to, follow: given.is_on("follow-link") }),
        _ => failed("must specify at least one container source"),
    }
}

fn kind(given: &Given) -> Result<Option<ObjectKind>, Failure> {
    Ok(match given.last("type") {
        None | Some("") => None,
        Some("container") => Some(ObjectKind::Container),
        Some("image") => Some(ObjectKind::Image),
        Some("volume") => Some(ObjectKind::Volume),
        Some("network") => Some(ObjectKind::Network),
        Some(other) => {
            return Err(Failure::could_not_run(format!("\"{other}\" is not a valid value for --type")).with_code(ExitCode::FUNCTION_FAILED));
        }
    })
}

fn network_create(given: &Given) -> Result<DockerCommand, Failure> {
    match given.last("driver") {
        None | Some("bridge") => {
            Ok(DockerCommand::NetworkCreate { name: given.words.first().cloned().unwrap_or_default(), labels: run::labels(given)? })
        }
        Some(other) => {
            Err(Failure::could_not_run(format!("`--driver {other}` is not supported: networks are private ones of a run's own")))
        }
    }
}

fn volume_create(given: &Given) -> Result<DockerCommand, Failure> {
    match given.last("driver") {
        None | Some("local") => Ok(DockerCommand::VolumeCreate { name: given.words.first().cloned().or_else(|| given.text("name")) }),
        Some(other) => Err(Failure::could_not_run(format!("`--driver {other}` is not supported: volumes are folders of the cache's"))),
    }
}
