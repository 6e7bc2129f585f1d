//! Runs AWS Lambda functions in the real Lambda userland, without Docker.

pub mod api;
pub mod build;
pub mod cli;
pub mod config;
pub mod embedded;
pub mod environment;
pub mod exit_code;
pub mod fleet;
pub mod function;
pub mod lambda;
pub mod mode;
pub mod records;
pub mod report;
pub mod sandbox;
pub mod watch;
pub mod writable;
