# `make demo` and `make test` need Rust (cargo) only. They start a RabbitMQ node under .broker/,
# and install RabbitMQ first if it is missing and the system allows it; where it does not, `make demo` uses the
# project's test broker, and `make test` fails. Tests with other software (make services)
# are left out where that cannot be installed, and fail then if CI=true.
# To use another broker, set AMQP_URL, and MANAGEMENT_URL if its management port is not 15672.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Most tests wait for the broker or for a timer, so more of them run at once than there are cores.
export RUST_TEST_THREADS ?= 8

# Exports the URL of a running broker to the commands that follow in the same shell.
with_broker = AMQP_URL=$$(scripts/broker.sh ensure rabbitmq); export AMQP_URL;

# Runs all tests but the chaos test, then the chaos test even if the first run failed.
# Fails if either failed.
run_tests = status=0; \
	cargo test --workspace --all-features --no-fail-fast || status=$$?; \
	cargo test --workspace --all-features --test chaos || status=$$?; \
	exit $$status

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Run the demo against a broker
	@AMQP_URL=$$(scripts/broker.sh ensure optional); \
		case $$AMQP_URL in '') set -- -- --embedded ;; amqps:*) export AMQP_URL; set -- --features tls ;; \
			*) export AMQP_URL; set -- ;; esac; \
		cargo run --profile demo --package actix-pika-demo --example demo "$$@"

.PHONY: test
test: ## Run all tests against a broker, doc tests and a short chaos run included
	@$(with_broker) $(run_tests)

# Runs all tests against the RabbitMQ of this version.
test_version = AMQP_URL=$$(scripts/broker.sh $(1) ensure); export AMQP_URL TEST_BROKER=$(1); \
	unset MANAGEMENT_URL; $(run_tests)

.PHONY: test-4
test-4: ## Run all tests against RabbitMQ 4.0, installed under .broker/ (Linux, as root)
	@$(call test_version,4.0)

.PHONY: test-43
test-43: ## Run all tests against RabbitMQ 4.3, installed under .broker/ (Linux, as root)
	@$(call test_version,4.3)

.PHONY: test-embedded
test-embedded: ## Run the tests against the project's test broker, without RabbitMQ; LINE=3.10, 3.13, 4.0, 4.3
	@TEST_BROKER=embedded-$(or $(LINE),4.3) cargo test --all-features --no-fail-fast \
		--test rabbitmq --test patterns --test application

.PHONY: test-tls
test-tls: ## Run the tests that need a broker over TLS, on the project's own node
	@scripts/broker.sh start; eval "$$(scripts/broker.sh env)"; export AMQP_URL MANAGEMENT_URL; \
		TEST_TLS=1 SSL_CERT_FILE=$(CURDIR)/.broker/certificates/ca.pem \
		cargo test --all-features --no-fail-fast --test rabbitmq

.PHONY: differential
differential: ## Hold the test broker against RabbitMQ 3.10, 4.0 and 4.3 by random sequences (Linux, as root); SEEDS=0..20000 LINES=V4_3
	@scripts/differential.sh $(or $(SEEDS),0..20000) $(LINES)

.PHONY: test-clients
test-clients: ## Run suites of clients in other languages against RabbitMQ and the test broker; LINE=3.10, 4.0, 4.3
	@scripts/clients.sh $(or $(LINE),3.10) $(SUITES)

.PHONY: test-full
test-full: ## Run all that takes longer: RabbitMQ 4.0 and 4.3, other clients, TLS, each feature, full chaos (well over an hour)
	@$(MAKE) test-4
	@$(MAKE) test-43
	@$(MAKE) test-tls
	@$(MAKE) features
	@$(MAKE) differential
	@$(MAKE) test-clients
	@$(MAKE) memory
	@$(MAKE) jobs
	@$(MAKE) chaos

.PHONY: check
check: ## Check formatting, lints, documentation, packages, and dependencies if cargo-deny is installed
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --all-features --no-deps
	scripts/package.sh
	@if cargo deny --version >/dev/null 2>&1; then cargo deny check; \
	else echo "check: cargo-deny is not installed: licences and advisories are not checked"; fi

.PHONY: features
features: ## Check each crate with no feature, each feature alone and all features, on the MSRV if installed
	@scripts/features.sh

.PHONY: deny
deny: ## Check the licences and advisories of the dependencies (needs cargo-deny)
	cargo deny check

.PHONY: semver
semver: ## Compare the public API with the last release (needs cargo-semver-checks)
	@scripts/semver.sh

.PHONY: bench
bench: ## Measure the wire format, the outbox and the test broker, then publishing against a broker
	cargo bench --package actix-pika-actors --all-features --bench wire --bench outbox
	cargo run --release --package actix-pika-broker --example speed
	@$(with_broker) cargo run --release --example perf -- --url "$$AMQP_URL"

.PHONY: memory
memory: ## Measure the memory that a peer can make a client use, with the default limits
	MEMORY=full cargo test --release --package actix-pika-actors --all-features --test memory -- --nocapture --test-threads=1

.PHONY: jobs
jobs: ## Run the application of examples/background-jobs: 5,000 requests, with a restart of the broker, and with kills
	@$(with_broker) JOBS=full cargo test --workspace --all-features --test jobs -- --nocapture --test-threads=1

.PHONY: chaos
chaos: ## Run the full chaos test, about 20 minutes; PART=3 SEED=7 runs one part with a given seed
	@$(with_broker) CHAOS=full CHAOS_PARTS=$(PART) CHAOS_SEED=$(SEED) \
		cargo test --release --test chaos --features testing

.PHONY: fuzz
fuzz: ## Fuzz each decoder and state machine for 20 seconds (needs cargo-fuzz and a C++ compiler)
	@scripts/fuzz.sh

.PHONY: hostile
hostile: ## Try the client on a hostile server, with panic = "abort"; RUNS=10000000 SEED=7 set the scripts
	cargo run --profile abort --package actix-pika-actors --features testing --example hostile -- $(or $(RUNS),100000) $(or $(SEED),1)

.PHONY: broker
broker: ## Start a broker unless one answers, and print its URL
	@scripts/broker.sh ensure

.PHONY: broker-stop
broker-stop: ## Stop the nodes and the PostgreSQL that this project started
	@scripts/broker.sh stop
	@scripts/services.sh stop

.PHONY: services
services: ## Install what tests talk to besides RabbitMQ: aio-pika (needs python3), PostgreSQL
	@scripts/services.sh aio-pika
	@scripts/services.sh postgres

.PHONY: broker-status
broker-status: ## Show whether this project's node runs, and its URLs
	@scripts/broker.sh status
