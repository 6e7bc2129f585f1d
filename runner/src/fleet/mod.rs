//! Functions and their execution environments: who gets an invocation, how many run at once, who waits, and what becomes of queued events.
//!
//! Takes the calls of the Invoke API, gives invocations to environments. Knows neither HTTP nor how an environment is made.

use std::sync::Arc;

use crate::environment::{Broken, Handle};
use crate::function::Function;

/// Makes environments of one function. Called on the fleet's own thread.
pub type Open = Box<dyn Fn() -> Result<Handle, Broken>>;

/// A function that can be invoked.
pub struct Served {
    /// What it is.
    pub function: Arc<Function>,
    /// Makes an environment of it.
    pub open: Open,
}
