#!/usr/bin/env bash
# Does a binary run where there is nothing but itself, as in the image of the gateway alone? In an empty root it must start, find
# its upstream by a name that only /etc/hosts there knows, and serve.
#
#   tests/e2e/empty_root.sh PORTCULLIS     the static binary of scripts/static.sh
#
# Exit 3 where this user may not change the root, in a user namespace neither. Loopback only; it ends only what it started.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"
# shellcheck source=tests/e2e/gateway.sh
source "$(dirname "${BASH_SOURCE[0]}")/gateway.sh"

work=$(mktemp -d)
upstream_pid=
finish() {
  local code=$?
  trap - EXIT
  stop_gateway || code=1
  [ -z "$upstream_pid" ] || kill "$upstream_pid" 2>/dev/null || true
  [ "$code" -eq 0 ] || cat "$work/out" >&2 2>/dev/null || true
  rm -rf "$work"
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# What the Dockerfile puts there, and the hosts that a container engine adds.
install -D -m 0755 "$1" "$work/root/portcullis"
install -d -m 1777 "$work/root/tmp"
install -d -m 0700 "$work/root/data"
mkdir "$work/root/etc"
printf 'hosts: files dns\n' >"$work/root/etc/nsswitch.conf"
printf '127.0.0.1 model-server\n' >"$work/root/etc/hosts"
unshare -r chroot "$work/root" /portcullis --version >"$work/out" 2>&1 || {
  unshare -r true 2>/dev/null || exit 3
  die 1 "empty root: it does not run"
}

upstream=$(free_port)
port=$(free_port)
install -D -m 0755 "$root/tests/fake_ollama.py" "$work/ollama/ollama"
OLLAMA_HOST=127.0.0.1:$upstream "$work/ollama/ollama" serve &
upstream_pid=$!
clean_environment
env "${clean[@]}" OLLAMA_API_KEY=empty-root-key-of-enough-length OLLAMA_LOCAL_URL="http://model-server:$upstream" PORT="$port" \
  PORTCULLIS_DATA_DIR=/data PORTCULLIS_OPS_PORT=0 unshare -r chroot "$work/root" /portcullis serve >"$work/out" 2>&1 &
gateway_pid=$!
until_true 30 gateway_ready "http://127.0.0.1:$port" || die 1 "empty root: not ready"
stop_gateway
say "empty root: it runs alone, and names resolve"
