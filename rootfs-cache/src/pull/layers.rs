//! Fetches and unpacks the layers of an image: several at once, each streamed from its source into the unpacker.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::pin::pin;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_util::{StreamExt, stream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, spawn_blocking};

use super::{KeepBlobs, PullError, PullEvent, PullObserver};
use crate::digest::Digest;
use crate::manifest::{Descriptor, compression_of};
use crate::source::{Blob, RemoteImage, Source, SourceError};
use crate::store::{BlobStaging, Cache, CacheError, LayerClaim, StoredLayer};
use crate::unpack::{Limits, UnpackError, UnpackedLayer, unpack_layer};

/// Layers under way at once: a registry's connections and a machine's cores are soon the limit, and every layer has its own unpacker.
const AT_ONCE: usize = 3;
/// Chunks on their way from the network to an unpacker. Bounded, so that a fast registry waits for a slow disk; a chunk may be half a MiB.
const CHUNKS_AHEAD: usize = 8;
/// After so much of the blobs the disk is set to work. A sync at the end alone would find it idle until then, and have to wait for all of it.
const WRITE_BACK_BYTES: u64 = 24 << 20;

/// The pull of one image's layers.
pub(super) struct LayerPull<'a> {
    pub(super) reference: &'a str,
    pub(super) cache: &'a Arc<Cache>,
    pub(super) source: &'a Source<'a>,
    pub(super) limits: &'a Limits,
    pub(super) blobs: KeepBlobs,
    pub(super) observer: &'a PullObserver<'a>,
    /// Set when a layer has failed.
    pub(super) stop: watch::Sender<bool>,
    /// Bytes of blobs that came so far.
    pub(super) received: watch::Sender<u64>,
}

/// One layer, and what it must unpack to.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    blob: &'a Descriptor,
    diff_id: Digest,
}

/// Why a layer did not get into the cache.
enum Fault {
    Unpack(UnpackError),
    DiffId(Digest),
    Cache(CacheError),
}

impl LayerPull<'_> {
    /// All layers of the image, bottom first. The first failure ends the others: what they have written goes with them.
    pub(super) async fn all(&self, image: &RemoteImage) -> Result<Vec<StoredLayer>, PullError> {
        let wanted = || image.manifest.layers.iter().zip(&image.config.diff_ids).map(|(blob, diff_id)| Wanted { blob, diff_id: *diff_id });
        let mut fetched = self.fetch(largest_first(wanted())).await?;
        let mut layers = Vec::new();
        for layer in wanted() {
            // Where a layer stands a second time it is in the cache by now, and held there by the first.
            match fetched.remove(&layer.blob.digest) {
                Some(stored) => layers.push(stored),
                None => layers.extend(self.one(layer).await?),
            }
        }
        Ok(layers)
    }

    /// Ends only when all that was begun has ended, so that a failed pull leaves nobody behind who still writes.
    async fn fetch(&self, layers: Vec<Wanted<'_>>) -> Result<HashMap<Digest, StoredLayer>, PullError> {
        let layers: Vec<_> = layers.into_iter().map(|layer| self.one(layer)).collect();
        let mut outcomes = stream::iter(layers).buffer_unordered(AT_ONCE);
        let (mut fetched, mut failure) = (HashMap::new(), None);
        let mut write_back = pin!(self.write_back());
        while let Some(outcome) = tokio::select! {
            outcome = outcomes.next() => outcome,
            never = &mut write_back => match never {},
        } {
            match outcome {
                Ok(stored) => fetched.extend(stored.map(|stored| (*stored.digest(), stored))),
                Err(error) => {
                    self.stop.send_replace(true);
                    failure.get_or_insert(error);
                }
            }
        }
        failure.map_or(Ok(fetched), Err)
    }

    /// Has written to disk now and then what was unpacked. What that finds wrong the last sync will find, too.
    async fn write_back(&self) -> Infallible {
        let mut received = self.received.subscribe();
        let mut written = 0;
        loop {
            let enough = received.wait_for(|received| received - written >= WRITE_BACK_BYTES).await;
            written = *enough.expect("the sender is our own");
            let cache = Arc::clone(self.cache);
            finished(spawn_blocking(move || cache.write_back())).await;
        }
    }

    /// One layer; `None` if another failed before this one was done.
    async fn one(&self, layer: Wanted<'_>) -> Result<Option<StoredLayer>, PullError> {
        let Descriptor { digest, size, .. } = *layer.blob;
        let Some(job) = self.claim(digest).await? else { return Ok(None) };
        if let LayerClaim::Present(stored) = &job.claim {
            self.check(layer, *stored.diff_id())?;
            if job.blob.is_none() {
                (self.observer)(PullEvent::LayerPresent { digest });
                return Ok(Some(stored.clone()));
            }
        }
        (self.observer)(PullEvent::LayerStarted { digest, size });
        let Some(blob) = self.unless_stopped(self.source.blob(layer.blob)).await else {
            return Ok(None);
        };
        let mut blob = blob.map_err(|source| self.failed(source))?;
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        let (limits, diff_id) = (self.limits.clone(), layer.diff_id);
        let unpacking = spawn_blocking(move || job.run(ChunkReader::new(receiver), &limits, diff_id));
        let fed = self.unless_stopped(self.feed(digest, &mut blob, sender)).await;
        let unpacked = finished(unpacking).await;
        let Some(fed) = fed else { return Ok(None) };
        // Where the source failed, the unpacker's complaint is only that nothing more came.
        fed.map_err(|source| self.failed(source))?;
        let Arrived { stored, unpacked } = unpacked.map_err(|fault| self.fault(layer, fault))?;
        if let Some(unpacked) = unpacked {
            oddities(layer.blob, &unpacked).iter().for_each(|note| (self.observer)(PullEvent::Note(note)));
        }
        (self.observer)(PullEvent::LayerDone { digest });
        Ok(Some(stored))
    }

    async fn unless_stopped<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut stop = self.stop.subscribe();
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => None,
            outcome = future => Some(outcome),
        }
    }

    /// Hands a blob's bytes on until they end or the unpacker has gone.
    async fn feed(&self, digest: Digest, blob: &mut Blob<'_>, sender: mpsc::Sender<Option<Bytes>>) -> Result<(), SourceError> {
        while let Some(chunk) = blob.next().await? {
            self.received.send_modify(|received| *received += chunk.len() as u64);
            if sender.send(Some(chunk)).await.is_err() {
                return Ok(());
            }
            (self.observer)(PullEvent::LayerProgress { digest, bytes: blob.received() });
        }
        // The unpacker has gone if this fails, and has said why.
        let _ = sender.send(None).await;
        Ok(())
    }

    /// The claim; `None` if another layer failed while a third party was making this one. What becomes of the claim then is dropped by its thread.
    async fn claim(&self, digest: Digest) -> Result<Option<LayerJob>, PullError> {
        let (cache, keep) = (Arc::clone(self.cache), self.blobs);
        let (tell, told) = oneshot::channel();
        let mut claiming = spawn_blocking(move || {
            let mut tell = Some(tell);
            let claim = cache.claim_layer(&digest, &mut || {
                let _ = tell.take().map(|tell| tell.send(()));
            })?;
            let is_missing = keep == KeepBlobs::Yes && cache.blob(&digest)?.is_none();
            let blob = is_missing.then(|| cache.stage_blob()).transpose()?;
            Ok(LayerJob { claim, blob })
        });
        let claim = tokio::select! {
            claim = finished(&mut claiming) => Some(claim),
            Ok(()) = told => {
                (self.observer)(PullEvent::LayerWaiting { digest });
                self.unless_stopped(finished(&mut claiming)).await
            }
        };
        claim.transpose().map_err(|source| PullError::Cache { reference: self.reference.to_owned(), source })
    }

    fn check(&self, layer: Wanted<'_>, found: Digest) -> Result<(), PullError> {
        if found == layer.diff_id { Ok(()) } else { Err(self.fault(layer, Fault::DiffId(found))) }
    }

    fn failed(&self, source: SourceError) -> PullError {
        PullError::Source { reference: self.reference.to_owned(), source }
    }

    fn fault(&self, layer: Wanted<'_>, fault: Fault) -> PullError {
        let reference = self.reference.to_owned();
        match fault {
            Fault::Unpack(source) => PullError::Unpack { reference, source },
            Fault::Cache(source) => PullError::Cache { reference, source },
            Fault::DiffId(found) => PullError::DiffId { reference, layer: layer.blob.digest, wanted: layer.diff_id, found },
        }
    }
}

/// The largest first, for it decides when all are done. A layer listed twice is fetched once: its second claim would wait for the first.
fn largest_first<'a>(layers: impl Iterator<Item = Wanted<'a>>) -> Vec<Wanted<'a>> {
    let mut layers: Vec<Wanted<'_>> = layers.collect();
    layers.sort_by_key(|layer| Reverse((layer.blob.size, layer.blob.digest)));
    layers.dedup_by_key(|layer| layer.blob.digest);
    layers
}

/// What a user should hear of a layer that is unpacked.
fn oddities(blob: &Descriptor, unpacked: &UnpackedLayer) -> Vec<String> {
    let layer = &blob.digest;
    let compression = compression_of(&blob.media_type);
    let mislabelled = (compression != unpacked.compression)
        .then(|| format!("layer {layer} is {}, though its manifest says `{}`", unpacked.compression, blob.media_type));
    let skipped = match unpacked.skipped_devices {
        0 => None,
        1 => Some(format!("layer {layer}: a device node was left out")),
        count => Some(format!("layer {layer}: {count} device nodes were left out")),
    };
    mislabelled.into_iter().chain(skipped).collect()
}

/// A layer in the cache.
struct Arrived {
    stored: StoredLayer,
    /// What came out of it; `None` if it was there.
    unpacked: Option<UnpackedLayer>,
}

/// What is to be done with a layer's blob.
struct LayerJob {
    /// To be unpacked unless the layer is there.
    claim: LayerClaim,
    /// Where it is kept, too.
    blob: Option<BlobStaging>,
}

impl LayerJob {
    /// Does it, and publishes what came of it. Blocks.
    fn run(self, reader: ChunkReader, limits: &Limits, diff_id: Digest) -> Result<Arrived, Fault> {
        let mut reader = KeepingReader { reader, blob: self.blob, failed: None };
        let arrived = match self.claim {
            LayerClaim::Present(stored) => {
                let read = io::copy(&mut reader, &mut io::sink());
                reader.check()?;
                read.map_err(|source| Fault::Unpack(UnpackError::Read { layer: *stored.digest(), source }))?;
                Arrived { stored, unpacked: None }
            }
            LayerClaim::Mine(staging) => {
                let unpacked = unpack_layer(&mut reader, &staging, limits);
                reader.check()?;
                let unpacked = unpacked.map_err(Fault::Unpack)?;
                if unpacked.diff_id != diff_id {
                    return Err(Fault::DiffId(unpacked.diff_id));
                }
                let stored = staging.publish(unpacked.clone()).map_err(Fault::Cache)?;
                Arrived { stored, unpacked: Some(unpacked) }
            }
        };
        let stored = &arrived.stored;
        // From here on the layer's own hold keeps it from being pruned.
        reader.blob.map(|blob| blob.publish(stored.digest())).transpose().map_err(|error| match error {
            CacheError::Digest { layer, found } => Fault::Unpack(UnpackError::Digest { layer, bytes: stored.compressed_bytes(), found }),
            other => Fault::Cache(other),
        })?;
        Ok(arrived)
    }
}

/// Keeps what is read through it where that is wanted.
struct KeepingReader {
    reader: ChunkReader,
    blob: Option<BlobStaging>,
    /// Why it could not be kept: another error than that of the source.
    failed: Option<CacheError>,
}

impl KeepingReader {
    fn check(&mut self) -> Result<(), Fault> {
        self.failed.take().map_or(Ok(()), |error| Err(Fault::Cache(error)))
    }
}

impl Read for KeepingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        if let Some(blob) = &mut self.blob {
            blob.write_all(&buffer[..length]).map_err(|source| {
                let kind = source.kind();
                self.failed = Some(blob.cannot_write(source));
                io::Error::from(kind)
            })?;
        }
        Ok(length)
    }
}

/// The result of a blocking task. It panics where the task did.
pub(super) async fn finished<T>(task: impl Future<Output = Result<T, JoinError>>) -> T {
    match task.await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => unreachable!("a started blocking task cannot be cancelled: {error}"),
        },
    }
}

/// The unpacker's end of the channel. `None` is the blob's end; a channel closed without it is a pull given up, which must not look like an end.
struct ChunkReader {
    chunks: mpsc::Receiver<Option<Bytes>>,
    chunk: Bytes,
    ended: bool,
}

impl ChunkReader {
    fn new(chunks: mpsc::Receiver<Option<Bytes>>) -> Self {
        Self { chunks, chunk: Bytes::new(), ended: false }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() && !self.ended {
            match self.chunks.blocking_recv() {
                Some(Some(chunk)) => self.chunk = chunk,
                Some(None) => self.ended = true,
                None => return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the pull was given up")),
            }
        }
        let length = buffer.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unpack::Compression;

    #[test]
    fn order() {
        let blob = |n, size| Descriptor { media_type: String::new(), digest: Digest::from_bytes([n; 32]), size };
        let blobs = [blob(1, 5), blob(2, 9), blob(1, 5), blob(3, 9), blob(1, 5)];
        let layers = largest_first(blobs.iter().map(|blob| Wanted { blob, diff_id: blob.digest }));
        assert_eq!(layers.iter().map(|layer| layer.blob).collect::<Vec<_>>(), [&blobs[3], &blobs[1], &blobs[0]]);
    }

    #[test]
    fn what_is_odd_about_a_layer_is_said() {
        let digest = Digest::from_bytes([1; 32]);
        let said = |media_type: &str, compression, skipped_devices| {
            let blob = Descriptor { media_type: media_type.to_owned(), digest, size: 1 };
            let (compressed_bytes, bytes, entries) = (1, 1, 1);
            let unpacked =
                UnpackedLayer { blob_digest: digest, diff_id: digest, compressed_bytes, bytes, entries, skipped_devices, compression };
            oddities(&blob, &unpacked).join("\n").replace(&digest.to_string(), "X")
        };
        let tar = "application/vnd.oci.image.layer.v1.tar";
        let gzip = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        for (media_type, compression, skipped, wanted) in [
            (gzip, Compression::Gzip, 0, String::new()),
            (tar, Compression::None, 0, String::new()),
            (&format!("{tar}+zstd"), Compression::Zstd, 0, String::new()),
            (tar, Compression::Gzip, 0, format!("layer X is compressed with gzip, though its manifest says `{tar}`")),
            (gzip, Compression::None, 0, format!("layer X is a plain tar, though its manifest says `{gzip}`")),
            (gzip, Compression::Gzip, 1, "layer X: a device node was left out".to_owned()),
            (gzip, Compression::Gzip, 2, "layer X: 2 device nodes were left out".to_owned()),
        ] {
            assert_eq!(said(media_type, compression, skipped), wanted, "{media_type} {compression:?} {skipped}");
        }
    }

    #[test]
    fn a_reader_tells_an_end_from_a_pull_given_up() {
        for (ends, wanted) in [(true, Ok(3)), (false, Err(io::ErrorKind::ConnectionAborted))] {
            let (sender, receiver) = mpsc::channel(4);
            for chunk in [Some("a"), Some(""), Some("bc")].into_iter().chain(ends.then_some(None)) {
                sender.try_send(chunk.map(|chunk| Bytes::from(chunk.to_owned()))).unwrap();
            }
            drop(sender);
            let mut bytes = Vec::new();
            let outcome = ChunkReader::new(receiver).read_to_end(&mut bytes).map_err(|error| error.kind());
            assert_eq!((outcome, bytes.as_slice()), (wanted, &b"abc"[..]));
        }
    }
}
