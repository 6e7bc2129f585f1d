//! T24: machines that grant less than a sandbox is made of. An outer filter lets steps fail, or hides parts of `/proc`, before undocked starts; the
//! best isolation that is left must be chosen, said by name, and work, and `--isolation full` must refuse.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use tests::{Fixture, Ran, place, skip, skip_for_this_user};

const SCRIPT: &str = "next\nrespond ok";

/// One machine: what it lacks, and the words for what is left.
struct Machine {
    lacks: &'static [&'static str],
    says: &'static str,
}

fn machine(lacks: &'static [&'static str], says: &'static str) -> Machine {
    Machine { lacks, says }
}

const NO_USERNS: [&str; 2] = ["--refuse", "clone-newuser"];
const NO_NAMESPACES: [&str; 6] = ["--refuse", "clone-newuser", "--refuse", "mount", "--refuse", "open_tree"];

fn fixture() -> Option<Fixture> {
    if place::isolation().is_some() {
        skip::skip(skip::Lack::OtherUser, "these tests choose the isolation themselves");
        return None;
    }
    let fixture = Fixture::new()?;
    fixture.script(SCRIPT);
    Some(fixture)
}

fn run(fixture: &Fixture, lacks: &[&str], options: &[&str]) -> Ran {
    let volume = format!("{}:/var/task:ro", fixture.task().display());
    let image = fixture.image("provided");
    let arguments = [&["run", "-v", &volume][..], options, &[&image, "f.handler", "{}"]].concat();
    fixture.degraded(lacks, &arguments).finish()
}

/// The function works, what is missing is said once, and nothing is left.
#[track_caller]
fn works(fixture: &Fixture, lacks: &[&str], says: &str) {
    let ran = run(fixture, lacks, &[]).expect_code(0).expect_err(says);
    assert_eq!(ran.err().matches("undocked: this sandbox").count(), 1, "{}", ran.err());
    assert_eq!(ran.result(), "ok");
    fixture.expect_nothing_left();
}

#[track_caller]
fn full_refuses(fixture: &Fixture, lacks: &[&str]) {
    let ran = run(fixture, lacks, &["--isolation", "full"]).expect_code(125).expect_err("undocked doctor");
    assert!(!ran.err().contains("START"), "{}", ran.err());
    fixture.expect_nothing_left();
}

/// What an ordinary user and root alike are left with.
#[test]
fn the_best_isolation_that_is_left_is_chosen() {
    let Some(fixture) = fixture() else { return };
    for machine in [
        machine(&["--refuse", "pivot_root"], "isolation `no-pivot`"),
        machine(&["--mask-proc"], "isolation `proc-bind`"),
        machine(&["--mask-proc", "--refuse", "pivot_root"], "isolation `no-pivot`"),
        machine(&["--refuse", "landlock_create_ruleset=38"], "confine file access (Landlock)"),
        machine(&["--refuse", "landlock_create_ruleset=95"], "confine file access (Landlock)"),
    ] {
        works(&fixture, machine.lacks, machine.says);
        full_refuses(&fixture, machine.lacks);
    }
}

#[test]
fn a_host_name_is_no_protection() {
    let Some(fixture) = fixture() else { return };
    let lacks = ["--refuse", "sethostname"];
    works(&fixture, &lacks, "set the host name (Operation not permitted)");
    run(&fixture, &lacks, &["--isolation", "full"]).expect_code(0);
}

#[test]
fn descriptors_are_closed_without_close_range() {
    let Some(fixture) = fixture() else { return };
    for errno in ["close_range=1", "close_range=38"] {
        let ran = run(&fixture, &["--refuse", errno], &[]).expect_code(0);
        assert_eq!(ran.result(), "ok");
    }
}

/// `unshare -r`, rootless podman: root there is an ordinary user of the machine.
#[test]
fn root_of_a_user_namespace_is_fully_isolated() {
    let Some(fixture) = fixture() else { return };
    if skip::is_root() {
        skip_for_this_user!("the machine's root would be mapped to itself");
    }
    let ran = run(&fixture, &["--namespace-root"], &["--isolation", "full"]).expect_code(0);
    assert_eq!(ran.result(), "ok");
    works(&fixture, &["--namespace-root", "--mask-proc"], "isolation `proc-bind`");
}

#[test]
fn root_goes_on_without_user_namespaces() {
    let Some(fixture) = fixture() else { return };
    if !skip::is_root() {
        skip_for_this_user!("only root can go on");
    }
    for machine in [
        machine(&NO_USERNS, "isolation `root-without-userns`"),
        machine(&["--refuse", "clone-newuser=38", "--refuse", "pivot_root"], "enter the new root (pivot_root)"),
        machine(&NO_NAMESPACES, "isolation `chroot`"),
        machine(&["--refuse", "open_tree=38", "--refuse", "move_mount=38", "--refuse", "mount_setattr=38"], "isolation `chroot`"),
    ] {
        works(&fixture, machine.lacks, machine.says);
        full_refuses(&fixture, machine.lacks);
    }
}

#[test]
fn an_ordinary_user_without_namespaces_is_told_what_to_do() {
    let Some(fixture) = fixture() else { return };
    if skip::is_root() {
        skip_for_this_user!("root goes on");
    }
    let ran = run(&fixture, &NO_USERNS, &[]).expect_code(125).expect_err("clone into new namespaces: Operation not permitted");
    assert!(ran.err().contains("hint: `undocked doctor`"), "{}", ran.err());
    full_refuses(&fixture, &NO_USERNS);
    fixture.expect_nothing_left();
}

/// A function of this machine's own userland needs no root of its own.
#[test]
fn this_machines_userland_runs_in_place() {
    let Some(fixture) = fixture() else { return };
    if skip::is_root() {
        skip_for_this_user!("root has better ways");
    }
    let volume = format!("{}:/var/task:ro", fixture.task().display());
    fixture.script("next\nnote-env env\nrespond-notes");
    let ran = fixture.degraded(&NO_USERNS, &["run", "-v", &volume, "host", "f.handler", "{}"]).finish();
    let ran = ran.expect_code(0).expect_err("isolation `in-place`");
    assert!(ran.result().contains(&fixture.task().display().to_string()), "{}", ran.result());
    fixture.expect_nothing_left();
}

/// The job's container is itself an AWS base image: its own runtime is used, in place, by root and by others.
#[test]
fn a_job_in_an_aws_base_image_uses_its_runtime_in_place() {
    let Some(fixture) = fixture() else { return };
    let root = fixture.path().join("base");
    let own = fixture.path().display().to_string();
    for folder in ["var/runtime", "var/lang/bin", "proc", "dev", "etc", "usr", "tmp", own.trim_start_matches('/')] {
        fs::create_dir_all(root.join(folder)).expect("made");
    }
    for link in ["bin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{link}"), root.join(link)).expect("made");
    }
    fs::write(root.join("undocked"), "").expect("made");
    fixture.install_probe(&root.join("var/runtime/bootstrap"));
    fs::remove_file(fixture.task().join("bootstrap")).expect("it was there");
    fixture.script("note-args args\nnote-env env\nnote-cwd cwd\nwrite task /var/task/x y\nnext\nrespond-notes\nnext");
    let binds = [format!("{}:/undocked", place::undocked().display()), "/usr:/usr".to_owned(), format!("{own}:{own}")];
    let lacks: Vec<&str> = ["--root", root.to_str().expect("a path of ours")]
        .into_iter()
        .chain(binds.iter().flat_map(|bind| ["--bind", bind.as_str()]))
        .chain(["--refuse", "clone-newuser", "--refuse", "mount", "--refuse", "open_tree"])
        .collect();
    let volume = format!("{}:/var/task:ro", fixture.task().display());
    let task = fixture.task().display().to_string();
    let ran = fixture.degraded_by("/undocked", &lacks, &["run", "-v", &volume, "host", "app.handler", "{}"]).finish();
    let ran = ran.expect_code(0).expect_err("this machine is an AWS Lambda base image").expect_err("isolation `in-place`");
    let notes = ran.json();
    assert_eq!((&notes["args"][0], &notes["cwd"]), (&json!("/var/runtime/bootstrap"), &json!(task)), "{notes}");
    assert_eq!((&notes["env"]["LAMBDA_TASK_ROOT"], &notes["env"]["_HANDLER"]), (&json!(task), &json!("app.handler")));
    // A plain command needs no volume.
    let pwd = fixture.degraded_by("/undocked", &lacks, &["run", "--entrypoint", "/bin/pwd", "host"]).finish().expect_code(0);
    assert_eq!(pwd.out(), "/\n");
    fixture.expect_nothing_left();
}

/// Root's function is nobody in place: what it cannot get to is named.
#[test]
fn what_is_roots_alone_is_named_in_place() {
    let Some(fixture) = fixture() else { return };
    if !skip::is_root() {
        skip_for_this_user!("an ordinary user's function is that user");
    }
    fs::set_permissions(fixture.task(), fs::Permissions::from_mode(0o700)).expect("set");
    let volume = format!("{}:/var/task:ro", fixture.task().display());
    for isolation in ["auto", "in-place"] {
        let ran = fixture.degraded(&NO_NAMESPACES, &["run", "--isolation", isolation, "-v", &volume, "host", "f.handler", "{}"]).finish();
        let closed = format!("for whom `{}` is closed", fixture.task().display());
        let ran = ran.expect_code(125).expect_err(&closed);
        assert!(ran.err().contains("hint: put it where every user may read it"), "{}", ran.err());
    }
    fixture.expect_nothing_left();
}

/// A network of its own falls to the machine's, and only where nothing that was asked for hangs on it.
#[test]
fn without_a_network_of_its_own_it_has_the_machines() {
    let Some(fixture) = fixture() else { return };
    for call in ["clone-newnet", "pidfd_getfd"] {
        let lacks = ["--refuse", call];
        let ran = run(&fixture, &lacks, &[]).expect_code(0).expect_err("it has this machine's, `--network host`");
        assert_eq!(ran.result(), "ok");
        for options in [&["--network", "none"][..], &["--deny-net", "example.com"], &["--isolation", "full"]] {
            if options == ["--network", "none"] && call == "pidfd_getfd" {
                continue;
            }
            run(&fixture, &lacks, options).expect_code(125);
        }
    }
    fixture.expect_nothing_left();
}

/// An outer supervisor (the kernel allows only one) leaves no way out, and where that matters no run.
#[test]
fn a_network_that_cannot_be_supervised_has_no_way_out() {
    let Some(fixture) = fixture() else { return };
    let lacks = ["--refuse", "seccomp-listener=16"];
    works(&fixture, &lacks, "so it is as `--network none` (Device or resource busy)");
    for options in [&["--isolation", "full"][..], &["--deny-net", "example.com"], &["--allow-net", "example.com"], &["-p", "8080"]] {
        run(&fixture, &lacks, options).expect_code(125).expect_err("seccomp notification");
    }
    run(&fixture, &lacks, &["--network", "none", "--isolation", "full"]).expect_code(0);
    fixture.expect_nothing_left();
}

/// What doctor says is what a run then does.
#[test]
fn doctor_names_the_isolation() {
    let Some(fixture) = fixture() else { return };
    for (lacks, isolation) in [
        (&[][..], "full"),
        (&["--refuse", "pivot_root"], "no-pivot"),
        (&["--mask-proc"], "proc-bind"),
        (&NO_USERNS, if skip::is_root() { "root-without-userns" } else { "none" }),
        (&NO_NAMESPACES, if skip::is_root() { "chroot" } else { "none" }),
    ] {
        let ran = fixture.degraded(lacks, &["doctor", "--json"]).finish();
        let said: serde_json::Value = serde_json::from_slice(&ran.stdout).expect("one object");
        assert_eq!(said["isolation"].as_str().unwrap_or("none"), isolation, "{lacks:?}: {said}");
        assert_eq!((ran.code(), said["functionsCanRun"].as_bool()), if isolation == "none" { (1, Some(false)) } else { (0, Some(true)) });
    }
    let masked = fixture.degraded(&["--mask-proc"], &["doctor"]).finish().expect_code(0);
    assert!(masked.out().contains("systempaths=unconfined"), "{}", masked.out());
    fixture.expect_nothing_left();
}

/// Without these nothing of undocked works; that is said by name.
#[test]
fn what_cannot_be_done_without_is_named() {
    let Some(fixture) = fixture() else { return };
    for (call, says) in [("pidfd_open", "pidfd"), ("seccomp", "install the seccomp filter")] {
        run(&fixture, &["--refuse", call], &[]).expect_code(125).expect_err(says);
        fixture.expect_nothing_left();
    }
}
