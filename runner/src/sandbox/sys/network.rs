//! What the supervisor of a private network asks of the kernel: seccomp_unotify(2), descriptors and memory of other processes, sockets by their bytes.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{check, owned};

/// A system call that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) struct Notification {
    /// What it is answered by.
    pub(in crate::sandbox) id: u64,
    /// The calling thread.
    pub(in crate::sandbox) thread: libc::pid_t,
    /// The system call's number.
    pub(in crate::sandbox) call: c_int,
    /// Its arguments.
    pub(in crate::sandbox) arguments: [u64; 6],
}

/// `SECCOMP_IOCTL_NOTIF_RECV`. Waits if there is none: poll first.
pub(in crate::sandbox) fn notification(notify: BorrowedFd<'_>) -> io::Result<Notification> {
    // Longer than the structure that we know: a newer kernel may fill more.
    let mut buffer = [0_u64; 32];
    // SAFETY: the callee demands a zeroed structure of at least the kernel's size, 80 bytes as of now; the buffer has 256.
    check(unsafe { libc::syscall(libc::SYS_ioctl, notify.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, buffer.as_mut_ptr()) })?;
    // id; pid and flags; number and architecture; instruction pointer; six arguments.
    let [id, process, call, _, a, b, c, d, e, f, ..] = buffer;
    Ok(Notification { id, thread: process as u32 as libc::pid_t, call: call as u32 as c_int, arguments: [a, b, c, d, e, f] })
}

/// `SECCOMP_IOCTL_NOTIF_SEND`: the call's result is `error`, 0 or a negative errno; or the kernel carries the call out.
pub(in crate::sandbox) fn answer(notify: BorrowedFd<'_>, id: u64, error: i32, carry_out: bool) -> io::Result<()> {
    let flags = if carry_out { libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32 } else { 0 };
    let mut response = libc::seccomp_notif_resp { id, val: 0, error, flags };
    // SAFETY: the callee reads the structure given, which lives through the call.
    check(unsafe { libc::syscall(libc::SYS_ioctl, notify.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response) })?;
    Ok(())
}

/// `SECCOMP_IOCTL_NOTIF_ID_VALID`: whether the call still waits.
pub(in crate::sandbox) fn still_waits(notify: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the callee reads 8 bytes, which `id` has.
    check(unsafe { libc::syscall(libc::SYS_ioctl, notify.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) }).is_ok()
}

/// `SECCOMP_IOCTL_NOTIF_ADDFD` with `SETFD`: puts a copy of `descriptor` in place of the caller's number `place`.
pub(in crate::sandbox) fn put_in_place(
    notify: BorrowedFd<'_>,
    id: u64,
    descriptor: BorrowedFd<'_>,
    place: RawFd,
    close_on_exec: bool,
) -> io::Result<()> {
    let add = libc::seccomp_notif_addfd {
        id,
        flags: libc::SECCOMP_ADDFD_FLAG_SETFD as u32,
        srcfd: descriptor.as_raw_fd() as u32,
        newfd: place as u32,
        newfd_flags: if close_on_exec { libc::O_CLOEXEC as u32 } else { 0 },
    };
    // SAFETY: the callee reads the structure given, which lives through the call.
    check(unsafe { libc::syscall(libc::SYS_ioctl, notify.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const add) })?;
    Ok(())
}

/// `SECCOMP_IOCTL_NOTIF_SET_FLAGS` (Linux 6.6): who waits for an answer is woken on the processor that gave it. Older kernels refuse.
pub(in crate::sandbox) fn wake_on_same_processor(notify: BorrowedFd<'_>) -> io::Result<()> {
    const SYNC_WAKE_UP: u64 = 1;
    // SAFETY: the callee takes two integers and touches no memory of ours.
    check(unsafe { libc::syscall(libc::SYS_ioctl, notify.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP) })?;
    Ok(())
}

/// `pidfd_open(2)` with `PIDFD_THREAD` (Linux 6.9).
pub(in crate::sandbox) fn thread_pidfd(thread: libc::pid_t) -> io::Result<OwnedFd> {
    const PIDFD_THREAD: c_int = libc::O_EXCL;
    // SAFETY: the callee takes two integers and touches no memory of ours.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, thread, PIDFD_THREAD) })
}

/// `process_vm_readv(2)`: fills `target` from another process's memory, or fails with `EFAULT`.
pub(in crate::sandbox) fn read_memory(process: libc::pid_t, address: u64, target: &mut [u8]) -> io::Result<()> {
    let length = target.len();
    let local = libc::iovec { iov_base: target.as_mut_ptr().cast(), iov_len: length };
    let remote = libc::iovec { iov_base: ptr::without_provenance_mut(address as usize), iov_len: length };
    // SAFETY: the callee writes to the local vector alone, which is `target`; the remote one is another process's and the kernel checks it.
    let read = check(unsafe { libc::process_vm_readv(process, &raw const local, 1, &raw const remote, 1, 0) } as libc::c_long)?;
    if read as usize == length { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EFAULT)) }
}

/// `connect(2)` to an address given by its bytes.
pub(in crate::sandbox) fn connect(socket: BorrowedFd<'_>, address: &[u8]) -> io::Result<()> {
    // SAFETY: the callee reads as many bytes as it is told of, which the slice has.
    let result = unsafe { libc::connect(socket.as_raw_fd(), address.as_ptr().cast(), address.len() as libc::socklen_t) };
    check(result.into()).map(drop)
}

/// `bind(2)` to an address given by its bytes.
pub(in crate::sandbox) fn bind(socket: BorrowedFd<'_>, address: &[u8]) -> io::Result<()> {
    // SAFETY: the callee reads as many bytes as it is told of, which the slice has.
    let result = unsafe { libc::bind(socket.as_raw_fd(), address.as_ptr().cast(), address.len() as libc::socklen_t) };
    check(result.into()).map(drop)
}

/// `listen(2)` with whatever backlog the caller gave.
pub(in crate::sandbox) fn listen(socket: BorrowedFd<'_>, backlog: c_int) -> io::Result<()> {
    // SAFETY: the callee takes two integers and touches no memory of ours.
    check(unsafe { libc::listen(socket.as_raw_fd(), backlog) }.into()).map(drop)
}

/// `getsockopt(2)` into `value`: how much of it the kernel filled.
pub(in crate::sandbox) fn option(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &mut [u8]) -> io::Result<usize> {
    let mut length = value.len() as libc::socklen_t;
    // SAFETY: the callee writes at most `length` bytes, which `value` has.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut length) }.into())?;
    Ok(length as usize)
}

/// `setsockopt(2)` from bytes.
pub(in crate::sandbox) fn set_option(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &[u8]) -> io::Result<()> {
    // SAFETY: the callee reads as many bytes as it is told of, which the slice has.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), value.len() as libc::socklen_t) };
    check(result.into()).map(drop)
}

/// `SO_ATTACH_FILTER` (socket(7)).
pub(in crate::sandbox) fn attach_filter(socket: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the callee reads a `sock_fprog` and the instructions that it points to; both live through the call, and it writes to neither.
    let result = unsafe {
        let length = size_of::<libc::sock_fprog>() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, (&raw const program).cast(), length)
    };
    check(result.into()).map(drop)
}

/// Registers a descriptor with the current tokio runtime.
pub(in crate::sandbox) fn watch_writable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the callee demands that the descriptor stay open and the same while it is registered; the registration owns it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::WRITABLE) }?)
}

/// Gives the calling thread an empty table of descriptors of its own (close_range(2): `CLOSE_RANGE_UNSHARE`). Nothing that owns a descriptor may be
/// used or dropped by it from then on.
pub(in crate::sandbox) fn leave_descriptor_table() -> io::Result<()> {
    // SAFETY: takes integers. The table that the other threads share is left as it is.
    check(unsafe { libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE) })?;
    Ok(())
}

/// One registration in an epoll set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) struct Registration {
    /// The number under which the descriptor is registered.
    pub(in crate::sandbox) number: RawFd,
    /// What is waited for.
    pub(in crate::sandbox) events: u32,
    /// What the waiting one is told.
    pub(in crate::sandbox) data: u64,
}

/// `epoll_ctl(2)` on a set, for a descriptor under a number of choice: `operation` is `EPOLL_CTL_ADD` or `_DEL`. `set` and `descriptor` are numbers in
/// the table of this process's other threads. Only for a thread that called [`leave_descriptor_table`], whose table is empty before and after.
pub(in crate::sandbox) fn register_elsewhere(set: RawFd, descriptor: RawFd, operation: c_int, entry: Registration) -> io::Result<()> {
    // All of these take integers; the table that they change is this thread's own, in which nothing is owned.
    let done = (|| {
        // SAFETY: takes two integers.
        let process = check(unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) })?;
        // SAFETY: takes three integers.
        let mut set = check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process, set, 0) })? as RawFd;
        if set == entry.number {
            // SAFETY: takes an integer; the new number is another one since this is in use.
            set = check(unsafe { libc::dup(set) }.into())? as RawFd;
        }
        // SAFETY: takes three integers.
        let descriptor = check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process, descriptor, 0) })? as RawFd;
        // SAFETY: takes two integers.
        check(unsafe { libc::dup2(descriptor, entry.number) }.into())?;
        let mut event = libc::epoll_event { events: entry.events, u64: entry.data };
        // SAFETY: the callee reads the event, which lives through the call.
        check(unsafe { libc::epoll_ctl(set, operation, entry.number, &raw mut event) }.into())
    })();
    // SAFETY: takes integers; the table is this thread's own.
    unsafe { libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0) };
    done.map(drop)
}
