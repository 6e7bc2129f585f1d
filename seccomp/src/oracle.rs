//! For tests: what a policy says about one system call, read off the rules one by one, with nothing shared with the compiler.

use crate::numbers::Architecture;
use crate::policy::{Action, ArgumentTest, Comparison, Errno, Policy};

/// The kernel's `struct seccomp_data`, less the instruction pointer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) audit_architecture: u32,
    pub(crate) number: u32,
    pub(crate) arguments: [u64; 6],
}

/// The verdict of the policy, for a filter of this architecture.
pub(crate) fn verdict(policy: &Policy, architecture: Architecture, call: &Call) -> Action {
    if call.audit_architecture != architecture.audit_value() {
        return Action::Kill;
    }
    if architecture == Architecture::X86_64 && call.number >= 0x4000_0000 {
        return Action::Errno(Errno::ENOSYS);
    }
    for rule in policy.rules() {
        let named = rule.system_calls().iter().any(|known| known.number(architecture) == Some(call.number));
        if named && rule.tests().iter().all(|test| holds(test, call)) {
            return rule.action();
        }
    }
    policy.default_action()
}

fn holds(test: &ArgumentTest, call: &Call) -> bool {
    let looked_at = call.arguments[usize::from(test.argument)] & test.mask;
    match test.comparison {
        Comparison::Equal => looked_at == test.value,
        Comparison::NotEqual => looked_at != test.value,
    }
}

/// Arguments that tell the rules about this call number apart: each argument at each value some rule asks for, near it, with bits set
/// that the rule does not look at, and at the extremes, in all combinations.
pub(crate) fn telling_arguments(policy: &Policy, architecture: Architecture, number: u32) -> Vec<[u64; 6]> {
    let about = |rule: &&crate::policy::Rule| rule.system_calls().iter().any(|call| call.number(architecture) == Some(number));
    let tests: Vec<&ArgumentTest> = policy.rules().iter().filter(about).flat_map(|rule| rule.tests()).collect();
    let mut all = vec![[0; 6]];
    for argument in 0..6 {
        let mut values = vec![0, u64::MAX];
        for test in tests.iter().filter(|test| usize::from(test.argument) == argument) {
            let ArgumentTest { mask, value, .. } = **test;
            values.extend([
                value,
                value | !mask,
                value ^ 1,
                value ^ (mask & mask.wrapping_neg()),
                value ^ mask,
                value << 32,
                value | 1 << 32,
            ]);
        }
        if values.len() == 2 {
            values.truncate(1);
        }
        values.sort_unstable();
        values.dedup();
        let with = |arguments: &[u64; 6], value: u64| {
            let mut arguments = *arguments;
            arguments[argument] = value;
            arguments
        };
        all = all.iter().flat_map(|arguments| values.iter().map(move |value| with(arguments, *value))).collect();
    }
    all
}
