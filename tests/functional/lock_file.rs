//! `vendor-images.lock`: what is pinned is what runs, what is not is said, and a run never writes a project's lock.

use std::fs;
use std::path::PathBuf;

use tests::image::{Image, Packing, own_architecture, sha256};
use tests::real_registry::{RealRegistry, Style};
use tests::tar::Tar;
use tests::{Fixture, Run};

/// A world with a registry that has one image, and a project folder with a lock file.
struct World {
    fixture: Fixture,
    registry: RealRegistry,
    reference: String,
}

fn image(text: &str) -> Image {
    Image::provided().layer(Tar::new().file("opt/last", text), Packing::Gzip)
}

/// The digest that a pin of `image` has: of its OCI manifest for this machine.
fn digest(image: &Image) -> String {
    sha256(&image.manifest(&image.config_blob(own_architecture())))
}

impl World {
    fn new() -> Option<World> {
        let (fixture, registry) = (Fixture::new()?, RealRegistry::start()?);
        let reference = registry.push(&image("first"), "team/app", "1", Style::OciIndex);
        fixture.script("read last /opt/last\nnext\nrespond-notes\nnext");
        fs::create_dir(fixture.path().join("project")).expect("made");
        Some(World { fixture, registry, reference })
    }

    fn lock(&self) -> PathBuf {
        self.fixture.path().join("project/vendor-images.lock")
    }

    /// An entry of our own for the project's lock.
    fn write_entry(&self, pin: &str) {
        let text = format!(
            "version = 1\n\n[[image]]\nreference = \"{}\"\nplatform = \"linux/{}\"\nruntime = \"provided.test\"\n{pin}",
            self.reference,
            own_architecture()
        );
        fs::write(self.lock(), text).expect("written");
    }

    /// `undocked` in the project's folder.
    fn undocked(&self, arguments: &[&str]) -> Run {
        self.fixture.undocked(arguments).current_dir(self.fixture.path().join("project"))
    }

    fn run(&self, options: &[&str], image: &str) -> Run {
        self.fixture.run_image(image, options, &[]).current_dir(self.fixture.path().join("project"))
    }
}

#[test]
fn lock_add_pins_the_platform_manifest_and_writes_stable_text() {
    let Some(world) = World::new() else { return };
    let lock = world.lock().display().to_string();
    world.undocked(&["lock", "add", "--lock", &lock, &world.reference]).finish().expect_code(0);
    let text = fs::read_to_string(world.lock()).expect("written");
    for part in [world.reference.as_str(), &digest(&image("first")), "status = \"verified\"", "index_digest = \"sha256:", "diff_id"] {
        assert!(text.contains(part), "{part:?}: {text}");
    }
    world.undocked(&["lock", "update", "--lock", &lock]).finish().expect_code(0);
    let strip = |text: &str| text.lines().filter(|line| !line.starts_with("resolved_at")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(strip(&fs::read_to_string(world.lock()).expect("there")), strip(&text), "the same content gives the same text");
}

#[test]
fn content_other_than_locked_is_refused_with_both_digests() {
    let Some(world) = World::new() else { return };
    let lock = world.lock().display().to_string();
    world.undocked(&["lock", "add", "--lock", &lock, &world.reference]).finish().expect_code(0);
    let before = fs::read(world.lock()).expect("there");
    assert_eq!(world.run(&[], &world.reference).finish().expect_code(0).json()["last"], "first");

    world.registry.push(&image("second"), "team/app", "1", Style::OciIndex);
    let (locked, found) = (digest(&image("first")), digest(&image("second")));
    // The cached image is the pinned one. Whoever asks the registry again hears that it has something else now.
    assert_eq!(world.run(&[], &world.reference).finish().expect_code(0).json()["last"], "first");
    let refused = world.run(&["--pull", "always"], &world.reference).finish().expect_code(125);
    assert!(refused.err().contains(&locked) && refused.err().contains(&found), "{}", refused.err());
    // And with an empty cache the tag's new content does not run either.
    let elsewhere = world.run(&[], &world.reference).env("UNDOCKED_CACHE", world.fixture.path().join("empty")).finish();
    assert!(elsewhere.code() == 125 || elsewhere.json()["last"] == "first", "{}", elsewhere.out());
    let diff = world.undocked(&["lock", "diff", "--lock", &lock]).finish();
    let said = format!("{}{}", diff.out(), diff.err());
    assert!(diff.code() != 0 && said.contains(&locked) && said.contains(&found), "{}: {said}", diff.code());
    assert_eq!(fs::read(world.lock()).expect("there"), before, "neither runs nor diff write it");

    world.undocked(&["lock", "update", "--lock", &lock]).finish().expect_code(0);
    assert_eq!(world.run(&["--pull", "always"], &world.reference).finish().expect_code(0).json()["last"], "second");
}

#[test]
fn lock_verify_promotes_what_the_registry_confirms_and_refuses_the_rest() {
    let Some(world) = World::new() else { return };
    let lock = world.lock().display().to_string();
    let verify = || world.undocked(&["lock", "verify", "--lock", &lock]).finish();
    let entry = |manifest: &str| {
        world.write_entry(&format!("status = \"unverified\"\nmanifest_digest = \"{manifest}\"\nsource = \"public text: a log\"\n"))
    };
    entry(&digest(&image("first")));
    verify().expect_code(0);
    let text = fs::read_to_string(world.lock()).expect("there");
    assert!(
        text.contains("status = \"verified\"") && text.contains("public text: a log"),
        "where the digest came from stays known: {text}"
    );
    // The pinned content is there under its digest, though the tag has moved: that is `diff`'s business.
    world.registry.push(&image("second"), "team/app", "1", Style::OciIndex);
    verify().expect_code(0);

    let absent = digest(&image("never pushed"));
    entry(&absent);
    let refused = verify();
    assert!(refused.code() != 0 && refused.out().contains(&absent), "{}: {}", refused.code(), refused.out());
    assert!(!fs::read_to_string(world.lock()).expect("there").contains("status = \"verified\""));
}

#[test]
fn a_pin_that_the_registry_cannot_meet_is_refused() {
    let Some(world) = World::new() else { return };
    // A verified pin for content the registry does not have under that digest.
    let absent = digest(&image("never pushed"));
    world.write_entry(&format!("status = \"verified\"\nmanifest_digest = \"{absent}\"\nsource = \"registry\"\n"));
    let ran = world.run(&[], &world.reference).finish().expect_code(125);
    assert!(ran.err().contains(&absent), "{}", ran.err());
}

#[test]
fn an_unverified_pin_warns_and_does_not_block() {
    let Some(world) = World::new() else { return };
    let other = digest(&image("somebody saw this"));
    world.write_entry(&format!("status = \"unverified\"\nmanifest_digest = \"{other}\"\nsource = \"public text: a log\"\n"));
    let before = fs::read(world.lock()).expect("there");
    let ran = world.run(&[], "provided.test").finish().expect_code(0);
    assert_eq!(ran.json()["last"], "first");
    assert!(ran.err().contains(&other), "the warning names the digest: {}", ran.err());
    assert_eq!(fs::read(world.lock()).expect("there"), before);
}

#[test]
fn a_runtime_without_a_pin_is_pinned_at_first_use_in_the_users_own_lock() {
    let Some(world) = World::new() else { return };
    world.write_entry("");
    let before = fs::read(world.lock()).expect("there");
    let ran = world.run(&[], "provided.test").finish().expect_code(0);
    assert_eq!(ran.json()["last"], "first");
    assert!(ran.err().contains(&digest(&image("first"))), "it says what it has pinned: {}", ran.err());
    assert_eq!(fs::read(world.lock()).expect("there"), before, "the project's lock stays");

    // From now on the name means this content, though the tag moves.
    world.registry.push(&image("second"), "team/app", "1", Style::OciIndex);
    let again = world.run(&["--pull", "always"], "provided.test").finish();
    assert!(again.code() == 125 || again.json()["last"] == "first", "trusted on first use, so never silently the second");
}

#[test]
fn frozen_takes_verified_pins_only() {
    let Some(world) = World::new() else { return };
    world.run(&["--frozen"], &world.reference).finish().expect_code(125);
    world.write_entry("");
    world.run(&["--frozen"], "provided.test").finish().expect_code(125);
    let pin = |status: &str| {
        world.write_entry(&format!("status = \"{status}\"\nmanifest_digest = \"{}\"\nsource = \"registry\"\n", digest(&image("first"))))
    };
    pin("unverified");
    world.run(&["--frozen"], "provided.test").finish().expect_code(125);
    pin("verified");
    world.run(&["--frozen"], "provided.test").finish().expect_code(0);
    world.run(&["--frozen"], &world.reference).finish().expect_code(0);
}

#[test]
fn a_lock_file_given_by_name_wins_over_the_projects() {
    let Some(world) = World::new() else { return };
    let second = image("second");
    let other = world.registry.push(&second, "team/app", "2", Style::OciIndex);
    let pin = |image: &Image| format!("status = \"verified\"\nmanifest_digest = \"{}\"\nsource = \"registry\"\n", digest(image));
    world.write_entry(&pin(&second));
    let chosen = world.fixture.path().join("chosen.lock");
    let text = fs::read_to_string(world.lock()).expect("written").replace(&world.reference, &other);
    fs::write(&chosen, text).expect("written");
    world.write_entry(&pin(&image("first")));
    assert_eq!(world.run(&[], "provided.test").finish().expect_code(0).json()["last"], "first");
    let options = ["--lock", &chosen.display().to_string()];
    assert_eq!(world.run(&options, "provided.test").finish().expect_code(0).json()["last"], "second");
    let missing = world.run(&["--lock", "/no/such.lock"], "provided.test").finish().expect_code(125);
    assert!(missing.err().contains("/no/such.lock"));
}

#[test]
fn a_runtime_name_that_no_lock_has_is_told_with_what_there_is() {
    let fixture = Fixture::without_sandbox();
    let ran = fixture.undocked(&["run", "nodejs0.1.x"]).finish();
    assert!(ran.code() == 125 || ran.code() == 2, "{}", ran.code());
    assert!(ran.err().contains("nodejs0.1.x"), "{}", ran.err());
}

#[test]
fn a_malformed_lock_file_is_told_by_name_and_place() {
    let Some(world) = World::new() else { return };
    for text in [
        "version = 1\n[[image]\nruntime = \"provided.test\"\n",
        "version = 99\nruntime = \"provided.test\"\n",
        "version = 1\n[[image]]\nreference = \"provided.test\"\nunknown = 1\n",
        // Damage must not pass for a file without pins, even where it took the name along.
        "garbage = [\n",
        "version = 1\n[[image]]\nrefer",
    ] {
        fs::write(world.lock(), text).expect("written");
        let ran = world.run(&[], "provided.test").finish().expect_code(125);
        assert!(ran.err().contains("vendor-images.lock"), "{text:?}: {}", ran.err());
    }
}

/// The seed: both families are there, nothing in it claims to be verified.
#[test]
fn the_lock_file_that_comes_with_the_project_is_an_honest_seed() {
    let text = fs::read_to_string(tests::place::project().join("vendor-images.lock")).expect("it stands at the top");
    for name in
        ["lambci/lambda:nodejs12.x", "lambci/lambda:provided", "public.ecr.aws/lambda/python:3.12", "public.ecr.aws/lambda/provided:al2023"]
    {
        assert!(text.contains(name), "{name}");
    }
    // Digests that are known from public text, for the platform they belong to.
    for seed in [
        "838c42079b5fcfd6640d486f13c1ceeb52ac661e19f9f1d240b63478e53d73f8",
        "c7a73fd6b98bb3b97df4dafd2ba87803b3942443ef9811175e844434ae85129e",
    ] {
        assert!(text.contains(seed), "{seed}");
    }
    assert!(!text.contains("status = \"verified\""), "nobody has asked a registry yet");
}
