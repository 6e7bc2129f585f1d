//! `--require-trust`: nothing runs but what is signed, by the publisher (a real registry and a real Notary) or by a key of the user's own.
//!
//! Signatures in cosign's form are made here by openssl: no signer of that kind is to be had from Debian, whose skopeo and podman were built without it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tests::faulty_proxy::{FaultyProxy, Then};
use tests::image::{Image, Packing, sha256};
use tests::notary::Notary;
use tests::real_registry::{RealRegistry, Style};
use tests::tar::Tar;
use tests::wire::Reply;
use tests::{Fixture, Ran};

const REPOSITORY: &str = "team/app";

/// An image that shows which one it is.
fn image(text: &str) -> Image {
    Image::provided().layer(Tar::new().file("opt/which", text), Packing::Gzip)
}

/// Runs `reference`; what it answers with is the image's text.
fn run(fixture: &Fixture, options: &[&str], reference: &str) -> Ran {
    fixture.script("read which /opt/which\nnext\nrespond-notes\nnext");
    fixture.run_image(reference, options, &[]).finish()
}

fn which(fixture: &Fixture, options: &[&str], reference: &str) -> Value {
    run(fixture, options, reference).expect_code(0).json()["which"].clone()
}

fn refused(fixture: &Fixture, options: &[&str], reference: &str, says: &str) {
    let ran = run(fixture, options, reference).expect_code(125);
    assert!(ran.err().contains(says), "{says}: {}", ran.err());
}

/// A registry and a trust server, and the options with which they are found.
struct World {
    registry: RealRegistry,
    notary: Notary,
    fixture: Fixture,
    options: Vec<String>,
}

impl World {
    fn new() -> Option<World> {
        let (fixture, registry, notary) = (Fixture::new()?, RealRegistry::start()?, Notary::start()?);
        let authority = notary.authority().display().to_string();
        let options = ["--require-trust", "dct", "--trust-server", &notary.url(), "--ca", &authority].map(str::to_owned).to_vec();
        Some(World { registry, notary, fixture, options })
    }

    fn options<'w>(&'w self, more: &[&'w str]) -> Vec<&'w str> {
        self.options.iter().map(String::as_str).chain(more.iter().copied()).collect()
    }

    /// The name by which Notary knows the repository.
    fn gun(&self) -> String {
        format!("{}/{REPOSITORY}", self.registry.address())
    }

    /// Pushes an image; gives the digest and size of what its tag means.
    fn push(&self, text: &str, tag: &str, style: Style) -> (String, usize) {
        self.registry.push(&image(text), REPOSITORY, tag, style);
        let manifest = self.registry.manifest(REPOSITORY, tag);
        (sha256(&manifest), manifest.len())
    }

    fn sign(&self, tag: &str, (digest, size): &(String, usize)) {
        self.notary.sign(&self.gun(), &[(tag, digest, *size)]);
    }
}

#[test]
fn a_signed_tag_runs_and_a_moved_one_does_not() {
    let Some(world) = World::new() else { return };
    let (fixture, options) = (&world.fixture, world.options(&[]));
    let reference = format!("{}:1", world.gun());
    let old = world.push("old", "1", Style::Docker);
    refused(fixture, &options, &reference, "there is no root.json");
    world.notary.init(&world.gun());
    refused(fixture, &options, &reference, "no signed tag `1`");
    world.sign("1", &old);
    let ran = run(fixture, &options, &reference).expect_code(0);
    assert_eq!(ran.json()["which"], "old");
    assert!(ran.err().contains("Proved: "), "{}", ran.err());
    assert_eq!(which(fixture, &options, &format!("{}@{}", world.gun(), old.0)), "old");

    // Somebody moves the tag: what is signed runs still, what is there now does not.
    let new = world.push("new", "1", Style::Docker);
    for pull in ["missing", "always"] {
        assert_eq!(which(fixture, &world.options(&["--pull", pull]), &reference), "old");
    }
    assert_eq!(which(fixture, &["--pull", "always"], &reference), "new", "without a signature it does");
    refused(fixture, &options, &format!("{}@{}", world.gun(), new.0), "no signed tag with");
    refused(fixture, &options, &format!("{reference}@{}", new.0), "is signed as");
    // In another cache, when what is signed is gone.
    world.registry.remove(REPOSITORY, &old.0);
    let other = Fixture::new().expect("as the first");
    refused(&other, &options, &reference, &old.0);

    world.sign("1", &new);
    assert_eq!(which(fixture, &options, &reference), "new");
    refused(fixture, &options, &format!("{}:2", world.gun()), "no signed tag `2`");
    fixture.expect_nothing_left();
}

#[test]
fn a_signed_size_that_does_not_fit_is_refused() {
    let Some(world) = World::new() else { return };
    world.notary.init(&world.gun());
    for (tag, style) in [("1", Style::Docker), ("2", Style::OciIndex)] {
        let (digest, size) = world.push(tag, tag, style);
        world.sign(tag, &(digest, size + 1));
        let says = format!("but its signature says {}", size + 1);
        refused(&world.fixture, &world.options(&[]), &format!("{}:{tag}", world.gun()), &says);
    }
    world.fixture.expect_nothing_left();
}

#[test]
fn an_index_is_signed_as_a_whole() {
    let Some(world) = World::new() else { return };
    world.notary.init(&world.gun());
    let index = world.push("index", "1", Style::OciIndex);
    world.sign("1", &index);
    assert_eq!(which(&world.fixture, &world.options(&[]), &format!("{}:1", world.gun())), "index");
    let batch = world.fixture.undocked(&["pull"]).args(world.options(&[])).arg(format!("{}:1", world.gun())).finish();
    batch.expect_code(0);
}

#[test]
fn what_no_publisher_signs_is_refused() {
    let fixture = Fixture::without_sandbox();
    for (image, options, says) in [
        (fixture.image("provided"), &["--require-trust", "dct"][..], "no image of a registry"),
        ("host".to_owned(), &["--require-trust", "dct"], "nobody signs"),
        (fixture.image("provided"), &["--require-trust", "cosign", "--key", "/dev/null"], "cannot use the key"),
        (fixture.image("provided"), &["--require-trust", "cosign", "--key", "/none"], "cannot read the key"),
    ] {
        refused(&fixture, options, &image, says);
    }
    for options in [
        &["--require-trust", "gpg"][..],
        &["--require-trust", "cosign"],
        &["--require-trust", "dct", "--key", "x"],
        &["--key", "x"],
        &["--require-trust", "dct", "--trust-server", "http://localhost"],
        &["--require-trust", "dct", "--trust-server", "https://localhost", "--trust-dir", "."],
        &["--require-trust", "dct", "--trust-root", "x"],
        &["--require-trust", "dct", "--trust-mode", "x"],
    ] {
        fixture.run_image("a/b", options, &[]).finish().expect_code(2);
    }
}

#[test]
fn a_lock_file_made_from_signatures_needs_no_server() {
    let Some(world) = World::new() else { return };
    let fixture = &world.fixture;
    world.notary.init(&world.gun());
    let (first, second) = (world.push("first", "1", Style::Docker), world.push("second", "2", Style::OciIndex));
    world.notary.sign(&world.gun(), &[("1", &first.0, first.1), ("2", &second.0, second.1)]);
    let lock = fixture.path().join("images.lock").display().to_string();
    let to_lock = |arguments: &[&str]| {
        let options = world.options.iter().skip(2).map(String::as_str);
        fixture.undocked(&["trust", "lock", "--lock", &lock]).args(options).args(arguments).finish()
    };
    // All signed tags of the repository.
    let made = to_lock(&[&world.gun()]).expect_code(0);
    assert_eq!(made.out().lines().count(), 2, "{}", made.out());
    let text = fs::read_to_string(&lock).expect("it was written");
    for wanted in ["source = \"dct\"", "kind = \"dct\"", "mode = \"strict\"", &format!("signed = \"{}\"", second.0), "diff_id"] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert_eq!(to_lock(&[&world.gun()]).expect_code(0).out().matches(": same").count(), 2);

    // The server is not asked: there is none at that place.
    let offline = ["--require-trust", "dct", "--trust-server", "https://localhost:1", "--lock", &lock];
    let reference = format!("{}:2", world.gun());
    assert_eq!(which(fixture, &offline, &reference), "second");
    refused(fixture, &[&offline[..], &["--trust-root", &"0".repeat(64)]].concat(), &reference, "cannot reach");
    // What is signed anew contradicts the pin, and that is said with both.
    let moved = world.push("moved", "2", Style::Docker);
    world.sign("2", &moved);
    refused(fixture, &world.options(&["--pull", "always", "--lock", &lock]), &reference, &moved.0);
    let renewed = to_lock(&[&reference]).expect_code(0);
    assert!(renewed.out().contains(&format!("moved to {}", moved.0)), "{}", renewed.out());
    assert_eq!(which(fixture, &offline, &reference), "moved");
}

#[test]
fn a_saved_copy_fills_a_lock_file_without_any_network() {
    let Some(world) = World::new() else { return };
    world.notary.init(&world.gun());
    let first = world.push("first", "1", Style::Docker);
    world.sign("1", &first);
    let saved = world.fixture.path().join("saved");
    tests::notary::save(&world.notary.documents(&world.gun()), &saved);
    let lock = world.fixture.path().join("images.lock").display().to_string();
    let folder = saved.display().to_string();
    let to_lock = |options: &[&str]| {
        let arguments = ["trust", "lock", "--offline", "--trust-dir", &folder, "--lock", &lock];
        world.fixture.undocked(&arguments).args(options).arg(world.gun()).finish()
    };
    let refused = to_lock(&[]).expect_code(125);
    let hint = refused.err();
    let root = hint.split("--trust-root ").nth(1).and_then(|rest| rest.get(..64)).expect("the hint names the key").to_owned();
    to_lock(&["--trust-root", &root]).expect_code(0);
    let text = fs::read_to_string(&lock).expect("it was written");
    assert!(text.contains(&format!("manifest_digest = \"{}\"", first.0)) && text.contains("mode = \"historical\""), "{text}");
    // The pin holds against a registry whose tag has moved.
    world.push("moved", "1", Style::Docker);
    let reference = format!("{}:1", world.gun());
    let ran = run(&world.fixture, &["--lock", &lock], &reference).expect_code(125);
    assert!(ran.err().contains(&first.0), "{}", ran.err());
}

#[test]
fn trust_on_first_use_is_recorded_with_its_time_and_a_change_is_told_with_both_digests() {
    let (Some(fixture), Some(registry)) = (Fixture::new(), RealRegistry::start()) else { return };
    let reference = registry.push(&image("old"), REPOSITORY, "1", Style::Docker);
    let old = sha256(&registry.manifest(REPOSITORY, "1"));
    // A name in the project's file without a pin is pinned at its first use.
    let project = fixture.path().join("project.lock");
    let entry =
        format!("version = 1\n\n[[image]]\nreference = \"{reference}\"\nplatform = \"linux/{}\"\n", tests::image::own_architecture());
    fs::write(&project, entry).expect("written");
    let lock = project.display().to_string();
    assert_eq!(which(&fixture, &["--lock", &lock], &reference), "old");
    let own = fixture.path().join("home/.config/undocked/vendor-images.lock");
    let text = fs::read_to_string(own).expect("the pin is in the user's own file");
    assert!(text.contains(&format!("trust = {{ kind = \"first-use\", digest = \"{old}\", time = \"20")), "{text}");
    registry.push(&image("new"), REPOSITORY, "1", Style::Docker);
    let new = sha256(&registry.manifest(REPOSITORY, "1"));
    let ran = run(&fixture, &["--lock", &lock, "--pull", "always"], &reference).expect_code(125);
    for part in [reference.as_str(), &old, &new, "since its first use at 20"] {
        assert!(ran.err().contains(part), "{part}: {}", ran.err());
    }
}

/// A key of openssl's.
struct Key {
    folder: PathBuf,
    name: &'static str,
}

impl Key {
    fn new(folder: &Path, name: &'static str, kind: &[&str]) -> Key {
        let key = Key { folder: folder.to_owned(), name };
        key.openssl(&[&["genpkey", "-out", &key.file("key")], kind].concat());
        key.openssl(&["pkey", "-in", &key.file("key"), "-pubout", "-out", &key.file("pub")]);
        key
    }

    fn file(&self, suffix: &str) -> String {
        self.folder.join(format!("{}.{suffix}", self.name)).display().to_string()
    }

    fn openssl(&self, arguments: &[&str]) {
        let made = Command::new("openssl").args(arguments).output().expect("openssl starts");
        assert!(made.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&made.stderr));
    }

    fn sign(&self, message: &[u8]) -> String {
        let (key, payload, signature) = (self.file("key"), self.file("payload"), self.file("sig"));
        fs::write(&payload, message).expect("written");
        match self.name {
            "ed25519" => self.openssl(&["pkeyutl", "-sign", "-rawin", "-inkey", &key, "-in", &payload, "-out", &signature]),
            _ => self.openssl(&["dgst", "-sha256", "-sign", &key, "-out", &signature, &payload]),
        }
        STANDARD.encode(fs::read(&signature).expect("it was made"))
    }

    /// Attaches a signature as `cosign sign` does.
    fn attach(&self, registry: &RealRegistry, image: &str, claimed: &str) {
        let payload = json!({"critical": {"identity": {"docker-reference": format!("{}/{REPOSITORY}", registry.address())},
            "image": {"docker-manifest-digest": claimed}, "type": "cosign container image signature"}, "optional": null});
        let payload = payload.to_string();
        let kind = "application/vnd.dev.cosign.simplesigning.v1+json";
        let layer = json!({"mediaType": kind, "size": payload.len(), "digest": sha256(payload.as_bytes()),
            "annotations": {"dev.cosignproject.cosign/signature": self.sign(payload.as_bytes())}});
        let (manifest, config) = artifact(&layer);
        registry.attach(REPOSITORY, &format!("{}.sig", image.replace(':', "-")), &manifest, &[payload.as_bytes(), &config]);
    }

    /// Attaches a bundle as newer ones do, listed by a tag since this registry keeps no lists.
    fn attach_bundle(&self, registry: &RealRegistry, image: &str, predicate: &str) {
        let hex = image.trim_start_matches("sha256:");
        let statement =
            json!({"_type": "https://in-toto.io/Statement/v1", "subject": [{"digest": {"sha256": hex}}], "predicateType": predicate});
        let (payload, kind) = (statement.to_string(), "application/vnd.in-toto+json");
        let message = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
        let bundle_type = "application/vnd.dev.sigstore.bundle.v0.3+json";
        let bundle = json!({"mediaType": bundle_type, "verificationMaterial": {"publicKey": {"hint": ""}}, "dsseEnvelope": {
            "payload": STANDARD.encode(&payload), "payloadType": kind, "signatures": [{"sig": self.sign(message.as_bytes())}]}})
        .to_string();
        let layer = json!({"mediaType": bundle_type, "size": bundle.len(), "digest": sha256(bundle.as_bytes())});
        let (manifest, config) = artifact(&layer);
        let digest = sha256(manifest.to_string().as_bytes());
        registry.attach(REPOSITORY, &digest, &manifest, &[bundle.as_bytes(), &config]);
        let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [{
            "mediaType": manifest["mediaType"], "digest": digest, "size": manifest.to_string().len(), "artifactType": bundle_type}]});
        registry.attach(REPOSITORY, &image.replace(':', "-"), &index, &[]);
    }
}

fn artifact(layer: &Value) -> (Value, Vec<u8>) {
    let config = b"{}".to_vec();
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": config.len(), "digest": sha256(&config)}, "layers": [layer]});
    (manifest, config)
}

#[test]
fn an_image_signed_by_its_users_own_key_runs_and_others_do_not() {
    let (Some(fixture), Some(registry)) = (Fixture::new(), RealRegistry::start()) else { return };
    let key = |name, kind: &[&str]| Key::new(fixture.path(), name, kind);
    let ec = |curve| ["-algorithm", "EC", "-pkeyopt", curve];
    let keys = [
        key("p256", &ec("ec_paramgen_curve:P-256")),
        key("p384", &ec("ec_paramgen_curve:P-384")),
        key("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
        key("ed25519", &["-algorithm", "ED25519"]),
    ];
    let options = |key: &Key| ["--require-trust".to_owned(), "cosign".to_owned(), "--key".to_owned(), key.file("pub")];
    let reference = registry.push(&image("signed"), REPOSITORY, "1", Style::Docker);
    let digest = sha256(&registry.manifest(REPOSITORY, "1"));
    let with = |key: &Key, reference: &str| {
        let options = options(key);
        run(&fixture, &options.each_ref().map(String::as_str), reference)
    };
    assert!(with(&keys[0], &reference).expect_code(125).err().contains("has no signature"));
    for key in &keys {
        key.attach(&registry, &digest, &digest);
        assert_eq!(with(key, &reference).expect_code(0).json()["which"], "signed", "{}", key.name);
    }
    let refused = with(&keys[0], &reference).expect_code(125);
    assert!(refused.err().contains("by another key"), "{}", refused.err());

    // A signature of another image, moved here.
    registry.push(&image("other"), REPOSITORY, "2", Style::Docker);
    let other = sha256(&registry.manifest(REPOSITORY, "2"));
    keys[0].attach(&registry, &other, &digest);
    let refused = with(&keys[0], &format!("{}/{REPOSITORY}:2", registry.address())).expect_code(125);
    assert!(refused.err().contains(&format!("it is for {digest}")), "{}", refused.err());

    // An index by itself, and one whose manifests are signed.
    let index = registry.push(&image("index"), REPOSITORY, "3", Style::OciIndex);
    let of_index = registry.manifest(REPOSITORY, "3");
    let parsed: Value = serde_json::from_slice(&of_index).expect("an index");
    keys[1].attach(&registry, &sha256(&of_index), &sha256(&of_index));
    assert_eq!(with(&keys[1], &index).expect_code(0).json()["which"], "index");
    let own = parsed["manifests"][1]["digest"].as_str().expect("ours is the last").to_owned();
    keys[2].attach(&registry, &own, &own);
    assert_eq!(with(&keys[2], &index).expect_code(0).json()["which"], "index");
    assert!(with(&keys[0], &index).expect_code(125).err().contains("by another key"));
}

#[test]
fn a_newer_bundle_does_too_and_probe_lists_what_there_is() {
    let (Some(fixture), Some(registry)) = (Fixture::new(), RealRegistry::start()) else { return };
    let key = Key::new(fixture.path(), "p256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let reference = registry.push(&image("bundled"), REPOSITORY, "1", Style::Docker);
    let digest = sha256(&registry.manifest(REPOSITORY, "1"));
    let probe = || fixture.undocked(&["trust", "probe", &reference]).finish().expect_code(0).out();
    let nothing = probe();
    assert!(nothing.contains(&digest) && nothing.contains("no signature, no attestation"), "{nothing}");
    let options = ["--require-trust", "cosign", "--key", &key.file("pub")];
    // A statement of another kind says something about the image, and not that it is signed.
    key.attach_bundle(&registry, &digest, "https://slsa.dev/provenance/v1");
    refused(&fixture, &options, &reference, "no signature of the image");
    key.attach_bundle(&registry, &digest, "https://sigstore.dev/cosign/sign/v1");
    assert_eq!(which(&fixture, &options, &reference), "bundled");
    key.attach(&registry, &digest, &digest);
    let found = probe();
    for wanted in ["sigstore bundle", "cosign signature", &format!("(tag `{}.sig`)", digest.replace(':', "-"))] {
        assert!(found.contains(wanted), "{wanted}: {found}");
    }
}

/// The registry of these tests keeps no lists of what refers to an image; one that stands before it does, page by page.
#[test]
fn a_registry_that_lists_what_refers_to_an_image_is_asked_and_read_to_the_end() {
    let (Some(fixture), Some(registry)) = (Fixture::new(), RealRegistry::start()) else { return };
    let key = Key::new(fixture.path(), "p256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    registry.push(&image("listed"), REPOSITORY, "1", Style::Docker);
    let digest = sha256(&registry.manifest(REPOSITORY, "1"));
    key.attach_bundle(&registry, &digest, "https://sigstore.dev/cosign/sign/v1");
    let tag = digest.replace(':', "-");
    let bundles = registry.manifest(REPOSITORY, &tag);
    let other = |kind: &str| json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": sha256(kind.as_bytes()), "size": 9, "artifactType": kind});
    let kinds = ["application/vnd.cncf.notary.signature", "application/spdx+json", "application/x-of-somebody"];
    let first = json!({"schemaVersion": 2, "manifests": kinds.map(other)}).to_string();
    let (path, api) = (format!("/v2/{REPOSITORY}/referrers/{digest}"), |body: Vec<u8>| Then::Answer(Reply::new(200, body)));
    let next = format!("{path}?last=1");
    let proxy = FaultyProxy::start(registry.address(), move |request, _| match &request.path {
        asked if *asked == path => Then::Answer(Reply::new(200, first.clone()).header("Link", format!("<{next}>; rel=\"next\""))),
        asked if *asked == next => api(bundles.clone()),
        // What refers to anything else is nothing, and no tag stands for a list.
        asked if asked.contains("/referrers/") => api(b"{\"manifests\": []}".to_vec()),
        asked if asked.ends_with(&format!("manifests/{tag}")) => Then::Answer(Reply::new(404, "")),
        _ => Then::PassOn,
    });
    let reference = format!("{}/{REPOSITORY}:1", proxy.address());
    let found = fixture.undocked(&["trust", "probe", &reference]).finish().expect_code(0).out();
    let wanted =
        ["the registry lists what refers to it", "Notation signature", "list of contents", "application/x-of-somebody", "sigstore bundle"];
    assert!(wanted.iter().all(|wanted| found.contains(wanted)), "{found}");
    assert_eq!(which(&fixture, &["--require-trust", "cosign", "--key", &key.file("pub")], &reference), "listed");
    let stranger = Key::new(fixture.path(), "other", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    refused(&fixture, &["--require-trust", "cosign", "--key", &stranger.file("pub")], &reference, "by another key");
}
