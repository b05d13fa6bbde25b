#!/usr/bin/env bash
# Compares the public API of each crate that is published with that of the last release, which is the latest tag v*.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! release=$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null); then
    echo "semver: no tag v* yet, nothing to compare with"
    exit 0
fi
packages=()
while read -r crate _; do packages+=(--package "$crate"); done < <(scripts/published.sh)
cargo semver-checks "${packages[@]}" --baseline-rev "$release"
