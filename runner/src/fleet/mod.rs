//! Functions and their execution environments: who gets an invocation, how many run at once, who waits, and what becomes of queued events.
//!
//! Takes the calls of the Invoke API, gives invocations to environments. Knows neither HTTP nor how an environment is made.

mod answer;
mod attempt;
mod directory;
mod events;
mod options;
mod pool;
mod run;
#[cfg(test)]
mod tests;
mod visits;

use std::sync::Arc;

use crate::environment::{Broken, Handle};
use crate::function::Function;
use crate::function::events::EventRules;

pub(crate) use answer::{Whole, discard, whole};
pub use events::{EventOptions, EventPlace};
pub use options::{FleetOptions, Names, Notice, Queue};
pub use run::{Control, Fleet};

/// Makes environments of one function. Called on the fleet's own thread.
pub type Open = Box<dyn Fn() -> Result<Handle, Broken>>;

/// A function that can be invoked.
pub struct Served {
    /// What it is.
    pub function: Arc<Function>,
    /// Makes an environment of it.
    pub open: Open,
    /// How many of its invocations may run at once. With zero it is switched off, as on Lambda: every call is refused.
    pub concurrency: usize,
    /// What becomes of its queued events.
    pub events: EventRules,
}
