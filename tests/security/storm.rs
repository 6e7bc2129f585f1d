//! T22: launches from many threads at once, while signals pour in and other threads hold the allocator's locks.
//!
//! A binary of its own: its signals are the whole process's.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runner::sandbox::{
    Access, Command, Ended, FirstProcess, InnerIdentity, Input, IsolationChoice, Launcher, Network, Output, RootSource, SandboxRequest,
    Stdio, Volume, plan, shipped_filter,
};
use tests::Weakened;
use tokio::signal::unix::{SignalKind, signal};

const THREADS: u32 = 8;
const LAUNCHES: u32 = 8;

fn request(root: &Path, results: &Path, number: u32) -> SandboxRequest {
    let script = format!("links fds /proc/self/fd ; write result /mnt/{number} y ; exit {number}");
    SandboxRequest {
        isolation: IsolationChoice::Auto,
        scratch: None,
        root: RootSource::Image { path: root.to_owned() },
        command: Command::Line(["/bin/probe", "--line", &script].map(String::from).to_vec()),
        environment: Vec::new(),
        working_dir: "/".into(),
        volumes: vec![Volume { source: results.to_owned(), target: "/mnt".into(), access: Access::ReadWrite }],
        identity: InnerIdentity { uid: 993, gid: 990 },
        ids: runner::sandbox::IdMap::Single,
        terminal: None,
        hostname: "storm".to_owned(),
        tmp_size_bytes: 1 << 20,
        tmp_in_memory: None,
        files: Vec::new(),
        limits: runner::sandbox::Limits::default(),
        stdio: Stdio { input: Input::Null, output: Output::Inherit, error: Output::Inherit },
        network: Network::Host,
        listen_inside: None,
        first_process: if number.is_multiple_of(2) { FirstProcess::Init } else { FirstProcess::Program },
        filter: Some(shipped_filter()),
    }
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc is mounted").count()
}

#[test]
fn t22_many_threads_launch_in_a_storm_of_signals() {
    let Some(weakened) = Weakened::new() else { return };
    let results = weakened.path().join("results");
    fs::create_dir(&results).expect("made");
    fs::create_dir(weakened.root().join("mnt")).expect("made");
    // Handlers that stay: the default of SIGPROF would end us.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it starts");
    let _guard = runtime.enter();
    let _handlers =
        [libc::SIGPROF, libc::SIGCHLD, libc::SIGUSR1].map(|number| signal(SignalKind::from_raw(number)).expect("it can be handled"));
    let launcher = Launcher::start().expect("it starts");
    // The first launch may open what stays open.
    let launch = |number| {
        let mut sandbox = launcher.launch(plan(request(&weakened.root(), &results, number)).expect("a plan")).expect("launched");
        sandbox.wait().expect("it ends")
    };
    assert_eq!(launch(0), Ended::Exited(0));
    let (descriptors, dumpable) = (open_descriptors(), nix::sys::prctl::get_dumpable().expect("known"));
    let (over, signals) = (AtomicBool::new(false), AtomicU32::new(0));
    let (over, signals, launch) = (&over, &signals, &launch);
    thread::scope(|scope| {
        for number in [Signal::SIGPROF, Signal::SIGCHLD, Signal::SIGUSR1] {
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    kill(Pid::this(), number).expect("we live");
                    signals.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for size in [16_usize, 1 << 20] {
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    std::hint::black_box(vec![1_u8; size]);
                }
            });
        }
        let launching: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    (0..LAUNCHES).map(|each| thread * LAUNCHES + each).all(|number| launch(number) == Ended::Exited(number as i32))
                })
            })
            .collect();
        let all = launching.into_iter().all(|thread| thread.join().is_ok_and(|right| right));
        over.store(true, Ordering::Relaxed);
        assert!(all, "every program ended as it was told to");
    });
    assert_eq!(fs::read_dir(&results).expect("there").count(), (THREADS * LAUNCHES) as usize, "each wrote its own file");
    assert!(signals.load(Ordering::Relaxed) > 1000);
    assert_eq!((open_descriptors(), nix::sys::prctl::get_dumpable().expect("known")), (descriptors, dumpable));
}
