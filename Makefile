# Two commands are enough: `make demo` and `make test`. Both do all set-up themselves.
SHELL := /bin/bash
CARGO_FLAGS := --locked
# The one optional feature: the server is built a second time with it, and what it touches is tested so (docs/adr/0014).
OIDC := sallyport-server/oidc
OIDC_TESTS := oidc:: coverage:: officers:: factors:: rights:: console::
export SALLYPORT_CACHE := $(CURDIR)/.cache

.PHONY: help setup demo test check fuzz bench nightly clean-demo

help: ## Show these lines.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## Fetch system packages, ONNX Runtime, models and fixture pictures, all by SHA-256.
	deploy/setup

demo: ## The whole system on real photographs: enrol, pass, decide, open, verify. ONCE=1 ends by itself.
	deploy/setup
	cargo build $(CARGO_FLAGS) --release --bins
	target/release/sallyport-demo $(if $(ONCE),--once)

test: ## All tests, after set-up.
	deploy/setup --test
	$(MAKE) --no-print-directory check-lints
	cargo build $(CARGO_FLAGS) --workspace --bins
	cargo test $(CARGO_FLAGS) --workspace
	cargo test $(CARGO_FLAGS) --workspace --features $(OIDC) --test server -- $(OIDC_TESTS)

.PHONY: check-lints
check-lints:
	cargo fmt --all --check
	cargo clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings
	cargo clippy $(CARGO_FLAGS) --workspace --features $(OIDC) --bins --test server -- -D warnings

check: check-lints ## Format, lints, documentation, licences and sources.
	RUSTDOCFLAGS="-D warnings" cargo doc $(CARGO_FLAGS) --workspace --no-deps
	cargo deny --offline check bans licenses sources

SECONDS ?= 60
fuzz: ## Every parser with mutated input, each target for SECONDS=60; found inputs land in fuzz/found.
	SALLYPORT_FUZZ_SECONDS=$(SECONDS) cargo test $(CARGO_FLAGS) -p sallyport-transparency -p sallyport-protocol -p sallyport-gate -p sallyport-server --test hostile_input -- --nocapture

nightly: ## What is too long for every run: 60 s of each fuzz target, the long tests, ten minutes of load on both databases. About 80 minutes.
	deploy/setup --test
	cargo test $(CARGO_FLAGS) -p sallyport-server --test server --test server_postgres -- --ignored every_write_call ten_thousand_changes
	$(MAKE) --no-print-directory fuzz SECONDS=$(SECONDS)
	cargo bench $(CARGO_FLAGS) -p sallyport-audit --bench million
	cargo bench $(CARGO_FLAGS) -p sallyport-server --bench log -- 600

bench: ## Benchmarks; each prints a peer's or the limit's figure beside ours.
	deploy/setup
	cargo bench $(CARGO_FLAGS) --workspace

clean-demo: ## Remove the demo's installation.
	rm -rf .demo
