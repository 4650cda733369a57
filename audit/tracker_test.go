package audit_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/fakeapi"
)

// The states of one entry and its target, as a tracker sees them from audit to audit.
func tracked(state string, at time.Time) *audit.Report {
	e := audit.Entry{List: audit.Device, ID: dev1.Hex(), Verdict: audit.Match}
	target := audit.Target{Contract: "0xAA", Verdict: audit.Consistent, Control: &audit.Control{}, Judged: true}
	c := audit.Chain{Chain: "test", Claim: &audit.Claim{}, Block: &audit.Block{Number: 9}}
	switch state {
	case "drift":
		e.Verdict, e.Kind, target.Verdict = audit.Mismatch, audit.ClaimAllowedChainDenied, audit.Drift
		target.Findings = []audit.Finding{{Kind: e.Kind, Severity: e.Kind.Severity(), List: e.List, ID: e.ID}}
	case "unconfirmed":
		e.Verdict, e.Reason, target.Verdict = audit.Unverifiable, audit.ReasonUnconfirmed, audit.Unknown
		target.Counts.Match = 1 // another entry
	case "unread":
		e.Verdict, e.Reason, target.Verdict = audit.Unverifiable, audit.ReasonNotRead, audit.Unknown
	case "null":
		e.Verdict, e.Kind, e.Reason, target.Verdict = audit.Unverifiable, audit.ClaimUnknownKind, audit.ReasonClaimAbsent, audit.Unknown
		target.Counts.Match = 1
	case "not listed":
		e.ID, e.Verdict, target.Verdict = "", audit.Unverifiable, audit.Drift
		target.Findings = []audit.Finding{{Kind: audit.ContractNotListed}}
	case "owner", "denied":
		kind := map[string]audit.Kind{"owner": audit.OwnerChanged, "denied": audit.ClaimDeniedChainAllowed}[state]
		target.Verdict, target.Findings = audit.Drift, []audit.Finding{{Kind: kind}}
		if state == "denied" {
			e.Verdict, e.Kind = audit.Mismatch, kind
			target.Findings[0].List, target.Findings[0].ID = e.List, e.ID
		}
		target.Counts.Match = 1
	case "control unread":
		target.Verdict, target.Control, target.Judged = audit.Drift, nil, false
	case "lie":
		target.Verdict, target.Findings = audit.Unknown, []audit.Finding{{Kind: audit.ProviderDisagreement}}
	case "unused":
		e.Verdict, e.Reason, target.Verdict = audit.Unverifiable, audit.ReasonClaimAbsent, audit.Unknown
		target.Counts.Match, target.Findings = 1, []audit.Finding{{Kind: audit.AcceptUnused, List: e.List, ID: e.ID}}
	case "unmet":
		target.Unmet = []audit.Acceptance{{Kind: audit.ClaimAllowedChainDenied, List: e.List, ID: e.ID}}
	case "unexpected":
		target.Verdict, target.Findings = audit.Drift, []audit.Finding{{Kind: audit.ContractUnexpected}}
		e.ID, e.Verdict = "", audit.Unverifiable
	case "older":
		c.Block.Number = 8
	case "storage":
		target.Verdict, target.Completeness = audit.Drift, audit.Incomplete
		target.Findings = []audit.Finding{{Kind: audit.StorageUnaccounted}}
	case "events only":
		target.Completeness = audit.EventsOnly
	case "all proven":
		target.Completeness = audit.Complete
	case "storage accepted":
		target.Completeness, target.Accepted = audit.Incomplete, []audit.Acceptance{{Kind: audit.StorageUnaccounted}}
	case "gone, and nobody looks for it":
		e.ID, target.Completeness = dev2.Hex(), audit.Unchecked
	case "no code":
		target.Verdict = audit.Drift
		target.Findings = []audit.Finding{{Kind: audit.NoCode, Severity: audit.Critical}}
	}
	target.Counts.Match += map[bool]int{true: 1}[e.Verdict == audit.Match]
	target.Entries = []audit.Entry{e}
	c.Targets, c.Verdict = []audit.Target{target}, target.Verdict
	switch state {
	case "API down":
		c.Claim, c.Targets = nil, nil
	case "unlisted":
		c.Targets[0].Contract = "0xBB"
	case "nothing is listed":
		c.Targets, c.Verdict = nil, audit.Unknown
	case "entry gone":
		c.Targets[0].Entries = []audit.Entry{{List: audit.Device, ID: dev2.Hex(), Verdict: audit.Match}}
	}
	return &audit.Report{FinishedAt: at, Chains: []audit.Chain{c}}
}

func TestWhenFindingsOpenAndResolve(t *testing.T) {
	for _, tt := range []struct {
		sentence string
		states   string // one an hour
		changes  string // hour and event
	}{
		{"nothing is wrong", "match; match", ""},
		{"it opens once and is resolved once", "match; drift; drift; match; match", "1 opened, 3 resolved"},
		{"it comes back", "drift; match; drift", "0 opened, 1 resolved, 2 opened"},
		{"a failure resolves nothing", "drift; unread; API down; drift; match", "0 opened, 4 resolved"},
		{"a difference that is not confirmed is not resolved", "drift; unconfirmed; match", "0 opened, 2 resolved"},
		{"the API drops the entry", "drift; entry gone", "0 opened, 1 resolved"},
		{"the API drops the contract", "drift; unlisted", "0 opened, 1 resolved"},
		{"a finding of the whole contract", "no code; unread; match", "0 opened, 2 resolved"},
		{"there is code where anything is compared", "no code; unconfirmed", "0 opened, 1 resolved"},
		{"what a source was caught at stays open while an entry is not read", "lie; unconfirmed; null", "0 opened, 2 resolved"},
		{"who controls the contract is known while the API has no answer", "owner; null", "0 opened, 1 resolved"},
		{"an accept that is removed", "unused; null", "0 opened, 1 resolved"},
		{"an accept that could not be looked for", "unused; unmet; match", "0 opened, 2 resolved"},
		{"a contract that the operator takes out of the configuration", "owner; unexpected", "0 opened, 1 opened, 1 resolved"},
		{"an older block tells nothing new", "drift; older; match", "0 opened, 2 resolved"},
		{"the API has no answer any more", "drift; null; match", "0 opened, 2 resolved"},
		{"the API drops a contract that is configured", "drift; not listed; match", "0 opened, 1 opened, 2 resolved, 2 resolved"},
		{"the API drops all contracts", "drift; nothing is listed; match", "0 opened, 2 resolved"},
		{"the API drops an entry that the contract trusts, and nobody looks", "denied; gone, and nobody looks for it; entry gone", "0 opened, 2 resolved"},
		{"the API drops an entry that the contract refused", "drift; gone, and nobody looks for it", "0 opened, 1 resolved"},
		{"control cannot be read while something else differs", "owner; control unread; match", "0 opened, 2 resolved"},
		{"storage is not proven any more", "storage; events only; all proven", "0 opened, 2 resolved"},
		{"storage is accepted", "storage; storage accepted", "0 opened, 1 resolved"},
		{"a reminder a day", strings.TrimSuffix(strings.Repeat("drift; ", 50), "; "), "0 opened, 24 open, 48 open"},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			var tracker audit.Tracker
			var got []string
			noon := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
			first := map[audit.Kind]time.Time{}
			for hour, state := range strings.Split(tt.states, "; ") {
				at := noon.Add(time.Duration(hour) * time.Hour)
				r := tracked(state, at)
				for _, c := range tracker.Update(r) {
					got = append(got, fmt.Sprintf("%d %s", hour, strings.TrimPrefix(string(c.Type), "finding_")))
					if c.Type == audit.Opened {
						first[c.Finding.Kind] = at
					}
					if want := first[c.Finding.Kind]; !c.FirstSeen.Equal(want) {
						t.Errorf("first seen at %s, want %s", c.FirstSeen, want)
					}
				}
				if state == "drift" {
					target, first := r.Chains[0].Targets[0], first[audit.ClaimAllowedChainDenied]
					if f, e := target.Findings[0].FirstSeen, target.Entries[0].FirstSeen; f == nil || !f.Equal(first) || e == nil || !e.Equal(first) {
						t.Errorf("the report says first seen at %v and %v, want %s", f, e, first)
					}
				}
			}
			if d := cmp.Diff(tt.changes, strings.Join(got, ", ")); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestTrackerGoesOn(t *testing.T) {
	noon := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	var before audit.Tracker
	before.Update(tracked("drift", noon))
	for _, tt := range []struct {
		sentence, state string
		at              time.Time
		want            string // event, and when it was last seen
	}{
		{"it is known", "drift", noon.Add(time.Hour), ""},
		{"a reminder is due", "drift", noon.Add(25 * time.Hour), "finding_open 13:00"},
		{"it was resolved meanwhile", "match", noon.Add(time.Hour), "finding_resolved 12:00"},
		{"the clock was set back, which is no reason to tell of it", "drift", noon.Add(-time.Hour), ""},
	} {
		got := ""
		for _, c := range audit.NewTracker(before.Open()).Update(tracked(tt.state, tt.at)) {
			if got += string(c.Type) + c.LastSeen.Format(" 15:04"); !c.FirstSeen.Equal(noon) {
				t.Errorf("%s: first seen at %s", tt.sentence, c.FirstSeen)
			}
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.sentence, got, tt.want)
		}
	}
}

// TestNothingWasFirstSeenInTheFuture sets the clock back by a day between two audits, and lets a day go by then.
func TestNothingWasFirstSeenInTheFuture(t *testing.T) {
	noon := time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC)
	yesterday := noon.AddDate(0, 0, -1)
	var tracker audit.Tracker
	early := tracked("drift", noon)
	tracker.Update(early)
	late := tracked("drift", yesterday)
	late.Chains[0].Targets = slices.Clone(early.Chains[0].Targets) // a target that did not change is shared
	changes := tracker.Update(late)
	if target := late.Chains[0].Targets[0]; len(changes) > 0 || !target.Findings[0].FirstSeen.Equal(yesterday) || !target.Entries[0].FirstSeen.Equal(yesterday) {
		t.Errorf("after the clock was set back: %+v, %+v", changes, target)
	}
	if target := early.Chains[0].Targets[0]; !target.Findings[0].FirstSeen.Equal(noon) || !target.Entries[0].FirstSeen.Equal(noon) {
		t.Errorf("the report from before was changed: %+v", target)
	}
	if changes := tracker.Update(tracked("drift", noon)); len(changes) != 1 || changes[0].Type != audit.Open || !changes[0].FirstSeen.Equal(yesterday) {
		t.Errorf("a day later: %+v", changes)
	}
}

func TestFindingsNameWhatTheyAreAbout(t *testing.T) {
	r := tracked("denied", time.Now())
	target := &r.Chains[0].Targets[0]
	target.Findings = append(target.Findings, []audit.Finding{
		{Kind: audit.UnlistedChainAllowed, List: audit.OSImage, ID: img1.Hex()},
		{Kind: audit.AcceptUnused, List: audit.OSImage, ID: img2.Hex()},
		{Kind: audit.MalformedID, List: audit.Device, ID: `"0x12"`},
		{Kind: audit.OwnerChanged},
	}...)
	var tracker audit.Tracker
	tracker.Update(r)
	want := audit.Named{Devices: []common.Hash{dev1}, Images: []common.Hash{img1}}
	if d := cmp.Diff(want, tracker.Named("test", "0xAA")); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(audit.Named{}, tracker.Named("test", "0xBB")); d != "" {
		t.Error(d)
	}
	if before := tracker.Version(); before == 0 || len(tracker.Update(r)) > 0 || tracker.Version() != before {
		t.Error("the version does not follow what opens")
	}
}

// TestWhatIsNotLookedAtIsNotResolved has real audits go on after a finding, and an API that keeps back what it is about.
func TestWhatIsNotLookedAtIsNotResolved(t *testing.T) {
	other := func(chain uint64) func(*world) {
		return func(w *world) {
			w.api.Update("test", func(c *fakeapi.Chain) {
				c.ChainID, c.Contracts[0].Address = chain, "0x00000000000000000000000000000000000000AA"
			})
		}
	}
	names := func(w *world) {
		w.api.UpdateKMS(func(k *[]fakeapi.KMS) {
			more := (*k)[1]
			more.ID, more.Contract = "kc_more", "0x00000000000000000000000000000000000000BB"
			*k = append(*k, more)
		})
	}
	for _, tt := range []struct {
		sentence string
		wrong    func(*world) // before the first audit
		change   func(*world) // before the second
		resolved string
	}{
		{"the API lists another contract", (*world).revoke, other(chainID), "claim_allowed_chain_denied"},
		{"the API lists another contract of another chain", (*world).revoke, other(1), ""},
		{"the API answers for another chain", (*world).revoke, func(w *world) {
			w.api.Update("test", func(c *fakeapi.Chain) { c.ChainID = 1 })
		}, ""},
		{"a contract of another chain is listed no more", func(w *world) {
			w.contract(func(c *fakeapi.Contract) { c.ChainID = 1 })
		}, other(1), "chain_mismatch"},
		{"the list of KMS, which named another contract, cannot be read", names, func(w *world) {
			w.api.Fail(fakeapi.Fault{Name: fakeapi.Status, Endpoint: fakeapi.List})
		}, ""},
		{"the API says nothing of the keys any more", func(w *world) {
			w.contract(func(c *fakeapi.Contract) { key := "ab"; c.K256Pubkey = &key })
		}, func(w *world) {
			w.contract(func(c *fakeapi.Contract) { c.K256Pubkey, c.CAPubkey = nil, nil })
		}, ""},
		{"the API has no answer about what an accept of no use is about", func(w *world) {
			w.more = func(o *audit.ChainOptions) {
				o.Accept = []audit.Accept{{Chain: "test", Contract: w.kms.Address(), List: audit.Device, ID: dev1.Hex(), Kind: audit.ClaimAllowedChainDenied, Expires: time.Now().Add(time.Hour)}}
			}
		}, func(w *world) {
			w.contract(func(c *fakeapi.Contract) { c.Devices[0].Allowed = nil })
		}, ""},
		{"the list of KMS names it no more", names, func(w *world) {
			w.api.UpdateKMS(func(k *[]fakeapi.KMS) { *k = (*k)[:2] })
		}, "kms_contract_mismatch"},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			w := newWorld(t)
			w.cross = true
			tt.wrong(w)
			a, tracker := w.auditor(), &audit.Tracker{}
			if opened := tracker.Update(w.auditWith(a)); len(opened) == 0 {
				t.Fatal("nothing is wrong")
			}
			tt.change(w)
			r := w.auditWith(a)
			var resolved []string
			for _, c := range tracker.Update(r) {
				if c.Type == audit.Resolved {
					resolved = append(resolved, string(c.Finding.Kind))
				}
			}
			if got := strings.Join(resolved, " "); got != tt.resolved {
				t.Errorf("resolved: %q, want %q\n%s", got, tt.resolved, text(t, r))
			}
		})
	}
}
