#!/usr/bin/env bash
# Does the doctor see what a real nginx does wrong in front of the gateway, and nothing where it does all right?
#
#   tests/e2e/doctor.sh [PORTCULLIS [MOCK_OLLAMA]]     without arguments: target/release/portcullis, target/debug/mock-ollama
#
# Exit 2 where nginx is missing and cannot be installed. Everything listens on loopback; it ends only what it started.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"
# shellcheck source=tests/e2e/gateway.sh
source "$(dirname "${BASH_SOURCE[0]}")/gateway.sh"

binary=$(realpath -m "${1:-$target/release/portcullis}") # it is started from another folder
mock=${2:-$target/debug/mock-ollama}
[ -x "$binary" ] || die 2 "$binary is not built: cargo build --release -p portcullis"
[ -x "$mock" ] || cargo build --quiet -p mock-ollama
"$root/scripts/ensure.sh" python nginx
PATH=$PATH:/usr/sbin
mkdir -p "$target/e2e"
work=$(mktemp -d "$target/e2e/doctor.XXXXXX")
mock_pid='' nginx_pid=''

# end PID SIGNAL: ends what was started here, and waits for it.
end() {
  [ -n "$1" ] || return 0
  kill "-$2" "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}

stop_all() {
  end "$nginx_pid" QUIT
  nginx_pid=
  stop_gateway || true
  end "$mock_pid" INT
  mock_pid=
}

finish() {
  local code=$?
  trap - EXIT
  stop_all
  [ "$code" -eq 0 ] || tail -n 20 "$work"/*.log >&2 2>/dev/null || true
  rm -rf "$work"
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# until_there COMMAND...: within ten seconds.
until_there() {
  local i
  for ((i = 0; i < 100; i++)); do
    if "$@" >/dev/null 2>&1; then return 0; fi
    sleep 0.1
  done
  die 1 "doctor: not within 10 s: $*"
}

# What the gateway is told, and the doctor with it: it stands behind a proxy on this machine.
settings() {
  settings=(PORT="$port" OLLAMA_LOCAL_URL="$url" OLLAMA_API_KEY="$E2E_KEY" OLLAMA_MODEL=alpha:latest HOME="$work"
    PORTCULLIS_DATA_DIR="$work/data" PORTCULLIS_OPS_PORT="$ops" PORTCULLIS_LISTEN_TRUSTED_PROXY="127.0.0.0/8,hops=1")
}

# start LINES: a model server that speaks 25 words in a second, a gateway, and an nginx with these lines in its location, where
# MODEL_SERVER stands for the first.
start() {
  local lines=$1 who=''
  # The one before wrote its address there, too.
  rm -f "$work/mock.out"
  "$mock" serve --gap 40ms --tokens 1000 >"$work/mock.out" 2>"$work/mock.log" &
  mock_pid=$!
  until_there grep -q '^http' "$work/mock.out"
  url=$(head -n 1 "$work/mock.out")
  port=$(free_port) ops=$(free_port) front=$(free_port)
  settings
  clean_environment
  (cd "$work" && exec env "${clean[@]}" "${settings[@]}" "$binary" >"$work/gateway.out" 2>"$work/gateway.log") &
  gateway_pid=$!
  [ "$(id -u)" -ne 0 ] || who="user $(id -un);"
  cat >"$work/nginx.conf" <<CONF
$who
daemon off;
worker_processes 1;
pid $work/nginx.pid;
error_log $work/nginx.log crit;
events { worker_connections 64; }
http {
  access_log off;
  client_body_temp_path $work/body;
  proxy_temp_path $work/proxy;
  fastcgi_temp_path $work/fastcgi;
  uwsgi_temp_path $work/uwsgi;
  scgi_temp_path $work/scgi;
  server {
    listen 127.0.0.1:$front;
    location / {
      proxy_pass http://127.0.0.1:$port;
      proxy_read_timeout 300s;
      ${lines//MODEL_SERVER/$url}
    }
  }
}
CONF
  nginx -p "$work" -c "$work/nginx.conf" &
  nginx_pid=$!
  until_there curl -fsS -m 2 --noproxy '*' "http://127.0.0.1:$front/healthz"
}

# examine NAME CODE: the doctor's JSON in $work/NAME.json, and its exit code.
examine() {
  local name=$1 expected=$2 code=0
  (cd "$work" && env "${clean[@]}" "${settings[@]}" "$binary" doctor --json --url "http://127.0.0.1:$front") \
    >"$work/$name.json" || code=$?
  [ "$code" -eq "$expected" ] || { cat "$work/$name.json" >&2; die 1 "doctor: $name: exit code $code, not $expected"; }
  if grep -q "$E2E_KEY" "$work/$name.json"; then die 1 "doctor: $name: the key is shown"; fi
}

# found NAME CHECK=SEVERITY...: each check's severity.
found() {
  python3 - "$work/$1.json" "${@:2}" <<'PYTHON' || die 1 "doctor: $1: not what it must find"
import json, sys
found = {one["check"]: one for one in json.load(open(sys.argv[1]))["findings"]}
bad = [(want, found[want.split("=")[0]]) for want in sys.argv[2:] if found[want.split("=")[0]]["severity"] != want.split("=")[1]]
for want, one in bad:
    print(f"expected {want}, found {one}", file=sys.stderr)
sys.exit(bool(bad))
PYTHON
}

export E2E_KEY=e2e-test-key-of-enough-length

# shellcheck disable=SC2016  # nginx's own variables
start 'server_tokens off;
      proxy_http_version 1.1;
      proxy_buffering off;
      proxy_set_header X-Forwarded-For $remote_addr;'
examine right 0
found right answers=ok key-required=ok paths=ok headers=ok client-address=ok streaming=ok abort=ok
if [ -n "${DOCTOR_SAMPLE:-}" ]; then
  (cd "$work" && env "${clean[@]}" "${settings[@]}" "$binary" doctor --url "http://127.0.0.1:$front") >"$DOCTOR_SAMPLE-right.txt"
fi
stop_all
# What it says of the abort is what the model server saw.
grep -q '"phase":"Answering"' "$work/mock.out" || die 1 "doctor: the model server saw no abort: $(cat "$work/mock.out")"
say "doctor: nothing is serious behind an nginx that is right"

# As most begin: nothing but proxy_pass. nginx asks as HTTP/1.0 then, and would keep what comes until 4 KiB are there, but for
# X-Accel-Buffering. It hands on the caller's own word for who it is.
# shellcheck disable=SC2016  # nginx's own variables
start ''
examine plain 1
found plain answers=ok key-required=ok paths=ok headers=note client-address=serious streaming=ok abort=ok
stop_all
say "doctor: an nginx without a word about streaming streams"

# Large buffers whatever the gateway says, aborts ignored, headers hidden, the caller's own word for who it is, and one path that leads around the gate.
# shellcheck disable=SC2016  # nginx's own variables
start 'proxy_buffering on;
      proxy_ignore_headers X-Accel-Buffering;
      proxy_buffer_size 64k;
      proxy_buffers 16 64k;
      proxy_busy_buffers_size 128k;
      proxy_ignore_client_abort on;
      proxy_hide_header Content-Security-Policy;
      proxy_set_header X-Forwarded-For $http_x_forwarded_for;
    }
    location /api/tags {
      proxy_pass MODEL_SERVER;'
examine wrong 1
found wrong answers=ok key-required=ok headers=serious client-address=serious streaming=serious abort=serious paths=serious
if [ -n "${DOCTOR_SAMPLE:-}" ]; then
  (cd "$work" && env "${clean[@]}" "${settings[@]}" "$binary" doctor --url "http://127.0.0.1:$front") >"$DOCTOR_SAMPLE-wrong.txt" || true
fi
stop_all
say "doctor: each fault of the other nginx is found"
say "doctor: all passed"
