//! Where a path inside an image leads. No link of the image is followed on the host: every component is looked at by itself, and links are resolved here,
//! as they would be inside.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Links followed on one way, as many as the kernel follows.
const MOST_LINKS: usize = 40;

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// What is there, as a path inside without links.
    pub there: PathBuf,
    /// What is missing below it; nothing if all is there.
    pub missing: Option<PathBuf>,
}

impl Place {
    /// The whole path inside, without links.
    pub fn path(&self) -> PathBuf {
        self.missing.as_ref().map_or_else(|| self.there.clone(), |missing| self.there.join(missing))
    }
}

/// Walks to a path inside of what has its root in the host folder `root`.
pub fn resolve(root: &Path, target: &Path) -> io::Result<Place> {
    let mut there = PathBuf::from("/");
    let mut left = names(target);
    let mut links = 0;
    while let Some(name) = left.pop() {
        if name == ".." {
            there.pop();
            continue;
        }
        let place = there.join(&name);
        match on_host(root, &place).symlink_metadata() {
            Ok(found) if found.is_symlink() => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(io::Error::from_raw_os_error(libc::ELOOP));
                }
                let to = fs::read_link(on_host(root, &place))?;
                if to.is_absolute() {
                    there = PathBuf::from("/");
                }
                left.extend(names(&to));
            }
            Ok(found) if !found.is_dir() && !left.is_empty() => return Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
            Ok(_) => there = place,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let missing = left.iter().rev().filter(|part| *part != "..").fold(PathBuf::from(&name), |so_far, part| so_far.join(part));
                return Ok(Place { there, missing: Some(missing) });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Place { there, missing: None })
}

/// A path inside, below the folder that stands for the root.
pub fn on_host(root: &Path, inside: &Path) -> PathBuf {
    root.join(inside.strip_prefix("/").unwrap_or(inside))
}

/// The names on a path, the first one last.
fn names(path: &Path) -> Vec<OsString> {
    let name = |part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_lead_to_places_inside() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("real/task")).unwrap();
        fs::write(root.path().join("real/file"), "").unwrap();
        for (name, target) in
            [("var", "/real"), ("up", "../../../../real"), ("loop", "loop"), ("out", "/etc/passwd"), ("dangling", "none/../x")]
        {
            symlink(target, root.path().join(name)).unwrap();
        }
        for (target, there, missing) in [
            ("/var/task", "/real/task", None),
            ("/var/file", "/real/file", None),
            ("/up/new/deep", "/real", Some("new/deep")),
            ("/none", "/", Some("none")),
            ("/out", "/", Some("etc/passwd")),
            ("/dangling", "/", Some("none/x")),
            ("/", "/", None),
        ] {
            let place = resolve(root.path(), Path::new(target)).unwrap();
            assert_eq!(place, Place { there: there.into(), missing: missing.map(PathBuf::from) }, "{target}");
            assert_eq!(place.path(), Path::new(there).join(missing.unwrap_or_default()).components().collect::<PathBuf>());
        }
        let errno = |target| resolve(root.path(), Path::new(target)).unwrap_err().raw_os_error();
        assert_eq!(errno("/loop/x"), Some(libc::ELOOP));
        assert_eq!(errno("/real/file/x"), Some(libc::ENOTDIR));
    }
}
