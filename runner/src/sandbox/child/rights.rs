//! Ids, limits, capabilities and confinement: what the program may not do.

use super::*;

/// Tells the parent that its id is known to the kernel, and waits for the maps. The parent-death signal is set already: the pipe would not tell of the
/// parent's end, since we hold its other end as well.
pub(super) fn await_maps(wanted: c_int, written: c_int) -> Kernel<()> {
    write_all(wanted, b"m")?;
    let mut answer = 0_u8;
    match call!(SYS_read, written, ptr::from_mut(&mut answer), 1)? {
        1 if answer == b'g' => Ok(()),
        _ => Err(libc::EPERM),
    }
}

/// `0` is whoever writes it (cgroups(7)).
pub(super) fn join_cgroups(files: &[c_int]) -> Kernel<()> {
    files.iter().try_for_each(|file| write_all(*file, b"0"))
}

/// Raw calls: libc's own would change the ids of every thread that shares our memory.
pub(super) fn become_inner(identity: InnerIdentity) -> Kernel<()> {
    call!(SYS_setgroups, 0, ptr::null::<u32>())?;
    call!(SYS_setresgid, identity.gid, identity.gid, identity.gid)?;
    call!(SYS_setresuid, identity.uid, identity.uid, identity.uid).map(drop)
}

/// Without a user namespace: an id that owns nothing, and no way back. A root without CAP_SETPCAP keeps the bounding set.
pub(super) fn drop_to_user(identity: InnerIdentity) -> Kernel<()> {
    match drop_bounding_set(0) {
        Ok(()) | Err(libc::EPERM) => {}
        Err(errno) => return Err(errno),
    }
    become_inner(identity)?;
    drop_own_capabilities()
}

/// Writes a file of `/proc` in one call, after making sure that it is one (CVE-2025-52881: redirected writes).
pub(super) fn write_own(path: &CStr, text: &[u8], unchecked: bool) -> Kernel<()> {
    let file = call!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_WRONLY | libc::O_NOFOLLOW | libc::O_CLOEXEC, 0)? as c_int;
    let known = if unchecked { Ok(()) } else { is_proc(file) };
    let result = known.and_then(|()| call!(SYS_write, file, text.as_ptr(), text.len()));
    close(file);
    result.map(drop)
}

/// The signal is sent when the thread that cloned us ends; if the parent has ended before we asked for it, nobody would send it.
pub(super) fn die_with_parent(parent: c_int) -> Kernel<()> {
    call!(SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0)?;
    let mut poll = libc::pollfd { fd: parent, events: libc::POLLIN, revents: 0 };
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    match call!(SYS_ppoll, ptr::from_mut(&mut poll), 1, ptr::from_ref(&now), ptr::null::<c_void>(), 8)? {
        0 => Ok(()),
        _ => Err(libc::ESRCH),
    }
}

pub(super) fn limit(resource: u32, value: u64) -> Kernel<()> {
    let mut now = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    call!(SYS_prlimit64, 0, resource, ptr::null::<c_void>(), ptr::from_mut(&mut now))?;
    // A limit that is lower already stays: it cannot be raised by everyone.
    let value = value.min(now.rlim_max);
    let wanted = libc::rlimit64 { rlim_cur: value, rlim_max: value };
    call!(SYS_prlimit64, 0, resource, ptr::from_ref(&wanted), ptr::null::<c_void>()).map(drop)
}

/// The bounding set, which an exec could draw on; the ambient set; then all others. But for some that root inside keeps: under no_new_privs an exec by
/// user 0 gives no more than it had.
pub(super) fn drop_capabilities(kept: u64) -> Kernel<()> {
    drop_bounding_set(kept)?;
    leave_own_capabilities(kept)
}

fn drop_bounding_set(kept: u64) -> Kernel<()> {
    for capability in (0..64).filter(|capability| kept >> capability & 1 == 0) {
        match call!(SYS_prctl, libc::PR_CAPBSET_DROP, capability, 0, 0, 0) {
            Ok(_) => {}
            // Past the last one that this kernel knows.
            Err(libc::EINVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// The capabilities in hand. Without the right to empty the bounding set it stays, and is of no use once no_new_privs is set.
pub(super) fn drop_own_capabilities() -> Kernel<()> {
    leave_own_capabilities(0)
}

fn leave_own_capabilities(kept: u64) -> Kernel<()> {
    call!(SYS_prctl, libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)?;
    // struct __user_cap_header_struct {version 3, pid 0}, and two of struct __user_cap_data_struct.
    let header: [u32; 2] = [0x2008_0522, 0];
    // Effective, permitted, inheritable; the lower halves first.
    let (low, high) = (kept as u32, (kept >> 32) as u32);
    let left = [low, low, 0, high, high, 0];
    call!(SYS_capset, header.as_ptr(), left.as_ptr()).map(drop)
}

/// Only what lies beneath the new root may be opened or executed; our own executable, still this process's `/proc/self/exe`, does not (CVE-2019-5736).
pub(super) fn confine_files(ruleset: c_int, allowed: u64) -> Kernel<()> {
    if ruleset < 0 {
        return Ok(());
    }
    if allowed == 0 {
        // The rules are in it already.
        return call!(SYS_landlock_restrict_self, ruleset, 0).map(drop);
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
