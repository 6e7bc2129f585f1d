//! The steps that the child carries out, each with the name that errors and `undocked doctor` show.

use std::ffi::{CStr, CString};

use super::handed_out::Handed;
use super::{InnerIdentity, Isolation};

/// One thing done inside, by the child, with raw system calls.
#[derive(Debug)]
pub(crate) enum Step {
    /// Wait until the parent has written the id maps, then take the inner ids (as real root only).
    AwaitMaps,
    Become(InnerIdentity),
    /// Write to a file below `/proc/self` of the host's `/proc`.
    WriteOwn {
        file: CString,
        text: String,
    },
    ForbidNesting,
    NewSession,
    DieWithParent,
    WireStdio,
    MakePrivate,
    Open {
        slot: usize,
        path: CString,
        flags: TreeFlags,
    },
    AttachRoot {
        slot: usize,
    },
    /// Lay a folder that may be written to over a tree, as the root.
    AttachOverlay {
        lower: usize,
        folder: usize,
    },
    MakeRoot {
        options: CString,
    },
    /// A `/dev` of the sandbox's own, with places for devices and these files.
    MakeDev {
        files: Vec<CString>,
    },
    MakeTerminals,
    MakeDir {
        path: CString,
        mode: u32,
    },
    MakeLink {
        path: CString,
        target: CString,
    },
    MakeFile {
        path: CString,
        contents: Vec<u8>,
        mode: u32,
    },
    AttachTmpfs {
        target: CString,
        options: CString,
    },
    /// A folder or file in the `/tmp` that was just mounted, for what is in the slot to be shown at.
    MakePlace {
        slot: usize,
        /// The names of the way, from `/tmp` on.
        names: Vec<CString>,
        /// Who it is given to, where the sandbox is set up as another.
        owner: Option<InnerIdentity>,
    },
    /// Keep hold of the outer `/proc`, which the new root will lie over.
    KeepOuterProc,
    /// A memory file system for files that are made; something else comes over it.
    StageFiles {
        place: &'static CStr,
        options: CString,
    },
    StageFile {
        place: &'static CStr,
        slot: usize,
        name: CString,
        contents: Vec<u8>,
        mode: u32,
    },
    AttachProc(ProcFrom),
    Attach {
        slot: usize,
        target: CString,
    },
    MaskReadOnly {
        path: CString,
    },
    MaskNull {
        path: CString,
    },
    MaskEmpty {
        path: CString,
    },
    /// Bring up the loopback device of a network namespace of its own.
    RaiseLoopback,
    /// Send netlink messages, and wait for as many answers.
    ConfigureNetwork {
        messages: Vec<u8>,
        count: u32,
    },
    MakeSocket {
        handed: Handed,
        /// Domain, type and protocol as `socket(2)` has them.
        socket: [i32; 3],
    },
    /// Enter the cgroups that were made for the sandbox, if any were.
    JoinCgroups,
    /// Open a file or folder of the new root for the host, which watches the memory where no cgroup does.
    OpenForWatch {
        handed: Handed,
        path: CString,
        flags: i32,
    },
    /// Limit what each process may reserve, where no cgroup holds the memory of all.
    Backstop {
        bytes: u64,
    },
    SealRoot,
    EnterRoot(Entrance),
    /// Enter a folder as root, without any mount.
    ChangeRoot(CString),
    /// Take an unprivileged id of the machine for good, with all capabilities gone.
    DropToUser(InnerIdentity),
    Limit {
        resource: u32,
        value: u64,
    },
    Umask(u32),
    Hostname(CString),
    ChangeDirectory(CString),
    DropCapabilities {
        /// But for these, as a mask.
        kept: u64,
    },
    /// Only those in hand, of a process that never was root of anything.
    EmptyCapabilities,
    NoNewPrivileges,
    SuperviseNetwork {
        /// Whether the sandbox is of no use without.
        needed: bool,
    },
    ConfineFiles,
    CloseOthers,
    HandOut,
    Filter,
    Execute,
}

/// What root inside may do, in its own user namespace alone: pass over modes of what it owns (images for RHEL have folders that nobody may write to), change
/// what it owns, give files capabilities that count there, and listen on low ports. Each names a bit of `linux/capability.h`.
pub const ROOT_INSIDE: u64 = CAP_DAC_OVERRIDE | CAP_FOWNER | CAP_NET_BIND_SERVICE | CAP_SETFCAP;
/// With a range of ids there is more that it owns: it may also give files away, take other ids of the range, set set-group-id bits for groups that it is not
/// in, and signal processes of others inside.
pub const ROOT_OF_RANGE: u64 = ROOT_INSIDE | CAP_CHOWN | CAP_FSETID | CAP_KILL | CAP_SETGID | CAP_SETUID;
const CAP_CHOWN: u64 = 1 << 0;
const CAP_FSETID: u64 = 1 << 4;
const CAP_KILL: u64 = 1 << 5;
const CAP_SETGID: u64 = 1 << 6;
const CAP_SETUID: u64 = 1 << 7;
const CAP_DAC_OVERRIDE: u64 = 1 << 1;
const CAP_FOWNER: u64 = 1 << 3;
const CAP_NET_BIND_SERVICE: u64 = 1 << 10;
pub(super) const CAP_SETFCAP: u64 = 1 << 31;

impl Step {
    /// The name of [`Step::AttachOverlay`].
    pub(super) const OVERLAY: &str = "lay what is written over the image (overlay)";

    /// The name shown in errors and by `undocked doctor`.
    pub(crate) fn name(&self) -> String {
        let show = |path: &CString| path.to_string_lossy().into_owned();
        match self {
            Self::AwaitMaps => "wait for the id maps".into(),
            Self::Become(_) => "take the sandbox's user and group id".into(),
            Self::WriteOwn { file, .. } => format!("write {}", show(file)),
            Self::ForbidNesting => "forbid further user namespaces".into(),
            Self::NewSession => "start a session (setsid)".into(),
            Self::DieWithParent => "tie the sandbox's life to ours (parent-death signal)".into(),
            Self::WireStdio => "connect standard input and output".into(),
            Self::MakePrivate => "make mounts private".into(),
            Self::Open { path, .. } => format!("open {} for mounting (open_tree)", show(path)),
            Self::AttachRoot { .. } => "mount the root file system".into(),
            Self::AttachOverlay { .. } => Self::OVERLAY.into(),
            Self::MakeDev { .. } => "make /dev".into(),
            Self::MakeTerminals => "mount /dev/pts".into(),
            Self::MakeRoot { .. } => "mount a tmpfs as root".into(),
            Self::MakeDir { path, .. } | Self::MakeLink { path, .. } | Self::MakeFile { path, .. } => format!("make /{}", show(path)),
            Self::AttachTmpfs { target, .. } => format!("mount a tmpfs on /{}", show(target)),
            Self::MakePlace { names, .. } => format!("make a place at /tmp/{}", names.iter().map(show).collect::<Vec<_>>().join("/")),
            Self::KeepOuterProc => "keep the outer /proc".into(),
            Self::StageFiles { .. } => "mount a tmpfs for files of the sandbox".into(),
            Self::StageFile { name, .. } => format!("make the sandbox's {}", show(name)),
            Self::AttachProc(ProcFrom::Outer) => "bind the outer /proc".into(),
            Self::AttachProc(_) => "mount /proc".into(),
            Self::Attach { target, .. } => format!("mount on /{}", show(target)),
            Self::MaskReadOnly { path } => format!("make /{} read-only", show(path)),
            Self::MaskNull { path } | Self::MaskEmpty { path } => format!("hide /{}", show(path)),
            Self::RaiseLoopback => "bring up the loopback device".into(),
            Self::ConfigureNetwork { .. } => "set up the private network's addresses".into(),
            Self::MakeSocket { handed, .. } => format!("make a socket inside ({handed:?})"),
            Self::JoinCgroups => "join the sandbox's cgroup".into(),
            Self::OpenForWatch { path, .. } => format!("show the host /{}", show(path)),
            Self::Backstop { .. } => "limit each process's memory".into(),
            Self::SealRoot => "make the root read-only".into(),
            Self::EnterRoot(Entrance::Move) => "enter the new root (move and chroot)".into(),
            Self::EnterRoot(_) => "enter the new root (pivot_root)".into(),
            Self::ChangeRoot(_) => "enter the copied root (chroot)".into(),
            Self::DropToUser(_) => "take an unprivileged user's id".into(),
            Self::Limit { .. } => "set resource limits".into(),
            Self::Umask(_) => "set the umask".into(),
            Self::Hostname(_) => "set the host name".into(),
            Self::ChangeDirectory(path) => format!("change to {}", show(path)),
            Self::DropCapabilities { .. } | Self::EmptyCapabilities => "drop capabilities".into(),
            Self::NoNewPrivileges => "set no_new_privs".into(),
            Self::SuperviseNetwork { .. } => "supervise the network (seccomp notification)".into(),
            Self::ConfineFiles => "confine file access (Landlock)".into(),
            Self::CloseOthers => "close other file descriptors (close_range)".into(),
            Self::HandOut => "hand descriptors to the host".into(),
            Self::Filter => "install the seccomp filter".into(),
            Self::Execute => "execute the program".into(),
        }
    }

    /// Whether the sandbox still stands when this step is refused: then it is reported as a degradation, by name.
    pub(crate) fn optional(&self) -> bool {
        matches!(
            self,
            Self::ForbidNesting
                | Self::SuperviseNetwork { needed: false }
                | Self::Hostname(_)
                | Self::MakeTerminals
                | Self::MaskReadOnly { .. }
                | Self::MaskNull { .. }
                | Self::MaskEmpty { .. }
                | Self::OpenForWatch { .. }
                | Self::Backstop { .. }
        )
    }

    /// The isolation that is reached without this step.
    pub(crate) fn isolation_without(&self) -> Option<Isolation> {
        match self {
            Self::AttachProc(_) => Some(Isolation::ProcBind),
            Self::EnterRoot(_) => Some(Isolation::NoPivot),
            _ => None,
        }
    }

    /// Whether an isolation is made of it: a lower one may do without.
    pub(crate) fn is_of_isolation(&self) -> bool {
        let ids = matches!(self, Self::AwaitMaps | Self::Become(_) | Self::WriteOwn { .. } | Self::DropToUser(_));
        let new_mounts = matches!(self, Self::MakePrivate | Self::Open { .. } | Self::MakeRoot { .. } | Self::AttachTmpfs { .. });
        let moved = matches!(self, Self::AttachRoot { .. } | Self::Attach { .. } | Self::SealRoot | Self::KeepOuterProc);
        let entered = matches!(self, Self::AttachProc(_) | Self::EnterRoot(_) | Self::ChangeRoot(_));
        let network = matches!(self, Self::RaiseLoopback | Self::ConfigureNetwork { .. } | Self::MakeSocket { .. });
        ids || new_mounts || moved || entered || network
    }

    /// Whether the sandbox would protect less without it.
    pub(crate) fn protects(&self) -> bool {
        !matches!(self, Self::Hostname(_) | Self::MakeTerminals)
    }
}

/// Which `/proc` the sandbox gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcFrom {
    /// A new one, of its own processes.
    New,
    /// The one outside, with all that is mounted on it.
    Outer,
    /// A new one, or the one outside where the kernel refuses a new one, which is noted as a refusal of this step.
    NewElseOuter,
}

/// How the new root becomes `/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// By `pivot_root`; nothing of the old root is left.
    Pivot,
    /// Moved over the old root, and entered by `chroot`.
    Move,
    /// By `pivot_root`, or moved where that is refused, which is noted as a refusal of this step.
    PivotElseMove,
}

/// How a tree is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TreeFlags {
    pub(crate) read_only: bool,
    pub(crate) recursive: bool,
    /// Device nodes work: only for the nodes of `/dev` themselves.
    pub(crate) devices: bool,
}
