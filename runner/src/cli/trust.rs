//! Who must have signed an image, and `undocked trust`, from options and variables.

use std::path::Path;

use rootfs_cache::lock::edit::Registry;
use rootfs_cache::pull::PullPolicy;
use rootfs_cache::pull::trusted::Required;
use rootfs_cache::trust::cosign::SignerKey;
use rootfs_cache::trust::dct::{DctOptions, TrustPlace};

use super::args::{DctArgs, InspectArgs, ProbeArgs, RegistryArgs, TrustArgs, TrustCommand, TrustKind, TrustLockArgs};
use super::env::OwnEnvironment;
use super::run;
use crate::config::{InspectForm, TrustAction, TrustConfig};
use crate::exit_code::Failure;

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
