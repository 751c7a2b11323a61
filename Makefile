# The targets and what they print are fixed in docs/guide.md; `make help` lists
# them.

SHELL := /bin/sh
GO ?= go
BIN := bin
# The machine's programs are measured: same source, same bytes. The others say
# which commit they are of, where git can tell.
MEASURED := ./cmd/shed-agent ./cmd/toolshed
PROGRAMS := ./cmd/shed ./cmd/shed-serve ./cmd/shed-image ./cmd/shed-provider-qemu ./scripts/local
BUILD = CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w -buildid='
VCS = $(if $(shell git rev-parse HEAD 2>/dev/null),true,false)
STATE ?=
LOCAL := $(BIN)/local $(if $(STATE),--state $(STATE))
# VM tests share two cores: more at once only slows each boot past its deadline.
TEST_PARALLEL ?= 2
COSIGN := .cache/tools/cosign
DENO := .cache/tools/deno/node_modules/.bin/deno
KERNEL := .cache/image

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## install what this machine lacks
	@scripts/deps

.PHONY: build
build: ## build every program into bin/
	@mkdir -p $(BIN)
	@$(BUILD) -buildvcs=false -o $(BIN)/ $(MEASURED)
	@$(BUILD) -buildvcs=$(VCS) -o $(BIN)/ $(PROGRAMS)

.PHONY: up
up: deps build ## run the main job: a signup becomes an attested, claimed VM
	@$(LOCAL) up

.PHONY: down
down: build ## stop everything of the local run, keeping its data
	@$(LOCAL) down

.PHONY: clean
clean: build ## destroy everything of the local run
	@$(LOCAL) clean

.PHONY: demo
demo: deps build ## the main job in one shot, for scripts; JSON on the last line
	@$(LOCAL) demo

.PHONY: test
test: deps build $(COSIGN) $(DENO) $(KERNEL) ## run every test, those that boot VMs too
	SHED_VM_TESTS=1 SHED_COSIGN=$(CURDIR)/$(COSIGN) SHED_DENO=$(CURDIR)/$(DENO) scripts/gotest -count=1 -timeout 30m -p $(TEST_PARALLEL) ./...

.PHONY: test-short
test-short: deps ## run the tests that need no VM
	@scripts/gotest -short ./...

.PHONY: test-long
test-long: deps ## what takes too long for every change: many kills
	SHED_LONG=1 scripts/gotest -count=1 -timeout 60m -run 'TestQueueIsKilled' ./cmd/toolshed

.PHONY: lint
lint: deps ## formatting, linters with the layer rules, vulnerabilities, generated files
	@scripts/lint

.PHONY: attacks
attacks: deps ## the attack corpus against the verifier; JSON on the last line
	@$(GO) run ./scripts/attacks

.PHONY: conformance
conformance: deps build ## the provider conformance suite; JSON on the last line
	@scripts/conformance

.PHONY: bench
bench: bench-boot bench-signup bench-attest bench-toolshed ## every benchmark, each beside its floor in the same run

.PHONY: bench-boot
bench-boot: deps build ## signup to first authenticated byte, against a plain boot; JSON on the last line
	@$(LOCAL) bench-boot

.PHONY: bench-signup
bench-signup: deps ## signups taken in, started and waiting, beside their floors; JSON on the last line
	@$(GO) run ./scripts/bench-signup

.PHONY: bench-attest
bench-attest: deps ## evidence verified and issued, beside its signatures and TPM2_Quote; JSON on the last line
	@$(GO) run ./scripts/bench-attest

.PHONY: bench-toolshed
bench-toolshed: deps ## the KV and the queue beside SQLite alone; JSON on the last line
	@$(GO) run ./scripts/bench-toolshed

# The kernel package, which tests read as the image builder fetched it.
$(KERNEL): | build
	$(BIN)/shed image build --output .cache/release

# Stock cosign, for the test that it accepts our bundles.
$(COSIGN):
	GOBIN=$(CURDIR)/$(dir $@) GOFLAGS=-mod=mod $(GO) install github.com/sigstore/cosign/v2/cmd/cosign@v2.6.5

# Stock Deno and the npm package @deno/kv, for the test that they take our KV for
# theirs. The package that installs Deno's program runs no script.
$(DENO): scripts/tools/deno/package-lock.json
	mkdir -p .cache/tools/deno
	cp scripts/tools/deno/package.json scripts/tools/deno/package-lock.json .cache/tools/deno/
	cd .cache/tools/deno && npm ci --ignore-scripts --no-audit --no-fund --silent
	touch $@
