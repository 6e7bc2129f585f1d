//! An image from a Dockerfile: what the file says ([`dockerfile`]), what its words mean ([`words`], [`pattern`], [`ignore`]), what becomes of the config
//! ([`config`]), under which keys results are kept ([`keys`]), and the doing ([`tree`], [`context`], [`copy`], [`layer`], [`builder`]).
//!
//! Knows no sandbox: who runs the commands of `RUN` is given to [`builder`].

pub mod builder;
pub mod config;
pub mod context;
pub mod copy;
pub mod dockerfile;
pub mod ignore;
pub mod keys;
pub mod layer;
pub mod pattern;
pub mod tree;
pub mod words;
