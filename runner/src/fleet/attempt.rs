//! One invocation in one environment, from the hand-over to the end of its phase.

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::answer::{self, Caller};
use super::pool::Warm;
use crate::api::invoke::InvokeReply;
use crate::environment::{Answer, Broken, Finished, Work};
use crate::lambda::{Invocation, InvokeRefusal};

/// So many environments may end before they take a job: one may have ended while it was idle, several are a fault.
const MOST_REFUSALS: u32 = 3;

/// An invocation that is to be run, and who waits for its answer.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) invocation: Invocation,
    pub(super) caller: Caller,
    /// When it came, for all its waiting together.
    pub(super) came: Instant,
    /// Until when it waits for an environment that has answered and will soon be free, before a new one is opened for it or it is refused.
    pub(super) patient_until: Option<Instant>,
    /// How many environments had ended before they could take it.
    pub(super) refusals: u32,
}

impl Job {
    pub(super) fn new(invocation: Invocation, caller: Caller) -> Self {
        Self { invocation, caller, came: Instant::now(), patient_until: None, refusals: 0 }
    }

    /// Whether nobody waits for the answer any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.caller.reply.is_closed()
    }

    /// Tells the caller that there will be no answer.
    pub(super) fn refuse(self, refusal: InvokeRefusal) {
        // A caller that has gone needs no refusal.
        let _ = self.caller.reply.send(InvokeReply::Refused(refusal));
    }
}

/// What became of a job.
#[derive(Debug)]
pub(super) enum AttemptEnd {
    /// The caller has an answer.
    Answered,
    /// The environment could run nothing; the caller knows.
    Broken(Broken),
    /// The environment had ended before: the job was not begun.
    NotBegun(Box<Job>),
}

/// Runs a job. The environment comes back if it can take another invocation.
pub(super) async fn attempt(warm: Warm, job: Job) -> (Option<Warm>, AttemptEnd) {
    let Job { invocation, caller, came, refusals, .. } = job;
    let (request_id, trace_id) = (invocation.request_id.clone(), invocation.trace_id.clone());
    match hand_over(&warm, invocation).await {
        Err(invocation) if refusals < MOST_REFUSALS => {
            (None, AttemptEnd::NotBegun(Box::new(Job { invocation, caller, came, patient_until: None, refusals: refusals + 1 })))
        }
        Err(_) => (None, broken(caller, ended_unanswered())),
        Ok((Ok(answer), finished)) => {
            let finished = answer::give(answer, caller, answer::Run { request_id, trace_id, finished }).await;
            (finished.map(|finished| after(warm, &finished)), AttemptEnd::Answered)
        }
        Ok((Err(why), _)) => (None, broken(caller, why)),
    }
}

fn broken(caller: Caller, why: Broken) -> AttemptEnd {
    // A caller that has gone misses it.
    let _ = caller.reply.send(InvokeReply::Refused(InvokeRefusal::Service { message: why.reason.clone() }));
    AttemptEnd::Broken(why)
}

/// The environment after an invocation.
pub(super) fn after(mut warm: Warm, finished: &Finished) -> Warm {
    warm.is_cold = !finished.status.keeps_the_runtime();
    warm
}

type Begun = (Result<Answer, Broken>, oneshot::Receiver<Finished>);

/// Gives the environment an invocation and waits for the answer. If the environment has ended before, the invocation comes back.
pub(super) async fn hand_over(warm: &Warm, invocation: Invocation) -> Result<Begun, Invocation> {
    let (answer_to, answer) = oneshot::channel();
    let (finished_to, finished) = oneshot::channel();
    let work = Work { invocation, answer: answer_to, finished: finished_to };
    warm.handle.invoke(Box::new(work)).await.map_err(|refused| refused.invocation)?;
    Ok((answer.await.unwrap_or_else(|_| Err(ended_unanswered())), finished))
}

/// What is said of an environment that ended, and of which nothing else is known.
pub(super) fn ended_unanswered() -> Broken {
    Broken { reason: "the execution environment ended without an answer".to_owned(), hint: None }
}
