#!/usr/bin/env bash
# rabbitmqctl against the project's own node; with `second` first, against the second one.
#
#   scripts/ctl.sh list_queues
#   scripts/ctl.sh second set_vm_memory_high_watermark 0
set -euo pipefail

node=first
if [ "${1:-}" = second ]; then
    node=second
    shift
fi
exec bash "$(dirname "${BASH_SOURCE[0]}")/broker.sh" __ctl "$node" rabbitmqctl "$@"
