//! What visitors are done for, and how all stands still until one of them says otherwise.

use std::future::Future;
use std::pin::Pin;

use super::Environment;
use crate::environment::EnvironmentError;
use crate::environment::visit::{Stay, Visit, Waiting};

impl Environment<'_> {
    /// Does what a visitor wants.
    pub(super) fn visit(&mut self, visit: Visit, stay: Stay) -> Result<(), EnvironmentError> {
        match visit {
            Visit::Enter(guest) => self.house.enter(Waiting::Guest(guest, stay))?,
            Visit::Open(to) => self.house.enter(Waiting::Onlooker(to))?,
            Visit::Pause(_done) => {
                self.house.pause();
                self.paused = true;
            }
            Visit::Resume(_done) => {
                self.house.resume();
                self.paused = false;
            }
            Visit::Look(to) => {
                if let Some(first) = self.house.host_pid() {
                    // Nobody may be looking any more.
                    let _ = to.send(first);
                }
            }
        }
        Ok(())
    }

    /// Hears nobody but visitors, until one lets all go on or there are none any more. The signal of `stop`, if that ends it before.
    pub(super) async fn stand_still(&mut self, stop: &mut Pin<&mut impl Future<Output = i32>>) -> Result<Option<i32>, EnvironmentError> {
        while self.paused {
            tokio::select! {
                biased;
                signal = &mut *stop => return Ok(Some(signal)),
                knock = self.visits.next() => match knock {
                    Some((visit, stay)) => self.visit(visit, stay)?,
                    None => {
                        self.house.resume();
                        self.paused = false;
                    }
                },
            }
        }
        Ok(None)
    }
}
