//! Launch of a do-nothing static program in the full sandbox, from inside a tokio process, beside a bare `posix_spawn` of it and what others take for
//! the same work: bubblewrap, crun, and Docker where it starts.
//!
//! `cargo bench --package tests --bench launch`

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use runner::sandbox::{Ended, FirstProcess, Launcher, Limits, Network, SandboxRequest, plan};
use tests::bench::{Variant, compare, verdict};
use tests::docker::Docker;
use tests::launching::{Holdings, Scene, launch_many};
use tests::{place, skip};

const ROUNDS: usize = 301;
/// With Docker, whose every round takes a quarter of a second.
const DOCKER_ROUNDS: usize = 31;

/// The floor that a launch in C has on the machine it was measured on, where a bare spawn took 0.076 ms: without and with a network namespace.
const FLOORS_MS: [f64; 2] = [0.19, 0.42];
const FLOOR_SPAWN_MS: f64 = 0.076;

/// The same namespaces, mounts and identity by bubblewrap; it installs no filter and no Landlock rules, which is in its favour.
fn bubblewrap(scene: &Scene, network: Network) -> Command {
    let mut command = Command::new("bwrap");
    command.args([
        "--unshare-user",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--uid",
        "993",
        "--gid",
        "990",
        "--hostname",
        "lambda",
    ]);
    if network != Network::Host {
        command.arg("--unshare-net");
    }
    command.args(["--ro-bind"]).arg(&scene.root).arg("/").args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--ro-bind"]);
    command.arg(&scene.task).arg("/var/task").arg("--ro-bind").arg(&scene.layer);
    command.args(["/opt", "--chdir", "/var/task", "--die-with-parent", "--new-session", "--clearenv", "/bin/nothing"]).stdin(Stdio::null());
    command
}

/// The same by crun, without cgroups and filter. `None` where it cannot run.
fn crun(scene: &Scene, folder: &Path) -> Option<Command> {
    if !skip::has_program("crun") {
        println!("no crun here (Debian package crun)");
        return None;
    }
    let bundle = folder.join("bundle");
    fs::create_dir(&bundle).expect("made");
    let made = Command::new("crun").arg("spec").args(if skip::is_root() { &[][..] } else { &["--rootless"] }).current_dir(&bundle).status();
    let config = fs::read_to_string(bundle.join("config.json")).ok().filter(|_| made.is_ok_and(|status| status.success()))?;
    let mut config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    config["process"]["args"] = serde_json::json!(["/bin/nothing"]);
    config["process"]["terminal"] = false.into();
    config["root"]["path"] = scene.root.display().to_string().into();
    let wanted = ["/proc", "/dev"];
    let mounts = config["mounts"].as_array().expect("a list").iter();
    let mounts: Vec<_> = mounts.filter(|mount| wanted.iter().any(|place| mount["destination"] == *place)).cloned().collect();
    config["mounts"] = mounts.into();
    let namespaces = config["linux"]["namespaces"].as_array().expect("a list").iter();
    let namespaces: Vec<_> =
        namespaces.filter(|namespace| namespace["type"] != "cgroup" && namespace["type"] != "network").cloned().collect();
    config["linux"]["namespaces"] = namespaces.into();
    config["linux"]["resources"] = serde_json::json!({});
    fs::write(bundle.join("config.json"), config.to_string()).expect("written");
    let command = move || {
        let mut command = Command::new("crun");
        command.arg("--root").arg(bundle.join("state")).args(["--cgroup-manager=disabled", "run", "--bundle"]).arg(&bundle).arg("nothing");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    if command().status().is_ok_and(|status| status.success()) {
        return Some(command());
    }
    println!("crun cannot run a container here");
    None
}

fn main() {
    let folder = place::scratch();
    let scene = Scene::make(folder.path());
    // As the product has it: one thread for the tasks, one that launches.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let launcher = Launcher::start().expect("the launcher starts");
    let (runtime, scene, launcher) = (&runtime, &scene, &launcher);
    let sandboxed = |network, first_process| {
        move || {
            runtime.block_on(async {
                let start = Instant::now();
                let mut sandbox =
                    launcher.launch(plan(scene.request(network, first_process)).expect("a sound request")).expect("it launches");
                sandbox.ended().await.expect("it ends");
                start.elapsed()
            })
        }
    };
    launches(scene, folder.path(), sandboxed);
    with_a_limit(runtime, scene, launcher);
    beside_ballast(sandboxed);
    kill(scene, launcher);
    many(scene);
}

/// What a limit costs: a cgroup made, joined and removed, or a watcher, as this user may.
fn with_a_limit(runtime: &tokio::runtime::Runtime, scene: &Scene, launcher: &Launcher) {
    let launch = |limits: Limits| {
        move || {
            runtime.block_on(async {
                let request = SandboxRequest { limits, ..scene.request(Network::Host, FirstProcess::Init) };
                let start = Instant::now();
                let mut sandbox = launcher.launch(plan(request).expect("a sound request")).expect("it launches");
                sandbox.ended().await.expect("it ends");
                start.elapsed()
            })
        }
    };
    let variants = vec![
        Variant::new("host network, with init, no limit", launch(Limits::default())),
        Variant::new("the same with a memory limit", launch(Limits { memory_bytes: Some(128 << 20), cpu: None })),
    ];
    compare("Launch to end with and without a memory limit", ROUNDS, variants);
}

fn launches<'a, F: FnMut() -> Duration + 'a>(scene: &'a Scene, folder: &Path, sandboxed: impl Fn(Network, FirstProcess) -> F) {
    let private = Network::private();
    let mut variants = vec![
        Variant::timed("bare posix_spawn of the program", || {
            assert!(Command::new(place::nothing()).stdin(Stdio::null()).status().is_ok_and(|status| status.success()));
        }),
        Variant::new("host network, the program is PID 1", sandboxed(Network::Host, FirstProcess::Program)),
        Variant::new("host network, with init, as runs have it", sandboxed(Network::Host, FirstProcess::Init)),
        Variant::new("no network, with init", sandboxed(Network::None, FirstProcess::Init)),
        Variant::new("private network, with init", sandboxed(private, FirstProcess::Init)),
    ];
    let own = variants.len();
    if skip::has_program("bwrap") {
        for (name, network) in [("bubblewrap", Network::Host), ("bubblewrap --unshare-net", Network::None)] {
            variants.push(Variant::timed(name, move || assert!(bubblewrap(scene, network).status().is_ok_and(|status| status.success()))));
        }
    } else {
        println!("no bubblewrap here (Debian package bubblewrap): that ratio is missing");
    }
    if let Some(mut crun) = crun(scene, folder) {
        variants.push(Variant::timed("crun, host network, no cgroup", move || assert!(crun.status().is_ok_and(|status| status.success()))));
    }
    let figures = compare("Launch to end of a program that does nothing", ROUNDS, variants);
    let ms = |at: usize| figures[at].min.as_secs_f64() * 1e3;
    for (at, floor, what) in [(1, FLOORS_MS[0], "host network"), (4, FLOORS_MS[1], "private network")] {
        verdict(&format!("{what}, minimum, against 1.5 x the floor of a quiet machine"), ms(at), 1.5 * floor, "ms");
        // A machine that is slower or busier is so at both.
        verdict(&format!("{what} in bare spawns, likewise"), ms(at) / ms(0), 1.5 * floor / FLOOR_SPAWN_MS, "spawns");
    }
    if figures.len() > own + 1 {
        verdict("our part of bubblewrap's time, both on the host's network (a quarter)", ms(1) / ms(own), 0.25, "");
        verdict("our part of bubblewrap's time, both with a network of their own (a quarter)", ms(3) / ms(own + 1), 0.25, "");
    }
    docker(folder, &sandboxed);
}

fn docker<'a, F: FnMut() -> Duration + 'a>(folder: &Path, sandboxed: &impl Fn(Network, FirstProcess) -> F) {
    let docker = match Docker::start(folder) {
        Ok(docker) => docker,
        Err(why) => return println!("no Docker beside it: {why}"),
    };
    let run = |network: &'static str| {
        let docker = &docker;
        move || {
            let status = docker.command(&["run", "--rm", "--network", network, "nothing"]).status();
            assert!(status.is_ok_and(|status| status.success()));
        }
    };
    let variants = vec![
        Variant::new("private network, with init", sandboxed(Network::private(), FirstProcess::Init)),
        Variant::timed("docker run --rm --network host", run("host")),
        Variant::timed("docker run --rm --network none", run("none")),
    ];
    compare("The same beside Docker", DOCKER_ROUNDS, variants);
}

/// Once in a small process, and again in a large one.
fn beside_ballast<'a, F: FnMut() -> Duration + 'a>(sandboxed: impl Fn(Network, FirstProcess) -> F) {
    let small = Holdings::now().resident_bytes >> 20;
    let variant = |name: String| vec![Variant::new(name, sandboxed(Network::Host, FirstProcess::Init))];
    let before = compare("Launch from a small process", ROUNDS, variant(format!("{small} MiB resident")));
    let ballast = vec![1_u8; 400 << 20];
    let large = Holdings::now().resident_bytes >> 20;
    let after = compare("Launch from a large process", ROUNDS, variant(format!("{large} MiB resident")));
    drop(std::hint::black_box(ballast));
    verdict("large over small, minimum", after[0].min.as_secs_f64() / before[0].min.as_secs_f64(), 1.1, "x");
}

fn kill(scene: &Scene, launcher: &Launcher) {
    let action = || {
        let request = scene.of(&["/bin/probe", "--line", "hang"], Network::private(), FirstProcess::Init);
        let mut sandbox = launcher.launch(plan(request).expect("a sound request")).expect("it launches");
        let start = Instant::now();
        sandbox.kill();
        assert!(matches!(sandbox.wait().expect("it ends"), Ended::Signaled { signal: 9, .. }));
        start.elapsed()
    };
    let figures = compare("Killing a sandbox", ROUNDS, vec![Variant::new("kill to reaped", action)]);
    verdict("kill to reaped, minimum", figures[0].min.as_secs_f64() * 1e3, 0.5, "ms");
}

fn many(scene: &Scene) {
    const LAUNCHES: usize = 10_000;
    // What is made once is there before it is counted.
    launch_many(scene, Network::private(), 8, 80);
    let before = Holdings::now();
    let start = Instant::now();
    launch_many(scene, Network::private(), 8, LAUNCHES);
    let (after, took) = (Holdings::now(), start.elapsed());
    println!(
        "\n{LAUNCHES} launches from 8 threads, {:.0} a second:\nbefore {before:?}\nafter  {after:?}",
        LAUNCHES as f64 / took.as_secs_f64()
    );
    let same = Holdings { resident_bytes: 0, ..before.clone() } == Holdings { resident_bytes: 0, ..after.clone() };
    println!("{}: descriptors, mounts and processes are as many", if same { "reached" } else { "NOT REACHED" });
    let grown = after.resident_bytes.saturating_sub(before.resident_bytes) as f64 / 1024.0;
    verdict("memory grown", grown, 1024.0, "KiB");
}
