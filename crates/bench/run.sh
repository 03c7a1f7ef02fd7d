#!/usr/bin/env bash
# CPU per request and per streamed line against bare nginx, in one run on this machine. Needs nginx (Debian: nginx-light).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
cargo build --release --quiet -p portcullis -p portcullis-bench
exec "${CARGO_TARGET_DIR:-target}/release/portcullis-bench" compare "$@"
