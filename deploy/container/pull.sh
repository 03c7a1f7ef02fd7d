#!/bin/bash
# Brings a model into OLLAMA_MODELS while the image is built: starts Ollama on loopback, waits for it, pulls, stops it.
#
#   pull.sh MODEL
set -euo pipefail
model=${1:?which model?}
case ${OLLAMA_HOST:-} in
  127.0.0.1:*) ;;
  *) echo "pull.sh: OLLAMA_HOST must begin with 127.0.0.1:" >&2 && exit 2 ;;
esac

ollama serve &
server=$!
stop() {
  kill -TERM "$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || true
}
trap stop EXIT

answers=
for ((i = 0; i < 300; i++)); do
  if ollama list >/dev/null 2>&1; then
    answers=yes
    break
  fi
  kill -0 "$server" 2>/dev/null || break
  sleep 0.2
done
[ -n "$answers" ] || { echo "pull.sh: ollama serve did not answer" >&2 && exit 1; }

ollama pull "$model"
trap - EXIT
stop
# The key pair that `serve` made is this machine's name at a registry. Whoever runs the image makes one of their own.
rm -f "$HOME/.ollama/id_ed25519" "$HOME/.ollama/id_ed25519.pub"
