//! Which event is due when: an index in memory of what is stored. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::EventId;

/// Events that wait, by function.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    runs: BTreeMap<usize, Runs>,
    /// When somebody is to be told of an event.
    tells: BTreeSet<(u64, EventId)>,
    /// How many wait in all.
    count: usize,
}

/// Those of one function that are to be run. Each is in both.
#[derive(Debug, Default)]
struct Runs {
    /// When it is due, with its key, to when it is too old.
    by_due: BTreeMap<(u64, u64), u64>,
    /// When it is too old, with when it is due and its key.
    by_expiry: BTreeSet<(u64, u64, u64)>,
}

impl Waiting {
    /// An event is to be run from `due_ms` on, and not from `expires_ms` on.
    pub(super) fn run(&mut self, id: EventId, due_ms: u64, expires_ms: u64) {
        let runs = self.runs.entry(id.function).or_default();
        runs.by_due.insert((due_ms, id.key), expires_ms);
        runs.by_expiry.insert((expires_ms, due_ms, id.key));
        self.count += 1;
    }

    /// Somebody is to be told of an event from then on.
    pub(super) fn tell(&mut self, id: EventId, due_ms: u64) {
        self.tells.insert((due_ms, id));
        self.count += 1;
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Takes the one of a function that has been due longest.
    pub(super) fn take_run(&mut self, function: usize, now_ms: u64) -> Option<EventId> {
        let runs = self.runs.get(&function)?;
        let (&(due_ms, key), _) = runs.by_due.first_key_value().filter(|((due_ms, _), _)| *due_ms <= now_ms)?;
        self.take(function, due_ms, key)
    }

    /// Takes one of a function that is too old.
    pub(super) fn take_expired(&mut self, function: usize, now_ms: u64) -> Option<EventId> {
        let runs = self.runs.get(&function)?;
        let &(_, due_ms, key) = runs.by_expiry.first().filter(|(expires_ms, _, _)| *expires_ms <= now_ms)?;
        self.take(function, due_ms, key)
    }

    fn take(&mut self, function: usize, due_ms: u64, key: u64) -> Option<EventId> {
        let runs = self.runs.get_mut(&function)?;
        let expires_ms = runs.by_due.remove(&(due_ms, key))?;
        runs.by_expiry.remove(&(expires_ms, due_ms, key));
        if runs.by_due.is_empty() {
            self.runs.remove(&function);
        }
        self.count -= 1;
        Some(EventId { function, key })
    }

    /// Takes the event of which somebody has been to be told longest.
    pub(super) fn take_tell(&mut self, now_ms: u64) -> Option<EventId> {
        let first = *self.tells.first().filter(|(due_ms, _)| *due_ms <= now_ms)?;
        self.tells.remove(&first);
        self.count -= 1;
        Some(first.1)
    }

    /// The functions that have something to be run.
    pub(super) fn functions_due(&self, now_ms: u64) -> impl Iterator<Item = usize> {
        let is_due = move |runs: &Runs| runs.by_due.first_key_value().is_some_and(|((due_ms, _), _)| *due_ms <= now_ms);
        self.runs.iter().filter(move |(_, runs)| is_due(runs)).map(|(function, _)| *function)
    }

    /// When the next event will be due or too old that is not so yet.
    pub(super) fn next_after(&self, now_ms: u64) -> Option<u64> {
        let later = now_ms.checked_add(1)?;
        let runs = self.runs.values().flat_map(|runs| {
            let due = runs.by_due.range((later, 0)..).next().map(|((due_ms, _), _)| *due_ms);
            let too_old = runs.by_expiry.range((later, 0, 0)..).next().map(|(expires_ms, _, _)| *expires_ms);
            due.into_iter().chain(too_old)
        });
        let tells = self.tells.range((later, EventId { function: 0, key: 0 })..).next().map(|(due_ms, _)| *due_ms);
        runs.chain(tells).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(function: usize, key: u64) -> EventId {
        EventId { function, key }
    }

    #[test]
    fn events_are_taken_when_they_are_due_and_in_order() {
        let mut waiting = Waiting::default();
        for (function, key, due_ms, expires_ms) in [(0, 1, 50, 100), (0, 2, 10, 100), (0, 3, 10, 20), (1, 4, 60, 100)] {
            waiting.run(id(function, key), due_ms, expires_ms);
        }
        waiting.tell(id(1, 5), 70);
        assert_eq!((waiting.len(), waiting.next_after(0), waiting.next_after(10)), (5, Some(10), Some(20)));
        assert_eq!(waiting.next_after(60), Some(70));
        assert_eq!((waiting.take_run(0, 9), waiting.functions_due(9).count()), (None, 0));
        assert_eq!(waiting.functions_due(10).collect::<Vec<_>>(), [0]);
        assert_eq!(waiting.take_run(0, 10), Some(id(0, 2)));
        assert_eq!((waiting.take_expired(0, 19), waiting.take_expired(0, 20)), (None, Some(id(0, 3))));
        assert_eq!((waiting.take_run(0, 49), waiting.take_run(0, 50), waiting.take_run(0, 51)), (None, Some(id(0, 1)), None));
        assert_eq!((waiting.take_tell(69), waiting.take_tell(70), waiting.take_tell(70)), (None, Some(id(1, 5)), None));
        assert_eq!((waiting.take_expired(1, u64::MAX), waiting.len(), waiting.next_after(0)), (Some(id(1, 4)), 0, None));
        assert!(waiting.runs.is_empty());
    }
}
