//! Lambda's APIs over HTTP: parse a request, send one value to whoever owns the state, render the answer. Decides nothing; knows no process and no sandbox.

pub mod invoke;
pub mod runtime;

pub use runtime::{Api, Call, Metadata, Ticket, serve};
