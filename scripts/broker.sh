#!/usr/bin/env bash
# Manages the RabbitMQ nodes of this project, for the tests and the examples.
#
#   broker.sh ensure      start a broker unless one answers, and print the AMQP_URL to use
#   broker.sh ensure rabbitmq
#                         the same, but fail where there is no RabbitMQ and it cannot be installed
#   broker.sh ensure optional
#                         the same, but start nothing and print nothing there, unless the test broker runs already
#   broker.sh start       start this project's own node, even if another broker runs
#   broker.sh stop        stop all nodes of this project
#   broker.sh status      show whether the own node runs, and its URLs
#   broker.sh env         print the variables of the own node, for eval
#   broker.sh second start|stop|kill9|pause|resume|renew|status|env
#                         a second, separate node, for tests that stop, kill or alarm a node;
#                         renew deletes its data and starts it again, with further arguments as
#                         lines of its configuration
#   broker.sh cluster start|stop|status
#                         a cluster of three nodes
#   broker.sh cluster start-node|stop-node|kill-node|env 1|2|3
#                         one node of the cluster
#   broker.sh 4.0|4.3 ensure|start|stop|status|env|second ...
#                         the same with nodes of that RabbitMQ, which are those of a Debian installed
#                         under .broker/4.0/root or .broker/4.3/root; AMQP_URL is ignored.
#                         Needs Linux, root and debootstrap, which is installed if it is missing
#
# `ensure` uses the first of these:
#   1. The broker at AMQP_URL, if set. It must answer; nothing is installed or started.
#   2. The own node, if it runs.
#   3. A broker with the management plugin at the default address,
#      unless it is the node of another copy of this project, which may be stopped at any time.
#   4. The own node, which is started; RabbitMQ is installed first if it is missing and the system allows it.
#   5. Where it is missing and cannot be installed: the project's test broker (broker/), which is built and started.
#      With `optional`, the caller starts one in its own process.
#
# Commands that start or resume a node return when it is ready: its AMQP and management ports
# answer, its queue table is loaded and its virtual hosts run.
#
# Messages go to stderr; stdout has only what was asked for.
# All files of the nodes are under .broker/, and all their ports listen on loopback only.
set -euo pipefail

script=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/$(basename "${BASH_SOURCE[0]}")
root=$(dirname "$(dirname "$script")")
default_url='amqp://guest:guest@127.0.0.1:5672/%2f'
# Set by read_env from the node's file.
node_AMQP_URL='' node_MANAGEMENT_URL='' node_RABBITMQ_BIN='' node_ERL_EPMD_PORT=''
# Which RabbitMQ: empty for the installed one, else one of the versions that select_version knows.
version='' base=$root/.broker
versions='4.0 4.3'
# Generous, because a busy machine starts a node slowly.
start_seconds=180
stop_seconds=60
# The port of TLS, from that of plain TCP.
tls_offset=1000

say() { printf 'broker: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# --- Probes -----------------------------------------------------------------

# Runs a function of this script, with a time limit if `timeout` exists.
limited() {
    if have timeout; then
        timeout 10 bash "$script" __call "$@"
    else
        (call "$@")
    fi
}

call() { "$@"; }

tcp_open() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }

# Sends the AMQP 0-9-1 protocol header and checks that connection.start comes back.
# Bash variables cannot hold NUL, so the bytes are read up to each NUL, and dots replace the NULs.
speaks_amqp() {
    local host=$1 port=$2 piece seen=''
    local LC_ALL=C
    { exec 3<>"/dev/tcp/$host/$port"; } 2>/dev/null || return 1
    printf 'AMQP\0\0\011\001' >&3 2>/dev/null || return 1
    while [ ${#seen} -lt 64 ]; do
        IFS= read -r -d '' -t 5 piece <&3 2>/dev/null || break
        seen="$seen$piece."
        # frame type 1, channel 0, a size, class 10, method 10, version 0-9
        case $seen in
            $'\001....'*$'.\n.\n.\t'*) exec 3>&-; return 0 ;;
        esac
    done
    exec 3>&-
    return 1
}

# Sends GET $4 with the user and password of $3, "user:password", and checks for status 200.
# If $5 is the name of a node, returns 3 if the body names that node.
management_answers() {
    local host=$1 port=$2 path=$4 basic status
    basic=$(printf '%s' "$3" | base64 2>/dev/null | tr -d '\n') || return 1
    { exec 3<>"/dev/tcp/$host/$port"; } 2>/dev/null || return 1
    printf 'GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Basic %s\r\nConnection: close\r\n\r\n' \
        "$path" "$host" "$basic" >&3 2>/dev/null || return 1
    IFS= read -r -t 5 status <&3 2>/dev/null || return 1
    case $status in 'HTTP/1.1 200'*) ;; *) return 1 ;; esac
    [ -n "${5:-}" ] || return 0
    case $(cat <&3) in *"\"node\":\"$5\""*) return 3 ;; esac
}

# Splits a URL into url_scheme, url_host, url_port.
parse_url() {
    local rest=$1 authority
    url_scheme=${rest%%://*}
    [ "$url_scheme" != "$rest" ] || return 1
    rest=${rest#*://}
    authority=${rest%%[/?#]*}
    authority=${authority##*@}
    case $authority in
        '['*']'*) url_host=${authority#[}; url_host=${url_host%%]*}; authority=${authority##*]} ;;
        *) url_host=${authority%%:*} ;;
    esac
    [ -n "$url_host" ] || url_host=localhost
    case $authority in *:?*) url_port=${authority##*:} ;; *) url_port='' ;; esac
    if [ -z "$url_port" ]; then
        case $url_scheme in amqps) url_port=5671 ;; *) url_port=5672 ;; esac
    fi
    case $url_port in *[!0-9]*) return 1 ;; esac
}

url_answers() {
    parse_url "$1" || return 1
    case $url_scheme in
        amqp) limited speaks_amqp "$url_host" "$url_port" ;;
        amqps) limited tcp_open "$url_host" "$url_port" ;;
        *) return 1 ;;
    esac
}

# Prints the first unused port of $1, $1 + 10, $1 + 20, ...
free_port() {
    local port=$1
    while limited tcp_open 127.0.0.1 "$port"; do port=$((port + 10)); done
    printf '%s\n' "$port"
}

# --- Versions ---------------------------------------------------------------

# Selects the RabbitMQ that the functions below work on. Those that are named by their version run in a
# chroot under .broker/, with the suite of Debian that has them. Their nodes have ports of their own.
select_version() {
    case $1 in
        4.0) suite=trixie ports=100 ;;
        4.3) suite=forky ports=200 ;;
        *) die "no such version: $1 (known: $versions)" ;;
    esac
    version=$1 base=$root/.broker/$1 system=$root/.broker/$1/root
}

# --- Installing -------------------------------------------------------------

# Sets bin to the folder of RabbitMQ's own scripts. Debian's wrappers in /usr/sbin are not
# used: they switch to the user rabbitmq, who may have no access to this folder.
find_rabbitmq() {
    local found
    # For tests of this script: a machine without RabbitMQ.
    [ -z "${BROKER_WITHOUT_RABBITMQ:-}" ] || return 1
    if [ -n "$version" ]; then
        bin=/usr/lib/rabbitmq/bin
        [ -x "$system$bin/rabbitmq-server" ]
        return
    fi
    bin=/usr/lib/rabbitmq/bin
    [ -x "$bin/rabbitmq-server" ] && return 0
    found=$(PATH=$PATH:/usr/sbin:/opt/homebrew/sbin:/usr/local/sbin command -v rabbitmq-server) || return 1
    bin=$(dirname "$found")
}

# Installs the suite of Debian with its RabbitMQ in a folder. Starts nothing.
install_version() {
    local log="$base/install.log" what="RabbitMQ $version runs in a chroot with Debian"
    [ "$(uname -s)" = Linux ] || die "$what, which needs Linux"
    [ "$(id -u)" = 0 ] || die "$what, which needs root (debootstrap, mount and chroot)"
    if ! have unshare || ! have chroot; then
        die "$what, which needs unshare (util-linux) and chroot (coreutils)"
    fi
    mkdir -p "$base"
    : >"$log"
    if ! have debootstrap; then
        have apt-get || die "$what, which needs debootstrap: install it"
        say "installing debootstrap with apt-get (log: ${log#"$root/"})"
        { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends debootstrap; } \
            >>"$log" 2>&1 </dev/null || { tail -n 15 "$log" >&2; die "debootstrap could not be installed"; }
    fi
    say "downloading Debian ($suite) with RabbitMQ $version, which takes some minutes (log: ${log#"$root/"})"
    # Left over from an interrupted install.
    rm -rf --one-file-system "$system.new"
    # In a mount namespace of its own, so that no mount is left behind. The script for `sid` is that of each
    # suite since Debian 4.0; an older debootstrap does not know the name of a newer suite.
    if ! unshare --mount debootstrap --variant=minbase --include=rabbitmq-server \
        "$suite" "$system.new" '' sid >>"$log" 2>&1 </dev/null; then
        tail -n 15 "$log" >&2
        die "debootstrap could not download Debian ($suite): is its mirror reachable?"
    fi
    printf '127.0.0.1 localhost\n::1 localhost\n' >"$system.new/etc/hosts"
    rm -rf "$system.new"/var/cache/apt/archives/*.deb
    mv "$system.new" "$system"
    find_rabbitmq || die "Debian ($suite) was installed, but $system has no RabbitMQ"
    check_version
}

# A suite that is not released moves on to later versions.
check_version() {
    local found
    found=$(chroot "$system" dpkg-query --show --showformat='${Version}' rabbitmq-server)
    case $found in
        "$version".*) ;;
        *) die "Debian ($suite) has RabbitMQ $found, not $version" ;;
    esac
}

# Replaces this process by a command in the chroot, where the folder of the nodes has the same path.
# Must run in a mount namespace of its own.
enter_system() {
    mkdir -p "$system$base"
    mount --rbind /dev "$system/dev"
    mount --rbind /proc "$system/proc"
    mount --bind "$base" "$system$base"
    exec chroot "$system" "$@"
}

# Succeeds if the packages of the system may be installed by this user.
can_install() {
    { have apt-get && [ -z "${BROKER_WITHOUT_RABBITMQ:-}" ]; } || return 1
    [ "$(id -u)" = 0 ] || { have sudo && sudo -n true 2>/dev/null; }
}

install_rabbitmq() {
    if [ -n "$version" ]; then
        install_version
        return
    fi
    local become='' policy=/usr/sbin/policy-rc.d log="$root/.broker/install.log" made_policy='' failed=''
    local advice="install RabbitMQ, or run 'docker compose up -d' (compose.yaml), or set AMQP_URL to another broker"
    { have apt-get && [ -z "${BROKER_WITHOUT_RABBITMQ:-}" ]; } || die "no broker at 127.0.0.1:5672 and no rabbitmq-server here: $advice"
    if [ "$(id -u)" != 0 ]; then
        if ! have sudo || ! sudo -n true 2>/dev/null; then
            die "no broker at 127.0.0.1:5672 and no rabbitmq-server here: 'apt-get install rabbitmq-server' as root, or $advice"
        fi
        become='sudo -n'
    fi
    mkdir -p "$root/.broker"
    say "installing rabbitmq-server with apt-get (log: .broker/install.log)"
    # Keeps the package from starting a node, which would listen on all interfaces.
    if [ ! -e "$policy" ]; then
        made_policy=yes
        printf '#!/bin/sh\nexit 101\n' | $become tee "$policy" >/dev/null
        $become chmod 755 "$policy"
        # shellcheck disable=SC2064 # expand now
        trap "$become rm -f $policy" EXIT
    fi
    {
        $become apt-get update -q &&
            $become env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
                apt-get install -y -q --no-install-recommends rabbitmq-server
    } >"$log" 2>&1 </dev/null || failed=yes
    if [ -n "$made_policy" ]; then
        $become rm -f "$policy"
        trap - EXIT
    fi
    if [ -n "$failed" ]; then
        tail -n 15 "$log" >&2
        die "rabbitmq-server could not be installed: $advice"
    fi
    if have update-rc.d || [ -x /usr/sbin/update-rc.d ]; then
        PATH=$PATH:/usr/sbin:/sbin $become update-rc.d rabbitmq-server disable >>"$log" 2>&1 || true
    fi
    find_rabbitmq || die "rabbitmq-server was installed but its scripts were not found: $advice"
}

# --- One node ---------------------------------------------------------------

# Selects the node that the functions below work on.
use_node() {
    case $1 in
        first) dir=$base name=pika@localhost base_amqp=5672 base_epmd=14369 ;;
        second) dir=$base/second name=pika2@localhost base_amqp=5682 base_epmd=14379 ;;
        cluster[123])
            [ -z "$version" ] || die "the cluster is one of the installed RabbitMQ"
            dir=$root/.broker/cluster/${1#cluster} name=pikac${1#cluster}@localhost
            base_amqp=$((5691 + 2 * ${1#cluster})) base_epmd=14389
            ;;
        *) die "no such node: $1" ;;
    esac
    if [ -n "$version" ]; then
        name=${name/@/-${version/./-}@}
        base_amqp=$((base_amqp + ports)) base_epmd=$((base_epmd + ports))
    fi
    node=$1
}

# Prints when process $1 started, which distinguishes it from a later process with the same id.
started_at() {
    if [ -r "/proc/$1/stat" ]; then
        # The second field may contain spaces, so count the fields after its closing parenthesis.
        sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20
    else
        ps -o lstart= -p "$1" 2>/dev/null
    fi
}

# Sets pid. Succeeds if the recorded process still runs.
node_runs() {
    local when
    pid=''
    [ -r "$dir/process" ] || return 1
    { IFS= read -r pid && IFS= read -r when; } <"$dir/process" || return 1
    kill -0 "$pid" 2>/dev/null || [ -d "/proc/$pid" ] || return 1
    # A process that ended stays a zombie until its parent reaps it.
    case $(ps -o stat= -p "$pid" 2>/dev/null) in Z* | X*) return 1 ;; esac
    [ "$(started_at "$pid")" = "$when" ]
}

# Reads the recorded variables of the node into variables of this shell with the prefix node_.
read_env() {
    local key value
    [ -r "$dir/env" ] || return 1
    while IFS='=' read -r key value; do
        value=${value#\'}
        printf -v "node_$key" '%s' "${value%\'}"
    done <"$dir/env"
}

node_answers() { read_env && url_answers "$node_AMQP_URL"; }

# Succeeds if the node can be used: its ports answer, its queue table is loaded, its virtual hosts run.
node_ready() {
    local path
    node_answers && parse_url "$node_MANAGEMENT_URL" || return 1
    for path in '/api/queues?page=1&page_size=1' /api/health/checks/virtual-hosts; do
        limited management_answers "$url_host" "$url_port" guest:guest "$path" || return 1
    done
}

write_config() {
    mkdir -p "$dir/home" "$dir/data" "$dir/log"
    chmod 700 "$dir/home"
    # The distribution port listens on loopback only.
    if [ ! -s "$dir/home/.erlang.cookie" ] && [ -n "${cookie:-}" ]; then
        (umask 077; printf '%s' "$cookie" >"$dir/home/.erlang.cookie")
    fi
    if [ ! -s "$dir/home/.erlang.cookie" ]; then
        (umask 077; od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$dir/home/.erlang.cookie")
        chmod 400 "$dir/home/.erlang.cookie"
    fi
    # The second one lets clients log in with their certificate.
    printf '[rabbitmq_management,rabbitmq_auth_mechanism_ssl].\n' >"$dir/enabled_plugins"
    # One sample per second, because the management API collects at the interval of its finest samples.
    cat >"$dir/advanced.config" <<'CONF'
[{rabbitmq_management, [{sample_retention_policies, [
    {global, [{60, 1}]}, {basic, [{60, 1}]}, {detailed, [{60, 1}]}]}]}].
CONF
    : >"$dir/rabbitmq-env.conf"
    cat >"$dir/rabbitmq.conf" <<CONF
# Written by scripts/broker.sh at each start.
listeners.tcp.1 = 127.0.0.1:$amqp_port
management.tcp.ip = 127.0.0.1
management.tcp.port = $management_port
# The management API is about one second behind instead of five.
collect_statistics_interval = 1000
# Little memory or disk space must not block publishers.
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.relative = 0.6
log.console = false
log.file.rotation.size = 10485760
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = AMQPLAIN
# With a client certificate only.
auth_mechanisms.3 = EXTERNAL
ssl_cert_login_from = common_name
CONF
    # The tests make the certificates (tests/support/broker/tls.rs). The copy is in the chroot, too.
    if [ -s "$root/.broker/certificates/ca.pem" ]; then
        mkdir -p "$dir/tls"
        cp "$root/.broker/certificates/"*.pem "$dir/tls/"
        cat >>"$dir/rabbitmq.conf" <<CONF
listeners.ssl.1 = 127.0.0.1:$((amqp_port + tls_offset))
ssl_options.cacertfile = $dir/tls/ca.pem
ssl_options.certfile = $dir/tls/server.pem
ssl_options.keyfile = $dir/tls/server-key.pem
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
CONF
    fi
    # A node without data joins the first node when it starts.
    case $node in
        cluster*)
            cat >>"$dir/rabbitmq.conf" <<'CONF'
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.classic_config.nodes.1 = pikac1@localhost
CONF
            ;;
    esac
    # All variables are set, so that none is read from /etc/rabbitmq.
    cat >"$dir/env" <<ENV
AMQP_URL='amqp://guest:guest@127.0.0.1:$amqp_port/%2f'
MANAGEMENT_URL='http://guest:guest@127.0.0.1:$management_port'
RABBITMQ_BIN='$bin'
HOME='$dir/home'
ERL_EPMD_ADDRESS='127.0.0.1'
ERL_EPMD_PORT='$epmd_port'
RABBITMQ_NODENAME='$name'
RABBITMQ_DIST_PORT='$dist_port'
RABBITMQ_MNESIA_BASE='$dir/data'
RABBITMQ_LOG_BASE='$dir/log'
RABBITMQ_LOGS='$dir/log/rabbit.log'
RABBITMQ_PID_FILE='$dir/rabbit.pid'
RABBITMQ_CONF_ENV_FILE='$dir/rabbitmq-env.conf'
RABBITMQ_CONFIG_FILE='$dir/rabbitmq.conf'
RABBITMQ_CONFIG_FILES='$dir/conf.d'
RABBITMQ_ADVANCED_CONFIG_FILE='$dir/advanced.config'
RABBITMQ_ENABLED_PLUGINS_FILE='$dir/enabled_plugins'
RABBITMQ_GENERATED_CONFIG_DIR='$dir/generated'
RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'
RABBITMQ_CTL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'
ENV
}

# Runs a command with the variables of the node and none of the caller's.
run_by=(command)
with_env() {
    local key value vars=() inside=() tmp=${TMPDIR:-/tmp}
    if [ -n "$version" ]; then
        inside=(unshare --mount bash "$script" "$version" __enter)
        tmp=/tmp
    fi
    while IFS='=' read -r key value; do
        value=${value#\'}
        vars+=("$key=${value%\'}")
    done <"$dir/env"
    "${run_by[@]}" ${inside[@]+"${inside[@]}"} \
        env -i PATH="$PATH:/usr/sbin:/sbin" LC_ALL=C.UTF-8 TMPDIR="$tmp" "${vars[@]}" "$@"
}

# Replaces this process by the node. Closes the file descriptors that a caller may wait for.
become_node() {
    local fd
    for fd in 3 4 5 6 7 8 9; do eval "exec $fd>&-"; done
    cd "$dir"
    trap '' HUP
    run_by=(exec)
    have setsid && run_by=(exec setsid)
    # `detached` makes the script of the server exec the Erlang VM, so that the id of this
    # process is the id of the node.
    with_env detached=yes "$bin/rabbitmq-server"
}

show_log() {
    local file
    for file in "$dir/log/start.log" "$dir/log/rabbit.log"; do
        [ -s "$file" ] || continue
        printf -- '--- end of %s\n' "${file#"$root/"}" >&2
        tail -n 25 "$file" >&2
    done
}

start_node() {
    local since=$SECONDS
    resume_node
    # If the process ends while we wait, it was stopping: start a new one.
    if node_runs && wait_until_ready "$since"; then return; fi
    case $dir in *"'"*) die "RabbitMQ cannot run in a folder with a quote in its path: $dir" ;; esac
    find_rabbitmq || install_rabbitmq
    [ -n "$version" ] || have erl || die "rabbitmq-server is installed, but erl (Erlang) is not on the PATH"
    # A killed node leaves its epmd running, which still listens on its port.
    if read_env; then stop_epmd; fi
    # A node that is started again keeps its ports.
    if [ "$node" != first ] && parse_url "$node_AMQP_URL"; then base_amqp=$url_port; fi
    amqp_port=$(free_port "$base_amqp")
    management_port=$(free_port $((base_amqp + 10000)))
    dist_port=$(free_port $((base_amqp + 20000)))
    epmd_port=${shared_epmd:-$(free_port "$base_epmd")}
    write_config
    rm -f "$dir/rabbit.pid" "$dir/process"
    say "starting the project's own node $name on 127.0.0.1:$amqp_port"
    bash "$script" ${version:+"$version"} __node "$node" </dev/null >"$dir/log/start.log" 2>&1 &
    pid=$!
    disown "$pid" 2>/dev/null || true
    printf '%s\n%s\n' "$pid" "$(started_at "$pid")" >"$dir/process"
    if ! wait_until_ready "$since"; then
        show_log
        die "$name ended while starting"
    fi
}

# Fails if the process of the node ends before the node is ready.
wait_until_ready() {
    local since=$1 until=$((SECONDS + start_seconds))
    while [ "$SECONDS" -lt "$until" ]; do
        if node_ready; then
            say "$name is ready at ${node_AMQP_URL} after $((SECONDS - since)) s"
            return 0
        fi
        node_runs || return 1
        sleep 0.3
    done
    show_log
    die "$name was not ready within $start_seconds s"
}

# Stops the epmd of the node. It refuses while another node is registered with it.
stop_epmd() {
    local epmd=epmd
    [ -n "$version" ] || epmd=$(PATH=$PATH:/usr/sbin command -v epmd) || return 0
    with_env "$epmd" -port "$node_ERL_EPMD_PORT" -kill >/dev/null 2>&1 || true
}

stop_node() {
    local signal=${1:-TERM} until
    resume_node
    if ! node_runs; then
        say "$name does not run"
    else
        kill "-$signal" "$pid" || die "no permission to signal process $pid ($name)"
        until=$((SECONDS + stop_seconds))
        while node_runs && [ "$SECONDS" -lt "$until" ]; do sleep 0.1; done
        if node_runs; then
            say "$name did not stop within $stop_seconds s: killing it"
            kill -KILL "$pid"
            while node_runs; do sleep 0.1; done
        fi
        if [ "$signal" = KILL ]; then say "$name was killed"; else say "$name stopped"; fi
    fi
    rm -f "$dir/process"
    if read_env; then stop_epmd; fi
}

# Stops the process with SIGSTOP: its sockets stay open, and it answers nothing.
pause_node() {
    node_runs || die "$name does not run"
    kill -STOP "$pid" || die "no permission to signal process $pid ($name)"
    say "$name is paused"
}

resume_node() {
    if node_runs; then kill -CONT "$pid" 2>/dev/null || true; fi
}

# Deletes the data of the node and starts it again, with the arguments as lines of its configuration.
renew_node() {
    [ ! -d "$dir" ] || stop_node KILL
    rm -rf "$dir/data" "$dir/conf.d"
    if [ $# -gt 0 ]; then
        mkdir -p "$dir/conf.d"
        printf '%s\n' "$@" >"$dir/conf.d/10-renewed.conf"
    fi
    start_node
}

status_node() {
    if ! node_runs; then
        say "$name does not run"
        return 1
    fi
    read_env
    if node_answers; then
        say "$name runs: $node_AMQP_URL, management $node_MANAGEMENT_URL, process $pid"
    else
        say "$name runs as process $pid but does not answer at $node_AMQP_URL"
        return 1
    fi
}

print_env() {
    node_runs || die "$name does not run"
    sed -nE 's/^(AMQP_URL|MANAGEMENT_URL|RABBITMQ_NODENAME|ERL_EPMD_PORT|ERL_EPMD_ADDRESS)=/export &/p' "$dir/env"
}

# --- Three nodes in a cluster -----------------------------------------------

# The nodes of a cluster share an epmd and a cookie.
read_shared() {
    shared_epmd='' cookie=''
    local shared=$root/.broker/cluster/shared
    [ -r "$shared" ] || return 1
    { IFS= read -r shared_epmd && IFS= read -r cookie; } <"$shared"
}

# Starts all three nodes. If one of them is not ready, the cluster is deleted and created again.
start_cluster() {
    local each whole=yes
    for each in 1 2 3; do
        use_node "cluster$each"
        resume_node
        if ! node_runs || ! node_ready; then whole=''; fi
    done
    if [ -n "$whole" ] && [ -e "$root/.broker/cluster/formed" ]; then return; fi
    stop_cluster
    mkdir -p "$root/.broker/cluster"
    printf '%s\n%s\n' "$(free_port 14389)" "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" \
        >"$root/.broker/cluster/shared"
    chmod 600 "$root/.broker/cluster/shared"
    start_cluster_node 1
    # The other two join the first at the same time.
    start_cluster_node 2 &
    start_cluster_node 3 || die "the third node of the cluster did not start"
    wait $! || die "the second node of the cluster did not start"
    : >"$root/.broker/cluster/formed"
}

start_cluster_node() {
    use_node "cluster$1"
    read_shared || die "the cluster does not run"
    node_AMQP_URL=''
    start_node
}

# Kills all three nodes and deletes their data.
stop_cluster() {
    local each
    for each in 1 2 3; do
        use_node "cluster$each"
        if [ -d "$dir" ]; then stop_node KILL; fi
    done
    rm -rf "$root/.broker/cluster"
}

# --- The test broker ----------------------------------------------------------

use_test_broker() { dir=$root/.broker/test name='the test broker'; }

# Sets url and succeeds if the test broker runs and answers.
test_broker_runs() {
    use_test_broker
    url=''
    { node_runs && IFS= read -r url <"$dir/url" && url_answers "$url"; } || return 1
    say "using the project's test broker, which keeps all in memory"
}

# Builds and starts the test broker, unless it runs, and sets url. Without link-time optimization, which takes minutes.
start_test_broker() {
    local program until
    ! test_broker_runs || return 0
    have cargo || die "there is no RabbitMQ here, and the project's test broker cannot be built without Rust (cargo)"
    say "there is no RabbitMQ here, and it cannot be installed: building and using the project's test broker, which keeps all in memory"
    mkdir -p "$dir"
    (cd "$root" && cargo build --quiet --profile demo --package actix-pika-broker --target-dir "$root/target" >&2 9>&-) ||
        die "the test broker could not be built"
    program=$root/target/demo/actix-pika-broker
    rm -f "$dir/process" "$dir/url"
    : >"$dir/url"
    (
        trap '' HUP
        run=(exec)
        have setsid && run=(exec setsid)
        "${run[@]}" "$program" --port 0
    ) </dev/null >"$dir/url" 2>"$dir/log" 3>&- 9>&- &
    pid=$!
    disown "$pid" 2>/dev/null || true
    until=$((SECONDS + 30))
    # The URL is the first line; the second one says that it is ready.
    while [ "$(wc -l <"$dir/url")" -lt 2 ]; do
        if ! kill -0 "$pid" 2>/dev/null || [ "$SECONDS" -ge "$until" ]; then
            tail -n 15 "$dir/log" >&2
            die "the test broker did not start"
        fi
        sleep 0.1
    done
    # Now, since the process has become that of the broker.
    printf '%s\n%s\n' "$pid" "$(started_at "$pid")" >"$dir/process"
    IFS= read -r url <"$dir/url"
}

stop_test_broker() {
    local until=$((SECONDS + stop_seconds))
    use_test_broker
    if node_runs; then
        kill -TERM "$pid" || die "no permission to signal process $pid ($name)"
        while node_runs && [ "$SECONDS" -lt "$until" ]; do sleep 0.1; done
        if node_runs; then kill -KILL "$pid"; fi
        say "$name stopped"
    fi
    rm -rf "$dir"
}

# Only one process starts or stops nodes at a time.
lock() {
    if ! mkdir -p "$root/.broker" 2>/dev/null || ! { : >>"$root/.broker/lock"; } 2>/dev/null; then
        die "$(id -un) may not write to $root/.broker: use a copy of the project of your own, or set AMQP_URL to a broker"
    fi
    have flock || return 0
    exec 9>"$root/.broker/lock"
    flock -w 600 9 || die "another $0 held .broker/lock for 600 s"
}

ensure() {
    if [ -n "${AMQP_URL:-}" ] && [ -z "$version" ]; then
        url_answers "$AMQP_URL" || die "no AMQP 0-9-1 broker answers at AMQP_URL ($(printf '%s' "$AMQP_URL" | sed 's|//[^/@]*@|//|')): start that broker, or unset AMQP_URL"
        printf '%s\n' "$AMQP_URL"
        return
    fi
    use_node first
    if [ -z "$version" ] && ! node_runs && url_answers "$default_url"; then
        local found=0
        limited management_answers 127.0.0.1 15672 guest:guest /api/overview "$name" || found=$?
        case $found in
            0)
                say "using the broker at 127.0.0.1:5672"
                printf '%s\n' "$default_url"
                return
                ;;
            3) say "the broker at 127.0.0.1:5672 belongs to another copy of this project: not using it" ;;
            *) say "the broker at 127.0.0.1:5672 has no management API at port 15672 for guest: not using it" ;;
        esac
    fi
    if [ "${1:-}" != rabbitmq ] && [ -z "$version" ] && ! node_runs && ! find_rabbitmq; then
        # A failed install says why.
        if ! can_install || ! (lock; install_rabbitmq); then
            if [ "${1:-}" != optional ]; then
                lock
                start_test_broker
            elif ! test_broker_runs; then
                say "there is no RabbitMQ here, and it cannot be installed"
                return
            fi
            printf '%s\n' "$url"
            return
        fi
    fi
    lock
    start_node
    printf '%s\n' "$node_AMQP_URL"
}

stop_both() {
    use_node second
    if [ -d "$dir" ]; then stop_node; fi
    use_node first
    stop_node
}

main() {
    case ${1:-} in
        [0-9]*)
            select_version "$1"
            shift
            ;;
    esac
    case ${1:-help} in
        ensure) ensure "${2:-}" ;;
        start) use_node first; lock; start_node ;;
        stop)
            lock
            if [ -n "$version" ]; then
                stop_both
            else
                if [ -d "$root/.broker/test" ]; then stop_test_broker; fi
                if [ -d "$root/.broker/cluster" ]; then stop_cluster; fi
                stop_both
                for each in $versions; do
                    select_version "$each"
                    if [ -r "$base/env" ] || [ -d "$base/second" ]; then stop_both; fi
                done
            fi
            ;;
        status) use_node first; status_node ;;
        env) use_node first; print_env ;;
        second)
            use_node second
            case ${2:-} in
                start) lock; start_node ;;
                stop) lock; stop_node ;;
                kill9) lock; stop_node KILL ;;
                pause) pause_node ;;
                resume)
                    resume_node
                    wait_until_ready "$SECONDS" || die "$name does not run"
                    ;;
                renew) lock; shift 2; renew_node "$@" ;;
                status) status_node ;;
                env) print_env ;;
                *) die "usage: broker.sh second start|stop|kill9|pause|resume|renew|status|env" ;;
            esac
            ;;
        cluster)
            local what=${2:-}
            case $what in *-node | env) use_node "cluster${3:-}" ;; esac
            case $what in
                start) lock; start_cluster ;;
                stop) lock; stop_cluster ;;
                start-node) lock; start_cluster_node "$3" ;;
                stop-node) lock; stop_node ;;
                kill-node) lock; stop_node KILL ;;
                env) print_env ;;
                status) for each in 1 2 3; do use_node "cluster$each"; status_node || true; done ;;
                *) die "usage: broker.sh cluster start|stop|status, or start-node|stop-node|kill-node|env 1|2|3" ;;
            esac
            ;;
        # For ctl.sh: runs rabbitmqctl, or another tool of the same folder, with the variables of the node.
        __ctl)
            use_node "$2"
            if ! node_runs || ! read_env; then die "$name does not run"; fi
            tool=$3
            shift 3
            with_env "$node_RABBITMQ_BIN/$tool" "$@"
            ;;
        __enter) shift; enter_system "$@" ;;
        __call) shift; call "$@" ;;
        __node) use_node "$2"; read_env; bin=$node_RABBITMQ_BIN; become_node ;;
        help | -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$script" ;;
        *) die "unknown command '$1': see broker.sh help" ;;
    esac
}

main "$@"
