// Package metrics exposes audits as Prometheus series.
//
// State gauges are rebuilt from each report: if the last audit compared nothing, its entries and levels disappear instead of
// keeping old values. Open findings are in every report until they are resolved, so their gauges stay. The timestamps of the
// last audit and last comparison and the progress of an event scan stay too: alerts fire when they stop advancing.
//
// Labels come from the configuration, from closed lists, or through the strict hex parser. The exception is open_finding_info, whose
// name and message contain foreign text without markup, of bounded length.
package metrics

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	dto "github.com/prometheus/client_model/go"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

const namespace = "kms_auditor"

// seconds are the buckets of every histogram, from a quick request to an audit at its default timeout.
var seconds = []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120}

// Build identifies the running binary.
type Build struct{ Version, Revision, GoVersion string }

func (b Build) String() string {
	return fmt.Sprintf("kms-auditor %s, revision %s, %s", b.Version, b.Revision, b.GoVersion)
}

// Chain is a configured chain. Its series exist from the start.
type Chain struct {
	Name        string
	Providers   []string
	Contracts   []common.Address // empty for every contract that the API lists
	Explorer    string           // URL for links; optional
	ExternalURL string           // URL of the status page, for links; optional
}

// Metrics holds the series. Its methods may be called from several goroutines.
type Metrics struct {
	reported
	known      atomic.Pointer[map[string]Chain] // the configured chains
	links      *prometheus.GaugeVec
	audits     *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	unstable   *prometheus.CounterVec
	scanned    *prometheus.GaugeVec
	next       prometheus.Gauge
	calls      *prometheus.CounterVec
	trips      *prometheus.CounterVec
	tripTime   *prometheus.HistogramVec
	head       *prometheus.GaugeVec
	requests   *prometheus.CounterVec
	apiTime    *prometheus.HistogramVec
	reloadOK   prometheus.Gauge
	reloadTime prometheus.Gauge
	heartbeats *prometheus.CounterVec
	writes     *prometheus.CounterVec
}

// New registers the series with reg. It panics if reg already has them. No chain is configured yet.
func New(reg prometheus.Registerer, build Build) *Metrics {
	f := factory{promauto.With(reg)}
	m := &Metrics{
		reported: newReported(reg, build),
		links: f.gauges("chain_info",
			"What alerts about a chain link to: its block explorer and the status page, as configured; always 1.", "chain", "explorer", "external_url"),
		audits: f.counters("audits_total",
			"Finished audits of a chain, by verdict.", "chain", "verdict"),
		duration: f.histograms("audit_duration_seconds",
			"Duration of an audit of a chain.", "chain"),
		unstable: f.counters("unconfirmed_differences_total",
			"Differences that only one of an audit's two looks saw.", "chain"),
		scanned: f.gauges("event_scan_block_number",
			"Block up to which a contract's events have been read; absent before the first scan. It does not advance while reading fails.", "chain", "contract"),
		next: f.gauge("next_audit_timestamp_seconds",
			"Unix time of the next scheduled audit (0 = none)."),
		calls: f.counters("rpc_requests_total",
			"JSON-RPC calls, by result; each call of a batch counts.", "chain", "provider", "method", "result"),
		trips: f.counters("rpc_round_trips_total",
			"HTTP requests to a provider.", "chain", "provider"),
		tripTime: f.histograms("rpc_request_duration_seconds",
			"Duration of an HTTP request to a provider.", "chain", "provider"),
		head: f.gauges("provider_head_timestamp_seconds",
			"Unix time of the newest block that a provider has returned.", "chain", "provider"),
		requests: f.counters("api_requests_total",
			"HTTP requests to the API, by result.", "endpoint", "result"),
		apiTime: f.histograms("api_request_duration_seconds",
			"Duration of an HTTP request to the API.", "endpoint"),
		reloadOK: f.gauge("config_last_reload_successful",
			"Whether the last attempt to load the configuration succeeded (1) or failed (0)."),
		reloadTime: f.gauge("config_last_reload_success_timestamp_seconds",
			"Unix time of the last successful load of the configuration."),
		heartbeats: f.counters("heartbeats_total",
			"Heartbeats sent after audits, by result.", "result"),
		writes: f.counters("writes_total",
			"Writes of an audit to the state file or to evidence, by result.", "file", "result"),
	}
	m.Configure(nil)
	for _, r := range okOrFailed {
		m.heartbeats.WithLabelValues(r)
		m.writes.WithLabelValues(State, r)
		m.writes.WithLabelValues(Evidence, r)
	}
	for _, e := range kmsapi.Endpoints {
		m.apiTime.WithLabelValues(e)
		for _, r := range kmsapi.Results {
			m.requests.WithLabelValues(e, r)
		}
	}
	return m
}

// factory makes and registers collectors.
type factory struct{ promauto.Factory }

func (f factory) counters(name, help string, labels ...string) *prometheus.CounterVec {
	return f.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

func (f factory) gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return f.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

func (f factory) gauge(name, help string) prometheus.Gauge {
	return f.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help})
}

func (f factory) histograms(name, help string, labels ...string) *prometheus.HistogramVec {
	return f.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: seconds}, labels)
}

// Configure sets the chains to audit. It must not be called during an audit. Series of removed chains, providers and contracts
// disappear, and those of new ones start.
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
	m.links.Reset()
	for _, c := range known {
		m.start(c)
	}
}

// Forget drops the series of a contract that is no longer audited.
func (m *Metrics) Forget(chain string, contract common.Address) {
	m.prune(func(l prometheus.Labels) bool { return l["chain"] != chain || l["contract"] != contract.Hex() })
}

// prune drops the series whose labels are not to be kept.
func (m *Metrics) prune(keep func(prometheus.Labels) bool) {
	for _, v := range []*prometheus.MetricVec{
		m.audits.MetricVec, m.duration.MetricVec, m.unstable.MetricVec, m.lastAudit.MetricVec, m.compared.MetricVec,
		m.scanned.MetricVec, m.calls.MetricVec, m.trips.MetricVec, m.tripTime.MetricVec, m.head.MetricVec,
	} {
		for _, l := range series(v) {
			if !keep(l) {
				v.Delete(l)
			}
		}
	}
	if last := m.state.Load(); last != nil {
		kept := *last
		kept.series = slices.DeleteFunc(slices.Clone(last.series), func(one prometheus.Metric) bool { return !keep(labelsOf(one)) })
		m.state.Store(&kept)
	}
}

// start creates the series of a configured chain.
func (m *Metrics) start(c Chain) {
	m.links.WithLabelValues(c.Name, c.Explorer, c.ExternalURL).Set(1)
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

// series returns the labels of every series of v.
func series(v *prometheus.MetricVec) (out []prometheus.Labels) {
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
		panic(err) // cannot happen for metrics of this package
	}
	labels := prometheus.Labels{}
	for _, p := range m.GetLabel() {
		labels[p.GetName()] = p.GetValue()
	}
	return labels
}

// Report counts an audit and replaces the state gauges. Chains that are not configured are ignored.
func (m *Metrics) Report(r *audit.Report) {
	for _, c := range m.show(r, m.knows) {
		m.audits.WithLabelValues(c.Chain, c.Verdict.String()).Inc()
		m.duration.WithLabelValues(c.Chain).Observe(c.Duration.Seconds())
		m.unstable.WithLabelValues(c.Chain).Add(float64(len(Unconfirmed(&c))))
	}
	// A chain that was compared before but is now absent by discovery was audited, though not compared.
	for _, l := range series(m.compared.MetricVec) {
		m.lastAudit.WithLabelValues(l["chain"]).Set(unix(r.FinishedAt))
	}
}

// Restore shows the report of an earlier process, so that open findings stay visible until the first audit. It counts nothing.
func (m *Metrics) Restore(r *audit.Report) { m.show(r, m.knows) }

// EventScan records that a contract's events are read up to a block. A chain that is not configured is ignored.
func (m *Metrics) EventScan(chain string, contract common.Address, block uint64) {
	if m.knows(chain) {
		m.scanned.WithLabelValues(chain, contract.Hex()).Set(float64(block))
	}
}

func (m *Metrics) knows(chain string) bool {
	_, ok := (*m.known.Load())[chain]
	return ok
}

// API counts one HTTP request to the API.
func (m *Metrics) API(endpoint, result string, took time.Duration) {
	m.requests.WithLabelValues(endpoint, result).Inc()
	m.apiTime.WithLabelValues(endpoint).Observe(took.Seconds())
}

// Chain returns the observer of one chain's providers.
func (m *Metrics) Chain(name string) transport.Observer { return observer{m, name} }

type observer struct {
	m     *Metrics
	chain string
}

func (o observer) RoundTrip(provider string, took time.Duration) {
	o.m.trips.WithLabelValues(o.chain, provider).Inc()
	o.m.tripTime.WithLabelValues(o.chain, provider).Observe(took.Seconds())
}

func (o observer) Call(provider, method, result string) {
	o.m.calls.WithLabelValues(o.chain, provider, method, result).Inc()
}

func (o observer) Head(provider string, t time.Time) {
	o.m.head.WithLabelValues(o.chain, provider).Set(unix(t))
}

// NextAudit records when the next audit is due. The zero time means never.
func (m *Metrics) NextAudit(t time.Time) { m.next.Set(unix(t)) }

// ConfigLoaded records an attempt to load the configuration.
func (m *Metrics) ConfigLoaded(ok bool, at time.Time) {
	if m.reloadOK.Set(is[ok]); ok {
		m.reloadTime.Set(unix(at))
	}
}

var okOrFailed = map[bool]string{true: "ok", false: "failed"}

// Heartbeat counts one heartbeat.
func (m *Metrics) Heartbeat(ok bool) { m.heartbeats.WithLabelValues(okOrFailed[ok]).Inc() }

// Values of the label file.
const (
	State    = "state"
	Evidence = "evidence"
)

// Written counts one attempt to write an audit to State or Evidence.
func (m *Metrics) Written(file string, ok bool) { m.writes.WithLabelValues(file, okOrFailed[ok]).Inc() }

func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// Unconfirmed lists the findings about differences that only one of an audit's two looks saw.
func Unconfirmed(c *audit.Chain) (all []audit.Change) {
	for _, t := range c.Targets {
		for _, f := range t.Findings {
			if f.Kind == audit.ClaimUnstable && f.State == audit.Confirmed {
				all = append(all, audit.Change{Chain: c.Chain, Contract: t.Contract, Finding: f})
			}
		}
	}
	return all
}
