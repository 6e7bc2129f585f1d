//! What of the host a sandbox holds, and the files that are made for it.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{CONSOLE, DEVICES, PlanError, Planner, Privilege, Step, TreeFlags, constant, inside, text};
use crate::sandbox::root::Root;
use crate::sandbox::{Access, MadeFile, SandboxRequest, Volume, WritableSource};

/// A host path that is mounted inside.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) flags: TreeFlags,
    /// Whose it is inside under real root.
    pub(crate) owner: Owner,
}

/// Whose a tree of the host is inside, where real root maps the sandbox to another id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// As on the host; device nodes need no owner.
    AsOnHost,
    /// Its owner is shown as the inner user, where the file system can.
    Shown,
    /// The same; and where the file system cannot, it is given to the inner user, since it is the sandbox's own.
    Given,
}

/// Which slots hold what, once the sources are opened.
pub(super) struct Contents {
    pub(super) root: Option<usize>,
    /// What is written over the root.
    pub(super) folder: Option<usize>,
    pub(super) binds: Vec<(usize, CString)>,
    pub(super) devices: Vec<(usize, CString)>,
    pub(super) volumes: Vec<(usize, CString)>,
}

impl Planner {
    pub(super) fn sources(&mut self, root: &Root, request: &SandboxRequest, privilege: Privilege) -> Result<Contents, PlanError> {
        let tree = TreeFlags { read_only: true, recursive: false, devices: false };
        let mut contents = Contents { root: None, folder: None, binds: Vec::new(), devices: Vec::new(), volumes: Vec::new() };
        match root {
            Root::Tree(path) => contents.root = Some(self.open(path, tree, Owner::Shown, privilege)?),
            Root::Writable(WritableSource::Tree { path }) => {
                contents.root = Some(self.open(path, TreeFlags { read_only: false, ..tree }, Owner::Given, privilege)?);
            }
            Root::Writable(WritableSource::Overlay { lower, folder }) => {
                contents.root = Some(self.open(lower, tree, Owner::Shown, privilege)?);
                contents.folder = Some(self.open(folder, TreeFlags { read_only: false, ..tree }, Owner::Shown, privilege)?);
            }
            Root::Assembled(assembly) => {
                for (source, target) in &assembly.binds {
                    // The machine's own files keep their owner: what only root may read stays so.
                    let slot = self.open(source, TreeFlags { recursive: true, ..tree }, Owner::AsOnHost, privilege)?;
                    contents.binds.push((slot, inside(target)?));
                }
            }
        }
        let devices = DEVICES.iter().map(|name| (Path::new("/dev").join(name), *name));
        let terminal = request.terminal.iter().filter(|_| matches!(root, Root::Writable(_))).map(|path| (path.clone(), CONSOLE));
        for (path, name) in devices.chain(terminal) {
            let slot = self.open(&path, TreeFlags { read_only: false, devices: true, ..tree }, Owner::AsOnHost, privilege)?;
            contents.devices.push((slot, constant(&format!("dev/{name}"))));
        }
        for volume in sorted_by_depth(&request.volumes) {
            let read_only = volume.access == Access::ReadOnly;
            let slot = self.open(&volume.source, TreeFlags { read_only, recursive: true, devices: false }, Owner::Shown, privilege)?;
            contents.volumes.push((slot, inside(&volume.target)?));
        }
        Ok(contents)
    }

    /// Files are made where something else will be, and shown at their places when the volumes are.
    pub(super) fn stage(&mut self, files: &[MadeFile], place: &'static CStr) -> Result<Vec<(usize, CString)>, PlanError> {
        if !files.is_empty() {
            self.steps.push(Step::StageFiles { place, options: constant("mode=700,size=8m") });
        }
        let slots = self.sources.len()..;
        let staged = slots.zip(files).map(|(slot, MadeFile { path, contents, mode })| {
            // Any name will do, as long as it is the only one.
            let name = text(format!("{slot}").as_bytes())?;
            self.steps.push(Step::StageFile { place, slot, name, contents: contents.clone(), mode: *mode });
            Ok((slot, inside(path)?))
        });
        staged.collect()
    }

    /// Real root opens sources in the parent, where it may shift their ids and pass any folder; an ordinary user's child opens them itself, since a
    /// mount of the parent's namespace cannot be cloned from another one.
    fn open(&mut self, path: &Path, flags: TreeFlags, owner: Owner, privilege: Privilege) -> Result<usize, PlanError> {
        let slot = self.sources.len();
        self.sources.push(Source { path: path.to_owned(), flags, owner });
        if !privilege.parent_opens() {
            self.steps.push(Step::Open { slot, path: text(path.as_os_str().as_bytes())?, flags });
        }
        Ok(slot)
    }
}

pub(super) fn sorted_by_depth(volumes: &[Volume]) -> Vec<&Volume> {
    let mut sorted: Vec<_> = volumes.iter().collect();
    sorted.sort_by_key(|volume| volume.target.components().count());
    sorted
}
