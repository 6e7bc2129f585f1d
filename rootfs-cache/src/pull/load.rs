//! All images of an archive into the cache, under their own names.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::layers::finished;
use super::{Arrival, KeepBlobs, PullError, PullEvent, PullObserver, PullOptions};
use crate::digest::Digest;
use crate::reference::RegistryReference;
use crate::source::{ArchivedImage, Source};
use crate::store::Cache;

/// Where an archive comes from.
pub enum ArchiveInput {
    /// A file, which is read where it lies unless it is compressed.
    File(PathBuf),
    /// A stream, which is copied first; and what it is called in messages.
    Stream(Box<dyn io::Read + Send>, &'static str),
}

/// An image that came out of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedImage {
    /// Digest of the platform manifest.
    pub manifest: Digest,
    /// Digest of the config: docker's image ID.
    pub id: Digest,
    /// Its names, which mean it from now on.
    pub names: Vec<RegistryReference>,
    /// Names that meant another image before, and the ID of that.
    pub taken: Vec<(RegistryReference, Digest)>,
}

/// Brings an archive's images into the cache with their blobs, so that they can be saved and pushed. `loaded` hears of each as soon as it is there.
pub async fn load(
    cache: &Arc<Cache>,
    input: ArchiveInput,
    options: &PullOptions,
    observer: &PullObserver<'_>,
    loaded: &mut dyn FnMut(&LoadedImage),
) -> Result<(), PullError> {
    let path = match &input {
        ArchiveInput::File(path) => path.clone(),
        ArchiveInput::Stream(_, name) => PathBuf::from(name),
    };
    let name = path.display().to_string();
    let failed = |source| PullError::Source { reference: name.clone(), source };
    let spool = Arc::clone(cache);
    let open = move || {
        let spool = || spool.nameless_file();
        match input {
            ArchiveInput::File(path) => Source::archive(&path, None, &spool),
            ArchiveInput::Stream(mut stream, _) => Source::archive(&path, Some(&mut stream), &spool),
        }
    };
    let source = finished(spawn_blocking(open)).await.map_err(failed)?;
    let options = PullOptions { blobs: KeepBlobs::Yes, ..options.clone() };
    for image in source.images(&options.platform).map_err(failed)? {
        let arrival = Arrival { cache, name: &name, source: &source, options: &options, observer };
        loaded(&arrival.load(image).await?);
    }
    Ok(())
}

impl Arrival<'_> {
    async fn load(&self, archived: ArchivedImage) -> Result<LoadedImage, PullError> {
        let platform = archived.platform.as_ref().unwrap_or(&self.options.platform);
        let in_archive = |source| PullError::Source { reference: self.name.to_owned(), source };
        let in_cache = |source| PullError::Cache { reference: self.name.to_owned(), source };
        let image = self.source.image(archived.manifest, platform).await.map_err(in_archive)?;
        // Held until its names are set.
        let _rootfs = self.bring(&image).await?;
        let platform = platform.to_string();
        let mut found = LoadedImage { manifest: image.digest, id: image.manifest.config.digest, names: Vec::new(), taken: Vec::new() };
        for written in &archived.names {
            let Some(name) = written.parse::<RegistryReference>().ok().filter(|name| name.digest().is_none()) else {
                (self.observer)(PullEvent::Note(&format!("`{written}` is no name that an image can have here: left out")));
                continue;
            };
            let full = name.to_string();
            let before = self.cache.named(&full, &platform).map_err(in_cache)?.filter(|before| before.manifest != image.digest);
            let before = before.map(|before| self.cache.image_id(&before.manifest)).transpose().map_err(in_cache)?.flatten();
            found.taken.extend(before.filter(|id| *id != found.id).map(|id| (name.clone(), id)));
            self.cache.set_name(&full, &platform, &image.digest).map_err(in_cache)?;
            found.names.push(name);
        }
        Ok(found)
    }
}
