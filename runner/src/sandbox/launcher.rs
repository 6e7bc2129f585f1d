//! Who starts sandboxes: a thread that never ends, since the parent-death signal belongs to the thread that cloned, not to the process.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::sys::signal::{SigSet, SigmaskHow};
use tokio::sync::oneshot;

use super::launch::Spawner;
use super::outcome::prepare;
use super::plan::SandboxPlan;
use super::streams::refuse_folders;
use super::{FirstProcess, LaunchError, Sandbox, sys};

/// Starts sandboxes, one at a time: two at once could not tell each other's changes of the dumpable flag apart. Cheap to clone.
///
/// A sandbox dies with the thread that started it. So that is the process's main thread, where it is the caller, or else a thread that never ends.
#[derive(Debug, Clone)]
pub struct Launcher {
    spawner: Arc<Mutex<Spawner>>,
}

/// The process's launcher, once started.
static LAUNCHER: Mutex<Option<Launcher>> = Mutex::new(None);
/// Where the launching thread takes its jobs from, once there is one. Unbounded: a caller waits for its answer, so there are at most as many jobs as
/// callers.
static THREAD: Mutex<Option<Sender<Job>>> = Mutex::new(None);

struct Job {
    plan: SandboxPlan,
    /// Takes the sandbox. A caller that went away drops it, which kills it.
    answer: Box<dyn FnOnce(Result<Sandbox, LaunchError>) + Send>,
}

impl Launcher {
    /// Gets ready, unless it is.
    pub fn start() -> Result<Self, LaunchError> {
        let mut running = LAUNCHER.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(launcher) = &*running {
            return Ok(launcher.clone());
        }
        let spawner = Arc::new(Mutex::new(Spawner::new()?));
        Ok(running.insert(Self { spawner }).clone())
    }

    /// Starts a sandbox. Blocks for the fraction of a millisecond that it takes.
    pub fn launch(&self, plan: SandboxPlan) -> Result<Sandbox, LaunchError> {
        if plan.first_process != FirstProcess::Several {
            refuse_folders(plan.stdio)?;
        }
        if rustix::thread::gettid() == rustix::process::getpid() {
            // No handler of ours may run in a child that shares our memory.
            let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).map_err(|error| prepare("block signals")(error.into()))?;
            let launched = self.spawn(plan);
            // Fails for no valid set.
            let _ = before.thread_set_mask();
            return launched;
        }
        // One answer: the launching thread never waits for us.
        let (answer, answered) = sync_channel(1);
        self.hand_over(Job { plan, answer: Box::new(move |launched| drop(answer.send(launched))) })?;
        answered.recv().map_err(|_| gone())?
    }

    /// Starts a sandbox while the caller does other things. If what comes back is dropped before, the sandbox is killed.
    pub fn launch_aside(&self, plan: SandboxPlan) -> Result<Launching, LaunchError> {
        if plan.first_process != FirstProcess::Several {
            refuse_folders(plan.stdio)?;
        }
        let (answer, answered) = oneshot::channel();
        self.hand_over(Job { plan, answer: Box::new(move |launched| drop(answer.send(launched))) })?;
        Ok(Launching(answered))
    }

    fn hand_over(&self, job: Job) -> Result<(), LaunchError> {
        self.thread()?.send(job).map_err(|_| gone())
    }

    fn spawn(&self, plan: SandboxPlan) -> Result<Sandbox, LaunchError> {
        self.spawner.lock().unwrap_or_else(PoisonError::into_inner).launch(plan)
    }

    /// The launching thread, started when it is first needed.
    fn thread(&self) -> Result<Sender<Job>, LaunchError> {
        let mut running = THREAD.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(jobs) = &*running {
            return Ok(jobs.clone());
        }
        let (jobs, received) = channel();
        let launcher = self.clone();
        let body = move || {
            sys::block_all_signals();
            launcher.serve(&received);
            // Every child of this thread would be killed if it ended.
            loop {
                thread::park();
            }
        };
        thread::Builder::new().name("launcher".into()).spawn(body).map_err(prepare("start the launching thread"))?;
        Ok(running.insert(jobs).clone())
    }

    fn serve(&self, jobs: &Receiver<Job>) {
        for Job { plan, answer } in jobs {
            answer(self.spawn(plan));
        }
    }
}

/// A sandbox that is being started.
#[derive(Debug)]
pub struct Launching(oneshot::Receiver<Result<Sandbox, LaunchError>>);

impl Launching {
    /// Waits until it runs. May be dropped and called anew until it has answered.
    pub async fn launched(&mut self) -> Result<Sandbox, LaunchError> {
        (&mut self.0).await.map_err(|_| gone())?
    }
}

fn gone() -> LaunchError {
    LaunchError::Prepare { step: "reach the launching thread", source: io::ErrorKind::BrokenPipe.into() }
}
