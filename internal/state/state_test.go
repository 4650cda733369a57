package state_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/footprint"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

var (
	device = "0x" + strings.Repeat("d1", 32)
	noon   = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

	code    = footprint.Code{Accounts: []footprint.Account{{Address: kms.Contract.Hex(), Role: footprint.Implementation, CodeHash: "0x" + strings.Repeat("c0", 32)}}}
	control = audit.Control{Owner: "0x0000000000000000000000000000000000000001", Code: code}
	taken   = audit.Control{Owner: "0x0000000000000000000000000000000000000002", Code: code}
)

// life is a program on one state file, that is started again and again.
type life struct {
	t     testing.TB
	path  string
	state *state.State
}

func newLife(t testing.TB) *life {
	l := &life{t: t, path: file(t)}
	l.restart()
	return l
}

// restart ends the program, after each audit was saved, and starts it again.
func (l *life) restart() {
	l.t.Helper()
	if l.state != nil {
		must(l.t, l.state.Close())
	}
	l.state = open(l.t, l.path)
}

// audit has an audit find a state of the world, and returns what it logs.
func (l *life) audit(world string, at time.Time) []audit.Change {
	l.t.Helper()
	r, out := judge(l.state.Prior("base"), world, at)
	l.state.Record(r, map[string]audit.Prior{"base": out.Next}, out.Changes)
	must(l.t, l.state.Save())
	_, changes := l.state.Outbox()
	l.state.MarkLogged()
	must(l.t, l.state.Save())
	return changes
}

func (l *life) baseline() *audit.Baseline {
	p := l.state.Prior("base")
	if k := p.Contract(kms.Contract); k != nil {
		return k.Baseline
	}
	return nil
}

// judge is an audit that finds match, drift, taken (by another owner) or down (no source).
func judge(prior audit.Prior, world string, at time.Time) (*audit.Report, audit.Outcome) {
	id := key(1)
	copy(id[:], strings.Repeat("\xd1", 32))
	who := control
	if world == "taken" {
		who = taken
	}
	field := func(s string) audit.Field { return audit.Field{Known: true, Value: s} }
	look := audit.Observation{
		At: at, Tag: "latest", Block: &audit.Block{Number: uint64(at.Unix()), Hash: "0x" + strings.Repeat("b0", 32), Time: at},
		Claim: &audit.APIClaim{Claim: audit.Claim{FetchedAt: at, SHA256: strings.Repeat("ab", 32)}, ChainID: 8453, Contracts: []audit.ClaimedContract{
			{Address: kms.Contract, ChainID: 8453, Entries: []audit.ClaimedEntry{audit.NewClaimedEntry(audit.Device, device, "", "", audit.ClaimAllowed)}}}},
		Readings: []audit.Reading{{Contract: kms.Contract, HasCode: true, Assurance: audit.Single, Answers: []audit.Answer{{List: audit.Device, ID: id, Allowed: world != "drift"}},
			Control: audit.Controls{Owner: field(who.Owner), PendingOwner: field(""), Implementation: field(""), Code: who.Code}}},
	}
	if world == "down" {
		look = audit.Observation{At: at}
	}
	out := audit.Judge(audit.Intent{Chain: "base", ChainID: 8453, Tags: []string{"latest"}, Baselines: true}, prior, audit.Looks{First: look, Second: &look})
	return audit.NewReport("A"+at.Format("150405"), "v1", at.Add(-time.Second), at, []audit.Chain{out.Chain}), out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFindingsOutliveTheProcess(t *testing.T) {
	for _, tt := range []struct {
		sentence string
		worlds   string // one an hour; the program is started again at each |
		changes  string // hour and event
	}{
		{"it opens once", "drift, | drift, drift, | drift", "0 opened"},
		{"it is resolved after a restart", "drift, drift, | match, | match", "0 opened, 2 resolved"},
		{"a source that fails at the restart resolves nothing", "drift, | down, | drift, match", "0 opened, 3 resolved"},
		{"it comes back", "drift, | match, | drift", "0 opened, 1 resolved, 2 opened"},
		{"a reminder a day, restarts or not", strings.TrimSuffix(strings.Repeat("drift, | ", 50), ", | "), "0 opened, 24 open, 48 open"},
		{"no reminder while it is known", "drift, " + strings.Repeat("| drift, ", 22) + "match", "0 opened, 23 resolved"},
		{"one that the whole contract has", "match, taken, | taken, | match", "1 opened, 3 resolved"},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			l := newLife(t)
			var got []string
			var first time.Time
			for hour, world := range strings.Split(tt.worlds, ", ") {
				if strings.HasPrefix(world, "| ") {
					l.restart()
				}
				at := noon.Add(time.Duration(hour) * time.Hour)
				for _, c := range l.audit(strings.TrimPrefix(world, "| "), at) {
					got = append(got, fmt.Sprintf("%d %s", hour, strings.TrimPrefix(string(c.Type), "finding_")))
					if c.Type == audit.Opened {
						first = at
					}
					if !c.Finding.FirstSeen.Equal(first) {
						t.Errorf("at %s it was first seen at %s, want %s", at, c.Finding.FirstSeen, first)
					}
				}
			}
			if d := cmp.Diff(tt.changes, strings.Join(got, ", ")); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestOpenAndResolvedAreKept(t *testing.T) {
	l := newLife(t)
	l.audit("drift", noon)
	l.audit("drift", noon.Add(5*time.Minute))
	l.audit("down", noon.Add(6*time.Minute))
	for _, s := range []*state.State{l.state, view(t, l.path)} {
		open := s.Prior("base").Open
		if len(open) != 1 || !open[0].Finding.FirstSeen.Equal(noon) || !open[0].Finding.LastConfirmedAt.Equal(noon.Add(5*time.Minute)) || open[0].Finding.ID != device {
			t.Errorf("open is %+v", open)
		}
	}
	l.audit("match", noon.Add(time.Hour))
	l.restart()
	over := l.state.Resolved()
	if len(l.state.Prior("base").Open) != 0 || len(over) != 1 || !over[0].ResolvedAt.Equal(noon.Add(time.Hour)) ||
		!over[0].Finding.LastConfirmedAt.Equal(noon.Add(5*time.Minute)) || !over[0].Finding.FirstSeen.Equal(noon) || over[0].Contract != kms.Contract.Hex() {
		t.Errorf("after it was resolved, resolved is %+v", over)
	}
}

// TestTheOutboxOutlivesTheProcess ends a process between the state and the log.
func TestTheOutboxOutlivesTheProcess(t *testing.T) {
	l := newLife(t)
	for i, world := range []string{"drift", "match"} {
		r, out := judge(l.state.Prior("base"), world, noon.Add(time.Duration(i)*time.Minute))
		l.state.Record(r, map[string]audit.Prior{"base": out.Next}, out.Changes)
		must(t, l.state.Save())
	}
	id, changes := view(t, l.path).Outbox()
	if id != "A120100" || len(changes) != 2 || changes[0].Type != audit.Opened || changes[1].Type != audit.Resolved {
		t.Errorf("of %s, the outbox has %+v", id, changes)
	}
	l.state.MarkLogged()
	must(t, l.state.Save())
	if _, changes := view(t, l.path).Outbox(); len(changes) > 0 {
		t.Errorf("logged already: %+v", changes)
	}
}

// TestWhatCouldNotBeSavedIsSavedLater has two audits fail to be written, since no JSON can spell their time.
func TestWhatCouldNotBeSavedIsSavedLater(t *testing.T) {
	l := newLife(t)
	l.audit("match", noon.Add(-time.Minute))
	l.audit("taken", noon)
	for i := range 2 { // the owner is back
		r, out := judge(l.state.Prior("base"), "drift", noon.Add(time.Duration(i+1)*time.Minute))
		r.StartedAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
		l.state.Record(r, map[string]audit.Prior{"base": out.Next}, out.Changes)
		l.state.MarkLogged()
		if err := l.state.Save(); err == nil || !strings.HasPrefix(err.Error(), "writing state file "+l.path+": ") {
			t.Fatalf("the state took a year of five digits: %v", err)
		}
	}
	if changes := l.audit("drift", noon.Add(3*time.Minute)); len(changes) > 0 {
		t.Fatalf("the difference is told again: %+v", changes)
	}
	l.restart()
	open, over := l.state.Prior("base").Open, l.state.Resolved()
	if len(open) != 1 || open[0].Finding.ID != device || !open[0].Finding.FirstSeen.Equal(noon.Add(time.Minute)) {
		t.Errorf("open is %+v", open)
	}
	if len(over) != 1 || over[0].Finding.Kind != audit.OwnerChanged || !over[0].ResolvedAt.Equal(noon.Add(time.Minute)) {
		t.Errorf("resolved is %+v", over)
	}
}

func TestTheLastThousandResolvedAreKept(t *testing.T) {
	l := newLife(t)
	changes := make([]audit.Change, 1500)
	for i := range changes {
		changes[i] = audit.Change{Type: audit.Resolved, Chain: "base", Finding: audit.Finding{ID: fmt.Sprint(i)}}
	}
	l.state.Record(&audit.Report{}, nil, changes)
	l.restart()
	if over := l.state.Resolved(); len(over) != 1000 || over[0].Finding.ID != "500" || over[999].Finding.ID != "1499" {
		t.Errorf("%d are kept, from %s", len(over), over[0].Finding.ID)
	}
}

// sameReport compares reports as their readers see them.
func sameReport(t *testing.T, want, got any) {
	t.Helper()
	a, err := json.MarshalIndent(want, "", " ")
	must(t, err)
	b, err := json.MarshalIndent(got, "", " ")
	must(t, err)
	if d := cmp.Diff(string(a), string(b)); d != "" {
		t.Error(d)
	}
}

func TestReportOutlivesTheProcess(t *testing.T) {
	l := newLife(t)
	if r := l.state.Report(); r != nil {
		t.Errorf("before any audit there is a report: %v", r)
	}
	for i, world := range []string{"match", "match", "drift", "drift", "down", "down", "match"} {
		at := noon.Add(time.Duration(i) * time.Minute)
		want, _ := judge(l.state.Prior("base"), world, at)
		l.audit(world, at)
		if i%2 == 1 {
			l.restart()
		}
		got := l.state.Report()
		sameReport(t, want, got)
		compared := l.state.Compared()
		if len(compared) != 1 {
			t.Fatalf("%d chains were compared", len(compared))
		}
		wantID := got.AuditID
		if world == "down" {
			wantID = "A120300" // the last that compared
		}
		if c := compared[0]; c.AuditID != wantID || len(c.Targets[0].Entries) != 1 || c.Block.Time.Format("A150405") != wantID {
			t.Errorf("after %s, %s compared last, of block %v with %d entries, want %s", world, c.AuditID, c.Block, len(c.Targets[0].Entries), wantID)
		}
	}
}

func TestAnAuditOfOneChainLeavesTheOthers(t *testing.T) {
	l := newLife(t)
	r, out := judge(audit.Prior{}, "match", noon)
	ethereum, _ := judge(audit.Prior{}, "drift", noon)
	ethereum.Chains[0].Chain, ethereum.Chains[0].ChainID = "ethereum", 1
	l.state.Record(ethereum, map[string]audit.Prior{"ethereum": out.Next}, nil)
	l.state.Record(r, map[string]audit.Prior{"base": out.Next}, nil)
	r, out = judge(out.Next, "match", noon.Add(time.Hour))
	l.state.Record(r, map[string]audit.Prior{"base": out.Next}, nil)
	l.restart()
	got := l.state.Report()
	if len(got.Chains) != 2 || got.Verdict != audit.Drift || got.AuditID != "A130000" || !got.Chains[0].Block.Time.Equal(noon) || len(l.state.Prior("ethereum").Contracts) != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestAnotherChainIDForgetsAllButOpenFindings(t *testing.T) {
	l := newLife(t)
	l.audit("drift", noon)
	scan(t, l.state, kms, 150)
	for _, same := range []uint64{8453, 84532, 84532} {
		l.state.SetChainID("base", same)
		l.restart()
		p := l.state.Prior("base")
		_, scanned := l.state.Progress(kms)
		kept := same == 8453
		if len(p.Open) != 1 || (len(p.Contracts) == 1) != kept || (len(p.Blocks) == 1) != kept || scanned != kept || (l.state.Report() != nil) != kept || (p.Open[0].Block > 0) != kept {
			t.Errorf("on chain %d, %+v is known", same, p)
		}
	}
}

// TestALargeFileIsNotWrittenForTimesAlone audits ten thousand entries.
func TestALargeFileIsNotWrittenForTimesAlone(t *testing.T) {
	l := newLife(t)
	prior := audit.Prior{}
	keep := func(what string, at time.Time, n int, written bool) {
		t.Helper()
		before, _ := os.ReadFile(l.path)
		r, out := judge(prior, what, at)
		tg := &r.Chains[0].Targets[0]
		for i := range n {
			e := tg.Entries[0]
			e.ID = key(uint64(i)).Hex()[:50] + fmt.Sprintf("%016x", i*i*7919)
			e.Name = fmt.Sprintf("node %x", sha(i))
			tg.Entries = append(tg.Entries, e)
		}
		tg.Counts.Match += n
		prior = out.Next
		l.state.Record(r, map[string]audit.Prior{"base": prior}, out.Changes)
		must(t, l.state.Save())
		after, err := os.ReadFile(l.path)
		must(t, err)
		if slices.Equal(before, after) == written {
			t.Errorf("%s at %s with %d more entries is written: %t", what, at, n, !written)
		}
	}
	keep("drift", noon, 40_000, true)
	info, err := os.Stat(l.path)
	must(t, err)
	t.Logf("forty thousand entries take %d bytes", info.Size())
	keep("drift", noon.Add(time.Minute), 40_000, false)
	keep("match", noon.Add(2*time.Minute), 40_000, true)
	keep("match", noon.Add(3*time.Minute), 40_000, false)
	keep("match", noon.Add(4*time.Minute), 0, true)
	keep("match", noon.Add(5*time.Minute), 0, true) // it is small by now
}

func TestControlled(t *testing.T) {
	l := newLife(t)
	l.audit("match", noon.Add(-time.Hour))
	for _, tt := range []struct {
		world string
		seen  *audit.Control
		id    string
	}{
		{"down", &control, "A110000"}, {"taken", &taken, "A120200"}, {"down", &taken, "A120200"}, {"down", &taken, "A120200"},
	} {
		at := noon.Add(2 * time.Minute)
		l.audit(tt.world, at)
		l.restart()
		got := l.state.Controlled()
		want := []state.Controlled{{Target: kms, ChainID: 8453, Baseline: &audit.Baseline{Control: control, Since: noon.Add(-time.Hour)},
			Seen: &state.Seen{Control: *tt.seen, AuditID: tt.id}}}
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(state.Seen{}, "Block")); d != "" {
			t.Fatalf("after %s: %s", tt.world, d)
		}
		differs := map[bool][]string{true: {}, false: {"owner"}}[tt.seen == &control]
		if d := cmp.Diff(differs, got[0].Differs()); d != "" {
			t.Errorf("after %s: %s", tt.world, d)
		}
	}
}

// TestReadersBesideAnAudit is what the web server does while audits run; the race detector looks on.
func TestReadersBesideAnAudit(t *testing.T) {
	l := newLife(t)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				read(l.state)
				l.state.Report()
				l.state.Controlled()
				l.state.Explain(device, state.Filter{}, nil, nil)
			}
		})
	}
	for i := range uint64(20) {
		scan(t, l.state, kms, 110+10*i)
		must(t, l.state.Annotate(kms, l.state.Events(kms)[0]))
		must(t, l.state.Rewind(kms, 105+10*i, blockHash(105+10*i)))
		scan(t, l.state, kms, 110+10*i)
		l.audit([]string{"match", "drift", "down"}[i%3], noon.Add(time.Duration(i)*time.Minute))
	}
	must(t, l.state.Apply(forget(kms), nil))
	close(done)
	readers.Wait()
}
