package metrics_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/kms-auditor/kms-auditor/audit"
)

const golden = `
# HELP kms_auditor_assurance Lowest assurance among a contract's answers (1 = current).
# TYPE kms_auditor_assurance gauge
kms_auditor_assurance{chain="base",contract="CONTRACT",level="agreed"} 0
kms_auditor_assurance{chain="base",contract="CONTRACT",level="proven"} 0
kms_auditor_assurance{chain="base",contract="CONTRACT",level="single"} 1
# HELP kms_auditor_audited_block_number Number of the block that the last audit read.
# TYPE kms_auditor_audited_block_number gauge
kms_auditor_audited_block_number{chain="base"} 5.1375546e+07
# HELP kms_auditor_audited_block_timestamp_seconds Unix time of the block that the last audit read.
# TYPE kms_auditor_audited_block_timestamp_seconds gauge
kms_auditor_audited_block_timestamp_seconds{chain="base"} 1.79353434e+09
# HELP kms_auditor_completeness How completely the last audit searched for ids that the API does not list (1 = current).
# TYPE kms_auditor_completeness gauge
kms_auditor_completeness{chain="base",contract="CONTRACT",level="events"} 0
kms_auditor_completeness{chain="base",contract="CONTRACT",level="incomplete"} 0
kms_auditor_completeness{chain="base",contract="CONTRACT",level="proven"} 0
kms_auditor_completeness{chain="base",contract="CONTRACT",level="unchecked"} 1
# HELP kms_auditor_entries Entries of a contract by verdict; absent if the last audit compared nothing.
# TYPE kms_auditor_entries gauge
kms_auditor_entries{chain="base",contract="CONTRACT",list="aggregated_mr",verdict="accepted"} 0
kms_auditor_entries{chain="base",contract="CONTRACT",list="aggregated_mr",verdict="match"} 0
kms_auditor_entries{chain="base",contract="CONTRACT",list="aggregated_mr",verdict="mismatch"} 0
kms_auditor_entries{chain="base",contract="CONTRACT",list="aggregated_mr",verdict="pending"} 0
kms_auditor_entries{chain="base",contract="CONTRACT",list="aggregated_mr",verdict="unclaimed"} 0
kms_auditor_entries{chain="base",contract="CONTRACT",list="aggregated_mr",verdict="unverifiable"} 0
kms_auditor_entries{chain="base",contract="CONTRACT",list="device",verdict="accepted"} 0
kms_auditor_entries{chain="base",contract="CONTRACT",list="device",verdict="match"} 1
kms_auditor_entries{chain="base",contract="CONTRACT",list="device",verdict="mismatch"} 0
kms_auditor_entries{chain="base",contract="CONTRACT",list="device",verdict="pending"} 0
kms_auditor_entries{chain="base",contract="CONTRACT",list="device",verdict="unclaimed"} 0
kms_auditor_entries{chain="base",contract="CONTRACT",list="device",verdict="unverifiable"} 0
kms_auditor_entries{chain="base",contract="CONTRACT",list="os_image",verdict="accepted"} 0
kms_auditor_entries{chain="base",contract="CONTRACT",list="os_image",verdict="match"} 0
kms_auditor_entries{chain="base",contract="CONTRACT",list="os_image",verdict="mismatch"} 1
kms_auditor_entries{chain="base",contract="CONTRACT",list="os_image",verdict="pending"} 0
kms_auditor_entries{chain="base",contract="CONTRACT",list="os_image",verdict="unclaimed"} 0
kms_auditor_entries{chain="base",contract="CONTRACT",list="os_image",verdict="unverifiable"} 0
# HELP kms_auditor_oldest_finding_timestamp_seconds Unix time at which the oldest open finding of a kind was first seen.
# TYPE kms_auditor_oldest_finding_timestamp_seconds gauge
kms_auditor_oldest_finding_timestamp_seconds{chain="base",contract="CONTRACT",kind="claim_allowed_chain_denied"} 1.7935308e+09
# HELP kms_auditor_open_finding 1 while a finding is open, even if the last audit could not check it again. At most 100 per contract, most severe first. id is empty unless it is 32 bytes of hex.
# TYPE kms_auditor_open_finding gauge
kms_auditor_open_finding{chain="base",contract="CONTRACT",id="0xbd369a8c2f9edb2b52dad48ac8e0b32dde5f1337c423a506b48d07403a7d8033",kind="claim_allowed_chain_denied",list="os_image",severity="warning"} 1
# HELP kms_auditor_open_findings_dropped Open findings without an open_finding series, because of its limit.
# TYPE kms_auditor_open_findings_dropped gauge
kms_auditor_open_findings_dropped{chain="base",contract="CONTRACT"} 0
# HELP kms_auditor_target_verdict Verdict of the last audit on a contract (1 = current).
# TYPE kms_auditor_target_verdict gauge
kms_auditor_target_verdict{chain="base",contract="CONTRACT",verdict="consistent"} 0
kms_auditor_target_verdict{chain="base",contract="CONTRACT",verdict="drift"} 1
kms_auditor_target_verdict{chain="base",contract="CONTRACT",verdict="unknown"} 0
`

func TestStateOfADriftReport(t *testing.T) {
	reg, m := fresh()
	m.Report(report(drifted()))
	err := testutil.GatherAndCompare(reg, strings.NewReader(strings.ReplaceAll(golden, "CONTRACT", contract)), "kms_auditor_assurance",
		"kms_auditor_audited_block_number", "kms_auditor_audited_block_timestamp_seconds", "kms_auditor_completeness",
		"kms_auditor_entries", "kms_auditor_oldest_finding_timestamp_seconds", "kms_auditor_open_finding",
		"kms_auditor_open_findings_dropped", "kms_auditor_target_verdict")
	if err != nil {
		t.Error(err)
	}
	findings := series(t, reg, "findings")
	if len(findings) != len(audit.Kinds) {
		t.Errorf("%d series of findings, want one of each of the %d kinds", len(findings), len(audit.Kinds))
	}
	for _, k := range audit.Kinds {
		value := "0"
		if k == audit.ClaimAllowedChainDenied {
			value = "1"
		}
		want := `kms_auditor_findings{chain="base",contract="` + contract + `",kind="` + string(k) + `",severity="` + string(k.Severity()) + `"} ` + value
		if !strings.Contains(strings.Join(findings, "\n"), want) {
			t.Errorf("no series %s", want)
		}
	}
}

func TestStateVanishesAndTimestampsStand(t *testing.T) {
	compared, state := "last_comparison_timestamp_seconds", []string{"entries", "completeness", "assurance"}
	for _, tt := range []struct {
		name    string
		second  func() *audit.Report
		gone    []string
		verdict string
		finding []string
	}{
		{"nothing was compared", func() *audit.Report { return report(unread()) }, append(state, "findings"), "unknown", nil},
		{"no block was pinned", func() *audit.Report {
			r := report(unread())
			r.Chains[0].Block = nil
			return r
		}, append(state, "findings", "audited_block_number", "audited_block_timestamp_seconds"), "unknown", nil},
		{"the target is gone", func() *audit.Report { return report() }, append(state, "findings", "target_verdict", "open_finding"), "", nil},
		{"there is neither a block nor a target", func() *audit.Report {
			r := report()
			r.Chains[0].Block = nil
			return r
		}, append(state, "findings", "target_verdict", "open_finding", "audited_block_number", "audited_block_timestamp_seconds"), "", nil},
		{"the API names no KMS on the chain any more", func() *audit.Report { return &audit.Report{} },
			append(state, "findings", "target_verdict", "open_finding", "audited_block_number", "audited_block_timestamp_seconds"), "", nil},
		{"nothing was compared, and yet something is wrong", func() *audit.Report {
			target := unread()
			target.Verdict, target.Findings = audit.Drift, []audit.Finding{{Kind: audit.NoCode, FirstSeen: &noon}}
			return report(target)
		}, state, "drift", []string{`kms_auditor_findings{chain="base",contract="` + contract + `",kind="no_code",severity="critical"} 1`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reg, m := fresh()
			m.Report(report(drifted()))
			before := series(t, reg, compared)
			second := tt.second()
			second.FinishedAt = noon.Add(5 * time.Minute)
			m.Report(second)
			if diff := cmp.Diff(before, series(t, reg, compared)); diff != "" {
				t.Errorf("%s moved: %s", compared, diff)
			}
			if got := series(t, reg, "last_audit_timestamp_seconds"); !strings.HasSuffix(got[0], " 1.7935347e+09") {
				t.Errorf("%v stood still", got)
			}
			for _, name := range tt.gone {
				if got := series(t, reg, name); len(got) > 0 {
					t.Errorf("%s stands still: %v", name, got)
				}
			}
			holds := `verdict="` + tt.verdict + `"} 1`
			if got := strings.Join(series(t, reg, "target_verdict"), "\n"); tt.verdict != "" && !strings.Contains(got, holds) {
				t.Errorf("no %s in\n%s", holds, got)
			}
			if diff := cmp.Diff(tt.finding, series(t, reg, "findings")); tt.finding != nil && diff != "" {
				t.Errorf("findings: %s", diff)
			}
		})
	}
}

func TestAnOpenFindingStaysWhileNothingIsCompared(t *testing.T) {
	opened, confirmed := noon.Add(-time.Hour), noon.Add(-time.Minute)
	target := unread()
	target.Findings = []audit.Finding{{Kind: audit.NoCode, State: audit.Still, FirstSeen: &opened, LastConfirmedAt: &confirmed}}
	reg, m := fresh()
	m.Report(report(target))
	of := `{chain="base",contract="` + contract
	for name, want := range map[string]string{
		"open_finding":                                  of + `",id="",kind="no_code",list="",severity="critical"} 1`,
		"oldest_finding_timestamp_seconds":              of + `",kind="no_code"} ` + fmt.Sprint(float64(opened.Unix())),
		"open_finding_last_confirmed_timestamp_seconds": of + `",kind="no_code"} ` + fmt.Sprint(float64(confirmed.Unix())),
	} {
		if diff := cmp.Diff([]string{"kms_auditor_" + name + want}, series(t, reg, name)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestOneLevelOfEachHolds(t *testing.T) {
	for _, tt := range []struct {
		name         string
		assurance    audit.Assurance
		completeness audit.Completeness
	}{
		{"one provider's word, nothing looked for", audit.Single, audit.Unchecked},
		{"providers agree, events were read", audit.Agreed, audit.EventsOnly},
		{"all is proven", audit.Proven, audit.Complete},
		{"the answers are proven, the storage is not accounted for", audit.Proven, audit.Incomplete},
	} {
		t.Run(tt.name, func(t *testing.T) {
			target := consistent()
			target.Assurance, target.Completeness = tt.assurance, tt.completeness
			reg, m := fresh()
			m.Report(report(target))
			for metric, level := range map[string]string{"assurance": string(tt.assurance), "completeness": string(tt.completeness)} {
				got := strings.Join(series(t, reg, metric), "\n")
				if strings.Count(got, "} 1") != 1 || !strings.Contains(got, `level="`+level+`"} 1`) {
					t.Errorf("want only %s to hold, got\n%s", level, got)
				}
			}
		})
	}
}

func TestAContractListedTwiceShowsTheWorse(t *testing.T) {
	for name, targets := range map[string][]audit.Target{
		"the worse first": {drifted(), consistent()},
		"the worse last":  {consistent(), drifted()},
	} {
		t.Run(name, func(t *testing.T) {
			targets[1].Contract = strings.ToLower(contract)
			reg, m := fresh()
			m.Report(report(targets...))
			got := strings.Join(series(t, reg, "target_verdict"), "\n")
			if strings.Count(got, "\n") != 2 || !strings.Contains(got, `verdict="drift"} 1`) {
				t.Errorf("want three series that say drift, got\n%s", got)
			}
		})
	}
}

func TestAcceptedDifferencesRunOut(t *testing.T) {
	reg, m := fresh()
	target := consistent()
	accept := func(k audit.Kind, days time.Duration) {
		target.Accepted = append(target.Accepted, audit.Acceptance{Kind: k, Expires: noon.Add(days * 24 * time.Hour)})
	}
	accept(audit.ClaimAllowedChainDenied, 9)
	accept(audit.ClaimAllowedChainDenied, 3)
	accept(audit.ContractUnexpected, 30)
	accept("made_up", 1)
	m.Report(report(target))
	line := func(k audit.Kind, days float64) string {
		return fmt.Sprintf(`kms_auditor_accept_expires_timestamp_seconds{chain="base",contract="%s",kind="%s"} %v`, contract, k, float64(noon.Unix())+days*24*3600)
	}
	want := []string{line(audit.ClaimAllowedChainDenied, 3), line(audit.ContractUnexpected, 30)}
	if diff := cmp.Diff(want, series(t, reg, "accept_expires_timestamp_seconds")); diff != "" {
		t.Errorf("the first of each kind (-want +got):\n%s", diff)
	}
	m.Report(report(consistent()))
	if got := series(t, reg, "accept_expires_timestamp_seconds"); got != nil {
		t.Errorf("nothing is accepted any more, and still %q", got)
	}
}
