//! Where volumes are shown: most places are there, some are made for the run, and some cannot be.

use std::path::Path;

use super::Userland;
use crate::exit_code::Failure;
use crate::sandbox::{HostRoot, Volume};

/// Refuses volumes for which no place can be: the folders of others are not changed, and what the sandbox mounts by itself holds nothing yet.
pub(super) fn check(volumes: &[Volume], userland: &Userland<'_>) -> Result<(), Failure> {
    for volume in volumes {
        let is_of_function = ["/var/task", "/opt"].iter().any(|place| volume.target == Path::new(place));
        if is_of_function && !volume.source.is_dir() {
            let hint = format!("give the folder that it lies in, or show it at `{}/NAME`", volume.target.display());
            let error = format!("`{}` is no folder, and `{}` is one", volume.source.display(), volume.target.display());
            return Err(Failure::could_not_run(error).with_hint(Some(hint)));
        }
        match deepest_around(volume, volumes) {
            Some(around) => in_volume(&volume.target, around)?,
            None if userland.has(&volume.target) => {}
            None => userland.may_have(&volume.target)?,
        }
    }
    Ok(())
}

/// This machine's userland with places for volumes.
pub(super) fn on_host(root: HostRoot, volumes: &[Volume]) -> HostRoot {
    let userland = Userland::Host(root);
    let is_missing = |volume: &&Volume| deepest_around(volume, volumes).is_none() && !userland.has(&volume.target);
    let (folders, files): (Vec<_>, Vec<_>) = volumes.iter().filter(is_missing).partition(|volume| volume.source.is_dir());
    let folders: Vec<_> = folders.into_iter().map(|volume| volume.target.clone()).collect();
    let files: Vec<_> = files.into_iter().map(|volume| (volume.target.clone(), Vec::new(), 0o444)).collect();
    let Userland::Host(mut root) = userland else { unreachable!("it was made above") };
    root.places.extend(folders);
    root.files.extend(files);
    root
}

fn deepest_around<'a>(volume: &Volume, volumes: &'a [Volume]) -> Option<&'a Volume> {
    let around = volumes.iter().filter(|other| other.target != volume.target && volume.target.starts_with(&other.target));
    around.max_by_key(|other| other.target.components().count())
}

fn in_volume(target: &Path, around: &Volume) -> Result<(), Failure> {
    let place = around.source.join(target.strip_prefix(&around.target).unwrap_or(target));
    if place.exists() {
        return Ok(());
    }
    let hint = format!("docker would make it in your folder; if that is meant: `mkdir -p {}`", place.display());
    Err(Failure::could_not_run(format!("there is no `{}` to show a volume at", target.display())).with_hint(Some(hint)))
}

impl Userland<'_> {
    fn has(&self, path: &Path) -> bool {
        match self {
            // Places are made there as docker makes them.
            Self::Writable(..) => true,
            Self::Image(_, image) => path.strip_prefix("/").is_ok_and(|path| image.holds(path)),
            Self::Host(root) => {
                let made = ["/var/task", "/opt", "/etc", "/tmp"].map(Path::new);
                let shown = root.folders.iter().any(|folder| path.starts_with(folder)) && path.exists();
                shown || made.contains(&path) || root.files.iter().any(|(file, _, _)| file == path)
            }
        }
    }

    /// Places can be made in what is assembled for the run, not in what is mounted there.
    fn may_have(&self, path: &Path) -> Result<(), Failure> {
        let mounted = ["/tmp", "/proc", "/dev"].map(Path::new);
        let of_machine = match self {
            Self::Host(root) => root.folders.as_slice(),
            Self::Image(..) | Self::Writable(..) => &[],
        };
        let mut all = mounted.into_iter().chain(of_machine.iter().map(|folder| folder.as_path()));
        match all.find(|folder| path.starts_with(folder)) {
            None => Ok(()),
            Some(folder) => {
                let error = format!("no volume can be shown at `{}`: it would have to be made in `{}`", path.display(), folder.display());
                Err(Failure::could_not_run(error).with_hint(Some("any place outside of it will do".to_owned())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::Access;

    fn volume(source: &Path, target: &str) -> Volume {
        Volume { source: source.to_owned(), target: target.into(), access: Access::ReadWrite }
    }

    fn host() -> HostRoot {
        HostRoot { folders: vec!["/usr".into()], ..HostRoot::default() }
    }

    #[test]
    fn places_on_the_host() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("inner")).unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let check = |target| {
            let volumes = [volume(folder.path(), "/app"), volume(folder.path(), target)];
            check(&volumes, &Userland::Host(host())).map_err(|failure| failure.to_string())
        };
        for target in ["/var/task", "/opt", "/data/deep", "/usr/bin", "/app/inner", "/tmp"] {
            assert_eq!(check(target), Ok(()), "{target}");
        }
        for target in ["/usr/none/such", "/tmp/x", "/app/none", "/dev/x"] {
            assert!(check(target).is_err(), "{target}");
        }
        let volumes = [volume(folder.path(), "/data"), volume(&folder.path().join("file"), "/etc/x"), volume(folder.path(), "/var/task")];
        let root = on_host(host(), &volumes);
        assert_eq!(root.places, [Path::new("/data")]);
        assert_eq!(root.files, [("/etc/x".into(), Vec::new(), 0o444)]);
    }
}
