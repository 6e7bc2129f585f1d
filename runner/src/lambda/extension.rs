//! Extensions, as the log and the Extensions API name what they do.

use std::fmt;

/// What an extension can be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtensionEvent {
    /// Every invocation.
    Invoke,
    /// The end of the environment. For external extensions only.
    Shutdown,
}

/// The name in requests, events and the log.
impl fmt::Display for ExtensionEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invoke => "INVOKE",
            Self::Shutdown => "SHUTDOWN",
        })
    }
}

/// Where an extension stands, with AWS's names for these states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtensionState {
    /// Its process runs.
    Started,
    /// It registered.
    Registered,
    /// It waits for an event.
    Ready,
    /// It has one.
    Running,
    /// It reported that it could not initialise.
    InitError,
    /// It reported that it has to end.
    ExitError,
    /// It ended.
    Exited,
    /// It could not be started.
    LaunchError,
}

impl ExtensionState {
    /// AWS's name of the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Started => "Started",
            Self::Registered => "Registered",
            Self::Ready => "Ready",
            Self::Running => "Running",
            Self::InitError => "InitError",
            Self::ExitError => "ExitError",
            Self::Exited => "Exited",
            Self::LaunchError => "LaunchError",
        }
    }
}

/// AWS's name of the state.
impl fmt::Display for ExtensionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
