#!/usr/bin/env bash
# Holds the test broker against nodes of RabbitMQ by random sequences of operations.
#
#   differential.sh [SEEDS [LINE ...]]    SEEDS as 0..20000; lines are V3_10, V4_0 and V4_3, all at once unless named
#
# Each line writes its state to stderr and its result at the end. Fails if there is a difference.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seeds=${1:-0..20000}
shift || true
lines=("$@")
[ ${#lines[@]} -gt 0 ] || lines=(V3_10 V4_0 V4_3)

# The address in an AMQP URL.
address() { sed -E 's#^amqp://([^@/]*@)?([^/?]*).*#\2#' <<<"$1"; }

# Both the driver and the broker are in it: without optimization, they take more time than the nodes.
export CARGO_PROFILE_TEST_OPT_LEVEL=2
cargo test --quiet --package actix-pika-broker --test differential --no-run
# All nodes, before the first comparison begins.
nodes=()
for line in "${lines[@]}"; do
    case $line in
        V3_10) version=3.10 url=$(scripts/broker.sh ensure rabbitmq) ;;
        V4_0) version=4.0 url=$(scripts/broker.sh 4.0 ensure) ;;
        V4_3) version=4.3 url=$(scripts/broker.sh 4.3 ensure) ;;
        *) echo "differential: no line $line" >&2; exit 1 ;;
    esac
    scripts/line.sh "$url" "$version"
    nodes+=("$(address "$url") $line")
done

running=()
# With `set -m`, each job is a process group: cargo, and the test that it runs.
end_jobs() { for job in "${running[@]}"; do kill -- "-$job" 2>/dev/null || true; done; }
trap end_jobs EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
set -m
for node in "${nodes[@]}"; do
    BROKER_ORACLE=$node BROKER_SEEDS=$seeds \
        cargo test --quiet --package actix-pika-broker --test differential -- as_a_node --nocapture &
    running+=($!)
done
status=0
while [ ${#running[@]} -gt 0 ]; do
    wait "${running[0]}" || status=1
    running=("${running[@]:1}")
done
exit $status
