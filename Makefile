# Every task of the project; each one installs what it needs.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
SCRIPTS := .ci/run .ci/coverage .ci/lock .ci/python.sh .ci/tools .ci/instrumented-rustc bench/debian.sh e2e/setup.sh \
  crates/synapse/src/server/install/install.sh
SDK := .e2e/sdk/bin/python

.PHONY: help run build test e2e lint fmt coverage bench prove setup lock advisories clean ensure

help: ## List the tasks
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ensure ## Build and start a gateway with a simulated engine: a first reply without any model
	cargo build --release --locked
	target/release/synapse serve --demo

build: ensure ## Build the release binary, target/release/synapse
	cargo build --release --locked

test: ensure ## Run the tests of every crate
	cargo test --workspace --locked

e2e: ensure ## Test against real engines, with the SDKs that callers use
	e2e/setup.sh
	cargo build --locked
	$(SDK) -m pytest -c e2e/pytest.ini e2e/tests
	$(SDK) e2e/with_stack.py node --test --test-reporter=spec e2e/node/
	$(SDK) e2e/conformance.py

lint: ensure ## Check formatting, lints, dependencies and scripts
	.ci/tools
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	.tools/bin/cargo-deny --locked --log-level error check --hide-inclusion-graph bans licenses sources
	.tools/bin/shellcheck -x $(SCRIPTS)
	.tools/bin/ruff check --quiet bench e2e && .tools/bin/ruff format --quiet --check bench e2e

fmt: ensure ## Format all code
	.ci/tools
	cargo fmt --all
	.tools/bin/ruff format bench e2e

coverage: ensure ## Run the tests instrumented and print the line coverage
	.ci/coverage

bench: ensure ## Measure Synapse beside nginx and HAProxy and print the table; WRITE=1 also writes it into bench/README.md
	bench/run.py $(if $(WRITE),--write)

prove: ensure ## Show on this machine the promises that come with a figure; writes docs/proof.md
	SYNAPSE_PROVE=1 cargo test --release --locked -p synapse --test it prove:: -- --test-threads=1

setup: ensure ## Install everything for development at once
	.ci/tools
	e2e/setup.sh
	cargo fetch --locked

lock: ## Resolve the pinned Python packages anew
	.ci/lock

advisories: ensure ## Look up known vulnerabilities of our dependencies (needs the advisory database's network)
	.ci/tools
	.tools/bin/cargo-deny --locked check advisories

clean: ## Remove everything that was built or installed into the tree
	rm -rf target .e2e .tools e2e/node/node_modules

ensure:
	@command -v cargo >/dev/null || { echo "Rust is needed: the toolchain in rust-toolchain.toml, with cargo on the PATH." >&2; exit 1; }
	@command -v cc >/dev/null || { echo "A C compiler is needed (on Debian: build-essential)." >&2; exit 1; }
