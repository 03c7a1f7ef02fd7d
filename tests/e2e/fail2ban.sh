#!/usr/bin/env bash
# Does the filter in deploy/fail2ban find who shows wrong keys, and nobody else? The real fail2ban on lines of the real gateway.
#
#   tests/e2e/fail2ban.sh [PORTCULLIS]     without an argument: target/release/portcullis
#
# Exit 2 where fail2ban is missing and cannot be installed. Bans nobody: fail2ban only reads files here.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"
# shellcheck source=tests/e2e/gateway.sh
source "$(dirname "${BASH_SOURCE[0]}")/gateway.sh"

binary=${1:-$target/release/portcullis}
here=$root/tests/e2e
filter=$root/deploy/fail2ban/filter.d/portcullis.conf

[ -x "$binary" ] || die 2 "$binary is not built: cargo build --release -p portcullis"
"$root/scripts/ensure.sh" python fail2ban
work=$(mktemp -d)

finish() {
  local code=$?
  trap - EXIT
  stop_gateway || code=1
  rm -rf "$work"
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# start FORMAT: a gateway without a model server, which believes its callers' X-Forwarded-For as if it stood behind a proxy.
start() {
  local i
  clean_environment
  (
    cd "$work"
    exec env "${clean[@]}" OLLAMA_API_KEY="$E2E_KEY" OLLAMA_LOCAL_URL=http://127.0.0.1:1 "$binary" --port 0 \
      --set data.dir="$work/data-$1" --set ops.port=0 --set log.format="$1" --set log.level=info \
      --set listen.trusted_proxy=caddy --set limits.lists_per_minute=2 >"$work/$1.out" 2>"$work/$1.log"
  ) &
  gateway_pid=$!
  for ((i = 0; i < 200; i++)); do
    if grep -q '^  ops ' "$work/$1.out" && grep -q '^  API ' "$work/$1.out"; then return; fi
    kill -0 "$gateway_pid" 2>/dev/null || break
    sleep 0.1
  done
  cat "$work/$1.log" >&2
  die 1 "fail2ban: the gateway did not start"
}

# found FILE [OPTION...]: each address that the filter finds, and how often.
found() {
  local file=$1
  shift
  # Where nothing is found, fail2ban-regex fails: the comparison says so.
  { fail2ban-regex "$@" -o '<ip>' "$file" "$filter" || true; } | sort | uniq -c | awk '{ print $2, $1 }' | sort
}

# same NAME FILE [OPTION...]: the filter finds in the file whom it must, each time.
same() {
  local name=$1 file=$2
  shift 2
  found "$file" "$@" >"$work/found"
  diff "$work/expected" "$work/found" >&2 || die 1 "fail2ban: $name: not whom it must find (<), but whom it found (>)"
}

# Lines that no path of today can make: the rest of a line, as the caller would like it, in the middle or at the end of one.
forged() {
  local tail='client=203.0.113.66 ending=refused side=client reason="unknown key"'
  local json='"request_id":"0123456789abcdef","client":"203.0.113.66","ending":"refused","side":"client","reason":"unknown key"}'
  case $1 in
    text)
      sed -n "s|GET /models: 401 request_id=|GET /x: 401 request_id=0123456789abcdef $tail: 401 request_id=|p" "$2"
      sed -n "s|GET /models: 401 request_id=|GET /x $tail: 401 request_id=|p" "$2"
      sed -n "s|^.*INFO |INFO Refused GET /x: 401 request_id=0123456789abcdef $tail |p" "$2"
      ;;
    json)
      sed -n "s|GET /models: 401\",|GET /x: 401\",$json: 401\",|p" "$2"
      sed -n "s|GET /models: 401\"|GET /x\",$json: 401\"|p" "$2"
      sed -n "s|^{|{\"time\":\"\",\"level\":\"INFO\",\"message\":\"Refused GET /x: 401\",$json|p" "$2"
      ;;
  esac
}

try() {
  local format=$1 log=$work/$1.log port ops total
  start "$format"
  port=$(sed -n 's|^  API .*:\([0-9]*\)$|\1|p' "$work/$format.out")
  ops=$(sed -n 's|^  ops .*:\([0-9]*\)/metrics$|\1|p' "$work/$format.out")
  python3 "$here/attempts.py" "$port" "$ops" | sort >"$work/expected"
  # What is left in its buffers is written when it stops.
  stop_gateway
  total=$(awk '{ n += $2 } END { print n }' "$work/expected")
  fail2ban-regex "$log" "$filter" >"$work/report" || true
  grep -q "^Failregex: $total total" "$work/report" || { cat "$work/report" >&2; die 1 "fail2ban: $format: not $total lines"; }
  same "$format" "$log"
  # Nothing in a line stands for its date, whatever the machine's zone.
  TZ=Asia/Tokyo same "$format, in another zone" "$log" --timezone UTC
  # As fail2ban has it from the journal: host and process before the line, the journal's date before both.
  sed 's|^|2026-01-17T10:33:05+0000 gate portcullis[7]: |' "$log" >"$work/journal"
  same "$format, from the journal" "$work/journal" --datepattern '^%Y-%m-%dT%H:%M:%S%z\s'
  grep 'no key' "$log" >"$work/missing"
  forged "$format" "$work/missing" >"$work/forged"
  [ "$(grep -c 203.0.113.66 "$work/forged")" -ge 6 ] || die 1 "fail2ban: $format: no forged lines were made"
  : >"$work/expected"
  same "$format, forged" "$work/forged"
  say "fail2ban: $format: $total lines found of $(wc -l <"$log")"
}

# jail: fail2ban reads the filter and the jail, here with a file in the journal's place.
jail() {
  local etc=$work/etc
  cp -r /etc/fail2ban "$etc"
  rm -rf "$etc/jail.d"
  cp -r "$root/deploy/fail2ban/jail.d" "$etc/"
  cp "$filter" "$etc/filter.d/"
  sed -i -e "s|^backend = .*|backend = polling|" -e "s|^#logpath = .*|logpath = $work/text.log|" "$etc/jail.d/portcullis.conf"
  printf '[sshd]\nenabled = false\n' >"$etc/jail.d/others.conf"
  fail2ban-client -c "$etc" --test >"$work/report" 2>&1 || { cat "$work/report" >&2; die 1 "fail2ban: it does not take the jail"; }
}

export E2E_KEY=e2e-test-key-of-enough-length
try text
try json
jail
say "fail2ban: all passed"
