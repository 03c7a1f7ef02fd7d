#!/usr/bin/env bash
# make test: everything that the project can test on this machine. Stops at the first failure.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

begun=$SECONDS
stage "tools" scripts/ensure.sh rust cc engine python node browser
stage "unit and integration tests (gateway, mock, bench)" \
  cargo test --quiet --workspace --exclude portcullis-engine
stage "release build of the gateway" cargo build --release --quiet -p portcullis
stage "the page in a browser" scripts/page.sh
stage "release build of the engine (minutes the first time)" cargo build --release --quiet -p portcullis-engine
stage "engine tests" cargo test --release --quiet -p portcullis-engine
stage "end to end: real engine, real clients" tests/e2e/run.sh
summary
say "all passed after $((SECONDS - begun)) s"
