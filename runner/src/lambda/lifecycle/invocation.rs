//! An invocation from its hand-over to REPORT, and the ends of programs on the way.

use std::sync::Arc;

use bytes::Bytes;

use super::shutdown::Why;
use super::{
    Answer, Begun, Current, Delivery, Effect, ExtensionDelivery, Lifecycle, Now, Ordered, Program, Runtime, ShutdownReason, Stage,
};
use crate::lambda::{
    ErrorKind, ExtensionEvent, ExtensionState, FunctionError, Invocation, LogEvent, PlatformError, ReportFigures, ReportStatus,
    ResponseFigures, RuntimeDone, RuntimeDoneStatus, RuntimeEnd, Span,
};

impl Current {
    fn new(invocation: Invocation) -> Self {
        Self {
            invocation: Arc::new(invocation),
            begun: None,
            handed_over: false,
            decided: false,
            streamed: false,
            answered: None,
            response: None,
            runtime_done: (RuntimeDoneStatus::Success, false),
            status: ReportStatus::Success,
        }
    }

    /// The event as the runtime gets it, once the invocation has begun.
    pub(super) fn delivery(&self) -> Option<Delivery> {
        self.begun.map(|begun| Delivery { invocation: Arc::clone(&self.invocation), deadline_ms: begun.deadline_ms })
    }

    /// The answer has arrived whole.
    pub(super) fn note_response(&mut self, bytes: u64, now: Now) {
        let first = *self.answered.get_or_insert(now);
        if let Some(Begun { at, .. }) = self.begun {
            let span = |from: Now, to: Now| Span { start: from.since_epoch, duration: to.instant - from.instant };
            self.response = Some(ResponseFigures { bytes, latency: span(at, first), duration: span(first, now) });
        }
    }
}

impl<T> Lifecycle<T> {
    pub(super) fn invoke(&mut self, invocation: Invocation, now: Now, effects: &mut Vec<Effect<T>>) {
        assert!(self.current.is_none(), "an environment has one invocation in hand at a time");
        self.current = Some(Current::new(invocation));
        match (&self.stage, &self.runtime) {
            (Stage::Up, Runtime::Ready { .. }) => self.hand_over(now, effects),
            (Stage::Absent, _) => self.start_in_invocation(now, effects),
            // The end of the Init phase or of the shutdown takes it up.
            _ => {}
        }
    }

    /// Gives the event to everyone who waits: a caller may be gone without our knowing, and the same event twice is what AWS gives, too.
    pub(super) fn hand_over(&mut self, now: Now, effects: &mut Vec<Effect<T>>) {
        self.begin_invocation(now, effects);
        let Some(current) = &mut self.current else { return };
        let Some(delivery) = current.delivery() else { return };
        current.handed_over = true;
        if let Runtime::Ready { waiting } = std::mem::replace(&mut self.runtime, Runtime::Running) {
            effects.extend(waiting.into_iter().map(|ticket| Effect::Answer(ticket, Answer::Event(delivery.clone()))));
        }
        for extension in self.extensions.iter_mut().filter(|extension| extension.wants(ExtensionEvent::Invoke)) {
            if let Some(ticket) = extension.waiting.take() {
                extension.state = ExtensionState::Running;
                let (identifier, event) = (self.identifiers.next(), ExtensionDelivery::Invoke(delivery.clone()));
                effects.push(Effect::Answer(ticket, Answer::ExtensionEvent { identifier, event }));
            }
        }
    }

    /// START, and the clock runs. Once per invocation.
    pub(super) fn begin_invocation(&mut self, now: Now, effects: &mut Vec<Effect<T>>) {
        let limit = self.function.timeout.limit();
        let Some(current @ Current { begun: None, .. }) = &mut self.current else {
            return;
        };
        let deadline_ms = u64::try_from((now.since_epoch + limit).as_millis()).unwrap_or(u64::MAX);
        current.begun = Some(Begun { at: now, deadline: now.instant + limit, deadline_ms, over: None });
        let Invocation { request_id, trace_id, tenant_id, .. } = &*current.invocation;
        effects.push(Effect::Log(LogEvent::Start {
            request_id: request_id.clone(),
            version: self.function.version.clone(),
            trace_id: trace_id.clone(),
            tenant_id: tenant_id.clone(),
        }));
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
            current.runtime_done.0 = runtime_done_status(&result);
            effects.push(if current.streamed { Effect::StreamEnds(result.map(drop)) } else { Effect::Decide(result) });
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

    /// The runtime's part is over. Told once.
    pub(super) fn tell_runtime_done(&mut self, now: Now, effects: &mut Vec<Effect<T>>) {
        let limit = self.function.timeout.limit();
        let Some(current @ Current { runtime_done: (_, false), .. }) = &mut self.current else { return };
        let Some(begun) = current.begun else { return };
        current.runtime_done.1 = true;
        effects.push(Effect::Log(LogEvent::RuntimeDone(RuntimeDone {
            request_id: current.invocation.request_id.clone(),
            status: current.runtime_done.0.clone(),
            duration: (begun.over.unwrap_or(now.instant) - begun.at.instant).min(limit),
            response: current.response,
            trace_id: current.invocation.trace_id.clone(),
        })));
    }

    /// The phase is over when the runtime and all extensions that were told of the event have asked for the next one.
    pub(super) fn end_phase_if_due(&mut self, now: Now, effects: &mut Vec<Effect<T>>) {
        let is_answered = self.current.as_ref().is_some_and(|current| current.handed_over && current.decided);
        let (true, Stage::Up, Runtime::Ready { .. }) = (is_answered, &self.stage, &self.runtime) else { return };
        if self.extensions.iter().any(|extension| extension.state != ExtensionState::Ready) {
            return;
        }
        self.end_phase(now, effects);
        if self.next.is_some() {
            self.go_down(ShutdownReason::Spindown, Why::Other, now, effects);
        }
    }

    /// END and REPORT.
    pub(super) fn end_phase(&mut self, now: Now, effects: &mut Vec<Effect<T>>) {
        self.tell_runtime_done(now, effects);
        let Some(Current { invocation, begun: Some(begun), status, .. }) = self.current.take() else {
            return;
        };
        let (request_id, trace_id) = (invocation.request_id.clone(), invocation.trace_id.clone());
        let duration = (begun.over.unwrap_or(now.instant) - begun.at.instant).min(self.function.timeout.limit());
        let figures = ReportFigures::new(self.init.take(), duration, self.function.memory, self.peak_memory_bytes);
        effects.push(Effect::Log(LogEvent::End { request_id: request_id.clone() }));
        effects.push(Effect::Log(LogEvent::Report { request_id, figures, status, trace_id }));
        effects.push(Effect::Finish);
    }

    pub(super) fn on_alarm(&mut self, now: Now, effects: &mut Vec<Effect<T>>) {
        if self.alarm().is_none_or(|alarm| now.instant < alarm) {
            return;
        }
        let (reason, why) = match (&self.stage, &self.runtime) {
            (Stage::Ending(_), _) => return self.ending_goes_on(now, effects),
            (Stage::Initialising(initialising), _) => {
                let initialising = *initialising;
                self.init_timed_out(initialising, now, effects);
                (ShutdownReason::Timeout, Why::of_init(initialising.phase))
            }
            (_, Runtime::InitError { .. } | Runtime::Aborted { until: Some(_), .. }) => (ShutdownReason::Failure, Why::Other),
            _ => (ShutdownReason::Timeout, Why::Deadline),
        };
        self.go_down(reason, why, now, effects);
    }

    pub(super) fn not_started(&mut self, program: &Program, error: PlatformError, now: Now, effects: &mut Vec<Effect<T>>) {
        match program {
            Program::Extension(name) => self.extension_not_started(name, error, now, effects),
            Program::Runtime if matches!(self.runtime, Runtime::Started) => {
                self.fail(error, now, effects);
                // Nothing ran, so there is no time to tell.
                self.init = None;
                self.runtime = Runtime::Absent;
                self.go_down(ShutdownReason::Failure, Why::Other, now, effects);
            }
            Program::Runtime => {}
        }
    }

    pub(super) fn ended(&mut self, program: &Program, end: RuntimeEnd, now: Now, effects: &mut Vec<Effect<T>>) {
        match (program, &self.stage) {
            (_, Stage::Absent | Stage::Gone) => {}
            (Program::Extension(name), _) => self.extension_ended(name, end, now, effects),
            (Program::Runtime, Stage::Ending(_)) => {
                self.runtime = Runtime::Absent;
                self.program_ended_in_shutdown(now, effects);
            }
            (Program::Runtime, _) if !matches!(self.runtime, Runtime::Absent) => {
                self.fail(PlatformError::Exited(end), now, effects);
                self.runtime = Runtime::Absent;
                self.go_down(ShutdownReason::Failure, Why::Other, now, effects);
            }
            (Program::Runtime, _) => {}
        }
    }

    /// What was left undone fails as `error`; a result that is there stands.
    pub(super) fn fail(&mut self, error: PlatformError, now: Now, effects: &mut Vec<Effect<T>>) {
        self.init_failed(error.error_type().into(), now, effects);
        if let Some(Current { begun: Some(_), decided: false, invocation, .. }) = &self.current {
            let request_id = invocation.request_id.clone();
            effects.push(Effect::Log(LogEvent::Failed { request_id, error: error.clone() }));
            self.decide_platform(error, effects);
        }
    }

    pub(super) fn time_out(&mut self, now: Now, effects: &mut Vec<Effect<T>>) {
        let timeout = self.function.timeout;
        if let Some(current) = &mut self.current {
            let request_id = current.invocation.request_id.clone();
            effects.push(Effect::Log(LogEvent::TimedOut { request_id, timeout, at: now.since_epoch }));
            current.status = ReportStatus::Timeout;
            current.runtime_done.0 = RuntimeDoneStatus::Timeout;
        }
        self.decide_platform(PlatformError::TimedOut(timeout), effects);
    }

    /// What is to be done as soon as no invocation is in hand.
    pub(super) fn order(&mut self, ordered: Ordered, now: Now, effects: &mut Vec<Effect<T>>) {
        self.next = self.next.max(Some(ordered));
        match (&self.current, &self.stage) {
            (None, Stage::Absent) => self.nothing_left(Why::Other, now, effects),
            (None, Stage::Initialising(_) | Stage::Up) => self.go_down(ShutdownReason::Spindown, Why::Other, now, effects),
            // The end of the invocation or of the shutdown takes it up.
            _ => {}
        }
    }
}

fn runtime_done_status(result: &Result<Bytes, FunctionError>) -> RuntimeDoneStatus {
    match result.as_ref().map_err(|error| &error.kind) {
        Ok(_) => RuntimeDoneStatus::Success,
        Err(ErrorKind::Handler(error_type) | ErrorKind::Init(error_type)) => RuntimeDoneStatus::Error(error_type.clone()),
        Err(ErrorKind::Platform(PlatformError::TimedOut(_))) => RuntimeDoneStatus::Timeout,
        Err(ErrorKind::Platform(error)) if error.is_of_response() => RuntimeDoneStatus::Error(error.report_type().into()),
        Err(ErrorKind::Platform(error)) => RuntimeDoneStatus::Failure(error.report_type().into()),
    }
}
