//! What a sandbox shows, put together from the configuration of a run and the image: root, volumes, layers, user.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rootfs_cache::rootfs::Rootfs;

mod names;
mod places;
mod writable;

pub(super) use writable::{APT_SETTINGS, APT_VARIABLE};

use super::cache_root;
use super::signals::Signals;
use crate::config::{ImageSource, RunConfig};
use crate::environment::identity::{HOST_IDENTITY, Identity, ImageRoot};
use crate::environment::layers::{self, MergeError};
use crate::environment::mount_points::PlaceError;
use crate::environment::variables::EnvVars;
use crate::environment::{Blueprint, extensions, mount_points};
use crate::exit_code::Failure;
use crate::function::INNER_API_PORT;
use crate::sandbox::run_folder::{self, RunFolder};
use crate::sandbox::{
    Access, Command, Filter, FirstProcess, HostRoot, IdMap, InnerIdentity, Input, IsolationChoice, Limits, MadeFile, Network, RootSource,
    SandboxRequest, Stdio, TmpSize, Volume,
};
use crate::writable::WritableRoot;

/// The host name inside.
const HOSTNAME: &str = "lambda";

/// What a sandbox shows. The folder of the run is removed with this value.
#[derive(Debug)]
pub(super) struct Inside {
    root: RootSource,
    volumes: Vec<Volume>,
    files: Vec<MadeFile>,
    identity: InnerIdentity,
    ids: IdMap,
    network: Network,
    working_dir: PathBuf,
    filter: Option<Arc<Filter>>,
    isolation: IsolationChoice,
    scratch: Option<PathBuf>,
    tmp_size_bytes: u64,
    tmp_in_memory: Option<TmpSize>,
    limits: Limits,
    extensions: Vec<String>,
    /// While it is held, the image stays in the cache.
    _rootfs: Option<Rootfs>,
    _folder: Option<RunFolder>,
    /// The layers that `/opt` is a copy of, and where that is.
    merged: Option<(Vec<PathBuf>, PathBuf)>,
}

/// The userland a run takes place in.
#[derive(Debug)]
pub(super) enum Userland<'a> {
    /// A root that may be written to, by this user.
    Writable(&'a WritableRoot, InnerIdentity),
    /// An unpacked image.
    Image(Rootfs, ImageRoot),
    /// This machine's.
    Host(HostRoot),
}

/// What the program needs that runs there.
#[derive(Debug, Clone)]
pub(super) struct Needs {
    /// What it may use.
    pub(super) limits: Limits,
    /// Files beside it; their places exist.
    pub(super) helpers: Vec<MadeFile>,
}

/// Why nothing can be shown.
pub(super) enum NotInside {
    /// An error.
    Failed(Failure),
    /// This signal came first.
    Interrupted(i32),
}

impl From<Failure> for NotInside {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Inside {
    /// Puts it together; layers may have to be copied, until a signal comes.
    pub(super) async fn prepare(
        config: &RunConfig,
        userland: Userland<'_>,
        needs: Needs,
        signals: &mut Signals,
    ) -> Result<Self, NotInside> {
        let Needs { limits, helpers } = needs;
        let mut folder = LazyFolder { source: &config.images, made: None };
        places::check(&config.volumes, &userland)?;
        let mut volumes = config.volumes.clone();
        let mut merged = None;
        if let Some(opt) = opt(config, &mut folder, signals).await? {
            merged = (config.layers.len() > 1).then(|| (config.layers.clone(), opt.clone()));
            volumes.push(read_only(opt, "/opt"));
        }
        let working_dir = working_dir(config, &userland);
        let names = names::files(config);
        let mut files: Vec<_> = helpers.into_iter().filter(|helper| is_free(&volumes, &helper.path)).collect();
        let extensions;
        let (mut filter, mut tmp_size_bytes, mut id_map) = (config.filter.clone(), config.tmp_size.bytes(), IdMap::Single);
        let (root, ids, rootfs) = match userland {
            Userland::Host(mut root) => {
                extensions = extensions::names(&volumes, None);
                names::show_on_host(&mut root, names);
                (RootSource::Host(places::on_host(root, &config.volumes)), HOST_IDENTITY, None)
            }
            Userland::Writable(root, ids) => {
                extensions = Vec::new();
                id_map = writable::show(root, config, &working_dir, (&mut files, &mut volumes))?;
                (filter, tmp_size_bytes) = (writable::filter(config, ids, id_map), writable::SHARED_MEMORY_BYTES);
                (root.source(), ids, None)
            }
            Userland::Image(rootfs, image) => {
                let ids = show_databases(&image, names, (&mut files, &mut volumes), &mut folder)?;
                extensions = extensions::names(&volumes, Some(&image));
                let (root, parts) = mount_points::root(rootfs.path(), &volumes).map_err(no_place)?;
                volumes.extend(parts);
                (root, ids, Some(rootfs))
            }
        };
        Ok(Self {
            isolation: config.isolation,
            scratch: config.images.cache.as_deref().map(run_folder::parent),
            root,
            volumes,
            files,
            identity: ids,
            ids: id_map,
            network: config.networking.network,
            working_dir,
            tmp_size_bytes,
            tmp_in_memory: config.tmp_in_memory,
            limits,
            extensions,
            filter,
            _rootfs: rootfs,
            _folder: folder.made,
            merged,
        })
    }

    /// Another root in place of the one that was refused.
    pub(super) fn with_root(self, root: RootSource) -> Self {
        Self { root, ..self }
    }

    /// Copies layers that are copies again, in their place. Blocks.
    pub(super) fn layers_changed(&self) -> Result<(), Failure> {
        let Some((layers, target)) = &self.merged else { return Ok(()) };
        for entry in std::fs::read_dir(target).map_err(Failure::could_not_run)?.flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed = if is_folder { std::fs::remove_dir_all(entry.path()) } else { std::fs::remove_file(entry.path()) };
            removed.map_err(Failure::could_not_run)?;
        }
        layers::merge(layers, target, &AtomicBool::new(false)).map_err(Failure::could_not_run)
    }

    /// Where its command starts.
    pub(super) fn working_dir(&self) -> &Path {
        &self.working_dir
    }

    /// The host name inside.
    pub(super) fn hostname(&self) -> &'static str {
        HOSTNAME
    }

    /// Whether a file is made for the sandbox.
    pub(super) fn has_file(&self, path: &str) -> bool {
        self.files.iter().any(|file| file.path == Path::new(path))
    }

    /// What environments of a function are made of.
    pub(super) fn blueprint(&self, command: Command, variables: EnvVars, stdio: Stdio) -> Blueprint {
        Blueprint { request: self.request(command, Vec::new(), stdio), variables, extensions: self.extensions.clone() }
    }

    /// What the sandbox is asked to be.
    pub(super) fn request(&self, command: Command, environment: Vec<CString>, stdio: Stdio) -> SandboxRequest {
        SandboxRequest {
            isolation: self.isolation,
            scratch: self.scratch.clone(),
            root: self.root.clone(),
            command,
            environment,
            working_dir: self.working_dir.clone(),
            volumes: self.volumes.clone(),
            files: self.files.clone(),
            identity: self.identity,
            ids: self.ids,
            terminal: terminal_of(stdio),
            hostname: HOSTNAME.to_owned(),
            tmp_size_bytes: self.tmp_size_bytes,
            tmp_in_memory: self.tmp_in_memory,
            limits: self.limits,
            stdio,
            network: self.network,
            listen_inside: (self.network != Network::Host).then_some(INNER_API_PORT),
            // As on Lambda the runtime is not process 1, which signals of its own making would not reach.
            first_process: FirstProcess::Init,
            filter: self.filter.clone(),
        }
    }
}

/// The device of the terminal that a program is given as its standard input: of a pseudoterminal, since others are this machine's own.
fn terminal_of(stdio: Stdio) -> Option<PathBuf> {
    let own = std::io::stdin();
    let name = (stdio.input == Input::Inherit).then(|| nix::unistd::ttyname(own)).and_then(Result::ok);
    name.filter(|name| name.starts_with("/dev/pts"))
}

fn no_place(error: PlaceError) -> Failure {
    let hint = error.hint();
    Failure::could_not_run(error).with_hint(hint)
}

/// A run's folder, made when it is needed.
struct LazyFolder<'a> {
    source: &'a ImageSource,
    made: Option<RunFolder>,
}

impl LazyFolder<'_> {
    fn get(&mut self) -> Result<&RunFolder, Failure> {
        if self.made.is_none() {
            // In the cache, whose file system is large, allows executing and may share blocks with the layers' own.
            let parent = run_folder::parent(cache_root(self.source)?);
            let made = RunFolder::create(&parent).map_err(|error| {
                let hint = error.hint();
                Failure::could_not_run(error).with_hint(hint)
            });
            self.made = Some(made?);
        }
        Ok(self.made.as_ref().expect("it was made above"))
    }

    fn write(&mut self, name: &str, contents: &[u8]) -> Result<PathBuf, Failure> {
        self.get()?.write(name, contents).map_err(Failure::could_not_run)
    }
}

/// One layer is shown where it is; several are copied together.
async fn opt(config: &RunConfig, folder: &mut LazyFolder<'_>, signals: &mut Signals) -> Result<Option<PathBuf>, NotInside> {
    if config.layers.len() < 2 {
        return Ok(config.layers.first().cloned());
    }
    let target = folder.get()?.path().join("opt");
    std::fs::create_dir(&target).map_err(Failure::could_not_run)?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut merge = tokio::task::spawn_blocking({
        let (layers, target, stop) = (config.layers.clone(), target.clone(), Arc::clone(&stop));
        move || layers::merge(&layers, &target, &stop)
    });
    let merged = tokio::select! {
        merged = &mut merge => merged,
        signal = signals.next() => {
            stop.store(true, Ordering::Relaxed);
            // The copy in progress must end before the folder can be removed; what came of it is of no interest.
            let _ = merge.await;
            return Err(NotInside::Interrupted(signal));
        }
    };
    merged.unwrap_or(Err(MergeError::Interrupted)).map_err(Failure::could_not_run)?;
    Ok(Some(target))
}

fn working_dir(config: &RunConfig, userland: &Userland<'_>) -> PathBuf {
    let of_image =
        |rootfs: &Rootfs| rootfs.config().working_dir.as_deref().filter(|dir| !dir.is_empty()).map_or_else(|| "/".into(), PathBuf::from);
    let default = || match userland {
        Userland::Host(_) => PathBuf::from("/var/task"),
        Userland::Writable(root, _) => of_image(root.rootfs()),
        Userland::Image(rootfs, _) => of_image(rootfs),
    };
    config.working_dir.clone().unwrap_or_else(default)
}

/// Shows user databases and files about names that are made for the run, and this machine's name resolution; says who the processes are.
fn show_databases(
    image: &ImageRoot,
    names: Vec<(&'static str, String)>,
    (files, volumes): (&mut Vec<MadeFile>, &mut Vec<Volume>),
    folder: &mut LazyFolder<'_>,
) -> Result<InnerIdentity, Failure> {
    let Identity { ids, databases } = image.identity();
    let databases = databases.into_iter().flat_map(|[passwd, group]| [("/etc/passwd", passwd), ("/etc/group", group)]);
    let names = names.into_iter().map(|(path, text)| (path, text.into_bytes())).filter(|(path, _)| image.holds(path));
    for (path, contents) in databases.chain(names) {
        if !is_free(volumes, path) {
            continue;
        }
        if image.holds(path) {
            files.push(MadeFile { path: path.into(), contents, mode: 0o444 });
        } else {
            // A place has to be made, for which there must be something to show.
            volumes.push(read_only(folder.write(path.trim_start_matches("/etc/"), &contents)?, path));
        }
    }
    show_names_of_host(image, files, volumes);
    Ok(ids)
}

/// This machine's name resolution, where nothing else is.
fn show_names_of_host(image: &ImageRoot, files: &[MadeFile], volumes: &mut Vec<Volume>) {
    for (source, path) in image.name_resolution() {
        if is_free(volumes, path) && files.iter().all(|file| file.path != Path::new(path)) {
            volumes.push(read_only(source, path));
        }
    }
}

/// What the user shows at the same place, or around it, wins.
fn is_free(volumes: &[Volume], path: impl AsRef<Path>) -> bool {
    volumes.iter().all(|given| !path.as_ref().starts_with(&given.target))
}

fn read_only(source: PathBuf, target: &str) -> Volume {
    Volume { source, target: Path::new(target).to_owned(), access: Access::ReadOnly }
}
