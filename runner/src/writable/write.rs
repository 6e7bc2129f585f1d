//! Writing from outside, while no sandbox runs in the root.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dev, FileType, Mode, XattrFlags};

use super::view::{OPAQUE, is_whiteout};
use super::{WritableError, WritableRoot, copy, open_above, take_after};
use crate::sandbox::run_folder;

impl WritableRoot {
    /// Makes a folder, and those above it. One that is there stays as it is.
    pub fn make_dir(&self, path: &Path, mode: u32) -> Result<(), WritableError> {
        let make = || {
            let path = self.resolve(path)?;
            match self.at(&path)? {
                Some(found) if found.metadata.is_dir() => Ok(()),
                Some(_) => Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
                None => {
                    self.parents(&path)?;
                    self.new_dir(&path, mode)
                }
            }
        };
        make().map_err(self.failed("make", path))
    }

    /// Writes a file in place of any that is there.
    pub fn put(&self, path: &Path, contents: &mut dyn Read, mode: u32) -> Result<(), WritableError> {
        let mut put = || {
            let path = self.resolve(path)?;
            self.clear(&path)?;
            let place = self.on_upper(&path);
            let mut file = open_above(&place, || File::options().write(true).create_new(true).mode(0o600).open(&place))?;
            io::copy(contents, &mut file)?;
            file.set_permissions(fs::Permissions::from_mode(mode & 0o7777))
        };
        put().map_err(self.failed("write", path))
    }

    /// Makes a symbolic link in place of what is there. The last name of the path is not followed.
    pub fn put_link(&self, path: &Path, target: &Path) -> Result<(), WritableError> {
        let put = || {
            let path = self.resolve_parent(path)?;
            self.clear(&path)?;
            let place = self.on_upper(&path);
            open_above(&place, || symlink(target, &place))
        };
        put().map_err(self.failed("make", path))
    }

    /// Removes a file, a link or a folder with all in it. The last name of the path is not followed.
    pub fn remove_path(&self, path: &Path) -> Result<(), WritableError> {
        let remove = || {
            let path = self.resolve_parent(path)?;
            let found = self.at(&path)?.ok_or(io::ErrorKind::NotFound)?;
            let place = self.on_upper(&path);
            if found.written {
                open_above(&place, || {
                    run_folder::remove_tree(&place);
                    Ok(())
                })?;
            }
            // Anything of the image's shows again.
            if self.at(&path)?.is_some() {
                self.parents(&path)?;
                open_above(&place, || Ok(rustix::fs::mknodat(CWD, &place, FileType::CharacterDevice, Mode::empty(), Dev::default())?))?;
            }
            Ok(())
        };
        remove().map_err(self.failed("remove", path))
    }

    pub(super) fn resolve_parent(&self, path: &Path) -> io::Result<PathBuf> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.resolve(path.parent().unwrap_or(Path::new("/")))?.join(name))
    }

    /// The place of a path without links, written or not.
    fn on_upper(&self, path: &Path) -> PathBuf {
        self.upper().join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Makes room for a file or a link. A folder stays.
    fn clear(&self, path: &Path) -> io::Result<()> {
        if self.at(path)?.is_some_and(|found| found.metadata.is_dir()) {
            return Err(io::Error::from_raw_os_error(libc::EISDIR));
        }
        self.parents(path)?;
        let place = self.on_upper(path);
        match open_above(&place, || fs::remove_file(&place)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Makes the folders above a path, as far as they are the image's or missing.
    fn parents(&self, path: &Path) -> io::Result<()> {
        let above: Vec<_> = path.ancestors().skip(1).collect();
        for folder in above.into_iter().rev() {
            match self.at(folder)? {
                Some(found) if !found.metadata.is_dir() => return Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
                Some(found) if found.written => {}
                Some(found) => {
                    let place = self.on_upper(folder);
                    open_above(&place, || DirBuilder::new().mode(0o700).create(&place))?;
                    copy::attributes(&found.on_host, &place)?;
                    take_after(&place, &found.metadata)?;
                }
                None => self.new_dir(folder, 0o755)?,
            }
        }
        Ok(())
    }

    fn new_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        let place = self.on_upper(path);
        let removed = place.symlink_metadata().is_ok_and(|metadata| is_whiteout(&metadata));
        if removed {
            open_above(&place, || fs::remove_file(&place))?;
        }
        open_above(&place, || DirBuilder::new().mode(0o700).create(&place))?;
        if removed {
            // Else the image's own would show again.
            rustix::fs::setxattr(&place, OPAQUE, b"y", XattrFlags::empty())?;
        }
        fs::set_permissions(&place, fs::Permissions::from_mode(mode & 0o7777))
    }
}
