use std::collections::BTreeMap;
use std::fmt::Write;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch};

use super::interpreter::{check, run};
use super::*;
use crate::numbers::SystemCall;
use crate::oracle::{Call, telling_arguments, verdict};

/// What the kernel makes of a filter's return value.
fn returned(value: u32) -> Action {
    match value {
        0x7fff_0000 => Action::Allow,
        0x0005_0000 => Action::Succeed,
        0x7fc0_0000 => Action::Notify,
        0x8000_0000 => Action::Kill,
        _ => {
            let errno = Errno::NAMED.into_iter().map(|(_, errno)| errno).find(|errno| value == 0x0005_0000 + u32::from(errno.number()));
            Action::Errno(errno.unwrap_or_else(|| panic!("unknown return value {value:#x}")))
        }
    }
}

fn call(architecture: Architecture, number: u32, arguments: [u64; 6]) -> Call {
    Call { audit_architecture: architecture.audit_value(), number, arguments }
}

/// Every number that some kernel gives to a call, what lies beyond, and the x32 ABI's.
fn numbers() -> impl Iterator<Item = u32> {
    let high = [0x3fff_ffff, 0x7fff_ffff, 0x8000_0000, 0xbfff_ffff, 0xc000_0000, u32::MAX - 1, u32::MAX];
    (0..600).chain((0..600).map(|number| number | X32)).chain(high).chain((10..32).map(|bit| 1 << bit))
}

/// Is the filter the policy? Each number is tried with the arguments that tell its rules apart, and these.
fn assert_same(policy: &Policy, architecture: Architecture, filter: &Filter, arguments: &[[u64; 6]]) {
    check(filter.instructions()).unwrap();
    for number in numbers() {
        for arguments in telling_arguments(policy, architecture, number).iter().chain(arguments) {
            let call = call(architecture, number, *arguments);
            let (found, wanted) = (returned(run(filter.instructions(), &call)), verdict(policy, architecture, &call));
            assert_eq!(found, wanted, "{call:x?}");
        }
    }
}

#[test]
fn t23_the_shipped_filters_are_the_shipped_policies() {
    for policy in Policy::shipped() {
        for architecture in Architecture::ALL {
            let filter = Filter::compile(&policy, architecture).unwrap();
            assert_same(&policy, architecture, &filter, &[[u64::MAX; 6], [0x5412; 6], [38; 6], [6; 6], [0x2000_0000; 6]]);
        }
    }
}

/// The test above would see it: whichever instruction of a shipped filter is another one, so is some verdict.
#[test]
fn t23_every_instruction_of_the_shipped_filters_matters() {
    for (policy, architecture) in Policy::shipped().iter().flat_map(|policy| Architecture::ALL.map(|each| (policy, each))) {
        let filter = Filter::compile(policy, architecture).unwrap();
        let mut calls = vec![Call { audit_architecture: 0, number: 0, arguments: [0; 6] }];
        for number in numbers() {
            // A neighbour's as well: a range that begins too early or too late takes a call for one.
            let near = [number, number ^ 1, number.wrapping_add(1), number.wrapping_sub(1)];
            let telling = near.into_iter().flat_map(|near| telling_arguments(policy, architecture, near));
            calls.extend(telling.map(|arguments| call(architecture, number, arguments)));
        }
        let wanted: Vec<u32> = calls.iter().map(|call| run(filter.instructions(), call)).collect();
        for place in 0..filter.instructions().len() {
            let mut changed = filter.instructions().to_vec();
            changed[place].k ^= match changed[place].code {
                LOAD => 4,
                AND => changed[place].k & changed[place].k.wrapping_neg(),
                _ => 1,
            };
            let seen = calls.iter().zip(&wanted).any(|(call, wanted)| run(&changed, call) != *wanted);
            assert!(seen, "{architecture:?}: {place}: {:?}", filter.instructions()[place]);
        }
    }
}

#[test]
fn another_architectures_calls_kill() {
    let both = [Policy::lambda(), Policy::network()];
    for (policy, architecture) in both.iter().flat_map(|policy| Architecture::ALL.map(|architecture| (policy, architecture))) {
        let filter = Filter::compile(policy, architecture).unwrap();
        // i386 (int 0x80), arm, the two of ours, and nonsense.
        for audit_architecture in [0x4000_0003, 0x4000_0028, 0xc000_003e, 0xc000_00b7, 0, u32::MAX] {
            for number in numbers() {
                let call = Call { audit_architecture, number, arguments: [0; 6] };
                let killed = returned(run(filter.instructions(), &call)) == Action::Kill;
                assert_eq!(killed, audit_architecture != architecture.audit_value(), "{call:x?}");
            }
        }
    }
}

/// What the kernel goes through when a filter is installed, 38 us for these; a linear list would be 300 deep.
#[test]
fn the_shipped_filter_is_flat_and_short() {
    for architecture in Architecture::ALL {
        let filter = Filter::compile(&Policy::lambda(), architecture).unwrap();
        // Three instructions for architecture and number, seven comparisons, one return.
        assert!(filter.depth() <= 11, "{architecture:?}: {}", filter.depth());
        // A third of them are the tests of modes, beside the search.
        assert!(filter.instructions().len() <= 170, "{architecture:?}: {}", filter.instructions().len());
        let network = Filter::compile(&Policy::network(), architecture).unwrap();
        assert!(network.depth() <= 9, "{architecture:?}: {}", network.depth());
        assert!(network.instructions().len() <= 70, "{architecture:?}: {}", network.instructions().len());
    }
}

/// A policy that gives every known call an errno of its own kind, turn by turn, with these tests.
fn motley(tests: &str) -> Policy {
    let mut text = "seccomp-policy 1\narchitectures x86_64 aarch64\ndefault errno ENOSYS # -\n".to_owned();
    let mut calls: Vec<SystemCall> = crate::numbers::all().collect();
    calls.sort_by_key(|call| call.number(Architecture::X86_64));
    for (index, call) in calls.iter().enumerate() {
        let (errno, _) = Errno::NAMED[index % 4];
        writeln!(text, "errno {errno} {} {tests} # -", call.name()).unwrap();
    }
    text.parse().unwrap()
}

#[test]
fn far_jumps_take_trampolines() {
    for (tests, most_jumps, most_depth) in [("", 0, 14), ("if arg0:32 == 7 and arg3:64 & 0xff00000001 != 1", 16, 18)] {
        let policy = motley(tests);
        for architecture in Architecture::ALL {
            let filter = Filter::compile(&policy, architecture).unwrap();
            let jumps = filter.instructions().iter().filter(|instruction| instruction.code == JUMP).count();
            assert_eq!(jumps > 0, most_jumps > 0, "{architecture:?}: {jumps} jumps");
            assert!(jumps <= most_jumps && filter.depth() <= most_depth, "{architecture:?}: {jumps} jumps, depth {}", filter.depth());
            assert_same(&policy, architecture, &filter, &[]);
        }
    }
}

#[test]
fn refusals() {
    let long = motley("if arg0:64 == 7 and arg1:64 == 1 and arg2:64 != 2");
    let error = Filter::compile(&long, Architecture::X86_64).unwrap_err();
    assert!(matches!(error, CompileError::TooLong { instructions } if instructions > MOST_INSTRUCTIONS), "{error}");

    let elsewhere: Policy = "seccomp-policy 1\narchitectures aarch64\ndefault kill # -".parse().unwrap();
    assert!(Filter::compile(&elsewhere, Architecture::Aarch64).is_ok());
    let error = Filter::compile(&elsewhere, Architecture::X86_64).unwrap_err();
    assert_eq!(error.to_string(), "the policy is not for x86_64");
}

#[test]
fn depth_is_the_longest_path_to_a_verdict_or_an_argument() {
    let table = [
        ("", 4), // load, compare, load, return
        ("allow io_setup # -", 5),
        ("allow io_destroy # -", 5),
        ("allow io_setup if arg0:32 == 1 # -", 5),
    ];
    for (rules, depth) in table {
        let policy: Policy = format!("seccomp-policy 1\narchitectures aarch64\ndefault errno ENOSYS # -\n{rules}").parse().unwrap();
        assert_eq!(Filter::compile(&policy, Architecture::Aarch64).unwrap().depth(), depth, "{rules}");
    }
}

/// The part of a policy that `seccompiler` can say as well: calls allowed if any of some conjunctions holds.
type Allowed = BTreeMap<SystemCall, Vec<Vec<ArgumentTest>>>;

fn ours(allowed: &Allowed) -> Result<Policy, crate::policy::ParsePolicyError> {
    let mut text = "seccomp-policy 1\narchitectures x86_64 aarch64\ndefault errno ENOSYS # -\n".to_owned();
    for (call, cases) in allowed {
        for tests in cases {
            writeln!(text, "allow {}{} # -", call.name(), written(tests)).unwrap();
        }
    }
    text.parse()
}

fn theirs(allowed: &Allowed, architecture: Architecture) -> Vec<Instruction> {
    let condition = |test: &ArgumentTest| {
        let length = if test.mask >> 32 == 0 { SeccompCmpArgLen::Dword } else { SeccompCmpArgLen::Qword };
        let operator = match test.comparison {
            Comparison::Equal => SeccompCmpOp::MaskedEq(test.mask),
            Comparison::NotEqual => SeccompCmpOp::Ne,
        };
        SeccompCondition::new(test.argument, length, operator, test.value).unwrap()
    };
    let mut rules = BTreeMap::new();
    for (call, cases) in allowed {
        let case = |tests: &Vec<ArgumentTest>| SeccompRule::new(tests.iter().map(condition).collect()).unwrap();
        if let Some(number) = call.number(architecture) {
            let cases = if cases == &[vec![]] { vec![] } else { cases.iter().map(case).collect() };
            rules.insert(i64::from(number), cases);
        }
    }
    let target = match architecture {
        Architecture::X86_64 => TargetArch::x86_64,
        Architecture::Aarch64 => TargetArch::aarch64,
    };
    let filter = SeccompFilter::new(rules, SeccompAction::Errno(38), SeccompAction::Allow, target).unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    program.iter().map(|word| Instruction { code: word.code, jt: word.jt, jf: word.jf, k: word.k }).collect()
}

/// Tests as a policy writes them, `if` included.
fn written(tests: &[ArgumentTest]) -> String {
    let mut text = String::new();
    for (index, ArgumentTest { argument, mask, comparison, value }) in tests.iter().enumerate() {
        let joint = if index == 0 { "if" } else { "and" };
        let bits = if mask >> 32 == 0 { 32 } else { 64 };
        let operator = if *comparison == Comparison::Equal { "==" } else { "!=" };
        write!(text, " {joint} arg{argument}:{bits} & {mask:#x} {operator} {value}").unwrap();
    }
    text
}

/// Few distinct values, so that tests meet equal, nearly equal and different arguments.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![select(vec![0, 1, 2, 0x5412, u64::from(u32::MAX), 1 << 32, 1 << 63, u64::MAX, 0x5412 | 1 << 32, 0x7e02_0000]), any::<u64>()]
}

/// `seccompiler` has masks for equality only.
fn test(masked_inequality: bool) -> impl Strategy<Value = ArgumentTest> {
    let whole = select(vec![u64::from(u32::MAX), u64::MAX]);
    let comparison = select(vec![Comparison::Equal, Comparison::NotEqual]);
    (0..6u8, whole, value(), comparison, value()).prop_map(move |(argument, whole, bits, comparison, value)| {
        let masked = (comparison == Comparison::Equal || masked_inequality) && whole & bits != 0;
        let mask = if masked { whole & bits } else { whole };
        ArgumentTest { argument, mask, comparison, value: value & mask }
    })
}

fn calls(most: usize) -> impl Strategy<Value = Vec<SystemCall>> {
    subsequence(crate::numbers::all().collect::<Vec<_>>(), 0..=most)
}

fn allowed() -> impl Strategy<Value = Allowed> {
    let cases = prop_oneof![Just(vec![vec![]]), vec(vec(test(false), 1..3), 1..3)];
    calls(60).prop_flat_map(move |calls| {
        let count = calls.len();
        vec(cases.clone(), count).prop_map(move |cases| calls.iter().copied().zip(cases).collect())
    })
}

fn action() -> impl Strategy<Value = String> {
    let errno = select(Errno::NAMED.to_vec()).prop_map(|(name, _)| format!("errno {name}"));
    prop_oneof![3 => Just("allow".to_owned()), 1 => Just("kill".to_owned()), 1 => Just("notify".to_owned()), 1 => Just("succeed".to_owned()), 3 => errno]
}

/// The text of a random policy: some rules with tests first, then some without.
fn policy_text() -> impl Strategy<Value = String> {
    let certain = calls(383).prop_flat_map(|calls| {
        let count = calls.len();
        vec(action(), count).prop_map(move |actions| calls.iter().copied().zip(actions).collect::<Vec<_>>())
    });
    let tested = vec((action(), calls(6), vec(test(true), 1..3)), 0..12);
    (action(), tested, certain).prop_map(|(default, tested, certain)| {
        let mut text = format!("seccomp-policy 1\narchitectures x86_64 aarch64\ndefault {default} # -\n");
        for (action, calls, tests) in tested.iter().filter(|(_, calls, _)| !calls.is_empty()) {
            let names: Vec<_> = calls.iter().map(|call| call.name()).collect();
            writeln!(text, "{action} {}{} # -", names.join(" "), written(tests)).unwrap();
        }
        for (call, action) in certain {
            writeln!(text, "{action} {} # -", call.name()).unwrap();
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_shipped_filter_on_any_call(number in any::<u32>(), low in 0..600u32, arguments in prop::array::uniform6(value())) {
        let policy = Policy::lambda();
        for architecture in Architecture::ALL {
            let filter = Filter::compile(&policy, architecture).unwrap();
            for number in [number, low] {
                let call = call(architecture, number, arguments);
                prop_assert_eq!(returned(run(filter.instructions(), &call)), verdict(&policy, architecture, &call));
            }
        }
    }

    #[test]
    fn any_filter_is_its_policy(text in policy_text(), arguments in vec(prop::array::uniform6(value()), 2)) {
        let policy = text.parse::<Policy>();
        prop_assume!(policy.is_ok(), "two rules of one meaning, which the parser refuses");
        let policy = policy.unwrap();
        for architecture in Architecture::ALL {
            let filter = Filter::compile(&policy, architecture).unwrap();
            assert_same(&policy, architecture, &filter, &arguments);
        }
    }

    #[test]
    fn seccompiler_agrees(allowed in allowed(), arguments in vec(prop::array::uniform6(value()), 4)) {
        let policy = ours(&allowed);
        prop_assume!(policy.is_ok(), "two rules of one meaning, which the parser refuses");
        let policy = policy.unwrap();
        for architecture in Architecture::ALL {
            let (ours, theirs) = (Filter::compile(&policy, architecture).unwrap(), theirs(&allowed, architecture));
            for number in 0..600 {
                for arguments in telling_arguments(&policy, architecture, number).iter().chain(&arguments) {
                    let call = call(architecture, number, *arguments);
                    prop_assert_eq!(run(ours.instructions(), &call), run(&theirs, &call), "{:x?}", call);
                }
            }
        }
    }
}

/// A filter holds for a thread, so this one can be tried on a thread of the test. What the whole sandbox refuses is tested elsewhere.
#[test]
fn the_kernel_takes_the_shipped_filter_and_obeys_it() {
    use nix::errno::Errno;
    use nix::sched::{CloneFlags, unshare};
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

    let filter = Filter::compile(&Policy::lambda(), Architecture::HOST).unwrap();
    let word = |word: &Instruction| seccompiler::sock_filter { code: word.code, jt: word.jt, jf: word.jf, k: word.k };
    let words: Vec<_> = filter.instructions().iter().map(word).collect();
    let confined = std::thread::spawn(move || {
        if let Err(error) = seccompiler::apply_filter(&words) {
            eprintln!("skipped: this kernel takes no filter from us: {error}");
            return;
        }
        assert_eq!(unshare(CloneFlags::CLONE_NEWUSER), Err(Errno::EPERM));
        let table = [
            (AddressFamily::Unix, None, None),
            (AddressFamily::Netlink, Some(SockProtocol::NetlinkRoute), None),
            (AddressFamily::Netlink, Some(SockProtocol::NetlinkCrypto), Some(Errno::EPROTONOSUPPORT)),
            (AddressFamily::Packet, None, Some(Errno::EPERM)),
            (AddressFamily::Alg, None, Some(Errno::EAFNOSUPPORT)),
            (AddressFamily::Vsock, None, Some(Errno::EAFNOSUPPORT)),
        ];
        for (family, protocol, refusal) in table {
            assert_eq!(socket(family, SockType::Datagram, SockFlag::empty(), protocol).err(), refusal, "{family:?} {protocol:?}");
        }
        let ran = std::process::Command::new("/bin/sh").args(["-c", "exec true"]).status();
        assert!(ran.is_ok_and(|status| status.success()), "a shell runs, and so does what it starts");
        assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7, "threads start");
    });
    confined.join().unwrap();
}
