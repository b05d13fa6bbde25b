#!/usr/bin/env bash
# rabbitmqctl against the project's own node; with `second` first, against the second one; with
# `cluster1` to `cluster3`, against that node of the cluster; with `four` before `second` or alone,
# against those of RabbitMQ 4.0.
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
