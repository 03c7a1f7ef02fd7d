#!/usr/bin/env bash
# make run: build, find or bring an upstream, start the gateway. Arguments go to portcullis.
# PORT, OLLAMA_API_KEY, OLLAMA_MODEL and all PORTCULLIS_* variables pass through.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# The upstream that is asked for, as portcullis reads it.
upstream_url() {
  local url=${PORTCULLIS_UPSTREAM_URL:-${OLLAMA_LOCAL_URL:-}} host scheme=http port=11434
  if [ -z "$url" ]; then
    host=${OLLAMA_HOST:-localhost}
    if [[ $host == *://* ]]; then
      scheme=${host%%://*}
      [ "$scheme" = https ] && port=443
      [ "$scheme" = http ] && port=80
      host=${host#*://}
    fi
    host=${host%%/*}
    # A port stands after the last colon, unless that colon is part of an IPv6 address.
    if [[ $host =~ ^([^:]*|\[.*\]):([0-9]+)$ ]]; then
      host=${BASH_REMATCH[1]}
      port=${BASH_REMATCH[2]}
    fi
    case ${host:-0.0.0.0} in
      0.0.0.0) host=127.0.0.1 ;;
      '[::]' | '::') host='[::1]' ;;
    esac
    url=$scheme://$host:$port
  fi
  printf '%s' "${url%/}"
}

answers() { curl -fsS -m 2 --noproxy '*' -o /dev/null "$1/api/version" 2>/dev/null; }

main() {
  scripts/ensure.sh rust cc
  say "building the gateway"
  cargo build --release --quiet -p portcullis

  local url
  url=$(upstream_url)
  if answers "$url"; then
    say "Ollama answers at $url"
    exec "$target/release/portcullis" serve "$@"
  fi
  say "no Ollama answers at $url"

  if ! command -v ollama >/dev/null 2>&1; then
    scripts/ensure.sh engine
    if [ ! -x "$target/release/portcullis-engine" ]; then
      say "building the engine (llama.cpp): about 5 minutes the first time, seconds after that"
    fi
    cargo build --release --quiet -p portcullis-engine
  fi
  # `up` runs its upstream on this machine, whatever machine was asked for and did not answer.
  case $url in
    *://localhost | *://localhost[:/]* | *://127.* | *'://[::1]'*) ;;
    *) unset OLLAMA_LOCAL_URL PORTCULLIS_UPSTREAM_URL OLLAMA_HOST ;;
  esac
  exec "$target/release/portcullis" up "$@"
}

main "$@"
