//! What differs from the image.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::view::{is_opaque, is_whiteout, names};
use super::{COPIED, Layering, WritableError, WritableRoot};

/// One thing that differs from the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its path inside, without a slash before it.
    pub path: PathBuf,
    /// What became of it.
    pub kind: ChangeKind,
}

/// What became of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// Added, or another than in the image.
    Present {
        /// Where it is on the host: a file, folder, link or named pipe.
        on_host: PathBuf,
    },
    /// There is none any more.
    Removed,
}

impl Change {
    /// Opens a file to be read, also one that its owner may not read: what was written is ours to change. `None`: it is no file.
    pub fn open(&self) -> io::Result<Option<File>> {
        let ChangeKind::Present { on_host } = &self.kind else { return Ok(None) };
        let metadata = on_host.symlink_metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        match File::open(on_host) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                fs::set_permissions(on_host, fs::Permissions::from_mode(metadata.mode() & 0o7777 | 0o400))?;
                let opened = File::open(on_host);
                fs::set_permissions(on_host, metadata.permissions())?;
                opened.map(Some)
            }
            opened => opened.map(Some),
        }
    }
}

impl WritableRoot {
    /// What differs from the image, by path, a folder before what is in it.
    pub fn changes(&self) -> Result<Vec<Change>, WritableError> {
        let since = match self.layering {
            Layering::Overlay => None,
            Layering::Copy => Some(self.folder().join(COPIED).metadata().map_err(self.failed("look at", COPIED))?),
        };
        let mut walk = Walk { since, changes: Vec::new() };
        walk.folder(Path::new(""), &self.upper(), Some(self.rootfs.path())).map_err(self.failed("look through", "/"))?;
        Ok(walk.changes)
    }
}

struct Walk {
    /// When the copy was made, if it is one.
    since: Option<Metadata>,
    changes: Vec<Change>,
}

impl Walk {
    fn folder(&mut self, path: &Path, over: &Path, under: Option<&Path>) -> io::Result<()> {
        let written: BTreeSet<_> = readable(over)?.into_iter().collect();
        let hides = self.since.is_some() || is_opaque(over);
        let mut all = written.clone();
        if let Some(under) = under.filter(|_| hides) {
            all.extend(names(under)?);
        }
        for name in all {
            let (path, over) = (path.join(&name), over.join(&name));
            let under = under.map(|under| under.join(&name)).and_then(|under| Some((under.symlink_metadata().ok()?, under)));
            let metadata = if written.contains(&name) { Some(over.symlink_metadata()?) } else { None };
            match metadata.filter(|metadata| !is_whiteout(metadata)) {
                Some(metadata) => self.present(path, (over, metadata), under)?,
                None if under.is_some() => self.changes.push(Change { path, kind: ChangeKind::Removed }),
                None => {}
            }
        }
        Ok(())
    }

    fn present(&mut self, path: PathBuf, (over, metadata): (PathBuf, Metadata), under: Option<(Metadata, PathBuf)>) -> io::Result<()> {
        let same_kind = under.filter(|(under, _)| under.file_type() == metadata.file_type());
        let differs = match &same_kind {
            Some(under) => self.differs((&metadata, &over), (&under.0, &under.1))?,
            None => true,
        };
        if differs {
            self.changes.push(Change { path: path.clone(), kind: ChangeKind::Present { on_host: over.clone() } });
        }
        if metadata.is_dir() {
            return self.folder(&path, &over, same_kind.as_ref().map(|(_, path)| path.as_path()));
        }
        Ok(())
    }

    /// Of two things of the same kind. What is in a folder is looked at by itself.
    fn differs(&self, (metadata, over): (&Metadata, &Path), (of_image, under): (&Metadata, &Path)) -> io::Result<bool> {
        if metadata.mode() != of_image.mode() {
            return Ok(true);
        }
        if metadata.is_dir() {
            return Ok(false);
        }
        if metadata.is_symlink() {
            return Ok(fs::read_link(over)? != fs::read_link(under)?);
        }
        let time = |metadata: &Metadata| (metadata.mtime(), metadata.mtime_nsec());
        if metadata.len() != of_image.len() || time(metadata) != time(of_image) {
            return Ok(true);
        }
        // Nobody inside can set the time of the last change of the file's status.
        let changed = |metadata: &Metadata| (metadata.ctime(), metadata.ctime_nsec());
        if self.since.as_ref().is_some_and(|since| changed(metadata) < changed(since)) {
            return Ok(false);
        }
        same_contents(over, under).map(|same| !same)
    }
}

/// The names in a folder that may be closed to its owner, who is us.
fn readable(folder: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    match names(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let permissions = folder.metadata()?.permissions();
            fs::set_permissions(folder, fs::Permissions::from_mode(permissions.mode() | 0o500))?;
            let names = names(folder);
            fs::set_permissions(folder, permissions)?;
            names
        }
        names => names,
    }
}

/// What cannot be read counts as different.
fn same_contents(one: &Path, other: &Path) -> io::Result<bool> {
    let (Ok(one), Ok(other)) = (File::open(one), File::open(other)) else { return Ok(false) };
    let (mut one, mut other) = (BufReader::new(one), BufReader::new(other));
    let (mut left, mut right) = ([0; 8192], [0; 8192]);
    loop {
        let length = one.read(&mut left)?;
        if length == 0 {
            return Ok(other.read(&mut right)? == 0);
        }
        let (Some(left), Some(right)) = (left.get(..length), right.get_mut(..length)) else { return Ok(false) };
        if other.read_exact(right).is_err() || left != right {
            return Ok(false);
        }
    }
}
