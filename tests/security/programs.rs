//! Programs that PID 1 starts in a sandbox that runs: they meet the walls that a sandbox's first program meets.
//!
//! Run once in each isolation.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::leftovers::{eventually, processes_named};
use tests::weakened::{notes_of, options};
use tests::{Run, Weakened, skip_in_isolation};

const LANDLOCK: &str = "confine file access (Landlock)";

/// What is noted must not depend on when or where it is.
const ATTEMPTS: &str = "
    read status /proc/self/status
    read limits /proc/self/limits
    links descriptors /proc/self/fd
    list root /
    list devices /dev
    note-env variables
    note-cwd cwd
    result umask 95 0x12
    write root-file /file text
    write bin-file /bin/file text
    write task-file /var/task/file text
    write tmp-file /tmp/OWN text
    write core-pattern /proc/sys/kernel/core_pattern x
    write sysrq /proc/sysrq-trigger x
    open-write executable /proc/self/exe
    chmod set-id /tmp/OWN 4755
    read environment-of-1 /proc/1/environ
    list descriptors-of-1 /proc/1/fd
    list root-of-1 /proc/1/root
    open-write memory-of-1 /proc/1/mem
    syscall trace-1 101 16 1 0 0
    syscall kill-1 62 1 9
    syscall unshare-user 272 0x10000000
    syscall unshare-mounts 272 0x20000
    clone user 0x10000000
    clone pid 0x20000000
    syscall mount 165 0 0 0 0 0
    syscall umount 166 0 0
    syscall pivot-root 155 0 0
    syscall chroot 161 0
    syscall setns 308 0 0
    syscall bpf 321 0 0 0
    syscall perf 298 0 0 0 0 0
    syscall uring 425 0 0
    syscall userfaultfd 323 0
    syscall keyctl 250 0 0
    syscall modules 313 0 0 0
    syscall handle 304 0 0 0
    syscall clone3 435 0 0
    syscall packet-socket 41 17 3 0
    syscall alg-socket 41 38 5 0
    syscall set-uid 105 0
    syscall set-groups 116 0 0
    remove removed /tmp/OWN
";

/// The lines of `/proc/self/status` that tell of rights and signals.
fn rights(notes: &mut Value) {
    let kept = ["Groups:", "Cap", "NoNewPrivs:", "Seccomp", "Sig", "Shd", "Speculation", "CoreDumping:"];
    let status = notes["status"].as_str().unwrap_or_default();
    // How many signals are queued for the whole user.
    let lines = status.lines().filter(|line| kept.iter().any(|name| line.starts_with(name)) && !line.starts_with("SigQ:"));
    let lines: Vec<&str> = lines.collect();
    notes["status"] = json!(lines);
}

#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "the numbers of system calls are those of x86-64")]
fn a_program_that_is_started_meets_the_walls_that_the_first_one_meets() {
    let Some(weakened) = Weakened::new() else { return };
    // In place it is the machine's own `/tmp`.
    let attempts = ATTEMPTS.replace("OWN", &format!("undocked-programs-{}", std::process::id()));
    let notes = |options: &[&str]| {
        let mut notes = notes_of(&weakened.run_with(options, &attempts));
        rights(&mut notes);
        notes
    };
    let (first, started) = (notes(&[]), notes(&["--started"]));
    for (name, note) in first.as_object().expect("an object") {
        // One is not ours to lock, the other's path is that of a pipe.
        if name != "descriptors" {
            assert_eq!(&started[name], note, "{name}");
        }
    }
    let numbers = |notes: &Value| notes["descriptors"].as_object().map(|found| found.keys().cloned().collect::<Vec<_>>());
    assert_eq!(numbers(&started), numbers(&first));
    for (name, expected) in [("unshare-user", "EPERM"), ("bpf", "EPERM"), ("clone3", "ENOSYS"), ("packet-socket", "EPERM")] {
        assert_eq!(started[name], expected, "{name}");
    }
    if let Some(lines) = started["status"].as_array().filter(|lines| !lines.is_empty()) {
        for line in ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2", "SigBlk:\t0000000000000000"] {
            assert!(lines.contains(&json!(line)), "{line}: {started}");
        }
    }
}

/// Whatever stands around it, `/proc/self/exe` is never undocked's own file.
#[test]
fn t1_cve_2019_5736_our_own_executable_is_out_of_reach() {
    skip_in_isolation!(["chroot"], "a copied root has no `/proc`");
    skip_in_isolation!(["in-place"], "the machine's programs may be run there");
    let Some(weakened) = Weakened::new() else { return };
    weakened.install("bin/script", b"#!/proc/self/exe\n");
    std::os::unix::fs::symlink("/proc/self/exe", weakened.root().join("bin/link")).expect("made");
    for program in ["/bin/script", "/bin/link"] {
        for without in [&[][..], &[LANDLOCK]] {
            let options = [&["--started", "--volume", "/usr:/usr"], &options(without)[..]].concat();
            let words = weakened.words_of(program, &options, &["--unknown".to_owned()]);
            let ran = Run::new(&words[0]).args(&words[1..]).current_dir("/").finish().expect_code(127);
            assert!(!ran.err().contains("weakened: "), "{program}: {}", ran.err());
        }
    }
}

/// None of our descriptors gets in, not even where those that we have are not closed by what is closed for the init.
#[test]
fn t2_cve_2024_21626_descriptors_do_not_leak() {
    skip_in_isolation!(["chroot"], "a copied root has no `/proc`, so no path through a descriptor");
    let Some(weakened) = Weakened::new() else { return };
    let leaky = r#"for n in $(seq 4 202); do eval "exec $n</etc/hostname"; done; exec 203</; exec "$@""#;
    let run = |options: &[&str]| {
        let options = [&["--started"], options].concat();
        Run::new("bash")
            .args(["-c", leaky, "leaky"])
            .args(weakened.words(&options, "links descriptors /proc/self/fd"))
            .current_dir("/")
            .finish()
    };
    let notes = notes_of(&run(&[]));
    let numbers: Vec<&String> = notes["descriptors"].as_object().expect("an object").keys().collect();
    assert_eq!(numbers, ["0", "1", "2"]);
    let refused = run(&["--working-dir", "/proc/self/fd/203"]).expect_code(125);
    assert!(refused.err().contains("working directory"), "{}", refused.err());
}

/// T18: undocked is killed; nothing of the sandbox is left, a program in a session of its own neither.
#[test]
fn t18_nothing_outlives_us() {
    let Some(weakened) = Weakened::new() else { return };
    let name = format!("p{}", std::process::id());
    let script = format!("comm {name}\nspawn comm {name} ;; hang\nerr ready\nhang");
    let words = weakened.words(&["--started"], &script);
    let running = Run::new(&words[0]).args(&words[1..]).current_dir("/").start();
    running.wait_for_stderr("ready");
    assert!(!processes_named(&name).is_empty());
    running.signal(Signal::SIGKILL);
    eventually(Duration::from_secs(30), "all have ended", || processes_named(&name).is_empty());
}
