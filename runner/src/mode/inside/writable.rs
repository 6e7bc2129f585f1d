//! What lies in a root that may be written to: places for volumes, names, whose ids there are, and what makes package managers work for one id.

use std::path::Path;
use std::sync::Arc;

use super::{is_free, names, read_only};
use crate::config::{RunConfig, UserNamespace};
use crate::exit_code::Failure;
use crate::sandbox::{Access, Filter, IdMap, InnerIdentity, MadeFile, SubordinateIds, Volume, build_filter, shipped_filter};
use crate::writable::{WritableError, WritableRoot};

/// Docker's size of `/dev/shm`.
pub(super) const SHARED_MEMORY_BYTES: u64 = 64 << 20;

/// Where the settings of apt are that it is told of by [`APT_VARIABLE`], if the image has it.
pub(in crate::mode) const APT_SETTINGS: &str = "/dev/apt.conf";
/// The variable by which apt finds them.
pub(in crate::mode) const APT_VARIABLE: &str = "APT_CONFIG";

/// The ids there are inside: a range where it was asked for, or an error.
fn id_map(config: &RunConfig) -> Result<IdMap, Failure> {
    if config.userns == UserNamespace::Single {
        return Ok(IdMap::Single);
    }
    SubordinateIds::of_caller().map(IdMap::Subordinate).map_err(|error| {
        let hint = error.hint();
        Failure::could_not_run(error).with_hint(hint)
    })
}

/// Makes the places, and what is shown there; answers which ids there are.
pub(super) fn show(
    root: &WritableRoot,
    config: &RunConfig,
    working_dir: &Path,
    (files, volumes): (&mut Vec<MadeFile>, &mut Vec<Volume>),
) -> Result<IdMap, Failure> {
    let ids = id_map(config)?;
    let mut show = || {
        let made = names::files(config);
        for (path, text) in made.into_iter().filter(|(path, _)| is_free(volumes, path)) {
            files.push(MadeFile { path: path.into(), contents: text.into_bytes(), mode: 0o644 });
        }
        for path in ["/etc/resolv.conf", "/etc/hosts"] {
            let is_shown = files.iter().any(|file| file.path == Path::new(path)) || !is_free(volumes, path);
            if let Ok(source) = Path::new(path).canonicalize()
                && !is_shown
            {
                volumes.push(read_only(source, path));
            }
        }
        for file in &*files {
            place(root, &file.path, false)?;
        }
        if config.tmp_in_memory.is_some() {
            place(root, Path::new("/tmp"), true)?;
        }
        let is_made_in_memory = |target: &Path| config.tmp_in_memory.is_some() && super::places::is_in_tmp(target);
        // Shallow before deep: a place in another volume is that volume's matter.
        for volume in &*volumes {
            let in_another = volumes.iter().any(|other| other.target != volume.target && volume.target.starts_with(&other.target));
            if !in_another && !is_made_in_memory(&volume.target) {
                place(root, &volume.target, volume.source.is_dir())?;
            }
        }
        if is_free(volumes, working_dir) {
            place(root, working_dir, true)?;
        }
        if ids == IdMap::Single && root.find(Path::new("/etc/apt"))?.is_some() {
            // It drops to a user of its own for downloads, and looks whether that has worked.
            let contents = b"APT::Sandbox::User \"root\";\n".to_vec();
            files.push(MadeFile { path: APT_SETTINGS.into(), contents, mode: 0o444 });
        }
        Ok(ids)
    };
    show().map_err(|error: WritableError| {
        let hint = error.hint();
        Failure::could_not_run(error).with_hint(hint)
    })
}

/// What the sandbox mounts by itself needs no place.
fn place(root: &WritableRoot, path: &Path, is_folder: bool) -> Result<(), WritableError> {
    if ["/proc", "/dev"].iter().any(|own| path.starts_with(own)) || root.find(path)?.is_some() {
        return Ok(());
    }
    if is_folder { root.make_dir(path, 0o755) } else { root.put(path, &mut std::io::empty(), 0o644) }
}

/// The shipped filter is another one for root; the user's own stays.
pub(super) fn filter(config: &RunConfig, who: InnerIdentity, ids: IdMap) -> Option<Arc<Filter>> {
    let given = config.filter.clone()?;
    if who.uid != 0 || given != shipped_filter() {
        return Some(given);
    }
    let writable = config.volumes.iter().any(|volume| volume.access == Access::ReadWrite);
    Some(build_filter(if writable { Access::ReadWrite } else { Access::ReadOnly }, ids))
}
