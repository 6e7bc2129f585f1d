//! The text of a seccomp policy: whatever it is, it is refused or gives a program that the kernel's checker takes and that decides every call.

use seccomp::filter::{CompileError, Filter, Instruction};
use seccomp::numbers::Architecture;
use seccomp::policy::Policy;

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "seccomp_policy",
    run,
    seeds,
    words: &[
        "allow ",
        "errno ",
        "EPERM ",
        "kill ",
        "notify ",
        " if ",
        " and ",
        "arg0:32 ",
        "arg5:64 ",
        "& ",
        "== ",
        "!= ",
        "0x",
        "ffffffff",
        "18446744073709551616",
        " # why\n",
        "\n",
        "read ",
        "socket ",
        "clone ",
        "default ",
        "architectures ",
        "x86_64 ",
        "aarch64 ",
        "seccomp-policy 1\n",
    ],
    short_run: 2_000,
};

fn seeds() -> Vec<Vec<u8>> {
    let small = "seccomp-policy 1\narchitectures x86_64 aarch64\ndefault errno ENOSYS # new\nallow read write # data\n\
                 errno EPERM ioctl if arg1:32 == 0x5412 # TIOCSTI\nallow ioctl # rest\nnotify connect # supervised\nkill clone if arg0:64 & 0x7e020000 != 0 and arg1:32 == 1 # both\n";
    [small, include_str!("../../seccomp/policies/network.policy"), include_str!("../../seccomp/policies/lambda.policy")]
        .map(Vec::from)
        .to_vec()
}

fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(policy) = text.parse::<Policy>() else { return };
    for rule in policy.rules() {
        assert!(!rule.reason().is_empty() && !rule.system_calls().is_empty());
    }
    for architecture in Architecture::ALL {
        match Filter::compile(&policy, architecture) {
            Ok(filter) => check(filter.instructions()),
            Err(CompileError::Architecture { .. }) => assert!(!policy.architectures().contains(&architecture)),
            Err(CompileError::TooLong { instructions }) => assert!(instructions > 4096),
        }
    }
}

/// What the kernel demands (`seccomp_check_filter`, `bpf_check_classic`): known codes, loads within `struct seccomp_data`, jumps that stay inside, a return
/// at the end. Jumps go forward only, so that it ends.
fn check(program: &[Instruction]) {
    assert!(!program.is_empty() && program.len() <= 4096);
    for (at, Instruction { code, jt, jf, k }) in program.iter().enumerate() {
        let rest = program.len() - at - 1;
        match code {
            0x20 => assert!(*k < 64 && k % 4 == 0),
            0x05 => assert!((*k as usize) < rest),
            0x15 | 0x35 => assert!(usize::from(*jt.max(jf)) < rest),
            0x54 | 0x06 => {}
            other => panic!("{other:#x} is no code of ours"),
        }
    }
    assert_eq!(program.last().map(|last| last.code), Some(0x06));
}
