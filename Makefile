# Two commands matter: `make run` and `make test`. `make help` lists the rest.

GO      ?= go
TOOL     = $(GO) tool -modfile=tools/go.mod
# A module of its own: etcd's server is for tests, and no dependency of the program.
ETCD     = signer/cluster/embedtest
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# -buildvcs=false: the version is stamped above, and go's own stamping fails in
# a clone that belongs to another user.
BUILD    = $(GO) build -trimpath -buildvcs=false -ldflags '-X main.version=$(VERSION)'

ARGS      ?=
TESTFLAGS ?=
FUZZTIME  ?= 30s
BENCH     ?= .
KILLS     ?= 3000
CUTS      ?= 1000

# Where goroutines meet. The pure packages have none, and the hashing loops
# only become slow.
RACE = /(internal/durable|node|node/(chain|store|mempool|template|p2p|syncer|rpc|simulate|issuer.*)|signer.*|stratum.*|miner|miner/(probe|work)|firmware-api|cmd/.*)$$

INTEROP = internal/interop/bitcoinjs internal/interop/stratumclient

.NOTPARALLEL:
.PHONY: help run test build deps deps-test lint fmt vet imports staticcheck vuln unit bench kill kill-signer power-signer nemesis model fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: deps build ## bring up a devnet in ./devnet (ARGS="…" goes to qcity demo)
	bin/qcity demo --data ./devnet $(ARGS)

test: deps deps-test lint vuln build unit ## every check and every test, fast ones first

build: ## bin/qcity (no cgo) and bin/qcity-p11 (the PKCS#11 worker, cgo)
	CGO_ENABLED=0 $(BUILD) -o bin/qcity ./cmd/qcity
	CGO_ENABLED=1 $(BUILD) -o bin/qcity-p11 ./cmd/qcity-p11

deps: ## install or name what building and running need
	@scripts/deps run

deps-test: ## install or name what only the tests need
	@scripts/deps test

lint: fmt vet imports staticcheck ## format, vet, import rules, staticcheck

fmt:
	@bad=$$($(TOOL) gofumpt -l .) || exit 1; \
	if [ -n "$$bad" ]; then echo "not formatted (run: $(TOOL) gofumpt -w .):"; echo "$$bad"; exit 1; fi

vet:
	$(GO) vet ./...
	$(GO) vet -C $(ETCD) ./...

imports:
	$(GO) test -count=1 .

staticcheck:
	$(TOOL) staticcheck ./...
	$(GO) tool -C $(ETCD) -modfile=../../../tools/go.mod staticcheck ./...

vuln: ## known vulnerabilities in what the code calls
	@GO="$(GO)" scripts/vuln

unit: $(foreach i,$(INTEROP),$(if $(wildcard $i/package-lock.json),$i/node_modules/.package-lock.json))
	@all=$$($(GO) list ./...) || exit 1; \
	race=$$(echo "$$all" | grep -E '$(RACE)'); rest=$$(echo "$$all" | grep -vE '$(RACE)'); \
	set -ex; \
	$(GO) test -timeout 30m $(TESTFLAGS) $$rest; \
	CGO_ENABLED=1 $(GO) test -race -timeout 30m $(TESTFLAGS) $$race; \
	$(GO) test -C $(ETCD) $(TESTFLAGS) ./...

# npm writes this file last, so it is newer than the lock file it obeyed.
%/node_modules/.package-lock.json: %/package-lock.json
	cd $* && npm ci --no-audit --no-fund && touch node_modules/.package-lock.json

bench: ## all benchmarks (BENCH=regexp)
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem ./...

kill: ## kill -9 node, signer and worker KILLS times (make test does it 300 times)
	QCITY_KILLS=$(KILLS) $(GO) test -count=1 -timeout 0 -v -run '^TestKill$$' ./cmd/qcity

kill-signer: ## kill -9 the signer KILLS times while it signs (make test: 120 times)
	SIGNER_KILLS=$(KILLS) $(GO) test -count=1 -timeout 0 -v -run '^TestKill$$' ./signer

power-signer: ## cut the power of the signer CUTS times (make test: 100 times)
	SIGNER_CUTS=$(CUTS) $(GO) test -count=1 -timeout 0 -v -run '^TestPowerCuts$$' ./signer

nemesis: ## kill and freeze etcd's leader under four rivals for QCITY_NEMESIS, default 1h (make test: 15 s)
	QCITY_NEMESIS=$${QCITY_NEMESIS:-1h} $(GO) test -count=1 -timeout 0 -v -run '^TestNemesis$$' ./signer/cluster

model: ## every way to vote, further than make test goes (half an hour)
	QCITY_MODEL=1 $(GO) test -count=1 -timeout 0 -v -run '^TestVoteModel' ./node/consensus

fuzz: ## every fuzz target for FUZZTIME each (make test runs their seeds only)
	@failed=; packages=$$($(GO) list ./...) || exit 1; \
	for pkg in $$packages; do \
		targets=$$($(GO) test -list '^Fuzz' $$pkg) || failed="$$failed $$pkg"; \
		for target in $$(echo "$$targets" | grep '^Fuzz'); do \
			echo "$$pkg $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg || failed="$$failed $$target"; \
		done; \
	done; \
	if [ -n "$$failed" ]; then echo "failed:$$failed"; exit 1; fi

clean: ## remove what make built (never ./devnet: it holds keys and a chain)
	rm -rf bin $(INTEROP:%=%/node_modules)
