package l1_test

import (
	"math/big"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/l1"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

const (
	l1ID, l2ID = 1337, 8453

	audited = 47 // the L2 block
	step    = 5  // blocks from one intermediate root to the next
)

// world is an L1 node with contracts, and an L2 node. The anchor root is that of L2 block 20; two games go on from there, to 40 and
// to 60.
type world struct {
	l1, l2        *testenv.World
	rollup        *testchain.Rollup
	first, second common.Address // games
}

// startL2 starts a chain of 100 blocks.
func startL2(t *testing.T) *testenv.World {
	t.Helper()
	w := testenv.Start(t, testchain.Options{ChainID: l2ID})
	for range 100 {
		w.Chain.Commit()
	}
	return w
}

func newWorld(t *testing.T, l2 *testenv.World) *world {
	t.Helper()
	w := &world{l1: testenv.Start(t, testchain.Options{}), l2: l2}
	var err error
	if w.rollup, err = w.l1.Chain.DeployRollup(t.Context(), l2ID); err != nil {
		t.Fatal(err)
	}
	w.send(t, testchain.RollupRegistry, "setStarting", w.root(t, 20), big.NewInt(20))
	w.first = w.propose(t, w.proposal(t, 20, common.Address{}))
	w.second = w.propose(t, w.proposal(t, 40, w.first))
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) send(t *testing.T, name, method string, args ...any) {
	t.Helper()
	must(t, w.rollup.Send(t.Context(), name, method, args...))
}

func (w *world) propose(t *testing.T, p testchain.Proposal) common.Address {
	t.Helper()
	game, err := w.rollup.Propose(t.Context(), p)
	must(t, err)
	return game
}

// proposal returns a true proposal for the 20 blocks after start.
func (w *world) proposal(t *testing.T, start uint64, parent common.Address) testchain.Proposal {
	t.Helper()
	p := testchain.Proposal{Parent: parent, Block: start + 20}
	for n := start + step; n <= p.Block; n += step {
		p.Roots = append(p.Roots, w.root(t, n))
	}
	return p
}

// header returns the header of an L2 block and its output root.
func (w *world) header(t *testing.T, n uint64) *types.Header {
	t.Helper()
	h, err := w.l2.Chain.Client().HeaderByNumber(t.Context(), new(big.Int).SetUint64(n))
	must(t, err)
	return h
}

func (w *world) root(t *testing.T, n uint64) common.Hash { return rootOf(w.header(t, n)) }

func rootOf(h *types.Header) common.Hash {
	return crypto.Keccak256Hash(make([]byte, 32), h.Root.Bytes(), h.WithdrawalsHash.Bytes(), h.Hash().Bytes())
}

func client(t *testing.T, chainID uint64, urls ...string) *ethrpc.Client {
	t.Helper()
	opt := ethrpc.Options{ChainID: chainID, Tags: []ethrpc.BlockTag{ethrpc.Latest}, BatchSize: 100, RetryDelay: time.Millisecond}
	for i, u := range urls {
		opt.Providers = append(opt.Providers, ethrpc.Provider{Name: string(rune('a' + i)), URL: sanitize.NewSecret(u), Timeout: time.Minute})
	}
	c, err := ethrpc.New(opt)
	must(t, err)
	t.Cleanup(c.Close)
	return c
}

func (w *world) chain() l1.Chain {
	return l1.Chain{ID: l2ID, SystemConfig: w.rollup.At[testchain.RollupConfig]}
}

// calls runs over the proven state of L1's head.
func (w *world) calls(t *testing.T, c *ethrpc.Client, old *ethrpc.ProvenCalls) (*ethrpc.ProvenCalls, *ethrpc.Pinned) {
	t.Helper()
	at, err := c.Pin(t.Context(), ethrpc.PinRequest{})
	must(t, err)
	calls, err := c.Proven(at, old)
	must(t, err)
	return calls, at
}

// result is the result for the audited block.
type result struct {
	trust   l1.Trust
	outcome l1.Outcome
	headers int
	err     error
}

// confirm reads L1 and follows L2's headers down to the audited block.
func (w *world) confirm(t *testing.T, caller l1.Caller, block uint64) result {
	t.Helper()
	return w.confirmHash(t, caller, block, w.header(t, block).Hash())
}

func (w *world) confirmHash(t *testing.T, caller l1.Caller, block uint64, hash common.Hash) result {
	t.Helper()
	r, err := l1.Read(t.Context(), caller, w.chain(), block)
	must(t, err)
	p, err := r.Covering(block)
	if err != nil {
		return result{err: err}
	}
	headers, err := client(t, l2ID, w.l2.URL).Headers(t.Context(), "", p.Block, block, nil)
	must(t, err)
	outcome, _, err := p.Confirm(block, hash, headers)
	return result{p.Trust, outcome, len(headers), err}
}
