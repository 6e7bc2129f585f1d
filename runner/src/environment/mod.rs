//! The execution environment: one sandbox, one lifecycle, one Runtime API, brought together.
//!
//! One task owns all state. It waits for calls, output, the runtime's end and the clock, asks the lifecycle, and does what that says.

mod blueprint;
pub mod connections;
pub mod entry;
pub mod extensions;
mod hand;
mod handle;
pub mod host;
mod house;
pub mod identity;
pub mod ids;
pub mod layers;
mod log_frames;
mod logs;
pub mod mount_points;
mod once;
mod running;
mod runtime;
mod serving;
mod stream;
mod task;
pub mod telemetry;
#[cfg(test)]
mod tests;
pub mod user;
pub mod variables;
mod visit;
mod wires;

pub use blueprint::Blueprint;
pub use handle::{Answer, Broken, Finished, Handle, Order, Part, Work};
pub use once::{EnvironmentError, Ran, Run, invocation, run_once};
pub use serving::{Setup, open};
pub use task::BetweenEvents;
#[cfg(test)]
pub(crate) use visit::Knock;
pub use visit::{Doing, Done, Door, Guest, Visit};
