//! The fleet at work: one task owns all state, and waits for calls, ends of invocations, the clock and orders.

use std::future::pending;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::answer::Caller;
use super::attempt::{AttemptEnd, Job, attempt};
use super::directory::Directory;
use super::events::{self, EventEnd, EventId, Events, Happened, Recipient};
use super::pool::{Pool, Warm};
use super::visits::Standing;
use super::{FleetOptions, Notice, Queue, Served};
use crate::api::invoke::{InvokeCall, InvokeReply};
use crate::environment::{Broken, Handle, Visit, ids};
use crate::function::Function;
use crate::lambda::{Invocation, InvocationKind, InvokeRefusal, InvokeRequest, ThrottleReason};

type Reply = oneshot::Sender<InvokeReply>;

/// How long environments may take to end, their shutdown phase of two seconds included.
const END: Duration = Duration::from_secs(10);

/// How long a call waits for an environment that has answered, before another one is opened. Most are free within a millisecond; one whose extensions
/// go on after the answer is not.
const PATIENCE: Duration = Duration::from_millis(100);

/// The same where another one is free: what a client's last call left in an environment, its next one should find.
const SHORT_PATIENCE: Duration = Duration::from_millis(3);
/// The same where no other may be opened, and it would be refused: from when it came.
const LONG_PATIENCE: Duration = Duration::from_secs(3);

/// Functions and their environments.
pub struct Fleet {
    functions: Vec<Served>,
    options: FleetOptions,
    orders: (mpsc::Sender<Order>, mpsc::Receiver<Order>),
    visits: Option<mpsc::UnboundedReceiver<Visit>>,
}

/// Tells a fleet at work what to do. Goes on without effect after the fleet's end.
#[derive(Debug, Clone)]
pub struct Control {
    orders: mpsc::Sender<Order>,
}

#[derive(Debug)]
enum Order {
    Restart { function: Option<String> },
}

impl Control {
    /// Has all environments start their code anew: those that are free at once, those with an invocation in hand after it.
    pub async fn restart(&self) {
        let _ = self.orders.send(Order::Restart { function: None }).await;
    }

    /// As [`Control::restart`], for one function.
    pub async fn restart_function(&self, name: &str) {
        let _ = self.orders.send(Order::Restart { function: Some(name.to_owned()) }).await;
    }
}

impl Fleet {
    /// A fleet of these functions. Nothing is started yet.
    pub fn new(functions: Vec<Served>, options: FleetOptions) -> Self {
        // Signals and watchers order restarts, and may wait: a few are enough.
        Self { functions, options, orders: mpsc::channel(4), visits: None }
    }

    /// The same where its environments are visited: the first function's, and of that the oldest, by commands; all of them by everything else.
    pub fn with_visits(self, visits: Option<mpsc::UnboundedReceiver<Visit>>) -> Self {
        Self { visits, ..self }
    }

    /// What tells it what to do while it runs.
    pub fn control(&self) -> Control {
        Control { orders: self.orders.0.clone() }
    }

    /// Serves calls until `shutdown`; then those in flight, for as long as the options say; then ends all environments. To be run on a
    /// [`tokio::task::LocalSet`], since the making of environments may need one.
    pub async fn run(self, mut calls: mpsc::Receiver<InvokeCall>, shutdown: impl Future<Output = ()>) {
        let Self { functions, options, orders: (_sender, mut orders), mut visits } = self;
        let mut work = AtWork::new(functions, options);
        work.begin();
        let mut shutdown = pin!(shutdown);
        let (mut drained_by, mut calls_come) = (None, true);
        while drained_by.is_none() || calls_come || !work.is_quiet() {
            let (next_reap, next_due, give_up) = (work.next_reap, work.next_due(), drained_by);
            let (patience, goes_on) = (work.patience(), !work.is_paused());
            tokio::select! {
                biased;
                () = &mut shutdown, if drained_by.is_none() => {
                    // What has come already is served.
                    calls.close();
                    work.is_ending = true;
                    work.go_on();
                    drained_by = Some(Instant::now() + work.options.drain);
                }
                Some(happened) = work.events.next() => work.happened(happened),
                Some(ended) = work.running.join_next() => work.ended(ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))),
                Some(_) = work.ending.join_next() => {}
                Some(Order::Restart { function }) = orders.recv() => work.restart(function.as_deref()),
                () = at(give_up) => break,
                Some(visit) = next(&mut visits) => work.visit(visit),
                call = calls.recv(), if calls_come && goes_on => match call {
                    Some(call) => work.take(call),
                    None => calls_come = false,
                },
                () = at(next_reap) => work.reap(),
                () = at(patience) => work.lose_patience(),
                () = at(next_due) => work.wake(),
            }
        }
        work.end().await;
    }
}

/// The next visit; none where nobody can come.
async fn next(visits: &mut Option<mpsc::UnboundedReceiver<Visit>>) -> Option<Visit> {
    visits.as_mut()?.recv().await
}

/// Waits until then, or for ever.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}

/// The end of an invocation.
struct Ended {
    function: usize,
    warm: Option<Warm>,
    end: End,
}

enum End {
    Call(AttemptEnd),
    Event(EventId, EventEnd),
}

pub(super) struct AtWork {
    pub(super) pools: Vec<Pool>,
    directory: Directory,
    pub(super) options: FleetOptions,
    /// Invocations in environments.
    running: JoinSet<Ended>,
    /// Environments that end.
    ending: JoinSet<()>,
    /// When an environment may have been idle for long enough.
    pub(super) next_reap: Option<Instant>,
    events: Events,
    /// Whether calls in flight are all that is still done.
    is_ending: bool,
    pub(super) standing: Standing,
}

impl AtWork {
    fn new(functions: Vec<Served>, options: FleetOptions) -> Self {
        let recipients = functions.iter().map(|served| Recipient {
            function: served.function.clone(),
            rules: Rc::new(served.events.clone()),
            is_off: served.concurrency == 0,
        });
        let events = Events::new(options.events.clone(), recipients.collect());
        let directory = Directory::new(options.names, functions.iter().map(|served| &*served.function));
        let pools = functions.into_iter().map(Pool::new).collect();
        Self {
            pools,
            directory,
            options,
            running: JoinSet::new(),
            ending: JoinSet::new(),
            next_reap: None,
            events,
            is_ending: false,
            standing: Standing::default(),
        }
    }

    fn begin(&mut self) {
        self.events.begin();
        for function in 0..self.pools.len() {
            self.prewarm(function);
        }
    }

    fn prewarm(&mut self, function: usize) {
        if self.options.prewarm > 0
            && !self.is_paused()
            && let Err(broken) = self.pools[function].prewarm(self.options.prewarm, Instant::now())
        {
            self.notify(broken);
        }
    }

    pub(super) fn notify(&self, broken: Broken) {
        (self.options.notify)(Notice { message: broken.reason, hint: broken.hint });
    }

    fn is_quiet(&self) -> bool {
        self.events.is_quiet() && self.pools.iter().all(Pool::is_quiet)
    }

    fn take(&mut self, call: InvokeCall) {
        let InvokeCall { request, reply } = call;
        match (self.directory.find(&request.target, |index| &self.pools[index].served.function), request.kind) {
            (Err(refusal), _) => send(reply, InvokeReply::Refused(refusal)),
            (Ok(_), InvocationKind::DryRun) => send(reply, InvokeReply::Verified),
            (Ok(function), InvocationKind::Event) => match trace_id(&self.pools[function].served.function, &request) {
                Ok(trace_id) => self.events.accept(function, request, trace_id, reply),
                Err(error) => send(reply, no_randomness(error)),
            },
            (Ok(function), InvocationKind::RequestResponse) => self.invoke(function, request, reply),
        }
    }

    fn invoke(&mut self, function: usize, request: InvokeRequest, reply: Reply) {
        let version = self.pools[function].served.function.version.clone();
        let (form, log_tail, settling) = (request.form, request.log_tail, self.pools[function].settling.clone());
        match invocation(&self.pools[function].served.function, request) {
            Ok(invocation) => self.run_or_wait(function, Job::new(invocation, Caller { reply, form, log_tail, version, settling })),
            Err(error) => send(reply, no_randomness(error)),
        }
    }

    fn run_or_wait(&mut self, function: usize, job: Job) {
        let pool = &mut self.pools[function];
        let is_first = pool.has_room() && !pool.has_waiting();
        // Who calls again at once means the environment that has just answered. Who would wait anyway does so in its turn.
        let would_wait = matches!(self.options.queue, Queue::Wait { .. }) && !pool.has_room();
        if !would_wait && pool.is_about_to_have_free() {
            let patience = match (pool.has_free(), pool.has_room()) {
                (true, true) => SHORT_PATIENCE,
                (false, true) => PATIENCE,
                (_, false) => LONG_PATIENCE,
            };
            pool.wait_patiently(Job { patient_until: Some(Instant::now() + patience), ..job });
            return;
        }
        if is_first {
            return self.start(function, job);
        }
        self.run_or_refuse(function, job);
    }

    /// Has a job wait for room, or refuses it.
    fn run_or_refuse(&mut self, function: usize, job: Job) {
        let pool = &mut self.pools[function];
        // A function that is switched off will never have room.
        let max = match self.options.queue {
            Queue::Wait { max } if pool.served.concurrency > 0 => max,
            Queue::Wait { .. } | Queue::Refuse => 0,
        };
        if let Some(job) = pool.wait(job, max) {
            job.refuse(InvokeRefusal::Throttled(ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded));
        }
        self.start_waiting(function);
    }

    /// Gives what room there is to those who wait for it.
    pub(super) fn start_waiting(&mut self, function: usize) {
        while !self.is_paused() && self.pools[function].has_room() {
            let started = match self.pools[function].is_turn_of_events() {
                true => self.start_event(function) || self.start_call(function),
                false => self.start_call(function) || self.start_event(function),
            };
            if !started {
                return;
            }
        }
    }

    /// Those who waited for an environment to be free in vain get a new one. Where others took the last room meanwhile, they go on waiting, or get what
    /// everybody gets.
    fn lose_patience(&mut self) {
        let now = Instant::now();
        for function in 0..self.pools.len() {
            for job in self.pools[function].impatient(now) {
                let (pool, last) = (&mut self.pools[function], job.came + LONG_PATIENCE);
                if pool.has_room() {
                    self.start(function, job);
                } else if self.options.queue == Queue::Refuse && pool.is_about_to_have_free() && now < last {
                    pool.wait_patiently(Job { patient_until: Some(last), ..job });
                } else {
                    self.run_or_refuse(function, job);
                }
            }
        }
    }

    fn start_call(&mut self, function: usize) -> bool {
        let Some(job) = self.pools[function].next_waiting() else { return false };
        self.start(function, job);
        true
    }

    fn start_event(&mut self, function: usize) -> bool {
        // Events keep; the next server runs them.
        if self.is_ending {
            return false;
        }
        let Some(ledger) = self.events.ledger() else { return false };
        let Some(id) = self.events.take_due(function) else { return false };
        match self.pools[function].take() {
            Ok(warm) => {
                let attempt = events::attempt(warm, id, ledger, self.events.recipient(function));
                self.running.spawn_local(async move {
                    let (warm, end) = attempt.await;
                    Ended { function, warm, end: End::Event(id, end) }
                });
            }
            Err(broken) => {
                self.events.fault(id, &broken);
                self.notify(broken);
                return false;
            }
        }
        true
    }

    fn next_due(&self) -> Option<Instant> {
        if self.is_ending || self.is_paused() { None } else { self.events.next_due() }
    }

    fn happened(&mut self, happened: Happened) {
        let notices = self.events.happened(happened, |name| self.directory.owner(name));
        notices.into_iter().for_each(&self.options.notify);
        self.wake();
    }

    /// Events may have become due.
    fn wake(&mut self) {
        if self.is_ending {
            return;
        }
        for function in self.events.touched() {
            self.events.give_up_old(function);
            self.start_waiting(function);
        }
        self.events.tell();
    }

    fn start(&mut self, function: usize, job: Job) {
        match self.pools[function].take() {
            Ok(warm) => {
                self.running.spawn_local(async move {
                    let (warm, end) = attempt(warm, job).await;
                    Ended { function, warm, end: End::Call(end) }
                });
            }
            Err(broken) => {
                job.refuse(InvokeRefusal::Service { message: broken.reason.clone() });
                self.notify(broken);
            }
        }
    }

    fn ended(&mut self, ended: Ended) {
        let Ended { function, warm, end } = ended;
        let now = Instant::now();
        self.pools[function].put_back(warm, now);
        if let (None, Some(idle)) = (self.next_reap, self.options.idle) {
            self.next_reap = now.checked_add(idle);
        }
        match end {
            End::Call(AttemptEnd::Answered) => {}
            End::Call(AttemptEnd::Broken(broken)) => self.notify(broken),
            End::Call(AttemptEnd::NotBegun(job)) => self.pools[function].wait_first(*job),
            End::Event(id, end) => self.events.ended(id, end).into_iter().for_each(&self.options.notify),
        }
        self.start_waiting(function);
        self.prewarm(function);
    }

    fn restart(&mut self, function: Option<&str>) {
        match function {
            None => self.pools.iter_mut().for_each(Pool::restart),
            Some(name) => {
                if let Some(function) = self.directory.named(name) {
                    self.pools[function].restart();
                }
            }
        }
    }

    fn reap(&mut self) {
        let (Some(idle), keep, now) = (self.options.idle, self.options.prewarm, Instant::now()) else { return };
        for handle in self.pools.iter_mut().flat_map(|pool| pool.reap(idle, keep, now)) {
            end(&mut self.ending, handle);
        }
        self.next_reap = self.pools.iter().filter_map(|pool| pool.idle_since(keep)).min().and_then(|since| since.checked_add(idle));
    }

    /// Ends all environments at once; those that still have an invocation in hand without a shutdown phase.
    async fn end(mut self) {
        for handle in self.pools.iter_mut().flat_map(Pool::empty) {
            end(&mut self.ending, handle);
        }
        self.running.shutdown().await;
        self.events.end().await;
        // What has not ended by then ends with its handle.
        let _ = timeout(END, async { while self.ending.join_next().await.is_some() {} }).await;
    }
}

fn end(ending: &mut JoinSet<()>, handle: Handle) {
    ending.spawn_local(async move {
        // Whoever holds the handle ends it; this bounds one that does not obey.
        let _ = timeout(END, handle.shut_down()).await;
    });
}

fn send(reply: Reply, answer: InvokeReply) {
    // A caller that has gone misses it.
    let _ = reply.send(answer);
}

fn no_randomness(error: getrandom::Error) -> InvokeReply {
    InvokeReply::Refused(InvokeRefusal::Service { message: format!("cannot get random bytes for a trace id: {error}") })
}

/// The trace that an invocation belongs to.
fn trace_id(function: &Function, request: &InvokeRequest) -> Result<String, getrandom::Error> {
    match (&request.trace_id, &function.trace_id) {
        (Some(given), _) => ids::trace_id_under(given),
        (None, Some(fixed)) => Ok(fixed.clone()),
        (None, None) => ids::trace_id(),
    }
}

/// The invocation that a request asks of a function.
fn invocation(function: &Function, request: InvokeRequest) -> Result<Invocation, getrandom::Error> {
    let trace_id = trace_id(function, &request)?;
    Ok(Invocation {
        request_id: request.request_id,
        event: request.payload,
        content_type: request.content_type,
        invoked_function_arn: function.arn_with(request.target.qualifier.as_deref()),
        trace_id,
        client_context: request.client_context.or_else(|| function.client_context.clone()),
        cognito_identity: function.cognito_identity.clone(),
        tenant_id: request.tenant_id,
    })
}
