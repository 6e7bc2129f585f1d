//! Sandboxes less some protections: what an attack does when the wall that holds it is not there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::run::{Ran, Run};
use crate::{place, skip};

/// A root file system with the probe in it, and what starts it in a sandbox less some protections.
pub struct Weakened {
    folder: TempDir,
}

impl Weakened {
    /// `None` (and counted as skipped) where sandboxes cannot run.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new() -> Option<Weakened> {
        // Not below /tmp, which the sandbox covers.
        skip::sandbox_can_run().then(|| Weakened::at(tempfile::tempdir_in("/var/tmp").expect("a folder can be made")))
    }

    fn at(folder: TempDir) -> Weakened {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("set");
        let made = Weakened { folder };
        make_root(&made.root());
        let probe = fs::read(place::probe()).expect("the probe is there");
        // The second is where it looks for itself without a `/proc`.
        ["bin/probe", "var/task/bootstrap"].iter().for_each(|path| made.install(path, &probe));
        made
    }

    /// The folder that becomes `/`.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// A folder of the host's, beside the root.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Puts an executable into the root.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn install(&self, path: &str, contents: &[u8]) {
        let path = self.root().join(path);
        fs::write(&path, contents).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
    }

    /// Where a path inside is: in place it lies below the root's own folder.
    pub fn inside(&self, path: &str) -> String {
        if place::isolation_is(&["in-place"]) { format!("{}{path}", self.root().display()) } else { path.to_owned() }
    }

    /// The words of a command that runs a script, its lines, and prints the notes.
    pub fn words(&self, options: &[&str], script: &str) -> Vec<String> {
        self.words_of("/bin/probe", options, &probe_words(script))
    }

    /// The words of a command that runs a program of the root.
    pub fn words_of(&self, program: &str, options: &[&str], arguments: &[String]) -> Vec<String> {
        let isolation = place::isolation().unwrap_or_else(|| "full".to_owned());
        let scratch = self.path().join("scratch").display().to_string();
        let first = [place::weakened().display().to_string(), "--isolation".to_owned(), isolation, "--scratch".to_owned(), scratch];
        let words = first.into_iter().chain(options.iter().map(|word| (*word).to_owned()));
        words.chain([self.root().display().to_string(), self.inside(program)]).chain(arguments.iter().cloned()).collect()
    }

    /// Runs a script in a sandbox less these protections.
    pub fn run(&self, without: &[&str], script: &str) -> Ran {
        self.run_with(&options(without), script)
    }

    /// The same with other options of the program, too.
    pub fn run_with(&self, options: &[&str], script: &str) -> Ran {
        let words = self.words(options, script);
        Run::new(&words[0]).args(&words[1..]).current_dir("/").finish()
    }

    /// What a script noted in a sandbox less these protections.
    #[track_caller]
    pub fn notes(&self, without: &[&str], script: &str) -> Value {
        notes_of(&self.run(without, script))
    }
}

/// `--without` for each.
pub fn options<'a>(without: &[&'a str]) -> Vec<&'a str> {
    without.iter().flat_map(|name| ["--without", name]).collect()
}

/// What a script noted on the host itself: whether this machine lets an attack succeed at all.
#[track_caller]
pub fn notes_of_host(script: &str) -> Value {
    notes_of(&Run::new(place::probe()).args(probe_words(script)).finish())
}

fn probe_words(script: &str) -> [String; 2] {
    let lines: Vec<&str> = script.lines().map(str::trim).filter(|line| !line.is_empty()).chain(["print-notes"]).collect();
    ["--line".to_owned(), lines.join(" ; ")]
}

/// The notes on the last line of standard output.
///
/// # Panics
/// When there are none.
#[track_caller]
pub fn notes_of(ran: &Ran) -> Value {
    let last = ran.out().lines().last().unwrap_or_default().to_owned();
    serde_json::from_str(&last).unwrap_or_else(|error| panic!("no notes ({error}): {} {:?}\n{}", ran.code(), ran.out(), ran.err()))
}

/// The places a sandbox mounts at.
fn make_root(root: &Path) {
    for folder in ["bin", "proc", "tmp", "dev", "var/task", "opt", "etc", "usr"] {
        fs::create_dir_all(root.join(folder)).expect("made");
    }
    for device in ["null", "zero", "full", "random", "urandom", "tty"] {
        fs::write(root.join("dev").join(device), "").expect("written");
    }
    for (name, target) in [("dev/fd", "/proc/self/fd"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        symlink(target, root.join(name)).expect("made");
    }
    fs::write(root.join("etc/passwd"), "").expect("written");
}
