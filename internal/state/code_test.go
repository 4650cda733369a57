package state_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/footprint"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

// TestTheCodeOfOlderReleases is read as a list: from files of today's schema and from a database, from baselines, from reports
// and from what was asked for. It is no change.
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
