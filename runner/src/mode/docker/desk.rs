//! Where orders to a supervised run come in: a thread accepts them, and whoever runs it at the time gets them.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::exit_code::ExitCode;
use crate::records::Run;
use crate::records::control::{self, Answer, Connection, Order};

/// An order, and who is to be told what came of it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) order: Order,
    pub(super) descriptors: Vec<OwnedFd>,
    pub(super) asker: Arc<UnixStream>,
}

impl Asked {
    /// Tells what came of it. Who does not listen any more need not know.
    pub(super) fn answer(&self, answer: &Answer) {
        let _ = control::tell(&self.asker, answer);
    }

    /// Refuses it.
    pub(super) fn refuse(&self, why: impl Into<String>) {
        self.answer(&Answer::Refused(why.into(), ExitCode::FUNCTION_FAILED.number()));
    }
}

/// The desk of one supervisor.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    /// Who carries orders out. Unbounded: each is one connection's, which waits for its answer.
    to: Arc<Mutex<Option<UnboundedSender<Asked>>>>,
    /// Whether somebody has ended the run, and who waits for that.
    stays_ended: Arc<(Mutex<bool>, Condvar)>,
}

impl Desk {
    /// Listens for orders to a run until this process ends.
    pub(super) fn open(run: &Run) -> io::Result<Self> {
        let listener = control::listen(run.folder())?;
        let desk = Self { to: Arc::default(), stays_ended: Arc::default() };
        let accepting = desk.clone();
        thread::Builder::new().name("orders".to_owned()).spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let desk = accepting.clone();
                // One that cannot be served is closed.
                let _ = thread::Builder::new().name("order".to_owned()).spawn(move || desk.serve(socket));
            }
        })?;
        Ok(desk)
    }

    /// From now on they go to who has the answer.
    pub(super) fn take(&self) -> UnboundedReceiver<Asked> {
        let (to, orders) = unbounded_channel();
        *self.to.lock().unwrap_or_else(PoisonError::into_inner) = Some(to);
        orders
    }

    /// Whether somebody has ended the run, so that it is not to be started again.
    pub(super) fn stays_ended(&self) -> bool {
        *self.stays_ended.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits that long, or until somebody has ended the run; says whether somebody has.
    pub(super) fn is_ended_within(&self, pause: Duration) -> bool {
        let (ended, changed) = &*self.stays_ended;
        let ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
        *changed.wait_timeout_while(ended, pause, |ended| !*ended).unwrap_or_else(PoisonError::into_inner).0
    }

    fn serve(&self, socket: UnixStream) {
        let Ok(mut connection) = Connection::new(socket) else { return };
        let Ok(asker) = connection.answerer().map(Arc::new) else { return };
        while let Ok(Some((order, descriptors))) = connection.receive() {
            if matches!(order, Order::End(_) | Order::StayEnded) {
                *self.stays_ended.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
                self.stays_ended.1.notify_all();
            }
            let asked = Asked { order, descriptors, asker: Arc::clone(&asker) };
            if asked.order == Order::StayEnded {
                asked.answer(&Answer::Done);
                continue;
            }
            let to = self.to.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let unheard = match to {
                Some(to) => to.send(asked).err().map(|error| error.0),
                None => Some(asked),
            };
            match unheard {
                // Between two starts it has ended, and is not started again.
                Some(asked) if matches!(asked.order, Order::End(_)) => asked.answer(&Answer::Done),
                Some(asked) => asked.refuse("it is not running"),
                None => {}
            }
        }
    }
}
