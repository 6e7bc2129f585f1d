//! `undocked build`: an image from a Dockerfile.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use rootfs_cache::pull::PullEvent;
use rootfs_cache::reference::{ImageReference, Platform};
use rootfs_cache::rootfs::Rootfs;
use rootfs_cache::source::download::{Address, DownloadError, download};
use rootfs_cache::store::Cache;
use rootfs_cache::unpack::Limits;
use tokio::sync::oneshot;

use super::images::make_room;
use super::progress::Progress;
use super::signals::Signals;
use super::writable::{PlainCommand, run_in};
use super::{async_runtime, open_cache, print, pull, push};
use crate::build::builder::{BuildCommand, Built, Fetched, Hands, Recipe, Reuse, Writable, build};
use crate::build::context::{Context, ContextError, Input, read_input, unnamed_file};
use crate::build::dockerfile::{Dockerfile, RunNetwork};
use crate::config::{BuildConfig, ContextSource, Delivery, DockerfileSource, KnownSteps, Loudness, PushConfig, RunConfig, SecretSource};
use crate::environment::user::UserError;
use crate::environment::variables::EnvVars;
use crate::exit_code::{ExitCode, Failure};
use crate::sandbox::{Access, Input as Stdin, Network, Output, Stdio, Volume};
use crate::writable::WritableRoot;

mod streams;

use streams::Diverted;

/// Builds it; tells how that goes on stderr, and nothing on stdout but the image's id where only that is wanted.
pub fn run(config: &BuildConfig) -> Result<ExitCode, Failure> {
    let cache = open_cache(&config.run.images)?;
    let limits = config.run.images.options.limits.clone();
    let (dockerfile, context) = sources(config, &cache, &limits)?;
    let secrets = secrets(&config.secrets)?;
    let watch = SignalWatch::start()?;
    let folder = scratch(&cache)?;
    let built = with_hands(config, &folder, &watch, |hands| {
        let recipe = Recipe {
            dockerfile: &dockerfile,
            context: &context,
            target: config.target.as_deref(),
            arguments: &config.arguments,
            secrets: &secrets,
            labels: &config.labels,
            names: &config.names,
            platform: &config.run.images.options.platform,
            reuse: if config.known_steps == KnownSteps::Taken { Reuse::Cached } else { Reuse::Nothing },
            epoch: config.epoch,
        };
        build(recipe, hands, &cache, &limits)
    });
    let built = match (built, watch.end()) {
        (Ok(built), _) => built,
        (Err(_), Some(signal)) => return Err(Failure::interrupted(signal)),
        (Err(failure), None) => return Err(failure),
    };
    tell(config, &built)?;
    // What was built is held.
    let progress = Progress::new(config.run.talk);
    make_room(&cache, &config.run.images, BTreeSet::new(), &|note| progress.tell(PullEvent::Note(note)));
    Ok(ExitCode::SUCCESS)
}

fn tell(config: &BuildConfig, built: &Built) -> Result<(), Failure> {
    if let Some(file) = &config.id_file {
        let written = std::fs::write(file, built.id.to_string());
        written.map_err(|error| Failure::could_not_run(format!("cannot write `{}`: {error}", file.display())))?;
    }
    if config.run.talk.loudness == Loudness::Quiet {
        deliver(config)?;
        return print(format!("{}\n", built.id).as_bytes());
    }
    say(&format!("Successfully built {}", &built.id.hex()[..12]));
    for name in &config.names {
        say(&format!("Successfully tagged {}", name.familiar()));
    }
    deliver(config)
}

/// Pushes the image by all its names, where that is wanted.
fn deliver(config: &BuildConfig) -> Result<(), Failure> {
    if config.delivery == Delivery::Kept {
        return Ok(());
    }
    for name in &config.names {
        let name = name.to_string();
        let (source, talk) = (config.run.images.clone(), config.run.talk);
        let push = PushConfig { image: name.clone(), destination: Some(name), source, talk };
        push::pushed(&push, &|text| {
            if talk.loudness == Loudness::Normal {
                say(text.trim_end());
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// No secret is larger, by docker's word.
const SECRET_MAX_BYTES: u64 = 500 << 10;

fn secrets(given: &[(String, SecretSource)]) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let secret = |(name, source): &(String, SecretSource)| {
        let path = match source {
            SecretSource::Variable(value) => return Ok((name.clone(), value.clone())),
            SecretSource::File(path) => path,
        };
        let wrong = |what: String| Failure::could_not_run(format!("cannot read the secret `{name}` from `{}`: {what}", path.display()));
        let mut secret = Vec::new();
        let read = File::open(path).and_then(|file| file.take(SECRET_MAX_BYTES + 1).read_to_end(&mut secret));
        match read.map_err(|error| wrong(error.to_string()))? as u64 {
            0..=SECRET_MAX_BYTES => Ok((name.clone(), secret)),
            _ => Err(wrong(format!("it has more than {SECRET_MAX_BYTES} bytes"))),
        }
    };
    given.iter().map(secret).collect()
}

/// Nobody may be there to hear it.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

fn with_hands<T>(
    config: &BuildConfig,
    folder: &Path,
    watch: &SignalWatch,
    work: impl FnOnce(&Hands<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let talk = config.run.talk;
    let find = |text: &str, platform: &Platform| -> Result<Rootfs, Failure> {
        let image: ImageReference = text.parse().map_err(Failure::usage)?;
        let mut source = config.run.images.clone();
        source.options.platform = platform.clone();
        pull::find(&image, &source, talk)
    };
    let run = |root: &mut WritableRoot, command: BuildCommand| run_command(&config.run, root, command);
    let fetch = |address: &Address| fetch(address, config, folder);
    let say = |text: &str| {
        if talk.loudness == Loudness::Normal {
            say(text);
        }
    };
    work(&Hands { run: &run, find: &find, fetch: &fetch, say: &say, interrupted: &|| watch.signal().is_some() })
}

/// Downloads a file; what the server says to it is the Dockerfile's fault.
fn fetch(address: &Address, config: &BuildConfig, folder: &Path) -> Result<Fetched, Failure> {
    let mut file = unnamed_file(folder).map_err(|error| Failure::could_not_run(format!("cannot use `{}`: {error}", folder.display())))?;
    let options = &config.run.images.options;
    let digest = pull::until_signal(async {
        download(address, &options.access, options.limits.bytes, &mut file).await.map_err(|error| {
            let (hint, is_answer) = (error.hint(), matches!(error, DownloadError::Answer { .. }));
            let failure = Failure::could_not_run(error).with_hint(hint);
            if is_answer { failure.with_code(ExitCode::FUNCTION_FAILED) } else { failure }
        })
    })?;
    Ok(Fetched { file, digest })
}

/// Runs a command; what it says goes to stderr, or is told only if it fails.
fn run_command(config: &RunConfig, root: &mut WritableRoot, command: BuildCommand) -> Result<i32, Failure> {
    let mut config = config.clone();
    match command.network {
        RunNetwork::Default => {}
        RunNetwork::None => config.networking.network = Network::None,
        RunNetwork::Host => config.networking.network = Network::Host,
    }
    config.volumes = command
        .folders
        .into_iter()
        .map(|folder| Volume {
            source: folder.source,
            target: folder.target,
            access: if folder.writable == Writable::Yes { Access::ReadWrite } else { Access::ReadOnly },
        })
        .collect();
    let mut variables = EnvVars::default();
    for (name, value) in command.variables {
        variables.set(&name, value);
    }
    let stdio = Stdio { input: Stdin::Null, output: Output::Inherit, error: Output::Inherit };
    let command = PlainCommand { argv: command.words, variables, user: command.user, working_dir: command.working_dir, stdio };
    let diverted =
        Diverted::begin(config.talk.loudness).map_err(|error| Failure::could_not_run(format!("cannot divert output: {error}")))?;
    let ran = run_in(&config, root, &command);
    diverted.end(ran.as_ref().is_ok_and(|code| *code == ExitCode::SUCCESS));
    ran.map(|code| code.number().into()).map_err(|failure| {
        // What the Dockerfile names is not there, or cannot be executed.
        let is_its_fault =
            failure.cause::<UserError>().is_some() || matches!(failure.code(), ExitCode::NOT_FOUND | ExitCode::NOT_EXECUTABLE);
        if is_its_fault { failure.with_code(ExitCode::FUNCTION_FAILED) } else { failure }
    })
}

/// The Dockerfile and the context.
fn sources(config: &BuildConfig, cache: &Cache, limits: &Limits) -> Result<(Dockerfile, Context), Failure> {
    let stdin = || read_input(std::io::stdin().lock(), &scratch(cache)?).map_err(wrong);
    let (text, name, mut context) = match (&config.context, &config.dockerfile) {
        (ContextSource::Folder(folder), DockerfileSource::Stdin) => {
            let context = Context::folder(folder).map_err(wrong)?;
            let text = std::io::read_to_string(std::io::stdin().lock());
            let text = text.map_err(|error| Failure::could_not_run(format!("cannot read the Dockerfile from standard input: {error}")))?;
            (text, "Dockerfile".to_owned(), context)
        }
        (ContextSource::Folder(folder), DockerfileSource::Context) => {
            let context = Context::folder(folder).map_err(wrong)?;
            (context.dockerfile("Dockerfile").map_err(wrong)?, "Dockerfile".to_owned(), context)
        }
        (ContextSource::Folder(folder), DockerfileSource::File(path)) => {
            let text = std::fs::read_to_string(path);
            let name = path.display().to_string();
            let text = text.map_err(|source| wrong(ContextError::Dockerfile { name: name.clone(), source }))?;
            (text, name, Context::folder(folder).map_err(wrong)?)
        }
        (ContextSource::Stdin, dockerfile) => match stdin()? {
            Input::Dockerfile(text) => (text, "Dockerfile".to_owned(), Context::default()),
            Input::Archive(file) => {
                let context = Context::archive(&file, cache, limits).map_err(wrong)?;
                let name = match dockerfile {
                    DockerfileSource::File(path) => path.display().to_string(),
                    _ => "Dockerfile".to_owned(),
                };
                (context.dockerfile(&name).map_err(wrong)?, name, context)
            }
        },
    };
    let own = own_ignore(config, &name);
    context.read_ignore(&own).map_err(wrong)?;
    let dockerfile = Dockerfile::parse(&name, &text).map_err(|error| {
        let hint = error.hint.clone();
        Failure::could_not_run(error).with_hint(hint).with_code(ExitCode::FUNCTION_FAILED)
    })?;
    Ok((dockerfile, context))
}

/// The list of what is left out that belongs to the Dockerfile alone: its path, on this machine or in an archive.
fn own_ignore(config: &BuildConfig, name: &str) -> PathBuf {
    let base = match (&config.context, &config.dockerfile) {
        (ContextSource::Folder(folder), DockerfileSource::Context) => folder.join(name),
        _ => PathBuf::from(name),
    };
    let mut path = base.into_os_string();
    path.push(".dockerignore");
    path.into()
}

fn wrong(error: ContextError) -> Failure {
    let hint = error.hint();
    Failure::could_not_run(error).with_hint(hint)
}

/// A folder on the cache's file system.
fn scratch(cache: &Cache) -> Result<PathBuf, Failure> {
    let folder: &Path = cache.root();
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| Failure::could_not_run(format!("cannot use `{}`: {error}", folder.display())))?;
    Ok(folder.to_owned())
}

/// Signals no longer end us while this lives: they are noted, and the build ends when it sees that.
struct SignalWatch {
    came: Arc<AtomicI32>,
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl SignalWatch {
    fn start() -> Result<Self, Failure> {
        let came = Arc::new(AtomicI32::new(0));
        let noted = Arc::clone(&came);
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let watch = move || {
            let Ok(runtime) = async_runtime() else { return };
            runtime.block_on(async {
                let Ok(mut signals) = Signals::listen() else { return };
                let _ = ready.send(());
                tokio::select! {
                    // A signal that ended a command came before the end of the build.
                    biased;
                    signal = signals.next() => noted.store(signal, Ordering::Relaxed),
                    _ = stopped => {}
                }
            });
        };
        let thread = thread::Builder::new().name("signals".to_owned()).spawn(watch).map_err(Failure::could_not_run)?;
        is_ready.recv().map_err(|_| Failure::could_not_run("cannot listen to signals"))?;
        Ok(Self { came, stop, thread })
    }

    fn signal(&self) -> Option<i32> {
        Some(self.came.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
    }

    /// What came until the end.
    fn end(self) -> Option<i32> {
        let Self { came, stop, thread } = self;
        let _ = stop.send(());
        // It has noted what came, or failed and noted nothing.
        let _ = thread.join();
        Some(came.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
    }
}
