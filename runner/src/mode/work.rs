//! Decides on a run: from its configuration and the image to what is executed where, with which variables, and what for.

use std::path::{Path, PathBuf};

use rootfs_cache::reference::ImageReference;
use rootfs_cache::rootfs::Rootfs;

use crate::config::RunConfig;
use crate::environment::connections::ApiPort;
use crate::environment::entry::{self, Entry, EntryError, EntryRequest, Event, LEGACY_SERVER};
use crate::environment::host::{self, HostFunction};
use crate::environment::identity::ImageRoot;
use crate::environment::variables::{self, EnvVars, SessionToken, Setup, Sources, Unique};
use crate::exit_code::Failure;
use crate::function::{Function, UnknownEntrypoint};
use crate::lambda::RuntimeVersion;
use crate::mode::inside::{Needs, Userland};
use crate::mode::pull;
use crate::report::CarriageReturns;
use crate::sandbox::Command;

/// What this machine's userland has in place of an image's entrypoint: docker-lambda's server, which finds the function's own `bootstrap`.
const HOST_ENTRYPOINT: &str = "/var/runtime/init";

/// A run, decided: what is executed where, and what for.
pub(super) struct Work {
    /// Where it runs.
    pub(super) userland: Userland<'static>,
    /// What is executed.
    pub(super) command: Command,
    /// Its variables; a function's lack the Runtime API's address.
    pub(super) variables: EnvVars,
    pub(super) purpose: Purpose,
    /// What it needs there.
    pub(super) needs: Needs,
    /// What the user should know about the choice.
    pub(super) note: Option<String>,
    /// The variables of the image's config, which may hold switches.
    pub(super) image_variables: Vec<(String, String)>,
    /// The image, as Lambda tells the version of a managed runtime: its name, and its digest in the place of the runtime's.
    pub(super) runtime_version: Option<RuntimeVersion>,
}

pub(super) enum Purpose {
    /// A function's one invocation.
    Function { function: Box<Function>, event: Event, carriage_returns: CarriageReturns, image: ImageKind, api_port: ApiPort },
    /// A command line of the user's.
    Plain,
}

/// What a function's image expects to be asked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ImageKind {
    /// It has docker-lambda's server, or none at all.
    DockerLambda,
    /// It starts a runtime client, or AWS's emulator, which listens on port 8080.
    Client,
}

/// Decides on a run; the image is pulled if that is asked for.
pub(super) fn of(config: &RunConfig) -> Result<Work, Failure> {
    match &config.image {
        ImageReference::Host => on_host(config),
        image => in_image(config, pull::find(image, &config.images, config.talk)?),
    }
}

/// Decides on a run in an image.
fn in_image(config: &RunConfig, rootfs: Rootfs) -> Result<Work, Failure> {
    let image = ImageRoot::open(rootfs.path()).map_err(Failure::could_not_run)?;
    let of_image = rootfs.config();
    let sources = Sources { given: &config.variables, own_settings: &config.own_settings, image: &of_image.env };
    let entry = entry::entry(&EntryRequest {
        arguments: &config.arguments,
        entrypoint: config.entrypoint.as_deref(),
        image_entrypoint: of_image.entrypoint.as_deref().unwrap_or_default(),
        image_cmd: of_image.cmd.as_deref().unwrap_or_default(),
        unknown: config.unknown_entrypoint,
        has_legacy_server: image.holds(LEGACY_SERVER),
        sources,
    });
    let Decided { command, variables, purpose, needs } = decide(config, sources, variables::Userland::Image, entry.map_err(no_entry)?)?;
    let image_variables = of_image.env.clone();
    let named = config.image.to_string();
    let name = named.split('@').next().unwrap_or_default().rsplit('/').next().unwrap_or_default().to_owned();
    let region = sources.setting("AWS_REGION").map_or_else(|| "us-east-1".into(), |region| region.to_string_lossy());
    // Docker-lambda's tags are the names of runtimes.
    let name = match name.strip_prefix("lambda:").and_then(|runtime| Some((runtime, runtime.find(|c: char| c.is_ascii_digit())?))) {
        Some((runtime, version)) => format!("{}:{}", &runtime[..version], &runtime[version..]),
        None => name,
    };
    let arn = format!("arn:aws:lambda:{region}::runtime:{}", rootfs.manifest_digest().hex());
    let runtime_version = Some(RuntimeVersion { name, arn });
    Ok(Work { userland: Userland::Image(rootfs, image), command, variables, purpose, needs, note: None, image_variables, runtime_version })
}

/// Decides on a run in this machine's own userland.
fn on_host(config: &RunConfig) -> Result<Work, Failure> {
    let sources = Sources { given: &config.variables, own_settings: &config.own_settings, image: &[] };
    let entry = entry::entry(&EntryRequest {
        arguments: &config.arguments,
        entrypoint: config.entrypoint.as_deref(),
        image_entrypoint: &[HOST_ENTRYPOINT.to_owned()],
        image_cmd: &[],
        unknown: UnknownEntrypoint::Function,
        has_legacy_server: false,
        sources,
    });
    let mut entry = entry.map_err(no_entry)?;
    let (root, interpreter_dir, note) = match &mut entry {
        Entry::Bootstrap { handler, candidates, arguments, .. } => {
            let task = config.volumes.iter().find(|volume| volume.target == Path::new("/var/task")).map(|volume| volume.source.as_path());
            let layers = layer_folders(config);
            let function = HostFunction { handler, task, layers: &layers, search_path: &config.search_path };
            let run = host::choose(&function).map_err(|error| {
                let hint = error.hint();
                Failure::could_not_run(error).with_hint(hint)
            })?;
            if let Some([program, options @ ..]) = run.client.as_deref() {
                (*candidates, *arguments) = (vec![program.clone()], options.to_vec());
            }
            (run.root, run.interpreter_dir, run.note)
        }
        Entry::Entrypoint { .. } | Entry::Legacy { .. } | Entry::Plain { .. } => (host::plain_root(), None, None),
    };
    let userland = variables::Userland::Host { interpreter_dir: interpreter_dir.as_deref() };
    let Decided { command, variables, purpose, needs } = decide(config, sources, userland, entry)?;
    Ok(Work {
        userland: Userland::Host(root),
        command,
        variables,
        purpose,
        needs,
        note,
        image_variables: Vec::new(),
        runtime_version: None,
    })
}

/// The host folders that make up `/opt`.
fn layer_folders(config: &RunConfig) -> Vec<PathBuf> {
    let opt = config.volumes.iter().filter(|volume| volume.target == Path::new("/opt")).map(|volume| volume.source.clone());
    config.layers.iter().cloned().chain(opt).collect()
}

struct Decided {
    command: Command,
    variables: EnvVars,
    purpose: Purpose,
    needs: Needs,
}

/// From the entry to what is executed, with which variables.
fn decide(config: &RunConfig, sources: Sources<'_>, userland: variables::Userland<'_>, entry: Entry) -> Result<Decided, Failure> {
    let image = if matches!(entry, Entry::Entrypoint { .. }) { ImageKind::Client } else { ImageKind::DockerLambda };
    let (mut helpers, mut api_port) = (Vec::new(), ApiPort::Any);
    let (command, handler, event, session_token) = match entry {
        Entry::Plain { argv } => {
            let limits = config.cpu.limits(config.memory, config.memory.unwrap_or(variables::DEFAULT_MEMORY));
            let (command, variables) = (Command::Line(argv), variables::plain(&sources));
            return Ok(Decided { command, variables, purpose: Purpose::Plain, needs: Needs { limits, helpers } });
        }
        Entry::Bootstrap { candidates, arguments, handler, event } => {
            (Command::FirstOf { candidates, arguments }, Some(handler), event, SessionToken::WhenKnown)
        }
        Entry::Entrypoint { argv, handler, event } => (Command::Line(argv), handler, event, SessionToken::Always),
        Entry::Legacy { argv, handler, event } => {
            (helpers, api_port) = (vec![entry::stand_in()], ApiPort::BuiltIn);
            (Command::Line(argv), handler, event, SessionToken::WhenKnown)
        }
    };
    let setup = Setup { sources, userland, handler: handler.as_deref(), session_token, memory: config.memory, timeout: config.timeout };
    let (function, variables) = variables::function(&setup, &Unique::new()).map_err(Failure::usage)?;
    let keep = sources.setting("DOCKER_LAMBDA_NO_MODIFY_LOGS").is_some();
    let carriage_returns = if keep { CarriageReturns::Keep } else { CarriageReturns::ToLineFeeds };
    let limits = config.cpu.limits(variables::memory_limit(&setup), function.memory);
    let purpose = Purpose::Function { function: Box::new(function), event, carriage_returns, image, api_port };
    Ok(Decided { command, variables, purpose, needs: Needs { limits, helpers } })
}

fn no_entry(error: EntryError) -> Failure {
    let hint = error.hint();
    let failure = if error.is_usage() { Failure::usage(error) } else { Failure::could_not_run(error) };
    failure.with_hint(hint)
}
