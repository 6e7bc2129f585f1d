//! The execution environment: one sandbox, one lifecycle, one Runtime API, brought together.
//!
//! One task owns all state. It waits for calls, output, the runtime's end and the clock, asks the lifecycle, and does what that says.

mod blueprint;
pub mod connections;
pub mod entry;
mod handle;
pub mod host;
pub mod identity;
pub mod ids;
pub mod layers;
#[cfg_attr(not(test), expect(dead_code, reason = "it comes with the descriptor that is read"))]
mod log_frames;
mod logs;
pub mod mount_points;
mod once;
mod runtime;
mod serving;
mod stream;
mod task;
#[cfg_attr(not(test), expect(dead_code, reason = "the environment gives it what happens with the next step"))]
pub mod telemetry;
#[cfg(test)]
mod tests;
pub mod variables;

pub use blueprint::Blueprint;
pub use handle::{Answer, Broken, Finished, Handle, Order, Part, Work};
pub use once::{EnvironmentError, Ran, Run, run_once};
pub use serving::{Setup, open};
