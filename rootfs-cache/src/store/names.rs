//! Names of the store: which manifest a reference meant when it was last pulled.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Cache, CacheError, read_file, write_whole};
use crate::digest::Digest;

/// Which manifest a reference meant for a platform when it was last pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedImage {
    /// Digest of the platform manifest.
    pub manifest: Digest,
    /// When the registry said so.
    pub pulled: SystemTime,
}

/// What a file of `names` says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct NameRecord {
    pub(super) reference: String,
    pub(super) platform: String,
    pub(super) manifest: Digest,
    /// Seconds since 1970.
    pulled: u64,
}

impl Cache {
    /// Which manifest `reference` meant for `platform` when it was last pulled.
    pub fn named(&self, reference: &str, platform: &str) -> Result<Option<NamedImage>, CacheError> {
        let name = name_file(reference, platform);
        let record = self.read_name(&name)?.filter(|record| record.reference == reference && record.platform == platform);
        Ok(record.map(|record| NamedImage { manifest: record.manifest, pulled: UNIX_EPOCH + Duration::from_secs(record.pulled) }))
    }

    /// Records which manifest `reference` means for `platform` as of now.
    pub fn set_name(&self, reference: &str, platform: &str, manifest: &Digest) -> Result<(), CacheError> {
        let pulled = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let record = NameRecord { reference: reference.to_owned(), platform: platform.to_owned(), manifest: *manifest, pulled };
        let name = name_file(reference, platform);
        let write = || write_whole(&self.store, &name, &serde_json::to_vec(&record)?);
        write().map_err(self.io("write", &name))
    }

    /// Forgets what a reference means, for every platform. The image stays.
    pub fn forget_name(&self, reference: &str) -> Result<(), CacheError> {
        for (name, _) in self.names()?.into_iter().filter(|(_, record)| record.reference == reference) {
            match rustix::fs::unlinkat(&self.store, &name, rustix::fs::AtFlags::empty()) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(self.io("remove", &name)(error.into())),
            }
        }
        Ok(())
    }

    /// One file of `names`. A damaged one is none: the next pull writes it anew.
    fn read_name(&self, name: &str) -> Result<Option<NameRecord>, CacheError> {
        match read_file(self.store.as_fd(), name) {
            Ok(json) => Ok(serde_json::from_slice(&json).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.io("read", name)(error)),
        }
    }

    /// All names, sorted, each with its file.
    pub(super) fn names(&self) -> Result<Vec<(String, NameRecord)>, CacheError> {
        let directory = self.directory("names")?;
        let files = super::stored_digests(directory.as_fd()).map_err(self.io("read", "names"))?;
        let mut names = Vec::new();
        for file in files {
            let name = format!("names/{}", file.hex());
            names.extend(self.read_name(&name)?.map(|record| (name, record)));
        }
        names.sort_by(|(_, a), (_, b)| (&a.reference, &a.platform).cmp(&(&b.reference, &b.platform)));
        Ok(names)
    }
}

/// References hold slashes and may be long: the file is called by their digest.
fn name_file(reference: &str, platform: &str) -> String {
    format!("names/{}", Digest::of(format!("{reference}\0{platform}").as_bytes()).hex())
}
