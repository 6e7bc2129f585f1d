//! PID 1 of a sandbox whose programs come and go: undocked orders them over descriptor 3, a socket that keeps messages apart.
//!
//! An [`Order`] is one message; what it needs of descriptors comes with it. It is answered by a [`Message`], in the order of the orders; messages of
//! ends come between. The end of the socket is the end of the sandbox.
//!
//! What a program is started with lies in a memory file that only the new process maps: nothing of one program is ever in this process's memory, or among
//! its descriptors once the order is answered. Whether it could be executed, the new process tells itself, over a pipe that came with the order: eight
//! bytes (see [`Refusal`]), or nothing before it closes.

use core::convert::Infallible;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::{
    ANYONE, All, CLOEXEC, Children, End, F_SETFD, FACTORY, FD_CLOEXEC, POLLNVAL, Poll, SIGCHLD, SIGPWR, STATUS_PIPE, Scope, WNOHANG, call,
    call_with_six, close, end_of, exit, make_socket, next_end, next_signal, number, send,
};

const CONTROL: usize = STATUS_PIPE;
const SIGCONT: u32 = 18;
const ENOENT: isize = 2;
const ESRCH: isize = 3;
const EAGAIN: isize = 11;
const EACCES: isize = 13;
const ENOTDIR: isize = 20;
const EINVAL: isize = 22;

/// What undocked wants; `sandbox/several/control.rs` writes it.
#[repr(C)]
struct Order {
    kind: u64,
    /// Which program is meant, by undocked's own numbers.
    id: u64,
    /// For a start: how long the file of strings is, how many candidates there are, at which of its words the environment begins, and of the flags below
    /// those that hold. For signals: which. For a socket: domain, type and protocol.
    numbers: [u64; 4],
    /// The numbers that a program has its descriptors under.
    places: [i32; Order::PLACES],
}

impl Order {
    const START: u64 = 1;
    const SIGNAL: u64 = 2;
    const KILL_ALL: u64 = 3;
    const SIGNAL_ALL: u64 = 4;
    const SOCKET: u64 = 5;
    const KILL_OTHERS: u64 = 6;
    /// It is gone on after a candidate that cannot be executed.
    const GOES_ON: u64 = 1;
    /// The program is a guest, which is spared when all others are killed.
    const GUEST: u64 = 2;
    const PLACES: usize = 16;
    /// The file of strings and the pipe to report to, which come before those for the program.
    const DESCRIPTORS: usize = Self::PLACES + 2;
}

/// What undocked is told.
#[repr(C)]
struct Message {
    kind: u64,
    id: u64,
    /// An answer: what came of it, or a negative errno. An end: the wait status.
    value: i64,
    /// An end: the largest resident set in KiB.
    largest_kib: u64,
}

impl Message {
    const ANSWER: u64 = 1;
    const ENDED: u64 = 2;
}

/// The programs that run: their processes (0: none), undocked's numbers for them, and whether they are guests.
static RUNNING: [(AtomicUsize, AtomicU64, AtomicBool); 64] =
    [const { (AtomicUsize::new(0), AtomicU64::new(0), AtomicBool::new(false)) }; 64];

/// Does what is ordered, until there is nobody left to order.
pub(crate) fn serve(scope: Scope, signals: usize) -> ! {
    for inherited in [CONTROL, FACTORY] {
        // SAFETY: takes integers and touches no memory.
        unsafe { call(number::FCNTL, inherited, F_SETFD, FD_CLOEXEC, 0) };
    }
    let mut polls = [Poll::of(signals), Poll::of(CONTROL), Poll::of(FACTORY)];
    loop {
        // SAFETY: `polls` is an array of 3; without time-out and mask nothing else is read.
        unsafe { call(number::PPOLL, polls.as_mut_ptr() as usize, polls.len(), 0, 0) };
        let [signal, order, request] = &mut polls;
        if signal.revents != 0 {
            take_signal(signals, scope);
        }
        if order.revents != 0 && !obey(scope) {
            end(scope);
        }
        if request.revents & POLLNVAL != 0 || (request.revents != 0 && !make_socket()) {
            // There is none, or undocked has no more use for it.
            request.descriptor = -1;
        }
    }
}

/// Ends everything, and this process.
fn end(scope: Scope) -> ! {
    scope.end();
    exit(0)
}

fn take_signal(signals: usize, scope: Scope) {
    let Some((signal, from_parent)) = next_signal(signals) else { return };
    if signal == SIGCHLD {
        while let Some(end) = next_end(WNOHANG) {
            tell(&end);
        }
    } else if !matches!(scope.all, All::Namespace) && (signal == SIGPWR || (signal == SIGCONT && from_parent)) {
        // Undocked has ended, or has killed all others and waits for us.
        end(scope);
    }
}

/// Tells of a program's end; orphans are nobody's concern.
fn tell(end: &End) {
    let Some((pid, id, _)) = RUNNING.iter().find(|(pid, ..)| pid.load(Relaxed) == end.pid) else { return };
    pid.store(0, Relaxed);
    send(CONTROL, &Message { kind: Message::ENDED, id: id.load(Relaxed), value: end.status.into(), largest_kib: end.largest_kib }, -1);
}

/// Carries out one order. `false`: no more will come.
fn obey(scope: Scope) -> bool {
    let mut order = MaybeUninit::<Order>::uninit();
    // struct cmsghdr: length, level and type; then the descriptors.
    let mut control = MaybeUninit::<(usize, [i32; 2], [i32; Order::DESCRIPTORS])>::uninit();
    let vector = [order.as_mut_ptr() as usize, size_of::<Order>()];
    let mut message = [0, 0, &raw const vector as usize, 1, control.as_mut_ptr() as usize, size_of_val(&control), 0];
    const MSG_CMSG_CLOEXEC: usize = 0x4000_0000;
    // SAFETY: the kernel reads a `struct msghdr`, and writes to it and to what it points to no more than the sizes given.
    let length = unsafe { call(number::RECVMSG, CONTROL, &raw mut message as usize, MSG_CMSG_CLOEXEC, 0) };
    if length != size_of::<Order>() as isize {
        return false;
    }
    // SAFETY: so many bytes the kernel has written, and any are an order.
    let order = unsafe { order.assume_init_ref() };
    let [.., control_length, _] = message;
    let descriptors = if control_length < 16 {
        &[][..]
    } else {
        let (whole, first) = (control.as_ptr().cast::<usize>(), control.as_ptr().cast::<i32>().wrapping_add(4));
        // SAFETY: the kernel has written control data: its length comes first, and behind 16 bytes as many descriptors as that says.
        unsafe { core::slice::from_raw_parts(first, (*whole - 16) / size_of::<i32>()) }
    };
    let (value, socket) = match order.kind {
        Order::START => (start(scope, order, descriptors), -1),
        Order::SIGNAL => (signal(order), -1),
        Order::KILL_ALL => (kill_all(scope), -1),
        Order::KILL_OTHERS => (kill_others(scope), -1),
        Order::SIGNAL_ALL => (signal_to(ANYONE, order), -1),
        Order::SOCKET => {
            let [domain, kind, protocol, _] = order.numbers.map(|number| number as usize);
            // SAFETY: takes integers and touches no memory.
            let socket = unsafe { call(number::SOCKET, domain, kind | CLOEXEC, protocol, 0) };
            (socket.min(0), socket)
        }
        _ => (-EINVAL, -1),
    };
    for descriptor in descriptors {
        close(*descriptor as usize);
    }
    send(CONTROL, &Message { kind: Message::ANSWER, id: order.id, value: value as i64, largest_kib: 0 }, socket)
}

/// A signal to the process group of a program: to its leader's number, which is nobody else's before we have reaped it. A new process that somebody
/// inside has stopped may not have a group yet.
fn signal(order: &Order) -> isize {
    let program = RUNNING.iter().find(|(pid, id, _)| pid.load(Relaxed) != 0 && id.load(Relaxed) == order.id);
    let Some(pid) = program.map(|(pid, ..)| pid.load(Relaxed)) else { return -ESRCH };
    match signal_to(pid.wrapping_neg(), order) {
        error if error == -ESRCH => signal_to(pid, order),
        sent => sent,
    }
}

fn signal_to(whom: usize, order: &Order) -> isize {
    let [signal, ..] = order.numbers;
    // SAFETY: takes integers and touches no memory.
    unsafe { call(number::KILL, whom, signal as usize, 0, 0) }
}

/// Kills everything but us, and waits until nothing of it is left: neither memory nor ports nor locks.
fn kill_all(scope: Scope) -> isize {
    loop {
        scope.kill();
        match next_end(0) {
            Some(end) => tell(&end),
            None => return 0,
        }
    }
}

/// Kills everything but us and guests with their descendants, and waits until nothing of it is left. What we kill are our children that are no guests; the
/// others become so with their parents' ends. Where that cannot be seen, or they multiply faster than we kill, guests are not spared.
fn kill_others(scope: Scope) -> isize {
    /// As many as are another's descendants, the last of whom is left when all before have ended.
    const MOST_ROUNDS: usize = 16;
    for _ in 0..MOST_ROUNDS {
        match Children::read(|children| kill_children(&children)) {
            None => break,
            Some(0) => return 0,
            Some(_) => {}
        }
    }
    kill_all(scope)
}

/// Kills and reaps our children that are no guests. How many there were.
fn kill_children(children: &Children<'_>) -> usize {
    const SIGKILL: usize = 9;
    let each_other = |with: &mut dyn FnMut(usize)| {
        children.each(|child| {
            if !RUNNING.iter().any(|(pid, _, guest)| pid.load(Relaxed) == child && guest.load(Relaxed)) {
                with(child);
            }
        });
    };
    let mut killed = 0;
    each_other(&mut |child| {
        killed += 1;
        // SAFETY: takes integers and touches no memory; a child that we have not reaped is still that process.
        unsafe { call(number::KILL, child, SIGKILL, 0, 0) };
    });
    each_other(&mut |child| {
        if let Some(end) = end_of(child, 0) {
            tell(&end);
        }
    });
    killed
}

/// A new process that becomes a program: its number, or a negative errno.
fn start(scope: Scope, order: &Order, descriptors: &[i32]) -> isize {
    let Some((pid, id, guest)) = RUNNING.iter().find(|(pid, ..)| pid.load(Relaxed) == 0) else { return -EAGAIN };
    // SAFETY: without flags a copy of this process with a copy of its memory; nothing is written to.
    let born = unsafe { call(number::CLONE, SIGCHLD as usize, 0, 0, 0) };
    if born == 0 {
        become_program(scope, order, descriptors);
    }
    if born > 0 {
        let [.., flags] = order.numbers;
        id.store(order.id, Relaxed);
        guest.store(flags & Order::GUEST != 0, Relaxed);
        pid.store(born as usize, Relaxed);
    }
    born
}

/// Why a process cannot become a program: at which candidate, or one of the stages below; and an errno.
struct Refusal(i32, isize);

/// It could not be prepared.
const PREPARING: i32 = -1;
/// The working directory could not be entered.
const ENTERING: i32 = -2;

/// The new process. Ends where it cannot become what it should.
fn become_program(scope: Scope, order: &Order, descriptors: &[i32]) -> ! {
    let [strings, report, given @ ..] = descriptors else { exit(127) };
    let floor = order.places.iter().fold(FACTORY as i32, |most, place| most.max(*place)) as usize + 1;
    let Ok(report) = lifted(*report, floor) else { exit(127) };
    let become_it = |strings: Strings| {
        prepare(scope, order, given, floor)?;
        execute(order, &strings)
    };
    let Err(Refusal(at, errno)) = Strings::map(*strings, order).and_then(become_it);
    let words = [at, errno as i32];
    // SAFETY: the kernel reads the 8 bytes of `words`.
    unsafe { call(number::WRITE, report, &raw const words as usize, 8, 0) };
    exit(127)
}

/// What the kernel answers: a negative errno, or not.
fn checked(result: isize, stage: i32) -> Result<usize, Refusal> {
    if result < 0 { Err(Refusal(stage, -result)) } else { Ok(result as usize) }
}

/// The same open file under a number above all places.
fn lifted(descriptor: i32, floor: usize) -> Result<usize, Refusal> {
    const F_DUPFD_CLOEXEC: usize = 1030;
    // SAFETY: takes integers and touches no memory.
    checked(unsafe { call(number::FCNTL, descriptor as usize, F_DUPFD_CLOEXEC, floor, 0) }, PREPARING)
}

/// A session of its own; and descriptors, of which all others close with the exec.
fn prepare(scope: Scope, order: &Order, given: &[i32], floor: usize) -> Result<(), Refusal> {
    const PR_SET_PDEATHSIG: usize = 1;
    const SIGKILL: usize = 9;
    // SAFETY: takes nothing and touches no memory.
    checked(unsafe { call(number::SETSID, 0, 0, 0, 0) }, PREPARING)?;
    if !matches!(scope.all, All::Namespace) {
        // SAFETY: takes integers and touches no memory.
        checked(unsafe { call(number::PRCTL, PR_SET_PDEATHSIG, SIGKILL, 0, 0) }, PREPARING)?;
    }
    // Twice: the place of one may be the number that another came under.
    let mut high = [0; Order::PLACES];
    for (high, descriptor) in high.iter_mut().zip(given) {
        *high = lifted(*descriptor, floor)?;
    }
    for ((high, place), _) in high.iter().zip(order.places).zip(given) {
        // SAFETY: takes integers and touches no memory.
        checked(unsafe { call(number::DUP3, *high, place as usize, 0, 0) }, PREPARING)?;
    }
    const TIOCSCTTY: usize = 0x540e;
    // A terminal as standard input is the session's, so that its keys send signals; of anything else, and of another session's terminal, this is refused.
    // SAFETY: takes integers and touches no memory.
    unsafe { call(number::IOCTL, 0, TIOCSCTTY, 0, 0) };
    Ok(())
}

/// The file of strings in this process's memory: words first, of which all but zeroes are offsets of strings or of lists of words, made addresses.
struct Strings {
    words: *const usize,
}

impl Strings {
    fn map(file: i32, order: &Order) -> Result<Self, Refusal> {
        const READ_WRITE: usize = 3;
        const PRIVATE: usize = 2;
        let [length, ..] = order.numbers;
        // SAFETY: a new mapping, which touches no memory in use.
        let mapped = unsafe { call_with_six(number::MMAP, [0, length as usize, READ_WRITE, PRIVATE, file as usize, 0]) };
        let words = checked(mapped, PREPARING)? as *mut usize;
        // SAFETY: undocked made the file so that its first word says how many there are.
        for at in 1..unsafe { *words } {
            // SAFETY: as above.
            let word = unsafe { &mut *words.add(at) };
            if *word != 0 {
                *word += words as usize;
            }
        }
        Ok(Self { words })
    }

    fn word(&self, at: usize) -> usize {
        // SAFETY: undocked made the file so, and says of no word that is not there.
        unsafe { *self.words.add(at) }
    }
}

/// Becomes the first candidate that can be, by the rules of `sandbox/child/programs.rs`. Returns only if none can.
///
/// Called `/proc/self/exe`, a program or what interprets it is this file (CVE-2019-5736).
fn execute(order: &Order, strings: &Strings) -> Result<Infallible, Refusal> {
    let [_, count, environment, flags] = order.numbers.map(|number| number as usize);
    let (goes_on, environment) = (flags as u64 & Order::GOES_ON != 0, strings.words.wrapping_add(environment));
    // SAFETY: the word is the address of a string.
    checked(unsafe { call(number::CHDIR, strings.word(1), 0, 0, 0) }, ENTERING)?;
    let none = 0_u64;
    // SAFETY: the kernel reads a set of 8 bytes, which `none` has (SIG_SETMASK is 2); the old one is not asked for.
    checked(unsafe { call(number::RT_SIGPROCMASK, 2, &raw const none as usize, 0, 8) }, PREPARING)?;
    let mut refused = None;
    for candidate in 0..count {
        let (path, arguments) = (strings.word(2 + candidate), strings.word(2 + count + candidate));
        if !goes_on && !is_file(path) {
            continue;
        }
        // SAFETY: a string, and two lists of strings that end with a null.
        let errno = -unsafe { call(number::EXECVE, path, arguments, environment as usize, 0) };
        let passes = goes_on && (errno == ENOENT || errno == ENOTDIR || errno == EACCES);
        if !passes || (refused.is_none() && (errno == EACCES || count == 1)) {
            refused = Some(Refusal(candidate as i32, errno));
        }
        if !passes {
            break;
        }
    }
    Err(refused.unwrap_or(Refusal(count as i32, ENOENT)))
}

/// Whether something that is no folder lies there.
fn is_file(path: usize) -> bool {
    const HERE: usize = -100_isize as usize;
    const S_IFMT: u32 = 0o170_000;
    const S_IFDIR: u32 = 0o40_000;
    // struct stat: 144 bytes, or 128; the mode stands behind the device, the inode and, on x86-64, the number of links.
    let mut status = MaybeUninit::<[u32; 36]>::uninit();
    // SAFETY: the kernel reads a string and writes a `struct stat`.
    if unsafe { call(number::NEWFSTATAT, HERE, path, status.as_mut_ptr() as usize, 0) } != 0 {
        return false;
    }
    let mode = status.as_ptr().cast::<u32>().wrapping_add(if cfg!(target_arch = "aarch64") { 4 } else { 6 });
    // SAFETY: the kernel has written it.
    unsafe { *mode & S_IFMT != S_IFDIR }
}
