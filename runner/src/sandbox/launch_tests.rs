//! Launches real sandboxes on the host's own userland. Skipped, with a word, where the kernel grants no user namespace.

use std::ffi::CString;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::thread;

use super::*;
use crate::sandbox::Launcher;
use crate::sandbox::{
    Access, Command, Ended, FirstProcess, HostRoot, InnerIdentity, Input, Output, RootSource, SANDBOX_V4, SandboxRequest, Stdio, Volume,
    plan, shipped_filter,
};

/// The parts of this machine's userland that a shell needs.
fn host_root() -> HostRoot {
    let mut root =
        HostRoot { files: vec![("/etc/passwd".into(), b"sbx_user1051:x:993:990::/:/bin/sh\n".to_vec(), 0o644)], ..HostRoot::default() };
    for name in ["/usr", "/bin", "/sbin", "/lib", "/lib64"] {
        match fs::read_link(name) {
            Ok(target) => root.symlinks.push((name.into(), target)),
            Err(_) if Path::new(name).is_dir() => root.folders.push(name.into()),
            Err(_) => {}
        }
    }
    root
}

fn request(script: &str) -> SandboxRequest {
    let filter = shipped_filter();
    SandboxRequest {
        isolation: crate::sandbox::IsolationChoice::Auto,
        scratch: None,
        root: RootSource::Host(host_root()),
        command: Command::Line(["sh", "-c", script].map(String::from).to_vec()),
        environment: vec![CString::new("PATH=/usr/bin:/bin").unwrap()],
        working_dir: "/".into(),
        volumes: Vec::new(),
        identity: InnerIdentity { uid: 993, gid: 990 },
        ids: IdMap::Single,
        terminal: None,
        hostname: "sandbox".into(),
        tmp_size_bytes: 1 << 20,
        tmp_in_memory: None,
        files: Vec::new(),
        limits: crate::sandbox::Limits::default(),
        stdio: Stdio { input: Input::Null, output: Output::Pipe, error: Output::Pipe },
        network: Network::Host,
        listen_inside: None,
        first_process: FirstProcess::Program,
        filter: Some(filter),
    }
}

fn supported() -> bool {
    let granted = std::process::Command::new("unshare").args(["-U", "true"]).status().is_ok_and(|status| status.success());
    if !granted {
        assert!(std::env::var_os("REQUIRE_USERNS").is_none(), "user namespaces are required and not granted");
        eprintln!("skipped: this machine grants no user namespace");
    }
    granted
}

/// What the script printed, and how it ended.
fn run(request: SandboxRequest) -> (String, String, Ended) {
    let mut sandbox = Launcher::start().unwrap().launch(plan(request).unwrap()).unwrap();
    let read = |fd: Option<OwnedFd>| {
        let mut text = String::new();
        File::from(fd.unwrap()).read_to_string(&mut text).unwrap();
        text
    };
    let output = read(sandbox.stdout.take());
    let error = read(sandbox.stderr.take());
    let ended = sandbox.wait().unwrap();
    assert_eq!(sandbox.enforcement().degradations, [], "refused");
    (output, error, ended)
}

#[test]
fn identity_and_processes() {
    if !supported() {
        return;
    }
    let (output, error, ended) = run(request("id -un; id -u; id -g; echo $$; set -- /proc/[0-9]*; echo $#; hostname; pwd; exit 3"));
    assert_eq!((output.as_str(), error.as_str()), ("sbx_user1051\n993\n990\n1\n1\nsandbox\n/\n", ""));
    assert_eq!(ended, Ended::Exited(3));
}

#[test]
fn no_rights_are_left() {
    if !supported() {
        return;
    }
    let script =
        "grep -E '^(Cap|NoNewPrivs|Seccomp:|SigBlk|SigIgn)' /proc/self/status; ls /proc/self/fd; ulimit -n; umask; cat /proc/self/uid_map";
    let (output, error, _) = run(request(script));
    let expected = ["0000000000000000"; 7];
    let values: Vec<_> = output.lines().take(7).map(|line| line.split_whitespace().last().unwrap()).collect();
    assert_eq!(values, expected, "{output}{error}");
    let rest: Vec<_> = output.lines().skip(7).collect();
    assert_eq!(rest[..8], ["NoNewPrivs:\t1", "Seccomp:\t2", "0", "1", "2", "3", "1024", "0022"], "{output}{error}");
    let map: Vec<u32> = rest[8].split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert_eq!((map[0], map[2]), (993, 1));
    assert_ne!(map[1], 0, "mapped to root of the host");
}

#[test]
fn joined_output_keeps_its_order() {
    if !supported() {
        return;
    }
    let stdio = Stdio { input: Input::Null, output: Output::Pipe, error: Output::Joined };
    let mut sandbox = Launcher::start()
        .unwrap()
        .launch(plan(SandboxRequest { stdio, ..request("echo a; echo b >/dev/stderr; echo c >>/dev/stdout") }).unwrap())
        .unwrap();
    let mut text = String::new();
    File::from(sandbox.stdout.take().unwrap()).read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), sandbox.stderr.is_none()), ("a\nb\nc\n", true));
}

#[test]
fn volumes() {
    if !supported() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["task", "opt"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("file"), name).unwrap();
    }
    // Unreadable for others: the sandbox is its owner.
    fs::set_permissions(folder.path().join("task"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let volume = |name: &str, target: &str, access| Volume { source: folder.path().join(name), target: PathBuf::from(target), access };
    let volumes = vec![volume("task", "/var/task", Access::ReadWrite), volume("opt", "/opt", Access::ReadOnly)];
    let script = "cat /var/task/file /opt/file; echo new >/var/task/new; echo x >/opt/new; echo x >/new; echo x >/usr/new; echo x >/tmp/new; stat -c %a:%u /tmp /var/task";
    let (output, error, _) = run(SandboxRequest { volumes, ..request(script) });
    assert_eq!(output, "taskopt1777:993\n700:993\n", "{error}");
    assert_eq!(error.matches("Read-only file system").count(), 3, "{error}");
    assert_eq!(fs::read_to_string(folder.path().join("task/new")).unwrap(), "new\n");
}

#[test]
fn a_small_tmp_is_full() {
    if !supported() {
        return;
    }
    let (_, error, _) = run(request("head -c 2000000 /dev/zero >/tmp/big"));
    assert!(error.contains("No space left"), "{error}");
}

/// Whoever executes the program: the first process, the second, or the init's file where there is no Landlock.
#[test]
fn what_cannot_be_executed() {
    if !supported() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("plain"), "text").unwrap();
    let first =
        |candidates: &[&str]| Command::FirstOf { candidates: candidates.iter().map(ToString::to_string).collect(), arguments: Vec::new() };
    let line = |word: &str| Command::Line(vec![word.into()]);
    let errno = |error| match error {
        LaunchError::Exec { path, source } => (path, source.raw_os_error().unwrap()),
        other => panic!("{other:?}"),
    };
    let ways = [(FirstProcess::Program, &[][..]), (FirstProcess::Init, &[]), (FirstProcess::Init, &["confine file access (Landlock)"])];
    for (first_process, without) in ways {
        let plan = |command| {
            let volumes = vec![Volume { source: folder.path().to_owned(), target: "/var/task".into(), access: Access::ReadOnly }];
            let environment = vec![c"PATH=/var/task:/none:/usr/bin:/bin".to_owned()];
            plan(SandboxRequest { command, volumes, first_process, environment, ..request("") }).unwrap().without(without).unwrap()
        };
        let refused = |command| Launcher::start().unwrap().launch(plan(command)).unwrap_err();
        assert!(matches!(refused(first(&["/var/task/none", "/usr"])), LaunchError::NoCandidate { tried } if tried.len() == 2));
        assert_eq!(errno(refused(first(&["/var/task/none", "/var/task/plain"]))), ("/var/task/plain".into(), libc::EACCES));
        assert_eq!(errno(refused(line("/none"))), ("/none".into(), libc::ENOENT));
        assert_eq!(errno(refused(line("plain"))), ("/var/task/plain".into(), libc::EACCES));
        assert!(matches!(refused(line("none")), LaunchError::NoCandidate { .. }));
        for command in [
            line("true"),
            Command::FirstOf { candidates: vec!["/none".into(), "/bin/sh".into()], arguments: vec!["-c".into(), "exit 0".into()] },
        ] {
            let mut sandbox = Launcher::start().unwrap().launch(plan(command)).unwrap();
            assert_eq!(sandbox.wait().unwrap(), Ended::Exited(0));
        }
    }
}

#[test]
fn our_own_executable_cannot_be_run_inside() {
    if !supported() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("bootstrap");
    fs::write(&script, "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let volumes = vec![Volume { source: folder.path().to_owned(), target: "/var/task".into(), access: Access::ReadOnly }];
    let command = Command::Line(vec!["/var/task/bootstrap".into()]);
    let error = Launcher::start().unwrap().launch(plan(SandboxRequest { command, volumes, ..request("") }).unwrap()).unwrap_err();
    assert!(matches!(&error, LaunchError::Exec { source, .. } if source.raw_os_error() == Some(libc::EACCES)), "{error:?}");
}

#[test]
fn under_an_init_signals_work_and_orphans_are_reaped() {
    if !supported() {
        return;
    }
    let run_under_init = |script| run(SandboxRequest { first_process: FirstProcess::Init, ..request(script) });
    let killed = |signal| Ended::Signaled { signal, core_dumped: false };
    assert_eq!(run_under_init("exit 7").2, Ended::Exited(7));
    assert_eq!(run_under_init("kill -9 $$; echo survived").2, killed(libc::SIGKILL));
    assert_eq!(run_under_init("kill -ABRT $$; echo survived").2, killed(libc::SIGABRT));
    let (output, error, ended) = run_under_init("echo $$; kill -9 1; (sh -c true &); cat /proc/1/environ; ls /proc/1/fd; echo on");
    assert_eq!((output.as_str(), ended), ("2\non\n", Ended::Exited(0)), "{error}");
    assert_eq!(error.matches("Permission denied").count(), 2, "{error}");
}

#[test]
fn signals_from_outside_reach_the_program_under_an_init() {
    if !supported() {
        return;
    }
    let request =
        SandboxRequest { first_process: FirstProcess::Init, ..request("trap 'echo term; exit 5' TERM; echo ready; while :; do :; done") };
    let mut sandbox = Launcher::start().unwrap().launch(plan(request).unwrap()).unwrap();
    let mut output = File::from(sandbox.stdout.take().unwrap());
    output.read_exact(&mut [0; 6]).unwrap();
    sandbox.signal(libc::SIGTERM).unwrap();
    assert_eq!(sandbox.wait().unwrap(), Ended::Exited(5));
}

#[test]
fn many_threads_launch_at_once_and_leave_us_dumpable() {
    if !supported() {
        return;
    }
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..8).for_each(|code| assert_eq!(run(request(&format!("exit {code}"))).2, Ended::Exited(code))));
        }
    });
    // Other tests may be launching: the flag is down for an instant of theirs.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while dumpable_behavior() != Ok(rustix::process::DumpableBehavior::Dumpable) {
        assert!(std::time::Instant::now() < deadline, "not dumpable any more");
        thread::yield_now();
    }
}

#[test]
fn dropping_kills() {
    if !supported() {
        return;
    }
    let sandbox = Launcher::start().unwrap().launch(plan(request("sleep 1000 & sleep 1000")).unwrap()).unwrap();
    let pid = sandbox.host_pid();
    drop(sandbox);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_network_of_its_own_is_held_from_outside() {
    let script = r#"import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
closed = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
closed.sendto(b"nobody", ("127.0.0.1", 9))
s.sendto(b"there", ("192.0.2.7", 53))
print(s.recvfrom(99))
"#;
    let command = Command::Line(vec!["python3".into(), "-ISc".into(), script.into()]);
    let private = Network::Private { ipv6: true, needs_way_out: false };
    let base = SandboxRequest { command, first_process: FirstProcess::Init, network: private, listen_inside: Some(9001), ..request("") };
    if !supported() {
        return;
    }
    let mut sandbox = Launcher::start().unwrap().launch(plan(base).unwrap()).unwrap();
    assert!(sandbox.enforcement().degradations.is_empty(), "{:?}", sandbox.enforcement());
    let NetworkDescriptors { listener, outbound, factory } = sandbox.network.take().expect("it has its own");
    let listener = listener.expect("it was asked for");
    assert_eq!(listener.local_addr().unwrap().to_string(), "127.0.0.1:9001");
    // A socket of the same namespace reaches the listener, and the host's own namespace does not know it.
    let inside = factory.socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    rustix::net::connect(&inside, &listener.local_addr().unwrap()).unwrap();
    assert_eq!(factory.socket(libc::AF_INET, 99, 0).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    let outbound = outbound.expect("there is a way out");
    let mut packet = [0_u8; 256];
    let (length, _) = rustix::net::recv(&outbound.raw_v4, &mut packet[..], rustix::net::RecvFlags::empty()).unwrap();
    assert_eq!(&packet[28..length], b"nobody");
    // An IPv4 header of 20 bytes and one of UDP's of 8.
    let mut packet = [0_u8; 256];
    let (length, _) = rustix::net::recv(&outbound.raw_v4, &mut packet[..], rustix::net::RecvFlags::empty()).unwrap();
    assert_eq!((&packet[16..20], &packet[28..length]), (&[192, 0, 2, 7][..], &b"there"[..]));
    let ports = [packet[22], packet[23], packet[20], packet[21]];
    let header = [0x45, 0, 0, 31, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 7, 198, 18, 111, 2];
    let answer = [&header[..], &ports, &[0, 11, 0, 0], b"yes"].concat();
    let to: std::net::SocketAddr = (SANDBOX_V4, 0).into();
    rustix::net::sendto(&outbound.inject_v4, &answer, rustix::net::SendFlags::empty(), &to).unwrap();
    let output = io::read_to_string(File::from(sandbox.stdout.take().unwrap())).unwrap();
    assert_eq!((output.as_str(), sandbox.wait().unwrap()), ("(b'yes', ('192.0.2.7', 53))\n", Ended::Exited(0)));
}
