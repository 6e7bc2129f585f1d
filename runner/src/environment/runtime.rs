//! What a program that could not be started says of the function.

use std::io;

use crate::lambda::PlatformError;
use crate::sandbox::LaunchError;

/// Docker-lambda and AWS look here, too, and name only the function's own places when there is nothing.
const IMAGE_BOOTSTRAP: &str = "/var/runtime/bootstrap";

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
