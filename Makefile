# What people and CI run. Each target installs what it needs, or says what is missing.
#
#   make demo                  two firewalls, 500 connections, one firewall dies (ctsyncd)
#   make demo PEER=conntrackd  the same with conntrackd
#   make demo PEER=none        the same without replication: all connections die
#   make demo FLOWS=200000     with that many further flows in the table
#   make test                  everything CI runs
#   make sim SEEDS=0..10000    random lives of simulated clusters; a seed that fails is named
#   make bench-commit          commit of 200,000 flows, ours beside conntrackd's
#   make bench-converge        what becoming equal again costs after a fault

PEER ?= ctsyncd
FLOWS ?= 0
SEEDS ?= 0..2000
CARGO ?= cargo
# Root runs the laboratory on the real kernel, and then none of it may be skipped.
LAB_REQUIRED := $(if $(filter 0,$(shell id -u)),1,0)
# Building and looking needs no root; namespaces do.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: demo
demo: deps
	$(CARGO) build --release --locked --bin ctsyncd --example demo
	$(SUDO) target/release/examples/demo --peer $(PEER) --flows $(FLOWS) --binary target/release/ctsyncd

.PHONY: test
test: deps
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --locked --document-private-items
	LAB_REQUIRED=$(LAB_REQUIRED) $(CARGO) test --locked
	$(CARGO) clippy --all-targets --locked --features broken-rules -- -D warnings
	$(CARGO) test --locked --features broken-rules --test sim -- rules::

# Random lives of simulated clusters; a seed that fails is named and replays with SEEDS=n..n+1.
.PHONY: sim
sim:
	SEEDS=$(SEEDS) $(CARGO) test --release --locked --test sim -- random

.PHONY: bench-commit
bench-commit: deps
	$(CARGO) build --release --locked --bin ctsyncd --example commit_bench
	$(SUDO) target/release/examples/commit_bench --binary target/release/ctsyncd

.PHONY: bench-converge
bench-converge: deps
	$(CARGO) build --release --locked --bin ctsyncd --example converge_bench
	$(SUDO) target/release/examples/converge_bench --binary target/release/ctsyncd

.PHONY: deps
deps:
	@scripts/deps
