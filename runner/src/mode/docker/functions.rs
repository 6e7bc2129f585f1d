//! A function under the face of docker: our own modes run it, signals end it as anywhere, and who wants something inside visits its environments.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::daemon::exec_refused;
use super::desk::Asked;
use super::plain::{PlainEnd, code, refusal};
use crate::config::RunConfig;
use crate::environment::{Done, Guest, Visit};
use crate::exit_code::{ExitCode, Failure};
use crate::mode::async_runtime;
use crate::mode::once;
use crate::mode::underway::Underway;
use crate::records::Phase;
use crate::records::control::{Answer, ExecOrder, Order};

/// How long a function has for its end before this process ends with everything in it.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// A function's run, and who is told of it.
pub(super) struct Function<'a> {
    pub(super) underway: &'a Underway,
    /// Is told when it is paused and when it goes on.
    pub(super) note: &'a (dyn Fn(Phase) + Sync),
}

impl Function<'_> {
    /// Runs it to its end.
    pub(super) fn run(&self, config: &RunConfig, orders: &mut UnboundedReceiver<Asked>) -> Result<PlainEnd, Failure> {
        let killed = AtomicI32::new(0);
        let (done, ends) = oneshot::channel::<()>();
        let code = thread::scope(|scope| {
            let obeying = scope.spawn(|| self.obey(orders, ends, &killed));
            let code = once::run_told(config, self.underway);
            drop(done);
            let _ = obeying.join();
            code
        })?;
        let code = match killed.load(Ordering::Relaxed) {
            0 => code,
            signal => ExitCode::from_signal(signal),
        };
        Ok(PlainEnd { code, out_of_memory: false })
    }

    fn obey(&self, orders: &mut UnboundedReceiver<Asked>, mut ends: oneshot::Receiver<()>, killed: &AtomicI32) {
        let Ok(runtime) = async_runtime() else { return };
        runtime.block_on(async {
            loop {
                let asked = tokio::select! {
                    asked = orders.recv() => asked,
                    _ = &mut ends => None,
                };
                let Some(mut asked) = asked else { return };
                match &asked.order {
                    Order::End(libc::SIGKILL) | Order::Signal(libc::SIGKILL) => {
                        killed.store(libc::SIGKILL, Ordering::Relaxed);
                        end_in_time(libc::SIGKILL);
                        raise(libc::SIGTERM);
                    }
                    Order::End(signal) | Order::Signal(signal) => raise(*signal),
                    Order::Pause => self.stand(Visit::Pause, Phase::Paused).await,
                    Order::Resume => self.stand(Visit::Resume, Phase::Running).await,
                    Order::Exec(wanted) => {
                        let (wanted, descriptors) = (wanted.clone(), std::mem::take(&mut asked.descriptors));
                        self.enter(asked, wanted, descriptors);
                        continue;
                    }
                    Order::Processes => {
                        asked.answer(&Answer::Processes(self.look(Visit::Look).await));
                        continue;
                    }
                    Order::Root => {
                        asked.answer(&Answer::Processes(self.look(Visit::Open).await));
                        continue;
                    }
                    Order::Input => {
                        asked.refuse("a function reads no input");
                        continue;
                    }
                    Order::StayEnded | Order::Resize(..) => {}
                }
                asked.answer(&Answer::Done);
            }
        });
    }

    /// Has all stop, or go on, and waits until it does.
    async fn stand(&self, visit: impl FnOnce(Done) -> Visit, phase: Phase) {
        let (done, doing) = Done::new();
        if self.underway.visit(visit(done)) {
            doing.end().await;
            (self.note)(phase);
        }
    }

    /// The first process of each environment, as this machine sees it.
    async fn look(&self, visit: impl FnOnce(UnboundedSender<u32>) -> Visit) -> Vec<u32> {
        let (to, mut seen) = unbounded_channel();
        let mut first = Vec::new();
        if self.underway.visit(visit(to)) {
            while let Some(pid) = seen.recv().await {
                first.push(pid);
            }
        }
        first
    }

    /// One more command in its first environment; who asked is told of its start and of its end.
    fn enter(&self, asked: Asked, wanted: ExecOrder, streams: Vec<OwnedFd>) {
        if let Some(user) = &wanted.user {
            let why = format!("`--user {user}` is not supported for functions: there is one user inside, the function's");
            return asked.answer(&Answer::Refused(why, ExitCode::NOT_EXECUTABLE.number()));
        }
        let ExecOrder { command, variables, working_dir, .. } = wanted;
        let named = command.clone();
        let ((started, has_started), (ended, end)) = (oneshot::channel(), oneshot::channel());
        let guest = Guest { command, variables, working_dir: working_dir.map(Into::into), streams, started, ended };
        if !self.underway.visit(Visit::Enter(Box::new(guest))) {
            return asked.refuse("it is not running");
        }
        tokio::spawn(async move {
            match has_started.await {
                Ok(Ok(())) => asked.answer(&Answer::Done),
                Ok(Err(error)) => {
                    let code = refusal(&error).number();
                    return asked.answer(&Answer::Refused(exec_refused(error, &named), code));
                }
                Err(_) => return asked.refuse("the function's sandbox has ended"),
            }
            let ended = end.await.map_or(ExitCode::from_signal(libc::SIGKILL), code);
            asked.answer(&Answer::Ended(ended.number()));
        });
    }
}

/// A signal to ourselves, if it is one that our modes listen to. Others would end this process and leave no word.
fn raise(signal: i32) {
    let known = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];
    if let Some(signal) = nix::sys::signal::Signal::try_from(signal).ok().filter(|_| known.contains(&signal)) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), signal);
    }
}

/// Ends this process if it is still there after a while; the sandbox ends with it.
fn end_in_time(signal: i32) -> JoinHandle<()> {
    thread::spawn(move || {
        thread::sleep(LAST_WORDS);
        super::terminal::restore();
        std::process::exit(ExitCode::from_signal(signal).number().into());
    })
}
