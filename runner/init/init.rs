//! PID 1 of a sandbox: starts nothing, reaps everything, and tells the host how the one process that matters ended.
//!
//! A program of its own, without libraries, so that it shares neither memory nor executable with undocked; `build.rs` compiles it and undocked executes
//! it from a sealed memfd. Its one child, pid 2, runs already. Descriptor 3 is a pipe to undocked: pid 2's end goes there, as
//! its wait status and its largest resident set in KiB, 8 bytes each.
//!
//! All signals are blocked before this starts. Those that come from outside the namespace (their sender has pid 0 here) are passed on to pid 2; those from inside are dropped.
//!
//! Descriptor 4, if there is one, is a socket to undocked: each request on it, 12 bytes of domain, type and protocol, is answered by a socket of this
//! network namespace (unix(7): SCM_RIGHTS) and 4 bytes of errno.
//!
//! Where there is no pid namespace an argument says how all processes of the sandbox are told from others, and what the child's pid is: `u` and `t`, see
//! [`Scope`]. Signals to be passed on then come from undocked, our parent, whose end is told by `SIGPWR`.
//!
//! Called `programs` it has no child yet, and starts as many as undocked wants over descriptor 3: see the module of that name.
//!
//! With the word `start` as its first argument it is the process that becomes the program instead, where no Landlock keeps that from executing
//! undocked through `/proc/self/exe`: whoever names that here gets this file, which then does nothing. More at [`start`].
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

mod programs;

const STATUS_PIPE: usize = 3;
const FACTORY: usize = 4;
const SIGCHLD: u32 = 17;
const SIGPWR: u32 = 30;
const POLLIN: i16 = 1;
const POLLNVAL: i16 = 0x20;
const CLOEXEC: usize = 0o2_000_000;
const F_SETFD: usize = 2;
const FD_CLOEXEC: usize = 1;
const WNOHANG: usize = 1;
/// -1: all whom we may send signals to (kill(2)), or any child (wait4(2)).
const ANYONE: usize = usize::MAX;

#[cfg(target_arch = "x86_64")]
mod number {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const MMAP: usize = 9;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const GETPID: usize = 39;
    pub const SOCKET: usize = 41;
    pub const GETPPID: usize = 110;
    pub const OPENAT: usize = 257;
    pub const SENDMSG: usize = 46;
    pub const RECVMSG: usize = 47;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const FCNTL: usize = 72;
    pub const CHDIR: usize = 80;
    pub const SETSID: usize = 112;
    pub const PRCTL: usize = 157;
    pub const EXIT_GROUP: usize = 231;
    pub const NEWFSTATAT: usize = 262;
    pub const PPOLL: usize = 271;
    pub const SIGNALFD4: usize = 289;
    pub const DUP3: usize = 292;
    pub const IOCTL: usize = 16;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const DUP3: usize = 24;
    pub const IOCTL: usize = 29;
    pub const FCNTL: usize = 25;
    pub const CHDIR: usize = 49;
    pub const CLOSE: usize = 57;
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const PPOLL: usize = 73;
    pub const SIGNALFD4: usize = 74;
    pub const NEWFSTATAT: usize = 79;
    pub const EXIT_GROUP: usize = 94;
    pub const KILL: usize = 129;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const SETSID: usize = 157;
    pub const PRCTL: usize = 167;
    pub const GETPID: usize = 172;
    pub const SOCKET: usize = 198;
    pub const GETPPID: usize = 173;
    pub const OPENAT: usize = 56;
    pub const SENDMSG: usize = 211;
    pub const RECVMSG: usize = 212;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const MMAP: usize = 222;
    pub const WAIT4: usize = 260;
}

/// # Safety
/// The caller's pointers must be valid for what the call reads and writes.
unsafe fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    // SAFETY: the caller's promise.
    unsafe { call_with_six(number, [a, b, c, d, 0, 0]) }
}

/// # Safety
/// The caller's pointers must be valid for what the call reads and writes.
#[cfg(target_arch = "x86_64")]
unsafe fn call_with_six(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let result;
    // SAFETY: the caller's promise; the kernel keeps all registers but those named.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
             lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// # Safety
/// The caller's pointers must be valid for what the call reads and writes.
#[cfg(target_arch = "aarch64")]
unsafe fn call_with_six(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let result;
    // SAFETY: the caller's promise; the kernel keeps all registers but the first.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as isize => result, in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
             options(nostack));
    }
    result
}

// The kernel enters with an aligned stack and no return address. On the stack are the number of arguments, their addresses, a null, those of the
// environment, and a null.
#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {main}", main = sym main);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, xzr", "mov x0, sp", "bl {main}", main = sym main);

/// The head of `struct signalfd_siginfo`, 128 bytes: number, errno, code, sender.
#[repr(C, align(8))]
struct Siginfo {
    signal: u32,
    errno: i32,
    code: i32,
    sender: u32,
    rest: [u8; 112],
}

/// `struct pollfd`.
#[repr(C)]
struct Poll {
    descriptor: i32,
    events: i16,
    revents: i16,
}

impl Poll {
    fn of(descriptor: usize) -> Self {
        Self { descriptor: descriptor as i32, events: POLLIN, revents: 0 }
    }
}

/// What belongs to the sandbox.
#[derive(Clone, Copy)]
struct Scope {
    /// The process that matters.
    child: usize,
    /// Whom we kill with it.
    all: All,
}

#[derive(Clone, Copy)]
enum All {
    /// The kernel does it: we are PID 1.
    Namespace,
    /// Whom we may send signals to: our user's processes, or those in our Landlock domain (`u`).
    MaySignal,
    /// Our descendants: orphans become our children (`t`).
    Descendants,
}

impl Scope {
    /// # Safety
    /// `stack` must be the stack that the kernel starts a program with: the count of the arguments, then pointers to them, which end with a null.
    unsafe fn read(stack: *const usize) -> Self {
        let namespace = Self { child: 2, all: All::Namespace };
        // SAFETY: the caller's promise: argument 0, or the null in its place, follows the count, and argument 1 or the null after that.
        let (count, argument) = unsafe { (*stack, *stack.add(2) as *const u8) };
        if count < 2 {
            return namespace;
        }
        // SAFETY: the argument is a string that ends with a zero byte, and is not read past it.
        let byte = |index: usize| unsafe { *argument.add(index) };
        let all = if byte(0) == b'u' { All::MaySignal } else { All::Descendants };
        let (mut child, mut index) = (0, 1);
        while byte(0) != 0 && byte(index).is_ascii_digit() {
            child = child * 10 + usize::from(byte(index) - b'0');
            index += 1;
        }
        Self { child, all }
    }

    /// Kills and reaps everything. That no child is left means that no descendant is, since each becomes our child with its parent's end.
    fn end(self) {
        // The kernel does it there.
        while !matches!(self.all, All::Namespace) {
            self.kill();
            // SAFETY: without status and usage the kernel writes nothing.
            if unsafe { call(number::WAIT4, ANYONE, 0, 0, 0) } < 0 {
                return;
            }
        }
    }

    /// Kills everybody inside but us; of descendants those that are our children, since the others become so.
    fn kill(self) {
        const SIGKILL: usize = 9;
        match self.all {
            // SAFETY: takes integers and touches no memory.
            All::Namespace | All::MaySignal => drop(unsafe { call(number::KILL, ANYONE, SIGKILL, 0, 0) }),
            All::Descendants => {
                Children::read(|children| {
                    children.each(|pid| {
                        // SAFETY: as above; a child that we have not reaped is still that process.
                        unsafe { call(number::KILL, pid, SIGKILL, 0, 0) };
                    });
                });
            }
        }
    }
}

/// The list that `/proc` has of our children (proc(5)): one that changes meanwhile may be there twice, or not yet.
struct Children<'a>(&'a [u8]);

impl Children<'_> {
    /// Reads it. Nothing if there is none.
    fn read<T>(with: impl FnOnce(Children<'_>) -> T) -> Option<T> {
        const HERE: usize = -100_isize as usize;
        let path = b"/proc/thread-self/children\0";
        // SAFETY: the path ends with a zero byte.
        let file = unsafe { call(number::OPENAT, HERE, path.as_ptr() as usize, CLOEXEC, 0) };
        if file < 0 {
            return None;
        }
        // Not filled before it is read into: that would take a library.
        let mut text = core::mem::MaybeUninit::<[u8; 4096]>::uninit();
        // SAFETY: the kernel writes at most the bytes of `text`. What does not fit comes next time.
        let length = unsafe { call(number::READ, file as usize, text.as_mut_ptr() as usize, 4096, 0) };
        close(file as usize);
        // SAFETY: the kernel has written that many bytes.
        let text = unsafe { core::slice::from_raw_parts(text.as_ptr().cast::<u8>(), length.max(0) as usize) };
        Some(with(Children(text)))
    }

    fn each(&self, mut with: impl FnMut(usize)) {
        let mut pid = 0;
        // Each number has a space behind it; one that was cut off has not.
        for byte in self.0 {
            if byte.is_ascii_digit() {
                pid = pid * 10 + usize::from(byte - b'0');
            } else if pid != 0 {
                with(pid);
                pid = 0;
            }
        }
    }
}

extern "C" fn main(stack: *const usize) -> ! {
    if is_called(stack, c"start") {
        start(stack);
    }
    let several = is_called(stack, c"programs");
    // Called by any other name it is what an image's `#!/proc/self/exe` found, and has nothing to do.
    if !several && !is_called(stack, c"init") {
        exit(127);
    }
    // SAFETY: `_start` passes the stack on as the kernel made it.
    let scope = unsafe { Scope::read(stack) };
    // SAFETY: takes no pointer.
    if matches!(scope.all, All::Namespace) && unsafe { call(number::GETPID, 0, 0, 0, 0) } != 1 {
        exit(127);
    }
    let all = u64::MAX;
    // The end of the program's input and output must not depend on us.
    (0..3).for_each(close);
    // SAFETY: the kernel reads a set of 8 bytes, which `all` has.
    let signals = unsafe { call(number::SIGNALFD4, usize::MAX, &raw const all as usize, 8, CLOEXEC) };
    if several {
        programs::serve(scope, signals as usize);
    }
    let mut polls = [Poll::of(signals as usize), Poll::of(FACTORY)];
    reap(scope);
    loop {
        // SAFETY: `polls` is an array of 2; without time-out and mask nothing else is read.
        unsafe { call(number::PPOLL, polls.as_mut_ptr() as usize, polls.len(), 0, 0) };
        let [signal, request] = &mut polls;
        if signal.revents != 0 {
            take_signal(signals as usize, scope);
        }
        if request.revents & POLLNVAL != 0 || (request.revents != 0 && !make_socket()) {
            // There is none, or undocked has no more use for it.
            request.descriptor = -1;
        }
    }
}

/// Ends the process.
fn exit(code: usize) -> ! {
    loop {
        // SAFETY: takes an integer; does not return.
        unsafe { call(number::EXIT_GROUP, code, 0, 0, 0) };
    }
}

/// Whether the first argument is this word.
fn is_called(stack: *const usize, word: &core::ffi::CStr) -> bool {
    // SAFETY: the kernel puts the number of arguments there, and as many addresses of NUL-terminated strings behind it.
    let first = unsafe { (*stack > 0).then(|| *stack.add(1) as *const u8) };
    // SAFETY: the string has a NUL, at which the comparison ends at the latest.
    first.is_some_and(|first| word.to_bytes_with_nul().iter().enumerate().all(|(at, byte)| unsafe { *first.add(at) } == *byte))
}

/// Executes the first of some paths that can be, as `execvp` does. Arguments: `start`, the paths, an empty string, and the program's own arguments.
/// If none can be: which one it was and the errno, 4 bytes each, go to descriptor 3; it closes when one is.
fn start(stack: *const usize) -> ! {
    const ENOENT: isize = 2;
    const EACCES: isize = 13;
    const ENOTDIR: isize = 20;
    // SAFETY: takes integers and touches no memory.
    unsafe { call(number::FCNTL, STATUS_PIPE, F_SETFD, FD_CLOEXEC, 0) };
    // SAFETY: what the kernel put there, as above; the environment comes after the arguments and a null.
    let (count, arguments) = unsafe { (*stack, stack.add(1)) };
    // SAFETY: as above.
    let environment = unsafe { arguments.add(count + 1) };
    // SAFETY: `at` is below the number of arguments, each of which is a string.
    let argument = |at: usize| unsafe { *arguments.add(at) as *const u8 };
    // SAFETY: every string has at least its NUL.
    let is_empty = |at: usize| unsafe { *argument(at) } == 0;
    let paths = (1..count).take_while(|at| !is_empty(*at)).count();
    let mut refused = (paths as i32, ENOENT);
    for path in 0..paths {
        let own = arguments.wrapping_add(paths + 2);
        // SAFETY: a string, and two lists of strings that end with a null, since the lists of the kernel do.
        let errno = unsafe { -call(number::EXECVE, argument(path + 1) as usize, own as usize, environment as usize, 0) };
        let goes_on = errno == ENOENT || errno == EACCES || errno == ENOTDIR;
        if !goes_on || paths == 1 || (errno == EACCES && refused.1 != EACCES) {
            refused = (path as i32, errno);
        }
        if !goes_on {
            break;
        }
    }
    let report = [refused.0, refused.1 as i32];
    // SAFETY: the kernel reads the 8 bytes of `report`.
    unsafe { call(number::WRITE, STATUS_PIPE, report.as_ptr() as usize, 8, 0) };
    exit(127)
}

fn take_signal(signals: usize, scope: Scope) {
    let Some((signal, from_parent)) = next_signal(signals) else { return };
    if signal == SIGCHLD {
        reap(scope);
    } else if signal == SIGPWR && !matches!(scope.all, All::Namespace) {
        const SIGKILL: usize = 9;
        scope.end();
        // By the signal that whoever sent this means.
        // SAFETY: takes nothing and touches no memory.
        let own = unsafe { call(number::GETPID, 0, 0, 0, 0) };
        // SAFETY: takes integers and touches no memory.
        unsafe { call(number::KILL, own as usize, SIGKILL, 0, 0) };
        exit(0);
    } else if from_parent {
        // SAFETY: takes integers and touches no memory.
        unsafe { call(number::KILL, scope.child, signal as usize, 0, 0) };
    }
}

/// A signal that was sent to us, and whether undocked sent it.
fn next_signal(signals: usize) -> Option<(u32, bool)> {
    let mut info = Siginfo { signal: 0, errno: 0, code: 0, sender: 0, rest: [0; 112] };
    // SAFETY: the kernel writes at most the 128 bytes that it is told of, which `Siginfo` has.
    let length = unsafe { call(number::READ, signals, &raw mut info as usize, size_of::<Siginfo>(), 0) };
    // SAFETY: takes nothing and touches no memory. In a pid namespace a parent outside is 0, as is a sender outside.
    let parent = unsafe { call(number::GETPPID, 0, 0, 0, 0) };
    (length > 0).then_some((info.signal, info.sender as isize == parent))
}

/// Answers one request. `false`: no more will come.
fn make_socket() -> bool {
    let mut wanted = [0_i32; 3];
    // SAFETY: the kernel writes at most the 12 bytes of `wanted`.
    if unsafe { call(number::READ, FACTORY, wanted.as_mut_ptr() as usize, 12, 0) } != 12 {
        return false;
    }
    let [domain, kind, protocol] = wanted.map(|word| word as usize);
    // SAFETY: takes integers and touches no memory.
    let socket = unsafe { call(number::SOCKET, domain, kind | CLOEXEC, protocol, 0) };
    let errno = if socket < 0 { -socket as i32 } else { 0 };
    send(FACTORY, &errno, socket)
}

/// Sends something, with a descriptor (negative: without one), which is then closed here. `false`: nobody listens any more.
fn send<T>(to: usize, what: &T, descriptor: isize) -> bool {
    // struct cmsghdr: length 20, SOL_SOCKET, SCM_RIGHTS; the descriptor and padding.
    let control = [20_u32, 0, 1, 1, descriptor as u32, 0];
    let control_length = if descriptor < 0 { 0 } else { 24 };
    // struct iovec, and struct msghdr in words: name, its length, vector, its length, control data, its length, flags.
    let vector = [&raw const *what as usize, size_of::<T>()];
    let message = [0, 0, &raw const vector as usize, 1, &raw const control as usize, control_length, 0];
    // SAFETY: the kernel reads a `struct msghdr`, 56 bytes, and what it points to: a vector of `what`'s size, and as much control data as it says.
    let sent = unsafe { call(number::SENDMSG, to, &raw const message as usize, 0, 0) };
    if descriptor >= 0 {
        close(descriptor as usize);
    }
    sent >= 0
}

fn close(descriptor: usize) {
    // SAFETY: takes an integer and touches no memory.
    unsafe { call(number::CLOSE, descriptor, 0, 0, 0) };
}

/// Reaps all that have ended; with the child's own end, ends everything.
fn reap(scope: Scope) {
    while let Some(end) = next_end(WNOHANG) {
        if end.pid == scope.child {
            scope.end();
            let end = [end.status as u64, end.largest_kib];
            // SAFETY: the kernel reads the 16 bytes of `end`, which lives through the call.
            unsafe { call(number::WRITE, STATUS_PIPE, &raw const end as usize, 16, 0) };
            exit(0);
        }
    }
}

/// How a child ended.
struct End {
    pid: usize,
    /// Its wait status.
    status: i32,
    /// Its largest resident set.
    largest_kib: u64,
}

/// Reaps one child.
fn next_end(options: usize) -> Option<End> {
    end_of(ANYONE, options)
}

/// Reaps this child.
fn end_of(child: usize, options: usize) -> Option<End> {
    let mut status = 0_i32;
    // `struct rusage`: two times of 16 bytes, then the largest resident set, then 13 words more.
    let mut usage = core::mem::MaybeUninit::<[u64; 18]>::uninit();
    // SAFETY: the kernel writes 4 bytes of status and 144 of usage.
    let pid = unsafe { call(number::WAIT4, child, &raw mut status as usize, options, usage.as_mut_ptr() as usize) };
    if pid <= 0 {
        return None;
    }
    // SAFETY: the kernel has filled it, since it answered a process.
    let [_, _, _, _, largest_kib, ..] = unsafe { usage.assume_init_ref() };
    Some(End { pid: pid as usize, status, largest_kib: *largest_kib })
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        // SAFETY: takes an integer; does not return.
        unsafe { call(number::EXIT_GROUP, 125, 0, 0, 0) };
    }
}
