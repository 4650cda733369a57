VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
FUZZTIME ?= 1m

.PHONY: build test e2e lint fuzz deploy bench

# The release binary, static: ./kms-auditor.
build:
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION) -X main.revision=$(REVISION)" -o . ./cmd/kms-auditor

# Needs nothing but Go.
test:
	go test ./...

# Installs and runs the real things. Needs Linux on amd64 with Node.js; on Debian it installs the rest as root.
e2e:
	e2e/setup.sh
	cd internal/testchain/contracts && npm ci --no-audit --no-fund --loglevel=error && npm run --silent check
	go test -tags e2e -count=1 -timeout 30m ./e2e/...
	cd e2e/k8s && go test -count=1 ./...

lint:
	e2e/setup.sh lint
	go vet -tags e2e ./...
	e2e/.tools/bin/staticcheck -tags e2e ./...
	e2e/.tools/bin/actionlint
	cd e2e/k8s && go vet ./... && go mod tidy -diff

# What is made of other files: the alerts once more, as kustomize takes no file of another folder.
deploy:
	{ sed '/^spec:/q' deploy/kubernetes/monitoring/prometheusrule.yaml; \
	  grep -v '^#' deploy/prometheus/kms-auditor.rules.yml | sed 's/^./  &/'; } > deploy/kubernetes/monitoring/.new
	mv deploy/kubernetes/monitoring/.new deploy/kubernetes/monitoring/prometheusrule.yaml

# Each fuzz target for FUZZTIME, and a table of what each did.
fuzz:
	.ci/fuzz $(FUZZTIME)

# Side by side with what one would write instead: prints the tables of docs/performance.md.
bench:
	e2e/setup.sh
	cd bench/ts && npm ci --no-audit --no-fund --loglevel=error
	go run ./bench $(BENCH)
