#!/usr/bin/env bash
# Installs and starts other software that tests talk to, under .broker/services/.
#
#   services.sh aio-pika     install aio-pika in a Python environment, unless it is there, and print the path
#                            of its python
#   services.sh postgres     start this project's own PostgreSQL unless it runs, and print its URL, which has a
#                            password; PostgreSQL is installed with apt-get if it is missing and the system
#                            allows it. It listens on loopback only. With POSTGRES_URL set, print that
#   services.sh stop         stop what was started
#
# Messages go to stderr; stdout has only what was asked for.
# Exit codes: 0 it is there, 3 it cannot be installed or started here and the last line of stderr says why,
# 2 wrong arguments.
# Tests that need a service are left out with code 3, and fail if CI=true.
set -euo pipefail

root=$(dirname "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)")
base=$root/.broker/services

# The versions that the tests were written for.
aio_pika='aio-pika==10.2.1 aiormq==7.2.4 pamqp==4.0.1'
install_seconds=120
# apt-get downloads 100 MB.
apt_seconds=600
postgres_seconds=60

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
        flock -w "$apt_seconds" 9 || unavailable "another installation has not ended in $apt_seconds s"
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

# --- PostgreSQL -------------------------------------------------------------

tcp_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
random_hex() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

# Sets bin to a folder with the programs of PostgreSQL, those of the newest version if there are several.
find_postgres() {
    local each version newest=0 found
    bin=''
    for each in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin {/opt/homebrew,/usr/local}/opt/postgresql@*/bin; do
        [ -x "$each/initdb" ] && [ -x "$each/pg_ctl" ] && [ -x "$each/postgres" ] || continue
        version=$(basename "$(dirname "$each")" | tr -cd 0-9)
        if [ "${version:-1}" -gt "$newest" ]; then newest=${version:-1} bin=$each; fi
    done
    [ -z "$bin" ] || return 0
    found=$(command -v initdb) || return 1
    bin=$(dirname "$found")
    [ -x "$bin/pg_ctl" ] && [ -x "$bin/postgres" ]
}

install_postgres() {
    local become='' log=$base/postgres-install.log conf=/etc/postgresql-common/createcluster.d/actix-pika.conf failed=''
    have apt-get || unavailable 'PostgreSQL is not installed: install it, or set POSTGRES_URL'
    if [ "$(id -u)" != 0 ]; then
        if ! have sudo || ! sudo -n true 2>/dev/null; then
            unavailable "PostgreSQL is not installed: 'apt-get install postgresql' as root, or set POSTGRES_URL"
        fi
        become='sudo -n'
    fi
    say "installing postgresql with apt-get (log: ${log#"$root/"})"
    # Keeps the package from creating a database of the system and starting it.
    $become mkdir -p "$(dirname "$conf")"
    printf 'create_main_cluster = false\n' | $become tee "$conf" >/dev/null
    (
        # broker.sh may run apt-get, too.
        if have flock; then exec 8>"$root/.broker/lock"; flock -w "$apt_seconds" 8; fi
        limit=''
        if have timeout; then limit="timeout $apt_seconds"; fi
        $become $limit apt-get update -q &&
            $become env DEBIAN_FRONTEND=noninteractive $limit \
                apt-get install -y -q --no-install-recommends postgresql
    ) >"$log" 2>&1 </dev/null || failed=yes
    $become rm -f "$conf"
    [ -z "$failed" ] || unavailable "apt-get install postgresql failed: $(last_line "$log")"
    find_postgres || unavailable 'postgresql was installed, but its initdb, pg_ctl and postgres were not found'
}

# Sets user, and run_as to what runs a command as that user: PostgreSQL refuses to run as root.
choose_user() {
    local each
    run_as=() user=''
    [ "$(id -u)" = 0 ] || return 0
    for each in postgres nobody; do
        if id -u "$each" >/dev/null 2>&1; then user=$each; break; fi
    done
    [ -n "$user" ] || unavailable 'PostgreSQL does not run as root, and there is no user postgres or nobody'
    if have setpriv; then
        run_as=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups)
    elif have runuser; then
        run_as=(runuser -u "$user" --)
    else
        unavailable 'PostgreSQL does not run as root, and there is neither setpriv nor runuser (util-linux)'
    fi
}

# Runs a command as the user of PostgreSQL, who may have no access to the current folder. Closes the locks, which
# the server would hold as long as it runs.
as_user() { (cd / && LC_ALL=C exec ${run_as[@]+"${run_as[@]}"} "$@" 8>&- 9>&-); }

# Sets folder to the recorded folder of PostgreSQL. Fails if there is none, or if it is that of another checkout,
# of which this one is a copy.
read_folder() {
    folder=$(cat "$base/postgres-folder" 2>/dev/null) || return 1
    data=$folder/data
    [ "$(cat "$folder/checkout" 2>/dev/null)" = "$root" ]
}

# Gives PostgreSQL a folder: under .broker/services/, or a temporary one if its user has no access to that.
make_folder() {
    if read_folder && as_user test -w "$folder"; then return; fi
    folder=$base/postgres
    rm -rf "$folder"
    mkdir -p "$folder"
    own_folder
    if ! as_user test -w "$folder"; then
        rmdir "$folder"
        folder=$(mktemp -d "${TMPDIR:-/tmp}/actix-pika-postgres.XXXXXX")
        own_folder
        as_user test -w "$folder" || unavailable "the user $user cannot write to $base nor to $folder"
    fi
    data=$folder/data
    printf '%s\n' "$root" >"$folder/checkout"
    printf '%s\n' "$folder" >"$base/postgres-folder"
}

own_folder() {
    chmod 700 "$folder"
    [ -z "$user" ] || chown "$user" "$folder"
}

# Prints the command line of a process. That of a zombie is empty.
command_line() {
    if [ -r "/proc/$1/cmdline" ]; then tr '\0' ' ' <"/proc/$1/cmdline"; else ps -o command= -p "$1" 2>/dev/null; fi
}

# Sets port and recorded, the process that the server has written down. Succeeds if that is the server and answers.
postgres_runs() {
    recorded='' port=''
    [ -r "$data/postmaster.pid" ] || return 1
    { IFS= read -r recorded && IFS= read -r _ && IFS= read -r _ && IFS= read -r port; } <"$data/postmaster.pid" ||
        return 1
    case $(command_line "$recorded") in *"$data"*) tcp_open "$port" ;; *) return 1 ;; esac
}

init_postgres() {
    local log=$folder/initdb.log password
    rm -rf "$data" "$folder/password"
    password=$(random_hex 16)
    (umask 077; printf '%s\n' "$password" >"$folder/password")
    [ -z "$user" ] || chown "$user" "$folder/password"
    as_user "$bin/initdb" --pgdata="$data" --username=pika --pwfile="$folder/password" --auth=scram-sha-256 \
        --encoding=UTF8 --locale=C --no-sync >"$log" 2>&1 </dev/null || unavailable "initdb failed: $(last_line "$log")"
    # No file of the tests must outlast a crash of the system. Each test has a pool of its own.
    cat >>"$data/postgresql.conf" <<'CONF'
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
full_page_writes = off
max_connections = 300
CONF
    # Written last: without it the data are not complete.
    cp "$data/PG_VERSION" "$folder/version"
}

start_postgres() {
    local log=$folder/postgres.log tries=5 major
    major=$("$bin/postgres" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
    if [ "$(cat "$folder/version" 2>/dev/null)" != "$major" ]; then init_postgres; fi
    while :; do
        # The server believes in the file as long as any process of its user has that number.
        if [ -n "$recorded" ] && [ -n "$(ps -o pid= -p "$recorded" 2>/dev/null)$(ls -d "/proc/$recorded" 2>/dev/null)" ]; then
            rm -f "$data/postmaster.pid"
        fi
        # Below the ports that the system gives to clients.
        port=$((20000 + RANDOM % 12000))
        if ! tcp_open "$port" && as_user "$bin/pg_ctl" start --pgdata="$data" --log="$log" --wait \
            --timeout="$postgres_seconds" --silent --options="-p $port" >"$folder/pg_ctl.log" 2>&1 </dev/null &&
            postgres_runs; then
            break
        fi
        # The port was taken, or processes of a server that was killed have not ended.
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || unavailable "PostgreSQL did not start: $(last_line "$log")"
        sleep 1
    done
    say "PostgreSQL is ready at 127.0.0.1:$port"
}

postgres() {
    if [ -n "${POSTGRES_URL:-}" ]; then printf '%s\n' "$POSTGRES_URL"; return; fi
    lock
    find_postgres || install_postgres
    choose_user
    make_folder
    if ! postgres_runs; then start_postgres; fi
    printf 'postgres://pika:%s@127.0.0.1:%s/postgres\n' "$(cat "$folder/password")" "$port"
}

stop_postgres() {
    lock
    if ! read_folder || ! postgres_runs; then say 'PostgreSQL does not run'; return; fi
    find_postgres || unavailable "the programs of PostgreSQL are gone, process $recorded runs"
    choose_user
    as_user "$bin/pg_ctl" stop --pgdata="$data" --mode=fast --wait --timeout="$postgres_seconds" --silent >&2 ||
        unavailable "PostgreSQL did not stop within $postgres_seconds s"
    say 'PostgreSQL stopped'
}

usage() { say 'usage: services.sh aio-pika|postgres|stop'; exit 2; }

[ $# -eq 1 ] || usage
case $1 in
    aio-pika) install_aio_pika ;;
    postgres) postgres ;;
    stop) stop_postgres ;;
    *) usage ;;
esac
