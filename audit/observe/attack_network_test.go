package observe_test

import (
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/testenv/beacon"
)

// TestEvidenceSaysWhichBeaconChainItBelieves: in a file that says that one committee signs for ever, the keys of an old one prove
// any block from the reader's checkpoint.
func TestEvidenceSaysWhichBeaconChainItBelieves(t *testing.T) {
	w := newAnchoredWorld(t)
	w.beacon = beacon.New(beacon.Options{GenesisTime: w.beacon.GenesisTime})
	w.opt.Checkpoint = w.beacon.Finalize(w.header("0x20"))
	w.finalize(64)
	w.world.opt.Record = true
	a := w.auditor()
	a.says(audit.Consistent, "")
	f, err := evidence.New(a.result.Report, a.result.Records)
	must(t, err)
	n := &f.Chains[0].First.Anchor.Network
	n.EpochsPerSyncCommitteePeriod = 1 << 20
	got, err := evidence.Verify(t.Context(), f, &w.opt.Checkpoint)
	must(t, err) // the committee of the checkpoint signed it
	if said := strings.Join(got.Trusted, "\n"); !strings.Contains(said, "sign for 8388608 slots each") {
		t.Error(said)
	}
}
