//! A function's answer, in the form its caller wants.

use std::cell::Cell;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot};

use crate::api::invoke::{Answered, AnsweredBody, InvokeReply, StreamPart};
use crate::environment::{Answer, Finished, Part};
use crate::lambda::{AnswerForm, ErrorKind, FunctionError, MAX_PAYLOAD_BYTES, PlatformError, RequestId};

/// Parts on their way to a caller. Few, so that a slow caller is felt by the function.
const PARTS_AHEAD: usize = 2;

/// Who wants the answer, and how.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) reply: oneshot::Sender<InvokeReply>,
    pub(super) form: AnswerForm,
    pub(super) log_tail: bool,
    /// The version that is said to have run.
    pub(super) version: String,
    /// Counts the environments that have answered and are not free yet.
    pub(super) settling: Settling,
}

/// How many environments of a function have answered, and are still at work on the end of the invocation.
#[derive(Debug, Clone, Default)]
pub(super) struct Settling(Rc<Cell<usize>>);

/// One of them, until it is dropped.
struct Settles(Settling);

impl Settling {
    pub(super) fn count(&self) -> usize {
        self.0.get()
    }

    fn one(&self) -> Settles {
        self.0.set(self.0.get() + 1);
        Settles(self.clone())
    }
}

impl Drop for Settles {
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get() - 1);
    }
}

/// The run that is answered for.
pub(super) struct Run {
    pub(super) request_id: RequestId,
    pub(super) trace_id: String,
    pub(super) finished: oneshot::Receiver<Finished>,
}

/// An answer with nothing to come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) payload: Bytes,
    /// Whether the function failed.
    pub(crate) failed: bool,
}

/// Gives the answer to the caller, and waits for the end of the run. If the environment dies before that, there is no end.
pub(super) async fn give(answer: Answer, caller: Caller, run: Run) -> Option<Finished> {
    match (caller.form, answer) {
        (AnswerForm::Streamed, Answer::Stream { content_type, parts }) => give_parts(content_type, parts, caller, run).await,
        (_, answer) => give_whole(answer, caller, run).await,
    }
}

async fn give_whole(answer: Answer, caller: Caller, run: Run) -> Option<Finished> {
    let Run { request_id, trace_id, finished } = run;
    let (Whole { payload, failed }, rest) = whole(answer, &request_id).await;
    let (wants_tail, settling) = (caller.log_tail, caller.settling.clone());
    let reply = |log_tail| {
        let body = AnsweredBody::Whole { payload, failed, log_tail };
        // A caller that has gone misses it.
        let _ = caller.reply.send(InvokeReply::Answered(Answered { version: caller.version, trace_id, body }));
    };
    if wants_tail {
        discard(rest).await;
        let finished = finished.await.ok();
        reply(Some(tail(finished.as_ref())));
        return finished;
    }
    reply(None);
    discard(rest).await;
    let _settles = settling.one();
    finished.await.ok()
}

/// The whole answer; of one that is too large, the parts still to come.
pub(crate) async fn whole(answer: Answer, request_id: &RequestId) -> (Whole, Option<mpsc::Receiver<Part>>) {
    let mut parts = match answer {
        Answer::Success { payload } => return (Whole { payload, failed: false }, None),
        Answer::Failed(error) => return (Whole { payload: error.payload, failed: true }, None),
        Answer::Stream { parts, .. } => parts,
    };
    let mut collected = BytesMut::new();
    while let Some(part) = parts.recv().await {
        match part {
            Part::Failed(error) => return (Whole { payload: error.payload, failed: true }, None),
            Part::Data(bytes) if collected.len() + bytes.len() > MAX_PAYLOAD_BYTES => {
                let payload = PlatformError::ResponseTooLarge.body(request_id);
                return (Whole { payload, failed: true }, Some(parts));
            }
            Part::Data(bytes) => collected.extend_from_slice(&bytes),
        }
    }
    (Whole { payload: collected.freeze(), failed: false }, None)
}

async fn give_parts(content_type: Option<String>, parts: mpsc::Receiver<Part>, caller: Caller, run: Run) -> Option<Finished> {
    let (to_caller, given) = mpsc::channel(PARTS_AHEAD);
    let body = AnsweredBody::Stream { content_type, parts: given };
    // If the caller has gone, so has the receiver in here, and what is sent there is dropped.
    let _ = caller.reply.send(InvokeReply::Answered(Answered { version: caller.version, trace_id: run.trace_id, body }));
    let error = forward(parts, &to_caller).await.map(|error| (error_type(&error.kind), error.payload));
    if caller.log_tail {
        let finished = run.finished.await.ok();
        let log_tail = Some(tail(finished.as_ref()));
        let _ = to_caller.send(StreamPart::End { error, log_tail }).await;
        return finished;
    }
    let _ = to_caller.send(StreamPart::End { error, log_tail: None }).await;
    drop(to_caller);
    let _settles = caller.settling.one();
    run.finished.await.ok()
}

/// Hands parts on until they end. After the caller has gone they are taken all the same: the function runs to its end, as on Lambda.
async fn forward(mut parts: mpsc::Receiver<Part>, to_caller: &mpsc::Sender<StreamPart>) -> Option<FunctionError> {
    while let Some(part) = parts.recv().await {
        match part {
            Part::Data(bytes) => send(to_caller, bytes).await,
            Part::Failed(error) => return Some(error),
        }
    }
    None
}

async fn send(to_caller: &mpsc::Sender<StreamPart>, bytes: Bytes) {
    if !bytes.is_empty() {
        let _ = to_caller.send(StreamPart::Data(bytes)).await;
    }
}

/// Takes what is still to come of an answer: the function runs to its end.
pub(crate) async fn discard(parts: Option<mpsc::Receiver<Part>>) {
    if let Some(mut parts) = parts {
        while parts.recv().await.is_some() {}
    }
}

/// The log of a run that came to no end is lost.
fn tail(finished: Option<&Finished>) -> Vec<u8> {
    finished.map(|finished| finished.log_tail.clone()).unwrap_or_default()
}

fn error_type(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::Handler(error_type) | ErrorKind::Init(error_type) => error_type.to_string(),
        ErrorKind::Platform(error) => error.error_type().to_owned(),
    }
}
