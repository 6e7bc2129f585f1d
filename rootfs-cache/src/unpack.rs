//! Unpacks one image layer: checks the digests, inflates, reads the tar and stores its files.
//!
//! Nothing of a layer's *names* touches the disk here. Regular files go into one directory, numbered; names, modes, symlinks, whiteouts and links are decided in
//! memory and end up in the layer's index (`docs/formats/cache.md`), from which [`crate::rootfs`] builds trees. So an entry has no path to escape by.
//! Knows neither registries nor manifests.

use std::io::{self, BufReader, Read};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::store::LayerStaging;

pub(crate) mod checks;
mod entry;
pub(crate) mod index;
mod inflate;
mod pax;
pub(crate) mod tar;
mod writer;

pub use entry::EntryError;
use inflate::BlobReader;
use inflate::decoder;
pub use inflate::is_packed;
pub(crate) use inflate::{archive_decoder, sniff};
pub use tar::TarError;
pub(crate) use writer::timestamps;
use writer::{Written, write_layer};

/// How much is handed from one thread to the next at a time, and how many such chunks may wait before each.
const CHUNK_BYTES: usize = 512 << 10;
const CHUNKS: usize = 4;
/// What is read from the blob at a time.
const READ_BYTES: usize = 256 << 10;
/// How many bytes tell how something is compressed.
const START_BYTES: usize = 6;
/// A layer may inflate to this before its ratio is looked at: small ones may be all zeros.
const RATIO_FREE_BYTES: u64 = 256 << 20;

/// Inflated bytes per compressed byte that no honest deflate reaches.
pub(crate) const RATIO_MAX: u64 = 1100;

/// What one layer may cost before it is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the inflated tar.
    pub bytes: u64,
    /// Entries of the tar.
    pub entries: u64,
    /// Inflated bytes per compressed byte, looked at once 256 MiB are out.
    pub ratio: u64,
}

impl Default for Limits {
    /// 10 GiB as Lambda has it, two million entries, and 1100:1, which deflate cannot reach.
    fn default() -> Self {
        Self { bytes: 10 << 30, entries: 2_000_000, ratio: RATIO_MAX }
    }
}

/// What came out of a layer. Its index and files are in the staging directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnpackedLayer {
    /// Digest of the blob as it was read: equal to the digest that the layer was claimed under.
    pub blob_digest: Digest,
    /// Digest of the inflated tar, to be compared with the image's config.
    pub diff_id: Digest,
    /// Length of the blob.
    pub compressed_bytes: u64,
    /// Length of the inflated tar.
    pub bytes: u64,
    /// Entries in the layer's index.
    pub entries: u64,
    /// Device nodes left out: an ordinary user cannot make them.
    pub skipped_devices: u64,
    /// How the blob was compressed, from its first bytes; an archive with bzip2 or xz is no layer's form, and told as none.
    pub compression: Compression,
}

/// How a blob is compressed, known from its first bytes. A media type that says otherwise is worth a warning only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar.
    None,
    /// Gzip of one or several members.
    Gzip,
    /// Zstandard of one or several frames.
    Zstd,
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "a plain tar",
            Self::Gzip => "compressed with gzip",
            Self::Zstd => "compressed with zstd",
        })
    }
}

/// Why a layer was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The reader failed.
    #[error("layer {layer}: cannot read the blob")]
    Read {
        /// The layer's blob digest.
        layer: Digest,
        /// What the reader said.
        source: io::Error,
    },
    /// The bytes are not those that the digest names: cut short, or changed on the way.
    #[error("layer {layer}: the {bytes} bytes read have the digest {found}")]
    Digest {
        /// The layer's blob digest.
        layer: Digest,
        /// How much was read.
        bytes: u64,
        /// The digest of what was read.
        found: Digest,
    },
    /// The blob cannot be inflated.
    #[error("layer {layer}: the compressed data are damaged after {bytes} bytes of content")]
    Inflate {
        /// The layer's blob digest.
        layer: Digest,
        /// How much came out before.
        bytes: u64,
        /// What the decoder said.
        source: io::Error,
    },
    /// What was inflated is no tar.
    #[error("layer {layer}: not a tar that can be read, at byte {offset}")]
    Tar {
        /// The layer's blob digest.
        layer: Digest,
        /// Where in the inflated stream.
        offset: u64,
        /// What is wrong there.
        source: TarError,
    },
    /// An entry breaks the rules.
    #[error("layer {layer}: entry `{}` is refused", path.display())]
    Entry {
        /// The layer's blob digest.
        layer: Digest,
        /// The entry's path as the archive has it.
        path: PathBuf,
        /// Which rule.
        source: EntryError,
    },
    /// The layer is larger than allowed.
    #[error("layer {layer}: more than {most} {what}")]
    Limit {
        /// The layer's blob digest.
        layer: Digest,
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        most: u64,
    },
    /// A file could not be written.
    #[error("layer {layer}: cannot write `{}`", path.display())]
    Write {
        /// The layer's blob digest.
        layer: Digest,
        /// The entry being written.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("layer {layer}: cannot start a thread")]
    Thread {
        /// The layer's blob digest.
        layer: Digest,
        /// What the kernel said.
        source: io::Error,
    },
}

impl UnpackError {
    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Write { source, .. } => crate::store::space_hint(source),
            Self::Digest { .. } => {
                Some("the registry or something on the way to it sent other bytes than the manifest names: try again".to_owned())
            }
            _ => None,
        }
    }
}

/// Reads the compressed blob of a claimed layer to its end and unpacks it into `staging`. Blocks, and uses two more threads while it runs.
///
/// The blob's digest is checked against the one that the layer was claimed under, before this returns `Ok`. The caller compares the diff ID.
pub fn unpack_layer(reader: impl Read, staging: &LayerStaging, limits: &Limits) -> Result<UnpackedLayer, UnpackError> {
    unpack(reader, staging, limits, Content::Layer)
}

/// The same of an archive that is a user's and no image's layer, and so may be compressed with bzip2 or xz, too.
pub fn unpack_archive(reader: impl Read, staging: &LayerStaging, limits: &Limits) -> Result<UnpackedLayer, UnpackError> {
    unpack(reader, staging, limits, Content::Archive)
}

/// Whose what is unpacked is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// An image's, perhaps a stranger's.
    Layer,
    /// A user's.
    Archive,
}

fn unpack(reader: impl Read, staging: &LayerStaging, limits: &Limits, content: Content) -> Result<UnpackedLayer, UnpackError> {
    let layer = *staging.digest();
    let mut blob = BlobReader::new(reader);
    let outcome = run(&mut blob, staging, limits, content);
    if let Some(source) = blob.failed.take() {
        return Err(UnpackError::Read { layer, source });
    }
    let outcome = match outcome {
        // Whether the layer is bad or was damaged on the way, only the digest of all its bytes can tell.
        Ok(_) | Err(UnpackError::Inflate { .. } | UnpackError::Tar { .. } | UnpackError::Entry { .. }) => outcome,
        Err(error) => return Err(error),
    };
    let (compressed_bytes, blob_digest) = blob.finish().map_err(|source| UnpackError::Read { layer, source })?;
    if blob_digest != layer {
        return Err(UnpackError::Digest { layer, bytes: compressed_bytes, found: blob_digest });
    }
    let (compression, bytes, diff_id, Written { entries, skipped_devices }) = outcome?;
    Ok(UnpackedLayer { blob_digest, diff_id, compressed_bytes, bytes, entries, skipped_devices, compression })
}

/// What is in an archive, inflated where its first bytes say that it is compressed.
pub fn inflated_archive<'a>(mut archive: impl Read + 'a) -> Box<dyn Read + 'a> {
    let mut start = [0; START_BYTES];
    // What fails here fails again when the rest is read.
    let length = fill(&mut archive, &mut start).unwrap_or(0);
    let start = io::Cursor::new(start[..length].to_vec());
    archive_decoder(start.clone().get_ref(), start.chain(BufReader::with_capacity(READ_BYTES, archive)))
}

/// Inflates here, hashes on one thread, parses and writes on another. Inflating is about half of the work; hashing by itself keeps the rest from being more.
fn run<R: Read>(
    blob: &mut BlobReader<R>,
    staging: &LayerStaging,
    limits: &Limits,
    content: Content,
) -> Result<(Compression, u64, Digest, Written), UnpackError> {
    let layer = *staging.digest();
    // Both bounded, so that a fast blob does not fill the memory.
    let (inflated, to_hash) = mpsc::sync_channel(CHUNKS);
    let (hashed, to_write) = mpsc::sync_channel(CHUNKS);
    // Holds no more chunks than the other two.
    let (recycle, empty) = mpsc::channel();
    let thread = |name: &str| thread::Builder::new().name(name.to_owned());
    let no_thread = |source| UnpackError::Thread { layer, source };
    thread::scope(|scope| {
        let hasher = thread("layer hasher").spawn_scoped(scope, || hash_chunks(to_hash, hashed)).map_err(no_thread)?;
        let writer = thread("layer writer").spawn_scoped(scope, || write_layer(to_write, recycle, staging, limits)).map_err(no_thread)?;
        let inflated = inflate_into(blob, content, layer, limits, (inflated, empty));
        let diff_id = hasher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let (compression, bytes) = inflated?;
        Ok((compression, bytes, diff_id, written?))
    })
}

/// A buffer, and how much of it is filled.
type Chunk = (Vec<u8>, usize);

/// Hashes chunks on their way. Ends early when nobody takes them any more.
fn hash_chunks(chunks: Receiver<Chunk>, hashed: SyncSender<Chunk>) -> Digest {
    let mut hash = Sha256::new();
    for (chunk, length) in chunks {
        hash.update(&chunk[..length]);
        if hashed.send((chunk, length)).is_err() {
            break;
        }
    }
    Digest::from_bytes(hash.finalize().into())
}

/// Sends the blob's tar off chunk by chunk. Ends early, and well, when nobody takes them any more: the writer says why.
fn inflate_into<R: Read>(
    blob: &mut BlobReader<R>,
    content: Content,
    layer: Digest,
    limits: &Limits,
    (full, empty): (SyncSender<Chunk>, Receiver<Vec<u8>>),
) -> Result<(Compression, u64), UnpackError> {
    let mut bytes = 0;
    let damaged = |bytes| move |source| UnpackError::Inflate { layer, bytes, source };
    let mut start = [0; START_BYTES];
    let length = fill(blob, &mut start).map_err(damaged(0))?;
    let start = &start[..length];
    let compression = sniff(start);
    let blob_bytes = blob.counter();
    let blob = start.chain(BufReader::with_capacity(READ_BYTES, blob));
    let mut tar = if content == Content::Layer { decoder(compression, blob) } else { archive_decoder(start, blob) };
    loop {
        let mut chunk = empty.try_recv().unwrap_or_else(|_| vec![0; CHUNK_BYTES]);
        let length = fill(&mut tar, &mut chunk).map_err(damaged(bytes))?;
        bytes += length as u64;
        if bytes > limits.bytes {
            return Err(UnpackError::Limit { layer, what: "bytes", most: limits.bytes });
        }
        if bytes > RATIO_FREE_BYTES && bytes / limits.ratio.max(1) > blob_bytes.get() {
            return Err(UnpackError::Limit { layer, what: "bytes for every compressed one", most: limits.ratio });
        }
        if length == 0 || full.send((chunk, length)).is_err() {
            return Ok((compression, bytes));
        }
    }
}

/// Fills `buffer`, less only at the end.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests;
