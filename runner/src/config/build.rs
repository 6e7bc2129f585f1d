//! A build, validated.

use std::fmt;
use std::path::PathBuf;

use rootfs_cache::reference::RegistryReference;

use super::RunConfig;

/// The time of what is made where none is asked for: 1980 began, before which zip archives know no time.
pub const DEFAULT_EPOCH: u64 = 315_532_800;

/// One build.
#[derive(Debug, Clone)]
pub struct BuildConfig {
    /// What the image is called.
    pub names: Vec<RegistryReference>,
    /// The Dockerfile.
    pub dockerfile: DockerfileSource,
    /// What it takes files from.
    pub context: ContextSource,
    /// Build arguments, the last of a name counts.
    pub arguments: Vec<(String, String)>,
    /// Secrets by their names.
    pub secrets: Vec<(String, SecretSource)>,
    /// Labels beside the Dockerfile's.
    pub labels: Vec<(String, String)>,
    /// The stage that is built, where it is not the last.
    pub target: Option<String>,
    /// What becomes of steps that were done before.
    pub known_steps: KnownSteps,
    /// A file for the image's id.
    pub id_file: Option<PathBuf>,
    /// Where the image goes besides the cache.
    pub delivery: Delivery,
    /// The time of all that is made, in seconds since 1970.
    pub epoch: u64,
    /// How commands are run and images found; its image and what follows that are not looked at.
    pub run: Box<RunConfig>,
}

/// Where an image goes besides the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Nowhere.
    Kept,
    /// To the registries that its names say.
    Pushed,
}

/// Where a secret is.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// In a file.
    File(PathBuf),
    /// In a variable of ours.
    Variable(Vec<u8>),
}

impl fmt::Debug for SecretSource {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Variable(_) => f.write_str("Variable(set)"),
        }
    }
}

/// Where a Dockerfile is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerfileSource {
    /// `Dockerfile` in the context.
    Context,
    /// A file: of this machine, or of the context where that is an archive.
    File(PathBuf),
    /// Our stdin.
    Stdin,
}

/// Where a context is taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextSource {
    /// A folder.
    Folder(PathBuf),
    /// An archive on our stdin, or a Dockerfile without a context.
    Stdin,
}

/// What becomes of steps that were done before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownSteps {
    /// Their results are taken.
    Taken,
    /// They are done again.
    Repeated,
}
