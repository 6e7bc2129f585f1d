//! Gives events to execution environments, so many at once, and puts what comes of them back into order.
//!
//! The environment of an event to come is opened ahead: its Init phase goes on while other events run.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot};

use super::events::Event;
use crate::config::Reuse;
use crate::environment::{Broken, Finished, Handle, Work, invocation};
use crate::fleet::{Whole, discard, whole};
use crate::function::Function;
use crate::report::{BatchEnd, BatchRecord};

/// How long an environment may take to end.
const END: Duration = Duration::from_secs(3);

/// Opens environments.
pub(super) type Open<'a> = &'a dyn Fn() -> Handle;

/// Why a batch cannot go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// There are no environments to be had.
    Broken(Broken),
    /// The events cannot be read.
    Events(String),
    /// Nobody takes the results.
    Results(String),
}

/// How events are run.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// How many at once.
    pub(super) jobs: NonZeroUsize,
    /// Whether environments are used again.
    pub(super) reuse: Reuse,
    /// The function.
    pub(super) function: Arc<Function>,
}

/// The state of a batch.
pub(super) struct Pump<'a> {
    open: Open<'a>,
    rules: Rules,
    events: mpsc::Receiver<Result<Event, String>>,
    /// Whether there are no more events.
    is_over: bool,
    /// Events that have come, each with its place in the order.
    waiting: VecDeque<(u64, Event)>,
    /// Environments without work.
    ready: VecDeque<Handle>,
    running: FuturesUnordered<LocalBoxFuture<'a, Ran>>,
    closing: FuturesUnordered<LocalBoxFuture<'static, ()>>,
    /// How many events have come.
    come: u64,
    /// How many results have gone.
    gone: u64,
    /// Results that are ahead of their turn.
    ahead: BTreeMap<u64, BatchRecord>,
}

/// What came of a run.
struct Ran {
    place: u64,
    record: Result<BatchRecord, Broken>,
    environment: Handle,
}

impl<'a> Pump<'a> {
    pub(super) fn new(open: Open<'a>, rules: Rules, events: mpsc::Receiver<Result<Event, String>>) -> Self {
        Self {
            open,
            rules,
            events,
            is_over: false,
            waiting: VecDeque::new(),
            ready: VecDeque::new(),
            running: FuturesUnordered::new(),
            closing: FuturesUnordered::new(),
            come: 0,
            gone: 0,
            ahead: BTreeMap::new(),
        }
    }

    /// Runs all events; `results` takes what comes of them, in order, and may wait for whoever reads it. What is in hand when this is dropped is lost; [`Pump::give_rest`] gives what has come to its end.
    pub(super) async fn run(&mut self, results: &mut impl AsyncFnMut(BatchRecord) -> Result<(), String>) -> Result<(), Stopped> {
        loop {
            self.start();
            self.give(results).await?;
            if self.is_over && self.waiting.is_empty() && self.running.is_empty() {
                return Ok(());
            }
            let wants_more = self.wants_more();
            tokio::select! {
                biased;
                Some(ran) = self.running.next(), if !self.running.is_empty() => self.end(ran)?,
                Some(()) = self.closing.next(), if !self.closing.is_empty() => {}
                event = self.events.recv(), if wants_more => match event {
                    Some(event) => {
                        self.waiting.push_back((self.come, event.map_err(Stopped::Events)?));
                        self.come += 1;
                    }
                    None => self.is_over = true,
                },
            }
        }
    }

    /// Gives what has come to its end, whatever is missing in between.
    pub(super) async fn give_rest(&mut self, results: &mut impl AsyncFnMut(BatchRecord) -> Result<(), String>) -> Result<(), Stopped> {
        for record in std::mem::take(&mut self.ahead).into_values() {
            results(record).await.map_err(Stopped::Results)?;
        }
        Ok(())
    }

    /// Ends all environments without work.
    pub(super) async fn close(mut self) {
        while let Some(environment) = self.ready.pop_front() {
            self.shut_down(environment);
        }
        while self.closing.next().await.is_some() {}
    }

    fn jobs(&self) -> usize {
        self.rules.jobs.get()
    }

    /// As many are known ahead as run at once. A slow event holds up the results after it: of these there is an end, too.
    fn wants_more(&self) -> bool {
        let window = 4 * self.jobs() as u64 + 16;
        !self.is_over && self.waiting.len() < self.jobs() && self.come - self.gone < window
    }

    fn start(&mut self) {
        // Those that are ending still take memory.
        while self.running.len() < self.jobs() && self.closing.len() < self.jobs() {
            let Some((place, Event { index, id, bytes })) = self.waiting.pop_front() else { break };
            let event = match bytes {
                Ok(event) => event,
                Err(error) => {
                    let end = BatchEnd::NotRun { error };
                    self.ahead.insert(place, BatchRecord { index, id, request_id: None, end, figures: None, log_tail: Vec::new() });
                    continue;
                }
            };
            let (open, function) = (self.open, Arc::clone(&self.rules.function));
            let environment = self.ready.pop_front().unwrap_or_else(open);
            self.running.push(Box::pin(async move {
                let work = invocation(&function, event);
                match work {
                    Ok(invocation) => run(open, environment, place, (index, id, invocation)).await,
                    Err(error) => {
                        let broken = Broken { reason: format!("cannot get random bytes for a request id: {error}"), hint: None };
                        Ran { place, record: Err(broken), environment }
                    }
                }
            }));
        }
        if self.rules.reuse == Reuse::Fresh {
            let likely = self.waiting.len().max(usize::from(!self.is_over)).min(self.jobs());
            while self.ready.len() < likely {
                self.ready.push_back((self.open)());
            }
        }
    }

    fn end(&mut self, ran: Ran) -> Result<(), Stopped> {
        let Ran { place, record, environment } = ran;
        self.ahead.insert(place, record.map_err(Stopped::Broken)?);
        match self.rules.reuse {
            Reuse::Fresh => self.shut_down(environment),
            Reuse::Warm if environment.is_gone() => {}
            Reuse::Warm => self.ready.push_front(environment),
        }
        Ok(())
    }

    fn shut_down(&mut self, environment: Handle) {
        self.closing.push(Box::pin(async move {
            // One that does not end is killed with us.
            let _ = tokio::time::timeout(END, environment.shut_down()).await;
        }));
    }

    async fn give(&mut self, results: &mut impl AsyncFnMut(BatchRecord) -> Result<(), String>) -> Result<(), Stopped> {
        while let Some(record) = self.ahead.remove(&self.gone) {
            self.gone += 1;
            results(record).await.map_err(Stopped::Results)?;
        }
        Ok(())
    }
}

/// Runs one event.
async fn run(open: Open<'_>, mut environment: Handle, place: u64, event: (u64, String, crate::lambda::Invocation)) -> Ran {
    let (index, id, invocation) = event;
    let request_id = invocation.request_id.clone();
    let (answer, answered) = oneshot::channel();
    let (finished, end) = oneshot::channel();
    let work = Box::new(Work { invocation, answer, finished });
    if let Err(work) = environment.invoke(work).await {
        // It could not be started, and there was nobody to be told why: the next one will say it.
        environment = open();
        let _ = environment.invoke(work).await;
    }
    let answer = match answered.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(broken)) => return Ran { place, record: Err(broken), environment },
        Err(_) => {
            let broken = Broken { reason: "the execution environment has ended without an answer".to_owned(), hint: None };
            return Ran { place, record: Err(broken), environment };
        }
    };
    let (Whole { payload, failed }, rest) = whole(answer, &request_id).await;
    discard(rest).await;
    let finished: Option<Finished> = end.await.ok();
    let record = BatchRecord {
        index,
        id,
        request_id: Some(request_id.to_string()),
        end: if failed { BatchEnd::Failed { payload } } else { BatchEnd::Success { payload } },
        figures: finished.as_ref().map(|finished| finished.figures),
        log_tail: finished.map(|finished| finished.log_tail).unwrap_or_default(),
    };
    Ran { place, record: Ok(record), environment }
}

#[cfg(test)]
mod tests;
