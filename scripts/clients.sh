#!/usr/bin/env bash
# Runs the test suites of clients in other languages against a node of RabbitMQ and against the test broker.
#
#   clients.sh [3.10|4.0|4.3] [SUITE ...]    all suites, or those named, with that RabbitMQ: 3.10 without one
#
# A test that passes on the node must pass on the test broker. Prints a table, and fails if one does not.
# Suites are downloaded into .broker/clients/, from where the packages of their languages are. A suite that cannot be
# had is left out, with the reason; with CI=true that is a failure. Go, Ruby, PHP and Java are installed with apt-get,
# by root. Messages go to stderr.
set -euo pipefail

root=$(dirname "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)")
base=$root/.broker/clients
tools=$root/scripts/clients
suites='pika py-amqp kombu amqplib amqp091-go bunny php-amqplib java'
suite_seconds=900

say() { printf 'clients: %s\n' "$*" >&2; }
unavailable() { say "$suite is left out: $*"; exit 3; }
have() { command -v "$1" >/dev/null 2>&1; }

# Installs a package of the system if the program is missing.
need() {
    local program=$1
    shift
    if have "$program"; then return; fi
    have apt-get && [ "$(id -u)" = 0 ] || unavailable "$program is missing (Debian: $*)"
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" ||
        unavailable "apt-get cannot install $*"
}

# Unpacks the source of a Debian package into $folder/source: debian RELEASE PACKAGE FILE. Needs no rights: it has lists
# of packages of its own, from the mirror of the system.
debian() {
    local apt=$base/apt/$1 sources=/etc/apt/sources.list.d/debian.sources
    have apt-get && [ -r "$sources" ] || unavailable 'its source is a package of Debian 12 or 13'
    mkdir -p "$apt/parts" "$apt/lists/partial" "$apt/cache/archives/partial" "$folder/source"
    sed -n "s/^Types:.*/Types: deb-src/p; s/^Suites:.*/Suites: $1/p; /^URIs:/p; /^Components:/p; /^Signed-By:/p; /^$/q" \
        "$sources" >"$apt/parts/debian.sources"
    local options=(-q -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$apt/parts"
        -o Dir::State::Lists="$apt/lists" -o Dir::Cache="$apt/cache")
    [ -s "$apt/updated" ] || { apt-get "${options[@]}" update && date >"$apt/updated"; } ||
        unavailable "the list of Debian's packages cannot be downloaded"
    # The packaging of Debian is not wanted, and may be missing.
    (cd "$folder" && apt-get "${options[@]}" source --download-only --tar-only "$2/$1") || true
    [ -r "$folder/$3" ] || unavailable "$3 cannot be downloaded"
    tar xf "$folder/$3" -C "$folder/source" --strip-components=1
}

python() {
    have python3 || unavailable 'python3 is missing'
    python3 -m venv "$folder/python" && "$folder/python/bin/pip" install -q --no-input pytest==8.4.2 "$@" ||
        unavailable "pip cannot install $*"
}

sdist() {
    (cd "$folder" && python/bin/pip download -q --no-input --no-deps --no-binary :all: "$1") ||
        unavailable "pip cannot download $1"
    mkdir -p "$folder/source" && tar xf "$folder/${1/==/-}.tar.gz" -C "$folder/source" --strip-components=1
}

pytest() {
    "$folder/python/bin/python" -m pytest -q -p no:cacheprovider --junitxml="$report" "$@"
}

# --- The suites ---------------------------------------------------------------
# install_X fills $folder; run_X runs in $folder/source against $port, and writes a report, or the lines that
# results.py makes of one, to $report.

install_pika() {
    python pika==1.3.2 gevent==26.9.0 tornado==6.6.1
    debian trixie python-pika python-pika_1.3.2.orig.tar.gz
    sed -i "s/5672/int(__import__('os').environ['AMQP_PORT'])/" "$folder/source/tests/base/async_test_base.py" \
        "$folder/source/tests/acceptance/blocking_adapter_test.py"
}
# Without the tests of Twisted, which use nose.
run_pika() { AMQP_PORT=$port pytest tests/acceptance/{blocking_adapter_test,async_adapter_tests,enforce_one_basicget_test}.py; }

install_py-amqp() { python amqp==5.3.1 pytest-rerunfailures==16.1; sdist amqp==5.3.1; }
run_py-amqp() { RABBITMQ_5672_TCP=$port pytest -k plain t/integration/test_rmq.py; }

install_kombu() { python kombu==5.7.0 pytest-rerunfailures==16.1; sdist kombu==5.7.0; }
run_kombu() { RABBITMQ_5672_TCP=$port pytest t/integration/test_py_amqp.py; }

install_amqplib() {
    have npm || unavailable 'npm is missing'
    (cd "$folder" && npm pack -s amqplib@1.0.3 && mkdir -p source && tar xf amqplib-1.0.3.tgz -C source --strip-components=1 &&
        cd source && npm install --silent --ignore-scripts) || unavailable 'npm cannot install amqplib'
}
run_amqplib() {
    URL=amqp://localhost:$port node --test --test-reporter=junit --test-reporter-destination="$report" test/*.test.js
}

install_amqp091-go() {
    need go golang-go
    [ -d /usr/share/gocode/src/go.uber.org/goleak ] || need goleak golang-uber-goleak-dev
    debian bookworm golang-github-rabbitmq-amqp091-go golang-github-rabbitmq-amqp091-go_1.5.0.orig.tar.gz
    mkdir -p "$folder/path/src/github.com/rabbitmq"
    ln -sfn "$folder/source" "$folder/path/src/github.com/rabbitmq/amqp091-go"
    (cd "$folder/path/src/github.com/rabbitmq/amqp091-go/" && GO111MODULE=off \
        GOPATH=$folder/path:/usr/share/gocode go test -c -tags integration -o "$folder/tests" .) ||
        unavailable 'its tests do not compile'
}
run_amqp091-go() { AMQP_URL=amqp://guest:guest@127.0.0.1:$port/ "$folder/tests" -test.v >"$report"; }

install_bunny() {
    need rspec ruby ruby-rspec ruby-amq-protocol ruby-sorted-set
    debian trixie ruby-bunny ruby-bunny_2.23.0.orig.tar.gz
    # The user and the virtual host that its specs want to be there.
    grep -rlE 'bunny_(gem|password|testbed)' "$folder/source/spec" |
        xargs sed -i 's/bunny_gem\|bunny_password/guest/g; s|bunny_testbed|/|g'
    cat >"$folder/source/helper.rb" <<'RUBY'
$LOAD_PATH.unshift File.expand_path("lib", __dir__)
require "amq/protocol/client"
AMQ::Protocol.send(:remove_const, :DEFAULT_PORT)
AMQ::Protocol::DEFAULT_PORT = Integer(ENV.fetch("RABBITMQ_PORT"))
# The one of the specs needs Bundler.
$LOADED_FEATURES << File.expand_path("spec/spec_helper.rb", __dir__)
require "bunny"
require "bunny/test_kit"
RUBY
}
# Left out: what needs the management API, TLS, or a proxy; and two examples that expect the port 5672.
run_bunny() {
    local specs=()
    mapfile -t specs < <(ls spec/{higher,lower}_level_api/integration/*_spec.rb spec/issues/*_spec.rb |
        grep -vE 'toxiproxy|connection_(recovery|stop)|tls_|issue(78|549|656)')
    RUBYOPT=-W0 RABBITMQ_PORT=$port rspec -r ./helper.rb -f json -o "$report.all" "${specs[@]}" || true
    python3 "$tools/results.py" read "$report.all" | grep -vE '5672|converts hosts in addresses' >"$report"
}

install_php-amqplib() {
    need phpunit phpunit php-cli php-bcmath php-mbstring php-xml php-phpseclib
    debian trixie php-amqplib php-amqplib_3.7.3.orig.tar.xz
    mkdir -p "$folder/source/vendor"
    cat >"$folder/source/vendor/autoload.php" <<'PHP'
<?php
spl_autoload_register(function ($class) {
    foreach (['PhpAmqpLib\\Tests\\' => 'tests/', 'PhpAmqpLib\\' => 'PhpAmqpLib/'] as $prefix => $folder) {
        $file = __DIR__ . '/../' . $folder . str_replace('\\', '/', substr($class, strlen($prefix))) . '.php';
        if (strncmp($class, $prefix, strlen($prefix)) === 0 && is_file($file)) {
            require $file;
            return;
        }
    }
});
PHP
}
run_php-amqplib() {
    TEST_RABBITMQ_HOST=127.0.0.1 TEST_RABBITMQ_PORT=$port \
        phpunit --testsuite 'Functional Tests' --exclude-group proxy,ssl,management --log-junit "$report"
}

jars=/usr/share/java
class_path=$jars/amqp-client.jar:$jars/junit4.jar:$jars/hamcrest.jar:$jars/slf4j-api.jar:$jars/slf4j-nop.jar
install_java() {
    need javac default-jdk-headless
    [ -r $jars/amqp-client.jar ] && [ -r $jars/junit4.jar ] || need rabbitmq-java librabbitmq-client-java junit4 libslf4j-java
    debian bookworm rabbitmq-java-client rabbitmq-java-client_5.0.0.orig.tar.gz
    local tests=$folder/source/src/test/java/com/rabbitmq
    # Left out: what needs rabbitmqctl, a restart, a second node, TLS or other libraries.
    (cd "$tests" && rm -rf client/test/{performance,ssl,server/HATests.java,ClientTests.java} client/impl \
        client/test/functional/{FunctionalTests,Policies}.java \
        client/test/server/{MessageRecovery,DeadLetterExchangeDurable,AbsentQueue,ServerTests}.java
        grep -rlE 'org.awaitility|org.mockito|commons.cli' . | xargs rm -f
        # Without the restart it leaves a queue that its neighbours want.
        sed -i '/void restartingExpiry/s/@Test//' client/test/functional/PerMessageTTL.java
        grep -rl 'new ConnectionFactory()' . | xargs sed -i 's/new ConnectionFactory()/com.rabbitmq.client.test.Runner.factory()/')
    cp "$tools/Runner.java" "$tests/client/test/"
    find "$tests" -name '*.java' >"$folder/files"
    javac -nowarn -cp $class_path -d "$folder/classes" @"$folder/files" || unavailable 'its tests do not compile'
}
run_java() {
    local classes
    classes=$(cd src/test/java/com/rabbitmq/client/test && grep -lE '@Test|extends BrokerTestCase' functional/*.java *.java \
        server/{AlternateExchangeEquivalence,PriorityQueues,XDeathHeaderGrowth}.java | sed 's/\.java$//; s|/|.|' |
        grep -vE 'BrokerTestCase|Base$|Abstract|TTLHandling|RequeueOnClose|Nowait|LambdaCallback|RequiredProp|UserIDHeader|ConnectionRecovery|DurableOnTransient|ExchangeDeletePredeclared|SSL|Ssl|Nio|Metrics|AmqpUriTest')
    # shellcheck disable=SC2086
    java -Damqp.port="$port" -cp "$class_path:$folder/classes" com.rabbitmq.client.test.Runner $classes >"$report"
}

# --- Running them -------------------------------------------------------------

# Runs a suite on one side: run_on NAME-OF-THE-SIDE PORT.
run_on() {
    local report=$results/$suite.$1 port=$2
    rm -f "$report"
    # Failing tests are no failure here: they are compared.
    (cd "$folder/source" && export -f "run_$suite" pytest && export folder report port tools class_path &&
        timeout "$suite_seconds" bash -c "run_$suite") >"$report.log" 2>&1 </dev/null || [ $? != 124 ] ||
        say "$suite was ended after $suite_seconds s with the $1: it may have left queues there"
    [ -s "$report" ] || { say "$suite: no report: see ${report#"$root/"}.log"; : >"$report"; }
    case $(head -c 5 "$report") in
        pass* | fail* | skip*) cp "$report" "$report.tests" ;;
        *) python3 "$tools/results.py" read "$report" >"$report.tests" ;;
    esac
}

# Starts the test broker anew, without what a suite has left behind: sets broker_port.
start_broker() {
    stop_broker
    coproc broker { exec "$root/target/debug/actix-pika-broker" --port 0 --line "$line"; }
    read -r url <&"${broker[0]}"
    broker_port=${url##*:} broker_port=${broker_port%%/*}
}

stop_broker() {
    local pid=${broker_PID:-}
    [ -z "$pid" ] || { kill "$pid" && wait "$pid"; } 2>/dev/null || true
}

# Installs a suite unless it is there, and compares both sides. A test may fail by chance: the same one must differ
# twice.
compare() {
    suite=$1 folder=$base/$1
    if [ ! -e "$folder/installed" ]; then
        say "installing $suite"
        rm -rf "$folder"
        mkdir -p "$folder"
        (install_"$suite") >"$folder.log" 2>&1 </dev/null || { tail -n 1 "$folder.log" >&2; return 3; }
        date >"$folder/installed"
    fi
    say "running $suite"
    local counts try status=0 differences=$results/$suite.differences
    : >"$differences"
    for try in first second; do
        run_on node "$node_port"
        start_broker
        run_on broker "$broker_port"
        status=0
        counts=$(python3 "$tools/results.py" compare "$results/$suite".{node,broker}.tests 2>"$differences.$try") || status=1
        [ "$status" = 1 ] || break
    done
    printf '%-12s %6s %8s %6s\n' "$suite" $counts >>"$results/table"
    if [ "$status" = 0 ]; then return; fi
    LC_ALL=C comm -12 "$differences".{first,second} | tee "$differences" >&2
    # It is one more failure if no test passes on the node.
    [ ! -s "$differences" ] && [ "${counts%% *}" != 0 ]
}

line=3.10 select=(ensure rabbitmq)
case ${1:-} in
    3.10) shift ;;
    [0-9]*) line=$1 select=("$1" ensure); shift ;;
esac
url=$("$root/scripts/broker.sh" "${select[@]}")
"$root/scripts/line.sh" "$url" "$line"
node_port=${url##*:} node_port=${node_port%%/*}
results=$base/results/$line
mkdir -p "$results"
printf '%-12s %6s %8s %6s\n' suite node broker both >"$results/table"
(cd "$root" && cargo build --quiet --package actix-pika-broker --target-dir "$root/target")
trap stop_broker EXIT
status=0
for each in ${*:-$suites}; do
    compare "$each" || case $? in
        3) [ "${CI:-}" != true ] || status=1 ;;
        *) status=1 ;;
    esac
done
say "passing tests, with RabbitMQ $line:"
cat "$results/table"
exit $status
