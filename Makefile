VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
FUZZTIME ?= 1m

.PHONY: build test e2e lint fuzz deploy bench soak crash

# The release binary, static: ./kms-auditor.
build:
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION) -X main.revision=$(REVISION)" -o . ./cmd/kms-auditor

# Needs only Go.
test:
	go test ./...
	cd bench && go test ./...

# Installs and runs real nodes and tools. Needs Linux on amd64 with Node.js; on Debian it installs the rest as root.
e2e:
	e2e/setup.sh
	cd internal/testenv/testchain/contracts && npm ci --no-audit --no-fund --loglevel=error && npm run --silent check
	go test -tags e2e -count=1 -timeout 30m -parallel 4 ./e2e/...
	cd e2e/k8s && go test -count=1 ./...

# The light client follows a real beacon node over forks and committees: eight minutes, mostly waiting. On two cores with other
# work the node is too slow, so this is a target of its own.
.PHONY: beacon
beacon:
	e2e/setup.sh beacon
	go test -tags "e2e beacon" -count=1 -v -timeout 30m ./e2e -run '^TestTheSyncCommittees'

# Rules of gosec that do not fit this program. Single exceptions have a #nosec with the reason in their line:
#   G103 unsafe          one comparison of two slices' addresses, which reads no memory
#   G104 errors          staticcheck and review cover them; buffers never fail, a bufio.Writer fails when flushed
#   G115 conversions     lengths, file descriptors and Unix times; outside input goes through bounded parsers
#   G301 G302 G306 modes others may read reports, evidence and manuals, as umask allows; the state has 0600
#   G304 G703 paths      -c, -o, verify and the configuration open files that the operator names
#   G602 indexes         pairs of arguments, only from our own callers
#   G704 requests        the operator names API, providers and heartbeat; redirects are never followed
#   G705 output          pages are escaped; other answers are not HTML and set nosniff
GOSEC_LEFT_OUT = G103,G104,G115,G301,G302,G304,G306,G602,G703,G704,G705
# Not in the binary: test environments.
GOSEC_NOT = bench e2e internal/testenv internal/simtest

lint:
	e2e/setup.sh lint
	go vet -tags "e2e beacon" ./...
	e2e/.tools/bin/staticcheck -tags "e2e beacon" ./...
	e2e/.tools/bin/actionlint
	e2e/.tools/bin/gosec -quiet -confidence medium -exclude $(GOSEC_LEFT_OUT) $(addprefix -exclude-dir=,$(GOSEC_NOT)) ./...
	cd bench && go vet ./... && ../e2e/.tools/bin/staticcheck ./... && go mod tidy -diff
	cd e2e/k8s && go vet ./... && go mod tidy -diff

# Known vulnerabilities of the code that the binary calls. Needs the network, for Go's database.
vuln:
	go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./cmd/kms-auditor

# Copies the alerts for kustomize, which cannot read a file of another folder.
deploy:
	{ sed '/^spec:/q' deploy/kubernetes/monitoring/prometheusrule.yaml; \
	  grep -v '^#' deploy/prometheus/kms-auditor.rules.yml | sed 's/^./  &/'; } > deploy/kubernetes/monitoring/.new
	mv deploy/kubernetes/monitoring/.new deploy/kubernetes/monitoring/prometheusrule.yaml

# Takes the docs' pictures of the status page from the running binary, by Chromium.
.PHONY: images
images:
	e2e/setup.sh
	E2E_IMAGES=$(CURDIR)/docs/images go test -tags e2e -count=1 -timeout 10m ./e2e -run '^TestThePageInEveryState$$'
	pngquant --force --ext .png --skip-if-larger --speed 1 64 docs/images/*.png

# Runs each fuzz target for FUZZTIME, and prints a table.
fuzz:
	.ci/fuzz $(FUZZTIME)

# Compares with programs of your own: prints the tables of docs/performance.md. A separate module.
bench:
	e2e/setup.sh
	cd bench/ts && npm ci --no-audit --no-fund --loglevel=error
	cd bench && go run . $(BENCH)

# Random sequences of audits whose verdicts must be true: 25 times as many as in go test.
.PHONY: nightly
nightly:
	go test -count=1 -v -timeout 3h -parallel 8 ./internal/simtest -run '^TestLaw$$' -rapid.checks=5000
	go test -count=1 -timeout 3h ./ethrpc/anchor/consensus -run '^TestChanged' -exhaustive

# The daemon audits every second for SOAK, under faults and with visitors. Checks growth, verdicts and skipped ticks.
SOAK ?= 60m
soak:
	go test -tags e2e -count=1 -v -timeout 0 -run '^TestSoak$$' ./e2e/soak -args -for $(SOAK)

# 200 kills, full and read-only disks, a clock that jumps. As root, for the disks.
crash:
	go test -tags e2e -count=1 -v -timeout 30m ./e2e/soak -args -kills 200

# Applies known bugs one at a time, and prints the test that finds each.
.PHONY: mutants
mutants:
	go run ./e2e/mutants $(MUTANTS)
