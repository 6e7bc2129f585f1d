//! A layer's blob: it is unpacked beneath its own folder or refused.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use rootfs_cache::digest::Digest;
use rootfs_cache::store::{Cache, LayerClaim};
use rootfs_cache::unpack::{Limits, unpack_layer};
use tempfile::TempDir;
use tests::tar::{Header, Tar, kind};

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "layer",
    run,
    seeds,
    words: &[
        "../../../../../outside/x",
        "/outside",
        "..",
        ".",
        "./",
        "//",
        ".wh.",
        ".wh..wh..opq",
        "ustar\u{0}00",
        "00000000000",
        "77777777777",
        "20 path=../outside\n",
        "30 GNU.sparse.major=1\n",
        "\u{0}\u{0}\u{0}\u{0}",
        "\u{1f}",
    ],
    short_run: 500,
};

fn seeds() -> Vec<Vec<u8>> {
    let long = "long/".repeat(30) + "name";
    let rich = Tar::new()
        .folder("opt")
        .file("opt/data", vec![b'd'; 700])
        .program("opt/run", "#!/bin/sh\n")
        .symlink("opt/link", "../../../outside")
        .hard_link("opt/hard", "opt/data")
        .file("opt/link/through", "x")
        .entry(&Header::new(kind::FIFO, "opt/pipe"), b"")
        .entry(&Header::new(kind::CHARACTER_DEVICE, "opt/device"), b"")
        .pax(&[("path", &long), ("mtime", "1600000000.5"), ("SCHILY.xattr.user.a", "b")])
        .file("short", "x")
        .file("opt/.wh.data", "");
    let opaque = Tar::new().file("a/.wh..wh..opq", "").file("a/b", "1").file("a", "2").folder("a");
    let long_name = Tar::new().entry(&Header::new(kind::GNU_LONG_NAME, "././@LongLink"), long.as_bytes()).file("cut", "x");
    vec![rich.finish(), opaque.finish(), long_name.finish(), Tar::new().finish()]
}

/// One cache for all inputs, with a folder beside it that nothing may touch.
fn place() -> &'static (TempDir, Cache) {
    static PLACE: OnceLock<(TempDir, Cache)> = OnceLock::new();
    PLACE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("made");
        fs::create_dir(folder.path().join("outside")).expect("made");
        let cache = Cache::open(&folder.path().join("cache")).expect("a fresh cache");
        (folder, cache)
    })
}

fn run(data: &[u8]) {
    let blob = with_sums(data);
    let (folder, cache) = place();
    let claim = cache.claim_layer(&Digest::of(&blob), &mut || {}).expect("nobody else is here");
    let LayerClaim::Mine(staging) = claim else { return };
    let limits = Limits { bytes: 8 << 20, entries: 10_000, ratio: 1100 };
    match unpack_layer(&blob[..], &staging, &limits) {
        Ok(unpacked) => assert!(unpacked.bytes <= limits.bytes && unpacked.entries <= limits.entries),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    drop(staging);
    let beside = |path: &Path| fs::read_dir(path).expect("there").count();
    assert_eq!((beside(folder.path()), beside(&folder.path().join("outside"))), (2, 0), "something was made outside");
}

/// With the checksum of every header put right: else a change of one byte would hide what comes after.
fn with_sums(data: &[u8]) -> Vec<u8> {
    let mut blob = data.to_vec();
    for block in blob.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    blob
}
