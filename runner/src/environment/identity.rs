//! Who the processes are inside: Lambda's `sbx_user1051`, as the image's own user database has it, or added to it.
//!
//! The image's files are read through a handle of its root, so that no link in them leads out of it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;

use crate::sandbox::InnerIdentity;

/// The user functions run as on Lambda.
const USER: &str = "sbx_user1051";
/// Its ids on Lambda today.
const IDENTITY: InnerIdentity = InnerIdentity { uid: 993, gid: 990 };

/// The kernel's id for what has none inside (user_namespaces(7)), and the first that is nobody's own.
const NOBODY: u32 = 65534;

/// An unpacked image's root, for looking into it without leaving it.
#[derive(Debug)]
pub struct ImageRoot(OwnedFd);

/// Who the processes are inside, and what must be shown for their name to be found.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    /// The ids.
    pub ids: InnerIdentity,
    /// The contents of `/etc/passwd` and `/etc/group`, where the image's own lack the user.
    pub databases: Option<[Vec<u8>; 2]>,
}

/// The ids in this machine's own userland, whose user database is made for the run.
pub const HOST_IDENTITY: InnerIdentity = IDENTITY;

impl ImageRoot {
    /// Opens the folder that becomes `/`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self(nix::fcntl::open(path, flags, Mode::empty())?))
    }

    /// Whether there is something at a path inside, links followed as inside.
    pub fn holds(&self, path: impl AsRef<Path>) -> bool {
        self.look(path.as_ref(), OFlag::O_PATH).is_ok()
    }

    /// The names of the regular files in a folder inside, links to such followed as inside; none if there is no such folder.
    pub fn files(&self, path: &str) -> Vec<String> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NONBLOCK;
        let Ok(mut folder) = self.look(Path::new(path), flags).and_then(nix::dir::Dir::from_fd) else { return Vec::new() };
        let names: Vec<_> = folder.iter().flatten().filter_map(|entry| Some(entry.file_name().to_str().ok()?.to_owned())).collect();
        let is_file = |name: &String| {
            let found = self.look(&Path::new(path).join(name), OFlag::O_PATH).map(File::from);
            found.is_ok_and(|file| file.metadata().is_ok_and(|metadata| metadata.is_file()))
        };
        names.into_iter().filter(is_file).collect()
    }

    /// The contents of a regular file inside; none if there is no such file.
    fn read(&self, path: &str) -> Vec<u8> {
        /// No user database is larger.
        const LIMIT_BYTES: u64 = 1 << 20;
        // A fifo must not block us.
        let Ok(file) = self.look(Path::new(path), OFlag::O_RDONLY | OFlag::O_NONBLOCK).map(File::from) else {
            return Vec::new();
        };
        let mut contents = Vec::new();
        let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
        if !is_file || file.take(LIMIT_BYTES).read_to_end(&mut contents).is_err() {
            return Vec::new();
        }
        contents
    }

    fn look(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(self.0.as_fd(), path, how)
    }

    /// Who the processes are inside this image.
    pub fn identity(&self) -> Identity {
        identity(self.read("etc/passwd"), || self.read("etc/group"))
    }

    /// This machine's name resolution, shown in an image as docker does it on the host's network, where the image has a place for it.
    pub fn name_resolution(&self) -> Vec<(PathBuf, &'static str)> {
        let files = ["/etc/resolv.conf", "/etc/hosts"].into_iter();
        files.filter(|path| self.holds(path)).filter_map(|path| Some((Path::new(path).canonicalize().ok()?, path))).collect()
    }
}

fn identity(passwd: Vec<u8>, group: impl FnOnce() -> Vec<u8>) -> Identity {
    if let Some(ids) = ids_of_user(&passwd) {
        return Identity { ids, databases: None };
    }
    // First, since the first line with the ids gives their name.
    let passwd = [format!("{USER}:x:{}:{}::/home/{USER}:/sbin/nologin\n", IDENTITY.uid, IDENTITY.gid).into_bytes(), passwd].concat();
    let group = [format!("{USER}:x:{}:\n", IDENTITY.gid).into_bytes(), group()].concat();
    Identity { ids: IDENTITY, databases: Some([passwd, group]) }
}

/// The ids of `sbx_user1051`, unless they are root's or no ids at all: the sandbox has no root.
fn ids_of_user(passwd: &[u8]) -> Option<InnerIdentity> {
    let lines = passwd.split(|&byte| byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    lines
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find_map(|fields| match fields[..] {
            [USER, _, uid, gid, ..] => Some(InnerIdentity { uid: uid.parse().ok()?, gid: gid.parse().ok()? }),
            _ => None,
        })
        .filter(|ids| (1..NOBODY).contains(&ids.uid) && (1..NOBODY).contains(&ids.gid))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_images_own_user_counts() {
        for (passwd, ids) in [
            ("root:x:0:0:root:/root:/bin/bash\nsbx_user1051:x:496:495::/home/sbx_user1051:/sbin/nologin\n", Some((496, 495))),
            ("sbx_user1051:x:993:990", Some((993, 990))),
            ("root:x:0:0::/:/bin/sh\n", None),
            ("", None),
            ("sbx_user1051:x:0:0::/:/bin/sh\n", None),
            ("sbx_user1051:x:4294967295:1::/:/bin/sh\n", None),
            ("sbx_user1051:x:-1:1::/:/bin/sh\nxsbx_user1051:x:5:5\n", None),
        ] {
            let found = identity(passwd.into(), Vec::new);
            let (uid, gid) = ids.unwrap_or((993, 990));
            assert_eq!(found.ids, InnerIdentity { uid, gid }, "{passwd:?}");
            assert_eq!(found.databases.is_some(), ids.is_none(), "{passwd:?}");
        }
        let [passwd, group] = identity(b"root:x:0:0::/:/bin/sh\n".to_vec(), || b"root:x:0:\n".to_vec()).databases.unwrap();
        assert_eq!(passwd, b"sbx_user1051:x:993:990::/home/sbx_user1051:/sbin/nologin\nroot:x:0:0::/:/bin/sh\n");
        assert_eq!(group, b"sbx_user1051:x:990:\nroot:x:0:\n");
    }

    #[test]
    fn links_do_not_lead_out_of_the_image() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("etc")).unwrap();
        symlink("/etc/passwd", root.path().join("etc/group")).unwrap();
        symlink("/../../etc/shadow", root.path().join("etc/passwd")).unwrap();
        symlink("/run/resolv.conf", root.path().join("etc/resolv.conf")).unwrap();
        std::fs::write(root.path().join("etc/hosts"), "").unwrap();
        let image = ImageRoot::open(root.path()).unwrap();
        assert_eq!(image.read("etc/passwd"), b"");
        assert!(image.holds("etc") && !image.holds("etc/passwd") && !image.holds("usr"));
        let places: Vec<_> = image.name_resolution().into_iter().map(|(_, place)| place).collect();
        assert_eq!(places, ["/etc/hosts"]);
        std::fs::create_dir(root.path().join("etc/shadow")).unwrap();
        assert_eq!(image.read("etc/passwd"), b"");
    }
}
