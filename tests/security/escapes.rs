//! Known ways out of a container, tried from inside by the probe, each named after where it once worked.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tests::image::{Image, Packing, sha256};
use tests::leftovers::{eventually, processes_named};
use tests::skip::is_root;
use tests::tar::{Header, Tar, kind};
use tests::{Fixture, place, skip, skip_for_this_user, skip_in_isolation};

/// Runs a script in the sandbox; its notes are what it saw.
fn seen(fixture: &Fixture, script: &str) -> Value {
    fixture.invoke(&format!("{script}\nnext\nrespond-notes\nnext")).expect_code(0).json()
}

fn hash_of(path: &std::path::Path) -> String {
    sha256(&fs::read(path).expect("it can be read"))
}

/// CVE-2019-5736: `/proc/self/exe` of the process that execs is the host's own binary.
#[test]
fn t1_cve_2019_5736_the_hosts_binary_is_neither_run_nor_written() {
    let Some(fixture) = Fixture::new() else { return };
    let before = hash_of(place::undocked());
    let bootstrap = fixture.task().join("bootstrap");
    for form in ["link", "script", "magic script"] {
        fs::remove_file(&bootstrap).expect("it was there");
        match form {
            "link" => std::os::unix::fs::symlink("/proc/self/exe", &bootstrap).expect("made"),
            "script" => fs::write(&bootstrap, "#!/proc/self/exe\n").expect("written"),
            _ => fs::write(&bootstrap, "#!/proc/self/exe --version\n").expect("written"),
        }
        if form != "link" {
            fs::set_permissions(&bootstrap, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
        }
        let ran = fixture.run(&[], &[]).finish().expect_code(1);
        let said = format!("{}{}", ran.out(), ran.err());
        // Had it run, the binary would have printed its version or its usage. In place it is one of the machine's programs, which may be run.
        let may_run = place::isolation_is(&["in-place"]);
        assert!(may_run || !(said.contains("Usage") || said.contains("undocked 0.")), "{form}: {said}");
        fixture.expect_nothing_left();
    }
    fs::remove_file(&bootstrap).expect("it was there");
    fixture.install_probe(&bootstrap);
    let notes = seen(&fixture, "links exe /proc/self\nlinks one /proc/1\nopen-write self /proc/self/exe\nopen-write first /proc/1/exe");
    for (name, link) in [("exe", "exe"), ("one", "exe")] {
        let target = notes[name][link].as_str().unwrap_or("");
        assert!(!target.ends_with("/undocked"), "{notes}");
    }
    assert!(notes["self"] != "ok" && notes["first"] != "ok", "{notes}");
    assert_eq!(hash_of(place::undocked()), before);
}

/// CVE-2024-21626: descriptors and working directories of the host that leak in.
#[test]
fn t2_cve_2024_21626_only_the_three_streams_are_open() {
    let Some(fixture) = Fixture::new() else { return };
    // A parent that holds 200 descriptors without close-on-exec, one of them of the host's root folder: a shell opens them for us.
    let shell = r#"for n in $(seq 3 202); do eval "exec $n</etc/hostname"; done; exec 203</; exec "$0" "$@""#;
    // Not by `/proc`, which a copied root has not. The probe's own connection to the Runtime API is open too, later; here it has none yet.
    let (fcntl, get_flags) = (libc::SYS_fcntl, libc::F_GETFD);
    let looks: String = (0..1024).map(|number| format!("syscall {number} {fcntl} {number} {get_flags}\n")).collect();
    fixture.script(&format!("{looks}note-cwd cwd\nnext\nrespond-notes\nnext"));
    let notes = fixture.run_by_shell(shell, &[], &[]).finish().expect_code(0).json();
    let open: Vec<&String> = notes.as_object().expect("an object").iter().filter(|(_, note)| *note == "ok").map(|(name, _)| name).collect();
    assert_eq!(open, ["0", "1", "2"]);
    assert_eq!(notes["cwd"], json!(fixture.task_inside()));
}

/// CVE-2024-21626 again: a folder as one of the three streams would be a way to what lies beneath it.
#[test]
fn t2_cve_2024_21626_a_folder_as_a_stream_is_refused() {
    let Some(fixture) = Fixture::new() else { return };
    for (redirection, name) in [("</etc", "stdin"), ("1</etc", "stdout"), ("2</etc", "stderr")] {
        let shell = format!(r#"exec "$0" "$@" {redirection}"#);
        let options = ["-i", "--entrypoint", "/var/task/bootstrap"];
        let run = fixture.run_by_shell(&shell, &options, &["--line", "list fd /proc/self/fd/0 ; print-notes"]);
        let ran = run.finish().expect_code(125);
        assert!(ran.out().is_empty(), "{}", ran.out());
        // Standard error as a folder cannot be written to.
        assert!(
            name == "stderr" || ran.err().contains(&format!("cannot use `/dev/{name}` in the sandbox: Is a directory")),
            "{}",
            ran.err()
        );
    }
}

/// CVE-2024-21626 again: a working directory that leads through a descriptor.
#[test]
fn t2_cve_2024_21626_a_working_directory_in_proc_is_refused() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("note-cwd cwd\nlist up ../../../..\nnext\nrespond-notes\nnext");
    let honest = fixture.run(&["-w", "/tmp"], &[]).finish().expect_code(0).json();
    assert_eq!(honest["cwd"], "/tmp", "an honest one works");
    let has_image = !place::isolation_is(&["in-place"]);
    for number in 3..12 {
        let folder = format!("/proc/self/fd/{number}");
        fixture.layout().add(&format!("wd{number}"), &Image::provided().with("WorkingDir", json!(folder)));
        let of_image = has_image.then(|| fixture.run_image(&fixture.image(&format!("wd{number}")), &[], &[]));
        for run in [fixture.run(&["-w", &folder], &[])].into_iter().chain(of_image) {
            let ran = run.finish();
            if ran.code() == 0 {
                let notes = ran.json();
                assert!(
                    !notes.to_string().contains("lost+found") && notes["cwd"].as_str().is_some_and(|cwd| cwd.starts_with('/')),
                    "{notes}"
                );
            } else {
                assert!([1, 2, 125].contains(&ran.code()), "{}: {}", ran.code(), ran.err());
            }
        }
    }
    fixture.expect_nothing_left();
}

/// CVE-2026-55686: a working directory through a symlink makes folders on the host.
#[test]
fn t2_cve_2026_55686_a_working_directory_through_a_symlink_stays_inside() {
    skip_in_isolation!(["in-place"], "about images");
    let Some(fixture) = Fixture::new() else { return };
    let outside = fixture.path().join("outside");
    fs::create_dir(&outside).expect("made");
    let image = Image::provided()
        .layer(Tar::new().symlink("way", &outside.display().to_string()), Packing::Gzip)
        .with("WorkingDir", json!("/way/made"));
    fixture.layout().add("way", &image);
    fixture.script("note-cwd cwd\nnext\nrespond-notes\nnext");
    let ran = fixture.run_image(&fixture.image("way"), &[], &[]).finish();
    assert!([0, 1, 125].contains(&ran.code()) && !ran.stderr.is_empty(), "{}: {}", ran.code(), ran.err());
    let honest = fixture.run_image(&fixture.image("way"), &["-w", "/opt"], &[]).finish().expect_code(0).json();
    assert_eq!(honest["cwd"], "/opt");
    assert_eq!(fs::read_dir(&outside).expect("there").count(), 0);
}

/// T5: with the host's root mapped, `/proc/sys` was a way out; so root is never mapped, and the files cannot be written.
#[test]
fn t5_the_kernels_settings_cannot_be_written() {
    let Some(fixture) = Fixture::new() else { return };
    let files = ["kernel/core_pattern", "vm/overcommit_ratio", "kernel/hostname", "user/max_user_namespaces", "net/ipv4/ip_forward"];
    let values = files.map(|file| fs::read_to_string(format!("/proc/sys/{file}")).unwrap_or_default());
    let mut script: String = files.iter().map(|file| format!("write {file} /proc/sys/{file} 7\n")).collect();
    script += "write trigger /proc/sysrq-trigger h\nread uid_map /proc/self/uid_map\nread gid_map /proc/self/gid_map\nread groups /proc/self/setgroups\n\
               read kcore /proc/kcore\nread keys /proc/keys\nread status /proc/self/status";
    let notes = seen(&fixture, &script);
    for name in files.iter().chain(&["trigger"]) {
        assert!(["EACCES", "EROFS", "EPERM", "ENOENT"].iter().any(|error| notes[*name] == *error), "{name}: {}", notes[*name]);
    }
    assert_eq!(files.map(|file| fs::read_to_string(format!("/proc/sys/{file}")).unwrap_or_default()), values);
    if place::isolation_is(&["chroot"]) {
        assert!(["kcore", "keys", "status"].iter().all(|name| notes[*name] == "ENOENT"), "there is no `/proc`: {notes}");
        return;
    }
    if !place::isolation_is(&["root-without-userns", "in-place"]) {
        for (map, own) in [("uid_map", "496"), ("gid_map", "495")] {
            let words: Vec<&str> = notes[map].as_str().expect("text").split_whitespace().collect();
            assert!(words.len() == 3 && words[0] == own && words[1] != "0" && words[2] == "1", "{map}: {words:?}");
        }
        // For root the parent writes the maps, and the child gives root's groups up itself; nobody inside may set any later.
        let allowed = if is_root() { "allow" } else { "deny" };
        assert_eq!(notes["groups"].as_str().map(str::trim), Some(allowed));
    }
    let status = notes["status"].as_str().expect("text");
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).expect("a line").trim();
    assert!(!groups.split_whitespace().any(|group| group == "0"), "no group of root's is kept: {groups:?}");
    // Both are the kernel's own memory or secrets.
    assert!(
        notes["kcore"] == "EACCES" || notes["kcore"] == "" || notes["kcore"] == "EPERM" || notes["kcore"] == "ENOENT",
        "{}",
        notes["kcore"]
    );
    // In place it lists its own user's.
    let shows_own = place::isolation_is(&["in-place"]);
    assert!(shows_own || notes["keys"] == "" || notes["keys"] == "EACCES", "{}", notes["keys"]);
}

#[test]
fn t5_as_root_the_process_has_an_id_that_is_nobodys_on_the_host() {
    let Some(fixture) = Fixture::new() else { return };
    if !is_root() {
        skip_for_this_user!("about root's mapping");
    }
    fixture.script("next\nerr waiting\\n\nhang");
    let running = fixture.run(&[], &[]).start();
    running.wait_for_stderr("waiting\n");
    let found = processes_named(fixture.marker());
    assert_eq!(found.len(), 1);
    let uids = tests::leftovers::status_field(found[0], "Uid:").expect("it runs");
    let groups = tests::leftovers::status_field(found[0], "Groups:").expect("it runs");
    let own: Vec<u32> = uids.split_whitespace().map(|id| id.parse().expect("a number")).collect();
    assert!(own.iter().all(|id| *id >= 65_536 && *id == own[0]), "{uids}");
    assert_eq!(groups, "", "root's groups are given up");
    let runner = tests::leftovers::status_field(running.id(), "Uid:").expect("it runs");
    assert!(runner.starts_with("0\t"), "{runner}");
    running.signal(nix::sys::signal::Signal::SIGTERM);
    running.finish();
    fixture.expect_nothing_left();
}

/// T6: no capability, no new privileges, a filter; a set-uid program gains nothing.
#[test]
fn t6_nothing_is_gained_by_capabilities_or_set_uid_programs() {
    skip_in_isolation!(["chroot"], "no `/proc` to see it by: see `walls::t6_...`");
    skip_in_isolation!(["in-place"], "about images");
    let Some(fixture) = Fixture::new() else { return };
    let probe = fs::read(place::probe()).expect("the probe is there");
    let program = Header::new(kind::FILE, "opt/setuid").mode(0o6755);
    let image = Image::provided().layer(Tar::new().entry(&program, &probe), Packing::Gzip);
    fixture.layout().add("setuid", &image);
    fixture.script("read status /proc/self/status\nstat program /opt/setuid\nexec gained /opt/setuid --line read s /proc/self/status ; print-notes\nnext\nrespond-notes\nnext");
    let notes = fixture.run_image(&fixture.image("setuid"), &[], &[]).finish().expect_code(0).json();
    let status = notes["status"].as_str().expect("text");
    for line in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert!(status.contains(&format!("{line}\t0000000000000000\n")), "{line}: {status}");
    }
    assert!(status.contains("NoNewPrivs:\t1\n") && status.contains("Seccomp:\t2\n"), "{status}");
    assert_eq!(notes["program"]["mode"], "755", "the bits are dropped when the image is unpacked");
    let uids_of = |status: &str| status.lines().find(|line| line.starts_with("Uid:")).expect("a line").to_owned();
    let inner: Value = serde_json::from_str(notes["gained"]["stdout"].as_str().expect("it ran")).expect("notes");
    let uids = uids_of(inner["s"].as_str().expect("text"));
    assert_eq!(uids, uids_of(status), "the ids of whoever executes it");
    assert!(!uids.contains("\t0") && (uids == "Uid:\t496\t496\t496\t496" || place::isolation_is(&["root-without-userns"])), "{uids}");
}

/// T9: CVE-2017-5226 and CVE-2019-10063, typing into the terminal of whoever started us.
#[test]
fn t9_cve_2017_5226_cve_2019_10063_nothing_is_typed_into_our_terminal() {
    let Some(fixture) = Fixture::new() else { return };
    if !skip::has_program("setsid") {
        tests::skip!("setsid is not installed");
    }
    let ioctl = libc::SYS_ioctl;
    let (tiocsti, tioclinux) = (0x5412_u64, 0x541c_u64);
    let mut script = String::from("read stat /proc/self/stat\nopen-write tty /dev/tty\n");
    for fd in 0..3 {
        for (name, request) in [("sti", tiocsti), ("linux", tioclinux)] {
            script += &format!(
                "syscall {name}{fd} {ioctl} {fd} {request:#x} s:~\nsyscall high-{name}{fd} {ioctl} {fd} {:#x} s:~\n",
                request | 1 << 32
            );
        }
    }
    fixture.script(&format!("{script}next\nrespond-notes\nnext"));
    // `setsid --ctty` makes the pseudo terminal the controlling one of what it starts, which is what an attacker needs.
    let run = fixture.run_by_shell("exec setsid --ctty --wait \"$0\" \"$@\" <&2", &[], &[]).stderr_on_terminal();
    let ran = run.finish().expect_code(0);
    let notes = ran.json();
    for (name, value) in notes.as_object().expect("an object") {
        if name.contains("sti") || name.contains("linux") {
            assert!(value == "EPERM" || value == "ENOTTY", "{name}: {value}");
        }
    }
    assert_ne!(notes["tty"], "ok", "there is no controlling terminal");
    let stat = notes["stat"].as_str().expect("text");
    if !place::isolation_is(&["chroot"]) {
        let fields: Vec<&str> = stat.rsplit_once(')').expect("its form").1.split_whitespace().collect();
        assert_eq!(fields[4], "0", "tty_nr: {stat}");
    }
    assert!(!ran.err().contains('~'), "nothing was echoed: {}", ran.err());
}

/// T10: the host's processes are out of sight and out of reach.
#[test]
fn t10_the_hosts_processes_cannot_be_seen_or_signalled() {
    let Some(fixture) = Fixture::new() else { return };
    let own = std::process::id();
    let kill = libc::SYS_kill;
    if !place::has_namespaces() {
        // `kill -1` would reach the sandbox's own first process, and nobody else (docs/isolation.md).
        let notes = seen(
            &fixture,
            &format!("syscall self {kill} {own} 0\nread environ /proc/{own}/environ\nlist root /proc/{own}/root\nread mem /proc/{own}/mem"),
        );
        let hidden = if place::isolation_is(&["chroot"]) { "ENOENT" } else { "EACCES" };
        assert_eq!([&notes["self"], &notes["environ"], &notes["root"], &notes["mem"]], ["EPERM", hidden, hidden, hidden]);
        return;
    }
    let script = format!(
        "syscall self {kill} {own} 0\nsyscall all {kill} -1 9\nlist proc /proc\nstat theirs /proc/{own}\nread environ /proc/{own}/environ\nlist one /proc/1/task"
    );
    let notes = seen(&fixture, &script);
    assert_eq!((&notes["self"], &notes["all"]), (&json!("ESRCH"), &json!("ESRCH")));
    if place::isolation_is(&["proc-bind"]) {
        // Seen, and not looked into.
        assert_eq!(notes["environ"], "EACCES", "{notes}");
        return;
    }
    // Our number may by chance exist inside, but only for a handful of small ones.
    assert!(own < 10 || notes["theirs"] == "ENOENT", "{}", notes["theirs"]);
    let ids = notes["proc"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|name| name.as_str().is_some_and(|name| name.parse::<u32>().is_ok()))
        .count();
    assert!(ids <= 3, "{}", notes["proc"]);
}

/// T11: CVE-2020-15257, an abstract socket of the host in a shared network namespace.
#[test]
fn t11_cve_2020_15257_abstract_sockets_of_the_host_are_out_of_reach() {
    let Some(fixture) = Fixture::new() else { return };
    let address = SocketAddr::from_abstract_name(fixture.marker()).expect("a short name");
    let listener = UnixListener::bind_addr(&address).expect("a name of our own");
    listener.set_nonblocking(true).expect("set");
    fixture.script(&format!("connect-abstract host {}\nnext\nrespond-notes\nnext", fixture.marker()));
    // With the host's network, where abstract names are shared, Landlock is the wall; else the network namespace is.
    let networks = if place::has_namespaces() { &["host", "none"][..] } else { &["host"] };
    for network in networks {
        let ran = fixture.run(&["--network", network], &[]).finish().expect_code(0);
        expect_no_abstract_socket(&fixture, &ran.json());
    }
    assert!(listener.accept().is_err(), "nobody came");
}

fn expect_no_abstract_socket(fixture: &Fixture, notes: &Value) {
    if notes["host"] == "ok" {
        let doctor = fixture.undocked(&["doctor"]).finish();
        assert!(
            doctor.out().contains("Landlock") && !doctor.out().contains("ABI 6") && !doctor.out().contains("ABI 7"),
            "{}",
            doctor.out()
        );
        tests::skip!("this kernel's Landlock cannot scope abstract sockets (ABI 6)");
    }
    assert!(notes["host"] == "EPERM" || notes["host"] == "ECONNREFUSED", "{}", notes["host"]);
}

/// T13: nothing but `/tmp` can be written, not by detours either.
#[test]
fn t13_everything_but_tmp_is_read_only() {
    let Some(fixture) = Fixture::new() else { return };
    let (mount, mount_setattr) = (libc::SYS_mount, libc::SYS_mount_setattr);
    let script = format!(
        "write root /x y\nwrite etc /etc/passwd y\nwrite task {{task}}/x y\nwrite proc /proc/x y\nwrite dev /dev/x y\nmkdir folder /opt/x\n\
         write tmp {{tmp}}/x y\nlink out /etc/passwd {{tmp}}/passwd\nsymlink sym /etc/passwd {{tmp}}/sym\nappend through {{tmp}}/sym more\n\
         chmod mode /etc/passwd 777\nchmod own {{task}}/script 777\nsyscall remount {mount} s:none s:/ s:none 0x1020 0\nsyscall attr {mount_setattr} -100 s:/ 0 b:32 32\n\
         copy program {{task}}/bootstrap {{tmp}}/program\nexec ran {{tmp}}/program --line exit 6"
    );
    let notes = seen(&fixture, &script);
    // In place a volume in `/tmp` is as open as that, which is said: see `single_execution`.
    let task_is_open = place::isolation_is(&["in-place"]) && !is_root() && fixture.path().starts_with("/tmp");
    for name in ["root", "etc", "task", "folder", "through"] {
        assert!(notes[name] == place::refused_write() || (name == "task" && task_is_open), "{name}: {}", notes[name]);
    }
    // Landlock knows no right for modes: where nothing is mounted they are a matter of the file's owner.
    let owns = place::isolation_is(&["in-place"]) && !is_root();
    let (mode, own) = if place::has_namespaces() { ("EROFS", "EROFS") } else { ("EPERM", if owns { "ok" } else { "EPERM" }) };
    assert_eq!((&notes["mode"], &notes["own"]), (&json!(mode), &json!(own)));
    for name in ["proc", "dev", "out", "remount", "attr"] {
        assert!(["EROFS", "EPERM", "EXDEV", "EACCES", "ENOENT"].iter().any(|error| notes[name] == *error), "{name}: {}", notes[name]);
    }
    assert_eq!((&notes["tmp"], &notes["ran"]["code"]), (&json!("ok"), &json!(6)), "/tmp takes files, and programs run there as on Lambda");
}

#[test]
fn t13_tmp_has_512_mb_and_says_when_it_is_full() {
    skip_in_isolation!(["chroot", "in-place"], "`/tmp` has no limit of its own there");
    let Some(fixture) = Fixture::new() else { return };
    let notes = seen(&fixture, "fill most /tmp/a 500000000\nfill rest /tmp/b 100000000");
    assert_eq!((&notes["most"], &notes["rest"]), (&json!("ok"), &json!("ENOSPC")));
}

/// T14: Dirty Pipe and Copy Fail write into the page cache of a file that may only be read; the shared layer must stay as it is.
#[test]
fn t14_the_page_cache_of_a_shared_file_is_not_written() {
    skip_in_isolation!(["in-place"], "about images");
    let Some(fixture) = Fixture::new() else { return };
    let image = Image::provided().layer(Tar::new().file("opt/data", vec![b'd'; 8192]), Packing::Gzip);
    fixture.layout().add("data", &image);
    let (socket, splice, pipe2) = (libc::SYS_socket, libc::SYS_splice, libc::SYS_pipe2);
    // AF_ALG is 38; a pipe is filled from the file and then written to: descriptors are 3, 4 and 5 when all goes well for the attacker.
    fixture.script(&format!(
        "syscall alg {socket} 38 5 0\nsyscall pipe {pipe2} b:8 0\nsyscall open {} -100 s:/opt/data 0\nsyscall splice {splice} 5 0 4 0 1 0\n\
         syscall write {} 4 s:PWNED 5\nnext\nrespond-notes\nnext",
        libc::SYS_openat,
        libc::SYS_write
    ));
    let notes = fixture.run_image(&fixture.image("data"), &[], &[]).finish().expect_code(0).json();
    assert_ne!(notes["alg"], "ok");
    assert_eq!((&notes["pipe"], &notes["open"]), (&json!("ok"), &json!("ok")), "the attack got as far as it was meant to: {notes}");
    let images = fs::read_dir(fixture.cache().join("v1/images")).expect("a cache");
    let files: Vec<PathBuf> = images.flatten().map(|image| image.path().join("rootfs/opt/data")).filter(|path| path.exists()).collect();
    assert_eq!(files.len(), 1);
    assert_eq!(fs::read(&files[0]).expect("there"), vec![b'd'; 8192]);
}

/// T19: a program hears its own signals, as it would not as PID 1, and orphans are reaped.
#[test]
fn t19_the_first_process_passes_signals_on_and_reaps_orphans() {
    skip_in_isolation!(["proc-bind", "chroot", "in-place"], "no `/proc` of its own to see it by");
    let Some(fixture) = Fixture::new() else { return };
    // Each `capture` leaves an orphan behind, which ends at once.
    let orphans = "capture x spawn exit 0\n".repeat(20);
    let looks = "list now /proc\nsleep 10\n".repeat(100);
    let notes = seen(&fixture, &format!("note-pid own\n{orphans}{looks}"));
    let ids: Vec<&str> =
        notes["now"].as_array().expect("a list").iter().filter_map(Value::as_str).filter(|name| name.parse::<u32>().is_ok()).collect();
    assert_eq!((notes["own"].as_u64(), ids.len()), (Some(2), 2), "zombies are left: {ids:?}");
    let ran = fixture.invoke("next\nkill-self 15\nrespond {}").expect_code(1);
    assert!(ran.json()["errorMessage"].as_str().is_some_and(|text| text.contains("signal: terminated")), "{}", ran.out());
}

/// T20: a line that never ends is carried in bounded memory.
#[test]
fn t20_a_flood_of_output_takes_no_memory() {
    let Some(fixture) = Fixture::new() else { return };
    let after = format!("{}~", fixture.marker());
    fixture.script(&format!("next\nout-fill 268435456\ncomm {after}\nhang"));
    let running = fixture.run_by_shell(r#"exec "$0" "$@" 2>/dev/null"#, &[], &[]).start();
    eventually(Duration::from_secs(80), "the flood is over", || !processes_named(&after).is_empty());
    let most = tests::leftovers::status_field(running.id(), "VmHWM:").expect("it runs");
    let kib: u64 = most.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number");
    running.signal(nix::sys::signal::Signal::SIGTERM);
    running.finish();
    assert!(kib < 64 << 10, "{most}");
}

/// What runs on the host's loopback is out of reach, unless the host's network was asked for: that is documented, not hidden.
#[test]
fn the_hosts_loopback_is_reached_with_the_hosts_network_alone() {
    let Some(fixture) = Fixture::new() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    fixture.script(&format!("connect host {}\nnext\nrespond-notes\nnext", listener.local_addr().expect("it is bound")));
    let networks = [("host", "ok"), ("none", "ECONNREFUSED"), ("private", "ECONNREFUSED")];
    for (network, wanted) in networks.into_iter().take(if place::has_namespaces() { 3 } else { 1 }) {
        let ran = fixture.run(&["--network", network], &[]).finish().expect_code(0);
        assert_eq!(ran.json()["host"], wanted, "{network}");
    }
}

/// A volume's source is opened once; a file as source is mounted as a file.
#[test]
fn a_file_may_be_a_volume() {
    skip_in_isolation!(["in-place"], "nothing is mounted: a path in the program is the program's");
    let Some(fixture) = Fixture::new() else { return };
    let file = fixture.path().join("hosts");
    File::create(&file).expect("made");
    fs::write(&file, "mine").expect("written");
    fixture.script("read hosts /etc/hosts\nnext\nrespond-notes\nnext");
    let volume = format!("{}:/etc/hosts:ro", file.display());
    assert_eq!(fixture.run(&["-v", &volume], &[]).finish().expect_code(0).json()["hosts"], "mine");
}

/// Under real root a set-id file in a writable volume would belong to root on the host, and run there with its rights.
#[test]
fn no_set_id_file_can_be_left_in_a_volume() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("write made {tmp}/x y\nchmod plain {tmp}/x 755\nchmod user {tmp}/x 4755\nchmod group {tmp}/x 2755\nstat x {tmp}/x\nnext\nrespond-notes\nnext");
    let notes = fixture.run(&[], &[]).finish().expect_code(0).json();
    assert_eq!((&notes["plain"], &notes["user"], &notes["group"]), (&"ok".into(), &"EPERM".into(), &"EPERM".into()), "{notes}");
}

/// The machine's own files keep their owner: what only root may read is not the function's to read, even when root runs it.
#[test]
fn host_mode_does_not_show_what_only_root_may_read() {
    skip_in_isolation!(["chroot"], "`host` is not run so");
    let Some(fixture) = Fixture::new() else { return };
    if !is_root() {
        skip_for_this_user!("only root has files that others may not read");
    }
    let secret = tempfile::tempdir_in("/usr/local").expect("made");
    let key = secret.path().join("key");
    fs::write(&key, "of the host").expect("written");
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
    fixture.script(&format!("read key {}\nnext\nrespond-notes\nnext", key.display()));
    let ran = fixture.run_image("host", &[], &[]).finish();
    assert!(!ran.out().contains("of the host") && ran.out().contains("key"), "{}", ran.out());
}
