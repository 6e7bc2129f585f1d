//! Landlock: files may be opened only beneath the sandbox's root, and abstract sockets and signals reach only the sandbox itself (landlock(7)).
//!
//! The ruleset is made outside; the child adds the root, which does not exist before, and restricts itself.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::bare::{Bare, Rights};
use super::sys;

/// A ruleset for one launch.
pub(super) struct Ruleset {
    /// The ruleset's descriptor.
    pub(super) fd: OwnedFd,
    /// The rights that it handles, all of which are allowed beneath the root.
    pub(super) allowed: u64,
    /// The kernel's ABI version.
    pub(super) abi: i64,
}

/// The file-system rights that an ABI knows: version 1 has 13 of them, then REFER (2), TRUNCATE (3) and IOCTL_DEV (5) came.
fn file_rights(abi: i64) -> u64 {
    let count = 13 + u32::from(abi >= 2) + u32::from(abi >= 3) + u32::from(abi >= 5);
    (1 << count) - 1
}

/// Abstract unix sockets and signals (version 6).
fn scopes(abi: i64) -> u64 {
    if abi >= 6 { 0b11 } else { 0 }
}

/// The bytes of the attribute structure that an ABI knows.
fn attribute_size(abi: i64) -> usize {
    match abi {
        ..=3 => 8,
        4..=5 => 16,
        _ => 24,
    }
}

/// `LANDLOCK_ACCESS_NET_BIND_TCP` and `LANDLOCK_ACCESS_NET_CONNECT_TCP` (version 4): without a rule no port is allowed.
fn tcp_rights(abi: i64) -> u64 {
    if abi >= 4 { 0b11 } else { 0 }
}

/// What a ruleset says of TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tcp {
    /// Nothing.
    Free,
    /// The sandbox neither binds nor connects by itself: the supervisor does. So a call that the supervisor lets through since it concerns a unix
    /// socket cannot be turned on a TCP one in the meantime.
    Supervised,
}

impl Ruleset {
    /// With a rule for the terminal that a sandbox is given: it is not beneath its root, and `/dev/stdout` leads there.
    pub(super) fn with_terminal(self, terminal: Option<&Path>) -> io::Result<Self> {
        // One that is not there any more needs no rule.
        if let Some(path) = terminal.and_then(|path| nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).ok()) {
            sys::landlock_allow_beneath(self.fd.as_fd(), path.as_fd(), self.allowed & rights(Rights::Device))?;
        }
        Ok(self)
    }

    /// With rules for the paths of a sandbox without mounts, if it is one: then nothing else is allowed. A path that is not there needs no rule.
    pub(super) fn with_rules(mut self, bare: Option<&Bare>) -> io::Result<Self> {
        let Some(bare) = bare else { return Ok(self) };
        for rule in &bare.rules {
            let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
            let Ok(path) = nix::fcntl::open(&rule.path, flags, Mode::empty()) else { continue };
            let is_folder = nix::sys::stat::fstat(&path)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
            let rights = self.allowed & rights(rule.rights) & if is_folder { u64::MAX } else { OF_FILES };
            sys::landlock_allow_beneath(self.fd.as_fd(), path.as_fd(), rights)?;
        }
        self.allowed = 0;
        Ok(self)
    }
}

/// Executing, writing, reading, truncating, and ioctls of devices: what a rule for a file may say.
const OF_FILES: u64 = 0b111 | 1 << 14 | 1 << 15;

fn rights(rights: Rights) -> u64 {
    match rights {
        // Executing and reading of files, listing of folders.
        Rights::Read => 0b1101,
        Rights::Device => OF_FILES & !1,
        Rights::All => u64::MAX,
    }
}

/// Makes a ruleset, or `None` where the kernel has no Landlock.
pub(super) fn ruleset(tcp: Tcp) -> io::Result<Option<Ruleset>> {
    let Some(abi) = sys::landlock_abi() else { return Ok(None) };
    let allowed = file_rights(abi);
    let handled_access_net = if tcp == Tcp::Supervised { tcp_rights(abi) } else { 0 };
    let attributes = sys::LandlockRuleset { handled_access_fs: allowed, handled_access_net, scoped: scopes(abi) };
    let fd = sys::landlock_create(&attributes, attribute_size(abi))?;
    Ok(Some(Ruleset { fd, allowed, abi }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_grow_with_the_abi() {
        assert_eq!([1, 2, 3, 4, 5, 7].map(file_rights), [0x1fff, 0x3fff, 0x7fff, 0x7fff, 0xffff, 0xffff]);
        assert_eq!([5, 6].map(scopes), [0, 3]);
    }
}
