#!/usr/bin/env bash
# Installs what is missing on this machine, or says what to install.
#
#   scripts/ensure.sh GROUP...
#
#   rust     cargo (never installed here: see https://rustup.rs)
#   cc       a C compiler and linker, which Rust needs to link
#   engine   cc, and what llama.cpp takes to build: C++, cmake, libclang; pip for the model
#   python   python3 with venv and pip, for the end-to-end tests
#   node     Node.js 18 or later and npm, for the end-to-end tests
#   bench    nginx and wrk
#   lint     shellcheck
#   browser  chromium and its fonts, for the tests of the page
#   nginx    nginx, as the proxy that the doctor looks at
#   fail2ban fail2ban, for the test of its filter (Debian starts its service with it)
#
# Quiet when nothing is missing. Exit 2 when something is, and this user cannot install it.
# shellcheck disable=SC2317  # the has_ functions are called by name, through need
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

declare -a packages=() reasons=()

# need REASON CHECK PACKAGE...: notes the packages where the check fails.
need() {
  local reason=$1 check=$2
  shift 2
  if ! "$check" >/dev/null 2>&1; then
    reasons+=("$reason")
    packages+=("$@")
  fi
}

has_cc() { printf 'int main(void) { return 0; }\n' | cc -x c -o /dev/null -; }
has_cxx() { printf '#include <vector>\nint main() { return 0; }\n' | c++ -x c++ -o /dev/null -; }
has_make() { command -v make; }
has_cmake() { command -v cmake; }
has_curl() { command -v curl; }
has_pip() { python3 -m pip --version; }
has_venv() { python3 -c 'import ensurepip, venv'; }
has_npm() { command -v npm; }
has_node() { node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 18 ? 0 : 1)'; }
has_nginx() { command -v nginx || [ -x /usr/sbin/nginx ]; }
has_wrk() { command -v wrk; }
has_chromium() { command -v chromium; }
has_fail2ban() { command -v fail2ban-regex; }
has_shellcheck() { command -v shellcheck; }

# The library that bindgen loads, and the headers that come with it.
has_libclang() {
  local library header
  if [ -n "${LIBCLANG_PATH:-}" ]; then
    [ -e "$LIBCLANG_PATH" ]
    return
  fi
  for library in /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* /usr/lib64/libclang*.so*; do
    [ -e "$library" ] || continue
    for header in /usr/lib/llvm-*/lib/clang/*/include/stddef.h /usr/lib/clang/*/include/stddef.h; do
      [ -e "$header" ] && return 0
    done
  done
  return 1
}

look() {
  packages=()
  reasons=()
  local group
  for group in "$@"; do
    case $group in
      rust) command -v cargo >/dev/null 2>&1 || die 2 "cargo is missing. Install Rust first: https://rustup.rs" ;;
      cc) need "a C compiler and linker" has_cc build-essential ;;
      engine)
        need "a C compiler and linker" has_cc build-essential
        need "a C++ compiler" has_cxx build-essential
        need "make" has_make build-essential
        need "cmake" has_cmake cmake
        need "libclang" has_libclang libclang-dev
        need "curl" has_curl curl ca-certificates
        need "python3 with pip" has_pip python3-pip
        ;;
      python)
        need "python3 with venv" has_venv python3-venv
        need "python3 with pip" has_pip python3-pip
        need "curl" has_curl curl ca-certificates
        ;;
      node)
        need "Node.js 18 or later" has_node nodejs
        need "npm" has_npm npm
        ;;
      bench)
        need "nginx" has_nginx nginx-light
        need "wrk" has_wrk wrk
        need "python3" has_venv python3-venv
        ;;
      nginx) need "nginx" has_nginx nginx-light ;;
      browser) need "chromium" has_chromium chromium fonts-dejavu-core ;;
      fail2ban) need "fail2ban" has_fail2ban fail2ban ;;
      lint) need "shellcheck" has_shellcheck shellcheck ;;
      *) die 2 "unknown group: $group (see the head of scripts/ensure.sh)" ;;
    esac
  done
  if [ "${#packages[@]}" -gt 0 ]; then
    mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
  fi
}

list() {
  local text
  text=$(printf '%s, ' "${reasons[@]}")
  printf '%s' "${text%, }"
}

install() {
  local log
  log=$(mktemp)
  say "missing: $(list); installing: ${packages[*]}"
  export DEBIAN_FRONTEND=noninteractive
  # Where the list of packages is old, the update brings names that can be fetched.
  if ! apt-get -o DPkg::Lock::Timeout=300 update -qq >"$log" 2>&1 \
    || ! apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${packages[@]}" >>"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    die 2 "apt could not install them. By hand: apt-get update && apt-get install -y ${packages[*]}"
  fi
  rm -f "$log"
}

[ "$#" -gt 0 ] || die 2 "usage: scripts/ensure.sh GROUP...   (rust cc engine python node bench lint browser nginx fail2ban)"
look "$@"
[ "${#packages[@]}" -eq 0 ] && exit 0

if command -v apt-get >/dev/null 2>&1; then
  if [ "$(id -u)" -eq 0 ]; then
    install
    hash -r
    look "$@"
    [ "${#packages[@]}" -eq 0 ] && exit 0
    die 2 "still missing after the installation: $(list)"
  fi
  die 2 "missing: $(list). Install with:  sudo apt-get update && sudo apt-get install -y ${packages[*]}"
fi
die 2 "missing: $(list). On Debian or Ubuntu:  apt-get install -y ${packages[*]}  (elsewhere the packages that bring the same)"
