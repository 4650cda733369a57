package audit_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
)

// Without an API, the policy takes the claim's place. "API" is an audit with claims, before the operator
// switches; all other audits have none.
func TestRulesWithoutClaims(t *testing.T) {
	whole := audit.Policy{Devices: []common.Hash{dev1}, OSImages: []common.Hash{img1}}
	devices := func(ids ...common.Hash) audit.Policy {
		return audit.Policy{Devices: append([]common.Hash{}, ids...), OSImages: []common.Hash{img1}}
	}
	empty := func(o *audit.Observation) {
		o.Readings[0].Answers = []audit.Answer{{List: audit.Device}, {List: audit.OSImage}}
	}
	for name, f := range map[string]func(*audit.Observation){
		"bare": empty, "bare, unproven": func(o *audit.Observation) { empty(o); unproven(o) },
		"claimed": func(*audit.Observation) {}, // with the claim that honest has
		"another is listed": func(o *audit.Observation) {
			o.Claim.Contracts = append(o.Claim.Contracts, audit.ClaimedContract{Address: other, ChainID: 8453})
		},
		"conflict": func(o *audit.Observation) {
			e := &o.Claim.Contracts[0].Entries
			*e = append(*e, audit.NewClaimedEntry(audit.Device, dev1.Hex(), "", "", audit.ClaimDenied), audit.NewClaimedEntry(audit.Device, "0x12", "", "", ""))
		},
	} {
		events[name] = f
		t.Cleanup(func() { delete(events, name) })
	}
	for _, tt := range []struct {
		sentence string
		policy   audit.Policy
		audits   [][2]string
	}{
		{"policy and contract agree", whole, [][2]string{{"honest", "consistent"}, {"honest", "consistent"}}},
		{"without a policy there is no verdict", audit.Policy{}, [][2]string{{"honest", "unknown"}}},
		{"a policy without a list makes no verdict", audit.Policy{Owner: &other}, [][2]string{{"honest", "unknown"}, {"owner", "drift owner_changed"}}},
		{"one list is enough, and the other is not checked", audit.Policy{OSImages: []common.Hash{img1}}, [][2]string{{"hidden", "consistent"}}},
		{"the baseline is watched without a policy", audit.Policy{}, [][2]string{{"honest", "unknown"}, {"owner", "drift owner_changed"}, {"owner unread", "unknown (owner_changed)"}, {"honest", "unknown"}}},
		{"what the policy does not list is never merely unlisted", whole, [][2]string{{"hidden", "drift policy_denied_chain_allowed"}, {"honest", "consistent"}}},
		{"what the policy wants is refused", whole, [][2]string{{"revoked", "drift policy_allowed_chain_denied"}, {"honest", "consistent"}}},
		{"an outage of the chain resolves nothing", whole, [][2]string{
			{"hidden", "drift policy_denied_chain_allowed"}, {"chain down", "unknown (policy_denied_chain_allowed)"}, {"unproven", "unknown (policy_denied_chain_allowed)"}, {"honest", "consistent"},
		}},
		{"a getter that writes is unknown", whole, [][2]string{{"getter writes", "unknown"}}},
		{"storage that nothing explains is unaccounted", whole, [][2]string{{"storage", "drift storage_unaccounted"}, {"honest", "consistent"}}},
		{"a difference that the head has settled is pending", devices(dev2), [][2]string{
			{"honest / honest / backdoor and revoked", "consistent"}, // the image is compared
			{"honest / honest / backdoor and revoked", "consistent"},
			{"honest / honest / backdoor and revoked", "drift policy_denied_chain_allowed policy_allowed_chain_denied"},
		}},
		{"what is pending compares nothing", audit.Policy{Devices: []common.Hash{}}, [][2]string{{"honest / honest / revoked", "unknown"}}},
		{"only what stands in both looks is drift", whole, [][2]string{{"hidden / honest", "consistent claim_unstable"}, {"honest", "consistent"}}},
		{"a second look that fails confirms nothing", whole, [][2]string{{"hidden / chain down", "unknown"}, {"honest", "consistent"}}},
		{"empty lists compare with a contract that is proven to be empty", audit.Policy{Devices: []common.Hash{}, OSImages: []common.Hash{}}, [][2]string{
			{"bare", "consistent"}, {"bare, unproven", "unknown"},
		}},
		{"an older block says nothing", whole, [][2]string{{"honest", "consistent"}, {"older and hidden", "unknown chain_went_back"}}},

		// The operator switches from the API's claims to none.
		{"what only the API had wrong is over", whole, [][2]string{
			{"API: revoked and conflict", "drift malformed_id duplicate_conflict policy_allowed_chain_denied"}, {"honest", "consistent"},
		}},
		{"a contract that only the API listed is over", whole, [][2]string{{"API: another is listed", "drift contract_unexpected"}, {"chain down", "unknown"}, {"honest", "consistent"}}},
		{"a contract that the API did not list is over", whole, [][2]string{
			{"API: API empty", "drift unlisted_chain_allowed unlisted_chain_allowed contract_not_listed"}, {"honest", "consistent"},
		}},
		{"what the contract allowed in vain stays open until a policy says what is wanted", audit.Policy{}, [][2]string{
			{"API: hidden", "drift unlisted_chain_allowed"}, {"hidden", "unknown (unlisted_chain_allowed)"}, {"chain down", "unknown (unlisted_chain_allowed)"}, {"honest", "unknown"},
		}},
		{"what the policy wants is wrong no more", devices(dev1, hidden), [][2]string{{"API: hidden", "drift unlisted_chain_allowed"}, {"hidden", "consistent"}}},
		{"what the policy refuses goes on under another name", devices(dev1), [][2]string{
			{"API: hidden", "drift unlisted_chain_allowed policy_denied_chain_allowed"}, {"hidden", "drift policy_denied_chain_allowed"},
		}},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			prior := audit.Prior{}
			for hour, a := range tt.audits {
				intent := audit.Intent{Chain: "base", ChainID: 8453, Tags: []string{"finalized"}, Events: true, Baselines: true, PendingMax: 90 * time.Minute, NoClaims: true}
				intent.Contracts = []audit.ContractIntent{{Address: kms, Policy: tt.policy}}
				names, claimed := strings.CutPrefix(a[0], "API: ")
				intent.NoClaims = !claimed
				out := playWithout(intent, prior, names, uint64(10+hour), noon.Add(time.Duration(hour)*time.Hour))
				if got := said(out.Chain); got != a[1] {
					t.Errorf("audit %d, %s: %s, want %s\n%+v", hour, a[0], got, a[1], out.Chain)
				}
				lawful(t, prior, out)
				withoutClaims(t, intent, out)
				prior = out.Next
			}
		})
	}
}

// playWithout is play for a chain without claims.
func playWithout(intent audit.Intent, prior audit.Prior, names string, block uint64, at time.Time) audit.Outcome {
	parts := strings.Split(names, " / ")
	look := func(i int, block uint64, at time.Time) *audit.Observation {
		o := happen(honest(block, at), parts[min(i, len(parts)-1)])
		if intent.NoClaims {
			o.Claim = nil
		}
		return &o
	}
	looks := audit.Looks{First: *look(0, block, at)}
	if audit.Judge(intent, prior, looks).LookAgain {
		looks.Second = look(1, block, at.Add(time.Minute))
	}
	if audit.Judge(intent, prior, looks).AskHead != nil {
		looks.Head = look(2, block+9, at.Add(time.Minute))
		looks.Head.Tag, looks.Head.Claim = "latest", nil
	}
	return audit.Judge(intent, prior, looks)
}

// withoutClaims checks what must hold for an audit without claims.
func withoutClaims(t *testing.T, intent audit.Intent, out audit.Outcome) {
	t.Helper()
	if !intent.NoClaims {
		return
	}
	if out.Chain.Claims != audit.ClaimNone || out.Chain.Claim != nil || len(out.Chain.Errors) > 0 {
		t.Errorf("claims %q, claim %v, errors %v", out.Chain.Claims, out.Chain.Claim, out.Chain.Errors)
	}
	for _, target := range out.Chain.Targets {
		for _, e := range target.Entries {
			if e.Claim != audit.ClaimNone || e.Reason == audit.ReasonNoClaim || e.Policy == "" && e.OnChain == audit.ChainAllowed && e.Verdict != audit.Unclaimed && e.Reason != audit.ReasonWentBack {
				t.Errorf("an entry without a claim is %+v", e)
			}
		}
		for _, r := range target.Reasons {
			if strings.Contains(r, "the API could not") || strings.Contains(r, "API lists") {
				t.Errorf("without an API the reason is %q", r)
			}
		}
		want := intent.Contract(kms).Policy
		lists := want.Devices != nil || want.OSImages != nil
		if says := slices.ContainsFunc(target.Reasons, func(r string) bool {
			return strings.Contains(r, "kms-auditor policy snapshot --chain base --contract "+target.Contract)
		}); says == lists {
			t.Errorf("policy has lists: %t; reasons: %q", lists, target.Reasons)
		}
	}
	for _, c := range out.Changes {
		told := strings.Contains(c.Finding.Message, "claims is now none for this chain")
		if ofAPI := slices.Contains([]audit.Kind{audit.UnlistedChainAllowed, audit.ContractUnexpected, audit.ContractNotListed, audit.MalformedID, audit.DuplicateConflict}, c.Finding.Kind); c.Type == audit.Resolved && told != ofAPI {
			t.Errorf("%s is resolved with %q", c.Finding.Kind, c.Finding.Message)
		}
	}
}
