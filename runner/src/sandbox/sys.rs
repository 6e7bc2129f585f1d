//! Thin typed wrappers of the system calls that no safe crate offers, for use outside the sandbox.
#![expect(unsafe_code, reason = "one of the two files that talk to the kernel directly; see the house rules")]

use std::ffi::{CStr, c_int, c_void};
use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::ptr;

use nix::sys::signal::SigSet;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::plan::TreeFlags;

// Constants of `linux/mount.h` that the libc crate does not have for this target.
pub(super) const OPEN_TREE_CLONE: u32 = 1;
pub(super) const OPEN_TREE_CLOEXEC: u32 = libc::O_CLOEXEC as u32;
pub(super) const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x04;
pub(super) const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
pub(super) const MOUNT_ATTR_RDONLY: u64 = 0x01;
pub(super) const MOUNT_ATTR_NOSUID: u64 = 0x02;
pub(super) const MOUNT_ATTR_NODEV: u64 = 0x04;
pub(super) const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
#[derive(Default)]
pub(super) struct MountAttr {
    pub(super) attr_set: u64,
    pub(super) attr_clr: u64,
    pub(super) propagation: u64,
    pub(super) userns_fd: u64,
}

impl MountAttr {
    /// Nothing set-user-id works on any mount of a sandbox; the rest as `flags` say.
    pub(super) fn of(flags: TreeFlags) -> Self {
        let mut attr_set = MOUNT_ATTR_NOSUID;
        if flags.read_only {
            attr_set |= MOUNT_ATTR_RDONLY;
        }
        if !flags.devices {
            attr_set |= MOUNT_ATTR_NODEV;
        }
        Self { attr_set, ..Self::default() }
    }
}

/// The result of a system call as Rust has it.
fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = check(result)? as RawFd;
    // SAFETY: the callee demands a descriptor that nobody else owns. The kernel has just made it for this call.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `open_tree(2)` with `OPEN_TREE_CLONE`: a detached copy of the mount at `path`.
pub(super) fn clone_tree(path: &CStr, recursive: bool) -> io::Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | if recursive { libc::AT_RECURSIVE as u32 } else { 0 };
    // SAFETY: the callee demands a NUL-terminated path that lives through the call; `CStr` is one.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })
}

/// `mount_setattr(2)` on the mount (and, if recursive, all below it) behind `tree`.
pub(super) fn set_mount_attributes(tree: BorrowedFd<'_>, attr: &MountAttr, recursive: bool) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the callee demands an attribute structure of the size given; `MountAttr` is version 0 of it and outlives the call.
    check(unsafe {
        libc::syscall(libc::SYS_mount_setattr, tree.as_raw_fd(), c"".as_ptr(), flags, ptr::from_ref(attr), size_of::<MountAttr>())
    })?;
    Ok(())
}

/// `pidfd_open(2)`.
pub(super) fn pidfd_open(pid: libc::pid_t) -> io::Result<OwnedFd> {
    Ok(rustix::process::pidfd_open(Pid::from_raw(pid).ok_or(Errno::SRCH)?, PidfdFlags::empty())?)
}

/// Registers a descriptor with the current tokio runtime.
pub(super) fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the callee demands that the descriptor stay open and the same while it is registered; the registration owns it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}

/// `pidfd_send_signal(2)` with no further information.
pub(super) fn pidfd_kill(pidfd: BorrowedFd<'_>, signal: c_int) -> io::Result<()> {
    // SAFETY: the callee accepts a null siginfo and then touches no memory of ours.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, ptr::null::<c_void>(), 0) })?;
    Ok(())
}

/// Removes a System V object; `control` is the number of `shmctl(2)`, or of one with the same arguments.
pub(super) fn remove_object(control: libc::c_long, id: c_int) -> io::Result<()> {
    // SAFETY: with IPC_RMID the callee touches no memory of ours.
    check(unsafe { libc::syscall(control, id, libc::IPC_RMID, 0) }).map(drop)
}

/// `waitpid(2)` for one child, blocking or not: its wait status. `None`: not ended yet.
pub(super) fn wait_for(pid: libc::pid_t, block: bool) -> io::Result<Option<c_int>> {
    let options = if block { WaitOptions::empty() } else { WaitOptions::NOHANG };
    let pid = Pid::from_raw(pid).ok_or(Errno::CHILD)?;
    let ended = rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(pid), options))?;
    Ok(ended.map(|(_, status)| status.as_raw()))
}

/// Blocks every signal for the calling thread, and so for what it clones.
pub(super) fn block_all_signals() {
    // It fails for a way of changing the mask that there is not.
    let _ = SigSet::all().thread_set_mask();
}

/// The signals whose disposition is not the default one: ignored ones would stay ignored through an exec.
pub(super) fn signals_not_default() -> Vec<c_int> {
    (1..=64).filter(|signal| !is_default(*signal)).collect()
}

/// Asks the kernel itself: libc hides the two signals that it keeps for its own use.
fn is_default(signal: c_int) -> bool {
    // The kernel's structure (handler, flags, restorer, mask); it is the handler that counts.
    let mut action = [0_u64; 4];
    // SAFETY: the callee fills the structure given, of the kernel's size for a mask of 8 bytes; a null new action changes nothing.
    let asked = unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, ptr::null::<c_void>(), action.as_mut_ptr(), 8) };
    asked < 0 || action[0] == libc::SIG_DFL as u64
}

/// Memory for a child's stack, with inaccessible pages below it.
#[derive(Debug)]
pub(super) struct Stack {
    base: *mut c_void,
}

impl Stack {
    const SIZE: usize = 256 * 1024;
    const GUARD: usize = 64 * 1024;

    /// Maps a stack.
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: a fresh private mapping touches no memory that Rust knows of.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                Self::SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self { base };
        // SAFETY: the range lies at the start of the mapping just made, which nothing uses yet.
        if unsafe { libc::mprotect(base, Self::GUARD, libc::PROT_NONE) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(stack)
    }

    pub(super) fn top(&self) -> *mut c_void {
        // SAFETY: one past the end of the mapping that `new` made.
        unsafe { self.base.byte_add(Self::SIZE) }
    }
}

// SAFETY: the pointer is to a mapping that only its owner uses; nothing about it belongs to one thread.
unsafe impl Send for Stack {}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and whoever ran on it has been waited for.
        unsafe { libc::munmap(self.base, Self::SIZE) };
    }
}

/// One `clone(2)` that shares memory and suspends the caller until the child has executed a program or ended. The child's id is also stored in
/// `child_pid` before it runs.
///
/// # Safety
/// `child` must never return, panic, allocate or take a lock, and all it reads through `argument` must outlive this call.
pub(super) unsafe fn clone_vfork(
    child: extern "C" fn(*mut c_void) -> c_int,
    stack: &Stack,
    namespaces: c_int,
    argument: *mut c_void,
    child_pid: *mut libc::pid_t,
) -> io::Result<libc::pid_t> {
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PARENT_SETTID | libc::SIGCHLD | namespaces;
    // SAFETY: the stack is ours alone and the caller is suspended while it is used; `child` and `argument` are the caller's promise.
    let pid = unsafe { libc::clone(child, stack.top(), flags, argument, child_pid) };
    if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid) }
}

/// A process that does nothing in a user namespace of its own, for the sake of the namespace. Killed and reaped when dropped.
pub(super) struct NamespaceHolder {
    pid: libc::pid_t,
    // Freed after the process that runs on it has been reaped: fields are dropped after `drop` has run.
    _stack: Stack,
}

impl NamespaceHolder {
    /// Starts it.
    pub(super) fn start() -> io::Result<Self> {
        extern "C" fn wait(parent: *mut c_void) -> c_int {
            // SAFETY: takes integers and touches no memory.
            unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
            // The signal does not come for a parent that ended before that; then this has another one.
            // SAFETY: takes nothing and touches no memory.
            while unsafe { libc::syscall(libc::SYS_getppid) } as usize == parent.addr() {
                // SAFETY: without descriptors, time-out and mask it touches no memory, and waits for a signal.
                unsafe { libc::syscall(libc::SYS_ppoll, 0, 0, 0, 0, 0) };
            }
            loop {
                // SAFETY: takes an integer; does not return.
                unsafe { libc::syscall(libc::SYS_exit_group, 0) };
            }
        }
        let stack = Stack::new()?;
        let parent = ptr::without_provenance_mut(std::process::id() as usize);
        // SAFETY: the child runs on a stack of its own that outlives it, touches no other memory and never returns.
        let pid = unsafe { libc::clone(wait, stack.top(), libc::CLONE_VM | libc::CLONE_NEWUSER | libc::SIGCHLD, parent) };
        if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(Self { pid, _stack: stack }) }
    }

    /// Its process id.
    pub(super) fn pid(&self) -> libc::pid_t {
        self.pid
    }
}

impl Drop for NamespaceHolder {
    fn drop(&mut self) {
        // SAFETY: the id is of our own child, not yet reaped, so it cannot be another process.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        let _ = wait_for(self.pid, true);
    }
}

/// `landlock_create_ruleset(2)`. With `flags` 1 and no attributes it answers the ABI version.
pub(super) fn landlock_abi() -> Option<i64> {
    // SAFETY: with the version flag the callee demands a null attribute of size 0.
    check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, ptr::null::<c_void>(), 0, 1) }).ok()
}

/// `struct landlock_ruleset_attr` of `landlock_create_ruleset(2)`.
#[repr(C)]
#[derive(Default)]
pub(super) struct LandlockRuleset {
    pub(super) handled_access_fs: u64,
    pub(super) handled_access_net: u64,
    pub(super) scoped: u64,
}

/// `landlock_create_ruleset(2)`; `size` is how much of the structure this kernel knows.
pub(super) fn landlock_create(attr: &LandlockRuleset, size: usize) -> io::Result<OwnedFd> {
    // SAFETY: the callee reads `size` bytes, at most the structure's own size by the `min`.
    owned(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, ptr::from_ref(attr), size.min(size_of::<LandlockRuleset>()), 0) })
}

/// One more than the largest number that a descriptor of ours can have.
pub(super) fn descriptor_limit() -> u32 {
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    limit.map_or(u32::MAX, |(_, most)| u32::try_from(most).unwrap_or(u32::MAX))
}

/// What a system call answers to arguments that make no sense for any of those it is asked of.
pub(super) fn answer_to_nonsense(number: libc::c_long) -> io::Error {
    // SAFETY: takes integers and null pointers, which the callees refuse as descriptors, flags or addresses before they do anything.
    match unsafe { libc::syscall(number, -1, ptr::null::<c_void>(), 0, 0, 0, 0) } {
        -1 => io::Error::last_os_error(),
        _ => io::Error::from_raw_os_error(libc::EINVAL),
    }
}

/// `landlock_add_rule(2)`: allows `rights` beneath a path.
pub(super) fn landlock_allow_beneath(ruleset: BorrowedFd<'_>, path: BorrowedFd<'_>, rights: u64) -> io::Result<()> {
    // struct landlock_path_beneath_attr is packed: 8 bytes of rights, 4 of descriptor.
    let mut rule = [0_u8; 12];
    let (first, second) = rule.split_at_mut(8);
    first.copy_from_slice(&rights.to_ne_bytes());
    second.copy_from_slice(&path.as_raw_fd().to_ne_bytes());
    const PATH_BENEATH: c_int = 1;
    // SAFETY: the callee reads the 12 bytes of that structure, which outlive the call.
    check(unsafe { libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), PATH_BENEATH, rule.as_ptr(), 0) })?;
    Ok(())
}

/// A descriptor of at least 5, so that wiring the standard streams and the init's status pipe and socket factory cannot overwrite it.
pub(super) fn above_standard(file: OwnedFd) -> io::Result<OwnedFd> {
    if file.as_raw_fd() > 4 {
        return Ok(file);
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(file, 5)?)
}

/// A file in memory that holds `program` and that nobody can change any more (memfd_create(2), fcntl(2): F_ADD_SEALS). Nobody can read it either: the
/// kernel then makes what executes it undumpable from its first instant, so that nobody inside may look into it (execve(2), proc(5)).
pub(super) fn sealed_program(name: &CStr, program: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Since Linux 6.3 executable ones want a flag of their own, which older kernels refuse.
    let made = memfd_create(name, flags | MemfdFlags::EXEC).or_else(|_| memfd_create(name, flags));
    let mut file = File::from(made?);
    file.write_all(program)?;
    file.set_permissions(Permissions::from_mode(0o111))?;
    fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    above_standard(file.into())
}

/// A pipe, close-on-exec, as (read end, write end).
pub(super) fn pipe() -> io::Result<(File, File)> {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    Ok((File::from(above_standard(read)?), File::from(above_standard(write)?)))
}

/// A connected pair of sockets, both above the standard streams.
pub(super) fn stream_pair() -> io::Result<(UnixStream, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    Ok((above_standard(ours.into())?.into(), above_standard(theirs.into())?.into()))
}

// What the supervisor of a private network asks of the kernel: seccomp_unotify(2), sockets by their bytes, epoll sets of others.

/// A system call that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Notification {
    /// What it is answered by.
    pub(super) id: u64,
    /// The calling thread.
    pub(super) thread: libc::pid_t,
    /// The system call's number.
    pub(super) call: c_int,
    /// Its arguments.
    pub(super) arguments: [u64; 6],
}

/// `SECCOMP_IOCTL_NOTIF_RECV`. Waits if there is none: poll first.
pub(super) fn notification(notify: BorrowedFd<'_>) -> io::Result<Notification> {
    // Longer than the structure that we know: a newer kernel may fill more.
    let mut buffer = [0_u64; 32];
    // SAFETY: the callee demands a zeroed structure of at least the kernel's size, 80 bytes as of now; the buffer has 256.
    check(unsafe { libc::syscall(libc::SYS_ioctl, notify.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, buffer.as_mut_ptr()) })?;
    // id; pid and flags; number and architecture; instruction pointer; six arguments.
    let [id, process, call, _, a, b, c, d, e, f, ..] = buffer;
    Ok(Notification { id, thread: process as u32 as libc::pid_t, call: call as u32 as c_int, arguments: [a, b, c, d, e, f] })
}

/// `SECCOMP_IOCTL_NOTIF_SEND`: the call's result is `error`, 0 or a negative errno; or the kernel carries the call out.
pub(super) fn answer(notify: BorrowedFd<'_>, id: u64, error: i32, carry_out: bool) -> io::Result<()> {
    let flags = if carry_out { libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32 } else { 0 };
    let mut response = libc::seccomp_notif_resp { id, val: 0, error, flags };
    // SAFETY: the callee reads the structure given, which lives through the call.
    check(unsafe { libc::syscall(libc::SYS_ioctl, notify.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response) })?;
    Ok(())
}

/// `SECCOMP_IOCTL_NOTIF_ID_VALID`: whether the call still waits.
pub(super) fn still_waits(notify: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the callee reads 8 bytes, which `id` has.
    check(unsafe { libc::syscall(libc::SYS_ioctl, notify.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) }).is_ok()
}

/// `SECCOMP_IOCTL_NOTIF_ADDFD` with `SETFD`: puts a copy of `descriptor` in place of the caller's number `place`.
pub(super) fn put_in_place(
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
pub(super) fn wake_on_same_processor(notify: BorrowedFd<'_>) -> io::Result<()> {
    const SYNC_WAKE_UP: u64 = 1;
    // SAFETY: the callee takes two integers and touches no memory of ours.
    check(unsafe { libc::syscall(libc::SYS_ioctl, notify.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP) })?;
    Ok(())
}

/// Whether a thread's descriptor is of the same open file as one of ours (kcmp(2): `KCMP_FILE`).
pub(super) fn is_same_file((thread, us): (libc::pid_t, libc::pid_t), number: RawFd, own: BorrowedFd<'_>) -> io::Result<bool> {
    const FILE: c_int = 0;
    // SAFETY: the callee takes five integers and touches no memory of ours.
    let order = check(unsafe { libc::syscall(libc::SYS_kcmp, thread, us, FILE, number as libc::c_long, own.as_raw_fd() as libc::c_long) })?;
    Ok(order == 0)
}

/// Whether a thread's descriptor is of an epoll set. Asked for a member of it (kcmp(2): `KCMP_EPOLL_TFD`), of others the kernel says `EINVAL`.
pub(super) fn is_epoll_set((thread, us): (libc::pid_t, libc::pid_t), number: RawFd, own: BorrowedFd<'_>) -> bool {
    const EPOLL_TFD: c_int = 7;
    // struct kcmp_epoll_slot: the set, the member, and which one of several of that number.
    let slot = [number as u32, 0, 0];
    // SAFETY: the callee reads the 12 bytes of that structure, which outlive the call.
    let asked = unsafe { libc::syscall(libc::SYS_kcmp, us, thread, EPOLL_TFD, own.as_raw_fd() as libc::c_long, slot.as_ptr()) };
    check(asked).map_or_else(|error| !matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EBADF)), |_| true)
}

/// `connect(2)` to an address given by its bytes.
pub(super) fn connect(socket: BorrowedFd<'_>, address: &[u8]) -> io::Result<()> {
    // SAFETY: the callee reads as many bytes as it is told of, which the slice has.
    let result = unsafe { libc::connect(socket.as_raw_fd(), address.as_ptr().cast(), address.len() as libc::socklen_t) };
    check(result.into()).map(drop)
}

/// `bind(2)` to an address given by its bytes.
pub(super) fn bind(socket: BorrowedFd<'_>, address: &[u8]) -> io::Result<()> {
    // SAFETY: the callee reads as many bytes as it is told of, which the slice has.
    let result = unsafe { libc::bind(socket.as_raw_fd(), address.as_ptr().cast(), address.len() as libc::socklen_t) };
    check(result.into()).map(drop)
}

/// `getsockopt(2)` into `value`: how much of it the kernel filled.
pub(super) fn option(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &mut [u8]) -> io::Result<usize> {
    let mut length = value.len() as libc::socklen_t;
    // SAFETY: the callee writes at most `length` bytes, which `value` has.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut length) }.into())?;
    Ok(length as usize)
}

/// `setsockopt(2)` from bytes.
pub(super) fn set_option(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &[u8]) -> io::Result<()> {
    // SAFETY: the callee reads as many bytes as it is told of, which the slice has.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), value.len() as libc::socklen_t) };
    check(result.into()).map(drop)
}

/// `SO_ATTACH_FILTER` (socket(7)).
pub(super) fn attach_filter(socket: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the callee reads a `sock_fprog` and the instructions that it points to; both live through the call, and it writes to neither.
    let result = unsafe {
        let length = size_of::<libc::sock_fprog>() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, (&raw const program).cast(), length)
    };
    check(result.into()).map(drop)
}

/// Gives the calling thread an empty table of descriptors of its own (close_range(2): `CLOSE_RANGE_UNSHARE`). Nothing that owns a descriptor may be
/// used or dropped by it from then on.
pub(super) fn leave_descriptor_table() -> io::Result<()> {
    // SAFETY: takes integers. The table that the other threads share is left as it is.
    check(unsafe { libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE) })?;
    Ok(())
}

/// One registration in an epoll set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Registration {
    /// The number under which the descriptor is registered.
    pub(super) number: RawFd,
    /// What is waited for.
    pub(super) events: u32,
    /// What the waiting one is told.
    pub(super) data: u64,
}

/// `epoll_ctl(2)` on a set, for a descriptor under a number of choice: `operation` is `EPOLL_CTL_ADD` or `_DEL`. `set` and `descriptor` are numbers in
/// the table of this process's other threads. Only for a thread that called [`leave_descriptor_table`], whose table is empty before and after.
pub(super) fn register_elsewhere(set: RawFd, descriptor: RawFd, operation: c_int, entry: Registration) -> io::Result<()> {
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
