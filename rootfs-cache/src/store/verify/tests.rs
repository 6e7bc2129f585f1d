use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::made::MadeImage;
use crate::manifest::{Descriptor, OCI_LAYER};
use crate::store::PruneScope;
use crate::store::fixtures::{Bench, Raw, Tar};
use crate::unpack::Limits;

struct Stored {
    bench: Bench,
    image: Digest,
    layer: Digest,
}

impl Stored {
    fn new() -> Self {
        let bench = Bench::new();
        let tar = Tar::default()
            .file("etc/shadow", b"secret")
            .raw(Raw::new("closed", b'5').mode(0), b"")
            .file("closed/inside", b"in")
            .raw(Raw::new("none", b'0').mode(0).size(4), b"none")
            .file("big", vec![b'b'; 600_000])
            .hard_link("again", "big")
            .symlink("link", "big")
            .raw(Raw::new("fifo", b'6').mode(0o600), b"")
            .end();
        let layer = Self::add(&bench, &[&tar]);
        let image = bench.cache.images().unwrap()[0].manifest;
        Self { bench, image, layer: layer[0] }
    }

    /// An image of these tars with a manifest of its own; their digests.
    fn add(bench: &Bench, tars: &[&[u8]]) -> Vec<Digest> {
        let digests: Vec<Digest> = tars.iter().map(|tar| Digest::of(tar)).collect();
        let config = serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": digests}});
        let layers: Vec<_> = tars
            .iter()
            .map(|tar| {
                let mut staging = bench.cache.stage_blob().unwrap();
                staging.write_all(tar).unwrap();
                let _ = staging.publish(&Digest::of(tar)).unwrap();
                Descriptor { media_type: OCI_LAYER.to_owned(), digest: Digest::of(tar), size: tar.len() as u64 }
            })
            .collect();
        let config = config.to_string();
        let made = MadeImage { config: config.as_bytes(), layers: &layers, names: &[] };
        bench.cache.add_image(&made, &Limits::default()).unwrap();
        digests
    }

    fn store(&self) -> PathBuf {
        self.bench.cache.root().join("v1")
    }

    fn in_image(&self, name: &str) -> PathBuf {
        self.store().join(image_name(&self.image)).join(name)
    }

    fn in_layer(&self, name: &str) -> PathBuf {
        self.store().join(layer_name(&self.layer)).join(name)
    }

    fn verify(&self) -> Verified {
        let mut all = Vec::new();
        self.bench.cache.verify(&[self.image, Digest::of(b"no image")], &mut |verified| all.push(verified)).unwrap();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    /// What is wrong, each with its path below the image or the layer.
    fn damages(&self) -> Vec<String> {
        let verified = self.verify();
        let (image, layer) = (image_name(&self.image) + "/", layer_name(&self.layer) + "/");
        let mut damages: Vec<String> = verified
            .damages
            .iter()
            .map(|damage| format!("{} {}", damage.path.display(), damage.flaw).replace(&image, "").replace(&layer, ""))
            .collect();
        damages.sort();
        damages
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Bends one byte, and leaves size, mode and time as they are.
fn flip(path: &Path, at: usize) {
    let found = fs::metadata(path).unwrap();
    let mut content = {
        set_mode(path, 0o600);
        fs::read(path).unwrap()
    };
    content[at] ^= 1;
    fs::write(path, content).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(found.modified().unwrap()).unwrap();
    set_mode(path, found.permissions().mode() & 0o7777);
}

#[test]
fn a_whole_image_is_found_whole_and_left_as_it_is() {
    let stored = Stored::new();
    let modes = || ["rootfs/none", "rootfs/closed"].map(|name| fs::metadata(stored.in_image(name)).unwrap().permissions().mode() & 0o7777);
    for _ in 0..2 {
        let verified = stored.verify();
        assert_eq!((&verified.damages[..], &verified.damaged_layers[..], &verified.unverifiable[..]), (&[][..], &[][..], &[][..]));
        assert_eq!(modes(), [0, 0]);
    }
    stored.bench.cache.prune(PruneScope::Unreferenced).unwrap();
    assert_eq!(stored.damages(), [""; 0]);
}

type Harm = (&'static str, fn(&Stored), &'static [&'static str]);

/// Each kind of damage is told by its path, and nothing else is.
#[test]
fn every_kind_of_damage_is_told() {
    let harms: &[Harm] = &[
        ("a bit of a file", |stored| flip(&stored.in_image("rootfs/big"), 300_000), &["files/3 has other content"]),
        ("a bit of a file that nobody may read", |stored| flip(&stored.in_layer("files/2"), 1), &["files/2 has other content"]),
        (
            "a file cut short",
            |stored| File::options().write(true).open(stored.in_layer("files/3")).unwrap().set_len(1).unwrap(),
            &["files/3 has another modification time", "files/3 has other content"],
        ),
        ("a mode of a file", |stored| set_mode(&stored.in_image("rootfs/big"), 0o666), &["files/3 has the mode 666 in place of 644"]),
        ("a setuid bit", |stored| set_mode(&stored.in_image("rootfs/big"), 0o4644), &["files/3 has the mode 4644 in place of 644"]),
        ("a mode of a folder", |stored| set_mode(&stored.in_image("rootfs/etc"), 0o777), &["rootfs/etc has the mode 777 in place of 755"]),
        ("a name of the tree", |stored| fs::remove_file(stored.in_image("rootfs/again")).unwrap(), &["rootfs/again is missing"]),
        ("a folder of the tree", |stored| fs::remove_dir_all(stored.in_image("rootfs/dev")).unwrap(), &["rootfs/dev is missing"]),
        ("a layer's file", |stored| fs::remove_file(stored.in_layer("files/0")).unwrap(), &["files/0 is missing"]),
        ("more in the tree", |stored| fs::write(stored.in_image("rootfs/etc/more"), "").unwrap(), &["rootfs/etc/more should not be there"]),
        ("more in the layer", |stored| fs::write(stored.in_layer("files/99"), "").unwrap(), &["files/99 should not be there"]),
        (
            "a copy in place of the layer's file",
            |stored| {
                let copy = stored.in_image("rootfs/copy");
                fs::copy(stored.in_image("rootfs/big"), &copy).unwrap();
                fs::rename(copy, stored.in_image("rootfs/big")).unwrap();
            },
            &["rootfs/big is not the layer's file"],
        ),
        (
            "a symlink's target",
            |stored| {
                fs::remove_file(stored.in_image("rootfs/link")).unwrap();
                symlink("/etc/passwd", stored.in_image("rootfs/link")).unwrap();
            },
            &["rootfs/link leads elsewhere"],
        ),
        (
            "a symlink in place of a file",
            |stored| {
                fs::remove_file(stored.in_image("rootfs/big")).unwrap();
                symlink("again", stored.in_image("rootfs/big")).unwrap();
            },
            &["rootfs/big is of another kind"],
        ),
        (
            "a stub that was written to",
            |stored| fs::write(stored.in_image("rootfs/etc/hosts"), "bad").unwrap(),
            &["rootfs/etc/hosts has other content"],
        ),
        ("the manifest", |stored| flip(&stored.in_image("manifest.json"), 20), &["manifest.json has other content"]),
        ("the config", |stored| flip(&stored.in_image("config.json"), 20), &["config.json has other content"]),
        ("no config", |stored| fs::remove_file(stored.in_image("config.json")).unwrap(), &["config.json is missing"]),
        ("the list of layers", |stored| fs::write(stored.in_image("layers.json"), "[]").unwrap(), &["layers.json has other content"]),
        ("the tree", |stored| fs::rename(stored.in_image("rootfs"), stored.in_image("moved")).unwrap(), &["rootfs is missing"]),
        (
            "an index cut short",
            |stored| File::options().write(true).open(stored.in_layer("index")).unwrap().set_len(200).unwrap(),
            &["index has other content"],
        ),
        ("a bit of an index", |stored| flip(&stored.in_layer("index"), 4), &["index has other content"]),
        ("the checks", |stored| flip(&stored.in_layer("checks"), 30), &["checks has other content"]),
        ("the layer's meta.json", |stored| fs::write(stored.in_layer("meta.json"), "{").unwrap(), &["meta.json has other content"]),
    ];
    for (what, harm, told) in harms {
        let stored = Stored::new();
        harm(&stored);
        assert_eq!(stored.damages(), *told, "{what}");
    }
    let stored = Stored::new();
    flip(&stored.store().join(blob_name(&stored.layer)), 700);
    assert_eq!(stored.damages(), [format!("{} has other content", blob_name(&stored.layer))]);
}

#[test]
fn a_layer_of_an_older_version_is_checked_as_far_as_it_can_be() {
    let stored = Stored::new();
    fs::remove_file(stored.in_layer("checks")).unwrap();
    let verified = stored.verify();
    assert_eq!((&verified.damages[..], &verified.unverifiable[..]), (&[][..], &[stored.layer][..]));
    set_mode(&stored.in_image("rootfs/big"), 0o600);
    assert_eq!(stored.damages(), ["files/3 has the mode 600 in place of 644"]);
}

#[test]
fn damage_of_a_shared_layer_is_that_of_all_its_images() {
    let stored = Stored::new();
    let (one, two) = (Tar::default().file("one", b"1").end(), Tar::default().file("two", b"2").end());
    Stored::add(&stored.bench, &[&one, &two]);
    let images: Vec<Digest> = stored.bench.cache.images().unwrap().into_iter().map(|image| image.manifest).collect();
    Stored::add(&stored.bench, &[&two]);
    flip(&stored.store().join(layer_name(&Digest::of(&two))).join("files/0"), 0);
    let all: Vec<Digest> = stored.bench.cache.images().unwrap().into_iter().map(|image| image.manifest).collect();
    let mut damaged = Vec::new();
    stored.bench.cache.verify(&all, &mut |verified| damaged.extend(verified.damaged_layers)).unwrap();
    assert_eq!(damaged, [Digest::of(&two); 2]);
    let sharing = stored.bench.cache.images_with(&damaged).unwrap();
    assert!(sharing.len() == 2 && !sharing.contains(&stored.image) && images.contains(&stored.image));
    // With all of them the layer goes, and is made anew.
    sharing.iter().for_each(|image| drop(stored.bench.cache.remove(image).unwrap()));
    Stored::add(&stored.bench, &[&one, &two]);
    let all: Vec<Digest> = stored.bench.cache.images().unwrap().into_iter().map(|image| image.manifest).collect();
    stored.bench.cache.verify(&all, &mut |verified| assert_eq!(verified.damages, [])).unwrap();
}
