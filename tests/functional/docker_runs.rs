//! Runs under the face of docker: from `run` and `create` to `rm`, several at once, and after everything that can end them.

use std::fs;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::Fixture;
use tests::build_image::Build;
use tests::image::Image;
use tests::leftovers::eventually;

/// An id as docker prints it.
#[track_caller]
fn id(printed: &str) -> String {
    let id = printed.trim_end_matches('\n');
    assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "no id: {printed:?}");
    id.to_owned()
}

fn out(fixture: &Fixture, arguments: &[&str]) -> String {
    fixture.docker(arguments).finish().expect_code(0).out()
}

/// Nothing is left once every record is removed.
fn expect_nothing_left(fixture: &Fixture) {
    assert_eq!(out(fixture, &["ps", "-aq"]), "");
    let _ = fs::remove_dir_all(fixture.path().join("run/undocked"));
    fixture.expect_nothing_left();
}

#[test]
fn a_function_answers_as_through_docker() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nout log\nrespond-event");
    let volume = format!("{}:/var/task:ro,delegated", fixture.task().display());
    let ran = fixture.docker(&["run", "--rm", "-v", &volume, &fixture.image("provided"), "handler", "{\"a\": 1}"]).finish();
    assert_eq!(ran.result(), "{\"a\":1}");
    assert!(ran.err().contains("\nlog\n") && ran.err().contains("REPORT RequestId"), "{}", ran.err());
    // Nothing of ours changes what it sees.
    fixture.script("next\nnote-env all\nrespond-notes");
    let line = ["run", "--rm", "-v", &volume, "-e", "SET", "-e", "UNSET", &fixture.image("provided")];
    let ran = fixture.docker(&line).env("AWS_LAMBDA_FUNCTION_NAME", "ours").env("SET", "passed on").finish().expect_code(0);
    let seen = ran.json()["all"].clone();
    assert_eq!((&seen["AWS_LAMBDA_FUNCTION_NAME"], &seen["SET"], &seen["UNSET"]), (&"test".into(), &"passed on".into(), &Value::Null));
    expect_nothing_left(&fixture);
}

#[test]
fn an_entrypoint_that_has_nothing_to_do_with_lambda_is_a_command() {
    let Some(fixture) = Fixture::new() else { return };
    fs::copy(fixture.task().join("bootstrap"), fixture.task().join("tool")).expect("copied");
    let tool = Image::provided()
        .with("Env", json!(["OF_THE_IMAGE=yes"]))
        .with("Entrypoint", json!(["/var/task/tool", "--line"]))
        .with("Cmd", json!(["out of-the-image\\n ; exit 3"]));
    fixture.layout().add("tool", &tool);
    let image = fixture.image("tool");
    let volume = format!("{}:/var/task", fixture.task().display());
    assert_eq!(fixture.docker(&["run", "--rm", "-v", &volume, &image]).finish().expect_code(3).out(), "of-the-image\n");
    let line = ["run", "--rm", "-v", &volume, &image, "out asked-for\\n ; exit 4"];
    assert_eq!(fixture.docker(&line).finish().expect_code(4).out(), "asked-for\n");
    expect_nothing_left(&fixture);
}

#[test]
fn a_plain_command_keeps_its_streams_and_code() {
    let Some(fixture) = Fixture::new() else { return };
    let ran = fixture.docker_probe(&["run", "--rm"], "out to-out\\n ; err to-err\\n ; exit 7").finish().expect_code(7);
    assert_eq!((ran.out(), ran.err().lines().last()), ("to-out\n".to_owned(), Some("to-err")));
    fixture.docker_probe(&["run", "--rm"], "kill-self 9").finish().expect_code(137);
    let volume = format!("{}:/var/task", fixture.task().display());
    let missing =
        |program: &str| fixture.docker(&["run", "--rm", "-v", &volume, "--entrypoint", program, &fixture.image("provided")]).finish();
    missing("/none/such").expect_code(127);
    missing("/var/task").expect_code(126);
    expect_nothing_left(&fixture);
}

/// Inside, the terminal has a name, as `tty`, `script` and their like ask for it. Its folder of terminals is the sandbox's own.
#[test]
fn a_terminal_has_a_name_inside() {
    let Some(build) = Build::new() else { return };
    let run = |options: &[&str], script: &str| {
        let words = [&["run", "--rm"], options, &[&build.reference, "bash", "-c", script]].concat();
        build.fixture.docker(&words).finish().expect_code(0)
    };
    let named = run(&["-t"], "tty; test /dev/console -ef /proc/self/fd/0 && echo same; echo opened > /dev/console; ls /dev/pts");
    assert_eq!(named.out(), "/dev/console\r\nsame\r\nopened\r\nptmx\r\n");
    // Of xterm's kind, if nobody says another.
    assert_eq!(run(&["-t"], "env | grep ^TERM=").out(), "TERM=xterm\r\n");
    assert_eq!(run(&["-t", "-e", "TERM=vt100"], "env | grep ^TERM=").out(), "TERM=vt100\r\n");
    assert_eq!(run(&["-i"], "env | grep ^TERM= || echo none").out(), "none\n");
    for user in ["root", "1000", "nobody"] {
        let opened = run(&["-t", "-u", user], "echo out > /dev/stdout; echo err > /dev/stderr; echo tty > /dev/tty; : < /dev/stdin");
        assert_eq!(opened.out(), "out\r\nerr\r\ntty\r\n", "{user}");
    }
    let none = run(&["-i"], "tty; test -e /dev/console || echo none");
    assert_eq!(none.out(), "not a tty\nnone\n");
    expect_nothing_left(&build.fixture);
}

#[test]
fn input_that_is_no_terminal_is_refused_as_one() {
    let Some(fixture) = Fixture::new() else { return };
    let run = |options: &[&str]| fixture.docker_probe(&[&["run", "--rm"], options].concat(), "out ran\\n").finish();
    for options in [&["-it"][..], &["-i", "-t"], &["-t", "-a", "stdin"], &["-it", "-a", "stdout"]] {
        let refused = run(options).expect_code(1);
        assert_eq!((refused.out(), refused.err()), (String::new(), "the input device is not a TTY\n".to_owned()));
    }
    for options in [&["-t"][..], &["-i"], &["-it=false"], &["-t", "-a", "stdout"]] {
        assert!(run(options).expect_code(0).out().starts_with("ran"), "{options:?}");
    }
    fixture.docker_probe(&["run", "-dit", "--rm", "--name", "it"], "sleep 60000").finish().expect_code(0);
    let exec = |options: &str, code| {
        fixture.docker(&["exec", options, "it", "/var/task/bootstrap", "--line", "out in"]).finish().expect_code(code)
    };
    assert_eq!(exec("-it", 1).err(), "the input device is not a TTY\n");
    for options in ["-t", "-i", "-dit"] {
        exec(options, 0);
    }
    out(&fixture, &["rm", "-f", "it"]);
    expect_nothing_left(&fixture);
}

#[test]
fn in_the_background_with_a_name() {
    let Some(fixture) = Fixture::new() else { return };
    let started = fixture
        .docker_probe(&["run", "-d", "--name", "web", "-l", "a=b", "--label", "c"], "out begun\\n ; sleep 60000")
        .finish()
        .expect_code(0);
    let id = id(&started.out());
    assert_eq!(out(&fixture, &["ps", "-q"]), format!("{}\n", &id[..12]));
    assert_eq!(out(&fixture, &["ps", "--no-trunc", "-q", "--filter", "label=a=b", "--filter", "label=c"]), format!("{id}\n"));
    assert_eq!(out(&fixture, &["ps", "-q", "--filter", "label=a=x"]), "");
    assert_eq!(out(&fixture, &["ps", "-q", "--filter", "name=we"]), format!("{}\n", &id[..12]));
    let row = out(&fixture, &["ps", "--format", "{{.Names}}|{{.Status}}|{{.Labels}}|{{.State}}"]);
    assert!(row.starts_with("web|Up ") && row.ends_with("|a=b,c=|running\n"), "{row}");
    let table = out(&fixture, &["ps"]);
    assert!(table.starts_with("CONTAINER ID   IMAGE "), "{table}");
    eventually(Duration::from_secs(5), "its first words are in the log", || out(&fixture, &["logs", "web"]) == "begun\n");
    let inspected = out(&fixture, &["inspect", "-f", "{{.State.Running}} {{.Name}} {{.Config.Labels.a}}", &id[..8]]);
    assert_eq!(inspected, "true /web b\n");
    // A second one of that name.
    let taken = fixture.docker_probe(&["run", "-d", "--name", "web"], "exit 0").finish().expect_code(125);
    let words =
        format!("docker: Error response from daemon: Conflict. The container name \"/web\" is already in use by container \"{id}\"");
    assert!(taken.err().contains(&words), "{}", taken.err());
    let in_use = fixture.docker(&["rm", "web"]).finish().expect_code(1);
    assert!(in_use.err().contains("stop the container before removing or force remove"), "{}", in_use.err());
    assert_eq!(out(&fixture, &["stop", "-t", "5", "web"]), "web\n");
    assert_eq!(out(&fixture, &["inspect", "--format", "{{.State.ExitCode}} {{.State.Status}}", "web"]), "143 exited\n");
    // No check of health was asked for: there is none, and what asks whether there is one hears no error.
    let guarded = "{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}} {{json .State.Health}}";
    assert_eq!(out(&fixture, &["inspect", "--format", guarded, "web"]), "none null\n");
    assert!(!out(&fixture, &["inspect", "web"]).contains("Health"));
    fixture.docker(&["inspect", "--format", "{{.State.Health.Status}}", "web"]).finish().expect_code(1);
    assert_eq!(out(&fixture, &["wait", "web"]), "143\n");
    assert_eq!(out(&fixture, &["logs", "web"]), "begun\n");
    assert_eq!(out(&fixture, &["rm", "web"]), "web\n");
    let gone = fixture.docker(&["logs", "web"]).finish().expect_code(1);
    assert_eq!(gone.err(), "Error response from daemon: No such container: web\n");
    expect_nothing_left(&fixture);
}

#[test]
fn who_does_not_heed_a_stop_is_killed() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.docker_probe(&["run", "-d", "--name", "deaf"], "ignore 15 ; out deaf\\n ; sleep 60000").finish().expect_code(0);
    eventually(Duration::from_secs(5), "it is deaf", || out(&fixture, &["logs", "deaf"]) == "deaf\n");
    out(&fixture, &["stop", "-t", "0", "deaf"]);
    assert_eq!(out(&fixture, &["inspect", "-f", "{{.State.ExitCode}}", "deaf"]), "137\n");
    out(&fixture, &["start", "deaf"]);
    out(&fixture, &["kill", "deaf"]);
    assert_eq!(out(&fixture, &["wait", "deaf"]), "137\n");
    let dead = fixture.docker(&["kill", "deaf"]).finish().expect_code(1);
    assert!(
        dead.err().starts_with("Error response from daemon: cannot kill container: deaf: container ")
            && dead.err().ends_with(" is not running\n")
    );
    assert_eq!(out(&fixture, &["rm", "-f", "deaf"]), "deaf\n");
    expect_nothing_left(&fixture);
}

#[test]
fn created_started_attached_and_started_again() {
    let Some(fixture) = Fixture::new() else { return };
    let id = id(&fixture.docker_probe(&["create", "--cidfile", "cid"], "out hello\\n ; exit 3").finish().expect_code(0).out());
    assert_eq!(fs::read_to_string(fixture.path().join("cid")).expect("it was written"), id);
    let again = fixture.docker_probe(&["create", "--cidfile", "cid"], "exit 0").finish().expect_code(125);
    assert!(again.err().contains("container ID file found, make sure the other container isn't running or delete cid"), "{}", again.err());
    assert_eq!(out(&fixture, &["ps", "-a", "--format", "{{.Status}}"]), "Created\n");
    assert_eq!(out(&fixture, &["ps", "-q"]), "");
    for _ in 0..2 {
        let ran = fixture.docker(&["start", "-a", &id]).finish().expect_code(3);
        assert_eq!(ran.out(), "hello\n");
    }
    assert_eq!(out(&fixture, &["logs", &id]), "hello\nhello\n");
    assert_eq!(out(&fixture, &["logs", "--tail", "1", &id]), "hello\n");
    let row = out(&fixture, &["ps", "-a", "--format", "{{.Status}}"]);
    assert!(row.starts_with("Exited (3) "), "{row}");
    out(&fixture, &["rename", &id, "other"]);
    assert_eq!(out(&fixture, &["rm", "other"]), "other\n");
    expect_nothing_left(&fixture);
}

#[test]
fn another_command_in_it() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.docker_probe(&["run", "-d", "--rm", "--name", "it", "-e", "GIVEN=run"], "sleep 60000").finish().expect_code(0);
    let exec =
        |options: &[&str], line: &str| fixture.docker(&[&["exec"], options, &["it", "/var/task/bootstrap", "--line", line]].concat());
    let ran = exec(&[], "out inside\\n ; err beside\\n ; exit 9").finish().expect_code(9);
    assert_eq!((ran.out(), ran.err()), ("inside\n".to_owned(), "beside\n".to_owned()));
    exec(&["-d"], "sleep 60000").finish().expect_code(0);
    fixture.docker(&["exec", "it", "/none/such"]).finish().expect_code(127);
    // What runs in it ends with it.
    let waits = exec(&[], "out waits\\n ; sleep 60000").start();
    eventually(Duration::from_secs(5), "it has begun", || waits.stdout_so_far() == "waits\n");
    out(&fixture, &["kill", "it"]);
    waits.finish().expect_code(137);
    eventually(Duration::from_secs(5), "it is gone", || out(&fixture, &["ps", "-aq"]).is_empty());
    let gone = fixture.docker(&["exec", "it", "true"]).finish().expect_code(1);
    assert_eq!(gone.err(), "Error response from daemon: No such container: it\n");
    expect_nothing_left(&fixture);
}

/// `^P^Q`, docker's keys: who has attached leaves, and it goes on.
#[test]
fn who_has_attached_leaves_by_keys() {
    if !tests::skip::has_program("script") {
        tests::skip!("script is not installed (Debian package bsdutils)");
    }
    let Some(fixture) = Fixture::new() else { return };
    fixture.docker_probe(&["run", "-dit", "--name", "it"], "sleep 60000").finish().expect_code(0);
    let script = "(until grep -q typed shown; do echo typed; sleep 0.1; done; printf 'x\\020'; sleep 0.2; printf '\\021') \
                  | script -qefc \"exec $0 docker attach it\" shown > /dev/null; echo ${PIPESTATUS[1]}; cat shown";
    fs::write(fixture.path().join("shown"), "").expect("a file");
    let left = fixture.undocked_by_shell(script, &[]).finish();
    assert!(left.out().starts_with("1\n") && left.out().contains("read escape sequence\r\n"), "{}{}", left.out(), left.err());
    assert_eq!(out(&fixture, &["inspect", "-f", "{{.State.Status}}", "it"]), "running\n");
    out(&fixture, &["rm", "-f", "it"]);
    expect_nothing_left(&fixture);
}

#[test]
fn logs_are_followed_to_the_end() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.docker_probe(&["run", "-d", "--name", "it"], "out one\\n ; err two\\n ; sleep 300 ; out three\\n").finish().expect_code(0);
    let followed = fixture.docker(&["logs", "-f", "it"]).finish().expect_code(0);
    assert_eq!((followed.out(), followed.err()), ("one\nthree\n".to_owned(), "two\n".to_owned()));
    let stamped = out(&fixture, &["logs", "-t", "it"]);
    assert!(stamped.lines().all(|line| line.len() > 30 && line.as_bytes()[10] == b'T'), "{stamped}");
    assert_eq!(out(&fixture, &["logs", "--since", "1h", "it"]), "one\nthree\n");
    assert_eq!(out(&fixture, &["logs", "--until", "1h", "it"]), "");
    // Who has seen enough is told nothing.
    let line = ["docker", "logs", "it"];
    let closed = fixture.undocked_by_shell("(sleep 0.5; exec \"$0\" \"$@\") | true; echo ${PIPESTATUS[0]}", &line).finish();
    assert!(closed.out() == "141\n" && !closed.err().contains("cannot write"), "{}{}", closed.out(), closed.err());
    out(&fixture, &["rm", "it"]);
    expect_nothing_left(&fixture);
}

#[test]
fn names_are_unique_among_many_at_once() {
    let Some(fixture) = Fixture::new() else { return };
    // The image is there, so that all of them come to the name at once.
    fixture.docker_probe(&["run", "--rm"], "exit 0").finish().expect_code(0);
    let codes: Vec<i32> = thread::scope(|scope| {
        let runs: Vec<_> =
            (0..8).map(|_| scope.spawn(|| fixture.docker_probe(&["run", "-d", "--name", "one"], "sleep 60000").finish().code())).collect();
        runs.into_iter().map(|run| run.join().expect("no panic")).collect()
    });
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == 125).count(), 7, "{codes:?}");
    out(&fixture, &["rm", "-f", "one"]);
    expect_nothing_left(&fixture);
}

#[test]
fn several_at_once_keep_apart() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.docker_probe(&["run", "--rm"], "exit 0").finish().expect_code(0);
    thread::scope(|scope| {
        for number in 0..6 {
            let fixture = &fixture;
            scope.spawn(move || {
                let ran = fixture.docker_probe(&["run", "--rm"], &format!("out {number}\\n ; exit {number}")).finish().expect_code(number);
                assert_eq!(ran.out(), format!("{number}\n"));
            });
        }
    });
    expect_nothing_left(&fixture);
}

#[test]
fn who_was_killed_is_not_said_to_run() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.docker_probe(&["run", "-d", "--name", "it"], "sleep 60000").finish().expect_code(0);
    let supervisor: i32 = out(&fixture, &["inspect", "-f", "{{.State.Pid}}", "it"]).trim().parse().expect("a number");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(supervisor), Signal::SIGKILL).expect("it runs");
    eventually(Duration::from_secs(5), "it is not said to run", || out(&fixture, &["ps", "-q"]).is_empty());
    let row = out(&fixture, &["ps", "-a", "--format", "{{.Status}}"]);
    assert!(row.starts_with("Exited (255) "), "{row}");
    // It can be started again, and removed.
    out(&fixture, &["start", "it"]);
    assert_eq!(out(&fixture, &["inspect", "-f", "{{.State.Status}}", "it"]), "running\n");
    out(&fixture, &["rm", "-f", "it"]);
    expect_nothing_left(&fixture);
}

#[test]
fn signals_are_passed_on() {
    let Some(fixture) = Fixture::new() else { return };
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let run = fixture.docker_probe(&["run", "--rm"], "err begun\\n ; sleep 60000").start();
        run.wait_for_stderr("begun");
        run.signal(signal);
        run.finish().expect_code(code);
    }
    // Who does not heed them is killed with the third.
    let run = fixture.docker_probe(&["run", "--rm"], "ignore 2 ; err begun\\n ; sleep 60000").start();
    run.wait_for_stderr("begun");
    for _ in 0..3 {
        run.signal(Signal::SIGINT);
        // One that is pending is not there twice.
        thread::sleep(Duration::from_millis(50));
    }
    run.finish().expect_code(137);
    expect_nothing_left(&fixture);
}

#[test]
fn it_is_started_again_as_often_as_was_asked_for() {
    let Some(fixture) = Fixture::new() else { return };
    let run = fixture.docker_probe(&["run", "--restart", "on-failure:2", "--name", "it"], "out again\\n ; exit 4").finish().expect_code(4);
    assert_eq!(run.out(), "again\nagain\nagain\n");
    assert_eq!(out(&fixture, &["inspect", "-f", "{{.RestartCount}} {{.HostConfig.RestartPolicy.Name}}", "it"]), "2 on-failure\n");
    out(&fixture, &["rm", "it"]);
    let run = fixture.docker_probe(&["run", "--restart=on-failure", "--name", "it"], "out once\\n ; exit 0").finish().expect_code(0);
    assert_eq!(run.out(), "once\n");
    out(&fixture, &["rm", "it"]);
    // Who stops it means it, between two starts, too.
    fixture.docker_probe(&["run", "-d", "--restart", "always", "--name", "it"], "exit 3").finish().expect_code(0);
    let restarts = || out(&fixture, &["inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "it"]);
    eventually(Duration::from_secs(30), "it waits long enough to be met", || {
        restarts().starts_with(['3', '4']) && restarts().ends_with(" restarting\n")
    });
    out(&fixture, &["stop", "it"]);
    assert_eq!(out(&fixture, &["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "it"]), "exited 3\n");
    out(&fixture, &["rm", "it"]);
    fixture.docker_probe(&["run", "-d", "--restart", "always", "--name", "it"], "sleep 60000").finish().expect_code(0);
    out(&fixture, &["stop", "it"]);
    assert_eq!(out(&fixture, &["inspect", "-f", "{{.State.Status}}", "it"]), "exited\n");
    out(&fixture, &["rm", "it"]);
    expect_nothing_left(&fixture);
}

#[test]
fn paused_and_resumed() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.docker_probe(&["run", "-d", "--name", "it"], "sleep 60000").finish().expect_code(0);
    out(&fixture, &["pause", "it"]);
    assert_eq!(out(&fixture, &["inspect", "-f", "{{.State.Paused}} {{.State.Status}}", "it"]), "true paused\n");
    out(&fixture, &["unpause", "it"]);
    assert_eq!(out(&fixture, &["inspect", "-f", "{{.State.Paused}} {{.State.Status}}", "it"]), "false running\n");
    let again = fixture.docker(&["unpause", "it"]).finish().expect_code(1);
    assert!(again.err().ends_with(" is not paused\n"), "{}", again.err());
    out(&fixture, &["pause", "it"]);
    out(&fixture, &["stop", "it"]);
    out(&fixture, &["rm", "it"]);
    expect_nothing_left(&fixture);
}

#[test]
fn a_reader_that_goes_away_ends_it() {
    let Some(fixture) = Fixture::new() else { return };
    let volume = format!("{}:/var/task:ro", fixture.task().display());
    let image = fixture.image("provided");
    fixture.docker_probe(&["run", "--rm"], "exit 0").finish().expect_code(0);
    let line =
        ["docker", "run", "--rm", "-v", &volume, "--entrypoint", "/var/task/bootstrap", &image, "--line", "out-fill 100000000 ; exit 5"];
    let ran = fixture.undocked_by_shell("\"$0\" \"$@\" | head -c 10; code=${PIPESTATUS[0]}; echo; echo $code", &line).finish();
    assert!(ran.out().ends_with("\n5\n"), "{}", ran.out());
    expect_nothing_left(&fixture);
}

#[test]
fn files_are_copied_both_ways() {
    let Some(fixture) = Fixture::new() else { return };
    let id = id(&fixture
        .docker_probe(&["create", "--name", "it"], "read text /data/in ; print-notes ; write done /data/out written ; sleep 60000")
        .finish()
        .expect_code(0)
        .out());
    fs::create_dir(fixture.path().join("data")).expect("a folder");
    fs::write(fixture.path().join("data/in"), "from outside").expect("a file");
    out(&fixture, &["cp", "data", "it:/"]);
    out(&fixture, &["start", "it"]);
    eventually(Duration::from_secs(5), "it has read the file", || out(&fixture, &["logs", &id]).contains("from outside"));
    // While it runs and afterwards.
    for end in [false, true] {
        if end {
            out(&fixture, &["kill", "it"]);
        }
        let copied = || fixture.docker(&["cp", "it:/data/out", "copied"]).finish().code() == 0;
        eventually(Duration::from_secs(5), "its file is copied", copied);
        assert_eq!(fs::read_to_string(fixture.path().join("copied")).expect("it was copied"), "written");
        fs::remove_file(fixture.path().join("copied")).expect("ours");
    }
    let archive = fixture.docker(&["cp", "it:/data/in", "-"]).finish().expect_code(0);
    assert!(archive.stdout.windows(12).any(|window| window == b"from outside"));
    out(&fixture, &["cp", "it:/data/.", "home"]);
    assert!(fixture.path().join("home/out").exists());
    let missing = fixture.docker(&["cp", "it:/none/such", "x"]).finish().expect_code(1);
    assert_eq!(missing.err(), "Error response from daemon: Could not find the file /none/such in container it\n");
    for (from, to, said) in [
        ("no-local", "it:/tmp", format!("lstat {}/no-local: no such file or directory\n", fixture.path().display())),
        ("no-local", "no-run:/tmp", format!("lstat {}/no-local: no such file or directory\n", fixture.path().display())),
        ("data", "it:/none/such", "Error response from daemon: Could not find the file /none in container it\n".to_owned()),
        ("it:/data/in", "/none/such", "invalid output path: directory \"/none\" does not exist\n".to_owned()),
        ("it:/none", "-", "Error response from daemon: Could not find the file /none in container it\n".to_owned()),
    ] {
        assert_eq!(fixture.docker(&["cp", from, to]).finish().expect_code(1).err(), said, "{from} {to}");
    }
    out(&fixture, &["rm", "it"]);
    expect_nothing_left(&fixture);
}

/// An archive tells when its files were changed, and whose they are inside.
#[test]
fn what_is_copied_has_its_time_and_owner() {
    let Some(fixture) = Fixture::new() else { return };
    // The image's user, unless another is named.
    for (options, owner) in [(&["run", "-d", "--name", "it"][..], (496, 495)), (&["run", "-d", "--name", "it", "-u", "0"], (0, 0))] {
        owner_of_what_was_made(&fixture, options, owner);
    }
    expect_nothing_left(&fixture);
}

fn owner_of_what_was_made(fixture: &Fixture, options: &[&str], owner: (u64, u64)) {
    fixture.docker_probe(options, "write done /tmp/made ; sleep 60000").finish().expect_code(0);
    let archive = || fixture.docker(&["cp", "it:/tmp/made", "-"]).finish();
    eventually(Duration::from_secs(5), "it has made the file", || archive().code() == 0);
    let header = archive().expect_code(0).stdout;
    let field = |from: usize, to: usize| {
        let text = String::from_utf8_lossy(&header[from..to]);
        u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).unwrap_or_else(|_| panic!("{text:?}"))
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    assert!(now - field(136, 148) < 600, "{}", field(136, 148));
    assert_eq!((field(108, 116), field(116, 124)), owner);
    out(fixture, &["rm", "-f", "it"]);
}

/// Scripts look for docker's words, and know nothing of ours.
#[test]
fn what_cannot_be_started_is_told_as_docker_tells_it() {
    let Some(fixture) = Fixture::new() else { return };
    let image = fixture.image("provided");
    out(&fixture, &["pull", "-q", &image]);
    for (program, code, why) in [
        ("nope", 127, "exec: \"nope\": executable file not found in $PATH: unknown\n"),
        ("/none/such", 127, "exec: \"/none/such\": no such file or directory: unknown\n"),
        ("/", 126, "exec: \"/\": permission denied: unknown\n"),
    ] {
        let ran = fixture.docker(&["run", "--rm", "--entrypoint", program, &image]).finish().expect_code(code);
        let start = "docker: Error response from daemon: failed to create task for container: ";
        assert!(ran.err().starts_with(start) && ran.err().ends_with(why), "{}", ran.err());
    }
    fixture.docker_probe(&["run", "-d", "--name", "it", "-p", "7000"], "sleep 60000").finish().expect_code(0);
    let refused = fixture.docker(&["exec", "it", "nope"]).finish().expect_code(127);
    assert!(refused.err().starts_with("OCI runtime exec failed: exec failed: "), "{}", refused.err());
    assert!(refused.err().ends_with("exec: \"nope\": executable file not found in $PATH: unknown\n"), "{}", refused.err());
    let port = out(&fixture, &["port", "it", "7000"]).lines().next().and_then(|line| line.rsplit(':').next()).expect("a port").to_owned();
    let taken = format!("Bind for 0.0.0.0:{port} failed: port is already allocated\n");
    let again = fixture.docker_probe(&["run", "--rm", "-p", &format!("{port}:70")], "exit 0").finish().expect_code(125);
    assert!(again.err().starts_with("docker: Error response from daemon: ") && again.err().ends_with(&taken), "{}", again.err());
    // A function's port leads to its API, on this machine alone.
    let function = ["run", "--rm", "-e", "DOCKER_LAMBDA_STAY_OPEN=1", "-p", &format!("{port}:9001"), &image, "handler"];
    let again = fixture.docker(&function).finish().expect_code(125);
    assert!(again.err().ends_with("failed: port is already allocated\n"), "{}", again.err());
    out(&fixture, &["rm", "-f", "it"]);
    expect_nothing_left(&fixture);
}

/// Nobody else would remove it, and its name would be taken.
#[test]
fn who_was_killed_and_was_to_be_removed_is_gone() {
    let Some(fixture) = Fixture::new() else { return };
    for look in [&["ps", "-aq"][..], &["create", "--name", "it", &fixture.image("provided")]] {
        fixture.docker_probe(&["run", "-d", "--rm", "--name", "it", "-v", "/anonymous"], "sleep 60000").finish().expect_code(0);
        let supervisor: i32 = out(&fixture, &["inspect", "-f", "{{.State.Pid}}", "it"]).trim().parse().expect("a number");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(supervisor), Signal::SIGKILL).expect("it runs");
        eventually(Duration::from_secs(5), "it is gone", || {
            let looked = fixture.docker(look).finish();
            looked.code() == 0 && (look[0] == "create" || looked.out().is_empty())
        });
    }
    out(&fixture, &["rm", "it"]);
    assert_eq!(out(&fixture, &["volume", "ls", "-q"]), "");
    expect_nothing_left(&fixture);
}

/// As fakecloud does it: the code is copied into what was created.
#[test]
fn code_that_was_copied_is_the_functions() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nrespond-event");
    let created = fixture.docker(&["create", &fixture.image("provided"), "handler", "{\"a\":1}"]).finish().expect_code(0);
    let id = id(&created.out());
    out(&fixture, &["cp", &format!("{}/.", fixture.task().display()), &format!("{id}:/var/task")]);
    let ran = fixture.docker(&["start", "-a", &id]).finish().expect_code(0);
    assert_eq!(ran.result(), "{\"a\":1}");
    out(&fixture, &["rm", "-f", &id]);
    expect_nothing_left(&fixture);
}

/// As CDK's bundling does it where files are copied.
#[test]
fn volumes_are_taken_over() {
    let Some(fixture) = Fixture::new() else { return };
    fs::write(fixture.path().join("asset"), "asset").expect("a file");
    out(&fixture, &["volume", "create", "input"]);
    fixture.docker_probe(&["run", "--name", "copies", "-v", "input:/asset-input"], "exit 0").finish().expect_code(0);
    out(&fixture, &["cp", "asset", "copies:/asset-input/"]);
    let line = "read text /asset-input/asset ; print-notes";
    let ran = fixture.docker_probe(&["run", "--rm", "--volumes-from", "copies"], line).finish().expect_code(0);
    assert!(ran.out().contains("asset"), "{}", ran.out());
    out(&fixture, &["rm", "-v", "copies"]);
    out(&fixture, &["volume", "rm", "input"]);
    expect_nothing_left(&fixture);
}
