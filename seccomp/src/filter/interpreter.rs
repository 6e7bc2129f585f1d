//! For tests: runs classic BPF over a system call as the kernel would, and refuses what `seccomp_check_filter` and `bpf_check_classic`
//! refuse.

use super::Instruction;
use crate::oracle::Call;

/// The 32 bits that the program returns.
pub(super) fn run(program: &[Instruction], call: &Call) -> u32 {
    let mut words = vec![call.number, call.audit_architecture, 0, 0];
    for argument in call.arguments {
        words.extend([argument as u32, (argument >> 32) as u32]);
    }
    let (mut accumulator, mut at) = (0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let mut branch = |holds: bool| at += usize::from(if holds { jt } else { jf });
        match code {
            0x20 => accumulator = words[k as usize / 4],
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => branch(accumulator == k),
            0x25 => branch(accumulator > k),
            0x35 => branch(accumulator >= k),
            0x06 => return k,
            _ => panic!("instruction {} has the unknown code {code:#x}", at - 1),
        }
    }
}

/// Would the kernel load it?
pub(super) fn check(program: &[Instruction]) -> Result<(), String> {
    if program.is_empty() || program.len() > 4096 {
        return Err(format!("{} instructions", program.len()));
    }
    for (at, instruction) in program.iter().enumerate() {
        let rest = program.len() - at - 1;
        let sound = match instruction.code {
            0x20 => instruction.k < 64 && instruction.k % 4 == 0,
            0x05 => (instruction.k as usize) < rest,
            0x15 | 0x25 | 0x35 => usize::from(instruction.jt.max(instruction.jf)) < rest,
            0x54 | 0x06 => true,
            _ => false,
        };
        if !sound {
            return Err(format!("instruction {at}: {instruction:?}"));
        }
    }
    match program.last() {
        Some(Instruction { code: 0x06, .. }) => Ok(()),
        _ => Err("the last instruction is no return".to_owned()),
    }
}
