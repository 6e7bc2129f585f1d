//! A copy of a tree, where no overlay is granted. Blocks are shared where the file system can.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, symlink};
use std::path::Path;

use rustix::fs::{CWD, Dev, FileType, Mode, XattrFlags};

use super::changes::{Change, ChangeKind};
use super::view::names;
use super::{open_above, set_time, take_after};
use crate::sandbox::run_folder;

/// Copies a folder to a path where nothing is.
pub(super) fn tree(from: &Path, to: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(to)?;
    for name in names(from)? {
        thing(&from.join(&name), &to.join(&name))?;
    }
    attributes(from, to)?;
    take_after(to, &fs::symlink_metadata(from)?)
}

/// Puts what was written over an image into a copy of it.
pub(super) fn apply(changes: &[Change], tree: &Path) -> io::Result<()> {
    let mut folders = Vec::new();
    for Change { path, kind } in changes {
        let place = tree.join(path);
        match kind {
            ChangeKind::Removed => open_above(&place, || {
                run_folder::remove_tree(&place);
                Ok(())
            })?,
            ChangeKind::Present { on_host } if on_host.symlink_metadata()?.is_dir() => {
                if !place.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
                    open_above(&place, || {
                        run_folder::remove_tree(&place);
                        DirBuilder::new().mode(0o700).create(&place)
                    })?;
                }
                folders.push((on_host, place));
            }
            ChangeKind::Present { on_host } => open_above(&place, || {
                run_folder::remove_tree(&place);
                thing(on_host, &place)
            })?,
        }
    }
    // Modes may forbid to put things into them: that comes last.
    folders.into_iter().rev().try_for_each(|(on_host, place)| take_after(&place, &on_host.symlink_metadata()?))
}

/// Copies whatever lies there. Sockets and devices have no place in an image.
fn thing(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = from.symlink_metadata()?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        return tree(from, to);
    }
    if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
        return set_time(to, &metadata);
    }
    if kind.is_fifo() {
        rustix::fs::mknodat(CWD, to, FileType::Fifo, Mode::RUSR | Mode::WUSR, Dev::default())?;
        return take_after(to, &metadata);
    }
    if kind.is_file() {
        contents(from, to)?;
        attributes(from, to)?;
        take_after(to, &metadata)?;
    }
    Ok(())
}

fn contents(from: &Path, to: &Path) -> io::Result<()> {
    let mut target = File::options().write(true).create_new(true).open(to)?;
    match File::open(from) {
        Ok(mut source) => {
            if rustix::fs::ioctl_ficlone(&target, &source).is_err() {
                io::copy(&mut source, &mut target)?;
            }
            Ok(())
        }
        // What its owner may not read, such as `/etc/shadow` in images for RHEL: the image's own must not be changed, and it tells nothing of use.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && from.metadata()?.mode() & 0o400 == 0 => Ok(()),
        Err(error) => Err(error),
    }
}

/// Extended attributes, as far as they can be had.
pub(super) fn attributes(from: &Path, to: &Path) -> io::Result<()> {
    let mut list = [0; 4096];
    let Ok(length) = rustix::fs::llistxattr(from, &mut list) else { return Ok(()) };
    for name in list.get(..length).unwrap_or_default().split(|byte| *byte == 0).filter(|name| name.starts_with(b"user.")) {
        if name.starts_with(b"user.overlay.") {
            continue;
        }
        let mut value = vec![0; 1 << 16];
        if let Ok(length) = rustix::fs::lgetxattr(from, name, &mut value) {
            value.truncate(length);
            let _ = rustix::fs::lsetxattr(to, name, &value, XattrFlags::empty());
        }
    }
    Ok(())
}
