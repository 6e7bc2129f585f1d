//! `undocked run`: one image, one function, one answer; or one plain command.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use rootfs_cache::pull::PullPolicy;
use rootfs_cache::rootfs::Rootfs;

use super::inside::{Inside, NotInside, Userland};
use super::signals::Signals;
use super::underway::Underway;
use super::work::{self, Purpose, Work};
use super::writable::{self, PlainCommand};
use super::{async_runtime, cache_root, print, serve, shell, stay_open};
use crate::config::{Color, Loudness, ResultFormat, RootAccess, RunConfig, Stdin, UserNamespace};
use crate::environment::entry::Event;
use crate::environment::variables::{self, EnvVars};
use crate::environment::{EnvironmentError, Ran, Run, run_once};
use crate::exit_code::{ExitCode, Failure};
use crate::function::INNER_API_PORT;
use crate::lambda::Outcome;
use crate::report::{self, Report, RunResult, result_line};
use crate::sandbox::network::{HOST_NAME, HostAddress, HostEntry, LogConnections, NetworkChoice, Networking, Protocol, PublishedPort};
use crate::sandbox::{Command, Input, Launcher, Network, Output, Stdio};
use crate::writable::WritableRoot;

/// Why a run was not done.
#[derive(Debug)]
pub(super) struct NotRun {
    failure: Failure,
    lacks: Lacks,
}

/// What cannot be had here, where something else may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lacks {
    /// Nothing of the kind.
    Nothing,
    /// The network that was asked for; the host's may do.
    Network,
    /// An overlay for a root that may be written to; a copy may do.
    Overlay,
    /// A root that may be written to; one that may not may do.
    WritableRoot,
}

impl NotRun {
    pub(super) fn new(failure: Failure, lacks: Lacks) -> Self {
        Self { failure, lacks }
    }

    /// Whether it was not done for lack of this.
    pub(super) fn lacks(&self, what: Lacks) -> bool {
        self.lacks == what
    }

    /// What is said.
    pub(super) fn into_failure(self) -> Failure {
        self.failure
    }
}

impl From<Failure> for NotRun {
    fn from(failure: Failure) -> Self {
        Self { failure, lacks: Lacks::Nothing }
    }
}

/// Runs what `config` says.
pub fn run(config: &RunConfig) -> Result<ExitCode, Failure> {
    run_told(config, &Underway::default())
}

/// The same; `underway` is told once it runs, or listens.
pub(super) fn run_told(config: &RunConfig, underway: &Underway) -> Result<ExitCode, Failure> {
    let mut event = None;
    with_a_network(config, |config, said| attempt(config, &mut event, said, underway))
}

/// On the host's network where none of its own is granted, nobody asked for one by name and nothing that was asked for hangs on it.
pub(super) fn with_a_network(
    config: &RunConfig,
    mut attempt: impl FnMut(&RunConfig, Option<&str>) -> Result<ExitCode, NotRun>,
) -> Result<ExitCode, Failure> {
    let not_run = match attempt(config, without_effect(&config.networking)) {
        Ok(code) => return Ok(code),
        Err(not_run) => not_run,
    };
    let networking = &config.networking;
    if !not_run.lacks(Lacks::Network) || !networking.published.is_empty() || !networking.rules.are_empty() {
        return Err(not_run.failure);
    }
    if networking.choice == NetworkChoice::Named {
        let hint = "leave `--network` out, or name `host`, to run on this machine's network; `undocked doctor` tells what is refused";
        return Err(not_run.failure.with_hint(Some(hint.to_owned())));
    }
    let why = on_host_network(&not_run.failure);
    let config = with_host_network(config);
    attempt(&config, Some(&why)).map_err(|not_run| not_run.failure)
}

/// What is said where there is no network of its own.
pub(super) fn on_host_network(refused: &impl std::fmt::Display) -> String {
    format!("no network of its own is granted ({refused}): it has this machine's, `--network host`")
}

/// The same run on this machine's network, once its image was found.
pub(super) fn with_host_network(config: &RunConfig) -> RunConfig {
    let mut config = config.clone();
    config.networking.network = Network::Host;
    // The function may rely on that name; others that were asked for come first.
    config.networking.hosts.push(HostEntry { name: HOST_NAME.to_owned(), address: HostAddress::Gateway });
    // It was asked for at the first attempt.
    config.images.options.policy = PullPolicy::Missing;
    config
}

/// What was asked for and means nothing on the network that was asked for.
fn without_effect(networking: &Networking) -> Option<&'static str> {
    match (networking.network, networking.published.is_empty(), networking.log) {
        (Network::Host, false, _) => Some("`-p` changes nothing with `--network host`: what listens inside is on this machine's own ports"),
        (Network::Host, true, LogConnections::Yes) => Some("`--log-net` tells nothing with `--network host`"),
        _ => None,
    }
}

/// One attempt; `said` is said of it. The event is read once.
fn attempt(config: &RunConfig, known: &mut Option<Bytes>, said: Option<&str>, underway: &Underway) -> Result<ExitCode, NotRun> {
    let work = work::of(config)?;
    refuse_range(config, &work)?;
    if let Some(listen) = stay_open::asked_for(config, &work)? {
        return Ok(serve::stay_open(config, work, listen, (said, underway))?);
    }
    refuse_inner_port(&config.networking)?;
    let Work { userland, command, variables, purpose, needs, note, .. } = work;
    let (userland, command) = match (userland, command, &purpose, config.root) {
        (Userland::Image(rootfs, _), Command::Line(argv), Purpose::Plain, RootAccess::Writable) => {
            return in_writable_root(config, rootfs, argv, variables, said);
        }
        (userland, command, ..) => (userland, command),
    };
    // Read while signals still end us: nobody else would stop a read of a terminal.
    let event = match (&purpose, &*known) {
        (_, Some(event)) => event.clone(),
        (Purpose::Function { event, .. }, None) => read(event)?,
        (Purpose::Plain, None) => Bytes::new(),
    };
    *known = Some(event.clone());
    let launcher = launcher()?;
    async_runtime()?.block_on(async {
        let mut signals = Signals::listen().map_err(Failure::could_not_run)?;
        let inside = match Inside::prepare(config, userland, needs, &mut signals).await {
            Ok(inside) => inside,
            Err(NotInside::Failed(failure)) => return Err(failure.into()),
            Err(NotInside::Interrupted(signal)) => return Ok(ExitCode::from_signal(signal)),
        };
        let log_format = variables::log_format(&variables);
        let start = Start { launcher: &launcher, inside: &inside, command, variables };
        match purpose {
            Purpose::Plain => {
                if let Some(said) = said {
                    shell::say(said);
                }
                start.plain(config, signals).await
            }
            Purpose::Function { function, carriage_returns, api_port, .. } => {
                let mut report = Report::to_stderr(color(config), carriage_returns).with_format(log_format);
                if let Some(note) = note.filter(|_| said.is_none() && config.talk.loudness == Loudness::Normal) {
                    report.note(&format!("undocked: {note}"));
                }
                if let Some(said) = said {
                    report.note(&format!("undocked: {said}"));
                }
                let visits = underway.visits();
                underway.tell(Vec::new());
                let run = Run { function: &function, event, networking: Rc::new(config.networking.clone()), api_port, visits };
                let ran = start.function(run, &mut report, signals).await.map_err(not_run)?;
                // Docker-lambda's server fails when nobody takes its result.
                let finished = finish(&ran, &report, config.result);
                Ok(finished.map_err(|failure| if underway.is_told() { failure.with_code(ExitCode::FUNCTION_FAILED) } else { failure })?)
            }
        }
    })
}

pub(super) fn launcher() -> Result<Launcher, Failure> {
    Launcher::start().map_err(|error| {
        let hint = error.hint();
        Failure::could_not_run(error).with_hint(hint)
    })
}

/// A command in a root of its own, which is gone after it.
fn in_writable_root(
    config: &RunConfig,
    rootfs: Rootfs,
    argv: Vec<String>,
    variables: EnvVars,
    said: Option<&str>,
) -> Result<ExitCode, NotRun> {
    let of_image = rootfs.config();
    let user = config.user.clone().or_else(|| of_image.user.clone());
    let working_dir = config.working_dir.clone().or_else(|| of_image.working_dir.as_deref().map(PathBuf::from));
    let mut root = WritableRoot::temporary(rootfs, cache_root(&config.images)?).map_err(writable::failed)?;
    let command = PlainCommand { argv, variables, user, working_dir: working_dir.unwrap_or_else(|| "/".into()), stdio: stdio(config) };
    match writable::attempt(config, &mut root, &command, said) {
        Err(not_run) if not_run.lacks(Lacks::WritableRoot) && config.userns == UserNamespace::Single => {
            let why = not_run.into_failure();
            shell::say(&format!("the command may write to volumes and /tmp alone, as with `--read-only`: {why}"));
            let config = RunConfig { root: RootAccess::ReadOnly, ..config.clone() };
            // What was to be said was said at the first attempt.
            attempt(&config, &mut None, None, &Underway::default())
        }
        ran => ran,
    }
}

/// Of a plain command.
fn stdio(config: &RunConfig) -> Stdio {
    let input = match config.stdin {
        Stdin::Inherit => Input::Inherit,
        Stdin::Null => Input::Null,
    };
    Stdio { input, output: Output::Inherit, error: Output::Inherit }
}

/// A range of ids is for owners in a root that may be written to. Nothing less is taken for it.
fn refuse_range(config: &RunConfig, work: &Work) -> Result<(), Failure> {
    let is_plain = matches!((&work.userland, &work.command, &work.purpose), (Userland::Image(..), Command::Line(_), Purpose::Plain));
    if config.userns == UserNamespace::Single || is_plain {
        return Ok(());
    }
    let error = "`--userns subid` is for plain commands in images: functions have one user, on Lambda as here";
    Err(Failure::could_not_run(error).with_hint(Some("leave it out, or name a command with `--entrypoint`".to_owned())))
}

/// The Runtime API must not be reached from outside.
pub(super) fn refuse_inner_port(networking: &Networking) -> Result<(), Failure> {
    let leads_there = |port: &&PublishedPort| port.inside == INNER_API_PORT && port.protocol == Protocol::Tcp;
    if networking.network == Network::Host || !networking.published.iter().any(|port| leads_there(&port)) {
        return Ok(());
    }
    let error = format!("a published port leads to port {INNER_API_PORT} inside, where the Runtime API is");
    let hint = "any other port will do; `-e DOCKER_LAMBDA_STAY_OPEN=1` or `undocked serve` have clients invoke the function";
    Err(Failure::usage(error).with_hint(Some(hint.to_owned())))
}

/// Everything a sandbox is started with.
struct Start<'a> {
    launcher: &'a Launcher,
    inside: &'a Inside,
    command: Command,
    variables: EnvVars,
}

impl Start<'_> {
    async fn plain(self, config: &RunConfig, mut signals: Signals) -> Result<ExitCode, NotRun> {
        let request = self.inside.request(self.command, self.variables.to_c_strings(), stdio(config));
        shell::run(self.launcher, request, Rc::new(config.networking.clone()), signals.next()).await
    }

    async fn function(self, run: Run<'_>, report: &mut Report, mut signals: Signals) -> Result<Ran, EnvironmentError> {
        let stdio = Stdio { input: Input::Null, output: Output::Pipe, error: Output::Joined };
        let blueprint = self.inside.blueprint(self.command, self.variables, stdio);
        run_once(self.launcher, blueprint, run, report, signals.next()).await
    }
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

pub(super) fn color(config: &RunConfig) -> report::Color {
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

pub(super) fn not_run(error: EnvironmentError) -> NotRun {
    let (hint, lacks) = (error.hint(), if error.is_of_network() { Lacks::Network } else { Lacks::Nothing });
    NotRun::new(Failure::could_not_run(error).with_hint(hint), lacks)
}
