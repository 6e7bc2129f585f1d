//! Whether to stay awake for what comes next.
//!
//! To wake up from a sleep takes a processor that has gone idle some 40 microseconds, twice in each call: as long as a small function runs. So where the
//! last thing of a kind came within a moment, the next one is waited for that long without sleeping. What takes longer is slept for at once, the time
//! after: a slow function or a client that thinks costs one such moment, and no more.

use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// How long: a small function in Python and its client's way here and back.
const MOMENT: Duration = Duration::from_micros(500);

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    /// A client's next event.
    Client,
    /// A call of the runtime, which has an event in hand.
    Runtime,
}

/// What is known of how soon things come.
#[derive(Debug)]
pub(super) struct Attention {
    awaited: Awaited,
    since: Instant,
    client_is_quick: bool,
    runtime_is_quick: bool,
    /// Where nobody else could run meanwhile there is nothing to be gained.
    has_room: bool,
}

impl Attention {
    pub(super) fn new(now: Instant) -> Self {
        let has_room = available_parallelism().is_ok_and(|processors| processors.get() > 1);
        Self { awaited: Awaited::Client, since: now, client_is_quick: false, runtime_is_quick: false, has_room }
    }

    /// What was awaited has come, and this is awaited now.
    pub(super) fn turn(&mut self, to: Awaited, now: Instant) {
        let is_quick = now - self.since < MOMENT;
        *self.quickness() = is_quick;
        (self.awaited, self.since) = (to, now);
    }

    /// Whether to wait without sleeping.
    pub(super) fn is_awake(&mut self, now: Instant) -> bool {
        self.has_room && *self.quickness() && now - self.since < MOMENT
    }

    fn quickness(&mut self) -> &mut bool {
        match self.awaited {
            Awaited::Client => &mut self.client_is_quick,
            Awaited::Runtime => &mut self.runtime_is_quick,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_awake_for_a_moment_for_what_came_soon() {
        let begun = Instant::now();
        let at = |us: u64| begun + Duration::from_micros(us);
        let mut attention = Attention { has_room: true, ..Attention::new(begun) };
        assert!(!attention.is_awake(at(1)), "nothing is known");
        // An event after a second, answered soon.
        attention.turn(Awaited::Runtime, at(1_000_000));
        assert!(!attention.is_awake(at(1_000_001)));
        attention.turn(Awaited::Client, at(1_000_100));
        assert!(!attention.is_awake(at(1_000_101)), "the client took a second");
        attention.turn(Awaited::Runtime, at(2_000_000));
        assert!(attention.is_awake(at(2_000_001)) && attention.is_awake(at(2_000_499)));
        assert!(!attention.is_awake(at(2_000_500)), "a moment, no more");
        // This time it was slow: the next time it is slept for.
        attention.turn(Awaited::Client, at(2_500_000));
        attention.turn(Awaited::Runtime, at(3_000_000));
        assert!(!attention.is_awake(at(3_000_001)));
        attention.turn(Awaited::Client, at(3_000_050));
        attention.turn(Awaited::Runtime, at(3_000_150));
        assert!(attention.is_awake(at(3_000_151)));
        attention.turn(Awaited::Client, at(3_000_200));
        assert!(attention.is_awake(at(3_000_201)), "a client that calls again at once");
        assert!(!Attention { has_room: false, ..attention }.is_awake(at(3_000_201)));
    }
}
