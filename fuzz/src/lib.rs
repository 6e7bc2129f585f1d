//! Fuzz targets: each takes bytes as a stranger would send them and panics when a promise is broken.
//!
//! [`driver`] runs them in ordinary tests, with seeds and seeded mutation, on any stable compiler; `libfuzzer/` holds the same targets for cargo-fuzz,
//! whose coverage finds more in an hour. `docs/fuzzing.md` says how.

mod dockerfile;
pub mod driver;
mod invoke_api;
mod layer;
mod lock_file;
mod manifest;
mod mount_places;
mod runtime_api;
mod seccomp_policy;
mod trust_metadata;

/// One target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, as cargo-fuzz has it.
    pub name: &'static str,
    /// Tries one input.
    pub run: fn(&[u8]),
    /// Well-formed inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Pieces that mean something, for mutations.
    pub words: &'static [&'static str],
    /// How many inputs a short run tries.
    pub short_run: u32,
}

/// All targets.
pub const TARGETS: [Target; 9] = [
    seccomp_policy::TARGET,
    runtime_api::TARGET,
    invoke_api::TARGET,
    mount_places::TARGET,
    layer::TARGET,
    manifest::TARGET,
    lock_file::TARGET,
    dockerfile::TARGET,
    trust_metadata::TARGET,
];

/// The target of this name.
///
/// # Panics
/// When there is none.
pub fn target(name: &str) -> Target {
    TARGETS.into_iter().find(|target| target.name == name).expect("one of the targets")
}

/// Bytes taken one by one; zeroes once they have run out.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn of<'t, T>(&mut self, list: &'t [T]) -> &'t T {
        &list[usize::from(self.byte()) % list.len()]
    }

    fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}
