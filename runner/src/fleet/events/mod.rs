//! Queued events: accepted when they are on the disk, run until they succeed or are given up, and told of where somebody wants to know.
//!
//! What is stored of an event is removed when all that was to be done with it is done, and not before: an event that was accepted is delivered at
//! least once, whatever happens to us.

mod attempt;
mod course;
mod destination;
mod ledger;
mod record;
mod store;
mod waiting;

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::{OnceCell, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::course::{Condition, Course, Stage};
use self::destination::Messenger;
use self::ledger::{Ledger, Opened, Reason, in_a_line};
use self::store::{Change, Stored};
use self::waiting::Waiting;
use super::Notice;
use crate::api::invoke::InvokeReply;
use crate::function::Function;
use crate::function::events::EventRules;
use crate::lambda::{InvokeRefusal, InvokeRequest, ThrottleReason};

pub(super) use self::attempt::{EventEnd, attempt};
pub use self::store::EventPlace;

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
pub(super) struct Recipient {
    pub(super) function: Arc<Function>,
    pub(super) rules: Rc<EventRules>,
    /// Whether it will never run: its events are given up at once.
    pub(super) is_off: bool,
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
        Self { began: Instant::now(), began_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX) }
    }

    fn now_ms(self) -> u64 {
        self.began_ms.saturating_add(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn instant(self, ms: u64) -> Option<Instant> {
        self.began.checked_add(Duration::from_millis(ms.saturating_sub(self.began_ms)))
    }
}

/// An event as it is now: where in the list its function is, its key in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EventId {
    pub(super) function: usize,
    pub(super) key: u64,
}

/// What tasks of ours come to.
pub(super) enum Happened {
    Opened(Result<Option<Opened>, Reason>),
    /// A new event is on the disk, or could not be put there.
    Accepted { function: usize, course: Course, stored: Result<u64, Reason>, reply: oneshot::Sender<InvokeReply> },
    /// An event is where it is now on the disk, too; without a course it is over.
    Settled { id: EventId, course: Option<Course>, complaint: Option<Notice> },
    /// An event is no longer there, or could not be read: it is left to the next server.
    Lost { id: EventId, reason: Reason },
}

/// All queued events of a fleet.
pub(super) struct Events {
    options: EventOptions,
    recipients: Vec<Recipient>,
    ledger: Rc<OnceCell<Ledger>>,
    messenger: Rc<Messenger>,
    clock: Clock,
    waiting: Waiting,
    /// Events that are run, told of, or written.
    in_hand: usize,
    letters: usize,
    tasks: JoinSet<Happened>,
    /// Functions of which events may have become due.
    touched: HashSet<usize>,
}

impl Events {
    pub(super) fn new(options: EventOptions, recipients: Vec<Recipient>) -> Self {
        Self {
            options,
            recipients,
            ledger: Rc::default(),
            messenger: Rc::default(),
            clock: Clock::new(),
            waiting: Waiting::default(),
            in_hand: 0,
            letters: 0,
            tasks: JoinSet::new(),
            touched: HashSet::new(),
        }
    }

    /// Looks for events that an earlier server left.
    pub(super) fn begin(&mut self) {
        if let Some(place) = self.options.place.clone() {
            self.tasks.spawn_local(async move { Happened::Opened(Ledger::open(place, false).await) });
        }
    }

    /// Whether nothing is being done.
    pub(super) fn is_quiet(&self) -> bool {
        self.tasks.is_empty() && self.in_hand == 0
    }

    /// Waits for the next thing that happens. Never, when nothing is being done.
    pub(super) async fn next(&mut self) -> Option<Happened> {
        let ended = self.tasks.join_next().await?;
        Some(ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())))
    }

    /// Takes a new event: stores it and answers then.
    pub(super) fn accept(&mut self, function: usize, request: InvokeRequest, trace_id: String, reply: oneshot::Sender<InvokeReply>) {
        let Some(place) = self.options.place.clone() else {
            let message = "there is no folder for queued events".to_owned();
            return answer(reply, InvokeReply::Refused(InvokeRefusal::Service { message }));
        };
        if self.waiting.len() + self.in_hand >= self.options.max_queued {
            let reason = ThrottleReason::ConcurrentInvocationLimitExceeded;
            return answer(reply, InvokeReply::Refused(InvokeRefusal::Throttled(reason)));
        }
        let (course, payload) = self.course(function, request, trace_id);
        let recipient = &self.recipients[function];
        let course = match recipient.is_off {
            false => Some(course),
            true => course.end(Condition::ZeroReservedConcurrency, &recipient.rules, self.clock.now_ms()),
        };
        // Nobody wants to know of an event that is over before it begins.
        let Some(course) = course else { return answer(reply, InvokeReply::Accepted) };
        self.in_hand += 1;
        let ledger = self.ledger.clone();
        self.tasks.spawn_local(async move {
            let stored = store_new(&ledger, place, course.clone(), payload).await;
            Happened::Accepted { function, course, stored, reply }
        });
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
    pub(super) fn happened(&mut self, happened: Happened, owner: impl Fn(&str) -> Option<usize>) -> Vec<Notice> {
        match happened {
            Happened::Opened(Err(reason)) => vec![Notice { message: format!("no queued events of before are run: {reason}"), hint: None }],
            Happened::Opened(Ok(None)) => Vec::new(),
            Happened::Opened(Ok(Some(opened))) => self.opened(opened, owner),
            Happened::Accepted { function, course, stored, reply } => {
                self.in_hand -= 1;
                match stored {
                    Ok(key) => {
                        answer(reply, InvokeReply::Accepted);
                        self.place(EventId { function, key }, &course);
                        Vec::new()
                    }
                    Err(reason) => {
                        let message = format!("an event could not be stored: {reason}");
                        answer(reply, InvokeReply::Refused(InvokeRefusal::Service { message: message.clone() }));
                        vec![Notice { message, hint: None }]
                    }
                }
            }
            Happened::Settled { id, course, complaint } => {
                self.in_hand -= 1;
                if let Some(course) = course {
                    self.place(id, &course);
                }
                complaint.into_iter().collect()
            }
            Happened::Lost { id, reason } => {
                self.in_hand -= 1;
                self.touched.insert(id.function);
                vec![Notice { message: format!("a queued event could not be read: {reason}"), hint: None }]
            }
        }
    }

    fn opened(&mut self, opened: Opened, owner: impl Fn(&str) -> Option<usize>) -> Vec<Notice> {
        let Opened { ledger, courses, complaints } = opened;
        let mut notices: Vec<Notice> = complaints.into_iter().map(|message| Notice { message, hint: None }).collect();
        if self.ledger.set(ledger).is_err() {
            // An event came first, and opened it: this one is another, which the next server finds.
            return notices;
        }
        let mut strangers = HashSet::new();
        for (key, course) in courses {
            match owner(&course.function) {
                Some(function) => self.place(EventId { function, key }, &course),
                None => {
                    strangers.insert(course.function);
                }
            }
        }
        let message = |name| format!("events of the function `{name}`, which is not served here, stay in the queue");
        notices.extend(strangers.into_iter().map(|name| Notice { message: message(name), hint: None }));
        notices
    }

    /// An event waits for what is next on its course.
    fn place(&mut self, id: EventId, course: &Course) {
        match course.stage {
            Stage::Tell { .. } => self.waiting.tell(id, course.due_ms),
            Stage::Invoke => self.waiting.run(id, course.due_ms, course.expires_ms(&self.recipients[id.function].rules)),
        }
        self.touched.insert(id.function);
    }

    /// Functions of which something may be due.
    pub(super) fn touched(&mut self) -> Vec<usize> {
        let due = self.waiting.functions_due(self.clock.now_ms());
        let mut touched: Vec<usize> = self.touched.drain().chain(due).collect();
        touched.sort_unstable();
        touched.dedup();
        touched
    }

    /// When something will be due that is not yet.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.next_after(self.clock.now_ms()).and_then(|ms| self.clock.instant(ms))
    }

    /// The event of this function that is to be run next, if one is due. Those that are too old are given up on the way.
    pub(super) fn take_due(&mut self, function: usize) -> Option<EventId> {
        let now_ms = self.clock.now_ms();
        loop {
            let (id, expires_ms) = self.waiting.take_run(function, now_ms)?;
            self.in_hand += 1;
            if expires_ms > now_ms {
                return Some(id);
            }
            self.give_up(id, Condition::EventAgeExceeded);
        }
    }

    /// Gives up the events of a function that never runs, and those that are too old though there is no room to run others.
    pub(super) fn give_up_old(&mut self, function: usize) {
        let (now_ms, is_off) = (self.clock.now_ms(), self.recipients[function].is_off);
        let condition = if is_off { Condition::ZeroReservedConcurrency } else { Condition::EventAgeExceeded };
        for id in self.waiting.take_expired(function, if is_off { u64::MAX } else { now_ms }) {
            self.in_hand += 1;
            self.give_up(id, condition);
        }
    }

    fn give_up(&mut self, id: EventId, condition: Condition) {
        let (rules, clock) = (self.recipients[id.function].rules.clone(), self.clock);
        self.settle(id, async move |stored: Stored| {
            let notice = given_up(&stored.course, condition, &rules);
            (stored.course.end(condition, &rules, clock.now_ms()), None, notice)
        });
    }

    /// The open ledger. There is one whenever there are events.
    pub(super) fn ledger(&self) -> Option<Ledger> {
        self.ledger.get().cloned()
    }

    /// An event that could not be begun is due again.
    pub(super) fn not_begun(&mut self, id: EventId, course: &Course) {
        self.in_hand -= 1;
        self.place(id, course);
    }

    /// An event could not be read: it stays where it is.
    pub(super) fn lost(&mut self, id: EventId, reason: Reason) -> Vec<Notice> {
        self.happened(Happened::Lost { id, reason }, |_| None)
    }

    /// An attempt is over.
    pub(super) fn tried(&mut self, id: EventId, course: Course, tried: course::Tried, response: Option<Bytes>) {
        let (rules, now_ms) = (&self.recipients[id.function].rules, self.clock.now_ms());
        let delay_ms = u64::try_from(self.options.retry_delay.as_millis()).unwrap_or(u64::MAX);
        let failed = matches!(tried, course::Tried::Failed { .. });
        let before = Course { attempts: course.attempts + 1, ..course.clone() };
        let next = course.tried(tried, rules, delay_ms, now_ms);
        let over = next.as_ref().is_none_or(|next| next.stage != Stage::Invoke);
        let complaint = (failed && over).then(|| given_up(&before, Condition::RetriesExhausted, rules)).flatten();
        let Some(ledger) = self.ledger() else { return self.in_hand -= 1 };
        self.tasks.spawn_local(async move { write(&ledger, id, next, response, complaint).await });
    }

    /// An environment could not be had for an event.
    pub(super) fn fault(&mut self, id: EventId, reason: String) {
        let (rules, clock) = (self.recipients[id.function].rules.clone(), self.clock);
        self.settle(id, async move |stored: Stored| {
            let tried = course::Tried::Fault { message: reason };
            (stored.course.tried(tried, &rules, 0, clock.now_ms()), None, None)
        });
    }

    /// Tells of the events of which somebody wants to know.
    pub(super) fn tell(&mut self) {
        while self.letters < LETTERS
            && let Some(id) = self.waiting.take_tell(self.clock.now_ms())
        {
            (self.in_hand, self.letters) = (self.in_hand + 1, self.letters + 1);
            let (recipient, messenger, clock) = (self.recipients[id.function].clone(), self.messenger.clone(), self.clock);
            self.settle(id, async move |stored: Stored| {
                let (course, notice) = tell_one(&recipient, &messenger, stored, clock).await;
                (course, None, notice)
            });
        }
    }

    /// Reads an event, decides, and writes what was decided.
    fn settle(&mut self, id: EventId, decide: impl AsyncFnOnce(Stored) -> (Option<Course>, Option<Bytes>, Option<Notice>) + 'static) {
        let Some(ledger) = self.ledger() else { return self.in_hand -= 1 };
        self.tasks.spawn_local(async move {
            match ledger.load(id.key).await {
                Ok(Some(stored)) => {
                    let (course, response, complaint) = decide(stored).await;
                    write(&ledger, id, course, response, complaint).await
                }
                Ok(None) => Happened::Lost { id, reason: "it is not there any more".to_owned() },
                Err(reason) => Happened::Lost { id, reason },
            }
        });
    }

    /// Lets go of the store.
    pub(super) async fn end(mut self) {
        self.tasks.shutdown().await;
        if let Some(ledger) = Rc::into_inner(self.ledger).and_then(OnceCell::into_inner) {
            ledger.close().await;
        }
    }
}
