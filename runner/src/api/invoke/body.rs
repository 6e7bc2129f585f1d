//! Bodies of answers: whole, or made of a function's parts as they come. A client that is slow to read slows the function, since parts are asked for
//! one by one.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::mpsc;

use super::StreamPart;
use super::event_stream::{self, Completion, MAX_CHUNK_BYTES};

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Body {
    Whole(Bytes),
    /// Frames of an event stream.
    Frames(Frames),
    /// The bytes as they are.
    Raw(Raw),
}

/// The answer broke off. Ends the connection, which is how the client learns of it.
#[derive(Debug, thiserror::Error)]
#[error("the function's answer was cut")]
pub(super) struct Cut;

/// A function's answer in frames.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes that have come and not left.
    held: Bytes,
    rest: Rest,
}

#[derive(Debug)]
enum Rest {
    Parts(mpsc::Receiver<StreamPart>),
    End(Completion),
    Broken(Breaking),
    Nothing,
}

/// A break on its way to the connection. Bytes that were given before are in a buffer of the connection's, which the break would throw away; it is
/// emptied when there is nothing to send for a moment.
#[derive(Debug, Default)]
struct Breaking {
    has_paused: bool,
}

impl Breaking {
    fn poll(&mut self, context: &Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        if std::mem::replace(&mut self.has_paused, true) {
            return Poll::Ready(Some(Err(Cut)));
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A function's answer as it is.
#[derive(Debug)]
pub(super) struct Raw {
    held: Bytes,
    parts: mpsc::Receiver<StreamPart>,
    ended: bool,
    broken: Option<Breaking>,
}

impl Frames {
    /// Those of an answer that comes in parts.
    pub(super) fn of_parts(parts: mpsc::Receiver<StreamPart>) -> Self {
        Self { held: Bytes::new(), rest: Rest::Parts(parts) }
    }

    /// Those of an answer that is there.
    pub(super) fn of_whole(payload: Bytes, completion: Completion) -> Self {
        Self { held: payload, rest: Rest::End(completion) }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        loop {
            if !self.held.is_empty() {
                let chunk = self.held.split_to(self.held.len().min(MAX_CHUNK_BYTES));
                return Poll::Ready(Some(Ok(event_stream::payload_chunk(&chunk))));
            }
            match &mut self.rest {
                Rest::Parts(parts) => match ready!(parts.poll_recv(context)) {
                    Some(StreamPart::Data(data)) => self.held = data,
                    Some(StreamPart::End { error, log_tail }) => {
                        self.rest = Rest::End(Completion { error: error.map(|(_, json)| json), log_tail });
                    }
                    None => self.rest = Rest::Broken(Breaking::default()),
                },
                Rest::Broken(breaking) => return breaking.poll(context),
                Rest::End(completion) => {
                    let last = event_stream::invoke_complete(completion);
                    self.rest = Rest::Nothing;
                    return Poll::Ready(Some(Ok(last)));
                }
                Rest::Nothing => return Poll::Ready(None),
            }
        }
    }
}

impl Raw {
    /// What is there already, and the parts that follow.
    pub(super) fn new(held: Bytes, parts: mpsc::Receiver<StreamPart>, ended: bool) -> Self {
        Self { held, parts, ended, broken: None }
    }

    /// A function that fails on its way can be told by nothing but the cut.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        loop {
            if !self.held.is_empty() {
                return Poll::Ready(Some(Ok(std::mem::take(&mut self.held))));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            if let Some(breaking) = &mut self.broken {
                return breaking.poll(context);
            }
            match ready!(self.parts.poll_recv(context)) {
                Some(StreamPart::Data(data)) => self.held = data,
                Some(StreamPart::End { error: None, .. }) => self.ended = true,
                Some(StreamPart::End { error: Some(_), .. }) | None => self.broken = Some(Breaking::default()),
            }
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let polled = match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(std::mem::take(bytes)))),
            Self::Frames(frames) => frames.poll(context),
            Self::Raw(raw) => raw.poll(context),
        };
        polled.map(|next| next.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Frames(_) => false,
            Self::Raw(raw) => raw.ended && raw.held.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Frames(_) | Self::Raw(_) => SizeHint::default(),
        }
    }
}
