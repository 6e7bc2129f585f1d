use std::io::{Cursor, Write as _};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;
use crate::digest::Digest;
use crate::reference::{ImageReference, Platform};
use crate::source::{LocalError, Source, SourceError};
use crate::store::fixtures::{Raw, Tar, chain, gzip};

fn spool() -> io::Result<File> {
    tempfile::tempfile()
}

fn read(stream: &[u8]) -> Result<TarFile, LocalError> {
    TarFile::from_stream(Path::new("a.tar"), stream, &spool)
}

fn bzip2(content: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    bzip2::read::BzEncoder::new(content, bzip2::Compression::fast()).read_to_end(&mut packed).unwrap();
    packed
}

fn content(archive: &TarFile, name: &str) -> Result<Vec<u8>, LocalError> {
    let mut bytes = Vec::new();
    archive.section(name)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[test]
fn files_and_links_by_their_names() {
    let long = format!("{}/layer.tar", "d".repeat(150));
    let tar = Tar::default()
        .dir("./", 0o755)
        .file("./manifest.json", "[]")
        .file("a/layer.tar", vec![7; 1500])
        .symlink("b/layer.tar", "../a/layer.tar")
        .symlink("c/layer.tar", "../b/./layer.tar")
        .hard_link("d", "./manifest.json")
        .gnu(b'L', long.as_bytes())
        .file("cut", "long")
        .dir("a", 0o755)
        .dir("a", 0o755)
        .end();
    for stream in
        [tar.clone(), gzip(&tar), bzip2(&tar), ruzstd::encoding::compress_to_vec(&tar[..], ruzstd::encoding::CompressionLevel::Fastest)]
    {
        let archive = read(&stream).unwrap();
        for (name, wanted) in [
            ("manifest.json", b"[]".to_vec()),
            ("./manifest.json", b"[]".to_vec()),
            ("a/layer.tar", vec![7; 1500]),
            ("b/layer.tar", vec![7; 1500]),
            ("c/layer.tar", vec![7; 1500]),
            ("d", b"[]".to_vec()),
            (&long, b"long".to_vec()),
        ] {
            assert_eq!(content(&archive, name).unwrap(), wanted, "{name}");
        }
        assert!(matches!(archive.section("a"), Err(LocalError::Missing(_))), "a folder is no file");
        assert!(matches!(archive.section("../manifest.json"), Err(LocalError::Name { .. })));
    }
}

#[test]
fn a_file_is_read_where_it_lies() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.tar");
    std::fs::write(&path, Tar::default().file("x", "content").end()).unwrap();
    let never = || -> io::Result<File> { panic!("nothing is copied") };
    let archive = TarFile::open(&path, &never).unwrap();
    assert_eq!(content(&archive, "x").unwrap(), b"content");
    std::fs::write(&path, gzip(&Tar::default().file("x", "content").end())).unwrap();
    assert_eq!(content(&TarFile::open(&path, &spool).unwrap(), "x").unwrap(), b"content");
    assert!(matches!(TarFile::open(directory.path(), &spool), Err(LocalError::File(_))), "a folder is no archive");
    assert!(matches!(TarFile::open(&directory.path().join("none"), &spool), Err(LocalError::File(_))));
}

/// What is refused, by the words in which.
#[test]
fn damaged_and_hostile_archives() {
    let whole = Tar::default().file("manifest.json", vec![b' '; 2000]).end();
    let zeros = ruzstd::encoding::compress_to_vec(&vec![0; 16 << 20][..], ruzstd::encoding::CompressionLevel::Fastest).repeat(20);
    let damaged = {
        let mut bytes = gzip(&whole);
        let last = bytes.len() - 5;
        bytes[last] ^= 1;
        bytes
    };
    let table: [(&str, Vec<u8>, &str); 20] = [
        ("cut in a file", whole[..1500].to_vec(), "cut short"),
        ("cut in a header", whole[..300].to_vec(), "cut short"),
        ("cut gzip", gzip(&whole)[..40].to_vec(), ""),
        ("damaged gzip", damaged, ""),
        (
            "no tar",
            b"this is no tar at all, whatever else it may be".repeat(30),
            "no tar archive that can be read, at byte 512: no entry header",
        ),
        ("damaged xz", b"\xfd7zXZ\0rest".to_vec(), ""),
        ("cut bzip2", bzip2(&whole)[..40].to_vec(), ""),
        ("a bomb of bzip2", bzip2(&vec![0; 300 << 20]), "more than 1100 times"),
        ("twice", Tar::default().file("a", "1").file("./a", "2").end(), "holds `a` twice"),
        ("a link over a file", Tar::default().file("a", "1").symlink("a", "b").end(), "holds `a` twice"),
        ("up", Tar::default().file("../a", "1").end(), "`../a` leads out of the archive"),
        ("up inside", Tar::default().file("a/../../b", "1").end(), "leads out of the archive"),
        ("absolute", Tar::default().file("/etc/passwd", "1").end(), "leads out of the archive"),
        ("link up", Tar::default().symlink("a/layer.tar", "../../etc/passwd").end(), "`a/layer.tar` leads out of the archive"),
        ("absolute link", Tar::default().symlink("layer.tar", "/etc/passwd").end(), "leads out of the archive"),
        ("hard link up", Tar::default().hard_link("layer.tar", "../x").end(), "leads out of the archive"),
        ("device", Tar::default().raw(Raw::new("null", b'3'), b"").end(), "neither a file nor a folder nor a link"),
        ("huge", Tar::default().raw(Raw::new("big", b'0').size(7 << 30), b"").end(), "cut short"),
        ("not a name", Tar::default().file(b"a\xff", "").end(), "is no UTF-8"),
        ("bomb", zeros, "more than 1100 times"),
    ];
    for (what, stream, wanted) in table {
        let error = read(&stream).map(|_| ()).expect_err(what);
        let text = chain(&error);
        assert!(text.contains(wanted), "{what}: {text}");
    }
    // The size of a number's largest form must not turn over.
    let most = Raw::new("big", b'0').bytes(124, &[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    assert!(read(&Tar::default().raw(most, b"").end()).is_err());
}

#[test]
fn links_in_a_circle_or_to_nothing() {
    let archive = read(&Tar::default().symlink("a", "b").symlink("b", "a").symlink("c", "none").end()).unwrap();
    assert!(chain(&archive.section("a").map(|_| ()).unwrap_err()).contains("without end"));
    assert!(chain(&archive.section("c").map(|_| ()).unwrap_err()).contains("holds no `none`"));
}

/// An archive of docker's with these members beside two layers, of which one is compressed.
struct Docker {
    layers: [Vec<u8>; 2],
    config: Vec<u8>,
}

impl Docker {
    fn new() -> Self {
        let tars = [Tar::default().file("a", "1").end(), Tar::default().file("b", "2").end()];
        let diff_ids = tars.clone().map(|tar| Digest::of(&tar));
        let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let [plain, packed] = tars;
        Self { layers: [plain, gzip(&packed)], config: config.to_string().into_bytes() }
    }

    fn list(&self) -> Value {
        json!([{"Config": "c.json", "RepoTags": ["lambci/lambda:x", "y:latest"], "Layers": ["1/layer.tar", "2/layer.tar"]}])
    }

    fn archive(&self, list: &Value) -> Tar {
        Tar::default()
            .file("1/layer.tar", &self.layers[0])
            .file("2.tar", &self.layers[1])
            .symlink("2/layer.tar", "../2.tar")
            .file("c.json", &self.config)
            .file("manifest.json", list.to_string())
    }
}

fn platform() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn open(tar: Tar) -> Result<Source<'static>, SourceError> {
    Source::archive(Path::new("a.tar"), Some(&mut Cursor::new(tar.end())), &spool)
}

#[tokio::test]
async fn dockers_archive_without_manifests() {
    let docker = Docker::new();
    let source = open(docker.archive(&docker.list())).unwrap();
    let images = source.images(&platform()).unwrap();
    assert_eq!(images[0].names, ["lambci/lambda:x", "y:latest"]);
    assert_eq!(images[0].platform, Some(platform()));
    let image = source.image(images[0].manifest, &platform()).await.unwrap();
    assert_eq!((image.manifest.config.digest, image.config_bytes.as_slice()), (Digest::of(&docker.config), docker.config.as_slice()));
    for (layer, bytes) in image.manifest.layers.iter().zip(&docker.layers) {
        assert_eq!((layer.digest, layer.size), (Digest::of(bytes), bytes.len() as u64));
        let mut blob = source.blob(layer).await.unwrap();
        assert_eq!(blob.next().await.unwrap().unwrap(), bytes[..]);
    }
    let again = open(docker.archive(&docker.list())).unwrap().images(&platform()).unwrap();
    assert_eq!(again[0].manifest, images[0].manifest, "the same archive is the same image");
}

/// Since version 25 the manifest is in the archive, too.
#[tokio::test]
async fn dockers_archive_with_manifests() {
    let docker = Docker::new();
    let descriptor = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()});
    let layer = |bytes: &[u8]| descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", bytes);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": descriptor("application/vnd.docker.container.image.v1+json", &docker.config),
        "layers": [layer(&docker.layers[0]), layer(&docker.layers[1])],
    });
    let manifest = manifest.to_string().into_bytes();
    let index = json!({"schemaVersion": 2, "manifests": [descriptor("application/vnd.docker.distribution.manifest.v2+json", &manifest)]});
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    let list = json!([{"Config": blob(&docker.config), "RepoTags": null, "Layers": [blob(&docker.layers[0]), blob(&docker.layers[1])]}]);
    let with_layers = |last: &[u8]| {
        let tar = Tar::default().file("index.json", index.to_string()).file("manifest.json", list.to_string());
        let tar = tar
            .file(blob(&docker.config), &docker.config)
            .file(blob(&manifest), &manifest)
            .file(blob(&docker.layers[0]), &docker.layers[0]);
        tar.file(blob(&docker.layers[1]), last)
    };
    let images = open(with_layers(&docker.layers[1])).unwrap().images(&platform()).unwrap();
    assert_eq!(images[0].manifest, Digest::of(&manifest), "its own manifest");
    assert!(images[0].names.is_empty());
    let other = open(with_layers(b"short")).unwrap().images(&platform()).unwrap();
    assert_ne!(other[0].manifest, Digest::of(&manifest), "one that does not fit is not taken");
}

#[test]
fn images_of_an_archive_by_name() {
    let docker = Docker::new();
    let mut list = docker.list();
    let mut second = list[0].clone();
    second["RepoTags"] = json!(["second:1"]);
    list.as_array_mut().unwrap().push(second);
    let directory = tempfile::tempdir().unwrap();
    let path: PathBuf = directory.path().join("a.tar");
    File::create(&path).unwrap().write_all(&docker.archive(&list).end()).unwrap();
    for (name, wanted) in [
        (":lambci/lambda:x", Ok(())),
        (":docker.io/library/y", Ok(())),
        (":second:1", Ok(())),
        (":second", Err("has no image `second` (its names are `lambci/lambda:x`, `y:latest`, `second:1`)")),
        ("", Err("has no single image")),
    ] {
        let text = format!("docker-archive:{}{name}", path.display());
        let Ok(ImageReference::Layout(reference)) = text.parse() else { panic!("{text}") };
        match (Source::local(&reference, &spool).map(|_| ()), wanted) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, _) => panic!("{text}: {found:?}"),
        }
    }
}

#[test]
fn archives_that_hold_no_image_we_read() {
    let docker = Docker::new();
    let listed = |change: &dyn Fn(&mut Value)| {
        let mut list = docker.list();
        change(&mut list[0]);
        docker.archive(&list)
    };
    let table: [(&str, Tar, &str); 8] = [
        ("a file system", Tar::default().file("etc/passwd", "root"), "neither `manifest.json` nor `index.json`"),
        ("no JSON", Tar::default().file("manifest.json", "{"), "its `manifest.json` is malformed"),
        ("no list", Tar::default().file("manifest.json", "{\"Config\": 1}"), "its `manifest.json` is malformed"),
        ("a list of 5 MiB", Tar::default().file("manifest.json", vec![b' '; 5 << 20]), "is larger than such a document may be"),
        ("no config", listed(&|image| image["Config"] = json!("none.json")), "holds no `none.json`"),
        ("config outside", listed(&|image| image["Config"] = json!("../../etc/passwd")), "`../../etc/passwd` leads out of the archive"),
        ("no layer", listed(&|image| image["Layers"][1] = json!("3/layer.tar")), "holds no `3/layer.tar`"),
        ("too few layers", listed(&|image| image["Layers"] = json!(["1/layer.tar"])), "lists 1 layers, but the image config has 2"),
    ];
    for (what, tar, wanted) in table {
        let error = open(tar).map(|_| ()).expect_err(what);
        assert!(chain(&error).contains(wanted), "{what}: {}", chain(&error));
    }
}
