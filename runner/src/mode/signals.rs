//! The signals that end a run: once they are listened to, they no longer kill this process, and the run is cleared away first.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The ends of a run from outside. A hang-up that was ignored when we were started (`nohup`) stays ignored. An interrupt does not: shells start the
/// background jobs of their scripts with it ignored, and whoever sends it to one of them by its id means it.
#[derive(Debug)]
pub(super) struct Signals([Option<Signal>; 4]);

impl Signals {
    /// Starts listening.
    pub(super) fn listen() -> io::Result<Self> {
        let ignored = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| ignored(&status)).unwrap_or(0);
        let unless_ignored = |kind: SignalKind| (ignored >> (kind.as_raw_value() - 1) & 1 == 0).then(|| signal(kind)).transpose();
        Ok(Self([
            Some(signal(SignalKind::interrupt())?),
            Some(signal(SignalKind::terminate())?),
            unless_ignored(SignalKind::hangup())?,
            Some(signal(SignalKind::quit())?),
        ]))
    }

    /// Listens to none: the process is not ours, and what its signals mean is not ours to decide.
    pub(super) fn none() -> Self {
        Self([None, None, None, None])
    }

    /// The number of the next one.
    pub(super) async fn next(&mut self) -> i32 {
        let [interrupt, terminate, hangup, quit] = &mut self.0;
        let kind = tokio::select! {
            () = comes(interrupt) => SignalKind::interrupt(),
            () = comes(terminate) => SignalKind::terminate(),
            () = comes(hangup) => SignalKind::hangup(),
            () = comes(quit) => SignalKind::quit(),
        };
        kind.as_raw_value()
    }
}

async fn comes(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Whether a terminal controls this process, as it was at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terminal {
    was_there: bool,
}

impl Terminal {
    /// What there is now.
    pub(super) fn now() -> Self {
        Self { was_there: open_terminal().is_ok() }
    }

    /// Whether there was one, and it is dead: a hang-up tells of that then. Who was started without one (`setsid`, a service) is never told.
    pub(super) fn is_dead(self) -> bool {
        let dead = [Some(libc::ENXIO), Some(libc::EIO)];
        self.was_there && open_terminal().is_err_and(|error| dead.contains(&error.raw_os_error()))
    }
}

/// The one that controls us: ENXIO if there is none (tty(4)).
fn open_terminal() -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK).open("/dev/tty")
}

/// The mask of ignored signals in `/proc/self/status`: bit 0 is signal 1 (proc_pid_status(5)).
fn ignored(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals() {
        assert_eq!(ignored("SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t00\n"), Some(0x1001));
        assert_eq!(ignored("Name:\tx\n"), None);
    }
}
