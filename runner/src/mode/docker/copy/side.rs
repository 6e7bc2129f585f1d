//! One end of a copy: a tree below a folder of this machine's, or the root of a run. Nothing leads out of either.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, UnlinkatFlags, setfsgid, setfsuid};

use crate::exit_code::Failure;
use crate::writable::{WritableError, WritableRoot};

/// Where things are.
pub(super) enum Side {
    /// Below this folder, which is the root for all links. What is made there belongs to this user, if it is not to be ours.
    Below(OwnedFd, Option<(Uid, Gid)>, Ids),
    /// In a root that no sandbox runs in.
    Root(Box<WritableRoot>),
}

/// How ids inside are to be told by those outside: none where they are the same.
#[derive(Debug, Default)]
pub(super) struct Ids {
    users: Vec<[u32; 3]>,
    groups: Vec<[u32; 3]>,
}

impl Ids {
    /// Those of a process (user_namespaces(7)).
    fn of_process(pid: u32) -> Self {
        let map = |file: &str| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let line = |line: &str| {
                let mut numbers = line.split_whitespace().map_while(|number| number.parse().ok());
                Some([numbers.next()?, numbers.next()?, numbers.next()?])
            };
            text.lines().filter_map(line).collect()
        };
        Self { users: map("uid_map"), groups: map("gid_map") }
    }
}

/// An id of this machine's, as it is seen through a map of ranges: first inside, first outside, how many.
fn inside(map: &[[u32; 3]], id: u32) -> u32 {
    let found = map.iter().find(|[_, outside, count]| id.checked_sub(*outside).is_some_and(|at| at < *count));
    found.map_or(id, |[inside, outside, _]| inside + (id - outside))
}

/// What is at a path; a link is not followed.
#[derive(Debug)]
pub(super) enum Kind {
    File { mode: u32 },
    Folder { mode: u32 },
    Link { to: PathBuf },
    Other,
}

impl Side {
    /// This machine.
    pub(super) fn of_host() -> Result<Self, Failure> {
        Self::below(Path::new("/")).map_err(Failure::could_not_run)
    }

    pub(super) fn below(folder: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self::Below(nix::fcntl::open(folder, flags, Mode::empty())?, None, Ids::default()))
    }

    /// What a process sees. Other users than its own may own nothing there (`EOVERFLOW`, user_namespaces(7)).
    pub(super) fn of_process(pid: u32) -> io::Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let id = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
        let user = Some((id("Uid:").map(Uid::from_raw), id("Gid:").map(Gid::from_raw)));
        let user = user.and_then(|(uid, gid)| Some((uid?, gid?))).filter(|(uid, _)| Uid::effective().is_root() && !uid.is_root());
        match Self::below(Path::new(&format!("/proc/{pid}/root")))? {
            Self::Below(root, ..) => Ok(Self::Below(root, user, Ids::of_process(pid))),
            other => Ok(other),
        }
    }

    /// The path that it leads to; as it is where nothing is there.
    pub(super) fn followed(&self, path: &Path) -> io::Result<PathBuf> {
        let mut path = path.to_owned();
        for _ in 0..40 {
            let Some(Kind::Link { to }) = self.look(&path)? else { return Ok(path) };
            path = path.parent().unwrap_or(Path::new("/")).join(to);
        }
        Err(io::Error::from_raw_os_error(libc::ELOOP))
    }

    pub(super) fn look(&self, path: &Path) -> io::Result<Option<Kind>> {
        match self {
            Self::Below(root, ..) => {
                let found = match beneath(root, path, OFlag::O_PATH | OFlag::O_NOFOLLOW) {
                    Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
                    found => File::from(found?),
                };
                let metadata = found.metadata()?;
                let link = || Ok::<_, io::Error>(PathBuf::from(readlinkat(&found, "")?));
                kind(&metadata, link).map(Some)
            }
            Self::Root(root) => match root.look(path).map_err(as_io)? {
                None => Ok(None),
                Some(on_host) => kind(&on_host.symlink_metadata()?, || std::fs::read_link(&on_host)).map(Some),
            },
        }
    }

    /// When it was changed last, in seconds since 1970, and the user and group that it belongs to inside; a link is not followed.
    pub(super) fn time_and_owner(&self, path: &Path) -> io::Result<(u64, (u32, u32))> {
        let (metadata, owner) = match self {
            Self::Below(root, _, ids) => {
                let metadata = File::from(beneath(root, path, OFlag::O_PATH | OFlag::O_NOFOLLOW)?).metadata()?;
                let owner = (inside(&ids.users, metadata.uid()), inside(&ids.groups, metadata.gid()));
                (metadata, owner)
            }
            // Whoever that is outside, to a plain command it is root.
            Self::Root(root) => (root.look(path).map_err(as_io)?.ok_or(io::ErrorKind::NotFound)?.symlink_metadata()?, (0, 0)),
        };
        Ok((u64::try_from(metadata.mtime()).unwrap_or(0), owner))
    }

    pub(super) fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        match self {
            Self::Below(root, ..) => {
                let folder = beneath(root, folder, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
                let entries = std::fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd()))?;
                let mut names = entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<Vec<_>, _>>()?;
                names.sort();
                Ok(names)
            }
            Self::Root(root) => root.list(folder).map_err(as_io),
        }
    }

    pub(super) fn open(&self, path: &Path) -> io::Result<File> {
        match self {
            // A fifo must not block us.
            Self::Below(root, ..) => Ok(beneath(root, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?.into()),
            Self::Root(root) => File::open(root.find(path).map_err(as_io)?.ok_or(io::ErrorKind::NotFound)?),
        }
    }

    pub(super) fn make_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        match self {
            Self::Below(root, user, _) => {
                let Some((parent, name)) = parent(root, path)? else { return Ok(()) };
                let _user = Acting::as_user(*user);
                match nix::sys::stat::mkdirat(&parent, name.as_os_str(), Mode::from_bits_truncate(mode | 0o700)) {
                    Err(nix::errno::Errno::EEXIST) => Ok(()),
                    made => Ok(made?),
                }
            }
            Self::Root(root) => root.make_dir(path, mode).map_err(as_io),
        }
    }

    pub(super) fn put(&self, path: &Path, contents: &mut dyn Read, mode: u32) -> io::Result<()> {
        match self {
            Self::Below(root, user, _) => {
                let (parent, name) = parent(root, path)?.ok_or(io::ErrorKind::IsADirectory)?;
                // In its place, so that whoever shows it sees the new one; a link is replaced.
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
                let open = || nix::fcntl::openat(parent.as_fd(), name.as_os_str(), flags, Mode::from_bits_truncate(0o600));
                let acting = Acting::as_user(*user);
                let file = match open() {
                    Err(nix::errno::Errno::ELOOP) => {
                        nix::unistd::unlinkat(&parent, name.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
                        open()?
                    }
                    opened => opened?,
                };
                drop(acting);
                let mut file = File::from(file);
                io::copy(contents, &mut file)?;
                file.set_permissions(std::fs::Permissions::from_mode(mode & 0o7777))
            }
            Self::Root(root) => root.put(path, contents, mode).map_err(as_io),
        }
    }

    pub(super) fn put_link(&self, path: &Path, to: &Path) -> io::Result<()> {
        match self {
            Self::Below(root, user, _) => {
                let (parent, name) = parent(root, path)?.ok_or(io::ErrorKind::IsADirectory)?;
                let _user = Acting::as_user(*user);
                let _ = nix::unistd::unlinkat(&parent, name.as_os_str(), UnlinkatFlags::NoRemoveDir);
                Ok(nix::unistd::symlinkat(to, &parent, name.as_os_str())?)
            }
            Self::Root(root) => root.put_link(path, to).map_err(as_io),
        }
    }
}

/// This thread's file system user is another than ours, until this is dropped (setfsuid(2)).
struct Acting(Option<(Uid, Gid)>);

impl Acting {
    fn as_user(user: Option<(Uid, Gid)>) -> Self {
        Self(user.map(|(uid, gid)| {
            let gid = setfsgid(gid);
            (setfsuid(uid), gid)
        }))
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        if let Some((uid, gid)) = self.0 {
            setfsuid(uid);
            setfsgid(gid);
        }
    }
}

fn kind(metadata: &std::fs::Metadata, link: impl FnOnce() -> io::Result<PathBuf>) -> io::Result<Kind> {
    let mode = metadata.mode() & 0o7777;
    Ok(match metadata.file_type() {
        kind if kind.is_file() => Kind::File { mode },
        kind if kind.is_dir() => Kind::Folder { mode },
        kind if kind.is_symlink() => Kind::Link { to: link()? },
        _ => Kind::Other,
    })
}

fn beneath(root: &OwnedFd, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    Ok(openat2(root.as_fd(), path, OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve))?)
}

/// The folder that something is in, and its name there; nothing of the root itself.
fn parent(root: &OwnedFd, path: &Path) -> io::Result<Option<(OwnedFd, OsString)>> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
    Ok(Some((beneath(root, parent, OFlag::O_PATH | OFlag::O_DIRECTORY)?, name.to_owned())))
}

fn as_io(error: WritableError) -> io::Error {
    io::Error::other(crate::exit_code::chain(&error))
}
