//! The files of an OCI layout by their names in it: of a folder, or of an archive.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::archive::TarFile;
use super::{SourceError, check_size};
use crate::unpack::tar::TarError;

/// Where the files are.
pub(crate) enum Files {
    Folder(PathBuf),
    Archive(TarFile),
}

/// Why a file of this machine gives no image.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The kernel does not let us.
    #[error(transparent)]
    File(#[from] io::Error),
    /// The archive is no tar.
    #[error("it is no tar archive that can be read, at byte {offset}")]
    Tar {
        /// Where.
        offset: u64,
        /// What is wrong there.
        source: TarError,
    },
    /// Two files with one name: two readers could see two images.
    #[error("it holds `{0}` twice")]
    Duplicate(String),
    /// A name or a link that leads out of the archive, or to nothing in it.
    #[error("`{name}` {fault}")]
    Name {
        /// The entry.
        name: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// More entries than any image has.
    #[error("it holds more than {0} entries")]
    Entries(usize),
    /// There are no images in it.
    #[error("it holds neither `manifest.json` nor `index.json`")]
    NoImage,
    /// Something that another of its files names is missing.
    #[error("it holds no `{0}`")]
    Missing(String),
    /// One of its files is not what it must be.
    #[error("its `{name}` is malformed")]
    Malformed {
        /// The file.
        name: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// What was inflated of it is out of all proportion.
    #[error("it inflates to more than {0} times its size")]
    Ratio(u64),
}

impl LocalError {
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::NoImage => Some(
                "an archive of `docker save` or of an OCI layout is wanted; `docker export` writes a file system, which is none".to_owned(),
            ),
            Self::Tar { source: TarError::Truncated, .. } => Some("the archive was not written or copied to its end".to_owned()),
            Self::File(error) => crate::store::space_hint(error),
            _ => None,
        }
    }

    /// Of this file.
    pub(super) fn at(self, path: &Path) -> SourceError {
        SourceError::Local { path: path.to_owned(), source: self }
    }
}

impl Files {
    /// A small file, whole.
    pub(super) fn read(&self, name: &str, max: u64) -> Result<Vec<u8>, SourceError> {
        let mut bytes = Vec::new();
        let read = self.open(name)?.take(max + 1).read_to_end(&mut bytes);
        read.map_err(|error| LocalError::File(error).at(&self.path_of(name)))?;
        check_size("manifest", bytes.len() as u64, max)?;
        Ok(bytes)
    }

    /// A file, to be read once.
    pub(super) fn open(&self, name: &str) -> Result<Box<dyn Read + Send>, SourceError> {
        let opened: Result<Box<dyn Read + Send>, LocalError> = match self {
            Self::Folder(folder) => File::open(folder.join(name)).map(|file| Box::new(file) as _).map_err(LocalError::File),
            Self::Archive(archive) => archive.section(name).map(|section| Box::new(section) as _),
        };
        opened.map_err(|error| error.at(&self.path_of(name)))
    }

    /// What stands in messages.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Folder(folder) => format!("OCI layout `{}`", folder.display()),
            Self::Archive(archive) => format!("archive `{}`", archive.path().display()),
        }
    }

    fn path_of(&self, name: &str) -> PathBuf {
        match self {
            Self::Folder(folder) => folder.join(name),
            Self::Archive(archive) => archive.path().to_owned(),
        }
    }
}
