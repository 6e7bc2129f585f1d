//! Removing from the store. Everything is renamed away first, so that others see it whole or not at all; what somebody uses stays.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, statat};

use super::blobs::blob_name;
use super::builds::BUILD_FOLDERS;
use super::images::{image_name, last_used};
use super::layers::{LAYERS_IN_USE, read_meta};
use super::locks::{FileLock, Hold, is_at, try_flock};
use super::{Cache, CacheError, staging, stored_digests};
use crate::digest::Digest;

/// What [`Cache::prune`] removes. What is in use stays in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PruneScope {
    /// Only what no image needs: layers, kept blobs, left-over staging.
    Unreferenced,
    /// Also the images that are beyond these limits.
    Beyond(CacheLimits),
    /// All images too.
    Everything,
}

/// How long images stay, and how much they may take.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CacheLimits {
    /// Images that no run used for so long go.
    pub unused_for: Option<Duration>,
    /// Images go, those first that were not used for longest, until the layers and kept blobs of those that stay have no more bytes than this.
    /// One that shares all its layers with others that stay frees nothing, and so goes only when its turn comes.
    pub bytes: Option<u64>,
    /// Images that stay, whatever the other limits say.
    pub keep: BTreeSet<Digest>,
}

/// What was removed, and what could not be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Images removed.
    pub images: Vec<Digest>,
    /// Layers removed.
    pub layers: Vec<Digest>,
    /// Inflated bytes of the removed layers.
    pub bytes: u64,
    /// Kept blobs removed.
    pub blobs: Vec<Digest>,
    /// Bytes of the removed blobs.
    pub blob_bytes: u64,
    /// Images kept because a run holds them.
    pub in_use: Vec<Digest>,
    /// Set when a pull runs: then all layers and blobs are kept.
    pub pull_running: bool,
}

impl Cache {
    /// Removes an image, its names, and the layers and blobs that no image needs. One in use stays and is reported.
    pub fn remove(&self, manifest: &Digest) -> Result<Pruned, CacheError> {
        self.remove_images(&[*manifest], Results::Keep)
    }

    /// Removes what `scope` says.
    pub fn prune(&self, scope: PruneScope) -> Result<Pruned, CacheError> {
        let directory = self.directory("images")?;
        let mut images = stored_digests(directory.as_fd()).map_err(self.io("read", "images"))?;
        match scope {
            PruneScope::Unreferenced => images.clear(),
            PruneScope::Beyond(limits) => return self.prune_beyond(&limits, images, &directory),
            PruneScope::Everything => {}
        }
        self.remove_images(&images, Results::Remove)
    }

    fn prune_beyond(&self, limits: &CacheLimits, mut images: Vec<Digest>, directory: &OwnedFd) -> Result<Pruned, CacheError> {
        let now = SystemTime::now();
        images.sort_by_cached_key(|image| last_used(directory.as_fd(), image));
        let mut usage = self.usage(&images)?;
        let (mut pruned, tmp) = (Pruned::default(), self.directory("tmp")?);
        for image in images.iter().filter(|image| !limits.keep.contains(image)) {
            let unused_for = now.duration_since(last_used(directory.as_fd(), image)).unwrap_or_default();
            let is_beyond =
                limits.unused_for.is_some_and(|most| unused_for >= most) || limits.bytes.is_some_and(|most| usage.bytes() > most);
            if is_beyond && self.remove_one(image, &tmp, &mut pruned)? {
                usage.give_up(image);
            }
        }
        self.remove_unreferenced(&tmp, Results::Remove, &mut pruned)?;
        Ok(pruned)
    }

    /// Inflated bytes of all layers that images need, each counted once, and the bytes of their kept blobs.
    pub fn bytes(&self) -> Result<u64, CacheError> {
        let images = stored_digests(self.directory("images")?.as_fd()).map_err(self.io("read", "images"))?;
        Ok(self.usage(&images)?.bytes())
    }

    fn usage(&self, images: &[Digest]) -> Result<Usage, CacheError> {
        let mut usage = Usage::default();
        for image in images {
            let own = usage.images.entry(*image).or_default();
            for layer in self.layers_of(image)?.into_iter().flatten() {
                // One that stands there twice is one.
                if own.insert(layer.digest) {
                    let stored = usage.layers.entry(layer.digest).or_insert_with(|| (layer.bytes + self.blob_bytes(&layer.digest), 0));
                    stored.1 += 1;
                }
            }
        }
        Ok(usage)
    }

    fn blob_bytes(&self, blob: &Digest) -> u64 {
        let stat = statat(&self.store, blob_name(blob), AtFlags::SYMLINK_NOFOLLOW);
        stat.map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0))
    }

    fn remove_images(&self, images: &[Digest], results: Results) -> Result<Pruned, CacheError> {
        let mut pruned = Pruned::default();
        let tmp = self.directory("tmp")?;
        for image in images {
            self.remove_one(image, &tmp, &mut pruned)?;
        }
        self.remove_unreferenced(&tmp, results, &mut pruned)?;
        Ok(pruned)
    }

    /// Whether it is gone.
    fn remove_one(&self, image: &Digest, tmp: &OwnedFd, pruned: &mut Pruned) -> Result<bool, CacheError> {
        match self.remove_image(image, tmp).map_err(self.io("remove", image_name(image)))? {
            Removal::Done => pruned.images.push(*image),
            Removal::InUse => pruned.in_use.push(*image),
            Removal::Absent => {}
        }
        Ok(!pruned.in_use.contains(image))
    }

    fn remove_image(&self, image: &Digest, tmp: &OwnedFd) -> io::Result<Removal> {
        let name = image_name(image);
        let directory = match staging::open_directory(self.store.as_fd(), &name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Removal::Absent),
            opened => opened?,
        };
        if !try_flock(&directory, Hold::Exclusive)? {
            return Ok(Removal::InUse);
        }
        if !is_at(&directory, self.store.as_fd(), &name)? {
            return Ok(Removal::Absent);
        }
        let trash = staging::move_to_trash(self.store.as_fd(), &name, tmp.as_fd())?;
        // From here on it is gone; whoever waited for it finds that out.
        drop(directory);
        staging::remove_tree(tmp.as_fd(), &trash)?;
        Ok(Removal::Done)
    }

    /// Removes names, layers and blobs without an image, locks without a holder, and left-over staging; all but the last only if no pull runs.
    fn remove_unreferenced(&self, tmp: &OwnedFd, results: Results, pruned: &mut Pruned) -> Result<(), CacheError> {
        staging::sweep(tmp.as_fd()).map_err(self.io("sweep", "tmp"))?;
        let locks = self.directory("locks")?;
        let alone = FileLock::take(locks.as_fd(), LAYERS_IN_USE, Hold::Exclusive).map_err(self.io("lock", "locks"))?;
        let Some(_alone) = alone else {
            pruned.pull_running = true;
            return Ok(());
        };
        let directory = self.directory("images")?;
        let mut needed = BTreeSet::new();
        for image in stored_digests(directory.as_fd()).map_err(self.io("read", "images"))? {
            needed.extend(self.layers_of(&image)?.into_iter().flatten().map(|layer| layer.digest));
        }
        self.sort_out_builds(results, &mut needed)?;
        let layers = self.directory("layers")?;
        for layer in stored_digests(layers.as_fd()).map_err(self.io("read", "layers"))? {
            if needed.contains(&layer) {
                continue;
            }
            pruned.bytes += remove_layer(&layers, &layer, tmp).map_err(self.io("remove", format!("layers/{}", layer.hex())))?;
            pruned.layers.push(layer);
        }
        self.remove_blobs(&needed, pruned)?;
        for (file, name) in self.names()? {
            if self.layers_of(&name.manifest)?.is_none() {
                remove_file(&self.store, &file).map_err(self.io("remove", &file))?;
            }
        }
        if results == Results::Remove {
            self.remove_build_folders(tmp).map_err(self.io("remove", BUILD_FOLDERS))?;
        }
        remove_free_locks(&locks).map_err(self.io("remove", "locks"))
    }

    /// Results of builds keep their layers, or go themselves where no image needs these.
    fn sort_out_builds(&self, results: Results, needed: &mut BTreeSet<Digest>) -> Result<(), CacheError> {
        for (file, layer) in self.builds()? {
            match (results, layer) {
                (Results::Keep, layer) => needed.extend(layer),
                (Results::Remove, Some(layer)) if needed.contains(&layer) => {}
                (Results::Remove, _) => remove_file(&self.store, &file).map_err(self.io("remove", &file))?,
            }
        }
        Ok(())
    }

    /// A build that uses one holds layers, too.
    fn remove_build_folders(&self, tmp: &OwnedFd) -> io::Result<()> {
        match staging::move_to_trash(self.store.as_fd(), BUILD_FOLDERS, tmp.as_fd()) {
            Ok(trash) => staging::remove_tree(tmp.as_fd(), &trash),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whoever reads one goes on reading it.
    fn remove_blobs(&self, needed: &BTreeSet<Digest>, pruned: &mut Pruned) -> Result<(), CacheError> {
        for blob in self.kept_blobs()?.into_iter().filter(|blob| !needed.contains(blob)) {
            let (name, bytes) = (blob_name(&blob), self.blob_bytes(&blob));
            remove_file(&self.store, &name).map_err(self.io("remove", &name))?;
            pruned.blobs.push(blob);
            pruned.blob_bytes += bytes;
        }
        Ok(())
    }
}

/// What becomes of the results of builds that no image needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Results {
    Keep,
    Remove,
}

/// What images take.
#[derive(Default)]
struct Usage {
    /// Their layers.
    images: BTreeMap<Digest, BTreeSet<Digest>>,
    /// Bytes of each layer with its kept blob, and how many images have it.
    layers: BTreeMap<Digest, (u64, usize)>,
}

impl Usage {
    fn bytes(&self) -> u64 {
        self.layers.values().map(|(bytes, _)| bytes).sum()
    }

    fn give_up(&mut self, image: &Digest) {
        for layer in self.images.remove(image).unwrap_or_default() {
            if let Entry::Occupied(mut stored) = self.layers.entry(layer) {
                stored.get_mut().1 -= 1;
                if stored.get().1 == 0 {
                    stored.remove();
                }
            }
        }
    }
}

enum Removal {
    Done,
    InUse,
    Absent,
}

/// Says how many bytes it had.
fn remove_layer(layers: &OwnedFd, layer: &Digest, tmp: &OwnedFd) -> io::Result<u64> {
    let meta = read_meta(staging::open_directory(layers.as_fd(), &layer.hex())?.as_fd())?;
    let trash = staging::move_to_trash(layers.as_fd(), &layer.hex(), tmp.as_fd())?;
    staging::remove_tree(tmp.as_fd(), &trash)?;
    Ok(meta.map_or(0, |meta| meta.bytes))
}

/// Lock files of layers, but for those that are held. Who waits for one that goes makes it anew.
fn remove_free_locks(locks: &OwnedFd) -> io::Result<()> {
    for entry in Dir::read_from(locks)? {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().ok().filter(|name| !matches!(*name, "." | ".." | LAYERS_IN_USE)) else {
            continue;
        };
        if let Some(_held) = FileLock::take(locks.as_fd(), name, Hold::Exclusive)? {
            remove_file(locks, name)?;
        }
    }
    Ok(())
}

fn remove_file(directory: &OwnedFd, name: &str) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(directory, name, AtFlags::empty())?)
}
