//! The steps that the child carries out, each with the name that errors and `undocked doctor` show.

use std::ffi::CString;

use super::InnerIdentity;
use super::handed_out::Handed;

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
    MakeRoot {
        options: CString,
    },
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
    AttachProc,
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
    /// Bring up the loopback device of a network namespace of its own.
    RaiseLoopback,
    /// Send netlink messages, and wait for as many answers.
    ConfigureNetwork {
        messages: Vec<u8>,
        count: u32,
    },
    MakeSocket {
        handed: Handed,
        domain: i32,
        kind: i32,
        protocol: i32,
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
    EnterRoot,
    Limit {
        resource: u32,
        value: u64,
    },
    Umask(u32),
    Hostname(CString),
    ChangeDirectory(CString),
    DropCapabilities,
    NoNewPrivileges,
    SuperviseNetwork,
    ConfineFiles,
    CloseOthers,
    HandOut,
    Filter,
    Execute,
}

impl Step {
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
            Self::MakeRoot { .. } => "mount a tmpfs as root".into(),
            Self::MakeDir { path, .. } | Self::MakeLink { path, .. } | Self::MakeFile { path, .. } => format!("make /{}", show(path)),
            Self::AttachTmpfs { target, .. } => format!("mount a tmpfs on /{}", show(target)),
            Self::AttachProc => "mount /proc".into(),
            Self::Attach { target, .. } => format!("mount on /{}", show(target)),
            Self::MaskReadOnly { path } => format!("make /{} read-only", show(path)),
            Self::MaskNull { path } => format!("hide /{}", show(path)),
            Self::RaiseLoopback => "bring up the loopback device".into(),
            Self::ConfigureNetwork { .. } => "set up the private network's addresses".into(),
            Self::MakeSocket { handed, .. } => format!("make a socket inside ({handed:?})"),
            Self::JoinCgroups => "join the sandbox's cgroup".into(),
            Self::OpenForWatch { path, .. } => format!("show the host /{}", show(path)),
            Self::Backstop { .. } => "limit each process's memory".into(),
            Self::SealRoot => "make the root read-only".into(),
            Self::EnterRoot => "enter the new root (pivot_root)".into(),
            Self::Limit { .. } => "set resource limits".into(),
            Self::Umask(_) => "set the umask".into(),
            Self::Hostname(_) => "set the host name".into(),
            Self::ChangeDirectory(path) => format!("change to {}", show(path)),
            Self::DropCapabilities => "drop capabilities".into(),
            Self::NoNewPrivileges => "set no_new_privs".into(),
            Self::SuperviseNetwork => "supervise the network (seccomp notification)".into(),
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
                | Self::SuperviseNetwork
                | Self::Hostname(_)
                | Self::MaskReadOnly { .. }
                | Self::MaskNull { .. }
                | Self::OpenForWatch { .. }
                | Self::Backstop { .. }
        )
    }
}

/// How a tree is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TreeFlags {
    pub(crate) read_only: bool,
    pub(crate) recursive: bool,
    /// Device nodes work: only for the nodes of `/dev` themselves.
    pub(crate) devices: bool,
}
