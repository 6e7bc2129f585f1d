//! Removes what belongs to a range of ids: this program once more, as root inside a user namespace with the same map.
//!
//! A process with several threads cannot enter a user namespace (setns(2)), and ours has some. So an ordinary child of our own binary, which has none yet,
//! makes one, says so, waits for the map, and removes a folder below a descriptor that it was given: no path is looked up again.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use nix::sched::{CloneFlags, unshare};

use super::SubordinateIds;
use crate::sandbox::run_folder;

/// By what first word our own binary knows what it is for; the second one is the name of what is to be removed.
pub const REMOVE: &str = "--remove-as-root-inside";

/// Removes a folder below another one, with all that is in it. Takes as long as that takes.
pub(in crate::sandbox) fn remove(parent: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let ids = SubordinateIds::of_caller().map_err(io::Error::other)?;
    if ids.mappers.is_none() {
        // Real root needs nobody's help: it was refused for another reason.
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let (mut ours, theirs) = UnixStream::pair()?;
    let parent = parent.try_clone_to_owned()?;
    let mut child = start(name, theirs, parent)?;
    let done = talk(&mut ours, &child, ids);
    // Its end of the line is gone when it has ended; ours, for one that still waits.
    drop(ours);
    let status = child.wait()?;
    done?;
    if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
}

fn start(name: &str, line: UnixStream, parent: OwnedFd) -> io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("undocked-remove").args([REMOVE, name]);
    // A group of its own: what the terminal sends to ours is not meant for it.
    command.env_clear().current_dir("/").process_group(0);
    command.stdin(Stdio::from(OwnedFd::from(line))).stdout(Stdio::from(parent)).stderr(Stdio::null()).spawn()
}

/// Waits until it has a user namespace, has the ids mapped, and lets it go on.
fn talk(line: &mut UnixStream, child: &Child, ids: SubordinateIds) -> io::Result<()> {
    let mut word = [0];
    line.read_exact(&mut word)?;
    ids.map(child.id() as libc::pid_t).map_err(io::Error::other)?;
    line.write_all(b"g")
}

/// What the child does: standard input is its line to us, standard output the folder that `name` lies in. For a process with one thread alone.
pub fn remove_as_root_inside(name: &str) -> io::Result<()> {
    if name.contains('/') || matches!(name, "" | "." | "..") {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let (input, output) = (io::stdin(), io::stdout());
    let mut line = UnixStream::from(input.as_fd().try_clone_to_owned()?);
    let parent = output.as_fd().try_clone_to_owned()?;
    unshare(CloneFlags::CLONE_NEWUSER)?;
    line.write_all(b"m")?;
    let mut word = [0];
    line.read_exact(&mut word)?;
    run_folder::remove_own(parent.as_fd(), name);
    match rustix::fs::statat(&parent, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
        Err(rustix::io::Errno::NOENT) => Ok(()),
        _ => Err(io::ErrorKind::DirectoryNotEmpty.into()),
    }
}
