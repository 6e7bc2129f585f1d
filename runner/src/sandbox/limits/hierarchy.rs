//! Where cgroups can be made: the hierarchies that are mounted, our own place in each, and what may be done there.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::systemd;

/// What a cgroup can limit and this module uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    Memory,
    Pids,
    Cpu,
}

impl Controller {
    pub(super) const ALL: [Self; 3] = [Self::Memory, Self::Pids, Self::Cpu];

    /// The kernel's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
        }
    }
}

/// Which of the kernel's two interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// One hierarchy for each controller, or a few.
    One,
    /// One for all.
    Two,
}

/// A cgroup that cgroups for sandboxes can be made in.
#[derive(Debug)]
pub(super) struct Parent {
    pub(super) folder: PathBuf,
    pub(super) version: Version,
    /// What those made in it can limit.
    pub(super) controllers: Vec<Controller>,
    /// We had to go into a cgroup of our own below it, which must be left again at the end.
    pub(super) own_leaf: bool,
}

/// A mounted hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// Which of its folders is mounted.
    root: PathBuf,
    point: PathBuf,
    /// The controllers of a version 1 hierarchy; `None`: version 2.
    controllers: Option<Vec<String>>,
}

/// The hierarchies in the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
fn mounts(mountinfo: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let (place, what) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, point) = (place.next()?.into(), place.next()?.into());
        let mut what = what.split(' ');
        let controllers = match what.next()? {
            "cgroup2" => None,
            "cgroup" => Some(what.nth(1)?.split(',').map(str::to_owned).collect()),
            _ => return None,
        };
        Some(Mount { root, point, controllers })
    };
    mountinfo.lines().filter_map(mount).collect()
}

/// Our own cgroup in a hierarchy, by the text of `/proc/self/cgroup` (cgroups(7)), as a folder below the mount; `None` if it does not show there.
fn own_folder(mount: &Mount, own: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (names, path) = (parts.next()?, parts.next()?);
        let same = match &mount.controllers {
            None => names.is_empty(),
            Some(controllers) => !names.is_empty() && names.split(',').all(|name| controllers.iter().any(|other| other == name)),
        };
        same.then_some(path)
    })?;
    let below = Path::new(path).strip_prefix(&mount.root).ok()?;
    below.components().all(|part| matches!(part, Component::Normal(_))).then(|| mount.point.join(below))
}

fn writable(path: &Path) -> bool {
    access(path, AccessFlags::W_OK).is_ok()
}

/// Where cgroups can be made, for each controller at most one place. `leaf` names the cgroup that we may have to go into ourselves.
pub(super) fn parents(leaf: &str) -> io::Result<Vec<Parent>> {
    let mounts = mounts(&fs::read_to_string("/proc/self/mountinfo")?);
    let own = || fs::read_to_string("/proc/self/cgroup");
    let mut found: Vec<Parent> = Vec::new();
    let own_now = own()?;
    for controller in Controller::ALL {
        let version_1 = |mount: &&Mount| mount.controllers.as_ref().is_some_and(|names| names.iter().any(|name| name == controller.name()));
        let folder = mounts.iter().filter(version_1).find_map(|mount| own_folder(mount, &own_now)).filter(|folder| writable(folder));
        let Some(folder) = folder else { continue };
        match found.iter_mut().find(|parent| parent.folder == folder) {
            Some(parent) => parent.controllers.push(controller),
            None => found.push(Parent { folder, version: Version::One, controllers: vec![controller], own_leaf: false }),
        }
    }
    let missing: Vec<_> = Controller::ALL.into_iter().filter(|one| found.iter().all(|parent| !parent.controllers.contains(one))).collect();
    if let Some(mount) = mounts.iter().find(|mount| mount.controllers.is_none()) {
        found.extend(unified(mount, own, &missing, leaf));
    }
    Ok(found)
}

/// A place in the version 2 hierarchy. In it a cgroup cannot both hold processes and hand controllers down, the root alone can (cgroups(7)).
fn unified(mount: &Mount, own: impl Fn() -> io::Result<String>, missing: &[Controller], leaf: &str) -> Option<Parent> {
    let listed = |file: &Path| fs::read_to_string(file).unwrap_or_default();
    let offers = |folder: &Path| {
        let names = listed(&folder.join("cgroup.controllers"));
        missing.iter().any(|one| names.split_whitespace().any(|name| name == one.name()))
    };
    // Whatever nobody has bound to version 1 shows at the root; a container sees no further than its own.
    if missing.is_empty() || !offers(&mount.point) {
        return None;
    }
    let folder = own_folder(mount, &own().ok()?)?;
    if is_real_root(&folder) && writable(&folder) {
        return hand_down(folder, missing, false);
    }
    if writable(&folder) && offers(&folder) && alone_in(&folder) {
        return into_leaf(folder, missing, leaf);
    }
    let entered = systemd::enter_scope_of_our_own(&scope(leaf));
    if entered.is_ok()
        && let Some(folder) = own().ok().and_then(|own| own_folder(mount, &own))
        && offers(&folder)
        && alone_in(&folder)
    {
        return into_leaf(folder, missing, leaf);
    }
    above(&folder, &mount.point, missing)
}

/// The name of the scope that systemd is asked for.
pub(super) fn scope(leaf: &str) -> String {
    format!("{}.scope", leaf.trim_end_matches('-'))
}

/// The root of all has no type.
fn is_real_root(folder: &Path) -> bool {
    folder.join("cgroup.procs").exists() && !folder.join("cgroup.type").exists()
}

fn alone_in(folder: &Path) -> bool {
    fs::read_to_string(folder.join("cgroup.procs")).is_ok_and(|ids| ids.trim() == std::process::id().to_string())
}

/// Goes into a cgroup of our own, so that the one we were in can hand its controllers down.
fn into_leaf(folder: PathBuf, missing: &[Controller], leaf: &str) -> Option<Parent> {
    let own = folder.join(format!("{leaf}self"));
    fs::create_dir(&own).ok()?;
    fs::write(own.join("cgroup.procs"), std::process::id().to_string()).ok()?;
    hand_down(folder, missing, true)
}

/// Lets a cgroup's children have what is missing, and answers what they have.
fn hand_down(folder: PathBuf, missing: &[Controller], own_leaf: bool) -> Option<Parent> {
    let control = folder.join("cgroup.subtree_control");
    for controller in missing {
        // One by one: a write is taken as a whole or not at all.
        let _ = fs::write(&control, format!("+{}", controller.name()));
    }
    handed_down(folder, missing, own_leaf)
}

fn handed_down(folder: PathBuf, missing: &[Controller], own_leaf: bool) -> Option<Parent> {
    let names = fs::read_to_string(folder.join("cgroup.subtree_control")).unwrap_or_default();
    let controllers: Vec<_> = missing.iter().copied().filter(|one| names.split_whitespace().any(|name| name == one.name())).collect();
    (!controllers.is_empty() || own_leaf).then_some(Parent { folder, version: Version::Two, controllers, own_leaf })
}

/// The nearest cgroup above ours that hands controllers down and lets us move processes from ours to a new one below it.
fn above(own: &Path, top: &Path, missing: &[Controller]) -> Option<Parent> {
    own.ancestors()
        .skip(1)
        .take_while(|folder| folder.starts_with(top))
        .take_while(|folder| writable(folder) && writable(&folder.join("cgroup.procs")))
        .find_map(|folder| handed_down(folder.to_owned(), missing, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "\
        31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 /docker/1 /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn hierarchies_and_our_place_in_them() {
        let mounts = mounts(MOUNTINFO);
        let points: Vec<_> = mounts.iter().map(|mount| mount.point.to_str().unwrap()).collect();
        assert_eq!(points, ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"]);
        let own = "9:name=systemd:/x\n4:memory:/docker/1/a\n2:cpu,cpuacct:/b c\n0::/user.slice/one.scope\n";
        let folders: Vec<_> = mounts.iter().map(|mount| own_folder(mount, own).map(|folder| folder.display().to_string())).collect();
        let expected = ["cpu,cpuacct/b c", "memory/a", "", "unified/user.slice/one.scope"];
        for (folder, expected) in folders.into_iter().zip(expected) {
            if !expected.is_empty() {
                assert_eq!(folder, Some(format!("/sys/fs/cgroup/{expected}")));
            }
        }
    }

    #[test]
    fn a_place_outside_of_what_is_mounted_is_none() {
        let mounts = mounts(MOUNTINFO);
        assert_eq!(own_folder(&mounts[1], "4:memory:/docker/2\n"), None);
        assert_eq!(own_folder(&mounts[3], "0::/../above\n"), None);
        assert_eq!(own_folder(&mounts[3], "4:memory:/\n"), None);
    }

    fn fake(folder: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
    }

    #[test]
    fn the_nearest_cgroup_above_that_hands_memory_down_is_taken() {
        let top = tempfile::tempdir().unwrap();
        let (slice, own) = (top.path().join("app.slice"), top.path().join("app.slice/one.scope/inner"));
        fake(&own, &[("cgroup.procs", ""), ("cgroup.subtree_control", "")]);
        fake(own.parent().unwrap(), &[("cgroup.procs", ""), ("cgroup.subtree_control", "io\n")]);
        fake(&slice, &[("cgroup.procs", ""), ("cgroup.subtree_control", "io memory pids\n")]);
        let found = above(&own, top.path(), &Controller::ALL).unwrap();
        assert_eq!((found.folder, found.own_leaf), (slice, false));
        assert_eq!(found.controllers, [Controller::Memory, Controller::Pids]);
        assert!(above(&own, &own, &Controller::ALL).is_none());
    }

    #[test]
    fn a_cgroup_that_is_ours_alone_gets_a_leaf_for_us() {
        let top = tempfile::tempdir().unwrap();
        let mount = Mount { root: "/".into(), point: top.path().to_owned(), controllers: None };
        let own = top.path().join("mine.scope");
        fake(top.path(), &[("cgroup.controllers", "cpu memory pids\n")]);
        fake(
            &own,
            &[("cgroup.controllers", "memory pids\n"), ("cgroup.type", "domain"), ("cgroup.procs", &std::process::id().to_string())],
        );
        // A real one lists what was written.
        fake(&own, &[("cgroup.subtree_control", "")]);
        let found = unified(&mount, || Ok("0::/mine.scope\n".into()), &Controller::ALL, "undocked-1-").unwrap();
        assert_eq!((&found.folder, found.own_leaf), (&own, true));
        assert_eq!(fs::read_to_string(own.join("undocked-1-self/cgroup.procs")).unwrap(), std::process::id().to_string());
        // A plain file keeps the last of the three writes only.
        assert_eq!(fs::read_to_string(own.join("cgroup.subtree_control")).unwrap(), "+cpu");
    }
}
