//! Shadow's programs that map ranges for ordinary users (newuidmap(1), newgidmap(1)).
//!
//! They gain rights by a set-uid bit or file capabilities, so they are run outside, before anything has set no_new_privs, and only when a range was asked for.
//! They are looked for where distributions install them, not in `PATH`.

use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{Access, access};

use super::SubordinateIdsError;
use crate::sandbox::{process, sys};

/// For user ids and for group ids.
const NAMES: [&str; 2] = ["newuidmap", "newgidmap"];

/// Where both are: first where systems keep programs with a set-uid bit apart (NixOS, Guix).
const PLACES: [[&str; 2]; 5] = [
    ["/run/wrappers/bin/newuidmap", "/run/wrappers/bin/newgidmap"],
    ["/run/privileged/bin/newuidmap", "/run/privileged/bin/newgidmap"],
    ["/usr/bin/newuidmap", "/usr/bin/newgidmap"],
    ["/bin/newuidmap", "/bin/newgidmap"],
    ["/usr/local/bin/newuidmap", "/usr/local/bin/newgidmap"],
];

/// How long one may take: where users come from a directory service, it asks that.
const PATIENCE: Duration = Duration::from_secs(30);

/// The two programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::sandbox) struct Mappers([&'static str; 2]);

impl Mappers {
    /// Those of this machine.
    pub(super) fn find() -> Result<Self, SubordinateIdsError> {
        // Root of an outer user namespace has the rights already.
        if !nix::unistd::geteuid().is_root() && rustix::thread::no_new_privs().unwrap_or(false) {
            return Err(SubordinateIdsError::NoNewPrivileges);
        }
        let is_there = |program: &str| access(program, Access::EXEC_OK).is_ok();
        if let Some(found) = PLACES.into_iter().find(|[uids, gids]| is_there(uids) && is_there(gids)) {
            return Ok(Self(found));
        }
        let [uids, gids] = NAMES;
        let has_first = PLACES.iter().any(|[first, _]| is_there(first));
        Err(SubordinateIdsError::NoMapper { name: if has_first { gids } else { uids } })
    }

    /// Their paths.
    pub(super) fn programs(self) -> [&'static str; 2] {
        self.0
    }

    /// Maps the ids of a process, each map as (inside, outside, count).
    pub(super) fn map(self, pid: libc::pid_t, maps: &[[(u32, u32, u32); 2]; 2]) -> Result<(), SubordinateIdsError> {
        for (program, map) in self.0.into_iter().zip(maps) {
            run(program, pid, map).map_err(|source| SubordinateIdsError::Mapper { program, source })?;
        }
        Ok(())
    }
}

/// What it says on standard error is the reason where it fails.
fn run(program: &str, pid: libc::pid_t, map: &[(u32, u32, u32)]) -> io::Result<()> {
    let mut command = Command::new(program);
    let name = program.rsplit('/').next().unwrap_or(program);
    command.arg0(name).arg(pid.to_string());
    for (inside, outside, count) in map {
        command.args([inside, outside, count].map(u32::to_string));
    }
    command.env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let in_time = sys::pidfd_open(child.id() as libc::pid_t).map(|pidfd| process::ends_within(pidfd.as_fd(), PATIENCE));
    if !matches!(in_time, Ok(true)) {
        // It has root's rights: if that is refused, nobody waits for it either.
        let _ = child.kill();
        return Err(in_time.err().unwrap_or_else(|| io::ErrorKind::TimedOut.into()));
    }
    let status = child.wait()?;
    if status.success() {
        return Ok(());
    }
    let mut said = Vec::new();
    if let Some(errors) = child.stderr.take() {
        // Nobody reads more of it.
        errors.take(1000).read_to_end(&mut said)?;
    }
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().map(str::trim).find(|line| !line.is_empty());
    let words = line.map(|line| line.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(line));
    Err(io::Error::other(words.map_or_else(|| status.to_string(), str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_is_the_reason() {
        // It takes a number, which is no option of these.
        assert!(run("/bin/true", 7, &[(0, 1, 1)]).is_ok());
        let error = run("/bin/false", 7, &[]).unwrap_err();
        assert!(error.to_string().contains("exit status: 1"), "{error}");
        let error = run("/bin/cat", 7, &[(0, 1000, 1)]).unwrap_err();
        assert_eq!(error.to_string(), "7: No such file or directory");
        assert_eq!(run("/no/such/program", 7, &[]).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
