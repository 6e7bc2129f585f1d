//! What runs between `clone` and `exec`, inside the new namespaces but in our memory.
//!
//! Raw system calls only: other threads of ours go on running and may hold any lock, so there is no allocation, no lock, no panic path and no libc
//! credential wrapper here. All strings and descriptors were made before the clone. How far it came goes back through shared memory ([`Record`]).
#![expect(unsafe_code, reason = "one of the two files that talk to the kernel directly; see the house rules")]

use std::arch::asm;
use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use super::InnerIdentity;
use super::handed_out::Handed;
use super::orders::{Beside, Init, Orders};
use super::plan::{Entrance, ProcFrom, Search, Step, TreeFlags};
use super::sys::{self, MountAttr};
use mounts::{change_directory, change_root, mount, open_slot, slot_fd};
use network::{configure_network, hand_out, make_socket, raise_loopback, supervise};
use programs::{execute, start_from_init, wire_stdio};
use rights::{
    await_maps, become_inner, confine_files, die_with_parent, drop_capabilities, drop_own_capabilities, drop_to_user, join_cgroups, limit,
    write_own,
};

/// A system call's result, or its errno.
type Kernel<T> = Result<T, c_int>;

/// Makes a system call by number. Every argument is widened to a register's size.
macro_rules! call {
    ($number:ident $(, $argument:expr)* $(,)?) => {
        kernel(libc::$number, &[$(Register::from($argument).0),*])
    };
}

// After the macro, which they use.
mod mounts;
mod network;
mod programs;
mod rights;
mod writable;

/// An argument as the kernel takes it.
struct Register(usize);

macro_rules! registers {
    ($($integer:ty),*) => {
        $(impl From<$integer> for Register {
            fn from(value: $integer) -> Self {
                // Sign-extended, as C widens an argument.
                Self(value as usize)
            }
        })*
    };
}

registers!(c_int, u32, i64, u64, usize);

impl<T> From<*const T> for Register {
    fn from(pointer: *const T) -> Self {
        Self(pointer.expose_provenance())
    }
}

impl<T> From<*mut T> for Register {
    fn from(pointer: *mut T) -> Self {
        Self(pointer.expose_provenance())
    }
}

/// A system call without libc, whose `errno` belongs to the thread that cloned us.
fn kernel(number: c_long, arguments: &[usize]) -> Kernel<c_long> {
    let mut registers = [0; 6];
    for (register, argument) in registers.iter_mut().zip(arguments) {
        *register = *argument;
    }
    let [a, b, c, d, e, f] = registers;
    let result: c_long;
    // SAFETY: every pointer among the arguments leads into memory made before the clone, or into a local of the caller that outlives the call; strings
    // are NUL-terminated `CStr`s. The kernel keeps all registers but those named.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
             lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as c_long => result, in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f, options(nostack));
    }
    // The kernel answers errors as -4095 to -1.
    if (-4095..0).contains(&result) { Err(-result as c_int) } else { Ok(result) }
}

/// Ends the calling process.
fn exit() -> ! {
    let _ = call!(SYS_exit_group, 127);
    let _ = call!(SYS_exit, 127);
    // A filter of the user's may refuse even that. An instruction that is none ends whoever has no handler, PID 1 too (pid_namespaces(7) is about
    // signals that are sent).
    // SAFETY: does not return, and touches neither memory nor registers.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("ud2", options(noreturn, nostack))
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("udf #0", options(noreturn, nostack))
    }
}

/// Clones the child and suspends this thread until it has executed its program or failed, which the record tells. The child's id is stored in
/// `child_pid` before it runs.
pub(super) fn start(stack: &sys::Stack, orders: &mut Orders<'_>, child_pid: &AtomicI32) -> std::io::Result<libc::pid_t> {
    // SAFETY: the callee demands a child that makes raw system calls only and never returns, which `run` is; the orders and the id's place outlive the
    // call, which returns only when the child has left our memory.
    unsafe { sys::clone_vfork(run, stack, orders.namespaces, ptr::from_mut(orders).cast(), child_pid.as_ptr()) }
}

/// The child's first and only function. Does not return.
extern "C" fn run(argument: *mut c_void) -> c_int {
    // SAFETY: `argument` is the `Orders` that the parent passed to `clone` and keeps alive while it is suspended; nobody else uses it meanwhile.
    let orders = unsafe { &mut *argument.cast::<Orders<'_>>() };
    let resolve = if orders.omitted.lookups { 0 } else { libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS };
    let mut child = Child { root: -1, over_root: false, outer_proc: -1, refused: 0, resolve, has_proc: false, null: -1, empty: -1 };
    let steps = orders.steps;
    for (index, step) in steps.iter().enumerate() {
        let index = index as u32;
        orders.record.step.store(index, Ordering::Relaxed);
        let Err(errno) = child.perform(step, orders) else { continue };
        if orders.may_lack(step) {
            child.note(orders, errno);
            continue;
        }
        orders.record.errno.store(errno, Ordering::Release);
        break;
    }
    exit()
}

struct Child {
    /// The root of the sandbox, once there is one.
    root: c_int,
    /// Whether it lies over the old root already.
    over_root: bool,
    /// The outer `/proc`, where it may be needed.
    outer_proc: c_int,
    refused: usize,
    /// How paths inside are looked up.
    resolve: u64,
    /// Whether `/proc` inside has been looked at.
    has_proc: bool,
    /// `/dev/null` inside, and an empty folder, once they have been used.
    null: c_int,
    empty: c_int,
}

impl Child {
    /// Notes that the step at hand was refused, and the sandbox stands without it.
    fn note(&mut self, orders: &Orders<'_>, errno: c_int) {
        orders.record.refuse(self.refused, orders.record.step.load(Ordering::Relaxed), errno);
        self.refused += 1;
    }

    fn perform(&mut self, step: &Step, orders: &mut Orders<'_>) -> Kernel<()> {
        match step {
            Step::AwaitMaps => await_maps(orders.maps_wanted, orders.maps_written),
            Step::Become(identity) => become_inner(*identity),
            Step::WriteOwn { file, text } => write_own(file, text.as_bytes(), orders.omitted.proc_check),
            Step::ForbidNesting => write_own(c"/proc/sys/user/max_user_namespaces", b"0", orders.omitted.proc_check),
            Step::NewSession => call!(SYS_setsid).map(drop),
            Step::DieWithParent => die_with_parent(orders.parent),
            Step::WireStdio => wire_stdio(orders.stdio, orders.signals),
            Step::MakePrivate => mount(ptr::null(), c"/", ptr::null(), libc::MS_REC | libc::MS_PRIVATE, ptr::null()),
            Step::Open { slot, path, flags } => open_slot(orders, *slot, path, *flags),
            Step::AttachRoot { slot } => self.attach_root(slot_fd(orders, *slot)?),
            Step::AttachOverlay { lower, folder } => self.attach_overlay(slot_fd(orders, *lower)?, slot_fd(orders, *folder)?),
            Step::MakeDev { files } => self.make_dev(files),
            Step::MakeTerminals => self.make_terminals(),
            Step::MakeRoot { options } => self.make_root(options),
            Step::MakeDir { path, mode } => self.make_dir(path, *mode),
            Step::MakeLink { path, target } => call!(SYS_symlinkat, target.as_ptr(), self.root, path.as_ptr()).map(drop),
            Step::MakeFile { path, contents, mode } => self.make_file(path, contents, *mode),
            Step::AttachTmpfs { target, options } => self.mount_tmpfs(target, options),
            Step::MakePlace { slot, names, owner } => self.make_place(slot_fd(orders, *slot)?, names, *owner),
            Step::StageFiles { place, options } => self.mount_tmpfs(place, options),
            Step::StageFile { place, slot, name, contents, mode } => {
                self.stage_file(orders.slots.get_mut(*slot), (*place, name), contents, *mode)
            }
            Step::KeepOuterProc => self.keep_outer_proc(),
            Step::AttachProc(from) => self.attach_proc(*from, orders),
            Step::Attach { slot, target } => self.attach(slot_fd(orders, *slot)?, target),
            Step::MaskReadOnly { path } => self.mask_read_only(path),
            Step::MaskNull { path } => self.mask_null(path),
            Step::MaskEmpty { path } => self.mask_empty(path),
            Step::RaiseLoopback => raise_loopback(),
            Step::ConfigureNetwork { messages, count } => configure_network(messages, *count),
            Step::MakeSocket { handed, socket } => make_socket(orders.handed.get_mut(*handed as usize), *socket),
            Step::JoinCgroups => join_cgroups(orders.cgroups),
            Step::OpenForWatch { .. } | Step::Backstop { .. } if orders.memory_held => Ok(()),
            Step::OpenForWatch { handed, path, flags } => self.open_for_host(orders.handed.get_mut(*handed as usize), path, *flags),
            Step::Backstop { bytes } => limit(libc::RLIMIT_DATA, *bytes),
            Step::SealRoot => self.seal_root(),
            Step::EnterRoot(by) => self.enter_root(*by, orders),
            Step::ChangeRoot(path) => change_root(path),
            Step::DropToUser(identity) => drop_to_user(*identity),
            Step::Limit { resource, value } => limit(*resource, *value),
            Step::Umask(mask) => call!(SYS_umask, *mask).map(drop),
            Step::Hostname(name) => call!(SYS_sethostname, name.as_ptr(), name.count_bytes()).map(drop),
            Step::ChangeDirectory(path) => change_directory(path, self.resolve & libc::RESOLVE_NO_MAGICLINKS),
            Step::DropCapabilities { kept } => drop_capabilities(*kept),
            Step::EmptyCapabilities => drop_own_capabilities(),
            Step::NoNewPrivileges => call!(SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).map(drop),
            Step::SuperviseNetwork { .. } => supervise_network(orders),
            Step::ConfineFiles => confine_files(orders.ruleset_now(), orders.allowed),
            Step::CloseOthers => close_others(orders.descriptors),
            Step::HandOut if !orders.hands_out() => Ok(()),
            Step::HandOut => hand_out(orders.hand_over, &orders.handed),
            Step::Filter => call!(SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, ptr::from_ref(orders.filter)).map(drop),
            Step::Execute if orders.init.is_some() => execute_under_init(orders),
            Step::Execute => execute(orders),
        }
    }
}

fn supervise_network(orders: &mut Orders<'_>) -> Kernel<()> {
    if orders.unsupervised != 0 {
        return Err(orders.unsupervised);
    }
    let [notify, ..] = &mut orders.handed;
    supervise(orders.network_filter).map(|descriptor| *notify = descriptor)
}

fn close(fd: c_int) {
    let _ = call!(SYS_close, fd);
}

/// All but the standard streams end with the exec. Without `close_range` one by one, up to the limit that they were made under.
fn close_others(limit: u32) -> Kernel<()> {
    match call!(SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) {
        Err(libc::ENOSYS | libc::EPERM) => {
            for descriptor in 3..limit {
                // Most are not open.
                let _ = call!(SYS_fcntl, descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
            }
            Ok(())
        }
        closed => closed.map(drop),
    }
}

fn write_all(file: c_int, mut bytes: &[u8]) -> Kernel<()> {
    while !bytes.is_empty() {
        let written = call!(SYS_write, file, bytes.as_ptr(), bytes.len())?;
        bytes = bytes.get(written as usize..).unwrap_or_default();
    }
    Ok(())
}

/// `openat2(2)` with a way of resolving, close-on-exec.
fn open_path(folder: c_int, path: &CStr, flags: c_int, resolve: u64) -> Kernel<c_int> {
    // SAFETY: all zeroes is a valid value of this structure of integers.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.resolve = resolve;
    Ok(call!(SYS_openat2, folder, path.as_ptr(), ptr::from_ref(&how), size_of::<libc::open_how>())? as c_int)
}

/// `fstatat(2)`.
fn status_of(folder: c_int, path: *const c_char, flags: c_int) -> Kernel<libc::stat> {
    // SAFETY: all zeroes is a valid value of this structure of integers.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    call!(SYS_newfstatat, folder, path, ptr::from_mut(&mut status), flags)?;
    Ok(status)
}

/// Whether a descriptor is of a `/proc`; else `EXDEV`.
fn is_proc(file: c_int) -> Kernel<()> {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    // SAFETY: all zeroes is a valid value of this structure of integers.
    let mut kind: libc::statfs = unsafe { std::mem::zeroed() };
    call!(SYS_fstatfs, file, ptr::from_mut(&mut kind))?;
    if kind.f_type == PROC_SUPER_MAGIC { Ok(()) } else { Err(libc::EXDEV) }
}

/// Whether a descriptor is of the null device; else `EXDEV`.
fn is_null(file: c_int) -> Kernel<()> {
    let status = status_of(file, c"".as_ptr(), libc::AT_EMPTY_PATH)?;
    let is_null = status.st_mode & libc::S_IFMT == libc::S_IFCHR && status.st_rdev == libc::makedev(1, 3);
    if is_null { Ok(()) } else { Err(libc::EXDEV) }
}

/// Becomes the init, with a second process beside it that becomes the program, if there is one yet. Returns only if one of the two cannot be.
///
/// The second process waits until this one has left our memory: a program that ran earlier could read it through `/proc/1/mem`.
fn execute_under_init(orders: &mut Orders<'_>) -> Kernel<()> {
    let Some(Init { executable, talk, factory, scope, ref beside }) = orders.init else {
        return Err(libc::EINVAL);
    };
    let (name, pid) = match beside.as_ref().map(|beside| beside.stack) {
        Some(stack) => (c"init", clone_program(stack, orders)?),
        None => (c"programs", 0),
    };
    // Kept through the exec: a signal that came before the init asks for it would be lost on a PID 1.
    let all = u64::MAX;
    call!(SYS_rt_sigprocmask, libc::SIG_SETMASK, ptr::from_ref(&all), ptr::null::<c_void>(), 8)?;
    call!(SYS_dup3, talk, 3, 0)?;
    if factory >= 0 {
        call!(SYS_dup3, factory, 4, 0)?;
    }
    let mut argument = [0_u8; 16];
    let mut arguments = [name.as_ptr(), ptr::null(), ptr::null()];
    if let (Some(scope), [_, second, _]) = (scope, &mut arguments) {
        // No namespace ends with it: it is told of our end instead, and gets the orphans.
        call!(SYS_prctl, libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)?;
        call!(SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGPWR, 0, 0, 0)?;
        *second = scope_argument(&mut argument, scope, pid);
    }
    let environment: [*const c_char; 1] = [ptr::null()];
    call!(SYS_execveat, executable, c"".as_ptr(), arguments.as_ptr(), environment.as_ptr(), libc::AT_EMPTY_PATH).map(drop)
}

fn clone_program(stack: *mut c_void, orders: &mut Orders<'_>) -> Kernel<c_int> {
    // SAFETY: the stack is that process's alone, and the parent waits for its end or exec before it lets go of the orders.
    let pid = unsafe { libc::clone(program, stack, libc::CLONE_VM | libc::SIGCHLD, ptr::from_mut(orders).cast()) };
    if pid < 0 {
        // SAFETY: libc keeps its errno in the memory of the thread that cloned us, which is suspended.
        return Err(unsafe { *libc::__errno_location() });
    }
    Ok(pid)
}

/// The init's argument: a letter and a process id, in decimal digits.
fn scope_argument(place: &mut [u8; 16], scope: u8, pid: c_int) -> *const c_char {
    let mut left = pid.unsigned_abs();
    let mut start = place.len() - 1;
    loop {
        start -= 1;
        if let Some(digit) = place.get_mut(start) {
            *digit = b'0' + (left % 10) as u8;
        }
        left /= 10;
        if left == 0 {
            break;
        }
    }
    start -= 1;
    if let Some(letter) = place.get_mut(start) {
        *letter = scope;
    }
    place.as_ptr().wrapping_add(start).cast()
}

/// The second process. The write ends of the gate close when the init is executed and the parent goes on.
extern "C" fn program(argument: *mut c_void) -> c_int {
    // SAFETY: `argument` is the orders that `execute_under_init` passed; it and the parent only read them until this process is gone from our memory.
    let orders = unsafe { &mut *argument.cast::<Orders<'_>>() };
    let Some(Init { scope, beside: Some(Beside { gate, started, .. }), .. }) = orders.init else { exit() };
    if scope.is_some() && call!(SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0).is_err() {
        exit();
    }
    close(gate.1);
    let mut byte = 0_u8;
    // Ends with the end of the pipe.
    let _ = call!(SYS_read, gate.0, ptr::from_mut(&mut byte), 1);
    let executed = if orders.starts.is_empty() { execute(orders) } else { start_from_init(orders) };
    if let Err(errno) = executed {
        orders.record.errno.store(errno, Ordering::Release);
        let _ = write_all(started, b"x");
    }
    exit()
}
