package observe_test

import (
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/consensus"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/beacon"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// rollupWorld is a chain whose blocks are proposed on an L1, which a beacon chain finalizes.
type rollupWorld struct {
	*world
	l1     *testenv.World
	beacon *beacon.Chain
	rollup *testchain.Rollup
	opt    anchor.Options
	served atomic.Pointer[rpcfault.Proxy] // what the provider of the chain serves
	honest *rpcfault.Proxy
	parent common.Address // the last game
	from   uint64         // where the next game begins
}

func newRollupWorld(t *testing.T) *rollupWorld {
	t.Helper()
	observe.SetClock(t, 1000*time.Second)
	w := &rollupWorld{world: provenWorld(t), l1: testenv.Start(t, testchain.Options{})}
	w.mine(70)
	w.honest = rpcfault.New(w.chain.URL())
	w.served.Store(w.honest)
	w.rpc = []string{w.serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.served.Load().ServeHTTP(rw, r) }))}
	var err error
	w.rollup, err = w.l1.Chain.DeployRollup(t.Context(), chainID)
	must(t, err)
	must(t, w.rollup.Send(t.Context(), testchain.RollupRegistry, "setStarting", w.root(1), big.NewInt(1)))
	w.from = 1
	w.beacon = beacon.New(beacon.Options{GenesisTime: headerOf(t, w.l1.Chain, "0x1").Time})
	network, err := consensus.NetworkFromSpec(w.beacon.Spec())
	must(t, err)
	w.tags, w.world.intent.Baselines = "finalized", true
	w.world.opt.ConfirmDelay, w.world.opt.Record = 0, true
	w.intent.L1 = &audit.L1Intent{Chain: "l1", ChainID: chainID, SystemConfig: w.rollup.At[testchain.RollupConfig]}
	w.opt = anchor.Options{
		Network: network, Checkpoint: w.finalize(),
		Endpoints: []anchor.Endpoint{{Name: "beacon1", URL: sanitize.NewSecret(w.serve(w.beacon))}},
	}
	w.more = func(c *observe.Chain) {
		light, err := anchor.New(w.opt)
		must(t, err)
		t.Cleanup(light.Close)
		client, err := ethrpc.New(ethrpc.Options{
			ChainID: chainID, Tags: []ethrpc.BlockTag{ethrpc.Latest}, BatchSize: 100,
			Providers: []ethrpc.Provider{{Name: "l1node", URL: sanitize.NewSecret(w.l1.URL), Timeout: time.Minute}},
		})
		must(t, err)
		t.Cleanup(client.Close)
		c.L1 = &observe.L1{Anchor: light, Reader: client}
	}
	return w
}

func (w *rollupWorld) mine(n int) {
	for range n {
		w.chain.Commit()
	}
}

// finalize finalizes L1's newest block.
func (w *rollupWorld) finalize() common.Hash {
	w.l1.Chain.Commit()
	return w.beacon.Finalize(headerOf(w.t, w.l1.Chain, "latest"))
}

// root is the output root of a block, as it is on the true chain.
func (w *rollupWorld) root(n uint64) common.Hash {
	return outputRoot(headerOf(w.t, w.chain, "0x"+strconv.FormatUint(n, 16)))
}

func outputRoot(h *types.Header) common.Hash {
	return crypto.Keccak256Hash(make([]byte, 32), h.Root.Bytes(), h.WithdrawalsHash.Bytes(), h.Hash().Bytes())
}

// propose creates a game for the blocks up to one, each with its root, and finalizes it.
func (w *rollupWorld) propose(to uint64) common.Address {
	w.t.Helper()
	p := testchain.Proposal{Parent: w.parent, Block: to}
	for n := w.from + 1; n <= to; n++ {
		p.Roots = append(p.Roots, w.root(n))
	}
	game, err := w.rollup.Propose(w.t.Context(), p)
	must(w.t, err)
	w.parent, w.from = game, to
	w.finalize()
	return game
}

// win resolves a game, which becomes the anchor.
func (w *rollupWorld) win(game common.Address, anchors bool) {
	w.t.Helper()
	must(w.t, w.rollup.SetGame(w.t.Context(), game, 2, 1, 0))
	if anchors {
		must(w.t, w.rollup.Send(w.t.Context(), testchain.RollupRegistry, "setAnchorGame", game))
	}
	w.finalize()
}

// stands checks the newest blocks that L1 confirmed and anchored, and the trust of the pinned block.
func stands(r *audit.Report) string {
	of := func(a *audit.Anchored) string {
		if a == nil {
			return "-"
		}
		return strconv.FormatUint(a.Number, 10) + " " + string(a.Trust)
	}
	return of(r.Chains[0].Anchored) + ", " + of(r.Chains[0].L1Anchored) + ", " + string(trustOf(r))
}

func (a *auditor) stands(verdict audit.Verdict, kinds, want string) *audit.Report {
	a.t.Helper()
	r := a.says(verdict, kinds)
	if got := stands(r); got != want {
		a.t.Errorf("L1 stands at %s, want %s: %s", got, want, text(a.t, r))
	}
	f, err := evidence.New(a.result.Report, a.result.Records)
	must(a.t, err)
	whole, err := f.Encode()
	must(a.t, err)
	f, err = evidence.Decode(strings.NewReader(string(whole)))
	must(a.t, err)
	got, err := evidence.Verify(a.t.Context(), f, nil)
	if err != nil {
		a.t.Fatalf("its evidence: %v", err)
	}
	if said := strings.Join(got.Trusted, "\n"); f.Chains[0].First.L1 != nil && !strings.Contains(said, "which this release does not know, and that its sync committees have 32 members and sign for 512 slots") {
		a.t.Errorf("its evidence does not say which beacon chain it believes: %s", said)
	}
	return r
}

// TestL1ConfirmsWhatWasAudited: first by a game, then by the anchor, without the chain's provider.
func TestL1ConfirmsWhatWasAudited(t *testing.T) {
	w := newRollupWorld(t)
	a := w.auditor()
	a.stands(audit.Consistent, "", "-, -, providers")
	game := w.propose(70) // the chain's finalized block is 64
	a.stands(audit.Consistent, "", "64 l1_proposed, -, l1_proposed")
	w.mine(40)
	a.stands(audit.Consistent, "", "64 l1_proposed, -, providers")
	next := w.propose(100)
	a.stands(audit.Consistent, "", "96 l1_proposed, -, l1_proposed")
	w.win(game, true)
	before := w.honest.Requests()
	a.stands(audit.Consistent, "", "96 l1_proposed, 64 l1_anchored, l1_proposed")
	if trips := w.honest.Requests() - before; trips != 1 {
		t.Errorf("an unchanged audit takes %d round trips", trips)
	}
	w.win(next, false) // older than the anchor by the time that it would be set
	a.stands(audit.Consistent, "", "96 l1_anchored, 96 l1_anchored, l1_anchored")
	if left := len(a.prior["test"].L1); left != 1 {
		t.Errorf("%d blocks are remembered", left)
	}
}

// TestWhatEndedOnAnInventedChainIsOpenAgain once L1 contradicts the chain. The contradiction stays open until the provider is
// right again.
func TestWhatEndedOnAnInventedChainIsOpenAgain(t *testing.T) {
	w := newRollupWorld(t)
	a := w.auditor()
	a.stands(audit.Consistent, "", "-, -, providers")
	w.propose(70)
	a.stands(audit.Consistent, "", "64 l1_proposed, -, l1_proposed")
	must(t, w.kms.AllowDevice(t.Context(), dev2))
	w.mine(40)
	a.stands(audit.Drift, "claim_denied_chain_allowed", "64 l1_proposed, -, providers")
	w.served.Store(w.invented(170, dev1))
	a.stands(audit.Consistent, "", "64 l1_proposed, -, providers") // nothing shows it yet
	lie := a.result.Report.Chains[0].Block.Number
	w.mine(200)
	w.propose(lie + 2)
	r := a.stands(audit.Unknown, "(claim_denied_chain_allowed) block_contradicted", "64 l1_proposed, -, providers")
	for _, want := range []string{"it was resolved at block " + strconv.FormatUint(lie, 10) + ", which L1 does not confirm", "is not the one whose output root L1 holds (l1_proposed: 0x"} {
		if said := text(t, r); !strings.Contains(said, want) {
			t.Errorf("%q is not in %s", want, said)
		}
	}
	if len(a.result.Changes) != 2 || a.result.Changes[0].Type != audit.Opened || a.result.Changes[1].Type != audit.Opened {
		t.Errorf("%+v", a.result.Changes)
	}
	a.stands(audit.Unknown, "(claim_denied_chain_allowed) block_contradicted", "64 l1_proposed, -, providers")
	w.served.Store(w.honest)
	a.stands(audit.Drift, "claim_denied_chain_allowed block_contradicted", "96 l1_proposed, -, providers")
	must(t, w.kms.RemoveDevice(t.Context(), dev2))
	w.mine(40)
	a.stands(audit.Unknown, "(claim_denied_chain_allowed) block_contradicted", "96 l1_proposed, -, providers")
	now := a.result.Report.Chains[0].Block.Number
	w.propose(now + 2)
	a.stands(audit.Consistent, "", strconv.FormatUint(now, 10)+" l1_proposed, -, l1_proposed")
}

// TestEvidenceOfWhatL1Confirms proves a block that this audit confirmed, and not one that
// earlier audits are said to have confirmed.
func TestEvidenceOfWhatL1Confirms(t *testing.T) {
	w := newRollupWorld(t)
	a := w.auditor()
	leads := func(stands string, want audit.Verdict) {
		t.Helper()
		a.stands(audit.Consistent, "", stands)
		f, err := evidence.New(a.result.Report, a.result.Records)
		must(t, err)
		result, err := evidence.Verify(t.Context(), f, []common.Hash{w.opt.Checkpoint})
		must(t, err)
		trusted := strings.Join(result.Trusted, "\n")
		if result.Verdict() != want || strings.Contains(trusted, "does not follow from a given checkpoint") != (want == audit.Unknown) {
			t.Errorf("where L1 stands at %s, the verdict is %s, want %s:\n%s", stands, result.Verdict(), want, trusted)
		}
		for _, said := range []string{w.intent.L1.SystemConfig.Hex() + " is the chain's SystemConfig on L1", `that chain id 1337 belongs to beacon chain "test"`} {
			if !strings.Contains(trusted, said) {
				t.Errorf("it is not said to be trusted that %s:\n%s", said, trusted)
			}
		}
	}
	leads("-, -, providers", audit.Unknown)
	game := w.propose(70)
	leads("64 l1_proposed, -, l1_proposed", audit.Consistent)
	leads("64 l1_proposed, -, l1_proposed", audit.Unknown)
	w.win(game, false) // no header has to be followed for it
	leads("64 l1_anchored, 64 l1_anchored, l1_anchored", audit.Unknown)
}

// TestTheProviderThatL1ContradictsIsAskedLast, so that an honest one beside it takes over.
func TestTheProviderThatL1ContradictsIsAskedLast(t *testing.T) {
	w := newRollupWorld(t)
	w.rpc = append(w.rpc, w.serve(rpcfault.New(w.chain.URL())))
	a := w.auditor()
	w.mine(40)
	a.stands(audit.Consistent, "", "-, -, providers")
	w.served.Store(w.invented(170, dev1))
	a.stands(audit.Consistent, "", "-, -, providers")
	lie := a.result.Report.Chains[0].Block.Number
	w.mine(200)
	w.propose(lie + 2)
	a.stands(audit.Unknown, "block_contradicted", "96 l1_proposed, -, providers")
	now := a.result.Records[0].Looks.First.Provider
	for range 2 {
		w.mine(40)
		r := a.audit()
		if by := a.result.Records[0].Looks.First.Provider; now != "first" || by != "second" {
			t.Errorf("%s, then %s: %s", now, by, text(t, r))
		}
		w.propose(r.Chains[0].Block.Number + 2)
	}
	w.mine(40)
	a.says(audit.Consistent, "")
}

// TestAChainThatIsInventedFromTheBeginning is contradicted by the first game. Its headers cannot pass for those of before Isthmus,
// which is older than games.
func TestAChainThatIsInventedFromTheBeginning(t *testing.T) {
	w := newRollupWorld(t)
	w.served.Store(w.invented(170, dev1))
	a := w.auditor()
	a.stands(audit.Consistent, "", "-, -, providers")
	w.mine(200)
	w.propose(a.result.Report.Chains[0].Block.Number + 2)
	a.stands(audit.Unknown, "block_contradicted", "-, -, providers")
}
