//! From the start of a run of an image that nobody has pulled to its first answer, beside Docker and podman.
//!
//! `tests/images/mkimages.py build large && cargo bench --package tests --bench cold_run`
//!
//! Ours pulls, checks, syncs, and has a function answer an event. The others have no server of Lambda's for this image, so a bare `echo` of the image's is their
//! answer, which is less work; the same under ours, too. All store on a fresh ext4 with a journal.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tests::bench::{Variant, compare, verdict};
use tests::docker::Docker;
use tests::{place, skip};

#[path = "pull/disk.rs"]
mod disk;
#[path = "pull/large.rs"]
mod large;

use disk::Disk;
use large::{IMAGE, Served};

const ROUNDS: usize = 3;
/// Who owns nothing, on every machine.
const NOBODY: u32 = 65534;

fn main() {
    let Some(served) = Served::start() else { return };
    compare_all(&served.reference(), &Disk::new());
}

fn compare_all(reference: &str, disk: &Disk) {
    let program = disk.path().join("undocked");
    fs::copy(place::undocked(), &program).expect("the disk can be written to");
    let function: &[&str] = &["run", "-q", reference, "any.handler", "{\"n\":1}"];
    let echo: &[&str] = &["run", "-q", "--entrypoint", "/bin/echo", reference, "answer"];
    let docker = Docker::start(disk.path()).map_err(|why| println!("not beside us: docker: {why}")).ok();
    let mut variants = vec![Variant::new("undocked run, `echo`, ordinary user", || answered(&program, disk, NOBODY, echo))];
    match ours(&program, disk, NOBODY, function) {
        Ok(_) => variants.push(Variant::new("undocked run, a function, ordinary user", || answered(&program, disk, NOBODY, function))),
        Err(why) => println!("no figures for a function: {why}"),
    }
    if skip::is_root() {
        variants.push(Variant::new("undocked run, `echo`, root", || answered(&program, disk, 0, echo)));
    }
    let others = variants.len();
    if let Some(docker) = &docker {
        variants.push(Variant::new("docker run, `echo`", || by_docker(docker, disk, reference)));
    }
    match by_podman(disk, reference) {
        Ok(_) => variants.push(Variant::new("podman run, `echo`", || by_podman(disk, reference).expect("as before"))),
        Err(why) => println!("not beside us: podman: {why}"),
    }
    let figures = compare(&format!("The first answer of {IMAGE}, not yet pulled, onto {}", disk.kind()), ROUNDS, variants);
    let best = |of: fn(&tests::bench::Figures) -> Duration| figures[others..].iter().map(of).min();
    if let (Some(min), Some(median)) = (best(|other| other.min), best(|other| other.median)) {
        verdict("ours over the best other, minimum", figures[0].min.as_secs_f64() / min.as_secs_f64(), 1.0 / 3.0, "");
        verdict("ours over the best other, median", figures[0].median.as_secs_f64() / median.as_secs_f64(), 1.0 / 3.0, "");
    }
}

fn answered(program: &Path, disk: &Disk, user: u32, arguments: &[&str]) -> Duration {
    ours(program, disk, user, arguments).expect("a run of ours answers")
}

/// With a cache of its own, which goes away after it.
fn ours(program: &Path, disk: &Disk, user: u32, arguments: &[&str]) -> Result<Duration, String> {
    let folder = tempfile::tempdir_in(disk.path()).expect("the disk can be written to");
    let mut command = if skip::is_root() && user != 0 {
        std::os::unix::fs::chown(folder.path(), Some(user), Some(user)).expect("root gives away");
        let user = user.to_string();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.args(arguments).env("UNDOCKED_CACHE", folder.path().join("cache")).env("HOME", folder.path());
    disk.sync();
    let time = first_answer(command);
    // A cached tree may hold folders that say nobody may.
    let _ = Command::new("chmod").args(["-R", "u+rwX"]).arg(folder.path()).stderr(Stdio::null()).status();
    time
}

fn by_docker(docker: &Docker, disk: &Disk, reference: &str) -> Duration {
    disk.sync();
    let run = ["run", "--rm", "--network", "none", "--entrypoint", "/bin/echo", reference, "answer"];
    let time = first_answer(docker.command(&run)).expect("docker answers");
    let _ = docker.command(&["rmi", "-f", reference]).status();
    time
}

fn by_podman(disk: &Disk, reference: &str) -> Result<Duration, String> {
    if !skip::is_root() || !skip::has_program("podman") {
        return Err("it is not installed, or this is not root".to_owned());
    }
    let folder = tempfile::tempdir_in(disk.path()).map_err(|error| error.to_string())?;
    let podman = |arguments: &[&str]| {
        let mut command = Command::new("podman");
        command.arg("--root").arg(folder.path().join("root")).arg("--runroot").arg(folder.path().join("run"));
        command.args(["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs"]).args(arguments);
        command
    };
    disk.sync();
    let mut run = podman(&[
        "run",
        "--rm",
        "-q",
        "--tls-verify=false",
        "--network",
        "none",
        "--cgroups",
        "disabled",
        "--ulimit",
        "nofile=1024:1024",
        "--ulimit",
        "nproc=4096:4096",
    ]);
    run.args(["--entrypoint", "/bin/echo", reference, "answer"]);
    let time = first_answer(run);
    let _ = podman(&["rmi", "-f", reference]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    time
}

/// From the start to the first byte of what the command says; then waits for its end.
fn first_answer(mut command: Command) -> Result<Duration, String> {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{command:?}: {error}"))?;
    let mut stdout = child.stdout.take().ok_or("it has an output")?;
    let answered = stdout.read_exact(&mut [0]).is_ok();
    let time = start.elapsed();
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if answered && output.status.success() {
        return Ok(time);
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{}: {}", output.status, said.trim_end()))
}
