//! Who is told that a run is under way, and where its published ports are; and who visits what runs then.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::environment::Visit;

/// Nobody, or who supervises the run under the face of docker.
#[derive(Debug, Clone, Default)]
pub struct Underway(Option<Supervisor>);

/// A run has begun.
#[derive(Debug)]
pub(super) struct Begun {
    /// These addresses lead to these ports inside.
    pub(super) ports: Vec<(SocketAddr, u16)>,
    /// Dropped as soon as it is noted, and others can see it.
    pub(super) noted: Sender<Infallible>,
}

#[derive(Debug, Clone)]
struct Supervisor {
    told: Sender<Begun>,
    /// Where its visits go: of several attempts, to the last one.
    visits: Arc<Mutex<Option<UnboundedSender<Visit>>>>,
}

impl Underway {
    /// Tells this one. One message a run.
    pub(super) fn to(told: Sender<Begun>) -> Self {
        Self(Some(Supervisor { told, visits: Arc::default() }))
    }

    /// It is: these addresses lead to these ports inside. Returns once that is noted: who then hears of the run finds it so.
    pub(super) fn tell(&self, ports: impl IntoIterator<Item = (SocketAddr, u16)>) {
        if let Some(Supervisor { told, .. }) = &self.0 {
            let (noted, hears) = channel();
            if told.send(Begun { ports: ports.into_iter().collect(), noted }).is_ok() {
                let _ = hears.recv();
            }
        }
    }

    /// Where visits come from now on, if there may be any. Unbounded: who visits waits for what comes of it.
    pub(super) fn visits(&self) -> Option<UnboundedReceiver<Visit>> {
        let Supervisor { visits: place, .. } = self.0.as_ref()?;
        let (to, visits) = unbounded_channel();
        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(to);
        Some(visits)
    }

    /// Brings a visit to what runs. False if that cannot be visited, or is over.
    pub(super) fn visit(&self, visit: Visit) -> bool {
        let Some(Supervisor { visits, .. }) = &self.0 else { return false };
        let to = visits.lock().unwrap_or_else(PoisonError::into_inner).clone();
        to.is_some_and(|to| to.send(visit).is_ok())
    }

    /// Whether what we would say of ourselves goes there.
    pub(super) fn is_told(&self) -> bool {
        self.0.is_some()
    }
}
