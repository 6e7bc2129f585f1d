//! A thread inside that waits for an answer: its descriptors, its memory, its signals.

use std::cell::{Cell, OnceCell, RefCell};
use std::fs;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::sandbox::sys as kernel;

/// The longest address (`struct sockaddr_storage`).
const LONGEST_ADDRESS: usize = 128;

/// How many threads' handles are kept: those that called last.
const MOST_KEPT: usize = 4;

/// A pidfd of a thread and not of its process (Linux 6.9).
const PIDFD_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL.cast_unsigned());

/// What finds threads.
#[derive(Debug, Default)]
pub(super) struct Callers {
    /// This kernel has no pidfds of threads (before Linux 6.9).
    processes_only: Cell<bool>,
    /// The latest comes last.
    kept: RefCell<Vec<Rc<Caller>>>,
}

impl Callers {
    /// A copy of a descriptor of a thread's, and what it was copied by. From then on it does not matter what the thread's number means. `ESRCH`: the thread is
    /// gone.
    pub(super) fn copy(&self, thread: libc::pid_t, number: RawFd) -> io::Result<(Rc<Caller>, OwnedFd)> {
        let kept = self.kept.borrow().iter().find(|caller| caller.thread == thread).map(Rc::clone);
        if let Some(caller) = kept {
            match caller.copy(number) {
                // Its number has come to another thread.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => self.kept.borrow_mut().retain(|kept| kept.thread != thread),
                copy => return Ok((caller, copy?)),
            }
        }
        let caller = Rc::new(Caller { thread, pidfd: self.pidfd(thread)?, folders: OnceCell::new() });
        // A pidfd of a process does not tell whether the thread is still the same one.
        if !self.processes_only.get() {
            let mut kept = self.kept.borrow_mut();
            if kept.len() == MOST_KEPT {
                kept.remove(0);
            }
            kept.push(Rc::clone(&caller));
        }
        let copy = caller.copy(number)?;
        Ok((caller, copy))
    }

    fn pidfd(&self, thread: libc::pid_t) -> io::Result<OwnedFd> {
        let gone = || io::Error::from_raw_os_error(libc::ESRCH);
        if !self.processes_only.get() {
            match pidfd_open(Pid::from_raw(thread).ok_or_else(gone)?, PIDFD_THREAD) {
                Err(Errno::INVAL) => self.processes_only.set(true),
                other => return Ok(other?),
            }
        }
        // The table of the process's first thread, which all of them share unless one has left it with unshare(2).
        let process = Status::of(thread).ok().and_then(|status| Pid::from_raw(status.process)).ok_or_else(gone)?;
        Ok(pidfd_open(process, PidfdFlags::empty())?)
    }
}

/// A thread inside.
#[derive(Debug)]
pub(super) struct Caller {
    thread: libc::pid_t,
    pidfd: OwnedFd,
    folders: OnceCell<Folders>,
}

/// The folders of a thread's descriptors (proc(5)).
#[derive(Debug)]
pub(super) struct Folders {
    /// Links to what they are of.
    pub(super) links: OwnedFd,
    /// Texts that describe them.
    pub(super) texts: OwnedFd,
}

impl Caller {
    /// A copy of one of its descriptors.
    pub(super) fn copy(&self, number: RawFd) -> io::Result<OwnedFd> {
        // The kernel would say the same, but rustix asserts that it is none of those.
        if number < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        Ok(pidfd_getfd(&self.pidfd, number, PidfdGetfdFlags::empty())?)
    }

    /// Its folders, opened once.
    pub(super) fn folders(&self) -> io::Result<&Folders> {
        if let Some(folders) = self.folders.get() {
            return Ok(folders);
        }
        let folder =
            |name| open(format!("/proc/{}/{name}", self.thread), OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let folders = Folders { links: folder("fd")?, texts: folder("fdinfo")? };
        Ok(self.folders.get_or_init(|| folders))
    }
}

/// The address that a call gives, by the kernel's own rules of what is none.
pub(super) fn read_address(thread: libc::pid_t, address: u64, length: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(length as u32 as i32).ok().filter(|length| *length <= LONGEST_ADDRESS);
    let mut bytes = vec![0; length.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?];
    if !bytes.is_empty() {
        let remote = RemoteIoVec { base: address as usize, len: bytes.len() };
        let read = process_vm_readv(nix::unistd::Pid::from_raw(thread), &mut [IoSliceMut::new(&mut bytes)], &[remote])?;
        if read != bytes.len() {
            return Err(io::Error::from_raw_os_error(libc::EFAULT));
        }
    }
    Ok(bytes)
}

/// What proc_pid_status(5) says of a thread.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    process: libc::pid_t,
    thread: libc::pid_t,
    /// Signals for the thread, and for the process, that it does not block.
    own_signals: u64,
    process_signals: u64,
}

impl Status {
    /// Of a thread as it is now.
    pub(super) fn of(thread: libc::pid_t) -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string(format!("/proc/{thread}/status"))?))
    }

    fn parse(text: &str) -> Self {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim();
        let set = |name| u64::from_str_radix(field(name), 16).unwrap_or(0);
        let blocked = set("SigBlk");
        Self {
            process: field("Tgid").parse().unwrap_or(0),
            thread: field("Pid").parse().unwrap_or(0),
            own_signals: set("SigPnd") & !blocked,
            process_signals: set("ShdPnd") & !blocked,
        }
    }

    /// Whether a signal waits for the thread, and what its call then answers, by signal(7): one without a time-out is begun again if the handler
    /// says so, which the kernel decides on seeing `ERESTARTSYS`. A signal for the whole process need not be this thread's unless it is the first one,
    /// and a thread that has none would see the kernel's own number.
    pub(super) fn interruption(&self, has_timeout: bool) -> Option<i32> {
        const ERESTARTSYS: i32 = 512;
        let certain = self.own_signals != 0 || (self.process_signals != 0 && self.thread == self.process);
        match (self.own_signals | self.process_signals, certain && !has_timeout) {
            (0, _) => None,
            (_, true) => Some(ERESTARTSYS),
            (_, false) => Some(libc::EINTR),
        }
    }
}

/// Whether the descriptor is of a socket that does not wait.
pub(super) fn is_nonblocking(socket: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(rustix::fs::fcntl_getfl(socket)?.contains(OFlags::NONBLOCK))
}

/// Changes that, for all who share the socket.
pub(super) fn set_nonblocking(socket: BorrowedFd<'_>, nonblocking: bool) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(socket)?;
    let mut wanted = flags;
    wanted.set(OFlags::NONBLOCK, nonblocking);
    Ok(rustix::fs::fcntl_setfl(socket, wanted)?)
}

/// Whether two descriptors are of the same socket (socket(7): `SO_COOKIE`).
pub(super) fn cookie(socket: &OwnedFd) -> io::Result<u64> {
    let mut cookie = [0; 8];
    kernel::option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_COOKIE, &mut cookie)?;
    Ok(u64::from_ne_bytes(cookie))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_that_wait_interrupt_and_others_do_not() {
        let status = |pid, pending, shared, blocked| {
            Status::parse(&format!(
                "Name:\tx\nTgid:\t7\nPid:\t{pid}\nSigPnd:\t{pending:016x}\nShdPnd:\t{shared:016x}\nSigBlk:\t{blocked:016x}\n"
            ))
        };
        assert_eq!(status(7, 0, 0, 0).interruption(false), None);
        assert_eq!(status(7, 4, 4, 4).interruption(false), None);
        assert_eq!(status(8, 4, 0, 0).interruption(false), Some(512));
        assert_eq!(status(7, 0, 4, 0).interruption(false), Some(512));
        assert_eq!(status(8, 0, 4, 0).interruption(false), Some(libc::EINTR));
        assert_eq!(status(7, 4, 0, 0).interruption(true), Some(libc::EINTR));
    }

    #[test]
    fn addresses_are_read_by_the_kernels_rules() {
        let own = std::process::id() as i32;
        let bytes = [1_u8, 2, 3, 4];
        let at = bytes.as_ptr().expose_provenance() as u64;
        let errno = |result: io::Result<Vec<u8>>| result.unwrap_err().raw_os_error();
        assert_eq!(read_address(own, at, 4).unwrap(), bytes);
        assert!(read_address(own, 0, 0).unwrap().is_empty());
        assert_eq!(errno(read_address(own, 0, 4)), Some(libc::EFAULT));
        assert_eq!(errno(read_address(own, at, 129)), Some(libc::EINVAL));
        assert_eq!(errno(read_address(own, at, u64::from(u32::MAX))), Some(libc::EINVAL));
    }

    #[test]
    fn a_copy_is_of_the_same_socket() {
        use std::os::fd::AsRawFd as _;
        let socket = OwnedFd::from(std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        let callers = Callers::default();
        let (caller, copy) = callers.copy(std::process::id() as i32, socket.as_raw_fd()).unwrap();
        assert_eq!(cookie(&copy).unwrap(), cookie(&socket).unwrap());
        // The same handle again, which is looked up anew only if its thread is gone.
        assert!(Rc::ptr_eq(&caller, &callers.copy(std::process::id() as i32, socket.as_raw_fd()).unwrap().0));
        let callers = Callers::default();
        callers.processes_only.set(true);
        let (_, copy) = callers.copy(std::process::id() as i32, socket.as_raw_fd()).unwrap();
        assert_eq!(cookie(&copy).unwrap(), cookie(&socket).unwrap());
        assert_eq!(callers.copy(i32::MAX, 0).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        for number in [-1, -100, i32::MIN, i32::MAX] {
            assert_eq!(callers.copy(std::process::id() as i32, number).unwrap_err().raw_os_error(), Some(libc::EBADF), "{number}");
        }
    }
}
