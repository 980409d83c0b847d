# Each target runs a short script in scripts/, which documents the details and
# pins versions. Settings go on the command line: make test PKGS=./certs/

PKGS ?= ./...
TESTFLAGS ?=
FUZZTIME ?= 10s
PLATFORMS ?=
SEEDS ?= 1000
FIRST ?= 1
STRIDE ?= 1
SOAK ?= 30m
SOAK_SUMMARY ?= build/soak.md

.PHONY: help
help: ## List the targets.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r target text; do printf 'make %-12s%s\n' "$$target" "$$text"; done

.PHONY: run
run: build ## Build, then run the demo: a remote and a local on loopback, no setup.
	./build/culvert demo

.PHONY: build
build: ## Build ./build/culvert, static and reproducible.
	@scripts/build.sh

.PHONY: test
test: test-deps ## Run all tests; a skipped test fails (PKGS=./..., TESTFLAGS='-run X').
	@scripts/test.sh $(TESTFLAGS) $(PKGS)

.PHONY: test-deps
test-deps: ## Install the programs that the tests need and that are missing (root or sudo).
	@scripts/test-deps.sh

.PHONY: cover
cover: ## Print how much of each package its unit tests cover.
	@go test -count=1 -cover ./certs ./protocol ./socks ./tunnel/... ./internal/...

.PHONY: lint
lint: ## Run the static checks: format, vet, linters, imports, sizes, vulnerabilities.
	@scripts/lint.sh

.PHONY: cross
cross: ## Build and vet for every platform (PLATFORMS='windows/amd64 linux/arm').
	@scripts/cross.sh $(PLATFORMS)

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME=10s (PKGS=./...).
	@FUZZTIME='$(FUZZTIME)' scripts/fuzz.sh $(PKGS)

.PHONY: soak
soak: ## Run mixed load with cuts, freezes and reloads for SOAK=30m; print a summary.
	@mkdir -p $(dir $(SOAK_SUMMARY))
	@go test ./scripts/e2e -run '^TestSoak$$' -v -timeout 0 -count=1 -soak '$(SOAK)' \
		-soak-summary '$(abspath $(SOAK_SUMMARY))'

.PHONY: screenshots
screenshots: ## Take the pictures of the status page that are in docs/.
	@mkdir -p docs/status-page
	@go test ./scripts/e2e -run '^TestStatusPage$$' -count=1 \
		-screenshots '$(abspath docs/status-page)'

.PHONY: strangers
strangers: ## Measure what 16,000 strangers cost a client that is admitted.
	@go test ./scripts/e2e -run '^TestStrangers$$' -v -timeout 0 -count=1 -strangers 1

.PHONY: hostile
hostile: ## Measure what hostile clients and remotes cost another client; ROUNDS=5.
	@go test ./scripts/e2e -run '^TestHostilePeers$$' -v -timeout 0 -count=1 \
		-hostile '$(or $(ROUNDS),5)'

.PHONY: rolling
rolling: ## Restart both remotes behind HAProxy and nginx under 100 locals; print figures.
	@go test ./scripts/e2e -run '^TestRollingRestart$$' -v -timeout 0 -count=1 -rolling

.PHONY: simulate
simulate: ## Simulate an hour of faults for each of SEEDS=1000, from FIRST=1.
	@go test ./tunnel -run '^(TestSimulation|TestCarrierFailsAtEachByte)$$' -timeout 0 -count=1 \
		-seeds '$(SEEDS)' -first-seed '$(FIRST)' -stride '$(STRIDE)'

.PHONY: bench-micro
bench-micro: ## Measure handshake, records and session in pairs; medians of COUNT=6 runs.
	@scripts/bench-micro.sh

.PHONY: bench-speed
bench-speed: ## Compare culvert speed with no proxy, as root; ROUNDS=5, ONLY=LINK,...
	@ROUNDS='$(ROUNDS)' ONLY='$(ONLY)' scripts/bench-speed.sh

.PHONY: bench
bench: ## Compare culvert with OpenSSH and Xray; 3 hours (QUICK=1: 20 minutes; ONLY=CASE,...).
	@QUICK='$(QUICK)' ONLY='$(ONLY)' ROUNDS='$(ROUNDS)' RENDER='$(RENDER)' CONTROL='$(CONTROL)' \
	  scripts/bench.sh

.PHONY: man
man: ## Write the manual pages to build/man.
	@scripts/release/man.sh

.PHONY: release
release: ## Make archives, packages, an image and checksums of the commit in build/release.
	@scripts/release/release.sh

.PHONY: release-check
release-check: ## Check a release: two builds, a new Debian, packages (root, debootstrap).
	@scripts/release/check.sh

.PHONY: clean
clean: ## Remove what the build and the checks made.
	rm -rf build
