//! A policy: what becomes of each system call, and why. Text in, typed rules out; the form is `docs/formats/seccomp-policy.md`.
//!
//! Knows nothing of BPF. The rules that name a call are tried in the order of the text and the first whose tests all hold decides;
//! where none does, the default action. Two things no policy can change: a call made through another architecture's entry kills the
//! process, and one of the x32 ABI fails with ENOSYS.

mod parse;
#[cfg(test)]
mod tests;

pub use parse::ParsePolicyError;

use crate::numbers::{Architecture, SystemCall};

/// The text of the policy that functions run under.
const LAMBDA: &str = include_str!("../policies/lambda.policy");

/// The text of the policy that hands the calls of a private network to whoever makes its connections.
const NETWORK: &str = include_str!("../policies/network.policy");

/// The text of the policy that root inside builds under.
const BUILD: &str = include_str!("../policies/build.policy");

/// The text of what comes before it where volumes may be written to.
const VOLUMES: &str = include_str!("../policies/volumes.policy");

/// The text of what comes before it where a range of ids is mapped.
const IDS: &str = include_str!("../policies/ids.policy");

/// A whole policy. Every rule in it can take effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    architectures: Vec<Architecture>,
    default: Action,
    rules: Vec<Rule>,
}

impl Policy {
    /// The shipped policy that functions run under.
    pub fn lambda() -> Policy {
        LAMBDA.parse().expect("the text is part of the program, and a test parses it")
    }

    /// The shipped policy of a private network with a way out, installed under [`Policy::lambda`]'s: of two filters the kernel takes the
    /// stricter verdict.
    pub fn network() -> Policy {
        NETWORK.parse().expect("the text is part of the program, and a test parses it")
    }

    /// The shipped policy of root inside a sandbox with a root that may be written to, for building.
    pub fn build() -> Policy {
        BUILD.parse().expect("the text is part of the program, and a test parses it")
    }

    /// The same where folders of the host may be written to as well.
    pub fn build_with_volumes() -> Policy {
        Policy::before_build(VOLUMES)
    }

    /// [`Policy::build`] where a range of ids is mapped, so that owners and users are real.
    pub fn build_with_ids() -> Policy {
        Policy::before_build(IDS)
    }

    /// The same where folders of the host may be written to as well.
    pub fn build_with_ids_and_volumes() -> Policy {
        let volumes: Policy = VOLUMES.parse().expect("the text is part of the program, and a test parses it");
        volumes.before(Policy::build_with_ids())
    }

    /// All that are shipped.
    #[cfg(test)]
    pub(crate) fn shipped() -> [Policy; 6] {
        [
            Policy::lambda(),
            Policy::network(),
            Policy::build(),
            Policy::build_with_volumes(),
            Policy::build_with_ids(),
            Policy::build_with_ids_and_volumes(),
        ]
    }

    fn before_build(text: &str) -> Policy {
        let first: Policy = text.parse().expect("the text is part of the program, and a test parses it");
        first.before(Policy::build())
    }

    /// These rules first, then those of the other as far as they can take effect; the other's default decides.
    fn before(self, mut rest: Policy) -> Policy {
        let is_decided = |call: &SystemCall| self.rules.iter().any(|rule| rule.tests.is_empty() && rule.system_calls.contains(call));
        rest.rules.iter_mut().for_each(|rule| rule.system_calls.retain(|call| !is_decided(call)));
        rest.rules.retain(|rule| !rule.system_calls.is_empty());
        Policy { rules: [self.rules, rest.rules].concat(), ..rest }
    }

    /// Whether some call may be handed to a supervisor. A filter of such a policy is useless without one: the calls fail with ENOSYS.
    pub fn notifies(&self) -> bool {
        self.default == Action::Notify || self.rules.iter().any(|rule| rule.action == Action::Notify)
    }

    /// The architectures it was written for.
    pub fn architectures(&self) -> &[Architecture] {
        &self.architectures
    }

    /// What becomes of a call that no rule decides.
    pub fn default_action(&self) -> Action {
        self.default
    }

    /// The rules in the order of the text.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

/// One line: an action for some system calls, perhaps only with certain arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    line: usize,
    action: Action,
    system_calls: Vec<SystemCall>,
    tests: Vec<ArgumentTest>,
    reason: String,
}

impl Rule {
    /// Where it stands in the text, counted from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// What becomes of the calls.
    pub fn action(&self) -> Action {
        self.action
    }

    /// The calls it is about.
    pub fn system_calls(&self) -> &[SystemCall] {
        &self.system_calls
    }

    /// The tests that must all hold. Empty: it always applies.
    pub fn tests(&self) -> &[ArgumentTest] {
        &self.tests
    }

    /// Why it is there.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// What becomes of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// The kernel carries it out.
    Allow,
    /// It answers 0, as if it had been done, and has no effect.
    Succeed,
    /// It fails with this error and has no other effect.
    Errno(Errno),
    /// The caller waits for what a supervisor outside answers, who holds the filter's notification descriptor (seccomp_unotify(2)).
    Notify,
    /// The process dies as by SIGSYS, all its threads with it.
    Kill,
}

/// An error that a refused call may answer. The values are those of every architecture we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum Errno {
    /// Operation not permitted.
    EPERM = 1,
    /// No such file or directory.
    ENOENT = 2,
    /// Permission denied.
    EACCES = 13,
    /// Invalid argument.
    EINVAL = 22,
    /// Function not implemented.
    ENOSYS = 38,
    /// Protocol not available.
    ENOPROTOOPT = 92,
    /// Protocol not supported.
    EPROTONOSUPPORT = 93,
    /// Operation not supported.
    EOPNOTSUPP = 95,
    /// Address family not supported by protocol.
    EAFNOSUPPORT = 97,
}

impl Errno {
    pub(crate) const NAMED: [(&'static str, Errno); 9] = [
        ("EPERM", Errno::EPERM),
        ("ENOENT", Errno::ENOENT),
        ("EACCES", Errno::EACCES),
        ("EINVAL", Errno::EINVAL),
        ("ENOSYS", Errno::ENOSYS),
        ("ENOPROTOOPT", Errno::ENOPROTOOPT),
        ("EPROTONOSUPPORT", Errno::EPROTONOSUPPORT),
        ("EOPNOTSUPP", Errno::EOPNOTSUPP),
        ("EAFNOSUPPORT", Errno::EAFNOSUPPORT),
    ];

    /// The number a program sees.
    pub fn number(self) -> u16 {
        self as u16
    }
}

/// A question about one argument: does it, masked, equal a value? The value has no bit outside the mask, so either answer is
/// possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArgumentTest {
    /// 0 to 5.
    pub(crate) argument: u8,
    /// The bits looked at, never none. Upper 32 bits clear: only the lower half is looked at, as the kernel does where it takes an `int`.
    pub(crate) mask: u64,
    /// Whether equality or difference makes the test hold.
    pub(crate) comparison: Comparison,
    /// What the masked argument is compared with.
    pub(crate) value: u64,
}

/// How a masked argument must relate to the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
}
