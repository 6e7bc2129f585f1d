//! Launch of a do-nothing static program in the full sandbox, from inside a tokio process, beside a bare `posix_spawn` of it and bubblewrap
//! doing the same work.
//!
//! `cargo bench --package tests --bench launch`

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use runner::sandbox::{self, Access, FirstProcess, InnerIdentity, Input, Launcher, Output, RootSource, SandboxRequest, Volume, plan};
use tests::bench::{Variant, compare, verdict};
use tests::{place, skip};

const ROUNDS: usize = 301;

/// A root that holds the program and the mount points alone.
fn make_root(root: &Path) {
    for folder in ["bin", "proc", "tmp", "dev", "var/task", "opt", "etc"] {
        fs::create_dir_all(root.join(folder)).expect("made");
    }
    for device in ["null", "zero", "full", "random", "urandom", "tty"] {
        fs::write(root.join("dev").join(device), "").expect("written");
    }
    for (name, target) in
        [("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2")]
    {
        std::os::unix::fs::symlink(target, root.join("dev").join(name)).expect("made");
    }
    for file in ["passwd", "group", "hosts", "resolv.conf"] {
        fs::write(root.join("etc").join(file), "").expect("written");
    }
    fs::copy(place::nothing(), root.join("bin/nothing")).expect("copied");
}

struct Scene {
    root: PathBuf,
    task: PathBuf,
    layer: PathBuf,
    filter: Arc<seccomp::filter::Filter>,
}

impl Scene {
    fn make(folder: &Path) -> Scene {
        let [root, task, layer] = ["root", "task", "layer"].map(|name| folder.join(name));
        make_root(&root);
        fs::create_dir(&task).expect("made");
        fs::create_dir(&layer).expect("made");
        let policy = seccomp::policy::Policy::lambda();
        let filter = seccomp::filter::Filter::compile(&policy, seccomp::numbers::Architecture::HOST).expect("it compiles");
        Scene { root, task, layer, filter: Arc::new(filter) }
    }

    fn request(&self, first_process: FirstProcess, limits: sandbox::Limits) -> SandboxRequest {
        let volume = |source: &Path, target: &str| Volume { source: source.to_owned(), target: target.into(), access: Access::ReadOnly };
        SandboxRequest {
            root: RootSource::Image { path: self.root.clone() },
            command: sandbox::Command::Line(vec!["/bin/nothing".to_owned()]),
            environment: vec![CString::new("PATH=/bin").expect("no NUL")],
            working_dir: "/var/task".into(),
            volumes: vec![volume(&self.task, "/var/task"), volume(&self.layer, "/opt")],
            identity: InnerIdentity { uid: 993, gid: 990 },
            hostname: "lambda".to_owned(),
            tmp_size_bytes: 512 << 20,
            limits,
            stdio: sandbox::Stdio { input: Input::Null, output: Output::Inherit, error: Output::Inherit },
            network: runner::sandbox::Network::Host,
            first_process,
            filter: Arc::clone(&self.filter),
        }
    }

    /// The same namespaces, mounts and identity by bubblewrap; it installs no filter and no Landlock rules, which is in its favour.
    fn bubblewrap(&self) -> Command {
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
        command.args(["--ro-bind"]).arg(&self.root).arg("/").args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--ro-bind"]);
        command.arg(&self.task).arg("/var/task").arg("--ro-bind").arg(&self.layer).args([
            "/opt",
            "--chdir",
            "/var/task",
            "--die-with-parent",
        ]);
        command.args(["--new-session", "--clearenv", "/bin/nothing"]).stdin(Stdio::null());
        command
    }
}

fn main() {
    let folder = place::scratch();
    let scene = Scene::make(folder.path());
    // As the product has it: one thread for the tasks, one that launches.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let launcher = Launcher::start().expect("the launcher starts");
    let nothing = place::nothing();
    let limited = |first_process, limits| {
        let (runtime, scene, launcher) = (&runtime, &scene, &launcher);
        move || {
            runtime.block_on(async {
                let start = Instant::now();
                let mut sandbox = launcher.launch(plan(scene.request(first_process, limits)).expect("a sound request")).expect("it launches");
                sandbox.ended().await.expect("it ends");
                start.elapsed()
            })
        }
    };
    let sandboxed = |first_process| limited(first_process, sandbox::Limits::default());
    let mut variants = vec![
        Variant::timed("bare posix_spawn of the program", || {
            assert!(Command::new(&nothing).stdin(Stdio::null()).status().is_ok_and(|status| status.success()));
        }),
        Variant::new("full sandbox, the program is PID 1", sandboxed(FirstProcess::Program)),
        Variant::new("full sandbox with init, as runs have it", sandboxed(FirstProcess::Init)),
    ];
    let peer = skip::has_program("bwrap");
    if peer {
        variants.push(Variant::timed("bubblewrap", || assert!(scene.bubblewrap().status().is_ok_and(|status| status.success()))));
    } else {
        println!("no bubblewrap here (Debian package bubblewrap): that ratio is missing");
    }
    // By a cgroup or by a watcher, as this user may.
    let limits = sandbox::Limits { memory_bytes: Some(128 << 20), cpu: None };
    variants.push(Variant::new("full sandbox with init and a memory limit", limited(FirstProcess::Init, limits)));
    let figures = compare("Launch to end of a program that does nothing", ROUNDS, variants);
    let ms = |at: usize| figures[at].min.as_secs_f64() * 1e3;
    verdict("full sandbox, minimum, against 1.5 x the floor of 0.2 ms on a quiet machine", ms(1), 0.3, "ms");
    // On the machine the floor was measured on, a bare spawn took 0.076 ms: a slower or busier one is slower at both.
    verdict("the same in bare spawns, of which the floor was 2.6", ms(1) / ms(0), 1.5 * 0.2 / 0.076, "spawns");
    if peer {
        verdict("our part of bubblewrap's time (a quarter)", ms(1) / ms(3), 0.25, "");
    }
}
