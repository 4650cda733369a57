package state_test

import (
	"bytes"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

var (
	ethereum = state.Target{Chain: "ethereum", Contract: common.HexToAddress("0xd343a3f5593b93D8056aB5D60c433622d7D65a80")}
	owner    = common.HexToAddress("0x52908400098527886E0F7030069857D2E4169EE7")
)

func id(n int) common.Hash { return common.BigToHash(big.NewInt(int64(n))) }

// event is a change of image n in a block; hours after noon, or of unknown time where negative.
func event(block uint64, n int, added bool, hours int) state.Event {
	e := state.Event{Block: block, BlockHash: id(int(block)), Index: 1, Tx: id(1000), List: "os_image", Key: imageID(n), Added: added}
	if hours >= 0 {
		e.Time, e.Actor = noon.Add(time.Duration(hours)*time.Hour), owner
	}
	return e
}

// imageID is the id of image n: its first digits tell it from others.
func imageID(n int) common.Hash { return common.HexToHash(fmt.Sprintf("0x%08x%056x", n, n)) }

// remember is a state that remembers the events, up to block 5000, and the audits, as a command sees it.
func remember(t testing.TB, events map[state.Target][]state.Event, reports ...*audit.Report) *state.State {
	t.Helper()
	return view(t, remembered(t, events, reports...))
}

// remembered is its file.
func remembered(t testing.TB, events map[state.Target][]state.Event, reports ...*audit.Report) string {
	t.Helper()
	path := file(t)
	s := open(t, path)
	for target, list := range events {
		must(t, s.Append(target, 1, 5000, id(5000), list))
	}
	s.SetChainID("base", 8453)
	s.SetChainID("ethereum", 1)
	for _, r := range reports {
		next, changes := followed(s, r)
		s.Record(r, next, changes)
	}
	must(t, s.Close())
	return path
}

// followed keeps what a report finds open, and resolves what it does not find any more.
func followed(s *state.State, r *audit.Report) (map[string]audit.Prior, []audit.Change) {
	next, changes := map[string]audit.Prior{}, []audit.Change{}
	for _, c := range r.Chains {
		p := s.Prior(c.Chain)
		var open []audit.OpenFinding
		for _, t := range c.Targets {
			for i := range t.Findings {
				f := &t.Findings[i]
				f.FirstSeen, f.LastConfirmedAt = &r.FinishedAt, &r.FinishedAt
				for _, o := range p.Open {
					if o.Finding.Kind == f.Kind && o.Finding.ID == f.ID {
						f.FirstSeen = o.Finding.FirstSeen
					}
				}
				open = append(open, audit.OpenFinding{Contract: t.Contract, Finding: *f})
			}
		}
		for _, o := range p.Open {
			if len(c.Targets) > 0 && !slices.ContainsFunc(open, func(n audit.OpenFinding) bool {
				return n.Finding.Kind == o.Finding.Kind && n.Finding.ID == o.Finding.ID
			}) {
				changes = append(changes, audit.Change{Type: audit.Resolved, Chain: c.Chain, Contract: o.Contract, Finding: o.Finding})
			}
		}
		if len(c.Targets) == 0 {
			open = p.Open
		}
		next[c.Chain] = audit.Prior{Open: open}
	}
	return next, changes
}

// report is an audit of both contracts at a block, so many hours after noon.
func report(block uint64, hours int, entries ...audit.Entry) *audit.Report {
	at := noon.Add(time.Duration(hours) * time.Hour)
	r := &audit.Report{Schema: audit.Schema, AuditID: fmt.Sprint("audit-", hours), StartedAt: at, FinishedAt: at}
	for _, name := range []string{"base", "ethereum"} {
		on := map[string]state.Target{"base": kms, "ethereum": ethereum}[name]
		target := audit.Target{Contract: on.Contract.Hex(), Completeness: audit.Complete, Counts: audit.Counts{Match: 1}, Entries: []audit.Entry{}, Findings: []audit.Finding{}}
		if name == "base" {
			target.Completeness, target.Entries = audit.EventsOnly, entries
		}
		for _, e := range target.Entries {
			if e.Kind != "" {
				target.Findings = append(target.Findings, audit.Finding{Kind: e.Kind, Severity: e.Kind.Severity(), List: e.List, ID: e.ID, Message: "it differs"})
			}
		}
		r.Chains = append(r.Chains, audit.Chain{
			Chain: name, ChainID: map[string]uint64{"base": 8453, "ethereum": 1}[name], Claim: &audit.Claim{FetchedAt: at}, Block: &audit.Block{Number: block, Time: at},
			Errors: []audit.SourceError{}, Targets: []audit.Target{target},
		})
	}
	return r
}

func image(n int, claim audit.ClaimState, chain audit.ChainState, k audit.Kind) audit.Entry {
	e := audit.Entry{List: audit.OSImage, ID: imageID(n).Hex(), Name: fmt.Sprint("dstack-", n), Version: fmt.Sprint(n), Claim: claim, OnChain: chain, Verdict: audit.Match, Assurance: audit.Single}
	if k != "" {
		e.Verdict, e.Kind, e.Severity = audit.Mismatch, k, k.Severity()
	}
	return e
}

var audited = []string{"device", "os_image"}

func TestTimeline(t *testing.T) {
	device := event(40, 9, true, 4)
	device.List, device.Index = "device", 2
	app := event(40, 7, true, 4)
	app.List = "app"
	p := remember(t, map[state.Target][]state.Event{
		kms:      {event(10, 1, true, 1), event(20, 2, true, -1), event(30, 1, false, 3), app, device},
		ethereum: {event(900, 3, true, 2)},
	}, report(1000, 5, image(1, audit.ClaimAllowed, audit.ChainDenied, "")))
	for _, tt := range []struct {
		sentence string
		filter   state.Filter
		want     []string
	}{
		{"contracts are woven together, and an event of unknown time keeps its place", state.Filter{Lists: audited},
			[]string{"base 10 added dstack-1", "base 20 added ", "ethereum 900 added ", "base 30 removed dstack-1", "base 40 added "}},
		{"one chain", state.Filter{Lists: audited, Chain: "ethereum"}, []string{"ethereum 900 added "}},
		{"one contract", state.Filter{Lists: audited, Contract: ethereum.Contract}, []string{"ethereum 900 added "}},
		{"one list", state.Filter{Lists: []string{"app"}}, []string{"base 40 added "}},
		{"what may be later stays in", state.Filter{Lists: audited, Since: noon.Add(2 * time.Hour)},
			[]string{"base 20 added ", "ethereum 900 added ", "base 30 removed dstack-1", "base 40 added "}},
		{"what is before an event that is too old is out", state.Filter{Lists: audited, Since: noon.Add(210 * time.Minute)}, []string{"base 40 added "}},
		{"the newest", state.Filter{Lists: audited, Limit: 1}, []string{"base 40 added "}},
		{"a contract that nobody read", state.Filter{Lists: audited, Chain: "polygon"}, nil},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			var got []string
			for _, e := range p.Timeline(tt.filter).Events {
				got = append(got, fmt.Sprintf("%s %d %s %s", e.Chain, e.Block, e.Change, e.Name))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	at := noon.Add(time.Hour)
	want := render.Event{
		Time: &at, Chain: "base", ChainID: 8453, Block: 10, LogIndex: 1, Contract: kms.Contract.Hex(), List: "os_image",
		Change: "added", ID: imageID(1).Hex(), Name: "dstack-1", Version: "1", Actor: owner.Hex(), Tx: id(1000).Hex(),
	}
	if diff := cmp.Diff(want, p.Timeline(state.Filter{Lists: audited}).Events[0]); diff != "" {
		t.Errorf("the first event (-want +got):\n%s", diff)
	}
	if app := p.Timeline(state.Filter{Lists: []string{"app"}}).Events[0]; app.ID != common.BytesToAddress(imageID(7).Bytes()[12:]).Hex() {
		t.Errorf("an app's id is %s, no address", app.ID)
	}
	if diff := cmp.Diff([]render.Scanned{{Chain: "base", ChainID: 8453, Contract: kms.Contract.Hex(), From: 1, To: 5000}}, p.Timeline(state.Filter{Chain: "base"}).Scanned); diff != "" {
		t.Error(diff)
	}
}

func TestFind(t *testing.T) {
	hash := image(0x77777777, audit.ClaimAllowed, audit.ChainUnknown, audit.NoHash)
	hash.ID, hash.Name = "", "hashless"
	twin := image(0x66666666, audit.ClaimAllowed, audit.ChainAllowed, "")
	twin.Name = "dstack-5"
	malformed := image(8, audit.ClaimAllowed, audit.ChainUnknown, audit.MalformedID)
	malformed.ID, malformed.Name = `"64a0"…`, "odd"
	p := remember(t, map[state.Target][]state.Event{kms: {event(10, 0xabcdef01, true, 1)}},
		report(1000, 5, image(5, audit.ClaimAllowed, audit.ChainAllowed, ""), twin, hash, malformed))
	for _, tt := range []struct{ sentence, asked, want, refused string }{
		{"an id, whether known or not", imageID(99).Hex(), imageID(99).Hex(), ""},
		{"in capitals and without a prefix", fmt.Sprintf("%X", imageID(0xabc)), imageID(0xabc).Hex(), ""},
		{"the first digits of a claimed id", "0x66666666", imageID(0x66666666).Hex(), ""},
		{"in capitals, of one that an event names", "ABCDEF01", imageID(0xabcdef01).Hex(), ""},
		{"a name", "odd", `"64a0"…`, ""},
		{"a malformed id as the report spells it", `"64a0"…`, `"64a0"…`, ""},
		{"too few digits", "6666666", "", ""},
		{"digits that nobody knows", "0x99999999", "", ""},
		{"a name that two ids have", "dstack-5", "", `"dstack-5" is ambiguous: it may be ` + imageID(5).Hex() + ", " + imageID(0x66666666).Hex() + "; give more digits"},
		{"a name of an image without a hash", "hashless", "", `the API lists "hashless" without a hash, so it has no id`},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			got, err := p.Find(tt.asked, state.Filter{})
			if got != tt.want || (err == nil) != (tt.refused == "") || err != nil && err.Error() != tt.refused {
				t.Errorf("Find(%s) = %q, %v, want %q, %s", tt.asked, got, err, tt.want, tt.refused)
			}
		})
	}
}

// thousand is a state of 1,000 changes of 300 images.
func thousand(t testing.TB) string {
	var events []state.Event
	var entries []audit.Entry
	for n := range 1000 {
		events = append(events, event(uint64(n+1), n%300, n%600 < 300, n))
	}
	for n := range 300 {
		entries = append(entries, image(n, audit.ClaimAllowed, audit.ChainAllowed, ""))
	}
	return remembered(t, map[state.Target][]state.Event{kms: events}, report(5000, 2000, entries...))
}

func BenchmarkAfter1000Changes(b *testing.B) {
	path := thousand(b)
	b.Run("explain", func(b *testing.B) {
		for b.Loop() {
			p := view(b, path)
			if x := p.Explain(imageID(7).Hex(), state.Filter{}, nil, nil); len(x.Places) != 1 || len(x.Places[0].Events) < 3 || render.Show(&bytes.Buffer{}, x, render.TextOptions{}, false) != nil {
				b.Fatalf("%+v", x)
			}
		}
	})
	b.Run("history", func(b *testing.B) {
		for b.Loop() {
			if h := view(b, path).Timeline(state.Filter{Lists: audited}); len(h.Events) != 1000 || render.Show(&bytes.Buffer{}, h, render.TextOptions{}, false) != nil {
				b.Fatal(len(h.Events))
			}
		}
	})
}
