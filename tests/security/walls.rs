//! Each escape once more with the protection that holds it switched off: then it must succeed, else its test would prove nothing.
//!
//! Where several walls stand one behind the other, each is taken away alone first, and then all; where the kernel itself is a wall that cannot be taken
//! away, the test says so. The escapes against the whole product are in `escapes`, `kernel_surface` and `mount_points`.
//!
//! Run once in each isolation: what an isolation does not have is skipped by name, and what it has instead stands at the end.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tests::leftovers::processes_named;
use tests::skip::{self, is_root};
use tests::weakened::{notes_of, notes_of_host, options};
use tests::{Run, Weakened, place, skip_for_this_user, skip_in_isolation};

const LANDLOCK: &str = "confine file access (Landlock)";
const FILTER: &str = "install the seccomp filter";
const CLOSE: &str = "close other file descriptors (close_range)";
const LOOKUPS: &str = "look paths up beneath the root (openat2)";
const PROC_CHECK: &str = "make sure that /proc is one (fstatfs)";
const HOST_ID: &str = "map to an unprivileged host id";
const USER_ID: &str = "take an unprivileged user's id";
const READ_ONLY: &str = "mount read-only";
const NESTING: &str = "forbid further user namespaces";
const SESSION: &str = "start a session (setsid)";
const CAPABILITIES: &str = "drop capabilities";
const NO_NEW_PRIVILEGES: &str = "set no_new_privs";
const START: &str = "start the program from the init's file";
const PID_NAMESPACE: &str = "a pid namespace of its own";
const COPIED_ROOT: &str = "enter the copied root (chroot)";
const LIFE: &str = "tie the sandbox's life to ours (parent-death signal)";

/// Whether there are mounts and processes of the sandbox's own.
fn has_namespaces() -> bool {
    !place::isolation_is(&["chroot", "in-place"])
}

fn has_user_namespace() -> bool {
    has_namespaces() && !place::isolation_is(&["root-without-userns"])
}

/// What makes root's sandbox nobody's. An ordinary user's has no such step.
fn own_id() -> &'static str {
    if has_user_namespace() { HOST_ID } else { USER_ID }
}

/// Two walls: Landlock, which keeps the host's executable from being executed; without it the program is started from the init's file, which is then what
/// `/proc/self/exe` is.
#[test]
fn t1_cve_2019_5736_without_landlock_and_the_inits_file_the_hosts_binary_runs_inside() {
    skip_in_isolation!(["chroot"], "a copied root has no `/proc`");
    skip_in_isolation!(["in-place"], "the machine's programs may be run there; what may not be touched is in `in_place_...`");
    let Some(weakened) = Weakened::new() else { return };
    weakened.install("bin/script", b"#!/proc/self/exe\n");
    std::os::unix::fs::symlink("/proc/self/exe", weakened.root().join("bin/link")).expect("made");
    let run = |without: &[&str], program: &str| {
        // The binary is linked dynamically: it runs only where it finds its libraries.
        let options = [&["--volume", "/usr:/usr"], &options(without)[..]].concat();
        let words = weakened.words_of(program, &options, &["--unknown".to_owned()]);
        Run::new(&words[0]).args(&words[1..]).current_dir("/").finish()
    };
    for program in ["/bin/script", "/bin/link"] {
        let held = run(&[], program).expect_code(125);
        assert!(held.err().contains(&format!("cannot execute `{program}`: Permission denied")), "{}", held.err());
        let started = run(&[LANDLOCK], program).expect_code(127);
        assert!(!started.err().contains("weakened: "), "{program}: {}", started.err());
        let open = run(&[LANDLOCK, START], program).expect_code(125);
        // Its own words, from inside: it cannot do there what it is told, but it runs.
        let ran_inside = open.err().contains("weakened: ") && !open.err().contains("cannot execute");
        assert!(ran_inside, "{program}: {}", open.err());
    }
}

/// A shell that opens descriptors without close-on-exec, 203 of them the host's root folder, and starts what follows.
const LEAKY: &str = r#"for n in $(seq 4 202); do eval "exec $n</etc/hostname"; done; exec 203</; exec "$@""#;

fn leaky(weakened: &Weakened, options: &[&str], script: &str) -> Run {
    Run::new("bash").args(["-c", LEAKY, "leaky"]).args(weakened.words(options, script)).current_dir("/")
}

#[test]
fn t2_cve_2024_21626_without_close_range_descriptors_leak() {
    let Some(weakened) = Weakened::new() else { return };
    // Not by `/proc`, which a copied root has not.
    let (fcntl, get_flags) = (libc::SYS_fcntl, libc::F_GETFD);
    let script: String = (3..=203).map(|number| format!("syscall {number} {fcntl} {number} {get_flags}\n")).collect();
    let count = |without: &[&str]| {
        let notes = notes_of(&leaky(&weakened, &options(without), &script).finish());
        notes.as_object().expect("an object").values().filter(|note| *note == "ok").count()
    };
    assert_eq!(count(&[]), 0);
    assert!(count(&[CLOSE]) >= 200);
}

/// Two walls: the working directory is not looked up through links of `/proc`; and Landlock opens nothing beneath a folder outside.
#[test]
fn t2_cve_2024_21626_a_working_directory_outside_shows_the_host() {
    skip_in_isolation!(["chroot"], "a copied root has no `/proc`, so no path through a descriptor");
    let Some(weakened) = Weakened::new() else { return };
    let run = |without: &[&str]| {
        let options = [&["--working-dir", "/proc/self/fd/203"], &options(without)[..]].concat();
        leaky(&weakened, &options, "list host ./var/tmp").finish()
    };
    let refused = run(&[]).expect_code(125);
    assert!(refused.err().contains("working directory"), "{}", refused.err());
    assert_eq!(run(&[LANDLOCK]).code(), 125);
    assert_eq!(notes_of(&run(&[LOOKUPS]))["host"], "EACCES");
    let own = weakened.path().file_name().expect("it has a name").to_string_lossy().into_owned();
    let seen = notes_of(&run(&[LOOKUPS, LANDLOCK]));
    assert!(seen["host"].as_array().expect("a list").contains(&json!(own)), "{seen}");
}

/// The attacker's link decides where our mount goes. The second wall, that all this happens in a mount namespace which the host does not see, cannot be
/// taken away: without it nobody but root could mount at all.
#[test]
fn t3_cve_2021_30465_without_openat2_a_link_takes_a_mount_out_of_the_root() {
    skip_in_isolation!(["chroot", "in-place"], "nothing is mounted");
    let Some(weakened) = Weakened::new() else { return };
    let (outside, task) = (weakened.path().join("outside"), weakened.path().join("task"));
    fs::create_dir(&outside).expect("made");
    fs::create_dir(&task).expect("made");
    fs::write(task.join("canary"), "of the task").expect("written");
    // A link at the mount point; the path it names exists on the host and, by the attacker's choice, in the image.
    fs::remove_dir_all(weakened.root().join("var/task")).expect("it was there");
    std::os::unix::fs::symlink(&outside, weakened.root().join("var/task")).expect("made");
    fs::create_dir_all(weakened.root().join(outside.strip_prefix("/").expect("absolute"))).expect("made");
    let volume = format!("{}:/var/task", task.display());
    let run = |without: &[&str]| {
        let options = [&["--volume", &volume], &options(without)[..]].concat();
        notes_of(&weakened.run_with(&options, "read canary /var/task/canary"))
    };
    assert_eq!(run(&[])["canary"], "of the task", "the link leads to the image's own folder, and the mount with it");
    assert_eq!(run(&[LOOKUPS])["canary"], "ENOENT", "the mount lies outside of the root");
    assert_eq!(fs::read_dir(&outside).expect("there").count(), 0, "not in the host's namespace");
}

/// A `/proc` that is none, over the host's: what is meant for the kernel would be written to files of the attacker's choice.
#[test]
fn t4_cve_2025_52881_without_a_look_at_the_file_system_writes_are_redirected() {
    skip_in_isolation!(["root-without-userns", "chroot", "in-place"], "there are no id maps to write");
    let Some(weakened) = Weakened::new() else { return };
    if is_root() {
        skip_for_this_user!("the parent writes root's maps, in the host's own namespace; see `runner::sandbox::idmap`");
    }
    let fake = weakened.path().join("fake");
    for folder in ["self", "sys/user"] {
        fs::create_dir_all(fake.join(folder)).expect("made");
    }
    let run = |without: &[&str]| {
        for file in ["self/setgroups", "self/uid_map", "self/gid_map", "sys/user/max_user_namespaces"] {
            fs::write(fake.join(file), "").expect("written");
        }
        let shell = r#"mount --bind "$0" /proc && exec "$@""#;
        let fake = fake.display().to_string();
        let ran = Run::new("unshare").args(["--user", "--map-current-user", "--keep-caps", "--mount", "bash", "-c", shell, &fake]);
        ran.args(weakened.words(&options(without), "note-pid pid")).current_dir("/").finish()
    };
    let refused = run(&[]).expect_code(125);
    assert!(refused.err().contains("/proc/self/setgroups: Invalid cross-device link"), "{}", refused.err());
    assert_eq!(fs::read_to_string(fake.join("self/setgroups")).expect("there"), "");
    run(&[PROC_CHECK]);
    assert_eq!(fs::read_to_string(fake.join("self/setgroups")).expect("there"), "deny");
}

/// Two walls: the files are read-only (in place by Landlock), and the process is nobody on the host.
#[test]
fn t5_without_masks_and_as_the_hosts_root_the_kernels_settings_can_be_written() {
    skip_in_isolation!(["chroot"], "a copied root has no `/proc`");
    let Some(weakened) = Weakened::new() else { return };
    let (masks, refused) = if has_namespaces() { (["make /proc/sys read-only"], "EROFS") } else { ([LANDLOCK], "EACCES") };
    let script = "open-write pattern /proc/sys/kernel/core_pattern\nopen-write ratio /proc/sys/vm/overcommit_ratio";
    let notes = |without: &[&str]| {
        let notes = weakened.notes(without, script);
        [notes["pattern"].clone(), notes["ratio"].clone()]
    };
    for refused in [notes(&[]), notes(&masks)] {
        assert!(refused.iter().all(|error| error == "EROFS" || error == "EACCES"), "{refused:?}");
    }
    if !is_root() {
        skip_for_this_user!("an ordinary user's sandbox cannot be the host's root, whatever is left out");
    }
    assert_eq!(notes(&[own_id()]), [refused, refused]);
    assert_eq!(notes(&[own_id(), masks[0]]), ["ok", "ok"]);
}

/// Each part has one mask. What this kernel does not have, or keeps from this user, cannot be shown.
#[test]
fn t5_without_its_mask_a_part_of_proc_tells_of_the_host() {
    skip_in_isolation!(["chroot"], "a copied root has no `/proc`");
    skip_in_isolation!(["in-place"], "`/proc` is the machine's, as every user of it sees it");
    let Some(weakened) = Weakened::new() else { return };
    let files = ["interrupts", "config.gz", "timer_list", "kcore", "keys"];
    let folders = ["acpi", "pressure", "scsi", "asound"];
    let script: String = files.iter().map(|name| format!("stat {name} /proc/{name}\n")).collect::<String>()
        + &folders.iter().map(|name| format!("list {name} /proc/{name}\n")).collect::<String>();
    let names = files.iter().chain(&folders).map(|name| format!("hide /proc/{name}")).collect::<Vec<_>>();
    let (held, open) = (weakened.notes(&[], &script), weakened.notes(&names.iter().map(String::as_str).collect::<Vec<_>>(), &script));
    let is_there = |name: &&&str| Path::new("/proc").join(name).exists();
    for name in files.iter().filter(is_there) {
        assert_eq!((&held[name]["kind"], &open[name]["kind"]), (&json!("char"), &json!("file")), "{name}");
    }
    let has_entries = |name: &&&str| fs::read_dir(Path::new("/proc").join(name)).is_ok_and(|entries| entries.count() > 0);
    for name in folders.iter().filter(has_entries) {
        assert_eq!(held[name], json!([]), "{name}");
        assert!(open[name].as_array().is_some_and(|entries| !entries.is_empty()), "{name}: {}", open[name]);
    }
}

/// That a program with another id than 0 loses its capabilities when it is executed is the kernel's own wall; what the step does is that none can come back.
#[test]
fn t6_without_the_step_capabilities_can_come_back() {
    let Some(weakened) = Weakened::new() else { return };
    let (prctl, bounding, no_new_privileges) = (libc::SYS_prctl, libc::PR_CAPBSET_READ, libc::PR_GET_NO_NEW_PRIVS);
    const CAP_SYS_ADMIN: u8 = 21;
    let script = format!("result bounding {prctl} {bounding} {CAP_SYS_ADMIN}\nresult nnp {prctl} {no_new_privileges} 0 0 0 0");
    let seen = |without: &[&str]| {
        let notes = weakened.notes(without, &script);
        [notes["bounding"].clone(), notes["nnp"].clone()]
    };
    // Who is root of nothing cannot empty the set, and has nothing of it.
    let held = if has_user_namespace() || is_root() { "0" } else { "1" };
    assert_eq!(seen(&[]), [held, "1"]);
    if held == "0" {
        assert_eq!(seen(&[if has_user_namespace() { CAPABILITIES } else { USER_ID }]), ["1", "1"], "CAP_SYS_ADMIN is within reach");
    }
    // Landlock and the filter demand no_new_privs of a process without capabilities: it cannot be left out alone.
    assert_eq!(weakened.run(&[NO_NEW_PRIVILEGES], "note-pid pid").code(), 125);
    assert_eq!(seen(&[NO_NEW_PRIVILEGES, LANDLOCK, "seccomp"]), [held, "0"]);
}

/// Three walls: the filter, a limit of no further user namespace, and Landlock, under which nobody mounts. The limit is not granted everywhere, and would
/// be the whole machine's without a user namespace. In a copied root the kernel itself refuses the namespace to all but root, whose sandbox is nobody's.
#[test]
fn t7_without_filter_limit_and_landlock_a_namespace_gives_the_right_to_mount() {
    let Some(weakened) = Weakened::new() else { return };
    let (unshare, mount) = (libc::SYS_unshare, libc::SYS_mount);
    // For root a mount namespace alone, in which nothing is mounted.
    let flags = if place::isolation_is(&["chroot"]) { "0x20000" } else { "0x10020000" };
    let then = if place::isolation_is(&["chroot"]) { "" } else { "s:none s:/tmp s:tmpfs 0 0" };
    let script = format!("syscall unshare {unshare} {flags}\nsyscall mount {mount} {then}");
    let seen = |without: &[&str]| {
        let notes = weakened.notes(without, &script);
        [notes["unshare"].clone(), notes["mount"].clone()]
    };
    assert_eq!(seen(&[]), ["EPERM", "EPERM"]);
    if place::isolation_is(&["chroot"]) {
        assert_eq!(seen(&[FILTER, LANDLOCK])[0], "EPERM");
        assert_eq!(seen(&[USER_ID, LANDLOCK])[0], "EPERM");
        assert_eq!(seen(&[FILTER, LANDLOCK, USER_ID])[0], "ok");
        return;
    }
    if has_user_namespace() {
        assert_eq!(seen(&[NESTING, LANDLOCK]), ["EPERM", "EPERM"]);
        assert_eq!(seen(&[FILTER, LANDLOCK]), ["ENOSPC", "EPERM"]);
    } else {
        assert_eq!(seen(&[LANDLOCK]), ["EPERM", "EPERM"]);
    }
    let nesting = if has_user_namespace() { &[NESTING][..] } else { &[] };
    assert_eq!(seen(&[&[FILTER], nesting].concat()), ["ok", "EPERM"]);
    assert_eq!(seen(&[&[FILTER, LANDLOCK], nesting].concat()), ["ok", "ok"]);
}

/// One wall, the filter. What this machine's kernel does not have, or keeps from everyone, proves nothing and is left out.
#[test]
fn t8_without_the_filter_the_kernels_softer_parts_are_open() {
    let Some(weakened) = Weakened::new() else { return };
    let mut script = String::new();
    for (name, number, arguments) in [
        ("io_uring", libc::SYS_io_uring_setup, "4 b:120"),
        ("userfaultfd", libc::SYS_userfaultfd, "1"),
        ("keyctl", libc::SYS_keyctl, "0 -3 0"),
        ("alg", libc::SYS_socket, "38 5 0"),
        ("vsock", libc::SYS_socket, "40 1 0"),
        ("bluetooth", libc::SYS_socket, "31 3 0"),
        ("crypto", libc::SYS_socket, "16 3 21"),
        ("netfilter", libc::SYS_socket, "16 3 12"),
        ("randomize", libc::SYS_personality, "0x40000"),
    ] {
        script += &format!("syscall {name} {number} {arguments}\n");
    }
    let (host, held, open) = (notes_of_host(&script), weakened.notes(&[], &script), weakened.notes(&[FILTER], &script));
    let on_host: Vec<&String> =
        host.as_object().expect("an object").iter().filter(|(_, note)| *note == "ok").map(|(name, _)| name).collect();
    assert!(on_host.len() >= 3, "this host has too little to prove anything: {host}");
    for name in on_host {
        assert_ne!(held[name], "ok", "{name}");
        assert_eq!(open[name], "ok", "{name}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn t8_without_the_filter_the_32_bit_gate_is_open() {
    let Some(weakened) = Weakened::new() else { return };
    let script = "capture gate int80 r 20 ;; print-notes";
    if notes_of_host(script)["gate"]["signal"] != Value::Null {
        tests::skip_for_this_kernel!("this kernel has no 32-bit gate");
    }
    assert_eq!(weakened.notes(&[], script)["gate"]["signal"], 31);
    let open = weakened.notes(&[FILTER], script);
    assert!(open["gate"]["stdout"].as_str().is_some_and(|text| text.contains("\"ok\"")), "{open}");
}

/// Two walls: the filter, and a session of its own, whose terminal ours is not.
#[test]
fn t9_cve_2017_5226_without_filter_and_session_our_terminal_is_typed_into() {
    let Some(weakened) = Weakened::new() else { return };
    if fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti").is_ok_and(|text| text.trim() == "0") {
        tests::skip_for_this_kernel!("this kernel has no TIOCSTI");
    }
    let script = format!("syscall typed {} 2 0x5412 s:~", libc::SYS_ioctl);
    let run = |without: &[&str]| {
        // `setsid --ctty` makes the pseudo terminal the controlling one of what it starts, which is what an attacker needs.
        let words = weakened.words(&options(without), &script);
        let run = Run::new("sh").args(["-c", "exec setsid --ctty --wait \"$0\" \"$@\" <&2"]).args(words);
        let ran = run.current_dir("/").stderr_on_terminal().finish();
        (notes_of(&ran)["typed"].clone(), ran.err().contains('~'))
    };
    for without in [&[][..], &[FILTER], &[SESSION]] {
        assert_eq!(run(without), (json!("EPERM"), false), "{without:?}");
    }
    assert_eq!(run(&[FILTER, SESSION]).0, "ok");
}

/// Two walls, and for root a third: a process of another pid namespace has no number inside, Landlock keeps signals in, and root's sandboxes are nobody.
#[test]
fn t10_without_a_pid_namespace_and_landlock_the_hosts_processes_are_signalled() {
    let Some(weakened) = Weakened::new() else { return };
    let mut victim = Command::new("sleep").arg("60").spawn().expect("it starts");
    let script = format!("syscall signalled {} {} 0", libc::SYS_kill, victim.id());
    let notes = |without: &[&str]| {
        // Without the namespace there is no first process.
        notes_of(&weakened.run_with(&[&["--as-pid-1"], &options(without)[..]].concat(), &script))["signalled"].clone()
    };
    let mut seen = Vec::new();
    let mut wanted = Vec::new();
    let namespace = if has_namespaces() { &[PID_NAMESPACE][..] } else { &[] };
    if has_namespaces() {
        seen.extend([notes(&[]), notes(&[LANDLOCK])]);
        wanted.extend(["ESRCH", "ESRCH"]);
    }
    seen.extend([notes(namespace), notes(&[&[LANDLOCK], namespace].concat())]);
    wanted.extend(["EPERM", if is_root() { "EPERM" } else { "ok" }]);
    if is_root() {
        seen.push(notes(&[&[LANDLOCK, own_id()], namespace].concat()));
        wanted.push("ok");
    }
    victim.kill().expect("it runs");
    victim.wait().expect("it ends");
    assert_eq!(seen, wanted);
}

/// One wall while the network is the host's: Landlock, from its version 6 on.
#[test]
fn t11_cve_2020_15257_without_landlock_abstract_sockets_are_reached() {
    let Some(weakened) = Weakened::new() else { return };
    let name = format!("undocked-walls-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a short name");
    let _listener = UnixListener::bind_addr(&address).expect("a name of our own");
    let script = format!("connect-abstract host {name}");
    assert_eq!(weakened.notes(&[LANDLOCK], &script)["host"], "ok");
    assert_eq!(weakened.notes(&[], &script)["host"], "EPERM", "(needs Landlock 6, Linux 6.12)");
}

/// One wall: the mounts' own flag.
#[test]
fn t13_without_read_only_mounts_the_image_and_the_task_are_written() {
    skip_in_isolation!(["chroot", "in-place"], "nothing is mounted: see `t13_..._landlock_...`");
    let Some(weakened) = Weakened::new() else { return };
    let task = weakened.path().join("task");
    fs::create_dir(&task).expect("made");
    let volume = format!("{}:/var/task", task.display());
    let script = "write root /made y\nwrite task /var/task/made y\nchmod mode /etc/passwd 777";
    let run = |without: &[&str]| notes_of(&weakened.run_with(&[&["--volume", &volume], &options(without)[..]].concat(), script));
    let held = run(&[]);
    assert!(["root", "task", "mode"].iter().all(|name| held[name] == "EROFS"), "{held}");
    let open = run(&[READ_ONLY]);
    assert!(["root", "task", "mode"].iter().all(|name| open[name] == "ok"), "{open}");
    assert!(weakened.root().join("made").exists() && task.join("made").exists());
}

/// Two walls: no AF_ALG by the filter, and a kernel without the hole, which cannot be taken away. What the filter is good for is that the first step of
/// the attack fails.
#[test]
fn t14_cve_2026_31431_without_the_filter_the_attack_gets_its_socket() {
    let Some(weakened) = Weakened::new() else { return };
    let script = format!("syscall alg {} 38 5 0", libc::SYS_socket);
    if notes_of_host(&script)["alg"] != "ok" {
        tests::skip_for_this_kernel!("this kernel has no AF_ALG");
    }
    assert_eq!(weakened.notes(&[], &script)["alg"], "EAFNOSUPPORT");
    assert_eq!(weakened.notes(&[FILTER], &script)["alg"], "ok");
}

/// One wall: the environment is a list that we make.
#[test]
fn t15_with_our_own_environment_a_secret_is_seen() {
    let Some(weakened) = Weakened::new() else { return };
    let notes = |options: &[&str]| {
        let words = weakened.words(options, "note-env all");
        notes_of(&Run::new(&words[0]).args(&words[1..]).env("SECRET_X", "of the host").current_dir("/").finish())
    };
    assert_eq!(notes(&[])["all"], json!({ "PATH": "/bin" }));
    assert_eq!(notes(&["--own-environment"])["all"]["SECRET_X"], "of the host");
}

/// One wall: the init.
#[test]
fn t19_without_an_init_a_program_is_deaf_to_its_own_signals() {
    skip_in_isolation!(["chroot", "in-place"], "no program is PID 1 there");
    let Some(weakened) = Weakened::new() else { return };
    let code = |options: &[&str]| weakened.run_with(options, "kill-self 15\nexit 7").code();
    assert_eq!(code(&[]), 128 + 15);
    assert_eq!(code(&["--as-pid-1"]), 7);
}

#[test]
fn a_protection_that_is_none_cannot_be_left_out() {
    if !skip::sandbox_can_run() {
        return;
    }
    let weakened = Weakened::new().expect("they can run");
    let ran = weakened.run(&["prayer"], "note-pid pid").expect_code(125);
    assert!(ran.err().contains("the plan has no protection `prayer`"), "{}", ran.err());
}

/// Two walls, and for root a third: Landlock, the rights of the copies, and that root's sandbox is nobody's. A file of the copy is the image's own, by a
/// hard link.
#[test]
fn t13_without_landlock_and_as_root_the_image_is_written_in_place_of_its_copy() {
    if has_namespaces() {
        skip::skip(skip::Lack::OtherIsolation, "nothing is mounted there alone");
        return;
    }
    let Some(weakened) = Weakened::new() else { return };
    let passwd = weakened.inside("/etc/passwd");
    let script = format!("open-write file {passwd}\nwrite made {}\nchmod mode {passwd} 666", weakened.inside("/made"));
    let seen = |without: &[&str]| {
        let notes = weakened.notes(without, &script);
        ["file", "made", "mode"].map(|name| notes[name].clone())
    };
    if !is_root() {
        // Landlock knows no right for modes: an ordinary user's function has its user's rights to them (docs/threat-model.md).
        assert_eq!(seen(&[])[..2], ["EACCES", "EACCES"]);
        assert_eq!(seen(&[LANDLOCK]), ["ok", "ok", "ok"]);
        return;
    }
    let refused = ["EACCES", "EACCES", "EPERM"];
    assert_eq!(seen(&[]), refused);
    assert_eq!(seen(&[LANDLOCK]), refused);
    assert_eq!(seen(&[USER_ID])[..2], ["EACCES", "EACCES"]);
    assert_eq!(seen(&[LANDLOCK, USER_ID]), ["ok", "ok", "ok"]);
    let mode = fs::metadata(weakened.root().join("etc/passwd")).expect("there").permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o666, "of the image");
}

/// Two walls in a copied root: the root itself, and Landlock. A program at the same path in both tells which one it sees.
#[test]
fn chroot_without_its_root_and_landlock_the_machines_files_are_seen() {
    if !place::isolation_is(&["chroot"]) {
        skip::skip(skip::Lack::OtherIsolation, "about a copied root");
        return;
    }
    let Some(weakened) = Weakened::new() else { return };
    let beside = weakened.path().join("beside");
    fs::write(&beside, "of the machine").expect("written");
    let program = weakened.root().join("bin/probe").display().to_string();
    let inner = weakened.root().join(program.trim_start_matches('/'));
    fs::create_dir_all(inner.parent().expect("it has one")).expect("made");
    fs::copy(place::probe(), &inner).expect("copied");
    let line = format!("read beside {} ; print-notes", beside.display());
    let run = |without: &[&str]| {
        let words = weakened.words_of(&program, &options(without), &["--line".to_owned(), line.clone()]);
        Run::new(&words[0]).args(&words[1..]).current_dir("/").finish()
    };
    for held in [&[][..], &[LANDLOCK]] {
        assert_eq!(notes_of(&run(held))["beside"], "ENOENT", "{held:?}");
    }
    let refused = run(&[COPIED_ROOT]).expect_code(125);
    assert!(refused.err().contains("Permission denied"), "{}", refused.err());
    assert_eq!(notes_of(&run(&[COPIED_ROOT, LANDLOCK]))["beside"], "of the machine");
}

/// One wall in place, and for root a second: Landlock, and that root's function is nobody's.
#[test]
fn in_place_without_landlock_the_machines_files_are_open() {
    if !place::isolation_is(&["in-place"]) {
        skip::skip(skip::Lack::OtherIsolation, "about the machine's own userland");
        return;
    }
    let Some(weakened) = Weakened::new() else { return };
    let [shown_to_all, own] = ["shown-to-all", "own"].map(|name| weakened.path().join(name));
    for (path, mode) in [(&shown_to_all, 0o644), (&own, 0o600)] {
        fs::write(path, "of the machine").expect("written");
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("set");
    }
    let script = format!("read all {}\nread own {1}\nopen-write write {1}", shown_to_all.display(), own.display());
    let seen = |without: &[&str]| {
        let notes = weakened.notes(without, &script);
        ["all", "own", "write"].map(|name| notes[name].clone())
    };
    assert_eq!(seen(&[]), ["EACCES", "EACCES", "EACCES"]);
    let open = ["of the machine", "of the machine", "ok"];
    if is_root() {
        assert_eq!(seen(&[USER_ID]), ["EACCES", "EACCES", "EACCES"]);
        assert_eq!(seen(&[LANDLOCK]), ["of the machine", "EACCES", "EACCES"]);
        assert_eq!(seen(&[LANDLOCK, USER_ID]), open);
    } else {
        assert_eq!(seen(&[LANDLOCK]), open);
    }
}

/// T18: one wall, the parent-death signal; without namespaces the init asks for one of its own, which cannot be left out.
#[test]
fn t18_without_the_parent_death_signal_a_sandbox_outlives_us() {
    skip_in_isolation!(["chroot", "in-place"], "the init itself asks for the signal");
    let Some(weakened) = Weakened::new() else { return };
    let lives_on = |without: &[&str]| {
        let name = format!("w{}-{}", std::process::id(), without.len());
        let words = weakened.words(&options(without), &format!("comm {name}\nerr ready\nhang"));
        let running = Run::new(&words[0]).args(&words[1..]).current_dir("/").start();
        running.wait_for_stderr("ready");
        running.signal(nix::sys::signal::Signal::SIGKILL);
        let gone = || processes_named(&name).is_empty();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(1);
        while !gone() && std::time::Instant::now() < end {
            std::thread::yield_now();
        }
        let left = processes_named(&name);
        for id in &left {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(*id), nix::sys::signal::Signal::SIGKILL).expect("it runs");
        }
        !left.is_empty()
    };
    assert!(!lives_on(&[]));
    assert!(lives_on(&[LIFE]));
}
