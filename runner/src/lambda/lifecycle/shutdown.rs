//! The shutdown of everything in the environment: at its end, after a failure, and before a new start. Lambda's order and times.

use std::time::{Duration, Instant};

use super::extensions::{Extension, Kind};
use super::{Answer, Current, Effect, ExtensionDelivery, Lifecycle, Now, Ordered, Program, Runtime, ShutdownReason, Stage};
use crate::lambda::{ExtensionEvent, ExtensionState, InitPhase};

/// The time of a runtime whose extensions are all its own.
const INTERNAL_LIMIT: Duration = Duration::from_millis(500);
/// The time of everything where there are external extensions.
const EXTERNAL_LIMIT: Duration = Duration::from_millis(2000);
/// The runtime's part of that.
const RUNTIME_LIMIT: Duration = Duration::from_millis(300);

/// A shutdown that goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    why: Why,
    reason: ShutdownReason,
    /// When everything that is left is killed.
    deadline: Instant,
    /// The same for extensions, since the Unix epoch.
    deadline_ms: u64,
    step: Step,
}

/// Why, as far as the invocation in hand is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It passed its deadline.
    Deadline,
    /// Anything else.
    Other,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// The runtime was asked to end, and is killed then.
    Runtime { until: Instant },
    /// The external extensions end.
    Extensions,
    /// What was left was killed.
    Clearing,
}

impl Why {
    /// An Init phase inside an invocation has the function's time.
    pub(super) fn of_init(phase: InitPhase) -> Self {
        match phase {
            InitPhase::Init => Self::Other,
            InitPhase::Invoke => Self::Deadline,
        }
    }
}

impl Ending {
    pub(super) fn alarm(&self) -> Option<Instant> {
        match self.step {
            Step::Runtime { until } => Some(until),
            Step::Extensions => Some(self.deadline),
            Step::Clearing => None,
        }
    }
}

impl<T> Lifecycle<T> {
    /// Ends everything. Where nobody has registered there is nothing to wait for; else the invocation in hand is over before.
    pub(super) fn go_down(&mut self, reason: ShutdownReason, why: Why, now: Now, effects: &mut Vec<Effect<T>>) {
        self.runtime = match std::mem::replace(&mut self.runtime, Runtime::Absent) {
            Runtime::Absent => Runtime::Absent,
            Runtime::Ready { waiting } | Runtime::Dying { waiting } => Runtime::Dying { waiting },
            _ => Runtime::Dying { waiting: Vec::new() },
        };
        let runtime_runs = matches!(self.runtime, Runtime::Dying { .. });
        let has_external = self.extensions.iter().any(|extension| extension.runs() && extension.is_registered());
        let has_internal = runtime_runs && self.extensions.iter().any(|extension| extension.kind == Kind::Internal);
        let (limit, until) = match (has_external, has_internal) {
            (true, _) => (EXTERNAL_LIMIT, now.instant + RUNTIME_LIMIT),
            (false, true) => (INTERNAL_LIMIT, now.instant + INTERNAL_LIMIT),
            (false, false) => (Duration::ZERO, now.instant),
        };
        let deadline_ms = u64::try_from((now.since_epoch + limit).as_millis()).unwrap_or(u64::MAX);
        self.stage = Stage::Ending(Ending { why, reason, deadline: now.instant + limit, deadline_ms, step: Step::Runtime { until } });
        if !has_external && !has_internal {
            return self.clear(runtime_runs, now, effects);
        }
        self.end_invocation(why, now, effects);
        if runtime_runs {
            effects.push(Effect::Terminate(Program::Runtime));
        } else {
            self.shut_extensions_down(now, effects);
        }
    }

    /// A time is up.
    pub(super) fn ending_goes_on(&mut self, now: Now, effects: &mut Vec<Effect<T>>) {
        let Stage::Ending(Ending { step, .. }) = &self.stage else { return };
        match step {
            Step::Runtime { .. } if self.extensions.iter().any(Extension::runs) => {
                effects.push(Effect::Kill(Program::Runtime));
                self.shut_extensions_down(now, effects);
            }
            Step::Runtime { .. } | Step::Extensions => self.clear(true, now, effects),
            Step::Clearing => {}
        }
    }

    /// A program is no longer waited for.
    pub(super) fn program_ended_in_shutdown(&mut self, now: Now, effects: &mut Vec<Effect<T>>) {
        let Stage::Ending(Ending { step, .. }) = &self.stage else { return };
        match step {
            Step::Runtime { .. } if !matches!(self.runtime, Runtime::Absent) => {}
            Step::Runtime { .. } => self.shut_extensions_down(now, effects),
            Step::Extensions => self.clear_if_due(now, effects),
            Step::Clearing => {}
        }
    }

    /// Extensions that want to know are told, others are killed.
    fn shut_extensions_down(&mut self, now: Now, effects: &mut Vec<Effect<T>>) {
        if let Stage::Ending(ending) = &mut self.stage {
            ending.step = Step::Extensions;
        }
        let doomed = self.extensions.iter().filter(|extension| extension.runs() && !is_awaited(extension));
        effects.extend(doomed.map(|extension| Effect::Kill(Program::Extension(extension.name().to_owned()))));
        self.tell_of_shutdown(effects);
        self.clear_if_due(now, effects);
    }

    /// Tells those that ask, once each: after SHUTDOWN there is no other event.
    pub(super) fn tell_of_shutdown(&mut self, effects: &mut Vec<Effect<T>>) {
        let Stage::Ending(Ending { step: Step::Extensions, deadline_ms, reason, .. }) = self.stage else { return };
        for extension in self.extensions.iter_mut().filter(|extension| is_awaited(extension) && !extension.told_of_shutdown) {
            if let Some(ticket) = extension.waiting.take() {
                extension.state = ExtensionState::Running;
                extension.told_of_shutdown = true;
                let (identifier, event) = (self.identifiers.next(), ExtensionDelivery::Shutdown { deadline_ms, reason });
                effects.push(Effect::Answer(ticket, Answer::ExtensionEvent { identifier, event }));
            }
        }
    }

    fn clear_if_due(&mut self, now: Now, effects: &mut Vec<Effect<T>>) {
        if !self.extensions.iter().any(is_awaited) {
            self.clear(!matches!(self.runtime, Runtime::Absent), now, effects);
        }
    }

    /// Kills what is left. A sandbox that had a runtime alone is gone with it.
    fn clear(&mut self, runtime_runs: bool, now: Now, effects: &mut Vec<Effect<T>>) {
        let Stage::Ending(ending) = &mut self.stage else { return };
        ending.step = Step::Clearing;
        if runtime_runs || !self.externals.is_empty() {
            return effects.push(Effect::KillAll);
        }
        let why = ending.why;
        self.nothing_left(why, now, effects);
    }

    pub(super) fn cleared(&mut self, now: Now, effects: &mut Vec<Effect<T>>) {
        if let Stage::Ending(Ending { step: Step::Clearing, why, .. }) = self.stage {
            self.nothing_left(why, now, effects);
        }
    }

    /// Ends the invocation that had the runtime; one that still waited for it gets another, then what was ordered is done.
    pub(super) fn nothing_left(&mut self, why: Why, now: Now, effects: &mut Vec<Effect<T>>) {
        (self.stage, self.runtime) = (Stage::Absent, Runtime::Absent);
        self.extensions.clear();
        self.end_invocation(why, now, effects);
        if self.current.is_some() {
            if self.next == Some(Ordered::Restart) {
                // Nothing of the old is left: the invocation that has come meanwhile is the first of the new.
                self.next = None;
                return self.start(InitPhase::Init, now, effects);
            }
            return self.start_in_invocation(now, effects);
        }
        match self.next.take() {
            None => {}
            Some(Ordered::Restart) => self.start(InitPhase::Init, now, effects),
            Some(Ordered::ShutDown) => {
                self.stage = Stage::Gone;
                effects.push(Effect::Gone);
            }
        }
    }

    fn end_invocation(&mut self, why: Why, now: Now, effects: &mut Vec<Effect<T>>) {
        if let Some(Current { begun: Some(_), .. }) = self.current {
            if why == Why::Deadline {
                self.time_out(now, effects);
            }
            self.end_phase(now, effects);
        }
    }
}

/// Whether an extension is given time to end.
fn is_awaited<T>(extension: &Extension<T>) -> bool {
    extension.runs() && extension.is_registered() && extension.wants(ExtensionEvent::Shutdown)
}
