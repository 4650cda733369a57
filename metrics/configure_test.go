package metrics_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
	"github.com/kms-auditor/kms-auditor/metrics"
)

const other = "0xd343a3f5593b93D8056aB5D60c433622d7D65a80"

// TestSeriesFollowTheConfiguration audits chain base of two contracts, and then configures it anew.
func TestSeriesFollowTheConfiguration(t *testing.T) {
	base := metrics.Chain{Name: "base", Providers: []string{"public"}, Contracts: []common.Address{kms}}
	for _, row := range []struct {
		sentence string
		chains   []metrics.Chain
		metric   string
		want     []string // parts of the series, in their order
	}{
		{"a counter of a chain that stays goes on", []metrics.Chain{base}, "audits_total", []string{`verdict="consistent"} 0`, `verdict="drift"} 1`, `verdict="unknown"} 0`}},
		{"one of a provider too", []metrics.Chain{base}, "rpc_round_trips_total", []string{`{chain="base",provider="public"} 1`}},
		{"a histogram too", []metrics.Chain{base}, "audit_duration_seconds_count", []string{`{chain="base"} 1`}},
		{"the state of what stays is still shown", []metrics.Chain{base}, "audited_block_number", []string{`{chain="base"} 5.1375546e+07`}},
		{"a contract that is configured no more is gone", []metrics.Chain{base}, "last_comparison_timestamp_seconds", []string{`contract="` + contract + `"} 1.79`}},
		{"its verdict is gone too", []metrics.Chain{base}, "target_verdict", []string{`verdict="consistent"} 0`, `verdict="drift"} 1`, `verdict="unknown"} 0`}},
		{"its events too", []metrics.Chain{base}, "event_scan_block_number", nil},
		{"where all contracts are audited now, none is gone", []metrics.Chain{{Name: "base"}}, "last_comparison_timestamp_seconds", []string{contract, other}},
		{"a provider that is configured no more is gone", []metrics.Chain{{Name: "base", Providers: []string{"new"}}}, "rpc_round_trips_total", []string{`provider="new"} 0`}},
		{"its calls are gone too", []metrics.Chain{{Name: "base"}}, "rpc_requests_total", nil},
		{"its newest block too", []metrics.Chain{{Name: "base"}}, "provider_head_timestamp_seconds", nil},
		{"its histogram too", []metrics.Chain{{Name: "base"}}, "rpc_request_duration_seconds", nil},
		{"a chain that is new was never audited", []metrics.Chain{{Name: "ethereum"}}, "last_audit_timestamp_seconds", []string{`{chain="ethereum"} 0`}},
		{"the one that is gone has no verdict", []metrics.Chain{{Name: "ethereum"}}, "target_verdict", nil},
		{"a contract that is new was never compared", []metrics.Chain{{Name: "base", Contracts: []common.Address{common.HexToAddress(strings.Repeat("11", 20))}}}, "last_comparison_timestamp_seconds", []string{"0x" + strings.Repeat("11", 20) + `"} 0`}},
		{"what is about no chain stays", nil, "api_request_duration_seconds_count", []string{`kms_info"} 0`, `kms_list"} 1`, `next_app_ids"} 0`, `on_chain_detail"} 0`}},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			reg, m := fresh()
			second := consistent()
			second.Contract = other
			m.Configure([]metrics.Chain{{Name: "base", Providers: []string{"public"}}})
			m.Report(report(second, drifted()))
			m.EventScan("base", common.HexToAddress(other), 1)
			m.Chain("base").RoundTrip("public", time.Second)
			m.Chain("base").Call("public", "eth_call", transport.ResultOK)
			m.Chain("base").Head("public", noon)
			m.API("kms_list", "ok", time.Second)

			m.Configure(row.chains)
			got := series(t, reg, row.metric)
			if len(got) != len(row.want) {
				t.Fatalf("%d series, want %d:\n%s", len(got), len(row.want), strings.Join(got, "\n"))
			}
			for i, part := range row.want {
				if !strings.Contains(got[i], part) {
					t.Errorf("%s, want %s", got[i], part)
				}
			}
		})
	}
}

func TestAReportOfAChainThatIsConfiguredNoMoreShowsNothing(t *testing.T) {
	reg, m := fresh()
	m.Configure(nil)
	m.Report(report(drifted()))
	m.EventScan("base", kms, 1)
	for _, metric := range []string{"audits_total", "target_verdict", "last_audit_timestamp_seconds", "event_scan_block_number"} {
		if got := series(t, reg, metric); len(got) > 0 {
			t.Errorf("%s shows what is not configured", got)
		}
	}
	m.Configure([]metrics.Chain{{Name: "base"}})
	m.Report(&audit.Report{Chains: []audit.Chain{{Chain: "base"}}})
	if got := series(t, reg, "audits_total"); len(got) != 3 {
		t.Errorf("the chain that came back has %d counters of audits:\n%s", len(got), strings.Join(got, "\n"))
	}
}

func TestWritesAreCounted(t *testing.T) {
	reg, m := fresh()
	m.Written(metrics.State, true)
	m.Written(metrics.Evidence, false)
	want := []string{`evidence",result="failed"} 1`, `evidence",result="ok"} 0`, `state",result="failed"} 0`, `state",result="ok"} 1`}
	got := strings.Join(series(t, reg, "writes_total"), "\n")
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("no %s in\n%s", w, got)
		}
	}
}

func TestHeartbeatsAreCounted(t *testing.T) {
	reg, m := fresh()
	m.Heartbeat(false)
	m.Heartbeat(true)
	m.Heartbeat(true)
	if got := strings.Join(series(t, reg, "heartbeats_total"), "\n"); !strings.Contains(got, `{result="failed"} 1`) || !strings.Contains(got, `{result="ok"} 2`) {
		t.Errorf("counted\n%s", got)
	}
}
