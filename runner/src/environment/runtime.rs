//! One runtime process in its sandbox, as the environment's task waits for it.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

use super::connections::Serving;
use super::logs::Logs;
use crate::lambda::{PlatformError, RuntimeEnd};
use crate::sandbox::{Ended, LaunchError, Sandbox};

/// Docker-lambda and AWS look here, too, and name only the function's own places when there is nothing.
const IMAGE_BOOTSTRAP: &str = "/var/runtime/bootstrap";

/// A sandbox with a runtime in it.
#[derive(Debug)]
pub(super) struct RuntimeProcess {
    /// Its output.
    pub(super) logs: Logs,
    sandbox: Sandbox,
    /// The sandbox's end, registered once for all waits.
    end: AsyncFd<OwnedFd>,
    /// What it is connected by, for as long as it runs.
    serving: Serving,
}

impl RuntimeProcess {
    pub(super) fn new(mut sandbox: Sandbox, serving: Serving) -> io::Result<Self> {
        let logs = Logs::new(sandbox.stdout.take(), sandbox.stderr.take())?;
        let end = sandbox.watch_end()?;
        Ok(Self { logs, sandbox, end, serving })
    }

    /// Waits until the process has ended. May be dropped and called anew at any time.
    pub(super) async fn has_ended(&self) {
        // An error shows again when reaping.
        drop(self.end.readable().await);
    }

    /// Reaps the process, with everything in the sandbox, and says how it ended. Waits if it has not.
    pub(super) async fn reap(&mut self) -> io::Result<RuntimeEnd> {
        Ok(match self.sandbox.ended().await? {
            _ if self.sandbox.killed_for_memory() => RuntimeEnd::OutOfMemory,
            Ended::Exited(status) => RuntimeEnd::Exited(status),
            Ended::Signaled { signal, core_dumped } => RuntimeEnd::Signaled { signal, core_dumped },
        })
    }

    /// Kills everything in the sandbox; [`RuntimeProcess::reap`] follows.
    pub(super) fn kill(&mut self) {
        self.sandbox.kill();
        self.serving.end();
    }

    /// The most memory seen in use until now.
    pub(super) fn peak_memory_bytes(&mut self) -> u64 {
        self.sandbox.peak_memory_bytes()
    }
}

/// The function's part in a launch that failed. `Err` if it has none: then the run could not be done.
pub(super) fn function_fault(error: LaunchError) -> Result<PlatformError, LaunchError> {
    match error {
        LaunchError::NoCandidate { mut tried } => {
            if tried.len() > 1 {
                tried.retain(|path| path != IMAGE_BOOTSTRAP);
            }
            Ok(PlatformError::NoBootstrap { tried })
        }
        LaunchError::Exec { path, source } => Ok(PlatformError::NotExecuted { path, reason: reason(&source) }),
        LaunchError::WorkingDir { path, source } => {
            Ok(PlatformError::NoWorkingDir { path: path.display().to_string(), reason: reason(&source) })
        }
        other => Err(other),
    }
}

/// The kernel's reason in Go's words, which are the C library's without the capital.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn reasons_are_gos() {
        for (errno, words) in [
            (Errno::ENOENT, "no such file or directory"),
            (Errno::EACCES, "permission denied"),
            (Errno::ENOEXEC, "exec format error"),
            (Errno::ELOOP, "too many levels of symbolic links"),
            (Errno::E2BIG, "argument list too long"),
        ] {
            assert_eq!(reason(&io::Error::from_raw_os_error(errno as i32)), words);
        }
    }

    #[test]
    fn faults_of_the_function_and_others() {
        let tried = |paths: &[&str]| paths.iter().map(|&path| path.to_owned()).collect::<Vec<_>>();
        for (looked_at, named) in [
            (
                tried(&["/var/runtime/bootstrap", "/var/task/bootstrap", "/opt/bootstrap"]),
                tried(&["/var/task/bootstrap", "/opt/bootstrap"]),
            ),
            (tried(&["/my/bootstrap", "/var/task/bootstrap"]), tried(&["/my/bootstrap", "/var/task/bootstrap"])),
            (tried(&["/var/runtime/bootstrap"]), tried(&["/var/runtime/bootstrap"])),
        ] {
            let fault = function_fault(LaunchError::NoCandidate { tried: looked_at }).unwrap();
            assert_eq!(fault, PlatformError::NoBootstrap { tried: named });
        }
        let exec = LaunchError::Exec { path: "/var/task/bootstrap".to_owned(), source: io::Error::from_raw_os_error(Errno::EACCES as i32) };
        let reason = "permission denied".to_owned();
        assert_eq!(function_fault(exec).unwrap(), PlatformError::NotExecuted { path: "/var/task/bootstrap".to_owned(), reason });
        let step = LaunchError::Prepare { step: "clone", source: io::Error::from_raw_os_error(Errno::EPERM as i32) };
        assert!(function_fault(step).is_err());
    }
}
