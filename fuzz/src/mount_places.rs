//! Images that are traps: whatever lies in a tree, places for volumes are found inside it or refused, and a launch ends without a trace beside it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use runner::environment::mount_points;
use runner::sandbox::{
    Access, Command, FirstProcess, IdMap, InnerIdentity, Input, Isolation, IsolationChoice, Launcher, Network, Output, RootSource,
    SandboxRequest, Stdio, Volume, plan, shipped_filter,
};

use crate::{Choices, Target};

pub(crate) const TARGET: Target = Target {
    name: "mount_places",
    run,
    seeds,
    words: &["\u{0}\u{1}\u{2}", "\u{3}\u{3}", "\u{1}\u{9}\u{1}", "\u{2}\u{2}\u{b}\u{b}", "/////", "~~~~"],
    short_run: 300,
};

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![vec![0; 40], (0..120).collect(), (0..120).rev().collect()];
    seeds.extend((1..8_u8).map(|step| (0..90_u8).map(|at| at.wrapping_mul(step).wrapping_add(step)).collect()));
    seeds
}

/// What paths are made of.
const NAMES: [&str; 12] = ["var", "task", "opt", "etc", "dev", "proc", "tmp", "null", "x", "lib", "self", "resolv.conf"];
/// What links may lead to besides.
const TARGETS: [&str; 10] = [
    "/",
    "..",
    "../../../../../../outside",
    "/proc/self/root",
    "/proc/self/fd/0",
    ".",
    "/no/such/place",
    "../outside",
    "loop",
    "/dev/../../outside",
];

fn run(data: &[u8]) {
    let folder = tempfile::tempdir().expect("made");
    let (rootfs, outside, source) = (folder.path().join("rootfs"), folder.path().join("outside"), folder.path().join("source"));
    for folder in [&rootfs, &outside, &source] {
        fs::create_dir(folder).expect("made");
    }
    fs::write(outside.join("canary"), "untouched").expect("written");
    let mut choices = Choices(data);
    let volumes = [volumes(&mut choices, &source), vec![program()]].concat();
    make_honest(&rootfs);
    for _ in 0..32 {
        if choices.is_over() {
            break;
        }
        // What cannot be made there (a name that is taken, a way that is none) is not.
        let _ = make(&mut choices, &rootfs, &outside);
    }
    if let Ok((root, parts)) = mount_points::root(&rootfs, &volumes) {
        let real = fs::canonicalize(&rootfs).expect("there");
        for part in &parts {
            let parent = fs::canonicalize(part.source.parent().expect("absolute")).expect("it was looked into");
            assert!(parent.starts_with(&real), "{part:?} lies outside");
            assert!(!part.source.is_symlink(), "{part:?} is a link");
        }
        launch(root, volumes.into_iter().chain(parts).collect());
    }
    let left: Vec<_> = fs::read_dir(&outside).expect("there").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["canary"]);
    assert_eq!(fs::read_dir(&source).expect("there").count(), 0);
    assert_eq!(fs::read(outside.join("canary")).expect("there"), b"untouched");
}

fn volumes(choices: &mut Choices<'_>, source: &Path) -> Vec<Volume> {
    let access = |byte: u8| if byte.is_multiple_of(2) { Access::ReadOnly } else { Access::ReadWrite };
    (0..1 + choices.byte() % 3)
        .map(|_| Volume { source: source.to_owned(), target: Path::new("/").join(path(choices)), access: access(choices.byte()) })
        .collect()
}

/// One to three names.
fn path(choices: &mut Choices<'_>) -> PathBuf {
    (0..1 + choices.byte() % 3).map(|_| *choices.of(&NAMES)).collect()
}

/// Not through links: the image's author made them, but this writes on the host.
fn make(choices: &mut Choices<'_>, rootfs: &Path, outside: &Path) -> std::io::Result<()> {
    let inside = path(choices);
    let mut at = rootfs.to_owned();
    for part in inside.parent().into_iter().flat_map(Path::components) {
        at.push(part);
        if at.is_symlink() {
            return Ok(());
        }
        let _ = fs::create_dir(&at);
    }
    let at = rootfs.join(&inside);
    // In the place of what is there.
    let _ = fs::remove_file(&at).or_else(|_| fs::remove_dir_all(&at));
    match choices.byte() % 6 {
        0 => fs::create_dir(at),
        1 => nix::unistd::mkfifo(&at, nix::sys::stat::Mode::S_IRWXU).map_err(Into::into),
        2 => fs::write(at, "text"),
        3 => symlink(choices.of(&TARGETS), at),
        4 => symlink(Path::new("/").join(path(choices)), at),
        _ => symlink(outside, at),
    }
}

/// Launches a program that does nothing on such a tree. Whatever lies there, the isolation is the one that this machine grants an honest tree: else an image
/// could choose a lower one.
fn launch(root: RootSource, volumes: Vec<Volume>) {
    static GRANTED: OnceLock<Option<Isolation>> = OnceLock::new();
    let granted = GRANTED.get_or_init(|| tests::skip::sandbox_can_run().then(isolation_of_an_honest_tree));
    let Some(granted) = granted else { return };
    if let Some(isolation) = isolation_on(root, volumes) {
        assert_eq!(isolation, *granted);
    }
}

fn isolation_of_an_honest_tree() -> Isolation {
    let folder = tempfile::tempdir().expect("made");
    let rootfs = folder.path().join("rootfs");
    make_honest(&rootfs);
    let program = [program()];
    let (root, parts) = mount_points::root(&rootfs, &program).expect("an honest tree");
    isolation_on(root, program.into_iter().chain(parts).collect()).expect("an honest tree runs")
}

/// What every image has when it was unpacked.
fn make_honest(rootfs: &Path) {
    for place in ["dev", "proc", "tmp", "var/task"] {
        fs::create_dir_all(rootfs.join(place)).expect("made");
    }
    for device in ["null", "zero", "full", "random", "urandom", "tty"] {
        fs::write(rootfs.join("dev").join(device), "").expect("written");
    }
}

fn program() -> Volume {
    Volume { source: tests::place::nothing(), target: "/nothing".into(), access: Access::ReadOnly }
}

/// `None`: it is refused.
fn isolation_on(root: RootSource, volumes: Vec<Volume>) -> Option<Isolation> {
    let request = SandboxRequest {
        isolation: IsolationChoice::Auto,
        scratch: None,
        root,
        command: Command::FirstOf { candidates: vec!["/nothing".into()], arguments: Vec::new() },
        environment: Vec::new(),
        working_dir: "/".into(),
        volumes,
        identity: InnerIdentity { uid: 993, gid: 990 },
        ids: IdMap::Single,
        terminal: None,
        hostname: "fuzz".into(),
        tmp_size_bytes: 1 << 20,
        tmp_in_memory: None,
        files: Vec::new(),
        limits: runner::sandbox::Limits::default(),
        stdio: Stdio { input: Input::Null, output: Output::Pipe, error: Output::Pipe },
        network: Network::Host,
        first_process: FirstProcess::Init,
        listen_inside: None,
        filter: Some(shipped_filter()),
    };
    let mut sandbox = Launcher::start().expect("it starts").launch(plan(request).ok()?).ok()?;
    let isolation = sandbox.enforcement().isolation;
    sandbox.wait().expect("it ends");
    Some(isolation)
}
