//! Mounts: the new root and what lies on it.

use std::ffi::CString;

use super::*;
use crate::sandbox::isolation::is_refusal;

impl Child {
    /// Attaches the root over `/proc`, a folder that always exists; what lay there is not needed any more. The new root stays reachable by its descriptor.
    pub(super) fn attach_root(&mut self, tree: c_int) -> Kernel<()> {
        call!(SYS_move_mount, tree, c"".as_ptr(), libc::AT_FDCWD, c"/proc".as_ptr(), sys::MOVE_MOUNT_F_EMPTY_PATH)?;
        self.root = tree;
        Ok(())
    }

    pub(super) fn keep_outer_proc(&mut self) -> Kernel<()> {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        self.outer_proc = call!(SYS_openat, libc::AT_FDCWD, c"/proc".as_ptr(), flags, 0)? as c_int;
        is_proc(self.outer_proc)
    }

    /// Where an outer container hides parts of its `/proc` the kernel grants no new one, but still the old one with what hides its parts.
    pub(super) fn attach_proc(&mut self, from: ProcFrom, orders: &Orders<'_>) -> Kernel<()> {
        if from != ProcFrom::Outer {
            let mounted = self.mount_at(c"proc", c"proc", libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC, ptr::null());
            match mounted {
                Err(errno) if from == ProcFrom::NewElseOuter && is_refusal(errno) => self.note(orders, errno),
                mounted => return mounted,
            }
        }
        // The new root lies over it and would be copied with it: out of the way, over the old root.
        call!(SYS_move_mount, self.root, c"".as_ptr(), libc::AT_FDCWD, c"/".as_ptr(), sys::MOVE_MOUNT_F_EMPTY_PATH)?;
        self.over_root = true;
        let flags = sys::OPEN_TREE_CLONE | sys::OPEN_TREE_CLOEXEC | (libc::AT_RECURSIVE | libc::AT_EMPTY_PATH) as u32;
        let tree = call!(SYS_open_tree, self.outer_proc, c"".as_ptr(), flags)? as c_int;
        self.attach(tree, c"proc")
    }

    pub(super) fn make_root(&mut self, options: &CStr) -> Kernel<()> {
        mount(c"tmpfs".as_ptr(), c"/proc", c"tmpfs".as_ptr(), libc::MS_NOSUID | libc::MS_NODEV, options.as_ptr().cast())?;
        self.root = call!(SYS_openat, libc::AT_FDCWD, c"/proc".as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC, 0)? as c_int;
        Ok(())
    }

    pub(super) fn make_dir(&self, path: &CStr, mode: u32) -> Kernel<()> {
        call!(SYS_mkdirat, self.root, path.as_ptr(), mode).map(drop)
    }

    pub(super) fn make_file(&self, path: &CStr, contents: &[u8], mode: u32) -> Kernel<()> {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let file = call!(SYS_openat, self.root, path.as_ptr(), flags, mode)? as c_int;
        let written = write_all(file, contents);
        // The creation mode was cut by the umask that we inherited.
        let mode_set = call!(SYS_fchmod, file, mode);
        close(file);
        written?;
        mode_set.map(drop)
    }

    /// A mount point, looked up inside the new root: neither a symbolic link nor `..` leads out of it, and links of `/proc` are refused.
    pub(super) fn target(&self, path: &CStr) -> Kernel<c_int> {
        open_path(self.root, path, libc::O_PATH, self.resolve)
    }

    /// A file or folder inside, for the host.
    pub(super) fn open_for_host(&self, place: Option<&mut c_int>, path: &CStr, flags: c_int) -> Kernel<()> {
        *place.ok_or(libc::EBADF)? = open_path(self.root, path, flags, libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS)?;
        Ok(())
    }

    pub(super) fn attach(&self, tree: c_int, target: &CStr) -> Kernel<()> {
        let target = self.target(target)?;
        let flags = sys::MOVE_MOUNT_F_EMPTY_PATH | sys::MOVE_MOUNT_T_EMPTY_PATH;
        let moved = call!(SYS_move_mount, tree, c"".as_ptr(), target, c"".as_ptr(), flags);
        close(target);
        close(tree);
        moved.map(drop)
    }

    /// Mounts a new file system. The kernel takes the place by name: `.`, after entering the folder that was looked up inside the root.
    pub(super) fn mount_at(&self, target: &CStr, kind: &'static CStr, flags: u64, options: *const c_char) -> Kernel<()> {
        let target = self.target(target)?;
        let entered = call!(SYS_fchdir, target);
        close(target);
        entered?;
        mount(kind.as_ptr(), c".", kind.as_ptr(), flags, options.cast())
    }

    pub(super) fn mount_tmpfs(&self, target: &CStr, options: &CStr) -> Kernel<()> {
        self.mount_at(target, c"tmpfs", libc::MS_NOSUID | libc::MS_NODEV, options.as_ptr())
    }

    /// Makes the way to a place in the sandbox's own `/tmp`, which is empty but for other places: level by level, through no link and into no other mount.
    pub(super) fn make_place(&self, tree: c_int, names: &[CString], owner: Option<InnerIdentity>) -> Kernel<()> {
        let is_folder = status_of(tree, c"".as_ptr(), libc::AT_EMPTY_PATH)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
        let mut folder = self.target(c"tmp")?;
        for (index, name) in names.iter().enumerate() {
            let made = make_level(folder, name, is_folder || index + 1 < names.len(), owner);
            close(folder);
            folder = made?;
        }
        close(folder);
        Ok(())
    }

    /// Makes a file in the memory file system that lies on a place until something else comes over it, and keeps a mount of the file.
    pub(super) fn stage_file(&mut self, slot: Option<&mut c_int>, at: (&CStr, &CStr), contents: &[u8], mode: u32) -> Kernel<()> {
        let (place, name) = at;
        let folder = self.target(place)?;
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let made = call!(SYS_openat, folder, name.as_ptr(), flags, mode);
        close(folder);
        let file = made? as c_int;
        // The creation mode was cut by the umask that we inherited.
        let made = write_all(file, contents).and_then(|()| call!(SYS_fchmod, file, mode)).and_then(|_| clone_tree(file));
        close(file);
        let tree = made?;
        *slot.ok_or(libc::EBADF)? = tree;
        set_attributes(tree, &MountAttr::of(TreeFlags { read_only: true, recursive: false, devices: false }), false)
    }

    /// Shows a part of `/proc` read-only. It is looked up inside the root: a link of the image's at `proc` or `dev` must lead to nothing of the host's. What
    /// is not there on this kernel needs no mask.
    pub(super) fn mask_read_only(&mut self, path: &CStr) -> Kernel<()> {
        let Some(place) = self.proc_place(path)? else { return Ok(()) };
        if is_proc(place).is_err() {
            // An outer container has laid something of its own there, which hides the part.
            close(place);
            return Ok(());
        }
        let tree = clone_tree(place);
        close(place);
        let tree = tree?;
        let attributes = MountAttr::of(TreeFlags { read_only: true, recursive: false, devices: false });
        if let Err(errno) = set_attributes(tree, &attributes, false) {
            close(tree);
            return Err(errno);
        }
        self.attach(tree, path)
    }

    /// Shows the sandbox's own `/dev/null`, as it was mounted there, in the place of a file of `/proc`.
    pub(super) fn mask_null(&mut self, path: &CStr) -> Kernel<()> {
        if self.null < 0 {
            self.null = self.target(c"dev/null")?;
        }
        self.cover(path, is_null(self.null).map(|()| self.null))
    }

    /// Shows an empty folder in the place of a folder of `/proc`: one that is made for the first and cloned for the others.
    pub(super) fn mask_empty(&mut self, path: &CStr) -> Kernel<()> {
        if self.empty >= 0 {
            return self.cover(path, Ok(self.empty));
        }
        let Some(place) = self.proc_place(path)? else { return Ok(()) };
        close(place);
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC | libc::MS_RDONLY;
        self.mount_at(path, c"tmpfs", flags, c"mode=555,size=4k,nr_inodes=1".as_ptr())?;
        self.empty = self.target(path)?;
        Ok(())
    }

    /// Attaches a clone of a mount over a part of `/proc`.
    fn cover(&mut self, path: &CStr, mount: Kernel<c_int>) -> Kernel<()> {
        let Some(place) = self.proc_place(path)? else { return Ok(()) };
        let moved = mount.and_then(clone_tree).and_then(|tree| {
            let flags = sys::MOVE_MOUNT_F_EMPTY_PATH | sys::MOVE_MOUNT_T_EMPTY_PATH;
            let moved = call!(SYS_move_mount, tree, c"".as_ptr(), place, c"".as_ptr(), flags);
            close(tree);
            moved
        });
        close(place);
        moved.map(drop)
    }

    /// A place in `/proc`, if it is there. Fails where `/proc` inside is not the one that was mounted there.
    fn proc_place(&mut self, path: &CStr) -> Kernel<Option<c_int>> {
        if !self.has_proc {
            let proc = self.target(c"proc")?;
            let known = is_proc(proc);
            close(proc);
            known?;
            self.has_proc = true;
        }
        match self.target(path) {
            Ok(place) => Ok(Some(place)),
            Err(libc::ENOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    pub(super) fn seal_root(&self) -> Kernel<()> {
        let attributes = MountAttr::of(TreeFlags { read_only: true, recursive: false, devices: false });
        set_attributes(self.root, &attributes, false)
    }

    /// `pivot_root(".", ".")` stacks the old root on the new one; detaching it leaves nothing of the host (pivot_root(2), notes). Moved over the old root
    /// instead, the new one hides it, and without CAP_SYS_CHROOT and mounts nobody inside gets below it.
    pub(super) fn enter_root(&mut self, by: Entrance, orders: &Orders<'_>) -> Kernel<()> {
        call!(SYS_fchdir, self.root)?;
        let pivoted = if by == Entrance::Move { Err(0) } else { call!(SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) };
        match pivoted {
            Ok(_) => {
                call!(SYS_umount2, c".".as_ptr(), libc::MNT_DETACH)?;
            }
            Err(errno) if by == Entrance::Pivot => return Err(errno),
            Err(errno) => {
                if by == Entrance::PivotElseMove {
                    self.note(orders, errno);
                }
                if !self.over_root {
                    mount(c".".as_ptr(), c"/", ptr::null(), libc::MS_MOVE, ptr::null())?;
                }
                call!(SYS_chroot, c".".as_ptr())?;
            }
        }
        call!(SYS_chdir, c"/".as_ptr())?;
        close(self.root);
        self.root = -1;
        Ok(())
    }
}

pub(super) fn slot_fd(orders: &Orders<'_>, slot: usize) -> Kernel<c_int> {
    orders.slots.get(slot).copied().filter(|fd| *fd >= 0).ok_or(libc::EBADF)
}

pub(super) fn mount(source: *const c_char, target: &CStr, kind: *const c_char, flags: u64, data: *const c_void) -> Kernel<()> {
    call!(SYS_mount, source, target.as_ptr(), kind, flags, data).map(drop)
}

/// A detached clone of the mount that something lies on, with that as its root.
fn clone_tree(place: c_int) -> Kernel<c_int> {
    let flags = sys::OPEN_TREE_CLONE | sys::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as u32;
    Ok(call!(SYS_open_tree, place, c"".as_ptr(), flags)? as c_int)
}

/// A folder or an empty file in a folder, if it is not there yet; open.
fn make_level(folder: c_int, name: &CStr, is_folder: bool, owner: Option<InnerIdentity>) -> Kernel<c_int> {
    let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_XDEV;
    let (made, mode) = if is_folder {
        (call!(SYS_mkdirat, folder, name.as_ptr(), 0o755), 0o755)
    } else {
        (call!(SYS_mknodat, folder, name.as_ptr(), libc::S_IFREG | 0o644, 0), 0o644)
    };
    let is_new = match made {
        Ok(_) => true,
        Err(libc::EEXIST) => false,
        Err(errno) => return Err(errno),
    };
    let flags = if is_folder { libc::O_RDONLY | libc::O_DIRECTORY } else { libc::O_RDONLY };
    let place = open_path(folder, name, flags, resolve)?;
    if is_new {
        let given = owner.map_or(Ok(0), |owner| call!(SYS_fchown, place, owner.uid, owner.gid));
        // The creation mode was cut by the umask that we inherited.
        if let Err(errno) = given.and_then(|_| call!(SYS_fchmod, place, mode)) {
            close(place);
            return Err(errno);
        }
    }
    Ok(place)
}

pub(super) fn set_attributes(tree: c_int, attributes: &MountAttr, recursive: bool) -> Kernel<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    call!(SYS_mount_setattr, tree, c"".as_ptr(), flags, ptr::from_ref(attributes), size_of::<MountAttr>()).map(drop)
}

pub(super) fn open_slot(orders: &mut Orders<'_>, slot: usize, path: &CStr, flags: TreeFlags) -> Kernel<()> {
    let recursive = if flags.recursive { libc::AT_RECURSIVE as u32 } else { 0 };
    let tree = call!(SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), sys::OPEN_TREE_CLONE | sys::OPEN_TREE_CLOEXEC | recursive)? as c_int;
    set_attributes(tree, &MountAttr::of(flags), flags.recursive)?;
    *orders.slots.get_mut(slot).ok_or(libc::EBADF)? = tree;
    Ok(())
}

/// Enters a folder of ours as root.
pub(super) fn change_root(path: &CStr) -> Kernel<()> {
    call!(SYS_chdir, path.as_ptr())?;
    call!(SYS_chroot, c".".as_ptr())?;
    call!(SYS_chdir, c"/".as_ptr()).map(drop)
}

/// Not through links of `/proc`, which could lead out of the root (CVE-2024-21626).
pub(super) fn change_directory(path: &CStr, resolve: u64) -> Kernel<()> {
    let folder = open_path(libc::AT_FDCWD, path, libc::O_PATH | libc::O_DIRECTORY, resolve)?;
    let entered = call!(SYS_fchdir, folder);
    close(folder);
    entered.map(drop)
}
