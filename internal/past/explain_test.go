package past_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/history"
	"github.com/kms-auditor/kms-auditor/internal/past"
	"github.com/kms-auditor/kms-auditor/internal/render"
)

// told is what a place says, in short.
type told struct {
	Chain, List string
	Claim       audit.ClaimState
	OnChain     audit.ChainState
	Policy      audit.PolicyState
	Events      []string
	Findings    []string // resolved ones with a minus
	Block       uint64
	Later       bool
}

func inShort(x render.Explanation) (out []told) {
	for _, p := range x.Places {
		s := told{Chain: p.Chain, List: p.List, Claim: p.Claim, OnChain: p.OnChain, Policy: p.Policy}
		for _, e := range p.Events {
			s.Events = append(s.Events, e.Change)
		}
		for _, f := range p.Findings {
			state := ""
			if f.ResolvedAt != nil {
				state = "-"
			}
			s.Findings = append(s.Findings, state+string(f.Kind))
		}
		if p.Audit != nil {
			s.Block, s.Later = p.Audit.Block.Number, p.Audit.Later != nil
		}
		out = append(out, s)
	}
	return out
}

func TestExplain(t *testing.T) {
	failed := report(1200, 9)
	failed.Chains = failed.Chains[:1]
	failed.Chains[0].Claim, failed.Chains[0].Targets = nil, nil
	mr := event(30, 4, true, 2)
	mr.List = "aggregated_mr"
	path := state(t, map[history.Target][]history.Event{
		kms:   {event(10, 1, true, 1), event(20, 2, true, 1), mr, event(40, 1, false, 3), event(1100, 1, true, 8)},
		other: {event(10, 2, true, 1)},
	},
		report(900, 4, image(1, audit.ClaimAllowed, audit.ChainAllowed, ""), image(2, audit.ClaimDenied, audit.ChainAllowed, audit.ClaimDeniedChainAllowed)),
		report(1000, 5, image(1, audit.ClaimAllowed, audit.ChainDenied, audit.ClaimAllowedChainDenied), image(2, audit.ClaimAllowed, audit.ChainAllowed, "")),
		failed)
	none := func(uint64, string, audit.List) audit.PolicyState { return "" }
	onBase := func(want audit.PolicyState) func(uint64, string, audit.List) audit.PolicyState {
		return func(chain uint64, _ string, l audit.List) audit.PolicyState {
			if chain == kms.ChainID && l == audit.OSImage {
				return want
			}
			return ""
		}
	}
	for _, tt := range []struct {
		sentence string
		id       string
		filter   past.Filter
		wanted   func(uint64, string, audit.List) audit.PolicyState
		want     []told
	}{
		{"what differs has its finding and its events up to the audited block, though a later audit failed", key(1).Hex(), past.Filter{}, none, []told{
			{Chain: "base", List: "os_image", Claim: "allowed", OnChain: "denied", Events: []string{"added", "removed"}, Findings: []string{"claim_allowed_chain_denied"}, Block: 1000, Later: true},
		}},
		{"what was wrong once is told, and where all is accounted for an old event is no permission", key(2).Hex(), past.Filter{}, onBase(audit.PolicyDenied), []told{
			{Chain: "ethereum", List: "os_image", Claim: "unlisted", OnChain: "denied", Events: []string{"added"}, Block: 1000},
			{Chain: "base", List: "os_image", Claim: "allowed", OnChain: "allowed", Policy: "denied", Events: []string{"added"}, Findings: []string{"-claim_denied_chain_allowed"}, Block: 1000, Later: true},
		}},
		{"one chain", key(2).Hex(), past.Filter{ChainID: 1}, none, []told{
			{Chain: "ethereum", List: "os_image", Claim: "unlisted", OnChain: "denied", Events: []string{"added"}, Block: 1000},
		}},
		{"a list that is not audited has events", key(4).Hex(), past.Filter{}, none, []told{{Chain: "base", List: "aggregated_mr", Events: []string{"added"}}}},
		{"what only the policy names, and events cannot rule out", key(5).Hex(), past.Filter{}, onBase(audit.PolicyAllowed), []told{
			{Chain: "base", List: "os_image", Claim: "unlisted", OnChain: "unknown", Policy: "allowed", Block: 1000, Later: true},
		}},
		{"an id that a policy does not want is not known by that", key(5).Hex(), past.Filter{}, onBase(audit.PolicyDenied), nil},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, inShort(open(t, path).Explain(tt.id, tt.filter, tt.wanted))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAFindingOfAChainThatIsNoLongerConfiguredIsAbandoned(t *testing.T) {
	path := state(t, nil,
		report(900, 4, image(1, audit.ClaimDenied, audit.ChainAllowed, audit.ClaimDeniedChainAllowed)),
		report(1000, 5, image(1, audit.ClaimAllowed, audit.ChainDenied, audit.ClaimAllowedChainDenied)))
	for _, tt := range []struct {
		sentence string
		names    map[uint64]string
		want     []bool // the open one, and the one that was resolved
	}{
		{"its chain is configured", names, []bool{false, false}},
		{"another one is", map[uint64]string{1: "ethereum"}, []bool{true, false}},
		{"its chain has another name", map[uint64]string{8453: "mainnet"}, []bool{true, false}},
	} {
		p, err := past.Open(path, tt.names)
		if err != nil {
			t.Fatal(err)
		}
		var got []bool
		for _, at := range p.Explain(key(1).Hex(), past.Filter{ChainID: 8453}, nil).Places {
			for _, f := range at.Findings {
				got = append(got, f.Abandoned)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", tt.sentence, diff)
		}
	}
}

func TestAnotherAuditIsExplainedInstead(t *testing.T) {
	p := open(t, state(t, map[history.Target][]history.Event{kms: {event(10, 1, true, 1), event(40, 1, false, 3)}},
		report(1000, 5, image(1, audit.ClaimAllowed, audit.ChainDenied, audit.ClaimAllowedChainDenied))))
	p.Instead(report(20, 6, image(1, audit.ClaimDenied, audit.ChainAllowed, audit.ClaimDeniedChainAllowed)))
	want := []told{{Chain: "base", List: "os_image", Claim: "denied", OnChain: "allowed", Events: []string{"added"}, Findings: []string{"claim_denied_chain_allowed"}, Block: 20}}
	if diff := cmp.Diff(want, inShort(p.Explain(key(1).Hex(), past.Filter{}, nil))); diff != "" {
		t.Error(diff)
	}
}

func TestAChainThatWasNeverComparedIsNamed(t *testing.T) {
	r := report(1000, 5)
	for i := range r.Chains {
		r.Chains[i].Block, r.Chains[i].Errors = nil, []audit.SourceError{{Stage: audit.StageRPC, Source: "public", Message: "connection refused"}}
	}
	r.Chains = r.Chains[:1]
	x := open(t, state(t, nil, r)).Explain(key(1).Hex(), past.Filter{}, nil)
	if diff := cmp.Diff([]string{"base: public: connection refused"}, x.Failed); diff != "" || len(x.Places) != 0 {
		t.Errorf("%v %s", x.Places, diff)
	}
}
