#!/usr/bin/env bash
# Installs other software that tests talk to, under .broker/services/, without privileges.
#
#   services.sh aio-pika     install aio-pika in a Python environment, unless it is there, and print the path
#                            of its python
#
# Messages go to stderr; stdout has only what was asked for.
# Exit codes: 0 it is there, 3 it cannot be installed here and the last line of stderr says why,
# 2 wrong arguments.
# Tests that need a service are left out with code 3, and fail if CI=true.
set -euo pipefail

root=$(dirname "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)")
base=$root/.broker/services

# The versions that the tests were written for.
aio_pika='aio-pika==10.2.1 aiormq==7.2.4 pamqp==4.0.1'
install_seconds=120

say() { printf 'services: %s\n' "$*" >&2; }
# What cannot be installed here.
unavailable() { say "$*"; exit 3; }
have() { command -v "$1" >/dev/null 2>&1; }

limited() {
    if have timeout; then timeout "$install_seconds" "$@"; else "$@"; fi
}

# Holds a lock until the script ends, because several test programs may ask at once.
lock() {
    mkdir -p "$base"
    if have flock; then
        exec 9>"$base/lock"
        flock -w "$install_seconds" 9 || unavailable "another installation has not ended in $install_seconds s"
    fi
}

# The last line of a log that is not empty.
last_line() { sed '/^[[:space:]]*$/d' "$1" | tail -n 1; }

install_aio_pika() {
    local folder=$base/aio-pika log=$base/aio-pika.log
    local python=$folder/bin/python
    lock
    # Written last, with the versions: a folder without it is not complete, or has others.
    if [ "$(cat "$folder/installed" 2>/dev/null)" != "$aio_pika" ] || ! "$python" -c 'import aio_pika' 2>/dev/null; then
        have python3 || unavailable 'python3 is not installed'
        say "installing aio-pika in $folder"
        rm -rf "$folder"
        limited python3 -m venv "$folder" >"$log" 2>&1 ||
            unavailable "python3 -m venv failed: $(last_line "$log")"
        # shellcheck disable=SC2086
        limited "$python" -m pip install --quiet --no-input --disable-pip-version-check --only-binary :all: $aio_pika \
            >"$log" 2>&1 || unavailable "pip install $aio_pika failed: $(last_line "$log")"
        "$python" -c 'import aio_pika' >"$log" 2>&1 || unavailable "aio-pika cannot be imported: $(last_line "$log")"
        printf '%s\n' "$aio_pika" >"$folder/installed"
    fi
    printf '%s\n' "$python"
}

case ${1:-} in
    aio-pika) [ $# -eq 1 ] || { say 'aio-pika takes no arguments'; exit 2; }; install_aio_pika ;;
    *) say 'usage: services.sh aio-pika'; exit 2 ;;
esac
