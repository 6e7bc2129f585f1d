//! From the words of `docker run` and `docker create` to a [`RunSpec`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::flags::{Given, Verb};
use super::mounts;
use crate::cli::env::OwnEnvironment;
use crate::cli::usage::Ended;
use crate::cli::variables;
use crate::config::MemorySize;
use crate::config::docker::{Attached, DockerCommand, Pulling, Restart, RestartPolicy, RunSpec, Stream, Ulimit};
use crate::exit_code::{ExitCode, Failure};

/// `docker run`.
pub(super) fn run(verb: &Verb, given: &Given, own: &OwnEnvironment) -> Result<DockerCommand, Ended> {
    let spec = spec(verb, given, own)?;
    if given.is_on("detach") && given.last("attach").is_some() {
        return Err(Failure::could_not_run("conflicting options: cannot specify both --attach and --detach").into());
    }
    let attached = if given.is_on("detach") { None } else { Some(attached(verb, given, spec.interactive)?) };
    Ok(DockerCommand::Run {
        spec: Box::new(spec),
        name: name(given),
        id_file: given.last("cidfile").map(PathBuf::from),
        attached,
        quiet: given.is_on("quiet"),
        volumes_from: volumes_from(given)?,
    })
}

/// `--name`; an empty one is none, as scripts give it.
fn name(given: &Given) -> Option<String> {
    given.text("name").filter(|name| !name.is_empty())
}

/// `docker create`.
pub(super) fn create(verb: &Verb, given: &Given, own: &OwnEnvironment) -> Result<DockerCommand, Ended> {
    Ok(DockerCommand::Create {
        spec: Box::new(spec(verb, given, own)?),
        name: name(given),
        id_file: given.last("cidfile").map(PathBuf::from),
        quiet: given.is_on("quiet"),
        volumes_from: volumes_from(given)?,
    })
}

fn spec(verb: &Verb, given: &Given, own: &OwnEnvironment) -> Result<RunSpec, Ended> {
    let Some((image, arguments)) = given.words.split_first() else { return Err(Failure::usage("IMAGE is missing").into()) };
    let current_dir = std::env::current_dir().map_err(Failure::could_not_run)?;
    let shown = mounts::read(given, &current_dir)?;
    let files: Vec<PathBuf> = given.all("env-file").map(PathBuf::from).collect();
    let flags: Vec<_> = given.all("env").map(Into::into).collect();
    let variables = variables::given(&flags, &files, own).map_err(Failure::could_not_run)?;
    let as_text = |(name, value): (String, std::ffi::OsString)| {
        let value = value.into_string().map_err(|_| Failure::could_not_run(format!("the value of `{name}` is not UTF-8")))?;
        Ok::<_, Failure>((name, value))
    };
    let remove = given.is_on("rm");
    let restart = restart(given)?;
    if remove && restart.when != Restart::No {
        return Err(Failure::could_not_run("conflicting options: cannot specify both --restart and --rm").into());
    }
    refuse_values(given)?;
    Ok(RunSpec {
        image: image.clone(),
        arguments: arguments.to_vec(),
        entrypoint: given.text("entrypoint"),
        variables: variables.into_iter().map(as_text).collect::<Result<_, _>>()?,
        mounts: shown.mounts,
        working_dir: given.text("workdir"),
        user: given.text("user"),
        hostname: given.text("hostname"),
        network: given.text("network").or_else(|| given.text("net")),
        // `:8080` is any free port, as is `8080`.
        publish: given.all("publish").map(|port| port.strip_prefix(':').unwrap_or(port).to_owned()).collect(),
        publish_all: given.is_on("publish-all"),
        expose: given.texts("expose"),
        add_host: given.texts("add-host"),
        resolver: resolver(given),
        memory: size(verb, given, "memory")?,
        tmp_size: shown.tmp_size,
        tmp_in_memory: shown.tmp_in_memory,
        cpu_micros: cpus(verb, given)?,
        ulimits: ulimits(verb, given)?,
        labels: labels(given)?,
        restart,
        stop_signal: given
            .last("stop-signal")
            .map(super::signals::number)
            .transpose()
            .map_err(|wrong| wrong.with_code(ExitCode::COULD_NOT_RUN))?,
        stop_timeout: given.last("stop-timeout").map(|text| super::number(verb, "stop-timeout", text)).transpose()?,
        read_only: given.is_on("read-only"),
        init: given.is_on("init"),
        remove,
        tty: given.is_on("tty"),
        interactive: given.is_on("interactive") || given.all("attach").any(|stream| stream.eq_ignore_ascii_case("stdin")),
        security: security(given, &current_dir),
        platform: given.text("platform"),
        pull: pulling(given)?,
    })
}

/// Values that are refused, where others of the same option are not.
fn refuse_values(given: &Given) -> Result<(), Ended> {
    let refuse = |text: String| Err(Failure::could_not_run(text).into());
    match given.last("log-driver") {
        None | Some("json-file" | "local") => {}
        Some(other) => return refuse(format!("`--log-driver {other}` is not supported: logs are files, as `json-file` has them")),
    }
    match given.last("runtime") {
        None | Some("runc" | "") => {}
        Some(other) => return refuse(format!("`--runtime {other}` is not supported: there is one, which is this program")),
    }
    Ok(())
}

fn attached(verb: &Verb, given: &Given, interactive: bool) -> Result<Attached, Ended> {
    let pass_signals = given.last("sig-proxy").is_none_or(|value| value == "true");
    let mut streams = Vec::new();
    for name in given.all("attach") {
        streams.push(match name.to_ascii_lowercase().as_str() {
            "stdin" => Stream::Stdin,
            "stdout" => Stream::Stdout,
            "stderr" => Stream::Stderr,
            _ => {
                return Err(
                    verb.wrong(&format!("invalid argument {name:?} for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR"))
                );
            }
        });
    }
    if streams.is_empty() {
        streams = vec![Stream::Stdout, Stream::Stderr];
        if interactive {
            streams.push(Stream::Stdin);
        }
    }
    Ok(Attached { streams, pass_signals })
}

/// A size as docker writes it: bytes, or with `b`, `k`, `m`, `g`.
fn size(verb: &Verb, given: &Given, name: &'static str) -> Result<Option<String>, Ended> {
    let Some(text) = given.last(name) else { return Ok(None) };
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    // 0 is no limit.
    if number.parse::<f64>().is_ok_and(|number| number == 0.0) {
        return Ok(None);
    }
    match text.parse::<MemorySize>() {
        Ok(_) => Ok(Some(text.to_owned())),
        Err(_) => Err(verb.wrong(&format!("invalid argument {text:?} for \"-m, --memory\" flag: invalid size: '{text}'"))),
    }
}

fn cpus(verb: &Verb, given: &Given) -> Result<Option<u64>, Ended> {
    let Some(text) = given.last("cpus") else { return Ok(None) };
    match text.parse::<f64>() {
        Ok(0.0) => Ok(None),
        Ok(number) if number > 0.0 && number <= 10_000.0 => Ok(Some((number * 100_000.0) as u64)),
        _ => Err(verb.wrong(&format!("invalid argument {text:?} for \"--cpus\" flag: failed to parse {text} as a rational number"))),
    }
}

fn ulimits(verb: &Verb, given: &Given) -> Result<Vec<Ulimit>, Ended> {
    let mut limits: Vec<Ulimit> = Vec::new();
    for text in given.all("ulimit") {
        let limit: Ulimit =
            text.parse().map_err(|error| verb.wrong(&format!("invalid argument {text:?} for \"--ulimit\" flag: {error}")))?;
        limits.retain(|other| other.name != limit.name);
        limits.push(limit);
    }
    Ok(limits)
}

/// `--label` and `--label-file`.
pub(super) fn labels(given: &Given) -> Result<BTreeMap<String, String>, Failure> {
    let mut lines = Vec::new();
    for path in given.all("label-file") {
        let text = std::fs::read_to_string(path).map_err(|error| Failure::could_not_run(format!("open {path}: {error}")))?;
        lines.extend(text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned));
    }
    lines.extend(given.texts("label"));
    let pair = |line: String| line.split_once('=').map_or((line.clone(), String::new()), |(key, value)| (key.to_owned(), value.to_owned()));
    Ok(lines.into_iter().map(pair).collect())
}

fn restart(given: &Given) -> Result<RestartPolicy, Failure> {
    let Some(text) = given.last("restart") else { return Ok(RestartPolicy::default()) };
    let (name, most) = text.split_once(':').map_or((text, None), |(name, most)| (name, Some(most)));
    let when = match name {
        "no" | "" => Restart::No,
        "on-failure" => Restart::OnFailure,
        "always" => Restart::Always,
        "unless-stopped" => Restart::UnlessStopped,
        _ => {
            return Err(Failure::could_not_run(format!(
                "invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            )));
        }
    };
    let most = match most {
        None => 0,
        Some(most) if when == Restart::OnFailure => {
            most.parse().map_err(|_| Failure::could_not_run("invalid restart policy format: maximum retry count must be an integer"))?
        }
        Some(_) => return Err(Failure::could_not_run("invalid restart policy: maximum retry count can only be used with 'on-failure'")),
    };
    Ok(RestartPolicy { when, most })
}

fn pulling(given: &Given) -> Result<Pulling, Failure> {
    match given.last("pull") {
        None | Some("missing") => Ok(Pulling::Missing),
        Some("always") => Ok(Pulling::Always),
        Some("never") => Ok(Pulling::Never),
        Some(other) => {
            Err(Failure::could_not_run(format!("invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\"")))
        }
    }
}

/// The lines of `/etc/resolv.conf`.
fn resolver(given: &Given) -> Vec<String> {
    let servers = given.all("dns").map(|server| format!("nameserver {server}"));
    let search: Vec<&str> = given.all("dns-search").collect();
    let options: Vec<&str> = given.all("dns-option").collect();
    let line = |word: &str, values: Vec<&str>| (!values.is_empty()).then(|| format!("{word} {}", values.join(" ")));
    servers.chain(line("search", search)).chain(line("options", options)).collect()
}

/// A policy's file is found from anywhere.
fn security(given: &Given, current_dir: &Path) -> Vec<String> {
    let absolute = |option: &str| match option.split_once(['=', ':']) {
        Some(("seccomp", file)) if !matches!(file, "unconfined" | "builtin") => format!("seccomp={}", current_dir.join(file).display()),
        _ => option.to_owned(),
    };
    given.all("security-opt").map(absolute).collect()
}

/// `--volumes-from RUN[:ro|rw]`.
fn volumes_from(given: &Given) -> Result<Vec<(String, bool)>, Failure> {
    let one = |text: &str| match text.rsplit_once(':') {
        None => Ok((text.to_owned(), false)),
        Some((run, "ro")) => Ok((run.to_owned(), true)),
        Some((run, "rw" | "z" | "Z")) => Ok((run.to_owned(), false)),
        Some((_, mode)) => Err(Failure::could_not_run(format!("invalid mode: {mode}"))),
    };
    given.all("volumes-from").map(one).collect()
}
