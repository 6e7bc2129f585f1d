//! Results of builds: which layer a step made, under a key that stands for all it was made of. What is lost here is made again.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::fs::Mode;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{Cache, CacheError, read_file, staging, stored_digests, write_whole};
use crate::digest::Digest;

/// Made when the first result is kept: older versions know nothing of it, and leave it alone.
pub(super) const BUILDS: &str = "builds";

/// Folders that commands of builds keep between builds, by their names.
pub(super) const BUILD_FOLDERS: &str = "build-folders";

/// What a step of a build came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildResult {
    /// The layer it made; none where it changed nothing.
    pub layer: Option<BuiltLayer>,
}

/// A layer that was made here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltLayer {
    /// Digest of the compressed blob.
    pub digest: Digest,
    /// Length of the compressed blob.
    pub size: u64,
    /// Digest of the tar.
    pub diff_id: Digest,
}

impl Cache {
    /// What the step with this key came to, if its layer and blob are still there.
    pub fn build_result(&self, key: &Digest) -> Result<Option<BuildResult>, CacheError> {
        let Some(result) = self.read_build(key)? else { return Ok(None) };
        if let Some(layer) = &result.layer
            && (self.layer(&layer.digest)?.is_none() || self.blob(&layer.digest)?.is_none())
        {
            return Ok(None);
        }
        Ok(Some(result))
    }

    /// Keeps what the step with this key came to.
    pub fn set_build_result(&self, key: &Digest, result: &BuildResult) -> Result<(), CacheError> {
        let name = build_name(key);
        let write = || {
            match rustix::fs::mkdirat(&self.store, BUILDS, Mode::RWXU) {
                Err(Errno::EXIST) => {}
                made => made?,
            }
            write_whole(&self.store, &name, &serde_json::to_vec(result)?)
        };
        write().map_err(self.io("write", &name))
    }

    /// A folder that commands of builds keep under this name; it is made when it is not there. `prune` removes them all.
    pub fn build_folder(&self, name: &str) -> Result<PathBuf, CacheError> {
        let folder = format!("{BUILD_FOLDERS}/{}", Digest::of(name.as_bytes()).hex());
        let make = |path: &str| match rustix::fs::mkdirat(&self.store, path, Mode::RWXU) {
            Err(Errno::EXIST) => Ok(()),
            made => made,
        };
        make(BUILD_FOLDERS).and_then(|()| make(&folder)).map_err(|error| self.io("make", &folder)(error.into()))?;
        Ok(self.path(folder))
    }

    /// A damaged one is none.
    fn read_build(&self, key: &Digest) -> Result<Option<BuildResult>, CacheError> {
        let name = build_name(key);
        match read_file(self.store.as_fd(), &name) {
            Ok(json) => Ok(serde_json::from_slice(&json).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.io("read", name)(error)),
        }
    }

    /// All results that are kept: their files, and the digests of their layers.
    pub(super) fn builds(&self) -> Result<Vec<(String, Option<Digest>)>, CacheError> {
        let keys = match staging::open_directory(self.store.as_fd(), BUILDS).and_then(|builds| stored_digests(builds.as_fd())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            keys => keys.map_err(self.io("read", BUILDS))?,
        };
        keys.iter()
            .map(|key| Ok((build_name(key), self.read_build(key)?.and_then(|result| result.layer).map(|layer| layer.digest))))
            .collect()
    }
}

fn build_name(key: &Digest) -> String {
    format!("{BUILDS}/{}", key.hex())
}
