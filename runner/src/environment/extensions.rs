//! Which external extensions an environment has: the regular files in `/opt/extensions`, looked for from outside before the sandbox is there.

use std::fs;
use std::path::{Path, PathBuf};

use super::identity::ImageRoot;
use crate::sandbox::Volume;

/// Where they lie.
const FOLDER: &str = "/opt/extensions";
/// A file by which Lambda has none of them started.
const DISABLED: &str = "/opt/disable-extensions-jwigqn8j";

/// Their names, in order. What is shown at a place hides what the image has there.
pub fn names(volumes: &[Volume], image: Option<&ImageRoot>) -> Vec<String> {
    let is_disabled = match outside(volumes, DISABLED) {
        Some(path) => path.exists(),
        None => image.is_some_and(|image| image.holds(DISABLED)),
    };
    if is_disabled {
        return Vec::new();
    }
    let mut names = match outside(volumes, FOLDER) {
        Some(folder) => files(&folder),
        None => image.map(|image| image.files(FOLDER)).unwrap_or_default(),
    };
    // A single file may be shown in the folder.
    let shown = volumes.iter().filter(|volume| volume.target.parent() == Some(Path::new(FOLDER)) && volume.source.is_file());
    names.extend(shown.filter_map(|volume| Some(volume.target.file_name()?.to_str()?.to_owned())));
    names.sort();
    names.dedup();
    names
}

/// Where what is shown at a path inside lies on the host, if a volume shows it.
fn outside(volumes: &[Volume], path: &str) -> Option<PathBuf> {
    let around = volumes.iter().filter_map(|volume| Some((volume, Path::new(path).strip_prefix(&volume.target).ok()?)));
    let (volume, rest) = around.max_by_key(|(volume, _)| volume.target.components().count())?;
    Some(if rest.as_os_str().is_empty() { volume.source.clone() } else { volume.source.join(rest) })
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let regular = entries.filter(|entry| fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_file()));
    regular.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::Access;

    fn volume(source: &Path, target: &str) -> Volume {
        Volume { source: source.to_owned(), target: target.into(), access: Access::ReadOnly }
    }

    #[test]
    fn regular_files_of_the_folder_that_is_seen_inside() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for folder in ["image/opt/extensions/sub", "layer/extensions", "off/extensions"] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        for file in ["image/opt/extensions/b", "image/opt/extensions/a", "layer/extensions/c", "off/extensions/d", "one"] {
            fs::write(path(file), "").unwrap();
        }
        fs::write(path("off/disable-extensions-jwigqn8j"), "").unwrap();
        let image = ImageRoot::open(&path("image")).unwrap();
        assert_eq!(names(&[], Some(&image)), ["a", "b"]);
        assert_eq!(names(&[volume(&path("layer"), "/opt")], Some(&image)), ["c"]);
        assert_eq!(names(&[volume(&path("layer"), "/opt")], None), ["c"]);
        assert_eq!(names(&[volume(&path("layer/extensions"), "/opt/extensions")], Some(&image)), ["c"]);
        assert_eq!(names(&[volume(&path("one"), "/opt/extensions/one")], Some(&image)), ["a", "b", "one"]);
        assert_eq!(names(&[volume(&path("off"), "/opt")], Some(&image)), [""; 0]);
        assert_eq!(names(&[], None), [""; 0]);
    }
}
