//! Who is told that a run is under way, and where its published ports are.

use std::net::SocketAddr;
use std::sync::mpsc::Sender;

/// Nobody, or who supervises the run under the face of docker.
#[derive(Debug, Clone, Default)]
pub struct Underway(Option<Sender<Vec<(SocketAddr, u16)>>>);

impl Underway {
    /// Tells this one. One message a run, and nobody waits for it to be read.
    pub(super) fn to(told: Sender<Vec<(SocketAddr, u16)>>) -> Self {
        Self(Some(told))
    }

    /// It is: these addresses lead to these ports inside.
    pub(super) fn tell(&self, ports: impl IntoIterator<Item = (SocketAddr, u16)>) {
        if let Some(told) = &self.0 {
            let _ = told.send(ports.into_iter().collect());
        }
    }

    /// Whether what we would say of ourselves goes there.
    pub(super) fn is_told(&self) -> bool {
        self.0.is_some()
    }
}
