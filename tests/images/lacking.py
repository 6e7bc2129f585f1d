"""A file system that lacks something, for what the cache asks of the one that it lies on.

lacking.py case|links|symlinks|nothing FOLDER COMMAND...    mounts it on FOLDER and runs COMMAND; needs CAP_SYS_ADMIN in a mount
                                                    namespace of its own, and /dev/fuse

It keeps everything in memory and speaks the kernel's own protocol (fuse(4), include/uapi/linux/fuse.h, version 7.31)."""
import ctypes, errno, os, signal, stat, struct, sys

LOOKUP, FORGET, GETATTR, SETATTR, READLINK, SYMLINK, MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK = 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13
OPEN, READ, WRITE = 14, 15, 16
STATFS, RELEASE, FSYNC, FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, FSYNCDIR, CREATE, INTERRUPT = 17, 18, 20, 25, 26, 27, 28, 29, 30, 35, 36
BATCH_FORGET, RENAME2 = 42, 45
HEAD = struct.Struct("<IIQQIIIHH")


class Refused(Exception):
    pass


class FileSystem:
    def __init__(self, lacks):
        self.lacks = lacks
        # Node: mode, content or names, links, seconds and nanoseconds of the last change.
        self.nodes = {1: [stat.S_IFDIR | 0o700, {}, 2, 0, 0]}

    def key(self, name):
        return name.lower() if self.lacks == "case" else name

    def names(self, node):
        return self.nodes[node][1]

    def attributes(self, node):
        mode, content, links, seconds, nanoseconds = self.nodes[node]
        size = 0 if stat.S_ISDIR(mode) else len(content)
        return struct.pack("<6Q10I", node, size, 0, 0, seconds, 0, 0, nanoseconds, 0, mode, links, os.getuid(), os.getgid(), 0, 4096, 0)

    def entry(self, node):
        return struct.pack("<4Q2I", node, 0, 0, 0, 0, 0) + self.attributes(node)

    def found(self, parent, name):
        node = self.names(parent).get(self.key(name))
        if node is None:
            raise Refused(errno.ENOENT)
        return node

    def add(self, parent, name, mode, content):
        if self.key(name) in self.names(parent):
            raise Refused(errno.EEXIST)
        node = max(self.nodes) + 1
        self.nodes[node] = [mode, content, 1, 0, 0]
        self.names(parent)[self.key(name)] = node
        return node

    def answer(self, code, node, body):
        name = body.split(b"\0")[0]
        if code == INIT:
            return struct.pack("<IIIIHHIIHHI7I", 7, 31, 1 << 16, 0, 0, 0, 1 << 16, 1, 0, 0, 0, *[0] * 7)
        if code == LOOKUP:
            return self.entry(self.found(node, name))
        if code in (GETATTR, SETATTR):
            if code == SETATTR:
                valid, seconds, nanoseconds, mode = struct.unpack_from("<I36xQ12xI4xI", body)
                if valid & 1:
                    self.nodes[node][0] = stat.S_IFMT(self.nodes[node][0]) | stat.S_IMODE(mode)
                if valid & 32:
                    self.nodes[node][3:] = [seconds, nanoseconds]
            return struct.pack("<QII", 0, 0, 0) + self.attributes(node)
        if code == MKDIR:
            return self.entry(self.add(node, body[8:].split(b"\0")[0], stat.S_IFDIR | struct.unpack_from("<I", body)[0], {}))
        if code == MKNOD:
            return self.entry(self.add(node, body[16:].split(b"\0")[0], struct.unpack_from("<I", body)[0], bytearray()))
        if code == CREATE:
            made = self.add(node, body[16:].split(b"\0")[0], struct.unpack_from("<I", body, 4)[0], bytearray())
            return self.entry(made) + struct.pack("<QII", 0, 0, 0)
        if code == SYMLINK:
            if self.lacks == "symlinks":
                raise Refused(errno.EPERM)
            return self.entry(self.add(node, name, stat.S_IFLNK | 0o777, body.split(b"\0")[1]))
        if code == READLINK:
            return bytes(self.nodes[node][1])
        if code == LINK:
            if self.lacks == "links":
                raise Refused(errno.EPERM)
            old = struct.unpack_from("<Q", body)[0]
            self.names(node)[self.key(body[8:].split(b"\0")[0])] = old
            return self.entry(old)
        if code in (UNLINK, RMDIR):
            self.found(node, name)
            del self.names(node)[self.key(name)]
            return b""
        if code in (RENAME, RENAME2):
            into = struct.unpack_from("<Q", body)[0]
            old, new = body[8 if code == RENAME else 16 :].split(b"\0")[:2]
            self.names(into)[self.key(new)] = self.found(node, old)
            del self.names(node)[self.key(old)]
            return b""
        if code in (OPEN, OPENDIR):
            return struct.pack("<QII", 0, 0, 0)
        if code == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return bytes(self.nodes[node][1][offset : offset + size])
        if code == WRITE:
            _, offset, size = struct.unpack_from("<QQI", body)
            content = self.nodes[node][1]
            content[offset : offset + size] = body[40 : 40 + size]
            return struct.pack("<II", size, 0)
        if code == READDIR:
            offset = struct.unpack_from("<Q", body, 8)[0]
            entries = b""
            for number, (name, child) in enumerate(list(self.names(node).items())[offset:], offset + 1):
                entry = struct.pack("<QQII", child, number, len(name), self.nodes[child][0] >> 12) + name
                entries += entry + b"\0" * (-len(entry) % 8)
            return entries
        if code == STATFS:
            return struct.pack("<5Q10I", 1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 4096, 255, 4096, *[0] * 7)
        if code in (RELEASE, RELEASEDIR, FLUSH, FSYNC, FSYNCDIR):
            return b""
        raise Refused(errno.ENOSYS)


def serve(device, system):
    while True:
        request = os.read(device, 1 << 18)
        _, code, unique, node, *_ = HEAD.unpack_from(request)
        if code in (FORGET, BATCH_FORGET, INTERRUPT):
            continue
        try:
            error, body = 0, system.answer(code, node, request[HEAD.size :])
        except Refused as refused:
            error, body = -refused.args[0], b""
        os.write(device, struct.pack("<IiQ", 16 + len(body), error, unique) + body)


def main(lacks, folder, *command):
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"lacking", os.fsencode(folder), b"fuse", 6, options.encode()) != 0:
        raise SystemExit(f"mount: {os.strerror(ctypes.get_errno())}")
    server = os.fork()
    if server == 0:
        serve(device, FileSystem(lacks))
    os.close(device)
    child = os.spawnvp(os.P_WAIT, command[0], command)
    os.kill(server, signal.SIGKILL)
    os.waitpid(server, 0)
    sys.exit(child)


if __name__ == "__main__":
    main(*sys.argv[1:])
