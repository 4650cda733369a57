package metrics

import (
	"time"

	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

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
