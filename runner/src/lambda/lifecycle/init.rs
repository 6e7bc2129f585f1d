//! The Init phase: extensions and runtime are started, and what comes of that.

use super::answer::MAX_EXTENSIONS;
use super::extensions::Extension;
use super::{Effect, FailedInit, Initialising, Lifecycle, Now, Program, Runtime, Stage};
use crate::lambda::{ErrorType, ExtensionState, InitPhase, InitStart, InitStatus, LogEvent, PlatformError};

impl<T> Lifecycle<T> {
    pub(super) fn begin(&mut self, extensions: Vec<String>, now: Now, effects: &mut Vec<Effect<T>>) {
        if let Stage::Absent = self.stage {
            self.externals = extensions;
            self.start(InitPhase::Init, now, effects);
        }
    }

    /// Starts the external extensions; the runtime follows when all of them have registered.
    pub(super) fn start(&mut self, phase: InitPhase, now: Now, effects: &mut Vec<Effect<T>>) {
        self.stage = Stage::Initialising(Initialising { since: now.instant, phase });
        effects.push(Effect::Log(LogEvent::InitStart(InitStart {
            phase,
            runtime_version: self.runtime_version.clone(),
            function_name: self.function.name.clone(),
            function_version: self.function.version.clone(),
            instance_id: self.instance_id.clone(),
            memory_size: self.function.memory,
        })));
        if self.externals.len() > MAX_EXTENSIONS {
            return self.extension_failed(PlatformError::TooManyExtensions, now, effects);
        }
        self.extensions = self.externals.iter().map(|name| Extension::external(name.clone())).collect();
        effects.extend(self.externals.iter().map(|name| Effect::Start(Program::Extension(name.clone()))));
        self.start_runtime_if_due(effects);
    }

    pub(super) fn start_runtime_if_due(&mut self, effects: &mut Vec<Effect<T>>) {
        let is_due = self.extensions.iter().all(|extension| extension.state != ExtensionState::Started);
        if let (true, Runtime::Absent) = (is_due, &self.runtime) {
            self.runtime = Runtime::Started;
            effects.push(Effect::Start(Program::Runtime));
        }
    }

    /// A runtime that has to be initialised (again) for an event in hand does so on the function's time.
    pub(super) fn start_in_invocation(&mut self, now: Now, effects: &mut Vec<Effect<T>>) {
        self.begin_invocation(now, effects);
        self.start(InitPhase::Invoke, now, effects);
    }

    /// The runtime asked for its first event.
    pub(super) fn runtime_initialised(&mut self, ticket: T, now: Now, effects: &mut Vec<Effect<T>>) {
        self.runtime = Runtime::Ready { waiting: vec![ticket] };
        if let Stage::Initialising(Initialising { phase, .. }) = self.stage {
            effects.push(Effect::Log(LogEvent::InitRuntimeDone { phase, status: InitStatus::Success }));
        }
        self.finish_init_if_due(now, effects);
    }

    /// The phase is over when the runtime and all extensions have asked for an event.
    pub(super) fn finish_init_if_due(&mut self, now: Now, effects: &mut Vec<Effect<T>>) {
        let (Stage::Initialising(Initialising { since, phase }), Runtime::Ready { .. }) = (&self.stage, &self.runtime) else {
            return;
        };
        if self.extensions.iter().any(|extension| extension.state != ExtensionState::Ready) {
            return;
        }
        let (duration, phase) = (now.instant - *since, *phase);
        if phase == InitPhase::Init {
            self.init = Some(duration);
        }
        self.stage = Stage::Up;
        self.log_extensions(effects);
        effects.push(Effect::Log(LogEvent::InitReport { duration, phase, status: InitStatus::Success }));
        self.hand_over(now, effects);
    }

    /// Notes an initialisation that failed. An event that waits for it and gets no other fails with it, and its REPORT tells the time; else INIT_REPORT does.
    pub(super) fn init_failed(&mut self, error_type: ErrorType, now: Now, effects: &mut Vec<Effect<T>>) {
        let Stage::Initialising(Initialising { since, phase }) = self.stage else { return };
        let duration = now.instant - since;
        self.stage = Stage::Up;
        self.log_unfinished_init(phase, InitStatus::Error(error_type.clone()), effects);
        let is_told = phase == InitPhase::Init && self.current.is_some() && self.failed_init == FailedInit::IsTheResult;
        if is_told {
            self.init = Some(duration);
        } else {
            effects.push(Effect::Log(LogEvent::InitReport { duration, phase, status: InitStatus::Error(error_type) }));
        }
        if phase == InitPhase::Init && !is_told {
            // Whoever waits begins once nothing of this is left.
            return;
        }
        self.begin_invocation(now, effects);
        self.mark_over(now);
    }

    /// Notes an initialisation that took too long.
    pub(super) fn init_timed_out(&mut self, initialising: Initialising, now: Now, effects: &mut Vec<Effect<T>>) {
        let Initialising { since, phase } = initialising;
        self.log_unfinished_init(phase, InitStatus::Timeout, effects);
        effects.push(Effect::Log(LogEvent::InitReport { duration: now.instant - since, phase, status: InitStatus::Timeout }));
    }

    fn log_unfinished_init(&self, phase: InitPhase, status: InitStatus, effects: &mut Vec<Effect<T>>) {
        if let Runtime::Started = self.runtime {
            effects.push(Effect::Log(LogEvent::InitRuntimeDone { phase, status }));
        }
        self.log_extensions(effects);
    }

    fn log_extensions(&self, effects: &mut Vec<Effect<T>>) {
        effects.extend(self.extensions.iter().map(|extension| Effect::Log(extension.log_event())));
    }
}
