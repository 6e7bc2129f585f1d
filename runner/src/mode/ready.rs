//! A function made ready for any number of execution environments: its image found, what is inside put together, its variables known.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::inside::{Inside, NotInside};
use super::signals::Signals;
use super::work::{Purpose, Work};
use crate::config::RunConfig;
use crate::environment::connections::Connections;
use crate::environment::variables::{self, EnvVars, Unique};
use crate::environment::{BetweenEvents, Handle, Setup, open};
use crate::exit_code::Failure;
use crate::function::Function;
use crate::report::{CarriageReturns, Report};
use crate::sandbox::{Command, Input, Launcher, Output, Stdio};

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
}

impl Ready {
    /// Makes a function ready. Published ports are bound; layers may have to be copied, until a signal comes.
    pub(super) async fn prepare(config: &RunConfig, work: Work, between: BetweenEvents, signals: &mut Signals) -> Result<Self, NotInside> {
        let Work { userland, command, variables, purpose, needs, .. } = work;
        let Purpose::Function { function, carriage_returns, api_port, .. } = purpose else {
            let hint = "leave `--entrypoint` out; `undocked run` runs plain commands";
            return Err(Failure::usage("a plain command is no function").with_hint(Some(hint.to_owned())).into());
        };
        let launcher = Launcher::start().map_err(|error| {
            let hint = error.hint();
            Failure::could_not_run(error).with_hint(hint)
        })?;
        let connections = Connections::open(Rc::new(config.networking.clone())).map_err(|error| {
            let hint = error.hint();
            Failure::could_not_run(error).with_hint(Some(hint))
        })?;
        let connections = connections.with_api_port(api_port);
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
        })))
    }

    /// The function.
    pub(super) fn function(&self) -> &Arc<Function> {
        &self.0.function
    }

    /// What happens to carriage returns in its log.
    pub(super) fn carriage_returns(&self) -> CarriageReturns {
        self.0.carriage_returns
    }

    /// How it is connected.
    pub(super) fn published(&self) -> impl Iterator<Item = (SocketAddr, u16)> {
        self.0.connections.published()
    }

    /// Opens an environment. Must be called within a tokio `LocalSet`.
    pub(super) fn open(&self, report: Report) -> Handle {
        let ready = self.clone();
        let report = report.with_format(variables::log_format(&self.0.variables));
        open(async move { Ok(ready.setup(report)) })
    }

    fn setup(&self, report: Report) -> Setup {
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
        }
    }
}
