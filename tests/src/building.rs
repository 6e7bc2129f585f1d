//! What tests of `undocked build` share: images to build upon and a folder to build.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::image::{Image, ImageLayer, Layout, Packing};
use crate::run::Run;
use crate::tar::Tar;
use crate::{Fixture, Ran, place, skip};

/// A world with images to build upon, and a folder to build in.
pub struct Bench {
    /// Where its cache is.
    pub fixture: Fixture,
}

/// Names that the base has in the cache: the guides' own.
const NAMES: [&str; 17] = [
    "public.ecr.aws/lambda/python:3.12",
    "public.ecr.aws/lambda/nodejs:20",
    "public.ecr.aws/lambda/ruby:3.3",
    "public.ecr.aws/lambda/java:21",
    "public.ecr.aws/lambda/provided:al2023",
    "golang:1.20",
    "golang:1.20.2-alpine3.16",
    "alpine:3.16",
    "python:3.12",
    "python:3.12-slim",
    "node:20-buster",
    "node:20-buster-slim",
    "ruby:2.7",
    "public.ecr.aws/amazoncorretto/amazoncorretto:21",
    "public.ecr.aws/lambda/dotnet:8",
    "lambci/lambda:build-python3.8",
    "lambci/lambda:nodejs12.x",
];

impl Bench {
    /// The images are pulled once; each test has a copy of the cache by hard links.
    ///
    /// # Panics
    /// When something of that fails.
    pub fn new() -> Option<Bench> {
        static PULLED: OnceLock<Option<Fixture>> = OnceLock::new();
        let fixture = Fixture::new()?;
        let pulled = PULLED.get_or_init(pulled).as_ref()?;
        fixture.take_cache_of(pulled);
        let bench = Bench { fixture };
        fs::create_dir(bench.context()).expect("a fresh folder can be filled");
        Some(bench)
    }

    /// The folder that is built.
    pub fn context(&self) -> PathBuf {
        self.fixture.path().join("context")
    }

    /// Writes a file of the context.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.context().join(name);
        fs::create_dir_all(path.parent().expect("it is in the context")).expect("folders can be made");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("set");
        self
    }

    /// Builds the context as `made`.
    pub fn build(&self, options: &[&str]) -> Run {
        self.fixture.undocked(&["build", "-t", "made"]).args(options).arg(self.context())
    }

    /// Builds it, which succeeds.
    ///
    /// # Panics
    /// When it does not.
    pub fn built(&self, options: &[&str]) -> Ran {
        let ran = self.build(options).finish().expect_code(0);
        assert_eq!(ran.out(), "");
        ran
    }

    /// What a shell in the image that was built says.
    ///
    /// # Panics
    /// When something of that fails.
    pub fn inside(&self, script: &str) -> String {
        self.fixture
            .undocked(&["run", "-q", "--pull", "never", "--entrypoint", "/bin/sh", "made", "-c", script])
            .finish()
            .expect_code(0)
            .out()
    }

    /// The digest of the image that was built.
    ///
    /// # Panics
    /// When something of that fails.
    pub fn digest(&self) -> String {
        let list = self.fixture.undocked(&["images", "--json"]).finish().expect_code(0);
        let list: Value = serde_json::from_str(&list.out()).expect("JSON");
        let is_it = |image: &&Value| image.to_string().contains("docker.io/library/made:latest");
        let image = list.as_array().expect("a list").iter().find(is_it).expect("it is in the cache");
        image["digest"].as_str().expect("a text").to_owned()
    }

    /// Its documents: the manifest and the config.
    ///
    /// # Panics
    /// When something of that fails.
    pub fn documents(&self) -> (Value, Value) {
        let folder = self.fixture.cache().join("v1/images").join(self.digest().trim_start_matches("sha256:"));
        let read = |name: &str| serde_json::from_slice(&fs::read(folder.join(name)).expect("there")).expect("JSON");
        (read("manifest.json"), read("config.json"))
    }

    /// What its config says about runs.
    pub fn config(&self) -> Value {
        self.documents().1["config"].clone()
    }

    /// Names, modes and owners in the layer that was made last.
    ///
    /// # Panics
    /// When something of that fails.
    pub fn last_layer(&self) -> String {
        let manifest = self.documents().0;
        let digest = manifest["layers"].as_array().expect("a list").last().expect("one")["digest"].as_str().expect("a text").to_owned();
        let blob = self.fixture.cache().join("v1/blobs").join(digest.trim_start_matches("sha256:"));
        let list = Command::new("tar").args(["--numeric-owner", "-tvzf"]).arg(blob).env("TZ", "UTC").output().expect("tar starts");
        String::from_utf8(list.stdout).expect("names are text")
    }
}

/// With the images in its cache. Nothing drops a static, but a shell removes the fixture's folder when this process has ended.
fn pulled() -> Option<Fixture> {
    const BASE: &str = "lambci/lambda:provided";
    let fixture = Fixture::new()?;
    let Some(base) = Layout::at(&place::images_layout()).find(BASE) else {
        skip::skip(skip::Lack::Providable, &format!("the image {BASE} is not built (tests/images/mkimages.py build @ci)"));
        return None;
    };
    let image =
        base.layer(programs(), Packing::Gzip).with("Entrypoint", json!(null)).with("Cmd", json!(["inherited"])).with("User", json!(""));
    fixture.layout().add("base", &image);
    let base = fixture.image("base");
    fixture.undocked(&["pull", "--keep-blobs", &base]).finish().expect_code(0);
    for name in NAMES.into_iter().chain(["base"]) {
        fixture.undocked(&["tag", &base, name]).finish().expect_code(0);
    }
    let triggers = Image {
        layers: vec![ImageLayer::new(Tar::new().file("x", "x"), Packing::Gzip)],
        config: json!({"OnBuild": ["COPY a /a", "ENV T=1"]}),
    };
    fixture.layout().add("triggers", &triggers);
    let triggers = fixture.image("triggers");
    fixture.undocked(&["pull", &triggers]).finish().expect_code(0);
    fixture.undocked(&["tag", &triggers, "triggers"]).finish().expect_code(0);
    let sweep = r#"read -r _; chmod -R u+rwX "$0"; rm -rf "$0""#;
    Command::new("sh").args(["-c", sweep]).arg(fixture.path()).stdin(Stdio::piped()).spawn().map(std::mem::forget).expect("sh starts");
    Some(fixture)
}

/// Stand-ins for what the guides call: each notes its arguments in the working directory.
fn programs() -> Tar {
    let note = "#!/bin/sh\necho \"$(basename $0) $*\" >> noted\n";
    let go = "#!/bin/sh\nfor word; do case $last in -o) echo '#!/bin/sh' > $word; chmod 755 $word;; esac; last=$word; done\n";
    let mut tar = Tar::new();
    for name in ["pip", "npm", "bundle", "gem", "zip", "yum", "dnf", "apt-get"] {
        tar = tar.program(&format!("usr/bin/{name}"), note);
    }
    let mvn = "#!/bin/sh\necho \"mvn $*\" >> noted\nmkdir -p target/dependency && touch target/dependency/d.jar\ncase $1 in package) touch target/f.jar;; esac\n";
    tar.program("usr/bin/go", go).program("usr/bin/mvn", mvn)
}

/// What a program of this machine makes of its input.
///
/// # Panics
/// When it is not there, or fails.
pub fn packed(program: &str, options: &[&str], input: &[u8]) -> Vec<u8> {
    let mut running = Command::new(program)
        .args(options)
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} (packages xz-utils and bzip2): {error}"));
    let mut pipe = running.stdin.take().expect("piped");
    std::thread::scope(|scope| {
        scope.spawn(move || std::io::Write::write_all(&mut pipe, input).expect("it reads"));
        running.wait_with_output().expect("it ends").stdout
    })
}
