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

// Anchor vouches for blocks beside the providers. Its errors carry no secret.
type Anchor interface {
	// Sync returns what is final by now, nil if nothing is known, and how sources failed. It goes on from remembered, a root
	// that an earlier process verified, or the zero hash.
	Sync(ctx context.Context, remembered common.Hash, now time.Time) (*anchor.Head, []ethrpc.ProviderError)
}

// anchoring is what the anchor says of the block that a look pinned.
type anchoring struct {
	synced chan struct{} // closed when head and failed are there
	head   *anchor.Head  // nil: nothing is known
	failed []ethrpc.ProviderError
	bug    []audit.Failure

	headers [][]byte // that relate the block to the head
	doubt   error    // why the anchor does not vouch for the block; nil: it does
}

// sync begins to ask the anchor, where there is one.
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

// quarter bounds ctx: endpoints that hang must leave time to read the chain, and to look again.
func quarter(ctx context.Context) (context.Context, context.CancelFunc) {
	end, limited := ctx.Deadline()
	if !limited {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, time.Until(end)/4, errors.New("it took a quarter of the time that was left to the audit"))
}

// pin pins a block that the anchor does not contradict. One provider after the other is asked.
func (c *observer) pin(ctx context.Context, l *look, prior audit.Prior, req ethrpc.PinRequest) (*ethrpc.Pinned, error) {
	var failed []ethrpc.ProviderError
	for {
		at, err := c.pinNewest(ctx, prior, req)
		if l.anchoring == nil {
			return at, err
		}
		<-l.anchoring.synced
		if head := l.anchoring.head; err != nil && ctx.Err() == nil && req.NotBefore > 0 && head != nil && head.Current && head.Finalized.BlockNumber >= req.NotBefore {
			behind := req // a provider whose finalized block is behind may have the one that the sync committee finalized
			behind.NotBefore = 0
			at, err = c.Reader.Pin(ctx, behind)
		}
		tried := err
		if err == nil {
			if at, tried = c.anchored(ctx, l, prior, at, req.Avoid); tried == nil && at.Block.Number < req.NotBefore {
				tried = fmt.Errorf("block %d is behind block %d, which was seen before", at.Block.Number, req.NotBefore)
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

// usualGap is how many blocks a provider's finalized block may be away from the committee's: each epoch of 32 is told of apart.
const usualGap = 64

// anchored relates a pinned block to what the anchor knows. With the policy finalized, what is final by the anchor is pinned in
// its place. The error says why the block is not to be read: the anchor contradicts it, or nobody vouches for it where somebody
// must. Whoever pinned at is asked before those to avoid, or that failed. at is never nil.
func (c *observer) anchored(ctx context.Context, l *look, prior audit.Prior, at *ethrpc.Pinned, avoid []string) (*ethrpc.Pinned, error) {
	a := l.anchoring
	a.headers, a.doubt = nil, errors.New("the anchor knows no block")
	finalized := at.Tag.String() == "finalized"
	if a.head != nil {
		final, exact, lacks := a.head.Finalized, false, false
		block, _ := AnchoredOf(a.head)
		if finalized && a.head.Current && !prior.WentBack(at.Tag.String(), &audit.Block{Number: block.Number, Time: block.Time, Trust: block.Trust}) {
			if exact = final.BlockHash == at.Block.Hash; !exact {
				its, err := c.Reader.Pin(ctx, ethrpc.PinRequest{Tags: []ethrpc.BlockTag{ethrpc.AtHash(final.BlockHash)}, Avoid: slices.Concat(avoid, failedOf(at))})
				if exact, lacks = err == nil, err != nil; exact {
					if its.Tag, its.Failed = at.Tag, at.Failed; its.Provider != at.Provider {
						err := fmt.Errorf("it calls block %d, %s, finalized, and lacks block %d, %s, which the sync committee finalized", at.Block.Number, at.Block.Hash, final.BlockNumber, final.BlockHash)
						its.Failed = append(slices.Clip(its.Failed), ethrpc.ProviderError{Provider: at.Provider, Err: err})
					}
					if own := at.Block.Number; own+usualGap < final.BlockNumber || own > final.BlockNumber+usualGap {
						a.failed = append(slices.Clip(a.failed), ethrpc.ProviderError{Provider: at.Provider, Err: fmt.Errorf("warning: it calls block %d finalized, and the sync committee finalized block %d", own, final.BlockNumber)})
					}
					at = its
				}
			}
		}
		a.relate(ctx, c, at)
		if contradiction, ok := errors.AsType[*anchor.Contradiction](a.doubt); ok {
			return at, contradiction
		}
		// A block that follows the finalized one is read only if the finalized one is older than what was audited before: a provider
		// that lacks it may have invented all since.
		if finalized && a.head.Current && !exact && a.doubt != nil && (lacks || !errors.Is(a.doubt, anchor.ErrNewer)) {
			return at, fmt.Errorf("it lacks block %d, %s, which the sync committee finalized: %w", final.BlockNumber, final.BlockHash, a.doubt)
		}
	}
	if a.doubt != nil && c.Intent.AnchorMust {
		return at, fmt.Errorf("anchor.required: nobody but the providers vouches for block %d: %w", at.Block.Number, a.doubt)
	}
	return at, nil
}

// relate finds out whether the anchor vouches for a pinned block.
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

// anchor notes who vouches for the block that the look read.
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
			l.add(failed(audit.StageRPC, "anchor", fmt.Errorf("nobody but the providers vouches for the block: %w", a.doubt)))
		}
	}
}

// AnchoredOf is what an anchor's head is to an Observation.
func AnchoredOf(h *anchor.Head) (*audit.Anchored, *audit.BeaconRoot) {
	final := h.Finalized
	return &audit.Anchored{Number: final.BlockNumber, Hash: final.BlockHash.Hex(), Time: time.Unix(int64(final.Timestamp), 0).UTC(), Trust: audit.TrustConsensus},
		&audit.BeaconRoot{Slot: final.Slot, Root: final.Root}
}
