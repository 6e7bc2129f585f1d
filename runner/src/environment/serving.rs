//! An execution environment that stays: it takes invocations one after another, until it is told to end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::EnvironmentError;
use super::blueprint::Blueprint;
use super::connections::Connections;
use super::handle::{Broken, Handle, Order};
use super::once::start;
use super::task::{BetweenEvents, Environment, Keeping, Start};
use super::visit::{Knock, Visits};
use crate::exit_code::chain;
use crate::function::Function;
use crate::lambda::{FailedInit, RuntimeVersion};
use crate::report::Report;
use crate::sandbox::Launcher;

/// How long one that broke tells so.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often others have their turn before one begins without an invocation: whoever opens one for an invocation gives it in the next moment.
const MOMENTS: u32 = 4;

/// What an environment is made of.
#[derive(Debug)]
pub struct Setup {
    /// Starts its sandboxes.
    pub launcher: Launcher,
    /// What they are made of.
    pub blueprint: Blueprint,
    /// The function.
    pub function: Arc<Function>,
    /// How its sandbox is connected.
    pub connections: Connections,
    /// Its log.
    pub report: Report,
    /// What its processes do between events.
    pub between: BetweenEvents,
    /// What becomes of its first invocation if it fails to initialise.
    pub failed_init: FailedInit,
    /// What the log tells of its runtime when an Init phase begins.
    pub runtime_version: Option<RuntimeVersion>,
}

/// Opens an environment; its Init phase begins at once. `setup` is awaited first. Must be called within a tokio `LocalSet`.
pub fn open(setup: impl Future<Output = Result<Setup, Broken>> + 'static) -> Handle {
    let (handle, mut orders, visits) = Handle::with_visits();
    tokio::task::spawn_local(async move {
        let broken = match setup.await {
            Ok(setup) => serve(setup, &mut orders, visits).await.err(),
            Err(broken) => Some(broken),
        };
        // Who comes right after that is told why; whoever comes later finds it gone.
        if broken.is_some()
            && let Ok(Some(order)) = timeout(LAST_WORDS, orders.recv()).await
        {
            refuse(order, broken.as_ref());
        }
        orders.close();
        while let Ok(order) = orders.try_recv() {
            refuse(order, broken.as_ref());
        }
    });
    handle
}

fn refuse(order: Order, broken: Option<&Broken>) {
    let gone = || Broken { reason: "the execution environment has ended".to_owned(), hint: None };
    match order {
        // The other side may be gone, too.
        Order::Invoke(work) => drop(work.answer.send(Err(broken.cloned().unwrap_or_else(gone)))),
        Order::Restart => {}
        Order::ShutDown { done } => drop(done.send(())),
    }
}

async fn serve(setup: Setup, orders: &mut mpsc::Receiver<Order>, visits: mpsc::UnboundedReceiver<Knock>) -> Result<(), Broken> {
    let Setup { launcher, blueprint, function, connections, mut report, between, failed_init, runtime_version } = setup;
    let (start, calls) = start(&launcher, blueprint, connections, Keeping::Staying { between }).map_err(broken)?;
    let is_visited = !visits.is_empty();
    let start = Start { visits: Visits::Doors(visits), ..start };
    let environment = Environment::new(start, function, &mut report).with_runtime_version(runtime_version);
    let mut environment = environment.with_failed_init(failed_init);
    // An invocation that is on its way is begun with: where an Init phase that fails is its result, that is told once, not twice.
    let mut first = None;
    for _ in 0..MOMENTS {
        if is_visited {
            break;
        }
        match orders.try_recv() {
            Ok(Order::Invoke(work)) => {
                first = Some(work);
                break;
            }
            Ok(order) => refuse(order, None),
            Err(_) => tokio::task::yield_now().await,
        }
    }
    // One that was opened for a visitor begins with its first invocation.
    let begun = if is_visited { Ok(()) } else { environment.begin(first) };
    let served = match begun {
        Ok(()) => environment.serve(calls, Some(orders), std::future::pending()).await.map(drop),
        Err(error) => Err(error),
    };
    let cleared = environment.clear_away().await;
    let error = served.and(cleared).map_err(broken).err();
    environment.close(error.as_ref());
    report.flush().await;
    error.map_or(Ok(()), Err)
}

fn broken(error: EnvironmentError) -> Broken {
    let hint = error.hint();
    Broken { reason: chain(&error), hint }
}
