//! Compares a tree on disk with what it was built from: every name, its kind, mode and target, and whether files are still the layers' own.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

use super::merge::{Tree, TreeNode};
use super::to_path;
use crate::store::{Damage, Flaw};
use crate::unpack::index::parent;

/// As for stored files: no setuid, no setgid.
const MODE_KEPT: u32 = 0o1777;

/// What is different, by path within the tree.
pub(super) fn differences(tree: &Tree, files: &[OwnedFd], root: OwnedFd) -> Vec<Damage> {
    let mut comparison = Comparison { tree, files, seen: HashSet::new(), entered: HashSet::new(), damages: Vec::new() };
    if let Some((path, TreeNode::Directory { attributes, .. })) = tree.0.get_key_value(&[][..]) {
        match rustix::fs::fstat(&root) {
            Ok(stat) => comparison.mode(path, &stat, attributes.mode & MODE_KEPT),
            Err(error) => comparison.cannot_read(path, error.into()),
        }
        comparison.seen.insert(path);
        comparison.enter(path, root);
    }
    comparison.missing();
    comparison.damages
}

struct Comparison<'a> {
    tree: &'a Tree,
    files: &'a [OwnedFd],
    seen: HashSet<&'a [u8]>,
    /// Directories whose names are all known.
    entered: HashSet<&'a [u8]>,
    damages: Vec<Damage>,
}

impl<'a> Comparison<'a> {
    fn enter(&mut self, path: &'a [u8], directory: OwnedFd) {
        match self.entries(path, &directory) {
            Ok(()) => drop(self.entered.insert(path)),
            Err(error) => self.cannot_read(path, error),
        }
    }

    fn entries(&mut self, path: &'a [u8], directory: &OwnedFd) -> io::Result<()> {
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let below = if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
            match self.tree.0.get_key_value(&below) {
                None => self.found(&below, Flaw::Unexpected),
                Some((below, node)) => {
                    self.seen.insert(below);
                    if let Err(error) = self.entry(directory.as_fd(), name, (below, node)) {
                        self.cannot_read(below, error);
                    }
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, directory: BorrowedFd<'_>, name: &[u8], (path, node): (&'a [u8], &'a TreeNode)) -> io::Result<()> {
        let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = match node {
            TreeNode::Directory { .. } => FileType::Directory,
            TreeNode::File { layer, number } => return self.file(path, &stat, (*layer, *number)),
            TreeNode::Symlink { .. } => FileType::Symlink,
            TreeNode::Fifo { .. } => FileType::Fifo,
            TreeNode::Empty => FileType::RegularFile,
        };
        if FileType::from_raw_mode(stat.st_mode) != kind {
            self.found(path, Flaw::Kind);
            return Ok(());
        }
        match node {
            TreeNode::Directory { attributes, .. } => {
                self.mode(path, &stat, attributes.mode & MODE_KEPT);
                let open = Readable::open(directory, name, stat.st_mode)?;
                self.enter(path, open.directory.try_clone()?);
            }
            TreeNode::Symlink { target, .. } => {
                if rustix::fs::readlinkat(directory, name, Vec::new())?.as_bytes() != &target[..] {
                    self.found(path, Flaw::Target);
                }
            }
            TreeNode::Fifo { attributes } => self.mode(path, &stat, attributes.mode & MODE_KEPT),
            TreeNode::Empty => {
                self.mode(path, &stat, 0o644);
                if stat.st_size != 0 {
                    self.found(path, Flaw::Content);
                }
            }
            TreeNode::File { .. } => {}
        }
        Ok(())
    }

    /// What is in a file, and its mode, are matters of the layer: here it has to be the layer's own.
    fn file(&mut self, path: &[u8], stat: &Stat, (layer, number): (usize, u64)) -> io::Result<()> {
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            // Some hard links of images are to symlinks; those are nodes of their own, so this is none of them.
            self.found(path, Flaw::Kind);
            return Ok(());
        }
        match rustix::fs::statat(&self.files[layer], number.to_string(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(own) if (own.st_dev, own.st_ino) == (stat.st_dev, stat.st_ino) => {}
            Ok(_) => self.found(path, Flaw::NotTheLayers),
            // Told with the layer.
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn mode(&mut self, path: &[u8], stat: &Stat, wanted: u32) {
        let found = stat.st_mode & 0o7777;
        if found != wanted {
            self.found(path, Flaw::Mode { found, wanted });
        }
    }

    fn missing(&mut self) {
        let tree = self.tree;
        for path in tree.0.keys().filter(|path| !self.seen.contains(&path[..])).collect::<Vec<_>>() {
            // What lies below something missing is not told one by one.
            if parent(path).is_some_and(|above| self.entered.contains(above)) {
                self.found(path, Flaw::Missing);
            }
        }
    }

    fn cannot_read(&mut self, path: &[u8], error: io::Error) {
        self.found(path, Flaw::Unreadable(error.kind()));
    }

    fn found(&mut self, path: &[u8], flaw: Flaw) {
        self.damages.push(Damage { path: to_path(path.to_vec()), flaw });
    }
}

/// A directory that can be read and searched while this lives, though its mode may say otherwise.
struct Readable {
    directory: OwnedFd,
    /// The mode that it gets back.
    mode: Option<Mode>,
}

impl Readable {
    fn open(parent: BorrowedFd<'_>, name: &[u8], mode: u32) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let needed = Mode::RUSR | Mode::XUSR;
        let mode = Mode::from_raw_mode(mode);
        if mode.contains(needed) || rustix::process::geteuid().is_root() {
            return Ok(Self { directory: rustix::fs::openat(parent, name, flags, Mode::empty())?, mode: None });
        }
        rustix::fs::chmodat(parent, name, mode | needed, AtFlags::empty())?;
        let opened = rustix::fs::openat(parent, name, flags, Mode::empty());
        if opened.is_err() {
            let _ = rustix::fs::chmodat(parent, name, mode, AtFlags::empty());
        }
        Ok(Self { directory: opened?, mode: Some(mode) })
    }
}

impl Drop for Readable {
    fn drop(&mut self) {
        if let Some(mode) = self.mode {
            let _ = rustix::fs::fchmod(&self.directory, mode);
        }
    }
}
