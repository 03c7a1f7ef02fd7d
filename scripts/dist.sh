#!/usr/bin/env bash
# make dist: one archive of a release, dist/portcullis-VERSION-TRIPLE.tar.gz, and SHA256SUMS beside it; then tries it.
#
#   scripts/dist.sh           builds, packs, tries
#   scripts/dist.sh --twice   and builds all of it a second time, from a copy in another folder: the bytes must be the same
#
# The same sources and tools give the same bytes: names sorted, owner 0, every time that of SOURCE_DATE_EPOCH or of the last
# commit, no path of this machine in the binary.
set -euo pipefail
shopt -s inherit_errexit
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

scripts/ensure.sh rust cc
triple=$(uname -m)-unknown-linux-gnu
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# pack OUT: builds and packs into the folder OUT. Prints the archive's name.
pack() {
  local out=$1 binary version name folder
  binary=$(scripts/static.sh)
  version=$("$binary" --version)
  name=portcullis-${version#portcullis }-$triple
  folder=$work/pack/$name
  rm -rf "$work/pack"
  mkdir -p "$folder" "$out"
  BINARY=$binary scripts/install.sh tree "$folder"
  python3 scripts/sbom.py "$triple" >"$work/portcullis.cdx.json"
  python3 scripts/sbom.py "$triple" --notices >"$work/THIRD-PARTY"
  install -m 0644 LICENSE "$work/THIRD-PARTY" README.md CHANGELOG.md SECURITY.md portcullis.example.toml "$work/portcullis.cdx.json" "$folder"
  tar --create --directory "$work/pack" --sort=name --format=gnu --owner=0 --group=0 --numeric-owner \
    --mode=u=rwX,go=rX --mtime="@$SOURCE_DATE_EPOCH" "$name" | gzip -n -9 >"$out/$name.tar.gz"
  (cd "$out" && sha256sum "$name.tar.gz" >SHA256SUMS)
  printf '%s\n' "$name"
}

must() { "$@" || die 1 "dist: not so: $*"; }
has() { [ -s "$1" ]; }
mode() { [ "$(stat -c %a "$1")" = "$2" ]; }

# What somebody who fetches the archive would see.
try() {
  local out=$1 name=$2 folder=$work/unpacked/$2 path
  (cd "$out" && sha256sum --quiet --check SHA256SUMS)
  mkdir -p "$work/unpacked" "$work/home"
  tar -xzf "$out/$name.tar.gz" -C "$work/unpacked"
  for path in README.md LICENSE THIRD-PARTY CHANGELOG.md SECURITY.md portcullis.example.toml portcullis.cdx.json; do
    must has "$folder/$path"
  done
  tree_is_whole "$folder"
  # Static: no interpreter is asked for, and nothing is looked up at the start.
  must static "$folder/bin/portcullis"
  must none_of_this_machine "$folder/bin/portcullis"
  must env -i HOME="$work/home" "$folder/bin/portcullis" --version
  must env -i HOME="$work/home" "$folder/bin/portcullis" check --config "$folder/portcullis.example.toml"
  alone "$folder/bin/portcullis"
  must python3 scripts/sbom.py "$triple" --check "$folder/portcullis.cdx.json"
  schema "$folder/portcullis.cdx.json"
}

tree_is_whole() {
  local folder=$1 path
  must mode "$folder/bin/portcullis" 755
  for path in share/bash-completion/completions/portcullis share/zsh/site-functions/_portcullis \
    share/fish/vendor_completions.d/portcullis.fish share/man/man1/portcullis.1 share/man/man1/portcullis-key-create.1 \
    lib/systemd/system/portcullis.service share/doc/portcullis/portcullis.example.toml share/doc/portcullis/LICENSE; do
    must has "$folder/$path"
    must mode "$folder/$path" 644
  done
  must bash -n "$folder/share/bash-completion/completions/portcullis"
}

static() { ! readelf --program-headers "$1" | grep -q INTERP; }
none_of_this_machine() { ! grep -qaF -e "$root/" -e "${CARGO_HOME:-$HOME/.cargo}/" "$1"; }

alone() {
  local code=0
  tests/e2e/empty_root.sh "$1" || code=$?
  case $code in
    0) ;;
    3) not_run "the binary in an empty root: this user may not make one" ;;
    *) die 1 "dist: the binary does not run alone" ;;
  esac
}

# CycloneDX's own schema, where its library can be had.
schema() {
  if python_packages "$target/tools/sbom" scripts/sbom-requirements.txt; then
    must "$target/tools/sbom/bin/python" -c '
import pathlib, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
sys.exit(f"not CycloneDX 1.5: {error}" if error else 0)' "$1"
  else
    not_run "CycloneDX's schema: its library could not be installed"
  fi
}

# make install and make uninstall, into a folder of their own: what comes goes again, and nothing else.
try_install() {
  local name=$1 to=$work/installed
  mkdir -p "$to/opt/gate/share/man/man1"
  : >"$to/opt/gate/share/man/man1/other.1"
  (umask 077 && BINARY=$work/unpacked/$name/bin/portcullis DESTDIR=$to PREFIX=/opt/gate scripts/install.sh install) 2>/dev/null
  tree_is_whole "$to/opt/gate"
  must grep -qx 'ExecStart=/opt/gate/bin/portcullis serve' "$to/opt/gate/lib/systemd/system/portcullis.service"
  must mode "$to/opt/gate/share/zsh/site-functions" 755
  DESTDIR=$to PREFIX=/opt/gate scripts/install.sh uninstall 2>/dev/null
  must test "$(find "$to" -type f)" = "$to/opt/gate/share/man/man1/other.1"
}

out=$root/dist
say "building the static binary: minutes the first time"
name=$(pack "$out")
try "$out" "$name"
try_install "$name"
if [ "${1:-}" = --twice ]; then
  say "once more, from a copy in another folder"
  mkdir "$work/copy"
  git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from=- | tar -x -C "$work/copy"
  rm -rf "$target/twice"
  (cd "$work/copy" && CARGO_TARGET_DIR="$target/twice" scripts/dist.sh) >/dev/null
  rm -rf "$target/twice"
  must cmp "$out/$name.tar.gz" "$work/copy/dist/$name.tar.gz"
  say "built twice, in two folders: the same bytes"
fi
cat "$out/SHA256SUMS"
