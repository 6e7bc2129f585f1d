//! An answer that comes in parts, put together for those who want it whole.

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::lambda::MAX_PAYLOAD_BYTES;

/// The parts that have come, and where others come from.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Of a call that has not been let in yet.
    offered: Option<mpsc::Receiver<Bytes>>,
    parts: Option<mpsc::Receiver<Bytes>>,
    collected: BytesMut,
}

/// Whether a part could be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Added,
    TooLarge,
}

impl Stream {
    /// The parts that belong to the call that comes next.
    pub(super) fn offer(&mut self, parts: Option<mpsc::Receiver<Bytes>>) {
        self.offered = parts;
    }

    /// The parts of that call, for somebody else.
    pub(super) fn take_offered(&mut self) -> Option<mpsc::Receiver<Bytes>> {
        self.offered.take()
    }

    /// That call was let in.
    pub(super) fn begin(&mut self) {
        self.parts = self.offered.take();
        self.collected.clear();
    }

    /// The next part; `None` when there are no more. Never answers if nothing is streamed. May be dropped and called anew at any time.
    pub(super) async fn part(&mut self) -> Option<Bytes> {
        match &mut self.parts {
            Some(parts) => parts.recv().await,
            None => std::future::pending().await,
        }
    }

    /// Adds a part, unless there would be more than an answer may have.
    pub(super) fn take(&mut self, part: Option<Bytes>) -> Taken {
        match part {
            None => self.parts = None,
            Some(part) if self.collected.len() + part.len() > MAX_PAYLOAD_BYTES => {
                // What else comes is thrown away by its sender.
                (self.parts, self.collected) = (None, BytesMut::new());
                return Taken::TooLarge;
            }
            Some(part) => self.collected.extend_from_slice(&part),
        }
        Taken::Added
    }

    /// All of it, with what is still on its way.
    pub(super) fn end(&mut self) -> Bytes {
        while let Some(part) = self.parts.as_mut().and_then(|parts| parts.try_recv().ok()) {
            self.take(Some(part));
        }
        self.parts = None;
        std::mem::take(&mut self.collected).freeze()
    }
}
