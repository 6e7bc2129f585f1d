//! Starts sandboxes: prepares descriptors, clones once, and reads back how far the child came.
//!
//! Under real root a second thread writes the id maps, since the first is suspended until the child executes its program.

use std::ffi::{CString, c_char, c_int};
use std::fs::File;
use std::io::{self, Read as _};
use std::net::TcpListener;
use std::os::fd::{AsFd as _, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::Sender;

use rustix::process::{PidfdGetfdFlags, dumpable_behavior, pidfd_getfd, set_dumpable_behavior};

use super::child;
use super::handed_out::{Handed, HandedOut, SocketFactory};
use super::isolation::Standing;
use super::landlock::{self, Ruleset, Tcp};
use super::limits::{self, Guard, Inside, Limiter};
use super::maps::{MapJob, Mapping, Maps, start_mapper};
use super::orders::{Beside, Init, Orders, Record};
use super::outcome::{Refusal, enforcement, failure, prepare, reached};
use super::plan::{Candidate, Lenience, PlanError, SandboxPlan, Search, Step, plan_for};
use super::process::Reach;
use super::several::Place;
use super::streams::Streams;
use super::subids::IdMap;
use super::{
    Degradation, Filter, FirstProcess, LaunchError, Network, NetworkDescriptors, Outbound, Programs, RootSource, Sandbox, idmap, network,
    several, sys,
};

/// What launching takes.
#[derive(Debug)]
pub(super) struct Spawner {
    stack: sys::Stack,
    program_stack: sys::Stack,
    init: OwnedFd,
    parent: OwnedFd,
    mounter: idmap::Mounter,
    mapper: Option<Sender<MapJob>>,
    limiter: Limiter,
}

/// Descriptors of one launch that the child takes over.
struct Wiring {
    streams: Streams,
    init: Option<InitPipes>,
    /// What descriptors are handed out over, as (outside, inside).
    hand_over: Option<(UnixStream, UnixStream)>,
}

/// What an init talks with us over.
struct InitPipes {
    /// The socket factory's requests, as (outside, inside).
    factory: Option<(UnixStream, UnixStream)>,
    talk: Talk,
}

enum Talk {
    /// With one program. Each pipe as (read end, write end).
    One { status: (File, File), gate: (File, File), started: (File, File) },
    /// With several: what orders are given over, as (outside, inside).
    Several((OwnedFd, OwnedFd)),
}

/// What is left of it in our hands: the pipe of the program's end, or what orders are given over.
enum Line {
    Status(File),
    Control(OwnedFd),
}

impl Line {
    fn picked_up(self, place: Place) -> (Option<File>, Option<Programs>) {
        match self {
            Self::Status(status) => (Some(status), None),
            Self::Control(control) => (None, Some(Programs::new(control, place))),
        }
    }
}

impl InitPipes {
    fn new(network: Network, first_process: FirstProcess) -> io::Result<Option<Self>> {
        let talk = match first_process {
            FirstProcess::Program => return Ok(None),
            FirstProcess::Init => Talk::One { status: sys::pipe()?, gate: sys::pipe()?, started: sys::pipe()? },
            FirstProcess::Several => Talk::Several(several::control::pair()?),
        };
        let factory = if network == Network::Host { None } else { Some(sys::stream_pair()?) };
        Ok(Some(Self { factory, talk }))
    }

    /// Lets the program start now that the init has left our memory, and waits until it has left it too. If it was the init's file that could not execute
    /// it, that goes into the record as if the child had told it.
    fn start_program(self, record: &Record) -> (Line, Option<SocketFactory>) {
        let factory = self.factory.map(|(outside, _)| SocketFactory::new(outside));
        let (status, mut started) = match self.talk {
            Talk::One { status, gate, started } => {
                drop((status.1, gate, started.1));
                (status.0, started.0)
            }
            Talk::Several((outside, _)) => return (Line::Control(outside), factory),
        };
        let mut report = [0; 8];
        // Either way of its end tells: no report means that the program was executed, or that the record says why not.
        if started.read_exact(&mut report).is_ok() {
            let [a, b, c, d, e, f, g, h] = report;
            record.program.fetch_add(u32::from_ne_bytes([a, b, c, d]), Ordering::Relaxed);
            record.errno.store(i32::from_ne_bytes([e, f, g, h]), Ordering::Release);
        }
        (Line::Status(status), factory)
    }
}

/// The sandbox's PID 1, compiled by `build.rs` from `init/init.rs`.
pub(super) const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

impl Spawner {
    pub(super) fn new() -> Result<Self, LaunchError> {
        limits::raise_own_descriptors();
        let parent = sys::pidfd_open(std::process::id() as libc::pid_t).and_then(sys::above_standard).map_err(prepare("open a pidfd"))?;
        let mapper = nix::unistd::geteuid().is_root().then(start_mapper).transpose().map_err(prepare("start the mapping thread"))?;
        let init = sys::sealed_program(c"undocked-init", INIT).map_err(prepare("put the init into memory (memfd_create)"))?;
        let stack = || sys::Stack::new().map_err(prepare("map a stack"));
        let (stack, program_stack) = (stack()?, stack()?);
        Ok(Self { stack, program_stack, init, parent, mounter: idmap::Mounter::default(), mapper, limiter: Limiter::default() })
    }

    /// Launches what is planned, or where another isolation will do and the kernel refuses this one, the next lower one that it grants.
    pub(super) fn launch(&mut self, mut plan: SandboxPlan) -> Result<Sandbox, LaunchError> {
        let spare = plan.spare.take();
        let first = match self.attempt(&mut plan) {
            Ok(sandbox) => return Ok(sandbox),
            Err(Refusal { error, lower_may_do: true }) => error,
            Err(Refusal { error, .. }) => return Err(error),
        };
        let rungs = spare.iter().flat_map(|request| Standing::here().rungs_below(request));
        for planned in rungs.filter_map(|isolation| Some(plan_for((**spare.as_ref()?).clone(), isolation))) {
            let mut plan = match planned {
                Ok(plan) => plan,
                Err(PlanError::Closed(closed)) => return Err(LaunchError::Closed(closed)),
                Err(_) => continue,
            };
            match self.attempt(&mut plan) {
                Ok(sandbox) => return Ok(sandbox.because(&first)),
                Err(Refusal { lower_may_do: true, .. }) => {}
                Err(Refusal { error, .. }) => return Err(error),
            }
        }
        // Whether the host's network will do is not for us to say.
        let may_want_host = matches!(plan.network, Network::Private { .. }) && plan.lenience == Lenience::Usual;
        let is_writable = spare.as_ref().is_some_and(|request| matches!(request.root, RootSource::Writable(_)));
        Err(match (may_want_host, is_writable) {
            (true, _) => LaunchError::NoNetwork { source: Box::new(first) },
            (false, true) => LaunchError::NotWritable { source: Box::new(first) },
            (false, false) => first,
        })
    }

    fn attempt(&mut self, plan: &mut SandboxPlan) -> Result<Sandbox, Refusal> {
        self.can_supervise(plan.network)?;
        let mut degradations = Vec::new();
        let opened = self.open_sources(plan, &mut degradations)?;
        let mut slots = slots(plan, &opened);
        let (ruleset, supervised) = rulesets(plan)?;
        let reach = plan.reach(ruleset.as_ref());
        let cgroup = self.limiter.cgroup(&plan.limits, &mut degradations);
        let memory_held = limits::holds_memory(cgroup.as_ref());
        let wiring = wire(plan, memory_held).map_err(prepare("make pipes"))?;
        let maps = self.request_maps(plan)?;
        let (record, vectors) = (Record::default(), Vectors::new(plan, ruleset.is_some()));
        let [filter, network_filter] = [&plan.filter, &plan.network_filter].map(|filter| filter_program(filter.as_deref()));
        let mut orders = Orders {
            steps: &plan.steps,
            slots: &mut slots,
            stdio: wiring.streams.given.each_ref().map(|fd| fd.as_ref().map_or(-1, AsRawFd::as_raw_fd)),
            maps_wanted: maps.as_ref().map_or(-1, |maps| maps.wanted.as_raw_fd()),
            maps_written: maps.as_ref().map_or(-1, |maps| maps.written.as_raw_fd()),
            descriptors: sys::descriptor_limit(),
            parent: self.parent.as_raw_fd(),
            namespaces: plan.namespaces(),
            cgroups: &limits::joins(cgroup.as_ref()),
            memory_held,
            handed: [-1; Handed::COUNT],
            hand_over: wiring.hand_over.as_ref().map_or(-1, |(_, inside)| inside.as_raw_fd()),
            network_filter: &network_filter,
            unsupervised: unsupervised(plan.network),
            ruleset: ruleset.as_ref().map_or(-1, |ruleset| ruleset.fd.as_raw_fd()),
            supervised_ruleset: supervised.as_ref().map_or(-1, |ruleset| ruleset.fd.as_raw_fd()),
            allowed: ruleset.as_ref().map_or(0, |ruleset| ruleset.allowed),
            filter: &filter,
            signals: &sys::signals_not_default(),
            programs: &vectors.programs,
            starts: &vectors.starts,
            search: plan.search,
            lenience: plan.lenience,
            omitted: plan.omitted,
            environment: vectors.environment.as_ptr(),
            init: wiring.init.as_ref().map(|pipes| self.init_orders(pipes, reach)),
            record: &record,
        };
        let child_pid = maps.as_ref().map(|maps| Arc::clone(&maps.pid)).unwrap_or_default();
        let newborn = Newborn(self.clone_child(&mut orders, &child_pid).map_err(Refusal::of_clone)?);
        let pipes = wiring.streams.pipes();
        let pair = wiring.hand_over.filter(|_| !record.failed() && orders.hands_out());
        // If this fails the newborn is gone before the pipes that its program waits for.
        let HandedOver { listener, outbound, inside } = receive(pair, plan).map_err(prepare("receive the sandbox's descriptors"))?;
        let (line, factory) = wiring.init.map(|pipes| pipes.start_program(&record)).unzip();
        failure(plan, &record, maps.as_ref())?;
        let isolation = reached(plan, &record, &mut degradations);
        let process = newborn.grown_up().map_err(prepare("open a pidfd"))?;
        let network = factory.flatten().map(|factory| NetworkDescriptors { listener, outbound, factory });
        let (status, programs) = line.map_or((None, None), |line| line.picked_up(plan.place(reach, process.0)));
        let folder = plan.bare.as_mut().and_then(|bare| bare.give_away(&mut degradations));
        let mut enforcement = enforcement(isolation, plan, ruleset.as_ref(), degradations);
        let guard = Guard::begin(&plan.limits, cgroup, inside, (&process, reach), &mut enforcement);
        let sandbox = Sandbox::new(process, pipes, (status, programs), network, (guard, enforcement));
        Ok(sandbox.held_by(reach, plan.privilege.user(), folder))
    }

    /// Without copies of descriptors a private network could not be connected; an outer container may refuse them though nobody else is concerned.
    fn can_supervise(&self, network: Network) -> Result<(), Refusal> {
        if matches!(network, Network::Private { .. }) {
            // Tried on ourselves.
            let copied = pidfd_getfd(&self.parent, self.parent.as_raw_fd(), PidfdGetfdFlags::empty());
            copied.map_err(|error| Refusal::of_supervision(error.into()))?;
        }
        Ok(())
    }

    fn init_orders(&self, pipes: &InitPipes, reach: Reach) -> Init {
        let (talk, beside) = match &pipes.talk {
            Talk::One { status, gate, started } => {
                let gate = (gate.0.as_raw_fd(), gate.1.as_raw_fd());
                (status.1.as_raw_fd(), Some(Beside { stack: self.program_stack.top(), gate, started: started.1.as_raw_fd() }))
            }
            Talk::Several((_, inside)) => (inside.as_raw_fd(), None),
        };
        Init {
            scope: reach.letter(),
            executable: self.init.as_raw_fd(),
            talk,
            factory: pipes.factory.as_ref().map_or(-1, |(_, inside)| inside.as_raw_fd()),
            beside,
        }
    }

    /// Only under real root; an ordinary user's child opens them itself.
    fn open_sources(&mut self, plan: &SandboxPlan, degradations: &mut Vec<Degradation>) -> Result<Vec<OwnedFd>, Refusal> {
        if !plan.privilege.parent_opens() {
            return Ok(Vec::new());
        }
        let open = |source| {
            let opened = self.mounter.open(source, plan.ids, degradations);
            opened.map_err(|error| Refusal::of_source(source.path.clone(), error))
        };
        plan.sources.iter().map(open).collect()
    }

    fn request_maps(&mut self, plan: &SandboxPlan) -> Result<Option<Maps>, LaunchError> {
        let mapping = match plan.ids {
            IdMap::Subordinate(ids) => Mapping::Range(ids),
            _ if !plan.privilege.parent_maps() => return Ok(None),
            _ => Mapping::One(plan.identity, if plan.omitted.host_id { 0 } else { idmap::host_id() }),
        };
        let mapper = match &mut self.mapper {
            Some(mapper) => mapper,
            none => none.insert(start_mapper().map_err(prepare("start the mapping thread"))?),
        };
        let (job, maps) = MapJob::new(mapping).map_err(prepare("make pipes"))?;
        mapper.send(job).map_err(|_| prepare("reach the mapping thread")(io::ErrorKind::BrokenPipe.into()))?;
        Ok(Some(maps))
    }

    fn clone_child(&self, orders: &mut Orders<'_>, child_pid: &AtomicI32) -> io::Result<libc::pid_t> {
        // Changing ids in a child that shares our memory makes us undumpable (PR_SET_DUMPABLE(2const)); undone as soon as we run again.
        let before = dumpable_behavior();
        let pid = child::start(&self.stack, orders, child_pid);
        if let Ok(before) = before
            && dumpable_behavior() != Ok(before)
        {
            // What it was can be set again, unless that was root's alone, and then so it stays.
            let _ = set_dumpable_behavior(before);
        }
        pid
    }
}

/// A first process that is not a sandbox yet: killed and reaped when dropped, with the program of an init, which has then not begun or has failed.
struct Newborn(libc::pid_t);

impl Newborn {
    fn grown_up(self) -> io::Result<(libc::pid_t, OwnedFd)> {
        let pidfd = sys::pidfd_open(self.0)?;
        Ok((std::mem::ManuallyDrop::new(self).0, pidfd))
    }
}

impl Drop for Newborn {
    fn drop(&mut self) {
        // Without an init it may be gone already.
        let _ = sys::pidfd_open(self.0).and_then(|pidfd| sys::pidfd_kill(pidfd.as_fd(), libc::SIGKILL));
        let _ = sys::wait_for(self.0, true);
    }
}

/// What the child has handed over, by what it is for.
#[derive(Default)]
struct HandedOver {
    listener: Option<TcpListener>,
    outbound: Option<Outbound>,
    inside: Option<Inside>,
}

/// The trees that the parent has opened, by slot; -1 for those that the child opens, and for the files that it makes.
fn slots(plan: &SandboxPlan, opened: &[OwnedFd]) -> Vec<c_int> {
    let opened = opened.iter().map(AsRawFd::as_raw_fd).chain(std::iter::repeat(-1));
    let made = plan.steps.iter().filter(|step| matches!(step, Step::StageFile { .. })).count();
    opened.take(plan.sources.len() + made).collect()
}

/// Receives what the child has handed out, and listens where the program will expect it.
fn receive(pair: Option<(UnixStream, UnixStream)>, plan: &SandboxPlan) -> io::Result<HandedOver> {
    let Some((outside, _)) = pair else { return Ok(HandedOver::default()) };
    let mut handed_out = HandedOut::receive(&outside)?;
    let listener = plan.listen_inside.map(|port| handed_out.listen(port)).transpose()?.flatten();
    Ok(HandedOver { listener, outbound: handed_out.outbound(), inside: handed_out.inside() })
}

/// The child's argument vectors and environment, as the kernel takes them. Points into the plan.
struct Vectors {
    programs: Vec<(*const c_char, *const *const c_char)>,
    /// See [`Orders::starts`].
    starts: Vec<*const *const c_char>,
    environment: Vec<*const c_char>,
    _arguments: Vec<Vec<*const c_char>>,
}

impl Vectors {
    fn new(plan: &SandboxPlan, has_landlock: bool) -> Self {
        let arguments: Vec<_> = plan.programs.iter().map(|program| vector(&program.arguments)).collect();
        let programs =
            plan.programs.iter().zip(&arguments).map(|(program, arguments)| (program.path.as_ptr(), arguments.as_ptr())).collect();
        let starting = if plan.executes_directly(has_landlock) { Vec::new() } else { start_vectors(plan) };
        let starts = starting.iter().map(Vec::as_ptr).collect();
        Self { programs, starts, environment: vector(&plan.environment), _arguments: arguments.into_iter().chain(starting).collect() }
    }
}

/// How the init's file is told what to start (`init/init.rs`): each program that exists by itself, or all that are tried.
fn start_vectors(plan: &SandboxPlan) -> Vec<Vec<*const c_char>> {
    let start = |programs: &[Candidate]| {
        let paths = programs.iter().map(|program| program.path.as_ptr());
        let arguments = programs.first().map(|program| vector(&program.arguments)).unwrap_or_default();
        [c"start".as_ptr()].into_iter().chain(paths).chain([c"".as_ptr()]).chain(arguments).collect()
    };
    match plan.search {
        Search::Existing => plan.programs.chunks(1).map(start).collect(),
        Search::Executable => vec![start(&plan.programs)],
    }
}

fn vector(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

fn filter_program(filter: Option<&Filter>) -> libc::sock_fprog {
    let instructions = filter.map_or(&[][..], Filter::instructions);
    // The kernel's limit is 4096 instructions, which the compiler holds.
    libc::sock_fprog { len: instructions.len() as u16, filter: instructions.as_ptr().cast::<libc::sock_filter>().cast_mut() }
}

/// The ruleset of a sandbox, and the one of a sandbox whose network is supervised.
fn rulesets(plan: &SandboxPlan) -> Result<(Option<Ruleset>, Option<Ruleset>), LaunchError> {
    let ruleset = |tcp| {
        let with_rules = |made: Ruleset| made.with_terminal(plan.terminal.as_deref())?.with_rules(plan.bare.as_ref());
        let made = landlock::ruleset(tcp).and_then(|made| made.map(with_rules).transpose());
        made.map_err(prepare("make a Landlock ruleset"))
    };
    let free = ruleset(Tcp::Free)?;
    if free.is_none() && plan.lenience == Lenience::Strict {
        return Err(prepare("confine file access (Landlock)")(io::Error::from_raw_os_error(libc::ENOSYS)));
    }
    let supervised = if matches!(plan.network, Network::Private { .. }) { ruleset(Tcp::Supervised)? } else { None };
    Ok((free, supervised))
}

/// Why a network cannot be supervised, by its errno: the child has this in place of what it would have been told by the kernel.
fn unsupervised(network: Network) -> c_int {
    let granted = if matches!(network, Network::Private { .. }) { network::granted() } else { Ok(()) };
    granted.err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EPERM))
}

/// Makes what descriptors the child takes over.
fn wire(plan: &SandboxPlan, memory_held: bool) -> io::Result<Wiring> {
    let streams = match plan.first_process {
        // The init closes ours at once.
        FirstProcess::Several => Streams::default(),
        FirstProcess::Program | FirstProcess::Init => Streams::new(plan.stdio, plan.privilege.host_ids())?,
    };
    let init = InitPipes::new(plan.network, plan.first_process)?;
    // The descriptors for the watcher are not wanted where a cgroup holds the memory.
    let hands_out = plan.network != Network::Host || (plan.limits.memory_bytes.is_some() && !memory_held);
    let hand_over = if hands_out { Some(sys::stream_pair()?) } else { None };
    Ok(Wiring { streams, init, hand_over })
}

#[cfg(test)]
#[path = "launch_tests.rs"]
mod tests;
