package memory_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/history"
	"github.com/kms-auditor/kms-auditor/internal/memory"
)

func TestFindingsOutliveTheProcess(t *testing.T) {
	for _, tt := range []struct {
		sentence string
		states   string // one an hour; the program is killed at each |
		changes  string // hour and event
	}{
		{"it opens once", "drift, | drift, drift, | drift", "0 opened"},
		{"it is resolved after a restart", "drift, drift, | match, | match", "0 opened, 2 resolved"},
		{"a source that fails at the restart resolves nothing", "drift, | down, | drift, match", "0 opened, 3 resolved"},
		{"it comes back", "drift, | match, | drift", "0 opened, 1 resolved, 2 opened"},
		{"a reminder a day, restarts or not", strings.TrimSuffix(strings.Repeat("drift, | ", 50), ", | "), "0 opened, 24 open, 48 open"},
		{"no reminder while it is known", "drift, " + strings.Repeat("| drift, ", 22) + "match", "0 opened, 23 resolved"},
		{"one that the whole contract has", "taken, | taken, | match", "0 opened, 2 resolved"},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			l := newLife(t)
			var got []string
			var first time.Time
			for hour, state := range strings.Split(tt.states, ", ") {
				if strings.HasPrefix(state, "| ") {
					l.restart()
				}
				at := noon.Add(time.Duration(hour) * time.Hour)
				for _, c := range l.audit(strings.TrimPrefix(state, "| "), at) {
					got = append(got, fmt.Sprintf("%d %s", hour, strings.TrimPrefix(string(c.Type), "finding_")))
					if c.Type == audit.Opened {
						first = at
					}
					if !c.FirstSeen.Equal(first) {
						t.Errorf("at %s it was first seen at %s, want %s", at, c.FirstSeen, first)
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
	l.audit("drift", noon.Add(20*time.Minute))
	l.restart()
	if open := l.memory.Open(); len(open) != 1 || !open[0].LastSeen.Equal(noon) {
		t.Errorf("before an hour, open is %+v", open)
	}
	l.audit("drift", noon.Add(time.Hour))
	l.audit("drift", noon.Add(100*time.Minute))
	l.audit("drift", noon.Add(2*time.Hour))
	l.restart()
	open := l.memory.Open()
	if len(open) != 1 || !open[0].FirstSeen.Equal(noon) || !open[0].LastSeen.Equal(noon.Add(2*time.Hour)) || open[0].Finding.ID != device {
		t.Errorf("after two hours, open is %+v", open)
	}
	l.audit("match", noon.Add(3*time.Hour))
	l.restart()
	gone := l.memory.Resolved()
	if len(l.memory.Open()) != 0 || len(gone) != 1 || !gone[0].ResolvedAt.Equal(noon.Add(3*time.Hour)) ||
		!gone[0].LastSeen.Equal(noon.Add(2*time.Hour)) || !gone[0].FirstSeen.Equal(noon) || gone[0].Contract != contract.Hex() {
		t.Errorf("after it was resolved, resolved is %+v", gone)
	}
}

// TestWhatCouldNotBeKeptIsKeptLater has two audits fail to be written, since no JSON can spell their time.
func TestWhatCouldNotBeKeptIsKeptLater(t *testing.T) {
	l := newLife(t)
	unwritten := func(state string, at time.Time) {
		t.Helper()
		r := report(state, at)
		changes := l.tracker.Update(r)
		r.StartedAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
		if err := l.memory.Keep(r, l.tracker.Open(), changes); err == nil {
			t.Fatal("the state took a year of five digits")
		}
	}
	l.audit("taken", noon)
	unwritten("drift", noon.Add(time.Minute)) // the owner is back
	unwritten("drift", noon.Add(2*time.Minute))
	if changes := l.audit("drift", noon.Add(3*time.Minute)); len(changes) > 0 {
		t.Fatalf("the difference is told again: %+v", changes)
	}
	l.restart()
	open, gone := l.memory.Open(), l.memory.Resolved()
	if len(open) != 1 || open[0].Finding.ID != device || !open[0].FirstSeen.Equal(noon.Add(time.Minute)) {
		t.Errorf("open is %+v", open)
	}
	if len(gone) != 1 || gone[0].Finding.Kind != audit.OwnerChanged || !gone[0].ResolvedAt.Equal(noon.Add(time.Minute)) {
		t.Errorf("resolved is %+v", gone)
	}
}

func TestTheLastThousandResolvedAreKept(t *testing.T) {
	l := newLife(t)
	r := report("match", noon)
	changes := make([]audit.Change, 1500)
	for i := range changes {
		changes[i] = audit.Change{Type: audit.Resolved, Chain: "base", Finding: audit.Finding{ID: fmt.Sprint(i)}}
	}
	if err := l.memory.Keep(r, nil, changes); err != nil {
		t.Fatal(err)
	}
	l.restart()
	if gone := l.memory.Resolved(); len(gone) != 1000 || gone[0].Finding.ID != "500" || gone[999].Finding.ID != "1499" {
		t.Errorf("%d are kept, from %s", len(gone), gone[0].Finding.ID)
	}
}

// sameReport compares reports as their readers see them.
func sameReport(t *testing.T, want, got any) {
	t.Helper()
	a, err := json.MarshalIndent(want, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.MarshalIndent(got, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(a), string(b)); d != "" {
		t.Error(d)
	}
}

func TestReportOutlivesTheProcess(t *testing.T) {
	l := newLife(t)
	if r, err := l.memory.Report(); r != nil || err != nil {
		t.Errorf("before any audit there is a report: %v, %v", r, err)
	}
	for i, state := range []string{"match", "match", "drift", "drift", "down", "down", "match"} {
		at := noon.Add(time.Duration(i) * time.Minute)
		l.audit(state, at)
		if i%2 == 1 {
			l.restart()
		}
		got, err := l.memory.Report()
		if err != nil {
			t.Fatal(err)
		}
		want := report(state, at)
		for _, f := range l.memory.Open() {
			for j := range want.Chains[0].Targets[0].Findings {
				want.Chains[0].Targets[0].Findings[j].FirstSeen = &f.FirstSeen
				want.Chains[0].Targets[0].Entries[j].FirstSeen = &f.FirstSeen
			}
		}
		sameReport(t, want, got)
		compared, err := l.memory.Compared()
		if err != nil || len(compared) != 1 {
			t.Fatalf("%d chains were compared (%v)", len(compared), err)
		}
		wantID := got.AuditID
		if state == "down" {
			wantID = "A120300" // the last that compared
		}
		if _, aside := l.store.Load(history.Target{}, "compared:base"); aside != (state == "down") {
			t.Errorf("after %s, an older report is kept: %t", state, aside)
		}
		if c := compared[0]; c.AuditID != wantID || len(c.Targets[0].Entries) != 1 || c.Block.Time.Format("A150405") != wantID {
			t.Errorf("after %s, %s compared last, of block %v with %d entries, want %s", state, c.AuditID, c.Block, len(c.Targets[0].Entries), wantID)
		}
	}
}

func TestAnAuditOfOneChainLeavesTheOthers(t *testing.T) {
	l := newLife(t)
	r := report("match", noon)
	ethereum := report("drift", noon).Chains[0]
	ethereum.Chain, ethereum.ChainID = "ethereum", 1
	r.Chains = append(r.Chains, ethereum)
	for _, r := range []*audit.Report{r, report("match", noon.Add(time.Hour))} {
		if err := l.memory.Keep(r, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	l.restart()
	got, err := l.memory.Report()
	if err != nil || len(got.Chains) != 2 || got.Verdict != audit.Drift || got.AuditID != "A130000" || !got.Chains[1].Block.Time.Equal(noon) {
		t.Errorf("got %+v (%v)", got, err)
	}
}

// TestWhatStaysIsNotWritten keeps reports of ten thousand entries, of which each has its audit's id in its blob.
func TestWhatStaysIsNotWritten(t *testing.T) {
	l := newLife(t)
	first := report("match", noon).Chains[0].Targets[0].Entries[0]
	entries := make([]audit.Entry, 10_000)
	for i := range entries {
		entries[i] = first
		entries[i].ID = fmt.Sprintf("0x%064x", i*i*7919)
	}
	other := slices.Clone(entries)
	other[9_999].OnChain = audit.ChainDenied
	var blob []byte
	for i, tt := range []struct {
		sentence string
		entries  []audit.Entry
		written  bool
	}{
		{"the first report is written", entries, true},
		{"the next, which shares its entries, is not", entries, false},
		{"an equal one is not", slices.Clone(entries), false},
		{"one that differs in one entry is", other, true},
		{"and so is one that differs back", entries, true},
	} {
		r := report("match", noon.Add(time.Duration(i)*time.Minute))
		r.Chains[0].Targets[0].Entries = tt.entries
		if err := l.memory.Keep(r, nil, nil); err != nil {
			t.Fatal(err)
		}
		now, _ := l.store.Load(history.Target{}, "last:base")
		if slices.Equal(blob, now) == tt.written {
			t.Error(tt.sentence)
		}
		blob = now
		got, err := l.memory.Report()
		if err != nil {
			t.Fatal(err)
		}
		sameReport(t, r, got)
	}
	t.Logf("ten thousand entries take %d bytes", len(blob))
}

func TestBaselines(t *testing.T) {
	l := newLife(t)
	base := l.memory.Baselines(8453)
	if _, ok := base.Baseline(contract); ok {
		t.Error("there is a baseline at first")
	}
	first := audit.Baseline{Control: control, Since: noon}
	for _, b := range []audit.Baseline{first, {Control: taken, Since: noon.Add(time.Hour)}} {
		if err := base.Begin(contract, b); err != nil {
			t.Fatal(err)
		}
	}
	l.restart()
	if got, _ := l.memory.Baselines(8453).Baseline(contract); got != first {
		t.Errorf("first seen is %+v", got)
	}
	if _, ok := l.memory.Baselines(1).Baseline(contract); ok {
		t.Error("the same address on another chain has it too")
	}
	if err := l.memory.Accept(8453, contract, taken, noon.Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	l.restart()
	want := audit.Baseline{Control: taken, Since: noon.Add(2 * time.Hour), Accepted: true}
	if got, _ := l.memory.Baselines(8453).Baseline(contract); got != want {
		t.Errorf("accepted is %+v", got)
	}
}

func TestControlled(t *testing.T) {
	l := newLife(t)
	if err := l.memory.Baselines(8453).Begin(contract, audit.Baseline{Control: control, Since: noon}); err != nil {
		t.Fatal(err)
	}
	seen := &memory.Seen{Control: taken, Block: *report("taken", noon).Chains[0].Block, AuditID: "A120000"}
	for _, tt := range []struct {
		state string
		want  *memory.Seen
	}{
		{"down", nil}, {"taken", seen}, {"down", seen}, {"down", seen},
	} {
		l.audit(tt.state, noon)
		l.restart()
		got, err := l.memory.Controlled()
		want := []memory.Controlled{{Target: target, Baseline: &audit.Baseline{Control: control, Since: noon}, Seen: tt.want}}
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" || err != nil {
			t.Fatalf("after %s: %s (%v)", tt.state, d, err)
		}
		differs := map[bool][]string{true: {}, false: {"owner"}}[tt.want == nil]
		if d := cmp.Diff(differs, got[0].Differs()); d != "" {
			t.Errorf("after %s: %s", tt.state, d)
		}
	}
}

func TestWhatCannotBeReadIsRefused(t *testing.T) {
	for _, tt := range []struct {
		sentence, want string
		blob           history.Blob
	}{
		{"findings that are not packed", "reading findings from the state: ", history.Blob{Name: "findings", Data: []byte("{}")}},
		{"audits of another form", "reading audits from the state: ", history.Blob{Name: "audits", Data: []byte{0x1f, 0x8b}}},
		{"a baseline of another form", "reading the baseline of " + target.String() + " from the state: ", history.Blob{Target: target, Name: "baseline", Data: []byte("[]")}},
	} {
		s, err := history.Open("")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SaveAll(tt.blob); err != nil {
			t.Fatal(err)
		}
		if _, err := memory.New(s); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: the error is %v, want %s", tt.sentence, err, tt.want)
		}
	}
}
