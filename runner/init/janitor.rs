//! Removes the cgroups of an undocked that ended without doing so, killed for example.
//!
//! A program of its own, without libraries; `build.rs` compiles it and undocked executes it from a sealed memfd, with a pipe as standard input whose
//! other end undocked holds. The end of the pipe is undocked's. Arguments: what the names of its cgroups begin with; then pairs, `stay` or `leave`
//! and a cgroup (as a folder) that they lie in. `leave`: undocked had gone into one of them itself, and so have we.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};
use core::mem::MaybeUninit;
use core::slice;

#[cfg(target_arch = "x86_64")]
mod number {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const NANOSLEEP: usize = 35;
    pub const GETDENTS64: usize = 217;
    pub const EXIT_GROUP: usize = 231;
    pub const OPENAT: usize = 257;
    pub const UNLINKAT: usize = 263;
    pub const CLOSE_RANGE: usize = 436;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const UNLINKAT: usize = 35;
    pub const OPENAT: usize = 56;
    pub const CLOSE: usize = 57;
    pub const GETDENTS64: usize = 61;
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const EXIT_GROUP: usize = 94;
    pub const NANOSLEEP: usize = 101;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const CLOSE_RANGE: usize = 436;
}

const AT_FDCWD: usize = -100_isize as usize;
const AT_REMOVEDIR: usize = 0x200;
const O_WRONLY: usize = 1;
const O_DIRECTORY: usize = if cfg!(target_arch = "aarch64") { 0o40_000 } else { 0o200_000 };
const ENOENT: isize = -2;
const EINTR: isize = -4;

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

// The kernel enters with an aligned stack, on which the count and the pointers of the arguments are (execve(2)).
#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {main}", main = sym main);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, xzr", "mov x0, sp", "bl {main}", main = sym main);

/// The arguments, as the kernel has put them on the stack: ended by a null pointer.
#[derive(Clone, Copy)]
struct Arguments(*const *const u8);

impl Iterator for Arguments {
    type Item = *const u8;

    fn next(&mut self) -> Option<*const u8> {
        // SAFETY: the list goes on until the null pointer, after which this is not advanced.
        let argument = unsafe { self.0.read() };
        if argument.is_null() {
            return None;
        }
        // SAFETY: the null pointer still follows.
        self.0 = unsafe { self.0.add(1) };
        Some(argument)
    }
}

extern "C" fn main(stack: *const usize) -> ! {
    let all = u64::MAX;
    // SAFETY: the kernel reads a set of 8 bytes, which `all` has; the old one is not asked for.
    unsafe { call(number::RT_SIGPROCMASK, 0, &raw const all as usize, 0, 8) };
    // SAFETY: takes integers and touches no memory.
    unsafe { call(number::CLOSE_RANGE, 3, u32::MAX as usize, 0, 0) };
    // SAFETY: the pointers follow the count.
    let mut arguments = Arguments(unsafe { stack.add(1) }.cast());
    let (Some(_), Some(prefix)) = (arguments.next(), arguments.next()) else { exit(2) };
    wait();
    // Ten seconds in all: those inside are being killed by the kernel.
    for _ in 0..1000 {
        let mut left = false;
        let mut pairs = arguments;
        while let (Some(what), Some(parent)) = (pairs.next(), pairs.next()) {
            // SAFETY: the argument has at least its NUL byte.
            let leave = unsafe { what.read() } == b'l';
            left |= sweep(parent, prefix, leave);
        }
        if !left {
            exit(0);
        }
        let pause: [u64; 2] = [0, 10_000_000];
        // SAFETY: the kernel reads a `struct timespec`, two words; what would be left is not asked for.
        unsafe { call(number::NANOSLEEP, &raw const pause as usize, 0, 0, 0) };
    }
    exit(1)
}

/// Until the pipe ends.
fn wait() {
    let mut byte = 0_u8;
    loop {
        // SAFETY: the kernel writes one byte.
        let read = unsafe { call(number::READ, 0, &raw mut byte as usize, 1, 0) };
        if read != 1 && read != EINTR {
            return;
        }
    }
}

/// Removes what begins with the prefix; says whether any is left.
fn sweep(parent: *const u8, prefix: *const u8, leave: bool) -> bool {
    // SAFETY: the kernel reads a string, which an argument is.
    let folder = unsafe { call(number::OPENAT, AT_FDCWD, parent as usize, O_DIRECTORY, 0) };
    if folder < 0 {
        return false;
    }
    let folder = folder as usize;
    if leave {
        // A cgroup that hands controllers down takes no process (cgroups(7)).
        for controller in [c"-memory", c"-pids", c"-cpu"] {
            write(folder, c"cgroup.subtree_control", controller);
        }
        write(folder, c"cgroup.procs", c"0");
    }
    let mut left = false;
    let mut entries = MaybeUninit::<Entries>::uninit();
    loop {
        // SAFETY: the kernel writes no more than the size given.
        let read = unsafe { call(number::GETDENTS64, folder, entries.as_mut_ptr() as usize, size_of::<Entries>(), 0) };
        if read <= 0 {
            break;
        }
        // SAFETY: so many bytes the kernel has written.
        let mut rest = unsafe { slice::from_raw_parts(entries.as_ptr().cast::<u8>(), read as usize) };
        // struct linux_dirent64: 8 bytes of inode, 8 of offset, 2 of length, 1 of type; then the name.
        while let (Some(&[low, high]), Some(name)) = (rest.get(16..18), rest.get(19..)) {
            if begins(name, prefix) {
                // SAFETY: the kernel reads a string; it has ended the name by a NUL byte.
                let removed = unsafe { call(number::UNLINKAT, folder, name.as_ptr() as usize, AT_REMOVEDIR, 0) };
                left |= removed < 0 && removed != ENOENT;
            }
            rest = rest.get(usize::from(u16::from_ne_bytes([low, high]))..).unwrap_or_default();
        }
    }
    // SAFETY: takes an integer and touches no memory.
    unsafe { call(number::CLOSE, folder, 0, 0, 0) };
    left
}

/// Room for entries of a folder, aligned as they are.
type Entries = [u64; 512];

fn begins(name: &[u8], prefix: *const u8) -> bool {
    for (place, byte) in name.iter().enumerate() {
        // SAFETY: no place before this one was its NUL byte, with which this ends.
        let wanted = unsafe { prefix.add(place).read() };
        if wanted == 0 {
            return true;
        }
        if wanted != *byte {
            return false;
        }
    }
    false
}

fn write(folder: usize, name: &core::ffi::CStr, text: &core::ffi::CStr) {
    // SAFETY: the kernel reads a string, which a `CStr` is.
    let file = unsafe { call(number::OPENAT, folder, name.as_ptr() as usize, O_WRONLY, 0) };
    if file >= 0 {
        // SAFETY: the kernel reads as many bytes as the text has.
        unsafe { call(number::WRITE, file as usize, text.as_ptr() as usize, text.count_bytes(), 0) };
        // SAFETY: takes an integer and touches no memory.
        unsafe { call(number::CLOSE, file as usize, 0, 0, 0) };
    }
}

fn exit(status: usize) -> ! {
    loop {
        // SAFETY: takes an integer; does not return.
        unsafe { call(number::EXIT_GROUP, status, 0, 0, 0) };
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(125)
}
