package metrics

import (
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/common/expfmt"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// reported has the series that are derived from a single report.
type reported struct {
	state     *state
	lastAudit *prometheus.GaugeVec
	compared  *prometheus.GaugeVec
}

func newReported(reg prometheus.Registerer, build Build) reported {
	f := factory{promauto.With(reg)}
	info := f.gauges("build_info", "The running binary; the value is always 1.", "version", "revision", "goversion")
	info.WithLabelValues(build.Version, build.Revision, build.GoVersion).Set(1)
	p := reported{
		state: new(state),
		lastAudit: f.gauges("last_audit_timestamp_seconds",
			"Unix time at which the last audit of a chain finished, whatever its verdict (0 = never).", "chain"),
		compared: f.gauges("last_comparison_timestamp_seconds",
			"Unix time at which an audit last compared the contract with its claim or policy (0 = never). It does not advance while sources fail.", "chain", "contract"),
	}
	reg.MustRegister(p.state)
	return p
}

// show replaces the state gauges. It returns the chains that it shows: each wanted one once.
func (p *reported) show(r *audit.Report, wanted func(chain string) bool) []audit.Chain {
	s := snapshot{details: map[[3]string]details{}}
	if last := p.state.Load(); last != nil {
		s.before = last.details
	}
	var shown []audit.Chain
	for _, c := range r.Chains {
		if !wanted(c.Chain) || slices.ContainsFunc(shown, func(o audit.Chain) bool { return o.Chain == c.Chain }) {
			continue
		}
		shown = append(shown, c)
		p.lastAudit.WithLabelValues(c.Chain).Set(unix(r.FinishedAt))
		s.anchored(&c)
		for contract, t := range s.chain(c) {
			if t.Compared() {
				p.compared.WithLabelValues(c.Chain, contract).Set(unix(r.FinishedAt))
			}
		}
	}
	p.state.Store(&s)
	return shown
}

// Write writes one report as Prometheus text, without the counters of a daemon. Contracts that were not compared have no
// last_comparison_timestamp_seconds.
func Write(w io.Writer, r *audit.Report, build Build) error {
	reg := prometheus.NewRegistry()
	p := newReported(reg, build)
	all := func(string) bool { return true }
	p.show(r, all)
	families, err := reg.Gather()
	for i := 0; i < len(families) && err == nil; i++ {
		_, err = expfmt.MetricFamilyToText(w, families[i])
	}
	if err != nil {
		return fmt.Errorf("writing report %s as Prometheus text: %w", r.AuditID, err)
	}
	return nil
}

var (
	verdictDesc      = desc("target_verdict", "Verdict of the last audit on a contract (1 = current).", "chain", "contract", "verdict")
	entriesDesc      = desc("entries", "Entries of a contract by verdict; absent if the last audit compared nothing.", "chain", "contract", "list", "verdict")
	findingsDesc     = desc("findings", "Open findings of a contract, including those that the last audit could not check again. A kind without findings is 0 if the last audit compared something, else absent.", "chain", "contract", "kind", "severity")
	oldestDesc       = desc("oldest_finding_timestamp_seconds", "Unix time at which the oldest open finding of a kind was first seen.", "chain", "contract", "kind")
	openDesc         = desc("open_finding", "1 while a finding is open, even if the last audit could not check it again. At most 100 per contract, most severe first. id is empty unless it is 32 bytes of hex.", "chain", "contract", "list", "id", "kind", "severity")
	infoDesc         = desc("open_finding_info", "Texts for alerts about an open finding; always 1. message is a sentence; name is what the API calls the id; tx is the last transaction that changed the id's entry in the contract, if known.", "chain", "contract", "list", "id", "kind", "name", "tx", "message")
	firstSeenDesc    = desc("open_finding_first_seen_timestamp_seconds", "Unix time at which an audit first saw the open finding.", "chain", "contract", "list", "id", "kind")
	confirmedDesc    = desc("open_finding_last_confirmed_timestamp_seconds", "Unix time at which an audit last confirmed the open findings of a kind; the earliest if they differ.", "chain", "contract", "kind")
	droppedDesc      = desc("open_findings_dropped", "Open findings without an open_finding series, because of its limit.", "chain", "contract")
	blockDesc        = desc("audited_block_number", "Number of the block that the last audit read.", "chain")
	blockTimeDesc    = desc("audited_block_timestamp_seconds", "Unix time of the block that the last audit read.", "chain")
	anchoredDesc     = desc("anchored_block_timestamp_seconds", "Unix time of the newest block that the anchor vouches for (0 = none yet). Absent without an anchor.", "chain", "trust")
	completenessDesc = desc("completeness", "How completely the last audit searched for ids that the API does not list (1 = current).", "chain", "contract", "level")
	acceptDesc       = desc("accept_expires_timestamp_seconds", "Unix time at which the first accepted difference of a kind expires; absent if none is accepted.", "chain", "contract", "kind")
	assuranceDesc    = desc("assurance", "Lowest assurance among a contract's answers (1 = current).", "chain", "contract", "level")
)

// assurances lists every level of assurance, weakest first.
var assurances = []audit.Assurance{audit.Single, audit.Agreed, audit.Proven}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

// state collects the series of the last report.
type state struct{ atomic.Pointer[snapshot] }

func (*state) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{verdictDesc, entriesDesc, findingsDesc, oldestDesc, openDesc, infoDesc, firstSeenDesc, confirmedDesc, droppedDesc, blockDesc, blockTimeDesc, anchoredDesc, completenessDesc, assuranceDesc, acceptDesc} {
		ch <- d
	}
}

func (s *state) Collect(ch chan<- prometheus.Metric) {
	if last := s.Load(); last != nil {
		for _, m := range last.series {
			ch <- m
		}
	}
}

// snapshot is the series of one report.
type snapshot struct {
	series          []prometheus.Metric
	before, details map[[3]string]details // of the open findings of the previous report and of this one, by chain, contract and finding
}

func (s *snapshot) gauge(d *prometheus.Desc, value float64, labels ...string) {
	s.series = append(s.series, prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...))
}

// anchored adds, for each trust, the time of the newest block with at least that trust.
func (s *snapshot) anchored(c *audit.Chain) {
	for i, trust := range c.Trusts {
		newest := 0.0
		for _, a := range []*audit.Anchored{c.Anchored, c.L1Anchored} {
			if a != nil && slices.Contains(c.Trusts[i:], a.Trust) {
				newest = max(newest, unix(a.Time))
			}
		}
		s.gauge(anchoredDesc, newest, c.Chain, string(trust))
	}
}

// chain adds a chain and returns its targets by EIP-55 address. Of two targets of one contract it keeps the worse, because
// duplicate series would fail the whole scrape.
func (s *snapshot) chain(c audit.Chain) map[string]*audit.Target {
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
		if other := targets[addr.Hex()]; other == nil || max(other.Verdict, t.Verdict) != other.Verdict {
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
		s.gauge(verdictDesc, is[t.Verdict == v], chain, contract, v.String())
	}
	if t.Compared() {
		s.entries(chain, contract, t.Entries)
		for _, level := range audit.Completenesses {
			s.gauge(completenessDesc, is[t.Completeness == level], chain, contract, string(level))
		}
		for _, level := range assurances {
			s.gauge(assuranceDesc, is[t.Assurance == level], chain, contract, string(level))
		}
	}
	s.kinds(chain, contract, t)
	s.open(chain, contract, t)
}

func (s *snapshot) entries(chain, contract string, entries []audit.Entry) {
	count := map[[2]string]float64{}
	for i := range entries {
		count[[2]string{string(entries[i].List), string(entries[i].Verdict)}]++
	}
	for _, l := range audit.Lists {
		for _, v := range audit.EntryVerdicts {
			s.gauge(entriesDesc, count[[2]string{string(l), string(v)}], chain, contract, string(l), string(v))
		}
	}
}

func (s *snapshot) kinds(chain, contract string, t *audit.Target) {
	for _, k := range audit.Kinds {
		var n float64
		var seen, confirmed, expires *time.Time
		for i := range t.Findings {
			if f := &t.Findings[i]; f.Kind == k {
				n++
				seen, confirmed = earlier(seen, f.FirstSeen), earlier(confirmed, f.LastConfirmedAt)
			}
		}
		for i := range t.Accepted {
			if a := &t.Accepted[i]; a.Kind == k {
				expires = earlier(expires, &a.Expires)
			}
		}
		if n > 0 || t.Compared() {
			s.gauge(findingsDesc, n, chain, contract, string(k), string(k.Severity()))
		}
		for d, at := range map[*prometheus.Desc]*time.Time{oldestDesc: seen, confirmedDesc: confirmed, acceptDesc: expires} {
			if at != nil {
				s.gauge(d, unix(*at), chain, contract, string(k))
			}
		}
	}
}

// earlier returns the earlier of two times. A nil time is ignored.
func earlier(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.Before(*a) {
		return b
	}
	return a
}

// is converts a bool to a gauge value.
var is = map[bool]float64{true: 1, false: 0}
