package ethrpc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"golang.org/x/sync/errgroup"

	"github.com/kms-auditor/kms-auditor/ethrpc/block"
	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

// group is the calls about one contract. No call is in two groups.
type group struct {
	contract common.Address
	calls    []*transport.Call
	optional []*transport.Call // that can be done without
}

// doGroups makes the calls about several contracts in one go. Where that fails though the provider is there, each
// contract's go by themselves, and where that fails too, without the optional ones: a contract that makes the node slow
// costs no other one its answers. The next time it is asked for by itself at once, and has less time.
// There is an error for each group whose calls were not made.
func (p *provider) doGroups(ctx context.Context, groups []group) []error {
	errs := make([]error, len(groups))
	var together, alone []int
	for i, g := range groups {
		switch {
		case len(g.calls)+len(g.optional) == 0:
		case p.isSlow(g.contract):
			alone = append(alone, i)
		default:
			together = append(together, i)
		}
	}
	err := p.Do(ctx, pending(groups, together)...)
	switch {
	case err == nil:
	case ctx.Err() != nil || transport.IsTransient(err) || len(together) > 1 && !p.isThere(ctx):
		for _, i := range together {
			errs[i] = err
		}
	case len(together) == 1:
		errs[together[0]] = p.doWithout(ctx, groups, together[0], err)
	default:
		alone = append(alone, together...)
	}
	p.doAlone(ctx, groups, alone, errs)
	return errs
}

func (p *provider) isThere(ctx context.Context) bool {
	id := block.ChainID()
	return p.Do(ctx, id) == nil && id.Err == nil
}

// doAlone makes the calls of each of some groups by themselves, side by side.
func (p *provider) doAlone(ctx context.Context, groups []group, which []int, errs []error) {
	var g errgroup.Group
	g.SetLimit(parallel)
	late := make([]bool, len(groups))
	for _, i := range which {
		g.Go(func() error {
			calls := pending(groups, []int{i})
			for _, c := range calls {
				c.Quick = true
			}
			err := p.Do(ctx, calls...)
			late[i] = errors.Is(err, context.DeadlineExceeded)
			if err != nil && ctx.Err() == nil && !transport.IsTransient(err) {
				err = p.doWithout(ctx, groups, i, err)
			}
			errs[i] = err
			return nil
		})
	}
	_ = g.Wait()
	// Where all are late it is the provider.
	blame := slices.ContainsFunc(which, func(i int) bool { return !late[i] })
	for _, i := range which {
		if !late[i] {
			p.slow.Delete(groups[i].contract)
		} else if blame && ctx.Err() == nil {
			p.slow.Store(groups[i].contract, time.Now().Add(refusalPause))
		}
	}
}

// doWithout makes the calls of a group without the optional ones, which failed with err.
func (p *provider) doWithout(ctx context.Context, groups []group, i int, err error) error {
	runsCode := func(c *transport.Call) bool { return c.Method == "eth_call" || c.Method == "eth_createAccessList" }
	g := groups[i]
	if len(g.optional) == 0 || errors.Is(err, context.DeadlineExceeded) && !slices.ContainsFunc(g.optional, runsCode) {
		return err
	}
	for _, c := range g.optional {
		if !c.Answered() {
			c.Err = err
		}
	}
	return p.Do(ctx, pending(groups, []int{i})...)
}

// pending returns the calls of some groups that are not answered, the optional ones last.
func pending(groups []group, which []int) (out []*transport.Call) {
	var optional []*transport.Call
	for _, i := range which {
		out, optional = append(out, groups[i].calls...), append(optional, groups[i].optional...)
	}
	return slices.DeleteFunc(append(out, optional...), (*transport.Call).Answered)
}

// isSlow reports whether a contract made the provider's answers late lately, though it is not slow otherwise.
func (p *provider) isSlow(contract common.Address) bool {
	until, known := p.slow.Load(contract)
	return known && time.Now().Before(until.(time.Time))
}

// atBlock says where a request failed.
func atBlock(doing string, at *Pinned, err error) error {
	return fmt.Errorf("%s at block %d: %w", doing, at.Block.Number, err)
}
