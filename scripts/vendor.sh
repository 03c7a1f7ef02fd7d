#!/usr/bin/env bash
# The page's third-party files: from web/package-lock.json into web/vendor, with their licences and hashes.
#
#   scripts/vendor.sh           writes web/vendor anew
#   scripts/vendor.sh --check   fails where web/vendor differs from what the lockfile says
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

languages="bash c cpp csharp css diff dockerfile go ini java javascript json kotlin lua makefile markdown php python
  ruby rust scss sql swift typescript xml yaml"
vendor=web/vendor

# The packages as the lockfile pins them, in a folder of their own.
modules() {
  (cd web && npm ci --silent --no-audit --no-fund --ignore-scripts)
}

collect() {
  local to=$1 language sums
  mkdir -p "$to/marked" "$to/highlight/languages"
  cp web/node_modules/marked/lib/marked.esm.js "$to/marked/"
  # The map that it names is not shipped.
  sed -i '/^\/\/# sourceMappingURL=/d' "$to/marked/marked.esm.js"
  cp web/node_modules/marked/LICENSE* "$to/marked/LICENSE"
  cp web/node_modules/@highlightjs/cdn-assets/es/core.min.js "$to/highlight/"
  cp web/node_modules/@highlightjs/cdn-assets/LICENSE "$to/highlight/LICENSE"
  for language in $languages; do
    cp "web/node_modules/@highlightjs/cdn-assets/es/languages/$language.min.js" "$to/highlight/languages/"
  done
  sums=$(cd "$to" && find . -type f ! -name SHA256 -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
  printf '%s\n' "$sums" >"$to/SHA256"
}

modules
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
collect "$fresh/vendor"
if [ "${1:-}" = --check ]; then
  diff -r "$vendor" "$fresh/vendor" >&2 || die 1 "web/vendor is not what web/package-lock.json says: run scripts/vendor.sh"
else
  rm -rf "$vendor"
  cp -r "$fresh/vendor" "$vendor"
fi
