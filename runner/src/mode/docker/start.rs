//! `run`, `create` and `start`: a record, and who supervises it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rootfs_cache::digest::Digest;
use rootfs_cache::pull::lookup;
use rootfs_cache::rootfs::Rootfs;
use serde::{Deserialize, Serialize};

use super::supervise::Supervised;
use super::{config_of, each, ends, find, objects, of_daemon, records, volumes};
use crate::config::docker::{Attached, Place, RunSpec, SUPERVISE, Stream};
use crate::config::{Loudness, RunConfig, Talk};
use crate::exit_code::{ExitCode, Failure};
use crate::mode::{open_cache, print, pull};
use crate::records::{Held, NewRun, Run};

/// What a new run is made of.
pub(super) struct New<'a> {
    pub(super) spec: &'a RunSpec,
    pub(super) name: Option<&'a str>,
    pub(super) id_file: Option<&'a Path>,
    pub(super) quiet: bool,
    pub(super) volumes_from: &'a [(String, bool)],
}

impl New<'_> {
    /// Finds the image and writes the record.
    fn make(&self, place: &Place) -> Result<(Run, Held), Failure> {
        let id_file = self.id_file.map(claim).transpose()?;
        let made = self.record(place);
        match (&made, self.id_file, id_file) {
            (Ok((run, _)), Some(path), Some(mut file)) => {
                file.write_all(run.record.id.as_bytes()).map_err(|error| failed_file(path, &error))?;
            }
            (Err(_), Some(path), _) => drop(std::fs::remove_file(path)),
            _ => {}
        }
        made
    }

    fn record(&self, place: &Place) -> Result<(Run, Held), Failure> {
        // What is left of others must not keep a name.
        ends::sweep(place)?;
        let mut spec = self.spec.clone();
        // By its id, an image of the cache is known by one of its names.
        if let [found] = open_cache(&place.images)?.find(&spec.image).map_err(Failure::could_not_run)?.as_slice()
            && found.name.is_none()
            && let Some((name, _)) = found.image.names.first()
        {
            spec.image = name.clone();
        }
        for (name, read_only) in self.volumes_from {
            volumes::take_over(&find(name, place)?.record.spec, *read_only, &mut spec);
        }
        volumes::name_anonymous(&mut spec)?;
        let talk = Talk { loudness: if self.quiet { Loudness::Quiet } else { place.talk.loudness }, ..place.talk };
        let config = config_of(&spec, place, talk)?;
        let rootfs = image(&config)?;
        volumes::fill(&config, &rootfs)?;
        if spec.publish_all {
            publish_all(&mut spec, &objects::image_config(&config.images, rootfs.manifest_digest()));
        }
        let new = NewRun {
            name: self.name.map(str::to_owned),
            image_digest: rootfs.manifest_digest().to_string(),
            image_id: image_id(&config, &rootfs),
            command: shown_command(&spec, &rootfs),
            spec,
        };
        let (run, held) = records(place)?.create(new).map_err(|error| of_daemon(error).with_code(ExitCode::COULD_NOT_RUN))?;
        Ok((run, held))
    }
}

/// The image, with docker's words where it has to be pulled.
fn image(config: &RunConfig) -> Result<Rootfs, Failure> {
    let cache = open_cache(&config.images)?;
    let here = lookup(&cache, &config.image, &config.images.options);
    if matches!(here, Ok(None)) && config.talk.loudness == Loudness::Normal {
        let name = config.image.to_string();
        let name = name.strip_prefix("docker.io/library/").or_else(|| name.strip_prefix("docker.io/")).unwrap_or(&name).to_owned();
        let _ = std::io::stderr().write_all(format!("Unable to find image '{name}' locally\n").as_bytes());
    }
    pull::find(&config.image, &config.images, config.talk)
}

/// Docker's id of an image is the digest of its config.
fn image_id(config: &RunConfig, rootfs: &Rootfs) -> String {
    let bytes = objects::image_config_bytes(&config.images, rootfs.manifest_digest());
    bytes.map_or_else(|| rootfs.manifest_digest().to_string(), |bytes| Digest::of(&bytes).to_string())
}

/// The command line as docker shows it.
fn shown_command(spec: &RunSpec, rootfs: &Rootfs) -> Vec<String> {
    let image = rootfs.config();
    let entrypoint = match &spec.entrypoint {
        Some(program) => Some(program).filter(|program| !program.is_empty()).into_iter().cloned().collect(),
        None => image.entrypoint.clone().unwrap_or_default(),
    };
    let arguments = match (spec.arguments.is_empty(), &spec.entrypoint) {
        (true, None) => image.cmd.clone().unwrap_or_default(),
        _ => spec.arguments.clone(),
    };
    entrypoint.into_iter().chain(arguments).collect()
}

/// `-P`: every port that the image or `--expose` names has a free one of this machine's.
fn publish_all(spec: &mut RunSpec, image: &serde_json::Value) {
    let exposed = image["config"]["ExposedPorts"].as_object().into_iter().flat_map(|ports| ports.keys().cloned());
    let ports: Vec<String> = exposed.chain(spec.expose.iter().cloned()).filter(|port| !spec.publish.contains(port)).collect();
    spec.publish.extend(ports);
}

/// `--cidfile`: there must not be one yet.
fn claim(path: &Path) -> Result<File, Failure> {
    File::create_new(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::could_not_run(format!(
            "container ID file found, make sure the other container isn't running or delete {}",
            path.display()
        )),
        _ => failed_file(path, &error),
    })
}

fn failed_file(path: &Path, error: &std::io::Error) -> Failure {
    Failure::could_not_run(format!("failed to create the container ID file {}: {error}", path.display()))
}

/// `docker run`.
pub(super) fn run(new: &New<'_>, attached: Option<&Attached>, place: &Place) -> Result<ExitCode, Failure> {
    let (run, held) = new.make(place)?;
    match attached {
        None => {
            drop(held);
            let started = in_background(&run);
            // Docker says the id in any case.
            print(format!("{}\n", run.record.id).as_bytes())?;
            started.map(|()| ExitCode::SUCCESS)
        }
        Some(attached) => Supervised { run: &run, held, place, attached: attached.clone() }.run(|_| {}),
    }
}

/// `docker create`.
pub(super) fn create(new: &New<'_>, place: &Place) -> Result<ExitCode, Failure> {
    let (run, _held) = new.make(place)?;
    print(format!("{}\n", run.record.id).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// `docker start`.
pub(super) fn start(names: &[String], attached: Option<&Attached>, place: &Place) -> Result<ExitCode, Failure> {
    let Some(attached) = attached else {
        return each(names, |name| start_one(&find(name, place)?).map(|()| Some(name.to_owned())));
    };
    let [name] = names else {
        return Err(Failure::could_not_run("you cannot start and attach multiple containers at once").with_code(ExitCode::FUNCTION_FAILED));
    };
    let run = find(name, place)?;
    let Some(held) = run.hold().map_err(of_daemon)? else {
        return super::logs::attach(name, attached.pass_signals, attached.has(Stream::Stdin), place);
    };
    let run_interactive = run.record.spec.interactive;
    let mut attached = attached.clone();
    if !run_interactive {
        attached.streams.retain(|stream| *stream != Stream::Stdin);
    }
    Supervised { run: &run, held, place, attached }.run(|_| {})
}

/// Starts a run in the background, unless it runs.
pub(super) fn start_one(run: &Run) -> Result<(), Failure> {
    if run.is_held().map_err(of_daemon)? {
        return Ok(());
    }
    in_background(run)
}

/// What a supervisor says of its start.
#[derive(Debug, Serialize, Deserialize)]
struct Word {
    error: String,
    hint: Option<String>,
    code: u8,
}

/// This program again, in a session of its own. Returns once the run is under way, or could not be started.
fn in_background(run: &Run) -> Result<(), Failure> {
    let program = std::env::current_exe().map_err(Failure::could_not_run)?;
    let mut command = Command::new(program);
    command.args(["docker", SUPERVISE, &run.record.id]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.process_group(0).spawn().map_err(Failure::could_not_run)?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        let _ = BufReader::new(stdout).read_line(&mut line);
    }
    match serde_json::from_str::<Option<Word>>(&line) {
        Ok(None) => Ok(()),
        Ok(Some(word)) => Err(Failure::could_not_run(word.error).with_code(ExitCode::from_status(word.code.into())).with_hint(word.hint)),
        Err(_) => Err(Failure::could_not_run("the process that was to supervise it ended without a word")),
    }
}

/// We are the process in the background. What we say first is for whoever started us; all later talk is the run's log.
pub(super) fn supervise(id: &str, place: &Place) -> Result<ExitCode, Failure> {
    // Fails only for the leader of a session, which then is our own already.
    let _ = nix::unistd::setsid();
    let mut word = Some(File::from(rustix::io::fcntl_dupfd_cloexec(std::io::stdout(), 3).map_err(Failure::could_not_run)?));
    let mut tell = |went: Result<(), &Failure>| {
        let said = went.err().map(|failure| Word {
            error: failure.to_string(),
            hint: failure.hint().map(str::to_owned),
            code: failure.code().number(),
        });
        if let Some(mut word) = word.take() {
            let _ = serde_json::to_writer(&word, &said).map(|()| word.write_all(b"\n"));
        }
    };
    let supervised = find(id, place).and_then(|run| {
        let held = run.hold().map_err(of_daemon)?.ok_or_else(|| Failure::could_not_run("it is being started already"))?;
        let null = File::options().read(true).write(true).open("/dev/null").map_err(Failure::could_not_run)?;
        rustix::stdio::dup2_stdout(&null).map_err(|error| Failure::could_not_run(std::io::Error::from(error)))?;
        let attached = Attached { streams: Vec::new(), pass_signals: true };
        Supervised { run: &run, held, place, attached }.run(&mut tell)
    });
    if let Err(failure) = &supervised {
        tell(Err(failure));
    }
    supervised
}
