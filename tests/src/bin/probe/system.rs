//! Raw system calls: the probe attempts what a hostile function would, and no safe wrapper offers most of that.
//!
//! House rule, stated where it is bent: `unsafe` stands here besides the two files of the sandbox, since an escape can only be tried raw.
#![expect(unsafe_code, reason = "the probe tries escapes by raw system calls; it never runs outside tests")]

use std::ffi::{CString, c_int, c_long};
use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::sync::atomic::AtomicU32;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn signal(number: c_int, handler: usize) -> usize;
    fn raise(number: c_int) -> c_int;
    fn close(descriptor: c_int) -> c_int;
    fn _exit(code: c_int) -> !;
}

const SIG_DFL: usize = 0;
const SIG_IGN: usize = 1;
#[cfg(target_arch = "x86_64")]
const SYS_PRCTL: c_long = 157;
#[cfg(target_arch = "aarch64")]
const SYS_PRCTL: c_long = 167;
#[cfg(target_arch = "x86_64")]
const SYS_CLONE: c_long = 56;
#[cfg(target_arch = "aarch64")]
const SYS_CLONE: c_long = 220;

/// The names that tests compare; other numbers stay numbers.
pub fn errno_name(error: &io::Error) -> String {
    let name = match error.raw_os_error() {
        Some(1) => "EPERM",
        Some(2) => "ENOENT",
        Some(3) => "ESRCH",
        Some(9) => "EBADF",
        Some(11) => "EAGAIN",
        Some(12) => "ENOMEM",
        Some(13) => "EACCES",
        Some(17) => "EEXIST",
        Some(18) => "EXDEV",
        Some(20) => "ENOTDIR",
        Some(21) => "EISDIR",
        Some(22) => "EINVAL",
        Some(25) => "ENOTTY",
        Some(26) => "ETXTBSY",
        Some(28) => "ENOSPC",
        Some(30) => "EROFS",
        Some(32) => "EPIPE",
        Some(38) => "ENOSYS",
        Some(40) => "ELOOP",
        Some(92) => "ENOPROTOOPT",
        Some(95) => "EOPNOTSUPP",
        Some(97) => "EAFNOSUPPORT",
        Some(101) => "ENETUNREACH",
        Some(106) => "EISCONN",
        Some(107) => "ENOTCONN",
        Some(111) => "ECONNREFUSED",
        Some(114) => "EALREADY",
        Some(115) => "EINPROGRESS",
        Some(other) => return format!("errno {other}"),
        None => return format!("{error}"),
    };
    name.to_owned()
}

/// Arguments: a number, `s:TEXT` for a pointer to a C string, `b:N` for a pointer to N zero bytes, `p` for our process id.
pub fn raw(number: u64, arguments: &[&str], parse: fn(&str) -> u64) -> io::Result<u64> {
    let mut strings = Vec::new();
    let mut buffers = Vec::new();
    let mut words = [0u64; 6];
    for (word, argument) in words.iter_mut().zip(arguments.iter().filter(|argument| !argument.is_empty())) {
        *word = if let Some(text) = argument.strip_prefix("s:") {
            let text = CString::new(text)?;
            let pointer = text.as_ptr() as u64;
            strings.push(text);
            pointer
        } else if let Some(size) = argument.strip_prefix("b:") {
            let mut buffer = vec![0u8; parse(size) as usize];
            let pointer = buffer.as_mut_ptr() as u64;
            buffers.push(buffer);
            pointer
        } else if *argument == "p" {
            u64::from(std::process::id())
        } else {
            parse(argument)
        };
    }
    let [a, b, c, d, e, f] = words;
    // SAFETY: the kernel demands that pointers it writes through be ours; `strings` and `buffers` live until after the call, and every
    // other argument is a number that the kernel checks itself.
    let result = unsafe { syscall(number as c_long, a, b, c, d, e, f) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result as u64) }
}

/// An argument of a system call.
pub enum Word<'a> {
    Number(u64),
    /// What the kernel reads.
    Bytes(&'a [u8]),
    /// What it reads while others change it.
    Shared(&'a [AtomicU32]),
    /// What it writes to.
    Room(&'a mut [u8]),
}

/// A system call whose numbers are no pointers.
pub fn call<const N: usize>(number: u64, arguments: [Word<'_>; N]) -> io::Result<u64> {
    let mut words = [0; 6];
    for (word, argument) in words.iter_mut().zip(arguments) {
        *word = match argument {
            Word::Number(number) => number,
            Word::Bytes(bytes) => bytes.as_ptr() as u64,
            Word::Shared(words) => words.as_ptr() as u64,
            Word::Room(bytes) => bytes.as_mut_ptr() as u64,
        };
    }
    let [a, b, c, d, e, f] = words;
    // SAFETY: the kernel demands that pointers it writes through be ours alone: that is what `Room` borrows; it only reads the others.
    let result = unsafe { syscall(number as c_long, a, b, c, d, e, f) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result as u64) }
}

/// Owns a descriptor that a system call has just made.
pub fn own(number: c_int) -> OwnedFd {
    // SAFETY: the callee demands a descriptor that nobody else owns; the kernel has just made it for us.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// `clone` in its fork-like form; a child that comes to be ends at once.
pub fn clone_and_exit(flags: u64) -> io::Result<u64> {
    const SIGCHLD: u64 = 17;
    // SAFETY: without CLONE_VM the child has a copy of our memory and stack, so it cannot disturb us; it calls `_exit` only.
    let result = unsafe { syscall(SYS_CLONE, flags | SIGCHLD, 0u64, 0u64, 0u64, 0u64) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: `_exit` demands nothing.
        0 => unsafe { _exit(0) },
        child => Ok(child as u64),
    }
}

/// `fork`: 0 for the child, which goes on from here alone.
pub fn fork() -> io::Result<i64> {
    const SIGCHLD: u64 = 17;
    // SAFETY: without CLONE_VM the child has a copy of our memory and stack; no other thread of ours holds a lock that it could want.
    let result = unsafe { syscall(SYS_CLONE, SIGCHLD, 0u64, 0u64, 0u64, 0u64) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

pub fn wait_for_ever() -> ! {
    loop {
        std::thread::park();
    }
}

#[cfg(target_arch = "x86_64")]
mod number {
    use super::c_long;
    pub const MMAP: c_long = 9;
    pub const SHMGET: c_long = 29;
    pub const SHMAT: c_long = 30;
    pub const SHMDT: c_long = 67;
    pub const MADVISE: c_long = 28;
    pub const MEMFD_CREATE: c_long = 319;
}

#[cfg(target_arch = "aarch64")]
mod number {
    use super::c_long;
    pub const SHMGET: c_long = 194;
    pub const SHMAT: c_long = 196;
    pub const SHMDT: c_long = 197;
    pub const MADVISE: c_long = 233;
    pub const MMAP: c_long = 222;
    pub const MEMFD_CREATE: c_long = 279;
}

/// A file in memory.
pub fn memory_file() -> io::Result<File> {
    // SAFETY: the kernel demands a NUL-terminated name.
    let descriptor = unsafe { syscall(number::MEMFD_CREATE, c"filled".as_ptr(), 0) };
    if descriptor == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { File::from_raw_fd(descriptor as c_int) })
}

/// A new shared mapping without a name.
pub fn shared_memory(bytes: usize) -> io::Result<&'static mut [u8]> {
    const READ_WRITE: u64 = 3;
    const SHARED_ANONYMOUS: u64 = 0x21;
    // SAFETY: a mapping at a place of the kernel's choosing touches no memory that Rust knows of.
    let place = unsafe { syscall(number::MMAP, 0u64, bytes, READ_WRITE, SHARED_ANONYMOUS, -1_i64, 0u64) };
    if place == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: so many bytes are there, zeroed, nobody else's, and never unmapped.
    Ok(unsafe { std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut(place as usize), bytes) })
}

/// Takes the pages of a shared mapping out of our tables; they stay in it.
pub fn drop_pages(memory: &'static mut [u8]) -> io::Result<()> {
    const DONTNEED: u64 = 4;
    // SAFETY: the kernel demands a whole mapping of ours; its pages come back by touching it, and we hold the only reference.
    match unsafe { syscall(number::MADVISE, memory.as_mut_ptr(), memory.len(), DONTNEED) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes a System V segment, fills it and lets go of it: it stays.
pub fn leave_segment(block: &[u8]) -> io::Result<()> {
    const CREATE: u64 = 0o1600;
    // SAFETY: takes integers and touches no memory.
    let segment = unsafe { syscall(number::SHMGET, 0u64, block.len(), CREATE) };
    if segment == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel chooses the place.
    let place = unsafe { syscall(number::SHMAT, segment, 0u64, 0u64) };
    if place == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: so many bytes are mapped there, by nobody else.
    unsafe { std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut::<u8>(place as usize), block.len()) }
        .copy_from_slice(block);
    // SAFETY: nothing refers to the mapping any more.
    unsafe { syscall(number::SHMDT, place) };
    Ok(())
}

/// A system call by the 32-bit gate; only its number is given.
#[cfg(target_arch = "x86_64")]
pub fn int80(number: u64) -> String {
    let result: i64;
    // SAFETY: `int 0x80` keeps all registers but rax; a call without arguments touches no memory of ours. rbx is LLVM's, left alone.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("rax") number => result, in("rcx") 0u64, in("rdx") 0u64, options(nostack));
    }
    if result < 0 { errno_name(&io::Error::from_raw_os_error(-result as i32)) } else { "ok".to_owned() }
}

/// There is no such gate on this architecture.
#[cfg(not(target_arch = "x86_64"))]
pub fn int80(_number: u64) -> String {
    "ENOSYS".to_owned()
}

/// By the signal's default action; the kernel drops it when we are PID 1, as the bootstrap of a sandbox is.
pub fn kill_self(number: i32) {
    // SAFETY: SIG_DFL runs no code of ours. (The standard library's own SIGSEGV handler would swallow a raised one.)
    unsafe { signal(number, SIG_DFL) };
    // SAFETY: `raise` demands nothing.
    unsafe { raise(number) };
}

/// A true fault: that one ends PID 1 too.
pub fn segfault() {
    // SAFETY: none: page zero is never mapped, so the store faults before it can harm anything, which is what this is for.
    unsafe { std::ptr::write_volatile(std::ptr::without_provenance_mut::<u8>(8), 1) };
}

pub fn ignore_signal(number: i32) {
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { signal(number, SIG_IGN) };
}

pub fn close_stdout() -> io::Result<()> {
    // SAFETY: nobody owns descriptor 1 as a value; later writes through std fail with EBADF, which is what the test wants to see.
    if unsafe { close(1) } == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Writes all of it to a descriptor that we were started with, and that has no other owner.
pub fn write_to(descriptor: i32, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: it stays open, since the value is never dropped; a number that is not open gives EBADF.
    let mut file = std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(descriptor) });
    io::Write::write_all(&mut *file, bytes)
}

pub fn chmod(path: &str, octal: &str) -> io::Result<()> {
    let mode = u32::from_str_radix(octal, 8).map_err(|_| io::ErrorKind::InvalidInput)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// The name that others see, where there is a `/proc` and where there is none.
pub fn set_name(name: &str) -> io::Result<()> {
    const PR_SET_NAME: c_long = 15;
    let name = CString::new(name)?;
    // SAFETY: prctl(2) reads at most 16 bytes of a string that ends with a zero byte, which outlives the call.
    if unsafe { syscall(SYS_PRCTL, PR_SET_NAME, name.as_ptr()) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

pub fn connect_abstract(name: &str) -> io::Result<UnixStream> {
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)
}

pub fn stat_json(path: &Path) -> String {
    match std::fs::symlink_metadata(path) {
        Ok(found) => {
            let kind = match found.mode() & 0o170_000 {
                0o040_000 => "dir",
                0o120_000 => "link",
                0o100_000 => "file",
                0o020_000 => "char",
                _ => "other",
            };
            format!(r#"{{"kind":"{kind}","mode":"{:o}","uid":{},"gid":{}}}"#, found.mode() & 0o7777, found.uid(), found.gid())
        }
        Err(error) => crate::notes::json_text(errno_name(&error).as_bytes()),
    }
}
