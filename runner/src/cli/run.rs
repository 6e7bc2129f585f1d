//! From the options of `undocked run` to a [`RunConfig`].

use std::ffi::OsString;
use std::time::Duration;

use rootfs_cache::lock::LockFiles;
use rootfs_cache::pull::{KeepBlobs, PullOptions, PullPolicy};
use rootfs_cache::reference::{ImageReference, Platform};

use super::args::{ColorWhen, CpuChoice, ImageAndArguments, PullWhen, RegistryArgs, RunArgs, SandboxArgs, TalkArgs, UsernsChoice};
use super::env::OwnEnvironment;
use super::{registry, trust, variables};
use crate::config::{
    self, BetweenEvents, Changes, Color, CpuRule, EventsConfig, ImageSource, Keeping, Loudness, NetworkOptions, ResultFormat, RootAccess,
    RunConfig, Stdin, Talk, UnknownEntrypoint, UserNamespace,
};
use crate::exit_code::Failure;

/// How long an environment stays without work: Lambda's own takes some minutes.
pub(super) const STAYS: Duration = Duration::from_secs(600);

/// Of `undocked run`.
pub(super) fn config(args: RunArgs, own: &OwnEnvironment) -> Result<RunConfig, Failure> {
    let userns = userns(args.userns, args.sandbox.read_only)?;
    let config = sandbox(args.sandbox, args.image, own)?;
    let stdin = if args.interactive == Some(true) { Stdin::Inherit } else { Stdin::Null };
    let result = if args.json { ResultFormat::Json } else { ResultFormat::Line };
    let changes = if args.watch { Changes::Restart } else { Changes::Ignore };
    Ok(RunConfig { userns, stdin, result, keeping: Keeping { changes, ..config.keeping }, ..config })
}

/// Which ids there are inside: only a root that may be written to has owners.
fn userns(given: UsernsChoice, read_only: Option<bool>) -> Result<UserNamespace, Failure> {
    match (given, read_only) {
        (UsernsChoice::Single, _) => Ok(UserNamespace::Single),
        (UsernsChoice::Subid, Some(true)) => {
            let error = "`--userns subid` is about the owners of files in a root that may be written to, and `--read-only` has none";
            Err(Failure::usage(error).with_hint(Some("leave one of the two out".to_owned())))
        }
        (UsernsChoice::Subid, _) => Ok(UserNamespace::Subordinate),
    }
}

/// What all commands that run functions have in common.
pub(super) fn sandbox(args: SandboxArgs, image: Option<ImageAndArguments>, own: &OwnEnvironment) -> Result<RunConfig, Failure> {
    let networking = networking(&args)?;
    let (image, arguments) = image_and_arguments(image)?;
    let image = image.parse().map_err(Failure::usage)?;
    refuse_privileges(&args.cap_add, args.privileged)?;
    let filter = config::filter(args.seccomp.as_deref(), &args.security_opt).map_err(|error| {
        let (hint, is_usage) = (error.hint(), error.is_usage());
        refused(error, is_usage).with_hint(hint)
    })?;
    let current_dir =
        std::env::current_dir().map_err(|error| Failure::could_not_run(error).with_hint(Some("the current folder is gone".to_owned())))?;
    let volumes = config::volumes(&args.volumes, &current_dir).map_err(|error| {
        let (hint, is_usage) = (error.hint(), error.is_usage());
        refused(error, is_usage).with_hint(hint)
    })?;
    let bad_config = |error: config::ConfigError| {
        let (hint, is_usage) = (error.hint(), error.is_usage());
        refused(error, is_usage).with_hint(hint)
    };
    let mut images = image_source(args.registry, policy(args.pull), own)?;
    images.options.blobs = blobs(args.keep_blobs);
    images.required = trust::required(args.trust, own)?;
    if images.required.is_some() && image == ImageReference::Host {
        let hint = "leave `--require-trust` out, or name an image of a registry";
        return Err(Failure::could_not_run("`host` is this machine's own userland, which nobody signs").with_hint(Some(hint.to_owned())));
    }
    Ok(RunConfig {
        image,
        arguments,
        entrypoint: args.entrypoint,
        unknown_entrypoint: UnknownEntrypoint::Function,
        working_dir: config::working_dir(args.workdir).map_err(bad_config)?,
        user: args.user,
        root: if args.read_only == Some(true) { RootAccess::ReadOnly } else { RootAccess::Writable },
        userns: UserNamespace::Single,
        variables: variables::given(&args.variables, &args.env_file, own).map_err(Failure::usage)?,
        own_settings: own.settings(),
        networking,
        isolation: args.isolation.parse().map_err(Failure::usage)?,
        layers: config::layers(&args.layers, &volumes).map_err(bad_config)?,
        volumes,
        memory: config::memory(size("--memory", args.memory)?).map_err(bad_config)?,
        tmp_size: config::tmp_size(size("--tmp-size", args.tmp_size)?),
        tmp_in_memory: None,
        cpu: match args.cpu {
            CpuChoice::Unlimited => CpuRule::Unlimited,
            CpuChoice::Lambda => CpuRule::Lambda,
        },
        timeout: args.timeout.map(|text| text.parse()).transpose().map_err(Failure::usage)?,
        filter,
        stdin: Stdin::Null,
        result: ResultFormat::Line,
        keeping: Keeping { idle: STAYS, between: BetweenEvents::GoOn, changes: Changes::Ignore },
        events: EventsConfig { folder: own.events(), ..EventsConfig::default() },
        talk: talk(&args.talk, own),
        search_path: own.search_path(),
        images,
    })
}

/// What docker grants a container, and nobody a function.
fn refuse_privileges(cap_add: &[String], privileged: Option<bool>) -> Result<(), Failure> {
    let option = match (cap_add, privileged) {
        ([capability, ..], _) => format!("`--cap-add {capability}`"),
        ([], Some(true)) => "`--privileged`".to_owned(),
        ([], _) => return Ok(()),
    };
    let error = format!("{option} is not supported: a function has no capabilities, on Lambda as here");
    let hint = "leave it out; debuggers work without, and `--seccomp FILE` allows system calls that the shipped policy refuses";
    Err(Failure::could_not_run(error).with_hint(Some(hint.to_owned())))
}

fn networking(args: &SandboxArgs) -> Result<config::Networking, Failure> {
    let options = NetworkOptions {
        network: args.network.as_deref(),
        publish: &args.publish,
        allow: &args.allow_net,
        deny: &args.deny_net,
        add_host: &args.add_host,
        log: args.log_net,
    };
    config::networking(&options).map_err(|error| {
        let hint = error.hint();
        Failure::usage(error).with_hint(hint)
    })
}

/// The value of an option that is a size.
pub(super) fn size(option: &'static str, given: Option<String>) -> Result<Option<config::MemorySize>, Failure> {
    given.map(|text| text.parse()).transpose().map_err(|source| Failure::usage(BadOption { option, source }))
}

/// What the images of the cache may take, in bytes. Unlike memory, it may be next to nothing.
pub(super) fn cache_size(option: &'static str, given: Option<String>) -> Result<Option<u64>, Failure> {
    given.map(|text| config::bytes_of(&text)).transpose().map_err(|source| Failure::usage(BadOption { option, source }))
}

/// Which option is wrong.
#[derive(Debug, thiserror::Error)]
#[error("`{option}` cannot be used")]
struct BadOption {
    option: &'static str,
    source: config::ParseMemorySizeError,
}

fn refused(error: impl std::error::Error + 'static, is_usage: bool) -> Failure {
    if is_usage { Failure::usage(error) } else { Failure::could_not_run(error) }
}

fn image_and_arguments(given: Option<ImageAndArguments>) -> Result<(String, Vec<OsString>), Failure> {
    let missing = || {
        Failure::usage("IMAGE is missing").with_hint(Some("write it after the options; `--help` behind the command says more".to_owned()))
    };
    let Some(ImageAndArguments::Given(words)) = given else {
        return Err(missing());
    };
    let mut words = words.into_iter();
    let image = words.next().filter(|image| !image.is_empty()).ok_or_else(missing)?;
    let image = image.into_string().map_err(|image| Failure::usage(format!("`{}` is no image reference", image.display())))?;
    Ok((image, words.collect()))
}

/// What becomes of the blobs that images come in.
pub(super) fn blobs(keep: bool) -> KeepBlobs {
    if keep { KeepBlobs::Yes } else { KeepBlobs::No }
}

/// When a registry is asked.
fn policy(when: PullWhen) -> PullPolicy {
    match when {
        PullWhen::Always => PullPolicy::Always,
        PullWhen::Missing => PullPolicy::Missing,
        PullWhen::Never => PullPolicy::Never,
    }
}

/// What is said, and how: `NO_COLOR` counts where no option decides.
pub(super) fn talk(args: &TalkArgs, own: &OwnEnvironment) -> Talk {
    let color = match args.color {
        ColorWhen::Always => Color::Always,
        ColorWhen::Never => Color::Never,
        ColorWhen::Auto if own.no_color() => Color::Never,
        ColorWhen::Auto => Color::Terminal,
    };
    Talk { loudness: if args.quiet { Loudness::Quiet } else { Loudness::Normal }, color }
}

/// How images are found.
pub(super) fn image_source(args: RegistryArgs, policy: PullPolicy, own: &OwnEnvironment) -> Result<ImageSource, Failure> {
    let platform = args.platform.map_or_else(|| Ok(Platform::of_host()), |text| text.parse()).map_err(Failure::usage)?;
    let options = PullOptions {
        policy,
        platform,
        access: registry::access(args.reach, own)?,
        locks: LockFiles { chosen: args.lock, user: own.user_lock(), project: Some("vendor-images.lock".into()) },
        frozen: args.frozen,
        ..PullOptions::default()
    };
    let cache_max = cache_size(super::env::CACHE_MAX_SIZE, own.cache_max())?;
    Ok(ImageSource { cache: own.cache(), options, required: None, cache_max })
}
