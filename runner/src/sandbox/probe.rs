//! Finds out what this machine grants, by doing: launches a sandbox that does nothing and asks of every step what became of it.

mod machine;
mod rungs;

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::launch::INIT;
use super::plan::{Lenience, Step};
use super::{
    Command, Ended, Filter, FirstProcess, HostRoot, InnerIdentity, Input, LaunchError, Launcher, Network, Output, RootSource, SandboxPlan,
    SandboxRequest, Stdio, landlock, plan,
};

pub use machine::{calls, rest};
pub use rungs::{Rung, network, rungs};

/// What became of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The step's name.
    pub step: String,
    /// What the kernel answered.
    pub verdict: Verdict,
    /// Whether functions can run without it.
    pub optional: bool,
}

/// What the kernel answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It did it, with a word on how.
    Granted(Option<String>),
    /// It refused.
    Refused(String),
    /// Not tried, since something before it was refused.
    NotTried,
}

impl Finding {
    fn new(step: impl Into<String>, verdict: Verdict, optional: bool) -> Self {
        Self { step: step.into(), verdict, optional }
    }

    /// Whether functions cannot run because of it.
    pub fn is_fatal(&self) -> bool {
        !self.optional && !matches!(self.verdict, Verdict::Granted(_))
    }
}

/// Tries every step of a launch. `filter` is the one that functions get.
pub fn findings(filter: Arc<Filter>) -> Vec<Finding> {
    let mut plan = match plan(request(filter)) {
        Ok(plan) => plan,
        Err(error) => return vec![Finding::new("plan a sandbox", Verdict::Refused(error.to_string()), false)],
    };
    plan.lenience = Lenience::Probing;
    let names = steps(&plan);
    let launched = Launcher::start().and_then(|launcher| launcher.launch(plan));
    let mut found = match launched {
        Ok(mut sandbox) => {
            let refused = &sandbox.enforcement().degradations;
            let verdict = |step: &str| {
                refused
                    .iter()
                    .find(|refusal| refusal.what == step)
                    .map_or(Verdict::Granted(None), |refusal| Verdict::Refused(refusal.why.clone()))
            };
            let mut found = vec![Finding::new(NAMESPACES, Verdict::Granted(None), false)];
            found.extend(names.iter().map(|(name, optional)| Finding::new(name.clone(), verdict(name), *optional)));
            found.push(Finding::new("run a program inside", ended(sandbox.wait()), false));
            found
        }
        Err(error) => {
            let (step, why) = explain(&error);
            let mut found = vec![Finding::new(step, Verdict::Refused(why), false)];
            found.extend(names.into_iter().map(|(name, optional)| Finding::new(name, Verdict::NotTried, optional)));
            found
        }
    };
    found.push(landlock_finding());
    found
}

/// The name of the first step, the clone itself.
const NAMESPACES: &str = "clone into new namespaces";

fn ended(ended: io::Result<Ended>) -> Verdict {
    match ended {
        Ok(PROGRAM_END) => Verdict::Granted(None),
        Ok(other) => Verdict::Refused(format!("a program ended with {other:?}")),
        Err(error) => Verdict::Refused(words(&error)),
    }
}

fn explain(error: &LaunchError) -> (String, String) {
    match error {
        LaunchError::Prepare { step, source } => ((*step).to_owned(), words(source)),
        LaunchError::Step { step, source } => (step.clone(), words(source)),
        LaunchError::Exec { source, .. } => ("run a program inside".into(), words(source)),
        other => (
            "prepare the sandbox".into(),
            std::error::Error::source(other).map_or_else(|| other.to_string(), |source| format!("{other}: {source}")),
        ),
    }
}

/// The names of the plan's steps, each once, with whether functions can do without.
fn steps(plan: &SandboxPlan) -> Vec<(String, bool)> {
    let mut names: Vec<(String, bool)> = Vec::new();
    for step in &plan.steps {
        // Landlock has a finding of its own, with its version.
        if matches!(step, Step::Execute | Step::ConfineFiles) {
            continue;
        }
        let name = step.name();
        if names.iter().all(|(known, _)| *known != name) {
            names.push((name, step.optional()));
        }
    }
    names
}

fn landlock_finding() -> Finding {
    let verdict = match landlock::ruleset(landlock::Tcp::Free) {
        Ok(Some(ruleset)) => Verdict::Granted(Some(format!("version {}", ruleset.abi))),
        Ok(None) => Verdict::Refused("neither the kernel nor what surrounds us offers it".into()),
        Err(error) => Verdict::Refused(error.to_string()),
    };
    Finding::new("confine file access (Landlock)", verdict, true)
}

/// The kernel's words, without the number that the standard library puts behind them.
fn words(error: &io::Error) -> String {
    let words = error.to_string();
    words.split_once(" (os error").map_or(words.as_str(), |(words, _)| words).to_owned()
}

/// What is run: the init, which needs no other file, and which ends so where it is not process 1.
const PROGRAM: &str = "/program";
const PROGRAM_END: Ended = Ended::Exited(127);

fn program() -> (PathBuf, Vec<u8>, u32) {
    (PROGRAM.into(), INIT.to_vec(), 0o755)
}

/// A sandbox like a function's, on this machine's own userland.
fn request(filter: Arc<Filter>) -> SandboxRequest {
    let mut root = HostRoot { files: vec![program()], ..HostRoot::default() };
    for name in ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"] {
        match std::fs::read_link(name) {
            Ok(target) => root.symlinks.push((name.into(), target)),
            Err(_) if Path::new(name).is_dir() => root.folders.push(name.into()),
            Err(_) => {}
        }
    }
    SandboxRequest {
        root: RootSource::Host(root),
        isolation: super::IsolationChoice::Only(super::Isolation::Full),
        scratch: None,
        command: Command::Line(vec![PROGRAM.into()]),
        environment: Vec::<CString>::new(),
        working_dir: "/".into(),
        volumes: Vec::new(),
        identity: InnerIdentity { uid: 993, gid: 990 },
        ids: super::IdMap::Single,
        terminal: None,
        hostname: "lambda".into(),
        tmp_size_bytes: 1 << 20,
        tmp_in_memory: None,
        files: Vec::new(),
        limits: super::Limits::default(),
        stdio: Stdio { input: Input::Null, output: Output::Inherit, error: Output::Inherit },
        network: Network::Host,
        listen_inside: None,
        first_process: FirstProcess::Init,
        filter: Some(filter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::shipped_filter;

    #[test]
    fn every_step_is_named_once_and_answered() {
        let filter = shipped_filter();
        let found = findings(filter);
        assert!(found.len() > 30, "{found:#?}");
        let mut names: Vec<_> = found.iter().map(|finding| finding.step.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), found.len(), "{found:#?}");
        if matches!(found[0].verdict, Verdict::Granted(_)) {
            assert_eq!(found.iter().filter(|finding| finding.verdict == Verdict::NotTried).count(), 0);
        } else {
            assert!(std::env::var_os("REQUIRE_USERNS").is_none(), "{found:#?}");
            eprintln!("skipped: this machine grants no user namespace");
        }
    }
}
