//! One invocation in a fresh environment, for a caller in this process: what `undocked run` prints comes back as a value.

use std::io::{self, Write};
use std::rc::Rc;
use std::sync::mpsc;

use bytes::Bytes;

use super::async_runtime;
use super::inside::{Inside, NotInside};
use super::once::{Lacks, NotRun, not_run, on_host_network, refuse_inner_port, with_host_network};
use super::signals::Signals;
use super::work::{self, Purpose, Work};
use crate::config::RunConfig;
use crate::environment::variables;
use crate::environment::{Ran, Run, run_once};
use crate::exit_code::Failure;
use crate::report::{Color, Report};
use crate::sandbox::network::NetworkChoice;
use crate::sandbox::{Input, Launcher, Output, Stdio};

/// What came of an invocation.
#[derive(Debug)]
pub struct Called {
    /// How it ended, and its figures.
    pub ran: Ran,
    /// Everything that was logged.
    pub log: Vec<u8>,
}

/// Invokes the function that `config` says with `event`. Blocks until its environment is gone.
///
/// On the host's network where none of its own is granted, nobody asked for one by name and nothing that was asked for hangs on it.
pub fn call(config: &RunConfig, event: &Bytes) -> Result<Called, Failure> {
    let not_run = match attempt(config, event, None) {
        Ok(called) => return Ok(called),
        Err(not_run) => not_run,
    };
    let (lacks_network, networking) = (not_run.lacks(Lacks::Network), &config.networking);
    let failure = not_run.into_failure();
    let hangs_on_it = !networking.published.is_empty() || !networking.rules.are_empty() || networking.choice == NetworkChoice::Named;
    if !lacks_network || hangs_on_it {
        return Err(failure);
    }
    let why = on_host_network(&failure);
    attempt(&with_host_network(config), event, Some(&why)).map_err(NotRun::into_failure)
}

fn attempt(config: &RunConfig, event: &Bytes, said: Option<&str>) -> Result<Called, NotRun> {
    let Work { userland, command, variables, purpose, needs, .. } = work::of(config)?;
    refuse_inner_port(&config.networking)?;
    let Purpose::Function { function, carriage_returns, api_port, .. } = purpose else {
        let hint = "name an image with Lambda's entrypoint, and no `--entrypoint`";
        return Err(Failure::usage("this is a plain command, and no function").with_hint(Some(hint.to_owned())).into());
    };
    let launcher = Launcher::start().map_err(|error| {
        let hint = error.hint();
        Failure::could_not_run(error).with_hint(hint)
    })?;
    async_runtime()?.block_on(async {
        let mut signals = Signals::none();
        let inside = match Inside::prepare(config, userland, needs, &mut signals).await {
            Ok(inside) => inside,
            Err(NotInside::Failed(failure)) => return Err(failure.into()),
            Err(NotInside::Interrupted(signal)) => return Err(Failure::interrupted(signal).into()),
        };
        let (writer, written) = log();
        let mut report = Report::to_writer(writer, Color::Plain, carriage_returns).with_format(variables::log_format(&variables));
        if let Some(said) = said {
            report.note(&format!("undocked: {said}"));
        }
        let stdio = Stdio { input: Input::Null, output: Output::Pipe, error: Output::Joined };
        let blueprint = inside.blueprint(command, variables, stdio);
        let run = Run { function: &function, event: event.clone(), networking: Rc::new(config.networking.clone()), api_port, visits: None };
        let ran = run_once(&launcher, blueprint, run, &mut report, signals.next()).await.map_err(not_run)?;
        report.flush().await;
        Ok(Called { ran, log: written.try_iter().flatten().collect() })
    })
}

/// Where the report's thread writes to, and where that is read. Not bounded: it holds what a caller asked to have, the whole log.
fn log() -> (LogWriter, mpsc::Receiver<Vec<u8>>) {
    let (sender, receiver) = mpsc::channel();
    (LogWriter(sender), receiver)
}

struct LogWriter(mpsc::Sender<Vec<u8>>);

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Nobody wants it any more if this fails.
        let _ = self.0.send(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
