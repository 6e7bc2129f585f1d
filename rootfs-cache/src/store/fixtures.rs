//! For tests: tars from raw 512-byte headers, and a cache beside a canary that nothing may touch.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{Cache, LayerClaim, NewImage, StoredLayer};
use crate::digest::Digest;
use crate::rootfs::Rootfs;
use crate::unpack::{Limits, UnpackError, UnpackedLayer, unpack_layer};

/// When all fixtures were last modified.
pub(crate) const MTIME: i64 = 1_600_000_000;

/// One header, to be bent before it is written.
#[derive(Clone)]
pub(crate) struct Raw([u8; 512]);

impl Raw {
    pub(crate) fn new(path: impl AsRef<[u8]>, kind: u8) -> Self {
        let mut raw = Self([0; 512]);
        let path = path.as_ref();
        raw.0[..path.len().min(100)].copy_from_slice(&path[..path.len().min(100)]);
        raw.0[156] = kind;
        raw.0[257..265].copy_from_slice(b"ustar\x0000");
        raw.mode(if kind == b'5' { 0o755 } else { 0o644 })
            .size(0)
            .bytes(108, b"0000000\0")
            .bytes(116, b"0000000\0")
            .bytes(136, format!("{MTIME:011o}\0").as_bytes())
    }

    pub(crate) fn bytes(mut self, at: usize, bytes: &[u8]) -> Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn mode(self, mode: u32) -> Self {
        self.bytes(100, format!("{mode:07o}\0").as_bytes())
    }

    pub(crate) fn size(self, size: u64) -> Self {
        self.bytes(124, format!("{size:011o}\0").as_bytes())
    }

    pub(crate) fn link(self, target: impl AsRef<[u8]>) -> Self {
        self.bytes(157, target.as_ref())
    }

    /// The block with its checksum.
    pub(crate) fn sealed(mut self) -> [u8; 512] {
        self.0[148..156].fill(b' ');
        let sum: u32 = self.0.iter().map(|byte| u32::from(*byte)).sum();
        self.bytes(148, format!("{sum:06o}\0 ").as_bytes()).0
    }
}

/// A tar being written. Ends with its two zero blocks unless taken apart before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tar(pub(crate) Vec<u8>);

impl Tar {
    pub(crate) fn raw(mut self, header: Raw, data: &[u8]) -> Self {
        self.0.extend_from_slice(&header.sealed());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, path: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Self {
        self.raw(Raw::new(path, b'0').size(data.as_ref().len() as u64), data.as_ref())
    }

    pub(crate) fn dir(self, path: impl AsRef<[u8]>, mode: u32) -> Self {
        self.raw(Raw::new(path, b'5').mode(mode), b"")
    }

    pub(crate) fn symlink(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.raw(Raw::new(path, b'2').link(target), b"")
    }

    pub(crate) fn hard_link(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.raw(Raw::new(path, b'1').link(target), b"")
    }

    /// A PAX header of well-formed records.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let data: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.raw(Raw::new("pax", b'x').size(data.len() as u64), &data)
    }

    /// A GNU header (`L` or `K`) with a long text.
    pub(crate) fn gnu(self, kind: u8, text: &[u8]) -> Self {
        let data = [text, b"\0"].concat();
        self.raw(Raw::new("././@LongLink", kind).bytes(257, b"ustar  \0").size(data.len() as u64), &data)
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A PAX record, whose length counts itself.
pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (rest..).find(|length| length.to_string().len() + rest == *length).unwrap();
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// A cache in a directory of its own, with a canary next to it.
pub(crate) struct Bench {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) cache: Cache,
    before: BTreeMap<PathBuf, Seen>,
}

/// What a name of a tree is: kind and mode, modification time, content or target.
pub(crate) type Seen = (u32, i64, Vec<u8>);

impl Bench {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let canary = directory.path().join("canary");
        fs::create_dir(&canary).unwrap();
        fs::create_dir(canary.join("dir")).unwrap();
        fs::write(canary.join("file"), "canary").unwrap();
        fs::write(canary.join("dir/inner"), "canary").unwrap();
        std::os::unix::fs::symlink("file", canary.join("link")).unwrap();
        fs::set_permissions(canary.join("file"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(canary.join("dir"), fs::Permissions::from_mode(0o750)).unwrap();
        let cache = Cache::open(&directory.path().join("cache")).unwrap();
        let before = scan(&canary);
        Self { directory, cache, before }
    }

    /// The directory that must stay as it is. Seen from a root file system it is three levels up.
    pub(crate) fn canary(&self) -> PathBuf {
        self.directory.path().join("canary")
    }

    /// Unpacks a blob and makes it a layer.
    pub(crate) fn layer(&self, blob: &[u8]) -> Result<(StoredLayer, UnpackedLayer), UnpackError> {
        self.layer_within(blob, &Limits::default())
    }

    pub(crate) fn layer_within(&self, blob: &[u8], limits: &Limits) -> Result<(StoredLayer, UnpackedLayer), UnpackError> {
        match self.cache.claim_layer(&Digest::of(blob), &mut || ()).unwrap() {
            LayerClaim::Present(layer) => {
                let unpacked = UnpackedLayer {
                    blob_digest: *layer.digest(),
                    diff_id: *layer.diff_id(),
                    compressed_bytes: layer.compressed_bytes(),
                    bytes: layer.bytes(),
                    entries: 0,
                    skipped_devices: 0,
                    compression: crate::unpack::Compression::None,
                };
                Ok((layer, unpacked))
            }
            LayerClaim::Mine(staging) => {
                let unpacked = unpack_layer(blob, &staging, limits)?;
                Ok((staging.publish(unpacked.clone()).unwrap(), unpacked))
            }
        }
    }

    /// An image of these tars, bottom first.
    pub(crate) fn image(&self, layers: &[Vec<u8>]) -> Result<Rootfs, Box<dyn Error>> {
        self.image_with(layers, r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#)
    }

    pub(crate) fn image_with(&self, layers: &[Vec<u8>], config: &str) -> Result<Rootfs, Box<dyn Error>> {
        let digests: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let layers = layers.iter().map(|layer| Ok(self.layer(layer)?.0)).collect::<Result<Vec<_>, UnpackError>>()?;
        let manifest = format!("{digests:?} {config}").into_bytes();
        Ok(self.cache.publish_image(NewImage { manifest, config: config.as_bytes().to_vec(), layers })?)
    }

    /// The tree of an image of one tar, and the chain of what went wrong if there is none. The canary is looked at in either case.
    pub(crate) fn try_image(&self, layers: &[Vec<u8>]) -> Result<BTreeMap<PathBuf, Seen>, String> {
        let tree = self.image(layers).map(|rootfs| scan(rootfs.path())).map_err(|error| chain(&*error));
        assert_eq!(scan(&self.canary()), self.before, "the canary changed");
        let outside: Vec<_> = fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(outside.len(), 2, "{outside:?}");
        if tree.is_err() {
            assert!(self.is_clean(), "something is left in tmp");
        }
        tree
    }

    /// Whether nothing is being made or was left behind.
    pub(crate) fn is_clean(&self) -> bool {
        fs::read_dir(self.directory.path().join("cache/v1/tmp")).unwrap().next().is_none()
    }
}

impl Drop for Bench {
    /// Trees with read-only directories stop an ordinary user from removing them.
    fn drop(&mut self) {
        let _ = self.cache.prune(super::PruneScope::Everything);
    }
}

/// All messages of an error, the outermost first.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

/// Everything below `root` and itself (as an empty path). Directories without permissions are opened up for the look, and closed again.
pub(crate) fn scan(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = BTreeMap::new();
    scan_into(root, Path::new(""), &mut seen);
    seen
}

fn scan_into(root: &Path, path: &Path, seen: &mut BTreeMap<PathBuf, Seen>) {
    let full = root.join(path);
    let meta = fs::symlink_metadata(&full).unwrap();
    let kind = meta.file_type();
    let readable = |mode: u32| fs::set_permissions(&full, fs::Permissions::from_mode(mode)).unwrap();
    let content = if kind.is_symlink() {
        fs::read_link(&full).unwrap().into_os_string().into_encoded_bytes()
    } else if kind.is_file() {
        readable(meta.mode() | 0o400);
        let content = fs::read(&full).unwrap();
        readable(meta.mode());
        content
    } else {
        Vec::new()
    };
    seen.insert(path.to_owned(), (meta.mode(), meta.mtime(), content));
    if kind.is_dir() {
        readable(meta.mode() | 0o700);
        for entry in fs::read_dir(&full).unwrap() {
            scan_into(root, &path.join(entry.unwrap().file_name()), seen);
        }
        readable(meta.mode());
    }
}
