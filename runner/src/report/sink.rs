//! The way to stderr: a queue and the thread that empties it.
//!
//! A write to stderr may block for as long as its reader likes (a pipe nobody reads, a stopped terminal), and non-blocking mode would change the
//! descriptor for everybody who shares it. So one thread writes, and the task that watches the deadline never does.

use std::fmt;
use std::io::{self, IoSlice, Write};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use rustix::io::{ReadWriteFlags, pwritev2};
use tokio::sync::watch;

/// Above so many unwritten bytes the function's output stays in its pipes.
const ROOM_BYTES: u64 = 256 * 1024;
/// At most so many bytes per write, so that progress can be told from a standstill.
const WRITE_BYTES: usize = 16 * 1024;
/// How long the reader may take nothing before we go on without it.
const STALL: Duration = Duration::from_secs(2);

/// A queue of bytes and who writes them.
pub(super) struct Sink {
    writer: Writer,
    /// How many bytes were ever pushed, by all that share the queue.
    pushed: Arc<AtomicU64>,
    /// Where they go, for what can be written at once without waiting for anybody.
    direct: Option<Direct>,
}

/// A standard stream of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direct {
    Stdout,
    Stderr,
}

impl Direct {
    /// Writes what the kernel takes at once, and says how much that was: nothing where it cannot promise not to wait (RWF_NOWAIT in pwritev2(2)), as for
    /// terminals.
    fn write(self, bytes: &[u8]) -> usize {
        /// The present position.
        const HERE: u64 = u64::MAX;
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let stream = match self {
            Self::Stdout => stdout.as_fd(),
            Self::Stderr => stderr.as_fd(),
        };
        pwritev2(stream, &[IoSlice::new(bytes)], HERE, ReadWriteFlags::NOWAIT).unwrap_or(0)
    }
}

/// The writing thread is started by the first push.
enum Writer {
    Waiting(Option<Box<dyn Write + Send>>),
    /// The channel has no bound of its own: [`Sink::has_room`] bounds the function's output, the platform's lines are few.
    Running {
        queue: mpsc::Sender<Bytes>,
        written: watch::Receiver<u64>,
    },
}

impl Sink {
    pub(super) fn new(writer: Box<dyn Write + Send>) -> Self {
        Self { writer: Writer::Waiting(Some(writer)), pushed: Arc::default(), direct: None }
    }

    /// To a standard stream of ours.
    pub(super) fn standard(stream: Direct) -> Self {
        let writer: Box<dyn Write + Send> = match stream {
            Direct::Stdout => Box::new(io::stdout()),
            Direct::Stderr => Box::new(io::stderr()),
        };
        Self { direct: Some(stream), ..Self::new(writer) }
    }

    /// Another way into the same queue.
    pub(super) fn share(&mut self) -> Self {
        self.start();
        let writer = match &self.writer {
            Writer::Waiting(_) => Writer::Waiting(None),
            Writer::Running { queue, written } => Writer::Running { queue: queue.clone(), written: written.clone() },
        };
        Self { writer, pushed: Arc::clone(&self.pushed), direct: self.direct }
    }

    /// Queues bytes; never blocks.
    pub(super) fn push(&mut self, mut bytes: Bytes) {
        // A thread that has to be woken for each line costs more than the line.
        if let Some(direct) = self.direct.filter(|_| self.unwritten() == 0) {
            let written = direct.write(&bytes);
            let _ = bytes.split_to(written);
            if bytes.is_empty() {
                return;
            }
        }
        self.start();
        self.pushed.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if let Writer::Running { queue, .. } = &self.writer {
            // The thread ends only when the queue does.
            let _ = queue.send(bytes);
        }
    }

    fn start(&mut self) {
        if let Writer::Waiting(writer) = &mut self.writer
            && let Some(writer) = writer.take()
        {
            self.writer = start(writer);
        }
    }

    fn pushed(&self) -> u64 {
        self.pushed.load(Ordering::Relaxed)
    }

    pub(super) fn has_room(&self) -> bool {
        self.unwritten() < ROOM_BYTES
    }

    fn unwritten(&self) -> u64 {
        match &self.writer {
            Writer::Waiting(_) => 0,
            Writer::Running { written, .. } => self.pushed() - *written.borrow(),
        }
    }

    pub(super) async fn room(&mut self) {
        let pushed = Arc::clone(&self.pushed);
        if let Writer::Running { written, .. } = &mut self.writer {
            let _ = written.wait_for(|written| pushed.load(Ordering::Relaxed) - written < ROOM_BYTES).await;
        }
    }

    /// Waits until all is written, or nothing was for [`STALL`].
    pub(super) async fn flush(&mut self) {
        let pushed = self.pushed();
        let Writer::Running { written, .. } = &mut self.writer else {
            return;
        };
        while *written.borrow_and_update() < pushed {
            match tokio::time::timeout(STALL, written.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("pushed", &self.pushed()).field("unwritten", &self.unwritten()).finish()
    }
}

fn start(writer: Box<dyn Write + Send>) -> Writer {
    let (queue, bytes) = mpsc::channel();
    let (progress, written) = watch::channel(0);
    let thread = std::thread::Builder::new().name("report".to_owned()).spawn(move || write_all(writer, &bytes, &progress));
    match thread {
        Ok(_) => Writer::Running { queue, written },
        // No thread, no log: the result still comes.
        Err(_) => Writer::Waiting(None),
    }
}

/// Writes what comes until the queue ends. After an error (the reader is gone) it only counts.
fn write_all(mut writer: Box<dyn Write + Send>, queue: &mpsc::Receiver<Bytes>, progress: &watch::Sender<u64>) {
    let mut gone = false;
    for bytes in queue {
        for piece in bytes.chunks(WRITE_BYTES) {
            gone = gone || write_piece(&mut writer, piece).is_err();
            progress.send_modify(|written| *written += piece.len() as u64);
        }
    }
}

fn write_piece(writer: &mut dyn Write, piece: &[u8]) -> io::Result<()> {
    writer.write_all(piece)?;
    writer.flush()
}
