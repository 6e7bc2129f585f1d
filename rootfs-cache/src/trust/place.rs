//! Where the documents of a repository come from: a server, a folder with a saved copy, or the hand.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::PathBuf;

use crate::digest::Digest;
use crate::source::notary::{DOCUMENT_MAX_BYTES, NotaryServer};
use crate::source::{HttpError, SourceError};

/// Why a document could not be had.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// A file of the folder.
    #[error("cannot read `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Larger than any that is meant well.
    #[error("`{}` is larger than {DOCUMENT_MAX_BYTES} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The server.
    #[error("the trust server gives no {document}")]
    Server {
        /// The document.
        document: String,
        /// Why.
        source: SourceError,
    },
}

impl PlaceError {
    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Server { source: SourceError::Unreachable { source, registry }, .. } => match source {
                HttpError::Request { .. } => Some(format!(
                    "is `{registry}` right (`--trust-server URL`), and its authority trusted (`--ca FILE`)? A saved copy of its files can be given with `--trust-dir DIR`"
                )),
                _ => None,
            },
            Self::Server { source, .. } => source.hint(),
            Self::File { .. } | Self::TooLarge { .. } => None,
        }
    }
}

/// Where documents come from.
pub(super) enum Place<'a> {
    Server(Box<NotaryServer<'a>>),
    /// Files as the server names them, and as docker keeps them: `root.json`, `targets/releases.json`.
    Folder(PathBuf),
    Held(&'a BTreeMap<String, Vec<u8>>),
}

impl Place<'_> {
    /// A document by its name, such as `root` or `3.root`. Servers keep older ones by their digest, so that nobody is disturbed by a change.
    pub(super) async fn document(&self, name: &str, digest: Option<&Digest>) -> Result<Option<Vec<u8>>, PlaceError> {
        match self {
            Self::Server(server) => {
                let failed = |source| PlaceError::Server { document: format!("{name}.json"), source };
                if let Some(digest) = digest
                    && let Some(document) = server.document(&format!("{name}.{}", digest.hex())).await.map_err(failed)?
                {
                    return Ok(Some(document));
                }
                server.document(name).await.map_err(failed)
            }
            Self::Folder(folder) => read(folder.join(format!("{name}.json"))),
            Self::Held(documents) => Ok(documents.get(name).cloned()),
        }
    }
}

fn read(path: PathBuf) -> Result<Option<Vec<u8>>, PlaceError> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(&path).and_then(|file| file.take(DOCUMENT_MAX_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 > DOCUMENT_MAX_BYTES => Err(PlaceError::TooLarge { path }),
        Ok(_) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(PlaceError::File { path, source }),
    }
}
