//! System calls that a function has no business with, tried one by one from inside.

use serde_json::Value;
use tests::Fixture;

/// A call, its arguments as the probe takes them, and what it may fail with; it may never succeed.
struct Attempt(&'static str, libc::c_long, &'static str, &'static [&'static str]);

const REFUSED: &[&str] = &["EPERM", "ENOSYS"];

fn run(fixture: &Fixture, attempts: &[Attempt]) -> Value {
    let lines: String =
        attempts.iter().map(|Attempt(name, number, arguments, _)| format!("syscall {name} {number} {arguments}\n")).collect();
    fixture.invoke(&format!("{lines}next\nrespond-notes\nnext")).expect_code(0).json()
}

#[track_caller]
fn expect_refused(fixture: &Fixture, attempts: &[Attempt]) {
    let notes = run(fixture, attempts);
    let wrong: Vec<String> = attempts
        .iter()
        .filter(|Attempt(name, _, _, errors)| !errors.iter().any(|error| notes[*name] == *error))
        .map(|Attempt(name, _, _, errors)| format!("{name}: {} (expected one of {errors:?})", notes[*name]))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// T7: more namespaces, mounts, other roots.
#[test]
fn t7_namespaces_and_mounts_are_refused() {
    let Some(fixture) = Fixture::new() else { return };
    let attempts = [
        Attempt("unshare-user", libc::SYS_unshare, "0x10000000", REFUSED),
        Attempt("unshare-mount", libc::SYS_unshare, "0x20000", REFUSED),
        Attempt("unshare-net", libc::SYS_unshare, "0x40000000", REFUSED),
        Attempt("clone3", libc::SYS_clone3, "b:88 88", &["ENOSYS"]),
        Attempt("mount", libc::SYS_mount, "s:none s:/tmp s:tmpfs 0 0", REFUSED),
        Attempt("umount", libc::SYS_umount2, "s:/tmp 2", REFUSED),
        Attempt("pivot_root", libc::SYS_pivot_root, "s:/tmp s:/tmp", REFUSED),
        Attempt("chroot", libc::SYS_chroot, "s:/tmp", REFUSED),
        Attempt("open_tree", libc::SYS_open_tree, "-100 s:/ 1", REFUSED),
        Attempt("move_mount", libc::SYS_move_mount, "-100 s:/tmp -100 s:/opt 0", REFUSED),
        Attempt("fsopen", libc::SYS_fsopen, "s:tmpfs 0", REFUSED),
        Attempt("mount_setattr", libc::SYS_mount_setattr, "-100 s:/ 0 b:32 32", REFUSED),
        Attempt("setns", libc::SYS_setns, "0 0", REFUSED),
    ];
    expect_refused(&fixture, &attempts);
}

/// T7: `clone` with a namespace flag, one at a time; the plain form works.
#[test]
fn t7_clone_may_fork_and_nothing_more() {
    let Some(fixture) = Fixture::new() else { return };
    let flags = [
        ("user", 0x1000_0000_u64),
        ("mount", 0x2_0000),
        ("pid", 0x2000_0000),
        ("net", 0x4000_0000),
        ("ipc", 0x800_0000),
        ("uts", 0x400_0000),
        ("cgroup", 0x200_0000),
    ];
    let lines: String = flags.iter().map(|(name, flag)| format!("clone {name} {flag:#x}\n")).collect();
    let notes = fixture.invoke(&format!("clone plain 0\n{lines}next\nrespond-notes\nnext")).expect_code(0).json();
    assert_eq!(notes["plain"], "ok");
    for (name, _) in flags {
        assert!(notes[name] == "EPERM" || notes[name] == "ENOSYS", "{name}: {}", notes[name]);
    }
}

/// T8: parts of the kernel that have had more than their share of holes.
#[test]
fn t8_the_kernels_softer_parts_are_refused() {
    let Some(fixture) = Fixture::new() else { return };
    let attempts = [
        Attempt("bpf", libc::SYS_bpf, "0 b:128 128", REFUSED),
        Attempt("perf_event_open", libc::SYS_perf_event_open, "b:128 0 -1 -1 0", REFUSED),
        Attempt("io_uring_setup", libc::SYS_io_uring_setup, "4 b:120", REFUSED),
        Attempt("userfaultfd", libc::SYS_userfaultfd, "1", REFUSED),
        Attempt("keyctl", libc::SYS_keyctl, "0 -3 0", REFUSED),
        Attempt("add_key", libc::SYS_add_key, "s:user s:name s:x 1 -3", REFUSED),
        Attempt("request_key", libc::SYS_request_key, "s:user s:name 0 -3", REFUSED),
        Attempt("kexec_load", libc::SYS_kexec_load, "0 0 0 0", REFUSED),
        Attempt("init_module", libc::SYS_init_module, "b:8 8 s:", REFUSED),
        Attempt("finit_module", libc::SYS_finit_module, "0 s: 0", REFUSED),
        Attempt("delete_module", libc::SYS_delete_module, "s:none 0", REFUSED),
        Attempt("open_by_handle_at", libc::SYS_open_by_handle_at, "-100 b:136 0", REFUSED),
        Attempt("name_to_handle_at", libc::SYS_name_to_handle_at, "-100 s:/ b:8 b:8 0x1000", &["EPERM", "ENOSYS", "errno 75"]),
        Attempt("reboot", libc::SYS_reboot, "0xfee1dead 672274793 0 0", REFUSED),
        Attempt("swapon", libc::SYS_swapon, "s:/tmp/x 0", REFUSED),
        Attempt("acct", libc::SYS_acct, "0", REFUSED),
        Attempt("settimeofday", libc::SYS_settimeofday, "b:16 0", REFUSED),
        Attempt("clock_settime", libc::SYS_clock_settime, "0 b:16", REFUSED),
        Attempt("sethostname", libc::SYS_sethostname, "s:x 1", REFUSED),
        Attempt("syslog", libc::SYS_syslog, "3 b:64 64", REFUSED),
        Attempt("quotactl", libc::SYS_quotactl, "0 0 0 0", REFUSED),
        Attempt("fanotify_init", libc::SYS_fanotify_init, "0 0", REFUSED),
        Attempt("pidfd_getfd", libc::SYS_pidfd_getfd, "0 0 0", REFUSED),
    ];
    expect_refused(&fixture, &attempts);
}

/// T8: socket families. AF_ALG is 38 (CVE-2026-31431), AF_VSOCK 40, AF_PACKET 17.
#[test]
fn t8_cve_2026_31431_socket_families() {
    let Some(fixture) = Fixture::new() else { return };
    let families: &[&str] = &["EPERM", "EAFNOSUPPORT", "EACCES"];
    let attempts = [
        Attempt("alg", libc::SYS_socket, "38 5 0", families),
        Attempt("vsock", libc::SYS_socket, "40 1 0", families),
        Attempt("packet", libc::SYS_socket, "17 3 0", families),
        // With the upper half of the register set the kernel sees the same family.
        Attempt("alg-high", libc::SYS_socket, "0x100000026 5 0", families),
        Attempt("raw", libc::SYS_socket, "2 3 1", families),
    ];
    expect_refused(&fixture, &attempts);
    let (inet, inet6, unix) = (
        Attempt("inet", libc::SYS_socket, "2 1 0", &[]),
        Attempt("inet6", libc::SYS_socket, "10 1 0", &[]),
        Attempt("unix", libc::SYS_socket, "1 1 0", &[]),
    );
    let notes = run(&fixture, &[inet, inet6, unix]);
    assert_eq!((&notes["inet"], &notes["unix"]), (&Value::from("ok"), &Value::from("ok")));
    assert!(notes["inet6"] == "ok" || notes["inet6"] == "EAFNOSUPPORT");
}

/// T8: other ways to call the kernel, which a filter that looks at numbers alone would let pass.
#[cfg(target_arch = "x86_64")]
#[test]
fn t8_calls_by_the_x32_and_32_bit_gates_are_refused() {
    let Some(fixture) = Fixture::new() else { return };
    // Each in a process of its own: the filter may kill.
    let getpid = libc::SYS_getpid | 0x4000_0000;
    let script = format!("capture x32 syscall r {getpid} ; print-notes\ncapture int80 int80 r 20 ; print-notes\nnext\nrespond-notes\nnext");
    let notes = fixture.invoke(&script).expect_code(0).json();
    for gate in ["x32", "int80"] {
        let killed = notes[gate]["signal"] == 31;
        let refused = notes[gate]["stdout"].as_str().is_some_and(|text| text.contains("ENOSYS") || text.contains("EPERM"));
        assert!(killed || refused, "{gate}: {}", notes[gate]);
    }
}

/// Numbers no kernel has yet: a libc that probes for them must hear ENOSYS and fall back.
#[test]
fn unknown_calls_are_enosys() {
    let Some(fixture) = Fixture::new() else { return };
    let unknown: &[&str] = &["ENOSYS"];
    expect_refused(&fixture, &[Attempt("next", 800, "0", unknown), Attempt("far", 0xffff, "0", unknown)]);
}

/// What ordinary programs do goes on working.
#[test]
fn ordinary_calls_work() {
    let Some(fixture) = Fixture::new() else { return };
    let fine = [
        Attempt("getrandom", libc::SYS_getrandom, "b:16 16 0", &[]),
        Attempt("memfd_create", libc::SYS_memfd_create, "s:x 0", &[]),
        Attempt("epoll_create1", libc::SYS_epoll_create1, "0", &[]),
        Attempt("eventfd2", libc::SYS_eventfd2, "0 0", &[]),
        Attempt("inotify_init1", libc::SYS_inotify_init1, "0", &[]),
        Attempt("personality", libc::SYS_personality, "0xffffffff", &[]),
        Attempt("prctl", libc::SYS_prctl, "15 s:name", &[]),
        Attempt("setpriority", libc::SYS_setpriority, "0 0 5", &[]),
        Attempt("umask", libc::SYS_umask, "18", &[]),
        Attempt("sched_yield", libc::SYS_sched_yield, "", &[]),
    ];
    let notes = run(&fixture, &fine);
    for Attempt(name, ..) in &fine {
        assert_eq!(notes[*name], "ok", "{name}");
    }
}

/// Limits as on Lambda: 1024 descriptors.
#[test]
fn the_limit_of_open_files_is_lambdas() {
    let Some(fixture) = Fixture::new() else { return };
    // Descriptors are numbers below the limit.
    let (fcntl, duplicate) = (libc::SYS_fcntl, libc::F_DUPFD);
    let script = format!("syscall last {fcntl} 0 {duplicate} 1023\nsyscall one-more {fcntl} 0 {duplicate} 1024\nnext\nrespond-notes\nnext");
    let notes = fixture.invoke(&script).expect_code(0).json();
    assert_eq!((&notes["last"], &notes["one-more"]), (&Value::from("ok"), &Value::from("EINVAL")));
}

/// `--seccomp off` is said once, and takes the filter alone away; a policy of one's own takes the shipped one's place.
#[test]
fn the_filter_is_the_users_to_choose() {
    let Some(fixture) = Fixture::new() else { return };
    let prctl = libc::SYS_prctl;
    let questions =
        [("filter", libc::PR_GET_SECCOMP, ""), ("nnp", libc::PR_GET_NO_NEW_PRIVS, " 0 0 0 0"), ("bounding", libc::PR_CAPBSET_READ, " 21")];
    let questions: String = questions.map(|(name, option, rest)| format!("result {name} {prctl} {option}{rest}\n")).concat();
    fixture.script(&format!("syscall mask {} 18\n{questions}next\nrespond-notes\nnext", libc::SYS_umask));
    let seen = |notes: &Value| ["filter", "nnp", "bounding"].map(|name| notes[name].clone());
    // Who is root of nothing keeps the bounding set, which is of no use under no_new_privs.
    let bounding = if tests::place::isolation_is(&["in-place"]) && !tests::skip::is_root() { "1" } else { "0" };
    for off in [&["--seccomp", "off"][..], &["--security-opt", "seccomp=unconfined"]] {
        let ran = fixture.run(&[off, &["--network", "host"]].concat(), &[]).finish().expect_code(0);
        assert_eq!(ran.err().matches("filter system calls (seccomp)").count(), 1, "{}", ran.err());
        assert_eq!(seen(&ran.json()), ["0", "1", bounding]);
    }
    let policy = fixture.path().join("policy");
    let text = "seccomp-policy 1\narchitectures x86_64 aarch64\ndefault allow # for a test\nerrno EACCES umask # a rule that the shipped one lacks\n";
    std::fs::write(&policy, text).expect("written");
    let ran = fixture.run(&["--seccomp", &policy.display().to_string(), "--network", "host"], &[]).finish().expect_code(0);
    assert!(!ran.err().contains("seccomp"), "{}", ran.err());
    assert_eq!(ran.json()["mask"], "EACCES");
    assert_eq!(seen(&ran.json()), ["2", "1", bounding]);
    std::fs::write(&policy, text.replace("umask", "umsak")).expect("written");
    let refused = fixture.run(&["--seccomp", &policy.display().to_string()], &[]).finish().expect_code(2);
    assert!(refused.err().contains("line 4: no system call is called `umsak`") && refused.err().contains("hint: "), "{}", refused.err());
}
