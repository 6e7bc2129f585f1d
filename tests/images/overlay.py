#!/usr/bin/env python3
"""What an image's layers come to, by others than undocked: the reference that its trees are compared with.

overlay.py overlay LAYOUT REF   unpacks each layer by itself with Python's tarfile, with whiteouts as overlayfs has them,
                                mounts them over each other, and lists what is seen; needs CAP_SYS_ADMIN in a mount
                                namespace of its own: `unshare --mount`, or `unshare --user --map-root-user --mount`
overlay.py list DIR             lists a tree that is there
A list has a line a path, sorted: path, kind, mode without set-id bits, size, time, digest or target, the first path that is the same file, and attributes of tests."""
import gzip, hashlib, io, json, os, stat, subprocess, sys, tarfile, tempfile


def listing(root):
    found = {}
    first = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        for name in folders + files:
            path = os.path.join(folder, name)
            try:
                found[os.path.relpath(path, os.fsencode(root))] = os.lstat(path)
            except FileNotFoundError:
                # A whiteout that hides nothing is listed by overlayfs, in a folder that is in one layer alone, and is not there.
                continue
    lines = []
    for path in sorted(found):
        status, full = found[path], os.path.join(os.fsencode(root), path)
        mode = stat.S_IMODE(status.st_mode) & 0o1777
        same = first.setdefault((status.st_dev, status.st_ino), path)
        if stat.S_ISDIR(status.st_mode):
            what = ["folder", oct(mode), xattrs(full)]
        elif stat.S_ISLNK(status.st_mode):
            what = ["link", os.readlink(full).decode(errors="replace"), int(status.st_mtime)]
        elif stat.S_ISREG(status.st_mode):
            with open(full, "rb") as file:
                digest = hashlib.sha256(file.read()).hexdigest()[:16]
            what = ["file", oct(mode), status.st_size, int(status.st_mtime), digest, same.decode(errors="replace"), xattrs(full)]
        else:
            what = [oct(stat.S_IFMT(status.st_mode)), oct(mode)]
        lines.append(json.dumps([path.decode(errors="replace"), *what]))
    return lines


def xattrs(path):
    names = [name for name in os.listxattr(path) if name.startswith("user.test")]
    return {name: os.getxattr(path, name).decode(errors="replace") for name in sorted(names)}


def blob(layout, digest):
    with open(os.path.join(layout, "blobs", *digest.split(":")), "rb") as file:
        return file.read()


def layers(layout, ref):
    with open(os.path.join(layout, "index.json")) as file:
        manifests = json.load(file)["manifests"]
    one = next(m for m in manifests if m.get("annotations", {}).get("org.opencontainers.image.ref.name") == ref)
    for layer in json.loads(blob(layout, one["digest"]))["layers"]:
        data = blob(layout, layer["digest"])
        yield gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def attribute():
    # Overlays in a user namespace of one's own keep their attributes among the user's.
    with open("/proc/self/uid_map") as file:
        return "trusted" if file.read().split() == ["0", "0", "4294967295"] else "user"


def attributes(member, path):
    for key, value in member.pax_headers.items():
        # An empty value takes back what was said before (pax(1)), so Go's readers see no attribute.
        if key.startswith("SCHILY.xattr.") and value:
            os.setxattr(path, key.removeprefix("SCHILY.xattr."), value.encode(errors="surrogateescape"))


def unpack(data, folder):
    """A layer as overlayfs has it, folders' modes last."""
    modes = []
    layer = tarfile.open(fileobj=io.BytesIO(data))
    for member in layer:
        path = os.path.join(folder, member.name)
        parent, name = os.path.split(path)
        os.makedirs(parent, exist_ok=True)
        if name == ".wh..wh..opq":
            os.setxattr(parent, attribute() + ".overlay.opaque", b"y")
        elif name.startswith(".wh."):
            os.mknod(os.path.join(parent, name[4:]), stat.S_IFCHR, 0)
        elif member.isdir():
            os.makedirs(path, exist_ok=True)
            attributes(member, path)
            modes.append((path, member.mode))
        elif member.issym():
            os.symlink(member.linkname, path)
            os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)
        elif member.islnk():
            os.link(os.path.join(folder, member.linkname), path, follow_symlinks=False)
        elif member.isreg():
            with open(path, "wb") as file:
                file.write(layer.extractfile(member).read())
            attributes(member, path)
            os.chmod(path, member.mode)
            os.utime(path, (member.mtime, member.mtime))
        else:
            raise SystemExit(f"{member.name}: a kind that this does not know")
    for path, mode in reversed(modes):
        os.chmod(path, mode)


def overlay(layout, ref):
    with tempfile.TemporaryDirectory() as work:
        # A file system of its own: not every one takes attributes of overlays from an ordinary user.
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", work], check=True)
        os.chdir(work)
        names = []
        for number, data in enumerate(layers(layout, ref)):
            names.append(str(number))
            os.mkdir(names[-1])
            unpack(data, names[-1])
        os.mkdir("empty")
        os.mkdir("seen")
        options = "lowerdir=" + ":".join([*reversed(names), "empty"])
        if attribute() == "user":
            options += ",userxattr"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, "seen"], check=True)
        try:
            return listing("seen")
        finally:
            os.chdir("/")
            subprocess.run(["umount", "-l", os.path.join(work, "seen")], check=True)
            subprocess.run(["umount", "-l", work], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["overlay"] and len(sys.argv) == 4:
        print("\n".join(overlay(sys.argv[2], sys.argv[3])))
    elif sys.argv[1:2] == ["list"] and len(sys.argv) == 3:
        print("\n".join(listing(sys.argv[2])))
    else:
        raise SystemExit(__doc__)
