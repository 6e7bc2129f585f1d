//! Which isolations this machine grants, by launching one sandbox in each.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Finding, Verdict, ended, explain, program, request};
use crate::sandbox::plan::plan;
use crate::sandbox::{Filter, HostRoot, Isolation, IsolationChoice, LaunchError, Launcher, Network, RootSource, SandboxRequest};

/// What became of one isolation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rung {
    /// Which one.
    pub isolation: Isolation,
    /// Whether it can be had, or why not.
    pub verdict: Verdict,
}

/// Tries every isolation, best first. Folders for it are made below `scratch`.
pub fn rungs(filter: &Arc<Filter>, scratch: Option<PathBuf>) -> Vec<Rung> {
    let rung = |isolation| Rung { isolation, verdict: attempt(isolation, filter, scratch.clone()) };
    Isolation::ALL.into_iter().map(rung).collect()
}

/// Tries a network of the sandbox's own.
pub fn network(filter: &Arc<Filter>) -> Finding {
    let wanted = SandboxRequest { network: Network::private(), isolation: IsolationChoice::Auto, ..request(Arc::clone(filter)) };
    Finding::new("have a network of its own, with a way out", launch(wanted), true)
}

fn attempt(isolation: Isolation, filter: &Arc<Filter>, scratch: Option<PathBuf>) -> Verdict {
    let wanted = SandboxRequest { isolation: IsolationChoice::Only(isolation), scratch, ..request(Arc::clone(filter)) };
    if isolation != Isolation::Chroot {
        return launch(wanted);
    }
    // This machine's userland is not copied.
    let root = HostRoot { places: vec!["/".into()], files: vec![program()], ..HostRoot::default() };
    launch(SandboxRequest { root: RootSource::Host(root), ..wanted })
}

fn launch(wanted: SandboxRequest) -> Verdict {
    let plan = match plan(wanted) {
        Ok(plan) => plan,
        Err(error) => return Verdict::Refused(error.to_string()),
    };
    match Launcher::start().and_then(|launcher| launcher.launch(plan)) {
        Ok(mut sandbox) => ended(sandbox.wait()),
        Err(LaunchError::NoNetwork { source }) => refused(&source),
        Err(error) => refused(&error),
    }
}

fn refused(error: &LaunchError) -> Verdict {
    let (step, why) = explain(error);
    Verdict::Refused(format!("{step}: {why}"))
}
