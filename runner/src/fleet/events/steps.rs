//! What is done with events beside the fleet's own work: each step reads, acts, and writes, and says what came of it.

use std::rc::Rc;

use bytes::Bytes;
use tokio::sync::{Mutex, oneshot};

use super::course::{Condition, Course, Purpose, Stage};
use super::destination::Messenger;
use super::ledger::{Ledger, Opened, Reason, in_a_line};
use super::record::letter;
use super::store::{Change, EventPlace, Stored};
use super::{Clock, EventId, Recipient};
use crate::api::invoke::InvokeReply;
use crate::fleet::Notice;
use crate::function::events::{Destination, EventRules};

/// The ledger, once it is open. The lock is held while it is being opened.
pub(super) type Shared = Rc<Mutex<Option<Ledger>>>;

/// What steps come to.
#[derive(Debug)]
pub(in crate::fleet) enum Happened {
    /// It was looked whether there are events of before.
    Opened { opened: Result<Option<Opened>, Reason> },
    /// A new event is on the disk, or could not be put there. If it was the first one, with what else was found.
    Accepted { function: usize, course: Course, stored: Result<u64, Reason>, opened: Option<Opened>, reply: oneshot::Sender<InvokeReply> },
    /// What is next for an event is on the disk, too; without a course it is over.
    Settled { id: EventId, course: Option<Course>, notice: Option<Notice> },
    /// An event could not be read.
    Lost { id: EventId, reason: Reason },
}

/// Opens the ledger, unless it is open.
pub(super) async fn open(shared: Shared, place: EventPlace) -> Happened {
    Happened::Opened { opened: open_once(&shared, place, false).await }
}

async fn open_once(shared: &Shared, place: EventPlace, make: bool) -> Result<Option<Opened>, Reason> {
    let mut held = shared.lock().await;
    if held.is_some() {
        return Ok(None);
    }
    let opened = Ledger::open(place, make).await?;
    *held = opened.as_ref().map(|opened| opened.ledger.clone());
    Ok(opened)
}

/// A new event and who waits to hear that it is kept.
pub(super) struct NewEvent {
    pub(super) function: usize,
    pub(super) course: Course,
    pub(super) payload: Bytes,
    pub(super) reply: oneshot::Sender<InvokeReply>,
}

/// Puts a new event on the disk.
pub(super) async fn accept(shared: Shared, place: EventPlace, event: NewEvent) -> Happened {
    let NewEvent { function, course, payload, reply } = event;
    let (opened, stored) = match open_once(&shared, place, true).await {
        Err(reason) => (None, Err(reason)),
        Ok(opened) => {
            let ledger = shared.lock().await.clone();
            let stored = match ledger {
                Some(ledger) => ledger.put(course.clone(), payload).await,
                None => Err("the queue is closed".to_owned()),
            };
            (opened, stored)
        }
    };
    Happened::Accepted { function, course, stored, opened, reply }
}

/// What was decided of an event.
pub(super) struct Decided {
    /// What is next for it; nothing, when it is over.
    pub(super) course: Option<Course>,
    /// What the function answered, if that is new.
    pub(super) response: Option<Bytes>,
    pub(super) notice: Option<Notice>,
}

/// Reads an event, decides, and writes what was decided.
pub(super) async fn settle(ledger: Ledger, id: EventId, decide: impl AsyncFnOnce(Stored) -> Decided) -> Happened {
    match ledger.load(id.key).await {
        Ok(stored) => write(ledger, id, decide(stored).await).await,
        Err(reason) => Happened::Lost { id, reason },
    }
}

/// Writes what was decided. If the disk does not take it, it holds for as long as we run: another server would do the step again.
pub(super) async fn write(ledger: Ledger, id: EventId, decided: Decided) -> Happened {
    let Decided { course, response, notice } = decided;
    let change = match &course {
        Some(course) => Change::Update { key: id.key, course: Box::new(course.clone()), response },
        None => Change::Remove { key: id.key },
    };
    let unwritten = |reason| Notice { message: format!("what became of an event could not be stored: {reason}"), hint: None };
    let notice = ledger.change(change).await.err().map(unwritten).or(notice);
    Happened::Settled { id, course, notice }
}

/// Tells the next one who wants to know of an event's end.
pub(super) async fn tell(recipient: Recipient, messenger: Rc<Messenger>, clock: Clock, stored: Stored) -> Decided {
    let decided = |course, notice| Decided { course, response: None, notice };
    let Stage::Tell { condition, ended_ms, to } = &stored.course.stage else { return decided(Some(stored.course), None) };
    let Some(purpose) = to.first().copied() else { return decided(None, None) };
    let Some(destination) = destination(&recipient.rules, purpose) else {
        // It was configured when the event ended, and is no more.
        return decided(stored.course.told(purpose, true, clock.now_ms()), None);
    };
    let letter = letter(purpose, &stored, *condition, *ended_ms, &recipient.function.version);
    let delivered = messenger.deliver(destination, letter).await;
    let is_first = stored.course.faults == 0;
    let notice = delivered.as_ref().err().filter(|_| is_first).map(|error| Notice {
        message: format!("event {}: {}; it is tried again until it works", stored.course.request_id, in_a_line(error)),
        hint: None,
    });
    decided(stored.course.told(purpose, delivered.is_ok(), clock.now_ms()), notice)
}

fn destination(rules: &EventRules, purpose: Purpose) -> Option<&Destination> {
    match purpose {
        Purpose::OnSuccess => rules.on_success.as_ref(),
        Purpose::OnFailure => rules.on_failure.as_ref(),
        Purpose::DeadLetter => rules.dead_letter.as_ref(),
    }
}

/// What people are told of an event that was given up, if nobody else is.
pub(super) fn given_up(course: &Course, condition: Condition, rules: &EventRules) -> Option<Notice> {
    if rules.tells_of_failure() {
        return None;
    }
    let attempts = match course.attempts {
        0 => "without having run".to_owned(),
        1 => "after one attempt".to_owned(),
        attempts => format!("after {attempts} attempts"),
    };
    let message = format!("event {} of `{}` is given up {attempts} ({condition:?})", course.request_id, course.function);
    Some(Notice { message, hint: None })
}
