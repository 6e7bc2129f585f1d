//! Launches by the library, from inside this process: a root with one program, and counts of what a process holds.

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runner::sandbox::{
    self, Access, Filter, FirstProcess, InnerIdentity, Input, Launcher, Network, Output, RootSource, SandboxRequest, Volume, plan,
    shipped_filter,
};

use crate::{leftovers, place};

/// A root that holds two programs and the mount points alone.
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
    fs::copy(place::probe(), root.join("bin/probe")).expect("copied");
}

/// What is launched, in a folder of the caller's.
pub struct Scene {
    /// The root.
    pub root: PathBuf,
    /// Shown as `/var/task`.
    pub task: PathBuf,
    /// Shown as `/opt`.
    pub layer: PathBuf,
    filter: Arc<Filter>,
}

impl Scene {
    /// Makes it.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn make(folder: &Path) -> Scene {
        let [root, task, layer] = ["root", "task", "layer"].map(|name| folder.join(name));
        make_root(&root);
        fs::create_dir(&task).expect("made");
        fs::create_dir(&layer).expect("made");
        Scene { root, task, layer, filter: shipped_filter() }
    }

    /// The program that does nothing, in the full sandbox.
    ///
    /// # Panics
    /// Never.
    pub fn request(&self, network: Network, first_process: FirstProcess) -> SandboxRequest {
        self.of(&["/bin/nothing"], network, first_process)
    }

    /// A command line in the full sandbox.
    ///
    /// # Panics
    /// Never.
    pub fn of(&self, line: &[&str], network: Network, first_process: FirstProcess) -> SandboxRequest {
        let volume = |source: &Path, target: &str| Volume { source: source.to_owned(), target: target.into(), access: Access::ReadOnly };
        SandboxRequest {
            isolation: sandbox::IsolationChoice::Auto,
            scratch: None,
            root: RootSource::Image { path: self.root.clone() },
            command: sandbox::Command::Line(line.iter().map(|&word| word.to_owned()).collect()),
            environment: vec![CString::new("PATH=/bin").expect("no NUL")],
            working_dir: "/var/task".into(),
            volumes: vec![volume(&self.task, "/var/task"), volume(&self.layer, "/opt")],
            identity: InnerIdentity { uid: 993, gid: 990 },
            ids: sandbox::IdMap::Single,
            terminal: None,
            hostname: "lambda".to_owned(),
            tmp_size_bytes: 512 << 20,
            tmp_in_memory: None,
            files: Vec::new(),
            limits: sandbox::Limits::default(),
            stdio: sandbox::Stdio { input: Input::Null, output: Output::Inherit, error: Output::Inherit },
            network,
            listen_inside: (network != Network::Host).then_some(9001),
            first_process,
            filter: Some(Arc::clone(&self.filter)),
        }
    }
}

/// What this process holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holdings {
    /// Open descriptors.
    pub descriptors: usize,
    /// Mounts of our namespace.
    pub mounts: usize,
    /// Processes below us.
    pub processes: usize,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
}

impl Holdings {
    /// As it is now.
    ///
    /// # Panics
    /// When `/proc` is not there.
    pub fn now() -> Holdings {
        let own = std::process::id().cast_signed();
        let resident = leftovers::status_field(own, "VmRSS:").expect("we live");
        Holdings {
            descriptors: fs::read_dir("/proc/self/fd").expect("/proc is mounted").count(),
            mounts: fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted").lines().count(),
            processes: leftovers::descendants(own).len(),
            resident_bytes: resident.trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024,
        }
    }
}

/// Launches the program that does nothing from so many threads, so often in all, and waits for each.
///
/// # Panics
/// When one fails.
pub fn launch_many(scene: &Scene, network: Network, threads: usize, launches: usize) {
    let launcher = Launcher::start().expect("the launcher starts");
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..launches / threads {
                    let plan = plan(scene.request(network, FirstProcess::Init)).expect("a sound request");
                    let mut sandbox = launcher.launch(plan).expect("it launches");
                    assert_eq!(sandbox.wait().expect("it ends"), sandbox::Ended::Exited(0));
                }
            });
        }
    });
}
