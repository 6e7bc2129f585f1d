//! The supervisor's thread: takes calls, answers them, and waits for what cannot be answered at once.
//!
//! It is a thread of its own since it works on sockets that the sandbox shares, and whoever shares a socket can make a call on it wait (socket(7):
//! `SO_LINGER`). Then the sandbox's own network stands still, and nothing else.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::Interest;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};

use super::caller::{self, Caller, Callers, Status};
use super::calls::{self, Filters, Outcome, Peers, Waiting, connect_without_waiting, finish, is_connecting};
use super::destination::{self, Destination};
use super::options::Options;
use super::places::{Places, Registrar, Search};
use super::publish::Factory;
use super::rules::Names;
use super::{Connection, HostEntry, LogConnections, NameServers, NetworkRules, Told, Verdict};
use crate::sandbox::sys::{self as kernel, Notification};

/// How many connections may be waited for at a time: each takes a descriptor of ours.
const MOST_WAITING: usize = 256;
/// How often it is looked whether who waits has been killed or has a signal: nothing tells.
const LOOK_AFTER: Duration = Duration::from_millis(100);
/// How long a connection waits for the names that rules are about.
const LONGEST_LOOK_UP: Duration = Duration::from_secs(5);
/// How many calls are answered in a row before others have their turn.
const CALLS_IN_A_ROW: usize = 32;

/// What the parts of a supervisor share. All of it belongs to its one thread.
pub(super) struct Shared {
    pub(super) notify: OwnedFd,
    /// The sandbox's network namespace.
    pub(super) namespace: u64,
    pub(super) rules: NetworkRules,
    pub(super) servers: NameServers,
    pub(super) names: RefCell<Names>,
    /// Whether the names that rules are about have been looked up once.
    looked_up: watch::Sender<bool>,
    pub(super) factory: Factory,
    log: LogConnections,
    told: mpsc::Sender<Told>,
    pub(super) callers: Callers,
    pub(super) options: Options,
    pub(super) registrar: OnceCell<Registrar>,
    pub(super) waiting: Semaphore,
    pub(super) filters: Filters,
    pub(super) peers: RefCell<Peers>,
    /// What is closed once the caller has its answer.
    pub(super) close_later: RefCell<Vec<OwnedFd>>,
    /// The family and the target of the latest connection, and a socket for the next one to it.
    pub(super) wanted_again: Cell<Option<(i32, SocketAddr)>>,
    pub(super) spare: Cell<Option<((i32, SocketAddr), OwnedFd)>>,
}

impl Shared {
    pub(super) fn new(
        (notify, namespace, filters): (OwnedFd, u64, Filters),
        (rules, servers, hosts): (NetworkRules, NameServers, &[HostEntry]),
        factory: Factory,
        (log, told): (LogConnections, mpsc::Sender<Told>),
    ) -> Self {
        let names = Names::new(rules.names(), hosts);
        let looked_up = watch::Sender::new(rules.names().all(|name| names.is_given(name)));
        let names = RefCell::new(names);
        Self {
            notify,
            namespace,
            rules,
            servers,
            names,
            looked_up,
            factory,
            log,
            told,
            callers: Callers::default(),
            options: Options::default(),
            registrar: OnceCell::new(),
            waiting: Semaphore::new(MOST_WAITING),
            filters,
            peers: RefCell::default(),
            close_later: RefCell::default(),
            wanted_again: Cell::new(None),
            spare: Cell::new(None),
        }
    }

    /// Whether the rules let the sandbox reach an address.
    pub(super) fn verdict(&self, named: SocketAddr) -> Verdict {
        // Nobody knows yet what is denied.
        if !self.names_are_known() && self.rules.denied_names().next().is_some() {
            return Verdict::Denied;
        }
        self.rules.verdict(named, &self.names.borrow(), &self.servers)
    }

    /// Tells of a connection; waits for a slow reader.
    pub(super) async fn tell(&self, connection: Option<Connection>) {
        if let (LogConnections::Yes, Some(connection)) = (self.log, connection) {
            // A reader that has gone wants no more.
            let _ = self.told.send(Told::Connection(connection)).await;
        }
    }

    /// Whether the names that rules are about have been looked up.
    pub(super) fn names_are_known(&self) -> bool {
        *self.looked_up.borrow()
    }

    /// Waits until they have been, or for as long as anybody should.
    pub(super) async fn until_names_are_known(&self) {
        let _ = timeout(LONGEST_LOOK_UP, self.looked_up.subscribe().wait_for(|looked_up| *looked_up)).await;
    }

    /// Whether a call must wait for that. One that gives another address by then is denied.
    fn must_wait_for_names(&self, call: &Notification) -> bool {
        if self.names_are_known() || libc::c_long::from(call.call) != libc::SYS_connect {
            return false;
        }
        let [_, address, length, ..] = call.arguments;
        let named = caller::read_address(call.thread, address, length).ok().and_then(|address| destination::parse(&address));
        named.is_some_and(|named| matches!(Destination::of(named, &self.servers), Destination::Outside(_)))
    }

    pub(super) fn still_waits(&self, call: &Notification) -> bool {
        kernel::still_waits(self.notify.as_fd(), call.id)
    }

    /// Puts a connection in place of the caller's socket wherever the caller's process has it.
    pub(super) fn put_in_place(&self, call: &Notification, caller: &Caller, (old, fresh): (&OwnedFd, BorrowedFd<'_>)) -> io::Result<()> {
        let [number, ..] = call.arguments;
        let search = Search { thread: call.thread, folders: caller.folders()?, socket: old.as_fd(), number: number as i32 };
        let Places { numbers, registrations } = search.places()?;
        let mut sets = Vec::with_capacity(registrations.len());
        for (number, registration) in registrations {
            let set = caller.copy(number)?;
            self.registrar()?.change(&set, old.as_fd(), libc::EPOLL_CTL_DEL, registration)?;
            sets.push((set, registration));
        }
        for place in numbers {
            kernel::put_in_place(self.notify.as_fd(), call.id, fresh, place.number, place.close_on_exec)?;
        }
        for (set, registration) in sets {
            self.registrar()?.change(&set, fresh, libc::EPOLL_CTL_ADD, registration)?;
        }
        Ok(())
    }

    fn registrar(&self) -> io::Result<&Registrar> {
        match self.registrar.get() {
            Some(registrar) => Ok(registrar),
            None => {
                let started = Registrar::start()?;
                Ok(self.registrar.get_or_init(|| started))
            }
        }
    }

    /// Answers; that the caller is gone is no concern of ours.
    fn answer(&self, call: &Notification, outcome: &Outcome) {
        let _ = match outcome {
            Outcome::Result(errno) => kernel::answer(self.notify.as_fd(), call.id, -errno, false),
            Outcome::CarryOut => kernel::answer(self.notify.as_fd(), call.id, 0, true),
            Outcome::Gone | Outcome::Waits(_) => Ok(()),
        };
    }

    /// Waits for a connection on behalf of a caller that does.
    async fn wait(&self, call: &Notification, waiting: Waiting) -> io::Result<Outcome> {
        let Ok(_permit) = self.waiting.try_acquire() else {
            // connect(2): no more local ports; as near as it comes.
            return Ok(Outcome::Result(libc::EAGAIN));
        };
        match waiting {
            Waiting::Own { copy, address } => self.wait_for_own(call, copy, &address).await,
            Waiting::Outside { fresh, address, cookie } => self.wait_for_outside(call, fresh, (&address, cookie)).await,
        }
    }

    async fn wait_for_own(&self, call: &Notification, copy: OwnedFd, address: &[u8]) -> io::Result<Outcome> {
        let timeout = send_timeout(copy.as_fd());
        let copy = kernel::watch(copy, Interest::WRITABLE)?;
        let mut patience = Patience::new(timeout);
        loop {
            tokio::select! {
                ready = copy.writable() => ready?.clear_ready(),
                ended = patience.end(self, call) => return Ok(ended),
            }
            match connect_without_waiting(copy.as_fd(), address) {
                // The latter: another thread asked as well.
                Ok(()) => return Ok(Outcome::Result(0)),
                Err(error) => match calls::number(&error) {
                    libc::EISCONN => return Ok(Outcome::Result(0)),
                    libc::EALREADY | libc::EINPROGRESS => {}
                    errno => return Ok(Outcome::Result(errno)),
                },
            }
        }
    }

    async fn wait_for_outside(&self, call: &Notification, fresh: OwnedFd, (address, cookie): (&[u8], u64)) -> io::Result<Outcome> {
        let [number, ..] = call.arguments;
        // The timeout was carried over.
        let timeout = send_timeout(fresh.as_fd());
        let fresh = kernel::watch(fresh, Interest::WRITABLE)?;
        let mut patience = Patience::new(timeout);
        let ended = loop {
            tokio::select! {
                ready = fresh.writable() => ready?.clear_ready(),
                ended = patience.end(self, call) => break Some(ended),
            }
            if !is_connecting(fresh.as_fd()) {
                break None;
            }
        };
        if matches!(ended, Some(Outcome::Gone)) {
            return Ok(Outcome::Gone);
        }
        // Meanwhile the number may have come to mean something else, which must not be replaced.
        let (caller, old) = self.callers.copy(call.thread, number as i32)?;
        if !caller::cookie(&old).is_ok_and(|current| current == cookie) {
            return Ok(Outcome::Result(libc::ECONNABORTED));
        }
        let outcome = match ended {
            None => {
                finish(fresh.as_fd(), address)?;
                Outcome::Result(0)
            }
            // The caller goes away, and the connection goes on being made.
            Some(ended) => {
                caller::set_nonblocking(fresh.as_fd(), false)?;
                ended
            }
        };
        self.put_in_place(call, &caller, (&old, fresh.as_fd()))?;
        Ok(outcome)
    }
}

/// How long a caller waits: until its time-out, a signal or its end.
struct Patience {
    deadline: Option<Instant>,
    look: tokio::time::Interval,
}

impl Patience {
    fn new(timeout: Option<Duration>) -> Self {
        let mut look = interval_at(Instant::now() + LOOK_AFTER, LOOK_AFTER);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)), look }
    }

    /// The answer to a caller that waits no longer.
    async fn end(&mut self, shared: &Shared, call: &Notification) -> Outcome {
        let far = Instant::now() + Duration::from_secs(86_400);
        loop {
            tokio::select! {
                () = sleep_until(self.deadline.unwrap_or(far)), if self.deadline.is_some() => return Outcome::Result(libc::EINPROGRESS),
                _ = self.look.tick() => {
                    let status = Status::of(call.thread);
                    if !shared.still_waits(call) {
                        return Outcome::Gone;
                    }
                    if let Some(errno) = status.ok().and_then(|status| status.interruption(self.deadline.is_some())) {
                        return Outcome::Result(errno);
                    }
                }
            }
        }
    }
}

/// `SO_SNDTIMEO`, which holds for connecting too (socket(7)).
fn send_timeout(socket: BorrowedFd<'_>) -> Option<Duration> {
    let mut value = [0; 16];
    kernel::option(socket, libc::SOL_SOCKET, libc::SO_SNDTIMEO, &mut value).ok()?;
    let (seconds, micros) = value.split_at(8);
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
    // The sandbox says how long.
    let timeout = Duration::from_secs(word(seconds)).saturating_add(Duration::from_micros(word(micros)));
    (!timeout.is_zero()).then_some(timeout)
}

/// Serves calls until the last process inside has ended.
pub(super) async fn serve(shared: Rc<Shared>) -> io::Result<()> {
    // A faster way of waking that only newer kernels have.
    let _ = kernel::wake_on_same_processor(shared.notify.as_fd());
    let ready = kernel::watch(shared.notify.try_clone()?, Interest::READABLE)?;
    loop {
        let mut guard = ready.readable().await?;
        for _ in 0..CALLS_IN_A_ROW {
            match state(shared.notify.as_fd())? {
                State::Over => return Ok(()),
                State::Idle => {
                    guard.clear_ready();
                    break;
                }
                State::Calls => take_call(&shared).await?,
            }
        }
        tokio::task::yield_now().await;
    }
}

enum State {
    /// Somebody waits.
    Calls,
    Idle,
    /// Nobody is left who could call.
    Over,
}

/// Whether to receive: with nothing there the kernel would wait, and with nobody there it would wait for ever.
fn state(notify: BorrowedFd<'_>) -> io::Result<State> {
    let mut polled = [PollFd::new(notify, PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO)?;
    let [polled] = polled;
    Ok(match polled.revents() {
        Some(events) if events.contains(PollFlags::POLLIN) => State::Calls,
        Some(events) if events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) => State::Over,
        _ => State::Idle,
    })
}

async fn take_call(shared: &Rc<Shared>) -> io::Result<()> {
    let call = match kernel::notification(shared.notify.as_fd()) {
        Ok(call) => call,
        // The caller was killed, or a signal of ours came.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => return Ok(()),
        Err(error) => return Err(error),
    };
    if !shared.must_wait_for_names(&call) {
        decide(shared, call).await;
        return Ok(());
    }
    let shared = Rc::clone(shared);
    tokio::task::spawn_local(async move {
        let mut patience = Patience::new(None);
        let ended = tokio::select! {
            () = shared.until_names_are_known() => None,
            ended = patience.end(&shared, &call) => Some(ended),
        };
        match ended {
            Some(ended) => shared.answer(&call, &ended),
            None => decide(&shared, call).await,
        }
    });
    Ok(())
}

/// Answers a call, now or later.
async fn decide(shared: &Rc<Shared>, call: Notification) {
    let (outcome, connection) = shared.handle(&call);
    shared.answer(&call, &outcome);
    shared.close_later.borrow_mut().clear();
    shared.make_spare();
    shared.tell(connection).await;
    if let Outcome::Waits(waiting) = outcome {
        let shared = Rc::clone(shared);
        tokio::task::spawn_local(async move {
            let outcome = match shared.wait(&call, waiting).await {
                Ok(outcome) => outcome,
                Err(error) => Outcome::Result(calls::number(&error)),
            };
            shared.answer(&call, &outcome);
        });
    }
}

/// Looks up the names that rules are about, again and again: the answers change. A denying rule whose name is not known is told of once.
pub(super) async fn look_up_names(shared: Rc<Shared>) {
    const AFTER: Duration = Duration::from_secs(60);
    let names = shared.rules.names().filter(|name| !shared.names.borrow().is_given(name));
    let names: BTreeSet<String> = names.map(str::to_owned).collect();
    while !names.is_empty() {
        let mut tasks: JoinSet<_> = names.iter().cloned().map(look_up).collect();
        while let Some(looked_up) = tasks.join_next().await {
            let Ok((name, addresses)) = looked_up else { continue };
            if addresses.is_empty() && !shared.names_are_known() && shared.rules.denied_names().any(|denied| denied == name) {
                // A reader that has gone wants no more.
                let _ = shared.told.send(Told::NotLookedUp { name }).await;
                continue;
            }
            addresses.into_iter().for_each(|address| shared.names.borrow_mut().learn(&name, address));
        }
        shared.looked_up.send_replace(true);
        sleep(AFTER).await;
    }
}

/// The addresses of a name; none if it is not known now.
async fn look_up(name: String) -> (String, Vec<IpAddr>) {
    let addresses = tokio::net::lookup_host((name.as_str(), 0)).await.into_iter().flatten().map(|address| address.ip()).collect();
    (name, addresses)
}
