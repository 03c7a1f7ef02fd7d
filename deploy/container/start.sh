#!/bin/bash
# What the container runs: `portcullis up`, which starts Ollama on 127.0.0.1, waits until it answers, and then opens the gate.
# Arguments go to it. Nothing here makes it less careful: an empty OLLAMA_API_KEY still needs --i-know-this-is-public.
#
#   PORT                        7860
#   PORTCULLIS_LISTEN_ADDRESS   0.0.0.0, which in a container is what its ports lead to
#   PORTCULLIS_DATA_DIR         /data/portcullis; where that cannot be written, a folder below HOME
set -euo pipefail

# No memory image holds keys or prompts, and no file is for others.
ulimit -c 0
umask 077

# Does FOLDER lie on a volume? Field 5 of mountinfo is where something is mounted; the root and memory are no volumes.
on_volume() {
  local where rest
  while read -r _ _ _ _ where rest; do
    case $rest in *' - tmpfs '*) continue ;; esac
    case $1/ in "${where%/}"/*) [ "$where" = / ] || return 0 ;; esac
  done </proc/self/mountinfo
  return 1
}

data=${PORTCULLIS_DATA_DIR:-/data/portcullis}
if ! mkdir -p "$data" 2>/dev/null || [ ! -w "$data" ]; then
  echo "the data folder $data cannot be written by user $(id -u): $HOME/.local/share/portcullis is used" >&2
  data=$HOME/.local/share/portcullis
fi
if ! on_volume "$data"; then
  echo "stateless: $data is on no volume; its keys and records are gone with this container"
fi

export PORTCULLIS_DATA_DIR=$data
export PORT=${PORT:-7860}
export PORTCULLIS_LISTEN_ADDRESS=${PORTCULLIS_LISTEN_ADDRESS:-0.0.0.0}
exec portcullis up "$@"
