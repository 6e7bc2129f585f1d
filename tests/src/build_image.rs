//! An image to build in, as plain commands are run in it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::json;

use crate::image::{Layout, Packing};
use crate::leftovers::everything_below;
use crate::run::{Ran, Run};
use crate::tar::{Header, Tar};
use crate::{Fixture, place, skip};

/// A build image: a shell and what belongs to it, no entrypoint, no user, folders that their owner may not write to, as in images for RHEL.
pub struct Build {
    /// Where it is run.
    pub fixture: Fixture,
    /// The image.
    pub reference: String,
}

impl Build {
    /// The image is pulled once; each test has a copy of the cache by hard links.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn new() -> Option<Build> {
        static PULLED: OnceLock<Option<Fixture>> = OnceLock::new();
        let fixture = Fixture::new()?;
        let pulled = PULLED.get_or_init(pulled).as_ref()?;
        fixture.take_cache_of(pulled);
        Some(Build { fixture, reference: pulled.image("build") })
    }

    /// A script for its shell.
    pub fn run(&self, options: &[&str], script: &str) -> Run {
        self.fixture.undocked(&["run"]).args(options).arg(&self.reference).args(["bash", "-c", script])
    }

    /// One that ends at the first command that fails, which none does; nothing is left of it.
    pub fn ok(&self, options: &[&str], script: &str) -> Ran {
        let ran = self.run(options, &format!("set -e; {script}")).finish().expect_code(0);
        self.fixture.expect_nothing_left();
        ran
    }

    /// All that the cache holds but runs: mode, size, time and inode.
    ///
    /// # Panics
    /// When it changes meanwhile.
    pub fn trees(&self) -> BTreeMap<PathBuf, (u32, u64, i64, u64)> {
        let face = |path: &PathBuf| {
            let found = fs::symlink_metadata(path).expect("it exists");
            // Looking at a folder changes nothing but the time of the last look.
            (path.clone(), (found.mode(), found.len(), found.mtime(), found.ino()))
        };
        everything_below(&self.fixture.cache().join("v1")).iter().map(face).collect()
    }
}

/// With the image in its cache. Nothing drops a static, but the folder is that of a fixture, which a shell removes when this process has ended.
fn pulled() -> Option<Fixture> {
    const BASE: &str = "lambci/lambda:provided";
    let fixture = Fixture::new()?;
    let Some(base) = Layout::at(&place::images_layout()).find(BASE) else {
        skip::skip(skip::Lack::Providable, &format!("the image {BASE} is not built (tests/images/mkimages.py build @ci)"));
        return None;
    };
    let mut layer = Tar::new().entry(&Header::new(b'5', "closed/").mode(0o555), b"");
    for (name, contents) in [("closed/file", "of the image"), ("opt/gone", "x"), ("opt/kept", "x")] {
        layer = layer.file(name, contents);
    }
    // What dpkg asks for.
    for name in ["diff", "ldconfig", "start-stop-daemon"] {
        layer = layer.program(&format!("usr/sbin/{name}"), "#!/bin/sh\n");
    }
    let image = base.layer(layer, Packing::Gzip).with("Entrypoint", json!(null)).with("Cmd", json!(null)).with("User", json!(""));
    fixture.layout().add("build", &image);
    fixture.undocked(&["pull", &fixture.image("build")]).finish().expect_code(0);
    let sweep = r#"read -r _; chmod -R u+rwX "$0"; rm -rf "$0""#;
    Command::new("sh").args(["-c", sweep]).arg(fixture.path()).stdin(Stdio::piped()).spawn().map(std::mem::forget).expect("sh starts");
    Some(fixture)
}
