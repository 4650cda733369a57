package ethrpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

// What a contract may take of a round while others wait. The lists of an ordinary one have some dozens of entries, and its
// code runs for some milliseconds. Gas does not bound time: precompiles take much more of it than other code.
const (
	maxSharedSlots = 2048
	maxSharedTime  = 5 * time.Second // of all contracts together, in equal parts
	maxStepTime    = 500 * time.Millisecond
	minStepTime    = 20 * time.Millisecond
)

// prover proves contracts with one provider.
type prover struct {
	p        *provider
	at       *Pinned
	verified *proof.VerifiedState
	hinted   int
}

// prove has every contract's code run over proven state, which it fetches. Each ends on its own: in fault where its code
// is to blame, in err where the provider is. Those that keep others waiting are put off until the others are done; late is
// for them.
func (r *prover) prove(ctx, late context.Context, all []*proving) {
	later := r.proveTogether(ctx, all, len(all) > 1)
	for i, c := range later {
		alone, cancel := late, context.CancelFunc(func() {})
		if end, ok := late.Deadline(); ok {
			alone, cancel = context.WithTimeoutCause(late, time.Until(end)/time.Duration(len(later)-i), errRunTime)
		}
		if r.proveTogether(alone, []*proving{c}, false); c.err != nil && alone.Err() != nil && ctx.Err() == nil {
			c.end(errRunTime)
		}
		cancel()
	}
}

// proveTogether returns the contracts that it put off.
func (r *prover) proveTogether(ctx context.Context, all []*proving, putOff bool) (later []*proving) {
	limit := time.Duration(0)
	if putOff {
		limit = min(max(maxSharedTime/time.Duration(len(all)), minStepTime), maxStepTime)
	}
	var live, done []*proving
	for _, c := range all {
		if putOff && r.p.isSlow(c.query.Contract) {
			later = append(later, c)
			continue
		}
		c.compareNew()
		live = append(live, c)
	}
	for first := true; len(live) > 0; first = false {
		var wanting []*proving
		for _, c := range live {
			switch {
			case first && c.guessable() && len(c.waiting) > 0 && r.p.cannotMulticall() == nil:
				wanting = append(wanting, c) // what the node answers may be all that is missing
			case c.err != nil:
			case !c.step(ctx, limit):
				done = append(done, c)
			case putOff && (c.slow || len(c.missing.Slots) > maxSharedSlots || r.p.isSlow(c.query.Contract)):
				later = append(later, c)
			default:
				wanting = append(wanting, c)
			}
		}
		r.fetch(ctx, wanting)
		live = wanting
	}
	r.checkNode(ctx, done)
	return later
}

// fetch asks for what the contracts miss and verifies it. The node is asked along with it what is to be compared.
func (r *prover) fetch(ctx context.Context, all []*proving) {
	n := len(all)
	groups := make([]group, n+1) // the last one is of what several contracts ask for
	requests, multicalls, shares := make([][]request, n), r.multicalls(all), make([]bool, n)
	shared, uses := map[string]request{}, map[*transport.Call]int{}
	for i, c := range all {
		requests[i] = r.requests(c, shared)
		for _, q := range requests[i] {
			uses[q.call]++
		}
	}
	for i, c := range all {
		groups[i].contract = c.query.Contract
		for _, q := range requests[i] {
			if uses[q.call] == 1 {
				groups[i].calls = append(groups[i].calls, q.call)
				continue
			}
			if shares[i] = true; !slices.Contains(groups[n].calls, q.call) {
				groups[n].calls = append(groups[n].calls, q.call)
			}
		}
		groups[i].optional = r.hintsFor(c)
		for _, m := range multicalls[i] {
			groups[i].optional = append(groups[i].optional, m.Call)
		}
	}
	errs := r.p.doGroups(ctx, groups)
	for i := range all {
		if shares[i] {
			errs[i] = cmp.Or(errs[i], errs[n])
		}
	}
	r.failed("proving", all, errs)
	r.collect(all, multicalls)
	for i, c := range all {
		c.takeHints(groups[i].optional)
		for _, q := range requests[i] {
			if c.err == nil {
				c.err = q.verify(r.at, r.verified)
			}
		}
	}
}

// failed notes the contracts whose calls were not made.
func (r *prover) failed(doing string, all []*proving, errs []error) {
	for i, c := range all {
		if c.err == nil && errs[i] != nil {
			c.err = atBlock(doing, r.at, errs[i])
		}
	}
}

// requests asks for what a contract misses. Those for an account alone, and for code, are shared.
func (r *prover) requests(c *proving, shared map[string]request) (out []request) {
	once := func(what string, addr common.Address, make func() request) {
		key := what + string(addr[:])
		if _, known := shared[key]; !known {
			shared[key] = make()
		}
		out = append(out, shared[key])
	}
	ref := r.at.ref()
	slots, seen := map[common.Address][]common.Hash{}, map[proof.Slot]bool{}
	for _, s := range c.missing.Slots {
		if !seen[s] {
			seen[s] = true
			slots[s.Account] = append(slots[s.Account], s.Key)
		}
	}
	for _, a := range unique(c.missing.Accounts) {
		if len(slots[a]) == 0 {
			once("account", a, func() request { return requestProof(a, nil, ref) })
		}
	}
	for _, a := range slices.SortedFunc(maps.Keys(slots), common.Address.Cmp) {
		for keys := range slices.Chunk(slots[a], keysAtOnce) {
			out = append(out, requestProof(a, keys, ref))
		}
	}
	for _, a := range unique(slices.Concat(c.missing.Accounts, c.missing.Codes)) {
		once("code", a, func() request { return requestCode(a, ref) })
	}
	if len(out) > 0 {
		c.rounds++
	}
	return out
}

func unique(in []common.Address) []common.Address {
	return slices.Compact(slices.SortedFunc(slices.Values(in), common.Address.Cmp))
}

// providerError tells the provider's fault from the contract's answer: nil for no error, and for a revert.
func providerError(at *Pinned, err error) error {
	switch {
	case err == nil || transport.IsRevert(err):
		return nil
	case transport.IsUnknownBlock(err):
		return fmt.Errorf("%w: %w", errUnknownBlock, err)
	case transport.IsPruned(err):
		return pruned(at, err)
	default:
		return atBlock("reading", at, err)
	}
}

var errUnknownBlock = errors.New("block unknown")

func pruned(at *Pinned, err error) error {
	return fmt.Errorf("%w at block %d: use a provider that keeps older state, or a younger block policy such as `block: latest-5`: %w",
		ErrNoState, at.Block.Number, err)
}

// isGone reports whether an error is of the block, whatever is asked of it.
func isGone(err error) bool { return errors.Is(err, errUnknownBlock) || errors.Is(err, ErrNoState) }
