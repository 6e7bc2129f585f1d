//! `undocked trust`: what is signed and by whom, which signatures a registry has, and pins made from them.

use rootfs_cache::lock::edit::{LockEditor, Registry, SignedPin};
use rootfs_cache::pull::trusted::{Required, trusted};
use rootfs_cache::pull::{PullEvent, PullPolicy};
use rootfs_cache::reference::{ImageReference, RegistryReference};
use rootfs_cache::rootfs::Rootfs;
use rootfs_cache::source::Notes;
use rootfs_cache::source::repository::{Purpose, Repository};
use rootfs_cache::trust::dct::{self, DctError, SignedRepository};
use rootfs_cache::trust::probe::{self, Probed, ReferrersApi};

use super::progress::Progress;
use super::{async_runtime, lock, print, pull};
use crate::config::{ImageSource, InspectForm, Talk, TrustAction, TrustConfig};
use crate::exit_code::{ExitCode, Failure};

mod docker_form;

use docker_form::Shown;

/// Does one `undocked trust`.
pub fn run(config: &TrustConfig) -> Result<ExitCode, Failure> {
    let progress = Progress::new(config.talk);
    let notes = |text: &str| progress.tell(PullEvent::Note(text));
    match config.action {
        TrustAction::Inspect(form) => inspect(config, form, &notes),
        TrustAction::Probe => probe(config, &notes),
        TrustAction::Lock(registry) => lock(config, registry, &notes),
    }
}

/// The image that is signed, and no other.
pub(super) fn find(image: &ImageReference, source: &ImageSource, required: &Required, talk: Talk) -> Result<Rootfs, Failure> {
    let progress = Progress::new(talk);
    let notes = |text: &str| progress.tell(PullEvent::Note(text));
    let signed = async_runtime()?.block_on(trusted(image, required, &source.options, &notes));
    let signed = signed.map_err(not_trusted)?;
    let mut source = source.clone();
    source.options.signed_size = signed.size;
    let rootfs = pull::find_any(&ImageReference::Registry(signed.reference.clone()), &source, talk)?;
    signed.check(rootfs.manifest_digest()).map_err(not_trusted)?;
    Ok(rootfs)
}

fn not_trusted(error: rootfs_cache::pull::trusted::RequireError) -> Failure {
    let hint = error.hint();
    Failure::could_not_run(error).with_hint(hint)
}

fn of_dct(error: DctError) -> Failure {
    let hint = error.hint();
    Failure::could_not_run(error).with_hint(hint)
}

/// As docker does it: what cannot be shown makes the exit code 1, the rest is shown all the same as JSON, and to the first such one for people.
fn inspect(config: &TrustConfig, form: InspectForm, notes: Notes<'_>) -> Result<ExitCode, Failure> {
    let runtime = async_runtime()?;
    let (mut shown, mut failures) = (Vec::new(), Vec::new());
    for (number, image) in config.images.iter().enumerate() {
        let found = runtime.block_on(inspected(image, config, notes));
        match (found, form) {
            (Ok(signed), InspectForm::Json) => shown.push(Shown::of(image, &signed)),
            (Ok(signed), InspectForm::Pretty) => {
                let between = if number + 1 < config.images.len() { "\n\n" } else { "" };
                print(format!("{}{between}", Shown::of(image, &signed).pretty()).as_bytes())?;
            }
            (Err(failure), InspectForm::Json) => failures.push(failure),
            (Err(failure), InspectForm::Pretty) => return Err(failure),
        }
    }
    if form == InspectForm::Json {
        print(docker_form::json(&shown).as_bytes())?;
    }
    match failures.len() {
        0 => Ok(ExitCode::SUCCESS),
        1 => Err(failures.remove(0)),
        _ => {
            let all: Vec<String> = failures.iter().map(ToString::to_string).collect();
            Err(Failure::could_not_run(all.join("; ")).with_code(ExitCode::FUNCTION_FAILED))
        }
    }
}

async fn inspected(image: &str, config: &TrustConfig, notes: Notes<'_>) -> Result<SignedRepository, Failure> {
    let reference: RegistryReference = image
        .parse()
        .map_err(|error: rootfs_cache::reference::ParseReferenceError| Failure::usage(error).with_code(ExitCode::FUNCTION_FAILED))?;
    let signed = dct::signed_in(&reference, &config.dct, &config.source.options.access, notes).await;
    let signed = signed
        .map_err(|error| of_dct(error).in_front(&format!("no signatures or cannot access {image}")).with_code(ExitCode::FUNCTION_FAILED))?;
    for line in signed.evidence.proved() {
        notes(&format!("proved: {line}"));
    }
    for line in signed.evidence.not_proved() {
        notes(&format!("not proved: {line}"));
    }
    Ok(signed)
}

fn probe(config: &TrustConfig, notes: Notes<'_>) -> Result<ExitCode, Failure> {
    let runtime = async_runtime()?;
    for image in &config.images {
        let reference: RegistryReference = image.parse().map_err(Failure::usage)?;
        let probed = runtime.block_on(probed(&reference, &config.source, notes)).map_err(|error| {
            let hint = error.hint();
            Failure::could_not_run(error).with_hint(hint).in_front(&format!("cannot look for signatures of `{reference}`"))
        })?;
        print(probe_text(&reference, &probed).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn probed(
    reference: &RegistryReference,
    source: &ImageSource,
    notes: Notes<'_>,
) -> Result<Vec<Probed>, rootfs_cache::source::SourceError> {
    let repository = Repository::open(reference, &source.options.access, Purpose::Pull, notes)?;
    let named = match reference.digest() {
        Some(digest) => *digest,
        None => repository.resolve(reference.tag().unwrap_or("latest")).await?,
    };
    let mut all = vec![probe::probe(&repository, &named).await?];
    if let Some(manifest) = probe::manifest_of(&repository, &named, &source.options.platform).await? {
        all.push(probe::probe(&repository, &manifest).await?);
    }
    Ok(all)
}

/// What was found beside each: the digest that the name means, and the platform's manifest where that is another.
fn probe_text(reference: &RegistryReference, probed: &[Probed]) -> String {
    let mut text = format!("{reference}\n");
    for (number, Probed { image, api, remarks }) in probed.iter().enumerate() {
        let what = match (number, probed.len()) {
            (0, 1) => "manifest",
            (0, _) => "index",
            _ => "platform manifest",
        };
        let api = match api {
            ReferrersApi::Kept => "the registry lists what refers to it",
            ReferrersApi::ByTag => "a tag lists what refers to it",
            ReferrersApi::None => "the registry keeps no list of what refers to it",
        };
        text += &format!("  {what} {image}: {api}\n");
        for remark in remarks {
            let tag = remark.tag.as_ref().map(|tag| format!(" (tag `{tag}`)")).unwrap_or_default();
            text += &format!("    {}: {}{tag}\n", remark.kind, remark.digest);
        }
        if remarks.is_empty() {
            text += "    no signature, no attestation\n";
        }
    }
    text
}

fn lock(config: &TrustConfig, registry: Registry, notes: Notes<'_>) -> Result<ExitCode, Failure> {
    let options = &config.source.options;
    let editor = LockEditor { file: lock::file(&config.source), locks: &options.locks, access: &options.access, notes };
    async_runtime()?.block_on(async {
        for image in &config.images {
            for (image, pin) in to_lock(image, config, notes).await? {
                let checked = editor.add_signed(&image, &options.platform, pin, registry).await.map_err(|error| {
                    let hint = error.hint();
                    Failure::could_not_run(error).with_hint(hint)
                })?;
                print(lock::line(&checked).as_bytes())?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// What is signed of one image, or of all the signed tags of a repository that was given without one.
async fn to_lock(image: &str, config: &TrustConfig, notes: Notes<'_>) -> Result<Vec<(ImageReference, SignedPin)>, Failure> {
    let parsed: ImageReference = image.parse().map_err(Failure::usage)?;
    let options = &config.source.options;
    let pin_of = |signed: rootfs_cache::pull::trusted::Trusted| {
        signed.reference.digest().map(|digest| SignedPin { digest: *digest, trust: signed.trust, size: signed.size })
    };
    if let (ImageReference::Registry(reference), None) = (&parsed, &config.source.required)
        && !docker_form::has_tag(image)
    {
        let signed = dct::signed_in(reference, &config.dct, &options.access, notes).await.map_err(of_dct)?;
        let tags = signed.tags.iter().filter(|tag| signed.tag(&tag.tag) == Some(*tag));
        let pins = tags.filter_map(|tag| {
            // A target may have any name, and an image only some.
            let image = format!("{}:{}", signed.repository, tag.tag).parse().ok()?;
            let trust = rootfs_cache::pull::trusted::dct_trust(&signed, tag.digest);
            Some((image, SignedPin { digest: tag.digest, trust, size: Some(tag.size) }))
        });
        return Ok(pins.collect());
    }
    let required = config.source.required.clone().unwrap_or_else(|| Required::Dct(config.dct.clone()));
    // The pin that is there is what is to be renewed.
    let options = rootfs_cache::pull::PullOptions { policy: PullPolicy::Always, ..options.clone() };
    let signed = trusted(&parsed, &required, &options, notes).await.map_err(not_trusted)?;
    Ok(pin_of(signed).map(|pin| (parsed, pin)).into_iter().collect())
}
