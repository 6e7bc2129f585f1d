//! Every known way in which other unpackers let a layer out, by the name it was published under. The canary beside the cache must not notice.

use std::fs;
use std::path::Path;

use super::{DIR, FILE, accepted, file, refused};
use crate::store::fixtures::{Bench, Raw, Tar};

#[test]
fn cve_2021_29136_root_entry_as_symlink_or_file() {
    for root in [".", "./", "/", "./."] {
        refused(&[Tar::default().symlink(root, "../../../../../canary").file("file", b"no")], "the root must be a directory");
        refused(&[Tar::default().file(root, b"no")], "the root must be a directory");
        refused(&[Tar::default().file("a", b"x").hard_link(root, "a")], "the root must be a directory");
    }
}

#[test]
fn cve_2025_62518_pax_size_with_header_size_0_hides_no_entries() {
    let inner = Tar::default().file("hidden", b"h").end();
    let tree =
        accepted(&[Tar::default().pax(&[("size", inner.len().to_string().as_bytes())]).raw(Raw::new("outer.tar", b'0').size(0), &inner)]);
    assert_eq!(file(&tree, "outer.tar").1, inner);
    assert!(!tree.contains_key(Path::new("hidden")));
}

#[test]
fn cve_2026_33055_pax_size_wins_over_any_header_size() {
    let inner = Tar::default().file("hidden", b"h").end();
    let (long, none) = (inner.len().to_string(), "0");
    let larger = accepted(&[Tar::default().pax(&[("size", long.as_bytes())]).raw(Raw::new("outer", b'0').size(512), &inner)]);
    assert_eq!(file(&larger, "outer").1, inner);
    // The other way round the data are entries, as for every reader that follows the standard.
    let smaller =
        accepted(&[Tar::default().pax(&[("size", none.as_bytes())]).raw(Raw::new("outer", b'0').size(inner.len() as u64), &inner)]);
    assert_eq!((file(&smaller, "outer").1, file(&smaller, "hidden").1), (&b""[..], &b"h"[..]));
}

#[test]
fn cve_2026_33056_chmod_through_symlink() {
    for target in ["../../../../../canary/dir", "../../canary", "/", "."] {
        let tree = accepted(&[Tar::default().symlink("d", target).dir("d", 0o777)]);
        assert_eq!(tree[Path::new("d")].0, DIR | 0o777, "a directory in the symlink's place");
        let tree = accepted(&[Tar::default().symlink("d", target), Tar::default().dir("d", 0o777)]);
        assert_eq!(tree[Path::new("d")].0, DIR | 0o777);
    }
}

#[test]
fn rustsec_2026_0112_malformed_pax_is_fatal() {
    for data in [&b"garbage"[..], b"99 path=x\n", b"9 path=xy\n", b"11 path=x\n\0\0"] {
        refused(&[Tar::default().raw(Raw::new("pax", b'x').size(data.len() as u64), data).file("n", b"")], "malformed PAX record");
    }
}

#[test]
fn cve_2026_50163_hard_links_are_not_relative_to_the_working_directory() {
    // Tests run in the package's directory.
    assert!(Path::new("Cargo.toml").exists());
    refused(&[Tar::default().hard_link("stolen", "Cargo.toml")], "`Cargo.toml`, which is no file in this image");
    refused(&[Tar::default().hard_link("stolen", "../Cargo.toml")], "`..`");
    refused(&[Tar::default().hard_link("stolen", "/etc/hostname")], "`etc/hostname`, which is no file in this image");
    refused(&[Tar::default().symlink("etc", "/etc").hard_link("stolen", "etc/hostname")], "`etc` above it is a symlink");
    refused(&[Tar::default().symlink("etc", "/etc"), Tar::default().hard_link("stolen", "etc/hostname")], "no file in this image");
}

#[test]
fn cve_2026_29064_file_beneath_a_symlink() {
    refused(&[Tar::default().symlink("s", "../../../../../canary").file("s/file", b"no")], "symlink");
    let tree = accepted(&[Tar::default().symlink("s", "../../../../../canary"), Tar::default().file("s/file", b"in")]);
    assert_eq!(file(&tree, "s/file").1, b"in");
}

#[test]
fn cve_2020_27833_chained_symlinks() {
    refused(&[Tar::default().symlink("a", "..").symlink("a/b", "..").file("a/b/canary/file", b"no")], "symlink");
    let climbing = [Tar::default().symlink("a", ".."), Tar::default().symlink("a/b", ".."), Tar::default().file("a/b/canary/file", b"in")];
    assert_eq!(file(&accepted(&climbing), "a/b/canary/file").1, b"in");
}

#[test]
fn cve_2024_0406_symlink_traversal() {
    refused(&[Tar::default().symlink("x/y", "../../../../../..").dir("x/y/canary", 0o777)], "symlink");
    refused(&[Tar::default().symlink("l", "/tmp").symlink("l/m", "n")], "symlink");
}

#[test]
fn cve_2021_32760_modes_of_host_files_stay() {
    let host = "../../../../../canary/file";
    // A symlink has no mode, and a hard link none of its own.
    let tree = accepted(&[Tar::default()
        .raw(Raw::new("s", b'2').link(host).mode(0o4777), b"")
        .file("a", b"")
        .raw(Raw::new("h", b'1').link("a").mode(0o4777), b"")]);
    assert_eq!(file(&tree, "a").0, FILE | 0o644);
    assert_eq!(tree[Path::new("s")].2, host.as_bytes());
    refused(&[Tar::default().raw(Raw::new("h", b'1').link(host).mode(0o4777), b"")], "`..`");
}

#[test]
fn cve_2025_47290_directories_swapped_during_unpack() {
    // Names reach the disk only when all is known, and then in a directory that nobody else has: there is nothing to swap. Within the archive, the last entry wins.
    let swapping = (0..50).fold(Tar::default(), |tar, _| tar.dir("d", 0o755).file("d/file", b"in").symlink("d", "../../../../../canary"));
    let tree = accepted(std::slice::from_ref(&swapping));
    assert_eq!(tree[Path::new("d")].2, b"../../../../../canary");
    refused(&[swapping.file("d/file", b"no")], "symlink");
}

#[test]
fn cve_2026_55686_working_directory_through_a_symlink() {
    for target in ["../../../../../canary", "/canary", "/../../canary/file"] {
        let bench = Bench::new();
        let config = r#"{"architecture":"amd64","os":"linux","rootfs":{"diff_ids":[]},"config":{"WorkingDir":"/w/deep/er"}}"#;
        let rootfs = bench.image_with(&[Tar::default().symlink("w", target).end()], config).unwrap();
        assert!(fs::symlink_metadata(rootfs.path().join("w/deep/er")).unwrap().is_dir(), "made inside");
        assert_eq!(fs::read_dir(bench.canary()).unwrap().count(), 3);
    }
}

#[test]
fn cve_2024_40635_user_is_only_a_text() {
    let config = r#"{"architecture":"amd64","os":"linux","rootfs":{"diff_ids":[]},"config":{"User":"2147483648"}}"#;
    assert_eq!(Bench::new().image_with(&[], config).unwrap().config().user.as_deref(), Some("2147483648"));
}

#[test]
fn cve_2025_4517_paths_longer_than_the_kernel_takes() {
    let deep = |names: usize| vec!["d".repeat(200); names].join("/");
    refused(&[Tar::default().pax(&[("path", format!("{}/file", deep(25)).as_bytes())]).file("x", b"")], "its path exceeds 4096");
    refused(
        &[Tar::default().pax(&[("linkpath", format!("{}/../../canary", deep(25)).as_bytes())]).symlink("s", "x")],
        "its path exceeds 4095",
    );
    // Just below the limit, where joined path strings would fail.
    let path = format!("{}/file", deep(20));
    let bench = Bench::new();
    let rootfs = bench.image(&[Tar::default().pax(&[("path", path.as_bytes())]).file("x", b"deep").end()]).unwrap();
    let manifest = *rootfs.manifest_digest();
    drop(rootfs);
    assert_eq!(bench.cache.remove(&manifest).unwrap().images, [manifest]);
    assert!(bench.is_clean());
}

#[test]
fn cve_2014_6407_9356_9357_links_at_extraction() {
    refused(&[Tar::default().symlink("usr", "/usr").symlink("usr/bin", "/canary")], "symlink");
    refused(&[Tar::default().symlink("a", "b").hard_link("c", "a/x")], "symlink");
    let tree = accepted(&[Tar::default().symlink("a", "../../../../../canary/file").hard_link("b", "a").file("b", b"in")]);
    assert_eq!(file(&tree, "b").1, b"in");
}

#[test]
fn the_evil_image() {
    let first = Tar::default().symlink("esc", "/tmp/lambda-images-evil").symlink("up", "../../../../../../tmp");
    let second = [
        Tar::default().file("esc/pwned", b"no"),
        Tar::default().file("up/lambda-images-evil-up", b"no"),
        Tar::default().file("/tmp/lambda-images-evil-abs", b"lands in the image's own tmp"),
        Tar::default().file("esc/.wh..wh..opq", b""),
        Tar::default().file("up/.wh.x", b""),
    ];
    for upper in &second {
        accepted(&[first.clone(), upper.clone()]);
    }
    let bad = [
        Tar::default().file("../lambda-images-evil-dotdot", b"no"),
        Tar::default().hard_link("hl", "/etc/hostname"),
        Tar::default().hard_link("hl2", "../../../etc/hostname"),
        Tar::default().file(".wh...", b""),
        Tar::default().file(".wh..", b""),
    ];
    for upper in bad {
        refused(&[first.clone(), upper], "");
    }
    for path in ["/tmp/lambda-images-evil", "/tmp/lambda-images-evil-up", "/tmp/lambda-images-evil-abs"] {
        assert!(!Path::new(path).exists(), "{path}");
    }
}
