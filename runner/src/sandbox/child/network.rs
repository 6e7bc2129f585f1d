//! A network namespace of its own: its loopback device, its addresses, and the descriptors that the host works with.

use super::*;

/// Sets the loopback device up (netdevice(7)).
pub(super) fn raise_loopback() -> Kernel<()> {
    let socket = call!(SYS_socket, libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0)? as c_int;
    // struct ifreq: 16 bytes of name, then flags.
    let mut request = [0_u8; 40];
    for (place, byte) in request.iter_mut().zip(*b"lo") {
        *place = byte;
    }
    let flags = (libc::IFF_UP | libc::IFF_RUNNING | libc::IFF_LOOPBACK) as u16;
    for (place, byte) in request.iter_mut().skip(16).zip(flags.to_ne_bytes()) {
        *place = byte;
    }
    let raised = call!(SYS_ioctl, socket, libc::SIOCSIFFLAGS, request.as_ptr());
    close(socket);
    raised.map(drop)
}

/// Sends netlink messages, each of which asks for an answer, and takes the first error among these.
pub(super) fn configure_network(messages: &[u8], count: u32) -> Kernel<()> {
    let socket = call!(SYS_socket, libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE)? as c_int;
    let configured = exchange(socket, messages, count);
    close(socket);
    configured
}

fn exchange(socket: c_int, messages: &[u8], count: u32) -> Kernel<()> {
    call!(SYS_sendto, socket, messages.as_ptr(), messages.len(), 0, ptr::null::<c_void>(), 0)?;
    // struct nlmsgerr comes behind a header of 16 bytes and begins with the negative errno; the message it answers follows, header alone or whole.
    for _ in 0..count {
        let mut answer = [0_u32; 64];
        call!(SYS_recvfrom, socket, answer.as_mut_ptr(), size_of_val(&answer), 0, ptr::null::<c_void>(), ptr::null::<c_void>())?;
        let [_, _, _, _, error, ..] = answer;
        if error != 0 {
            return Err((error as i32).wrapping_neg());
        }
    }
    Ok(())
}

/// A socket for the host.
pub(super) fn make_socket(place: Option<&mut c_int>, [domain, kind, protocol]: [c_int; 3]) -> Kernel<()> {
    *place.ok_or(libc::EBADF)? = call!(SYS_socket, domain, kind | libc::SOCK_CLOEXEC, protocol)? as c_int;
    Ok(())
}

/// Installs the filter that asks about connections, and answers its notification descriptor. Another one outside, which the kernel allows only one
/// of, is `EBUSY` (seccomp_unotify(2)).
pub(super) fn supervise(filter: &libc::sock_fprog) -> Kernel<c_int> {
    // Linux 5.19; younger than the libc crate's list for this target.
    const WAIT_KILLABLE_RECV: u64 = 1 << 5;
    let filter = ptr::from_ref(filter);
    let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let installed = match call!(SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, listener | WAIT_KILLABLE_RECV, filter) {
        Err(libc::EINVAL) => call!(SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, listener, filter),
        installed => installed,
    };
    installed.map(|notify| notify as c_int)
}

/// Sends what there is, in one message: a byte for each that says what it is, and the descriptors (unix(7): `SCM_RIGHTS`).
pub(super) fn hand_out(socket: c_int, handed: &[c_int; Handed::COUNT]) -> Kernel<()> {
    let mut kinds = [0_u8; Handed::COUNT];
    // struct cmsghdr: length, level and type; then the descriptors.
    let mut control = [0_u32; 4 + Handed::COUNT.next_multiple_of(2)];
    let mut count = 0;
    for (kind, descriptor) in (0..).zip(handed).filter(|(_, descriptor)| **descriptor >= 0) {
        *kinds.get_mut(count).ok_or(libc::EBADF)? = kind;
        *control.get_mut(4 + count).ok_or(libc::EBADF)? = *descriptor as u32;
        count += 1;
    }
    let [length, _, level, what, ..] = &mut control;
    *length = 16 + 4 * count as u32;
    (*level, *what) = (libc::SOL_SOCKET as u32, libc::SCM_RIGHTS as u32);
    // struct iovec, and struct msghdr in words of 8 bytes: name, its length, vector, its length, control data, its length, flags.
    let vector = [kinds.as_ptr().expose_provenance(), count];
    let control_length = (16 + 4 * count).next_multiple_of(8);
    let message = [0, 0, vector.as_ptr().expose_provenance(), 1, control.as_ptr().expose_provenance(), control_length, 0];
    call!(SYS_sendmsg, socket, message.as_ptr(), 0).map(drop)
}
