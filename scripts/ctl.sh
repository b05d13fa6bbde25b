#!/usr/bin/env bash
# Runs rabbitmqctl against a node of this project: the first node, or the one named by the first
# argument, `second` or `cluster1` to `cluster3`. A version as the very first argument, `4.0` or `4.3`,
# selects the nodes of that RabbitMQ.
#
#   scripts/ctl.sh list_queues
#   scripts/ctl.sh second set_vm_memory_high_watermark 0
#   scripts/ctl.sh 4.3 second list_queues
set -euo pipefail

version=()
case ${1:-} in
    [0-9]*)
        version=("$1")
        shift
        ;;
esac
node=first
case ${1:-} in
    second | cluster[123])
        node=$1
        shift
        ;;
esac
exec bash "$(dirname "${BASH_SOURCE[0]}")/broker.sh" ${version[@]+"${version[@]}"} __ctl "$node" rabbitmqctl "$@"
