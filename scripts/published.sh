#!/usr/bin/env bash
# Prints a line "name folder" for each crate of the workspace that is published. The others are examples with
# dependencies of their own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Lines of "name v1.2.3 (folder)".
cargo tree --quiet --workspace --depth 0 --prefix none | sed -n 's/^\([^ ]*\) .*(\(.*\)).*/\1 \2/p' | sort -u |
    while read -r crate folder; do
        grep -q '^publish = false' "$folder/Cargo.toml" || printf '%s %s\n' "$crate" "$folder"
    done
