# shellcheck shell=bash
# What the end-to-end scripts that start a gateway share. Sourced behind scripts/lib.sh, never run. `gateway_pid` is its process.

gateway_pid=

# SIGTERM, then a bounded wait, then SIGKILL: only the gateway that was started here.
stop_gateway() {
  [ -n "$gateway_pid" ] || return 0
  local pid=$gateway_pid i
  gateway_pid=
  kill -TERM "$pid" 2>/dev/null || true
  for ((i = 0; i < 300; i++)); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  if kill -0 "$pid" 2>/dev/null; then
    say "the gateway did not stop within 30 s"
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    return 1
  fi
  wait "$pid" 2>/dev/null || true
}

# Fills `clean` with what env needs to forget what this user set for another gateway or another Ollama.
declare -a clean=()
clean_environment() {
  local name
  clean=()
  while IFS= read -r name; do
    clean+=(-u "$name")
  done < <(compgen -e | grep -E '^(PORTCULLIS_|OLLAMA_|PORT$)' || true)
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# until_true SECONDS COMMAND...: asks until it is so. Fails when the time is over, or when the gateway ended meanwhile.
until_true() {
  local limit=$1 begun=$SECONDS
  shift
  until "$@"; do
    if ! kill -0 "$gateway_pid" 2>/dev/null; then
      say "the gateway ended, and it is not so: $*"
      return 1
    fi
    if [ $((SECONDS - begun)) -ge "$limit" ]; then
      say "not so within $limit s: $*"
      return 1
    fi
    sleep 0.1
  done
}

# gateway_ready URL: /readyz says yes.
gateway_ready() { curl -fsS -m 2 --noproxy '*' -o /dev/null "$1/readyz" 2>/dev/null; }
