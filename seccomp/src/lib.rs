//! Seccomp policies: text that says which system calls a sandbox may make and why, compiled to the kernel's BPF.
//!
//! Pure: nothing here makes a system call or knows what runs in the sandbox. Whoever installs a filter copies
//! [`filter::Filter::instructions`] into the kernel's `sock_filter`s.
//!
//! ```
//! use seccomp::{filter::Filter, numbers::Architecture, policy::Policy};
//!
//! let filter = Filter::compile(&Policy::lambda(), Architecture::HOST)?;
//! assert!(filter.instructions().len() < 256);
//! # Ok::<(), seccomp::filter::CompileError>(())
//! ```

pub mod filter;
pub mod numbers;
#[cfg(test)]
mod oracle;
pub mod policy;
