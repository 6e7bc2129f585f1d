//! Where images are pulled to: a file system of our own, so that neither what others write nor what was removed before counts.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tests::skip;

/// A fresh file system, gone with this value.
pub struct Disk {
    folder: TempDir,
    /// Where it is mounted, and the loop device; nothing for a tmpfs.
    mounted: Option<(PathBuf, String)>,
}

impl Disk {
    pub fn new() -> Disk {
        if skip::is_root() {
            let folder = tempfile::tempdir().expect("a folder for the disk");
            match mount(folder.path()) {
                Ok(mounted) => return Disk { folder, mounted: Some(mounted) },
                Err(why) => println!("no ext4 of our own ({why}): on a tmpfs"),
            }
        } else {
            println!("not root, so on a tmpfs: nothing is really synced");
        }
        Disk { folder: tempfile::tempdir_in("/dev/shm").expect("a tmpfs"), mounted: None }
    }

    pub fn path(&self) -> &Path {
        self.mounted.as_ref().map_or(self.folder.path(), |(path, _)| path)
    }

    pub fn kind(&self) -> &'static str {
        if self.mounted.is_some() { "ext4 with a journal, on a loop device with direct I/O" } else { "tmpfs" }
    }

    pub fn sync(&self) {
        let root = File::open(self.path()).expect("the disk is there");
        nix::unistd::syncfs(root.as_fd()).expect("it can be synced");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some((path, device)) = &self.mounted {
            let _ = run("umount", &["-l", &path.display().to_string()]);
            let _ = run("losetup", &["-d", device]);
        }
    }
}

fn mount(folder: &Path) -> Result<(PathBuf, String), String> {
    let (file, path) = (folder.join("disk").display().to_string(), folder.join("mounted"));
    std::fs::create_dir(&path).map_err(|error| error.to_string())?;
    run("truncate", &["-s", "16G", &file])?;
    run("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", &file])?;
    let device = run("losetup", &["-f", "--show", "--direct-io=on", &file])?.trim().to_owned();
    if let Err(why) = run("mount", &[&device, &path.display().to_string()]) {
        let _ = run("losetup", &["-d", &device]);
        return Err(why);
    }
    Ok((path, device))
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
