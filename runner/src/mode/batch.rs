//! `undocked batch`: a function, once for each of many events.

use std::cell::RefCell;
use std::io::Write as _;
use std::sync::Arc;

use tokio::task::LocalSet;

mod events;
mod pump;
mod results;

use self::events::Events;
use self::pump::{Pump, Rules, Stopped};
use self::results::Results;
use super::async_runtime;
use super::inside::NotInside;
use super::ready::Ready;
use super::signals::Signals;
use super::work::{self, Work};
use crate::config::{BatchConfig, Loudness};
use crate::environment::BetweenEvents;
use crate::exit_code::{ExitCode, Failure};
use crate::lambda::FailedInit;
use crate::report::{Color, Report};

/// Runs the events that `config` names.
pub fn run(config: &BatchConfig) -> Result<ExitCode, Failure> {
    let work = work::of(&config.run)?;
    let events = events::open(&config.events, config.shard)?;
    async_runtime()?.block_on(LocalSet::new().run_until(run_all(config, work, events)))
}

async fn run_all(config: &BatchConfig, work: Work, events: Events) -> Result<ExitCode, Failure> {
    let mut signals = Signals::listen().map_err(Failure::could_not_run)?;
    if let Some(note) = work.note.as_ref().filter(|_| config.run.talk.loudness == Loudness::Normal) {
        // Nobody may be reading.
        let _ = writeln!(std::io::stderr(), "undocked: {note}");
    }
    let ready = match Ready::prepare(&config.run, work, BetweenEvents::GoOn, &mut signals).await {
        Ok(ready) => ready,
        Err(NotInside::Failed(failure)) => return Err(failure),
        Err(NotInside::Interrupted(signal)) => return Ok(ExitCode::from_signal(signal)),
    };
    let function = ready.function();
    let name = if function.handler.is_empty() { &function.name } else { &function.handler };
    let mut results = Results::begin(config, events.total, name)?;
    let report = Report::to_writer(results.notes(), Color::Plain, ready.carriage_returns()).with_notes_only();
    let report = RefCell::new(report);
    let open = || ready.open(report.borrow_mut().sibling(), FailedInit::IsTheResult);
    let rules = Rules { jobs: config.jobs, reuse: config.reuse, function: Arc::clone(function) };
    let mut pump = Pump::new(&open, rules, events.receiver);
    let ended = {
        let mut take = async |record| results.take(record).await;
        tokio::select! {
            ended = pump.run(&mut take) => Ok(ended),
            signal = signals.next() => Err(signal),
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(Stopped::Results(error))) => return Err(Failure::could_not_run(error)),
        Ok(Err(stopped)) => {
            finish_early(&mut pump, results).await?;
            return Err(failure(&stopped));
        }
        Err(signal) => {
            tokio::select! {
                _ = finish_early(&mut pump, results) => {}
                // Who asks twice does not want to wait.
                _ = signals.next() => {}
            }
            return Ok(ExitCode::from_signal(signal));
        }
    }
    pump.close().await;
    report.into_inner().flush().await;
    let summary = results.end().await?;
    Ok(if summary.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FUNCTION_FAILED })
}

/// Writes what has come to its end.
async fn finish_early(pump: &mut Pump<'_>, mut results: Results) -> Result<(), Failure> {
    pump.give_rest(&mut async |record| results.take(record).await).await.map_err(|stopped| failure(&stopped))?;
    results.end().await.map(drop)
}

fn failure(stopped: &Stopped) -> Failure {
    match stopped {
        Stopped::Broken(broken) => Failure::could_not_run(broken.reason.clone()).with_hint(broken.hint.clone()),
        Stopped::Events(error) | Stopped::Results(error) => Failure::could_not_run(error.clone()),
    }
}
