package observe_test

import (
	"testing"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/consensus"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/testenv/beacon"
)

// TestEvidenceOfALightClientThatBeganAnewBetweenTwoLooks has one checkpoint: what the first look proved is no other.
func TestEvidenceOfALightClientThatBeganAnewBetweenTwoLooks(t *testing.T) {
	w := newAnchoredWorld(t)
	w.beacon = beacon.New(beacon.Options{GenesisTime: w.beacon.GenesisTime, EpochsPerPeriod: 4})
	network, err := consensus.NetworkFromSpec(w.beacon.Spec())
	must(t, err)
	w.opt.Network, w.opt.Checkpoint = network, w.beacon.Finalize(w.header("0x20"))
	must(t, w.kms.AllowDevice(t.Context(), dev2))
	w.mine(11 * 32)
	w.finalize(w.header("finalized").Number.Uint64())
	w.world.opt.Record = true
	a := w.auditor()
	a.says(audit.Drift, "claim_denied_chain_allowed")
	f, err := evidence.New(a.result.Report, a.result.Records)
	must(t, err)
	if c := f.Chains[0]; c.First.Anchor.Checkpoint == c.Second.Anchor.Checkpoint {
		t.Fatalf("after %d updates it did not begin anew", len(c.First.Anchor.Updates))
	}
	checkpoint := w.opt.Checkpoint
	if _, err := evidence.Verify(t.Context(), f, &checkpoint); err != nil {
		t.Error(err)
	}
}
