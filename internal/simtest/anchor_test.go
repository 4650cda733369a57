package simtest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/consensus"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	beaconchain "github.com/kms-auditor/kms-auditor/internal/testenv/beacon"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// anchored is the beacon chain that signs a world's blocks, and its endpoints, as many as providers.
type anchored struct {
	*beaconchain.Chain
	opt   anchor.Options
	final uint64
	newer uint64 // the newest signed block
	ills  []string
	says  [][]byte    // the finality update of each endpoint; nil means the newest
	lies  []*invented // endpoints sign the last one
}

// What happens at a beacon endpoint. The first value ends a fault.
var atBeacon = []string{"beacon well", "beacon down", "beacon stale", "beacon lies"}

// anchor adds a beacon chain to the world. All its slots are in one period.
func (w *world) anchor(ctx context.Context) error {
	switch w.Anchor {
	case "":
		return nil
	case "l1":
		return w.rollUp(ctx)
	}
	first, err := w.Client().HeaderByNumber(ctx, big.NewInt(1))
	if err != nil {
		return err
	}
	chain := beaconchain.New(beaconchain.Options{GenesisTime: first.Time, EpochsPerPeriod: 1 << 20})
	w.beacon = &anchored{Chain: chain, ills: make([]string, w.Providers), says: make([][]byte, w.Providers)}
	if w.beacon.opt.Network, err = consensus.NetworkFromSpec(chain.Spec()); err != nil {
		return err
	}
	for i := range w.Providers {
		url := w.serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			says := w.beacon.says[i]
			switch finality := strings.HasSuffix(r.URL.Path, "finality_update"); {
			case w.beacon.ills[i] == "beacon down":
				http.Error(rw, "down", http.StatusServiceUnavailable)
			case finality && says != nil:
				_, _ = rw.Write(says) // the client may be gone
			default:
				chain.ServeHTTP(rw, r)
			}
		}))
		w.beacon.opt.Endpoints = append(w.beacon.opt.Endpoints, anchor.Endpoint{Name: fmt.Sprintf("b%d", i), URL: sanitize.NewSecret(url)})
	}
	return w.sign(ctx)
}

// sign makes the beacon chain finalize a block and sign a newer one. A reorganisation takes back at most two blocks more.
func (w *world) sign(ctx context.Context) error {
	if w.beacon == nil {
		return nil
	}
	head, err := w.head(ctx)
	if err != nil {
		return err
	}
	if head%32 == 0 {
		w.Commit()
		head++
	}
	final, signed := head/32*32, max(head/32*32+1, head-head%3)
	for number, sign := range map[uint64]func(*types.Header){signed: w.beacon.Attest, final: func(h *types.Header) {
		if root := w.beacon.Finalize(h); w.beacon.opt.Checkpoint == (common.Hash{}) {
			w.beacon.opt.Checkpoint = root
		}
	}} {
		h, err := w.Client().HeaderByNumber(ctx, new(big.Int).SetUint64(number))
		if err != nil {
			return err
		}
		sign(h)
	}
	w.beacon.final, w.beacon.newer, w.base = final, signed, max(w.base, final, signed-3)
	return nil
}

// ail sets the fault of an endpoint. A lying endpoint serves an invented block, signed by another committee or by too few members.
func (w *world) ail(ctx context.Context, a act) error {
	b := w.beacon
	if b == nil || a.N >= w.Providers {
		return nil
	}
	b.ills[a.N], b.says[a.N] = a.What, nil
	switch a.What {
	case "beacon well":
		b.ills[a.N] = ""
	case "beacon stale":
		now := httptest.NewRecorder()
		b.ServeHTTP(now, httptest.NewRequest(http.MethodGet, "/eth/v1/beacon/light_client/finality_update", nil))
		b.says[a.N] = now.Body.Bytes()
	case "beacon lies":
		var lie []*types.Header
		if n := len(b.lies); n > 0 {
			lie = b.lies[n-1].blocks
		} else {
			h, err := w.Client().HeaderByNumber(ctx, nil)
			if err != nil {
				return err
			}
			h.Extra, lie = []byte("invented"), []*types.Header{h, h}
		}
		other := beaconchain.New(b.Options)
		other.Finalize(lie[0])
		other.Attest(lie[1])
		claim := other.Claim(other.Last())
		if claim.Signers = 21; a.ID > 0 {
			claim.Signers, claim.SignedBy = 32, 7
		}
		b.says[a.N] = beaconchain.Encode(beaconchain.Fulu, other.FinalityUpdate(claim))
	}
	return nil
}

// upToDate reports whether the first endpoint without a failure is up to date.
func (w *world) upToDate() bool {
	return w.beacon != nil && slices.Contains(w.beacon.ills, "") && !slices.Contains(w.beacon.ills, "beacon stale")
}

// clocked is a client whose clock follows the chain, because blocks are sealed faster than real time.
type clocked struct {
	*anchor.Client
	chain *testchain.Chain
}

func (c clocked) Sync(ctx context.Context, remembered common.Hash, _ time.Time) (*anchor.Head, []ethrpc.ProviderError) {
	newest, err := c.chain.Client().HeaderByNumber(ctx, nil)
	if err != nil {
		return nil, []ethrpc.ProviderError{{Provider: "the clock", Err: err}}
	}
	return c.Client.Sync(ctx, remembered, time.Unix(int64(newest.Time)+2, 0))
}

// vouched checks who vouches for the blocks, and whether an invented chain was believed by design.
func (l *law) vouched() {
	signed := l.signed()
	for _, o := range []*audit.Observation{&l.looks.First, l.looks.Second} {
		if o == nil || o.Block == nil {
			continue
		}
		trust, real := o.Block.Trust, l.real(o)
		switch {
		case l.Anchor == "" && trust != "", l.beacon != nil && trust != audit.TrustProviders && trust != audit.TrustConsensus, l.rollup != nil && trust != audit.TrustProviders:
			l.fail("the providers or a sync committee vouch for block %+v", o.Block)
		case trust == audit.TrustConsensus && (!real || o.Block.Number <= l.beacon.final && !l.canonical(o)):
			l.fail("no sync committee signed block %+v", o.Block)
		case trust != audit.TrustConsensus && l.Anchor == "required":
			l.fail("nobody vouches for block %+v", o.Block)
		case !real && l.current && slices.ContainsFunc(l.beacon.lies, func(v *invented) bool {
			_, of := v.number(json.RawMessage(strconv.Quote(o.Block.Hash)))
			return of && v.contradicts && v.hides != 1 && o.Block.Number > l.beacon.newer
		}):
			l.fail("its headers show that block %+v does not follow what is final", o.Block)
		case !real && l.invents && l.Agreement == 1 && !(l.Anchor != "" && l.Block == "finalized" && l.current && !l.mem.lied):
			l.liar, l.unreal = true, true
		}
	}
	if h := l.looks.Head; h != nil && h.Block != nil && !l.real(h) && l.invents { // it is not anchored
		l.liar = true
	}
	ill := slices.ContainsFunc(append(slices.Clone(l.ills), ""), func(ill string) bool { return ill != "" })
	if l.wentBack() && !ill && !l.wasIll && !l.invents && !l.mem.lied {
		l.fail("the honest chain went back")
	}
	l.held()
	l.faulty = l.faulty || l.mem.lied || l.Anchor == "required" && !signed
}

// signed reports whether a sync committee vouches for the block of the report.
func (l *law) signed() bool {
	return l.chain.Block != nil && l.chain.Block.Trust == audit.TrustConsensus
}

func (l *law) canonical(o *audit.Observation) bool {
	h, err := l.Client().HeaderByNumber(l.ctx, new(big.Int).SetUint64(o.Block.Number))
	return err == nil && h.Hash().Hex() == o.Block.Hash
}
