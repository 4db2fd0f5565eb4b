# Everything is done by two commands, `make up` and `make test`; `make help` lists the rest.
# Each step is one line with its time; logs are in .cache/log. The second time is quick.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

STEP := .ci/step
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo -E)
GO   := go

# A Debian package and a file of it that tells whether it is there already.
ENGINE_PACKAGES := dockerd=docker.io docker=docker-cli containerd=containerd runc=runc iptables=iptables ip=iproute2
TEST_PACKAGES := $(ENGINE_PACKAGES) git=git gcc=gcc /usr/include/stdio.h=libc6-dev clang-19=clang-19 llvm-strip-19=llvm-19 \
  /usr/include/bpf/bpf_helpers.h=libbpf-dev protoc=protobuf-compiler /usr/include/google/protobuf/timestamp.proto=libprotobuf-dev \
  chromium=chromium /bin/busybox=busybox-static xz=xz-utils curl=curl rpm=rpm ruby=ruby rpmbuild=rpm pip3=python3-pip php=php-cli \
  /usr/share/php/Composer/Semver/autoload.php=php-composer-semver mvn=maven
# libyara and what it is linked with, for the malware engine of bin/bulkhead. The agent needs no C compiler.
YARA_PACKAGES := gcc=gcc /usr/include/stdio.h=libc6-dev pkg-config=pkgconf /usr/include/yara.h=libyara-dev /usr/include/openssl/ssl.h=libssl-dev \
  /usr/include/magic.h=libmagic-dev /usr/include/jansson.h=libjansson-dev /usr/include/lzma.h=liblzma-dev /usr/include/bzlib.h=libbz2-dev /usr/include/zlib.h=zlib1g-dev
TEST_PACKAGES += $(YARA_PACKAGES) clamd=clamav-daemon
BENCH_PACKAGES := wrk=wrk redis-benchmark=redis-tools perf=linux-perf

# Packages whose tests also run on other kernels, as PACKAGE or PACKAGE:REGEXP.
KERNEL_TESTS ?= ./test/kernels/selftest ./baseline:TestKernelSettings $(filter ./bpf,$(INTEGRATION))

IGNORED := -name node_modules -o -name .git -o -name .cache -o -path ./bin -o -path ./console/dist -o -path ./docs
SOURCES := $(shell find . \( $(IGNORED) \) -prune -o -type f ! -name '*_test.go' ! -path './console/*' ! -path './test/*' -print)
CONSOLE_SOURCES := $(shell find console 2>/dev/null \( -name node_modules -o -name dist \) -prune -o -type f -print)
# Apart: test/kubernetes (make test-cluster), which builds Kubernetes from source the first time: ten minutes on two processors.
INTEGRATION := $(shell grep -rl --include='*_test.go' '^//go:build integration' . | xargs -r -n1 dirname | sort -u | grep -v '^./test/kubernetes$$')

## Run

.PHONY: up down
up: build .cache/engine.ok ## Build and start Bulkhead on this host; prints the console's address
	@$(SUDO) bin/bulkhead up --detach

down: ## Stop what `make up` started
	@$(SUDO) bin/bulkhead down

## Build

.PHONY: build
build: bin/bulkhead bin/bulkhead-agent ## Build the console and the two programs into bin/

.cache/modules.ok: go.mod go.sum
	@$(STEP) "fetch Go modules" $(GO) mod download
	@touch $@

# YARA= builds bin/bulkhead without YARA, and without a C compiler: hash lists and ClamAV are left of the malware engine.
YARA ?= 1
.cache/yara.ok: bin/lab
	@bin/lab missing $(YARA_PACKAGES) || $(STEP) "install libyara" $(SUDO) bin/lab install $(YARA_PACKAGES)
	@touch $@

# With YARA the program is linked whole, so that it runs where there is no libyara. What the linker says about name
# look-ups in libcrypto is not called; Go's own (netgo, osusergo) are.
bin/bulkhead: $(SOURCES) .cache/console.ok $(if $(YARA),.cache/yara.ok) | .cache/modules.ok
ifneq ($(YARA),)
	@$(STEP) "build bin/bulkhead" env CGO_ENABLED=1 CGO_LDFLAGS="-Wl,--start-group $$(pkg-config --static --libs yara libmagic) -Wl,--end-group" \
	  $(GO) build -trimpath -tags yara,yara_static,netgo,osusergo -ldflags '-s -w -linkmode external -extldflags "-static"' -o bin/ ./cmd/bulkhead
else
	@$(STEP) "build bin/bulkhead, without YARA" env CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/ ./cmd/bulkhead
endif
	@touch $@

bin/bulkhead-agent: $(SOURCES) | .cache/modules.ok
	@$(STEP) "build bin/bulkhead-agent" env CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/ ./cmd/bulkhead-agent
	@touch $@

.cache/npm.ok: console/package-lock.json
	@$(STEP) "fetch npm packages" npm --prefix console ci --no-audit --no-fund
	@touch $@

.cache/console.ok: $(CONSOLE_SOURCES) .cache/npm.ok
	@$(STEP) "build the console" npm --prefix console run build
	@touch $@

bin/lab: $(shell find test/lab -type f)
	@$(STEP) "build the lab" $(GO) build -o bin/lab ./test/lab/cmd/lab

.cache/engine.ok: bin/lab
	@$(STEP) "install a container engine" $(SUDO) bin/lab install $(ENGINE_PACKAGES)
	@touch $@

## Test

.PHONY: test test-unit test-integration test-robust test-kernels packages images
test: ## Everything: lint, unit, integration, browser, kernels in virtual machines
	@$(MAKE) packages build
	@$(MAKE) -j2 images checks
	@$(MAKE) test-integration
	@$(MAKE) test-kernels
	@echo "all tests passed"

.PHONY: checks
checks: # one after the other, while the images are built beside them
	@$(MAKE) lint
	@$(MAKE) check-generated
	@$(MAKE) test-unit

test-unit: .cache/console.ok .cache/yara.ok | .cache/modules.ok ## What needs no root and no network: less than a minute
	@$(STEP) "unit tests" $(GO) test ./... || $(STEP) "unit tests, second try" $(GO) test ./...
	@$(STEP) "unit tests with YARA" $(GO) test -tags yara ./malware/...
	@$(STEP) "console unit tests" npm --prefix console test

# Only folders that have such tests; -p 1, as they share one kernel and one lab.
test-integration: packages build images bench-packages ## As root: kernel, containers, browser
	@failed=; for folder in $(INTEGRATION); do \
	  run() { $(STEP) "integration $$folder$${1-}" $(GO) test -tags integration,yara -p 1 -count=1 -timeout 20m $(if $(SUDO),-exec "$(SUDO)") $$folder; }; \
	  run || { echo "         once more, to tell a fault from a disturbed machine:"; run ", second try"; } || failed="$$failed $$folder"; \
	done; [ -z "$$failed" ] || { echo "failed twice:$$failed"; exit 1; }

test-robust: ## Kills, floods and bad input alone, for some five minutes: on a calm machine its figures are for docs/benchmarks.md
	@$(MAKE) test-integration INTEGRATION=./test/robust

.PHONY: test-cluster
test-cluster: cluster ## The whole product on a real Kubernetes of two nodes, some eight minutes once that is built
	@$(MAKE) test-integration INTEGRATION=./test/kubernetes
	@$(MAKE) cluster-down

.PHONY: bench-packages
bench-packages: bin/lab # Debian packages of loads
	@bin/lab missing $(BENCH_PACKAGES) || $(STEP) "install Debian packages" $(SUDO) bin/lab install $(BENCH_PACKAGES)

test-kernels: packages ## The kernel tests in virtual machines with other kernels, and the product beside Docker in one
	@$(SUDO) $(GO) run ./test/kernels $(KERNEL_TESTS) || { echo "once more:"; $(SUDO) $(GO) run ./test/kernels $(KERNEL_TESTS); }
	@$(SUDO) $(GO) run ./test/kernels -only bookworm -memory 3072 ./test/kernels/docker

packages: bin/lab # Debian packages of the tests
	@bin/lab missing $(TEST_PACKAGES) || $(STEP) "install Debian packages" $(SUDO) bin/lab install $(TEST_PACKAGES)

images: bin/lab | packages # container images of the tests
	@$(STEP) "lab: engines and images" $(SUDO) bin/lab images

.PHONY: cluster cluster-down
cluster: bin/lab images ## A real Kubernetes of two nodes on this machine; the first time builds it from source
	@$(STEP) "lab: a Kubernetes cluster" $(SUDO) bin/lab cluster up
	@echo 'eval "$$(bin/lab cluster env)"     # KUBECONFIG, and kubectl in the path'

cluster-down: bin/lab ## End the cluster; what was built stays for the next time
	@$(SUDO) bin/lab cluster down

## Measure

.PHONY: bench bench-scan compare-audits bench-instructions machine train-webshell train-waf eval-waf
bench: build packages images bench-packages ## Benchmarks; docs/benchmarks.md keeps the results
	@.ci/machine
	@$(GO) test -tags integration,yara -run '^$$' -bench . -benchmem -p 1 -timeout 60m $(if $(SUDO),-exec "$(SUDO)") ./... | grep -v 'no test files'
	@$(GO) build -o .cache/bench ./test/bench && $(SUDO) .cache/bench
	@[ -z "$(FEEDS)" ] || $(MAKE) bench-scan

# FEEDS is a directory of feeds, as bulkhead db import takes it. The others are built and get databases of the same feeds.
bench-scan: build images ## Scans beside Trivy and Grype: FEEDS=DIR make bench-scan
	@.ci/machine
	@$(GO) build -o .cache/bench-scan ./test/bench/scan && eval "$$(bin/lab env)" && $(SUDO) .cache/bench-scan

# DOCKER_BENCH and KUBE_BENCH are directories with clones of docker-bench-security and kube-bench, the latter with its program built in it.
compare-audits: build images ## Our audit beside docker-bench-security and kube-bench: DOCKER_BENCH=DIR KUBE_BENCH=DIR make compare-audits
	@mkdir -p .cache && $(GO) build -o .cache/compare-audits ./test/bench/audit && eval "$$(bin/lab env)" && docker save lab/busybox:1 -o .cache/busybox.tar
	@$(SUDO) .cache/compare-audits -docker-bench "$(DOCKER_BENCH)" -kube-bench "$(KUBE_BENCH)" -image .cache/busybox.tar

# A server and its libraries, out of a real image.
.cache/instructions/%.tar: | images
	@mkdir -p $(@D); eval "$$(bin/lab env)"; docker run --rm --entrypoint sh lab/$*:bookworm -c 'p=$$(command -v $*-server || command -v $*); tar -chf - $$p $$(ldd $$p | grep -o "/[^ ]*")' >$@.new 2>/dev/null && mv $@.new $@

bench-instructions: packages .cache/instructions/nginx.tar .cache/instructions/redis.tar ## Instructions on kernels with BPF-LSM, in virtual machines
	@$(SUDO) $(GO) run ./test/kernels -count -only bookworm,trixie -with .cache/instructions/nginx.tar,.cache/instructions/redis.tar ./test/kernels/cost

CORPUS ?= .cache/webshell-corpus
train-webshell: ## Train the web shell model, measure it on what was kept for the end, write it; CORPUS has clones of what malware/webshell/train/corpus.tsv names
	@$(GO) run ./malware/webshell/train -corpus $(CORPUS) -cache .cache/webshell-samples -folds=false -last

WAF_CORPUS ?= .cache/waf-corpus
train-waf: ## Train the request model again; WAF_CORPUS has clones of what waf/corpus/sources.tsv names
	@$(GO) run ./waf/train -corpus $(WAF_CORPUS)

eval-waf: ## Measure the layer-7 firewall beside Coraza with the Core Rule Set, on sources held out
	@$(GO) run ./waf/train -measure -corpus $(WAF_CORPUS)

# At least 120 attack steps for real against the product of this tree; docs/coverage.md keeps the result.
.PHONY: drill
drill: build bin/bulkhead-drill-target images ## Attack steps for real; writes docs/coverage.md
	@eval "$$(bin/lab env)"; export DOCKER_HOST; $(STEP) "drill" bash -c '$(SUDO) bin/bulkhead --run .cache/drill --state /var/tmp/bulkhead-drill drill --engine "$${DOCKER_HOST#unix://}" --format markdown >.cache/coverage.md'
	@mv .cache/coverage.md docs/coverage.md

bin/bulkhead-drill-target: $(SOURCES) | .cache/modules.ok
	@$(STEP) "build bin/bulkhead-drill-target" env CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o $@ ./drill/target
	@touch $@

machine: ## Describe this machine, for docs/benchmarks.md
	@.ci/machine

## Keep in order

.PHONY: lint generate check-generated clean help
lint: bin/tools.ok .cache/yara.ok | .cache/modules.ok ## go vet, gofumpt, staticcheck, the architecture
	@$(STEP) "lint: gofumpt" bash -c 'bad=$$(bin/gofumpt -l .); [ -z "$$bad" ] || { echo "run bin/gofumpt -w on:" $$bad; exit 1; }'
	@$(STEP) "lint: go vet" $(GO) vet -tags integration,kernels,yara ./...
	@$(STEP) "lint: go vet without YARA" $(GO) vet ./malware ./cmd/bulkhead
	@$(STEP) "lint: libraries of the agent" bash -c '! $(GO) list -deps ./cmd/bulkhead-agent | grep -E "^(database/sql|(modernc.org/sqlite|k8s.io/(api|apimachinery|client-go)|sigs.k8s.io|github.com/nats-io/nats-server)(/.*)?)$$"'
	@$(STEP) "lint: staticcheck" bin/staticcheck -tags integration,kernels,yara ./...

bin/tools.ok: tools/go.mod tools/go.sum
	@$(STEP) "build the linters" $(GO) -C tools build -o ../bin/ mvdan.cc/gofumpt honnef.co/go/tools/cmd/staticcheck
	@touch $@

generate: packages .cache/npm.ok | .cache/modules.ok ## Make generated code again: BPF objects, protobuf, the console's client
	@$(STEP) "generate" .ci/check-generated --write

check-generated: packages .cache/npm.ok | .cache/modules.ok ## Prove that generated code is what its sources make
	@$(STEP) "generated code is fresh" .ci/check-generated

clean: ## Remove what was built; the lab's images stay (bin/lab down; rm -r /var/tmp/bulkhead-lab)
	@rm -rf bin .cache console/node_modules; find console/dist -mindepth 1 ! -name .keep -delete

help: ## This list
	@awk -F ':.*## ' '/^## /{print "\n" substr($$0, 4)} /^[a-z-]+:.*## /{printf "  make %-17s %s\n", $$1, $$2}' Makefile
