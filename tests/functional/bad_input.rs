//! What a user may get wrong: each has its own exit code and says what was wrong, on standard error alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use tests::image::{Image, Packing};
use tests::tar::Tar;
use tests::{Fixture, Ran, place, skip, skip_for_this_user};

/// Asserts a code and that standard output stayed empty and standard error says something.
#[track_caller]
fn refused(ran: Ran, code: i32) -> String {
    let ran = ran.expect_code(code);
    assert!(ran.stdout.is_empty(), "nothing on stdout: {}", ran.out());
    let err = ran.err();
    assert!(!err.trim().is_empty() && !err.contains("panicked") && !err.contains("RUST_BACKTRACE"), "{err}");
    err
}

#[test]
fn unknown_options_and_missing_arguments_are_usage_errors() {
    let fixture = Fixture::without_sandbox();
    let image = fixture.image("provided");
    let cases: [&[&str]; 9] = [
        &["--no-such-option"],
        &["run", "--no-such-option", &image],
        &["run"],
        &["no-such-command"],
        &["run", "--timeout", "soon", &image],
        &["run", "-m", "lots", &image],
        &["run", "-v", "", &image],
        &["run", "--color", "blue", &image],
        &["run", "--pull", "sometimes", &image],
    ];
    for arguments in cases {
        let err = refused(fixture.undocked(arguments).finish(), 2);
        let wrong = arguments.iter().rev().find(|word| **word != image && !word.is_empty()).expect("each case has a word");
        let named = *wrong == "run" || *wrong == "-v" || err.contains(wrong);
        assert!(named, "{arguments:?} names what is wrong: {err}");
    }
}

#[test]
fn a_file_is_no_destination_of_events() {
    let fixture = Fixture::without_sandbox();
    let file = fixture.path().join("letters");
    fs::write(&file, "mine").expect("written");
    let path = file.to_str().expect("text");
    for option in ["--events", "--on-failure", "--on-success", "--dead-letter"] {
        let err = refused(fixture.undocked(&["serve", option, path, "host"]).finish(), 2);
        assert!(err.contains(&format!("`{option}`: `{path}` is no folder")) && err.contains("hint: "), "{err}");
    }
    assert_eq!(fs::read(&file).expect("still there"), b"mine");
}

/// The first event would find it out otherwise, whose client has gone by then.
#[test]
fn folders_of_events_that_cannot_be_written_to_are_refused_at_the_start() {
    if nix::unistd::geteuid().is_root() {
        skip_for_this_user!("root may write anywhere");
    }
    let fixture = Fixture::without_sandbox();
    let locked = fixture.path().join("locked");
    fs::create_dir(&locked).expect("a fresh folder");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).expect("ours");
    let below = locked.join("to/come");
    for option in ["--events", "--on-failure", "--on-success", "--dead-letter"] {
        let err = refused(fixture.undocked(&["serve", option, below.to_str().expect("text"), "host"]).finish(), 2);
        let told = format!("`{option}`: cannot write to the folder `{}`: Permission denied", locked.display());
        assert!(err.contains(&told) && err.contains("hint: "), "{err}");
    }
}

#[test]
fn a_server_with_too_few_descriptors_says_so() {
    let fixture = Fixture::without_sandbox();
    let ran = fixture.undocked_by_shell("ulimit -n 64; exec \"$0\" \"$@\"", &["serve", "--listen", "127.0.0.1:0", "host"]).finish();
    let err = refused(ran, 125);
    assert!(err.contains("64 open files") && err.contains("hint: raise the hard limit"), "{err}");
}

#[test]
fn help_and_version_are_no_errors() {
    let fixture = Fixture::without_sandbox();
    for arguments in [&["--help"][..], &["run", "--help"], &["--version"]] {
        let ran = fixture.undocked(arguments).finish().expect_code(0);
        assert!(!ran.stdout.is_empty() && ran.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn options_after_the_image_belong_to_the_function() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("note-env env\nnext\nnote-event\nrespond-notes\nnext");
    let notes = fixture.run(&[], &["h", "--json"]).finish().expect_code(0).json();
    assert_eq!((&notes["env"]["_HANDLER"], &notes["event-text"]), (&json!("h"), &json!("--json")));
    // lambci's server takes flags before the handler and refuses others.
    let err = refused(fixture.run(&[], &["--foo", "h"]).finish(), 2);
    assert!(err.contains("--foo"), "{err}");
}

#[test]
fn a_reference_that_is_none_is_told_as_such() {
    let fixture = Fixture::without_sandbox();
    for reference in ["", "UPPER/case:tag", "a b", "name:tag:tag", "name@sha256:123", "oci:", "-"] {
        let ran = fixture.undocked(&["run", "--", reference]).finish();
        let code = ran.code();
        assert!(code == 2 || code == 125, "{reference:?}: {code}");
        refused(ran, code);
    }
}

#[test]
fn a_layout_or_a_name_in_it_that_is_missing() {
    let fixture = Fixture::without_sandbox();
    let missing = fixture.path().join("nowhere").display().to_string();
    let err = refused(fixture.undocked(&["run", &format!("oci:{missing}:x")]).finish(), 125);
    assert!(err.contains(&missing), "{err}");
    let err = refused(fixture.undocked(&["run", &fixture.image("some/name:with:colons")]).finish(), 125);
    assert!(err.contains("some/name:with:colons"), "{err}");
}

#[test]
fn a_layout_may_leave_out_the_name_of_its_only_image() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nrespond {}\nnext");
    let only = format!("oci:{}", fixture.path().join("layout").display());
    fixture.run_image(&only, &[], &[]).finish().expect_code(0);
    fixture.layout().add("second", &Image::provided().layer(Tar::new().file("opt/x", "x"), Packing::Gzip));
    let err = refused(fixture.run_image(&only, &[], &[]).finish(), 125);
    assert!(err.contains("second"), "the message names what there is: {err}");
}

#[test]
fn a_volume_whose_source_is_missing() {
    let Some(fixture) = Fixture::new() else { return };
    let missing = fixture.path().join("no-task").display().to_string();
    let err = refused(fixture.undocked(&["run", "-v", &format!("{missing}:/var/task"), &fixture.image("provided")]).finish(), 125);
    assert!(err.contains(&missing), "{err}");
    let err = refused(fixture.undocked(&["run", "--layer", &missing, &fixture.image("provided")]).finish(), 125);
    assert!(err.contains(&missing), "{err}");
}

#[test]
fn a_task_folder_that_we_may_not_read() {
    let Some(fixture) = Fixture::new() else { return };
    if skip::is_root() {
        skip_for_this_user!("root may read every folder");
    }
    fixture.script("next\nrespond {}\nnext");
    fs::set_permissions(fixture.task(), fs::Permissions::from_mode(0o000)).expect("set");
    let ran = fixture.run(&[], &[]).finish();
    fs::set_permissions(fixture.task(), fs::Permissions::from_mode(0o755)).expect("set");
    let code = ran.code();
    assert!(code == 125 || code == 1, "{code}: {}", ran.err());
    let said = format!("{}{}", ran.out(), ran.err());
    assert!(said.to_lowercase().contains("permission denied"), "{said}");
}

#[test]
fn files_of_variables() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("note-env env\nnext\nrespond-notes\nnext");
    let file = fixture.path().join("env");
    fs::write(&file, "# a comment\n\nPLAIN=1\nSPACES= a b \nEQUALS=4=4\nEMPTY=\nQUOTES=\"q\"\nFROM_OUTSIDE\nNOT_SET\n").expect("written");
    let name = file.display().to_string();
    let run = fixture.run(&["--env-file", &name, "-e", "OVER=e", "-e", "PLAIN=2"], &[]).env("FROM_OUTSIDE", "out");
    let env = run.finish().expect_code(0).json()["env"].clone();
    assert_eq!(env["PLAIN"], "2", "-e wins over the file");
    assert_eq!(
        (&env["SPACES"], &env["EQUALS"], &env["EMPTY"], &env["QUOTES"]),
        (&json!(" a b "), &json!("4=4"), &json!(""), &json!("\"q\""))
    );
    assert_eq!((&env["FROM_OUTSIDE"], &env["NOT_SET"]), (&json!("out"), &json!(null)));
    let err = refused(fixture.run(&["--env-file", "/no/such/env-file"], &[]).finish(), 2);
    assert!(err.contains("/no/such/env-file"), "{err}");
}

#[test]
fn the_chain_of_causes_is_printed_once_and_in_small_letters() {
    let fixture = Fixture::without_sandbox();
    let err = refused(fixture.undocked(&["run", "127.0.0.1:9/nobody/listens:1"]).finish(), 125);
    let refusals = err.to_lowercase().matches("connection refused").count();
    assert_eq!(refusals, 1, "the cause is said once: {err}");
    assert!(err.lines().all(|line| !line.starts_with("Error")), "{err}");
}

#[test]
fn an_image_for_another_architecture_is_refused() {
    let Some(fixture) = Fixture::new() else { return };
    let image = Image::provided();
    let layout = fixture.layout();
    let config = image.config_blob("s390x");
    let manifest = image.manifest(&config);
    let digest = tests::image::sha256(&manifest);
    fs::write(layout.blob_path(&digest), &manifest).expect("written");
    fs::write(layout.blob_path(&tests::image::sha256(&config)), &config).expect("written");
    let mut index = layout.index();
    index["manifests"] = json!([{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": manifest.len(),
        "platform": {"architecture": "s390x", "os": "linux"}, "annotations": {"org.opencontainers.image.ref.name": "far"}}]);
    fs::write(fixture.path().join("layout/index.json"), index.to_string()).expect("written");
    let err = refused(fixture.run_image(&fixture.image("far"), &[], &[]).finish(), 125);
    assert!(err.contains("s390x"), "found and wanted are told: {err}");
}

#[test]
fn without_a_home_and_a_cache_it_says_what_to_set() {
    let fixture = Fixture::without_sandbox();
    fixture.layout().add("provided", &Image::provided());
    let ran = tests::Run::new(place::undocked()).args(["pull", &fixture.image("provided")]).finish();
    let err = refused(ran, 125);
    assert!(err.contains("UNDOCKED_CACHE") || err.contains("HOME"), "{err}");
}
