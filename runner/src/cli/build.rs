//! `undocked build`: its options, and what they come to.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::Args;
use rootfs_cache::pull::PullPolicy;
use rootfs_cache::reference::RegistryReference;

use super::args::{ColorWhen, CpuChoice, ImageAndArguments, PullWhen, RegistryArgs, SandboxArgs, TalkArgs};
use super::env::OwnEnvironment;
use super::run;
use crate::config::{BuildConfig, ContextSource, DEFAULT_EPOCH, DockerfileSource, KnownSteps, RootAccess};
use crate::exit_code::Failure;

const DETAILS: &str = "\
CONTEXT  a folder; `-` for an archive (tar, gzip, zstd) or a Dockerfile on standard input

Exit codes: 0; 1 the Dockerfile could not be built; 2 wrong usage; 125 it could not be tried; 128+n signal n.";

/// Options of `undocked build`, docker's.
#[derive(Debug, Args)]
#[command(after_help = DETAILS, args_override_self = true)]
pub(super) struct BuildArgs {
    /// What the image is called
    #[arg(short = 't', long = "tag", value_name = "NAME[:TAG]")]
    pub tags: Vec<String>,
    /// The Dockerfile; `-` reads it from standard input
    #[arg(short = 'f', long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Set a build argument, or pass our own variable on when only its name is given
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub build_arg: Vec<String>,
    /// Build this stage, not the last one
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Do every step again
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub no_cache: Option<bool>,
    /// Ask registries what the images it starts from are now
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub pull: Option<bool>,
    /// Say nothing unless it fails, and print the image's id
    #[arg(short = 'q', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub quiet: Option<bool>,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
    /// Set a label
    #[arg(long, value_name = "NAME=VALUE")]
    pub label: Vec<String>,
    /// Accepted: it is always told step by step, as with `plain`
    #[arg(long, value_name = "KIND")]
    pub progress: Option<String>,
    /// The network of commands: `default`, `none` or `host`
    #[arg(long, value_name = "NETWORK")]
    pub network: Option<String>,
    /// Give a name to an address for commands
    #[arg(long, value_name = "NAME:IP")]
    pub add_host: Vec<String>,
    /// The memory limit of commands
    #[arg(short = 'm', long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// How commands are isolated, as for `undocked run`
    #[arg(long, value_name = "ISOLATION", default_value = "auto", hide = true)]
    pub isolation: String,
    #[command(flatten)]
    pub other: OtherArgs,
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// What the Dockerfile takes files from
    #[arg(value_name = "CONTEXT")]
    pub context: PathBuf,
}

/// What docker knows and nothing comes of here, or that is refused.
#[derive(Debug, Args)]
pub(super) struct OtherArgs {
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub rm: Option<bool>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub force_rm: Option<bool>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub compress: Option<bool>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub load: Option<bool>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub provenance: Option<String>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub sbom: Option<String>,
    #[arg(long, value_name = "IMAGE", hide = true)]
    pub cache_from: Vec<String>,
    #[arg(long, value_name = "OPTIONS", hide = true)]
    pub cache_to: Vec<String>,
    #[arg(long, value_name = "OPTIONS", hide = true)]
    pub secret: Vec<String>,
    #[arg(long, value_name = "OPTIONS", num_args = 0..=1, default_missing_value = "default", hide = true)]
    pub ssh: Vec<String>,
    #[arg(long, value_name = "NAME=PATH", hide = true)]
    pub build_context: Vec<String>,
    #[arg(short = 'o', long, value_name = "OPTIONS", hide = true)]
    pub output: Vec<String>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub squash: Option<bool>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub push: Option<bool>,
}

/// What a command line comes to.
pub(super) fn config(args: BuildArgs, own: &OwnEnvironment) -> Result<BuildConfig, Failure> {
    refuse(&args.other)?;
    let names = args.tags.iter().map(|tag| tag.parse::<RegistryReference>()).collect::<Result<_, _>>().map_err(Failure::usage)?;
    let arguments: Vec<(String, String)> = args.build_arg.iter().filter_map(|text| argument(text, own)).collect();
    let labels = args.label.iter().map(|label| {
        let (name, value) = label.split_once('=').unwrap_or((label, ""));
        (name.to_owned(), value.to_owned())
    });
    let (dockerfile, context) = (dockerfile(args.file), context(args.context));
    if dockerfile == DockerfileSource::Stdin && context == ContextSource::Stdin {
        return Err(Failure::usage("the Dockerfile and the context cannot both come from standard input"));
    }
    let known_steps = if args.no_cache == Some(true) { KnownSteps::Repeated } else { KnownSteps::Taken };
    let (labels, epoch) = (labels.collect(), epoch(&arguments, own)?);
    let sandbox = sandbox(&args.registry, args.quiet == Some(true), (args.network, args.add_host), (args.memory, args.isolation))?;
    let mut run = run::sandbox(sandbox, Some(ImageAndArguments::Given(vec!["scratch".into()])), own)?;
    run.root = RootAccess::Writable;
    run.images = run::image_source(args.registry, if args.pull == Some(true) { PullPolicy::Always } else { PullPolicy::Missing }, own)?;
    let (target, id_file) = (args.target, args.iidfile);
    Ok(BuildConfig { names, dockerfile, context, arguments, labels, target, known_steps, id_file, epoch, run: Box::new(run) })
}

fn refuse(other: &OtherArgs) -> Result<(), Failure> {
    let refused = [
        ("--secret", !other.secret.is_empty(), "a file that `COPY` puts into an earlier stage stays out of the image"),
        ("--ssh", !other.ssh.is_empty(), "fetch what needs a key before the build, and `COPY` it"),
        ("--build-context", !other.build_context.is_empty(), "`COPY --from=IMAGE` takes files from another image"),
        ("--output", !other.output.is_empty(), "`undocked save` writes the image to a file"),
        ("--squash", other.squash == Some(true), "`COPY --from` an earlier stage leaves its layers behind"),
        ("--push", other.push == Some(true), "`undocked push` does that afterwards"),
    ];
    match refused.into_iter().find(|(_, given, _)| *given) {
        Some((option, _, hint)) => Err(Failure::could_not_run(format!("`{option}` is not supported")).with_hint(Some(hint.to_owned()))),
        None => Ok(()),
    }
}

/// `NAME=VALUE`, or a variable of our own; one that is not set is not given.
fn argument(text: &str, own: &OwnEnvironment) -> Option<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => Some((text.to_owned(), own.get(OsStr::new(text))?.to_string_lossy().into_owned())),
    }
}

fn dockerfile(file: Option<PathBuf>) -> DockerfileSource {
    match file {
        None => DockerfileSource::Context,
        Some(path) if path.as_os_str() == "-" => DockerfileSource::Stdin,
        Some(path) => DockerfileSource::File(path),
    }
}

fn context(path: PathBuf) -> ContextSource {
    if path.as_os_str() == "-" { ContextSource::Stdin } else { ContextSource::Folder(path) }
}

/// <https://reproducible-builds.org/specs/source-date-epoch/>
fn epoch(arguments: &[(String, String)], own: &OwnEnvironment) -> Result<u64, Failure> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    let given = arguments.iter().rev().find(|(name, _)| name == NAME).map(|(_, value)| OsString::from(value));
    let Some(given) = given.or_else(|| own.get(OsStr::new(NAME)).map(OsStr::to_owned)).filter(|given| !given.is_empty()) else {
        return Ok(DEFAULT_EPOCH);
    };
    // What a tar and a date can tell without tricks.
    let number = given.to_str().and_then(|text| text.parse::<u64>().ok()).filter(|number| *number < 1 << 33);
    number.ok_or_else(|| {
        let hint = "such as what `git log -1 --format=%ct` prints".to_owned();
        Failure::usage(format!("`{NAME}={}` is no number of seconds since 1970", given.display())).with_hint(Some(hint))
    })
}

fn sandbox(
    registry: &RegistryArgs,
    quiet: bool,
    (network, add_host): (Option<String>, Vec<String>),
    (memory, isolation): (Option<String>, String),
) -> Result<SandboxArgs, Failure> {
    let network = network.filter(|network| network != "default");
    if let Some(other) = network.as_ref().filter(|network| !matches!(network.as_str(), "none" | "host" | "private")) {
        let hint = "`default`, `none` or `host`".to_owned();
        return Err(Failure::usage(format!("`--network {other}` is not known")).with_hint(Some(hint)));
    }
    Ok(SandboxArgs {
        network,
        add_host,
        memory,
        isolation,
        cpu: CpuChoice::Unlimited,
        talk: TalkArgs { quiet, color: ColorWhen::Auto },
        pull: PullWhen::Missing,
        registry: registry.clone(),
        ..SandboxArgs::none()
    })
}
