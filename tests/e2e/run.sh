#!/usr/bin/env bash
# End to end: the release binaries, a real engine with a real model, and the clients that people use.
#
#   tests/e2e/run.sh        needs target/release/portcullis and target/release/portcullis-engine
#
# Everything it makes lies under target/e2e; it ends only what it started.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"
# shellcheck source=tests/e2e/gateway.sh
source "$(dirname "${BASH_SOURCE[0]}")/gateway.sh"

here=$root/tests/e2e
work=$target/e2e
log=$work/portcullis.log
ready_seconds=${E2E_READY_SECONDS:-600} # the first start fetches the model

for binary in portcullis portcullis-engine; do
  [ -x "$target/release/$binary" ] || die 2 "$target/release/$binary is not built: cargo build --release -p $binary"
done
mkdir -p "$work"
data=$(mktemp -d "$work/data.XXXXXX")

finish() {
  local code=$?
  trap - EXIT
  stop_gateway || code=1
  rm -rf "$data"
  if [ "$code" -ne 0 ]; then
    say "the end of the gateway's log ($log):"
    tail -n 60 "$log" >&2 2>/dev/null || true
  fi
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

clients() {
  python_packages "$work/venv" "$here/requirements.txt" || return
  mkdir -p "$work/node"
  if ! cmp -s "$here/package.json" "$work/node/package.json" || [ ! -d "$work/node/node_modules/ollama" ]; then
    cp "$here/package.json" "$work/node/package.json"
    npm install --prefix "$work/node" --no-audit --no-fund --ignore-scripts --loglevel=error >/dev/null
  fi
}

# The environment without what this user set for another gateway or another Ollama. A small model may ramble to the end of its
# context where nobody bounds it, so the gateway does.
start_gateway() {
  clean_environment
  env "${clean[@]}" PORT="$E2E_PORT" OLLAMA_API_KEY="$E2E_KEY" XDG_DATA_HOME="$data" \
    PORTCULLIS_LOG_FORMAT=text PORTCULLIS_LIMITS_MAX_OUTPUT_TOKENS=300 \
    "$target/release/portcullis" up --engine "$target/release/portcullis-engine" >"$log" 2>&1 &
  gateway_pid=$!
}

wait_ready() { until_true "$ready_seconds" gateway_ready "$E2E_URL"; }

check() {
  local name=$1 begun=$SECONDS
  shift
  "$@" || { say "e2e: $name failed"; exit 1; }
  say "e2e: $name passed ($((SECONDS - begun)) s)"
}

export E2E_KEY=e2e-test-key-of-enough-length
E2E_PORT=$(free_port)
export E2E_PORT E2E_URL=http://127.0.0.1:$E2E_PORT
export E2E_NODE=$work/node E2E_WORK=$work
export NO_PROXY=127.0.0.1,localhost no_proxy=127.0.0.1,localhost

check "clients installed" clients
start_gateway
check "gateway and engine ready" wait_ready

E2E_ENGINE=$(sed -n 's|.*upstream: portcullis-engine on \(http://[0-9.:]*\).*|\1|p' "$log" | head -n 1)
[ -n "$E2E_ENGINE" ] || die 1 "the start-up lines do not say where the engine listens"
export E2E_ENGINE

check "curl" "$here/curl.sh"
check "PyPI ollama" "$work/venv/bin/python" "$here/python_client.py"
check "npm ollama" node "$here/node_client.mjs"
check "the examples for those who move" env OLLAMA_BASE_URL="$E2E_URL" OLLAMA_API_KEY="$E2E_KEY" \
  "$work/venv/bin/python" "$here/examples.py" "$root/docs/MIGRATING.md"
check "the page" "$root/scripts/page.sh" engine "$E2E_URL" "$E2E_KEY"
check "clean stop" stop_gateway

# The engine belongs to the gateway and ends with it.
if curl -fsS -m 2 --noproxy '*' -o /dev/null "$E2E_ENGINE/engine/stats" 2>/dev/null; then
  die 1 "e2e: the engine still runs after the gateway stopped"
fi
if grep -q "$E2E_KEY" "$log"; then
  # `up` shows the key once at start-up, on the line made for it; log lines never do.
  lines=$(grep -c "$E2E_KEY" "$log")
  [ "$lines" -le 2 ] || die 1 "e2e: the key stands on $lines lines of the log"
fi

# With gateways of their own.
check "turns between keys" python3 "$here/fair.py" "$target/release/portcullis" "$target/release/portcullis-engine"
if "$root/scripts/ensure.sh" nginx; then
  check "the doctor" "$here/doctor.sh" "$target/release/portcullis"
else
  not_run "e2e: the doctor behind nginx: nginx is not installed"
fi
check "container, Space and Kubernetes files" "$here/container.sh"
if "$root/scripts/ensure.sh" fail2ban; then
  check "fail2ban" "$here/fail2ban.sh" "$target/release/portcullis"
else
  not_run "e2e: fail2ban is not installed"
fi
say "e2e: all passed"
