package observe_test

import (
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/consensus"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/testenv/beacon"
)

// TestDriftIsConfirmedWhereTheProvidersFinalizedBlockIsBehind what the sync committee finalized.
func TestDriftIsConfirmedWhereTheProvidersFinalizedBlockIsBehind(t *testing.T) {
	w := newAnchoredWorld(t)
	must(t, w.kms.AllowDevice(t.Context(), dev2))
	w.mine(30)
	w.finalize(w.header("latest").Number.Uint64() - 2) // the node says 64
	w.says(audit.Drift, "claim_denied_chain_allowed")
}

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
