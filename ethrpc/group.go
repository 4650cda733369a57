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

// group is calls that fail together. No call is in two groups.
type group struct {
	contract common.Address // that they are about; zero: of none alone
	calls    []*transport.Call
	optional bool // they can be done without
	beside   bool // that too, and they may make the others late, or their answer too large
}

// doGroups makes the calls of several groups in one go. Where that fails though the provider is there, each group's go by
// themselves: a contract that makes the node slow costs no other one its answers, and what is optional costs no contract
// what is not. The next time its calls are made by themselves at once, and have less time.
// Where the last group's are beside the others, those go once more without it first.
// There is an error for each group whose calls were not made. For one that is optional it is in its calls instead, unless
// nothing can be asked of the provider now.
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

// failed is what err, which is not of the provider as a whole, is for the group.
func (g *group) failed(err error) error {
	if !g.optional {
		return err
	}
	for _, c := range g.pending() {
		c.Err = err
	}
	return nil
}

// pending returns the calls that are not answered.
func (g *group) pending() []*transport.Call {
	return slices.DeleteFunc(slices.Clone(g.calls), (*transport.Call).Answered)
}

func (p *provider) isThere(ctx context.Context) bool {
	id := block.ChainID()
	id.Quick = true
	return p.Do(ctx, id) == nil && id.Err == nil
}

// doAlone makes the calls of each of some groups by themselves, side by side, and learns which contracts make the provider late.
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
	blame := slices.Contains(slices.Collect(maps.Values(slow)), false) // where all are late it is the provider
	for contract, isSlow := range slow {
		if !isSlow {
			p.pauses.Delete(contract)
		} else if blame && ctx.Err() == nil {
			p.pause(contract, errSlow)
		}
	}
}

// errSlow marks a contract that makes a provider's answers late, which are not late otherwise.
var errSlow = errors.New("it makes the provider's answers late")
