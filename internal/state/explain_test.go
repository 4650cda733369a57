package state_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

// configured are the chains of the configuration.
var configured = []string{"base", "ethereum"}

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
	p := remember(t, map[state.Target][]state.Event{
		kms:      {event(10, 1, true, 1), event(20, 2, true, 1), mr, event(40, 1, false, 3), event(1100, 1, true, 8)},
		ethereum: {event(10, 2, true, 1)},
	},
		report(900, 4, image(1, audit.ClaimAllowed, audit.ChainAllowed, ""), image(2, audit.ClaimDenied, audit.ChainAllowed, audit.ClaimDeniedChainAllowed)),
		report(1000, 5, image(1, audit.ClaimAllowed, audit.ChainDenied, audit.ClaimAllowedChainDenied), image(2, audit.ClaimAllowed, audit.ChainAllowed, "")),
		failed)
	none := func(string, string, audit.List) audit.PolicyState { return "" }
	onBase := func(want audit.PolicyState) state.Wants {
		return func(chain, _ string, l audit.List) audit.PolicyState {
			if chain == kms.Chain && l == audit.OSImage {
				return want
			}
			return ""
		}
	}
	for _, tt := range []struct {
		sentence string
		id       string
		filter   state.Filter
		wants    state.Wants
		want     []told
	}{
		{"what differs has its finding and its events up to the audited block, though a later audit failed", imageID(1).Hex(), state.Filter{}, none, []told{
			{Chain: "base", List: "os_image", Claim: "allowed", OnChain: "denied", Events: []string{"added", "removed"}, Findings: []string{"claim_allowed_chain_denied"}, Block: 1000, Later: true},
		}},
		{"what was wrong once is told, and where all is accounted for an old event is no permission", imageID(2).Hex(), state.Filter{}, onBase(audit.PolicyDenied), []told{
			{Chain: "ethereum", List: "os_image", Claim: "unlisted", OnChain: "denied", Events: []string{"added"}, Block: 1000},
			{Chain: "base", List: "os_image", Claim: "allowed", OnChain: "allowed", Policy: "denied", Events: []string{"added"}, Findings: []string{"-claim_denied_chain_allowed"}, Block: 1000, Later: true},
		}},
		{"one chain", imageID(2).Hex(), state.Filter{Chain: "ethereum"}, none, []told{
			{Chain: "ethereum", List: "os_image", Claim: "unlisted", OnChain: "denied", Events: []string{"added"}, Block: 1000},
		}},
		{"a list of which nothing is claimed has events", imageID(4).Hex(), state.Filter{}, none, []told{
			{Chain: "base", List: "aggregated_mr", Claim: "none", OnChain: "unknown", Events: []string{"added"}, Block: 1000, Later: true},
		}},
		{"what only the policy names, and events cannot rule out", imageID(5).Hex(), state.Filter{}, onBase(audit.PolicyAllowed), []told{
			{Chain: "base", List: "os_image", Claim: "unlisted", OnChain: "unknown", Policy: "allowed", Block: 1000, Later: true},
		}},
		{"an id that a policy does not want is not known by that", imageID(5).Hex(), state.Filter{}, onBase(audit.PolicyDenied), nil},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, inShort(p.Explain(tt.id, tt.filter, configured, tt.wants))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAFindingOfAChainThatIsNoLongerConfiguredIsAbandoned(t *testing.T) {
	p := remember(t, nil,
		report(900, 4, image(1, audit.ClaimDenied, audit.ChainAllowed, audit.ClaimDeniedChainAllowed)),
		report(1000, 5, image(1, audit.ClaimAllowed, audit.ChainDenied, audit.ClaimAllowedChainDenied)))
	for _, tt := range []struct {
		sentence string
		names    []string
		want     []bool // the open one, and the one that was resolved
	}{
		{"its chain is configured", configured, []bool{false, false}},
		{"another one is", []string{"ethereum"}, []bool{true, false}},
		{"its chain has another name", []string{"mainnet"}, []bool{true, false}},
	} {
		var got []bool
		for _, at := range p.Explain(imageID(1).Hex(), state.Filter{Chain: "base"}, tt.names, nil).Places {
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
	p := remember(t, map[state.Target][]state.Event{kms: {event(10, 1, true, 1), event(40, 1, false, 3)}},
		report(1000, 5, image(1, audit.ClaimAllowed, audit.ChainDenied, audit.ClaimAllowedChainDenied)))
	p.ReplaceWith(report(20, 6, image(1, audit.ClaimDenied, audit.ChainAllowed, audit.ClaimDeniedChainAllowed)))
	want := []told{{Chain: "base", List: "os_image", Claim: "denied", OnChain: "allowed", Events: []string{"added"}, Findings: []string{"claim_denied_chain_allowed"}, Block: 20}}
	if diff := cmp.Diff(want, inShort(p.Explain(imageID(1).Hex(), state.Filter{}, configured, nil))); diff != "" {
		t.Error(diff)
	}
}

func TestAChainThatWasNeverComparedIsNamed(t *testing.T) {
	r := report(1000, 5)
	for i := range r.Chains {
		r.Chains[i].Block, r.Chains[i].Errors = nil, []audit.SourceError{{Stage: audit.StageRPC, Source: "public", Message: "connection refused"}}
	}
	r.Chains = r.Chains[:1]
	x := remember(t, nil, r).Explain(imageID(1).Hex(), state.Filter{}, configured, nil)
	if diff := cmp.Diff([]string{"base: public: connection refused"}, x.Failed); diff != "" || len(x.Places) != 0 {
		t.Errorf("%v %s", x.Places, diff)
	}
}
