//! What a command changed: the root's changes against its image, before the command and after it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::build::layer::{Content, Entries, Entry, LayerError};
use crate::build::tree::{Node, Tree};
use crate::writable::{ChangeKind, WritableError, WritableRoot};

/// What tells one state of a file from another: any write changes the last of them.
type Look = (u64, u64, u32, u64, (i64, i64));

/// What differed from the image at some time.
pub(super) struct Snapshot {
    present: BTreeMap<PathBuf, (Look, PathBuf)>,
    removed: BTreeSet<PathBuf>,
}

/// Why it is not known what a command changed.
pub(super) enum DeltaError {
    Root(WritableError),
    Layer(LayerError),
}

impl Snapshot {
    pub(super) fn take(root: &WritableRoot) -> Result<Self, DeltaError> {
        let mut snapshot = Self { present: BTreeMap::new(), removed: BTreeSet::new() };
        for change in root.changes().map_err(DeltaError::Root)? {
            match change.kind {
                ChangeKind::Removed => {
                    snapshot.removed.insert(change.path);
                }
                ChangeKind::Present { on_host } => {
                    let look = look(&on_host).map_err(|source| cannot_read(&on_host, source))?;
                    snapshot.present.insert(change.path, (look, on_host));
                }
            }
        }
        Ok(snapshot)
    }

    /// The layer that leads from the state before to this one; `tree` is how it was before.
    pub(super) fn since(&self, before: &Self, tree: &Tree) -> Result<Entries, DeltaError> {
        let mut entries = Entries::new();
        let mut links: HashMap<(u64, u64), PathBuf> = HashMap::new();
        for (path, (look, on_host)) in &self.present {
            if before.present.get(path).is_some_and(|(known, _)| known == look) {
                continue;
            }
            if let Some(entry) = entry(path, on_host, tree, &mut links)? {
                entries.insert(path.clone(), entry);
            }
        }
        let gone = before.present.keys().filter(|path| !self.present.contains_key(*path));
        for path in gone.chain(self.removed.difference(&before.removed)) {
            if self.is_told(path, &entries) || !was_there(path, tree)? {
                continue;
            }
            entries.insert(path.clone(), Entry { content: Content::Removed, mode: 0, owner: (0, 0) });
        }
        Ok(entries)
    }

    /// Whether something above a path, or the path itself, says already that what was there is not there any more.
    fn is_told(&self, path: &Path, entries: &Entries) -> bool {
        let replaced = |above: &Path| entries.get(above).is_some_and(|entry| entry.content != Content::Directory);
        entries.contains_key(path) || path.ancestors().skip(1).any(replaced)
    }
}

fn was_there(path: &Path, tree: &Tree) -> Result<bool, DeltaError> {
    tree.node(path).map(|node| node.is_some()).map_err(|source| cannot_read(path, source))
}

fn entry(path: &Path, on_host: &Path, tree: &Tree, links: &mut HashMap<(u64, u64), PathBuf>) -> Result<Option<Entry>, DeltaError> {
    let metadata = std::fs::symlink_metadata(on_host).map_err(|source| cannot_read(on_host, source))?;
    let mode = metadata.mode() & 0o7777;
    let content = match metadata.mode() & libc::S_IFMT {
        libc::S_IFDIR => {
            // What is in a folder that was there is told by itself.
            let known = tree.node(path).map_err(|source| cannot_read(path, source))?;
            if known == Some(Node::Directory(mode)) {
                return Ok(None);
            }
            Content::Directory
        }
        libc::S_IFREG if metadata.nlink() > 1 => match links.get(&(metadata.dev(), metadata.ino())) {
            Some(first) => Content::Link(first.clone()),
            None => {
                links.insert((metadata.dev(), metadata.ino()), path.to_owned());
                Content::File(on_host.to_owned())
            }
        },
        libc::S_IFREG => Content::File(on_host.to_owned()),
        libc::S_IFLNK => Content::Symlink(std::fs::read_link(on_host).map_err(|source| cannot_read(on_host, source))?),
        libc::S_IFIFO => Content::Fifo,
        // Sockets are nobody's content.
        _ => return Ok(None),
    };
    Ok(Some(Entry { content, mode, owner: (0, 0) }))
}

fn look(path: &Path) -> io::Result<Look> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino(), metadata.mode(), metadata.size(), (metadata.ctime(), metadata.ctime_nsec())))
}

fn cannot_read(path: &Path, source: io::Error) -> DeltaError {
    DeltaError::Layer(LayerError::Read { path: path.to_owned(), source })
}
