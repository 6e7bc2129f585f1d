#!/bin/bash
# Installs the real clients that tests talk to the Invoke API with: boto3 and awscli from PyPI, @aws-sdk/client-lambda from npm (40 MB to download);
# aws-sdk-lambda, lambda_runtime and lambda-extension from crates.io, in the programs of rust/ (a minute or two to compile); pytest and maturin for our own
# Python module; and AWS's emulator, which they compare the Runtime API with, out of the wheel of aws-sam-cli (8 MB).
# They go into $LAMBDA_IMAGES_CACHE/clients (default /var/cache/lambda-images/clients), once for each set of pinned versions.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${LAMBDA_IMAGES_CACHE:-/var/cache/lambda-images}/clients

# installed NAME PIN: whether NAME is there as PIN says
installed() { cmp -s "$here/$2" "$target/$1/$2"; }

# publish NAME PIN: puts the folder that was made in place of an older one, whole
publish() {
  cp "$here/$2" "$work/$1/$2"
  chmod -R go+rX "$work/$1"
  rm -rf "${target:?}/$1"
  mv "$work/$1" "$target/$1"
}

mkdir -p "$target"
chmod 755 "$target"
work=$(mktemp -d "$target/.install.XXXXXX")
trap 'rm -rf "$work"' EXIT

if ! installed python requirements.txt; then
  python3 -m pip install --quiet --no-deps --disable-pip-version-check --root-user-action ignore \
    --target "$work/python" -r "$here/requirements.txt"
  publish python requirements.txt
fi
if ! installed node package-lock.json; then
  mkdir "$work/node"
  cp "$here/package.json" "$here/package-lock.json" "$work/node"
  (cd "$work/node" && npm ci --silent --no-audit --no-fund --ignore-scripts)
  publish node package-lock.json
fi

# What the tests of our own modules (clients/) run with.
if ! installed modules modules.txt; then
  python3 -m pip install --quiet --no-deps --disable-pip-version-check --root-user-action ignore \
    --target "$work/modules" -r "$here/modules.txt"
  publish modules modules.txt
fi
# AWS's crates: static, so that they run in any image; debug information and optimisation would only cost time.
inputs=$(cd "$here/rust" && { rustc -V && sha256sum Cargo.toml Cargo.lock src/bin/*.rs; } | sha256sum | cut -d' ' -f1)
if [ "$(cat "$target/rust/inputs" 2>/dev/null)" != "$inputs" ]; then
  triple=$(rustc -vV | sed -n 's/^host: //p')
  CARGO_TARGET_DIR="$work/build" cargo build --quiet --locked --manifest-path "$here/rust/Cargo.toml" --target "$triple" \
    --config 'build.rustflags=["-Ctarget-feature=+crt-static"]'
  mkdir "$work/rust"
  for program in invoke function extension; do
    strip -o "$work/rust/$program" "$work/build/$triple/debug/$program"
  done
  rm -r "$work/build"
  printf '%s\n' "$inputs" >"$work/rust/inputs"
  chmod -R go+rX "$work/rust"
  rm -rf "$target/rust"
  mv "$work/rust" "$target/rust"
fi

case $(uname -m) in
  x86_64) emulator=aws-lambda-rie-x86_64 ;;
  *) emulator=aws-lambda-rie-arm64 ;;
esac
if ! cmp -s "$here/emulator.txt" "$target/emulator.txt" || [ ! -x "$target/aws-lambda-rie" ]; then
  mkdir "$work/wheel"
  python3 -m pip download --quiet --no-deps --disable-pip-version-check --dest "$work/wheel" -r "$here/emulator.txt"
  python3 - "$work/wheel" "samcli/local/rapid/$emulator" "$work/aws-lambda-rie" <<'PYTHON'
import glob, sys, zipfile
folder, member, output = sys.argv[1:]
with zipfile.ZipFile(glob.glob(folder + "/*.whl")[0]) as wheel, open(output, "wb") as file:
    file.write(wheel.read(member))
PYTHON
  chmod 755 "$work/aws-lambda-rie"
  mv "$work/aws-lambda-rie" "$target/aws-lambda-rie"
  cp "$here/emulator.txt" "$target/emulator.txt"
fi
