//! The extensions' calls, their states and their ends.

use super::answer::MAX_EXTENSIONS;
use super::shutdown::Why;
use super::{Answer, Call, Effect, ExtensionRefusal, Lifecycle, Now, Refusal, Registered, Registration, Runtime, ShutdownReason, Stage};
use crate::lambda::{
    ErrorType, ExtensionEvent, ExtensionState, LogEvent, PlatformError, ReportStatus, RuntimeEnd, TelemetryApi, TelemetrySubscription,
};

/// One extension.
#[derive(Debug)]
pub(super) struct Extension<T> {
    name: String,
    pub(super) kind: Kind,
    pub(super) state: ExtensionState,
    events: Vec<ExtensionEvent>,
    /// Given when it registers.
    identifier: Option<String>,
    /// Whoever waits for its next event; there is one exactly while it is `Ready`.
    pub(super) waiting: Option<T>,
    error_type: Option<ErrorType>,
    /// The API by which it has subscribed to records.
    subscribed: Option<TelemetryApi>,
    pub(super) told_of_shutdown: bool,
}

/// Where an extension runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// In a process of its own.
    External {
        /// Whether that runs.
        runs: bool,
    },
    /// In the runtime's.
    Internal,
}

/// What an extension can report of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Init,
    Exit,
}

impl<T> Extension<T> {
    fn new(name: String, kind: Kind) -> Self {
        Self {
            name,
            kind,
            state: ExtensionState::Started,
            events: Vec::new(),
            identifier: None,
            waiting: None,
            error_type: None,
            subscribed: None,
            told_of_shutdown: false,
        }
    }

    /// An external one whose process is being started.
    pub(super) fn external(name: String) -> Self {
        Self::new(name, Kind::External { runs: true })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn wants(&self, event: ExtensionEvent) -> bool {
        self.events.contains(&event)
    }

    /// Whether it is a process that runs.
    pub(super) fn runs(&self) -> bool {
        self.kind == Kind::External { runs: true }
    }

    pub(super) fn is_registered(&self) -> bool {
        self.identifier.is_some()
    }

    pub(super) fn log_event(&self) -> LogEvent {
        LogEvent::Extension { name: self.name.clone(), state: self.state, events: self.events.clone(), error_type: self.error_type.clone() }
    }
}

impl<T> Lifecycle<T> {
    pub(super) fn register(&mut self, ticket: T, registration: &Registration, effects: &mut Vec<Effect<T>>) {
        match self.admit_registration(registration) {
            Err(refusal) => refuse(ticket, refusal, effects),
            Ok(index) => {
                let identifier = self.identifiers.next();
                self.extensions[index].identifier = Some(identifier.clone());
                self.extensions[index].state = ExtensionState::Registered;
                let function = &self.function;
                let registered = Registered {
                    identifier,
                    function_name: function.name.clone(),
                    function_version: function.version.clone(),
                    handler: function.handler.clone(),
                    account_id: registration.wants_account_id.then(|| function.account_id.clone()),
                };
                effects.push(Effect::Answer(ticket, Answer::Registered(registered)));
                self.start_runtime_if_due(effects);
            }
        }
    }

    /// The place of the extension that may register, with its events.
    fn admit_registration(&mut self, registration: &Registration) -> Result<usize, ExtensionRefusal> {
        let name = &registration.name;
        let known = self.extensions.iter().position(|extension| extension.name == *name);
        let external = known.filter(|&index| self.extensions[index].kind != Kind::Internal);
        let events = registration.events.iter().map(|event| parse_event(event, external.is_some())).collect::<Result<Vec<_>, _>>()?;
        let initialises = matches!(self.stage, Stage::Initialising(_));
        let index = match external {
            Some(index) => {
                let from = self.extensions[index].state;
                match from {
                    ExtensionState::Started if initialises => {}
                    ExtensionState::Started => return Err(ExtensionRefusal::RegistrationClosed),
                    _ => return Err(ExtensionRefusal::InvalidTransition { from, to: ExtensionState::Registered, extension: name.clone() }),
                }
                index
            }
            None if !initialises || !matches!(self.runtime, Runtime::Absent | Runtime::Started) => {
                return Err(ExtensionRefusal::RegistrationClosed);
            }
            None if known.is_some() => return Err(ExtensionRefusal::NameTaken),
            None if self.extensions.len() >= MAX_EXTENSIONS => return Err(ExtensionRefusal::TooMany),
            None => {
                self.extensions.push(Extension::new(name.clone(), Kind::Internal));
                self.extensions.len() - 1
            }
        };
        self.extensions[index].events = events;
        Ok(index)
    }

    pub(super) fn extension_next(&mut self, ticket: T, identifier: &str, now: Now, effects: &mut Vec<Effect<T>>) {
        let Some(extension) = self.identified(identifier) else {
            return refuse(ticket, unknown(identifier), effects);
        };
        if !matches!(extension.state, ExtensionState::Registered | ExtensionState::Running) {
            return refuse(ticket, transition(extension.state, ExtensionState::Ready, identifier), effects);
        }
        (extension.state, extension.waiting) = (ExtensionState::Ready, Some(ticket));
        match self.stage {
            Stage::Initialising(_) => self.finish_init_if_due(now, effects),
            Stage::Up => self.end_phase_if_due(now, effects),
            Stage::Ending(_) => self.tell_of_shutdown(effects),
            Stage::Absent | Stage::Gone => {}
        }
    }

    pub(super) fn extension_error(&mut self, call: Call<'_, T>, reported: (Fault, String), now: Now, effects: &mut Vec<Effect<T>>) {
        let ((ticket, identifier), (fault, error_type)) = (call, reported);
        let Some(extension) = self.identified(identifier) else {
            return refuse(ticket, unknown(identifier), effects);
        };
        let state = match (fault, extension.state) {
            (Fault::Init, ExtensionState::InitError) | (Fault::Exit, ExtensionState::ExitError) => {
                return effects.push(Effect::Answer(ticket, Answer::Accepted));
            }
            (Fault::Init, ExtensionState::Registered) => ExtensionState::InitError,
            (Fault::Exit, ExtensionState::Registered | ExtensionState::Ready | ExtensionState::Running) => ExtensionState::ExitError,
            (Fault::Init, from) => return refuse(ticket, transition(from, ExtensionState::InitError, identifier), effects),
            // The state that AWS names here is not the one it would go into.
            (Fault::Exit, from) => return refuse(ticket, transition(from, ExtensionState::Exited, identifier), effects),
        };
        extension.state = state;
        extension.error_type = Some(ErrorType::of_extension(&error_type));
        effects.push(Effect::Answer(ticket, Answer::Accepted));
        let error = match fault {
            Fault::Init => PlatformError::ExtensionInitError { error_type },
            Fault::Exit => PlatformError::ExtensionExitError { error_type },
        };
        self.extension_failed(error, now, effects);
    }

    pub(super) fn subscribe(
        &mut self,
        ticket: T,
        identifier: &str,
        wanted: (TelemetryApi, Result<TelemetrySubscription, String>),
        effects: &mut Vec<Effect<T>>,
    ) {
        let (api, subscription) = wanted;
        let is_open = matches!(self.stage, Stage::Initialising(_));
        let Some(extension) = self.identified(identifier) else {
            return refuse(ticket, unknown(identifier), effects);
        };
        if !is_open {
            return refuse(ticket, ExtensionRefusal::SubscriptionClosed { api }, effects);
        }
        let subscription = match (subscription, extension.subscribed) {
            (Err(message), _) => return refuse(ticket, ExtensionRefusal::InvalidSubscription { api, message }, effects),
            (Ok(_), Some(other)) if other != api => {
                let message = "the extension has subscribed by the other of the two APIs".to_owned();
                return refuse(ticket, ExtensionRefusal::InvalidSubscription { api, message }, effects);
            }
            (Ok(subscription), _) => subscription,
        };
        extension.subscribed = Some(api);
        let (name, streams) = (extension.name.clone(), subscription.streams.clone());
        effects.push(Effect::Subscribe { extension: name.clone(), subscription });
        effects.push(Effect::Log(LogEvent::Subscribed { api, name, streams }));
        effects.push(Effect::Answer(ticket, Answer::Subscribed));
    }

    pub(super) fn extension_not_started(&mut self, name: &str, error: PlatformError, now: Now, effects: &mut Vec<Effect<T>>) {
        let Some(extension) = self.process_of(name) else { return };
        (extension.kind, extension.state) = (Kind::External { runs: false }, ExtensionState::LaunchError);
        extension.error_type = Some(error.error_type().into());
        self.extension_failed(error, now, effects);
    }

    pub(super) fn extension_ended(&mut self, name: &str, end: RuntimeEnd, now: Now, effects: &mut Vec<Effect<T>>) {
        let Some(extension) = self.process_of(name) else { return };
        extension.kind = Kind::External { runs: false };
        let error = PlatformError::ExtensionCrash(end);
        if !matches!(extension.state, ExtensionState::InitError | ExtensionState::ExitError) {
            extension.state = ExtensionState::Exited;
            extension.error_type = Some(error.error_type().into());
        }
        match self.stage {
            Stage::Ending(_) => self.program_ended_in_shutdown(now, effects),
            _ => self.extension_failed(error, now, effects),
        }
    }

    /// An extension that fails takes the environment with it, and the invocation in hand.
    pub(super) fn extension_failed(&mut self, error: PlatformError, now: Now, effects: &mut Vec<Effect<T>>) {
        if !matches!(self.stage, Stage::Initialising(_) | Stage::Up) {
            return;
        }
        let status = ReportStatus::Error(error.report_type().into());
        self.fail(error, now, effects);
        if let Some(current) = &mut self.current
            && current.handed_over
        {
            current.status = status;
        }
        self.go_down(ShutdownReason::Failure, Why::Other, now, effects);
    }

    fn identified(&mut self, identifier: &str) -> Option<&mut Extension<T>> {
        self.extensions.iter_mut().find(|extension| extension.identifier.as_deref() == Some(identifier))
    }

    fn process_of(&mut self, name: &str) -> Option<&mut Extension<T>> {
        self.extensions.iter_mut().find(|extension| extension.name == name && extension.runs())
    }
}

fn parse_event(event: &str, is_external: bool) -> Result<ExtensionEvent, ExtensionRefusal> {
    match event {
        "INVOKE" => Ok(ExtensionEvent::Invoke),
        "SHUTDOWN" if is_external => Ok(ExtensionEvent::Shutdown),
        _ => Err(ExtensionRefusal::InvalidEvent { event: event.to_owned(), exists: event == "SHUTDOWN" }),
    }
}

fn refuse<T>(ticket: T, refusal: ExtensionRefusal, effects: &mut Vec<Effect<T>>) {
    effects.push(Effect::Answer(ticket, Answer::Refused(Refusal::Extension(refusal))));
}

fn unknown(identifier: &str) -> ExtensionRefusal {
    ExtensionRefusal::UnknownIdentifier { identifier: identifier.to_owned() }
}

fn transition(from: ExtensionState, to: ExtensionState, identifier: &str) -> ExtensionRefusal {
    ExtensionRefusal::InvalidTransition { from, to, extension: identifier.to_owned() }
}
