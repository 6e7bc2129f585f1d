//! Writes a merged tree to disk, through a handle of every directory on the way down to the current one.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dev, FileType, Mode, OFlags, XattrFlags};

use super::merge::{Tree, TreeNode};
use crate::unpack::index::{Attributes, parent};
use crate::unpack::timestamps;

/// As for stored files: no setuid, no setgid.
const MODE_KEPT: u32 = 0o1777;

/// Makes the tree in `root`, an empty directory. `files` are the layers' file directories. An error comes with the path it concerns.
pub(super) fn write(tree: &Tree, files: &[OwnedFd], root: OwnedFd) -> Result<(), (Vec<u8>, io::Error)> {
    let mut open = OpenDirectories::new(root);
    let mut directories: BTreeMap<&[u8], _> = BTreeMap::new();
    for (path, node) in &tree.0 {
        let made = match node {
            // Its mode may forbid to put things into it: that comes last.
            TreeNode::Directory { attributes, xattrs } => {
                directories.insert(path, (attributes, xattrs));
                if path.is_empty() { Ok(()) } else { open.make_in_parent(path, mkdir) }
            }
            TreeNode::File { layer, number } => open.make_in_parent(path, |parent, name| {
                Ok(rustix::fs::linkat(&files[*layer], number.to_string(), parent, name, AtFlags::empty())?)
            }),
            TreeNode::Symlink { target, mtime } => open.make_in_parent(path, |parent, name| {
                rustix::fs::symlinkat(&target[..], parent, name)?;
                Ok(rustix::fs::utimensat(parent, name, &timestamps(*mtime), AtFlags::SYMLINK_NOFOLLOW)?)
            }),
            TreeNode::Fifo { attributes } => open.make_in_parent(path, |parent, name| mkfifo(parent, name, attributes)),
            TreeNode::Empty => open.make_in_parent(path, mkfile),
        };
        made.map_err(|error| (path.clone(), error))?;
    }
    // Deepest first: what lies below a path sorts behind it.
    for (path, (attributes, xattrs)) in directories.into_iter().rev() {
        open.enter(path).and_then(|directory| finish(directory, attributes, xattrs)).map_err(|error| (path.to_vec(), error))?;
    }
    Ok(())
}

fn mkdir(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::mkdirat(parent, name, Mode::RWXU)?)
}

fn mkfile(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?;
    Ok(rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?)
}

fn mkfifo(parent: BorrowedFd<'_>, name: &[u8], attributes: &Attributes) -> io::Result<()> {
    rustix::fs::mknodat(parent, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, Dev::default())?;
    // It was made just now in a directory that is ours alone, so it is no symlink; and a fifo cannot be opened without ado.
    rustix::fs::chmodat(parent, name, Mode::from_raw_mode(attributes.mode & MODE_KEPT), AtFlags::empty())?;
    Ok(rustix::fs::utimensat(parent, name, &timestamps(attributes.mtime), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn finish(directory: BorrowedFd<'_>, attributes: &Attributes, xattrs: &[(Vec<u8>, Vec<u8>)]) -> io::Result<()> {
    for (name, value) in xattrs {
        // Best effort, as for files.
        let _ = rustix::fs::fsetxattr(directory, &name[..], value, XattrFlags::empty());
    }
    rustix::fs::fchmod(directory, Mode::from_raw_mode(attributes.mode & MODE_KEPT))?;
    Ok(rustix::fs::futimens(directory, &timestamps(attributes.mtime))?)
}

/// Handles of the directories along the current path. Never more than the path is deep.
struct OpenDirectories {
    root: OwnedFd,
    /// Each with how much of `path` leads to it.
    open: Vec<(usize, OwnedFd)>,
    path: Vec<u8>,
}

impl OpenDirectories {
    fn new(root: OwnedFd) -> Self {
        Self { root, open: Vec::new(), path: Vec::new() }
    }

    fn make_in_parent(&mut self, path: &[u8], make: impl FnOnce(BorrowedFd<'_>, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let above = parent(path).unwrap_or_default();
        let name = path.get(above.len()..).map(|name| name.strip_prefix(b"/").unwrap_or(name)).unwrap_or_default();
        make(self.enter(above)?, name)
    }

    /// The handle of a directory of the tree. No symlink is followed on the way.
    fn enter(&mut self, path: &[u8]) -> io::Result<BorrowedFd<'_>> {
        let leads_to = |end: usize| path.starts_with(&self.path[..end]) && matches!(path.get(end), None | Some(b'/'));
        let kept = self.open.iter().take_while(|(end, _)| leads_to(*end)).count();
        self.open.truncate(kept);
        let mut done = self.open.last().map_or(0, |(end, _)| *end);
        while done < path.len() {
            let start = if done == 0 { 0 } else { done + 1 };
            let end = path[start..].iter().position(|&byte| byte == b'/').map_or(path.len(), |length| start + length);
            let above = self.open.last().map_or(self.root.as_fd(), |(_, directory)| directory.as_fd());
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory = rustix::fs::openat(above, &path[start..end], flags, Mode::empty())?;
            self.open.push((end, directory));
            done = end;
        }
        self.path.clear();
        self.path.extend_from_slice(path);
        Ok(self.open.last().map_or(self.root.as_fd(), |(_, directory)| directory.as_fd()))
    }
}
