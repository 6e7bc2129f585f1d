//! The command line and our own variables, made into the configuration of what is to be done. Nobody else reads either.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches};
use rootfs_cache::pull::PullPolicy;

mod args;
mod batch;
mod build;
mod docker;
pub mod env;
mod images;
mod manual;
mod registry;
mod run;
mod serve;
mod trust;
pub mod usage;
pub mod variables;

use args::{Cli, CliCommand, DoctorArgs, LockArgs, LockedImagesArgs, ManArgs, ProfileReader};
use env::OwnEnvironment;
use usage::Ended;

use crate::config::docker::{DockerCommand, Place};
use crate::config::{
    BatchConfig, BuildConfig, Detached, DoctorSubject, ImageSource, ImagesConfig, LoadConfig, LockAction, LoginConfig, LogoutConfig,
    PruneConfig, PushConfig, REMOVE, RemoveConfig, RunConfig, SaveConfig, SeccompReader, ServeConfig, TagConfig, Talk, TrustConfig,
    VerifyConfig,
};
use crate::exit_code::Failure;

/// What is to be done.
#[derive(Debug)]
pub enum Command {
    /// Run a function, or a plain command, once.
    Run(Box<RunConfig>),
    /// Run a function in the background.
    Detach(Detached),
    /// Be the run in the background.
    Attached(Box<RunConfig>),
    /// Remove a folder of ours that belongs to other ids, in a user namespace: what a run starts this program for.
    RemoveAsRootInside {
        /// The folder's name, in the one that is standard output.
        name: String,
    },
    /// Serve functions.
    Serve(Box<ServeConfig>),
    /// Run a function once for each of many events.
    Batch(Box<BatchConfig>),
    /// Build an image.
    Build(Box<BuildConfig>),
    /// Pull images into the cache.
    Pull {
        /// References as given.
        images: Vec<String>,
        /// How they are found.
        source: ImageSource,
        /// What is said.
        talk: Talk,
    },
    /// List the cache's images.
    Images(ImagesConfig),
    /// Hold images of the cache against what is known of them.
    Verify(VerifyConfig),
    /// Remove images from the cache.
    Remove(RemoveConfig),
    /// Give an image of the cache another name.
    Tag(TagConfig),
    /// Bring an archive's images into the cache.
    Load(LoadConfig),
    /// Write images to an archive.
    Save(SaveConfig),
    /// Send an image to a registry.
    Push(PushConfig),
    /// Remove what is not needed any more from the cache.
    Prune(PruneConfig),
    /// Work on a lock file.
    Lock {
        /// What is done.
        action: LockAction,
        /// References as given; none for all.
        images: Vec<String>,
        /// How they are found.
        source: ImageSource,
        /// What is said.
        talk: Talk,
    },
    /// Show what is signed, or pin it.
    Trust(Box<TrustConfig>),
    /// Log in to a registry.
    Login(LoginConfig),
    /// Forget the login to a registry.
    Logout(LogoutConfig),
    /// Something that docker would do.
    Docker {
        /// What.
        command: Box<DockerCommand>,
        /// Where.
        place: Box<Place>,
    },
    /// A command of ours that docker has, too, under docker's name.
    UnderDockersName(Box<Command>),
    /// Write the manual.
    Manual {
        /// The pages: the name of a file, and what is in it (roff).
        pages: Vec<(String, String)>,
        /// Where they go.
        directory: PathBuf,
    },
    /// Try what a sandbox needs.
    Doctor {
        /// What is printed.
        subject: DoctorSubject,
        /// The cache.
        source: ImageSource,
        /// The names of those of our own variables that tell of a service around us.
        variables: Vec<&'static str>,
    },
}

/// Reads a command line (its first word is the program's name).
pub fn read(line: impl IntoIterator<Item = OsString>, own: &OwnEnvironment) -> Result<Command, Ended> {
    let line: Vec<OsString> = line.into_iter().collect();
    if let Some(command) = by_a_run_of_ours(&line) {
        return Ok(command);
    }
    if let Some(ours) = docker::words(&line).and_then(docker::as_ours) {
        return under_dockers_name(ours, own);
    } else if let Some(words) = docker::words(&line) {
        let (command, place) = docker::read(words, own).map_err(docker::as_docker_says)?;
        return Ok(Command::Docker { command: Box::new(command), place: Box::new(place) });
    }
    let matches = Cli::command().try_get_matches_from(&line)?;
    let cli = Cli::from_arg_matches(&matches)?;
    Ok(match cli.command {
        CliCommand::Run(args) => {
            let (is_detached, is_attached) = (args.detach == Some(true) && !args.attached, args.attached);
            // Wrong words are told of here, where somebody reads.
            let config = run::config(*args, own)?;
            match is_detached {
                true => Command::Detach(Detached { arguments: line.into_iter().skip(1).collect(), source: config.images }),
                false if is_attached => Command::Attached(Box::new(config)),
                false => Command::Run(Box::new(config)),
            }
        }
        CliCommand::Serve(args) => Command::Serve(Box::new(serve::config(*args, own)?)),
        CliCommand::Batch(args) => Command::Batch(Box::new(batch::config(*args, own)?)),
        CliCommand::Build(args) => Command::Build(Box::new(build::config(*args, own)?)),
        CliCommand::Pull(args) => {
            let mut source = run::image_source(args.registry, PullPolicy::Always, own)?;
            source.options.blobs = run::blobs(args.keep_blobs);
            source.required = trust::required(args.trust, own)?;
            Command::Pull { images: args.images, source, talk: run::talk(&args.talk, own) }
        }
        CliCommand::Images(args) => images::command(args, own)?,
        CliCommand::Rm(args) => Command::Remove(images::remove(args, own)?),
        CliCommand::Tag(args) => Command::Tag(TagConfig { image: args.image, name: args.name, source: cache_only(own)? }),
        CliCommand::Load(args) => Command::Load(images::load(args, own)?),
        CliCommand::Save(args) => Command::Save(images::save(args, own)?),
        CliCommand::Push(args) => Command::Push(images::push(args, own)?),
        CliCommand::Prune(args) => Command::Prune(images::prune(args, own)?),
        CliCommand::Lock(args) => {
            let (action, args) = match args {
                LockArgs::Add(args) => (LockAction::Add, args),
                LockArgs::Update(args) => (LockAction::Update, args),
                LockArgs::Verify(args) => (LockAction::Verify, args),
                LockArgs::Diff(args) => (LockAction::Diff, args),
            };
            let LockedImagesArgs { images, talk, registry } = args;
            Command::Lock { action, images, source: run::image_source(registry, PullPolicy::Always, own)?, talk: run::talk(&talk, own) }
        }
        CliCommand::Trust(command) => Command::Trust(Box::new(trust::config(command, own)?)),
        CliCommand::Login(args) => Command::Login(registry::login(args, own)?),
        CliCommand::Logout(args) => Command::Logout(registry::logout(args, own)?),
        CliCommand::Completions(args) => return Err(Ended::Text(manual::completions(args.shell))),
        CliCommand::Man(ManArgs { directory: None }) => return Err(Ended::Text(manual::first_page()?)),
        CliCommand::Man(ManArgs { directory: Some(directory) }) => Command::Manual { pages: manual::pages()?, directory },
        CliCommand::Doctor(args) => Command::Doctor { subject: subject(&args), source: cache_only(own)?, variables: own.services() },
    })
}

/// A verb of ours that docker has, too: what is wrong with its words is told as docker tells it.
fn under_dockers_name(line: Vec<OsString>, own: &OwnEnvironment) -> Result<Command, Ended> {
    let verb = line.get(1).and_then(|verb| verb.to_str()).unwrap_or_default().to_owned();
    if !docker::tells_of(&verb) {
        return read(line, own);
    }
    if let Err(error) = Cli::command().try_get_matches_from(&line) {
        docker::wrong_words_of_ours(&verb, &error)?;
    }
    let command = read(line, own).map_err(docker::as_docker_says)?;
    Ok(Command::UnderDockersName(Box::new(command)))
}

/// What a run starts this program for again.
fn by_a_run_of_ours(line: &[OsString]) -> Option<Command> {
    match line {
        [_, word, name] if word == REMOVE => Some(Command::RemoveAsRootInside { name: name.to_str()?.to_owned() }),
        _ => None,
    }
}

fn subject(args: &DoctorArgs) -> DoctorSubject {
    match args.print_seccomp_profile {
        Some(ProfileReader::Docker) => DoctorSubject::SeccompProfile(SeccompReader::Docker),
        Some(ProfileReader::Kubernetes) => DoctorSubject::SeccompProfile(SeccompReader::Kubernetes),
        None if args.print_apparmor_profile => DoctorSubject::AppArmorProfile,
        None if args.json => DoctorSubject::Json,
        None => DoctorSubject::Text,
    }
}

fn cache_only(own: &OwnEnvironment) -> Result<ImageSource, Failure> {
    run::image_source(args::RegistryArgs::none(), PullPolicy::Never, own)
}

#[cfg(test)]
mod tests;
