package ethrpc

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"golang.org/x/sync/errgroup"

	"github.com/kms-auditor/kms-auditor/ethrpc/block"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

// group is a set of calls that fail together. No call is in two groups.
type group struct {
	contract common.Address // that the calls are about; zero for no single contract
	calls    []*transport.Call
	optional bool // the caller can do without the answers
	beside   bool // optional, and possibly so slow or large that the other calls fail
}

// doGroups makes the calls of several groups together. If that fails although the provider is reachable, it makes each group's
// calls separately, so that a slow contract or an optional call cannot cost another contract its answers. A slow contract's
// calls are made separately from then on, with a shorter timeout. If the last group is beside, it is dropped first and the
// others are tried together once more.
// It returns an error for each group whose calls were not made. For an optional group the error is in its calls instead,
// unless the provider is unreachable.
func (p *provider) doGroups(ctx context.Context, groups []group) []error {
	errs := make([]error, len(groups))
	var together, alone []int
	var calls []*transport.Call
	for i, g := range groups {
		switch {
		case len(g.calls) == 0:
		case p.cannot(g.contract) != nil:
			alone = append(alone, i)
		default:
			together, calls = append(together, i), append(calls, g.calls...)
		}
	}
	err := p.Do(ctx, calls...)
	if last := len(groups) - 1; err != nil && ctx.Err() == nil && last >= 0 && groups[last].beside && len(groups[last].calls) > 0 {
		_ = groups[last].failed(err) // it is optional
		return append(p.doGroups(ctx, groups[:last]), nil)
	}
	switch {
	case err == nil:
	case ctx.Err() != nil || transport.IsTransient(err) || len(together) > 1 && !p.isThere(ctx):
		for _, i := range together {
			errs[i] = err
		}
	case len(together) == 1:
		errs[together[0]] = groups[together[0]].failed(err)
	default:
		alone = append(alone, together...)
	}
	p.doAlone(ctx, groups, alone, errs)
	return errs
}

// failed returns err, which is not about the provider as a whole; for an optional group it puts err into the calls.
func (g *group) failed(err error) error {
	if !g.optional {
		return err
	}
	for _, c := range g.pending() {
		c.Err = err
	}
	return nil
}

// pending returns the unanswered calls.
func (g *group) pending() []*transport.Call {
	return slices.DeleteFunc(slices.Clone(g.calls), (*transport.Call).Answered)
}

// isThere reports whether the provider answers at all.
func (p *provider) isThere(ctx context.Context) bool {
	id := block.ChainID()
	id.Quick = true
	return p.Do(ctx, id) == nil && id.Err == nil
}

// doAlone makes the calls of some groups separately and concurrently. It pauses the contracts that make the provider slow.
func (p *provider) doAlone(ctx context.Context, groups []group, which []int, errs []error) {
	late := make([]bool, len(groups))
	var workers errgroup.Group
	workers.SetLimit(parallel)
	for _, i := range which {
		g := &groups[i]
		workers.Go(func() error {
			calls := g.pending()
			for _, c := range calls {
				c.Quick = g.contract != common.Address{}
			}
			err := p.Do(ctx, calls...)
			late[i] = errors.Is(err, context.DeadlineExceeded)
			if err != nil && ctx.Err() == nil && !transport.IsTransient(err) {
				err = g.failed(err)
			}
			errs[i] = err
			return nil
		})
	}
	_ = workers.Wait()
	slow := map[common.Address]bool{}
	for _, i := range which {
		if contract := groups[i].contract; contract != (common.Address{}) {
			slow[contract] = slow[contract] || late[i]
		}
	}
	blame := slices.Contains(slices.Collect(maps.Values(slow)), false) // if all are slow, the provider is to blame
	for contract, isSlow := range slow {
		if !isSlow {
			p.pauses.Delete(contract)
		} else if blame && ctx.Err() == nil {
			p.pause(contract, errSlow)
		}
	}
}

// errSlow marks a contract about which a provider answers too late, although it answers in time about others.
var errSlow = errors.New("the provider answers too late about this contract")
