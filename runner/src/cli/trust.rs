//! Who must have signed an image, and `undocked trust`, from options and variables.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use rootfs_cache::lock::edit::Registry;
use rootfs_cache::pull::PullPolicy;
use rootfs_cache::pull::trusted::Required;
use rootfs_cache::trust::cosign::SignerKey;
use rootfs_cache::trust::dct::{DctOptions, TrustPlace};

use super::args::{ReachArgs, RegistryArgs, TalkArgs};
use super::env::OwnEnvironment;
use super::run;
use crate::config::{InspectForm, TrustAction, TrustConfig};
use crate::exit_code::Failure;

/// Who must have signed an image.
#[derive(Debug, Clone, Args)]
pub(super) struct TrustArgs {
    /// Use nothing but what is signed: `dct` by its publisher (Docker Content Trust), `cosign` by the holder of `--key`
    #[arg(long, value_name = "KIND", value_enum)]
    pub require_trust: Option<TrustKind>,
    /// The public key of a cosign signature, in PEM form
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    #[command(flatten)]
    pub dct: DctArgs,
}

/// How what Docker Content Trust says is found and looked at.
#[derive(Debug, Clone, Args)]
pub(super) struct DctArgs {
    /// `strict`, `historical` (a pinned root, and signatures whose time may be over), `off`
    #[arg(long, value_name = "MODE")]
    pub trust_mode: Option<String>,
    /// The server that keeps what is signed
    #[arg(long, value_name = "URL", conflicts_with = "trust_dir")]
    pub trust_server: Option<String>,
    /// A folder with a saved copy of what a server keeps
    #[arg(long, value_name = "DIR")]
    pub trust_dir: Option<PathBuf>,
    /// The id of the root key, as `docker trust inspect` shows it; several for any of them
    #[arg(long, value_name = "KEYID")]
    pub trust_root: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum TrustKind {
    Dct,
    Cosign,
}

#[derive(Debug, Subcommand)]
pub(super) enum TrustCommand {
    /// Show what is signed and by which keys, as docker does
    Inspect(InspectArgs),
    /// Ask which signatures a registry has of an image
    Probe(ProbeArgs),
    /// Pin what is signed in a lock file: a tag, or all signed tags of a repository
    Lock(TrustLockArgs),
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// Print it for people instead of JSON
    #[arg(long)]
    pub pretty: bool,
    /// References of a registry, with or without a tag
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    #[command(flatten)]
    pub dct: DctArgs,
    #[command(flatten)]
    pub talk: TalkArgs,
    #[command(flatten)]
    pub reach: ReachArgs,
}

#[derive(Debug, Args)]
pub(super) struct ProbeArgs {
    /// References of a registry
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    #[command(flatten)]
    pub talk: TalkArgs,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

#[derive(Debug, Args)]
pub(super) struct TrustLockArgs {
    /// References of a registry, with or without a tag, or runtimes
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Ask no registry: what is signed is taken for a platform's manifest
    #[arg(long)]
    pub offline: bool,
    #[command(flatten)]
    pub trust: TrustArgs,
    #[command(flatten)]
    pub talk: TalkArgs,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Who must have signed an image, if anybody.
pub(super) fn required(args: TrustArgs, own: &OwnEnvironment) -> Result<Option<Required>, Failure> {
    let (kind, key) = (args.require_trust, args.key);
    let dct = dct(args.dct, own)?;
    match (kind, key) {
        (Some(TrustKind::Dct), None) => Ok(dct.map(Required::Dct)),
        (Some(TrustKind::Cosign), Some(file)) => signer_key(&file).map(Required::Cosign).map(Some),
        (None, None) => Ok(None),
        (Some(TrustKind::Cosign), None) => {
            let hint = "`--key FILE` names the public key in PEM form, as `cosign generate-key-pair` writes it to `cosign.pub`";
            Err(Failure::usage("`--require-trust cosign` needs a key").with_hint(Some(hint.to_owned())))
        }
        (Some(TrustKind::Dct) | None, Some(_)) => Err(Failure::usage("`--key` is for `--require-trust cosign`")
            .with_hint(Some("a root key is named with `--trust-root KEYID`".to_owned()))),
    }
}

fn signer_key(file: &Path) -> Result<SignerKey, Failure> {
    let text = std::fs::read(file).map_err(|error| Failure::could_not_run(format!("cannot read the key `{}`: {error}", file.display())))?;
    SignerKey::from_pem(&text).map_err(|error| Failure::could_not_run(error).in_front(&format!("cannot use the key `{}`", file.display())))
}

/// How what is signed is looked at; nothing if that is switched off.
fn dct(args: DctArgs, own: &OwnEnvironment) -> Result<Option<DctOptions>, Failure> {
    let mode = match args.trust_mode.as_deref() {
        Some("off") => return Ok(None),
        mode => mode.map(str::parse).transpose().map_err(Failure::usage)?,
    };
    // An option says more than a variable.
    let server = if args.trust_dir.is_some() { None } else { args.trust_server.or_else(|| own.trust_server()) };
    let place = match (args.trust_dir, server) {
        (Some(folder), _) => TrustPlace::Folder(folder),
        (None, Some(server)) => TrustPlace::Server(server.parse().map_err(Failure::usage)?),
        (None, None) => TrustPlace::Usual,
    };
    let roots = args.trust_root.iter().map(|key| key.parse()).collect::<Result<_, _>>().map_err(Failure::usage)?;
    Ok(Some(DctOptions { mode, place, roots, memory: own.trust_memory(), certificates: own.trust_certificates() }))
}

/// Of `undocked trust`.
pub(super) fn config(command: TrustCommand, own: &OwnEnvironment) -> Result<TrustConfig, Failure> {
    match command {
        TrustCommand::Inspect(InspectArgs { pretty, images, dct: args, talk, reach }) => {
            let form = if pretty { InspectForm::Pretty } else { InspectForm::Json };
            let registry = RegistryArgs { reach, ..RegistryArgs::none() };
            Ok(TrustConfig {
                action: TrustAction::Inspect(form),
                images,
                dct: wanted(args, own)?,
                source: run::image_source(registry, PullPolicy::Always, own)?,
                talk: run::talk(&talk, own),
            })
        }
        TrustCommand::Probe(ProbeArgs { images, talk, registry }) => Ok(TrustConfig {
            action: TrustAction::Probe,
            images,
            dct: DctOptions::default(),
            source: run::image_source(registry, PullPolicy::Always, own)?,
            talk: run::talk(&talk, own),
        }),
        TrustCommand::Lock(TrustLockArgs { images, offline, trust, talk, registry }) => {
            let mut source = run::image_source(registry, PullPolicy::Always, own)?;
            if trust.require_trust == Some(TrustKind::Cosign) {
                source.required = required(trust.clone(), own)?;
            }
            Ok(TrustConfig {
                action: TrustAction::Lock(if offline { Registry::NotAsked } else { Registry::Asked }),
                images,
                dct: wanted(trust.dct, own)?,
                source,
                talk: run::talk(&talk, own),
            })
        }
    }
}

fn wanted(args: DctArgs, own: &OwnEnvironment) -> Result<DctOptions, Failure> {
    let off = || Failure::usage("`--trust-mode off` leaves nothing to be looked at");
    dct(args, own)?.ok_or_else(off)
}
