//! The large image, in a registry on loopback.

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tests::image::Layout;
use tests::place;
use tests::real_registry::{self, RealRegistry};

pub const IMAGE: &str = "test/large:latest";

/// The registry, in memory where that can be.
pub struct Served {
    registry: RealRegistry,
    _store: TempDir,
}

impl Served {
    /// Nothing, and why is said, where the image or the registry is missing.
    pub fn start() -> Option<Served> {
        if Layout::at(&place::images_layout()).find(IMAGE).is_none() {
            println!("no figures: the image {IMAGE} is not built (tests/images/mkimages.py build large)");
            return None;
        }
        if !real_registry::is_installed() {
            return None;
        }
        let memory = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
        let store = tempfile::tempdir_in(memory).expect("a folder for the registry");
        let registry = RealRegistry::start_in(store.path());
        let script = place::project().join("tests/images/mkimages.py");
        let pushed = Command::new("python3").arg(script).args(["push", registry.address(), "large"]).stdout(Stdio::null()).status();
        assert!(pushed.is_ok_and(|status| status.success()), "the image is pushed");
        Some(Served { registry, _store: store })
    }

    /// What it is called there.
    pub fn reference(&self) -> String {
        format!("{}/{IMAGE}", self.registry.address())
    }
}
