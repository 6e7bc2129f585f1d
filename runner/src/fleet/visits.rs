//! Visits from outside to the environments of a fleet: a command goes to one, a pause or a look to all.

use tokio::time::Instant;

use super::pool::Pool;
use super::run::AtWork;
use crate::environment::{Done, Visit};

/// Whether the fleet works.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Standing {
    /// It does.
    #[default]
    Working,
    /// It stands still: calls wait.
    Paused,
}

impl AtWork {
    pub(super) fn is_paused(&self) -> bool {
        self.standing == Standing::Paused
    }

    /// When the patience of a caller ends, unless all stands still.
    pub(super) fn patience(&self) -> Option<Instant> {
        if self.is_paused() { None } else { self.pools.iter().filter_map(Pool::patience).min() }
    }

    /// Passes a visit on.
    pub(super) fn visit(&mut self, visit: Visit) {
        match visit {
            Visit::Enter(_) | Visit::Open(_) => self.enter(visit),
            Visit::Pause(done) => {
                self.standing = Standing::Paused;
                self.to_all(|| Visit::Pause(done.clone()));
            }
            Visit::Resume(done) => self.resume(&done),
            Visit::Look(to) => self.to_all(|| Visit::Look(to.clone())),
        }
    }

    /// Ends a pause, if there is one.
    pub(super) fn go_on(&mut self) {
        if self.is_paused() {
            self.resume(&Done::new().0);
        }
    }

    fn resume(&mut self, done: &Done) {
        self.standing = Standing::Working;
        self.to_all(|| Visit::Resume(done.clone()));
        for function in 0..self.pools.len() {
            self.start_waiting(function);
        }
    }

    fn to_all(&self, visit: impl Fn() -> Visit) {
        for door in self.pools.iter().flat_map(Pool::doors) {
            // One that has gone meanwhile needs none.
            let _ = door.visit(visit());
        }
    }

    /// Whoever enters goes to the oldest environment; to a new one if there is none, which is free for calls.
    fn enter(&mut self, visit: Visit) {
        let Some(pool) = self.pools.first_mut() else { return };
        let now = Instant::now();
        let opened = pool.open_to_visitors(now);
        if let Some(door) = pool.doors().next() {
            // If it has gone meanwhile, its visitor is told so by what is dropped.
            let _ = door.visit(visit);
        }
        if let (None, Some(idle)) = (self.next_reap, self.options.idle) {
            self.next_reap = now.checked_add(idle);
        }
        if let Err(broken) = opened {
            self.notify(broken);
        }
    }
}
