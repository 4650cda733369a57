package observe_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/consensus"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/testenv/beacon"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
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
		if got, err := evidence.Verify(t.Context(), f, []common.Hash{checkpoint}); err != nil || got.Verdict() != want {
			t.Errorf("%s: %v, %+v", sentence, err, got)
		}
	}
	proves("as it is", audit.Consistent)
	c.First.Observation.Block.Trust, f.Report.Chains[0].Block.Trust = audit.TrustProviders, audit.TrustProviders
	proves("the documents are there, and lead to another block", audit.Unknown)
	c.First.Observation.Block.Trust = audit.TrustL1Anchored
	if _, err := evidence.Verify(t.Context(), f, nil); !errors.Is(err, evidence.ErrRefuted) || !strings.Contains(err.Error(), `is "l1_anchored", but has no proof`) {
		t.Errorf("L1 is said to hold the block: %v", err)
	}
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
	if _, err := evidence.Verify(t.Context(), f, []common.Hash{checkpoint}); err != nil {
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
	got, err := evidence.Verify(t.Context(), f, []common.Hash{w.opt.Checkpoint})
	must(t, err) // the committee of the checkpoint signed it
	if said := strings.Join(got.Trusted, "\n"); !strings.Contains(said, "sign for 8388608 slots") {
		t.Error(said)
	}
}

// TestEvidenceOfEthereumFollowsItsBeaconChain, and no other, whatever the file says of it.
func TestEvidenceOfEthereumFollowsItsBeaconChain(t *testing.T) {
	w := newAnchoredWorld(t)
	w.finalize(64)
	w.world.opt.Record = true
	a := w.auditor()
	a.says(audit.Consistent, "")
	f, err := evidence.New(a.result.Report, a.result.Records)
	must(t, err)
	c := &f.Chains[0]
	c.Intent.ChainID = 1
	refuted := func(says string) {
		t.Helper()
		if _, err := evidence.Verify(t.Context(), f, nil); !errors.Is(err, evidence.ErrRefuted) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	refuted("are not those of mainnet, the beacon chain of chain 1")
	own := c.First.Anchor.Network.Forks
	c.First.Anchor.Network = consensus.Mainnet
	refuted("verifying what the sync committees signed")
	c.First.Anchor.Network.Forks = append(slices.Clone(consensus.Mainnet.Forks), own...)
	refuted("are not those of mainnet")
}

// TestAgreementWithAnAnchor: two providers, one of which is behind, agree about the block that the committee finalized.
func TestAgreementWithAnAnchor(t *testing.T) {
	for _, verify := range []ethrpc.Verify{ethrpc.VerifyAuto, ethrpc.VerifyOff} {
		w := newAnchoredWorld(t)
		w.verify = verify
		w.mine(10)
		w.finalize(70)
		w.rpc = append(w.rpc, w.serve(w.proxy))
		w.world.intent.Agreement = 2
		r := w.auditor().says(audit.Consistent, "")
		if trustOf(r) != audit.TrustConsensus {
			t.Error(text(t, r))
		}
		// one of them invents its chain
		liar := w.invented(90, dev1, dev2)
		w.rpc[0] = w.serve(http.Handler(liar))
		r = w.auditor().audit()
		t.Log(verify, r.Verdict, trustOf(r), kindsOf(r))
	}
}

// TestDriftIsConfirmedWhileEndpointsHang, as behind a firewall: audits continue as without an anchor.
func TestDriftIsConfirmedWhileEndpointsHang(t *testing.T) {
	w := newAnchoredWorld(t)
	must(t, w.kms.AllowDevice(t.Context(), dev2))
	w.mine(40)
	w.finalize(64)
	w.world.opt.Timeout = 3 * time.Second // as 2m is to 40s
	hang := w.serve(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	w.opt.Endpoints = nil
	for _, name := range []string{"h1", "h2"} {
		w.opt.Endpoints = append(w.opt.Endpoints, anchor.Endpoint{Name: name, URL: sanitize.NewSecret(hang), Timeout: time.Second})
	}
	w.auditor().says(audit.Drift, "claim_denied_chain_allowed")
}

// TestAProviderThatHidesWhatIsFinal is refused although its own block follows the finalized one: it may be invented.
func TestAProviderThatHidesWhatIsFinal(t *testing.T) {
	w := newAnchoredWorld(t)
	w.mine(40) // the node says 96
	w.finalize(64)
	w.proxy.Set(rpcfault.Null("eth_getBlockByHash"))
	r := w.says(audit.Unknown, "")
	if trustOf(r) != "" {
		t.Error(text(t, r))
	}
	w.rpc = append(w.rpc, w.serve(rpcfault.New(w.chain.URL())))
	if r := w.says(audit.Consistent, ""); trustOf(r) != audit.TrustConsensus {
		t.Error(text(t, r))
	}
}

// TestALieDuringAnOutageIsNotForEver: a block that was invented while no endpoint answered is no bound for those that the sync
// committee signed since then, and neither is what it showed.
func TestALieDuringAnOutageIsNotForEver(t *testing.T) {
	w := newAnchoredWorld(t)
	w.finalize(64)
	a := w.auditor()
	a.says(audit.Consistent, "")
	w.down.Store(true)
	honest := w.rpc
	w.rpc = []string{w.serve(w.invented(400, dev1, dev2))}
	liar := w.auditor()
	liar.prior = a.prior
	if r := liar.says(audit.Drift, "claim_denied_chain_allowed"); trustOf(r) != audit.TrustProviders {
		t.Errorf("%s", text(t, r))
	}
	w.down.Store(false)
	w.rpc = honest
	after := w.auditor()
	after.prior = liar.prior
	after.says(audit.Unknown, "(claim_denied_chain_allowed) chain_went_back") // what is signed is older than the lie, which may be true
	must(t, w.chain.AdjustTime(2000*time.Second))
	observe.SetClock(t, 3000*time.Second)
	w.mine(40)
	w.finalize(w.header("finalized").Number.Uint64())
	for range 2 {
		if r := after.says(audit.Consistent, ""); trustOf(r) != audit.TrustConsensus {
			t.Errorf("%s", text(t, r))
		}
	}
	if b := after.prior["test"].Blocks[0].Number; b != w.header("finalized").Number.Uint64() {
		t.Errorf("block %d is remembered", b)
	}
}

// TestEvidenceOfSeveralAnchoredChains is proven from a checkpoint of each, and each that is given must be one of them.
func TestEvidenceOfSeveralAnchoredChains(t *testing.T) {
	f, chains, roots := &evidence.File{}, []audit.Chain{}, []common.Hash{}
	for _, name := range []string{"first", "second"} {
		w := newAnchoredWorld(t)
		w.world.opt.Record = true
		w.opt.Checkpoint = w.beacon.Finalize(w.header(fmt.Sprintf("0x%x", 32+len(roots))))
		w.finalize(40)
		a := w.auditor()
		a.says(audit.Consistent, "")
		one, err := evidence.New(a.result.Report, a.result.Records)
		must(t, err)
		one.Report.Chains[0].Chain, one.Chains[0].Intent.Chain = name, name
		chains, roots = append(chains, one.Report.Chains[0]), append(roots, w.opt.Checkpoint)
		one.Chains, f = append(f.Chains, one.Chains...), one
	}
	f.Report = audit.NewReport("A1", "test", f.Report.StartedAt, f.Report.FinishedAt, chains)
	for _, row := range []struct {
		sentence string
		given    []common.Hash
		says     string
	}{
		{"none is given", nil, ""},
		{"both are", roots, ""},
		{"in another order", []common.Hash{roots[1], roots[0]}, ""},
		{"one is missing", roots[:1], "chain second: its light client starts at checkpoint " + roots[1].Hex()},
		{"one is of neither", append(slices.Clone(roots), dev1), "no chain's light client starts at checkpoint " + dev1.Hex()},
	} {
		got, err := evidence.Verify(t.Context(), f, row.given)
		switch {
		case row.says == "" && (err != nil || got.Verdict() != audit.Consistent):
			t.Errorf("%s: %v, %+v", row.sentence, err, got)
		case row.says != "" && (!errors.Is(err, evidence.ErrRefuted) || !strings.Contains(err.Error(), row.says)):
			t.Errorf("%s: %v, want %q", row.sentence, err, row.says)
		}
	}
}
