//! Merges the indexes of an image's layers as overlayfs would merge their trees. Pure.
//!
//! Directories merge and the upper one's attributes win; anything else replaces what is below it, with all that lies under it; whiteouts and opaque marks hide
//! lower layers only. <https://docs.kernel.org/filesystems/overlayfs.html>

use std::collections::BTreeMap;

use crate::rootfs::Stub;
use crate::unpack::index::{Attributes, Kind, LayerIndex, Node, parent, remove_below};
use crate::unpack::tar::Mtime;

/// How many symlinks a path may lead through, as the kernel has it.
const SYMLINKS_MAX: usize = 40;

/// What a name of the tree is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TreeNode {
    Directory {
        attributes: Attributes,
        xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    },
    /// A link to a file of a layer.
    File {
        layer: usize,
        number: u64,
    },
    Symlink {
        target: Vec<u8>,
        mtime: Mtime,
    },
    Fifo {
        attributes: Attributes,
    },
    /// An empty file of this tree's own.
    Empty,
}

/// A hard link to a name that is not in the tree.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LostLink {
    pub(super) layer: usize,
    pub(super) path: Vec<u8>,
    pub(super) target: Vec<u8>,
}

/// A whole tree: names as in [`LayerIndex`], the root among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tree(pub(super) BTreeMap<Vec<u8>, TreeNode>);

impl Tree {
    /// A tree with nothing in it but its root.
    pub(super) fn new() -> Self {
        Self(BTreeMap::from([(Vec::new(), plain_directory())]))
    }

    /// Puts a layer on top; `number` tells its files from other layers'.
    pub(super) fn add_layer(&mut self, number: usize, layer: LayerIndex) -> Result<(), LostLink> {
        for path in &layer.whiteouts {
            self.remove(path);
        }
        for path in &layer.opaque {
            remove_below(&mut self.0, path);
        }
        let mut links = Vec::new();
        for (path, Node { attributes, kind }) in layer.nodes {
            let node = match kind {
                Kind::Directory { xattrs } => TreeNode::Directory { attributes, xattrs },
                Kind::File(file) => TreeNode::File { layer: number, number: file },
                Kind::Symlink(target) => TreeNode::Symlink { target, mtime: attributes.mtime },
                Kind::Fifo => TreeNode::Fifo { attributes },
                Kind::LowerLink(target) => {
                    links.push((path, target));
                    continue;
                }
            };
            self.put(path, node);
        }
        // Their targets are seen through all layers, so they come last.
        for (path, target) in links {
            match self.0.get(&target) {
                None | Some(TreeNode::Directory { .. }) => {
                    return Err(LostLink { layer: number, path, target });
                }
                Some(node) => self.put(path, node.clone()),
            }
        }
        Ok(())
    }

    /// Makes sure of a mount point: what `path` leads to inside the tree stays if it is of the stub's kind. Otherwise the first name on the way that leads to
    /// nothing usable is replaced, and the rest made.
    pub(super) fn ensure(&mut self, path: &[u8], stub: Stub) {
        let mut directory = Vec::new();
        let mut names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".").peekable();
        while let Some(name) = names.next() {
            if name == b".." {
                directory.truncate(parent(&directory).map_or(0, <[u8]>::len));
                continue;
            }
            let wanted = if names.peek().is_some() { Stub::Directory } else { stub };
            let place = join(&directory, name);
            directory = match self.resolve(&directory, name) {
                Some(found) if self.is(&found, wanted) => found,
                // The link itself is what is wanted, wherever it leads.
                _ if matches!(wanted, Stub::Symlink(_)) && self.0.contains_key(&place) => return,
                _ => {
                    self.put(place.clone(), stub_node(wanted));
                    place
                }
            };
        }
    }

    /// Where `name` in `directory` leads when symlinks are followed inside the tree; `None` if it leads nowhere.
    fn resolve(&self, directory: &[u8], name: &[u8]) -> Option<Vec<u8>> {
        let mut at = directory.to_vec();
        // Names still to be walked, the next one last.
        let mut rest = vec![name.to_vec()];
        let mut symlinks = 0;
        while let Some(name) = rest.pop() {
            if name.is_empty() || name == b"." {
                continue;
            }
            if name == b".." {
                at.truncate(parent(&at).map_or(0, <[u8]>::len));
                continue;
            }
            let place = join(&at, &name);
            match self.0.get(&place)? {
                TreeNode::Symlink { target, .. } => {
                    symlinks += 1;
                    if symlinks > SYMLINKS_MAX {
                        return None;
                    }
                    if target.starts_with(b"/") {
                        at.clear();
                    }
                    rest.extend(target.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec));
                }
                TreeNode::Directory { .. } => at = place,
                _ if rest.is_empty() => at = place,
                _ => return None,
            }
        }
        Some(at)
    }

    fn is(&self, path: &[u8], wanted: Stub) -> bool {
        match self.0.get(path) {
            Some(TreeNode::Directory { .. }) => wanted == Stub::Directory,
            Some(TreeNode::File { .. } | TreeNode::Empty) => wanted == Stub::File,
            _ => false,
        }
    }

    /// Puts `node` at `path`. A directory over a directory keeps what is in it.
    fn put(&mut self, path: Vec<u8>, node: TreeNode) {
        let replaced = self.0.insert(path.clone(), node);
        let is_directory = matches!(self.0.get(&path), Some(TreeNode::Directory { .. }));
        if matches!(replaced, Some(TreeNode::Directory { .. })) && !is_directory {
            remove_below(&mut self.0, &path);
        }
    }

    fn remove(&mut self, path: &[u8]) {
        if let Some(TreeNode::Directory { .. }) = self.0.remove(path) {
            remove_below(&mut self.0, path);
        }
    }
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

fn plain_directory() -> TreeNode {
    let attributes = Attributes { mode: 0o755, uid: 0, gid: 0, mtime: Mtime::default() };
    TreeNode::Directory { attributes, xattrs: Vec::new() }
}

fn stub_node(stub: Stub) -> TreeNode {
    match stub {
        Stub::Directory => plain_directory(),
        Stub::File => TreeNode::Empty,
        Stub::Symlink(target) => TreeNode::Symlink { target: target.as_bytes().to_vec(), mtime: Mtime::default() },
    }
}

#[cfg(test)]
mod tests;
