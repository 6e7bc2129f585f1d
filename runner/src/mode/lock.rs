//! `undocked lock`: pins in a lock file, and what registries say of them.

use std::path::{Path, PathBuf};

use rootfs_cache::lock::edit::{Checked, EditError, LockEditor, Verdict};
use rootfs_cache::pull::PullEvent;
use rootfs_cache::reference::ImageReference;

use super::progress::Progress;
use super::{async_runtime, print};
use crate::config::{ImageSource, LockAction, Talk};
use crate::exit_code::{ExitCode, Failure, chain};

/// Does `action` to the lock file asked for, else to the project's. Exit code 1 tells that not all is as it should be.
pub fn run(action: LockAction, images: &[String], source: &ImageSource, talk: Talk) -> Result<ExitCode, Failure> {
    let images: Vec<ImageReference> = images.iter().map(|image| image.parse()).collect::<Result<_, _>>().map_err(Failure::usage)?;
    if action == LockAction::Add && images.is_empty() {
        return Err(Failure::usage("`IMAGE` is missing"));
    }
    let (options, progress) = (&source.options, Progress::new(talk));
    let notes = |text: &str| progress.tell(PullEvent::Note(text));
    let editor = LockEditor { file: file(source), locks: &options.locks, access: &options.access, notes: &notes };
    let all = async_runtime()?.block_on(async {
        match action {
            LockAction::Add => {
                let mut all = Vec::new();
                for image in &images {
                    all.push(editor.add(image, &options.platform).await?);
                }
                Ok(all)
            }
            LockAction::Update => editor.update(&images).await,
            LockAction::Verify => editor.verify(&images).await,
            LockAction::Diff => editor.diff(&images).await,
        }
    });
    let all = all.map_err(|error: EditError| {
        let hint = error.hint();
        Failure::could_not_run(error).with_hint(hint)
    })?;
    print(all.iter().map(line).collect::<String>().as_bytes())?;
    Ok(if all.iter().all(|checked| is_fine(action, &checked.verdict)) { ExitCode::SUCCESS } else { ExitCode::FUNCTION_FAILED })
}

/// The lock file that a command edits.
pub(super) fn file(source: &ImageSource) -> &Path {
    let locks = &source.options.locks;
    locks.chosen.as_ref().or(locks.project.as_ref()).map_or(Path::new("vendor-images.lock"), PathBuf::as_path)
}

fn is_fine(action: LockAction, verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Same | Verdict::Verified | Verdict::Unpinned => true,
        Verdict::New { .. } | Verdict::Moved { .. } => action != LockAction::Diff,
        Verdict::Rejected(_) | Verdict::Failed(_) => false,
    }
}

/// What became of one entry.
pub(super) fn line(checked: &Checked) -> String {
    let said = match &checked.verdict {
        Verdict::New { found } => format!("new {found}"),
        Verdict::Same => "same".to_owned(),
        Verdict::Moved { found } => format!("moved to {found}"),
        Verdict::Verified => "verified".to_owned(),
        Verdict::Rejected(error) => format!("rejected: {}", chain(error)),
        Verdict::Unpinned => "not pinned".to_owned(),
        Verdict::Failed(error) => format!("no answer: {}", chain(error)),
    };
    let locked = checked.locked.map(|digest| format!(" ({digest})")).unwrap_or_default();
    format!("{} {}{locked}: {said}\n", checked.reference, checked.platform)
}
