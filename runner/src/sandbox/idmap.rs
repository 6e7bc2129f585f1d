//! Ids under real root: the sandbox never maps to host id 0, and the folders it is given are shown as its own by id-mapped mounts.
//!
//! As uid 0 even without capabilities a process could write `/proc/sys/kernel/core_pattern`, which is root on the host. So inside is mapped to one
//! unprivileged host id, and every mount shifts its owner's id to that one; else a 0700 folder of root's would be unreadable (mount_setattr(2)).

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use super::isolation::Standing;
use super::plan::{Owner, Privilege, Source};
use super::subids::{COUNT, IdMap};
use super::sys::{self, MountAttr};
use super::{Degradation, InnerIdentity};

/// The host id, of user and group, that the sandboxes of this process run as under real root. No account has it, nor is it among the ids that
/// subuid(5) or systemd give to containers (up to 0x6fff_ffff); and no two processes that live at the same time have the same.
pub(super) fn host_id() -> u32 {
    const FIRST: u32 = 0x7000_0000;
    // A process id has at most 22 bits (proc(5): pid_max).
    FIRST + std::process::id()
}

/// Gives a terminal of ours to the sandboxes of this process, which under real root are somebody else: they open it by its name.
pub fn give_terminal(terminal: impl AsFd) -> io::Result<()> {
    match Standing::here().with_userns() {
        Ok(Privilege::Root) => Ok(rustix::fs::fchown(terminal, Some(rustix::fs::Uid::from_raw(host_id())), None)?),
        _ => Ok(()),
    }
}

/// The ids that a program runs as without a user namespace of its own: on the machine itself the one above, in an outer container's the last that it has.
pub(super) fn unprivileged_ids(initial: bool) -> Option<InnerIdentity> {
    if initial {
        return Some(InnerIdentity { uid: host_id(), gid: host_id() });
    }
    let last = |file: &str| last_id(&fs::read_to_string(file).unwrap_or_default());
    Some(InnerIdentity { uid: last("/proc/self/uid_map")?, gid: last("/proc/self/gid_map")? })
}

/// The last id of a map, unless that is root.
fn last_id(map: &str) -> Option<u32> {
    let last = |line: &str| {
        let mut fields = line.split_whitespace().map(str::parse::<u32>);
        let (first, _, count) = (fields.next()?.ok()?, fields.next()?.ok()?, fields.next()?.ok()?);
        first.checked_add(count.checked_sub(1)?)
    };
    map.lines().filter_map(last).max().filter(|id| *id != 0)
}

/// Ids for one sandbox among those of this process, where no namespace keeps their processes apart. Those of an outer container are few and stay.
pub(super) fn apart(ids: InnerIdentity) -> InnerIdentity {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    if ids.uid != host_id() {
        return ids;
    }
    // Above the bits of the process id; below the last id that counts as a signed number. Not the one that those with namespaces have: their processes
    // would be killed as ours.
    let id = host_id() + ((1 + COUNT.fetch_add(1, Ordering::Relaxed) % 31) << 22);
    InnerIdentity { uid: id, gid: id }
}

/// Writes the maps of a child of real root's: a child may not do it itself when the ids are not its own.
pub(super) fn write_maps(pid: libc::pid_t, inner: InnerIdentity, host_id: u32) -> io::Result<()> {
    write_both(pid, [&[(inner.uid, host_id, 1)], &[(inner.gid, host_id, 1)]])
}

/// Writes the maps of user and group ids, each line as (inside, outside, count).
pub(super) fn write_both(pid: libc::pid_t, [uids, gids]: [&[(u32, u32, u32)]; 2]) -> io::Result<()> {
    write_proc(&format!("/proc/{pid}/uid_map"), &lines(uids))?;
    write_proc(&format!("/proc/{pid}/gid_map"), &lines(gids))
}

/// A map as the kernel reads it, in one write (user_namespaces(7)).
fn lines(map: &[(u32, u32, u32)]) -> String {
    map.iter().map(|(inside, outside, count)| format!("{inside} {outside} {count}\n")).collect()
}

/// Writes a file of `/proc`, after making sure that it is one (CVE-2025-52881: redirected writes).
fn write_proc(path: &str, text: &str) -> io::Result<()> {
    let mut file = File::options().write(true).open(path)?;
    if rustix::fs::fstatfs(&file)?.f_type != rustix::fs::PROC_SUPER_MAGIC {
        return Err(io::Error::from_raw_os_error(libc::EXDEV));
    }
    file.write_all(text.as_bytes())
}

/// Opens mounts for real root. One user namespace is kept per owner (user id and group id on disk), and per range of ids that stay as they are.
#[derive(Debug, Default)]
pub(super) struct Mounter {
    /// Whether no namespace can be had: then ids are not shifted at all, which is said once.
    refused: bool,
    namespaces: HashMap<((u32, u32), IdMap), File>,
}

impl Mounter {
    /// A detached copy of the source's mount, with its attributes set and its owner shown as the sandbox's user; the other ids that the sandbox has are
    /// themselves on disk. A file system that cannot shift ids is mounted as it is, which is said.
    pub(super) fn open(&mut self, source: &Source, ids: IdMap, degradations: &mut Vec<Degradation>) -> io::Result<OwnedFd> {
        let path = CString::new(source.path.as_os_str().as_bytes())?;
        let tree = sys::clone_tree(&path, source.flags.recursive)?;
        sys::set_mount_attributes(tree.as_fd(), &MountAttr::of(source.flags), source.flags.recursive)?;
        let owner = fs::metadata(&source.path)?;
        let given = |uid: u32| source.owner == Owner::Given && uid == host_id();
        if source.owner != Owner::AsOnHost && !self.refused && !given(owner.uid()) {
            let shifted = self.shift(&tree, ((owner.uid(), owner.gid()), ids), source.flags.recursive);
            if shifted.is_err() && source.owner == Owner::Given {
                give(&source.path)?;
            } else if let Err(error) = shifted {
                let what = if self.refused { "files".to_owned() } else { source.path.display().to_string() };
                degradations.push(Degradation::new(format!("show {what} as the function's own"), &error));
            }
        }
        sys::above_standard(tree)
    }

    fn shift(&mut self, tree: &OwnedFd, shown: ((u32, u32), IdMap), recursive: bool) -> io::Result<()> {
        let namespace = match self.namespaces.entry(shown) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => match shifting_namespace(shown) {
                Ok(namespace) => entry.insert(namespace),
                Err(error) => {
                    self.refused = true;
                    return Err(error);
                }
            },
        };
        let attributes = MountAttr { attr_set: sys::MOUNT_ATTR_IDMAP, userns_fd: namespace.as_raw_fd() as u64, ..MountAttr::default() };
        let shifted = sys::set_mount_attributes(tree.as_fd(), &attributes, recursive);
        if shifted.is_err() && recursive {
            // A file system mounted below may be the one that cannot: shift at least the folder that was asked for.
            return sys::set_mount_attributes(tree.as_fd(), &attributes, false);
        }
        shifted
    }
}

/// Gives a tree to the sandbox's user. Nobody else has it.
fn give(path: &Path) -> io::Result<()> {
    std::os::unix::fs::lchown(path, Some(host_id()), Some(host_id()))?;
    if !path.symlink_metadata()?.is_dir() {
        return Ok(());
    }
    fs::read_dir(path)?.try_for_each(|entry| give(&entry?.path()))
}

/// A user namespace that maps the owner on disk to the sandbox's host id.
fn shifting_namespace(((uid, gid), ids): ((u32, u32), IdMap)) -> io::Result<File> {
    let (first_uid, first_gid) = match ids {
        IdMap::Single => (None, None),
        IdMap::Subordinate(ids) => (Some(ids.first().0), Some(ids.first().1)),
    };
    let holder = sys::NamespaceHolder::start()?;
    let pid = holder.pid();
    write_both(pid, [&shifted(uid, first_uid), &shifted(gid, first_gid)])?;
    File::open(format!("/proc/{pid}/ns/user"))
}

/// How ids on disk are shown: the owner's as the sandbox's own, those of a range as themselves. One of the range that is the owner's cannot be both.
fn shifted(owner: u32, first: Option<u32>) -> Vec<(u32, u32, u32)> {
    let mut map = vec![(owner, host_id(), 1)];
    if let Some(first) = first {
        let end = first + COUNT;
        let parts = if (first..end).contains(&owner) { vec![(first, owner), (owner + 1, end)] } else { vec![(first, end)] };
        map.extend(parts.into_iter().filter(|(from, to)| from < to).map(|(from, to)| (from, from, to - from)));
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_shown_as_itself() {
        let own = host_id();
        let end = 1000 + COUNT;
        for (owner, first, expected) in [
            (5, None, vec![(5, own, 1)]),
            (5, Some(1000), vec![(5, own, 1), (1000, 1000, COUNT)]),
            (1000, Some(1000), vec![(1000, own, 1), (1001, 1001, COUNT - 1)]),
            (1010, Some(1000), vec![(1010, own, 1), (1000, 1000, 10), (1011, 1011, COUNT - 11)]),
            (end - 1, Some(1000), vec![(end - 1, own, 1), (1000, 1000, COUNT - 1)]),
            (end, Some(1000), vec![(end, own, 1), (1000, 1000, COUNT)]),
        ] {
            assert_eq!(shifted(owner, first), expected, "{owner}");
        }
    }

    #[test]
    fn maps_have_a_line_for_each_range() {
        assert_eq!(lines(&[(0, 1000, 1), (1, 100_000, 65_535)]), "0 1000 1\n1 100000 65535\n");
    }

    #[test]
    fn t4_cve_2025_52881_only_files_of_proc_are_written() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = write_proc(&file.path().display().to_string(), "0 0 1").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EXDEV));
        assert_eq!(fs::read_to_string(file.path()).unwrap(), "");
    }
}
