//! An execution environment that serves many invocations, as its users hold it: a channel to the task that owns it.

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::visit::{Door, GuestBook, Knock};
use crate::lambda::{FunctionError, Invocation, ReportFigures, ReportStatus};

/// What an environment is told to do.
#[derive(Debug)]
pub enum Order {
    /// Run an invocation. Only one at a time: the next one after [`Finished`].
    Invoke(Box<Work>),
    /// Start the runtime anew, with the code that is there now; an invocation in hand ends first.
    Restart,
    /// End, with Lambda's shutdown phase; an invocation in hand ends first.
    ShutDown {
        /// Told when nothing is left of it.
        done: oneshot::Sender<()>,
    },
}

/// One invocation on its way into an environment.
#[derive(Debug)]
pub struct Work {
    /// The invocation.
    pub invocation: Invocation,
    /// Where its result goes, as soon as it is known.
    pub answer: oneshot::Sender<Result<Answer, Broken>>,
    /// Told when its phase is over and logged; then the environment may be given the next one.
    pub finished: oneshot::Sender<Finished>,
}

/// A function's answer.
#[derive(Debug)]
pub enum Answer {
    /// All of it.
    Success {
        /// The runtime's bytes.
        payload: Bytes,
    },
    /// The function failed.
    Failed(FunctionError),
    /// It comes in parts.
    Stream {
        /// The content type that the function gave it.
        content_type: Option<String>,
        /// The parts. The channel ends with the answer; bounded, so that the function waits for a slow client.
        parts: mpsc::Receiver<Part>,
    },
}

/// A part of a streamed answer.
#[derive(Debug)]
pub enum Part {
    /// Bytes.
    Data(Bytes),
    /// The function failed on the way; nothing follows.
    Failed(FunctionError),
}

/// The end of an invocation's phase.
#[derive(Debug)]
pub struct Finished {
    /// What its REPORT says.
    pub figures: ReportFigures,
    /// Whether it went as it should.
    pub status: ReportStatus,
    /// The last bytes of its log, START to REPORT.
    pub log_tail: Vec<u8>,
}

/// Why an environment can run nothing: no fault of the function's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Broken {
    /// The error with its causes, on one line.
    pub reason: String,
    /// What the user can do about it.
    pub hint: Option<String>,
}

/// An environment, as its user holds it. It ends when this is dropped, without a shutdown phase.
#[derive(Debug)]
pub struct Handle {
    orders: mpsc::Sender<Order>,
    guests: GuestBook,
}

impl Handle {
    /// A handle on whoever receives its orders. Two orders in waiting are the most there are.
    pub fn new() -> (Self, mpsc::Receiver<Order>) {
        let (handle, received, _) = Self::with_visits();
        (handle, received)
    }

    /// The same for who has visitors, too.
    pub(crate) fn with_visits() -> (Self, mpsc::Receiver<Order>, mpsc::UnboundedReceiver<Knock>) {
        let (orders, received) = mpsc::channel(2);
        let (guests, visits) = GuestBook::new();
        (Self { orders, guests }, received, visits)
    }

    /// Where it is visited.
    pub fn door(&self) -> Door {
        self.guests.door()
    }

    /// Whether a visitor is in it, whom its end would end.
    pub fn has_guests(&self) -> bool {
        self.guests.has_guests()
    }

    /// Gives it an invocation. If it is gone, the work comes back.
    pub async fn invoke(&self, work: Box<Work>) -> Result<(), Box<Work>> {
        self.orders.send(Order::Invoke(work)).await.map_err(|refused| match refused.0 {
            Order::Invoke(work) => work,
            Order::Restart | Order::ShutDown { .. } => unreachable!("what comes back is what was sent"),
        })
    }

    /// Has the runtime started anew.
    pub async fn restart(&self) {
        // One that is gone needs none.
        let _ = self.orders.send(Order::Restart).await;
    }

    /// As [`Handle::restart`], without waiting: for whoever knows that it has nothing in hand. Then all that can wait there are restarts, so that one more
    /// says nothing new.
    pub fn restart_soon(&self) {
        let _ = self.orders.try_send(Order::Restart);
    }

    /// Whether it has ended by itself.
    pub fn is_gone(&self) -> bool {
        self.orders.is_closed()
    }

    /// Ends it, and waits until nothing is left.
    pub async fn shut_down(self) {
        let Self { orders, guests } = self;
        // Nobody is let in any more.
        drop(guests);
        let (done, ended) = oneshot::channel();
        if orders.send(Order::ShutDown { done }).await.is_ok() {
            let _ = ended.await;
        }
    }

    /// Waits until it has ended by itself.
    pub async fn gone(&self) {
        self.orders.closed().await;
    }
}
