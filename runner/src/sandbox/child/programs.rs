//! Standard streams, and the program at the end.

use super::*;

/// Dispositions before the mask: a handler of ours must never run here.
pub(super) fn wire_stdio(stdio: [c_int; 3], signals: &[c_int]) -> Kernel<()> {
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

/// Returns only if nothing could be executed.
pub(super) fn execute(orders: &mut Orders<'_>) -> Kernel<()> {
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

/// Becomes the init's file, which then executes the program: from here on `/proc/self/exe` is that one, should the program, or what interprets it, be
/// called so (CVE-2019-5736). Returns only if that is not to be.
pub(super) fn start_from_init(orders: &mut Orders<'_>) -> Kernel<()> {
    let Some(Init { executable, beside: Some(Beside { started, .. }), .. }) = orders.init else { return Err(libc::EINVAL) };
    let exists = |(path, _): &(*const c_char, *const *const c_char)| is_file(*path);
    let program = if orders.search == Search::Existing { orders.programs.iter().position(exists) } else { Some(0) };
    orders.record.program.store(program.unwrap_or(orders.programs.len()) as u32, Ordering::Relaxed);
    let arguments = *program.and_then(|program| orders.starts.get(program)).ok_or(libc::ENOENT)?;
    call!(SYS_dup3, started, 3, 0)?;
    call!(SYS_execveat, executable, c"".as_ptr(), arguments, orders.environment, libc::AT_EMPTY_PATH).map(drop)
}

/// Whether something that is no folder lies there.
pub(super) fn is_file(path: *const c_char) -> bool {
    status_of(libc::AT_FDCWD, path, 0).is_ok_and(|status| status.st_mode & libc::S_IFMT != libc::S_IFDIR)
}
