//! Visitors in the house, and what they do there.

use super::{Coming, House, Living, Running};
use crate::environment::EnvironmentError;
use crate::environment::visit::{Guest, Stay};
use crate::sandbox::LaunchError;

impl House<'_> {
    /// Starts a visitor's command, in a sandbox that may have nothing else in it.
    pub(in crate::environment) fn enter(&mut self, mut guest: Guest, stay: Stay) -> Result<(), EnvironmentError> {
        if let Some(coming) = &mut self.coming {
            coming.guests.push((guest, stay));
            return Ok(());
        }
        match (&mut self.running, self.living) {
            (Some(running), _) => {
                let program = self.blueprint.guest(&mut guest);
                running.enter(guest, stay, &program);
            }
            // Nobody can come where the sandbox ends with its only program.
            (None, Living::Alone) => {}
            (None, Living::Together) => match self.begin_launch()? {
                Ok(sandbox) => self.coming = Some(Coming { sandbox, programs: Vec::new(), guests: vec![(guest, stay)] }),
                Err(error) => turn_away(vec![(guest, stay)], error),
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

/// Tells visitors that there is no sandbox for them: the first one why.
pub(super) fn turn_away(guests: Vec<(Guest, Stay)>, error: LaunchError) {
    if let Some((first, _)) = guests.into_iter().next() {
        let _ = first.started.send(Err(error));
    }
}
