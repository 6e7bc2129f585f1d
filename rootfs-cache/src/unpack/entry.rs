//! Decides what each entry of a layer means. Pure: no file is looked at, so a layer's own symlinks cannot mislead anyone.
//!
//! The rules are those of the OCI layer format as dockerd and overlayfs read it.
//! <https://github.com/opencontainers/image-spec/blob/main/layer.md>

use super::index::{Attributes, Kind, LayerIndex, Node, parent, remove_below};
use super::tar::{Entry, EntryKind, Mtime};

const PATH_MAX: usize = 4096;
const NAME_MAX: usize = 255;
const DEPTH_MAX: usize = 256;
const WHITEOUT: &[u8] = b".wh.";
/// Marks of the aufs driver. Only the opaque one is part of the layer format.
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Files by which lazily pulled images are told; not part of the image.
const LAZY_PULL_MARKS: [&[u8]; 3] = [b"stargz.index.json", b".prefetch.landmark", b".no.prefetch.landmark"];

/// Why an entry is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EntryError {
    /// The path climbs.
    #[error("its path holds `..`")]
    DotDot,
    /// The path holds a NUL byte.
    #[error("its path holds a NUL byte")]
    Nul,
    /// There is no path.
    #[error("its path is empty")]
    Empty,
    /// The path is too long in some respect.
    #[error("its {what} exceeds {most}")]
    TooLong {
        /// `path`, `file name`, `depth`.
        what: &'static str,
        /// How much is allowed.
        most: usize,
    },
    /// A whiteout that names nothing that could be hidden, or has entries below it.
    #[error("no whiteout can have this name")]
    Whiteout,
    /// Something above the path is no directory in this layer.
    #[error("`{above}` above it is a {kind} in the same layer")]
    NotInDirectory {
        /// The path of what is no directory.
        above: String,
        /// `symlink`, `file` ...
        kind: &'static str,
    },
    /// The layer makes its root something else.
    #[error("the root must be a directory")]
    Root,
    /// The link's target is no path within the image.
    #[error("its link target is not acceptable")]
    LinkTarget(#[source] Box<EntryError>),
    /// A hard link to a directory, or to itself.
    #[error("a hard link must lead to another file")]
    LinkToNoFile,
}

/// What the writer has to do about an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing: it is all in the index, or left out.
    Index,
    /// Store the data under this number.
    Store(u64),
    /// Count a device node that was left out.
    SkipDevice,
}

/// Builds a layer's index entry by entry.
#[derive(Debug, Default)]
pub(crate) struct LayerBuilder {
    index: LayerIndex,
    files: u64,
    /// The directory that was found in order last: entries come in runs of one directory.
    last_parent: Option<Vec<u8>>,
}

impl LayerBuilder {
    /// Takes one entry in. The last one of a name wins; directories merge.
    pub(crate) fn add(&mut self, entry: Entry) -> Result<Action, EntryError> {
        let path = normalise(&entry.path)?;
        if path.is_empty() && entry.kind != EntryKind::Directory {
            return Err(EntryError::Root);
        }
        let name = Name::of(&path)?;
        if matches!(name, Name::Ignored) {
            return Ok(Action::Index);
        }
        self.ensure_parent(&path, entry.mtime)?;
        match name {
            Name::Ordinary => return self.add_ordinary(path, entry),
            Name::Whiteout(hidden) => self.index.whiteouts.insert(hidden),
            Name::Opaque(directory) => self.index.opaque.insert(directory),
            Name::Ignored => false,
        };
        Ok(Action::Index)
    }

    fn add_ordinary(&mut self, path: Vec<u8>, entry: Entry) -> Result<Action, EntryError> {
        let attributes = Attributes { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime };
        let kind = match entry.kind {
            EntryKind::File => Kind::File(self.files),
            EntryKind::Directory => Kind::Directory { xattrs: kept_xattrs(entry.xattrs) },
            EntryKind::Symlink { target } => Kind::Symlink(symlink_target(target)?),
            EntryKind::Fifo => Kind::Fifo,
            EntryKind::HardLink { target } => {
                if let Some(node) = self.hard_link(&path, &target, attributes)? {
                    self.put(path, node);
                }
                return Ok(Action::Index);
            }
            EntryKind::Device => {
                // What it stands for is gone, though it cannot be there itself.
                self.remove(&path);
                self.index.whiteouts.insert(path);
                return Ok(Action::SkipDevice);
            }
        };
        let stored = matches!(kind, Kind::File(_));
        self.put(path, Node { attributes, kind });
        if !stored {
            return Ok(Action::Index);
        }
        self.files += 1;
        Ok(Action::Store(self.files - 1))
    }

    /// Puts `node` at `path`. A directory over a directory keeps what is in it.
    fn put(&mut self, path: Vec<u8>, node: Node) {
        if !matches!(node.kind, Kind::Directory { .. }) {
            self.remove(&path);
        }
        self.index.nodes.insert(path, node);
    }

    /// The index, and for every file stored whether a name still leads to it.
    pub(crate) fn finish(self) -> (LayerIndex, Vec<bool>) {
        let mut live = vec![false; self.files as usize];
        for node in self.index.nodes.values() {
            if let Kind::File(number) = node.kind {
                live[number as usize] = true;
            }
        }
        (self.index, live)
    }

    /// What a hard link becomes; `None` if it is there already.
    fn hard_link(&self, path: &[u8], target: &[u8], attributes: Attributes) -> Result<Option<Node>, EntryError> {
        let target = normalise(target).map_err(|error| EntryError::LinkTarget(Box::new(error)))?;
        match self.index.nodes.get(&target) {
            Some(Node { kind: Kind::Directory { .. }, .. }) => Err(EntryError::LinkToNoFile),
            Some(_) if target == path => Ok(None),
            Some(node) => Ok(Some(node.clone())),
            None if target == path || target.is_empty() => Err(EntryError::LinkToNoFile),
            None => {
                self.check_above(&target).map_err(|error| EntryError::LinkTarget(Box::new(error)))?;
                Ok(Some(Node { attributes, kind: Kind::LowerLink(target) }))
            }
        }
    }

    fn remove(&mut self, path: &[u8]) {
        if let Some(Node { kind: Kind::Directory { .. }, .. }) = self.index.nodes.remove(path) {
            remove_below(&mut self.index.nodes, path);
            self.last_parent = None;
        }
    }

    /// Sees to it that everything above `path` is a directory. What the layer left out is made as dockerd does, with mode 755.
    fn ensure_parent(&mut self, path: &[u8], mtime: Mtime) -> Result<(), EntryError> {
        let Some(parent) = parent(path).filter(|parent| !parent.is_empty()) else {
            return Ok(());
        };
        if self.last_parent.as_deref() == Some(parent) {
            return Ok(());
        }
        self.check_above(path)?;
        for directory in above(path) {
            if !self.index.nodes.contains_key(directory) {
                let attributes = Attributes { mode: 0o755, uid: 0, gid: 0, mtime };
                self.index.nodes.insert(directory.to_vec(), Node { attributes, kind: Kind::Directory { xattrs: Vec::new() } });
            }
        }
        self.last_parent = Some(parent.to_vec());
        Ok(())
    }

    /// Refuses a path that leads through anything but directories of this layer.
    fn check_above(&self, path: &[u8]) -> Result<(), EntryError> {
        for directory in above(path) {
            let kind = match self.index.nodes.get(directory).map(|node| &node.kind) {
                None => return Ok(()),
                Some(Kind::Directory { .. }) => continue,
                Some(Kind::Symlink(_)) => "symlink",
                Some(Kind::File(_) | Kind::LowerLink(_)) => "file",
                Some(Kind::Fifo) => "fifo",
            };
            return Err(EntryError::NotInDirectory { above: String::from_utf8_lossy(directory).into_owned(), kind });
        }
        Ok(())
    }
}

/// The directories above `path`, topmost first, without the root.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(slash, _)| &path[..slash])
}

/// What a name means in a layer.
enum Name {
    Ordinary,
    Ignored,
    Whiteout(Vec<u8>),
    Opaque(Vec<u8>),
}

impl Name {
    fn of(path: &[u8]) -> Result<Self, EntryError> {
        if LAZY_PULL_MARKS.contains(&path) || path.split(|&byte| byte == b'/').any(|name| name.starts_with(AUFS) && name != OPAQUE) {
            return Ok(Self::Ignored);
        }
        let directory = parent(path).unwrap_or_default();
        if directory.split(|&byte| byte == b'/').any(|name| name.starts_with(WHITEOUT)) {
            return Err(EntryError::Whiteout);
        }
        let name = if directory.is_empty() { path } else { &path[directory.len() + 1..] };
        if name == OPAQUE {
            return Ok(Self::Opaque(directory.to_vec()));
        }
        match name.strip_prefix(WHITEOUT) {
            None => Ok(Self::Ordinary),
            Some(b"" | b"." | b"..") => Err(EntryError::Whiteout),
            Some(hidden) if directory.is_empty() => Ok(Self::Whiteout(hidden.to_vec())),
            Some(hidden) => Ok(Self::Whiteout([directory, b"/", hidden].concat())),
        }
    }
}

/// A path as the index has it. Absolute ones are meant from the image's root.
fn normalise(raw: &[u8]) -> Result<Vec<u8>, EntryError> {
    if raw.is_empty() {
        return Err(EntryError::Empty);
    }
    if raw.contains(&0) {
        return Err(EntryError::Nul);
    }
    let names: Vec<&[u8]> = raw.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
    if names.iter().any(|name| *name == b"..") {
        return Err(EntryError::DotDot);
    }
    let path = names.join(&b'/');
    let too_long = [
        ("path", path.len(), PATH_MAX),
        ("file name", names.iter().map(|name| name.len()).max().unwrap_or(0), NAME_MAX),
        ("depth", names.len(), DEPTH_MAX),
    ];
    match too_long.into_iter().find(|(_, length, most)| length > most) {
        Some((what, _, most)) => Err(EntryError::TooLong { what, most }),
        None => Ok(path),
    }
}

/// Any target will do that the kernel takes: it is resolved in the sandbox, inside the image's root.
fn symlink_target(target: Vec<u8>) -> Result<Vec<u8>, EntryError> {
    let reason = match &target[..] {
        b"" => EntryError::Empty,
        target if target.contains(&0) => EntryError::Nul,
        target if target.len() >= PATH_MAX => EntryError::TooLong { what: "path", most: PATH_MAX - 1 },
        _ => return Ok(target),
    };
    Err(EntryError::LinkTarget(Box::new(reason)))
}

/// The extended attributes that an image may set: not those by which it would grant itself something, nor those that steer an overlay.
pub(crate) fn kept_xattrs(mut xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    xattrs.retain(|(name, _)| name.starts_with(b"user.") && !name.starts_with(b"user.overlay.") && !name.contains(&0));
    xattrs
}

#[cfg(test)]
mod tests;
