//! Volumes by name: folders in the cache, which are filled from the image when they are empty, as docker does it.

use std::fs;
use std::path::Path;

use rootfs_cache::rootfs::Rootfs;

use super::each;
use crate::config::RunConfig;
use crate::config::docker::{Place, RunSpec, VolumeSource};
use crate::exit_code::{ExitCode, Failure};
use crate::sandbox::links;

/// Gives volumes of the run's own a name that nobody else has.
pub(super) fn name_anonymous(spec: &mut RunSpec) -> Result<(), Failure> {
    for mount in &mut spec.mounts {
        if let VolumeSource::Anonymous(name) = &mut mount.source
            && name.is_empty()
        {
            let mut bytes = [0_u8; 32];
            getrandom::fill(&mut bytes).map_err(Failure::could_not_run)?;
            *name = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        }
    }
    Ok(())
}

/// `--volumes-from`: what the other one has, and this one has nothing else at.
pub(super) fn take_over(from: &RunSpec, read_only: bool, to: &mut RunSpec) {
    for mount in &from.mounts {
        if to.mounts.iter().all(|own| own.target != mount.target) {
            let mut mount = mount.clone();
            mount.read_only |= read_only;
            // It is not ours to remove.
            if let VolumeSource::Anonymous(name) = mount.source {
                mount.source = VolumeSource::Named(name);
            }
            to.mounts.push(mount);
        }
    }
}

/// Fills empty volumes of the cache with what the image has at their places.
pub(super) fn fill(config: &RunConfig, rootfs: &Rootfs) -> Result<(), Failure> {
    let Some(cache) = &config.images.cache else { return Ok(()) };
    let ours = cache.join("volumes");
    for volume in config.volumes.iter().filter(|volume| volume.source.starts_with(&ours)) {
        let is_empty = fs::read_dir(&volume.source).is_ok_and(|mut entries| entries.next().is_none());
        let Ok(place) = links::resolve(rootfs.path(), &volume.target) else { continue };
        if !is_empty || place.missing.is_some() {
            continue;
        }
        let from = rootfs.path().join(place.there.strip_prefix("/").unwrap_or(&place.there));
        if from.is_dir() {
            copy(&from, &volume.source)
                .map_err(|error| Failure::could_not_run(format!("cannot fill the volume at `{}`: {error}", volume.target.display())))?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, target)?;
        } else if kind.is_dir() {
            fs::create_dir(&target)?;
            copy(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Removes what is the run's own.
pub(super) fn remove_anonymous(place: &Place, spec: &RunSpec) {
    let Some(folder) = &place.volumes else { return };
    for mount in &spec.mounts {
        if let VolumeSource::Anonymous(name) = &mount.source
            && !name.is_empty()
        {
            let _ = fs::remove_dir_all(folder.join(name));
        }
    }
}

/// Whether a name is one, as docker has it; it becomes a folder's.
pub(super) fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// `docker volume create`.
pub(super) fn create(name: Option<&str>, place: &Place) -> Result<ExitCode, Failure> {
    let name = match name {
        Some(name) if is_name(name) => name.to_owned(),
        Some(name) => {
            let error = format!(
                "create {name}: \"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed"
            );
            return Err(Failure::could_not_run(error).in_front("Error response from daemon").with_code(ExitCode::FUNCTION_FAILED));
        }
        None => {
            let mut spec = RunSpec::default();
            let source = VolumeSource::Anonymous(String::new());
            spec.mounts.push(crate::config::docker::MountSpec { source, target: String::new(), read_only: false });
            name_anonymous(&mut spec)?;
            match spec.mounts.remove(0).source {
                VolumeSource::Anonymous(name) => name,
                _ => String::new(),
            }
        }
    };
    let folder = folder(place)?.join(&name).join("_data");
    fs::create_dir_all(&folder).map_err(|error| Failure::could_not_run(format!("cannot make `{}`: {error}", folder.display())))?;
    crate::mode::print(format!("{name}\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn folder(place: &Place) -> Result<&Path, Failure> {
    place.volumes.as_deref().ok_or_else(|| Failure::could_not_run("there is no place for volumes"))
}

/// The volumes there are, by name.
pub(super) fn names(place: &Place) -> Result<Vec<String>, Failure> {
    let Ok(entries) = fs::read_dir(folder(place)?) else { return Ok(Vec::new()) };
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// `docker volume rm`.
pub(super) fn remove(names: &[String], force: bool, place: &Place) -> Result<ExitCode, Failure> {
    let runs = super::records(place)?.list().map_err(super::of_daemon)?;
    each(names, |name| {
        let of_daemon = |text: String| Failure::could_not_run(text).in_front("Error response from daemon");
        let uses = |source: &VolumeSource| matches!(source, VolumeSource::Named(own) | VolumeSource::Anonymous(own) if own == name);
        if let Some(user) = runs.iter().find(|run| run.record.spec.mounts.iter().any(|mount| uses(&mount.source))) {
            return Err(of_daemon(format!("remove {name}: volume is in use - [{}]", user.record.id)));
        }
        let path = folder(place)?.join(name);
        if !is_name(name) || !path.is_dir() {
            return if force { Ok(Some(name.to_owned())) } else { Err(of_daemon(format!("get {name}: no such volume"))) };
        }
        fs::remove_dir_all(&path).map_err(|error| of_daemon(format!("remove {name}: {error}")))?;
        Ok(Some(name.to_owned()))
    })
}
