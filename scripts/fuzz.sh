#!/bin/sh
# Runs each fuzz target, or those given: scripts/fuzz.sh [seconds-per-target] [target ...]
# Uses the stable toolchain without sanitizers, because this project has no unsafe code.
set -eu
cd "$(dirname "$0")/.."

seconds=${1:-20}
[ $# -gt 0 ] && shift

missing=""
command -v c++ >/dev/null || missing="$missing
  a C++ compiler, for libFuzzer (Debian: apt install g++)"
cargo fuzz --version >/dev/null 2>&1 || missing="$missing
  cargo-fuzz (cargo install cargo-fuzz --locked)"
if [ -n "$missing" ]; then
    echo "fuzz: cannot build, missing:$missing" >&2
    echo "fuzz: 'make hostile' runs the state machines with seeded scripts, and needs neither" >&2
    exit 1
fi

# shellcheck disable=SC2046 # one word for each target
[ $# -gt 0 ] || set -- $(cargo fuzz list)
for target in "$@"; do
    corpus="fuzz/corpus/$target"
    log="fuzz/corpus/$target.log"
    mkdir -p "$corpus"
    if ! cargo fuzz run -s none "$target" "$corpus" "fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -max_len=8192 -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 >"$log" 2>&1
    then
        cat "$log"
        exit 1
    fi
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "$target: $runs runs in $seconds s"
done
