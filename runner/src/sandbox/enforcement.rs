//! What the kernel granted: which protections stand around a sandbox, and which optional ones were refused.

use std::io;

use super::Isolation;

/// The protections around one sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Enforcement {
    /// How the sandbox stands.
    pub isolation: Isolation,
    /// What stands.
    pub protections: Vec<Protection>,
    /// What was asked for and refused.
    pub degradations: Vec<Degradation>,
}

impl Enforcement {
    /// What the user should hear of what was refused, in one line; nothing if nothing was.
    pub fn warning(&self) -> Option<String> {
        let refused: Vec<_> = self.degradations.iter().map(|refused| format!("{} ({})", refused.what, refused.why)).collect();
        let list = if refused.is_empty() { String::new() } else { format!(": without {}", refused.join(", ")) };
        let lacks = self.isolation.lacks().map(|lacks| format!(" (isolation `{}`: {lacks})", self.isolation)).unwrap_or_default();
        let says = !(list.is_empty() && lacks.is_empty());
        says.then(|| format!("this sandbox is less than it should be{lacks}{list}; see `undocked doctor`"))
    }
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
    /// The memory limit, held by the kernel in a cgroup.
    MemoryCgroup,
    /// The memory limit, held by a watcher of ours.
    MemoryWatcher,
}

/// A protection that was asked for and refused, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Degradation {
    /// What was refused, such as `hide /proc/kcore`.
    pub what: String,
    /// Why: the kernel's words.
    pub why: String,
}

impl Degradation {
    /// A refusal in the kernel's words, without the number that the standard library puts behind them.
    pub(super) fn new(what: impl Into<String>, error: &io::Error) -> Self {
        let words = error.to_string();
        let words = words.split_once(" (os error").map_or(words.as_str(), |(words, _)| words);
        Self { what: what.into(), why: words.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_said_by_name() {
        assert_eq!(Enforcement::default().warning(), None);
        let refused = |what: &str| Degradation { what: what.into(), why: "no".into() };
        let enforcement = Enforcement { degradations: vec![refused("a"), refused("b")], ..Enforcement::default() };
        assert!(enforcement.warning().unwrap().contains(": without a (no), b (no);"));
    }
}
