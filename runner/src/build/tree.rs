//! A tree of files as a build sees it: a folder of this machine, with what layers changed over it. Only looked at, never written to.
//!
//! Paths are relative to the root, without `.` and `..`. Symlinks lead within the root: nothing outside is ever looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rootfs_cache::store::{LayerEntry, LayerEntryKind};

/// As many symlinks as Linux follows.
const LINKS_MAX: usize = 40;

/// What a name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A folder, with its mode.
    Directory(u32),
    /// A regular file: where its content lies on the host, and its mode.
    File(PathBuf, u32),
    /// A symlink.
    Symlink(PathBuf),
    /// A named pipe, with its mode.
    Fifo(u32),
}

/// What layers made of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Present(Node),
    /// A folder of which nothing below comes from the base.
    Anew(u32),
    Gone,
}

/// A tree of files.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    base: Option<PathBuf>,
    /// Names in the base that are not seen.
    hidden: BTreeSet<PathBuf>,
    /// Owner and group of folders that are not root's.
    owners: BTreeMap<PathBuf, (u32, u32)>,
    changes: BTreeMap<PathBuf, Change>,
}

impl Tree {
    /// A folder of this machine; nothing at all without one.
    pub fn over(base: Option<PathBuf>) -> Self {
        Self { base, ..Self::default() }
    }

    /// An image's folder, without names that are not the image's, and with the owners that its folders have in it.
    pub fn over_image(base: PathBuf, hidden: BTreeSet<PathBuf>, owners: BTreeMap<PathBuf, (u32, u32)>) -> Self {
        Self { base: Some(base), hidden, owners, changes: BTreeMap::new() }
    }

    /// Lays a layer over it.
    pub fn add_layer(&mut self, entries: Vec<LayerEntry>) -> io::Result<()> {
        for LayerEntry { path, mode, kind, owner } in entries {
            match kind {
                LayerEntryKind::Removed => {
                    self.forget(&path);
                    self.changes.insert(path, Change::Gone);
                }
                LayerEntryKind::Emptied => {
                    let mode = self.directory_mode(&path)?.unwrap_or(0o755);
                    self.forget(&path);
                    self.changes.insert(path, Change::Anew(mode));
                }
                LayerEntryKind::Directory => {
                    self.add_directory(path.clone(), mode);
                    self.owners.insert(path, owner);
                }
                LayerEntryKind::File(content) => self.put(path, Node::File(content, mode)),
                LayerEntryKind::Symlink(target) => self.put(path, Node::Symlink(target)),
                LayerEntryKind::Fifo => self.put(path, Node::Fifo(mode)),
                LayerEntryKind::Link(target) => {
                    if let Some(node) = self.node(&target)? {
                        self.put(path, node);
                    }
                }
            }
        }
        Ok(())
    }

    fn add_directory(&mut self, path: PathBuf, mode: u32) {
        let is_anew = match self.changes.get(&path) {
            Some(Change::Present(Node::Directory(_))) => false,
            Some(_) => true,
            None => false,
        };
        if is_anew && !matches!(self.changes.get(&path), Some(Change::Anew(_))) {
            self.forget(&path);
        }
        self.changes.insert(path, if is_anew { Change::Anew(mode) } else { Change::Present(Node::Directory(mode)) });
    }

    fn put(&mut self, path: PathBuf, node: Node) {
        self.forget(&path);
        self.changes.insert(path, Change::Present(node));
    }

    /// Forgets what layers made of a name and of all below it.
    fn forget(&mut self, path: &Path) {
        remove_at(&mut self.changes, path);
        remove_at(&mut self.owners, path);
    }

    /// Owner and group of a folder.
    pub fn owner(&self, folder: &Path) -> (u32, u32) {
        self.owners.get(folder).copied().unwrap_or((0, 0))
    }

    fn directory_mode(&self, path: &Path) -> io::Result<Option<u32>> {
        Ok(match self.node(path)? {
            Some(Node::Directory(mode)) => Some(mode),
            _ => None,
        })
    }

    /// What is at a path whose folders are real ones.
    pub fn node(&self, path: &Path) -> io::Result<Option<Node>> {
        match self.changes.get(path) {
            Some(Change::Present(node)) => return Ok(Some(node.clone())),
            Some(Change::Anew(mode)) => return Ok(Some(Node::Directory(*mode))),
            Some(Change::Gone) => return Ok(None),
            None => {}
        }
        if path.as_os_str().is_empty() && self.base.is_none() {
            return Ok(Some(Node::Directory(0o755)));
        }
        if self.hidden.contains(path) || path.ancestors().skip(1).any(|above| self.hides(above)) {
            return Ok(None);
        }
        self.base.as_deref().map_or(Ok(None), |base| on_host(&base.join(path)))
    }

    /// Whether nothing of the base is seen below a folder.
    fn hides(&self, folder: &Path) -> bool {
        !matches!(self.changes.get(folder), None | Some(Change::Present(Node::Directory(_))))
    }

    /// What is in a folder, which is a real one.
    pub fn names(&self, folder: &Path) -> io::Result<BTreeSet<OsString>> {
        let mut names = BTreeSet::new();
        if let Some(base) = self.base.as_deref().filter(|_| !folder.ancestors().any(|above| self.hides(above))) {
            match std::fs::read_dir(base.join(folder)) {
                Ok(entries) => {
                    for entry in entries {
                        names.insert(entry?.file_name());
                    }
                    names.retain(|name| !self.hidden.contains(&folder.join(name)));
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err(error),
            }
        }
        let changed = self.changes.range(folder.to_owned()..).take_while(|(found, _)| found.starts_with(folder));
        for (path, change) in changed.filter(|(path, _)| path.parent() == Some(folder)) {
            let name = path.file_name().unwrap_or_default();
            match change {
                Change::Gone => names.remove(name),
                _ => names.insert(name.to_owned()),
            };
        }
        Ok(names)
    }

    /// Where a path leads, symlinks followed within the root; what is not there stays as it is written.
    pub fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let mut links = 0;
        let mut found = PathBuf::new();
        let mut rest: Vec<OsString> = parts(path);
        rest.reverse();
        while let Some(part) = rest.pop() {
            if part == ".." {
                found.pop();
                continue;
            }
            let next = found.join(&part);
            let Some(Node::Symlink(target)) = self.node(&next)? else {
                found = next;
                continue;
            };
            links += 1;
            if links > LINKS_MAX {
                return Err(io::Error::from_raw_os_error(libc::ELOOP));
            }
            if target.is_absolute() {
                found = PathBuf::new();
            }
            rest.extend(parts(&target).into_iter().rev());
        }
        Ok(found)
    }

    /// A file's content, symlinks followed within the root.
    pub fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match self.node(&self.resolve(path)?)? {
            Some(Node::File(content, _)) => std::fs::read(content).map(Some),
            _ => Ok(None),
        }
    }
}

/// Removes what is kept of a name and of all below it, and looks at nothing else: this is done for each entry of a layer.
fn remove_at<T>(kept: &mut BTreeMap<PathBuf, T>, path: &Path) {
    let here: Vec<PathBuf> =
        kept.range(path.to_owned()..).map(|(found, _)| found).take_while(|found| found.starts_with(path)).cloned().collect();
    for path in here {
        kept.remove(&path);
    }
}

/// The parts of a path, `..` among them.
fn parts(path: &Path) -> Vec<OsString> {
    let part = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(part).collect()
}

fn on_host(path: &Path) -> io::Result<Option<Node>> {
    let metadata = match std::fs::symlink_metadata(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        found => found?,
    };
    let mode = metadata.mode() & 0o7777;
    Ok(match metadata.mode() & libc::S_IFMT {
        libc::S_IFDIR => Some(Node::Directory(mode)),
        libc::S_IFREG => Some(Node::File(path.to_owned(), mode)),
        libc::S_IFLNK => Some(Node::Symlink(std::fs::read_link(path)?)),
        libc::S_IFIFO => Some(Node::Fifo(mode)),
        // Sockets and devices are nobody's content.
        _ => None,
    })
}
