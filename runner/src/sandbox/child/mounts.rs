//! Mounts: the new root and what lies on it.

use super::*;

impl Child {
    /// Attaches the root over `/proc`, a folder that always exists; what lay there is not needed any more. The new root stays reachable by its descriptor.
    pub(super) fn attach_root(&mut self, tree: c_int) -> Kernel<()> {
        call!(SYS_move_mount, tree, c"".as_ptr(), libc::AT_FDCWD, c"/proc".as_ptr(), sys::MOVE_MOUNT_F_EMPTY_PATH)?;
        self.root = tree;
        Ok(())
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
        open_path(self.root, path, libc::O_PATH, libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS)
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

    /// Shows a part of `/proc` read-only, or `/dev/null` in its place. Both are looked up inside the root: a link of the image's at `proc` or `dev` must lead
    /// to nothing of the host's. What is not there on this kernel needs no mask.
    pub(super) fn mask(&self, source: &CStr, target: &CStr, read_only: bool) -> Kernel<()> {
        let source = match self.target(source) {
            Err(libc::ENOENT) => return self.must_be_proc(),
            source => source?,
        };
        let known = if read_only { is_proc(source) } else { is_null(source) };
        let flags = sys::OPEN_TREE_CLONE | sys::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as u32;
        let tree = known.and_then(|()| call!(SYS_open_tree, source, c"".as_ptr(), flags));
        close(source);
        let tree = tree? as c_int;
        let attributes = MountAttr::of(TreeFlags { read_only, recursive: false, devices: !read_only });
        if let Err(errno) = set_attributes(tree, &attributes, false) {
            close(tree);
            return Err(errno);
        }
        match self.attach(tree, target) {
            Err(libc::ENOENT) => self.must_be_proc(),
            attached => attached,
        }
    }

    /// Whether `/proc` inside is the one that was mounted there.
    pub(super) fn must_be_proc(&self) -> Kernel<()> {
        let proc = self.target(c"proc")?;
        let known = is_proc(proc);
        close(proc);
        known
    }

    pub(super) fn seal_root(&self) -> Kernel<()> {
        let attributes = MountAttr::of(TreeFlags { read_only: true, recursive: false, devices: false });
        set_attributes(self.root, &attributes, false)
    }

    /// `pivot_root(".", ".")` stacks the old root on the new one; detaching it leaves nothing of the host (pivot_root(2), notes).
    pub(super) fn enter_root(&mut self) -> Kernel<()> {
        call!(SYS_fchdir, self.root)?;
        call!(SYS_pivot_root, c".".as_ptr(), c".".as_ptr())?;
        call!(SYS_umount2, c".".as_ptr(), libc::MNT_DETACH)?;
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

/// Not through links of `/proc`, which could lead out of the root (CVE-2024-21626).
pub(super) fn change_directory(path: &CStr) -> Kernel<()> {
    let folder = open_path(libc::AT_FDCWD, path, libc::O_PATH | libc::O_DIRECTORY, libc::RESOLVE_NO_MAGICLINKS)?;
    let entered = call!(SYS_fchdir, folder);
    close(folder);
    entered.map(drop)
}
