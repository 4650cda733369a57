package metrics

import (
	"fmt"
	"io"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/common/expfmt"

	"github.com/kms-auditor/kms-auditor/audit"
)

// reported is the series that one report is enough for.
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
			"Unix time at which the last audit finished that compared a claim about the contract with the chain (0 = never). It does not advance while sources fail.", "chain", "contract"),
	}
	reg.MustRegister(p.state)
	return p
}

// show replaces the state and returns the chains that it shows: each wanted one once.
func (p *reported) show(r *audit.Report, wanted func(chain string) bool) []audit.Chain {
	s := newSnapshot()
	var shown []audit.Chain
	for _, c := range r.Chains {
		if !wanted(c.Chain) || s.chains[c.Chain] {
			continue
		}
		shown = append(shown, c)
		p.lastAudit.WithLabelValues(c.Chain).Set(unix(r.FinishedAt))
		for contract, t := range s.chain(c) {
			if t.Compared() {
				p.compared.WithLabelValues(c.Chain, contract).Set(unix(r.FinishedAt))
			}
		}
	}
	p.state.last.Store(&s.out)
	return shown
}

// Write writes one report as Prometheus text, without what only a daemon can count. What was not compared has no
// last_comparison_timestamp_seconds, since nobody remembers the audit before.
func Write(w io.Writer, r *audit.Report, build Build) error {
	reg := prometheus.NewRegistry()
	p := newReported(reg, build)
	p.show(r, func(string) bool { return true })
	families, err := reg.Gather()
	for i := 0; i < len(families) && err == nil; i++ {
		_, err = expfmt.MetricFamilyToText(w, families[i])
	}
	if err != nil {
		return fmt.Errorf("writing report %s as Prometheus text: %w", r.AuditID, err)
	}
	return nil
}
