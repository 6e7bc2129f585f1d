//! `undocked images`, `rm`, `tag`, `load`, `save` and `push`, read.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use rootfs_cache::pull::PullPolicy;
use rootfs_cache::store::{CacheLimits, PruneScope};

use super::args::{PruneArgs, RegistryArgs, TalkArgs};
use super::env::OwnEnvironment;
use super::{Command, cache_only, run};
use crate::config::{
    Age, ArchiveFormat, Digests, DockerListing, DockerShow, Force, ImagesConfig, Length, Listing, LoadConfig, LoadInput, LockedImages,
    PruneConfig, PushConfig, RemoveConfig, SaveConfig, SaveOutput, VerifyConfig,
};
use crate::exit_code::Failure;

#[derive(Debug, Args)]
pub(super) struct ImagesArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print digests only
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Only images that fit: `reference=PATTERN`, `dangling=true`
    #[arg(short = 'f', long = "filter", value_name = "FILTER")]
    pub filters: Vec<String>,
    /// Print what a template says, with docker's fields: `{{.Repository}}:{{.Tag}} {{.ID}}`, `table ...`, `json`
    #[arg(long, value_name = "TEMPLATE", conflicts_with_all = ["json", "quiet"])]
    pub format: Option<String>,
    /// Whole IDs in what a template says
    #[arg(long, requires = "format")]
    pub no_trunc: bool,
    /// Read these images, or all, and tell what is not as it was when it was pulled
    #[arg(long, conflicts_with_all = ["json", "quiet", "filters", "format"])]
    pub verify: bool,
    /// Only images of this repository; with --verify: references, IDs or digests of images
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub repository: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    /// References as `undocked images` shows them, IDs or digests
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Remove an image that is named by its ID with all its references
    #[arg(short = 'f', long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub(super) struct TagArgs {
    /// A reference, an ID or a digest
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// The new reference
    #[arg(value_name = "NAME[:TAG]")]
    pub name: String,
}

#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    /// The archive; stdin when not given
    #[arg(short = 'i', long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// The platform to choose where an image has several, such as linux/arm64
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
    #[command(flatten)]
    pub talk: TalkArgs,
}

#[derive(Debug, Args)]
pub(super) struct SaveArgs {
    /// References, IDs or digests of the cache's images
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Write to this file; stdout when not given
    #[arg(short = 'o', long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// docker: what all read; oci: an OCI layout alone
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = SaveFormat::Docker)]
    pub format: SaveFormat,
    #[command(flatten)]
    pub talk: TalkArgs,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

#[derive(Debug, Args)]
pub(super) struct PushArgs {
    /// An image of the cache, `oci:DIR[:REF]`, `oci-archive:FILE[:REF]` or `docker-archive:FILE[:REF]`
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Where to; where the name of the image says, when not given
    #[arg(value_name = "REGISTRY/NAME[:TAG]")]
    pub destination: Option<String>,
    #[command(flatten)]
    pub talk: TalkArgs,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum SaveFormat {
    Docker,
    Oci,
}

pub(super) fn command(args: ImagesArgs, own: &OwnEnvironment) -> Result<Command, Failure> {
    match args.verify {
        true => Ok(Command::Verify(VerifyConfig { images: args.repository, source: cache_only(own)? })),
        false => Ok(Command::Images(list(args, own)?)),
    }
}

fn list(mut args: ImagesArgs, own: &OwnEnvironment) -> Result<ImagesConfig, Failure> {
    let repository = args.repository.pop();
    if let Some(other) = args.repository.first() {
        return Err(Failure::usage(format!("`{other}` is one repository too many"))
            .with_hint(Some("one is listed at a time; several images can be named with `--verify`".to_owned())));
    }
    let length = if args.no_trunc { Length::Full } else { Length::Truncated };
    let listing = match (args.format, args.json, args.quiet) {
        (Some(template), ..) => Listing::Docker(DockerListing { show: DockerShow::Format(template), digests: Digests::Hide, length }),
        (None, true, _) => Listing::Json,
        (None, false, true) => Listing::Digests,
        (None, false, false) => Listing::Table,
    };
    Ok(ImagesConfig { source: cache_only(own)?, listing, filters: args.filters, repository })
}

pub(super) fn prune(args: PruneArgs, own: &OwnEnvironment) -> Result<PruneConfig, Failure> {
    let locked = if args.keep_locked { LockedImages::Keep } else { LockedImages::AsOthers };
    let no_age = |error| Failure::usage(error).with_hint(Some("a whole number with a unit, such as `12h`, `30d` or `4w`".to_owned()));
    let unused_for = args.older_than.map(|text| text.parse::<Age>()).transpose().map_err(no_age)?;
    let bytes = run::cache_size("--max-size", args.max_size)?;
    let limits = CacheLimits { unused_for: unused_for.map(|age| age.0), bytes, ..CacheLimits::default() };
    let scope = match (args.all, limits.unused_for, limits.bytes) {
        (true, ..) => PruneScope::Everything,
        (false, None, None) => PruneScope::Unreferenced,
        _ => PruneScope::Beyond(limits),
    };
    let registry = RegistryArgs { lock: args.lock, ..RegistryArgs::none() };
    Ok(PruneConfig { scope, locked, source: run::image_source(registry, PullPolicy::Never, own)? })
}

pub(super) fn remove(args: RemoveArgs, own: &OwnEnvironment) -> Result<RemoveConfig, Failure> {
    let force = if args.force { Force::Yes } else { Force::No };
    Ok(RemoveConfig { images: args.images, force, source: cache_only(own)? })
}

pub(super) fn load(args: LoadArgs, own: &OwnEnvironment) -> Result<LoadConfig, Failure> {
    let registry = RegistryArgs { platform: args.platform, ..RegistryArgs::none() };
    let input = args.input.map_or(LoadInput::Stdin, LoadInput::File);
    Ok(LoadConfig { input, source: run::image_source(registry, PullPolicy::Never, own)?, talk: run::talk(&args.talk, own) })
}

pub(super) fn save(args: SaveArgs, own: &OwnEnvironment) -> Result<SaveConfig, Failure> {
    let format = match args.format {
        SaveFormat::Docker => ArchiveFormat::Docker,
        SaveFormat::Oci => ArchiveFormat::Oci,
    };
    let output = args.output.map_or(SaveOutput::Stdout, SaveOutput::File);
    let source = run::image_source(args.registry, PullPolicy::Never, own)?;
    Ok(SaveConfig { images: args.images, output, format, source, talk: run::talk(&args.talk, own) })
}

pub(super) fn push(args: PushArgs, own: &OwnEnvironment) -> Result<PushConfig, Failure> {
    let source = run::image_source(args.registry, PullPolicy::Never, own)?;
    Ok(PushConfig { image: args.image, destination: args.destination, source, talk: run::talk(&args.talk, own) })
}
