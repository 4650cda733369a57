package audit_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
)

var (
	mr1 = common.HexToHash(strings.Repeat("31", 32))
	mr2 = common.HexToHash(strings.Repeat("32", 32))
)

// measured adds the contract's answer about a measurement.
func measured(id common.Hash, allowed bool, err string) func(*audit.Observation) {
	return func(o *audit.Observation) {
		r := &o.Readings[0]
		r.Answers = append(r.Answers, audit.Answer{List: audit.AggregatedMR, ID: id, Allowed: allowed, Err: err})
	}
}

func init() {
	field := func(of func(*audit.Controls) *audit.Field, f audit.Field) func(*audit.Observation) {
		return func(o *audit.Observation) { *of(&o.Readings[0].Control) = f }
	}
	gateway := func(c *audit.Controls) *audit.Field { return &c.GatewayAppID }
	app := func(c *audit.Controls) *audit.Field { return &c.AppImplementation }
	for name, f := range map[string]func(*audit.Observation){
		"mr1":         measured(mr1, true, ""),
		"mr1 refused": measured(mr1, false, ""),
		"mr1 unread":  measured(mr1, false, "it reverts"),
		"mr2":         measured(mr2, true, ""),
		"mr2 refused": measured(mr2, false, ""),
		"keys":        field(func(c *audit.Controls) *audit.Field { return &c.CAPubkey }, audit.Field{Known: true, Value: "cc"}),
		"no keys": func(o *audit.Observation) {
			o.Readings[0].Control.K256Pubkey, o.Readings[0].Control.CAPubkey = audit.Field{Known: true}, audit.Field{Known: true}
		},
		"keys unread":    field(func(c *audit.Controls) *audit.Field { return &c.K256Pubkey }, audit.Field{Err: "they are no bytes"}),
		"gateway":        field(gateway, audit.Field{Known: true, Value: "other"}),
		"gateway's case": field(gateway, audit.Field{Known: true, Value: "0xGW"}),
		"no gateway":     field(gateway, audit.Field{Known: true}),
		"app":            field(app, audit.Field{Known: true, Value: kms.Hex()}),
		"other app":      field(app, audit.Field{Known: true, Value: other.Hex()}),
		"app unread":     field(app, audit.Field{Err: "it is no address"}),
	} {
		events[name] = f
	}
}

// Fields without claims are compared with the policy, else with what was first seen.
func TestWatched(t *testing.T) {
	pinned := func(p audit.Policy) func(*audit.Intent) {
		return func(i *audit.Intent) { i.Contracts = []audit.ContractIntent{{Address: kms, Policy: p}} }
	}
	one := pinned(audit.Policy{AggregatedMRs: []common.Hash{mr1}})
	both := pinned(audit.Policy{AggregatedMRs: []common.Hash{mr1, mr2}})
	for _, tt := range []struct {
		sentence string
		intent   func(*audit.Intent) // nil: as it is
		audits   [][2]string
	}{
		{"nobody claims anything of a measurement", nil, [][2]string{{"mr1 and mr2 refused", "consistent"}}},
		{"a measurement compares nothing", nil, [][2]string{{"mr1 and API down", "unknown"}, {"mr1 and all null", "unknown claim_unknown claim_unknown claim_unknown"}}},
		{"a measurement is added", nil, [][2]string{
			{"mr1", "consistent"}, {"mr1 and mr2", "drift measurements_changed"}, {"mr1 and mr2 and API down", "drift measurements_changed"},
			{"chain down", "unknown (measurements_changed)"}, {"mr1 and mr2 refused", "consistent"},
		}},
		{"a measurement is removed", nil, [][2]string{
			{"mr1 and mr2", "consistent"}, {"mr1 and mr2 refused", "drift measurements_changed"}, {"mr1 and mr2", "consistent"},
		}},
		{"the first measurement is added", nil, [][2]string{{"mr1 refused", "consistent"}, {"mr1", "drift measurements_changed"}}},
		{"what only one look saw of the measurements is no drift", nil, [][2]string{
			{"mr1", "consistent"}, {"mr1 and mr2 / mr1 and mr2 refused", "consistent claim_unstable"}, {"mr1 and mr2 / chain down", "unknown"},
		}},
		{"a measurement that is not answered costs its list, and resolves nothing about it", nil, [][2]string{
			{"mr1 and mr2 refused", "consistent"}, {"mr1 and mr2", "drift measurements_changed"}, {"mr1 unread and mr2 refused", "unknown (measurements_changed)"},
			{"mr1 unread and backdoor", "drift claim_denied_chain_allowed (measurements_changed)"},
		}},
		{"a contract without the list of measurements is unknown", nil, [][2]string{{"mr1 unread", "unknown"}, {"mr1", "consistent"}}},
		{"a contract without the list of measurements stores what nobody can explain", nil, [][2]string{{"mr1 unread and storage", "unknown"}}},
		{"measurements that are not proven to be all are no baseline", nil, [][2]string{
			{"unproven and mr1", "consistent"}, {"mr1 and mr2", "consistent"}, {"mr1 and mr2 refused", "drift measurements_changed"},
		}},
		{"measurements are seen to change without a proof", nil, [][2]string{
			{"mr1", "consistent"}, {"unproven and mr1 and mr2", "drift measurements_changed"}, {"unproven and mr1 refused", "unknown (measurements_changed)"},
		}},

		{"measurements are as the policy says", one, [][2]string{{"mr1", "consistent"}, {"mr1 and mr2 refused", "consistent"}}},
		{"the policy speaks of each measurement, and the baseline of none", one, [][2]string{
			{"mr1", "consistent"}, {"mr1 and mr2", "drift policy_denied_chain_allowed"}, {"chain down", "unknown (policy_denied_chain_allowed)"},
			{"mr1 refused and mr2 refused", "drift policy_allowed_chain_denied"}, {"mr1 and mr2 refused", "consistent"},
		}},
		{"a measurement that the policy wants, and no answer", one, [][2]string{{"honest", "unknown"}, {"mr1 unread", "unknown"}}},
		{"a measurement that the head allows already is pending", both, [][2]string{
			{"mr1 and mr2 refused / mr1 and mr2 refused / mr1 and mr2", "consistent"}, {"mr1 and mr2 refused", "drift policy_allowed_chain_denied"},
		}},

		{"other public keys", nil, [][2]string{
			{"honest", "consistent"}, {"keys", "drift kms_keys_changed"}, {"keys unread", "unknown (kms_keys_changed)"}, {"honest", "consistent"},
			{"no keys", "drift kms_keys_changed"},
		}},
		{"public keys of the policy", pinned(audit.Policy{KMSPubkeys: []string{"aa", "cc"}}), [][2]string{
			{"honest", "drift kms_keys_changed"}, {"keys", "consistent"}, {"keys unread", "unknown"},
		}},
		{"another gateway", nil, [][2]string{
			{"honest", "consistent"}, {"gateway", "drift gateway_changed"}, {"rubbish gateway", "unknown (gateway_changed)"},
			{"gateway's case", "consistent"}, {"no gateway and unproven", "unknown"}, {"no gateway", "drift gateway_changed"},
		}},
		{"the gateway of the policy", pinned(audit.Policy{GatewayAppID: "OTHER"}), [][2]string{{"honest", "drift gateway_changed"}, {"gateway", "consistent"}}},
		{"another implementation of apps", nil, [][2]string{
			{"app", "consistent"}, {"other app", "drift app_implementation_changed"}, {"app unread", "unknown (app_implementation_changed)"}, {"app", "consistent"},
		}},
		{"the implementation of apps of the policy", pinned(audit.Policy{AppImplementation: &other}), [][2]string{
			{"app", "drift app_implementation_changed"}, {"other app", "consistent"},
		}},
		{"what could not be read at first is recorded once it is", nil, [][2]string{
			{"app unread and rubbish gateway", "consistent"}, {"app", "consistent"}, {"other app and gateway", "drift gateway_changed app_implementation_changed"},
		}},
		{"that there is no gateway is recorded only once it is proven", nil, [][2]string{
			{"no gateway and unproven", "consistent"}, {"honest", "consistent"}, {"gateway", "drift gateway_changed"},
		}},
		{"that there is no gateway is recorded", nil, [][2]string{{"no gateway", "consistent"}, {"honest", "drift gateway_changed"}}},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			intent := audit.Intent{Chain: "base", ChainID: 8453, Tags: []string{"finalized"}, Events: true, Baselines: true, PendingMax: 90 * time.Minute}
			if tt.intent != nil {
				tt.intent(&intent)
			}
			prior := audit.Prior{}
			for hour, a := range tt.audits {
				out := play(intent, prior, a[0], uint64(10+hour), noon.Add(time.Duration(hour)*time.Hour))
				if got := said(out.Chain); got != a[1] {
					t.Errorf("audit %d, %s: %s, want %s\n%+v", hour, a[0], got, a[1], out.Chain)
				}
				lawful(t, prior, out)
				prior = remembered(t, out.Next)
			}
		})
	}
}

// remembered returns a Prior after it was encoded and decoded.
func remembered(t *testing.T, p audit.Prior) (out audit.Prior) {
	t.Helper()
	b, err := json.Marshal(p)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Without a claim about its list, an entry is judged by the policy, or unclaimed.
func TestEntriesWithoutAClaim(t *testing.T) {
	for _, tt := range []struct {
		sentence, looks string
		policy          []common.Hash
		want            audit.Entry
	}{
		{"nobody wants anything", "mr1", nil, audit.Entry{OnChain: audit.ChainAllowed, Verdict: audit.Unclaimed}},
		{"nobody wants anything, and the API is down", "mr1 and API down", nil, audit.Entry{OnChain: audit.ChainAllowed, Verdict: audit.Unclaimed}},
		{"the policy wants it", "mr1", []common.Hash{mr1}, audit.Entry{OnChain: audit.ChainAllowed, Policy: audit.PolicyAllowed, Verdict: audit.Match}},
		{"the policy wants none", "mr1", []common.Hash{}, audit.Entry{OnChain: audit.ChainAllowed, Policy: audit.PolicyDenied, Verdict: audit.Mismatch, Kind: audit.PolicyDeniedAllowed}},
		{"the policy wants it in vain", "mr1 refused", []common.Hash{mr1}, audit.Entry{OnChain: audit.ChainDenied, Policy: audit.PolicyAllowed, Verdict: audit.Mismatch, Kind: audit.PolicyAllowedDenied}},
		{"nobody answers", "mr1 unread", nil, audit.Entry{OnChain: audit.ChainUnknown, Verdict: audit.Unverifiable, Reason: audit.ReasonNotRead}},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			intent := audit.Intent{Chain: "base", ChainID: 8453, Tags: []string{"finalized"}, Events: true, Baselines: true}
			intent.Contracts = []audit.ContractIntent{{Address: kms, Policy: audit.Policy{AggregatedMRs: tt.policy}}}
			target := play(intent, audit.Prior{}, tt.looks, 10, noon).Chain.Targets[0]
			i := slices.IndexFunc(target.Entries, func(e audit.Entry) bool { return e.List == audit.AggregatedMR })
			if i < 0 {
				t.Fatalf("no entry: %+v", target)
			}
			got := target.Entries[i]
			if got = (audit.Entry{Claim: got.Claim, OnChain: got.OnChain, Policy: got.Policy, Verdict: got.Verdict, Kind: got.Kind, Reason: got.Reason}); got != withNone(tt.want) {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

func withNone(e audit.Entry) audit.Entry {
	e.Claim = audit.ClaimNone
	return e
}

// A baseline of an earlier release lacks newer fields. They are filled in without a change.
func TestABaselineOfAnEarlierRelease(t *testing.T) {
	intent := audit.Intent{Chain: "base", ChainID: 8453, Tags: []string{"finalized"}, Events: true, Baselines: true}
	prior := play(intent, audit.Prior{}, "honest", 10, noon).Next
	old := *prior.Contracts[0].Baseline
	old.Control = audit.Control{Owner: old.Control.Owner, Code: old.Control.Code}
	prior.Contracts[0].Baseline = &old
	out := play(intent, prior, "mr1 and app", 11, noon.Add(time.Hour))
	if got := said(out.Chain); got != "consistent" {
		t.Errorf("the first audit of this release: %s", got)
	}
	want := audit.Control{
		Owner: old.Control.Owner, Code: old.Control.Code, KMSPubkeys: []string{"aa", "bb"}, GatewayAppID: "gw", AppImplementation: kms.Hex(),
		AggregatedMRs: []string{mr1.Hex()}, Read: []string{"kms_pubkeys", "gateway_app_id", "app_implementation", "aggregated_mrs"},
	}
	is := out.Next.Contracts[0].Baseline
	if a, b := text(t, is.Control), text(t, want); a != b || !is.Since.Equal(old.Since) {
		t.Errorf("the baseline is now %s since %s, want %s", a, is.Since, b)
	}
	if len(old.Control.Read) != 0 {
		t.Error("what was remembered is changed in its place")
	}
	out = play(intent, out.Next, "keys and gateway and other app and mr2", 12, noon.Add(2*time.Hour))
	if got := said(out.Chain); got != "drift measurements_changed kms_keys_changed gateway_changed app_implementation_changed" {
		t.Errorf("the second audit: %s", got)
	}
}

func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A policy that agrees with what changed closes the finding.
func TestAPolicyClosesAChange(t *testing.T) {
	intent := audit.Intent{Chain: "base", ChainID: 8453, Tags: []string{"finalized"}, Events: true, Baselines: true}
	now := "keys and gateway and other app and mr2 and mr1 refused"
	prior := play(intent, audit.Prior{}, "app and mr1", 10, noon).Next
	out := play(intent, prior, now, 11, noon.Add(time.Hour))
	for _, part := range []string{"0x32", "the contract has aa, cc, but the baseline has aa, bb", "the contract has other, but the baseline has gw", other.Hex()} {
		if !strings.Contains(text(t, out.Chain.Targets[0].Findings), part) {
			t.Errorf("no finding says %q: %s", part, text(t, out.Chain.Targets[0].Findings))
		}
	}
	intent.Contracts = []audit.ContractIntent{{Address: kms, Policy: audit.Policy{
		AggregatedMRs: []common.Hash{mr2}, KMSPubkeys: []string{"aa", "cc"}, GatewayAppID: "other", AppImplementation: &other,
	}}}
	if got := said(play(intent, out.Next, now, 12, noon.Add(2*time.Hour)).Chain); got != "consistent" {
		t.Errorf("with the policy: %s", got)
	}
}
