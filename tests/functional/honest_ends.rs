//! However a function ends, the run ends too: at once, with AWS's own words, the right exit code, and nothing left behind.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tests::image::Image;
use tests::leftovers::{eventually, processes_named};
use tests::{Fixture, Ran, place};

/// The request id that the START line names.
fn request_id(ran: &Ran) -> String {
    let err = ran.err();
    let rest = err.split_once("START RequestId: ").unwrap_or_else(|| panic!("no START: {err}")).1;
    rest.split(' ').next().expect("split gives one part at least").to_owned()
}

/// Asserts a failure of the platform's own: exit code 1, the exact body, and one START, END and REPORT.
#[track_caller]
fn expect_platform_error(ran: Ran, error_type: &str, message: &str) -> Ran {
    let ran = ran.expect_code(1);
    let id = request_id(&ran);
    assert_eq!(
        ran.out(),
        format!("\n{{\"errorType\":\"{error_type}\",\"errorMessage\":\"RequestId: {id} Error: {message}\"}}\n"),
        "{}",
        ran.err()
    );
    for line in ["START RequestId: ", "END RequestId: ", "REPORT RequestId: "] {
        assert_eq!(ran.err().matches(line).count(), 1, "{line}: {}", ran.err());
    }
    ran
}

#[test]
fn p9_an_error_that_the_runtime_posts_is_the_result_byte_for_byte() {
    let Some(fixture) = Fixture::new() else { return };
    // AWS passes the bytes on, so the order stays and unknown keys too; only white space goes.
    let posted = r#"{"errorMessage":"boom", "errorType":"E","stackTrace":["l1"],"trace":["<t>"]}"#;
    let ran = fixture.invoke(&format!("next\nerror {posted}\nnext")).expect_code(1);
    assert_eq!(ran.out(), "\n{\"errorMessage\":\"boom\",\"errorType\":\"E\",\"stackTrace\":[\"l1\"],\"trace\":[\"<t>\"]}\n");
    assert_eq!(ran.err().matches("REPORT RequestId: ").count(), 1);
}

#[test]
fn p10_an_error_body_that_is_not_json_is_passed_on_as_it_is() {
    let Some(fixture) = Fixture::new() else { return };
    let ran = fixture.invoke("next\nerror not json\nnext").expect_code(1);
    assert_eq!(ran.out(), "\nnot json\n");
}

#[test]
fn p11_an_init_error_is_the_result() {
    let Some(fixture) = Fixture::new() else { return };
    let ran = fixture.invoke("init-error {\"errorType\":\"Runtime.X\",\"errorMessage\":\"init boom\"}\nexit 1").expect_code(1);
    assert_eq!(ran.out(), "\n{\"errorType\":\"Runtime.X\",\"errorMessage\":\"init boom\"}\n");
    for line in ["START RequestId: ", "END RequestId: ", "REPORT RequestId: "] {
        assert_eq!(ran.err().matches(line).count(), 1, "{line}: {}", ran.err());
    }
}

#[test]
fn an_init_error_of_a_runtime_that_stays_ends_the_run_too() {
    let Some(fixture) = Fixture::new() else { return };
    let ran = fixture.invoke("init-error {\"errorType\":\"Runtime.X\",\"errorMessage\":\"stays\"}\nhang").expect_code(1);
    assert_eq!(ran.json()["errorMessage"], "stays");
    assert!(ran.took < Duration::from_secs(5), "{:?}", ran.took);
}

#[test]
fn p12_a5_a_function_past_its_timeout_is_killed_with_all_its_children() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("spawn comm {marker} ; hang\nignore 15\nnext\nhang".replace("{marker}", fixture.marker()).as_str());
    let ran = fixture.run(&["--timeout", "1"], &[]).finish();
    fixture.expect_nothing_left();
    let ran = expect_platform_error(ran, "Sandbox.Timedout", "Task timed out after 1.00 seconds");
    assert!((1000..2600).contains(&ran.took.as_millis()), "{:?}", ran.took);
    assert!(ran.err().contains("\tDuration: 1000.00 ms\t"), "{}", ran.err());
    assert!(ran.err().contains("\tStatus: timeout"), "{}", ran.err());
}

#[test]
fn a_fractional_timeout_from_the_environment_holds() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nspin");
    let ran = fixture.run(&["-e", "AWS_LAMBDA_FUNCTION_TIMEOUT=0.5"], &[]).finish();
    fixture.expect_nothing_left();
    let ran = expect_platform_error(ran, "Sandbox.Timedout", "Task timed out after 0.50 seconds");
    assert!((500..2000).contains(&ran.took.as_millis()), "{:?}", ran.took);
}

#[test]
fn an_init_that_never_asks_for_an_event_times_out() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("hang");
    let ran = fixture.run(&["--timeout", "1"], &[]).finish().expect_code(1);
    fixture.expect_nothing_left();
    assert!(ran.out().contains("Task timed out after 1.00 seconds"), "{}", ran.out());
    // Ten seconds of its own are the most that the Init phase has, then the timeout counts.
    assert!(ran.took < Duration::from_secs(13), "{:?}", ran.took);
}

#[test]
fn p13_an_error_posted_before_the_deadline_is_the_error() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nsleep 300\nerror {\"errorMessage\":\"late\"}\nnext");
    let ran = fixture.run(&["--timeout", "1"], &[]).finish().expect_code(1);
    assert_eq!(ran.out(), "\n{\"errorMessage\":\"late\"}\n");
}

#[test]
fn p14_without_a_bootstrap_the_error_names_where_it_was_sought() {
    let Some(fixture) = Fixture::new() else { return };
    fs::remove_file(fixture.task().join("bootstrap")).expect("it was there");
    let ran = fixture.run(&[], &[]).finish();
    expect_platform_error(
        ran,
        "Runtime.InvalidEntrypoint",
        &format!("Couldn't find valid bootstrap(s): [{}/bootstrap /opt/bootstrap]", fixture.task_inside()),
    );
}

#[test]
fn a_bootstrap_that_cannot_be_executed_is_an_invalid_entrypoint() {
    let Some(fixture) = Fixture::new() else { return };
    let bootstrap = fixture.task().join("bootstrap");
    let expect = |what: &str| {
        let ran = fixture.run(&[], &[]).finish().expect_code(1);
        let body = ran.json();
        assert_eq!(body["errorType"], "Runtime.InvalidEntrypoint", "{what}: {body}");
        fixture.expect_nothing_left();
    };
    fs::set_permissions(&bootstrap, fs::Permissions::from_mode(0o644)).expect("set");
    expect("no execute bit");
    fs::write(&bootstrap, "neither a script nor a program\n").expect("written");
    fs::set_permissions(&bootstrap, fs::Permissions::from_mode(0o755)).expect("set");
    expect("bad format");
    fs::write(&bootstrap, "#!/no/such/interpreter\n").expect("written");
    expect("interpreter missing");
}

#[test]
fn p15_a4_a_runtime_that_exits_is_reported_at_once() {
    let Some(fixture) = Fixture::new() else { return };
    let cases = [
        ("next\nexit 0", "Runtime exited without providing a reason"),
        ("exit 0", "Runtime exited without providing a reason"),
        ("next\nexit 7", "Runtime exited with error: exit status 7"),
        ("exit 127", "Runtime exited with error: exit status 127"),
        ("next\nsegfault", "Runtime exited with error: signal: segmentation fault"),
    ];
    for (script, message) in cases {
        let ran = expect_platform_error(fixture.invoke(script), "Runtime.ExitError", message);
        assert!(ran.took < Duration::from_secs(2), "{script}: {:?}", ran.took);
    }
}

#[test]
fn a_runtime_that_is_killed_is_reported_as_killed() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nerr waiting\\n\nhang");
    let running = fixture.run(&[], &[]).start();
    running.wait_for_stderr("waiting\n");
    let found = processes_named(fixture.marker());
    assert_eq!(found.len(), 1, "the probe alone calls itself so");
    kill(Pid::from_raw(found[0]), Signal::SIGKILL).expect("a process of this user, or root");
    expect_platform_error(running.finish(), "Runtime.ExitError", "Runtime exited with error: signal: killed");
    fixture.expect_nothing_left();
}

#[test]
fn a_runtime_that_answers_and_exits_has_answered() {
    let Some(fixture) = Fixture::new() else { return };
    let ran = fixture.invoke("next\nrespond {\"done\":1}\nexit 0").expect_code(0);
    assert_eq!(ran.stdout, b"\n{\"done\":1}\n");
    let ran = fixture.invoke("next\nerror {\"errorMessage\":\"said first\"}\nexit 129").expect_code(1);
    assert_eq!(ran.out(), "\n{\"errorMessage\":\"said first\"}\n");
}

#[test]
fn orphans_do_not_outlive_the_run() {
    let Some(fixture) = Fixture::new() else { return };
    let marker = fixture.marker().to_owned();
    // A grandchild whose parent has ended, deaf to polite signals, holding the output streams open.
    let orphan = format!("spawn spawn comm {marker} ;; ignore 15 ;; ignore 1 ;; hang");
    let ran = fixture.invoke(&format!("{orphan}\nnext\nrespond {{}}\nnext")).expect_code(0);
    assert_eq!(ran.stdout, b"\n{}\n");
    assert!(ran.took < Duration::from_secs(5), "{:?}", ran.took);
    let ran = fixture.invoke(&format!("{orphan}\nnext\nexit 3")).expect_code(1);
    assert!(ran.took < Duration::from_secs(5), "{:?}", ran.took);
}

#[test]
fn t18_a_killed_runner_takes_its_sandbox_along() {
    let Some(fixture) = Fixture::new() else { return };
    let marker = fixture.marker().to_owned();
    fixture.script(&format!("spawn comm {marker} ; ignore 15 ; err child\\n ; hang\nignore 15\nnext\nerr parent\\n\nhang"));
    let running = fixture.run(&[], &[]).start();
    running.wait_for_stderr("child\n");
    running.wait_for_stderr("parent\n");
    assert_eq!(processes_named(&marker).len(), 2);
    running.signal(Signal::SIGKILL);
    running.finish();
    eventually(Duration::from_secs(1), "the sandbox is gone", || processes_named(&marker).is_empty());
}

#[test]
fn interrupt_and_terminate_end_the_run_with_128_and_their_number() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("ignore 2\nignore 15\nnext\nerr waiting\\n\nhang");
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let running = fixture.run(&[], &[]).start();
        running.wait_for_stderr("waiting\n");
        running.signal(signal);
        let ran = running.finish().expect_code(code);
        assert!(ran.took < Duration::from_secs(10), "{signal}: {:?}", ran.took);
        fixture.expect_nothing_left();
    }
}

/// Shells start the background jobs of their scripts with the interrupt ignored.
#[test]
fn an_interrupt_counts_even_if_it_was_ignored_at_the_start() {
    let Some(fixture) = Fixture::new() else { return };
    let mut job = Command::new("sh")
        .args(["-c", "trap '' INT; exec \"$0\" run --entrypoint sh host -c 'echo ready; sleep 1000'"])
        .arg(place::undocked())
        .env("UNDOCKED_CACHE", fixture.path().join("cache"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell starts");
    let mut ready = [0; 6];
    job.stdout.as_mut().expect("piped").read_exact(&mut ready).expect("it says so");
    kill(Pid::from_raw(job.id().cast_signed()), Signal::SIGINT).expect("it runs");
    assert_eq!(job.wait().expect("it ends").code(), Some(130));
}

#[test]
fn a_working_directory_that_is_missing_is_the_functions_error() {
    let Some(fixture) = Fixture::new() else { return };
    let ran = fixture.run(&["-w", "/no/such"], &[]).finish().expect_code(1);
    let error = ran.json();
    assert_eq!(error["errorType"], "Runtime.InvalidWorkingDir");
    assert!(
        error["errorMessage"].as_str().is_some_and(|text| text.ends_with(" Error: chdir /no/such: no such file or directory")),
        "{error}"
    );
    fixture.run(&["-w", "/no/such", "--read-only", "--entrypoint", "/var/task/bootstrap"], &[]).finish().expect_code(125);
}

#[test]
fn the_memory_of_a_function_that_ends_at_once_is_told() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("touch-memory 200\nexit 3");
    let ran = fixture.run(&[], &[]).finish().expect_code(1);
    let used = ran.err().split("Max Memory Used: ").nth(1).and_then(|rest| rest.split(' ').next()).and_then(|mb| mb.parse::<u64>().ok());
    assert!(used.is_some_and(|mb| (200..400).contains(&mb)), "{}", ran.err());
}

#[test]
fn an_entrypoint_that_is_missing_is_127_and_one_that_cannot_run_126() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.run(&["--entrypoint", "/no/such"], &[]).finish().expect_code(127);
    fixture.run(&["--entrypoint", "no-such-in-path"], &[]).finish().expect_code(127);
    fs::set_permissions(fixture.task().join("bootstrap"), fs::Permissions::from_mode(0o644)).expect("set");
    fixture.run(&["--entrypoint", "/var/task/bootstrap"], &[]).finish().expect_code(126);
    fixture.run(&["--entrypoint", "/var/task"], &[]).finish().expect_code(126);
}

#[test]
fn an_images_own_entrypoint_that_is_missing_is_an_invalid_entrypoint() {
    tests::skip_in_isolation!(["in-place"], "about images");
    let Some(fixture) = Fixture::new() else { return };
    let image = Image::provided().with("Entrypoint", json!(["/missing"]));
    fixture.layout().add("missing", &image);
    let ran = fixture.run_image(&fixture.image("missing"), &[], &["h"]).finish().expect_code(1);
    assert_eq!(ran.json()["errorType"], "Runtime.InvalidEntrypoint");
}

#[test]
fn a7_an_answer_may_have_6_mib_and_100_bytes() {
    let Some(fixture) = Fixture::new() else { return };
    let ran = fixture.invoke("next\nrespond-size 6291556\nnext").expect_code(0);
    assert_eq!(ran.stdout.len(), 6_291_556 + 2);
    let ran = fixture.invoke("next\nrespond-size 6291557\nnext").expect_code(1);
    assert_eq!(
        ran.out(),
        "\n{\"errorMessage\":\"Response payload size exceeded maximum allowed payload size (6291556 bytes).\",\"errorType\":\"Function.ResponseSizeTooLarge\"}\n"
    );
}

#[test]
fn t20_a_flood_of_output_is_carried_whole_and_in_bounded_memory() {
    let Some(fixture) = Fixture::new() else { return };
    // A line that never ends, of 64 MiB, then binary junk and a closed stream.
    let ran = fixture.invoke("next\nout-fill 67108864\nout \\x00\\xff\\xfe\\n\nclose-out\nerr after\\n\nrespond {}\nnext").expect_code(0);
    assert_eq!(ran.stdout, b"\n{}\n");
    let longest = ran.stderr.split(|byte| *byte != b'x').map(<[u8]>::len).max();
    assert_eq!(longest, Some(67_108_864));
    assert!(ran.stderr.windows(3).any(|bytes| bytes == [0, 0xff, 0xfe]), "junk is passed on as it is");
    assert!(ran.stderr.windows(6).any(|bytes| bytes == b"after\n"));
}

#[test]
fn a_failure_shows_its_kind_in_the_report_line() {
    let Some(fixture) = Fixture::new() else { return };
    let report = |script: &str| {
        let err = fixture.invoke(script).err();
        err.lines().find(|line| line.starts_with("REPORT ")).unwrap_or_else(|| panic!("no REPORT: {err}")).to_owned()
    };
    let exited = report("next\nexit 7");
    assert!(exited.contains("\tStatus: error\tError Type: Runtime.ExitError"), "{exited:?}");
    let fine = report("next\nrespond {}\nnext");
    assert!(!fine.contains("Status"), "{fine:?}");
}

#[test]
fn json_tells_platform_errors_too() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nexit 7");
    let ran = fixture.run(&["--json"], &[]).finish().expect_code(1);
    let object: Value = serde_json::from_slice(&ran.stdout).expect("one object");
    assert_eq!(object["payload"]["errorType"], "Runtime.ExitError");
    assert_eq!((&object["functionError"], &object["exitCode"]), (&json!("Unhandled"), &json!(1)));
}
