package web_test

import (
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/web"
	"github.com/kms-auditor/kms-auditor/metrics"
)

// crowd is a report of so many contracts with so many entries each, one in a hundred of which differs.
func crowd(contracts, each int) *audit.Report {
	at := time.Date(2026, 11, 23, 3, 4, 5, 0, time.UTC)
	c := audit.Chain{Chain: "base", ChainID: 8453, Verdict: audit.Drift, Policy: "finalized", Block: &audit.Block{Number: 1, Hash: id(1), Time: at}}
	for i := range contracts {
		t := audit.Target{Contract: fmt.Sprintf("0x%040x", i), Verdict: audit.Drift, Assurance: audit.Proven, Completeness: audit.Complete}
		for j := range each {
			e := audit.Entry{List: audit.Device, ID: id(i*each + j), Name: fmt.Sprint("node-", j), Claim: audit.ClaimAllowed, OnChain: audit.ChainAllowed,
				Verdict: audit.Match, Assurance: audit.Proven, Changed: &audit.Changed{Block: uint64(j), Time: &at, Tx: common.HexToHash(id(j)), Actor: contract}}
			if j%100 == 0 {
				e.Verdict, e.OnChain, e.Kind, e.Severity = audit.Mismatch, audit.ChainDenied, audit.ClaimAllowedChainDenied, audit.Warning
				t.Findings = append(t.Findings, audit.Finding{Kind: e.Kind, Severity: e.Severity, List: e.List, ID: e.ID,
					Message: "device: the API says allowed, the contract denies it", Runbook: e.Kind.Runbook(), FirstSeen: &at})
				t.Counts.Mismatch++
			} else {
				t.Counts.Match++
			}
			t.Entries = append(t.Entries, e)
		}
		c.Targets = append(c.Targets, t)
	}
	return &audit.Report{Schema: audit.Schema, AuditID: "A1", FinishedAt: at, Verdict: audit.Drift, Chains: []audit.Chain{c}}
}

// sink takes an answer and counts its bytes.
type sink struct {
	header http.Header
	n      int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(b []byte) (int, error) { s.n += len(b); return len(b), nil }
func (s *sink) WriteHeader(int)             {}

// BenchmarkRequest is one request: the first after an audit, or any later one.
func BenchmarkRequest(b *testing.B) {
	for _, size := range []struct{ contracts, each int }{{1, 10_000}, {100, 1000}} {
		r := crowd(size.contracts, size.each)
		for _, path := range []string{"/", "/api/v1/report", "/metrics"} {
			for _, when := range []string{"first", "later"} {
				b.Run(fmt.Sprintf("%dx%d%s/%s", size.contracts, size.each, path, when), func(b *testing.B) {
					reg := prometheus.NewRegistry()
					m := metrics.New(reg, metrics.Build{})
					m.Configure([]metrics.Chain{{Name: "base"}})
					m.Report(r)
					o := options(nil)
					now := r
					o.Report, o.Gatherer = func() *audit.Report { return now }, reg
					h, err := web.Handler(o)
					if err != nil {
						b.Fatal(err)
					}
					req, err := http.NewRequest("GET", path, nil)
					if err != nil {
						b.Fatal(err)
					}
					b.ReportAllocs()
					s := &sink{header: http.Header{}}
					h.ServeHTTP(s, req)
					before := cpu(b)
					for b.Loop() {
						if when == "first" {
							fresh := *r
							now = &fresh
						}
						s = &sink{header: http.Header{}}
						h.ServeHTTP(s, req)
					}
					b.ReportMetric(float64((cpu(b)-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
					b.ReportMetric(float64(s.n), "bytes")
				})
			}
		}
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
