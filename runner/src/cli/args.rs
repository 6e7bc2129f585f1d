//! The command line as clap sees it: every command and option, nothing decided.
//!
//! `undocked run` follows docker's order: options end at IMAGE, and everything after IMAGE belongs to the image. IMAGE is therefore what clap calls an
//! external subcommand; an ordinary trailing argument would still let our options be read behind it.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::batch::BatchArgs;
use super::build::BuildArgs;
use super::images::{ImagesArgs, LoadArgs, PushArgs, RemoveArgs, SaveArgs, TagArgs};
use super::trust::{TrustArgs, TrustCommand};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

/// Runs AWS Lambda functions in the real Lambda userland, without Docker.
#[derive(Debug, Parser)]
#[command(name = "undocked", version, disable_help_subcommand = true, args_override_self = true, max_term_width = 120)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub command: CliCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum CliCommand {
    /// Run a function once: the result goes to stdout, all else to stderr
    Run(Box<RunArgs>),
    /// Serve functions: clients invoke them as on AWS
    Serve(Box<ServeArgs>),
    /// Run a function once for each of many events
    Batch(Box<BatchArgs>),
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    /// Pull images into the cache
    Pull(PullArgs),
    /// List the images in the cache
    Images(ImagesArgs),
    /// Remove images from the cache, or names from images
    #[command(alias = "rmi")]
    Rm(RemoveArgs),
    /// Give an image of the cache another name
    Tag(TagArgs),
    /// Bring the images of an archive (`docker save`, OCI) into the cache
    Load(LoadArgs),
    /// Write images of the cache to an archive that docker, podman and skopeo read
    Save(SaveArgs),
    /// Send an image of the cache, of a layout or of an archive to a registry
    Push(PushArgs),
    /// Remove what no image needs any more
    Prune(PruneArgs),
    /// Pin images in a lock file
    #[command(subcommand)]
    Lock(LockArgs),
    /// Show what is signed, and by whom
    #[command(subcommand)]
    Trust(TrustCommand),
    /// Log in to a registry
    Login(LoginArgs),
    /// Forget the login to a registry
    Logout(LogoutArgs),
    /// Try what a sandbox needs and say what this machine grants
    Doctor(DoctorArgs),
    /// Print a shell's completions for this command line
    Completions(CompletionsArgs),
    /// Write the manual pages
    Man(ManArgs),
}

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// Whose completions
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Where the pages go, one a command; without it, the one about `undocked` is printed
    #[arg(value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

const RUN_USAGE: &str = "undocked run [OPTIONS] IMAGE [HANDLER] [EVENT]";

const RUN_DETAILS: &str = "\
IMAGE    `public.ecr.aws/lambda/python:3.12`, `NAME@sha256:...`: an image of a registry
         `nodejs20.x`: a runtime, as the lock files name it
         `oci:DIR[:REF]`: an image of an OCI layout folder
         `docker-archive:FILE[:REF]`, `oci-archive:FILE[:REF]`: an image of an archive
         `host`: no image, but the userland of this machine
HANDLER  the function's handler, such as `index.handler`
EVENT    the event, usually JSON; `-` reads it from stdin; `{}` when not given

Everything after IMAGE is for the image. Exit codes: 0; 1 the function failed; 2 wrong usage;
125 it could not be run; 126, 127 plain command not executable, not found; 128+n signal n.";

#[derive(Debug, Args)]
#[command(override_usage = RUN_USAGE, after_help = RUN_DETAILS, subcommand_value_name = "IMAGE", subcommand_help_heading = "Image")]
#[command(disable_help_subcommand = true, args_override_self = true)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub sandbox: SandboxArgs,
    /// Which ids a plain command has in its root: `single`, its own, or `subid`, also a range of ours of /etc/subuid and /etc/subgid
    #[arg(long, value_name = "IDS", value_enum, default_value_t = UsernsChoice::Single, hide_possible_values = true, hide_default_value = true)]
    pub userns: UsernsChoice,
    /// Keep stdin open for plain commands
    #[arg(short = 'i', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub interactive: Option<bool>,
    /// Accepted: plain commands have our own terminal
    #[arg(short = 't', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub tty: Option<bool>,
    /// Accepted: nothing ever stays behind
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub rm: Option<bool>,
    /// Print one JSON object with result, log tail and report
    #[arg(long)]
    pub json: bool,
    /// Start anew when a file of the function or of a layer changes, if it stays open
    #[arg(long)]
    pub watch: bool,
    /// Run in the background, and print an id once it listens
    #[arg(short = 'd', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub detach: Option<bool>,
    /// We are the run in the background
    #[arg(long, hide = true)]
    pub attached: bool,
    #[command(subcommand)]
    pub image: Option<ImageAndArguments>,
}

const SERVE_USAGE: &str = "undocked serve [OPTIONS] IMAGE [HANDLER]\n       undocked serve [OPTIONS] --config FILE";

const SERVE_DETAILS: &str = "\
Clients invoke the function at http://127.0.0.1:9001, by any name if there is one function, by its own if
there are several. SIGINT and SIGTERM end it, SIGHUP starts the functions anew.

Exit codes: 0; 2 wrong usage; 125 it could not be served.";

#[derive(Debug, Args)]
#[command(override_usage = SERVE_USAGE, after_help = SERVE_DETAILS, subcommand_value_name = "IMAGE", subcommand_help_heading = "Image")]
#[command(disable_help_subcommand = true, args_override_self = true)]
pub(super) struct ServeArgs {
    /// Where the Invoke API listens; 127.0.0.1:9001 when not given
    #[arg(short = 'l', long, value_name = "[IP:]PORT")]
    pub listen: Vec<String>,
    /// Serve the function's URL here, too
    #[arg(long, value_name = "[IP:]PORT")]
    pub url: Option<String>,
    /// Serve the functions that a file describes
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How many invocations of a function run at once; 10 when not given
    #[arg(short = 'c', long, value_name = "NUMBER")]
    pub concurrency: Option<NonZeroUsize>,
    /// Let more invocations wait instead of refusing them
    #[arg(long)]
    pub queue: bool,
    /// Start anew when a file of the function or of a layer changes
    #[arg(long)]
    pub watch: bool,
    /// Stop the function's processes between events, as on Lambda
    #[arg(long)]
    pub freeze: bool,
    /// How long an environment stays without work; 600 when not given
    #[arg(long, value_name = "SECONDS")]
    pub idle: Option<f64>,
    /// End when standard input ends, as it does when the program is gone that holds its other end
    #[arg(long)]
    pub until_stdin_ends: bool,
    #[command(flatten)]
    pub events: EventArgs,
    #[command(flatten)]
    pub sandbox: SandboxArgs,
    #[command(subcommand)]
    pub image: Option<ImageAndArguments>,
}

/// What becomes of events that nobody waits for.
#[derive(Debug, Args)]
pub(super) struct EventArgs {
    /// The folder that keeps events until they are handled
    #[arg(long, value_name = "DIR")]
    pub events: Option<PathBuf>,
    /// How often an event is tried again after an error of the function: 0 to 2
    #[arg(long, value_name = "NUMBER")]
    pub retries: Option<u32>,
    /// How long after the first error it is tried again, and twice that after the second; 60 when not given
    #[arg(long, value_name = "SECONDS")]
    pub retry_delay: Option<f64>,
    /// How old an event may get before it is given up; 21600 when not given
    #[arg(long, value_name = "SECONDS")]
    pub max_event_age: Option<f64>,
    /// Where a record goes of each event that failed for good: a folder, http://HOST/PATH or sqs:URL
    #[arg(long, value_name = "DESTINATION")]
    pub on_failure: Option<String>,
    /// Where a record goes of each event that was handled
    #[arg(long, value_name = "DESTINATION")]
    pub on_success: Option<String>,
    /// Where each event goes that failed for good
    #[arg(long, value_name = "DESTINATION")]
    pub dead_letter: Option<String>,
}

/// What every command takes that runs functions: what is inside, how it is connected and confined, and how its image is found.
#[derive(Debug, Clone, Args)]
pub(super) struct SandboxArgs {
    /// Show a host file or folder inside: HOST:CONTAINER[:ro|rw], usually DIR:/var/task:ro
    #[arg(short = 'v', long = "volume", value_name = "HOST:CONTAINER[:OPTIONS]")]
    pub volumes: Vec<OsString>,
    /// Set a variable, or pass our own on when only its name is given
    #[arg(short = 'e', long = "env", value_name = "NAME[=VALUE]")]
    pub variables: Vec<OsString>,
    /// Read variables from a file, one NAME=VALUE or NAME a line
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// A folder shown as /opt; several are merged in order, later ones win
    #[arg(long = "layer", value_name = "DIR")]
    pub layers: Vec<PathBuf>,
    /// The function's memory and its limit, such as 512m or 1.5g
    #[arg(short = 'm', long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory: Option<String>,
    /// The size of /tmp, which is memory, too; 512m when not given
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub tmp_size: Option<String>,
    /// Processor time: all there is, or Lambda's share for the memory
    #[arg(long, value_name = "RULE", value_enum, default_value_t = CpuChoice::Unlimited)]
    pub cpu: CpuChoice,
    /// The function's timeout in seconds
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub timeout: Option<String>,
    /// Run a plain command in the sandbox instead of the image's entrypoint
    #[arg(long, value_name = "COMMAND")]
    pub entrypoint: Option<OsString>,
    /// The working directory inside
    #[arg(short = 'w', long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// Who a plain command is inside, by name or number; root, or what the image says, when not given
    #[arg(short = 'u', long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Let a plain command write to volumes and /tmp alone, as a function does, and be the same user
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    pub read_only: Option<bool>,
    /// The network inside: `private` (its own, with a way out), `none` or `host`
    #[arg(long, alias = "net", value_name = "NETWORK")]
    pub network: Option<String>,
    /// Let a port of this machine lead to one inside
    #[arg(short = 'p', long, value_name = "[[IP:]OUTSIDE:]INSIDE[/udp]")]
    pub publish: Vec<String>,
    /// Allow connections to this host, and to no others but name servers
    #[arg(long, value_name = "HOST[:PORT]")]
    pub allow_net: Vec<String>,
    /// Refuse connections to this host
    #[arg(long, value_name = "HOST[:PORT]")]
    pub deny_net: Vec<String>,
    /// Say every connection that is wanted
    #[arg(long)]
    pub log_net: bool,
    /// Give a name to an address; `host-gateway` is this machine
    #[arg(long, value_name = "NAME:IP")]
    pub add_host: Vec<String>,
    /// How the function is isolated: `auto` takes the best that this machine grants; `full`, `proc-bind`, `no-pivot`, `root-without-userns`, `chroot`, `in-place` take that or refuse
    #[arg(long, value_name = "ISOLATION", default_value = "auto", hide_default_value = true)]
    pub isolation: String,
    /// Which system calls the sandbox may make: a policy's file in place of the shipped one, or `off`
    #[arg(long, value_name = "FILE|off")]
    pub seccomp: Option<OsString>,
    /// docker's `seccomp=unconfined` and `seccomp=FILE`; `no-new-privileges` always holds
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<OsString>,
    /// Refused: a function has no capabilities
    #[arg(long, value_name = "CAPABILITY", hide = true)]
    pub cap_add: Vec<String>,
    /// Accepted: a function has no capabilities
    #[arg(long, value_name = "CAPABILITY", hide = true)]
    pub cap_drop: Vec<String>,
    /// Refused: a function has no privileges
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub privileged: Option<bool>,
    #[command(flatten)]
    pub talk: TalkArgs,
    /// When to ask the registry; missing: when the cache lacks the image
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = PullWhen::Missing)]
    pub pull: PullWhen,
    /// Keep the image's compressed blobs, too, so that it can be saved and pushed without its registry
    #[arg(long)]
    pub keep_blobs: bool,
    #[command(flatten)]
    pub registry: RegistryArgs,
    #[command(flatten)]
    pub trust: TrustArgs,
}

/// IMAGE and what follows it.
#[derive(Debug, Subcommand)]
pub(super) enum ImageAndArguments {
    #[command(external_subcommand)]
    Given(Vec<OsString>),
}

/// How much is said, and how.
#[derive(Debug, Clone, Args)]
pub(super) struct TalkArgs {
    /// Say nothing of pulls
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Colour on stderr; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = ColorWhen::Auto)]
    pub color: ColorWhen,
}

/// How registries are reached.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct ReachArgs {
    /// Speak plain HTTP with this registry (loopback ones need no such permission)
    #[arg(long, value_name = "HOST[:PORT]")]
    pub insecure_registry: Vec<String>,
    /// Ask this mirror first: of REGISTRY, or of Docker Hub when none is named
    #[arg(long, value_name = "[REGISTRY=]HOST[:PORT][/PATH]")]
    pub mirror: Vec<String>,
    /// Trust the certificate authorities in this file, too
    #[arg(long, value_name = "FILE")]
    pub ca: Vec<PathBuf>,
    /// About how long is waited after a first failure
    #[arg(long, value_name = "SECONDS", hide = true)]
    pub registry_retry_delay: Option<f64>,
}

/// What every command that resolves images takes.
#[derive(Debug, Clone, Args)]
pub(super) struct RegistryArgs {
    /// The platform to choose from an index, such as linux/arm64
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
    #[command(flatten)]
    pub reach: ReachArgs,
    /// Look pins up in this lock file first
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// Refuse what has no verified pin in a lock file
    #[arg(long)]
    pub frozen: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ColorWhen {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum PullWhen {
    Always,
    Missing,
    Never,
}

/// Which ids there are in a root that may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum UsernsChoice {
    /// One
    Single,
    /// A range of subordinate ids beside it
    Subid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum CpuChoice {
    Unlimited,
    Lambda,
}

#[derive(Debug, Args)]
pub(super) struct PullArgs {
    /// Registry references, runtimes or OCI layouts
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Keep the images' compressed blobs, too, so that they can be saved and pushed without their registries
    #[arg(long)]
    pub keep_blobs: bool,
    #[command(flatten)]
    pub talk: TalkArgs,
    #[command(flatten)]
    pub registry: RegistryArgs,
    #[command(flatten)]
    pub trust: TrustArgs,
}

#[derive(Debug, Args)]
pub(super) struct LoginArgs {
    /// The registry; Docker Hub when none is named
    #[arg(value_name = "REGISTRY")]
    pub registry: Option<String>,
    /// The user's name
    #[arg(short = 'u', long, value_name = "USER")]
    pub username: Option<String>,
    /// The password or access token, for everybody to see who may list processes
    #[arg(short = 'p', long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    pub password: Option<String>,
    /// Read the password or access token from stdin
    #[arg(long)]
    pub password_stdin: bool,
    #[command(flatten)]
    pub talk: TalkArgs,
    #[command(flatten)]
    pub reach: ReachArgs,
}

#[derive(Debug, Args)]
pub(super) struct LogoutArgs {
    /// The registry; Docker Hub when none is named
    #[arg(value_name = "REGISTRY")]
    pub registry: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct PruneArgs {
    /// Remove every image that is not in use, not only what no image needs
    #[arg(short = 'a', long, conflicts_with_all = ["max_size", "older_than"])]
    pub all: bool,
    /// Remove images, those first that were not used for longest, until the others take no more than this, such as 10g
    #[arg(long, value_name = "SIZE")]
    pub max_size: Option<String>,
    /// Remove images that no run used for so long, such as 30d
    #[arg(long, value_name = "AGE")]
    pub older_than: Option<String>,
    /// Keep images that a lock file of yours or of the project names
    #[arg(long)]
    pub keep_locked: bool,
    /// With --keep-locked, look into this lock file, too
    #[arg(long, value_name = "FILE", requires = "keep_locked")]
    pub lock: Option<PathBuf>,
    /// Accepted: nothing is asked
    #[arg(short = 'f', long, action = ArgAction::SetTrue)]
    pub force: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum LockArgs {
    /// Pin images at what the registry has now
    Add(LockedImagesArgs),
    /// Pin images of the lock file again, all of them when none is named
    Update(LockedImagesArgs),
    /// Compare every pin with its registry
    Verify(LockedImagesArgs),
    /// Show what `update` would change
    Diff(LockedImagesArgs),
}

#[derive(Debug, Args)]
pub(super) struct LockedImagesArgs {
    /// Runtimes or registry references
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
    #[command(flatten)]
    pub talk: TalkArgs,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print a profile that lets this program make user namespaces where AppArmor restricts them
    #[arg(long, conflicts_with_all = ["json", "print_seccomp_profile"])]
    pub print_apparmor_profile: bool,
    /// Print a seccomp profile for an outer container in which functions can be isolated
    #[arg(long, value_name = "READER", value_enum, conflicts_with = "json")]
    pub print_seccomp_profile: Option<ProfileReader>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ProfileReader {
    Docker,
    Kubernetes,
}

impl SandboxArgs {
    /// For commands that take none of them: what holds where nothing is given.
    pub(super) fn none() -> Self {
        let command = <Self as Args>::augment_args(clap::Command::new("none"));
        let matches = command.get_matches_from(["none"]);
        <Self as clap::FromArgMatches>::from_arg_matches(&matches).expect("none of them is required")
    }
}

impl RegistryArgs {
    /// For commands that ask no registry.
    pub(super) fn none() -> Self {
        Self { platform: None, reach: ReachArgs::default(), lock: None, frozen: false }
    }
}
