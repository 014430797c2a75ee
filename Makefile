# Developer commands. `make` alone lists them.
LOWTIDE_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/lowtide
# A persistent folder: the AWS SDK alone takes minutes to compile.
CARGO_TARGET_DIR ?= $(LOWTIDE_CACHE)/target
export LOWTIDE_CACHE CARGO_TARGET_DIR
# Where tests/admission finds etcd, kube-apiserver and the rest.
export LOWTIDE_TOOLS ?= $(LOWTIDE_CACHE)/bin

# One set of features for every build and test with AWS and Kubernetes: a second set would compile the SDK again.
FEATURES := --features lab
LAB := $(CARGO_TARGET_DIR)/debug/lowtide-lab

.PHONY: help tools build demo lab nodes test bench bench-ledger bench-bill scale image release lint sqlx crds clean-cache soak

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

tools: ## builds the real control plane (etcd, Kubernetes, kwok, Helm) once, and finds Postgres
	@scripts/tools.sh

build: ## builds lowtide and the lab
	cargo build $(FEATURES) --bins

demo: tools build ## runs the whole demo in a local world and writes target/demo/report.json
	$(LAB) demo

lab: tools build ## starts the local world with the operator and stays up until Ctrl-C
	$(LAB) up

nodes: tools build ## plays a story on real nodes (kubelet, containerd and runc in namespaces) and writes target/nodes.json; root on Linux
	@scripts/node-tools.sh
	$(LAB) nodes

test: ## everything: format, unit tests, the real control plane, AWS's own SDK against the simulator
	@scripts/test.sh

bench: ## measures planning on the recorded market, and a year of backtests
	CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/core cargo bench --no-default-features --bench placement --bench pass --bench backtest

# Fewer rows: make bench-ledger ROWS=1000000
ROWS ?= 100000000
bench-ledger: tools ## measures the ledger on a plain Postgres; a hundred million shares take 40 GB in TMPDIR and half an hour
	CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/ledger cargo bench --no-default-features --features ledger,lab --bench ledger -- --rows $(ROWS)

# Smaller: make bench-bill LINES=20000
LINES ?= 1000000
bench-bill: tools ## measures the import of a bill of a million lines as CSV, in gzip and as Parquet: seconds and memory
	CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/ledger cargo bench --no-default-features --features ledger,lab --bench ledger -- --bill $(LINES)

# Smaller: make scale MACHINES=200 PODS=1000
MACHINES ?= 1000
PODS ?= 5000
scale: tools ## measures the operator on MACHINES machines and PODS pods of the local world, and writes target/scale.json; the first time it compiles the AWS SDK once more
	cargo build --profile scale $(FEATURES) --bins
	$(CARGO_TARGET_DIR)/scale/lowtide-lab scale --machines $(MACHINES) --pods $(PODS)

# make soak SEEDS=10000 FIRST=500000
SEEDS ?= 1000
CASES ?= 4000
FIRST ?= 0
soak: tools ## plays SEEDS simulated weeks at every level of faults, on all cores, and stops at the first level that breaks an invariant; then asks the real scheduler about CASES drawn placements
	@for level in none calm rough hostile; do echo "faults: $$level"; \
	  CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/core cargo run --quiet --profile sim --no-default-features --bin lowtide -- \
	    simulate --seed $(FIRST) --seeds $$(( $(SEEDS) / 4 )) --days 7 --faults $$level || exit 1; done
	LOWTIDE_ORACLE_FIRST=$(FIRST) LOWTIDE_ORACLE_CASES=$(CASES) cargo test $(FEATURES) --test oracle -- --nocapture

image: ## builds static binaries for amd64 and arm64 and an OCI image of them in target/image, without Docker (8 GB of memory, most of an hour)
	scripts/image/build.sh

release: ## puts image, binaries, chart (package and OCI layout), CRDs, Terraform and checksums into target/release; builds the image if target/image is not there
	scripts/image/release.sh

lint: ## formatting and clippy, before a review
	cargo fmt --check
	cargo clippy $(FEATURES) --all-targets -- -D warnings

sqlx: ## checks the ledger's queries against a freshly migrated Postgres and renews .sqlx
	scripts/sqlx.sh

crds: ## writes crds/ from the Rust types
	cargo run $(FEATURES) --bin lowtide -- crds --write crds

clean-cache: ## removes the built control plane and all of cargo's output
	rm -rf "$(LOWTIDE_CACHE)/bin" "$(LOWTIDE_CACHE)/node" "$(CARGO_TARGET_DIR)"
