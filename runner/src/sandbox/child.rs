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
use super::orders::{Init, Orders};
use super::plan::{Search, Step, TreeFlags};
use super::sys::{self, MountAttr};

/// A system call's result, or its errno.
type Kernel<T> = Result<T, c_int>;

/// Makes a system call by number. Every argument is widened to a register's size.
macro_rules! call {
    ($number:ident $(, $argument:expr)* $(,)?) => {
        kernel(libc::$number, &[$(Register::from($argument).0),*])
    };
}

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
    loop {
        let _ = call!(SYS_exit_group, 127);
    }
}

/// The namespaces of every sandbox. The network is the host's until the sandbox gets its own.
const NAMESPACES: c_int = libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;

/// Clones the child and suspends this thread until it has executed its program or failed, which the record tells. The child's id is stored in
/// `child_pid` before it runs.
pub(super) fn start(stack: &sys::Stack, orders: &mut Orders<'_>, child_pid: &AtomicI32) -> std::io::Result<libc::pid_t> {
    // SAFETY: the callee demands a child that makes raw system calls only and never returns, which `run` is; the orders and the id's place outlive the
    // call, which returns only when the child has left our memory.
    unsafe { sys::clone_vfork(run, stack, NAMESPACES, ptr::from_mut(orders).cast(), child_pid.as_ptr()) }
}

/// The child's first and only function. Does not return.
extern "C" fn run(argument: *mut c_void) -> c_int {
    // SAFETY: `argument` is the `Orders` that the parent passed to `clone` and keeps alive while it is suspended; nobody else uses it meanwhile.
    let orders = unsafe { &mut *argument.cast::<Orders<'_>>() };
    let mut child = Child { root: -1, refused: 0 };
    let steps = orders.steps;
    for (index, step) in steps.iter().enumerate() {
        let index = index as u32;
        orders.record.step.store(index, Ordering::Relaxed);
        let Err(errno) = child.perform(step, orders) else { continue };
        if step.optional() || (orders.tolerant && !matches!(step, Step::Execute)) {
            orders.record.refuse(child.refused, index, errno);
            child.refused += 1;
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
    refused: usize,
}

impl Child {
    fn perform(&mut self, step: &Step, orders: &mut Orders<'_>) -> Kernel<()> {
        match step {
            Step::AwaitMaps => await_maps(orders.maps_wanted, orders.maps_written),
            Step::Become(identity) => become_inner(*identity),
            Step::WriteOwn { file, text } => write_own(file, text.as_bytes()),
            Step::ForbidNesting => write_own(c"/proc/sys/user/max_user_namespaces", b"0"),
            Step::NewSession => call!(SYS_setsid).map(drop),
            Step::DieWithParent => die_with_parent(orders.parent),
            Step::WireStdio => wire_stdio(orders.stdio, orders.signals),
            Step::MakePrivate => mount(ptr::null(), c"/", ptr::null(), libc::MS_REC | libc::MS_PRIVATE, ptr::null()),
            Step::Open { slot, path, flags } => open_slot(orders, *slot, path, *flags),
            Step::AttachRoot { slot } => self.attach_root(slot_fd(orders, *slot)?),
            Step::MakeRoot { options } => self.make_root(options),
            Step::MakeDir { path, mode } => self.make_dir(path, *mode),
            Step::MakeLink { path, target } => call!(SYS_symlinkat, target.as_ptr(), self.root, path.as_ptr()).map(drop),
            Step::MakeFile { path, contents, mode } => self.make_file(path, contents, *mode),
            Step::AttachTmpfs { target, options } => self.mount_at(target, c"tmpfs", libc::MS_NOSUID | libc::MS_NODEV, options.as_ptr()),
            Step::AttachProc => self.mount_at(c"proc", c"proc", libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC, ptr::null()),
            Step::Attach { slot, target } => self.attach(slot_fd(orders, *slot)?, target),
            Step::MaskReadOnly { path } => self.mask(path, path, true),
            Step::MaskNull { path } => self.mask(c"dev/null", path, false),
            Step::SealRoot => self.seal_root(),
            Step::EnterRoot => self.enter_root(),
            Step::Limit { resource, value } => limit(*resource, *value),
            Step::Umask(mask) => call!(SYS_umask, *mask).map(drop),
            Step::Hostname(name) => call!(SYS_sethostname, name.as_ptr(), name.count_bytes()).map(drop),
            Step::ChangeDirectory(path) => change_directory(path),
            Step::DropCapabilities => drop_capabilities(),
            Step::NoNewPrivileges => call!(SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).map(drop),
            Step::ConfineFiles => confine_files(orders.ruleset, orders.allowed),
            Step::CloseOthers => call!(SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC).map(drop),
            Step::Filter => call!(SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, ptr::from_ref(orders.filter)).map(drop),
            Step::Execute if orders.init.is_some() => execute_under_init(orders),
            Step::Execute => execute(orders),
        }
    }

    /// Attaches the root over `/proc`, a folder that always exists; what lay there is not needed any more. The new root stays reachable by its descriptor.
    fn attach_root(&mut self, tree: c_int) -> Kernel<()> {
        call!(SYS_move_mount, tree, c"".as_ptr(), libc::AT_FDCWD, c"/proc".as_ptr(), sys::MOVE_MOUNT_F_EMPTY_PATH)?;
        self.root = tree;
        Ok(())
    }

    fn make_root(&mut self, options: &CStr) -> Kernel<()> {
        mount(c"tmpfs".as_ptr(), c"/proc", c"tmpfs".as_ptr(), libc::MS_NOSUID | libc::MS_NODEV, options.as_ptr().cast())?;
        self.root = call!(SYS_openat, libc::AT_FDCWD, c"/proc".as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC, 0)? as c_int;
        Ok(())
    }

    fn make_dir(&self, path: &CStr, mode: u32) -> Kernel<()> {
        call!(SYS_mkdirat, self.root, path.as_ptr(), mode).map(drop)
    }

    fn make_file(&self, path: &CStr, contents: &[u8], mode: u32) -> Kernel<()> {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let file = call!(SYS_openat, self.root, path.as_ptr(), flags, mode)? as c_int;
        let written = write_all(file, contents);
        // The creation mode was cut by the umask that we inherited.
        let mode_set = call!(SYS_fchmod, file, mode);
        close(file);
        written?;
        mode_set.map(drop)
    }

    /// A mount point, looked up inside the new root: neither a symbolic link nor `..` leads out of it, and links of `/proc` are refused.
    fn target(&self, path: &CStr) -> Kernel<c_int> {
        // SAFETY: all zeroes is a valid value of this structure of integers.
        let mut how: libc::open_how = unsafe { std::mem::zeroed() };
        how.flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
        how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
        Ok(call!(SYS_openat2, self.root, path.as_ptr(), ptr::from_ref(&how), size_of::<libc::open_how>())? as c_int)
    }

    fn attach(&self, tree: c_int, target: &CStr) -> Kernel<()> {
        let target = self.target(target)?;
        let flags = sys::MOVE_MOUNT_F_EMPTY_PATH | sys::MOVE_MOUNT_T_EMPTY_PATH;
        let moved = call!(SYS_move_mount, tree, c"".as_ptr(), target, c"".as_ptr(), flags);
        close(target);
        close(tree);
        moved.map(drop)
    }

    /// Mounts a new file system. The kernel takes the place by name: `.`, after entering the folder that was looked up inside the root.
    fn mount_at(&self, target: &CStr, kind: &'static CStr, flags: u64, options: *const c_char) -> Kernel<()> {
        let target = self.target(target)?;
        let entered = call!(SYS_fchdir, target);
        close(target);
        entered?;
        mount(kind.as_ptr(), c".", kind.as_ptr(), flags, options.cast())
    }

    /// Shows a part of `/proc` read-only, or `/dev/null` in its place. Both are looked up inside the root: a link of the image's at `proc` or `dev` must lead
    /// to nothing of the host's. What is not there on this kernel needs no mask.
    fn mask(&self, source: &CStr, target: &CStr, read_only: bool) -> Kernel<()> {
        let source = match self.target(source) {
            Err(libc::ENOENT) => return self.must_be_proc(),
            source => source?,
        };
        let known = if read_only { is_proc(source) } else { is_null(source) };
        let flags = sys::OPEN_TREE_CLONE | sys::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as u32;
        let tree = known.and_then(|()| call!(SYS_open_tree, source, c"".as_ptr(), flags));
        close(source);
        let tree = tree? as c_int;
        let attributes = MountAttr::of(TreeFlags { read_only, recursive: false, devices: !read_only });
        if let Err(errno) = set_attributes(tree, &attributes, false) {
            close(tree);
            return Err(errno);
        }
        match self.attach(tree, target) {
            Err(libc::ENOENT) => self.must_be_proc(),
            attached => attached,
        }
    }

    /// Whether `/proc` inside is the one that was mounted there.
    fn must_be_proc(&self) -> Kernel<()> {
        let proc = self.target(c"proc")?;
        let known = is_proc(proc);
        close(proc);
        known
    }

    fn seal_root(&self) -> Kernel<()> {
        let attributes = MountAttr::of(TreeFlags { read_only: true, recursive: false, devices: false });
        set_attributes(self.root, &attributes, false)
    }

    /// `pivot_root(".", ".")` stacks the old root on the new one; detaching it leaves nothing of the host (pivot_root(2), notes).
    fn enter_root(&mut self) -> Kernel<()> {
        call!(SYS_fchdir, self.root)?;
        call!(SYS_pivot_root, c".".as_ptr(), c".".as_ptr())?;
        call!(SYS_umount2, c".".as_ptr(), libc::MNT_DETACH)?;
        call!(SYS_chdir, c"/".as_ptr())?;
        close(self.root);
        self.root = -1;
        Ok(())
    }
}

fn close(fd: c_int) {
    let _ = call!(SYS_close, fd);
}

fn slot_fd(orders: &Orders<'_>, slot: usize) -> Kernel<c_int> {
    orders.slots.get(slot).copied().filter(|fd| *fd >= 0).ok_or(libc::EBADF)
}

fn mount(source: *const c_char, target: &CStr, kind: *const c_char, flags: u64, data: *const c_void) -> Kernel<()> {
    call!(SYS_mount, source, target.as_ptr(), kind, flags, data).map(drop)
}

fn set_attributes(tree: c_int, attributes: &MountAttr, recursive: bool) -> Kernel<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    call!(SYS_mount_setattr, tree, c"".as_ptr(), flags, ptr::from_ref(attributes), size_of::<MountAttr>()).map(drop)
}

fn write_all(file: c_int, mut bytes: &[u8]) -> Kernel<()> {
    while !bytes.is_empty() {
        let written = call!(SYS_write, file, bytes.as_ptr(), bytes.len())?;
        bytes = bytes.get(written as usize..).unwrap_or_default();
    }
    Ok(())
}

/// Tells the parent that its id is known to the kernel, and waits for the maps. The parent-death signal is set already: the pipe would not tell of the
/// parent's end, since we hold its other end as well.
fn await_maps(wanted: c_int, written: c_int) -> Kernel<()> {
    write_all(wanted, b"m")?;
    let mut answer = 0_u8;
    match call!(SYS_read, written, ptr::from_mut(&mut answer), 1)? {
        1 if answer == b'g' => Ok(()),
        _ => Err(libc::EPERM),
    }
}

/// Raw calls: libc's own would change the ids of every thread that shares our memory.
fn become_inner(identity: InnerIdentity) -> Kernel<()> {
    call!(SYS_setgroups, 0, ptr::null::<u32>())?;
    call!(SYS_setresgid, identity.gid, identity.gid, identity.gid)?;
    call!(SYS_setresuid, identity.uid, identity.uid, identity.uid).map(drop)
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
    // SAFETY: all zeroes is a valid value of this structure of integers.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    call!(SYS_newfstatat, file, c"".as_ptr(), ptr::from_mut(&mut status), libc::AT_EMPTY_PATH)?;
    let is_null = status.st_mode & libc::S_IFMT == libc::S_IFCHR && status.st_rdev == libc::makedev(1, 3);
    if is_null { Ok(()) } else { Err(libc::EXDEV) }
}

/// Writes a file of `/proc` in one call, after making sure that it is one (CVE-2025-52881: redirected writes).
fn write_own(path: &CStr, text: &[u8]) -> Kernel<()> {
    let file = call!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_WRONLY | libc::O_NOFOLLOW | libc::O_CLOEXEC, 0)? as c_int;
    let result = is_proc(file).and_then(|()| call!(SYS_write, file, text.as_ptr(), text.len()));
    close(file);
    result.map(drop)
}

/// The signal is sent when the thread that cloned us ends; if the parent has ended before we asked for it, nobody would send it.
fn die_with_parent(parent: c_int) -> Kernel<()> {
    call!(SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0)?;
    let mut poll = libc::pollfd { fd: parent, events: libc::POLLIN, revents: 0 };
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    match call!(SYS_ppoll, ptr::from_mut(&mut poll), 1, ptr::from_ref(&now), ptr::null::<c_void>(), 8)? {
        0 => Ok(()),
        _ => Err(libc::ESRCH),
    }
}

/// Dispositions before the mask: a handler of ours must never run here.
fn wire_stdio(stdio: [c_int; 3], signals: &[c_int]) -> Kernel<()> {
    for (number, fd) in (0..).zip(stdio) {
        if fd >= 0 {
            call!(SYS_dup3, fd, number, 0)?;
        }
    }
    for signal in signals {
        // The kernel's own structure (handler, flags, restorer, mask): all zeroes is the default action.
        let action = [0_u64; 4];
        call!(SYS_rt_sigaction, *signal, action.as_ptr(), ptr::null::<c_void>(), 8)?;
    }
    let none = 0_u64;
    call!(SYS_rt_sigprocmask, libc::SIG_SETMASK, ptr::from_ref(&none), ptr::null::<c_void>(), 8).map(drop)
}

fn open_slot(orders: &mut Orders<'_>, slot: usize, path: &CStr, flags: TreeFlags) -> Kernel<()> {
    let recursive = if flags.recursive { libc::AT_RECURSIVE as u32 } else { 0 };
    let tree = call!(SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), sys::OPEN_TREE_CLONE | sys::OPEN_TREE_CLOEXEC | recursive)? as c_int;
    set_attributes(tree, &MountAttr::of(flags), flags.recursive)?;
    *orders.slots.get_mut(slot).ok_or(libc::EBADF)? = tree;
    Ok(())
}

fn limit(resource: u32, value: u64) -> Kernel<()> {
    let mut now = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    call!(SYS_prlimit64, 0, resource, ptr::null::<c_void>(), ptr::from_mut(&mut now))?;
    // A limit that is lower already stays: it cannot be raised by everyone.
    let value = value.min(now.rlim_max);
    let wanted = libc::rlimit64 { rlim_cur: value, rlim_max: value };
    call!(SYS_prlimit64, 0, resource, ptr::from_ref(&wanted), ptr::null::<c_void>()).map(drop)
}

/// Not through links of `/proc`, which could lead out of the root (CVE-2024-21626).
fn change_directory(path: &CStr) -> Kernel<()> {
    // SAFETY: all zeroes is a valid value of this structure of integers.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_NO_MAGICLINKS;
    let folder = call!(SYS_openat2, libc::AT_FDCWD, path.as_ptr(), ptr::from_ref(&how), size_of::<libc::open_how>())? as c_int;
    let entered = call!(SYS_fchdir, folder);
    close(folder);
    entered.map(drop)
}

/// The bounding set, which an exec could draw on; the ambient set; then all others.
fn drop_capabilities() -> Kernel<()> {
    for capability in 0..64 {
        match call!(SYS_prctl, libc::PR_CAPBSET_DROP, capability, 0, 0, 0) {
            Ok(_) => {}
            // Past the last one that this kernel knows.
            Err(libc::EINVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    call!(SYS_prctl, libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)?;
    // struct __user_cap_header_struct {version 3, pid 0}, and two of struct __user_cap_data_struct.
    let header: [u32; 2] = [0x2008_0522, 0];
    let none = [0_u32; 6];
    call!(SYS_capset, header.as_ptr(), none.as_ptr()).map(drop)
}

/// Only what lies beneath the new root may be opened or executed; our own executable, still this process's `/proc/self/exe`, does not (CVE-2019-5736).
fn confine_files(ruleset: c_int, allowed: u64) -> Kernel<()> {
    if ruleset < 0 {
        return Ok(());
    }
    let root = call!(SYS_openat, libc::AT_FDCWD, c"/".as_ptr(), libc::O_PATH | libc::O_CLOEXEC, 0)? as c_int;
    // struct landlock_path_beneath_attr is packed: 8 bytes of rights, 4 of descriptor.
    let mut rule = [0_u8; 12];
    for (place, byte) in rule.iter_mut().zip(allowed.to_ne_bytes().into_iter().chain(root.to_ne_bytes())) {
        *place = byte;
    }
    const PATH_BENEATH: c_int = 1;
    let added = call!(SYS_landlock_add_rule, ruleset, PATH_BENEATH, rule.as_ptr(), 0);
    close(root);
    added?;
    call!(SYS_landlock_restrict_self, ruleset, 0).map(drop)
}

/// Returns only if nothing could be executed.
fn execute(orders: &mut Orders<'_>) -> Kernel<()> {
    let mut refused = None;
    for (index, (path, arguments)) in (0..).zip(orders.programs) {
        if orders.search == Search::Existing && !is_file(*path) {
            continue;
        }
        let Err(errno) = call!(SYS_execve, *path, *arguments, orders.environment) else {
            return Ok(());
        };
        if orders.search == Search::Executable && matches!(errno, libc::ENOENT | libc::ENOTDIR | libc::EACCES) {
            if errno == libc::EACCES || orders.programs.len() == 1 {
                refused = refused.or(Some((index, errno)));
            }
            continue;
        }
        refused = Some((index, errno));
        break;
    }
    let (index, errno) = refused.unwrap_or((orders.programs.len() as u32, libc::ENOENT));
    orders.record.program.store(index, Ordering::Relaxed);
    Err(errno)
}

/// Becomes the init, with a second process beside it that becomes the program. Returns only if one of the two cannot be.
///
/// The second process waits until this one has left our memory: a program that ran earlier could read it through `/proc/1/mem`.
fn execute_under_init(orders: &mut Orders<'_>) -> Kernel<()> {
    let Some(Init { executable, status, stack, .. }) = orders.init else {
        return Err(libc::EINVAL);
    };
    // SAFETY: the stack is that process's alone, and the parent waits for its end or exec before it lets go of the orders.
    let pid = unsafe { libc::clone(program, stack, libc::CLONE_VM | libc::SIGCHLD, ptr::from_mut(orders).cast()) };
    if pid < 0 {
        return Err(libc::EAGAIN);
    }
    // Kept through the exec: a signal that came before the init asks for it would be lost on a PID 1.
    let all = u64::MAX;
    call!(SYS_rt_sigprocmask, libc::SIG_SETMASK, ptr::from_ref(&all), ptr::null::<c_void>(), 8)?;
    call!(SYS_dup3, status, 3, 0)?;
    let arguments = [c"init".as_ptr(), ptr::null()];
    let environment: [*const c_char; 1] = [ptr::null()];
    call!(SYS_execveat, executable, c"".as_ptr(), arguments.as_ptr(), environment.as_ptr(), libc::AT_EMPTY_PATH).map(drop)
}

/// The second process. The write ends of the gate close when the init is executed and the parent goes on.
extern "C" fn program(argument: *mut c_void) -> c_int {
    // SAFETY: `argument` is the orders that `execute_under_init` passed; it and the parent only read them until this process is gone from our memory.
    let orders = unsafe { &mut *argument.cast::<Orders<'_>>() };
    let Some(Init { gate, started, .. }) = orders.init else { exit() };
    close(gate.1);
    let mut byte = 0_u8;
    // Ends with the end of the pipe.
    let _ = call!(SYS_read, gate.0, ptr::from_mut(&mut byte), 1);
    if let Err(errno) = execute(orders) {
        orders.record.errno.store(errno, Ordering::Release);
        let _ = write_all(started, b"x");
    }
    exit()
}

/// Whether something that is no folder lies there.
fn is_file(path: *const c_char) -> bool {
    // SAFETY: all zeroes is a valid value of this structure of integers.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    call!(SYS_newfstatat, libc::AT_FDCWD, path, ptr::from_mut(&mut status), 0).is_ok() && status.st_mode & libc::S_IFMT != libc::S_IFDIR
}
