//! `undocked doctor`: tries each step of a launch for real, says what the kernel granted, and gives advice for what it did not.

use serde_json::Value;
use tests::{Fixture, Run, place, skip, skip_for_this_user};

#[test]
fn where_sandboxes_run_it_says_so_step_by_step() {
    let Some(fixture) = Fixture::new() else { return };
    let ran = fixture.undocked(&["doctor"]).finish().expect_code(0);
    let said = ran.out();
    assert!(said.lines().count() >= 8, "{said}");
    for word in ["namespace", "seccomp", "Landlock", "/proc", "pivot_root"] {
        assert!(said.to_lowercase().contains(&word.to_lowercase()), "{word}: {said}");
    }
    fixture.expect_nothing_left();
}

#[test]
fn its_json_is_one_object() {
    let Some(fixture) = Fixture::new() else { return };
    let ran = fixture.undocked(&["doctor", "--json"]).finish().expect_code(0);
    let object: Value = serde_json::from_slice(&ran.stdout).expect("one object");
    let rest = object["rest"].as_array().expect("a list");
    let memory = rest.iter().find(|finding| finding["step"] == "limit memory (`-m`)").expect("said who would hold the limit");
    let detail = memory["detail"].as_str().unwrap_or_default();
    assert!(memory["verdict"] == "granted" && (detail.contains("by a cgroup") || detail.contains("by a thread")), "{memory}");
    fixture.expect_nothing_left();
}

/// Inside a namespace where no further user namespace may be made, the first step fails, is named, and comes with advice.
#[test]
fn where_user_namespaces_are_refused_it_fails_with_advice() {
    let Some(fixture) = Fixture::new() else { return };
    if skip::is_root() {
        skip_for_this_user!("an ordinary user is refused what root may do");
    }
    // The limit is lowered with the rights of the namespace's owner, which are given up before `undocked` starts.
    let script = r#"echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --inh-caps=-all --ambient-caps=-all "$0" doctor"#;
    let ran = Run::new("unshare")
        .args(["--user", "--map-current-user", "--keep-caps", "sh", "-c", script])
        .arg(place::undocked())
        .env("HOME", fixture.path().join("home"))
        .env("UNDOCKED_CACHE", fixture.cache())
        .finish();
    assert_ne!(ran.code(), 0);
    let said = format!("{}{}", ran.out(), ran.err());
    assert!(said.contains("max_user_namespaces"), "the advice names the limit: {said}");
}
