#!/usr/bin/env bash
# The gateway's release binary, linked statically, for images and archives. Prints where it is.
#
# glibc, not musl: the libc and the allocator are then those that are measured and tested everywhere else. Since glibc 2.34 the
# resolvers `files` and `dns` are part of libc itself, so names are resolved without a shared library; other services of
# /etc/nsswitch.conf are passed over where their library is not there.
#
# Random bytes come from the system call: a static program cannot look up whether libc has it, and would open /dev/urandom.
#
# The target is named although it is the machine's own: the flag would otherwise hold for procedural macros too, which are
# shared libraries. No path of the machine that builds stays in the binary.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

triple=$(uname -m)-unknown-linux-gnu
cargo_home=${CARGO_HOME:-$HOME/.cargo}
separator=$'\x1f'
flags=(-C target-feature=+crt-static --cfg 'getrandom_backend="linux_getrandom"' --remap-path-prefix "$cargo_home=cargo"
  --remap-path-prefix "$root=portcullis" --remap-path-prefix "$target=target")
CARGO_ENCODED_RUSTFLAGS=$(IFS=$separator && printf '%s' "${flags[*]}")
export CARGO_ENCODED_RUSTFLAGS
export CFLAGS="${CFLAGS:-} -ffile-prefix-map=$cargo_home=cargo -ffile-prefix-map=$target=target"

cargo build --release --locked --quiet -p portcullis --target "$triple" >&2
printf '%s\n' "$target/$triple/release/portcullis"
