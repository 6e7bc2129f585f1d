//! Turns a blob into the tar in it, hashing the blob on the way. The format is sniffed from the first bytes.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::rc::Rc;

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use sha2::{Digest as _, Sha256};

use super::Compression;
use crate::digest::Digest;

/// Largest zstd window, as `zstd --long` takes it without more ado.
const ZSTD_WINDOW_MAX: u64 = 1 << 27;

/// Most memory for an xz dictionary and what goes with it: twice what `xz -9` makes. KiB.
const XZ_MEMORY_MAX_KIB: u32 = (128 << 10) + 1024;

/// Hashes and counts what is read through it, and keeps the reader's own error apart from those of the decoders above.
pub(super) struct BlobReader<R> {
    inner: R,
    hash: Sha256,
    /// Shared with who watches the ratio while a decoder holds the reader.
    bytes: Rc<Cell<u64>>,
    pub(super) failed: Option<io::Error>,
}

impl<R: Read> BlobReader<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new(), bytes: Rc::default(), failed: None }
    }

    /// How much has been read, to be looked at while the reader is lent.
    pub(super) fn counter(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.bytes)
    }

    /// Length and digest of everything, having read what the decoder left.
    pub(super) fn finish(mut self) -> io::Result<(u64, Digest)> {
        io::copy(&mut self, &mut io::sink())?;
        Ok((self.bytes.get(), Digest::from_bytes(self.hash.finalize().into())))
    }
}

impl<R: Read> Read for BlobReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(length) => {
                self.hash.update(&buffer[..length]);
                self.bytes.set(self.bytes.get() + length as u64);
                Ok(length)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(kind.into())
            }
        }
    }
}

/// What the first bytes of a blob say. Four are enough.
pub(crate) fn sniff(start: &[u8]) -> Compression {
    match start {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        // A frame, or one that is to be skipped.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

/// Whether an archive that begins like this is compressed. Six bytes are enough.
pub fn is_packed(start: &[u8]) -> bool {
    packing(start) != Packing::Layer(Compression::None)
}

/// How an archive is compressed: a user's may be in more ways than an image's layers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Packing {
    Layer(Compression),
    Bzip2,
    Xz,
}

fn packing(start: &[u8]) -> Packing {
    match start {
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Packing::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Packing::Xz,
        _ => Packing::Layer(sniff(start)),
    }
}

/// The tar inside an archive that begins with `start`, which `blob` has, too.
pub(crate) fn archive_decoder<'a>(start: &[u8], blob: impl BufRead + 'a) -> Box<dyn Read + 'a> {
    match packing(start) {
        Packing::Layer(compression) => decoder(compression, blob),
        // Both take several streams, as their programs write them when files are joined.
        Packing::Bzip2 => Box::new(MultiBzDecoder::new(blob)),
        Packing::Xz => Box::new(XzStreams(XzReader::new_mem_limit(blob, true, XZ_MEMORY_MAX_KIB))),
    }
}

/// The tar inside `blob`.
pub(crate) fn decoder<'a>(compression: Compression, blob: impl BufRead + 'a) -> Box<dyn Read + 'a> {
    match compression {
        Compression::None => Box::new(blob),
        // Garbage after the last member is an error, as it reads like another member's header.
        Compression::Gzip => Box::new(MultiGzDecoder::new(blob)),
        Compression::Zstd => Box::new(ZstdFrames::new(blob)),
    }
}

/// All streams of an xz file; says in our words what is wrong with one that wants too much memory.
struct XzStreams<R: Read>(XzReader<R>);

impl<R: Read> Read for XzStreams<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::OutOfMemory => io::Error::new(error.kind(), "its xz dictionary is larger than the 128 MiB that are taken"),
            _ => error,
        })
    }
}

/// All frames of a zstd stream, one after the other.
struct ZstdFrames<R> {
    source: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> ZstdFrames<R> {
    fn new(source: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(ZSTD_WINDOW_MAX);
        Self { source, decoder, in_frame: false }
    }

    /// Reads the next frame's header. A frame to be skipped is skipped.
    fn start_frame(&mut self) -> io::Result<()> {
        match self.decoder.reset(&mut self.source) {
            Ok(()) => self.in_frame = true,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                let length = u64::from(length);
                if io::copy(&mut self.source.by_ref().take(length), &mut io::sink())? != length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
        Ok(())
    }

    fn end_frame(&mut self) -> io::Result<()> {
        self.in_frame = false;
        match (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum()) {
            (Some(said), Some(found)) if said != found => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "zstd frame checksum does not match"))
            }
            _ => Ok(()),
        }
    }
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.in_frame {
                if self.source.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                self.start_frame()?;
                continue;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            }
            match self.decoder.read(buffer)? {
                0 => self.end_frame()?,
                length => return Ok(length),
            }
        }
    }
}
