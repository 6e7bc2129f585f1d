//! The context of a build: a folder, or an archive from standard input; and the Dockerfile in it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use rootfs_cache::digest::Digest;
use rootfs_cache::store::{Cache, LayerClaim, LayerEntry, LayerEntryKind, StoredLayer};
use rootfs_cache::unpack::{Limits, inflated_archive, is_packed, unpack_archive};

use super::ignore::{Ignore, IgnoreError};
use super::layer::{Content, Entry, LayerError};
use super::tree::Tree;

/// What a build takes files from.
#[derive(Debug, Default)]
pub struct Context {
    /// The files.
    pub tree: Tree,
    /// Which of them are not there for it.
    pub ignore: Ignore,
    /// Where it lies on this machine, if it is a folder.
    pub folder: Option<PathBuf>,
    /// While an archive's content is used, it stays in the cache.
    _held: Option<StoredLayer>,
}

/// Why there is no context.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// It is no folder.
    #[error("cannot use `{}` as the context", path.display())]
    Folder {
        /// As given.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Its `.dockerignore`.
    #[error("cannot use `{name}`")]
    Ignore {
        /// Which file.
        name: String,
        /// What is wrong with it.
        source: IgnoreError,
    },
    /// The Dockerfile is not there, or cannot be read.
    #[error("cannot read the Dockerfile `{name}`")]
    Dockerfile {
        /// As given.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Standard input cannot be read, or kept.
    #[error("cannot read the context from standard input")]
    Stdin(#[source] io::Error),
    /// An archive cannot be unpacked.
    #[error("cannot unpack {what}")]
    Archive {
        /// What it is.
        what: String,
        /// Why.
        source: LayerError,
    },
}

impl ContextError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Folder { .. } => Some("the last argument is a folder, or `-` for an archive from standard input".to_owned()),
            Self::Dockerfile { source, .. } if source.kind() == io::ErrorKind::NotFound => Some("`-f FILE` names another one".to_owned()),
            Self::Archive { source, .. } => source.hint(),
            _ => None,
        }
    }
}

impl Context {
    /// A folder of this machine.
    pub fn folder(path: &Path) -> Result<Self, ContextError> {
        let wrong = |source| ContextError::Folder { path: path.to_owned(), source };
        let real = path.canonicalize().map_err(wrong)?;
        if !real.is_dir() {
            return Err(wrong(io::ErrorKind::NotADirectory.into()));
        }
        Ok(Self { tree: Tree::over(Some(real.clone())), ignore: Ignore::default(), folder: Some(real), _held: None })
    }

    /// An archive; it is unpacked in the cache.
    pub fn archive(archive: &File, cache: &Cache, limits: &Limits) -> Result<Self, ContextError> {
        let what = "the context";
        let (entries, held) = unpack(archive, what, cache, limits)?;
        let mut tree = Tree::over(None);
        tree.add_layer(entries).map_err(ContextError::Stdin)?;
        Ok(Self { tree, ignore: Ignore::default(), folder: None, _held: Some(held) })
    }

    /// The text of a Dockerfile in it.
    pub fn dockerfile(&self, name: &str) -> Result<String, ContextError> {
        let shown = self.folder.as_ref().map_or_else(|| name.to_owned(), |folder| folder.join(name).display().to_string());
        let wrong = |source| ContextError::Dockerfile { name: shown.clone(), source };
        let missing = || wrong(io::Error::from_raw_os_error(libc::ENOENT));
        let bytes = self.tree.read(Path::new(name)).map_err(wrong)?.ok_or_else(missing)?;
        String::from_utf8(bytes).map_err(|_| wrong(io::Error::new(io::ErrorKind::InvalidData, "it is no text")))
    }

    /// Reads what is left out: the Dockerfile's `own` list, which may lie on this machine, else the context's.
    pub fn read_ignore(&mut self, own: &Path) -> Result<(), ContextError> {
        let wrong = |path: &Path, source| ContextError::Dockerfile { name: path.display().to_string(), source };
        let on_host = || match std::fs::read(own) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            read => read.map(Some),
        };
        let found = if self.folder.is_some() { on_host() } else { self.tree.read(own) };
        let general = Path::new(".dockerignore");
        let (path, bytes) = match found.map_err(|source| wrong(own, source))? {
            Some(bytes) => (own, Some(bytes)),
            None => (general, self.tree.read(general).map_err(|source| wrong(general, source))?),
        };
        if let Some(bytes) = bytes {
            let text = String::from_utf8_lossy(&bytes);
            self.ignore = Ignore::parse(&text).map_err(|source| ContextError::Ignore { name: path.display().to_string(), source })?;
        }
        Ok(())
    }
}

/// What standard input is.
#[derive(Debug)]
pub enum Input {
    /// A Dockerfile, without any context.
    Dockerfile(String),
    /// An archive.
    Archive(File),
}

/// Reads standard input to its end into a file of `folder` that has no name.
pub fn read_input(mut input: impl Read, folder: &Path) -> Result<Input, ContextError> {
    let mut file = unnamed_file(folder).map_err(ContextError::Stdin)?;
    io::copy(&mut input, &mut file).and_then(|_| file.flush()).map_err(ContextError::Stdin)?;
    if form_of(&file).map_err(ContextError::Stdin)? != Form::Plain {
        return Ok(Input::Archive(file));
    }
    file.seek(SeekFrom::Start(0)).map_err(ContextError::Stdin)?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(ContextError::Stdin)?;
    Ok(Input::Dockerfile(text))
}

/// A file without a name, on the file system of `folder` where that has such.
pub fn unnamed_file(folder: &Path) -> io::Result<File> {
    use rustix::fs::{MemfdFlags, Mode, OFlags};
    match rustix::fs::open(folder, OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(file.into()),
        // Not every file system has files without names.
        Err(_) => Ok(rustix::fs::memfd_create("context", MemfdFlags::CLOEXEC)?.into()),
    }
}

/// What a file is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Tar,
    Compressed,
}

fn form_of(mut file: &File) -> io::Result<Form> {
    let mut start = [0; 512];
    file.seek(SeekFrom::Start(0))?;
    let mut length = 0;
    while length < start.len() {
        match file.read(&mut start[length..])? {
            0 => break,
            more => length += more,
        }
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(match &start[..length] {
        start if is_packed(start) => Form::Compressed,
        [first, ..] if length == start.len() && *first != 0 && is_tar_header(&start) => Form::Tar,
        _ => Form::Plain,
    })
}

/// Whether its sum is right, which no text has by chance.
fn is_tar_header(block: &[u8; 512]) -> bool {
    let mut header = tar::Header::new_old();
    header.as_mut_bytes().copy_from_slice(block);
    let sum: u32 = block[..148].iter().chain(&[b' '; 8]).chain(&block[156..]).map(|byte| u32::from(*byte)).sum();
    header.cksum().is_ok_and(|found| found == sum)
}

/// What an archive holds, and what keeps it in the cache.
pub type ArchiveEntries = (Vec<(PathBuf, Entry)>, StoredLayer);

/// What an archive that `ADD` names holds; nothing where it is no archive.
pub fn archive_entries(path: &Path, cache: &Cache, limits: &Limits) -> Result<Option<ArchiveEntries>, ContextError> {
    let what = format!("`{}`", path.file_name().unwrap_or_default().to_string_lossy());
    let wrong = |source| ContextError::Archive { what: what.clone(), source: LayerError::Read { path: path.to_owned(), source } };
    let file = File::open(path).map_err(wrong)?;
    let is_archive = match form_of(&file).map_err(wrong)? {
        Form::Plain => false,
        Form::Tar => true,
        Form::Compressed => holds_tar(&file).map_err(wrong)?,
    };
    if !is_archive {
        return Ok(None);
    }
    let (entries, held) = unpack(&file, &what, cache, limits)?;
    let entry = |LayerEntry { path, mode, owner, kind }: LayerEntry| {
        let content = match kind {
            LayerEntryKind::Directory => Content::Directory,
            LayerEntryKind::File(content) => Content::File(content),
            LayerEntryKind::Symlink(target) => Content::Symlink(target),
            LayerEntryKind::Fifo => Content::Fifo,
            LayerEntryKind::Link(_) | LayerEntryKind::Removed | LayerEntryKind::Emptied => return None,
        };
        (!path.as_os_str().is_empty()).then_some((path, Entry { content, mode, owner }))
    };
    Ok(Some((entries.into_iter().filter_map(entry).collect(), held)))
}

/// Whether a compressed file holds a tar: any other is copied as it is.
fn holds_tar(file: &File) -> io::Result<bool> {
    let mut block = [0; 512];
    let mut inflated = inflated_archive(file);
    let is_tar = match inflated.read_exact(&mut block) {
        Ok(()) => is_tar_header(&block),
        // Nobody can see what it holds.
        Err(error) if error.kind() == io::ErrorKind::OutOfMemory => return Err(error),
        Err(_) => false,
    };
    drop(inflated);
    let mut file = file;
    file.seek(SeekFrom::Start(0))?;
    Ok(is_tar)
}

/// Unpacks an archive as a layer is unpacked, with all the care that takes.
fn unpack(mut archive: &File, what: &str, cache: &Cache, limits: &Limits) -> Result<(Vec<LayerEntry>, StoredLayer), ContextError> {
    let wrong = |source| ContextError::Archive { what: what.to_owned(), source };
    let digest = digest_of(archive).map_err(ContextError::Stdin)?;
    let stored = match cache.claim_layer(&digest, &mut || ()).map_err(|error| wrong(LayerError::Cache(error)))? {
        LayerClaim::Present(layer) => layer,
        LayerClaim::Mine(staging) => {
            archive.seek(SeekFrom::Start(0)).map_err(ContextError::Stdin)?;
            let unpacked = unpack_archive(archive, &staging, limits).map_err(|error| wrong(LayerError::Unpack(error)))?;
            staging.publish(unpacked).map_err(|error| wrong(LayerError::Cache(error)))?
        }
    };
    let entries = cache.layer_entries(&stored).map_err(|error| wrong(LayerError::Cache(error)))?;
    Ok((entries, stored))
}

fn digest_of(mut file: &File) -> io::Result<Digest> {
    use sha2::Digest as _;
    file.seek(SeekFrom::Start(0))?;
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest::from_bytes(hash.finalize().into())),
            length => hash.update(&buffer[..length]),
        }
    }
}
