use super::*;
use crate::oracle::{Call, telling_arguments, verdict};

const HEADER: &str = "seccomp-policy 1\narchitectures x86_64 aarch64\ndefault errno ENOSYS # new calls\n";

#[test]
fn a_policy_is_read() {
    let text = "\
# comments and empty lines anywhere

seccomp-policy 1
  architectures aarch64   # a comment
default kill # strict
allow read write # data
errno EPERM ioctl if arg1:32 == 0x5412 # TIOCSTI # and its reason goes on
allow ioctl if arg1:64 & 0xff00000000 != 0 and arg0:32 == 1 # odd
";
    let policy: Policy = text.parse().unwrap();
    assert_eq!(policy.architectures(), [Architecture::Aarch64]);
    assert_eq!(policy.default_action(), Action::Kill);
    let names = |rule: &Rule| rule.system_calls().iter().map(|call| call.name()).collect::<Vec<_>>().join(" ");
    let seen: Vec<_> = policy.rules().iter().map(|rule| (rule.line(), rule.action(), names(rule), rule.reason())).collect();
    let wanted = [
        (6, Action::Allow, "read write".to_owned(), "data"),
        (7, Action::Errno(Errno::EPERM), "ioctl".to_owned(), "TIOCSTI # and its reason goes on"),
        (8, Action::Allow, "ioctl".to_owned(), "odd"),
    ];
    assert_eq!(seen, wanted);
    let tests: Vec<_> = policy.rules().iter().flat_map(|rule| rule.tests().iter().copied()).collect();
    let wanted = [
        ArgumentTest { argument: 1, mask: 0xffff_ffff, comparison: Comparison::Equal, value: 0x5412 },
        ArgumentTest { argument: 1, mask: 0xff_0000_0000, comparison: Comparison::NotEqual, value: 0 },
        ArgumentTest { argument: 0, mask: 0xffff_ffff, comparison: Comparison::Equal, value: 1 },
    ];
    assert_eq!(tests, wanted);
}

#[test]
fn bad_headers_are_refused() {
    let table = [
        ("", "line 1: found the end of the text, wanted `seccomp-policy 1`"),
        ("\n# nothing\n", "line 3: found the end of the text, wanted `seccomp-policy 1`"),
        ("seccomp-policy 2\n", "line 1: found `seccomp-policy 2`, wanted `seccomp-policy 1`"),
        ("allow read # x\n", "line 1: found `allow read`, wanted `seccomp-policy 1`"),
        ("seccomp-policy 1\n", "line 2: found the end of the text, wanted `architectures`"),
        ("seccomp-policy 1\ndefault kill # x", "line 2: found `default`, wanted `architectures`"),
        ("seccomp-policy 1\narchitectures", "line 2: found the end of the line, wanted `x86_64`, `aarch64`"),
        ("seccomp-policy 1\narchitectures x86_64 mips", "line 2: found `mips`, wanted `x86_64`, `aarch64`"),
        ("seccomp-policy 1\narchitectures x86_64", "line 3: found the end of the text, wanted `default`"),
        ("seccomp-policy 1\narchitectures x86_64\nallow read # x", "line 3: found `allow`, wanted `default`"),
        (
            "seccomp-policy 1\narchitectures x86_64\ndefault",
            "line 3: found the end of the line, wanted `allow`, `succeed`, `errno`, `notify` or `kill`",
        ),
        ("seccomp-policy 1\narchitectures x86_64\ndefault kill read # x", "line 3: found `read`, wanted the end of the line"),
        ("seccomp-policy 1\narchitectures x86_64\ndefault kill", "line 3: no reason; add `# why` at its end"),
    ];
    for (text, message) in table {
        assert_eq!(text.parse::<Policy>().unwrap_err().to_string(), message, "{text:?}");
    }
}

#[test]
fn bad_rules_are_refused() {
    let (names, number) = ("the name of a system call", "a number from 0 to 0xffffffff, decimal or with `0x`");
    let errnos = "`EPERM`, `ENOENT`, `EACCES`, `EINVAL`, `ENOSYS`, `ENOPROTOOPT`, `EPROTONOSUPPORT`, `EOPNOTSUPP`, `EAFNOSUPPORT`";
    let arguments = "`arg0:32` to `arg5:32` or `arg0:64` to `arg5:64`";
    let certain = "gives the same answer for every argument: the value has bits outside the mask, or the mask none";
    let found = |found: &str, wanted: &str| format!("line 4: found {found}, wanted {wanted}");
    let end = |wanted: &str| found("the end of the line", wanted);
    let table = [
        ("deny read # x", found("`deny`", "`allow`, `succeed`, `errno`, `notify` or `kill`")),
        ("default kill # x", found("`default`", "`allow`, `succeed`, `errno`, `notify` or `kill`")),
        ("allow # x", end(names)),
        ("allow raed # x", "line 4: no system call is called `raed`".to_owned()),
        ("allow READ # x", "line 4: no system call is called `READ`".to_owned()),
        ("allow 0 # x", "line 4: no system call is called `0`".to_owned()),
        ("errno # x", end(errnos)),
        ("errno read # x", found("`read`", errnos)),
        ("errno 1 read # x", found("`1`", errnos)),
        ("errno EPERM # x", end(names)),
        ("allow read", "line 4: no reason; add `# why` at its end".to_owned()),
        ("allow read #  ", "line 4: no reason; add `# why` at its end".to_owned()),
        ("allow if arg0:32 == 1 # x", "line 4: no system call is called `if`".to_owned()),
        ("allow read if # x", end(arguments)),
        ("allow read if arg0 == 1 # x", found("`arg0`", arguments)),
        ("allow read if arg6:32 == 1 # x", found("`arg6:32`", arguments)),
        ("allow read if arg+1:32 == 1 # x", found("`arg+1:32`", arguments)),
        ("allow read if arg0:16 == 1 # x", found("`arg0:16`", arguments)),
        ("allow read if arg0:32 # x", end("`&`, `==` or `!=`")),
        ("allow read if arg0:32 = 1 # x", found("`=`", "`&`, `==` or `!=`")),
        ("allow read if arg0:32 < 1 # x", found("`<`", "`&`, `==` or `!=`")),
        ("allow read if arg0:32 & 1 1 # x", found("`1`", "`==` or `!=`")),
        ("allow read if arg0:32 & # x", end(number)),
        ("allow read if arg0:32 == # x", end(number)),
        ("allow read if arg0:32 == -1 # x", found("`-1`", number)),
        ("allow read if arg0:32 == 0xg # x", found("`0xg`", number)),
        ("allow read if arg0:32 == 0x # x", found("`0x`", number)),
        ("allow read if arg0:32 == +1 # x", found("`+1`", number)),
        ("allow read if arg0:32 == 0x+1 # x", found("`0x+1`", number)),
        ("allow read if arg0:32 == 4294967296 # x", found("`4294967296`", number)),
        ("allow read if arg0:64 == 0x10000000000000000 # x", found("`0x10000000000000000`", &number.replace("0xf", "0xfffffffff"))),
        ("allow read if arg0:32 == 1 arg1:32 == 1 # x", found("`arg1:32`", "`and`")),
        ("allow read if arg0:32 == 1 or arg0:32 == 2 # x", found("`or`", "`and`")),
        ("allow read if arg0:32 == 1 and # x", end(arguments)),
        ("allow read if arg0:32 & 0 == 0 # x", format!("line 4: `arg0:32 & 0 == 0` {certain}")),
        ("allow read if arg0:64 & 0xf0 != 0x1 and arg1:32 == 1 # x", format!("line 4: `arg0:64 & 0xf0 != 0x1` {certain}")),
        ("allow read read # x", "line 4: `read` is already decided by line 4".to_owned()),
        ("allow read # x\n\nerrno EPERM write read # x", "line 6: `read` is already decided by line 4".to_owned()),
        ("allow read # x\nkill read if arg0:32 == 1 # x", "line 5: `read` is already decided by line 4".to_owned()),
        (
            "allow read if arg0:32 == 1 # x\nkill read if arg1:32 == 1 and arg0:32 == 1 # x",
            "line 5: `read` is already decided by line 4".to_owned(),
        ),
    ];
    for (rules, message) in table {
        assert_eq!(format!("{HEADER}{rules}").parse::<Policy>().unwrap_err().to_string(), message, "{rules:?}");
    }
}

#[test]
fn the_shipped_policy_decides_every_known_call_for_good() {
    for policy in [Policy::lambda(), Policy::build()] {
        assert_eq!(policy.architectures(), Architecture::ALL);
        for call in crate::numbers::all() {
            let certain = policy.rules().iter().any(|rule| rule.tests().is_empty() && rule.system_calls().contains(&call));
            assert!(certain, "`{}`: nothing says what becomes of it in the end", call.name());
        }
    }
}

#[test]
fn every_shipped_rule_has_a_reason_and_an_effect_on_each_of_its_calls() {
    for policy in Policy::shipped() {
        for (place, rule) in policy.rules().iter().enumerate() {
            assert!(rule.reason().contains(char::is_alphabetic), "line {}", rule.line());
            for call in rule.system_calls() {
                assert!(has_effect(&policy, place, *call), "line {}: `{}` could go", rule.line(), call.name());
            }
        }
    }
}

/// Whether some verdict changes when the rule at this place no longer names the call.
fn has_effect(policy: &Policy, place: usize, call: SystemCall) -> bool {
    let mut without = policy.clone();
    without.rules[place].system_calls.retain(|other| *other != call);
    // What a rule says in the words of the default must hold under any other default, too.
    let mut with = policy.clone();
    if policy.rules[place].action() == policy.default {
        (with.default, without.default) = (Action::Kill, Action::Kill);
    }
    let differs = |architecture: Architecture, number, arguments| {
        let call = Call { audit_architecture: architecture.audit_value(), number, arguments };
        verdict(&with, architecture, &call) != verdict(&without, architecture, &call)
    };
    Architecture::ALL.into_iter().any(|architecture| {
        call.number(architecture).is_some_and(|number| {
            telling_arguments(policy, architecture, number).into_iter().any(|arguments| differs(architecture, number, arguments))
        })
    })
}

/// The test above finds a rule that could go: here the second says what the third says anyway.
#[test]
fn a_rule_without_effect_is_found() {
    let policy: Policy = format!("{HEADER}allow read # -\nerrno EPERM ioctl if arg1:32 == 1 # -\nerrno EPERM ioctl # -").parse().unwrap();
    let effects: Vec<bool> =
        policy.rules().iter().enumerate().map(|(place, rule)| has_effect(&policy, place, rule.system_calls()[0])).collect();
    assert_eq!(effects, [true, false, true]);
}

/// What the network's supervisor counts on.
#[test]
fn the_shipped_network_policy_by_hand() {
    use Action::{Allow, Errno as Fails, Notify};
    const FAST_OPEN: u64 = 0x2000_0000;
    const HIGH: u64 = 0xdead_beef_0000_0000;
    let (unsupported, unavailable) = (Fails(Errno::EOPNOTSUPP), Fails(Errno::ENOPROTOOPT));
    let table: &[(&str, [u64; 4], Action)] = &[
        ("connect", [3, 4, 16, 0], Notify),
        ("bind", [3, 4, 16, 0], Notify),
        ("listen", [3, 128, 0, 0], Notify),
        ("sendto", [3, 4, 5, 0x4040], Allow),
        ("sendto", [3, 4, 5, FAST_OPEN | 0x4000], unsupported),
        ("sendto", [3, 4, 5, HIGH | FAST_OPEN], unsupported),
        ("sendmsg", [3, 4, FAST_OPEN, 0], unsupported),
        ("sendmsg", [3, 4, 0, FAST_OPEN], Allow),
        ("sendmmsg", [3, 4, 5, FAST_OPEN], unsupported),
        ("setsockopt", [3, 6, 30, 4], unavailable),
        ("setsockopt", [3, HIGH | 6, HIGH | 23, 4], unavailable),
        ("setsockopt", [3, 6, 1, 4], Allow),
        ("setsockopt", [3, 1, 30, 4], Allow),
        ("io_uring_setup", [1, 0, 0, 0], Fails(Errno::EPERM)),
        ("accept4", [3, 0, 0, 0], Allow),
        ("mount", [0; 4], Allow),
    ];
    let policy = Policy::network();
    assert!(policy.notifies() && !Policy::lambda().notifies());
    for (name, [first, second, third, fourth], wanted) in table.iter().copied() {
        for architecture in Architecture::ALL {
            let number = SystemCall::named(name).unwrap().number(architecture).unwrap();
            let call = Call { audit_architecture: architecture.audit_value(), number, arguments: [first, second, third, fourth, 0, 0] };
            assert_eq!(verdict(&policy, architecture, &call), wanted, "{name} {call:x?}");
        }
    }
}

/// What the sandbox counts on (each with the attack it stops, where it has a name), and what runtimes count on.
#[test]
fn the_shipped_policy_by_hand() {
    use Action::{Allow, Errno as Fails};
    const HIGH: u64 = 0xdead_beef_0000_0000;
    let (perm, nosys) = (Fails(Errno::EPERM), Fails(Errno::ENOSYS));
    let (family, protocol) = (Fails(Errno::EAFNOSUPPORT), Fails(Errno::EPROTONOSUPPORT));
    let with_arguments: &[(&str, [u64; 3], Action)] = &[
        ("clone", [0x11, 0, 0], Allow),       // fork: SIGCHLD
        ("clone", [0x3d_0f00, 0, 0], Allow),  // pthread_create
        ("clone", [0x4111, 0, 0], Allow),     // posix_spawn: VM, VFORK, SIGCHLD
        ("clone", [0x1000_0011, 0, 0], perm), // NEWUSER
        ("clone", [0x0002_0011, 0, 0], perm), // NEWNS
        ("clone", [0x0200_0011, 0, 0], perm), // NEWCGROUP
        ("clone", [0x0400_0011, 0, 0], perm), // NEWUTS
        ("clone", [0x0800_0011, 0, 0], perm), // NEWIPC
        ("clone", [0x2000_0011, 0, 0], perm), // NEWPID
        ("clone", [0x4000_0011, 0, 0], perm), // NEWNET
        ("clone", [HIGH | 0x1000_0011, 0, 0], perm),
        ("ioctl", [0, 0x5401, 0], Allow),       // TCGETS
        ("ioctl", [0, 0x5412, 0], perm),        // TIOCSTI, CVE-2017-5226
        ("ioctl", [0, HIGH | 0x5412, 0], perm), // CVE-2019-10063
        ("ioctl", [0, 0x541c, 0], perm),        // TIOCLINUX
        ("ioctl", [0, HIGH | 0x541c, 0], perm),
        ("socket", [1, 1, 0], Allow),
        ("socket", [2, 2, 0], Allow),
        ("socket", [10, 1, 6], Allow),
        ("socket", [16, 3, 0], Allow),     // NETLINK_ROUTE
        ("socket", [16, 3, 12], protocol), // NETLINK_NETFILTER
        ("socket", [16, 3, 9], protocol),  // NETLINK_AUDIT: PAM takes this as "no audit"
        ("socket", [17, 3, 0], perm),      // AF_PACKET
        ("socket", [38, 5, 0], family),    // AF_ALG, CVE-2026-31431
        ("socket", [HIGH | 38, 5, 0], family),
        ("socket", [40, 1, 0], family), // AF_VSOCK
        ("socket", [0, 1, 0], family),
        ("socketpair", [1, 1, 0], Allow),
        ("socketpair", [40, 1, 0], family),
        ("personality", [0, 0, 0], Allow),
        ("personality", [8, 0, 0], Allow),
        ("personality", [0x2_0000, 0, 0], Allow),
        ("personality", [0x2_0008, 0, 0], Allow),
        ("personality", [0xffff_ffff, 0, 0], Allow),
        ("personality", [0x4_0000, 0, 0], perm),  // ADDR_NO_RANDOMIZE
        ("personality", [0x40_0000, 0, 0], perm), // READ_IMPLIES_EXEC
    ];
    let whole = [
        (
            perm,
            "unshare setns mount umount2 pivot_root chroot open_tree open_tree_attr move_mount mount_setattr fsopen fsconfig fsmount fspick \
             bpf perf_event_open io_uring_setup io_uring_enter io_uring_register userfaultfd add_key keyctl request_key kexec_load \
             kexec_file_load init_module finit_module delete_module open_by_handle_at pidfd_getfd process_madvise kcmp lookup_dcookie \
             move_pages migrate_pages quotactl quotactl_fd reboot swapon swapoff settimeofday clock_settime vhangup sethostname \
             setdomainname acct syslog iopl ioperm fanotify_init",
        ),
        (nosys, "clone3 openat2 get_mempolicy set_mempolicy mbind _sysctl"),
        (
            Allow,
            "rseq membarrier sched_setaffinity pkey_mprotect memfd_create statx faccessat2 close_range openat open chmod mknod copy_file_range io_setup \
             inotify_init1 timerfd_create signalfd4 eventfd2 epoll_pwait2 preadv2 getrandom prlimit64 capget capset landlock_restrict_self \
             seccomp prctl execve execveat ptrace process_vm_readv futex_waitv mseal cachestat fchmodat2 map_shadow_stack exit_group \
             rt_sigreturn restart_syscall",
        ),
    ];
    let whole = whole.iter().flat_map(|(action, names)| names.split(' ').map(move |name| (name, [0; 3], *action)));
    let policy = Policy::lambda();
    for (name, [first, second, third], wanted) in with_arguments.iter().copied().chain(whole) {
        for architecture in Architecture::ALL {
            let Some(number) = SystemCall::named(name).unwrap().number(architecture) else {
                continue;
            };
            let call = Call { audit_architecture: architecture.audit_value(), number, arguments: [first, second, third, 0, 0, 0] };
            assert_eq!(verdict(&policy, architecture, &call), wanted, "{name} {call:x?}");
        }
    }
}

/// A set-id file made in a writable volume would work on the host, as the volume's owner.
#[test]
fn set_id_bits_cannot_be_set() {
    use Action::{Allow, Errno as Fails};
    const CREATE: u64 = 0o101;
    const TEMPORARY: u64 = 0o20_200_001;
    let perm = Fails(Errno::EPERM);
    let cases: &[(&str, [u64; 4], Action)] = &[
        ("chmod", [0, 0o755, 0, 0], Allow),
        ("chmod", [0, 0o1777, 0, 0], Allow),
        ("chmod", [0, 0o4755, 0, 0], perm),
        ("fchmod", [0, 0o2755, 0, 0], perm),
        ("fchmod", [0, 0xdead_0000_0000 | 0o4755, 0, 0], perm),
        ("fchmodat", [0, 0, 0o6755, 0], perm),
        ("fchmodat2", [0, 0, 0o4000, 0], perm),
        ("creat", [0, 0o4755, 0, 0], perm),
        ("mknod", [0, 0o104_755, 0, 0], perm),
        ("mknodat", [0, 0, 0o102_755, 0], perm),
        ("mknodat", [0, 0, 0o10_644, 0], Allow),
        ("open", [0, CREATE, 0o644, 0], Allow),
        ("open", [0, CREATE, 0o4755, 0], perm),
        // Without O_CREAT the register holds anything.
        ("open", [0, 0, 0o7777, 0], Allow),
        ("openat", [0, 0, CREATE, 0o644], Allow),
        ("openat", [0, 0, CREATE, 0o2755], perm),
        ("openat", [0, 0, TEMPORARY, 0o4755], perm),
        ("openat", [0, 0, 0, 0o4755], Allow),
    ];
    let policy = Policy::lambda();
    for (name, [first, second, third, fourth], wanted) in cases.iter().copied() {
        for architecture in Architecture::ALL {
            let Some(number) = SystemCall::named(name).unwrap().number(architecture) else {
                continue;
            };
            let call = Call { audit_architecture: architecture.audit_value(), number, arguments: [first, second, third, fourth, 0, 0] };
            assert_eq!(verdict(&policy, architecture, &call), wanted, "{name} {call:x?}");
        }
    }
}
