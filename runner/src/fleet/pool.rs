//! The environments of one function: which are free, how many are busy, who waits for one.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::Served;
use super::answer::Settling;
use super::attempt::Job;
use crate::environment::{Broken, Door, Handle};

/// An environment, and which code it was started with.
#[derive(Debug)]
pub(super) struct Warm {
    pub(super) handle: Handle,
    generation: u64,
    /// Whether it has to initialise for its next invocation.
    pub(super) is_cold: bool,
}

#[derive(Debug)]
struct Idle {
    warm: Warm,
    since: Instant,
}

/// One function with its environments.
pub(super) struct Pool {
    pub(super) served: Served,
    /// Those of all environments, the oldest first; some may be gone.
    doors: Vec<Door>,
    /// The one that was used last is at the back.
    idle: VecDeque<Idle>,
    busy: usize,
    /// Grows with every restart: environments of an older one are restarted when they come back.
    generation: u64,
    /// Jobs of callers that wait, first come first.
    waiting: VecDeque<Job>,
    /// Jobs of callers that wait for an environment that has answered, first come first: fewer than such environments when they came.
    patient: VecDeque<Job>,
    pub(super) settling: Settling,
    /// Whether the last room went to an event, so that neither events nor callers wait for ever.
    event_was_last: bool,
}

impl Pool {
    pub(super) fn new(served: Served) -> Self {
        Self {
            served,
            doors: Vec::new(),
            idle: VecDeque::new(),
            busy: 0,
            generation: 0,
            waiting: VecDeque::new(),
            patient: VecDeque::new(),
            settling: Settling::default(),
            event_was_last: false,
        }
    }

    /// Whether one more invocation may run.
    pub(super) fn has_room(&self) -> bool {
        self.busy < self.served.concurrency
    }

    /// Whether an environment is free.
    pub(super) fn has_free(&self) -> bool {
        self.idle.iter().any(|idle| !idle.warm.handle.is_gone())
    }

    /// Whether more environments have answered, and will soon be free, than callers wait.
    pub(super) fn is_about_to_have_free(&self) -> bool {
        self.settling.count() > self.patient.len()
    }

    /// When the patience of whoever waits for such an environment ends.
    pub(super) fn patience(&self) -> Option<Instant> {
        // They came in this order, with one patience or another.
        self.patient.iter().filter_map(|job| job.patient_until).min()
    }

    /// Takes out those whose patience has ended.
    pub(super) fn impatient(&mut self, now: Instant) -> Vec<Job> {
        let (impatient, patient): (Vec<_>, Vec<_>) =
            self.patient.drain(..).partition(|job| job.patient_until.is_some_and(|until| until <= now));
        self.patient = patient.into();
        impatient.into_iter().map(|job| Job { patient_until: None, ..job }).collect()
    }

    /// Whether the next room is first offered to an event, else to a caller. They take turns.
    pub(super) fn is_turn_of_events(&mut self) -> bool {
        self.event_was_last = !self.event_was_last;
        self.event_was_last
    }

    /// Whether there is nothing in hand and nothing in waiting.
    pub(super) fn is_quiet(&self) -> bool {
        self.busy == 0 && self.waiting.is_empty() && self.patient.is_empty()
    }

    /// Whether a caller waits; one that has gone may still be counted.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// An environment for one invocation: the one that was used last, else a new one. It counts as busy until [`Pool::put_back`].
    pub(super) fn take(&mut self) -> Result<Warm, Broken> {
        while let Some(idle) = self.idle.pop_back() {
            if !idle.warm.handle.is_gone() {
                self.busy += 1;
                return Ok(idle.warm);
            }
        }
        let warm = self.open()?;
        self.busy += 1;
        Ok(warm)
    }

    fn open(&mut self) -> Result<Warm, Broken> {
        let handle = (self.served.open)()?;
        self.doors.retain(|door| !door.is_gone());
        self.doors.push(handle.door());
        Ok(Warm { handle, generation: self.generation, is_cold: false })
    }

    /// Where the environments are visited, the oldest first.
    pub(super) fn doors(&self) -> impl Iterator<Item = &Door> {
        self.doors.iter().filter(|door| !door.is_gone())
    }

    /// The invocation of a busy environment is over; what is left of the environment comes back, if anything.
    pub(super) fn put_back(&mut self, warm: Option<Warm>, now: Instant) {
        self.busy -= 1;
        let Some(mut warm) = warm.filter(|warm| !warm.handle.is_gone()) else { return };
        if warm.generation != self.generation {
            warm.generation = self.generation;
            warm.handle.restart_soon();
            warm.is_cold = true;
        }
        // Others are as good, and ready.
        if std::mem::take(&mut warm.is_cold) {
            self.idle.push_front(Idle { warm, since: now });
        } else {
            self.idle.push_back(Idle { warm, since: now });
        }
    }

    /// Opens environments until there are so many, as far as may be.
    pub(super) fn prewarm(&mut self, count: usize, now: Instant) -> Result<(), Broken> {
        let count = count.min(self.served.concurrency);
        while self.idle.len() + self.busy < count {
            let warm = self.open()?;
            // The oldest place: it was never used.
            self.idle.push_front(Idle { warm, since: now });
        }
        Ok(())
    }

    /// Opens an environment for a visitor, which is free for calls, if there is none at all.
    pub(super) fn open_to_visitors(&mut self, now: Instant) -> Result<(), Broken> {
        self.idle.retain(|idle| !idle.warm.handle.is_gone());
        if self.doors().next().is_some() {
            return Ok(());
        }
        self.prewarm(1, now)
    }

    /// Restarts what is free at once, and what is busy when it comes back.
    pub(super) fn restart(&mut self) {
        self.generation += 1;
        self.idle.retain(|idle| !idle.warm.handle.is_gone());
        for idle in &mut self.idle {
            idle.warm.generation = self.generation;
            idle.warm.handle.restart_soon();
        }
    }

    /// Takes out the environments that have not been used for so long and that nobody visits, but for the `keep` that stay anyway; and those that ended by themselves.
    pub(super) fn reap(&mut self, idle_for: Duration, keep: usize, now: Instant) -> Vec<Handle> {
        self.idle.retain(|idle| !idle.warm.handle.is_gone());
        for idle in self.idle.iter_mut().filter(|idle| idle.warm.handle.has_guests()) {
            idle.since = now;
        }
        let mut reaped = Vec::new();
        while self.idle.len() + self.busy > keep && self.idle.front().is_some_and(|oldest| now - oldest.since >= idle_for) {
            reaped.extend(self.idle.pop_front().map(|idle| idle.warm.handle));
        }
        reaped
    }

    /// Since when the environment that will be reaped next has not been used.
    pub(super) fn idle_since(&self, keep: usize) -> Option<Instant> {
        self.idle.front().filter(|_| self.idle.len() + self.busy > keep).map(|oldest| oldest.since)
    }

    /// Takes out all that are free.
    pub(super) fn empty(&mut self) -> Vec<Handle> {
        self.idle.drain(..).map(|idle| idle.warm.handle).collect()
    }

    /// Has a job wait, unless `max` do already: then it comes back. Those whose callers have gone do not count.
    pub(super) fn wait(&mut self, job: Job, max: usize) -> Option<Job> {
        if self.waiting.len() >= max {
            self.waiting.retain(|waiting| !waiting.is_abandoned());
        }
        if self.waiting.len() >= max {
            return Some(job);
        }
        self.waiting.push_back(job);
        None
    }

    /// Has a job wait for an environment that will soon be free.
    pub(super) fn wait_patiently(&mut self, job: Job) {
        let place = self.patient.partition_point(|other| other.came <= job.came);
        self.patient.insert(place, job);
    }

    /// A job that could not be begun after all waits again, before all others.
    pub(super) fn wait_first(&mut self, job: Job) {
        self.waiting.push_front(job);
    }

    /// The job that has waited longest and whose caller is still there.
    pub(super) fn next_waiting(&mut self) -> Option<Job> {
        // Those who wait for an environment that is used take one, and no new one.
        while self.has_free()
            && let Some(job) = self.patient.pop_front()
        {
            if !job.is_abandoned() {
                return Some(Job { patient_until: None, ..job });
            }
        }
        while let Some(job) = self.waiting.pop_front() {
            if !job.is_abandoned() {
                return Some(job);
            }
        }
        None
    }
}
