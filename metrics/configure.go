package metrics

import (
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

// Configure tells which chains are audited from now on, and may not be called during an audit. The series of what is
// configured no more vanish, those of what is new begin, and all others go on.
func (m *Metrics) Configure(chains []Chain) {
	known := map[string]Chain{}
	for _, c := range chains {
		known[c.Name] = c
	}
	m.known.Store(&known)
	keep := func(labels prometheus.Labels) bool {
		c, ok := known[labels["chain"]]
		provider, byProvider := labels["provider"]
		contract, byContract := labels["contract"]
		named := func(a common.Address) bool { return a.Hex() == contract }
		return ok && (!byProvider || slices.Contains(c.Providers, provider)) &&
			(!byContract || len(c.Contracts) == 0 || slices.ContainsFunc(c.Contracts, named))
	}
	m.prune(keep)
	for _, c := range known {
		m.start(c)
	}
}

// Forget drops the series of a contract that is no longer audited, which would stand still.
func (m *Metrics) Forget(chain string, contract common.Address) {
	m.prune(func(l prometheus.Labels) bool { return l["chain"] != chain || l["contract"] != contract.Hex() })
}

// prune drops the series about chains that are not to be kept, and what the last report said of those.
func (m *Metrics) prune(keep func(prometheus.Labels) bool) {
	for _, v := range []vector{m.audits, m.duration, m.unstable, m.lastAudit, m.compared, m.scanned, m.calls, m.trips, m.tripTime, m.head} {
		for _, l := range series(v) {
			if !keep(l) {
				v.Delete(l)
			}
		}
	}
	if last := m.state.Load(); last != nil {
		kept := slices.DeleteFunc(slices.Clone(*last), func(one prometheus.Metric) bool { return !keep(labelsOf(one)) })
		m.state.Store(&kept)
	}
}

// start begins the series that the configuration names, where they are not there yet.
func (m *Metrics) start(c Chain) {
	m.duration.WithLabelValues(c.Name)
	m.lastAudit.WithLabelValues(c.Name)
	m.unstable.WithLabelValues(c.Name)
	for _, v := range audit.Verdicts {
		m.audits.WithLabelValues(c.Name, v.String())
	}
	for _, contract := range c.Contracts {
		m.compared.WithLabelValues(c.Name, contract.Hex())
	}
	for _, p := range c.Providers {
		m.trips.WithLabelValues(c.Name, p)
		m.tripTime.WithLabelValues(c.Name, p)
		for _, method := range transport.Methods {
			for _, r := range transport.Results {
				m.calls.WithLabelValues(c.Name, p, method, r)
			}
		}
	}
}

// vector is a metric with labels.
type vector interface {
	Collect(chan<- prometheus.Metric)
	Delete(prometheus.Labels) bool
}

// series are the labels that v has.
func series(v vector) (out []prometheus.Labels) {
	all := make(chan prometheus.Metric)
	go func() {
		defer close(all)
		v.Collect(all)
	}()
	for one := range all {
		out = append(out, labelsOf(one))
	}
	return out
}

func labelsOf(one prometheus.Metric) prometheus.Labels {
	var m dto.Metric
	if err := one.Write(&m); err != nil {
		panic(err) // no metric of this package
	}
	labels := prometheus.Labels{}
	for _, p := range m.GetLabel() {
		labels[p.GetName()] = p.GetValue()
	}
	return labels
}
