//! PID 1 of a sandbox: starts nothing, reaps everything, and tells the host how the one process that matters ended.
//!
//! A program of its own, without libraries, so that it shares neither memory nor executable with undocked; `build.rs` compiles it and undocked executes
//! it from a sealed memfd. Its one child, pid 2, runs already. Descriptor 3 is a pipe to undocked: pid 2's end goes there, as
//! its wait status and its largest resident set in KiB, 8 bytes each.
//!
//! All signals are blocked before this starts. Those that come from outside the namespace (their sender has pid 0 here) are passed on to pid 2; those from inside are dropped.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

const CHILD: usize = 2;
const STATUS_PIPE: usize = 3;
const SIGCHLD: i32 = 17;

#[cfg(target_arch = "x86_64")]
mod number {
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const EXIT_GROUP: usize = 231;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const WRITE: usize = 64;
    pub const CLOSE: usize = 57;
    pub const WAIT4: usize = 260;
    pub const KILL: usize = 129;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const EXIT_GROUP: usize = 94;
}

/// # Safety
/// The caller's pointers must be valid for what the call reads and writes.
#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result;
    // SAFETY: the caller's promise; the kernel keeps all registers but those named.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
             lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// # Safety
/// The caller's pointers must be valid for what the call reads and writes.
#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result;
    // SAFETY: the caller's promise; the kernel keeps all registers but the first.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as isize => result, in("x1") b, in("x2") c, in("x3") d, options(nostack));
    }
    result
}

// The kernel enters with an aligned stack and no return address.
#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "and rsp, -16", "call {main}", main = sym main);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, xzr", "bl {main}", main = sym main);

/// The head of `siginfo_t` for signals that a process sent: number, errno, code, padding, sender.
#[repr(C, align(8))]
struct Siginfo {
    signal: i32,
    errno: i32,
    code: i32,
    padding: i32,
    sender: i32,
    rest: [u8; 108],
}

extern "C" fn main() -> ! {
    let all = u64::MAX;
    let set = &raw const all as usize;
    // The end of the program's input and output must not depend on us.
    for standard in 0..3 {
        // SAFETY: takes an integer and touches no memory.
        unsafe { call(number::CLOSE, standard, 0, 0, 0) };
    }
    reap();
    let mut info = Siginfo { signal: 0, errno: 0, code: 0, padding: 0, sender: 0, rest: [0; 108] };
    loop {
        // SAFETY: the set has 8 bytes, and the kernel writes no more than a `siginfo_t`, 128 bytes, which `Siginfo` has.
        let signal = unsafe { call(number::RT_SIGTIMEDWAIT, set, &raw mut info as usize, 0, 8) };
        if signal == SIGCHLD as isize {
            reap();
        } else if signal > 0 && info.sender == 0 {
            // SAFETY: takes integers and touches no memory.
            unsafe { call(number::KILL, CHILD, signal as usize, 0, 0) };
        }
    }
}

/// Reaps all that have ended; with the child's own end, ends everything.
fn reap() {
    const WNOHANG: usize = 1;
    loop {
        let mut status = 0_i32;
        // `struct rusage`: two times of 16 bytes, then the largest resident set, then 13 words more.
        let mut usage = core::mem::MaybeUninit::<[u64; 18]>::uninit();
        // SAFETY: the kernel writes 4 bytes of status and 144 of usage.
        let pid = unsafe { call(number::WAIT4, usize::MAX, &raw mut status as usize, WNOHANG, usage.as_mut_ptr() as usize) };
        if pid == CHILD as isize {
            // SAFETY: the kernel has filled it, since it answered a process.
            let largest_kib = unsafe { usage.assume_init() }[4];
            let end = [status as u64, largest_kib];
            // SAFETY: the kernel reads the 16 bytes of `end`, which lives through the call.
            unsafe { call(number::WRITE, STATUS_PIPE, &raw const end as usize, 16, 0) };
            // SAFETY: takes an integer; does not return.
            unsafe { call(number::EXIT_GROUP, 0, 0, 0, 0) };
        }
        if pid <= 0 {
            return;
        }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        // SAFETY: takes an integer; does not return.
        unsafe { call(number::EXIT_GROUP, 125, 0, 0, 0) };
    }
}
