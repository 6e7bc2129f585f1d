//! The way to stderr: a queue and the thread that empties it.
//!
//! A write to stderr may block for as long as its reader likes (a pipe nobody reads, a stopped terminal), and non-blocking mode would change the
//! descriptor for everybody who shares it. So one thread writes, and the task that watches the deadline never does.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
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
        Self { writer: Writer::Waiting(Some(writer)), pushed: Arc::default() }
    }

    /// Another way into the same queue.
    pub(super) fn share(&mut self) -> Self {
        self.start();
        let writer = match &self.writer {
            Writer::Waiting(_) => Writer::Waiting(None),
            Writer::Running { queue, written } => Writer::Running { queue: queue.clone(), written: written.clone() },
        };
        Self { writer, pushed: Arc::clone(&self.pushed) }
    }

    /// Queues bytes; never blocks.
    pub(super) fn push(&mut self, bytes: Bytes) {
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
