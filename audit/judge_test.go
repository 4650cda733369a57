package audit_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/footprint"
)

var (
	kms    = common.HexToAddress("0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C")
	other  = common.HexToAddress("0xd343a3f5593b93D8056aB5D60c433622d7D65a80")
	dev1   = common.HexToHash(strings.Repeat("d1", 32)) // allowed, and claimed so
	dev2   = common.HexToHash(strings.Repeat("d2", 32)) // denied, and claimed so
	img1   = common.HexToHash(strings.Repeat("a1", 32)) // allowed, and claimed so
	hidden = common.HexToHash(strings.Repeat("66", 32)) // denied, and nobody names it
	noon   = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
)

// honest is a look at which API and contract agree.
func honest(block uint64, at time.Time) audit.Observation {
	row := func(l audit.List, id common.Hash, s audit.ClaimState) audit.ClaimedEntry {
		return audit.NewClaimedEntry(l, id.Hex(), "", "", s)
	}
	known := func(s string) audit.Field { return audit.Field{Known: true, Value: s} }
	return audit.Observation{
		At: at, Tag: "finalized", Provider: "first",
		Block: &audit.Block{Number: block, Hash: common.Hash{byte(block)}.Hex(), Time: at},
		Head:  &audit.Block{Number: block + 9, Time: at},
		Claim: &audit.APIClaim{ChainID: 8453, Contracts: []audit.ClaimedContract{{Address: kms, ChainID: 8453, Entries: []audit.ClaimedEntry{
			row(audit.Device, dev1, audit.ClaimAllowed), row(audit.Device, dev2, audit.ClaimDenied), row(audit.OSImage, img1, audit.ClaimAllowed),
		}}}},
		Readings: []audit.Reading{{
			Contract: kms, Provider: "first", HasCode: true, Assurance: audit.Proven, Complete: true, Storage: &audit.Storage{Root: "0x01", Slots: 4},
			Answers: []audit.Answer{
				{List: audit.Device, ID: dev1, Allowed: true}, {List: audit.Device, ID: dev2},
				{List: audit.Device, ID: hidden}, {List: audit.OSImage, ID: img1, Allowed: true},
			},
			Control: audit.Controls{
				Owner: known(other.Hex()), PendingOwner: known(""), Implementation: known(""),
				Code:         footprint.Code{Accounts: []footprint.Account{{Address: kms.Hex(), Role: footprint.Implementation, CodeHash: "0x0c"}}},
				GatewayAppID: known("gw"), K256Pubkey: known("aa"), CAPubkey: known("bb"),
			},
		}},
	}
}

func answer(o *audit.Observation, id common.Hash) *audit.Answer {
	i := slices.IndexFunc(o.Readings[0].Answers, func(a audit.Answer) bool { return a.ID == id })
	return &o.Readings[0].Answers[i]
}

func unproven(o *audit.Observation) {
	r := &o.Readings[0]
	r.Assurance, r.Storage, r.Complete, r.Events = audit.Single, nil, false, &audit.EventScan{Read: true}
}

// events are what can happen to a look, by name. " and " joins several.
var events = map[string]func(*audit.Observation){
	"honest":     func(*audit.Observation) {},
	"revoked":    func(o *audit.Observation) { answer(o, dev1).Allowed = false },
	"backdoor":   func(o *audit.Observation) { answer(o, dev2).Allowed = true },
	"hidden":     func(o *audit.Observation) { answer(o, hidden).Allowed = true },
	"API denies": func(o *audit.Observation) { o.Claim.Contracts[0].Entries[0].State = audit.ClaimDenied },
	"API allows": func(o *audit.Observation) { o.Claim.Contracts[0].Entries[1].State = audit.ClaimAllowed },
	"null":       func(o *audit.Observation) { o.Claim.Contracts[0].Entries[1].State = audit.ClaimUnknown },
	"all null": func(o *audit.Observation) {
		for i := range o.Claim.Contracts[0].Entries {
			o.Claim.Contracts[0].Entries[i].State = audit.ClaimUnknown
		}
	},
	"delisted": func(o *audit.Observation) { o.Claim.Contracts[0].Entries = o.Claim.Contracts[0].Entries[:1] },
	"API lists it": func(o *audit.Observation) {
		e := &o.Claim.Contracts[0].Entries
		*e = append(*e, audit.NewClaimedEntry(audit.Device, hidden.Hex(), "", "", audit.ClaimAllowed))
	},
	"API hides it": func(o *audit.Observation) {
		e := &o.Claim.Contracts[0].Entries
		*e = append(*e, audit.NewClaimedEntry(audit.Device, hidden.Hex(), "", "", audit.ClaimUnknown))
	},
	"API down": func(o *audit.Observation) {
		o.Claim = nil
		o.Failures = append(o.Failures, audit.Failure{SourceError: audit.SourceError{Stage: audit.StageAPI, Source: "api", Message: "500"}})
	},
	"API empty":       func(o *audit.Observation) { o.Claim.Contracts = nil },
	"API elsewhere":   func(o *audit.Observation) { o.Claim.ChainID = 1 },
	"row elsewhere":   func(o *audit.Observation) { o.Claim.Contracts[0].ChainID = 1 },
	"listed twice":    func(o *audit.Observation) { o.Claim.Contracts = append(o.Claim.Contracts, o.Claim.Contracts[0]) },
	"chain down":      func(o *audit.Observation) { o.Block, o.Tag, o.Readings = nil, "", nil },
	"contract unread": func(o *audit.Observation) { o.Readings[0] = audit.Reading{Contract: kms, Err: "the power is out"} },
	"getter writes":   func(o *audit.Observation) { answer(o, dev1).Err = "it writes when it is called" },
	"no code": func(o *audit.Observation) {
		o.Readings[0] = audit.Reading{Contract: kms, Assurance: audit.Proven}
	},
	"unproven": unproven,
	"older":    func(o *audit.Observation) { o.Block.Number = 3 },
	"owner":    func(o *audit.Observation) { o.Readings[0].Control.Owner.Value = kms.Hex() },
	"owner unread": func(o *audit.Observation) {
		o.Readings[0].Control.Owner = audit.Field{Err: "it is no address"}
	},
	"rubbish gateway": func(o *audit.Observation) { o.Readings[0].Control.GatewayAppID = audit.Field{Err: "it is no text"} },
	"storage": func(o *audit.Observation) {
		o.Readings[0].Complete, o.Readings[0].Events = false, &audit.EventScan{Read: true}
	},
	"events unread": func(o *audit.Observation) {
		o.Readings[0].Complete, o.Readings[0].Events = false, &audit.EventScan{Err: "no"}
	},
	"lie": func(o *audit.Observation) {
		o.Readings[0] = audit.Reading{Contract: kms, Err: "a lie"}
		o.Failures = append(o.Failures, audit.Failure{SourceError: audit.SourceError{Stage: audit.StageRPC, Source: "first", Message: "a lie"}, Contract: &kms, Kind: audit.ProofInvalid, Finding: "a lie"})
	},
	"disagreement": func(o *audit.Observation) {
		o.Failures = append(o.Failures, audit.Failure{SourceError: audit.SourceError{Stage: audit.StageRPC, Source: "first", Message: "it disagrees"}, Kind: audit.ProviderDisagreement, Finding: "they disagree"})
	},
	"stranger": func(o *audit.Observation) {
		o.Claim.Contracts = append(o.Claim.Contracts, audit.ClaimedContract{Address: other, ChainID: 8453})
	},
	"second contract broken": func(o *audit.Observation) {
		o.Claim.Contracts = append(o.Claim.Contracts, audit.ClaimedContract{Address: other, ChainID: 8453})
		o.Readings = append(o.Readings, audit.Reading{Contract: other, Err: "its code never ends"})
	},
	"second contract stores more": func(o *audit.Observation) {
		o.Claim.Contracts = append(o.Claim.Contracts, audit.ClaimedContract{Address: other, ChainID: 8453})
		o.Readings = append(o.Readings, audit.Reading{Contract: other, HasCode: true, Assurance: audit.Proven, Storage: &audit.Storage{}, Events: &audit.EventScan{Read: true}})
	},
}

func happen(o audit.Observation, names string) audit.Observation {
	for n := range strings.SplitSeq(names, " and ") {
		f, ok := events[n]
		if !ok {
			panic("no event " + n)
		}
		f(&o)
	}
	return o
}

// play audits once. what has the events of the first look, the second and the head, separated by slashes.
func play(intent audit.Intent, prior audit.Prior, names string, block uint64, at time.Time) audit.Outcome {
	parts := strings.Split(names, " / ")
	looks := audit.Looks{First: happen(honest(block, at), parts[0])}
	if audit.Judge(intent, prior, looks).LookAgain {
		second := happen(honest(block, at.Add(time.Minute)), parts[min(1, len(parts)-1)])
		looks.Second = &second
	}
	if audit.Judge(intent, prior, looks).AskHead != nil {
		head := happen(honest(block+9, at.Add(time.Minute)), parts[min(2, len(parts)-1)])
		head.Tag, head.Claim = "latest", nil
		looks.Head = &head
	}
	return audit.Judge(intent, prior, looks)
}

// said returns the contract's verdict and findings. Findings that are only open are in brackets.
func said(c audit.Chain) string {
	out := []string{c.Verdict.String()}
	for _, t := range c.Targets {
		for _, f := range t.Findings {
			switch {
			case f.State == audit.Confirmed:
				out = append(out, string(f.Kind))
			default:
				out = append(out, "("+string(f.Kind)+")")
			}
		}
	}
	return strings.Join(out, " ")
}

// Every rule of a verdict over time, as a sequence of audits: what happens, and what the report says.
func TestRulesOfAVerdict(t *testing.T) {
	pinned := func(p audit.Policy) func(*audit.Intent) {
		return func(i *audit.Intent) { i.Contracts = []audit.ContractIntent{{Address: kms, Policy: p}} }
	}
	for _, tt := range []struct {
		sentence string
		intent   func(*audit.Intent) // nil: as it is
		audits   [][2]string
	}{
		{"API and contract agree", nil, [][2]string{{"honest", "consistent"}}},

		// 1. The chain is read whatever the API does.
		{"a configured contract is judged by its policy while the API lists nothing", pinned(audit.Policy{Owner: &kms}), [][2]string{
			{"API empty", "drift unlisted_chain_allowed unlisted_chain_allowed owner_changed contract_not_listed"},
		}},
		{"a configured contract is judged by its policy while the API is down", pinned(audit.Policy{Owner: &kms, Devices: []common.Hash{}}), [][2]string{
			{"API down", "drift owner_changed policy_denied_chain_allowed"},
		}},
		{"a contract that the API stops listing is audited on", nil, [][2]string{
			{"honest", "consistent"}, {"API empty and owner", "drift unlisted_chain_allowed unlisted_chain_allowed owner_changed contract_not_listed"},
		}},
		{"an answer about another chain says nothing of the contract", nil, [][2]string{
			{"backdoor", "drift claim_denied_chain_allowed"}, {"API elsewhere and backdoor", "unknown (claim_denied_chain_allowed) chain_mismatch"},
			{"row elsewhere", "unknown chain_mismatch"}, {"honest", "consistent"},
		}},
		{"a contract that is listed twice is one", nil, [][2]string{{"listed twice", "consistent"}}},

		// 2. consistent takes a comparison.
		{"without a claim nothing is consistent", nil, [][2]string{{"honest", "consistent"}, {"API down", "unknown"}}},
		{"a claim of nulls compares nothing", nil, [][2]string{{"all null", "unknown claim_unknown claim_unknown claim_unknown"}}},
		{"what is pending compares nothing", nil, [][2]string{{"no code / no code / honest", "unknown"}}},
		{"one pending entry leaves the others consistent", nil, [][2]string{{"API denies / API denies / revoked", "consistent"}}},
		{"a pending entry becomes drift when its time is over", nil, [][2]string{
			{"API denies / API denies / revoked", "consistent"}, {"API denies / API denies / revoked", "consistent"}, {"API denies / API denies / revoked", "drift claim_denied_chain_allowed"},
		}},
		{"a getter that writes is unknown", nil, [][2]string{{"getter writes", "unknown"}}},

		// 3. A finding ends only when the same thing is found right.
		{"an outage of the API resolves nothing", nil, [][2]string{
			{"backdoor and hidden", "drift claim_denied_chain_allowed unlisted_chain_allowed"},
			{"API down and backdoor and hidden", "unknown (claim_denied_chain_allowed) (unlisted_chain_allowed)"},
			{"API empty and backdoor and hidden", "drift unlisted_chain_allowed unlisted_chain_allowed unlisted_chain_allowed unlisted_chain_allowed contract_not_listed"},
			{"backdoor and hidden", "drift claim_denied_chain_allowed unlisted_chain_allowed"},
			{"honest", "consistent"},
		}},
		{"an outage of the API does not resolve what it claims in vain", nil, [][2]string{
			{"revoked", "drift claim_allowed_chain_denied"}, {"revoked and API down", "unknown (claim_allowed_chain_denied)"},
		}},
		{"a difference is over as soon as the contract refuses, API or not", nil, [][2]string{
			{"hidden", "drift unlisted_chain_allowed"}, {"API down", "unknown"}, {"honest", "consistent"},
		}},
		{"a difference is over as soon as the API says what the contract says", nil, [][2]string{
			{"backdoor", "drift claim_denied_chain_allowed"}, {"backdoor and API allows", "consistent"},
		}},
		{"an outage of the chain resolves nothing", nil, [][2]string{
			{"backdoor", "drift claim_denied_chain_allowed"}, {"chain down", "unknown (claim_denied_chain_allowed)"}, {"contract unread", "unknown (claim_denied_chain_allowed)"},
		}},
		{"what was proven is resolved by a proof", nil, [][2]string{
			{"backdoor", "drift claim_denied_chain_allowed"}, {"unproven", "unknown (claim_denied_chain_allowed)"}, {"honest", "consistent"},
		}},
		{"what was ever proven is resolved by a proof, whatever was said since without one", nil, [][2]string{
			{"backdoor", "drift claim_denied_chain_allowed"}, {"unproven and backdoor", "drift claim_denied_chain_allowed"},
			{"unproven", "unknown (claim_denied_chain_allowed)"}, {"honest", "consistent"},
		}},
		{"null is no look at a difference", nil, [][2]string{
			{"backdoor", "drift claim_denied_chain_allowed"}, {"backdoor and null", "unknown (claim_denied_chain_allowed) claim_unknown"},
			{"hidden", "drift unlisted_chain_allowed"}, {"hidden and API hides it", "unknown (unlisted_chain_allowed) claim_unknown"}, {"hidden and API lists it", "consistent"},
		}},
		{"null is no look at a device that the contract refuses", nil, [][2]string{
			{"revoked", "drift claim_allowed_chain_denied"}, {"revoked and all null", "unknown (claim_allowed_chain_denied) claim_unknown claim_unknown claim_unknown"}, {"revoked and API denies", "consistent"},
		}},
		{"an API that drops a device which the contract trusts only renames the finding", nil, [][2]string{
			{"backdoor", "drift claim_denied_chain_allowed"}, {"backdoor and delisted", "drift unlisted_chain_allowed unlisted_chain_allowed"},
		}},
		{"a field that cannot be read resolves nothing about it", nil, [][2]string{
			{"honest", "consistent"}, {"owner", "drift owner_changed"}, {"owner unread", "unknown (owner_changed)"}, {"honest", "consistent"},
		}},
		{"storage that is not proven any more is still unaccounted", nil, [][2]string{
			{"storage", "drift storage_unaccounted"}, {"events unread", "unknown (storage_unaccounted)"}, {"unproven", "unknown (storage_unaccounted)"}, {"honest", "consistent"},
		}},
		{"a lie stays known until the contract is read whole", nil, [][2]string{
			{"lie", "unknown proof_invalid"}, {"chain down", "unknown (proof_invalid)"}, {"unproven", "unknown (proof_invalid)"}, {"honest", "consistent"},
		}},
		{"what providers disagree about is nothing of a contract that is not audited", pinned(audit.Policy{}), [][2]string{
			{"stranger and disagreement", "drift provider_disagreement contract_unexpected"}, {"honest", "consistent"},
		}},
		{"what is open needs no second look to be confirmed", nil, [][2]string{
			{"backdoor", "drift claim_denied_chain_allowed"}, {"backdoor / honest", "drift claim_denied_chain_allowed"},
		}},
		{"what is open is never pending", nil, [][2]string{
			{"revoked", "drift claim_allowed_chain_denied"}, {"revoked / revoked / honest", "drift claim_allowed_chain_denied"}, {"honest", "consistent"},
		}},

		{"what the newer claim makes wrong again does not end, though that look saw no chain", nil, [][2]string{
			{"API allows", "drift claim_allowed_chain_denied"},
			{"revoked / API allows and chain down", "unknown (claim_allowed_chain_denied)"}, {"honest", "consistent"},
			{"hidden", "drift unlisted_chain_allowed"},
			{"revoked and hidden and API lists it / hidden and chain down", "unknown (unlisted_chain_allowed)"}, {"honest", "consistent"},
		}},

		// 4. Failures do not share fate.
		{"a rubbish gateway id switches nothing off", pinned(audit.Policy{Owner: &kms}), [][2]string{{"rubbish gateway", "drift owner_changed"}}},
		{"a rubbish gateway id is no reason to doubt the lists", nil, [][2]string{{"rubbish gateway", "consistent"}}},
		{"a broken contract costs the other nothing", nil, [][2]string{{"second contract broken and backdoor", "drift claim_denied_chain_allowed"}}},
		{"what only one look saw of a contract that only this one saw is not confirmed", nil, [][2]string{
			{"backdoor / backdoor and second contract stores more", "drift claim_denied_chain_allowed"},
			{"backdoor and second contract stores more", "drift claim_denied_chain_allowed storage_unaccounted"},
		}},

		// 6. Finalized blocks do not go back.
		{"an older block says nothing new and resolves nothing", nil, [][2]string{
			{"backdoor", "drift claim_denied_chain_allowed"}, {"older", "unknown (claim_denied_chain_allowed) chain_went_back"},
			{"older and revoked", "unknown (claim_denied_chain_allowed) chain_went_back"}, {"honest", "consistent"},
		}},

		// 7. A difference that only one of two looks saw is not drift.
		{"only what stands in both looks is drift", nil, [][2]string{
			{"backdoor / honest", "consistent claim_unstable"}, {"backdoor / honest", "consistent claim_unstable"}, {"honest", "consistent"},
		}},
		{"storage that the claim may explain is unaccounted once the claim was read", nil, [][2]string{
			{"API down and storage", "unknown"}, {"API elsewhere and storage", "unknown chain_mismatch"},
			{"storage", "drift storage_unaccounted"}, {"API down and storage", "unknown (storage_unaccounted)"},
		}},
		{"a second look that fails confirms nothing", nil, [][2]string{
			{"backdoor / chain down", "unknown"}, {"backdoor / API down", "unknown"}, {"owner / contract unread", "unknown"},
		}},
		{"a difference that the second look sees first is not confirmed", nil, [][2]string{{"backdoor / hidden", "unknown claim_unstable claim_unstable"}}},
		{"a head that cannot be asked confirms nothing", nil, [][2]string{{"revoked / revoked / chain down", "unknown"}, {"revoked / revoked / unproven", "unknown"}}},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			intent := audit.Intent{Chain: "base", ChainID: 8453, Tags: []string{"finalized"}, Events: true, Baselines: true, PendingMax: 90 * time.Minute}
			if tt.intent != nil {
				tt.intent(&intent)
			}
			prior := audit.Prior{}
			for hour, a := range tt.audits {
				at := noon.Add(time.Duration(hour) * time.Hour)
				out := play(intent, prior, a[0], uint64(10+hour), at)
				if got := said(out.Chain); got != a[1] {
					t.Errorf("audit %d, %s: %s, want %s\n%+v", hour, a[0], got, a[1], out.Chain)
				}
				lawful(t, prior, out)
				prior = out.Next
			}
		})
	}
}

// lawful checks what must hold for every outcome.
func lawful(t *testing.T, before audit.Prior, out audit.Outcome) {
	t.Helper()
	open := map[string]bool{}
	for _, c := range out.Chain.Targets {
		for _, f := range c.Findings {
			open[fmt.Sprint(c.Contract, f.Kind, f.List, f.ID)] = true
			if f.FirstSeen == nil || f.LastConfirmedAt == nil || f.State == "" {
				t.Errorf("%s lacks its times or its state", f.Kind)
			}
			if c.Verdict == audit.Consistent && f.Kind.Makes() != audit.Consistent {
				t.Errorf("consistent with %s open", f.Kind)
			}
		}
		for _, e := range c.Entries {
			if e.Verdict == audit.Match && e.OnChain == audit.ChainUnknown {
				t.Errorf("%s %s matches, and was not read", e.List, e.ID)
			}
		}
		if c.Verdict == audit.Consistent && (!c.Compared() || !compares(&out.Chain, &c)) {
			t.Error("consistent without a comparison")
		}
		if c.Verdict == audit.Unknown && len(c.Reasons) == 0 && len(c.Findings) == 0 {
			t.Error("unknown without a reason")
		}
	}
	next := map[string]bool{}
	for _, o := range out.Next.Open {
		next[fmt.Sprint(o.Contract, o.Finding.Kind, o.Finding.List, o.Finding.ID)] = true
	}
	for k := range open {
		if !next[k] {
			t.Errorf("%s is reported and not remembered", k)
		}
	}
	resolved := map[string]bool{}
	for _, c := range out.Changes {
		if c.Type == audit.Resolved {
			resolved[fmt.Sprint(c.Contract, c.Finding.Kind, c.Finding.List, c.Finding.ID)] = true
		}
	}
	for _, o := range before.Open {
		k := fmt.Sprint(o.Contract, o.Finding.Kind, o.Finding.List, o.Finding.ID)
		if !open[k] && !resolved[k] {
			t.Errorf("%s vanished", k)
		}
	}
}

// compares reports whether anything that is claimed or, without claims, wanted was read. Empty lists of a policy
// are compared with a contract whose storage is proven to contain nothing else.
func compares(c *audit.Chain, t *audit.Target) bool {
	return c.Claims == audit.ClaimNone && t.Completeness == audit.Complete || slices.ContainsFunc(t.Entries, func(e audit.Entry) bool {
		side := e.Claim == audit.ClaimAllowed || e.Claim == audit.ClaimDenied || c.Claims == audit.ClaimNone && e.Policy != ""
		return side && e.OnChain != audit.ChainUnknown && e.Verdict != audit.Pending
	})
}

func TestAVerdictIsOneOfThree(t *testing.T) {
	v := audit.Drift
	if err := json.Unmarshal([]byte(`"fine"`), &v); err == nil || v != audit.Drift {
		t.Errorf(`"fine" is read as %s`, v)
	}
	for _, want := range audit.Verdicts {
		b, err := json.Marshal(want)
		if err == nil {
			err = json.Unmarshal(b, &v)
		}
		if err != nil || v != want {
			t.Errorf("%s is read as %s (%v)", b, v, err)
		}
	}
}
