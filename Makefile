# What a newcomer types. Debian 12 and Rust (rustup.rs) are expected; `make deps` installs the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help deps build tools demo test check unit scenarios bench fuzz image clean

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
CARGO ?= $(shell command -v cargo || echo $(HOME)/.cargo/bin/cargo)
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
TESTBED := $(SUDO) env STOPOVER_BIN=$(TARGET)/release

# To build; to run the testbed; guests and containers. Real peers only: nothing of these is part of Stopover.
PACKAGES := build-essential git libclang-dev libdpdk-dev libipsec-mb-dev pkg-config protobuf-compiler \
	dpdk dpdk-dev ethtool iperf3 iproute2 iputils-ping keepalived kmod nftables procps pylint python3 python3-cryptography python3-scapy tcpdump tshark util-linux \
	busybox-static debootstrap openvswitch-switch-dpdk podman qemu-system-x86 runc

help:
	@echo 'make deps       install the Debian packages that are missing'
	@echo 'make build      build the programs (target/release)'
	@echo 'make tools      the same, and the tools that only the bench needs'
	@echo 'make demo       two guests on two hosts talk through two appliances; shows how, then cleans up'
	@echo 'make test       formatting, clippy, pylint, unit, property and doc tests, and all scenarios'
	@echo 'make scenarios  only the scenarios; one of them: testbed/run NAME'
	@echo 'make bench      packets per second beside testpmd and OVS-DPDK; wants the machine for itself'
	@echo 'make fuzz       the fuzz targets for a minute each, and bad frames by the hundred thousand'
	@echo 'make image      the container image, with docker or podman'
	@echo 'make clean      remove what was built, and the caches of the testbed'

# Quick when nothing is missing. tshark would ask whether others than root may capture; they may not.
deps:
	@missing=; for p in $(PACKAGES); do \
		[ "$$(dpkg-query -W -f='$${db:Status-Status}' $$p 2>/dev/null)" = installed ] || missing="$$missing $$p"; \
	done; \
	if [ -n "$$missing" ]; then \
		echo "installing$$missing"; \
		$(SUDO) apt-get update -q && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; \
	fi
	@$(CARGO) --version >/dev/null 2>&1 || { echo 'Rust is missing: see https://rustup.rs'; exit 1; }

# The programs, and the tools that scenarios need. All in one call, so that they share their dependencies' features.
# What runs inside guests must be static: there is nothing in a guest that it could be linked to.
build:
	$(CARGO) build --release --locked --workspace --exclude stopover-guest-tools \
		--bin stopover-appliance --bin stopover-bbs --bin stopover --bin board-churn --bin faulty-board \
		--bin front-ends --bin watch-check --bin overload --bin access --bin many-hosts
	$(CARGO) rustc --release --locked -p stopover-guest-tools --bin guest-tools -- \
		-C target-feature=+crt-static -C strip=symbols

demo: deps build
	$(TESTBED) testbed/demo

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	cd fuzz && $(CARGO) check --locked --bins --target-dir ../target
	cd testbed && /usr/bin/python3 -m pylint --rcfile pylintrc --score n run demo scenarios/*.py $$(find lib -name '*.py')

# A test that hangs fails within 20 minutes, and the last lines name it.
unit:
	$(CARGO) test --locked --workspace --no-run
	timeout --verbose 1200 $(CARGO) test --locked --workspace --no-fail-fast
	cd testbed && python3 -B -c 'import doctest, sys; from lib.bench import callgrind, charts, limits, rate_search; \
		sys.exit(any(doctest.testmod(m).failed for m in (callgrind, charts, limits, rate_search)))'

scenarios: build
	$(TESTBED) testbed/run all

tools: build
	$(CARGO) build --release --locked --workspace --exclude stopover-guest-tools --bins

bench: tools
	$(TESTBED) testbed/run bench

test:
	$(MAKE) check
	$(MAKE) unit
	$(MAKE) scenarios

# Coverage-guided fuzzing needs a nightly compiler and cargo-fuzz; without them their part is left out.
fuzz: build
	@if $(CARGO) +nightly fuzz --version >/dev/null 2>&1; then \
		for t in fuzz/fuzz_targets/*.rs; do \
			$(CARGO) +nightly fuzz run "$$(basename $$t .rs)" -- -max_total_time=60 || exit 1; \
		done; \
	else \
		echo 'no cargo-fuzz (rustup toolchain install nightly; cargo install cargo-fuzz): skipping the fuzz targets'; \
	fi
	$(TESTBED) STOPOVER_CASES=200000 STOPOVER_SEED=$$RANDOM$$RANDOM testbed/run bad-frames

image:
	$$(command -v docker >/dev/null && docker info >/dev/null 2>&1 && echo docker || echo podman) build -t stopover .

clean:
	$(CARGO) clean
