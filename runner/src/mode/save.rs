//! `undocked save`: images of the cache into an archive.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rootfs_cache::export::{ExportError, ExportedImage, NewArchive};
use rootfs_cache::local::FoundImage;
use rootfs_cache::pull::PullEvent;
use rootfs_cache::reference::RegistryReference;
use rootfs_cache::store::Cache;

use super::open_cache;
use super::progress::Progress;
use super::pull::until_signal;
use crate::config::{ImageSource, SaveConfig, SaveOutput};
use crate::exit_code::{ExitCode, Failure};

/// Writes the archive.
pub fn run(config: &SaveConfig) -> Result<ExitCode, Failure> {
    if config.output == SaveOutput::Stdout && io::stdout().is_terminal() {
        let hint = "name a file with `-o`, or redirect stdout".to_owned();
        return Err(Failure::could_not_run("an archive is not written to a terminal").with_hint(Some(hint)));
    }
    let (cache, progress) = (Arc::new(open_cache(&config.source)?), Progress::new(config.talk));
    let mut images: Vec<ExportedImage> = Vec::new();
    for text in &config.images {
        let image = chosen(&cache, text, &config.source)?;
        match images.iter_mut().find(|known| known.manifest == image.manifest) {
            Some(known) => known.names.extend(image.names),
            None => images.push(image),
        }
    }
    let note = |text: &str| progress.tell(PullEvent::Note(text));
    // Outside of the thread that writes, which nobody waits for when a signal comes.
    let mut output = Output::open(&config.output)?;
    until_signal(async {
        let access = &config.source.options.access;
        let archive = NewArchive::collect(&cache, &images, config.format, access, &note).await.map_err(failed)?;
        let mut writer = io::BufWriter::with_capacity(1 << 20, output.writer()?);
        let written = tokio::task::spawn_blocking(move || {
            archive.write(&mut writer)?;
            writer.flush().map_err(ExportError::Write)
        });
        written.await.map_err(Failure::could_not_run)?.map_err(failed)
    })?;
    output.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// The image that a text means. Found by its name it goes by that; found by its ID it goes without one, as with docker.
pub(super) fn chosen(cache: &Cache, text: &str, source: &ImageSource) -> Result<ExportedImage, Failure> {
    let mut found = cache.find(text).map_err(super::in_cache)?;
    let platform = source.options.platform.to_string();
    if found.len() > 1 {
        found.retain(|found| found.platforms().contains(&platform.as_str()));
    }
    let (image, name) = match found.into_iter().next() {
        Some(FoundImage { image, name }) => (image, name),
        None => {
            let failure = Failure::could_not_run(format!("`{text}` is not in the cache"));
            return Err(
                failure.with_hint(Some(format!("`undocked pull --keep-blobs {text}` gets it; `undocked images` lists what is there")))
            );
        }
    };
    let names = name.iter().filter_map(|name| name.parse::<RegistryReference>().ok()).filter(|name| name.digest().is_none());
    Ok(ExportedImage { manifest: image.manifest, names: names.collect(), origins: image.names.into_iter().map(|(name, _)| name).collect() })
}

/// Where the archive goes. A file that was not finished is removed.
enum Output {
    Stdout,
    /// What is no regular file is written where it is.
    InPlace(PathBuf),
    Beside {
        partial: PathBuf,
        path: PathBuf,
        finished: bool,
    },
}

impl Output {
    fn open(output: &SaveOutput) -> Result<Self, Failure> {
        let path = match output {
            SaveOutput::Stdout => return Ok(Self::Stdout),
            SaveOutput::File(path) => path.clone(),
        };
        if fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
            return Ok(Self::InPlace(path));
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let partial = path.with_file_name(format!(".{name}.{}.partial", std::process::id()));
        Ok(Self::Beside { partial, path, finished: false })
    }

    fn writer(&self) -> Result<Box<dyn Write + Send>, Failure> {
        let at = |path: &Path, opened: io::Result<File>| {
            opened
                .map(|file| Box::new(file) as _)
                .map_err(|error| Failure::could_not_run(format!("cannot write `{}`: {error}", path.display())))
        };
        match self {
            Self::Stdout => Ok(Box::new(io::stdout())),
            Self::InPlace(path) => at(path, File::options().write(true).open(path)),
            Self::Beside { partial, path, .. } => at(path, File::create_new(partial)),
        }
    }

    fn finish(&mut self) -> Result<(), Failure> {
        if let Self::Beside { partial, path, finished } = self {
            fs::rename(&*partial, &*path).map_err(|error| Failure::could_not_run(format!("cannot write `{}`: {error}", path.display())))?;
            *finished = true;
        }
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Self::Beside { partial, finished: false, .. } = self {
            let _ = fs::remove_file(partial);
        }
    }
}

fn failed(error: ExportError) -> Failure {
    let hint = error.hint();
    Failure::could_not_run(error).with_hint(hint)
}
