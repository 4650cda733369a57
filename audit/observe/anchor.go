package observe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor"
)

// Anchor vouches for blocks independently of the providers. Its errors contain no secret.
type Anchor interface {
	// Sync returns the newest finalized head, or nil if none is known, and the failures of its sources. It resumes from
	// remembered, a root that an earlier process verified, unless that is zero.
	Sync(ctx context.Context, remembered common.Hash, now time.Time) (*anchor.Head, []ethrpc.ProviderError)
}

// anchoring is what the anchor says about the block that a look pinned.
type anchoring struct {
	synced chan struct{} // closed when head, failed and bug are set
	head   *anchor.Head  // nil if none is known
	failed []ethrpc.ProviderError
	bug    []audit.Failure

	headers [][]byte // that link the block to the head
	doubt   error    // why the anchor does not vouch for the block; nil if it does
}

// sync starts asking the anchor, if there is one.
func (c *observer) sync(ctx context.Context, prior audit.Prior, l *look) {
	if c.Anchor == nil {
		return
	}
	a := &anchoring{synced: make(chan struct{})}
	l.anchoring = a
	ctx, cancel := quarter(ctx)
	go func() {
		defer cancel()
		defer close(a.synced)
		a.bug = c.guarded(func() error {
			a.head, a.failed = c.Anchor.Sync(ctx, prior.VerifiedFrom(c.Intent.Checkpoint), l.At)
			return nil
		})
	}()
}

// quarter limits ctx to a quarter of its time, so that endpoints that hang leave time to read the chain and to look again.
func quarter(ctx context.Context) (context.Context, context.CancelFunc) {
	end, limited := ctx.Deadline()
	if !limited {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, time.Until(end)/4, errors.New("it took more than a quarter of the audit's remaining time"))
}

// pin pins a block that the anchor does not contradict. It asks one provider after the other.
func (c *observer) pin(ctx context.Context, l *look, prior audit.Prior, req ethrpc.PinRequest) (*ethrpc.Pinned, error) {
	var failed []ethrpc.ProviderError
	for {
		at, err := c.pinNewest(ctx, prior, req)
		if l.anchoring == nil {
			return at, err
		}
		<-l.anchoring.synced
		if head := l.anchoring.head; err != nil && ctx.Err() == nil && req.NotBefore > 0 && head != nil && head.Current && head.Finalized.BlockNumber >= req.NotBefore {
			behind := req // a provider that lags may still have the block that the sync committee finalized
			behind.NotBefore = 0
			at, err = c.Reader.Pin(ctx, behind)
		}
		tried := err
		if err == nil {
			if at, tried = c.anchored(ctx, l, prior, at, req.Avoid); tried == nil && at.Block.Number < req.NotBefore {
				tried = fmt.Errorf("block %d is older than block %d, which was seen before", at.Block.Number, req.NotBefore)
			}
			if tried == nil {
				at.Failed = slices.Concat(failed, at.Failed)
				return at, nil
			}
			tried = ethrpc.ProviderError{Provider: at.Provider, Err: tried}
		}
		if several, ok := errors.AsType[*ethrpc.ReadError](tried); ok {
			failed = append(failed, several.Failures...)
		} else if one, ok := tried.(ethrpc.ProviderError); ok {
			failed = append(failed, one)
		}
		if err != nil || ctx.Err() != nil || slices.Contains(req.Avoid, at.Provider) {
			return nil, &ethrpc.ReadError{Failures: failed}
		}
		req.Avoid, req.Events = append(slices.Clip(req.Avoid), at.Provider), nil
	}
}

// usualGap is how many blocks a provider's finalized block may be away from the committee's: two epochs.
const usualGap = 64

// anchored checks a pinned block with the anchor. With the policy finalized, it pins the anchor's finalized block instead. The error
// says why the block must not be read: the anchor contradicts it, or must vouch for it and does not. The provider that pinned at is
// asked before those to avoid and those that failed. The returned block is never nil.
func (c *observer) anchored(ctx context.Context, l *look, prior audit.Prior, at *ethrpc.Pinned, avoid []string) (*ethrpc.Pinned, error) {
	a := l.anchoring
	a.headers, a.doubt = nil, errors.New("the anchor has no finalized block")
	finalized := at.Tag.String() == "finalized"
	if a.head != nil {
		final, exact, lacks := a.head.Finalized, false, false
		block, _ := AnchoredOf(a.head)
		if finalized && a.head.Current && !prior.WentBack(at.Tag.String(), &audit.Block{Number: block.Number, Time: block.Time, Trust: block.Trust}) {
			if exact = final.BlockHash == at.Block.Hash; !exact {
				its, err := c.Reader.Pin(ctx, ethrpc.PinRequest{Tags: []ethrpc.BlockTag{ethrpc.AtHash(final.BlockHash)}, Avoid: slices.Concat(avoid, failedOf(at))})
				if exact, lacks = err == nil, err != nil; exact {
					if its.Tag, its.Failed = at.Tag, at.Failed; its.Provider != at.Provider {
						err := fmt.Errorf("it reports block %d, %s, as finalized, but does not have block %d, %s, which the sync committee finalized", at.Block.Number, at.Block.Hash, final.BlockNumber, final.BlockHash)
						its.Failed = append(slices.Clip(its.Failed), ethrpc.ProviderError{Provider: at.Provider, Err: err})
					}
					if own := at.Block.Number; own+usualGap < final.BlockNumber || own > final.BlockNumber+usualGap {
						a.failed = append(slices.Clip(a.failed), ethrpc.ProviderError{Provider: at.Provider, Err: fmt.Errorf("warning: it reports block %d as finalized, but the sync committee finalized block %d", own, final.BlockNumber)})
					}
					at = its
				}
			}
		}
		a.relate(ctx, c, at)
		if contradiction, ok := errors.AsType[*anchor.Contradiction](a.doubt); ok {
			return at, contradiction
		}
		// Read a block after the finalized one only if the finalized one is older than an audited block. A provider that does not have
		// the finalized block may have invented every block since.
		if finalized && a.head.Current && !exact && a.doubt != nil && (lacks || !errors.Is(a.doubt, anchor.ErrNewer)) {
			return at, fmt.Errorf("it does not have block %d, %s, which the sync committee finalized: %w", final.BlockNumber, final.BlockHash, a.doubt)
		}
	}
	if a.doubt != nil && c.Intent.AnchorMust {
		return at, fmt.Errorf("anchor.required: the anchor does not vouch for block %d: %w", at.Block.Number, a.doubt)
	}
	return at, nil
}

// relate sets whether the anchor vouches for a pinned block.
func (a *anchoring) relate(ctx context.Context, c *observer, at *ethrpc.Pinned) {
	walk, err := a.head.WalkTo(at.Block.Number, at.Block.Hash)
	if err == nil && walk.Top > walk.To {
		a.headers, err = c.Reader.Headers(ctx, at.Provider, walk.Top, walk.To+1, nil)
	}
	if err == nil {
		err = a.head.Vouches(at.Block.Number, at.Block.Hash, a.headers)
	}
	a.doubt = err
}

// anchor records who vouches for the block that the look read.
func (c *observer) anchor(l *look) {
	a := l.anchoring
	if a == nil {
		if c.L1 != nil && l.Block != nil {
			l.Block.Trust = audit.TrustProviders // until L1 confirms it
		}
		return
	}
	<-a.synced
	l.addFailures(a.failed)
	l.Failures = append(l.Failures, a.bug...)
	if a.head != nil {
		l.Anchored, l.Finalized = AnchoredOf(a.head)
		if c.opt.Record {
			l.raw.Anchor = &Anchoring{a.head.Documents, a.headers}
		}
	}
	if l.Block != nil {
		if l.Block.Trust = audit.TrustConsensus; a.doubt != nil {
			l.Block.Trust = audit.TrustProviders
			l.add(failed(audit.StageRPC, "anchor", fmt.Errorf("the anchor does not vouch for the block: %w", a.doubt)))
		}
	}
}

// AnchoredOf converts an anchor's head for an Observation.
func AnchoredOf(h *anchor.Head) (*audit.Anchored, *audit.BeaconRoot) {
	final := h.Finalized
	return &audit.Anchored{Number: final.BlockNumber, Hash: final.BlockHash.Hex(), Time: time.Unix(int64(final.Timestamp), 0).UTC(), Trust: audit.TrustConsensus},
		&audit.BeaconRoot{Slot: final.Slot, Root: final.Root}
}
