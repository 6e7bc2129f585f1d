//! A tar archive, read where its files lie: its headers are read once, nothing is unpacked to disk. Only what comes compressed or through a pipe is first
//! copied, inflated, to a file without a name.
//!
//! Names in an archive are keys to look up and nothing else: no file is made by them. Those that lead out of it are refused all the same, for what such an
//! archive is made for is not to be read.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::LocalError;
use crate::unpack::tar::{BLOCK, Entry, EntryKind, Event, TarError, TarParser};
use crate::unpack::{RATIO_MAX, archive_decoder, is_packed};

mod docker;

pub(crate) use docker::{DockerArchive, LIST};

/// Most entries: a thousand images of a hundred layers have fewer.
const ENTRIES_MAX: usize = 1_000_000;
/// Longest name: no path of this machine is longer.
const NAME_MAX: usize = 4096;
/// Links that lead to links.
const LINKS_MAX: usize = 8;
/// An archive may inflate to this before its ratio is looked at.
const RATIO_FREE_BYTES: u64 = 256 << 20;

/// Makes the file without a name into which a stream is copied.
pub(crate) type Spool<'a> = &'a (dyn Fn() -> io::Result<File> + Send + Sync);

/// An indexed archive.
pub(crate) struct TarFile {
    path: PathBuf,
    file: Arc<File>,
    entries: BTreeMap<String, Found>,
}

/// What a name of the archive is.
enum Found {
    File {
        offset: u64,
        size: u64,
    },
    /// To another name of the archive.
    Link(String),
}

/// One file of an archive, being read.
pub(crate) struct Section {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl TarFile {
    /// Opens a file, which may be compressed or a pipe.
    pub(crate) fn open(path: &Path, spool: Spool<'_>) -> Result<Self, LocalError> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Self::from_stream(path, file, spool);
        }
        let mut start = [0; 6];
        let length = file.read_at(&mut start, 0)?;
        if !is_packed(&start[..length]) {
            return Self::index(path, file);
        }
        Self::from_stream(path, file, spool)
    }

    /// Reads a stream to its end; `path` is what it is called in messages.
    pub(crate) fn from_stream(path: &Path, stream: impl Read, spool: Spool<'_>) -> Result<Self, LocalError> {
        let mut copy = spool()?;
        copy_inflated(stream, &mut copy)?;
        copy.rewind()?;
        Self::index(path, copy)
    }

    fn index(path: &Path, file: File) -> Result<Self, LocalError> {
        let entries = Indexer { file: &file, length: file.metadata()?.len(), at: 0, parser: TarParser::new() }.entries()?;
        Ok(Self { path: path.to_owned(), file: Arc::new(file), entries })
    }

    /// What it is called in messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is a file of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.section(name).is_ok()
    }

    /// A file by its name, through links.
    pub(crate) fn section(&self, name: &str) -> Result<Section, LocalError> {
        let mut key = joined("", name).ok_or_else(|| LocalError::Name { name: shown(name), fault: "leads out of the archive" })?;
        for _ in 0..=LINKS_MAX {
            match self.entries.get(&key) {
                Some(Found::File { offset, size }) => return Ok(Section { file: Arc::clone(&self.file), offset: *offset, left: *size }),
                Some(Found::Link(target)) => key.clone_from(target),
                None => return Err(LocalError::Missing(shown(&key))),
            }
        }
        Err(LocalError::Name { name: shown(name), fault: "is a link to a link to a link without end" })
    }
}

impl Section {
    /// The first bytes of any file, read without moving it.
    pub(crate) fn new(file: Arc<File>, length: u64) -> Self {
        Self { file, offset: 0, left: length }
    }

    /// How long it is from here on.
    pub(crate) fn length(&self) -> u64 {
        self.left
    }
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let length = self.file.read_at(&mut buffer[..most], self.offset)?;
        if length == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += length as u64;
        self.left -= length as u64;
        Ok(length)
    }
}

struct Indexer<'a> {
    file: &'a File,
    length: u64,
    at: u64,
    parser: TarParser,
}

impl Indexer<'_> {
    fn entries(mut self) -> Result<BTreeMap<String, Found>, LocalError> {
        let mut entries = BTreeMap::new();
        let mut count = 0;
        let mut block = [0; BLOCK];
        while !self.parser.has_ended() {
            let length = self.read(&mut block)?;
            let mut input = &block[..length];
            self.at += length as u64;
            if length == 0 {
                self.parser.finish().map_err(|source| self.broken(source))?;
                break;
            }
            while let Some(event) = self.parser.next(&mut input).map_err(|source| self.broken(source))? {
                let Event::Entry(entry) = event else { continue };
                count += 1;
                if count > ENTRIES_MAX {
                    return Err(LocalError::Entries(ENTRIES_MAX));
                }
                let offset = self.at;
                self.at = self.at.saturating_add(self.parser.skip_data());
                if self.length - offset.min(self.length) < entry.size {
                    return Err(self.broken(TarError::Truncated));
                }
                add(&mut entries, &entry, offset)?;
            }
        }
        Ok(entries)
    }

    fn read(&self, block: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < block.len() {
            match self.file.read_at(&mut block[filled..], self.at + filled as u64) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn broken(&self, source: TarError) -> LocalError {
        LocalError::Tar { offset: self.parser.offset().min(self.length), source }
    }
}

fn add(entries: &mut BTreeMap<String, Found>, entry: &Entry, offset: u64) -> Result<(), LocalError> {
    let lossy = String::from_utf8_lossy(&entry.path);
    let bad = |fault| LocalError::Name { name: shown(&lossy), fault };
    if entry.path.len() > NAME_MAX {
        return Err(bad("is too long a name"));
    }
    let outside = || bad("leads out of the archive");
    let name = str::from_utf8(&entry.path).map_err(|_| bad("is no UTF-8"))?;
    let key = joined("", name).ok_or_else(outside)?;
    let found = match &entry.kind {
        EntryKind::Directory => return Ok(()),
        EntryKind::File => Found::File { offset, size: entry.size },
        EntryKind::Symlink { target } => {
            let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
            Found::Link(str::from_utf8(target).ok().and_then(|target| joined(folder, target)).ok_or_else(outside)?)
        }
        EntryKind::HardLink { target } => {
            Found::Link(str::from_utf8(target).ok().and_then(|target| joined("", target)).ok_or_else(outside)?)
        }
        EntryKind::Fifo | EntryKind::Device => return Err(bad("is neither a file nor a folder nor a link")),
    };
    match entries.entry(key) {
        Slot::Vacant(slot) => {
            slot.insert(found);
            Ok(())
        }
        Slot::Occupied(slot) => Err(LocalError::Duplicate(shown(slot.key()))),
    }
}

/// What `name` leads to from `folder`; `None` where that is outside.
fn joined(folder: &str, name: &str) -> Option<String> {
    if name.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// For messages: what a stranger wrote may be long, and hold anything.
fn shown(name: &str) -> String {
    name.chars().take(200).flat_map(|c| c.escape_debug().collect::<Vec<_>>()).collect()
}

fn copy_inflated(mut stream: impl Read, copy: &mut File) -> Result<(), LocalError> {
    let mut start = Vec::new();
    stream.by_ref().take(6).read_to_end(&mut start)?;
    let compressed = std::cell::Cell::new(0);
    let counted = Counted { stream: start.chain(stream), bytes: &compressed };
    let mut content = archive_decoder(&start, BufReader::with_capacity(CHUNK, counted));
    let (mut chunk, mut bytes) = (vec![0; CHUNK], 0);
    loop {
        let length = match content.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        bytes += length as u64;
        if bytes > RATIO_FREE_BYTES && bytes / RATIO_MAX > compressed.get() {
            return Err(LocalError::Ratio(RATIO_MAX));
        }
        copy.write_all(&chunk[..length])?;
    }
}

const CHUNK: usize = 256 << 10;

struct Counted<'a, R> {
    stream: R,
    bytes: &'a std::cell::Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(buffer)?;
        self.bytes.set(self.bytes.get() + length as u64);
        Ok(length)
    }
}

#[cfg(test)]
mod tests;
