//! One test's own world: cache, home, temporary folder, a task folder with the probe in it, and a small image.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::image::{Image, Layout};
use crate::leftovers::{eventually, everything_below, mounts_below, processes_named};
use crate::run::{Ran, Run};
use crate::{place, skip};

/// A test's own world. Everything in it is gone with it.
pub struct Fixture {
    folder: Option<TempDir>,
    marker: String,
}

impl Fixture {
    /// A world with a `provided` image called `provided` and the probe as `/var/task/bootstrap`. `None` (and counted as skipped) where
    /// sandboxes cannot run.
    pub fn new() -> Option<Fixture> {
        skip::sandbox_can_run().then(|| {
            let fixture = Fixture::without_sandbox();
            fixture.layout().add("provided", &Image::provided());
            fixture
        })
    }

    /// The same without an image, for what needs no sandbox.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn without_sandbox() -> Fixture {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let folder = place::scratch();
        for name in ["home", "tmp", "task", "run"] {
            fs::create_dir(folder.path().join(name)).expect("a fresh folder can be filled");
        }
        Layout::create(&folder.path().join("layout"));
        // At most 15 bytes: the kernel's limit for a process's name.
        let marker = format!("u{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let fixture = Fixture { folder: Some(folder), marker };
        fixture.install_probe(&fixture.task().join("bootstrap"));
        if place::isolation_is(&["in-place"]) {
            let tmp = fixture.tmp_inside();
            fs::create_dir(&tmp).expect("a name of our own");
            fs::set_permissions(&tmp, fs::Permissions::from_mode(0o1777)).expect("set");
        }
        fixture
    }

    /// Its folder.
    ///
    /// # Panics
    /// Never: it is taken only when the fixture is dropped.
    pub fn path(&self) -> &Path {
        self.folder.as_ref().expect("the folder is there until the end").path()
    }

    /// The task folder on the host.
    pub fn task(&self) -> PathBuf {
        self.path().join("task")
    }

    /// The cache that runs use.
    pub fn cache(&self) -> PathBuf {
        self.path().join("cache")
    }

    /// The layout that [`Fixture::image`] names an image of.
    pub fn layout(&self) -> Layout {
        Layout::at(&self.path().join("layout"))
    }

    /// A reference to an image in the fixture's layout.
    pub fn image(&self, name: &str) -> String {
        format!("oci:{}:{name}", self.path().join("layout").display())
    }

    /// Copies the probe to a place, executable by all.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn install_probe(&self, at: &Path) {
        fs::copy(place::probe(), at).expect("the probe can be copied");
        fs::set_permissions(at, fs::Permissions::from_mode(0o755)).expect("its mode can be set");
    }

    /// Where the task folder is inside: in place it stays where it is.
    pub fn task_inside(&self) -> String {
        if place::isolation_is(&["in-place"]) { self.task().display().to_string() } else { "/var/task".to_owned() }
    }

    /// A folder inside that everybody may write to: in place `/tmp` is the machine's, and a folder in it stands for it.
    pub fn tmp_inside(&self) -> String {
        if place::isolation_is(&["in-place"]) { format!("/tmp/{}", self.marker) } else { "/tmp".to_owned() }
    }

    /// Writes what the probe shall do. `{task}` and `{tmp}` stand for these folders inside.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn script(&self, commands: &str) {
        fs::write(self.task().join("script"), self.marked(commands)).expect("a script can be written");
    }

    /// A script that first names its process, so that it can be found later.
    pub fn marked(&self, commands: &str) -> String {
        let commands = commands.replace("{task}", &self.task_inside()).replace("{tmp}", &self.tmp_inside());
        format!("comm {}\n{commands}\n", self.marker)
    }

    /// `undocked` with this world's folders and nothing else in its environment.
    pub fn undocked(&self, arguments: &[&str]) -> Run {
        self.start_with(Run::new(place::undocked()), arguments)
    }

    /// The same as docker.
    pub fn docker(&self, arguments: &[&str]) -> Run {
        self.start_with(Run::new(place::undocked()).arg("docker"), arguments)
    }

    /// Makes its cache a copy of another's, by hard links.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn take_cache_of(&self, other: &Fixture) {
        let copied = Command::new("cp").arg("-al").arg(other.cache()).arg(self.cache()).status().expect("cp starts");
        assert!(copied.success(), "{copied}");
        // A lock is a file's, not a name's: through a hard link it would be every test's.
        for lock in fs::read_dir(self.cache().join("v1/locks")).expect("there").flatten() {
            fs::remove_file(lock.path()).expect("removed");
        }
    }

    /// `docker VERB` with the task folder shown, and the probe as a plain command that does what `line` says.
    pub fn docker_probe(&self, verb_and_options: &[&str], line: &str) -> Run {
        let volume = format!("{}:/var/task:ro", self.task().display());
        let marked = format!("comm {} ; {line}", self.marker);
        let plain = ["-v", &volume, "--entrypoint", "/var/task/bootstrap"];
        self.docker(&[verb_and_options, &plain, &[&self.image("provided"), "--line", &marked]].concat())
    }

    /// The same on a machine that grants less; `lacks` as `degraded` takes it.
    pub fn degraded(&self, lacks: &[&str], arguments: &[&str]) -> Run {
        self.degraded_by(place::undocked(), lacks, arguments)
    }

    /// The same where the binary lies elsewhere.
    pub fn degraded_by(&self, undocked: impl AsRef<Path>, lacks: &[&str], arguments: &[&str]) -> Run {
        self.start_with(Run::new(place::degraded()).args(lacks).arg("--").arg(undocked.as_ref()), arguments)
    }

    fn start_with(&self, run: Run, arguments: &[&str]) -> Run {
        let isolation = place::isolation().filter(|_| matches!(arguments.first(), Some(&("run" | "serve" | "batch"))));
        let (first, rest) = arguments.split_at(arguments.len().min(1));
        run.args(first)
            .args(isolation.iter().flat_map(|isolation| ["--isolation", isolation]))
            .args(rest)
            .env("HOME", self.path().join("home"))
            .env("TMPDIR", self.path().join("tmp"))
            .env("XDG_RUNTIME_DIR", self.path().join("run"))
            .env("UNDOCKED_CACHE", self.cache())
            .current_dir(self.path())
    }

    /// `undocked run` of the `provided` image with the task folder mounted read-only; `options` come before the image, `rest` after it. In place there is
    /// no image: this machine's userland stands for it.
    pub fn run(&self, options: &[&str], rest: &[&str]) -> Run {
        self.run_image(&self.provided(), options, rest)
    }

    /// The image of [`Fixture::run`].
    pub fn provided(&self) -> String {
        if place::isolation_is(&["in-place"]) { "host".to_owned() } else { self.image("provided") }
    }

    /// The same by a shell, which `script` is run by with the words of the command as `"$0" "$@"`: for descriptors that undocked begins with.
    pub fn run_by_shell(&self, script: &str, options: &[&str], rest: &[&str]) -> Run {
        let volume = format!("{}:/var/task:ro", self.task().display());
        self.undocked_by_shell(script, &[&["run", "-v", &volume], options, &[&self.provided()], rest].concat())
    }

    /// [`Fixture::undocked`] by a shell.
    pub fn undocked_by_shell(&self, script: &str, arguments: &[&str]) -> Run {
        self.start_with(Run::new("bash").args(["-c", script]).arg(place::undocked()), arguments)
    }

    /// The same with another image.
    pub fn run_image(&self, image: &str, options: &[&str], rest: &[&str]) -> Run {
        let volume = format!("{}:/var/task:ro", self.task().display());
        self.undocked(&["run", "-v", &volume]).args(options).arg(image).args(rest)
    }

    /// Runs a script to its end with no options, arguments or event, and checks that nothing is left.
    pub fn invoke(&self, commands: &str) -> Ran {
        self.script(commands);
        let ran = self.run(&[], &[]).finish();
        self.expect_nothing_left();
        ran
    }

    /// How its processes call themselves.
    pub fn marker(&self) -> &str {
        &self.marker
    }

    /// Asserts that no process, mount or temporary file is there.
    ///
    /// # Panics
    /// When something is.
    #[track_caller]
    pub fn expect_nothing_left(&self) {
        // The kernel reaps a namespace's other processes just after its first one.
        let gone = || processes_named(&self.marker).is_empty();
        eventually(Duration::from_secs(1), "all of the function's processes are gone", gone);
        let mounts = mounts_below(self.path());
        assert!(mounts.is_empty(), "mounts are left: {mounts:?}");
        for folder in ["tmp", "run", "cache/runs", "cache/v1/tmp", "cache/v1/ingest"] {
            let left = everything_below(&self.path().join(folder));
            assert!(left.is_empty(), "files are left: {left:?}");
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(folder) = self.folder.take() {
            // Root file systems hold folders that their owner may not enter.
            let _ = Command::new("chmod").args(["-R", "u+rwX"]).arg(folder.path()).output();
            let _ = folder.close();
            if place::isolation_is(&["in-place"]) {
                // Files in it may be another user's.
                let _ = fs::remove_dir_all(self.tmp_inside());
            }
        }
    }
}
