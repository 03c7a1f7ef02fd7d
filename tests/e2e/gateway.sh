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
