#!/usr/bin/env bash
# Fails unless RabbitMQ of a line answers at an AMQP URL: a comparison with another line would tell of false differences.
#
#   line.sh URL LINE    as amqp://guest:guest@127.0.0.1:5672/%2f 3.10
#
# The version is the one that the broker sends before any login.
set -euo pipefail
url=$1 wanted=$2
die() { printf 'line: %s\n' "$*" >&2; exit 1; }

case $url in amqp://*) ;; *) die "the URL is not one of amqp://" ;; esac
authority=${url#amqp://} authority=${authority%%[/?]*} authority=${authority##*@}
host=${authority%:*} host=${host#[} host=${host%]} port=${authority##*:}
case $port in '' | *[!0-9]*) host=$authority port=5672 ;; esac

# The frame connection.start, without what cannot be printed: a key, the type S, a length of four octets, the value.
start_frame() {
    exec 3<>"/dev/tcp/$host/$port" || exit 1
    printf 'AMQP\0\0\011\001' >&3
    local size
    size=$(head -c 7 <&3 | od -An -tu1 | awk '{ print (($4 * 256 + $5) * 256 + $6) * 256 + $7 }')
    head -c "$size" <&3 | LC_ALL=C tr -c '[:print:]' '.'
}
export -f start_frame
export host port
frame=$(timeout 10 bash -c start_frame) || die "no broker answers at $host:$port"
version=$(sed -nE 's/.*versionS\.{4}([0-9]+(\.[0-9]+)+).*/\1/p' <<<"$frame")
case $version in
    "$wanted".*) ;;
    '') die "the broker at $host:$port does not say its version" ;;
    *) die "RabbitMQ $version answers at $host:$port, not $wanted: set AMQP_URL, or run scripts/broker.sh start" ;;
esac
