//! The invocation in hand: who waits for its answer and for its end, and how an answer in parts gets there.

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::handle::{Answer, Broken, Finished, Part, Work};
use super::stream::{Stream, Taken};
use crate::lambda::{FunctionError, Invocation};

/// Parts on their way to whoever wants them. Bounded: the runtime waits for a slow client.
const PARTS_AHEAD: usize = 4;

/// What becomes of answers that come in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parts {
    /// They are put together.
    Collected,
    /// They are handed over as they come.
    HandedOver,
}

/// Who waits, if there is an invocation.
#[derive(Debug)]
pub(super) struct Hand {
    parts: Parts,
    answer: Option<oneshot::Sender<Result<Answer, Broken>>>,
    finished: Option<oneshot::Sender<Finished>>,
    /// An answer that is being put together.
    stream: Stream,
    /// Tells the end of an answer that is handed over.
    end: Option<oneshot::Sender<Result<(), FunctionError>>>,
}

impl Hand {
    /// An empty one.
    pub(super) fn new(parts: Parts) -> Self {
        Self { parts, answer: None, finished: None, stream: Stream::default(), end: None }
    }

    /// Whether there is an invocation.
    pub(super) fn is_empty(&self) -> bool {
        self.finished.is_none()
    }

    /// Takes an invocation.
    pub(super) fn take(&mut self, work: Work) -> Invocation {
        let Work { invocation, answer, finished } = work;
        (self.answer, self.finished) = (Some(answer), Some(finished));
        invocation
    }

    /// The parts that belong to the call that comes next, if that begins an answer.
    pub(super) fn offer(&mut self, parts: Option<mpsc::Receiver<Bytes>>) {
        self.stream.offer(parts);
    }

    /// The next part of an answer that is put together; never answers if there is none. May be dropped and called anew at any time.
    pub(super) async fn part(&mut self) -> Option<Bytes> {
        self.stream.part().await
    }

    /// Adds such a part.
    pub(super) fn add(&mut self, part: Option<Bytes>) -> Taken {
        self.stream.take(part)
    }

    /// The result is known.
    pub(super) fn decide(&mut self, result: Result<Bytes, FunctionError>) {
        self.answer(result.map_or_else(Answer::Failed, |payload| Answer::Success { payload }));
    }

    /// The answer comes in parts. Must be called within a tokio `LocalSet` if they are handed over.
    pub(super) fn stream_begins(&mut self, content_type: Option<String>) {
        match self.parts {
            Parts::HandedOver => {
                let Some(offered) = self.stream.take_offered() else { return };
                let (sender, parts) = mpsc::channel(PARTS_AHEAD);
                let (end, ended) = oneshot::channel();
                self.end = Some(end);
                tokio::task::spawn_local(hand_over(offered, sender, ended));
                self.answer(Answer::Stream { content_type, parts });
            }
            Parts::Collected => self.stream.begin(),
        }
    }

    /// No part follows those that have been sent.
    pub(super) fn stream_ends(&mut self, result: Result<(), FunctionError>) {
        match self.end.take() {
            // The client may be gone.
            Some(end) => drop(end.send(result)),
            None => {
                let payload = self.stream.end();
                self.decide(result.map(|()| payload));
            }
        }
    }

    fn answer(&mut self, answer: Answer) {
        if let Some(sender) = self.answer.take() {
            // The client may be gone.
            let _ = sender.send(Ok(answer));
        }
    }

    /// The phase is over.
    pub(super) fn finish(&mut self, finished: Finished) {
        if let Some(sender) = self.finished.take() {
            let _ = sender.send(finished);
        }
    }

    /// There will be no answer.
    pub(super) fn give_up(self, error: &Broken) {
        if let Some(sender) = self.answer {
            let _ = sender.send(Err(error.clone()));
        }
    }
}

/// Passes parts on; the end is told after the last of them. A client that is gone has the rest thrown away.
async fn hand_over(mut offered: mpsc::Receiver<Bytes>, parts: mpsc::Sender<Part>, ended: oneshot::Receiver<Result<(), FunctionError>>) {
    while let Some(bytes) = offered.recv().await {
        if parts.send(Part::Data(bytes)).await.is_err() {
            return;
        }
    }
    if let Ok(Err(error)) = ended.await {
        let _ = parts.send(Part::Failed(error)).await;
    }
}
