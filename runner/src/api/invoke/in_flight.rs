//! Whether anything of a connection is in flight: a request that is being answered, an answer that has not left, bytes that its client has not taken.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use hyper::body::{Frame, SizeHint};
use hyper::rt::{Read, ReadBufCursor, Write};

/// What is in flight of one connection. All that look at it are polled by one task.
#[derive(Debug, Clone, Default)]
pub(super) struct InFlight(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    calls: AtomicUsize,
    has_unsent: AtomicBool,
}

/// One call, until it is dropped.
#[derive(Debug)]
pub(super) struct Call(InFlight);

impl InFlight {
    pub(super) fn call(&self) -> Call {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        Call(self.clone())
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.0.calls.load(Ordering::Relaxed) == 0 && !self.0.has_unsent.load(Ordering::Relaxed)
    }

    /// A connection's bytes, watched.
    pub(super) fn watch<T>(&self, io: T) -> Watched<T> {
        Watched { io, in_flight: self.clone() }
    }

    fn note<T>(&self, polled: Poll<T>) -> Poll<T> {
        self.0.has_unsent.store(polled.is_pending(), Ordering::Relaxed);
        polled
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Call {
    /// An answer that belongs to the call.
    pub(super) fn with<B>(self, body: B) -> Answering<B> {
        Answering { body, _call: self }
    }
}

/// The body of an answer; the call ends with it.
#[derive(Debug)]
pub(super) struct Answering<B> {
    body: B,
    _call: Call,
}

impl<B: hyper::body::Body + Unpin> hyper::body::Body for Answering<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection's bytes; those that its client does not take are in flight.
#[derive(Debug)]
pub(super) struct Watched<T> {
    io: T,
    in_flight: InFlight,
}

impl<T: Read + Unpin> Read for Watched<T> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(context, buffer)
    }
}

impl<T: Write + Unpin> Write for Watched<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { io, in_flight } = self.get_mut();
        in_flight.note(Pin::new(io).poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let Self { io, in_flight } = self.get_mut();
        in_flight.note(Pin::new(io).poll_write_vectored(context, bytes))
    }
}
