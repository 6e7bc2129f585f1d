#!/bin/sh
# Installs undocked for the user who runs this: the program, its manual and its completions.
#
#   curl -fsSL https://github.com/undocked/undocked/releases/latest/download/install.sh | sh
#   sh install.sh [--prefix DIR] [--version VERSION] [--docker]
#
# --prefix DIR   where to, in place of ~/.local
# --version V    another version than the newest
# --docker       a link called `docker`, too
#
# The program comes as undocked-ARCH-linux.gz with its SHA-256 beside it; what does not agree is not installed. UNDOCKED_RELEASES names another place than
# GitHub's releases, by https, or by http on this machine.
set -eu

prefix=${HOME:-}/.local
version=latest
docker=no
fail() {
  echo "install.sh: $1" >&2
  [ -z "${2:-}" ] || echo "hint: $2" >&2
  exit "${3:-1}"
}
while [ $# -gt 0 ]; do
  case $1 in
    --prefix) prefix=${2:?"--prefix needs a folder"} && shift ;;
    --version) version=${2:?"--version needs a version"} && shift ;;
    --docker) docker=yes ;;
    *) fail "unknown option \`$1\`" "--prefix DIR, --version VERSION, --docker" 2 ;;
  esac
  shift
done
[ "$prefix" != /.local ] || fail "there is no home folder" "name a place with --prefix" 2

[ "$(uname -s)" = Linux ] || fail "undocked runs on Linux, and this is $(uname -s)"
case $(uname -m) in
  x86_64 | amd64) architecture=x86_64 ;;
  aarch64 | arm64) architecture=aarch64 ;;
  *) fail "there is no program for $(uname -m)" "build it: cargo install --git https://github.com/undocked/undocked runner" ;;
esac

releases=${UNDOCKED_RELEASES:-https://github.com/undocked/undocked/releases}
case $releases in
  https://*) schemes='=https' ;;
  http://127.0.0.1:* | http://localhost:*) schemes='=http' ;;
  *) fail "\`$releases\` is no place to take programs from" "https, or http on this machine" 2 ;;
esac
case $version in
  latest) place=$releases/latest/download ;;
  *) place=$releases/download/v$version ;;
esac
file=undocked-$architecture-linux.gz

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
get() {
  if command -v curl >/dev/null; then
    curl -fsSL --proto "$schemes" --retry 3 -o "$work/$1" "$place/$1"
  elif command -v wget >/dev/null; then
    wget -q -O "$work/$1" "$place/$1"
  else
    fail "neither curl nor wget is there"
  fi || fail "cannot get $place/$1"
}
get "$file"
get "$file.sha256"
wanted=$(cut -d' ' -f1 "$work/$file.sha256")
found=$(sha256sum "$work/$file" | cut -d' ' -f1)
[ "$wanted" = "$found" ] || fail "$file has SHA-256 $found, and should have $wanted" "the download is damaged, or not what was published"
gzip -dc "$work/$file" >"$work/undocked"
chmod 755 "$work/undocked"
"$work/undocked" --version >/dev/null || fail "the program does not run on this machine"

mkdir -p "$prefix/bin"
# By renaming: a program that runs cannot be written to.
cp "$work/undocked" "$prefix/bin/.undocked.$$"
mv "$prefix/bin/.undocked.$$" "$prefix/bin/undocked"
undocked=$prefix/bin/undocked
"$undocked" man "$prefix/share/man/man1"
completions() {
  mkdir -p "$prefix/share/$2"
  "$undocked" completions "$1" >"$prefix/share/$2/$3"
}
completions bash bash-completion/completions undocked
completions zsh zsh/site-functions _undocked
completions fish fish/vendor_completions.d undocked.fish
[ $docker = no ] || ln -sfn undocked "$prefix/bin/docker"

echo "installed $("$undocked" --version) in $prefix/bin"
case :${PATH:-}: in
  *":$prefix/bin:"*) ;;
  *) echo "hint: $prefix/bin is not in PATH" ;;
esac
"$undocked" doctor >/dev/null 2>&1 || echo "hint: this machine does not grant all that is needed: \`undocked doctor\` says what, and what to do"
