VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
FUZZTIME ?= 1m

.PHONY: build test e2e lint fuzz deploy bench soak crash

# The release binary, static: ./kms-auditor.
build:
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION) -X main.revision=$(REVISION)" -o . ./cmd/kms-auditor

# Needs nothing but Go.
test:
	go test ./...
	cd bench && go test ./...

# Installs and runs the real things. Needs Linux on amd64 with Node.js; on Debian it installs the rest as root.
e2e:
	e2e/setup.sh
	cd internal/testenv/testchain/contracts && npm ci --no-audit --no-fund --loglevel=error && npm run --silent check
	go test -tags e2e -count=1 -timeout 30m -parallel 4 ./e2e/...
	cd e2e/k8s && go test -count=1 ./...

# The light client follows a real beacon node, over forks and committees: eight minutes, most of which it waits. Two cores that have
# other work are too slow for the node, so it runs by itself.
.PHONY: beacon
beacon:
	e2e/setup.sh beacon
	go test -tags "e2e beacon" -count=1 -v -timeout 30m ./e2e -run '^TestTheSyncCommittees'

# Rules of gosec that are not for this program; where one is right but for a line, the line has its #nosec and the reason:
#   G103 unsafe          one comparison of two slices' addresses, which reads nothing through them
#   G104 errors          staticcheck and review see to them; buffers and a bufio.Writer that is flushed never fail in between
#   G115 conversions     of lengths, file descriptors and Unix times; what comes from outside goes through bounded parsers
#   G301 G302 G306 modes reports, evidence and manuals are for others to read, and umask decides; the state has 0600
#   G304 G703 paths      opening what the operator names is what -c, -o, verify and the configuration are for
#   G602 indexes         pairs of arguments, by our own callers alone
#   G704 requests        the operator names API, providers and heartbeat; redirects are never followed
#   G705 output          a page is escaped, all else is no HTML and says nosniff
GOSEC_LEFT_OUT = G103,G104,G115,G301,G302,G304,G306,G602,G703,G704,G705
# Not in the binary: what tests talk to.
GOSEC_NOT = bench e2e internal/testenv internal/simtest

lint:
	e2e/setup.sh lint
	go vet -tags "e2e beacon" ./...
	e2e/.tools/bin/staticcheck -tags "e2e beacon" ./...
	e2e/.tools/bin/actionlint
	e2e/.tools/bin/gosec -quiet -confidence medium -exclude $(GOSEC_LEFT_OUT) $(addprefix -exclude-dir=,$(GOSEC_NOT)) ./...
	cd bench && go vet ./... && ../e2e/.tools/bin/staticcheck ./... && go mod tidy -diff
	cd e2e/k8s && go vet ./... && go mod tidy -diff

# Known vulnerabilities of what the binary calls. Asks Go's database, so that it needs the network.
vuln:
	go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./cmd/kms-auditor

# What is made of other files: the alerts once more, as kustomize takes no file of another folder.
deploy:
	{ sed '/^spec:/q' deploy/kubernetes/monitoring/prometheusrule.yaml; \
	  grep -v '^#' deploy/prometheus/kms-auditor.rules.yml | sed 's/^./  &/'; } > deploy/kubernetes/monitoring/.new
	mv deploy/kubernetes/monitoring/.new deploy/kubernetes/monitoring/prometheusrule.yaml

# The pictures of the docs, taken of the running binary by Chromium. Needs pngquant.
.PHONY: images
images:
	e2e/setup.sh
	E2E_IMAGES=$(CURDIR)/docs/images go test -tags e2e -count=1 -timeout 10m ./e2e -run '^TestThePageInEveryState$$'
	pngquant --force --ext .png --skip-if-larger --speed 1 64 docs/images/*.png

# Each fuzz target for FUZZTIME, and a table of what each did.
fuzz:
	.ci/fuzz $(FUZZTIME)

# Beside what one would write instead: prints the tables of docs/performance.md. A module of its own.
bench:
	e2e/setup.sh
	cd bench/ts && npm ci --no-audit --no-fund --loglevel=error
	cd bench && go run . $(BENCH)

# Sequences of audits, and whether the verdicts are true: 25 times what the tests draw.
.PHONY: nightly
nightly:
	go test -count=1 -v -timeout 3h -parallel 8 ./internal/simtest -run '^TestLaw$$' -rapid.checks=5000
	go test -count=1 -timeout 3h ./ethrpc/anchor/consensus -run '^TestChanged' -exhaustive

# The daemon audits every second for SOAK, under faults and visitors: what grows, what lies, what is skipped.
SOAK ?= 60m
soak:
	go test -tags e2e -count=1 -v -timeout 0 -run '^TestSoak$$' ./e2e/soak -args -for $(SOAK)

# 200 kills, disks that are full or cannot be written, a clock that leaps. As root, for the disks.
crash:
	go test -tags e2e -count=1 -v -timeout 30m ./e2e/soak -args -kills 200

# Known bugs, one at a time: which test finds each, or that none does.
.PHONY: mutants
mutants:
	go run ./e2e/mutants $(MUTANTS)
