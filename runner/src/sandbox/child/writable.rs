//! A root that may be written to, and the `/dev` that lies on it.

use std::ffi::CString;

use super::mounts::mount;
use super::*;
use crate::sandbox::plan::{DEVICE_LINKS, DEVICES};

impl Child {
    /// What is written need not survive a crash of the machine, so that nobody waits for its disk: package managers sync each file.
    ///
    /// The layers are put where their names are short and need no quoting: over `/proc`, a folder that always exists, and into it. The overlay comes over
    /// them and holds them by itself.
    pub(super) fn attach_overlay(&mut self, lower: c_int, folder: c_int) -> Kernel<()> {
        call!(SYS_move_mount, folder, c"".as_ptr(), libc::AT_FDCWD, c"/proc".as_ptr(), sys::MOVE_MOUNT_F_EMPTY_PATH)?;
        // A mount that came from outside may be a shared one, below which no new root is entered.
        mount(ptr::null(), c"/proc", ptr::null(), libc::MS_PRIVATE, ptr::null())?;
        call!(SYS_move_mount, lower, c"".as_ptr(), libc::AT_FDCWD, c"/proc/lower".as_ptr(), sys::MOVE_MOUNT_F_EMPTY_PATH)?;
        let options = c"lowerdir=/proc/lower,upperdir=/proc/upper,workdir=/proc/work,userxattr,volatile";
        let kind = c"overlay".as_ptr();
        mount(kind, c"/proc", kind, libc::MS_NOSUID | libc::MS_NODEV, options.as_ptr().cast())?;
        // The layers must not stay on `/proc`: where the outer one is bound, they would be shown with it.
        let flags = sys::OPEN_TREE_CLONE | sys::OPEN_TREE_CLOEXEC;
        let tree = call!(SYS_open_tree, libc::AT_FDCWD, c"/proc".as_ptr(), flags)? as c_int;
        for _ in [folder, tree] {
            call!(SYS_umount2, c"/proc".as_ptr(), libc::MNT_DETACH)?;
        }
        self.attach_root(tree)
    }

    /// Makes places and links by name in the folder that was mounted, not below a name of the root's.
    pub(super) fn make_dev(&mut self, files: &[CString]) -> Kernel<()> {
        self.mount_tmpfs(c"dev", c"mode=755,size=64k")?;
        let dev = self.target(c"dev")?;
        call!(SYS_fchdir, dev)?;
        close(dev);
        for name in DEVICE_PLACES.into_iter().chain(files.iter().map(CString::as_c_str)) {
            let file =
                call!(SYS_openat, libc::AT_FDCWD, name.as_ptr(), libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC, 0o444)?;
            close(file as c_int);
        }
        for (name, target) in LINKS {
            call!(SYS_symlinkat, target.as_ptr(), libc::AT_FDCWD, name.as_ptr())?;
        }
        for name in [c"pts", c"shm"] {
            call!(SYS_mkdirat, libc::AT_FDCWD, name.as_ptr(), 0o755)?;
        }
        Ok(())
    }

    /// Terminals of the sandbox's own.
    pub(super) fn make_terminals(&mut self) -> Kernel<()> {
        self.mount_at(c"dev/pts", c"devpts", libc::MS_NOSUID | libc::MS_NOEXEC, c"newinstance,ptmxmode=0666,mode=620".as_ptr())
    }
}

/// The places of [`DEVICES`].
const DEVICE_PLACES: [&CStr; DEVICES.len()] = [c"null", c"zero", c"full", c"random", c"urandom", c"tty"];

/// The links of [`DEVICE_LINKS`], and the one to the multiplexer of terminals.
const LINKS: [(&CStr, &CStr); DEVICE_LINKS.len() + 1] = [
    (c"fd", c"/proc/self/fd"),
    (c"stdin", c"/proc/self/fd/0"),
    (c"stdout", c"/proc/self/fd/1"),
    (c"stderr", c"/proc/self/fd/2"),
    (c"ptmx", c"pts/ptmx"),
];
