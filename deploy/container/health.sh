#!/bin/bash
# The image's health check: is /readyz 200? Ollama's image has neither curl nor wget, so bash speaks the one request itself.
set -eu
exec 3<>"/dev/tcp/127.0.0.1/${PORTCULLIS_LISTEN_PORT:-${PORT:-7860}}"
printf 'GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
read -r -t 4 _ status _ <&3
[ "$status" = 200 ]
