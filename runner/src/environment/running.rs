//! The sandbox that an environment has now, with the programs in it, as the environment's task waits for them.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;

use futures_util::future::select_all;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use super::connections::Serving;
use super::logs::{Logs, Piece, Stream};
use super::visit::{Guest, Stay};
use crate::lambda::{Program, RuntimeEnd};
use crate::sandbox::{self, Ended, Enforcement, ProgramEnd, ProgramId, Programs, Sandbox, Started};

/// A sandbox with programs in it.
#[derive(Debug)]
pub(super) struct Running {
    sandbox: Sandbox,
    /// The sandbox's end, registered once for all waits.
    end: AsyncFd<OwnedFd>,
    /// What it is connected by, for as long as it runs.
    serving: Serving,
    /// None where the runtime is the sandbox's only program, and came with it.
    programs: Option<Programs>,
    members: Vec<Member>,
    guests: Vec<Inmate>,
}

/// A program that runs.
#[derive(Debug)]
struct Member {
    program: Program,
    /// None for the sandbox's only one.
    id: Option<ProgramId>,
    logs: Logs,
}

/// A visitor's command that runs.
#[derive(Debug)]
struct Inmate {
    id: ProgramId,
    ended: oneshot::Sender<Ended>,
    _stay: Stay,
}

/// What happened in a sandbox.
#[derive(Debug)]
pub(super) enum Happened {
    /// It is over, with everything in it.
    Over,
    /// A program ended.
    Ended(ProgramEnd),
    /// The member of this number has output.
    Output(usize, Stream),
}

impl Running {
    /// A sandbox in which the runtime runs already.
    pub(super) fn alone(mut sandbox: Sandbox, serving: Serving) -> io::Result<Self> {
        let logs = Logs::new(sandbox.stdout.take(), sandbox.stderr.take(), None)?;
        let member = Member { program: Program::Runtime, id: None, logs };
        Ok(Self { end: sandbox.watch_end()?, serving, programs: None, members: vec![member], guests: Vec::new(), sandbox })
    }

    /// A sandbox in which programs will be started.
    pub(super) fn several(mut sandbox: Sandbox, serving: Serving) -> io::Result<Self> {
        let programs = sandbox.programs.take();
        Ok(Self { end: sandbox.watch_end()?, serving, programs, members: Vec::new(), guests: Vec::new(), sandbox })
    }

    /// A new stream socket of the sandbox's own network, which does not block.
    pub(super) fn socket(&mut self) -> io::Result<OwnedFd> {
        let (domain, kind) = (libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK);
        match (&mut self.programs, self.serving.sockets()) {
            (Some(programs), _) => programs.socket(domain, kind, 0),
            (None, Some(sockets)) => sockets.socket(domain, kind, 0),
            (None, None) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Starts and ends programs, where there may be several.
    pub(super) fn programs(&mut self) -> Option<&mut Programs> {
        self.programs.as_mut()
    }

    /// Takes a program that was started, with the read end of its framed logs if it has any.
    pub(super) fn joined(&mut self, program: Program, started: Started, frames: Option<OwnedFd>) -> io::Result<()> {
        let logs = Logs::new(started.stdout, started.stderr, frames)?;
        self.members.push(Member { program, id: Some(started.id), logs });
        Ok(())
    }

    /// Starts a visitor's command, where there may be several.
    pub(super) fn enter(&mut self, guest: Guest, stay: Stay, program: &sandbox::Program) {
        let Some(programs) = &mut self.programs else { return };
        // Who has gone meanwhile need not know; its command ends by itself, or with the sandbox.
        let _ = guest.started.send(match programs.start_guest(program) {
            Ok(started) => {
                self.guests.push(Inmate { id: started.id, ended: guest.ended, _stay: stay });
                Ok(())
            }
            Err(error) => Err(error),
        });
    }

    /// Whether a visitor's command runs.
    pub(super) fn has_guests(&self) -> bool {
        !self.guests.is_empty()
    }

    /// Takes out a visitor's command that ended, if it was one.
    pub(super) fn guest_left(&mut self, end: ProgramEnd) -> bool {
        let Some(at) = self.guests.iter().position(|guest| guest.id == end.id) else { return false };
        let _ = self.guests.swap_remove(at).ended.send(end.ended);
        true
    }

    /// The sandbox's first process, as this machine sees it.
    pub(super) fn host_pid(&self) -> u32 {
        self.sandbox.host_pid()
    }

    /// Whether any of the function's programs runs.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// What stands around the sandbox.
    pub(super) fn enforcement(&self) -> &Enforcement {
        self.sandbox.enforcement()
    }

    /// The most memory seen in use until now.
    pub(super) fn peak_memory_bytes(&mut self) -> u64 {
        self.sandbox.peak_memory_bytes()
    }

    /// Waits until something happens; for output only if it is `wanted`. May be dropped and called anew at any time.
    pub(super) async fn happens(&mut self, output: Wanted) -> Happened {
        let Self { end, programs, members, .. } = self;
        tokio::select! {
            biased;
            // An error shows again when reaping.
            _ = end.readable() => Happened::Over,
            ended = next_end(programs) => ended.map_or(Happened::Over, Happened::Ended),
            (member, stream) = next_output(members), if output == Wanted::Yes => Happened::Output(member, stream),
        }
    }

    /// What a member that [has output](Happened::Output) wrote, and who it is.
    pub(super) fn take(&mut self, member: usize, stream: Stream, sink: impl FnMut(&Program, Piece)) {
        if let Some(Member { program, logs, .. }) = self.members.get_mut(member) {
            let mut sink = sink;
            logs.take(stream, |piece| sink(program, piece));
        }
    }

    /// Everything that was written until now.
    pub(super) fn drain(&mut self, mut sink: impl FnMut(&Program, Piece)) {
        for Member { program, logs, .. } in &mut self.members {
            logs.drain(|piece| sink(program, piece));
        }
    }

    /// Takes out a program that ended, after all that it wrote.
    pub(super) fn left(&mut self, id: ProgramId, mut sink: impl FnMut(&Program, Piece)) -> Option<Program> {
        let at = self.members.iter().position(|member| member.id == Some(id))?;
        let Member { program, mut logs, .. } = self.members.remove(at);
        logs.finish(|piece| sink(&program, piece));
        Some(program)
    }

    /// Takes out all programs, after all that they wrote: the sandbox is over.
    pub(super) fn all_left(&mut self, mut sink: impl FnMut(&Program, Piece)) -> Vec<Program> {
        let left = |Member { program, mut logs, .. }: Member| {
            logs.finish(|piece| sink(&program, piece));
            program
        };
        self.members.drain(..).map(left).collect()
    }

    /// Sends a signal to a program. One that has ended gets none.
    pub(super) fn signal(&mut self, program: &Program, signal: i32) -> io::Result<()> {
        let Some(member) = self.members.iter().find(|member| member.program == *program) else { return Ok(()) };
        match (member.id, &mut self.programs) {
            (Some(id), Some(programs)) => programs.signal(id, signal),
            _ => self.sandbox.signal(signal),
        }
    }

    /// Kills all programs but visitors'. Where there may be several the sandbox stays.
    pub(super) fn kill_all(&mut self) {
        let gone = match &mut self.programs {
            // At once: nobody has to be spared.
            Some(programs) if self.guests.is_empty() => programs.kill_all().is_err(),
            Some(programs) => programs.kill_others().is_err(),
            None => true,
        };
        if gone {
            self.kill();
        }
    }

    /// Kills the sandbox; [`Running::reap`] follows.
    pub(super) fn kill(&mut self) {
        self.sandbox.kill();
        self.serving.end();
    }

    /// Reaps the sandbox, with everything in it, and says how its first program ended. Waits if it has not.
    pub(super) async fn reap(&mut self) -> io::Result<RuntimeEnd> {
        let ended = self.sandbox.ended().await?;
        Ok(self.end_of(ended))
    }

    /// How a program ended, in the lifecycle's terms.
    pub(super) fn end_of(&self, ended: Ended) -> RuntimeEnd {
        match ended {
            _ if self.sandbox.killed_for_memory() => RuntimeEnd::OutOfMemory,
            Ended::Exited(status) => RuntimeEnd::Exited(status),
            Ended::Signaled { signal, core_dumped } => RuntimeEnd::Signaled { signal, core_dumped },
        }
    }
}

/// Whether output is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// It is.
    Yes,
    /// There is no room for it.
    No,
}

async fn next_end(programs: &mut Option<Programs>) -> Option<ProgramEnd> {
    match programs {
        Some(programs) => programs.ended().await.ok(),
        None => std::future::pending().await,
    }
}

async fn next_output(members: &[Member]) -> (usize, Stream) {
    match members {
        [] => std::future::pending().await,
        [only] => (0, only.logs.readable().await),
        members => {
            let waits = members.iter().enumerate().map(|(at, member)| Box::pin(async move { (at, member.logs.readable().await) }));
            let (first, ..) = pin!(select_all(waits)).await;
            first
        }
    }
}
