//! A function made ready for any number of execution environments: its image found, what is inside put together, its variables known.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::inside::{Inside, NotInside};
use super::once::{on_host_network, refuse_inner_port, with_host_network};
use super::shell;
use super::signals::Signals;
use super::work::{self, Purpose, Work};
use crate::config::RunConfig;
use crate::environment::connections::Connections;
use crate::environment::variables::{self, EnvVars, Unique};
use crate::environment::{BetweenEvents, EnvironmentError, Handle, Setup, open};
use crate::exit_code::Failure;
use crate::function::Function;
use crate::lambda::{FailedInit, RuntimeVersion};
use crate::report::{CarriageReturns, Report};
use crate::sandbox::network::NetworkChoice;
use crate::sandbox::{Command, FirstProcess, Input, Launcher, Output, SandboxRequest, Stdio, Volume, plan};

/// A function that environments can be opened of. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Ready(Rc<Parts>);

#[derive(Debug)]
struct Parts {
    launcher: Launcher,
    inside: Inside,
    command: Command,
    variables: EnvVars,
    function: Arc<Function>,
    connections: Connections,
    carriage_returns: CarriageReturns,
    between: BetweenEvents,
    code: Vec<PathBuf>,
    runtime_version: Option<RuntimeVersion>,
}

impl Ready {
    /// Makes a function ready: on the host's network where none of its own is granted, nobody asked for one by name and nothing that was asked for hangs
    /// on it; then that is said. Published ports are bound; layers may have to be copied, until a signal comes.
    pub(super) async fn prepare(config: &RunConfig, work: Work, between: BetweenEvents, signals: &mut Signals) -> Result<Self, NotInside> {
        let ready = Self::prepare_as_told(config, work, between, signals).await?;
        let refused = match ready.try_sandbox() {
            Ok(()) => return Ok(ready),
            Err(refused) => refused,
        };
        let networking = &config.networking;
        let may_fall_back = refused.is_of_network()
            && networking.choice == NetworkChoice::Default
            && networking.published.is_empty()
            && networking.rules.are_empty();
        let hint = refused.hint();
        let refused = Failure::could_not_run(refused).with_hint(hint);
        if !may_fall_back {
            return Err(refused.into());
        }
        shell::say(&on_host_network(&refused));
        let config = with_host_network(config);
        Self::prepare_as_told(&config, work::of(&config)?, between, signals).await
    }

    /// Launches a sandbox with nothing in it, the first time: what this machine refuses is better known before there are calls.
    fn try_sandbox(&self) -> Result<(), EnvironmentError> {
        static TRIED: AtomicBool = AtomicBool::new(false);
        if TRIED.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let Parts { launcher, inside, command, .. } = &*self.0;
        let stdio = Stdio { input: Input::Null, output: Output::Pipe, error: Output::Pipe };
        let request = inside.request(command.clone(), Vec::new(), stdio);
        let plan =
            plan(SandboxRequest { first_process: FirstProcess::Several, ..request }).map_err(|source| EnvironmentError::Plan { source })?;
        launcher.launch(plan).map(drop).map_err(|source| EnvironmentError::Launch { source })
    }

    async fn prepare_as_told(config: &RunConfig, work: Work, between: BetweenEvents, signals: &mut Signals) -> Result<Self, NotInside> {
        let Work { userland, command, variables, purpose, needs, runtime_version, .. } = work;
        let Purpose::Function { function, carriage_returns, api_port, .. } = purpose else {
            let hint = "leave `--entrypoint` out; `undocked run` runs plain commands";
            return Err(Failure::usage("a plain command is no function").with_hint(Some(hint.to_owned())).into());
        };
        refuse_inner_port(&config.networking)?;
        let launcher = Launcher::start().map_err(|error| {
            let hint = error.hint();
            Failure::could_not_run(error).with_hint(hint)
        })?;
        let connections = Connections::open(Rc::new(config.networking.clone())).map_err(|error| {
            let hint = error.hint();
            Failure::could_not_run(error).with_hint(Some(hint))
        })?;
        let connections = connections.with_api_port(api_port);
        let is_code = |volume: &&Volume| ["/var/task", "/opt"].iter().any(|place| volume.target.starts_with(place));
        let code = config.volumes.iter().filter(is_code).map(|volume| volume.source.clone()).chain(config.layers.iter().cloned()).collect();
        let inside = Inside::prepare(config, userland, needs, signals).await?;
        Ok(Self(Rc::new(Parts {
            launcher,
            inside,
            command,
            variables,
            function: Arc::new(*function),
            connections,
            carriage_returns,
            between,
            code,
            runtime_version,
        })))
    }

    /// The function.
    pub(super) fn function(&self) -> &Arc<Function> {
        &self.0.function
    }

    /// What AWS's emulator says that it executes: the program, where, and what it takes for the handler. The entrypoint of AWS's images gives it the runtime,
    /// and the handler in a variable. <https://github.com/aws/aws-lambda-runtime-interface-emulator/blob/main/cmd/aws-lambda-rie/main.go>
    pub(super) fn executed(&self) -> (&str, &Path, &str) {
        let (program, handler) = match &self.0.command {
            Command::Line(argv) => match argv.as_slice() {
                [program, ..] if program.ends_with("/lambda-entrypoint.sh") => ("/var/runtime/bootstrap", ""),
                [program, .., handler] => (program.as_str(), handler.as_str()),
                [program] => (program.as_str(), ""),
                [] => ("", ""),
            },
            Command::FirstOf { candidates, .. } => (candidates.first().map_or("", String::as_str), ""),
        };
        (program, self.0.inside.working_dir(), handler)
    }

    /// What happens to carriage returns in its log.
    pub(super) fn carriage_returns(&self) -> CarriageReturns {
        self.0.carriage_returns
    }

    /// How it is connected.
    pub(super) fn published(&self) -> impl Iterator<Item = (SocketAddr, u16)> {
        self.0.connections.published()
    }

    /// The files and folders that are its code: a change of one of them is a change of the function.
    pub(super) fn code(&self) -> Vec<PathBuf> {
        self.0.code.clone()
    }

    /// Takes up what has changed in layers, where they are copies.
    pub(super) fn code_changed(&self) -> Result<(), Failure> {
        self.0.inside.layers_changed()
    }

    /// Opens an environment. Must be called within a tokio `LocalSet`.
    pub(super) fn open(&self, report: Report, failed_init: FailedInit) -> Handle {
        let ready = self.clone();
        let report = report.with_format(variables::log_format(&self.0.variables));
        open(async move { Ok(ready.setup(report, failed_init)) })
    }

    fn setup(&self, report: Report, failed_init: FailedInit) -> Setup {
        let Parts { launcher, inside, command, variables, function, connections, .. } = &*self.0;
        // On Lambda each environment has a log stream of its own.
        let log_stream = variables::log_stream(&function.version, &Unique::new());
        let mut variables = variables.clone();
        variables.set("AWS_LAMBDA_LOG_STREAM_NAME", &log_stream);
        let stdio = Stdio { input: Input::Null, output: Output::Pipe, error: Output::Pipe };
        Setup {
            launcher: launcher.clone(),
            blueprint: inside.blueprint(command.clone(), variables, stdio),
            function: Arc::new(Function { log_stream, ..Function::clone(function) }),
            connections: connections.again(),
            report,
            between: self.0.between,
            failed_init,
            runtime_version: self.0.runtime_version.clone(),
        }
    }
}
