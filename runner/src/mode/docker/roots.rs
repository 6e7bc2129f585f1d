//! The root of a run whose command may write to it: a folder in the cache by the run's id, which is there until the run is removed.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use rootfs_cache::rootfs::Rootfs;

use super::objects::image_config;
use super::plain::{Asking, Plain, PlainEnd};
use crate::config::RunConfig;
use crate::config::docker::Place;
use crate::environment::variables::EnvVars;
use crate::exit_code::{ExitCode, Failure};
use crate::mode::inside::{Inside, Needs, NotInside, Userland};
use crate::mode::once::{Lacks, NotRun};
use crate::mode::writable::{self, PlainCommand};
use crate::mode::{cache_root, shell};
use crate::records::Run;
use crate::sandbox::{Command, Input, Launcher, Output, Stdio, run_folder};
use crate::writable::WritableRoot;

/// What a command has that is started with descriptors of its own; what it reads and writes is ours.
pub(super) const OURS: Stdio = Stdio { input: Input::Inherit, output: Output::Inherit, error: Output::Inherit };

fn folder(run: &Run, place: &Place) -> Result<PathBuf, Failure> {
    Ok(cache_root(&place.images)?.join("roots").join(&run.record.id))
}

/// The run's root; made, if there is none yet.
pub(super) fn of(run: &Run, rootfs: Rootfs, place: &Place) -> Result<WritableRoot, Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    let folder = folder(run, place)?;
    if folder.exists() {
        return WritableRoot::open(rootfs, &folder).map_err(writable::failed);
    }
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(|error| Failure::could_not_run(format!("cannot make `{}`: {error}", folder.display())))?;
    let image = image_config(&place.images, rootfs.manifest_digest());
    let root = WritableRoot::create(rootfs, &folder).map_err(writable::failed)?;
    // What the image calls a volume is a folder in every run of it; here it is one of the root, and goes with the run as docker's does with `--rm`.
    for path in image["config"]["Volumes"].as_object().into_iter().flat_map(|volumes| volumes.keys()) {
        root.make_dir(Path::new(path), 0o755).map_err(writable::failed)?;
    }
    Ok(root)
}

/// Where the run's root is, if it has one.
pub(super) fn existing(run: &Run, place: &Place) -> Option<PathBuf> {
    folder(run, place).ok().filter(|folder| folder.exists())
}

/// Removes the run's root, if it has one, and what was made of it.
pub(super) fn remove(run: &Run, place: &Place) {
    let Some(folder) = existing(run, place) else { return };
    run_folder::remove_tree(&folder);
    for number in 0.. {
        let copy = folder.with_extension(format!("shown{number}"));
        if !copy.exists() {
            break;
        }
        run_folder::remove_tree(&copy);
    }
}

/// A plain command of an image.
pub(super) struct InRoot<'a> {
    pub(super) config: &'a RunConfig,
    pub(super) root: &'a mut WritableRoot,
    pub(super) argv: Vec<String>,
    pub(super) variables: EnvVars,
    pub(super) needs: Needs,
    pub(super) pass_signals: bool,
}

impl InRoot<'_> {
    /// Runs it to its end; in a copy of the image where an overlay is refused.
    pub(super) async fn run(self, launcher: &Launcher, asking: &mut Asking<'_>) -> Result<PlainEnd, NotRun> {
        let Self { config, root, argv, variables, needs, pass_signals } = self;
        let of_image = root.rootfs().config();
        let user = config.user.clone().or_else(|| of_image.user.clone());
        let working_dir = config.working_dir.clone().or_else(|| of_image.working_dir.as_deref().map(PathBuf::from));
        let working_dir = working_dir.unwrap_or_else(|| "/".into());
        let command = PlainCommand { argv, variables, user, working_dir: working_dir.clone(), stdio: OURS };
        let user = writable::user_of(root, command.user.as_deref())?;
        let config = RunConfig { working_dir: Some(working_dir), ..config.clone() };
        let inside = match Inside::prepare(&config, Userland::Writable(root, user.ids), needs, asking.signals).await {
            Ok(inside) => inside,
            Err(NotInside::Failed(failure)) => return Err(failure.into()),
            Err(NotInside::Interrupted(signal)) => return Ok(PlainEnd { code: ExitCode::from_signal(signal), out_of_memory: false }),
        };
        let variables = writable::variables(&command, &user, &inside);
        let plain = |inside: &Inside| Plain {
            request: inside.request(Command::Line(command.argv.clone()), Vec::new(), OURS),
            variables: variables.clone(),
            networking: Rc::new(config.networking.clone()),
            pass_signals,
        };
        let why = match plain(&inside).run(launcher, asking).await {
            Err(not_run) if not_run.lacks(Lacks::Overlay) => not_run.into_failure(),
            ran => return ran,
        };
        shell::say(&format!("this sandbox has a copy of the image, which takes longer: {why}"));
        root.become_copy().map_err(writable::failed)?;
        plain(&inside.with_root(root.source())).run(launcher, asking).await
    }
}
