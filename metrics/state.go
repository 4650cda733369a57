package metrics

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// maxOpen is the number of open_finding series of one target.
const maxOpen = 100

var (
	verdictDesc      = desc("target_verdict", "Verdict of the last audit on a contract (1 = current).", "chain", "contract", "verdict")
	entriesDesc      = desc("entries", "Entries of a contract by verdict; absent if the last audit compared nothing.", "chain", "contract", "list", "verdict")
	findingsDesc     = desc("findings", "Open findings, whether or not the last audit could look at them again. A kind without any shows 0 only if the last audit compared something.", "chain", "contract", "kind", "severity")
	oldestDesc       = desc("oldest_finding_timestamp_seconds", "Unix time at which the oldest open finding of a kind was first seen.", "chain", "contract", "kind")
	openDesc         = desc("open_finding", "Always 1, while the finding is open, whether or not the last audit could look at it again. At most 100 per contract, the most severe first. id is empty unless it is 32 bytes of hex.", "chain", "contract", "list", "id", "kind", "severity")
	confirmedDesc    = desc("open_finding_last_confirmed_timestamp_seconds", "Unix time at which an audit last saw the open findings of a kind; the earliest if they differ.", "chain", "contract", "kind")
	droppedDesc      = desc("open_findings_dropped", "Open findings that have no open_finding series.", "chain", "contract")
	blockDesc        = desc("audited_block_number", "Number of the block that the last audit read.", "chain")
	blockTimeDesc    = desc("audited_block_timestamp_seconds", "Unix time of the block that the last audit read.", "chain")
	completenessDesc = desc("completeness", "How the last audit looked for ids that the API does not list (1 = current).", "chain", "contract", "level")
	acceptDesc       = desc("accept_expires_timestamp_seconds", "Unix time at which the first accepted difference of a kind expires; absent if none is accepted.", "chain", "contract", "kind")
	assuranceDesc    = desc("assurance", "Lowest assurance among a contract's answers (1 = current).", "chain", "contract", "level")
)

// assurances lists every level of assurance, the weakest first.
var assurances = []audit.Assurance{audit.Single, audit.Agreed, audit.Proven}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

// state collects what the last report said.
type state struct {
	last atomic.Pointer[[]prometheus.Metric]
}

func (*state) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{verdictDesc, entriesDesc, findingsDesc, oldestDesc, openDesc, confirmedDesc, droppedDesc, blockDesc, blockTimeDesc, completenessDesc, assuranceDesc, acceptDesc} {
		ch <- d
	}
}

func (s *state) Collect(ch chan<- prometheus.Metric) {
	if last := s.last.Load(); last != nil {
		for _, m := range *last {
			ch <- m
		}
	}
}

// snapshot turns one report into series.
type snapshot struct {
	chains map[string]bool
	out    []prometheus.Metric
}

func newSnapshot() *snapshot { return &snapshot{chains: map[string]bool{}} }

func (s *snapshot) gauge(d *prometheus.Desc, value float64, labels ...string) {
	s.out = append(s.out, prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...))
}

// chain adds a chain and returns its targets by EIP-55 address. Of two targets of one contract the worse one stands,
// since two series of the same labels would fail the whole scrape.
func (s *snapshot) chain(c audit.Chain) map[string]*audit.Target {
	s.chains[c.Chain] = true
	if c.Block != nil {
		s.gauge(blockDesc, float64(c.Block.Number), c.Chain)
		s.gauge(blockTimeDesc, unix(c.Block.Time), c.Chain)
	}
	targets := map[string]*audit.Target{}
	for i := range c.Targets {
		t := &c.Targets[i]
		addr, err := sanitize.ParseAddress(t.Contract)
		if err != nil {
			continue
		}
		if other := targets[addr.Hex()]; other == nil || audit.Worst(other.Verdict, t.Verdict) != other.Verdict {
			targets[addr.Hex()] = t
		}
	}
	for contract, t := range targets {
		s.target(c.Chain, contract, t)
	}
	return targets
}

func (s *snapshot) target(chain, contract string, t *audit.Target) {
	for _, v := range audit.Verdicts {
		s.gauge(verdictDesc, is(t.Verdict == v), chain, contract, v.String())
	}
	if t.Compared() {
		s.entries(chain, contract, t.Entries)
		for _, level := range audit.Completenesses {
			s.gauge(completenessDesc, is(t.Completeness == level), chain, contract, string(level))
		}
		for _, level := range assurances {
			s.gauge(assuranceDesc, is(t.Assurance == level), chain, contract, string(level))
		}
	}
	s.kinds(chain, contract, t)
	s.accepted(chain, contract, t.Accepted)
	s.open(chain, contract, t.Findings)
}

func (s *snapshot) entries(chain, contract string, entries []audit.Entry) {
	type labels struct {
		list    audit.List
		verdict audit.EntryVerdict
	}
	count := map[labels]float64{}
	for i := range entries {
		count[labels{entries[i].List, entries[i].Verdict}]++
	}
	for _, l := range audit.Lists {
		for _, v := range audit.EntryVerdicts {
			s.gauge(entriesDesc, count[labels{l, v}], chain, contract, string(l), string(v))
		}
	}
}

func (s *snapshot) kinds(chain, contract string, t *audit.Target) {
	count, oldest, confirmed := map[audit.Kind]float64{}, map[audit.Kind]float64{}, map[audit.Kind]float64{}
	for _, f := range t.Findings {
		count[f.Kind]++
		earliest(oldest, f.Kind, f.FirstSeen)
		earliest(confirmed, f.Kind, f.LastConfirmedAt)
	}
	for _, k := range audit.Kinds {
		if n := count[k]; n > 0 || t.Compared() {
			s.gauge(findingsDesc, n, chain, contract, string(k), string(k.Severity()))
		}
		if at, seen := oldest[k]; seen {
			s.gauge(oldestDesc, at, chain, contract, string(k))
		}
		if at, seen := confirmed[k]; seen {
			s.gauge(confirmedDesc, at, chain, contract, string(k))
		}
	}
}

// earliest notes a time of a kind if it is the earliest yet; nil is none.
func earliest(of map[audit.Kind]float64, k audit.Kind, t *time.Time) {
	if t == nil {
		return
	}
	if at, seen := of[k]; !seen || unix(*t) < at {
		of[k] = unix(*t)
	}
}

func (s *snapshot) accepted(chain, contract string, list []audit.Acceptance) {
	first := map[audit.Kind]float64{}
	for _, a := range list {
		earliest(first, a.Kind, &a.Expires)
	}
	for _, k := range audit.Kinds {
		if at, ok := first[k]; ok {
			s.gauge(acceptDesc, at, chain, contract, string(k))
		}
	}
}

// finding is the labels of an open_finding series.
type finding struct {
	list, id string
	kind     audit.Kind
}

func (s *snapshot) open(chain, contract string, findings []audit.Finding) {
	var series []finding
	for _, f := range findings {
		if slices.Contains(audit.Kinds, f.Kind) {
			series = append(series, finding{label(f.List), wholeID(f.ID), f.Kind})
		}
	}
	slices.SortFunc(series, func(a, b finding) int {
		return cmp.Or(rank(a.kind)-rank(b.kind), slices.Index(audit.Kinds, a.kind)-slices.Index(audit.Kinds, b.kind),
			strings.Compare(a.list, b.list), strings.Compare(a.id, b.id))
	})
	series = slices.Compact(series)
	series = series[:min(len(series), maxOpen)]
	for _, f := range series {
		s.gauge(openDesc, 1, chain, contract, f.list, f.id, string(f.kind), string(f.kind.Severity()))
	}
	s.gauge(droppedDesc, float64(len(findings)-len(series)), chain, contract)
}

func rank(k audit.Kind) int {
	return slices.Index([]audit.Severity{audit.Critical, audit.Warning, audit.Info}, k.Severity())
}

// label is l where it is one of audit.Lists, else empty.
func label(l audit.List) string {
	if slices.Contains(audit.Lists, l) {
		return string(l)
	}
	return ""
}

// wholeID is id where it is spelled as a report spells one, else empty.
func wholeID(id string) string {
	if h, err := sanitize.ParseID(id); err == nil && h.Hex() == id {
		return id
	}
	return ""
}

func is(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
