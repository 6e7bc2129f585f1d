//! T16 to T18: a function that takes all memory and all processes, or will not end; and an undocked that is killed meanwhile.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::leftovers::{descendants, eventually, mounts_below, processes_named, status_field};
use tests::run::Running;
use tests::{Fixture, Ran, place, skip, skip_for_this_user, skip_in_isolation};

/// The limit of these tests, in megabytes; the bombs go for ten times as much.
const LIMIT: u64 = 96;

fn figure(report: &str, name: &str) -> u64 {
    let value = report.split(&format!("{name}: ")).nth(1).and_then(|rest| rest.split(' ').next());
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no `{name}` in {report}"))
}

/// How long the function lived after it had passed the limit, in milliseconds: by its own clock, told after every megabyte.
fn overtime(said: &str) -> u64 {
    let told: Vec<u64> = said.lines().filter_map(|line| line.strip_prefix("past ")?.split(' ').nth(1)?.parse().ok()).collect();
    told.last().copied().unwrap_or(0) - told.first().copied().unwrap_or(0)
}

/// AWS's form of a function that ran out of memory.
fn expect_out_of_memory(ran: &Ran) {
    let said = ran.err();
    let body = ran.json();
    assert_eq!(body["errorType"], "Runtime.ExitError", "{said}");
    let message = body["errorMessage"].as_str().unwrap_or_default();
    assert!(message.starts_with("RequestId: ") && message.ends_with(" Error: Runtime exited with error: signal: killed"), "{message}");
    assert!(said.contains(&format!("{message}\nRuntime.ExitError\n")), "{said}");
    assert!(said.contains("\tStatus: error\tError Type: Runtime.OutOfMemory"), "{said}");
}

/// Fills memory of one kind up to ten times the limit: killed in time, told as AWS does. Without the limit the same goes well.
fn memory_bomb(kind: &str) {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script(&format!("next\nfill-memory {kind} {} {LIMIT}\nrespond-notes\nnext", 10 * LIMIT));
    let limit = format!("{LIMIT}m");
    // A `/tmp` that would hold all of it.
    let ran = fixture.run(&["-m", &limit, "--tmp-size", "2g"], &[]).finish().expect_code(1);
    expect_out_of_memory(&ran);
    let said = ran.err();
    assert!(overtime(&said) <= 200, "lived on for {} ms: {said}", overtime(&said));
    assert_eq!(figure(&said, "Memory Size"), LIMIT);
    let peak = figure(&said, "Max Memory Used");
    assert!((LIMIT - 4..6 * LIMIT).contains(&peak), "the peak is measured: {peak}");
    fixture.expect_nothing_left();
    let free = fixture.run(&["--tmp-size", "2g"], &[]).finish().expect_code(0);
    assert_eq!(free.json()["filled"], "ok", "without a limit it is let be");
    fixture.expect_nothing_left();
}

#[test]
fn t17_memory_bomb_of_plain_allocation() {
    memory_bomb("plain");
}

#[test]
fn t17_memory_bomb_of_shared_mappings() {
    memory_bomb("shared");
}

/// The pages stay, but no process has them in its tables. The watcher may be late: what other programs give back at the same moment hides as much.
#[test]
fn t17_memory_bomb_of_shared_mappings_whose_pages_are_dropped() {
    let Some(fixture) = Fixture::new() else { return };
    for before in ["", "crowd 60 900\n"] {
        fixture.script(&format!("next\n{before}fill-memory shared-dropped {} {LIMIT}\nrespond-notes\nnext", 15 * LIMIT));
        expect_out_of_memory(&fixture.run(&["-m", &format!("{LIMIT}m")], &[]).finish().expect_code(1));
        fixture.expect_nothing_left();
    }
}

/// So much to look at that looking takes longer than filling.
#[test]
fn t17_memory_bomb_behind_a_crowd_with_many_descriptors() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script(&format!("next\ncrowd 60 900\nfill-memory plain {} {LIMIT}\nrespond-notes\nnext", 15 * LIMIT));
    let ran = fixture.run(&["-m", &format!("{LIMIT}m")], &[]).finish().expect_code(1);
    expect_out_of_memory(&ran);
    assert!(overtime(&ran.err()) <= 200, "{}", ran.err());
    fixture.expect_nothing_left();
}

/// A watcher that can look at nothing lets nothing go on.
#[test]
fn t17_a_watcher_without_descriptors_kills() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nerr works\\n\nsleep 20000\nrespond {}\nnext");
    let running = fixture.run(&["-m", "128m"], &[]).start();
    running.wait_for_stderr("works");
    if !cgroups_of(processes_named(fixture.marker())[0]).is_empty() {
        running.signal(Signal::SIGTERM);
        running.finish();
        skip_for_this_user!("the kernel counts, no watcher");
    }
    let limited = Command::new("prlimit").args(["--pid", &running.id().to_string(), "--nofile=1:1"]).status();
    assert!(limited.is_ok_and(|status| status.success()));
    expect_out_of_memory(&running.finish().expect_code(1));
    fixture.expect_nothing_left();
}

/// So many descriptors that a look at all of them would come too late.
#[test]
fn t17_more_descriptors_than_the_watcher_can_look_at() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("err works\\n\nnext\ncrowd 150 900\nsleep 40000\nrespond {}\nnext");
    let running = fixture.run(&["-m", "256m"], &[]).start();
    running.wait_for_stderr("works");
    let watched = processes_named(fixture.marker()).first().is_some_and(|process| cgroups_of(*process).is_empty());
    if !watched {
        running.signal(Signal::SIGTERM);
        running.finish();
        skip_for_this_user!("the kernel counts, no watcher");
    }
    expect_out_of_memory(&running.finish().expect_code(1));
    fixture.expect_nothing_left();
}

#[test]
fn t17_memory_bomb_of_a_memory_file_that_nobody_maps() {
    memory_bomb("memory-file");
}

#[test]
fn t17_memory_bomb_of_files_in_tmp() {
    skip_in_isolation!(["chroot", "in-place"], "`/tmp` is a folder on a disk there");
    memory_bomb("tmp-file");
}

#[test]
fn t17_memory_bomb_of_segments_that_nobody_attaches() {
    if !place::has_namespaces() {
        if !skip::is_root() {
            skip_for_this_user!("segments are the machine's there, and stay (docs/isolation.md)");
        }
        let Some(fixture) = Fixture::new() else { return };
        fixture.script("next\nfill-memory segment 64 1\nrespond-notes\nnext");
        let before = fs::read_to_string("/proc/sysvipc/shm").expect("there").lines().count();
        assert_eq!(fixture.run(&[], &[]).finish().expect_code(0).json()["filled"], "ok");
        eventually(Duration::from_secs(10), "root has removed them", || {
            fs::read_to_string("/proc/sysvipc/shm").is_ok_and(|table| table.lines().count() <= before)
        });
        return;
    }
    memory_bomb("segment");
}

/// Not one process has much, all together have too much.
#[test]
fn t17_memory_bomb_of_many_processes() {
    let Some(fixture) = Fixture::new() else { return };
    let child = "touch-memory 20 ;; sleep 5000";
    let children: String = (0..10).map(|_| format!("spawn {}\n", child.replace(";;", ";"))).collect();
    fixture.script(&format!("next\n{children}sleep 5000\nrespond {{}}\nnext"));
    let ran = fixture.run(&["-m", &format!("{LIMIT}m")], &[]).finish().expect_code(1);
    expect_out_of_memory(&ran);
    fixture.expect_nothing_left();
}

/// Memory that forked processes share counts once.
#[test]
fn t17_shared_memory_counts_once() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\ntouch-memory 60\nforked 8 1500\nrespond {}\nnext");
    let ran = fixture.run(&["-m", &format!("{LIMIT}m")], &[]).finish().expect_code(0);
    assert!(figure(&ran.err(), "Max Memory Used") >= 60, "{}", ran.err());
    fixture.expect_nothing_left();
}

/// A plain command that is killed says so, with docker's exit code.
#[test]
fn t17_a_plain_command_is_limited_too() {
    let Some(fixture) = Fixture::new() else { return };
    let words = format!("--line fill-memory plain {} {LIMIT}", 10 * LIMIT);
    let run = |options: &[&str]| {
        let options: Vec<&str> = options.iter().copied().chain(["--entrypoint", "/var/task/bootstrap"]).collect();
        fixture.run(&options, &words.split(' ').collect::<Vec<_>>()).finish()
    };
    run(&["-m", &format!("{LIMIT}m")]).expect_code(137).expect_err("used more memory than");
    run(&[]).expect_code(0);
    fixture.expect_nothing_left();
}

/// T16: every process makes more of them.
#[test]
fn t16_fork_bomb() {
    if place::isolation_is(&["in-place"]) && !skip::is_root() {
        skip_for_this_user!("its own limit of processes is the only one there, and a bomb takes it up (docs/isolation.md)");
    }
    let Some(fixture) = Fixture::new() else { return };
    for options in [&["--timeout", "2"][..], &["--timeout", "2", "-m", "512m"]] {
        fixture.script("next\nfork-bomb");
        let ran = fixture.run(options, &[]).finish().expect_code(1);
        assert_eq!(ran.json()["errorType"], "Sandbox.Timedout", "{}", ran.err());
        eventually(Duration::from_secs(2), "all are reaped", || processes_named(fixture.marker()).is_empty());
        // Calm: a process is made and waited for as ever.
        let began = Instant::now();
        assert!(Command::new("true").status().is_ok_and(|status| status.success()));
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        fixture.expect_nothing_left();
    }
}

/// T16: the limit itself, with the error that a program sees.
#[test]
fn t16_no_more_than_1024_processes() {
    if place::isolation_is(&["in-place"]) && !skip::is_root() {
        skip_for_this_user!("its own limit of processes is the only one there, and a bomb takes it up (docs/isolation.md)");
    }
    let Some(fixture) = Fixture::new() else { return };
    for options in [&[][..], &["-m", "1g"]] {
        fixture.script("next\nforks\nrespond-notes\nnext");
        let notes = fixture.run(options, &[]).finish().expect_code(0).json();
        assert_eq!(notes["fork-refused"], "EAGAIN", "{notes}");
        let made = notes["forks"].as_u64().unwrap_or(0);
        // The init and the program itself are of them.
        assert!((1000..=1023).contains(&made), "{made}");
        fixture.expect_nothing_left();
    }
}

/// T18: orphans of orphans, one that takes no signal, one that has stopped.
#[test]
fn t18_nothing_is_left_of_processes_that_will_not_end() {
    let Some(fixture) = Fixture::new() else { return };
    let marked = |line: &str| format!("spawn comm {} ; {line}\n", fixture.marker());
    let script = format!(
        "{}{}{}next\nrespond {{}}\nnext",
        marked("ignore 15 ; ignore 1 ; hang"),
        marked("kill-self 19 ; hang"),
        marked(&format!("spawn comm {} ;; ignore 15 ;; hang", fixture.marker()))
    );
    for options in [&[][..], &["-m", "256m"]] {
        fixture.script(&script);
        fixture.run(options, &[]).finish().expect_code(0);
        fixture.expect_nothing_left();
    }
}

/// The folders of the cgroups that a process is in and that were made for its sandbox.
fn cgroups_of(process: i32) -> Vec<PathBuf> {
    let own = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
    let paths = own.lines().filter_map(|line| line.splitn(3, ':').nth(2)).filter(|path| path.contains("/undocked-"));
    let roots = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path()).chain(["/sys/fs/cgroup".into()]);
    let roots: Vec<PathBuf> = roots.collect();
    paths.flat_map(|path| roots.iter().map(move |root| root.join(path.trim_start_matches('/')))).filter(|folder| folder.exists()).collect()
}

/// Starts a function that hangs, with a limit; answers its process.
fn hanging(fixture: &Fixture) -> (Running, i32) {
    fixture.script("err hangs\\n\nspawn comm other ; hang\nhang");
    let running = fixture.run(&["-m", "128m"], &[]).start();
    running.wait_for_stderr("hangs");
    let process = processes_named(fixture.marker())[0];
    (running, process)
}

/// T18: undocked is killed; the kernel kills the sandbox, and the janitor removes the cgroup.
#[test]
fn t18_killed_undocked_leaves_no_process_and_no_cgroup() {
    let Some(fixture) = Fixture::new() else { return };
    let (running, process) = hanging(&fixture);
    let cgroups = cgroups_of(process);
    let helpers: Vec<i32> = descendants(running.id());
    if skip::is_root() && fs::read_dir("/sys/fs/cgroup/memory").is_ok() {
        assert!(!cgroups.is_empty(), "root has cgroups here");
    }
    running.signal(Signal::SIGKILL);
    eventually(Duration::from_secs(1), "the sandbox is gone", || processes_named(fixture.marker()).is_empty());
    let gone = || cgroups.iter().all(|folder| !folder.exists());
    eventually(Duration::from_secs(1), "its cgroups are gone", gone);
    let living = |id: &i32| status_field(*id, "State:").is_some_and(|state| !state.starts_with('Z'));
    eventually(Duration::from_secs(1), "all that undocked had started is gone", || !helpers.iter().any(living));
    drop(running);
    // Its folder in the cache stays until the next run.
    assert!(mounts_below(fixture.path()).is_empty());
}

/// Even the janitor was killed: the next run that needs a cgroup removes what is there.
#[test]
fn t18_cgroups_without_an_owner_are_removed_by_the_next_run() {
    let Some(fixture) = Fixture::new() else { return };
    let (running, process) = hanging(&fixture);
    let cgroups = cgroups_of(process);
    if cgroups.is_empty() {
        skip_for_this_user!("no cgroup can be made here, so none can be left");
    }
    let janitor = descendants(running.id())
        .into_iter()
        .find(|id| fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|line| line.starts_with(b"undocked-janitor")));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(janitor.expect("it runs")), Signal::SIGKILL).expect("it takes it");
    running.signal(Signal::SIGKILL);
    eventually(Duration::from_secs(1), "the sandbox is gone", || processes_named(fixture.marker()).is_empty());
    assert!(cgroups.iter().any(|folder| folder.exists()), "nobody was there to remove them");
    fixture.script("next\nrespond {}\nnext");
    fixture.run(&["-m", "128m"], &[]).finish().expect_code(0);
    eventually(Duration::from_secs(1), "the next run has removed them", || cgroups.iter().all(|folder| !folder.exists()));
    fixture.expect_nothing_left();
}

/// A run without limits makes no cgroup and starts no janitor.
#[test]
fn a_default_run_makes_no_cgroup() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("err hangs\\n\nhang");
    let running = fixture.run(&[], &[]).start();
    running.wait_for_stderr("hangs");
    assert_eq!(cgroups_of(processes_named(fixture.marker())[0]), Vec::<PathBuf>::new());
    // The init and the program.
    assert_eq!(descendants(running.id()).len(), 2);
    running.signal(Signal::SIGTERM);
    running.finish().expect_code(143);
    fixture.expect_nothing_left();
}
