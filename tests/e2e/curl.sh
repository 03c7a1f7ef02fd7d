#!/usr/bin/env bash
# What curl sees: the README's lines, a chat of several turns, refusals, and Ctrl-C in the middle of an answer.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
scratch=$(mktemp -d "$E2E_WORK/curl.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
auth=(-H "Authorization: Bearer $E2E_KEY")
json=(-H "Content-Type: application/json")

fail() {
  printf 'curl: %s\n' "$*" >&2
  exit 1
}

# status EXPECTED NAME CURL-ARGUMENT...: the answer's body and head are kept in $scratch.
status() {
  local expected=$1 name=$2 got
  shift 2
  got=$(curl -sS -m 120 -D "$scratch/head" -o "$scratch/body" -w '%{http_code}' "$@") || fail "$name: curl ended with $?"
  [ "$got" = "$expected" ] || fail "$name: $got instead of $expected: $(head -c 300 "$scratch/body")"
}

# native_error NAME: the last body is Ollama's {"error": "text"} and nothing more.
native_error() {
  python3 -c '
import json, sys
body = json.load(open(sys.argv[1]))
sys.exit(not (list(body) == ["error"] and isinstance(body["error"], str) and body["error"]))
' "$scratch/body" || fail "$1: not the error shape: $(head -c 300 "$scratch/body")"
}

# -- the README's lines, as a reader pastes them
readme_lines() {
  local command n=0
  while IFS= read -r -d '' command; do
    n=$((n + 1))
    KEY=$E2E_KEY OLLAMA_API_KEY=$E2E_KEY bash -euc "curl() { command curl -fsS -m 120 \"\$@\"; }; $command" \
      >"$scratch/readme" || fail "README line $n failed: $command"
    [ -s "$scratch/readme" ] || fail "README line $n gave nothing: $command"
    case $command in
      *'"stream": false'* | *'"stream":false'* | *embed* | */models* | */healthz* | */readyz*) ;;
      *) grep -q '"done":true' "$scratch/readme" || fail "README line $n has no end: $command" ;;
    esac
  done < <(python3 "$here/readme.py" "$root/README.md")
  [ "$n" -gt 0 ] || fail "no tested line in README.md"
}

# -- a chat of several turns, streamed
turns() {
  local first body
  first=$(curl -sSN -m 120 "${auth[@]}" "${json[@]}" "$E2E_URL/chat" \
    -d '{"messages":[{"role":"user","content":"My name is Ada. Say hello to me in one sentence."}],"options":{"seed":7,"num_predict":60}}' \
    | python3 "$here/lines.py" --print) || fail "the first turn"
  body=$(python3 -c '
import json, sys
print(json.dumps({
    "messages": [
        {"role": "user", "content": "My name is Ada. Say hello to me in one sentence."},
        {"role": "assistant", "content": sys.argv[1]},
        {"role": "user", "content": "Now tell me a short story about the sea."},
    ],
    "options": {"seed": 7, "num_predict": 120},
}))' "$first")
  curl -sSN -m 120 "${auth[@]}" "${json[@]}" "$E2E_URL/api/chat" -d "$body" | python3 "$here/lines.py" || fail "the second turn"
  # What the page sends: earlier turns beside the prompt.
  body=$(python3 -c '
import json, sys
body = json.loads(sys.argv[1])
last = body["messages"].pop()
print(json.dumps({"prompt": last["content"], "messages": body["messages"], "options": body["options"]}))' "$body")
  curl -sSN -m 120 "${auth[@]}" "${json[@]}" "$E2E_URL/chat_api" -d "$body" | python3 "$here/lines.py" || fail "/chat_api with turns"
}

refusals() {
  status 401 "no key" "${json[@]}" "$E2E_URL/chat" -d '{"messages":[]}'
  grep -qi '^www-authenticate: *bearer' "$scratch/head" || fail "401 without WWW-Authenticate"
  grep -qi '^x-request-id: ' "$scratch/head" || fail "401 without x-request-id"
  native_error "no key"
  status 401 "wrong key" -H "Authorization: Bearer not-the-key" "$E2E_URL/models"
  native_error "wrong key"
  status 403 "/api/tags" "${auth[@]}" "$E2E_URL/api/tags"
  native_error "/api/tags"
  status 403 "/v1" "${auth[@]}" "$E2E_URL/v1/models"
  status 404 "unknown path" "${auth[@]}" "$E2E_URL/nothing"
  status 405 "wrong method" "${auth[@]}" "$E2E_URL/chat_api"
  grep -qi '^allow: ' "$scratch/head" || fail "405 without Allow"
  status 404 "missing model" "${auth[@]}" "${json[@]}" "$E2E_URL/chat_api" -d '{"model":"no-such-model:1b","prompt":"x"}'
  native_error "missing model"
  status 400 "no prompt" "${auth[@]}" "${json[@]}" "$E2E_URL/chat_api" -d '{}'
  grep -q prompt "$scratch/body" || fail "the 400 does not name the field"
  status 400 "key twice" "${auth[@]}" "${json[@]}" "$E2E_URL/chat_api" -d '{"prompt":"a","prompt":"b"}'
  head -c 22000000 /dev/zero | tr '\0' 'a' >"$scratch/large"
  status 413 "too large" "${auth[@]}" "${json[@]}" "$E2E_URL/chat_api" --data-binary "@$scratch/large"
  native_error "too large"
}

pages() {
  status 307 "/" "$E2E_URL/"
  status 200 "/chat" "$E2E_URL/chat"
  grep -qi '^content-security-policy: .*default-src '"'none'" "$scratch/head" || fail "the page has no policy"
  local asset
  asset=$(grep -o '/static/[^"]*main.js' "$scratch/body") || fail "the page links no script"
  status 200 "$asset" "$E2E_URL$asset"
  grep -qi '^cache-control: .*immutable' "$scratch/head" || fail "a hashed asset may not be kept"
  status 200 "/healthz" "$E2E_URL/healthz"
}

readme_lines
turns
# No model named: the engine's own is used. Ollama's curl lines have no content type.
status 200 "no model" "${auth[@]}" "$E2E_URL/api/generate" -d '{"prompt":"Hi","stream":false,"options":{"num_predict":8}}'
refusals
pages
# Ctrl-C: the engine stops within a second, while it streams and while it makes a whole answer.
python3 "$here/cancel.py" stream
python3 "$here/cancel.py" whole
