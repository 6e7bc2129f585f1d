//! `undocked build`: its options, and what they come to.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::Args;
use rootfs_cache::pull::PullPolicy;
use rootfs_cache::reference::RegistryReference;

use super::args::{ColorWhen, CpuChoice, ImageAndArguments, PullWhen, RegistryArgs, SandboxArgs, TalkArgs};
use super::env::OwnEnvironment;
use super::run;
use crate::config::{BuildConfig, ContextSource, DEFAULT_EPOCH, Delivery, DockerfileSource, KnownSteps, RootAccess, SecretSource};
use crate::exit_code::Failure;

const DETAILS: &str = "\
CONTEXT  a folder; `-` for an archive (tar, gzip, zstd, xz, bzip2) or a Dockerfile on standard input

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
    /// A secret that commands may see: `id=NAME,src=FILE` or `id=NAME,env=VARIABLE`
    #[arg(long, value_name = "OPTIONS")]
    pub secret: Vec<String>,
    /// Push the image to where its names say
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub push: Option<bool>,
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
    #[arg(long, value_name = "OPTIONS", hide = true)]
    pub attest: Vec<String>,
    #[arg(long, value_name = "NAME", hide = true)]
    pub builder: Option<String>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub disable_content_trust: Option<String>,
    #[arg(long, alias = "shm-size", alias = "memory-swap", alias = "cgroup-parent", value_name = "LIMIT", hide = true)]
    pub ulimit: Vec<String>,
    #[arg(
        short = 'c',
        long,
        alias = "cpu-period",
        alias = "cpu-quota",
        alias = "cpuset-cpus",
        alias = "cpuset-mems",
        value_name = "SHARE",
        hide = true
    )]
    pub cpu_shares: Vec<String>,
    #[arg(long, value_name = "OPTIONS", hide = true)]
    pub annotation: Vec<String>,
    #[arg(long, value_name = "FILE", hide = true)]
    pub metadata_file: Option<String>,
    #[arg(long, value_name = "STAGE", hide = true)]
    pub no_cache_filter: Vec<String>,
    #[arg(long, value_name = "RIGHT", hide = true)]
    pub allow: Vec<String>,
    #[arg(long, value_name = "OPTIONS", hide = true)]
    pub security_opt: Vec<String>,
    #[arg(long, value_name = "IMAGE", hide = true)]
    pub cache_from: Vec<String>,
    #[arg(long, value_name = "OPTIONS", hide = true)]
    pub cache_to: Vec<String>,
    #[arg(long, value_name = "OPTIONS", num_args = 0..=1, default_missing_value = "default", hide = true)]
    pub ssh: Vec<String>,
    #[arg(long, value_name = "NAME=PATH", hide = true)]
    pub build_context: Vec<String>,
    #[arg(short = 'o', long, value_name = "OPTIONS", hide = true)]
    pub output: Vec<String>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub squash: Option<bool>,
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
    let secrets = args.secret.iter().map(|text| secret(text, own)).collect::<Result<_, _>>()?;
    let delivery = if args.push == Some(true) { Delivery::Pushed } else { Delivery::Kept };
    if delivery == Delivery::Pushed && args.tags.is_empty() {
        return Err(Failure::usage("a tag is needed when pushing to a registry").with_hint(Some("`-t REGISTRY/NAME:TAG`".to_owned())));
    }
    let known_steps = if args.no_cache == Some(true) { KnownSteps::Repeated } else { KnownSteps::Taken };
    let (labels, epoch) = (labels.collect(), epoch(&arguments, own)?);
    let sandbox = sandbox(&args.registry, args.quiet == Some(true), (args.network, args.add_host), (args.memory, args.isolation))?;
    let mut run = run::sandbox(sandbox, Some(ImageAndArguments::Given(vec!["scratch".into()])), own)?;
    run.root = RootAccess::Writable;
    run.images = run::image_source(args.registry, if args.pull == Some(true) { PullPolicy::Always } else { PullPolicy::Missing }, own)?;
    let (target, id_file) = (args.target, args.iidfile);
    let run = Box::new(run);
    Ok(BuildConfig { names, dockerfile, context, arguments, secrets, labels, target, known_steps, id_file, delivery, epoch, run })
}

/// What `--output` asks for that is done anyway.
const KNOWN_OUTPUTS: [&str; 2] = ["type=docker", "type=image"];

fn refuse(other: &OtherArgs) -> Result<(), Failure> {
    let refused = [
        ("--ssh", !other.ssh.is_empty(), "fetch what needs a key before the build, and `COPY` it"),
        ("--build-context", !other.build_context.is_empty(), "`COPY --from=IMAGE` takes files from another image"),
        (
            "--output",
            other.output.iter().any(|output| !KNOWN_OUTPUTS.contains(&output.as_str())),
            "`undocked save` writes the image to a file",
        ),
        ("--annotation", !other.annotation.is_empty(), "`--label` gives the image a label"),
        ("--metadata-file", other.metadata_file.is_some(), "`--iidfile` writes the image's id"),
        ("--no-cache-filter", !other.no_cache_filter.is_empty(), "`--no-cache` does every step again"),
        ("--allow", !other.allow.is_empty(), "leave it out: a command has no more rights here than the user who builds"),
        ("--security-opt", !other.security_opt.is_empty(), "leave it out: commands are run as `undocked run` runs them"),
        ("--squash", other.squash == Some(true), "`COPY --from` an earlier stage leaves its layers behind"),
    ];
    match refused.into_iter().find(|(_, given, _)| *given) {
        Some((option, _, hint)) => Err(Failure::could_not_run(format!("`{option}` is not supported")).with_hint(Some(hint.to_owned()))),
        None => Ok(()),
    }
}

/// `id=NAME` with `src=FILE` or `env=VARIABLE`; without these a variable of that name, else a file.
fn secret(text: &str, own: &OwnEnvironment) -> Result<(String, SecretSource), Failure> {
    let wrong = |what: &str| {
        let hint = "`--secret id=NAME,src=FILE` or `--secret id=NAME,env=VARIABLE`".to_owned();
        Failure::usage(format!("`--secret {text}`: {what}")).with_hint(Some(hint))
    };
    let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
    for option in text.split(',') {
        match option.split_once('=') {
            Some(("id", value)) => id = Some(value),
            Some(("src" | "source", value)) => file = Some(value),
            Some(("env", value)) => variable = Some(value),
            Some(("type", value @ ("file" | "env"))) => kind = Some(value),
            _ => return Err(wrong(&format!("`{option}` is not known"))),
        }
    }
    let id = id.or(file).filter(|id| !id.is_empty()).ok_or_else(|| wrong("it has no name"))?;
    let is_variable = kind == Some("env") || (kind.is_none() && file.is_none());
    let name = variable.or(file.filter(|_| kind == Some("env"))).unwrap_or(id);
    let set = own.get(OsStr::new(name)).filter(|_| is_variable);
    let source = match (set, variable) {
        (Some(value), _) => SecretSource::Variable(value.as_encoded_bytes().to_vec()),
        (None, Some(variable)) => return Err(wrong(&format!("the variable `{variable}` is not set"))),
        (None, None) => SecretSource::File(file.unwrap_or(id).into()),
    };
    Ok((id.to_owned(), source))
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
