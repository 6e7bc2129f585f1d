//! `--userns subid`: a range of ids in a root that may be written to, so that owners and users are real; and what becomes of it where there is no range.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::build_image::Build;
use tests::leftovers::everything_below;
use tests::{Fixture, Ran, Run, place, skip, skip_for_this_user};

const SUBID: [&str; 2] = ["--userns", "subid"];

/// Where there is a range: the build image, and the first host ids of user and group.
fn build() -> Option<(Build, (u32, u32))> {
    let build = Build::new()?;
    if skip::is_root() {
        // No account has it.
        return Some((build, (0x7800_0001, 0x7800_0001)));
    }
    let name = nix::unistd::User::from_uid(nix::unistd::geteuid()).expect("users can be looked up").expect("we have a name").name;
    let first = |database: &str| {
        let text = fs::read_to_string(database).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))?.split_once(':'))?;
        line.0.parse().ok()
    };
    let (Some(uid), Some(gid), true) = (first("/etc/subuid"), first("/etc/subgid"), Path::new("/usr/bin/newuidmap").exists()) else {
        skip::skip(skip::Lack::Providable, "this user has no range of subordinate ids, or there is no newuidmap (tests/run gives both)");
        return None;
    };
    Some((build, (uid, gid)))
}

fn ok(build: &Build, options: &[&str], script: &str) -> Ran {
    let ran = build.ok(&[&SUBID, options].concat(), script);
    assert!(everything_below(&build.fixture.cache().join("runs")).is_empty(), "nothing is left");
    ran
}

#[test]
fn owners_are_real() {
    let Some((build, _)) = build() else { return };
    let before = build.trees();
    let script = "id -u; touch /f; chown 101:102 /f; stat -c %u:%g /f; chown -h nobody /f; stat -c %u:%g /f; chown 7:8 /closed/file; stat -c %u:%g /closed/file; \
                  chown 65535:65535 /opt/kept; stat -c %u:%g /opt/kept; ! chown 65536 /f; mknod /dev/made c 1 3; [ ! -e /dev/made ]; \
                  touch /s; chown 5:6 /s; chmod 6755 /s; stat -c %u:%g:%a /s";
    assert_eq!(ok(&build, &[], script).out(), "0\n101:102\n99:102\n7:8\n65535:65535\n5:6:6755\n".replace("99:", &nobody(&build)));
    assert_eq!(build.trees(), before, "the image is as it was");
    // Without it they are as ever.
    assert_eq!(build.ok(&["--userns", "single"], "touch /f; chown 101:102 /f; stat -c %u:%g /f").out(), "0:0\n");
}

fn nobody(build: &Build) -> String {
    let line = build.ok(&[], "grep ^nobody: /etc/passwd").out();
    format!("{}:", line.split(':').nth(2).expect("a user id"))
}

#[test]
fn files_in_volumes_are_the_callers_or_the_ranges() {
    let Some((build, (uid, gid))) = build() else { return };
    let folder = build.fixture.path().join("out");
    fs::create_dir(&folder).expect("made");
    let volume = format!("{}:/out", folder.display());
    let script = "cd /out; echo x > own; mkdir given; echo y > given/file; chown -R 33:44 given; stat -c %u:%g own given; ! chmod 4755 given/file; ! chmod 2755 own";
    assert_eq!(ok(&build, &["-v", &volume], script).out(), "0:0\n33:44\n");
    let owner = |name: &str| {
        let found = folder.join(name).metadata().expect("made inside");
        assert_eq!(found.permissions().mode() & 0o6000, 0, "{name}");
        (found.uid(), found.gid())
    };
    assert_eq!(owner("own"), (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()));
    // 1 inside is the first one.
    assert_eq!(owner("given/file"), (uid + 32, gid + 43));
    // They are the same in the next run, and can be removed there.
    assert_eq!(ok(&build, &["-v", &volume], "cd /out; stat -c %u:%g given/file; rm -r given").out(), "33:44\n");
    assert!(!folder.join("given").exists());
}

/// A volume that belongs to an id of the range is root's own inside, as any volume is.
#[test]
fn a_volume_of_the_ranges_is_roots() {
    let Some((build, (uid, gid))) = build() else { return };
    if !skip::is_root() {
        skip_for_this_user!("only root shows volumes by shifted ids");
    }
    let folder = build.fixture.path().join("out");
    fs::create_dir(&folder).expect("made");
    std::os::unix::fs::chown(&folder, Some(uid + 6), Some(gid + 6)).expect("root may");
    let volume = format!("{}:/out", folder.display());
    let script = "stat -c %u:%g /out; echo x > /out/own; echo y > /out/other; chown 8:9 /out/other; stat -c %u:%g /out/own /out/other";
    assert_eq!(ok(&build, &["-v", &volume], script).out(), "0:0\n0:0\n8:9\n");
    let owner = |name: &str| folder.join(name).metadata().map(|found| (found.uid(), found.gid())).expect("made inside");
    assert_eq!((owner("own"), owner("other")), ((uid + 6, gid + 6), (uid + 7, gid + 8)));
}

#[test]
fn users_are_others_than_root() {
    let Some((build, _)) = build() else { return };
    let script = "echo $(id -u):$(id -g) $(id -G) $HOME; ! touch /x; ! touch /closed/file; cd /var/tmp; touch own; stat -c %u:%g own; ! chown 6 own; grep CapEff /proc/self/status";
    let ran = ok(&build, &["-u", "5:7"], script);
    assert_eq!(ran.out(), "5:7 7 /\n5:7\nCapEff:\t0000000000000000\n".replace("7 /\n", &format!("7 {}\n", home(&build, "5"))));
    let ran = ok(&build, &["-u", "0:7"], "id -u; id -g; touch /f; chown 5 /f; stat -c %u:%g /f");
    assert_eq!(ran.out(), "0\n7\n5:7\n");
}

/// Of the image's user of that number.
fn home(build: &Build, uid: &str) -> String {
    let passwd = build.ok(&[], "cat /etc/passwd").out();
    let of = |line: &str| line.split(':').nth(2) == Some(uid);
    passwd.lines().find(|line| of(line)).and_then(|line| line.split(':').nth(5)).unwrap_or("/").to_owned()
}

#[test]
fn nothing_is_left_of_what_others_own() {
    let Some((build, _)) = build() else { return };
    let script = "mkdir -p /a/b/c /own; touch /a/b/c/f /own/x; chmod 000 /a/b/c; chmod 700 /a /a/b; chown -R 7:8 /a; chown 9:9 /own/x; chmod 1777 /own; \
                  mkdir -p /deep/$(seq -s / 100); chown -R 65535:1 /deep; chown 3 /";
    ok(&build, &[], script);
}

#[test]
fn what_a_killed_run_left_to_others_is_removed_by_the_next() {
    let Some((build, _)) = build() else { return };
    let script = "mkdir -p /a/b; echo x > /a/b/written; chmod 700 /a/b; chown -R 7:8 /a; echo ready >&2; exec sleep 1000";
    let running = build.run(&[&SUBID[..], &["-i"]].concat(), script).start();
    running.wait_for_stderr("ready");
    running.signal(Signal::SIGKILL);
    running.finish();
    let runs = build.fixture.cache().join("runs");
    let upper = everything_below(&runs).into_iter().find(|path| path.ends_with("upper/a")).expect("it was written");
    assert_ne!(upper.metadata().expect("it is there").uid(), nix::unistd::geteuid().as_raw());
    build.ok(&[], "true");
    assert!(everything_below(&runs).is_empty());
}

#[test]
fn without_an_overlay_there_is_a_copy() {
    let Some((build, _)) = build() else { return };
    if !skip::is_root() {
        skip_for_this_user!("only root mounts what no overlay can lie on without a user namespace around");
    }
    let over = build.fixture.path().join("over");
    for name in ["", "upper", "work"] {
        fs::create_dir(over.join(name)).expect("made");
    }
    let (cache, over) = (build.fixture.cache(), over.display());
    let mount = format!(
        "mount -t overlay none -o lowerdir={0},upperdir={over}/upper,workdir={over}/work {0} && exec \"$0\" \"$@\"",
        cache.display()
    );
    let run = Run::new("unshare").args(["-m", "sh", "-c", &mount]).arg(place::undocked()).arg("run").args(SUBID);
    let run = run.args([&build.reference, "bash", "-c", "touch /f; chown 101:102 /f; stat -c %u:%g /f; stat -c %u:%g /closed/file"]);
    let ran = run.env("UNDOCKED_CACHE", &cache).env("HOME", build.fixture.path()).current_dir(build.fixture.path()).finish();
    assert_eq!(ran.expect_code(0).expect_err("has a copy of the image").out(), "101:102\n0:0\n");
}

/// Root of an outer user namespace is an ordinary user of the machine; there its databases and programs can be others, without anybody's rights.
fn elsewhere(build: &Build, changes: &str) -> Ran {
    let script = format!("{changes}; exec \"$0\" \"$@\"");
    let run = Run::new("unshare").args(["-mUr", "sh", "-ec", &script]).arg(place::undocked()).arg("run").args(SUBID);
    let run = run.args([&build.reference, "true"]);
    let ran = run.env("UNDOCKED_CACHE", build.fixture.cache()).env("HOME", build.fixture.path()).current_dir(build.fixture.path()).finish();
    let ran = ran.expect_code(125).expect_err("hint: ");
    assert_eq!(ran.out(), "");
    ran
}

#[test]
fn what_is_missing_is_said_and_nothing_less_is_taken() {
    let Some((build, _)) = build() else { return };
    let database = |name: &str, text: &str| {
        let path = build.fixture.path().join(name);
        fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let (none, some) = (database("none", "other:100000:65536\n"), database("some", "root:100000:65536\n"));
    let small = database("small", "0:100000:1000\n");
    let over = |uids: &str, gids: &str| format!("mount --bind {uids} /etc/subuid; mount --bind {gids} /etc/subgid");
    elsewhere(&build, &over(&none, &some)).expect_err("`/etc/subuid` gives root no range of 65535 subordinate ids\nhint: give one: ");
    elsewhere(&build, &over(&some, &none)).expect_err("`/etc/subgid` gives root no range");
    elsewhere(&build, &over(&some, &small)).expect_err("`/etc/subgid` gives root no range of 65535 subordinate ids, only smaller ones");
    for name in ["newuidmap", "newgidmap"] {
        let hidden = format!("{}; mount --bind /dev/null $(realpath /usr/bin/{name})", over(&some, &some));
        elsewhere(&build, &hidden).expect_err(&format!("there is no `{name}`"));
    }
    // It may not map there: the outer namespace has one id.
    elsewhere(&build, &over(&some, &some)).expect_err("map a range of subordinate ids: `/usr/bin/newuidmap` failed: ");
    assert!(everything_below(&build.fixture.cache().join("runs")).is_empty());
}

#[test]
fn who_may_gain_no_rights_is_told_so() {
    let Some((build, _)) = build() else { return };
    if skip::is_root() {
        skip_for_this_user!("root gains none by a program");
    }
    let run = Run::new("setpriv").arg("--no-new-privs").arg(place::undocked()).arg("run").args(SUBID).args([&build.reference, "true"]);
    let run = run.env("UNDOCKED_CACHE", build.fixture.cache()).env("HOME", build.fixture.path());
    run.finish().expect_code(125).expect_err("no_new_privs").expect_err("hint: ");
}

#[test]
fn it_is_for_plain_commands_alone() {
    let Some(fixture) = Fixture::new() else { return };
    let provided = fixture.provided();
    let run = |words: &[&str]| fixture.undocked(&[&["run"], &SUBID[..], words].concat()).finish();
    run(&[&provided, "handler"]).expect_code(125).expect_err("`--userns subid` is for plain commands in images").expect_err("hint: ");
    run(&["host", "handler"]).expect_code(125).expect_err("`--userns subid` is for plain commands in images");
    run(&["--read-only", &provided]).expect_code(2).expect_err("`--read-only` has none").expect_err("hint: ");
    run(&["--userns", "host", &provided]).expect_code(2).expect_err("`--userns`").expect_err("single, subid");
    fixture.docker(&["run", "--userns", "subid", &provided]).finish().expect_code(125).expect_err("`docker run --userns` is not supported");
}

#[test]
fn doctor_says_the_range_and_who_maps_it() {
    let Some((build, (uid, _))) = build() else { return };
    let ran = build.fixture.undocked(&["doctor", "--json"]).finish().expect_code(0);
    let object: Value = serde_json::from_slice(&ran.stdout).expect("one object");
    let all = object["rest"].as_array().expect("a list");
    let found = all.iter().find(|finding| finding["step"] == "map a range of subordinate ids (`--userns subid`)").expect("it was tried");
    let by = if skip::is_root() { "undocked itself" } else { "`/usr/bin/newuidmap`" };
    let detail = found["detail"].as_str().unwrap_or_default();
    assert!(found["verdict"] == "granted" && found["optional"] == true, "{found}");
    assert!(detail.contains(&format!("65535 user ids from {uid}, ")) && detail.ends_with(&format!("by {by}")), "{detail}");
    let text = build.fixture.undocked(&["doctor"]).finish().out();
    assert!(text.contains("  ok       map a range of subordinate ids (`--userns subid`): 65535 user ids from "), "{text}");
}
