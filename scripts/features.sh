#!/usr/bin/env bash
# Checks each crate that is published with no feature, with each feature alone and with all features; warnings are errors.
# Uses the toolchain of the MSRV (`rust-version` in Cargo.toml) if it is installed, else the default one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

msrv=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
installed=$(rustup toolchain list 2>/dev/null | sed -n "s/^\(${msrv//./\\.}[.-][^ ]*\).*/\1/p" | head -n 1)
if [ -n "$installed" ]; then
    export RUSTUP_TOOLCHAIN=$installed
    echo "features: checking with the MSRV, $(rustc --version)"
else
    echo "features: the MSRV $msrv is not installed, checking with $(rustc --version)"
fi

# A target folder of its own, because RUSTFLAGS differ from those of the other commands.
export CARGO_TARGET_DIR=target/features RUSTFLAGS="-D warnings"

check() {
    echo "features: $*"
    cargo check --quiet --lib "$@"
}

scripts/published.sh |
    while read -r crate folder; do
        features=$(awk '/^\[/ { inside = $0 == "[features]" } inside && /^[a-z0-9_-]+ *=/ { print $1 }' "$folder/Cargo.toml")
        check --package "$crate" --no-default-features
        for feature in $features; do
            [ "$feature" = default ] || check --package "$crate" --no-default-features --features "$feature"
        done
        check --package "$crate" --all-features
    done
