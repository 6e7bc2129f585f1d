//! How a fleet behaves, whatever the functions are.

use std::time::Duration;

use super::EventOptions;

/// What all functions of a fleet have in common.
pub struct FleetOptions {
    /// Which names lead to a function.
    pub names: Names,
    /// What becomes of calls beyond a function's concurrency.
    pub queue: Queue,
    /// After how long without an invocation an environment ends; never, if there is none.
    pub idle: Option<Duration>,
    /// How many environments of each function are opened ahead of calls, and kept.
    pub prewarm: usize,
    /// How long calls in flight may take to end when the fleet does.
    pub drain: Duration,
    /// How events are queued.
    pub events: EventOptions,
    /// Told what a user should know of and no caller is told.
    pub notify: Box<dyn Fn(Notice)>,
}

impl Default for FleetOptions {
    fn default() -> Self {
        Self {
            names: Names::Own,
            queue: Queue::Refuse,
            idle: Some(Duration::from_secs(300)),
            prewarm: 0,
            drain: Duration::from_secs(30),
            events: EventOptions::default(),
            notify: Box::new(drop),
        }
    }
}

/// Which names lead to a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// Its own, and ARNs with it in its region.
    Own,
    /// Any name, ARN and qualifier lead to the only function there is, as with docker-lambda and AWS's emulator.
    Any,
}

/// What becomes of calls beyond a function's concurrency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// They are refused (429), as on Lambda.
    Refuse,
    /// They wait, first come, first served.
    Wait {
        /// So many of a function at the most; more are refused.
        max: usize,
    },
}

/// Something for people to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What happened, on one line.
    pub message: String,
    /// What can be done about it.
    pub hint: Option<String>,
}
