//! What `undocked trust` was asked to do.

use rootfs_cache::lock::edit::Registry;
use rootfs_cache::trust::dct::DctOptions;

use super::{ImageSource, Talk};

/// One `undocked trust`.
#[derive(Debug, Clone)]
pub struct TrustConfig {
    /// What is done.
    pub action: TrustAction,
    /// References as given.
    pub images: Vec<String>,
    /// How what is signed is found.
    pub dct: DctOptions,
    /// How registries are reached, and where lock files are.
    pub source: ImageSource,
    /// What is said.
    pub talk: Talk,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustAction {
    /// Show what is signed, and by which keys.
    Inspect(InspectForm),
    /// Ask which signatures a registry has.
    Probe,
    /// Pin what is signed in a lock file.
    Lock(Registry),
}

/// In which form what is signed is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InspectForm {
    /// As docker prints it for programs.
    Json,
    /// As docker prints it for people.
    Pretty,
}
