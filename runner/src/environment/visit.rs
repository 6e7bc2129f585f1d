//! What somebody outside does in an environment, of which its lifecycle knows nothing: commands of their own, a pause, a look.

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use tokio::sync::{mpsc, oneshot};

use crate::sandbox::{Ended, LaunchError};

/// Something that is wanted in an environment.
#[derive(Debug)]
pub enum Visit {
    /// One more command in its sandbox, which is started if there is none.
    Enter(Box<Guest>),
    /// All its processes stop, and all that it does itself.
    Pause(Done),
    /// They go on.
    Resume(Done),
    /// The first process of its sandbox, as this machine sees it; nothing if there is none.
    Look(mpsc::UnboundedSender<u32>),
    /// The same of a sandbox that is started if there is none.
    Open(mpsc::UnboundedSender<u32>),
}

/// A command beside a function's programs. It has what they have and no more, and ends with them; its end is nobody's concern but the visitor's.
#[derive(Debug)]
pub struct Guest {
    /// The command line.
    pub command: Vec<String>,
    /// Variables beside the function's.
    pub variables: Vec<(String, String)>,
    /// Its working directory inside, if it is another than the function's.
    pub working_dir: Option<PathBuf>,
    /// Standard input, output and error.
    pub streams: Vec<OwnedFd>,
    /// Told once it runs, or why it does not; dropped if the sandbox ended before.
    pub started: oneshot::Sender<Result<(), LaunchError>>,
    /// Told how it ended; dropped if it ended with the sandbox.
    pub ended: oneshot::Sender<Ended>,
}

/// Held by all that have not yet done what was wanted.
#[derive(Debug, Clone)]
pub struct Done {
    _held: mpsc::Sender<Infallible>,
}

/// Waits for those who hold a [`Done`].
#[derive(Debug)]
pub struct Doing(mpsc::Receiver<Infallible>);

impl Done {
    /// A fresh one, and who waits for it.
    pub fn new() -> (Self, Doing) {
        // Nothing is ever sent: that the last sender goes is the message.
        let (held, doing) = mpsc::channel(1);
        (Self { _held: held }, Doing(doing))
    }
}

impl Doing {
    /// Returns when all have done it, or are gone.
    pub async fn end(mut self) {
        let _ = self.0.recv().await;
    }
}

/// A visit on its way, and the visitor's stay: the environment is not left alone as long as somebody holds it.
pub(crate) type Knock = (Visit, Stay);

/// Held as long as a visitor is there.
#[derive(Debug)]
pub(crate) struct Stay {
    _held: Option<Arc<()>>,
}

/// Who waits for a sandbox.
#[derive(Debug)]
pub(super) enum Waiting {
    /// To start a command in it.
    Guest(Box<Guest>, Stay),
    /// To hear of its first process.
    Onlooker(mpsc::UnboundedSender<u32>),
}

/// Where an environment is visited, for as long as its handle is there.
#[derive(Debug, Clone)]
pub struct Door {
    knocks: mpsc::WeakUnboundedSender<Knock>,
    guests: Weak<()>,
}

/// The guest book of an environment, as its handle has it.
#[derive(Debug)]
pub(super) struct GuestBook {
    /// Unbounded: who visits waits for what comes of it.
    knocks: mpsc::UnboundedSender<Knock>,
    guests: Arc<()>,
}

impl GuestBook {
    /// An empty one, and where visits come.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Knock>) {
        let (knocks, knocked) = mpsc::unbounded_channel();
        (Self { knocks, guests: Arc::default() }, knocked)
    }

    pub(super) fn door(&self) -> Door {
        Door { knocks: self.knocks.downgrade(), guests: Arc::downgrade(&self.guests) }
    }

    /// Whether a visitor is there, or on the way.
    pub(super) fn has_guests(&self) -> bool {
        Arc::strong_count(&self.guests) > 1
    }
}

impl Door {
    /// Visits. If the environment is gone, the visit comes back.
    pub fn visit(&self, visit: Visit) -> Result<(), Visit> {
        let Some(knocks) = self.knocks.upgrade() else { return Err(visit) };
        knocks.send((visit, Stay { _held: self.guests.upgrade() })).map_err(|refused| refused.0.0)
    }

    /// Whether the environment has ended, or is about to.
    pub fn is_gone(&self) -> bool {
        self.knocks.upgrade().is_none_or(|knocks| knocks.is_closed())
    }
}

/// Whether an environment has to be ready for visitors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// Somebody may come.
    Yes,
    /// Nobody can.
    No,
}

/// Where an environment's visits come.
#[derive(Debug, Default)]
pub(super) enum Visits {
    /// There are none.
    #[default]
    None,
    /// Through its doors.
    Doors(mpsc::UnboundedReceiver<Knock>),
    /// From the only one who knows of it.
    Direct(mpsc::UnboundedReceiver<Visit>),
}

impl Visits {
    /// The next one; none if nobody can come any more. May be dropped and called anew at any time.
    pub(super) async fn next(&mut self) -> Option<Knock> {
        match self {
            Self::None => None,
            Self::Doors(knocks) => knocks.recv().await,
            Self::Direct(visits) => visits.recv().await.map(|visit| (visit, Stay { _held: None })),
        }
    }

    /// Whether anybody may come.
    pub(super) fn expected(&self) -> Expected {
        match self {
            Self::None => Expected::No,
            Self::Doors(_) | Self::Direct(_) => Expected::Yes,
        }
    }
}
