package metrics_test

import (
	"fmt"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
	"github.com/kms-auditor/kms-auditor/kmsapi"
	"github.com/kms-auditor/kms-auditor/metrics"
)

const (
	contract = "0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C"
	refused  = "0xbd369a8c2f9edb2b52dad48ac8e0b32dde5f1337c423a506b48d07403a7d8033"
)

var kms = common.HexToAddress(contract)

var noon = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func fresh() (*prometheus.Registry, *metrics.Metrics) {
	reg := prometheus.NewPedanticRegistry()
	m := metrics.New(reg, metrics.Build{Version: "1.0.0", Revision: "abc", GoVersion: "go1.26"})
	m.Configure([]metrics.Chain{{Name: "base", Providers: []string{"public"}, Contracts: []common.Address{kms}}})
	return reg, m
}

func report(targets ...audit.Target) *audit.Report {
	c := audit.Chain{
		Chain: "base", ChainID: 8453, Duration: 1500 * time.Millisecond, Targets: targets,
		Block: &audit.Block{Number: 51375546, Time: noon.Add(-time.Minute)},
	}
	for _, t := range targets {
		c.Verdict = max(audit.Consistent, t.Verdict)
	}
	return &audit.Report{FinishedAt: noon, Verdict: c.Verdict, Chains: []audit.Chain{c}}
}

func drifted() audit.Target {
	seen := noon.Add(-time.Hour)
	return audit.Target{
		Contract: contract, Verdict: audit.Drift, Completeness: audit.Unchecked, Assurance: audit.Single,
		Counts: audit.Counts{Match: 1, Mismatch: 1},
		Entries: []audit.Entry{
			{List: audit.Device, ID: "0x" + strings.Repeat("11", 32), Claim: audit.ClaimAllowed, OnChain: audit.ChainAllowed, Verdict: audit.Match},
			{List: audit.OSImage, ID: refused, Claim: audit.ClaimAllowed, OnChain: audit.ChainDenied, Verdict: audit.Mismatch, Kind: audit.ClaimAllowedChainDenied},
		},
		Findings: []audit.Finding{{
			Kind: audit.ClaimAllowedChainDenied, Severity: audit.Warning, List: audit.OSImage, ID: refused, FirstSeen: &seen,
		}},
	}
}

func consistent() audit.Target {
	t := drifted()
	t.Verdict, t.Counts, t.Findings = audit.Consistent, audit.Counts{Match: 1}, nil
	t.Entries = t.Entries[:1]
	return t
}

func unread() audit.Target {
	t := consistent()
	t.Verdict, t.Counts = audit.Unknown, audit.Counts{Unverifiable: 1}
	t.Entries[0].Verdict = audit.Unverifiable
	return t
}

// series returns the lines of one metric, as a scrape gets them.
func series(t *testing.T, g prometheus.Gatherer, name string) []string {
	t.Helper()
	w := httptest.NewRecorder()
	promhttp.HandlerFor(g, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("scraping: %s", w.Body)
	}
	line := regexp.MustCompile(`(?m)^kms_auditor_` + name + `(?:_sum|_count|_bucket)?[{ ].*$`)
	return line.FindAllString(w.Body.String(), -1)
}

func TestEveryMetricPassesTheLinter(t *testing.T) {
	reg, m := fresh()
	m.Report(report(drifted()))
	m.Chain("base").Head("public", noon)
	m.EventScan("base", kms, 51000000)
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("GatherAndLint = %v, %v", problems, err)
	}
}

func TestBeforeTheFirstAudit(t *testing.T) {
	reg, _ := fresh()
	for _, tt := range []struct {
		name, metric string
		series       int
		value        string
	}{
		{"every verdict of a chain is counted from 0", "audits_total", 3, "0"},
		{"every call of a provider is counted from 0", "rpc_requests_total", len(transport.Methods) * len(transport.Results), "0"},
		{"every round trip is counted from 0", "rpc_round_trips_total", 1, "0"},
		{"every request to the API is counted from 0", "api_requests_total", len(kmsapi.Endpoints) * len(kmsapi.Results), "0"},
		{"a chain was never audited", "last_audit_timestamp_seconds", 1, "0"},
		{"a configured contract was never compared", "last_comparison_timestamp_seconds", 1, "0"},
		{"no target has a verdict", "target_verdict", 0, ""},
		{"no target has findings", "findings", 0, ""},
		{"no block was audited", "audited_block_number", 0, ""},
		{"no events were read", "event_scan_block_number", 0, ""},
		{"no provider's head was seen", "provider_head_timestamp_seconds", 0, ""},
		{"the build is known", "build_info", 1, "1"},
		{"the links of a chain are known", "chain_info", 1, "1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := series(t, reg, tt.metric)
			if len(got) != tt.series {
				t.Fatalf("%d series, want %d:\n%s", len(got), tt.series, strings.Join(got, "\n"))
			}
			for _, line := range got {
				if !strings.HasSuffix(line, " "+tt.value) {
					t.Errorf("%s, want %s", line, tt.value)
				}
			}
		})
	}
}

func TestCountersAndLastingTimestamps(t *testing.T) {
	reg, m := fresh()
	o := m.Chain("base")
	o.RoundTrip("public", time.Second)
	o.Call("public", "eth_call", transport.ResultOK)
	o.Call("public", "eth_call", transport.ResultOK)
	o.Head("public", noon)
	m.API("kms_list", "server_error", time.Second)
	m.EventScan("base", kms, 51000000)
	m.EventScan("base", kms, 51000001)
	m.NextAudit(noon.Add(5 * time.Minute))
	m.ConfigLoaded(true, noon)
	m.ConfigLoaded(false, noon.Add(time.Hour))
	m.Report(report(drifted()))
	for metric, want := range map[string]string{
		"rpc_round_trips_total":                        `{chain="base",provider="public"} 1`,
		"rpc_requests_total":                           `{chain="base",method="eth_call",provider="public",result="ok"} 2`,
		"provider_head_timestamp_seconds":              `{chain="base",provider="public"} 1.7935344e+09`,
		"event_scan_block_number":                      `{chain="base",contract="` + contract + `"} 5.1000001e+07`,
		"api_requests_total":                           `{endpoint="kms_list",result="server_error"} 1`,
		"next_audit_timestamp_seconds":                 ` 1.7935347e+09`,
		"config_last_reload_successful":                ` 0`,
		"config_last_reload_success_timestamp_seconds": ` 1.7935344e+09`,
		"audits_total":                                 `{chain="base",verdict="drift"} 1`,
		"last_audit_timestamp_seconds":                 `{chain="base"} 1.7935344e+09`,
		"last_comparison_timestamp_seconds":            `{chain="base",contract="` + contract + `"} 1.7935344e+09`,
		"audit_duration_seconds":                       `_sum{chain="base"} 1.5`,
		"rpc_request_duration_seconds":                 `_count{chain="base",provider="public"} 1`,
		"api_request_duration_seconds":                 `_sum{endpoint="kms_list"} 1`,
	} {
		if got := strings.Join(series(t, reg, metric), "\n"); !strings.Contains(got, "kms_auditor_"+metric+want) {
			t.Errorf("no series %s%s in\n%s", metric, want, got)
		}
	}
}

func TestScrapingWhileReportsArrive(t *testing.T) {
	reg, m := fresh()
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 200 {
			m.Report(report([]audit.Target{drifted(), consistent(), unread()}[i%3]))
			m.Chain("base").RoundTrip("public", time.Second)
			m.EventScan("base", kms, uint64(i))
		}
	})
	for range 50 {
		if _, err := reg.Gather(); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}

// Whoever can open findings at will, such as an API that calls every id refused, must not end the alert of an older one.
func TestNewFindingsDoNotReplaceOlderOnes(t *testing.T) {
	reg, m := fresh()
	target, seen := drifted(), noon.Add(-time.Hour)
	old := audit.Finding{Kind: audit.ClaimDeniedChainAllowed, List: audit.Device, ID: "0x" + strings.Repeat("ff", 32), FirstSeen: &seen}
	target.Findings = []audit.Finding{old, {Kind: audit.OwnerChanged, FirstSeen: &noon}, {Kind: audit.ContractNotListed, FirstSeen: &noon}}
	for i := range 300 {
		target.Findings = append(target.Findings, audit.Finding{Kind: audit.ClaimDeniedChainAllowed, List: audit.Device, ID: fmt.Sprintf("0x%064x", i), FirstSeen: &noon})
	}
	other := old
	other.ID = "0x" + strings.Repeat("fe", 32)
	target.Findings = append(target.Findings, other)
	m.Report(report(target))
	open := strings.Join(series(t, reg, "open_finding"), "\n")
	for _, want := range []string{old.ID, other.ID, string(audit.OwnerChanged), string(audit.ContractNotListed)} {
		if !strings.Contains(open, want) {
			t.Errorf("%s has no series any more", want)
		}
	}
}

func TestTenThousandFindingsAreCapped(t *testing.T) {
	reg, m := fresh()
	target := drifted()
	for i := range 9999 {
		target.Findings = append(target.Findings, audit.Finding{Kind: audit.ClaimUnknownKind, List: audit.Device, ID: fmt.Sprintf("0x%064x", i)})
	}
	critical := audit.Finding{Kind: audit.ClaimDeniedChainAllowed, List: audit.Device, ID: "0x" + strings.Repeat("ff", 32)}
	target.Findings = append(target.Findings, critical)
	m.Report(report(target))
	open := series(t, reg, "open_finding")
	if len(open) != 100 {
		t.Errorf("%d series of open_finding, want 100", len(open))
	}
	for _, id := range []string{critical.ID, refused} {
		if !strings.Contains(strings.Join(open, "\n"), id) {
			t.Errorf("the finding on %s gave way to less severe ones", id)
		}
	}
	if got := series(t, reg, "open_findings_dropped"); len(got) != 1 || !strings.HasSuffix(got[0], " 9901") {
		t.Errorf("open_findings_dropped = %v, want 9901", got)
	}
}

func TestForeignTextNeverBecomesALabel(t *testing.T) {
	const evil = "evil\"} 1\n\xff"
	reg, m := fresh()
	target := drifted()
	for _, id := range []string{evil, evil + "2", "", strings.ToUpper(refused), refused + "00"} {
		target.Findings = append(target.Findings, audit.Finding{Kind: audit.MalformedID, List: audit.Device, ID: id, Severity: evil, Message: evil})
	}
	target.Findings = append(target.Findings,
		audit.Finding{Kind: evil, List: audit.Device, ID: refused},
		audit.Finding{Kind: audit.NoHash, List: evil})
	target.Entries = append(target.Entries, audit.Entry{List: evil, Verdict: evil, ID: evil, Name: evil})
	target.Completeness, target.Assurance = evil, evil
	other := target
	other.Contract = evil
	r := report(target, other)
	r.Chains = append(r.Chains, audit.Chain{Chain: evil, Block: r.Chains[0].Block, Targets: r.Chains[0].Targets})
	m.Report(r)
	m.EventScan(evil, kms, 1)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "kms_auditor_open_finding_info" && strings.Contains(f.String(), "evil") {
			t.Errorf("a label took foreign text: %s", f)
		}
	}
	open := strings.Join(series(t, reg, "open_finding"), "\n")
	if n := strings.Count(open, `id="",kind="malformed_id"`); n != 1 {
		t.Errorf("%d series for malformed ids, want 1:\n%s", n, open)
	}
}
