//! From the options of `undocked serve` to a [`ServeConfig`].

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{AccessFlags, access};

use super::args::{EventArgs, ImageAndArguments, SandboxArgs, ServeArgs};
use super::env::OwnEnvironment;
use super::run;
use crate::config::{
    self, BetweenEvents, Changes, DescribedFunction, Destination, Ending, EventsConfig, Keeping, ParseDestinationError, RunConfig,
    ServeConfig, ServedFunction, ServedNames, Surplus,
};
use crate::exit_code::Failure;

/// Where the Invoke API listens unless told otherwise: where docker-lambda's does, for this machine alone.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9001);
/// As many as a new function gets on AWS at the least, so that one client with several threads is not refused.
const CONCURRENCY: NonZeroUsize = NonZeroUsize::new(10).expect("not zero");

pub(super) fn config(args: ServeArgs, own: &OwnEnvironment) -> Result<ServeConfig, Failure> {
    let surplus = if args.queue { Surplus::Wait } else { Surplus::Refuse };
    let concurrency = args.concurrency.unwrap_or(CONCURRENCY);
    let (functions, names) = match (&args.config, args.image) {
        (Some(_), Some(_)) => {
            return Err(Failure::usage("both IMAGE and `--config` say what is served").with_hint(Some("give one of them".to_owned())));
        }
        (Some(file), None) => (described(file, &args.sandbox, concurrency, own)?, ServedNames::Own),
        (None, image) => {
            let run = run::sandbox(args.sandbox, image, own)?;
            // Flags of the image may stand before its handler.
            let has_flags = run.arguments.first().is_some_and(|first| first.as_encoded_bytes().starts_with(b"-"));
            if let Some(argument) = run.arguments.get(1).filter(|_| !has_flags) {
                let error = format!("unexpected argument `{}` after the handler", argument.display());
                return Err(Failure::usage(error).with_hint(Some("events come from clients".to_owned())));
            }
            (vec![ServedFunction { run, concurrency }], ServedNames::Any)
        }
    };
    let mut listen = args.listen.iter().map(|text| address("--listen", text)).collect::<Result<Vec<_>, _>>()?;
    if listen.is_empty() {
        listen.push(LISTEN);
    }
    let keeping = Keeping {
        idle: seconds("--idle", args.idle)?.unwrap_or(run::STAYS),
        between: if args.freeze { BetweenEvents::Freeze } else { BetweenEvents::GoOn },
        changes: if args.watch { Changes::Restart } else { Changes::Ignore },
    };
    let described_by = args.config.map(|file| std::path::absolute(&file).unwrap_or(file));
    let events = EventsConfig { described_by, ..events(args.events, own)? };
    let url = args.url.map(|text| address("--url", &text)).transpose()?;
    if url.is_some() && functions.len() > 1 {
        let hint = "serve it by itself, or invoke the functions by their names";
        return Err(Failure::usage("`--url` is for one function, and the file has several").with_hint(Some(hint.to_owned())));
    }
    let ending = if args.until_stdin_ends { Ending::WithStdin } else { Ending::Signals };
    Ok(ServeConfig { functions, names, surplus, listen, url, keeping, events, ending })
}

fn events(args: EventArgs, own: &OwnEnvironment) -> Result<EventsConfig, Failure> {
    if let Some(retries) = args.retries.filter(|retries| *retries > 2) {
        return Err(Failure::usage(format!("`--retries {retries}` is more than Lambda's 2")));
    }
    Ok(EventsConfig {
        folder: args.events.map(|events| folder("--events", events)).transpose()?.or_else(|| own.events()),
        described_by: None,
        retries: args.retries,
        retry_delay: seconds("--retry-delay", args.retry_delay)?,
        max_age: seconds("--max-event-age", args.max_event_age)?,
        on_failure: destination("--on-failure", args.on_failure)?,
        on_success: destination("--on-success", args.on_success)?,
        dead_letter: destination("--dead-letter", args.dead_letter)?,
    })
}

fn destination(option: &str, given: Option<String>) -> Result<Option<Destination>, Failure> {
    let parsed = given
        .map(|text| text.parse().map_err(|error: ParseDestinationError| Failure::usage(format!("`{option}`: {error}"))))
        .transpose()?;
    Ok(match parsed {
        Some(Destination::Folder(path)) => Some(Destination::Folder(folder(option, path)?)),
        other => other,
    })
}

/// A folder that can be written to, or made. Otherwise the first event would find that out, whose client has gone by then.
fn folder(option: &str, path: PathBuf) -> Result<PathBuf, Failure> {
    // We may be told to work in another folder, and the next server of this kind is.
    let path = std::path::absolute(&path).unwrap_or(path);
    let refuse = |what: String, hint: &str| Failure::usage(format!("`{option}`: {what}")).with_hint(Some(hint.to_owned()));
    let Some(there) = path.ancestors().find(|folder| folder.exists()) else { return Ok(path) };
    if !there.is_dir() {
        let hint = match option {
            "--events" => "give a folder, which is made where there is none",
            _ => "each record is a file of its own: give a folder, which is made where there is none, or a URL",
        };
        return Err(refuse(format!("`{}` is no folder", there.display()), hint));
    }
    match access(there, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => Ok(path),
        Err(errno) => {
            let what = format!("cannot write to the folder `{}`: {}", there.display(), std::io::Error::from(errno));
            Err(refuse(what, "give one that you may write to"))
        }
    }
}

/// The functions of a file, each on top of the options given for all.
fn described(file: &Path, shared: &SandboxArgs, concurrency: NonZeroUsize, own: &OwnEnvironment) -> Result<Vec<ServedFunction>, Failure> {
    let functions = config::functions(file).map_err(|error| {
        let hint = error.hint();
        Failure::usage(error).with_hint(hint)
    })?;
    // With a dot in front, so that `code` in a file of another folder is a path and no volume's name.
    let folder = Path::new(".").join(file.parent().unwrap_or(Path::new("")));
    let one = |(name, function): (String, DescribedFunction)| {
        let concurrency = function.concurrency.unwrap_or(concurrency);
        let run = described_run(&name, &function, &folder, shared, own)
            .map_err(|failure| failure.in_front(&format!("`{}`: function `{name}`", file.display())))?;
        Ok(ServedFunction { run, concurrency })
    };
    functions.into_iter().map(one).collect()
}

fn described_run(
    name: &str,
    function: &DescribedFunction,
    folder: &Path,
    shared: &SandboxArgs,
    own: &OwnEnvironment,
) -> Result<RunConfig, Failure> {
    let mut args = shared.clone();
    let pair = |name: &str, value: &str| OsString::from(format!("{name}={value}"));
    let of_function = function.env.iter().map(|(name, value)| pair(name, &value.to_string()));
    args.variables = std::iter::once(pair("AWS_LAMBDA_FUNCTION_NAME", name)).chain(of_function).chain(args.variables).collect();
    if let Some(code) = &function.code {
        let mut volume = folder.join(code).into_os_string();
        volume.push(":/var/task:ro");
        args.volumes.insert(0, volume);
    }
    args.layers.extend(function.layers.iter().map(|layer| folder.join(layer)));
    args.memory = function.memory().or(args.memory);
    args.timeout = function.timeout.as_ref().map(ToString::to_string).or(args.timeout);
    let words = std::iter::once(image(&function.image, folder)).chain(function.handler.iter().map(OsString::from));
    run::sandbox(args, Some(ImageAndArguments::Given(words.collect())), own)
}

/// What a file calls an image: the path of a layout or an archive is relative to the file's folder, as all others there.
fn image(text: &str, folder: &Path) -> OsString {
    let local = ["oci:", "oci-archive:", "docker-archive:"].into_iter().find_map(|kind| Some((kind, text.strip_prefix(kind)?)));
    local.map_or_else(|| text.into(), |(kind, place)| [OsStr::new(kind), folder.join(place).as_os_str()].into_iter().collect())
}

/// `[IP:]PORT`; an address of IPv6 is in brackets.
fn address(option: &str, text: &str) -> Result<SocketAddr, Failure> {
    let port_alone = text.strip_prefix(':').unwrap_or(text).parse().ok().map(|port: u16| SocketAddr::new(LISTEN.ip(), port));
    let named = || text.strip_prefix("localhost:").and_then(|port| Some(SocketAddr::new(LISTEN.ip(), port.parse().ok()?)));
    port_alone.or_else(named).or_else(|| text.parse().ok()).ok_or_else(|| {
        let hint = "a port, such as `9001`, or an address and a port, such as `0.0.0.0:9001`";
        Failure::usage(format!("`{option} {text}` is not of the form [IP:]PORT")).with_hint(Some(hint.to_owned()))
    })
}

fn seconds(option: &str, given: Option<f64>) -> Result<Option<Duration>, Failure> {
    /// A year.
    const MOST: f64 = 365.0 * 24.0 * 3600.0;
    match given {
        Some(seconds) if !(0.0..=MOST).contains(&seconds) => Err(Failure::usage(format!("`{option} {seconds}` is no time in seconds"))),
        given => Ok(given.map(Duration::from_secs_f64)),
    }
}
