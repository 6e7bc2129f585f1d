//! Images that are traps: whatever lies in a tree, places for volumes are found inside it or refused, and a launch ends without a trace beside it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use runner::environment::mount_points;
use runner::sandbox::{
    Access, Command, FirstProcess, InnerIdentity, Input, IsolationChoice, Launcher, Network, Output, RootSource, SandboxRequest, Stdio,
    Volume, plan, shipped_filter,
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
    let volumes = volumes(&mut choices, &source);
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
    match choices.byte() % 6 {
        0 | 1 => fs::create_dir(at),
        2 => fs::write(at, "text"),
        3 => symlink(choices.of(&TARGETS), at),
        4 => symlink(Path::new("/").join(path(choices)), at),
        _ => symlink(outside, at),
    }
}

/// There is nothing to execute: the launch fails, at a mount or at its end.
fn launch(root: RootSource, volumes: Vec<Volume>) {
    static CAN: OnceLock<bool> = OnceLock::new();
    if !*CAN.get_or_init(tests::skip::sandbox_can_run) {
        return;
    }
    let request = SandboxRequest {
        isolation: IsolationChoice::Auto,
        scratch: None,
        root,
        command: Command::FirstOf { candidates: vec!["/none/such".into()], arguments: Vec::new() },
        environment: Vec::new(),
        working_dir: "/".into(),
        volumes,
        identity: InnerIdentity { uid: 993, gid: 990 },
        hostname: "fuzz".into(),
        tmp_size_bytes: 1 << 20,
        stdio: Stdio { input: Input::Null, output: Output::Pipe, error: Output::Pipe },
        network: Network::Host,
        first_process: FirstProcess::Init,
        listen_inside: None,
        filter: Some(shipped_filter()),
    };
    let Ok(plan) = plan(request) else { return };
    assert!(Launcher::start().expect("it starts").launch(plan).is_err(), "there is nothing to execute");
}
