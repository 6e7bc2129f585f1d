//! The output of one program on its way from the sandbox's pipes to the report.
//!
//! Nothing is kept here but an unfinished frame: what the report has no room for stays in the pipes, and the program waits. Streams that share one pipe
//! keep the order of their writes; of two pipes nobody can tell it.

use std::io;
use std::os::fd::OwnedFd;

use tokio::net::unix::pipe::Receiver;

use super::log_frames::{LogFrames, LogRecord, Logged};
use crate::report::OutputStream;

/// At most so many bytes are taken at a time.
const CHUNK_BYTES: usize = 16 * 1024;
/// At most so many bytes are drained from one pipe while its writers live: as much as the largest pipe an ordinary user may make.
const DRAIN_BYTES: usize = 1024 * 1024;

/// Which of a program's pipes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// Standard output, and perhaps error.
    Stdout,
    /// Standard error.
    Stderr,
    /// Framed records.
    Frames,
}

/// Something a program wrote.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Bytes of a stream.
    Plain(OutputStream, Vec<u8>),
    /// A framed record, or a part of it.
    Record(LogRecord),
}

/// The read ends of a program's output.
#[derive(Debug)]
pub(super) struct Logs {
    // `None` once the writers are gone.
    stdout: Option<Receiver>,
    stderr: Option<Receiver>,
    framed: Option<Receiver>,
    frames: LogFrames,
    buffer: Box<[u8]>,
}

impl Logs {
    /// Takes over the pipes of a program. Must be called within a tokio runtime.
    pub(super) fn new(stdout: Option<OwnedFd>, stderr: Option<OwnedFd>, framed: Option<OwnedFd>) -> io::Result<Self> {
        let receiver = |pipe: Option<OwnedFd>| pipe.map(Receiver::from_owned_fd).transpose();
        Ok(Self {
            stdout: receiver(stdout)?,
            stderr: receiver(stderr)?,
            framed: receiver(framed)?,
            frames: LogFrames::default(),
            buffer: vec![0; CHUNK_BYTES].into(),
        })
    }

    /// Waits until a stream has output, or has just ended. Never answers once all have. May be dropped and called anew at any time.
    pub(super) async fn readable(&self) -> Stream {
        tokio::select! {
            biased;
            () = readable(&self.stdout) => Stream::Stdout,
            () = readable(&self.stderr) => Stream::Stderr,
            // Last, since what a runtime says of a failure comes after what the handler printed.
            () = readable(&self.framed) => Stream::Frames,
        }
    }

    /// What a stream that was [readable](Self::readable) has.
    pub(super) fn take(&mut self, stream: Stream, sink: impl FnMut(Piece)) {
        let (receiver, buffer) = self.part(stream);
        let Some(read) = receiver.as_ref().map(|receiver| receiver.try_read(buffer)) else { return };
        self.taken(stream, read, sink);
    }

    /// Everything that is in the pipes now, given to `sink` in pieces.
    pub(super) fn drain(&mut self, mut sink: impl FnMut(Piece)) {
        for stream in [Stream::Stdout, Stream::Stderr, Stream::Frames] {
            let mut drained = 0;
            while drained < DRAIN_BYTES
                && let Some(length) = self.take_now(stream, &mut sink)
            {
                drained += length;
            }
        }
    }

    /// Everything that is left of a program that has ended.
    pub(super) fn finish(&mut self, mut sink: impl FnMut(Piece)) {
        self.drain(&mut sink);
        self.frames.finish(|logged| sink(piece(logged)));
    }

    /// Asks the kernel, since tokio's own reads go by what it last heard. How many bytes it had; none if there is nothing now.
    fn take_now(&mut self, stream: Stream, sink: impl FnMut(Piece)) -> Option<usize> {
        let (receiver, buffer) = self.part(stream);
        let read = nix::unistd::read(receiver.as_ref()?, buffer).map_err(io::Error::from);
        self.taken(stream, read, sink)
    }

    fn part(&mut self, stream: Stream) -> (&mut Option<Receiver>, &mut [u8]) {
        let receiver = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
            Stream::Frames => &mut self.framed,
        };
        (receiver, &mut self.buffer)
    }

    fn taken(&mut self, stream: Stream, read: io::Result<usize>, mut sink: impl FnMut(Piece)) -> Option<usize> {
        match read {
            Ok(length @ 1..) => {
                let bytes = &self.buffer[..length];
                match stream {
                    Stream::Stdout => sink(Piece::Plain(OutputStream::Stdout, bytes.to_vec())),
                    Stream::Stderr => sink(Piece::Plain(OutputStream::Stderr, bytes.to_vec())),
                    Stream::Frames => self.frames.push(bytes, |logged| sink(piece(logged))),
                }
                Some(length)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => None,
            Ok(0) | Err(_) => {
                *self.part(stream).0 = None;
                None
            }
        }
    }
}

/// What is no frame was meant for the log all the same.
fn piece(logged: Logged) -> Piece {
    match logged {
        Logged::Record(record) => Piece::Record(record),
        Logged::Plain(bytes) => Piece::Plain(OutputStream::Stdout, bytes),
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
        (Logs::new(Some(stdout.into()), Some(stderr.into()), None).unwrap(), out, err)
    }

    fn bytes(piece: Piece) -> Vec<u8> {
        match piece {
            Piece::Plain(_, bytes) => bytes,
            Piece::Record(record) => record.message,
        }
    }

    fn drained(logs: &mut Logs) -> Vec<u8> {
        let mut all = Vec::new();
        logs.drain(|piece| all.extend(bytes(piece)));
        all
    }

    fn taken(logs: &mut Logs, stream: Stream) -> Option<Vec<u8>> {
        let mut all = None;
        logs.take(stream, |piece| all = Some(bytes(piece)));
        all
    }

    #[tokio::test]
    async fn reads_either_stream_and_survives_the_end_of_one() {
        let (mut logs, mut out, mut err) = pipes();
        err.write_all(b"e\r\0\xff").unwrap();
        assert_eq!(logs.readable().await, Stream::Stderr);
        assert_eq!(taken(&mut logs, Stream::Stderr).unwrap(), b"e\r\0\xff");
        drop(err);
        assert_eq!(logs.readable().await, Stream::Stderr);
        assert_eq!(taken(&mut logs, Stream::Stderr), None);
        out.write_all(b"o").unwrap();
        assert_eq!(logs.readable().await, Stream::Stdout);
        assert_eq!(taken(&mut logs, Stream::Stdout).unwrap(), b"o");
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
    async fn frames_are_records_and_the_unfinished_one_comes_at_the_end() {
        let (framed, mut writer) = io::pipe().unwrap();
        let mut logs = Logs::new(None, None, Some(framed.into())).unwrap();
        let frame = |message: &[u8]| {
            let head = [&0xa55a_0003_u32.to_be_bytes()[..], &(message.len() as u32).to_be_bytes(), &1_000_000_u64.to_be_bytes()];
            [&head.concat(), message].concat()
        };
        writer.write_all(&frame(b"two\nlines")).unwrap();
        let half = frame(b"unfinished");
        writer.write_all(&half[..half.len() - 2]).unwrap();
        assert_eq!(logs.readable().await, Stream::Frames);
        assert_eq!(drained(&mut logs), b"two\nlines");
        drop(writer);
        let mut rest = Vec::new();
        logs.finish(|piece| rest.extend(bytes(piece)));
        assert_eq!(rest, b"unfinish");
    }

    #[tokio::test]
    async fn no_pipes_no_output() {
        let mut logs = Logs::new(None, None, None).unwrap();
        assert_eq!(drained(&mut logs), b"");
    }
}
