//! What to execute for an image, and with which handler and event: read from the image's config and the arguments after its name, never from the name.
//!
//! Four families: docker-lambda's server `init` as entrypoint, for which we stand in; a runtime that starts that server as a helper; any other entrypoint,
//! which is a runtime client or starts one; and no entrypoint at all, a plain command. Knows nothing of how anything is executed.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;

use super::variables::Sources;
use crate::function::UnknownEntrypoint;

mod init;
mod legacy;
mod signs;

pub use legacy::stand_in;

/// What to execute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// The first program of `candidates` that exists is a Runtime API client.
    Bootstrap {
        /// Absolute paths inside, in order.
        candidates: Vec<String>,
        /// Its arguments.
        arguments: Vec<String>,
        /// The handler, perhaps only docker-lambda's default name.
        handler: String,
        /// The event.
        event: Event,
    },
    /// A command line that is, or becomes, a Runtime API client.
    Entrypoint {
        /// The command line.
        argv: Vec<String>,
        /// The handler, when it is known.
        handler: Option<String>,
        /// The event.
        event: Event,
    },
    /// A command line that starts docker-lambda's server as a helper, for which [`stand_in`] is shown, and asks the Runtime API where that would be.
    Legacy {
        /// The command line.
        argv: Vec<String>,
        /// The handler, when it is known.
        handler: Option<String>,
        /// The event.
        event: Event,
    },
    /// A command line that is no function: it keeps our standard streams, and its exit code is ours.
    Plain {
        /// The command line.
        argv: Vec<String>,
    },
}

/// Where the event comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// These bytes, passed on as they are.
    Bytes(Vec<u8>),
    /// All of our standard input.
    Stdin,
}

/// What decides on the entry.
#[derive(Debug, Clone, Copy)]
pub struct EntryRequest<'a> {
    /// The arguments after IMAGE.
    pub arguments: &'a [OsString],
    /// The entrypoint asked for in place of the image's; empty for none.
    pub entrypoint: Option<&'a OsStr>,
    /// The image's entrypoint.
    pub image_entrypoint: &'a [String],
    /// The image's default arguments.
    pub image_cmd: &'a [String],
    /// What it is if it shows no sign of Lambda.
    pub unknown: UnknownEntrypoint,
    /// Whether the image holds docker-lambda's server as a helper of an old language runner ([`LEGACY_SERVER`]).
    pub has_legacy_server: bool,
    /// Variables and settings.
    pub sources: Sources<'a>,
}

/// The helper that docker-lambda's images of the oldest runtimes start by themselves.
pub const LEGACY_SERVER: &str = "var/runtime/mockserver";

/// Where Lambda looks for a function's own runtime.
pub(super) const TASK_BOOTSTRAPS: [&str; 2] = ["/var/task/bootstrap", "/opt/bootstrap"];

/// Why there is nothing to execute.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// Docker-lambda's server knows no such flag.
    #[error("unknown flag `{flag}` for this image")]
    UnknownFlag {
        /// The flag as given.
        flag: String,
    },
    /// A flag of docker-lambda's server lacks its value.
    #[error("the flag `{flag}` of this image needs a value")]
    FlagValue {
        /// The flag as given.
        flag: String,
    },
    /// `--bootstrap-args` must be a JSON array of strings.
    #[error("`--bootstrap-args` is not a JSON array of strings")]
    BootstrapArguments {
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// More than handler and event.
    #[error("unexpected argument `{argument}` after the event")]
    TooManyArguments {
        /// The first one too many.
        argument: String,
    },
    /// Handlers and commands are text.
    #[error("the argument `{}` is not UTF-8", argument.display())]
    NotText {
        /// The argument.
        argument: OsString,
    },
    /// Neither image nor command line say what to run.
    #[error("no command given, and the image has neither entrypoint nor default command")]
    NoCommand,
    /// Known, and not in this release.
    #[error("{what} comes with a later release")]
    NotYet {
        /// What was asked for.
        what: String,
    },
}

impl EntryError {
    /// Whether another command line would help, whatever the image.
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::NoCommand | Self::NotYet { .. })
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownFlag { .. } | Self::FlagValue { .. } => Some(
                "flags of this image: `--bootstrap PATH`, `--bootstrap-args JSON`, `--enable-msg-logs`; our own options stand before IMAGE"
                    .to_owned(),
            ),
            Self::TooManyArguments { .. } => Some("HANDLER and EVENT are one argument each: quote an event that holds spaces".to_owned()),
            Self::NoCommand => Some("write the command after IMAGE".to_owned()),
            _ => None,
        }
    }
}

/// Decides what to execute.
pub fn entry(request: &EntryRequest<'_>) -> Result<Entry, EntryError> {
    if let Some(program) = request.entrypoint {
        if is_emulator(&program.to_string_lossy()) {
            return emulated(program, request);
        }
        return plain([program.to_owned()].iter().filter(|program| !program.is_empty()).chain(request.arguments), &[]);
    }
    if request.image_entrypoint.is_empty() {
        return plain(request.arguments.iter(), request.image_cmd);
    }
    if request.unknown == UnknownEntrypoint::Command && !is_of_lambda(request) {
        return command(request);
    }
    if request.sources.setting("DOCKER_LAMBDA_NO_BOOTSTRAP").is_some() {
        return Err(EntryError::NotYet { what: "`DOCKER_LAMBDA_NO_BOOTSTRAP`: waiting for a runtime of your own".to_owned() });
    }
    if init::is_server(request.image_entrypoint) {
        return init::entry(request);
    }
    if request.has_legacy_server {
        return legacy::entry(request);
    }
    client(request)
}

fn is_of_lambda(request: &EntryRequest<'_>) -> bool {
    init::is_server(request.image_entrypoint)
        || request.has_legacy_server
        || signs::of_a_function(request.image_entrypoint, request.sources.image)
}

/// The image's entrypoint as docker runs it: with the arguments, or else with the image's own.
fn command(request: &EntryRequest<'_>) -> Result<Entry, EntryError> {
    let image_cmd: Vec<OsString> = request.image_cmd.iter().map(OsString::from).collect();
    let arguments = if request.arguments.is_empty() { image_cmd.as_slice() } else { request.arguments };
    let program: Vec<OsString> = request.image_entrypoint.iter().map(OsString::from).collect();
    plain(program.iter().chain(arguments), &[])
}

fn plain<'a>(argv: impl Iterator<Item = &'a OsString>, default: &[String]) -> Result<Entry, EntryError> {
    let argv: Vec<String> = argv.map(text).collect::<Result<_, _>>()?;
    match (argv.is_empty(), default.is_empty()) {
        (false, _) => Ok(Entry::Plain { argv }),
        (true, false) => Ok(Entry::Plain { argv: default.to_vec() }),
        (true, true) => Err(EntryError::NoCommand),
    }
}

/// Any entrypoint but docker-lambda's: it takes the handler as its argument. An empty HANDLER stands for the image's own default arguments.
fn client(request: &EntryRequest<'_>) -> Result<Entry, EntryError> {
    let (handler, event) = positionals(request.arguments)?;
    if let Some(argument) = request.arguments.get(2) {
        return Err(EntryError::TooManyArguments { argument: argument.to_string_lossy().into_owned() });
    }
    let event = choose_event(event, &request.sources);
    let handler = handler.filter(|handler| !handler.is_empty()).or_else(|| set_handler(&request.sources));
    let mut argv = without_emulator(request.image_entrypoint).to_vec();
    match &handler {
        Some(handler) => argv.push(handler.clone()),
        None => argv.extend_from_slice(request.image_cmd),
    }
    if argv.is_empty() {
        let candidates = TASK_BOOTSTRAPS.iter().chain(&["/var/runtime/bootstrap"]).map(|&path| path.to_owned()).collect();
        return Ok(Entry::Bootstrap { candidates, arguments: Vec::new(), handler: handler.unwrap_or_default(), event });
    }
    let only_cmd = match request.image_cmd {
        [only] => Some(only.clone()),
        _ => None,
    };
    Ok(Entry::Entrypoint { argv, handler: handler.or(only_cmd), event })
}

/// `--entrypoint .../aws-lambda-rie IMAGE COMMAND...`, as AWS's guide has it for images without the emulator: the command is the runtime client, and we are the
/// emulator, wherever it was to come from. As there the last of several words is the handler.
fn emulated(program: &OsStr, request: &EntryRequest<'_>) -> Result<Entry, EntryError> {
    let words: Vec<String> = std::iter::once(&program.to_owned()).chain(request.arguments).map(text).collect::<Result<_, _>>()?;
    let argv = without_emulator(&words).to_vec();
    let handler = match argv.as_slice() {
        [] => return Err(EntryError::NoCommand),
        [_] => set_handler(&request.sources),
        [.., last] => Some(last.clone()),
    };
    Ok(Entry::Entrypoint { argv, handler, event: choose_event(None, &request.sources) })
}

fn is_emulator(program: &str) -> bool {
    program.rsplit('/').next() == Some("aws-lambda-rie")
}

/// AWS's Runtime Interface Emulator at the start of an entrypoint does what we do: it is left out, with its flags.
fn without_emulator(entrypoint: &[String]) -> &[String] {
    const FLAGS_WITH_VALUE: [&str; 3] = ["--log-level", "--runtime-api-address", "--runtime-interface-emulator-address"];
    let [program, rest @ ..] = entrypoint else { return entrypoint };
    if !is_emulator(program) {
        return entrypoint;
    }
    let mut rest = rest;
    while let [flag, after @ ..] = rest
        && flag.starts_with("--")
    {
        rest = if FLAGS_WITH_VALUE.contains(&flag.as_str()) { after.get(1..).unwrap_or_default() } else { after };
    }
    rest
}

/// HANDLER and EVENT.
fn positionals(arguments: &[OsString]) -> Result<(Option<String>, Option<OsString>), EntryError> {
    let handler = arguments.first().map(text).transpose()?;
    Ok((handler, arguments.get(1).cloned()))
}

fn set_handler(sources: &Sources<'_>) -> Option<String> {
    let value = sources.setting("AWS_LAMBDA_FUNCTION_HANDLER").or_else(|| sources.setting("_HANDLER"));
    value.map(|handler| handler.to_string_lossy().into_owned())
}

/// The argument, even an empty one; else the variable; else stdin if asked for; else `{}`. No event is ever checked.
fn choose_event(argument: Option<OsString>, sources: &Sources<'_>) -> Event {
    match argument {
        Some(dash) if dash == "-" => return Event::Stdin,
        Some(event) => return Event::Bytes(event.into_vec()),
        None => {}
    }
    if let Some(event) = sources.setting("AWS_LAMBDA_EVENT_BODY") {
        return Event::Bytes(event.to_owned().into_vec());
    }
    if sources.setting("DOCKER_LAMBDA_USE_STDIN").is_some() { Event::Stdin } else { Event::Bytes(b"{}".to_vec()) }
}

fn text(argument: &OsString) -> Result<String, EntryError> {
    argument.to_str().map(str::to_owned).ok_or_else(|| EntryError::NotText { argument: argument.clone() })
}

#[cfg(test)]
mod tests;
