//! Functions under the face of docker, while they run: further commands in them, a pause, what is copied, and that none of it is more than the function may do.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::Fixture;
use tests::leftovers::eventually;
use tests::run::Run;
use tests::serving::Client;

/// A function that runs in the background, called `it`.
struct Function {
    fixture: Fixture,
    address: String,
}

impl Function {
    /// One that does what its events say.
    fn new() -> Option<Function> {
        Function::with("obey", &[])
    }

    fn with(script: &str, options: &[&str]) -> Option<Function> {
        let fixture = Fixture::new()?;
        fixture.script(script);
        let volume = format!("{}:/var/task:ro", fixture.task().display());
        let line =
            ["run", "-d", "--name", "it", "-e", "DOCKER_LAMBDA_STAY_OPEN=1", "-e", "GIVEN=run", "-p", "127.0.0.1:0:9001", "-v", &volume];
        fixture.docker(&[&line, options, &[&fixture.image("provided"), "handler"]].concat()).finish().expect_code(0);
        let port = fixture.docker(&["port", "it", "9001"]).finish().expect_code(0).out();
        Some(Function { address: port.trim_end().to_owned(), fixture })
    }

    /// Has the function do these commands; its answer.
    fn tell(&self, commands: &str) -> Value {
        let (status, body) = Client::connect(&self.address).invoke("fn", Value::from(commands).to_string().as_bytes());
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).expect("JSON")
    }

    /// `docker exec` of the probe in it.
    fn exec(&self, options: &[&str], line: &str) -> Run {
        self.fixture.docker(&[&["exec"], options, &["it", "/var/task/bootstrap", "--line", line]].concat())
    }

    /// The notes of a command that was executed in it.
    fn notes(&self, options: &[&str], line: &str) -> Value {
        let ran = self.exec(options, &format!("{line} ; print-notes")).finish().expect_code(0);
        serde_json::from_str(&ran.out()).unwrap_or_else(|_| panic!("no notes: {}", ran.out()))
    }

    fn docker(&self, arguments: &[&str]) -> String {
        self.fixture.docker(arguments).finish().expect_code(0).out()
    }

    fn end(self) {
        self.docker(&["rm", "-f", "it"]);
        assert_eq!(self.docker(&["ps", "-aq"]), "");
        let _ = fs::remove_dir_all(self.fixture.path().join("run/undocked"));
        self.fixture.expect_nothing_left();
    }
}

#[test]
fn before_during_and_after_its_first_event() {
    let Some(function) = Function::new() else { return };
    let ran = function.exec(&[], "out inside\\n ; err beside\\n ; exit 9").finish().expect_code(9);
    assert_eq!((ran.out(), ran.err()), ("inside\n".to_owned(), "beside\n".to_owned()));
    // Nothing of the function has been started for that.
    assert!(!function.docker(&["logs", "it"]).contains("INIT_START"));
    assert_eq!(function.notes(&[], "write done /tmp/shared mine")["done"], "ok");
    assert_eq!(function.tell("read text /tmp/shared ; note-pid pid ; respond-notes")["text"], "mine");
    let pid = function.tell("note-pid pid ; respond-notes")["pid"].clone();
    thread::scope(|scope| {
        let busy = scope.spawn(|| function.tell("write begun /tmp/begun x ; sleep 500 ; note-pid pid ; respond-notes"));
        let begun = || function.notes(&[], "read text /tmp/begun")["text"] == "x";
        eventually(Duration::from_secs(5), "the event has begun", begun);
        assert!(!busy.is_finished());
        function.exec(&[], "kill-self 11").finish().expect_code(139);
        // The end of a command is none of the function's.
        assert_eq!(busy.join().expect("it answers")["pid"], pid);
    });
    function.end();
}

#[test]
fn its_own_variables_folder_input_and_codes() {
    let Some(function) = Function::new() else { return };
    let seen = function.notes(&["-e", "A=b", "-w", "/tmp"], "note-env all ; note-cwd cwd");
    let all = &seen["all"];
    assert_eq!((&all["A"], &all["GIVEN"], &all["LAMBDA_TASK_ROOT"]), (&json!("b"), &json!("run"), &json!("/var/task")));
    assert_eq!(
        (&all["AWS_LAMBDA_RUNTIME_API"], &all["_LAMBDA_TELEMETRY_LOG_FD"], &all["TERM"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!(seen["cwd"], "/tmp");
    assert_eq!(function.notes(&[], "note-cwd cwd")["cwd"], "/var/task");
    assert_eq!(function.notes(&["-t"], "note-env all")["all"]["TERM"], "xterm");
    let fed = function.exec(&["-i"], "note-stdin text ; print-notes").stdin("typed").finish().expect_code(0);
    assert!(fed.out().contains("\"typed\""), "{}", fed.out());
    assert_eq!(function.notes(&[], "open-write done /dev/stdout ; open-write other /dev/stderr"), json!({"done": "ok", "other": "ok"}));
    for (options, command, code, said) in [
        (&[][..], "/none/such", 127, "no such file or directory"),
        (&[], "/var/task", 126, "permission denied"),
        (&["-w", "/none"], "/var/task/bootstrap", 126, "working directory"),
        (&["-u", "root"], "/var/task/bootstrap", 126, "there is one user inside"),
    ] {
        let refused = function.fixture.docker(&[&["exec"], options, &["it", command]].concat()).finish().expect_code(code);
        assert!(refused.err().contains(said), "{}", refused.err());
    }
    function.exec(&["-d"], "write done /tmp/alone x ; sleep 60000").finish().expect_code(0);
    eventually(Duration::from_secs(5), "it runs alone", || function.notes(&[], "read text /tmp/alone")["text"] == "x");
    function.end();
}

/// The lines of a process' own status that tell what it may do.
fn rights(status: &Value) -> Vec<String> {
    let told =
        ["Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:", "Seccomp_filters:"];
    let lines = status.as_str().expect("a text").lines().filter(|line| told.iter().any(|name| line.starts_with(name)));
    lines.map(str::to_owned).collect()
}

/// What a program tries that the sandbox refuses it: a write where Landlock or the mounts forbid it, system calls that the filter and missing rights do.
const TRIES: &str = "read status /proc/self/status ; write root /of-ours x ; write task /var/task/of-ours x ; write etc /etc/of-ours x ; clone user 0x10000000 ; \
                     connect-abstract abstract none ; syscall mount 165 0 0 0 0 0 ; syscall bpf 321 0 0 0 ; syscall keys 248 0 0 0 0 0 ; links namespaces /proc/self/ns";

#[test]
fn it_may_do_what_the_function_may_and_no_more() {
    let Some(function) = Function::new() else { return };
    let mut own = function.tell(&format!("{TRIES} ; respond-notes"));
    own.as_object_mut().expect("notes").remove("respond-status");
    let mut its = function.notes(&[], TRIES);
    let (own_rights, its_rights) = (rights(&own["status"].take()), rights(&its["status"].take()));
    assert_eq!(own_rights, its_rights);
    assert!(its_rights.contains(&"NoNewPrivs:\t1".to_owned()), "{its_rights:?}");
    assert!(its_rights.contains(&"CapEff:\t0000000000000000".to_owned()), "{its_rights:?}");
    // Where the machine has no filters, nobody has.
    assert!(its_rights.contains(&"Seccomp:\t2".to_owned()), "{its_rights:?}");
    assert_ne!((&its["root"], &its["task"], &its["user"]), (&json!("ok"), &json!("ok"), &json!("ok")));
    assert_eq!(own, its);
    function.end();
}

#[test]
fn it_outlives_the_runtime_and_ends_with_the_sandbox() {
    let Some(function) = Function::new() else { return };
    function.tell("write done /tmp/kept x ; respond null");
    let waits = function.exec(&[], "out waits\\n ; spawn sleep 60000 ; sleep 60000").start();
    eventually(Duration::from_secs(5), "it has begun", || waits.stdout_so_far().contains("waits\n"));
    let processes = || function.docker(&["top", "it"]).lines().filter(|line| line.contains("bootstrap")).count();
    eventually(Duration::from_secs(5), "it has a child", || processes() == 3);
    function.tell("respond null");
    // What the runtime leaves behind ends with it; a command and its child do not.
    let failed = function.tell("spawn sleep 60000 ; sleep 50 ; exit 3");
    assert_eq!(failed["errorType"], "Runtime.ExitError");
    eventually(Duration::from_secs(5), "the runtime's child is gone", || processes() == 2);
    assert_eq!(function.tell("note-now now ; respond null"), Value::Null);
    assert_eq!(function.notes(&[], "read text /tmp/kept")["text"], "x");
    assert_eq!(processes(), 3);
    function.docker(&["stop", "it"]);
    waits.finish().expect_code(137);
    let gone = function.fixture.docker(&["exec", "it", "true"]).finish().expect_code(1);
    assert!(gone.err().contains("is not running"), "{}", gone.err());
    function.end();
}

/// Whatever the isolation is that this machine grants: without user namespaces, without a pid namespace, in a plain chroot.
#[test]
fn on_machines_that_grant_less() {
    let no_namespaces = ["--refuse", "clone-newuser", "--refuse", "mount", "--refuse", "open_tree"];
    for lacks in [&["--refuse", "pivot_root"][..], &["--mask-proc"], &["--refuse", "clone-newuser"], &no_namespaces] {
        // An ordinary user has no other way into an image than a user namespace.
        if !tests::skip::is_root() && lacks.contains(&"clone-newuser") {
            continue;
        }
        let Some(fixture) = Fixture::new() else { return };
        fixture.script("obey");
        let volume = format!("{}:/var/task:ro", fixture.task().display());
        let line = ["docker", "run", "-d", "--name", "it", "-e", "DOCKER_LAMBDA_STAY_OPEN=1", "-p", "127.0.0.1:0:9001", "-v", &volume];
        fixture.degraded(lacks, &[&line[..], &[&fixture.image("provided"), "handler"]].concat()).finish().expect_code(0);
        let address = fixture.docker(&["port", "it", "9001"]).finish().expect_code(0).out().trim_end().to_owned();
        let function = Function { fixture, address };
        assert_eq!(function.notes(&[], "write done /tmp/shared mine")["done"], "ok");
        assert_eq!(function.tell("read text /tmp/shared ; respond-notes")["text"], "mine");
        let waits = function.exec(&[], "out waits\\n ; sleep 60000").start();
        eventually(Duration::from_secs(5), "it has begun", || waits.stdout_so_far().contains("waits\n"));
        assert_eq!(function.tell("spawn sleep 60000 ; exit 3")["errorType"], "Runtime.ExitError");
        assert_eq!(function.tell("respond null"), Value::Null);
        function.docker(&["pause", "it"]);
        function.docker(&["unpause", "it"]);
        assert_eq!(function.tell("respond null"), Value::Null);
        // Where there is no `/proc` inside the first process cannot tell a guest's processes from others.
        let is_spared = !lacks.contains(&"--mask-proc") && !lacks.contains(&"mount");
        let processes = function.docker(&["top", "it"]).lines().filter(|line| line.contains("bootstrap")).count();
        assert_eq!(processes, if is_spared { 2 } else { 1 }, "{lacks:?}");
        function.docker(&["stop", "it"]);
        waits.finish().expect_code(137);
        function.end();
    }
}

/// Nothing but a command has ever been in it.
#[test]
fn one_without_events_ends_as_any() {
    let Some(function) = Function::new() else { return };
    function.exec(&["-d"], "sleep 60000").finish().expect_code(0);
    let begun = Instant::now();
    function.docker(&["stop", "it"]);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    function.end();
}

#[test]
fn calls_wait_while_it_is_paused() {
    let Some(function) = Function::new() else { return };
    let of = |template: &str| function.docker(&["inspect", "-f", template, "it"]).trim_end().to_owned();
    // Before anything runs, and while something does.
    for round in 0..2 {
        function.docker(&["pause", "it"]);
        assert_eq!(of("{{.State.Paused}} {{.State.Status}}"), "true paused");
        assert!(function.docker(&["ps", "--format", "{{.Status}}"]).ends_with("(Paused)\n"));
        let refused = function.fixture.docker(&["exec", "it", "true"]).finish().expect_code(1);
        assert!(refused.err().contains("is paused, unpause the container before exec"), "{}", refused.err());
        thread::scope(|scope| {
            let called = scope.spawn(|| function.tell("respond null"));
            thread::sleep(Duration::from_millis(300));
            assert!(!called.is_finished(), "round {round}");
            function.docker(&["unpause", "it"]);
            assert_eq!(called.join().expect("it answers"), Value::Null);
        });
        assert_eq!(of("{{.State.Paused}} {{.State.Status}}"), "false running");
    }
    // In the middle of an event, with a command beside it.
    function.exec(&["-d"], "ignore 1 ; sleep 60000").finish().expect_code(0);
    thread::scope(|scope| {
        let called = scope.spawn(|| function.tell("write begun /tmp/begun x ; sleep 200 ; respond null"));
        eventually(Duration::from_secs(5), "it has begun", || function.notes(&[], "read text /tmp/begun")["text"] == "x");
        function.docker(&["pause", "it"]);
        thread::sleep(Duration::from_millis(500));
        assert!(!called.is_finished());
        function.docker(&["unpause", "it"]);
        called.join().expect("it answers");
    });
    function.docker(&["pause", "it"]);
    function.docker(&["stop", "it"]);
    function.end();
}

/// `docker` at a terminal of its own, into which a line is typed once there is a file `line`, and an interrupt once there is a file `interrupt`.
fn at_terminal(fixture: &Fixture, arguments: &[&str]) -> Run {
    let script = "words=\"$0 docker $*\"; await() { until test -e $1; do sleep 0.1; done; }; \
                  (await line; echo typed; await interrupt; printf '\\003') | script -qec \"exec $words\" /dev/null";
    fixture.undocked_by_shell(script, arguments)
}

/// Nobody inside reads a function's terminal: keys end it as without one, and what is typed is shown once.
#[test]
fn an_interrupt_at_a_terminal_ends_it() {
    if !tests::skip::has_program("script") {
        tests::skip!("script is not installed (Debian package bsdutils)");
    }
    let Some(fixture) = Fixture::new() else { return };
    let (volume, image) = (format!("{}:/var/task:ro", fixture.task().display()), fixture.image("provided"));
    fixture.script("next\nout begun\nsleep 60000");
    let there = |fixture: &Fixture, name: &str| fs::write(fixture.path().join(name), "").expect("a file");
    for (options, code) in [(&["-e", "DOCKER_LAMBDA_STAY_OPEN=1", "-p", "127.0.0.1:0:9001"][..], 0), (&["-e", "A=b"], 130)] {
        let line = [&["run", "-it", "--rm", "-v", &volume], options, &[&image, "handler", "{}"]].concat();
        let run = at_terminal(&fixture, &line).start();
        let said = || run.stdout_so_far();
        eventually(Duration::from_secs(20), "it runs", || said().contains("begun") || said().contains("listening on port"));
        there(&fixture, "line");
        eventually(Duration::from_secs(20), "what is typed is shown", || said().contains("typed"));
        there(&fixture, "interrupt");
        let ran = run.finish().expect_code(code);
        assert_eq!(ran.out().matches("typed").count(), 1, "{}", ran.out());
        for name in ["line", "interrupt"] {
            fs::remove_file(fixture.path().join(name)).expect("ours");
        }
    }
    let _ = fs::remove_dir_all(fixture.path().join("run/undocked"));
    fixture.expect_nothing_left();
    let Some(function) = Function::with("obey", &["-it"]) else { return };
    let attached = at_terminal(&function.fixture, &["attach", "it"]).start();
    eventually(Duration::from_secs(20), "its output comes", || {
        function.tell("out mark\\n ; respond null");
        attached.stdout_so_far().contains("mark")
    });
    there(&function.fixture, "line");
    there(&function.fixture, "interrupt");
    attached.finish().expect_code(0);
    assert_eq!(function.docker(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "it"]), "exited 0\n");
    function.end();
}

/// The end of a terminal is no wish to reload.
#[test]
fn a_dead_terminal_ends_one_that_stays_open() {
    if !tests::skip::has_program("script") {
        tests::skip!("script is not installed (Debian package bsdutils)");
    }
    for options in [&["-it"][..], &["-i"], &[]] {
        let Some(fixture) = Fixture::new() else { return };
        fixture.script("obey");
        let (volume, image) = (format!("{}:/var/task:ro", fixture.task().display()), fixture.image("provided"));
        let line = ["run", "--name", "it", "-e", "DOCKER_LAMBDA_STAY_OPEN=1", "-p", "127.0.0.1:0:9001", "-v", &volume];
        let line = [&line[..], options, &[&image, "handler"]].concat();
        let terminal = fixture.undocked_by_shell("exec script -qec \"exec $0 docker $*\" /dev/null", &line).start();
        let docker = |arguments: &[&str]| fixture.docker(arguments).finish().out();
        let said = |text: &str| docker(&["logs", "it"]).contains(text) || fixture.docker(&["logs", "it"]).finish().err().contains(text);
        eventually(Duration::from_secs(20), "it listens", || said("listening on port"));
        docker(&["kill", "-s", "HUP", "it"]);
        eventually(Duration::from_secs(20), "it starts anew as long as there is a terminal", || said("SIGHUP received"));
        assert_eq!(docker(&["inspect", "-f", "{{.State.Status}}", "it"]), "running\n");
        terminal.signal(nix::sys::signal::Signal::SIGKILL);
        eventually(Duration::from_secs(10), "it has ended", || docker(&["ps", "-q"]).is_empty());
        assert_eq!(docker(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "it"]), "exited 129\n", "{options:?}");
        docker(&["rm", "it"]);
        let _ = fs::remove_dir_all(fixture.path().join("run/undocked"));
        fixture.expect_nothing_left();
    }
}

/// As docker-lambda's server, which fails then.
#[test]
fn a_result_that_nobody_takes() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nrespond-size 5000000");
    let volume = format!("{}:/var/task:ro", fixture.task().display());
    let line = ["docker", "run", "--rm", "-v", &volume, &fixture.image("provided"), "handler", "{}"];
    let ran = fixture.undocked_by_shell("\"$0\" \"$@\" | head -c 5 > /dev/null; echo ${PIPESTATUS[0]}", &line).finish();
    assert_eq!(ran.out(), "1\n", "{}", ran.err());
    let _ = fs::remove_dir_all(fixture.path().join("run/undocked"));
    fixture.expect_nothing_left();
}

#[test]
fn its_processes_and_files() {
    let Some(function) = Function::new() else { return };
    assert_eq!(function.docker(&["top", "it"]).lines().count(), 1);
    fs::write(function.fixture.path().join("file"), "from outside").expect("a file");
    // Before its first event there is no sandbox yet.
    function.docker(&["cp", "file", "it:/tmp/"]);
    let seen =
        function.tell("read text /tmp/file ; stat owner /tmp/file ; write done /tmp/made made ; append more /tmp/file x ; respond-notes");
    assert_eq!((&seen["text"], &seen["done"], &seen["more"]), (&json!("from outside"), &json!("ok"), &json!("ok")));
    function.docker(&["cp", "it:/tmp/made", "made"]);
    assert_eq!(fs::read_to_string(function.fixture.path().join("made")).expect("it was copied"), "made");
    let refused = function.fixture.docker(&["cp", "file", "it:/opt/"]).finish().expect_code(1);
    assert!(refused.err().contains("Read-only file system"), "{}", refused.err());
    function.exec(&["-d"], "sleep 60000").finish().expect_code(0);
    assert_eq!(function.docker(&["top", "it"]).lines().filter(|line| line.contains("bootstrap")).count(), 2);
    function.end();
}

#[test]
fn a_single_execution_under_way() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nsleep 3000\nnote-env all\nread text /tmp/its\nrespond-notes");
    let volume = format!("{}:/var/task:ro", fixture.task().display());
    let line = ["run", "-d", "--name", "it", "-v", &volume, &fixture.image("provided"), "handler", "{}"];
    fixture.docker(&line).finish().expect_code(0);
    let exec = |line: &str| fixture.docker(&["exec", "it", "/var/task/bootstrap", "--line", line]);
    exec("write done /tmp/its from-outside ; exit 4").finish().expect_code(4);
    let waits = exec("out waits\\n ; sleep 60000").start();
    eventually(Duration::from_secs(2), "it has begun", || waits.stdout_so_far() == "waits\n");
    fixture.docker(&["pause", "it"]).finish().expect_code(0);
    fixture.docker(&["unpause", "it"]).finish().expect_code(0);
    fixture.docker(&["wait", "it"]).finish().expect_code(0);
    // What runs in it ends with it.
    waits.finish().expect_code(137);
    let answer = fixture.docker(&["logs", "it"]).finish().expect_code(0).out();
    let answer: Value = answer.lines().find_map(|line| serde_json::from_str(line).ok()).expect("an answer");
    assert_eq!((&answer["text"], &answer["all"]["_LAMBDA_TELEMETRY_LOG_FD"]), (&json!("from-outside"), &Value::Null));
    fixture.docker(&["rm", "it"]).finish().expect_code(0);
    let _ = fs::remove_dir_all(fixture.path().join("run/undocked"));
    fixture.expect_nothing_left();
}
