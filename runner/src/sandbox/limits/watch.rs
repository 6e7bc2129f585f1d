//! A thread beside a running sandbox that looks at its memory and kills it when that is too much.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::cgroup::kills;

/// Something to look at again and again.
pub(super) trait Gauge: Send + 'static {
    /// Looks once.
    fn look(&mut self) -> Look;
}

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// The memory in use, in bytes; 0 if nobody counted.
    pub(super) used_bytes: u64,
    pub(super) verdict: Verdict,
}

/// What follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Look again after this time.
    Within(Duration),
    /// It is too much: everything inside is to be killed.
    Over,
}

/// The thread. Dropped, it ends.
#[derive(Debug)]
pub(super) struct Watch {
    seen: Arc<Seen>,
    // Nothing is sent: its end tells the thread to end.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    peak_bytes: AtomicU64,
    killed: AtomicBool,
}

impl Watch {
    /// Starts watching; `kill` kills everything inside, and fails if it has ended.
    pub(super) fn start(mut gauge: impl Gauge, kill: impl Fn() -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        // Holds nothing, ever.
        let (stop, stopped) = channel::<()>();
        let thread = thread::Builder::new().name("memory-watch".into()).stack_size(256 << 10).spawn(move || {
            loop {
                let Look { used_bytes, verdict } = gauge.look();
                shared.peak_bytes.fetch_max(used_bytes, Ordering::Relaxed);
                match verdict {
                    Verdict::Over => {
                        // Before: whoever waits for the end may see it while others are still being killed. The end itself must be by this signal.
                        shared.killed.store(true, Ordering::Release);
                        // Fails only when it has ended.
                        let _ = kill();
                        return;
                    }
                    Verdict::Within(pause) => {
                        if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                            return;
                        }
                    }
                }
            }
        })?;
        Ok(Self { seen, stop: Some(stop), thread: Some(thread) })
    }

    /// What was in use when it killed; before, pages that several processes share count for each, which tells nothing.
    pub(super) fn passed_bytes(&self) -> Option<u64> {
        self.has_killed().then(|| self.seen.peak_bytes.load(Ordering::Relaxed))
    }

    /// Whether it has killed.
    pub(super) fn has_killed(&self) -> bool {
        self.seen.killed.load(Ordering::Acquire)
    }

    /// Ends it, and says whether it killed.
    pub(super) fn stop(mut self) -> bool {
        self.end();
        self.has_killed()
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has no panic to tell of.
            let _ = thread.join();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

/// The kernel's count of kills in a cgroup, where it kills one process at a time: the others follow, as they do on Lambda.
pub(super) struct KernelKills {
    file: PathBuf,
}

impl KernelKills {
    const PAUSE: Duration = Duration::from_millis(20);

    pub(super) fn new(file: PathBuf) -> Self {
        Self { file }
    }
}

impl Gauge for KernelKills {
    fn look(&mut self) -> Look {
        let verdict = if kills(&self.file).unwrap_or(0) > 0 { Verdict::Over } else { Verdict::Within(Self::PAUSE) };
        Look { used_bytes: 0, verdict }
    }
}
