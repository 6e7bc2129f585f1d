//! The images of `tests/images`, from one registry and into one cache for a whole test binary: each is pulled once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use crate::fixture::Fixture;
use crate::image::Layout;
use crate::real_registry::{self, RealRegistry, Style};
use crate::run::Run;
use crate::{place, skip};

struct Shared {
    registry: RealRegistry,
    pushed: Mutex<HashMap<String, String>>,
    cache: PathBuf,
    _sweeper: Child,
}

/// A function in a real image.
pub struct RealFunction {
    /// Folders and task of its own; the cache is shared.
    pub fixture: Fixture,
    /// What to run.
    pub reference: String,
    cache: PathBuf,
}

/// Whether an image of `tests/images` was built.
#[must_use]
pub fn is_built(name: &str) -> bool {
    Layout::at(&place::images_layout()).find(name).is_some()
}

/// An image of `tests/images` by its name there, such as `lambci/lambda:nodejs12.x`. `None`, and counted as skipped, where it was not built.
///
/// # Panics
/// When the registry fails.
pub fn function(name: &str) -> Option<RealFunction> {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    if !skip::sandbox_can_run() || !real_registry::is_installed() {
        return None;
    }
    let Some(image) = Layout::at(&place::images_layout()).find(name) else {
        skip::skip(skip::Lack::Providable, &format!("the image {name} is not built (tests/images/mkimages.py build @ci)"));
        return None;
    };
    let shared = SHARED.get_or_init(|| {
        // Nothing drops a static, so the folder of both is removed by a shell, once this process and with it the shell's input have ended.
        let folder = place::scratch().keep();
        std::fs::create_dir(folder.join("registry")).expect("a fresh folder can be filled");
        let registry = RealRegistry::start_in(&folder.join("registry"));
        let cache = folder.join("cache");
        let sweeper = Command::new("sh")
            .args(["-c", r#"read -r _; chmod -R u+rwX "$0"; rm -rf "$0""#])
            .arg(&folder)
            .stdin(Stdio::piped())
            .spawn()
            .expect("sh starts");
        Shared { registry, pushed: Mutex::default(), cache, _sweeper: sweeper }
    });
    let mut pushed = shared.pushed.lock().expect("no holder panics");
    let reference = pushed.entry(name.to_owned()).or_insert_with(|| {
        let (repository, tag) = name.rsplit_once(':').expect("names here have a tag");
        let style = if repository.starts_with("lambci/") { Style::Docker } else { Style::DockerList };
        shared.registry.push(&image, repository, tag, style)
    });
    Some(RealFunction { fixture: Fixture::without_sandbox(), reference: reference.clone(), cache: shared.cache.clone() })
}

impl RealFunction {
    /// Writes a file of the function.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn file(&self, name: &str, text: &str) -> &RealFunction {
        std::fs::write(self.fixture.task().join(name), text).expect("a task file can be written");
        self
    }

    /// `undocked run` of it.
    pub fn run(&self, options: &[&str], rest: &[&str]) -> Run {
        self.run_folder(&self.fixture.task(), options, rest)
    }

    /// The cache that functions of real images share.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// `undocked serve` of it on any free port.
    pub fn serve(&self, options: &[&str], handler: &str) -> Run {
        let volume = format!("{}:/var/task:ro", self.fixture.task().display());
        let run = self.fixture.undocked(&["serve", "--listen", "127.0.0.1:0", "-v", &volume]);
        run.args(options).arg(&self.reference).arg(handler).env("UNDOCKED_CACHE", &self.cache)
    }

    /// The same with another folder as the task.
    pub fn run_folder(&self, task: &Path, options: &[&str], rest: &[&str]) -> Run {
        let volume = format!("{}:/var/task:ro", task.display());
        let run = self.fixture.undocked(&["run", "-v", &volume]).args(options).arg(&self.reference).args(rest);
        run.env("UNDOCKED_CACHE", &self.cache)
    }
}
