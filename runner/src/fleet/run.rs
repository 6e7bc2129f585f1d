//! The fleet at work: one task owns all state, and waits for calls, ends of invocations, the clock and orders.

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::answer::Caller;
use super::attempt::{AttemptEnd, Job, attempt};
use super::directory::Directory;
use super::pool::{Pool, Warm};
use super::{FleetOptions, Notice, Queue, Served};
use crate::api::invoke::{InvokeCall, InvokeReply};
use crate::environment::{Broken, Handle, ids};
use crate::function::Function;
use crate::lambda::{Invocation, InvocationKind, InvokeRefusal, InvokeRequest, ThrottleReason};

type Reply = oneshot::Sender<InvokeReply>;

/// How long environments may take to end, their shutdown phase of two seconds included.
const END: Duration = Duration::from_secs(10);

/// Functions and their environments.
pub struct Fleet {
    functions: Vec<Served>,
    options: FleetOptions,
    orders: (mpsc::Sender<Order>, mpsc::Receiver<Order>),
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
        Self { functions, options, orders: mpsc::channel(4) }
    }

    /// What tells it what to do while it runs.
    pub fn control(&self) -> Control {
        Control { orders: self.orders.0.clone() }
    }

    /// Serves calls until `shutdown`; then those in flight, for as long as the options say; then ends all environments. To be run on a
    /// [`tokio::task::LocalSet`], since the making of environments may need one.
    pub async fn run(self, mut calls: mpsc::Receiver<InvokeCall>, shutdown: impl Future<Output = ()>) {
        let Self { functions, options, orders: (_sender, mut orders) } = self;
        let mut work = AtWork::new(functions, options);
        work.begin();
        let mut shutdown = pin!(shutdown);
        let (mut drained_by, mut calls_come) = (None, true);
        while drained_by.is_none() || calls_come || !work.is_quiet() {
            let (next_reap, give_up) = (work.next_reap, drained_by);
            tokio::select! {
                biased;
                () = &mut shutdown, if drained_by.is_none() => {
                    // What has come already is served.
                    calls.close();
                    drained_by = Some(Instant::now() + work.options.drain);
                }
                Some(ended) = work.running.join_next() => work.ended(ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))),
                Some(_) = work.ending.join_next() => {}
                Some(Order::Restart { function }) = orders.recv() => work.restart(function.as_deref()),
                () = at(give_up) => break,
                call = calls.recv(), if calls_come => match call {
                    Some(call) => work.take(call),
                    None => calls_come = false,
                },
                () = at(next_reap) => work.reap(),
            }
        }
        work.end().await;
    }
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
    end: AttemptEnd,
}

struct AtWork {
    pools: Vec<Pool>,
    directory: Directory,
    options: FleetOptions,
    /// Invocations in environments.
    running: JoinSet<Ended>,
    /// Environments that end.
    ending: JoinSet<()>,
    /// When an environment may have been idle for long enough.
    next_reap: Option<Instant>,
}

impl AtWork {
    fn new(functions: Vec<Served>, options: FleetOptions) -> Self {
        let directory = Directory::new(options.names, functions.iter().map(|served| &*served.function));
        let pools = functions.into_iter().map(Pool::new).collect();
        Self { pools, directory, options, running: JoinSet::new(), ending: JoinSet::new(), next_reap: None }
    }

    fn begin(&mut self) {
        for function in 0..self.pools.len() {
            self.prewarm(function);
        }
    }

    fn prewarm(&mut self, function: usize) {
        if self.options.prewarm > 0
            && let Err(broken) = self.pools[function].prewarm(self.options.prewarm, Instant::now())
        {
            self.notify(broken);
        }
    }

    fn notify(&self, broken: Broken) {
        (self.options.notify)(Notice { message: broken.reason, hint: broken.hint });
    }

    fn is_quiet(&self) -> bool {
        self.pools.iter().all(Pool::is_quiet)
    }

    fn take(&mut self, call: InvokeCall) {
        let InvokeCall { request, reply } = call;
        match (self.directory.find(&request.target, |index| &self.pools[index].served.function), request.kind) {
            (Err(refusal), _) => send(reply, InvokeReply::Refused(refusal)),
            (Ok(_), InvocationKind::DryRun) => send(reply, InvokeReply::Verified),
            (Ok(_), InvocationKind::Event) => send(reply, service_fault("events are not queued yet".to_owned())),
            (Ok(function), InvocationKind::RequestResponse) => self.invoke(function, request, reply),
        }
    }

    fn invoke(&mut self, function: usize, request: InvokeRequest, reply: Reply) {
        let version = self.pools[function].served.function.version.clone();
        let (form, log_tail) = (request.form, request.log_tail);
        match invocation(&self.pools[function].served.function, request) {
            Ok(invocation) => self.run_or_wait(function, Job { invocation, caller: Caller { reply, form, log_tail, version } }),
            Err(error) => send(reply, service_fault(format!("cannot get random bytes for a trace id: {error}"))),
        }
    }

    fn run_or_wait(&mut self, function: usize, job: Job) {
        let pool = &mut self.pools[function];
        if pool.has_room() && !pool.has_waiting() {
            return self.start(function, job);
        }
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

    fn start_waiting(&mut self, function: usize) {
        while self.pools[function].has_room() {
            let Some(job) = self.pools[function].next_waiting() else { return };
            self.start(function, job);
        }
    }

    fn start(&mut self, function: usize, job: Job) {
        match self.pools[function].take() {
            Ok(warm) => {
                self.running.spawn_local(async move {
                    let (warm, end) = attempt(warm, job).await;
                    Ended { function, warm, end }
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
            AttemptEnd::Answered => {}
            AttemptEnd::Broken(broken) => self.notify(broken),
            AttemptEnd::NotBegun(job) => self.pools[function].wait_first(job),
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
        drop(self.running);
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

fn service_fault(message: String) -> InvokeReply {
    InvokeReply::Refused(InvokeRefusal::Service { message })
}

/// The invocation that a request asks of a function.
fn invocation(function: &Function, request: InvokeRequest) -> Result<Invocation, getrandom::Error> {
    let trace_id = match (&request.trace_id, &function.trace_id) {
        (Some(given), _) => ids::trace_id_under(given)?,
        (None, Some(fixed)) => fixed.clone(),
        (None, None) => ids::trace_id()?,
    };
    let invoked_function_arn = match &request.target.qualifier {
        Some(qualifier) => format!("{}:{qualifier}", function.arn),
        None => function.arn.clone(),
    };
    Ok(Invocation {
        request_id: request.request_id,
        event: request.payload,
        content_type: request.content_type,
        invoked_function_arn,
        trace_id,
        client_context: request.client_context.or_else(|| function.client_context.clone()),
        cognito_identity: function.cognito_identity.clone(),
        tenant_id: request.tenant_id,
    })
}
