//! Stores the files of a layer: one directory, numbered names, every file created anew through the directory's handle.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender};

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use sha2::{Digest as _, Sha256};

use super::entry::{Action, LayerBuilder, kept_xattrs};
use super::index::LayerIndex;
use super::tar::{Entry, EntryKind, Event, Mtime, TarParser};
use super::{Chunk, Limits, UnpackError};
use crate::digest::Digest;
use crate::store::LayerStaging;

/// Bits that a stored file keeps. Setuid and setgid would be the *user's* outside the sandbox; the index remembers them.
const MODE_KEPT: u32 = 0o1777;

/// What the writer found out about the tar.
pub(super) struct Written {
    pub(super) diff_id: Digest,
    pub(super) entries: u64,
    pub(super) skipped_devices: u64,
}

/// Takes inflated chunks until there are no more, and sends them back for reuse.
pub(super) fn write_layer(
    chunks: Receiver<Chunk>,
    recycle: Sender<Vec<u8>>,
    staging: &LayerStaging,
    limits: &Limits,
) -> Result<Written, UnpackError> {
    let mut writer = Writer::new(staging, limits);
    let mut hash = Sha256::new();
    for (chunk, length) in chunks {
        hash.update(&chunk[..length]);
        writer.chunk(&chunk[..length])?;
        // The other side is gone when it has read all.
        let _ = recycle.send(chunk);
    }
    let diff_id = Digest::from_bytes(hash.finalize().into());
    writer.finish(diff_id)
}

struct Writer<'a> {
    staging: &'a LayerStaging,
    limits: &'a Limits,
    parser: TarParser,
    builder: LayerBuilder,
    open: Option<OpenFile>,
    path: PathBuf,
    entries: u64,
    skipped_devices: u64,
}

/// The file whose data are coming in.
struct OpenFile {
    file: File,
    mode: u32,
    mtime: Mtime,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<'a> Writer<'a> {
    fn new(staging: &'a LayerStaging, limits: &'a Limits) -> Self {
        Self {
            staging,
            limits,
            parser: TarParser::new(),
            builder: LayerBuilder::default(),
            open: None,
            path: PathBuf::new(),
            entries: 0,
            skipped_devices: 0,
        }
    }

    fn chunk(&mut self, mut chunk: &[u8]) -> Result<(), UnpackError> {
        let layer = *self.staging.digest();
        while let Some(event) =
            self.parser.next(&mut chunk).map_err(|source| UnpackError::Tar { layer, offset: self.parser.offset(), source })?
        {
            match event {
                Event::Entry(entry) => self.entry(entry)?,
                Event::Data(data) => {
                    if let Some(open) = &mut self.open {
                        open.file.write_all(data).map_err(|source| self.cannot_write(source))?;
                    }
                }
                Event::End => {
                    if let Some(open) = self.open.take() {
                        open.finish().map_err(|source| self.cannot_write(source))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, mut entry: Entry) -> Result<(), UnpackError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(UnpackError::Limit { layer: *self.staging.digest(), what: "entries", most: self.limits.entries });
        }
        self.path = PathBuf::from(std::ffi::OsString::from_vec(entry.path.clone()));
        let is_file = entry.kind == EntryKind::File;
        let (mode, mtime) = (entry.mode & MODE_KEPT, entry.mtime);
        let xattrs = if is_file { kept_xattrs(std::mem::take(&mut entry.xattrs)) } else { Vec::new() };
        let action = self.builder.add(entry).map_err(|source| UnpackError::Entry {
            layer: *self.staging.digest(),
            path: self.path.clone(),
            source,
        })?;
        match action {
            Action::Index => {}
            Action::SkipDevice => self.skipped_devices += 1,
            Action::Store(number) => {
                let file = create(self.staging.files(), &number.to_string()).map_err(|source| self.cannot_write(source))?;
                self.open = Some(OpenFile { file: file.into(), mode, mtime, xattrs });
            }
        }
        Ok(())
    }

    fn finish(mut self, diff_id: Digest) -> Result<Written, UnpackError> {
        let layer = *self.staging.digest();
        self.parser.finish().map_err(|source| UnpackError::Tar { layer, offset: self.parser.offset(), source })?;
        let (index, live) = std::mem::take(&mut self.builder).finish();
        for (number, _) in live.iter().enumerate().filter(|(_, live)| !**live) {
            rustix::fs::unlinkat(self.staging.files(), number.to_string(), AtFlags::empty())
                .map_err(|error| self.cannot_write(error.into()))?;
        }
        self.path = PathBuf::from("index");
        write_index(&index, self.staging.directory()).map_err(|source| self.cannot_write(source))?;
        Ok(Written { diff_id, entries: index.nodes.len() as u64, skipped_devices: self.skipped_devices })
    }

    fn cannot_write(&self, source: io::Error) -> UnpackError {
        UnpackError::Write { layer: *self.staging.digest(), path: self.path.clone(), source }
    }
}

impl OpenFile {
    /// Attributes come last: the mode may forbid writing, and writing changes the time.
    fn finish(self) -> io::Result<()> {
        for (name, value) in &self.xattrs {
            // Best effort: tmpfs and others have no or little room for them, and no function depends on them.
            let _ = rustix::fs::fsetxattr(&self.file, &name[..], value, XattrFlags::empty());
        }
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(self.mode))?;
        rustix::fs::futimens(&self.file, &timestamps(self.mtime))?;
        Ok(())
    }
}

/// Both times as the kernel takes them.
pub(crate) fn timestamps(mtime: Mtime) -> Timestamps {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn create(directory: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?)
}

fn write_index(index: &LayerIndex, directory: BorrowedFd<'_>) -> io::Result<()> {
    let mut out = BufWriter::new(File::from(create(directory, "index")?));
    index.write(&mut out)?;
    out.flush()
}
