#!/usr/bin/env bash
# make ci: make test and the lints. Stops at the first failure; what could not be run is named at the end.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

export CI=${CI:-1} # what cannot be tried on this machine is a failure, not a remark
begun=$SECONDS
deny_limit=${DENY_INSTALL_SECONDS:-360}
tools=$target/tools
PATH=$tools/bin:$PATH
scripts/ensure.sh rust cc engine python node lint

# cargo-deny builds beside the tests, at the lowest priority.
deny_pid=
if ! command -v cargo-deny >/dev/null 2>&1; then
  mkdir -p "$tools"
  say "installing cargo-deny in the background (at most $deny_limit s beside the tests)"
  CARGO_TARGET_DIR=$tools/build setsid nice -n 19 timeout "$deny_limit" \
    cargo install --locked --debug --quiet --root "$tools" cargo-deny >"$tools/cargo-deny.log" 2>&1 &
  deny_pid=$!
fi
end_background() {
  if [ -n "$deny_pid" ]; then kill -- "-$deny_pid" 2>/dev/null || true; fi
}
trap end_background EXIT

format() { cargo fmt --all --check; }
clippy_gateway() { cargo clippy --quiet --workspace --exclude portcullis-engine --all-targets -- -D warnings; }
# In the release profile: llama.cpp is built once, not twice.
clippy_engine() { cargo clippy --quiet --release -p portcullis-engine --all-targets -- -D warnings; }
docs() { RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps --workspace --exclude portcullis-engine; }
shell() { git ls-files -z --cached --others --exclude-standard -- '*.sh' .ci/run | xargs -0 shellcheck -x; }

acceptance() {
  local free=(--env PORTCULLIS_LIMITS_REQUESTS_PER_MINUTE=0 --env PORTCULLIS_LIMITS_CONCURRENT=0 --env PORTCULLIS_LIMITS_LISTS_PER_MINUTE=0)
  python3 ../shared/acceptance/check.py --start "$target/release/portcullis serve" --port 18000 \
    "${free[@]}" --without "*v1*"
}

# What people reported of clients and proxies in front of Ollama, each as a small program.
field() { python3 ../shared/field/run.py "$target/release/portcullis" --strict; }

# The threshold is in tenths. What the unit names need not be installed.
unit() {
  systemd-analyze security --offline=yes --threshold=20 --no-pager deploy/systemd/portcullis.service >/dev/null
}

dockerfiles() { "$tools/python/bin/hadolint" deploy/container/Dockerfile deploy/space/Dockerfile; }
# As written, and as kustomize builds them where kubectl is there.
manifests() {
  "$tools/python/bin/kubernetes-validate" --strict --quiet deploy/kubernetes/{deployment,service,storage,network}.yaml || return
  if command -v kubectl >/dev/null 2>&1; then
    kubectl kustomize deploy/kubernetes >"$tools/manifests.yaml" || return
    "$tools/python/bin/kubernetes-validate" --strict --quiet "$tools/manifests.yaml" || return
    "$tools/python/bin/python" tests/e2e/deployed.py manifests "$tools/manifests.yaml"
  fi
}

# The advisories are a git repository elsewhere; without it the rest is still checked.
deny() {
  cargo deny --log-level error --workspace check licenses bans sources
}
advisories() {
  timeout 120 cargo deny --workspace check advisories >"$tools/advisories.log" 2>&1
}

stage "format" format
stage "configuration documents agree with the keys" python3 scripts/config_docs.py --check
stage "the dashboard shows the metrics that there are" python3 scripts/check_dashboard.py
if command -v systemd-analyze >/dev/null 2>&1; then
  stage "the systemd unit's exposure is 2.0 at most" unit
else
  skipped "the systemd unit's exposure" "no systemd-analyze here"
fi
mkdir -p "$tools"
if python_packages "$tools/python" scripts/requirements.txt; then
  stage "the Dockerfiles pass hadolint" dockerfiles
  stage "the manifests fit Kubernetes' schemas" manifests
else
  case $CI in
    0 | false) skipped "hadolint and kubernetes-validate" "they could not be installed" ;;
    *) die 1 "FAILED  hadolint and kubernetes-validate could not be installed (CI=0 goes on without them)" ;;
  esac
fi
stage "what the page vendors is what its lockfile says" scripts/vendor.sh --check
stage "make test" scripts/test.sh
if [ -d ../shared/acceptance ]; then
  stage "acceptance" acceptance
else
  skipped "acceptance" "../shared/acceptance is not here"
fi
if [ -d ../shared/field ]; then
  stage "field reports" field
else
  skipped "field reports" "../shared/field is not here"
fi
stage "clippy" clippy_gateway
stage "clippy of the engine" clippy_engine
stage "documentation" docs
if command -v shellcheck >/dev/null 2>&1; then
  stage "shellcheck" shell
else
  skipped "shellcheck" "not installed"
fi

if [ -n "$deny_pid" ]; then
  wait "$deny_pid" || say "cargo install cargo-deny ended with an error: $(tail -n 1 "$tools/cargo-deny.log")"
  deny_pid=
fi
if command -v cargo-deny >/dev/null 2>&1; then
  stage "cargo deny: licences, bans, sources" deny
  mkdir -p "$tools"
  if advisories; then
    done_stages+=("ok      cargo deny: advisories")
  elif grep -q "failed to fetch advisory database" "$tools/advisories.log"; then
    skipped "cargo deny: advisories" "the advisory database cannot be fetched from here"
  else
    cat "$tools/advisories.log" >&2
    summary
    die 1 "FAILED  cargo deny: advisories"
  fi
else
  skipped "cargo deny" "cargo-deny could not be installed within $deny_limit s"
fi

# A second release build, static: only where the whole stays short. `make dist` tries its archive by itself.
if [ "$((SECONDS - begun))" -lt "${DIST_BEFORE_SECONDS:-900}" ]; then
  stage "make dist: the archive, tried" scripts/dist.sh
else
  skipped "make dist" "the stages before took over ${DIST_BEFORE_SECONDS:-900} s"
fi

summary
say "ci passed after $((SECONDS - begun)) s"
