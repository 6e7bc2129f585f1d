//! What of a sandbox is in memory: `/tmp` and `/dev/shm`, and the places in that `/tmp` for volumes.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::contents::sorted_by_depth;
use super::{Handed, PlanError, Planner, Privilege, Step, constant, text};
use crate::sandbox::{RootSource, SandboxRequest, TmpSize, Volume};

impl Planner {
    /// The file systems themselves. Where the root may be written to, `/tmp` is a folder of it unless something else was asked for.
    pub(super) fn in_memory(
        &mut self,
        request: &SandboxRequest,
        volumes: &[(usize, CString)],
        privilege: Privilege,
    ) -> Result<(), PlanError> {
        let sized = |bytes| format!("mode=1777,size={bytes}");
        let mut attach =
            |target, options: &str| self.steps.push(Step::AttachTmpfs { target: constant(target), options: constant(options) });
        if !matches!(request.root, RootSource::Writable(_)) {
            attach("tmp", &sized(request.tmp_size_bytes));
            return self.places_in_tmp(request, volumes, privilege);
        }
        attach("dev/shm", &sized(request.tmp_size_bytes));
        match request.tmp_in_memory {
            None => return Ok(()),
            Some(TmpSize::Bytes(bytes)) => attach("tmp", &sized(bytes)),
            Some(TmpSize::HalfOfMemory) => attach("tmp", "mode=1777"),
        }
        self.places_in_tmp(request, volumes, privilege)
    }

    /// While nothing but the sandbox's own empty file system lies at `/tmp`.
    fn places_in_tmp(&mut self, request: &SandboxRequest, volumes: &[(usize, CString)], privilege: Privilege) -> Result<(), PlanError> {
        // What is set up as root is given to whom the program will be.
        let owner = if let Privilege::WithoutUserns(ids) = privilege { Some(ids) } else { None };
        for (volume, (slot, _)) in sorted_by_depth(&request.volumes).into_iter().zip(volumes) {
            if let Some(below) = place_in_tmp(volume, &request.volumes) {
                let names = below.iter().map(|name| text(name.as_bytes())).collect::<Result<_, _>>()?;
                self.steps.push(Step::MakePlace { slot: *slot, names, owner });
            }
        }
        Ok(())
    }

    /// For the watcher. Only a `/tmp` of the sandbox's own is its memory, not a folder of the host that is shown there.
    pub(super) fn watch(&mut self, request: &SandboxRequest) {
        if request.limits.memory_bytes.is_none() {
            return;
        }
        let open = |handed, path, flags| Step::OpenForWatch { handed, path: constant(path), flags };
        self.steps.push(open(Handed::Proc, "proc", libc::O_PATH | libc::O_DIRECTORY));
        self.steps.push(open(Handed::Segments, "proc/sysvipc/shm", libc::O_RDONLY));
        let writable = matches!(request.root, RootSource::Writable(_));
        let tmp = (!writable || request.tmp_in_memory.is_some()).then_some((Handed::Tmp, "tmp"));
        let in_memory = tmp.into_iter().chain(writable.then_some((Handed::SharedMemory, "dev/shm")));
        for (handed, place) in in_memory {
            if request.volumes.iter().all(|volume| volume.target != Path::new("/").join(place)) {
                self.steps.push(open(handed, place, libc::O_PATH | libc::O_DIRECTORY));
            }
        }
    }
}

/// The way from `/tmp` to a volume below it, unless that lies in another volume.
pub(in crate::sandbox) fn place_in_tmp<'a>(volume: &'a Volume, volumes: &[Volume]) -> Option<&'a Path> {
    let below = volume.target.strip_prefix("/tmp").ok().filter(|below| !below.as_os_str().is_empty())?;
    let in_another = volumes.iter().any(|other| other.target != volume.target && volume.target.starts_with(&other.target));
    (!in_another).then_some(below)
}
