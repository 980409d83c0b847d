# Each target names a short script in scripts/, where its details and pinned
# versions are. Settings go on the command line: make test PKGS=./certs/

PKGS ?= ./...
TESTFLAGS ?=
FUZZTIME ?= 10s

.PHONY: help
help: ## List the targets.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r target says; do printf 'make %-10s %s\n' "$$target" "$$says"; done

.PHONY: run
run: build ## Build, then start a remote and a local on loopback, nothing to set up.
	./build/culvert demo

.PHONY: build
build: ## Build ./build/culvert.
	@scripts/build.sh

.PHONY: test
test: test-deps ## Run all tests; a skipped test fails (PKGS=./..., TESTFLAGS='-run X').
	@scripts/test.sh $(TESTFLAGS) $(PKGS)

.PHONY: test-deps
test-deps: ## Install what the tests need and is missing (root or sudo).
	@scripts/test-deps.sh

.PHONY: lint
lint: ## Check format, vet, staticcheck, module files, test rules, known vulnerabilities.
	@scripts/lint.sh

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME=10s (PKGS=./...).
	@FUZZTIME='$(FUZZTIME)' scripts/fuzz.sh $(PKGS)

.PHONY: bench-micro
bench-micro: ## Measure handshake, records and session in pairs; medians of COUNT=6 runs.
	@scripts/bench-micro.sh

.PHONY: bench
bench: ## Measure culvert beside OpenSSH and Xray; 30 minutes (QUICK=1: 5; ONLY=CASE,…).
	@QUICK='$(QUICK)' ONLY='$(ONLY)' ROUNDS='$(ROUNDS)' RENDER='$(RENDER)' scripts/bench.sh

.PHONY: clean
clean: ## Remove what the build and the checks made.
	rm -rf build
