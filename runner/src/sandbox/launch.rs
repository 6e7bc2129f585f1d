//! Starts sandboxes: prepares descriptors, clones once, and reads back how far the child came.
//!
//! All launches go through one thread that never ends: the parent-death signal belongs to the thread that cloned, not to the process. Under real root
//! a second thread writes the id maps, since the first is suspended until the child executes its program.

use std::ffi::{CString, c_char, c_int};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::child;
use super::handed_out::{Handed, HandedOut, SocketFactory};
use super::landlock::{self, Ruleset, Tcp};
use super::limits::{self, Guard, Limiter};
use super::orders::{Init, Orders, Record};
use super::plan::{SandboxPlan, Step};
use super::{
    Degradation, Enforcement, Filter, FirstProcess, InnerIdentity, Input, LaunchError, Network, Output, Protection, Sandbox, idmap, sys,
};

/// Starts sandboxes, one at a time. Cheap to clone; the thread behind it is the process's only one, and lives as long as the process: two of them
/// could not tell each other's changes of the dumpable flag apart.
#[derive(Debug, Clone)]
pub struct Launcher {
    // Unbounded: a caller waits for its answer, so there are at most as many jobs as callers.
    jobs: Sender<Job>,
}

/// The process's launching thread, once started.
static LAUNCHER: Mutex<Option<Launcher>> = Mutex::new(None);

#[derive(Debug)]
struct Job {
    plan: SandboxPlan,
    answer: SyncSender<Result<Sandbox, LaunchError>>,
}

impl Launcher {
    /// Starts the launching thread, unless it runs already.
    pub fn start() -> io::Result<Self> {
        let mut running = LAUNCHER.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(launcher) = &*running {
            return Ok(launcher.clone());
        }
        let (jobs, received) = channel();
        let mut spawner = Spawner::new()?;
        thread::Builder::new().name("launcher".into()).spawn(move || {
            sys::block_all_signals();
            spawner.serve(&received);
            // Every child of this thread would be killed if it ended.
            loop {
                thread::park();
            }
        })?;
        Ok(running.insert(Self { jobs }).clone())
    }

    /// Starts a sandbox. Blocks for the fraction of a millisecond that it takes.
    pub fn launch(&self, plan: SandboxPlan) -> Result<Sandbox, LaunchError> {
        let gone = || LaunchError::Prepare { step: "reach the launching thread", source: io::ErrorKind::BrokenPipe.into() };
        // One answer: the launching thread never waits for us.
        let (answer, answered) = sync_channel(1);
        self.jobs.send(Job { plan, answer }).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }
}

/// What the thread owns.
struct Spawner {
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
    stdio: [Option<OwnedFd>; 3],
    pipes: (Option<OwnedFd>, Option<OwnedFd>),
    init: Option<InitPipes>,
    /// What descriptors are handed out over, as (outside, inside).
    hand_over: Option<(UnixStream, UnixStream)>,
}

/// The pipes of an init, each as (read end, write end).
struct InitPipes {
    status: (File, File),
    gate: (File, File),
    started: (File, File),
    /// The socket factory's requests, as (outside, inside).
    factory: Option<(UnixStream, UnixStream)>,
}

impl InitPipes {
    fn new(network: Network) -> io::Result<Self> {
        let factory = if network == Network::Host { None } else { Some(sys::stream_pair()?) };
        Ok(Self { status: sys::pipe()?, gate: sys::pipe()?, started: sys::pipe()?, factory })
    }

    /// Lets the program start now that the init has left our memory, and waits until it has left it too. Answers the pipe of its end, and the socket
    /// factory.
    fn start_program(self) -> (File, Option<SocketFactory>) {
        drop((self.status.1, self.gate, self.started.1));
        let mut started = self.started.0;
        // Either way of its end tells: the record says whether the program was executed.
        let _ = started.read(&mut [0]);
        (self.status.0, self.factory.map(|(outside, _)| SocketFactory::new(outside)))
    }
}

/// The sandbox's PID 1, compiled by `build.rs` from `init/init.rs`.
const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

impl Spawner {
    fn new() -> io::Result<Self> {
        let parent = sys::above_standard(sys::pidfd_open(std::process::id() as libc::pid_t)?)?;
        let mapper = if nix::unistd::geteuid().is_root() { Some(start_mapper()?) } else { None };
        let init = sys::sealed_program(c"undocked-init", INIT)?;
        let (stack, program_stack) = (sys::Stack::new()?, sys::Stack::new()?);
        Ok(Self { stack, program_stack, init, parent, mounter: idmap::Mounter::default(), mapper, limiter: Limiter::default() })
    }

    fn serve(&mut self, jobs: &Receiver<Job>) {
        for job in jobs {
            let answer = self.launch(&job.plan);
            // A caller that went away drops the sandbox, which kills it.
            let _ = job.answer.send(answer);
        }
    }

    fn launch(&mut self, plan: &SandboxPlan) -> Result<Sandbox, LaunchError> {
        let mut degradations = Vec::new();
        let opened = self.open_sources(plan, &mut degradations)?;
        let mut slots: Vec<c_int> = plan.sources.iter().map(|_| -1).collect();
        for (slot, tree) in slots.iter_mut().zip(&opened) {
            *slot = tree.as_raw_fd();
        }
        let ruleset = |tcp| landlock::ruleset(tcp).map_err(prepare("make a Landlock ruleset"));
        let supervised = if matches!(plan.network, Network::Private { .. }) { ruleset(Tcp::Supervised)? } else { None };
        let ruleset = ruleset(Tcp::Free)?;
        let cgroup = self.limiter.cgroup(&plan.limits, &mut degradations);
        let memory_held = limits::holds_memory(cgroup.as_ref());
        let wiring = wire(plan, self.mapper.is_some(), memory_held).map_err(prepare("make pipes"))?;
        let maps = self.request_maps(plan)?;

        let record = Record::default();
        let vectors = Vectors::new(plan);
        let filter = filter_program(&plan.filter);
        let network_filter = plan.network_filter.as_deref().map(filter_program);
        let signals = sys::signals_not_default();
        let fd = |fd: &Option<OwnedFd>| fd.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let mut orders = Orders {
            steps: &plan.steps,
            slots: &mut slots,
            stdio: [fd(&wiring.stdio[0]), fd(&wiring.stdio[1]), fd(&wiring.stdio[2])],
            maps_wanted: maps.as_ref().map_or(-1, |maps| maps.wanted.as_raw_fd()),
            maps_written: maps.as_ref().map_or(-1, |maps| maps.written.as_raw_fd()),
            parent: self.parent.as_raw_fd(),
            namespaces: plan.namespaces(),
            cgroups: &limits::joins(cgroup.as_ref()),
            memory_held,
            handed: [-1; Handed::COUNT],
            hand_over: wiring.hand_over.as_ref().map_or(-1, |(_, inside)| inside.as_raw_fd()),
            network_filter: network_filter.as_ref(),
            ruleset: ruleset.as_ref().map_or(-1, |ruleset| ruleset.fd.as_raw_fd()),
            supervised_ruleset: supervised.as_ref().map_or(-1, |ruleset| ruleset.fd.as_raw_fd()),
            allowed: ruleset.as_ref().map_or(0, |ruleset| ruleset.allowed),
            filter: &filter,
            signals: &signals,
            programs: &vectors.programs,
            search: plan.search,
            tolerant: plan.tolerant,
            environment: vectors.environment.as_ptr(),
            init: wiring.init.as_ref().map(|pipes| self.init_orders(pipes)),
            record: &record,
        };
        let child_pid = maps.as_ref().map_or_else(|| Arc::new(AtomicI32::new(0)), |maps| Arc::clone(&maps.pid));
        let pid = self.clone_child(&mut orders, &child_pid).map_err(prepare("clone into new namespaces"))?;
        drop(wiring.stdio);
        let (status, factory) = wiring.init.map(InitPipes::start_program).unzip();
        if let Some(error) = failure(plan, &record, maps.as_ref()) {
            // With an init, only the program failed; without, it is gone already.
            let _ = sys::pidfd_open(pid).and_then(|pidfd| sys::pidfd_kill(pidfd.as_fd(), libc::SIGKILL));
            let _ = sys::wait_for(pid, true);
            return Err(error);
        }
        degradations.extend(refusals(plan, &record));
        let pidfd = sys::pidfd_open(pid).map_err(prepare("open a pidfd"))?;
        let handed_out = wiring.hand_over.map(|(outside, _)| HandedOut::receive(&outside)).transpose();
        let mut handed_out = handed_out.map_err(prepare("receive the sandbox's descriptors"))?.unwrap_or_default();
        let network = handed_out.network(factory.flatten());
        let (guard, refused) = Guard::begin(&plan.limits, cgroup, handed_out.inside(), pidfd.as_fd());
        degradations.extend(refused);
        let mut enforcement = enforcement(ruleset.as_ref(), degradations);
        enforcement.protections.extend(guard.protection());
        Ok(Sandbox::new((pid, pidfd), wiring.pipes, status, network, (guard, enforcement)))
    }

    fn init_orders(&self, pipes: &InitPipes) -> Init {
        Init {
            executable: self.init.as_raw_fd(),
            status: pipes.status.1.as_raw_fd(),
            stack: self.program_stack.top(),
            gate: (pipes.gate.0.as_raw_fd(), pipes.gate.1.as_raw_fd()),
            started: pipes.started.1.as_raw_fd(),
            factory: pipes.factory.as_ref().map_or(-1, |(_, inside)| inside.as_raw_fd()),
        }
    }

    /// Only under real root; an ordinary user's child opens them itself.
    fn open_sources(&mut self, plan: &SandboxPlan, degradations: &mut Vec<Degradation>) -> Result<Vec<OwnedFd>, LaunchError> {
        if self.mapper.is_none() {
            return Ok(Vec::new());
        }
        let open = |source| {
            let opened = self.mounter.open(source, degradations);
            opened.map_err(|error| LaunchError::Source { path: source.path.clone(), source: error })
        };
        plan.sources.iter().map(open).collect()
    }

    fn request_maps(&self, plan: &SandboxPlan) -> Result<Option<Maps>, LaunchError> {
        let Some(mapper) = &self.mapper else { return Ok(None) };
        let (job, maps) = MapJob::new(plan.identity).map_err(prepare("make pipes"))?;
        mapper.send(job).map_err(|_| prepare("reach the mapping thread")(io::ErrorKind::BrokenPipe.into()))?;
        Ok(Some(maps))
    }

    fn clone_child(&self, orders: &mut Orders<'_>, child_pid: &AtomicI32) -> io::Result<libc::pid_t> {
        // Changing ids in a child that shares our memory makes us undumpable (PR_SET_DUMPABLE(2const)); undone as soon as we run again.
        let dumpable = sys::dumpable();
        let pid = child::start(&self.stack, orders, child_pid);
        if sys::dumpable() != dumpable {
            sys::set_dumpable(dumpable);
        }
        pid
    }
}

/// The child's argument vectors and environment, as the kernel takes them. Points into the plan.
struct Vectors {
    programs: Vec<(*const c_char, *const *const c_char)>,
    environment: Vec<*const c_char>,
    _arguments: Vec<Vec<*const c_char>>,
}

impl Vectors {
    fn new(plan: &SandboxPlan) -> Self {
        let arguments: Vec<_> = plan.programs.iter().map(|program| vector(&program.arguments)).collect();
        let programs =
            plan.programs.iter().zip(&arguments).map(|(program, arguments)| (program.path.as_ptr(), arguments.as_ptr())).collect();
        Self { programs, environment: vector(&plan.environment), _arguments: arguments }
    }
}

fn vector(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

fn filter_program(filter: &Filter) -> libc::sock_fprog {
    let instructions = filter.instructions();
    // The kernel's limit is 4096 instructions, which the compiler holds.
    libc::sock_fprog { len: instructions.len() as u16, filter: instructions.as_ptr().cast::<libc::sock_filter>().cast_mut() }
}

/// Opens standard input and output for the child.
fn wire(plan: &SandboxPlan, root: bool, memory_held: bool) -> io::Result<Wiring> {
    let input = match plan.stdio.input {
        Input::Null => Some(sys::above_standard(File::open("/dev/null")?.into())?),
        Input::Inherit => None,
    };
    let (output_read, output) = pipe_out(plan.stdio.output, root)?;
    let (error_read, error) = match (plan.stdio.error, &output) {
        (Output::Joined, Some(output)) => (None, Some(sys::above_standard(output.try_clone()?)?)),
        (own, _) => pipe_out(own, root)?,
    };
    let init = if plan.first_process == FirstProcess::Init { Some(InitPipes::new(plan.network)?) } else { None };
    // The descriptors for the watcher are not wanted where a cgroup holds the memory.
    let hands_out = plan.network != Network::Host || (plan.limits.memory_bytes.is_some() && !memory_held);
    let hand_over = if hands_out { Some(sys::stream_pair()?) } else { None };
    Ok(Wiring { stdio: [input, output, error], pipes: (output_read, error_read), init, hand_over })
}

/// The (read end, write end) of a pipe for an output stream, when one is wanted.
fn pipe_out(output: Output, root: bool) -> io::Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    if output != Output::Pipe {
        return Ok((None, None));
    }
    let (read, write) = sys::pipe()?;
    if root {
        // So that the function may open it again as /dev/stdout.
        std::os::unix::fs::fchown(&write, Some(idmap::host_id()), Some(idmap::host_id()))?;
    }
    Ok((Some(read.into()), Some(write.into())))
}

/// What the launching thread keeps of a request for id maps.
struct Maps {
    wanted: File,
    written: File,
    pid: Arc<AtomicI32>,
    errno: Arc<AtomicI32>,
}

/// What the mapping thread gets.
struct MapJob {
    wanted: File,
    written: File,
    pid: Arc<AtomicI32>,
    errno: Arc<AtomicI32>,
    identity: InnerIdentity,
}

impl MapJob {
    fn new(identity: InnerIdentity) -> io::Result<(Self, Maps)> {
        let (wanted_read, wanted_write) = sys::pipe()?;
        let (written_read, written_write) = sys::pipe()?;
        let (pid, errno) = (Arc::new(AtomicI32::new(0)), Arc::new(AtomicI32::new(0)));
        let job = Self { wanted: wanted_read, written: written_write, pid: Arc::clone(&pid), errno: Arc::clone(&errno), identity };
        Ok((job, Maps { wanted: wanted_write, written: written_read, pid, errno }))
    }

    /// Waits for the child's word, writes its maps, and lets it go on. If the clone failed there is no word, only the end of the pipe.
    fn serve(mut self) {
        let mut word = [0];
        if self.wanted.read(&mut word).unwrap_or(0) == 0 {
            return;
        }
        let answer = match idmap::write_maps(self.pid.load(Ordering::Acquire), self.identity) {
            Ok(()) => b'g',
            Err(error) => {
                self.errno.store(error.raw_os_error().unwrap_or(libc::EIO), Ordering::Release);
                b'x'
            }
        };
        // Fails only when the child has been killed meanwhile.
        let _ = self.written.write_all(&[answer]);
    }
}

fn start_mapper() -> io::Result<Sender<MapJob>> {
    // Unbounded: launches are made one at a time, so it holds one job.
    let (jobs, received) = channel::<MapJob>();
    thread::Builder::new().name("id-mapper".into()).spawn(move || {
        sys::block_all_signals();
        received.into_iter().for_each(MapJob::serve);
    })?;
    Ok(jobs)
}

fn prepare(step: &'static str) -> impl FnOnce(io::Error) -> LaunchError {
    move |source| LaunchError::Prepare { step, source }
}

/// Reads the child's record: why it did not execute its program.
fn failure(plan: &SandboxPlan, record: &Record, maps: Option<&Maps>) -> Option<LaunchError> {
    let errno = record.errno.load(Ordering::Acquire);
    if errno == 0 {
        return None;
    }
    let source = io::Error::from_raw_os_error(errno);
    let Some(step) = plan.steps.get(record.step.load(Ordering::Relaxed) as usize) else {
        return Some(LaunchError::Prepare { step: "read the child's record", source });
    };
    Some(match step {
        Step::Execute => exec_failure(plan, record, source),
        Step::Open { slot, .. } => {
            LaunchError::Source { path: plan.sources.get(*slot).map_or_else(PathBuf::new, |source| source.path.clone()), source }
        }
        Step::ChangeDirectory(_) => LaunchError::WorkingDir { path: plan.working_dir.clone(), source },
        Step::AwaitMaps => {
            let errno = maps.map_or(errno, |maps| maps.errno.load(Ordering::Acquire));
            LaunchError::Step { step: "write the id maps".into(), source: io::Error::from_raw_os_error(errno) }
        }
        step => LaunchError::Step { step: step.name(), source },
    })
}

fn exec_failure(plan: &SandboxPlan, record: &Record, source: io::Error) -> LaunchError {
    let path = |program: &super::plan::Program| program.path.to_string_lossy().into_owned();
    match plan.programs.get(record.program.load(Ordering::Relaxed) as usize) {
        Some(program) => LaunchError::Exec { path: path(program), source },
        None => LaunchError::NoCandidate { tried: plan.programs.iter().map(path).collect() },
    }
}

/// The optional steps that were refused, by name.
fn refusals(plan: &SandboxPlan, record: &Record) -> Vec<Degradation> {
    let named = |(step, errno): (usize, c_int)| {
        Some(Degradation { what: plan.steps.get(step)?.name(), why: io::Error::from_raw_os_error(errno).to_string() })
    };
    record.refusals().filter_map(named).collect()
}

fn enforcement(ruleset: Option<&Ruleset>, mut degradations: Vec<Degradation>) -> Enforcement {
    let mut protections = vec![Protection::Namespaces];
    match ruleset {
        Some(ruleset) => protections.push(Protection::Landlock { abi: ruleset.abi }),
        None => degradations.push(Degradation { what: "confine file access (Landlock)".into(), why: "this kernel has none".into() }),
    }
    protections.push(Protection::Seccomp);
    Enforcement { protections, degradations }
}

#[cfg(test)]
#[path = "launch_tests.rs"]
mod tests;
