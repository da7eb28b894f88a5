# What people and CI run. Each target installs what it needs, or says what is missing.
#
#   make demo                  two firewalls, 500 connections, one firewall dies (ctsyncd)
#   make demo PEER=conntrackd  the same with conntrackd
#   make demo PEER=none        the same without replication: all connections die
#   make demo FLOWS=200000     with that many further flows in the table
#   make test                  everything CI runs
#   make sim SEEDS=0..10000    random lives of simulated clusters; a seed that fails is named
#   make bench                 every figure that matters, conntrackd's and ours, in one table
#   make bench ROWS="sender receiver" ROUNDS=1 FLOWS=20000 BENCH="--json bench.json"
#   make bench-commit          the same, of the rows about the commit alone
#   make bench-converge        what becoming equal again costs after a fault
#   make bench-growth          cost of an event, stalls and memory from 1,000 to 2,000,000 flows
#   make bench-failover        who lives through a failover and how long it stalls, ours beside conntrackd's
#   make bench-failover FLOWS="1000 200000" PEERS="conntrackd cold" BENCH="--ruleset plain"
#   make bench-micro           times of the pieces of the data path (no root); FILTER=decode for some
#   make bench-instructions    instructions of the same, compared with benches/instructions.txt
#   make fuzz                  a minute on every parser of foreign bytes, from the corpus that tests replay
#   make fuzz TARGETS=wire SECONDS=3600

PEER ?= ctsyncd
FLOWS ?= 0
TARGETS ?= config control engine netlink sealed wire
SECONDS ?= 60
SEEDS ?= 0..2000
CARGO ?= cargo
# Root runs the laboratory on the real kernel, and then none of it may be skipped.
LAB_REQUIRED := $(if $(filter 0,$(shell id -u)),1,0)
comma := ,
space := $(subst ,, )
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

# ROWS and FLOWS are lists (all rows, and sizes of the table); BENCH is what else `bench --help` knows.
.PHONY: bench
bench: FLOWS = 200000 1000000
bench: ROUNDS = 3
bench: deps
	$(CARGO) build --release --locked --bin ctsyncd --example bench
	$(SUDO) target/release/examples/bench --binary target/release/ctsyncd --rounds $(ROUNDS) \
		--flows $(subst $(space),$(comma),$(strip $(FLOWS))) \
		$(if $(strip $(ROWS)),--rows $(subst $(space),$(comma),$(strip $(ROWS)))) $(BENCH)

.PHONY: bench-commit
bench-commit:
	$(MAKE) bench ROWS=commits

.PHONY: bench-converge
bench-converge: deps
	$(CARGO) build --release --locked --bin ctsyncd --example converge_bench
	$(SUDO) target/release/examples/converge_bench --binary target/release/ctsyncd

.PHONY: bench-growth
bench-growth: deps
	$(CARGO) build --release --locked --bin ctsyncd --example growth_bench
	$(SUDO) target/release/examples/growth_bench --binary target/release/ctsyncd

# FLOWS and PEERS are lists; BENCH is what else `failover_bench --help` knows.
.PHONY: bench-failover
bench-failover: FLOWS = 1000
bench-failover: PEERS = none conntrackd cold gate hot
bench-failover: deps
	$(CARGO) build --release --locked --bin ctsyncd --example failover_bench
	$(SUDO) target/release/examples/failover_bench --binary target/release/ctsyncd \
		--flows $(subst $(space),$(comma),$(strip $(FLOWS))) \
		--peers $(subst $(space),$(comma),$(strip $(PEERS))) $(BENCH)

# No root, and nothing but cargo. FILTER is a part of a row's name.
.PHONY: bench-micro
bench-micro:
	$(CARGO) bench --locked --bench data_path -- $(FILTER)

# Needs valgrind. BLESS=1 writes benches/instructions.txt anew.
.PHONY: bench-instructions
bench-instructions:
	CARGO="$(CARGO)" scripts/bench-instructions

# What is found stays in fuzz/corpus/ and what breaks something in fuzz/artifacts/; CONTRIBUTING.md
# says how it gets into the corpus of the tests. No sanitizer: they want nightly, and the code that
# reads foreign bytes has no unsafe.
.PHONY: fuzz
fuzz: deps
	@cargo fuzz --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-fuzz
	SEEDS=fuzz/corpus $(CARGO) test --locked --test corpus real_messages
	@for target in $(TARGETS); do \
		echo "== $$target"; \
		$(CARGO) fuzz run -s none $$target fuzz/corpus/$$target tests/corpus/$$target -- \
			-max_total_time=$(SECONDS) -max_len=4096 -timeout=10 -rss_limit_mb=1024 \
			-print_final_stats=1 || exit 1; \
	done

.PHONY: deps
deps:
	@scripts/deps
