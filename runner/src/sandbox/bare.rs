//! Sandboxes without namespaces: a private copy of the root entered by `chroot`, or this machine's userland as it is.
//!
//! Where nothing can be mounted, folders are made in place of mounts, and what may be written to is a matter of file rights and of Landlock, whose rules
//! are made here for each path that the program may use.

use std::path::{Path, PathBuf};

use super::plan::{self, Ground, LIMITS, PlanError, Privilege, SandboxPlan, Step, text};
use super::run_folder::{RunFolder, RunFolderError};
use super::{Degradation, Isolation, Network, SandboxRequest, idmap};

mod copy;
mod in_place;

pub(super) use in_place::Translation;

/// What a sandbox without namespaces is made of, beside its plan.
#[derive(Debug)]
pub(crate) struct Bare {
    /// Holds the copied root, or files made for the run; removed after the sandbox.
    pub(super) folder: Option<RunFolder>,
    /// Where what would lie at places inside is in truth, if it is not there.
    pub(super) translation: Option<Translation>,
    /// What Landlock lets it use. What is not there needs no rule.
    pub(super) rules: Vec<Rule>,
    /// What could not be made.
    pub(super) lacks: Vec<Degradation>,
}

impl Bare {
    /// Gives the folder to who holds the sandbox, and says what could not be made.
    pub(super) fn give_away(&mut self, degradations: &mut Vec<Degradation>) -> Option<RunFolder> {
        degradations.append(&mut self.lacks);
        self.folder.take()
    }
}

/// A file or folder that may be used, with all that lies beneath it.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) path: PathBuf,
    pub(super) rights: Rights,
}

/// What may be done beneath a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rights {
    /// Reading and executing.
    Read,
    /// Reading and writing of a device.
    Device,
    /// Everything.
    All,
}

/// Why there is no root without mounts.
#[derive(Debug, thiserror::Error)]
pub enum BareError {
    /// Nobody said where it may be made.
    #[error("there is no place for it: neither a cache nor a home folder")]
    NoPlace,
    /// The folder for it.
    #[error("cannot make a folder for it")]
    Folder(#[from] RunFolderError),
    /// A part of it.
    #[error("cannot make `{}` in it", path.display())]
    Copy {
        /// The path inside.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// What root's function cannot get to, since it runs as nobody's user in root's place.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("root's function runs as a user of its own, for whom `{}` is closed{}", by.display(), what(path, by))]
pub struct ClosedPath {
    /// What it needs.
    path: PathBuf,
    /// What its owner alone may use: that, or a folder above it.
    by: PathBuf,
}

fn what(path: &Path, by: &Path) -> String {
    if path == by { String::new() } else { format!(", and so is `{}`", path.display()) }
}

impl ClosedPath {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        "put it where every user may read it, or run undocked as the user to whom it belongs".to_owned()
    }
}

/// Plans a sandbox without namespaces, and makes what it needs.
pub(super) fn plan(request: SandboxRequest, ground: Ground) -> Result<SandboxPlan, PlanError> {
    let ground = Ground { privilege: apart(ground.privilege), ..ground };
    let mut steps: Vec<Step> = plan::join_cgroups(&request.limits).into_iter().collect();
    steps.extend([Step::NewSession, Step::DieWithParent, Step::WireStdio]);
    if request.network != Network::Host {
        return Err(PlanError::NoNetwork { isolation: ground.isolation });
    }
    if let Some(volume) = request.volumes.iter().find(|volume| plan::place_in_tmp(volume, &request.volumes).is_some()) {
        return Err(PlanError::InTmp { isolation: ground.isolation, target: volume.target.clone() });
    }
    let (request, bare) = if ground.isolation == Isolation::Chroot {
        let (root, bare) = copied(&request).map_err(PlanError::Bare)?;
        steps.push(Step::ChangeRoot(text(root.as_os_str().as_encoded_bytes())?));
        (request, bare)
    } else {
        let (request, bare) = in_place::adapt(request).map_err(PlanError::Bare)?;
        if let Privilege::WithoutUserns(_) = ground.privilege {
            in_place::is_open(&request).map_err(PlanError::Closed)?;
        }
        (request, bare)
    };
    // An ordinary user's other processes count as well: its own limit of them stays.
    let shares_user = matches!(ground.privilege, Privilege::Ordinary { .. });
    let limits = LIMITS.into_iter().filter(|(resource, _)| !shares_user || *resource != libc::RLIMIT_NPROC);
    steps.extend(limits.map(|(resource, value)| Step::Limit { resource, value }));
    steps.extend(plan::backstop(&request.limits));
    steps.push(Step::Umask(0o022));
    steps.extend(plan::last_steps(&request, ground)?);
    plan::finish(steps, Vec::new(), request, ground, Some(bare))
}

/// No namespace keeps the processes of two sandboxes apart, so their ids must.
fn apart(privilege: Privilege) -> Privilege {
    match privilege {
        Privilege::WithoutUserns(ids) => Privilege::WithoutUserns(idmap::apart(ids)),
        other => other,
    }
}

/// Copies the root into a folder of its own.
fn copied(request: &SandboxRequest) -> Result<(PathBuf, Bare), BareError> {
    let folder = RunFolder::create(request.scratch.as_deref().ok_or(BareError::NoPlace)?)?;
    let root = folder.path().join("root");
    let lacks = copy::root(&request.root, &request.volumes, &request.files, &root)?;
    let below = |path: &str, rights| Rule { path: root.join(path), rights };
    let devices = plan::DEVICES.map(|name| below(&format!("dev/{name}"), Rights::Device));
    let rules = [below("", Rights::Read), below("tmp", Rights::All)].into_iter().chain(devices).collect();
    Ok((root, Bare { folder: Some(folder), translation: None, rules, lacks }))
}
