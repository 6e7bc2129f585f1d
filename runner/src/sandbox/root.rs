//! The ways to a root: an image's tree as it is, the same to be written to, or a tmpfs in which things are made and mounted.

use std::path::{Path, PathBuf};

use super::plan::{DEVICE_LINKS, DEVICES};
use super::{HostRoot, RootSource, WritableSource};

/// The ways to a root.
pub(super) enum Root {
    /// One tree, mounted as it is.
    Tree(PathBuf),
    /// A tmpfs in which things are made and mounted.
    Assembled(Assembly),
    /// One that may be written to.
    Writable(WritableSource),
}

impl Root {
    pub(super) fn of(source: &RootSource) -> Self {
        match source {
            RootSource::Image { path } => Self::Tree(path.clone()),
            RootSource::Host(host) => Self::Assembled(of_host(host)),
            RootSource::Writable(source) => Self::Writable(source.clone()),
        }
    }
}

/// What a tmpfs root holds. All paths but sources are inside.
pub(super) struct Assembly {
    /// Folders to make; those above them are made as well.
    pub(super) folders: Vec<PathBuf>,
    /// Symbolic links, as (path, target).
    pub(super) links: Vec<(PathBuf, PathBuf)>,
    /// Files with their contents and mode bits.
    pub(super) files: Vec<(PathBuf, Vec<u8>, u32)>,
    /// What of the host is shown read-only, as (source, path): the path is among the folders or files.
    pub(super) binds: Vec<(PathBuf, PathBuf)>,
}

/// Holds nothing but what is listed: no home folder, no `/run`, no socket of the host's.
fn of_host(host: &HostRoot) -> Assembly {
    let own = ["/proc", "/tmp", "/dev", "/var/task", "/opt", "/etc"].map(PathBuf::from);
    let links = DEVICE_LINKS.map(|(name, target)| (Path::new("/dev").join(name), PathBuf::from(target)));
    let stub = |path: PathBuf| (path, Vec::new(), 0o444);
    let devices = DEVICES.map(|name| stub(Path::new("/dev").join(name)));
    let files = devices.into_iter().chain(host.files.iter().cloned());
    Assembly {
        folders: own.into_iter().chain(host.folders.iter().chain(&host.places).cloned()).collect(),
        links: links.into_iter().chain(host.symlinks.iter().cloned()).collect(),
        files: files.chain(host.file_binds.iter().cloned().map(stub)).collect(),
        binds: host.folders.iter().chain(&host.file_binds).map(|path| (path.clone(), path.clone())).collect(),
    }
}
