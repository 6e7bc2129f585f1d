//! What docker-lambda's oldest images find in place of their `/var/runtime/mockserver`: reads standard input to its end, and ends.
//!
//! The language process of these images starts it, writes the event to it, and asks the Runtime API on 127.0.0.1:9001, which undocked serves by itself.
//! A program of its own, without libraries; `build.rs` compiles it.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};
use core::mem::MaybeUninit;

#[cfg(target_arch = "x86_64")]
mod number {
    pub const READ: usize = 0;
    pub const EXIT_GROUP: usize = 231;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const READ: usize = 63;
    pub const EXIT_GROUP: usize = 94;
}

const EINTR: isize = -4;

/// # Safety
/// The caller's pointers must be valid for what the call reads and writes.
#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, a: usize, b: usize, c: usize) -> isize {
    let result;
    // SAFETY: the caller's promise; the kernel keeps all registers but those named.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c, lateout("rcx") _, lateout("r11") _,
             options(nostack));
    }
    result
}

/// # Safety
/// The caller's pointers must be valid for what the call reads and writes.
#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, a: usize, b: usize, c: usize) -> isize {
    let result;
    // SAFETY: the caller's promise; the kernel keeps all registers but the first.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as isize => result, in("x1") b, in("x2") c, options(nostack));
    }
    result
}

// The kernel enters with an aligned stack (execve(2)); arguments do not matter.
#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "and rsp, -16", "call {main}", main = sym main);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, xzr", "bl {main}", main = sym main);

extern "C" fn main() -> ! {
    // Never looked at.
    let mut room = MaybeUninit::<[u8; 4096]>::uninit();
    loop {
        // SAFETY: the kernel writes no more than the size given.
        let read = unsafe { call(number::READ, 0, room.as_mut_ptr() as usize, size_of_val(&room)) };
        if read <= 0 && read != EINTR {
            exit(0);
        }
    }
}

fn exit(status: usize) -> ! {
    loop {
        // SAFETY: takes an integer; does not return.
        unsafe { call(number::EXIT_GROUP, status, 0, 0) };
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(125)
}
