# shellcheck shell=bash
# What the scripts share. Sourced, never run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1

# A user of rustup may not have it on the PATH of make.
if ! command -v cargo >/dev/null 2>&1 && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
  PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
fi

say() { printf '%s\n' "$*" >&2; }

die() {
  local code=$1
  shift
  say "$*"
  exit "$code"
}

# The target directory, also where the user moved it.
# shellcheck disable=SC2034  # for the scripts that source this
target=${CARGO_TARGET_DIR:-$root/target}

# stage NAME COMMAND...: runs it, one line with the duration. The first failure ends the script.
declare -a done_stages=()
stage() {
  local name=$1 begun=$SECONDS code=0
  shift
  say "── $name"
  "$@" || code=$?
  local took="$((SECONDS - begun)) s"
  if [ "$code" -ne 0 ]; then
    summary
    say "FAILED  $name (exit $code, after $took)"
    exit 1
  fi
  done_stages+=("ok      $name ($took)")
  say "ok      $name ($took)"
}

# A stage that could not be run: said, never hidden.
skipped() { done_stages+=("NOT RUN $1: $2"); say "NOT RUN $1: $2"; }

# not_run WHAT: something that cannot be tried on this machine. Said, and in CI a failure.
not_run() {
  case ${CI:-0} in
    0 | false) say "NOT RUN: $*" ;;
    *) die 1 "NOT RUN, and in CI that is a failure (CI=0 goes on without it): $*" ;;
  esac
}

summary() {
  say ""
  say "summary"
  [ "${#done_stages[@]}" -eq 0 ] || printf '  %s\n' "${done_stages[@]}" >&2
}

# python_packages FOLDER FILE: a virtual environment in FOLDER that holds what FILE pins. Quick where it does already.
python_packages() {
  [ -x "$1/bin/python" ] || python3 -m venv "$1"
  if ! cmp -s "$2" "$1/requirements.txt"; then
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check -r "$2" || return
    cp "$2" "$1/requirements.txt"
  fi
}
