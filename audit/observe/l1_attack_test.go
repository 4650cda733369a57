package observe_test

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// headers changes the first headers that a provider returns by number.
func headers(n int, change func(*rpcfault.Answer)) rpcfault.Fault {
	return rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if c.Method == "eth_getBlockByNumber" && bytes.HasPrefix(c.Params[0], []byte(`"0x`)) && n > 0 {
			n--
			change(a)
		}
	}}
}

func otherHeaders(n int) rpcfault.Fault {
	return headers(n, func(a *rpcfault.Answer) {
		a.Result = bytes.Replace(a.Result, []byte(`"gasUsed":"0x`), []byte(`"gasUsed":"0x1`), 1)
	})
}

// TestHeadersThatAreLiedAbout make L1 contradict a block only while no provider has the true ones.
func TestHeadersThatAreLiedAbout(t *testing.T) {
	w := newRollupWorld(t)
	a := w.auditor()
	a.stands(audit.Consistent, "", "-, -, providers")
	w.propose(70)
	a.stands(audit.Consistent, "", "64 l1_proposed, -, l1_proposed")
	w.mine(40)
	w.served.Store(w.invented(100, dev1))
	a.stands(audit.Consistent, "", "64 l1_proposed, -, providers")
	w.served.Store(w.honest)
	a.stands(audit.Consistent, "", "64 l1_proposed, -, providers")
	w.propose(100)
	alone := a.prior["test"]
	w.honest.Set(otherHeaders(1)) // for the true block 96; those for the invented one are true
	r := a.stands(audit.Unknown, "block_contradicted", "64 l1_proposed, -, providers")
	if said := text(t, r); !strings.Contains(said, "(and 1 more)") {
		t.Error(said)
	}
	a.stands(audit.Unknown, "block_contradicted", "96 l1_proposed, -, l1_proposed")
	w.honest.Set(headers(1, func(a *rpcfault.Answer) {
		a.Result, a.Error = nil, &rpcfault.Error{Code: -32601, Message: "not served"}
	}))
	a.prior["test"] = alone
	r = a.stands(audit.Unknown, "block_contradicted", "64 l1_proposed, -, providers")
	if said := text(t, r); strings.Contains(said, "(and 1 more)") || !strings.Contains(said, "following the headers from block 96 to block 96") {
		t.Errorf("headers that are refused say something: %s", said)
	}
	w.honest.Set(otherHeaders(100))
	w.rpc = append(w.rpc, w.serve(rpcfault.New(w.chain.URL())))
	both := w.auditor()
	both.prior["test"] = alone
	r = both.stands(audit.Unknown, "block_contradicted", "96 l1_proposed, -, l1_proposed")
	if said := text(t, r); strings.Contains(said, "(and 1 more)") {
		t.Errorf("an honest provider does not help: %s", said)
	}
}

// TestAGameThatFalls revokes its confirmations, but not those that L1 anchored.
func TestAGameThatFalls(t *testing.T) {
	w := newRollupWorld(t)
	a := w.auditor()
	a.stands(audit.Consistent, "", "-, -, providers")
	game := w.propose(70)
	a.stands(audit.Consistent, "", "64 l1_proposed, -, l1_proposed")
	must(t, w.rollup.Send(t.Context(), testchain.RollupRegistry, "blacklist", game))
	w.finalize()
	r := a.stands(audit.Consistent, "", "-, -, providers")
	if said := text(t, r); !strings.Contains(said, "block 64 is no longer confirmed by L1: it is blacklisted") {
		t.Error(said)
	}
	a.stands(audit.Consistent, "", "-, -, providers")

	w = newRollupWorld(t)
	a = w.auditor()
	a.stands(audit.Consistent, "", "-, -, providers")
	game = w.propose(70)
	w.win(game, true)
	a.stands(audit.Consistent, "", "64 l1_anchored, 64 l1_anchored, l1_anchored")
	w.mine(700) // too many headers from the next anchor
	far, err := w.rollup.Propose(t.Context(), testchain.Proposal{Parent: game, Block: 700, Roots: []common.Hash{w.root(700)}})
	must(t, err)
	w.win(far, true)
	must(t, w.rollup.Send(t.Context(), testchain.RollupRegistry, "set", w.rollup.At[testchain.RollupConfig], w.rollup.At[testchain.RollupFactory], testchain.GameType+1))
	w.finalize()
	w.honest.Set(rpcfault.Status(http.StatusBadGateway, ""))
	a.stands(audit.Unknown, "", "64 l1_anchored, 64 l1_anchored, ")
}

// TestAnEarlierBlockOfL1SaysNothing: endpoints with an older block than before are ignored.
func TestAnEarlierBlockOfL1SaysNothing(t *testing.T) {
	w := newRollupWorld(t)
	a := w.auditor()
	a.stands(audit.Consistent, "", "-, -, providers")
	early := *a.prior["test"].Finalized
	w.propose(70)
	a.stands(audit.Consistent, "", "64 l1_proposed, -, l1_proposed")
	w.win(w.propose(72), false)
	a.audit()
	p := a.prior["test"]
	if p.Finalized.Slot <= early.Slot {
		t.Fatalf("slot %d, then slot %d", early.Slot, p.Finalized.Slot)
	}
	p.Finalized = &audit.BeaconRoot{Slot: p.Finalized.Slot + 1, Root: common.Hash{1}}
	restarted := w.auditor()
	restarted.prior["test"] = p
	r := restarted.stands(audit.Consistent, "", "64 l1_proposed, -, l1_proposed")
	if said := text(t, r); !strings.Contains(said, "was finalized before") || restarted.result.Records[0].Looks.First.L1 != nil {
		t.Error(said)
	}
	p.Finalized.Checkpoint = common.Hash{2} // which was configured then, and of another beacon chain
	restarted.prior["test"] = p
	if r := restarted.audit(); restarted.result.Records[0].Looks.First.L1 == nil {
		t.Error(text(t, r))
	}
}

// TestDriftIsConfirmedWhileL1Hangs: L1 takes at most its share of the time.
func TestDriftIsConfirmedWhileL1Hangs(t *testing.T) {
	w := newRollupWorld(t)
	must(t, w.kms.AllowDevice(t.Context(), dev2))
	w.mine(40)
	w.world.opt.Timeout = 4 * time.Second
	w.l1.Proxy.Set(rpcfault.Fault{HTTP: func(_ http.ResponseWriter, r *http.Request, _ []rpcfault.Call, _ bool) bool {
		<-r.Context().Done()
		return true
	}})
	r := w.auditor().says(audit.Drift, "claim_denied_chain_allowed")
	if said := text(t, r); !strings.Contains(said, "reading what L1 says about audited blocks: ") {
		t.Error(said)
	}
}

// TestForgedEvidenceOfL1IsRefuted, whatever is changed in it.
func TestForgedEvidenceOfL1IsRefuted(t *testing.T) {
	w := newRollupWorld(t)
	a := w.auditor()
	a.stands(audit.Consistent, "", "-, -, providers")
	w.mine(40)
	a.stands(audit.Consistent, "", "-, -, providers")
	w.propose(100)
	a.stands(audit.Consistent, "", "96 l1_proposed, -, l1_proposed")
	f, err := evidence.New(a.result.Report, a.result.Records)
	must(t, err)
	whole, err := f.Encode()
	must(t, err)
	for sentence, change := range map[string]func(c *evidence.Chain, l *audit.L1Look, raw *evidence.L1){
		"the number of L1's block": func(_ *evidence.Chain, l *audit.L1Look, _ *evidence.L1) { l.Number++ },
		"its hash":                 func(_ *evidence.Chain, l *audit.L1Look, _ *evidence.L1) { l.Hash[0]++ },
		"the slot":                 func(_ *evidence.Chain, l *audit.L1Look, _ *evidence.L1) { l.Finalized.Slot++ },
		"the root":                 func(_ *evidence.Chain, l *audit.L1Look, _ *evidence.L1) { l.Finalized.Root[0]++ },
		"a confirmed block":        func(_ *evidence.Chain, l *audit.L1Look, _ *evidence.L1) { l.Confirmations[0].Hash[0]++ },
		"its trust": func(_ *evidence.Chain, l *audit.L1Look, _ *evidence.L1) {
			l.Confirmations[0].Trust = audit.TrustL1Anchored
		},
		"its game": func(_ *evidence.Chain, l *audit.L1Look, _ *evidence.L1) { l.Confirmations[0].Game[0]++ },
		"its time": func(_ *evidence.Chain, l *audit.L1Look, _ *evidence.L1) {
			l.Confirmations[0].Time = l.Confirmations[0].Time.Add(1)
		},
		"whether L1 contradicts it": func(_ *evidence.Chain, l *audit.L1Look, _ *evidence.L1) { l.Confirmations[0].Contradicted = "it does" },
		"that it is confirmed":      func(_ *evidence.Chain, l *audit.L1Look, _ *evidence.L1) { l.Confirmations = l.Confirmations[1:] },
		"that it is confirmed once": func(_ *evidence.Chain, l *audit.L1Look, _ *evidence.L1) {
			l.Confirmations = append(l.Confirmations, l.Confirmations[0])
		},
		"that L1 was read":          func(c *evidence.Chain, _ *audit.L1Look, _ *evidence.L1) { c.First.Observation.L1 = nil },
		"what proves it":            func(c *evidence.Chain, _ *audit.L1Look, _ *evidence.L1) { c.First.L1 = nil },
		"the chain's L1":            func(c *evidence.Chain, _ *audit.L1Look, _ *evidence.L1) { c.Intent.L1 = nil },
		"the SystemConfig":          func(c *evidence.Chain, _ *audit.L1Look, _ *evidence.L1) { c.Intent.L1.SystemConfig[0]++ },
		"the chain's id":            func(c *evidence.Chain, _ *audit.L1Look, _ *evidence.L1) { c.Intent.ChainID++ },
		"an audited block's number": func(c *evidence.Chain, _ *audit.L1Look, _ *evidence.L1) { c.Prior.L1[0].Number-- },
		"an audited block's hash":   func(c *evidence.Chain, _ *audit.L1Look, _ *evidence.L1) { c.Prior.L1[0].Hash[0]++ },
		"L1's header":               func(_ *evidence.Chain, _ *audit.L1Look, raw *evidence.L1) { raw.Header[100]++ },
		"a node":                    func(_ *evidence.Chain, _ *audit.L1Look, raw *evidence.L1) { raw.Nodes[0][10]++ },
		"a contract's code":         func(_ *evidence.Chain, _ *audit.L1Look, raw *evidence.L1) { raw.Codes[0][10]++ },
		"a header of L2":            func(_ *evidence.Chain, _ *audit.L1Look, raw *evidence.L1) { raw.Walks[0].Headers[0][100]++ },
		"the order of the headers": func(_ *evidence.Chain, _ *audit.L1Look, raw *evidence.L1) {
			raw.Walks[0], raw.Walks[1] = raw.Walks[1], raw.Walks[0]
		},
		"that headers were found":   func(_ *evidence.Chain, _ *audit.L1Look, raw *evidence.L1) { raw.Walks = raw.Walks[1:] },
		"the checkpoint":            func(_ *evidence.Chain, _ *audit.L1Look, raw *evidence.L1) { raw.Checkpoint[0]++ },
		"what the committee signed": func(_ *evidence.Chain, _ *audit.L1Look, raw *evidence.L1) { raw.Finality = nil },
		"the label of the block": func(c *evidence.Chain, _ *audit.L1Look, _ *evidence.L1) {
			c.First.Observation.Block.Trust = audit.TrustL1Anchored
		},
		"what the anchor vouches for": func(c *evidence.Chain, _ *audit.L1Look, _ *evidence.L1) {
			c.First.Observation.Anchored = &audit.Anchored{Number: 96, Trust: audit.TrustL1Anchored}
		},
	} {
		f, err := evidence.Decode(bytes.NewReader(whole))
		must(t, err)
		c := &f.Chains[0]
		change(c, c.First.Observation.L1, c.First.L1)
		if _, err := evidence.Verify(t.Context(), f, nil); !errors.Is(err, evidence.ErrRefuted) {
			t.Errorf("%s: %v", sentence, err)
		}
	}
	f, err = evidence.Decode(bytes.NewReader(whole))
	must(t, err)
	checkpoint := f.Chains[0].First.L1.Checkpoint
	got, err := evidence.Verify(t.Context(), f, []common.Hash{checkpoint})
	must(t, err)
	said := strings.Join(got.Trusted, "\n")
	for _, want := range []string{"blocks with what L1 said about them: 2", "sign for", "no game that L1 accepts is false"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q: %s", want, said)
		}
	}
	checkpoint[0]++
	if _, err := evidence.Verify(t.Context(), f, []common.Hash{checkpoint}); !errors.Is(err, evidence.ErrRefuted) {
		t.Errorf("from another checkpoint: %v", err)
	}
}
