//! The socket over which PID 1 is ordered about; `init/programs.rs` has the other end and the same words.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType, recvmsg, sendmsg, socketpair,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sandbox::sys;

/// How long PID 1 has for an answer, and a new process for its exec: something is wrong after that, or made so by what runs inside.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// As many descriptors as one program can be given.
pub(super) const PLACES: usize = 16;

/// What PID 1 is to do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    Start { length: u64, candidates: u64, environment: u64, goes_on: bool, guest: bool },
    Signal(i32),
    KillAll,
    KillOthers,
    SignalAll(i32),
    Socket { domain: i32, kind: i32, protocol: i32 },
}

impl Order {
    fn words(self) -> [u64; 5] {
        let signed = |number: i32| i64::from(number).cast_unsigned();
        match self {
            Self::Start { length, candidates, environment, goes_on, guest } => {
                [1, length, candidates, environment, u64::from(goes_on) | u64::from(guest) << 1]
            }
            Self::Signal(signal) => [2, signed(signal), 0, 0, 0],
            Self::KillAll => [3, 0, 0, 0, 0],
            Self::KillOthers => [6, 0, 0, 0, 0],
            Self::SignalAll(signal) => [4, signed(signal), 0, 0, 0],
            Self::Socket { domain, kind, protocol } => [5, signed(domain), signed(kind), signed(protocol), 0],
        }
    }
}

/// A program's end, as PID 1 tells it.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) id: u64,
    pub(super) status: i32,
    pub(super) largest_kib: u64,
}

enum Message {
    Answer(io::Result<Option<OwnedFd>>),
    Ended(End),
}

/// Our end of the socket.
#[derive(Debug)]
pub(super) struct Control {
    /// Gone once PID 1 did not answer in time: what came later would be taken for another answer.
    socket: Option<OwnedFd>,
    /// The same socket, registered once for all waits of one runtime.
    watched: Option<AsyncFd<OwnedFd>>,
    /// Ends that came while an answer was waited for. At most one for each program.
    ends: VecDeque<End>,
}

/// A pair of these sockets, as (outside, inside).
pub(in crate::sandbox) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok((sys::above_standard(ours)?, sys::above_standard(theirs)?))
}

impl Control {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket: Some(socket), watched: None, ends: VecDeque::new() }
    }

    /// Has something done, and waits until it is: some 50 us, but for what takes longer inside.
    pub(super) fn order(&mut self, order: Order, id: u64, places: &[i32], descriptors: &[BorrowedFd<'_>]) -> io::Result<Option<OwnedFd>> {
        let [kind, numbers @ ..] = order.words();
        let mut place = [-1_i32; PLACES];
        for (place, wanted) in place.iter_mut().zip(places) {
            *place = *wanted;
        }
        let words = [kind, id].into_iter().chain(numbers).flat_map(u64::to_ne_bytes);
        let bytes: Vec<u8> = words.chain(place.into_iter().flat_map(i32::to_ne_bytes)).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PLACES + 2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::ArgumentListTooLong.into());
        }
        sendmsg(self.socket()?, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.receive(deadline) {
                Ok(Message::Answer(answer)) => return answer,
                Ok(Message::Ended(end)) => self.ends.push_back(end),
                Err(error) => {
                    self.close();
                    return Err(error);
                }
            }
        }
    }

    /// The next end, as soon as there is one. Nothing is lost if this is not waited for any longer.
    pub(super) async fn end(&mut self) -> io::Result<End> {
        if let Some(end) = self.ends.pop_front() {
            return Ok(end);
        }
        loop {
            if self.watched.is_none() {
                self.watched = Some(sys::watch(self.socket()?.try_clone_to_owned()?, Interest::READABLE)?);
            }
            let Some(watched) = &self.watched else { return Err(gone()) };
            let Ok(mut ready) = watched.readable().await else {
                // The runtime that it was registered with has ended.
                self.watched = None;
                continue;
            };
            let error = match ready.try_io(|socket| message(socket.as_fd(), RecvFlags::DONTWAIT)) {
                Ok(Ok(Message::Ended(end))) => return Ok(end),
                // Nobody has asked: it would answer who asks next.
                Ok(Ok(Message::Answer(_))) => gone(),
                Ok(Err(error)) => error,
                // It was nothing.
                Err(_) => continue,
            };
            self.close();
            return Err(error);
        }
    }

    fn receive(&self, deadline: Instant) -> io::Result<Message> {
        let socket = self.socket()?;
        await_input(socket, deadline)?;
        message(socket, RecvFlags::empty())
    }

    fn socket(&self) -> io::Result<BorrowedFd<'_>> {
        self.socket.as_ref().map(|socket| socket.as_fd()).ok_or_else(gone)
    }

    /// With which PID 1 ends everything.
    fn close(&mut self) {
        (self.socket, self.watched) = (None, None);
    }
}

/// Waits until there is something to read, or its end.
pub(super) fn await_input(descriptor: BorrowedFd<'_>, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], left) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the sandbox's first process has ended")
}

fn message(socket: BorrowedFd<'_>, flags: RecvFlags) -> io::Result<Message> {
    let mut bytes = [0_u8; 32];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags | RecvFlags::CMSG_CLOEXEC)?;
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    if received.bytes != bytes.len() {
        return Err(gone());
    }
    let mut words = [0_u64; 4];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    let [kind, id, value, largest_kib] = words;
    let value = value.cast_signed();
    Ok(match kind {
        2 => Message::Ended(End { id, status: value as i32, largest_kib }),
        _ if value < 0 => Message::Answer(Err(io::Error::from_raw_os_error(-value as i32))),
        _ => Message::Answer(descriptor.map(sys::above_standard).transpose()),
    })
}
