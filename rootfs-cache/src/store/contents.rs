//! What a published layer holds, for those who build upon it.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::layers::StoredLayer;
use super::{Cache, CacheError};
use crate::rootfs::to_path;
use crate::unpack::index::{Kind, LayerIndex};

/// One name of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerEntry {
    /// Relative to the root, without `.` and `..`; empty for the root itself.
    pub path: PathBuf,
    /// Permission bits, set-id bits among them.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// What it is.
    pub kind: LayerEntryKind,
}

/// What a name of a layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerEntryKind {
    /// A folder.
    Directory,
    /// A regular file, whose content lies here on the host.
    File(PathBuf),
    /// A symlink.
    Symlink(PathBuf),
    /// A named pipe.
    Fifo,
    /// The same as this name of a lower layer.
    Link(PathBuf),
    /// Gone, with all below it.
    Removed,
    /// What lower layers have below it is gone.
    Emptied,
}

/// The names of a layer, for whoever asks about few of them.
#[derive(Debug)]
pub struct LayerNames(LayerIndex);

impl LayerNames {
    /// Names of lower layers that are gone, with all below them or but for themselves: [`LayerEntryKind::Removed`] and [`LayerEntryKind::Emptied`].
    pub fn gone(&self) -> impl Iterator<Item = (PathBuf, LayerEntryKind)> {
        let removed = self.0.whiteouts.iter().map(|bytes| (to_path(bytes.clone()), LayerEntryKind::Removed));
        removed.chain(self.0.opaque.iter().map(|bytes| (to_path(bytes.clone()), LayerEntryKind::Emptied)))
    }

    /// Folders that are not root's, with owner and group.
    pub fn folders_of_others(&self) -> impl Iterator<Item = (PathBuf, (u32, u32))> {
        let owned = self.0.nodes.iter().filter(|(_, node)| matches!(node.kind, Kind::Directory { .. }));
        owned
            .map(|(bytes, node)| (bytes, (node.attributes.uid, node.attributes.gid)))
            .filter(|(_, owner)| *owner != (0, 0))
            .map(|(bytes, owner)| (to_path(bytes.clone()), owner))
    }

    /// Whether it has a name, or one below it. The path is relative to the root.
    pub fn has(&self, path: &Path) -> bool {
        self.0.nodes.contains_key(path.as_os_str().as_bytes())
    }
}

impl Cache {
    /// The names of a layer.
    pub fn layer_names(&self, layer: &StoredLayer) -> Result<LayerNames, CacheError> {
        let name = format!("layers/{}", layer.digest().hex());
        let index = layer.index().map_err(self.io("read", &name))?;
        index.map(LayerNames).ok_or_else(|| CacheError::Damaged { path: self.path(&name) })
    }

    /// All names of a layer, sorted; a removal stands before what comes in its place.
    pub fn layer_entries(&self, layer: &StoredLayer) -> Result<Vec<LayerEntry>, CacheError> {
        let names = self.layer_names(layer)?;
        let files = self.path(format!("layers/{}", layer.digest().hex())).join("files");
        let gone: Vec<LayerEntry> = names.gone().map(|(path, kind)| LayerEntry { path, mode: 0, owner: (0, 0), kind }).collect();
        let nodes = names.0.nodes.into_iter().map(|(bytes, node)| LayerEntry {
            path: to_path(bytes),
            mode: node.attributes.mode,
            owner: (node.attributes.uid, node.attributes.gid),
            kind: match node.kind {
                Kind::Directory { .. } => LayerEntryKind::Directory,
                Kind::File(number) => LayerEntryKind::File(files.join(number.to_string())),
                Kind::Symlink(target) => LayerEntryKind::Symlink(to_path(target)),
                Kind::Fifo => LayerEntryKind::Fifo,
                Kind::LowerLink(target) => LayerEntryKind::Link(to_path(target)),
            },
        });
        let mut entries: Vec<LayerEntry> = gone.into_iter().chain(nodes).collect();
        // Stable: what is gone stays before what is there.
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }
}
