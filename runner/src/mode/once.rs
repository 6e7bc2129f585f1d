//! `undocked run`: one image, one function, one answer; or one plain command.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rootfs_cache::reference::ImageReference;
use rootfs_cache::rootfs::Rootfs;

use super::inside::{Inside, NotInside, Userland};
use super::signals::Signals;
use super::{async_runtime, print, pull, shell};
use crate::config::{Color, Loudness, ResultFormat, RunConfig};
use crate::environment::entry::{self, Entry, EntryError, EntryRequest, Event, LEGACY_SERVER};
use crate::environment::host::{self, HostFunction};
use crate::environment::identity::ImageRoot;
use crate::environment::variables::{self, EnvVars, SessionToken, Setup, Sources, Unique};
use crate::environment::{EnvironmentError, Ran, Run, run_once};
use crate::exit_code::{ExitCode, Failure};
use crate::function::Function;
use crate::lambda::Outcome;
use crate::report::{self, CarriageReturns, Report, RunResult, result_line};
use crate::sandbox::{Command, Input, Launcher, Output, Stdio, plan};

/// What this machine's userland has in place of an image's entrypoint: docker-lambda's server, which finds the function's own `bootstrap`.
const HOST_ENTRYPOINT: &str = "/var/runtime/init";

/// A run, decided: what is executed where, and what for.
struct Work {
    userland: Userland,
    command: Command,
    variables: EnvVars,
    purpose: Purpose,
    note: Option<String>,
}

enum Purpose {
    /// A function's one invocation.
    Function { function: Box<Function>, event: Event, carriage_returns: CarriageReturns },
    /// A command line of the user's.
    Plain,
}

/// Runs what `config` says.
pub fn run(config: &RunConfig) -> Result<ExitCode, Failure> {
    let work = match &config.image {
        ImageReference::Host => on_host(config)?,
        image => in_image(config, pull::find(image, &config.images, config.talk)?)?,
    };
    // Read while signals still end us: nobody else would stop a read of a terminal.
    let event = match &work.purpose {
        Purpose::Function { event, .. } => read(event)?,
        Purpose::Plain => Bytes::new(),
    };
    let launcher = Launcher::start().map_err(Failure::could_not_run)?;
    async_runtime()?.block_on(async {
        let mut signals = Signals::listen().map_err(Failure::could_not_run)?;
        let inside = match Inside::prepare(config, work.userland, &mut signals).await {
            Ok(inside) => inside,
            Err(NotInside::Failed(failure)) => return Err(failure),
            Err(NotInside::Interrupted(signal)) => return Ok(ExitCode::from_signal(signal)),
        };
        match work.purpose {
            Purpose::Plain => {
                let input = match config.stdin {
                    crate::config::Stdin::Inherit => Input::Inherit,
                    crate::config::Stdin::Null => Input::Null,
                };
                let stdio = Stdio { input, output: Output::Inherit, error: Output::Inherit };
                shell::run(&launcher, inside.request(work.command, work.variables.to_c_strings(), stdio), signals.next()).await
            }
            Purpose::Function { function, carriage_returns, .. } => {
                let mut report = Report::to_stderr(color(config), carriage_returns);
                if let Some(note) = work.note.filter(|_| config.talk.loudness == Loudness::Normal) {
                    report.note(&format!("undocked: {note}"));
                }
                let invocation = Run { function: &function, event };
                let make_plan = |address: std::net::SocketAddr| {
                    let mut variables = work.variables.clone();
                    variables.set("AWS_LAMBDA_RUNTIME_API", address.to_string());
                    let stdio = Stdio { input: Input::Null, output: Output::Pipe, error: Output::Joined };
                    plan(inside.request(work.command.clone(), variables.to_c_strings(), stdio))
                };
                let ran = run_once(&launcher, make_plan, invocation, &mut report, signals.next()).await.map_err(not_run)?;
                finish(&ran, &report, config.result)
            }
        }
    })
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
        has_legacy_server: image.holds(LEGACY_SERVER),
        sources,
    });
    let Decided { command, variables, purpose } = decide(config, sources, variables::Userland::Image, entry.map_err(no_entry)?)?;
    Ok(Work { userland: Userland::Image(rootfs, image), command, variables, purpose, note: None })
}

/// Decides on a run in this machine's own userland.
fn on_host(config: &RunConfig) -> Result<Work, Failure> {
    let sources = Sources { given: &config.variables, own_settings: &config.own_settings, image: &[] };
    let entry = entry::entry(&EntryRequest {
        arguments: &config.arguments,
        entrypoint: config.entrypoint.as_deref(),
        image_entrypoint: &[HOST_ENTRYPOINT.to_owned()],
        image_cmd: &[],
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
        Entry::Entrypoint { .. } | Entry::Plain { .. } => (host::plain_root(), None, None),
    };
    let userland = variables::Userland::Host { interpreter_dir: interpreter_dir.as_deref() };
    let Decided { command, variables, purpose } = decide(config, sources, userland, entry)?;
    Ok(Work { userland: Userland::Host(root), command, variables, purpose, note })
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
}

/// From the entry to what is executed, with which variables.
fn decide(config: &RunConfig, sources: Sources<'_>, userland: variables::Userland<'_>, entry: Entry) -> Result<Decided, Failure> {
    let (command, handler, event, session_token) = match entry {
        Entry::Plain { argv } => {
            return Ok(Decided { command: Command::Line(argv), variables: variables::plain(&sources), purpose: Purpose::Plain });
        }
        Entry::Bootstrap { candidates, arguments, handler, event } => {
            (Command::FirstOf { candidates, arguments }, Some(handler), event, SessionToken::WhenKnown)
        }
        Entry::Entrypoint { argv, handler, event } => (Command::Line(argv), handler, event, SessionToken::Always),
    };
    let setup = Setup { sources, userland, handler: handler.as_deref(), session_token, memory: config.memory, timeout: config.timeout };
    let (function, variables) = variables::function(&setup, &Unique::new()).map_err(Failure::usage)?;
    let keep = sources.setting("DOCKER_LAMBDA_NO_MODIFY_LOGS").is_some();
    let carriage_returns = if keep { CarriageReturns::Keep } else { CarriageReturns::ToLineFeeds };
    Ok(Decided { command, variables, purpose: Purpose::Function { function: Box::new(function), event, carriage_returns } })
}

fn read(event: &Event) -> Result<Bytes, Failure> {
    match event {
        Event::Bytes(bytes) => Ok(bytes.clone().into()),
        Event::Stdin => {
            let mut bytes = Vec::new();
            let read = std::io::stdin().lock().read_to_end(&mut bytes);
            read.map_err(|error| Failure::could_not_run(format!("cannot read the event from stdin: {error}")))?;
            Ok(bytes.into())
        }
    }
}

fn color(config: &RunConfig) -> report::Color {
    let green = match config.talk.color {
        Color::Always => true,
        Color::Never => false,
        Color::Terminal => std::io::stderr().is_terminal(),
    };
    if green { report::Color::Green } else { report::Color::Plain }
}

/// Prints the result, when there is one to print.
fn finish(ran: &Ran, report: &Report, format: ResultFormat) -> Result<ExitCode, Failure> {
    let (line, code) = match &ran.outcome {
        Outcome::Success { payload } => (Some(payload), ExitCode::SUCCESS),
        Outcome::FunctionError(error) => (Some(&error.payload), ExitCode::FUNCTION_FAILED),
        Outcome::Interrupted { signal } => (None, ExitCode::from_signal(*signal)),
    };
    match (format, line) {
        (ResultFormat::Line, Some(payload)) => print(&result_line(payload))?,
        (ResultFormat::Line, None) => {}
        (ResultFormat::Json, _) => {
            let (figures, log_tail) = (ran.figures.as_ref(), report.log_tail());
            print(&RunResult { outcome: &ran.outcome, figures, log_tail: &log_tail, exit_code: code.number() }.to_json_line())?;
        }
    }
    Ok(code)
}

fn no_entry(error: EntryError) -> Failure {
    let hint = error.hint();
    let failure = if error.is_usage() { Failure::usage(error) } else { Failure::could_not_run(error) };
    failure.with_hint(hint)
}

fn not_run(error: EnvironmentError) -> Failure {
    let hint = error.hint();
    Failure::could_not_run(error).with_hint(hint)
}
