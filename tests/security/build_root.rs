//! Escapes from a root that may be written to, tried as root inside with what that keeps.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use serde_json::{Value, json};
use tests::image::{Image, Packing};
use tests::leftovers::everything_below;
use tests::tar::Tar;
use tests::{Fixture, place, skip};

/// What root inside keeps: to pass over modes of what it owns, to change that, low ports, file capabilities that count there alone.
const KEPT: &str = "000000008000040a";

fn build() -> Option<Fixture> {
    if place::isolation().is_some_and(|isolation| !["full", "proc-bind", "no-pivot"].contains(&isolation.as_str())) {
        skip::skip(skip::Lack::OtherIsolation, "this isolation has no root that may be written to");
        return None;
    }
    let fixture = Fixture::new()?;
    let layer = Tar::new().file("opt/own", "of the image").file("opt/linked", "of the image").program("opt/program", "x");
    fixture.layout().add("build", &Image::provided().layer(layer, Packing::Gzip).with("Entrypoint", json!(null)).with("User", json!("")));
    fixture.undocked(&["pull", &fixture.image("build")]).finish().expect_code(0);
    Some(fixture)
}

/// Runs a script as root inside; its notes are what it saw.
fn seen(fixture: &Fixture, options: &[&str], script: &str) -> Value {
    let line =
        fixture.marked(script).lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ; ") + " ; print-notes";
    let ran = fixture.run_image(&fixture.image("build"), options, &["/var/task/bootstrap", "--line", &line]).finish().expect_code(0);
    fixture.expect_nothing_left();
    serde_json::from_slice(&ran.stdout).expect("notes")
}

#[track_caller]
fn expect_refused(notes: &Value, names: &[&str]) {
    let refused = ["ETXTBSY", "EPERM", "ENOSYS", "EACCES", "EROFS", "EAFNOSUPPORT", "EPROTONOSUPPORT"];
    let wrong: Vec<_> = names.iter().filter(|name| !refused.iter().any(|errno| notes[**name] == *errno)).collect();
    assert!(wrong.is_empty(), "{wrong:?} of {notes:#}");
}

#[test]
fn t7_t8_namespaces_mounts_and_the_kernels_softer_parts_are_refused() {
    let Some(fixture) = build() else { return };
    let calls: &[(&str, libc::c_long, &str)] = &[
        ("unshare-user", libc::SYS_unshare, "0x10000000"),
        ("unshare-mount", libc::SYS_unshare, "0x20000"),
        ("clone3", libc::SYS_clone3, "b:88 88"),
        ("mount", libc::SYS_mount, "s:none s:/mnt s:tmpfs 0 0"),
        ("remount", libc::SYS_mount, "s:none s:/proc/sys s:none 0x1020 0"),
        ("overlay", libc::SYS_mount, "s:overlay s:/opt s:overlay 0 s:lowerdir=/opt:/"),
        ("umount", libc::SYS_umount2, "s:/proc 2"),
        ("umount-mask", libc::SYS_umount2, "s:/proc/sys 2"),
        ("pivot_root", libc::SYS_pivot_root, "s:/opt s:/opt"),
        ("chroot", libc::SYS_chroot, "s:/opt"),
        ("open_tree", libc::SYS_open_tree, "-100 s:/ 1"),
        ("move_mount", libc::SYS_move_mount, "-100 s:/opt -100 s:/mnt 0"),
        ("fsopen", libc::SYS_fsopen, "s:tmpfs 0"),
        ("mount_setattr", libc::SYS_mount_setattr, "-100 s:/ 0 b:32 32"),
        ("setns", libc::SYS_setns, "0 0"),
        ("bpf", libc::SYS_bpf, "0 b:64 64"),
        ("perf", libc::SYS_perf_event_open, "b:64 0 -1 -1 0"),
        ("io_uring", libc::SYS_io_uring_setup, "4 b:120"),
        ("userfaultfd", libc::SYS_userfaultfd, "0"),
        ("add_key", libc::SYS_add_key, "s:user s:name b:4 4 -2"),
        ("handle", libc::SYS_open_by_handle_at, "-100 b:128 0"),
        ("module", libc::SYS_init_module, "b:4 4 s:x"),
        ("sethostname", libc::SYS_sethostname, "s:x 1"),
        ("settime", libc::SYS_clock_settime, "0 b:16"),
        ("alg", libc::SYS_socket, "38 5 0"),
        ("vsock", libc::SYS_socket, "40 1 0"),
        ("packet", libc::SYS_socket, "17 3 0"),
    ];
    let script: String = calls.iter().map(|(name, number, arguments)| format!("syscall {name} {number} {arguments}\n")).collect();
    let names: Vec<&str> = calls.iter().map(|(name, ..)| *name).collect();
    expect_refused(&seen(&fixture, &[], &script), &names);
}

/// Where the outer `/proc` is bound, nothing of what is mounted for the root is shown with it.
#[test]
fn the_layers_are_not_shown_in_proc() {
    let Some(fixture) = build() else { return };
    let notes = seen(&fixture, &[], "list proc /proc\nread mounts /proc/mounts");
    let names: Vec<&str> = notes["proc"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(names.contains(&"sys") && !names.contains(&"upper") && !names.contains(&"lower"), "{names:?}");
}

#[test]
fn t5_t6_nothing_of_the_machines_is_roots() {
    let Some(fixture) = build() else { return };
    let files = ["kernel/core_pattern", "vm/overcommit_ratio", "net/ipv4/ip_forward", "user/max_user_namespaces"];
    let mut script: String = files.iter().map(|file| format!("write {file} /proc/sys/{file} 7\n")).collect();
    script += "write trigger /proc/sysrq-trigger h\nread uid_map /proc/self/uid_map\nread status /proc/self/status\nread mounts /proc/self/mountinfo\n\
               open-write zero /dev/mem\nlist one /proc/1/root/\nexec image /proc/1/exe\nopen-write init /proc/1/exe\n\
               copy program {task}/bootstrap /opt/set\nchmod set /opt/set 6755\nexec gained /opt/set --line read s /proc/self/status ; print-notes\n";
    let notes = seen(&fixture, &[], &script.replace(" ; print-notes", ""));
    expect_refused(&notes, &files);
    expect_refused(&notes, &["init"]);
    assert_eq!(notes["zero"], "ENOENT");
    assert_eq!((&notes["program"], &notes["set"]), (&json!("ok"), &json!("ok")), "a package may bring a set-id file");
    let status = notes["status"].as_str().expect("text");
    for wanted in [format!("CapPrm:\t{KEPT}"), format!("CapEff:\t{KEPT}"), format!("CapBnd:\t{KEPT}"), "CapInh:\t0000000000000000".into()] {
        assert!(status.contains(&wanted), "{wanted}: {status}");
    }
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    let outer: u32 = notes["uid_map"].as_str().and_then(|map| map.split_whitespace().nth(1)?.parse().ok()).expect("a map");
    assert_ne!(outer, 0, "never the machine's root");
    let mounts = notes["mounts"].as_str().expect("text");
    assert!(
        !mounts.contains("upper/") && mounts.lines().filter(|line| line.contains(" / / ")).all(|line| line.contains("nosuid")),
        "{mounts}"
    );
    assert!(!mounts.contains(&fixture.cache().display().to_string()), "nothing tells where the image lies: {mounts}");
}

/// All of the store but times of looks: names, kinds, modes, sizes, contents.
fn store(fixture: &Fixture) -> BTreeMap<PathBuf, (u32, u64, u64, Vec<u8>)> {
    let face = |path: &PathBuf| {
        let found = fs::symlink_metadata(path).expect("it exists");
        let contents = if found.is_file() { fs::read(path).unwrap_or_default() } else { Vec::new() };
        (path.clone(), (found.mode(), found.ino(), found.nlink(), contents))
    };
    everything_below(&fixture.cache().join("v1")).iter().map(face).collect()
}

#[test]
fn t13_the_image_is_never_changed() {
    let Some(fixture) = build() else { return };
    let before = store(&fixture);
    let notes = seen(
        &fixture,
        &[],
        "append own /opt/own x\nlink hard /opt/linked /opt/second\nappend second /opt/second x\nchmod mode /opt/program 777\nremove gone /opt/own\n\
         append passwd /etc/passwd x\nlink across /opt/linked /tmp/third\nappend third /tmp/third x\nread linked /opt/linked",
    );
    for done in ["own", "hard", "second", "mode", "gone", "passwd", "across", "third"] {
        assert_eq!(notes[done], "ok", "{done}: {notes}");
    }
    assert_eq!(notes["linked"], "of the imagexx");
    assert_eq!(store(&fixture), before);
}

#[test]
fn nothing_in_a_volume_works_on_the_host() {
    let Some(fixture) = build() else { return };
    let folder = fixture.path().join("out");
    fs::create_dir(&folder).expect("made");
    fs::write(folder.join("there"), "x").expect("written");
    let volume = format!("{}:/out", folder.display());
    // struct vfs_cap_data, version 2: CAP_SETUID, effective.
    let set_capability = libc::SYS_setxattr;
    let notes = seen(
        &fixture,
        &["-v", &volume],
        &format!(
            "write made /out/made x\nchmod user /out/made 4755\nchmod group /out/made 2755\nchmod there /out/there 6777\n\
             syscall open {openat} -100 s:/out/new 0x41 0xdff\nsyscall node {mknod} -100 s:/out/node 0x21ff 0x103\n\
             syscall file {mknod} -100 s:/out/file 0x8fff 0\nsyscall capability {set_capability} s:/out/made s:security.capability b:20 20 0\n\
             syscall trusted {set_capability} s:/out/made s:trusted.x b:4 4 0\nlink out /out/there /opt/there\nread status /proc/self/status",
            openat = libc::SYS_openat,
            mknod = libc::SYS_mknodat,
        ),
    );
    expect_refused(&notes, &["user", "group", "there", "open", "file", "trusted"]);
    assert_ne!(notes["capability"], "ok", "{notes}");
    assert_eq!(notes["out"], "EXDEV");
    assert_eq!(notes["node"], "ok", "it is said to be made");
    assert!(notes["status"].as_str().is_some_and(|status| status.contains("CapBnd:\t000000000000040a")), "{notes}");
    let names: Vec<_> = fs::read_dir(&folder).expect("read").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    for name in names {
        let found = folder.join(&name).symlink_metadata().expect("there");
        assert!(found.is_file() && found.mode() & 0o6000 == 0, "{name:?}: {:o}", found.mode());
    }
}

/// Root inside owns what its caller owns, and nothing else.
#[test]
fn files_of_others_stay_theirs() {
    let Some(fixture) = build() else { return };
    if !skip::is_root() {
        skip::skip(skip::Lack::OtherUser, "only root has files of others to show");
        return;
    }
    let folder = fixture.path().join("out");
    fs::create_dir(&folder).expect("made");
    fs::write(folder.join("theirs"), "secret").expect("written");
    fs::set_permissions(folder.join("theirs"), fs::Permissions::from_mode(0o600)).expect("set");
    std::os::unix::fs::chown(folder.join("theirs"), Some(12345), Some(12345)).expect("root may");
    let volume = format!("{}:/out", folder.display());
    let notes = seen(&fixture, &["-v", &volume], "read theirs /out/theirs\nopen-write write /out/theirs\nchmod mode /out/theirs 666");
    // 75 is EOVERFLOW: an owner that is none inside.
    assert_eq!((&notes["theirs"], &notes["write"], &notes["mode"]), (&json!("EACCES"), &json!("EACCES"), &json!("errno 75")));
}

/// What root inside keeps where a range of ids is mapped: also to give files away, to take other ids, set-group-id bits, signals to others inside.
const KEPT_WITH_IDS: &str = "00000000800004fb";

/// Where there is a range of subordinate ids: [`build`]. An ordinary user needs one in the machine's databases.
fn build_with_ids() -> Option<Fixture> {
    let fixture = build()?;
    let tried =
        fixture.undocked(&["run", "--userns", "subid", "--entrypoint", "/bin/probe", &fixture.image("build"), "--line", "exit 0"]).finish();
    if !skip::is_root() && tried.err().contains("no range of") {
        skip::skip(skip::Lack::Providable, "this user has no range of subordinate ids (tests/run gives one)");
        return None;
    }
    Some(fixture)
}

#[test]
fn ids_of_a_range_are_no_others() {
    let Some(fixture) = build_with_ids() else { return };
    let folder = fixture.path().join("out");
    fs::create_dir(&folder).expect("made");
    fs::write(folder.join("own"), "secret").expect("written");
    fs::set_permissions(folder.join("own"), fs::Permissions::from_mode(0o600)).expect("set");
    let volume = format!("{}:/out", folder.display());
    let (setresuid, setresgid, setgroups, fchownat) = (libc::SYS_setresuid, libc::SYS_setresgid, libc::SYS_setgroups, libc::SYS_fchownat);
    let script = format!(
        "read uids /proc/self/uid_map\nread gids /proc/self/gid_map\nread status /proc/self/status\n\
         syscall past {fchownat} -100 s:/opt/own 65536 0 0\nsyscall past-group {fchownat} -100 s:/opt/own 0 65536 0\n\
         syscall past-user {setresuid} 65536 65536 65536\nsyscall groups {setgroups} 0 0\n\
         syscall group {setresgid} 5 5 5\nsyscall user {setresuid} 5 5 5\nread after /proc/self/status\n\
         syscall back {setresuid} 0 0 0\nsyscall back-group {setresgid} 0 0 0\nsyscall groups-after {setgroups} 1 b:4\n\
         read secret /out/own\nopen-write change /out/own\nchmod mode /out/own 666\nsyscall give {fchownat} -100 s:/out/own 5 5 0\n\
         write beside /out/beside x\nlink out /out/own /out/second"
    );
    let notes = seen(&fixture, &["--userns", "subid", "-v", &volume], &script);
    let status = notes["status"].as_str().expect("text");
    // Less the file capabilities, which would count outside.
    let kept = KEPT_WITH_IDS.replacen('8', "0", 1);
    for wanted in [format!("CapPrm:\t{kept}"), format!("CapEff:\t{kept}"), format!("CapBnd:\t{kept}"), "Groups:\t \n".into()] {
        assert!(status.contains(&wanted), "{wanted}: {status}");
    }
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    for name in ["uids", "gids"] {
        let map: Vec<u32> = notes[name].as_str().expect("a map").split_whitespace().map(|word| word.parse().expect("a number")).collect();
        let [0, own, 1, 1, first, 65535] = *map else { panic!("{map:?}") };
        assert!(own > 0 && first > 0 && !(first..first + 65535).contains(&own), "never the machine's root: {map:?}");
        assert!(skip::is_root() || own == nix::unistd::geteuid().as_raw() || own == nix::unistd::getegid().as_raw(), "{map:?}");
    }
    // Ids that are not mapped cannot be named.
    assert_eq!((&notes["past"], &notes["past-group"], &notes["past-user"]), (&json!("EINVAL"), &json!("EINVAL"), &json!("EINVAL")));
    assert_eq!((&notes["groups"], &notes["group"], &notes["user"]), (&json!("ok"), &json!("ok"), &json!("ok")));
    // As another user of the range: no way back, and nothing of the caller's.
    let after = notes["after"].as_str().expect("text");
    assert!(
        after.contains("Uid:\t5\t5\t5\t5\n") && after.contains("CapEff:\t0000000000000000") && after.contains("NoNewPrivs:\t1"),
        "{after}"
    );
    expect_refused(&notes, &["back", "back-group", "groups-after", "secret", "change", "mode", "give", "beside", "out"]);
}

#[test]
fn a_range_reaches_no_files_of_others_and_no_more_of_the_kernel() {
    let Some(fixture) = build_with_ids() else { return };
    let files = ["kernel/core_pattern", "vm/overcommit_ratio", "user/max_user_namespaces"];
    let mut script: String = files.iter().map(|file| format!("write {file} /proc/sys/{file} 7\n")).collect();
    script += &format!(
        "syscall unshare {unshare} 0x10000000\nsyscall mount {mount} s:none s:/mnt s:tmpfs 0 0\nsyscall chroot {chroot} s:/opt\n\
         syscall setns {setns} 0 0\nsyscall bpf {bpf} 0 b:64 64\nsyscall ptrace-of {keyctl} 0 0 0\nsyscall handle {handle} -100 b:128 0\n\
         syscall device {mknod} -100 s:/opt/disk 0x61b6 0x800\nread disk /opt/disk\nopen-write init /proc/1/exe\n\
         copy program {{task}}/bootstrap /opt/set\nchmod set /opt/set 4755\nsyscall owner {fchownat} -100 s:/opt/set 5 5 0",
        unshare = libc::SYS_unshare,
        mount = libc::SYS_mount,
        chroot = libc::SYS_chroot,
        setns = libc::SYS_setns,
        bpf = libc::SYS_bpf,
        keyctl = libc::SYS_keyctl,
        handle = libc::SYS_open_by_handle_at,
        mknod = libc::SYS_mknodat,
        fchownat = libc::SYS_fchownat,
    );
    let notes = seen(&fixture, &["--userns", "subid"], &script);
    expect_refused(&notes, &files);
    expect_refused(&notes, &["unshare", "mount", "chroot", "setns", "bpf", "ptrace-of", "handle", "init"]);
    assert_eq!((&notes["device"], &notes["disk"]), (&json!("ok"), &json!("ENOENT")), "it is said to be made");
    assert_eq!((&notes["set"], &notes["owner"]), (&json!("ok"), &json!("ok")), "a package may bring a set-id file");
    if !skip::is_root() {
        let notes =
            seen(&fixture, &["--userns", "subid", "-v", "/etc:/machine"], "read shadow /machine/shadow\nopen-write passwd /machine/passwd");
        assert_eq!((&notes["shadow"], &notes["passwd"]), (&json!("EACCES"), &json!("EACCES")));
        return;
    }
    // Whose owner is neither the volume's nor of the range: nobody inside owns it.
    let folder = fixture.path().join("out");
    fs::create_dir(&folder).expect("made");
    for (name, owner) in [("theirs", 12345), ("of-accounts", 1000), ("below", 0x7800_0000), ("above", 0x7800_0000 + 65536)] {
        fs::write(folder.join(name), "secret").expect("written");
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o600)).expect("set");
        std::os::unix::fs::chown(folder.join(name), Some(owner), Some(owner)).expect("root may");
        let volume = format!("{}:/out", folder.display());
        let script = format!(
            "read file /out/{name}\nopen-write write /out/{name}\nchmod mode /out/{name} 666\nsyscall own {} -100 s:/out/{name} 0 0 0",
            libc::SYS_fchownat
        );
        let notes = seen(&fixture, &["--userns", "subid", "-v", &volume], &script);
        // 75 is EOVERFLOW: an owner that is none inside.
        assert_eq!((&notes["file"], &notes["write"]), (&json!("EACCES"), &json!("EACCES")), "{name}");
        assert!(notes["mode"] == "errno 75" || notes["mode"] == "EPERM", "{name}: {notes}");
        assert!(notes["own"] == "errno 75" || notes["own"] == "EPERM", "{name}: {notes}");
    }
}

/// Whoever a process inside is, its calls are supervised.
#[test]
fn the_networks_rules_hold_for_every_id_of_a_range() {
    let Some(fixture) = build_with_ids() else { return };
    let [open, closed] = [(), ()].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free"));
    closed.set_nonblocking(true).expect("set");
    let [open_port, closed_port] = [&open, &closed].map(|listener| listener.local_addr().expect("bound").port());
    // The host's loopback as the sandbox sees it.
    let gateway = "198.18.111.1";
    let script = format!(
        "syscall groups {} 0 0\nsyscall group {} 5 5 5\nsyscall user {} 6 6 6\nread status /proc/self/status\n\
         connect open {gateway}:{open_port}\nconnect closed {gateway}:{closed_port}",
        libc::SYS_setgroups,
        libc::SYS_setresgid,
        libc::SYS_setresuid,
    );
    let allowed = format!("{gateway}:{open_port}");
    let notes = seen(&fixture, &["--userns", "subid", "--network", "private", "--allow-net", &allowed], &script);
    assert!(notes["status"].as_str().is_some_and(|status| status.contains("Uid:\t6\t6\t6\t6\n")), "{notes}");
    assert_eq!(notes["open"], "ok", "{notes}");
    assert_ne!(notes["closed"], "ok", "{notes}");
    assert!(closed.accept().is_err(), "a connection came that no rule allows");
}
