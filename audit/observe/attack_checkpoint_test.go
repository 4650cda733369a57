package observe_test

import (
	"testing"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
)

// TestACheckpointProvesNothingOfAChainWithoutAnAnchor: --checkpoint must not pass over it.
func TestACheckpointProvesNothingOfAChainWithoutAnAnchor(t *testing.T) {
	w := newAnchoredWorld(t)
	w.finalize(40)
	w.world.opt.Record = true
	a := w.auditor()
	a.says(audit.Consistent, "")
	f, err := evidence.New(a.result.Report, a.result.Records)
	must(t, err)
	checkpoint, c := w.opt.Checkpoint, &f.Chains[0]
	proves := func(sentence string, want audit.Verdict) {
		t.Helper()
		if got, err := evidence.Verify(t.Context(), f, &checkpoint); err != nil || got.Verdict() != want {
			t.Errorf("%s: %v, %+v", sentence, err, got)
		}
	}
	proves("as it is", audit.Consistent)
	c.First.Observation.Block.Trust, f.Report.Chains[0].Block.Trust = audit.TrustProviders, audit.TrustProviders
	proves("the documents are there, and lead to another block", audit.Unknown)
	c.First.Anchor, c.First.Observation.Anchored, c.First.Observation.Finalized, c.First.Observation.Block.Trust = nil, nil, nil, ""
	f.Report.Chains[0].Anchored = nil
	proves("it has no anchor", audit.Unknown)
}
