//! What came of a launch: read from the child's record, and told by name.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::landlock::Ruleset;
use super::maps::Maps;
use super::orders::Record;
use super::plan::{Candidate, SandboxPlan, Step};
use super::subids::IdMap;
use super::{Degradation, Enforcement, Isolation, LaunchError, Protection, isolation};

/// Why a launch failed, and whether one of a lower isolation may do.
pub(super) struct Refusal {
    pub(super) error: LaunchError,
    pub(super) lower_may_do: bool,
}

impl From<LaunchError> for Refusal {
    fn from(error: LaunchError) -> Self {
        Self { error, lower_may_do: false }
    }
}

impl Refusal {
    pub(super) fn of_supervision(source: io::Error) -> Self {
        Self { error: prepare("copy a socket of the sandbox (pidfd_getfd)")(source), lower_may_do: true }
    }

    /// A file or folder that the parent could not open for mounting.
    pub(super) fn of_source(path: PathBuf, source: io::Error) -> Self {
        let lower_may_do = source.raw_os_error().is_some_and(isolation::is_refusal);
        Self { error: LaunchError::Source { path, source }, lower_may_do }
    }

    pub(super) fn of_clone(source: io::Error) -> Self {
        let lower_may_do = source.raw_os_error().is_some_and(isolation::is_refusal);
        Self { error: prepare("clone into new namespaces")(source), lower_may_do }
    }
}

/// Names what failed outside the sandbox.
pub(super) fn prepare(step: &'static str) -> impl FnOnce(io::Error) -> LaunchError {
    move |source| LaunchError::Prepare { step, source }
}

/// Reads the child's record: why it did not execute its program.
pub(super) fn failure(plan: &SandboxPlan, record: &Record, maps: Option<&Maps>) -> Result<(), Refusal> {
    let errno = record.errno.load(Ordering::Acquire);
    if errno == 0 {
        return Ok(());
    }
    let source = io::Error::from_raw_os_error(errno);
    let Some(step) = plan.steps.get(record.step.load(Ordering::Relaxed) as usize) else {
        return Err(LaunchError::Prepare { step: "read the child's record", source }.into());
    };
    // A range is not done without.
    let is_range = matches!((step, plan.ids), (Step::AwaitMaps, IdMap::Subordinate(_)));
    let lower_may_do = step.is_of_isolation() && isolation::is_refusal(errno) && !is_range;
    let error = match step {
        Step::Execute => exec_failure(plan, record, source),
        Step::Open { slot, .. } => {
            LaunchError::Source { path: plan.sources.get(*slot).map_or_else(PathBuf::new, |source| source.path.clone()), source }
        }
        Step::ChangeDirectory(_) => LaunchError::WorkingDir { path: plan.working_dir.clone(), source },
        Step::AwaitMaps => {
            let step = if plan.ids == IdMap::Single { "write the id maps" } else { "map a range of subordinate ids" };
            LaunchError::Step { step: step.into(), source: maps.and_then(|maps| maps.refused.try_recv().ok()).unwrap_or(source) }
        }
        step => LaunchError::Step { step: step.name(), source },
    };
    Err(Refusal { error, lower_may_do })
}

fn exec_failure(plan: &SandboxPlan, record: &Record, source: io::Error) -> LaunchError {
    let path = |program: &Candidate| program.path.to_string_lossy().into_owned();
    match plan.programs.get(record.program.load(Ordering::Relaxed) as usize) {
        Some(program) => LaunchError::Exec { path: path(program), source },
        None => LaunchError::NoCandidate { tried: plan.programs.iter().map(path).collect() },
    }
}

/// The isolation that was reached; adds the optional steps that were refused, by name.
pub(super) fn reached(plan: &SandboxPlan, record: &Record, degradations: &mut Vec<Degradation>) -> Isolation {
    let mut isolation = plan.isolation;
    for (step, errno) in record.refusals() {
        let Some(step) = plan.steps.get(step) else { continue };
        if let Some(lower) = step.isolation_without() {
            isolation = isolation.max(lower);
        }
        let what = match step {
            Step::SuperviseNetwork { .. } => format!("{}, so it is as `--network none`", step.name()),
            step => step.name(),
        };
        degradations.push(Degradation::new(what, &io::Error::from_raw_os_error(errno)));
    }
    isolation
}

/// What stands around the sandbox.
pub(super) fn enforcement(
    isolation: Isolation,
    plan: &SandboxPlan,
    ruleset: Option<&Ruleset>,
    mut degradations: Vec<Degradation>,
) -> Enforcement {
    let mut protections = if isolation.has_namespaces() { vec![Protection::Namespaces] } else { Vec::new() };
    match ruleset {
        Some(ruleset) => protections.push(Protection::Landlock { abi: ruleset.abi }),
        None => degradations.push(Degradation {
            what: "confine file access (Landlock)".into(),
            why: "neither the kernel nor what surrounds us offers it".into(),
        }),
    }
    match plan.filter {
        Some(_) => protections.push(Protection::Seccomp),
        None => degradations.push(Degradation { what: "filter system calls (seccomp)".into(), why: "switched off".into() }),
    }
    Enforcement { isolation, protections, degradations }
}
