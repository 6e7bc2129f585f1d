//! `-m`, `--tmp-size` and `--cpu`: their forms, and what they do.

use serde_json::json;
use tests::{Fixture, skip, skip_in_isolation};

#[test]
fn the_memory_option_limits_and_is_reported() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("note-env env\nnext\nrespond-notes\nnext");
    for (given, shown) in [("128m", "128"), ("0.125g", "128"), ("134217728", "128"), ("100.9MB", "100")] {
        let ran = fixture.run(&["-m", given], &[]).finish().expect_code(0);
        assert!(ran.err().contains(&format!("\tMemory Size: {shown} MB\t")), "{given}: {}", ran.err());
        assert_eq!(ran.json()["env"]["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"], shown);
    }
    fixture.expect_nothing_left();
}

/// Fills 300 MB: with a lower limit it is killed.
fn is_limited(fixture: &Fixture, run: tests::Run, size: &str) -> bool {
    let ran = run.finish();
    let said = ran.err();
    assert!(said.contains(&format!("\tMemory Size: {size} MB\t")), "{said}");
    fixture.expect_nothing_left();
    match ran.code() {
        0 => false,
        1 => {
            assert!(said.contains("Error Type: Runtime.OutOfMemory"), "{said}");
            true
        }
        code => panic!("{code}: {said}"),
    }
}

#[test]
fn the_variable_is_reported_and_limits_when_there_is_no_option() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nfill-memory plain 300 300\nsleep 400\nrespond {}\nnext");
    let variable = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE";
    let (small, large) = (format!("{variable}=128"), format!("{variable}=1024"));
    assert!(is_limited(&fixture, fixture.run(&["-e", &small], &[]), "128"));
    assert!(is_limited(&fixture, fixture.run(&[], &[]).env(variable, "128"), "128"));
    assert!(is_limited(&fixture, fixture.run(&["-e", &large, "-m", "128m"], &[]), "1024"), "the option limits, the variable is told");
    assert!(!is_limited(&fixture, fixture.run(&["-e", &small, "-m", "1g"], &[]), "128"));
    assert!(!is_limited(&fixture, fixture.run(&[], &[]), "1536"), "the default is told and limits nothing");
}

#[test]
fn an_images_own_variable_is_told_and_limits_nothing() {
    skip_in_isolation!(["in-place"], "about images");
    let Some(fixture) = Fixture::new() else { return };
    let image = tests::image::Image::provided().with("Env", json!(["AWS_LAMBDA_FUNCTION_MEMORY_SIZE=128"]));
    fixture.layout().add("sized", &image);
    fixture.script("next\nfill-memory plain 300 300\nsleep 400\nrespond {}\nnext");
    assert!(!is_limited(&fixture, fixture.run_image(&fixture.image("sized"), &[], &[]), "128"));
}

#[test]
fn tmp_has_the_size_that_is_given() {
    skip_in_isolation!(["chroot", "in-place"], "`/tmp` has no limit of its own there");
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("fill most /tmp/a 15000000\nfill rest /tmp/b 10000000\nnext\nrespond-notes\nnext");
    for (given, rest) in [("20m", "ENOSPC"), ("0.03g", "ok"), ("20971520", "ENOSPC"), ("32768K", "ok")] {
        let notes = fixture.run(&["--tmp-size", given], &[]).finish().expect_code(0).json();
        assert_eq!((&notes["most"], &notes["rest"]), (&json!("ok"), &json!(rest)), "{given}");
    }
    fixture.expect_nothing_left();
}

#[test]
fn sizes_that_make_no_sense() {
    let fixture = Fixture::without_sandbox();
    for (options, said) in [
        (["-m", "lots"], "`--memory` cannot be used: `lots` is not a size"),
        (["-m", "-5m"], "`-5m` is not a size"),
        (["-m", "4m"], "4 MB are not enough"),
        (["--tmp-size", "much"], "`--tmp-size` cannot be used: `much` is not a size"),
        (["--tmp-size", "0"], "`0` is less than one megabyte"),
        (["--cpu", "two"], "`two` is no value for `--cpu`"),
    ] {
        let [option, value] = options;
        fixture.undocked(&["run", option, value, "host"]).finish().expect_code(2).expect_err(said);
    }
}

/// The share of the memory: 36 MB have a fiftieth of a processor.
#[test]
fn the_cpu_rule_of_lambda() {
    skip_in_isolation!(["chroot"], "the function has no `/proc` to measure itself by");
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nburn cpu 400\nrespond-notes\nnext");
    let burnt = |options: &[&str]| {
        let ran = fixture.run(options, &[]).finish().expect_code(0);
        let share = ran.json()["cpu"].as_u64().expect("a number");
        fixture.expect_nothing_left();
        (share, ran.err())
    };
    let (free, said) = burnt(&["-m", "36m"]);
    assert!(!said.contains("limit the CPU share"), "off unless asked for: {said}");
    let (limited, said) = burnt(&["-m", "36m", "--cpu", "lambda"]);
    if said.contains("limit the CPU share (") {
        assert!(!skip::is_root() || !std::path::Path::new("/sys/fs/cgroup/cpu").exists(), "{said}");
        tests::skip_for_this_user!("no cgroup limits processors here, which was said");
    }
    assert!(limited < 10 && limited < free, "{limited} % of {free} %");
}
