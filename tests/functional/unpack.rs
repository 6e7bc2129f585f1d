//! Image layers from strangers, through the whole product: nothing lands outside the root, and what is legal arrives as overlayfs would show it.
//!
//! Tests named after an advisory hold what went wrong in another unpacker.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tests::image::{Image, ImageLayer, Layout, Packing};
use tests::leftovers::everything_below;
use tests::tar::{Header, Tar, kind};
use tests::{Fixture, Ran, place, skip};

/// A folder beside the cache that no unpacking may change: an absolute path for links, and a trap for the working directory.
struct Canary {
    fixture: Fixture,
    before: BTreeMap<PathBuf, (u32, u64, i64, Vec<u8>)>,
}

impl Canary {
    fn new() -> Canary {
        let fixture = Fixture::without_sandbox();
        let folder = fixture.path().join("canary");
        fs::create_dir(&folder).expect("made");
        fs::create_dir(folder.join("dir")).expect("made");
        for name in ["x", "dir/file"] {
            fs::write(folder.join(name), "canary").expect("written");
        }
        symlink("dir", folder.join("link")).expect("made");
        let before = Canary::state(&folder);
        Canary { fixture, before }
    }

    fn state(folder: &Path) -> BTreeMap<PathBuf, (u32, u64, i64, Vec<u8>)> {
        let mut paths = everything_below(folder);
        paths.push(folder.to_owned());
        let look = |path: PathBuf| {
            let found = fs::symlink_metadata(&path).expect("it exists");
            let content = fs::read(&path).unwrap_or_default();
            (path, (found.mode(), found.nlink(), found.mtime(), content))
        };
        paths.into_iter().map(look).collect()
    }

    fn folder(&self) -> PathBuf {
        self.fixture.path().join("canary")
    }

    /// Pulls an image of these layers from inside the canary, and looks at the canary.
    fn pull(&self, layers: &[Tar]) -> Ran {
        let layers = layers.iter().map(|tar| ImageLayer::new(tar.clone(), Packing::Plain)).collect();
        self.pull_image(&Image { layers, config: tests::image::lambci_config() })
    }

    /// An image is there whole or not at all, whichever way the pull went.
    fn pull_image(&self, image: &Image) -> Ran {
        self.fixture.layout().add("evil", image);
        let reference = self.fixture.image("evil");
        self.pull_reference(&reference)
    }

    fn pull_reference(&self, reference: &str) -> Ran {
        let ran = self.fixture.undocked(&["pull", reference]).current_dir(self.folder().join("dir")).finish();
        assert_eq!(Canary::state(&self.folder()), self.before, "something outside the root was changed");
        let images = fs::read_dir(self.fixture.cache().join("v1/images")).map_or(0, Iterator::count);
        match ran.code() {
            0 => assert_eq!(images, 1),
            125 => assert!(images == 0 && ran.err().contains("layer"), "{images} images; the message names the layer: {}", ran.err()),
            other => panic!("{other}: {}", ran.err()),
        }
        self.fixture.expect_nothing_left();
        ran
    }

    /// The root of the one image in the cache.
    fn root(&self) -> PathBuf {
        let images: Vec<PathBuf> =
            fs::read_dir(self.fixture.cache().join("v1/images")).expect("a cache").flatten().map(|entry| entry.path()).collect();
        assert_eq!(images.len(), 1);
        images[0].join("rootfs")
    }

    #[track_caller]
    fn refuses(layers: &[Tar]) {
        Canary::new().pull(layers).expect_code(125);
    }

    /// Either answer will do, as long as nothing lands outside.
    #[track_caller]
    fn contains(layers: &[Tar]) {
        Canary::new().pull(layers);
    }
}

#[test]
fn dot_dot_in_a_path_is_refused() {
    for path in ["../x", "a/../../x", "a/..", ".."] {
        Canary::refuses(&[Tar::new().file(path, "pwned")]);
    }
}

#[test]
fn absolute_paths_lie_below_the_root() {
    let canary = Canary::new();
    let target = canary.folder().join("x").display().to_string();
    canary.pull(&[Tar::new().file(&target, "inside").file("./dot", "d").file("/slash", "s")]).expect_code(0);
    let root = canary.root();
    assert_eq!(fs::read_to_string(root.join(target.trim_start_matches('/'))).expect("inside"), "inside");
    assert_eq!(fs::read_to_string(root.join("dot")).expect("inside") + &fs::read_to_string(root.join("slash")).expect("inside"), "ds");
}

/// CVE-2021-29136 (umoci): a root entry that is a symlink.
#[test]
fn cve_2021_29136_the_root_entry_is_a_symlink_or_a_file() {
    let canary = Canary::new().folder().display().to_string();
    for name in [".", "./", "/"] {
        Canary::contains(&[Tar::new().symlink(name, &canary).file("x", "pwned")]);
        Canary::contains(&[Tar::new().file(name, "not a folder").file("x", "pwned")]);
    }
}

/// CVE-2026-29064, CVE-2024-0406, CVE-2020-27833: a file beneath a symlink, in one layer or over two, in one step or several.
#[test]
fn cve_2024_0406_a_file_beneath_a_symlink_stays_inside() {
    let canary = Canary::new();
    let target = canary.folder().display().to_string();
    canary.pull(&[Tar::new().symlink("a", &target).file("a/x", "pwned").file("a/new", "pwned")]);
    Canary::contains(&[Tar::new().symlink("a", "../../../../../../../../tmp").file("a/undocked-pwned", "pwned")]);
    assert!(!Path::new("/tmp/undocked-pwned").exists());
    let canary = Canary::new();
    let target = canary.folder().display().to_string();
    // Over two layers it is legal: a folder takes the link's place.
    canary.pull(&[Tar::new().symlink("a", &target), Tar::new().file("a/x", "through")]);
    Canary::contains(&[Tar::new().symlink("a", "..").symlink("a/b", "..").file("a/b/x", "pwned")]);
}

/// CVE-2026-50163: a hard link whose target is taken from the working directory.
#[test]
fn cve_2026_50163_a_hard_link_is_resolved_inside_the_layer() {
    let target = Canary::new().folder().join("x").display().to_string();
    for name in ["../x", "x", "file", target.as_str(), "/etc/hostname", "../../../../../../../../etc/hostname"] {
        Canary::refuses(&[Tar::new().hard_link("link", name)]);
    }
    // Through a symlink, too.
    let canary = Canary::new();
    let folder = canary.folder().display().to_string();
    let ran = canary.pull(&[Tar::new().symlink("a", &folder).hard_link("link", "a/x")]);
    ran.expect_code(125);
}

#[test]
fn a_hard_link_to_a_file_that_a_symlink_hides_does_not_write_through() {
    let canary = Canary::new();
    let ran = canary.pull(&[Tar::new().file("a", "first").hard_link("b", "a").file("b", "second")]);
    ran.expect_code(0);
    let root = canary.root();
    let read = |name: &str| fs::read_to_string(root.join(name)).expect("there");
    assert_eq!((read("a"), read("b")), ("first".to_owned(), "second".to_owned()), "an existing inode is never written");
}

/// CVE-2026-33056, CVE-2021-32760: chmod of a folder through a symlink of the same name.
#[test]
fn cve_2026_33056_a_mode_is_not_set_through_a_symlink() {
    let canary = Canary::new();
    let target = canary.folder().join("dir").display().to_string();
    canary.pull(&[Tar::new().symlink("a", &target).entry(&Header::new(kind::FOLDER, "a").mode(0o777), b"")]);
    let canary = Canary::new();
    let target = canary.folder().join("dir").display().to_string();
    canary.pull(&[Tar::new().entry(&Header::new(kind::FOLDER, "a").mode(0o777), b"").symlink("a", &target)]);
}

/// CVE-2025-62518, CVE-2026-33055: the PAX size counts, whatever the header says.
#[test]
fn cve_2025_62518_the_pax_size_overrides_the_headers() {
    let inner = Tar::new().file("hidden", "smuggled").finish();
    for header_size in [0, 7, 512, inner.len() as u64 + 512] {
        let mut header = Header::new(kind::FILE, "nested.tar");
        header.size = Some(header_size);
        let tar = Tar::new().pax(&[("size", &inner.len().to_string())]).entry(&header, &inner).file("after", "a");
        let canary = Canary::new();
        canary.pull(&[tar]).expect_code(0);
        let root = canary.root();
        assert_eq!(fs::read(root.join("nested.tar")).expect("there"), inner, "header said {header_size}");
        assert!(!root.join("hidden").exists() && root.join("after").exists());
    }
}

/// RUSTSEC-2026-0112: a malformed PAX record is an error, not skipped.
#[test]
fn rustsec_2026_0112_malformed_pax_is_refused() {
    for record in ["9 path=x", "99 path=evil\n", "path=evil\n", "0 \n", "7 a=b\n", "-1 a=b\n", "12 sizé=1\n\n\n"] {
        Canary::refuses(&[Tar::new().entry(&Header::new(kind::PAX, "pax"), record.as_bytes()).file("x", "y")]);
    }
    Canary::refuses(&[Tar::new().pax(&[("size", "-1")]).file("x", "y")]);
    Canary::refuses(&[Tar::new().pax(&[("size", "99999999999999999999999")]).file("x", "y")]);
    Canary::refuses(&[Tar::new().pax(&[("path", "../x")]).file("x", "y")]);
}

#[test]
fn long_names_of_all_kinds_arrive() {
    let long = format!("{}/leaf", (0..30).map(|n| format!("folder{n:02}")).collect::<Vec<_>>().join("/"));
    let canary = Canary::new();
    let gnu = Header::new(kind::GNU_LONG_NAME, "././@LongLink");
    let tar = Tar::new()
        .entry(&gnu, format!("gnu/{long}\0").as_bytes())
        .file("cut", "g")
        .pax(&[("path", &format!("pax/{long}"))])
        .file("cut", "p");
    canary.pull(&[tar]).expect_code(0);
    for start in ["gnu", "pax"] {
        let text = fs::read_to_string(canary.root().join(start).join(&long)).expect("there");
        assert_eq!(text, start[..1]);
    }
    // Beyond what the kernel takes.
    Canary::refuses(&[Tar::new().pax(&[("path", &"n".repeat(256))]).file("x", "y")]);
    Canary::refuses(&[Tar::new().pax(&[("path", &"d/".repeat(2100))]).file("x", "y")]);
}

#[test]
fn whiteouts_hide_lower_layers_only_and_bad_ones_are_refused() {
    let canary = Canary::new();
    let lower = Tar::new().file("gone", "l").folder("dir").file("dir/gone", "l").file("dir/kept", "l").file("opaque/old", "l");
    let upper =
        Tar::new().file("opaque/new", "u").file(".wh.gone", "").file("dir/.wh.gone", "").file("opaque/.wh..wh..opq", "").file("both", "u");
    let upper = upper.file(".wh.both", "");
    canary.pull(&[lower, upper]).expect_code(0);
    let root = canary.root();
    for (path, exists) in
        [("gone", false), ("dir/gone", false), ("dir/kept", true), ("opaque/old", false), ("opaque/new", true), ("both", true)]
    {
        assert_eq!(root.join(path).exists(), exists, "{path}");
    }
    let names: Vec<PathBuf> = everything_below(&root).into_iter().filter(|path| path.display().to_string().contains(".wh.")).collect();
    assert!(names.is_empty(), "no whiteout is seen: {names:?}");
    for bad in [".wh.", ".wh..", ".wh...", "a/.wh.."] {
        Canary::refuses(&[Tar::new().file(bad, "")]);
    }
    let canary = Canary::new();
    let target = canary.folder().display().to_string();
    canary.pull(&[Tar::new().symlink("a", &target), Tar::new().file("a/.wh.x", "").file("a/.wh..wh..opq", "")]);
}

/// CVE-2026-50195, CVE-2026-53488 (containerd): an image's own labels are taken for names or orders.
#[test]
fn cve_2026_50195_cve_2026_53488_labels_name_and_start_nothing() {
    let canary = Canary::new();
    let target = canary.folder().join("x").display().to_string();
    let labels = json!({
        "org.opencontainers.image.ref.name": "docker.io/library/trusted:latest", "io.containerd.image.name": "docker.io/library/trusted:latest",
        "containerd.io/restart.logpath": target, "io.kubernetes.container.logpath": "../../canary/x",
        "containerd.io/restart.loguri": format!("binary:///bin/sh?-c=echo pwned > {target}"),
    });
    let image = Image { layers: vec![ImageLayer::new(Tar::new().file("x", "y"), Packing::Plain)], config: tests::image::lambci_config() };
    canary.pull_image(&image.with("Labels", labels)).expect_code(0);
    let listed = canary.fixture.undocked(&["images", "--json"]).finish().expect_code(0).out();
    assert!(!listed.contains("trusted"), "{listed}");
    canary.fixture.undocked(&["run", "--pull", "never", "docker.io/library/trusted:latest"]).finish().expect_code(125);
}

#[test]
fn modes_devices_and_set_id_bits() {
    let canary = Canary::new();
    let tar = Tar::new()
        .entry(&Header::new(kind::FILE, "setuid").mode(0o6755), b"s")
        .entry(&Header::new(kind::FILE, "none").mode(0), b"n")
        .entry(&Header::new(kind::FOLDER, "closed").mode(0o000), b"")
        .file("closed/inside", "i")
        .entry(&Header::new(kind::FOLDER, "readonly").mode(0o555), b"")
        .file("readonly/inside", "i")
        .entry(&Header::new(kind::CHARACTER_DEVICE, "device"), b"")
        .entry(&Header::new(kind::FIFO, "fifo").mode(0o600), b"");
    let ran = canary.pull(&[tar]).expect_code(0);
    assert!(ran.err().contains(": a device node was left out\n"), "{}", ran.err());
    let root = canary.root();
    let mode = |path: &str| fs::symlink_metadata(root.join(path)).expect("there").permissions().mode() & 0o7777;
    assert_eq!((mode("setuid"), mode("none"), mode("closed"), mode("readonly")), (0o755, 0, 0, 0o555));
    assert_eq!(fs::read_to_string(root.join("readonly/inside")).expect("there"), "i");
    assert!(!root.join("device").exists());
    // A folder that nobody may enter can be removed again.
    let image = canary.fixture.image("evil");
    canary.fixture.undocked(&["rm", &image]).finish().expect_code(0);
    canary.fixture.undocked(&["prune"]).finish().expect_code(0);
}

#[test]
fn the_later_of_two_entries_wins() {
    let canary = Canary::new();
    let tar = Tar::new()
        .file("twice", "first")
        .file("twice", "second")
        .file("d/x", "x")
        .file("d", "now a file")
        .file("f", "f")
        .folder("f")
        .file("f/y", "y");
    canary.pull(&[tar]).expect_code(0);
    let root = canary.root();
    assert_eq!(fs::read_to_string(root.join("twice")).expect("there"), "second");
    assert!(root.join("d").is_file() && root.join("f/y").is_file());
}

#[test]
fn a_file_over_a_folder_of_a_lower_layer_and_the_other_way_round() {
    let canary = Canary::new();
    canary.pull(&[Tar::new().file("a/x", "x").file("b", "b"), Tar::new().file("a", "file").folder("b").file("b/y", "y")]).expect_code(0);
    assert!(canary.root().join("a").is_file() && canary.root().join("b/y").is_file());
}

#[test]
fn damaged_archives_are_refused() {
    let good = Tar::new().file("x", vec![b'x'; 5000]).finish();
    let image = |bytes: &[u8], packing: Packing| Image {
        layers: vec![ImageLayer::of_bytes(bytes, packing)],
        config: tests::image::lambci_config(),
    };
    let refuses = |what: &str, image: &Image| {
        let ran = Canary::new().pull_image(image);
        assert_eq!(ran.code(), 125, "{what}: {}", ran.err());
    };
    refuses("cut in the data", &image(&good[..3000], Packing::Plain));
    refuses("cut in a header", &image(&good[..100], Packing::Gzip));
    let mut wrong_sum = good.clone();
    wrong_sum[0] = b'y';
    refuses("header checksum", &image(&wrong_sum, Packing::Plain));
    let mut packed = image(&good, Packing::Gzip);
    let blob = &mut packed.layers[0].blob;
    let end = blob.len();
    blob[end - 8] ^= 1;
    refuses("gzip checksum", &packed);
    let mut packed = image(&good, Packing::Gzip);
    packed.layers[0].blob.extend_from_slice(b"garbage");
    refuses("garbage after the gzip stream", &packed);
    let mut packed = image(&good, Packing::Gzip);
    packed.layers[0].blob.truncate(end / 2);
    refuses("cut in the gzip stream", &packed);
}

#[test]
fn a_bomb_is_stopped_by_its_ratio_or_size() {
    let canary = Canary::new();
    let mut header = Header::new(kind::FILE, "huge");
    // Eleven gigabytes promised, which is more than Lambda takes.
    header.size = Some(11 << 30);
    let ran = canary.pull(&[Tar::new().entry(&header, b"not that many")]);
    ran.expect_code(125);
}

/// The image made of layer cases: what must be seen stands in its `/expect.json`.
fn check_edge_image(name: &str) {
    if Layout::at(&place::images_layout()).find(name).is_none() {
        return skip::skip(skip::Lack::Providable, &format!("the image {name} is not built (tests/images/mkimages.py build @ci)"));
    }
    let canary = Canary::new();
    let reference = format!("oci:{}:{name}", place::images_layout().display());
    canary.fixture.undocked(&["pull", &reference]).finish().expect_code(0);
    let root = canary.root();
    let expect: Value =
        serde_json::from_slice(&fs::read(root.join("expect.json")).expect("the last layer's second gzip member")).expect("JSON");
    let map = |key: &str| expect[key].as_object().cloned().unwrap_or_default();
    for path in expect["absent"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        assert!(fs::symlink_metadata(root.join(path)).is_err(), "{path} should be hidden");
    }
    for (path, content) in map("files") {
        assert_eq!(fs::read_to_string(root.join(&path)).unwrap_or_else(|error| panic!("{path}: {error}")), content, "{path}");
    }
    for (path, target) in map("links") {
        assert_eq!(fs::read_link(root.join(&path)).expect("a link").display().to_string(), target, "{path}");
    }
    for (path, mode) in map("modes") {
        let found = fs::symlink_metadata(root.join(&path)).expect("there").permissions().mode() & 0o7777;
        // Set-id bits are dropped on disk.
        let wanted = u32::from_str_radix(mode.as_str().expect("text"), 8).expect("octal") & 0o1777;
        assert_eq!(found, wanted, "{path}");
    }
    for pair in expect["same_inode"].as_array().into_iter().flatten() {
        let inode = |at: usize| fs::metadata(root.join(pair[at].as_str().expect("text"))).expect("there").ino();
        assert_eq!(inode(0), inode(1), "{pair}");
    }
}

#[test]
fn the_edge_image_is_as_it_says() {
    check_edge_image("test/edge:latest");
}

#[test]
fn the_odd_edge_image_is_as_it_says() {
    check_edge_image("test/edge-odd:latest");
}

#[test]
fn the_evil_image_is_refused_or_contained() {
    if Layout::at(&place::images_layout()).find("test/evil:latest").is_none() {
        tests::skip!("the image test/evil:latest is not built (tests/images/mkimages.py build @ci)");
    }
    let canary = Canary::new();
    let reference = format!("oci:{}:test/evil:latest", place::images_layout().display());
    canary.pull_reference(&reference);
    for name in ["lambda-images-evil", "lambda-images-evil-up", "lambda-images-evil-dotdot", "lambda-images-evil-abs", "pwned"] {
        assert!(!Path::new("/tmp").join(name).exists(), "/tmp/{name}");
    }
}
