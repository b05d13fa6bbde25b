#!/usr/bin/env bash
# Packages every crate that is published, and builds the packages. Fails if a package lacks its licence files.
# Needs cargo 1.90 or later, which can package crates that depend on each other before they are published.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

packages=()
while read -r crate _; do
    packages+=(--package "$crate")
    files=$(cargo package --quiet --list --allow-dirty --package "$crate")
    for licence in LICENSE-APACHE LICENSE-MIT; do
        if ! grep -qx "$licence" <<<"$files"; then
            echo "package: $crate has no $licence in its package" >&2
            exit 1
        fi
    done
done < <(scripts/published.sh)
[ ${#packages[@]} -gt 0 ] || { echo 'package: no crate is published' >&2; exit 1; }

# Cargo assumes that a package of a registry does not change without its version, and keeps the unpacked and the
# compiled package of the last run.
export CARGO_TARGET_DIR=target/package-check
rm -rf "$CARGO_TARGET_DIR"/package "$CARGO_TARGET_DIR"/debug/.fingerprint/actix-pika* \
    "${CARGO_HOME:-$HOME/.cargo}"/registry/src/-*/actix-pika*
# With the default features, because all others compile for minutes: what a package lacks shows there.
cargo package "${packages[@]}" --allow-dirty
