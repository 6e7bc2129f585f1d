//! Queued events: accepted when they are on the disk, run until they succeed or are given up, and told of where somebody wants to know.
//!
//! What is stored of an event is removed when all that was to be done with it is done, and not before: an event that was accepted is delivered at
//! least once, whatever happens to us.

mod attempt;
mod course;
mod destination;
mod ledger;
mod record;
mod steps;
mod store;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

pub(in crate::fleet) use self::attempt::{EventEnd, attempt};
use self::course::{Condition, Course, Stage, Tried};
use self::destination::Messenger;
use self::ledger::{Ledger, Opened};
pub(in crate::fleet) use self::steps::Happened;
use self::steps::{Decided, NewEvent, Shared, given_up};
pub use self::store::EventPlace;
use self::store::Stored;
use self::waiting::Waiting;
use super::Notice;
use crate::api::invoke::InvokeReply;
use crate::environment::Broken;
use crate::function::Function;
use crate::function::events::EventRules;
use crate::lambda::{InvokeRefusal, InvokeRequest, ThrottleReason};

/// Letters that are under way at once.
const LETTERS: usize = 16;

/// How a server queues events.
#[derive(Debug, Clone)]
pub struct EventOptions {
    /// Where they are. Without a place events are refused.
    pub place: Option<EventPlace>,
    /// How long after its first failure an event is tried again; after the second one twice as long.
    pub retry_delay: Duration,
    /// So many events are queued at the most; more are refused (429).
    pub max_queued: usize,
}

impl Default for EventOptions {
    fn default() -> Self {
        Self { place: None, retry_delay: Duration::from_secs(60), max_queued: 100_000 }
    }
}

/// A function as far as its events go.
#[derive(Debug, Clone)]
pub(in crate::fleet) struct Recipient {
    pub(in crate::fleet) function: Arc<Function>,
    pub(in crate::fleet) rules: Rc<EventRules>,
    /// Whether it will never run: its events are given up at once.
    pub(in crate::fleet) is_off: bool,
}

/// Wall time that goes on with the runtime's clock.
#[derive(Debug, Clone, Copy)]
struct Clock {
    began: Instant,
    began_ms: u64,
}

impl Clock {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { began: Instant::now(), began_ms: millis(now) }
    }

    fn now_ms(self) -> u64 {
        self.began_ms.saturating_add(millis(self.began.elapsed()))
    }

    fn instant(self, ms: u64) -> Option<Instant> {
        self.began.checked_add(Duration::from_millis(ms.saturating_sub(self.began_ms)))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// An event of this server: which function's, and its key in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::fleet) struct EventId {
    pub(in crate::fleet) function: usize,
    pub(in crate::fleet) key: u64,
}

/// All queued events of a fleet.
pub(in crate::fleet) struct Events {
    options: EventOptions,
    recipients: Vec<Recipient>,
    ledger: Shared,
    messenger: Rc<Messenger>,
    clock: Clock,
    waiting: Waiting,
    /// Events that do not wait: they are run, told of, or written.
    in_hand: usize,
    steps: JoinSet<Happened>,
    letters: JoinSet<Happened>,
    /// Functions of which something may have become due.
    touched: BTreeSet<usize>,
}

impl Events {
    pub(in crate::fleet) fn new(options: EventOptions, recipients: Vec<Recipient>) -> Self {
        Self {
            options,
            recipients,
            ledger: Shared::default(),
            messenger: Rc::default(),
            clock: Clock::new(),
            waiting: Waiting::default(),
            in_hand: 0,
            steps: JoinSet::new(),
            letters: JoinSet::new(),
            touched: BTreeSet::new(),
        }
    }

    /// Looks for events that an earlier server left.
    pub(in crate::fleet) fn begin(&mut self) {
        if let Some(place) = self.options.place.clone() {
            self.steps.spawn_local(steps::open(self.ledger.clone(), place));
        }
    }

    /// A function as far as its events go.
    pub(in crate::fleet) fn recipient(&self, function: usize) -> Recipient {
        self.recipients[function].clone()
    }

    /// The open ledger. There is one whenever there are events.
    pub(in crate::fleet) fn ledger(&self) -> Option<Ledger> {
        // It is locked only while it is being opened.
        self.ledger.try_lock().ok().and_then(|ledger| ledger.clone())
    }

    /// Whether nothing is being done.
    pub(in crate::fleet) fn is_quiet(&self) -> bool {
        self.in_hand == 0 && self.steps.is_empty() && self.letters.is_empty()
    }

    /// Waits for the next thing that happens. `None`, when nothing is being done.
    pub(in crate::fleet) async fn next(&mut self) -> Option<Happened> {
        let ended = tokio::select! {
            Some(ended) = self.steps.join_next() => ended,
            Some(ended) = self.letters.join_next() => ended,
            else => return None,
        };
        Some(ended.unwrap_or_else(|error: JoinError| std::panic::resume_unwind(error.into_panic())))
    }

    /// Takes a new event: stores it, and answers then.
    pub(in crate::fleet) fn accept(
        &mut self,
        function: usize,
        request: InvokeRequest,
        trace_id: String,
        reply: oneshot::Sender<InvokeReply>,
    ) {
        let Some(place) = self.options.place.clone() else {
            let message = "there is no folder for queued events".to_owned();
            return answer(reply, InvokeReply::Refused(InvokeRefusal::Service { message }));
        };
        if self.waiting.len() + self.in_hand >= self.options.max_queued {
            let reason = ThrottleReason::ConcurrentInvocationLimitExceeded;
            return answer(reply, InvokeReply::Refused(InvokeRefusal::Throttled(reason)));
        }
        let (course, payload) = self.course(function, request, trace_id);
        self.in_hand += 1;
        self.steps.spawn_local(steps::accept(self.ledger.clone(), place, NewEvent { function, course, payload, reply }));
    }

    fn course(&self, function: usize, request: InvokeRequest, trace_id: String) -> (Course, Bytes) {
        let function = &self.recipients[function].function;
        let now_ms = self.clock.now_ms();
        let course = Course {
            request_id: request.request_id.to_string(),
            function: function.name.clone(),
            invoked_function_arn: function.arn_with(request.target.qualifier.as_deref()),
            trace_id,
            content_type: request.content_type,
            tenant_id: request.tenant_id,
            accepted_ms: now_ms,
            attempts: 0,
            faults: 0,
            due_ms: now_ms,
            stage: Stage::Invoke,
            last: None,
        };
        (course, request.payload)
    }

    /// What happened becomes state. `owner` finds the function of a name. Comes with what people should know.
    pub(in crate::fleet) fn happened(&mut self, happened: Happened, owner: impl Fn(&str) -> Option<usize>) -> Vec<Notice> {
        match happened {
            Happened::Opened { opened: Err(reason) } => vec![notice(format!("queued events of before are not run: {reason}"))],
            Happened::Opened { opened: Ok(opened) } => opened.map(|opened| self.opened(opened, None, owner)).unwrap_or_default(),
            Happened::Accepted { function, course, stored, opened, reply } => {
                self.in_hand -= 1;
                let mut notices = opened.map(|opened| self.opened(opened, stored.as_ref().ok(), owner)).unwrap_or_default();
                match stored {
                    Ok(key) => {
                        answer(reply, InvokeReply::Accepted { trace_id: course.trace_id.clone() });
                        self.wait(EventId { function, key }, &course);
                    }
                    Err(reason) => {
                        let message = format!("an event could not be stored: {reason}");
                        answer(reply, InvokeReply::Refused(InvokeRefusal::Service { message: message.clone() }));
                        notices.push(notice(message));
                    }
                }
                notices
            }
            Happened::Settled { id, course, notice } => {
                self.in_hand -= 1;
                match course {
                    Some(course) => self.wait(id, &course),
                    None => drop(self.touched.insert(id.function)),
                }
                notice.into_iter().collect()
            }
            Happened::Lost { id, reason } => self.lost(id, &reason),
        }
    }

    /// Events of before wait for what is next on their courses. `new` is the key of one that was not there before.
    fn opened(&mut self, opened: Opened, new: Option<&u64>, owner: impl Fn(&str) -> Option<usize>) -> Vec<Notice> {
        let Opened { courses, complaints, .. } = opened;
        let mut strangers = HashSet::new();
        for (key, course) in courses.into_iter().filter(|(key, _)| Some(key) != new) {
            match owner(&course.function) {
                Some(function) => self.wait(EventId { function, key }, &course),
                None => drop(strangers.insert(course.function)),
            }
        }
        let stay = |name| format!("events of the function `{name}`, which is not served here, stay in the queue");
        complaints.into_iter().chain(strangers.into_iter().map(stay)).map(notice).collect()
    }

    /// An event waits for what is next on its course.
    fn wait(&mut self, id: EventId, course: &Course) {
        let recipient = &self.recipients[id.function];
        match course.stage {
            Stage::Tell { .. } => self.waiting.tell(id, course.due_ms),
            Stage::Invoke if recipient.is_off => self.waiting.run(id, course.due_ms, 0),
            Stage::Invoke => self.waiting.run(id, course.due_ms, course.expires_ms(&recipient.rules)),
        }
        self.touched.insert(id.function);
    }

    /// Functions of which something may be due.
    pub(in crate::fleet) fn touched(&mut self) -> BTreeSet<usize> {
        let mut touched = std::mem::take(&mut self.touched);
        touched.extend(self.waiting.functions_due(self.clock.now_ms()));
        touched
    }

    /// When something will be due that is not yet.
    pub(in crate::fleet) fn next_due(&self) -> Option<Instant> {
        self.waiting.next_after(self.clock.now_ms()).and_then(|ms| self.clock.instant(ms))
    }

    /// The event of this function that is to be run next, if one is due.
    pub(in crate::fleet) fn take_due(&mut self, function: usize) -> Option<EventId> {
        let id = self.waiting.take_run(function, self.clock.now_ms())?;
        self.in_hand += 1;
        Some(id)
    }

    /// Gives up the events of a function that are too old, and all of one that never runs.
    pub(in crate::fleet) fn give_up_old(&mut self, function: usize) {
        let Recipient { rules, is_off, .. } = self.recipients[function].clone();
        let condition = if is_off { Condition::ZeroReservedConcurrency } else { Condition::EventAgeExceeded };
        let clock = self.clock;
        while let Some(id) = self.waiting.take_expired(function, clock.now_ms()) {
            self.in_hand += 1;
            let rules = rules.clone();
            self.settle(id, async move |stored: Stored| {
                let notice = given_up(&stored.course, condition, &rules);
                Decided { course: stored.course.end(condition, &rules, clock.now_ms()), response: None, notice }
            });
        }
    }

    /// An environment could not be had for an event.
    pub(in crate::fleet) fn fault(&mut self, id: EventId, broken: &Broken) {
        let (rules, clock, message) = (self.recipients[id.function].rules.clone(), self.clock, broken.reason.clone());
        self.settle(id, async move |stored: Stored| {
            let course = stored.course.tried(Tried::Fault { message }, &rules, 0, clock.now_ms());
            Decided { course, response: None, notice: None }
        });
    }

    /// An attempt is over. Comes with what people should know.
    pub(in crate::fleet) fn ended(&mut self, id: EventId, end: EventEnd) -> Vec<Notice> {
        match end {
            EventEnd::Lost { reason } => self.lost(id, &reason),
            EventEnd::Tried { course, tried, response, broken } => {
                self.tried(id, *course, tried, response);
                broken.map(|broken| Notice { message: broken.reason, hint: broken.hint }).into_iter().collect()
            }
        }
    }

    fn tried(&mut self, id: EventId, course: Course, tried: Tried, response: Option<Bytes>) {
        let rules = &self.recipients[id.function].rules;
        let failed = Course { attempts: course.attempts + 1, ..course.clone() };
        let has_failed = matches!(tried, Tried::Failed { .. });
        let course = course.tried(tried, rules, millis(self.options.retry_delay), self.clock.now_ms());
        let is_over = course.as_ref().is_none_or(|course| course.stage != Stage::Invoke);
        let notice = if has_failed && is_over { given_up(&failed, Condition::RetriesExhausted, rules) } else { None };
        let Some(ledger) = self.ledger() else { return self.in_hand -= 1 };
        self.steps.spawn_local(steps::write(ledger, id, Decided { course, response, notice }));
    }

    /// An event cannot be read. It stays where it is, for another server.
    fn lost(&mut self, id: EventId, reason: &str) -> Vec<Notice> {
        self.in_hand -= 1;
        self.touched.insert(id.function);
        vec![notice(format!("a queued event could not be read: {reason}"))]
    }

    /// Tells of the events of which somebody wants to know.
    pub(in crate::fleet) fn tell(&mut self) {
        while self.letters.len() < LETTERS
            && let Some(ledger) = self.ledger()
            && let Some(id) = self.waiting.take_tell(self.clock.now_ms())
        {
            self.in_hand += 1;
            let (recipient, messenger, clock) = (self.recipient(id.function), self.messenger.clone(), self.clock);
            let decide = async move |stored: Stored| steps::tell(recipient, messenger, clock, stored).await;
            self.letters.spawn_local(steps::settle(ledger, id, decide));
        }
    }

    fn settle(&mut self, id: EventId, decide: impl AsyncFnOnce(Stored) -> Decided + 'static) {
        match self.ledger() {
            Some(ledger) => drop(self.steps.spawn_local(steps::settle(ledger, id, decide))),
            None => self.in_hand -= 1,
        }
    }

    /// Lets go of the store. What is not on the disk by now is done again by the next server.
    pub(in crate::fleet) async fn end(mut self) {
        self.steps.shutdown().await;
        self.letters.shutdown().await;
        if let Some(ledger) = self.ledger.lock().await.take() {
            ledger.close().await;
        }
    }
}

fn answer(reply: oneshot::Sender<InvokeReply>, answer: InvokeReply) {
    // A caller that has gone misses it.
    let _ = reply.send(answer);
}

fn notice(message: String) -> Notice {
    Notice { message, hint: None }
}
