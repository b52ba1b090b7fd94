# Every target that a person calls has a comment of two hashes: help prints it.
SHELL := /bin/bash
FUZZTIME ?= 10s
OUT ?= out
PACKAGES ?= ./...
# The race detector, but not in argon2, which computes on one goroutine, and without checks
# of the pointers inside SQLite, which is C translated to Go: a third of the time of the
# manager's tests.
RACE := -race -gcflags=golang.org/x/crypto/argon2=-race=false -gcflags=modernc.org/...=-d=checkptr=0

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/simreach
	go build -o bin/simreach ./cmd/simreach

.PHONY: test
test: ## all tests that need no root, with the race detector; PACKAGES=./relay/... for some
	go test $(RACE) -skip '^TestRoot|^TestOnTime' $(PACKAGES)
	@# The race detector allocates by itself, and days of fake time take minutes with it: these run without.
	go test -run 'Alloca|OverDays|TwentyThousandEntries' -skip '^TestRoot' ./internal/dgram ./internal/wire/gtpu ./manager ./nf/upf/datapath ./relay ./ue/airlink ./ue/gnb

.PHONY: test-root
test-root: PACKAGES = $(sort $(dir $(shell grep -rl --include='*_test.go' '^func TestRoot' ./*)))
test-root: ## tests that need root: namespaces, TUN, raw sockets, user-mode Linux
	SIMREACH_REQUIRE="$${SIMREACH_REQUIRE-netns,tun,sctp,uml,tshark,programs,postgres,ebpf}" go test $(RACE) -count=1 -run '^TestRoot' $(PACKAGES)

.PHONY: test-time
test-time: ## promises of time, with 5,000 connections too; wants the machine for itself
	go test -count=1 -v -p 1 -run '^TestOnTime' ./relay/outer ./relay

.PHONY: lint
lint: ## gofmt, go vet, staticcheck and the architecture rules
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo "run gofmt -w on these files"; exit 1; }
	go vet ./...
	go tool staticcheck ./...
	go test ./internal/archtest

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (10s)
	.ci/fuzz $(FUZZTIME)

.PHONY: bench
bench: ## Go benchmarks of the packet paths
	go test -run '^$$' -bench . -benchmem ./internal/... ./nf/... ./relay/... ./bench

.PHONY: bench-relay
bench-relay: build ## our relays beside HAProxy, nginx, io.Copy and no relay (root, 15 minutes); results in out/
	mkdir -p $(OUT)
	bin/simreach bench relay --json --plot $(OUT)/bench-relay.svg >$(OUT)/bench-relay.json

.PHONY: bench-manager
bench-manager: build ## the manager at 50,000 entries and 100,000 subscribers; results in out/
	mkdir -p $(OUT)
	bin/simreach bench manager --json >$(OUT)/bench-manager.json

.PHONY: scenario
scenario: build ## the scenario library on every backend this machine offers; results in out/
	bin/simreach run --backend all --out $(OUT) scenarios/library/*.yaml

.PHONY: generate
generate: ## regenerate committed code (needs protoc, and clang 14 with libbpf-dev and llvm)
	go generate ./...
