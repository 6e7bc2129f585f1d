//! An image's root file system: one flat tree of hard links into the files of its layers, with a stub for every mount point of the sandbox.

use std::ffi::OsString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::Deserialize;

use crate::digest::Digest;
use crate::store::{CacheError, Damage, StoredLayer};

mod build;
mod compare;
mod merge;

use merge::Tree;

/// The parts of an image's config that matter to a run. Made from the config's bytes only, never from a name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageConfig {
    /// `amd64`, `arm64`: as the config says.
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// Environment variables in the config's order. Those without `=` are left out.
    pub env: Vec<(String, String)>,
    /// The entrypoint; `None` also for an empty list.
    pub entrypoint: Option<Vec<String>>,
    /// The default arguments; `None` also for an empty list.
    pub cmd: Option<Vec<String>>,
    /// Working directory; `None` also for an empty text.
    pub working_dir: Option<String>,
    /// The user as written, unchecked; `None` also for an empty text.
    pub user: Option<String>,
    /// Digests of the layers' tars, bottom first.
    pub diff_ids: Vec<Digest>,
}

impl ImageConfig {
    /// Reads an OCI or Docker image config.
    pub fn from_json(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let image: ImageJson = serde_json::from_slice(bytes)?;
        let config = image.config.unwrap_or_default();
        let env = config
            .env
            .into_iter()
            .flatten()
            .filter_map(|pair| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())));
        Ok(Self {
            architecture: image.architecture,
            os: image.os,
            env: env.collect(),
            entrypoint: config.entrypoint.filter(|argv| !argv.is_empty()),
            cmd: config.cmd.filter(|argv| !argv.is_empty()),
            working_dir: config.working_dir.filter(|path| !path.is_empty()),
            user: config.user.filter(|user| !user.is_empty()),
            diff_ids: image.rootfs.diff_ids,
        })
    }
}

/// The config as OCI and Docker write it. Labels and history are nobody's business here (CVE-2026-50195, CVE-2026-53488).
#[derive(Deserialize)]
struct ImageJson {
    architecture: String,
    os: String,
    config: Option<ConfigJson>,
    rootfs: RootfsJson,
}

#[derive(Deserialize)]
struct RootfsJson {
    diff_ids: Vec<Digest>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct ConfigJson {
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
}

/// What stands at a mount point before anything is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stub {
    /// An empty directory.
    Directory,
    /// An empty file.
    File,
    /// A symlink to this target.
    Symlink(&'static str),
}

/// What every root file system has, so that nothing need be created at launch. What an image brings itself stays, where it is of the right kind.
pub const MOUNT_POINTS: &[(&str, Stub)] = &[
    ("proc", Stub::Directory),
    ("sys", Stub::Directory),
    ("tmp", Stub::Directory),
    ("var/task", Stub::Directory),
    ("opt", Stub::Directory),
    ("dev", Stub::Directory),
    ("dev/null", Stub::File),
    ("dev/zero", Stub::File),
    ("dev/full", Stub::File),
    ("dev/random", Stub::File),
    ("dev/urandom", Stub::File),
    ("dev/tty", Stub::File),
    ("dev/fd", Stub::Symlink("/proc/self/fd")),
    ("dev/stdin", Stub::Symlink("/proc/self/fd/0")),
    ("dev/stdout", Stub::Symlink("/proc/self/fd/1")),
    ("dev/stderr", Stub::Symlink("/proc/self/fd/2")),
    ("etc/passwd", Stub::File),
    ("etc/group", Stub::File),
    ("etc/hosts", Stub::File),
    ("etc/resolv.conf", Stub::File),
];

/// A published image. While this value lives, the image is in use and neither `rm` nor `prune` removes it.
#[derive(Debug)]
pub struct Rootfs {
    path: PathBuf,
    manifest_digest: Digest,
    config: ImageConfig,
    /// The image's directory with a shared lock on it.
    _in_use: OwnedFd,
}

impl Rootfs {
    pub(crate) fn new(path: PathBuf, manifest_digest: Digest, config: ImageConfig, in_use: OwnedFd) -> Self {
        Self { path, manifest_digest, config, _in_use: in_use }
    }

    /// The tree's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Digest of the platform manifest.
    pub fn manifest_digest(&self) -> &Digest {
        &self.manifest_digest
    }

    /// The image's config.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }
}

/// Builds an image's tree as `rootfs` in `parent`.
pub(crate) fn build(image: &Digest, config: &ImageConfig, layers: &[StoredLayer], parent: BorrowedFd<'_>) -> Result<(), CacheError> {
    let image = *image;
    let cannot_make = |path: Vec<u8>, source| CacheError::Build { image, path: to_path(path), source };
    let (tree, files) = plan(config, layers)?;
    let make_root = || {
        rustix::fs::mkdirat(parent, "rootfs", Mode::RWXU)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(parent, "rootfs", flags, Mode::empty())?)
    };
    let root = make_root().map_err(|error| cannot_make(Vec::new(), error))?;
    build::write(&tree, &files, root).map_err(|(path, error)| cannot_make(path, error))
}

/// Compares the tree in `root` with what [`build`] would make of the same layers now.
pub(crate) fn compare(config: &ImageConfig, layers: &[StoredLayer], root: OwnedFd) -> Result<Vec<Damage>, CacheError> {
    let (tree, files) = plan(config, layers)?;
    Ok(compare::differences(&tree, &files, root))
}

/// What the layers are together, and the directories of their files.
fn plan(config: &ImageConfig, layers: &[StoredLayer]) -> Result<(Tree, Vec<OwnedFd>), CacheError> {
    let cannot_read = |layer: &StoredLayer| {
        let path = PathBuf::from(format!("layers/{}/index", layer.digest().hex()));
        |source| CacheError::Io { action: "read", path, source }
    };
    let mut tree = Tree::new();
    let mut files = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let index = layer.index().map_err(cannot_read(layer))?.ok_or_else(|| cannot_read(layer)(io::ErrorKind::InvalidData.into()))?;
        files.push(layer.files().map_err(cannot_read(layer))?);
        tree.add_layer(number, index).map_err(|lost| CacheError::Link {
            layer: *layers[lost.layer].digest(),
            path: to_path(lost.path),
            target: to_path(lost.target),
        })?;
    }
    for (path, stub) in MOUNT_POINTS {
        tree.ensure(path.as_bytes(), *stub);
    }
    if let Some(path) = &config.working_dir {
        tree.ensure(path.as_bytes(), Stub::Directory);
    }
    Ok((tree, files))
}

pub(crate) fn to_path(path: Vec<u8>) -> PathBuf {
    OsString::from_vec(path).into()
}

#[cfg(test)]
mod tests;
