//! A tar reader that is fed instead of reading: any split of the stream into chunks gives the same events.
//!
//! Reads what Go's `archive/tar` reads, on which image tools agree: ustar, PAX, GNU long names, base-256 numbers. Sparse files are refused. Judges no names: see
//! [`super::entry`]. <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html>

use std::mem;

use super::pax::{self, Overrides};

pub(crate) const BLOCK: usize = 512;
/// Longest PAX header or GNU long name.
const META_MAX: u64 = 1 << 20;

/// Why a stream is no tar that we read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TarError {
    /// The stream ends inside an entry.
    #[error("the archive is cut short")]
    Truncated,
    /// A header's checksum is wrong: not a tar, or out of step with it.
    #[error("no entry header here: the checksum does not fit")]
    Checksum,
    /// A number is malformed, negative or too large.
    #[error("the header's {0} is not a number that fits")]
    Number(&'static str),
    /// A PAX record is malformed.
    #[error("malformed PAX record")]
    Pax,
    /// A global PAX header would rename or resize all entries that follow.
    #[error("a global PAX header sets `{0}`")]
    Global(String),
    /// A PAX header or long name over 1 MiB.
    #[error("extended header of {0} bytes")]
    MetaTooLong(u64),
    /// A sparse file.
    #[error("sparse files are not supported")]
    Sparse,
    /// An entry type that no image layer has.
    #[error("unknown entry type `{}`", char::from(*.0).escape_default())]
    Type(u8),
    /// A header follows one zero block; the end is two.
    #[error("an entry after a zero block")]
    ZeroBlock,
}

/// A time of modification: seconds since 1970 and nanoseconds after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mtime {
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    Directory,
    Symlink { target: Vec<u8> },
    HardLink { target: Vec<u8> },
    Fifo,
    Device,
}

/// One entry, its extended headers applied, its names as they stand in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryKind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Mtime,
    /// Length of the data that follow; 0 for all but files.
    pub(crate) size: u64,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What the parser has found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    Entry(Entry),
    /// Some of the entry's data: where data end and begin depends on the chunks.
    Data(&'a [u8]),
    /// The entry is complete.
    End,
}

#[derive(Clone, Copy)]
enum Meta {
    Pax,
    Global,
    LongName,
    LongLink,
}

#[derive(Clone, Copy)]
enum State {
    Header,
    Meta {
        kind: Meta,
        left: u64,
        padding: usize,
    },
    Data {
        left: u64,
        padding: usize,
    },
    Padding {
        left: usize,
    },
    /// One zero block was seen.
    Ending,
    /// The archive has ended; what follows is not looked at.
    Ended,
}

/// The parser. Feed it with [`TarParser::next`], and tell it the end with [`TarParser::finish`].
pub(crate) struct TarParser {
    state: State,
    block: [u8; BLOCK],
    filled: usize,
    meta: Vec<u8>,
    pax: Overrides,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    offset: u64,
}

impl TarParser {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Header,
            block: [0; BLOCK],
            filled: 0,
            meta: Vec::new(),
            pax: Overrides::default(),
            long_name: None,
            long_link: None,
            offset: 0,
        }
    }

    /// How many bytes were consumed: where an error was found.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next event, or `None` when `input` is used up and more is needed. What was consumed is cut from `input`.
    pub(crate) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, TarError> {
        loop {
            match self.state {
                State::Header | State::Ending => {
                    if !self.fill_block(input) {
                        return Ok(None);
                    }
                    if let Some(entry) = self.header()? {
                        return Ok(Some(Event::Entry(entry)));
                    }
                }
                State::Meta { kind, left, padding } => {
                    let part = self.take(input, left);
                    self.meta.extend_from_slice(part);
                    let left = left - part.len() as u64;
                    if left > 0 {
                        self.state = State::Meta { kind, left, padding };
                        return Ok(None);
                    }
                    self.state = State::Padding { left: padding };
                    self.meta_done(kind)?;
                }
                State::Data { left: 0, padding } => {
                    self.state = State::Padding { left: padding };
                    return Ok(Some(Event::End));
                }
                State::Data { left, padding } => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let part = self.take(input, left);
                    self.state = State::Data { left: left - part.len() as u64, padding };
                    return Ok(Some(Event::Data(part)));
                }
                State::Padding { left: 0 } => self.state = State::Header,
                State::Padding { left } => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let skipped = self.take(input, left as u64).len();
                    self.state = State::Padding { left: left - skipped };
                }
                State::Ended => {
                    self.take(input, u64::MAX);
                    return Ok(None);
                }
            }
        }
    }

    /// Whether the end was seen.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Passes over the data of the entry at hand, whose end is then not told: how many bytes the caller leaves out of what it feeds.
    pub(crate) fn skip_data(&mut self) -> u64 {
        let State::Data { left, padding } = self.state else { return 0 };
        let skipped = left.saturating_add(padding as u64);
        self.state = State::Header;
        self.offset = self.offset.saturating_add(skipped);
        skipped
    }

    /// Whether the stream may end here. The two zero blocks may be missing, as Go's reader and GNU tar have it; digests tell whether anything else is.
    pub(crate) fn finish(&self) -> Result<(), TarError> {
        let pending = self.pax != Overrides::default() || self.long_name.is_some() || self.long_link.is_some();
        match self.state {
            State::Ended => Ok(()),
            State::Header | State::Ending | State::Padding { left: 0 } if self.filled == 0 && !pending => Ok(()),
            _ => Err(TarError::Truncated),
        }
    }

    fn take<'a>(&mut self, input: &mut &'a [u8], most: u64) -> &'a [u8] {
        let length = usize::try_from(most).map_or(input.len(), |most| most.min(input.len()));
        let (part, rest) = input.split_at(length);
        *input = rest;
        self.offset += length as u64;
        part
    }

    fn fill_block(&mut self, input: &mut &[u8]) -> bool {
        let part = self.take(input, (BLOCK - self.filled) as u64);
        self.block[self.filled..self.filled + part.len()].copy_from_slice(part);
        self.filled += part.len();
        self.filled == BLOCK
    }

    /// Reads the full block as a header. An entry comes back unless it is an extended header or a zero block.
    fn header(&mut self) -> Result<Option<Entry>, TarError> {
        self.filled = 0;
        let ending = matches!(self.state, State::Ending);
        if self.block.iter().all(|&byte| byte == 0) {
            // An extended header must be followed by its entry.
            self.state = State::Header;
            self.finish()?;
            self.state = if ending { State::Ended } else { State::Ending };
            return Ok(None);
        }
        if ending {
            return Err(TarError::ZeroBlock);
        }
        let header = Header(&self.block);
        header.check()?;
        let size = header.number(124..136).and_then(|size| u64::try_from(size).ok()).ok_or(TarError::Number("size"))?;
        let meta = match header.kind() {
            b'x' => Meta::Pax,
            b'g' => Meta::Global,
            b'L' => Meta::LongName,
            b'K' => Meta::LongLink,
            _ => return self.entry(size).map(Some),
        };
        if size > META_MAX {
            return Err(TarError::MetaTooLong(size));
        }
        self.meta.clear();
        self.state = State::Meta { kind: meta, left: size, padding: padding(size) };
        Ok(None)
    }

    fn entry(&mut self, header_size: u64) -> Result<Entry, TarError> {
        let header = Header(&self.block);
        let pax = mem::take(&mut self.pax);
        let path = self.long_name.take().or(pax.path).unwrap_or_else(|| header.path());
        let target = self.long_link.take().or(pax.link_path).unwrap_or_else(|| header.text(157..257).to_vec());
        let kind = match header.kind() {
            0 if path.ends_with(b"/") => EntryKind::Directory,
            b'0' | 0 | b'7' => EntryKind::File,
            b'1' => EntryKind::HardLink { target },
            b'2' => EntryKind::Symlink { target },
            b'3' | b'4' => EntryKind::Device,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            b'S' => return Err(TarError::Sparse),
            other => return Err(TarError::Type(other)),
        };
        // A PAX size is always right, whatever the header says (CVE-2025-62518, CVE-2026-33055). Only files have data, as in Go's reader.
        let size = if kind == EntryKind::File { pax.size.unwrap_or(header_size) } else { 0 };
        let seconds = header.number(136..148).ok_or(TarError::Number("mtime"))?;
        let entry = Entry {
            path,
            kind,
            mode: header.number(100..108).ok_or(TarError::Number("mode"))? as u32 & 0o7777,
            uid: pax.uid.map_or_else(|| header.owner(108..116), Ok)?,
            gid: pax.gid.map_or_else(|| header.owner(116..124), Ok)?,
            mtime: pax.mtime.unwrap_or(Mtime { seconds, nanos: 0 }),
            size,
            xattrs: pax.xattrs,
        };
        self.state = State::Data { left: size, padding: padding(size) };
        Ok(entry)
    }

    fn meta_done(&mut self, kind: Meta) -> Result<(), TarError> {
        let meta = mem::take(&mut self.meta);
        match kind {
            Meta::Pax => self.pax = Overrides::parse(&meta)?,
            Meta::Global => pax::check_global(&meta)?,
            Meta::LongName => self.long_name = Some(until_nul(&meta).to_vec()),
            Meta::LongLink => self.long_link = Some(until_nul(&meta).to_vec()),
        }
        self.meta = meta;
        Ok(())
    }
}

fn padding(size: u64) -> usize {
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

struct Header<'a>(&'a [u8; BLOCK]);

impl<'a> Header<'a> {
    fn kind(&self) -> u8 {
        self.0[156]
    }

    fn text(&self, field: std::ops::Range<usize>) -> &'a [u8] {
        until_nul(&self.0[field])
    }

    /// Only POSIX headers have a prefix; where it would be, GNU ones keep times.
    fn path(&self) -> Vec<u8> {
        let (name, prefix) = (self.text(0..100), self.text(345..500));
        if &self.0[257..263] == b"ustar\0" && !prefix.is_empty() { [prefix, b"/", name].concat() } else { name.to_vec() }
    }

    /// The sum of all bytes with the sum's own field as spaces. Old tars summed signed bytes.
    fn check(&self) -> Result<(), TarError> {
        let byte = |(at, byte): (usize, &u8)| if (148..156).contains(&at) { b' ' } else { *byte };
        let unsigned: i64 = self.0.iter().enumerate().map(|at| i64::from(byte(at))).sum();
        let signed: i64 = self.0.iter().enumerate().map(|at| i64::from(byte(at) as i8)).sum();
        let sum = octal(&self.0[148..156]).ok_or(TarError::Checksum)?;
        if sum == unsigned || sum == signed { Ok(()) } else { Err(TarError::Checksum) }
    }

    fn number(&self, field: std::ops::Range<usize>) -> Option<i64> {
        let field = &self.0[field];
        if field[0] & 0x80 == 0 { octal(field) } else { base_256(field) }
    }

    /// An owner is recorded and never applied, so one that no kernel has is no reason to refuse the layer.
    fn owner(&self, field: std::ops::Range<usize>) -> Result<u32, TarError> {
        let id = self.number(field).ok_or(TarError::Number("owner"))?;
        Ok(u32::try_from(id).unwrap_or(u32::MAX))
    }
}

fn octal(field: &[u8]) -> Option<i64> {
    let blank = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
    let digits = field[start..].split(blank).next().unwrap_or_default();
    // Nothing but blanks may follow the digits.
    if !field[start + digits.len()..].iter().all(blank) {
        return None;
    }
    digits.iter().try_fold(0_i64, |sum, digit| match digit {
        b'0'..=b'7' => sum.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// Big-endian two's complement whose top bit marks the format and is followed by the sign.
fn base_256(field: &[u8]) -> Option<i64> {
    let first = if field[0] & 0x40 == 0 { i128::from(field[0] & 0x3f) } else { i128::from(field[0] as i8) };
    let value = field[1..].iter().try_fold(first, |sum, byte| sum.checked_mul(256)?.checked_add(i128::from(*byte)))?;
    i64::try_from(value).ok()
}

#[cfg(test)]
mod tests;
