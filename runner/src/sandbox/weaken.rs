//! For tests: a plan less some of its protections, so that a test can show that an attack which is refused would otherwise succeed.

use super::plan::Step;
use super::{FirstProcess, SandboxPlan};

/// Care that the child takes within its steps, and that a test left out. Nothing is left out of a plan by [`super::plan()`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Omitted {
    /// Paths inside are looked up as anywhere else.
    pub(crate) lookups: bool,
    /// Whatever lies at `/proc` is written to.
    pub(crate) proc_check: bool,
    /// Under real root the processes are the host's root.
    pub(crate) host_id: bool,
    /// The child executes the program itself.
    pub(crate) start: bool,
    /// Processes have the numbers that they have outside.
    pub(crate) pid_namespace: bool,
}

/// No protection of the plan has this name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the plan has no protection `{0}`")]
pub struct UnknownProtection(String);

impl SandboxPlan {
    /// The same plan less some protections. **For tests alone**: what comes out holds nothing.
    ///
    /// A name is that of a step, as `undocked doctor` prints it (all steps of that name go), or one of those that are no steps of their own:
    ///
    /// - `look paths up beneath the root (openat2)`
    /// - `make sure that /proc is one (fstatfs)`
    /// - `map to an unprivileged host id` (real root)
    /// - `start the program from the init's file` (which is done without Landlock alone)
    /// - `a pid namespace of its own` (and no `/proc`, which cannot be mounted then; an init has no use)
    /// - `mount read-only`
    pub fn without(mut self, protections: &[&str]) -> Result<Self, UnknownProtection> {
        for protection in protections {
            match *protection {
                "look paths up beneath the root (openat2)" => self.omitted.lookups = true,
                "make sure that /proc is one (fstatfs)" => self.omitted.proc_check = true,
                "map to an unprivileged host id" => self.omitted.host_id = true,
                "a pid namespace of its own" => self.share_pids(),
                "start the program from the init's file" => self.omitted.start = true,
                "mount read-only" => self.mount_writable(),
                step => {
                    let before = self.steps.len();
                    self.steps.retain(|known| known.name() != step);
                    if self.steps.len() == before {
                        return Err(UnknownProtection(step.to_owned()));
                    }
                }
            }
        }
        Ok(self)
    }

    /// Whether the child may execute the program itself: then `/proc/self/exe` is undocked, which Landlock does not let it execute.
    pub(super) fn executes_directly(&self, has_landlock: bool) -> bool {
        let confined = has_landlock && self.steps.iter().any(|step| matches!(step, Step::ConfineFiles));
        confined || self.omitted.start || self.first_process == FirstProcess::Program
    }

    fn share_pids(&mut self) {
        self.omitted.pid_namespace = true;
        let of_proc =
            |step: &Step| matches!(step, Step::AttachProc(_) | Step::MaskReadOnly { .. } | Step::MaskNull { .. } | Step::MaskEmpty { .. });
        self.steps.retain(|step| !of_proc(step));
    }

    fn mount_writable(&mut self) {
        self.sources.iter_mut().for_each(|source| source.flags.read_only = false);
        for step in &mut self.steps {
            if let Step::Open { flags, .. } = step {
                flags.read_only = false;
            }
        }
        self.steps.retain(|step| !matches!(step, Step::SealRoot));
    }
}
