//! The ladder: in which ways a sandbox can stand, best first, and which of them this process may try.
//!
//! A rung is left for the next one only when the kernel (or an outer container) refuses a step that the rung is made of. What the two rungs below
//! [`Isolation::Full`] do otherwise is decided by the child in the same launch, so that nothing is tried twice.

use std::fmt;
use std::fs;
use std::str::FromStr;
use std::sync::OnceLock;

use super::idmap;
use super::plan::Privilege;
use super::{HostRoot, RootSource, SandboxRequest};

/// How a sandbox stands; an earlier one protects more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Isolation {
    /// User, mount, pid, ipc and uts namespaces, a `/proc` of its own, and nothing of the host's mounts left.
    #[default]
    Full,
    /// As [`Isolation::Full`], but `/proc` is the outer one, bound: an outer container hides parts of it, and then the kernel grants no new one.
    ProcBind,
    /// The root is moved over the old one and entered by `chroot`, since `pivot_root` is refused; `/proc` is its own or bound, as it is granted.
    NoPivot,
    /// Root without a user namespace: the others hold, and the program runs as an unprivileged id of the machine.
    RootWithoutUserns,
    /// Root without namespaces: a private copy of the root by hard links, entered by `chroot`, as an unprivileged id.
    Chroot,
    /// No root of its own: the machine's userland, confined by Landlock and the system-call filter alone.
    InPlace,
}

/// Which isolation is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IsolationChoice {
    /// The best that is granted.
    #[default]
    Auto,
    /// This one, or no run.
    Only(Isolation),
}

/// Not the name of an isolation.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{given}` is no isolation: there are {}", names())]
pub struct ParseIsolationError {
    given: String,
}

fn names() -> String {
    let names = Isolation::ALL.map(|isolation| format!("`{isolation}`"));
    format!("`auto`, {}", names.join(", "))
}

impl Isolation {
    /// All of them, best first.
    pub const ALL: [Self; 6] = [Self::Full, Self::ProcBind, Self::NoPivot, Self::RootWithoutUserns, Self::Chroot, Self::InPlace];

    /// The name on the command line and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ProcBind => "proc-bind",
            Self::NoPivot => "no-pivot",
            Self::RootWithoutUserns => "root-without-userns",
            Self::Chroot => "chroot",
            Self::InPlace => "in-place",
        }
    }

    /// What it protects less than [`Isolation::Full`], as a part of a sentence.
    pub fn lacks(self) -> Option<&'static str> {
        match self {
            Self::Full => None,
            Self::ProcBind => Some("`/proc` is the outer one and lists its processes"),
            Self::NoPivot => Some("the outer root lies hidden below the function's own"),
            Self::RootWithoutUserns => Some("there is no user namespace, the function is an unprivileged user of this machine"),
            Self::Chroot => Some(
                "there are no namespaces: the function is an unprivileged user of this machine in a copied root without `/proc`, \
                 shares its processes' numbers and network, and what it writes to volumes is dropped",
            ),
            Self::InPlace => Some(
                "there is no root of its own: the function sees this machine's files as far as Landlock lets it, and shares its processes and network",
            ),
        }
    }

    /// Whether it has mount and pid namespaces of its own.
    pub(super) fn has_namespaces(self) -> bool {
        self < Self::Chroot
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for IsolationChoice {
    type Err = ParseIsolationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Isolation::ALL.into_iter().find(|isolation| isolation.name() == text);
        match named {
            Some(isolation) => Ok(Self::Only(isolation)),
            None if text == "auto" => Ok(Self::Auto),
            None => Err(ParseIsolationError { given: text.to_owned() }),
        }
    }
}

/// What this process is to the kernel; it does not change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    uid: u32,
    gid: u32,
    /// Whether ids here are the machine's own: no user namespace lies around us.
    initial_ids: bool,
    capabilities: u64,
}

// Numbers of capabilities (linux/capability.h).
const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;
const CAP_SYS_CHROOT: u32 = 18;
const CAP_SYS_ADMIN: u32 = 21;

/// Such a root could only map itself, and a sandbox of the machine's root is none.
const NO_OTHER_IDS: &str = "root may not take other ids here (CAP_SETUID, CAP_SETGID): an ordinary user may do better";

impl Standing {
    /// Of this process.
    pub(super) fn here() -> Self {
        static HERE: OnceLock<Standing> = OnceLock::new();
        *HERE.get_or_init(|| {
            let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
            // Only root's way depends on the rest.
            let read = |path| if uid == 0 { fs::read_to_string(path).unwrap_or_default() } else { String::new() };
            let (map, status) = (read("/proc/self/uid_map"), read("/proc/self/status"));
            Standing { uid, gid, initial_ids: is_initial(&map), capabilities: effective(&status) }
        })
    }

    fn may(&self, capability: u32) -> bool {
        self.capabilities >> capability & 1 == 1
    }

    fn may_change_ids(&self) -> bool {
        self.may(CAP_SETUID) && self.may(CAP_SETGID)
    }

    /// With a user namespace of the sandbox's own.
    pub(super) fn with_userns(&self) -> Result<Privilege, &'static str> {
        let Self { uid, gid, .. } = *self;
        if uid == 0 && self.initial_ids && !self.may_change_ids() {
            return Err(NO_OTHER_IDS);
        }
        Ok(match uid {
            // Root of a user namespace is an ordinary user of the machine, and may map itself like one. Mapping the machine's root is an escape.
            0 if self.initial_ids && self.may(CAP_SYS_ADMIN) => Privilege::Root,
            0 if self.initial_ids => Privilege::RootWithoutMounts,
            _ => Privilege::Ordinary { uid, gid },
        })
    }

    /// What the sandbox is launched as for an isolation, or why it cannot be.
    pub(super) fn privilege(&self, isolation: Isolation) -> Result<Privilege, &'static str> {
        let unprivileged = || match self.uid {
            0 if self.may_change_ids() => idmap::unprivileged_ids(self.initial_ids).ok_or("there is no unprivileged id to run as"),
            0 => Err(NO_OTHER_IDS),
            _ => Err("only root may"),
        };
        match isolation {
            Isolation::Full | Isolation::ProcBind | Isolation::NoPivot => self.with_userns(),
            Isolation::RootWithoutUserns => {
                let ids = unprivileged()?;
                if self.may(CAP_SYS_ADMIN) { Ok(Privilege::WithoutUserns(ids)) } else { Err("it needs CAP_SYS_ADMIN") }
            }
            Isolation::Chroot => {
                let ids = unprivileged()?;
                if self.may(CAP_SYS_CHROOT) { Ok(Privilege::WithoutUserns(ids)) } else { Err("it needs CAP_SYS_CHROOT") }
            }
            Isolation::InPlace if self.uid == 0 => unprivileged().map(Privilege::WithoutUserns),
            Isolation::InPlace => Ok(Privilege::Ordinary { uid: self.uid, gid: self.gid }),
        }
    }

    /// The rungs below those with a user namespace that can be tried for a request, best first.
    pub(super) fn rungs_below(&self, request: &SandboxRequest) -> Vec<Isolation> {
        let rungs = [Isolation::RootWithoutUserns, Isolation::Chroot, Isolation::InPlace].into_iter();
        rungs.filter(|rung| suits(*rung, &request.root).is_ok() && self.privilege(*rung).is_ok()).collect()
    }
}

/// Whether a root can be had on a rung, or why not.
pub(super) fn suits(isolation: Isolation, root: &RootSource) -> Result<(), &'static str> {
    match (isolation, root) {
        (Isolation::Chroot, RootSource::Host(host)) if is_machine(host) => {
            Err("this machine's userland is not copied: name an image, or take `in-place`")
        }
        (Isolation::InPlace, RootSource::Host(host)) if is_machine(host) => Ok(()),
        (Isolation::RootWithoutUserns | Isolation::Chroot | Isolation::InPlace, RootSource::Writable(_)) => {
            Err("a root that may be written to needs a user namespace: `--read-only` does without")
        }
        (Isolation::InPlace, _) => Err("it runs in this machine's userland, not in an image: give `host` as IMAGE"),
        _ => Ok(()),
    }
}

/// Whether it is this machine's userland, not an image taken apart.
fn is_machine(host: &HostRoot) -> bool {
    !host.folders.is_empty()
}

/// Whether a map of ids is that of the machine itself.
fn is_initial(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

fn effective(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Whether an errno says that the kernel refuses a step, whatever it is about; a lower isolation may then do.
pub(super) fn is_refusal(errno: i32) -> bool {
    // ENOSPC and EUSERS: limits on namespaces. EINVAL: a kernel without one of them.
    let refusals = [libc::EPERM, libc::EACCES, libc::ENOSYS, libc::EINVAL, libc::ENOSPC, libc::EUSERS, libc::EOPNOTSUPP, libc::ENODEV];
    refusals.contains(&errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for isolation in Isolation::ALL {
            assert_eq!(isolation.name().parse(), Ok(IsolationChoice::Only(isolation)));
        }
        assert_eq!("auto".parse(), Ok(IsolationChoice::Auto));
        let error = "best".parse::<IsolationChoice>().unwrap_err().to_string();
        assert!(error.contains("`auto`, `full`, `proc-bind`") && error.starts_with("`best`"), "{error}");
    }

    #[test]
    fn root_is_root_only_where_its_ids_are_the_machines() {
        let root = |map: &str, capabilities| Standing { uid: 0, gid: 0, initial_ids: is_initial(map), capabilities };
        let whole = "         0          0 4294967295\n";
        assert_eq!(root(whole, u64::MAX).with_userns(), Ok(Privilege::Root));
        assert_eq!(root(whole, 0xa804_25fb).with_userns(), Ok(Privilege::RootWithoutMounts));
        assert!(root(whole, 0).with_userns().is_err());
        let itself = Ok(Privilege::Ordinary { uid: 0, gid: 0 });
        assert_eq!(root("         0       1001          1\n", u64::MAX).with_userns(), itself);
        assert_eq!(root("0 1001 1\n1 100000 65536\n", u64::MAX).with_userns(), itself);
    }

    #[test]
    fn rungs_need_rights() {
        let standing = |uid, capabilities| Standing { uid, gid: uid, initial_ids: true, capabilities };
        let docker = standing(0, 0xa804_25fb);
        assert!(docker.privilege(Isolation::RootWithoutUserns).is_err());
        assert!(matches!(docker.privilege(Isolation::Chroot), Ok(Privilege::WithoutUserns(_))));
        assert!(standing(0, 0).privilege(Isolation::Chroot).is_err());
        assert!(standing(1000, 0).privilege(Isolation::Chroot).is_err());
        assert!(matches!(standing(1000, 0).privilege(Isolation::InPlace), Ok(Privilege::Ordinary { uid: 1000, .. })));
        assert_eq!(effective("Name:\tx\nCapEff:\t00000000a80425fb\n"), 0xa804_25fb);
    }
}
