//go:build ignore

package ethrpc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// compareWith has the node asked what the job asks.
func (r *proving) compareWith(j *job) {
	if r.p != nil && len(j.data) == inputLen && !j.compared {
		j.compared = true
		r.compare, r.waiting = append(r.compare, j), append(r.waiting, j)
	}
}

// bundles makes bundles of the jobs that wait.
func (r *proving) bundles() (out []*bundle) {
	if r.p.cannotBundle() != nil {
		return nil
	}
	slices.SortStableFunc(r.waiting, func(a, b *job) int { return a.contract.Cmp(b.contract) })
	for len(r.waiting) > 0 {
		n := 1
		for n < min(len(r.waiting), bundleLen) && r.waiting[n].contract == r.waiting[0].contract {
			n++
		}
		out = append(out, newBundle(r.at, r.waiting[:n]))
		r.waiting = r.waiting[n:]
	}
	return out
}

// say asks all that waits in bundles. One that the provider does not take is no fault.
func (r *proving) say(ctx context.Context) error {
	bundles := r.bundles()
	var g errgroup.Group
	g.SetLimit(parallel)
	for rest := bundles; len(rest) > 0; {
		some := rest[:len(together(callsOf(rest), len(rest)))]
		rest = rest[len(some):]
		g.Go(func() error {
			err := r.p.retry(ctx, callsOf(some))
			if err == nil {
				return nil
			}
			if _, again := passing(err); again || ctx.Err() != nil {
				return r.calling(err)
			}
			for _, b := range some {
				b.err = err
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return r.hear(bundles)
}

// hear takes what the bundles were answered. What cannot be had in bundles is asked one by one, in the end.
func (r *proving) hear(bundles []*bundle) error {
	for _, b := range bundles {
		out, err := b.answers()
		if gone := fault(r.at, b.err); errors.Is(gone, errUnknownBlock) || errors.Is(gone, ErrNoState) {
			return gone
		}
		if err != nil {
			r.p.noBundle.Store(&refusal{err, time.Now().Add(proofPause)})
			r.waiting = append(r.waiting, b.jobs...)
			continue
		}
		for i, j := range b.jobs {
			j.said = &out[i]
		}
	}
	return nil
}

// hold holds what the node says against what is proven. Where a bundle says something else, or nothing, the node is asked
// once more in a call of its own: a contract may answer another contract otherwise.
func (r *proving) hold(ctx context.Context) error {
	if err := r.say(ctx); err != nil {
		return err
	}
	var single []*call
	var asks []Ask
	for _, j := range r.compare {
		if j.ask == nil {
			continue
		}
		proven, ok := r.done[*j.ask]
		if ok && !errors.Is(proven.Err, proof.ErrWrites) && (j.said == nil || proven.Err != nil || *j.said != said(proven.Allowed)) {
			single, asks = append(single, ethCall(r.at, *j.ask)), append(asks, *j.ask)
		}
	}
	if err := r.p.do(ctx, single); err != nil {
		return r.calling(err)
	}
	for i, c := range single {
		if err := fault(r.at, c.err); err != nil {
			return err
		}
		answer, proven := c.answer(), r.done[asks[i]]
		if (answer.Err != nil) != (proven.Err != nil) || answer.Allowed != proven.Allowed {
			return &GetterError{asks[i], answer, proven}
		}
	}
	return nil
}

// said is what a bundle says of an answer.
func said(allowed bool) byte {
	if allowed {
		return bundleYes
	}
	return bundleNo
}

func (r *proving) calling(err error) error {
	return fmt.Errorf("calling getters at block %d: %w", r.at.block.Number, err)
}
