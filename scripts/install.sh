#!/usr/bin/env bash
# make install, make uninstall: the binary, completions, manual pages and the systemd unit.
#
#   scripts/install.sh install      to DESTDIR/PREFIX
#   scripts/install.sh uninstall    takes away exactly these
#   scripts/install.sh tree FOLDER  the same files below FOLDER, for an archive that is unpacked into /usr/local
#
# PREFIX is /usr/local, DESTDIR is empty, BINARY is the release binary. Nothing is built here: an installation as root need not
# run cargo as root. Data, settings and users are not touched.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

prefix=${PREFIX:-/usr/local}
binary=${BINARY:-$target/release/portcullis}

# tree FOLDER PREFIX: everything below FOLDER, which will be known as PREFIX.
tree() {
  local folder=$1 known=$2 made shell page
  [ -x "$binary" ] || die 2 "$binary is not built; run: make build"
  made=$(mktemp -d)
  # shellcheck disable=SC2064  # the folder of now
  trap "rm -rf '$made'" EXIT
  for shell in bash zsh fish; do
    "$binary" completions "$shell" >"$made/$shell"
  done
  "$binary" man "$made/man"
  sed "s|^ExecStart=/usr/local/|ExecStart=${known%/}/|" deploy/systemd/portcullis.service >"$made/unit"

  install -D -m 0755 "$binary" "$folder/bin/portcullis"
  install -D -m 0644 "$made/bash" "$folder/share/bash-completion/completions/portcullis"
  install -D -m 0644 "$made/zsh" "$folder/share/zsh/site-functions/_portcullis"
  install -D -m 0644 "$made/fish" "$folder/share/fish/vendor_completions.d/portcullis.fish"
  for page in "$made"/man/*.1; do
    install -D -m 0644 "$page" "$folder/share/man/man1/${page##*/}"
  done
  install -D -m 0644 "$made/unit" "$folder/lib/systemd/system/portcullis.service"
  install -D -m 0644 portcullis.example.toml "$folder/share/doc/portcullis/portcullis.example.toml"
  install -D -m 0644 LICENSE "$folder/share/doc/portcullis/LICENSE"
}

# What `tree` puts there, by name: the manual has a page for every command, of this version or an older one.
remove() {
  local folder=$1
  rm -f "$folder/bin/portcullis" \
    "$folder/share/bash-completion/completions/portcullis" \
    "$folder/share/zsh/site-functions/_portcullis" \
    "$folder/share/fish/vendor_completions.d/portcullis.fish" \
    "$folder"/share/man/man1/portcullis.1 "$folder"/share/man/man1/portcullis-*.1 \
    "$folder/lib/systemd/system/portcullis.service" \
    "$folder/share/doc/portcullis/portcullis.example.toml" \
    "$folder/share/doc/portcullis/LICENSE"
  rmdir "$folder/share/doc/portcullis" 2>/dev/null || true
}

[[ $prefix == /* ]] || die 2 "PREFIX must be an absolute path, not $prefix"
case ${1:-} in
  install)
    tree "${DESTDIR:-}$prefix" "$prefix"
    say "installed below ${DESTDIR:-}$prefix"
    # systemd looks for units there, and nowhere below other folders.
    case $prefix in
      /usr | /usr/local) say "as a service: systemctl daemon-reload && systemctl enable --now portcullis" ;;
    esac
    ;;
  uninstall)
    remove "${DESTDIR:-}$prefix"
    say "removed from ${DESTDIR:-}$prefix; data and settings stay"
    ;;
  tree) tree "${2:?which folder?}" /usr/local ;;
  *) die 2 "usage: scripts/install.sh install|uninstall|tree FOLDER" ;;
esac
