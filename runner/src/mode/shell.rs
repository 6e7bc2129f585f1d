//! A plain command in the sandbox: our standard streams are its own, and its exit code is ours.

use std::io::Write;
use std::pin::pin;
use std::rc::Rc;

use super::once::{Lacks, NotRun};
use crate::environment::connections::Connections;
use crate::exit_code::{ExitCode, Failure};
use crate::sandbox::network::Networking;
use crate::sandbox::{Ended, LaunchError, Launcher, PlanError, SandboxRequest, plan};

/// Runs the command; `stop` gives the number of a signal that ends it.
pub(super) async fn run(
    launcher: &Launcher,
    request: SandboxRequest,
    networking: Rc<Networking>,
    stop: impl Future<Output = i32>,
) -> Result<ExitCode, NotRun> {
    let mut connections = Connections::open(networking).map_err(|error| {
        let hint = error.hint();
        Failure::could_not_run(error).with_hint(Some(hint))
    })?;
    let plan = plan(request).map_err(not_planned)?;
    let mut sandbox = launcher.launch(plan).map_err(not_launched)?;
    if let Some(warning) = sandbox.enforcement().warning() {
        say(&warning);
    }
    // What is refused may be tried in another way, with other ports.
    for (outside, inside) in connections.published() {
        say(&format!("{outside} leads to port {inside} inside"));
    }
    let _serving = connections.serve_plain(&mut sandbox).map_err(Failure::could_not_run)?;
    let mut stop = pin!(stop);
    let (ended, signal) = loop {
        tokio::select! {
            ended = sandbox.ended() => break (ended, None),
            signal = &mut stop => {
                sandbox.kill();
                break (sandbox.ended().await, Some(signal));
            }
            told = connections.logged() => say(&told.to_string()),
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

/// The sandbox's error stream is ours: a write that fails is its affair as well.
pub(super) fn say(what: &str) {
    // In one piece, beside what the sandbox writes.
    let _ = std::io::stderr().write_all(format!("undocked: {what}\n").as_bytes());
}

pub(super) fn not_planned(error: PlanError) -> NotRun {
    let (hint, lacks) = match error {
        PlanError::NoNetwork { .. } => (error.hint(), Lacks::Network),
        PlanError::NotWritable { .. } => (error.hint(), Lacks::WritableRoot),
        _ => (error.hint(), Lacks::Nothing),
    };
    NotRun::new(Failure::could_not_run(error).with_hint(hint), lacks)
}

/// Docker's exit codes for a command that is not there, or is no program.
pub(super) fn not_launched(error: LaunchError) -> NotRun {
    let lacks = match error {
        LaunchError::NoNetwork { .. } => Lacks::Network,
        LaunchError::NotWritable { .. } => Lacks::WritableRoot,
        _ if error.refuses_overlay() => Lacks::Overlay,
        _ => Lacks::Nothing,
    };
    let hint = error.hint();
    let code = match &error {
        LaunchError::Exec { source, .. } if source.raw_os_error() == Some(libc::ENOENT) => ExitCode::NOT_FOUND,
        LaunchError::Exec { .. } => ExitCode::NOT_EXECUTABLE,
        LaunchError::NoCandidate { .. } => ExitCode::NOT_FOUND,
        _ => ExitCode::COULD_NOT_RUN,
    };
    NotRun::new(Failure::could_not_run(error).with_code(code).with_hint(hint), lacks)
}
