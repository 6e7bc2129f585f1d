//! The signals that end a run: once they are listened to, they no longer kill this process, and the run is cleared away first.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that have come and were not yet taken.
#[derive(Debug)]
pub(super) struct Signals([Signal; 4]);

const ENDING: [SignalKind; 4] = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];

impl Signals {
    /// Starts listening.
    pub(super) fn listen() -> io::Result<Self> {
        let [interrupt, terminate, hangup, quit] = ENDING;
        Ok(Self([signal(interrupt)?, signal(terminate)?, signal(hangup)?, signal(quit)?]))
    }

    /// The number of the next one.
    pub(super) async fn next(&mut self) -> i32 {
        let [interrupt, terminate, hangup, quit] = &mut self.0;
        let kind = tokio::select! {
            _ = interrupt.recv() => SignalKind::interrupt(),
            _ = terminate.recv() => SignalKind::terminate(),
            _ = hangup.recv() => SignalKind::hangup(),
            _ = quit.recv() => SignalKind::quit(),
        };
        kind.as_raw_value()
    }
}
