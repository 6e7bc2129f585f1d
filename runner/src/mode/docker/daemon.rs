//! What docker's daemon says of things that fail with us as they do with it: its words, which scripts look for. Whatever else fails is told in our own.

use std::io::ErrorKind;

use crate::build::context::ContextError;
use crate::environment::connections::PublishError;
use crate::exit_code::{ExitCode, Failure};
use crate::mode::serve::ListenError;
use crate::records::Record;
use crate::sandbox::LaunchError;

/// A failure of a run's start.
pub(super) fn not_started(failure: Failure, record: &Record) -> Failure {
    let taken = match (failure.cause::<PublishError>(), failure.cause::<ListenError>()) {
        (Some(PublishError { outside, source }), _) if source.kind() == ErrorKind::AddrInUse => Some(*outside),
        (_, Some(ListenError { address, source })) if source.kind() == ErrorKind::AddrInUse => Some(*address),
        _ => None,
    };
    let program = record.command.first().map_or("", String::as_str);
    let said = match (taken, failure.cause::<LaunchError>()) {
        (Some(taken), _) => {
            // Docker shows all addresses by those of IPv4.
            let ip = if taken.ip().is_unspecified() { "0.0.0.0".to_owned() } else { taken.ip().to_string() };
            let (name, id, port) = (&record.name, &record.id, taken.port());
            format!(
                "driver failed programming external connectivity on endpoint {name} ({id}): Bind for {ip}:{port} failed: port is already allocated"
            )
        }
        (None, Some(error)) => match not_executed(error, program) {
            Some(why) => format!("failed to create task for container: failed to create shim task: OCI runtime create failed: {why}"),
            None => return failure,
        },
        (None, None) => return failure,
    };
    Failure::could_not_run(said).in_front("Error response from daemon").with_code(failure.code())
}

/// What failed with a verb of ours under docker's name (`build`, `push`, `login`): docker's exit code, and its words for a context that is not there.
pub fn as_docker_tells(failure: Failure) -> Failure {
    let code = match failure.code() {
        ExitCode::COULD_NOT_RUN | ExitCode::USAGE => ExitCode::FUNCTION_FAILED,
        code => code,
    };
    let said = match failure.cause::<ContextError>() {
        Some(ContextError::Folder { path, source }) if source.kind() == ErrorKind::NotFound => {
            format!("path \"{}\" not found", path.display())
        }
        Some(ContextError::Dockerfile { name, source }) if source.kind() == ErrorKind::NotFound => {
            // What cannot be made absolute is told as it was given.
            let path = std::path::absolute(name).unwrap_or_else(|_| name.into());
            format!("unable to evaluate symlinks in Dockerfile path: lstat {}: no such file or directory", path.display())
        }
        _ => return failure.with_code(code),
    };
    Failure::could_not_run(said).in_front("unable to prepare context").with_code(code)
}

/// Why a further command in a run could not be executed.
pub(super) fn exec_refused(error: LaunchError, command: &[String]) -> String {
    let program = command.first().map_or("", String::as_str);
    not_executed(&error, program).unwrap_or_else(|| Failure::could_not_run(error).to_string())
}

/// Nothing where it was not for the program itself.
fn not_executed(error: &LaunchError, program: &str) -> Option<String> {
    let why = match error {
        LaunchError::NoCandidate { .. } if !program.contains('/') => "executable file not found in $PATH".to_owned(),
        LaunchError::NoCandidate { .. } => format!("stat {program}: no such file or directory"),
        // It, or the interpreter that it names.
        LaunchError::Exec { source, .. } => match source.kind() {
            ErrorKind::NotFound => "no such file or directory".to_owned(),
            ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => Failure::could_not_run(std::io::Error::from(source.kind())).to_string(),
        },
        _ => return None,
    };
    Some(format!("unable to start container process: exec: \"{program}\": {why}: unknown"))
}
