//! Several programs in real sandboxes on the host's own userland.

use std::ffi::CStr;
use std::path::Path;

use super::*;
use crate::sandbox::{
    FirstProcess, HostRoot, Input, IsolationChoice, Launcher, Limits, Network, Output, RootSource, Sandbox, SandboxRequest, plan,
    shipped_filter,
};

const ENVIRONMENT: &CStr = c"PATH=/usr/bin:/bin";
const PIPES: Stdio = Stdio { input: Input::Null, output: Output::Pipe, error: Output::Joined };

fn request() -> SandboxRequest {
    let mut root = HostRoot { files: vec![("/etc/passwd".into(), b"x:x:993:990::/:/bin/sh\n".to_vec(), 0o644)], ..HostRoot::default() };
    for name in ["/usr", "/bin", "/sbin", "/lib", "/lib64"] {
        match std::fs::read_link(name) {
            Ok(target) => root.symlinks.push((name.into(), target)),
            Err(_) if Path::new(name).is_dir() => root.folders.push(name.into()),
            Err(_) => {}
        }
    }
    SandboxRequest {
        isolation: IsolationChoice::Auto,
        scratch: Some(std::env::temp_dir()),
        root: RootSource::Host(root),
        command: Command::Line(Vec::new()),
        environment: Vec::new(),
        working_dir: "relative and of no concern".into(),
        volumes: Vec::new(),
        identity: InnerIdentity { uid: 993, gid: 990 },
        ids: crate::sandbox::IdMap::Single,
        terminal: None,
        hostname: "sandbox".into(),
        tmp_size_bytes: 16 << 20,
        tmp_in_memory: None,
        files: Vec::new(),
        limits: Limits::default(),
        stdio: PIPES,
        network: Network::None,
        listen_inside: None,
        first_process: FirstProcess::Several,
        filter: Some(shipped_filter()),
    }
}

/// A sandbox without programs yet; none where the kernel grants no user namespace.
fn sandbox() -> Option<(Sandbox, Programs)> {
    let granted = std::process::Command::new("unshare").args(["-U", "true"]).status().is_ok_and(|status| status.success());
    if !granted {
        assert!(std::env::var_os("REQUIRE_USERNS").is_none(), "user namespaces are required and not granted");
        eprintln!("skipped: this machine grants no user namespace");
        return None;
    }
    let (sandbox, programs) = launched(request());
    assert_eq!(sandbox.enforcement().degradations, [], "refused");
    Some((sandbox, programs))
}

fn launched(request: SandboxRequest) -> (Sandbox, Programs) {
    let mut sandbox = Launcher::start().unwrap().launch(plan(request).unwrap()).unwrap();
    let programs = sandbox.programs.take().expect("it holds several");
    (sandbox, programs)
}

fn shell(script: &str) -> Program {
    line(&["sh", "-c", script])
}

fn line(words: &[&str]) -> Program {
    Program {
        command: Command::Line(words.iter().map(ToString::to_string).collect()),
        environment: vec![ENVIRONMENT.to_owned()],
        working_dir: "/tmp".into(),
        stdio: PIPES,
        descriptors: Vec::new(),
    }
}

fn text(of: Option<OwnedFd>) -> String {
    io::read_to_string(File::from(of.expect("a pipe"))).unwrap()
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(std::time::Duration::from_secs(60), future).await.expect("in time") })
}

/// The next ends, each as (which, how).
fn ends(programs: &mut Programs, count: usize) -> Vec<(ProgramId, Ended)> {
    block_on(async {
        let mut found = Vec::new();
        for _ in 0..count {
            let end = programs.ended().await.unwrap();
            found.push((end.id, end.ended));
        }
        found
    })
}

fn killed(signal: i32) -> Ended {
    Ended::Signaled { signal, core_dumped: false }
}

#[test]
fn two_programs_come_and_go() {
    let Some((mut sandbox, mut programs)) = sandbox() else { return };
    let first = programs.start(&shell("echo $$ $PWD >first; echo one; read line <fifo || mkfifo fifo && read line <fifo; exit 3")).unwrap();
    let second = programs.start(&shell("until test -p fifo; do :; done; cat first; echo go >fifo; exit 4")).unwrap();
    assert_ne!(first.id, second.id);
    assert_eq!(text(second.stdout), "2 /tmp\n");
    assert!(text(first.stdout).starts_with("one\n"));
    let mut found = ends(&mut programs, 2);
    found.sort_by_key(|(id, _)| *id);
    assert_eq!(found, [(first.id, Ended::Exited(3)), (second.id, Ended::Exited(4))]);
    let third = programs.start(&shell("kill -ABRT $$")).unwrap();
    assert_eq!(ends(&mut programs, 1), [(third.id, killed(libc::SIGABRT))]);
    // Nobody inside reaches PID 1, which reaps orphans.
    let last = programs.start(&shell("(sh -c true &); kill -9 1; cat /proc/1/environ; ls /proc/1/fd; cat /proc/1/mem; echo on")).unwrap();
    let told = text(last.stdout);
    assert_eq!((told.matches("ermission denied").count(), told.ends_with("on\n")), (3, true), "{told}");
    drop(programs);
    assert!(matches!(sandbox.wait().unwrap(), Ended::Exited(0)));
}

#[test]
fn one_is_killed_and_the_other_goes_on() {
    let Some((_sandbox, mut programs)) = sandbox() else { return };
    let one = programs.start(&shell("sleep 1000 & echo up; wait")).unwrap();
    let other = programs.start(&shell("trap 'echo told; exit 5' TERM; echo up; while :; do :; done")).unwrap();
    let mut output = File::from(other.stdout.unwrap());
    output.read_exact(&mut [0; 3]).unwrap();
    let mut of_one = File::from(one.stdout.unwrap());
    of_one.read_exact(&mut [0; 3]).unwrap();
    programs.kill(one.id).unwrap();
    assert_eq!(ends(&mut programs, 1), [(one.id, killed(libc::SIGKILL))]);
    // With its whole group: the pipe has no writer any more.
    assert_eq!(io::read_to_string(of_one).unwrap(), "");
    programs.kill(one.id).expect("it has ended");
    programs.signal(other.id, libc::SIGTERM).unwrap();
    assert_eq!(ends(&mut programs, 1), [(other.id, Ended::Exited(5))]);
    assert_eq!(io::read_to_string(output).unwrap(), "told\n");
}

#[test]
fn all_are_killed_and_tmp_stays() {
    let Some((_sandbox, mut programs)) = sandbox() else { return };
    let script = "echo kept >/tmp/file; (setsid sh -c 'trap : TERM; echo up; sleep 1000 & while :; do wait; done' &) ; sleep 1000";
    let first = programs.start(&shell(script)).unwrap();
    let second = programs.start(&shell("exec sleep 1000")).unwrap();
    let mut output = File::from(first.stdout.unwrap());
    output.read_exact(&mut [0; 3]).unwrap();
    programs.kill_all().unwrap();
    // Nothing is left of it once that has returned.
    let after = programs.start(&shell("cat /tmp/file; set -- /proc/[0-9]*; echo $#")).unwrap();
    assert_eq!(text(after.stdout), "kept\n2\n");
    assert_eq!(io::read_to_string(output).unwrap(), "");
    let mut found = ends(&mut programs, 3);
    found.sort_by_key(|(id, _)| *id);
    assert_eq!(found, [(first.id, killed(libc::SIGKILL)), (second.id, killed(libc::SIGKILL)), (after.id, Ended::Exited(0))]);
    programs.kill_all().expect("nobody is there");
}

#[test]
fn guests_are_spared_with_what_they_have_started() {
    let Some((_sandbox, mut programs)) = sandbox() else { return };
    // Both leave something behind, in sessions of their own.
    let script = "(setsid sh -c 'trap : TERM HUP; sleep 1000 & echo up; while :; do wait; done' &) ; sleep 1000 & sleep 1000";
    let member = programs.start(&shell(script)).unwrap();
    let guest = programs.start_guest(&shell("setsid sleep 1000 & echo up; wait")).unwrap();
    let ended = programs.start(&shell("(setsid sleep 1000 >/dev/null 2>&1 &); exit 3")).unwrap();
    assert_eq!(text(ended.stdout), "");
    File::from(member.stdout.unwrap()).read_exact(&mut [0; 3]).unwrap();
    let mut output = File::from(guest.stdout.unwrap());
    output.read_exact(&mut [0; 3]).unwrap();
    programs.kill_others().unwrap();
    let mut found = ends(&mut programs, 2);
    found.sort_by_key(|(id, _)| *id);
    assert_eq!(found, [(member.id, killed(libc::SIGKILL)), (ended.id, Ended::Exited(3))]);
    // Nothing is left but PID 1, the guest and its child, and who counts.
    let after = programs.start(&shell("set -- /proc/[0-9]*; echo $#")).unwrap();
    assert_eq!((text(after.stdout), ends(&mut programs, 1)), ("4\n".to_owned(), vec![(after.id, Ended::Exited(0))]));
    programs.kill_others().expect("nobody is there");
    programs.kill(guest.id).unwrap();
    assert_eq!(ends(&mut programs, 1), [(guest.id, killed(libc::SIGKILL))]);
    // What it has left behind is nobody's guest.
    programs.kill_others().unwrap();
    let after = programs.start(&shell("set -- /proc/[0-9]*; echo $#")).unwrap();
    assert_eq!(text(after.stdout), "2\n");
}

/// Each process of it starts the next one and ends, so that whoever is found in a list is gone by then.
#[test]
fn what_runs_away_is_killed_beside_a_guest() {
    let Some((_sandbox, mut programs)) = sandbox() else { return };
    let _guest = programs.start_guest(&shell("exec sleep 1000")).unwrap();
    let script = "printf '#!/bin/sh\\n/tmp/run &\\n' >/tmp/run; chmod +x /tmp/run; /tmp/run; echo up";
    let runs = programs.start(&shell(script)).unwrap();
    File::from(runs.stdout.unwrap()).read_exact(&mut [0; 3]).unwrap();
    programs.kill_others().unwrap();
    // Whether or not the guest was spared for that.
    programs.kill_all().unwrap();
    let after = programs.start(&shell("set -- /proc/[0-9]*; echo $#")).unwrap();
    assert_eq!(text(after.stdout), "2\n");
}

#[test]
fn what_cannot_be_executed_is_told_and_no_end() {
    let Some((_sandbox, mut programs)) = sandbox() else { return };
    let script = "echo text >plain; chmod +x plain; echo text >closed; printf '#!/none\\n' >gone; chmod +x gone";
    let made = programs.start(&shell(script)).unwrap();
    assert_eq!(ends(&mut programs, 1), [(made.id, Ended::Exited(0))]);
    let first = |candidates: &[&str]| Program {
        command: Command::FirstOf {
            candidates: candidates.iter().map(ToString::to_string).collect(),
            arguments: vec!["-c".into(), "exit 6".into()],
        },
        ..shell("")
    };
    let mut refused = |program: &Program| match programs.start(program).unwrap_err() {
        LaunchError::Exec { path, source } => (path, source.raw_os_error().unwrap()),
        LaunchError::WorkingDir { path, source } => (format!("in {}", path.display()), source.raw_os_error().unwrap()),
        LaunchError::NoCandidate { tried } => (tried.join(" "), 0),
        other => panic!("{other:?}"),
    };
    for (program, expected) in [
        (first(&["/tmp/none", "/tmp/closed"]), ("/tmp/closed", libc::EACCES)),
        (first(&["/tmp/plain"]), ("/tmp/plain", libc::ENOEXEC)),
        (first(&["/tmp/gone", "/bin/sh"]), ("/tmp/gone", libc::ENOENT)),
        (first(&["/tmp/none", "/tmp"]), ("/tmp/none /tmp", 0)),
        (line(&["/none"]), ("/none", libc::ENOENT)),
        (line(&["none"]), ("/usr/bin/none /bin/none", 0)),
        (Program { environment: vec![c"PATH=/none:/tmp".into()], ..line(&["closed"]) }, ("/tmp/closed", libc::EACCES)),
        (Program { working_dir: "/none".into(), ..shell("") }, ("in /none", libc::ENOENT)),
        (Program { working_dir: "/bin/sh".into(), ..shell("") }, ("in /bin/sh", libc::ENOTDIR)),
        // None of its descriptors is a folder (CVE-2024-21626).
        (Program { working_dir: "/proc/self/fd/1".into(), ..shell("") }, ("in /proc/self/fd/1", libc::ENOTDIR)),
        (line(&["/bin/sh", &"x".repeat(200 << 10)]), ("/bin/sh", libc::E2BIG)),
    ] {
        assert_eq!(refused(&program), (expected.0.to_owned(), expected.1));
    }
    assert!(matches!(programs.start(&line(&["a\0b"])), Err(LaunchError::Program(_))));
    let folder = Program { descriptors: vec![(3, File::open("/").unwrap().into())], ..shell("") };
    assert!(matches!(programs.start(&folder), Err(LaunchError::Source { .. })));
    let last = programs.start(&first(&["/none", "/bin/sh"])).unwrap();
    assert_eq!(ends(&mut programs, 1), [(last.id, Ended::Exited(6))]);
}

/// What the host's user may not see is not told to others inside either: each has its own strings and descriptors, and nothing else.
#[test]
fn programs_have_what_is_theirs_alone() {
    let Some((_sandbox, mut programs)) = sandbox() else { return };
    let large: Vec<_> = (0..15).map(|number| CString::new(format!("SECRET{number}={}", "s".repeat(100 << 10))).unwrap()).collect();
    let environment = large.into_iter().chain([ENVIRONMENT.to_owned()]).collect();
    let (log, logged) = sys::pipe().unwrap();
    let (other, others) = sys::pipe().unwrap();
    let descriptors = vec![(62, logged.into()), (3, others.into())];
    let script = "echo ${#SECRET0} ${#SECRET14} $(ls /proc/self/fd | tr '\n' ' '); bash -c 'echo logged >&62'; echo third >&3";
    let first = programs.start(&Program { environment, descriptors, ..shell(script) }).unwrap();
    // The shell's own pipe for `$()` is 1; `ls` has opened the folder.
    assert_eq!(
        text(first.stdout),
        "102400 102400 0 1 2 3 4 62
"
    );
    assert_eq!(
        (io::read_to_string(log).unwrap(), io::read_to_string(other).unwrap()),
        (
            "logged
"
            .into(),
            "third
"
            .into()
        )
    );
    let script = "ls /proc/self/fd; env | grep -c SECRET; grep -E '^(Cap|NoNewPrivs|Seccomp:|SigBlk|SigIgn)' /proc/self/status; ulimit -n; cut -d' ' -f6,7 </proc/self/stat";
    let second = programs.start(&shell(script)).unwrap();
    let told = text(second.stdout);
    let (descriptors, rest) = told.split_at(8);
    assert_eq!((descriptors, rest.lines().next()), ("0\n1\n2\n3\n", Some("0")), "{told}");
    let values: Vec<_> = rest.lines().skip(1).filter_map(|line| line.split_whitespace().last()).collect();
    assert_eq!(values, [["0000000000000000"; 7].as_slice(), &["1", "2", "1024", "0"]].concat(), "{told}");
}

#[test]
fn hundreds_of_starts_leave_no_descriptor() {
    let Some((sandbox, mut programs)) = sandbox() else { return };
    // PID 1's own are shown to root alone, since nobody may look into it.
    let count = |pid: u32| std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    let mut before = None;
    for _ in 0..200 {
        let started = programs.start(&line(&["true"])).unwrap();
        assert_eq!(text(started.stdout), "");
        assert_eq!(ends(&mut programs, 1), [(started.id, Ended::Exited(0))]);
        before.get_or_insert_with(|| (count(sandbox.host_pid()), count(std::process::id())));
    }
    let (of_first, ours) = before.expect("some were started");
    assert_eq!(count(sandbox.host_pid()), of_first);
    // Other tests have some, too.
    assert!(count(std::process::id()) < ours + 150);
}

#[test]
fn there_is_an_end_to_how_many_run() {
    let Some((_sandbox, mut programs)) = sandbox() else { return };
    for _ in 0..64 {
        programs.start(&line(&["sleep", "1000"])).unwrap();
    }
    assert!(matches!(programs.start(&line(&["true"])), Err(LaunchError::Prepare { .. })));
    programs.kill_all().unwrap();
    assert!(ends(&mut programs, 64).iter().all(|(_, ended)| *ended == killed(libc::SIGKILL)));
    programs.start(&line(&["true"])).unwrap();
}

/// The states of all processes but the first (proc_pid_stat(5)).
fn states(first: u32) -> Vec<char> {
    let family = crate::sandbox::memory::family(first.cast_signed());
    let stats = family.into_iter().skip(1).filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok());
    stats.filter_map(|stat| stat.rsplit_once(") ")?.1.chars().next()).collect()
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + std::time::Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "never {what}");
        std::thread::yield_now();
    }
}

fn freezes(sandbox: &Sandbox, programs: &mut Programs) {
    let started = programs.start(&shell("(sleep 1000; :) & echo up; until test -e /tmp/go; do :; done; exit 8")).unwrap();
    File::from(started.stdout.unwrap()).read_exact(&mut [0; 3]).unwrap();
    programs.stop_all().unwrap();
    // A shell that waits for its child's exec (vfork(2)) and the stopped child wait for each other.
    eventually("stopped", || states(sandbox.host_pid()).iter().all(|state| matches!(state, 'T' | 'D')));
    programs.start(&shell("touch /tmp/go")).unwrap();
    let [(_, ended)] = ends(programs, 1)[..] else { unreachable!() };
    assert_eq!((ended, states(sandbox.host_pid()).contains(&'T')), (Ended::Exited(0), true));
    programs.continue_all().unwrap();
    assert_eq!(ends(programs, 1), [(started.id, Ended::Exited(8))]);
    programs.kill_all().unwrap();
    programs.stop_all().expect("nobody is there");
}

#[test]
fn all_are_stopped_and_go_on() {
    let Some((sandbox, mut programs)) = sandbox() else { return };
    freezes(&sandbox, &mut programs);
}

#[test]
fn sockets_are_of_the_network_inside() {
    let Some((_sandbox, mut programs)) = sandbox() else { return };
    let socket = programs.socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0).unwrap();
    let address = std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 2773);
    rustix::net::bind(&socket, &address).unwrap();
    rustix::net::listen(&socket, 1).unwrap();
    let started = programs.start(&shell("cat /proc/net/tcp")).unwrap();
    let told = text(started.stdout);
    assert_eq!(told.matches("0100007F:0AD5 00000000:0000 0A").count(), 1, "{told}");
    assert_eq!(programs.socket(libc::AF_INET, 99, 0).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    let (_sandbox, mut programs) = launched(SandboxRequest { network: Network::Host, ..request() });
    programs.socket(libc::AF_INET6, libc::SOCK_DGRAM, 0).unwrap();
    programs.start(&shell("true")).unwrap();
}

#[test]
fn no_end_is_lost_by_waiting_for_something_else() {
    let Some((_sandbox, mut programs)) = sandbox() else { return };
    let mut left = block_on(async {
        let mut left = HashSet::new();
        for _ in 0..50 {
            left.insert(programs.start(&shell("exit 9")).unwrap().id);
            tokio::select! {
                biased;
                end = programs.ended() => assert!(left.remove(&end.unwrap().id)),
                () = tokio::task::yield_now() => {}
            }
        }
        left
    });
    let count = left.len();
    assert!(ends(&mut programs, count).iter().all(|(id, ended)| left.remove(id) && *ended == Ended::Exited(9)));
    let waits = block_on(async { tokio::time::timeout(std::time::Duration::ZERO, programs.ended()).await.is_err() });
    assert!(waits);
}

/// CVE-2019-5736: called `/proc/self/exe`, it is not undocked that is executed, but the init's file, which then does nothing.
#[test]
fn our_own_executable_cannot_be_run() {
    let Some((_sandbox, mut programs)) = sandbox() else { return };
    let made = programs.start(&shell("printf '#!/proc/self/exe\n' >bootstrap; chmod +x bootstrap; ln -s /proc/self/exe link")).unwrap();
    assert_eq!(ends(&mut programs, 1), [(made.id, Ended::Exited(0))]);
    for path in ["/tmp/bootstrap", "/tmp/link", "/proc/self/exe"] {
        let started = programs.start(&line(&[path, "--version"])).unwrap();
        assert_eq!(text(started.stdout), "");
        assert_eq!(ends(&mut programs, 1), [(started.id, Ended::Exited(127))], "{path}");
    }
}

#[test]
fn dropping_the_sandbox_kills_all() {
    let Some((sandbox, mut programs)) = sandbox() else { return };
    let started = programs.start(&shell("setsid sleep 1000 & echo up; sleep 1000")).unwrap();
    let mut output = File::from(started.stdout.unwrap());
    output.read_exact(&mut [0; 3]).unwrap();
    drop(sandbox);
    assert_eq!(io::read_to_string(output).unwrap(), "");
    let error = block_on(async {
        loop {
            if let Err(error) = programs.ended().await {
                break error;
            }
        }
    });
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(programs.start(&shell("")).is_err() && programs.kill_all().is_err());
}

/// A program that takes too much ends the whole sandbox, and that is known as soon as its own end is.
#[test]
fn memory_is_the_sandboxs() {
    let Some(_) = sandbox() else { return };
    let limits = Limits { memory_bytes: Some(48 << 20), ..Limits::default() };
    let (mut sandbox, mut programs) = launched(SandboxRequest { limits, ..request() });
    programs.start(&line(&["sleep", "1000"])).unwrap();
    assert!(!sandbox.killed_for_memory());
    let eater = programs.start(&shell("x=$(head -c 300000000 /dev/zero | tr '\\0' x)")).unwrap();
    block_on(async {
        while let Ok(end) = programs.ended().await {
            assert_eq!((end.ended, sandbox.killed_for_memory()), (killed(libc::SIGKILL), true), "{}", end.id == eater.id);
        }
    });
    assert_eq!(sandbox.wait().unwrap(), killed(libc::SIGKILL));
    assert!(sandbox.killed_for_memory());
    assert!(sandbox.peak_memory_bytes() > 24 << 20);
    assert!(programs.start(&shell("")).is_err());
}

#[test]
fn a_private_network_is_one_for_all() {
    let Some(_) = sandbox() else { return };
    let network = Network::Private { ipv6: false, needs_way_out: false };
    let (mut sandbox, mut programs) = launched(SandboxRequest { network, listen_inside: Some(9001), ..request() });
    let mut descriptors = sandbox.network.take().expect("it has its own");
    let listener = descriptors.listener.take().expect("it was asked for");
    for made in [descriptors.factory.socket(libc::AF_INET, libc::SOCK_STREAM, 0), programs.socket(libc::AF_INET, libc::SOCK_STREAM, 0)] {
        rustix::net::connect(made.unwrap(), &listener.local_addr().unwrap()).unwrap();
    }
    // Who waits for orders also makes sockets, whichever comes first.
    drop(descriptors);
    let started = programs.start(&shell("cat /proc/net/fib_trie; exit 2")).unwrap();
    assert!(text(started.stdout).contains("198.18."));
    assert_eq!(ends(&mut programs, 1), [(started.id, Ended::Exited(2))]);
}

/// Without a pid namespace, and without Landlock to bound signals: by who started whom.
#[test]
fn told_by_descent() {
    if nix::unistd::geteuid().is_root() {
        eprintln!("skipped: root's are told by their user");
        return;
    }
    let in_place =
        SandboxRequest { isolation: IsolationChoice::Only(crate::sandbox::Isolation::InPlace), network: Network::Host, ..request() };
    let plan = plan(in_place).unwrap().without(&["confine file access (Landlock)"]).unwrap();
    let mut sandbox = Launcher::start().unwrap().launch(plan).unwrap();
    let mut programs = sandbox.programs.take().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let within = |program: Program| Program { working_dir: folder.path().to_owned(), ..program };
    let script = "(setsid sh -c 'echo up; while :; do :; done' &); until test -e go; do :; done; exit 8";
    let started = programs.start(&within(shell(script))).unwrap();
    let mut output = File::from(started.stdout.unwrap());
    output.read_exact(&mut [0; 3]).unwrap();
    programs.stop_all().unwrap();
    eventually("stopped", || states(sandbox.host_pid()).iter().all(|state| matches!(state, 'T' | 'D')));
    std::fs::write(folder.path().join("go"), "").unwrap();
    programs.continue_all().unwrap();
    assert_eq!(ends(&mut programs, 1), [(started.id, Ended::Exited(8))]);
    programs.kill_all().unwrap();
    assert_eq!(io::read_to_string(output).unwrap(), "");
    assert!(states(sandbox.host_pid()).is_empty());
    let last = programs.start(&within(shell("exit 1"))).unwrap();
    assert_eq!(ends(&mut programs, 1), [(last.id, Ended::Exited(1))]);
}

/// Where no pid namespace holds the processes together.
#[test]
fn without_namespaces() {
    let Some(_) = sandbox() else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(
        folder.path().join("bootstrap"),
        "#!/bin/sh
echo here $PWD $1; (setsid sleep 1000 &); exec sleep 1000
",
    )
    .unwrap();
    std::fs::set_permissions(folder.path().join("bootstrap"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let volumes = vec![crate::sandbox::Volume {
        source: folder.path().to_owned(),
        target: "/var/task".into(),
        access: crate::sandbox::Access::ReadOnly,
    }];
    let in_place = IsolationChoice::Only(crate::sandbox::Isolation::InPlace);
    let (mut sandbox, mut programs) = launched(SandboxRequest { isolation: in_place, network: Network::Host, volumes, ..request() });
    let program = Program { working_dir: "/var/task".into(), ..line(&["/var/task/bootstrap", "/var/task/x"]) };
    let first = programs.start(&program).unwrap();
    let second = programs.start(&line(&["sleep", "1000"])).unwrap();
    let mut output = File::from(first.stdout.unwrap());
    let place = folder.path().display();
    let expected = format!(
        "here {place} {place}/x
"
    );
    let mut told = vec![0; expected.len()];
    output.read_exact(&mut told).unwrap();
    assert_eq!(String::from_utf8(told).unwrap(), expected);
    programs.kill(second.id).unwrap();
    assert_eq!(ends(&mut programs, 1), [(second.id, killed(libc::SIGKILL))]);
    programs.kill_all().unwrap();
    assert_eq!(io::read_to_string(output).unwrap(), "");
    assert_eq!(ends(&mut programs, 1), [(first.id, killed(libc::SIGKILL))]);
    let last = programs.start(&shell("(setsid sleep 1000 &); echo up; sleep 1000")).unwrap();
    let mut output = File::from(last.stdout.unwrap());
    output.read_exact(&mut [0; 3]).unwrap();
    // As by a sandbox that is dropped, which has killed the others before.
    sandbox.signal(libc::SIGCONT).unwrap();
    assert_eq!(sandbox.wait().unwrap(), Ended::Exited(0));
    assert_eq!(io::read_to_string(output).unwrap(), "");
}
