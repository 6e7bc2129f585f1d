//! `-v HOST:CONTAINER[:OPTIONS]` as docker reads it, less what needs a daemon: named and anonymous volumes, and folders made on the fly.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::unistd::AccessFlags;

use crate::sandbox::{Access, Volume};

/// Why a volume cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Not of the form HOST:CONTAINER[:OPTIONS].
    #[error("the volume `{}` is not of the form HOST:CONTAINER[:OPTIONS]", volume.display())]
    Form {
        /// As given.
        volume: OsString,
    },
    /// A word alone would be a named volume of docker.
    #[error("the volume `{}` starts with `{}`, which is no path: named volumes do not exist here", volume.display(), name.display())]
    Named {
        /// As given.
        volume: OsString,
        /// The part before the colon.
        name: OsString,
    },
    /// The path inside is relative, is the root, or climbs.
    #[error("the volume `{}` cannot be shown at `{}`: the path inside must be absolute, without `..`, and not `/`", volume.display(), target.display())]
    Target {
        /// As given.
        volume: OsString,
        /// The path inside.
        target: PathBuf,
    },
    /// An option we know not, or know and cannot grant.
    #[error("the volume `{}` has the option `{option}`, which is not supported", volume.display())]
    Option {
        /// As given.
        volume: OsString,
        /// The option.
        option: String,
    },
    /// The host path does not exist.
    #[error("the host path `{}` of a volume does not exist", path.display())]
    Missing {
        /// The host path.
        path: PathBuf,
    },
    /// The host path cannot be read by us, and so not by the function.
    #[error("the host path `{}` of a volume cannot be read", path.display())]
    Unreadable {
        /// The host path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Two things at one place.
    #[error("two volumes are shown at `{}`", target.display())]
    Duplicate {
        /// The path inside.
        target: PathBuf,
    },
}

impl VolumeError {
    /// Whether the command line makes no sense, whatever there is on this machine.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Form { .. } | Self::Target { .. } | Self::Option { .. } | Self::Duplicate { .. })
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Form { .. } => Some("as in `-v \"$PWD\":/var/task:ro`".to_owned()),
            Self::Named { name, .. } => Some(format!("write a host path with a slash, such as `./{}`", name.display())),
            Self::Option { .. } => Some("known: `ro`, `rw`; without effect: `delegated`, `cached`, `consistent`, `z`, `Z`".to_owned()),
            Self::Missing { path } => {
                Some(format!("docker would make an empty folder there; if that is meant: `mkdir -p {}`", path.display()))
            }
            Self::Unreadable { .. } => Some("the function runs with no more rights than you have".to_owned()),
            Self::Target { .. } | Self::Duplicate { .. } => None,
        }
    }
}

/// Reads all `-v` of a run; host paths that are relative are so to `current_dir`.
pub fn volumes(given: &[OsString], current_dir: &Path) -> Result<Vec<Volume>, VolumeError> {
    let mut volumes: Vec<Volume> = Vec::with_capacity(given.len());
    for text in given {
        let volume = volume(text, current_dir)?;
        if volumes.iter().any(|other| other.target == volume.target) {
            return Err(VolumeError::Duplicate { target: volume.target });
        }
        volumes.push(volume);
    }
    Ok(volumes)
}

fn volume(text: &OsStr, current_dir: &Path) -> Result<Volume, VolumeError> {
    let form = || VolumeError::Form { volume: text.to_owned() };
    let mut parts = text.as_bytes().split(|&byte| byte == b':').map(OsStr::from_bytes);
    let (Some(source), Some(target)) = (parts.next(), parts.next()) else {
        return Err(form());
    };
    let options = parts.next().unwrap_or_default();
    if source.is_empty() || target.is_empty() || parts.next().is_some() {
        return Err(form());
    }
    if !source.as_bytes().starts_with(b"/") && !source.as_bytes().starts_with(b".") {
        return Err(VolumeError::Named { volume: text.to_owned(), name: source.to_owned() });
    }
    let access = access(options).map_err(|option| VolumeError::Option { volume: text.to_owned(), option })?;
    let target = inside(Path::new(target)).ok_or_else(|| VolumeError::Target { volume: text.to_owned(), target: target.into() })?;
    Ok(Volume { source: readable(&current_dir.join(source))?, target, access })
}

/// The last of `ro` and `rw` counts; options for other systems' sake are accepted.
fn access(options: &OsStr) -> Result<Access, String> {
    let mut access = Access::ReadWrite;
    for option in options.as_bytes().split(|&byte| byte == b',') {
        match option {
            b"ro" => access = Access::ReadOnly,
            b"rw" => access = Access::ReadWrite,
            b"" | b"delegated" | b"cached" | b"consistent" | b"z" | b"Z" => {}
            _ => return Err(String::from_utf8_lossy(option).into_owned()),
        }
    }
    Ok(access)
}

/// An absolute path inside, without `.`, doubled or closing slashes; nothing for `/`, relative and climbing paths.
pub(super) fn inside(path: &Path) -> Option<PathBuf> {
    let climbs = path.components().any(|component| component == Component::ParentDir);
    (path.is_absolute() && !climbs && path.parent().is_some()).then(|| path.components().collect())
}

/// The real path of a host file or folder that we may read.
pub(super) fn readable(path: &Path) -> Result<PathBuf, VolumeError> {
    let real = path.canonicalize().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => VolumeError::Missing { path: path.to_owned() },
        _ => VolumeError::Unreadable { path: path.to_owned(), source },
    })?;
    let wanted = if real.is_dir() { AccessFlags::R_OK | AccessFlags::X_OK } else { AccessFlags::R_OK };
    nix::unistd::access(&real, wanted).map_err(|source| VolumeError::Unreadable { path: path.to_owned(), source: source.into() })?;
    Ok(real)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let here = tempfile::tempdir().unwrap();
        let root = here.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("task")).unwrap();
        std::fs::write(root.join("file"), "").unwrap();
        let task = root.join("task").display().to_string();
        for (text, source, target, access) in [
            (format!("{task}:/var/task"), "task", "/var/task", Access::ReadWrite),
            (format!("{task}:/var/task/:ro,delegated"), "task", "/var/task", Access::ReadOnly),
            (format!("{task}/../file:/opt//x/./y:z,cached"), "file", "/opt/x/y", Access::ReadWrite),
            ("./task:/a:ro,rw".to_owned(), "task", "/a", Access::ReadWrite),
            (".:/a:".to_owned(), "", "/a", Access::ReadWrite),
        ] {
            let source = if source.is_empty() { root.clone() } else { root.join(source) };
            let expected = Volume { source, target: target.into(), access };
            assert_eq!(volumes(&[text.clone().into()], &root).unwrap(), [expected], "{text}");
        }
    }

    #[test]
    fn refusals() {
        let root = tempfile::tempdir().unwrap();
        for (text, start) in [
            ("/tmp", "the volume `/tmp` is not of the form"),
            (":/x", "the volume `:/x` is not of the form"),
            ("/tmp:/x:ro:y", "the volume `/tmp:/x:ro:y` is not of the form"),
            ("data:/x", "the volume `data:/x` starts with `data`"),
            ("~/x:/x", "the volume `~/x:/x` starts with `~/x`"),
            ("/tmp:x", "the volume `/tmp:x` cannot be shown at `x`"),
            ("/tmp:/", "the volume `/tmp:/` cannot be shown at `/`"),
            ("/tmp:/a/../b", "the volume `/tmp:/a/../b` cannot be shown at `/a/../b`"),
            ("/tmp:/x:rshared", "the volume `/tmp:/x:rshared` has the option `rshared`"),
            ("./none:/x", "the host path"),
        ] {
            let error = volumes(&[text.into()], root.path()).unwrap_err();
            assert!(error.to_string().starts_with(start), "{text}: {error}");
        }
        let twice = volumes(&["/tmp:/x".into(), "/usr:/x/".into()], root.path()).unwrap_err();
        assert_eq!(twice.to_string(), "two volumes are shown at `/x`");
        let missing = volumes(&["/none/such:/x".into()], root.path()).unwrap_err();
        assert!(missing.hint().unwrap().contains("docker would make an empty folder"));
    }
}
