//! Turns a [`SandboxRequest`] into the list of named steps that the child carries out.
//!
//! Pure: it looks at nothing but its arguments. The order of the steps is the security of the sandbox; each group says why it stands where it does.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::addresses;
use super::bare::{self, Bare};
use super::filter::network_filter;
pub(crate) use super::ground::{Ground, Lenience, Privilege};
use super::handed_out::Handed;
use super::isolation::{self, Standing};
use super::program::candidates;
pub(crate) use super::program::{Candidate, Search};
use super::root::Root;
use super::step;
pub(crate) use super::step::{Entrance, ProcFrom, Step, TreeFlags};
use super::subids::IdMap;
use super::weaken::Omitted;
use super::{
    Access, BareError, ClosedPath, Filter, FirstProcess, InnerIdentity, Isolation, IsolationChoice, Limits, Network, RootSource,
    SandboxRequest, Stdio,
};

mod assembly;
mod contents;
mod held;
mod in_memory;

use contents::Contents;
pub(crate) use contents::{Owner, Source};
pub(super) use in_memory::place_in_tmp;

/// A sandbox ready to be launched.
#[derive(Debug)]
pub struct SandboxPlan {
    pub(crate) steps: Vec<Step>,
    /// What is opened on the host; slot `n` of the child belongs to source `n`.
    pub(crate) sources: Vec<Source>,
    pub(crate) programs: Vec<Candidate>,
    pub(crate) search: Search,
    pub(crate) environment: Vec<CString>,
    pub(crate) identity: InnerIdentity,
    pub(crate) ids: IdMap,
    pub(crate) stdio: Stdio,
    pub(crate) first_process: FirstProcess,
    /// Installed by [`Step::Filter`], which is among the steps if this is here.
    pub(crate) filter: Option<std::sync::Arc<Filter>>,
    /// The filter that supervises a private network.
    pub(crate) network_filter: Option<std::sync::Arc<Filter>>,
    pub(crate) network: Network,
    pub(crate) listen_inside: Option<u16>,
    pub(crate) limits: Limits,
    pub(crate) working_dir: PathBuf,
    pub(crate) privilege: Privilege,
    /// How the sandbox stands if nothing is refused.
    pub(crate) isolation: Isolation,
    pub(crate) lenience: Lenience,
    /// What a test left out.
    pub(crate) omitted: Omitted,
    /// What a sandbox without namespaces is made of.
    pub(crate) bare: Option<Bare>,
    /// The device of the terminal that standard input is, which may be opened.
    pub(crate) terminal: Option<PathBuf>,
    /// The request, where a lower isolation will do if this one is refused.
    pub(crate) spare: Option<Box<SandboxRequest>>,
}

/// Why a request cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A path inside must be absolute, without `..` and without NUL.
    #[error("`{}` is not an absolute path inside the sandbox", .0.display())]
    Target(PathBuf),
    /// A path, argument or name holds a NUL byte.
    #[error("`{0}` holds a NUL byte")]
    Nul(String),
    /// The sockets of a network of its own are made by an init.
    #[error("a network of its own takes an init")]
    NetworkWithoutInit,
    /// Only a root that may be written to has other ids to show.
    #[error("a range of ids takes a root that may be written to")]
    RangeInImage,
    /// There is nothing to execute.
    #[error("no command given")]
    NoCommand,
    /// The isolation that was asked for cannot be had.
    #[error("cannot isolate the function by `{isolation}`: {why}")]
    Isolation {
        /// What was asked for.
        isolation: Isolation,
        /// Why not.
        why: &'static str,
    },
    /// The network that was asked for cannot be had with the isolation that was asked for.
    #[error("`{isolation}` has no network of its own")]
    NoNetwork {
        /// What was asked for.
        isolation: Isolation,
    },
    /// A root that may be written to takes a user namespace, and a root of the machine that may mount.
    #[error("`{isolation}` has no root that may be written to, for lack of a user namespace or of rights to mount")]
    NotWritable {
        /// What was asked for, or was left.
        isolation: Isolation,
    },
    /// What stands in for mounts has no file system of its own at `/tmp`: what is shown there could be written to.
    #[error("no volume can be shown at `{}`: `{isolation}` has no `/tmp` of the sandbox's own", target.display())]
    InTmp {
        /// The isolation that was asked for, or was left.
        isolation: Isolation,
        /// The path inside.
        target: PathBuf,
    },
    /// What root's function needs is root's alone.
    #[error(transparent)]
    Closed(ClosedPath),
    /// What stands in for mounts could not be made.
    #[error("cannot make a root for the function")]
    Bare(#[source] BareError),
}

impl PlanError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let doctor = "`undocked doctor` says how functions can be isolated on this machine";
        match self {
            Self::Isolation { .. } | Self::NoNetwork { .. } => Some(doctor.to_owned()),
            Self::NotWritable { .. } => Some("`--read-only` does without".to_owned()),
            Self::InTmp { .. } => Some("any place outside of `/tmp` will do".to_owned()),
            Self::Closed(closed) => Some(closed.hint()),
            Self::Bare(BareError::Folder(error)) => error.hint(),
            _ => None,
        }
    }
}

/// The device nodes of a sandbox, below `/dev`.
pub(crate) const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// The name below `/dev` of the terminal that standard input is.
const CONSOLE: &str = "console";

/// Symbolic links below `/dev`, as (name, target).
pub(crate) const DEVICE_LINKS: [(&str, &str); 4] =
    [("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2")];

/// Parts of `/proc` that nobody inside writes to: with an ordinary host id the kernel refuses anyway, this holds if it should not.
const PROC_READ_ONLY: [&str; 5] = ["proc/sys", "proc/irq", "proc/bus", "proc/fs", "proc/sysrq-trigger"];

/// Files of `/proc` that tell of the host, Docker's list and the kernel's configuration; most kernels have only some.
const PROC_HIDDEN: [&str; 9] = [
    "proc/kcore",
    "proc/keys",
    "proc/timer_list",
    "proc/kmsg",
    "proc/latency_stats",
    "proc/interrupts",
    "proc/config.gz",
    "proc/sched_debug",
    "proc/timer_stats",
];

/// Folders of `/proc` that do: Docker's list, and the pressure on the machine.
const PROC_EMPTIED: [&str; 5] = ["proc/acpi", "proc/scsi", "proc/asound", "proc/pressure", "proc/firmware"];

/// Plans a sandbox for this process as it is now: as real root, or as an ordinary user. The roots of sandboxes without namespaces are made by it.
pub fn plan(request: SandboxRequest) -> Result<SandboxPlan, PlanError> {
    let choice = request.isolation;
    match choice {
        IsolationChoice::Auto => {
            let spare = Box::new(request.clone());
            let isolation = Isolation::Full;
            let privilege = Standing::here().with_userns().map_err(|why| PlanError::Isolation { isolation, why })?;
            let ground = Ground { privilege, isolation, choice };
            Ok(SandboxPlan { spare: Some(spare), ..plan_on(request, ground)? })
        }
        IsolationChoice::Only(isolation) => plan_for(request, isolation),
    }
}

/// Plans a sandbox of this isolation and no other.
pub(crate) fn plan_for(request: SandboxRequest, isolation: Isolation) -> Result<SandboxPlan, PlanError> {
    let refused = |why| PlanError::Isolation { isolation, why };
    if isolation > Isolation::NoPivot && matches!(request.root, RootSource::Writable(_)) {
        return Err(PlanError::NotWritable { isolation });
    }
    isolation::suits(isolation, &request.root).map_err(refused)?;
    let privilege = Standing::here().privilege(isolation).map_err(refused)?;
    let ground = Ground { privilege, isolation, choice: IsolationChoice::Only(isolation) };
    if isolation.has_namespaces() { plan_on(request, ground) } else { bare::plan(request, ground) }
}

/// Plans a sandbox with namespaces.
pub(crate) fn plan_on(request: SandboxRequest, ground: Ground) -> Result<SandboxPlan, PlanError> {
    let privilege = ground.privilege;
    if privilege == Privilege::RootWithoutMounts && matches!(request.root, RootSource::Writable(_)) {
        // Ids are not shifted there, so that nothing in the root would be its own.
        return Err(PlanError::NotWritable { isolation: ground.isolation });
    }
    let mut planner = Planner::default();
    planner.limits(&request.limits);
    match request.ids {
        IdMap::Single => planner.identity(request.identity, privilege),
        IdMap::Subordinate(_) => planner.range(privilege),
    }
    if request.network != Network::Host && request.first_process == FirstProcess::Program {
        return Err(PlanError::NetworkWithoutInit);
    }
    planner.network(request.network, request.listen_inside);
    // Nothing of the host's can be named once its root is gone, and a mount of ours may lie over a source's path: so all sources are opened first.
    planner.steps.push(Step::MakePrivate);
    let root = Root::of(&request.root);
    let contents = planner.sources(&root, &request, privilege)?;
    if privilege == Privilege::RootWithoutMounts {
        // As root, who may look into any folder of its own, until here. Other ids clear the parent-death signal.
        planner.steps.extend([Step::Become(request.identity), Step::DieWithParent]);
    }
    planner.mounts(&root, &request, contents, ground)?;
    planner.confinement(&request, ground)?;
    finish(planner.steps, planner.sources, request, ground, None)
}

/// What all plans have in common.
pub(super) fn finish(
    steps: Vec<Step>,
    sources: Vec<Source>,
    request: SandboxRequest,
    ground: Ground,
    bare: Option<Bare>,
) -> Result<SandboxPlan, PlanError> {
    if request.ids != IdMap::Single && !matches!(request.root, RootSource::Writable(_)) {
        return Err(PlanError::RangeInImage);
    }
    let (programs, search) = match request.first_process {
        FirstProcess::Several => (Vec::new(), Search::Existing),
        FirstProcess::Program | FirstProcess::Init => candidates(&request.command, &request.environment)?,
    };
    let strict = ground.choice == IsolationChoice::Only(Isolation::Full);
    Ok(SandboxPlan {
        steps,
        sources,
        programs,
        search,
        environment: request.environment,
        identity: request.identity,
        ids: request.ids,
        stdio: request.stdio,
        first_process: request.first_process,
        filter: request.filter,
        network_filter: matches!(request.network, Network::Private { .. }).then(network_filter),
        network: request.network,
        listen_inside: request.listen_inside,
        limits: request.limits,
        working_dir: request.working_dir,
        privilege: ground.privilege,
        isolation: ground.isolation,
        lenience: if strict { Lenience::Strict } else { Lenience::Usual },
        omitted: Omitted::default(),
        bare,
        terminal: request.terminal,
        spare: None,
    })
}

#[derive(Default)]
struct Planner {
    steps: Vec<Step>,
    sources: Vec<Source>,
}

impl Planner {
    /// The id maps come before everything: without them no mount is allowed. The parent-death signal comes after the last change of ids, which clears it.
    fn identity(&mut self, inner: InnerIdentity, privilege: Privilege) {
        match privilege {
            // Twice: while it waits, and again since taking other ids clears the signal.
            Privilege::Root => self.steps.extend([Step::DieWithParent, Step::AwaitMaps, Step::Become(inner)]),
            Privilege::RootWithoutMounts => self.steps.extend([Step::DieWithParent, Step::AwaitMaps]),
            Privilege::WithoutUserns(_) => {}
            Privilege::Ordinary { uid, gid } => {
                let own = |file: &str, text: String| Step::WriteOwn { file: constant(file), text };
                self.steps.extend([
                    // A group map may be written without privilege only when setgroups is given up (user_namespaces(7)).
                    own("/proc/self/setgroups", "deny".into()),
                    own("/proc/self/uid_map", format!("{} {uid} 1", inner.uid)),
                    own("/proc/self/gid_map", format!("{} {gid} 1", inner.gid)),
                ]);
            }
        }
        if !matches!(privilege, Privilege::WithoutUserns(_)) {
            // Else it would be forbidden to the whole machine.
            self.steps.push(Step::ForbidNesting);
        }
        self.steps.extend([Step::NewSession, Step::DieWithParent, Step::WireStdio]);
    }

    /// With a range of ids it is root inside that sets all up, as the caller; who the program is it becomes at last ([`last_steps`]).
    fn range(&mut self, privilege: Privilege) {
        self.steps.extend([Step::DieWithParent, Step::AwaitMaps]);
        if privilege == Privilege::Root {
            self.steps.push(Step::Become(InnerIdentity { uid: 0, gid: 0 }));
        }
        self.steps.extend([Step::ForbidNesting, Step::NewSession, Step::DieWithParent, Step::WireStdio]);
    }

    /// First of all, so that whatever the child makes is counted; and with the host's ids, to which the cgroups belong.
    fn limits(&mut self, limits: &Limits) {
        self.steps.extend(join_cgroups(limits));
    }

    /// While there are capabilities: the loopback device, addresses, and the sockets that the host will use.
    fn network(&mut self, network: Network, listen_inside: Option<u16>) {
        if network == Network::Host {
            return;
        }
        let socket = |handed, domain, kind, protocol| Step::MakeSocket { handed, socket: [domain, kind, protocol] };
        self.steps.push(Step::RaiseLoopback);
        self.steps.extend(listen_inside.map(|_| socket(Handed::Listener, libc::AF_INET, libc::SOCK_STREAM, 0)));
        let Network::Private { ipv6, .. } = network else { return };
        let (messages, count) = addresses::messages(ipv6);
        self.steps.extend([
            Step::ConfigureNetwork { messages, count },
            socket(Handed::RawV4, libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_UDP),
            socket(Handed::InjectV4, libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW),
        ]);
        if ipv6 {
            self.steps.extend([
                socket(Handed::RawV6, libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_UDP),
                socket(Handed::InjectV6, libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_RAW),
            ]);
        }
    }

    /// The root first, then what lies on it, shallow before deep; volumes last, so that a user may lay one over anything of ours.
    fn mounts(&mut self, root: &Root, request: &SandboxRequest, contents: Contents, ground: Ground) -> Result<(), PlanError> {
        if ground.proc_from() != ProcFrom::New {
            self.steps.push(Step::KeepOuterProc);
        }
        match (root, contents.root, contents.folder) {
            (Root::Assembled(assembly), ..) => self.assemble(assembly)?,
            (_, Some(lower), Some(folder)) => self.steps.push(Step::AttachOverlay { lower, folder }),
            (_, slot, _) => self.steps.extend(slot.map(|slot| Step::AttachRoot { slot })),
        }
        self.attach(contents.binds);
        let writable = matches!(root, Root::Writable(_));
        // `/proc` comes over it, or `/tmp`, which is the root's own where that may be written to.
        let early = if writable { self.stage(&request.files, c"proc")? } else { Vec::new() };
        self.steps.push(Step::AttachProc(ground.proc_from()));
        if writable {
            let in_dev = request.files.iter().filter_map(|file| file.path.strip_prefix("/dev").ok());
            let names = in_dev.map(Path::as_os_str).chain(request.terminal.as_ref().map(|_| CONSOLE.as_ref()));
            let files = names.map(|name| text(name.as_bytes())).collect::<Result<_, _>>()?;
            self.steps.extend([Step::MakeDev { files }, Step::MakeTerminals]);
        }
        self.attach(contents.devices);
        // After /dev, whose null node covers what is hidden.
        self.steps.extend(PROC_READ_ONLY.map(|path| Step::MaskReadOnly { path: constant(path) }));
        self.steps.extend(PROC_HIDDEN.map(|path| Step::MaskNull { path: constant(path) }));
        self.steps.extend(PROC_EMPTIED.map(|path| Step::MaskEmpty { path: constant(path) }));
        let made = if writable { early } else { self.stage(&request.files, c"tmp")? };
        self.in_memory(request, &contents.volumes, ground.privilege)?;
        self.attach(contents.volumes);
        self.attach(made);
        if matches!(root, Root::Assembled(_)) {
            self.steps.push(Step::SealRoot);
        }
        self.watch(request);
        self.steps.push(Step::EnterRoot(ground.entrance()));
        Ok(())
    }

    fn attach(&mut self, slots: Vec<(usize, CString)>) {
        self.steps.extend(slots.into_iter().map(|(slot, target)| Step::Attach { slot, target }));
    }

    /// Rights go last, least harmful first: limits and names need capabilities, capabilities end, then no right can come back, then files are confined;
    /// the filter comes last, since it refuses what the steps before it do.
    fn confinement(&mut self, request: &SandboxRequest, ground: Ground) -> Result<(), PlanError> {
        for (resource, value) in LIMITS {
            let is_files = resource == libc::RLIMIT_NOFILE && matches!(request.root, RootSource::Writable(_));
            self.steps.push(Step::Limit { resource, value: if is_files { BUILD_FILES } else { value } });
        }
        self.steps.extend(backstop(&request.limits));
        self.steps.extend([Step::Umask(0o022), Step::Hostname(text(request.hostname.as_bytes())?)]);
        self.steps.extend(last_steps(request, ground)?);
        Ok(())
    }
}

/// Into the cgroups, if there can be any.
pub(super) fn join_cgroups(limits: &Limits) -> Option<Step> {
    (*limits != Limits::default()).then_some(Step::JoinCgroups)
}

/// What stands behind the watcher.
pub(super) fn backstop(limits: &Limits) -> Option<Step> {
    limits.memory().map(|bytes| Step::Backstop { bytes: Limits::backstop(bytes) })
}

/// How every set-up ends.
pub(super) fn last_steps(request: &SandboxRequest, ground: Ground) -> Result<Vec<Step>, PlanError> {
    // Each program goes where it wants to.
    let working_dir = if request.first_process == FirstProcess::Several { Path::new("/") } else { absolute(&request.working_dir)? };
    let change = Step::ChangeDirectory(text(working_dir.as_os_str().as_bytes())?);
    let mut steps = match ground.privilege {
        // The folder is entered with the program's own rights. Other ids clear the parent-death signal.
        Privilege::WithoutUserns(ids) => vec![Step::DropToUser(ids), Step::DieWithParent, change],
        _ if request.ids != IdMap::Single => {
            // The caller's other groups end here. Other ids clear the parent-death signal.
            let end = [Step::DieWithParent, change];
            if request.identity.uid == 0 {
                let own = [Step::Become(request.identity), Step::DropCapabilities { kept: kept(request) }];
                own.into_iter().chain(end).collect()
            } else {
                [Step::DropToUser(request.identity)].into_iter().chain(end).collect()
            }
        }
        _ if ground.isolation.has_namespaces() => vec![change, Step::DropCapabilities { kept: kept(request) }],
        _ => vec![change, Step::EmptyCapabilities],
    };
    steps.push(Step::NoNewPrivileges);
    // Before Landlock, which keeps TCP from what is not supervised only where it is.
    if let Network::Private { needs_way_out, .. } = request.network {
        steps.push(Step::SuperviseNetwork { needed: needs_way_out });
    }
    steps.extend([Step::ConfineFiles, Step::CloseOthers]);
    if request.network != Network::Host || request.limits.memory_bytes.is_some() {
        steps.push(Step::HandOut);
    }
    steps.extend(request.filter.is_some().then_some(Step::Filter));
    steps.push(Step::Execute);
    Ok(steps)
}

/// The capabilities of the program.
fn kept(request: &SandboxRequest) -> u64 {
    let is_root_inside = matches!(request.root, RootSource::Writable(_)) && request.identity.uid == 0;
    let writes_outside = request.volumes.iter().any(|volume| volume.access == Access::ReadWrite);
    let all = match request.ids {
        IdMap::Single => super::ROOT_INSIDE,
        IdMap::Subordinate(_) => super::ROOT_OF_RANGE,
    };
    match (is_root_inside, writes_outside) {
        (false, _) => 0,
        // Under real root a file with capabilities would count on the host: its owner there is shown as root inside.
        (true, true) => all & !step::CAP_SETFCAP,
        (true, false) => all,
    }
}

/// Limits as Lambda has them (measured there: NOFILE 1024, MEMLOCK 64 KiB, no core files kept here). Processes count per user namespace from Linux 5.14.
pub(super) const LIMITS: [(u32, u64); 4] =
    [(libc::RLIMIT_NOFILE, 1024), (libc::RLIMIT_CORE, 0), (libc::RLIMIT_NPROC, Limits::PROCESSES), (libc::RLIMIT_MEMLOCK, 65536)];

/// Open files of what builds: package managers for JavaScript open thousands.
const BUILD_FILES: u64 = 16384;

/// A path inside, relative to the sandbox's root, where it is looked up by `openat2` without leaving it.
fn inside(path: &Path) -> Result<CString, PlanError> {
    let relative = absolute(path)?.strip_prefix("/").unwrap_or(path);
    text(if relative.as_os_str().is_empty() { b"." } else { relative.as_os_str().as_bytes() })
}

fn absolute(path: &Path) -> Result<&Path, PlanError> {
    let plain = path.components().skip(1).all(|part| matches!(part, Component::Normal(_)));
    if path.is_absolute() && plain { Ok(path) } else { Err(PlanError::Target(path.to_owned())) }
}

pub(super) fn text(bytes: &[u8]) -> Result<CString, PlanError> {
    CString::new(bytes).map_err(|_| PlanError::Nul(String::from_utf8_lossy(bytes).replace('\0', "\\0")))
}

fn constant(text: &str) -> CString {
    CString::new(text).expect("our own texts hold no NUL byte")
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
