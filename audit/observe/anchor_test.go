package observe_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/consensus"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/testenv/beacon"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// anchoredWorld is a chain whose blocks a beacon chain finalizes.
type anchoredWorld struct {
	*world
	beacon *beacon.Chain
	down   atomic.Bool // the beacon endpoint refuses
	asked  atomic.Int64
	opt    anchor.Options
}

func newAnchoredWorld(t *testing.T) *anchoredWorld {
	t.Helper()
	observe.SetClock(t, 1000*time.Second) // the blocks of a simulated chain are of the future, once more than one a second is made
	w := &anchoredWorld{world: provenWorld(t)}
	w.mine(70)
	genesis := w.header("0x1").Time
	w.beacon = beacon.New(beacon.Options{GenesisTime: genesis})
	network, err := consensus.NetworkFromSpec(w.beacon.Spec())
	must(t, err)
	url := w.serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.asked.Add(1); w.down.Load() {
			http.Error(rw, "down", http.StatusServiceUnavailable)
			return
		}
		w.beacon.ServeHTTP(rw, r)
	}))
	w.tags, w.verify, w.world.intent.Anchored, w.world.intent.Baselines = "finalized", ethrpc.VerifyAuto, true, true
	w.world.opt.ConfirmDelay = 0
	w.opt = anchor.Options{
		Network: network, Checkpoint: w.beacon.Finalize(w.header("0x20")), // block 32
		Endpoints: []anchor.Endpoint{{Name: "beacon1", URL: sanitize.NewSecret(url)}},
	}
	w.more = func(c *observe.Chain) {
		client, err := anchor.New(w.opt)
		must(t, err)
		t.Cleanup(client.Close)
		c.Anchor = client
	}
	return w
}

func (w *anchoredWorld) mine(n int) {
	for range n {
		w.chain.Commit()
	}
}

func (w *anchoredWorld) header(block string) *types.Header { return headerOf(w.t, w.chain, block) }

func headerOf(t *testing.T, chain *testchain.Chain, block string) *types.Header {
	t.Helper()
	c, err := rpc.DialContext(context.Background(), chain.URL())
	must(t, err)
	defer c.Close()
	var h types.Header
	must(t, c.CallContext(context.Background(), &h, "eth_getBlockByNumber", block, false))
	return &h
}

// invented is a chain of the same contract on which these devices are allowed, behind its proxy.
func (w *world) invented(blocks int, devices ...common.Hash) *rpcfault.Proxy {
	w.t.Helper()
	other, err := testchain.Start(testchain.Options{})
	must(w.t, err)
	w.t.Cleanup(func() { other.Close() })
	k, err := other.Deploy(w.t.Context(), testchain.DeployOptions{})
	must(w.t, err)
	must(w.t, k.Seed(w.t.Context(), devices, []common.Hash{img1}))
	for range blocks {
		other.Commit()
	}
	return rpcfault.New(other.URL())
}

func trustOf(r *audit.Report) audit.Trust {
	if r.Chains[0].Block == nil {
		return ""
	}
	return r.Chains[0].Block.Trust
}

func (w *anchoredWorld) finalize(number uint64) {
	w.beacon.Finalize(w.header("0x" + strconv.FormatUint(number, 16)))
}

func TestTheSyncCommitteeVouchesForTheBlock(t *testing.T) {
	w := newAnchoredWorld(t)
	w.finalize(64)
	a := w.auditor()
	r := a.says(audit.Consistent, "")
	if through := r.Chains[0].Anchored; trustOf(r) != audit.TrustConsensus || r.Chains[0].Block.Number != 64 || through == nil || through.Number != 64 || through.Hash != r.Chains[0].Block.Hash {
		t.Errorf("%s", text(t, r))
	}
	for range 2 {
		before, asked := w.proxy.Requests(), w.asked.Load()
		if a.says(audit.Consistent, ""); w.proxy.Requests()-before != 1 || w.asked.Load()-asked != 1 {
			t.Errorf("an unchanged audit takes %d round trips to the provider, and %d to the beacon endpoint", w.proxy.Requests()-before, w.asked.Load()-asked)
		}
	}
	if a.prior["test"].Finalized == nil {
		t.Error("the next process has no block to go on from")
	}
	w.down.Store(true)
	if r := a.says(audit.Consistent, ""); trustOf(r) != audit.TrustConsensus {
		t.Errorf("what was finalized stays so: %s", text(t, r))
	}
	w.mine(40)
	if r := a.says(audit.Consistent, ""); trustOf(r) != audit.TrustProviders || !strings.Contains(text(t, r), "beacon1") {
		t.Errorf("the beacon endpoint is down: %s", text(t, r))
	}
	w.world.intent.AnchorMust = true
	if r := w.auditor().says(audit.Unknown, ""); r.Chains[0].Block != nil {
		t.Errorf("somebody must vouch for the block: %s", text(t, r))
	}
}

func TestWhatIsFinalIsReadWhateverTheProviderCallsFinalized(t *testing.T) {
	w := newAnchoredWorld(t)
	r := w.auditor().says(audit.Consistent, "") // the node says 64
	if b := r.Chains[0].Block; b.Number != 32 || b.Trust != audit.TrustConsensus || r.Chains[0].Policy != "finalized" {
		t.Errorf("%s", text(t, r))
	}
	w.mine(30)
	w.finalize(90)
	if r := w.auditor().says(audit.Consistent, ""); r.Chains[0].Block.Number != 90 || trustOf(r) != audit.TrustConsensus {
		t.Errorf("the node is behind: %s", text(t, r))
	}
	w.mine(70)
	if r := w.auditor().says(audit.Consistent, ""); !strings.Contains(text(t, r), "it reports block 160 as finalized, but the sync committee finalized block 90") {
		t.Errorf("the node is far ahead: %s", text(t, r))
	}
}

// TestAnInventedChain of any length is refused with the policy finalized, and another provider takes over.
func TestAnInventedChain(t *testing.T) {
	for _, row := range []struct {
		sentence string
		blocks   int // of the invented chain
		tags     string
		headers  bool // it shows its headers
		kinds    string
	}{
		{"it is as long", 70, "finalized", true, "block_contradicted"},
		{"it is longer", 100, "finalized", true, "block_contradicted"},
		{"it is shorter", 40, "finalized", true, ""},
		{"it is longer, and hides its headers", 100, "finalized", false, ""},
		{"its head is read", 100, "latest-5", true, "block_contradicted"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			w := newAnchoredWorld(t)
			w.finalize(64)
			w.beacon.Attest(w.header("latest"))
			w.tags = row.tags
			liar := w.invented(row.blocks, dev1, dev2)
			if !row.headers {
				liar.Set(rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
					if c.Method == "eth_getBlockByNumber" && strings.HasPrefix(string(c.Params[0]), `"0x`) {
						a.Result = []byte("null")
					}
				}})
			}
			honest := w.rpc
			w.rpc = []string{w.serve(liar)}
			w.says(audit.Unknown, row.kinds)
			w.rpc = append(w.rpc, honest...)
			r := w.says(audit.Consistent, "")
			if trustOf(r) != audit.TrustConsensus || !strings.Contains(text(t, r), "first") {
				t.Errorf("%s", text(t, r))
			}
			// What it allows besides is claimed, and it is asked for the newest block: that must not make the drift pending.
			w.contract(func(c *fakeapi.Contract) { c.Devices[1].Allowed = &yes })
			w.world.intent.PendingMax = time.Hour
			w.says(audit.Drift, "claim_allowed_chain_denied")
		})
	}
}

// TestAProviderThatLacksWhatIsFinal is refused, although its finalized block follows: it may have invented every block since.
func TestAProviderThatLacksWhatIsFinal(t *testing.T) {
	w := newAnchoredWorld(t)
	w.mine(40)
	w.finalize(64)
	w.proxy.Set(rpcfault.Null("eth_getBlockByHash"))
	if r := w.says(audit.Unknown, ""); r.Chains[0].Block != nil || !strings.Contains(text(t, r), "it does not have block 64") {
		t.Errorf("%s", text(t, r))
	}
}

func (w *anchoredWorld) says(verdict audit.Verdict, kinds string) *audit.Report {
	w.t.Helper()
	return w.auditor().says(verdict, kinds)
}

// TestBlocksBesideTheFinalizedOne are vouched for if headers lead to them from a signed block.
func TestBlocksBesideTheFinalizedOne(t *testing.T) {
	w := newAnchoredWorld(t)
	w.finalize(40)
	head := w.header("latest").Number.Uint64()
	w.beacon.Attest(headerOf(t, w.chain, "0x"+strconv.FormatUint(head-2, 16)))
	for tags, trust := range map[string]audit.Trust{
		"latest-2": audit.TrustConsensus, "latest-7": audit.TrustConsensus, "latest-1": audit.TrustProviders, "latest": audit.TrustProviders, "35": audit.TrustConsensus,
	} {
		w.tags = tags
		r := w.says(audit.Consistent, "")
		if trustOf(r) != trust {
			t.Errorf("%s: %s", tags, text(t, r))
		}
		if trust == audit.TrustProviders && !strings.Contains(text(t, r), "newer than") {
			t.Errorf("%s: the report does not say why: %s", tags, text(t, r))
		}
		w.world.intent.AnchorMust = true
		if r := w.audit(); (r.Chains[0].Block == nil) != (trust == audit.TrustProviders) {
			t.Errorf("%s, and somebody must vouch for the block: %s", tags, text(t, r))
		}
		w.world.intent.AnchorMust = false
	}
}

// TestAFindingDoesNotEndByLessTrust: whoever silences the beacon endpoint must not resolve it with an invented chain.
func TestAFindingDoesNotEndByLessTrust(t *testing.T) {
	w := newAnchoredWorld(t)
	must(t, w.kms.AllowDevice(t.Context(), dev2))
	w.mine(40)
	w.finalize(w.header("finalized").Number.Uint64())
	a := w.auditor()
	a.says(audit.Drift, "claim_denied_chain_allowed")
	must(t, w.kms.RemoveDevice(t.Context(), dev2))
	w.mine(40)
	w.down.Store(true)
	a.says(audit.Unknown, "(claim_denied_chain_allowed)")
	w.down.Store(false)
	w.finalize(w.header("finalized").Number.Uint64())
	a.says(audit.Consistent, "")
}

// TestAContradictedBlockIsOpenUntilAnotherIsVouchedFor across an outage of the beacon endpoint.
func TestAContradictedBlockIsOpenUntilAnotherIsVouchedFor(t *testing.T) {
	w := newAnchoredWorld(t)
	w.finalize(64)
	a := w.auditor()
	a.says(audit.Consistent, "")
	lie := func(c rpcfault.Call, answer *rpcfault.Answer) {
		if c.Method == "eth_getBlockByHash" {
			answer.Result = []byte("null")
		}
		if c.Method == "eth_getBlockByNumber" && string(c.Params[0]) == `"finalized"` {
			h := w.header("0x40")
			h.Extra = []byte("another")
			b, err := h.MarshalJSON()
			must(t, err)
			answer.Result = []byte(strings.Replace(string(b), "{", `{"transactions":[],`, 1))
		}
	}
	w.proxy.Set(rpcfault.Fault{Reply: lie})
	a.says(audit.Unknown, "block_contradicted")
	w.proxy.Set(rpcfault.Fault{})
	w.down.Store(true)
	w.mine(40)
	a.says(audit.Unknown, "(block_contradicted)")
	w.down.Store(false)
	w.finalize(96)
	a.says(audit.Consistent, "")
}

// TestEvidenceFromOneCheckpoint verifies offline what the sync committee vouches for.
func TestEvidenceFromOneCheckpoint(t *testing.T) {
	w := newAnchoredWorld(t)
	w.finalize(40)
	w.world.opt.Record = true
	for _, tag := range []string{"finalized", "35"} { // headers lead to the latter
		w.tags = tag
		a := w.auditor()
		a.says(audit.Consistent, "")
		f, err := evidence.New(a.result.Report, a.result.Records)
		must(t, err)
		checkpoint := w.opt.Checkpoint
		got, err := evidence.Verify(t.Context(), f, []common.Hash{checkpoint})
		must(t, err)
		if said := strings.Join(got.Checked, "\n"); !strings.Contains(said, "from checkpoint "+checkpoint.Hex()) || got.Report.Chains[0].Block.Trust != audit.TrustConsensus {
			t.Errorf("%s: %s\n%s", tag, said, text(t, got.Report))
		}
		for sentence, change := range map[string]func(){
			"another checkpoint is trusted": func() { checkpoint[0]++ },
			"another block is final":        func() { f.Chains[0].First.Observation.Anchored.Number++ },
			"another root is final":         func() { f.Chains[0].First.Observation.Finalized.Root[0]++ },
			"a document is changed": func() {
				body := f.Chains[0].First.Anchor.Finality.Body
				f.Chains[0].First.Anchor.Finality.Body = body[:len(body)-1]
			},
			"a document is of later":     func() { f.Chains[0].First.Anchor.Finality.At = time.Now().Add(time.Hour) },
			"nothing proves it":          func() { f.Chains[0].First.Anchor = nil },
			"a header is changed or new": func() { f.Chains[0].First.Anchor.Headers = append(f.Chains[0].First.Anchor.Headers, []byte{1}) },
		} {
			if sentence == "a header is changed or new" && tag == "finalized" {
				continue // none is needed, and none is looked at
			}
			whole, err := f.Encode()
			must(t, err)
			change()
			if _, err := evidence.Verify(t.Context(), f, []common.Hash{checkpoint}); !errors.Is(err, evidence.ErrRefuted) {
				t.Errorf("%s, %s: %v", tag, sentence, err)
			}
			checkpoint = w.opt.Checkpoint
			f, err = evidence.Decode(bytes.NewReader(whole))
			must(t, err)
		}
	}
}
