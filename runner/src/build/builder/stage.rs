//! A stage on its way: the image so far, its layers, and the root its commands run in.

use std::cell::OnceCell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rootfs_cache::digest::Digest;
use rootfs_cache::manifest::Descriptor;
use rootfs_cache::reference::Platform;
use rootfs_cache::rootfs::Rootfs;
use rootfs_cache::store::{Cache, LayerEntry, LayerEntryKind};

use super::below::Below;
use super::{spec_of, start_key, time};
use crate::build::config::ImageSpec;
use crate::build::layer::{Content, Entries, Entry, LayerError, MadeLayer};
use crate::build::tree::{Node, Tree};
use crate::exit_code::Failure;
use crate::writable::{WritableError, WritableRoot};

/// A stage on its way.
pub(super) struct StageBuild {
    /// The config so far.
    pub(super) spec: ImageSpec,
    /// Stands for all steps so far.
    pub(super) key: Digest,
    /// The image it starts from; none for `scratch`.
    base: Option<Rc<Rootfs>>,
    base_layers: Vec<Descriptor>,
    /// What its layers tell, once somebody asked.
    below: OnceCell<Rc<Below>>,
    made: Vec<Rc<MadeLayer>>,
    /// What it looks like, and how many of the layers made here that shows.
    tree: Option<(Tree, usize)>,
    /// Where its commands run, and how many of the layers made here are in it.
    root: Option<(WritableRoot, usize)>,
}

impl StageBuild {
    pub(super) fn scratch(platform: &Platform, epoch: u64) -> Self {
        let spec = ImageSpec::scratch(platform, time(epoch));
        Self {
            spec,
            key: start_key("scratch", platform, epoch),
            base: None,
            base_layers: Vec::new(),
            below: OnceCell::new(),
            made: Vec::new(),
            tree: None,
            root: None,
        }
    }

    pub(super) fn of_image(rootfs: Rootfs, cache: &Cache, platform: &Platform, epoch: u64) -> Result<Self, Failure> {
        let (spec, id, base_layers) = spec_of(cache, &rootfs, epoch)?;
        let key = start_key(&id.hex(), platform, epoch);
        let base = Some(Rc::new(rootfs));
        Ok(Self { spec, key, base, base_layers, below: OnceCell::new(), made: Vec::new(), tree: None, root: None })
    }

    /// A stage that starts from another one.
    pub(super) fn upon(other: &Self) -> Self {
        Self {
            spec: other.spec.continued(),
            key: other.key,
            base: other.base.clone(),
            base_layers: other.base_layers.clone(),
            below: other.below.clone(),
            made: other.made.clone(),
            tree: None,
            root: None,
        }
    }

    /// All its layers, bottom first.
    pub(super) fn descriptors(&self) -> Vec<Descriptor> {
        self.base_layers.iter().cloned().chain(self.made.iter().map(|layer| layer.descriptor())).collect()
    }

    /// A step was done.
    pub(super) fn took(&mut self, key: Digest, created_by: &str, layer: Option<MadeLayer>) {
        self.key = key;
        self.spec.done(created_by, layer.as_ref().map(|layer| &layer.built.diff_id));
        self.made.extend(layer.map(Rc::new));
    }

    /// No command runs in it any more.
    pub(super) fn close(&mut self) {
        self.root = None;
    }

    /// What it looks like now.
    pub(super) fn tree(&mut self, cache: &Cache) -> Result<&Tree, LayerError> {
        let (mut tree, seen) = match self.tree.take() {
            Some(known) => known,
            None => (self.base_tree(cache)?, 0),
        };
        add_layers(&mut tree, cache, &self.made[seen..])?;
        Ok(&self.tree.insert((tree, self.made.len())).0)
    }

    /// The same, of a stage that is done.
    pub(super) fn tree_when_done(&self, cache: &Cache) -> Result<Tree, LayerError> {
        let mut tree = self.base_tree(cache)?;
        add_layers(&mut tree, cache, &self.made)?;
        Ok(tree)
    }

    fn base_tree(&self, cache: &Cache) -> Result<Tree, LayerError> {
        let Some(base) = &self.base else { return Ok(Tree::default()) };
        let below = match self.below.get() {
            Some(below) => below.clone(),
            None => {
                let below = Rc::new(Below::read(cache, base, &self.base_layers)?);
                self.below.get_or_init(|| below).clone()
            }
        };
        Ok(below.tree(base))
    }

    /// The entries with the folders that lead to them: docker unpacks a layer by itself, and a folder of which the layer says nothing is root's there, with
    /// mode 755, whatever layers below it say.
    pub(super) fn with_folders(&mut self, cache: &Cache, mut entries: Entries) -> Result<Entries, LayerError> {
        let tree = self.tree(cache)?;
        let above = entries.keys().flat_map(|path| path.ancestors().skip(1)).filter(|path| !path.as_os_str().is_empty());
        let missing: Vec<PathBuf> = above.filter(|path| !entries.contains_key(*path)).map(Path::to_owned).collect();
        for path in missing {
            let mode = match tree.node(&path).map_err(|source| LayerError::Read { path: path.clone(), source })? {
                Some(Node::Directory(mode)) => mode,
                None => 0o755,
                Some(_) => continue,
            };
            let owner = tree.owner(&path);
            entries.insert(path, Entry { content: Content::Directory, mode, owner });
        }
        Ok(entries)
    }

    /// Where its commands run, with all layers so far. `None` where there is no image below.
    pub(super) fn root(&mut self, cache: &Cache) -> Result<Option<&mut WritableRoot>, RootError> {
        let Some(base) = &self.base else { return Ok(None) };
        if self.root.is_none() {
            let rootfs = cache.image(base.manifest_digest()).map_err(|error| RootError::Layer(LayerError::Cache(error)))?;
            let rootfs = rootfs.ok_or(RootError::Layer(LayerError::Write(io::ErrorKind::NotFound.into())))?;
            self.root = Some((WritableRoot::temporary(rootfs, cache.root()).map_err(RootError::Root)?, 0));
        }
        let Some((root, applied)) = &mut self.root else { return Ok(None) };
        for layer in &self.made[*applied..] {
            let entries = cache.layer_entries(&layer.stored).map_err(|error| RootError::Layer(LayerError::Cache(error)))?;
            entries.into_iter().try_for_each(|entry| apply(root, entry))?;
        }
        *applied = self.made.len();
        Ok(Some(root))
    }

    /// The layer that was made last came from the root itself.
    pub(super) fn root_has_all(&mut self) {
        if let Some((_, applied)) = &mut self.root {
            *applied = self.made.len();
        }
    }
}

fn add_layers(tree: &mut Tree, cache: &Cache, layers: &[Rc<MadeLayer>]) -> Result<(), LayerError> {
    for layer in layers {
        tree.add_layer(cache.layer_entries(&layer.stored).map_err(LayerError::Cache)?).map_err(LayerError::Write)?;
    }
    Ok(())
}

/// Why there is no root to run in.
pub(super) enum RootError {
    Layer(LayerError),
    Root(WritableError),
}

/// Writes an entry of a layer into a root.
fn apply(root: &WritableRoot, LayerEntry { path, mode, kind, .. }: LayerEntry) -> Result<(), RootError> {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    let done = match kind {
        LayerEntryKind::Removed => root.remove_path(&path),
        LayerEntryKind::Directory => root.make_dir(&path, mode),
        LayerEntryKind::Symlink(target) => root.put_link(&path, &target),
        LayerEntryKind::File(content) => {
            let mut file = std::fs::File::open(&content).map_err(|source| RootError::Layer(LayerError::Read { path: content, source }))?;
            root.put(&path, &mut file, mode)
        }
        // What is made here has none of these, but for pipes, which no later step reads.
        LayerEntryKind::Link(_) | LayerEntryKind::Emptied | LayerEntryKind::Fifo => Ok(()),
    };
    done.map_err(RootError::Root)
}

/// Whether a path is a folder in a tree.
pub(super) fn is_folder(tree: &Tree, path: &Path) -> io::Result<bool> {
    Ok(matches!(tree.node(path)?, Some(Node::Directory(_))))
}
