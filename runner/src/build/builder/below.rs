//! What the layers of a stage's image tell, and its tree on disk does not: who owns its folders, and which names in it are only mount points of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rootfs_cache::manifest::Descriptor;
use rootfs_cache::rootfs::{MOUNT_POINTS, Rootfs};
use rootfs_cache::store::{Cache, LayerEntryKind, LayerNames};

use crate::build::layer::LayerError;
use crate::build::tree::Tree;

/// What only layers tell.
#[derive(Debug, Default)]
pub(super) struct Below {
    /// Folders that are not root's.
    owners: BTreeMap<PathBuf, (u32, u32)>,
    /// Names that no layer has: see [`MOUNT_POINTS`].
    ours: BTreeSet<PathBuf>,
}

impl Below {
    /// Of an image in the cache.
    pub(super) fn read(cache: &Cache, rootfs: &Rootfs, layers: &[Descriptor]) -> Result<Self, LayerError> {
        let mut below = Self { owners: BTreeMap::new(), ours: places(rootfs) };
        let places = below.ours.clone();
        for layer in layers {
            // A layer that is not there any more tells nothing: the image's own tree is all that is known then.
            let Some(layer) = cache.layer(&layer.digest).map_err(LayerError::Cache)? else { return Ok(Self::default()) };
            below.add(&cache.layer_names(&layer).map_err(LayerError::Cache)?, &places);
        }
        Ok(below)
    }

    fn add(&mut self, names: &LayerNames, places: &BTreeSet<PathBuf>) {
        for (path, kind) in names.gone() {
            let stays = |known: &Path| !known.starts_with(&path) || kind == LayerEntryKind::Emptied && known == path;
            self.owners.retain(|known, _| stays(known));
            self.ours.extend(places.iter().filter(|place| !stays(place)).cloned());
        }
        self.owners.retain(|known, _| !names.has(known));
        self.owners.extend(names.folders_of_others());
        self.ours.retain(|place| !names.has(place));
    }

    /// The image's tree as its layers have it.
    pub(super) fn tree(&self, rootfs: &Rootfs) -> Tree {
        Tree::over_image(rootfs.path().to_owned(), self.ours.clone(), self.owners.clone())
    }
}

/// What is in every tree on disk, whether an image has it or not.
fn places(rootfs: &Rootfs) -> BTreeSet<PathBuf> {
    let working_dir = rootfs.config().working_dir.as_deref().map(|path| path.trim_start_matches('/'));
    let paths = MOUNT_POINTS.iter().map(|(path, _)| *path).chain(working_dir).map(Path::new);
    paths.flat_map(Path::ancestors).filter(|path| !path.as_os_str().is_empty()).map(Path::to_owned).collect()
}
