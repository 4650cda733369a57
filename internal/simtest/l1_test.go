package simtest_test

import (
	"context"
	"math/big"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/consensus"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	beaconchain "github.com/kms-auditor/kms-auditor/internal/testenv/beacon"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// rollup is the L1 of a world.
type rollup struct {
	*testchain.Chain
	contracts *testchain.Rollup
	beacon    *beaconchain.Chain
	light     anchor.Options
	door      *rpcfault.Proxy // of L1's provider
	url       string
	games     []common.Address
	upTo      uint64 // the last block claimed by a game
	undone    bool   // a block that may have been audited was reorganised away
}

// What happens on L1, and at its provider.
var onL1 = []string{"propose", "propose", "propose", "win", "blacklist", "L1 down", "L1 well"}

// rollUp gives the world an L1.
func (w *world) rollUp(ctx context.Context) error {
	chain, err := testchain.Start(testchain.Options{})
	if err != nil {
		return err
	}
	w.closers = append(w.closers, func() { chain.Close() })
	r := &rollup{Chain: chain, door: rpcfault.New(chain.URL())}
	w.rollup, r.url = r, w.serve(r.door)
	if r.contracts, err = chain.DeployRollup(ctx, chainID); err != nil {
		return err
	}
	if r.upTo, err = w.head(ctx); err != nil {
		return err
	}
	w.base = max(w.base, r.upTo)
	root, err := w.outputRoot(ctx, r.upTo)
	if err == nil {
		err = r.contracts.Send(ctx, testchain.RollupRegistry, "setStarting", root, new(big.Int).SetUint64(r.upTo))
	}
	if err != nil {
		return err
	}
	first, err := chain.Client().HeaderByNumber(ctx, big.NewInt(1))
	if err != nil {
		return err
	}
	r.beacon = beaconchain.New(beaconchain.Options{GenesisTime: first.Time, EpochsPerPeriod: 1 << 20})
	if r.light.Network, err = consensus.NetworkFromSpec(r.beacon.Spec()); err != nil {
		return err
	}
	r.light.Endpoints = []anchor.Endpoint{{Name: "b", URL: sanitize.NewSecret(w.serve(r.beacon))}}
	r.light.Checkpoint, err = r.finalize(ctx)
	return err
}

func (r *rollup) finalize(ctx context.Context) (common.Hash, error) {
	r.Commit()
	h, err := r.Client().HeaderByNumber(ctx, nil)
	if err != nil {
		return common.Hash{}, err
	}
	return r.beacon.Finalize(h), nil
}

func (w *world) outputRoot(ctx context.Context, number uint64) (common.Hash, error) {
	h, err := w.Client().HeaderByNumber(ctx, new(big.Int).SetUint64(number))
	if err != nil {
		return common.Hash{}, err
	}
	return crypto.Keccak256Hash(make([]byte, 32), h.Root[:], h.WithdrawalsHash[:], h.Hash().Bytes()), nil
}

// l1 returns the auditor's access to L1.
func (w *world) l1() (*observe.L1, error) {
	light, err := anchor.New(w.rollup.light)
	if err != nil {
		return nil, err
	}
	client, err := ethrpc.New(ethrpc.Options{
		ChainID: chainID, Tags: []ethrpc.BlockTag{ethrpc.Latest}, BatchSize: 100, RetryDelay: time.Millisecond,
		Providers: []ethrpc.Provider{{Name: "l1", URL: sanitize.NewSecret(w.rollup.url), Timeout: 10 * time.Second}},
	})
	if err != nil {
		return nil, err
	}
	w.closers = append(w.closers, light.Close, client.Close)
	return &observe.L1{Anchor: clocked{light, w.rollup.Chain}, Reader: client}, nil
}

// onL1 performs an act on L1. No reorganisation takes back claimed blocks.
func (w *world) onL1(ctx context.Context, a act) error {
	r := w.rollup
	if r == nil {
		return nil
	}
	var err error
	switch a.What {
	case "L1 down":
		r.door.Set(rpcfault.Refuse("eth_getProof", -32000, "down"))
	case "L1 well":
		r.door.Set(rpcfault.Fault{})
	case "propose":
		err = w.propose(ctx)
	case "win", "blacklist":
		if len(r.games) == 0 {
			return nil
		}
		game := r.games[a.ID%len(r.games)]
		if a.What == "win" {
			err = r.contracts.SetGame(ctx, game, 2, 1, 0)
		} else {
			err = r.contracts.Send(ctx, testchain.RollupRegistry, "blacklist", game)
		}
	}
	if err == nil {
		_, err = r.finalize(ctx)
	}
	return err
}

// propose creates a true game for the blocks since the last one.
func (w *world) propose(ctx context.Context) error {
	r := w.rollup
	head, err := w.head(ctx)
	if err != nil || head <= r.upTo {
		return err
	}
	p := testchain.Proposal{Block: head}
	if len(r.games) > 0 {
		p.Parent = r.games[len(r.games)-1]
	}
	step := uint64(1)
	for _, s := range []uint64{2, 3, 4} {
		if (head-r.upTo)%s == 0 {
			step = s
		}
	}
	for n := r.upTo + step; n <= head; n += step {
		root, err := w.outputRoot(ctx, n)
		if err != nil {
			return err
		}
		p.Roots = append(p.Roots, root)
	}
	game, err := r.contracts.Propose(ctx, p)
	if err != nil {
		return err
	}
	r.games, r.upTo, w.base = append(r.games, game), head, max(w.base, head)
	return nil
}

// held checks the report's statements about L1.
func (l *law) held() {
	r := l.rollup
	if r == nil {
		return
	}
	said := []*audit.Anchored{l.chain.Anchored, l.chain.L1Anchored}
	if b := l.chain.Block; b != nil && b.Trust != audit.TrustProviders {
		said = append(said, &audit.Anchored{Number: b.Number, Hash: b.Hash, Trust: b.Trust})
	}
	for _, a := range said {
		if a == nil {
			continue
		}
		h, err := l.Client().HeaderByNumber(l.ctx, new(big.Int).SetUint64(a.Number))
		if err != nil || h.Hash().Hex() != a.Hash || a.Number > r.upTo || a.Trust != audit.TrustL1Proposed && a.Trust != audit.TrustL1Anchored {
			l.fail("L1 does not hold block %+v", a)
		}
	}
	for _, t := range l.chain.Targets {
		if slices.ContainsFunc(t.Findings, func(f audit.Finding) bool { return f.Kind == audit.BlockContradicted }) {
			if l.faulty = true; !l.mem.ill && !r.undone {
				l.fail("nobody invented a block, and L1 is said to contradict one")
			}
		}
	}
}
