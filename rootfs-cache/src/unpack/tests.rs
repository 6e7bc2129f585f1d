//! From blob to tree: what a blob may be, and the rules for what is in it. Known tricks are in `advisories`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::*;
use crate::store::LayerClaim;
use crate::store::fixtures::{Bench, MTIME, Raw, Seen, Tar, chain, gzip, record};

mod advisories;

const FILE: u32 = 0o100_000;
const DIR: u32 = 0o040_000;

/// Mode and content of a file of the tree.
fn file<'a>(tree: &'a BTreeMap<PathBuf, Seen>, path: &str) -> (u32, &'a [u8]) {
    let (mode, _, content) = tree.get(Path::new(path)).unwrap_or_else(|| panic!("{path} is missing from {:?}", tree.keys()));
    (*mode, content)
}

fn refused(layers: &[Tar], why: &str) {
    let error = Bench::new().try_image(&layers.iter().map(|tar| tar.clone().end()).collect::<Vec<_>>()).unwrap_err();
    assert!(error.contains(why), "{error}");
}

fn accepted(layers: &[Tar]) -> BTreeMap<PathBuf, Seen> {
    Bench::new().try_image(&layers.iter().map(|tar| tar.clone().end()).collect::<Vec<_>>()).unwrap()
}

fn zstd(data: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)
}

#[test]
fn formats() {
    let tar = Tar::default().file("a", vec![b'x'; 3 << 20]).file("b", b"y").end();
    let (first, second) = tar.split_at(700_000);
    let skippable = [&[0x53, 0x2a, 0x4d, 0x18, 5, 0, 0, 0][..], b"skip!"].concat();
    let blobs = [
        (Compression::None, tar.clone()),
        (Compression::Gzip, gzip(&tar)),
        (Compression::Gzip, [gzip(first), gzip(b""), gzip(second), gzip(b"")].concat()),
        (Compression::Zstd, zstd(&tar)),
        (Compression::Zstd, [skippable.clone(), zstd(first), skippable.clone(), zstd(second), skippable].concat()),
    ];
    for (compression, blob) in blobs {
        let bench = Bench::new();
        let (layer, unpacked) = bench.layer(&blob).unwrap();
        assert_eq!(unpacked.compression, compression);
        assert_eq!((unpacked.blob_digest, unpacked.diff_id), (Digest::of(&blob), Digest::of(&tar)));
        assert_eq!((unpacked.compressed_bytes, unpacked.bytes, unpacked.entries), (blob.len() as u64, tar.len() as u64, 2));
        assert_eq!((layer.diff_id(), layer.bytes()), (&unpacked.diff_id, unpacked.bytes));
    }
    assert_eq!(Bench::new().layer(b"").unwrap().1.entries, 0, "an empty blob is an empty tar");
}

#[test]
fn rule_13_and_14_damaged_blobs_are_refused() {
    let tar = Tar::default().file("a", b"hello".repeat(1000)).end();
    let (gz, zs) = (gzip(&tar), zstd(&tar));
    let flip = |blob: &[u8], at: usize| {
        let mut blob = blob.to_vec();
        blob[at] ^= 1;
        blob
    };
    let blobs = [
        ("gzip cut short", gz[..gz.len() / 2].to_vec(), "compressed data are damaged"),
        ("gzip without its sums", gz[..gz.len() - 8].to_vec(), "compressed data are damaged"),
        ("gzip with a wrong crc", flip(&gz, gz.len() - 8), "compressed data are damaged"),
        ("gzip with a wrong length", flip(&gz, gz.len() - 1), "compressed data are damaged"),
        ("garbage behind gzip", [&gz[..], b"garbage"].concat(), "compressed data are damaged"),
        ("zeros behind gzip", [&gz[..], &[0; 512]].concat(), "compressed data are damaged"),
        ("gzip header only", gz[..6].to_vec(), "compressed data are damaged"),
        ("zstd cut short", zs[..zs.len() - 3].to_vec(), "compressed data are damaged"),
        ("garbage behind zstd", [&zs[..], b"garbage"].concat(), "compressed data are damaged"),
        ("zstd that skips past the end", vec![0x50, 0x2a, 0x4d, 0x18, 9, 0, 0, 0, 1], "compressed data are damaged"),
        // 1 GiB of window, single segment off.
        ("zstd with a huge window", vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0xa0, 1, 0, 0], "compressed data are damaged"),
        ("tar cut short", tar[..tar.len() - 1500].to_vec(), "cut short"),
        ("no tar", b"no tar".repeat(100), "checksum"),
        ("a tar in gzip in gzip", gzip(&gz), "cut short"),
    ];
    for (what, blob, why) in blobs {
        let bench = Bench::new();
        let error = bench.layer(&blob).map(drop).unwrap_err();
        assert!(chain(&error).contains(why), "{what}: {}", chain(&error));
        assert!(bench.is_clean() && bench.cache.layer(&Digest::of(&blob)).unwrap().is_none(), "{what}");
    }
}

#[test]
fn bytes_other_than_the_digest_names() {
    let tar = Tar::default().file("a", b"hello").end();
    let blobs = [
        tar[..700].to_vec(),
        gzip(&tar),
        [&tar[..], b"more"].concat(),
        gzip(&tar)[..30].to_vec(),
        b"<html>not found</html>".to_vec(),
        Vec::new(),
    ];
    for blob in blobs {
        let bench = Bench::new();
        let LayerClaim::Mine(staging) = bench.cache.claim_layer(&Digest::of(&tar), &mut || ()).unwrap() else { panic!() };
        match unpack_layer(&blob[..], &staging, &Limits::default()) {
            Err(error @ UnpackError::Digest { layer, bytes, found }) => {
                assert_eq!((layer, bytes, found), (Digest::of(&tar), blob.len() as u64, Digest::of(&blob)));
                assert!(error.hint().is_some());
            }
            other => panic!("{other:?}"),
        }
        drop(staging);
        assert!(bench.is_clean());
    }
}

/// Gives one byte at a time, then what was asked for.
struct Drip<'a>(&'a [u8], Option<io::ErrorKind>);

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (self.0.split_first(), self.1) {
            (Some((byte, rest)), _) => {
                (buffer[0], self.0) = (*byte, rest);
                Ok(1)
            }
            (None, Some(kind)) => Err(kind.into()),
            (None, None) => Ok(0),
        }
    }
}

#[test]
fn readers() {
    let blob = gzip(&Tar::default().file("a", b"hello").end());
    let bench = Bench::new();
    let LayerClaim::Mine(staging) = bench.cache.claim_layer(&Digest::of(&blob), &mut || ()).unwrap() else { panic!() };
    let reset = unpack_layer(Drip(&blob[..20], Some(io::ErrorKind::ConnectionReset)), &staging, &Limits::default());
    assert!(matches!(&reset, Err(UnpackError::Read { source, .. }) if source.kind() == io::ErrorKind::ConnectionReset), "{reset:?}");
    drop(staging);
    let LayerClaim::Mine(staging) = bench.cache.claim_layer(&Digest::of(&blob), &mut || ()).unwrap() else { panic!() };
    assert_eq!(unpack_layer(Drip(&blob, None), &staging, &Limits::default()).unwrap().entries, 1);
}

#[test]
fn rule_13_limits() {
    let tar = Tar::default().file("a", vec![0; 5000]).file("b", b"").end();
    let bomb = gzip(&vec![0; 300 << 20]);
    let table = [
        (&tar, Limits { bytes: 6000, ..Limits::default() }, "more than 6000 bytes"),
        (&tar, Limits { entries: 1, ..Limits::default() }, "more than 1 entries"),
        (&bomb, Limits { ratio: 100, ..Limits::default() }, "more than 100 bytes for every compressed one"),
        (&bomb, Limits { bytes: 10 << 20, ..Limits::default() }, "more than 10485760 bytes"),
    ];
    for (blob, limits, why) in table {
        let bench = Bench::new();
        let error = bench.layer_within(blob, &limits).map(drop).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert!(bench.is_clean());
    }
    assert!(Bench::new().layer_within(&tar, &Limits { bytes: tar.len() as u64, entries: 2, ratio: 1 }).is_ok());
}

#[test]
fn rule_1_paths() {
    let tree = accepted(&[Tar::default().file("/abs/a", b"1").file("./dot//b", b"2").file(b"caf\xe9", b"3").dir("/", 0o700)]);
    assert_eq!(file(&tree, "abs/a"), (FILE | 0o644, &b"1"[..]));
    assert_eq!(file(&tree, "dot/b").1, b"2");
    assert_eq!(tree[Path::new("")].0, DIR | 0o700);
    refused(&[Tar::default().file("../canary/file", b"no")], "entry `../canary/file` is refused: its path holds `..`");
    refused(&[Tar::default().file("a/../../../../../canary/file", b"no")], "`..`");
    refused(&[Tar::default().pax(&[("path", b"a\0b")]).file("x", b"")], "NUL");
}

#[test]
fn rule_2_symlinked_parents() {
    for target in ["/", "..", "../../../../../../../canary", "."] {
        refused(&[Tar::default().symlink("s", target).file("s/file", b"no")], "`s` above it is a symlink in the same layer");
    }
    // Below a lower layer's symlink there is a folder in its place, as overlayfs has it.
    let tree = accepted(&[Tar::default().symlink("s", "/"), Tar::default().file("s/file", b"in")]);
    assert_eq!(file(&tree, "s/file").1, b"in");
    assert!(!tree.contains_key(Path::new("file")));
}

#[test]
fn rule_3_no_inode_is_written_twice() {
    let tree = accepted(&[
        Tar::default().file("a", b"lower").hard_link("b", "a"),
        Tar::default().file("a", b"upper"),
        Tar::default().file("c", b"1").hard_link("d", "c").file("c", b"2"),
    ]);
    assert_eq!(["a", "b", "c", "d"].map(|name| file(&tree, name).1), [&b"upper"[..], b"lower", b"2", b"1"]);
}

#[test]
fn rule_5_hard_links() {
    let bench = Bench::new();
    let layers = [
        Tar::default().file("a", b"x").hard_link("b", "a"),
        Tar::default().hard_link("c", "/a"),
        Tar::default().symlink("s", "a").hard_link("t", "s"),
    ];
    let rootfs = bench.image(&layers.map(Tar::end)).unwrap();
    let inode = |name: &str| fs::symlink_metadata(rootfs.path().join(name)).unwrap().ino();
    assert_eq!((inode("a"), inode("a")), (inode("b"), inode("c")));
    assert_eq!(fs::read_link(rootfs.path().join("t")).unwrap(), Path::new("a"));
    refused(&[Tar::default().hard_link("c", "gone")], "hard link `c` leads to `gone`, which is no file in this image");
    refused(&[Tar::default().dir("d", 0o755).hard_link("c", "d")], "hard link must lead to another file");
}

#[test]
fn rule_6_whiteouts_and_forged_overlay_marks() {
    let lower = Tar::default().file("d/a", b"1").file("d/b", b"2").file("e/c", b"3").file("f", b"4");
    let upper = Tar::default().file("d/.wh.a", b"").file("e/new", b"5").file("e/.wh..wh..opq", b"").file(".wh.f", b"");
    let tree = accepted(&[lower.clone(), upper]);
    let names: Vec<_> = tree
        .keys()
        .map(|path| path.to_str().unwrap())
        .filter(|path| path.starts_with(['d', 'e', 'f']) && !path.starts_with("dev") && !path.starts_with("etc"))
        .collect();
    assert_eq!(names, ["d", "d/b", "e", "e/new"]);
    let forged =
        Tar::default().pax(&[("SCHILY.xattr.user.overlay.opaque", b"y"), ("SCHILY.xattr.trusted.overlay.redirect", b"/e")]).dir("d", 0o755);
    assert!(accepted(&[lower.clone(), forged]).contains_key(Path::new("d/a")));
    // As overlayfs marks a whiteout on disk: a device 0:0.
    assert!(!accepted(&[lower, Tar::default().raw(Raw::new("f", b'3'), b"")]).contains_key(Path::new("f")));
}

#[test]
fn rule_7_owners_are_known_and_all_files_are_the_users() {
    let tar = Tar::default()
        .raw(Raw::new("of-others", b'0').size(1).bytes(108, b"0001750\0").bytes(116, b"0000620\0"), b"x")
        .pax(&[("uid", b"70000"), ("gid", b"80000")])
        .dir("far", 0o755)
        .symlink("link", "of-others");
    let bench = Bench::new();
    let (layer, _) = bench.layer(&tar.clone().end()).unwrap();
    let entries = bench.cache.layer_entries(&layer).unwrap();
    let owners: Vec<_> = entries.iter().map(|entry| (entry.path.to_str().unwrap(), entry.owner)).collect();
    assert_eq!(owners, [("far", (70_000, 80_000)), ("link", (0, 0)), ("of-others", (1000, 400))]);
    let rootfs = bench.image(&[tar.end()]).unwrap();
    let us = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    for name in ["far", "link", "of-others"] {
        let found = fs::symlink_metadata(rootfs.path().join(name)).unwrap();
        assert_eq!((found.uid(), found.gid()), us, "{name}");
    }
}

#[test]
fn rule_8_setuid_and_extended_attributes() {
    let tar = Tar::default()
        .pax(&[
            ("SCHILY.xattr.user.kept", b"yes"),
            ("SCHILY.xattr.security.capability", b"\x01\0\0\x02"),
            ("SCHILY.xattr.user.overlay.metacopy", b""),
        ])
        .raw(Raw::new("su", b'0').mode(0o6755), b"")
        .pax(&[("SCHILY.xattr.user.kept", b"too")])
        .dir("sg", 0o2755)
        .pax(&[("SCHILY.xattr.user.kept", b"read")])
        .raw(Raw::new("readonly", b'0').mode(0o444), b"")
        .pax(&[("SCHILY.xattr.user.kept", b"read")])
        .dir("closed", 0o555)
        .file("plain", b"");
    let bench = Bench::new();
    let rootfs = bench.image(&[tar.end()]).unwrap();
    let mode = |name: &str| fs::metadata(rootfs.path().join(name)).unwrap().mode();
    assert_eq!((mode("su"), mode("sg")), (FILE | 0o755, DIR | 0o755));
    assert_eq!((mode("readonly"), mode("closed")), (FILE | 0o444, DIR | 0o555));
    let xattr = |name: &str, attribute: &str| {
        let mut value = [0; 16];
        rustix::fs::getxattr(rootfs.path().join(name), attribute, &mut value).map(|length| value[..length].to_vec()).ok()
    };
    // Some file systems have no `user.` attributes at all.
    if rustix::fs::setxattr(rootfs.path().join("plain"), "user.probe", b"", rustix::fs::XattrFlags::empty()).is_ok() {
        assert_eq!((xattr("su", "user.kept").as_deref(), xattr("sg", "user.kept").as_deref()), (Some(&b"yes"[..]), Some(&b"too"[..])));
        for readonly in ["readonly", "closed"] {
            assert_eq!(xattr(readonly, "user.kept").as_deref(), Some(&b"read"[..]), "{readonly}");
        }
    }
    assert_eq!((xattr("su", "security.capability"), xattr("su", "user.overlay.metacopy")), (None, None));
}

#[test]
fn rule_9_special_files() {
    let tar = Tar::default()
        .raw(Raw::new("dev/sda", b'4'), b"")
        .raw(Raw::new("dev/null", b'3'), b"")
        .raw(Raw::new("fifo", b'6').mode(0o620), b"");
    let bench = Bench::new();
    assert_eq!(bench.layer(&tar.clone().end()).unwrap().1.skipped_devices, 2);
    let tree = bench.try_image(&[tar.end()]).unwrap();
    assert_eq!(tree[Path::new("fifo")], (0o010_620, MTIME, Vec::new()));
    assert!(!tree.contains_key(Path::new("dev/sda")));
    assert_eq!(file(&tree, "dev/null"), (FILE | 0o644, &b""[..]), "a stub to mount over");
}

#[test]
fn rule_10_directory_modes_and_times_come_last() {
    let modes = [0o000, 0o111, 0o222, 0o333, 0o444, 0o555, 0o700, 0o1777];
    let tar = modes
        .iter()
        .fold(Tar::default().dir("ro", 0o555), |tar, mode| tar.dir(format!("ro/{mode:o}"), *mode).file(format!("ro/{mode:o}/x"), b"x"));
    let bench = Bench::new();
    let rootfs = bench.image(&[tar.clone().end(), Tar::default().dir("ro", 0o511).file("ro/added", b"x").end()]).unwrap();
    let tree = crate::store::fixtures::scan(rootfs.path());
    assert_eq!((tree[Path::new("ro")].0, tree[Path::new("ro")].1), (DIR | 0o511, MTIME));
    for mode in modes {
        let (seen, mtime, _) = &tree[Path::new(&format!("ro/{mode:o}"))];
        assert_eq!((*seen, *mtime), (DIR | mode, MTIME));
        assert_eq!(file(&tree, &format!("ro/{mode:o}/x")).1, b"x");
    }
    // And away with it again, though its modes forbid that.
    let manifest = *rootfs.manifest_digest();
    drop(rootfs);
    assert_eq!(bench.cache.remove(&manifest).unwrap().images, [manifest]);
    assert!(bench.is_clean());
}

#[test]
fn rule_11_times_and_modes_of_files() {
    let tar = Tar::default()
        .pax(&[("mtime", b"1234567890.5")])
        .raw(Raw::new("f", b'0').mode(0o000).size(1), b"x")
        .raw(Raw::new("g", b'0').mode(0o1644), b"");
    let tree = accepted(&[tar.symlink("s", "f")]);
    assert_eq!(tree[Path::new("f")], (FILE, 1_234_567_890, b"x".to_vec()));
    assert_eq!(tree[Path::new("g")].0, FILE | 0o1644);
    assert_eq!(tree[Path::new("s")].1, MTIME);
}

#[test]
fn global_headers_do_not_last() {
    let comment = record("comment", b"x");
    let tree = accepted(&[Tar::default().raw(Raw::new("g", b'g').size(comment.len() as u64), &comment).file("a", b"x")]);
    assert_eq!(file(&tree, "a").1, b"x");
}
