#!/usr/bin/env bash
# Packages every crate and builds the packages. Fails if a package lacks its licence files.
# Needs cargo 1.90 or later, which can package crates that depend on each other before they are published.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for crate in $(cargo tree --quiet --workspace --depth 0 --prefix none | awk 'NF { print $1 }' | sort -u); do
    files=$(cargo package --quiet --list --allow-dirty --package "$crate")
    for licence in LICENSE-APACHE LICENSE-MIT; do
        if ! grep -qx "$licence" <<<"$files"; then
            echo "package: $crate has no $licence in its package" >&2
            exit 1
        fi
    done
done

# Cargo assumes that a package of a registry does not change without its version, and keeps the unpacked and the
# compiled package of the last run.
export CARGO_TARGET_DIR=target/package-check
rm -rf "$CARGO_TARGET_DIR"/package "$CARGO_TARGET_DIR"/debug/.fingerprint/actix-pika* \
    "${CARGO_HOME:-$HOME/.cargo}"/registry/src/-*/actix-pika*
cargo package --workspace --all-features --allow-dirty
