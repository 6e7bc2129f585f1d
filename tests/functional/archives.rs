//! Archives of images: run from, loaded and saved, beside the real docker, podman and skopeo.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tests::docker::Docker;
use tests::image::{Image, Packing, own_architecture, sha256};
use tests::real_registry::{RealRegistry, Style};
use tests::skip::{Lack, has_program};
use tests::tar::Tar;
use tests::{Fixture, place, skip, skip_for_this_user};

/// An image with a program that does nothing, of two layers packed in two ways; `mark` makes it another image than others.
fn image(mark: &str) -> Image {
    let program = fs::read(place::nothing()).expect("it was built");
    let image = Image::provided()
        .layer(Tar::new().folder("bin").program("bin/nothing", program), Packing::Gzip)
        .layer(Tar::new().file("opt/mark", mark), Packing::Plain);
    image.with("Entrypoint", json!(["/bin/nothing"])).with("User", json!(""))
}

/// What an image in docker's archive is before Docker 25: no manifests, plain layers under names of their own, one of them a link.
fn old_docker_archive(image: &Image, names: &[&str]) -> Vec<u8> {
    let config = image.config_blob(own_architecture());
    let mut tar = Tar::new();
    let mut layers = Vec::new();
    for (n, layer) in image.layers.iter().enumerate() {
        let name = format!("{n:064}/layer.tar");
        tar = tar.folder(&format!("{n:064}")).file(&format!("{n:064}/VERSION"), "1.0");
        tar = if n == 0 { tar.file("kept.tar", &layer.blob).symlink(&name, "../kept.tar") } else { tar.file(&name, &layer.blob) };
        layers.push(name);
    }
    let list = json!([{"Config": "config.json", "RepoTags": names, "Layers": layers}]);
    tar.file("config.json", config).file("manifest.json", list.to_string()).finish()
}

/// The files of an archive that was written by us.
fn members(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let list = Command::new("tar").arg("tf").arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut list = list.expect("tar starts");
    std::io::Write::write_all(&mut list.stdin.take().expect("asked for"), archive).expect("tar reads");
    let names = String::from_utf8(list.wait_with_output().expect("tar ends").stdout).expect("names are text");
    let folder = place::scratch();
    let file = folder.path().join("a.tar");
    fs::write(&file, archive).expect("written");
    let unpacked = Command::new("tar").arg("xf").arg(&file).arg("-C").arg(folder.path()).status();
    assert!(unpacked.is_ok_and(|status| status.success()), "tar unpacks it");
    let content = |name: &str| (name.to_owned(), fs::read(folder.path().join(name)).expect("unpacked"));
    names.lines().filter(|name| !name.ends_with('/')).map(content).collect()
}

fn ids(fixture: &Fixture) -> BTreeSet<String> {
    let ran = fixture.undocked(&["images", "--format", "{{.ID}}", "--no-trunc"]).finish().expect_code(0);
    ran.out().lines().map(str::to_owned).collect()
}

fn id_of(image: &Image) -> String {
    sha256(&image.config_blob(own_architecture()))
}

/// Runs the image's program that does nothing.
fn runs(fixture: &Fixture, reference: &str) {
    fixture.undocked(&["run", "-q", "--pull", "never", "--entrypoint", "/bin/nothing", reference]).finish().expect_code(0);
}

#[test]
fn what_was_saved_is_loaded_as_the_same_image() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.layout().add("one", &image("1"));
    fixture.layout().add("two", &image("2"));
    for name in ["one", "two"] {
        fixture.undocked(&["pull", "--keep-blobs", &fixture.image(name)]).finish().expect_code(0);
        assert_eq!(fixture.undocked(&["tag", &fixture.image(name), &format!("my/{name}")]).finish().expect_code(0).out(), "");
    }
    let digests = fixture.undocked(&["images", "-q"]).finish().out();
    let file = fixture.path().join("saved.tar");
    let path = file.display().to_string();
    assert_eq!(fixture.undocked(&["save", "-o", &path, "my/one", "my/two:latest"]).finish().expect_code(0).out(), "");
    let piped = fixture.undocked(&["save", "my/one", "my/two"]).finish().expect_code(0);
    assert_eq!(piped.stdout, fs::read(&file).expect("written"), "the same bytes every time");
    let names: Vec<String> = members(&piped.stdout).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names[..3], ["oci-layout", "index.json", "manifest.json"]);
    assert_eq!(names.len(), 3 + 2 + 2 + 4, "two manifests, two configs, and a layer of two for both");

    let other = Fixture::without_sandbox();
    let loaded = other.undocked(&["load", "-q", "-i", &path]).finish().expect_code(0);
    assert_eq!(loaded.out(), "Loaded image: my/one:latest\nLoaded image: my/two:latest\n");
    let again: BTreeSet<_> = other.undocked(&["images", "-q"]).finish().out().lines().map(str::to_owned).collect();
    assert_eq!(again, digests.lines().map(str::to_owned).collect());
    runs(&other, "my/one");
    let saved = other.undocked(&["save", "my/one", "my/two"]).finish().expect_code(0);
    assert_eq!(saved.stdout, piped.stdout, "saved by another, the same archive");
    other.expect_nothing_left();
}

#[test]
fn an_oci_archive_has_no_list_of_dockers() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.undocked(&["pull", &fixture.image("provided")]).finish().expect_code(0);
    fixture.undocked(&["tag", &fixture.image("provided"), "my/provided:1"]).finish().expect_code(0);
    let saved = fixture.undocked(&["save", "--format", "oci", "my/provided:1"]).finish().expect_code(0);
    let members = members(&saved.stdout);
    assert!(members.iter().all(|(name, _)| name != "manifest.json"));
    let index: Value = serde_json::from_slice(&members[1].1).expect("JSON");
    assert_eq!(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "docker.io/my/provided:1");
    let file = fixture.path().join("o.tar");
    fs::write(&file, &saved.stdout).expect("written");
    for reference in [format!("oci-archive:{}", file.display()), format!("oci-archive:{}:my/provided:1", file.display())] {
        fixture.undocked(&["pull", "-q", &reference]).finish().expect_code(0);
    }
}

/// Plain, compressed, through a pipe; by name and as the only one; run, pulled and loaded.
#[test]
fn docker_archives_of_before_version_25() {
    let Some(fixture) = Fixture::new() else { return };
    let made = image("old");
    // Docker's layers are plain.
    let plain = Image { layers: made.layers.iter().map(inflated).collect(), config: made.config.clone() };
    let archive = old_docker_archive(&plain, &["lambci/lambda:old", "other:1"]);
    let file = fixture.path().join("a.tar");
    fs::write(&file, &archive).expect("written");
    let packed = fixture.path().join("a.tar.gz");
    assert!(Command::new("gzip").arg("-1").arg("-k").arg(&file).status().expect("gzip starts").success());
    let references = [
        format!("docker-archive:{}", file.display()),
        format!("docker-archive:{}:other:1", file.display()),
        format!("docker-archive:{}:docker.io/lambci/lambda:old", packed.display()),
    ];
    let mut digests = BTreeSet::new();
    for reference in &references {
        let pulled = fixture.undocked(&["pull", "-q", reference]).finish().expect_code(0);
        digests.insert(pulled.out());
        fixture.undocked(&["run", "-q", "--entrypoint", "/bin/nothing", reference]).finish().expect_code(0);
    }
    assert_eq!(digests.len(), 1, "one image: {digests:?}");
    let other = Fixture::without_sandbox();
    for input in [&archive, &fs::read(&packed).expect("packed")] {
        let loaded = other.undocked(&["load", "-q"]).stdin(input.clone()).finish().expect_code(0);
        assert_eq!(loaded.out(), "Loaded image: lambci/lambda:old\nLoaded image: other:1\n");
    }
    assert_eq!(ids(&other), [id_of(&plain)].into());
    let nameless = old_docker_archive(&plain, &[]);
    let loaded = other.undocked(&["load", "-q"]).stdin(nameless).finish().expect_code(0);
    assert_eq!(loaded.out(), format!("Loaded image ID: {}\n", id_of(&plain)));
    let second = old_docker_archive(&Image { layers: inflated_all(&image("new")), config: made.config }, &["other:1"]);
    let loaded = other.undocked(&["load", "-q"]).stdin(second).finish().expect_code(0).out();
    let wanted = format!(
        "The image other:1 already exists, renaming the old one with ID {} to empty string\nLoaded image: other:1\n",
        id_of(&plain)
    );
    assert_eq!(loaded, wanted);
    other.expect_nothing_left();
}

fn inflated(layer: &tests::image::ImageLayer) -> tests::image::ImageLayer {
    let mut tar = Vec::new();
    let packed = layer.media_type.ends_with("gzip");
    let read = if packed {
        std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&layer.blob[..]), &mut tar)
    } else {
        std::io::Read::read_to_end(&mut &layer.blob[..], &mut tar)
    };
    read.expect("it was packed by us");
    tests::image::ImageLayer::of_bytes(&tar, Packing::Plain)
}

fn inflated_all(image: &Image) -> Vec<tests::image::ImageLayer> {
    image.layers.iter().map(inflated).collect()
}

#[test]
fn names_are_taken_and_given() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.layout().add("two", &image("2"));
    for name in ["provided", "two"] {
        fixture.undocked(&["pull", &fixture.image(name)]).finish().expect_code(0);
    }
    let tag = |from: &str, to: &str| fixture.undocked(&["tag", from, to]).finish();
    tag(&fixture.image("provided"), "a:1").expect_code(0);
    tag("a:1", "host:5000/b/c").expect_code(0);
    let id = id_of(&Image::provided());
    tag(&id, "by/id").expect_code(0);
    tag(&id["sha256:".len()..][..12], "a:2").expect_code(0);
    let names = |filter: &[&str]| {
        let arguments = [&["images", "--format", "{{.Repository}}:{{.Tag}}"], filter].concat();
        let text = fixture.undocked(&arguments).finish().expect_code(0).out();
        text.lines().filter(|line| !line.starts_with("oci:")).map(str::to_owned).collect::<BTreeSet<String>>()
    };
    assert_eq!(names(&[]), ["a:1", "a:2", "by/id:latest", "host:5000/b/c:latest"].map(str::to_owned).into());
    assert_eq!(names(&["--filter", "reference=a:*"]), ["a:1", "a:2"].map(str::to_owned).into());
    assert_eq!(names(&["by/id"]), ["by/id:latest".to_owned()].into());
    let rm = |arguments: &[&str]| fixture.undocked(&[&["rm"], arguments].concat()).finish();
    assert_eq!(rm(&["a:1", "host:5000/b/c"]).expect_code(0).out(), "Untagged: a:1\nUntagged: host:5000/b/c:latest\n");
    let refused = rm(&[&id]).expect_code(125);
    refused.expect_err("is the image of several references").expect_err("--force");
    let gone = rm(&["-f", &id]).expect_code(0).out();
    assert!(gone.contains("Untagged: by/id:latest\n") && gone.ends_with(&format!("Deleted: {id}\n")), "{gone}");
    rm(&["a:2"]).expect_code(125);
    tag(&fixture.image("two"), "a:2").expect_code(0);
    tag("a:2", "a@sha256:0000000000000000000000000000000000000000000000000000000000000000").expect_code(2);
    tag("a:2", "A").expect_code(2);
    tag("none", "b").expect_code(125);
}

/// Where blobs were not kept they come from where the image came from, as long as that is there.
#[test]
fn blobs_that_were_not_kept_are_fetched_again() {
    let Some(fixture) = Fixture::new() else { return };
    let Some(registry) = RealRegistry::start() else { return };
    let reference = registry.push(&image("r"), "lambci/lambda", "r", Style::Docker);
    fixture.undocked(&["pull", "-q", &reference]).finish().expect_code(0);
    let saved = fixture.undocked(&["save", &reference]).finish().expect_code(0).expect_err("were not kept: fetching them from");
    fixture.undocked(&["pull", "-q", "--keep-blobs", &reference]).finish().expect_code(0);
    let kept = fixture.undocked(&["save", &reference]).finish().expect_code(0);
    assert_eq!(kept.stdout, saved.stdout);
    assert_eq!(kept.err(), "");

    let away = Fixture::without_sandbox();
    away.undocked(&["pull", "-q", &reference]).finish().expect_code(0);
    drop(registry);
    let file = away.path().join("never.tar");
    let refused = away.undocked(&["save", "-q", "-o", &file.display().to_string(), &reference]).finish().expect_code(125);
    refused.expect_err("is not in the cache, and cannot be fetched from");
    assert!(!file.exists());
    fixture.undocked(&["save", "-q", &reference]).finish().expect_code(0);
    away.expect_nothing_left();
}

/// Layers that images share are fetched from where the image that is saved came from, whatever else has them.
#[test]
fn shared_blobs_are_fetched_from_the_images_own_place() {
    let fixture = Fixture::without_sandbox();
    let base = image("a");
    let above = image("a").layer(Tar::new().folder("more"), Packing::Gzip);
    fixture.layout().add("base", &base);
    fixture.layout().add("above", &above);
    for name in ["base", "above"] {
        fixture.docker(&["pull", "-q", &fixture.image(name)]).finish().expect_code(0);
        fixture.docker(&["tag", &fixture.image(name), &format!("lambci/lambda:{name}")]).finish().expect_code(0);
    }
    let told = fixture.docker(&["save", "lambci/lambda:above"]).finish().expect_code(0).err();
    let lines: Vec<&str> = told.lines().filter(|line| line.contains("fetching them from")).collect();
    assert!(lines.len() == 1 && lines[0].ends_with(&format!("`{}`", fixture.image("above"))), "{told}");
}

#[test]
fn a_kept_blob_that_was_damaged_is_not_saved() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.undocked(&["pull", "--keep-blobs", &fixture.image("provided")]).finish().expect_code(0);
    let blobs = fixture.cache().join("v1/blobs");
    let blob = fs::read_dir(blobs).expect("kept").next().expect("one layer").expect("listed").path();
    let mut bytes = fs::read(&blob).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&blob, &bytes).expect("written");
    let file = fixture.path().join("never.tar");
    let save = || fixture.undocked(&["save", "-o", &file.display().to_string(), &fixture.image("provided")]).finish().expect_code(125);
    save().expect_err("is damaged");
    fs::write(&blob, &bytes[..middle]).expect("written");
    save().expect_code(125);
    let left: Vec<PathBuf> = fs::read_dir(fixture.path()).expect("listed").map(|entry| entry.expect("listed").path()).collect();
    assert!(left.iter().all(|path| path.extension().is_none_or(|end| end != "tar" && end != "partial")), "{left:?}");
}

#[test]
fn bad_archives_are_refused_in_words() {
    let fixture = Fixture::without_sandbox();
    let good = old_docker_archive(&Image { layers: inflated_all(&image("x")), config: json!({}) }, &["x"]);
    let listed = |list: Value| Tar::new().file("manifest.json", list.to_string()).finish();
    let table: [(Vec<u8>, &str); 7] = [
        (good[..good.len() / 2].to_vec(), "cut short"),
        (Vec::new(), "neither `manifest.json` nor `index.json`"),
        (b"PK\x03\x04 a zip is no tar".repeat(100), "no tar archive that can be read"),
        (Tar::new().file("etc/passwd", "root").finish(), "neither `manifest.json` nor `index.json`"),
        (Tar::new().file("manifest.json", "[]").finish(), "there is no image in the archive"),
        (listed(json!([{"Config": "../../etc/passwd", "RepoTags": null, "Layers": []}])), "leads out of the archive"),
        (Tar::new().symlink("manifest.json", "/etc/passwd").finish(), "leads out of the archive"),
    ];
    for (archive, wanted) in table {
        fixture.undocked(&["load"]).stdin(archive).finish().expect_code(125).expect_err(wanted);
    }
    let missing = fixture.undocked(&["load", "-i", "/none/such.tar"]).finish().expect_code(125);
    missing.expect_err("cannot read `/none/such.tar`");
    fixture.undocked(&["save", "none/such"]).finish().expect_code(125).expect_err("`none/such` is not in the cache");
    fixture.undocked(&["save", "none"]).stdout_on_terminal().finish().expect_code(125);
    fixture.expect_nothing_left();
}

/// A daemon of the test's own; `None`, and counted as skipped, where there is none.
fn docker(folder: &Path) -> Option<Docker> {
    if !skip::is_root() {
        skip::skip(Lack::OtherUser, "dockerd needs root");
        return None;
    }
    Docker::start(folder).map_err(|reason| skip::skip(Lack::Large, &reason)).ok()
}

#[test]
fn the_real_docker_loads_what_we_saved_and_we_what_it_saved() {
    let Some(fixture) = Fixture::new() else { return };
    let Some(docker) = docker(fixture.path()) else { return };
    let said = |arguments: &[&str]| {
        let output = docker.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).output().expect("docker starts");
        assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let made = image("docker");
    fixture.layout().add("made", &made);
    fixture.undocked(&["pull", "--keep-blobs", &fixture.image("made")]).finish().expect_code(0);
    fixture.undocked(&["tag", &fixture.image("made"), "my/made:1"]).finish().expect_code(0);
    let ours = fixture.path().join("ours.tar").display().to_string();
    fixture.undocked(&["save", "-o", &ours, "my/made:1"]).finish().expect_code(0);
    assert_eq!(said(&["load", "-i", &ours]), b"Loaded image: my/made:1\n");
    let id = String::from_utf8(said(&["images", "-q", "--no-trunc", "my/made"])).expect("text");
    assert_eq!(id.trim(), id_of(&made), "docker has the same ID for it");
    said(&["run", "--rm", "--network", "host", "my/made:1"]);

    let theirs = fixture.path().join("theirs.tar").display().to_string();
    said(&["save", "-o", &theirs, "my/made:1", "nothing"]);
    let other = Fixture::without_sandbox();
    let loaded = other.undocked(&["load", "-q", "-i", &theirs]).finish().expect_code(0).out();
    let lines: BTreeSet<&str> = loaded.lines().collect();
    assert_eq!(lines, ["Loaded image: my/made:1", "Loaded image: nothing:latest"].into());
    assert!(ids(&other).contains(&id_of(&made)), "and we have docker's");
    runs(&other, "my/made:1");
    runs(&other, "nothing");
    other.undocked(&["run", "-q", "--entrypoint", "/bin/nothing", &format!("docker-archive:{theirs}:nothing")]).finish().expect_code(0);
}

#[test]
fn podman_loads_what_we_saved() {
    if !has_program("podman") {
        skip::skip(Lack::Large, "podman is not installed");
        return;
    }
    if !skip::is_root() {
        skip_for_this_user!("podman's rootless storage keeps a process of its own behind");
    }
    let fixture = Fixture::without_sandbox();
    fixture.layout().add("made", &image("podman"));
    fixture.undocked(&["pull", "--keep-blobs", &fixture.image("made")]).finish().expect_code(0);
    fixture.undocked(&["tag", &fixture.image("made"), "my/made:1"]).finish().expect_code(0);
    let place = |name: &str| fixture.path().join(name).display().to_string();
    // It refuses one whose path is longer than 50 characters.
    let run = tempfile::Builder::new().prefix("u").tempdir_in("/tmp").expect("there is a /tmp");
    let run_root = run.path().display().to_string();
    for format in ["docker", "oci"] {
        let file = place(&format!("{format}.tar"));
        fixture.undocked(&["save", "--format", format, "-o", &file, "my/made:1"]).finish().expect_code(0);
        let root = place(&format!("podman-{format}"));
        let storage = ["--root", &root, "--runroot", &run_root, "--storage-driver", "vfs"].map(str::to_owned);
        let podman = |arguments: &[&str]| Command::new("podman").args(&storage).args(arguments).output().expect("podman starts");
        let loaded = podman(&["load", "-i", &file]);
        assert!(String::from_utf8_lossy(&loaded.stdout).contains("Loaded image: docker.io/my/made:1"), "{loaded:?}");
        let id = podman(&["images", "-q", "--no-trunc"]);
        assert_eq!(String::from_utf8_lossy(&id.stdout).trim(), id_of(&image("podman")));
    }
}

#[test]
fn skopeo_reads_ours_and_we_its_archives() {
    if !has_program("skopeo") {
        skip!("skopeo is not installed (tests/images/setup.sh ci)");
    }
    let Some(fixture) = Fixture::new() else { return };
    let made = image("skopeo");
    fixture.layout().add("made", &made);
    fixture.undocked(&["pull", "--keep-blobs", &fixture.image("made")]).finish().expect_code(0);
    fixture.undocked(&["tag", &fixture.image("made"), "my/made:1"]).finish().expect_code(0);
    let place = |name: &str| fixture.path().join(name).display().to_string();
    let skopeo = |arguments: &[&str]| {
        let mut command = Command::new("skopeo");
        // Its own folders are not ours to write.
        command.args(["--tmpdir", &place("tmp")]).args(arguments).env("HOME", place("home")).env("XDG_RUNTIME_DIR", place("run"));
        let output = command.output().expect("skopeo starts");
        assert!(output.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    for format in ["docker", "oci"] {
        fixture.undocked(&["save", "--format", format, "-o", &place(&format!("{format}.tar")), "my/made:1"]).finish().expect_code(0);
    }
    let insecure = "--insecure-policy";
    let sources = [
        format!("docker-archive:{}", place("docker.tar")),
        format!("oci-archive:{}:docker.io/my/made:1", place("docker.tar")),
        format!("oci-archive:{}", place("oci.tar")),
    ];
    for (n, source) in sources.iter().enumerate() {
        let config: Value = serde_json::from_slice(&skopeo(&["inspect", "--config", source])).expect("JSON");
        assert_eq!(config["config"]["Entrypoint"], json!(["/bin/nothing"]));
        let (docker, oci) = (place(&format!("d{n}.tar")), place(&format!("o{n}.tar")));
        skopeo(&[insecure, "copy", "-q", source, &format!("docker-archive:{docker}:by/skopeo:{n}")]);
        skopeo(&[insecure, "copy", "-q", source, &format!("oci-archive:{oci}:by/skopeo:o{n}")]);
        let other = Fixture::without_sandbox();
        let load = |file: &str| other.undocked(&["load", "-q", "-i", file]).finish().expect_code(0).out();
        assert_eq!(load(&docker), format!("Loaded image: by/skopeo:{n}\n"));
        assert_eq!(load(&oci), format!("Loaded image: by/skopeo:o{n}\n"));
        // A copy into another format has a config that skopeo wrote.
        assert!(n > 0 || ids(&other).contains(&id_of(&made)), "{source}");
        runs(&other, &format!("by/skopeo:{n}"));
        other.undocked(&["run", "-q", "--entrypoint", "/bin/nothing", &format!("oci-archive:{oci}")]).finish().expect_code(0);
    }
}

/// Pushed by its own name and by another; out of the cache, a layout and an archive; what is there already is not sent again.
#[test]
fn images_are_pushed_to_a_registry() {
    let Some(fixture) = Fixture::new() else { return };
    let Some(registry) = RealRegistry::start() else { return };
    let made = image("pushed");
    let digest = fixture.layout().add("made", &made);
    let at = |name: &str| format!("{}/{name}", registry.address());
    let (first, second) = (at("my/made:1"), at("other/made"));
    fixture.undocked(&["pull", "-q", "--keep-blobs", &fixture.image("made")]).finish().expect_code(0);
    fixture.undocked(&["tag", &fixture.image("made"), &first]).finish().expect_code(0);
    let said = fixture.undocked(&["push", &first]).finish().expect_code(0).out();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], format!("The push refers to repository [{}]", at("my/made")));
    assert_eq!(lines.iter().filter(|line| line.ends_with(": Pushed")).count(), made.layers.len(), "{said}");
    assert!(lines[lines.len() - 1].starts_with(&format!("1: digest: {digest} size: ")), "{said}");
    let again = fixture.undocked(&["push", &first]).finish().expect_code(0).out();
    assert_eq!(again.matches(": Layer already exists").count(), made.layers.len(), "{again}");
    let mounted = fixture.undocked(&["push", &first, &second]).finish().expect_code(0).out();
    assert_eq!(mounted.matches(": Mounted").count(), made.layers.len(), "{mounted}");
    let quiet = fixture.undocked(&["push", "-q", &fixture.image("made"), &at("from/layout:1")]).finish().expect_code(0);
    assert_eq!(quiet.out(), format!("{}\n", at("from/layout:1")));
    let archive = fixture.path().join("made.tar").display().to_string();
    fixture.undocked(&["save", "-q", "-o", &archive, &first]).finish().expect_code(0);
    fixture.undocked(&["push", "-q", &format!("docker-archive:{archive}"), &at("from/archive:1")]).finish().expect_code(0);
    let other = Fixture::without_sandbox();
    for reference in [&first, &second, &at("from/layout:1"), &at("from/archive:1")] {
        let pulled = other.undocked(&["pull", "-q", reference]).finish().expect_code(0);
        assert_eq!(pulled.out(), format!("{digest}\n"), "{reference}");
        runs(&other, reference);
    }
    other.expect_nothing_left();
}

#[test]
fn an_index_is_pushed_with_all_its_images() {
    let fixture = Fixture::without_sandbox();
    let Some(registry) = RealRegistry::start() else { return };
    let layout = fixture.layout();
    let digests = ["1", "2"].map(|mark| layout.add(mark, &image(mark)));
    let entries: Vec<Value> = layout.index()["manifests"].as_array().expect("two").clone();
    let entry = |n: usize, architecture: &str| {
        let mut entry = entries[n].clone();
        entry["platform"]["architecture"] = json!(architecture);
        entry.as_object_mut().expect("an entry").remove("annotations");
        entry
    };
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry(0, "amd64"), entry(1, "arm64")],
    });
    let bytes = index.to_string();
    let digest = sha256(bytes.as_bytes());
    fs::write(layout.blob_path(&digest), &bytes).expect("written");
    layout.name("both", &digest, bytes.len());
    let to = format!("{}/both:1", registry.address());
    let said = fixture.undocked(&["push", &fixture.image("both"), &to]).finish().expect_code(0).out();
    assert!(said.contains(&format!("1: digest: {digest} ")), "{said}");
    let pulled = fixture.undocked(&["pull", "-q", "--platform", "linux/amd64", &to]).finish().expect_code(0);
    assert_eq!(pulled.out(), format!("{}\n", digests[0]));
    let other = format!("{}/both@{}", registry.address(), digests[1]);
    fixture.undocked(&["pull", "-q", &other]).finish().expect_code(0);
}

#[test]
fn a_registry_that_wants_a_login_for_pushes() {
    let fixture = Fixture::without_sandbox();
    fixture.layout().add("made", &image("login"));
    let Some(open) = RealRegistry::start() else { return };
    let registry = open.with_tokens();
    let to = format!("{}/my/made:1", registry.address());
    let push = || fixture.undocked(&["push", &fixture.image("made"), &to]).finish();
    push().expect_code(125).expect_err("cannot push to").expect_err("undocked login");
    let login = ["login", "-u", "test", "--password-stdin", registry.address()];
    fixture.undocked(&login).stdin("secret").finish().expect_code(0);
    push().expect_code(0);
    fixture.undocked(&["push", &fixture.image("made")]).finish().expect_code(2).expect_err("does not say which registry");
    fixture.undocked(&["push", "none/such"]).finish().expect_code(125).expect_err("is not in the cache");
    let gone = fixture.undocked(&["push", &fixture.image("made"), "127.0.0.1:1/a:1"]).finish().expect_code(125);
    gone.expect_err("cannot push to `127.0.0.1:1/a:1`");
}
