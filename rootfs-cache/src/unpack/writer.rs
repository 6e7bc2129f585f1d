//! Stores the files of a layer: one directory, numbered names, every file created anew through the directory's handle.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender};

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, XattrFlags};

use super::checks::{Check, Checked, Checks};
use super::entry::{Action, LayerBuilder, kept_xattrs};
use super::index::LayerIndex;
use super::tar::{Entry, EntryKind, Event, Mtime, TarParser};
use super::{Chunk, Limits, UnpackError};
use crate::store::LayerStaging;

/// Bits that a stored file keeps. Setuid and setgid would be the *user's* outside the sandbox; the index remembers them.
const MODE_KEPT: u32 = 0o1777;

/// What the writer found out about the tar.
pub(super) struct Written {
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
    for (chunk, length) in chunks {
        writer.chunk(&chunk[..length])?;
        // The other side is gone when it has read all.
        let _ = recycle.send(chunk);
    }
    writer.finish()
}

struct Writer<'a> {
    staging: &'a LayerStaging,
    limits: &'a Limits,
    parser: TarParser,
    builder: LayerBuilder,
    /// What a new file's mode loses in this directory, by the process's umask or a default ACL; not known before the first.
    masked: Option<u32>,
    open: Option<OpenFile>,
    checks: Checks,
    path: PathBuf,
    entries: u64,
    skipped_devices: u64,
}

/// The file whose data are coming in.
struct OpenFile {
    file: File,
    number: u64,
    check: Check,
    /// The mode that it has not got yet.
    mode: Option<u32>,
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
            masked: None,
            open: None,
            checks: Checks::default(),
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
                        open.check.update(data);
                        open.file.write_all(data).map_err(|source| self.cannot_write(source))?;
                    }
                }
                Event::End => {
                    if let Some(open) = self.open.take() {
                        self.checks.add(open.number, open.check);
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
                // Attributes are set only on what its owner may write to (xattr(7)).
                let first = if xattrs.is_empty() { mode } else { mode | Mode::WUSR.as_raw_mode() };
                let (file, masked) = self.create(number, first).map_err(|source| self.cannot_write(source))?;
                let mode = (masked || first != mode).then_some(mode);
                self.open = Some(OpenFile { file, number, check: Check::default(), mode, mtime, xattrs });
            }
        }
        Ok(())
    }

    /// A new file, open for writing whatever its mode says, and whether something of the mode was taken from it: a change of mode costs as much as all the
    /// rest of a small file's creation, so files get theirs with it, where they can.
    fn create(&mut self, number: u64, mode: u32) -> io::Result<(File, bool)> {
        let masked = match self.masked {
            Some(masked) => masked,
            None => *self.masked.insert(probe_mask(self.staging.files())?),
        };
        let file = create(self.staging.files(), &number.to_string(), Mode::from_raw_mode(mode))?;
        Ok((file.into(), mode & masked != 0))
    }

    fn finish(mut self) -> Result<Written, UnpackError> {
        let layer = *self.staging.digest();
        self.parser.finish().map_err(|source| UnpackError::Tar { layer, offset: self.parser.offset(), source })?;
        let (index, live) = std::mem::take(&mut self.builder).finish();
        for (number, _) in live.iter().enumerate().filter(|(_, live)| !**live) {
            rustix::fs::unlinkat(self.staging.files(), number.to_string(), AtFlags::empty())
                .map_err(|error| self.cannot_write(error.into()))?;
        }
        self.path = PathBuf::from("index");
        self.checks.retain(|number| live[number as usize]);
        self.checks.index = write_index(&index, self.staging.directory()).map_err(|source| self.cannot_write(source))?;
        self.path = PathBuf::from("checks");
        write_checks(&self.checks, self.staging.directory()).map_err(|source| self.cannot_write(source))?;
        Ok(Written { entries: index.nodes.len() as u64, skipped_devices: self.skipped_devices })
    }

    fn cannot_write(&self, source: io::Error) -> UnpackError {
        UnpackError::Write { layer: *self.staging.digest(), path: self.path.clone(), source }
    }
}

impl OpenFile {
    /// Attributes come last: writing changes the time.
    fn finish(self) -> io::Result<()> {
        for (name, value) in &self.xattrs {
            // Best effort: tmpfs and others have no or little room for them, and no function depends on them.
            let _ = rustix::fs::fsetxattr(&self.file, &name[..], value, XattrFlags::empty());
        }
        if let Some(mode) = self.mode {
            rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode))?;
        }
        rustix::fs::futimens(&self.file, &timestamps(self.mtime))?;
        Ok(())
    }
}

/// Both times as the kernel takes them.
pub(crate) fn timestamps(mtime: Mtime) -> Timestamps {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn create(directory: BorrowedFd<'_>, name: &str, mode: Mode) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name, flags, mode)?)
}

/// Which bits of a mode a new file in `directory` does not get.
fn probe_mask(directory: BorrowedFd<'_>) -> io::Result<u32> {
    let probe = create(directory, "probe", Mode::from_raw_mode(MODE_KEPT))?;
    let found = rustix::fs::fstat(&probe)?.st_mode;
    rustix::fs::unlinkat(directory, "probe", AtFlags::empty())?;
    Ok(MODE_KEPT & !found)
}

fn write_index(index: &LayerIndex, directory: BorrowedFd<'_>) -> io::Result<Check> {
    let file = File::from(create(directory, "index", Mode::RUSR | Mode::WUSR)?);
    let mut out = BufWriter::new(Checked { out: file, check: Check::default() });
    index.write(&mut out)?;
    Ok(out.into_inner()?.check)
}

fn write_checks(checks: &Checks, directory: BorrowedFd<'_>) -> io::Result<()> {
    File::from(create(directory, "checks", Mode::RUSR | Mode::WUSR)?).write_all(checks.to_text().as_bytes())
}
