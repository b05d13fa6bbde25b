# `make demo` and `make test` need Rust (cargo) and nothing else: a RabbitMQ of the
# project's own is started under .broker/, and installed first where that can be done.
# Set AMQP_URL (and MANAGEMENT_URL, when it is not port 15672) to use another broker.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Many tests wait for the broker or for a time limit, not for a processor.
export RUST_TEST_THREADS ?= 8

# The URL of a broker that answers, for the command that follows on the same line.
with_broker = AMQP_URL=$$(scripts/broker.sh ensure); export AMQP_URL;

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Run the demonstration against a broker
	@$(with_broker) cargo run --release --example demo

.PHONY: test
test: ## Run all tests, those of the documentation included, against a broker
	@$(with_broker) cargo test --workspace --all-features

.PHONY: test-4
test-4: ## Run all tests against a RabbitMQ 4.0, which is fetched into .broker (Linux, as root)
	@AMQP_URL=$$(scripts/broker.sh four ensure); export AMQP_URL TEST_BROKER=four; unset MANAGEMENT_URL; \
		cargo test --workspace --all-features

.PHONY: check
check: ## Check the format, the lints and the documentation
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --all-features --no-deps

.PHONY: bench
bench: ## Measure the throughput and the latency against a broker
	@$(with_broker) cargo run --release --example perf

.PHONY: chaos
chaos: ## Break connections for twenty minutes and count what is lost; PART=3 SEED=7 for one part
	@$(with_broker) CHAOS=full CHAOS_PARTS=$(PART) CHAOS_SEED=$(SEED) \
		cargo test --release --test chaos --features testing

.PHONY: fuzz
fuzz: ## Feed the decoder with random input
	@scripts/fuzz.sh

.PHONY: broker
broker: ## Make sure a broker answers, and print its URL
	@scripts/broker.sh ensure

.PHONY: broker-stop
broker-stop: ## Stop the broker that this project started
	@scripts/broker.sh stop

.PHONY: broker-status
broker-status: ## Say which broker of this project runs, and where
	@scripts/broker.sh status
