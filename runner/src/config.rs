//! What a run was asked to be, validated: the last place where a default is chosen, but for those that need the image's config.
//!
//! Knows neither argv nor variables of ours; the command line fills it in.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rootfs_cache::pull::PullOptions;
use rootfs_cache::pull::trusted::Required;
use rootfs_cache::reference::ImageReference;

pub use crate::function::{MemorySize, ParseMemorySizeError, bytes_of};

use crate::function::Timeout;
pub use crate::function::UnknownEntrypoint;
pub use crate::function::events::{Destination, ParseDestinationError};
pub use crate::sandbox::REMOVE;
pub use crate::sandbox::network::Networking;
use crate::sandbox::{Filter, IsolationChoice, TmpSize, Volume};

mod batch;
mod build;
pub mod docker;
mod filter;
mod images;
mod limits;
mod login;
mod network;
mod serve;
mod trust;
mod volume;

pub use batch::{BatchConfig, EventSource, ParseShardError, Reuse, Shard};
pub use build::{BuildConfig, ContextSource, DEFAULT_EPOCH, Delivery, DockerfileSource, KnownSteps, SecretSource};
pub use filter::{PolicyError, filter};
pub use images::{
    Age, ArchiveFormat, Digests, DockerListing, DockerShow, Force, ImagesConfig, Length, Listing, LoadConfig, LoadInput, LockedImages,
    ParseAgeError, PruneConfig, PushConfig, RemoveConfig, SaveConfig, SaveOutput, TagConfig, VerifyConfig,
};
pub use limits::{CpuRule, memory, tmp_size};
pub use login::{LoginConfig, LogoutConfig, Password};
pub use network::{NetworkError, NetworkOptions, networking, published_ports};
pub use serve::{
    BetweenEvents, Changes, DescribedFunction, Ending, EventsConfig, FunctionsError, Keeping, Scalar, ServeConfig, ServedFunction,
    ServedNames, Surplus, functions,
};
pub use trust::{InspectForm, TrustAction, TrustConfig};
pub use volume::{VolumeError, volumes};
use volume::{inside, readable};

/// One run.
#[derive(Debug, Clone)]
pub struct RunConfig {
    /// The image, or this machine's userland.
    pub image: ImageReference,
    /// Everything after IMAGE.
    pub arguments: Vec<OsString>,
    /// A command in place of the image's entrypoint; empty for none.
    pub entrypoint: Option<OsString>,
    /// What the image's entrypoint is if it shows no sign of Lambda.
    pub unknown_entrypoint: UnknownEntrypoint,
    /// A working directory in place of the image's.
    pub working_dir: Option<PathBuf>,
    /// Who a plain command is inside, as `USER[:GROUP]`; the image's own user if nothing is said.
    pub user: Option<String>,
    /// Whether plain commands may write to the image's files, in a layer of their own.
    pub root: RootAccess,
    /// Which ids there are in a root that may be written to.
    pub userns: UserNamespace,
    /// The variables given for this run, each name once.
    pub variables: Vec<(String, OsString)>,
    /// Settings and switches found in our own environment.
    pub own_settings: Vec<(String, OsString)>,
    /// Host files and folders shown inside.
    pub volumes: Vec<Volume>,
    /// How the sandbox is connected.
    pub networking: Networking,
    /// How the function is isolated.
    pub isolation: IsolationChoice,
    /// Folders that make up `/opt`, later ones over earlier ones.
    pub layers: Vec<PathBuf>,
    /// The memory limit, if asked for; it is the function's memory, too.
    pub memory: Option<MemorySize>,
    /// How large `/tmp` is.
    pub tmp_size: MemorySize,
    /// How large it is in memory where plain commands may write to the root, of which it is a folder if nothing is said.
    pub tmp_in_memory: Option<TmpSize>,
    /// How much processor time there is.
    pub cpu: CpuRule,
    /// The function's timeout, if asked for.
    pub timeout: Option<Timeout>,
    /// The system-call filter; none when it was switched off.
    pub filter: Option<Arc<Filter>>,
    /// What plain commands have as standard input.
    pub stdin: Stdin,
    /// The form of the result on stdout.
    pub result: ResultFormat,
    /// How its environment is kept, if it stays open.
    pub keeping: Keeping,
    /// What becomes of its queued events, if it stays open.
    pub events: EventsConfig,
    /// What is said on stderr.
    pub talk: Talk,
    /// Where this machine's interpreters are looked for.
    pub search_path: OsString,
    /// How images are found.
    pub images: ImageSource,
}

/// Whether plain commands may write to the image's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootAccess {
    /// They are root, and what they write is gone with them.
    Writable,
    /// They are what functions are (`--read-only`).
    ReadOnly,
}

/// Which user and group ids there are in a root that may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserNamespace {
    /// One, who the command is (`--userns single`).
    Single,
    /// A range of the user's subordinate ids beside the user's own (`--userns subid`); nothing less will do.
    Subordinate,
}

/// A run in the background.
#[derive(Debug, Clone)]
pub struct Detached {
    /// The whole command line but the program's name.
    pub arguments: Vec<OsString>,
    /// How its image is found.
    pub source: ImageSource,
}

/// How images are found.
#[derive(Debug, Clone)]
pub struct ImageSource {
    /// The cache's folder; nothing when neither a variable nor a home folder says where.
    pub cache: Option<PathBuf>,
    /// When and how registries are asked, and what lock files say.
    pub options: PullOptions,
    /// Who must have signed the image.
    pub required: Option<Required>,
    /// How many bytes the images of the cache may take: after a pull, a load or a build, those that were not used for longest make room.
    pub cache_max: Option<u64>,
}

/// Standard input of a plain command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdin {
    /// Nothing to read, as with docker.
    Null,
    /// Ours (`-i`).
    Inherit,
}

/// The form of the result on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultFormat {
    /// An empty line and the result on one line.
    Line,
    /// One JSON object with result, log tail and report.
    Json,
}

/// What is said on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Talk {
    /// Whether more is said than the log and errors.
    pub loudness: Loudness,
    /// When it is coloured.
    pub color: Color,
}

/// Whether more is said than the log and errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loudness {
    /// Progress and notes, too.
    Normal,
    /// No more.
    Quiet,
}

/// When stderr is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// When it is a terminal.
    Terminal,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What is done to a lock file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockAction {
    /// New pins.
    Add,
    /// Newer pins.
    Update,
    /// The registries are asked for what is pinned.
    Verify,
    /// What an update would do.
    Diff,
}

/// What `undocked doctor` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoctorSubject {
    /// The findings, for people.
    Text,
    /// The findings, as one JSON object.
    Json,
    /// A profile that lets this program make user namespaces under AppArmor.
    AppArmorProfile,
    /// A profile for an outer container.
    SeccompProfile(SeccompReader),
}

/// Who reads a seccomp profile. The format is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeccompReader {
    /// `docker run --security-opt seccomp=FILE`.
    Docker,
    /// A file of the kubelet's.
    Kubernetes,
}

/// Why a run makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A layer's folder.
    #[error("cannot use the layer `{}`", path.display())]
    Layer {
        /// As given.
        path: PathBuf,
        /// Why.
        source: VolumeError,
    },
    /// A layer is a file.
    #[error("the layer `{}` is no folder", path.display())]
    LayerForm {
        /// As given.
        path: PathBuf,
    },
    /// Both would be `/opt`.
    #[error("`--layer` and a volume both want `/opt`")]
    TwoOpts,
    /// Nothing runs with so little.
    #[error("{memory} are not enough to start a program")]
    TooLittleMemory {
        /// The memory asked for.
        memory: MemorySize,
    },
    /// The working directory is relative.
    #[error("the working directory `{}` is not absolute", path.display())]
    WorkingDir {
        /// As given.
        path: PathBuf,
    },
}

impl ConfigError {
    /// Whether the command line makes no sense, whatever there is on this machine.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::TwoOpts | Self::TooLittleMemory { .. } | Self::WorkingDir { .. })
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::LayerForm { .. } => Some("unpack it into a folder first".to_owned()),
            Self::TwoOpts => Some("give all folders by `--layer`, or one by `-v DIR:/opt:ro`".to_owned()),
            Self::TooLittleMemory { .. } => Some("give `--memory` at least 6m".to_owned()),
            Self::Layer { .. } | Self::WorkingDir { .. } => None,
        }
    }
}

/// The real paths of the layers' folders.
pub fn layers(given: &[PathBuf], volumes: &[Volume]) -> Result<Vec<PathBuf>, ConfigError> {
    if !given.is_empty() && volumes.iter().any(|volume| volume.target == Path::new("/opt")) {
        return Err(ConfigError::TwoOpts);
    }
    let layer = |path: &PathBuf| {
        let real = readable(path).map_err(|source| ConfigError::Layer { path: path.clone(), source })?;
        if real.is_dir() { Ok(real) } else { Err(ConfigError::LayerForm { path: path.clone() }) }
    };
    given.iter().map(layer).collect()
}

/// An absolute working directory.
pub fn working_dir(given: Option<PathBuf>) -> Result<Option<PathBuf>, ConfigError> {
    match given {
        Some(path) if !path.is_absolute() => Err(ConfigError::WorkingDir { path }),
        given => Ok(given),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::Access;

    #[test]
    fn layers_are_folders_and_alone_at_opt() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("file"), "").unwrap();
        let opt = Volume { source: "/tmp".into(), target: "/opt".into(), access: Access::ReadOnly };
        let beside = Volume { target: "/opt/x".into(), ..opt.clone() };
        let folder = root.path().to_owned();
        assert_eq!(layers(std::slice::from_ref(&folder), &[beside]).unwrap(), [folder.canonicalize().unwrap()]);
        assert!(matches!(layers(std::slice::from_ref(&folder), std::slice::from_ref(&opt)), Err(ConfigError::TwoOpts)));
        assert!(layers(&[], &[opt]).unwrap().is_empty());
        assert!(matches!(layers(&[folder.join("file")], &[]), Err(ConfigError::LayerForm { .. })));
        assert!(matches!(layers(&[folder.join("none")], &[]), Err(ConfigError::Layer { .. })));
    }

    #[test]
    fn working_directories_are_absolute() {
        assert_eq!(working_dir(Some("/a".into())).unwrap(), Some("/a".into()));
        assert!(working_dir(Some("a".into())).is_err());
    }
}
