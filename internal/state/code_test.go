package state_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/footprint"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

// TestTheCodeOfOlderReleases is converted to a list, in files of the current schema, databases, baselines, reports
// and requests. That is not a change.
func TestTheCodeOfOlderReleases(t *testing.T) {
	l := &life{t: t, path: file(t)}
	l.restart()
	l.audit("match", noon)
	old := audit.Control{Owner: control.Owner, Code: footprint.Code{CodeHash: code.Accounts[0].CodeHash}}
	p := l.state.Prior("base")
	p.Contracts[0].Baseline.Control = old
	r, _ := judge(p, "taken", noon.Add(time.Minute))
	*r.Chains[0].Targets[0].Control = audit.Control{Owner: taken.Owner, Code: old.Code}
	l.state.Record(r, map[string]audit.Prior{"base": p}, nil)
	must(t, l.state.Save())
	must(t, state.Enqueue(l.path, request(audit.Control{Owner: taken.Owner, Code: old.Code})))
	l.restart()
	known := l.state.Controlled()[0]
	if diff := cmp.Diff(control, known.Baseline.Control); diff != "" {
		t.Errorf("the baseline (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(taken, known.Seen.Control); diff != "" {
		t.Errorf("the last report (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"owner"}, known.Differs()); diff != "" {
		t.Errorf("what differs (-want +got):\n%s", diff)
	}
	if changes := l.audit("match", noon.Add(2*time.Minute)); len(changes) != 0 {
		t.Errorf("an audit that finds what was: %+v", changes)
	}
	l.audit("taken", noon.Add(3*time.Minute))
	if told, err := l.take(); err != nil || len(told) != 1 || told[0] != "accepted "+taken.Owner {
		t.Errorf("what was asked for: %q, %v", told, err)
	}
	path := file(t)
	write(t, path, released(t, "schema2"))
	for _, c := range []audit.Control{view(t, path).Controlled()[0].Baseline.Control, view(t, path).Controlled()[0].Seen.Control} {
		if len(c.Accounts) != 2 || c.Accounts[1].Role != footprint.Implementation || c.Accounts[1].Address != c.Implementation || c.Complete || c.CodeHash != "" {
			t.Errorf("the code of a database is %+v", c.Code)
		}
	}
}

// TestWhatIsAcceptedWithoutAProof keeps the code that a proof had shown to run, where all that is known of it is the same.
func TestWhatIsAcceptedWithoutAProof(t *testing.T) {
	library := footprint.Account{Address: "0x0000000000000000000000000000000000000009", Role: footprint.Library, CodeHash: "0x09"}
	for _, row := range []struct {
		sentence string
		was      footprint.Code
		want     int // accounts
	}{
		{"nothing more was known", code, 1},
		{"a library ran", footprint.Code{Accounts: append([]footprint.Account{code.Accounts[0]}, library), Complete: true}, 2},
		{"a library ran, and the contract's code was another", footprint.Code{Accounts: []footprint.Account{{Address: kms.Contract.Hex(), CodeHash: "0x"}, library}, Complete: true}, 1},
	} {
		l := &life{t: t, path: file(t)}
		l.restart()
		l.audit("match", noon)
		p := l.state.Prior("base")
		p.Contracts[0].Baseline.Control.Code = row.was
		r, _ := judge(p, "taken", noon.Add(time.Minute))
		l.state.Record(r, map[string]audit.Prior{"base": p}, nil)
		must(t, state.Enqueue(l.path, request(taken)))
		if told, err := l.take(); err != nil || len(told) != 1 || told[0] != "accepted "+taken.Owner {
			t.Fatalf("%s: %q, %v", row.sentence, told, err)
		}
		if is := l.baseline().Control; is.Owner != taken.Owner || len(is.Accounts) != row.want || is.Complete != (row.want == 2) {
			t.Errorf("%s: %+v", row.sentence, is)
		}
	}
}
