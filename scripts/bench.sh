#!/usr/bin/env bash
# make bench: CPU per request and per streamed line against bare nginx, in one run on this machine.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

scripts/ensure.sh rust cc bench
cargo build --release --quiet -p portcullis -p mock-ollama -p portcullis-bench
for script in crates/bench/run.sh crates/bench/compare.sh crates/bench/nginx.sh; do
  if [ -x "$script" ]; then exec "$script" "$@"; fi
done
exec "$target/release/portcullis-bench" "$@"
