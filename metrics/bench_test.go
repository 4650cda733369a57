package metrics_test

import (
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/metrics"
)

// BenchmarkScrape is one scrape, and BenchmarkReport what each audit costs the series, with one entry in a hundred that differs.
func BenchmarkScrape(b *testing.B) { sizes(b, func(*metrics.Metrics, *audit.Report) {}) }

func BenchmarkReport(b *testing.B) {
	sizes(b, func(m *metrics.Metrics, r *audit.Report) { m.Report(r) })
}

func sizes(b *testing.B, before func(*metrics.Metrics, *audit.Report)) {
	for _, size := range []struct{ contracts, entries int }{{1, 10_000}, {100, 1000}} {
		b.Run(fmt.Sprintf("%dx%d", size.contracts, size.entries), func(b *testing.B) {
			c := audit.Chain{Chain: "base", ChainID: 8453}
			for i := range size.contracts {
				t := audit.Target{Contract: fmt.Sprintf("0x%040x", i)}
				for j := range size.entries {
					e := audit.Entry{List: audit.Device, ID: fmt.Sprintf("0x%064x", j), Claim: audit.ClaimAllowed, OnChain: audit.ChainAllowed, Verdict: audit.Match}
					if t.Counts.Match++; j%100 == 0 {
						t.Findings = append(t.Findings, audit.Finding{Kind: audit.ClaimAllowedChainDenied, List: e.List, ID: e.ID})
					}
					t.Entries = append(t.Entries, e)
				}
				c.Targets = append(c.Targets, t)
			}
			r := &audit.Report{Chains: []audit.Chain{c}}
			reg := prometheus.NewRegistry()
			m := metrics.New(reg, metrics.Build{})
			m.Configure([]metrics.Chain{{Name: "base"}})
			m.Report(r)
			b.ReportAllocs()
			began := cpu(b)
			for b.Loop() {
				before(m, r)
				families, err := reg.Gather()
				for i := 0; i < len(families) && err == nil; i++ {
					_, err = expfmt.MetricFamilyToText(io.Discard, families[i])
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpu(b)-began).Microseconds())/1000/float64(b.N), "cpu-ms/op")
		})
	}
}

// cpu is the time that the process has computed, which other programs do not lengthen.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
