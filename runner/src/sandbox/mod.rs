//! The sandbox: one process tree in its own user, mount, pid, ipc and uts namespaces on a read-only root.
//!
//! A [`SandboxRequest`] says what is wanted; [`plan`] turns it into a list of named steps without touching the system; [`Launcher`] prepares file
//! descriptors outside and carries the steps out inside with one `clone`; [`Sandbox`] is what runs. This module knows nothing of Lambda, of images
//! or of HTTP.

mod addresses;
mod bare;
mod child;
mod enforcement;
mod filter;
mod ground;
mod handed_out;
mod idmap;
mod isolation;
mod landlock;
mod launch;
mod launcher;
mod limits;
pub mod links;
mod maps;
mod memory;
pub mod network;
mod orders;
mod outcome;
mod plan;
pub mod probe;
mod process;
mod program;
mod root;
pub mod run_folder;
mod several;
mod sockets;
mod step;
mod stragglers;
mod streams;
mod subids;
pub(crate) mod sys;
mod weaken;

use std::ffi::CString;
use std::io;
use std::path::PathBuf;

use step::Step;

pub use addresses::{HOST_GATEWAY, MAX_NAME_SERVERS, SANDBOX_V4, SANDBOX_V6, name_server};
pub use bare::{BareError, ClosedPath};
pub use enforcement::{Degradation, Enforcement, Protection};
pub use filter::{Filter, FilterError, build_filter, compile_filter, shipped_filter};
pub use handed_out::{NetworkDescriptors, Outbound, SocketFactory};
pub use idmap::give_terminal;
pub use isolation::{Isolation, IsolationChoice, ParseIsolationError};
pub use launcher::{Launcher, Launching};
pub use limits::{CpuShare, Limits};
pub use plan::{PlanError, SandboxPlan, plan};
pub use process::{Ended, Sandbox};
pub use several::{Program, ProgramEnd, ProgramId, Programs, Started};
pub use sockets::SocketHolder;
pub use step::{ROOT_INSIDE, ROOT_OF_RANGE};
pub use subids::{IdMap, REMOVE, SubordinateIds, SubordinateIdsError, remove_as_root_inside};
pub use weaken::UnknownProtection;

/// What a sandbox is made of. Paths named `source` are on the host, `target` inside.
#[derive(Debug, Clone)]
pub struct SandboxRequest {
    /// The root file system.
    pub root: RootSource,
    /// How it is isolated.
    pub isolation: IsolationChoice,
    /// Where folders of runs may be made, for roots that are copied: best on the file system of the image and the volumes.
    pub scratch: Option<PathBuf>,
    /// What PID 1 executes. Of no concern with [`FirstProcess::Several`], as are the environment, the working directory and the standard streams.
    pub command: Command,
    /// The whole environment, each string `NAME=value`; nothing of ours is inherited.
    pub environment: Vec<CString>,
    /// The working directory inside.
    pub working_dir: PathBuf,
    /// Host files and folders shown inside, in any order; a deeper target lies over a shallower one.
    pub volumes: Vec<Volume>,
    /// Files shown inside that are on no disk. Their places exist.
    pub files: Vec<MadeFile>,
    /// Who the processes are inside.
    pub identity: InnerIdentity,
    /// Whose ids there are inside; a range in a root that may be written to alone.
    pub ids: IdMap,
    /// The device of the terminal that standard input is, shown as `/dev/console` where the root may be written to: who asks for the terminal's name finds
    /// that (ttyname(3)).
    pub terminal: Option<PathBuf>,
    /// The host name inside; not granted everywhere.
    pub hostname: String,
    /// The size of `/tmp` in bytes; of `/dev/shm` where the root may be written to.
    pub tmp_size_bytes: u64,
    /// How large a `/tmp` in memory is where the root may be written to, whose own it is if nothing is said.
    pub tmp_in_memory: Option<TmpSize>,
    /// What it may use of memory and processors.
    pub limits: Limits,
    /// Standard input, output and error.
    pub stdio: Stdio,
    /// What the processes reach over the network.
    pub network: Network,
    /// A TCP port of the sandbox's own 127.0.0.1 on which the host listens before the program starts; not with [`Network::Host`].
    pub listen_inside: Option<u16>,
    /// Whether the program is PID 1 itself.
    pub first_process: FirstProcess,
    /// The compiled seccomp filter; none only where the user wants none, which is said as a degradation.
    pub filter: Option<std::sync::Arc<Filter>>,
}

/// How large a `/tmp` in memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TmpSize {
    /// So many bytes.
    Bytes(u64),
    /// What the kernel takes if nothing is said (tmpfs(5)).
    HalfOfMemory,
}

/// Where the root file system comes from.
#[derive(Debug, Clone)]
pub enum RootSource {
    /// An unpacked image, shown read-only. Its mount points exist.
    Image {
        /// The host folder that becomes `/`.
        path: PathBuf,
    },
    /// A fresh tmpfs with parts of the host's own userland.
    Host(HostRoot),
    /// A root that may be written to, with a `/dev` of its own and no other `/tmp` than its own. Needs a user namespace; user 0 there keeps
    /// [`ROOT_INSIDE`].
    Writable(WritableSource),
}

/// What a root that may be written to is made of. One sandbox at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WritableSource {
    /// What is written lies over an unpacked image, which stays as it is.
    Overlay {
        /// The unpacked image.
        lower: PathBuf,
        /// A folder of ours with the folders `lower`, `upper` and `work`.
        folder: PathBuf,
    },
    /// A tree of its own.
    Tree {
        /// The host folder that becomes `/`.
        path: PathBuf,
    },
}

/// A root assembled from the host's userland.
#[derive(Debug, Clone, Default)]
pub struct HostRoot {
    /// Host folders shown read-only at the same path, with what is mounted below them, such as `/usr`.
    pub folders: Vec<PathBuf>,
    /// Host files shown read-only at the same path.
    pub file_binds: Vec<PathBuf>,
    /// Empty folders, for volumes to be shown at.
    pub places: Vec<PathBuf>,
    /// Symbolic links, as (path, target), such as (`/bin`, `usr/bin`).
    pub symlinks: Vec<(PathBuf, PathBuf)>,
    /// Files with their contents and mode bits, such as `/etc/passwd`.
    pub files: Vec<(PathBuf, Vec<u8>, u32)>,
}

/// What PID 1 executes.
#[derive(Debug, Clone)]
pub enum Command {
    /// The first of `candidates` that exists and is no folder, with `arguments` after it. The execute bit is not asked for: that it cannot be executed
    /// is an error of its own, as in Lambda.
    FirstOf {
        /// Absolute paths inside, in order.
        candidates: Vec<String>,
        /// The arguments after the program's own name.
        arguments: Vec<String>,
    },
    /// A command line as `execvp` takes it: a first word without a slash is looked for in `PATH` of the environment given.
    Line(Vec<String>),
}

/// A host file or folder shown inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// An existing absolute host path.
    pub source: PathBuf,
    /// The absolute path inside.
    pub target: PathBuf,
    /// Whether the sandbox may write to it.
    pub access: Access,
}

/// A file that is made for the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeFile {
    /// The absolute path inside.
    pub path: PathBuf,
    /// What it holds.
    pub contents: Vec<u8>,
    /// Its mode bits.
    pub mode: u32,
}

/// Whether the sandbox may write to a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Mounted read-only.
    ReadOnly,
    /// Mounted writable, with the file owner's rights.
    ReadWrite,
}

/// The user and group of the processes inside; the only ones that exist there, unless a range is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InnerIdentity {
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
}

/// What the processes inside reach over the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// All that the host reaches, its loopback included: no namespace of its own.
    Host,
    /// Nothing but itself.
    None,
    /// Itself, and what the supervisor connects it with.
    Private {
        /// Whether it has IPv6 addresses.
        ipv6: bool,
        /// Whether it is refused where it would have no way out.
        needs_way_out: bool,
    },
}

impl Network {
    /// A private network with the address families that this host reaches others by.
    pub fn private() -> Self {
        // proc_net(5): the fourth word is the scope, and 0 is global.
        let addresses = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
        let ipv6 = addresses.lines().any(|line| line.split_whitespace().nth(3) == Some("00"));
        Self::Private { ipv6, needs_way_out: false }
    }
}

/// What PID 1 is. The kernel shields it from signals that it has no handler for, even from its own `abort()`, and gives it all orphans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstProcess {
    /// The program itself: the fastest start.
    Program,
    /// A tiny init of ours that reaps orphans and passes signals on; the program is pid 2 and dies of signals as it would anywhere.
    Init,
    /// The same init without a program: [`Sandbox::programs`] starts and ends them.
    Several,
}

/// Standard input, output and error of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stdio {
    /// Standard input.
    pub input: Input,
    /// Standard output.
    pub output: Output,
    /// Standard error.
    pub error: Output,
}

/// Where standard input comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// `/dev/null`.
    Null,
    /// Our own standard input.
    Inherit,
}

/// Where an output stream goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Our own stream of the same number.
    Inherit,
    /// A pipe whose read end comes back in [`Sandbox`].
    Pipe,
    /// For standard error: the same pipe as standard output, so that the order of writes is kept. Our own stream if that is no pipe.
    Joined,
}

/// Why a sandbox could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A file or folder that the plan needs could not be opened on the host.
    #[error("cannot use `{}` in the sandbox", path.display())]
    Source {
        /// The host path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something outside the sandbox failed before the first process existed.
    #[error("cannot prepare the sandbox: {step}")]
    Prepare {
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The isolation that this machine grants keeps what the function needs from it.
    #[error(transparent)]
    Closed(ClosedPath),
    /// No isolation that this machine grants has a network of its own.
    #[error("cannot have a network of the sandbox's own")]
    NoNetwork {
        /// Why the best isolation failed.
        source: Box<LaunchError>,
    },
    /// No isolation that this machine grants has a root that may be written to.
    #[error("cannot have a root that may be written to")]
    NotWritable {
        /// Why the best isolation failed.
        source: Box<LaunchError>,
    },
    /// A step inside failed.
    #[error("cannot set up the sandbox: {step}")]
    Step {
        /// The step's name, as `undocked doctor` prints it.
        step: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The working directory does not exist inside or cannot be entered.
    #[error("cannot change to the working directory `{}`", path.display())]
    WorkingDir {
        /// The path inside.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The program was found (or is the only choice) and could not be executed.
    #[error("cannot execute `{path}`")]
    Exec {
        /// The path inside.
        path: String,
        /// `ENOENT` (it, or its interpreter), `EACCES`, `ENOEXEC` and so on.
        source: io::Error,
    },
    /// What it should execute cannot be.
    #[error("cannot start the program")]
    Program(#[source] PlanError),
    /// None of the candidates exists.
    #[error("none of {} exists", tried.join(", "))]
    NoCandidate {
        /// The paths inside that were looked at.
        tried: Vec<String>,
    },
}

impl LaunchError {
    /// Whether a root that may be written to cannot be an overlay here.
    pub fn refuses_overlay(&self) -> bool {
        matches!(self, Self::Step { step, .. } if step == Step::OVERLAY)
    }

    /// What the user can do about it, where we know.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Step { .. } | Self::Prepare { .. } | Self::NoNetwork { .. } => {
                Some("`undocked doctor` tries every step and says what this machine refuses".to_owned())
            }
            Self::NotWritable { .. } => Some("`--read-only` does without; `undocked doctor` says what this machine refuses".to_owned()),
            Self::Source { source, .. } if matches!(source.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) => {
                Some("`undocked doctor` tries every step and says what this machine refuses".to_owned())
            }
            Self::Source { .. } => Some("check that the path exists and that you may read it".to_owned()),
            Self::Program(error) => error.hint(),
            Self::Closed(closed) => Some(closed.hint()),
            Self::WorkingDir { .. } | Self::Exec { .. } | Self::NoCandidate { .. } => None,
        }
    }
}
