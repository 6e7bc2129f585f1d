//! Writes a merged tree to disk, through a handle of every directory on the way down to the current one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use rustix::fs::{AtFlags, Dev, FileType, Mode, OFlags, XattrFlags};

use super::merge::{Tree, TreeNode};
use crate::unpack::index::{Attributes, parent};
use crate::unpack::timestamps;

/// As for stored files: no setuid, no setgid.
const MODE_KEPT: u32 = 0o1777;
/// More threads than this only wait for each other in the file system.
const WORKERS_MAX: usize = 4;
/// Names that a thread of their own pays for.
const SHARE_MIN: usize = 2000;

/// Makes the tree in `root`, an empty directory. `files` are the layers' file directories. An error comes with the path it concerns.
pub(super) fn write(tree: &Tree, files: &[OwnedFd], root: OwnedFd) -> Result<(), (Vec<u8>, io::Error)> {
    let mut open = OpenDirectories::new(root.as_fd());
    let (mut directories, mut others) = (Vec::new(), Vec::new());
    for (path, node) in &tree.0 {
        match node {
            TreeNode::Directory { attributes, xattrs } => {
                directories.push((path, attributes, xattrs));
                if !path.is_empty() {
                    open.make_in_parent(path, mkdir).map_err(|error| (path.clone(), error))?;
                }
            }
            other => others.push((path, other)),
        }
    }
    // Each takes a stretch of neighbours, so that they seldom meet in a directory.
    let workers = thread::available_parallelism().map_or(1, |cores| cores.get().min(WORKERS_MAX));
    let share = others.len().div_ceil(workers).max(SHARE_MIN);
    thread::scope(|scope| {
        let root = root.as_fd();
        let mut shares = others.chunks(share);
        let first = shares.next().unwrap_or_default();
        // The first share is ours, and so is one that gets no thread.
        let workers: Vec<_> =
            shares.map(|share| (share, thread::Builder::new().spawn_scoped(scope, move || fill(share, files, root)))).collect();
        let mine = fill(first, files, root);
        workers.into_iter().fold(mine, |made, (share, worker)| {
            let this = match worker {
                Ok(worker) => worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                Err(_) => fill(share, files, root),
            };
            made.and(this)
        })
    })?;
    // Their modes may forbid to put things into them, so they come last, and deepest first: what lies below a path sorts behind it.
    for (path, attributes, xattrs) in directories.into_iter().rev() {
        open.enter(path).and_then(|directory| finish(directory, attributes, xattrs)).map_err(|error| (path.to_vec(), error))?;
    }
    Ok(())
}

/// Makes what is no directory.
fn fill(nodes: &[(&Vec<u8>, &TreeNode)], files: &[OwnedFd], root: BorrowedFd<'_>) -> Result<(), (Vec<u8>, io::Error)> {
    let mut open = OpenDirectories::new(root);
    for (path, node) in nodes {
        let made = match node {
            TreeNode::Directory { .. } => Ok(()),
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
        made.map_err(|error| (path.to_vec(), error))?;
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
struct OpenDirectories<'a> {
    root: BorrowedFd<'a>,
    /// Each with how much of `path` leads to it.
    open: Vec<(usize, OwnedFd)>,
    path: Vec<u8>,
}

impl<'a> OpenDirectories<'a> {
    fn new(root: BorrowedFd<'a>) -> Self {
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
            let above = self.open.last().map_or(self.root, |(_, directory)| directory.as_fd());
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory = rustix::fs::openat(above, &path[start..end], flags, Mode::empty())?;
            self.open.push((end, directory));
            done = end;
        }
        self.path.clear();
        self.path.extend_from_slice(path);
        Ok(self.open.last().map_or(self.root, |(_, directory)| directory.as_fd()))
    }
}
