#!/usr/bin/env bash
# What deploy/container, deploy/space and deploy/kubernetes would run, as far as it runs without a container engine: the start
# script with a program that stands for `ollama` and with the real engine, and every configuration that is in those files.
#
#   tests/e2e/container.sh        needs target/release/portcullis and target/release/portcullis-engine
#
# All listeners are on loopback. It ends only what it started.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"
# shellcheck source=tests/e2e/gateway.sh
source "$(dirname "${BASH_SOURCE[0]}")/gateway.sh"

start=$root/deploy/container/start.sh
key=container-test-key-of-enough-length
for binary in portcullis portcullis-engine; do
  [ -x "$target/release/$binary" ] || die 2 "$target/release/$binary is not built: cargo build --release -p $binary"
done
mkdir -p "$target/tools"
work=$(mktemp -d)
out=$work/out
fake=$work/fake
python=$target/tools/python/bin/python

finish() {
  local code=$?
  trap - EXIT
  stop_gateway || code=1
  if [ "$code" -ne 0 ] && [ -e "$out" ]; then
    say "the end of what the container would have printed:"
    tail -n 40 "$out" >&2
  fi
  rm -rf "$work"
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() { die 1 "container: $*"; }
passed() { say "container: $*"; }

# The programs of the container: the gateway, and what stands for `ollama`.
programs() {
  mkdir -p "$1"
  ln -sf "$target/release/portcullis" "$1/portcullis"
  cp "$2" "$1/ollama"
  chmod +x "$1/ollama"
}

# container FOLDER [NAME=VALUE...]: start.sh with the programs of FOLDER in front, in the background. Loopback only.
container() {
  local folder=$1
  shift
  port=$(free_port)
  url=http://127.0.0.1:$port
  env "${clean[@]}" HOME="$work/home" PATH="$folder:$PATH" PORT="$port" PORTCULLIS_LISTEN_ADDRESS=127.0.0.1 \
    PORTCULLIS_OPS_PORT=0 PORTCULLIS_DATA_DIR="$work/data" "$@" "$start" >"$out" 2>&1 &
  gateway_pid=$!
}

# The same, but `portcullis up` is replaced by `portcullis check` in the very environment that start.sh makes.
checked() {
  mkdir -p "$work/check"
  cat >"$work/check/portcullis" <<SCRIPT
#!/bin/sh
[ "\$1" = up ] || exit 9
shift
env >"$work/environment"
exec "$target/release/portcullis" check "\$@"
SCRIPT
  chmod +x "$work/check/portcullis"
  env "${clean[@]}" HOME="$work/home" PATH="$work/check:$PATH" "$@" "$start" >"$out" 2>&1
}

# asked STATUS CURL-ARGUMENT...: does it answer with this status? The answer lies in $work/answer, its head in $work/head.
asked() {
  local expected=$1 status
  shift
  status=$(curl -sS -m 30 --noproxy '*' -D "$work/head" -o "$work/answer" -w '%{http_code}' "$@") || true
  [ "$status" = "$expected" ]
}
authorised=(-H "Authorization: Bearer $key")
json=(-H "Content-Type: application/json")
question='{"messages":[{"role":"user","content":"Hello"}],"stream":false}'
chat_works() { asked 200 "${authorised[@]}" "${json[@]}" -d "$question" "$url/chat"; }

exists() { [ -e "$1" ]; }
starts() { [ "$(wc -l <"$fake/starts")" -eq "$1" ]; }
refused() { ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }

defaults() {
  checked PORTCULLIS_DATA_DIR="$work/data" || fail "start.sh: the configuration has faults"
  local line
  for line in PORT=7860 PORTCULLIS_LISTEN_ADDRESS=0.0.0.0 "PORTCULLIS_DATA_DIR=$work/data"; do
    grep -qxF "$line" "$work/environment" || fail "start.sh does not set $line"
  done
  # A folder that cannot be made: below HOME, and said. A folder that is no volume: said too.
  checked PORTCULLIS_DATA_DIR=/proc/none/data || fail "start.sh: no data folder"
  grep -qxF "PORTCULLIS_DATA_DIR=$work/home/.local/share/portcullis" "$work/environment" || fail "not below HOME"
  grep -q '^stateless: .*/home/.local/share/portcullis ' "$out" || fail "start.sh does not say that it is stateless"
  # Public mode: the real start.sh in front of `check`, so nothing listens on 0.0.0.0 whatever it says.
  local code=0
  checked PORTCULLIS_DATA_DIR="$work/data" OLLAMA_API_KEY= || code=$?
  [ "$code" -eq 2 ] || fail "an open gate on 0.0.0.0 is exit $code, not 2"
  grep -q 'i-know-this-is-public' "$out" || fail "the refusal does not say what to do"
  passed "start.sh: defaults, data folder, no open gate by accident"
}

volumes() {
  cat >"$work/mounted" <<'SCRIPT'
#!/bin/bash
# mounted FOLDER COMMAND...: the command where FOLDER is a mount of its own.
set -e
mkdir -p "$1"
mount --bind "$1" "$1"
exec "${@:2}"
SCRIPT
  chmod +x "$work/mounted"
  if ! unshare -rm "$work/mounted" "$work/volume" true 2>/dev/null; then
    not_run "container: a mounted volume: no mount namespace here"
    return
  fi
  env "${clean[@]}" HOME="$work/home" PATH="$work/check:$PATH" PORTCULLIS_DATA_DIR="$work/volume/portcullis" \
    unshare -rm "$work/mounted" "$work/volume" "$start" >"$out" 2>&1 || fail "start.sh on a volume"
  ! grep -q stateless "$out" || fail "a volume is taken for none"
  grep -qxF "PORTCULLIS_DATA_DIR=$work/volume/portcullis" "$work/environment" || fail "the volume is not used"
  passed "start.sh: a volume is recognised"
}

start_sequence() {
  programs "$fake" "$root/tests/fake_ollama.py"
  : >"$fake/hold"
  container "$fake" OLLAMA_API_KEY="$key" OLLAMA_ORIGINS='*' OLLAMA_HOST=0.0.0.0 OLLAMA_MODEL=tiny:1b
  until_true 30 exists "$fake/pid" || fail "Ollama was not started"
  until_true 30 grep -q 'waiting until it is ready' "$out" || fail "it does not say that it waits"
  refused || fail "the gateway listens before Ollama is ready"
  ! PORT=$port "$root/deploy/container/health.sh" 2>/dev/null || fail "healthy before it listens"
  rm "$fake/hold"
  until_true 60 gateway_ready "$url" || fail "not ready"
  PORT=$port "$root/deploy/container/health.sh" || fail "the health check fails on a healthy gateway"
  python3 - "$fake/starts" <<'PYTHON' || fail "what Ollama was given"
import json, sys
first = json.loads(open(sys.argv[1]).readline())
assert first["OLLAMA_HOST"].startswith("127.0.0.1:"), first
ours = [name for name in first if name in ("OLLAMA_API_KEY", "OLLAMA_ORIGINS", "PORT") or name.startswith("PORTCULLIS_")]
assert not ours, ours
PYTHON
  [ "$(cat "$fake/pulled")" = tiny:1b ] || fail "the model was not pulled"
  chat_works || fail "a chat with the key"
  asked 401 "${json[@]}" -d "$question" "$url/chat" || fail "a chat without a key is not 401"
  asked 401 -H "Authorization: Bearer wrong-key-of-enough-length" "${json[@]}" -d "$question" "$url/chat" || fail "a wrong key is not 401"
  asked 403 "${authorised[@]}" "$url/api/tags" || fail "/api/tags is not 403"
  ! grep -qF "$key" "$out" || fail "the operator's key stands in the log"
  passed "start sequence: Ollama on loopback first, without the key; then the gate"

  # It dies; it is started again, and nothing of the gateway's own start is repeated.
  kill -KILL "$(cat "$fake/pid")"
  until_true 30 starts 2 || fail "Ollama was not started again"
  until_true 30 chat_works || fail "no chat after Ollama came back"
  # Not answering is not healthy.
  : >"$fake/hold"
  kill -KILL "$(cat "$fake/pid")"
  unhealthy() { ! PORT=$port "$root/deploy/container/health.sh" 2>/dev/null; }
  until_true 30 unhealthy || fail "the health check does not see that Ollama is gone"
  rm "$fake/hold"
  until_true 60 chat_works || fail "no chat after Ollama came back again"
  passed "a crash of Ollama: seen by the health check, mended by a restart"

  stopped
  passed "SIGTERM: both end, exit code 0"
}

# SIGTERM to what a container engine knows as its process, which must be the gateway itself.
stopped() {
  local gateway=$gateway_pid upstream code=0
  upstream=$(cat "$fake/pid")
  [ "$(readlink "/proc/$gateway/exe")" = "$(readlink -f "$target/release/portcullis")" ] || fail "start.sh stays in between"
  # stop_gateway waits for its end; the exit code is told once.
  kill -TERM "$gateway"
  wait "$gateway" || code=$?
  gateway_pid=
  [ "$code" -eq 0 ] || fail "SIGTERM ends it with exit code $code"
  ! kill -0 "$upstream" 2>/dev/null || fail "Ollama outlives the gateway"
}

generated_key() {
  rm -f "$fake/starts" "$fake/pid"
  container "$fake" OLLAMA_MODEL=tiny:1b
  until_true 60 gateway_ready "$url" || fail "not ready"
  local shown
  shown=$(sed -n 's|^  key    \(pc_[A-Za-z0-9_]*\) .*|\1|p' "$out")
  [ -n "$shown" ] || fail "the generated key is not shown"
  asked 200 -H "Authorization: Bearer $shown" "${json[@]}" -d "$question" "$url/chat" || fail "the generated key does not work"
  stopped
  # Without a key and behind the platform's proxy: refused before anything is started.
  rm -f "$fake/starts"
  container "$fake" OLLAMA_API_KEY= PORTCULLIS_LISTEN_TRUSTED_PROXY=huggingface
  local code=0
  wait "$gateway_pid" || code=$?
  gateway_pid=
  [ "$code" -eq 2 ] || fail "an empty key is exit $code, not 2"
  [ ! -e "$fake/starts" ] || fail "Ollama was started although the configuration has a fault"
  grep -q 'i-know-this-is-public' "$out" || fail "the refusal does not say what to do"
  passed "a generated key is shown and works; an empty one starts nothing"
}

pull_in_build() {
  local pull=$root/deploy/container/pull.sh folder=$work/build code=0
  programs "$folder" "$root/tests/fake_ollama.py"
  mkdir -p "$work/home/.ollama"
  : >"$work/home/.ollama/id_ed25519"
  env "${clean[@]}" HOME="$work/home" PATH="$folder:$PATH" OLLAMA_HOST="127.0.0.1:$(free_port)" "$pull" tiny:1b >"$out" 2>&1 \
    || fail "pull.sh"
  [ "$(cat "$folder/pulled")" = tiny:1b ] || fail "pull.sh did not pull"
  ! kill -0 "$(cat "$folder/pid")" 2>/dev/null || fail "pull.sh leaves Ollama running"
  [ ! -e "$work/home/.ollama/id_ed25519" ] || fail "pull.sh leaves a private key in the image"
  env "${clean[@]}" PATH="$folder:$PATH" OLLAMA_HOST=0.0.0.0:11434 "$pull" tiny:1b >"$out" 2>&1 || code=$?
  [ "$code" -eq 2 ] || fail "pull.sh binds Ollama to any address"
  passed "pull.sh: starts, waits, pulls, stops, leaves no key"
}

real_engine() {
  cat >"$work/engine" <<SCRIPT
#!/bin/sh
# \`ollama serve\`, by the engine: address and port from OLLAMA_HOST as the gateway gives them.
[ "\$1" = serve ] || exit 9
exec "$target/release/portcullis-engine" serve --host "\${OLLAMA_HOST%:*}" --port "\${OLLAMA_HOST##*:}"
SCRIPT
  programs "$work/real" "$work/engine"
  # The user's own HOME: the engine keeps its model in the cache folder there.
  container "$work/real" HOME="$HOME" OLLAMA_API_KEY="$key" OLLAMA_MODEL=smollm2:135m PORTCULLIS_LIMITS_MAX_OUTPUT_TOKENS=60
  until_true "${E2E_READY_SECONDS:-600}" gateway_ready "$url" || fail "the engine is not ready"
  asked 200 "${authorised[@]}" "${json[@]}" -d '{"prompt":"Say hello in one short sentence."}' "$url/chat_api" || fail "POST /chat_api"
  python3 - "$work/answer" <<'PYTHON' || fail "the streamed answer"
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
assert len(lines) > 3 and lines[-1]["done"] is True and lines[-1]["eval_count"] > 0, lines[-1]
assert not any(line["done"] for line in lines[:-1])
text = "".join(line["response"] for line in lines)
assert text.strip(), lines
print("container: the engine said:", " ".join(text.split())[:80], file=sys.stderr)
PYTHON
  stop_gateway
  passed "a real engine in Ollama's place: a streamed answer through start.sh"
}

# The Space with its own variables, the folders aside, which only its image has.
space() {
  local -a variables
  "$python" "$root/tests/e2e/deployed.py" images || fail "the images' files"
  "$python" "$root/tests/e2e/deployed.py" environment "$root/deploy/space/Dockerfile" >"$work/variables"
  mapfile -t variables < <(grep -v -E '^(HOME|PORT)=' "$work/variables")
  checked "${variables[@]}" PORTCULLIS_DATA_DIR="$work/data" || fail "the Space's configuration has faults"
  "$python" "$root/tests/e2e/deployed.py" environment "$root/deploy/container/Dockerfile" >"$work/container"
  mapfile -t container_variables < <(grep -v '^HOME=' "$work/container")
  checked "${container_variables[@]}" PORTCULLIS_DATA_DIR="$work/data" || fail "the container's configuration has faults"

  rm -f "$fake/starts" "$fake/pid"
  container "$fake" "${variables[@]}" OLLAMA_API_KEY="$key" PORTCULLIS_DATA_DIR="$work/data"
  until_true 60 gateway_ready "$url" || fail "the Space is not ready"
  asked 200 "$url/chat" || fail "the Space's page"
  grep -qi '^content-security-policy:.*frame-ancestors https://huggingface.co;' "$work/head" || fail "the page may not be framed"
  ! grep -qi '^x-frame-options:' "$work/head" || fail "another header forbids the frame"
  asked 200 "${authorised[@]}" "${json[@]}" -H "Origin: https://example.com" -d "$question" "$url/chat" || fail "a foreign origin"
  grep -qi $'^access-control-allow-origin: \*\r$' "$work/head" || fail "no Access-Control-Allow-Origin"
  ! grep -qi '^access-control-allow-credentials' "$work/head" || fail "credentials are allowed"
  asked 401 "${json[@]}" -H "Origin: https://example.com" -d "$question" "$url/chat" || fail "a foreign origin without a key"
  ! grep -q OLLAMA_ORIGINS "$fake/starts" || fail "the origins reached Ollama"
  stopped
  passed "the Space: its head, its variables, its frame, its origins"
}

kubernetes() {
  local -a variables
  "$python" "$root/tests/e2e/deployed.py" manifests "$root"/deploy/kubernetes/{deployment,service,storage,network}.yaml \
    >"$work/variables" || fail "the manifests"
  mapfile -t variables <"$work/variables"
  printf '%s\n' "$key" >"$work/api-key"
  env "${clean[@]}" "${variables[@]}" PORT=7860 PORTCULLIS_DATA_DIR=/data OLLAMA_API_KEY_FILE="$work/api-key" \
    PORTCULLIS_CONFIG="$root/deploy/kubernetes/portcullis.toml" "$target/release/portcullis" check >"$out" 2>&1 \
    || fail "the cluster's configuration has faults"
  passed "Kubernetes: the files agree, the configuration is fine"
}

clean_environment
python_packages "$target/tools/python" "$root/scripts/requirements.txt" || fail "PyYAML cannot be installed"
mkdir -p "$work/home"
defaults
volumes
pull_in_build
start_sequence
generated_key
space
kubernetes
real_engine
say "container: all passed"
