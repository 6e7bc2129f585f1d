//! What a published layer holds, for those who build upon it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::layers::StoredLayer;
use super::{Cache, CacheError};
use crate::unpack::index::Kind;

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

impl Cache {
    /// All names of a layer, sorted; a removal stands before what comes in its place.
    pub fn layer_entries(&self, layer: &StoredLayer) -> Result<Vec<LayerEntry>, CacheError> {
        let name = format!("layers/{}", layer.digest().hex());
        let index = layer.index().map_err(self.io("read", &name))?.ok_or_else(|| CacheError::Damaged { path: self.path(&name) })?;
        let files = self.path(&name).join("files");
        let path = |bytes: Vec<u8>| PathBuf::from(OsString::from_vec(bytes));
        let gone = |bytes: Vec<u8>, kind| LayerEntry { path: path(bytes), mode: 0, owner: (0, 0), kind };
        let removed = index.whiteouts.into_iter().map(|bytes| gone(bytes, LayerEntryKind::Removed));
        let emptied = index.opaque.into_iter().map(|bytes| gone(bytes, LayerEntryKind::Emptied));
        let nodes = index.nodes.into_iter().map(|(bytes, node)| LayerEntry {
            path: path(bytes),
            mode: node.attributes.mode,
            owner: (node.attributes.uid, node.attributes.gid),
            kind: match node.kind {
                Kind::Directory { .. } => LayerEntryKind::Directory,
                Kind::File(number) => LayerEntryKind::File(files.join(number.to_string())),
                Kind::Symlink(target) => LayerEntryKind::Symlink(path(target)),
                Kind::Fifo => LayerEntryKind::Fifo,
                Kind::LowerLink(target) => LayerEntryKind::Link(path(target)),
            },
        });
        let mut entries: Vec<LayerEntry> = removed.chain(emptied).chain(nodes).collect();
        // Stable: what is gone stays before what is there.
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }
}
