//! Where volumes are shown: most places are there, some are made for the run, and some cannot be.

use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{Mode, mkdirat};

use super::Userland;
use crate::exit_code::Failure;
use crate::sandbox::{Access, HostRoot, Volume};

/// Makes places in other volumes, and refuses volumes for which no place can be.
pub(super) fn check(volumes: &[Volume], userland: &Userland<'_>) -> Result<(), Failure> {
    for volume in volumes {
        let is_of_function = ["/var/task", "/opt"].iter().any(|place| volume.target == Path::new(place));
        if is_of_function && !volume.source.is_dir() {
            let hint = format!("give the folder that it lies in, or show it at `{}/NAME`", volume.target.display());
            let error = format!("`{}` is no folder, and `{}` is one", volume.source.display(), volume.target.display());
            return Err(Failure::could_not_run(error).with_hint(Some(hint)));
        }
        match deepest_around(volume, volumes) {
            Some(around) => in_volume(volume, around)?,
            None if is_in_tmp(&volume.target) || userland.has(&volume.target) => {}
            None => userland.may_have(&volume.target)?,
        }
    }
    Ok(())
}

/// This machine's userland with places for volumes.
pub(super) fn on_host(root: HostRoot, volumes: &[Volume]) -> HostRoot {
    let userland = Userland::Host(root);
    let is_missing =
        |volume: &&Volume| deepest_around(volume, volumes).is_none() && !userland.has(&volume.target) && !is_in_tmp(&volume.target);
    let (folders, files): (Vec<_>, Vec<_>) = volumes.iter().filter(is_missing).partition(|volume| volume.source.is_dir());
    let folders: Vec<_> = folders.into_iter().map(|volume| volume.target.clone()).collect();
    let files: Vec<_> = files.into_iter().map(|volume| (volume.target.clone(), Vec::new(), 0o444)).collect();
    let Userland::Host(mut root) = userland else { unreachable!("it was made above") };
    root.places.extend(folders);
    root.files.extend(files);
    root
}

/// The sandbox makes it, in a `/tmp` of its own.
pub(super) fn is_in_tmp(target: &Path) -> bool {
    target.starts_with("/tmp") && target != Path::new("/tmp")
}

fn deepest_around<'a>(volume: &Volume, volumes: &'a [Volume]) -> Option<&'a Volume> {
    let around = volumes.iter().filter(|other| other.target != volume.target && volume.target.starts_with(&other.target));
    around.max_by_key(|other| other.target.components().count())
}

/// As docker does it: what is missing in a volume that may be written to is made there, and stays.
fn in_volume(volume: &Volume, around: &Volume) -> Result<(), Failure> {
    let target = &volume.target;
    let below = target.strip_prefix(&around.target).unwrap_or(target);
    let place = around.source.join(below);
    // What is there is looked up inside, when it is mounted on.
    if place.exists() {
        return Ok(());
    }
    let hint = format!("make it yourself: `{} {}`", if volume.source.is_dir() { "mkdir -p" } else { "touch" }, place.display());
    if around.access == Access::ReadOnly {
        let error = format!("there is no `{}` to show a volume at, and `{}` is read-only", target.display(), around.target.display());
        return Err(Failure::could_not_run(error).with_hint(Some(hint)));
    }
    make_below(&around.source, below, volume.source.is_dir()).map_err(|errno| match errno {
        Errno::ELOOP | Errno::EXDEV => {
            let error =
                format!("no place for a volume is made at `{}`: the way through `{}` is a link", target.display(), around.source.display());
            Failure::could_not_run(error).with_hint(Some("name the place that the link leads to".to_owned()))
        }
        errno => {
            let error = format!("cannot make `{}` to show a volume at: {}", place.display(), errno.desc());
            Failure::could_not_run(error).with_hint(Some(hint))
        }
    })
}

/// Makes folders, and an empty file at the end if that is wanted, below a folder of the host: as the caller, and through no link, whoever put it there.
fn make_below(folder: &Path, below: &Path, is_folder: bool) -> Result<(), Errno> {
    let to_enter = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(to_enter).resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let mut at = open(folder, to_enter, Mode::empty())?;
    let mut names = below.iter().peekable();
    while let Some(name) = names.next() {
        if names.peek().is_none() && !is_folder {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            return openat(&at, name, flags, Mode::from_bits_truncate(0o666)).map(drop);
        }
        match mkdirat(&at, name, Mode::from_bits_truncate(0o777)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        at = openat2(&at, name, how)?;
    }
    Ok(())
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
        let mounted = ["/proc", "/dev"].map(Path::new);
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
    use std::os::unix::fs::symlink;

    use super::*;

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
        for target in ["/var/task", "/opt", "/data/deep", "/usr/bin", "/app/inner", "/tmp", "/tmp/x", "/app/made/deep"] {
            assert_eq!(check(target), Ok(()), "{target}");
        }
        assert!(folder.path().join("made/deep").is_dir());
        for target in ["/usr/none/such", "/dev/x", "/app/file/x"] {
            assert!(check(target).is_err(), "{target}");
        }
        let volumes = [volume(folder.path(), "/data"), volume(&folder.path().join("file"), "/etc/x"), volume(folder.path(), "/var/task")];
        let root = on_host(host(), &volumes);
        assert_eq!(root.places, [Path::new("/data")]);
        assert_eq!(root.files, [("/etc/x".into(), Vec::new(), 0o444)]);
    }

    #[test]
    fn places_in_other_volumes() {
        let folder = tempfile::tempdir().unwrap();
        let [task, outside] = ["task", "outside"].map(|name| folder.path().join(name));
        for made in [&task, &outside] {
            std::fs::create_dir(made).unwrap();
        }
        std::fs::write(folder.path().join("file"), "").unwrap();
        for (name, to) in [("link", outside.as_path()), ("up", Path::new("..")), ("dangling", Path::new("none"))] {
            symlink(to, task.join(name)).unwrap();
        }
        let check = |access, source: &Path, target: &str| {
            let volumes = [Volume { access, ..volume(&task, "/var/task") }, volume(source, target)];
            check(&volumes, &Userland::Host(host())).map_err(|failure| failure.to_string())
        };
        for target in ["/var/task/link/x", "/var/task/up/x", "/var/task/link/x/y", "/var/task/dangling", "/var/task/dangling/x"] {
            for source in [&outside, &folder.path().join("file")] {
                let refused = check(Access::ReadWrite, source, target).unwrap_err();
                assert!(refused.contains(target.trim_start_matches("/var/task")), "{target}: {refused}");
            }
        }
        assert!(check(Access::ReadOnly, &outside, "/var/task/data").unwrap_err().contains("is read-only"));
        let left = |folder: &Path| std::fs::read_dir(folder).unwrap().count();
        assert_eq!((left(folder.path()), left(&task), left(&outside)), (3, 3, 0));
        check(Access::ReadWrite, &outside, "/var/task/data").unwrap();
        check(Access::ReadWrite, &folder.path().join("file"), "/var/task/deep/file").unwrap();
        assert!(task.join("data").is_dir() && task.join("deep/file").is_file());
        // A file is no folder.
        assert!(check(Access::ReadWrite, &outside, "/var/task/deep/file/x").is_err());
    }
}
