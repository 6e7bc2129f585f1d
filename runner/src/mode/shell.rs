//! A plain command in the sandbox: our standard streams are its own, and its exit code is ours.

use std::io::Write;

use crate::exit_code::{ExitCode, Failure};
use crate::sandbox::{Ended, LaunchError, Launcher, SandboxRequest, plan};

/// Runs the command; `stop` gives the number of a signal that ends it.
pub(super) async fn run(launcher: &Launcher, request: SandboxRequest, stop: impl Future<Output = i32>) -> Result<ExitCode, Failure> {
    let plan = plan(request).map_err(Failure::could_not_run)?;
    let mut sandbox = launcher.launch(plan).map_err(not_launched)?;
    if let Some(warning) = sandbox.enforcement().warning() {
        // Its error stream is ours: a write that fails is its affair as well.
        let _ = writeln!(std::io::stderr(), "undocked: {warning}");
    }
    let (ended, signal) = tokio::select! {
        ended = sandbox.ended() => (ended, None),
        signal = stop => {
            sandbox.kill();
            (sandbox.ended().await, Some(signal))
        }
    };
    if sandbox.killed_for_memory() {
        let _ = writeln!(std::io::stderr(), "undocked: the command was killed: it used more memory than `--memory` allows");
    }
    Ok(match (ended.map_err(Failure::could_not_run)?, signal) {
        (_, Some(signal)) => ExitCode::from_signal(signal),
        (Ended::Exited(status), None) => ExitCode::from_status(status),
        (Ended::Signaled { signal, .. }, None) => ExitCode::from_signal(signal),
    })
}

/// Docker's exit codes for a command that is not there, or is no program.
fn not_launched(error: LaunchError) -> Failure {
    let hint = error.hint();
    let code = match &error {
        LaunchError::Exec { source, .. } if source.raw_os_error() == Some(libc::ENOENT) => ExitCode::NOT_FOUND,
        LaunchError::Exec { .. } => ExitCode::NOT_EXECUTABLE,
        LaunchError::NoCandidate { .. } => ExitCode::NOT_FOUND,
        _ => ExitCode::COULD_NOT_RUN,
    };
    Failure::could_not_run(error).with_code(code).with_hint(hint)
}
