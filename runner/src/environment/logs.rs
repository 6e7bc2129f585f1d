//! The function's output on its way from the sandbox's pipes to the report.
//!
//! Nothing is kept here: what the report has no room for stays in the pipes, and the function waits. Streams that share one pipe keep the order of
//! their writes; of two pipes nobody can tell it.

use std::io;
use std::os::fd::OwnedFd;

use tokio::net::unix::pipe::Receiver;

use crate::report::OutputStream as Stream;

/// At most so many bytes are taken at a time.
const CHUNK_BYTES: usize = 16 * 1024;
/// At most so many bytes are drained from one pipe while its writers live: as much as the largest pipe an ordinary user may make.
const DRAIN_BYTES: usize = 1024 * 1024;

/// The read ends of a sandbox's output.
#[derive(Debug)]
pub(super) struct Logs {
    // `None` once the writers are gone.
    stdout: Option<Receiver>,
    stderr: Option<Receiver>,
    buffer: Box<[u8]>,
}

impl Logs {
    /// Takes over the pipes of a sandbox. Must be called within a tokio runtime.
    pub(super) fn new(stdout: Option<OwnedFd>, stderr: Option<OwnedFd>) -> io::Result<Self> {
        let receiver = |pipe: Option<OwnedFd>| pipe.map(Receiver::from_owned_fd).transpose();
        Ok(Self { stdout: receiver(stdout)?, stderr: receiver(stderr)?, buffer: vec![0; CHUNK_BYTES].into() })
    }

    /// Waits until a stream has output, or has just ended. Never answers once both have. May be dropped and called anew at any time.
    pub(super) async fn readable(&self) -> Stream {
        tokio::select! {
            () = readable(&self.stdout) => Stream::Stdout,
            () = readable(&self.stderr) => Stream::Stderr,
        }
    }

    /// What a stream that was [readable](Self::readable) has.
    pub(super) fn take(&mut self, stream: Stream) -> Option<Vec<u8>> {
        let (receiver, buffer) = self.part(stream);
        let read = receiver.as_ref()?.try_read(buffer);
        taken(read, receiver, buffer)
    }

    /// Everything that is in the pipes now, given to `sink` in pieces.
    pub(super) fn drain(&mut self, mut sink: impl FnMut(Stream, Vec<u8>)) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut drained = 0;
            while drained < DRAIN_BYTES
                && let Some(bytes) = self.take_now(stream)
            {
                drained += bytes.len();
                sink(stream, bytes);
            }
        }
    }

    /// Asks the kernel, since tokio's own reads go by what it last heard.
    fn take_now(&mut self, stream: Stream) -> Option<Vec<u8>> {
        let (receiver, buffer) = self.part(stream);
        let read = nix::unistd::read(receiver.as_ref()?, buffer).map_err(io::Error::from);
        taken(read, receiver, buffer)
    }

    fn part(&mut self, stream: Stream) -> (&mut Option<Receiver>, &mut [u8]) {
        let receiver = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        (receiver, &mut self.buffer)
    }
}

fn taken(read: io::Result<usize>, receiver: &mut Option<Receiver>, buffer: &[u8]) -> Option<Vec<u8>> {
    match read {
        Ok(length @ 1..) => Some(buffer[..length].to_vec()),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => None,
        Ok(0) | Err(_) => {
            *receiver = None;
            None
        }
    }
}

async fn readable(stream: &Option<Receiver>) {
    match stream {
        // An error shows again when reading.
        Some(stream) => drop(stream.readable().await),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn pipes() -> (Logs, io::PipeWriter, io::PipeWriter) {
        let (stdout, out) = io::pipe().unwrap();
        let (stderr, err) = io::pipe().unwrap();
        (Logs::new(Some(stdout.into()), Some(stderr.into())).unwrap(), out, err)
    }

    fn drained(logs: &mut Logs) -> Vec<u8> {
        let mut all = Vec::new();
        logs.drain(|_, bytes| all.extend(bytes));
        all
    }

    #[tokio::test]
    async fn reads_either_stream_and_survives_the_end_of_one() {
        let (mut logs, mut out, mut err) = pipes();
        err.write_all(b"e\r\0\xff").unwrap();
        assert_eq!(logs.readable().await, Stream::Stderr);
        assert_eq!(logs.take(Stream::Stderr).unwrap(), b"e\r\0\xff");
        drop(err);
        assert_eq!(logs.readable().await, Stream::Stderr);
        assert_eq!(logs.take(Stream::Stderr), None);
        out.write_all(b"o").unwrap();
        assert_eq!(logs.readable().await, Stream::Stdout);
        assert_eq!(logs.take(Stream::Stdout).unwrap(), b"o");
    }

    #[tokio::test]
    async fn drains_what_is_there_and_no_more() {
        let (mut logs, mut out, mut err) = pipes();
        assert_eq!(drained(&mut logs), b"");
        out.write_all(&[b'o'; 60_000]).unwrap();
        err.write_all(b"e").unwrap();
        let all = drained(&mut logs);
        assert_eq!((all.len(), all.last()), (60_001, Some(&b'e')));
        out.write_all(b"last").unwrap();
        drop((out, err));
        assert_eq!(drained(&mut logs), b"last");
        assert_eq!(drained(&mut logs), b"");
    }

    #[tokio::test]
    async fn no_pipes_no_output() {
        let mut logs = Logs::new(None, None).unwrap();
        assert_eq!(drained(&mut logs), b"");
    }
}
