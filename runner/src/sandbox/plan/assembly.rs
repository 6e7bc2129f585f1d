//! What an assembled root is made of, step by step.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{PlanError, Planner, Step, absolute, constant, inside, text};
use crate::sandbox::root::Assembly;

impl Planner {
    /// Makes what an assembled root holds; its mounts come after.
    pub(super) fn assemble(&mut self, assembly: &Assembly) -> Result<(), PlanError> {
        self.steps.push(Step::MakeRoot { options: constant("mode=755,size=16m") });
        let mut made = BTreeSet::new();
        for path in &assembly.folders {
            self.folder(&mut made, path)?;
        }
        for (path, target) in &assembly.links {
            self.parents(&mut made, path)?;
            self.steps.push(Step::MakeLink { path: inside(path)?, target: text(target.as_os_str().as_bytes())? });
        }
        for (path, contents, mode) in &assembly.files {
            self.parents(&mut made, path)?;
            self.steps.push(Step::MakeFile { path: inside(path)?, contents: contents.clone(), mode: *mode });
        }
        Ok(())
    }

    fn parents(&mut self, made: &mut BTreeSet<PathBuf>, path: &Path) -> Result<(), PlanError> {
        path.parent().map_or(Ok(()), |parent| self.folder(made, parent))
    }

    fn folder(&mut self, made: &mut BTreeSet<PathBuf>, path: &Path) -> Result<(), PlanError> {
        let mut so_far = PathBuf::new();
        for part in absolute(path)?.components().skip(1) {
            so_far.push(part);
            if made.insert(so_far.clone()) {
                self.steps.push(Step::MakeDir { path: text(so_far.as_os_str().as_bytes())?, mode: 0o755 });
            }
        }
        Ok(())
    }
}
