//! From a policy to the classic BPF that the kernel runs on every system call.
//!
//! Call numbers are cut into ranges of one decision each, and the program finds the range by binary search: installing a filter
//! costs what the kernel needs to try it on every call number (it keeps a table of those always allowed) and to translate it, so both
//! the length of a path and the size count. `docs/formats/seccomp-policy.md` has the figures.
//!
//! Programs are written from their end to their start: jumps only go forward, so every target is there before the jump to it.

#[cfg(test)]
mod interpreter;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;

use thiserror::Error;

use crate::numbers::Architecture;
use crate::policy::{Action, ArgumentTest, Comparison, Errno, Policy, Rule};

/// The kernel's BPF_MAXINSNS.
const MOST_INSTRUCTIONS: usize = 4096;

// linux/bpf_common.h: the four instruction classes a policy needs, with the one form of each.
const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

// linux/seccomp.h: where the fields of seccomp_data are. Both architectures are little-endian, so an argument's lower half comes first.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Numbers from here on are x32 calls on x86_64, or nothing (`arch/x86/entry/syscall_64.c`).
const X32: u32 = 0x4000_0000;

/// One instruction, laid out as the kernel's `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip if the comparison holds.
    pub jt: u8,
    /// How many to skip if not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// A policy compiled for one architecture. The kernel's checker accepts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    instructions: Cow<'static, [Instruction]>,
}

/// Why a policy cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CompileError {
    /// The policy does not say that it was written for this architecture.
    #[error("the policy is not for {}", wanted.name())]
    Architecture {
        /// The architecture asked for.
        wanted: Architecture,
    },
    /// The program would be longer than the kernel takes.
    #[error("the policy needs {instructions} BPF instructions, and the kernel takes {MOST_INSTRUCTIONS}")]
    TooLong {
        /// How many it needs.
        instructions: usize,
    },
}

impl Filter {
    /// Compiles a policy.
    pub fn compile(policy: &Policy, architecture: Architecture) -> Result<Filter, CompileError> {
        if !policy.architectures().contains(&architecture) {
            return Err(CompileError::Architecture { wanted: architecture });
        }
        let mut program = Program::default();
        let first_comparison = program.search(&cells(&ranges(policy, architecture)));
        debug_assert_eq!(program.skip_to(first_comparison), 0, "the search starts with what was written last");
        let search = program.push(LOAD, NUMBER);
        let foreign = program.verdict(Action::Kill);
        program.branch(JUMP_EQUAL, architecture.audit_value(), search, foreign);
        program.push(LOAD, ARCHITECTURE);

        let mut instructions = program.backwards;
        instructions.reverse();
        if instructions.len() > MOST_INSTRUCTIONS {
            return Err(CompileError::TooLong { instructions: instructions.len() });
        }
        Ok(Filter { instructions: instructions.into() })
    }

    /// A filter whose [`Filter::instructions`] were compiled when the program was built.
    pub const fn precompiled(instructions: &'static [Instruction]) -> Filter {
        Filter { instructions: Cow::Borrowed(instructions) }
    }

    /// The program, first instruction first.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// The most instructions that run before a verdict or the first look at an argument: what the kernel goes through for each call
    /// number when the filter is installed.
    pub fn depth(&self) -> usize {
        let mut depths: Vec<usize> = vec![0; self.instructions.len()];
        for (at, instruction) in self.instructions.iter().enumerate().rev() {
            depths[at] = 1 + match instruction.code {
                RETURN => 0,
                LOAD if instruction.k >= ARGUMENTS => 0,
                JUMP => depths[at + 1 + instruction.k as usize],
                JUMP_EQUAL | JUMP_AT_LEAST => {
                    let (yes, no) = (at + 1 + usize::from(instruction.jt), at + 1 + usize::from(instruction.jf));
                    depths[yes].max(depths[no])
                }
                _ => depths[at + 1],
            };
        }
        depths[0]
    }
}

/// What becomes of a call number.
#[derive(Clone, PartialEq, Eq)]
struct Decision<'p> {
    /// Tried in order; the first whose tests all hold decides.
    cases: Vec<(&'p [ArgumentTest], Action)>,
    otherwise: Action,
}

/// The call numbers from `first` up to the next range's `first`.
struct Range<'p> {
    first: u32,
    decision: Decision<'p>,
}

impl<'p> Decision<'p> {
    fn always(action: Action) -> Decision<'p> {
        Decision { cases: Vec::new(), otherwise: action }
    }

    /// What rules about one call say together, in the order of the text.
    fn of(rules: impl Iterator<Item = &'p Rule>, default: Action) -> Decision<'p> {
        let mut decision = Decision::always(default);
        for rule in rules {
            match rule.tests() {
                [] => decision.otherwise = rule.action(),
                tests => decision.cases.push((tests, rule.action())),
            }
        }
        decision
    }
}

/// All call numbers, in ascending ranges, neighbours differing.
fn ranges(policy: &Policy, architecture: Architecture) -> Vec<Range<'_>> {
    let mut rules: Vec<(u32, &Rule)> = Vec::new();
    for rule in policy.rules() {
        rules.extend(rule.system_calls().iter().filter_map(|call| call.number(architecture)).map(|number| (number, rule)));
    }
    rules.sort_by_key(|(number, _)| *number);

    let default = policy.default_action();
    let mut ranges = Vec::new();
    let mut undecided = 0;
    for rules in rules.chunk_by(|(number, _), (next, _)| number == next) {
        let number = rules[0].0;
        if undecided < number {
            ranges.push(Range { first: undecided, decision: Decision::always(default) });
        }
        ranges.push(Range { first: number, decision: Decision::of(rules.iter().map(|(_, rule)| *rule), default) });
        undecided = number + 1;
    }
    ranges.push(Range { first: undecided, decision: Decision::always(default) });
    if architecture == Architecture::X86_64 {
        ranges.push(Range { first: X32, decision: Decision::always(Action::Errno(Errno::ENOSYS)) });
    }
    ranges.dedup_by(|next, range| next.decision == range.decision);
    ranges
}

/// What one leaf of the search decides: a range, or three of which the middle is one number and the others are of one kind, which
/// takes one comparison more. Lists of refused calls leave many such threes.
fn cells<'r, 'p>(mut ranges: &'r [Range<'p>]) -> Vec<&'r [Range<'p>]> {
    let mut cells = Vec::new();
    while !ranges.is_empty() {
        let size = match ranges {
            [before, odd, after, ..] if odd.first + 1 == after.first && before.decision == after.decision => 3,
            _ => 1,
        };
        let (cell, rest) = ranges.split_at(size);
        cells.push(cell);
        ranges = rest;
    }
    cells
}

/// An instruction already written, by its distance from the end of the program.
type Label = usize;

/// A program being written from its end.
#[derive(Default)]
struct Program {
    backwards: Vec<Instruction>,
    /// For each verdict, the return that was written last.
    returns: BTreeMap<u32, Label>,
}

impl Program {
    /// Finds the cell of the loaded number and decides.
    fn search(&mut self, cells: &[&[Range]]) -> Label {
        match cells {
            [[range]] => self.decide(&range.decision),
            [[before, odd, _]] => {
                let others = self.decide(&before.decision);
                let this = self.decide(&odd.decision);
                self.branch(JUMP_EQUAL, odd.first, this, others)
            }
            _ => {
                let (below, above) = cells.split_at(cells.len() / 2);
                let at_least = self.search(above);
                let less = self.search(below);
                self.branch(JUMP_AT_LEAST, above[0][0].first, at_least, less)
            }
        }
    }

    fn decide(&mut self, decision: &Decision) -> Label {
        let mut label = self.verdict(decision.otherwise);
        for (tests, action) in decision.cases.iter().rev() {
            let fails = label;
            label = self.verdict(*action);
            for test in tests.iter().rev() {
                label = self.test(test, label, fails);
            }
        }
        label
    }

    fn test(&mut self, test: &ArgumentTest, holds: Label, fails: Label) -> Label {
        let (equal, differs) = match test.comparison {
            Comparison::Equal => (holds, fails),
            Comparison::NotEqual => (fails, holds),
        };
        let at = ARGUMENTS + 8 * u32::from(test.argument);
        let lower = self.word(at, (test.mask as u32, test.value as u32), equal, differs);
        self.word(at + 4, ((test.mask >> 32) as u32, (test.value >> 32) as u32), lower, differs)
    }

    /// Compares the 32 bits at an offset with a masked value; no mask, no comparison.
    fn word(&mut self, at: u32, (mask, value): (u32, u32), equal: Label, differs: Label) -> Label {
        if mask == 0 {
            return equal;
        }
        self.branch(JUMP_EQUAL, value, equal, differs);
        if mask != u32::MAX {
            self.push(AND, mask);
        }
        self.push(LOAD, at)
    }

    fn verdict(&mut self, action: Action) -> Label {
        // linux/seccomp.h: SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO | errno (0: success), SECCOMP_RET_USER_NOTIF, SECCOMP_RET_KILL_PROCESS
        let value = match action {
            Action::Allow => 0x7fff_0000,
            Action::Succeed => 0x0005_0000,
            Action::Errno(errno) => 0x0005_0000 | u32::from(errno.number()),
            Action::Notify => 0x7fc0_0000,
            Action::Kill => 0x8000_0000,
        };
        match self.returns.get(&value) {
            Some(label) => *label,
            None => self.push_return(value),
        }
    }

    fn push_return(&mut self, value: u32) -> Label {
        let label = self.push(RETURN, value);
        self.returns.insert(value, label);
        label
    }

    fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        // Bringing `no` near may take one instruction, which `yes` has to leave room for.
        let yes = self.near(yes, 1);
        let no = self.near(no, 0);
        let skip = |target| u8::try_from(self.skip_to(target)).expect("`near` brought it within 8 bits");
        let (jt, jf) = (skip(yes), skip(no));
        self.backwards.push(Instruction { code, jt, jf, k });
        self.backwards.len() - 1
    }

    /// A label that the next instruction but `room` can jump to, conditional jumps having 8 bits: the target, or a stand-in for it, which
    /// is the same return again or a long jump.
    fn near(&mut self, target: Label, room: usize) -> Label {
        let skip = self.skip_to(target);
        match self.backwards[target] {
            _ if skip + room <= usize::from(u8::MAX) => target,
            Instruction { code: RETURN, k, .. } => self.push_return(k),
            _ => self.push(JUMP, skip as u32),
        }
    }

    /// How many instructions the next one written has to skip to get to `target`.
    fn skip_to(&self, target: Label) -> usize {
        self.backwards.len() - 1 - target
    }

    fn push(&mut self, code: u16, k: u32) -> Label {
        self.backwards.push(Instruction { code, jt: 0, jf: 0, k });
        self.backwards.len() - 1
    }
}
