#!/usr/bin/env bash
# Runs rabbitmqctl against a node of this project: the first node, or the one named by the first
# argument, `second` or `cluster1` to `cluster3`. `four` as the very first argument selects the nodes
# of RabbitMQ 4.0.
#
#   scripts/ctl.sh list_queues
#   scripts/ctl.sh second set_vm_memory_high_watermark 0
#   scripts/ctl.sh four second list_queues
set -euo pipefail

line=()
if [ "${1:-}" = four ]; then
    line=(four)
    shift
fi
node=first
case ${1:-} in
    second | cluster[123])
        node=$1
        shift
        ;;
esac
exec bash "$(dirname "${BASH_SOURCE[0]}")/broker.sh" ${line[@]+"${line[@]}"} __ctl "$node" rabbitmqctl "$@"
