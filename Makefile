# The targets and what they print are fixed in docs/guide.md; `make help` lists
# them.

SHELL := /bin/sh
GO ?= go
BIN := bin
# The machine's programs are measured: same source, same bytes. The others say
# which commit they are of, where git can tell.
MEASURED := ./cmd/shed-agent ./cmd/toolshed
PROGRAMS := ./cmd/shed ./cmd/shed-serve ./cmd/shed-image ./scripts/local \
	./cmd/shed-provider-qemu ./cmd/shed-provider-libvirt ./cmd/shed-provider-aws ./cmd/shed-provider-memory
# The Go that images are locked to (docs/decisions/0075), in tests that build
# programs too.
export GOTOOLCHAIN := $(shell sed -n 's/^  "go": "\(go[0-9a-z.]*\)",$$/\1/p' imagebuild/image.lock)
BUILD = CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w -buildid='
VCS = $(if $(shell git rev-parse HEAD 2>/dev/null),true,false)
STATE ?=
PROVIDER ?= qemu
ARCH ?= amd64
LOCAL := $(BIN)/local $(if $(STATE),--state $(STATE))
# VM tests share two cores: more at once only slows each boot past its deadline.
TEST_PARALLEL ?= 2
COSIGN := .cache/tools/cosign
LLAMA := .cache/tools/llama/bin/python
AXE := .cache/tools/axe/node_modules/axe-core/axe.min.js
DENO := .cache/tools/deno/node_modules/.bin/deno
BUN := .cache/tools/bun/node_modules/@oven/bun-linux-x64-baseline/bin/bun
DENOC := .cache/tools/deno-compile/bin/deno
BLOBS := .cache/tools/blobs
MOTO := .cache/tools/moto/bin/python
UEFIVARS := .cache/tools/uefivars/bin/uefivars
VIRTFW := .cache/tools/virtfw/bin/virt-fw-vars
CYCLONEDX := .cache/tools/cyclonedx/bin/python
REGISTRY := .cache/tools/oci/registry
ORAS := .cache/tools/oci/oras
NITRO := .cache/tools/nitro/bin/nitro-tpm-pcr-compute
KERNEL := .cache/image
# Others' programs, that tests hold ours against, and where tests find them.
TOOLS := $(COSIGN) $(LLAMA) $(AXE) $(DENO) $(BLOBS)/done $(MOTO) $(UEFIVARS) $(VIRTFW) $(CYCLONEDX) $(REGISTRY) $(ORAS)
TOOLENV = SHED_COSIGN=$(CURDIR)/$(COSIGN) SHED_LLAMA=$(CURDIR)/$(LLAMA) SHED_AXE=$(CURDIR)/$(AXE) SHED_DENO=$(CURDIR)/$(DENO) \
	SHED_BLOB_TOOLS=$(CURDIR)/$(BLOBS) SHED_MOTO=$(CURDIR)/$(MOTO) SHED_UEFIVARS=$(CURDIR)/$(UEFIVARS) \
	SHED_VIRT_FW_VARS=$(CURDIR)/$(VIRTFW) SHED_CYCLONEDX=$(CURDIR)/$(CYCLONEDX) SHED_REGISTRY=$(CURDIR)/$(REGISTRY) \
	SHED_ORAS=$(CURDIR)/$(ORAS) SHED_NITRO=$(CURDIR)/$(NITRO)

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

.PHONY: build-arm64
build-arm64: ## build what goes into an image for arm64 into bin/arm64/
	@mkdir -p $(BIN)/arm64
	@GOARCH=arm64 $(BUILD) -buildvcs=false -o $(BIN)/arm64/ $(MEASURED)

.PHONY: image
image: deps build $(if $(filter arm64,$(ARCH)),build-arm64) ## an image from source and lock alone, into dist/image: the same bytes for everyone
	@$(BIN)/shed image build --arch $(ARCH) --output dist/image \
		$(if $(filter arm64,$(ARCH)),--agent $(BIN)/arm64/shed-agent --toolshed $(BIN)/arm64/toolshed)

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
demo: deps build $(if $(filter arm64,$(ARCH)),build-arm64) ## the main job in one shot, for scripts (PROVIDER=qemu or libvirt, ARCH=amd64 or arm64); JSON on the last line
	@$(LOCAL) --provider $(PROVIDER) --arch $(ARCH) demo

.PHONY: test
test: deps build $(TOOLS) $(KERNEL) ## run every test, those that boot VMs too
	SHED_VM_TESTS=1 $(TOOLENV) scripts/gotest -count=1 -timeout 40m -p $(TEST_PARALLEL) ./...

.PHONY: test-short
test-short: deps ## run the tests that need no VM
	@scripts/gotest -short -vet=off ./...

.PHONY: test-long
test-long: deps build $(DENO) $(BUN) $(DENOC) $(NITRO) $(KERNEL) ## what takes too long for every change: many kills and power cuts, arm64, AWS's own registers
	SHED_LONG=1 scripts/gotest -count=1 -timeout 60m -run 'IsKilled|AreKilled' ./cmd/toolshed
	SHED_LONG=1 SHED_VM_TESTS=1 scripts/gotest -count=1 -timeout 60m -run 'TestVMPowerCuts' ./scripts/powercut
	SHED_LONG=1 SHED_VM_TESTS=1 SHED_BUN=$(CURDIR)/$(BUN) SHED_DENO_COMPILER=$(CURDIR)/$(DENOC) \
		SHED_DENO_COMPILED=$(CURDIR)/$(dir $(DENOC))bids-validator-deno $(TOOLENV) scripts/gotest -count=1 -timeout 30m -run 'TestVMLong' ./scripts/local
	$(TOOLENV) scripts/gotest -count=1 -run 'TestAMIShowsWhatAWSComputes' ./cmd/shed-image

# What it costs is bounded: the suite makes one or two small machines at a time,
# which it deletes again, for at most an hour.
.PHONY: test-aws
test-aws: deps build ## the provider suite on a real account: AWS_CONFIG names a file as shed provider test reads it
	@if [ -z "$(AWS_CONFIG)" ]; then echo "test-aws: NOT TRIED: no account: set AWS_CONFIG to a file with settings (docs/aws.md)"; \
	else timeout -s INT 60m $(BIN)/shed provider test $(BIN)/shed-provider-aws --config "$(AWS_CONFIG)" --patience 5m; fi

.PHONY: lint
lint: deps ## formatting, linters with the layer rules, vulnerabilities, generated files
	@scripts/lint

.PHONY: attacks
attacks: deps ## the attack corpus against the verifier; JSON on the last line
	@$(GO) run ./scripts/attacks

.PHONY: conformance
conformance: deps build $(MOTO) ## the provider conformance suite; JSON on the last line
	@$(TOOLENV) $(GO) run ./scripts/conformance -bin $(BIN)

.PHONY: bench
bench: bench-boot bench-image bench-signup bench-attest bench-toolshed bench-providers ## every benchmark, each beside its floor in the same run

.PHONY: bench-boot
bench-boot: deps build ## signup to first authenticated byte, against a plain boot; JSON on the last line
	@$(LOCAL) bench-boot

.PHONY: bench-image
bench-image: deps build ## an image's disk, start, size, build, memory and update, beside their floors; JSON on the last line
	@$(BUILD) -buildvcs=false -o $(BIN)/ ./scripts/local/benchguest
	@$(LOCAL) bench-image

.PHONY: bench-signup
bench-signup: deps ## signups taken in, started and waiting, beside their floors; JSON on the last line
	@$(GO) run ./scripts/bench-signup

.PHONY: bench-attest
bench-attest: deps ## evidence verified and issued, beside its signatures and TPM2_Quote; JSON on the last line
	@$(GO) run ./scripts/bench-attest

.PHONY: bench-providers
bench-providers: deps $(MOTO) ## the plugin boundary, creating at a cloud's pace, an image's way to one; JSON on the last line
	@$(TOOLENV) $(GO) run ./scripts/bench-providers

.PHONY: bench-toolshed
bench-toolshed: deps ## the toolshed beside SQLite, wazero and extraction alone; JSON on the last line
	@$(GO) run ./scripts/bench-toolshed

# The kernel package, which tests read as the image builder fetched it.
$(KERNEL): | build
	$(BIN)/shed image build --output .cache/release || $(BIN)/shed image build --lock= --output .cache/release

# Stock cosign, for the test that it accepts our bundles.
$(COSIGN):
	GOBIN=$(CURDIR)/$(dir $@) GOFLAGS=-mod=mod $(GO) install github.com/sigstore/cosign/v2/cmd/cosign@v2.6.5

# llama.cpp's own server, for the test that language models are asked in a way
# that somebody else's server understands.
$(LLAMA):
	python3 -m venv $(dir $@)..
	$@ -m pip install --quiet --disable-pip-version-check xllamacpp==2026.10.11549 gguf==0.19.0 || { rm -f $@; exit 1; }

# axe, for the test that everybody can use the pages.
$(AXE): scripts/tools/axe/package-lock.json
	mkdir -p .cache/tools/axe
	cp scripts/tools/axe/package.json scripts/tools/axe/package-lock.json .cache/tools/axe/
	cd .cache/tools/axe && npm ci --ignore-scripts --no-audit --no-fund --silent
	touch $@

# Stock Deno and the npm package @deno/kv, for the test that they take our KV for
# theirs. The package that installs Deno's program runs no script.
$(DENO): scripts/tools/deno/package-lock.json
	mkdir -p .cache/tools/deno
	cp scripts/tools/deno/package.json scripts/tools/deno/package-lock.json .cache/tools/deno/
	cd .cache/tools/deno && npm ci --ignore-scripts --no-audit --no-fund --silent
	touch $@

# Bun, for the test of a payload that is a server compiled by it.
$(BUN): scripts/tools/bun/package-lock.json
	mkdir -p .cache/tools/bun
	cp scripts/tools/bun/package.json scripts/tools/bun/package-lock.json .cache/tools/bun/
	cd .cache/tools/bun && npm ci --ignore-scripts --no-audit --no-fund --silent
	touch $@

# A Deno, and a program that this version of it compiled, for the test of a payload
# that is such a server.
$(DENOC):
	python3 -m venv $(dir $@)..
	$(dir $@)python -m pip install --quiet --disable-pip-version-check deno==2.6.10 bids-validator-deno==2.4.1 || { rm -rf $(dir $@)..; exit 1; }

# Others' tus clients and S3 server, for the tests that files are taken and kept
# in a way that they understand.
$(BLOBS)/done:
	python3 -m venv $(BLOBS)
	$(BLOBS)/bin/python -m pip install --quiet --disable-pip-version-check tuspy==1.1.0 'moto[server,s3]==5.2.5'
	npm install --silent --no-audit --no-fund --prefix $(BLOBS) tus-js-client@4.3.1
	touch $@

# moto's EC2, which is not ours, for the tests of the AWS provider.
$(MOTO):
	python3 -m venv $(dir $@)..
	$@ -m pip install --quiet --disable-pip-version-check 'moto[server]==5.2.5' || { rm -f $@; exit 1; }

# AWS's own tool for the variables of EC2's firmware, for the tests of ours.
$(UEFIVARS):
	python3 -m venv $(dir $@)..
	$(dir $@)python -m pip install --quiet --disable-pip-version-check uefivars==1.2 || { rm -f $@; exit 1; }

# virt-firmware, which is not ours, for the test that it reads the variables that
# we write as it would have written them.
$(VIRTFW):
	python3 -m venv $(dir $@)..
	$(dir $@)python -m pip install --quiet --disable-pip-version-check virt-firmware==26.10 || { rm -rf $(dir $@)..; exit 1; }

# CycloneDX's own validator, for the test of the list of what an image is made of.
$(CYCLONEDX):
	python3 -m venv $(dir $@)..
	$@ -m pip install --quiet --disable-pip-version-check 'cyclonedx-python-lib[json-validation]==11.12.0' || { rm -f $@; exit 1; }

# The registry that others are held against, and a client of registries that is
# not ours, for the tests of image push and pull.
$(REGISTRY):
	GOBIN=$(CURDIR)/$(dir $@) GOFLAGS=-mod=mod $(GO) install github.com/distribution/distribution/v3/cmd/registry@v3.1.2

$(ORAS):
	GOBIN=$(CURDIR)/$(dir $@) GOFLAGS=-mod=mod $(GO) install oras.land/oras/cmd/oras@v1.3.6

# AWS's own calculation of what EC2's TPM shows, for the test of ours. Rust is
# not always there, or new enough: then the test says that it was not tried.
$(NITRO):
	cargo install --quiet --locked --root $(dir $@).. nitro-tpm-pcr-compute --version 1.1.2 || echo "nitro-tpm-pcr-compute: NOT BUILT: it needs a current Rust"
