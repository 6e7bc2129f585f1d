//! What the kernel granted: which protections stand around a sandbox, and which optional ones were refused.

use std::fmt;

/// The protections around one sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Enforcement {
    /// What stands.
    pub protections: Vec<Protection>,
    /// What was asked for and refused.
    pub degradations: Vec<Degradation>,
}

/// A protection that the kernel granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// User, mount, pid, ipc and uts namespaces.
    Namespaces,
    /// Files confined beneath the root, with the kernel's Landlock ABI version.
    Landlock {
        /// The ABI version; abstract sockets and signals are scoped from 6 on.
        abi: i64,
    },
    /// The system-call filter.
    Seccomp,
}

/// A protection that was asked for and refused, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Degradation {
    /// What was refused, such as `hide /proc/kcore`.
    pub what: String,
    /// Why: the kernel's words.
    pub why: String,
}

impl fmt::Display for Degradation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}
