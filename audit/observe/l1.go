package observe

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/l1"
)

// L1 has the sources for what L1 says about a chain's blocks. Their errors contain no secret.
type L1 struct {
	Anchor Anchor // of L1
	Reader L1Reader
}

// L1Reader reads the state of L1.
type L1Reader interface {
	Pin(ctx context.Context, req ethrpc.PinRequest) (*ethrpc.Pinned, error)
	Proven(at *ethrpc.Pinned, old *ethrpc.ProvenCalls) (*ethrpc.ProvenCalls, error)
}

// L1Raw proves what L1 says.
type L1Raw struct {
	Documents anchor.Documents
	Witness   *ethrpc.Witness
	Walks     []Walk // in the order of ReadL1
}

// Walk is the headers from a block that L1 confirms down to an audited one. It is empty if no provider had them.
type Walk struct {
	Headers [][]byte `json:"headers,omitempty"`
}

// The most that one audit asks for.
const (
	maxWalks = 16
	maxGames = 4 // whose challenge period may be over
)

// askL1 looks up the audited blocks on L1.
func (c *observer) askL1(ctx context.Context, prior audit.Prior, l *look) {
	if c.L1 == nil {
		return
	}
	blocks := prior.UnderL1(&l.Observation)
	if len(blocks) == 0 {
		return
	}
	ctx, cancel := quarter(ctx)
	defer cancel()
	l.Failures = append(l.Failures, c.guarded(func() error {
		if err := c.readL1(ctx, prior, l, blocks); err != nil {
			l.add(failed(audit.StageRPC, "l1", fmt.Errorf("reading what L1 says about audited blocks: %w", err)))
		}
		return nil
	})...)
}

func (c *observer) readL1(ctx context.Context, prior audit.Prior, l *look, blocks []audit.L1Block) error {
	remembered := prior.VerifiedFrom(c.Intent.Checkpoint)
	head, errs := c.L1.Anchor.Sync(ctx, remembered, l.At)
	l.addFailures(errs)
	switch {
	case head == nil:
		return errors.New("no finalized block of L1 is known")
	case remembered != (common.Hash{}) && head.Finalized.Slot < prior.Finalized.Slot:
		return fmt.Errorf("slot %d was finalized before, but the endpoints report slot %d as the latest", prior.Finalized.Slot, head.Finalized.Slot)
	}
	calls, err := ProvenL1(ctx, c.L1.Reader, head, c.l1Calls)
	if err != nil {
		return err
	}
	raw := &L1Raw{Documents: head.Documents}
	walk := func(high, low uint64, accept func([][]byte) error) ([][]byte, error) {
		headers, err := c.walk(ctx, l, high, low, accept)
		raw.Walks = append(raw.Walks, Walk{headers})
		return headers, err
	}
	look, lacks, err := ReadL1(ctx, calls, head, &c.Intent, blocks, walk)
	if err != nil {
		return err
	}
	for _, err := range lacks {
		l.add(failed(audit.StageRPC, "l1", err))
	}
	c.l1Calls, l.L1 = calls, look
	if c.opt.Record {
		raw.Witness, l.raw.L1 = calls.Witness(), raw
	}
	return nil
}

// ProvenL1 returns proven calls at the finalized block of L1. For old see ethrpc.Client.Proven.
func ProvenL1(ctx context.Context, reader L1Reader, head *anchor.Head, old *ethrpc.ProvenCalls) (*ethrpc.ProvenCalls, error) {
	at, err := reader.Pin(ctx, ethrpc.PinRequest{Tags: []ethrpc.BlockTag{ethrpc.AtHash(head.Finalized.BlockHash)}})
	if err != nil {
		return nil, err
	}
	return reader.Proven(at, old)
}

// walk fetches headers that accept takes. If every provider has others, it returns those of the last one.
func (c *observer) walk(ctx context.Context, l *look, high, low uint64, accept func([][]byte) error) (headers [][]byte, err error) {
	refused := 0
	_, err = c.Reader.Headers(ctx, l.Provider, high, low, func(of [][]byte) error {
		headers = of
		err := accept(of)
		if err != nil {
			refused++
		}
		return err
	})
	if several, ok := errors.AsType[*ethrpc.ReadError](err); ok && len(several.Failures) == refused {
		l.addFailures(several.Failures)
	} else if err != nil {
		return nil, err
	}
	return headers, nil
}

// ReadL1 looks up audited blocks on L1, with calls at head's finalized block. walk fetches the headers of the blocks from high down
// to low, and prefers headers that accept takes. lacks says why L1 does not confirm more blocks. The error is an error of the calls.
func ReadL1(ctx context.Context, calls l1.Caller, head *anchor.Head, intent *audit.Intent, blocks []audit.L1Block,
	walk func(high, low uint64, accept func([][]byte) error) ([][]byte, error)) (_ *audit.L1Look, lacks []error, err error) {
	from := uint64(math.MaxUint64)
	var games []common.Address
	for _, b := range blocks {
		if b.Trust == audit.TrustProviders {
			from = min(from, b.Number)
		}
		if b.Trust != audit.TrustL1Anchored && b.Game != (common.Address{}) && len(games) < maxGames && !slices.Contains(games, b.Game) {
			games = append(games, b.Game)
		}
	}
	holds, err := l1.Read(ctx, calls, l1.Chain{ID: intent.ChainID, SystemConfig: intent.L1.SystemConfig}, from, games...)
	if err != nil {
		return nil, nil, err
	}
	lacks = holds.Lacks
	_, finalized := AnchoredOf(head)
	out := &audit.L1Look{Finalized: *finalized, Number: head.Finalized.BlockNumber, Hash: head.Finalized.BlockHash}
	walks := 0
	for _, b := range slices.Backward(blocks) { // latest first
		if b.Trust == audit.TrustL1Anchored {
			continue // final
		}
		p, err := holds.Covering(b.Number)
		now := audit.Confirmation{Hash: b.Hash, Trust: audit.Trust(p.Trust.String()), Game: p.Game}
		switch fallen := holds.Fallen(b.Game); {
		case b.Confirmed() && fallen != nil && p.Trust != l1.Anchored: // the next audit looks for another game
			now.Trust, now.Game = audit.TrustProviders, b.Game
			lacks = append(lacks, fmt.Errorf("block %d is no longer confirmed by L1: %w", b.Number, fallen))
		case err != nil || b.Confirmed() && now.Trust == b.Trust || walks == maxWalks:
			continue
		case b.Confirmed() && now.Game == b.Game: // an earlier audit already followed the headers from this game
		default:
			walks++
			headers, err := walk(p.Block, b.Number, func(headers [][]byte) error {
				if outcome, _, err := p.Confirm(b.Number, b.Hash, headers); outcome != l1.Confirmed && outcome != l1.Contradicted {
					return err
				}
				return nil
			})
			if err != nil {
				lacks = append(lacks, fmt.Errorf("following the headers from block %d to block %d: %w", p.Block, b.Number, err))
				continue
			}
			outcome, made, err := p.Confirm(b.Number, b.Hash, headers)
			if outcome == l1.Unknown && slices.ContainsFunc(blocks, func(o audit.L1Block) bool { return o.Confirmed() && o.Number <= p.Block }) {
				outcome = l1.Unvouched
				err = fmt.Errorf("block %d is not the one whose output root L1 holds (%s: %s): headers lead to earlier blocks, but not to this one", p.Block, p.Trust, p.Root)
			}
			switch now.Time = made; outcome {
			case l1.NotCovered, l1.Unknown:
				lacks = append(lacks, err)
				continue
			case l1.Contradicted, l1.Unvouched:
				now = audit.Confirmation{Hash: b.Hash, Trust: audit.TrustProviders, Contradicted: err.Error()}
			}
		}
		out.Confirmations = append(out.Confirmations, now)
	}
	return out, lacks, nil
}
