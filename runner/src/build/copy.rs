//! `COPY` and `ADD`: what is taken ([`gather`]), what that is worth as a key ([`content_key`]), and where it comes to lie ([`place`]).
//!
//! By docker's rules: a folder gives what is in it, a file goes into a folder that is there or that the target's last `/` asks for; what the context hides
//! is not there, and no path leads out of it.

use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rootfs_cache::digest::Digest;
use sha2::{Digest as _, Sha256};

use super::config::clean;
use super::dockerfile::Wrong;
use super::ignore::Ignore;
use super::keys::KeyText;
use super::layer::{Content, Entries, Entry, LayerError};
use super::pattern;
use super::tree::{Node, Tree};

mod owner;

pub use owner::owner;

/// One thing that is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// A folder: what is in it, by paths relative to it.
    Folder(Vec<(PathBuf, Entry)>),
    /// A file with its name.
    File(PathBuf, Entry),
    /// What an archive holds.
    Archive(Vec<(PathBuf, Entry)>),
}

/// Why something is not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The instruction is to blame.
    #[error("{}", .0.what)]
    Wrong(Wrong),
    /// A file operation failed.
    #[error(transparent)]
    Layer(LayerError),
}

impl From<Wrong> for CopyError {
    fn from(wrong: Wrong) -> Self {
        Self::Wrong(wrong)
    }
}

/// Where a copy takes from.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The files.
    pub tree: &'a Tree,
    /// Which of them are not there.
    pub ignore: &'a Ignore,
}

/// What a source names: one thing, or all that its wildcards match.
pub fn gather(origin: Origin<'_>, source: &str) -> Result<Vec<Taken>, CopyError> {
    let cleaned = clean(source);
    let wanted = cleaned.trim_start_matches('/');
    let paths = if pattern::has_wildcards(wanted) { expand(origin, wanted)? } else { vec![PathBuf::from(wanted)] };
    let mut taken = Vec::new();
    for path in &paths {
        taken.extend(take(origin, path)?);
    }
    if taken.is_empty() {
        let hint = if origin.ignore.is_empty() {
            "paths are relative to the context"
        } else {
            "paths are relative to the context; `.dockerignore` may leave it out"
        };
        return Err(Wrong::hint(format!("`{source}` is not there"), hint).into());
    }
    Ok(taken)
}

fn read_error(path: &Path) -> impl FnOnce(std::io::Error) -> CopyError {
    let path = path.to_owned();
    move |source| CopyError::Layer(LayerError::Read { path, source })
}

/// The paths that wildcards match, folder by folder.
fn expand(origin: Origin<'_>, wanted: &str) -> Result<Vec<PathBuf>, CopyError> {
    let mut found = vec![PathBuf::new()];
    for part in wanted.split('/') {
        let mut next = Vec::new();
        for folder in found {
            let folder = origin.tree.resolve(&folder).map_err(read_error(&folder))?;
            for name in origin.tree.names(&folder).map_err(read_error(&folder))? {
                let text = name.to_string_lossy();
                let is_matched = pattern::matches(part, &text).map_err(|bad| Wrong::new(format!("`{wanted}`: {bad}")))?;
                if is_matched {
                    next.push(folder.join(&name));
                }
            }
        }
        found = next;
    }
    Ok(found)
}

fn take(origin: Origin<'_>, path: &Path) -> Result<Option<Taken>, CopyError> {
    let resolved = origin.tree.resolve(path).map_err(read_error(path))?;
    let is_hidden = |path: &Path| !path.as_os_str().is_empty() && origin.ignore.leaves_out(&path.to_string_lossy());
    let Some(node) = origin.tree.node(&resolved).map_err(read_error(&resolved))? else { return Ok(None) };
    let hidden = is_hidden(path) || is_hidden(&resolved);
    if let Node::Directory(_) = node {
        if hidden && !origin.ignore.takes_something_back() {
            return Ok(None);
        }
        let mut entries = Vec::new();
        walk(origin, &resolved, Path::new(""), &mut entries)?;
        return Ok((!hidden || !entries.is_empty()).then_some(Taken::Folder(entries)));
    }
    let name = path.file_name().or(resolved.file_name()).map(PathBuf::from).unwrap_or_default();
    Ok((!hidden).then(|| Taken::File(name, entry(node))))
}

/// Everything below a folder, folders before what is in them.
fn walk(origin: Origin<'_>, folder: &Path, relative: &Path, entries: &mut Vec<(PathBuf, Entry)>) -> Result<(), CopyError> {
    for name in origin.tree.names(folder).map_err(read_error(folder))? {
        let (path, below) = (folder.join(&name), relative.join(&name));
        let Some(node) = origin.tree.node(&path).map_err(read_error(&path))? else { continue };
        let is_hidden = origin.ignore.leaves_out(&path.to_string_lossy());
        let is_folder = matches!(node, Node::Directory(_));
        if is_hidden && !(is_folder && origin.ignore.takes_something_back()) {
            continue;
        }
        let before = entries.len();
        entries.push((below.clone(), entry(node)));
        if is_folder {
            walk(origin, &path, &below, entries)?;
            if is_hidden && entries.len() == before + 1 {
                entries.pop();
            }
        }
    }
    Ok(())
}

fn entry(node: Node) -> Entry {
    let (content, mode) = match node {
        Node::Directory(mode) => (Content::Directory, mode),
        Node::File(path, mode) => (Content::File(path), mode),
        Node::Symlink(target) => (Content::Symlink(target), 0o777),
        Node::Fifo(mode) => (Content::Fifo, mode),
    };
    Entry { content, mode, owner: (0, 0) }
}

/// What is taken, as a part of a key: names, kinds, modes and contents.
pub fn content_key(taken: &[Taken]) -> Result<Digest, CopyError> {
    let mut text = KeyText::after(&Digest::of(b"content"), "taken");
    for taken in taken {
        text = match taken {
            Taken::Folder(entries) => entries.iter().try_fold(text.and("folder"), entry_key)?,
            Taken::Archive(entries) => entries.iter().try_fold(text.and("archive"), entry_key)?,
            Taken::File(name, entry) => entry_key(text.and("file"), &(name.clone(), entry.clone()))?,
        };
    }
    Ok(text.key())
}

fn entry_key(text: KeyText, (path, entry): &(PathBuf, Entry)) -> Result<KeyText, CopyError> {
    let text = text.and(path.as_os_str().as_bytes()).and(entry.mode.to_le_bytes());
    let text = text.and(entry.owner.0.to_le_bytes()).and(entry.owner.1.to_le_bytes());
    Ok(match &entry.content {
        Content::Directory => text.and("d"),
        Content::File(path) => text.and("f").and(file_digest(path)?.hex()),
        Content::Bytes(bytes) => text.and("f").and(Digest::of(bytes).hex()),
        Content::Symlink(target) => text.and("l").and(target.as_os_str().as_bytes()),
        Content::Link(target) => text.and("h").and(target.as_os_str().as_bytes()),
        Content::Fifo => text.and("p"),
        Content::Removed => text.and("r"),
    })
}

/// The digest of a file's content.
pub fn file_digest(path: &Path) -> Result<Digest, CopyError> {
    let mut file = std::fs::File::open(path).map_err(read_error(path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer).map_err(read_error(path))? {
            0 => return Ok(Digest::from_bytes(hash.finalize().into())),
            length => hash.update(&buffer[..length]),
        }
    }
}

/// Where things come to lie.
#[derive(Debug, Clone, Copy)]
pub struct Destination<'a> {
    /// The image as it is.
    pub tree: &'a Tree,
    /// What relative targets are below.
    pub working_dir: &'a str,
    /// The target as written; a `/` at its end says that it is a folder.
    pub target: &'a str,
    /// Owner and group of everything, where they were given.
    pub owner: Option<(u32, u32)>,
    /// The mode of everything, where it was given.
    pub mode: Option<u32>,
}

/// The entries that a copy makes in the image.
pub fn place(destination: Destination<'_>, taken: Vec<Taken>) -> Result<Entries, CopyError> {
    let Destination { tree, working_dir, target, .. } = destination;
    let is_folder = target.ends_with('/') || matches!(target, "." | "" | "..") || target.ends_with("/.") || target.ends_with("/..");
    if taken.len() > 1 && !is_folder {
        let what = format!("`{target}` has to end with a `/`: several things are copied there");
        return Err(Wrong::hint(what, "it is a folder then").into());
    }
    let absolute = clean(&if target.starts_with('/') { target.to_owned() } else { format!("{working_dir}/{target}") });
    let base = PathBuf::from(absolute.trim_start_matches('/'));
    let base = tree.resolve(&base).map_err(read_error(&base))?;
    let mut placing = Placing { destination, entries: Entries::new() };
    for taken in taken {
        match taken {
            Taken::Folder(entries) => {
                placing.folder(&base)?;
                for (path, entry) in entries {
                    placing.put(base.join(path), entry)?;
                }
            }
            Taken::File(name, entry) => {
                let into = is_folder || matches!(tree.node(&base).map_err(read_error(&base))?, Some(Node::Directory(_)));
                let path = if into { base.join(name) } else { base.clone() };
                placing.folder(path.parent().unwrap_or(Path::new("")))?;
                placing.put(path, entry)?;
            }
            Taken::Archive(entries) => {
                placing.folder(&base)?;
                for (path, entry) in entries {
                    let path = base.join(path);
                    let entry = placing.owned(entry);
                    placing.entries.insert(path, entry);
                }
            }
        }
    }
    // The root is not ours to change.
    placing.entries.remove(Path::new(""));
    Ok(placing.entries)
}

struct Placing<'a> {
    destination: Destination<'a>,
    entries: Entries,
}

impl Placing<'_> {
    /// Makes the folder, and those above it, where they are not there.
    fn folder(&mut self, path: &Path) -> Result<(), CopyError> {
        let above: Vec<&Path> = path.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
        for path in above.into_iter().rev() {
            match (self.entries.get(path), self.destination.tree.node(path).map_err(read_error(path))?) {
                (Some(entry), _) if entry.content == Content::Directory => {}
                (None, Some(Node::Directory(_))) => {}
                (None, None) => {
                    let owner = self.destination.owner.unwrap_or((0, 0));
                    self.entries.insert(path.to_owned(), Entry { content: Content::Directory, mode: 0o755, owner });
                }
                _ => return Err(Wrong::new(format!("`/{}` is no folder, and something is to be copied into it", path.display())).into()),
            }
        }
        Ok(())
    }

    fn put(&mut self, path: PathBuf, entry: Entry) -> Result<(), CopyError> {
        let is_folder = entry.content == Content::Directory;
        match self.destination.tree.node(&path).map_err(read_error(&path))? {
            Some(Node::Directory(_)) if !is_folder => {
                return Err(Wrong::new(format!("`/{}` is a folder, and a file is to be copied there", path.display())).into());
            }
            Some(Node::File(..) | Node::Symlink(_) | Node::Fifo(_)) if is_folder => {
                return Err(Wrong::new(format!("`/{}` is no folder, and one is to be copied there", path.display())).into());
            }
            _ => {}
        }
        let entry = self.owned(entry);
        self.entries.insert(path, entry);
        Ok(())
    }

    /// With the owner and mode that were asked for.
    fn owned(&self, entry: Entry) -> Entry {
        let is_link = matches!(entry.content, Content::Symlink(_) | Content::Link(_));
        let mode = self.destination.mode.filter(|_| !is_link).unwrap_or(entry.mode);
        Entry { owner: self.destination.owner.unwrap_or(entry.owner), mode, ..entry }
    }
}

/// `--chmod`.
pub fn mode(text: &str) -> Result<u32, Wrong> {
    let is_octal = (1..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = u32::from_str_radix(text, 8).ok().filter(|_| is_octal);
    mode.ok_or_else(|| Wrong::hint(format!("`--chmod={text}` is not supported"), "an octal mode such as `755` is"))
}
