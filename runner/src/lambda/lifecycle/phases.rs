//! The environment's phases: initialisation, the invocation from hand-over to REPORT, the ends of the runtime.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::{Answer, Begun, Current, Delivery, Effect, Killed, Lifecycle, Now, Runtime};
use crate::lambda::{
    ErrorKind, ErrorType, FunctionError, InitPhase, InitStatus, Invocation, LogEvent, PlatformError, ReportFigures, ReportStatus,
    RuntimeEnd,
};

impl Current {
    /// The event as the runtime gets it, once the invocation has begun.
    pub(super) fn delivery(&self) -> Option<Delivery> {
        self.begun.map(|begun| Delivery { invocation: Arc::clone(&self.invocation), deadline_ms: begun.deadline_ms })
    }
}

impl<T> Lifecycle<T> {
    pub(super) fn begin(&mut self, now: Now, effects: &mut Vec<Effect<T>>) {
        if let Runtime::Absent = self.runtime {
            self.start(InitPhase::Init, now, effects);
        }
    }

    pub(super) fn invoke(&mut self, invocation: Invocation, now: Now, effects: &mut Vec<Effect<T>>) {
        assert!(self.current.is_none(), "an environment has one invocation in hand at a time");
        self.current = Some(Current { invocation: Arc::new(invocation), begun: None, decided: false, status: ReportStatus::Success });
        match self.runtime {
            Runtime::Ready { .. } => self.hand_over(now, effects),
            Runtime::Absent => self.start_in_invocation(now, effects),
            // The runtime's first `next` or its end takes it up.
            _ => {}
        }
    }

    /// Gives the event to everyone who waits: a caller may be gone without our knowing, and the same event twice is what AWS gives, too.
    pub(super) fn hand_over(&mut self, now: Now, effects: &mut Vec<Effect<T>>) {
        if self.current.is_none() {
            return;
        }
        self.begin_invocation(now, effects);
        let delivery = self.current.as_ref().and_then(Current::delivery);
        if let (Some(delivery), Runtime::Ready { waiting }) = (delivery, std::mem::replace(&mut self.runtime, Runtime::Running)) {
            effects.extend(waiting.into_iter().map(|ticket| Effect::Answer(ticket, Answer::Event(delivery.clone()))));
        }
    }

    /// START, and the clock runs. Once per invocation.
    fn begin_invocation(&mut self, now: Now, effects: &mut Vec<Effect<T>>) {
        let limit = self.function.timeout.limit();
        let Some(current @ Current { begun: None, .. }) = &mut self.current else {
            return;
        };
        let deadline_ms = u64::try_from((now.since_epoch + limit).as_millis()).unwrap_or(u64::MAX);
        current.begun = Some(Begun { at: now.instant, deadline: now.instant + limit, deadline_ms, over: None });
        let request_id = current.invocation.request_id.clone();
        let (trace_id, tenant_id) = (current.invocation.trace_id.clone(), current.invocation.tenant_id.clone());
        effects.push(Effect::Log(LogEvent::Start { request_id, version: self.function.version.clone(), trace_id, tenant_id }));
    }

    fn start(&mut self, phase: InitPhase, now: Now, effects: &mut Vec<Effect<T>>) {
        self.runtime = Runtime::Started { since: now.instant, phase };
        effects.push(Effect::StartRuntime);
    }

    /// A runtime that has to be initialised (again) for an event in hand does so on the function's time.
    fn start_in_invocation(&mut self, now: Now, effects: &mut Vec<Effect<T>>) {
        self.begin_invocation(now, effects);
        self.start(InitPhase::Invoke, now, effects);
    }

    /// Notes an initialisation that failed. An event that waits for it fails with it, and its REPORT tells the time; else INIT_REPORT does.
    pub(super) fn init_failed(
        &mut self,
        initialising: (Instant, InitPhase),
        error_type: ErrorType,
        now: Now,
        effects: &mut Vec<Effect<T>>,
    ) {
        let (since, phase) = initialising;
        let duration = now.instant - since;
        match (&self.current, phase) {
            (Some(_), InitPhase::Init) => self.init = Some(duration),
            _ => effects.push(Effect::Log(LogEvent::InitReport { duration, phase, status: InitStatus::Error(error_type) })),
        }
        self.begin_invocation(now, effects);
        self.mark_over(now);
    }

    /// The phase's clock stops here, whatever the runtime still does.
    pub(super) fn mark_over(&mut self, now: Now) {
        if let Some(Current { begun: Some(begun), .. }) = &mut self.current {
            begun.over.get_or_insert(now.instant);
        }
    }

    /// The invocation's result, once.
    pub(super) fn decide(&mut self, result: Result<Bytes, FunctionError>, status: ReportStatus, effects: &mut Vec<Effect<T>>) {
        if let Some(current @ Current { decided: false, .. }) = &mut self.current {
            (current.decided, current.status) = (true, status);
            effects.push(Effect::Decide(result));
        }
    }

    pub(super) fn decide_platform(&mut self, error: PlatformError, effects: &mut Vec<Effect<T>>) {
        let Some(current) = &self.current else { return };
        let payload = error.body(&current.invocation.request_id);
        let status = match error {
            PlatformError::TimedOut(_) => ReportStatus::Timeout,
            _ => ReportStatus::Error(error.report_type().into()),
        };
        self.decide(Err(FunctionError { payload, kind: ErrorKind::Platform(error) }), status, effects);
    }

    /// END and REPORT.
    pub(super) fn end_phase(&mut self, now: Now, effects: &mut Vec<Effect<T>>) {
        let Some(Current { invocation, begun: Some(begun), status, .. }) = self.current.take() else {
            return;
        };
        let request_id = invocation.request_id.clone();
        let duration = (begun.over.unwrap_or(now.instant) - begun.at).min(self.function.timeout.limit());
        let figures = ReportFigures::new(self.init.take(), duration, self.function.memory, self.peak_memory_bytes);
        effects.push(Effect::Log(LogEvent::End { request_id: request_id.clone() }));
        effects.push(Effect::Log(LogEvent::Report { request_id, figures, status, trace_id: invocation.trace_id.clone() }));
        effects.push(Effect::Finish);
    }

    pub(super) fn on_alarm(&mut self, now: Now, effects: &mut Vec<Effect<T>>) {
        if self.alarm().is_none_or(|alarm| now.instant < alarm) {
            return;
        }
        if let Runtime::Started { since, phase } = self.runtime {
            effects.push(Effect::Log(LogEvent::InitReport { duration: now.instant - since, phase, status: InitStatus::Timeout }));
        }
        self.runtime = Runtime::Dying(match self.runtime {
            Runtime::Started { phase: InitPhase::Init, .. } => Killed::InitTimeout,
            Runtime::InitError { .. } | Runtime::Aborted { until: Some(_), .. } => Killed::Done,
            _ => Killed::Deadline,
        });
        effects.push(Effect::KillRuntime);
    }

    pub(super) fn not_started(&mut self, error: PlatformError, now: Now, effects: &mut Vec<Effect<T>>) {
        self.fail(error, now, effects);
        // Nothing ran, so there is no time to tell.
        self.init = None;
        self.runtime_gone(now, effects);
    }

    pub(super) fn ended(&mut self, end: RuntimeEnd, now: Now, effects: &mut Vec<Effect<T>>) {
        match self.runtime {
            Runtime::Absent => return,
            Runtime::Dying(Killed::InitTimeout | Killed::Done) => {}
            Runtime::Dying(Killed::Deadline) => self.time_out(now, effects),
            _ => self.fail(PlatformError::Exited(end), now, effects),
        }
        self.runtime_gone(now, effects);
    }

    /// What the runtime left undone fails as `error`; a result that is there stands.
    fn fail(&mut self, error: PlatformError, now: Now, effects: &mut Vec<Effect<T>>) {
        if let Runtime::Started { since, phase } = self.runtime {
            self.init_failed((since, phase), error.error_type().into(), now, effects);
        }
        if let Some(Current { begun: Some(_), decided: false, invocation, .. }) = &self.current {
            let request_id = invocation.request_id.clone();
            effects.push(Effect::Log(LogEvent::Failed { request_id, error: error.clone() }));
            self.decide_platform(error, effects);
        }
    }

    fn time_out(&mut self, now: Now, effects: &mut Vec<Effect<T>>) {
        let timeout = self.function.timeout;
        if let Some(current) = &mut self.current {
            let request_id = current.invocation.request_id.clone();
            effects.push(Effect::Log(LogEvent::TimedOut { request_id, timeout, at: now.since_epoch }));
            current.status = ReportStatus::Timeout;
        }
        self.decide_platform(PlatformError::TimedOut(timeout), effects);
    }

    /// Ends the invocation that had the runtime; one that still waited for it gets another.
    fn runtime_gone(&mut self, now: Now, effects: &mut Vec<Effect<T>>) {
        self.runtime = Runtime::Absent;
        match self.current {
            Some(Current { begun: Some(_), .. }) => self.end_phase(now, effects),
            Some(Current { begun: None, .. }) => self.start_in_invocation(now, effects),
            None => {}
        }
    }
}
