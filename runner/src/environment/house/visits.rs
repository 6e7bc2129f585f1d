//! Visitors in the house, and what they do there.

use super::{Coming, House, Living, Running};
use crate::environment::EnvironmentError;
use crate::environment::visit::Waiting;
use crate::sandbox::LaunchError;

impl House<'_> {
    /// Lets a visitor into the sandbox; one that has nothing else in it, if there was none.
    pub(in crate::environment) fn enter(&mut self, visitor: Waiting) -> Result<(), EnvironmentError> {
        if let Some(coming) = &mut self.coming {
            coming.visitors.push(visitor);
            return Ok(());
        }
        match (&mut self.running, self.living, visitor) {
            (Some(running), _, Waiting::Guest(mut guest, stay)) => {
                let program = self.blueprint.guest(&mut guest);
                running.enter(*guest, stay, &program);
            }
            // Nobody may be looking any more.
            (Some(running), _, Waiting::Onlooker(to)) => drop(to.send(running.host_pid())),
            // Nobody can come where the sandbox ends with its only program.
            (None, Living::Alone, _) => {}
            (None, Living::Together, visitor) => match self.begin_launch()? {
                Ok(sandbox) => self.coming = Some(Coming { sandbox, programs: Vec::new(), visitors: vec![visitor] }),
                Err(error) => turn_away(vec![visitor], error),
            },
        }
        Ok(())
    }

    /// The sandbox's first process, as this machine sees it, if there is a sandbox.
    pub(in crate::environment) fn host_pid(&self) -> Option<u32> {
        self.running.as_ref().map(Running::host_pid)
    }

    /// Stops all programs, a visitor's among them.
    pub(in crate::environment) fn pause(&mut self) {
        if let Some(programs) = self.running.as_mut().and_then(Running::programs) {
            // What cannot be stopped goes on; what it asks for is not heard meanwhile.
            let _ = programs.stop_all();
        }
    }

    /// Lets all programs go on, but those that were stopped before.
    pub(in crate::environment) fn resume(&mut self) {
        if let Some(programs) = self.running.as_mut().and_then(Running::programs).filter(|_| !self.frozen) {
            let _ = programs.continue_all();
        }
    }
}

/// There is no sandbox for these visitors: the first command is told why, whoever else waits is told nothing.
pub(super) fn turn_away(visitors: Vec<Waiting>, error: LaunchError) {
    let first = visitors.into_iter().find_map(|visitor| match visitor {
        Waiting::Guest(guest, _) => Some(guest),
        Waiting::Onlooker(_) => None,
    });
    if let Some(first) = first {
        let _ = first.started.send(Err(error));
    }
}
